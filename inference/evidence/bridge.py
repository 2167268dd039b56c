r"""The log evidence from draws of the posterior, by bridge sampling.

For any function h that is positive where both densities are, with unnormalised posterior q and normalised proposal g,

.. math:: Z = \int q = \frac{E_g[h q]}{E_p[h g]}

(Meng & Wong 1996, Statistica Sinica 6). The best h is :math:`1 / (s_1 q / Z + s_2 g)`, which needs Z and is iterated.
g is a normal distribution of the unconstrained coordinates, fitted to the first half of each chain; the identity is
evaluated on the second halves. The relative error is that of Fruehwirth-Schnatter (2004,
doi:10.1111/j.1368-423X.2004.00125.x), with the effective number of draws instead of their number.

**Label switching.** Under exchangeable weights (uniform, Dirichlet) the posterior has K! copies of each mode, and a
chain has visited only some of them. A normal proposal at one of them would give Z / K! if the chain stayed there, and
something in between if it did not. So the proposal is made symmetric,

.. math:: g_{sym}(\theta) = \frac{1}{K!} \sum_\sigma g(\sigma \theta),

where g is fitted to relabelled draws. q, g_sym and therefore h do not change when memories are renumbered. So the
labelling of a draw or a proposal does not matter, nor whether the chains have switched: the identity holds exactly.
(Where the copies do not overlap this is the familiar rule: fit at one copy, and add log K!.) The sum runs over all
permutations, which limits K to 6. Stick-breaking and fixed weights are not exchangeable: there the draws must have
visited every mode, and a normal proposal may fit badly; the relative error shows how badly. Known labels that tell all
memories apart number them: there is one mode, and nothing to sum over.
"""

import itertools
import math
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import arviz_stats
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float, Int
from scipy.special import expit

from probam.errors import InputError, NumericalError
from probam.family import Model, Params
from probam.inference.common.coordinates import Coordinates
from probam.inference.common.result import Evidence
from probam.inference.common.rows import numbers_memories
from probam.placement import each

__all__ = ["EXCHANGEABLE", "MOST_MEMORIES", "log_evidence"]

EXCHANGEABLE = ("uniform", "dirichlet")
"""Weight priors under which renumbering the memories changes nothing."""

MOST_MEMORIES = 6
"""K up to which the proposal is summed over all K! labellings."""

_MOST_ITERATIONS = 1000

_arviz: Any = arviz_stats  # it has no types


class _Normal(NamedTuple):
    """A normal distribution of the unconstrained coordinates."""

    mean: Float[Array, " F"]
    factor: Float[Array, "F F"]  # lower Cholesky factor of the covariance

    def log_density(self, z: Float[Array, " F"]) -> Float[Array, ""]:
        white = solve_triangular(self.factor, z - self.mean, lower=True)
        log_det = jnp.sum(jnp.log(jnp.diagonal(self.factor)))
        return -0.5 * white @ white - log_det - 0.5 * z.size * jnp.log(2 * jnp.pi)


def _renumber(model: Model, params: Params, permutation: jax.Array) -> Params:
    """Site values with the memories in another order."""
    owned = {name for name in model.prior if name not in model.family.shared} | {"proportions"}
    return {name: value[permutation] if name in owned else value for name, value in params.items()}


def _log_jacobian(coordinates: Coordinates, free: Params, params: Params) -> jax.Array:
    """log |d site values / d unconstrained values|."""
    terms = [
        jnp.sum(law.log_abs_det_jacobian(free[name], params[name])) for name, law in coordinates.transforms.items()
    ]
    return sum(terms, jnp.zeros(()))


@jax.jit
def _to_free(model: Model, sites: Params, permutations: Int[Array, "S K"] | None) -> Float[Array, "S F"]:
    """Relabelled draws as vectors of unconstrained coordinates."""
    coordinates = Coordinates(model)

    def one(params: Params, permutation: jax.Array | None) -> jax.Array:
        if permutation is not None:
            params = _renumber(model, params, permutation)
        return ravel_pytree(coordinates.unconstrain(params))[0]

    return jax.vmap(one, (0, None if permutations is None else 0))(sites, permutations)


@partial(jax.jit, static_argnames="symmetric")
def _log_ratio(
    model: Model, x: jax.Array, z: Float[Array, "S F"], normal: _Normal, *, symmetric: bool
) -> Float[Array, " S"]:
    """log q - log g (or g made symmetric) at unconstrained vectors."""
    coordinates = Coordinates(model)
    _, unravel = ravel_pytree({name: zero.astype(z.dtype) for name, zero in coordinates.zeros.items()})
    labellings = jnp.asarray(list(itertools.permutations(range(model.num_components)))) if symmetric else None

    def one(z: jax.Array) -> jax.Array:
        free = unravel(z)
        log_joint = coordinates.log_joint(free, x)
        if labellings is None:
            return log_joint - normal.log_density(z)
        params = coordinates.constrain(free)

        def renumbered(permutation: jax.Array) -> jax.Array:
            moved = _renumber(model, params, permutation)
            at = coordinates.unconstrain(moved)
            return normal.log_density(ravel_pytree(at)[0]) - _log_jacobian(coordinates, at, moved)

        # as densities of the site values: renumbering keeps their volume, but not that of the coordinates
        log_proposal = jax.nn.logsumexp(jax.vmap(renumbered)(labellings)) - math.lgamma(model.num_components + 1)
        return log_joint - _log_jacobian(coordinates, free, params) - log_proposal

    return jnp.asarray(each(one, z, numbers=x.size * model.num_components))


def log_evidence(
    key: jax.Array,
    model: Model,
    x: Float[Array, "N D"],
    sites: Mapping[str, Float[np.ndarray, "C S ..."]],
    *,
    permutations: Int[np.ndarray, "C S K"] | None = None,
    num_proposals: int | None = None,
) -> Evidence:
    """Log evidence of the data ``x`` (model units, nats); ``se`` is the relative error of the evidence.

    Args:
        sites: posterior draws of a sampler.
        permutations: for exchangeable weights, memory ``permutations[c, s, k]`` of a draw is memory k after
            relabelling. It only improves the fit of the proposal; None takes the draws as they are numbered.
        num_proposals: draws of the proposal; by default as many as posterior draws in the second halves.

    Raises:
        InputError: with too few draws for the fit, or exchangeable weights and more than ``MOST_MEMORIES`` memories.
        NumericalError: when no bridge exists, because proposal and posterior hardly overlap.
    """
    alike = model.weights.name in EXCHANGEABLE and not numbers_memories(model.row_weight)
    symmetric = alike and model.num_components > 1
    if symmetric and model.num_components > MOST_MEMORIES:
        raise InputError(
            f"evidence: bridge sampling sums over all labellings, for at most {MOST_MEMORIES} memories; this model has "
            f"{model.num_components}: use engine 'smc', which needs no proposal"
        )
    z = _unconstrained_draws(model, sites, permutations if symmetric else None)
    half = z.shape[1] // 2
    mean, factor = _fitted_normal(z[:, :half].reshape(-1, z.shape[2]), z.shape[0] * z.shape[1])
    kept = z[:, half:]
    rows = kept.reshape(-1, z.shape[2])
    noise = np.asarray(jax.random.normal(key, (num_proposals or len(rows), z.shape[2]), jnp.asarray(x).dtype))
    proposed = mean + noise @ factor.T
    normal = _Normal(*(jnp.asarray(value, x.dtype) for value in (mean, factor)))
    ratio = np.asarray(
        _log_ratio(model, x, jnp.asarray(np.concatenate([rows, proposed]), x.dtype), normal, symmetric=symmetric),
        np.float64,
    )
    at_posterior, at_proposal = ratio[: len(rows)], ratio[len(rows) :]
    at_proposal = np.where(np.isnan(at_proposal), -np.inf, at_proposal)  # beyond the finite numbers: no density there
    if not np.isfinite(at_posterior).all():
        raise NumericalError("evidence: the log joint density is not finite at some draws; standardise the data")
    return _bridge(at_posterior.reshape(kept.shape[:2]), at_proposal)


def _unconstrained_draws(
    model: Model, sites: Mapping[str, Float[np.ndarray, "C S ..."]], permutations: Int[np.ndarray, "C S K"] | None
) -> Float[np.ndarray, "C S F"]:
    """Draws in unconstrained coordinates, relabelled where there are permutations."""
    draws = {name: jnp.asarray(sites[name]) for name in Coordinates(model).transforms}
    shape = next(iter(draws.values())).shape[:2]
    flat = {name: value.reshape(-1, *value.shape[2:]) for name, value in draws.items()}
    order = None
    if permutations is not None:
        order = jnp.asarray(np.asarray(permutations).reshape(-1, model.num_components))
    return np.asarray(_to_free(model, flat, order), np.float64).reshape(*shape, -1)


def _fitted_normal(
    z: Float[np.ndarray, "S F"], num_draws: int
) -> tuple[Float[np.ndarray, " F"], Float[np.ndarray, "F F"]]:
    """Mean and Cholesky factor of the covariance of draws, which are half of ``num_draws``."""
    size = z.shape[1]
    if len(z) < 2 * size + 10:
        raise InputError(
            f"evidence: bridge sampling fits {size} coordinates to half of the draws and needs {4 * size + 20} draws; "
            f"got {num_draws}"
        )
    return z.mean(axis=0), np.linalg.cholesky(np.cov(z, rowvar=False).reshape(size, size))


def _bridge(at_posterior: Float[np.ndarray, "C S"], at_proposal: Float[np.ndarray, " M"]) -> Evidence:
    """The optimal bridge from log q - log g at posterior draws and at proposals, iterated to its fixed point."""
    effective = _effective(at_posterior)
    share = effective / (effective + at_proposal.size)  # s_1; s_2 is 1 - share
    offset = float(np.median(at_posterior))
    upper, lower = at_proposal - offset, at_posterior.ravel() - offset
    log_z = 0.0
    for _ in range(_MOST_ITERATIONS):
        # q / (s_1 q / Z + s_2 g) = Z sigmoid(l - c) / s_1, g / (s_1 q / Z + s_2 g) = sigmoid(c - l) / s_2
        centre = log_z + np.log1p(-share) - np.log(share)
        above, below = expit(upper - centre), expit(centre - lower)
        if above.mean() <= 0 or below.mean() <= 0:
            break
        fresh = log_z + np.log(above.mean()) - np.log(below.mean()) + np.log1p(-share) - np.log(share)
        if abs(fresh - log_z) < 1e-10:
            variance = above.var(ddof=1) / above.size / above.mean() ** 2
            chains = below.reshape(at_posterior.shape)
            variance += below.var(ddof=1) / _effective(chains) / below.mean() ** 2
            value = fresh + offset
            return Evidence(np.asarray([value]), value, float(np.sqrt(variance)), "bridge sampling")
        log_z = fresh
    raise NumericalError(
        "evidence: bridge sampling found no bridge: the normal proposal hardly overlaps the posterior (several "
        "modes, or too few draws); use engine 'smc'"
    )


def _effective(values: Float[np.ndarray, "C S"]) -> float:
    """Effective number of draws of one quantity, at most their number."""
    if np.ptp(values) == 0:
        return float(values.size)
    size = float(_arviz.ess(values, method="mean"))
    return min(max(size, 1.0), float(values.size)) if np.isfinite(size) else float(values.size)
