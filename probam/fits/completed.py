"""Rows whose missing entries are filled in, in the units of the data."""

from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from probam.data.standardise import Standardiser
from probam.family import Params
from probam.fits.landscape_posterior import completion, fill
from probam.models.mixture import Mixture

__all__ = ["completed"]


def completed(
    model: Mixture,
    sites: Params,
    values: Float[np.ndarray, "N D"],
    units: Standardiser,
    columns: tuple[str, ...],
    max_steps: int | None,
) -> xr.Dataset:
    """What :meth:`probam.fits.fitted.Fit.complete` returns.

    Args:
        model: the program that was fitted.
        sites: of the draws.
        values: rows, NaN where an entry is missing.
        units: of the data and of the model.
        columns: the features.
        max_steps: most steps of a descent; None: no descent.
    """
    x = np.asarray(units.apply(values), values.dtype)
    recalled = None if max_steps is None else completion(model, sites, x, max_steps=max_steps)
    pooled = fill(model, sites, x).pooled() if recalled is None else recalled.pooled()
    missing = np.isnan(values)
    variables: dict[str, Any] = {}
    for name, own in pooled.items():
        is_spread = name.endswith("_sd")
        in_units = own * units.scale if is_spread else units.invert(own)
        variables[name] = (("datum", "feature"), np.where(missing, in_units, 0 if is_spread else values))
    variables["missing"] = (("datum", "feature"), missing)
    if recalled is not None:
        variables["converged"] = ("datum", recalled.converged.mean(axis=0))
    return xr.Dataset(variables, coords={"datum": np.arange(len(values)), "feature": list(columns)})
