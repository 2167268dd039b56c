"""Rows of a file or of standard input, block after block, in bounded memory."""

import csv
import gzip
import itertools
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as parquet
from pyarrow.lib import ArrowException

from probam.data.reading import cause, column_names, delimiter_of, is_number, numbers_in, read, without_row_numbers
from probam.data.table import Table, as_table
from probam.errors import InputError

__all__ = ["row_blocks"]

_DELIMITED = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".txt", ".txt.gz")


def row_blocks(
    source: Any,
    *,
    rows: int = 50_000,
    columns: Sequence[str] | None = None,
    drop: Sequence[str] | None = None,
) -> tuple[Iterator[Table], int | None]:
    """Tables that together hold all rows, and the number of rows (None where it is not known yet).

    CSV, TSV, TXT, Parquet and NPY files are read in blocks, all other files at once.

    Args:
        source: a path, ``"-"`` for CSV on standard input, or anything that :func:`probam.data.table.as_table` takes.
        rows: most rows of a table.
        columns: names of the columns to keep, in this order; None keeps all.
        drop: names of columns to leave out; they may hold anything.

    Raises:
        InputError: for what cannot be read; for a fault inside a file, when its block is reached.
    """
    if rows < 1:
        raise InputError(f"rows: expected a whole number of at least 1; got {rows}")
    chosen: dict[str, Any] = {"columns": columns, "drop": drop}
    if not isinstance(source, str | os.PathLike):
        return _sliced(as_table(source, **chosen), rows)
    name = os.fspath(source)
    lower = name.lower()
    if name == "-":
        return _tables(_delimited(sys.stdin, "standard input", rows, None), "standard input", chosen), None
    if not Path(name).is_file():
        return _sliced(as_table(read(name), **chosen, name=name), rows)  # path.npz:KEY, or read raises
    if lower.endswith(_DELIMITED):
        delimiter = "\t" if lower.removesuffix(".gz").endswith(".tsv") else None
        return _tables(_opened(name, rows, delimiter), name, chosen), None
    if lower.endswith(".parquet"):
        try:
            file: Any = parquet.ParquetFile(name)  # type: ignore[no-untyped-call]
        except (ArrowException, OSError) as error:
            raise InputError(f"{name}: it cannot be read as Parquet ({cause(error)}); it may be truncated") from error
        frames = (batch.to_pandas() for batch in file.iter_batches(batch_size=rows))
        return _tables(frames, name, chosen), int(file.metadata.num_rows)
    if lower.endswith(".npy"):
        try:
            values = np.load(name, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f"{name}: it cannot be read as NPY ({cause(error)})") from error
        if values.ndim == 2:
            pieces = (np.array(values[first : first + rows]) for first in range(0, len(values), rows))
            return _tables(pieces, name, chosen), len(values)
    return _sliced(as_table(name, **chosen), rows)


def _sliced(table: Table, rows: int) -> tuple[Iterator[Table], int]:
    pieces = (table.values[first : first + rows] for first in range(0, table.num_data, rows))
    return (replace(table, values=piece) for piece in pieces), table.num_data


def _tables(pieces: Iterator[Any], name: str, chosen: dict[str, Any]) -> Iterator[Table]:
    """Checked tables of the chosen columns; messages count rows from the first row of the block."""
    first, known = 0, None
    for piece in pieces:
        label = name if first == 0 else f"{name} (rows are counted from row {first} on)"
        table = as_table(piece, **chosen, name=label)
        if known is not None and table.columns != known:
            raise InputError(f"{label}: expected the columns of the first rows, {known}; got {table.columns}")
        known = table.columns
        first += table.num_data
        yield replace(table, source=name)


def _opened(name: str, rows: int, delimiter: str | None) -> Iterator[pd.DataFrame]:
    compressed = name.lower().endswith(".gz")
    with (gzip.open if compressed else open)(name, "rt", encoding="utf-8-sig", newline="") as lines:
        yield from _delimited(lines, name, rows, delimiter)


def _delimited(lines: Iterator[str], name: str, rows: int, delimiter: str | None) -> Iterator[pd.DataFrame]:
    """Frames of a delimited text; its first line is a header unless all its fields are numbers."""
    try:
        first = next((line for line in lines if line.strip()), None)
        if first is None:
            raise InputError(f"{name}: it has only blank lines; expected one row per datum")
        delimiter = delimiter or delimiter_of(first, name)
        fields = next(csv.reader([first], delimiter=delimiter, skipinitialspace=True))
        headed = not all(is_number(field, delimiter) for field in fields)
        header = column_names(fields) if headed else [f"x{i}" for i in range(len(fields))]
        twice = [field for i, field in enumerate(header) if field in header[:i]]
        if twice:
            raise InputError(
                f"{name}: the column name {twice[0]!r} appears more than once; give each column its own name"
            )
        rest = lines if headed else itertools.chain([first], lines)
        read_rows = 0
        while block := list(itertools.islice(rest, rows)):
            records = [row for row in csv.reader(block, delimiter=delimiter, skipinitialspace=True) if row]
            ragged = next((i for i, row in enumerate(records) if len(row) != len(header)), None)
            if ragged is not None:
                raise InputError(
                    f"{name}: row {read_rows + ragged + 1} has {len(records[ragged])} fields; expected {len(header)}"
                )
            if records:
                yield without_row_numbers(_frame(records, header, delimiter, named=headed), name, read_rows)
            read_rows += len(records)
        if not read_rows:
            raise InputError(f"{name}: it has a header and no rows; expected one row per datum below the header")
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: it is not UTF-8 text; save it as UTF-8 CSV") from error
    except (OSError, EOFError, csv.Error) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{name}: it cannot be read as delimited text ({cause(error)})") from error


def _frame(records: list[list[str]], header: list[str], delimiter: str, *, named: bool) -> pd.DataFrame:
    """Columns of numbers where every field is one, else of text, which as_table refuses."""
    columns: dict[str, Any] = {}
    for i, title in enumerate(header):
        texts = [row[i] for row in records]
        numbers = numbers_in(texts, delimiter)
        columns[title] = np.array(texts, dtype=object) if numbers is None else numbers
    frame = pd.DataFrame(columns)
    frame.columns.name = None if named else "position"  # as as_table expects it
    return frame
