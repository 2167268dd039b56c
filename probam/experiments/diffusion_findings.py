"""What the experiment on diffusion as a memory shows: figures, findings and tables from its numbers."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from probam.experiments.diffusion_phases import PHASES
from probam.experiments.experiment import Drawing
from probam.experiments.finding import Finding, Measured, judged, mean_with_error, over_repeats
from probam.experiments.geometric_memorisation import crossing
from probam.reports.figures.style import MEMORY_COLOURS, MUTED, log_axis, new_figure, quiet, styled
from probam.reports.page import number, percent, table, with_error

__all__ = [
    "boundary_slopes",
    "expected_minima",
    "figures",
    "findings",
    "image_sets",
    "over",
    "shown_shares",
    "tables",
    "told",
]

_SETS = "sets of data"


def over(values: xr.DataArray, *dims: str) -> tuple[xr.DataArray, xr.DataArray]:
    """Mean and standard error over dimensions, of what is not NaN; an error of a single value is NaN."""
    counts = values.notnull().sum(dims)
    mean = values.fillna(0).sum(dims) / counts.where(counts > 0)
    square = ((values - mean) ** 2).fillna(0).sum(dims) / (counts - 1).where(counts > 1)
    return mean, (square / counts.where(counts > 0)) ** 0.5


def told(values: xr.DataArray, *dims: str) -> str:
    """Mean and standard error over dimensions, for readers."""
    mean, error = over(values, *dims)
    return with_error(float(mean), float(error))


def _each(data: xr.Dataset, dim: str) -> list[xr.Dataset]:
    """The parts of a dataset along a dimension."""
    return [data.isel({dim: i}) for i in range(data.sizes[dim])]


def _whole(at: xr.Dataset, values: xr.DataArray) -> xr.DataArray:
    """Means over all rests from those of each phase."""
    return (values * at["share"]).sum("phase")


def image_sets(tree: xr.DataTree) -> dict[str, xr.Dataset]:
    """Numbers of each set of images."""
    if "images" not in tree.children:
        return {}
    return {name: node.to_dataset() for name, node in tree["images"].children.items()}


def expected_minima(noise: float, radius: float) -> float:
    r"""Minima on the ring for many random data: \(\sqrt{3/2}\,\sqrt{R} / s\), by Rice's formula.

    The energy along the ring is then a Gaussian process in the angle, with the spectrum of two kernels of width
    \(s / \sqrt R\).

    Args:
        noise: s.
        radius: R, of the ring.
    """
    return float(np.sqrt(1.5 * radius) / noise)


def boundary_slopes(ring: xr.Dataset) -> np.ndarray:
    """Exponent of the number of data at which memorised rests become fewer than half, in the noise; one a repeat."""
    slopes = []
    for r in range(ring.sizes["repeat"]):
        at = [
            crossing(one["count"].values, one["share"].sel(phase="memorised").isel(repeat=r).values, 0.5)
            for one in _each(ring, "noise")
        ]
        known = np.isfinite(at)
        slopes.append(
            np.polyfit(np.log(ring["noise"].values[known]), np.log(np.array(at)[known]), 1)[0]
            if known.sum() > 1
            else np.nan
        )
    return np.array(slopes)


# --- figures --------------------------------------------------------------------------------------------------


def shown_shares(axes: Axes, counts: np.ndarray, share: xr.DataArray) -> None:
    """Shares of the phases against the number of data, with two standard errors."""
    mean, error = over(share, "repeat")
    for p, phase in enumerate(PHASES):
        line: dict[str, Any] = {"fmt": "o-", "ms": 3, "lw": 0.9, "color": MEMORY_COLOURS[p], "label": phase}
        axes.errorbar(counts, mean.sel(phase=phase), 2 * error.sel(phase=phase), **line)
    log_axis(axes, "x")
    axes.set(xlabel="number of data", ylim=(-0.05, 1.05))
    quiet(axes, grid="y")


@styled
def figures(tree: xr.DataTree) -> Sequence[Drawing]:
    """Phases on the circle, barriers and basins, the radius of the ring, and phases on images."""
    ring = tree["ring"].to_dataset()
    phases = new_figure(7.6, 3.1)
    for i, axes in enumerate(phases.subplots(1, ring.sizes["noise"], sharey=True)):
        at = ring.isel(noise=i)
        shown_shares(axes, at["count"].values, at["share"])
        axes.set_title(f"noise s = {float(at['noise']):g}")
    _labelled(phases)
    drawn = [
        Drawing(
            "phases",
            phases,
            "Random data on the unit circle: what the minima are in which recall from noisy data ends. Memorised: one "
            "datum has more than half of the responsibility. Spurious: several share it, stiff in every direction. "
            "Generalised: several share it, and a direction is soft. Bars: two standard errors over sets of data.",
        ),
        Drawing(
            "basins",
            _basins(ring),
            "Left: height of the lower of the two passes next to a minimum, means over three noises and all sets of "
            "data. Right: share of the minima to which recall leads back after a move by four times the noise, and "
            "after Langevin dynamics at the noise itself. The load is the number of data times the noise.",
        ),
        Drawing(
            "ring",
            _ring(tree["radius"].to_dataset()),
            "Distance of the minima from the centre. Line: the limit of infinitely many data, a ring that exists below "
            "s² = 1/2. Bars: two standard errors over sets of data.",
        ),
    ]
    for name, found in image_sets(tree).items():
        images = new_figure(7.6, 3.1)
        for i, axes in enumerate(images.subplots(1, found.sizes["multiple"], sharey=True)):
            at = found.isel(multiple=i)
            shown_shares(axes, at["count"].values, at["share"])
            axes.set_title(f"s = {float(at['multiple']):g} x {found.attrs['neighbour']:.3g}")
        _labelled(images)
        caption = (
            f"The same on images ({name}), at noises that are multiples of the distance between neighbours. Bars: two "
            "standard errors over sets of data."
        )
        drawn.append(Drawing(f"images_{name}", images, caption))
    return drawn


def _labelled(figure: Figure) -> None:
    """The label of the first panel, and one legend above all."""
    figure.axes[0].set_ylabel("share of the rests")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(PHASES))


def _basins(ring: xr.Dataset) -> Figure:
    figure = new_figure(7.6, 3.1)
    left, right = figure.subplots(1, 2)
    mean, error = over(ring["barrier"], "repeat", "noise")
    for p, phase in enumerate(PHASES):
        line: dict[str, Any] = {"fmt": "o-", "ms": 3, "lw": 0.9, "color": MEMORY_COLOURS[p], "label": phase}
        left.errorbar(ring["load"], mean.sel(phase=phase), 2 * error.sel(phase=phase), **line)
    log_axis(left, "x")
    log_axis(left, "y")
    left.set_ylabel("barrier (nats)")
    left.legend()
    whole = {
        "moved by 4 s": ring["returned"].sel(reach=4.0),
        "Langevin dynamics": ring["stayed"],
    }
    for p, (name, values) in enumerate(whole.items()):
        mean, error = over(_whole(ring, values), "repeat", "noise")
        right.errorbar(ring["load"], mean, 2 * error, fmt="s-", ms=3, lw=0.9, color=MEMORY_COLOURS[3 + p], label=name)
    log_axis(right, "x")
    right.set(ylabel="share that comes back", ylim=(-0.05, 1.05))
    right.legend()
    for axes in (left, right):
        axes.set_xlabel("load")
        quiet(axes, grid="y")
    return figure


def _ring(radius: xr.Dataset) -> Figure:
    figure = new_figure(5.6, 3.1)
    axes = figure.subplots()
    axes.plot(radius["square"], radius["limit"], color=MUTED, lw=1.2, label="infinitely many")
    axes.plot(
        radius["square"], radius["even"], "x", ms=5, color=MUTED, label=f"{radius.attrs['num_even']}, evenly spaced"
    )
    mean, error = over(radius["radius"], "repeat")
    for i, count in enumerate(radius["count"].values):
        line: dict[str, Any] = {"fmt": "o", "ms": 3.5, "color": MEMORY_COLOURS[i], "label": f"{count}, random"}
        axes.errorbar(radius["square"], mean.sel(count=count), 2 * error.sel(count=count), **line)
    axes.set(xlabel="s²", ylabel="distance from the centre")
    axes.legend(loc="lower left")
    quiet(axes, grid="y")
    return figure


# --- findings -------------------------------------------------------------------------------------------------


def findings(tree: xr.DataTree) -> Sequence[Finding]:
    """Few data, the boundary, many data, the ring, and images."""
    ring, radius = tree["ring"].to_dataset(), tree["radius"].to_dataset()
    return [
        _few(ring),
        _between(ring),
        *_many(ring, radius),
        _boundary(ring),
        _exact_ring(radius),
        *(_of_images(name, found) for name, found in image_sets(tree).items()),
    ]


def _few(ring: xr.Dataset) -> Finding:
    first = ring.isel(load=0)
    nats = told(first["barrier"].sel(phase="memorised"), "repeat", "noise")
    back = told(first["returned"].sel(phase="memorised", reach=4.0), "repeat", "noise")
    return judged(
        "Few data: each has a basin of attraction of its own. At the smallest load (1 to 4 data on the circle) the "
        f"barrier is {nats} nats, and from four times the noise recall leads back to a share of {back}.",
        over_repeats(
            first["share"].sel(phase="memorised").mean("noise").values,
            "Share of the rests at which one datum has more than half of the responsibility",
            _SETS,
        ),
        (0.9, 1.0 + 1e-9),
        "A share below 0.9 would have shown minima that belong to no single datum from the start.",
    )


def _between(ring: xr.Dataset) -> Finding:
    share = ring["share"].sel(phase="spurious").mean("noise")
    peak = int(share.mean("repeat").values.argmax())
    top = share.isel(load=peak)
    ends = np.maximum(share.isel(load=0), share.isel(load=-1))
    at = ring.isel(load=peak)
    nats = told(at["barrier"].sel(phase="spurious"), "repeat", "noise")
    back = told(at["returned"].sel(phase="spurious", reach=1.0), "repeat", "noise")
    counts = ", ".join(f"{int(one['count'])} at s = {float(one['noise']):g}" for one in _each(at, "noise"))
    return judged(
        "Spurious states appear at the boundary between memorising and generalising: minima at no datum, with basins "
        f"of their own. Their share is largest with {counts}: {told(top, 'repeat')}. There a "
        f"barrier of {nats} nats surrounds them, and recall leads back after a move by the "
        f"noise in a share of {back}.",
        over_repeats((top - ends).values, "Share of spurious rests there, less that at either end", _SETS),
        (0.0, np.inf),
        "A share that is as large with the fewest or with the most data would have shown the opposite.",
    )


def _many(ring: xr.Dataset, radius: xr.Dataset) -> Iterator[Finding]:
    last = ring.isel(load=-1)
    yield judged(
        "Many data: the minima merge to a manifold. At the largest load every rest is shared by many data and soft "
        "along the circle.",
        over_repeats(last["share"].sel(phase="generalised").mean("noise").values, "Share of generalised rests", _SETS),
        (0.9, 1.0 + 1e-9),
        "A share below 0.9 would have shown that isolated minima are left.",
    )
    first = ring.isel(load=0)
    stays = [float(_whole(at, at["stayed"]).mean()) for at in (first, last)]
    yield judged(
        "The manifold holds no single state: the noise at which the energy is taken carries states along it. Langevin "
        f"dynamics leaves {percent(1 - stays[1])} of the minima at the largest load and {percent(1 - stays[0])} at the "
        "smallest.",
        over_repeats(
            last["barrier"].sel(phase="generalised").mean("noise").values,
            "Barrier to the next minimum at the largest load",
            _SETS,
            "nats",
        ),
        (0.0, 1.0),
        "A barrier above one nat would have shown minima that hold their states.",
    )
    yield _minima(last, radius)


def _minima(last: xr.Dataset, radius: xr.Dataset) -> Finding:
    rings = np.interp(last["noise"].values ** 2, radius["square"].values, radius["limit"].values)
    expected = [expected_minima(float(s), float(r)) for s, r in zip(last["noise"], np.atleast_1d(rings), strict=True)]
    ratio = (last["minima"] / xr.DataArray(expected, dims="noise")).mean("noise")
    counted = ", ".join(number(float(n), 3) for n in last["minima"].mean("repeat"))
    return Finding(
        "With random data the ring is no perfect continuum: the minima become shallow, but not fewer. At the largest "
        f"load there are {counted} of them at s = {', '.join(f'{float(s):g}' for s in last['noise'])}, "
        f"{told(ratio, 'repeat')} times as many as by Rice's formula for the fluctuations of very many data, "
        "in which their number has no part. A number that falls with more data would have shown a continuum.",
        "note",
    )


def _boundary(ring: xr.Dataset) -> Finding:
    slopes = boundary_slopes(ring)
    slopes = slopes[np.isfinite(slopes)]
    return Finding(
        "What decides is the number of data within the noise: memorised rests become fewer than half at a number of "
        f"data that goes as s to the power {mean_with_error(slopes)} ({len(slopes)} sets). On a manifold "
        "of one dimension minus one is expected; a power of zero would have shown a capacity that does not depend on "
        "the noise.",
        "note",
    )


def _exact_ring(radius: xr.Dataset) -> Finding:
    gap = float(np.max(np.abs(radius["even"] - radius["limit"])))
    many = radius["radius"].isel(count=-1) - radius["limit"]
    below = many.sel(square=slice(None, 0.3)).mean("square")
    return judged(
        "In the limit of many data the minima form a ring, which exists below s² = 1/2: its radius is 0.83146 at "
        f"s² = 0.25, 0.19866 at 0.49, and 0 at 0.51. {radius.attrs['num_even']} evenly spaced data have it; "
        f"{int(radius['count'][-1])} random ones are off by {mean_with_error(below.values)} up to "
        "s² = 0.3, and by more near 1/2, where their own mean decides.",
        Measured(gap, 0.0, "Largest difference of the radius from the limit", "evenly spaced data, nothing is random"),
        (0.0, 0.01),
        "A ring at s² = 0.51, or none at 0.49, would have shown the opposite.",
    )


def _of_images(name: str, found: xr.Dataset) -> Finding:
    spurious = found["share"].sel(phase="spurious").stack(at=("multiple", "count"))
    top = spurious.isel(at=int(spurious.mean("repeat").values.argmax()))
    last = found.isel(count=-1)
    by_noise = "; ".join(
        f"{told(one['share'].sel(phase='memorised'), 'repeat')} at {float(one['multiple']):g}"
        for one in _each(last, "multiple")
    )
    stays = [told(_whole(at, at["stayed"]).mean("multiple"), "repeat") for at in (found.isel(count=0), last)]
    return Finding(
        f"{name}: with {int(last['count'])} images the shares of memorised rests are {by_noise} distances of "
        f"neighbours of noise. No noise and number has a share of spurious ones above {told(top, 'repeat')}: in so "
        "many dimensions a minimum that several images share is soft in some direction at once. The noise at which the "
        f"energy is taken leaves the minima there, too: Langevin dynamics stays at a share of {stays[0]} with "
        f"{int(found['count'][0])} images and {stays[1]} with {int(last['count'])}. A peak of spurious rests as on the "
        "circle would have shown the same three phases.",
        "note",
    )


# --- tables ---------------------------------------------------------------------------------------------------


def tables(tree: xr.DataTree) -> Sequence[str]:
    """Shares, barriers and basins by number of data: the circle at its middle noise, and images."""
    ring = tree["ring"].to_dataset()
    at = ring.isel(noise=ring.sizes["noise"] // 2)
    made = [_table(at, at["count"].values, f"Circle, noise {float(at['noise']):g}")]
    for name, found in image_sets(tree).items():
        for one in _each(found, "multiple"):
            title = f"Images ({name}), noise {float(one['multiple']):g} distances of neighbours"
            made.append(_table(one.rename(count="load"), found["count"].values, title))
    return made


def _table(at: xr.Dataset, counts: np.ndarray, caption: str) -> str:
    header = [
        "data",
        *PHASES,
        "back from s",
        "back from 4 s",
        "stays",
        "softest",
        *(["barrier"] if "barrier" in at else []),
    ]
    rows = []
    for i, count in enumerate(counts):
        one = at.isel(load=i)
        whole = [
            _whole(one, values)
            for values in (*(one["returned"].sel(reach=reach) for reach in (1.0, 4.0)), one["stayed"], one["softest"])
        ]
        whole += [_whole(one, one["barrier"])] if "barrier" in at else []
        shares = [one["share"].sel(phase=phase) for phase in PHASES]
        rows.append([str(int(count)), *(told(x, "repeat") for x in (*shares, *whole))])
    return table(header, rows, caption=caption)
