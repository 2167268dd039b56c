r"""Dynamics of two-layer networks: the differential equations of visible and hidden currents, and Euler's steps.

:func:`flow` integrates :func:`probam.energies.two_layer.velocity` with an adaptive Runge-Kutta method (diffrax), to a
time or to a steady state, and keeps the energy on a grid of times; :func:`euler` takes steps of one size, as the update
rules of the papers do. Both run all states at once on the device and report the same :class:`Flow`.
"""

from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from probam.dynamics.recall import recall
from probam.energies.arguments import is_traced, points, positive
from probam.energies.two_layer import (
    Network,
    answer,
    effective_energy,
    effective_velocity,
    energy,
    update,
    velocity,
)
from probam.errors import InputError, NumericalError

__all__ = ["Flow", "euler", "flow", "residual"]

_RTOL = {4: 1e-5, 8: 1e-9}
"""Default relative error of one step of :func:`flow`, by the bytes of the dtype."""

Solver = Literal["explicit", "implicit"]


class Flow(NamedTuple):
    r"""The final state of each query, and whether it is at rest.

    ``time`` is when the run of each state ended and ``steps`` the number of its steps. ``residual`` is that of
    :func:`residual` at the end; a state has ``converged`` when it is within the tolerance of the run. ``energies``
    are those at ``times``; a state that came to rest earlier repeats its last one. Both are None unless ``record`` is
    set.
    """

    visible: Float[Array, "*batch D"]
    hidden: Float[Array, "*batch K"]
    time: Float[Array, "*batch"]
    steps: Int[Array, "*batch"]
    residual: Float[Array, "*batch"]
    energy: Float[Array, "*batch"]
    converged: Bool[Array, "*batch"]
    times: Float[Array, " T+1"] | None
    energies: Float[Array, "T+1 *batch"] | None


def residual(
    visible: Float[ArrayLike, "*batch D"], hidden: Float[ArrayLike, "*batch K"], network: Network
) -> Float[Array, "*batch"]:
    r"""Distance from rest, \(|(\tau_v \dot v, \tau_h \dot h)|\) over the larger of the state and its target.

    The target is \((\Xi^\top f + I, \Xi g)\), towards which the layers move. Zero only at fixed points.
    """
    v_rate, h_rate = velocity(visible, hidden, network)
    state = jnp.concatenate([jnp.asarray(visible), jnp.asarray(hidden)], axis=-1)
    move = jnp.concatenate([network.tau_v * v_rate, network.tau_h * h_rate], axis=-1)
    length, before, after = (jnp.sqrt(jnp.sum(rows**2, axis=-1)) for rows in (move, state, state + move))
    size = jnp.maximum(before, after)
    return jnp.where(length == 0, 0, length / jnp.where(size > 0, size, 1))


def flow(
    network: Network,
    visible: Float[ArrayLike, "*batch D"],
    hidden: Float[ArrayLike, "*batch K"] | None = None,
    *,
    horizon: float,
    tolerance: float | None = None,
    rtol: float | None = None,
    record: int = 0,
    solver: Solver = "explicit",
    fast_hidden: bool = False,
    max_steps: int = 10_000,
) -> Flow:
    r"""The layers after they followed \(\tau_v \dot v = \Xi^\top f - v + I\), \(\tau_h \dot h = \Xi g - h\).

    May be called inside ``jit``, ``vmap`` and ``grad``, and then skips the checks of values.

    Args:
        hidden: start of the hidden layer; None starts it at rest under the visible one.
        horizon: time at which integration ends.
        tolerance: residual at which a state ends earlier; None integrates to the horizon and takes 1000 ``rtol``.
        rtol: relative error of a step (the absolute one is this times the largest current at the start), by default
            1e-9 in float64 and 1e-5 in float32. Much smaller residuals are not reached.
        record: T keeps the energy at T + 1 equally spaced times; 0 keeps none.
        solver: "explicit" (Tsitouras 5(4)), or "implicit" (Kvaerno 5(4)) for time constants far apart.
        fast_hidden: keeps the hidden layer at rest all the time (the limit tau_h = 0); ``hidden`` must be None.

    Raises:
        InputError: for bad arguments.
        NumericalError: where a state leaves the finite numbers or stops before the horizon: the energy is not bounded
            below, or the units are signs, whose jumps no adaptive step can cross (use :func:`euler`).

    >>> from probam.energies.two_layer import modern_hopfield
    >>> network = modern_hopfield(jnp.array([[0.0, 1.0], [4.0, 0.0]]), beta=2.0, tau_h=0.5)
    >>> end = flow(network, jnp.array([1.0, 0.5]), horizon=50.0, tolerance=1e-6)
    >>> bool(end.converged), int(jnp.rint(end.visible[0]))
    (True, 4)
    """
    v, h, batch = _start(network, visible, hidden, fast_hidden)
    if not is_traced(horizon) and not 0 < horizon < np.inf:
        raise InputError(f"horizon: expected a finite time above 0; got {horizon}")
    if solver not in ("explicit", "implicit"):
        raise InputError(f"solver: expected 'explicit' or 'implicit'; got {solver!r}")
    if rtol is None:
        rtol = _RTOL.get(v.dtype.itemsize, 1e-3)
    if not is_traced(rtol) and not 0 < rtol < 1:
        raise InputError(f"rtol: expected a number in (0, 1); got {rtol}")
    _check_run(max_steps, record, tolerance)
    judge = 1000 * rtol if tolerance is None else tolerance
    numbers = [jnp.asarray(value, v.dtype) for value in (horizon, rtol, judge)]
    static = {"stop": tolerance is not None, "record": record, "solver": solver, "max_steps": max_steps}
    ended = _integrate(network, v, h, *numbers, fast_hidden=fast_hidden, **static)
    _check_end("flow", ended, numbers[0])
    times = jnp.linspace(0, numbers[0], record + 1, dtype=v.dtype) if record else None
    return _shaped(ended._replace(times=times), batch)


def euler(
    network: Network,
    visible: Float[ArrayLike, "*batch D"],
    hidden: Float[ArrayLike, "*batch K"] | None = None,
    *,
    step: float,
    max_steps: int = 1000,
    tolerance: float | None = None,
    record: int = 0,
    fast_hidden: bool = False,
) -> Flow:
    r"""The layers after Euler steps \(v \leftarrow v + dt\, \dot v\), \(h \leftarrow h + dt\, \dot h\), both at once.

    A state stops, and has ``converged``, as in :func:`probam.dynamics.recall.recall`. The arguments not named here, and
    the errors, are those of :func:`flow`.

    Args:
        step: dt, in (0, 2 tau) for both tau: beyond that the leak terms alone are unstable. dt = tau_v with
            ``fast_hidden`` is the update of the discrete networks, :func:`probam.energies.two_layer.update`.
        tolerance: residual of the move over the smaller time constant at which a state has converged.
        record: T keeps the energy at the first T + 1 times; 0 keeps none.
    """
    v, h, batch = _start(network, visible, hidden, fast_hidden)
    _check_run(max_steps, record, tolerance)
    tau = jnp.asarray(network.tau_v, v.dtype)
    tau = tau if fast_hidden else jnp.minimum(tau, jnp.asarray(network.tau_h, v.dtype))
    if not is_traced(tau) and not is_traced(step) and not 0 < step < 2 * float(tau):
        raise InputError(f"step: expected a time in (0, 2 tau), tau the smaller time constant {float(tau)}; got {step}")
    relaxation: Any = jnp.asarray(step, v.dtype) / tau
    report = recall(
        Partial(update if fast_hidden else _joint_target, network=network),
        Partial(effective_energy if fast_hidden else _joint_energy, network=network),
        v if fast_hidden else jnp.concatenate([v, h], axis=-1),
        step=relaxation,
        max_steps=max_steps,
        tolerance=tolerance,
        record=record,
    )
    v, h = (report.states, _answer(report.states, network)) if fast_hidden else _split(report.states, network)
    ended = Flow(
        visible=v,
        hidden=h,
        time=(step * report.steps).astype(v.dtype),
        steps=report.steps,
        residual=_residual(v, h, network),
        energy=report.energy,
        converged=report.converged,
        times=None if report.energies is None else step * jnp.arange(record + 1, dtype=v.dtype),
        energies=report.energies,
    )
    return _shaped(ended, batch)


_answer, _residual = jax.jit(answer), jax.jit(residual)


def _split(rows: Float[Array, "Q M"], network: Network) -> tuple[Float[Array, "Q D"], Float[Array, "Q K"]]:
    dim = jnp.shape(network.memories)[1]
    return rows[:, :dim], rows[:, dim:]


def _joint_target(rows: Float[Array, "Q M"], *, network: Network) -> Float[Array, "Q M"]:
    """Where both layers would be after the smaller time constant, at their present velocity."""
    tau = jnp.minimum(jnp.asarray(network.tau_v, rows.dtype), jnp.asarray(network.tau_h, rows.dtype))
    return rows + tau * jnp.concatenate(velocity(*_split(rows, network), network), axis=-1)


def _joint_energy(rows: Float[Array, "Q M"], *, network: Network) -> Float[Array, " Q"]:
    return energy(*_split(rows, network), network)


@partial(jax.jit, static_argnames=("stop", "record", "solver", "fast_hidden", "max_steps"))
def _integrate(
    network: Network,
    visible: Float[Array, "Q D"],
    hidden: Float[Array, "Q K"],
    horizon: Float[Array, ""],
    rtol: Float[Array, ""],
    tolerance: Float[Array, ""],
    *,
    stop: bool,
    record: int,
    solver: Solver,
    fast_hidden: bool,
    max_steps: int,
) -> Flow:
    """All rows of :func:`flow`; ``times`` is left out."""
    import diffrax  # half a second to import, and only integration needs it

    def layers(state: Any) -> tuple[Array, Array]:
        return (state, answer(state, network)) if fast_hidden else state

    def rate(_time: Any, state: Any, _args: Any) -> Any:
        return effective_velocity(state, network) if fast_hidden else velocity(*layers(state), network)

    def energy_of(_time: Any, state: Any, _args: Any) -> Array:
        return effective_energy(state, network) if fast_hidden else energy(*layers(state), network)

    def at_rest(_time: Any, state: Any, _args: Any, **_: Any) -> Bool[Array, ""]:
        return residual(*layers(state), network) <= tolerance

    def one(v: Float[Array, " D"], h: Float[Array, " K"]) -> Flow:
        subs = [diffrax.SubSaveAt(t1=True)]
        if record:
            grid = jnp.linspace(0, horizon, record + 1, dtype=v.dtype)
            subs.append(diffrax.SubSaveAt(ts=grid, fn=energy_of))
        largest = jnp.maximum(jnp.max(jnp.abs(v)), jnp.max(jnp.abs(h)))
        atol = rtol * jnp.where(largest > 0, largest, 1)
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(rate),
            diffrax.Tsit5() if solver == "explicit" else diffrax.Kvaerno5(),
            jnp.zeros_like(horizon),
            horizon,
            None,
            v if fast_hidden else (v, h),
            saveat=diffrax.SaveAt(subs=subs),
            stepsize_controller=diffrax.PIDController(rtol=rtol, atol=atol),
            event=diffrax.Event(at_rest) if stop else None,
            max_steps=max_steps,
            throw=False,
        )
        final, time = jax.tree.map(lambda saved: saved[0], solution.ys[0]), solution.ts[0][0]
        v, h = layers(final)
        last = energy(v, h, network)
        energies = None
        if record:
            energies = jnp.where(grid <= time, solution.ys[1], last)
        left = residual(v, h, network)
        return Flow(v, h, time, solution.stats["num_steps"], left, last, left <= tolerance, None, energies)

    rows = jax.vmap(one)(visible, hidden)
    return rows if rows.energies is None else rows._replace(energies=rows.energies.T)


def _start(
    network: Network,
    visible: Float[ArrayLike, "*batch D"],
    hidden: Float[ArrayLike, "*batch K"] | None,
    fast_hidden: bool,
) -> tuple[Float[Array, "Q D"], Float[Array, "Q K"], tuple[int, ...]]:
    """Both layers as rows of one dtype, and the shape of the batch."""
    v, memories = points(visible, network.memories)
    if hidden is not None and fast_hidden:
        raise InputError("hidden: with fast_hidden=True the hidden layer follows the visible one; leave it out")
    h = _answer(v, network) if hidden is None else jnp.asarray(hidden)
    dtype = jnp.result_type(v, h)
    v, h = v.astype(dtype), h.astype(dtype)
    for name, tau in (("tau_v", network.tau_v), ("tau_h", network.tau_h)):
        positive(name, tau, dtype)
    jax.eval_shape(velocity, v, h, network)  # checks shapes
    for name, layer in (("visible", v), ("hidden", h)):
        if not is_traced(layer):
            bad = ~np.isfinite(np.asarray(layer)).all(axis=-1)
            if bad.any():
                raise InputError(f"{name}: {bad.sum()} of {bad.size} states are not finite; drop or impute them")
    return v.reshape(-1, v.shape[-1]), h.reshape(-1, len(memories)), v.shape[:-1]


def _check_run(max_steps: int, record: int, tolerance: float | None) -> None:
    if max_steps < 1 or record < 0:
        raise InputError(f"max_steps, record: expected at least 1 and at least 0; got {max_steps} and {record}")
    if tolerance is not None and not is_traced(tolerance) and not 0 < tolerance < np.inf:
        raise InputError(f"tolerance: expected a finite residual above 0, or None; got {tolerance}")


def _check_end(name: str, ended: Flow, horizon: Array) -> None:
    if any(is_traced(part) for part in (ended.visible, ended.time, horizon)):
        return
    finite = np.isfinite(np.asarray(ended.visible)).all(axis=-1) & np.isfinite(np.asarray(ended.energy))
    short = ~np.asarray(ended.converged) & (np.asarray(ended.time) < (1 - 1e-6) * float(horizon))
    for lost, what in ((~finite, "left the finite numbers"), (short, "stopped before the horizon")):
        if lost.any():
            raise NumericalError(
                f"{name}: {lost.sum()} of {lost.size} states {what}, the first is number {np.flatnonzero(lost)[0]}; "
                "the energy may not be bounded below, or its slopes may jump; shorten the horizon, raise max_steps, "
                "take the implicit solver, or use euler"
            )


def _shaped(ended: Flow, batch: tuple[int, ...]) -> Flow:
    """The rows of a run in the shape of the batch."""
    rows = {
        name: part.reshape(*batch, *part.shape[1:])
        for name, part in ended._asdict().items()
        if name not in ("times", "energies")
    }
    energies = None if ended.energies is None else ended.energies.reshape(-1, *batch)
    return Flow(**rows, times=ended.times, energies=energies)
