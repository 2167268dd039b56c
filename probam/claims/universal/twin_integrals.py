r"""Normalisers of components by brute force: sums over corners and counts, integrals over lines, circles and simplices.

The oracle of claim C18: NumPy and SciPy alone, with scores of its own.
"""

import math
from collections.abc import Callable
from functools import cache
from itertools import product
from typing import Any

import numpy as np
from scipy.integrate import quad
from scipy.special import logsumexp, xlogy

from probam.claims.inputs import Floats

__all__ = [
    "circles",
    "corners",
    "dot",
    "hamming",
    "jeffreys",
    "jensen_shannon",
    "over_corners",
    "over_counts",
    "over_simplex",
    "product_of_lines",
    "reverse",
    "shells",
]

Scores = Callable[[Any, Any], Any]


def corners(dim: int, low: float) -> Floats:
    """All vectors of D entries that are ``low`` or 1."""
    return np.array(list(product((low, 1.0), repeat=dim)))


def _line(density: Callable[[float], float], centre: float, width: float) -> float:
    """Integral over the line, in two halves that meet at the centre; ``width`` is where the density has died out."""
    halves = ((centre - width, centre), (centre, centre + width))
    return sum(float(quad(density, *ends, epsabs=0, epsrel=1e-13, limit=200)[0]) for ends in halves)


def product_of_lines(memories: Floats, beta: float, power: float) -> list[float]:
    """log Z of exp(-beta sum |q_i - m_i|^p), coordinate by coordinate."""
    width = (45 / beta) ** (1 / power)
    return [
        sum(math.log(_line(lambda x, m=m: math.exp(-beta * abs(x - m) ** power), m, width)) for m in row)  # type: ignore[misc]
        for row in memories
    ]


def shells(memories: Floats, beta: float) -> list[float]:
    """log Z of exp(-beta |q - m|), shell by shell."""
    dim = memories.shape[1]
    surface = 2 * math.pi ** (dim / 2) / math.gamma(dim / 2)
    radial = quad(lambda r: r ** (dim - 1) * math.exp(-beta * r), 0, (60 + 8 * dim) / beta, epsabs=0, epsrel=1e-13)[0]
    return [math.log(surface * radial)] * len(memories)


def circles(memories: Floats, beta: float, *, unit: bool) -> list[float]:
    """log Z of exp(beta m . q) on the unit sphere, circle of latitude by circle of latitude (D > 2)."""
    dim = memories.shape[1]
    around = 2 * math.pi ** ((dim - 1) / 2) / math.gamma((dim - 1) / 2)
    log_z = []
    for kappa in beta * (np.ones(len(memories)) if unit else np.linalg.norm(memories, axis=1)):
        inner = quad(
            lambda t, kappa=kappa: math.exp(kappa * (math.cos(t) - 1)) * math.sin(t) ** (dim - 2),
            0, math.pi, epsabs=0, epsrel=1e-13, limit=400, points=[min(math.pi, 6 / math.sqrt(kappa))],
        )[0]  # fmt: skip
        log_z.append(float(kappa) + math.log(around * inner))
    return log_z


def over_corners(memories: Floats, beta: float, *, low: float, score: Scores) -> Floats:
    """log Z by the sum over all corners."""
    everywhere = corners(memories.shape[1], low)
    return np.asarray(logsumexp(beta * score(everywhere, memories), axis=0))


def over_counts(memories: Floats, beta: float) -> Floats:
    """Log of the sum over all count vectors with total beta of coefficient times prod m^c."""
    total, dim = round(beta), memories.shape[1]
    counts = np.array([c for c in product(range(total + 1), repeat=dim) if sum(c) == total], float)
    factorials = np.array([sum(math.lgamma(c + 1) for c in row) for row in counts])
    terms = math.lgamma(total + 1) - factorials[:, None] + xlogy(counts[:, None], memories).sum(-1)
    return np.asarray(logsumexp(terms, axis=0))


@cache
def simplex_rule(dim: int, nodes: int = 60) -> tuple[Floats, Floats]:
    """Points (M, D) of the simplex and weights (M,): tanh-sinh in stick-breaking coordinates."""
    step = 7.0 / nodes
    t = step * np.arange(-nodes, nodes + 1) / 2
    left = 1 / (1 + np.exp(math.pi * np.sinh(t)))  # 1 - u
    u = 1 / (1 + np.exp(-math.pi * np.sinh(t)))
    weight = 0.5 * step * math.pi * np.cosh(t) * u * left
    points, weights = np.ones((1, 0)), np.ones(1)
    rest = np.ones(1)
    for axis in range(dim - 1):
        points = np.concatenate([np.repeat(points, len(t), 0), np.outer(rest, u).reshape(-1, 1)], axis=1)
        weights = np.outer(weights, weight * left ** (dim - 2 - axis)).ravel()
        rest = np.outer(rest, left).ravel()
    return np.concatenate([points, rest[:, None]], axis=1), weights


def over_simplex(memories: Floats, beta: float, *, score: Scores) -> Floats:
    """log Z of exp(beta score) on the simplex by tanh-sinh quadrature."""
    points, weights = simplex_rule(memories.shape[1])
    return np.asarray(logsumexp(beta * score(points, memories), b=weights[:, None], axis=0))


# the scores once more, for integration ------------------------------------------------------------------------------


def dot(queries: Floats, memories: Floats) -> Floats:
    """m . q for all pairs."""
    return np.asarray(queries @ memories.T)


def hamming(queries: Floats, memories: Floats) -> Floats:
    """Minus the number of entries that differ."""
    return -np.asarray(np.sum((queries[:, None] > 0) != (memories > 0), axis=-1), float)


def _minus_kl(left: Floats, right: Floats) -> Floats:
    """-KL(left || right), row by row."""
    return np.asarray(-np.sum(xlogy(left, left) - xlogy(left, right), axis=-1))


def reverse(queries: Floats, memories: Floats) -> Floats:
    """-KL(m || q) for all pairs."""
    return _minus_kl(memories, queries[:, None])


def jeffreys(queries: Floats, memories: Floats) -> Floats:
    """Minus Jeffreys' divergence for all pairs."""
    return _minus_kl(memories, queries[:, None]) + _minus_kl(queries[:, None], memories)


def jensen_shannon(queries: Floats, memories: Floats) -> Floats:
    """Minus the Jensen-Shannon divergence for all pairs."""
    half = 0.5 * (queries[:, None] + memories)
    return 0.5 * (_minus_kl(memories, half) + _minus_kl(queries[:, None], half))
