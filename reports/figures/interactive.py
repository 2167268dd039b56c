"""What the script of the page is told of the pictures: points, the axes to see them along, and matrices.

The pictures are complete without it.
"""

import base64
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Float
from scipy.linalg import eigh

from probam.reports.figures.data import grouping
from probam.reports.figures.landscape import View, drawn_points, is_line, loadings, view
from probam.reports.figures.shown import memory_colours, memory_name, shortened, shown_features, shown_memories
from probam.reports.figures.style import ink_on
from probam.reports.page import percent
from probam.reports.tree import has, rows_of, variable

__all__ = ["Axis", "axes_to_choose", "matrices_for_script", "points_for_script"]

_FEATURES = 12
"""Most features that can be chosen as axes."""

_PRINCIPAL = 3
"""Principal axes that can be chosen."""

_FINEST = 4095
"""Positions along an axis are whole numbers from 0 to this."""

_MARGIN = 0.04
"""Share of an axis that is left free at each end."""


class Axis(NamedTuple):
    """A direction along which the data can be seen."""

    group: str  # of the menu
    name: str
    title: str
    loadings: str  # of features; empty for a feature itself
    points: Float[np.ndarray, " P"]
    memories: Float[np.ndarray, " M"]  # those that pictures show


def points_for_script(tree: xr.DataTree) -> dict[str, Any] | None:
    """Row, memory and its probability of each point, and positions along other axes; None where a curve is drawn."""
    if is_line(tree):
        return None
    rows = drawn_points(tree).row
    labels = variable(tree, "partition", "label").values[rows] if has(tree, "partition", "label") else []
    sure = variable(tree, "partition", "confidence").values[rows] if has(tree, "partition", "confidence") else []
    colours = memory_colours(tree)
    return {
        "row": rows.tolist(),
        "memory": [int(label) for label in labels],
        "confidence": [percent(float(share)) for share in sure],
        "names": [str(name) for name in variable(tree, "memory", "memory").values],
        "colours": colours,
        "discs": [{"memory": int(k), "ink": ink_on(colours[k])} for k in shown_memories(tree)],
        "axes": [_in_numbers(axis) for axis in axes_to_choose(tree)],
    }


def axes_to_choose(tree: xr.DataTree) -> list[Axis]:
    """The two axes of the map, then features and principal axes; none where the map shows all features as they are."""
    seen = view(tree)
    if seen.own_axes:
        return []
    rows = drawn_points(tree).row
    x = rows_of(tree).values[rows].astype(np.float64)
    means = variable(tree, "memory", "mean").values[shown_memories(tree)].astype(np.float64)
    axes = [*_of_map(tree, seen, x, means), *_of_features(tree, x, means)]
    first = 2 if _is_principal(tree, seen) else 0
    return [*axes, *_principal(tree, (x - seen.center) / seen.scale, (means - seen.center) / seen.scale, first)]


def _is_principal(tree: xr.DataTree, seen: View) -> bool:
    """Whether the axes of the map are the first two principal ones."""
    return not seen.spherical and tree["recall"].attrs.get("plane") != "discriminant"


def _of_map(
    tree: xr.DataTree, seen: View, x: Float[np.ndarray, "P D"], means: Float[np.ndarray, "M D"]
) -> Iterator[Axis]:
    kind = "separating direction" if not _is_principal(tree, seen) else "principal axis"
    names = ["disc, across", "disc, up"] if seen.spherical else [f"{kind} {place}" for place in (1, 2)]
    for name, direction, points, memories in zip(names, seen.axis, seen(x).T, seen(means).T, strict=True):
        yield Axis("Axes of the map", name, name, loadings(direction, tree), points, memories)


def _of_features(tree: xr.DataTree, x: Float[np.ndarray, "P D"], means: Float[np.ndarray, "M D"]) -> Iterator[Axis]:
    names = [str(name) for name in variable(tree, "observed_data", "feature").values]
    for feature in shown_features(tree, _FEATURES):
        name = shortened(names[feature], 60)
        yield Axis("Features", name, name, "", x[:, feature], means[:, feature])


def _principal(
    tree: xr.DataTree, x: Float[np.ndarray, "P D"], means: Float[np.ndarray, "M D"], first: int
) -> Iterator[Axis]:
    """Directions of largest variance of the data that are drawn, in model units, from the ``first`` on."""
    middle = x.mean(axis=0)
    squares, directions = _widest(x - middle)
    share = squares / max(float(((x - middle) ** 2).sum()), np.finfo(float).tiny)
    for place in range(first, len(directions)):
        if share[place] <= np.finfo(np.float32).eps:
            continue
        direction = directions[place] * np.sign(directions[place][np.abs(directions[place]).argmax()])
        name = f"principal axis {place + 1}"
        title = f"{name} ({percent(float(share[place]))} of the variance)"
        points, memories = (x - middle) @ direction, (means - middle) @ direction
        yield Axis("Principal axes", name, title, loadings(direction, tree), points, memories)


def _widest(centred: Float[np.ndarray, "P D"]) -> tuple[Float[np.ndarray, " A"], Float[np.ndarray, "A D"]]:
    """Sums of squares along the principal axes, at most three, and the axes: from the smaller of the Gram matrices."""
    wide = centred.shape[0] < centred.shape[1]
    gram = centred @ centred.T if wide else centred.T @ centred
    size = len(gram)
    squares, vectors = eigh(gram, subset_by_index=[max(size - _PRINCIPAL, 0), size - 1])
    squares, directions = np.maximum(squares[::-1], 0), vectors.T[::-1]
    if wide:
        directions = directions @ centred
        directions /= np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), np.finfo(float).tiny)
    return squares, directions


def _in_numbers(axis: Axis) -> dict[str, Any]:
    """An axis with its positions as whole numbers between two ends."""
    low = float(min(axis.points.min(), axis.memories.min()))
    high = float(max(axis.points.max(), axis.memories.max()))
    margin = _MARGIN * (high - low) or 0.5
    low, high = low - margin, high + margin
    places = {
        name: np.rint(_FINEST * (values - low) / (high - low)).astype(int).tolist()
        for name, values in (("points", axis.points), ("memories", axis.memories))
    }
    words = {"group": axis.group, "name": axis.name, "title": axis.title, "loadings": axis.loadings}
    return {**words, "low": low, "high": high, **places}


def matrices_for_script(tree: xr.DataTree) -> dict[str, Any]:
    """Rows in the order of the matrices, the memory of each, where groups begin, and the probabilities in per cent."""
    groups = grouping(tree)
    order = groups.order
    partition = tree["partition"].to_dataset()
    rows = partition["row"].values[order]
    labels: list[str] = []
    if "label" in partition and has(tree, "memory"):
        labels = [memory_name(tree, int(label)) for label in partition["label"].sel(datum=rows).values]
    matrices = {"coclustering": partition["coclustering"].values}
    if has(tree, "recall", "same_basin"):
        matrices["same_basin"] = variable(tree, "recall", "same_basin").values
    percents = {
        name: base64.b64encode(np.rint(100 * values[np.ix_(order, order)]).astype(np.uint8).tobytes()).decode()
        for name, values in matrices.items()
    }
    places = {"cuts": groups.cuts.tolist(), "lines": groups.lines.tolist()}
    return {"row": rows.tolist(), "label": labels, **places, "percent": percents}
