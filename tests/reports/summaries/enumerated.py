"""Small sets of which every partition can be listed, and losses counted the slow way."""

from math import log

import numpy as np

__all__ = ["all_partitions", "dirichlet", "slow_binder", "slow_vi"]


def all_partitions(num_data: int) -> np.ndarray:
    """Every partition as labels in order of first appearance: Bell(num_data) rows."""
    rows = [[0]]
    for _ in range(num_data - 1):
        rows = [[*row, label] for row in rows for label in range(max(row) + 2)]
    return np.array(rows)


def slow_vi(a: np.ndarray, b: np.ndarray) -> float:
    """H(a | b) + H(b | a) from conditional counts, datum by datum."""
    total = 0.0
    for i in range(len(a)):
        own_a, own_b = a == a[i], b == b[i]
        both = np.sum(own_a & own_b)
        total -= log(both / own_a.sum()) + log(both / own_b.sum())
    return total / len(a)


def slow_binder(a: np.ndarray, b: np.ndarray) -> float:
    """Pairs on which the partitions disagree, counted one by one."""
    pairs = [(i, j) for i in range(len(a)) for j in range(i)]
    return sum((a[i] == a[j]) != (b[i] == b[j]) for i, j in pairs) / len(pairs)


def dirichlet(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Probabilities along the last axis."""
    draws = rng.gamma(0.7, size=shape)
    return np.asarray(draws / draws.sum(axis=-1, keepdims=True))
