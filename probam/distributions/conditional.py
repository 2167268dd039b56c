r"""The distribution of the missing entries of a datum, given the observed ones, under a mixture.

.. math::
    E[x_m \mid x_o] = \sum_k r_k(x_o) \, E_k[x_m \mid x_o], \qquad r_k(x_o) \propto w_k \, p_k(x_o)

with the marginal densities of the observed entries: the result is exact, without imputation. This mean has the least
expected squared error of all functions of x_o, so other completions are compared with it.

A family provides :func:`memory_conditional`, the conditional distribution of one memory and the marginal density of the
observed entries. Features that are independent within a memory need no function of their own; multivariate normal and
Student-t distributions use regression.
"""

from functools import singledispatch
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.scipy.special import gammaln, logsumexp
from jaxtyping import Array, Bool, Float, Int
from numpyro.distributions import Distribution

from probam.distributions.counts import MultinomialCounts
from probam.distributions.mixture import MemoryMixture
from probam.distributions.student_t import EllipticalStudentT
from probam.distributions.uniform import UniformBox
from probam.errors import InputError
from probam.numerics.log_gamma import log_gamma_ratio
from probam.placement import each

__all__ = ["Conditional", "Correlated", "MemoryConditional", "conditional", "memory_conditional", "pooled"]

_AT_ONCE = 2**22
"""Largest number of entries in a block of rows (rows x K x D; with matrices, rows x K x D x D) on a CPU."""


class Correlated(NamedTuple):
    """Features of each memory that depend on each other: a centre, and a root of the covariance or scale matrix.

    The degrees of freedom are those of Student-t distributions, None for normal ones.
    """

    loc: Float[Array, "K D"]
    root: Float[Array, "K D D"]  # A of A A^T
    df: Float[Array, " K"] | None

    def sample(self, key: jax.Array) -> Float[Array, "K D"]:
        """One draw of each memory."""
        key_normal, key_gamma = jax.random.split(key)
        normal = jax.random.normal(key_normal, self.loc.shape, self.loc.dtype)
        gap = _applied(self.root, normal)
        if self.df is not None:
            half = 0.5 * self.df
            gap = gap / jnp.sqrt(jax.random.gamma(key_gamma, half, dtype=self.loc.dtype) / half)[:, None]
        return self.loc + gap


class MemoryConditional(NamedTuple):
    """Each memory's log density of the observed entries (nats), and its law of the missing entries given those.

    Laws also have values for observed entries, which mean nothing.
    """

    log_marginal: Float[Array, " K"]
    features: Distribution
    """Of each entry alone, batch shape (K, D)."""
    joint: Distribution | Correlated
    """Of all missing entries together: its ``sample(key)`` is (K, D)."""

    def moments(self) -> tuple[Float[Array, "K D"], Float[Array, "K D"]]:
        """Mean and variance of each entry alone.

        Both are infinite where the tails are too heavy for a mean, the variance where they are too heavy for one.
        """
        shape = self.features.batch_shape
        mean = jnp.broadcast_to(self.features.mean, shape)
        return mean, jnp.broadcast_to(jnp.where(jnp.isfinite(mean), self.features.variance, jnp.inf), shape)

    def alone(self, at: Int[np.ndarray, " T"]) -> Distribution:
        """The laws of some features alone, whose parameters are (K, T); for their ``cdf``."""
        shape = self.features.batch_shape
        laws: Distribution = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, shape)[:, at], self.features)
        return laws


class Conditional(NamedTuple):
    """A mixture's log density of the observed entries (nats), responsibilities, and mean and variance of all entries.

    All are given the observed entries. An observed entry is its own mean and has variance 0.
    """

    log_marginal: Float[Array, " N"]
    responsibilities: Float[Array, "N K"]
    mean: Float[Array, "N D"]
    variance: Float[Array, "N D"]


def conditional(
    mixture: MemoryMixture, x: Float[Array, "N D"], allowed: Bool[Array, "N K"] | None = None
) -> Conditional:
    r"""Mean and variance of the missing entries (NaN) of each row, given the others.

    .. math::
        \operatorname{Var}[x_m \mid x_o] = \sum_k r_k \bigl( V_k + (E_k - E)^2 \bigr)

    A row without any observed entry has the mean and variance of the mixture.

    Args:
        mixture: the mixture.
        x: data, NaN where an entry is missing.
        allowed: to which memories each row may belong; None: to any.

    Raises:
        InputError: for families without an exact conditional.
    """

    def one(row_and_allowed: tuple[Float[Array, " D"], Bool[Array, " K"] | None]) -> Conditional:
        row, may = row_and_allowed
        missing = jnp.isnan(row)
        of = memory_conditional(mixture.bank, jnp.where(missing, 0, row), missing)
        joint = mixture.log_weights + of.log_marginal
        joint = joint if may is None else jnp.where(may, joint, -jnp.inf)
        share = jax.nn.softmax(joint)
        mean, variance = pooled(share, *of.moments())
        return Conditional(logsumexp(joint), share, jnp.where(missing, mean, row), jnp.where(missing, variance, 0))

    num_features = mixture.event_shape[0]
    per_row = (
        mixture.num_components * num_features * (1 if isinstance(mixture.bank, dist.Independent) else num_features)
    )
    on_cpu = max(1, min(len(x), _AT_ONCE // per_row))
    result: Conditional = each(one, (x, allowed), numbers=per_row, on_cpu=on_cpu)
    return result


def pooled(
    share: Float[Array, " M"], mean: Float[Array, "M D"], variance: Float[Array, "M D"]
) -> tuple[Float[Array, " D"], Float[Array, " D"]]:
    """Mean and variance of a mixture from those of its parts; parts with a share of 0 do not count.

    Both are infinite where that of a part is.
    """
    counts = share[:, None] > 0
    centre = jnp.sum(share[:, None] * jnp.where(counts, mean, 0), axis=0)
    gap = jnp.where(counts & jnp.isfinite(mean), mean - centre, 0)
    return centre, jnp.sum(share[:, None] * (jnp.where(counts, variance, 0) + gap**2), axis=0)


@singledispatch
def memory_conditional(bank: Distribution, row: Float[Array, " D"], missing: Bool[Array, " D"]) -> MemoryConditional:
    """The conditional distribution of each memory of a bank for one row; a family registers its own.

    Args:
        bank: the memories, with batch shape (K,) and event shape (D,).
        row: one datum, with any finite number in place of a missing entry.
        missing: True where an entry is missing.

    Raises:
        InputError: for families without an exact conditional.
    """
    if isinstance(bank, dist.Independent):
        base = bank.base_dist
        if base.event_shape or bank.reinterpreted_batch_ndims != 1:
            return memory_conditional(base, row, missing)
        return _independent(jnp.asarray(base.log_prob(row)), base, missing)
    raise InputError(
        f"family: {type(bank).__name__} has no exact conditional distribution of missing entries; families with one: "
        "gaussian of every covariance, student_t, multinomial, and those with independent features (laplace, "
        "generalized_normal, levy, uniform boxes, bernoulli, ...)"
    )


@memory_conditional.register
def _(bank: MultinomialCounts, row: jax.Array, missing: jax.Array) -> MemoryConditional:
    rates = bank.log_rates
    log_prob = row * rates - gammaln(row + 1) - jnp.exp(rates)
    return _independent(log_prob, dist.Poisson(jnp.exp(rates), validate_args=False), missing)


@memory_conditional.register
def _(bank: UniformBox, row: jax.Array, missing: jax.Array) -> MemoryConditional:
    edges = dist.Uniform(bank.loc - bank.reach, bank.loc + bank.reach, validate_args=False)
    inside = jnp.all(missing | (jnp.abs(row - bank.loc) <= bank.reach), axis=-1)
    log_height = -jnp.sum(jnp.where(missing, 0, jnp.log(2 * bank.reach)), axis=-1)
    return MemoryConditional(jnp.where(inside, log_height, -jnp.inf), edges, edges)


@memory_conditional.register
def _(bank: dist.MultivariateNormal, row: jax.Array, missing: jax.Array) -> MemoryConditional:
    of = _regression(jnp.asarray(bank.loc), jnp.asarray(bank.covariance_matrix), row, missing)
    log_marginal = -0.5 * (of.square + of.log_det + of.num_observed * jnp.log(2 * jnp.pi).astype(row.dtype))
    features = dist.Normal(of.mean, of.scale(missing), validate_args=False)
    return MemoryConditional(log_marginal, features, Correlated(of.mean, of.root, None))


@memory_conditional.register
def _(bank: EllipticalStudentT, row: jax.Array, missing: jax.Array) -> MemoryConditional:
    r"""Student-t with \(\nu + D_o\) degrees of freedom and a scale that grows with the observed part's distance."""
    eye = jnp.eye(row.size, dtype=row.dtype)
    if bank.is_full:
        root = jax.lax.linalg.triangular_solve(
            bank.precision, jnp.broadcast_to(eye, bank.precision.shape), left_side=True, lower=True
        )
        scatter = jnp.swapaxes(root, -1, -2) @ root
    else:
        scatter = eye / bank.precision[..., None]
    of = _regression(bank.loc, scatter, row, missing)
    df = bank.df + of.num_observed
    constant = log_gamma_ratio(0.5 * bank.df, 0.5 * of.num_observed) - 0.5 * of.num_observed * jnp.log(bank.df * jnp.pi)
    log_marginal = constant - 0.5 * of.log_det - 0.5 * df * jnp.log1p(of.square / bank.df)
    stretch = jnp.sqrt((bank.df + of.square) / df)
    features = dist.StudentT(df[:, None], of.mean, stretch[:, None] * of.scale(missing), validate_args=False)
    return MemoryConditional(log_marginal, features, Correlated(of.mean, stretch[:, None, None] * of.root, df))


def _independent(log_prob: Float[Array, "K D"], base: Distribution, missing: Bool[Array, " D"]) -> MemoryConditional:
    """For independent features, of batch shape (K, D), the missing ones keep their own law."""
    return MemoryConditional(jnp.sum(jnp.where(missing, 0, log_prob), axis=-1), base, base)


def _applied(matrix: Float[Array, "K D D"], vector: Float[Array, "K D"]) -> Float[Array, "K D"]:
    """Products of many small matrices with vectors; a batched dot product of that size can hang XLA's CPU threads."""
    return jnp.sum(matrix * vector[:, None, :], axis=-1)


class _Regression(NamedTuple):
    r"""Regression on the observed entries of a row: \(g = x_o - \mu_o\)."""

    square: Float[Array, " K"]  # g^T S_oo^-1 g
    log_det: Float[Array, " K"]  # of S_oo
    num_observed: Float[Array, ""]
    mean: Float[Array, "K D"]  # mu_m + S_mo S_oo^-1 g where missing, the datum where observed
    root: Float[Array, "K D D"]  # A of A A^T = S_mm - S_mo S_oo^-1 S_om; rows of observed entries are 0

    def scale(self, missing: Bool[Array, " D"]) -> Float[Array, "K D"]:
        """Roots of the diagonal of A A^T, 1 where an entry is observed."""
        return jnp.sqrt(jnp.where(missing, jnp.sum(self.root**2, axis=-1), 1))


def _regression(
    loc: Float[Array, "K D"], scatter: Float[Array, "#K D D"], row: Float[Array, " D"], missing: Bool[Array, " D"]
) -> _Regression:
    """All from one Cholesky factor L of the matrix with the observed entries first.

    Its blocks are the factor of S_oo, S_mo S_oo^-1 times that, and the factor of the conditional matrix.
    """
    order = jnp.argsort(missing, stable=True)
    back, seen = jnp.argsort(order), ~missing[order]
    scatter = jnp.broadcast_to(scatter, (*loc.shape, loc.shape[-1])).astype(row.dtype)
    factor = jnp.linalg.cholesky(scatter[:, order[:, None], order])
    gap = jnp.where(seen, (row - loc)[:, order], 0)
    solved = jax.lax.linalg.triangular_solve(factor, gap[..., None], left_side=True, lower=True)[..., 0]
    white = jnp.where(seen, solved, 0)
    mean = loc + _applied(factor, white)[:, back]
    diagonal = jnp.diagonal(factor, axis1=-2, axis2=-1)
    return _Regression(
        square=jnp.sum(white**2, axis=-1),
        log_det=2 * jnp.sum(jnp.where(seen, jnp.log(diagonal), 0), axis=-1),
        num_observed=jnp.sum(seen).astype(row.dtype),
        mean=jnp.where(missing, mean, row),
        root=jnp.where(seen, 0, factor)[:, back],
    )
