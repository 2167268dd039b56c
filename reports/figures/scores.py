"""Figures of fits side by side: their scores with errors, and their partitions on one plane."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from probam.reports.figures.partition import numbered_as
from probam.reports.figures.shown import panels, shortened
from probam.reports.figures.style import INK, MEMORY_COLOURS, MUTED, log_axis, memory_colour, new_figure, quiet, styled

__all__ = ["SCORES", "Scattered", "Score", "plane_figure", "score_of", "scores_figure"]

_MOST_POINTS = 1500
_VECTOR_POINTS = 400
"""Beyond so many rows the dots are drawn as pixels, which keeps the page small."""


class Score(NamedTuple):
    """A column that orders fits, and the columns of the difference to the best and of its error."""

    column: str
    difference: str
    error: str
    words: str


SCORES = (
    Score("log_score", "log_score_diff", "log_score_diff_se", "held-out log density, nats per row"),
    Score("elpd_loo", "elpd_diff", "elpd_diff_se", "leave-one-out log density, nats"),
)


class Scattered(NamedTuple):
    """Rows as points of a plane, and the memory of each row by each fit."""

    at: Float[np.ndarray, "N 2"]
    axes: tuple[str, str]
    labels: Mapping[str, Int[np.ndarray, " N"]]


def score_of(frame: pd.DataFrame) -> Score | None:
    """The score that orders the fits of a comparison; None where no fit has one."""
    return next((score for score in SCORES if frame[score.column].notna().any()), None)


@styled
def scores_figure(frame: pd.DataFrame, memories: Mapping[str, Int[np.ndarray, " S"]]) -> Figure:
    """A line for each fit, the best on top: score, memories that hold data, attractors where counted, and seconds.

    Bars of the score are two paired standard errors of the difference to the best. Bars of the memories hold 90 % of
    the draws.

    Args:
        frame: what :func:`probam.compare` returns.
        memories: how many memories hold data, draw by draw, of each fit.
    """
    score = score_of(frame)
    columns = [score.column] if score is not None else []
    columns += ["memories", "attractors_per_memory"] if frame["attractors_per_memory"].notna().any() else ["memories"]
    columns += ["seconds"]
    widths = [2.2 if column in ("log_score", "elpd_loo") else 1.0 for column in columns]
    figure = new_figure(8.4, 0.9 + 0.34 * len(frame))
    grid = figure.subplots(1, len(columns), squeeze=False, sharey=True, width_ratios=widths)[0]
    at = np.arange(len(frame))
    for panel, column in zip(grid, columns, strict=True):
        values = frame[column].to_numpy(np.float64)
        if score is not None and column == score.column:
            _score_panel(panel, frame, score)
        elif column == "memories":
            _memories_panel(panel, frame.index, memories)
        else:
            panel.plot(values, at, "o", color=MEMORY_COLOURS[0], ms=5)
            panel.set_xlabel("attractors per memory" if column == "attractors_per_memory" else "seconds")
        if column == "seconds":
            log_axis(panel, "x")
        quiet(panel, grid="x")
    names = [shortened(str(name), 20) for name in frame.index]
    grid[0].set_yticks(at, names)
    for label, place, missing in zip(grid[0].get_yticklabels(), at, frame["seconds"].isna(), strict=True):
        label.set_color(MUTED if missing else INK)
        if missing:
            corner = grid[0].get_yaxis_transform()
            grid[0].text(0.02, place, "not fitted", color=MUTED, va="center", fontsize=8.5, transform=corner)
    grid[0].set_ylim(len(frame) - 0.4, -0.6)
    for panel in grid:
        panel.tick_params(axis="y", length=0)
        panel.spines["left"].set_visible(False)
    return figure


def _score_panel(panel: Axes, frame: pd.DataFrame, score: Score) -> None:
    """Scores with two standard errors of the difference to the best; a line where the best is."""
    values = frame[score.column].to_numpy(np.float64)
    errors = 2 * frame[score.error].fillna(0).to_numpy(np.float64)
    at = np.arange(len(frame))
    finite = np.isfinite(values)
    panel.axvline(values[finite].max(), color=MUTED, lw=0.8, ls=(0, (3, 3)))
    style: dict[str, Any] = {"color": MEMORY_COLOURS[0], "ms": 5, "elinewidth": 1.6}
    panel.errorbar(values[finite], at[finite], xerr=errors[finite], fmt="o", **style)
    panel.xaxis.set_major_locator(MaxNLocator(5))
    panel.set_xlabel(score.words)


def _memories_panel(panel: Axes, names: "pd.Index[Any]", memories: Mapping[str, Int[np.ndarray, " S"]]) -> None:
    """The mean number of memories that hold data, and the interval of 90 % of the draws."""
    for place, name in enumerate(names):
        if name in memories:
            low, high = np.quantile(memories[name], [0.05, 0.95])
            panel.plot([low, high], [place, place], color=MEMORY_COLOURS[0], lw=1.6)
            panel.plot(memories[name].mean(), place, "o", color=MEMORY_COLOURS[0], ms=5)
    panel.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    panel.set_xlabel("memories in use")


@styled
def plane_figure(scattered: Scattered) -> Figure:
    """The rows on one plane, a panel for each fit; memories that share most rows have the same colour.

    Colours follow the first fit.
    """
    rows = np.sort(np.random.default_rng(0).permutation(len(scattered.at))[:_MOST_POINTS])
    reference = next(iter(scattered.labels.values()))
    figure, all_axes = panels(len(scattered.labels), width=8.4, height=2.5, columns=3)
    size = 9 if len(rows) < 400 else 5
    across, up = scattered.at.T
    for panel, (name, labels) in zip(all_axes, scattered.labels.items(), strict=True):
        shown = numbered_as(reference, labels)[rows]
        colours = [memory_colour(int(label)) for label in shown]
        pixels = len(rows) > _VECTOR_POINTS
        panel.scatter(across[rows], up[rows], s=size, c=colours, alpha=0.75, lw=0, rasterized=pixels)
        panel.set_title(f"{shortened(name, 20)}: {len(np.unique(labels))}")
        panel.xaxis.set_major_locator(MaxNLocator(4))
        panel.yaxis.set_major_locator(MaxNLocator(4))
    figure.supxlabel(scattered.axes[0], fontsize=9)
    figure.supylabel(scattered.axes[1], fontsize=9)
    return figure
