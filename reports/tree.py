"""A fit on disk: the DataTree in ArviZ's schema, its NetCDF file and the way back.

The groups and their variables are those of ``docs/architecture.md`` ("A fit on disk"). The file is plain
NetCDF4: ``xarray.open_datatree`` reads it where probam is not installed.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from probam.data.gridded import check_hdf5
from probam.data.schema import check_schema
from probam.data.writing import netcdf, write_atomically, write_netcdf
from probam.errors import InputError
from probam.reports.digest import changed_group, digests
from probam.reports.schema import ARRAYS, GROUPS, REQUIRED

__all__ = [
    "Variables",
    "build_tree",
    "group_dataset",
    "has",
    "num_data",
    "read_tree",
    "rows_of",
    "tree_bytes",
    "variable",
    "with_datasets",
    "write_tree",
]

Variables = Mapping[str, tuple[ArrayLike, tuple[str, ...]]]
"""Variable name -> (array, names of its dimensions)."""

_COMPRESS_FROM = 4096
"""Arrays with at least so many elements are compressed; below that the chunk index costs more than it saves."""


def build_tree(
    *,
    attributes: Mapping[str, Any],
    data: ArrayLike,
    columns: Sequence[str],
    center: ArrayLike,
    scale: ArrayLike,
    posterior: Variables,
    completed: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    allowed: ArrayLike | None = None,
    coordinates: Mapping[str, ArrayLike] | None = None,
    group_attributes: Mapping[str, Mapping[str, Any]] | None = None,
    **groups: Variables | None,
) -> xr.DataTree:
    """The DataTree of a fit, from plain arrays.

    Args:
        attributes: of the root; text, numbers, None (stored as empty text), or what can be written as JSON.
        data: (N, D), in data units.
        columns: names of the D features.
        center: (D,), subtracted from the data to give model units.
        scale: (D,), divides the centred data.
        posterior: draws of the parameters, chain and draw first.
        completed: the data with something to show in place of each missing entry (NaN).
        weight: (N,), how often each datum counts; None counts each once.
        allowed: (N, K), to which memories each datum may belong; None where nothing is known.
        coordinates: labels of a dimension in every group (``"check"``) or in one (``"partition/row"``). A dimension
            without labels counts from 0, ``feature`` has the column names, ``row_bis`` the labels of ``row``.
        group_attributes: attributes by group, of the same kinds as those of the root.
        groups: variables of other groups (``memory``, ``partition``, ...); a group that is None is left out.

    Raises:
        InputError: for unknown groups, and for shapes and dimensions that do not match.
    """
    x = np.asarray(data)
    if x.ndim != 2 or x.shape[1] != len(columns):
        raise InputError(f"data: expected shape (N, {len(columns)}), one column per name; got {x.shape}")
    own_attributes = group_attributes or {}
    _check_groups(groups, own_attributes)
    observed: dict[str, tuple[ArrayLike, tuple[str, ...]]] = {"x": (x, ("datum", "feature"))}
    if completed is not None:
        observed["completed"] = (completed, ("datum", "feature"))
    if weight is not None:
        observed["weight"] = (weight, ("datum",))
    if allowed is not None:
        observed["allowed"] = (np.asarray(allowed, np.int8), ("datum", "memory"))
    every: dict[str, Variables | None] = groups | {
        "posterior": posterior,
        "observed_data": observed,
        "constant_data": {"center": (center, ("feature",)), "scale": (scale, ("feature",))},
    }
    labels: dict[str, ArrayLike] = {"feature": [str(name) for name in columns], **(coordinates or {})}
    sizes = {"datum": len(x), "feature": len(columns)}
    nodes = {
        name: _dataset(name, variables, labels, sizes).assign_attrs(_stored(own_attributes.get(name, {})))
        for name in GROUPS
        if (variables := every.get(name)) is not None
    }
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs=_stored(attributes)), **nodes})


def group_dataset(
    tree: xr.DataTree,
    name: str,
    variables: Variables,
    *,
    coordinates: Mapping[str, ArrayLike],
    attributes: Mapping[str, Any],
) -> xr.Dataset:
    """One more group for a tree, from plain arrays.

    Args:
        tree: the fit.
        name: of the group.
        variables: its arrays.
        coordinates: labels by dimension, as in :func:`build_tree`.
        attributes: of the group.
    """
    x = variable(tree, "observed_data", "x")
    labels: dict[str, ArrayLike] = {"feature": x["feature"].values, **coordinates}
    return _dataset(name, variables, labels, dict(x.sizes)).assign_attrs(_stored(attributes))  # type: ignore[arg-type]


def with_datasets(tree: xr.DataTree, groups: Mapping[str, xr.Dataset], attributes: Mapping[str, Any]) -> xr.DataTree:
    """The tree with more groups, in the order of the file, and more root attributes; the tree itself stays as it is."""
    nodes = {name: node.to_dataset() for name, node in tree.children.items()} | dict(groups)
    order = sorted(nodes, key=lambda name: GROUPS.index(name) if name in GROUPS else len(GROUPS))
    root = tree.to_dataset().assign_attrs(_stored(attributes))
    return xr.DataTree.from_dict({"/": root, **{name: nodes[name] for name in order}})


def _check_groups(groups: Mapping[str, Any], attributes: Mapping[str, Any]) -> None:
    """Raise where a group is none of a fit's, or is one that :func:`build_tree` makes from its other arguments."""
    own = ("posterior", "observed_data", "constant_data")
    for argument, names, known in (
        ("groups", groups, [name for name in GROUPS if name not in own]),
        ("group_attributes", attributes, list(GROUPS)),
    ):
        unknown = sorted(set(names) - set(known))
        if unknown:
            raise InputError(f"{argument}: no such group {', '.join(unknown)}; known: {', '.join(known)}")


def _dataset(group: str, variables: Variables, labels: Mapping[str, ArrayLike], sizes: Mapping[str, int]) -> xr.Dataset:
    """One group; the sizes of its dimensions must agree with ``sizes`` and with each other."""
    known = dict(sizes)
    arrays: dict[str, tuple[tuple[str, ...], np.ndarray, dict[str, str]]] = {}
    for name, (values, dims) in variables.items():
        array = np.asarray(values)
        if array.ndim != len(dims):
            raise InputError(f"{group}/{name}: {len(dims)} dimensions named {dims}, the array has shape {array.shape}")
        for dim, size in zip(dims, array.shape, strict=True):
            if known.setdefault(dim, size) != size:
                raise InputError(f"{group}/{name}: dimension {dim!r} has {known[dim]} entries, the array has {size}")
        said = ARRAYS.get(f"{group}/{name}")
        arrays[name] = (tuple(dims), array, {"long_name": said.words} if said is not None and said.words else {})
    dataset = xr.Dataset(arrays)
    for dim, size in ((str(name), size) for name, size in dataset.sizes.items()):
        if dim in dataset.coords:
            continue
        base = dim.removesuffix("_bis")
        known_labels = (labels[key] for key in (f"{group}/{dim}", f"{group}/{base}", dim, base) if key in labels)
        coordinate = np.asarray(next(known_labels, np.arange(size)))
        if coordinate.shape != (size,):
            raise InputError(f"coordinates: {dim!r} of group {group!r} needs {size} labels; got {coordinate.shape}")
        dataset = dataset.assign_coords({dim: coordinate})
    return dataset


def _stored(attributes: Mapping[str, Any]) -> dict[str, str | int | float]:
    """Attributes as NetCDF can hold them: text, integers, floats; the rest as JSON text."""
    stored: dict[str, str | int | float] = {}
    for name, value in attributes.items():
        plain = value.item() if isinstance(value, np.generic) else value
        if plain is None:
            stored[name] = ""
        elif isinstance(plain, str | float) or (isinstance(plain, int) and not isinstance(plain, bool)):
            stored[name] = plain
        else:
            stored[name] = json.dumps(plain, sort_keys=True)
    return stored


def has(tree: xr.DataTree, group: str, name: str | None = None) -> bool:
    """Whether a fit has a group, and in it a variable."""
    return group in tree.children and (name is None or name in tree.children[group].data_vars)


def num_data(tree: xr.DataTree) -> int:
    """How many rows the data have that were fitted; of data larger than memory ``observed_data`` is a sample."""
    if has(tree, "all_rows"):
        return int(tree.children["all_rows"].attrs["num_data"])
    return int(tree.children["observed_data"].sizes["datum"])


def rows_of(tree: xr.DataTree) -> xr.DataArray:
    """The data (datum, feature), with a missing entry at its conditional mean."""
    return variable(tree, "observed_data", "completed" if has(tree, "observed_data", "completed") else "x")


def variable(tree: xr.DataTree, group: str, name: str) -> xr.DataArray:
    """A variable or coordinate of a group; the fit must have it."""
    return tree.children[group].to_dataset()[name]


def write_tree(tree: xr.DataTree, path: str | os.PathLike[str]) -> None:
    """Write ``tree`` to a NetCDF4 file, completely or not at all.

    Raises :class:`probam.errors.InputError` where ``path`` cannot be written.
    """
    with write_atomically(path) as temporary:
        content, encoding = _content_and_encoding(tree)
        write_netcdf(content, temporary, encoding)


def tree_bytes(tree: xr.DataTree) -> bytes:
    """The bytes of a NetCDF4 file, large arrays compressed without loss; :func:`read_tree` notices other numbers."""
    return netcdf(*_content_and_encoding(tree))


def _content_and_encoding(tree: xr.DataTree) -> tuple[xr.DataTree, dict[str, dict[str, dict[str, Any]]]]:
    """The tree with the digest of its numbers, and how a file stores each of them."""
    root = tree.to_dataset().assign_attrs(digest=digests(tree))
    tree = xr.DataTree(root, children=dict(tree.children))
    encoding: dict[str, dict[str, dict[str, Any]]] = {}
    for node in tree.subtree:
        encoding[node.path] = {}
        for name, variable in node.to_dataset(inherit=False).variables.items():
            options: dict[str, Any] = {}
            if variable.dtype.kind == "f":
                options["_FillValue"] = None  # NaN is stored as NaN
            if variable.dtype.kind in "fiub" and variable.size >= _COMPRESS_FROM:
                options |= {"zlib": True, "complevel": 4, "shuffle": True}
            encoding[node.path][str(name)] = options
    return tree, encoding


def read_tree(path: str | os.PathLike[str], *, groups: Sequence[str] = REQUIRED) -> xr.DataTree:
    """The tree that :func:`write_tree` wrote, in memory; the file is closed.

    Args:
        path: the file.
        groups: groups that the tree must have.

    Raises:
        InputError: for a file that is missing, truncated, damaged or no fit of probam.
    """
    name = os.fspath(path)
    if not Path(name).exists():
        raise InputError(f"{name}: no such file; expected a fit that probam has saved")
    if Path(name).is_dir():
        raise InputError(f"{name}: this is a folder; expected a file, a fit that probam has saved")
    try:
        check_hdf5(name)
        with xr.open_datatree(name, engine="h5netcdf") as opened:
            tree = opened.load()
    except PermissionError as error:
        raise InputError(f"{name}: cannot be read, permission denied") from error
    except Exception as error:  # libraries raise every kind for a damaged file
        raise InputError(
            f"{name}: not a readable NetCDF4 file, or a truncated one ({_cause(error)}); "
            "save the fit again or give another file"
        ) from error
    _check_origin(tree, name, groups)
    return _without_encoding(tree)


def _check_origin(tree: xr.DataTree, name: str, groups: Sequence[str]) -> None:
    """Raise where a file is none of probam's, of a newer version, or not as it was saved."""
    if "probam_version" not in tree.attrs:
        raise InputError(f"{name}: a NetCDF file, but no fit of probam (it lacks the attribute probam_version)")
    schema = check_schema(tree.attrs, name)
    missing = [group for group in groups if group not in tree.children]
    if missing:
        raise InputError(f"{name}: this fit lacks the group {', '.join(missing)}; save it again or give another file")
    has_digest = schema > 0 or "digest" in tree.attrs  # files of version 0 had none
    changed = changed_group(tree, tree.attrs.get("digest")) if has_digest else None
    if changed is not None:
        raise InputError(
            f"{name}: {changed} is not what was saved; the file was changed or damaged: use another copy of it, or fit "
            "again"
        )


def _without_encoding(tree: xr.DataTree) -> xr.DataTree:
    """The same tree with plain Python attributes and without the encoding of the file."""
    nodes = {}
    for node in tree.subtree:
        dataset = node.to_dataset(inherit=False)
        dataset.attrs, dataset.encoding = _plain(dataset.attrs), {}
        if node.path == "/":
            dataset.attrs.pop("digest", None)  # of the file: a tree in memory may change
        for name in dataset.variables:
            dataset[name].attrs = _plain(dataset[name].attrs)
            dataset[name].encoding = {}  # Dataset.drop_encoding would copy the values
        nodes[node.path] = dataset
    return xr.DataTree.from_dict(nodes)


def _plain(attributes: Mapping[Any, Any]) -> dict[Any, Any]:
    """Attributes with NumPy scalars as Python's own numbers."""
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in attributes.items()}


def _cause(error: BaseException) -> str:
    """The first line of an exception's message, without the call traces of the libraries."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    text = text.splitlines()[0]
    inner = text[text.find("(") + 1 : text.rfind(")")] if "(" in text and ")" in text else text
    return inner.split(": name =")[0].split(", errno")[0].strip().rstrip(",")
