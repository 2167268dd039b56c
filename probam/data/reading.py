"""Files of numbers: delimited text (CSV, TSV, TXT), Parquet, NPY, NPZ, NetCDF.

:func:`read` gives the contents as an array, a frame or an xarray object, not yet converted;
:func:`probam.data.table.as_table` makes a checked table of it. Nothing here unpickles.
"""

import csv
import functools
import gzip
import io
import logging
import os
import stat
import sys
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from pyarrow.lib import ArrowException

from probam.errors import InputError

__all__ = [
    "STANDARD_INPUT",
    "SUFFIXES",
    "cause",
    "check_file",
    "column_names",
    "delimiter_of",
    "is_number",
    "numbers_in",
    "read",
    "source_of",
    "without_row_numbers",
]

_log = logging.getLogger(__name__)

SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".txt", ".txt.gz", ".parquet", ".npy", ".npz", ".nc")
"""What :func:`read` reads."""

STANDARD_INPUT = "standard input"
"""What errors call it."""

_MISSING = ["", "?", "NA", "N/A", "n/a", "nan", "NaN", "NAN", "null", "NULL", "None", "<NA>", "#N/A"]
_EXACT: dict[str, Any] = (  # from 3.1 on pandas reads every double exactly and says so if asked
    {} if tuple(map(int, pd.__version__.split(".")[:2])) >= (3, 1) else {"float_precision": "round_trip"}
)
_BROKEN = (
    *(OSError, ValueError, EOFError, KeyError, RuntimeError, SyntaxError),
    *(TokenError, zipfile.BadZipFile, zlib.error, ArrowException),
)
"""What libraries raise for a damaged file."""


def read(
    path: str | os.PathLike[str], *, variable: str | None = None
) -> NDArray[Any] | pd.DataFrame | xr.DataArray | xr.Dataset:
    """The contents of a file, not yet converted to a table.

    CSV, TSV and TXT (plain or .gz): the delimiter is a tab, or whichever of comma, semicolon and tab the first line has
    most of (in TXT spaces, where it has none of these); numbers between other delimiters than commas may have decimal
    commas; the first line is a header unless all its fields are numbers; a first column without a name that only counts
    the rows is left out (``attrs["left_out"]`` names it); the frame's index holds line numbers, and the index of its
    columns is called ``position`` where the file does not name them. NPZ: an array ``features`` or ``columns`` of D
    names gives the names of the columns.

    Args:
        path: the file; its suffix decides how it is read. ``path.npz:KEY`` chooses an array, as ``variable`` does.
            ``"-"`` is CSV on standard input, which is read once.
        variable: name of an array of an NPZ file (None: ``X``, else the only 2-D array) or of a variable of a NetCDF
            file (None: the whole root group).

    Raises:
        InputError: for a file that is missing, a folder, empty, of another kind, truncated, ragged, or not what its
            suffix says.
    """
    path, key = _split_key(source_of(path))
    if key is not None and variable is not None and key != variable:
        raise InputError(f"variable: the path of {path} names {key!r} and the argument {variable!r}; give only one")
    variable = key if key is not None else variable
    kind = _kind(path)
    if variable is not None and kind not in (".npz", ".nc"):
        raise InputError(f"variable: only NPZ and NetCDF files hold named arrays; {path} is {kind[1:].upper()}")
    if kind in (".csv", ".tsv", ".txt"):
        return _read_delimited(path, "\t" if kind == ".tsv" else None)
    if kind == ".parquet":
        return _read_parquet(path)
    if kind == ".npy":
        return _read_npy(path)
    return _read_npz(path, variable) if kind == ".npz" else _read_netcdf(path, variable)


def source_of(path: str | os.PathLike[str]) -> str:
    """What errors call a file: its path, or ``standard input``."""
    name = os.fspath(path)
    return STANDARD_INPUT if name == "-" else name


def check_file(path: str | os.PathLike[str]) -> None:
    """Raise :class:`probam.errors.InputError` where :func:`read` would, before it opens the file."""
    _kind(_split_key(source_of(path))[0])


def _split_key(path: str) -> tuple[str, str | None]:
    """``file.npz:KEY`` as file and key, unless a file has that whole name."""
    head, colon, key = path.rpartition(":")
    if colon and key and head.lower().endswith(".npz") and not Path(path).exists():
        return head, key
    return path, None


def _kind(path: str) -> str:
    """The suffix that decides how the file is read, without .gz; raises where the file is missing or empty."""
    if path == STANDARD_INPUT:
        if not _all_of(sys.stdin):
            raise InputError(f"{path}: it is empty; expected a header and one row per datum, as CSV")
        return ".csv"
    name = path.lower()
    known = next((suffix for suffix in SUFFIXES if name.endswith(suffix)), None)
    file = Path(path)
    try:
        status = file.stat()
    except FileNotFoundError as error:
        near = "" if file.absolute().parent.is_dir() else f" (there is no folder {file.parent})"
        raise InputError(f"{path}: no such file{near}; check the path") from error
    except (OSError, ValueError) as error:  # a name too long, a NUL in it, a folder without access
        raise InputError(f"{path}: it cannot be opened ({cause(error)})") from error
    if stat.S_ISDIR(status.st_mode):
        raise InputError(f"{path}: it is a folder; expected a file of numbers ({', '.join(SUFFIXES)})")
    if known is None:
        raise InputError(f"{path}: unknown kind of file; known suffixes are {', '.join(SUFFIXES)}")
    if stat.S_ISREG(status.st_mode) and status.st_size == 0:
        raise InputError(f"{path}: the file is empty; expected one row per datum")
    return known.removesuffix(".gz")


@contextmanager
def _text(path: str) -> Iterator[io.TextIOWrapper]:
    """The file as text, whether compressed or not."""
    binary: Any
    if path == STANDARD_INPUT:
        binary = io.BytesIO(_all_of(sys.stdin))
    else:
        binary = gzip.open(path, "rb") if path.lower().endswith(".gz") else open(path, "rb")  # noqa: SIM115
    with binary, io.TextIOWrapper(binary, encoding="utf-8-sig", newline="") as lines:
        yield lines


@functools.lru_cache(maxsize=1)
def _all_of(stream: io.TextIOWrapper) -> bytes:
    """What a stream has, kept because it can be read only once."""
    return bytes(stream.buffer.read())


def _read_delimited(path: str, delimiter: str | None) -> pd.DataFrame:
    try:
        with _text(path) as lines:
            first = next((line for line in lines if line.strip()), None)
        if first is None:
            raise InputError(f"{path}: it has only blank lines; expected one row per datum")
        if delimiter is None:
            delimiter = delimiter_of(first, path)
        header, at = _scan(path, delimiter)
        with _text(path) as lines:
            frame = pd.read_csv(
                lines,
                sep=delimiter,
                header=None if header is None else 0,
                names=header,
                index_col=False,
                skipinitialspace=True,
                na_values=_MISSING,
                keep_default_na=False,
                low_memory=False,
                **_EXACT,
            )
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: it is not UTF-8 text; save it as UTF-8 CSV") from error
    except (*_BROKEN, csv.Error) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: it cannot be read as delimited text ({cause(error)})") from error
    if header is None:
        frame.columns = pd.Index([f"x{i}" for i in range(frame.shape[1])], name="position")
    if len(at) == len(frame):
        frame.index = pd.Index(at, name="line")
    if delimiter != ",":
        for name in frame.columns[[not pd.api.types.is_numeric_dtype(dtype) for dtype in frame.dtypes]]:
            numbers = numbers_in(frame[name], delimiter)
            frame[name] = frame[name] if numbers is None else numbers
    return without_row_numbers(frame, path)


def delimiter_of(line: str, path: str) -> str:
    """The delimiter of a text, from its first line: comma, semicolon, tab, or in TXT files spaces."""
    for delimiter in ";\t":
        if delimiter in line and all(is_number(field, delimiter) for field in line.split(delimiter)):
            return delimiter  # decimal commas may be more than the delimiters
    is_txt = path.lower().removesuffix(".gz").endswith(".txt")
    if is_txt and " " in line.strip() and not set(",;\t") & set(line):
        return " "
    return max(",;\t", key=line.count)


def column_names(fields: list[str]) -> list[str]:
    """The names in a header; ``column 3`` where the third has none."""
    return [field.strip() or f"column {i + 1}" for i, field in enumerate(fields)]


def numbers_in(fields: Iterable[object], delimiter: str) -> NDArray[np.float64] | None:
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


def _scan(path: str, delimiter: str) -> tuple[list[str] | None, list[int]]:
    """Column names (None without a header) and the line on which each row ends; raises for rows of other lengths."""
    header: list[str] | None = None
    width = 0
    at: list[int] = []
    with _text(path) as lines:
        records = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
        for fields in records:
            if not fields or (len(fields) == 1 and not fields[0].strip()):
                continue  # a blank line
            if not width:
                width = len(fields)
                if not all(is_number(field, delimiter) for field in fields):
                    header = column_names(fields)
                    continue
            if len(fields) != width:
                like = "the header" if header is not None else "the first row"
                fields_words = "1 field" if len(fields) == 1 else f"{len(fields)} fields"
                raise InputError(
                    f"{path}: row {len(at) + 1} (line {records.line_num}) has {fields_words} where {like} has {width};"
                    f" every row must have the same number, separated by {_DELIMITERS[delimiter]}"
                )
            at.append(records.line_num)
    if header is not None:
        twice = [name for i, name in enumerate(header) if name in header[:i]]
        if twice:
            raise InputError(
                f"{path}: the column name {twice[0]!r} appears more than once; give each column its own name"
            )
    if not at:
        raise InputError(f"{path}: it has a header and no rows; expected one row per datum below the header")
    return header, at


_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", " ": "spaces"}


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


def without_row_numbers(frame: pd.DataFrame, source: str, start: int = 0) -> pd.DataFrame:
    """The frame without a first column that has no name and only counts the rows (pandas and R write one).

    Args:
        frame: rows of a file.
        source: what the log calls the file.
        start: number of rows of the file before these.
    """
    if frame.shape[1] > 1 and frame.columns[0] in ("column 1", "Unnamed: 0"):
        numbers = frame.iloc[:, 0]
        if pd.api.types.is_numeric_dtype(numbers.dtype):
            counted = numbers.to_numpy() - np.arange(start, start + len(frame))
            if np.ptp(counted) == 0 and counted[0] in (0, 1):
                if start == 0:
                    _log.warning("%s: left out %r, which only numbers the rows", source, str(frame.columns[0]))
                frame.attrs |= {"left_out": [str(frame.columns[0])], "first_number": int(counted[0])}
                return frame.iloc[:, 1:]
    return frame


def _read_parquet(path: str) -> pd.DataFrame:
    try:
        return pd.read_parquet(path, engine="pyarrow").reset_index(drop=True)
    except _BROKEN as error:
        raise InputError(f"{path}: it cannot be read as Parquet ({cause(error)}); it may be truncated") from error


def _read_npy(path: str) -> NDArray[Any]:
    try:
        if not os.path.getsize(path):
            raise InputError(f"{path}: the file is empty")
        mapped = np.lib.format.open_memmap(path, mode="r")  # refused where the head promises more than is there
        return np.array(mapped)
    except _BROKEN as error:
        raise InputError(f"{path}: {_numpy_words(error)}") from error


def _read_npz(path: str, variable: str | None) -> NDArray[Any] | xr.DataArray:
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise InputError(f"{path}: it is a single array, not an NPZ archive; rename it to .npy")
            keys = archive.files
            name = variable if variable is not None else "X" if "X" in keys else _only_matrix(path, archive)
            if name not in keys:
                raise InputError(f"variable: {path} has no array {name!r}; it has {', '.join(keys) or 'nothing'}")
            values = np.asarray(archive[name])
            for label in {"features", "columns", "feature_names"} & set(keys) - {name}:
                names = archive[label]
                if names.dtype.kind in "US" and values.ndim == 2 and names.shape == values.shape[1:]:
                    return xr.DataArray(values, dims=("datum", "feature"), coords={"feature": names.astype(str)})
            return values
    except _BROKEN as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: {_numpy_words(error)}") from error


def _only_matrix(path: str, archive: "np.lib.npyio.NpzFile") -> str:
    """The name of the only 2-D array of numbers."""
    shapes: dict[str, tuple[int, ...] | None] = {}
    for name in archive.files:
        try:
            shapes[name] = archive[name].shape
        except ValueError:  # Python objects
            shapes[name] = None
    matrices = [name for name, shape in shapes.items() if shape is not None and len(shape) == 2]
    if len(matrices) == 1:
        return matrices[0]
    arrays = ", ".join(f"{name} {shape or 'objects'}" for name, shape in shapes.items()) or "no arrays"
    several = "no" if not matrices else "more than one"
    raise InputError(
        f"{path}: it has {several} 2-D array and none called X; it has {arrays}; choose one with {path}:KEY"
    )


def _read_netcdf(path: str, variable: str | None) -> xr.DataArray | xr.Dataset:
    try:
        with xr.open_dataset(path, decode_times=False) as file:
            data = file.load()
        groups = [] if data.data_vars or variable is not None else _groups(path)
    except _BROKEN as error:
        raise InputError(f"{path}: it cannot be read as NetCDF ({cause(error)}); it may be truncated") from error
    if variable is None:
        if not data.data_vars and groups:
            saved = "; this is a saved fit: use `probam report` or probam.load" if "posterior" in groups else ""
            raise InputError(f"{path}: its root group is empty; it has the groups {', '.join(groups)}{saved}")
        return data
    if variable not in data.data_vars:
        has = ", ".join(f"{name} {tuple(v.shape)}" for name, v in data.data_vars.items()) or "none"
        raise InputError(f"variable: {path} has no {variable!r}; it has {has}")
    return data[variable]


def _groups(path: str) -> list[str]:
    """The groups below the root."""
    with xr.open_datatree(path, decode_times=False) as tree:
        return [group.lstrip("/") for group in tree.groups if group != "/"]


def _numpy_words(error: Exception) -> str:
    text = cause(error)
    if "pickle" in text or "Python objects" in text:
        return "it has Python objects, which are never unpickled; save numbers (np.save of a float array)"
    return f"it cannot be read as a NumPy file ({text}); it may be truncated"


def cause(error: Exception) -> str:
    """The message of an exception, on one line."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join((text or type(error).__name__).split())[:160]
