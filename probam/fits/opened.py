"""A file as a fit: what it holds is checked, then the program that was fitted is built again."""

import json
from typing import Any

import numpy as np
import xarray as xr
from numpyro.distributions import Distribution, constraints
from numpyro.distributions.constraints import Constraint

from probam.errors import InputError
from probam.family import Family
from probam.fits.choices import check_precision, precision, saved_family
from probam.fits.prior_text import priors_of_file
from probam.fits.saved import saved_units
from probam.inference.common.coordinates import Coordinates
from probam.models.mixture import Mixture, mixture
from probam.models.weights import weight_prior
from probam.reports.checked import check_tree, damaged
from probam.reports.tree import variable

__all__ = ["model_of_tree"]

_ROUNDING = 1e-3
"""How far a draw may lie outside the support of its site: single precision rounds sums and lengths of many numbers."""


def model_of_tree(tree: xr.DataTree, source: str, given: str | Family | None) -> Mixture:
    """The program of a saved fit, after a check that the tree holds what a fit of this program holds.

    Default priors are scaled to the saved data. A prior of the user's own that the file cannot hold is replaced by the
    default one, on which the draws do not depend.

    Args:
        tree: the fit.
        source: what its file is called in messages.
        given: the family that the person names, whose code is run.

    Raises:
        InputError: for a tree that does not hold what a fit holds, a family of the user's own that is not named, and
            precision that is not turned on.
    """
    check_tree(tree, source)
    covariance = json.loads(tree.attrs["family_options"]).get("covariance")
    family = saved_family(tree.attrs["family"], covariance, given, source)
    dtype = np.dtype(tree.attrs["dtype"])
    check_precision(dtype, "fit", source)
    with precision(dtype):
        model = _rebuilt(tree, family, source)
        _check_sites(tree, model, source)
    return model


def _rebuilt(tree: xr.DataTree, family: Family, source: str) -> Mixture:
    """The program; what no fit could have been made with is a fault of the file."""
    try:
        return _model(tree, family)
    except InputError:
        raise
    except (ValueError, TypeError, ArithmeticError) as error:
        raise damaged(source, f"its model cannot be built again ({error})") from error


def _model(tree: xr.DataTree, family: Family) -> Mixture:
    """The program; priors that the file does not hold are the default ones."""
    attributes = tree.attrs
    weights_options = json.loads(attributes["weights_options"])
    x = saved_units(tree).apply(variable(tree, "observed_data", "x").values)
    own = priors_of_file(tree)
    hyper: dict[str, float | Distribution | None] = {
        name: own.pop(name, None) if isinstance(value := weights_options.get(name), str) else value
        for name in ("alpha", "discount")
    }
    given = tuple(weights_options["given"]) if "given" in weights_options else None
    return mixture(
        x.astype(attributes["dtype"]),
        family=family,
        weights=weight_prior(attributes["weights"], **hyper, given=given),
        num_components=int(attributes["num_components"]),
        prior=own,
    )


def _check_sites(tree: xr.DataTree, model: Mixture, source: str) -> None:
    """Raise where the draws are not those of the program: a site that is absent, of another shape, or out of place."""
    posterior = tree.children["posterior"].to_dataset()
    coordinates = Coordinates(model)
    for name, transform in coordinates.transforms.items():
        if name not in posterior.data_vars:
            raise damaged(source, f"the group posterior lacks {name}, a site of the model")
        values = posterior[name].values
        shape = transform.forward_shape(coordinates.shapes[name])
        if values.shape[2:] != shape:
            raise damaged(source, f"posterior/{name} has the shape {values.shape[2:]} of a draw; expected {shape}")
        if not _lies_in(transform.codomain, values):
            raise damaged(source, f"posterior/{name} has draws that the site cannot have")


def _lies_in(support: Constraint[Any], values: np.ndarray) -> bool:
    """Whether values lie in a support, up to rounding; those whose law is not known here do."""
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    if support is constraints.simplex:
        return bool(np.all(values >= -_ROUNDING) and np.all(np.abs(values.sum(axis=-1) - 1) <= _ROUNDING))
    if support is constraints.sphere:
        return bool(np.all(np.abs(np.linalg.norm(values, axis=-1) - 1) <= _ROUNDING))
    if isinstance(support, type(constraints.lower_cholesky) | type(constraints.corr_cholesky)):
        upper = np.triu_indices(values.shape[-1], 1)
        diagonal = np.diagonal(values, axis1=-2, axis2=-1)
        return bool(np.all(values[..., upper[0], upper[1]] == 0) and np.all(diagonal >= 0))
    low, high = (getattr(support, name, None) for name in ("lower_bound", "upper_bound"))
    above = low is None or bool(np.all(values >= np.asarray(low) - _ROUNDING * np.abs(low)))
    return above and (high is None or bool(np.all(values <= np.asarray(high) + _ROUNDING * np.abs(high))))
