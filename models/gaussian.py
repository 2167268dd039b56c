r"""Gaussian memories: isotropic, spherical, diagonal, tied and full covariance.

.. math:: p(x \mid \mu_k, \Sigma_k) = \mathcal N(x \mid \mu_k, \Sigma_k)

========== ================================ ========================= ======================
covariance parameters                       :math:`\Sigma_k`          default prior
========== ================================ ========================= ======================
isotropic  ``loc`` (K, D), ``beta`` ()      :math:`I / (2 \beta)`     Gamma on beta
spherical  ``loc`` (K, D), ``beta`` (K,)    :math:`I / (2 \beta_k)`   Gamma on beta
diagonal   ``loc``, ``precision`` (K, D)    :math:`diag(1/\tau_k)`    Gamma on each precision
full       ``loc``, ``precision_cholesky``  :math:`(L_k L_k^T)^{-1}`  Wishart on :math:`LL^T`
tied       the same, L for all memories     :math:`(L L^T)^{-1}`      Wishart on :math:`LL^T`
lkj        ``loc``, ``scale`` (K, D),       :math:`diag(s) R diag(s)` log-normal scales,
           ``corr_cholesky`` (K, D, D)                                LKJ(2) correlations
========== ================================ ========================= ======================

The isotropic family is the CLAM energy's mixture: precision 2 beta, covariance I / (2 beta) (Schaeffer et al. 2023,
Eq. 5, with the covariance corrected). Default priors see the data through their mean m, their covariance S and the
covariance W within a few groups of them (:mod:`probam.numerics.within_covariance`): memories lie around m with
covariance 4 S (``full`` and ``tied``) or the diagonal of it, and the covariance of a memory is guessed to be W, with a
weight of D + 3 data for ``full`` and ``tied`` and of four numbers for each other precision. W depends neither on the
number of memories nor on the units of the data.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Float
from numpyro.distributions import Distribution

from probam.conjugacy.location import (
    independent_normal,
    most_probable_locations,
    most_probable_locations_full,
    normal_prior,
)
from probam.conjugacy.mean_field import MeanField
from probam.conjugacy.mean_field_normal import NormalAndGamma, NormalAndWishart
from probam.conjugacy.normal import (
    NormalGamma,
    NormalKnownVariance,
    NormalWishart,
    draw_locations,
    draw_locations_full,
    reverse_cholesky,
    symmetric,
    wishart_cholesky,
)
from probam.conjugacy.pairs import ConjugatePair
from probam.distributions.built import built
from probam.distributions.observed import marginal, memory_covariances
from probam.distributions.pairwise import upper_triangle
from probam.distributions.precision_normal import PrecisionNormal
from probam.distributions.supports import innermost
from probam.distributions.wishart import InvariantWishartCholesky, mode_exponents
from probam.errors import InputError
from probam.family import Moments, Params, Prior, conjugate, register
from probam.family.capabilities import AdditiveMStep, Conditionals, Conjugacy, ExpectedSums, MeanFieldFactors
from probam.models.location_scale import LocationScale
from probam.numerics.within_covariance import covariances

__all__ = ["COVARIANCES", "VARIANCE_FLOOR", "Gaussian"]

COVARIANCES = ("isotropic", "spherical", "diagonal", "tied", "full", "lkj")

_WITH_MATRIX = ("tied", "full")
"""Structures whose second site is the Cholesky factor of a precision matrix."""

_KINDS = {"isotropic": "spherical", "spherical": "spherical", "diagonal": "diagonal"} | dict.fromkeys(
    ("tied", "full", "lkj"), "full"
)
"""Kind of the covariance within groups that the default prior guesses a memory to have."""

_GAMMA_SHAPE = 2.0
"""Shape of the Gamma prior on a precision: the weight of 2 x shape data in one dimension."""

VARIANCE_FLOOR = 1e-6
"""Smallest within-memory variance, as a fraction of the data's, that maximum likelihood may reach.

Full covariances are held above it in every direction, after each feature was divided by its standard deviation.

Without it the likelihood is unbounded: a memory on one datum with no width. It is part of the estimator
(and not needed under a prior)."""


def _normal_and_wishart(
    mean: Float[Array, " D"], whole: Float[Array, "D D"], within: Float[Array, "D D"]
) -> tuple[Distribution, ...]:
    """Priors of a location around all data, and of a precision around that within groups."""
    freedom = jnp.asarray(len(mean) + 2 * _GAMMA_SHAPE - 1, mean.dtype)
    return (
        dist.MultivariateNormal(mean, scale_tril=2 * jnp.linalg.cholesky(whole), validate_args=False),
        InvariantWishartCholesky(freedom, rate_matrix=freedom * within, validate_args=False),
    )


def _correlations(variances: Float[Array, " D"]) -> tuple[Distribution, ...]:
    """The prior of correlations between so many features."""
    return (dist.LKJCholesky(len(variances), jnp.asarray(2.0, variances.dtype), validate_args=False),)


@register
@dataclass(frozen=True)
class Gaussian(LocationScale, AdditiveMStep, Conditionals, Conjugacy, MeanFieldFactors, ExpectedSums):
    """Gaussian memories with the chosen covariance structure (see the module)."""

    covariance: str = "full"

    name: ClassVar[str] = "gaussian"
    memory: ClassVar[str] = "a Gaussian"
    linear: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.covariance not in COVARIANCES:
            raise InputError(f"covariance: expected one of {', '.join(COVARIANCES)}; got {self.covariance!r}")

    @property
    def shared(self) -> frozenset[str]:
        """One beta for the whole bank (the CLAM family), or one covariance."""
        return frozenset({"isotropic": {"beta"}, "tied": {"precision_cholesky"}}.get(self.covariance, ()))

    @property
    def no_m_step(self) -> str:
        """Every structure but ``lkj`` has conjugate priors and a closed-form M-step."""
        return "LKJ correlations have no conjugate prior" if self.covariance == "lkj" else ""

    @property
    def missing(self) -> str:
        """Entry by entry, or pattern by pattern where features are correlated within a memory."""
        return "pattern" if self.covariance in ("tied", "full", "lkj") else "entry"

    def prior(self, x: np.ndarray) -> dict[str, Distribution]:
        """Default base measure: locations over all data, covariances like those within a few groups of them."""
        dtype = x.dtype
        num_features = x.shape[1]
        whole, within = (matrix.astype(dtype) for matrix in covariances(x, _KINDS[self.covariance]))
        variances = np.diagonal(within)
        shape = dtype.type(_GAMMA_SHAPE)
        mean = np.nanmean(x, axis=0).astype(dtype)
        if self.covariance in _WITH_MATRIX:
            loc, precision_cholesky = built(_normal_and_wishart, mean, whole, within)
            return {"loc": loc, "precision_cholesky": precision_cholesky}
        prior: dict[str, Distribution] = {
            "loc": dist.Normal(mean, (2 * np.nanstd(x, axis=0)).astype(dtype)).to_event(1)
        }
        if self.covariance in ("isotropic", "spherical"):
            prior["beta"] = dist.Gamma(shape, 2 * shape * variances[0])
        elif self.covariance == "diagonal":
            prior["precision"] = dist.Gamma(np.full(num_features, shape), shape * variances).to_event(1)
        else:
            prior["scale"] = dist.LogNormal(0.5 * np.log(variances), dtype.type(0.7)).to_event(1)
            if num_features > 1:
                (prior["corr_cholesky"],) = built(_correlations, variances)
        return prior

    def metric(self, x: Float[Array, "N D"], prior: Prior) -> Float[Array, "N D"]:
        """Rows in units of the covariance of a memory that the prior guesses, or in one unit for all features."""
        origin, unit = self.frame(x)
        if self.covariance in ("isotropic", "spherical"):
            return (x - origin) / jnp.sqrt(jnp.mean(unit**2))
        second = innermost(next((law for site, law in prior.items() if site != "loc")))
        if isinstance(second, dist.WishartCholesky):
            factor = jnp.linalg.cholesky(jnp.asarray(second.rate_matrix) / second.concentration)
            return jnp.asarray(jax.scipy.linalg.solve_triangular(factor, (x - origin).T, lower=True).T)
        if isinstance(second, dist.Gamma):
            unit = jnp.sqrt(jnp.asarray(second.rate) / second.concentration)
        return jnp.asarray((x - origin) / unit)

    def bank(self, params: Mapping[str, jax.Array]) -> Distribution:
        """The memories as ``Normal(...).to_event(1)`` or ``MultivariateNormal``, valid by construction."""
        loc = params["loc"]
        if self.covariance in ("isotropic", "spherical"):
            scale = jnp.sqrt(0.5 / params["beta"])[..., None]  # () -> (1,), (K,) -> (K, 1)
            return dist.Normal(loc, scale, validate_args=False).to_event(1)
        if self.covariance == "diagonal":
            return dist.Normal(loc, jnp.sqrt(1 / params["precision"]), validate_args=False).to_event(1)
        if self.covariance in _WITH_MATRIX:
            return PrecisionNormal(loc, params["precision_cholesky"], validate_args=False)
        scale = params["scale"]
        if loc.shape[-1] == 1:
            return dist.Normal(loc, scale, validate_args=False).to_event(1)
        scale_tril = scale[..., None] * params["corr_cholesky"]
        return dist.MultivariateNormal(loc, scale_tril=scale_tril, validate_args=False)

    def statistics(self, x: Float[Array, "N D"]) -> Float[Array, "N F"]:
        """x and its squares: |x|^2, x^2 or the upper triangle of x x^T."""
        if self.covariance in ("isotropic", "spherical"):
            return jnp.concatenate([x, jnp.sum(x**2, -1, keepdims=True)], axis=-1)
        if self.covariance == "diagonal":
            return jnp.concatenate([x, x**2], axis=-1)
        return jnp.concatenate([x, upper_triangle(x)], axis=-1)

    def expected_sums(
        self, params: Params, x: Float[Array, "N D"], responsibilities: Float[Array, "N K"], origin: Float[Array, " D"]
    ) -> Float[Array, "K F"]:
        r"""Sums with each missing entry at its expectation, and each missing product at its own.

        Given memory k and the observed entries the row is normal around :math:`G_k x + (I - G_k) \mu_k` with
        :math:`G_k = \Sigma_k P_k` and covariance :math:`\Sigma_k - \Sigma_k P_k \Sigma_k`, where P_k is the inverse of
        the observed part of Sigma_k in its place. Source: Ghahramani & Jordan (1994), section 3.
        """
        known = ~jnp.isnan(x)
        filled = jnp.where(known, x - origin, 0)
        loc = params["loc"] - origin
        if self.missing == "entry":
            bank_variance = jnp.broadcast_to(self.bank(params).variance, loc.shape)
            lacking = jnp.matmul(responsibilities.T, 1 - known.astype(x.dtype), precision="highest")
            first = jnp.matmul(responsibilities.T, filled, precision="highest") + lacking * loc
            square = jnp.matmul(responsibilities.T, filled**2, precision="highest") + lacking * (loc**2 + bank_variance)
            if self.covariance != "diagonal":
                square = jnp.sum(square, axis=-1, keepdims=True)
            return jnp.concatenate([first, square], axis=-1)
        counts = jnp.sum(responsibilities, axis=0)[:, None]
        sums = jnp.matmul(responsibilities.T, self.statistics(filled), precision="highest")
        num_features = x.shape[-1]
        seen, products = sums[:, :num_features], symmetric(sums[:, num_features:], num_features)
        bank = self.bank(params)
        assert isinstance(bank, dist.MultivariateNormal), "features are correlated here"
        covariance = memory_covariances(bank)
        gain = jnp.matmul(covariance, marginal(covariance, known[0]).precision, precision="highest")  # G
        rest = loc - jnp.einsum("kij,kj->ki", gain, loc, precision="highest")  # (I - G) mu
        moved = jnp.einsum("kij,kj->ki", gain, seen, precision="highest")
        cross = moved[:, :, None] * rest[:, None, :]
        second = (
            jnp.einsum("kij,kjl,kml->kim", gain, products, gain, precision="highest")
            + cross
            + jnp.swapaxes(cross, -1, -2)
            + counts[..., None] * (_outer(rest) + covariance - jnp.matmul(gain, covariance, precision="highest"))
        )
        rows, columns = np.triu_indices(num_features)
        return jnp.concatenate([moved + counts * rest, second[:, rows, columns]], axis=-1)

    def maximize(self, moments: Moments, params: Params, prior: Prior | None) -> Params:
        """Locations given the previous precisions, then precisions given the new locations (ECM).

        Under maximum likelihood both are the exact M-step. Under the default priors each is the exact
        conditional maximum in unconstrained coordinates: log precision for the Gamma, those of
        :mod:`probam.distributions.wishart` for the Wishart.
        """
        if prior is not None:
            for site, law in self._conjugates(prior):
                conjugate(prior, site, law)
        step: Callable[[Moments, Params, Prior | None], Params] = {
            "isotropic": self._maximize_beta,
            "spherical": self._maximize_beta,
            "diagonal": self._maximize_diagonal,
            "tied": self._maximize_full,
            "full": self._maximize_full,
        }[self.covariance]
        return step(moments, params, prior)

    def can_draw(self, prior: Prior) -> bool:
        """Under a normal prior on the location and a Gamma or Wishart one on the precision."""
        return self.closed_form and all(
            isinstance(innermost(prior[site]), law) for site, law in self._conjugates(prior)
        )

    def draw(self, key: jax.Array, moments: Moments, params: Params, prior: Prior) -> Params:
        """Locations given the precisions, then precisions given the new locations: both exact full conditionals."""
        key_loc, key_precision = jax.random.split(key)
        counts, (first, square) = moments.counts, _split(moments)
        num_features = first.shape[-1]
        if self.covariance in _WITH_MATRIX:
            wishart = prior["precision_cholesky"]
            assert isinstance(wishart, dist.WishartCholesky), "checked by can_draw"
            factor = jnp.broadcast_to(params["precision_cholesky"], (*first.shape, num_features))
            place = normal_prior(prior["loc"])
            loc = draw_locations_full(key_loc, counts, first, factor, place.loc - moments.origin, place.precision)
            cross = loc[:, :, None] * first[:, None, :]
            scatter = symmetric(square, num_features) - cross - jnp.swapaxes(cross, -1, -2)
            scatter = scatter + counts[:, None, None] * _outer(loc)
            if self.shared:  # one matrix, from all data
                counts, scatter = jnp.sum(counts)[None], jnp.sum(scatter, axis=0)[None]
            factor = wishart_cholesky(
                key_precision, jnp.asarray(wishart.concentration + counts), jnp.asarray(wishart.rate_matrix) + scatter
            )
            factor = factor[0] if self.shared else factor
            return {"loc": loc + moments.origin, "precision_cholesky": factor}
        pooled = self.covariance != "diagonal"
        site, normal = "beta" if pooled else "precision", independent_normal(prior["loc"])
        precision = 2 * jnp.broadcast_to(params["beta"], counts.shape)[:, None] if pooled else params["precision"]
        loc = draw_locations(key_loc, counts, first, precision, normal.loc - moments.origin, normal.scale)
        gamma = _gamma(prior[site])
        if pooled:  # the density is beta^(n D / 2) exp(-beta scatter)
            shape, rate = 0.5 * num_features * counts, _scatter(counts, first, square[:, 0], loc)
            if self.shared:
                shape, rate = jnp.sum(shape), jnp.sum(rate)
        else:
            scatter = jnp.maximum(square - 2 * loc * first + counts[:, None] * loc**2, 0)
            shape, rate = jnp.broadcast_to(0.5 * counts[:, None], scatter.shape), 0.5 * scatter
        drawn = jax.random.gamma(key_precision, gamma.concentration + shape, dtype=first.dtype) / (gamma.rate + rate)
        return {"loc": loc + moments.origin, site: drawn}

    def conjugate(self, params: Params, prior: Prior) -> ConjugatePair | None:
        """The locations, given the precisions."""
        if not self.can_draw(prior):
            return None
        if self.covariance in _WITH_MATRIX:
            factor = jnp.broadcast_to(params["precision_cholesky"], (*params["loc"].shape, params["loc"].shape[-1]))
            place = normal_prior(prior["loc"])
            return NormalKnownVariance.full(place.loc, place.covariance, factor)
        normal = independent_normal(prior["loc"])
        prior_variance = jnp.broadcast_to(normal.scale**2, normal.loc.shape)
        if self.covariance == "diagonal":
            return NormalKnownVariance(normal.loc, prior_variance, 1 / params["precision"])
        variance = jnp.broadcast_to((0.5 / params["beta"])[..., None], params["loc"].shape)
        return NormalKnownVariance(normal.loc, prior_variance, variance)

    def conjugate_base(self, prior: Prior) -> ConjugatePair | None:
        """Normal-Gamma or Normal-Wishart: the same prior on the precisions, the locations' tied to it.

        The location's prior precision is the memory's own times kappa_0 = (guess of the variance within a memory) /
        (prior variance of the location), averaged over features: tr(C^-1 W) / D for ``full``. None where a site is
        shared.
        """
        if self.shared or not self.can_draw(prior):
            return None
        if self.covariance == "full":
            wishart = prior["precision_cholesky"]
            assert isinstance(wishart, dist.WishartCholesky), "checked by can_draw"
            place, freedom, rate = normal_prior(prior["loc"]), jnp.asarray(wishart.concentration), wishart.rate_matrix
            relative = jnp.sum(place.precision * rate) / (freedom * len(place.loc))
            return NormalWishart(place.loc, relative, freedom, jnp.asarray(rate))
        normal = independent_normal(prior["loc"])
        gamma = _gamma(prior["beta" if self.covariance == "spherical" else "precision"])
        shape, rate = jnp.atleast_1d(gamma.concentration), jnp.atleast_1d(gamma.rate)
        if self.covariance == "spherical":
            rate = 0.5 * rate  # of the precision 2 beta
        return NormalGamma(normal.loc, jnp.mean(rate / shape / normal.scale**2), shape, rate)

    def mean_field(self, prior: Prior) -> MeanField | None:
        """One factor for the location of a memory and one for its precision (for the common beta of ``isotropic``)."""
        if self.covariance == "tied" or not self.can_draw(prior):
            return None
        if self.covariance == "full":
            wishart, place = prior["precision_cholesky"], normal_prior(prior["loc"])
            assert isinstance(wishart, dist.WishartCholesky), "checked by can_draw"
            freedom, rate = jnp.asarray(wishart.concentration), jnp.asarray(wishart.rate_matrix)
            return NormalAndWishart(place.loc, place.precision, freedom, rate)
        normal = independent_normal(prior["loc"])
        loc = jnp.asarray(normal.loc)
        scale = jnp.broadcast_to(normal.scale, loc.shape)
        pooled = self.covariance != "diagonal"
        gamma = _gamma(prior["beta" if pooled else "precision"])
        shape, rate = jnp.atleast_1d(gamma.concentration), jnp.atleast_1d(gamma.rate)
        rate = 0.5 * rate if pooled else rate  # of the precision 2 beta
        return NormalAndGamma(loc, scale, shape, rate, self.shared != frozenset())

    def integrated_sites(self, drawn: Params) -> Params:
        """beta is half the precision."""
        if self.covariance not in ("isotropic", "spherical"):
            return drawn
        return {"loc": drawn["loc"], "beta": 0.5 * drawn["precision"][..., 0]}

    def _conjugates(self, prior: Prior) -> tuple[tuple[str, Any], ...]:
        """Sites and the laws that are conjugate there."""
        second = next(name for name in prior if name != "loc")
        conjugate = {"beta": dist.Gamma, "precision": dist.Gamma, "precision_cholesky": dist.WishartCholesky}[second]
        of_location: type[Distribution] = dist.Normal
        if self.covariance in _WITH_MATRIX and isinstance(innermost(prior["loc"]), dist.MultivariateNormal):
            of_location = dist.MultivariateNormal
        return ("loc", of_location), (second, conjugate)

    def _maximize_beta(self, moments: Moments, params: Params, prior: Prior | None) -> Params:
        counts, (first, square) = moments.counts, _split(moments)
        num_features = first.shape[-1]
        precision = 2 * jnp.broadcast_to(params["beta"], counts.shape)
        law, previous = (prior or {}).get("loc"), params["loc"] - moments.origin
        loc = most_probable_locations(counts, first, precision[:, None], previous, moments.origin, law)
        scatter = _scatter(counts, first, square[:, 0], loc)  # (K,): sum_n r_nk |x_n - mu_k|^2
        shape, rate = 0.5 * num_features * counts, scatter  # beta enters as beta^(n D / 2) exp(-beta scatter)
        if self.shared:
            shape, rate = jnp.sum(shape), jnp.sum(rate)
        if prior is None:
            floor = 2 * VARIANCE_FLOOR * jnp.mean(_total_variance(counts, first, square)) / num_features
            beta = shape / jnp.maximum(rate, floor * shape)
            beta = jnp.where(shape > 0, beta, params["beta"])
        else:
            gamma = _gamma(prior["beta"])
            beta = (shape + gamma.concentration) / (rate + gamma.rate)
        return {"loc": loc + moments.origin, "beta": beta}

    def _maximize_diagonal(self, moments: Moments, params: Params, prior: Prior | None) -> Params:
        counts, (first, square) = moments.counts[:, None], _split(moments)
        law, previous = (prior or {}).get("loc"), params["loc"] - moments.origin
        loc = most_probable_locations(moments.counts, first, params["precision"], previous, moments.origin, law)
        scatter = jnp.maximum(square - 2 * loc * first + counts * loc**2, 0)
        if prior is None:
            floor = VARIANCE_FLOOR * _total_variance(moments.counts, first, square)
            precision = jnp.where(counts > 0, counts / jnp.maximum(scatter, floor * counts), params["precision"])
        else:
            gamma = _gamma(prior["precision"])
            precision = (0.5 * counts + gamma.concentration) / (0.5 * scatter + gamma.rate)
        return {"loc": loc + moments.origin, "precision": precision}

    def _maximize_full(self, moments: Moments, params: Params, prior: Prior | None) -> Params:
        counts, (first, square) = moments.counts, _split(moments)
        num_features = first.shape[-1]
        second = symmetric(square, num_features)
        factor = params["precision_cholesky"]
        precision = jnp.broadcast_to(factor @ jnp.swapaxes(factor, -1, -2), second.shape)
        law, previous = (prior or {}).get("loc"), params["loc"] - moments.origin
        loc = most_probable_locations_full(counts, first, precision, previous, moments.origin, law)
        cross = loc[:, :, None] * first[:, None, :]
        scatter = second - cross - jnp.swapaxes(cross, -1, -2) + counts[:, None, None] * _outer(loc)
        total = jnp.sum(second, 0) / jnp.sum(counts) - _outer(jnp.sum(first, 0) / jnp.sum(counts))
        if self.shared:  # one matrix: no memory axis from here on
            counts, scatter = jnp.sum(counts), jnp.sum(scatter, axis=0)
        if prior is None:
            empty = (counts <= 0)[..., None, None]
            covariance = scatter / jnp.where(empty, 1, counts[..., None, None])
            fresh = _precision_cholesky_above_floor(covariance, jnp.diagonal(total))
            return {"loc": loc + moments.origin, "precision_cholesky": jnp.where(empty, factor, fresh)}
        # log density of the factor L in unconstrained coordinates: sum_i e_i log L_ii - tr(A L L^T) / 2 with the
        # exponents of the prior plus n, and A = rate + scatter. With A = C^T C, C lower triangular:
        # tr(A L L^T) = |C L|^2, so the maximum has C L = diag(sqrt(e)).
        wishart = prior["precision_cholesky"]
        assert isinstance(wishart, dist.WishartCholesky), "checked by maximize"
        exponents = mode_exponents(wishart, num_features) + counts[..., None]
        anti_cholesky = reverse_cholesky(wishart.rate_matrix + scatter)
        target = jnp.sqrt(exponents)[..., None, :] * jnp.eye(num_features, dtype=first.dtype)
        return {
            "loc": loc + moments.origin,
            "precision_cholesky": jax.scipy.linalg.solve_triangular(anti_cholesky, target, lower=True),
        }


def _split(moments: Moments) -> tuple[jax.Array, jax.Array]:
    num_features = moments.origin.shape[0]
    return moments.sums[:, :num_features], moments.sums[:, num_features:]


def _outer(x: jax.Array) -> jax.Array:
    return x[..., :, None] * x[..., None, :]


def _gamma(prior: Distribution) -> dist.Gamma:
    """A Gamma prior, taken out of the ``Independent`` around it."""
    inner = innermost(prior)
    assert isinstance(inner, dist.Gamma), "checked by maximize"
    return inner


def _precision_cholesky_above_floor(
    covariance: Float[Array, "*batch D D"], variance: Float[Array, " D"]
) -> Float[Array, "*batch D D"]:
    """Lower Cholesky factor of the inverse of a covariance whose eigenvalues are first raised to the floor.

    Args:
        covariance: of one memory or several.
        variance: of each feature over all data; eigenvalues are those of the covariance in units of its root, so that
            features of any size share one floor.
    """
    unit = jnp.sqrt(jnp.where(variance > 0, variance, 1))
    relative = covariance / _outer(unit)
    values, vectors = jnp.linalg.eigh(0.5 * (relative + jnp.swapaxes(relative, -1, -2)))
    inverse = 1 / jnp.maximum(values, VARIANCE_FLOOR)
    factor = jnp.linalg.cholesky((vectors * inverse[..., None, :]) @ jnp.swapaxes(vectors, -1, -2))
    return jnp.asarray(factor / unit[:, None])


def _total_variance(counts: jax.Array, first: jax.Array, square: jax.Array) -> jax.Array:
    """Variance of all data together: (D,) for the diagonal squares, the (1,) sum of them for |x|^2."""
    total = jnp.sum(counts)
    mean_square = (jnp.sum(first, 0) / total) ** 2
    if square.shape[-1] != first.shape[-1] or square.shape[-1] == 1:
        mean_square = jnp.sum(mean_square, keepdims=True)
    return jnp.sum(square, 0) / total - mean_square


def _scatter(counts: jax.Array, first: jax.Array, square: jax.Array, loc: jax.Array) -> jax.Array:
    scatter = square - 2 * jnp.sum(loc * first, -1) + counts * jnp.sum(loc**2, -1)
    return jnp.maximum(scatter, 0)
