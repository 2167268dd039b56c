r"""Split-merge moves with sequential allocation, exact Metropolis-Hastings.

Two data are drawn. If they share a memory, it is split in two: the data begin a memory each, and the other data of the
old one are allocated in random order, each in proportion to the size of a new memory times its predictive density. If
they do not share one, their memories are merged. The reverse of a merge is the same allocation forced to the present
labels (Dahl 2003, "An improved merge-split sampler"). With labels in K slots, the second half of a split takes any of
the E empty slots, so that

.. math:: \frac{p(x, z')}{p(x, z)} \; \frac{E}{q(z \to z')} \qquad \text{(split)}, \qquad
          \frac{p(x, z')}{p(x, z)} \; \frac{q(z' \to z)}{E'} \qquad \text{(merge)}

where E' counts the empty slots after the merge. Any law of labels that is exchangeable over the data will do, and the
parameters that stay in the slots (where a pair leaves some) do not move.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from probam.conjugacy.pairs import ConjugatePair
from probam.inference.gibbs.moves import Law, group

__all__ = ["split_merge"]


def split_merge(
    key: jax.Array,
    pair: ConjugatePair,
    law: Law,
    x: Float[Array, "N D"],
    labels: Int[Array, " N"],
    *,
    num_components: int,
    num_moves: int,
) -> tuple[Int[Array, " N"], Float[Array, ""]]:
    """Labels after ``num_moves`` moves, and the share of moves that were accepted."""
    num_data = len(x)
    if num_data == 1 or num_components == 1:
        return labels, jnp.zeros((), x.dtype)
    statistics, tables = pair.statistics(x), pair.tables(num_data)

    def log_joint(labels: jax.Array) -> tuple[jax.Array, jax.Array]:
        counts, sums = group(labels, statistics, num_components)
        each = jnp.where(counts > 0, pair.log_marginal(counts, sums), 0)
        return law.log_marginal(counts) + jnp.sum(each), counts

    def move(
        carry: tuple[jax.Array, jax.Array, jax.Array], key: jax.Array
    ) -> tuple[tuple[jax.Array, jax.Array, jax.Array], jax.Array]:
        labels, present, counts = carry
        key_pair, key_slot, key_order, key_allocate, key_accept = jax.random.split(key, 5)
        i = jax.random.randint(key_pair, (), 0, num_data)
        j = (i + jax.random.randint(key_slot, (), 1, num_data)) % num_data
        old = labels[i]
        splits = labels[j] == old
        empty = counts == 0
        num_empty = jnp.sum(empty)
        scores = jax.random.uniform(jax.random.fold_in(key_slot, 1), counts.shape)
        fresh = jnp.argmax(jnp.where(empty, scores, -1)).astype(jnp.int32)
        other = jnp.where(splits, fresh, labels[j])

        # the data of both memories other than i and j come first, in random order
        index = jnp.arange(num_data)
        involved = ((labels == old) | (labels == other)) & (index != i) & (index != j)
        scores = jax.random.uniform(key_order, (num_data,), x.dtype)
        order = jnp.argsort(jnp.where(involved, scores, 2))
        allocated, log_q = _allocate(
            key_allocate, pair, tables, x, statistics, labels, order, jnp.sum(involved), (i, j), (old, other),
            forced=~splits, num_components=num_components,
        )  # fmt: skip
        merged = jnp.where(labels == other, old, labels)
        proposal = jnp.where(splits, allocated, merged)
        proposed, new_counts = log_joint(proposal)
        empty_then = jnp.log(jnp.where(splits, num_empty, num_empty + 1).astype(x.dtype))
        log_ratio = proposed - present + jnp.where(splits, empty_then - log_q, log_q - empty_then)
        possible = jnp.where(splits, num_empty > 0, True)
        accept = possible & (-jax.random.exponential(key_accept, (), x.dtype) < log_ratio)
        labels = jnp.where(accept, proposal, labels)
        return (labels, jnp.where(accept, proposed, present), jnp.where(accept, new_counts, counts)), accept

    (labels, _, _), accepted = jax.lax.scan(move, (labels, *log_joint(labels)), jax.random.split(key, num_moves))
    return labels, jnp.mean(accepted.astype(x.dtype))


def _allocate(
    key: jax.Array,
    pair: ConjugatePair,
    tables: Any,
    x: jax.Array,
    statistics: jax.Array,
    labels: jax.Array,
    order: jax.Array,
    num_involved: jax.Array,
    seeds: tuple[jax.Array, jax.Array],
    slots: tuple[jax.Array, jax.Array],
    *,
    forced: jax.Array,
    num_components: int,
) -> tuple[jax.Array, jax.Array]:
    """Labels after the allocation and the log probability of its choices; ``forced``: of the choices that were made."""
    known = pair.begin(jnp.zeros(num_components, x.dtype), jnp.zeros((num_components, statistics.shape[-1]), x.dtype))
    for n, slot in zip(seeds, slots, strict=True):
        known = pair.move(known, slot, x[n], statistics[n], 1.0)
        labels = labels.at[n].set(slot)
    both = jnp.stack(slots)
    uniform = jax.random.uniform(key, (len(x),), x.dtype)

    def place(t: jax.Array, carry: tuple[Any, ...]) -> tuple[Any, ...]:
        labels, known, sizes, log_q = carry
        n = order[t]
        logits = jnp.log(sizes) + pair.predict(known, tables, x[n], statistics[n])[both]
        log_share = jax.nn.log_softmax(logits)
        drawn = (uniform[t] >= jnp.exp(log_share[0])).astype(jnp.int32)
        side = jnp.where(forced, (labels[n] == both[1]).astype(jnp.int32), drawn)
        known = pair.move(known, both[side], x[n], statistics[n], 1.0)
        return labels.at[n].set(both[side]), known, sizes.at[side].add(1), log_q + log_share[side]

    start = (labels, known, jnp.ones(2, x.dtype), jnp.zeros((), x.dtype))
    labels, _, _, log_q = jax.lax.fori_loop(0, num_involved, place, start)
    return labels, log_q
