"""Every way in which one group, attribute or array of a fit can be gone or junk."""

from collections.abc import Iterator

import numpy as np
import xarray as xr

__all__ = ["corruptions"]

_NODES = dict[str, xr.Dataset]


def corruptions(tree: xr.DataTree) -> Iterator[tuple[str, xr.DataTree]]:
    """Each copy of the tree with one fault, and what was done."""
    nodes = {node.path: node.to_dataset(inherit=False) for node in tree.subtree}
    for path, dataset in nodes.items():
        if path != "/":
            yield f"without {path}", xr.DataTree.from_dict({name: each for name, each in nodes.items() if name != path})
        for name in dataset.attrs:
            for what, attrs in _attributes(dataset, str(name)):
                changed = dataset.copy(deep=False)
                changed.attrs = attrs
                yield f"{what} {path}@{name}", xr.DataTree.from_dict(nodes | {path: changed})
        for name in map(str, dataset.variables):
            for what, changed in _arrays(dataset, name):
                yield f"{what} {path}/{name}", xr.DataTree.from_dict(nodes | {path: changed})


def _attributes(dataset: xr.Dataset, name: str) -> Iterator[tuple[str, dict[str, object]]]:
    others = {str(key): value for key, value in dataset.attrs.items() if key != name}
    yield "without", others
    for what, value in (("junk in", "@junk"), ("NaN in", float("nan")), ("nothing in", ""), ("-7 in", -7)):
        yield what, others | {name: value}


def _arrays(dataset: xr.Dataset, name: str) -> Iterator[tuple[str, xr.Dataset]]:
    yield "without", dataset.drop_vars(name)
    array = dataset.variables[name]
    holed = array.values.astype(float) if array.dtype.kind in "fiub" else np.full(array.shape, np.nan)
    holed[(0,) * holed.ndim] = np.nan
    for what, values in (
        ("NaN in", holed),
        ("-1e6 in", np.full(array.shape, -1e6)),
        ("text in", np.full(array.shape, "?")),
    ):
        yield what, dataset.drop_vars(name).assign({name: (array.dims, values)})
    if array.ndim:
        yield "an entry less along the last axis of", dataset.isel({array.dims[-1]: slice(0, -1)})
