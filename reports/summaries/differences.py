r"""What tells the memories of a fit apart, and how sure the memory of a row is.

Of the variance of a feature the memories explain

.. math::
    \eta^2 = \frac{B}{B + W}, \qquad B = \sum_k w_k (\mu_k - \bar\mu)^2, \quad W = \sum_k w_k s_k^2

with weights :math:`w_k`, means :math:`\mu_k` and standard deviations :math:`s_k` within the memories (the correlation
ratio of Pearson and Fisher, of the mixture instead of a sample).
"""

from typing import NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Float

from probam.reports.tree import has, variable

__all__ = ["Sureness", "explained_variance", "sureness"]

_DOUBTFUL = 0.6
"""Probability of its memory under which a row is between memories."""


def explained_variance(tree: xr.DataTree) -> Float[np.ndarray, " F"] | None:
    """The share of each feature's variance that lies between the memories; None where a fit has one memory only, or
    does not say how wide its memories are."""
    if not has(tree, "memory", "sd"):
        return None
    group = tree["memory"].to_dataset()
    means, spread = group["mean"].values.astype(np.float64), group["sd"].values.astype(np.float64)
    weight = group["weight"].values.astype(np.float64)
    held = weight > 0
    if held.sum() < 2 or not (np.isfinite(means[held]).all() and np.isfinite(spread[held]).all()):
        return None
    share, means, spread = weight[held] / weight[held].sum(), means[held], spread[held]
    between = share @ (means - share @ means) ** 2
    whole = between + share @ spread**2
    return np.asarray(np.divide(between, whole, out=np.zeros_like(whole), where=whole > 0))


class Sureness(NamedTuple):
    """Probabilities of the memories that the rows have."""

    mean: float
    """Over rows."""

    num_doubtful: int
    """Rows whose memory has a probability under 60 %."""


def sureness(tree: xr.DataTree) -> Sureness | None:
    """How sure the memory of a row is; None where the fit does not say."""
    if not has(tree, "partition", "confidence"):
        return None
    confidence = variable(tree, "partition", "confidence").values.astype(np.float64)
    return Sureness(float(confidence.mean()), int((confidence < _DOUBTFUL).sum()))
