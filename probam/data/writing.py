"""Files that are either whole or not there."""

import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from probam.data.reading import cause
from probam.data.table import Table
from probam.errors import InputError

__all__ = ["TABLE_SUFFIXES", "check_writable", "write_atomically", "write_dataset", "write_table"]

TABLE_SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet", ".npz", ".nc")
"""What :func:`write_table` and :func:`write_dataset` write."""


def check_writable(path: str | os.PathLike[str], *, suffixes: tuple[str, ...] = ()) -> Path:
    """The path to write to, links followed; asked before any long work.

    Raises :class:`probam.errors.InputError` where the folder is missing or takes no new file, where a folder,
    a device or a read-only file has that name, or where the name ends in none of ``suffixes``.
    """
    given = os.fspath(path)
    if suffixes and not given.lower().endswith(suffixes):
        raise InputError(f"{given}: unknown kind of output; expected a name that ends in {', '.join(suffixes)}")
    try:
        target = Path(given).resolve()
        if target.is_dir() or given.endswith(os.sep):
            raise InputError(f"{given}: it is a folder; give the name of a file in it")
        if not target.parent.is_dir():
            raise InputError(f"{given}: the folder {Path(given).parent} does not exist; make it first")
        if target.exists():
            if not stat.S_ISREG(target.stat().st_mode):
                raise InputError(f"{given}: it is not an ordinary file; give the name of a file to write")
            if not os.access(target, os.W_OK):
                raise InputError(f"{given}: the file is there and read-only; choose another name")
        _create(_beside(target)).unlink()
    except (OSError, ValueError, RuntimeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{given}: it cannot be written ({cause(error)}); choose another place") from error
    return target


@contextmanager
def write_atomically(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A new empty file in the folder of ``path`` to write into; it takes the name ``path`` at the end.

    The temporary name ends as ``path`` does, so that writers which look at suffixes behave. On any exception,
    Ctrl-C included, the temporary file is removed and what stood at ``path`` before stays. Raises
    :class:`probam.errors.InputError` as :func:`check_writable` does, and where the disk refuses.
    """
    target = check_writable(path)
    temporary = _beside(target)
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


def write_table(table: Table, path: str | os.PathLike[str], *, labels: NDArray[Any] | None = None) -> None:
    """Write a table as CSV, TSV, Parquet, NPZ or NetCDF, by the suffix of ``path``; it reads back the same.

    ``labels`` (N,), where given, become a last column ``label`` (an array ``y`` in NPZ).
    """
    target = check_writable(path, suffixes=TABLE_SUFFIXES)
    name = target.name.lower()
    if name.endswith(".npz"):
        extra = {} if labels is None else {"y": labels}
        _write_npz(path, {"X": table.values, "features": np.array(table.columns), **extra})
    elif name.endswith(".nc"):
        data = xr.Dataset({"x": (("datum", "feature"), table.values)}, coords={"feature": list(table.columns)})
        if labels is not None:
            data["label"] = ("datum", labels)
        _write(path, lambda file: data.to_netcdf(file, engine="h5netcdf"))
    else:
        frame = table.frame()
        if labels is not None:
            frame["label"] = labels
        _write_frame(frame, path)


def write_dataset(data: xr.Dataset, path: str | os.PathLike[str], *, plain: str | None = None) -> None:
    """Write results by row as CSV, TSV, Parquet, NPZ or NetCDF, by the suffix of ``path``.

    In the flat kinds a 2-D variable becomes one column for each label of its second axis, called
    ``variable_label``, or just ``label`` for the variable named in ``plain``.
    """
    target = check_writable(path, suffixes=TABLE_SUFFIXES)
    name = target.name.lower()
    if name.endswith(".nc"):
        _write(path, lambda file: data.to_netcdf(file, engine="h5netcdf"))
    elif name.endswith(".npz"):
        arrays = {str(k): v.to_numpy() for k, v in data.variables.items()}
        _write_npz(path, {k: v.astype(str) if v.dtype.kind == "O" else v for k, v in arrays.items()})
    else:
        _write_frame(_flat(data, plain), path)


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
    separator = "\t" if name.removesuffix(".gz").endswith(".tsv") else ","
    _write(path, lambda file: frame.to_csv(file, sep=separator, index=False))  # compressed if the name ends in .gz


def _write_npz(path: str | os.PathLike[str], arrays: dict[str, NDArray[Any]]) -> None:
    def write(file: Path) -> None:
        with file.open("wb") as stream:
            np.savez_compressed(stream, allow_pickle=False, **arrays)

    _write(path, write)


def _write(path: str | os.PathLike[str], write: Callable[[Path], object]) -> None:
    with write_atomically(path) as file:
        write(file)


def _beside(target: Path) -> Path:
    """A name that nobody has, in the same folder, with the same end."""
    end = "".join(target.suffixes[-2:])[-20:]
    return target.with_name(f".probam-{secrets.token_hex(8)}{end}")


def _create(path: Path) -> Path:
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    return path


def _sync(path: Path) -> None:
    """Let the bytes reach the disk, as far as the file system can."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems have no fsync
            raise
    finally:
        os.close(descriptor)
