r"""Recall: follow an energy downhill from a query to the memory it calls up.

:func:`recall` iterates an energy's own update m (the mean under the responsibilities, an attention read-out), relaxed
by a = dt / tau:

.. math:: v \leftarrow (1 - a)\, v + a\, m(v), \qquad 0 < a < 2

which is the Euler step of \(\tau \dot v = m(v) - v\) (Schaeffer et al. 2023, Eq. 2). For every energy of
:mod:`probam.energies` with an update no step in (0, 2) goes uphill (Laplace wells, whose update is a median: in
(0, 1]); a = 1 is the unit step. :func:`descend` serves energies that have no update of their own, by gradients.

Both run all queries together on the device. A query that has converged stops; a run ends when all queries have
converged, and after ``max_steps`` at the latest. Both may be called inside ``jit`` and ``vmap``, and then skip the
checks of values. :func:`attractors` groups the final states into fixed points.

A callable made with ``jax.tree_util.Partial`` around a module-level function is compiled once for all calls: its
arguments may change, their shapes may not. Any other callable is compiled at each call.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from probam.dynamics.loops import Outcome, iterate, slide
from probam.energies.arguments import is_traced
from probam.errors import InputError, NumericalError
from probam.options import number

__all__ = ["Recall", "attractors", "check_finite", "check_step", "descend", "recall"]

_TOLERANCE = 4
"""Default tolerance in units of the dtype's eps: the rounding of one well-conditioned update."""


class Recall(NamedTuple):
    r"""The final state of each query, and whether it has converged.

    ``residual`` is relative: the length of the next move, \(|m(v) - v|\), over the largest of |v|, |m(v)| and
    |m(v_0)| (:func:`descend` has its own measure). A query has ``converged`` when the residual is at most the
    tolerance, or when it is at most 64 eps and no longer falls, so that only rounding moves the state. ``steps`` counts
    the steps of each query. ``trajectory`` and ``energies`` hold the first T + 1 states and their energies; a query
    that converged earlier repeats its last state. Both are None unless ``record`` is set.
    """

    states: Float[Array, "*batch D"]
    steps: Int[Array, "*batch"]
    residual: Float[Array, "*batch"]
    energy: Float[Array, "*batch"]
    converged: Bool[Array, "*batch"]
    trajectory: Float[Array, "T+1 *batch D"] | None
    energies: Float[Array, "T+1 *batch"] | None


def recall(
    update: Callable[[Float[Array, "Q D"]], Float[Array, "Q D"]],
    energy: Callable[[Float[Array, "Q D"]], Float[Array, " Q"]],
    queries: Float[ArrayLike, "*batch D"],
    *,
    step: float | Float[Array, ""] = 1.0,
    max_steps: int = 1000,
    tolerance: float | None = None,
    record: int = 0,
    retract: Callable[[Float[Array, "Q D"]], Float[Array, "Q D"]] | None = None,
    block_size: int | None = None,
) -> Recall:
    r"""Relaxed fixed-point iteration \(v \leftarrow (1 - a) v + a\, m(v)\) of every query, with a report.

    A fixed point is a stationary point of the energy; from a query on the border of two basins that is a saddle.

    Args:
        update: m, of rows of states (Q, D).
        energy: of rows of states (Q, D), one number a row.
        queries: where recall starts.
        step: a, between 0 and 2.
        max_steps: most steps of a query.
        tolerance: residual at which a query has converged (see :class:`Recall`); 4 eps of the dtype by default.
        record: T keeps the first T + 1 states and energies; 0 keeps none.
        retract: maps states back to their manifold after each step (:func:`probam.energies.spherical.retract`).
        block_size: queries that run at a time, to keep the (queries, K) arrays of the update small; None for all.

    Raises:
        InputError: for a step outside (0, 2), non-finite queries and callables of the wrong shapes.
        NumericalError: where a state leaves the finite numbers.

    >>> from functools import partial
    >>> from probam.energies import clam
    >>> bank = {"memories": jnp.array([[0.0, 1.0], [4.0, 0.0]]), "beta": 2.0}
    >>> report = recall(partial(clam.update, **bank), partial(clam.energy, **bank), jnp.array([1.0, 1.0]))
    >>> bool(report.converged), int(jnp.rint(report.states[1]))
    (True, 1)
    """
    if not is_traced(step):
        check_step(step)
    flat, options = _prepare(queries, max_steps, tolerance, record, block_size)
    functions: tuple[Callable[..., Array], ...] = (update, energy)
    flat = flat.astype(jnp.result_type(flat, _check_rows("update", update, flat, flat.shape)))
    _check_rows("energy", energy, flat, flat.shape[:1])
    if retract is not None:
        _check_rows("retract", retract, flat, flat.shape)
        functions += (retract,)
    outcome = _run(iterate, functions, flat, jnp.asarray(step, flat.dtype), **options)
    return _report("recall", outcome, jnp.shape(queries)[:-1])


def descend(
    energy: Callable[[Float[Array, " D"]], Float[Array, ""]],
    queries: Float[ArrayLike, "*batch D"],
    *,
    step_size: float | None = None,
    max_steps: int = 1000,
    tolerance: float | None = None,
    record: int = 0,
    block_size: int | None = None,
) -> Recall:
    r"""Gradient descent of every query on any differentiable energy of one point, with backtracking.

    A step \(v' = v - s \nabla E(v)\) is taken when it satisfies Armijo's condition,
    \(E(v') \le E(v) - 10^{-4} s |\nabla E|^2\); otherwise s is halved. Where the decrease is below the rounding of E,
    the slopes decide instead (Hager and Zhang 2005, doi:10.1137/030601880): the energy is monotone up to rounding.

    The report and the arguments not named here are those of :func:`recall`. The residual is the length of the gradient
    times the longest recent Barzilai-Borwein step, which estimates the remaining distance, over |v|. A query has also
    converged when 100 trials have lowered neither the energy beyond its rounding nor the least length of the gradient.
    A query whose line search fails stays where it is and has not converged.

    Args:
        energy: of one point; differentiable.
        step_size: first length of each line search, in units of the squared data over the energy. A small one follows
            the flow into its own basin. None takes Barzilai-Borwein steps, which measure the curvature and may be
            long: they end in *a* minimum below the query.

    Raises:
        InputError: as :func:`recall`.
        NumericalError: as :func:`recall`.
    """
    if step_size is not None and not is_traced(step_size) and not 0 < step_size < np.inf:
        raise InputError(f"step_size: expected a finite number above 0, or None; got {step_size}")
    flat, options = _prepare(queries, max_steps, tolerance, record, block_size)
    value = jax.eval_shape(lambda rows: energy(rows[0]), flat)
    if value.shape != ():
        raise InputError(f"energy: expected a function of one point that gives one number; its shape is {value.shape}")
    flat = flat.astype(jnp.result_type(flat, value.dtype))
    first_step = jnp.asarray(jnp.nan if step_size is None else step_size, flat.dtype)
    outcome = _run(slide, (energy,), flat, first_step, **options)
    return _report("descend", outcome, jnp.shape(queries)[:-1])


def attractors(
    states: Float[ArrayLike, "*batch D"], tolerance: float
) -> tuple[Int[np.ndarray, "*batch"], Float[np.ndarray, "A D"]]:
    """The fixed point of each state, by number, and the positions of the A fixed points.

    States that are linked directly or through others form a group; groups are numbered in order of appearance, and
    their means are the positions. Runs in NumPy.

    Args:
        states: states that have converged.
        tolerance: largest Euclidean distance of linked states, in the units of the states.

    Raises:
        InputError: for non-finite states, and a tolerance that is not a finite number of at least 0.
    """
    states = np.asarray(states)
    if states.ndim == 0 or not np.isfinite(states).all():
        raise InputError("states: expected finite values of shape (..., D); leave out those that have not converged")
    if not 0 <= tolerance < np.inf:
        raise InputError(f"tolerance: expected a finite distance of at least 0; got {tolerance}")
    rows = states.reshape(-1, states.shape[-1])
    labels = np.full(len(rows), -1)
    positions: list[np.ndarray] = []
    while (free := np.flatnonzero(labels < 0)).size:
        group = len(positions)
        front = free[:1]
        labels[front] = group
        while front.size:
            front = _linked(rows, front, np.flatnonzero(labels < 0), tolerance)
            labels[front] = group
        members = rows[labels == group]
        positions.append(members[0] + np.mean(members - members[0], axis=0))
    return labels.reshape(states.shape[:-1]), np.array(positions, states.dtype).reshape(-1, states.shape[-1])


def _linked(
    rows: Float[np.ndarray, "Q D"], front: Int[np.ndarray, " F"], free: Int[np.ndarray, " R"], tolerance: float
) -> Int[np.ndarray, " L"]:
    """The free rows within the tolerance of a row of the front."""
    low, high = rows[front].min(axis=0) - tolerance, rows[front].max(axis=0) + tolerance
    free = free[((rows[free] >= low) & (rows[free] <= high)).all(axis=1)]  # few are left near a tight group
    near = np.zeros(len(free), bool)
    for row in rows[front] if free.size else ():
        near |= np.linalg.norm(rows[free] - row, axis=1) <= tolerance
        if near.all():
            break
    return free[near]


def _prepare(
    queries: Float[ArrayLike, "*batch D"],
    max_steps: int,
    tolerance: float | None,
    record: int,
    block_size: int | None,
) -> tuple[Float[Array, "Q D"], dict[str, Any]]:
    """The queries as rows, and the checked options of a run."""
    queries = jnp.asarray(queries)
    queries = queries.astype(jnp.result_type(queries, float))
    if queries.ndim == 0 or queries.shape[-1] == 0:
        raise InputError(f"queries: expected shape (..., D) with D >= 1; got {queries.shape}")
    if not is_traced(queries):
        bad = ~np.isfinite(np.asarray(queries)).all(axis=-1)
        if bad.any():
            raise InputError(f"queries: {bad.sum()} of {bad.size} are not finite; drop or impute them")
    if max_steps < 0 or record < 0:
        raise InputError(f"max_steps, record: expected whole numbers of at least 0; got {max_steps} and {record}")
    if block_size is not None and block_size < 1:
        raise InputError(f"block_size: expected at least 1, or None for all queries at once; got {block_size}")
    if tolerance is not None and not is_traced(tolerance) and not 0 <= tolerance < np.inf:
        raise InputError(f"tolerance: expected a finite relative residual of at least 0; got {tolerance}")
    options = {"max_steps": max_steps, "tolerance": tolerance, "record": record, "block_size": block_size}
    return queries.reshape(-1, queries.shape[-1]), options


def _check_rows(name: str, function: Callable[[Array], Array], rows: Array, shape: tuple[int, ...]) -> np.dtype[Any]:
    """The dtype that a function of rows gives, if its shape is right."""
    value = jax.eval_shape(function, rows)
    if value.shape != shape:
        raise InputError(f"{name}: expected a function that takes rows {rows.shape} to {shape}; it gives {value.shape}")
    dtype: np.dtype[Any] = value.dtype
    return dtype


def _run(
    solver: Callable[..., Outcome],
    functions: tuple[Callable[..., Array], ...],
    queries: Float[Array, "Q D"],
    step: Float[Array, ""],
    *,
    tolerance: float | None,
    max_steps: int,
    record: int,
    block_size: int | None,
) -> Outcome:
    """The compiled solver, on all queries or block by block."""
    if tolerance is None:
        tolerance = _TOLERANCE * float(np.finfo(queries.dtype).eps)
    limit = jnp.asarray(tolerance, queries.dtype)
    static = (solver, max_steps, record, block_size)
    if all(isinstance(function, Partial) for function in functions):
        kept: Outcome = _blocks_kept(functions, queries, step, limit, *static)
        return kept
    once: Outcome = jax.jit(lambda *arrays: _blocks(functions, arrays[0], arrays[1], arrays[2], *static))(
        queries, step, limit
    )
    return once


def _blocks(
    functions: tuple[Callable[..., Array], ...],
    queries: Float[Array, "Q D"],
    step: Float[Array, ""],
    tolerance: Float[Array, ""],
    solver: Callable[..., Outcome],
    max_steps: int,
    record: int,
    block_size: int | None,
) -> Outcome:
    def solve(rows: Float[Array, "B D"]) -> Outcome:
        return solver(*functions, queries=rows, step=step, tolerance=tolerance, max_steps=max_steps, record=record)

    num_queries, dim = queries.shape
    if block_size is None or num_queries <= block_size:
        return solve(queries)
    padding = -num_queries % block_size
    rows = jnp.pad(queries, ((0, padding), (0, 0)), mode="edge").reshape(-1, block_size, dim)

    def joined(array: Array, lead: int) -> Array:
        array = jnp.moveaxis(array, 0, lead)  # blocks beside their rows
        array = array.reshape(*array.shape[:lead], -1, *array.shape[lead + 2 :])
        return jax.lax.slice_in_dim(array, 0, num_queries, axis=lead)

    return _each(joined, jax.lax.map(solve, rows))


_blocks_kept = jax.jit(_blocks, static_argnums=(4, 5, 6, 7))


def _each(change: Callable[[Array, int], Array], outcome: Outcome) -> Outcome:
    """``change(array, axis of the queries)`` of every array of an outcome."""
    states, steps, residual, energy, converged, trajectory, energies = outcome
    return (
        change(states, 0),
        change(steps, 0),
        change(residual, 0),
        change(energy, 0),
        change(converged, 0),
        None if trajectory is None else change(trajectory, 1),
        None if energies is None else change(energies, 1),
    )


def _report(name: str, outcome: Outcome, batch: tuple[int, ...]) -> Recall:
    """The outcome in the shape of the queries, or an error where a state is not finite."""
    ended = Recall(
        *_each(lambda array, lead: array.reshape(*array.shape[:lead], *batch, *array.shape[lead + 1 :]), outcome)
    )
    return ended if is_traced(ended.states) else check_finite(name, ended)


def check_step(step: Any) -> None:
    """Raise :class:`probam.errors.InputError` for a step of recall that goes uphill."""
    number()("step", step)
    if not 0 < step < 2:
        raise InputError(f"step: expected a number in (0, 2), the time step over tau; got {step}")


def check_finite(name: str, ended: Recall) -> Recall:
    """The same, or :class:`probam.errors.NumericalError` where a state is not finite.

    Args:
        name: what errors call the run.
        ended: the report of a run.
    """
    lost = ~(np.isfinite(np.asarray(ended.states)).all(axis=-1) & np.isfinite(np.asarray(ended.residual)))
    if lost.any():
        raise NumericalError(
            f"{name}: {lost.sum()} of {lost.size} queries left the finite numbers, the first is number "
            f"{np.flatnonzero(lost)[0]}; check the energy and its update there, or scale the data"
        )
    return ended
