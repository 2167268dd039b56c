"""Derived groups kept in the user's cache folder, beside compiled programs.

A group is found again by what it was made of: a hash of these groups and of the version of probam. There is nothing to
keep in sync, and the folder may be deleted at any time.
"""

import hashlib
import os
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
import xarray as xr

from probam.compiled import drop_oldest, kept_folder
from probam.data.schema import SCHEMA
from probam.data.writing import write_atomically
from probam.errors import InputError
from probam.reports.tree import read_tree, tree_bytes

__all__ = ["keep", "kept", "shelf"]


def shelf(sources: xr.DataTree) -> Path | None:
    """Beginning of the paths of all groups that are made of these; None where nothing is kept."""
    folder = kept_folder()
    return None if folder is None else folder / "groups" / _fingerprint(sources)


def kept(place: Path, name: str) -> xr.Dataset | None:
    """A group, if it is there and can be read.

    Args:
        place: what :func:`shelf` returned.
        name: of the group.
    """
    path = _path(place, name)
    try:
        if _seal(path).read_text() != _digest(path.read_bytes()):  # a damaged file is never parsed
            return None
        return read_tree(path, groups=(name,))[name].to_dataset()
    except (InputError, OSError, UnicodeDecodeError):
        return None  # it is made anew, and replaces what cannot be read


def keep(place: Path, name: str, group: xr.Dataset) -> None:
    """Keep a group, where the folder can be written to.

    Args:
        place: what :func:`shelf` returned.
        name: of the group.
        group: what :func:`kept` is to return.
    """
    root = xr.Dataset(attrs={"schema": SCHEMA, "probam_version": version("probam")})
    try:
        place.parent.mkdir(mode=0o700, exist_ok=True)
        drop_oldest(place.parent)
        content = tree_bytes(xr.DataTree.from_dict({"/": root, name: group}))
        path = _path(place, name)
        for file, written in ((path, content), (_seal(path), _digest(content).encode())):
            with write_atomically(file) as temporary:
                temporary.write_bytes(written)
    except (InputError, OSError):
        return  # a full disk must not lose the group that was made


def _path(place: Path, name: str) -> Path:
    return place.with_name(f"{place.name}-{name}.nc")


def _seal(path: Path) -> Path:
    """The file beside a kept group that has its digest."""
    return path.with_suffix(".sha256")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _fingerprint(sources: xr.DataTree) -> str:
    """Hash of the names, attributes and values of a tree, and of the program that makes groups of it."""
    found = hashlib.sha256(repr((version("probam"), _newest_source())).encode())
    for node in sources.subtree:
        dataset = node.to_dataset(inherit=False)
        found.update(repr((node.path, sorted(dataset.attrs.items()))).encode())
        for name in sorted(map(str, dataset.variables)):
            variable = dataset.variables[name]
            values = np.asarray(variable.values)
            found.update(repr((name, variable.dims, values.shape, values.dtype.kind)).encode())
            found.update(values.tobytes() if values.dtype.kind in "biuf" else repr(values.tolist()).encode())
    return found.hexdigest()[:32]


@cache
def _newest_source() -> int:
    """When the package's code was last changed: in a checkout it changes without its version."""
    folders = os.walk(Path(__file__).parents[1], followlinks=True)
    files = (os.path.join(folder, name) for folder, _, names in folders for name in names if name.endswith(".py"))
    return max(os.stat(file).st_mtime_ns for file in files)
