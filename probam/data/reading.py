"""Files of numbers: delimited text (CSV, TSV, TXT), Parquet, NPY, NPZ, NetCDF, Zarr.

:func:`read` gives the contents as an array, a frame or an xarray object, not yet converted;
:func:`probam.data.table.as_table` makes a checked table of it. Nothing here unpickles.
"""

import os
import stat
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from probam.data.delimited import DelimitedText, kept
from probam.data.gridded import GriddedFile
from probam.data.pieces import (
    STANDARD_INPUT,
    Contents,
    NpyFile,
    ParquetFile,
    Pieces,
    cause,
    in_short,
    numpy_words,
    readable,
)
from probam.errors import InputError

__all__ = ["SUFFIXES", "check_file", "pieces_of", "read", "source_of"]

SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".txt", ".txt.gz", ".parquet", ".npy", ".npz", ".nc", ".zarr")
"""What :func:`read` reads."""


def read(path: str | os.PathLike[str], *, variable: str | None = None) -> Contents:
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
    return pieces_of(path, variable=variable).whole()


def pieces_of(path: str | os.PathLike[str], *, variable: str | None = None) -> Pieces:
    """A file that is read piece by piece, with the arguments and errors of :func:`read`; NPZ is read at once."""
    path, key = _split_key(source_of(path))
    if key is not None and variable is not None and key != variable:
        raise InputError(f"variable: the path of {path} names {key!r} and the argument {variable!r}; give only one")
    variable = key if key is not None else variable
    kind = _kind(path)
    if variable is not None and kind not in (".npz", ".nc", ".zarr"):
        raise InputError(f"variable: only NPZ and NetCDF files hold named arrays; {path} is {kind[1:].upper()}")
    if kind in (".csv", ".tsv", ".txt"):
        return DelimitedText(path)
    if kind == ".parquet":
        return ParquetFile(path)
    if kind == ".npy":
        return NpyFile(path)
    return _NpzFile(path, variable) if kind == ".npz" else GriddedFile(path, variable)


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
        if not kept(sys.stdin).size:
            raise InputError(f"{path}: it is empty; expected a header and one row per datum, as CSV")
        return ".csv"
    if not path:
        raise InputError("data: the path is empty; give the name of a file")
    name = path.lower()
    known = next((suffix for suffix in SUFFIXES if name.endswith(suffix)), None)
    file = Path(path)
    try:
        status = file.stat()
    except FileNotFoundError as error:
        near = "" if file.absolute().parent.is_dir() else f" (there is no folder {file.parent})"
        raise InputError(f"{path}: no such file{near}; check the path") from error
    except (OSError, ValueError) as error:  # a name too long, a NUL in it, a folder without access
        raise InputError(f"{in_short(path)}: it cannot be opened ({cause(error)}); check the path") from error
    if stat.S_ISDIR(status.st_mode) != (known == ".zarr"):
        if known == ".zarr":
            raise InputError(f"{path}: it is no folder; expected the folder of a Zarr store")
        raise InputError(f"{path}: it is a folder; expected a file of numbers ({', '.join(SUFFIXES)})")
    if known is None:
        raise InputError(f"{path}: unknown kind of file; known suffixes are {', '.join(SUFFIXES)}")
    if stat.S_ISREG(status.st_mode) and status.st_size == 0:
        raise InputError(f"{path}: the file is empty; expected one row per datum")
    return known.removesuffix(".gz")


class _NpzFile(Pieces):
    """An array of a compressed archive, which is read at once."""

    def __init__(self, path: str, variable: str | None) -> None:
        self.name, self._variable = path, variable
        self._held = self._read()

    @property
    def num_rows(self) -> int | None:
        return len(self._held) if self._held.ndim else None

    def read(self, rows: int) -> Iterator[Contents]:
        if self._held.ndim != 2:
            yield self._held
            return
        for first in range(0, max(len(self._held), 1), rows):
            yield self._held[first : first + rows]

    def whole(self) -> Contents:
        return self._held

    def _read(self) -> NDArray[Any] | xr.DataArray:
        path, variable = self.name, self._variable
        if not zipfile.is_zipfile(path):
            with open(path, "rb") as file:
                is_array = file.read(6) == b"\x93NUMPY"
            what = "it is a single array; rename it to .npy" if is_array else "it may be truncated"
            raise InputError(f"{path}: it cannot be read as a NumPy file (it is no NPZ archive); {what}")
        with readable(path, numpy_words), zipfile.ZipFile(path):
            pass  # where this fails, NumPy would leave a half-opened archive
        with readable(path, numpy_words), np.load(path, allow_pickle=False) as archive:
            keys = [name for name in archive.files if f"{name}.npy" in archive.zip.namelist()]
            name = variable if variable is not None else "X" if "X" in keys else _only_matrix(path, archive, keys)
            if name not in keys:
                raise InputError(f"variable: {path} has no array {name!r}; it has {', '.join(keys) or 'nothing'}")
            values = np.asarray(archive[name])
            for label in {"features", "columns", "feature_names"} & set(keys) - {name}:
                names = archive[label]
                if names.dtype.kind in "US" and values.ndim == 2 and names.shape == values.shape[1:]:
                    return xr.DataArray(values, dims=("datum", "feature"), coords={"feature": names.astype(str)})
            return values


def _only_matrix(path: str, archive: "np.lib.npyio.NpzFile", keys: Sequence[str]) -> str:
    """The name of the only 2-D array of numbers."""
    shapes: dict[str, tuple[int, ...] | None] = {}
    for name in keys:
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
