"""Columns of a table that are labels of its rows rather than features."""

import os
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from probam.data.columns import listed, title
from probam.data.kinds import NameSearch
from probam.data.reading import read, source_of
from probam.data.table import Table, as_table
from probam.errors import InputError

__all__ = ["label_like", "names_in", "row_names", "row_numbers", "split_labels"]

_MOST_LABELS = 20
"""A column of more distinct values is not taken for labels."""

_FEWEST_ROWS_OF_A_LABEL = 5
"""Average number of rows that labels have at least."""


def label_like(table: Table) -> tuple[str, ...]:
    """Names of the columns that look like labels: few distinct whole numbers in an otherwise continuous table.

    A table is continuous if most of its columns hold fractions.

    >>> x = np.random.default_rng(0).normal(size=(60, 3))
    >>> x[:, 1] = np.arange(60) % 3
    >>> label_like(Table(x, ("height", "species", "width")))
    ('species',)
    """
    is_whole = (np.isnan(table.values) | (table.values == np.round(table.values))).all(axis=0)
    if 2 * is_whole.sum() >= table.num_features:
        return ()
    most = min(_MOST_LABELS, table.num_data // _FEWEST_ROWS_OF_A_LABEL)
    num_values = [pd.Series(column).nunique() for column in table.values.T]  # missing ones do not count
    named = zip(table.columns, is_whole, num_values, strict=True)
    return tuple(name for name, whole, number in named if whole and 2 <= number <= most)


def split_labels(
    path: str | os.PathLike[str],
    column: str,
    *,
    variable: str | None = None,
    contents: object = None,
    first_row: int = 0,
) -> tuple[object, NDArray[Any]]:
    """The contents of a file without the column that holds labels, and the labels (N,), None where one is missing.

    Args:
        path: a file that :func:`probam.data.reading.read` reads.
        column: name of the column; of an NPZ or NetCDF file also of an array (N,) beside the table.
        variable: as for ``read``.
        contents: what ``read`` gave, where the file was read before; or a part of it.
        first_row: number of the first row of this part.

    Raises:
        InputError: where the file has no such column.
    """
    data = read(path, variable=variable) if contents is None else contents
    source = source_of(path)
    beside = _array_beside(source, column)
    if beside is not None:
        last = None if contents is None else first_row + len(contents)  # type: ignore[arg-type]
        return data, _labels(beside[first_row:last])
    if isinstance(data, xr.Dataset) and column in data.data_vars:
        return data.drop_vars(column), _labels(data[column].to_numpy())
    if not isinstance(data, pd.DataFrame):
        how: dict[str, Any] = {"name": source, "missing": True, "first_row": first_row}
        labels = as_table(data, columns=[column], **how).values[:, 0]
        return as_table(data, drop=[column], **how), _labels(labels)
    names = [title(name) for name in data.columns]
    if column not in names:
        raise InputError(f"labels: {source} has no column {column!r}; it has {listed(names, column)}")
    at = names.index(column)
    return data.iloc[:, [i for i in range(len(names)) if i != at]], _labels(data.iloc[:, at].to_numpy())


def row_names(contents: object, table: Table, column: str | None = None) -> tuple[str, NDArray[Any]]:
    """Title and values (N,) of the column that tells the rows of a file apart, or ``row`` and the number of each row.

    Without a name it is the first column that is no feature, holds text or whole numbers, and has another one in every
    row. Rows are numbered from 0, or as the file numbers them.

    Args:
        contents: what :func:`probam.data.reading.read` gave.
        table: the features of these rows.
        column: name of the column.

    Raises:
        InputError: where there is no column of this name.

    >>> frame = pd.DataFrame({"day": ["mo", "tu", "tu"], "sensor": ["b7", "a2", "b9"], "x": [0.5, 0.2, 0.9]})
    >>> row_names(frame, as_table(frame, columns=["x"]))
    ('sensor', array(['b7', 'a2', 'b9'], dtype=object))
    """
    if column is None and isinstance(contents, pd.DataFrame):
        search = NameSearch(table.columns)
        search.add(contents)
        column = search.found()
    return ("row", row_numbers(contents, table)) if column is None else (column, names_in(contents, table, column))


def row_numbers(contents: object, table: Table) -> NDArray[np.int64]:
    """Numbers (N,) of some rows of a file: from 0, or as the file numbers them.

    Args:
        contents: as for :func:`row_names`.
        table: likewise.
    """
    first = contents.attrs.get("first_number", 0) if isinstance(contents, pd.DataFrame) else 0
    return np.arange(first + table.first_row, first + table.first_row + table.num_data)


def names_in(contents: object, table: Table, column: str) -> NDArray[Any]:
    """The values (N,) of the column of this name, with the arguments and errors of :func:`row_names`."""
    frame = contents if isinstance(contents, pd.DataFrame) else table.frame()
    names = [title(name) for name in frame.columns]
    if column not in names:
        raise InputError(f"id: {table.source} has no column {column!r}; it has {listed(names, column)}")
    return frame.iloc[:, names.index(column)].to_numpy()


def _array_beside(source: str, name: str) -> NDArray[Any] | None:
    """The 1-D array of this name in an NPZ file; None where there is none."""
    if not source.lower().endswith(".npz"):
        return None
    try:
        values = np.asarray(read(source, variable=name))
    except InputError:
        return None
    return values if values.ndim == 1 else None


def _labels(values: NDArray[Any]) -> NDArray[Any]:
    """Labels as objects, those that are missing as None."""
    objects = pd.Series(values).astype(object)
    return np.asarray(objects.where(objects.notna(), None))
