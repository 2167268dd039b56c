"""Draws of all sites of a model, given the partitions that a stream has learned."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from probam.compiled import compiled_by_size, is_small
from probam.conjugacy.pairs import BetaBernoulli, ConjugatePair, DirichletMultinomial
from probam.family import ExchangeableWeights, Model, Moments, Params
from probam.family.capabilities import Conditionals, Conjugacy
from probam.inference.common.coordinates import Coordinates
from probam.inference.common.result import EngineResult
from probam.inference.common.rows import weighed
from probam.inference.stream.decay import FadingPitmanYor
from probam.inference.stream.drift import Motion, Place
from probam.inference.stream.kernel import Kernel, present
from probam.inference.stream.particles import Particles
from probam.inference.stream.state import StreamState
from probam.models.mixture import Mixture
from probam.placement import each
from probam.streams.learning import Learning
from probam.streams.memories import memory_weights, slots_by_size
from probam.streams.partitions import SinglePartition
from probam.streams.prior import fixed_sites, integrates_all, pair_of

__all__ = ["PartitionTotals", "draw_from_partitions", "draw_sites", "last_partition", "particle_totals"]


class PartitionTotals(NamedTuple):
    """Counts and sums of one partition for each of S draws: memories from large to small, empty ones last."""

    counts: Float[np.ndarray, "S M"]
    sums: Float[np.ndarray, "S M F"]
    weight_counts: Float[np.ndarray, "S M"]
    """Counts from which the weights are drawn; they differ from ``counts`` if memories fade."""
    pair: ConjugatePair | None = None
    """The conjugate pair of these counts and sums; None for that of the family."""


def draw_from_partitions(
    key: jax.Array, model: Mixture, learning: Learning, x: Float[np.ndarray, "N D"], num_draws: int
) -> EngineResult:
    """Draws of all sites given what the stream has learned; ``x`` are the rows of the log joint density.

    Each draw is conditional on the partition of a particle that is drawn by weight. If memories fade or move, or there
    is one partition, all draws are conditional on the last partition (of the particle of largest weight).
    """
    partitions, options = learning.partitions, learning.options
    text = "the last partition"
    if isinstance(partitions, SinglePartition) or options.is_moving or options.half_life is not None:
        totals = last_partition(partitions.kernel, partitions.state, model.num_components, num_draws)
    else:
        key_particles, key = jax.random.split(key)
        totals = particle_totals(key_particles, partitions.particles, num_draws, model.num_components)
        if options.particles > 1:
            text = f"the partitions of {options.particles} weighted particles"
    sites, lp = draw_sites(key, model, learning.known, x, totals)
    return EngineResult(
        sites=sites,
        stats={"lp": lp},
        objective=None,
        objective_name="",
        status="streamed",
        note=f"{learning.num_memories} memories, drawn given {text}",
        estimate=f"draws given {text} of a stream",
    )


# --- partitions as counts and sums ----------------------------------------------------------------------------


def _by_size(state: StreamState, num_memories: int) -> tuple[Float[np.ndarray, " M"], Float[np.ndarray, "M F"]]:
    """Counts and sums of the memories, largest first, and of empty ones up to ``num_memories``."""
    slots = slots_by_size(state)
    pad = (0, num_memories - len(slots))
    totals = np.pad(np.asarray(state.totals)[slots], (pad, (0, 0)))
    return totals[:, 0], totals[:, 1:]


def particle_totals(key: jax.Array, particles: Particles, num_draws: int, num_memories: int) -> PartitionTotals:
    """Partitions of particles drawn by weight (systematically: floor or ceil of their share of the draws)."""
    shares = np.exp(np.asarray(particles.log_weights, np.float64)).cumsum()
    steps = (np.arange(num_draws) + float(jax.random.uniform(key))) / num_draws * shares[-1]
    parents = np.minimum(np.searchsorted(shares, steps, side="right"), len(shares) - 1)
    parents = np.random.default_rng(np.asarray(jax.random.key_data(key))).permutation(parents)
    totals = {
        int(p): _by_size(jax.tree.map(lambda leaf, p=p: leaf[p], particles.states), num_memories)
        for p in np.unique(parents)
    }
    counts, sums = map(np.stack, zip(*(totals[int(p)] for p in parents), strict=True))
    return PartitionTotals(counts, sums, counts)


def last_partition(kernel: Kernel, state: StreamState, num_memories: int, num_draws: int) -> PartitionTotals:
    """The memories and their weights for the next datum, as counts and sums of a stationary partition.

    If counts fade and the discount is not zero, the probability of a new memory is exact only up to the faded part of
    the discounts.
    """
    counts, sums = _by_size(state, num_memories)
    weight_counts = counts
    if isinstance(kernel.law, FadingPitmanYor):
        weight_counts = _faded_counts(kernel, kernel.law, state, counts)
    pair = None
    if kernel.motion is not None:
        pair, counts, sums = _moved(kernel, kernel.motion, state, num_memories)
    counts, sums, weight_counts = (np.stack([leaf] * num_draws) for leaf in (counts, sums, weight_counts))
    return PartitionTotals(counts, sums, weight_counts, pair)


def _faded_counts(
    kernel: Kernel, law: FadingPitmanYor, state: StreamState, counts: Float[np.ndarray, " M"]
) -> Float[np.ndarray, " M"]:
    """Counts of a process without fading that gives the memories their current weights."""
    alpha, discount = float(law.alpha), float(law.discount)
    slots = slots_by_size(state)
    shares = memory_weights(kernel, state)[slots]
    old = discount * np.sum(shares / (counts[: len(slots)] - discount))
    total = alpha / max(1 - shares.sum() - old, np.finfo(shares.dtype).tiny)  # alpha and all that is left
    faded = np.zeros_like(counts)
    faded[: len(slots)] = np.maximum(shares * total + discount, discount + 1e-6)
    return faded


def _moved(
    kernel: Kernel, motion: Motion, state: StreamState, num_memories: int
) -> tuple[ConjugatePair | None, Float[np.ndarray, " M"], Float[np.ndarray, "M F"]]:
    """A pair, counts and sums with the posteriors of memories that have moved since their last use."""
    slots = slots_by_size(state)
    num_empty = num_memories - len(slots)
    empty = motion.empty(kernel.pair, jnp.zeros((num_empty, state.totals.shape[1]), state.totals.dtype))
    rows = jax.tree.map(lambda old, new: jnp.concatenate([old[slots], new]), present(kernel, state), empty)
    pair, counts, sums = motion.as_pair(kernel.pair, rows)
    return pair if isinstance(rows, Place) else None, np.asarray(counts), np.asarray(sums)


# --- draws ----------------------------------------------------------------------------------------------------


def draw_sites(
    key: jax.Array,
    model: Mixture,
    known: Mapping[str, np.ndarray],
    x: Float[np.ndarray, "N D"],
    totals: PartitionTotals,
) -> tuple[dict[str, np.ndarray], Float[np.ndarray, "1 S"]]:
    """One draw of all sites given each of S partitions, and the log joint density with the rows ``x`` (one chain).

    ``known`` are the values of sites that are not learned.
    """
    counted, rows = weighed(model, jnp.asarray(x))
    given = (totals.pair, dict(known), jax.device_put((totals.counts, totals.sums, totals.weight_counts)))
    drawn = _draws(counted, rows, key, *given, integrated=integrates_all(model.family, model.prior, known))
    sites, lp = jax.tree.map(lambda leaf: np.asarray(leaf)[None], drawn)
    return sites, lp


@compiled_by_size(lambda model, x, *_, **__: is_small(x, model.num_components), static_argnames="integrated")
def _draws(
    model: Model,
    x: Float[Array, "N D"],
    key: jax.Array,
    pair: ConjugatePair | None,
    known: Mapping[str, ArrayLike],
    totals: tuple[Float[Array, "S M"], Float[Array, "S M F"], Float[Array, "S M"]],
    *,
    integrated: bool,
) -> tuple[Params, Float[Array, " S"]]:
    """Sites of all draws, deterministics included, and their log joint densities with the rows."""
    family, weights, coordinates = model.family, model.weights, Coordinates(model)
    assert isinstance(weights, ExchangeableWeights), "a stream has Dirichlet-process or Pitman-Yor weights"
    of_prior = (family, model.prior, known, model.num_components, np.dtype(x.dtype))
    fixed = fixed_sites(*of_prior)
    if pair is None:
        exact, approximate = pair_of(*of_prior)
        pair = exact if approximate is None else approximate
    assert pair is not None, "checked when the stream began"

    def one(draw: tuple[jax.Array, tuple[jax.Array, ...]]) -> tuple[Params, jax.Array]:
        number, (counts, sums, weight_counts) = draw
        key_pair, key_rest, key_weights = jax.random.split(jax.random.fold_in(key, number), 3)
        sites = pair.draw(key_pair, counts, sums)
        sites = Conjugacy.of(family).integrated_sites(sites) if integrated else _inside(pair, sites)
        missing = [site for site in model.prior if site not in sites]
        if isinstance(pair, DirichletMultinomial):  # how many counts a row has, which no label knows of
            moments = Moments(counts, sums, jnp.zeros_like(sums[0]))
            drawn = Conditionals.of(family).draw(key_rest, moments, fixed, model.prior)
            sites = sites | {site: drawn[site] for site in missing}
        else:
            sites = sites | {site: fixed[site] for site in missing}
        sites = sites | weights.draw_given_partition(key_weights, weight_counts, sites)
        sites = {name: jnp.asarray(value, x.dtype) for name, value in sites.items()}
        free = coordinates.unconstrain({name: sites[name] for name in coordinates.transforms})
        return sites | model.deterministics(sites), coordinates.log_joint(free, x)

    return each(one, (jnp.arange(len(totals[0])), totals), numbers=x.size * model.num_components)


def _inside(pair: ConjugatePair, sites: Params) -> Params:
    """Probabilities kept off 0 and 1 by one rounding."""
    if not isinstance(pair, BetaBernoulli | DirichletMultinomial):
        return sites
    limits = np.finfo(sites["prob"].dtype)
    return {"prob": jnp.clip(sites["prob"], limits.tiny, 1 - limits.epsneg)}
