"""Files that are written completely or not at all."""

import csv
import errno
import functools
import gzip
import io
import os
import secrets
import stat
import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as parquet
import xarray as xr
from numpy.typing import NDArray
from pyarrow.lib import Table as ArrowTable

from probam.data.delimited import is_number
from probam.data.pieces import cause, in_short
from probam.data.table import Table
from probam.errors import InputError

__all__ = [
    "TABLE_SUFFIXES",
    "Writer",
    "beside",
    "check_writable",
    "csv_writer",
    "dataset_writer",
    "joined",
    "netcdf",
    "remove_unfinished",
    "write_atomically",
    "write_dataset",
    "write_netcdf",
    "write_table",
]

TABLE_SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet", ".npz", ".nc")
"""What :func:`write_table` and :func:`write_dataset` write."""


_LEFT_AFTER = 24 * 3600.0
"""Seconds after which nobody writes a temporary file any more: a process that was killed left it."""

_unfinished: set[Path] = set()
"""Temporary files that are being written."""


def check_writable(path: str | os.PathLike[str], *, suffixes: tuple[str, ...] = ()) -> Path:
    """The path to write to, links followed; call this before any long computation.

    Args:
        path: where a file will be written.
        suffixes: endings of which the name must have one; empty: any name.

    Raises:
        InputError: where the folder does not exist or is not writable, where the path is a folder, a device or a
            read-only file, or where the name has another ending.
    """
    name = os.fspath(path)
    if not name:
        raise InputError("output: the path is empty; give the name of a file to write")
    if suffixes and not name.lower().endswith(suffixes):
        raise InputError(
            f"{in_short(name)}: unknown kind of output; expected a name that ends in {', '.join(suffixes)}"
        )
    try:
        target = Path(name).resolve()
        with suppress(FileNotFoundError):
            target.stat()  # raises for a name that is too long, which the temporary file beside it does not have
        if target.is_dir() or name.endswith(os.sep):
            raise InputError(f"{name}: it is a folder; give the name of a file in it")
        if not target.parent.is_dir():
            raise InputError(f"{name}: the folder {Path(name).parent} does not exist; create it first")
        if target.exists():
            if not stat.S_ISREG(target.stat().st_mode):
                raise InputError(f"{name}: it is not a regular file; give the name of a file to write")
            if not os.access(target, os.W_OK):
                raise InputError(f"{name}: the file is read-only; choose another name")
        _create(beside(target)).unlink()
    except (OSError, ValueError, RuntimeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{in_short(name)}: it cannot be written ({cause(error)}); choose another place") from error
    return target


@contextmanager
def write_atomically(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary file beside ``path`` to write into; on success it is renamed to ``path``.

    The temporary name has the suffix of ``path``, because some writers depend on it. On any exception, Ctrl-C included,
    the temporary file is removed and an older file at ``path`` is left as it was. Raises
    :class:`probam.errors.InputError` as :func:`check_writable` does, and where writing fails.
    """
    target = check_writable(path)
    temporary = beside(target)
    _sweep(target.parent)
    _unfinished.add(temporary)
    try:
        _create(temporary)
        yield temporary
        _sync(temporary)
        if target.exists():
            os.chmod(temporary, stat.S_IMODE(target.stat().st_mode))
        os.replace(temporary, target)
        _sync(target.parent)
    except OSError as error:
        raise InputError(f"{os.fspath(path)}: it could not be written ({cause(error)})") from error
    finally:
        temporary.unlink(missing_ok=True)
        _unfinished.discard(temporary)


def remove_unfinished() -> None:
    """Remove the temporary files of this process; for a process that ends while one of its threads writes."""
    for path in tuple(_unfinished):
        path.unlink(missing_ok=True)


def write_table(table: Table, path: str | os.PathLike[str], *, labels: NDArray[Any] | None = None) -> None:
    """Write a table as CSV, TSV, Parquet, NPZ or NetCDF; reading it gives the same table.

    CSV and TSV are refused where the names of all columns are numbers, which would be read as a row.

    Args:
        table: the data.
        path: the file; its suffix decides the format.
        labels: (N,), written as a last column ``label`` (an array ``y`` in NPZ); None: no such column.
    """
    target = check_writable(path, suffixes=TABLE_SUFFIXES)
    name = target.name.lower()
    if name.endswith(".npz"):
        extra = {} if labels is None else {"y": labels}
        arrays = {"X": table.values, "features": np.array(table.columns), **extra}
        _write(path, lambda file: _write_npz(file, arrays))
    elif name.endswith(".nc"):
        data = xr.Dataset({"x": (("datum", "feature"), table.values)}, coords={"feature": list(table.columns)})
        if labels is not None:
            data["label"] = ("datum", labels)
        _write(path, lambda file: write_netcdf(data, file))
    else:
        frame = table.frame()
        if labels is not None:
            frame["label"] = labels
        _write_frame(frame, path)


def write_dataset(data: xr.Dataset, path: str | os.PathLike[str], *, plain: str | None = None) -> None:
    """Write a dataset whose variables share their first dimension as CSV, TSV, Parquet, NPZ or NetCDF.

    Args:
        data: one-dimensional and two-dimensional variables. In CSV, TSV and Parquet a two-dimensional variable becomes
            one column for each label of its second dimension, called ``variable_label``.
        path: the file; its suffix decides the format.
        plain: name of the variable whose columns are called ``label`` only.
    """
    with dataset_writer(path, plain=plain) as write:
        write(data)


Writer = Callable[[xr.Dataset], None]
"""Writes the next rows."""


@contextmanager
def dataset_writer(path: str | os.PathLike[str], *, plain: str | None = None) -> Iterator[Writer]:
    """What writes datasets of the same variables one after the other, as :func:`write_dataset` writes them together.

    Rows of CSV, TSV and Parquet go to disk as they come. NPZ and NetCDF files are written when all rows are there, and
    keep them in memory until then. The file is there when the block ends, and is not where it ends with an error.

    Args:
        path: as there.
        plain: as there.
    """
    name = check_writable(path, suffixes=TABLE_SUFFIXES).name.lower()
    with write_atomically(path) as file, ExitStack() as at_end:
        if name.endswith((".nc", ".npz")):
            yield from _whole(file, is_netcdf=name.endswith(".nc"))
        elif name.endswith(".parquet"):
            yield at_end.enter_context(_ParquetRows(file, plain)).write
        else:
            lines = at_end.enter_context(_opened(file, compressed=name.endswith(".gz")))
            yield csv_writer(lines, plain=plain, separator=_separator(name))


def csv_writer(lines: Any, *, plain: str | None = None, separator: str = ",") -> Writer:
    """What writes datasets of the same variables as text, below one header.

    Args:
        lines: where to.
        plain: as for :func:`write_dataset`.
        separator: between fields.
    """
    is_first = True

    def write(data: xr.Dataset) -> None:
        nonlocal is_first
        frame = _flat(data, plain)
        if is_first:
            _check_header(frame, "output")
        _write_text(frame, lines, separator, has_header=is_first)
        is_first = False

    return write


def _whole(file: Path, *, is_netcdf: bool) -> Iterator[Writer]:
    """Keeps the rows, and writes them at the end."""
    parts: list[xr.Dataset] = []
    yield parts.append
    data = joined(parts)
    if is_netcdf:
        write_netcdf(data, file)
        return
    arrays = {str(k): v.to_numpy() for k, v in data.variables.items()}
    _write_npz(file, {k: v.astype(str) if v.dtype.kind == "O" else v for k, v in arrays.items()})


def joined(parts: Iterable[xr.Dataset]) -> xr.Dataset:
    """Datasets of the same variables one after the other, along the first dimension of their first variable."""
    first, *others = parts
    if not others:
        return first
    along = next(iter(first.data_vars.values())).dims[0]

    def whole(name: Hashable) -> tuple[tuple[Hashable, ...], NDArray[Any]]:
        variable = first[name]
        if along not in variable.dims:
            return variable.dims, variable.to_numpy()
        return variable.dims, np.concatenate([part[name].to_numpy() for part in (first, *others)])

    return xr.Dataset({name: whole(name) for name in first.data_vars}, {name: whole(name) for name in first.coords})


class _ParquetRows:
    """A Parquet file of which each dataset is a row group; columns have the types of the first."""

    def __init__(self, file: Path, plain: str | None) -> None:
        self._file, self._plain = file, plain
        self._writer: Any = None

    def __enter__(self) -> "_ParquetRows":
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()

    def write(self, data: xr.Dataset) -> None:
        frame = _flat(data, self._plain)
        schema = None if self._writer is None else self._writer.schema
        rows = ArrowTable.from_pandas(frame, schema=schema, preserve_index=False)
        if self._writer is None:
            self._writer = parquet.ParquetWriter(self._file, rows.schema)  # type: ignore[no-untyped-call]
        self._writer.write_table(rows)


@contextmanager
def _opened(file: Path, *, compressed: bool) -> Iterator[io.TextIOWrapper]:
    """A text file to write, the same bytes each time."""
    with file.open("wb") as stream, ExitStack() as at_end:
        binary: Any = stream
        if compressed:
            binary = at_end.enter_context(gzip.GzipFile("", "wb", fileobj=stream, mtime=0))
        with io.TextIOWrapper(binary, encoding="utf-8", newline="") as lines:
            yield lines


def netcdf(data: xr.Dataset | xr.DataTree, encoding: Any = None) -> bytes:
    """The bytes of a NetCDF4 file.

    Args:
        data: a dataset or a tree of them.
        encoding: as xarray takes it: by variable, of a tree by group and variable.
    """
    content = io.BytesIO()
    data.to_netcdf(content, engine="h5netcdf", format="NETCDF4", encoding=encoding)
    return content.getvalue()


def write_netcdf(data: xr.Dataset | xr.DataTree, path: Path, encoding: Any = None) -> None:
    """Write the bytes of :func:`netcdf` to a new file as they are made, without a copy of all of them in memory.

    Args:
        data: as there.
        path: of the file, of which nothing is kept.
        encoding: as there.

    Raises:
        OSError: where they cannot be written.
    """
    with _Forgiving(path) as content:
        data.to_netcdf(content, engine="h5netcdf", format="NETCDF4", encoding=encoding)
    if content.failure is not None:
        raise content.failure


class _Forgiving(io.RawIOBase):
    """A file for HDF5, which ends the process with a segmentation fault where a disk is full as it closes its file.

    From the first write that fails on, the content is in memory instead.

    Attributes:
        failure: the error of that write; None where all have succeeded.
    """

    def __init__(self, path: Path) -> None:
        self._content: io.FileIO | io.BytesIO = io.FileIO(path, "w+")
        self.failure: OSError | None = None

    def _done(self, change: Callable[[], int]) -> int:
        """The result of a change of the content."""
        place = self._content.tell()
        try:
            return change()
        except OSError as error:
            if self.failure is not None:
                raise
            self.failure = error
        self._content.seek(0)
        memory = io.BytesIO(self._content.read() or b"")
        self._content.close()
        self._content = memory
        self._content.seek(place)
        return change()

    def write(self, data: Any) -> int:
        """Write all of it."""

        def every_byte() -> int:
            left = memoryview(data).cast("B")
            while left:
                left = left[self._content.write(left) :]
            return memoryview(data).nbytes

        return self._done(every_byte)

    def truncate(self, size: int | None = None) -> int:
        """Make the content so long; a longer one ends in zeros."""
        length = self.tell() if size is None else size

        def change() -> int:
            lacking = length - self._content.seek(0, io.SEEK_END)
            if lacking > 0 and self.failure is not None:  # memory is not made longer by `truncate`
                self._content.write(bytes(lacking))
            return self._content.truncate(length)

        return self._done(change)

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer, or the part of it that there is."""
        return self._content.readinto(buffer) or 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place."""
        return self._content.seek(offset, whence)

    def tell(self) -> int:
        """The place."""
        return self._content.tell()

    def readable(self) -> bool:
        """It is."""
        return True

    def writable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def close(self) -> None:
        """Close the file."""
        self._content.close()
        super().close()


def _flat(data: xr.Dataset, plain: str | None) -> pd.DataFrame:
    """One row per entry of the leading dimension."""
    columns: dict[str, NDArray[Any]] = {}
    taken = {str(name) for name in data.data_vars}
    for name, variable in data.data_vars.items():
        values = variable.to_numpy()
        if values.ndim == 1:
            columns[str(name)] = values
            continue
        axis = variable.dims[1]
        for i, label in enumerate(variable[axis].to_numpy()):
            title = str(label) if name == plain and str(label) not in taken else f"{name}_{label}"
            columns[title] = values[:, i]
    return pd.DataFrame(columns)


def _write_frame(frame: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    name = os.fspath(path).lower()
    if name.endswith(".parquet"):
        _write(path, lambda file: frame.to_parquet(file, engine="pyarrow", index=False))
        return
    _check_header(frame, os.fspath(path))

    def fill(file: Path) -> None:
        with _opened(file, compressed=name.endswith(".gz")) as lines:
            _write_text(frame, lines, _separator(name), has_header=True)

    _write(path, fill)


def _separator(name: str) -> str:
    """Between the fields of a text file of this name."""
    return "\t" if name.removesuffix(".gz").endswith(".tsv") else ","


def _write_text(frame: pd.DataFrame, lines: Any, separator: str, *, has_header: bool) -> None:
    """Rows as text, in quotes where a title has what may separate fields, so that readers do not take it for that."""
    titles = "".join(map(str, frame.columns))
    quoting: Any = csv.QUOTE_NONNUMERIC if any(sign in titles for sign in ",;\t") else csv.QUOTE_MINIMAL
    frame.to_csv(lines, sep=separator, index=False, header=has_header, lineterminator="\n", quoting=quoting)


def _check_header(frame: pd.DataFrame, name: str) -> None:
    """Raise where the names of the columns would be read as a row."""
    if all(is_number(str(title), "\t") for title in frame.columns):
        raise InputError(
            f"{name}: the names of all columns are numbers ({', '.join(map(str, frame.columns[:3]))}, ...), and as the "
            "first line of a text they would be read as a row; write .parquet, .npz or .nc"
        )


def _write_npz(file: Path, arrays: dict[str, NDArray[Any]]) -> None:
    with file.open("wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **arrays)


def _write(path: str | os.PathLike[str], write: Callable[[Path], object]) -> None:
    with write_atomically(path) as file:
        write(file)


def beside(target: Path) -> Path:
    """An unused name in the same folder with the same suffix."""
    end = "".join(target.suffixes[-2:])[-20:]
    return target.with_name(f".probam-{secrets.token_hex(8)}{end}")


@functools.cache  # once for each folder: it may hold many files
def _sweep(folder: Path) -> None:
    """Remove the temporary files that killed processes left in a folder."""
    for path in folder.glob(f".probam-{'[0-9a-f]' * 16}*"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _LEFT_AFTER:
                path.unlink()


def _create(path: Path) -> Path:
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    return path


def _sync(path: Path) -> None:
    """Flush the file to disk, where the file system can."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems have no fsync
            raise
    finally:
        os.close(descriptor)
