"""Files of rows that are read piece by piece, each kind by one class; here NPY and Parquet."""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as parquet
import xarray as xr
from numpy.typing import NDArray

from probam.errors import InputError, without_addresses

__all__ = [
    "STANDARD_INPUT",
    "Contents",
    "NpyFile",
    "ParquetFile",
    "Pieces",
    "cause",
    "in_short",
    "numpy_words",
    "readable",
]

STANDARD_INPUT = "standard input"
"""What errors call it."""

Contents = NDArray[Any] | pd.DataFrame | xr.DataArray | xr.Dataset
"""Rows of a file, not yet converted to a table."""


class Pieces(ABC):
    """A file of rows, which is opened anew for each pass over it."""

    name: str
    """What errors call it."""

    kinds: Mapping[Any, type] = {}
    """Of columns of frames whose kind is known: ``str`` or ``float``. Others have the one that a piece shows."""

    @property
    @abstractmethod
    def num_rows(self) -> int | None:
        """None where it is not known before the file has been read to its end."""

    @abstractmethod
    def read(self, rows: int) -> Iterator[Contents]:
        """The rows in order, at most this many at a time; a file without rows gives one piece without rows.

        Raises :class:`probam.errors.InputError` for a fault, when its piece is reached.
        """

    @abstractmethod
    def whole(self) -> Contents:
        """All rows at once."""


class NpyFile(Pieces):
    """An array in a file of NumPy. Each piece has a memory map of its own, so that no other part of it is resident."""

    def __init__(self, path: str) -> None:
        self.name = path
        mapped = self._mapped()
        self._shape, self._dtype, self._offset = mapped.shape, mapped.dtype, mapped.offset
        self._is_by_columns = bool(mapped.flags.f_contiguous and not mapped.flags.c_contiguous)

    @property
    def num_rows(self) -> int | None:
        """As the base class says."""
        return self._shape[0] if self._shape else None

    def read(self, rows: int) -> Iterator[Contents]:
        """As the base class says."""
        if len(self._shape) != 2 or 0 in self._shape:
            yield self.whole()
            return
        num_rows, width = self._shape
        for first in range(0, num_rows, rows):
            last = min(first + rows, num_rows)
            if self._is_by_columns:
                yield np.array(self._mapped()[first:last], order="C")
                continue
            at = self._offset + first * width * self._dtype.itemsize
            with readable(self.name, numpy_words):
                piece = np.array(np.memmap(self.name, self._dtype, "r", offset=at, shape=(last - first, width)))
            yield piece

    def whole(self) -> Contents:
        """As the base class says."""
        return np.array(self._mapped())

    def _mapped(self) -> "np.memmap[Any, Any]":
        with readable(self.name, numpy_words):
            if not os.path.getsize(self.name):
                raise InputError(f"{self.name}: the file is empty")
            return np.lib.format.open_memmap(self.name, mode="r")  # refused where the head promises more than there is


class ParquetFile(Pieces):
    """A Parquet file, of which parts of a row group are decoded at a time."""

    def __init__(self, path: str) -> None:
        self.name = path

    @cached_property
    def num_rows(self) -> int | None:
        """As the base class says."""
        with self._opened() as file:
            return int(file.metadata.num_rows)

    def read(self, rows: int) -> Iterator[Contents]:
        """As the base class says."""
        with self._opened() as file:
            if not self.num_rows:
                yield _frame(file.read())
            for batch in file.iter_batches(batch_size=rows):
                if batch.num_rows:
                    yield _frame(batch).astype({name: _AS[kind] for name, kind in self.kinds.items()})

    def whole(self) -> Contents:
        """As the base class says."""
        with self._opened() as file:
            return _frame(file.read())

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        with (
            readable(self.name, lambda error: f"it cannot be read as Parquet ({cause(error)}); it may be truncated"),
            parquet.ParquetFile(self.name) as file,  # type: ignore[no-untyped-call]
        ):
            yield file


_AS = {str: object, float: np.float64}
"""Types of columns of these kinds."""


def _frame(rows: Any) -> pd.DataFrame:
    frame: pd.DataFrame = rows.to_pandas()
    return frame.reset_index(drop=True)


@contextmanager
def readable(path: str, words: Callable[[Exception], str]) -> Iterator[None]:
    """Where a library refuses a file, :class:`probam.errors.InputError` with these words.

    Libraries raise exceptions of every kind for a damaged file.
    """
    try:
        yield
    except InputError:
        raise
    except MemoryError as error:
        raise InputError(
            f"{path}: it holds more than fits into memory ({cause(error)}); a file that is not that large is damaged"
        ) from error
    except Exception as error:
        raise InputError(f"{path}: {words(error)}") from error


def numpy_words(error: Exception) -> str:
    """What is wrong with a file of NumPy."""
    text = cause(error)
    if "pickle" in text or "Python objects" in text:
        return "it has Python objects, which are never unpickled; save numbers (np.save of a float array)"
    return f"it cannot be read as a NumPy file ({text}); it may be truncated"


def in_short(path: str) -> str:
    """A path for messages: of one that is too long for a file its beginning and its end."""
    return path if len(path) <= 200 else f"{path[:60]}...{path[-40:]}"


def cause(error: Exception) -> str:
    """The message of an exception, on one line."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(without_addresses(text or type(error).__name__).split())[:160]
