r"""Gibbs sweeps of mixtures: blocked, slice, collapsed and auxiliary.

========== ==================================== ============================ ===================================
kernel     weights                              memories                     labels
========== ==================================== ============================ ===================================
blocked    in the state                         in the state                 all at once: one matrix product
slice      in the state, with one more stick    in the state                 all at once, above their slices
collapsed  integrated out                       integrated out (or in part)  one at a time
auxiliary  integrated out                       in the state                 one at a time
========== ==================================== ============================ ===================================

Blocked: Ishwaran and James (2001). Slice: Walker (2007), Kalli, Griffin and Walker (2011). Collapsed: Neal (2000),
algorithm 3. Auxiliary: Neal's algorithm 8, where the empty slots of the bank are the auxiliary memories. A sweep ends
with all sites drawn, so that every kernel has the same state and the same draws to show.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from numpyro.distributions import biject_to

from probam.conjugacy.pairs import ConjugatePair
from probam.distributions.pairwise import pairwise_log_prob
from probam.family import Model, Params
from probam.family.capabilities import Conjugacy
from probam.inference.common.coordinates import Coordinates
from probam.inference.common.matching import permute
from probam.inference.gibbs.collapsed import block_starts, collapsed_labels, one_label
from probam.inference.gibbs.moves import (
    Law,
    ModelLaw,
    OrderedLaw,
    allowed_only,
    count,
    draw_labels,
    draw_memories,
    exchangeable_weights,
    group,
    law_of,
    log_densities,
    reorder,
    slice_hyper_parameters,
    statistics_of,
)
from probam.inference.gibbs.split import split_merge

__all__ = ["KERNELS", "Settings", "State", "sweep"]

KERNELS = ("blocked", "slice", "collapsed", "auxiliary")

_REFRESHES = 4
"""How often in a sweep of the auxiliary kernel the empty slots get new memories."""


class Settings(NamedTuple):
    """What a sweep is made of; static."""

    kernel: str
    exchangeable: bool  # the law of partitions with a free number of memories
    integrated: bool  # the family's conjugate base measure in place of the model's priors
    split_merge: int  # moves per sweep


class State(NamedTuple):
    """A chain: all sites of the model, and the label of each datum."""

    params: Params
    labels: Int[Array, " N"]


def sweep(
    key: jax.Array,
    model: Model,
    x: Float[Array, "N D"],
    state: State,
    settings: Settings,
    statistics: Float[Array, "N F"] | None = None,
) -> tuple[State, tuple[Params, dict[str, jax.Array]]]:
    """One sweep: the next state, and the sites with their statistics that are kept.

    Args:
        key: of this sweep.
        model: the mixture to sample.
        x: (N, D) complete data.
        state: the chain before the sweep.
        settings: the kernel and its options.
        statistics: :func:`probam.inference.gibbs.moves.statistics_of` the data, which sweeps can share; None computes
            them here.
    """
    if statistics is None:
        statistics = statistics_of(model, x)
    if settings.kernel in ("blocked", "slice"):
        return _blocked(key, model, x, state, settings, statistics)
    return _one_at_a_time(key, model, x, state, settings, statistics)


# --- all labels at once ---------------------------------------------------------------------------------------


def _blocked(
    key: jax.Array,
    model: Model,
    x: Float[Array, "N D"],
    state: State,
    settings: Settings,
    statistics: Float[Array, "N F"] | None,
) -> tuple[State, tuple[Params, dict[str, jax.Array]]]:
    """Labels given weights and memories, then weights given labels, then memories given labels."""
    key_labels, key_order, key_hyper, key_weights, key_memories, key_slice = jax.random.split(key, 6)
    num_components, params = model.num_components, state.params
    extra = settings.kernel == "slice"  # sticks beyond the model's truncation: one slot for all that lies there
    log_density = log_densities(model, params, x, statistics)
    log_weights = model.weights.log_weights(params, num_components).astype(x.dtype)
    stats = {}
    if extra:
        # the last two slots share what the truncated model gives to the last: take the state's own split of it
        log_weights = _open_ended(key_weights, model, state.labels, params, x.dtype)
        chosen = log_weights[state.labels]
        log_height = chosen - jax.random.exponential(key_slice, chosen.shape, chosen.dtype)
        beyond = jnp.log(-jnp.expm1(jnp.minimum(_log_sum(log_weights), -np.finfo(x.dtype).tiny)))
        stats["beyond"] = jnp.sum(log_height < beyond)  # data for which more memories could have been chosen
        above = jnp.where(log_weights > log_height[:, None], log_density, -jnp.inf)
        labels, _ = draw_labels(key_labels, above, masked=True)
        _, log_lik = draw_labels(key_labels, model.weights.log_weights(params, num_components) + log_density)
    else:
        logits = allowed_only(model, log_weights + log_density)
        labels, log_lik = draw_labels(key_labels, logits, masked=model.row_weight is not None)
    counts = count(labels, num_components, x.dtype)
    coordinates = Coordinates(model)
    sites = {name: params[name] for name in coordinates.transforms}
    lp = jnp.sum(log_lik) + coordinates.log_prior(coordinates.unconstrain(sites), sites)
    kept = (params, {"lp": lp, "occupied": jnp.sum(counts > 0), **stats})

    law: OrderedLaw = ModelLaw(model, params)
    if extra:
        law = _Extended(law)
    known = model.row_weight is not None  # then the numbers of the memories are the labels'
    order = jnp.arange(num_components) if known else reorder(key_order, law, counts)
    labels, counts, params = jnp.argsort(order).astype(jnp.int32)[labels], counts[order], permute(model, params, order)
    params = slice_hyper_parameters(key_hyper, model, counts, params, exchangeable=False, extra=extra)
    params = params | _typed(model.weights.draw(jax.random.fold_in(key_weights, 1), counts, params), x.dtype)
    params = draw_memories(key_memories, model, x, labels, params, statistics)
    return State(params, labels), kept


class _Extended(NamedTuple):
    """A law of labels in one slot more, which is empty: stick-breaking whose last stick is not yet broken."""

    law: Any

    def log_predictive(self, counts: Float[Array, " K"]) -> Float[Array, " K"]:
        """Of the first K slots."""
        return self.law.log_predictive(jnp.append(counts, 0))[:-1]

    def log_marginal(self, counts: Float[Array, " K"]) -> Float[Array, ""]:
        """With nothing in the last slot."""
        return self.law.log_marginal(jnp.append(counts, 0))

    def terms(self, counts: Float[Array, " K"]) -> Any:
        """Of the K slots and the last."""
        return self.law.terms(jnp.append(counts, 0))

    def log_marginal_of(self, terms: Any) -> Float[Array, ""]:
        """With the last slot where it is."""
        return self.law.log_marginal_of(terms)


def _open_ended(key: jax.Array, model: Model, labels: jax.Array, params: Params, dtype: Any) -> jax.Array:
    """Log weights of the first K memories of the untruncated process given the labels: they do not sum to one."""
    num_components = model.num_components
    counts = count(labels, num_components + 1, dtype)
    sites = params | model.weights.draw(key, counts, params)
    return model.weights.log_weights(sites, num_components + 1)[:-1].astype(dtype)


def _log_sum(logs: jax.Array) -> jax.Array:
    return jax.scipy.special.logsumexp(logs)


def _typed(params: Params, dtype: Any) -> Params:
    return {name: jnp.asarray(value, dtype) for name, value in params.items()}


# --- one label at a time --------------------------------------------------------------------------------------


def _one_at_a_time(
    key: jax.Array,
    model: Model,
    x: Float[Array, "N D"],
    state: State,
    settings: Settings,
    statistics: Float[Array, "N F"] | None,
) -> tuple[State, tuple[Params, dict[str, jax.Array]]]:
    """Labels with the weights (and what the kernel can of the memories) integrated out, then all sites given them."""
    key_labels, key_split, key_order, key_hyper, key_weights, key_memories = jax.random.split(key, 6)
    num_data, params, labels = len(x), state.params, state.labels
    law = law_of(model, params, num_data, exchangeable=settings.exchangeable)
    pair = None
    stats: dict[str, jax.Array] = {}
    if settings.kernel == "collapsed":
        conjugacy = Conjugacy.of(model.family)
        pair = conjugacy.conjugate_base(model.prior) if settings.integrated else None
        pair = pair or conjugacy.conjugate(params, model.prior)
        assert pair is not None, "checked before compiling"
        labels = collapsed_labels(key_labels, pair, law, x, labels, model.num_components)
        if settings.split_merge:
            labels, accepted = split_merge(
                key_split, pair, law, x, labels, num_components=model.num_components, num_moves=settings.split_merge
            )
            stats["split_merge_accepted"] = accepted
    else:
        params, labels = _auxiliary_labels(key_labels, model, law, x, params, labels)

    counts = count(labels, model.num_components, x.dtype)
    # any order of the slots has the same probability under the exchangeable law: then full slots come first
    order = jnp.argsort(-counts) if settings.exchangeable else reorder(key_order, ModelLaw(model, params), counts)
    labels, counts, params = jnp.argsort(order).astype(jnp.int32)[labels], counts[order], permute(model, params, order)
    params = slice_hyper_parameters(key_hyper, model, counts, params, exchangeable=settings.exchangeable)
    draw_weights = exchangeable_weights(model).draw_given_partition if settings.exchangeable else model.weights.draw
    params = params | _typed(draw_weights(key_weights, counts, params), x.dtype)
    if pair is not None and settings.integrated:
        drawn = pair.draw(key_memories, counts, group(labels, pair.statistics(x), model.num_components)[1])
        params = params | Conjugacy.of(model.family).integrated_sites(drawn)
    else:
        params = draw_memories(key_memories, model, x, labels, params, statistics)
    stats |= {"lp": _log_joint(model, x, params, labels, pair, settings), "occupied": jnp.sum(counts > 0)}
    return State(params, labels), (params, stats)


def _log_joint(
    model: Model, x: jax.Array, params: Params, labels: jax.Array, pair: ConjugatePair | None, settings: Settings
) -> jax.Array:
    """The model's log joint; for other targets that of the labels (and of the memories that are not integrated out)."""
    if not (settings.exchangeable or settings.integrated):
        coordinates = Coordinates(model)
        free = coordinates.unconstrain({name: params[name] for name in coordinates.transforms})
        return coordinates.log_joint(free, x)
    law = law_of(model, params, len(x), exchangeable=settings.exchangeable)
    if pair is not None and settings.integrated:
        counts, sums = group(labels, pair.statistics(x), model.num_components)
        total = jnp.sum(pair.log_marginal(counts, sums)) + jnp.sum(pair.log_base(x))
    else:
        log_density = pairwise_log_prob(model.family.bank(params), x)
        counts = count(labels, model.num_components, x.dtype)
        total = jnp.sum(jnp.take_along_axis(log_density, labels[:, None], axis=-1))
        for name, prior in model.prior.items():
            total = total + jnp.sum(prior.log_prob(params[name]))
    for name, prior in model.weights.hyper_priors().items():
        transform = biject_to(prior.support)
        volume = transform.log_abs_det_jacobian(transform.inv(params[name]), params[name])
        total = total + prior.log_prob(params[name]) + volume
    return total + law.log_marginal(counts)


def _auxiliary_labels(
    key: jax.Array, model: Model, law: Law, x: jax.Array, params: Params, labels: jax.Array
) -> tuple[Params, jax.Array]:
    """Each label given all others and the memories; the empty slots hold fresh draws from the prior."""
    num_data, num_components = len(x), model.num_components
    rows = -(-num_data // min(_REFRESHES, num_data))
    counts = count(labels, num_components, x.dtype)
    owned = [name for name in model.prior if name not in model.family.shared]

    def visit(counts: jax.Array, datum: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
        log_density, label, uniform = datum
        counts = counts.at[label].add(-1)
        label = one_label(law.log_predictive(counts) + log_density, uniform)
        return counts.at[label].add(1), label

    def visit_block(carry: tuple[Any, ...], block: tuple[jax.Array, jax.Array]) -> tuple[tuple[Any, ...], None]:
        params, labels, counts = carry
        start, key = block
        key_fresh, key_labels = jax.random.split(key)
        params = dict(params)
        for i, name in enumerate(owned):
            fresh = model.prior[name].sample(jax.random.fold_in(key_fresh, i), (num_components,))
            empty = (counts == 0).reshape(-1, *(1,) * (params[name].ndim - 1))
            params[name] = jnp.where(empty, jnp.asarray(fresh, x.dtype), params[name])
        x_b, before = (jax.lax.dynamic_slice_in_dim(array, start, rows) for array in (x, labels))
        log_density = pairwise_log_prob(model.family.bank(params), x_b)
        uniform = jax.random.uniform(key_labels, (rows,), x.dtype)
        counts, after = jax.lax.scan(visit, counts, (log_density, before, uniform))
        return (params, jax.lax.dynamic_update_slice_in_dim(labels, after, start, 0), counts), None

    starts = block_starts(num_data, rows)
    keys = jax.random.split(key, len(starts))
    (params, labels, _), _ = jax.lax.scan(visit_block, (params, labels, counts), (starts, keys))
    return params, labels
