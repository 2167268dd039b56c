"""Figures of the experiment on universal Hopfield networks: curves of means, bands of one standard deviation."""

from collections.abc import Sequence

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from probam.energies.similarities import SIMILARITIES
from probam.experiments.experiment import Drawing
from probam.reports.figures.style import MUTED, log_axis, memory_colour, new_figure, quiet, show_image, styled
from probam.reports.page import number

__all__ = ["drawings"]

_PAPER = 50.0
_MARKERS = "osD^vPX*<>d"
_SIMILARITIES = tuple(SIMILARITIES)
"""In the order of their colours: a similarity has one colour and one mark in all figures."""


def _curves(axes: Axes, values: xr.DataArray, across: str, by: str, *, names: Sequence[str] | None = None) -> None:
    """One curve for each coordinate of ``by``: mean over sets with a band of one standard deviation."""
    for i, name in enumerate(values[by].values):
        one = values.sel({by: name})
        mean, spread = one.mean("set").values, one.std("set", ddof=1).values
        place = _SIMILARITIES.index(str(name)) if by == "similarity" else i
        x, style, colour = one[across].values, "-" if place < 8 else "--", memory_colour(place)
        label = str(name) if names is None else names[i]
        axes.plot(x, mean, marker=_MARKERS[place % 11], ms=3.5, ls=style, color=colour, label=label)
        axes.fill_between(x, mean - spread, mean + spread, color=colour, alpha=0.12, lw=0)
    axes.set_ylim(-0.03, 1.03)
    quiet(axes, grid="y")


def _panels(
    rows: Sequence[tuple[str, xr.DataArray]], across: str, by: str, xlabel: str, *, log: bool = False
) -> Figure:
    """A grid of panels, with a column for every image set and one legend on the right."""
    columns = rows[0][1]["images"].values
    figure = new_figure(2.6 * len(columns) + 2.0, 2.4 * len(rows) + 0.3)
    grid = figure.subplots(len(rows), len(columns), sharex="row", sharey=True, squeeze=False)
    for r, (title, values) in enumerate(rows):
        for c, name in enumerate(columns):
            axes = grid[r, c]
            _curves(axes, values.sel(images=name), across, by)
            axes.set_title(f"{name}\n{title}" if r == 0 else title, fontsize=8)
            if log:
                log_axis(axes, "x", values[across].values.tolist())
            if r == len(rows) - 1:
                axes.set_xlabel(xlabel)
        grid[r, 0].set_ylabel("fraction retrieved")
    figure.legend(*grid[0, -1].get_legend_handles_labels(), loc="outside right center")
    return figure


@styled
def drawings(tree: xr.DataTree) -> Sequence[Drawing]:
    """Figures 2, 3, 4, 14, 5, 6, 11, 7, 8, 12, 13 and 10, in that order."""
    at = {
        name: tree[name].to_dataset()["retrieved"].sel(threshold=_PAPER)
        for name in ("capacity", "separation", "noise", "mask", "further", "modern", "classical")
    }
    return [
        _similarities(at["capacity"]),
        _separations(at["separation"]),
        _noise(at["noise"]),
        _masks(at["mask"]),
        _further(at["further"]),
        _examples(tree),
        _heteroassociation(tree, at),
        _thresholds(tree),
        _reconstructions(tree["reconstructions"].to_dataset()),
        _errors(tree["errors"].to_dataset()),
    ]


def _similarities(capacity: xr.DataArray) -> Drawing:
    rows = [(str(rule), capacity.sel(rule=rule)) for rule in capacity["rule"].values]
    caption = (
        "Paper's Figure 2: fraction of half-masked images retrieved, for each similarity. First row: softmax on "
        "normalised scores, as in the paper's caption; second: on natural scores; third: max, as in the released "
        "program. Bands are one standard deviation over ten sets of images."
    )
    figure = _panels(rows, "num_memories", "similarity", "stored images", log=True)
    return Drawing("similarities", figure, caption)


def _separations(separation: xr.DataArray) -> Drawing:
    rows = [("normalised dot product", separation.isel(similarity=0))]
    caption = (
        "Paper's Figure 3: fraction of half-masked images retrieved with the normalised dot product, for each "
        "separation. Natural: separations applied to the scores as they are, without Appendix E's normalisations."
    )
    return Drawing("separations", _panels(rows, "num_memories", "rule", "stored images", log=True), caption)


def _max_and_softmax(values: xr.DataArray) -> list[tuple[str, xr.DataArray]]:
    """The largest memories under either rule, a row each."""
    most = int(values["num_memories"].max())
    largest = values.sel(num_memories=most)
    return [(f"max, K = {most}", largest.sel(rule="max")), (f"softmax, K = {most}", largest.isel(rule=0))]


def _noise(noise: xr.DataArray) -> Drawing:
    caption = (
        "Paper's Figure 4, upper row: fraction retrieved against the variance of Gaussian noise, clipped to "
        "[0, 1]. Softmax is at beta = 100 on normalised scores."
    )
    figure = _panels(_max_and_softmax(noise), "level", "similarity", "variance of the noise")
    return Drawing("damage", figure, caption)


def _masks(mask: xr.DataArray) -> Drawing:
    caption = "Paper's Figure 4, lower row: fraction retrieved against the part of the image set to zero, from the top."
    figure = _panels(_max_and_softmax(mask), "level", "similarity", "part masked from the top")
    return Drawing("masks", figure, caption)


def _further(further: xr.DataArray) -> Drawing:
    by_max = further.sel(rule="max")
    rows = [(f"{damage} 50%, max", by_max.sel(damage=damage)) for damage in ("random mask", "inpainting")]
    caption = (
        "Paper's Figure 14: random masking of half of the pixels, and inpainting of a border of a quarter of the "
        "height on each side."
    )
    return Drawing("further", _panels(rows, "num_memories", "similarity", "stored images", log=True), caption)


def _examples(tree: xr.DataTree) -> Drawing:
    shown = tree["examples"].to_dataset()
    count = shown.sizes["example"]
    figure = new_figure(1.3 * count, 3.0)
    grid = figure.subplots(3, count, squeeze=False, height_ratios=[2, 1, 1])
    for c in range(count):
        for r, name in enumerate(("query", "read", "wanted")):
            show_image(grid[r, c], shown[name].values[c])
            if c == 0:
                grid[r, c].set_ylabel(name)
    caption = (
        "Paper's Figure 5: whole images under noise of variance 0.5, the lower halves that the network reads out "
        "(normalised dot product, max, ten memories), and the true lower halves."
    )
    return Drawing("examples", figure, caption)


def _reconstructions(shown: xr.Dataset) -> Drawing:
    """Two kinds of damage side by side, each with what is read out below."""
    steps = shown.sizes["step"]
    figure = new_figure(8.4, 4.1)
    grid = figure.subplots(4, 2 * steps, squeeze=False)
    for d, damage in enumerate(shown["damage"].values):
        at = shown.sel(damage=damage)
        for c in range(steps):
            upper, lower = grid[2 * (d // 2) : 2 * (d // 2) + 2, steps * (d % 2) + c]
            show_image(upper, at["query"].values[c])
            show_image(lower, at["read"].values[c])
            level = number(float(at["level"][c]), 2)
            upper.set_title(f"{damage}\n{level}" if c == 0 else f"\n{level}", fontsize=7.5)
            if c == 0:
                upper.set_ylabel("query", fontsize=7.5)
                lower.set_ylabel("read", fontsize=7.5)
    caption = (
        f"Paper's Figures 7, 8, 12 and 13: an image of {shown.attrs['images']} under noise of growing variance, and "
        f"with growing parts set to zero; below each what is read out of {shown.attrs['stored']} images by the "
        "Manhattan distance and max. The paper has softmax; max, as in its released program, reads one image."
    )
    return Drawing("reconstructions", figure, caption)


def _errors(shown: xr.Dataset) -> Drawing:
    """What is read out above what was stored, by its error."""
    count = shown.sizes["example"]
    figure = new_figure(1.3 * count, 2.9)
    grid = figure.subplots(2, count, squeeze=False)
    for c in range(count):
        for axes, name in zip(grid[:, c], ("read", "wanted"), strict=True):
            show_image(axes, shown[name].values[c])
            if c == 0:
                axes.set_ylabel(name)
        grid[0, c].set_title(f"error {number(float(shown['error'][c]), 3)}", fontsize=8)
    caption = (
        f"Paper's Figure 10: half-masked images of {shown.attrs['images']} read out by the Manhattan distance and "
        "softmax at beta = 100 on normalised scores, by their squared error. The paper counts an image with an error "
        "below its threshold of 50 as retrieved; for smaller images the threshold is in proportion to their pixels."
    )
    return Drawing("errors", figure, caption)


def _heteroassociation(tree: xr.DataTree, at: dict[str, xr.DataArray]) -> Drawing:
    figure = new_figure(8.0, 2.8)
    left, middle, right = figure.subplots(1, 3, sharey=True)
    names = {"auto": "whole image", "hetero": "lower half"}
    modern = at["modern"]
    for axes, rule in ((left, "max"), (middle, str(modern["rule"].values[0]))):
        values = modern.sel(rule=rule)
        _curves(axes, values, "num_memories", "task", names=[names[str(task)] for task in values["task"].values])
        axes.set_title(f"{tree['modern'].attrs['images']}\n{rule}", fontsize=8)
    _curves(
        right,
        at["classical"],
        "num_memories",
        "task",
        names=[names[str(task)] for task in at["classical"]["task"].values],
    )
    right.set_title(f"{tree['classical'].attrs['images']}\nclassical network", fontsize=8)
    for axes, values in ((left, modern), (middle, modern), (right, at["classical"])):
        log_axis(axes, "x", values["num_memories"].values.tolist())
        axes.set_xlabel("stored images")
    left.set_ylabel("fraction retrieved")
    right.legend()
    caption = (
        "Paper's Figure 6: auto- and heteroassociation from the same scores. Noise of variance 0.5 for the modern "
        "network, binary images and their upper half as the query for the classical one. The threshold is 50."
    )
    return Drawing("heteroassociation", figure, caption)


def _thresholds(tree: xr.DataTree) -> Drawing:
    values = tree["capacity"].to_dataset()["retrieved"].sel(rule="max").isel(num_memories=-1)
    values = values.sel(similarity=["normalised dot", "squared euclidean", "manhattan"])
    columns = values["images"].values
    figure = new_figure(2.8 * len(columns), 2.6)
    for axes, name in zip(figure.subplots(1, len(columns), sharey=True, squeeze=False)[0], columns, strict=True):
        _curves(axes, values.sel(images=name), "threshold", "similarity")
        axes.axvline(_PAPER, color=MUTED, lw=0.8, ls=":")
        log_axis(axes, "x", [5, 20, 50, 100, 250])
        axes.set_title(str(name), fontsize=8)
        axes.set_xlabel("threshold")
    figure.axes[0].set_ylabel("fraction retrieved")
    figure.axes[0].legend()
    caption = (
        f"Paper's Figure 11: fraction retrieved against the threshold, {int(values['num_memories'])} half-masked "
        "images, max. The dotted line is the paper's threshold of 50. Small images have thresholds in proportion to "
        "their pixels; the axis has the paper's units."
    )
    return Drawing("thresholds", figure, caption)
