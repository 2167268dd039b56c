r"""The base measure of a stream of Gaussians, found from its first rows (empirical Bayes).

One greedy pass needs to know how wide a memory is: under a vague prior the first memory widens until it holds every
group. So the first rows are divided into groups, the prior guess W of the covariance within a memory becomes the one
within these groups, and the stream begins its single pass with that prior. All rows, the first ones too, are then
learned from one after the other, so that groups that come later are found by the same rule.

The groups are those of Ward's tree (1963), cut where the joint density of rows and partition is largest,

.. math:: \log p(X, z \mid W) = \log p(z) + \sum_k \log \int \prod_{n: z_n = k} N(x_n; \mu, W) \, dN(\mu; m, B),

with p(z) the Chinese restaurant process, N(m, B) the prior of the locations, and W the pooled covariance within the
groups of each cut. Ward's distances are measured in the metric of W, which is found in a few rounds that begin with the
covariance of all rows. The joint density of rows and a partition is at most the density of the rows, so that no cut
gains by dividing one Gaussian; groups that overlap much stay together.

How much the memories differ in width follows from the same groups: of the shapes of the prior of a precision the one
with the largest marginal likelihood.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Float, Int
from numpyro.distributions import Distribution
from scipy.cluster.hierarchy import cut_tree, ward
from scipy.linalg import eigh, solve_triangular
from scipy.spatial import cKDTree

from probam.distributions.growth import log_partition_probability
from probam.distributions.supports import innermost
from probam.family import Family
from probam.models.gaussian import Gaussian
from probam.streams.options import StreamOptions
from probam.streams.prior import stream_pair

__all__ = ["BaseMeasure", "Beginning", "Groups", "find_beginning", "find_groups", "with_base_measure"]

_MOST_ROWS = 1000
"""Rows that are divided into groups: of more, as many evenly spaced ones."""
_FEWEST_ROWS = 10
_ROUNDS = 8
_CUTS = 60
"""Numbers of groups that are tried at first, evenly spaced in their logs; then those near the best."""
_SHAPES = (2.0, 4.0, 8.0, 16.0, 32.0)
_SITES = {"isotropic": "beta", "spherical": "beta", "diagonal": "precision", "full": "precision_cholesky"}


class BaseMeasure(NamedTuple):
    """The prior of the covariance within a memory."""

    within: Float[np.ndarray, "D D"]
    """Prior guess, in model units."""
    shape: float
    """Of a Gamma prior on the precision of one feature: it weighs as much as 2 x shape data."""

    def arrays(self) -> dict[str, np.ndarray]:
        """What a file keeps."""
        return {"base_within": self.within, "base_shape": np.asarray(self.shape)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "BaseMeasure | None":
        """From what :meth:`arrays` returned; None if a file has none."""
        return cls(arrays["base_within"], float(arrays["base_shape"])) if "base_within" in arrays else None


class Beginning(NamedTuple):
    """How a stream begins."""

    base: BaseMeasure
    seats: Int[np.ndarray, " N"]
    """The group of each of the first rows, numbered in order of appearance."""


class Groups(NamedTuple):
    """Rows divided into groups of a common covariance."""

    labels: Int[np.ndarray, " N"]
    within: Float[np.ndarray, "D D"]
    log_density: float
    """Of rows and labels together, in nats."""


def find_beginning(
    options: StreamOptions, family: Family, prior: Mapping[str, Distribution], x: Float[np.ndarray, "N D"]
) -> Beginning | None:
    """The base measure and groups of the first rows (model units); None where the prior is not learned from them."""
    if not _is_learned(options, family) or len(x) < _FEWEST_ROWS:
        return None
    assert isinstance(family, Gaussian)
    location = innermost(prior["loc"])
    if not isinstance(location, dist.Normal):
        return None
    all_rows = np.asarray(x, np.float64)
    rows = all_rows[:: -(-len(x) // _MOST_ROWS)]
    spread = np.broadcast_to(np.asarray(location.scale, np.float64), rows.shape[1:])
    groups = find_groups(rows, spread, family.covariance, float(options.alpha), float(options.discount))
    seats = groups.labels if len(rows) == len(x) else _nearest_groups(all_rows, rows, groups)
    return Beginning(_with_best_shape(family, prior, rows.astype(x.dtype), groups), _in_order(seats))


def with_base_measure(
    family: Family, prior: Mapping[str, Distribution], base: BaseMeasure | None, dtype: np.dtype
) -> dict[str, Distribution]:
    """The prior with the precision's law replaced by that of the base measure."""
    if base is None:
        return dict(prior)
    assert isinstance(family, Gaussian)
    within, shape = jnp.asarray(base.within, dtype), jnp.asarray(base.shape, dtype)
    variances = jnp.diagonal(within)
    law: Distribution
    if family.covariance == "full":
        freedom = 2 * shape + len(within) - 1
        law = dist.WishartCholesky(freedom, rate_matrix=freedom * within)
    elif family.covariance == "diagonal":
        law = dist.Gamma(jnp.broadcast_to(shape, variances.shape), shape * variances).to_event(1)
    else:
        law = dist.Gamma(shape, 2 * shape * jnp.mean(variances))  # of beta, half the precision
    return {**prior, _SITES[family.covariance]: law}


def _is_learned(options: StreamOptions, family: Family) -> bool:
    """Whether the width of a memory is to be found: not where it is given, or where memories move."""
    if options.base != "evidence" or not isinstance(family, Gaussian) or family.covariance not in _SITES:
        return False
    site = _SITES[family.covariance]
    return site not in (options.known or {}) and site not in (options.prior or {}) and not options.is_moving


# --- the groups -----------------------------------------------------------------------------------------------


def find_groups(
    x: Float[np.ndarray, "N D"], spread: Float[np.ndarray, " D"], covariance: str, alpha: float, discount: float
) -> Groups:
    """The partition of largest joint density among the cuts of Ward's trees.

    Args:
        x: rows.
        spread: prior standard deviation of a location, by feature.
        covariance: full, diagonal, or another word for one variance.
        alpha: strength of the process of partitions.
        discount: its discount.
    """
    x = x - np.mean(x, axis=0)
    metric = _first_metric(x, covariance)
    best: Groups | None = None
    for _ in range(_ROUNDS):
        groups = _best_cut(x, metric, np.diag(spread**2), covariance, (alpha, discount))
        if best is not None and not groups.log_density > best.log_density + 1e-6 * len(x):
            break
        best, metric = groups, groups.within
    assert best is not None
    return best


def _first_metric(x: Float[np.ndarray, "N D"], covariance: str) -> Float[np.ndarray, "D D"]:
    """Covariance of all rows; nearer to diagonal where there are fewer than ten rows to a feature."""
    num_data, num_features = x.shape
    total = x.T @ x / num_data
    diagonal = np.diag(np.diagonal(total))
    if covariance == "full":
        share = np.clip(((num_features / num_data) ** 2 - 0.01) / 0.99, 0, 1)
        return np.asarray((1 - share) * total + share * diagonal)
    return diagonal if covariance == "diagonal" else np.eye(num_features) * np.mean(np.diagonal(total))


def _best_cut(
    x: Float[np.ndarray, "N D"],
    metric: Float[np.ndarray, "D D"],
    prior_covariance: Float[np.ndarray, "D D"],
    covariance: str,
    process: tuple[float, float],
) -> Groups:
    """The best cut of the tree in this metric."""
    tree = ward(solve_triangular(np.linalg.cholesky(metric), x.T, lower=True).T)

    def best_of(numbers: Int[np.ndarray, " J"]) -> Groups:
        cuts = cut_tree(tree, n_clusters=numbers).T
        return max((_group(x, z, metric, prior_covariance, covariance, process) for z in cuts), key=_log_density)

    most = max(len(x) // 2, 1)
    best = best_of(np.unique(np.geomspace(1, most, _CUTS).round().astype(int)))
    number = int(best.labels.max()) + 1
    near = np.arange(max(int(number / 1.15) - 1, 1), min(int(number * 1.15) + 2, most) + 1)
    return max(best, best_of(near), key=_log_density)


def _log_density(groups: Groups) -> float:
    return groups.log_density


def _group(
    x: Float[np.ndarray, "N D"],
    labels: Int[np.ndarray, " N"],
    metric: Float[np.ndarray, "D D"],
    prior_covariance: Float[np.ndarray, "D D"],
    covariance: str,
    process: tuple[float, float],
) -> Groups:
    """The groups with their pooled covariance and the joint density."""
    num_data, num_features = x.shape
    counts = np.bincount(labels).astype(float)
    means = np.zeros((len(counts), num_features))
    np.add.at(means, labels, x)
    means /= counts[:, None]
    scatter = x.T @ x - (counts[:, None] * means).T @ means
    weight = {"full": num_features + 1.0, "diagonal": 2.0}.get(covariance, 2.0 / num_features)
    within = (scatter + weight * metric) / (num_data - len(counts) + weight)
    if covariance != "full":
        variances = np.diagonal(within)
        within = np.diag(variances if covariance == "diagonal" else np.full(num_features, np.mean(variances)))
    within = within + np.diag(np.maximum(_resolution(x) ** 2 / 4 - np.diagonal(within), 0))
    log_density = log_partition_probability(*process, counts) + _log_marginal(x, counts, means, within, prior_covariance)
    return Groups(labels, within, log_density)


def _resolution(x: Float[np.ndarray, "N D"]) -> Float[np.ndarray, " D"]:
    """Median distance between neighbouring values of each feature: no group of rounded values is narrower."""
    return np.array([np.median(np.diff(np.unique(column))) if np.ptp(column) > 0 else 0.0 for column in x.T])


def _log_marginal(
    x: Float[np.ndarray, "N D"],
    counts: Float[np.ndarray, " K"],
    means: Float[np.ndarray, "K D"],
    within: Float[np.ndarray, "D D"],
    prior_covariance: Float[np.ndarray, "D D"],
) -> float:
    """Log density of the rows given their groups, the locations integrated out."""
    num_data, num_features = x.shape
    ratios, basis = eigh(prior_covariance, within)  # basis^T within basis = 1
    rows, centres = x @ basis, means @ basis
    square = np.sum(rows**2) - np.sum(counts[:, None] * centres**2)
    variances = ratios + 1 / counts[:, None]
    log_volume = num_data * np.linalg.slogdet(within)[1] + num_data * num_features * np.log(2 * np.pi)
    widths = np.sum(np.log(variances * counts[:, None]))
    return float(-0.5 * (log_volume + square + np.sum(centres**2 / variances) + widths))


def _nearest_groups(
    x: Float[np.ndarray, "N D"], rows: Float[np.ndarray, "J D"], groups: Groups
) -> Int[np.ndarray, " N"]:
    """The group whose mean is nearest to each row, in the metric of the covariance within groups."""
    factor = np.linalg.cholesky(groups.within)
    means = np.stack([rows[groups.labels == k].mean(axis=0) for k in range(int(groups.labels.max()) + 1)])
    points, centres = (solve_triangular(factor, values.T, lower=True).T for values in (x, means))
    return np.asarray(cKDTree(centres).query(points)[1])


def _in_order(labels: Int[np.ndarray, " N"]) -> Int[np.ndarray, " N"]:
    """The same groups, numbered in order of appearance."""
    _, first, place = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[place].astype(np.int32)


# --- how much memories differ ---------------------------------------------------------------------------------


def _with_best_shape(
    family: Gaussian, prior: Mapping[str, Distribution], x: Float[np.ndarray, "N D"], groups: Groups
) -> BaseMeasure:
    """The shape with the largest marginal likelihood of the groups; it weighs at most as many data as there are."""
    counts = np.bincount(groups.labels)
    shapes = [shape for shape in _SHAPES if shape <= max(len(counts), _SHAPES[0])]
    if family.covariance == "isotropic":
        shapes = shapes[:1]
    bases = [BaseMeasure(groups.within, shape) for shape in shapes]
    return max(bases, key=lambda base: _evidence(family, prior, base, x, groups.labels)) if len(bases) > 1 else bases[0]


def _evidence(
    family: Gaussian,
    prior: Mapping[str, Distribution],
    base: BaseMeasure,
    x: Float[np.ndarray, "N D"],
    labels: Int[np.ndarray, " N"],
) -> float:
    """Log marginal likelihood of the rows given their groups, under the conjugate pair of the memories."""
    pair = stream_pair(family, with_base_measure(family, prior, base, x.dtype), {}, 1, x.dtype).pair
    statistics = np.asarray(pair.statistics(jnp.asarray(x)))
    slots = 1 << int(labels.max()).bit_length()  # a power of two: few programs to compile
    sums = np.zeros((slots, statistics.shape[1]), x.dtype)
    np.add.at(sums, labels, statistics)
    counts = np.bincount(labels, minlength=slots).astype(x.dtype)
    return float(jnp.sum(pair.log_marginal(jnp.asarray(counts), jnp.asarray(sums))))
