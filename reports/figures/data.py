"""Figures of the data under the posterior: which data share a memory, and whether the model reproduces them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float, Int
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from probam.reports.figures.shown import bin_edges, panels, row_partition, shortened, shown_features
from probam.reports.figures.style import INK, MEMORY_COLOURS, new_figure, styled
from probam.reports.tree import rows_of, variable

__all__ = [
    "FEWEST_REPLICATES",
    "Grouping",
    "PredictiveCheck",
    "coclustering_figure",
    "draw_matrix",
    "expected_outside",
    "grouping",
    "predictive_check",
    "predictive_figure",
]

FEWEST_REPLICATES = 10
"""From so many replicated data sets on, a bin of the data outside their band says something."""

_SEQUENTIAL = LinearSegmentedColormap.from_list("probam-sequential", ["#f7f9fa", "#9fc3da", "#2f7fae", "#0b3c5d"])
_LINE = "#22272e"


class Grouping(NamedTuple):
    """The order of the data in matrices, and the positions at which a new group begins."""

    order: Int[np.ndarray, " R"]
    cuts: Int[np.ndarray, " G"]

    @property
    def edges(self) -> Int[np.ndarray, " E"]:
        """Where groups begin, and where the last one ends."""
        return np.concatenate([[0], self.cuts, [len(self.order)]])

    @property
    def wide(self) -> Bool[np.ndarray, " G1"]:
        """Which groups are wide enough for lines beside them and for their size: more lines would hide the matrix."""
        return np.asarray(np.diff(self.edges) >= 0.03 * len(self.order))

    @property
    def lines(self) -> Int[np.ndarray, " L"]:
        """Where lines stand: beside the wide groups."""
        return np.asarray(self.cuts[self.wide[1:] | self.wide[:-1]])


def grouping(tree: xr.DataTree) -> Grouping:
    """Data by the point partition, the largest group first, and within a group by how typical they are."""
    similarity = variable(tree, "partition", "coclustering").values
    labels = row_partition(tree)
    typical = np.array([similarity[i, labels == labels[i]].mean() for i in range(len(labels))])
    order = np.lexsort((-typical, labels, -np.bincount(labels)[labels]))
    return Grouping(order, np.flatnonzero(np.diff(labels[order])) + 1)


def draw_matrix(
    axes: Axes, name: str, matrix: Float[np.ndarray, "R R"], groups: Grouping, *, named: bool = True
) -> AxesImage:
    """Probabilities of pairs of data as an image in the order of the groups, with lines between them.

    Args:
        axes: the panel.
        name: by which the page's script knows the matrix.
        matrix: probabilities, in the order of the rows.
        groups: of the rows.
        named: whether the sizes of the groups stand beside it.
    """
    order, wide = groups.order, groups.wide
    axes.set_gid(f"matrix-{name}")
    image = axes.imshow(matrix[np.ix_(order, order)], cmap=_SEQUENTIAL, vmin=0, vmax=1, interpolation="none")
    for cut in groups.lines:
        axes.axhline(cut - 0.5, color=_LINE, lw=0.5)
        axes.axvline(cut - 0.5, color=_LINE, lw=0.5)
    edges = groups.edges
    centres = ((edges[1:] + edges[:-1] - 1) / 2)[wide]
    axes.set_yticks(centres, [f"{size} data" for size in np.diff(edges)[wide]] if named else [""] * len(centres))
    axes.set_xticks([])
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    return image


@styled
def coclustering_figure(tree: xr.DataTree) -> Figure:
    """How often two data share a memory; data ordered by the point partition and, within, by how typical they are."""
    figure = new_figure(5.6, 4.3)
    axes = figure.add_subplot()
    image = draw_matrix(axes, "coclustering", variable(tree, "partition", "coclustering").values, grouping(tree))
    bar = figure.colorbar(image, ax=axes, fraction=0.046, pad=0.03)
    bar.set_label("probability of sharing a memory")
    bar.outline.set_visible(False)  # type: ignore[operator]
    return figure


def expected_outside(num_replicates: int) -> float:
    """Share of the bars expected outside their band if the model were true.

    The datum's bar and those of R replicates are exchangeable, and the band runs between interpolated order
    statistics: it covers 0.9 (R - 1) / (R + 1).
    """
    return 1 - 0.9 * (num_replicates - 1) / (num_replicates + 1)


class PredictiveCheck(NamedTuple):
    """Observed and replicated histograms of one feature, as shares per bin."""

    feature: int
    edges: Float[np.ndarray, " B1"]
    observed: Float[np.ndarray, " B"]
    low: Float[np.ndarray, " B"]  # 5 % quantile over replicates
    middle: Float[np.ndarray, " B"]
    high: Float[np.ndarray, " B"]
    outside: Bool[np.ndarray, " B"]  # the observed share leaves [low, high]; never of fewer than ten replicates


def predictive_check(tree: xr.DataTree) -> list[PredictiveCheck]:
    """Histograms of the data against those of replicated data sets, for the features that are shown."""
    features = shown_features(tree)
    observed = rows_of(tree).values[:, features].astype(np.float64)
    replicated = variable(tree, "posterior_predictive", "x").transpose("chain", "draw", "datum", "feature").values
    replicated = replicated.reshape(-1, *replicated.shape[2:])
    checks = []
    for feature, values in zip(features, observed.T, strict=True):
        edges = bin_edges(values)
        shares = np.stack([_shares(drawn, edges) for drawn in replicated[:, :, feature].astype(np.float64)])
        low, middle, high = np.quantile(shares, [0.05, 0.5, 0.95], axis=0)
        own = _shares(values, edges)
        outside = ((own < low) | (own > high)) & (len(shares) >= FEWEST_REPLICATES)
        checks.append(PredictiveCheck(int(feature), edges, own, low, middle, high, outside))
    return checks


def _shares(values: Float[np.ndarray, " N"], edges: Float[np.ndarray, " B1"]) -> Float[np.ndarray, " B"]:
    return np.asarray(np.histogram(values, bins=edges)[0] / len(values))


@styled
def predictive_figure(tree: xr.DataTree, checks: Sequence[PredictiveCheck]) -> Figure:
    """Posterior predictive check: the data's histogram against the 90 % band of replicated data, feature by feature.

    Args:
        tree: the fit.
        checks: its histograms (:func:`predictive_check`).
    """
    names = variable(tree, "observed_data", "feature").values
    figure, all_axes = panels(len(checks), width=8.4 if len(checks) > 1 else 5.6, height=2.0, columns=3)
    for panel, check in zip(all_axes, checks, strict=True):
        low, high = (np.append(values, values[-1]) for values in (check.low, check.high))
        panel.fill_between(check.edges, low, high, color=MEMORY_COLOURS[0], alpha=0.25, step="post", lw=0)
        panel.stairs(check.middle, check.edges, color=MEMORY_COLOURS[0], lw=1.1, baseline=None)
        panel.stairs(check.observed, check.edges, color=INK, lw=1.3, baseline=None)
        centres = (check.edges[1:] + check.edges[:-1]) / 2
        panel.plot(centres[check.outside], check.observed[check.outside], "o", color=MEMORY_COLOURS[1], ms=4)
        panel.set_title(shortened(str(names[check.feature])))
        panel.set_ylim(bottom=0)
        panel.set_yticks([])
        panel.spines["left"].set_visible(False)
        panel.xaxis.set_major_locator(MaxNLocator(4))
    return figure
