"""Digests of the arrays of a file, so that other numbers than those that were saved are noticed as it is read."""

import hashlib
import json

import numpy as np
import xarray as xr

__all__ = ["changed_group", "digests"]


def digests(tree: xr.DataTree) -> str:
    """JSON of a hash for each group: of the names, dimensions and values of its arrays; attributes may change."""
    return json.dumps({name: _digest(node.to_dataset()) for name, node in tree.children.items()}, sort_keys=True)


def changed_group(tree: xr.DataTree, said: object) -> str | None:
    """The first group whose arrays are not those of a digest; None where all are. Groups without a digest are free.

    Args:
        tree: what was read of a file.
        said: what :func:`digests` returned when it was written.
    """
    try:
        expected = dict(json.loads(str(said)))
    except (ValueError, TypeError):
        return "the digest of its numbers"
    for name, digest in expected.items():
        if name not in tree.children or _digest(tree.children[name].to_dataset()) != digest:
            return f"the group {name}"
    return None


def _digest(group: xr.Dataset) -> str:
    found = hashlib.blake2b(digest_size=8)
    for name in sorted(map(str, group.variables)):
        variable = group.variables[name]
        values = np.asarray(variable.values)
        is_number = values.dtype.kind in "biuf"
        found.update(repr((name, variable.dims, values.shape, values.dtype.str if is_number else "text")).encode())
        found.update(np.ascontiguousarray(values).data if is_number else repr(values.tolist()).encode())
    return found.hexdigest()
