r"""The numbers of a mixture, for programs that do not know probam: NPZ, JSON, scikit-learn.

.. math:: p(x) = \sum_k w_k \, \mathcal N(x \mid m_k, C_k)

of Gaussian memories, in the units of the data; of other families the sites of the density, in the units of the model.
"""

import json
import os
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.linalg import solve_triangular

from probam.data.columns import counted
from probam.data.schema import SCHEMA
from probam.data.standardise import Standardiser
from probam.data.writing import check_writable, write_atomically
from probam.errors import InputError
from probam.family import Params
from probam.family.capabilities import DataSpace
from probam.models.gaussian import Gaussian
from probam.models.mixture import Mixture
from probam.options import file_path

__all__ = [
    "SUFFIXES",
    "Parameters",
    "as_gaussian_mixture",
    "check_one_mixture",
    "parameters_of",
]

SUFFIXES = (".npz", ".json")

_OF_SKLEARN = {"isotropic": "spherical", "diagonal": "diag", "lkj": "full"}
"""What scikit-learn calls a covariance structure, where it has another name."""


@dataclass(frozen=True, eq=False)
class Parameters:
    """One setting of the parameters of a mixture; ``Fit.parameters`` makes it.

    Attributes:
        family: name of the family.
        columns: names of the features.
        weights: mixing weights.
        means: stored patterns, in the units of the data.
        covariance_type: of Gaussian memories "full", "tied", "diag" or "spherical", as scikit-learn has them; empty for
            other families.
        covariances: of Gaussian memories, in the units of the data: (K, D, D), (D, D), (K, D) or (K,); None for others.
        sites: values of the program's sites, in the units of the model: z = (x - center) / scale.
        center: of the units of the model.
        scale: of the units of the model.
    """

    family: str
    columns: tuple[str, ...]
    weights: Float[np.ndarray, " K"]
    means: Float[np.ndarray, "K D"]
    covariance_type: str
    covariances: np.ndarray | None
    sites: dict[str, np.ndarray]
    center: Float[np.ndarray, " D"]
    scale: Float[np.ndarray, " D"]

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything by name, as NPZ holds it; a site has the prefix ``site_``."""
        known = {} if self.covariances is None else {"covariances": self.covariances}
        sites = {f"site_{name}": value for name, value in self.sites.items()}
        return {"weights": self.weights, "means": self.means, **known, "center": self.center, "scale": self.scale} | {
            "columns": np.array(self.columns),
            **sites,
        }

    def about(self) -> dict[str, Any]:
        """What the numbers are, in words."""
        return {
            "schema": SCHEMA,
            "probam_version": version("probam"),
            "family": self.family,
            "covariance_type": self.covariance_type,
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the numbers, completely or not at all.

        Args:
            path: a file whose name ends in ``.npz`` (arrays, and ``about`` as JSON) or ``.json`` (nested lists).

        Raises:
            InputError: for another ending, and where the file cannot be written.
        """
        file_path("path", path)
        is_arrays = check_writable(path, suffixes=SUFFIXES).suffix.lower() == ".npz"
        arrays = self.arrays()
        with write_atomically(path) as temporary:
            if is_arrays:
                with open(temporary, "wb") as stream:
                    np.savez(stream, allow_pickle=False, about=np.array(json.dumps(self.about())), **arrays)
            else:
                lists = {name: values.tolist() for name, values in arrays.items()}
                with open(temporary, "w", encoding="utf-8") as text:
                    json.dump(self.about() | lists, text, indent=1)


def parameters_of(
    model: Mixture,
    params: Params,
    permutation: Int[np.ndarray, " K"],
    columns: tuple[str, ...],
    units: Standardiser,
) -> Parameters:
    """The numbers of a mixture at one draw.

    Args:
        model: the program that was fitted.
        params: site values of the draw.
        permutation: memory k as numbered is memory ``permutation[k]`` of the draw.
        columns: names of the features.
        units: between the units of the data and those of the model.
    """
    family = model.family
    own = {name for name in model.prior if name not in family.shared}
    sites = {
        name: np.asarray(value)[permutation] if name in own else np.asarray(value)
        for name, value in params.items()
        if name in model.prior
    }
    weights = np.exp(np.asarray(model.mixture(params).log_weights))[permutation]
    means = np.asarray(DataSpace.of(family).memories(params))[permutation]
    kind, covariances = "", None
    if isinstance(family, Gaussian):
        kind, covariances = _covariances(family, sites, units, model.num_components)
    center, scale = np.asarray(units.center), np.asarray(units.scale)
    signature = family.signature
    return Parameters(signature, columns, weights, units.invert(means), kind, covariances, sites, center, scale)


def _covariances(
    family: Gaussian, sites: dict[str, np.ndarray], units: Standardiser, num_components: int
) -> tuple[str, np.ndarray]:
    """The covariance type in scikit-learn's words, and covariances in the units of the data.

    Widths that are equal in the units of the model differ in those of the data where these are standardised: what was
    spherical is then diagonal.

    Args:
        family: of the memories.
        sites: values in the units of the model, memories leading.
        units: of the data.
        num_components: number of memories.
    """
    scale = np.asarray(units.scale)
    kind = family.covariance
    if kind in ("isotropic", "spherical"):
        variances = np.broadcast_to(1 / (2 * sites["beta"]), (num_components,))
        if np.all(scale == scale[0]):
            return "spherical", variances * scale[0] ** 2
        return "diag", variances[:, None] * scale**2
    if kind == "diagonal":
        return "diag", scale**2 / sites["precision"]
    if kind == "lkj":
        factor = sites["scale"][..., None] * sites["corr_cholesky"]
    else:
        lower = sites["precision_cholesky"]  # L L^T is the precision, so that L^-T is a factor of the covariance
        factor = np.swapaxes(np.linalg.inv(lower), -1, -2)
    factor = scale[:, None] * factor
    return _OF_SKLEARN.get(kind, kind), factor @ np.swapaxes(factor, -1, -2)


def check_one_mixture(num_draws: int, draw: int | None, *, normalised: bool) -> None:
    """Raise :class:`probam.errors.InputError` where a fit is not one mixture of the rows as they are.

    Args:
        num_draws: draws of the fit.
        draw: the chosen one.
        normalised: whether the fit divides each row by its length.
    """
    if normalised:
        raise InputError(
            "to_sklearn: this fit divides each row by its length, which a GaussianMixture does not; use "
            "probam.ProbamMixture(normalise=True)"
        )
    if draw is None and num_draws > 1:
        raise InputError(
            f"to_sklearn: this fit has {num_draws} draws, and a GaussianMixture has one set of numbers; choose a draw "
            "(draw=0), fit with engine 'em', or use probam.ProbamMixture"
        )


def as_gaussian_mixture(parameters: Parameters) -> Any:
    """The same mixture as a fitted ``sklearn.mixture.GaussianMixture``.

    Raises:
        InputError: for memories that are not Gaussian.
    """
    from sklearn.mixture import GaussianMixture  # it takes a second to import, which nothing else here needs

    if parameters.covariances is None:
        raise InputError(
            f"to_sklearn: memories of family {parameters.family!r} are no Gaussians, and scikit-learn has no other "
            "mixture; use probam.ProbamMixture, which has its interface for every family"
        )
    kind, covariances = parameters.covariance_type, parameters.covariances
    num_components, num_features = parameters.means.shape
    mixture: Any = GaussianMixture(num_components, covariance_type=kind)
    mixture.weights_, mixture.means_, mixture.covariances_ = parameters.weights, parameters.means, covariances
    if kind in ("full", "tied"):
        lower, unit = np.linalg.cholesky(covariances), np.eye(num_features)
        factors = [solve_triangular(each, unit, lower=True).T for each in lower.reshape(-1, *unit.shape)]
        mixture.precisions_cholesky_ = np.reshape(factors, covariances.shape)
        mixture.precisions_ = mixture.precisions_cholesky_ @ np.swapaxes(mixture.precisions_cholesky_, -1, -2)
    else:
        mixture.precisions_, mixture.precisions_cholesky_ = 1 / covariances, 1 / np.sqrt(covariances)
    mixture.n_features_in_ = num_features
    if parameters.columns != counted(num_features):
        mixture.feature_names_in_ = np.array(parameters.columns, dtype=object)
    return mixture
