"""Rows of a file that are read again at each pass and are never all in memory."""

import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probam.data.columns import listed
from probam.data.delimited import DelimitedText
from probam.data.kinds import Kinds, NameSearch
from probam.data.labels import split_labels
from probam.data.pieces import STANDARD_INPUT, Contents, Pieces
from probam.data.reading import pieces_of
from probam.data.table import Table, as_table
from probam.errors import InputError

__all__ = ["RowSource", "Rows", "drawn_rows", "picked", "read_ahead", "row_blocks", "row_source"]

_T = TypeVar("_T")

_HEAD = 1000
"""Rows that are looked at to know the columns."""

_AT_ONCE, _FEWEST = 2**20, 256
"""Numbers of a block where the caller does not choose, and rows that it has at least."""


class Rows(NamedTuple):
    """What a file says of some of its rows."""

    table: Table
    """The features."""
    labels: NDArray[Any] | None
    """Known labels (N,)."""
    contents: object
    """All of it, as :func:`probam.data.reading.read` gives it."""


class RowSource(ABC):
    """N rows of D features, read block by block as often as they are asked for.

    Attributes:
        name: what messages call it.
        columns: names of the D features.
        named: whether the data came with these names.
        is_in_memory: whether blocks are views of rows in memory.
    """

    name: str
    columns: tuple[str, ...]
    named: bool
    is_in_memory: bool = False

    @property
    @abstractmethod
    def num_data(self) -> int:
        """N; a text is read to its end to count them, once."""

    @property
    @abstractmethod
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64."""

    def blocks(self, rows: int) -> Iterator[Table]:
        """The rows in order, from the first one at each call.

        Args:
            rows: most rows of a block.

        Raises:
            InputError: for a fault in the data, when its block is reached, and for a file that has changed since the
                source was made.
        """
        return (part.table for part in self.parts(rows))

    @abstractmethod
    def parts(self, rows: int) -> Iterator[Rows]:
        """:meth:`blocks` with what else the file says of their rows; the arguments and errors are the same."""

    @abstractmethod
    def name_column(self) -> str | None:
        """The column that tells the rows apart: the first that is no feature, holds text or whole numbers, and has
        another one in every row. None where there is none. A file with other columns than features is read for that.
        """

    @abstractmethod
    def settle(self) -> None:
        """From now on columns have one kind in all parts, as they have in the whole; the file is read once for that."""

    @property
    def rows_at_once(self) -> int:
        """Rows of a block where the caller does not choose."""
        return max(_AT_ONCE // len(self.columns), _FEWEST)

    def sample(self, number: int, seed: int) -> tuple[Table, NDArray[np.int64]]:
        """Rows drawn uniformly without replacement, in the order of the source, and their numbers.

        All rows, where there are not more than are asked for. The same seed gives the same rows.

        Args:
            number: how many.
            seed: of the draw.

        Raises:
            InputError: as :meth:`blocks` does.
        """
        if number < 1:
            raise InputError(f"number: expected at least 1 row; got {number}")
        drawn = drawn_rows(self.num_data, number, seed)
        return picked(self.blocks(self.rows_at_once), drawn, self), drawn


class Remembered(RowSource):
    """A source that keeps what the file says of rows until their answers come, in the order of the blocks."""

    def __init__(self, source: RowSource) -> None:
        self.name, self.columns, self.named = source.name, source.columns, source.named
        self.is_in_memory = source.is_in_memory
        self._source = source
        self._under_way: deque[Rows] = deque()

    @property
    def num_data(self) -> int:
        """As the base class says."""
        return self._source.num_data

    @property
    def dtype(self) -> np.dtype[Any]:
        """As the base class says."""
        return self._source.dtype

    def parts(self, rows: int) -> Iterator[Rows]:
        """As the base class says."""
        self._under_way.clear()
        for part in self._source.parts(rows):
            self._under_way.append(part)
            yield part

    def next_part(self) -> Rows:
        """The first block of this pass that was not asked for."""
        return self._under_way.popleft()

    def name_column(self) -> str | None:
        """As the base class says."""
        return self._source.name_column()

    def settle(self) -> None:
        """As the base class says."""
        self._source.settle()


class _InMemory(RowSource):
    """A table, cut into views."""

    is_in_memory = True

    def __init__(self, table: Table, labels: NDArray[Any] | None = None) -> None:
        self.name, self.columns, self.named = table.source, table.columns, table.named
        self._table, self._labels = table, labels

    @property
    def num_data(self) -> int:
        return self._table.num_data

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._table.values.dtype

    def parts(self, rows: int) -> Iterator[Rows]:
        _at_least_one(rows)
        tables = (self._table.rows(first, first + rows) for first in range(0, self.num_data, rows))
        return (Rows(table, self._labels_of(table), table) for table in tables)

    def name_column(self) -> None:
        return None

    def settle(self) -> None:
        pass

    def _labels_of(self, table: Table) -> NDArray[Any] | None:
        return None if self._labels is None else self._labels[table.first_row : table.first_row + table.num_data]


class _InFile(RowSource):
    """A file, of which each block becomes a checked table."""

    def __init__(self, pieces: Pieces, reading: dict[str, Any], labels: str | None, normalise: bool) -> None:
        self.name, self._pieces, self._reading, self._labels = pieces.name, pieces, reading, labels
        self._normalise = normalise
        self._state = _state(self.name)
        head = next(_parts(pieces, _HEAD, reading, labels)).table
        self.columns, self.named, self._dtype = head.columns, head.named, head.values.dtype

    @cached_property
    def num_data(self) -> int:
        if isinstance(self._pieces, DelimitedText):
            return self._pieces.count()
        return int(self._pieces.num_rows or 0)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._dtype

    def parts(self, rows: int) -> Iterator[Rows]:
        _at_least_one(rows)
        for part in self._unchanged(_parts(self._pieces, rows, self._reading, self._labels, self.columns)):
            table = part.table.normalised() if self._normalise else part.table
            yield part._replace(table=table if table.values.dtype == self._dtype else table.astype(self._dtype))

    def name_column(self) -> str | None:
        kinds, search = Kinds(), NameSearch({*self.columns, *([] if self._labels is None else [self._labels])})
        for piece in self._unchanged(self._pieces.read(self.rows_at_once)):
            if not isinstance(piece, pd.DataFrame):
                return None
            kinds.add(piece)
            search.add(piece)
            if search.is_over:
                return None
        if self._pieces.kinds or not search.candidates & kinds.decided().keys():
            return search.found()
        self._pieces.kinds = kinds.decided()
        return self.name_column()

    def settle(self) -> None:
        kinds = Kinds()
        for piece in self._unchanged(self._pieces.read(self.rows_at_once)):
            if not isinstance(piece, pd.DataFrame):
                return
            kinds.add(piece)
        self._pieces.kinds = {**self._pieces.kinds, **kinds.decided()}

    def _unchanged(self, read: Iterator[_T]) -> Iterator[_T]:
        """What is read of a file that is still the same."""
        self._check_unchanged()
        try:
            yield from read
        except InputError:
            self._check_unchanged()
            raise
        self._check_unchanged()

    def _check_unchanged(self) -> None:
        if _state(self.name) != self._state:
            raise InputError(
                f"{self.name}: the file has changed since it was first read here; begin again when nothing writes to it"
            )


def row_source(
    source: Any,
    *,
    columns: Sequence[str] | None = None,
    drop: Sequence[str] | None = None,
    features: Sequence[str] | None = None,
    missing: bool = False,
    variable: str | None = None,
    labels: str | NDArray[Any] | None = None,
    normalise: bool = False,
    name: str = "data",
) -> RowSource:
    """A source of rows, which stay in the file.

    CSV, TSV, TXT, Parquet, NPY, NetCDF and Zarr are read in blocks. NPZ files are kept in memory, as is what is
    no file; standard input is kept in a temporary file.

    Args:
        source: a path, ``"-"`` for CSV on standard input, anything that :func:`probam.data.table.as_table` takes, or a
            source, which is returned as it is.
        columns: names of the columns to keep, in this order; None keeps all.
        drop: names of columns to leave out; they may hold anything.
        features: for questions to what was learned from these features: as for ``as_table``.
        missing: keep missing entries as NaN; otherwise they are refused.
        variable: name of one array of an NPZ, NetCDF or Zarr file or of an xarray ``Dataset``.
        labels: name of a column of a file that holds labels and is no feature, or the labels (N,) of rows in memory.
        normalise: divide each row by its length.
        name: what errors call data that are no file.

    Raises:
        InputError: for what cannot be read, and for a fault in the first rows.

    >>> x = np.arange(10.0).reshape(5, 2)
    >>> source = row_source(x, columns=["x1"])
    >>> source.num_data, [block.values.ravel().tolist() for block in source.blocks(2)]
    (5, [[1.0, 3.0], [5.0, 7.0], [9.0]])
    >>> source.sample(3, seed=0)[1]
    array([2, 3, 4])
    """
    reading: dict[str, Any] = {"columns": columns, "drop": drop, "features": features, "missing": missing}
    if isinstance(source, RowSource):
        if any((*reading.values(), variable, normalise)) or labels is not None:
            raise InputError(f"source: {source.name} is a source already; give these options to the one that makes it")
        return source
    if not isinstance(source, str | os.PathLike):
        table = as_table(source, variable=variable, name=name, **reading)
        if isinstance(labels, str):
            raise InputError(f"labels: rows in memory have no column of labels; give the labels; got {labels!r}")
        return _InMemory(table.normalised() if normalise else table, labels)
    if not (labels is None or isinstance(labels, str)):
        raise InputError(f"labels: expected the name of a column of {os.fspath(source)}; got {type(labels).__name__}")
    return _InFile(pieces_of(source, variable=variable), reading, labels, normalise)


def row_blocks(
    source: Any,
    *,
    rows: int = 50_000,
    columns: Sequence[str] | None = None,
    drop: Sequence[str] | None = None,
    seconds: float | None = None,
) -> tuple[Iterator[Table], int | None]:
    """Tables that together hold all rows once, and the number of rows (None where it is not known yet).

    Standard input (``"-"``) is read as it comes. The arguments are those of :func:`row_source`.

    Args:
        source: as there.
        rows: most rows of a table.
        columns: as there.
        drop: as there.
        seconds: of standard input, after which the next row ends a table with those that have come.

    Raises:
        InputError: for what cannot be read; for a fault inside a file, when its block is reached.
    """
    _at_least_one(rows)
    reading: dict[str, Any] = {"columns": columns, "drop": drop}
    if not isinstance(source, str | os.PathLike):
        table = as_table(source, **reading)
        return _InMemory(table).blocks(rows), table.num_data
    if os.fspath(source) == "-":
        pieces: Pieces = DelimitedText(STANDARD_INPUT, as_it_comes=True, seconds=seconds)
    else:
        pieces = pieces_of(source)
    return (part.table for part in _parts(pieces, rows, reading, None)), pieces.num_rows


def read_ahead(blocks: Iterator[_T]) -> Iterator[_T]:
    """The same blocks, the next of which is read by a thread while the caller works on one."""
    end: Any = object()
    with ThreadPoolExecutor(1, thread_name_prefix="probam-reads") as thread:
        following = thread.submit(next, blocks, end)
        while (block := following.result()) is not end:
            following = thread.submit(next, blocks, end)
            yield block


def _parts(
    pieces: Pieces, rows: int, reading: dict[str, Any], labels: str | None, columns: tuple[str, ...] | None = None
) -> Iterator[Rows]:
    """Checked tables; each row has the number that it has in the file."""
    first_row, name = 0, pieces.name
    for piece in pieces.read(rows):
        contents, known = _split(piece, name, labels, first_row)
        table = as_table(contents, **reading, name=name, first_row=first_row)
        if columns is not None and table.columns != columns:
            raise InputError(
                f"{name}: from {table.row_words(0)} on it has the columns {listed(table.columns)}, and before "
                f"{listed(columns)}; choose those that all rows have (`columns=`, `--columns`)"
            )
        columns = table.columns
        first_row += table.num_data
        yield Rows(table, known, piece)


def _split(piece: Contents, name: str, labels: str | None, first_row: int) -> tuple[object, NDArray[Any] | None]:
    """A piece without its labels, and the labels."""
    return (piece, None) if labels is None else split_labels(name, labels, contents=piece, first_row=first_row)


def picked(blocks: Iterator[Table], numbers: NDArray[np.int64], source: RowSource) -> Table:
    """Some rows of a source, in their order.

    Args:
        blocks: rows of the source.
        numbers: of the rows, counted from the first of these blocks, in ascending order.
        source: where they come from.
    """
    values = np.empty((len(numbers), len(source.columns)), source.dtype)
    last, seen, has_missing = 0, 0, False
    for block in blocks:
        first, last = last, int(np.searchsorted(numbers, seen + block.num_data))
        values[first:last] = block.values[numbers[first:last] - seen]
        seen, has_missing = seen + block.num_data, block.missing
    return Table(values, source.columns, source.name, has_missing, source.named)


def drawn_rows(num_data: int, number: int, seed: int) -> NDArray[np.int64]:
    """Numbers of rows drawn uniformly without replacement, in ascending order.

    Memory grows with the draw and not with the data.

    Args:
        num_data: how many rows there are.
        number: how many to draw; all where there are not more.
        seed: of the draw.
    """
    if number >= num_data:
        return np.arange(num_data)
    rng = np.random.default_rng(seed)
    if 2 * number > num_data:
        return np.sort(rng.permutation(num_data)[:number])
    drawn = np.unique(rng.integers(num_data, size=number))
    while len(drawn) < number:  # the first distinct numbers of a sequence of independent ones
        drawn = np.union1d(drawn, rng.integers(num_data, size=number - len(drawn)))
    return drawn


def _state(path: str) -> tuple[int, ...]:
    """Size and time of a file, or of all files of a folder."""
    if path == STANDARD_INPUT:
        return ()
    files = sorted(each for each in Path(path).rglob("*") if each.is_file()) if Path(path).is_dir() else [Path(path)]
    status = [each.stat() for each in files]
    return tuple(number for each in status for number in (each.st_size, each.st_mtime_ns))


def _at_least_one(rows: int) -> None:
    if rows < 1:
        raise InputError(f"rows: expected a whole number of at least 1; got {rows}")
