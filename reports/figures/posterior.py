"""Figures of the chains, of the number of occupied memories and of the search."""

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from probam.errors import InputError
from probam.reports.figures.style import GRID, MEMORY_COLOURS, MUTED, log_axis, new_figure, quiet, styled
from probam.reports.summaries.agreement import worth_of_ends
from probam.reports.summaries.convergence import effective_draws
from probam.reports.summaries.diagnostics import Diagnosis
from probam.reports.summaries.quantities import engine_kind, last_values, quantity_name

__all__ = ["draw_counts", "occupied_figure", "optimisation_figure", "traces_figure"]

_TRACE_POINTS = 200
_ORDER = ("lp", "log_lik", "num_occupied", "weight_entropy", "largest_weight", "alpha", "discount")


@styled
def traces_figure(diagnosis: Diagnosis, *, most: int = 6) -> Figure:
    """Traces and rank plots of label-invariant quantities, one row each, one colour a chain.

    Right: the share of a chain's draws below each rank minus the share among all draws. The band is the
    Dvoretzky-Kiefer-Wolfowitz bound at a chain's own effective number of draws: a chain of a well-mixed run stays
    inside with probability at least 95 %.

    Args:
        diagnosis: of a fit with Markov chains.
        most: most quantities.
    """
    if diagnosis.kind != "chains":
        raise InputError("diagnosis: traces need Markov chains; this fit has none")
    names = _traced(diagnosis.summary, most)
    if not names:
        raise InputError("diagnosis: every label-invariant quantity is constant; there is nothing to trace")
    figure = new_figure(8.4, 1.35 * len(names) + 0.3)
    grid = figure.subplots(len(names), 2, squeeze=False, width_ratios=[2.1, 1.0])
    for row, name in enumerate(names):
        trace, rank = grid[row]
        values = diagnosis.draws[name]
        num_chains, num_draws = values.shape
        step = max(1, num_draws // _TRACE_POINTS)
        for chain in range(num_chains):
            colour = MEMORY_COLOURS[chain % len(MEMORY_COLOURS)]
            trace.plot(np.arange(num_draws)[::step], values[chain, ::step], color=colour, lw=0.7, alpha=0.85)
        trace.set_title(quantity_name(name))
        trace.set_xlim(0, max(num_draws - 1, 1))
        trace.yaxis.set_major_locator(MaxNLocator(3, integer=name == "num_occupied"))
        _rank_panel(rank, values)
        if row == 0:
            rank.set_title("rank ECDF difference")
        if row < len(names) - 1:
            trace.set_xticklabels([])
            rank.set_xticklabels([])
    grid[-1][0].set_xlabel("draw")
    grid[-1][1].set_xlabel("rank among all draws")
    return figure


def _traced(summary: pd.DataFrame, most: int) -> list[str]:
    """Quantities that get a row: those that move, the usual ones first, and at least the worst mixed of the others."""
    moving = [str(name) for name in summary.index[~summary["note"].isin(["constant", "not finite"])]]
    usual = [name for name in _ORDER if name in moving]
    by_r_hat = summary.loc[moving, "r_hat"].dropna().sort_values(ascending=False).index
    rest = [str(name) for name in by_r_hat if name not in usual]
    return (usual[: most - min(1, len(rest))] + rest)[:most]


def _rank_panel(axes: Axes, values: Float[np.ndarray, "C S"]) -> None:
    num_draws = values.shape[1]
    noise = np.random.default_rng(0).random(values.size)  # ties in random order, the same in every report
    rank = np.empty(values.size)
    rank[np.lexsort((noise, values.ravel()))] = (np.arange(values.size) + 1) / values.size
    at = np.linspace(0, 1, 61)
    band = np.sqrt(np.log(2 / 0.05) / (2 * max(effective_draws(values), 1)))
    axes.axhspan(-band, band, color=GRID, alpha=0.6, lw=0)
    for chain, own in enumerate(rank.reshape(values.shape)):
        share = np.searchsorted(np.sort(own), at, side="right") / num_draws
        axes.plot(at, share - at, color=MEMORY_COLOURS[chain % len(MEMORY_COLOURS)], lw=1)
    axes.set_xlim(0, 1)
    top = max(1.3 * band, max(abs(limit) for limit in axes.get_ylim()))
    axes.set_ylim(-top, top)
    axes.yaxis.set_major_locator(MaxNLocator(3, symmetric=True))
    axes.xaxis.set_major_locator(MaxNLocator(2))


@styled
def occupied_figure(counts: Int[np.ndarray, " S"]) -> Figure:
    """Posterior of the number of memories that hold data; ``counts`` has one number for each draw."""
    figure = new_figure(min(8.4, max(4.2, 1.6 + 0.42 * (np.ptp(counts) + 3))), 2.6)
    draw_counts(figure.add_subplot(), counts, "memories that hold data")
    return figure


def draw_counts(axes: Axes, counts: Int[np.ndarray, " S"], name: str, *, least: int = 1) -> None:
    """Posterior probability of each value of a count, as bars.

    Args:
        axes: where to draw.
        counts: one for each draw.
        name: of the count.
        least: the smallest possible value.
    """
    low, high = max(least, counts.min() - 1), counts.max() + 1
    at = np.arange(low, high + 1)
    share = np.array([np.mean(counts == k) for k in at])
    colours = [MEMORY_COLOURS[0] if k == at[share.argmax()] else "#9fb9c9" for k in at]
    axes.bar(at, share, width=0.72, color=colours)
    for k, p in zip(at, share, strict=True):
        if p > 0:
            axes.annotate(_percent(p), (k, p), (0, 3), textcoords="offset points", ha="center", fontsize=8.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=14))
    axes.set_xlim(low - 0.6, high + 0.6)
    axes.set_ylim(0, 1.12 * share.max())
    axes.set_xlabel(name)
    axes.set_ylabel("posterior probability")
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
    quiet(axes, grid="y")


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 else "<1%"


@styled
def optimisation_figure(tree: xr.DataTree) -> Figure:
    """The objective of every restart against its iterations; the best end is drawn strongly."""
    group = tree["optimisation"]
    objective = group["objective"].transpose("restart", "iteration").values.astype(np.float64)
    last = last_values(objective)
    best = int(np.nanargmax(worth_of_ends(tree)))
    bold = 0.9 if engine_kind(tree) == "approximation" else 1.8  # a noisy trace is thick enough by itself
    figure = new_figure(8.4, 2.7)
    axes = figure.add_subplot()
    for restart in [r for r in range(len(objective)) if r != best] + [best]:
        trace = objective[restart]
        step = max(1, int(np.isfinite(trace).sum()) // 400)
        at = np.flatnonzero(np.isfinite(trace))
        at = np.unique(np.append(at[::step], at[-1:]))
        strong = restart == best
        colour = MEMORY_COLOURS[0] if strong else MUTED
        axes.plot(at + 1, trace[at], color=colour, lw=bold if strong else 0.8, alpha=1 if strong else 0.55)
        axes.plot(at[-1:] + 1, trace[at[-1:]], "o", color=colour, ms=4 if strong else 2.5)
    finite = objective[np.isfinite(objective)]
    low = float(np.quantile(finite, 0.1))
    low = min(low, float(np.nanmin(last)))
    top = float(finite.max())
    span = max(top - low, 1e-6 * max(1.0, abs(top)))
    axes.set_ylim(low - 0.05 * span, top + 0.08 * span)
    axes.yaxis.get_major_formatter().set_useOffset(False)  # type: ignore[attr-defined]
    if objective.shape[1] > 300:
        log_axis(axes, "x")
    axes.set_xlabel("iteration")
    axes.set_ylabel(str(group.attrs.get("what", "objective")))
    quiet(axes, grid="y")
    return figure
