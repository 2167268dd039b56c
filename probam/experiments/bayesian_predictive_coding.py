r"""Recall error of a Bayesian predictive-coding memory against the number of patterns that were written (claim D5).

Images are written one after the other into a hierarchy of fixed size, with and without forgetting. After some numbers
of writes two sets are recalled, the images that were written first and those that were written last: completed, where
half of the pixels are missing, and from noisy copies. Two modern Hopfield networks keep all images and recall the same
queries: by dot products, as it is printed, and by distances, which is a Gaussian mixture with a component for each
image. Errors are squared, a pixel, with pixels between 0 and 1.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Bool, Float

from probam.dynamics.memories import complete
from probam.energies.bayesian_predictive_coding import BayesianPredictiveCoding
from probam.energies.clam import Clam
from probam.energies.continuous_hopfield import ContinuousHopfield
from probam.energies.memory import Memory
from probam.experiments.experiment import Drawing, Experiment, Settings, register
from probam.experiments.finding import Finding, Measured, judged, mean_with_error, over_repeats, standard_errors
from probam.experiments.image_retrieval import IMAGE_SETS, images
from probam.reports.figures.style import MEMORY_COLOURS, MUTED, log_axis, new_figure, quiet, styled
from probam.reports.page import number, table

__all__ = ["BAYESIAN_PREDICTIVE_CODING", "Queries", "damaged_queries", "recall_errors"]

_BLOCK = 16
"""Images that are written at a time, and that are recalled: the first and the last of this number."""
_RATES = (0.0, 0.01)
"""Shares of the weights that return to the prior before each write."""
_MISSING, _NOISE, _STEPS = 0.5, 0.2, 20
"""Share of missing pixels; standard deviation of the noise; updates of a completion."""
_TASKS = ("completion", "noise")
_NETWORKS: dict[str, type[Memory]] = {"Hopfield, dot product": ContinuousHopfield, "Hopfield, distance": Clam}
"""Modern Hopfield networks, which keep all images."""


class Queries(NamedTuple):
    """Images (Q, D), which pixels are missing, copies without them (at 1/2), and noisy copies."""

    images: Float[Array, "Q D"]
    missing: Bool[Array, "Q D"]
    masked: Float[Array, "Q D"]
    noisy: Float[Array, "Q D"]


def damaged_queries(rng: np.random.Generator, rows: Float[Array, "Q D"]) -> Queries:
    """Queries for both tasks."""
    missing = jnp.asarray(rng.random(rows.shape) < _MISSING)
    noisy = rows + _NOISE * jnp.asarray(rng.normal(size=rows.shape))
    return Queries(rows, missing, jnp.where(missing, 0.5, rows), noisy)


def recall_errors(memory: Memory, queries: Queries) -> tuple[float, float]:
    """Mean squared error of the missing pixels after completion, and of all pixels after one update from noise."""
    assert memory.update is not None
    completed = complete(memory, queries.masked, queries.missing, max_steps=_STEPS).states
    recalled = memory.update(queries.noisy)
    return (
        float(jnp.mean((completed - queries.images) ** 2, where=queries.missing)),
        float(jnp.mean((recalled - queries.images) ** 2)),
    )


def run(settings: Settings) -> xr.DataTree:
    """Errors by set of images, number of writes, memory and age; and what erasing does."""
    ladder = (16, 64, 256, 1024) if settings.full else (16, 64, 256)
    repeats, width = (10, 256) if settings.full else (4, 64)
    sets = images(settings.data, ladder[-1] + _BLOCK)
    trees = {}
    for name, pool in sets.items():
        rows = jnp.asarray(pool.reshape(len(pool), -1), float)
        errors = np.empty((repeats, len(_RATES) + len(_NETWORKS), len(ladder), 2, len(_TASKS)))
        erased = np.empty((repeats, 3))
        chance = np.empty((repeats, len(_TASKS)))
        for r in range(repeats):
            settings.progress(r, repeats, f"{name}, order {r + 1} of {repeats}")
            rng = np.random.default_rng([settings.seed, r])
            order = rows[rng.permutation(len(rows))[: ladder[-1] + _BLOCK]]
            errors[r] = _one_order(rng, order, ladder, width, r)
            erased[r] = _after_erasing(rng, order, width, r)
            chance[r] = float(jnp.mean((rows - jnp.mean(rows, axis=0)) ** 2))
        trees[name] = xr.Dataset(
            {
                "error": (("repeat", "memory", "writes", "age", "task"), errors),
                "erased": (("repeat", "which"), erased),
                "mean_image": (("repeat", "task"), chance),
            },
            coords={
                "memory": [*(_called(rate) for rate in _RATES), *_NETWORKS],
                "writes": list(ladder),
                "age": ["first", "last"],
                "task": list(_TASKS),
                "which": ["kept", "erased", "never written"],
            },
            attrs={"width": width, "of_the_paper": int(pool.shape[1:] == (32, 32, 3))},
        )
    return xr.DataTree.from_dict(trees)


def _called(rate: float) -> str:
    return f"forgetting {rate:g}" if rate else "no forgetting"


def _one_order(
    rng: np.random.Generator, order: Float[Array, "N D"], ladder: Sequence[int], width: int, seed: int
) -> Float[np.ndarray, "M L 2 T"]:
    """Errors by memory, number of writes, age and task, with the images written in this order."""
    errors = np.empty((len(_RATES) + len(_NETWORKS), len(ladder), 2, len(_TASKS)))
    queries = [
        [damaged_queries(rng, order[:_BLOCK]), damaged_queries(rng, order[size - _BLOCK : size])] for size in ladder
    ]
    for i, rate in enumerate(_RATES):
        memory = BayesianPredictiveCoding.store(order[:_BLOCK], width=width, forgetting=rate, seed=seed)
        memory, written = replace(memory, written=None), _BLOCK
        for j, size in enumerate(ladder):
            for start in range(written, size, _BLOCK):
                memory = memory.write(order[start : start + _BLOCK])
            written = size
            errors[i, j] = [recall_errors(memory, each) for each in queries[j]]
    for i, kind in enumerate(_NETWORKS.values(), start=len(_RATES)):
        assert kind.store is not None
        for j, size in enumerate(ladder):
            errors[i, j] = [recall_errors(kind.store(order[:size]), each) for each in queries[j]]
    return errors


def _after_erasing(
    rng: np.random.Generator, order: Float[Array, "N D"], width: int, seed: int
) -> Float[np.ndarray, " 3"]:
    """Errors of completion for images that are kept, erased after all were written, and never written."""
    first, second, never = order[:_BLOCK], order[_BLOCK : 2 * _BLOCK], order[-_BLOCK:]
    memory = BayesianPredictiveCoding.store(first, width=width, seed=seed).write(second).erase(first)
    memory = replace(memory, written=None)
    return np.array([recall_errors(memory, damaged_queries(rng, rows))[0] for rows in (second, first, never)])


# --- reading --------------------------------------------------------------------------------------------------


@styled
def figures(tree: xr.DataTree) -> Sequence[Drawing]:
    """Error of completion against the number of writes, for the first and the last images."""
    return [_curves(name, child.to_dataset()) for name, child in tree.children.items()]


def _curves(name: str, numbers: xr.Dataset) -> Drawing:
    figure = new_figure(7.2, 3.2)
    for axes, age in zip(figure.subplots(1, 2, sharey=True), ("first", "last"), strict=True):
        for i, memory in enumerate(numbers["memory"].values):
            at = numbers["error"].sel(age=age, task="completion", memory=memory)
            label = memory if age == "first" else None
            bars = 2 * standard_errors(at, "repeat")
            axes.errorbar(at["writes"], at.mean("repeat"), bars, fmt="o-", ms=4, color=MEMORY_COLOURS[i], label=label)
        mean_image = float(numbers["mean_image"].mean())
        axes.axhline(mean_image, color=MUTED, lw=0.9)
        axes.annotate(
            "mean image", (float(at["writes"][0]), mean_image), (0, 3), textcoords="offset points", color=MUTED
        )
        axes.set(xlabel="images written", title=f"the {_BLOCK} images written {age}")
        log_axis(axes, "x", numbers["writes"].values.tolist())
        quiet(axes, grid="y")
        if age == "first":
            axes.set_ylabel("squared error of a missing pixel")
    figure.legend(loc="outside upper center", ncols=4)
    caption = (
        f"{name}: completion of images of which half of the pixels are missing. Hopfield networks keep all images, "
        "the others have a fixed size. Bars are two standard errors over orders of writing."
    )
    return Drawing(f"error_{name}", figure, caption)


def findings(tree: xr.DataTree) -> Sequence[Finding]:
    """Old against new patterns, forgetting, erasing, and the modern Hopfield network."""
    return [found for name, child in tree.children.items() for found in _of_set(name, child.to_dataset())]


def _of_set(name: str, numbers: xr.Dataset) -> list[Finding]:
    most = int(numbers["writes"][-1])
    error = numbers["error"].sel(task="completion", writes=most)
    plain, faded, dots, distances = (error.sel(memory=memory) for memory in numbers["memory"].values)
    new = plain.sel(age="last")
    ratio = over_repeats((plain.sel(age="first") / new).values, "Error of the first over the last", "orders of writing")
    freed = over_repeats(
        (faded - plain).sel(age="last").values, "With forgetting minus without, last images", "orders of writing"
    )
    lost = over_repeats(
        (faded.sel(age="first") - faded.sel(age="last")).values,
        "First minus last, with forgetting",
        "orders of writing",
    )
    kept, gone, never = (numbers["erased"].sel(which=which) for which in numbers["which"].values)
    trace = over_repeats((gone / never).values, "Error of the erased over the never written", "orders of writing")
    behind = over_repeats(
        (new - distances.sel(age="last")).values, "Layers minus network by distances", "orders of writing"
    )
    return [
        _age_finding(name, most, ratio, bool(numbers.attrs["of_the_paper"])),
        judged(
            f"On {name} forgetting frees the memory. After {most} writes the last {_BLOCK} images are completed with "
            f"an error of {_mean(faded.sel(age='last'))} with forgetting and {_mean(new)} without.",
            freed,
            (-np.inf, 0.0),
            "A difference above zero would have shown the opposite.",
        ),
        judged(
            f"On {name} what is forgotten first is what was written first: {_mean(faded.sel(age='first'))} for the "
            f"first images and {_mean(faded.sel(age='last'))} for the last.",
            lost,
            (0.0, np.inf),
            "A difference below zero would have shown the opposite.",
        ),
        Finding(
            f"On {name}, of {2 * _BLOCK} images half were erased: the error is {_mean(gone)} for these, "
            f"{_mean(never)} for images that were never written and {_mean(kept)} for those that are left.",
            "note",
            trace,
            "A number far below one would have shown that erasing leaves a trace.",
        ),
        Finding(
            f"On {name} modern Hopfield networks, which keep all {most} images, complete the last ones with an error "
            f"of {_mean(dots.sel(age='last'))} by dot products and {_mean(distances.sel(age='last'))} by distances, "
            f"layers of fixed size with {_mean(new)}.",
            "note",
            behind,
            "A number below zero would have shown that nothing is lost by the fixed size.",
        ),
    ]


def _age_finding(name: str, most: int, ratio: Measured, is_judged: bool) -> Finding:
    """Whether old images are recalled as well as new ones; judged on images of the paper's kind."""
    text = (
        "Without forgetting, images that were observed hundreds of writes ago are recalled without a large drop. On "
        f"{name}, of {most} images, the first have {number(ratio.value, 3)} times the error of the last."
    )
    opposite = "More than 1.25 would have shown the opposite."
    if is_judged:
        return judged(text, ratio, (0.0, 1.25), opposite)
    return Finding(f"{text} The paper's images are larger (CIFAR-10 and more).", "note", ratio, opposite)


def _mean(values: xr.DataArray) -> str:
    return number(float(values.mean()), 3)


def tables(tree: xr.DataTree) -> Sequence[str]:
    """Errors by number of writes, memory and age, for both tasks."""
    made = []
    for name, child in tree.children.items():
        numbers = child.to_dataset()
        for task in _TASKS:
            error = 1000 * numbers["error"].sel(task=task)
            rows = [
                [
                    str(memory),
                    str(int(size)),
                    *(mean_with_error(at.sel(writes=size, age=age).values) for age in ("first", "last")),
                ]
                for memory in error["memory"].values
                for at in [error.sel(memory=memory)]
                for size in error["writes"].values
            ]
            head = ["memory", "images written", f"first {_BLOCK}", f"last {_BLOCK}"]
            what = "missing pixels" if task == "completion" else "pixels, from a noisy copy"
            made.append(table(head, rows, caption=f"{name}: squared error of {what}, in thousandths"))
    return made


BAYESIAN_PREDICTIVE_CODING = register(
    Experiment(
        name="bayesian_predictive_coding",
        title="Writing, forgetting and erasing in the weights of layers",
        question="How does recall change with the number of images written into layers of fixed size, and what does "
        "forgetting do?",
        source="Yoo and Wood (2022), BayesPCN: a continually learnable predictive coding associative memory, "
        "arXiv:2205.09930",
        claims=("D5",),
        words=("standard error",),
        data=IMAGE_SETS,
        run=run,
        figures=figures,
        findings=findings,
        tables=tables,
    )
)
