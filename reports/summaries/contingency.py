r"""Two groupings of the same data: the table of shared counts, and how far they agree.

The grouping of the rows may be known labels or the memories of one fit, that of the columns the memories of another.
Neither numbering means anything, so the table is put in the order in which its diagonal is heaviest: the assignment
of columns to rows that shares most data (Kuhn 1955).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Int
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment

from probam.errors import InputError

__all__ = ["Agreement", "Contingency", "agreement", "contingency"]


class Agreement(NamedTuple):
    """How well memories agree with known labels."""

    ari: float  # adjusted Rand index: 1 for the same groups, 0 on average for groups by chance
    nmi: float  # normalised mutual information, from 0 to 1
    num_data: int  # data whose label is known
    num_labels: int


def agreement(labels: Sequence[object] | np.ndarray, memories: ArrayLike) -> Agreement:
    """Adjusted Rand index and normalised mutual information (arithmetic mean) of labels and memories.

    Args:
        labels: label of each datum, of any type; None or NaN where it is not known. Such data do not count.
        memories: number of the memory of each datum.

    >>> agreement(["a", "a", "b", None], [1, 1, 0, 0])
    Agreement(ari=1.0, nmi=1.0, num_data=3, num_labels=2)
    """
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score  # a second that reports are spared

    codes, names, found = _known(labels, memories)
    return Agreement(
        float(adjusted_rand_score(codes, found)),
        float(normalized_mutual_info_score(codes, found)),
        len(codes),
        len(names),
    )


class Contingency(NamedTuple):
    """How many data two groupings share, in the order in which the diagonal is heaviest."""

    rows: tuple[object, ...]  # the groups of the first grouping: those with a partner first, the largest first
    columns: tuple[object, ...]  # the partners of these rows in their order, then the others, the largest first
    counts: Int[np.ndarray, "R C"]
    num_matched: int  # so many leading rows and columns are partners, which share at least one datum

    @property
    def num_shared(self) -> int:
        """Data that lie in partners."""
        return int(np.trace(self.counts[: self.num_matched, : self.num_matched]))

    @property
    def num_data(self) -> int:
        """All data."""
        return int(self.counts.sum())


def contingency(labels: Sequence[object] | np.ndarray, memories: ArrayLike) -> Contingency:
    """The table of two groupings of the same data, one group of the first matched with one of the second.

    Args:
        labels: group of each datum, of any type; None or NaN where it is not known. Such data do not count.
        memories: group of each datum in the other grouping.

    >>> table = contingency(["a", "b", "b", "b"], [2, 0, 0, 2])
    >>> table.rows, table.columns, table.counts.tolist()
    (('b', 'a'), (0, 2), [[2, 1], [0, 1]])
    """
    codes, names, found = _known(labels, memories)
    groups, places = np.unique(found, return_inverse=True)
    counts = np.bincount(codes * len(groups) + places, minlength=len(names) * len(groups))
    counts = counts.reshape(len(names), len(groups))
    partners = np.stack(linear_sum_assignment(counts, maximize=True), axis=1)
    partners = partners[counts[partners[:, 0], partners[:, 1]] > 0]
    partners = partners[np.argsort(-counts.sum(axis=1)[partners[:, 0]], kind="stable")]
    rows = _matched_first(partners[:, 0], counts.sum(axis=1))
    columns = _matched_first(partners[:, 1], counts.sum(axis=0))
    return Contingency(
        tuple(names[row] for row in rows),
        tuple(groups[column].item() for column in columns),
        counts[np.ix_(rows, columns)],
        len(partners),
    )


def _matched_first(matched: Int[np.ndarray, " M"], sizes: Int[np.ndarray, " G"]) -> list[int]:
    """The positions of groups: those given, in their order, then the others, the largest first."""
    others = np.setdiff1d(np.arange(len(sizes)), matched)
    return [*matched.tolist(), *others[np.argsort(-sizes[others], kind="stable")].tolist()]


def _known(
    labels: Sequence[object] | np.ndarray, memories: ArrayLike
) -> tuple[Int[np.ndarray, " M"], Sequence[object], Int[np.ndarray, " M"]]:
    """Codes of the labels that are known, their names by code, and the memories of these data."""
    codes, names = pd.factorize(np.asarray(labels, object))
    known = codes >= 0
    if not known.any():
        raise InputError("labels: all are missing; expected the label of at least one datum")
    return codes[known], list(names), np.asarray(memories)[known]
