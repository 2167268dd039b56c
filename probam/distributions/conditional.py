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
import numpyro.distributions as dist
from jax.scipy.special import gammaln, logsumexp
from jaxtyping import Array, Bool, Float
from numpyro.distributions import Distribution

from probam.distributions.counts import MultinomialCounts
from probam.distributions.mixture import MemoryMixture
from probam.distributions.student_t import EllipticalStudentT
from probam.errors import InputError
from probam.numerics.log_gamma import log_gamma_ratio

__all__ = ["Conditional", "MemoryConditional", "conditional", "memory_conditional"]

_AT_ONCE = 2**22
"""Largest number of entries in a block of rows (rows x K x D; with matrices, rows x K x D x D)."""


class MemoryConditional(NamedTuple):
    """Each memory's log density of the observed entries (nats), and mean and variance of all entries given those.

    An observed entry is its own mean and has variance 0.
    """

    log_marginal: Float[Array, " K"]
    mean: Float[Array, "K D"]
    variance: Float[Array, "K D"]


class Conditional(NamedTuple):
    """A mixture's log density of the observed entries (nats), responsibilities, and mean and variance of all entries.

    All are given the observed entries. An observed entry is its own mean and has variance 0.
    """

    log_marginal: Float[Array, " N"]
    responsibilities: Float[Array, "N K"]
    mean: Float[Array, "N D"]
    variance: Float[Array, "N D"]


def conditional(mixture: MemoryMixture, x: Float[Array, "N D"]) -> Conditional:
    r"""Mean and variance of the missing entries (NaN) of each row, given the others.

    .. math::
        \operatorname{Var}[x_m \mid x_o] = \sum_k r_k \bigl( V_k + (E_k - E)^2 \bigr)

    A row without any observed entry has the mean and variance of the mixture.

    Args:
        mixture: the mixture.
        x: data, NaN where an entry is missing.

    Raises:
        InputError: for families without an exact conditional.
    """

    def one(row: Float[Array, " D"]) -> Conditional:
        missing = jnp.isnan(row)
        of = memory_conditional(mixture.bank, jnp.where(missing, 0, row), missing)
        joint = mixture.log_weights + of.log_marginal
        share = jax.nn.softmax(joint)
        mean = share @ of.mean
        variance = share @ (of.variance + (of.mean - mean) ** 2)
        mean, variance = jnp.where(missing, mean, row), jnp.where(missing, variance, 0)
        return Conditional(logsumexp(joint), share, mean, variance)

    num_features = mixture.event_shape[0]
    per_row = (
        mixture.num_components * num_features * (1 if isinstance(mixture.bank, dist.Independent) else num_features)
    )
    result: Conditional = jax.lax.map(one, x, batch_size=max(1, min(len(x), _AT_ONCE // per_row)))
    return result


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
        return _independent(jnp.broadcast_to(base.log_prob(row), bank.shape()), bank, row, missing)
    raise InputError(
        f"complete: {type(bank).__name__} has no exact conditional distribution of missing entries; families with one: "
        "those with independent features (gaussian isotropic or diagonal, laplace, bernoulli, ...), gaussian full and "
        "tied, student_t, multinomial"
    )


@memory_conditional.register
def _(bank: MultinomialCounts, row: jax.Array, missing: jax.Array) -> MemoryConditional:
    rates = bank.log_rates  # independent Poisson counts
    return _independent(row * rates - gammaln(row + 1) - jnp.exp(rates), bank, row, missing)


@memory_conditional.register
def _(bank: dist.MultivariateNormal, row: jax.Array, missing: jax.Array) -> MemoryConditional:
    square, log_det, mean, core, num_observed = _regression(
        jnp.asarray(bank.loc), jnp.asarray(bank.covariance_matrix), row, missing
    )
    log_marginal = -0.5 * (square + log_det + num_observed * jnp.log(2 * jnp.pi).astype(row.dtype))
    return MemoryConditional(log_marginal, mean, core)


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
    square, log_det, mean, core, num_observed = _regression(bank.loc, scatter, row, missing)
    df = bank.df
    half = 0.5 * (df + num_observed)
    constant = log_gamma_ratio(0.5 * df, 0.5 * num_observed) - 0.5 * num_observed * jnp.log(df * jnp.pi)
    log_marginal = constant - 0.5 * log_det - half * jnp.log1p(square / df)
    wide = 2 * half > 2
    spread = jnp.where(wide, (df + square) / jnp.where(wide, 2 * half - 2, 1), jnp.inf)
    variance = jnp.where(missing, spread[:, None] * core, 0)
    return MemoryConditional(log_marginal, jnp.where(missing & (2 * half <= 1)[:, None], jnp.inf, mean), variance)


def _independent(
    log_prob: Float[Array, "K D"], bank: Distribution, row: Float[Array, " D"], missing: Bool[Array, " D"]
) -> MemoryConditional:
    """For independent features the missing ones keep their own mean and variance."""
    mean = jnp.where(missing, jnp.broadcast_to(bank.mean, bank.shape()), row)
    variance = jnp.where(missing, jnp.broadcast_to(bank.variance, bank.shape()), 0)
    return MemoryConditional(jnp.sum(jnp.where(missing, 0, log_prob), axis=-1), mean, variance)


def _regression(
    loc: Float[Array, "K D"], scatter: Float[Array, "K D D"], row: Float[Array, " D"], missing: Bool[Array, " D"]
) -> tuple[Float[Array, " K"], Float[Array, " K"], Float[Array, "K D"], Float[Array, "K D"], Float[Array, ""]]:
    r"""Regression on the observed entries: \(q = g^\top \Sigma_{oo}^{-1} g\) with \(g = x_o - \mu_o\),
    \(\log|\Sigma_{oo}|\), \(\mu_m + \Sigma_{mo} \Sigma_{oo}^{-1} g\), the diagonal of
    \(\Sigma_{mm} - \Sigma_{mo} \Sigma_{oo}^{-1} \Sigma_{om}\), and the number of observed entries.

    Missing entries keep their place in the matrices, as an identity block.
    """
    seen = ~missing
    scatter = jnp.broadcast_to(scatter, (*loc.shape, loc.shape[-1])).astype(row.dtype)
    among = jnp.where(seen[:, None] & seen, scatter, jnp.diag(missing.astype(row.dtype)))
    factor = jnp.linalg.cholesky(among)
    gap = jnp.where(seen, row - loc, 0)
    across = jnp.where(seen[:, None] & missing, scatter, 0)  # (K, observed, missing)
    solved = jax.lax.linalg.triangular_solve(
        factor, jnp.concatenate([gap[..., None], across], axis=-1), left_side=True, lower=True
    )
    white, rest = solved[..., 0], solved[..., 1:]
    mean = jnp.where(missing, loc + jnp.einsum("kom,ko->km", rest, white, precision="highest"), row)
    core = jnp.diagonal(scatter, axis1=-2, axis2=-1) - jnp.sum(rest**2, axis=-2)
    log_det = 2 * jnp.sum(jnp.log(jnp.diagonal(factor, axis1=-2, axis2=-1)), axis=-1)
    num_observed = jnp.sum(seen).astype(row.dtype)
    return jnp.sum(white**2, axis=-1), log_det, mean, jnp.where(missing, core, 0), num_observed
