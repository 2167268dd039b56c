r"""Memories on demand: the printed energy of a new memory against the exact one, and one pass against the batch.

Part one streams data with a known number of groups through Eq. 12 as printed, Eq. 12 with its normaliser, and the exact
collapsed energy (claims A16, A17), in more and more dimensions. Part two learns the same data in one pass and by
methods that use all data at once, each in a separate process, so that seconds and memory are those of the method alone.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpyro.distributions as dist
import xarray as xr
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator
from sklearn.metrics import adjusted_rand_score

from probam.data.shipped import load_labels, load_shipped
from probam.experiments.experiment import Drawing, Experiment, Finding, Settings, register
from probam.experiments.learners import DPMeans, Engine, Learner, OnePass, ScikitLearn, scored
from probam.experiments.own_process import alone
from probam.reports.figures.style import MEMORY_COLOURS, MUTED, new_figure, quiet, styled
from probam.reports.page import escape, number, spelled, table
from probam.streams.stream import Stream

__all__ = ["ON_DEMAND"]

_ENERGIES = ("printed", "conditional", "collapsed")
_NAMES = {"printed": "as printed", "conditional": "with its normaliser", "collapsed": "exact, collapsed"}
_GROUPS, _ROWS = 10, 300
_BETA, _RHO = 12.5, 0.5  # variance within a group 1 / (2 beta), of the group means 1 / (2 rho)

_SCORES = {
    "memories": "memories",
    "log_density": "held-out log density",
    "ari": "ARI",
    "seconds_again": "seconds",
    "seconds": "with compilation",
    "peak_mib": "peak MiB",
}
_ONE, _MANY = "stream", "stream, 16 particles"


class _Set(NamedTuple):
    """Data, standardised by the training rows, and the groups of the latter where they are known."""

    x: Float[np.ndarray, "N D"]
    held_out: Float[np.ndarray, "M D"]
    groups: Int[np.ndarray, " N"] | None


def run(settings: Settings) -> xr.DataTree:
    """Number of memories by dimension and energy; scores by data set and method."""
    features = np.array([1, 2, 4, 8, 16, 32, 64, 128, 256, 512] if settings.full else [2, 16, 512])
    sets = {
        name: _split(name, settings.seed) for name in (("iris", "faithful", "groups") if settings.full else ("iris",))
    }
    learners = _learners(settings)
    total = features.size * len(_ENERGIES) + len(sets) * len(learners)
    done = 0
    memories, ari = np.zeros((len(_ENERGIES), features.size)), np.zeros((len(_ENERGIES), features.size))
    for j, num_features in enumerate(features):
        rng = np.random.default_rng([settings.seed, int(num_features)])
        places = rng.normal(scale=(2 * _RHO) ** -0.5, size=(_GROUPS, num_features))
        group = rng.integers(0, _GROUPS, _ROWS)
        x = places[group] + rng.normal(scale=(2 * _BETA) ** -0.5, size=(_ROWS, num_features))
        for i, energy in enumerate(_ENERGIES):
            settings.progress(done, total, f"{_NAMES[energy]}, D = {num_features}")
            stream = Stream(
                covariance="isotropic",
                known={"beta": _BETA},
                prior={"loc": dist.Normal(np.zeros(num_features), (2 * _RHO) ** -0.5).to_event(1)},
                energy=energy,
                warm=_ROWS,
                capacity=_ROWS + 1,
            )
            stream.partial_fit(x)
            assert stream.recent is not None
            memories[i, j] = stream.num_memories
            ari[i, j] = adjusted_rand_score(group, stream.recent.ident)
            done += 1
    values = np.full((len(_SCORES), len(sets), len(learners)), np.nan)
    for s, (name, (x, held_out, groups)) in enumerate(sets.items()):
        for m, (label, learner) in enumerate(learners.items()):
            settings.progress(done, total, f"{name}: {label}")
            scores = alone(scored, learner, x, held_out, settings.seed)
            agreement = np.nan if groups is None else adjusted_rand_score(groups, scores.labels)
            all_scores = scores._asdict() | {"ari": agreement}
            values[:, s, m] = [all_scores[score] for score in _SCORES]
            done += 1
    settings.progress(total, total, "done")
    simulated = xr.Dataset(
        {"memories": (("energy", "features"), memories), "ari": (("energy", "features"), ari)},
        coords={"energy": list(_ENERGIES), "features": features},
        attrs={"groups": _GROUPS, "rows": _ROWS, "beta": _BETA, "rho": _RHO},
    )
    compared = xr.Dataset(
        {score: (("set", "learner"), values[i]) for i, score in enumerate(_SCORES)},
        coords={"set": list(sets), "learner": list(learners)},
        attrs={name: f"{len(data.x)} x {data.x.shape[1]}" for name, data in sets.items()},
    )
    return xr.DataTree.from_dict({"dimensions": simulated, "batch": compared})


def _split(name: str, seed: int) -> _Set:
    """Four fifths of the data for training, in random order, and the rest."""
    classes: np.ndarray | None = None
    if name == "groups":
        values, classes = _simulated(seed)
    else:
        values = load_shipped(name).values
    if name == "iris":
        classes = load_labels(name)
    order = np.random.default_rng([seed, len(values)]).permutation(len(values))
    inside, outside = order[: int(0.8 * len(order))], order[int(0.8 * len(order)) :]
    centre, scale = values[inside].mean(axis=0), values[inside].std(axis=0)
    groups = None if classes is None else classes[inside]
    return _Set((values[inside] - centre) / scale, (values[outside] - centre) / scale, groups)


def _simulated(seed: int) -> tuple[Float[np.ndarray, "N D"], Int[np.ndarray, " N"]]:
    """500 points of six Gaussians in three dimensions, with shares from 5 to 30 per cent and different axes."""
    rng = np.random.default_rng([seed, 6])
    groups = rng.choice(6, size=500, p=[0.3, 0.2, 0.2, 0.15, 0.1, 0.05])
    places, axes = rng.normal(scale=4.0, size=(6, 3)), rng.normal(size=(6, 3, 3))
    return places[groups] + np.einsum("nij,nj->ni", axes[groups], rng.normal(size=(500, 3))), groups


def _learners(settings: Settings) -> dict[str, Learner]:
    """In the order of the table: one pass first, then methods that use all data at once."""
    draws = {"num_chains": 2, "num_warmup": 200, "num_draws": 300 if settings.full else 200}
    made: dict[str, Learner] = {_ONE: OnePass()}
    if settings.full:
        made["stream, rejuvenated"] = OnePass({"rejuvenate_every": 50})
    return made | {
        _MANY: OnePass({"rejuvenate_every": 50, "particles": 16}),
        "Gibbs": Engine("gibbs", {"kernel": "collapsed", "partition": "exchangeable", "base": "conjugate"} | draws),
        "CAVI": Engine("cavi"),
        "NUTS": Engine("nuts", draws),
        "scikit-learn": ScikitLearn(),
        "DP-means": DPMeans(2.0),
    }


@styled
def figures(tree: xr.DataTree) -> Sequence[Drawing]:
    """Number of memories against the dimension, their agreement with the groups, and costs."""
    dimensions = tree["dimensions"].to_dataset()
    figure = new_figure(8.0, 3.2)
    left, right = figure.subplots(1, 2)
    for energy, colour, marker in zip(_ENERGIES, MEMORY_COLOURS, "osD", strict=False):
        at = dimensions.sel(energy=energy)
        left.plot(dimensions["features"], at["memories"], marker=marker, color=colour, label=_NAMES[energy], alpha=0.9)
        right.plot(dimensions["features"], at["ari"], marker=marker, color=colour, alpha=0.9)
    left.axhline(dimensions.attrs["groups"], color=MUTED, lw=0.8, ls="--", label="true groups")
    left.set_ylabel("memories made")
    left.set_yscale("log")
    left.set_yticks([3, 10, 30, 100, 300], ["3", "10", "30", "100", "300"])
    left.yaxis.set_minor_locator(NullLocator())
    right.set_ylabel("agreement with the groups (ARI)")
    right.set_ylim(-0.05, 1.05)
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.set_xticks(dimensions["features"].values, [str(value) for value in dimensions["features"].values])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("dimensions D")
        quiet(axes, grid="y")
    left.legend()
    caption = (
        f"{dimensions.attrs['rows']} data of {dimensions.attrs['groups']} groups in one pass. As printed, Eq. 12 makes "
        "more memories in more dimensions, in the end one for each datum; with its normaliser it finds the groups."
    )
    return [Drawing("dimensions", figure, caption), _costs(tree["batch"].to_dataset())]


def _log_ticks(axes: Axes, values: Float[np.ndarray, " J"]) -> None:
    """A log axis with plain numbers at powers of ten, every second one where there are many."""
    decades = np.arange(np.floor(np.log10(values.min())), np.ceil(np.log10(values.max())) + 1)
    shown = decades[:: 1 if len(decades) <= 4 else 2]
    axes.set_xscale("log")
    axes.set_xlim(10 ** (decades[0] - 0.2), 10 ** (decades[-1] + 0.2))
    axes.set_xticks(10.0**shown, [f"{10.0**power:g}" for power in shown])
    axes.xaxis.set_minor_locator(NullLocator())


def _costs(compared: xr.Dataset) -> Drawing:
    """Quality against cost, one row per method."""
    learners = [str(name) for name in compared["learner"].values]
    rows = np.arange(len(learners))[::-1]
    figure = new_figure(8.0, 0.7 + 0.28 * len(learners))
    panels = figure.subplots(1, 3, sharey=True)
    for axes, score, label in zip(
        panels,
        ("log_density", "seconds_again", "peak_mib"),
        ("held-out log density, nats", "seconds", "peak memory, MiB"),
        strict=True,
    ):
        for name, colour, marker in zip(compared["set"].values, MEMORY_COLOURS, "osD", strict=False):
            values = compared[score].sel(set=name).values
            axes.plot(values, rows, marker=marker, color=colour, ls="none", label=str(name))
            if score == "seconds_again":
                first = compared["seconds"].sel(set=name).values
                axes.plot(first, rows, marker=marker, ls="none", mfc="none", mec=colour)
        if score != "log_density":
            _log_ticks(axes, np.concatenate([line.get_xdata() for line in axes.lines]))
        axes.set_xlabel(label)
        axes.set_ylim(-0.6, len(learners) - 0.4)
        quiet(axes, grid="x")
    panels[0].set_yticks(rows, learners)
    if compared.sizes["set"] > 1:
        panels[2].legend(loc="upper center")
    caption = (
        "The same data learned in one pass and by methods that use all at once. Open marks: seconds of the first run, "
        "with compilation. Peak memory is what learning, with compilation, added to a process that had imported "
        "everything and loaded the data. DP-means has no density."
    )
    return Drawing("costs", figure, caption)


def findings(tree: xr.DataTree) -> Sequence[Finding]:
    """Whether Eq. 12 as printed is the energy of its own probabilistic model; cost and loss of one pass."""
    dimensions = tree["dimensions"].to_dataset()
    last = int(dimensions["features"][-1])
    at = dimensions.sel(features=last)
    printed, exact = (int(at["memories"].sel(energy=energy)) for energy in ("printed", "collapsed"))
    agrees = bool(
        (dimensions["memories"].sel(energy="printed") == dimensions["memories"].sel(energy="conditional")).all()
    )
    made = [
        Finding(
            "The paper calls Eq. 12, as printed, the negative log density of the model with a new memory. In "
            f"{last} dimensions it makes {printed} memories of {dimensions.attrs['rows']} data, and the exact energy "
            f"makes {exact}; there are {dimensions.attrs['groups']} groups.",
            "agrees" if agrees else "differs",
        )
    ]
    batch = tree["batch"].to_dataset()
    for name in batch["set"].values:
        rows = batch.sel(set=name)
        dense = rows["log_density"].dropna("learner")
        best = str(dense["learner"].values[int(dense.values.argmax())])
        one, many = (rows.sel(learner=learner) for learner in (_ONE, _MANY))
        slowest = rows.isel(learner=int(rows["seconds_again"].values.argmax()))
        made.append(
            Finding(
                f"{name}: one pass makes {spelled(round(float(one['memories'])), 'memory', 'memories')}, with a "
                f"held-out log density of {number(float(one['log_density']), 4)} nats. Sixteen particles that revisit "
                f"recent data make {spelled(round(float(many['memories'])))} and have "
                f"{number(float(many['log_density']), 4)}; the best, {best}, has {number(float(dense.max()), 4)}. Once "
                f"compiled they take {number(float(one['seconds_again']), 2)} and "
                f"{number(float(many['seconds_again']), 2)} seconds; {slowest['learner'].item()} takes "
                f"{number(float(slowest['seconds_again']), 2)}.",
                "note",
            )
        )
    return made


def tables(tree: xr.DataTree) -> Sequence[str]:
    """Scores of every method on every set."""
    batch = tree["batch"].to_dataset()
    made = []
    for name in batch["set"].values:
        rows = []
        for learner in batch["learner"].values:
            at = batch.sel(set=name, learner=learner)
            values = {score: float(at[score]) for score in _SCORES}
            cells = (number(value, 4 if score == "log_density" else 3) for score, value in values.items())
            shown = [cell if np.isfinite(value) else "" for cell, value in zip(cells, values.values(), strict=True)]
            rows.append([escape(str(learner)), *shown])
        caption = f"{escape(str(name))}, {escape(batch.attrs[str(name)])}: one pass against all data at once"
        made.append(table(["method", *_SCORES.values()], rows, caption=caption))
    return made


ON_DEMAND = register(
    Experiment(
        name="on_demand",
        title="Memories on demand",
        question="Is the printed energy of a new memory a negative log density, as the paper says, and what does one "
        "pass over the data lose compared with using all of them?",
        source="Schaeffer et al. (2023), Sec. 4, Eqs. 10 to 12; claims A16 to A18",
        run=run,
        figures=figures,
        findings=findings,
        tables=tables,
    )
)
