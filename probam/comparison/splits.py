"""Rows of data that are fitted, and rows that are held out: the split, and the options of a fit that go with it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int

from probam.data.table import Table, as_table
from probam.errors import InputError
from probam.options import number

__all__ = ["of_rows", "read_once", "rows_of_table", "split"]

_READING = ("columns", "drop", "variable")
_OF_ROWS = ("sample_weight", "labels")
"""Options of ``probam.fit`` that say how data are read, and those that have an entry for each row."""


def read_once(data: Any, options: Mapping[str, Any]) -> tuple[Table, dict[str, Any]]:
    """The table that ``probam.fit`` would read, and the options without those that say how.

    Args:
        data: anything that ``probam.fit`` reads.
        options: its options.
    """
    how = {name: options[name] for name in _READING if name in options}
    if isinstance(data, Table):
        how.pop("variable", None)  # it was read already
    table = as_table(data, missing=bool(options.get("missing", False)), **how)
    return table, {name: value for name, value in options.items() if name not in _READING}


def rows_of_table(table: Table, rows: Int[np.ndarray, " M"]) -> pd.DataFrame:
    """Some rows of a table."""
    return pd.DataFrame(table.values[rows], columns=list(table.columns))


def of_rows(options: Mapping[str, Any], rows: Int[np.ndarray, " M"], num_data: int) -> dict[str, Any]:
    """Options of a fit of some of the rows: weights of the data and known labels are those of these rows."""
    chosen = dict(options)
    for name in _OF_ROWS:
        if chosen.get(name) is not None:
            entries = np.asarray(chosen[name])
            if entries.shape[:1] != (num_data,):
                raise InputError(f"{name}: expected one for each of {num_data} rows; got shape {entries.shape}")
            chosen[name] = entries[rows]
    return chosen


def split(num_data: int, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers that are fitted and that are held out, each in order; the same seed gives the same split.

    Args:
        num_data: number of rows.
        fraction: share of the rows to hold out, between 0 and 1.
        seed: of the permutation.
    """
    number(what="share of the rows", above=0)("held_out", fraction)
    if not fraction < 1:
        raise InputError(f"held_out: expected a share between 0 and 1; got {fraction}")
    size = round(fraction * num_data)
    if not 0 < size < num_data:
        raise InputError(
            f"held_out: a share of {fraction} of {num_data} data leaves none to fit or none to hold out; "
            "choose another share"
        )
    order = np.random.default_rng(seed).permutation(num_data)
    return np.sort(order[size:]), np.sort(order[:size])
