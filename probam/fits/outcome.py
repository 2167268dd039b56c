"""How the run behind a fit ended, written into the fit."""

import numpy as np
import xarray as xr

from probam.models.gaussian import VARIANCE_FLOOR, Gaussian
from probam.models.mixture import Mixture
from probam.reports.summaries.outcome import outcome_of
from probam.reports.tree import has, variable

__all__ = ["with_outcome"]


def with_outcome(tree: xr.DataTree, model: Mixture) -> xr.DataTree:
    """The fit, which says at its root how its run ended and what to do about that."""
    tree.attrs["outcome"], tree.attrs["remedy"] = outcome_of(tree, is_narrow=_is_narrow(tree, model))
    return tree


def _is_narrow(tree: xr.DataTree, model: Mixture) -> bool:
    """Whether a Gaussian memory has reached the least width that maximum likelihood is let."""
    is_likeliest = tree.attrs.get("estimate") == "maximum likelihood" and has(tree, "posterior", "loc")
    if not (is_likeliest and isinstance(model.family, Gaussian)):
        return False
    group = tree["posterior"].to_dataset()
    x = (variable(tree, "observed_data", "x").values - tree["constant_data"]["center"].values) / tree["constant_data"][
        "scale"
    ].values
    scale = np.nanstd(x, axis=0)
    if "precision_cholesky" in group:
        factor = group["precision_cholesky"].values[0, 0] * scale[:, None]
        largest = np.linalg.norm(factor, ord=2, axis=(-2, -1)).max() ** 2  # of the precision in units of the spread
    elif "precision" in group:
        largest = (group["precision"].values[0, 0] * scale**2).max()
    else:
        largest = 2 * group["beta"].values[0, 0].max() * (scale**2).mean()
    return bool(largest * 2 * VARIANCE_FLOOR > 1)
