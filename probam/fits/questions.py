"""Rows that a fit is asked about: held to the features that it learned, and to what it can answer."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Array, Float

from probam.compiled import filled_number, is_small
from probam.data.source import RowSource, read_ahead, row_source
from probam.data.table import Table, as_table
from probam.errors import InputError, rows_named
from probam.family import Family
from probam.family.capabilities import Absent, DataSpace, MissingEntries
from probam.placement import numbers_at_once

__all__ = [
    "NO_LENGTH",
    "lacking",
    "padded",
    "padded_alike",
    "question_blocks",
    "question_table",
    "rows_at_a_time",
    "rows_of_family",
]

_WHOLE_ROWS = (
    "energy and recall need whole rows: impute the values (`complete` does, where the family can) or leave those rows "
    "out"
)

_NUMBERS = 2**20
"""Numbers of a block of rows, and of what is made of it, on a CPU."""

_FEWEST, _MOST = 256, 2**18
"""Rows of a block."""

_STEPS = 4
"""Numbers of rows of a small question between a power of two and the next that programs are made for."""

NO_LENGTH = (
    "this fit divides each row by its length (normalise=True, `--normalise`), and a row with gaps has none: impute the "
    "values or leave those rows out; a fit without it, of family 'gaussian' or 'student_t', fills gaps"
)
"""Why a fit of normalised rows takes no gaps, and what to do."""


def question_table(data: Any, columns: tuple[str, ...], *, name: str, missing: bool, normalised: bool) -> Table:
    """Data as a table of the features of a fit.

    Args:
        data: rows of D features, or anything that ``probam.fit`` reads.
        columns: the features.
        name: what errors call the data.
        missing: allow missing entries.
        normalised: divide each row by its length; then no entry may be missing.
    """
    table = as_table(data, features=columns, name=name, missing=True)
    if table.has_gaps and (normalised or not missing):
        row, column = np.argwhere(np.isnan(table.values))[0]
        raise InputError(
            f"{table.source}: column {columns[column]!r} has a missing value in {table.row_words(int(row))}; "
            f"{NO_LENGTH if normalised else _WHOLE_ROWS}"
        )
    return table.normalised() if normalised else table


def question_blocks(
    data: Any, columns: tuple[str, ...], *, rows: int, name: str, missing: bool, normalised: bool
) -> Iterator[Table]:
    """The same in blocks of at most this many rows; those of a file are read while the caller works.

    Args:
        data: as for :func:`question_table`, or a :class:`probam.data.source.RowSource`.
        columns: as there.
        rows: most rows of a block.
        name: as there.
        missing: as there.
        normalised: as there.
    """
    source = data
    if not isinstance(data, RowSource):
        source = row_source(data, features=columns, missing=True, name=name)
    blocks = source.blocks(rows)
    for table in blocks if source.is_in_memory else read_ahead(blocks):
        yield question_table(table, columns, name=name, missing=missing, normalised=normalised)


def rows_at_a_time(width: int) -> int:
    """How many rows of a question go at a time, so that what is made of them stays small.

    Args:
        width: numbers of a row and of what is made of it.
    """
    return min(max(numbers_at_once(_NUMBERS) // width, _FEWEST), _MOST)


def rows_of_family(family: Family, table: Table, dtype: np.dtype[Any]) -> Float[np.ndarray, "N D"]:
    """The rows of a table in this precision.

    Raises :class:`probam.errors.InputError` for rows outside the support of the family, and for missing entries that
    it cannot integrate out.
    """
    entries = MissingEntries.ask(family)
    if isinstance(entries, Absent) and table.has_gaps:
        raise InputError(
            f"{table.source}: entries are missing, and family {family.name!r} cannot integrate them out: "
            f"{entries.reason}; leave those rows out or impute the values first"
        )
    values = table.values.astype(dtype, copy=False)
    with rows_named(table.row_words):
        DataSpace.of(family).check_support(values, table.columns)
    return values


def padded(x: Float[np.ndarray, "N D"], num_components: int) -> Float[np.ndarray, "M D"]:
    """The rows and, where the question is small, the last one again and again: a program that was compiled for one
    number of rows then serves others.

    There are at most a quarter more rows, and so few different numbers of them.

    Args:
        x: rows.
        num_components: memories that they meet.
    """
    return np.asarray(padded_alike(num_components, x)[0])


def padded_alike(
    num_components: int, x: Float[Array | np.ndarray, "N D"], *others: Array | np.ndarray | None
) -> tuple[Any, ...]:
    """:func:`padded` rows, and what goes with each of them (N, ...) likewise, None as it is."""
    more = lacking(x, num_components)
    if not more:
        return (x, *others)
    edge = ((0, more), (0, 0))
    return tuple(None if rows is None else np.pad(np.asarray(rows), edge, mode="edge") for rows in (x, *others))


def lacking(x: Float[Array | np.ndarray, "N D"], num_components: int) -> int:
    """How many rows :func:`padded` adds."""
    return filled_number(len(x), _STEPS) - len(x) if x.size and is_small(x, num_components) else 0
