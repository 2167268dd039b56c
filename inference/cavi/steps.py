r"""Passes of coordinate-ascent variational inference, whole or memoized.

State of a run: the factors of the memories, the means of the hyper-parameters, and the totals of each batch of the data
at its last visit: counts :math:`n_k`, sums :math:`S_k` of the statistics, and the entropy of its labels. A visit
brings all factors but q(z) to their best given the totals, then the labels of one batch, whose old share of the totals
is replaced by the new one (memoized variational inference, Hughes and Sudderth 2013). The evidence bound

.. math::
    \sum_k \left[ n_k E \log w_k + E \log p(\text{data}_k \mid \theta_k) \right] + H[q(z)]
    - \mathrm{KL}[q(w, h)] - \mathrm{KL}[q(\theta)]

is known exactly after every visit and never falls. One batch is the plain method.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from probam.compiled import filled_number, is_small
from probam.conjugacy.mean_field import Factors, HyperField, MeanField
from probam.family import Params, WeightPrior
from probam.inference.common.rows import total_weight
from probam.placement import each, numbers_at_once

__all__ = [
    "Data",
    "Parts",
    "State",
    "Totals",
    "advance",
    "arrange",
    "as_type",
    "counted_last",
    "labels_of",
    "numbers_of_a_block",
    "one_pass",
    "ordered",
    "proposed",
    "refined",
    "statistics",
]

_ROWS = 2048
"""Rows taken at a time on a CPU: their (rows, K) responsibilities stay in cache."""

_KEPT = 2**24
"""Most numbers for which the statistics of all data are kept on a CPU instead of being made at every visit."""

_HYPER_ROUNDS = 5
"""Alternations of weights and hyper-parameters in a visit: they cost no look at the data."""


class Parts(NamedTuple):
    """The mean field of a model."""

    memories: MeanField
    weights: WeightPrior
    hyper: HyperField


class Data(NamedTuple):
    """Data in B batches of G blocks of rows; rows that fill up the last ones are not valid."""

    rows: Float[Array, "B G R F"]  # statistics, or data where ``are_statistics`` is zero-sized
    valid: Float[Array, "B G R *K"]  # how often each row counts; with an axis K, 0 for memories it cannot belong to
    constant: Float[Array, ""]  # log base measure of all data
    are_statistics: Float[Array, " S"]  # length one or none: a shape, so that it is static


class Totals(NamedTuple):
    """What the factors see of data and labels."""

    counts: Float[Array, "... K"]
    sums: Float[Array, "... K F"]
    entropy: Float[Array, "..."]


class View(NamedTuple):
    """All that labels need of the other factors."""

    slope: Float[Array, "K F"]
    offset: Float[Array, " K"]
    log_weights: Float[Array, " K"]  # expected


class State(NamedTuple):
    """One run: factors at their best given ``seen``, and then labels at theirs."""

    factors: Factors
    hyper: Params  # means under which q(weights) is the posterior given seen.counts
    ahead: Params  # means of the hyper-parameters given that q(weights)
    seen: Totals
    view: View
    bound: Float[Array, ""]  # of the factors and the labels that ``seen`` counts, nats
    by_batch: Totals  # leaves lead with the batch axis
    fresh: jax.Array  # whether ``seen`` is a proposal, which nothing in ``by_batch`` adds up to
    done: jax.Array


def numbers_of_a_block(data: Data, states: State) -> int:
    """How many numbers the labels of a block of rows take: statistics and responsibilities."""
    num_rows, (num_components, num_statistics) = data.rows.shape[2], states.seen.sums.shape[-2:]
    return num_rows * (num_components + num_statistics)


def arrange(
    memories: MeanField, x: Float[Array, "N D"], batch_size: int, weight: jax.Array | None, num_components: int
) -> Data:
    """The data in batches of nearly ``batch_size`` rows, which count as :attr:`probam.family.Model.row_weight` says."""
    num_data = len(x)
    num_batches = -(-num_data // batch_size)
    per_batch = -(-num_data // num_batches)
    num_statistics = jax.eval_shape(memories.statistics, x[:1]).shape[1]
    width = num_statistics + num_components
    blocks = -(-per_batch // max(1, numbers_at_once(_ROWS * width) // width))
    size = -(-per_batch // blocks)
    size = filled_number(size) if is_small(x, num_components) else size
    shape = (num_batches, blocks, size)
    number = np.arange(num_batches * blocks * size)
    batch, within = np.divmod(number, blocks * size)
    row = batch * per_batch + within
    valid = (within < per_batch) & (row < num_data)
    rows = x[jnp.asarray(np.where(valid, row, 0))]
    keep = rows.shape[0] * num_statistics <= numbers_at_once(_KEPT)
    rows = memories.statistics(rows) if keep else rows
    counts, constant = jnp.asarray(valid, x.dtype), memories.constant(x)
    if weight is not None:
        of_rows = weight[jnp.asarray(np.where(valid, row, 0))]
        counts = counts.reshape(-1, *[1] * (weight.ndim - 1)) * of_rows
        of_each = each(lambda one: memories.constant(one[None]), x, numbers=num_statistics)
        constant = jnp.sum(total_weight(weight) * of_each)
    return Data(
        rows.reshape(*shape, -1),
        counts.reshape(*shape, *counts.shape[1:]),
        constant.astype(x.dtype),
        jnp.zeros(int(keep), x.dtype),
    )


def statistics(memories: MeanField, data: Data, rows: Float[Array, "R F"]) -> Float[Array, "R F"]:
    """Statistics of a block of ``data.rows``."""
    return rows if len(data.are_statistics) else memories.statistics(rows)


def counted_last(state: State) -> Totals:
    """The totals of the last pass, or those of a proposal."""
    totals = Totals(*(jnp.sum(leaf, axis=0) for leaf in state.by_batch))
    return Totals(*(jnp.where(state.fresh, seen, own) for seen, own in zip(state.seen, totals, strict=True)))


def proposed(num_batches: int, factors: Factors, hyper: Params, seen: Totals) -> State:
    """A state whose next pass brings the labels of all batches to their best given what follows from ``seen``."""
    dtype = seen.sums.dtype
    shape = (num_batches, *seen.sums.shape)
    by_batch = Totals(jnp.zeros(shape[:2], dtype), jnp.zeros(shape, dtype), jnp.zeros(shape[:1], dtype))
    view = View(jnp.zeros_like(seen.sums), jnp.zeros_like(seen.counts), jnp.zeros_like(seen.counts))
    nothing = jnp.full((), -jnp.inf, dtype)
    return State(factors, hyper, hyper, seen, view, nothing, by_batch, jnp.ones((), bool), jnp.zeros((), bool))


def refined(parts: Parts, constant: Float[Array, ""], state: State, seen: Totals) -> State:
    """All factors but that of the labels at their best, given totals; ``constant`` is that of all data."""
    counts, dtype = seen.counts, seen.counts.dtype

    def alternate(_: jax.Array, given: tuple[Params, Params, jax.Array]) -> tuple[Params, Params, jax.Array]:
        hyper = given[1]
        return (hyper, *parts.hyper.average(counts, hyper))

    start = (state.hyper, state.ahead, jnp.zeros((), dtype))
    hyper, ahead, hyper_bound = jax.lax.fori_loop(0, _HYPER_ROUNDS, alternate, start)
    weights_bound, log_weights = jax.value_and_grad(parts.weights.log_marginal)(counts, hyper)
    factors = parts.memories.update(state.factors, counts, seen.sums)
    slope, offset, bound = parts.memories.expect(factors, counts, seen.sums)
    bound = (bound + weights_bound + hyper_bound + seen.entropy + constant).astype(dtype)
    view = View(slope, offset, log_weights.astype(dtype))
    return state._replace(factors=factors, hyper=hyper, ahead=ahead, seen=seen, view=view, bound=bound)


def labels_of(parts: Parts, data: Data, rows: jax.Array, valid: jax.Array, view: View) -> Totals:
    """Totals of a batch (G, R, F) whose labels are at their best."""
    offset = view.offset + view.log_weights

    def block(carry: Totals, inputs: tuple[jax.Array, jax.Array]) -> tuple[Totals, None]:
        rows, valid = inputs
        features = statistics(parts.memories, data, rows)
        logits = jnp.matmul(features, view.slope.T, precision="highest") + offset
        if valid.ndim == 2:
            allowed, valid = valid > 0, jnp.max(valid, axis=1)
            logits = jnp.where(allowed | (valid == 0)[:, None], logits, -jnp.inf)
        top = jnp.max(logits, axis=-1, keepdims=True)
        unnormalised = jnp.exp(logits - top)
        total = jnp.sum(unnormalised, axis=-1, keepdims=True)
        responsibilities = unnormalised * (valid[:, None] / total)
        counts = jnp.sum(responsibilities, axis=0)
        sums = jnp.matmul(responsibilities.T, features, precision="highest")
        log_sum = jnp.sum(valid * (top + jnp.log(total))[:, 0])
        # H = -sum r log r = log of the sum - sum r logits, the latter through the sums that are there anyway
        weighed = jnp.sum(jnp.where(counts > 0, counts * jnp.where(counts > 0, offset, 0), 0))
        fresh = Totals(counts, sums, log_sum - weighed - jnp.sum(sums * view.slope))
        return jax.tree.map(jnp.add, carry, fresh), None

    zeros = Totals(jnp.zeros_like(offset), jnp.zeros_like(view.slope), jnp.zeros((), rows.dtype))
    return jax.lax.scan(block, zeros, (rows, valid))[0]


def one_pass(parts: Parts, data: Data, state: State) -> State:
    """Every batch visited once; then memories in the order that the prior of the weights makes likeliest."""
    begin = counted_last(state)

    def visit(carry: tuple[State, Totals], b: jax.Array) -> tuple[tuple[State, Totals], None]:
        state, seen = carry
        state = refined(parts, data.constant, state, seen)
        before = jax.tree.map(lambda leaf: leaf[b], state.by_batch)
        after = labels_of(parts, data, data.rows[b], data.valid[b], state.view)
        by_batch = jax.tree.map(lambda leaf, new: leaf.at[b].set(new), state.by_batch, after)
        seen = jax.tree.map(
            lambda total, new, old: jnp.where(state.fresh, total, total + new - old), seen, after, before
        )
        return (state._replace(by_batch=by_batch), seen), None

    (state, _), _ = jax.lax.scan(visit, (state, begin), jnp.arange(len(data.rows)))
    return ordered(parts, state, numbered=data.valid.ndim == 4)


def ordered(parts: Parts, state: State, *, numbered: bool = False) -> State:
    """The end of a pass: memories in their likeliest order, but where known labels number them."""
    counts = jnp.sum(state.by_batch.counts, axis=0)
    order = jnp.arange(len(counts)) if numbered else parts.weights.likeliest_order(counts, state.hyper)
    # a bound of labels that were never brought together is none
    return State(
        factors=Factors(jax.tree.map(lambda leaf: leaf[order], state.factors.own), state.factors.common),
        hyper=state.hyper,
        ahead=state.ahead,
        seen=state.seen._replace(counts=state.seen.counts[order], sums=state.seen.sums[order]),
        view=jax.tree.map(lambda leaf: leaf[order], state.view),
        bound=jnp.where(state.fresh, -jnp.inf, state.bound),
        by_batch=state.by_batch._replace(counts=state.by_batch.counts[:, order], sums=state.by_batch.sums[:, order]),
        fresh=jnp.zeros((), bool),
        done=state.done,
    )


def advance(
    parts: Parts, data: Data, state: State, rise: Float[Array, ""], limit: Int[Array, ""], num_passes: int
) -> tuple[State, Float[Array, " T"]]:
    """At most ``limit`` passes of ``num_passes`` (the length of the trace), fewer once one rises by less than ``rise``.

    Returns the bound at each as well, NaN where there was none.
    """

    def going(carry: tuple[jax.Array, State, jax.Array]) -> jax.Array:
        t, state, _ = carry
        return (t < jnp.minimum(limit, num_passes)) & ~state.done

    def step(carry: tuple[jax.Array, State, jax.Array]) -> tuple[jax.Array, State, jax.Array]:
        t, state, trace = carry
        after = one_pass(parts, data, state)
        risen = after.bound - state.bound > rise
        done = ~state.fresh & ~risen
        return t + 1, after._replace(done=done), trace.at[t].set(after.bound)

    trace = jnp.full(num_passes, jnp.nan, data.rows.dtype)
    _, state, trace = jax.lax.while_loop(going, step, (jnp.zeros((), jnp.int32), state, trace))
    return state, trace


def as_type(tree: Any, dtype: Any) -> Any:
    """Floating leaves in one precision."""
    return jax.tree.map(
        lambda leaf: leaf.astype(dtype) if jnp.issubdtype(jnp.asarray(leaf).dtype, jnp.floating) else leaf, tree
    )
