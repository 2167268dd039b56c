r"""Collapsed labels, one datum after another (Neal 2000, algorithm 3), several at a time where that is the same.

A sweep goes from datum to datum: take it out of its memory, draw its label given all others, put it back. A datum that
keeps its label leaves the state as it found it. So the conditionals of a whole window of data can be computed from one
state, side by side and each without its own datum; up to and including the first datum whose label changes they are
those of the sweep that goes one by one. That datum is moved, and the window goes on behind it. Labels are the same as
one by one, datum for datum (given the same uniforms, up to rounding); where few labels change a sweep is a few matrix
products. A block of data in which many do is walked through one by one, as is the next, until it has calmed down.
"""

from typing import Any

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

_Sweep = tuple[jax.Array, jax.Array, jax.Array, jax.Array]  # labels, counts, sums, whether few labels change

_Walk = tuple[jax.Array, jax.Array, Any, jax.Array]  # place, counts, known, labels of the block


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
    statistics, tables = pair.statistics(x), pair.tables(num_data)
    counts, sums = group(labels, statistics, num_components)
    rows = min(_ROWS, num_data)

    def move(
        counts: jax.Array, known: Any, k: jax.Array, x_n: jax.Array, t_n: jax.Array, sign: int
    ) -> tuple[jax.Array, Any]:
        return counts.at[k].add(sign), pair.move(known, k, x_n, t_n, float(sign))

    def conditional(counts: jax.Array, known: Any, x_n: jax.Array, t_n: jax.Array) -> jax.Array:
        return law.log_predictive(counts) + pair.predict(known, tables, x_n, t_n)

    def visit_block(carry: _Sweep, block: tuple[jax.Array, jax.Array]) -> tuple[_Sweep, None]:
        labels, counts, sums, calm = carry
        start, key = block
        x_b, t_b, before = (jax.lax.dynamic_slice_in_dim(array, start, rows) for array in (x, statistics, labels))
        uniform = jax.random.uniform(key, (rows,), x.dtype)
        place = jnp.arange(rows)

        def visit(walk: _Walk) -> _Walk:
            n, counts, known, labels = walk
            x_n, t_n = x_b[n], t_b[n]
            counts, known = move(counts, known, labels[n], x_n, t_n, -1)
            label = one_label(conditional(counts, known, x_n, t_n), uniform[n])
            counts, known = move(counts, known, label, x_n, t_n, 1)
            return n + 1, counts, known, labels.at[n].set(label)

        def window(walk: _Walk) -> _Walk:
            n, counts, known, labels = walk
            proposed = _draw_apart(pair, law, counts, known, tables, x_b, t_b, labels, uniform)
            changed = (proposed != labels) & (place >= n)
            first = jnp.argmax(changed)
            moves = changed[first]

            def moved(counts: jax.Array, known: Any) -> tuple[jax.Array, Any]:
                counts, known = move(counts, known, labels[first], x_b[first], t_b[first], -1)
                return move(counts, known, proposed[first], x_b[first], t_b[first], 1)

            counts, known = jax.lax.cond(moves, moved, lambda *state: state, counts, known)
            labels = jnp.where(changed & (place == first), proposed, labels)
            return jnp.where(moves, first + 1, rows), counts, known, labels

        walk: _Walk = (jnp.zeros((), int), counts, pair.begin(counts, sums), before)
        if num_data >= _FEWEST:
            limit = jnp.where(calm, _MOST_CHANGES, 0)

            def go_on(state: tuple[jax.Array, _Walk]) -> jax.Array:
                return (state[0] < limit) & (state[1][0] < rows)

            walk = jax.lax.while_loop(
                go_on, lambda state: (state[0] + 1, window(state[1])), (jnp.zeros((), int), walk)
            )[1]
        after = jax.lax.while_loop(lambda walk: walk[0] < rows, visit, walk)[3]
        left, joined = group(before, t_b, num_components), group(after, t_b, num_components)
        labels = jax.lax.dynamic_update_slice_in_dim(labels, after, start, 0)
        calm = jnp.sum(before != after) < _MOST_CHANGES
        return (labels, counts + joined[0] - left[0], sums + joined[1] - left[1], calm), None

    starts = block_starts(num_data, rows)
    sweep: _Sweep = (labels, counts, sums, jnp.asarray(True))
    sweep, _ = jax.lax.scan(visit_block, sweep, (starts, jax.random.split(key, len(starts))))
    return sweep[0]


def _draw_apart(
    pair: ConjugatePair,
    law: Law,
    counts: Float[Array, " K"],
    known: Any,
    tables: Any,
    x: Float[Array, "B D"],
    statistics: Float[Array, "B F"],
    labels: Int[Array, " B"],
    uniform: Float[Array, " B"],
) -> Int[Array, " B"]:
    """A label of each datum given those of all others as they stand: left out, it is missed by its own memory only."""

    def without(label: jax.Array, x_n: jax.Array, t_n: jax.Array) -> jax.Array:
        """Predictive density of its own memory."""
        own = jax.tree.map(lambda leaf: leaf[label][None], known)
        its_pair, its_tables = pair.alone(label, tables)
        left = its_pair.move(own, jnp.zeros((), int), x_n, t_n, -1.0)
        return its_pair.predict(left, its_tables, x_n, t_n)[0]

    logits = pair.predict_rows(known, tables, x, statistics)
    own = jax.vmap(without)(labels, x, statistics)
    weights = jax.vmap(law.log_predictive)(counts - jnp.eye(len(counts), dtype=counts.dtype))[labels]
    mine = labels[:, None] == jnp.arange(len(counts))
    logits = weights + jnp.where(mine, own[:, None], logits)
    return invert(jnp.exp(logits - jnp.max(logits, axis=-1, keepdims=True)), uniform[:, None])[0]


def block_starts(num_data: int, rows: int) -> Int[Array, " B"]:
    """First rows of blocks of one size that cover the data; the last may overlap the one before (visited twice)."""
    return jnp.minimum(jnp.arange(-(-num_data // rows)) * rows, num_data - rows)


def one_label(logits: Float[Array, " K"], uniform: jax.Array) -> jax.Array:
    """A label in proportion to exp(logits); one of no mass is never chosen."""
    mass = jnp.exp(logits - jnp.max(logits))
    below = jnp.cumsum(mass)
    return jnp.searchsorted(below, uniform * below[-1], side="right", method="compare_all").astype(jnp.int32)
