r"""A guess of the covariance within groups of data whose groups are not known: what default priors are scaled by.

The rows are whitened by their own covariance, and a mixture of a few groups with one common covariance W is fitted to
them by EM. W minimises a determinant, as in Friedman and Rubin (1967): it has the shape of the scatter within groups,
where the covariance of all rows also has the scatter between them. Nothing depends on units: for ``full`` the guess of
:math:`A x + b` is :math:`A W A^\top` (from ten rows to a feature on), for ``diagonal`` where A is diagonal, and for
``spherical`` where A is a multiple of a rotation.

Rows far outside all others are left out, as the covariance of all rows says nothing where one of them has most of it.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from threadpoolctl import threadpool_limits

__all__ = [
    "KINDS",
    "Covariances",
    "along",
    "covariances",
    "of_kind",
    "resolution",
    "spectrum",
    "towards_diagonal",
    "within_covariance",
]

KINDS = ("full", "diagonal", "spherical")

_MOST_ROWS = 5000
"""Rows that are looked at: of more, as many evenly spaced ones."""
_GROUPS = (2, 5)
"""Fewest and most groups; as many as leave each 2 (D + 1) rows."""
_STARTS, _STEPS, _SEED = 4, 100, 5
_TOLERANCE = 1e-6
"""Rise of the objective, in nats a row, at which a start ends."""
_PSEUDO_VARIANCE = 0.5
"""Largest variance of the pseudo-data in any direction, as a share of that of all rows."""
_PSEUDO_RATIO = 5.0
"""Largest variance of the pseudo-data as a multiple of that within groups, so that groups far apart stay narrow."""
_NARROWINGS = 12
_LOCATION_VARIANCE = 4.0
"""Of the prior of a location, as a share of the covariance of all rows."""
_FAR = 10.0
"""A row is left out where it is so many times as far from the middle as the median row."""
_DEGREES_OF_FREEDOM = 3.0
"""Of the t distribution whose scatter measures how far."""
_SCATTER_ROUNDS = 50
_FILLS = 4
"""How often missing entries are filled, each time given a better covariance."""
_SMALLEST = {8: 1e-8, 4: 1e-3}
"""Smallest eigenvalue of the correlations, by bytes of a number: collinear features leave matrices that invert."""


class Covariances(NamedTuple):
    """Covariances of data, positive definite and in double precision."""

    whole: Float[np.ndarray, "D D"]
    """Of all rows; nearer to diagonal where there are fewer than ten rows to a feature."""
    within: Float[np.ndarray, "D D"]
    """Within a few groups of them."""


def covariances(x: Float[np.ndarray, "N D"], kind: str = "full") -> Covariances:
    """The covariance of the rows, and that within two to five groups of them.

    Args:
        x: rows in any units; NaN where an entry is missing. A column without any spread counts as one of variance 1.
        kind: of covariance: ``full``, ``diagonal`` (a variance for each feature) or ``spherical`` (one variance).

    >>> x = np.concatenate([np.zeros((50, 1)), np.ones((50, 1))]) * 8 + np.random.default_rng(0).normal(size=(100, 1))
    >>> whole, within = covariances(x)
    >>> bool(within[0, 0] < 2 < 16 < whole[0, 0])
    True
    """
    shape = _Shape.of(kind, x)
    rows = np.asarray(x[:: -(-len(x) // _MOST_ROWS)], np.float64)
    known = ~np.isnan(rows)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, rows, 0).sum(axis=0) / count
    centred = np.where(known, rows - mean, 0)
    unit = np.sqrt(np.diagonal(shape.project(np.diag((centred**2).sum(axis=0) / count))))
    unit = np.where(unit > 0, unit, 1)
    with threadpool_limits(limits=1, user_api="blas"):  # many small products: threads would wait for each other
        whole, within = _of_rows(centred / unit, known, shape)
    narrowest = shape.project(np.diag(resolution(rows / unit) ** 2 / 4))
    within = within + np.diag(np.maximum(np.diagonal(narrowest) - np.diagonal(within), 0))
    return Covariances(unit[:, None] * whole * unit, unit[:, None] * within * unit)


def within_covariance(x: Float[np.ndarray, "N D"], kind: str = "full") -> Float[np.ndarray, "D D"]:
    """The second of :func:`covariances`, with the same arguments."""
    return covariances(x, kind).within


def resolution(x: Float[np.ndarray, "N D"]) -> Float[np.ndarray, " D"]:
    """Median distance between neighbouring values of each feature: no group of rounded values is known to be narrower.

    Args:
        x: rows; NaN where an entry is missing.

    >>> resolution(np.array([[0.0, 7.0], [0.5, 7.0], [1.0, np.nan]])).tolist()
    [0.5, 0.0]
    """
    gaps = [np.diff(np.unique(column[~np.isnan(column)])) for column in x.T]
    return np.array([np.median(gap) if len(gap) else 0.0 for gap in gaps])


def of_kind(matrix: Float[np.ndarray, "D D"], kind: str) -> Float[np.ndarray, "D D"]:
    """The nearest covariance that is full, diagonal or, by any other word, a multiple of the identity."""
    if kind == "full":
        return matrix
    variances = np.diagonal(matrix)
    return np.diag(variances if kind == "diagonal" else np.full(len(variances), np.mean(variances)))


def towards_diagonal(covariance: Float[np.ndarray, "D D"], num_rows: int) -> Float[np.ndarray, "D D"]:
    """The covariance of few rows nearer to its diagonal: that itself for D rows or fewer, unchanged for 10 D."""
    share = np.clip(((len(covariance) / num_rows) ** 2 - 0.01) / 0.99, 0, 1)
    return np.asarray((1 - share) * covariance + share * np.diag(np.diagonal(covariance)))


class _Shape(NamedTuple):
    """What the covariance may look like."""

    project: Callable[[Float[np.ndarray, "D D"]], Float[np.ndarray, "D D"]]
    """The nearest covariance of this kind."""
    pseudo_data: float
    """Pseudo-data for each group."""
    smallest: float
    """Smallest eigenvalue of a covariance, relative to the variances."""

    @classmethod
    def of(cls, kind: str, x: Float[np.ndarray, "N D"]) -> "_Shape":
        num_features = x.shape[1]
        smallest = _SMALLEST[4 if x.dtype.itemsize <= 4 else 8]
        pseudo_data = {"full": num_features + 1.0, "diagonal": 2.0, "spherical": 1 + 1 / num_features}[kind]
        return cls(partial(of_kind, kind=kind), pseudo_data, smallest)


def _of_rows(z: Float[np.ndarray, "N D"], known: Bool[np.ndarray, "N D"], shape: _Shape) -> Covariances:
    """Of rows in units of their spread, with 0 in the place of missing entries."""
    no_spread = np.zeros((z.shape[1], z.shape[1]))
    if known.all():
        return Covariances(_whole(z, no_spread, shape), _of_groups(z, no_spread, shape)[0])
    whole = within = shape.project(np.eye(z.shape[1]))
    means, shares = np.zeros((1, z.shape[1])), np.ones((len(z), 1))
    for fill in range(_FILLS):
        filled, spread = _filled(z, known, within, shares @ means)
        if fill < _FILLS // 2:  # as one group
            means = filled.mean(axis=0, keepdims=True)
            whole = within = _whole(filled - means, spread, shape)
        else:
            within, means, shares = _of_groups(filled, spread, shape)
    return Covariances(whole, within)


def _of_groups(
    z: Float[np.ndarray, "N D"], spread: Float[np.ndarray, "D D"], shape: _Shape
) -> tuple[Float[np.ndarray, "D D"], Float[np.ndarray, "G D"], Float[np.ndarray, "N G"]]:
    """Covariance within groups, their means, and the share of each row that belongs to each.

    Args:
        z: complete rows.
        spread: mean covariance of what was filled in, which counts as scatter.
        shape: of the covariance.
    """
    core = z[_is_near(z, shape)]
    middle = core.mean(axis=0)
    root = np.linalg.cholesky(_whole(core - middle, spread, shape))
    white = np.linalg.solve(root, (core - middle).T).T
    filling = np.linalg.solve(root, np.linalg.solve(root, spread).T)
    groups = _tied_mixture(white, filling, shape)
    shares = groups.shares(np.linalg.solve(root, (z - middle).T).T)
    return root @ groups.covariance @ root.T, middle + groups.means @ root.T, shares


def _whole(
    centred: Float[np.ndarray, "N D"], spread: Float[np.ndarray, "D D"], shape: _Shape
) -> Float[np.ndarray, "D D"]:
    """Covariance of all rows: diagonal for fewer rows than features, as it is from ten times as many on."""
    return _regular(shape.project(centred.T @ centred / len(centred) + spread), len(centred), shape)


def _regular(covariance: Float[np.ndarray, "D D"], num_rows: int, shape: _Shape) -> Float[np.ndarray, "D D"]:
    unit = np.sqrt(np.diagonal(covariance))
    unit = np.where(unit > 0, unit, 1)
    correlation = towards_diagonal(covariance, num_rows) / np.outer(unit, unit)
    np.fill_diagonal(correlation, 1)
    values, vectors = spectrum(correlation)
    if values[0] < shape.smallest:
        correlation = (vectors * np.maximum(values, shape.smallest)) @ vectors.T
    return np.asarray(unit[:, None] * correlation * unit)


def spectrum(matrix: Float[np.ndarray, "D D"]) -> tuple[Float[np.ndarray, " D"], Float[np.ndarray, "D D"]]:
    """Eigenvalues, the smallest first, and eigenvectors; those of a diagonal matrix are read off."""
    values = np.diagonal(matrix)
    if np.count_nonzero(matrix) > np.count_nonzero(values):
        return np.linalg.eigh(matrix)
    order = np.argsort(values, kind="stable")
    return values[order], np.eye(len(values))[:, order]


def along(vectors: Float[np.ndarray, "D D"], matrix: Float[np.ndarray, "D D"]) -> Float[np.ndarray, " D"]:
    """The matrix along each of the orthonormal vectors: v' M v."""
    if np.count_nonzero(vectors) == len(vectors):  # the axes themselves, in some order
        return np.asarray(np.diagonal(matrix)[vectors.argmax(axis=0)])
    return np.asarray(np.sum(vectors * (matrix @ vectors), axis=0))


def _is_near(z: Float[np.ndarray, "N D"], shape: _Shape) -> Bool[np.ndarray, " N"]:
    """Rows that are not far outside, by the scatter of a multivariate t distribution (Maronna 1976)."""
    num_features = z.shape[1]
    weight = np.ones(len(z))
    square = weight
    for _ in range(_SCATTER_ROUNDS):
        before = square
        centred = z - weight @ z / weight.sum()
        scatter = _regular(shape.project((weight * centred.T) @ centred / weight.sum()), len(z), shape)
        square = np.sum(centred.T * np.linalg.solve(scatter, centred.T), axis=0)
        weight = (num_features + _DEGREES_OF_FREEDOM) / (_DEGREES_OF_FREEDOM + square)
        if np.allclose(square, before, rtol=1e-3):
            break
    return np.asarray(square <= _FAR**2 * np.median(square))


class _Groups(NamedTuple):
    """Groups of one covariance in white coordinates."""

    log_weights: Float[np.ndarray, " G"]
    means: Float[np.ndarray, "G D"]
    values: Float[np.ndarray, " D"]
    """Eigenvalues of the covariance."""
    vectors: Float[np.ndarray, "D D"]

    @property
    def covariance(self) -> Float[np.ndarray, "D D"]:
        """The matrix itself."""
        return np.asarray((self.vectors * self.values) @ self.vectors.T)

    def logits(self, y: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "N G"]:
        """Log weighted density of each row in each group, up to what its groups have in common."""
        turned = self.means @ self.vectors
        pull = (turned / self.values) @ self.vectors.T
        return np.asarray(y @ pull.T + self.log_weights - 0.5 * np.sum(turned**2 / self.values, axis=1))

    def shares(self, y: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "N G"]:
        """Probability of each group for each row."""
        return _softmax(self.logits(y))[0]


def _softmax(logits: Float[np.ndarray, "N G"]) -> tuple[Float[np.ndarray, "N G"], Float[np.ndarray, " N"]]:
    """Probabilities, and the log of the sum that they were divided by."""
    top = logits.max(axis=1, keepdims=True)
    shares = np.exp(logits - top)
    total = shares.sum(axis=1, keepdims=True)
    return shares / total, np.log(total)[:, 0] + top[:, 0]


def _tied_mixture(y: Float[np.ndarray, "N D"], spread: Float[np.ndarray, "D D"], shape: _Shape) -> _Groups:
    """The best of some starts of EM for groups of one covariance, in coordinates in which that of all rows is I.

    Pseudo-data as wide as all rows would widen groups that are far apart, so they are narrowed along with the groups.
    """
    rng = np.random.default_rng(_SEED)
    num_groups = int(np.clip(len(y) // (2 * (y.shape[1] + 1)), *_GROUPS))
    square = y.T @ y + len(y) * spread
    pseudo = _PSEUDO_VARIANCE * np.eye(y.shape[1])
    found = [_climb(y, square, _first_shares(rng, y, num_groups), pseudo, shape) for _ in range(_STARTS)]
    groups = max(found, key=lambda pair: pair[0])[1]
    for _ in range(_NARROWINGS):
        largest = _PSEUDO_RATIO * groups.values.min()
        if largest >= _PSEUDO_VARIANCE:
            break
        pseudo = (groups.vectors * np.minimum(_PSEUDO_RATIO * groups.values, _PSEUDO_VARIANCE)) @ groups.vectors.T
        before, groups = groups, _climb(y, square, groups.shares(y), pseudo, shape)[1]
        if groups.values.min() > 0.95 * before.values.min():
            break
    return groups


def _first_shares(rng: np.random.Generator, y: Float[np.ndarray, "N D"], num_groups: int) -> Float[np.ndarray, "N G"]:
    """Each row in the group of its nearest seed; seeds by k-means++ (Arthur and Vassilvitskii 2007)."""
    distances = [np.sum((y - y[rng.integers(len(y))]) ** 2, axis=1)]
    for _ in range(num_groups - 1):
        nearest = np.min(distances, axis=0)
        if not nearest.sum() > 0:
            break  # no more rows that differ
        distances.append(np.sum((y - y[rng.choice(len(y), p=nearest / nearest.sum())]) ** 2, axis=1))
    return np.asarray(np.eye(len(distances))[np.argmin(distances, axis=0)])


def _climb(
    y: Float[np.ndarray, "N D"],
    square: Float[np.ndarray, "D D"],
    shares: Float[np.ndarray, "N G"],
    pseudo_covariance: Float[np.ndarray, "D D"],
    shape: _Shape,
) -> tuple[float, _Groups]:
    """EM from first shares: the objective that was reached (log density with pseudo-data, nats), and the groups."""
    num_rows, num_groups = shares.shape
    num_pseudo = num_groups * shape.pseudo_data
    values, vectors = spectrum(pseudo_covariance)
    square_with_pseudo, before = square + num_pseudo * pseudo_covariance, -np.inf
    for _ in range(_STEPS):
        counts, sums = shares.sum(axis=0), shares.T @ y
        pull = (sums @ vectors) / values
        means = (pull / (counts[:, None] / values + 1 / _LOCATION_VARIANCE)) @ vectors.T  # under a N(0, 4 I) prior
        cross = means.T @ sums
        scatter = square_with_pseudo - cross - cross.T + (counts[:, None] * means).T @ means
        values, vectors = spectrum(shape.project(scatter / (num_pseudo + num_rows)))
        groups = _Groups(np.log((counts + 1) / (num_rows + num_groups)), means, values, vectors)
        shares, log_norms = _softmax(groups.logits(y))
        squares = along(vectors, square_with_pseudo)
        penalty = np.sum(means**2) / _LOCATION_VARIANCE + (num_rows + num_pseudo) * np.sum(np.log(values))
        now = float(log_norms.sum() + groups.log_weights.sum() - 0.5 * (np.sum(squares / values) + penalty))
        if now - before < _TOLERANCE * num_rows:
            break
        before = now
    return now, groups


def _filled(
    z: Float[np.ndarray, "N D"],
    known: Bool[np.ndarray, "N D"],
    covariance: Float[np.ndarray, "D D"],
    centre: Float[np.ndarray, "#N D"],
) -> tuple[Float[np.ndarray, "N D"], Float[np.ndarray, "D D"]]:
    """Rows with missing entries at their conditional means, and the mean of their conditional covariances."""
    filled, spread = z.copy(), np.zeros_like(covariance)
    patterns, pattern_of = np.unique(known, axis=0, return_inverse=True)
    for number, seen in enumerate(patterns):
        if seen.all():
            continue
        rows, lacking = np.flatnonzero(pattern_of.ravel() == number), ~seen
        gain = np.linalg.solve(covariance[np.ix_(seen, seen)], covariance[np.ix_(seen, lacking)])
        offset = z[np.ix_(rows, seen)] - centre[np.ix_(rows, seen)]
        filled[np.ix_(rows, lacking)] = centre[np.ix_(rows, lacking)] + offset @ gain
        left = covariance[np.ix_(lacking, lacking)] - covariance[np.ix_(lacking, seen)] @ gain
        spread[np.ix_(lacking, lacking)] += len(rows) / len(z) * left
    return filled, spread
