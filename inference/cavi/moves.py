r"""Moves out of poor optima of the evidence bound: birth, merge, delete.

Each proposes totals, from which factors follow; all labels are then brought to their best, a few passes follow, and the
result is taken only where the bound is higher (Hughes and Sudderth 2013 restrict it to part of the data; here a
proposal is judged on all of them).

- birth: two data that a memory holds, the second far from the first in expected log density, draw the memory's data
  apart; one half stays, the other goes to the emptiest slot;
- merge: of all pairs the one whose data lose least by being explained by the other memory becomes one;
- delete: a small memory gives its data to the others.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from probam.compiled import compiled_quickly
from probam.inference.cavi.steps import Data, Parts, State, Totals, one_pass, proposed, statistics
from probam.placement import each

__all__ = ["KINDS", "Proposals", "propose", "try_moves"]

KINDS = ("merge", "delete", "birth")

_PASSES = 8
"""Passes after which a proposal is judged."""

_LOCAL_ROUNDS = 4
"""Rounds in which the halves of a birth settle between themselves."""

_OCCUPIED = 0.5
"""Fewer expected data than this are no memory."""


class Proposals(NamedTuple):
    """What to try, in this order."""

    kind: Int[Array, " P"]  # index of KINDS
    rank: Int[Array, " P"]  # merge, delete: how many better candidates to pass over
    key: jax.Array  # (P,)


@compiled_quickly(static_argnames="num_components")
def propose(key: jax.Array, turn: np.uint32 | jax.Array, *, num_components: int) -> Proposals:
    """The moves of a round for K memories: every kind at most ten times."""
    each = int(np.clip(num_components, 1, 10))
    kind, rank = np.repeat(np.arange(3), each), np.tile(np.arange(each), 3)
    return Proposals(jnp.asarray(kind), jnp.asarray(rank), jax.random.split(jax.random.fold_in(key, turn), len(kind)))


def try_moves(
    parts: Parts, data: Data, state: State, proposals: Proposals, rise: Float[Array, ""]
) -> tuple[State, Int[Array, " P"]]:
    """The state after the moves that raise its bound by more than ``rise``, and which of them were taken."""

    def step(state: State, proposal: Proposals) -> tuple[State, jax.Array]:
        seen = jax.lax.switch(
            proposal.kind,
            [
                lambda: _merge(proposal.rank, state),
                lambda: _delete(proposal.rank, state),
                lambda: _birth(proposal.key, parts, data, state),
            ],
        )
        trial = proposed(len(data.rows), state.factors, state.ahead, seen)
        trial = jax.lax.fori_loop(0, 1 + _PASSES, lambda _, trial: one_pass(parts, data, trial), trial)
        taken = trial.bound > state.bound + rise
        return jax.tree.map(lambda old, new: jnp.where(taken, new, old), state, trial), taken

    state, taken = jax.lax.scan(step, state, proposals)
    return state._replace(done=jnp.zeros((), bool)), taken.astype(jnp.int32)


def _delete(rank: jax.Array, state: State) -> Totals:
    """The totals without those of the ``rank``-th smallest memory."""
    seen = state.seen
    order = jnp.argsort(jnp.where(seen.counts > _OCCUPIED, seen.counts, jnp.inf))
    return _emptied(seen, order[jnp.minimum(rank, len(order) - 1)])


def _emptied(seen: Totals, k: jax.Array) -> Totals:
    return seen._replace(counts=seen.counts.at[k].set(0), sums=seen.sums.at[k].set(0))


def _merge(rank: jax.Array, state: State) -> Totals:
    """The totals with the ``rank``-th best pair in one slot."""
    seen, view = state.seen, state.view
    counts = seen.counts
    explained = jnp.matmul(seen.sums, view.slope.T, precision="highest") + counts[:, None] * view.offset
    # (K, K): the data of the row by the memory of the column
    loss = jnp.diagonal(explained)[:, None] - explained
    loss = jnp.minimum(loss, loss.T)
    occupied = counts > _OCCUPIED
    is_pair = jnp.triu(occupied[:, None] & occupied[None, :], 1)
    first, second = jnp.divmod(jnp.argsort(jnp.where(is_pair, loss, jnp.inf).ravel())[rank], len(counts))
    joined = seen._replace(counts=counts.at[first].add(counts[second]), sums=seen.sums.at[first].add(seen.sums[second]))
    merged = _emptied(joined, second)
    return Totals(*(jnp.where(is_pair[first, second], new, old) for new, old in zip(merged, seen, strict=True)))


def _birth(key: jax.Array, parts: Parts, data: Data, state: State) -> Totals:
    """The totals with the data of a memory drawn in proportion to its size in two slots."""
    key_target, key_first, key_second = jax.random.split(key, 3)
    seen, view = state.seen, state.view
    counts = seen.counts
    slot = jnp.argmin(counts)
    splittable = (counts > 2 * _OCCUPIED) & (jnp.arange(len(counts)) != slot)
    log_size = jnp.log(jnp.maximum(counts, _OCCUPIED))
    target = jax.random.categorical(key_target, jnp.where(splittable, log_size, -jnp.inf))

    rows = data.rows.reshape(-1, *data.rows.shape[2:])  # (blocks, R, F)
    valid = data.valid.reshape(-1, data.valid.shape[-1])

    def responsibility(inputs: tuple[jax.Array, jax.Array]) -> jax.Array:
        rows, valid = inputs
        logits = statistics(parts.memories, data, rows) @ view.slope.T + view.offset + view.log_weights
        return valid * jax.nn.softmax(logits, axis=-1)[:, target]

    mine = each(responsibility, (rows, valid), numbers=rows[0].size)  # (blocks, R)

    def datum(mass: jax.Array, key: jax.Array) -> jax.Array:
        """The statistics of a datum drawn in proportion to its mass; rows without mass change nothing."""
        below = jnp.cumsum(mass.ravel())
        place = jnp.searchsorted(below, jax.random.uniform(key, (), mass.dtype) * below[-1], side="right")
        block, row = jnp.divmod(jnp.minimum(place, mass.size - 1), mass.shape[1])
        return statistics(parts.memories, data, rows[block][row][None])[0]

    def log_density(counts: jax.Array, sums: jax.Array) -> jax.Array:
        """Expected log density of every datum under memories that hold these (blocks, R, 2)."""
        factors = parts.memories.begin(counts, sums)
        slope, offset, _ = parts.memories.expect(factors, counts, sums)
        logs: jax.Array = each(
            lambda rows: statistics(parts.memories, data, rows) @ slope.T + offset, rows, numbers=rows[0].size
        )
        return logs

    first = datum(mine, key_first)
    ones = jnp.ones(2, rows.dtype)

    def settle(t: jax.Array, halves: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        """First the second datum, then the data between the two."""
        near = log_density(*halves)
        far = jnp.max(jnp.where(mine > 0, near[..., 0], -jnp.inf)) - near[..., 0]
        second = datum(mine * jnp.maximum(far, np.finfo(rows.dtype).tiny), key_second)
        share = mine[..., None] * jax.nn.softmax(near, axis=-1)

        def add(total: jax.Array, inputs: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
            rows, share = inputs
            return total + share.T @ statistics(parts.memories, data, rows), None

        sums, _ = jax.lax.scan(add, jnp.zeros_like(halves[1]), (rows, share))
        is_pair = t > 0
        return (
            jnp.where(is_pair, jnp.sum(share, axis=(0, 1)), ones),
            jnp.where(is_pair, sums, jnp.stack([first, second])),
        )

    both, sums = jax.lax.fori_loop(0, 1 + _LOCAL_ROUNDS, settle, (ones, jnp.stack([first, first])))
    place = jnp.stack([target, slot])
    return seen._replace(counts=counts.at[place].set(both), sums=seen.sums.at[place].set(sums))
