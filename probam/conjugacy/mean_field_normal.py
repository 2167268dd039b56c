r"""Gaussian memories whose location and precision are independent a priori: one factor for each.

.. math:: q(\mu_k) \, q(\Lambda_k), \qquad \mu_k \sim \mathcal N(m, \mathrm{diag}(s^2)), \quad
    \Lambda_k \sim \mathrm{Gamma} \text{ or } \mathrm{Wishart}

Neither prior follows the other, so that the posterior of the two is no standard law, but each factor is conjugate
given the other (Attias 2000; Blei and Jordan 2006 for Dirichlet processes).
"""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from jax.scipy.special import digamma, gammaln
from jaxtyping import Array, Float

from probam.conjugacy.mean_field import Expected, Factors, MeanField, gamma_bound
from probam.conjugacy.normal import symmetric, upper_coefficients, wishart_cholesky
from probam.distributions.pairwise import upper_triangle
from probam.pytrees import pytree

__all__ = ["NormalAndGamma", "NormalAndWishart"]

_FIRST_ROUNDS = 3
"""Alternations of location and precision that make the first factors."""


@pytree
@dataclass(frozen=True)
class NormalAndGamma(MeanField):
    r"""Features with precisions :math:`\tau \sim \mathrm{Gamma}(a, b)`: one each, or one for all (shapes (D,) or (1,)).

    With ``is_shared`` all memories have the same precisions.
    """

    loc: Float[Array, " D"]
    scale: Float[Array, " D"]
    shape: jax.Array
    rate: jax.Array
    is_shared: bool = field(default=False, metadata={"static": True})

    def _pool(self, square: jax.Array) -> jax.Array:
        return square if len(self.shape) == square.shape[-1] else jnp.sum(square, axis=-1, keepdims=True)

    @property
    def _each(self) -> float:
        """Features to a precision."""
        return len(self.loc) / len(self.shape)

    def statistics(self, x: jax.Array) -> jax.Array:
        """x - m and its squares."""
        centred = x - self.loc
        return jnp.concatenate([centred, self._pool(centred**2)], axis=-1)

    def _factors(self, loc: jax.Array, variance: jax.Array, shape: jax.Array, rate: jax.Array) -> Factors:
        if self.is_shared:
            return Factors((loc, variance), (shape, rate))
        return Factors((loc, variance, shape, rate))

    def _read(self, factors: Factors) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        """Mean (less m) and variance of the locations, shape and rate of the precisions."""
        numbers: tuple[jax.Array, jax.Array, jax.Array, jax.Array] = (*factors.own, *factors.common)
        return numbers

    def begin(self, counts: jax.Array, sums: jax.Array) -> Factors:
        """From the prior of the precisions."""
        nowhere = jnp.zeros((len(counts), len(self.loc)), sums.dtype)
        shape, rate = self.shape, self.rate
        if not self.is_shared:
            shape, rate = (jnp.broadcast_to(a, (len(counts), len(a))) for a in (shape, rate))
        factors = self._factors(nowhere, nowhere, shape.astype(sums.dtype), rate.astype(sums.dtype))
        return _settled(self, factors, counts, sums)

    def update(self, factors: Factors, counts: jax.Array, sums: jax.Array) -> Factors:
        """Locations given the mean precisions, then precisions given the moments of the locations."""
        _, _, shape, rate = self._read(factors)
        dim = len(self.loc)
        first = sums[:, :dim]
        precision = shape / rate
        total = precision * counts[:, None] + self.scale**-2
        loc, variance = precision * first / total, 1 / total
        half = 0.5 * self._each * counts[:, None]
        scatter = jnp.maximum(self._scatter(counts, sums, loc, variance), 0)
        if self.is_shared:
            half, scatter = jnp.sum(half, axis=0), jnp.sum(scatter, axis=0)
        shape = jnp.broadcast_to(self.shape + half, scatter.shape)
        return self._factors(loc, variance, shape, self.rate + 0.5 * scatter)

    def _scatter(self, counts: jax.Array, sums: jax.Array, loc: jax.Array, variance: jax.Array) -> jax.Array:
        """Expected sum of (x - mu)^2."""
        dim = len(self.loc)
        first, square = sums[:, :dim], sums[:, dim:]
        return square + self._pool(counts[:, None] * (loc**2 + variance) - 2 * loc * first)

    def expect(self, factors: Factors, counts: jax.Array, sums: jax.Array) -> Expected:
        """Closed forms."""
        loc, variance, shape, rate = self._read(factors)
        precision, mean_log = shape / rate, digamma(shape) - jnp.log(rate)
        slope = jnp.concatenate(
            [precision * loc, jnp.broadcast_to(-0.5 * precision, (len(loc), len(self.shape)))], axis=-1
        )
        logs = 0.5 * self._each * jnp.sum(mean_log, axis=-1) - 0.5 * len(self.loc) * jnp.log(2 * jnp.pi)
        offset = logs - 0.5 * jnp.sum(precision * self._pool(loc**2 + variance), axis=-1)
        fit = -0.5 * jnp.sum(precision * self._scatter(counts, sums, loc, variance))
        precisions = jnp.sum(gamma_bound(shape, rate, self.shape, self.rate, mean_log))
        bound = jnp.sum(counts * logs) + fit + precisions + _locations_bound(loc, variance, self.scale)
        return Expected(slope, offset, bound)

    def draw(self, key: jax.Array, factors: Factors) -> dict[str, jax.Array]:
        """``loc`` (K, D) and ``precision``, (K, D) or (K, 1), or (D,) or (1,) where it is shared."""
        loc, variance, shape, rate = self._read(factors)
        key_loc, key_precision = jax.random.split(key)
        noise = jnp.sqrt(variance) * jax.random.normal(key_loc, loc.shape, loc.dtype)
        precision = jax.random.gamma(key_precision, shape, dtype=rate.dtype) / rate
        return {"loc": self.loc + loc + noise, "precision": precision}


@pytree
@dataclass(frozen=True)
class NormalAndWishart(MeanField):
    r"""Full precision matrices with density proportional to
    :math:`|\Lambda|^{(\nu - D - 1)/2} e^{-\mathrm{tr}(R \Lambda)/2}`."""

    loc: Float[Array, " D"]
    precision: Float[Array, "D D"]  # of the prior of a location
    freedom: Float[Array, ""]  # nu
    rate: Float[Array, "D D"]  # R

    def statistics(self, x: jax.Array) -> jax.Array:
        """x - m and the products of its features."""
        centred = x - self.loc
        return jnp.concatenate([centred, upper_triangle(centred)], axis=-1)

    def begin(self, counts: jax.Array, sums: jax.Array) -> Factors:
        """From the prior of the precisions."""
        dim, num_components = len(self.loc), len(counts)
        nowhere = jnp.zeros((num_components, dim), sums.dtype)
        freedom = jnp.broadcast_to(self.freedom, (num_components,)).astype(sums.dtype)
        rate = jnp.broadcast_to(self.rate, (num_components, dim, dim)).astype(sums.dtype)
        spread = jnp.zeros_like(rate)
        factors = Factors((nowhere, spread, freedom, rate))
        return _settled(self, factors, counts, sums)

    def update(self, factors: Factors, counts: jax.Array, sums: jax.Array) -> Factors:
        """Locations given the mean precisions, then precisions given the moments of the locations."""
        _, _, freedom, rate = factors.own
        precision = freedom[:, None, None] * _inverse(rate)
        first = sums[:, : len(self.loc)]
        covariance = _inverse(counts[:, None, None] * precision + self.precision)
        loc = jnp.einsum("kij,kjl,kl->ki", covariance, precision, first)
        rate = self.rate + self._scatter(counts, sums, loc, covariance)
        return Factors((loc, covariance, self.freedom + counts, rate))

    def _scatter(self, counts: jax.Array, sums: jax.Array, loc: jax.Array, covariance: jax.Array) -> jax.Array:
        """Expected sum of (x - mu)(x - mu)^T."""
        dim = len(self.loc)
        cross = loc[:, :, None] * sums[:, None, :dim]
        moment = loc[:, :, None] * loc[:, None, :] + covariance
        return symmetric(sums[:, dim:], dim) - cross - jnp.swapaxes(cross, 1, 2) + counts[:, None, None] * moment

    def expect(self, factors: Factors, counts: jax.Array, sums: jax.Array) -> Expected:
        """Closed forms."""
        loc, covariance, freedom, rate = factors.own
        dim = len(self.loc)
        steps = jnp.arange(dim)
        halves = 0.5 * (freedom[:, None] - steps)
        log_det_rate = jnp.linalg.slogdet(rate)[1]
        mean_log_det = jnp.sum(digamma(halves), axis=-1) + dim * jnp.log(2.0) - log_det_rate
        precision = freedom[:, None, None] * _inverse(rate)
        pull = jnp.einsum("kij,kj->ki", precision, loc)
        slope = jnp.concatenate([pull, -0.5 * upper_coefficients(precision)], axis=-1)
        logs = 0.5 * mean_log_det - 0.5 * dim * jnp.log(2 * jnp.pi)
        wobble = jnp.sum(precision * covariance, axis=(1, 2))
        offset = logs - 0.5 * (jnp.sum(loc * pull, axis=-1) + wobble)
        fit = -0.5 * jnp.sum(precision * self._scatter(counts, sums, loc, covariance))
        prior_halves = 0.5 * (self.freedom - steps)
        same = jnp.sum(gammaln(halves), axis=-1) - jnp.sum(gammaln(prior_halves))
        same = same + 0.5 * dim * (freedom - self.freedom) * jnp.log(2.0)
        same = same + 0.5 * self.freedom * jnp.linalg.slogdet(self.rate)[1] - 0.5 * freedom * log_det_rate
        slack = 0.5 * (self.freedom - freedom) * mean_log_det
        slack = slack - 0.5 * (jnp.sum(self.rate * precision, axis=(1, 2)) - dim * freedom)
        relative = covariance @ self.precision
        length = jnp.einsum("ki,ij,kj->k", loc, self.precision, loc)
        wide = jnp.trace(relative, axis1=1, axis2=2)
        locations = 0.5 * jnp.sum(dim + jnp.linalg.slogdet(relative)[1] - wide - length)
        return Expected(slope, offset, jnp.sum(counts * logs) + fit + jnp.sum(same + slack) + locations)

    def draw(self, key: jax.Array, factors: Factors) -> dict[str, jax.Array]:
        """``loc`` and ``precision_cholesky``."""
        loc, covariance, freedom, rate = factors.own
        key_loc, key_precision = jax.random.split(key)
        noise = jax.random.normal(key_loc, loc.shape, loc.dtype)
        off = jnp.einsum("kij,kj->ki", jnp.linalg.cholesky(covariance), noise)
        return {"loc": self.loc + loc + off, "precision_cholesky": wishart_cholesky(key_precision, freedom, rate)}


def _settled(field: MeanField, factors: Factors, counts: jax.Array, sums: jax.Array) -> Factors:
    """First factors after some alternations."""
    first: Factors = jax.lax.fori_loop(0, _FIRST_ROUNDS, lambda _, now: field.update(now, counts, sums), factors)
    return first


def _locations_bound(loc: jax.Array, variance: jax.Array, scale: jax.Array) -> jax.Array:
    """Minus the divergence of independent normals N(loc, variance) from N(0, scale^2)."""
    relative = variance / scale**2
    return 0.5 * jnp.sum(1 + jnp.log(relative) - relative - (loc / scale) ** 2)


def _inverse(matrix: jax.Array) -> jax.Array:
    """Of positive definite matrices."""
    eye = jnp.broadcast_to(jnp.eye(matrix.shape[-1], dtype=matrix.dtype), matrix.shape)
    return jax.scipy.linalg.cho_solve((jnp.linalg.cholesky(matrix), True), eye)
