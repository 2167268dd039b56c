r"""Memories on demand: the printed energy of a new memory against the exact one, and one pass against the batch.

Part one streams data of a known number of groups through Eq. 12 as printed, Eq. 12 with its normaliser, and the exact
collapsed energy (claims A16, A17), in ever more dimensions. Part two fits real data in one pass and by engines that see
all data at once, on the same split.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpyro.distributions as dist
import xarray as xr
from jaxtyping import Float, Int
from matplotlib.ticker import NullLocator
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import BayesianGaussianMixture

import probam.api as api
from probam.data.shipped import load_labels, load_shipped
from probam.experiments.experiment import Drawing, Experiment, Finding, Settings, register
from probam.fitted import Fit
from probam.reports.page import escape, number, spelled, table
from probam.reports.style import MEMORY_COLOURS, MUTED, new_figure, quiet, styled
from probam.reports.tree import variable
from probam.streaming import Stream

__all__ = ["ON_DEMAND", "dp_means"]

_ENERGIES = ("printed", "conditional", "collapsed")
_NAMES = {"printed": "as printed", "conditional": "with its normaliser", "collapsed": "exact, collapsed"}
_GROUPS, _ROWS = 10, 300
_BETA, _RHO = 12.5, 0.5  # within a group variance 1 / (2 beta), of its places 1 / (2 rho)

_TRUNCATION = 15
_SCORES = ("memories", "log_density", "ari", "seconds")


def run(settings: Settings) -> xr.DataTree:
    """Number of memories by dimension and energy; scores by data set and method."""
    features = np.array([1, 2, 4, 8, 16, 32, 64, 128, 256, 512] if settings.full else [1, 2, 8, 64, 512])
    sets = ("iris", "faithful")
    methods = _methods(settings)
    total = features.size * len(_ENERGIES) + len(sets) * len(methods)
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
    scores = np.full((len(sets), len(methods), len(_SCORES)), np.nan)
    for s, name in enumerate(sets):
        values = load_shipped(name).values
        classes = load_labels(name) if name == "iris" else None
        rng = np.random.default_rng([settings.seed, s])
        order = rng.permutation(len(values))
        inside, outside = order[: int(0.8 * len(order))], order[int(0.8 * len(order)) :]
        centre, scale = values[inside].mean(axis=0), values[inside].std(axis=0)
        x, held = (values[inside] - centre) / scale, (values[outside] - centre) / scale
        for m, (label, method) in enumerate(methods.items()):
            settings.progress(done, total, f"{name}: {label}")
            began = time.perf_counter()
            labels, log_density, count = method(x, held)
            seconds = time.perf_counter() - began
            agreement = np.nan if classes is None else adjusted_rand_score(classes[inside], labels)
            scores[s, m] = count, log_density, agreement, seconds
            done += 1
    settings.progress(total, total, "done")
    simulated = xr.Dataset(
        {"memories": (("energy", "features"), memories), "ari": (("energy", "features"), ari)},
        coords={"energy": list(_ENERGIES), "features": features},
        attrs={"groups": _GROUPS, "rows": _ROWS, "beta": _BETA, "rho": _RHO},
    )
    real = xr.Dataset(
        {name: (("set", "learner"), scores[..., i]) for i, name in enumerate(_SCORES)},
        coords={"set": list(sets), "learner": list(methods)},
    )
    return xr.DataTree.from_dict({"dimensions": simulated, "batch": real})


_Method = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, float, float]]
"""Data and held-out data -> labels, mean log density of the held-out data (nats), number of memories."""


def _methods(settings: Settings) -> dict[str, _Method]:
    common = {"covariance": "full", "weights": "dp", "alpha": 1.0, "components": _TRUNCATION, "seed": settings.seed}

    def by(engine: str, **options: object) -> _Method:
        def method(x: np.ndarray, held: np.ndarray) -> tuple[np.ndarray, float, float]:
            return _of(api.fit(x, engine=engine, **common, **options), held)  # type: ignore[arg-type]

        return method

    def stream(**options: int) -> _Method:
        def method(x: np.ndarray, held: np.ndarray) -> tuple[np.ndarray, float, float]:
            learned = Stream(covariance="full", alpha=1.0, seed=settings.seed, **options).partial_fit(x).flush()  # type: ignore[arg-type]
            score = float(learned.predict(held)["log_predictive"].mean())
            return learned.predict(x)["memory"].values, score, float(learned.num_memories)

        return method

    def sklearn(x: np.ndarray, held: np.ndarray) -> tuple[np.ndarray, float, float]:
        found: Any = BayesianGaussianMixture(  # type: ignore[no-untyped-call]
            n_components=_TRUNCATION,
            weight_concentration_prior=1.0,
            n_init=4,
            max_iter=1000,
            random_state=settings.seed,
        )
        labels = found.fit_predict(x)
        return labels, float(found.score(held)), float(len(np.unique(labels)))

    def hard(x: np.ndarray, held: np.ndarray) -> tuple[np.ndarray, float, float]:  # noqa: ARG001 (it has no density)
        labels = dp_means(x, radius=2.0)
        return labels, float("nan"), float(len(np.unique(labels)))

    draws = {"num_chains": 2, "num_warmup": 300, "num_draws": 500}
    made: dict[str, _Method] = {
        "stream": stream(),
        "stream, rejuvenated": stream(rejuvenate_every=50),
        "stream, 16 particles": stream(rejuvenate_every=50, particles=16),
        "Gibbs": by("gibbs", kernel="collapsed", partition="exchangeable", base="conjugate", split_merge=5, **draws),
        "CAVI": by("cavi"),
        "scikit-learn": sklearn,
        "DP-means": hard,
    }
    if settings.full:
        made["NUTS"] = by("nuts", **draws)
    return made


def _of(fit: Fit, held: np.ndarray) -> tuple[np.ndarray, float, float]:
    labels = variable(fit.tree, "partition", "label").values
    count = float(variable(fit.tree, "invariant", "num_occupied").mean())
    return labels, float(fit.log_prob(held).mean()), count


def dp_means(x: Float[np.ndarray, "N D"], radius: float, *, max_steps: int = 100) -> Int[np.ndarray, " N"]:
    """Labels by DP-means (Kulis and Jordan 2012): k-means that opens a group for a datum farther than ``radius``."""
    places = x.mean(axis=0, keepdims=True)
    labels = np.zeros(len(x), int)
    for _ in range(max_steps):
        before = labels.copy()
        for n, row in enumerate(x):
            squares = ((places - row) ** 2).sum(axis=1)
            labels[n] = squares.argmin()
            if squares.min() > radius**2:
                places, labels[n] = np.vstack([places, row]), len(places)
        kept, labels = np.unique(labels, return_inverse=True)
        places = np.stack([x[labels == k].mean(axis=0) for k in range(len(kept))])
        if (labels == before).all():
            break
    return labels


@styled
def figures(tree: xr.DataTree) -> Sequence[Drawing]:
    """Memories made against the dimension, and how well they are the groups."""
    told = tree["dimensions"].to_dataset()
    figure = new_figure(8.0, 3.2)
    left, right = figure.subplots(1, 2)
    for energy, colour, marker in zip(_ENERGIES, MEMORY_COLOURS, "osD", strict=False):
        at = told.sel(energy=energy)
        left.plot(told["features"], at["memories"], marker=marker, color=colour, label=_NAMES[energy], alpha=0.9)
        right.plot(told["features"], at["ari"], marker=marker, color=colour, alpha=0.9)
    left.axhline(told.attrs["groups"], color=MUTED, lw=0.8, ls="--", label="groups there are")
    left.set_ylabel("memories made")
    left.set_yscale("log")
    left.set_yticks([3, 10, 30, 100, 300], ["3", "10", "30", "100", "300"])
    left.yaxis.set_minor_locator(NullLocator())
    right.set_ylabel("agreement with the groups (ARI)")
    right.set_ylim(-0.05, 1.05)
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.set_xticks(told["features"].values, [str(value) for value in told["features"].values])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("dimensions D")
        quiet(axes, grid="y")
    left.legend()
    caption = (
        f"{told.attrs['rows']} data of {told.attrs['groups']} groups in one pass. As printed, Eq. 12 makes more and "
        "more memories as dimensions are added, in the end one for each datum; with its normaliser it finds the groups."
    )
    return [Drawing("dimensions", figure, caption)]


def findings(tree: xr.DataTree) -> Sequence[Finding]:
    """Whether Eq. 12 as printed is the energy of its own probabilistic model; what one pass costs and loses."""
    told = tree["dimensions"].to_dataset()
    last = int(told["features"][-1])
    at = told.sel(features=last)
    printed, exact = (int(at["memories"].sel(energy=energy)) for energy in ("printed", "collapsed"))
    agrees = bool((told["memories"].sel(energy="printed") == told["memories"].sel(energy="conditional")).all())
    said = [
        Finding(
            f"Eq. 12 as printed is said to be the negative log density of the model with a new memory. In {last} "
            f"dimensions it makes {printed} memories of {told.attrs['rows']} data, the exact energy {exact}; there are "
            f"{told.attrs['groups']} groups.",
            "agrees" if agrees else "differs",
        )
    ]
    batch = tree["batch"].to_dataset()
    for name in batch["set"].values:
        rows = batch.sel(set=name)
        dense = rows["log_density"].dropna("learner")
        best = str(dense["learner"].values[int(dense.values.argmax())])
        one, moved = (rows.sel(learner=learner) for learner in ("stream", "stream, rejuvenated"))
        said.append(
            Finding(
                f"{name}: one pass makes {spelled(int(one['memories']), 'memory', 'memories')} and predicts a held-out "
                f"datum with {number(float(one['log_density']), 4)} nats; with rejuvenation it makes "
                f"{spelled(int(moved['memories']))} and has {number(float(moved['log_density']), 4)}; the best, "
                f"{best}, has {number(float(dense.max()), 4)}.",
                "note",
            )
        )
    return said


def tables(tree: xr.DataTree) -> Sequence[str]:
    """Scores of every method on every set."""
    batch = tree["batch"].to_dataset()
    made = []
    for name in batch["set"].values:
        rows = []
        for learner in batch["learner"].values:
            at = batch.sel(set=name, learner=learner)
            values = [float(at[score]) for score in _SCORES]
            rows.append([escape(str(learner)), *(number(value, 4) if np.isfinite(value) else "" for value in values)])
        header = ["method", "memories", "held-out log density", "ARI", "seconds, with compilation"]
        made.append(table(header, rows, caption=f"{escape(str(name))}: one pass against all data at once"))
    return made


ON_DEMAND = register(
    Experiment(
        name="on_demand",
        title="Memories on demand",
        question="Is the printed energy of a new memory the likelihood that it is said to be, and what does one pass "
        "over the data lose against seeing them all?",
        source="Schaeffer et al. (2023), Sec. 4, Eqs. 10 to 12; claims A16 to A18",
        run=run,
        figures=figures,
        findings=findings,
        tables=tables,
    )
)
