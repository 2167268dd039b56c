"""Assignments that climb the evidence lower bound, with memories that follow its gradient, against EM, CAVI and Gibbs.

Two memories of Schaeffer et al. (2024). One is told the number of memories and learns all data at once; from the same
starts its ends are compared with those of EM. The other makes memories of a stream by a restaurant process with
expected counts; it is told the noise and the spread of the memories, which the engines have to learn, and sees each
datum once. Groups are simulated from the model.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float, Int
from sklearn.metrics import adjusted_rand_score

from probam.energies.assignments import climb, energy, update
from probam.energies.clam import energy as clam_energy
from probam.energies.streamed_assignments import StreamedAssignments, started
from probam.experiments.clusterers import Split, gaussian_log_density, grouped
from probam.experiments.clustering import likeliest
from probam.experiments.experiment import Drawing, Experiment, Settings, register
from probam.experiments.finding import Finding, judged, mean_with_error, over_repeats
from probam.experiments.learners import Engine
from probam.reports.figures.style import MEMORY_COLOURS, MUTED, log_axis, new_figure, quiet, styled
from probam.reports.page import table

__all__ = ["ASSIGNMENT_DYNAMICS", "climbed", "log_density"]

_BETA, _RHO, _ALPHA = 0.5, 0.5 / 5.0**2, 1.0
"""Unit noise, memories of standard deviation 5, and the strength of the process."""
_GROUPS, _PLACES = 5, 40
_RATES = (0.05, 0.2, 1.0)
"""Of the shares, and steps of the memories."""
_STEPS = 3000
_ORDERS = 5
_METHODS = ("stream of assignments", "EM, told K", "CAVI", "Gibbs")


class _Data(NamedTuple):
    """Rows to learn and to predict, and the groups of the former."""

    x: Float[np.ndarray, "N 2"]
    held_out: Float[np.ndarray, "M 2"]
    groups: Int[np.ndarray, " N"]


def _simulated(rng: np.random.Generator, size: int) -> _Data:
    labels = rng.permutation(np.arange(size + 100) % _GROUPS)
    centres = rng.normal(size=(_GROUPS, 2)) / (2 * _RHO) ** 0.5
    x = centres[labels] + rng.normal(size=(size + 100, 2)) / (2 * _BETA) ** 0.5
    return _Data(x[:size], x[size:], labels[:size])


@partial(jax.jit, static_argnames="num_steps")
def climbed(
    memories: Float[Array, "K D"], x: Float[Array, "N D"], beta: Array, rate: Array, num_steps: int
) -> tuple[Float[Array, "K D"], Float[Array, " T"]]:
    """Memories after shares and memories have climbed the sum of the bounds, CLAM's energy of the data at each step.

    Args:
        memories: where to start; the shares start equal.
        x: data.
        beta: inverse temperature.
        rate: of the shares and of the memories.
        num_steps: T.
    """

    def step(state: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], Array]:
        q, places = climb(*state, x, beta, rate=rate, step=rate)
        return (q, places), jnp.mean(clam_energy(x, places, beta))

    start = jnp.full((len(x), len(memories)), 1 / len(memories), x.dtype)
    first = update(start, x, memories, beta)  # equal shares would move all memories to one place
    (_, places), heights = jax.lax.scan(step, (first, memories), length=num_steps)
    return places, heights


@jax.jit
def _least(x: Float[Array, "N D"], memories: Float[Array, "K D"], beta: Array) -> Float[Array, " N"]:
    """Energy of the shares of every row after a recall of 60 steps at the rate 1/2, from equal shares."""
    start = jnp.full((len(x), len(memories)), 1 / len(memories), x.dtype)
    q = jax.lax.fori_loop(0, 60, lambda _, at: update(at, x, memories, beta, rate=0.5), start)
    return energy(q, x, memories, beta)


@jax.jit
def log_density(memory: StreamedAssignments, x: Float[Array, "M D"]) -> tuple[Float[Array, " M"], Float[Array, "M S"]]:
    """Log of the predictive density of every row, by the least energy, and its shares.

    Args:
        memory: what was learned, with whole or expected counts.
        x: rows.
    """
    beta = jnp.asarray(memory.beta)
    num_data = jnp.sum(jnp.asarray(memory.counts))
    constant = jnp.log(num_data + memory.alpha) + 0.5 * x.shape[1] * jnp.log(jnp.pi / beta)

    def one(row: Array) -> tuple[Array, Array]:
        seen = replace(memory, observation=row, rate=1.0)
        shares = seen.update(jnp.full(seen.shape, 1 / seen.shape[0], x.dtype))
        return -beta * seen.energy(shares) - constant, shares

    densities, shares = jax.vmap(one)(x)
    return densities, shares


def run(settings: Settings) -> xr.DataTree:
    """Ends of climbs from the same starts as EM; scores of streams and engines."""
    repeats, num_starts, size = (20, 20, 1000) if settings.full else (12, 5, 200)
    data = [_simulated(np.random.default_rng([settings.seed, r]), size) for r in range(repeats)]
    ends = np.empty((len(_RATES), repeats, num_starts))
    gaps = np.empty(repeats)
    paths = np.empty((len(_RATES), _STEPS))
    scores = np.empty((3, len(_METHODS), repeats))
    orders = np.empty((repeats, _ORDERS))
    for r, each in enumerate(data):
        settings.progress(r, repeats, f"data set {r + 1} of {repeats}")
        rng = np.random.default_rng([settings.seed, r, 1])
        starts = [each.x[rng.permutation(size)[:_GROUPS]] for _ in range(num_starts)]
        ends[:, r], paths_here, gaps[r] = _against_em(each.x, starts)
        paths = paths_here if r == 0 else paths
        scores[:, :, r], orders[r] = _streams(each, settings.seed + r, rng)
    numbers = xr.Dataset(
        {
            "gain": (("rate", "repeat", "start"), ends),
            "bound_gap": ("repeat", gaps),
            "path": (("rate", "step"), paths),
            "log_density": (("learner", "repeat"), scores[0]),
            "memories": (("learner", "repeat"), scores[1]),
            "ari": (("learner", "repeat"), scores[2]),
            "by_order": (("repeat", "order"), orders),
        },
        coords={"rate": list(_RATES), "learner": list(_METHODS)},
        attrs={"num_data": size, "num_groups": _GROUPS},
    )
    return xr.DataTree.from_dict({"numbers": numbers})


def _against_em(
    x: Float[np.ndarray, "N D"], starts: list[Float[np.ndarray, "K D"]]
) -> tuple[Float[np.ndarray, "R S"], Float[np.ndarray, "R T"], float]:
    """Log likelihood above EM's by rate and start; the way of the first start; the largest gap of the bounds."""
    rows, beta = jnp.asarray(x), jnp.asarray(_BETA)
    gains, paths, gap = np.empty((len(_RATES), len(starts))), [], 0.0
    for s, start in enumerate(starts):
        by_em = gaussian_log_density(x, np.asarray(likeliest(jnp.asarray(start), rows, beta)), _BETA)
        for i, rate in enumerate(_RATES):
            places, heights = climbed(jnp.asarray(start), rows, beta, jnp.asarray(rate), _STEPS)
            log_p = gaussian_log_density(x, np.asarray(places), _BETA)
            gains[i, s] = log_p.mean() - by_em.mean()
            constant = np.log(len(start)) + 0.5 * x.shape[1] * np.log(np.pi / _BETA)
            bounds = -_BETA * np.asarray(_least(rows, places, beta)) - constant
            gap = max(gap, float(np.max(np.abs(bounds - log_p))))
            if s == 0:
                paths.append(-_BETA * np.asarray(heights) - constant - by_em.mean())
    return gains, np.stack(paths), gap


def _streams(
    data: _Data, seed: int, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "3 M"], Float[np.ndarray, " O"]]:
    """Held-out log density, memories and ARI of each method; memories of the stream in other orders."""
    x, held_out = jnp.asarray(data.x), jnp.asarray(data.held_out)
    empty = started(_PLACES, x[0], beta=_BETA, rho=_RHO, alpha=_ALPHA)
    learned = _learned(empty, x)
    shares = np.asarray(log_density(learned, x)[1])
    rows: list[tuple[float, float, Int[np.ndarray, " N"]]] = [
        (float(log_density(learned, held_out)[0].mean()), _number(learned), shares.argmax(axis=1)),
    ]
    told = grouped(
        "EM",
        Split(data.x, data.held_out, data.groups, _GROUPS),
        seed,
        4,
        {"covariance": "isotropic", "weights": "dirichlet"},
    )
    rows.append((told.log_density, len(np.unique(told.labels)), told.labels))
    for engine in _ENGINES:
        labels, density, number_of = engine.answer(engine.learn(data.x, seed), data.x, data.held_out)
        rows.append((density, number_of, labels))
    scores = np.array([[row[0], row[1], adjusted_rand_score(data.groups, row[2])] for row in rows]).T
    orders = [_number(_learned(empty, x[rng.permutation(len(x))])) for _ in range(_ORDERS)]
    return scores, np.array(orders, float)


_ENGINES = (
    Engine("cavi", {"restarts": 2, "num_draws": 100}, covariance="isotropic"),
    Engine("gibbs", {"num_warmup": 100, "num_draws": 200, "num_chains": 1}, covariance="isotropic"),
)


@jax.jit
def _learned(memory: StreamedAssignments, x: Float[Array, "N D"]) -> StreamedAssignments:
    return memory.write(x)


def _number(memory: StreamedAssignments) -> int:
    """Memories that hold half a datum or more."""
    return int(np.sum(np.asarray(memory.counts) >= 0.5))


# --- reading --------------------------------------------------------------------------------------------------


@styled
def figures(tree: xr.DataTree) -> Sequence[Drawing]:
    """The way of the log likelihood by rate; held-out scores against Gibbs sampling."""
    numbers = tree["numbers"].to_dataset()
    figure = new_figure(7.4, 3.2)
    left, right = figure.subplots(1, 2)
    steps = np.arange(1, numbers.sizes["step"] + 1)
    for i, rate in enumerate(numbers["rate"].values):
        behind = np.maximum(-numbers["path"].sel(rate=rate).values, 1e-12)
        left.plot(steps, behind, color=MEMORY_COLOURS[i], label=f"rate {rate:g}")
    left.set(xlabel="steps", ylabel="log likelihood below EM’s, nats")
    log_axis(left, "x", [1, 10, 100, 1000])
    log_axis(left, "y", [1e-12, 1e-8, 1e-4, 1])
    left.legend()
    for m, method in enumerate(numbers["learner"].values):
        gain = (numbers["log_density"].sel(learner=method) - numbers["log_density"].sel(learner="Gibbs")).values
        right.plot(gain, np.full(gain.size, m), "o", ms=4, mfc="none", color=MEMORY_COLOURS[m])
    right.axvline(0, lw=0.8, color=MUTED)
    right.set_yticks(range(numbers.sizes["learner"]), list(numbers["learner"].values))
    right.invert_yaxis()
    right.set_xlabel("log density above Gibbs’, nats per row")
    quiet(left, grid="y")
    quiet(right, grid="x")
    caption = (
        "Left: one start of the first data set; shares and memories climb the sum of the bounds together. Rate 1 is "
        "EM. Right: each data set. The stream is told the noise and sees each datum once."
    )
    return [Drawing("assignments", figure, caption)]


def findings(tree: xr.DataTree) -> Sequence[Finding]:
    """The bound and log p(x), the ends of the climbs, and memories made on the way."""
    numbers = tree["numbers"].to_dataset()
    return [_bound(numbers), *_ends(numbers), _made(numbers), _predictions(numbers), _orders(numbers)]


def _bound(numbers: xr.Dataset) -> Finding:
    gap = numbers["bound_gap"].values
    return judged(
        "‘Explicitly computes proportional memory assignments using the evidence lower bound’ (Schaeffer et al. 2024, "
        "abstract). Recalled from equal shares, the bound of every row is then log p(x).",
        over_repeats(gap, "Largest gap between the bound and log p(x)", "data sets", "nats"),
        (-1e-9, 1e-9),
        "A gap that stays would have shown that the dynamics end below the evidence.",
    )


def _ends(numbers: xr.Dataset) -> list[Finding]:
    slow = numbers["gain"].isel(rate=0)
    same = (abs(slow) < 1e-4).mean("start")
    rate = float(numbers["rate"][0])
    share = over_repeats(100 * same.values, "Starts with the same end", "data sets", "%")
    return [
        judged(
            f"Learning by the bound ends as good as EM. Shares and memories that take {rate:g} of each step are "
            "compared with EM from the same starts.",
            over_repeats(slow.mean("start").values, "Log likelihood above EM’s", "data sets", "nats per datum"),
            (-0.05, 0.05),
            "A log likelihood lower by more than 0.05 nats would have shown the opposite.",
        ),
        Finding(
            f"{share.sentence()} Slow shares can take a start to another maximum than EM, better or worse. All starts "
            "would have shown that the way does not matter.",
            "note",
        ),
    ]


def _made(numbers: xr.Dataset) -> Finding:
    made, gibbs = (numbers["memories"].sel(learner=name).values for name in ("stream of assignments", "Gibbs"))
    return judged(
        "The memory for streams ‘dynamically creates new memories as necessitated by the training data’ (Schaeffer et "
        f"al. 2024, abstract). Of {numbers.attrs['num_groups']} groups, some of which overlap, it makes "
        f"{mean_with_error(made)} memories in one pass; Gibbs sampling of the same prior makes "
        f"{mean_with_error(gibbs)}.",
        over_repeats(made - gibbs, "Memories more than by Gibbs sampling", "data sets"),
        (-1.0, 1.0),
        "A difference of more than one memory would have shown the opposite.",
    )


def _predictions(numbers: xr.Dataset) -> Finding:
    stream = numbers["log_density"].sel(learner="stream of assignments")
    gaps = {name: stream - numbers["log_density"].sel(learner=name) for name in _METHODS[1:]}
    each = ", ".join(f"{mean_with_error(gap)} against {name}" for name, gap in gaps.items())
    return Finding(
        f"Held-out log density of the stream’s one pass, in nats per row: {each}. It is told the noise, which the "
        "others learn. A difference far below zero would have shown that expected counts cost predictions.",
        "note",
    )


def _orders(numbers: xr.Dataset) -> Finding:
    spread = over_repeats(numbers["by_order"].std("order", ddof=1).values, "Standard deviation", "data sets")
    return Finding(
        f"The number of memories depends on the order of the data. {spread.sentence()} A deviation of zero would have "
        "shown that it does not.",
        "note",
    )


def tables(tree: xr.DataTree) -> Sequence[str]:
    """Scores of the methods that predict, and gains of the climbs."""
    numbers = tree["numbers"].to_dataset()
    rows = [
        [method, *(mean_with_error(numbers[score].sel(learner=method)) for score in ("log_density", "memories", "ari"))]
        for method in numbers["learner"].values
    ]
    gains = [
        [f"{rate:g}", mean_with_error(numbers["gain"].sel(rate=rate).mean("start"))] for rate in numbers["rate"].values
    ]
    groups = numbers.attrs["num_groups"]
    return [
        table(["", "log density", "memories", "ARI"], rows, caption=f"Held-out rows, nats per row; {groups} groups"),
        table(["rate", "log likelihood above EM’s"], gains, caption="Climbs from the same starts, nats per datum"),
    ]


ASSIGNMENT_DYNAMICS = register(
    Experiment(
        name="assignment_dynamics",
        title="Assignments that climb the evidence lower bound",
        question="Do memories that assign by the evidence lower bound learn what EM and Gibbs sampling learn?",
        source="Schaeffer et al. (2024), Bridging associative memory and probabilistic modeling, arXiv:2402.10202",
        claims=("A3", "A10", "A16"),
        words=("EM", "nats", "ARI", "beta", "standard error"),
        run=run,
        figures=figures,
        findings=findings,
        tables=tables,
    )
)
