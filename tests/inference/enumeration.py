"""Exact posteriors of tiny problems by enumerating every partition: the gold standard for samplers.

One-dimensional Gaussian memories of known variance with a conjugate base; slow, obvious, NumPy only.
"""

from collections.abc import Callable, Iterator
from math import lgamma

import numpy as np


def partitions(n: int) -> Iterator[list[list[int]]]:
    """All partitions of 0..n-1, each a list of blocks."""
    if n == 0:
        yield []
        return
    for smaller in partitions(n - 1):
        for i in range(len(smaller)):
            yield [*smaller[:i], [*smaller[i], n - 1], *smaller[i + 1 :]]
        yield [*smaller, [n - 1]]


def log_marginal(x: np.ndarray, variance: float, base_variance: float) -> float:
    """Log density of the data of one memory with its location N(0, base_variance) integrated out."""
    n = len(x)
    covariance = variance * np.eye(n) + base_variance
    _, log_det = np.linalg.slogdet(covariance)
    return float(-0.5 * (n * np.log(2 * np.pi) + log_det + x @ np.linalg.solve(covariance, x)))


def log_eppf(sizes: list[int], alpha: float, discount: float) -> float:
    """Log probability of a partition under the two-parameter Chinese restaurant process."""
    n, k = sum(sizes), len(sizes)
    total = sum(np.log(alpha + i * discount) for i in range(1, k))
    total -= lgamma(alpha + n) - lgamma(alpha + 1)
    return float(total + sum(lgamma(size - discount) - lgamma(1 - discount) for size in sizes))


def log_truncated(sizes: list[int], alpha: float, discount: float, truncation: int) -> float:
    """Log probability of a partition under stick-breaking truncated at T: summed over the labels of its blocks."""

    def labelled(counts: np.ndarray) -> float:
        total = 0.0
        for k in range(1, truncation):
            a, b = 1 - discount, alpha + k * discount
            here, behind = counts[k - 1], counts[k:].sum()
            total += lgamma(a + here) + lgamma(b + behind) - lgamma(a + b + here + behind)
            total -= lgamma(a) + lgamma(b) - lgamma(a + b)
        return total

    terms: list[float] = []

    def place(blocks: list[int], counts: np.ndarray) -> None:
        if not blocks:
            terms.append(labelled(counts))
            return
        for k in range(truncation):
            if counts[k] == 0:
                counts[k] = blocks[0]
                place(blocks[1:], counts)
                counts[k] = 0

    if len(sizes) > truncation:
        return -np.inf
    place(sizes, np.zeros(truncation, int))
    return float(np.logaddexp.reduce(terms))


def posterior(
    x: np.ndarray, log_prior: Callable[[list[int]], float], variance: float, base_variance: float
) -> tuple[float, np.ndarray, np.ndarray]:
    """Log evidence, P(K = k) for k = 0..n, and the co-clustering matrix."""
    logs, found, cache = [], [], {}
    for blocks in partitions(len(x)):
        sizes = sorted(len(block) for block in blocks)
        key = tuple(sizes)
        if key not in cache:
            cache[key] = log_prior(sizes)
        total = cache[key] + sum(log_marginal(x[block], variance, base_variance) for block in blocks)
        logs.append(total)
        found.append(blocks)
    evidence = float(np.logaddexp.reduce(logs))
    weights = np.exp(np.asarray(logs) - evidence)
    number, together = np.zeros(len(x) + 1), np.zeros((len(x), len(x)))
    for weight, blocks in zip(weights, found, strict=True):
        number[len(blocks)] += weight
        for block in blocks:
            together[np.ix_(block, block)] += weight
    return evidence, number, together
