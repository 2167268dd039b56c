r"""What emerges between stored patterns: Epanechnikov against Gaussian wells (claims A15.epanechnikov, A15.emergent).

Random patterns are stored in memories of both kernels with the same covariance, \(h^2 I / (D + 4) = I / (2 \beta)\),
and recalled from many starts. An end that is no pattern is an *emergent* memory. Its log density is compared with that
of the patterns, under the memory's own mixture. Starts out of reach of all patterns do not move, and do not count.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Float

from probam.dynamics.memories import basins, recall
from probam.energies.clam import Clam
from probam.energies.epanechnikov import Epanechnikov
from probam.energies.memory import Memory
from probam.experiments.experiment import Drawing, Experiment, Settings, register
from probam.experiments.finding import Finding, judged, over_repeats, standard_errors
from probam.reports.figures.style import MEMORY_COLOURS, new_figure, quiet, styled
from probam.reports.page import number, percent, table, with_error

__all__ = ["EMERGENT", "measured", "starts_around"]

_KERNELS = ("Epanechnikov", "Gaussian")
_DIMS = (2, 8)
_SETS = "sets of patterns"
_CLOSE = 0.05
"""Distance from a pattern, in distances between neighbours, within which an end is that pattern."""
_EXACT = 1e-9
"""The same for a pattern that is recalled exactly."""


def starts_around(rng: np.random.Generator, patterns: Float[np.ndarray, "K D"], reach: float, count: int) -> np.ndarray:
    """Starts of recall: the patterns, the middles of all pairs (shifted a little), and draws from the kernels.

    Args:
        rng: for the draws.
        patterns: one in each row.
        reach: radius of an Epanechnikov kernel.
        count: number of draws.
    """
    num_patterns, dim = patterns.shape
    one, other = np.triu_indices(num_patterns, 1)
    middles = (patterns[one] + patterns[other]) / 2
    middles = middles + 1e-3 * reach * rng.normal(size=middles.shape)  # off the ridges, where recall ends at a saddle
    direction = rng.normal(size=(count, dim))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    radius = reach * np.sqrt(rng.beta(dim / 2, 2, size=(count, 1)))
    return np.concatenate([patterns, middles, patterns[rng.integers(num_patterns, size=count)] + radius * direction])


def measured(memory: Memory, patterns: Float[np.ndarray, "K D"], starts: np.ndarray, unit: float) -> list[float]:
    """Number of emergent memories, shares of patterns kept and kept exactly, and nats from patterns to emergent ones.

    Args:
        memory: a memory of the patterns, with a beta.
        patterns: one in each row.
        starts: where recall starts.
        unit: distance between neighbours, the unit of distances.
    """
    assert memory.energy is not None
    reached = starts[np.isfinite(np.asarray(memory.energy(jnp.asarray(starts))))]
    padded = np.concatenate([reached, np.repeat(patterns[:1], len(starts) - len(reached), axis=0)])  # one program
    ends = basins(memory, jnp.asarray(padded), max_steps=20_000).attractors
    gaps = np.linalg.norm(ends[:, None] - patterns, axis=-1)
    is_new = gaps.min(axis=1) > _CLOSE * unit
    moved = np.linalg.norm(np.asarray(recall(memory, patterns).states) - patterns, axis=1) / unit
    nats = np.nan
    if is_new.any():
        heights = [np.asarray(memory.energy(jnp.asarray(rows))) for rows in (patterns, ends[is_new])]
        nats = float(heights[0].mean() - heights[1].mean()) * float(getattr(memory, "beta"))  # noqa: B009
    return [float(is_new.sum()), float(np.mean(moved < _CLOSE)), float(np.mean(moved < _EXACT)), nats]


def run(settings: Settings) -> xr.DataTree:
    """Counts and shares by kernel, dimension, reach and repeat."""
    num_patterns, repeats, count = (40, 20, 2000) if settings.full else (16, 6, 200)
    reaches = np.array([0.15, 0.25, 0.4, 0.6, 0.9, 1.3, 1.9, 2.7])
    names = ("emergent", "kept", "exact", "nats")
    found = np.empty((len(names), len(_KERNELS), len(_DIMS), len(reaches), repeats))
    for i, dim in enumerate(_DIMS):
        for t in range(repeats):
            settings.progress(i * repeats + t, len(_DIMS) * repeats, f"{dim} dimensions, set {t + 1} of {repeats}")
            rng = np.random.default_rng([settings.seed, dim, t])
            patterns = rng.normal(size=(num_patterns, dim))
            square = ((patterns[:, None] - patterns) ** 2).sum(-1) + np.diag(np.full(num_patterns, np.inf))
            unit = float(np.sqrt(np.median(square.min(axis=1))))
            for j, reach in enumerate(reaches * unit):
                starts = starts_around(rng, patterns, reach, count)
                memories = (Epanechnikov(patterns, 2 / reach**2), Clam(patterns, (dim + 4) / (2 * reach**2)))
                for k, memory in enumerate(memories):
                    found[:, k, i, j, t] = measured(memory, patterns, starts, unit)
    data = xr.Dataset(
        {name: (("kernel", "dim", "reach", "repeat"), values) for name, values in zip(names, found, strict=True)},
        coords={"kernel": list(_KERNELS), "dim": list(_DIMS), "reach": reaches},
        attrs={"num_patterns": num_patterns, "num_starts": count},
    )
    return xr.DataTree.from_dict({"emergent": data})


# --- reading --------------------------------------------------------------------------------------------------


def _mean_and_error(values: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]:
    """Mean over the sets of patterns, and its standard error."""
    return values.mean("repeat"), standard_errors(values, "repeat")


@styled
def figures(tree: xr.DataTree) -> Sequence[Drawing]:
    """Number of emergent memories, and share of patterns that are recalled exactly, against the reach."""
    data = tree["emergent"].to_dataset()
    figure = new_figure(7.0, 3.4)
    left, right = figure.subplots(1, 2)
    for i, dim in enumerate(data["dim"].values):
        for k, kernel in enumerate(data["kernel"].values):
            at = data.sel(dim=dim, kernel=kernel)
            line = {"color": MEMORY_COLOURS[2 * i + k], "marker": "os"[k], "ms": 4, "ls": ("-", "--")[k]}
            for axes, name in ((left, "emergent"), (right, "exact")):
                mean, error = _mean_and_error(at[name])
                axes.errorbar(data["reach"], mean, error, label=f"{kernel}, {dim} dimensions", **line)
    left.set_ylabel("emergent memories")
    right.set_ylabel("share of patterns recalled exactly")
    for axes in (left, right):
        axes.set_xlabel("reach / distance of neighbours")
        quiet(axes, grid="y")
    left.legend(fontsize=7)
    caption = (
        f"{data.attrs['num_patterns']} random patterns, both kernels with the same covariance; means over "
        f"{data.sizes['repeat']} sets, with their standard errors. Between half a distance and one, Epanechnikov wells "
        "have both: patterns that are recalled exactly, and minima at means of patterns."
    )
    return [Drawing("emergent", figure, caption)]


def findings(tree: xr.DataTree) -> Sequence[Finding]:
    """The three statements of the abstract."""
    data = tree["emergent"].to_dataset()
    return [finding for dim in data["dim"].values for finding in _findings_at(data.sel(dim=dim), int(dim))]


def _findings_at(data: xr.Dataset, dim: int) -> list[Finding]:
    count, error = _mean_and_error(data["emergent"])
    ours = count.sel(kernel="Epanechnikov").values
    most = int(ours.argmax())
    largest = data["emergent"].max("reach")
    lead, lead_error = (
        float(value) for value in _mean_and_error(largest.sel(kernel="Epanechnikov") - largest.sel(kernel="Gaussian"))
    )
    means, errors = _mean_and_error(largest)
    numbers = [with_error(float(means.sel(kernel=one)), float(errors.sel(kernel=one))) for one in _KERNELS]
    more = judged(
        f"{dim} dimensions, {data.attrs['num_patterns']} patterns: at the reach with the most, {numbers[0]} memories "
        f"emerge from Epanechnikov wells and {numbers[1]} from Gaussian ones, {with_error(lead, lead_error)} more.",
        over_repeats(
            (largest.sel(kernel="Epanechnikov") - largest.sel(kernel="Gaussian")).values,
            "Epanechnikov less Gaussian emergent memories, at the reach with the most",
            _SETS,
        ),
        (0.0, np.inf),
        "As many from both would have shown the opposite.",
    )
    exact = data["exact"].sel(kernel="Epanechnikov").mean("repeat")
    perfect = np.flatnonzero(data["exact"].sel(kernel="Epanechnikov").min("repeat").values >= 1)
    at = int(perfect.max()) if perfect.size else 0
    both, both_error = float(ours[at]), float(error.sel(kernel="Epanechnikov")[at])
    gaussian = float(data["exact"].sel(kernel="Gaussian").mean("repeat")[at])
    recovery = judged(
        f"{dim} dimensions: at a reach of {data['reach'].values[at]:.2f} distances {percent(float(exact[at]))} of the "
        f"patterns are recalled exactly, while {with_error(both, both_error)} others emerge; Gaussian wells recall "
        f"{percent(gaussian)} to nine digits.",
        over_repeats(
            (data["emergent"].sel(kernel="Epanechnikov").isel(reach=at) * (exact[at] == 1)).values,
            "Emergent memories at the largest reach where every pattern is recalled exactly",
            _SETS,
        ),
        (1e-9, np.inf),
        "No emergent memory where recovery is perfect would have shown the opposite.",
    )
    nats, nats_error = (float(value[most]) for value in _mean_and_error(data["nats"].sel(kernel="Epanechnikov")))
    density = judged(
        f"{dim} dimensions: where most emerge, the log density there is {with_error(nats, nats_error)} nats above that "
        "at the patterns, in the mean.",
        over_repeats(
            data["nats"].sel(kernel="Epanechnikov").isel(reach=most).dropna("repeat").values,
            "Log density at emergent memories less that at patterns",
            _SETS,
            "nats",
        ),
        (-1.0, np.inf),
        "More than one nat below it would have shown the opposite.",
    )
    return [more, recovery, density]


def tables(tree: xr.DataTree) -> Sequence[str]:
    """All numbers by reach."""
    data = tree["emergent"].to_dataset()
    made = []
    for dim in data["dim"].values:
        rows = []
        for reach in data["reach"].values:
            cells = [f"{reach:.2f}"]
            for kernel in _KERNELS:
                at = data.sel(dim=dim, reach=reach, kernel=kernel)
                mean, error = _mean_and_error(at["emergent"])
                cells += [with_error(float(mean), float(error)), percent(float(at["exact"].mean()))]
                cells.append(number(float(at["nats"].mean()), 3))
            rows.append(cells)
        header = ["reach", *(f"{kernel}: {what}" for kernel in _KERNELS for what in ("emergent", "exact", "nats"))]
        made.append(table(header, rows, caption=f"{dim} dimensions"))
    return made


EMERGENT = register(
    Experiment(
        name="emergent_memories",
        title="Memories that emerge between patterns",
        question="Do Epanechnikov wells add minima of their own while every pattern is recalled exactly, and are these "
        "as likely as the patterns?",
        source="Hoover et al. (2025), arXiv:2506.10801, abstract",
        claims=("A15",),
        words=("attractor", "nats", "standard error"),
        run=run,
        figures=figures,
        findings=findings,
        tables=tables,
    )
)
