"""NetCDF files and Zarr stores, read through xarray by hyperslabs."""

import importlib.util
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import h5py
import pandas as pd
import xarray as xr

from probam.data.pieces import Contents, Pieces, cause, readable
from probam.errors import InputError

__all__ = ["GriddedFile", "check_hdf5", "rows_in", "side_by_side"]


class GriddedFile(Pieces):
    """A variable of a file, or all of them: a 2-D variable (datum, feature), or 1-D variables of the same rows."""

    def __init__(self, path: str, variable: str | None = None) -> None:
        """A file.

        Args:
            path: a NetCDF file, or the folder of a Zarr store.
            variable: its name; None for all.
        """
        self.name, self._variable = path, variable
        is_zarr = path.lower().endswith(".zarr")
        if is_zarr and importlib.util.find_spec("zarr") is None:
            raise InputError(
                f"{path}: Zarr stores are read by the package zarr; install it (pip install 'probam[zarr]')"
            )
        self._kind = "Zarr" if is_zarr else "NetCDF"
        self._opening: dict[str, Any] = {"decode_times": False}
        if is_zarr:
            self._opening |= {"engine": "zarr", "consolidated": False}  # others have a warning
        elif _is_hdf5(path):
            self._opening |= {"engine": "h5netcdf", "phony_dims": "access"}  # likewise, where axes have no names

    @cached_property
    def num_rows(self) -> int | None:
        """As the base class says."""
        with self._opened() as data:
            return int(data.sizes[self._along(data)])

    def read(self, rows: int) -> Iterator[Contents]:
        """As the base class says; variables that have no dimension of rows are left out."""
        with self._opened() as data:
            along = self._along(data)
            if isinstance(data, xr.Dataset):
                data = data[[name for name, variable in data.data_vars.items() if along in variable.dims]]
            for first in range(0, max(data.sizes[along], 1), rows):
                with readable(self.name, self._words):
                    piece = data.isel({along: slice(first, first + rows)}).load()
                yield piece

    def whole(self) -> Contents:
        """As the base class says."""
        with self._opened() as data, readable(self.name, self._words):
            return data.load()

    @contextmanager
    def _opened(self) -> Iterator[xr.DataArray | xr.Dataset]:
        """The variables, of which nothing is read yet."""
        with readable(self.name, self._words):
            if self._opening.get("engine") == "h5netcdf":
                check_hdf5(self.name)
            file = xr.open_dataset(self.name, cache=False, chunks=None, **self._opening)
        with file:
            if self._variable is None:
                groups = [] if file.data_vars else self._groups()
                if groups:
                    saved = "; this is a saved fit: use `probam report` or probam.load" if "posterior" in groups else ""
                    raise InputError(
                        f"{self.name}: its root group is empty; it has the groups {', '.join(groups)}{saved}"
                    )
                yield file
            elif self._variable in file.data_vars:
                yield file[self._variable]
            else:
                has = ", ".join(f"{name} {tuple(v.shape)}" for name, v in file.data_vars.items()) or "none"
                raise InputError(f"variable: {self.name} has no {self._variable!r}; it has {has}")

    def _along(self, data: xr.DataArray | xr.Dataset) -> Hashable:
        """The dimension of the rows."""
        chosen = rows_in(data, self.name) if isinstance(data, xr.Dataset) else data
        dims = tuple(chosen.dims)
        if not dims:
            raise InputError(f"{self.name}: expected a 2-D variable (datum, feature); got a single number")
        return dims[1] if dims[0] == "feature" and len(dims) == 2 else dims[0]

    def _groups(self) -> list[str]:
        """The groups below the root."""
        with (
            readable(self.name, self._words),
            xr.open_datatree(self.name, **self._opening) as tree,
        ):
            return [group.lstrip("/") for group in tree.groups if group != "/"]

    def _words(self, error: Exception) -> str:
        return f"it cannot be read as {self._kind} ({cause(error)}); it may be truncated"


def check_hdf5(path: str) -> None:
    """Raise where HDF5 cannot read what h5netcdf reads first, which leaves a half-opened file behind where it fails."""
    with h5py.File(path, "r") as file:  # type: ignore[attr-defined, no-untyped-call]
        file.attrs.get("_nc3_strict")


def _is_hdf5(path: str) -> bool:
    with open(path, "rb") as file:
        return file.read(8) == b"\x89HDF\r\n\x1a\n"


def rows_in(data: xr.Dataset, source: str) -> xr.DataArray | xr.Dataset:
    """The only 2-D variable of a dataset, or all its variables where each has only the dimension of the rows.

    Args:
        data: any variables.
        source: what errors call it.
    """
    shapes = ", ".join(f"{name} {tuple(v.shape)}" for name, v in data.data_vars.items()) or "no variables"
    if data.data_vars and all(v.ndim == 1 for v in data.data_vars.values()):
        if len({v.dims for v in data.data_vars.values()}) == 1:
            return data
        raise InputError(
            f"{source}: its variables lie along different dimensions ({shapes}); choose one with `variable`"
        )
    two = [v for v in data.data_vars.values() if v.ndim == 2]
    if len(two) == 1:
        return two[0]
    raise InputError(
        f"{source}: expected one 2-D variable (datum, feature), or 1-D variables along one dimension;"
        f" it holds {shapes}; choose one with `variable`"
    )


def side_by_side(data: xr.DataArray | xr.Dataset) -> xr.DataArray | pd.DataFrame:
    """1-D variables as columns of a frame; anything else as it is."""
    if isinstance(data, xr.DataArray):
        return data
    return pd.DataFrame({str(name): v.to_numpy() for name, v in data.data_vars.items()})
