r"""Pruning and merging memories of a stream, by a stated rule.

*Merging* compares the joint posterior of the labels with two memories a and b joined and apart,

.. math:: \log \frac{m(a \cup b)}{m(a)\, m(b)} + \log \frac{p(\text{joined})}{p(\text{apart})} > 0,

marginal likelihoods m of :mod:`probam.conjugacy.pairs` and the ratio of EPPFs of the weights (CLAIMS A19): the
best pair is joined first, as long as there is one that gains. The older memory keeps its number. Each merge raises the
exact joint posterior of all labels so far.

*Pruning* forgets memories that hold at most ``max_count`` data and were made more than ``min_age`` data ago. Their data
are forgotten with them: counts then sum to fewer than the data seen.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from probam.errors import InputError
from probam.inference.stream.kernel import Kernel, add_to, law_of
from probam.inference.stream.predictive import prepare
from probam.inference.stream.state import StreamState, without
from probam.placement import each

__all__ = ["Tidy", "check_tidy", "join_gains", "tidy"]


class Tidy(NamedTuple):
    """What is pruned and merged, and after how many data each time."""

    every: int
    merge: bool = True
    max_count: int = 0  # prune memories of at most so many data; 0 prunes none
    min_age: int = 0


def check_tidy(tidying: Tidy) -> None:
    """Raise :class:`probam.errors.InputError` for invalid numbers."""
    for name, value, least in (("every", tidying.every, 1), ("max_count", tidying.max_count, 0)):
        if value < least:
            raise InputError(f"{name}: expected a number of data of at least {least}; got {value}")
    if tidying.min_age < 0:
        raise InputError(f"min_age: expected a number of data of at least 0; got {tidying.min_age}")


def join_gains(kernel: Kernel, state: StreamState) -> Float[Array, "K K"]:
    """Rise of the log joint posterior by joining two memories; -inf unless both are alive and the first is older."""
    counts, sums, live, pair, law = state.counts, state.sums, state.live, kernel.pair, law_of(kernel, state)

    def log_marginal(count: jax.Array, row: jax.Array) -> jax.Array:
        return pair.log_marginal(count[None], row[None])[0]

    alone = jax.vmap(log_marginal)(counts, sums)

    def with_all(k: jax.Array) -> jax.Array:
        together = jax.vmap(log_marginal)(counts[k] + counts, sums[k] + sums)
        gain = together - alone[k] - alone
        safe = jnp.where(live, counts, 1)
        gain = gain + law.log_join(safe[k], safe, state.size)
        return jnp.where(live[k] & live & (state.ident[k] < state.ident), gain, -jnp.inf)

    return jnp.asarray(each(with_all, jnp.arange(len(counts)), numbers=sums.size))


def _without(kernel: Kernel, state: StreamState, gone: jax.Array) -> StreamState:
    """The slots marked ``gone`` (K,) made empty."""
    empty = jax.lax.optimization_barrier(jnp.zeros_like(state.totals[:1]))
    return without(state, gone, prepare(kernel.scorer, empty[:, 0], empty[:, 1:]))


@jax.jit
def _prune(
    kernel: Kernel, state: StreamState, max_count: jax.Array, min_age: jax.Array
) -> tuple[StreamState, jax.Array]:
    age = state.seen.astype(jnp.int32) - state.born
    gone = state.live & (state.counts <= max_count) & (age > min_age)
    return _without(kernel, state, gone), gone


@jax.jit
def _merge_best(kernel: Kernel, state: StreamState) -> tuple[StreamState, jax.Array, jax.Array, jax.Array]:
    """The best pair joined if that gains; its gain and numbers (kept, gone)."""
    gains = join_gains(kernel, state)
    best = jnp.argmax(gains)
    kept, gone = best // len(gains), best % len(gains)
    gain = gains[kept, gone]
    totals, low, known = add_to(kernel, state, kept, state.totals[gone])
    joined = state._replace(
        totals=totals,
        low=low.at[kept].add(state.low[gone]),
        known=known,
        born=state.born.at[kept].min(state.born[gone]),
        last=state.last.at[kept].max(state.last[gone]),
    )
    joined = _without(kernel, joined, jnp.arange(len(gains)) == gone)
    after = jax.lax.cond(gain > 0, lambda: joined, lambda: state)
    return after, gain, state.ident[kept], state.ident[gone]


def tidy(kernel: Kernel, state: StreamState, tidying: Tidy) -> tuple[StreamState, list[tuple[int, int]]]:
    """The state after pruning and merging, and the memories that went: (number, merged into, or -1 if pruned)."""
    went: list[tuple[int, int]] = []
    if tidying.max_count:
        before = np.asarray(state.ident)
        state, gone = _prune(kernel, state, jnp.asarray(tidying.max_count), jnp.asarray(tidying.min_age))
        went += [(int(ident), -1) for ident in before[np.asarray(gone)]]
    while tidying.merge:
        state, gain, kept, gone = _merge_best(kernel, state)
        if not float(gain) > 0:
            break
        went.append((int(gone), int(kept)))
    return state, went
