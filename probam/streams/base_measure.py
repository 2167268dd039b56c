r"""The base measure of a stream of Gaussians, found from its first rows (empirical Bayes).

One greedy pass needs to know how wide a memory is: under a vague prior the first memory widens until it holds every
group. So the first rows are divided into groups of one covariance W, which becomes the prior guess of the covariance
within a memory. The first rows join the memories of their groups, and the pass goes on from there: groups that come
later are found under the same base measure.

The groups are those of largest evidence. Each cut of Ward's tree (1963) is refined by coordinate ascent (variational
Bayes) of a lower bound of

.. math:: \log p(X \mid W) = \log \sum_z p(z) \prod_k \int \prod_{n: z_n = k} N(x_n; \mu, W) \, dN(\mu; m, B),

with p(z) the process of partitions and N(m, B) the prior of the locations; W is the covariance within the groups of
each cut. Ward's distances are measured in the metric of the covariance of all rows, of near pairs, and then of W, for a
few rounds. Nothing depends on the units of the features, or on a number of groups that is known.

How much the memories differ in width follows from the same groups: of the shapes of the prior of a precision the one
with the largest marginal likelihood.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Float, Int
from numpyro.distributions import Distribution
from scipy.cluster.hierarchy import cut_tree, ward
from scipy.linalg import eigh, solve_triangular
from scipy.spatial import cKDTree
from scipy.special import digamma, gammaln
from threadpoolctl import threadpool_limits

from probam.conjugacy.location import normal_prior
from probam.distributions.built import built
from probam.distributions.supports import innermost
from probam.distributions.wishart import InvariantWishartCholesky
from probam.family import Family
from probam.models.gaussian import Gaussian
from probam.numerics.within_covariance import of_kind, resolution, towards_diagonal
from probam.streams.options import StreamOptions
from probam.streams.prior import stream_pair

__all__ = ["BaseMeasure", "Beginning", "Groups", "find_beginning", "find_groups", "with_base_measure"]

_MOST_ROWS = 1000
"""Rows that are divided into groups: of more, as many evenly spaced ones."""
_FEWEST_ROWS = 10
_ROUNDS = 8
_CUTS = 20
"""Numbers of groups that are tried at first, evenly spaced in their logs."""
_NEAR_CUTS = 8
"""Numbers of groups that are tried near the best, and again nearer."""
_PAIRED_ROWS, _NEAR = 300, 0.1
"""Rows whose pairs are compared, and the share of the pairs that are near."""
_STEPS = 15
"""Of coordinate ascent from each cut, fewer where no share changes by more than ``_SETTLED``."""
_SETTLED = 1e-3
_RIDGE = 1e-9
"""Share of the variance of all rows that is added to every covariance."""
_SMALLEST = 0.5
"""Data of the smallest group that is kept."""
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

    shares: Float[np.ndarray, "N K"]
    """Probability of each group for each row."""
    within: Float[np.ndarray, "D D"]
    log_evidence: float
    """Lower bound of the log density of the rows, in nats."""


class _Setting(NamedTuple):
    """What all partitions of the same rows share."""

    x: Float[np.ndarray, "N D"]
    """Rows, less their mean."""
    prior_covariance: Float[np.ndarray, "D D"]
    """Of a location."""
    covariance: str
    alpha: float
    discount: float
    narrowest: Float[np.ndarray, " D"]
    """Smallest variances within a group."""
    ridge: Float[np.ndarray, "D D"]
    """Added to every covariance, so that collinear features leave it positive definite."""


def find_beginning(
    options: StreamOptions, family: Family, prior: Mapping[str, Distribution], x: Float[np.ndarray, "N D"]
) -> Beginning | None:
    """The base measure and groups of the first rows (model units); None where the prior is not learned from them."""
    if not _is_learned(options, family) or len(x) < _FEWEST_ROWS:
        return None
    assert isinstance(family, Gaussian)
    if not isinstance(innermost(prior["loc"]), dist.Normal | dist.MultivariateNormal):
        return None
    all_rows = np.asarray(x, np.float64)
    rows = all_rows[:: -(-len(x) // _MOST_ROWS)]
    spread = np.asarray(normal_prior(prior["loc"]).covariance, np.float64)
    with threadpool_limits(limits=1, user_api="blas"):  # many small products: threads would wait for each other
        groups = find_groups(rows, spread, family.covariance, float(options.alpha), float(options.discount))
    labels = _drawn(groups, int(options.seed))
    base = _with_best_shape(family, prior, rows.astype(x.dtype), groups.within, labels)
    seats = labels if len(rows) == len(x) else _nearest_groups(all_rows, rows, groups.within, labels)
    return Beginning(base, _in_order(seats))


def with_base_measure(
    family: Family, prior: Mapping[str, Distribution], base: BaseMeasure | None, dtype: np.dtype
) -> dict[str, Distribution]:
    """The prior with the precision's law replaced by that of the base measure."""
    if base is None:
        return dict(prior)
    assert isinstance(family, Gaussian)
    within, shape = np.asarray(base.within, dtype), np.asarray(base.shape, dtype)
    variances = np.diagonal(within)
    law: Distribution
    if family.covariance == "full":
        (law,) = built(_wishart, within, shape)
    elif family.covariance == "diagonal":
        law = dist.Gamma(np.full(variances.shape, shape), shape * variances).to_event(1)
    else:
        law = dist.Gamma(shape, 2 * shape * np.mean(variances))  # of beta, half the precision
    return {**prior, _SITES[family.covariance]: law}


def _wishart(within: Float[Array, "D D"], shape: Float[Array, ""]) -> tuple[Distribution]:
    freedom = 2 * shape + len(within) - 1
    return (InvariantWishartCholesky(freedom, rate_matrix=freedom * within, validate_args=False),)


def _is_learned(options: StreamOptions, family: Family) -> bool:
    """Whether the width of a memory is to be found: not where it is given, or where memories move."""
    if options.base != "evidence" or not isinstance(family, Gaussian) or family.covariance not in _SITES:
        return False
    site = _SITES[family.covariance]
    return site not in (options.known or {}) and site not in (options.prior or {}) and not options.is_moving


# --- the groups -----------------------------------------------------------------------------------------------


def find_groups(
    x: Float[np.ndarray, "N D"],
    prior_covariance: Float[np.ndarray, "D D"],
    covariance: str,
    alpha: float,
    discount: float,
) -> Groups:
    """The groups of largest evidence that start from a cut of Ward's trees.

    Args:
        x: rows.
        prior_covariance: of a location.
        covariance: full, diagonal, or another word for one variance.
        alpha: strength of the process of partitions.
        discount: its discount.
    """
    x = x - np.mean(x, axis=0)
    ridge = _RIDGE * np.diag(np.var(x, axis=0))
    setting = _Setting(x, prior_covariance, covariance, alpha, discount, resolution(x) ** 2 / 4, ridge)
    first = _first_metric(x, covariance) + ridge
    metrics = (first, _of_near_pairs(x, first, covariance, ridge))
    best = max((_best_cut(setting, metric) for metric in metrics), key=_evidence)
    for _ in range(_ROUNDS):
        groups = _best_cut(setting, best.within)
        if not groups.log_evidence > best.log_evidence + 1e-6 * len(x):
            break
        best = groups
    return best


def _evidence(groups: Groups) -> float:
    return groups.log_evidence


def _first_metric(x: Float[np.ndarray, "N D"], covariance: str) -> Float[np.ndarray, "D D"]:
    """Covariance of all rows; nearer to diagonal where there are fewer than ten rows to a feature."""
    return of_kind(towards_diagonal(x.T @ x / len(x), len(x)), covariance)


def _of_near_pairs(
    x: Float[np.ndarray, "N D"], metric: Float[np.ndarray, "D D"], covariance: str, ridge: Float[np.ndarray, "D D"]
) -> Float[np.ndarray, "D D"]:
    """Covariance of near pairs, near in its own metric (Art, Gnanadesikan and Kettenring 1982), from ``metric`` on."""
    rows = x[:: -(-len(x) // _PAIRED_ROWS)]
    first, second = np.triu_indices(len(rows), 1)
    differences = rows[first] - rows[second]
    num_near = max(int(_NEAR * len(differences)), min(10 * x.shape[1], len(differences)))
    for _ in range(_ROUNDS):
        distances = np.sum(solve_triangular(np.linalg.cholesky(metric), differences.T, lower=True) ** 2, axis=0)
        near = differences[np.argpartition(distances, num_near - 1)[:num_near]]
        metric = of_kind(near.T @ near / num_near, covariance) + ridge
    return metric


def _best_cut(setting: _Setting, metric: Float[np.ndarray, "D D"]) -> Groups:
    """The groups of largest evidence that start from a cut of the tree in this metric."""
    tree = ward(solve_triangular(np.linalg.cholesky(metric), setting.x.T, lower=True).T)

    def best_of(numbers: Int[np.ndarray, " J"]) -> tuple[Groups, int]:
        cuts = cut_tree(tree, n_clusters=numbers).T
        return max(
            ((_refined(setting, metric, labels), int(number)) for labels, number in zip(cuts, numbers, strict=True)),
            key=lambda pair: pair[0].log_evidence,
        )

    most = max(len(setting.x) // 2, 1)
    best, number = best_of(np.unique(np.geomspace(1, most, _CUTS).round().astype(int)))
    width = number * (most ** (1 / _CUTS) - 1)
    while width >= 1:
        near = np.linspace(number - width, number + width, _NEAR_CUTS).round().astype(int)
        groups, other = best_of(np.unique(np.clip(near, 1, most)))
        if groups.log_evidence > best.log_evidence:
            best, number = groups, other
        width = 2 * width / _NEAR_CUTS
    return best


def _refined(setting: _Setting, metric: Float[np.ndarray, "D D"], labels: Int[np.ndarray, " N"]) -> Groups:
    """The groups after coordinate ascent of the evidence from a division of the rows (variational Bayes)."""
    shares = np.eye(int(labels.max()) + 1)[labels]
    within, entropy = _pooled(setting, metric, shares, metric), 0.0
    for _ in range(_STEPS):
        before, counts = shares, shares.sum(axis=0)
        ratios, basis = eigh(setting.prior_covariance, within)  # basis^T within basis = 1
        precision = counts[:, None] + 1 / ratios
        rows = setting.x @ basis
        centres = (shares.T @ rows) / precision
        offset = digamma(np.maximum(counts, 1) - setting.discount) - 0.5 * np.sum(centres**2 + 1 / precision, axis=1)
        scores = rows @ centres.T + offset
        scores -= scores.max(axis=1, keepdims=True)
        shares = np.exp(scores)
        total = shares.sum(axis=1, keepdims=True)
        shares /= total
        entropy = float(np.sum(np.log(total)) - np.sum(shares * scores))
        kept = shares.sum(axis=0) > _SMALLEST
        if not kept.all():
            shares = shares[:, kept] / shares[:, kept].sum(axis=1, keepdims=True)
        within = _pooled(setting, metric, shares, within)
        if kept.all() and np.max(np.abs(shares - before)) < _SETTLED:
            break
    return Groups(shares, within, entropy + _log_evidence(setting, shares.sum(axis=0), shares.T @ setting.x, within))


def _pooled(
    setting: _Setting,
    metric: Float[np.ndarray, "D D"],
    shares: Float[np.ndarray, "N K"],
    within: Float[np.ndarray, "D D"],
) -> Float[np.ndarray, "D D"]:
    """Covariance within the groups, with a few pseudo-data of the covariance ``metric``.

    Locations have the posterior that they have under the covariance ``within``.
    """
    x, num_features = setting.x, setting.x.shape[1]
    counts, sums = shares.sum(axis=0), shares.T @ x
    ratios, basis = eigh(setting.prior_covariance, within)
    precision = counts[:, None] + 1 / ratios
    centres = (sums @ basis) / precision
    back = np.linalg.inv(basis)
    cross = (sums @ basis).T @ centres
    square = (counts[:, None] * centres).T @ centres - cross - cross.T + np.diag(np.sum(counts[:, None] / precision, 0))
    weight = {"full": num_features + 1.0, "diagonal": 2.0}.get(setting.covariance, 2.0 / num_features)
    pooled = (x.T @ x + back.T @ square @ back + weight * metric) / (len(x) + weight)
    pooled = of_kind(pooled, setting.covariance)
    return np.asarray(pooled + setting.ridge + np.diag(np.maximum(setting.narrowest - np.diagonal(pooled), 0)))


def _log_evidence(
    setting: _Setting,
    counts: Float[np.ndarray, " K"],
    sums: Float[np.ndarray, "K D"],
    within: Float[np.ndarray, "D D"],
) -> float:
    """Expected log density of rows and groups, locations integrated out, less the entropy of the groups."""
    x, alpha, discount = setting.x, setting.alpha, setting.discount
    num_data, num_features = x.shape
    ratios, basis = eigh(setting.prior_covariance, within)
    means = (sums / counts[:, None]) @ basis
    square = np.sum((x @ basis) ** 2) - np.sum(counts[:, None] * means**2)
    variances = ratios + 1 / counts[:, None]
    log_volume = num_data * (np.linalg.slogdet(within)[1] + num_features * np.log(2 * np.pi))
    fit = log_volume + square + np.sum(means**2 / variances + np.log(variances * counts[:, None]))
    founded = np.sum(np.log(alpha + discount * np.arange(1, len(counts))))
    seated = np.sum(gammaln(np.maximum(counts, 1) - discount) - gammaln(1 - discount))
    return float(-0.5 * fit + founded + seated - gammaln(alpha + num_data) + gammaln(alpha + 1))


def _drawn(groups: Groups, seed: int) -> Int[np.ndarray, " N"]:
    """A group of each row, drawn by its probability; numbered without gaps.

    Memories that overlap keep their widths, which the most probable groups would cut off.
    """
    below = np.cumsum(groups.shares, axis=1)
    uniform = np.random.default_rng(seed).uniform(size=(len(below), 1)) * below[:, -1:]
    return np.unique(np.sum(below <= uniform, axis=1), return_inverse=True)[1]


def _nearest_groups(
    x: Float[np.ndarray, "N D"],
    rows: Float[np.ndarray, "J D"],
    within: Float[np.ndarray, "D D"],
    labels: Int[np.ndarray, " J"],
) -> Int[np.ndarray, " N"]:
    """The group whose mean is nearest to each row of ``x``, in the metric of the covariance within groups."""
    factor = np.linalg.cholesky(within)
    means = np.stack([rows[labels == k].mean(axis=0) for k in range(int(labels.max()) + 1)])
    points, centres = (solve_triangular(factor, values.T, lower=True).T for values in (x, means))
    return np.asarray(cKDTree(centres).query(points)[1])


def _in_order(labels: Int[np.ndarray, " N"]) -> Int[np.ndarray, " N"]:
    """The same groups, numbered in order of appearance."""
    _, first, place = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[place].astype(np.int32)


# --- how much memories differ ---------------------------------------------------------------------------------


def _with_best_shape(
    family: Gaussian,
    prior: Mapping[str, Distribution],
    x: Float[np.ndarray, "N D"],
    within: Float[np.ndarray, "D D"],
    labels: Int[np.ndarray, " N"],
) -> BaseMeasure:
    """The shape with the largest marginal likelihood of the groups; it is at most their number (and at least 2)."""
    shapes = [shape for shape in _SHAPES if shape <= max(int(labels.max()) + 1, _SHAPES[0])]
    if family.covariance == "isotropic":
        shapes = shapes[:1]
    bases = [BaseMeasure(within, shape) for shape in shapes]
    return max(bases, key=lambda base: _log_marginal(family, prior, base, x, labels)) if len(bases) > 1 else bases[0]


def _log_marginal(
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
