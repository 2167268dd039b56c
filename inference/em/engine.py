r"""Expectation-maximisation in closed form, maximum a posteriori or maximum likelihood.

E-step: responsibilities :math:`r_{nk} \propto w_k \, p(x_n \mid \theta_k)`, never stored: rows are taken in blocks
and only their sums :math:`\sum_n r_{nk} T(x_n)` are kept. A family whose M-step is not a function of sums gets the
whole (N, K) table instead. M-step: the family's :class:`~probam.family.capabilities.MStep` and the weight prior's
``maximize``, in another order of the memories where that is better. The objective is the log joint density in the
unconstrained coordinates of NumPyro's samplers, or the log likelihood. It never falls, and where it stops it is
stationary. Starts of several kinds (:mod:`probam.inference.common.kinds`) run in one program. The best end is returned:
the highest, or under stick-breaking the one with the largest mass. Over data larger than memory the runs are over a
sample of the rows, and one more, from the best of their ends, over all rows.
"""

import os
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from probam.compiled import compiled_by_size, compiled_quickly, is_small
from probam.errors import InputError, NumericalError
from probam.family import Model, Params
from probam.family.capabilities import Absent, DataSpace, Guide, MStep
from probam.inference.common.blocks import IN_SAMPLE, RowBlocks, in_double, resumable_over, surveyed
from probam.inference.common.coordinates import Coordinates
from probam.inference.common.kinds import Searched, Starts, run_of
from probam.inference.common.matching import matched
from probam.inference.common.progress import Listener, Reporter, ended, highest_of, known_tolerance, silent
from probam.inference.common.result import EngineResult, Restarts, Survey
from probam.inference.common.rows import Rows, counted, numbers_memories, rows_on, total_weight, without_missing
from probam.inference.em.parts import InBlocks, OnDevices, Parts, advance_in_parts, check_sums
from probam.inference.em.steps import EMState, Settings, em_step, judged, kept_statistics, numbers_of_a_run
from probam.options import whole_number
from probam.placement import each

__all__ = ["fit_params", "point_result", "run", "side_by_side"]

_CHUNK, _SHORT_CHUNK = 50, 10
"""Iterations between two reports of progress, and of large data: a run that has stopped waits for the report."""

_LITTLE = 8000
"""Numbers (rows x features x memories) from which a step of one run takes as long as its share of a step of several."""


@compiled_by_size(
    lambda model, _, rows, *__, **___: is_small(rows.x, model.num_components),
    often=True,
    static_argnames=("settings", "num_steps"),
)
def _advance(
    model: Model,
    states: EMState,
    rows: Rows,
    origin: jax.Array,
    tolerance: jax.Array,
    *,
    settings: Settings,
    num_steps: int,
) -> tuple[EMState, jax.Array]:
    """``num_steps`` EM steps of every restart; the objective before each, NaN once a restart has stopped."""
    coordinates, kept = Coordinates(model), kept_statistics(model, rows.x, origin, rows.weight)

    def one(state: EMState, _: None) -> tuple[EMState, jax.Array]:
        params, objective = em_step(
            model,
            coordinates,
            state.params,
            rows.x,
            settings,
            weight=rows.weight,
            origin=origin,
            kept=kept,
        )
        return judged(state, params, objective, tolerance, settings)

    def climb(state: EMState) -> tuple[EMState, jax.Array]:
        return jax.lax.scan(one, state, None, length=num_steps)

    def rest(state: EMState) -> tuple[EMState, jax.Array]:
        return state, jnp.full(num_steps, jnp.nan, origin.dtype)

    after: tuple[EMState, jax.Array] = each(
        lambda state: jax.lax.cond(state.done, rest, climb, state),
        states,
        numbers=numbers_of_a_run(model, rows.x),
        on_cpu=None if _fills_a_core(rows.x, model.num_components) else len(states.objective),
    )
    return after


def _fills_a_core(x: jax.Array, num_components: int) -> bool:
    """Whether a run alone is as fast as its share of a batch; runs that have stopped then cost nothing."""
    return x.size * num_components > _LITTLE


_Ends = tuple[EMState, np.ndarray]
"""States of all runs, and the trace of their objectives (R, I)."""


def side_by_side(num_runs: int, x: jax.Array, num_components: int) -> int:
    """How many runs (restarts, draws) go in one batch on a CPU: all on small data, where one cannot fill the cores.

    On large data one at a time is several times faster, because its products are plain matrix products and not batched
    ones. It also avoids large batched products, on which XLA's CPU thread pool was seen to hang.
    """
    return num_runs if is_small(x, num_components) else 1


def check_closed_form(model: Model) -> None:
    """Raise :class:`probam.errors.InputError` for a family without a closed-form M-step, naming engines that work."""
    m_step = MStep.ask(model.family)
    if isinstance(m_step, Absent):
        covariance = getattr(model.family, "covariance", None)
        kind = f"{model.family.name!r}" + (f" with covariance {covariance!r}" if covariance else "")
        others = "'gradient_em', 'svi' or 'nuts'" if Guide.ask(model.family) else "'gradient_em' or 'nuts'"
        raise InputError(
            f"engine: family {kind} has no closed-form M-step ({m_step.reason}), which engine 'em' needs; "
            f"use engine {others}"
        )


def _check_counts(**counts: int) -> None:
    for name, value in counts.items():
        whole_number(least=1)(name, value)


def fit_params(
    key: jax.Array,
    model: Model,
    x: Float[Array, "N D"],
    *,
    estimate: str = "map",
    max_iterations: int = 5000,
    tolerance: float | None = None,
    stop: str = "tolerance",
    restarts: int = 8,
    start: Params | None = None,
    sample_weight: Float[Array, " N"] | np.ndarray | None = None,
    labels: Int[np.ndarray, " N"] | Bool[np.ndarray, "N K"] | None = None,
    by_mass: bool = True,
    progress: Reporter = silent,
) -> Searched[_Ends]:
    """Where all restarts end: states (leaves lead with the restart axis) and the trace of their objectives (R, I).

    Args:
        key: for the starts.
        model: the mixture to fit.
        x: (N, D) data in model units.
        start: site values of one run, which then replaces the restarts.
        by_mass: whether the best end under stick-breaking is that with the largest mass, and not the highest.
        progress: told after every 50 iterations (10 on large data), and asked whether to stop; has the checkpoint.

    The other options are those of :func:`run`.
    """
    check_closed_form(model)
    _check_counts(max_iterations=max_iterations, restarts=restarts)
    weighted, x = counted(model, x, sample_weight, labels)
    weight = None if weighted.row_weight is None else np.asarray(weighted.row_weight)
    settings = _settings(estimate, stop, numbered=numbers_memories(weight))
    model = model.with_row_weight(None)  # rows and their weights are handed on together
    each = None if weight is None else total_weight(weight)
    num_data = len(x) if each is None else float(each.sum())
    parts, origin = rows_on(model, x, weight), _origin(model, x)
    climb = partial(
        _iterate,
        model,
        parts=parts[0] if len(parts) == 1 else OnDevices(model, parts, origin),
        origin=origin,
        tolerance=jax.device_put(x.dtype.type(known_tolerance(tolerance, x.dtype, 1e-9) * num_data)),
        settings=settings,
        max_iterations=max_iterations,
        progress=progress,
    )
    if start is None:
        starts = Starts.of(key, model, x, restarts, each, by_mass=by_mass and not settings.numbered)
        found = starts.searched(lambda params: climb(matched(model, params, x, weight)), _reached, progress)
    else:
        ends = climb({name: jax.device_put(np.asarray(value)[None]) for name, value in start.items()})
        found = Searched(ends, np.asarray(ends[0].objective), Restarts(("given",), (0,), None))
    _check_finite(found.worth)
    return found


def _check_finite(worth: np.ndarray) -> None:
    if not np.isfinite(worth).any():
        raise NumericalError(
            "em: the log density is not finite in any restart; standardise the data, "
            "or use fewer components or weights and a prior (estimate='map')"
        )


def in_blocks(
    model: Model,
    start: Params,
    x: Float[Array, "M D"],
    blocks: RowBlocks,
    *,
    estimate: str = "map",
    max_iterations: int = 5000,
    tolerance: float | None = None,
    stop: str = "tolerance",
    progress: Reporter = silent,
) -> _Ends:
    """Where one run over data larger than memory ends, and the trace of its objective (1, I).

    Args:
        model: the mixture to fit.
        start: site values to begin from.
        x: (M, D) some of the rows, in model units; they choose the zero of the sums and nothing else.
        blocks: all rows.
        progress: told after every block, and after each pass asked whether to stop.

    The other options are those of :func:`run`.
    """
    check_closed_form(model)
    check_sums(model)
    _check_counts(max_iterations=max_iterations)
    tolerance = known_tolerance(tolerance, x.dtype, 1e-9) * blocks.total_weight
    origin, settings = _origin(model, x), _settings(estimate, stop, numbered=False)
    with jax.enable_x64(True):
        model, (start, origin) = in_double(model), blocks.agreed(in_double((start, origin)))
        ends = _iterate(
            model,
            {name: value[None] for name, value in start.items()},
            parts=InBlocks(model, blocks, origin, progress),
            origin=origin,
            tolerance=jnp.asarray(tolerance),
            settings=settings,
            max_iterations=max_iterations,
            progress=progress,
        )
    _check_finite(np.asarray(ends[0].objective))
    return ends


def _reached(ends: _Ends) -> tuple[Params, jax.Array]:
    """Where runs ended, and how high."""
    return ends[0].params, ends[0].objective


def _settings(estimate: str, stop: str, *, numbered: bool) -> Settings:
    """The options of the steps, after a check of their values."""
    if estimate not in ("map", "ml"):
        raise InputError(f"estimate: expected 'map' or 'ml'; got {estimate!r}")
    if stop not in ("tolerance", "aitken"):
        raise InputError(f"stop: expected 'tolerance' or 'aitken'; got {stop!r}")
    return Settings(likelihood_only=estimate == "ml", aitken=stop == "aitken", numbered=numbered)


def _before_the_first_step(params: Params, dtype: np.dtype[Any]) -> EMState:
    """States whose objective is not known yet; leaves lead with the restart axis."""
    num_runs = next(iter(params.values())).shape[0]
    unknown = np.full(num_runs, -np.inf, dtype)
    return EMState(params, *jax.device_put((unknown, np.zeros(num_runs, bool), -unknown)))


def _iterate(
    model: Model,
    params: Params,
    *,
    parts: Rows | Parts,
    origin: jax.Array,
    tolerance: jax.Array,
    settings: Settings,
    max_iterations: int,
    progress: Reporter,
) -> _Ends:
    """EM steps from every start until all have stopped, and the trace of their objectives."""
    states, phase = _before_the_first_step(params, origin.dtype), progress.phase("EM")
    traces: list[np.ndarray] = []
    before, begin = phase.resumed(states), 0
    if before is not None:
        states, traces = before.state, [before.kept["trace"]]
        begin = max_iterations if before.ended else before.done
    if isinstance(parts, InBlocks):
        parts.passes = begin
    num_runs, highest = len(states.objective), highest_of(traces[0]) if traces else -np.inf

    def advance(states: EMState, num_steps: int) -> tuple[EMState, jax.Array | np.ndarray]:
        if isinstance(parts, Rows):
            return _advance(model, states, parts, origin, tolerance, settings=settings, num_steps=num_steps)
        return advance_in_parts(model, states, parts, tolerance, settings=settings, num_steps=num_steps)

    report, chunk = progress, _CHUNK
    if isinstance(parts, InBlocks):  # blocks report for themselves
        report, chunk = silent, 1
    elif isinstance(parts, Rows) and not is_small(parts.x, model.num_components):
        chunk = _SHORT_CHUNK
    for done_steps in range(begin, max_iterations, chunk):
        num_steps = min(chunk, max_iterations - done_steps)
        states, trace = advance(states, num_steps)
        traces.append(np.asarray(trace))
        highest = highest_of(traces[-1], highest)
        finished = int(np.asarray(states.done).sum())
        done, text = min(done_steps + chunk, max_iterations), f"EM, {finished} of {num_runs} runs done"
        ended = finished == num_runs or done == max_iterations
        phase.save(done, states, [{"trace": trace} for trace in traces], ended=ended)
        report(done, max_iterations, text, objective=highest)
        if finished == num_runs or progress.stopped:
            break
    report(max_iterations, max_iterations, "EM", objective=highest)
    return states, np.concatenate(traces, axis=1)


@compiled_by_size(lambda model, x: is_small(x, model.num_components))
def _origin(model: Model, x: jax.Array) -> jax.Array:
    """Where the sums have their zero."""
    return DataSpace.of(model.family).frame(without_missing(x) if model.missing else x)[0]


def run(
    key: jax.Array,
    model: Model,
    x: Float[Array, "N D"],
    *,
    estimate: str = "map",
    max_iterations: int = 5000,
    tolerance: float | None = None,
    stop: str = "tolerance",
    restarts: int = 8,
    checkpoint: str | os.PathLike[str] | None = None,
    sample_weight: Float[Array, " N"] | np.ndarray | None = None,
    labels: Int[np.ndarray, " N"] | Bool[np.ndarray, "N K"] | None = None,
    blocks: RowBlocks | None = None,
    progress: Listener | None = None,
) -> EngineResult:
    """The best of several EM runs.

    Args:
        key: for the starts.
        model: the mixture to fit.
        x: (N, D) data in model units. Rows with missing entries (NaN) count with the density of their observed
            entries, for families that have the capability.
        estimate: "map" (with the priors) or "ml" (maximum likelihood; finite weights only).
        max_iterations: most iterations of a restart.
        tolerance: nats per datum (default 1e-9 in float64, 1e-6 in float32); see ``stop``.
        stop: "tolerance" ends a run when the objective rises by less than the tolerance; "aitken" when all that is
            left to gain does, estimated from the last two rises (a slow run makes small steps long before its end).
        restarts: runs from different starts, of several kinds.
        checkpoint: a file to which the run is written every few seconds, and from which the same call continues.
        sample_weight: how often each datum counts, (N,) numbers of at least 0: the objective has
            sum_n w_n log p(x_n) in the place of sum_n log p(x_n). These are not the weights of the memories.
        labels: (N,) numbers of the memories to which rows belong, -1 where that is not known, or (N, K) booleans.
        blocks: all rows of data larger than memory, of which ``x`` is a sample.
        progress: told after 50 iterations (10 on large data), or a block, and asked whether to stop.

    Raises:
        InputError: for a family without a closed-form M-step (``blocks``: by sums), or invalid weights of the data.
        NumericalError: when no restart stays finite.
    """
    options: dict[str, Any] = {"estimate": estimate, "max_iterations": max_iterations}
    options |= {"tolerance": tolerance, "stop": stop}
    known: dict[str, Any] = {"restarts": restarts, "sample_weight": sample_weight, "labels": labels}
    with resumable_over(blocks, progress, checkpoint, "em", key, model, x, options | known) as report:
        found, survey = _searched(key, model, x, blocks, options, known, report)
    (states, trace), best = found.ends, found.best
    result = point_result(
        model,
        run_of(states.params, best),
        objective=trace,
        objective_name="log joint density" if estimate == "map" else "log likelihood",
        lp=np.asarray(states.objective)[best],
        status=ended(bool(np.asarray(states.done)[best]), report),
        restarts=found.restarts,
        estimate="maximum a posteriori" if estimate == "map" else "maximum likelihood",
    )
    return result._replace(survey=survey)


def _searched(
    key: jax.Array,
    model: Model,
    x: Float[Array, "N D"],
    blocks: RowBlocks | None,
    options: dict[str, Any],
    known: dict[str, Any],
    report: Reporter,
) -> tuple[Searched[_Ends], Survey | None]:
    """What runs come to, over the data or over all rows from the best end in a sample, and what all rows say there."""
    if blocks is None:
        return fit_params(key, model, x, **options, **known, progress=report), None
    check_sums(model)
    in_sample = fit_params(key, model, x, **options, **known, progress=report)
    best = run_of(in_sample.ends[0].params, in_sample.best)
    ends = in_blocks(model, best, x, blocks, **options, progress=report)
    found = Searched(ends, np.asarray(ends[0].objective), Restarts((IN_SAMPLE,), (0,), None))
    return found, surveyed(model, ends[0].params, blocks, report)


@compiled_quickly()
def _deterministics(model: Model, params: Params) -> Params:
    return model.deterministics(params)


def point_result(
    model: Model,
    params: Params,
    *,
    objective: np.ndarray,
    objective_name: str,
    lp: jax.Array | np.floating[Any],
    status: str,
    estimate: str,
    restarts: Restarts | None = None,
) -> EngineResult:
    """One point estimate as one chain with one draw."""
    values = params | _deterministics(model, params)
    return EngineResult(
        sites={name: np.asarray(value)[None, None] for name, value in values.items()},
        stats={"lp": np.asarray(lp)[None, None]},
        objective=objective,
        objective_name=objective_name,
        status=status,
        estimate=estimate,
        restarts=restarts,
    )
