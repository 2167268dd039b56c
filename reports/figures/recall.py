"""Figures of recall under the posterior: shared basins, numbers of attractors, queries whose recall is uncertain."""

import numpy as np
import xarray as xr
from jaxtyping import Int
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from probam.reports.figures.data import draw_matrix, grouping
from probam.reports.figures.posterior import draw_counts
from probam.reports.figures.shown import memory_name
from probam.reports.figures.style import GRID, OTHERS, memory_colour, new_figure, styled
from probam.reports.tree import has, variable

__all__ = ["attractors_figure", "basins_figure", "queries_figure", "query_names", "recall_counts", "uncertain_queries"]

_CERTAIN = 0.995
"""Recall of a query is certain where one memory has this probability."""

_SMALL = 0.02
"""Memories below this probability at every uncertain query are drawn together."""


@styled
def basins_figure(tree: xr.DataTree) -> Figure:
    """How often two data share a memory, and how often a basin of recall, in one order."""
    groups = grouping(tree)
    figure = new_figure(8.4, 3.9)
    left, right = figure.subplots(1, 2)
    draw_matrix(left, "coclustering", variable(tree, "partition", "coclustering").values, groups)
    image = draw_matrix(right, "same_basin", variable(tree, "recall", "same_basin").values, groups, named=False)
    left.set_title("share a memory")
    right.set_title("are recalled to one attractor")
    bar = figure.colorbar(image, ax=[left, right], fraction=0.03, pad=0.02)
    bar.set_label("probability")
    bar.outline.set_visible(False)  # type: ignore[operator]
    return figure


@styled
def attractors_figure(tree: xr.DataTree) -> Figure:
    """Posterior of the number of attractors, and of those that no memory leads to."""
    attractors, spurious = (recall_counts(tree, name) for name in ("num_attractors", "num_spurious"))
    figure = new_figure(8.4 if spurious.any() else 4.6, 2.6)
    panels = figure.subplots(1, 1 + bool(spurious.any()), squeeze=False)[0]
    draw_counts(panels[0], attractors, "attractors")
    if len(panels) > 1:
        draw_counts(panels[1], spurious, "spurious attractors", least=0)
        panels[1].set_ylabel("")
    return figure


def uncertain_queries(tree: xr.DataTree) -> Int[np.ndarray, " Q"]:
    """Positions of the queries whose recall the posterior has not decided, the least certain first."""
    surest = variable(tree, "recall", "recall_probability").values.max(axis=1)
    order = np.argsort(surest, kind="stable")
    return np.asarray(order[surest[order] < _CERTAIN])


def query_names(tree: xr.DataTree, chosen: Int[np.ndarray, " Q"]) -> list[str]:
    """Queries by their row of the data; by their number in files that do not have it."""
    if not has(tree, "recall", "query_row"):
        return [f"query {query}" for query in chosen]
    return [f"row {row}" for row in variable(tree, "recall", "query_row").values[chosen]]


@styled
def queries_figure(tree: xr.DataTree) -> Figure:
    """For each uncertain query the probability of being recalled as each memory, as a stacked bar."""
    chosen = uncertain_queries(tree)
    share = variable(tree, "recall", "recall_probability").values[chosen].astype(np.float64)
    single = np.flatnonzero((share >= _SMALL).any(axis=0))
    rest = np.delete(share, single, axis=1).sum(axis=1)
    figure = new_figure(7.2, 0.9 + 0.27 * len(chosen))
    axes = figure.add_subplot()
    at = np.arange(len(chosen))
    left = np.zeros(len(chosen))
    handles = []
    parts = [(f"memory {memory_name(tree, int(k))}", share[:, k], memory_colour(int(k))) for k in single]
    parts += [("others", rest, OTHERS)] if rest.max(initial=0) > 1e-6 else []
    lost = 1 - share.sum(axis=1)
    parts += [("not converged", lost, GRID)] if lost.max(initial=0) > 1e-6 else []
    for name, width, colour in parts:
        axes.barh(at, width, left=left, color=colour, height=0.74, edgecolor="#ffffff", linewidth=0.6)
        left = left + width
        handles.append(Patch(fc=colour, label=name))
    axes.set_yticks(at, query_names(tree, chosen))
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
    axes.set_xlabel("posterior probability of being recalled as")
    figure.legend(handles=handles, loc="outside right upper")
    return figure


def recall_counts(tree: xr.DataTree, name: str) -> Int[np.ndarray, " S"]:
    """A count of the ``recall`` group, ``num_attractors`` or ``num_spurious``, one number for each draw."""
    return np.asarray(variable(tree, "recall", name).values.ravel().astype(int))
