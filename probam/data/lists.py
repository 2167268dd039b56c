"""Columns of lists of numbers, as embeddings come in Parquet: one feature for each entry."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["spread_lists"]


def spread_lists(
    frame: pd.DataFrame, names: tuple[str, ...], columns: Sequence[str] | None
) -> tuple[pd.DataFrame, tuple[str, ...], Sequence[str] | None]:
    """The frame with a column for each entry of a column of lists: ``embedding`` becomes ``embedding_0`` and so on.

    Columns of lists of different lengths stay as they are.

    Args:
        frame: any columns.
        names: what its columns are called.
        columns: names of the columns to keep, a column of lists by its own name or by those of its entries; None for
            all. Others are not spread.

    Returns:
        The frame, the names of its columns, and ``columns`` with the names of the entries.
    """
    wanted = [columns] if isinstance(columns, str) else None if columns is None else [str(name) for name in columns]
    parts: list["pd.Series[Any] | pd.DataFrame"] = []
    entries: dict[str, list[str]] = {}
    for i, name in enumerate(names):
        column = frame.iloc[:, i]
        is_wanted = wanted is None or any(each == name or each.startswith(f"{name}_") for each in wanted)
        rows = _rows_of_lists(column) if is_wanted else None
        if rows is None:
            parts.append(column)
            continue
        entries[name] = [f"{name}_{entry}" for entry in range(rows.shape[1])]
        parts.append(pd.DataFrame(rows, index=frame.index))
    if not entries:
        return frame, names, columns
    spread = tuple(part for name in names for part in entries.get(name, [name]))
    chosen = None if wanted is None else [part for name in wanted for part in entries.get(name, [name])]
    return pd.concat(parts, axis=1), spread, chosen


def _rows_of_lists(column: "pd.Series[Any]") -> NDArray[Any] | None:
    """The lists of numbers in a column as rows, NaN where there is no list; None if the column holds anything else."""
    if column.dtype != object:
        return None
    has_list = np.array([isinstance(value, (list, tuple, np.ndarray)) for value in column], bool)
    if not has_list.any() or column[~has_list].notna().any():
        return None
    lists = [np.asarray(value) for value in column[has_list]]
    shape = lists[0].shape
    if len(shape) != 1 or shape == (0,) or any(each.shape != shape or each.dtype.kind not in "fiub" for each in lists):
        return None
    stacked = np.stack(lists)
    if has_list.all():
        return stacked
    rows = np.full((len(column), shape[0]), np.nan, stacked.dtype if stacked.dtype.kind == "f" else np.float64)
    rows[has_list] = stacked
    return rows
