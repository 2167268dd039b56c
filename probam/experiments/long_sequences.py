r"""How long a sequence can be: capacity by separation, recall against the exact filter, similar patterns (claim D4).

*Capacity.* A network of N random signs takes one step from a pattern of a sequence. The capacity is the number of
transitions K at which half of such steps end with a wrong sign. Near it the crosstalk is Gaussian with the variance v
of one pattern, so that a step fails with the probability \(1 - (1 - \Phi(-c / \sqrt K))^N\). c is fitted by maximum
likelihood, and K follows.

*Filter.* A sequence of noisy states is a hidden Markov model, whose exact filter gives the best guess of the next
pattern. *Similar patterns.* Every sign is that of a common template with some probability.
"""

from collections.abc import Sequence
from math import cosh, log

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Bool, Float
from matplotlib.axes import Axes
from scipy.optimize import minimize_scalar
from scipy.stats import norm

from probam.distributions.bits import SpinBernoulli
from probam.distributions.hidden_sequence import HiddenSequence, onward
from probam.energies import sequences
from probam.energies.layered_sequences import LayeredSequence
from probam.energies.separations import Polynomial
from probam.experiments.experiment import Drawing, Experiment, Settings, register
from probam.experiments.finding import Finding, Measured, judged, mean_with_error, over_repeats, standard_errors
from probam.reports.figures.style import MEMORY_COLOURS, log_axis, new_figure, quiet, styled
from probam.reports.page import number, table, with_error

__all__ = ["LONG_SEQUENCES", "crosstalk_variance", "failing", "failing_by_overlaps", "half_failing", "half_of"]

_DEGREES = {"degree 1": 1, "degree 2": 2, "degree 3": 3, "exponential": None}
_GROUPS = 8
"""Numbers of transitions, from 1/4 to 2 times the expected capacity."""
_DRAWS = 100
"""Resamples of the bootstrap."""
_STEPS = 4000
"""Steps whose overlaps are drawn for the expected share that fails."""
_NOISE = 1 / (1 + np.exp(2))
"""Share of flipped signs, at which the exponential separation has the slope of the filter (beta = 1)."""
_SEEN = (1, 3)
"""Observations that the filter may use."""
_LIKENESS = (0.0, 0.4, 0.6, 0.8, 0.9)
_RULES = {
    "Hebb, degree 1": ("hebb", 1),
    "Hebb, degree 3": ("hebb", 3),
    "Hebb, exponential": ("hebb", None),
    "pseudo-inverse": ("pseudo_inverse", 1),
}


# --- capacity -------------------------------------------------------------------------------------------------


def failing(key: jax.Array, size: int, block: int, degree: int | None) -> Bool[Array, " G"]:
    """Whether a step from a random pattern to its successor fails among ``block``, twice as many, ... others.

    The field is a sum over transitions, so that one draw serves all their numbers.

    Args:
        size: N, neurons.
        block: transitions in the first group; group g has g times as many.
        degree: of the separation, None for the exponential.
    """
    f = sequences.exponential(size) if degree is None else Polynomial(degree)
    key_own, key_others = jax.random.split(key)
    own, target = jax.random.rademacher(key_own, (2, size), float)
    others = jax.random.rademacher(key_others, (_GROUPS, block + 1, size), float)
    signal = sequences.field(own, jnp.stack([own, target]), f, cyclic=False)
    parts = jax.lax.map(lambda patterns: sequences.field(own, patterns, f, cyclic=False), others)
    force = signal + jnp.cumsum(parts, axis=0)
    return jnp.any(jnp.where(force == 0, own, jnp.sign(force)) != target, axis=-1)


def crosstalk_variance(size: int, degree: int | None) -> float:
    """Exact variance of the field by one other transition: claim D4.crosstalk."""
    n = size - 1
    if degree is None:
        return float((cosh(2) / np.exp(2)) ** n)
    return {1: 1 / n, 2: (3 * n - 2) / n**3, 3: (15 * n**2 - 30 * n + 16) / n**5}[degree]


def _level(size: int) -> float:
    """Number of standard deviations at which half of the steps of N independent neurons have no error."""
    return float(norm.isf(1 - 0.5 ** (1 / size)))


def half_failing(
    failed: Bool[np.ndarray, "T G"], counts: Float[np.ndarray, " G"], size: int, rng: np.random.Generator
) -> tuple[float, float]:
    """The number of transitions at which half of the steps fail, and its standard error by the bootstrap.

    Args:
        failed: whether a step failed, for T independent draws, at each number of transitions.
        counts: these numbers.
        size: N, neurons.
        rng: for the bootstrap.
    """

    rows = rng.integers(len(failed), size=(_DRAWS, len(failed)))
    resampled = [half_of(failed[r].mean(axis=0), counts, size) for r in rows]
    return half_of(failed.mean(axis=0), counts, size), float(np.std(resampled, ddof=1))


def half_of(share: Float[np.ndarray, " G"], counts: Float[np.ndarray, " G"], size: int) -> float:
    """The number of transitions at which half of the steps fail, by the share that fails at each number of them."""

    def loss(log_c: float) -> float:
        right = size * np.log1p(-norm.sf(np.exp(log_c) / np.sqrt(counts)))  # log of the share of good steps
        return -float(np.sum((1 - share) * right + share * np.log(-np.expm1(right))))

    middle = 0.5 * log(np.median(counts)) + log(_level(size))
    found = minimize_scalar(loss, bounds=(middle - 1.5, middle + 1.5), method="bounded")
    return float((np.exp(found.x) / _level(size)) ** 2)


def failing_by_overlaps(rng: np.random.Generator, size: int, block: int, degree: int) -> Float[np.ndarray, " G"]:
    """Share of steps that fail if crosstalk is Gaussian once the overlaps of the step are known.

    All neurons share these overlaps, so that the variance of their crosstalk differs from step to step.

    Args:
        rng: for the overlaps.
        size: N, neurons.
        block: transitions in the first group; group g has g times as many.
        degree: of the separation. (Of the exponential a few overlaps are the whole crosstalk, which is not Gaussian.)
    """
    n, variance, share = size - 1, np.zeros(_STEPS), []
    for _ in range(_GROUPS):
        overlap = 2 * rng.binomial(n, 0.5, size=(_STEPS, block)) / n - 1
        variance += (overlap ** (2 * degree)).sum(axis=1)
        share.append(float(np.mean(-np.expm1(size * norm.logcdf(variance**-0.5)))))
    return np.array(share)


def _capacity(settings: Settings, name: str, sizes: Sequence[int]) -> xr.Dataset:
    degree, draws = _DEGREES[name], 4000 if settings.full else 800
    measured, expected, finite, shares = [], [], [], []
    for size in sizes:
        settings.progress(list(_DEGREES).index(name), len(_DEGREES) + 2, f"{name}, {size} neurons")
        expected.append(1 / (crosstalk_variance(size, degree) * _level(size) ** 2))
        block = max(1, round(expected[-1] / 4))
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(settings.seed), degree or 0), size)
        step = jax.jit(lambda keys, n=size, b=block: jax.lax.map(lambda k: failing(k, n, b, degree), keys))
        failed = np.asarray(step(jax.random.split(key, draws)))
        counts = 1 + block * np.arange(1.0, _GROUPS + 1)
        rng = np.random.default_rng([settings.seed, size, degree or 0])
        measured.append(half_failing(failed, counts, size, rng))
        finite.append(
            np.nan if degree is None else half_of(failing_by_overlaps(rng, size, block, degree), counts, size)
        )
        shares.append(failed.mean(axis=0))
    value, error = np.transpose(measured)
    # a power of N for the powers, an exponential of N for the exponential; without the factor of log N
    axis, scale = np.asarray(sizes, float), np.array([_level(size) ** 2 for size in sizes])
    axis = axis if degree is None else np.log(axis)
    slope, covariance = np.polyfit(axis, np.log(value * scale), 1, w=value / error, cov="unscaled")

    def slope_of(at: Sequence[float]) -> float:
        return float(np.polyfit(axis, np.log(at * scale), 1, w=value / error)[0])

    return xr.Dataset(
        {
            "capacity": ("size", value),
            "capacity_error": ("size", error),
            "expected": ("size", expected),
            "finite": ("size", finite),
            "failed_share": (("size", "group"), shares),
        },
        coords={"size": list(sizes)},
        attrs={
            "slope": slope[0],
            "slope_error": float(covariance[0, 0] ** 0.5),
            "expected_slope": slope_of(expected),
            "finite_slope": np.nan if degree is None else slope_of(finite),
        },
    )


# --- filter and similar patterns ------------------------------------------------------------------------------


def _filtered(settings: Settings, size: int, lengths: Sequence[int], repeats: int, queries: int) -> xr.Dataset:
    """Share of wrong signs of the next pattern, by each network from one state, and by the filter."""
    names = [*_DEGREES, *(f"filter, {seen} seen" for seen in _SEEN)]
    wrong = np.empty((len(names), len(lengths), repeats))
    for j, length in enumerate(lengths):
        settings.progress(len(_DEGREES), len(_DEGREES) + 2, f"filter, {length} patterns")
        for r in range(repeats):
            rng = np.random.default_rng([settings.seed, 7, length, r])
            patterns = rng.choice([-1.0, 1.0], size=(length, size))
            place = rng.integers(length, size=queries)
            window = (place[:, None] + np.arange(1 - _SEEN[-1], 1)) % length
            flips = np.where(rng.random((queries, _SEEN[-1], size)) < _NOISE, -1.0, 1.0)
            seen, target = patterns[window] * flips, patterns[(place + 1) % length]
            guesses = [np.asarray(sequences.Sequence(patterns, d).update(seen[:, -1])) for d in _DEGREES.values()]
            bank = SpinBernoulli(2.0 * patterns).to_event(1)
            for count in _SEEN:
                law = HiddenSequence(bank, np.full(length, 1 / length), onward(length), count)
                guesses.append(np.sign(np.asarray(law.next_memory(seen[:, -count:])) @ patterns))
            wrong[:, j, r] = [np.mean(guess != target) for guess in guesses]
    return xr.Dataset(
        {"wrong": (("by", "length", "repeat"), wrong)},
        coords={"by": names, "length": list(lengths)},
        attrs={"size": size, "noise": float(_NOISE)},
    )


def _similar(settings: Settings, size: int, length: int, repeats: int) -> xr.Dataset:
    """Share of transitions without an error, by rule and likeness of the patterns."""
    settings.progress(len(_DEGREES) + 1, len(_DEGREES) + 2, "similar patterns")
    right = np.empty((len(_RULES), len(_LIKENESS), repeats))
    for j, likeness in enumerate(_LIKENESS):
        for r in range(repeats):
            rng = np.random.default_rng([settings.seed, 8, j, r])
            patterns = rng.choice([-1.0, 1.0], size=size) * np.where(
                rng.random((length, size)) < (1 + likeness) / 2, 1.0, -1.0
            )
            for i, (rule, degree) in enumerate(_RULES.values()):
                memory = LayeredSequence.store(jnp.asarray(patterns), rule=rule, degree=degree)  # type: ignore[arg-type]
                following = np.roll(patterns, -1, axis=0)
                right[i, j, r] = np.mean(np.all(np.asarray(memory.update(patterns)) == following, axis=1))
    return xr.Dataset(
        {"right": (("rule", "likeness", "repeat"), right)},
        coords={"rule": list(_RULES), "likeness": list(_LIKENESS)},
        attrs={"size": size, "length": length},
    )


def run(settings: Settings) -> xr.DataTree:
    """Capacities by separation and size; wrong signs by method; transitions by rule and likeness."""
    sizes = {
        "degree 1": [50, 100, 200, 400],
        "degree 2": [30, 60, 120],
        "degree 3": [20, 32, 48],
        "exponential": [8, 10, 12, 14],
    }
    if settings.full:
        sizes = {
            "degree 1": [100, 200, 400, 800],
            "degree 2": [50, 100, 200, 300],
            "degree 3": [30, 50, 70, 100],
            "exponential": [10, 12, 14, 16, 18],
        }
    groups = {name.replace(" ", "_"): _capacity(settings, name, at) for name, at in sizes.items()}
    groups["filter"] = _filtered(settings, 16, [4, 8, 16, 32, 64, 128, 256], 10 if settings.full else 5, 200)
    groups["similar"] = _similar(settings, 100, 30, 20 if settings.full else 8)
    return xr.DataTree.from_dict(groups)


# --- reading --------------------------------------------------------------------------------------------------


@styled
def figures(tree: xr.DataTree) -> Sequence[Drawing]:
    """Capacity against size; wrong signs against length; transitions against likeness."""
    capacity = new_figure(7.0, 3.4)
    powers, exponential = capacity.subplots(1, 2)
    for i, name in enumerate(_DEGREES):
        at, axes = tree[name.replace(" ", "_")].to_dataset(), exponential if i == 3 else powers
        bars = 2 * at["capacity_error"]
        axes.errorbar(at["size"], at["capacity"], bars, fmt="o", color=MEMORY_COLOURS[i], ms=4.5)
        axes.plot(at["size"], at["expected"], color=MEMORY_COLOURS[i], lw=0.9)
        axes.plot(at["size"], at["finite"], color=MEMORY_COLOURS[i], lw=0.9, ls="--")
        end = float(at["size"][-1]), float(at["capacity"][-1])
        axes.annotate(name, end, (-8, 0), textcoords="offset points", ha="right", color=MEMORY_COLOURS[i])
        axes.set_xlabel("neurons N")
    powers.set_ylabel("capacity K")
    log_axis(powers, "x", [20, 50, 100, 200, 400])
    log_axis(powers, "y")
    log_axis(exponential, "y")
    for axes in (powers, exponential):
        quiet(axes, grid="y")
    filtered, similar = new_figure(6.0, 3.4), new_figure(6.0, 3.4)
    _curves(filtered.subplots(), tree["filter"].to_dataset()["wrong"], "by", "length")
    filtered.axes[0].set(xlabel="patterns K", ylabel="share of wrong signs")
    log_axis(filtered.axes[0], "x", [4, 16, 64, 256])
    _curves(similar.subplots(), tree["similar"].to_dataset()["right"], "rule", "likeness")
    similar.axes[0].set(xlabel="mean overlap with the common template", ylabel="share of correct transitions")
    noise = 100 * tree["filter"].attrs["noise"]
    return [
        Drawing(
            "capacity",
            capacity,
            "Number of transitions at which half of the steps from a stored pattern have an error. Marks: measured, "
            "with two standard errors. Lines: by the exact variance of the crosstalk at each size. Dashed: by the "
            "variance of each step, which depends on its overlaps and differs from step to step.",
        ),
        Drawing(
            "filter",
            filtered,
            f"Wrong signs of the next pattern, from states of {tree['filter'].attrs['size']} neurons with "
            f"{number(noise, 3)} % of flipped signs; bars are two standard errors over sequences. The filter is the "
            "best that can be done.",
        ),
        Drawing(
            "similar",
            similar,
            f"Transitions without an error among {tree['similar'].attrs['length']} patterns of "
            f"{tree['similar'].attrs['size']} neurons that share a template; bars are two standard errors.",
        ),
    ]


def _curves(axes: Axes, values: xr.DataArray, kind: str, along: str) -> None:
    """One curve for each kind, with two standard errors over repeats."""
    for i, name in enumerate(values[kind].values):
        at = values.sel({kind: name})
        bars = 2 * standard_errors(at, "repeat")
        axes.errorbar(at[along], at.mean("repeat"), bars, fmt="o-", ms=4, lw=1, color=MEMORY_COLOURS[i], label=name)
    quiet(axes, grid="y")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def findings(tree: xr.DataTree) -> Sequence[Finding]:
    """Exponents, the rate of the exponential, the filter, and the pseudo-inverse."""
    return [
        *(_exponent(tree, name, degree) for name, degree in _DEGREES.items() if degree is not None),
        _rate(tree["exponential"].to_dataset()),
        *_against_the_filter(tree["filter"].to_dataset()),
        _pseudo_inverse(tree["similar"].to_dataset()),
    ]


def _exponent(tree: xr.DataTree, name: str, degree: int) -> Finding:
    at = tree[name.replace(" ", "_")].to_dataset()
    exact, finite = float(at.attrs["expected_slope"]), float(at.attrs["finite_slope"])
    return judged(
        f"{name.capitalize()}: apart from a factor of log N, the capacity grows as N to the power of the degree. The "
        f"exact variance of the crosstalk gives {number(exact, 3)} over these sizes. Small networks hold a few more: "
        "the step's own transition makes no crosstalk, and all neurons share the overlaps of a step, so that the "
        f"variance differs from step to step. With both the expected exponent is {number(finite, 3)}.",
        Measured(
            float(at.attrs["slope"]),
            float(at.attrs["slope_error"]),
            f"Fitted exponent, N from {int(at['size'][0])} to {int(at['size'][-1])}",
            "error from resampled steps",
        ),
        (degree - 0.5, degree + 0.5),
        "An exponent nearer to that of another degree would have shown the opposite.",
    )


def _rate(at: xr.Dataset) -> Finding:
    size, first = int(at["size"][-1]), float(at["failed_share"][-1, 0])
    gaussian = 1 - norm.cdf(2 * _level(size)) ** size
    return judged(
        "Exponential separation: apart from a factor of log N, the capacity grows exponentially in N. The exact "
        f"variance of the crosstalk gives the rate log(e²/cosh 2) = {number(2 - log(cosh(2)), 3)} for each neuron. It "
        f"has heavy tails: at a quarter of the expected capacity {number(100 * first, 2)} % of the steps fail (N = "
        f"{size}), where Gaussian crosstalk gives {number(100 * float(gaussian), 2)} %.",
        Measured(
            float(at.attrs["slope"]),
            float(at.attrs["slope_error"]),
            f"Fitted rate, N from {int(at['size'][0])} to {int(at['size'][-1])}",
            "error from resampled steps",
        ),
        (0.3, log(2)),
        "A rate that falls towards 3 / N, as for degree 3 (0.21 at N = 14), would have shown the opposite.",
    )


def _against_the_filter(at: xr.Dataset) -> list[Finding]:
    longest = at["wrong"].isel(length=-1)
    best = longest.sel(by="filter, 1 seen")
    gaps = {name: 100 * (longest.sel(by=name) - best).values for name in _DEGREES}
    size, length = int(at.attrs["size"]), int(at["length"][-1])
    told = "; ".join(f"{name} {mean_with_error(gap)}" for name, gap in gaps.items())
    later = 100 * (best - longest.sel(by="filter, 3 seen")).values
    gain = over_repeats(later, "Fewer wrong signs with three states than with one", "sequences", "percentage points")
    steeper = over_repeats(gaps["degree 1"] - gaps["exponential"], "Degree 1 minus exponential", "sequences", "points")
    return [
        judged(
            f"A steeper separation makes fewer errors. With {length} patterns of {size} neurons the exact filter of "
            f"one state has {number(100 * float(best.mean()), 3)} % of wrong signs; more than that have, in percentage "
            f"points: {told}.",
            steeper,
            (0.0, np.inf),
            "A difference below zero would have shown the opposite.",
        ),
        Finding(
            "The filter that has seen three states knows more than any network that acts on one: "
            f"{gain.sentence()} No difference would have shown that one state is enough.",
            "note",
        ),
    ]


def _pseudo_inverse(at: xr.Dataset) -> Finding:
    likest = at["right"].isel(likeness=-1)
    others = ", ".join(f"{name} {100 * float(likest.sel(rule=name).mean()):.0f} %" for name in list(_RULES)[:-1])
    return judged(
        "The generalised pseudo-inverse recalls highly correlated patterns. Correct transitions at a mean overlap of "
        f"{float(at['likeness'][-1]):g} with a common template by the other rules: {others}.",
        over_repeats(likest.sel(rule="pseudo-inverse").values, "Share by the pseudo-inverse", "sequences"),
        (0.99, 1.0),
        "A share below 0.99 would have shown the opposite.",
    )


def tables(tree: xr.DataTree) -> Sequence[str]:
    """Capacities and slopes."""
    rows = []
    for name in _DEGREES:
        at = tree[name.replace(" ", "_")].to_dataset()
        for size in at["size"].values:
            here = at.sel(size=size)
            value, error = float(here["capacity"]), float(here["capacity_error"])
            by_theory = [number(float(here[kind])) for kind in ("expected", "finite")]
            rows.append([name, str(size), with_error(value, error), *by_theory])
    header = ["separation", "neurons N", "capacity", "by exact variance", "by overlaps of each step"]
    return [table(header, rows, caption="Transitions at which half of the steps fail")]


LONG_SEQUENCES = register(
    Experiment(
        name="long_sequences",
        title="Long sequences",
        question="How does the length of a sequence grow with the separation, and how good is recall?",
        source="Chaudhry et al. (2023), Long sequence Hopfield memory, arXiv:2306.04532",
        claims=("D4",),
        words=("separation", "standard error"),
        run=run,
        figures=figures,
        findings=findings,
        tables=tables,
    )
)
