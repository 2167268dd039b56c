r"""Which directions a diffusion of finitely many data loses when it memorises them, and when (claim D1).

Data of a Gaussian with standard deviations 1, 0.3 and 0.01 in groups of directions. At noise s the exact score of P
data has the Jacobian \((\operatorname{Cov}_r / s^2 - I) / s^2\). With infinitely many data the responsibility
covariance would have \(\sigma^2 s^2 / (\sigma^2 + s^2)\) along a direction; a group of directions is *lost* at the
largest noise at which the finite data have less than half of that.

The data are a random code. A datum takes the whole responsibility for its own noisy copy when the copy tells it from
the P - 1 others, that is, when the information \(\tfrac12 \sum_i \log(1 + \sigma_i^2 / s^2)\) exceeds \(\log P\).
"""

from collections.abc import Sequence
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import xarray as xr
from jaxtyping import Array, Float
from scipy.optimize import brentq

from probam.distributions.local_dimension import responsibility_covariance
from probam.distributions.mixture import MemoryMixture
from probam.dynamics.local_dimension import what_is_left
from probam.energies.diffusion import Diffusion
from probam.experiments.experiment import Drawing, Experiment, Settings, register
from probam.experiments.finding import Finding, Measured, judged, mean_with_error, over_repeats, standard_errors
from probam.reports.figures.style import MEMORY_COLOURS, MUTED, log_axis, new_figure, quiet, styled
from probam.reports.page import number, table

__all__ = ["GEOMETRIC_MEMORISATION", "condensation", "crossing"]

_GROUPS = {1.0: 5, 0.3: 10, 0.01: 15}
"""Standard deviation -> number of directions."""
_DEVIATIONS = np.repeat(list(_GROUPS), list(_GROUPS.values()))
_QUERIES = 48


def condensation(count: int) -> float:
    """The noise at which a noisy copy carries as much information as it takes to name one of ``count`` data."""

    def surplus(log_s: float) -> float:
        return float(0.5 * np.sum(np.log1p(_DEVIATIONS**2 * np.exp(-2 * log_s))) - np.log(count))

    return float(np.exp(brentq(surplus, np.log(1e-4), np.log(1e3))))


def crossing(noise: Float[np.ndarray, " S"], values: Float[np.ndarray, " S"], level: float) -> float:
    """The largest noise at which values, in ascending order of the noise, pass the level; log-linear in between.

    NaN where they never do.
    """
    below = values < level
    change = np.flatnonzero(below[1:] != below[:-1])
    if not change.size:
        return float("nan")
    i = int(change[-1])
    share = (level - values[i]) / (values[i + 1] - values[i])
    return float(np.exp(np.log(noise[i]) * (1 - share) + np.log(noise[i + 1]) * share))


@jax.jit
def _measured(
    data: Float[Array, "P D"], rows: Array, shift: Float[Array, "Q D"], noise: Float[Array, ""]
) -> tuple[Array, Array, Array]:
    """Variances along each direction over s^2, local dimension, and the share of the own datum, means over queries."""
    bank = dist.Normal(data, noise, validate_args=False).to_event(1)
    mixture = MemoryMixture(jnp.full(len(data), -jnp.log(len(data))), bank, validate_args=False)
    points = data[rows] + noise * shift

    def at(one: tuple[Array, Array]) -> tuple[Array, Array]:
        covariance = responsibility_covariance(mixture, one[0]) / noise**2
        return jnp.diagonal(covariance), mixture.responsibilities(one[0])[one[1]]

    flat, own = jax.lax.map(at, (points, rows), batch_size=8)
    dimension = jnp.sum(what_is_left(Diffusion(data, noise), points) > 0.5, axis=-1)
    return jnp.mean(flat, axis=0), jnp.mean(dimension), jnp.mean(own)


def run(settings: Settings) -> xr.DataTree:
    """Flatness of each group of directions relative to infinitely many data, by number of data and noise."""
    counts = [250, 500, 20_000] if settings.full else [100, 500, 2500]
    repeats, noise = 10 if settings.full else 6, np.geomspace(0.02, 5, 30)
    exact = _DEVIATIONS**2 / (_DEVIATIONS**2 + noise[:, None] ** 2)  # (S, D)
    ratio = np.empty((len(counts), repeats, len(noise), len(_GROUPS)))
    dimension, own = np.empty((2, len(counts), repeats, len(noise)))
    ends = np.cumsum([0, *_GROUPS.values()])
    for i, count in enumerate(counts):
        for r in range(repeats):
            settings.progress(i * repeats + r, len(counts) * repeats, f"{count} data")
            rng = np.random.default_rng([settings.seed, count, r])
            data = jnp.asarray(rng.normal(size=(count, len(_DEVIATIONS))) * _DEVIATIONS)
            rows = jnp.asarray(rng.integers(count, size=_QUERIES))
            shift = jnp.asarray(rng.normal(size=(_QUERIES, len(_DEVIATIONS))))
            for s, deviation in enumerate(noise):
                flat, dimension[i, r, s], own[i, r, s] = map(np.asarray, _measured(data, rows, shift, deviation))
                shares = flat / exact[s]
                ratio[i, r, s] = [np.mean(shares[a:b]) for a, b in pairwise(ends)]
    lost = np.array([[[crossing(noise, curve, 0.5) for curve in at.T] for at in repeat] for repeat in ratio])
    alone = np.array([[crossing(noise, curve, 0.5) for curve in repeat] for repeat in own])
    numbers = xr.Dataset(
        {
            "ratio": (("count", "repeat", "noise", "spread"), ratio),
            "dimension": (("count", "repeat", "noise"), dimension),
            "own": (("count", "repeat", "noise"), own),
            "lost": (("count", "repeat", "spread"), lost),
            "alone": (("count", "repeat"), alone),
            "predicted": ("count", [condensation(count) for count in counts]),
            "exact_dimension": ("noise", np.sum(exact > 0.5, axis=1)),
        },
        coords={"count": counts, "noise": noise, "spread": list(_GROUPS)},
    )
    return xr.DataTree.from_dict({"numbers": numbers})


# --- reading --------------------------------------------------------------------------------------------------


@styled
def figures(tree: xr.DataTree) -> Sequence[Drawing]:
    """Flatness relative to infinitely many data, and the local dimension, against the noise."""
    numbers = tree["numbers"].to_dataset()
    counts = numbers["count"].values
    drawn = new_figure(7.6, 3.0)
    for axes, count in zip(drawn.subplots(1, len(counts), sharey=True), counts, strict=True):
        for i, spread in enumerate(numbers["spread"].values):
            at = numbers["ratio"].sel(count=count, spread=spread)
            bars = 2 * standard_errors(at, "repeat")
            line = {"fmt": "o-", "ms": 2.5, "lw": 0.9, "color": MEMORY_COLOURS[i], "label": f"sd {spread:g}"}
            axes.errorbar(numbers["noise"], at.mean("repeat"), bars, **line)
        axes.axvline(float(numbers["predicted"].sel(count=count)), color=MUTED, lw=0.9, ls=":")
        axes.set(xlabel="noise s", title=f"P = {count}", ylim=(-0.05, 1.2))
        log_axis(axes, "x", [0.1, 1])
        quiet(axes, grid="y")
    drawn.axes[0].set_ylabel("share of the exact variance")
    drawn.axes[0].legend(loc="upper left")
    dimension = new_figure(6.0, 3.2)
    axes = dimension.subplots()
    for i, count in enumerate(counts):
        at = numbers["dimension"].sel(count=count)
        bars = 2 * standard_errors(at, "repeat")
        axes.errorbar(
            numbers["noise"],
            at.mean("repeat"),
            bars,
            fmt="o-",
            ms=3,
            lw=0.9,
            color=MEMORY_COLOURS[i],
            label=f"P = {count}",
        )
    axes.step(numbers["noise"], numbers["exact_dimension"], where="mid", color=MUTED, lw=0.9, label="infinitely many")
    axes.set(xlabel="noise s", ylabel="local dimension")
    log_axis(axes, "x", [0.1, 1])
    quiet(axes, grid="y")
    axes.legend()
    return [
        Drawing(
            "directions",
            drawn,
            "Responsibility covariance along each group of directions, as a share of that of infinitely many data. "
            "Bars: two standard errors over data sets. Dotted: the noise at which a copy names its datum.",
        ),
        Drawing(
            "dimension",
            dimension,
            "Number of directions at a noisy datum in which a step of denoising leaves more than half of a "
            "displacement. Bars: two standard errors over data sets.",
        ),
    ]


def findings(tree: xr.DataTree) -> Sequence[Finding]:
    """The order in which directions are lost, the noise at which, and the local dimension."""
    numbers = tree["numbers"].to_dataset()
    return [
        *(_order(numbers.sel(count=count)) for count in numbers["count"].values),
        _prediction(numbers),
        _dimension(numbers),
    ]


def _order(at: xr.Dataset) -> Finding:
    lost = at["lost"]
    wide, narrow = (np.log(lost.sel(spread=spread).values) for spread in (1.0, 0.01))
    means = ", ".join(
        f"sd {spread:g} at s = {number(float(lost.sel(spread=spread).mean()), 3)}" for spread in lost["spread"].values
    )
    return judged(
        "Directions of high variance are lost first, at a larger noise (the first version of the paper, under some "
        f"conditions). With {int(at['count'])} data, half of the variance is lost along {means}.",
        over_repeats(
            wide - narrow, "Log of the noise at which sd 1 is lost over that at which sd 0.01 is", "data sets"
        ),
        (0.0, np.inf),
        "Here a log above zero agrees with the statement, and one below zero shows the opposite order.",
    )


def _prediction(numbers: xr.Dataset) -> Finding:
    ratios = np.log((numbers["alone"] / numbers["predicted"]).values)
    told = ", ".join(
        f"{mean_with_error(row)} for P = {count}" for row, count in zip(ratios, numbers["count"].values, strict=True)
    )
    every = np.log((numbers["lost"] / numbers["predicted"]).values)
    return judged(
        "Directions are lost when one datum takes all responsibility, as in a random energy model: here all "
        "together, when a noisy copy carries enough information to name its datum, log P nats. "
        f"Log of the noise at which a datum has half of the responsibility over this noise: {told}.",
        Measured(
            float(np.mean(every)),
            float(np.std(np.mean(every, axis=(0, 2)), ddof=1) / every.shape[1] ** 0.5),
            "Log of the noise at which directions are lost over the predicted noise, mean over P and directions",
            f"{every.shape[1]} data sets each",
        ),
        (-0.25, 0.25),
        "A group that is lost near its own standard deviation (a log of 2 to 4 away) would have shown the opposite.",
    )


def _dimension(numbers: xr.Dataset) -> Finding:
    largest = numbers["dimension"].max("noise")
    told = "; ".join(f"{mean_with_error(at)} with {int(at['count'])} data" for at in largest)
    return Finding(
        f"The largest local dimension at any noise is {told}. Infinitely many data have 5 directions between the "
        "noises 0.3 and 1, 15 between 0.01 and 0.3, and then 30. To see a group of directions, the noise must fall "
        "below its spread before the data are memorised; a dimension of 15 or more would have shown that these data "
        "suffice for the second group.",
        "note",
    )


def tables(tree: xr.DataTree) -> Sequence[str]:
    """The noise at which each group is lost."""
    numbers = tree["numbers"].to_dataset()
    rows = []
    for count in numbers["count"].values:
        at = numbers.sel(count=count)
        cells = [at["lost"].sel(spread=spread).values for spread in numbers["spread"].values] + [at["alone"].values]
        told = [mean_with_error(x) for x in cells]
        rows.append([str(int(count)), *told, number(float(at["predicted"]), 3)])
    header = ["data", *(f"sd {spread:g}" for spread in numbers["spread"].values), "own datum above 1/2", "predicted"]
    return [table(header, rows, caption="Noise at which half of the variance is lost")]


GEOMETRIC_MEMORISATION = register(
    Experiment(
        name="geometric_memorisation",
        title="Losing dimensions",
        question="Which directions of the data are lost when a diffusion memorises them, and at which noise?",
        source="Achilli et al. (2024), Losing dimensions: geometric memorization in generative diffusion, "
        "arXiv:2410.08727",
        claims=("D1",),
        words=("nats", "standard error"),
        run=run,
        figures=figures,
        findings=findings,
        tables=tables,
    )
)
