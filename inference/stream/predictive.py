r"""Posterior predictive densities of many memories, kept so that one datum costs O(K D).

A memory is known by how many data it holds and the sum of their statistics (``probam.conjugacy.pairs``).
:func:`prepare` turns these into the numbers that its predictive density is made of; a stream does that for the one
memory that a datum joined and leaves the others alone. :func:`log_predictive` then scores a datum under all of them. An
empty memory (count 0) is the base measure: its predictive is that of a new memory.

=============================== ==================== =========================================================
pair                            predictive           cost of a datum, and of the memory that it joins
=============================== ==================== =========================================================
``NormalKnownVariance``         Gaussian             K D (K D + D^2 with a basis), D (D^2)
``NormalGamma``                 product of Student-t K D, D
``NormalWishart``               multivariate Student K D^2, D^3
``DirectionOfVonMisesFisher``   ratio of normalisers K D, D
``DirectionAndConcentration``   a mixture of these   K (D + J), D + J for J concentrations
``BetaBernoulli``               Bernoulli            K D, D
``DirichletMultinomial``        Dirichlet compound   K D, D
any other                       ratio of marginals   that of ``log_marginal``
=============================== ==================== =========================================================

:class:`PointLocations` replaces the predictive of Gaussians of known variance by what Eq. 12 of Schaeffer et al. (2023)
says of memories whose places are taken as known.
"""

from dataclasses import dataclass, field
from functools import singledispatch
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float

from probam.conjugacy.mean_field_direction import DirectionAndConcentration
from probam.conjugacy.normal import NormalGamma, NormalKnownVariance, NormalWishart, symmetric
from probam.conjugacy.pairs import (
    BetaBernoulli,
    ConjugatePair,
    DirectionOfVonMisesFisher,
    DirichletMultinomial,
)
from probam.numerics.bessel import log_normalizer_scaled
from probam.numerics.log_gamma import log_gamma_ratio
from probam.pytrees import pytree

__all__ = ["PointLocations", "known_variance", "locations", "log_predictive", "prepare"]


@pytree
@dataclass(frozen=True)
class PointLocations:
    r"""Gaussians of known variance whose places are taken as known: their posterior means.

    .. math:: p(x \mid k) = N(x \mid m_k, \Sigma), \qquad p(x \mid {\rm new}) = N(x \mid m, \Sigma + S_0)

    Eq. 12 of Schaeffer et al. (2023) with the normaliser of the new memory; ``normalised=False`` leaves it out as the
    paper does, which multiplies the new memory's weight by
    :math:`\prod_i (1 + s_i^2 / \sigma_i^2)^{1/2} = (1 + \beta / \rho)^{D/2}`
    (memories :math:`N(\mu_k, I / (2 \beta))`, base :math:`N(0, I / (2 \rho))`). No density then.
    """

    pair: NormalKnownVariance
    normalised: bool = field(default=True, metadata={"static": True})


@singledispatch
def prepare(pair: Any, counts: Float[Array, " K"], sums: Float[Array, "K F"]) -> Any:
    """What :func:`log_predictive` needs of K memories; every array leads with K."""
    assert isinstance(pair, ConjugatePair)
    return counts, sums, pair.log_marginal(counts, sums)


@singledispatch
def log_predictive(pair: Any, known: Any, x: Float[Array, " D"], statistics: Float[Array, " F"]) -> Float[Array, " K"]:
    """Posterior predictive log density of a datum under each memory, less the pair's ``log_base`` (nats)."""
    del x
    counts, sums, log_marginal = known
    return jnp.asarray(pair.log_marginal(counts + 1, sums + statistics) - log_marginal)


@singledispatch
def locations(pair: Any, counts: Float[Array, " K"], sums: Float[Array, "K F"]) -> Float[Array, "K D"] | None:
    """Posterior mean of each memory as a point of the data space; None for a pair of which none is known."""
    del pair, counts, sums
    return None


# --- Gaussians of known variance ------------------------------------------------------------------------------


class _Normal(NamedTuple):
    center: Float[Array, "K D"]  # in the pair's basis, less its loc
    half_precision: Float[Array, "K D"]
    log_norm: Float[Array, " K"]


def known_variance(pair: NormalKnownVariance) -> tuple[jax.Array, jax.Array, jax.Array | None, jax.Array]:
    """Prior variance (D,), variance (D,), basis (D, D) or None, and its log volume: one for all memories."""
    if pair.basis is None:
        dim = len(pair.loc)
        return pair.prior_variance.reshape(-1, dim)[0], pair.variance.reshape(-1, dim)[0], None, jnp.zeros(())
    basis = pair.basis[0]
    return pair.prior_variance[0], pair.variance[0], basis, jnp.linalg.slogdet(basis)[1]


def _posterior_normal(
    pair: NormalKnownVariance, counts: Float[Array, " K"], sums: Float[Array, "K F"]
) -> tuple[jax.Array, jax.Array]:
    """Posterior mean (in the basis, less loc) and precision of the locations."""
    prior_variance, variance, basis, _ = known_variance(pair)
    first = sums[:, : len(pair.loc)]
    if basis is not None:
        first = jnp.matmul(first, basis.T, precision="highest")
    precision = 1 / prior_variance + counts[:, None] / variance
    return first / (variance * precision), precision


def _normal(center: jax.Array, variance: jax.Array, log_volume: jax.Array) -> _Normal:
    log_norm = log_volume - 0.5 * jnp.sum(jnp.log(2 * jnp.pi * variance), axis=-1)
    return _Normal(center, 0.5 / variance, log_norm.astype(center.dtype))


@prepare.register
def _(pair: NormalKnownVariance, counts: jax.Array, sums: jax.Array) -> _Normal:
    _, variance, _, log_volume = known_variance(pair)
    mean, precision = _posterior_normal(pair, counts, sums)
    return _normal(mean, variance + 1 / precision, log_volume)


@prepare.register
def _(pair: PointLocations, counts: jax.Array, sums: jax.Array) -> _Normal:
    prior_variance, variance, _, log_volume = known_variance(pair.pair)
    mean, _ = _posterior_normal(pair.pair, counts, sums)
    empty = counts[:, None] == 0
    known = _normal(mean, jnp.where(empty, variance + prior_variance, variance), log_volume)
    if pair.normalised:
        return known
    missing = 0.5 * jnp.sum(jnp.log1p(prior_variance / variance))
    return known._replace(log_norm=known.log_norm + jnp.where(counts == 0, missing, 0))


@locations.register
def _(pair: NormalKnownVariance, counts: jax.Array, sums: jax.Array) -> jax.Array:
    mean, _ = _posterior_normal(pair, counts, sums)
    return pair.loc + (mean if pair.basis is None else jnp.linalg.solve(pair.basis[0], mean.T).T)


@log_predictive.register
def _(pair: NormalKnownVariance, known: _Normal, x: jax.Array, _statistics: jax.Array) -> jax.Array:
    place = x - pair.loc if pair.basis is None else jnp.sum(pair.basis[0] * (x - pair.loc), axis=-1)
    return known.log_norm - jnp.sum(known.half_precision * (place - known.center) ** 2, axis=-1)


@log_predictive.register
def _(pair: PointLocations, known: _Normal, x: jax.Array, statistics: jax.Array) -> jax.Array:
    return log_predictive(pair.pair, known, x, statistics)


# --- Gaussians of unknown variance ----------------------------------------------------------------------------


class _Student(NamedTuple):
    mean: Float[Array, "K D"]  # less the pair's loc
    scale: jax.Array  # (K, J): 1 / (degrees of freedom times squared width)
    tail: jax.Array  # (K, J): half of degrees of freedom plus dimension
    log_norm: Float[Array, " K"]


def _pooled(pair: NormalGamma, square: jax.Array) -> jax.Array:
    """Features that share a precision, summed."""
    return square if len(pair.shape) == square.shape[-1] else jnp.sum(square, axis=-1, keepdims=True)


@prepare.register
def _(pair: NormalGamma, counts: jax.Array, sums: jax.Array) -> _Student:
    half = 0.5 * len(pair.loc) / len(pair.shape)  # what a datum adds to the shape
    _, mean, rate = pair.begin(counts, sums)
    weight = (pair.relative + counts)[:, None]
    share = weight / (weight + 1)
    shape = pair.shape + half * counts[:, None]
    log_norm = log_gamma_ratio(shape, half) + half * jnp.log(share / (2 * jnp.pi * rate))
    return _Student(mean, 0.5 * share / rate, shape + half, jnp.sum(log_norm, axis=-1))


@log_predictive.register
def _(pair: NormalGamma, known: _Student, x: jax.Array, _statistics: jax.Array) -> jax.Array:
    square = _pooled(pair, (x - pair.loc - known.mean) ** 2)
    return known.log_norm - jnp.sum(known.tail * jnp.log1p(known.scale * square), axis=-1)


@locations.register(NormalGamma)
@locations.register(NormalWishart)
def _(pair: NormalGamma | NormalWishart, counts: jax.Array, sums: jax.Array) -> jax.Array:
    return pair.loc + sums[:, : len(pair.loc)] / (pair.relative + counts)[:, None]


class _StudentFull(NamedTuple):
    whitener: Float[Array, "K D D"]  # |W x - shift|^2 = squared distance over degrees of freedom
    shift: Float[Array, "K D"]  # W of the mean; both less the pair's loc
    tail: Float[Array, " K"]
    log_norm: Float[Array, " K"]


@prepare.register
def _(pair: NormalWishart, counts: jax.Array, sums: jax.Array) -> _StudentFull:
    dim = len(pair.loc)
    weight = pair.relative + counts
    mean = sums[:, :dim] / weight[:, None]
    scatter = symmetric(sums[:, dim:], dim) - mean[:, :, None] * sums[:, None, :dim]
    factor = jnp.linalg.cholesky(pair.rate + scatter)
    share = weight / (weight + 1)
    eye = jnp.broadcast_to(jnp.sqrt(share)[:, None, None] * jnp.eye(dim, dtype=mean.dtype), factor.shape)
    whitener = jax.scipy.linalg.solve_triangular(factor, eye, lower=True)
    freedom = pair.freedom + counts
    log_det = jnp.sum(jnp.log(jnp.diagonal(factor, axis1=-2, axis2=-1)), axis=-1)
    log_norm = log_gamma_ratio((freedom + 1 - dim) / 2, dim / 2) + 0.5 * dim * jnp.log(share / jnp.pi) - log_det
    shift = jnp.sum(whitener * mean[:, None, :], axis=-1)
    return _StudentFull(whitener, shift, 0.5 * (freedom + 1), log_norm)


@log_predictive.register
def _(pair: NormalWishart, known: _StudentFull, x: jax.Array, _statistics: jax.Array) -> jax.Array:
    """All memories in one product of a matrix with the datum."""
    num_memories, dim = known.shift.shape
    whitened = jnp.matmul(known.whitener.reshape(-1, dim), x - pair.loc, precision="highest")
    off = whitened.reshape(num_memories, dim) - known.shift
    return known.log_norm - known.tail * jnp.log1p(jnp.sum(off**2, axis=-1))


# --- directions, bits, counts ---------------------------------------------------------------------------------


class _Direction(NamedTuple):
    resultant: Float[Array, "K D"]
    length: Float[Array, " K"]
    log_norm: Float[Array, " K"]  # of that length, scaled


@prepare.register
def _(pair: DirectionOfVonMisesFisher, _counts: jax.Array, sums: jax.Array) -> _Direction:
    resultant = pair.concentration.reshape(-1)[0] * sums + pair.pull
    length = jnp.linalg.norm(resultant, axis=-1)
    return _Direction(resultant, length, log_normalizer_scaled(sums.shape[-1], length))


@log_predictive.register
def _(pair: DirectionOfVonMisesFisher, known: _Direction, x: jax.Array, _statistics: jax.Array) -> jax.Array:
    r"""C(kappa) C(|R|) / C(|R + kappa x|), the exponentials taken out so that long resultants keep their digits."""
    kappa, dim = pair.concentration.reshape(-1)[0], len(x)
    cross = kappa * (2 * jnp.sum(known.resultant * x, axis=-1) + kappa)
    longer = jnp.sqrt(jnp.maximum(known.length**2 + cross, 0))
    gain = cross / jnp.where(longer + known.length > 0, longer + known.length, 1)  # |R + kappa x| - |R|
    ratio = known.log_norm - log_normalizer_scaled(dim, longer)
    return log_normalizer_scaled(dim, kappa) + ratio + (gain - kappa)


@locations.register
def _(pair: DirectionOfVonMisesFisher, counts: jax.Array, sums: jax.Array) -> jax.Array:
    resultant, length, _ = prepare(pair, counts, sums)
    return jnp.where(length[:, None] > 0, resultant / jnp.where(length > 0, length, 1)[:, None], 0)


class _Directions(NamedTuple):
    resultant: Float[Array, "K D"]  # of the data
    length: Float[Array, " K"]
    concentration: Float[Array, "K J"]  # some, which stand for its posterior
    log_norm: Float[Array, "K J"]  # their masses, and the normalisers that do not depend on the datum


@prepare.register
def _(pair: DirectionAndConcentration, counts: jax.Array, sums: jax.Array) -> _Directions:
    dim, (kappa, log_mass, length) = sums.shape[-1], pair.concentrations(counts, sums)
    norms = log_normalizer_scaled(dim, kappa) + log_normalizer_scaled(dim, kappa * length[:, None])
    return _Directions(sums, length, kappa, log_mass + norms)


@log_predictive.register
def _(_pair: DirectionAndConcentration, known: _Directions, x: jax.Array, _statistics: jax.Array) -> jax.Array:
    """The one of each concentration, by their masses."""
    cross = 2 * jnp.sum(known.resultant * x, axis=-1) + 1
    longer = jnp.sqrt(jnp.maximum(known.length**2 + cross, 0))
    gain = cross / jnp.where(longer + known.length > 0, longer + known.length, 1)  # |S + x| - |S|
    kappa = known.concentration
    ratio = known.log_norm - log_normalizer_scaled(len(x), kappa * longer[:, None])
    return logsumexp(ratio + kappa * (gain - 1)[:, None], axis=-1)


@locations.register
def _(_pair: DirectionAndConcentration, _counts: jax.Array, sums: jax.Array) -> jax.Array:
    length = jnp.linalg.norm(sums, axis=-1, keepdims=True)
    return jnp.where(length > 0, sums / jnp.where(length > 0, length, 1), 0)


class _Bits(NamedTuple):
    log_odds: Float[Array, "K D"]
    log_zeros: Float[Array, " K"]


@prepare.register
def _(pair: BetaBernoulli, counts: jax.Array, sums: jax.Array) -> _Bits:
    ones, zeros = pair.successes + sums, pair.failures + counts[:, None] - sums
    log_zeros = jnp.sum(jnp.log(zeros) - jnp.log(ones + zeros), axis=-1)
    return _Bits(jnp.log(ones) - jnp.log(zeros), log_zeros)


@log_predictive.register
def _(_pair: BetaBernoulli, known: _Bits, _x: jax.Array, statistics: jax.Array) -> jax.Array:
    return known.log_zeros + jnp.sum(known.log_odds * statistics, axis=-1)


@locations.register
def _(pair: BetaBernoulli, counts: jax.Array, sums: jax.Array) -> jax.Array:
    low, high = pair.values
    ones = pair.successes + sums
    return low + (high - low) * ones / (pair.successes + pair.failures + counts[:, None])


class _Counts(NamedTuple):
    concentration: Float[Array, "K D"]
    total: Float[Array, " K"]


@prepare.register
def _(pair: DirichletMultinomial, _counts: jax.Array, sums: jax.Array) -> _Counts:
    concentration = pair.concentration + sums
    return _Counts(concentration, jnp.sum(concentration, axis=-1))


@log_predictive.register
def _(_pair: DirichletMultinomial, known: _Counts, _x: jax.Array, statistics: jax.Array) -> jax.Array:
    each = jnp.sum(log_gamma_ratio(known.concentration, statistics), axis=-1)
    return each - log_gamma_ratio(known.total, jnp.sum(statistics))


@locations.register
def _(pair: DirichletMultinomial, counts: jax.Array, sums: jax.Array) -> jax.Array:
    """Shares of the categories."""
    concentration, total = prepare(pair, counts, sums)
    return jnp.asarray(concentration / total[:, None])
