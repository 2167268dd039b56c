r"""Associative recall on a stream of tokens: consolidated slots against a window of as many tokens (claim A17).

Every token is a key and a value. Which association comes next follows a Chinese restaurant process, so that some come
back again and again; its key is a noisy copy of a normal vector. Before a token is written, its key is read: recall is
right if the value that is read is nearest to that of its association. First occurrences do not count. A window is the
same memory with everything new: slots hold the last tokens.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Bool, Float

from probam.energies.consolidated import Consolidated, Slots, empty, write
from probam.energies.novelty import Novelty, PitmanYor, Similarity
from probam.experiments.experiment import Drawing, Experiment, Settings, register
from probam.experiments.finding import Finding, judged, mean_with_error, over_repeats, standard_errors
from probam.reports.figures.style import MEMORY_COLOURS, MUTED, log_axis, new_figure, quiet, styled
from probam.reports.page import number, table

__all__ = ["CONSOLIDATED_MEMORY", "recalled", "stream"]

_DIM, _NOISE, _ALPHA = 12, 0.5, 20.0
"""Coordinates of keys and values; standard deviation of the noise, where keys have 1; strength of the process."""
_BETA, _RHO = 0.5 / _NOISE**2, 0.5
"""Inverse temperatures of a key around its association, and of the associations (claim A16)."""
_THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
_PRINTED = 0.6
"""The threshold that stands for the printed rule beside the others; the whole curve is shown."""


def stream(rng: np.random.Generator, length: int) -> tuple[Array, Array, Array, Bool[np.ndarray, " T"]]:
    """Keys (T, D), the values of all associations, the association of each token, and whether it had come before."""
    labels = np.empty(length, int)
    for t in range(length):
        alone = rng.random() < _ALPHA / (t + _ALPHA)
        labels[t] = labels[:t].max(initial=-1) + 1 if alone else labels[rng.integers(t)]
    first = np.zeros(length, bool)
    first[np.unique(labels, return_index=True)[1]] = True
    centres = rng.normal(size=(length, _DIM))[labels]
    keys = centres + _NOISE * rng.normal(size=(length, _DIM))
    return jnp.asarray(keys), jnp.asarray(rng.normal(size=(length, _DIM))), jnp.asarray(labels), ~first


@partial(jax.jit, static_argnames="num_slots")
def recalled(
    keys: Float[Array, "T D"], values: Float[Array, "A V"], labels: Array, novelty: Novelty, num_slots: int
) -> Bool[Array, " T"]:
    """Whether the value that is read before each token is written is nearest to that of its association.

    Args:
        keys: of the tokens, in order.
        values: of all associations.
        labels: the association of each token.
        novelty: the rule that decides what is new.
        num_slots: M.
    """

    def step(slots: Slots, token: tuple[Array, Array]) -> tuple[Slots, Array]:
        key, label = token
        read = Consolidated(slots, novelty, _BETA).read(key)
        right = jnp.argmin(jnp.sum((values - read) ** 2, axis=1)) == label
        return write(slots, key, values[label], novelty), right

    start = empty(num_slots, keys.shape[1], values.shape[1])
    first = write(start, keys[0], values[labels[0]], novelty)  # there must be something to read
    _, right = jax.lax.scan(step, first, (keys[1:], labels[1:]))
    return jnp.concatenate([jnp.zeros(1, bool), right])


def run(settings: Settings) -> xr.DataTree:
    """Share of recalled tokens by rule and number of slots, and by threshold."""
    repeats, length = (20, 6000) if settings.full else (6, 1500)
    sizes = [8, 16, 32, 64]
    rules: dict[str, Novelty] = {
        "window": Similarity(2.0),
        "threshold": Similarity(_PRINTED),
        "Pitman-Yor": PitmanYor(_BETA, _RHO, _ALPHA),
    }
    right = np.empty((len(rules), len(sizes), repeats))
    curve = np.empty((len(_THRESHOLDS), repeats))
    distinct = np.empty(repeats)
    for r in range(repeats):
        settings.progress(r, repeats, f"stream {r + 1} of {repeats}")
        keys, values, labels, repeated = stream(np.random.default_rng([settings.seed, r]), length)
        distinct[r] = int(labels.max()) + 1
        for j, size in enumerate(sizes):
            for i, rule in enumerate(rules.values()):
                right[i, j, r] = np.mean(np.asarray(recalled(keys, values, labels, rule, size))[repeated])
        for i, threshold in enumerate(_THRESHOLDS):
            answers = recalled(keys, values, labels, Similarity(threshold), sizes[2])
            curve[i, r] = np.mean(np.asarray(answers)[repeated])
    numbers = xr.Dataset(
        {
            "right": (("rule", "slots", "repeat"), right),
            "by_threshold": (("threshold", "repeat"), curve),
            "distinct": ("repeat", distinct),
        },
        coords={"rule": list(rules), "slots": sizes, "threshold": list(_THRESHOLDS)},
        attrs={"length": length, "curve_slots": sizes[2]},
    )
    return xr.DataTree.from_dict({"numbers": numbers})


# --- reading --------------------------------------------------------------------------------------------------


@styled
def figures(tree: xr.DataTree) -> Sequence[Drawing]:
    """Recall against the number of slots, and against the threshold."""
    numbers = tree["numbers"].to_dataset()
    figure = new_figure(7.2, 3.2)
    left, right = figure.subplots(1, 2, sharey=True)
    for i, rule in enumerate(numbers["rule"].values):
        at = numbers["right"].sel(rule=rule)
        left.errorbar(
            at["slots"],
            at.mean("repeat"),
            2 * standard_errors(at, "repeat"),
            fmt="o-",
            ms=4,
            color=MEMORY_COLOURS[i],
            label=rule,
        )
    at = numbers["by_threshold"]
    right.errorbar(
        at["threshold"], at.mean("repeat"), 2 * standard_errors(at, "repeat"), fmt="o-", ms=4, color=MEMORY_COLOURS[1]
    )
    exact = numbers["right"].sel(rule="Pitman-Yor", slots=numbers.attrs["curve_slots"])
    right.axhline(float(exact.mean()), color=MEMORY_COLOURS[2], lw=0.9)
    right.annotate("Pitman-Yor", (0.3, float(exact.mean())), (0, 3), textcoords="offset points", color=MUTED)
    left.set(xlabel="slots M", ylabel="share of recalled tokens")
    log_axis(left, "x", numbers["slots"].values.tolist())
    right.set_xlabel("threshold R")
    left.legend()
    for axes in (left, right):
        quiet(axes, grid="y")
    caption = (
        "Share of the tokens that had come before whose value is recalled. Right: by the similarity threshold, with "
        f"{numbers.attrs['curve_slots']} slots; the line is the rule without a threshold. Bars are two standard errors "
        "over streams."
    )
    return [Drawing("recall", figure, caption)]


def findings(tree: xr.DataTree) -> Sequence[Finding]:
    """Slots against a window, and the two rules of novelty."""
    numbers = tree["numbers"].to_dataset()
    right, middle = 100 * numbers["right"], int(numbers.attrs["curve_slots"])
    made = []
    for size in numbers["slots"].values:
        at = right.sel(slots=size)
        window, slots = at.sel(rule="window"), at.sel(rule="threshold")
        made.append(
            judged(
                f"A consolidated memory recalls more than a window of the same size. With {size} slots it recalls "
                f"{number(float(slots.mean()), 3)} % of the tokens that had come before, a window of {size} tokens "
                f"{number(float(window.mean()), 3)} %.",
                over_repeats((slots - window).values, "Difference", "streams", "percentage points"),
                (0.0, np.inf),
                "A difference below zero would have shown the opposite.",
            )
        )
    curve = 100 * numbers["by_threshold"]
    best = float(curve.mean("repeat").idxmax())
    exact = right.sel(rule="Pitman-Yor", slots=middle)
    gap = over_repeats((exact - curve.sel(threshold=best)).values, "Pitman-Yor minus the best R", "streams", "points")
    low, high = float(curve.mean("repeat").min()), float(curve.mean("repeat").max())
    made.append(
        Finding(
            f"With {middle} slots recall is between {number(low, 3)} % and {number(high, 3)} % over the thresholds, "
            f"the best at R = {best:g}. The Pitman-Yor rule needs none, knowing the stream's noise: {gap.sentence()} A "
            "difference far below zero would have shown that the threshold is worth its tuning.",
            "note",
        )
    )
    return made


def tables(tree: xr.DataTree) -> Sequence[str]:
    """Recall by rule and number of slots."""
    right = 100 * tree["numbers"].to_dataset()["right"]
    rows = [
        [str(int(size)), *(mean_with_error(right.sel(slots=size, rule=rule).values) for rule in right["rule"].values)]
        for size in right["slots"].values
    ]
    return [table(["slots", *right["rule"].values], rows, caption="Recalled tokens, %")]


CONSOLIDATED_MEMORY = register(
    Experiment(
        name="consolidated_memory",
        title="Consolidated memory of a stream",
        question="Does a memory of consolidated slots recall more of a long stream than a window of the same size?",
        source="He et al. (2024), CAMELoT: towards large language models with training-free consolidated associative "
        "memory, arXiv:2402.13449",
        claims=("A17",),
        words=("standard error",),
        run=run,
        figures=figures,
        findings=findings,
        tables=tables,
    )
)
