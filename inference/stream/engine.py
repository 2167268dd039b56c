r"""Streams: memories created as the data need them, in one pass and in bounded memory.

:func:`absorb` passes data to the kernel of :mod:`probam.inference.stream.kernel` in blocks of one size, so that one
compiled program serves streams of any length. Where all slots are taken the program stops, the slots are doubled, and
it goes on with the same datum: it is compiled again once per doubling, never per datum. Neither the blocks nor where a
caller cuts the data leave a trace in the result, not even in the last bit.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from probam.errors import InputError, NumericalError
from probam.inference.common.progress import Reporter, silent
from probam.inference.stream.kernel import GROUP, Kernel, StepInfo, begin, check_kernel, grow, logits, seated_step, step
from probam.inference.stream.state import StreamState
from probam.inference.stream.tidy import Tidy, tidy

__all__ = ["Absorbed", "Learner", "Recalled", "absorb", "recall", "recall_blocks", "seat", "shares", "start", "take_in"]

BLOCK = 4096
"""Rows that one call of the compiled program takes."""

_NEARER = 20
"""Powers of two by which a query is moved in until its densities are not all zero."""

_QUERIES = 256
"""Queries that are scored at once."""


class Absorbed(NamedTuple):
    """The memory and the probabilities of each datum, on the host."""

    ident: Int[np.ndarray, " N"]  # number of the memory that it joined, in order of creation
    is_new: Bool[np.ndarray, " N"]
    log_predictive: Float[np.ndarray, " N"]  # log p(x_n | x_<n, their labels), nats
    size: Int[np.ndarray, " N"]  # memories alive after it
    tidied: list[tuple[int, int, int]]  # (data seen, memory that went, memory that it was merged into or -1)

    def followed_by(self, other: "Absorbed") -> "Absorbed":
        """These data and those that came after them."""
        return Absorbed(
            np.concatenate([self.ident, other.ident]),
            np.concatenate([self.is_new, other.is_new]),
            np.concatenate([self.log_predictive, other.log_predictive]),
            np.concatenate([self.size, other.size]),
            self.tidied + other.tidied,
        )


class Recalled(NamedTuple):
    """Recall of queries, without learning."""

    ident: Int[np.ndarray, " N"]  # memory of highest probability
    probability: Float[np.ndarray, " N"]  # of that memory
    probability_new: Float[np.ndarray, " N"]  # that the query is of none of them
    log_predictive: Float[np.ndarray, " N"]  # nats


def start(kernel: Kernel, num_features: int, dtype: Any, key: jax.Array, *, capacity: int = 8 * GROUP) -> StreamState:
    """A state without memories, after the kernel was checked."""
    check_kernel(kernel)
    if not 1 <= capacity <= 2**20:
        raise InputError(f"capacity: expected a number of slots from 1 to 2^20; got {capacity}")
    empty: StreamState = _begin(kernel, jnp.asarray(np.zeros(num_features, dtype)), key, capacity=capacity)
    return empty


@runtime_checkable
class Learner(Protocol):
    """What :func:`take_in` asks of a state: how full it is, and how far."""

    @property
    def size(self) -> jax.Array:
        """Most memories that have to find room."""

    @property
    def num_slots(self) -> int:
        """Room for memories."""

    @property
    def num_seen(self) -> jax.Array:
        """Data so far."""


State = TypeVar("State", bound=Learner)


@partial(jax.jit, static_argnames="advance")
def _run_block(
    advance: Callable[[Any, State, jax.Array], tuple[State, Any]],
    kernel: Any,
    state: State,
    x: Float[Array, "B D"],
    limit: jax.Array,
) -> tuple[State, Any, jax.Array]:
    """The first ``limit`` rows of a block, or as many as there was an empty slot for; what happened; how many."""

    def goes_on(carry: tuple[State, Any, jax.Array]) -> jax.Array:
        state, _, done = carry
        return (done < limit) & (state.size < state.num_slots)

    def visit(carry: tuple[State, Any, jax.Array]) -> tuple[State, Any, jax.Array]:
        state, history, done = carry
        state, info = advance(kernel, state, x[done])
        return state, jax.tree.map(lambda rows, row: rows.at[done].set(row), history, info), done + 1

    info = jax.eval_shape(partial(advance, kernel), state, x[0])[1]
    history = jax.tree.map(lambda leaf: jnp.zeros((len(x), *leaf.shape), leaf.dtype), info)
    return jax.lax.while_loop(goes_on, visit, (state, history, jnp.zeros((), jnp.int32)))


_begin = jax.jit(begin, static_argnames="capacity")
_grow = jax.jit(grow)


def take_in(
    advance: Callable[[Any, State, jax.Array], tuple[State, StepInfo]],
    kernel: Any,
    state: State,
    x: Float[np.ndarray, "N D"],
    *,
    enlarge: Callable[[State], State],
    every: int = 0,
    pause: Callable[[State, int], State] | None = None,
    progress: Reporter = silent,
) -> tuple[State, StepInfo]:
    """The state after the data, one after the other, and what became of each (on the host).

    ``advance(kernel, state, x)`` is one datum's step, ``enlarge`` makes room where all slots are taken, and ``pause``
    is called with the state and the number of data seen whenever that is a multiple of ``every``. Where ``progress`` is
    stopped, the data after the present block are left.

    Raises :class:`probam.errors.NumericalError` when a predictive density stops being finite.
    """
    num_data, done, seen = len(x), 0, int(state.num_seen)
    parts = []
    block = np.zeros((BLOCK, x.shape[1]), x.dtype)
    while done < num_data and not progress.stopped:
        rows = min(BLOCK, num_data - done)
        if pause is not None:
            rows = min(rows, every - seen % every)
        block[:rows] = x[done : done + rows]
        state, history, used = _run_block(advance, kernel, state, jnp.asarray(block), jnp.asarray(rows, jnp.int32))
        count = int(used)
        part = jax.tree.map(lambda leaf, count=count: np.asarray(leaf)[:count], history)
        if not np.isfinite(part.log_predictive).all():
            bad = seen + int(np.flatnonzero(~np.isfinite(part.log_predictive))[0])
            raise NumericalError(
                f"stream: the predictive density of datum {bad} is not finite; standardise the data or use float64"
            )
        parts.append(part)
        done, seen = done + count, seen + count
        if pause is not None and count == rows and seen % every == 0:
            state = pause(state, seen)
        elif count < rows:
            state = enlarge(state)
        progress(done, num_data, "stream", memories=int(state.size))
    if not parts:
        nothing = np.zeros(0, np.int32)
        return state, StepInfo(nothing, nothing.astype(bool), nothing.astype(x.dtype), nothing)  # type: ignore[arg-type]
    return state, jax.tree.map(lambda *chunks: np.concatenate(chunks), *parts)


def absorb(
    kernel: Kernel,
    state: StreamState,
    x: Float[np.ndarray, "N D"],
    *,
    tidying: Tidy | None = None,
    progress: Reporter = silent,
) -> tuple[StreamState, Absorbed]:
    """The state after the data, one after the other, and what became of each.

    ``tidying`` prunes and merges memories whenever the number of data seen is a multiple of its interval.

    Raises :class:`probam.errors.NumericalError` when a predictive density stops being finite.
    """
    tidied: list[tuple[int, int, int]] = []

    def pause(state: StreamState, seen: int) -> StreamState:
        assert tidying is not None
        state, gone = tidy(kernel, state, tidying)
        tidied.extend((seen, *pair) for pair in gone)
        return state

    state, info = take_in(
        step, kernel, state, x, enlarge=partial(_grow, kernel), every=0 if tidying is None else tidying.every,
        pause=None if tidying is None else pause, progress=progress,
    )  # fmt: skip
    return state, Absorbed(*info, tidied)  # type: ignore[arg-type]


def seat(
    kernel: Kernel,
    state: StreamState,
    x: Float[np.ndarray, "N D"],
    numbers: Int[np.ndarray, " N"],
    *,
    progress: Reporter = silent,
) -> tuple[StreamState, Absorbed]:
    """The state after data whose memories are given, and what became of each datum.

    Args:
        kernel: a kernel that drops no memory.
        state: memories so far.
        x: rows.
        numbers: the number of each row's memory. A new one is the number of memories ever created before it.
        progress: told of the rows that are done; where it is stopped the others are left.

    Raises:
        NumericalError: when a predictive density stops being finite.
    """
    rows = np.column_stack([x, numbers]).astype(x.dtype)
    state, info = take_in(seated_step, kernel, state, rows, enlarge=partial(_grow, kernel), progress=progress)
    return state, Absorbed(*info, [])  # type: ignore[arg-type]


@jax.jit
def _recall_block(kernel: Kernel, state: StreamState, x: Float[Array, "B D"]) -> tuple[jax.Array, ...]:
    def one(x: jax.Array) -> tuple[jax.Array, ...]:
        scores, fresh = logits(kernel, state, x)
        total = jax.scipy.special.logsumexp(scores)
        old = jnp.where(state.live, scores, -jnp.inf)
        slot = jnp.argmax(old)
        new = jnp.where(state.live[fresh], 0, jnp.exp(scores[fresh] - total))
        return state.ident[slot], jnp.exp(old[slot] - total), new, total + kernel.pair.log_base(x[None])[0]

    return jax.vmap(one)(x)


def recall(kernel: Kernel, state: StreamState, x: Float[np.ndarray, "N D"]) -> Recalled:
    """Memory, its probability, that of a new one, and the log predictive density of each query."""
    if int(state.size) == state.num_slots:
        state = _grow(kernel, state)
    return recall_blocks(partial(_recall_block, kernel, state), x)


@jax.jit
def _share_block(kernel: Kernel, state: StreamState, x: Float[Array, "B D"]) -> tuple[jax.Array]:
    def one(x: jax.Array) -> jax.Array:
        scores, _ = logits(kernel, state, x)
        old = jnp.where(state.live, scores, -jnp.inf)
        return jnp.exp(old - jax.scipy.special.logsumexp(old))

    return (jax.vmap(one)(x),)


def shares(kernel: Kernel, state: StreamState, x: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "N K"]:
    """Probability of each slot's memory for each query, if the query is of one of the memories; rows sum to one."""
    (probability,) = _defined(partial(_share_block, kernel, state), x, judged=0, replaced=1)
    return probability


def recall_blocks(score: Callable[[jax.Array], tuple[jax.Array, ...]], x: Float[np.ndarray, "N D"]) -> Recalled:
    """What ``score`` says of queries that come in blocks of one size.

    Where all densities underflow, the memory and its probability are those at the first of x, x / 2^20, x / 2^40, ...
    where they do not.
    """
    return Recalled(*_defined(score, x, judged=Recalled._fields.index("probability"), replaced=3))


def _defined(
    score: Callable[[jax.Array], tuple[jax.Array, ...]], x: Float[np.ndarray, "N D"], *, judged: int, replaced: int
) -> list[np.ndarray]:
    """Columns that ``score`` has for queries; where one is NaN, the first few are those of the query moved in.

    Args:
        score: of a block of queries.
        x: queries.
        judged: number of the column that is NaN where all densities underflow.
        replaced: so many columns are then taken from the query moved in.
    """
    columns, nearer = _score_in_blocks(score, x), x
    for _ in range(np.finfo(x.dtype).maxexp // _NEARER):
        undefined = np.flatnonzero(np.isnan(columns[judged]).reshape(len(x), -1).any(axis=1))
        if undefined.size == 0:
            break
        nearer = np.ldexp(nearer, -_NEARER)
        again = _score_in_blocks(score, nearer[undefined])
        for whole, part in zip(columns[:replaced], again[:replaced], strict=True):
            whole[undefined] = part
    return columns


def _score_in_blocks(
    score: Callable[[jax.Array], tuple[jax.Array, ...]], x: Float[np.ndarray, "N D"]
) -> list[np.ndarray]:
    parts = []
    for first in range(0, len(x), _QUERIES):
        rows = x[first : first + _QUERIES]
        block = np.zeros((_QUERIES, x.shape[1]), x.dtype)
        block[: len(rows)] = rows
        parts.append([np.asarray(leaf)[: len(rows)] for leaf in score(jnp.asarray(block))])
    return [np.concatenate(column) for column in zip(*parts, strict=True)]
