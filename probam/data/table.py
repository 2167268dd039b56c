"""A table of numbers: N data with D named features, checked once where data enters.

Whatever a user gives (a path, an array, a data frame, an xarray object) becomes a :class:`Table` through
:func:`as_table`; all other code trusts the numbers of a table.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from probam.data.columns import check_unique, counted, learned_columns, listed, positions, positions_kept, title
from probam.data.frames import numbers_of
from probam.data.gridded import rows_in, side_by_side
from probam.data.lists import spread_lists
from probam.data.pieces import cause
from probam.data.reading import read, source_of
from probam.errors import InputError

__all__ = ["Table", "as_table", "check_rows", "check_unit", "check_varies", "constant_columns", "has_gaps"]


@dataclass(frozen=True, eq=False)
class Table:
    """N data with D features: finite floats, unique column names, and their source.

    ``values`` (N, D) is float32 or float64 and read-only; with ``missing`` entries may be NaN, but not all of a row.
    ``named`` is False where the data came without names of columns, so that ``columns`` only count them. ``left_out``
    names the columns of a file that were left out because they only number its rows. ``first_row`` is the number of the
    first row in the source, of which these may be a part, and ``lines`` (N,) the lines of a text on which its rows end.
    Raises :class:`probam.errors.InputError` where one of these conditions fails.
    """

    values: NDArray[Any]  # (N, D)
    columns: tuple[str, ...]
    source: str = "array"
    missing: bool = False
    named: bool = True
    left_out: tuple[str, ...] = ()
    first_row: int = 0
    lines: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        values = _checked_shape(np.asarray(self.values), self.source)
        if values.dtype not in (np.float32, np.float64):
            raise InputError(f"{self.source}: expected float32 or float64 numbers; got {values.dtype}")
        if len(self.columns) != values.shape[1]:
            raise InputError(
                f"columns: expected {values.shape[1]} names, one per feature of {self.source}; got {len(self.columns)}"
            )
        check_unique(self.columns, self.source)
        if self.lines is not None and len(self.lines) != len(values):
            raise InputError(f"lines: expected {len(values)} numbers, one per row; got {len(self.lines)}")
        _check_finite(values, self.columns, self.source, self.row_words, self.missing)
        values = values.view()
        values.flags.writeable = False
        object.__setattr__(self, "values", values)

    @property
    def num_data(self) -> int:
        """N, the number of rows."""
        return int(self.values.shape[0])

    @cached_property
    def has_gaps(self) -> bool:
        """Whether any entry is missing (NaN)."""
        return self.missing and has_gaps(self.values)

    @property
    def num_features(self) -> int:
        """D, the number of columns."""
        return int(self.values.shape[1])

    def row_words(self, row: int) -> str:
        """Which row of the source this one is: ``row 3 (line 4)`` of a text, otherwise ``row 2 (counting from 0)``."""
        return _row_words(row, self.first_row, self.lines)

    def rows(self, first: int, last: int) -> "Table":
        """The rows from ``first`` to before ``last``, which keep their numbers."""
        lines = None if self.lines is None else self.lines[first:last]
        return replace(self, values=self.values[first:last], first_row=self.first_row + first, lines=lines)

    def select(self, columns: Sequence[str]) -> "Table":
        """The same data with these columns, in this order."""
        at = positions(columns, self.columns, self.source)
        if at == list(range(self.num_features)):
            return self
        return replace(self, values=self.values[:, at], columns=tuple(self.columns[i] for i in at))

    def astype(self, dtype: str | np.dtype[Any] | type[np.floating[Any]], *, copy: bool = True) -> "Table":
        """The same data in another precision; raises for a value that overflows in it.

        Where they have it already they are copied, or shared without ``copy``.
        """
        with np.errstate(over="ignore"):
            return replace(self, values=self.values.astype(dtype, copy=copy))

    def normalised(self) -> "Table":
        """The same data with each row divided by its length.

        Raises :class:`probam.errors.InputError` for a row of zeros, which has no direction, and for a missing entry.
        """
        x = self.values.astype(np.float64)
        largest = np.abs(x).max(axis=1, keepdims=True)
        without = np.flatnonzero(np.isnan(largest) | (largest == 0))
        if without.size:
            row = int(without[0])
            what = "is all zeros" if largest[row] == 0 else "has missing entries"
            raise InputError(
                f"{self.source}: {self.row_words(row)} {what} and has no direction ({without.size} such rows); leave "
                "such rows out"
            )
        x = x / largest  # squares neither overflow nor vanish
        unit = x / np.linalg.norm(x, axis=1, keepdims=True)
        return replace(self, values=unit.astype(self.values.dtype))

    def frame(self) -> pd.DataFrame:
        """The same data as a data frame."""
        return pd.DataFrame(self.values, columns=list(self.columns))


def as_table(
    data: object,
    *,
    columns: Sequence[str] | None = None,
    drop: Sequence[str] | None = None,
    features: Sequence[str] | None = None,
    variable: str | None = None,
    name: str = "data",
    missing: bool = False,
    first_row: int = 0,
) -> Table:
    """A :class:`Table` from a file or from any object of numbers.

    float32 stays float32; every other kind of number, booleans included, becomes float64.

    Args:
        data: a path (CSV, TSV, Parquet, NPY, NPZ, NetCDF, Zarr: see :func:`probam.data.reading.read`), a NumPy or JAX
            array (N, D), nested lists, a pandas frame, a 2-D xarray ``DataArray`` (the coordinate of its feature axis
            gives the column names), a ``Dataset`` whose variables share one dimension, or a ``Table``.
        columns: names of the columns to keep, in this order; the others may hold anything. None keeps all. A column
            of lists of D numbers (embeddings in Parquet) stands for D columns: ``name_0``, ``name_1``, ...
        drop: names of columns to leave out; they may hold anything.
        features: for questions to what was learned from these D features. Where both sides have names, the columns of
            these names are taken, in this order; otherwise there must be D columns, which are taken as they lie.
        variable: name of one array of an NPZ, NetCDF or Zarr file or of a ``Dataset``.
        name: what errors call the data; a file is called by its path.
        missing: keep missing entries as NaN; every row needs an entry that is not missing. Otherwise they are refused.
        first_row: number of the first row, where the data are a part of a file.

    Raises:
        InputError: for text, dates, complex numbers, missing or infinite values, empty data, wrong shapes and other
            features than were learned.

    >>> as_table([[1, 2], [3, 4], [5, 6]], columns=["x1"]).values.ravel()
    array([2., 4., 6.])
    """
    if isinstance(data, (str, os.PathLike)):
        return _convert(read(data, variable=variable), columns, drop, source_of(data), features, missing, first_row)
    if variable is not None:
        if not isinstance(data, xr.Dataset):
            raise InputError(
                f"variable: only NPZ and NetCDF files and xarray Datasets have variables; got {_kind(data)}"
            )
        if variable not in data.data_vars:
            raise InputError(f"variable: {name} has no {variable!r}; it has {listed(data.data_vars, variable)}")
        data = data[variable]
    return _convert(data, columns, drop, name, features, missing, first_row)


def check_rows(table: Table, *, minimum: int = 2) -> None:
    """Raise :class:`probam.errors.InputError` where nothing can be learned: too few rows, or a column without values.

    Questions to a fit are not held to this: one row may lack a column that the fit knows.

    Args:
        table: data to learn from.
        minimum: least number of rows.
    """
    if table.num_data < minimum:
        rows = "one row" if table.num_data == 1 else f"{table.num_data} rows"
        raise InputError(f"{table.source}: a fit needs at least {minimum} data; got {rows}")
    empty = np.flatnonzero(np.isnan(table.values).all(axis=0)) if table.has_gaps else np.zeros(0, int)
    if empty.size:
        raise InputError(f"{table.source}: column {table.columns[empty[0]]!r} has no values; leave it out (`drop=`)")


def check_varies(table: Table) -> None:
    """Raise :class:`probam.errors.InputError` for one row, or for a column that never changes.

    A Gaussian's variance along a constant column is zero and its density without bound.
    """
    check_rows(table)
    x = table.values
    constant = constant_columns(x)
    if constant.size:
        names = ", ".join(repr(table.columns[i]) for i in constant[:5])
        more = f" and {constant.size - 5} more" if constant.size > 5 else ""
        what = f"column {names} is" if constant.size == 1 else f"columns {names}{more} are"
        first = f"{np.nanmax(x[:, constant[0]]):g} in every row"
        raise InputError(f"{table.source}: {what} constant ({first}); leave it out (`drop=`, `--drop`)")


def constant_columns(x: NDArray[Any]) -> NDArray[np.intp]:
    """Numbers of the columns (of which each has a value) that vary by no more than the rounding of their values."""
    low, high = np.nanmin(x, axis=0).astype(np.float64), np.nanmax(x, axis=0).astype(np.float64)
    rounding = 4 * np.finfo(x.dtype).eps * np.maximum(np.abs(low), np.abs(high))
    return np.flatnonzero(high - low <= rounding)


def check_unit(table: Table, num_data: int | None = None) -> None:
    """Raise :class:`probam.errors.InputError` for a column whose squares leave the numbers of its precision.

    They overflow where numbers are too large, and vanish where all are too small. Squares are summed over ``num_data``
    rows (by default those of the table).
    """
    limits = np.finfo(table.values.dtype)
    most, least = np.sqrt(limits.max / (num_data or table.num_data)), np.sqrt(limits.tiny)
    largest = np.maximum(np.nanmax(table.values, axis=0), -np.nanmin(table.values, axis=0))
    for column, size in zip(table.columns, largest, strict=True):
        if size > most or 0 < size < least:
            where = "larger than" if size > most else "smaller than"
            raise InputError(
                f"{table.source}: column {column!r} has numbers of size {size:.1e}, {where} those whose squares fit "
                f"into {table.values.dtype}; give it another unit (multiply it by a power of ten)"
            )


def _convert(
    data: object,
    columns: Sequence[str] | None,
    drop: Sequence[str] | None,
    source: str,
    features: Sequence[str] | None,
    missing: bool,
    first_row: int,
) -> Table:
    """A Table from an object in memory."""
    if isinstance(data, xr.Dataset):
        data = side_by_side(rows_in(data, source))
    names: tuple[str, ...] | None = None
    if isinstance(data, xr.DataArray):
        data, names = _from_data_array(data, source)
    if not isinstance(data, (Table, pd.DataFrame)):
        data = _as_array(data, source)
        if data.dtype.names is not None and data.ndim == 1:  # a record array
            data = pd.DataFrame({field: data[field] for field in data.dtype.names})
    if isinstance(data, pd.DataFrame):
        named = data.columns.name != "position" and not data.columns.equals(pd.RangeIndex(data.shape[1]))
        data, names = _dropped(data, tuple(title(label) for label in data.columns), drop, source)
        data, names, columns = spread_lists(data, names, columns)
    elif isinstance(data, Table):
        data, names = _dropped(data, data.columns, drop, data.source)
        named, source = data.named, data.source
    else:
        data, named = _checked_shape(data, source), names is not None
        data, names = _dropped(data, names or counted(data.shape[1]), drop, source)
    if features is not None:
        columns = learned_columns(features, names, named, source) if columns is None else columns
    if isinstance(data, Table):
        if data.missing and not missing:
            data = replace(data, missing=False)
        return data if columns is None else data.select(columns)
    if isinstance(data, pd.DataFrame):
        return _from_frame(data, names, columns, source, missing, named, first_row)
    check_unique(names, source)
    if columns is not None:
        at = positions(columns, names, source)
        data, names = data[:, at], tuple(names[i] for i in at)
    values = _as_float(data, source, missing, first_row)
    return Table(values, names, source, missing, named, first_row=first_row)


_Columns = TypeVar("_Columns", Table, pd.DataFrame, NDArray[Any])


def _dropped(
    data: _Columns, names: tuple[str, ...], drop: Sequence[str] | None, source: str
) -> tuple[_Columns, tuple[str, ...]]:
    """The data without the columns of these names, and the names that stay."""
    if drop is None:
        return data, names
    left_out = data.left_out if isinstance(data, Table) else getattr(data, "attrs", {}).get("left_out", ())
    kept = positions_kept(names, drop, source, left_out)
    names = tuple(names[i] for i in kept)
    if isinstance(data, Table):
        return data.select(names), names
    return (data.iloc[:, kept] if isinstance(data, pd.DataFrame) else data[:, kept]), names


def _from_frame(
    frame: pd.DataFrame,
    names: tuple[str, ...],
    columns: Sequence[str] | None,
    source: str,
    missing: bool,
    named: bool = True,
    first_row: int = 0,
) -> Table:
    """A Table from a frame whose columns may be of different types; an index named ``line`` has line numbers."""
    if not names:
        raise InputError(f"{source}: it has no columns; expected at least one column of numbers")
    check_unique(names, source)
    at = list(range(len(names))) if columns is None else positions(columns, names, source)
    if not len(frame):
        raise InputError(f"{source}: it has column names and no rows; expected one row per datum")

    lines = frame.index.to_numpy(np.int64) if frame.index.name == "line" else None

    def row_words(row: int) -> str:
        return _row_words(row, first_row, lines)

    parts = [numbers_of(frame.iloc[:, i], names[i], frame, names, source, row_words) for i in at]
    dtype = np.float32 if all(part.dtype == np.float32 for part in parts) else np.float64
    values = np.empty((len(frame), len(parts)), dtype)
    for i, part in enumerate(parts):
        values[:, i] = part
    chosen = tuple(names[i] for i in at)
    left_out = tuple(frame.attrs.get("left_out", ()))
    return Table(values, chosen, source, missing, named, left_out, first_row, lines)


def _from_data_array(data: xr.DataArray, source: str) -> tuple[NDArray[Any], tuple[str, ...] | None]:
    """Values with the feature axis last, and the names along it where there are any."""
    if data.ndim != 2:
        _checked_shape(data.to_numpy(), source)
    if data.dims[0] == "feature":
        data = data.transpose()
    axis = data.dims[1]
    names = tuple(str(label) for label in data[axis].to_numpy()) if axis in data.coords else None
    return data.to_numpy(), names


def _as_array(data: object, source: str) -> NDArray[Any]:
    """``data`` as a NumPy array, masked values as NaN."""
    if hasattr(data, "toarray"):
        raise InputError(f"{source}: expected a dense array; got {_kind(data)}; use its .toarray()")
    if isinstance(data, np.ma.MaskedArray) and np.ma.is_masked(data):
        return np.asarray(np.ma.filled(data.astype(np.float64), np.nan))
    try:
        return np.asarray(data)
    except ValueError as error:
        raise InputError(f"{source}: expected rows of equal length; got rows of different lengths") from error
    except Exception as error:  # any object may be given, and its conversion be code of any kind
        raise InputError(
            f"{source}: expected rows of numbers; got {_kind(data)}, which cannot be made an array ({cause(error)})"
        ) from error


def _checked_shape(values: NDArray[Any], source: str) -> NDArray[Any]:
    """``values`` if it is (N, D) with N and D above zero."""
    shape = values.shape
    if values.ndim == 0:
        raise InputError(f"{source}: expected a 2-D array (N data, D features); got a single {values.dtype} object")
    if values.ndim == 1:
        raise InputError(
            f"{source}: expected a 2-D array (N data, D features); got shape {shape}; use x.reshape(-1, 1) for"
            f" {shape[0]} data of one feature, or x.reshape(1, -1) for one datum of {shape[0]} features"
        )
    if values.ndim > 2:
        raise InputError(
            f"{source}: expected a 2-D array (N data, D features); got shape {shape}; flatten each datum,"
            f" x.reshape({shape[0]}, -1)"
        )
    if shape[0] == 0:
        raise InputError(f"{source}: it is empty, shape {shape}; expected one row per datum")
    if shape[1] == 0:
        raise InputError(f"{source}: it has no columns, shape {shape}; expected at least one column of numbers")
    return values


def _as_float(values: NDArray[Any], source: str, missing: bool, first_row: int) -> NDArray[Any]:
    """float32 as it is, other real numbers as float64."""
    if values.dtype == np.float32:
        return values
    if values.dtype.kind in "fiub" or values.dtype.name == "bfloat16":
        return values.astype(np.float64)
    if values.dtype.kind == "c":
        raise InputError(f"{source}: it holds complex numbers; give real and imaginary parts as two columns")
    if values.dtype.kind in "Mm":
        raise InputError(f"{source}: it holds dates or times ({values.dtype}); convert them to numbers")
    if values.dtype.kind == "V":
        raise InputError(f"{source}: it holds records ({values.dtype}); give each field as a column of numbers")
    names = counted(values.shape[1])
    frame = pd.DataFrame(values, columns=list(names), dtype=object)
    return _from_frame(frame, names, None, source, missing, first_row=first_row).values


def has_gaps(values: NDArray[Any]) -> bool:
    """Whether an entry is NaN."""
    return bool(np.isnan(_sum(values)) and np.isnan(values).any())


def _sum(values: NDArray[Any]) -> Any:
    """A number that is not finite if one of these is not; one pass that keeps no array of answers."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.sum(values)


def _check_finite(
    values: NDArray[Any], columns: Sequence[str], source: str, row_words: Callable[[int], str], missing: bool
) -> None:
    if np.isfinite(_sum(values)):
        return
    finite = np.isfinite(values)
    if finite.all():
        return
    gone = np.isnan(values)
    finite |= gone if missing else False
    if finite.all():
        if gone.all(axis=1).any():
            row = int(np.flatnonzero(gone.all(axis=1))[0])
            raise InputError(f"{source}: {row_words(row)} has no values; leave it out")
        return
    rows, cols = np.nonzero(~finite)
    value = values[rows[0], cols[0]]
    word = "a missing value (nan)" if np.isnan(value) else f"an infinite value ({value})"
    remedy = "drop those rows or impute the values first"
    if np.isnan(value) and len(columns) > 1:  # a row of one column would have no values
        remedy = (
            "drop those rows, impute the values, or fit with missing=True (`probam fit --missing`), which takes gaps"
        )
    rows = np.nonzero(gone if np.isnan(value) else ~(finite | gone))[0]
    count = (
        "it is the only one"
        if rows.size == 1
        else f"{rows.size} such values in {np.unique(rows).size} of {len(values)} rows"
    )
    raise InputError(
        f"{source}: column {columns[cols[0]]!r} has {word} in {row_words(int(rows[0]))}; {count}; {remedy}"
    )


def _row_words(row: int, first_row: int, lines: NDArray[np.int64] | None) -> str:
    if lines is None:
        return f"row {first_row + row} (counting from 0)"
    return f"row {first_row + row + 1} (line {lines[row]})"


def _kind(data: object) -> str:
    return f"{type(data).__module__}.{type(data).__qualname__}".removeprefix("builtins.")
