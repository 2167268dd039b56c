r"""Student-t memories: elliptical, with tails that forgive outliers.

.. math::
    p(x \mid \mu, P, \nu) = \frac{\Gamma(\frac{\nu + D}{2})}{\Gamma(\frac{\nu}{2}) (\nu\pi)^{D/2}} |P|^{1/2}
    \left(1 + \frac{(x - \mu)^\top P (x - \mu)}{\nu}\right)^{-\frac{\nu + D}{2}}

Sites: ``loc`` (K, D); ``precision`` (K, D) for P = diag(precision), or ``precision_cholesky`` (K, D, D) for
P = L L^T; and, unless the option ``df`` fixes it for all memories, the degrees of freedom ``df`` (K,). Large df:
Gaussian memories; df = 1: Cauchy.

A t is a Gaussian whose precision is scaled by a latent Gamma(df / 2, df / 2) variable of mean u = (df + D) / (df + q),
q the quadratic form, given the datum. So the M-step is the Gaussian one with responsibilities times u for weights
(Dempster, Laird and Rubin 1977; Peel and McLachlan 2000 for mixtures), and one equation in df. Under maximum likelihood
the precision is divided by the sum of those weights and not of the responsibilities, which has the same fixed points
and is faster (Kent, Tyler and Vardi 1994; parameter expansion). Default priors: the Gaussian family's own on ``loc``
and the precision; df ~ Gamma(2, rate 0.1) (Juárez and Steel 2010).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.scipy.special import digamma
from jaxtyping import Array, Float
from numpyro.distributions import Distribution

from probam.distributions.student_t import EllipticalStudentT
from probam.errors import InputError
from probam.family import Params, Prior, conjugate, register
from probam.family.capabilities import MStep
from probam.models.gaussian import Gaussian
from probam.models.location_scale import LocationScale
from probam.numerics.bisection import turning_point

__all__ = ["COVARIANCES", "StudentT"]

COVARIANCES = ("diagonal", "full")

_DF_RANGE = (0.05, 1000.0)
"""Degrees of freedom between which the M-step looks for its maximum: outside, a t is past telling from its limit."""


@register
@dataclass(frozen=True)
class StudentT(LocationScale, MStep):
    """Student-t memories; ``df`` fixes their degrees of freedom for all memories, 0 leaves them free."""

    covariance: str = "full"
    df: float = 0.0

    name: ClassVar[str] = "student_t"
    memory: ClassVar[str] = "a Student-t memory"

    def __post_init__(self) -> None:
        if self.covariance not in COVARIANCES:
            raise InputError(f"covariance: expected one of {', '.join(COVARIANCES)}; got {self.covariance!r}")
        if not 0 <= self.df < np.inf:
            raise InputError(f"df: expected degrees of freedom above 0, or 0 to leave them free; got {self.df}")

    @property
    def _gaussian(self) -> Gaussian:
        return Gaussian(self.covariance)

    @property
    def _precision(self) -> str:
        return "precision_cholesky" if self.covariance == "full" else "precision"

    def prior(self, x: np.ndarray) -> dict[str, Distribution]:
        """The Gaussian family's base measure, and Gamma(2, 0.1) on free degrees of freedom."""
        prior = self._gaussian.prior(x)
        if not self.df:
            prior["df"] = dist.Gamma(x.dtype.type(2.0), x.dtype.type(0.1))
        return prior

    def bank(self, params: Mapping[str, jax.Array]) -> Distribution:
        """The memories as one elliptical t, valid by construction."""
        return EllipticalStudentT(self._df(params), params["loc"], params[self._precision], validate_args=False)

    def _df(self, params: Mapping[str, jax.Array]) -> Float[Array, " K"]:
        return params["df"] if not self.df else jnp.full(params["loc"].shape[:1], self.df, params["loc"].dtype)

    def spread(self, params: Mapping[str, jax.Array]) -> Float[Array, "K D"]:
        """Standard deviation of the Gaussian core: the t's own is infinite for df <= 2."""
        return self._gaussian.spread(params)

    def maximize_from(
        self, x: Float[Array, "N D"], responsibilities: Float[Array, "N K"], params: Params, prior: Prior | None
    ) -> Params:
        """Latent precisions given the previous parameters; then loc, precision and df given those."""
        counts = jnp.sum(responsibilities, axis=0)
        df, num_features = self._df(params), x.shape[1]
        bank = EllipticalStudentT(df, params["loc"], params[self._precision], validate_args=False)
        weight = (df + num_features) / (df + bank.quadratic_form(x[:, None, :]))  # (N, K): u
        shares = responsibilities * weight

        moments = self._gaussian.moments(x, shares)
        core = {"loc": params["loc"], self._precision: params[self._precision]}
        law = None if prior is None else self._with_all_data(prior, counts - moments.counts)
        fresh = self._gaussian.maximize(moments, core, law)
        if self.df:
            return fresh
        half = 0.5 * (df + num_features)
        mean_log = jnp.log(weight) + digamma(half) - jnp.log(half)  # E log tau, beside E tau = weight
        excess = jnp.sum(responsibilities * (mean_log - weight), axis=0)
        return fresh | {"df": _degrees_of_freedom(counts, excess, df, prior)}

    def _with_all_data(self, prior: Prior, more: Float[Array, " K"]) -> dict[str, Distribution]:
        """The Gaussian prior as the M-step must see it: weights are shares, but each datum counts once for |P|."""
        law: dict[str, Distribution] = {"loc": prior["loc"]}
        if self.covariance == "full":
            wishart = conjugate(prior, "precision_cholesky", dist.WishartCholesky)
            law["precision_cholesky"] = _MoreWishart(wishart, more)
        else:
            gamma = conjugate(prior, "precision", dist.Gamma)
            law["precision"] = dist.Gamma(gamma.concentration + 0.5 * more[:, None], gamma.rate, validate_args=False)
        return law


class _MoreWishart(dist.WishartCholesky):
    """A Wishart prior whose degrees of freedom differ from memory to memory; read by the M-step alone."""

    def __init__(self, law: dist.WishartCholesky, more: Float[Array, " K"]) -> None:
        self.concentration, self.rate_matrix, self.support = law.concentration + more, law.rate_matrix, law.support
        Distribution.__init__(self, (), law.event_shape, validate_args=False)


def _degrees_of_freedom(
    counts: Float[Array, " K"], excess: Float[Array, " K"], previous: Float[Array, " K"], prior: Prior | None
) -> Float[Array, " K"]:
    r"""The df that maximise :math:`n (h \log h - \log\Gamma(h)) + h \sum_n r_n (E \log\tau_n - E \tau_n)`, h = df / 2.

    With the Gamma prior the target is taken in log df; the slope there falls through zero once.
    """
    slope_of_prior: Callable[[jax.Array], jax.Array] = jnp.zeros_like
    if prior is not None:
        gamma = conjugate(prior, "df", dist.Gamma)

        def slope_of_prior(df: jax.Array) -> jax.Array:
            return gamma.concentration - gamma.rate * df

    def rises(log_df: jax.Array) -> jax.Array:
        half = 0.5 * jnp.exp(log_df)
        slope = half * (counts * (jnp.log(half) + 1 - digamma(half)) + excess)
        return slope + slope_of_prior(2 * half) > 0

    low, high = (jnp.full_like(counts, np.log(edge)) for edge in _DF_RANGE)
    df = jnp.exp(turning_point(rises, low, high))
    return df if prior is not None else jnp.where(counts > 0, df, previous)
