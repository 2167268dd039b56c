"""Figures of the energy landscape: wells, memories, recall, and where basins and assignments differ (CLAIMS A6).

The landscape of a fit lies on a plane in model units, x_model = origin + u axis_1 + v axis_2: the data's own axes in
one and two dimensions (then drawn in data units), the directions along which the memories lie farthest apart otherwise
(the two widest directions where there are no two memories), and for unit vectors the hemisphere seen from the mean
direction.
"""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float, Int
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, PowerNorm, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Ellipse, Patch
from scipy.ndimage import distance_transform_edt

from probam.reports.figures.shown import (
    in_use,
    is_uncertain,
    memory_colours,
    memory_name,
    shortened,
    shown_memories,
)
from probam.reports.figures.style import INK, MEMORY_COLOURS, MUTED, ink_on, memory_colour, new_figure, quiet, styled
from probam.reports.tree import has, rows_of, variable

__all__ = [
    "Disagreement",
    "DrawnPoints",
    "View",
    "disagreement",
    "disagreement_figure",
    "drawn_points",
    "is_line",
    "landscape_figure",
    "loadings",
    "view",
]

_MOST_POINTS = 3000
_VECTOR_POINTS = 800
"""Beyond so many data the dots are drawn as pixels, which keeps the page small."""

_NAMED = 3
"""Features that the label of an axis names."""

_PERIOD = 12
"""Width of a pair of stripes, in pixels of the picture."""

_WELLS = LinearSegmentedColormap.from_list("wells", ["#ffffff", "#eef2f5", "#d3dde5", "#bccad5", "#a3b5c3"])


class View(NamedTuple):
    """The map from data units to the plane of the landscape."""

    center: Float[np.ndarray, " D"]
    scale: Float[np.ndarray, " D"]
    origin: Float[np.ndarray, " D"]
    axis: Float[np.ndarray, "2 D"]
    own_axes: bool  # the plane is the data's own one or two features, drawn in data units
    spherical: bool

    def __call__(self, points: Float[np.ndarray, "... D"]) -> Float[np.ndarray, "... 2"]:
        """Coordinates in the drawing of points in data units."""
        return self.draw(np.asarray((((points - self.center) / self.scale) - self.origin) @ self.axis.T))

    def draw(self, plane: Float[np.ndarray, "... 2"]) -> Float[np.ndarray, "... 2"]:
        """Coordinates in the drawing of points on the plane (model units)."""
        if not self.own_axes:
            return plane
        count = len(self.center)
        out = np.array(plane, dtype=np.float64)
        out[..., :count] = (out[..., :count] + self.origin) * self.scale + self.center
        return out

    def spread(self, sds: Float[np.ndarray, "... D"]) -> Float[np.ndarray, "... 2"]:
        """Standard deviations along the drawing's axes of independent features with the given sds (data units)."""
        along = np.asarray(np.sqrt((sds / self.scale) ** 2 @ (self.axis.T**2)))
        if self.own_axes:
            along[..., : len(self.scale)] *= self.scale
        return along

    def behind(self, points: Float[np.ndarray, "N D"]) -> Bool[np.ndarray, " N"]:
        """Unit vectors on the far hemisphere, which the view does not show."""
        if not self.spherical:
            return np.zeros(len(points), bool)
        return np.asarray(((points - self.center) / self.scale) @ self.origin < 0)


def view(tree: xr.DataTree) -> View:
    """The view that the ``recall`` group of a fit was computed for."""
    recall, constants = tree["recall"].to_dataset(), tree["constant_data"].to_dataset()
    axis = recall["axis"].values.astype(np.float64)
    origin = recall["plane_origin"].values.astype(np.float64)
    spherical = bool(recall.attrs.get("spherical", 0))
    features = axis.shape[1]
    own = not spherical and features <= 2 and np.array_equal(axis, np.eye(2)[:, :features])
    center, scale = (constants[name].values.astype(np.float64) for name in ("center", "scale"))
    return View(center, scale, origin, axis, own, spherical)


class Disagreement(NamedTuple):
    """Where recall ends at another memory than the one most responsible."""

    of: str  # "data", or "queries" where no data were recalled
    num_data: int  # that were looked at
    num_differ: int
    plane_share: float  # of the drawn area, NaN where no landscape is stored


def disagreement(tree: xr.DataTree) -> Disagreement:
    """How many data, and how much of the drawn plane, are recalled as another memory than they are assigned to."""
    recall = tree["recall"].to_dataset()
    basin, responsible = ("datum_basin", "datum_responsible") if "datum_basin" in recall else ("basin", "responsible")
    differ = recall[basin].values != recall[responsible].values
    share = float("nan")
    if "grid_basin" in recall:
        grid, owner = recall["grid_basin"].values.astype(float), recall["grid_responsible"].values.astype(float)
        valid = np.isfinite(grid) & np.isfinite(owner)
        share = float(np.mean(grid[valid] != owner[valid])) if valid.any() else share
    return Disagreement("data" if "datum_basin" in recall else "queries", differ.size, int(differ.sum()), share)


def _grid(tree: xr.DataTree, seen: View) -> tuple[Float[np.ndarray, " X"], Float[np.ndarray, " Y"]]:
    recall = tree["recall"].to_dataset()
    x, y = recall["grid_x"].values.astype(np.float64), recall["grid_y"].values.astype(np.float64)
    across = seen.draw(np.stack([x, np.zeros_like(x)], axis=-1))[:, 0]
    up = seen.draw(np.stack([np.zeros_like(y), y], axis=-1))[:, 1]
    return across, up


def _image(
    axes: Axes, values: Any, across: Float[np.ndarray, " X"], up: Float[np.ndarray, " Y"], **options: Any
) -> None:
    """An image with its pixels centred on the points of the grid; the aspect and the rim of the axes are kept."""
    half_x, half_y = (across[1] - across[0]) / 2, (up[1] - up[0]) / 2
    extent = (across[0] - half_x, across[-1] + half_x, up[0] - half_y, up[-1] + half_y)
    image = axes.imshow(values, extent=extent, origin="lower", aspect=axes.get_aspect(), zorder=0.5, **options)
    for rim in axes.patches:
        image.set_clip_path(rim)


def _filled(values: np.ma.MaskedArray) -> np.ma.MaskedArray:
    """Values beyond the rim of the sphere taken from the nearest point within, so that pixels reach the rim."""
    outside = np.ma.getmaskarray(values)
    if not outside.any() or outside.all():
        return values
    nearest = distance_transform_edt(outside, return_distances=False, return_indices=True)
    return np.ma.masked_array(values.data[tuple(nearest)], np.zeros_like(outside))


def is_line(tree: xr.DataTree) -> bool:
    """Whether the landscape is a curve: one feature, or directions in the plane."""
    recall = tree["recall"].to_dataset()
    circle = bool(recall.attrs.get("spherical", 0)) and recall.sizes["feature"] == 2
    return circle or recall.sizes.get("grid_y", 1) == 1


@styled
def landscape_figure(tree: xr.DataTree) -> Figure:
    """Energy contours, the data, the memories with their uncertainty, recall from some queries and its end points.

    The pale ellipse of a memory spans one sd of its data, the dark one the 90 % region of its own position,
    both without the correlation between features, which the fit does not store.
    """
    seen = view(tree)
    if is_line(tree):
        return _curve(tree, seen)
    recall = tree["recall"].to_dataset()
    figure, axes = _plane_axes(tree, seen)
    across, up = _grid(tree, seen)
    energy = np.ma.masked_invalid(recall["grid_energy"].values.astype(np.float64))
    low, high = float(energy.min()), float(np.quantile(energy.compressed(), 0.97))
    if high > low:
        levels = low + (high - low) * np.linspace(0, 1, 15) ** 1.5
        norm = PowerNorm(0.6, vmin=low, vmax=high)
        whole = _filled(energy) if seen.spherical else energy  # other bodies end where they end
        _image(axes, whole, across, up, cmap=_WELLS, norm=norm, interpolation="bilinear")
        style: dict[str, Any] = {"colors": "#6d8294", "linewidths": 0.45, "linestyles": "solid"}
        lines = axes.contour(across, up, whole, levels=levels[1:], **style)
        for rim in axes.patches:
            lines.set_clip_path(rim)
    _data(axes, tree)
    _trajectories(axes, tree, seen)
    _memory_marks(axes, tree, seen)
    if "attractor" in recall:
        ends = recall["attractor"].values.astype(np.float64)
        ends = seen(ends[~seen.behind(ends)])
        axes.plot(ends[:, 0], ends[:, 1], "x", color="#000000", ms=15, mew=1.1, zorder=4.5)
    handles = [
        Line2D([], [], marker="o", ls="", color=MUTED, ms=3, label=_points(tree)),
        Line2D([], [], marker="o", ls="", color=MEMORY_COLOURS[0], mec="#ffffff", ms=10, label="memory, by number"),
        Line2D([], [], color=INK, lw=1, marker="s", ms=3.5, mfc="#ffffff", mec=INK, label="recall from a query"),
        Line2D([], [], marker="x", ls="", color=INK, mew=1.1, ms=9, label="where recall ends"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return figure


def _plane_axes(tree: xr.DataTree, seen: View) -> tuple[Figure, Axes]:
    across, up = _grid(tree, seen)
    ratio = (up[-1] - up[0]) / (across[-1] - across[0])
    height = 5.4 if seen.own_axes else float(np.clip(1.1 + 6.2 * ratio, 3.0, 6.6))
    figure = new_figure(7.2, height)
    axes = figure.add_subplot(facecolor="none" if seen.spherical else "#ffffff")
    axes.set_xlim(across[0], across[-1])
    axes.set_ylim(up[0], up[-1])
    names = [str(name) for name in variable(tree, "observed_data", "feature").values]
    if seen.own_axes:
        axes.set_xlabel(names[0])
        axes.set_ylabel(names[1])
    elif seen.spherical:
        axes.set_aspect("equal")
        axes.set_xlim(-1.04, 1.04)
        axes.set_ylim(-1.04, 1.04)
        axes.add_patch(Circle((0, 0), 1, fill=False, ec=MUTED, lw=0.8))
        axes.set_axis_off()
    else:
        axes.set_aspect("equal")
        units = " (model units)" if _points(tree) == "data" else ""
        if tree["recall"].attrs.get("plane") == "discriminant":
            first, second = (loadings(direction, tree) for direction in seen.axis)
            axes.set_xlabel(f"first separating direction{units}: {first}")
            axes.set_ylabel(f"second: {second}")
        else:
            axes.set_xlabel(f"first principal component of the {_points(tree)}{units}")
            axes.set_ylabel("second principal component")
    for side in axes.spines.values():
        side.set_visible(True)
    return figure, axes


def loadings(direction: Float[np.ndarray, " D"], tree: xr.DataTree) -> str:
    """The features that a direction has most of, with their coefficients."""
    names = [str(name) for name in variable(tree, "observed_data", "feature").values]
    most = np.argsort(-np.abs(direction), kind="stable")[:_NAMED]
    terms = [f"{'−' if direction[i] < 0 else '+'} {abs(direction[i]):.2f} {shortened(names[i], 16)}" for i in most]
    return " ".join(terms).removeprefix("+ ") + (" …" if len(names) > _NAMED else "")


def _points(tree: xr.DataTree) -> str:
    """What the points of the picture are."""
    return str(tree["recall"].attrs.get("points", "data"))


def _chosen_rows(tree: xr.DataTree) -> np.ndarray:
    count = tree["observed_data"].sizes["datum"]
    return np.sort(np.random.default_rng(0).permutation(count)[:_MOST_POINTS])


def _are_pixels(tree: xr.DataTree) -> bool:
    """Whether there are too many data to draw each as a shape of its own."""
    return tree["observed_data"].sizes["datum"] > _VECTOR_POINTS


class DrawnPoints(NamedTuple):
    """The data of the picture, in the order in which they are drawn."""

    row: Int[np.ndarray, " P"]
    at: Float[np.ndarray, "P 2"]
    behind: Bool[np.ndarray, " P"]  # on the far hemisphere, where there is one; the last of all


def drawn_points(tree: xr.DataTree) -> DrawnPoints:
    """Which data the picture of the landscape shows, and where."""
    seen, rows = view(tree), _chosen_rows(tree)
    x = rows_of(tree).values[rows].astype(np.float64)
    at, back = seen(x), seen.behind(x)
    order = np.argsort(back, kind="stable")
    order = order[np.isfinite(at[order]).all(axis=1)]
    return DrawnPoints(rows[order], at[order], back[order])


def _data(axes: Axes, tree: xr.DataTree) -> None:
    """The data as dots, in groups whose ids the page's script knows."""
    rows, at, back = drawn_points(tree)
    size = 9 if len(rows) < 400 else 5 if len(rows) < 1500 else 3
    colours = np.array(["#55606b"] * len(rows))
    if has(tree, "partition", "label"):
        labels = variable(tree, "partition", "label").values[rows].astype(int)
        colours = np.array(memory_colours(tree))[labels]
    for name, which, alpha in (("data", ~back, 0.75), ("data-behind", back, 0.15)):
        if which.any():
            style: dict[str, Any] = {"c": colours[which], "alpha": alpha, "lw": 0, "zorder": 2}
            axes.scatter(at[which, 0], at[which, 1], s=size, gid=name, rasterized=_are_pixels(tree), **style)


def _trajectories(axes: Axes, tree: xr.DataTree, seen: View) -> None:
    recall = tree["recall"].to_dataset()
    if "trajectory" not in recall:
        return
    for query, path in enumerate(recall["trajectory"].values.astype(np.float64)):
        path = path[np.isfinite(path).all(axis=1)]
        if not len(path) or (seen.spherical and seen.behind(path).any()):
            continue
        at, name = seen(path), f"recall-{query}"  # ids that the page's script knows
        axes.plot(at[:, 0], at[:, 1], color="#ffffff", lw=2.4, zorder=3, alpha=0.8, gid=f"{name}-halo")
        axes.plot(at[:, 0], at[:, 1], color="#000000", lw=0.9, zorder=3.1, gid=name)
        axes.plot(at[1:-1, 0], at[1:-1, 1], ".", color="#000000", ms=2, zorder=3.2, gid=f"{name}-steps")
        axes.plot(at[:1, 0], at[:1, 1], "s", mfc="#ffffff", mec="#000000", mew=0.8, ms=3.8, zorder=3.3)


def _memory_marks(axes: Axes, tree: xr.DataTree, seen: View, *, ellipses: bool = True) -> None:
    group = tree["memory"].to_dataset()
    shown = shown_memories(tree)
    for memory in shown[in_use(tree)[shown]][::-1]:
        colour = memory_colour(int(memory))
        mean = group["mean"].values[memory].astype(np.float64)
        if seen.spherical and seen.behind(mean[None])[0]:
            continue
        at = seen(mean)
        if ellipses and not seen.spherical:
            if "sd" in group:
                wide, tall = 2 * seen.spread(group["sd"].values[memory])
                axes.add_patch(Ellipse(tuple(at), wide, tall, fc=colour, ec=colour, alpha=0.13, lw=0, zorder=2.5))
            if is_uncertain(tree):
                wide, tall = 2 * np.sqrt(-2 * np.log(0.1)) * seen.spread(group["mean_sd"].values[memory])
                axes.add_patch(Ellipse(tuple(at), wide, tall, fill=False, ec=colour, lw=1.3, zorder=4))
        _numbered(axes, float(at[0]), float(at[1]), memory_name(tree, int(memory)), colour)


def _numbered(axes: Axes, x: float, y: float, number: str, colour: str) -> None:
    """A memory's mark: a disc that carries its number."""
    axes.plot([x], [y], "o", color=colour, mec="#ffffff", mew=1, ms=12, zorder=5)
    style: dict[str, Any] = {"ha": "center", "va": "center_baseline", "fontsize": 7.5, "weight": "bold"}
    axes.text(x, y, number, color=ink_on(colour), zorder=5.1, **style)


def _curve(tree: xr.DataTree, seen: View) -> Figure:
    """One feature: the energy as a curve over the data, with basins and assignments as two strips below."""
    recall = tree["recall"].to_dataset()
    across, _ = _grid(tree, seen)
    energy = recall["grid_energy"].values[0].astype(np.float64)
    figure = new_figure(7.2, 4.2)
    axes, strips = figure.subplots(2, 1, sharex=True, height_ratios=[5, 1])
    x = seen(rows_of(tree).values.astype(np.float64))[:, 0]
    counts, edges = np.histogram(x, bins=min(60, max(10, int(3 * np.sqrt(len(x))))))
    low, high = float(np.nanmin(energy)), float(np.nanquantile(energy, 0.97))  # NaN outside the support
    unit = (high - low) or 1.0
    axes.stairs(
        low + 0.45 * unit * counts / max(counts.max(), 1), edges, baseline=low, fill=True, color="#9aa7b3", alpha=0.35
    )
    axes.plot(across, energy, color=INK, lw=1.5)
    axes.set_ylim(low - 0.05 * unit, low + 1.08 * unit)
    axes.set_ylabel("energy")
    shown = shown_memories(tree)
    for memory in shown[in_use(tree)[shown]]:
        at = float(seen(variable(tree, "memory", "mean").values[memory].astype(np.float64))[0])
        height = float(np.interp(at, across, energy))
        if is_uncertain(tree) and has(tree, "memory", "mean_q05") and not seen.spherical:
            ends = [float(variable(tree, "memory", name).values[memory, 0]) for name in ("mean_q05", "mean_q95")]
            axes.plot(ends, [height, height], color=memory_colour(int(memory)), lw=3, solid_capstyle="butt", zorder=4)
        _numbered(axes, at, height, memory_name(tree, int(memory)), memory_colour(int(memory)))
    names = {"grid_responsible": str(recall.attrs.get("owner", "assigned to")), "grid_basin": "recalled as"}
    drawn = [name for name in names if name in recall]
    colours = memory_colours(tree)
    for row, name in enumerate(drawn):
        owners = recall[name].values[0]
        cuts = np.concatenate([[0], np.flatnonzero(np.diff(owners)) + 1, [len(owners)]])  # NaN: one point each
        for start, stop in itertools.pairwise(cuts):
            if np.isnan(owners[start]):
                continue
            ends = [float(across[start]), float(across[min(stop, len(across) - 1)])]
            strips.fill_between(ends, row - 0.35, row + 0.35, color=colours[int(owners[start])], alpha=0.8, lw=0)
    strips.set_yticks(range(len(drawn)), [names[name] for name in drawn])
    strips.tick_params(axis="y", length=0)
    strips.spines["left"].set_visible(False)
    strips.set_xlim(across[0], across[-1])
    strips.set_xlabel(
        "sine of the angle" if seen.spherical else str(variable(tree, "observed_data", "feature").values[0])
    )
    quiet(axes, grid="y")
    return figure


def _striped(
    owner: np.ma.MaskedArray, basin: np.ma.MaskedArray, colours_of: Sequence[str]
) -> Float[np.ndarray, "Y X 4"]:
    """Pixels in the pale colour of ``owner``, with stripes in the colour of ``basin`` where the two differ."""
    fine = max(1, 480 // max(owner.shape))
    hidden = np.kron(np.ma.getmaskarray(owner) | np.ma.getmaskarray(basin), np.ones((fine, fine), bool))
    first, second = (np.kron(values.filled(0).astype(int), np.ones((fine, fine), int)) for values in (owner, basin))
    colours = np.array([to_rgb(colour) for colour in colours_of])
    rows, columns = np.indices(first.shape)
    stripe = (first != second) & ((rows + columns) % _PERIOD < _PERIOD // 2)
    shade = np.where(stripe[..., None], 1 - 0.6 * (1 - colours[second]), 1 - 0.3 * (1 - colours[first]))
    return np.concatenate([shade, (~hidden)[..., None]], axis=-1)


@styled
def disagreement_figure(tree: xr.DataTree) -> Figure:
    """The plane in the colours of the memory most responsible; striped where recall ends at another one, in its colour.

    Solid lines bound the basins of recall, dashed ones the regions of responsibility; ringed data are recalled
    as another memory than they are assigned to.
    """
    seen = view(tree)
    if is_line(tree):
        return _curve(tree, seen)
    recall = tree["recall"].to_dataset()
    figure, axes = _plane_axes(tree, seen)
    across, up = _grid(tree, seen)
    owner = np.ma.masked_invalid(recall["grid_responsible"].values.astype(np.float64))
    basin = np.ma.masked_invalid(recall["grid_basin"].values.astype(np.float64))
    present = np.unique(np.concatenate([owner.compressed(), basin.compressed()])).astype(int)
    if seen.spherical:
        owner, basin = _filled(owner), _filled(basin)
    _image(axes, _striped(owner, basin, memory_colours(tree)), across, up, interpolation="nearest")
    for values, style in ((basin, "solid"), (owner, "dashed")):
        for memory in present:
            inside = np.where(values.mask, 0.0, (values.filled(-2) == memory).astype(float))
            if 0 < inside.sum() < inside.size:
                edge = axes.contour(
                    across, up, inside, levels=[0.5], colors=["#22272e"], linewidths=0.8, linestyles=style
                )
                for rim in axes.patches:
                    edge.set_clip_path(rim)
    _data(axes, tree)
    if "datum_basin" in recall:
        which = recall["datum_basin"].values != recall["datum_responsible"].values
        rows = recall["datum_row"].values[which]
        x = rows_of(tree).values[rows].astype(np.float64)
        at = seen(x[~seen.behind(x)])
        axes.plot(at[:, 0], at[:, 1], "o", mfc="none", mec="#000000", mew=0.8, ms=5.5, zorder=4)
    _memory_marks(axes, tree, seen, ellipses=False)
    handles: list[Line2D | Patch] = [
        Patch(fc="#dfe4e8", ec="#5c6773", hatch="////", label="recalled as another memory"),
        Line2D([], [], color=INK, lw=0.9, label="edge of a basin"),
        Line2D([], [], color=INK, lw=0.9, ls="dashed", label="edge of an assignment"),
        Line2D([], [], marker="o", ls="", mfc="none", mec=INK, ms=6, label="datum that differs"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return figure
