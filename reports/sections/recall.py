"""The section on recall under the posterior: attractors, shared basins, barriers, uncertain queries, completion.

Every draw of a fit defines an energy of its own; the ``recall`` group holds the results of recall on each of them.
"""

import numpy as np
import xarray as xr

from probam.reports.figures.recall import (
    attractors_figure,
    basins_figure,
    queries_figure,
    query_names,
    recall_counts,
    uncertain_queries,
)
from probam.reports.figures.shown import memory_name
from probam.reports.figures.style import inline_svg
from probam.reports.page import Section, count, escape, figure, number, percent, spelled, table, with_error
from probam.reports.summaries.quantities import engine_kind
from probam.reports.tree import has, variable

__all__ = ["recall_section"]

_MOST_BARRIERS = 8
"""Memories between which barriers are listed."""

_SPURIOUS = "spurious (recall from no memory ends there)"


def recall_section(tree: xr.DataTree) -> Section | None:
    """What is recalled, and how sure; nothing for fits that recall was not run on draw by draw."""
    if not has(tree, "recall", "num_attractors"):
        return None
    is_point = engine_kind(tree) == "point"
    body = f"<p>{_attractor_words(tree, is_point)}</p>"
    counts = [recall_counts(tree, name) for name in ("num_attractors", "num_spurious")]
    if not is_point and any(np.ptp(values) > 0 for values in counts):
        svg = inline_svg(attractors_figure(tree), "attractors", "Posterior of the number of attractors, a bar chart")
        body += figure(
            svg,
            "Number of points where recall ends, from the data, the memories that hold data and the centres of the "
            "largest of them: a lower bound on the number of wells in each draw.",
        )
    if has(tree, "recall", "same_basin") and has(tree, "partition", "coclustering"):
        svg = inline_svg(basins_figure(tree), "basins", "Co-clustering matrix beside the matrix of shared basins")
        body += figure(
            svg,
            "Left: probability that two data share a memory. Right: probability that recall takes them to the same "
            "attractor, in the same order. Where the right is stronger, the wells of several memories have merged.",
        )
    body += _barrier_table(tree, is_point) + _queries(tree, is_point) + _completion(tree)
    return Section("recall", "Recall at the point estimate" if is_point else "Recall under the posterior", body)


def _attractor_words(tree: xr.DataTree, is_point: bool) -> str:
    """How many attractors there are, how many of them are spurious, and how many recalls did not converge."""
    attractors, spurious = (recall_counts(tree, name) for name in ("num_attractors", "num_spurious"))
    if is_point:
        words = (
            f"Recall from the data and the memories ends at {spelled(int(attractors[0]), 'attractor', 'attractors')}"
        )
        words += f", {spelled(int(spurious[0]))} of them {_SPURIOUS}." if spurious[0] else "."
        return words + _unsettled_words(tree)
    values, times = np.unique(attractors, return_counts=True)
    mode = int(values[times.argmax()])
    words = (
        f"Each posterior draw defines an energy of its own. Recall from the data, on {count(attractors.size)} draws, "
        f"has {spelled(mode, 'attractor', 'attractors')} with probability {percent(times.max() / attractors.size)}."
    )
    share = float(np.mean(spurious > 0))
    if share:
        words += f" With probability {percent(share)} at least one is {_SPURIOUS}."
    else:
        words += " None is spurious."
    return words + _unsettled_words(tree)


def _unsettled_words(tree: xr.DataTree) -> str:
    """How many recalls did not come to rest; empty where all did."""
    unsettled = float(tree["recall"].attrs.get("unsettled", 0.0))
    return f" {percent(unsettled)} of the recalls were stopped before they converged." if unsettled else ""


def _barrier_table(tree: xr.DataTree, is_point: bool) -> str:
    if not has(tree, "recall", "barrier"):
        return ""
    group = tree["recall"].to_dataset()
    middle, merged = group["barrier"].values.astype(np.float64), group["merged"].values
    known = np.flatnonzero(np.isfinite(np.diag(middle)))
    heaviest = np.argsort(-variable(tree, "memory", "weight").values[known], kind="stable")[:_MOST_BARRIERS]
    known = known[np.sort(heaviest)].tolist()
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

    names = [escape(memory_name(tree, k)) for k in known]
    rows = [[f"from {name}", *(cell(i, j) for j in known)] for name, i in zip(names, known, strict=True)]
    caption = "Energy barriers between memories, nats: how far the energy rises along the lowest path found"
    caption += "" if is_point else "; median and 90 % interval over the draws"
    remark = (
        "<p>At a barrier of 3 nats the density at the pass is 20 times lower than at the memory where the path starts. "
        "Memories of one well have no barrier. The heights are upper bounds, because a lower path may exist.</p>"
    )
    return table(["", *(f"to {name}" for name in names)], rows, caption=caption) + remark


def _queries(tree: xr.DataTree, is_point: bool) -> str:
    if is_point or not has(tree, "recall", "recall_probability"):
        return ""
    chosen = uncertain_queries(tree)
    total = int(tree["recall"].sizes["query"])
    if not len(chosen):
        return f"<p>Each of the {count(total)} queries is recalled as the same memory in every draw.</p>"
    svg = inline_svg(queries_figure(tree), "queries", "Probability of each memory for the uncertain queries")
    group = tree["recall"].to_dataset()
    names = [escape(name) for name in group["feature"].values[:4]]
    header = ["query", *names, *(f"recalled {name}" for name in names)]
    rows = [
        [
            name,
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
        for name, q in zip(query_names(tree, chosen), chosen, strict=True)
    ]
    body = (
        f"<p>Of {count(total)} queries, {spelled(len(chosen), 'is', 'are')} recalled as different memories in "
        "different draws. Half of the queries are the data whose memory is least certain.</p>"
    )
    body += figure(svg, "One bar per query: the probability of being recalled as each memory, by number.")
    caption = "Uncertain queries, and where recall ends: mean and standard deviation over the draws"
    return body + table(header, rows, caption=caption)


def _completion(tree: xr.DataTree) -> str:
    attributes = tree["recall"].attrs
    if "mse_descent" not in attributes:
        return ""
    names = {
        "mse_conditional_mean": "exact conditional mean of the mixture",
        "mse_descent": "descent on the energy, observed entries fixed",
        "mse_column_mean": "mean of the feature",
    }
    rows = [[method, number(float(attributes[name]), 3)] for name, method in names.items()]
    caption = "Mean squared error of hidden entries, in variances of their feature"
    return (
        "<p>Recall can fill in missing entries: hide half of the entries of a datum, keep the others fixed and descend "
        "the energy. It ends at a likely value. The exact conditional mean has the smallest expected squared error of "
        "all methods, so it is the reference. These errors are on data that were fitted:</p>"
        + table(["method", "error"], rows, caption=caption)
    )
