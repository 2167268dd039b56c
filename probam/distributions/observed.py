r"""Densities of data with missing entries: the density of a row is that of its observed entries.

A missing entry is NaN. The density of the observed entries o of a row under a memory is the memory's marginal density:
a product over the observed features where features are independent within a memory, and
:math:`\mathcal N(x_o \mid \mu_o, \Sigma_{oo})` for a Gaussian with full covariance. That is the likelihood of the
observed data if entries are missing at random (Rubin, 1976). The distribution of the missing entries given the observed
ones is in :mod:`probam.distributions.conditional`.

A matrix of the observed features is stored as a D x D matrix that is zero or identity elsewhere, so that all patterns
of missing features have the same shape.
"""

from functools import singledispatch
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, Bool, Float
from numpyro.distributions import Distribution

from probam.distributions.bits import SpinBernoulli
from probam.distributions.pairwise import Densities, gaussian_spread, origin, rays, upper_triangle
from probam.errors import InputError
from probam.placement import each

__all__ = [
    "Marginal",
    "marginal",
    "memory_covariances",
    "observed_densities",
    "observed_log_prob",
    "pattern_log_prob",
]

_AT_ONCE = 2**20
"""Largest number of entries in the matrices of a block of rows (rows x K x D x D) on a CPU."""


class Marginal(NamedTuple):
    """Precision and log determinant of the observed features, for each memory."""

    precision: Float[Array, "K D D"]  # inverse of the covariance of the observed features, zero elsewhere
    half_log_det: Float[Array, " K"]  # of that covariance


def marginal(covariance: Float[Array, "K D D"], known: Bool[Array, " D"]) -> Marginal:
    """Inverse covariance of the observed features.

    Args:
        covariance: one matrix for each memory.
        known: True where a feature is observed.
    """
    both = known[:, None] & known[None, :]
    identity = jnp.eye(known.shape[0], dtype=covariance.dtype)
    factor = jnp.linalg.cholesky(jnp.where(both, covariance, identity))
    half = jax.scipy.linalg.solve_triangular(factor, jnp.broadcast_to(identity, factor.shape), lower=True)
    inverse = jnp.matmul(jnp.swapaxes(half, -1, -2), half, precision="highest")
    log_det = jnp.sum(jnp.log(jnp.diagonal(factor, axis1=-2, axis2=-1)), axis=-1)
    return Marginal(jnp.where(both, inverse, 0), log_det)


def memory_covariances(bank: dist.MultivariateNormal) -> Float[Array, "K D D"]:
    """Each memory's covariance, in the dtype of the locations."""
    num_features = bank.event_shape[0]
    matrix = jnp.matmul(bank.scale_tril, jnp.swapaxes(bank.scale_tril, -1, -2), precision="highest")
    return jnp.broadcast_to(matrix.astype(bank.loc.dtype), (*bank.batch_shape, num_features, num_features))


def pattern_log_prob(bank: Distribution, x: Float[Array, "N D"]) -> Float[Array, "N K"]:
    """Log density (nats) of the observed entries of rows that all lack the same features (NaN)."""
    return _pattern_densities(bank, x).here


def _pattern_densities(bank: Distribution, x: Float[Array, "N D"]) -> Densities:
    assert isinstance(bank, dist.MultivariateNormal), "other banks have no matrix to invert"
    known = ~jnp.isnan(x[0])
    loc = jnp.broadcast_to(bank.loc, bank.shape())
    zero = origin(loc)
    loc = loc - zero
    moved = rays(jnp.where(known, x - zero, 0), gaussian_spread(bank, loc))
    precision, half_log_det = marginal(memory_covariances(bank), known)
    rows, columns = jnp.triu_indices(bank.event_shape[0])
    square = precision[:, rows, columns] * jnp.where(rows == columns, 1, 2).astype(x.dtype)
    linear = jnp.einsum("kij,kj->ki", precision, loc, precision="highest")
    constant = (
        -0.5 * jnp.sum(known) * jnp.log(jnp.asarray(2 * jnp.pi, x.dtype))
        - half_log_det
        - 0.5 * jnp.sum(loc * linear, axis=-1)
    )
    quadratic = -0.5 * _dot(upper_triangle(moved.centred), square.T)
    return moved.quadratic(constant, _dot(moved.centred, linear.T), quadratic)


def observed_log_prob(bank: Distribution, x: Float[Array, "N D"]) -> Float[Array, "N K"]:
    """Log density (nats) of the observed entries of each row under each memory.

    Args:
        bank: the memories, with batch shape (K,) and event shape (D,).
        x: data, NaN where an entry is missing. A row without observed entries has log density 0.

    Raises:
        InputError: for a family without marginal densities.
    """
    return observed_densities(bank, x).here


@singledispatch
def observed_densities(bank: Distribution, x: Float[Array, "N D"]) -> Densities:
    """:func:`observed_log_prob` at the rows and moved in to the largest radius; a family registers its own."""
    if isinstance(bank, dist.Independent):
        return _independent_densities(bank.base_dist, bank, x)
    raise _unknown(bank)


@singledispatch
def _independent_densities(base: Distribution, _bank: Distribution, _x: jax.Array) -> Densities:
    raise _unknown(base)


def _unknown(bank: Distribution) -> InputError:
    return InputError(
        f"data: entries are missing, and the marginal density of a {type(bank).__name__} is not known; "
        "leave those rows out or impute the values first"
    )


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.matmul(a, b, precision="highest")


def _known(x: jax.Array, zero: jax.Array | float) -> tuple[jax.Array, jax.Array]:
    """One where an entry is observed; the data relative to ``zero``, zero where they are missing."""
    known = ~jnp.isnan(x)
    return known.astype(x.dtype), jnp.where(known, x - zero, 0)


@_independent_densities.register
def _(base: dist.Normal, bank: Distribution, x: jax.Array) -> Densities:
    loc = jnp.broadcast_to(base.loc, bank.shape())
    zero = origin(loc)
    loc, (known, centred) = loc - zero, _known(x, zero)
    moved = rays(centred, gaussian_spread(base, loc))
    precision = jnp.broadcast_to(jnp.asarray(base.scale), bank.shape()) ** -2
    constant = 0.5 * (jnp.log(precision / (2 * jnp.pi)) - precision * loc**2)
    linear, square = _dot(moved.centred, (precision * loc).T), -0.5 * _dot(moved.centred**2, precision.T)
    return moved.quadratic(_dot(known, constant.T), linear, square)


@_independent_densities.register(dist.BernoulliProbs)
@_independent_densities.register(dist.BernoulliLogits)
def _(base: dist.BernoulliProbs | dist.BernoulliLogits, bank: Distribution, x: jax.Array) -> Densities:
    logits, (known, bits) = jnp.broadcast_to(base.logits, bank.shape()), _known(x, 0)
    log_prob = _dot(bits, logits.T) - _dot(known, jax.nn.softplus(logits).T)
    return Densities(log_prob, log_prob)


@_independent_densities.register
def _(base: SpinBernoulli, bank: Distribution, x: jax.Array) -> Densities:
    fields, (known, spins) = jnp.broadcast_to(base.fields, bank.shape()), _known(x, 0)
    log_prob = _dot(spins, fields.T) - _dot(known, jnp.logaddexp(fields, -fields).T)
    return Densities(log_prob, log_prob)


@observed_densities.register
def _(bank: dist.MultivariateNormal, x: jax.Array) -> Densities:
    def of_row(row: jax.Array) -> Densities:
        here, nearby = _pattern_densities(bank, row[None])
        return Densities(here[0], nearby[0])

    per_row = bank.batch_shape[0] * bank.event_shape[0] ** 2
    on_cpu = min(len(x), max(1, _AT_ONCE // per_row))
    densities: Densities = each(of_row, x, numbers=per_row, on_cpu=on_cpu)
    return densities
