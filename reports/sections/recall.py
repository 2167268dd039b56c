"""What recall says under the posterior: basins shared, attractors counted, barriers, doubtful queries, completions.

Every draw of a fit is an energy of its own; the ``recall`` group holds what recall on each of them found.
"""

import numpy as np
import xarray as xr
from jaxtyping import Int
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from probam.reports.figures.data import draw_matrix, grouping
from probam.reports.figures.posterior import draw_counts
from probam.reports.figures.shown import memory_name
from probam.reports.figures.style import GRID, inline_svg, memory_colour, new_figure, styled
from probam.reports.page import Section, count, escape, figure, number, percent, spelled, table, with_error
from probam.reports.summaries.quantities import engine_kind
from probam.reports.tree import has, variable

__all__ = ["attractors_figure", "basins_figure", "doubtful_queries", "queries_figure", "recall_section"]

_MOST_BARRIERS = 8
"""Memories between which barriers are listed."""

_CERTAIN = 0.995
"""A query that is recalled as one memory with this probability is not in doubt."""

_SMALL = 0.02
"""Memories below this probability at every doubtful query are drawn together."""


@styled
def basins_figure(tree: xr.DataTree) -> Figure:
    """How often two data share a memory, and how often a basin of recall, in one order."""
    groups = grouping(tree)
    figure = new_figure(8.4, 3.9)
    left, right = figure.subplots(1, 2)
    draw_matrix(left, variable(tree, "partition", "coclustering").values, groups)
    image = draw_matrix(right, variable(tree, "recall", "same_basin").values, groups, named=False)
    left.set_title("share a memory")
    right.set_title("are recalled to one place")
    bar = figure.colorbar(image, ax=[left, right], fraction=0.03, pad=0.02)
    bar.set_label("probability")
    bar.outline.set_visible(False)  # type: ignore[operator]
    return figure


@styled
def attractors_figure(tree: xr.DataTree) -> Figure:
    """Posterior of the number of attractors, and of those that no memory leads to."""
    found, spurious = (_counts(tree, name) for name in ("num_attractors", "num_spurious"))
    figure = new_figure(8.4 if spurious.any() else 4.6, 2.6)
    panels = figure.subplots(1, 1 + bool(spurious.any()), squeeze=False)[0]
    draw_counts(panels[0], found, "attractors")
    if len(panels) > 1:
        draw_counts(panels[1], spurious, "spurious attractors", least=0)
        panels[1].set_ylabel("")
    return figure


def doubtful_queries(tree: xr.DataTree) -> Int[np.ndarray, " Q"]:
    """Positions of the queries whose recall the posterior has not decided, the least certain first."""
    surest = variable(tree, "recall", "recall_probability").values.max(axis=1)
    order = np.argsort(surest, kind="stable")
    return np.asarray(order[surest[order] < _CERTAIN])


@styled
def queries_figure(tree: xr.DataTree) -> Figure:
    """For each doubtful query the probability of being recalled as each memory, as a stacked bar."""
    chosen = doubtful_queries(tree)
    share = variable(tree, "recall", "recall_probability").values[chosen].astype(np.float64)
    single = np.flatnonzero((share >= _SMALL).any(axis=0))
    rest = np.delete(share, single, axis=1).sum(axis=1)
    figure = new_figure(7.2, 0.9 + 0.27 * len(chosen))
    axes = figure.add_subplot()
    at = np.arange(len(chosen))
    left = np.zeros(len(chosen))
    handles = []
    parts = [(f"memory {memory_name(tree, int(k))}", share[:, k], memory_colour(int(k))) for k in single]
    parts += [("others", rest, "#c3cad1")] if rest.max(initial=0) > 1e-6 else []
    lost = 1 - share.sum(axis=1)
    parts += [("no rest", lost, GRID)] if lost.max(initial=0) > 1e-6 else []
    for name, width, colour in parts:
        axes.barh(at, width, left=left, color=colour, height=0.74, edgecolor="#ffffff", linewidth=0.6)
        left = left + width
        handles.append(Patch(fc=colour, label=name))
    axes.set_yticks(at, [f"query {q}" for q in chosen])
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
    axes.set_xlabel("posterior probability of being recalled as")
    figure.legend(handles=handles, loc="outside right upper")
    return figure


def recall_section(tree: xr.DataTree) -> Section | None:
    """What is recalled, and how sure; nothing for fits that recall was not run on draw by draw."""
    if not has(tree, "recall", "num_attractors"):
        return None
    is_point = engine_kind(tree) == "point"
    said = _opening(tree, is_point)
    body = f"<p>{said}</p>"
    if not is_point and _counts(tree, "num_attractors").std() + _counts(tree, "num_spurious").std() > 0:
        svg = inline_svg(attractors_figure(tree), "attractors", "Posterior of the number of attractors, a bar chart")
        body += figure(
            svg,
            "Places where recall comes to rest, from the data, the memories that hold data and the centres of the "
            "largest of them: a lower bound on the number of wells, draw by draw.",
        )
    if has(tree, "recall", "same_basin") and has(tree, "partition", "coclustering"):
        svg = inline_svg(basins_figure(tree), "basins", "Co-clustering matrix beside the matrix of shared basins")
        body += figure(
            svg,
            "Left: how often two data share a memory. Right: how often recall takes them to one place, in the same "
            "order. Where the right is darker, wells of several memories have merged.",
        )
    body += _barrier_table(tree, is_point) + _queries(tree, is_point) + _completion(tree)
    return Section("recall", "What is recalled, and how sure", body)


def _counts(tree: xr.DataTree, name: str) -> Int[np.ndarray, " S"]:
    return np.asarray(variable(tree, "recall", name).values.ravel().astype(int))


def _opening(tree: xr.DataTree, is_point: bool) -> str:
    found, spurious = (_counts(tree, name) for name in ("num_attractors", "num_spurious"))
    ghosts = "spurious (recall from no memory ends there)"
    if is_point:
        said = f"At the best setting found, recall comes to rest in {spelled(int(found[0]), 'place', 'places')}"
        return said + (f", {spelled(int(spurious[0]))} of them {ghosts}." if spurious[0] else ".")
    values, times = np.unique(found, return_counts=True)
    likely = int(values[times.argmax()])
    said = (
        f"Every draw of the posterior is an energy of its own. On {count(found.size)} of them recall was run from the "
        f"data: it comes to rest in {spelled(likely, 'place', 'places')} "
        f"with probability {percent(times.max() / found.size)}."
    )
    share = float(np.mean(spurious > 0))
    said += f" With probability {percent(share)} some place is {ghosts}." if share else " No place is spurious."
    unsettled = float(tree["recall"].attrs.get("unsettled", 0.0))
    return said + (f" {percent(unsettled)} of the recalls were cut off before they came to rest." if unsettled else "")


def _barrier_table(tree: xr.DataTree, is_point: bool) -> str:
    if not has(tree, "recall", "barrier"):
        return ""
    group = tree["recall"].to_dataset()
    middle, merged = group["barrier"].values.astype(np.float64), group["merged"].values
    known = np.flatnonzero(np.isfinite(np.diag(middle)))[:_MOST_BARRIERS]
    if len(known) < 2:
        return ""
    low, high = (group[f"barrier_{name}"].values.astype(np.float64) for name in ("q05", "q95"))

    def cell(i: int, j: int) -> str:
        if i == j or np.isnan(middle[i, j]):
            return "–"
        if merged[i, j] > 0.5:
            return "one well" if merged[i, j] == 1 else f"one well ({percent(float(merged[i, j]))})"
        text = number(float(middle[i, j]), 2)
        return text if is_point else f"{text} ({number(float(low[i, j]), 2)} to {number(float(high[i, j]), 2)})"

    names = [escape(memory_name(tree, int(k))) for k in known]
    rows = [[f"from {name}", *(cell(i, j) for j in known)] for name, i in zip(names, known, strict=True)]
    caption = "Barriers between memories, nats: how far the energy climbs on the lowest way found from one to the other"
    caption += "" if is_point else "; median and 90 % interval over the draws"
    remark = (
        "<p>A barrier of 3 nats means that the pass is 20 times less likely than the memory that is left; between "
        "memories of one well there is none. The heights are upper bounds: a lower way may have been missed.</p>"
    )
    return table(["", *(f"to {name}" for name in names)], rows, caption=caption) + remark


def _queries(tree: xr.DataTree, is_point: bool) -> str:
    if is_point or not has(tree, "recall", "recall_probability"):
        return ""
    chosen = doubtful_queries(tree)
    total = int(tree["recall"].sizes["query"])
    if not len(chosen):
        return f"<p>Each of the {count(total)} queries is recalled as the same memory in every draw.</p>"
    svg = inline_svg(queries_figure(tree), "queries", "Probability of each memory for the doubtful queries")
    group = tree["recall"].to_dataset()
    names = [escape(name) for name in group["feature"].values[:4]]
    header = ["query", *names, *(f"recalled {name}" for name in names)]
    rows = [
        [
            str(q),
            *(number(float(value)) for value in group["query"].values[q, : len(names)]),
            *(
                with_error(float(mean), float(sd))
                for mean, sd in zip(
                    group["recalled_mean"].values[q, : len(names)],
                    group["recalled_sd"].values[q, : len(names)],
                    strict=True,
                )
            ),
        ]
        for q in chosen
    ]
    body = (
        f"<p>Of {count(total)} queries, half of them the data whose memory is least certain, "
        f"{spelled(len(chosen), 'is', 'are')} recalled as different memories in different draws.</p>"
    )
    body += figure(svg, "Each bar: the probability with which the query is recalled as each memory, by its number.")
    caption = "The doubtful queries, and where recall ends: mean and standard deviation over the draws"
    return body + table(header, rows, caption=caption)


def _completion(tree: xr.DataTree) -> str:
    said = tree["recall"].attrs
    if "mse_descent" not in said:
        return ""
    names = {
        "mse_conditional_mean": "the exact conditional mean of the mixture",
        "mse_descent": "descent on the energy, observed entries held",
        "mse_column_mean": "the mean of the feature",
    }
    rows = [[what, number(float(said[name]), 3)] for name, what in names.items()]
    caption = "Mean squared error of hidden entries, in variances of their feature"
    return (
        "<p>Recall can fill in what is missing: hide half of the entries of a datum, hold the others and run downhill. "
        "It ends at a likely value. The exact conditional mean has the least expected squared error of all guesses, so "
        "it is what descent should be judged by. Here on data that the fit has seen:</p>"
        + table(["guess", "error"], rows, caption=caption)
    )
