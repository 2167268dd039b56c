"""EM for isotropic Gaussians in plain NumPy; it shares no code with the engine."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp

from tests.reports.small_fits import log_components


class Search(NamedTuple):
    """The log likelihood of every iteration, and where it ended."""

    trace: list[float]
    loc: np.ndarray
    beta: np.ndarray
    weights: np.ndarray

    def labels(self, x: np.ndarray) -> np.ndarray:
        """The most responsible memory of each datum."""
        joint = np.log(self.weights) + log_components(x, self.loc, self.beta)
        return np.asarray(joint.argmax(axis=1))


def expectation_maximisation(x: np.ndarray, loc: np.ndarray) -> Search:
    """EM from locations (K, D) with equal weights, at most 40 iterations."""
    num_data, num_features = x.shape
    beta, weights = np.array(0.1), np.full(len(loc), 1 / len(loc))
    trace: list[float] = []
    for _ in range(40):
        joint = np.log(weights) + log_components(x, loc, beta)
        trace.append(float(logsumexp(joint, axis=1).sum()))
        if len(trace) > 1 and trace[-1] - trace[-2] < 1e-9 * abs(trace[-1]):
            break
        resp = np.exp(joint - logsumexp(joint, axis=1, keepdims=True))
        counts = resp.sum(axis=0)
        weights, loc = counts / num_data, resp.T @ x / counts[:, None]
        squares = ((x[:, None, :] - loc) ** 2).sum(axis=-1)
        beta = num_features * num_data / (2 * np.sum(squares * resp))
    return Search(trace, loc, np.asarray(beta), weights)


def objective_of(searches: Sequence[Search]) -> np.ndarray:
    """The traces (restart, iteration), NaN after each has ended."""
    objective = np.full((len(searches), max(len(search.trace) for search in searches)), np.nan)
    for row, search in enumerate(searches):
        objective[row, : len(search.trace)] = search.trace
    return objective
