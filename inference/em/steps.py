r"""One step of closed-form EM: sums over blocks of rows, the M-step, and the check for convergence.

The E-step never stores the (N, K) responsibilities of an additive family: rows are taken in blocks that stay in cache,
one exponential each, and only their sums are kept. Where log densities are linear in the statistics, these have a 1 at
their end, so that one product makes the log joint, constants and all, and another the sums and the counts. Where all
of them fit into little memory, they are made once for all steps, as these products read them fastest
(:func:`kept_statistics`).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from probam.distributions.likelihood import shares
from probam.distributions.mixture import MemoryMixture
from probam.distributions.pairwise import linear_form
from probam.family import Model, Moments, Params
from probam.family.capabilities import AdditiveMStep, ExpectedSums, MStep
from probam.inference.common.coordinates import Coordinates
from probam.inference.common.matching import permute
from probam.placement import numbers_at_once, rows_at_once

__all__ = [
    "EMState",
    "Kept",
    "Settings",
    "block_rows",
    "em_step",
    "expectation",
    "judged",
    "kept_statistics",
    "maximization",
    "numbers_of_a_run",
    "remaining_rise",
]

_KEPT_BYTES = 2**26
"""Most memory for statistics that are made once for all steps on a CPU."""


class EMState(NamedTuple):
    """One restart: parameters, the objective there, whether it has stopped, the last rise."""

    params: Params
    objective: Float[Array, ""]
    done: jax.Array
    gain: Float[Array, ""]


class Settings(NamedTuple):
    """Options of the steps, static under jit."""

    likelihood_only: bool
    aitken: bool
    numbered: bool  # whether known labels number the memories


_Sums = tuple[jax.Array, ...]


class Kept(NamedTuple):
    """Statistics of all rows, and 1 as the last of them, in G blocks of B; rows that fill the last one do not count."""

    statistics: Float[Array, "G S B"]
    weight: Float[Array, "G B *each"] | None


def expectation(
    model: Model,
    params: Params,
    x: Float[Array, "*groups N D"],
    origin: Float[Array, " D"],
    weight: Float[Array, "*groups N"] | Float[Array, "*groups N K"] | None = None,
    kept: Kept | None = None,
) -> tuple[Moments, Float[Array, ""]]:
    """Responsibility-weighted sums of the family's statistics, and the log likelihood (nats).

    Args:
        model: a mixture whose family has an additive M-step.
        params: site values.
        x: (N, D) rows, or (G, B, D) groups of rows that lack the same features
            (:func:`probam.inference.common.rows.by_pattern`). Where entries are missing the sums are expected ones,
            given the observed entries.
        origin: (D,) point that the statistics are relative to.
        weight: how often each row counts, (N,) or (G, B); None counts each once. A last axis K has 0 for memories that
            a row cannot belong to.
        kept: the statistics of the rows with their weights, where :func:`kept_statistics` made them.
    """
    mixture, origin = model.mixture(params), jnp.asarray(origin)
    coefficients = _linear_log_joint(model, mixture, x, origin)
    if coefficients is None:
        counts, sums, log_likelihood = _any_sums(model, mixture, params, x, origin, weight)
        return Moments(counts, sums, origin), log_likelihood

    if kept is not None:
        by_statistic, log_likelihood = _sum_of(lambda block: _kept_sums(coefficients, *block), tuple(kept))
        return Moments(by_statistic[-1], by_statistic[:-1].T, origin), log_likelihood

    def block(rows: jax.Array, counted: jax.Array | None) -> _Sums:
        statistics = _with_one(AdditiveMStep.of(model.family).statistics(rows - origin))
        logits = jnp.einsum("kf,nf->kn", coefficients, statistics, precision="highest")
        responsibilities, log_prob = _shared_out(logits, counted)
        return jnp.matmul(responsibilities, statistics, precision="highest"), jnp.sum(log_prob)

    totals, log_likelihood = _in_blocks(block, x, weight, most=block_rows(model, x))
    return Moments(totals[:, -1], totals[:, :-1], origin), log_likelihood


def _kept_sums(
    coefficients: Float[Array, "K S"], statistics: Float[Array, "S B"], counted: jax.Array | None
) -> tuple[Float[Array, "S K"], Float[Array, ""]]:
    """Sums of a block, and its log likelihood; XLA's products are fastest in this layout."""
    logits = jnp.matmul(coefficients, statistics, precision="highest")
    responsibilities, log_prob = _shared_out(logits, counted)
    return jnp.matmul(statistics, responsibilities.T, precision="highest"), jnp.sum(log_prob)


def _any_sums(
    model: Model,
    mixture: MemoryMixture,
    params: Params,
    x: Float[Array, "*groups N D"],
    origin: Float[Array, " D"],
    weight: Float[Array, "*groups N"] | Float[Array, "*groups N K"] | None,
) -> tuple[Float[Array, " K"], Float[Array, "K F"], Float[Array, ""]]:
    """Counts, sums and log likelihood by the log densities of any family, and of rows that lack entries."""
    in_groups = x.ndim == 3

    def block(rows: jax.Array, counted: jax.Array | None) -> _Sums:
        log_joint = mixture.log_joint_of_pattern(rows) if in_groups else mixture.log_joint(rows)
        responsibilities, log_prob = _shared_out(log_joint.T, counted)
        if model.missing:
            sums = ExpectedSums.of(model.family).expected_sums(params, rows, responsibilities.T, origin)
        else:
            statistics = AdditiveMStep.of(model.family).statistics(rows - origin)
            sums = jnp.matmul(responsibilities, statistics, precision="highest")
        return jnp.sum(responsibilities, axis=1), sums, jnp.sum(log_prob)

    if in_groups:
        total = _sum_of(lambda group: block(*group), (x, weight))
    else:
        total = _in_blocks(block, x, weight, most=block_rows(model, x))
    counts, sums, log_likelihood = total
    return counts, sums, log_likelihood


def _with_one(statistics: Float[Array, "N F"]) -> Float[Array, "N S"]:
    """Statistics with a 1 at their end."""
    return jnp.concatenate([statistics, jnp.ones((len(statistics), 1), statistics.dtype)], axis=1)


def _shared_out(
    logits: Float[Array, "K B"], counted: Float[Array, " B"] | Float[Array, "B K"] | None
) -> tuple[Float[Array, "K B"], Float[Array, " B"]]:
    """Responsibilities times how often each row counts, and the log density of each row times the same."""
    if counted is not None and counted.ndim == 2:
        allowed, counted = counted.T > 0, jnp.max(counted, axis=1)
        logits = jnp.where(allowed | (counted == 0), logits, -jnp.inf)  # rows that do not count keep finite numbers
    top = jax.lax.stop_gradient(jnp.max(logits, axis=0))
    unnormalised = jnp.exp(logits - top)
    total = jnp.sum(unnormalised, axis=0)
    log_prob = top + jnp.log(total)
    if counted is None:
        return unnormalised * (1 / total), log_prob
    return unnormalised * (counted / total), counted * log_prob


def kept_statistics(
    model: Model,
    x: Float[Array, "*groups N D"],
    origin: Float[Array, " D"],
    weight: Float[Array, "*groups N"] | Float[Array, "*groups N K"] | None = None,
) -> Kept | None:
    """The statistics of all rows, for steps that share them; None where each step makes its own.

    Arguments are those of :func:`expectation`. Log densities must be linear in the statistics, and all of them must fit
    into little memory.
    """
    m_step = MStep.of(model.family)
    if x.ndim == 3 or model.missing or not isinstance(m_step, AdditiveMStep) or not m_step.linear:
        return None
    num_statistics: int = jax.eval_shape(m_step.statistics, x[:1]).shape[-1]
    if len(x) * num_statistics > numbers_at_once(_KEPT_BYTES // x.dtype.itemsize):
        return None
    size = block_rows(model, x)
    lacking = -len(x) % size
    if lacking and weight is None:
        weight = jnp.ones(len(x), x.dtype)

    def in_blocks(rows: jax.Array, fill: jax.Array | float) -> jax.Array:
        filled = jnp.concatenate([rows, jnp.full((lacking, *rows.shape[1:]), fill, rows.dtype)]) if lacking else rows
        return filled.reshape(-1, size, *rows.shape[1:])

    statistics = jnp.swapaxes(in_blocks(_with_one(m_step.statistics(x - origin)), 0), 1, 2)
    return Kept(statistics, None if weight is None else in_blocks(weight, 0))


def _linear_log_joint(
    model: Model, mixture: MemoryMixture, x: Float[Array, "*groups N D"], origin: Float[Array, " D"]
) -> Float[Array, "K S"] | None:
    """The log of weight times density as coefficients of the statistics and of the 1 at their end.

    None where it is not linear in them.
    """
    if model.missing or x.ndim == 3 or not AdditiveMStep.of(model.family).linear:
        return None
    form = linear_form(mixture.bank, x[:1], origin)
    return None if form is None else form.with_constant(mixture.log_weights)


def numbers_of_a_run(model: Model, x: Float[Array, "*groups N D"]) -> int:
    """How many numbers the E-step of one run holds at a time."""
    if x.ndim == 2 and isinstance(MStep.of(model.family), AdditiveMStep):
        return block_rows(model, x) * _width(model, x)
    return x.size * model.num_components


def _width(model: Model, x: Float[Array, "N D"]) -> int:
    """Numbers of a row: features, statistics and responsibilities."""
    num_statistics: int = jax.eval_shape(AdditiveMStep.of(model.family).statistics, x[:1]).shape[-1]
    return x.shape[1] + num_statistics + model.num_components


def block_rows(model: Model, x: Float[Array, "N D"]) -> int:
    """How many rows the E-step takes at a time."""
    return rows_at_once(len(x), _width(model, x), x.dtype)


def _in_blocks(block: Callable[..., _Sums], x: jax.Array, weight: jax.Array | None, *, most: int) -> _Sums:
    """The sum of ``block`` over blocks of at most ``most`` rows."""
    num_data = len(x)
    if num_data <= most:
        return block(x, weight)
    num_blocks = -(-num_data // most)
    size = -(-num_data // num_blocks)
    if num_blocks * size == num_data:  # XLA makes faster programs of blocks that need no index
        return _sum_of(
            lambda rows: block(*rows), jax.tree.map(lambda a: a.reshape(-1, size, *a.shape[1:]), (x, weight))
        )
    # the last block overlaps the one before; rows already seen count for nothing
    begins = jnp.minimum(jnp.arange(num_blocks) * size, num_data - size)

    def one(k: jax.Array) -> _Sums:
        rows = jax.lax.dynamic_slice_in_dim(x, begins[k], size)
        counted = (begins[k] + jnp.arange(size) >= k * size).astype(x.dtype)
        if weight is not None:
            own = jax.lax.dynamic_slice_in_dim(weight, begins[k], size)
            counted = counted.reshape(-1, *[1] * (weight.ndim - 1)) * own
        return block(rows, counted)

    return _sum_of(one, jnp.arange(num_blocks))


def _sum_of(function: Callable[[Any], _Sums], over: Any) -> _Sums:
    """The sum of ``function`` over the leading axis."""
    shapes = jax.eval_shape(function, jax.tree.map(lambda leaf: leaf[0], over))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    total: _Sums = jax.lax.scan(lambda carry, one: (jax.tree.map(jnp.add, carry, function(one)), None), zeros, over)[0]
    return total


def em_step(
    model: Model,
    coordinates: Coordinates,
    params: Params,
    x: Float[Array, "*groups N D"],
    settings: Settings,
    *,
    weight: Float[Array, "*groups N"] | Float[Array, "*groups N K"] | None = None,
    origin: Float[Array, " D"] | None = None,
    kept: Kept | None = None,
) -> tuple[Params, Float[Array, ""]]:
    """Parameters after one EM step, and the objective *before* it (nats)."""
    m_step = MStep.of(model.family)
    if isinstance(m_step, AdditiveMStep):
        origin = m_step.frame(x)[0] if origin is None else origin
        moments, log_likelihood = expectation(model, params, x, origin, weight, kept)
        return maximization(model, coordinates, params, moments, log_likelihood, settings)
    log_likelihood, responsibilities = shares(model.mixture(params).log_joint(x), weight)
    previous = {site: params[site] for site in model.prior}
    memories = m_step.maximize_from(x, responsibilities, previous, None if settings.likelihood_only else model.prior)
    counts = jnp.sum(responsibilities, axis=0)
    return _with_weights(model, coordinates, params, memories, counts, log_likelihood, settings)


def maximization(
    model: Model,
    coordinates: Coordinates,
    params: Params,
    moments: Moments,
    log_likelihood: Float[Array, ""],
    settings: Settings,
) -> tuple[Params, Float[Array, ""]]:
    """Parameters after the M-step of an additive family, and the objective before it (nats)."""
    previous = {site: params[site] for site in model.prior}
    prior = None if settings.likelihood_only else model.prior
    memories = AdditiveMStep.of(model.family).maximize(moments, previous, prior)
    return _with_weights(model, coordinates, params, memories, moments.counts, log_likelihood, settings)


def _with_weights(
    model: Model,
    coordinates: Coordinates,
    params: Params,
    memories: Params,
    counts: jax.Array,
    log_likelihood: jax.Array,
    settings: Settings,
) -> tuple[Params, jax.Array]:
    """The M-step of the weights beside that of the memories; the objective at the parameters before it."""
    objective = log_likelihood
    if not settings.likelihood_only:
        objective = objective + coordinates.log_prior(coordinates.unconstrain(params), params)
    others = {name: value for name, value in params.items() if name not in model.prior}
    weights = model.weights.maximize(counts, others, likelihood_only=settings.likelihood_only)
    if settings.numbered or not len(model.weights.orders_by_size(counts)):
        return memories | weights, objective
    return _in_order(model, coordinates, memories, weights, counts, settings), objective


def _in_order(
    model: Model, coordinates: Coordinates, memories: Params, weights: Params, counts: jax.Array, settings: Settings
) -> Params:
    """Memories and weights, in another order where the expected log joint is higher there.

    The data do not care for the order of the memories, but under stick-breaking and fixed weights the prior does. Each
    order is a mode of its own, and a step that keeps the numbers never leaves it.
    """
    order = model.weights.likeliest_order(counts, weights)
    moved = model.weights.maximize(counts[order], weights, likelihood_only=settings.likelihood_only)

    def height(counts: jax.Array, weights: Params) -> jax.Array:
        logs = model.weights.log_weights(weights, model.num_components)
        fit = jnp.sum(jnp.where(counts > 0, counts * logs, 0))
        return fit if settings.likelihood_only else fit + coordinates.log_prior_of_weights(weights)

    higher = height(counts[order], moved) > height(counts, weights)
    reordered = permute(model, memories, order) | moved
    return {name: jnp.where(higher, reordered[name], value) for name, value in (memories | weights).items()}


def remaining_rise(gain: Float[Array, "..."], previous: Float[Array, "..."]) -> Float[Array, "..."]:
    r"""Aitken's estimate of how much a linearly converging sequence will still rise, from its last two rises.

    .. math:: \ell_\infty - \ell_t = g_t \frac{a}{1 - a}, \qquad a = g_t / g_{t-1}

    Exact for a geometric sequence; infinite where the rises do not shrink, or the one before is not known.
    Source: Boehning, Dietz, Schaub, Schlattmann & Lindsay (1994).
    """
    shrinks = (gain < previous) & (gain > 0) & jnp.isfinite(previous)
    ratio = jnp.where(shrinks, gain, 0) / jnp.where(shrinks, previous, 1)
    return jnp.where(shrinks, gain * ratio / (1 - ratio), jnp.inf)


def judged(
    state: EMState, params: Params, objective: jax.Array, tolerance: jax.Array, settings: Settings
) -> tuple[EMState, jax.Array]:
    """The state after a step, and the objective before it (NaN once the run has stopped). ``tolerance`` is in nats."""
    gain = objective - state.objective
    if settings.aitken:
        rounding = 4 * np.finfo(objective.dtype).eps * jnp.abs(objective)
        enough = (remaining_rise(gain, state.gain) <= tolerance) | (gain <= jnp.minimum(rounding, tolerance))
    else:
        enough = gain <= tolerance
    done = state.done | enough | ~jnp.isfinite(objective)
    kept = jax.tree.map(lambda old, new: jnp.where(done, old, new), state.params, params)
    trace = jnp.where(state.done, jnp.nan, objective)
    after = EMState(
        kept, jnp.where(state.done, state.objective, objective), done, jnp.where(state.done, state.gain, gain)
    )
    return after, trace
