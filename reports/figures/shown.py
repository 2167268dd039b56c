"""Which memories and features of a fit are shown, and the names that they have on the page."""

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from probam.reports.figures.style import OTHERS, memory_colour, new_figure
from probam.reports.tree import has, rows_of, variable

__all__ = [
    "PANELS",
    "bin_edges",
    "in_use",
    "is_uncertain",
    "listed_memories",
    "memory_colours",
    "memory_name",
    "panels",
    "row_partition",
    "shortened",
    "shown_features",
    "shown_memories",
    "some_rows",
]

PANELS = 12
"""Most features that get a panel each."""

_MOST_MEMORIES = 24

_MOST_ROWS = 20_000
"""Rows that the spread of a feature is taken of: of more, as many evenly spaced ones."""


def memory_name(tree: xr.DataTree, position: int) -> str:
    """The label of a memory as the fit numbers it."""
    return str(variable(tree, "memory", "memory").values[position])


def listed_memories(tree: xr.DataTree) -> Int[np.ndarray, " M"]:
    """Positions of the memories that are occupied in at least one draw in twenty, the heaviest first; at least one."""
    group = tree["memory"].to_dataset()
    weight = group["weight"].values
    occupied = group["occupied"].values if "occupied" in group else weight
    order = np.argsort(-weight, kind="stable")
    chosen = order[occupied[order] >= 0.05]
    return chosen if len(chosen) else order[:1]


def shown_memories(tree: xr.DataTree) -> Int[np.ndarray, " M"]:
    """Positions of the memories that pictures show: the first 24 of :func:`listed_memories`."""
    return listed_memories(tree)[:_MOST_MEMORIES]


def in_use(tree: xr.DataTree) -> Bool[np.ndarray, " K"]:
    """Which memories hold data in most draws."""
    group = tree["memory"].to_dataset()
    occupied = group["occupied"].values if "occupied" in group else np.ones(group.sizes["memory"])
    return np.asarray(occupied >= 0.5)


def memory_colours(tree: xr.DataTree) -> list[str]:
    """Colour of each memory: grey where pictures do not show it, so that no colour is without its number."""
    shown = set(shown_memories(tree).tolist())
    return [memory_colour(k) if k in shown else OTHERS for k in range(tree["memory"].sizes["memory"])]


def is_uncertain(tree: xr.DataTree) -> bool:
    """Whether the memories come with a posterior spread of their own."""
    return has(tree, "memory", "mean_sd") and float(variable(tree, "memory", "mean_sd").max()) > 0


def shown_features(tree: xr.DataTree, most: int = PANELS) -> Int[np.ndarray, " M"]:
    """Positions of the features in which the memories differ most, relative to the data's sd; in column order."""
    x = rows_of(tree).values
    if x.shape[1] <= most:
        return np.arange(x.shape[1])
    spread = some_rows(tree).std(axis=0)
    if not has(tree, "memory"):
        return np.sort(np.argsort(-spread, kind="stable")[:most])
    chosen = shown_memories(tree)
    means, weight = variable(tree, "memory", "mean").values[chosen], variable(tree, "memory", "weight").values[chosen]
    centred = means - np.average(means, axis=0, weights=weight)
    between = np.sqrt(np.average(centred**2, axis=0, weights=weight))
    return np.sort(np.argsort(-between / np.where(spread > 0, spread, np.inf), kind="stable")[:most])


def some_rows(tree: xr.DataTree) -> Float[np.ndarray, "M D"]:
    """The data or, of very many, evenly spaced ones: enough to say how wide a feature is."""
    x = rows_of(tree).values
    return np.asarray(x[:: -(-len(x) // _MOST_ROWS)])


def row_partition(tree: xr.DataTree) -> Int[np.ndarray, " M"]:
    """Cluster of each datum of the co-clustering matrix: the point partition, or the memory of each datum."""
    group = tree["partition"].to_dataset()
    if "point" in group:
        return np.asarray(group["point"].values)
    position = {datum: place for place, datum in enumerate(group["datum"].values.tolist())}
    return np.asarray([group["label"].values[position[row]] for row in group["row"].values.tolist()])


def bin_edges(values: Float[np.ndarray, " N"]) -> Float[np.ndarray, " B1"]:
    """Edges of bins over the data's range and one more at each end; short ranges of integers get a bin each."""
    low, high = float(values.min()), float(values.max())
    if high == low:
        return np.array([low - 0.5, low + 0.5])
    if high - low <= 40 and np.array_equal(values, np.round(values)):
        return np.arange(low - 1.5, high + 2)
    edges = np.histogram_bin_edges(values, bins=int(np.clip(3 * len(values) ** (1 / 3), 8, 36)))
    width = edges[1] - edges[0]
    return np.concatenate([[edges[0] - width], edges, [edges[-1] + width]])


def panels(count: int, *, width: float, height: float, columns: int) -> tuple[Figure, list[Axes]]:
    """A figure with several axes, and these axes.

    Args:
        count: number of axes.
        width: of the figure, in inches.
        height: of a row, in inches.
        columns: most axes in a row.
    """
    columns = min(columns, count)
    rows = -(-count // columns)
    figure = new_figure(width, height * rows)
    return figure, [figure.add_subplot(rows, columns, i + 1) for i in range(count)]


def shortened(name: str, most: int = 28) -> str:
    """A name that fits over a panel."""
    return name if len(name) <= most else name[: most - 1] + "…"
