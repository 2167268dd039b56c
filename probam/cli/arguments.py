"""Arguments of the command line as Python values: data, and options of engines."""

import contextlib
import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probam.errors import InputError

if TYPE_CHECKING:
    from probam.data.table import Table

__all__ = ["check_apart", "engine_option", "table_of"]


def table_of(
    data: str,
    columns: list[str] | None,
    variable: str | None,
    features: Sequence[str] | None = None,
    *,
    missing: bool = False,
) -> "Table":
    """The data of a file or, where there is no file of that name, of a shipped set.

    Args:
        data: path of a file, or name of a shipped set.
        columns: names of columns, each word possibly several, separated by commas; None takes all.
        variable: which array of an NPZ or NetCDF file to use.
        features: those that a fit has learned, for questions to it.
        missing: allow missing entries.
    """
    from difflib import get_close_matches

    from probam.data.shipped import load_shipped, shipped
    from probam.data.table import as_table

    chosen = (
        None
        if columns is None
        else [name for words in columns for name in next(csv.reader([words], skipinitialspace=True), [])]
    )
    if Path(data).exists() or Path(data).suffix or ":" in data:
        table = as_table(data, columns=chosen, features=features, variable=variable, missing=missing)
        for name in table.left_out:
            print(f"probam: {data}: left out {name!r}, which only numbers the rows", file=sys.stderr)
        return table
    names = [record.name for record in shipped()]
    if data not in names:
        close = get_close_matches(data, names, n=1)
        hint = f"did you mean {close[0]!r}?" if close else "`probam data` lists the sets"
        raise InputError(f"{data}: no such file, and no shipped set of that name; {hint}")
    return as_table(load_shipped(data), columns=chosen, features=features, variable=variable, missing=missing)


def check_apart(output: Path, *inputs: str | Path) -> None:
    """Raise :class:`probam.errors.InputError` where the output would replace an input."""
    for path in map(Path, inputs):
        if output.exists() and path.exists() and output.samefile(path):
            raise InputError(f"{output}: this file is the input; choose another name for the output")


def engine_option(text: str) -> tuple[str, Any]:
    """Name and value of NAME=VALUE; numbers, true, false and null are read as in JSON, anything else is text."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise InputError(f"option: expected NAME=VALUE, for example target_accept=0.95; got {text!r}")
    with contextlib.suppress(ValueError):
        return name.strip().replace("-", "_"), json.loads(value)
    return name.strip().replace("-", "_"), value
