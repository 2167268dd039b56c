r"""Coordinate-ascent variational inference for conditionally conjugate mixtures, finite or stick-breaking.

The posterior is approached by :math:`q(z) \, q(\theta) \, q(w) \, q(\alpha, d)`. Every factor has a closed form given
the others, so that each pass raises the evidence bound, with no step size and no sampling noise. What the bound is a
bound of is decided here and nowhere else:

* By default (``base="model"``) it is the evidence of the model itself, with its own priors: the one that NUTS and
  Gibbs sample under. Where they are independent on two parameters of a memory (Gaussians) each has a factor of its own.
* ``base="conjugate"`` replaces the base measure by the family's conjugate one (for Gaussians Normal-Gamma or
  Normal-Wishart), as in :mod:`probam.inference.gibbs.engine`: the parameters of a memory then have one joint factor.

Runs start from k-means++ seeds. One has converged when a pass raises the bound by less than ``tolerance`` nats per
datum; the best one is then tried by birth, merge and delete moves until a round of them brings nothing.

Over data larger than memory all of that is done in a sample of the rows; further passes, from the best end, are over
all rows (:mod:`probam.inference.cavi.blocks`).
"""

import os
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from probam.compiled import compiled_by_size, compiled_quickly, is_small
from probam.conjugacy.mean_field import Integrated, MeanField
from probam.conjugacy.mean_field_observed import by_feature
from probam.errors import InputError, NumericalError
from probam.family import Model, Params
from probam.family.capabilities import Conjugacy, Gradients, Guide, MeanFieldFactors
from probam.inference.cavi import moves as cavi_moves
from probam.inference.cavi.blocks import converge_in_blocks, stands_for_all
from probam.inference.cavi.devices import advance_on_devices, spread_over
from probam.inference.cavi.steps import (
    Data,
    Parts,
    State,
    Totals,
    advance,
    arrange,
    as_type,
    numbers_of_a_block,
    proposed,
)
from probam.inference.common.blocks import RowBlocks, as_floats, draws_wanted, resumable_over, surveyed
from probam.inference.common.coordinates import log_joints, log_priors, unconstrained
from probam.inference.common.kinds import as_runs, best_of, run_of
from probam.inference.common.matching import numbered
from probam.inference.common.progress import Listener, Reporter, ended, known_tolerance, silent
from probam.inference.common.result import APPROXIMATION, EngineResult, Survey
from probam.inference.common.rows import counted, total_weight, weighed, without_missing
from probam.inference.common.start import active_counts, hard_assignment, systematic_sample
from probam.options import whole_number
from probam.placement import each

__all__ = ["Search", "fit_factors", "from_assignment", "run"]

_CHUNK = 50
"""Passes between two reports of progress."""

_HOLDS = 0.5
"""Expected number of data from which a memory is reported to hold some."""

_ROUNDS = 10
"""Most rounds of moves."""


class Search(NamedTuple):
    """Options of the search for the best factors, explained in :func:`run`."""

    base: str = "model"
    max_iterations: int = 1000
    tolerance: float | None = None
    restarts: int = 8
    batch_size: int | None = None
    moves: bool = True


_PLAIN = Search()

_MakePasses = Callable[[State, int], tuple[State, jax.Array | np.ndarray]]
"""Makes so many passes of every run; the states after them, and the bound at each pass."""


@compiled_by_size(lambda model, _, x, **__: is_small(x, model.num_components), static_argnames="batch_size")
def _arrange(model: Model, memories: MeanField, x: jax.Array, *, batch_size: int) -> Data:
    return arrange(memories, x, batch_size, model.row_weight, model.num_components)


def from_assignment(
    parts: Parts, num_batches: int, x: jax.Array, assignment: jax.Array, scale: float | jax.Array
) -> State:
    """First state: factors from a hard or soft assignment of some rows, labels of all from the factors.

    Args:
        parts: the mean field.
        num_batches: of the data.
        x: the rows.
        assignment: how much of each row each memory has.
        scale: how many rows each of them stands for.
    """
    counts = scale * jnp.sum(assignment, axis=0)
    sums = scale * jnp.matmul(assignment.T, parts.memories.statistics(x), precision="highest")
    seen = Totals(counts, sums, jnp.zeros((), x.dtype))
    hyper = as_type(parts.hyper.begin(), x.dtype)
    return proposed(num_batches, parts.memories.begin(counts, sums), hyper, seen)


class _Seeded(NamedTuple):
    """Rows (of many data a sample) that go to the nearest of k-means++ seeds, and how often they count."""

    rows: Float[Array, "R M D"]
    assignment: Float[Array, "R M K"]
    weight: jax.Array | None  # (R, M) or (R, M, K)


@compiled_by_size(lambda model, x, *_: is_small(x, model.num_components))
def _seeded(model: Model, x: jax.Array, keys: jax.Array, active: Int[Array, " R"]) -> _Seeded:
    """The first assignment of every run."""

    def one(inputs: tuple[jax.Array, jax.Array]) -> _Seeded:
        key, active = inputs
        rows, weight = systematic_sample(key, x, model.row_weight, model.num_components)
        each = None if weight is None else total_weight(weight)
        filled = without_missing(rows) if model.missing else rows
        return _Seeded(rows, hard_assignment(key, model, filled, active, each)[0], weight)

    seeded: _Seeded = each(one, (keys, active), numbers=x.size * model.num_components)
    return seeded


@compiled_by_size(lambda _, data, seeded: is_small(data.rows, seeded.assignment.shape[-1]))
def _from_seeds(parts: Parts, data: Data, seeded: _Seeded) -> State:
    """First state of every run."""

    def one(inputs: tuple[jax.Array, jax.Array]) -> State:
        rows, assignment = inputs
        return from_assignment(parts, len(data.rows), rows, assignment, _num_data(data) / jnp.sum(assignment))

    states: State = each(one, (seeded.rows, seeded.assignment), numbers=seeded.rows[0].size)
    return states


def _num_data(data: Data) -> Float[Array, ""]:
    """How many data there are, counted by their weights."""
    return jnp.sum(data.valid if data.valid.ndim == 3 else jnp.max(data.valid, axis=-1))


_from_start = compiled_by_size(lambda *given, **_: is_small(given[2], given[3].shape[-1]), static_argnums=1)(
    from_assignment
)


def _is_small(_: Parts, data: Data, states: State, *__: Any) -> bool:
    """Whether a pass goes through few numbers."""
    return is_small(data.rows, states.seen.counts.shape[-1])


@compiled_by_size(_is_small, often=True)
def _advance(
    parts: Parts, data: Data, states: State, rise: jax.Array, limit: jax.Array
) -> tuple[State, Float[Array, "R T"]]:
    advanced: tuple[State, jax.Array] = each(
        lambda state: advance(parts, data, state, rise, limit, _CHUNK), states, numbers=numbers_of_a_block(data, states)
    )
    return advanced


_try_moves = compiled_by_size(_is_small, often=True)(cavi_moves.try_moves)


@compiled_quickly(static_argnames="base")
def _factors(model: Model, *, base: str) -> MeanField | None:
    """One factor for each site, under the priors of the model; or one for all of a memory, under its conjugate base."""
    if base == "model":
        factors = MeanFieldFactors.ask(model.family)
        return factors.mean_field(model.prior) if factors else None
    pair = conjugacy.conjugate_base(model.prior) if (conjugacy := Conjugacy.ask(model.family)) else None
    return None if pair is None else Integrated(pair)


def mean_field(model: Model, base: str, num_features: int) -> MeanField:
    """The factors of the memories. Raises :class:`probam.errors.InputError` where there are none, naming what works."""
    if base not in ("model", "conjugate"):
        raise InputError(f"base: expected one of model, conjugate; got {base!r}")
    family = model.family
    memories = _factors(model.with_row_weight(None), base=base)
    covariance = getattr(family, "covariance", None)
    kind = f"{family.name!r}" + (f" with covariance {covariance!r}" if covariance else "")
    if memories is not None and model.missing:
        memories = by_feature(memories, num_features)
        if memories is None:
            raise InputError(
                f"data: entries are missing, and engine 'cavi' has no factors for them where features share parameters "
                f"(family {kind}); use covariance 'diagonal', or engine 'em', 'svi', 'smc', 'nuts' or 'gibbs'"
            )
    if memories is not None:
        return memories
    if base == "conjugate":
        raise InputError(f"base: family {kind} has no other conjugate base under these priors; leave base at 'model'")
    gradients = Gradients.ask(family)
    serves = {"svi": gradients and Guide.ask(family), "nuts": gradients}
    others = "".join(f"{name!r} or " for name, able in serves.items() if able)
    raise InputError(
        f"engine: family {kind} has no variational factors in closed form under these priors; "
        f"use engine {others}'gibbs'"
    )


def fit_factors(
    key: jax.Array,
    model: Model,
    x: Float[Array, "N D"],
    search: Search = _PLAIN,
    *,
    start: Float[Array | np.ndarray, "N K"] | None = None,
    progress: Reporter = silent,
) -> tuple[Parts, State, np.ndarray, dict[str, tuple[int, int]]]:
    """The mean field, the best run's state, the traces of all runs, and the moves as (taken, tried) by kind.

    Args:
        key: for the seeds and the moves.
        model: the mixture to fit.
        x: (N, D) data in model units.
        search: how to search.
        start: (N, K) first assignment of the data, soft or hard; None starts from k-means++ seeds.
        progress: told after every 50 passes and every round of moves, and asked whether to stop.
    """
    _check_numbers(search, len(x))
    memories = as_type(mean_field(model, search.base, x.shape[1]), x.dtype)
    parts = Parts(memories, model.weights, as_type(model.weights.hyper_field(model.num_components), x.dtype))
    tolerance = known_tolerance(search.tolerance, x.dtype, 1e-9)
    rise = jax.device_put(x.dtype.type(tolerance * len(x)))
    data = _arrange(model, memories, x, batch_size=search.batch_size or len(x))
    keys, key_moves = _keys(key, num_starts=search.restarts)
    if start is None:
        nonparametric = "sticks" in jax.eval_shape(partial(model.weights.start, model.num_components))
        active = active_counts(model.num_components, search.restarts, nonparametric=nonparametric)
        seeded = _seeded(model, x, keys, jax.device_put(active))
        if seeded.weight is not None and data.valid.ndim == 4:
            seeded = seeded._replace(assignment=numbered(seeded.assignment, seeded.weight))
        states = _from_seeds(parts, data, seeded)
    else:
        one = _from_start(parts, len(data.rows), x, jnp.asarray(start, x.dtype), 1.0)
        states = as_runs(one)
    make_passes = _passes(parts, data, states, rise)
    states, trace = _converge(make_passes, states, search.max_iterations + 1, _Phase(progress))
    trace = trace[:, 1:]  # the first pass brings labels and factors together
    bounds = np.asarray(states.bound)
    trace = trace[:, : max(1, int(np.isfinite(trace).sum(axis=1).max()))]
    if not np.isfinite(bounds).any():
        raise NumericalError(
            "cavi: the evidence bound is not finite in any restart; standardise the data, or use fewer components"
        )
    top = int(np.argmax(np.where(np.isfinite(bounds), bounds, -np.inf)))
    state = run_of(states, top)
    if not search.moves or data.valid.ndim == 4:  # moves would change the numbers of the memories
        progress(_ROUNDS, _ROUNDS, "CAVI", **_values(state))
        return parts, state, trace, {}
    state, more, tried = _improve_by_moves(
        key_moves, parts, data, state, rise, make_passes, search.max_iterations, progress
    )
    for passes in more:
        trace = _appended(trace, top, passes)
    return parts, state, trace, tried


@compiled_quickly(static_argnames="num_starts")
def _keys(key: jax.Array, *, num_starts: int) -> tuple[jax.Array, jax.Array]:
    """Of the starts, and of the moves."""
    key_start, key_moves = jax.random.split(key)
    return jax.random.split(key_start, num_starts), key_moves


def _check_numbers(search: Search, num_data: int) -> None:
    for name, count in (("max_iterations", search.max_iterations), ("restarts", search.restarts)):
        whole_number(least=1)(name, count)
    if search.batch_size is not None and not 1 <= search.batch_size <= num_data:
        raise InputError(f"batch_size: expected 1 to {num_data} rows; got {search.batch_size}")


def _improve_by_moves(
    key: jax.Array,
    parts: Parts,
    data: Data,
    state: State,
    rise: jax.Array,
    make_passes: _MakePasses,
    max_iterations: int,
    progress: Reporter,
) -> tuple[State, list[np.ndarray], dict[str, tuple[int, int]]]:
    """Rounds of birth, merge and delete moves, each followed by passes, until a round takes none.

    The state, the bounds of the passes after each round, and the moves as (taken, tried) by kind.
    """
    traces: list[np.ndarray] = []
    tried: dict[str, tuple[int, int]] = {}
    num_components = len(state.seen.counts)
    for turn in range(0 if progress.stopped else _ROUNDS):
        proposals = cavi_moves.propose(key, np.uint32(turn), num_components=num_components)
        before = (state, jax.device_put(np.zeros(len(proposals.kind), np.int32)))
        moved, accepted = progress.phase("moves").once(
            partial(_try_moves, parts, data, state, proposals, rise), like=before
        )
        taken, kinds = np.asarray(accepted), np.asarray(proposals.kind)
        for i, kind in enumerate(cavi_moves.KINDS):
            was_taken, was_tried = tried.get(kind, (0, 0))
            tried[kind] = (was_taken + int(taken[kinds == i].sum()), was_tried + int((kinds == i).sum()))
        progress(turn + 1, _ROUNDS, f"CAVI, {int(taken.sum())} moves taken", **_values(moved))
        if not taken.any():
            break
        one, passes = _converge(make_passes, as_runs(moved), max_iterations, _Phase(progress, turn + 1))
        state = run_of(one, 0)
        traces.append(passes[0])
        if progress.stopped:
            break
    progress(_ROUNDS, _ROUNDS, "CAVI", **_values(state))
    return state, traces, tried


class _Phase(NamedTuple):
    """To whom passes are reported, and the round of moves that they follow; 0 for those from the seeds."""

    progress: Reporter
    moves: int = 0

    def report(self, done: int, most: int, states: State) -> int:
        """Report ``done`` of ``most`` passes; the number of runs that have stopped."""
        stopped, values = int(np.asarray(states.done).sum()), _values(states)
        if self.moves:
            self.progress(self.moves, _ROUNDS, f"CAVI, {done} passes after moves", **values)
        else:
            self.progress(done, most, f"CAVI, {stopped} of {len(states.done)} runs done", **values)
        return stopped


def _passes(parts: Parts, data: Data, states: State, rise: jax.Array) -> _MakePasses:
    """What makes so many passes of runs like these, on the devices over which the rows are spread once for all."""
    spread = spread_over(parts, data, states)
    if spread is not None:
        return lambda states, length: advance_on_devices(parts, spread, states, rise, length)
    return lambda states, length: _advance(parts, data, states, rise, jax.device_put(np.asarray(length)))


def _converge(make_passes: _MakePasses, states: State, max_iterations: int, phase: _Phase) -> tuple[State, np.ndarray]:
    """Passes until all runs have stopped; the trace of their bounds, NaN after a run's end."""
    traces: list[np.ndarray] = []
    passes, begin = phase.progress.phase("CAVI"), 0
    before = passes.resumed(states)
    if before is not None:
        states, traces = before.state, [before.kept["bound"]]
        begin = max_iterations if before.ended else before.done
    for start in range(begin, max_iterations, _CHUNK):
        length = min(_CHUNK, max_iterations - start)
        states, trace = make_passes(states, length)
        traces.append(np.asarray(trace)[:, :length])
        ended = bool(np.asarray(states.done).all()) or start + length == max_iterations
        passes.save(start + length, states, [{"bound": trace} for trace in traces], ended=ended)
        stopped = phase.report(start + length, max_iterations, states)
        if stopped == len(states.done) or phase.progress.stopped:
            break
    return states, np.concatenate(traces, axis=1)


def _values(states: State) -> dict[str, float]:
    """What is reported of one run, or of the best of several: its bound, and how many memories hold data."""
    bounds, counts = np.atleast_1d(states.bound), np.atleast_2d(states.seen.counts)
    best = best_of(bounds)
    return {"elbo": float(bounds[best]), "memories": float((counts[best] > _HOLDS).sum())}


def _appended(trace: np.ndarray, run: int, more: np.ndarray) -> np.ndarray:
    """The traces with more passes of one run at its end."""
    begin = int(np.isfinite(trace[run]).sum())
    whole = np.full((len(trace), max(trace.shape[1], begin + len(more))), np.nan, trace.dtype)
    whole[:, : trace.shape[1]] = trace
    whole[run, begin : begin + len(more)] = more
    return whole


@compiled_quickly(static_argnames="num_draws")
def _draws(model: Model, parts: Parts, state: State, key: jax.Array, *, num_draws: int) -> Params:
    """Sites, deterministics included, of draws from q."""
    dtype = state.seen.counts.dtype

    def one(key: jax.Array) -> Params:
        key_memories, key_weights, key_hyper = jax.random.split(key, 3)
        sites = parts.memories.draw(key_memories, state.factors)
        if conjugacy := Conjugacy.ask(model.family):
            sites = conjugacy.integrated_sites(sites)
        sites |= model.weights.draw(key_weights, state.seen.counts, state.hyper)
        sites |= parts.hyper.draw(key_hyper, state.seen.counts, state.hyper)
        sites = as_type(sites, dtype)
        return sites | model.deterministics(sites)

    numbers = sum(leaf.size for leaf in jax.tree.leaves(state.factors))
    return each(one, jax.random.split(key, num_draws), numbers=numbers)


def run(
    key: jax.Array,
    model: Model,
    x: Float[Array, "N D"],
    *,
    base: str = _PLAIN.base,
    max_iterations: int = _PLAIN.max_iterations,
    tolerance: float | None = _PLAIN.tolerance,
    restarts: int = _PLAIN.restarts,
    batch_size: int | None = _PLAIN.batch_size,
    moves: bool = _PLAIN.moves,
    num_draws: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    sample_weight: Float[Array, " N"] | np.ndarray | None = None,
    labels: Int[np.ndarray, " N"] | Bool[np.ndarray, "N K"] | None = None,
    blocks: RowBlocks | None = None,
    progress: Listener | None = None,
) -> EngineResult:
    """Draws from the best of several factorised approximations of the posterior.

    Args:
        key: for the seeds, the moves and the draws.
        model: the mixture to fit.
        x: (N, D) data in model units.
        base: "model", or "conjugate" for the family's conjugate base measure (one factor for all of a memory).
        max_iterations: most passes over the data of a run (and after each round of moves).
        tolerance: nats per datum: a pass that raises the bound by less is the last (1e-9 in float64, 1e-6 in float32).
        restarts: runs from different k-means++ seeds.
        batch_size: rows after which the factors are brought up to date (memoized; default: all rows at once).
        moves: whether birth, merge and delete moves are tried on the best run.
        num_draws: draws from the fitted factors (default 1000, over ``blocks`` 100).
        checkpoint: a file to which the run is written every few seconds, and from which the same call continues.
        sample_weight: how often each row counts, (N,) numbers of at least 0.
        labels: (N,) numbers of the memories of rows, -1 where not known, or (N, K) booleans; there are no moves then.
        blocks: all rows of data larger than memory, of which ``x`` is a sample.
        progress: told after 50 passes, a round of moves, or a block, and asked whether to stop.

    Raises:
        InputError: for a family or priors without closed-form factors, or a bad number.
        NumericalError: when the evidence bound is not finite in any run.
    """
    (model, x), num_draws = counted(model, x, sample_weight, labels), draws_wanted(num_draws, blocks)
    key_fit, key_draws = jax.random.split(key)
    search = Search(base, max_iterations, tolerance, restarts, batch_size, moves)
    with resumable_over(blocks, progress, checkpoint, "cavi", key, model, x, search._asdict()) as report:
        parts, state, trace, tried = fit_factors(key_fit, model, x, search, progress=report)
        if blocks is not None:
            state, trace = _over_all_rows(parts, state, blocks, _weight_of(model, x), search, report)
    sites = _draws(model.with_row_weight(None), parts, state, key_draws, num_draws=num_draws)
    lp, survey = _log_joints(model, sites, x, blocks, report)
    return EngineResult(
        sites={name: np.asarray(value)[None] for name, value in sites.items()},
        stats={"lp": np.asarray(lp)[None]},
        objective=trace,
        objective_name="evidence lower bound",
        status=ended(bool(state.done), report),
        note=_note(base, tried),
        estimate=APPROXIMATION,
        survey=survey,
    )


def _note(base: str, tried: dict[str, tuple[int, int]]) -> str:
    """How the target differs from the model's posterior, and what moves came to."""
    notes = ["the family's conjugate base measure in the place of its priors"] if base != "model" else []
    return "; ".join(notes + [f"{taken} of {count} {kind} moves taken" for kind, (taken, count) in tried.items()])


def _over_all_rows(
    parts: Parts, state: State, blocks: RowBlocks, sampled: float, search: Search, report: Reporter
) -> tuple[State, np.ndarray]:
    """Where passes over all rows end that begin at the best end in the sample, and the trace of their bounds (1, I).

    ``sampled`` is how many data the sample counts.
    """
    rise = known_tolerance(search.tolerance, blocks.dtype, 1e-9) * blocks.total_weight
    begun = blocks.agreed(stands_for_all(state, blocks.total_weight / sampled))
    state, passes = converge_in_blocks(parts, begun, blocks, rise, search.max_iterations, report)
    after: State = jax.device_put(as_floats(state, blocks.dtype))
    return after, passes[None]


def _weight_of(model: Model, x: Float[Array, "N D"]) -> float:
    """How many data the rows in memory count."""
    return float(len(x) if model.row_weight is None else jnp.sum(total_weight(model.row_weight)))


def _log_joints(
    model: Model, sites: Params, x: jax.Array, blocks: RowBlocks | None, report: Reporter
) -> tuple[np.ndarray, Survey | None]:
    """Log joint density of draws and all data, and what a pass over rows in blocks says of them."""
    free = unconstrained(model.with_row_weight(None), sites)
    if blocks is None:
        weighed_model, rows = weighed(model, x)
        return np.asarray(log_joints(weighed_model, free, rows)), None
    survey = surveyed(model, {name: sites[name] for name in free}, blocks, report)
    return np.asarray(log_priors(model, free)) + np.asarray(survey.log_lik), survey
