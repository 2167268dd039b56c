"""The point partition beside the partitions at the edge of its credible ball."""

import itertools
from collections.abc import Mapping

import numpy as np
import xarray as xr
from jaxtyping import Int
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.optimize import linear_sum_assignment

from probam.reports.figures.style import memory_colour, new_figure, styled
from probam.reports.tree import has, variable

__all__ = ["ball_figure", "ball_partitions", "has_ball", "numbered_as", "partitions_figure"]

_ROWS = {
    "point": "point partition",
    "ball_upper": "fewest groups",
    "ball_lower": "most groups",
    "ball_horizontal": "furthest",
}


def has_ball(tree: xr.DataTree) -> bool:
    """Whether the fit has a credible ball."""
    return all(has(tree, "partition", name) for name in _ROWS)


def ball_partitions(tree: xr.DataTree) -> dict[str, Int[np.ndarray, " R"]]:
    """The point partition and the bounds of its ball by name; clusters that share most data have the same number.

    Numbers follow the point partition; clusters of a bound that match none of its clusters come after them.
    """
    partitions = {name: variable(tree, "partition", name).values for name in _ROWS}
    return {name: numbered_as(partitions["point"], labels) for name, labels in partitions.items()}


def numbered_as(first: Int[np.ndarray, " R"], labels: Int[np.ndarray, " R"]) -> Int[np.ndarray, " R"]:
    """A partition with the numbers of another: clusters that share most data have the same number."""
    size = max(int(first.max()), int(labels.max())) + 1
    shared = np.zeros((size, size))
    np.add.at(shared, (labels, first), 1)
    return np.asarray(linear_sum_assignment(shared, maximize=True)[1][labels])


def ball_figure(tree: xr.DataTree) -> Figure:
    """One bar per partition, one colour per group; all bars have the data in the order of the point partition."""
    partitions = ball_partitions(tree)
    return partitions_figure({title: partitions[name] for name, title in _ROWS.items()})


@styled
def partitions_figure(partitions: Mapping[str, Int[np.ndarray, " R"]]) -> Figure:
    """One bar per partition, one colour per number; all bars have the data in the order of the first, then the next.

    Args:
        partitions: by title, numbered alike (:func:`numbered_as`).
    """
    order = np.lexsort(tuple(reversed([*partitions.values()])))
    figure = new_figure(6.4, 0.7 + 0.25 * len(partitions))
    axes = figure.add_subplot()
    for row, labels in enumerate(partitions.values()):
        own = labels[order]
        edges = np.concatenate([[0], np.flatnonzero(np.diff(own)) + 1, [len(own)]])
        for first, last in itertools.pairwise(edges.tolist()):
            axes.barh(row, last - first, left=first, height=0.7, color=memory_colour(int(own[first])), lw=0)
    axes.set_yticks(range(len(partitions)), list(partitions))
    axes.invert_yaxis()
    axes.set_xlim(0, len(order))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xlabel("data, ordered by group")
    axes.tick_params(axis="y", length=0)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    return figure
