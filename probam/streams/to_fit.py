"""From a stream to a fit: draws of all sites given partitions, and what the fit says of where it came from."""

import sys
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from probam.conjugacy.pairs import BetaBernoulli, ConjugatePair, DirichletMultinomial
from probam.data.table import Table
from probam.family import Moments, Params
from probam.fits.attributes import describe
from probam.inference.common.coordinates import Coordinates
from probam.inference.common.result import EngineResult
from probam.inference.stream.particles import Particles
from probam.inference.stream.state import StreamState
from probam.models.mixture import Mixture
from probam.streams.prior import fixed_sites, integrates_all, stream_pair

__all__ = [
    "by_size",
    "draw_sites",
    "fit_attributes",
    "particle_totals",
    "slots_by_size",
    "weights_name",
    "weights_options",
]


_OPTIONS = ("rule", "energy", "warm", "tidy_every", "particles", "rejuvenate_every", "window")


def weights_name(said: Mapping[str, Any]) -> str:
    """Weight prior of a fit whose stream had these options."""
    return "pyp" if said["discount"] else "dp"


def weights_options(said: Mapping[str, Any]) -> dict[str, Any]:
    """Its numbers."""
    return {"alpha": said["alpha"]} | ({"discount": said["discount"]} if said["discount"] else {})


def slots_by_size(state: StreamState) -> Int[np.ndarray, " L"]:
    """Slots that hold memories, most data first, older ones first where they hold as many."""
    ident, counts = np.asarray(state.ident), np.asarray(state.counts)
    live = np.flatnonzero(ident >= 0)
    return live[np.lexsort((ident[live], -counts[live]))]


def by_size(state: StreamState, num_memories: int) -> tuple[Float[np.ndarray, " M"], Float[np.ndarray, "M F"]]:
    """Counts and sums of the memories, largest first, and of empty ones up to ``num_memories``."""
    slots = slots_by_size(state)
    pad = (0, num_memories - len(slots))
    return np.pad(np.asarray(state.counts)[slots], pad), np.pad(np.asarray(state.sums)[slots], (pad, (0, 0)))


def particle_totals(
    key: jax.Array, particles: Particles, num_draws: int, num_memories: int
) -> tuple[Float[np.ndarray, "S M"], Float[np.ndarray, "S M F"]]:
    """:func:`by_size` of particles drawn by weight (systematically: floor or ceil of their share of the draws)."""
    shares = np.exp(np.asarray(particles.log_weights, np.float64)).cumsum()
    places = (np.arange(num_draws) + float(jax.random.uniform(key))) / num_draws * shares[-1]
    parents = np.minimum(np.searchsorted(shares, places, side="right"), len(shares) - 1)
    parents = np.random.default_rng(np.asarray(jax.random.key_data(key))).permutation(parents)
    totals = {
        int(p): by_size(jax.tree.map(lambda leaf, p=p: leaf[p], particles.states), num_memories)
        for p in np.unique(parents)
    }
    counts, sums = zip(*(totals[int(p)] for p in parents), strict=True)
    return np.stack(counts), np.stack(sums)


def draw_sites(
    key: jax.Array,
    model: Mixture,
    known: Mapping[str, np.ndarray],
    x: Float[np.ndarray, "N D"],
    counts: Float[np.ndarray, "S M"],
    sums: Float[np.ndarray, "S M F"],
    *,
    pair: ConjugatePair | None = None,
    seats: Float[np.ndarray, "S M"] | None = None,
) -> tuple[dict[str, np.ndarray], Float[np.ndarray, "1 S"]]:
    """One draw of all sites given each of S partitions, and the log joint density with the rows ``x`` (one chain).

    ``pair`` replaces the family's own, ``seats`` the counts that the weights are drawn from.
    """
    family, prior, dtype = model.family, model.prior, x.dtype
    if pair is None:
        pair = stream_pair(family, prior, known, model.num_components, dtype).pair
    seats = counts if seats is None else seats
    fixed = fixed_sites(family, prior, known, model.num_components, dtype)
    integrated = integrates_all(family, prior, known)
    coordinates = Coordinates(model)

    @jax.jit
    def draw(key: jax.Array, counts: jax.Array, sums: jax.Array, seats: jax.Array) -> tuple[Params, jax.Array]:
        key_pair, key_rest, key_weights = jax.random.split(key, 3)
        sites = pair.draw(key_pair, counts, sums)
        sites = family.integrated_sites(sites) if integrated else _inside(pair, sites)
        missing = [site for site in prior if site not in sites]
        if isinstance(pair, DirichletMultinomial):  # how many counts a row has, which no label knows of
            moments = Moments(counts, sums, jnp.zeros_like(sums[0]))
            drawn = family.draw(key_rest, moments, fixed, prior)
            sites = sites | {site: drawn[site] for site in missing}
        else:
            sites = sites | {site: fixed[site] for site in missing}
        sites = sites | model.weights.draw_given_partition(key_weights, seats, sites)
        sites = {name: jnp.asarray(value, dtype) for name, value in sites.items()}
        free = coordinates.unconstrain({name: sites[name] for name in coordinates.transforms})
        return sites | model.deterministics(sites), coordinates.log_joint(free, jnp.asarray(x))

    drawn = [
        jax.tree.map(np.asarray, draw(jax.random.fold_in(key, i), *map(jnp.asarray, partition)))
        for i, partition in enumerate(zip(counts, sums, seats, strict=True))
    ]
    sites, lp = jax.tree.map(lambda *values: np.stack(values)[None], *drawn)
    return sites, lp


def _inside(pair: ConjugatePair, sites: Params) -> Params:
    """Probabilities kept off 0 and 1 by one rounding."""
    if not isinstance(pair, BetaBernoulli | DirichletMultinomial):
        return sites
    limits = np.finfo(sites["prob"].dtype)
    return {"prob": jnp.clip(sites["prob"], limits.tiny, 1 - limits.epsneg)}


def fit_attributes(
    said: Mapping[str, Any],
    model: Mixture,
    table: Table,
    result: EngineResult,
    *,
    num_data: int,
    dtype: np.dtype[Any],
) -> dict[str, Any]:
    """Root attributes of the fit of a stream with the options ``said``."""
    weights = weights_name(said)
    return {
        "probam_version": version("probam"),
        "family": said["family"],
        "family_options": {"covariance": said["covariance"]} if said["covariance"] else {},
        "weights": weights,
        "weights_options": weights_options(said),
        "num_components": model.num_components,
        "engine": "stream",
        "engine_options": {name: said[name] for name in _OPTIONS},
        "status": result.status,
        "seed": said["seed"],
        "dtype": str(dtype),
        "source": "stream",
        "standardised": int(said["standardise"]),
        "num_streamed": num_data,
        "model": "; ".join(
            (describe(model, table, weights, said["alpha"], said["discount"], streamed=num_data), result.note)
        ),
        "truncation": None,
        "versions": {name: version(name) for name in ("probam", "jax", "numpyro", "optax", "numpy", "xarray")}
        | {"python": sys.version.split()[0]},
    }
