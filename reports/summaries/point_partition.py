"""One partition that summarises a posterior: the least expected loss that candidates and a local search find.

Candidates are sampled partitions and cuts of the average-linkage tree of ``1 - co-clustering``. From the best of
them a greedy search starts: each datum in turn is moved to the cluster, or to a new one, where the expected loss is
least, until no move helps (the sweeps of SALSO: Dahl, Johnson and Mueller 2022, arXiv:2105.04451). The result is a
local optimum; only an exhaustive search, feasible for a dozen data, could guarantee more.
"""

from abc import ABC, abstractmethod

import numpy as np
import scipy
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from scipy.special import xlogy

from probam.reports.summaries.partition import (
    Loss,
    PartitionDraws,
    canonical,
    check_loss,
    expected_loss,
    partition_draws,
    vi_criterion,
)
from probam.reports.summaries.quantities import evenly

__all__ = ["by_size", "point_partition"]

_MAX_SAMPLED = 100
"""How many of the distinct sampled partitions are candidates; of more, evenly spaced ones."""

_MAX_DRAWS = 500
"""Draws that the search and the shortlist see, evenly spaced; the winner is chosen by all of them."""

_MAX_EXACT = 50
"""How many candidates are judged by the expected VI; the criterion of the co-clustering matrix chooses which."""

_MAX_CLUSTERS = 50
"""The tree of average linkage is cut into at most so many clusters; the search opens no more, or as many as a draw."""

_STARTS = 4
"""Candidates from which the local search sets out."""

_MAX_SWEEPS = 30


def point_partition(posterior: ArrayLike | PartitionDraws, *, loss: Loss = "vi") -> Int[np.ndarray, " N"]:
    """The partition of least posterior expected loss, labels 0, 1, ... from the largest cluster to the smallest.

    Args:
        posterior: sampled labels (S, N), integers, or a co-clustering matrix (N, N), floating, or both.
        loss: as in :func:`probam.reports.summaries.partition.expected_loss`.

    Raises:
        InputError: for another kind of posterior, and for an unknown loss.
    """
    check_loss(loss)
    known = partition_draws(posterior)
    draws, similarity = known
    shortened = PartitionDraws(None if draws is None else draws[evenly(len(draws), _MAX_DRAWS)], similarity)
    candidates = _hierarchical(similarity)
    if draws is not None:
        sampled = np.unique(draws, axis=0)
        candidates = np.concatenate([sampled[evenly(len(sampled), _MAX_SAMPLED)], candidates])
    candidates = np.unique(candidates, axis=0)
    if loss == "vi" and len(candidates) > _MAX_EXACT:
        candidates = candidates[np.argsort(vi_criterion(candidates, similarity), kind="stable")[:_MAX_EXACT]]
    order = np.argsort(expected_loss(candidates, shortened, loss=loss), kind="stable")
    starts = candidates[order[:_STARTS]]
    ends = [_improved(_table(start, shortened, loss)) for start in starts]
    finalists = np.concatenate([canonical(np.stack(ends)), starts])
    best = finalists[np.argmin(expected_loss(finalists, known, loss=loss))]
    return by_size(best)


def by_size(labels: Int[np.ndarray, " N"]) -> Int[np.ndarray, " N"]:
    """The same partition with labels 0, 1, ... from the largest cluster to the smallest."""
    own = canonical(np.asarray(labels)[None])[0]
    sizes = np.bincount(own)
    rank = np.empty_like(sizes)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes))
    return np.asarray(rank[own])


class _Table(ABC):
    """A partition from which data can be taken out and put back, and what each place would cost."""

    def __init__(self, start: Int[np.ndarray, " N"], most: int) -> None:
        self.labels = start.copy()
        self.sizes = np.bincount(start, minlength=min(len(start), max(most, int(start.max()) + 1)))

    def open(self) -> int:
        """Number of slots to consider: those in use and one free slot."""
        return min(len(self.sizes), int(np.flatnonzero(self.sizes)[-1]) + 2) if self.sizes.any() else 1

    def move(self, datum: int, slot: int, by: int) -> None:
        """Put a datum into a slot (``by`` 1) or take it out (-1)."""
        self.sizes[slot] += by
        self.labels[datum] = slot if by > 0 else -1
        self._count(datum, slot, by)

    @abstractmethod
    def _count(self, datum: int, slot: int, by: int) -> None: ...

    @abstractmethod
    def costs(self, datum: int) -> Float[np.ndarray, " K"]:
        """Increase of N times the expected loss if the datum, now taken out, goes to each open slot."""


class _ViTable(_Table):
    """Expected VI over weighted draws: counts of the data that a slot shares with each cluster of each draw."""

    def __init__(self, start: Int[np.ndarray, " N"], draws: Int[np.ndarray, "S N"]) -> None:
        super().__init__(start, max(_MAX_CLUSTERS, int(draws.max()) + 1))
        self.draws, times = np.unique(draws, axis=0, return_counts=True)
        self.weights = times / len(draws)
        num_draws, num_data = self.draws.shape
        self.every = np.arange(num_draws)
        self.shared = np.zeros((num_draws, int(draws.max()) + 1, len(self.sizes)), np.int32)
        for datum, slot in enumerate(start):
            self.shared[self.every, self.draws[:, datum], slot] += 1
        whole = np.arange(num_data + 1)
        self.growth = np.diff(xlogy(whole, whole))  # (n + 1) log (n + 1) - n log n

    def _count(self, datum: int, slot: int, by: int) -> None:
        self.shared[self.every, self.draws[:, datum], slot] += by

    def costs(self, datum: int) -> Float[np.ndarray, " K"]:
        seen = self.shared[self.every, self.draws[:, datum], : self.open()]  # (S, K)
        return np.asarray(self.growth[self.sizes[: self.open()]] - 2 * (self.weights @ self.growth[seen]))


class _CriterionTable(_Table):
    """The criterion of a co-clustering matrix in place of the expected VI."""

    def __init__(self, start: Int[np.ndarray, " N"], similarity: Float[np.ndarray, "N N"]) -> None:
        super().__init__(start, _MAX_CLUSTERS)
        self.similarity = similarity
        self.shared = similarity @ np.eye(len(self.sizes))[start]  # (N, K)
        whole = np.arange(len(start) + 1)
        self.growth = np.diff(xlogy(whole, whole))

    def _count(self, datum: int, slot: int, by: int) -> None:
        self.shared[:, slot] += by * self.similarity[:, datum]

    def costs(self, datum: int) -> Float[np.ndarray, " K"]:
        slots = self.open()
        others = np.flatnonzero(self.labels >= 0)
        place = self.labels[others]
        raised = np.log1p(self.similarity[others, datum] / self.shared[others, place])
        theirs = np.bincount(place, raised, minlength=slots)[:slots]
        used = self.sizes[:slots] > 0  # what rounding leaves in a slot that became free is not there
        own = np.log(np.where(used, self.shared[datum, :slots], 0) + self.similarity[datum, datum])
        return np.asarray(self.growth[self.sizes[:slots]] - 2 * (theirs + own))


class _BinderTable(_Table):
    """Expected Binder loss, halved and times the number of pairs."""

    def __init__(self, start: Int[np.ndarray, " N"], similarity: Float[np.ndarray, "N N"]) -> None:
        super().__init__(start, len(start))
        self.odds = 1.0 - 2.0 * similarity
        np.fill_diagonal(self.odds, 0.0)
        self.within = self.odds @ np.eye(len(self.sizes))[start]  # (N, K)

    def _count(self, datum: int, slot: int, by: int) -> None:
        self.within[:, slot] += by * self.odds[:, datum]

    def costs(self, datum: int) -> Float[np.ndarray, " K"]:
        slots = self.open()
        return np.where(self.sizes[:slots] > 0, self.within[datum, :slots], 0.0)


def _table(start: Int[np.ndarray, " N"], posterior: PartitionDraws, loss: Loss) -> _Table:
    if loss == "binder":
        return _BinderTable(start, posterior.similarity)
    if posterior.draws is None:
        return _CriterionTable(start, posterior.similarity)
    return _ViTable(start, posterior.draws)


def _improved(table: _Table) -> Int[np.ndarray, " N"]:
    """Where the greedy search ends."""
    smallest = 1e-9  # a gain below it is rounding
    for _ in range(_MAX_SWEEPS):
        moved = False
        for datum in range(len(table.labels)):
            before = int(table.labels[datum])
            table.move(datum, before, -1)
            costs = table.costs(datum)
            here = costs[before] if before < len(costs) else costs[-1]  # left empty: as good as any free slot
            best = int(np.argmin(costs))
            better = bool(costs[best] < here - smallest)
            table.move(datum, best if better else before, 1)
            moved |= better
        if not moved:
            break
    return table.labels


def _hierarchical(similarity: Float[np.ndarray, "N N"]) -> Int[np.ndarray, "C N"]:
    """Average-linkage clusterings of ``1 - similarity`` into 1, 2, ... clusters.

    The merges are undone one by one here: SciPy's ``cut_tree`` goes astray where heights are tied.
    """
    num_data = len(similarity)
    if num_data == 1:
        return np.zeros((1, 1), dtype=np.int64)
    distance = np.maximum(1.0 - (similarity + similarity.T) / 2, 0.0)
    np.fill_diagonal(distance, 0.0)
    condensed = scipy.spatial.distance.squareform(distance, checks=False)
    merges = scipy.cluster.hierarchy.linkage(condensed, method="average")[:, :2].astype(int)
    label = np.arange(num_data)
    cuts = [label]
    for node, (left, right) in enumerate(merges, start=num_data):
        label = np.where((label == left) | (label == right), node, label)
        cuts.append(label)
    return canonical(np.stack(cuts[-_MAX_CLUSTERS:]))
