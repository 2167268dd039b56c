r"""Collapsed labels, one datum after another (Neal 2000, algorithm 3), or several at once with the same result.

A sweep goes from datum to datum: take it out of its memory, draw its label given all others, put it back. A datum that
keeps its label leaves the state as it found it. So the conditionals of a whole window of data can be computed from one
state, side by side and each without its own datum; up to and including the first datum whose label changes they are
those of the sweep that goes one by one. That datum is moved, and the window goes on behind it. Labels are the same as
one by one, datum for datum (given the same uniforms, up to rounding); where few labels change a sweep is a few matrix
products. A block of data in which many do is walked through one by one, as is the next, until it has calmed down.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from probam.conjugacy.pairs import ConjugatePair
from probam.inference.gibbs.moves import Law, group, invert

__all__ = ["block_starts", "collapsed_labels", "one_label"]

_ROWS = 256
"""Data after which what is known of the memories is computed afresh, so that rounding does not pile up."""

_FEWEST = 1024
"""Fewest data for which windows are worth a second program."""

_MOST_CHANGES = 6
"""Changes of labels in a block after which it is walked through one by one: each costs a window, 1 / 6 of that."""


class _Target(NamedTuple):
    """What labels are drawn from: the law of labels and the predictive densities of the memories."""

    pair: ConjugatePair
    law: Law
    tables: Any

    def move(
        self, counts: jax.Array, known: Any, k: jax.Array, x: jax.Array, statistics: jax.Array, sign: int
    ) -> tuple[jax.Array, Any]:
        """Counts and memories after a datum joined (sign 1) or left (sign -1) memory k."""
        return counts.at[k].add(sign), self.pair.move(known, k, x, statistics, float(sign))

    def conditional(self, counts: jax.Array, known: Any, x: jax.Array, statistics: jax.Array) -> jax.Array:
        """Log probability of each label of a datum that is in no memory, up to a constant."""
        return self.law.log_predictive(counts) + self.pair.predict(known, self.tables, x, statistics)


class _Block(NamedTuple):
    """Consecutive data, and the uniform number that each label is drawn with."""

    x: Float[Array, "B D"]
    statistics: Float[Array, "B F"]
    uniform: Float[Array, " B"]


class _Walk(NamedTuple):
    """How far the sweep has come in a block."""

    place: Int[Array, ""]
    counts: Float[Array, " K"]
    known: Any
    labels: Int[Array, " B"]


class _Sweep(NamedTuple):
    """What goes from block to block."""

    labels: Int[Array, " N"]
    counts: Float[Array, " K"]
    sums: Float[Array, "K F"]
    is_calm: jax.Array  # whether few labels change


def collapsed_labels(
    key: jax.Array,
    pair: ConjugatePair,
    law: Law,
    x: Float[Array, "N D"],
    labels: Int[Array, " N"],
    num_components: int,
) -> Int[Array, " N"]:
    """Each label given all others, from the law of labels and the posterior predictive densities."""
    num_data = len(x)
    statistics = pair.statistics(x)
    target = _Target(pair, law, pair.tables(num_data))
    counts, sums = group(labels, statistics, num_components)
    rows = min(_ROWS, num_data)

    def visit_block(sweep: _Sweep, start_and_key: tuple[jax.Array, jax.Array]) -> tuple[_Sweep, None]:
        start, key = start_and_key
        x_b, t_b, before = (jax.lax.dynamic_slice_in_dim(array, start, rows) for array in (x, statistics, sweep.labels))
        block = _Block(x_b, t_b, jax.random.uniform(key, (rows,), x.dtype))
        walk = _Walk(jnp.zeros((), int), sweep.counts, pair.begin(sweep.counts, sweep.sums), before)
        if num_data >= _FEWEST:
            walk = _by_windows(target, block, walk, jnp.where(sweep.is_calm, _MOST_CHANGES, 0))
        after = jax.lax.while_loop(lambda walk: walk.place < rows, partial(_visit, target, block), walk).labels
        left, joined = group(before, t_b, num_components), group(after, t_b, num_components)
        labels = jax.lax.dynamic_update_slice_in_dim(sweep.labels, after, start, 0)
        is_calm = jnp.sum(before != after) < _MOST_CHANGES
        return _Sweep(labels, sweep.counts + joined[0] - left[0], sweep.sums + joined[1] - left[1], is_calm), None

    starts = block_starts(num_data, rows)
    sweep = _Sweep(labels, counts, sums, jnp.asarray(True))
    sweep, _ = jax.lax.scan(visit_block, sweep, (starts, jax.random.split(key, len(starts))))
    return sweep.labels


def _visit(target: _Target, block: _Block, walk: _Walk) -> _Walk:
    """One datum: out of its memory, a label given all others, into that memory."""
    n, counts, known, labels = walk
    x, statistics = block.x[n], block.statistics[n]
    counts, known = target.move(counts, known, labels[n], x, statistics, -1)
    label = one_label(target.conditional(counts, known, x, statistics), block.uniform[n])
    counts, known = target.move(counts, known, label, x, statistics, 1)
    return _Walk(n + 1, counts, known, labels.at[n].set(label))


def _by_windows(target: _Target, block: _Block, walk: _Walk, limit: jax.Array) -> _Walk:
    """The walk after at most ``limit`` windows, each of which ends behind a label that changes."""

    def goes_on(state: tuple[jax.Array, _Walk]) -> jax.Array:
        return (state[0] < limit) & (state[1].place < len(block.x))

    def step(state: tuple[jax.Array, _Walk]) -> tuple[jax.Array, _Walk]:
        return state[0] + 1, _window(target, block, state[1])

    walked: _Walk = jax.lax.while_loop(goes_on, step, (jnp.zeros((), int), walk))[1]
    return walked


def _window(target: _Target, block: _Block, walk: _Walk) -> _Walk:
    """All data from ``walk.place`` up to and including the first whose label changes."""
    n, counts, known, labels = walk
    place = jnp.arange(len(block.x))
    proposed = _draw_from_one_state(target, block, counts, known, labels)
    changed = (proposed != labels) & (place >= n)
    first = jnp.argmax(changed)
    moves = changed[first]
    datum = block.x[first], block.statistics[first]

    def moved(counts: jax.Array, known: Any) -> tuple[jax.Array, Any]:
        counts, known = target.move(counts, known, labels[first], *datum, -1)
        return target.move(counts, known, proposed[first], *datum, 1)

    counts, known = jax.lax.cond(moves, moved, lambda *state: state, counts, known)
    labels = jnp.where(changed & (place == first), proposed, labels)
    return _Walk(jnp.where(moves, first + 1, len(block.x)), counts, known, labels)


def _draw_from_one_state(
    target: _Target, block: _Block, counts: Float[Array, " K"], known: Any, labels: Int[Array, " B"]
) -> Int[Array, " B"]:
    """A label of each datum given those of all others as they stand: left out, it is missed by its own memory only."""
    pair, law, tables = target

    def without(label: jax.Array, x_n: jax.Array, t_n: jax.Array) -> jax.Array:
        """Predictive density of its own memory."""
        own = jax.tree.map(lambda leaf: leaf[label][None], known)
        its_pair, its_tables = pair.alone(label, tables)
        left = its_pair.move(own, jnp.zeros((), int), x_n, t_n, -1.0)
        return its_pair.predict(left, its_tables, x_n, t_n)[0]

    logits = pair.predict_rows(known, tables, block.x, block.statistics)
    own = jax.vmap(without)(labels, block.x, block.statistics)
    weights = jax.vmap(law.log_predictive)(counts - jnp.eye(len(counts), dtype=counts.dtype))[labels]
    mine = labels[:, None] == jnp.arange(len(counts))
    logits = weights + jnp.where(mine, own[:, None], logits)
    return invert(jnp.exp(logits - jnp.max(logits, axis=-1, keepdims=True)), block.uniform[:, None])[0]


def block_starts(num_data: int, rows: int) -> Int[Array, " B"]:
    """First rows of blocks of one size that cover the data; the last may overlap the one before (visited twice)."""
    return jnp.minimum(jnp.arange(-(-num_data // rows)) * rows, num_data - rows)


def one_label(logits: Float[Array, " K"], uniform: jax.Array) -> jax.Array:
    """A label in proportion to exp(logits); one of no mass is never chosen."""
    mass = jnp.exp(logits - jnp.max(logits))
    below = jnp.cumsum(mass)
    return jnp.searchsorted(below, uniform * below[-1], side="right", method="compare_all").astype(jnp.int32)
