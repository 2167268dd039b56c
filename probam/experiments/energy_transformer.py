r"""Images completed by an Energy Transformer block, before and after training, and how its energy falls (claim D3).

Half of the patches of an image are hidden. The block moves one token for each patch downhill and reads the hidden ones;
it is trained by back-propagation through its steps on images that it is not tested on. The energy falls in continuous
time. How long a step may be is measured on the trained block, and on one of repelling tokens: the same keys, queries
that are minus the keys, a hundredth of beta and no memories.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Bool, Float

from probam.dynamics.patches import Completer, cut, energies_along, hide, joined, patch_side, train, untrained
from probam.experiments.experiment import Drawing, Experiment, Settings, register
from probam.experiments.finding import Finding, judged, mean_with_error, over_repeats, standard_errors
from probam.experiments.image_completion import by_gaussian, by_mean, by_nearest, hidden_error
from probam.experiments.image_retrieval import IMAGE_SETS, images
from probam.reports.figures.style import MEMORY_COLOURS, log_axis, new_figure, quiet, show_image, styled
from probam.reports.page import number, percent, table

__all__ = ["ENERGY_TRANSFORMER", "rising"]

_FACTORS = (1.0, 10.0, 100.0, 1000.0)
"""Lengths of a step, in multiples of the one that the block was trained with."""
_BLOCKS = ("trained", "repelling", "repelling, in turn")
_METHODS = {
    "mean image": by_mean,
    "nearest image": by_nearest,
    "Gaussian conditional": by_gaussian,
}
_NEW, _SHOWN, _FEW = 300, 6, 48
"""Images that are completed; of these shown, and used for the steps."""


def rising(completer: Completer, patches: Float[Array, "B N P"], hidden: Bool[Array, "B N"], block: str) -> list[float]:
    """Share of the steps that raise the energy, for each of :data:`_FACTORS`, in double precision.

    Args:
        completer: the trained one.
        patches, hidden: where the tokens start.
        block: one of :data:`_BLOCKS`.
    """
    weights = jax.tree.map(lambda w: w.astype(jnp.float64), completer.weights)
    memory = replace(completer, weights=weights).block
    if block != "trained":
        beta, none = 0.01 * jnp.asarray(memory.beta), jnp.zeros((0, weights.memories.shape[1]))
        memory = replace(memory, query_weights=-weights.key_weights, beta=beta, memories=none)
    memory = replace(memory, in_turn="in turn" in block)

    @jax.jit
    def path(step: Array, layers: Array) -> Array:
        return energies_along(replace(memory, step=step), layers, completer.num_steps)

    layers = replace(completer, weights=weights).layers(patches.astype(jnp.float64), hidden)
    shares = []
    for factor in _FACTORS:
        energies = np.asarray(path(jnp.asarray(factor * completer.step), layers))
        rounding = 1e-12 * np.abs(energies[:-1])
        shares.append(float(np.mean(np.diff(energies, axis=0) > rounding)))
    return shares


def _split(settings: Settings, pool: Float[np.ndarray, "I H W C"], split: int) -> Mapping[str, np.ndarray]:
    """Errors by method, shares of rising steps, energies along the steps and some completed images of one split."""
    rng = np.random.default_rng([settings.seed, split])
    order, shape = rng.permutation(len(pool)), pool.shape[1:]
    patches = cut(pool[order], patch_side(shape))
    new, stored = patches[:_NEW], patches[_NEW:]
    keys = jax.random.split(jax.random.key(int(rng.integers(2**31))), 3)
    hidden = hide(keys[0], _NEW, patches.shape[1], patches.shape[1] // 2)
    pixels = np.repeat(np.asarray(hidden)[..., None], patches.shape[2], axis=2).reshape(_NEW, -1)
    known, target = np.asarray(stored).reshape(len(stored), -1), np.asarray(new).reshape(_NEW, -1)
    filled = {name: method(known, target, pixels) for name, method in _METHODS.items()}
    sizes = {"dim": 64, "num_heads": 8, "num_memories": 256} if settings.full else {}
    start = untrained(keys[1], stored, **sizes)
    trained, _ = train(keys[2], start, stored, num_updates=20_000 if settings.full else 1500)
    complete = jax.jit(Completer.complete)
    for name, completer in (("untrained block", start), ("trained block", trained)):
        filled[name] = np.asarray(complete(completer, new, hidden)).reshape(_NEW, -1)
    few = slice(_FEW)
    seen = np.where(pixels, 0.0, target)
    shown = [rows[:_SHOWN].reshape(_SHOWN, *patches.shape[1:]) for rows in (target, seen, *filled.values())]
    return {
        "error": np.array([hidden_error(rows, target, pixels) for rows in filled.values()]),
        "rising": np.array([rising(trained, new[few], hidden[few], block) for block in _BLOCKS]),
        "energy": np.asarray(jax.jit(Completer.energies)(trained, new, hidden)).mean(axis=0),
        "shown": np.stack([np.asarray(joined(jnp.asarray(rows), shape)) for rows in shown]),
    }


def run(settings: Settings) -> xr.DataTree:
    """Errors of completion by method and split, and shares of steps that raise the energy, for each set of images."""
    splits = 5 if settings.full else 3
    made: dict[str, xr.Dataset] = {}
    for name, pool in images(settings.data, 2 * _NEW).items():
        parts = []
        for split in range(splits):
            settings.progress(split, splits, f"{name}, split {split + 1} of {splits}")
            parts.append(_split(settings, pool, split))
        of_all = {key: np.stack([part[key] for part in parts]) for key in ("error", "rising", "energy")}
        made[name] = xr.Dataset(
            {
                "error": (("split", "by"), of_all["error"]),
                "rising": (("split", "block", "factor"), of_all["rising"]),
                "energy": (("split", "step"), of_all["energy"]),
                "shown": (("kind", "image", "row", "column", "channel"), parts[0]["shown"]),
            },
            coords={
                "by": [*_METHODS, "untrained block", "trained block"],
                "block": list(_BLOCKS),
                "factor": list(_FACTORS),
                "kind": ["image", "seen", *_METHODS, "untrained block", "trained block"],
            },
            attrs={"num_stored": len(pool) - _NEW, "num_new": _NEW, "variance": float(pool.var())},
        )
    return xr.DataTree.from_dict(made)


# --- reading --------------------------------------------------------------------------------------------------


def _sets(tree: xr.DataTree) -> dict[str, xr.Dataset]:
    return {name: node.to_dataset() for name, node in tree.children.items()}


@styled
def figures(tree: xr.DataTree) -> Sequence[Drawing]:
    """Completed images, and the share of rising steps against their length."""
    return [drawing for name, data in _sets(tree).items() for drawing in (_completed(name, data), _steps(name, data))]


def _completed(name: str, data: xr.Dataset) -> Drawing:
    shown = data["shown"]
    kinds, count = list(data["kind"].values), shown.sizes["image"]
    figure = new_figure(6.4, 0.75 * len(kinds))
    grid = figure.subplots(len(kinds), count, squeeze=False)
    for row, kind in zip(grid, kinds, strict=True):
        for i, axes in enumerate(row):
            show_image(axes, shown.sel(kind=kind, image=i).values)
            axes.set_axis_off()
        row[0].text(-0.15, 0.5, kind, ha="right", va="center", transform=row[0].transAxes, fontsize=8)
    caption = (
        f"New images of {name}, what is seen of them (hidden patches empty), and how they are completed from "
        f"{data.attrs['num_stored']} stored images, or by the block."
    )
    return Drawing(f"completed_{name}", figure, caption)


def _steps(name: str, data: xr.Dataset) -> Drawing:
    figure = new_figure(6.4, 2.8)
    left, right = figure.subplots(1, 2)
    for split in range(data.sizes["split"]):
        left.plot(data["energy"].isel(split=split), "o-", ms=4, color=MEMORY_COLOURS[split])
    left.set(xlabel="step", ylabel="mean energy", xticks=range(data.sizes["step"]))
    for i, (block, mark) in enumerate(zip(data["block"].values, "os^", strict=True)):
        at = data["rising"].sel(block=block)
        spread = 2 * standard_errors(at, "split")
        right.errorbar(
            data["factor"], at.mean("split"), spread, fmt=f"{mark}-", ms=4, color=MEMORY_COLOURS[i], label=block
        )
    log_axis(right, "x")
    right.set(xlabel="length of a step / the trained one", ylabel="share of steps that rise")
    right.legend(fontsize=7, loc=(0.4, 0.25))
    for axes in (left, right):
        quiet(axes, grid="y")
    caption = (
        f"{name}. Left: mean energy of new images along the trained block's steps, one line a split. Right: share of "
        "steps that raise the energy; repelling tokens have the trained keys, and queries opposite to them. Bars are "
        "two standard errors over splits."
    )
    return Drawing(f"steps_{name}", figure, caption)


def findings(tree: xr.DataTree) -> Sequence[Finding]:
    """The falling energy is judged on any images; completion is a note, since these are not the paper's images."""
    made = []
    for name, data in _sets(tree).items():
        made += [_falls(name, data), _long_steps(name, data), *_completion(name, data)]
    return made


def _falls(name: str, data: xr.Dataset) -> Finding:
    rises = data["rising"].sel(block="trained", factor=1.0).values
    return judged(
        f"{name}: the energy of the trained block falls at every step. Of its steps on new images "
        f"{percent(float(rises.mean()))} raise it.",
        over_repeats(rises, "Share of steps that raise the energy", "splits"),
        (-np.inf, 1e-3),
        "A share above one in a thousand would have shown the opposite.",
    )


def _long_steps(name: str, data: xr.Dataset) -> Finding:
    rising = data["rising"]
    longest = rising.sel(block="trained", factor=_FACTORS[-1]).mean()
    repelling, in_turn = (rising.sel(block=block).max("factor") for block in _BLOCKS[1:])
    return Finding(
        f"{name}: of steps a thousand times as long {percent(float(longest))} raise the trained block's energy. Of the "
        f"steps of tokens that repel each other up to {percent(float(repelling.mean()))} raise it, so no theorem "
        f"forbids it; {percent(float(in_turn.mean()))} do where one token moves after the other, as a theorem says.",
        "note",
        over_repeats((repelling - in_turn).values, "All tokens at once less one after the other", "splits"),
        "A negative difference, or rises of tokens in turn, would have shown the opposite.",
    )


def _completion(name: str, data: xr.Dataset) -> list[Finding]:
    error = data["error"]
    ours = error.sel(by="trained block")
    made = []
    for method in [one for one in data["by"].values if one != "trained block"]:
        other = error.sel(by=method)
        gain = (1 - ours / other).values
        word = "smaller" if gain.mean() > 0 else "larger"
        made.append(
            Finding(
                f"{name}: the mean squared error of a hidden pixel is {number(float(ours.mean()), 3)} with the trained "
                f"block and {number(float(other.mean()), 3)} with the {method}: {word} by "
                f"{percent(abs(float(gain.mean())))}.",
                "note",
                over_repeats(gain, f"Relative gain over the {method}", "splits"),
                "A gain below zero would have shown that training, or the block, is not worth it.",
            )
        )
    return made


def tables(tree: xr.DataTree) -> Sequence[str]:
    """Errors of completion by method."""
    sets = _sets(tree)
    methods = list(next(iter(sets.values()))["by"].values)
    rows = [
        [method, *(mean_with_error(data["error"].sel(by=method).values) for data in sets.values())]
        for method in methods
    ]
    return [table(["completed by", *sets], rows, caption="Mean squared error of a hidden pixel")]


ENERGY_TRANSFORMER = register(
    Experiment(
        name="energy_transformer",
        title="Images completed by an Energy Transformer",
        question="Does the energy of a trained block fall at every step, and does it complete images better than those "
        "that are stored?",
        source="Hoover et al. (2023), Energy Transformer, arXiv:2302.07253",
        claims=("D3",),
        data=IMAGE_SETS,
        words=("standard error", "token"),
        run=run,
        figures=figures,
        findings=findings,
        tables=tables,
    )
)
