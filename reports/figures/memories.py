"""Figures of the memories in data units and of their weights."""

import numpy as np
import xarray as xr
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from probam.reports.figures.shown import (
    bin_edges,
    in_use,
    listed_memories,
    memory_name,
    panels,
    shortened,
    shown_features,
    shown_memories,
    some_rows,
)
from probam.reports.figures.style import GRID, OTHERS, memory_colour, new_figure, quiet, styled
from probam.reports.tree import has, rows_of, variable

__all__ = ["HEAT_MAP", "memories_figure", "weights_figure"]

HEAT_MAP = 24
"""With more features than this the memories are shown as a heat map."""

_DIVERGING = LinearSegmentedColormap.from_list(
    "probam-diverging", ["#8c3b00", "#e0a26f", "#f7f7f5", "#7fb2d6", "#0b4f80"]
)


@styled
def memories_figure(tree: xr.DataTree) -> Figure:
    """The memories in data units: a panel for each feature, or a heat map where there are many.

    In a panel the dot is the memory, the dark line its 90 % interval, the pale bar the spread of its data (one sd to
    each side), the silhouette behind it all the data.
    """
    if tree["observed_data"].sizes["feature"] > HEAT_MAP:
        return _memory_heat_map(tree)
    memories, features = shown_memories(tree), shown_features(tree)
    group = tree["memory"].to_dataset()
    x = rows_of(tree).values
    names = variable(tree, "observed_data", "feature").values
    figure, all_axes = panels(
        len(features), width=8.4 if len(features) > 1 else 5.6, height=0.75 + 0.24 * len(memories), columns=3
    )
    rows = np.arange(len(memories))[::-1]
    values = np.unique(x)
    low, high = (float(values[0]), float(values[1])) if len(values) == 2 else (-np.inf, np.inf)  # bits end there
    for panel, feature in zip(all_axes, features, strict=True):
        _silhouette(panel, x[:, feature], len(memories))
        for row, memory in zip(rows, memories, strict=True):
            colour = memory_colour(int(memory))
            strength = 1.0 if in_use(tree)[memory] else 0.45
            mean = float(group["mean"].values[memory, feature])
            if "sd" in group:
                spread = float(group["sd"].values[memory, feature])
                panel.plot(
                    np.clip([mean - spread, mean + spread], low, high),
                    [row, row],
                    color=colour,
                    lw=6,
                    alpha=0.25 * strength,
                    solid_capstyle="butt",
                )
            if "mean_q05" in group:
                ends = [float(group[name].values[memory, feature]) for name in ("mean_q05", "mean_q95")]
                panel.plot(ends, [row, row], color=colour, lw=2, alpha=strength, solid_capstyle="butt")
            panel.plot([mean], [row], "o", color=colour, alpha=strength, ms=4.5, mec="#ffffff", mew=0.6)
        panel.set_yticks(rows, [memory_name(tree, int(memory)) for memory in memories])
        panel.set_ylim(-0.7, len(memories) - 0.3)
        panel.tick_params(axis="y", length=0)
        panel.spines["left"].set_visible(False)
        panel.xaxis.set_major_locator(MaxNLocator(4))
        if len(values) == 2:
            panel.set_xlim(1.5 * low - 0.5 * high, 1.5 * high - 0.5 * low)
            panel.set_xticks([low, 0.5 * (low + high), high])
        panel.set_title(shortened(str(names[feature])))
    return figure


def _silhouette(axes: Axes, values: Float[np.ndarray, " N"], height: int) -> None:
    """All data of a feature as a pale histogram behind a panel."""
    counts, edges = np.histogram(values, bins=bin_edges(values))
    axes.stairs(counts / max(counts.max(), 1) * height - 0.7, edges, baseline=-0.7, fill=True, color=GRID, alpha=0.55)


def _memory_heat_map(tree: xr.DataTree) -> Figure:
    memories = shown_memories(tree)
    x = some_rows(tree)
    spread = x.std(axis=0)
    scores = (variable(tree, "memory", "mean").values[memories] - x.mean(axis=0)) / np.where(spread > 0, spread, 1)
    limit = float(np.abs(scores).max()) or 1.0
    figure = new_figure(8.4, 1.2 + 0.3 * len(memories))
    axes = figure.add_subplot()
    image = axes.imshow(scores, cmap=_DIVERGING, vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest")
    axes.set_yticks(np.arange(len(memories)), [memory_name(tree, int(memory)) for memory in memories])
    axes.set_ylabel("memory")
    names = [shortened(str(name), 14) for name in variable(tree, "observed_data", "feature").values]
    if len(names) <= 60:
        axes.set_xticks(np.arange(len(names)), names, rotation=90, fontsize=7)
    else:
        axes.set_xlabel(f"{len(names)} features, in the order of the columns")
    axes.tick_params(length=0)
    bar = figure.colorbar(image, ax=axes, pad=0.015, aspect=12)
    bar.set_label("sds from the mean")
    bar.outline.set_visible(False)  # type: ignore[operator]
    return figure


@styled
def weights_figure(tree: xr.DataTree) -> Figure:
    """Mixing weights with 90 % intervals: quantiles of the relabelled draws, or from mean and sd without those.

    Memories beyond those that pictures show are one bar, without an interval.
    """
    memories, others = shown_memories(tree), listed_memories(tree)[len(shown_memories(tree)) :]
    mean = variable(tree, "memory", "weight").values
    interval = _weight_interval(tree)
    names = [memory_name(tree, int(memory)) for memory in memories] + [f"{len(others)} others"] * bool(len(others))
    figure = new_figure(5.6, 0.8 + 0.24 * len(names))
    axes = figure.add_subplot()
    rows = np.arange(len(names))[::-1]
    for row, memory in zip(rows[: len(memories)], memories, strict=True):
        colour = memory_colour(int(memory))
        axes.plot([0, mean[memory]], [row, row], color=colour, lw=6, alpha=0.25, solid_capstyle="butt")
        if interval is not None:
            axes.plot(interval[:, memory], [row, row], color=colour, lw=2, solid_capstyle="butt")
        axes.plot([mean[memory]], [row], "o", color=colour, ms=4.5, mec="#ffffff", mew=0.6)
    if len(others):
        axes.plot([0, mean[others].sum()], [0, 0], color=OTHERS, lw=6, solid_capstyle="butt")
    axes.set_yticks(rows, names)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
    axes.set_xlabel("weight")
    axes.set_ylabel("memory")
    quiet(axes, grid="x")
    axes.tick_params(axis="y", length=0)
    return figure


def _weight_interval(tree: xr.DataTree) -> Float[np.ndarray, "2 K"] | None:
    group = tree["memory"].to_dataset()
    if "permutation" in group and has(tree, "posterior", "weights") and has(tree, "invariant"):
        kept = variable(tree, "invariant", "draw").values
        weights = variable(tree, "posterior", "weights").transpose("chain", "draw", "memory").sel(draw=kept).values
        weights = weights.reshape(-1, weights.shape[-1])
        if weights.shape == group["permutation"].shape and len(weights) > 1:
            relabelled = np.take_along_axis(weights, group["permutation"].values, axis=1)
            return np.asarray(np.quantile(relabelled, [0.05, 0.95], axis=0))
    if "weight_sd" in group and float(group["weight_sd"].max()) > 0:
        mean, sd = group["weight"].values, group["weight_sd"].values
        return np.clip(np.stack([mean - 1.645 * sd, mean + 1.645 * sd]), 0, 1)
    return None
