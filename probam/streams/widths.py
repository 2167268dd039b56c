r"""What a family brings so that its streams find the width of a memory: groups that share one width.

A :class:`Width` is made of a family by :func:`width_of`; a family registers its own there. It says which site has the
width, which prior follows from a width that was found, and how likely rows of groups of one width are
(:class:`Sharing`), which is what the search of :mod:`probam.streams.groups` asks. Gaussians share a covariance W and
have :math:`N(m, B)` as the prior of their locations, directions share a concentration and are uniform.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import singledispatch
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Float
from numpyro.distributions import Distribution
from scipy.linalg import eigh, solve_triangular

from probam.conjugacy.location import normal_prior
from probam.distributions.built import built
from probam.distributions.supports import innermost
from probam.distributions.wishart import InvariantWishartCholesky
from probam.models.gaussian import Gaussian
from probam.models.von_mises_fisher import VonMisesFisherMemory
from probam.numerics.bessel import inverse_mean_resultant_length, log_normalizer, mean_resultant_length
from probam.numerics.within_covariance import of_kind, resolution, towards_diagonal

__all__ = ["Sharing", "SharingConcentration", "SharingCovariance", "Width", "room_for", "width_of"]

_ROUNDS = 8
_PAIRED_ROWS, _NEAR = 300, 0.1
"""Rows whose pairs are compared, and the share of the pairs that are near."""
_RIDGE = 1e-9
"""Share of the variance of all rows that is added to every covariance."""
_SITES = {"isotropic": "beta", "spherical": "beta", "diagonal": "precision", "full": "precision_cholesky"}
_NARROW, _WIDE = 1e6, 1e-3
"""Largest concentration, and the smallest one as a share of the number of features."""


class Sharing(ABC):
    """Rows of groups that share one width, their locations integrated out.

    A width is the covariance within a group, or another array that a family has for it.
    """

    x: Float[np.ndarray, "N D"]
    """The rows."""

    @abstractmethod
    def first_widths(self) -> tuple[np.ndarray, ...]:
        """Widths from which the search begins."""

    @abstractmethod
    def in_metric(self, x: Float[np.ndarray, "J D"], width: np.ndarray) -> Float[np.ndarray, "J D"]:
        """Rows moved so that plain distances are those of groups of this width."""

    @abstractmethod
    def pooled(self, shares: Float[np.ndarray, "N K"], width: np.ndarray, typical: np.ndarray) -> np.ndarray:
        """The width of largest likelihood, with a few pseudo-data of a ``typical`` one.

        Locations have the posterior that they have under ``width``.
        """

    @abstractmethod
    def scores(self, shares: Float[np.ndarray, "N K"], width: np.ndarray) -> Float[np.ndarray, "N K"]:
        """Expected log density of each row in each group, up to what groups have in common."""

    @abstractmethod
    def log_marginal(self, shares: Float[np.ndarray, "N K"], width: np.ndarray) -> float:
        """Log density of the rows given their groups (nats), of which they may have shares."""


class Width(ABC):
    """How wide a memory of a family is: the site that has it, and the prior that follows from one that was found."""

    site: str
    """Of the family."""
    num_axes: int
    """Of the array that is a width."""
    is_known: bool = False
    """Whether memories have exactly this width, so that nothing is to be found of how they differ."""

    @abstractmethod
    def sharing(self, x: Float[np.ndarray, "N D"], prior: Mapping[str, Distribution]) -> Sharing | None:
        """These rows as rows of groups that share one width; None under a prior of locations that is not conjugate."""

    @abstractmethod
    def law(self, width: np.ndarray, shape: np.ndarray) -> Distribution:
        """Prior of the site: a guess that weighs as much as a Gamma law with this shape on the precision does."""


@singledispatch
def width_of(family: Any) -> Width | None:
    """The width of a memory of this family; None for a family of which it is not found."""
    del family
    return None


# --- Gaussians ------------------------------------------------------------------------------------------------


class _Covariance(Width):
    """Of Gaussians: the covariance within a memory."""

    num_axes = 2

    def __init__(self, covariance: str) -> None:
        self.covariance = covariance
        self.site = _SITES[covariance]
        self.is_known = covariance == "isotropic"

    def sharing(self, x: Float[np.ndarray, "N D"], prior: Mapping[str, Distribution]) -> Sharing | None:
        if not isinstance(innermost(prior["loc"]), dist.Normal | dist.MultivariateNormal):
            return None
        scale_tril = np.asarray(normal_prior(prior["loc"]).scale_tril, np.float64)
        return SharingCovariance(x, scale_tril @ scale_tril.T, self.covariance)

    def law(self, width: np.ndarray, shape: np.ndarray) -> Distribution:
        variances = np.diagonal(width)
        if self.covariance == "full":
            return built(_wishart, width, shape)[0]
        if self.covariance == "diagonal":
            return dist.Gamma(np.full(variances.shape, shape), shape * variances).to_event(1)
        return dist.Gamma(shape, 2 * shape * np.mean(variances))  # of beta, half the precision


def _wishart(within: Float[Array, "D D"], shape: Float[Array, ""]) -> tuple[Distribution]:
    freedom = 2 * shape + len(within) - 1
    return (InvariantWishartCholesky(freedom, rate_matrix=freedom * within, validate_args=False),)


@width_of.register
def _(family: Gaussian) -> Width | None:
    return _Covariance(family.covariance) if family.covariance in _SITES else None


class SharingCovariance(Sharing):
    """Rows of Gaussian groups of one covariance.

    Args:
        x: rows.
        prior_covariance: of a location.
        covariance: full, diagonal, or another word for one variance.
    """

    def __init__(
        self, x: Float[np.ndarray, "N D"], prior_covariance: Float[np.ndarray, "D D"], covariance: str
    ) -> None:
        self.x = x - np.mean(x, axis=0)
        self.prior_covariance = prior_covariance
        self.covariance = covariance
        self._narrowest = resolution(self.x) ** 2 / 4
        self._ridge = _RIDGE * np.diag(np.var(x, axis=0))  # so that collinear features leave it positive definite

    def first_widths(self) -> tuple[np.ndarray, ...]:
        """The covariance of all rows, nearer to diagonal where they are few, and that of near pairs in its metric."""
        x = self.x
        of_all = of_kind(towards_diagonal(x.T @ x / len(x), len(x)), self.covariance) + self._ridge
        return of_all, self._of_near_pairs(of_all)

    def _of_near_pairs(self, metric: Float[np.ndarray, "D D"]) -> Float[np.ndarray, "D D"]:
        """Covariance of pairs near in its own metric (Art, Gnanadesikan and Kettenring 1982), from ``metric`` on."""
        rows = self.x[:: -(-len(self.x) // _PAIRED_ROWS)]
        first, second = np.triu_indices(len(rows), 1)
        differences = rows[first] - rows[second]
        num_near = max(int(_NEAR * len(differences)), min(10 * rows.shape[1], len(differences)))
        for _ in range(_ROUNDS):
            distances = np.sum(self.in_metric(differences, metric) ** 2, axis=1)
            near = differences[np.argpartition(distances, num_near - 1)[:num_near]]
            metric = of_kind(near.T @ near / num_near, self.covariance) + self._ridge
        return metric

    def in_metric(self, x: Float[np.ndarray, "J D"], width: np.ndarray) -> Float[np.ndarray, "J D"]:
        """Whitened."""
        return np.asarray(solve_triangular(np.linalg.cholesky(width), x.T, lower=True).T)

    def pooled(self, shares: Float[np.ndarray, "N K"], width: np.ndarray, typical: np.ndarray) -> np.ndarray:
        """Covariance within the groups, no narrower than the resolution of the rows."""
        x, num_features = self.x, self.x.shape[1]
        counts, sums = shares.sum(axis=0), shares.T @ x
        ratios, basis = eigh(self.prior_covariance, width)
        precision = counts[:, None] + 1 / ratios
        centres = (sums @ basis) / precision
        back = np.linalg.inv(basis)
        cross = (sums @ basis).T @ centres
        square = (counts[:, None] * centres).T @ centres - cross - cross.T
        square += np.diag(np.sum(counts[:, None] / precision, 0))
        weight = {"full": num_features + 1.0, "diagonal": 2.0}.get(self.covariance, 2.0 / num_features)
        pooled = (x.T @ x + back.T @ square @ back + weight * typical) / (len(x) + weight)
        pooled = of_kind(pooled, self.covariance)
        return np.asarray(pooled + self._ridge + np.diag(np.maximum(self._narrowest - np.diagonal(pooled), 0)))

    def scores(self, shares: Float[np.ndarray, "N K"], width: np.ndarray) -> Float[np.ndarray, "N K"]:
        """Of the posteriors of the locations."""
        ratios, basis = eigh(self.prior_covariance, width)  # basis^T width basis = 1
        precision = shares.sum(axis=0)[:, None] + 1 / ratios
        rows = self.x @ basis
        centres = (shares.T @ rows) / precision
        return np.asarray(rows @ centres.T - 0.5 * np.sum(centres**2 + 1 / precision, axis=1))

    def log_marginal(self, shares: Float[np.ndarray, "N K"], width: np.ndarray) -> float:
        """Under the normal prior of the locations."""
        num_data, num_features = self.x.shape
        counts, sums = shares.sum(axis=0), shares.T @ self.x
        ratios, basis = eigh(self.prior_covariance, width)
        means = (sums / counts[:, None]) @ basis
        square = np.sum((self.x @ basis) ** 2) - np.sum(counts[:, None] * means**2)
        variances = ratios + 1 / counts[:, None]
        log_volume = num_data * (np.linalg.slogdet(width)[1] + num_features * np.log(2 * np.pi))
        return float(-0.5 * (log_volume + square + np.sum(means**2 / variances + np.log(variances * counts[:, None]))))


# --- directions -----------------------------------------------------------------------------------------------


class _Concentration(Width):
    """Of directions: the concentration of a memory."""

    site = "concentration"
    num_axes = 0

    def sharing(self, x: Float[np.ndarray, "N D"], prior: Mapping[str, Distribution]) -> Sharing | None:
        del prior
        return SharingConcentration(x)

    def law(self, width: np.ndarray, shape: np.ndarray) -> Distribution:
        return dist.LogNormal(np.log(width), shape**-0.5)  # the standard deviation of the log of that Gamma, nearly


@width_of.register
def _(family: VonMisesFisherMemory) -> Width | None:
    del family
    return _Concentration()


class SharingConcentration(Sharing):
    """Rows of von Mises-Fisher groups of one concentration, their directions uniform.

    Args:
        x: rows of unit length.
    """

    def __init__(self, x: Float[np.ndarray, "N D"]) -> None:
        self.x = x
        self._longest = np.sqrt(max(1 - np.sum(resolution(x) ** 2) / 4, 0.5))
        """Resultant length of the narrowest group."""

    def first_widths(self) -> tuple[np.ndarray, ...]:
        """That of all rows: turned alike all directions are as wide, so that there is one metric."""
        return (self._of_length(float(np.linalg.norm(self.x.mean(axis=0)))),)

    def in_metric(self, x: Float[np.ndarray, "J D"], width: np.ndarray) -> Float[np.ndarray, "J D"]:
        """Chords."""
        del width
        return x

    def pooled(self, shares: Float[np.ndarray, "N K"], width: np.ndarray, typical: np.ndarray) -> np.ndarray:
        """The concentration whose mean resultant length is that of the groups, no narrower than the resolution."""
        num_features, weight = self.x.shape[1], 2 / (self.x.shape[1] - 1)
        length = np.linalg.norm(shares.T @ self.x, axis=1)
        explained = np.sum(length * _mean_length(num_features, width * length))
        expected = weight * _mean_length(num_features, np.atleast_1d(typical))[0]
        return self._of_length(float((explained + expected) / (len(self.x) + weight)))

    def _of_length(self, length: float) -> np.ndarray:
        num_features = self.x.shape[1]
        with jax.enable_x64(True):
            kappa = inverse_mean_resultant_length(num_features, np.float64(min(length, self._longest)))
        return np.asarray(np.clip(np.asarray(kappa, np.float64), _WIDE * num_features, _NARROW))

    def scores(self, shares: Float[np.ndarray, "N K"], width: np.ndarray) -> Float[np.ndarray, "N K"]:
        """Of the posteriors of the directions, which are von Mises-Fisher too."""
        sums = shares.T @ self.x
        length = np.linalg.norm(sums, axis=1)
        slope = width * _mean_length(self.x.shape[1], width * length) / np.where(length > 0, length, 1)
        return np.asarray(self.x @ (slope[:, None] * sums).T)

    def log_marginal(self, shares: Float[np.ndarray, "N K"], width: np.ndarray) -> float:
        """A ratio of normalisers for each group."""
        length = np.linalg.norm(shares.T @ self.x, axis=1)
        of_rows, of_none, *of_groups = _log_normalizer(self.x.shape[1], np.r_[width, 0.0, width * length])
        return float(len(self.x) * of_rows + np.sum(of_none - np.asarray(of_groups)))


def room_for(number: int) -> int:
    """A power of four that is at least the number: few programs to compile.

    >>> room_for(3), room_for(64), room_for(65)
    (64, 64, 256)
    """
    return max(64, 1 << 2 * -(-(number - 1).bit_length() // 2))


def _padded(function: Any, num_features: int, values: Float[np.ndarray, " K"]) -> Float[np.ndarray, " K"]:
    """In double precision, by a program for a larger number of values."""
    room = np.zeros(room_for(len(values)))
    room[: len(values)] = values
    with jax.enable_x64(True):
        return np.asarray(function(num_features, jnp.asarray(room)))[: len(values)]


def _mean_length(num_features: int, concentration: Float[np.ndarray, " K"]) -> Float[np.ndarray, " K"]:
    return _padded(mean_resultant_length, num_features, concentration)


def _log_normalizer(num_features: int, concentration: Float[np.ndarray, " K"]) -> Float[np.ndarray, " K"]:
    return _padded(log_normalizer, num_features, concentration)
