r"""Generalised EM by gradients: for every family, also those without a closed-form M-step.

E-step: responsibilities at the current parameters. M-step: a few optax steps up the expected log joint

.. math:: Q(\theta \mid r) = \sum_{nk} r_{nk} \log w_k p(x_n \mid \theta_k) + \log p(\theta)

in unconstrained coordinates (a generalised EM asks only that Q rise), divided by their units so that steps do not
depend on those of the data (:mod:`probam.inference.gradient_em.units`). By Fisher's identity the gradient of Q at the
parameters of the E-step is the gradient of the log joint itself, and for isotropic Gaussian memories a gradient step of
size :math:`1 / (2 \beta \sum_n r_{nk})` in :math:`\mu_k` is the closed-form M-step (CLAIMS A10 iii).

That is the optimiser ``"adam"``. Two others climb the log joint itself and never fall: conjugate gradients (``"ecg"``,
the default) and the natural gradient (``"natural"``), see :mod:`probam.inference.gradient_em.ascent`; their best end is
polished by Newton steps (:mod:`probam.inference.gradient_em.polish`). Over data larger than memory one run of conjugate
gradients goes on from the best end in a sample (:mod:`probam.inference.gradient_em.blocks`).
"""

import os
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int

from probam.distributions.likelihood import shares
from probam.errors import InputError, NumericalError
from probam.family import Model, Params
from probam.inference.common.blocks import IN_SAMPLE, RowBlocks, resumable_over, surveyed
from probam.inference.common.coordinates import Coordinates, constrained, log_joints, unconstrained
from probam.inference.common.information import expected_log_joint
from probam.inference.common.kinds import Searched, Starts, as_runs, run_of
from probam.inference.common.matching import matched
from probam.inference.common.progress import Listener, Reporter, ended, highest_of, known_tolerance, silent
from probam.inference.common.result import EngineResult, Restarts
from probam.inference.common.rows import counted, numbers_memories, total_weight
from probam.inference.common.start import check_gradient
from probam.inference.em.engine import point_result, side_by_side
from probam.inference.gradient_em import ascent
from probam.inference.gradient_em.blocks import climb_in_blocks
from probam.inference.gradient_em.polish import FLAT, polished
from probam.inference.gradient_em.units import ScaledCoordinates, units
from probam.options import whole_number
from probam.placement import each

__all__ = ["OPTIMISERS", "optima", "run"]

OPTIMISERS = ("ecg", "natural", "adam")

_CHUNK = 25


def _optimiser(learning_rate: Any, total_steps: int) -> optax.GradientTransformation:
    """Adam, its step decaying from ``learning_rate`` (a number or a traced scalar) by the cosine rule."""
    return optax.adam(optax.cosine_decay_schedule(learning_rate, total_steps, alpha=1e-3))


@partial(jax.jit, static_argnames=("inner_steps", "num_steps", "total_steps"))
def _advance(
    model: Model,
    units: Params,
    learning_rate: jax.Array,
    walk: Params,
    state: optax.OptState,
    x: jax.Array,
    *,
    inner_steps: int,
    num_steps: int,
    total_steps: int,
) -> tuple[Params, optax.OptState, jax.Array]:
    """``num_steps`` generalised EM steps of every restart; the log joint before each. ``walk`` is in ``units``."""
    coordinates, optimiser = ScaledCoordinates(model, units), _optimiser(learning_rate, total_steps)

    def outer(carry: tuple[Params, optax.OptState], _: None) -> tuple[tuple[Params, optax.OptState], jax.Array]:
        walk, state = carry
        mixture = coordinates.model.mixture(coordinates.constrain(walk))
        log_likelihood, responsibilities = shares(mixture.log_joint(x), model.row_weight)
        objective = log_likelihood + coordinates.log_prior(walk)

        def inner(_: jax.Array, carry: tuple[Params, optax.OptState]) -> tuple[Params, optax.OptState]:
            walk, state = carry
            gradient = jax.grad(lambda walk: -expected_log_joint(coordinates, walk, responsibilities, x) / len(x))(walk)
            updates, state = optimiser.update(gradient, state, walk)
            moved: Params = optax.apply_updates(walk, updates)  # type: ignore[assignment]
            return moved, state

        return jax.lax.fori_loop(0, inner_steps, inner, (walk, state)), objective

    def one(carry: tuple[Params, optax.OptState]) -> tuple[Params, optax.OptState, jax.Array]:
        (walk, state), trace = jax.lax.scan(outer, carry, None, length=num_steps)
        return walk, state, trace

    num_runs = len(next(iter(walk.values())))
    on_cpu = side_by_side(num_runs, x, model.num_components)
    return each(one, (walk, state), numbers=x.size * model.num_components, on_cpu=on_cpu)


def _check_options(optimiser: str, learning_rate: float, **counts: int) -> None:
    if optimiser not in OPTIMISERS:
        raise InputError(f"optimiser: expected one of {', '.join(OPTIMISERS)}; got {optimiser!r}")
    if not 0 < learning_rate < np.inf:
        raise InputError(f"learning_rate: expected a positive step size; got {learning_rate}")
    for name, value in counts.items():
        whole_number(least=1)(name, value)


@jax.jit
def _promised_gains(model: Model, units: Params, walk: Params, x: jax.Array) -> jax.Array:
    """Nats per datum that the slope at each run promises, were one datum to hold one unit of information."""
    coordinates = ScaledCoordinates(model, units)

    def one(walk: Params) -> jax.Array:
        slope = coordinates.flatten(jax.grad(coordinates.log_joint)(walk, x)) / len(x)
        return 0.5 * jnp.sum(slope**2)

    return jnp.asarray(each(one, walk, numbers=x.size * model.num_components))


@jax.jit
def _unflattened(model: Model, z: Float[Array, "R P"]) -> Params:
    """Walks of every restart from their flat coordinates."""
    walks: Params = jax.vmap(Coordinates(model).unflatten)(z)
    return walks


def _at_rest(traces: list[np.ndarray], least_rise: float) -> Bool[np.ndarray, " R"]:
    """Which runs rose by no more than ``least_rise`` (nats) in the last chunk."""
    if len(traces) < 2:
        return np.zeros(len(traces[-1]), bool)
    return np.asarray(traces[-1].max(1) - traces[-2].max(1) <= least_rise)


class _Climb(NamedTuple):
    """How runs climb: the options of :func:`run`."""

    optimiser: str
    max_iterations: int
    inner_steps: int
    learning_rate: float
    tolerance: float
    progress: Reporter


class Ends(NamedTuple):
    """Where runs ended; leaves lead with their axis."""

    params: Params
    final: Float[Array, " R"]
    """Log joint, nats."""
    trace: np.ndarray
    """Of the log joint, (R, I)."""
    converged: np.ndarray
    """Whether each run has, (R,): it rises no more, and the slope is flat."""


def optima(
    key: jax.Array,
    model: Model,
    x: Float[Array, "N D"],
    *,
    optimiser: str = "ecg",
    max_iterations: int = 3000,
    inner_steps: int = 3,
    learning_rate: float = 0.05,
    tolerance: float | None = None,
    restarts: int = 8,
    by_mass: bool = True,
    progress: Reporter = silent,
) -> Searched[Ends]:
    """Where all restarts end."""
    check_gradient(model)
    _check_options(optimiser, learning_rate, max_iterations=max_iterations, inner_steps=inner_steps, restarts=restarts)
    tolerance = known_tolerance(tolerance, x.dtype, 1e-8)
    climb = _Climb(optimiser, max_iterations, inner_steps, learning_rate, tolerance, progress)
    weight = None if model.row_weight is None else np.asarray(model.row_weight)
    each = None if weight is None else total_weight(weight)
    starts = Starts.of(key, model, x, restarts, each, by_mass=by_mass and not numbers_memories(weight))
    unit = units(model, x)

    def ends_from(params: Params) -> Ends:
        return _climbed(climb, model, unit, unconstrained(model, matched(model, params, x, weight)), x)

    found = starts.searched(ends_from, lambda ends: (ends.params, ends.final), progress)
    if not np.isfinite(found.worth).any():
        raise NumericalError(
            "gradient_em: the log density is not finite in any restart; lower the learning rate or standardise the data"
        )
    return found


def _climbed(climb: _Climb, model: Model, unit: Params, free: Params, x: Float[Array, "N D"]) -> Ends:
    """Where runs from these unconstrained site values end."""
    walk = jax.tree.map(jnp.divide, free, unit)
    total_steps = climb.max_iterations * climb.inner_steps
    by_adam = climb.optimiser == "adam"
    state = jax.vmap(_optimiser(climb.learning_rate, total_steps).init)(walk) if by_adam else None
    climbers = None if by_adam else ascent.begin(model, walk)
    traces: list[np.ndarray] = []
    at_rest, highest = np.zeros(len(next(iter(walk.values()))), bool), -np.inf
    phase, begin = climb.progress.phase("gradient EM"), 0
    before = phase.resumed((walk, state, climbers, at_rest))
    if before is not None:
        (walk, state, climbers, at_rest), trace = before.state, before.kept["trace"]
        traces = np.split(trace, range(_CHUNK, trace.shape[1], _CHUNK), axis=1)
        begin, highest = climb.max_iterations if before.ended else before.done, highest_of(trace)

    def is_flat(walk: Params) -> Bool[np.ndarray, " R"]:  # where it is not, steps may be too small to rise
        return np.asarray(_promised_gains(model, unit, walk, x)) <= FLAT

    for done in range(begin, climb.max_iterations, _CHUNK):
        num_steps = min(_CHUNK, climb.max_iterations - done)
        if climbers is None:
            walk, state, trace = _advance(
                model,
                unit,
                jnp.asarray(climb.learning_rate, x.dtype),
                walk,
                state,
                x,
                inner_steps=climb.inner_steps,
                num_steps=num_steps,
                total_steps=total_steps,
            )
        else:
            climbers, trace = ascent.advance(model, unit, climbers, x, optimiser=climb.optimiser, num_steps=num_steps)
            walk = _unflattened(model, climbers.z)
        traces.append(np.asarray(trace))
        highest = highest_of(traces[-1], highest)
        at_rest = _at_rest(traces, climb.tolerance * len(x))
        settled = bool(at_rest.all() and is_flat(walk)[np.argmax(traces[-1].max(1))])
        ended = settled or done + num_steps == climb.max_iterations
        phase.save(
            done + num_steps, (walk, state, climbers, at_rest), [{"trace": trace} for trace in traces], ended=ended
        )
        climb.progress(done + num_steps, climb.max_iterations, "gradient EM", objective=highest)
        if climb.progress.stopped or settled:
            break
    climb.progress(climb.max_iterations, climb.max_iterations, "gradient EM", objective=highest)
    free = jax.tree.map(jnp.multiply, walk, unit)
    final = log_joints(model, free, x)
    trace = np.concatenate([*traces, np.asarray(final)[:, None]], axis=1)
    return Ends(constrained(model, free), final, trace, at_rest & is_flat(walk))


def run(
    key: jax.Array,
    model: Model,
    x: Float[Array, "N D"],
    *,
    optimiser: str = "ecg",
    max_iterations: int = 3000,
    inner_steps: int = 3,
    learning_rate: float = 0.05,
    tolerance: float | None = None,
    restarts: int = 8,
    checkpoint: str | os.PathLike[str] | None = None,
    sample_weight: Float[Array, " N"] | np.ndarray | None = None,
    labels: Int[np.ndarray, " N"] | Bool[np.ndarray, "N K"] | None = None,
    blocks: RowBlocks | None = None,
    progress: Listener | None = None,
) -> EngineResult:
    """The best of several runs of gradient EM.

    Args:
        optimiser: "ecg" (conjugate gradients with a line search), "natural" (the gradient over the complete-data
            information: as many Hessian products an iteration as one memory has coordinates), or "adam" (generalised
            EM, its step decaying by the cosine rule). The first two never fall.
        max_iterations: E-steps; under Adam each is followed by ``inner_steps`` gradient steps.
        inner_steps: gradient steps per M-step of Adam.
        learning_rate: first step size of Adam, in unconstrained coordinates divided by their units.
        tolerance: stop early when the best objective of a chunk of 25 iterations beats that of the chunk before by
            less than this many nats per datum in every restart (default 1e-8 in float64, 1e-6 in float32), and the log
            joint is flat where it is.
        restarts: runs from different starts, of several kinds.
        checkpoint: a file to which the run is written every few seconds, and from which the same call continues.
        sample_weight: how often each row counts, (N,) numbers of at least 0.
        labels: (N,) numbers of the memories to which rows belong, -1 where that is not known, or (N, K) booleans.
        blocks: all rows of data larger than memory, of which ``x`` is a sample; only for "ecg".

    Raises:
        InputError: for an unknown optimiser, or a learning rate that is not positive.
        NumericalError: when no restart stays finite.
    """
    _check_blocks(blocks, optimiser)
    model, x = counted(model, x, sample_weight, labels)
    options: dict[str, Any] = {
        "optimiser": optimiser,
        "max_iterations": max_iterations,
        "inner_steps": inner_steps,
        "learning_rate": learning_rate,
        "tolerance": tolerance,
        "restarts": restarts,
    }
    with resumable_over(blocks, progress, checkpoint, "gradient_em", key, model, x, options) as report:
        found = optima(key, model, x, **options, progress=report)
        if blocks is not None:
            return _over_all_rows(model, x, found, blocks, max_iterations, tolerance, report)
    best_converged = bool(found.ends.converged[found.best])
    is_polished = optimiser != "adam" and best_converged
    return _result(model, x, found, ended(best_converged, report), is_polished=is_polished)


def _check_blocks(blocks: RowBlocks | None, optimiser: str) -> None:
    """Raise :class:`probam.errors.InputError` for an optimiser that does not go through rows in blocks."""
    if blocks is not None and optimiser in ("natural", "adam"):
        raise InputError(
            f"optimiser: data larger than memory are climbed by conjugate gradients alone; got {optimiser!r}; use "
            "'ecg', or give more memory"
        )


def _over_all_rows(
    model: Model,
    x: Float[Array, "M D"],
    found: Searched[Ends],
    blocks: RowBlocks,
    max_iterations: int,
    tolerance: float | None,
    report: Reporter,
) -> EngineResult:
    """Where one run over all rows ends that begins at the best end in the sample, and what all rows say there."""
    end = climb_in_blocks(
        model,
        run_of(found.ends.params, found.best),
        x,
        blocks,
        max_iterations=max_iterations,
        tolerance=known_tolerance(tolerance, x.dtype, 1e-8),
        progress=report,
    )
    if not np.isfinite(end.trace[-1]):
        raise NumericalError("gradient_em: the log density of all rows is not finite; standardise the data")
    params, model = as_runs(end.params), model.with_row_weight(None)
    result = point_result(
        model,
        run_of(params, 0),
        objective=end.trace[None],
        objective_name="log joint density",
        lp=end.trace[-1],
        status=ended(end.at_rest and end.promised <= FLAT, report),
        estimate="maximum a posteriori",
        restarts=Restarts((IN_SAMPLE,), (0,), None),
    )
    return result._replace(survey=surveyed(model, params, blocks, report))


def _result(
    model: Model, x: Float[Array, "N D"], found: Searched[Ends], status: str, *, is_polished: bool
) -> EngineResult:
    """The best end, to its last digits where it is to be polished."""
    ends, best = found.ends, found.best
    params: Params = jax.tree.map(lambda leaf: leaf[best], ends.params)
    if is_polished:
        params = polished(model, units(model, x), params, x)
    return point_result(
        model,
        params,
        objective=ends.trace,
        objective_name="log joint density",
        lp=ends.final[best],
        status=status,
        estimate="maximum a posteriori",
        restarts=found.restarts,
    )
