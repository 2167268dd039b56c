r"""Streams that change: memories that drift, fade and return, and how their number grows.

Three simulated streams. In the first every memory follows a random walk: a learner that assumes exchangeable data
averages over the places that the memory has left, one that models the walk follows it. In the second the memories are
fixed and take turns: fading counts show which are in use, and since locations do not fade a memory can return. In the
third the data come from a Pitman-Yor process, whose parameters are learned from the stream; the exponent of growth is
estimated from the sizes of the memories (CLAIMS A18, A19).
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Float, Int
from sklearn.metrics import adjusted_rand_score

from probam.conjugacy.normal import NormalKnownVariance
from probam.distributions.growth import tail_of
from probam.distributions.stick_breaking import expected_num_components
from probam.experiments.experiment import Drawing, Experiment, Settings, register
from probam.experiments.finding import Finding, judged, mean_with_error, over_repeats, standard_errors
from probam.inference.stream.decay import age_kernel, fading_process
from probam.inference.stream.drift import Diffusion, Forgetting, RandomWalk
from probam.inference.stream.engine import Absorbed, absorb, start
from probam.inference.stream.hyper import Learning
from probam.inference.stream.kernel import Kernel, log_seats
from probam.inference.stream.state import StreamState
from probam.inference.stream.weights import PitmanYor
from probam.reports.figures.style import GRID, MEMORY_COLOURS, MUTED, log_axis, new_figure, quiet, styled
from probam.reports.page import number, table, with_error

__all__ = ["DRIFTING"]

_LEARNERS = ("stationary", "random walk", "diffusion", "forgetting")
_LAWS = ("never fades", "exponential", "power law")
_NOISE = 0.5  # standard deviation of a datum around its memory
_STEP = 0.1  # of a memory's step with each datum
_WIDTH = 8.0  # of the memories around zero
_HALF_LIFE = 100.0
_NEAR = 0.1
"""Error of an exponent of growth up to which it counts as the true one; the laws are 0.2 apart."""
_SPAN = 200
"""Data over which scores are averaged."""


def _pair(dim: int, width: float, noise: float) -> NormalKnownVariance:
    return NormalKnownVariance(
        *(jnp.asarray(value) for value in (np.zeros(dim), np.full(dim, width**2), np.full(dim, noise**2)))
    )


def _process(alpha: float, discount: float = 0.0) -> PitmanYor:
    return PitmanYor(jnp.asarray(alpha), jnp.asarray(discount))


def _stream(kernel: Kernel, x: Float[np.ndarray, "N D"], seed: int, capacity: int = 64) -> tuple[StreamState, Absorbed]:
    return absorb(kernel, start(kernel, x.shape[1], float, jax.random.key(seed), capacity=capacity), x)


def run(settings: Settings) -> xr.DataTree:
    """The three streams."""
    repeats = 8 if settings.full else 4
    total = 2 * repeats + 1
    parts: dict[str, list[xr.Dataset]] = {"drift": [], "fading": []}
    for t in range(repeats):
        settings.progress(t, total, "memories that drift")
        parts["drift"].append(_drift(settings, t))
    for t in range(repeats):
        settings.progress(repeats + t, total, "memories that fade")
        parts["fading"].append(_fading(settings, t))
    drift, fading = (xr.concat(parts[name], "repeat", combine_attrs="override") for name in ("drift", "fading"))
    settings.progress(total - 1, total, "growth")
    growth = _growth(settings)
    settings.progress(total, total, "done")
    return xr.DataTree.from_dict({"drift": drift, "fading": fading, "growth": growth})


def _drift(settings: Settings, repeat: int) -> xr.Dataset:
    """One stream of memories on random walks, learned under each motion."""
    num_data, num_memories, dim = (12_000 if settings.full else 3000), 5, 2
    rng = np.random.default_rng([settings.seed, repeat])
    labels = rng.integers(0, num_memories, num_data)
    walks = np.cumsum(_STEP * rng.normal(size=(num_data, num_memories, dim)), axis=0)
    path = _WIDTH * rng.normal(size=(num_memories, dim)) + walks
    x = path[np.arange(num_data), labels] + _NOISE * rng.normal(size=(num_data, dim))
    still = Kernel(_pair(dim, _WIDTH, _NOISE), _process(1.0))
    rate = -np.expm1(-np.log(2) / 50)
    motions = (
        None,
        RandomWalk(jnp.asarray(_STEP**2)),
        Diffusion(jnp.asarray(_STEP**2 / _WIDTH**2)),
        Forgetting(jnp.asarray(rate)),
    )
    num_spans = num_data // _SPAN
    scores, agreement, sizes, overall = [], [], [], []
    for motion in motions:
        _, absorbed = _stream(Kernel(still.pair, still.law, motion=motion), x, settings.seed + repeat, 512)
        spans = zip(np.split(labels, num_spans), np.split(absorbed.ident, num_spans), strict=True)
        agreement.append([adjusted_rand_score(truth, ident) for truth, ident in spans])
        overall.append(adjusted_rand_score(labels, absorbed.ident))
        scores.append(absorbed.log_predictive.reshape(num_spans, _SPAN).mean(axis=1))
        sizes.append(absorbed.size[_SPAN - 1 :: _SPAN])
    return xr.Dataset(
        {
            "log_predictive": (("learner", "datum"), np.stack(scores)),
            "agreement": (("learner", "datum"), np.array(agreement)),
            "num_memories": (("learner", "datum"), np.stack(sizes)),
            "agreement_overall": ("learner", np.array(overall)),
        },
        coords={"learner": list(_LEARNERS), "datum": np.arange(1, num_spans + 1) * _SPAN},
        attrs={"true_memories": num_memories, "step": _STEP, "noise": _NOISE, "num_data": num_data},
    )


def _fading(settings: Settings, repeat: int) -> xr.Dataset:
    """One stream of memories that take turns, learned under each law."""
    length = 3000 if settings.full else 900
    shares = np.array([[0.9, 0.05, 0.05], [0.0, 0.5, 0.5], [0.9, 0.05, 0.05]])
    places = 1.1 * np.array([[0.0, 1.0], [0.866, -0.5], [-0.866, -0.5]])  # too close to be separated
    rng = np.random.default_rng([settings.seed, repeat, 1])
    labels = np.concatenate([rng.choice(3, size=length, p=share) for share in shares])
    x = places[labels] + _NOISE * rng.normal(size=(len(labels), 2))
    every = 20
    laws: list[Any] = [_process(0.05)]
    laws += [
        fading_process(0.05, 0.0, age_kernel(_HALF_LIFE, fading), np.dtype(float))
        for fading in ("exponential", "power")
    ]
    weights, scores, returned = [], [], []
    for law in laws:
        kernel = Kernel(_pair(2, 2.0, _NOISE), law)
        state = start(kernel, 2, float, jax.random.key(settings.seed + repeat), capacity=16)
        path, log_scores, ident = [], [], []
        seats = jax.jit(log_seats)
        for first in range(0, len(x), every):
            state, absorbed = absorb(kernel, state, x[first : first + every])
            log_scores.append(absorbed.log_predictive)
            ident.append(absorbed.ident)
            slots = np.where(np.asarray(state.live), np.exp(np.asarray(seats(kernel, state, ~state.live))), 0)
            path.append(slots)
        joined = np.concatenate(ident)
        first_memory = np.bincount(joined[:length][labels[:length] == 0]).argmax()
        again = joined[2 * length :][labels[2 * length :] == 0]
        returned.append(np.mean(again == first_memory))
        slot = int(np.flatnonzero(np.asarray(state.ident) == first_memory)[0])
        weights.append([at[slot] for at in path])
        scores.append(np.concatenate(log_scores).reshape(3, length).mean(axis=1))
    return xr.Dataset(
        {
            "weight": (("law", "datum"), np.array(weights)),
            "log_predictive": (("law", "phase"), np.stack(scores)),
            "returned": ("law", np.array(returned)),
            "share": (("phase", "memory"), shares),
        },
        coords={"law": list(_LAWS), "datum": np.arange(every, len(x) + 1, every), "phase": [1, 2, 3]},
        attrs={"half_life": _HALF_LIFE, "length": length},
    )


def _partition(rng: np.random.Generator, alpha: float, discount: float, num_data: int) -> Int[np.ndarray, " N"]:
    """Labels of a two-parameter Chinese restaurant process."""
    counts, labels = np.zeros(num_data), np.zeros(num_data, int)
    size = 0
    for n in range(num_data):
        seats = np.append(counts[:size] - discount, alpha + discount * size if n else 1.0)
        labels[n] = min(np.searchsorted(np.cumsum(seats), rng.random() * seats.sum(), side="right"), size)
        counts[labels[n]] += 1
        size = max(size, labels[n] + 1)
    return labels


def _growth(settings: Settings) -> xr.Dataset:
    num_data, repeats, dim = (20_000, 8, 8) if settings.full else (3000, 3, 8)
    laws = [(6.0, 0.0), (2.0, 0.3), (1.0, 0.5), (0.5, 0.7)]
    rng = np.random.default_rng(settings.seed + 2)
    marks = np.unique(np.geomspace(10, num_data, 30).astype(int))
    memories = np.zeros((len(laws), repeats, len(marks)))
    right, expected = np.zeros((len(laws), repeats)), np.zeros((len(laws), len(marks)))
    tails = {name: np.zeros((len(laws), repeats)) for name in ("fitted", "error", "p_value", "learned", "slope")}
    learning = Learning(jnp.array([1.0, 0.2]), jnp.array([1.0, 3.0]), every=50, dirichlet=False)
    kernel = Kernel(_pair(dim, 20.0, _NOISE), _process(1.0, 0.25), learning=learning)
    for i, (alpha, discount) in enumerate(laws):
        expected[i] = [expected_num_components(alpha, discount, int(n)) for n in marks]
        for j in range(repeats):
            labels = _partition(rng, alpha, discount, num_data)
            places = 20 * rng.normal(size=(labels.max() + 1, dim))
            x = places[labels] + _NOISE * rng.normal(size=(num_data, dim))
            state, absorbed = _stream(kernel, x, settings.seed + j, 512 if not settings.full else 2048)
            counts = np.asarray(state.counts)[np.asarray(state.live)]
            tail = tail_of(np.round(counts))
            memories[i, j] = absorbed.size[marks - 1]
            right[i, j] = adjusted_rand_score(labels, absorbed.ident)
            late = marks >= num_data / 30
            slope = np.polyfit(np.log(marks[late]), np.log(memories[i, j, late]), 1)[0]
            values = (tail.discount, tail.discount_se, tail.p_value, float(state.hyper.discount), slope)  # type: ignore[union-attr]
            for name, value in zip(tails, values, strict=True):
                tails[name][i, j] = value
    return xr.Dataset(
        {
            "memories": (("law", "repeat", "datum"), memories),
            "expected": (("law", "datum"), expected),
            "agreement": (("law", "repeat"), right),
            **{name: (("law", "repeat"), values) for name, values in tails.items()},
        },
        coords={
            "datum": marks,
            "alpha": ("law", [alpha for alpha, _ in laws]),
            "discount": ("law", [discount for _, discount in laws]),
        },
    )


# --- the page -------------------------------------------------------------------------------------------------


@styled
def figures(tree: xr.DataTree) -> Sequence[Drawing]:
    """One drawing for each stream."""
    return [_drift_drawing(tree), _fading_drawing(tree), _growth_drawing(tree)]


def _drift_drawing(tree: xr.DataTree) -> Drawing:
    drift = tree["drift"].to_dataset()
    figure = new_figure(6.4, 5.4)
    panels = figure.subplots(3, 1, sharex=True)
    for name, axes, label in zip(
        ("log_predictive", "agreement", "num_memories"),
        panels,
        ("nats per datum", "adjusted Rand", "memories"),
        strict=True,
    ):
        for i, learner in enumerate(drift["learner"].values):
            style = "--" if learner == "diffusion" else "-"  # it lies on the random walk
            each = drift[name].sel(learner=learner)
            mean, error = each.mean("repeat"), standard_errors(each, "repeat")
            axes.plot(drift["datum"], mean, style, color=MEMORY_COLOURS[i], lw=1.6, label=str(learner))
            axes.fill_between(drift["datum"], mean - error, mean + error, color=MEMORY_COLOURS[i], alpha=0.15, lw=0)
        axes.set_ylabel(label)
        quiet(axes, grid="y")
    panels[2].axhline(drift.attrs["true_memories"], color=MUTED, lw=0.8, ls="--")
    log_axis(panels[2], "y")
    panels[2].set_xlabel("data seen")
    panels[0].legend(ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    caption = (
        f"{drift.attrs['true_memories']} memories on random walks. Top: prequential log score. Middle: agreement with "
        f"the true labels; both over {_SPAN} data. Bottom: number of memories (dashed: the truth). Means and "
        f"standard errors over {drift.sizes['repeat']} streams."
    )
    return Drawing("drift", figure, caption)


def _fading_drawing(tree: xr.DataTree) -> Drawing:
    fading = tree["fading"].to_dataset()
    length = int(fading.attrs["length"])
    figure = new_figure(6.4, 3.0)
    axes = figure.subplots()
    axes.axvspan(length, 2 * length, color=GRID, alpha=0.6, lw=0)
    for i, law in enumerate(fading["law"].values):
        each = fading["weight"].sel(law=law)
        mean, spread = each.mean("repeat"), each.std("repeat", ddof=1)
        axes.plot(fading["datum"], mean, color=MEMORY_COLOURS[i], lw=1.4, label=str(law))
        axes.fill_between(fading["datum"], mean - spread, mean + spread, color=MEMORY_COLOURS[i], alpha=0.15, lw=0)
    for phase in range(3):
        share = float(fading["share"].isel(repeat=0, phase=phase, memory=0))
        axes.hlines(share, phase * length, (phase + 1) * length, color=MUTED, lw=0.8, ls="--")
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel("data seen")
    axes.set_ylabel("weight of the first memory")
    axes.legend(loc="lower left")
    quiet(axes, grid="y")
    caption = (
        "A memory in use, out of use (shaded) and in use again: its probability before each datum, and the true share "
        f"(dashed). Counts fade with a half-life of {fading.attrs['half_life']:g} data, exponentially or as a power "
        f"law. Means and standard deviations over {fading.sizes['repeat']} streams."
    )
    return Drawing("fading", figure, caption)


def _growth_drawing(tree: xr.DataTree) -> Drawing:
    growth = tree["growth"].to_dataset()
    figure = new_figure(6.4, 3.4)
    axes = figure.subplots()
    for i, discount in enumerate(growth["discount"].values):
        colour = MEMORY_COLOURS[i]
        for j in range(growth.sizes["repeat"]):
            axes.plot(growth["datum"], growth["memories"][i, j], color=colour, lw=0.8, alpha=0.6)
        label = f"alpha = {float(growth['alpha'][i]):g}, d = {discount:g}"
        axes.plot(growth["datum"], growth["expected"][i], color=colour, lw=2, ls="--", label=label)
    log_axis(axes, "x")
    log_axis(axes, "y")
    axes.set_xlabel("data seen")
    axes.set_ylabel("memories")
    axes.legend()
    caption = (
        "Number of memories of streams (thin) whose data come from Pitman-Yor processes, and its expectation (dashed). "
        "Growth is logarithmic without discount, and a power law with it."
    )
    return Drawing("growth", figure, caption)


def findings(tree: xr.DataTree) -> Sequence[Finding]:
    """What the three streams show."""
    drift, fading, growth = (tree[name].to_dataset() for name in ("drift", "fading", "growth"))
    return [*_drift_findings(drift), *_fading_findings(fading), _exponents_finding(growth), _dirichlet_finding(growth)]


def _drift_findings(drift: xr.Dataset) -> list[Finding]:
    still, walk = (drift.sel(learner=learner) for learner in ("stationary", "random walk"))
    late = slice(-drift.sizes["datum"] // 3, None)
    walked, stayed = (mean_with_error(at["agreement"].isel(datum=late).mean("datum")) for at in (walk, still))
    made, made_still = (mean_with_error(at["num_memories"].isel(datum=-1)) for at in (walk, still))
    gain = walk["log_predictive"].mean("datum") - still["log_predictive"].mean("datum")
    return [
        Finding(
            f"Stationary memories fail on a drifting stream: modelling the walk gains {mean_with_error(gain)} nats per "
            f"datum over {drift.sizes['repeat']} streams, and over the last third the adjusted Rand index with the "
            f"true labels is {walked} instead of {stayed}.",
            "note",
        ),
        Finding(
            f"Over the whole stream the index is {mean_with_error(walk['agreement_overall'])} with the walk and "
            f"{mean_with_error(still['agreement_overall'])} with stationary memories. The former has made {made} "
            f"memories, the latter {made_still}; the true number is {drift.attrs['true_memories']}.",
            "note",
        ),
    ]


def _fading_findings(fading: xr.Dataset) -> list[Finding]:
    returned = ", ".join(f"{law} {mean_with_error(fading['returned'].sel(law=law))}" for law in fading["law"].values)
    change = fading["log_predictive"] - fading["log_predictive"].sel(law=_LAWS[0])
    exponential, power = (
        tuple(mean_with_error(change.sel(law=law, phase=phase)) for phase in (2, 3)) for law in _LAWS[1:]
    )
    return [
        Finding(
            "Memories fade and return: one memory was out of use for "
            f"{number(fading.attrs['length'] / fading.attrs['half_life'], 3)} half-lives. Of its later data this share "
            f"was assigned to the memory made before, over {fading.sizes['repeat']} streams: {returned}.",
            "note",
        ),
        Finding(
            f"Compared with counts that never fade, exponential fading gains {exponential[0]} nats per datum while the "
            f"memory is out of use and {exponential[1]} after its return; the power law gains {power[0]} and "
            f"{power[1]}.",
            "note",
        ),
    ]


def _exponents_finding(growth: xr.Dataset) -> Finding:
    true, fitted, error = (growth[name].values for name in ("discount", "fitted", "error"))
    fits = [f"d = {float(discount):g}: {mean_with_error(fit)}" for discount, fit in zip(true, fitted, strict=True)]
    power = true > 0
    off = (fitted - true[:, None])[power]
    inside = int((np.abs(off) < 2 * error[power]).sum())
    return judged(
        "The number of memories grows as the process predicts: logarithmically, or as a power of the data. Exponents "
        f"fitted to the sizes of the memories: {'; '.join(fits)}. Of {off.size} fits with d above zero {inside} are "
        "within two of their own standard errors.",
        over_repeats(off.ravel(), "Fitted less true exponent, of the laws with d above zero", "streams"),
        (-_NEAR, _NEAR),
        f"Exponents that are off by more than {_NEAR:g} on average would have shown the opposite.",
    )


def _dirichlet_finding(growth: xr.Dataset) -> Finding:
    """Tests of a Dirichlet process on streams that are and are not of one."""
    power, rejected = growth["discount"].values > 0, growth["p_value"].values < 0.01
    right, wrong = rejected[power], rejected[~power]
    return Finding(
        f"A Dirichlet process is rejected (p < 0.01) for {int(right.sum())} of {right.size} streams with a "
        f"power-law tail, and for {int(wrong.sum())} of {wrong.size} without one.",
        "note",
    )


def tables(tree: xr.DataTree) -> Sequence[str]:
    """Drift by learner, growth by law."""
    drift, growth = tree["drift"].to_dataset(), tree["growth"].to_dataset()
    rows = [
        [
            str(learner),
            mean_with_error(at["log_predictive"].mean("datum")),
            mean_with_error(at["agreement"].mean("datum")),
            mean_with_error(at["agreement_overall"]),
            mean_with_error(at["num_memories"].isel(datum=-1)),
        ]
        for learner, at in ((learner, drift.sel(learner=learner)) for learner in drift["learner"].values)
    ]
    header = ["learner", "nats per datum", f"Rand index of {_SPAN}", "of all", "made"]
    first = table(header, rows, caption="Memories on random walks: means and standard errors over streams")
    rows = [
        [
            f"alpha {float(growth['alpha'][i]):g}, d {float(growth['discount'][i]):g}",
            f"{float(growth['memories'][i, :, -1].mean()):.0f}",
            f"{float(growth['expected'][i, -1]):.0f}",
            with_error(float(growth["fitted"][i].mean()), float(growth["fitted"][i].std())),
            f"{float(growth['slope'][i].mean()):.2f}",
            f"{float(growth['learned'][i].mean()):.2f}",
        ]
        for i in range(growth.sizes["law"])
    ]
    header = ["process", "made", "expected", "fitted d", "slope of the curve", "learned d"]
    return [first, table(header, rows, caption="Growth: means over repeats, and the spread of the fitted d")]


DRIFTING = register(
    Experiment(
        name="drifting",
        title="Memories that drift, fade and grow in number",
        question="Does a memory that expects change do better where things change, and is the law of growth recovered?",
        source="Schaeffer et al. (2023), memories on demand; Ahmed and Xing (2008)",
        claims=("A18", "A19", "D5"),
        words=("prequential", "nats", "ARI", "discount", "pyp", "standard error"),
        run=run,
        figures=figures,
        findings=findings,
        tables=tables,
    )
)
