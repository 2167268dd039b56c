"""Whether the tree of a fit holds what :mod:`probam.reports.schema` says, so that no question meets a hole or junk."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import xarray as xr

from probam.errors import InputError
from probam.reports.schema import (
    ALWAYS,
    ARRAYS,
    ATTRIBUTES,
    GROUPS,
    OF_EVERY_DRAW,
    OF_THE_RUN,
    TOGETHER,
    Values,
)
from probam.reports.tree import has, variable

__all__ = ["check_tree", "damaged", "faults_of_attributes"]

_NAMED = ("draw", "row", "row_bis", "probe", "feature", "feature_bis", "check", "discrepancy", "grid_x", "grid_y")
"""Dimensions whose labels say something; those of all others count from 0."""


def damaged(source: str, what: str) -> InputError:
    """The error for a file that does not hold what a fit holds."""
    return InputError(f"{source}: {what}; the file was changed or damaged: use another copy of it, or fit again")


def check_tree(tree: xr.DataTree, source: str) -> None:
    """Raise :class:`probam.errors.InputError` where a tree does not hold what a fit holds; it names the first fault.

    Args:
        tree: the fit.
        source: what it is called in the message.
    """
    fault = next(_faults(tree), None)
    if fault is not None:
        raise damaged(source, fault)


def _faults(tree: xr.DataTree) -> Iterator[str]:
    """What is wrong, in the order in which it can be looked at: a later check relies on the earlier ones."""
    yield from faults_of_attributes("/", tree.attrs)
    is_pending = bool(tree.attrs.get("pending"))
    yield from (f"it lacks the group {name}" for name in (OF_THE_RUN if is_pending else ALWAYS) if not has(tree, name))
    yield from _faults_of_features(tree)
    data = variable(tree, "observed_data", "x")
    sizes = {"datum": data.sizes["datum"], "memory": int(tree.attrs["num_components"]), "memory_bis": 0}
    sizes |= {"memory_bis": sizes["memory"], "feature": data.sizes["feature"], "feature_bis": data.sizes["feature"]}
    for name in GROUPS:
        if has(tree, name):
            group = tree.children[name].to_dataset()
            yield from faults_of_attributes(name, group.attrs)
            yield from _faults_of_arrays(name, group, sizes)
            yield from _faults_of_parts(name, group)
            yield from _faults_of_labels(name, group, list(map(str, data["feature"].values)))
    yield from _faults_of_data(tree, is_whole=not is_pending)
    if not is_pending:
        yield from _faults_of_draws(tree)


def faults_of_attributes(group: str, attributes: Mapping[Any, Any]) -> Iterator[str]:
    """Attributes that are absent or no such thing."""
    place = "" if group == "/" else f" of the group {group}"
    for name, attribute in ATTRIBUTES.get(group, {}).items():
        if name in attributes:
            value = attributes[name]
            if not attribute.holds(value):
                said = repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:57]}..."
                yield f"the attribute {name}{place} is {said}; expected {attribute.words}"
        elif attribute.is_needed:
            yield f"it lacks the attribute {name}{place}"


def _faults_of_features(tree: xr.DataTree) -> Iterator[str]:
    """The data, whose sizes and names the other groups are held to."""
    data = tree.children["observed_data"].to_dataset()
    if "x" not in data.data_vars:
        yield "the group observed_data lacks x"
    elif data["x"].dims != ("datum", "feature"):
        yield f"observed_data/x has the dimensions {', '.join(map(str, data['x'].dims))}; expected datum, feature"
    elif "feature" not in data.coords:
        yield "the group observed_data lacks the names of the features"


def _faults_of_arrays(group: str, dataset: xr.Dataset, sizes: Mapping[str, int]) -> Iterator[str]:
    """Arrays that are absent, along other dimensions, of other sizes, or with values that they cannot have."""
    known = {path.partition("/")[2]: array for path, array in ARRAYS.items() if path.startswith(f"{group}/")}
    yield from (
        f"the group {group} lacks {name}"
        for name, array in known.items()
        if array.is_needed and name not in dataset.variables
    )
    for name, array in ((str(name), array) for name, array in dataset.variables.items()):
        if name in dataset.xindexes and name not in known:
            continue
        if name in known:
            expected, values = tuple(known[name].dims.split()), known[name].values
        elif group in OF_EVERY_DRAW:
            expected, values = tuple(map(str, array.dims)), OF_EVERY_DRAW[group]
            if expected[:2] != ("chain", "draw"):
                yield f"{group}/{name} does not lead with the dimensions chain, draw"
        else:
            continue
        yield from _faults_of_array(f"{group}/{name}", array, expected, values, sizes)


def _faults_of_parts(group: str, dataset: xr.Dataset) -> Iterator[str]:
    """Arrays or attributes that come together, of which some are absent."""
    for place, names in TOGETHER:
        absent = [name for name in names if name not in dataset.variables and name not in dataset.attrs]
        if place == group and 0 < len(absent) < len(names):
            yield f"the group {group} lacks {', '.join(absent)}"


def _faults_of_array(
    path: str, array: xr.Variable, dims: tuple[str, ...], values: Values, sizes: Mapping[str, int]
) -> Iterator[str]:
    if array.dims != dims:
        yield f"{path} has the dimensions {', '.join(map(str, array.dims))}; expected {', '.join(dims)}"
        return
    for dim, size in zip(dims, array.shape, strict=True):
        expected = sizes.get(dim, max(size, 1) if dim in ("chain", "draw") else size)
        if size != expected:
            yield f"{path} has {size} entries along {dim}; expected {expected}"
            return
    if not values.hold(np.asarray(array.values), sizes):
        yield f"{path} does not hold {values.words} alone"


def _faults_of_labels(group: str, dataset: xr.Dataset, features: list[str]) -> Iterator[str]:
    """Labels of dimensions that are absent, or not those of the fit."""
    for dim in map(str, dataset.sizes):
        labels = dataset.variables.get(dim)
        if labels is not None and labels.ndim != 1:
            continue  # an array that is called as its dimension is
        if labels is None:
            if dim not in ("attractor", "axis", "query"):
                yield f"the group {group} lacks the labels of {dim}"
        elif dim in ("feature", "feature_bis"):
            if list(map(str, labels.values)) != features:
                yield f"the features of the group {group} have other names than those of observed_data"
        elif dim not in _NAMED and not np.array_equal(labels.values, np.arange(labels.size)):
            yield f"the labels of {dim} in the group {group} do not count from 0"


def _faults_of_data(tree: xr.DataTree, *, is_whole: bool) -> Iterator[str]:
    """Gaps that are not filled, and entries that differ from the data."""
    observed = tree.children["observed_data"].to_dataset()
    x = observed["x"].values
    if x.dtype.kind not in "fiub" or np.isinf(x).any():
        yield "observed_data/x does not hold finite numbers and gaps alone"
        return
    known = ~np.isnan(x)
    if "completed" in observed:
        if is_whole and not np.array_equal(observed["completed"].values[known], x[known]):
            yield "observed_data/completed differs from observed_data/x where nothing is missing"
    elif not known.all():
        yield f"observed_data/x has NaN in {int((~known).sum())} entries, and nothing says that they were missing"


def _faults_of_draws(tree: xr.DataTree) -> Iterator[str]:
    """Groups about the same draws that do not agree on them."""
    posterior, invariant = (tree.children[name].to_dataset() for name in ("posterior", "invariant"))
    stats, memory = (tree.children[name].to_dataset() for name in ("sample_stats", "memory"))
    drawn, kept = posterior["draw"].values, invariant["draw"].values
    if not np.array_equal(drawn, np.arange(len(drawn))) or not np.array_equal(stats["draw"].values, drawn):
        yield "the draws of posterior and sample_stats are not numbered alike"
    if len(np.unique(kept)) < len(kept) or not np.isin(kept, drawn).all():
        yield "the group invariant has draws that the group posterior has not"
    if len({group.sizes["chain"] for group in (posterior, stats, invariant)}) > 1:
        yield "posterior, sample_stats and invariant have different numbers of chains"
    if has(tree, "all_rows"):
        yield from _faults_of_all_rows(tree, drawn)
    yield from _faults_of_numbers(memory, invariant.sizes["chain"] * len(kept))
    yield from _faults_of_rows(tree)


def _faults_of_all_rows(tree: xr.DataTree, drawn: np.ndarray) -> Iterator[str]:
    """A sample of fewer rows than it has, and draws that are none of the fit's."""
    group, num_sampled = tree.children["all_rows"].to_dataset(), variable(tree, "observed_data", "x").sizes["datum"]
    if group.attrs["num_data"] < num_sampled:
        yield f"the group all_rows is of {group.attrs['num_data']} rows; observed_data has {num_sampled} of them"
    if not np.array_equal(group["draw"].values, drawn):
        yield "the draws of posterior and all_rows are not numbered alike"


def _faults_of_numbers(memory: xr.Dataset, samples: int) -> Iterator[str]:
    """Numbers of memories and draws that do not exist; a wrong number would be a wrong label."""
    permutation, reference = memory["permutation"].values, memory.attrs["reference"]
    same = np.broadcast_to(np.arange(permutation.shape[1]), permutation.shape)
    if len(permutation) != samples:
        yield f"memory/permutation has {len(permutation)} rows; expected one for each of {samples} draws"
    if not np.array_equal(np.sort(permutation, axis=1), same):
        yield "a row of memory/permutation is no permutation of the memories"
    if reference >= samples:
        yield f"the attribute reference of the group memory is {reference}; expected a number below {samples}"


def _faults_of_rows(tree: xr.DataTree) -> Iterator[str]:
    """Labels of rows and draws that are none of the fit's."""
    num_data = variable(tree, "observed_data", "x").sizes["datum"]
    kept = variable(tree, "invariant", "draw").values
    for group, dim in (
        ("partition", "row"),
        ("partition", "row_bis"),
        ("recall", "row"),
        ("recall", "row_bis"),
        ("invariant", "probe"),
    ):
        if has(tree, group):
            rows = np.asarray(variable(tree, group, dim).values)
            if rows.dtype.kind not in "iu" or not np.all((rows >= 0) & (rows < num_data)):
                yield f"the labels of {dim} in the group {group} are not numbers of rows"
        if has(tree, group) and dim == "row_bis" and not np.array_equal(rows, variable(tree, group, "row").values):
            yield f"the group {group} compares rows with others"
    for group in ("log_likelihood", "recall"):
        if has(tree, group) and not np.isin(variable(tree, group, "draw").values, kept).all():
            yield f"the group {group} has draws that the group invariant has not"
