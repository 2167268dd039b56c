"""Rows that are spread over the processes of one run, each of which reads its own."""

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from probam.data.source import RowSource, drawn_rows, picked, row_source
from probam.data.table import Table
from probam.errors import InputError
from probam.fits.options import FitOptions
from probam.inference.common.processes import check_alike, everywhere, joined
from probam.inference.common.rows import check_weight

__all__ = ["SpreadRows", "of_this_process", "source_for", "spread_rows"]

_PROCESS = "{process}"
"""Stands in a path for the number of the process."""


class SpreadRows:
    """N rows of D features, of which every process reads its own, the first process the first ones.

    Args:
        source: what this process reads.
        name: what all rows are called.
        bounds: the number of the first row of every process, and N.
        skipped: rows of the source before those of this process.
    """

    def __init__(self, source: RowSource, name: str, bounds: tuple[int, ...], skipped: int) -> None:
        self.name, self.columns, self.dtype = name, source.columns, source.dtype
        self.bounds, self.num_data = bounds, bounds[-1]
        self._source, self._skipped = source, skipped
        self._first, self._last = bounds[jax.process_index()], bounds[jax.process_index() + 1]

    def blocks(self, rows: int) -> Iterator[Table]:
        """The rows of this process in order.

        Args:
            rows: most rows of a block.
        """
        begin, end, seen = self._skipped, self._skipped + self._last - self._first, 0
        for block in self._source.blocks(rows):
            first, last = max(begin - seen, 0), min(end - seen, block.num_data)
            if first < last:
                yield block.rows(first, last)
            seen += block.num_data
            if seen >= end and seen < self._source.num_data:
                return

    def own(self, weight: object, dtype: "np.dtype[Any]") -> NDArray[Any]:
        """How often each row of this process counts.

        Args:
            weight: a number for each row of the source.
            dtype: of the array.
        """
        given = check_weight(weight, self._source.num_data, dtype, are_all=False)
        return given[self._skipped : self._skipped + self._last - self._first]

    def at(self, drawn: NDArray[np.int64], own: NDArray[Any]) -> NDArray[Any]:
        """What processes have of rows of all, the same on each.

        Args:
            drawn: numbers of the rows, in ascending order.
            own: a number for each row of this process.
        """
        mine, counts = self._shared(drawn)
        return joined(own[mine], counts)

    def sample(self, number: int, seed: int) -> tuple[Table, NDArray[np.int64]]:
        """Rows of all processes drawn uniformly without replacement, in their order, the same on each; their numbers.

        One process that reads all rows draws the same ones.

        Args:
            number: how many.
            seed: of the draw.
        """
        drawn = drawn_rows(self.num_data, number, seed)
        own, counts = self._shared(drawn)
        rows = picked(self.blocks(self._source.rows_at_once), own, self._source)
        return replace(rows, values=joined(rows.values, counts), source=self.name), drawn

    def _shared(self, drawn: NDArray[np.int64]) -> tuple[NDArray[np.int64], list[int]]:
        """Which rows of this process are among some of all, and how many of each process are."""
        ends = np.searchsorted(drawn, self.bounds)
        own = drawn[ends[jax.process_index()] : ends[jax.process_index() + 1]] - self._first
        return own, np.diff(ends).tolist()


def source_for(data: Any, options: FitOptions) -> RowSource:
    """The rows of a path or of an object in memory, with the options of a fit that say how they are read."""
    variable = None if isinstance(data, Table) else options.variable  # a table was read already
    return row_source(data, columns=options.columns, drop=options.drop, missing=options.missing, variable=variable)


def of_this_process(path: str | os.PathLike[str]) -> str:
    """A path with the number of this process in it, where it has a place for that."""
    return os.fspath(path).replace(_PROCESS, str(jax.process_index()))


def spread_rows(data: Any, options: FitOptions) -> SpreadRows:
    """The rows of this process and, of all processes together, where each begins.

    Args:
        data: a path with ``{process}``, which stands for the number of a process, names a file of each; another path
            one file for all, of which each reads its share; anything else is the rows of this process.
        options: of the fit.

    Raises:
        InputError: where data cannot be read, or some process has none.
        ProbamError: where processes differ in columns, or one of them has ended.
    """
    index, count = jax.process_index(), jax.process_count()
    is_path = isinstance(data, str | os.PathLike)
    is_of_each = not is_path or _PROCESS in os.fspath(data)
    source = source_for(of_this_process(data) if is_path else data, options)
    if is_of_each:
        bounds, skipped = _one_after_the_other(source.num_data), 0
    else:
        bounds = tuple(source.num_data * process // count for process in range(count + 1))
        skipped = bounds[index]
    name = os.fspath(data) if is_path and is_of_each else source.name
    check_alike((source.columns, str(source.dtype), bounds), "columns, type or number of the rows", "give all the same")
    without = [process for process in range(count) if bounds[process] == bounds[process + 1]]
    if without:
        raise InputError(
            f"distributed: process {without[0]} has none of the {bounds[-1]} rows; give each some, or use "
            "fewer processes"
        )
    return SpreadRows(source, name, bounds, skipped)


def _one_after_the_other(own: int) -> tuple[int, ...]:
    """Bounds of the rows of processes that have files or arrays of their own."""
    counts = everywhere(np.asarray([own], np.int64))[:, 0]
    return (0, *np.cumsum(counts).tolist())
