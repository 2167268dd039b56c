"""Figures of the transformer laboratory, drawn from stored numbers alone."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from probam.experiments.experiment import Drawing
from probam.experiments.finding import standard_errors
from probam.experiments.transformer_findings import HIDDEN, PLAIN, gains, last, tree_studies
from probam.reports.figures.style import MEMORY_COLOURS, MUTED, log_axis, new_figure, quiet, styled

__all__ = ["figures"]


@styled
def figures(tree: xr.DataTree) -> Sequence[Drawing]:
    """Learning curves, differences, similarities, blocks, heads, capacities and the stage of hallucination."""
    studies = tree_studies(tree)
    made = [_curves(name, data) for name, data in studies.items() if name.startswith("characters")]
    made += [_differences(studies), _heads(tree["heads"].to_dataset()), _similarities(studies["similarities"])]
    made += [_blocks(studies["blocks"]), _capacities(tree["memories"].to_dataset()), _stages(studies["facts"])]
    return made


def _curves(name: str, data: xr.Dataset) -> Drawing:
    widths = data["width"].values
    figure = new_figure(7.2, 2.9)
    panels = figure.subplots(1, len(widths), squeeze=False)[0]
    for axes, width in zip(panels, widths, strict=True):
        for i, form in enumerate(data["form"].values):
            curve = data["curve"].sel(width=width, form=form, measure="loss").isel(step=slice(1, None))
            axes.plot(curve["step"], curve.mean("seed"), "-", color=MEMORY_COLOURS[i], label=form)
        axes.set(title=f"width {width}", xlabel="step", ylabel="held-out nats a character")
        quiet(axes, grid="y")
    panels[-1].legend(fontsize=7)
    caption = "Learning curves of characters by form of attention, means over seeds."
    return Drawing(f"{name}_curves", figure, caption)


def _differences(studies: dict[str, xr.Dataset]) -> Drawing:
    """A row for each study, width and form: the difference to tied attention with two standard errors."""
    figure = new_figure(7.2, 3.6)
    left, right = figure.subplots(1, 2)
    for axes, names, measure, label in (
        (left, [name for name in studies if name.startswith("characters")], "loss", "nats a character, less tied"),
        (right, ["facts"], "accuracy", "share of facts recalled, less tied"),
    ):
        rows: list[tuple[str, float, float, int]] = []
        for name in names:
            gained = gains(studies[name], measure)
            error = standard_errors(gained, "seed")
            norm = "RMS, " if name.endswith("rms") else ""
            for width in gained["width"].values:
                for i, form in enumerate(gained["form"].values, start=1):
                    chosen = {"width": width, "form": form}
                    mean, spread = float(gained.sel(chosen).mean()), 2 * float(error.sel(chosen))
                    rows.append((f"{form}, {norm}{width}", mean, spread, i))
        for place, (_, mean, spread, i) in enumerate(rows):
            axes.errorbar(mean, place, xerr=spread, fmt="o", ms=4, color=MEMORY_COLOURS[i])
        axes.axvline(0, color=MUTED, lw=0.8)
        axes.set_yticks(range(len(rows)), [row[0] for row in rows], fontsize=7)
        axes.invert_yaxis()
        axes.set_xlabel(label)
        axes.locator_params(axis="x", nbins=4)
        quiet(axes, grid="x")
    caption = (
        "Freed attention less tied attention with as many parameters, by form and width: nats (left of zero is better) "
        "and facts (right of zero is better). Bars are two standard errors over seeds."
    )
    return Drawing("differences", figure, caption)


def _heads(heads: xr.Dataset) -> Drawing:
    figure = new_figure(7.2, 2.9)
    panels = figure.subplots(1, 4)
    shown = {
        "log_concentration_sd": "sd of log concentrations",
        "log_weight_sd": "sd of log weights",
        "memories": "memories a query",
        "energy": "energy, nats",
    }
    layers = np.arange(heads.sizes["layer"])
    for axes, (name, label) in zip(panels, shown.items(), strict=True):
        values = heads[name].mean("head")
        error = 2 * standard_errors(values, "seed")
        for i, form in enumerate(heads["form"].values):
            shifted = layers + 1 + 0.06 * (i - 1.5)
            at = values.sel(form=form).mean("seed")
            axes.errorbar(shifted, at, error.sel(form=form), fmt="o-", ms=3, color=MEMORY_COLOURS[i], label=form)
        axes.set(xlabel="layer", xticks=layers + 1, ylabel=label)
        quiet(axes, grid="y")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, fontsize=7)
    caption = (
        f"Trained heads of width {heads.attrs['width']} as mixtures of von Mises-Fisher memories, by layer: how much "
        "concentrations and mixing weights differ between the tokens of a sequence, the effective number of memories "
        "that a query recalls, and the energy of a query (minus its log evidence, up to a constant). Means over heads; "
        "bars are two standard errors over seeds."
    )
    return Drawing("heads", figure, caption)


def _similarities(data: xr.Dataset) -> Drawing:
    at = last(data)
    order = np.argsort(at.mean("seed").values)
    figure = new_figure(6.0, 3.0)
    axes = figure.subplots()
    for place, i in enumerate(order):
        name = str(data["similarity"].values[i])
        values = at.isel(similarity=int(i)).values
        colour = MEMORY_COLOURS[1 if name == "dot" else 0]
        axes.plot(values, np.full(len(values), place), "o", ms=4, color=colour)
    axes.axvline(float(at.sel(similarity="dot").mean()), color=MUTED, lw=0.8)
    axes.set_yticks(range(len(order)), [str(data["similarity"].values[i]) for i in order])
    axes.invert_yaxis()
    axes.set_xlabel("held-out nats a character")
    axes.locator_params(axis="x", nbins=6)
    quiet(axes, grid="x")
    caption = "Attention by eleven similarities, one point for each seed; the line is the mean of the dot product."
    return Drawing("similarities", figure, caption)


def _blocks(data: xr.Dataset) -> Drawing:
    tasks = [str(task) for task in data["task"].values]
    figure = new_figure(3.6 * max(len(tasks), 1.4), 2.8)
    for axes, task in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
        for i, block in enumerate(data["block"].values):
            curve = data["curve"].sel(task=task, block=block, measure="loss").isel(step=slice(1, None))
            for seed in range(curve.sizes["seed"]):
                name = block if seed == 0 else None
                axes.plot(curve["step"], curve.isel(seed=seed), "-", color=MEMORY_COLOURS[i], label=name)
        constant = float(data["without_context"].sel(task=task).mean())
        axes.axhline(constant, color=MUTED, lw=0.8, ls=":", label="the same answer always")
        axes.set(xlabel="step", ylabel=HIDDEN[task])
        quiet(axes, grid="y")
        axes.legend(fontsize=7)
    caption = f"Masked {' and '.join(tasks)}: learning curves by block, a line for each seed."
    return Drawing("blocks", figure, caption)


def _capacities(data: xr.Dataset) -> Drawing:
    figure = new_figure(7.2, 2.9)
    left, right = figure.subplots(1, 2)
    for axes, name, dim, label, i in (
        (left, "by_sum", "sum_dim", "sum of products, half recalled", 0),
        (left, "trained", "dim", "trained, nine tenths recalled", 1),
        (right, "perceptron", "hidden", "trained, nine tenths recalled", 2),
    ):
        error = 2 * standard_errors(data[name], "seed")
        mean = data[name].mean("seed")
        axes.errorbar(data[dim], mean, error, fmt="o-", ms=4, color=MEMORY_COLOURS[i], label=label)
    dims = np.array([data["dim"].values[0], data["sum_dim"].values[-1]], float)
    left.plot(dims, dims**2 / (4 * np.log(dims)), ":", color=MUTED, lw=0.9, label="d² / (4 log d)")
    left.set(xlabel="dimensions", ylabel="pairs")
    right.set(xlabel=f"hidden units, {data.attrs['perceptron_dim']} dimensions", ylabel="pairs")
    for axes in (left, right):
        log_axis(axes, "x")
        log_axis(axes, "y")
        axes.legend(fontsize=7)
        quiet(axes, grid="y")
    caption = (
        "Pairs that a matrix (left) and a perceptron (right) recall. Bars are two standard errors over sets of pairs."
    )
    return Drawing("memories", figure, caption)


def _stages(data: xr.Dataset) -> Drawing:
    widths = data["width"].values
    figure = new_figure(7.2, 2.9)
    panels = figure.subplots(1, len(widths), squeeze=False)[0]
    for axes, width in zip(panels, widths, strict=True):
        curve = data["curve"].sel(width=width, form=PLAIN).mean("seed")
        for i, (measure, label) in enumerate(
            (("of the relation", "probability on answers of the relation"), ("accuracy", "share of facts recalled"))
        ):
            axes.plot(curve["step"], curve.sel(measure=measure), "-", color=MEMORY_COLOURS[i], label=label)
        other = axes.twinx()
        other.plot(curve["step"], curve.sel(measure="from the marginal"), ":", color=MUTED, label="from the marginal")
        other.set_ylabel("nats from the marginal")
        axes.set(title=f"width {width}", xlabel="step", ylim=(0, 1.02))
        quiet(axes, grid="y")
    panels[0].set_ylabel("probability or share")
    panels[0].legend(fontsize=7, loc="center right")
    caption = (
        "Stages of learning facts, tied attention, means over seeds: first the answers of the relation, then facts. "
        "Dotted: divergence of what the network says from the marginal of the answers given the relation."
    )
    return Drawing("stages", figure, caption)
