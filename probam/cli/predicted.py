"""The table that ``probam predict`` writes: what the fit says of each row, beside what the file says of it."""

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from probam.cli.arguments import Rows
from probam.data.columns import title
from probam.data.labels import row_names

__all__ = ["predicted_table"]


def predicted_table(
    predicted: xr.Dataset, rows: Rows, *, above: float, column: str | None = None, with_inputs: bool = False
) -> xr.Dataset:
    """Name of each row, the columns of the file if they are asked for, and the prediction.

    A column of the file that is called like one of the prediction gets ``input_`` before its name.

    Args:
        predicted: as :meth:`probam.fits.fitted.Fit.predict` returns it.
        rows: the rows of which it speaks.
        above: memories whose responsibility is above this for some row have a column; ``other`` is the sum of the rest.
            Below 0 all have one.
        column: name of the column that names the rows.
        with_inputs: with all columns of the file.
    """
    if "responsibilities" in predicted:
        predicted = _with_few_memories(predicted, above)
    name, values = row_names(rows.contents, rows.table, column)
    columns: dict[str, NDArray[Any]] = {name: values}
    if with_inputs:
        columns |= _inputs(rows)
    told = {_apart(name, predicted): ("datum", _plain(values)) for name, values in columns.items()}
    return xr.Dataset(told, coords=predicted.coords).merge(predicted)


def _with_few_memories(predicted: xr.Dataset, above: float) -> xr.Dataset:
    """The prediction with the responsibilities of some memories, and the sum of the others unless all are there."""
    each = predicted["responsibilities"]
    is_shown = (each > above).any("datum")
    if above < 0:
        return predicted
    other = each.where(~is_shown, 0.0).sum("memory")
    return predicted.isel(memory=np.flatnonzero(is_shown)).assign(other=other)


def _inputs(rows: Rows) -> dict[str, NDArray[Any]]:
    """The columns of the file by title."""
    frame = rows.contents if isinstance(rows.contents, pd.DataFrame) else rows.table.frame()
    return {title(name): frame.iloc[:, i].to_numpy() for i, name in enumerate(frame.columns)}


def _apart(name: str, predicted: xr.Dataset) -> str:
    """A title that no column of the prediction has."""
    is_taken = name in predicted.variables or name == "other" or name.startswith("responsibilities_")
    return f"input_{name}" if is_taken else name


def _plain(values: NDArray[Any]) -> NDArray[Any]:
    """Numbers as they are, everything else as text, which files of all kinds hold."""
    if values.dtype.kind in "biuf":
        return values
    return np.array(["" if pd.isna(value) is True else str(value) for value in values], dtype=object)
