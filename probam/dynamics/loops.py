"""The two loops of recall, on the device: a relaxed fixed-point iteration and a gradient descent.

Both advance all rows of states together and stop a row that has converged. They end when no row is left or no steps
are. They return the fields of :class:`probam.dynamics.recall.Recall`, in its order.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

__all__ = ["Outcome", "iterate", "slide"]

Outcome = tuple[Array, Array, Array, Array, Array, Array | None, Array | None]
"""States, steps, residual, energy, converged, trajectory and energies of a run."""

_NOISE = 64
"""Residual, in eps, that rounding alone can cause where memories compete at high beta."""

_MEMORY = 6
"""Barzilai-Borwein steps that a gradient descent remembers."""

_PATIENCE = 50
"""Steps without a new least residual after which a residual below the noise counts as converged."""

_ARMIJO = 1e-4
"""Share of the linear decrease that a gradient step must achieve."""

_HALVINGS = 60
"""Failed trials in a row after which a gradient descent is stuck."""


class _Log(NamedTuple):
    """The recorded part of a run; without rows when nothing is recorded."""

    states: Float[Array, "T+1 Q D"]
    energies: Float[Array, "T+1 Q"]

    @classmethod
    def start(cls, states: Float[Array, "Q D"], energy: Callable[[], Float[Array, " Q"]], record: int) -> "_Log":
        if not record:
            return cls(jnp.zeros((0, *states.shape), states.dtype), jnp.zeros((0, len(states)), states.dtype))
        empty = cls(
            jnp.zeros((record + 1, *states.shape), states.dtype), jnp.zeros((record + 1, len(states)), states.dtype)
        )
        return cls(empty.states.at[0].set(states), empty.energies.at[0].set(energy()))

    def add(self, at: Int[Array, " Q"], states: Float[Array, "Q D"], energies: Float[Array, " Q"]) -> "_Log":
        """Write the state of each query at its own row; rows beyond the last are dropped."""
        query = jnp.arange(len(states))
        return _Log(
            self.states.at[at, query].set(states, mode="drop"), self.energies.at[at, query].set(energies, mode="drop")
        )

    def filled(
        self, steps: Int[Array, " Q"], states: Float[Array, "Q D"], energies: Float[Array, " Q"]
    ) -> tuple[Float[Array, "H Q D"] | None, Float[Array, "H Q"] | None]:
        if not len(self.states):
            return None, None
        after = jnp.arange(len(self.states))[:, None] > steps
        return jnp.where(after[..., None], states, self.states), jnp.where(after, energies, self.energies)


def _norm(rows: Float[Array, "Q D"]) -> Float[Array, " Q"]:
    return jnp.sqrt(jnp.sum(rows**2, axis=-1))


def _relative(length: Float[Array, " Q"], *sizes: Float[Array, " Q"]) -> Float[Array, " Q"]:
    """A length over the largest size; zero over zero is zero."""
    size = jnp.stack(sizes).max(axis=0)
    return jnp.where(size > 0, length / jnp.where(size > 0, size, 1), length)


def iterate(
    update: Callable[[Array], Array],
    energy: Callable[[Array], Array],
    retract: Callable[[Array], Array] | None = None,
    *,
    queries: Float[Array, "Q D"],
    step: Float[Array, ""],
    tolerance: Float[Array, ""],
    max_steps: int,
    record: int,
) -> Outcome:
    """The loop of :func:`probam.dynamics.recall.recall`, with its arguments."""

    class State(NamedTuple):
        t: Int[Array, ""]
        states: Float[Array, "Q D"]
        targets: Float[Array, "Q D"]
        steps: Int[Array, " Q"]
        residual: Float[Array, " Q"]
        least: Float[Array, " Q"]  # residual so far
        stalled: Int[Array, " Q"]  # steps since
        log: _Log

    noise = _NOISE * float(np.finfo(queries.dtype).eps)

    def arrived(state: State) -> Bool[Array, " Q"]:
        return (state.residual <= tolerance) | ((state.residual <= noise) & (state.stalled >= _PATIENCE))

    def active(state: State) -> Bool[Array, " Q"]:
        return jnp.isfinite(state.residual) & ~arrived(state)

    def more(state: State) -> Bool[Array, ""]:
        return (state.t < max_steps) & jnp.any(active(state))

    def advance(state: State) -> State:
        moved = (1 - step) * state.states + step * state.targets
        if retract is not None:
            moved = retract(moved)
        goes = active(state)
        states = jnp.where(goes[:, None], moved, state.states)
        steps = state.steps + goes
        targets = update(states)
        residual = _relative(_norm(targets - states), _norm(states), _norm(targets), first_size)
        log = state.log
        if record:
            at = jnp.where(goes, steps, record + 1)
            log = jax.lax.cond(state.t < record, lambda: log.add(at, states, energy(states)), lambda: log)
        stalled = jnp.where(residual < state.least, 0, state.stalled + goes)
        return State(state.t + 1, states, targets, steps, residual, jnp.minimum(residual, state.least), stalled, log)

    targets = update(queries)
    first_size = _norm(targets)
    residual = _relative(_norm(targets - queries), _norm(queries), first_size)
    zeros = jnp.zeros(len(queries), jnp.int32)
    log = _Log.start(queries, lambda: energy(queries), record)
    start = State(jnp.int32(0), queries, targets, zeros, residual, residual, zeros, log)
    end = jax.lax.while_loop(more, advance, start)
    energies = energy(end.states)
    recorded = end.log.filled(end.steps, end.states, energies)
    return end.states, end.steps, end.residual, energies, arrived(end), *recorded


class _Descent(NamedTuple):
    """A gradient descent of every query."""

    states: Float[Array, "Q D"]
    energies: Float[Array, " Q"]
    slopes: Float[Array, "Q D"]
    trial: Float[Array, " Q"]  # length of the step that is tried next
    short: Float[Array, "Q M"]  # recent steps: as the largest curvature on the way asks,
    long: Float[Array, "Q M"]  # and as the smallest does
    steps: Int[Array, " Q"]
    failures: Int[Array, " Q"]  # in a row
    least: Float[Array, " Q"]  # length of the gradient so far
    floor: Float[Array, " Q"]  # energy there
    stalled: Int[Array, " Q"]  # rounds since
    log: _Log

    @classmethod
    def start(
        cls,
        queries: Float[Array, "Q D"],
        energies: Float[Array, " Q"],
        slopes: Float[Array, "Q D"],
        step: Float[Array, ""],
        record: int,
    ) -> "_Descent":
        zeros = jnp.zeros(len(queries), jnp.int32)
        trial = jnp.full(len(queries), jnp.where(jnp.isnan(step), 1, step), queries.dtype)
        none = jnp.zeros((len(queries), _MEMORY), queries.dtype)
        log = _Log.start(queries, lambda: energies, record)
        return cls(
            queries, energies, slopes, trial, none + jnp.inf, none, zeros, zeros, _norm(slopes), energies, zeros, log
        )

    @property
    def residual(self) -> Float[Array, " Q"]:
        """Length of the gradient times the longest recent step, over the length of the state."""
        reach = jnp.where(self.steps > 0, jnp.max(self.long, axis=-1), self.trial)
        return _relative(reach * _norm(self.slopes), _norm(self.states))


class _Ending(NamedTuple):
    """When a query's descent is over."""

    tolerance: Float[Array, ""]
    scale: Float[Array, " Q"]  # size of the energy at the query
    max_steps: int

    def noise(self, state: _Descent) -> Float[Array, " Q"]:
        """Change of the energy that rounding alone can make."""
        rounding = 16 * float(np.finfo(state.states.dtype).eps)
        return rounding * jnp.maximum(jnp.abs(state.energies), self.scale)

    def arrived(self, state: _Descent) -> Bool[Array, " Q"]:
        residual = state.residual
        # only after a step does the length of a trial measure the curvature
        near = (residual <= self.tolerance) & ((state.steps > 0) | (residual == 0))
        flat = (state.stalled >= 2 * _PATIENCE) & (state.floor - state.energies <= self.noise(state))
        return near | flat

    def active(self, state: _Descent) -> Bool[Array, " Q"]:
        free = (state.steps < self.max_steps) & (state.failures < _HALVINGS)
        return free & jnp.isfinite(state.residual) & ~self.arrived(state)


def slide(
    energy: Callable[[Array], Array],
    *,
    queries: Float[Array, "Q D"],
    step: Float[Array, ""],
    tolerance: Float[Array, ""],
    max_steps: int,
    record: int,
) -> Outcome:
    """The loop of ``descend``: one trial step of every query a round.

    Args:
        step: first length of each trial; NaN for Barzilai-Borwein steps, which alternate as in ABBmin (Frassoldati,
            Zanni and Zanghirati 2008, doi:10.3934/jimo.2008.4.299): they stay fast where the energy is ill-conditioned.
    """
    slope_of = jax.vmap(jax.value_and_grad(energy))
    energies, slopes = slope_of(queries)
    ending = _Ending(tolerance, jnp.abs(energies), max_steps)

    def advance(state: _Descent) -> _Descent:
        tried = state.states - state.trial[:, None] * state.slopes
        energies, slopes = slope_of(tried)
        goes = ending.active(state)
        falls = _falls(state, energies, slopes, ending.noise(state))
        taken = goes & falls & jnp.isfinite(slopes).all(axis=-1)
        trial, short, long = _next_trial(state, tried, slopes, goes, taken, step)
        states = jnp.where(taken[:, None], tried, state.states)
        energies = jnp.where(taken, energies, state.energies)
        slopes = jnp.where(taken[:, None], slopes, state.slopes)
        steps = state.steps + taken
        failures = jnp.where(taken, 0, state.failures + goes)
        steepness = _norm(slopes)
        flatter = steepness < state.least
        least = jnp.where(flatter, steepness, state.least)
        floor = jnp.where(flatter, energies, state.floor)
        stalled = jnp.where(flatter, 0, state.stalled + goes)
        log = state.log
        if record:
            log = log.add(jnp.where(taken, steps, record + 1), states, energies)
        return _Descent(states, energies, slopes, trial, short, long, steps, failures, least, floor, stalled, log)

    start = _Descent.start(queries, energies, slopes, step, record)
    end = jax.lax.while_loop(lambda state: ending.active(state).any(), advance, start)
    recorded = end.log.filled(end.steps, end.states, end.energies)
    return end.states, end.steps, end.residual, end.energies, ending.arrived(end), *recorded


def _falls(
    state: _Descent, energies: Float[Array, " Q"], slopes: Float[Array, "Q D"], noise: Float[Array, " Q"]
) -> Bool[Array, " Q"]:
    """Whether a trial satisfies Armijo's condition, by its slope where rounding hides the decrease."""
    decrease = state.trial * jnp.sum(state.slopes**2, axis=-1)
    turned = -state.trial * jnp.sum(slopes * state.slopes, axis=-1)
    falls = energies <= state.energies - _ARMIJO * decrease
    level = (
        (energies <= state.energies + noise) & (turned <= (1 - 2 * _ARMIJO) * decrease) & (_ARMIJO * decrease <= noise)
    )
    return falls | level


def _next_trial(
    state: _Descent,
    tried: Float[Array, "Q D"],
    slopes: Float[Array, "Q D"],
    goes: Bool[Array, " Q"],
    taken: Bool[Array, " Q"],
    step: Float[Array, ""],
) -> tuple[Float[Array, " Q"], Float[Array, "Q M"], Float[Array, "Q M"]]:
    """Length of the next trial (half the last one after a failure), and the recent Barzilai-Borwein steps."""
    move, turn = tried - state.states, slopes - state.slopes
    curvature = jnp.sum(turn * move, axis=-1)
    convex = curvature > 0
    longest = jnp.where(convex, jnp.sum(move**2, axis=-1) / jnp.where(convex, curvature, 1), 2 * state.trial)
    square = jnp.where(convex, jnp.sum(turn**2, axis=-1), 1)
    shortest = jnp.where(convex, curvature / jnp.where(square > 0, square, 1), longest)
    short = jnp.where(taken[:, None], jnp.append(state.short[:, 1:], shortest[:, None], axis=1), state.short)
    long = jnp.where(taken[:, None], jnp.append(state.long[:, 1:], longest[:, None], axis=1), state.long)
    measured = jnp.where(shortest < 0.8 * longest, jnp.min(short, axis=-1), longest)
    following = jnp.where(jnp.isnan(step), measured, step)
    return jnp.where(taken, following, jnp.where(goes, state.trial / 2, state.trial)), short, long
