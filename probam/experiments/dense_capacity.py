r"""How the capacity of a dense associative memory grows with its size: \(K = \alpha_n N^{n-1}\) (claim B6).

K random memories of N signs are stored; a neuron of one of them is wrong when flipping it lowers the energy. The
capacity is the K at which one neuron in two hundred is wrong. Near it the change of the energy by a flip is Gaussian,
with mean \(N^n - (N - 2)^n\) and a variance proportional to K, so that
\(z = \Phi^{-1}(1 - {\rm error}) = c / \sqrt K\): c is measured around the expected capacity and gives K.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float
from scipy.stats import norm

from probam.energies import crosstalk, dense
from probam.experiments.experiment import Drawing, Experiment, Settings, register
from probam.experiments.finding import Finding, Measured, judged
from probam.reports.figures.style import MEMORY_COLOURS, log_axis, new_figure, quiet, styled
from probam.reports.page import number, table, with_error

__all__ = ["DENSE_CAPACITY", "capacities", "wrong_neurons"]

_ERROR = 0.005
"""Share of wrong neurons that defines the capacity (Krotov and Hopfield 2016)."""
_KINDS = ("rectified", "plain")
_POINTS = 6
"""Numbers of memories, from 3/4 to 2 times the expected capacity, at which wrong neurons are counted."""
_NEAR = 0.25
"""How far an exponent may be from n − 1 to count as it: half-way to the middle between two whole numbers."""
_DRAWS = 300


def wrong_neurons(
    key: jax.Array, size: int, block: int, num_blocks: int, separation: dense.Polynomial
) -> Float[Array, " G"]:
    """Wrong neurons of one memory among ``block``, twice as many, ... others; a tie counts half.

    The change of the energy is a sum over the memories, so that one draw serves all numbers of memories.

    Args:
        size: N, neurons.
        block: memories in the first group; group g has g times as many.
        num_blocks: G, groups.
    """
    key_own, key_others = jax.random.split(key)
    own = jax.random.rademacher(key_own, (1, size), float)
    others = jax.random.rademacher(key_others, (num_blocks, block, size), float)
    signal = dense.flip_difference(own[0], own, separation)
    parts = jax.lax.map(lambda memories: dense.flip_difference(own[0], memories, separation), others)
    change = signal + jnp.cumsum(parts, axis=0)
    return jnp.sum(jnp.where(change < 0, 1.0, jnp.where(change == 0, 0.5, 0.0)), axis=1)


def capacities(
    wrong: Float[np.ndarray, "T G"], counts: Float[np.ndarray, " G"], size: int, rng: np.random.Generator
) -> tuple[float, float]:
    r"""The number of memories at which a share of 0.005 of the neurons is wrong, and its standard error.

    \(c = z \sqrt K\) is averaged with binomial precisions; the error is a bootstrap over the draws.

    Args:
        wrong: wrong neurons of T independent draws, at each number of memories.
        counts: these numbers of memories.
        size: N, neurons.
        rng: for the bootstrap.
    """

    def solve(totals: Float[np.ndarray, " G"]) -> float:
        share = np.clip(totals / (len(wrong) * size), 0.5 / (len(wrong) * size), 0.4)
        z = norm.isf(share)
        precision = counts**-1.0 * norm.pdf(z) ** 2 / share
        c = np.sum(precision * z * np.sqrt(counts)) / np.sum(precision)
        return float((c / norm.isf(_ERROR)) ** 2)

    chosen = rng.multinomial(len(wrong), np.full(len(wrong), 1 / len(wrong)), size=_DRAWS)
    resampled = [solve(totals) for totals in chosen @ wrong]
    return solve(wrong.sum(axis=0)), float(np.std(resampled, ddof=1))


def run(settings: Settings) -> xr.DataTree:
    """Capacities by degree, kind of power and size."""
    sizes = {2: [100, 200, 400], 3: [50, 90, 150], 4: [32, 46, 64]}
    if settings.full:
        sizes = {2: [200, 400, 800, 1600], 3: [50, 100, 200, 400], 4: [32, 48, 72, 108]}
    neurons = 1_000_000 if settings.full else 40_000
    groups = {}
    done, total = 0, sum(map(len, sizes.values())) * len(_KINDS)
    for degree, at in sizes.items():
        measured = np.empty((len(_KINDS), len(at), 2))
        expected = np.empty((len(_KINDS), len(at)))
        counted = np.empty((len(_KINDS), len(at), _POINTS, 2))
        for k, kind in enumerate(_KINDS):
            for i, size in enumerate(at):
                settings.progress(done, total, f"n = {degree}, {kind}, {size} neurons")
                done += 1
                expected[k, i] = _expected(size, degree, rectified=kind == "rectified")
                block = max(1, round(expected[k, i] / 4))  # the capacity is near four blocks
                num_blocks = _POINTS + 2  # three to eight blocks; one and two are too few for errors
                key = jax.random.fold_in(jax.random.fold_in(jax.random.key(settings.seed), 10 * degree + k), size)
                separation = dense.Polynomial(degree, rectified=kind == "rectified")
                wrong = _counted(key, size, block, num_blocks, separation, -(-neurons // size))
                counts = block * np.arange(1.0, num_blocks + 1)
                kept = slice(2, None)
                rng = np.random.default_rng([settings.seed, degree, k, size])
                measured[k, i] = capacities(wrong[:, kept], counts[kept], size, rng)
                counted[k, i, :, 0] = counts[kept]
                counted[k, i, :, 1] = wrong[:, kept].sum(axis=0) / (len(wrong) * size)
        exponent = np.array([_slope(at, row[:, 0], row[:, 1]) for row in measured])
        groups[f"degree_{degree}"] = xr.Dataset(
            {
                "capacity": (("kind", "size"), measured[..., 0]),
                "capacity_error": (("kind", "size"), measured[..., 1]),
                "expected": (("kind", "size"), expected),
                "num_memories": (("kind", "size", "point"), counted[..., 0]),
                "wrong_share": (("kind", "size", "point"), counted[..., 1]),
                "exponent": ("kind", exponent[:, 0]),
                "exponent_error": ("kind", exponent[:, 1]),
                "expected_exponent": (
                    "kind",
                    [_slope(at, e, r[:, 1] * e / r[:, 0])[0] for e, r in zip(expected, measured, strict=True)],
                ),
            },
            coords={"kind": list(_KINDS), "size": at},
            attrs={"degree": degree, "wrong_share": _ERROR},
        )
    return xr.DataTree.from_dict(groups)


def _counted(
    key: jax.Array, size: int, block: int, num_blocks: int, separation: dense.Polynomial, draws: int
) -> Float[np.ndarray, "T G"]:
    counted = jax.jit(
        lambda keys: jax.lax.map(lambda own: wrong_neurons(own, size, block, num_blocks, separation), keys)
    )
    return np.asarray(counted(jax.random.split(key, draws)))


def _expected(size: int, degree: int, *, rectified: bool) -> float:
    """Capacity by the exact mean and variance at this size, for Gaussian crosstalk."""
    per_memory = crosstalk.flip_variance(size, 2, degree, rectified=rectified)
    return crosstalk.flip_mean(size, degree) ** 2 / (per_memory * float(norm.isf(_ERROR)) ** 2)


def _slope(
    sizes: Sequence[int], values: Float[np.ndarray, " S"], errors: Float[np.ndarray, " S"]
) -> tuple[float, float]:
    """Slope of log values against log sizes by weighted least squares, and its standard error."""
    design = np.stack([np.ones(len(sizes)), np.log(sizes)], axis=1)
    weights = (values / errors) ** 2
    covariance = np.linalg.inv(design.T @ (weights[:, None] * design))
    solved = covariance @ design.T @ (weights * np.log(values))
    return float(solved[1]), float(np.sqrt(covariance[1, 1]))


# --- reading --------------------------------------------------------------------------------------------------


@styled
def figures(tree: xr.DataTree) -> Sequence[Drawing]:
    """Capacity against size on logarithmic axes."""
    figure = new_figure(7.0, 3.6)
    axes = figure.subplots()
    for i, name in enumerate(tree.children):
        group = tree[name].to_dataset()
        for k, kind in enumerate(_KINDS):
            at, colour = group.sel(kind=kind), MEMORY_COLOURS[i]
            label = f"n = {group.attrs['degree']}, {kind}: exponent {float(at['exponent']):.2f}"
            error = 2 * at["capacity_error"]
            axes.errorbar(
                at["size"],
                at["capacity"],
                error,
                fmt="os"[k],
                mfc=colour if k == 0 else "none",
                color=colour,
                ms=5,
                label=label,
            )
            axes.plot(at["size"], at["expected"], color=colour, lw=0.9, ls="-" if k == 0 else ":")
    ends = sorted({int(tree[name].to_dataset()["size"].values[end]) for name in tree.children for end in (0, -1)})
    log_axis(axes, "x", ends)
    log_axis(axes, "y")
    axes.set_xlabel("neurons N")
    axes.set_ylabel("capacity K")
    quiet(axes, grid="y")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    caption = (
        f"Number of memories at which {100 * _ERROR:g} % of the neurons of a stored one are wrong. Marks: measured "
        "(bars of two standard errors, mostly smaller than the marks). Lines: by the exact mean and variance at each "
        "size."
    )
    return [Drawing("capacity", figure, caption)]


def findings(tree: xr.DataTree) -> Sequence[Finding]:
    """Exponent, coefficient and the factor of the rectified powers."""
    groups = [tree[name].to_dataset() for name in tree.children]
    return [
        *(_exponent_finding(group) for group in groups),
        _rectified_finding(groups),
        _quadratic_finding(tree["degree_2"].to_dataset()),
    ]


def _exponent_finding(group: xr.Dataset) -> Finding:
    degree, at = group.attrs["degree"], group.sel(kind="rectified")
    exponent, error, expected = (float(at[name]) for name in ("exponent", "exponent_error", "expected_exponent"))
    return judged(
        f"n = {degree}: the capacity grows as N to the power {with_error(exponent, error)} (rectified powers, N from "
        f"{int(at['size'][0])} to {int(at['size'][-1])}); the slides print {degree - 1}, for large N, and the exact "
        f"mean and variance give {number(expected, 4)} over these sizes.",
        Measured(exponent, error, "Exponent of the capacity", "a bootstrap over independent draws of the memories"),
        (degree - 1 - _NEAR, degree - 1 + _NEAR),
        f"An exponent more than {_NEAR:g} away from {degree - 1} would have shown the opposite.",
    )


def _rectified_finding(groups: Sequence[xr.Dataset]) -> Finding:
    """Capacity of rectified over that of plain powers, in the largest networks."""
    ratios, errors = {}, []
    for group in groups:
        largest = group[["capacity", "capacity_error"]].isel(size=-1)
        rectified, plain = (largest.sel(kind=kind) for kind in _KINDS)
        ratio = float(rectified["capacity"] / plain["capacity"])
        ratios[group.attrs["degree"]] = ratio
        errors.append(ratio * math.hypot(*(float(at["capacity_error"] / at["capacity"]) for at in (rectified, plain))))
    factors = ", ".join(
        f"{with_error(ratio, error)} times at n = {degree}"
        for (degree, ratio), error in zip(ratios.items(), errors, strict=True)
    )
    weights = np.array(errors) ** -2
    return judged(
        "The printed variance is that of plain powers. The rectified powers, which the slides define, have half of it "
        f"and so twice the capacity: {factors}.",
        Measured(
            float(np.average(list(ratios.values()), weights=weights)),
            float(weights.sum() ** -0.5),
            "Capacity of rectified over that of plain powers, mean over the degrees",
            "a bootstrap over independent draws of the memories",
        ),
        (0.9, 1.1),
        "A ratio near 1 would have shown the opposite.",
    )


def _quadratic_finding(group: xr.Dataset) -> Finding:
    largest = group.sel(kind="plain").isel(size=-1)
    load, error = (float(largest[name] / largest["size"]) for name in ("capacity", "capacity_error"))
    formula = crosstalk.capacity_coefficient(2, _ERROR, rectified=False)
    return Finding(
        f"At n = 2, plain, {with_error(load, error)} N memories can be stored with {100 * _ERROR:g} % of wrong "
        f"neurons at the first step ({number(formula, 4)} for large N). That this is close to 0.138 is an accident: "
        "at 0.138 recall breaks down after many steps.",
        "note",
    )


def tables(tree: xr.DataTree) -> Sequence[str]:
    """Capacities and exponents."""
    rows = []
    for name in tree.children:
        group = tree[name].to_dataset()
        for kind in _KINDS:
            at = group.sel(kind=kind)
            for size in group["size"].values:
                here = at.sel(size=size)
                rows.append(
                    [
                        f"n = {group.attrs['degree']}, {kind}, N = {size}",
                        with_error(float(here["capacity"]), float(here["capacity_error"])),
                        number(float(here["expected"])),
                        number(float(here["capacity"]) / float(size) ** (group.attrs["degree"] - 1), 3),
                    ]
                )
    header = ["", "capacity", "by exact variance", "over N^(n − 1)"]
    return [table(header, rows, caption="Capacity at one wrong neuron in two hundred")]


DENSE_CAPACITY = register(
    Experiment(
        name="dense_capacity",
        title="Capacity of dense associative memories",
        question="Does the capacity grow as the size to the power n − 1?",
        source="Yang (2020), slides on large associative memory, 'Memory capacity of the polynomial energy function'",
        claims=("B6",),
        words=("plain power", "rectified power", "standard error"),
        run=run,
        figures=figures,
        findings=findings,
        tables=tables,
    )
)
