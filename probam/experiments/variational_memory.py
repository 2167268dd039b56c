r"""Recall of damaged images by the codes of an autoencoder, against modern Hopfield recall in pixels (claim D6).

A variational autoencoder is trained on one part of the images. Others are stored, by their codes alone, and recalled
from damaged copies: encode, move to the stored codes nearby, decode. Beside it stand the autoencoder without a memory,
and two modern Hopfield networks that keep the pixels, by dot products and by distances. Errors are squared, a pixel,
with pixels between 0 and 1; an image is recalled right if, of all stored ones, it is nearest to what was recalled.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float

from probam.energies.autoencoder import decode, encode, trained
from probam.energies.clam import Clam
from probam.energies.continuous_hopfield import ContinuousHopfield
from probam.energies.variational import Variational
from probam.experiments.experiment import Drawing, Experiment, Settings, register
from probam.experiments.finding import Finding, judged, mean_with_error, over_repeats, standard_errors
from probam.experiments.image_retrieval import IMAGE_SETS, Damage, damaged, images
from probam.reports.figures.style import MEMORY_COLOURS, new_figure, quiet, styled
from probam.reports.page import number, table

__all__ = ["VARIATIONAL_MEMORY", "Task", "recalls", "scored"]


class Task(NamedTuple):
    """A damage and its level, by name."""

    name: str
    damage: Damage
    level: float


_TASKS = (
    Task("none", "noise", 0.0),
    Task("noise, sd 0.1", "noise", 0.01),
    Task("noise, sd 0.3", "noise", 0.09),
    Task("pixels lost, 25 %", "random mask", 0.25),
    Task("rows lost, 25 %", "mask", 0.25),
)
_WIDTH, _NOISE = 0.1, 0.3
"""Standard deviation of a stored code, as in the paper; of a pattern around a decoded code, in the patterns' units."""
_METHODS = ("codes", "no memory", "pixels, dot product", "pixels, distance")

Recall = Callable[[Float[Array, "Q D"]], Float[Array, "Q D"]]


def recalls(memory: Variational, stored: Float[Array, "K D"]) -> dict[str, Recall]:
    """Recall by each method, by name."""
    dots, distances = ContinuousHopfield.store(stored), Clam.store(stored)
    return {
        "codes": memory.update,
        "no memory": lambda rows: decode(memory.autoencoder, encode(memory.autoencoder, rows)),
        "pixels, dot product": lambda rows: _repeated(dots.update, rows),
        "pixels, distance": lambda rows: _repeated(distances.update, rows),
    }


def _repeated(update: Recall, rows: Float[Array, "Q D"]) -> Float[Array, "Q D"]:
    """Ten updates, as many as codes have."""
    for _ in range(10):
        rows = update(rows)
    return rows


def scored(recalled: Float[Array, "K D"], stored: Float[Array, "K D"]) -> tuple[float, float]:
    """Mean squared error of a pixel, and share of the images that are recalled right."""
    distances = np.asarray(jnp.sum((recalled[:, None] - stored[None]) ** 2, axis=-1))
    right = np.argmin(distances, axis=1) == np.arange(len(stored))
    return float(jnp.mean((recalled - stored) ** 2)), float(right.mean())


def run(settings: Settings) -> xr.DataTree:
    """Errors and shares recalled right, by set of images, task, method and seed."""
    repeats, num_steps, num_units = (8, 20_000, 512) if settings.full else (4, 2000, 128)
    num_stored, num_codes = 64, 32
    sets = images(settings.data, 4 * num_stored)
    trees = {}
    for name, pool in sets.items():
        scores = np.empty((repeats, len(_TASKS), len(_METHODS), 2))
        for r in range(repeats):
            settings.progress(r, repeats, f"{name}, seed {r + 1} of {repeats}")
            key_train, *keys = jax.random.split(jax.random.key(settings.seed * 1000 + r), 1 + len(_TASKS))
            order = jnp.asarray(pool[np.random.default_rng([settings.seed, r]).permutation(len(pool))], float)
            rows, chosen = order[num_stored:].reshape(len(order) - num_stored, -1), order[:num_stored]
            sizes = {"num_codes": num_codes, "num_units": num_units, "num_steps": num_steps}
            autoencoder = trained(key_train, rows, _NOISE, **sizes)
            stored = chosen.reshape(num_stored, -1)
            methods = recalls(Variational(autoencoder, encode(autoencoder, stored), _WIDTH), stored)
            for i, (key, task) in enumerate(zip(keys, _TASKS, strict=True)):
                queries = damaged(key, chosen[None], jnp.asarray(task.level), task.damage)[0].reshape(stored.shape)
                scores[r, i] = [scored(methods[method](queries), stored) for method in _METHODS]
        trees[name] = xr.Dataset(
            {
                "error": (("repeat", "task", "by"), scores[..., 0]),
                "right": (("repeat", "task", "by"), scores[..., 1]),
            },
            coords={"task": [task.name for task in _TASKS], "by": list(_METHODS)},
            attrs={
                "num_stored": num_stored,
                "num_codes": num_codes,
                "num_pixels": int(np.prod(pool.shape[1:])),
            },
        )
    return xr.DataTree.from_dict(trees)


# --- reading --------------------------------------------------------------------------------------------------


@styled
def figures(tree: xr.DataTree) -> Sequence[Drawing]:
    """Errors and shares recalled right, by task and method."""
    return [_bars(name, child.to_dataset()) for name, child in tree.children.items()]


def _bars(name: str, numbers: xr.Dataset) -> Drawing:
    figure = new_figure(7.2, 3.4)
    labels = {"error": "squared error of a pixel", "right": "share recalled right"}
    for axes, (kind, label) in zip(figure.subplots(1, 2, sharey=True), labels.items(), strict=True):
        places = np.arange(numbers.sizes["task"])
        for i, method in enumerate(numbers["by"].values):
            at = numbers[kind].sel(by=method)
            bars = 2 * standard_errors(at, "repeat")
            told = str(method) if kind == "error" else None
            heights = places - 0.24 + 0.16 * i
            means, colour = at.mean("repeat").values, MEMORY_COLOURS[i]
            axes.errorbar(means, heights, xerr=bars.values, fmt="o", ms=4, color=colour, label=told)
        axes.set_yticks(places, list(numbers["task"].values))
        axes.set_xlabel(label)
        quiet(axes, grid="x")
    axes.invert_yaxis()
    figure.legend(loc="outside upper center", ncols=4)
    caption = (
        f"{name}: {numbers.attrs['num_stored']} stored images, recalled from damaged copies. With codes "
        f"{numbers.attrs['num_codes']} numbers of each image are kept, with pixels {numbers.attrs['num_pixels']}. Bars "
        "are two standard errors over seeds."
    )
    return Drawing(f"recall_{name}", figure, caption)


def findings(tree: xr.DataTree) -> Sequence[Finding]:
    """The memory against the autoencoder alone, and against recall in pixels."""
    return [found for name, child in tree.children.items() for found in _of_set(name, child.to_dataset())]


def _of_set(name: str, numbers: xr.Dataset) -> list[Finding]:
    made = []
    for task in ("noise, sd 0.1", "noise, sd 0.3", "pixels lost, 25 %", "rows lost, 25 %"):
        error = numbers["error"].sel(task=task)
        codes, alone = error.sel(by="codes"), error.sel(by="no memory")
        made.append(
            judged(
                f"The memory in the prior pulls the code to what is stored. On {name} ({task}) the error is "
                f"{_mean(codes)} with the memory and {_mean(alone)} with the autoencoder alone.",
                over_repeats((codes - alone).values, "With memory minus without", "seeds"),
                (-np.inf, 0.0),
                "A difference above zero would have shown the opposite.",
            )
        )
    for task in ("noise, sd 0.1", "rows lost, 25 %"):
        at = numbers.sel(task=task)
        gap = at["error"].sel(by="codes") - at["error"].sel(by="pixels, distance")
        shares = [f"{number(100 * float(at['right'].sel(by=m).mean()), 3)} %" for m in _METHODS]
        made.append(
            Finding(
                f"On {name} ({task}) recall by codes is right for {shares[0]} of the images; in pixels it is for "
                f"{shares[2]} by dot products and {shares[3]} by distances. The paper compares on CIFAR-10 and CLEVR.",
                "note",
                over_repeats(gap.values, "Error by codes minus that by distances of pixels", "seeds"),
                "A difference below zero would have shown that codes recall more exactly.",
            )
        )
    floor = numbers["error"].sel(task="none", by="codes")
    made.append(
        Finding(
            f"On {name} undamaged copies have an error too, that of decoding: {_mean(floor)} for "
            f"{numbers.attrs['num_codes']} numbers in place of {numbers.attrs['num_pixels']} pixels.",
            "note",
            over_repeats(floor.values, "Error without damage", "seeds"),
            "Zero would have shown that codes keep the whole image.",
        )
    )
    return made


def _mean(values: xr.DataArray) -> str:
    return number(float(values.mean()), 3)


def tables(tree: xr.DataTree) -> Sequence[str]:
    """Errors and shares by task and method."""
    made = []
    for name, child in tree.children.items():
        numbers = child.to_dataset()
        for kind, factor, what in (
            ("error", 1000, "squared error of a pixel, in thousandths"),
            ("right", 100, "images recalled right, %"),
        ):
            rows = [
                [str(task), *(mean_with_error(factor * numbers[kind].sel(task=task, by=m).values) for m in _METHODS)]
                for task in numbers["task"].values
            ]
            made.append(table(["damage", *_METHODS], rows, caption=f"{name}: {what}"))
    return made


VARIATIONAL_MEMORY = register(
    Experiment(
        name="variational_memory",
        title="Images recalled by the codes of an autoencoder",
        question="Does a memory in the prior of an autoencoder recall damaged images, and as well as one that keeps "
        "their pixels?",
        source="Annabi, Pitti and Quoy (2022), On the relationship between variational inference and auto-associative "
        "memory, arXiv:2210.08013",
        claims=("D6",),
        words=("standard error",),
        data=IMAGE_SETS,
        run=run,
        figures=figures,
        findings=findings,
        tables=tables,
    )
)
