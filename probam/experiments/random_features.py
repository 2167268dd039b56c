r"""Memories in random features: how the error falls, where recall breaks, and what the memory costs (claim D2).

A memory of K patterns keeps one vector, of two numbers for each of Y trigonometric features or one for each of Y
positive ones. Three measurements: the relative error of the sum of kernels against Y; the distance from a pattern, in
units of \(1 / \sqrt\gamma\), up to which recall finds it; the least Y that recalls K patterns, against the K D numbers
that storing them takes.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from probam.dynamics.memories import recall
from probam.energies import clam
from probam.energies.memory import Memory
from probam.energies.positive_features import PositiveFeatures, draw_centres
from probam.energies.positive_features import store as store_positive
from probam.energies.random_features import RandomFeatures
from probam.experiments.experiment import Drawing, Experiment, Settings, register
from probam.experiments.finding import Finding, Measured, judged, mean_with_error, over_repeats, standard_errors
from probam.reports.figures.style import MEMORY_COLOURS, MUTED, new_figure, quiet, styled
from probam.reports.page import number, table, with_error

__all__ = ["FEATURES", "breaking_distance", "slopes"]

Make = Callable[[jax.Array, np.ndarray, int, float], Memory]
"""A memory of patterns from a key, the patterns, the number of features and gamma."""


def _trigonometric(key: jax.Array, patterns: np.ndarray, count: int, gamma: float) -> Memory:
    seed = int(jax.random.randint(key, (), 0, 2**31 - 1))
    return RandomFeatures.store(jnp.asarray(patterns), num_features=count, gamma=gamma, seed=seed)


def _positive(key: jax.Array, patterns: np.ndarray, count: int, gamma: float) -> Memory:
    seed = int(jax.random.randint(key, (), 0, 2**31 - 1))
    return PositiveFeatures.store(jnp.asarray(patterns), num_features=count, gamma=gamma, seed=seed)


def _exponential(key: jax.Array, patterns: np.ndarray, count: int, gamma: float) -> Memory:
    spread = 0.5 / gamma**0.5
    centres = draw_centres(key, count, patterns.shape[1], spread)
    return PositiveFeatures(store_positive(centres, patterns, gamma), centres, gamma, spread)


_NEAR = 0.05
"""How far a power may be from −1/2 to count as it."""
_ENOUGH = 0.95
"""Share of queries that must find their pattern."""
_QUERIES = 100

KINDS: dict[str, Make] = {"trigonometric": _trigonometric, "positive": _positive, "exponential": _exponential}


def slopes(counts: np.ndarray, errors: np.ndarray) -> tuple[float, float]:
    """Slope of the log of the error in the log of the number of features, and its standard error over draws.

    Args:
        counts: numbers of features, (Y,).
        errors: of each draw, (Y, T).
    """
    fitted = np.polyfit(np.log(counts), np.log(errors), 1)[0]
    return float(fitted.mean()), float(fitted.std(ddof=1) / np.sqrt(errors.shape[1]))


def breaking_distance(distances: np.ndarray, right: np.ndarray) -> float:
    """Distance at which the share of right recalls first falls below one half, by interpolation; inf where it does not.

    Args:
        distances: increasing, (R,).
        right: shares, (R,).
    """
    below = np.flatnonzero(right < 0.5)
    if not below.size:
        return np.inf
    i = int(below[0])
    if i == 0:
        return float(distances[0])
    drop = right[i - 1] - right[i]
    return float(distances[i - 1] + (distances[i] - distances[i - 1]) * (right[i - 1] - 0.5) / drop)


def run(settings: Settings) -> xr.DataTree:
    """The three measurements."""
    key = jax.random.key(settings.seed)
    settings.progress(0, 3, "error against the number of features")
    error = _errors(settings, jax.random.fold_in(key, 0))
    settings.progress(1, 3, "where recall breaks")
    breaking = _breaking(settings, jax.random.fold_in(key, 1))
    settings.progress(2, 3, "numbers that K patterns need")
    return xr.DataTree.from_dict({"error": error, "breaking": breaking, "cost": _cost(settings, key)})


def _errors(settings: Settings, key: jax.Array) -> xr.Dataset:
    """Relative error of the sum of kernels at queries near patterns."""
    counts = 2 ** np.arange(5, 15 if settings.full else 12)
    draws, gamma = 40 if settings.full else 12, 1.0
    rng = np.random.default_rng([settings.seed, 1])
    patterns = rng.normal(size=(8, 4))
    queries = np.repeat(patterns, 4, axis=0) + 0.3 * rng.normal(size=(32, 4))
    exact = np.asarray(jnp.exp(-gamma / 2 * clam.energy(queries, patterns, gamma / 2)))
    found = np.empty((len(KINDS), len(counts), draws))
    for k, make in enumerate(KINDS.values()):
        for i, count in enumerate(counts):
            for t in range(draws):
                memory = make(jax.random.fold_in(jax.random.fold_in(key, i), t), patterns, int(count), gamma)
                assert memory.energy is not None
                estimate = np.exp(-gamma / 2 * np.asarray(memory.energy(jnp.asarray(queries))))
                found[k, i, t] = np.sqrt(np.mean((estimate / exact - 1) ** 2))
    return xr.Dataset(
        {"relative_error": (("kind", "features", "draw"), found)}, coords={"kind": list(KINDS), "features": counts}
    )


def _breaking(settings: Settings, key: jax.Array) -> xr.Dataset:
    """Share of queries at a distance that recall leads to their pattern; exact wells would lead all there."""
    counts, draws = np.array([256, 4096]), 16 if settings.full else 6
    distances, gamma, num_patterns = np.linspace(0.5, 4.5, 9), 1.0, 8
    rng = np.random.default_rng([settings.seed, 2])
    found = np.empty((len(counts), draws, len(distances)))
    for i, count in enumerate(counts):
        for t in range(draws):
            patterns = 12 * np.linalg.qr(rng.normal(size=(8, 8)))[0]  # 17 apart: no other pattern is in the way
            direction = rng.normal(size=(len(distances), num_patterns, 8))
            direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
            queries = (patterns + distances[:, None, None] * direction).reshape(-1, 8)
            memory = _trigonometric(jax.random.fold_in(jax.random.fold_in(key, i), t), patterns, int(count), gamma)
            ended = np.asarray(recall(memory, queries, max_steps=200).states).reshape(direction.shape)
            found[i, t] = np.mean(np.linalg.norm(ended - patterns, axis=-1) < 0.5, axis=1)
    return xr.Dataset(
        {"right": (("features", "draw", "distance"), found)},
        coords={"features": counts, "distance": distances},
        attrs={"num_patterns": num_patterns},
    )


def _cost(settings: Settings, key: jax.Array) -> xr.Dataset:
    """Least number of trigonometric features with which 95 % of queries a width away find their pattern."""
    counts_of, dims = np.array([4, 8, 16, 32]), np.array([16, 64])
    draws = 8 if settings.full else 3
    least = np.full((len(dims), len(counts_of), draws), np.nan)
    for d, dim in enumerate(dims):
        for i, num_patterns in enumerate(counts_of):
            for t in range(draws):
                rng = np.random.default_rng([settings.seed, 3, dim, num_patterns, t])
                least[d, i, t] = _least(rng, jax.random.fold_in(key, t), int(num_patterns), int(dim))
    return xr.Dataset({"least": (("dim", "patterns", "draw"), least)}, coords={"dim": dims, "patterns": counts_of})


def _least(rng: np.random.Generator, key: jax.Array, num_patterns: int, dim: int) -> float:
    """Where the share of right recalls passes 95 %, between powers of two by interpolation; NaN beyond the largest."""
    patterns = 8 * rng.choice([-1.0, 1.0], size=(num_patterns, dim)) / dim**0.5
    direction = rng.normal(size=(_QUERIES, dim))
    label = rng.integers(num_patterns, size=_QUERIES)
    queries = patterns[label] + direction / np.linalg.norm(direction, axis=1, keepdims=True)
    before = 0.0
    for power in range(5, 10):
        count = num_patterns * 2**power
        memory = _trigonometric(jax.random.fold_in(key, count), patterns, count, 1.0)
        ended = np.asarray(recall(memory, queries, max_steps=40).states)
        right = float(np.mean(np.linalg.norm(ended - patterns[label], axis=1) < 1))
        if right >= _ENOUGH:
            share = (_ENOUGH - before) / (right - before)
            return float(num_patterns * 2 ** (power - 1 + share))
        before = right
    return float("nan")


# --- reading --------------------------------------------------------------------------------------------------


@styled
def figures(tree: xr.DataTree) -> Sequence[Drawing]:
    """The error against the number of features, and recall against the distance."""
    figure = new_figure(7.0, 3.4)
    left, right = figure.subplots(1, 2)
    error = tree["error"].to_dataset()["relative_error"]
    for i, kind in enumerate(error["kind"].values):
        values = error.sel(kind=kind).values
        middle, spread = values.mean(axis=1), values.std(axis=1, ddof=1) / np.sqrt(values.shape[1])
        line = {"color": MEMORY_COLOURS[i], "marker": "o", "ms": 4}
        left.errorbar(np.log2(error["features"]), np.log10(middle), spread / middle / np.log(10), label=kind, **line)
    start = error.sel(kind="trigonometric").isel(features=0).mean().item()
    powers = np.log2(error["features"].values)
    left.plot(powers, np.log10(start) - 0.5 * np.log10(2) * (powers - powers[0]), color=MUTED, ls="--", lw=0.9)
    left.set_xlabel("log2 of the number of features")
    left.set_ylabel("log10 of the relative error")
    left.legend(fontsize=7)
    breaking = tree["breaking"].to_dataset()
    shares, num_patterns = breaking["right"], int(breaking.attrs["num_patterns"])
    for i, count in enumerate(shares["features"].values):
        share = shares.sel(features=count)
        spread = standard_errors(share, "draw")
        line = {"color": MEMORY_COLOURS[i], "marker": "o", "ms": 4}
        right.errorbar(shares["distance"], share.mean("draw"), spread, label=f"{count} features", **line)
        right.axvline(_predicted(int(count), num_patterns), color=MEMORY_COLOURS[i], ls="--", lw=0.9)
    right.set_xlabel("distance from the pattern, in 1 / √γ")
    right.set_ylabel("share recalled")
    right.legend(fontsize=7)
    for axes in (left, right):
        quiet(axes, grid="y")
    caption = (
        "Left: relative error of the sum of kernels at queries near patterns; dashed, a slope of −1/2. Right: recall "
        "by trigonometric features against the distance of the query; dashed, where the kernel sinks into the noise of "
        "the sum. Means over draws of the features, with standard errors."
    )
    return [Drawing("random_features", figure, caption)]


def _predicted(count: int, num_patterns: int) -> float:
    """Distance at which one kernel, exp(-r^2 / 2), equals the standard deviation of the sum, sqrt(K / (2 Y))."""
    return float(np.sqrt(np.log(2 * count / num_patterns)))


def findings(tree: xr.DataTree) -> Sequence[Finding]:
    """Slopes, breaking distances, and the cost of a pattern."""
    error, breaking, cost = (tree[name].to_dataset() for name in ("error", "breaking", "cost"))
    return [*_slope_findings(error), *_breaking_findings(breaking), _cost_finding(cost)]


def _slope_findings(data: xr.Dataset) -> list[Finding]:
    made = []
    for kind in data["kind"].values:
        slope, error = slopes(data["features"].values, data["relative_error"].sel(kind=kind).values)
        last = float(data["relative_error"].sel(kind=kind).isel(features=-1).mean())
        text = (
            f"{str(kind).capitalize()} features: the error falls as the power {with_error(slope, error)} of their "
            f"number, to {number(100 * last, 2)} % with {int(data['features'][-1])}. The bound is a power of −1/2."
        )
        measured = Measured(slope, error, "Power of the error", f"{data.sizes['draw']} draws of the features")
        opposite = f"A power more than {_NEAR:g} away from −1/2 would have shown the opposite."
        is_bounded = kind == "trigonometric"
        made.append(
            judged(text, measured, (-0.5 - _NEAR, -0.5 + _NEAR), opposite) if is_bounded else Finding(text, "note")
        )
    return made


def _breaking_findings(data: xr.Dataset) -> list[Finding]:
    made = []
    for count in data["features"].values:
        at = [breaking_distance(data["distance"].values, row) for row in data["right"].sel(features=count).values]
        breaks = over_repeats(at, "Distance at which half of the queries are lost", "draws", "widths")
        expected = _predicted(int(count), int(data.attrs["num_patterns"]))
        made.append(
            judged(
                f"With {count} features recall of {data.attrs['num_patterns']} patterns breaks at "
                f"{with_error(breaks.value, breaks.error)} widths from a pattern (half of the queries are lost); there "
                f"is nothing in the way of exact wells. The kernel equals the noise of the sum at "
                f"{expected:.2f} widths.",
                breaks,
                (0.0, float(data["distance"][-1])),
                "Recall from any distance that was tried would have shown the opposite.",
            )
        )
    return made


def _cost_finding(data: xr.Dataset) -> Finding:
    per_pattern = 2 * data["least"] / data["patterns"]
    costs, pays = [], []
    for dim in data["dim"].values:
        values = per_pattern.sel(dim=dim).values[-1]  # of the most patterns
        costs.append(f"{mean_with_error(values)} for patterns of {int(dim)} numbers")
        pays += [str(int(dim))] if values.mean() < dim else []
    growth = float((data["least"].isel(patterns=-1) / data["least"].isel(patterns=0)).mean())
    ratio = int(data["patterns"][-1]) / int(data["patterns"][0])
    cheaper = f"it takes less than the patterns at {' and '.join(pays)}" if pays else "storing the patterns takes less"
    return Finding(
        f"To recall 95 % of queries one width away from {int(data['patterns'][-1])} patterns the vector needs, for "
        f"each pattern, {', '.join(costs)} (between powers of two by interpolation): {cheaper}. {number(ratio)} times "
        f"as many patterns need {number(growth, 2)} times as many features; the same number for all would have shown "
        "the opposite.",
        "note",
    )


def tables(tree: xr.DataTree) -> Sequence[str]:
    """Errors by number of features, and features by number of patterns."""
    error, cost = tree["error"].to_dataset()["relative_error"], tree["cost"].to_dataset()["least"]
    rows = [
        [str(int(count)), *(number(float(error.sel(kind=kind, features=count).mean()), 3) for kind in KINDS)]
        for count in error["features"].values
    ]
    first = table(["features", *KINDS], rows, caption="Relative error of the sum of kernels")
    dims = cost["dim"].values
    rows = [
        [f"{int(count)} patterns", *(number(float(cost.sel(dim=dim, patterns=count).mean()), 3) for dim in dims)]
        for count in cost["patterns"].values
    ]
    header = ["", *(f"{int(dim)} dimensions" for dim in dims)]
    return [first, table(header, rows, caption="Least number of trigonometric features that recalls 95 %")]


FEATURES = register(
    Experiment(
        name="random_features",
        title="Memories in random features",
        question="How does the error of a memory in random features fall, where does its recall break, and when does "
        "it take less than its patterns?",
        source="Hoover et al. (2024), arXiv:2410.24153",
        claims=("D2",),
        words=("standard error",),
        run=run,
        figures=figures,
        findings=findings,
        tables=tables,
    )
)
