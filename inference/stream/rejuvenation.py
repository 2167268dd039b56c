r"""Rejuvenation of particles: other seats for the rows that are kept, all other data staying where they are.

Of the data of a memory, those outside the window are known by their sums alone and stay; those inside can move. Both
moves leave the conditional posterior of the window's labels invariant, given the rest, and hence the posterior of all:

- *reseating* takes each row out of its memory and seats it anew in proportion to p(k | others) p(x | others of k)
  (Neal 2000, algorithm 3);
- *split-merge* draws two rows i and j. If they share a memory, j begins another one, and each kept row of the memory
  goes with that of the two under which, alone, it is the more probable, the data outside the window staying with i;
  then they are drawn again in random order, each given the others, in a few scans. If i and j do not share a memory,
  and all data of j's are in the window, it is joined to i's.
  With :math:`\Delta` the gain of the log joint posterior by joining, and q the probability that the last scan
  makes (or would make again) the two memories apart (Jain and Neal 2004), a split is accepted with probability
  :math:`\min(1, e^{-\Delta} / q)` and a merge with :math:`\min(1, e^{\Delta} q)`.

A particle's law must be exchangeable: :class:`probam.inference.stream.weights.PitmanYor`.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from probam.errors import InputError
from probam.inference.stream.kernel import Kernel, add_to, choose, law_of, logits
from probam.inference.stream.predictive import log_predictive, prepare
from probam.inference.stream.state import StreamState
from probam.inference.stream.weights import PitmanYor

__all__ = ["Moves", "check_moves", "enough_room", "reseat", "split_merge"]


_PASSES = 4
"""Times that the rows of a split are seated: by the two first rows, then given all others; the last one counts."""


class Moves(NamedTuple):
    """After how many data the kept rows are reseated, and how many split-merge moves come first."""

    every: int
    split_merge: int = 20


def check_moves(moves: Moves, kernel: Kernel) -> None:
    """Raise :class:`probam.errors.InputError` for invalid numbers, or where the moves are not exact."""
    if moves.every < 1:
        raise InputError(f"rejuvenate_every: expected a number of data of at least 1; got {moves.every}")
    if moves.split_merge < 0:
        raise InputError(f"split_merge: expected a number of moves of at least 0; got {moves.split_merge}")
    if kernel.energy != "collapsed":
        raise InputError(f"energy: rejuvenation needs exact densities; use 'collapsed', not {kernel.energy!r}")
    if not isinstance(kernel.law, PitmanYor):
        raise InputError(
            f"rejuvenate_every: data are only reseated where their order does not matter (constant counts); got "
            f"weights {type(kernel.law).__name__}"
        )
    if kernel.motion is not None or kernel.slots is not None:
        raise InputError("rejuvenate_every: data are only reseated among memories that neither move nor are dropped")


def enough_room(states: StreamState) -> bool:
    """Whether every particle has an empty slot."""
    return int(jnp.max(states.size)) < states.ident.shape[-1]


def _contributions(kernel: Kernel, rows: Float[Array, "W D"]) -> Float[Array, "W S"]:
    """What each row adds to the totals of its memory."""
    return jnp.concatenate([jnp.ones((len(rows), 1), rows.dtype), kernel.pair.statistics(rows)], axis=1)


def _number(states: StreamState, place: jax.Array, window: int) -> Int[Array, ""]:
    """Number in the stream of the row that is kept in a place."""
    newest = states.seen.astype(jnp.int32) - 1
    return newest - (newest - place) % window


# --- reseating ------------------------------------------------------------------------------------------------


@jax.jit
def reseat(
    kernel: Kernel,
    states: StreamState,
    labels: Int[Array, "P W"],
    rows: Float[Array, "W D"],
    key: jax.Array,
    num_kept: jax.Array,
    first: jax.Array,
    last: jax.Array,
) -> tuple[StreamState, Int[Array, "P W"], jax.Array]:
    """Kept rows ``first`` to ``last`` - 1 seated anew, or as many as there was an empty slot for; the next one."""
    del num_kept  # both moves are called alike
    amounts = _contributions(kernel, rows)

    def goes_on(carry: tuple[StreamState, jax.Array, jax.Array]) -> jax.Array:
        states, _, place = carry
        return (place < last) & (jnp.max(states.size) < states.ident.shape[-1])

    def visit(carry: tuple[StreamState, jax.Array, jax.Array]) -> tuple[StreamState, jax.Array, jax.Array]:
        states, labels, place = carry
        uniforms = jax.random.uniform(jax.random.fold_in(key, place), (len(labels),), rows.dtype)
        one = partial(_reseat_one, kernel, rows[place], amounts[place], place, len(rows))
        states, slots = jax.vmap(one)(states, labels[:, place], uniforms)
        return states, labels.at[:, place].set(slots), place + 1

    return jax.lax.while_loop(goes_on, visit, (states, labels, first))


def _reseat_one(
    kernel: Kernel,
    x: Float[Array, " D"],
    amount: Float[Array, " S"],
    place: jax.Array,
    window: int,
    state: StreamState,
    slot: Int[Array, ""],
    uniform: jax.Array,
) -> tuple[StreamState, Int[Array, ""]]:
    """One row of one particle: out of its memory (which may end by that), and into one."""
    alone = state.counts[slot] <= 1
    ident = state.ident[slot]
    state = _shift(kernel, state, slot, -amount, ends=alone)
    state = state._replace(size=state.size - alone)
    scores, fresh = logits(kernel, state, x)
    chosen = choose(jnp.exp(scores - jnp.max(scores)), uniform)
    is_new = chosen == fresh
    number = _number(state, place, window)
    totals, low, known = add_to(kernel, state, chosen, amount)
    new_ident = jnp.where(alone, ident, state.created)  # one who was alone and stays alone keeps the name
    state = state._replace(
        totals=totals,
        low=low,
        known=known,
        ident=state.ident.at[chosen].set(jnp.where(is_new, new_ident, state.ident[chosen])),
        born=state.born.at[chosen].set(jnp.where(is_new, number, state.born[chosen])),
        last=state.last.at[chosen].max(number),
        size=state.size + is_new,
        created=state.created + (is_new & ~alone),
    )
    return state, chosen


def _shift(
    kernel: Kernel, state: StreamState, slot: jax.Array, amount: Float[Array, " S"], *, ends: jax.Array
) -> StreamState:
    """A slot with so much more in it, or made empty where ``ends``."""
    low = state.low.at[slot].set(jnp.where(ends, 0, state.low[slot]))
    amount = jnp.where(ends, -state.totals[slot], amount)
    totals, low, known = add_to(kernel, state._replace(low=low), slot, amount)
    marks = {name: getattr(state, name) for name in ("ident", "born", "last")}
    marks = {name: mark.at[slot].set(jnp.where(ends, -1, mark[slot])) for name, mark in marks.items()}
    return state._replace(totals=totals, low=low, known=known, **marks)


# --- split and merge ------------------------------------------------------------------------------------------


class _Draws(NamedTuple):
    """What is random about one move of one particle."""

    i: Int[Array, ""]
    j: Int[Array, ""]
    order: Float[Array, " W"]
    sides: Float[Array, "L W"]  # for each pass
    accept: Float[Array, ""]


@jax.jit
def split_merge(
    kernel: Kernel,
    states: StreamState,
    labels: Int[Array, "P W"],
    rows: Float[Array, "W D"],
    key: jax.Array,
    num_kept: jax.Array,
    first: jax.Array,
    last: jax.Array,
) -> tuple[StreamState, Int[Array, "P W"], jax.Array]:
    """Moves ``first`` to ``last`` - 1, or as many as there was an empty slot for; the next one. Needs two rows."""
    amounts = _contributions(kernel, rows)
    num, window = labels.shape

    def goes_on(carry: tuple[StreamState, jax.Array, jax.Array]) -> jax.Array:
        states, _, move = carry
        return (move < last) & (jnp.max(states.size) < states.ident.shape[-1])

    def visit(carry: tuple[StreamState, jax.Array, jax.Array]) -> tuple[StreamState, jax.Array, jax.Array]:
        states, labels, move = carry
        keys = jax.random.split(jax.random.fold_in(key, np.uint32(2**31) + move.astype(jnp.uint32)), 5)
        i = jax.random.randint(keys[0], (num,), 0, num_kept)
        draws = _Draws(
            i=i,
            j=(i + jax.random.randint(keys[1], (num,), 1, num_kept)) % num_kept,
            order=jax.random.uniform(keys[2], (num, window), rows.dtype),
            sides=jax.random.uniform(keys[3], (num, _PASSES, window), rows.dtype),
            accept=jax.random.exponential(keys[4], (num,), rows.dtype),
        )
        states, labels = jax.vmap(partial(_move_one, kernel, rows, amounts, num_kept))(states, labels, draws)
        return states, labels, move + 1

    return jax.lax.while_loop(goes_on, visit, (states, labels, first))


def _move_one(
    kernel: Kernel,
    rows: Float[Array, "W D"],
    amounts: Float[Array, "W S"],
    num_kept: jax.Array,
    state: StreamState,
    labels: Int[Array, " W"],
    draws: _Draws,
) -> tuple[StreamState, Int[Array, " W"]]:
    """One split or merge proposed in one particle, and taken or not."""
    places = jnp.arange(len(rows))
    a, b_now = labels[draws.i], labels[draws.j]
    splits = a == b_now
    b = jnp.where(splits, jnp.argmin(state.live).astype(jnp.int32), b_now)
    of_a, of_b = ((places < num_kept) & (labels == slot) for slot in (a, b_now))
    possible = splits | (state.counts[b] == jnp.sum(of_b))
    allocation = _propose(kernel, rows, amounts, state, labels, draws, of_a, of_b)

    moved = jnp.where(splits, allocation.in_b @ amounts, state.totals[b])
    whole = jnp.where(splits, state.totals[a], state.totals[a] + moved)
    three = jnp.stack([whole, whole - moved, moved])
    each = jax.vmap(lambda row: kernel.pair.log_marginal(row[None, 0], row[None, 1:])[0])(three)
    gain = each[0] - each[1] - each[2]  # of joining
    gain = gain + law_of(kernel, state).log_join(three[1, 0], three[2, 0], state.size + splits)
    log_ratio = jnp.where(splits, -gain - allocation.log_prob, gain + allocation.log_prob)
    accept = possible & (-draws.accept < log_ratio)
    divides, joins = accept & splits, accept & ~splits

    state = _moved(kernel, state, a, b, moved, divides, joins)
    labels = jnp.where(divides & allocation.in_b, b, labels)
    return state, jnp.where(joins & of_b, a, labels)


def _propose(
    kernel: Kernel,
    rows: Float[Array, "W D"],
    amounts: Float[Array, "W S"],
    state: StreamState,
    labels: Int[Array, " W"],
    draws: _Draws,
    of_a: Bool[Array, " W"],
    of_b: Bool[Array, " W"],
) -> "_Allocation":
    """The rows of both memories seated with i or with j, by passes of Gibbs sampling; of a merge, as they sit now."""
    places = jnp.arange(len(rows))
    ends = (places == draws.i) | (places == draws.j)
    splits = labels[draws.i] == labels[draws.j]
    stays = state.totals[labels[draws.i]] - of_a @ amounts  # data of i's memory outside the window
    taken = (of_a | of_b) & ~ends
    order = jnp.argsort(jnp.where(taken, draws.order, 2))
    sides = jnp.stack([stays + amounts[draws.i], amounts[draws.j]])
    allocation = _Allocation(sides, places == draws.j, jnp.zeros((), rows.dtype))
    num_taken = jnp.sum(taken)
    law = law_of(kernel, state)
    anchors = jnp.stack([amounts[draws.i], amounts[draws.j]])

    def allocate(t: jax.Array, allocation: _Allocation) -> _Allocation:
        scan, place = t // jnp.maximum(num_taken, 1), order[t % jnp.maximum(num_taken, 1)]
        is_last = scan == _PASSES - 1
        forced = jnp.where(is_last & ~splits, jnp.where(labels[place] == labels[draws.j], 1, 0), -1)
        uniform = draws.sides[scan, place]
        seat = _Seat(place, scan == 0, is_last, forced, uniform)
        return _allocate(kernel, law, rows[place], amounts[place], seat, anchors, allocation)

    proposed: _Allocation = jax.lax.fori_loop(0, _PASSES * num_taken, allocate, allocation)
    return proposed


def _moved(
    kernel: Kernel,
    state: StreamState,
    a: Int[Array, ""],
    b: Int[Array, ""],
    moved: Float[Array, " S"],
    divides: Bool[Array, ""],
    joins: Bool[Array, ""],
) -> StreamState:
    """The state after memory a gave ``moved`` to the new memory b, or took all of b; as it was where neither."""
    amount = jnp.where(divides, moved, 0)
    state = state._replace(low=state.low.at[a].add(jnp.where(joins, state.low[b], 0)))
    born, last = state.born[b], state.last[b]
    state = _shift(kernel, state, a, jnp.where(joins, moved, -amount), ends=jnp.zeros((), bool))
    state = _shift(kernel, state, b, amount, ends=joins)
    newest = state.seen.astype(jnp.int32) - 1
    return state._replace(
        ident=state.ident.at[b].set(jnp.where(divides, state.created, state.ident[b])),
        born=state.born.at[b].set(jnp.where(divides, newest, state.born[b]))
        .at[a].set(jnp.where(joins, jnp.minimum(state.born[a], born), state.born[a])),
        last=state.last.at[b].set(jnp.where(divides, newest, state.last[b]))
        .at[a].set(jnp.where(joins, jnp.maximum(state.last[a], last), state.last[a])),
        size=state.size + divides - joins,
        created=state.created + divides,
    )  # fmt: skip


class _Allocation(NamedTuple):
    """Rows seated with i or with j."""

    sides: Float[Array, "2 S"]
    in_b: Bool[Array, " W"]  # whether a row sits with j
    log_prob: Float[Array, ""]  # of the last pass


class _Seat(NamedTuple):
    """How one row is seated."""

    place: Int[Array, ""]
    is_first: Bool[Array, ""]  # not seated yet
    is_last: Bool[Array, ""]  # its probability counts
    forced: Int[Array, ""]  # side that it takes, or -1
    uniform: Float[Array, ""]


def _allocate(
    kernel: Kernel,
    law: PitmanYor,
    x: Float[Array, " D"],
    amount: Float[Array, " S"],
    seat: _Seat,
    anchors: Float[Array, "2 S"],
    allocation: _Allocation,
) -> _Allocation:
    """One row: by the anchors alone at first, later taken out and drawn given all others, or as it must."""
    present = allocation.in_b[seat.place].astype(jnp.int32)
    sides = allocation.sides.at[present].add(jnp.where(seat.is_first, 0, -amount))
    totals = jnp.where(seat.is_first, anchors, sides)
    both = jnp.ones(2, bool)
    seats = law.log_weights(totals[:, 0], jnp.zeros(2, jnp.int32), both, ~both)
    known = prepare(kernel.pair, totals[:, 0], totals[:, 1:])
    log_prob = jax.nn.log_softmax(seats + log_predictive(kernel.pair, known, x, amount[1:]))
    threshold = jnp.where(seat.is_first, 0.5, seat.uniform)
    drawn = (threshold < jnp.exp(log_prob[1])).astype(seat.forced.dtype)
    side = jnp.where(seat.forced < 0, drawn, seat.forced)
    return _Allocation(
        sides.at[side].add(amount),
        allocation.in_b.at[seat.place].set(side == 1),
        allocation.log_prob + jnp.where(seat.is_last, log_prob[side], 0),
    )
