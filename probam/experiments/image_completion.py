"""What completes images without being trained: the mean image, the nearest stored one, and the Gaussian conditional."""

import numpy as np
from jaxtyping import Bool, Float

__all__ = ["by_gaussian", "by_mean", "by_nearest", "hidden_error"]

_RIDGE = 1e-3
"""Variance that is added to every pixel of the Gaussian, in squared grey values."""


def hidden_error(
    filled: Float[np.ndarray, "I P"], images: Float[np.ndarray, "I P"], hidden: Bool[np.ndarray, "I P"]
) -> float:
    """Mean squared error of the hidden pixels."""
    return float(np.mean((filled - images)[hidden] ** 2))


def by_mean(
    stored: Float[np.ndarray, "N P"], images: Float[np.ndarray, "I P"], hidden: Bool[np.ndarray, "I P"]
) -> Float[np.ndarray, "I P"]:
    """Hidden pixels from the mean of the stored images."""
    return np.where(hidden, stored.mean(axis=0), images)


def by_nearest(
    stored: Float[np.ndarray, "N P"], images: Float[np.ndarray, "I P"], hidden: Bool[np.ndarray, "I P"]
) -> Float[np.ndarray, "I P"]:
    """Hidden pixels from the stored image that is nearest in the others."""
    seen = (~hidden).astype(stored.dtype)
    distance = seen @ (stored**2).T - 2 * (seen * images) @ stored.T  # without the squares of the images themselves
    return np.where(hidden, stored[np.argmin(distance, axis=1)], images)


def by_gaussian(
    stored: Float[np.ndarray, "N P"], images: Float[np.ndarray, "I P"], hidden: Bool[np.ndarray, "I P"]
) -> Float[np.ndarray, "I P"]:
    """Hidden pixels from their mean given the others, if images were normal with the stored mean and covariance."""
    mean = stored.mean(axis=0, dtype=float)
    covariance = np.cov(stored.T.astype(float)) + _RIDGE * np.eye(stored.shape[1])
    filled = images.copy()
    for row, gap in zip(filled, hidden, strict=True):
        rest = np.linalg.solve(covariance[np.ix_(~gap, ~gap)], row[~gap] - mean[~gap])
        row[gap] = mean[gap] + covariance[np.ix_(gap, ~gap)] @ rest
    return filled
