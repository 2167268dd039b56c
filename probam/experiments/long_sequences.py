r"""How long a sequence random patterns can make: transitions against the number of neurons, by degree (claims D4).

From a pattern, one step of a sequence of K random patterns must give the next one. With the separation \(m^d\) the
successor has the signal 1, and the crosstalk of the others has the variance \((K - 1) (2d - 1)!! / N^d\). So the K at
which one neuron in two hundred is wrong grows as \(N^d\).
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from scipy.special import factorial2
from scipy.stats import norm

from probam.energies import sequences
from probam.energies.separations import Polynomial
from probam.experiments.dense_capacity import capacities
from probam.experiments.experiment import Drawing, Experiment, Settings, register
from probam.experiments.finding import Finding, Measured, judged
from probam.reports.figures.style import MEMORY_COLOURS, MUTED, new_figure, quiet, styled
from probam.reports.page import number, table, with_error

__all__ = ["LENGTHS", "exponent", "wrong_neurons"]

_ERROR = 0.005
"""Share of wrong neurons at which a sequence is as long as can be."""


def expected_length(size: int, degree: int) -> float:
    """The leading order: N^d / ((2d - 1)!! z^2), z the normal quantile of the share of wrong neurons."""
    return float(size**degree / (factorial2(2 * degree - 1) * norm.isf(_ERROR) ** 2))


def wrong_neurons(key: jax.Array, num_patterns: int, size: int, degree: int, draws: int) -> np.ndarray:
    """Neurons that are wrong one step after a pattern, in each of independent sequences."""

    def one(own: jax.Array) -> jax.Array:
        patterns = jax.random.rademacher(own, (num_patterns, size), float)
        return jnp.sum(sequences.field(patterns[0], patterns, Polynomial(degree)) * patterns[1] <= 0)

    return np.asarray(jax.jit(lambda keys: jax.lax.map(one, keys))(jax.random.split(key, draws)), float)


def exponent(sizes: np.ndarray, lengths: np.ndarray, errors: np.ndarray) -> tuple[float, float]:
    """Slope of log length in log size by weighted least squares, and its standard error."""
    x, y, weight = np.log(sizes), np.log(lengths), (lengths / errors) ** 2
    centre = np.sum(weight * x) / np.sum(weight)
    spread = np.sum(weight * (x - centre) ** 2)
    return float(np.sum(weight * (x - centre) * y) / spread), float(spread**-0.5)


def run(settings: Settings) -> xr.DataTree:
    """Lengths by degree and size."""
    sizes = {1: [200, 400, 800], 2: [60, 90, 140], 3: [24, 34, 48]}
    if settings.full:
        sizes = {1: [200, 400, 800, 1600, 3200], 2: [60, 90, 140, 200, 300], 3: [24, 34, 48, 68, 96]}
    neurons, shares = 200_000 if settings.full else 20_000, np.array([0.7, 1.0, 1.5])
    groups: dict[str, xr.Dataset] = {}
    total = sum(map(len, sizes.values()))
    for degree, at in sizes.items():
        measured = np.empty((len(at), 2))
        for i, size in enumerate(at):
            settings.progress(len(groups) * 3 + i, total, f"degree {degree}, {size} neurons")
            counts = np.round(shares * expected_length(size, degree))
            key = jax.random.fold_in(jax.random.fold_in(jax.random.key(settings.seed), degree), size)
            draws = -(-neurons // size)
            wrong = [
                wrong_neurons(jax.random.fold_in(key, j), int(count), size, degree, draws)
                for j, count in enumerate(counts)
            ]
            rng = np.random.default_rng([settings.seed, degree, size])
            measured[i] = capacities(np.stack(wrong, axis=1), counts, size, rng)
        groups[f"degree_{degree}"] = xr.Dataset(
            {
                "length": ("size", measured[:, 0]),
                "error": ("size", measured[:, 1]),
                "expected": ("size", [expected_length(size, degree) for size in at]),
            },
            coords={"size": at},
            attrs={"degree": degree},
        )
    return xr.DataTree.from_dict(groups)


# --- reading --------------------------------------------------------------------------------------------------


@styled
def figures(tree: xr.DataTree) -> Sequence[Drawing]:
    """Length against size, in logarithms."""
    figure = new_figure(5.0, 3.4)
    axes = figure.subplots()
    for i, name in enumerate(tree.children):
        data = tree[name].to_dataset()
        x, y = np.log10(data["size"]), np.log10(data["length"])
        spread = data["error"] / data["length"] / np.log(10)
        axes.errorbar(x, y, spread, fmt="o", ms=4, color=MEMORY_COLOURS[i], label=f"degree {data.attrs['degree']}")
        axes.plot(x, np.log10(data["expected"]), color=MUTED, ls="--", lw=0.9)
    axes.set_xlabel("log10 of the number of neurons")
    axes.set_ylabel("log10 of the number of patterns")
    quiet(axes, grid="y")
    axes.legend()
    caption = (
        "Patterns of a sequence at which one neuron in two hundred is wrong after a step, with standard errors; "
        "dashed, the leading order."
    )
    return [Drawing("long_sequences", figure, caption)]


def findings(tree: xr.DataTree) -> Sequence[Finding]:
    """The exponent of each degree."""
    made = []
    for name in tree.children:
        data = tree[name].to_dataset()
        degree = int(data.attrs["degree"])
        slope, error = exponent(data["size"].values, data["length"].values, data["error"].values)
        made.append(
            judged(
                f"Degree {degree}: the number of patterns grows as N to the power {with_error(slope, error)}, between "
                f"{int(data['size'][0])} and {int(data['size'][-1])} neurons; the paper has {degree} (and a logarithm "
                "for sequences without any error).",
                Measured(slope, error, "Power of N", "a bootstrap over independent draws of the patterns"),
                (degree - 0.25, degree + 0.25),
                "A power that is off by more than 0.25 would have shown the opposite.",
            )
        )
    return made


def tables(tree: xr.DataTree) -> Sequence[str]:
    """Measured and expected lengths."""
    rows = []
    for name in tree.children:
        data = tree[name].to_dataset()
        for size, length, error, expected in zip(
            *(data[key].values for key in ("size", "length", "error", "expected")), strict=True
        ):
            degree = int(data.attrs["degree"])
            rows.append([f"degree {degree}, {size} neurons", with_error(length, error), number(float(expected), 4)])
    return [table(["", "patterns", "leading order"], rows, caption="Patterns with one wrong neuron in two hundred")]


LENGTHS = register(
    Experiment(
        name="long_sequences",
        title="How long a sequence can be",
        question="How does the length of a sequence of random patterns grow with the number of neurons, and does the "
        "degree of the separation give the power?",
        source="Chaudhry et al. (2023), arXiv:2306.04532, capacities",
        claims=("D4",),
        words=("separation", "standard error"),
        run=run,
        figures=figures,
        findings=findings,
        tables=tables,
    )
)
