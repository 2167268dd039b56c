r"""Two groupings of the same data: the table of shared counts, and how far they agree.

The grouping of the rows may be known labels or the memories of one fit, that of the columns the memories of another.
Neither numbering means anything, so the table is put in the order in which its diagonal is heaviest: the assignment
of columns to rows that shares most data (Kuhn 1955).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment

from probam.errors import InputError

__all__ = ["Agreement", "Contingency", "agreement", "agreement_of", "contingency"]


_ALL_MISSING = "labels: all are missing; expected the label of at least one datum"


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
    codes, names, found = _known(labels, memories)
    groups, places = np.unique(found, return_inverse=True)
    return _agreement(_counts(codes, places, len(names), len(groups)))


def agreement_of(counts: Mapping[tuple[object, int], int]) -> Agreement:
    """:func:`agreement` of data that were counted.

    Args:
        counts: how many data have a label and belong to a memory. Those whose label is None do not count.

    >>> agreement_of({("a", 1): 2, ("b", 0): 1, (None, 0): 1}) == agreement(["a", "a", "b", None], [1, 1, 0, 0])
    True
    """
    known = {pair: number for pair, number in counts.items() if pair[0] is not None}
    if not known:
        raise InputError(_ALL_MISSING)
    rows, columns = (pd.factorize(np.array([pair[side] for pair in known], object)) for side in (0, 1))
    table = np.zeros((len(rows[1]), len(columns[1])), np.int64)
    np.add.at(table, (rows[0], columns[0]), list(known.values()))
    return _agreement(table)


def _agreement(counts: Int[np.ndarray, "R C"]) -> Agreement:
    """Of the numbers of data that groups share (Hubert & Arabie 1985; Strehl & Ghosh 2002)."""
    table = counts.astype(np.float64)
    num_data, rows, columns = table.sum(), table.sum(axis=1), table.sum(axis=0)
    together, in_rows, in_columns = ((each * (each - 1)).sum() / 2 for each in (table, rows, columns))
    by_chance = in_rows * in_columns / max(num_data * (num_data - 1) / 2, 1)
    most = (in_rows + in_columns) / 2
    ari = 1.0 if most == by_chance else float((together - by_chance) / (most - by_chance))
    entropies = [_entropy(each) for each in (rows, columns)]
    shared = sum(entropies) - _entropy(table)
    nmi = 1.0 if max(entropies) == 0 else max(shared, 0.0) / (sum(entropies) / 2)
    return Agreement(ari, float(nmi), int(num_data), len(rows))


def _entropy(counts: Float[np.ndarray, "..."]) -> float:
    """Entropy of shares, nats."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


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
    counts = _counts(codes, places, len(names), len(groups))
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


def _counts(
    codes: Int[np.ndarray, " M"], places: Int[np.ndarray, " M"], num_rows: int, num_columns: int
) -> Int[np.ndarray, "R C"]:
    """How many data two groupings share, by their numbers."""
    return np.bincount(codes * num_columns + places, minlength=num_rows * num_columns).reshape(num_rows, num_columns)


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
        raise InputError(_ALL_MISSING)
    return codes[known], list(names), np.asarray(memories)[known]
