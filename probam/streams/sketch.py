"""What a stream keeps of its data in bounded memory: a uniform sample of the rows, and the growth curve."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["Growth", "Reservoir"]

_PER_DECADE = 20
"""Points of the growth curve between n and 10 n."""


class Reservoir:
    """A uniform sample without replacement of all rows so far, in the order of the stream.

    Row n has a random priority that is a function of the seed and n alone, and the rows of lowest priority are kept:
    how the stream is divided into parts does not change the sample.
    """

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        self.seed = seed
        self._rows: NDArray[Any] | None = None
        self._index = np.zeros(0, np.uint64)

    def add(self, first: int, rows: NDArray[Any]) -> None:
        """Offer rows; the first of them is row number ``first`` of the stream."""
        index = np.arange(first, first + len(rows), dtype=np.uint64)
        low = np.flatnonzero(self._priorities(index) <= self._threshold())  # few, once the reservoir is full
        index, rows = index[low], rows[low]
        if self._rows is not None:
            index, rows = np.concatenate([self._index, index]), np.concatenate([self._rows, rows])
        if len(rows) > self.size:
            kept = np.sort(np.argpartition(self._priorities(index), self.size - 1)[: self.size])
            index, rows = index[kept], rows[kept]
        self._index, self._rows = index, rows

    def rows(self) -> NDArray[Any]:
        """The sample (at most ``size`` rows)."""
        if self._rows is None:
            raise AssertionError("nothing was added")
        return self._rows

    def _threshold(self) -> np.uint64:
        if len(self._index) < self.size:
            return np.uint64(2**64 - 1)
        return np.uint64(self._priorities(self._index).max())

    def _priorities(self, index: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Pseudo-random 64-bit numbers, one for each row number (SplitMix64: Steele, Lea and Flood 2014)."""
        with np.errstate(over="ignore"):
            start = np.uint64((self.seed * 0xD1342543DE82EF95 + 0x632BE59BD9B4E019) % 2**64)
            z = start + (index + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
            z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            return np.asarray(z ^ (z >> np.uint64(31)))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What :meth:`restore` needs."""
        if self._rows is None:
            return {}
        return {"reservoir": self._rows, "reservoir_index": self._index.astype(np.int64)}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Continue from what :meth:`arrays` returned."""
        if "reservoir" in arrays:
            self._rows, self._index = arrays["reservoir"], arrays["reservoir_index"].astype(np.uint64)


class Growth:
    """Number of memories and prequential log score after n data, for n evenly spaced in log n."""

    def __init__(self) -> None:
        self.log_score = 0.0
        self._points: list[tuple[int, int, float]] = []
        self._last = (0, 0)

    def add(self, seen: int, sizes: NDArray[Any], log_predictive: NDArray[Any]) -> None:
        """Numbers of memories after each of some data, and their log predictive densities."""
        if not len(sizes):
            return
        scores = np.add.accumulate(np.append(self.log_score, log_predictive.astype(np.float64)))[1:]  # one by one
        for n in _grid(seen, seen + len(sizes)):
            self._points.append((n, int(sizes[n - seen - 1]), float(scores[n - seen - 1])))
        self.log_score = float(scores[-1])
        self._last = (seen + len(sizes), int(sizes[-1]))

    def frame(self) -> pd.DataFrame:
        """Columns ``data``, ``memories`` and ``log_predictive``; the last row is the present."""
        points = [*self._points]
        if self._last[0] and (not points or points[-1][0] != self._last[0]):
            points.append((*self._last, self.log_score))
        return pd.DataFrame(points, columns=["data", "memories", "log_predictive"])

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What :meth:`restore` needs; ``growth_*`` is the curve."""
        if not self._last[0]:
            return {}
        frame = self.frame()
        return {
            "growth_data": frame["data"].to_numpy(np.int64),
            "growth_memories": frame["memories"].to_numpy(np.int64),
            "growth_log_predictive": frame["log_predictive"].to_numpy(np.float64),
        }

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Continue from what :meth:`arrays` returned."""
        if "growth_data" not in arrays:
            return
        columns = [arrays[f"growth_{name}"].tolist() for name in ("data", "memories", "log_predictive")]
        points = list(zip(*columns, strict=True))
        self._last, self.log_score = (points[-1][0], points[-1][1]), points[-1][2]
        self._points = points if points[-1][0] in _grid(points[-1][0] - 1, points[-1][0]) else points[:-1]


def _grid(after: int, last: int) -> list[int]:
    """Data numbers n with after < n <= last at which the curve has a point."""
    low = int(np.floor(_PER_DECADE * np.log10(max(after, 1))))
    high = int(np.ceil(_PER_DECADE * np.log10(max(last, 1)))) + 1
    numbers = {round(10 ** (j / _PER_DECADE)) for j in range(low, high + 1)}
    return sorted(n for n in numbers if after < n <= last)
