r"""Memories on demand: the printed energy of a new memory against the exact one, and one pass against the batch.

Part one streams data with a known number of groups through Eq. 12 as printed, Eq. 12 with its normaliser, and the exact
collapsed energy (claims A16, A17), in more and more dimensions. Part two learns the same data in one pass and by
methods that use all data at once, each in a separate process, so that CPU seconds and memory are those of the method
alone. Scores are over several splits into rows to learn and rows held out.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpyro.distributions as dist
import xarray as xr
from jaxtyping import Float, Int
from sklearn.metrics import adjusted_rand_score

from probam.data.shipped import load_labels, load_shipped
from probam.experiments.experiment import Drawing, Experiment, Settings, register
from probam.experiments.finding import Finding, judged, mean_with_error, over_repeats
from probam.experiments.learners import DPMeans, Engine, Learner, OnePass, ScikitLearn, scored
from probam.experiments.own_process import alone
from probam.reports.figures.style import MEMORY_COLOURS, MUTED, log_axis, new_figure, quiet, styled
from probam.reports.page import escape, number, spelled, table, with_error
from probam.streams.stream import Stream

__all__ = ["ON_DEMAND"]

_ENERGIES = ("printed", "conditional", "collapsed")
_NAMES = {"printed": "as printed", "conditional": "with its normaliser", "collapsed": "exact, collapsed"}
_GROUPS, _ROWS = 10, 300
_BETA, _RHO = 12.5, 0.5  # variance within a group 1 / (2 beta), of the group means 1 / (2 rho)

_RESULTS = {
    "memories": "memories",
    "holding": "holding rows",
    "largest": "share of the largest",
    "log_density": "held-out log density",
    "ari": "ARI",
}
_COSTS = {"seconds_again": "CPU seconds", "seconds": "with compilation", "peak_mib": "peak MiB"}
_SCORES = _RESULTS | _COSTS
_MEANS = ("log_density", "ari")
"""Scores that are shown as means with standard errors over splits; of the others the median is."""
_ONE, _MANY = "stream", "stream, 16 particles"


class _Set(NamedTuple):
    """Data, standardised by the training rows, and the groups of the latter where they are known."""

    x: Float[np.ndarray, "N D"]
    held_out: Float[np.ndarray, "M D"]
    groups: Int[np.ndarray, " N"] | None


def run(settings: Settings) -> xr.DataTree:
    """Number of memories by dimension and energy; scores by data set, method and split."""
    features = np.array([1, 2, 4, 8, 16, 32, 64, 128, 256, 512] if settings.full else [2, 16, 512])
    repeats, num_splits = (5, 10) if settings.full else (3, 4)
    names = ("iris", "faithful", "groups") if settings.full else ("iris",)
    learners = _learners(settings)
    total = features.size * repeats + len(names) * len(learners)
    dimensions = _dimensions(settings, features, repeats, total)
    values = np.full((len(_SCORES), len(names), len(learners), num_splits), np.nan)
    sizes = {}
    for s, name in enumerate(names):
        splits = [_split(name, settings.seed, i) for i in range(num_splits)]
        sizes[name] = f"{len(splits[0].x)} x {splits[0].x.shape[1]}"
        for m, (label, learner) in enumerate(learners.items()):
            settings.progress(features.size * repeats + s * len(learners) + m, total, f"{name}: {label}")
            made = alone(scored, learner, [(split.x, split.held_out) for split in splits], settings.seed)
            for i, (split, scores) in enumerate(zip(splits, made, strict=True)):
                agreement = np.nan if split.groups is None else adjusted_rand_score(split.groups, scores.labels)
                every = scores._asdict() | {"ari": agreement}
                values[:, s, m, i] = [every[score] for score in _SCORES]
    settings.progress(total, total, "done")
    compared = xr.Dataset(
        {score: (("set", "learner", "split"), values[i]) for i, score in enumerate(_SCORES)},
        coords={"set": list(names), "learner": list(learners)},
        attrs=sizes,
    )
    return xr.DataTree.from_dict({"dimensions": dimensions, "batch": compared})


def _dimensions(settings: Settings, features: Int[np.ndarray, " F"], repeats: int, total: int) -> xr.Dataset:
    """Memories that each energy makes of simulated groups, and their agreement with the groups."""
    memories = np.zeros((len(_ENERGIES), features.size, repeats))
    ari = np.zeros_like(memories)
    for j, num_features in enumerate(features):
        for t in range(repeats):
            settings.progress(j * repeats + t, total, f"simulated groups, D = {num_features}")
            rng = np.random.default_rng([settings.seed, int(num_features), t])
            places = rng.normal(scale=(2 * _RHO) ** -0.5, size=(_GROUPS, num_features))
            group = rng.integers(0, _GROUPS, _ROWS)
            x = places[group] + rng.normal(scale=(2 * _BETA) ** -0.5, size=(_ROWS, num_features))
            for i, energy in enumerate(_ENERGIES):
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
                memories[i, j, t] = stream.num_memories
                ari[i, j, t] = adjusted_rand_score(group, stream.recent.ident)
    return xr.Dataset(
        {"memories": (("energy", "features", "repeat"), memories), "ari": (("energy", "features", "repeat"), ari)},
        coords={"energy": list(_ENERGIES), "features": features},
        attrs={"groups": _GROUPS, "rows": _ROWS, "beta": _BETA, "rho": _RHO},
    )


def _split(name: str, seed: int, index: int) -> _Set:
    """Four fifths of the data for training, in random order, and the rest."""
    classes: np.ndarray | None = None
    if name == "groups":
        values, classes = _simulated(seed)
    else:
        values = load_shipped(name).values
    if name == "iris":
        classes = load_labels(name)
    order = np.random.default_rng([seed, len(values), index]).permutation(len(values))
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
    draws = {"num_chains": 2} | dict.fromkeys(("num_warmup", "num_draws"), 300 if settings.full else 100)
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
        for axes, name in ((left, "memories"), (right, "ari")):
            mean, spread = at[name].mean("repeat"), at[name].std("repeat", ddof=1)
            axes.errorbar(
                dimensions["features"], mean, spread, marker=marker, color=colour, label=_NAMES[energy], elinewidth=0.8
            )
    left.axhline(dimensions.attrs["groups"], color=MUTED, lw=0.8, ls="--", label="true groups")
    left.set_ylabel("memories made")
    log_axis(left, "y", [3, 10, 30, 100, 300])
    right.set_ylabel("agreement with the groups (ARI)")
    right.set_ylim(-0.05, 1.05)
    for axes in (left, right):
        log_axis(axes, "x", dimensions["features"].values.tolist())
        axes.set_xlabel("dimensions D")
        quiet(axes, grid="y")
    left.legend()
    caption = (
        f"{dimensions.attrs['rows']} data of {dimensions.attrs['groups']} groups in one pass; bars: standard "
        f"deviations over {dimensions.sizes['repeat']} simulated sets. As printed, Eq. 12 makes more memories in more "
        "dimensions, in the end one for each datum; with its normaliser it finds the groups."
    )
    return [Drawing("dimensions", figure, caption), _costs(tree["batch"].to_dataset())]


def _costs(compared: xr.Dataset) -> Drawing:
    """Quality against cost, one row per method."""
    learners = [str(name) for name in compared["learner"].values]
    rows = np.arange(len(learners))[::-1]
    figure = new_figure(8.0, 0.7 + 0.28 * len(learners))
    panels = figure.subplots(1, 3, sharey=True)
    for axes, score, label in zip(
        panels,
        ("log_density", "seconds_again", "peak_mib"),
        ("held-out log density, nats", "CPU seconds", "peak memory, MiB"),
        strict=True,
    ):
        for name, colour, marker in zip(compared["set"].values, MEMORY_COLOURS, "osD", strict=False):
            values = compared[score].sel(set=name)
            axes.plot(values.values, rows, marker=marker, color=colour, ls="none", ms=3, alpha=0.5)
            axes.plot(values.median("split"), rows, marker="|", color=colour, ls="none", ms=12, mew=2, label=str(name))
            if score == "seconds_again":
                first = compared["seconds"].sel(set=name).median("split")
                axes.plot(first, rows, marker=marker, ls="none", mfc="none", mec=colour)
        if score != "log_density":
            log_axis(axes, "x")
        axes.set_xlabel(label)
        axes.set_ylim(-0.6, len(learners) - 0.4)
        quiet(axes, grid="x")
    panels[0].set_yticks(rows, learners)
    if compared.sizes["set"] > 1:
        panels[2].legend(loc="upper center")
    caption = (
        "The same data learned in one pass and by methods that use all at once: a dot for each split, and the "
        "median. Open marks: the first run, with compilation. Peak memory is what learning, with compilation, added to "
        "a process that had imported everything and loaded the data. DP-means has no density."
    )
    return Drawing("costs", figure, caption)


def findings(tree: xr.DataTree) -> Sequence[Finding]:
    """Whether Eq. 12 as printed is the energy of its own probabilistic model; cost and loss of one pass."""
    dimensions, batch = tree["dimensions"].to_dataset(), tree["batch"].to_dataset()
    return [_printed_finding(dimensions), *(_batch_note(batch.sel(set=name)) for name in batch["set"].values)]


def _printed_finding(dimensions: xr.Dataset) -> Finding:
    last = int(dimensions["features"][-1])
    at = dimensions["memories"].sel(features=last)
    printed, exact = (at.sel(energy=energy) for energy in ("printed", "collapsed"))
    return judged(
        "The paper calls Eq. 12, as printed, the negative log density of the model with a new memory. Then it would "
        f"make the memories that the exact energy makes. In {last} dimensions it makes "
        f"{number(float(printed.mean()), 3)} of {dimensions.attrs['rows']} data, and the exact energy "
        f"{number(float(exact.mean()), 3)}; there are {dimensions.attrs['groups']} groups.",
        over_repeats((printed - exact).values, f"Memories beyond those of the exact energy, D = {last}", "data sets"),
        (-0.5, 0.5),
        "The same number of memories would have shown the opposite.",
    )


def _batch_note(rows: xr.Dataset) -> Finding:
    """Loss and cost of one pass on one data set, over its splits."""
    name, num_splits = rows["set"].item(), rows.sizes["split"]
    one, many = (rows.sel(learner=learner) for learner in (_ONE, _MANY))
    together = int((one["holding"] == 1).sum())
    density = rows["log_density"].dropna("learner", how="all")
    best = density.isel(learner=int(density.mean("split").values.argmax()))
    gaps = {
        str(learner): over_repeats((best - density.sel(learner=learner)).values, "gap", "splits")
        for learner in density["learner"].values
        if learner != best["learner"]
    }
    alike = [learner for learner, gap in gaps.items() if gap.value <= 2 * gap.error]
    behind = ", ".join(f"{learner} {with_error(gap.value, gap.error)}" for learner, gap in gaps.items())
    lead = (
        f"{best['learner'].item()} has most, but less than two standard errors more than {', '.join(alike)}"
        if alike
        else f"{best['learner'].item()} has most"
    )
    cheap, dear = (float(at["seconds_again"].median()) for at in (one, many))
    medians = rows["seconds_again"].median("split")
    slowest = medians.isel(learner=int(medians.values.argmax()))
    return Finding(
        f"{name}, {num_splits} splits: one pass makes {number(float(one['memories'].median()), 3)} memories (median), "
        f"and in {spelled(together)} of the splits one of them holds all rows. Of held-out log density {lead}; nats "
        f"behind it, with standard errors over splits: {behind}. Once compiled, one pass takes {number(cheap, 2)} CPU "
        f"seconds, sixteen particles that revisit recent data {number(dear, 2)}, and {slowest['learner'].item()} "
        f"{number(float(slowest), 2)} (medians).",
        "note",
    )


def tables(tree: xr.DataTree) -> Sequence[str]:
    """Results and costs of every method on every set."""
    batch = tree["batch"].to_dataset()
    made = []
    for name in batch["set"].values:
        at = batch.sel(set=name)
        caption = f"{escape(str(name))}, {escape(batch.attrs[str(name)])}, {batch.sizes['split']} splits"
        told = (
            "one pass against all data at once. Means with standard errors of log density and ARI, medians of the rest"
        )
        made.append(_by_method(at, _RESULTS, f"{caption}: {told}"))
        made.append(_by_method(at, _COSTS, f"{caption}: what learning costs, medians"))
    return made


def _by_method(scores: xr.Dataset, chosen: Mapping[str, str], caption: str) -> str:
    """A table with a row for each method."""
    rows = [
        [escape(str(learner)), *(_cell(scores[score].sel(learner=learner), score in _MEANS) for score in chosen)]
        for learner in scores["learner"].values
    ]
    return table(["method", *chosen.values()], rows, caption=caption)


def _cell(values: xr.DataArray, is_mean: bool) -> str:
    """Mean with its standard error, or the median; empty where there is no number."""
    known = values.dropna("split").values
    if not known.size:
        return ""
    if not is_mean:
        return number(float(np.median(known)), 3)
    return mean_with_error(known)


ON_DEMAND = register(
    Experiment(
        name="on_demand",
        title="Memories on demand",
        question="Is the printed energy of a new memory a negative log density, as the paper says, and what does one "
        "pass over the data lose compared with using all of them?",
        source="Schaeffer et al. (2023), Sec. 4, Eqs. 10 to 12",
        claims=("A16", "A17", "A18"),
        words=("ARI", "nats", "CPU seconds", "standard error"),
        run=run,
        figures=figures,
        findings=findings,
        tables=tables,
    )
)
