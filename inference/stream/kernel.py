r"""One step of a stream that creates memories, as a pure function of its state.

For each datum the memories that are there and one that is not yet compete,

.. math:: \log p(k \mid x_n, \text{past}) = \log p(k \mid \text{labels}) + \log p(x_n \mid \text{data of } k) + c,

the first term from a :class:`probam.inference.stream.weights.WeightLaw`, the second from
:mod:`probam.inference.stream.predictive`. A rule takes one of them; it is recalled and updated, or created. With the
collapsed predictive, minus the log of the sum over k is beta times the energy of CLAIMS A17; with known places it is
that of Eq. 12.

The state has K slots, of which some hold memories. One empty slot stands for the new memory: its predictive is the base
measure's. There must be one; :func:`grow` doubles the slots. What is random about datum n comes from
``fold_in(key, n)`` alone, so that it does not matter where a stream is cut.

What is not stationary comes in by four fields of :class:`Kernel`: counts that fade (a law of
:mod:`probam.inference.stream.decay`), memories that move (:mod:`probam.inference.stream.drift`), a fixed number of them
(:mod:`probam.inference.stream.state`) and a process that is learned (:mod:`probam.inference.stream.hyper`).
"""

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt

from probam.conjugacy.normal import NormalKnownVariance
from probam.conjugacy.pairs import ConjugatePair
from probam.errors import InputError
from probam.inference.stream.decay import FadingPitmanYor
from probam.inference.stream.drift import Motion, check_motion
from probam.inference.stream.hyper import Hyper, Learning, draw
from probam.inference.stream.predictive import PointLocations, log_predictive, prepare
from probam.inference.stream.state import StreamState, weakest, without
from probam.inference.stream.weights import WeightLaw
from probam.pytrees import pytree

__all__ = [
    "ENERGIES",
    "GROUP",
    "RULES",
    "Kernel",
    "StepInfo",
    "add_to",
    "begin",
    "check_kernel",
    "choose",
    "grow",
    "join",
    "law_of",
    "log_seats",
    "logits",
    "present",
    "relearn",
    "relearn_is_due",
    "seated_step",
    "step",
]

ENERGIES = ("collapsed", "conditional", "printed")
RULES = ("map", "sample")

GROUP = 16
"""Slots come in multiples of this: labels are drawn by group and then within it."""


@pytree
@dataclass(frozen=True)
class Kernel:
    """What is constant along a stream: numbers are leaves of the pytree, words are static."""

    pair: ConjugatePair
    law: WeightLaw | FadingPitmanYor
    energy: str = field(default="collapsed", metadata={"static": True})
    rule: str = field(default="map", metadata={"static": True})
    motion: Motion | None = None
    slots: jax.Array | None = None  # most memories that are kept
    learning: Learning | None = None

    @property
    def scorer(self) -> Any:
        """Whose predictive densities score a datum: those of the pair, or of memories at known places."""
        if self.energy == "collapsed":
            return self.pair
        return PointLocations(self.pair, normalised=self.energy == "conditional")  # type: ignore[arg-type]


def check_kernel(kernel: Kernel) -> None:
    """Raise :class:`probam.errors.InputError` for unknown words, or an energy that the pair does not have."""
    for name, value, known in (("energy", kernel.energy, ENERGIES), ("rule", kernel.rule, RULES)):
        if value not in known:
            raise InputError(f"{name}: expected one of {', '.join(known)}; got {value!r}")
    if kernel.energy != "collapsed" and not isinstance(kernel.pair, NormalKnownVariance):
        raise InputError(
            f"energy: {kernel.energy!r} takes the places of memories as known, which Eq. 12 says of Gaussians of known "
            "variance (covariance='isotropic'); use energy 'collapsed' here"
        )
    if kernel.motion is not None:
        check_motion(kernel.motion, kernel.pair)
        if kernel.energy != "collapsed":
            raise InputError(f"energy: memories that move have no known places; use 'collapsed', not {kernel.energy!r}")


class StepInfo(NamedTuple):
    """What happened to a datum."""

    ident: Int[Array, ""]  # memory that it joined
    is_new: Bool[Array, ""]
    log_predictive: Float[Array, ""]  # log p(x_n | x_<n, their labels), nats
    size: Int[Array, ""]  # memories alive afterwards


def begin(kernel: Kernel, x: Float[Array, " D"], key: jax.Array, *, capacity: int = GROUP) -> StreamState:
    """A state without memories; of ``x`` only shape and dtype matter."""
    slots = -(-capacity // GROUP) * GROUP
    num_statistics = jax.eval_shape(kernel.pair.statistics, x[None]).shape[-1]
    return _empty(kernel, jnp.zeros((slots, 1 + num_statistics), x.dtype), key)


def _empty(kernel: Kernel, totals: Float[Array, "K S"], key: jax.Array) -> StreamState:
    nobody, zero = jnp.full(len(totals), -1, jnp.int32), jnp.zeros((), jnp.int32)
    totals = jax.lax.optimization_barrier(totals)  # XLA's simplifier runs in circles over constant Bessel functions
    law = kernel.law
    return StreamState(
        totals=totals,
        low=totals,
        known=_rows(kernel, totals),
        ident=nobody,
        born=nobody,
        last=nobody,
        size=zero,
        created=zero,
        seen=jnp.zeros((), jnp.uint32),
        key=key,
        traces=law.empty(len(totals)) if isinstance(law, FadingPitmanYor) else (),
        hyper=() if kernel.learning is None else Hyper(law.alpha, law.discount),  # type: ignore[union-attr]
    )


def _rows(kernel: Kernel, totals: Float[Array, "K S"]) -> Any:
    """What the scores need of memories without data, or of stationary ones with these totals."""
    if kernel.motion is not None:
        return kernel.motion.empty(kernel.pair, totals)
    return prepare(kernel.scorer, totals[:, 0], totals[:, 1:])


def grow(kernel: Kernel, state: StreamState) -> StreamState:
    """The same memories in twice as many slots."""
    empty = _empty(kernel, jnp.zeros_like(state.totals), state.key)
    grown: StreamState = jax.tree.map(lambda old, new: jnp.concatenate([old, new]) if old.ndim else old, state, empty)
    return grown


def law_of(kernel: Kernel, state: StreamState) -> Any:
    """The law of labels with the parameters that it has by now."""
    if kernel.learning is None:
        return kernel.law
    return replace(kernel.law, **state.hyper._asdict())  # type: ignore[type-var, union-attr]


def log_seats(kernel: Kernel, state: StreamState, fresh: Bool[Array, " K"]) -> Float[Array, " K"]:
    """Log probability of each slot before the datum is seen; entries of empty slots but ``fresh`` mean nothing."""
    seats = (state.counts, state.ages, state.live, fresh)
    if isinstance(kernel.law, FadingPitmanYor):
        return kernel.law.log_weights(*seats, state.traces)
    return jnp.asarray(law_of(kernel, state).log_weights(*seats))


def present(kernel: Kernel, state: StreamState) -> Any:
    """Rows of ``known`` as they are for the next datum: memories that move have moved since they were used."""
    if kernel.motion is None:
        return state.known
    return kernel.motion.ahead(kernel.pair, state.known, jnp.where(state.live, state.ages, 0))


def logits(kernel: Kernel, state: StreamState, x: Float[Array, " D"]) -> tuple[Float[Array, " K"], Int[Array, ""]]:
    """Log joint density of the datum and its slot (-inf for empty slots but one), and the slot of a new memory.

    Where no slot is empty there is no new memory, and the number of its slot means nothing.
    """
    live = state.live
    fresh = jnp.argmin(live).astype(jnp.int32)
    is_fresh = (jnp.arange(len(live)) == fresh) & ~live
    statistics = kernel.pair.statistics(x[None])[0]
    known = present(kernel, state)
    if kernel.motion is None:
        log_density = log_predictive(kernel.scorer, known, x, statistics)
    else:
        log_density = kernel.motion.log_predictive(kernel.pair, known, x, statistics)
    return jnp.where(live | is_fresh, log_seats(kernel, state, is_fresh) + log_density, -jnp.inf), fresh


def choose(mass: Float[Array, " K"], uniform: jax.Array) -> Int[Array, ""]:
    """A slot in proportion to its mass, by inversion in groups of slots; one of no mass is never chosen."""
    groups = mass.reshape(-1, GROUP)
    below = _running_sum(jnp.sum(groups, axis=-1))
    target = uniform * below[-1]
    group = jnp.minimum(jnp.sum(below <= target), len(below) - 1)
    left = target - jnp.where(group > 0, below[jnp.maximum(group - 1, 0)], 0)
    within = jnp.minimum(jnp.sum(_running_sum(groups[group]) <= left), GROUP - 1)
    slot = group * GROUP + within
    return jnp.where(mass[slot] > 0, slot, jnp.argmax(mass)).astype(jnp.int32)


def _running_sum(values: Float[Array, " J"]) -> Float[Array, " J"]:
    """Cumulative sums in one small product: cheaper in a loop than a scan."""
    places = jnp.arange(len(values))
    return jnp.sum(jnp.where(places[None] <= places[:, None], values[None], 0), axis=-1)


def add_to(
    kernel: Kernel, state: StreamState, slot: Int[Array, ""], amount: Float[Array, " S"]
) -> tuple[jax.Array, jax.Array, Any]:
    """``totals``, ``low`` and ``known`` after (count, statistics) came to one slot (Kahan and Neumaier's sum)."""

    def added() -> tuple[jax.Array, jax.Array, Any]:
        high, low = state.totals[slot], state.low[slot]
        total = high + amount
        back = total - high
        low = low + ((high - (total - back)) + (amount - back))
        high = total + low
        if kernel.motion is None:
            row = prepare(kernel.scorer, high[None, 0], high[None, 1:])
        else:
            age = jnp.where(state.live[slot], state.ages[slot], 0)
            rows = jax.tree.map(lambda rows: rows[slot][None], state.known)
            row = kernel.motion.join(kernel.pair, kernel.motion.ahead(kernel.pair, rows, age[None]), amount[1:])
        return high, low - (high - total), jax.tree.map(lambda new: new[0], row)

    def unchanged() -> tuple[jax.Array, jax.Array, Any]:
        return state.totals[slot], state.low[slot], jax.tree.map(lambda rows: rows[slot], state.known)

    # A branch, because what is computed in one is finished before the rows are written: left to itself, XLA on CPU
    # reads the old rows while it writes the new ones, and copies every array whole for each datum to be able to.
    high, low, row = jax.lax.cond(slot >= 0, added, unchanged)
    known = jax.tree.map(lambda rows, new: rows.at[slot].set(new), state.known, row)
    return state.totals.at[slot].set(high), state.low.at[slot].set(low), known


def step(kernel: Kernel, state: StreamState, x: Float[Array, " D"]) -> tuple[StreamState, StepInfo]:
    """Recall, update or create: one datum joins a memory by the kernel's rule. Needs one empty slot."""
    scores, fresh = logits(kernel, state, x)
    top = jnp.max(scores)
    mass = jnp.exp(scores - top)
    if kernel.rule == "map":
        places = jnp.arange(len(scores), dtype=jnp.int32)
        slot = jnp.min(jnp.where(scores == top, places, len(scores) - 1))  # argmax at a third of its cost
    else:
        uniform = jax.random.uniform(jax.random.fold_in(state.key, state.seen), (), x.dtype)
        slot = choose(mass, uniform)
    return _joined(kernel, state, x, slot, fresh, top + jnp.log(jnp.sum(mass)))


def seated_step(kernel: Kernel, state: StreamState, row: Float[Array, " R"]) -> tuple[StreamState, StepInfo]:
    """One datum joins the memory whose number is the last entry of the row; the next number makes a new memory.

    Memories must not be merged or dropped before all such rows have come.
    """
    x, number = row[:-1], row[-1].astype(jnp.int32)
    scores, fresh = logits(kernel, state, x)
    slot = jnp.where(number == state.created, fresh, jnp.argmax(state.ident == number)).astype(jnp.int32)
    return _joined(kernel, state, x, slot, fresh, jax.scipy.special.logsumexp(scores))


def _joined(
    kernel: Kernel,
    state: StreamState,
    x: Float[Array, " D"],
    slot: Int[Array, ""],
    fresh: Int[Array, ""],
    log_mass: Float[Array, ""],
) -> tuple[StreamState, StepInfo]:
    """The state after the datum joined; the process is learned anew if that is due."""
    after, info = join(kernel, state, x, slot, fresh, log_mass)
    if kernel.learning is not None:
        is_due = relearn_is_due(kernel.learning, after.seen)
        after = after._replace(hyper=jax.lax.cond(is_due, lambda: relearn(kernel, after), lambda: after.hyper))
    return after, info


def join(
    kernel: Kernel,
    state: StreamState,
    x: Float[Array, " D"],
    slot: Int[Array, ""],
    fresh: Int[Array, ""],
    log_mass: Float[Array, ""],
) -> tuple[StreamState, StepInfo]:
    """The state after a datum joined the memory in ``slot``, or made one there if that is the slot ``fresh``."""
    is_new = slot == fresh
    statistics = kernel.pair.statistics(x[None])[0]
    totals, low, known = add_to(kernel, state, slot, jnp.concatenate([jnp.ones(1, x.dtype), statistics]))
    now = state.seen.astype(jnp.int32)
    ident = jnp.where(is_new, state.created, state.ident[slot])
    if isinstance(kernel.law, FadingPitmanYor):
        age = jnp.where(is_new, 0, now - state.last[slot])
        state = state._replace(traces=state.traces.at[slot].set(kernel.law.use(state.traces[slot], age)))
    one_more = is_new.astype(jnp.int32)
    after = state._replace(
        totals=totals,
        low=low,
        known=known,
        ident=state.ident.at[slot].set(ident),
        born=state.born.at[slot].set(jnp.where(is_new, now, state.born[slot])),
        last=state.last.at[slot].set(now),
        size=state.size + one_more,
        created=state.created + one_more,
        seen=state.seen + jnp.ones((), state.seen.dtype),
    )
    if kernel.slots is not None:
        after = _make_way(kernel, after, is_new)
    return after, StepInfo(ident, is_new, log_mass + kernel.pair.log_base(x[None])[0], after.size)


def _make_way(kernel: Kernel, state: StreamState, is_new: jax.Array) -> StreamState:
    """One memory fewer where there are more than are kept."""
    assert kernel.slots is not None

    def dropped() -> StreamState:
        base = _rows(kernel, jax.lax.optimization_barrier(jnp.zeros_like(state.totals[:1])))
        return without(state, weakest(state, log_seats(kernel, state, ~state.live), is_new), base)

    return jax.lax.cond(state.size > kernel.slots, dropped, lambda: state)


def relearn_is_due(learning: Learning, seen: UInt[Array, ""]) -> Bool[Array, ""]:
    """Whether the process's parameters are drawn anew after so many data."""
    return seen % jnp.asarray(learning.every, seen.dtype) == 0


def relearn(kernel: Kernel, state: StreamState) -> Hyper:
    """A draw of the process's parameters given the sizes of the memories; its key is of the data seen so far."""
    assert kernel.learning is not None
    assert isinstance(state.hyper, Hyper)
    key = jax.random.fold_in(jax.random.fold_in(state.key, state.seen), 1)
    return draw(kernel.learning, key, state.hyper, state.counts, state.live)
