"""Columns of frames, which may hold anything, as numbers."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probam.data.columns import listed
from probam.errors import InputError, shown

__all__ = ["numbers_of"]


def numbers_of(
    column: "pd.Series[Any]",
    name: str,
    frame: pd.DataFrame,
    names: Sequence[str],
    source: str,
    row_words: Callable[[int], str],
) -> NDArray[Any]:
    """One column as floats, NaN where it is missing.

    Args:
        column: what it holds.
        name: what it is called.
        frame: all columns.
        names: what these are called.
        source: what errors call the data.
        row_words: a row in words, from its number.

    Raises :class:`probam.errors.InputError` for text, dates, complex numbers and other objects.
    """
    if pd.api.types.is_complex_dtype(column.dtype):
        raise InputError(
            f"{source}: column {name!r} holds complex numbers; give real and imaginary parts as two columns"
        )
    if pd.api.types.is_numeric_dtype(column.dtype):  # booleans and nullable kinds included
        dtype = np.float32 if column.dtype == np.float32 else np.float64
        return column.to_numpy(dtype=dtype, na_value=np.nan)
    if pd.api.types.is_datetime64_any_dtype(column.dtype) or pd.api.types.is_timedelta64_dtype(column.dtype):
        raise InputError(
            f"{source}: column {name!r} holds dates or times ({column.dtype}); convert them to numbers, such as days "
            "since the first, or leave the column out (`drop=`, `--drop`)"
        )
    objects = column.astype(object)
    present = objects.notna().to_numpy()
    is_text = np.array([isinstance(value, (str, bytes)) for value in objects]) & present
    try:
        numeric = pd.to_numeric(objects, errors="coerce").to_numpy(np.float64)
    except OverflowError:  # a whole number beyond the largest float
        numeric = np.array([_float(value) for value in objects])
    bad = np.flatnonzero(present & np.isnan(numeric))
    if not bad.size:
        bad = np.flatnonzero(is_text)  # numbers, written as text
    if bad.size:
        row = int(bad[0])
        usable = [n for i, n in enumerate(names) if pd.api.types.is_numeric_dtype(frame.iloc[:, i].dtype)]
        hint = f"; columns of numbers: {listed(usable)}" if usable else ""
        value = objects.iloc[row]
        text = str(value) if is_text[row] else shown(value)
        comma = (
            " (decimal commas, or other signs in the same column: write points)"
            if "," in text and _is_number(text.replace(",", "."))
            else ""
        )
        is_list = isinstance(value, (list, tuple, np.ndarray))
        kind = "text" if is_text[row] else "lists of different lengths, one" if is_list else type(value).__name__
        raise InputError(
            f"{source}: column {name!r} holds {kind} in {row_words(row)}: {_shortened(text)!r}{comma};"
            f" correct it, leave the column out (`drop=`, `--drop`) or choose others (`columns=`, `--columns`){hint}"
        )
    return numeric


def _float(value: object) -> float:
    """A number as a float, NaN for what is none, infinite where it is too large."""
    try:
        return float(value)  # type: ignore[arg-type]
    except OverflowError:
        return math.inf
    except (TypeError, ValueError):
        return math.nan


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _shortened(text: str, most: int = 40) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."
