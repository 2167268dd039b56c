r"""How far an approximation can be trusted: Pareto-smoothed importance sampling of the posterior from a guide.

With draws :math:`z_s \sim q` the ratios :math:`r_s = p(x, z_s) / q(z_s)` have mean :math:`p(x)`. The shape :math:`\hat
k` of a generalised Pareto distribution fitted to the largest ratios shows whether that mean can be estimated: below 0.7
it can; above, the guide misses mass of the posterior (Vehtari et al. 2024, arXiv:1507.02646; Yao et al. 2018,
arXiv:1802.02538). A constant factor of the ratios does not change it: neither an unknown evidence, nor the factor K!
between the one labelling of the memories at which a guide is and all of them. So :math:`\hat k` judges the guide within
its labelling; it cannot see modes far from it.
"""

from typing import Any, NamedTuple

import numpy as np
from arviz_stats.base.array import array_stats
from jaxtyping import Float
from scipy.special import logsumexp

__all__ = ["LEAST_DRAWS", "Importance", "pareto_smoothed"]

_psis: Any = array_stats.psislw  # it has no types

LEAST_DRAWS = 100
"""Fewest draws from which the tail is estimated."""


class Importance(NamedTuple):
    """What follows from the ratios."""

    pareto_k: float
    """Shape of their tail; 0 where all are equal, infinite where one dominates the rest of the tail."""

    log_evidence: float
    """Log of the mean of the smoothed ratios, nats."""

    standard_error: float
    """Monte Carlo standard error of ``log_evidence``, where ``pareto_k`` is below 0.7."""


def pareto_smoothed(log_ratios: Float[np.ndarray, " S"]) -> Importance | None:
    """Tail shape and smoothed mean of the ratios; None for fewer than 100, or where one is not finite.

    Args:
        log_ratios: log joint density minus log density of the guide, at draws from the guide (nats).
    """
    ratios = np.asarray(log_ratios, np.float64)
    if len(ratios) < LEAST_DRAWS or not np.isfinite(ratios).all():
        return None
    rounding = 64 * float(np.finfo(np.asarray(log_ratios).dtype).eps) * max(1.0, float(np.abs(ratios).max()))
    if np.ptp(ratios) <= rounding:
        return Importance(0.0, float(ratios.mean()), float(ratios.std() / len(ratios) ** 0.5))
    with np.errstate(divide="ignore", invalid="ignore"):  # a tail that is one number and zeros cannot be fitted
        log_weights, k_hat = _psis(-ratios)  # it takes minus the log ratios
    if not (np.isfinite(k_hat) and np.isfinite(log_weights).all()):
        return Importance(float("inf"), float(logsumexp(ratios) - np.log(len(ratios))), float("inf"))
    smallest = int(np.argmin(ratios))  # not in the tail: its weight is its ratio over the sum
    log_sum = ratios[smallest] - log_weights[smallest]
    spread = max(0.0, float(np.sum(np.exp(2 * log_weights))) - 1 / len(ratios))
    return Importance(float(k_hat), float(log_sum - np.log(len(ratios))), spread**0.5)
