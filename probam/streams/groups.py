r"""Rows divided into groups of one width, of which neither the number nor the width is known.

The groups are those of largest evidence. Each cut of Ward's tree (1963) is refined by coordinate ascent (variational
Bayes) of a lower bound of

.. math:: \log p(X \mid W) = \log \sum_z p(z) \prod_k \int \prod_{n: z_n = k} p(x_n \mid \mu, W) \, dP(\mu),

with p(z) the process of partitions and P the prior of the locations; W is the width within the groups of each cut
(:class:`probam.streams.widths.Sharing`; of Gaussians the covariance). Ward's distances are measured in the metrics of
first guesses of W, and then of W itself, for a few rounds.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.cluster.hierarchy import cut_tree, ward
from scipy.special import digamma, gammaln

from probam.streams.widths import Sharing

__all__ = ["Groups", "find_groups"]

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
    seated = np.sum(gammaln(np.maximum(counts, 1) - discount) - gammaln(1 - discount))
    return float(founded + seated - gammaln(alpha + counts.sum()) + gammaln(alpha + 1))
