r"""Gaussian conjugate pairs, and the draws of Gaussian parameters that Gibbs sampling is made of.

Formulas: Murphy (2007), "Conjugate Bayesian analysis of the Gaussian distribution". See
:mod:`probam.conjugacy.pairs` for what a pair is.
"""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import digamma, gammaln
from jaxtyping import Array, Float
from typing_extensions import override

from probam.conjugacy.pairs import ConjugatePair, Expectations
from probam.distributions.pairwise import upper_triangle
from probam.numerics.log_gamma import log_gamma_ratio
from probam.pytrees import pytree

__all__ = [
    "NormalGamma",
    "NormalKnownVariance",
    "NormalWishart",
    "draw_locations",
    "draw_locations_full",
    "reverse_cholesky",
    "symmetric",
    "upper_coefficients",
    "wishart_cholesky",
]


@pytree
@dataclass(frozen=True)
class NormalKnownVariance(ConjugatePair):
    r"""Gaussian data of known covariance, a Gaussian prior on their mean.

    In the coordinates y = B (x - m) both covariances are diagonal: Cov(y | mu) = diag(variance), Cov(B mu) =
    diag(prior_variance). ``basis`` None is the identity. ``variance``, ``prior_variance`` are (D,) or (K, D), ``basis``
    (K, D, D).
    """

    loc: Float[Array, " D"]
    prior_variance: jax.Array
    variance: jax.Array
    basis: jax.Array | None = None

    @classmethod
    def full(
        cls, loc: Float[Array, " D"], prior_covariance: Float[Array, "D D"], factor: Float[Array, "K D D"]
    ) -> "NormalKnownVariance":
        """For precisions L L^T given by their Cholesky factors (K, D, D): both covariances made diagonal at once."""
        spread = jnp.swapaxes(factor, -1, -2) @ (prior_covariance @ factor)
        values, vectors = jnp.linalg.eigh(spread)
        basis = jnp.swapaxes(factor @ vectors, -1, -2)
        return cls(loc, values, jnp.ones_like(values), basis)

    def statistics(self, x: jax.Array) -> jax.Array:
        """x - m and its squares (all products where there is a basis)."""
        centred = x - self.loc
        square = centred**2 if self.basis is None else upper_triangle(centred)
        return jnp.concatenate([centred, square], axis=-1)

    def _in_basis(self, sums: jax.Array) -> tuple[jax.Array, jax.Array]:
        first, second = _split(sums, self.loc)
        if self.basis is None:
            return first, second
        square = jnp.einsum("kij,kjl,kil->ki", self.basis, symmetric(second, len(self.loc)), self.basis)
        return jnp.einsum("kij,kj->ki", self.basis, first), square

    def _log_volume(self) -> jax.Array:
        if self.basis is None:
            return jnp.zeros((), self.loc.dtype)
        return jnp.asarray(jnp.linalg.slogdet(self.basis)[1])

    def _posterior(self, counts: jax.Array) -> jax.Array:
        """Posterior precision of each coordinate of the mean."""
        return 1 / self.prior_variance + counts[..., None] / self.variance

    def log_marginal(self, counts: jax.Array, sums: jax.Array) -> jax.Array:
        """Gaussian of n data with exchangeable correlation."""
        first, square = self._in_basis(sums)
        precision = self._posterior(counts)
        fit = square / self.variance - first**2 / (self.variance**2 * precision)
        width = counts[..., None] * jnp.log(2 * jnp.pi * self.variance) + jnp.log(self.prior_variance * precision)
        return -0.5 * jnp.sum(fit + width, axis=-1) + counts * self._log_volume()

    def draw(self, key: jax.Array, counts: jax.Array, sums: jax.Array) -> dict[str, jax.Array]:
        """Site ``loc``."""
        first, _ = self._in_basis(sums)
        precision = self._posterior(counts)
        noise = jax.random.normal(key, first.shape, first.dtype)
        offset = first / (self.variance * precision) + noise / jnp.sqrt(precision)
        if self.basis is not None:
            offset = jnp.linalg.solve(self.basis, offset[..., None])[..., 0]
        return {"loc": self.loc + offset}

    def begin(self, counts: jax.Array, sums: jax.Array) -> Any:
        """Counts and first moments in the basis."""
        return counts, self._in_basis(sums)[0]

    @override
    def tables(self, num_data: int) -> jax.Array:
        """Log volume of the basis, (K,) or ()."""
        return self._log_volume()

    def alone(self, k: jax.Array, tables: Any) -> tuple[ConjugatePair, Any]:
        """With that memory's basis and variances."""
        variance, prior_variance = (v[k][None] if v.ndim > 1 else v for v in (self.variance, self.prior_variance))
        if self.basis is None:
            return replace(self, variance=variance, prior_variance=prior_variance), tables
        basis = self.basis[k][None]
        return replace(self, variance=variance, prior_variance=prior_variance, basis=basis), tables[k][None]

    def _place(self, x: jax.Array) -> jax.Array:
        centred = x - self.loc
        return centred if self.basis is None else self.basis @ centred

    @override
    def predict(self, known: Any, tables: Any, x: jax.Array, statistics: jax.Array) -> jax.Array:
        """Gaussian around the posterior mean, wider by its uncertainty."""
        counts, first = known
        precision = self._posterior(counts)
        variance = self.variance + 1 / precision
        off = self._place(x) - first / (self.variance * precision)
        return jnp.asarray(-0.5 * jnp.sum(off**2 / variance + jnp.log(2 * jnp.pi * variance), axis=-1) + tables)

    @override
    def move(self, known: Any, k: jax.Array, x: jax.Array, statistics: jax.Array, sign: float) -> Any:
        """One more or one less."""
        counts, first = known
        place = jnp.broadcast_to(self._place(x), first.shape)
        return counts.at[k].add(sign), first.at[k].add(sign * place[k])


@pytree
@dataclass(frozen=True)
class NormalGamma(ConjugatePair):
    r"""Gaussian features with unknown mean and precision: :math:`\mu \mid \tau \sim N(m, 1 / (\kappa \tau))`.

    :math:`\tau \sim \mathrm{Gamma}(a, b)`, one for each feature (``shape`` and ``rate`` (D,)), or one for all of them
    (``shape`` and ``rate`` (1,)).
    """

    loc: Float[Array, " D"]
    relative: Float[Array, ""]  # kappa: the prior weighs as much as so many data
    shape: jax.Array
    rate: jax.Array

    @property
    def _half(self) -> float:
        """How much a datum adds to the shape."""
        return 0.5 * len(self.loc) / len(self.shape)

    def _pool(self, square: jax.Array) -> jax.Array:
        """Features that share a precision, summed."""
        return square if len(self.shape) == square.shape[-1] else jnp.sum(square, axis=-1, keepdims=True)

    def statistics(self, x: jax.Array) -> jax.Array:
        """x - m and its squares."""
        centred = x - self.loc
        return jnp.concatenate([centred, self._pool(centred**2)], axis=-1)

    def begin(self, counts: jax.Array, sums: jax.Array) -> Any:
        """Counts, posterior mean (less m) and posterior rate."""
        first, square = _split(sums, self.loc)
        weight = (self.relative + counts)[..., None]
        mean = first / weight
        return counts, mean, self.rate + 0.5 * jnp.maximum(square - self._pool(mean * first), 0)

    def log_marginal(self, counts: jax.Array, sums: jax.Array) -> jax.Array:
        """Product of Student-t predictive densities, in closed form."""
        return self._log_marginal(counts, self.begin(counts, sums)[2])

    def _log_marginal(self, counts: jax.Array, rate: jax.Array) -> jax.Array:
        shape = self.shape + self._half * counts[..., None]
        gammas = gammaln(shape) - gammaln(self.shape) + self.shape * jnp.log(self.rate) - shape * jnp.log(rate)
        normal = jnp.log(self.relative / (self.relative + counts)) - counts * jnp.log(2 * jnp.pi)
        return jnp.sum(gammas, axis=-1) + 0.5 * len(self.loc) * normal

    def expectations(self, counts: jax.Array, sums: jax.Array) -> Expectations:
        """From the means of the precision and its log (no derivative passes the guard of the rate)."""
        _, mean, rate = self.begin(counts, sums)
        shape = self.shape + self._half * counts[:, None]
        precision = jnp.broadcast_to(shape / rate, rate.shape)
        slope = jnp.concatenate([precision * mean, -0.5 * precision], axis=-1)
        logs = self._half * jnp.sum(digamma(shape) - jnp.log(rate), axis=-1)
        squares = jnp.sum(precision * self._pool(mean**2), axis=-1)
        constant = jnp.log(2 * jnp.pi) + 1 / (self.relative + counts)
        offset = logs - 0.5 * squares - 0.5 * len(self.loc) * constant
        return Expectations(self._log_marginal(counts, rate), slope, offset)

    def draw(self, key: jax.Array, counts: jax.Array, sums: jax.Array) -> dict[str, jax.Array]:
        """Sites ``loc`` and ``precision``; ``precision`` is (K, 1) where features share it."""
        _, mean, rate = self.begin(counts, sums)
        key_precision, key_mean = jax.random.split(key)
        shape = jnp.broadcast_to(self.shape + self._half * counts[:, None], rate.shape)
        precision = jax.random.gamma(key_precision, shape, dtype=rate.dtype) / rate
        noise = jax.random.normal(key_mean, mean.shape, mean.dtype)
        loc = self.loc + mean + noise / jnp.sqrt((self.relative + counts)[:, None] * precision)
        return {"loc": loc, "precision": precision}

    def tables(self, num_data: int) -> Float[Array, "n J"]:
        """log Gamma(a_n + h) - log Gamma(a_n) for every count, to full accuracy."""
        counts = jnp.arange(num_data + 1, dtype=self.rate.dtype)
        return log_gamma_ratio(self.shape + self._half * counts[:, None], self._half)

    @override
    def predict(self, known: Any, tables: Any, x: jax.Array, statistics: jax.Array) -> jax.Array:
        """Student-t with 2 a_n degrees of freedom."""
        counts, mean, rate = known
        weight = (self.relative + counts)[:, None]
        share = weight / (weight + 1)
        square = self._pool((x - self.loc - mean) ** 2)
        half, shape = self._half, self.shape + self._half * counts[:, None]
        terms = half * jnp.log(share / (2 * jnp.pi * rate)) - (shape + half) * jnp.log1p(0.5 * share * square / rate)
        return jnp.sum(tables[counts.astype(jnp.int32)] + terms, axis=-1)

    @override
    def move(self, known: Any, k: jax.Array, x: jax.Array, statistics: jax.Array, sign: float) -> Any:
        """Running mean and rate (Welford)."""
        counts, mean, rate = known
        weight = self.relative + counts[k]
        off = x - self.loc - mean[k]
        mean = mean.at[k].add(sign * off / (weight + sign))
        rate = rate.at[k].add(sign * 0.5 * weight / (weight + sign) * self._pool(off**2))
        return counts.at[k].add(sign), mean, rate


@pytree
@dataclass(frozen=True)
class NormalWishart(ConjugatePair):
    r"""Gaussian with unknown mean and full precision: :math:`\mu \mid \Lambda \sim N(m, (\kappa \Lambda)^{-1})`.

    :math:`\Lambda \sim \mathrm{Wishart}(\nu, R^{-1})`, with density proportional to
    :math:`|\Lambda|^{(\nu - D - 1)/2} e^{-\mathrm{tr}(R \Lambda)/2}`.
    """

    loc: Float[Array, " D"]
    relative: Float[Array, ""]  # kappa
    freedom: Float[Array, ""]  # nu
    rate: Float[Array, "D D"]  # R

    def statistics(self, x: jax.Array) -> jax.Array:
        """x - m and the products of its features."""
        centred = x - self.loc
        return jnp.concatenate([centred, upper_triangle(centred)], axis=-1)

    def _posterior(self, counts: jax.Array, sums: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Posterior mean (less m) and rate matrix."""
        first, second = _split(sums, self.loc)
        mean = first / (self.relative + counts)[:, None]
        return mean, self.rate + symmetric(second, len(self.loc)) - mean[:, :, None] * first[:, None, :]

    def log_marginal(self, counts: jax.Array, sums: jax.Array) -> jax.Array:
        """Product of Student-t predictive densities, in closed form."""
        _, rate = self._posterior(counts, sums)
        return self._log_marginal(counts, _half_log_det(rate))

    def _log_marginal(self, counts: jax.Array, half_log_det: jax.Array) -> jax.Array:
        dim = len(self.loc)
        freedom = self.freedom + counts
        steps = jnp.arange(dim)
        gammas = jnp.sum(gammaln((freedom[:, None] - steps) / 2) - gammaln((self.freedom - steps) / 2), axis=-1)
        volumes = self.freedom * _half_log_det(self.rate) - freedom * half_log_det
        normal = jnp.log(self.relative / (self.relative + counts)) - counts * jnp.log(jnp.pi)
        return gammas + volumes + 0.5 * dim * normal

    def expectations(self, counts: jax.Array, sums: jax.Array) -> Expectations:
        """From the means of the precision matrix and of its log determinant: one Cholesky factor for all of it."""
        dim = len(self.loc)
        mean, rate = self._posterior(counts, sums)
        half_log_det, precision = _half_log_det_and_inverse(rate)
        freedom = self.freedom + counts
        precision = freedom[:, None, None] * precision
        pull = jnp.sum(precision * mean[:, None, :], axis=-1)
        logs = jnp.sum(digamma((freedom[:, None] - jnp.arange(dim)) / 2), axis=-1) - 2 * half_log_det
        constant = jnp.log(jnp.pi) + 1 / (self.relative + counts)
        offset = 0.5 * (logs - dim * constant - jnp.sum(mean * pull, axis=-1))
        slope = jnp.concatenate([pull, -0.5 * upper_coefficients(precision)], axis=-1)
        return Expectations(self._log_marginal(counts, half_log_det), slope, offset)

    def draw(self, key: jax.Array, counts: jax.Array, sums: jax.Array) -> dict[str, jax.Array]:
        """Sites ``loc`` and ``precision_cholesky``."""
        mean, rate = self._posterior(counts, sums)
        key_precision, key_mean = jax.random.split(key)
        factor = wishart_cholesky(key_precision, self.freedom + counts, rate)
        noise = jax.random.normal(key_mean, mean.shape, mean.dtype) / jnp.sqrt(self.relative + counts)[:, None]
        off = jax.scipy.linalg.solve_triangular(factor, noise[..., None], trans=1, lower=True)[..., 0]
        return {"loc": self.loc + mean + off, "precision_cholesky": factor}

    def tables(self, num_data: int) -> Float[Array, " n"]:
        """log Gamma((nu_n + 1) / 2) - log Gamma((nu_n + 1 - D) / 2) - D/2 log pi for every count."""
        dim = len(self.loc)
        freedom = self.freedom + jnp.arange(num_data + 1, dtype=self.rate.dtype)
        return log_gamma_ratio((freedom + 1 - dim) / 2, dim / 2) - 0.5 * dim * jnp.log(jnp.pi)

    def begin(self, counts: jax.Array, sums: jax.Array) -> Any:
        """Counts, posterior mean (less m), inverse rate matrix and half its log determinant."""
        mean, rate = self._posterior(counts, sums)
        half_log_det, inverse = _half_log_det_and_inverse(rate)
        return counts, mean, inverse, half_log_det

    @override
    def predict(self, known: Any, tables: Any, x: jax.Array, statistics: jax.Array) -> jax.Array:
        """Multivariate Student-t with nu_n - D + 1 degrees of freedom."""
        _, mean, inverse, _ = known
        off = x - self.loc - mean
        return self._student(known, tables, jnp.sum(jnp.sum(inverse * off[:, None, :], axis=-1) * off, axis=-1))

    @override
    def predict_rows(self, known: Any, tables: Any, x: jax.Array, statistics: jax.Array) -> jax.Array:
        """Squared distances as one matrix product with the statistics."""
        _, mean, inverse, _ = known
        pull = jnp.sum(inverse * mean[:, None, :], axis=-1)
        coefficients = jnp.concatenate([-2 * pull, upper_coefficients(inverse)], axis=-1)
        square = jnp.matmul(statistics, coefficients.T, precision="highest") + jnp.sum(pull * mean, axis=-1)
        return self._student(known, tables, jnp.maximum(square, 0))

    def _student(self, known: Any, tables: Any, square: Float[Array, "*B K"]) -> Float[Array, "*B K"]:
        """Student-t densities at these squared distances (in units of the rate matrix)."""
        counts, _, _, half_log_det = known
        weight = self.relative + counts
        share = weight / (weight + 1)
        log_norm = tables[counts.astype(jnp.int32)] + 0.5 * len(self.loc) * jnp.log(share) - half_log_det
        return jnp.asarray(log_norm - 0.5 * (self.freedom + counts + 1) * jnp.log1p(share * square))

    @override
    def move(self, known: Any, k: jax.Array, x: jax.Array, statistics: jax.Array, sign: float) -> Any:
        """Rank-one change of the inverse (Sherman and Morrison 1950)."""
        counts, mean, inverse, half_log_det = known
        weight = self.relative + counts[k]
        off = x - self.loc - mean[k]
        change = sign * weight / (weight + sign)
        along = jnp.sum(inverse[k] * off, axis=-1)
        growth = change * jnp.sum(along * off)
        inverse = inverse.at[k].add(-(change / (1 + growth)) * along[:, None] * along[None, :])
        return (
            counts.at[k].add(sign),
            mean.at[k].add(sign * off / (weight + sign)),
            inverse,
            half_log_det.at[k].add(0.5 * jnp.log1p(growth)),
        )


def draw_locations(
    key: jax.Array,
    counts: Float[Array, " K"],
    sums: Float[Array, "K D"],
    precision: Float[Array, "K #D"],
    prior_loc: Float[Array, " D"],
    prior_scale: Float[Array | np.ndarray, "*#D"],
) -> Float[Array, "K D"]:
    """Means of Gaussian data of known precision (K, 1) or (K, D), under independent normal priors."""
    prior_precision = prior_scale**-2
    total = precision * counts[:, None] + prior_precision
    mean = (precision * sums + prior_precision * prior_loc) / total
    return mean + jax.random.normal(key, sums.shape, sums.dtype) / jnp.sqrt(total)


def draw_locations_full(
    key: jax.Array,
    counts: Float[Array, " K"],
    sums: Float[Array, "K D"],
    factor: Float[Array, "K D D"],
    prior_loc: Float[Array, " D"],
    prior_precision: Float[Array, "D D"],
) -> Float[Array, "K D"]:
    """Means of Gaussian data of known precision L L^T, under a normal prior."""
    precision = factor @ jnp.swapaxes(factor, -1, -2)
    pull = jnp.einsum("kij,kj->ki", precision, sums) + prior_precision @ prior_loc
    cholesky = jnp.linalg.cholesky(counts[:, None, None] * precision + prior_precision)
    half = jax.scipy.linalg.solve_triangular(cholesky, pull[..., None], lower=True)
    noise = jax.random.normal(key, half.shape, sums.dtype)
    return jnp.asarray(jax.scipy.linalg.solve_triangular(cholesky, half + noise, lower=True, trans=1)[..., 0])


def wishart_cholesky(key: jax.Array, freedom: Float[Array, " K"], rate: Float[Array, "K D D"]) -> Float[Array, "K D D"]:
    """Cholesky factors of Wishart(freedom, rate^{-1}) matrices (Bartlett 1933)."""
    key_diagonal, key_below = jax.random.split(key)
    num_memories, dim = rate.shape[:2]
    chi_square = 2 * jax.random.gamma(key_diagonal, 0.5 * (freedom[:, None] - jnp.arange(dim)), dtype=rate.dtype)
    below = jnp.tril(jax.random.normal(key_below, (num_memories, dim, dim), rate.dtype), -1)
    standard = below + jnp.sqrt(chi_square)[..., None] * jnp.eye(dim, dtype=rate.dtype)
    return jax.scipy.linalg.solve_triangular(reverse_cholesky(rate), standard, lower=True)


def reverse_cholesky(matrix: Float[Array, "*K D D"]) -> Float[Array, "*K D D"]:
    """Lower triangular C with ``matrix = C^T C``; its inverse is the Cholesky factor of the inverse matrix."""
    upper = jnp.linalg.cholesky(matrix[..., ::-1, ::-1])[..., ::-1, ::-1]
    return jnp.swapaxes(upper, -1, -2)


def symmetric(triangle: Float[Array, "*K F"], dim: int) -> Float[Array, "*K D D"]:
    """The symmetric matrices whose upper triangles are given, row by row."""
    places = np.zeros((dim, dim), np.int32)
    rows, columns = np.triu_indices(dim)
    places[rows, columns] = places[columns, rows] = np.arange(len(rows))
    return triangle[..., places]  # reading is several times faster than writing in the compiled loops of streams


def upper_coefficients(matrix: Float[Array, "*K D D"]) -> Float[Array, "*K F"]:
    """Coefficients of the products x_i x_j, i <= j, in x^T A x for symmetric A."""
    rows, columns = np.triu_indices(matrix.shape[-1])
    return matrix[..., rows, columns] * np.where(rows == columns, 1, 2).astype(matrix.dtype)


def _split(sums: jax.Array, loc: jax.Array) -> tuple[jax.Array, jax.Array]:
    return sums[..., : len(loc)], sums[..., len(loc) :]


def _half_log_det(matrix: jax.Array) -> jax.Array:
    return jnp.sum(jnp.log(jnp.diagonal(jnp.linalg.cholesky(matrix), axis1=-2, axis2=-1)), axis=-1)


def _half_log_det_and_inverse(matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Half the log determinant and the inverse of positive definite matrices, from one Cholesky factor."""
    factor = jnp.linalg.cholesky(matrix)
    eye = jnp.broadcast_to(jnp.eye(matrix.shape[-1], dtype=matrix.dtype), matrix.shape)
    half_log_det = jnp.sum(jnp.log(jnp.diagonal(factor, axis1=-2, axis2=-1)), axis=-1)
    return half_log_det, jax.scipy.linalg.cho_solve((factor, True), eye)
