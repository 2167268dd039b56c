"""Delimited text (CSV, TSV, TXT, plain or compressed) as frames of numbers and text."""

import csv
import functools
import gzip
import io
import itertools
import logging
import math
import os
import re
import sys
import tempfile
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probam.data.columns import check_unique
from probam.data.kinds import Kinds
from probam.data.pieces import STANDARD_INPUT, Contents, Pieces, cause, readable
from probam.errors import InputError

__all__ = ["DelimitedText", "is_number", "kept"]

_log = logging.getLogger(__name__)

_AT_ONCE = 2_000_000
"""Fields of a whole file that are converted at a time, so that its text is never all in memory."""

_MISSING = ["", "?", "NA", "N/A", "n/a", "nan", "NaN", "NAN", "null", "NULL", "None", "<NA>", "#N/A"]
_EXACT: dict[str, Any] = (  # from 3.1 on pandas reads every double exactly and says so if asked
    {} if tuple(map(int, pd.__version__.split(".")[:2])) >= (3, 1) else {"float_precision": "round_trip"}
)


class DelimitedText(Pieces):
    """Text with one row a line.

    Its first line is a header unless all its fields are numbers. The index of a frame, called ``line``, has the line on
    which each row ends; the index of its columns is called ``position`` where the text does not name them.
    """

    def __init__(self, path: str, *, as_it_comes: bool = False, seconds: float | None = None) -> None:
        """A text file.

        Args:
            path: the file, or ``standard input``, which is kept so that it can be read again.
            as_it_comes: read standard input once, row by row as it comes.
            seconds: after which the next row ends a piece, however few there are.
        """
        self.name = path
        self._as_it_comes, self._has_told = as_it_comes, False
        self._seconds = math.inf if seconds is None else seconds
        is_tsv = path.lower().removesuffix(".gz").endswith(".tsv")
        self._delimiter = "\t" if is_tsv else None

    @property
    def num_rows(self) -> int | None:
        """As the base class says: :meth:`count` reads the file."""
        return None

    def read(self, rows: int) -> Iterator[Contents]:
        """As the base class says; a column that only numbers the rows is left out."""
        first = 0
        for frame in self._frames(rows, self.kinds):
            yield self._without_row_numbers(frame, first)
            first += len(frame)

    def whole(self) -> Contents:
        """As the base class says; a column is text where a part of it is."""
        frames, kinds = [], Kinds()
        for frame in self._frames(None):
            frames.append(frame)
            kinds.add(frame)
        mixed = {name: kind for name, kind in kinds.decided().items() if kind is str}
        if mixed and len(frames) > 1:
            frames = list(self._frames(None, mixed))
        frame = frames[0] if len(frames) == 1 else pd.concat(frames)
        frame.columns.name = frames[0].columns.name
        return self._without_row_numbers(frame, 0)

    def count(self) -> int:
        """The number of rows, by one pass that looks at nothing else."""
        return sum(len(at) for _, _, at in self._texts(None))

    def _without_row_numbers(self, frame: pd.DataFrame, start: int) -> pd.DataFrame:
        """The frame without a first column that has no name and only counts the rows (pandas and R write one).

        Args:
            frame: rows of the file.
            start: number of its rows before these.
        """
        if frame.shape[1] > 1 and frame.columns[0] in ("column 1", "Unnamed: 0"):
            numbers = frame.iloc[:, 0]
            if pd.api.types.is_numeric_dtype(numbers.dtype):
                counted = numbers.to_numpy() - np.arange(start, start + len(frame))
                if np.ptp(counted) == 0 and counted[0] in (0, 1):
                    if not self._has_told:
                        _log.warning("%s: left out %r, which only numbers the rows", self.name, str(frame.columns[0]))
                    self._has_told = True
                    frame.attrs |= {"left_out": [str(frame.columns[0])], "first_number": int(counted[0])}
                    return frame.iloc[:, 1:]
        return frame

    def _frames(self, rows: int | None, kinds: Mapping[str, type] | None = None) -> Iterator[pd.DataFrame]:
        for form, lines, at in self._texts(rows):
            with readable(self.name, _words):
                frame = form.frame(lines, at, kinds or {})
            yield frame

    def _texts(self, rows: int | None) -> Iterator[tuple["_Form", list[str], list[int]]]:
        """How fields are told apart, the lines of some rows, and the number of the line on which each row ends."""
        with readable(self.name, _words), self._opened() as lines:
            yield from _rows_of_text(lines, self.name, self._delimiter, rows, self._seconds)

    @contextmanager
    def _opened(self) -> Iterator[Iterable[str]]:
        if self._as_it_comes:
            yield sys.stdin
            return
        binary: Any
        if self.name == STANDARD_INPUT:
            binary = kept(sys.stdin).opened()
        else:
            binary = gzip.open(self.name, "rb") if self.name.lower().endswith(".gz") else open(self.name, "rb")  # noqa: SIM115
        with binary, io.TextIOWrapper(binary, encoding="utf-8-sig", newline="") as lines:
            yield lines


class _Form:
    """The delimiter of a text and the names of its columns; None where it has none."""

    def __init__(self, delimiter: str, header: list[str] | None, width: int) -> None:
        self.delimiter, self.header, self.width = delimiter, header, width

    def frame(self, lines: list[str], at: list[int], kinds: Mapping[str, type]) -> pd.DataFrame:
        """Rows as a frame.

        Args:
            lines: of these rows.
            at: the number of the line on which each row ends.
            kinds: of columns whose kind is known.
        """
        names = self.header or [f"x{i}" for i in range(self.width)]
        frame: pd.DataFrame = pd.read_csv(
            io.StringIO("".join(lines)),
            sep=self.delimiter,
            header=None,
            names=names,
            index_col=False,
            skipinitialspace=True,
            na_values=_MISSING,
            keep_default_na=False,
            low_memory=False,
            dtype=dict(kinds) or None,
            **_EXACT,
        )
        if self.header is None:
            frame.columns = pd.Index(names, name="position")
        if len(at) == len(frame):
            frame.index = pd.Index(at, name="line")
        if self.delimiter != ",":
            for name in frame.columns.difference(list(kinds), sort=False):
                if pd.api.types.is_numeric_dtype(frame[name].dtype):
                    continue
                numbers = _numbers_in(frame[name], self.delimiter)
                frame[name] = frame[name] if numbers is None else numbers
        return frame


def _rows_of_text(
    lines: Iterable[str], name: str, delimiter: str | None, rows: int | None, seconds: float
) -> Iterator[tuple[_Form, list[str], list[int]]]:
    lines = iter(lines)
    blank = 0
    for first in lines:
        if first.strip():
            break
        blank += 1
    else:
        raise InputError(f"{name}: it has only blank lines; expected one row per datum")
    taken: list[str] = []
    records = csv.reader(
        _noted(itertools.chain([first], lines), taken),
        delimiter=delimiter or _delimiter_of(first, name),
        skipinitialspace=True,
    )
    form, at, done, began = None, [], 0, time.monotonic()
    for fields in records:
        if not fields or (len(fields) == 1 and not fields[0].strip()):
            taken.pop()  # a blank line
            continue
        if form is None:
            form = _form(fields, records.dialect.delimiter, name)
            rows = rows or max(_AT_ONCE // form.width, 1)
            if form.header is not None:
                taken.clear()
                continue
        at.append(blank + records.line_num)
        if len(at) == 1 and not done:
            _check_delimiter(form, fields, name)
        if len(fields) != form.width:
            raise InputError(f"{name}: row {done + len(at)} (line {at[-1]}) {_other_width(len(fields), form)}")
        if len(at) == rows or time.monotonic() - began > seconds:
            yield form, taken, at
            done += len(at)
            taken.clear()
            at, began = [], time.monotonic()
    if form is not None and at:
        yield form, taken, at
    elif not done:
        raise InputError(f"{name}: it has a header and no rows; expected one row per datum below the header")


def _noted(lines: Iterable[str], taken: list[str]) -> Iterator[str]:
    """The same lines, each put into ``taken`` as it is taken."""
    for line in lines:
        taken.append(line)
        yield line


def _form(fields: list[str], delimiter: str, name: str) -> _Form:
    """What the first row says of all."""
    if all(is_number(field, delimiter) for field in fields):
        return _Form(delimiter, None, len(fields))
    header = [field.strip() or f"column {i + 1}" for i, field in enumerate(fields)]
    check_unique(header, name)
    return _Form(delimiter, header, len(fields))


def _check_delimiter(form: _Form, fields: list[str], name: str) -> None:
    """Raise where header and first row are parted alike, and by something else than the delimiter."""
    if form.header is None or form.width > 1 or len(fields) > 1:
        return
    for other in _DELIMITERS.keys() - {form.delimiter, " "}:
        if 0 < form.header[0].count(other) == fields[0].count(other):
            raise InputError(
                f"{name}: column {form.header[0]!r} is not parted by {_DELIMITERS[form.delimiter]} but by "
                f"{_DELIMITERS[other]}; give the file the ending .csv"
            )


_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", " ": "spaces"}


def _other_width(width: int, form: _Form) -> str:
    like = "the first row" if form.header is None else "the header"
    return (
        f"has {'1 field' if width == 1 else f'{width} fields'} where {like} has {form.width}; every row must have the "
        f"same number, separated by {_DELIMITERS[form.delimiter]}"
    )


def _words(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8 text; save it as UTF-8 CSV"
    return f"it cannot be read as delimited text ({cause(error)})"


@functools.lru_cache(maxsize=1)
def kept(stream: io.TextIOWrapper) -> "Kept":
    """What a stream has, kept in a temporary file because it can be read only once."""
    return Kept(stream)


class Kept:
    """Bytes in a file without a name."""

    def __init__(self, stream: io.TextIOWrapper) -> None:
        """All that is left of a stream.

        Args:
            stream: of text.
        """
        self._descriptor, path = tempfile.mkstemp(prefix="probam-")
        os.unlink(path)
        weakref.finalize(self, os.close, self._descriptor)
        with (
            readable(STANDARD_INPUT, lambda error: f"it cannot be kept in {tempfile.gettempdir()} ({cause(error)})"),
            os.fdopen(self._descriptor, "wb", closefd=False) as file,
        ):
            while some := stream.buffer.read(2**20):
                file.write(some)

    @property
    def size(self) -> int:
        """Number of bytes."""
        return os.fstat(self._descriptor).st_size

    def opened(self) -> io.BufferedReader:
        """A reader of its own, from the first byte."""
        return io.BufferedReader(_Reader(self._descriptor))


class _Reader(io.RawIOBase):
    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._at = descriptor, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        found = os.pread(self._descriptor, len(buffer), self._at)
        buffer[: len(found)] = found
        self._at += len(found)
        return len(found)


def _delimiter_of(line: str, path: str) -> str:
    """The delimiter of a text, from its first line: comma, semicolon, tab, or in TXT files spaces."""
    line = re.sub(r'"(?:[^"]|"")*("|$)', "", line)
    for delimiter in ";\t":
        if delimiter in line and all(is_number(field, delimiter) for field in line.split(delimiter)):
            return delimiter  # decimal commas may be more than the delimiters
    is_txt = path.lower().removesuffix(".gz").endswith(".txt")
    if is_txt and " " in line.strip() and not set(",;\t") & set(line):
        return " "
    return max(",;\t", key=line.count)


def _numbers_in(fields: Iterable[object], delimiter: str) -> NDArray[np.float64] | None:
    """Fields of a text as floats, NaN where a value is missing; None if one of them is no number.

    Where the delimiter is no comma the numbers may have decimal commas, if no other has a decimal point.
    """
    texts = ["nan" if field != field else str(field).strip() for field in fields]
    texts = ["nan" if text in _MISSING else text for text in texts]
    if delimiter != "," and any("," in text for text in texts) and not any("." in text for text in texts):
        texts = [text.replace(",", ".") for text in texts]
    try:
        return np.array(texts, np.float64)
    except ValueError:
        return None


def is_number(field: str, delimiter: str = ",") -> bool:
    """Whether a field of a text is a number or the sign of a missing one; with a decimal comma where that can be."""
    text = field.strip()
    if text in _MISSING:
        return text != ""
    try:
        float(text if delimiter == "," else text.replace(",", "."))
    except ValueError:
        return False
    return "_" not in text
