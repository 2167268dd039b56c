r"""Rows divided into groups of one width, of which neither the number nor the width is known.

The groups are those of largest evidence. Each cut of Ward's tree (1963) is refined by coordinate ascent (variational
Bayes) of a lower bound of

.. math:: \log p(X \mid W) = \log \sum_z p(z) \prod_k \int \prod_{n: z_n = k} p(x_n \mid \mu, W) \, dP(\mu),

with p(z) the process of partitions and P the prior of the locations; W is the width within the groups of each cut
(:class:`probam.streams.widths.Sharing`; of Gaussians the covariance). Ward's distances are measured in the metrics of
first guesses of W, and then of W itself, for a few rounds.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.cluster.hierarchy import cut_tree, ward
from scipy.spatial import cKDTree
from scipy.special import digamma, gammaln, xlogy

from probam.streams.widths import Sharing

__all__ = ["Groups", "find_groups", "joined"]

_ROUNDS = 8
_CUTS = 20
"""Numbers of groups that are tried at first, evenly spaced in their logs."""
_NEAR_CUTS = 8
"""Numbers of groups that are tried near the best, and again nearer."""
_STEPS = 15
"""Of coordinate ascent from each cut, fewer where no share changes by more than ``_SETTLED``."""
_SETTLED = 1e-3
_SMALLEST = 0.5
"""Data of the smallest group that is kept."""
_FEW_GROUPS, _NEIGHBOURS = 32, 8
"""Groups of which all pairs may be joined; of more, each with so many of its neighbours."""


class Groups(NamedTuple):
    """Rows divided into groups of a common width."""

    shares: Float[np.ndarray, "N K"]
    """Probability of each group for each row."""
    within: np.ndarray
    """The width."""
    log_evidence: float
    """Lower bound of the log density of the rows, in nats."""


class _Setting(NamedTuple):
    """What all partitions of the same rows share."""

    rows: Sharing
    alpha: float
    discount: float


def find_groups(rows: Sharing, alpha: float, discount: float) -> Groups:
    """The groups of largest evidence that start from a cut of Ward's trees.

    Args:
        rows: what is known of them.
        alpha: strength of the process of partitions.
        discount: its discount.
    """
    setting = _Setting(rows, alpha, discount)
    widths = rows.first_widths()
    best = max((_best_cut(setting, width) for width in widths), key=_evidence)
    for _ in range(_ROUNDS if len(widths) > 1 else 0):  # one metric is not improved
        groups = _best_cut(setting, best.within)
        if not groups.log_evidence > best.log_evidence + 1e-6 * len(rows.x):
            break
        best = groups
    return best


def _evidence(groups: Groups) -> float:
    return groups.log_evidence


def _best_cut(setting: _Setting, width: np.ndarray) -> Groups:
    """The groups of largest evidence that start from a cut of the tree in the metric of this width."""
    x = setting.rows.x
    tree = ward(setting.rows.in_metric(x, width))

    def best_of(numbers: Int[np.ndarray, " J"]) -> tuple[Groups, int]:
        cuts = cut_tree(tree, n_clusters=numbers).T
        return max(
            ((_refined(setting, width, labels), int(number)) for labels, number in zip(cuts, numbers, strict=True)),
            key=lambda pair: pair[0].log_evidence,
        )

    most = max(len(x) // 2, 1)
    best, number = best_of(np.unique(np.geomspace(1, most, _CUTS).round().astype(int)))
    reach = number * (most ** (1 / _CUTS) - 1)
    while reach >= 1:
        near = np.linspace(number - reach, number + reach, _NEAR_CUTS).round().astype(int)
        groups, other = best_of(np.unique(np.clip(near, 1, most)))
        if groups.log_evidence > best.log_evidence:
            best, number = groups, other
        reach = 2 * reach / _NEAR_CUTS
    return best


def _refined(setting: _Setting, typical: np.ndarray, labels: Int[np.ndarray, " N"]) -> Groups:
    """The groups after coordinate ascent of the evidence from a division of the rows (variational Bayes)."""
    rows, shares = setting.rows, np.eye(int(labels.max()) + 1)[labels]
    width, entropy = rows.pooled(shares, typical, typical), 0.0
    for _ in range(_STEPS):
        before, counts = shares, shares.sum(axis=0)
        scores = rows.scores(shares, width) + digamma(np.maximum(counts, 1) - setting.discount)
        scores -= scores.max(axis=1, keepdims=True)
        shares = np.exp(scores)
        total = shares.sum(axis=1, keepdims=True)
        shares /= total
        entropy = float(np.sum(np.log(total)) - np.sum(shares * scores))
        kept = shares.sum(axis=0) > _SMALLEST
        if not kept.all():
            shares = shares[:, kept] / shares[:, kept].sum(axis=1, keepdims=True)
        width = rows.pooled(shares, width, typical)
        if kept.all() and np.max(np.abs(shares - before)) < _SETTLED:
            break
    log_marginal = rows.log_marginal(shares, width)
    log_process = _log_process(setting, shares.sum(axis=0))
    return Groups(shares, width, entropy - _relabelled(shares, entropy) + log_marginal + log_process)


def _relabelled(shares: Float[np.ndarray, "N K"], entropy: float) -> float:
    """What ``entropy`` counts too much: K! labellings are one partition, unless rows tell the groups apart."""
    counts = shares.sum(axis=0)
    information = -np.sum(counts * np.log(counts / len(shares))) - entropy
    return float(max(gammaln(len(counts) + 1) - information, 0))


def _log_process(setting: _Setting, counts: Float[np.ndarray, " K"]) -> float:
    """Log probability of groups of these sizes, which need not be whole."""
    alpha, discount = setting.alpha, setting.discount
    founded = np.sum(np.log(alpha + discount * np.arange(1, len(counts))))
    return float(founded + np.sum(_seated(counts, discount)) - gammaln(alpha + counts.sum()) + gammaln(alpha + 1))


def _seated(counts: Float[np.ndarray, " J"], discount: float) -> Float[np.ndarray, " J"]:
    """What the size of each group adds to the log probability."""
    return np.asarray(gammaln(np.maximum(counts, 1) - discount) - gammaln(1 - discount))


# --- groups of their own widths -------------------------------------------------------------------------------


def joined(
    groups: Groups,
    rows: Sharing,
    log_marginal: Callable[[Float[np.ndarray, "N J"]], Float[np.ndarray, " J"]],
    alpha: float,
    discount: float,
) -> Groups:
    """The groups after those are joined, the best pairs first, whose union has more evidence.

    One width for all divides the widest of them; ``log_marginal`` knows groups that each have their own.

    Args:
        groups: of one width.
        rows: what is known of them.
        log_marginal: log density of the rows of groups of which they have these shares, their parameters integrated
            out (nats).
        alpha: strength of the process of partitions.
        discount: its discount.
    """
    setting, shares = _Setting(rows, alpha, discount), groups.shares
    alone = log_marginal(shares)
    while shares.shape[1] > 1:
        one, other = _near_pairs(setting, shares, groups.within)
        both = shares[:, one] + shares[:, other]
        together = log_marginal(both)
        entropy = np.sum(xlogy(both, both) - xlogy(shares[:, one], shares[:, one]), axis=0)
        entropy -= np.sum(xlogy(shares[:, other], shares[:, other]), axis=0)
        gain = together - alone[one] - alone[other] - entropy + _gained_by_process(setting, shares, one, other)
        taken, left = [], np.ones(shares.shape[1], bool)
        for pair in np.argsort(-gain, kind="stable"):
            if gain[pair] > 0 and left[one[pair]] and left[other[pair]]:
                taken.append(pair)
                left[[one[pair], other[pair]]] = False
        if not taken:
            break
        shares, alone = np.c_[shares[:, left], both[:, taken]], np.r_[alone[left], together[taken]]
    within = groups.within if shares is groups.shares else rows.pooled(shares, groups.within, groups.within)
    return groups._replace(shares=shares, within=within)


def _near_pairs(
    setting: _Setting, shares: Float[np.ndarray, "N K"], width: np.ndarray
) -> tuple[Int[np.ndarray, " J"], Int[np.ndarray, " J"]]:
    """Pairs of groups that may be joined."""
    num_groups = shares.shape[1]
    if num_groups <= _FEW_GROUPS:
        one, other = np.triu_indices(num_groups, 1)
        return one, other
    means = (shares.T @ setting.rows.x) / shares.sum(axis=0)[:, None]
    means = setting.rows.in_metric(means, width)
    near = cKDTree(means).query(means, k=_NEIGHBOURS + 1)[1]
    pairs = np.c_[np.repeat(np.arange(num_groups), near.shape[1]), near.ravel()]
    pairs = np.unique(np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1), axis=0)
    return pairs[:, 0], pairs[:, 1]


def _gained_by_process(
    setting: _Setting, shares: Float[np.ndarray, "N K"], one: Int[np.ndarray, " J"], other: Int[np.ndarray, " J"]
) -> Float[np.ndarray, " J"]:
    """By how much the log probability of the sizes rises where two groups are one."""
    counts, discount = shares.sum(axis=0), setting.discount
    apart = _seated(counts[one], discount) + _seated(counts[other], discount)
    apart += np.log(setting.alpha + discount * (len(counts) - 1))
    return np.asarray(_seated(counts[one] + counts[other], discount) - apart)
