"""Tables with gaps: data some of whose entries are missing (NaN, None, masked, an empty cell)."""

import os
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from probam.data.reading import read
from probam.data.table import as_table

__all__ = ["GappedTable", "as_gapped_table"]


class GappedTable(NamedTuple):
    """N data with D features, NaN where an entry is missing."""

    values: Float[np.ndarray, "N D"]
    columns: tuple[str, ...]
    source: str


def as_gapped_table(data: Any, *, prefer: tuple[str, ...] | None = None, name: str = "data") -> GappedTable:
    """Whatever :func:`probam.data.table.as_table` reads, its missing entries kept as NaN.

    Arguments and errors are those of ``as_table``; infinite values are refused, missing ones are not.

    >>> as_gapped_table([[1.0, None], [3.0, 4.0]]).values.tolist()
    [[1.0, nan], [3.0, 4.0]]
    """
    if isinstance(data, str | os.PathLike):
        data, name = read(data), os.fspath(data)
    if hasattr(data, "isnull") and hasattr(data, "fillna"):  # pandas and xarray
        gone, filled = data.isnull(), data.fillna(0)
    else:
        if isinstance(data, np.ma.MaskedArray):
            data = np.ma.filled(data.astype(np.result_type(data.dtype, np.float32)), np.nan)
        array = np.asarray(getattr(data, "values", data))
        gone = np.asarray(pd.isnull(array))
        filled = np.where(gone, 0, array) if gone.any() else data
    table = as_table(filled, prefer=prefer, name=name)
    missing = as_table(gone.astype(float), prefer=prefer, name=name).values > 0
    return GappedTable(np.where(missing, np.nan, table.values).astype(table.values.dtype), table.columns, table.source)
