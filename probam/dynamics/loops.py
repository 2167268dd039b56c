"""The two loops of recall, on the device: a relaxed fixed-point iteration and a gradient descent.

Both advance all rows of states together, freeze a row that has arrived, and end when all rows are frozen or out of
steps. They return the fields of :class:`probam.dynamics.recall.Recall`, in its order.
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
"""Residual, in eps, that rounding alone can keep up where memories compete at high beta."""

_MEMORY = 6
"""Barzilai-Borwein steps that a gradient descent remembers."""

_PATIENCE = 50
"""Steps without a new least residual after which a residual below the noise has settled."""

_ARMIJO = 1e-4
"""Part of the linear decrease that a gradient step must deliver."""

_HALVINGS = 60
"""Failed trials in a row after which a gradient descent is stuck."""


class _Log(NamedTuple):
    """The recorded part of a run; both have no rows when nothing is recorded."""

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
        """Write each query's state at its own place; places beyond the last are dropped."""
        query = jnp.arange(len(states))
        return _Log(
            self.states.at[at, query].set(states, mode="drop"), self.energies.at[at, query].set(energies, mode="drop")
        )

    def filled(
        self, steps: Int[Array, " Q"], states: Float[Array, "Q D"], energies: Float[Array, " Q"]
    ) -> tuple[Float[Array, "T+1 Q D"] | None, Float[Array, "T+1 Q"] | None]:
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
    """The loop of ``recall``."""

    class State(NamedTuple):
        t: Int[Array, ""]
        states: Float[Array, "Q D"]
        targets: Float[Array, "Q D"]
        steps: Int[Array, " Q"]
        residual: Float[Array, " Q"]
        least: Float[Array, " Q"]  # residual so far, and for how many steps it has stood
        stood: Int[Array, " Q"]
        log: _Log

    noise = _NOISE * float(np.finfo(queries.dtype).eps)

    def arrived(state: State) -> Bool[Array, " Q"]:
        return (state.residual <= tolerance) | ((state.residual <= noise) & (state.stood >= _PATIENCE))

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
        stood = jnp.where(residual < state.least, 0, state.stood + goes)
        return State(state.t + 1, states, targets, steps, residual, jnp.minimum(residual, state.least), stood, log)

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


def slide(
    energy: Callable[[Array], Array],
    *,
    queries: Float[Array, "Q D"],
    step: Float[Array, ""],
    tolerance: Float[Array, ""],
    max_steps: int,
    record: int,
) -> Outcome:
    """The loop of ``descend``: one trial step of every query a round; NaN for ``step`` asks for Barzilai-Borwein.

    The Barzilai-Borwein steps alternate as in ABBmin (Frassoldati, Zanni and Zanghirati 2008,
    doi:10.3934/jimo.2008.4.299), which does not crawl where the energy is ill-conditioned.
    """
    slope_of = jax.vmap(jax.value_and_grad(energy))
    rounding = 16 * float(np.finfo(queries.dtype).eps)
    adaptive = jnp.isnan(step)

    class State(NamedTuple):
        states: Float[Array, "Q D"]
        energies: Float[Array, " Q"]
        slopes: Float[Array, "Q D"]
        trial: Float[Array, " Q"]
        short: Float[Array, "Q M"]  # recent steps: as the largest curvature on the way asks,
        long: Float[Array, "Q M"]  # and as the smallest does
        steps: Int[Array, " Q"]
        failures: Int[Array, " Q"]
        least: Float[Array, " Q"]  # slope so far, the energy there, and for how many rounds it has stood
        floor: Float[Array, " Q"]
        stood: Int[Array, " Q"]
        log: _Log

    def noise_of(state: State) -> Float[Array, " Q"]:
        return rounding * jnp.maximum(jnp.abs(state.energies), first_size)

    def residual_of(state: State) -> Float[Array, " Q"]:
        reach = jnp.where(state.steps > 0, jnp.max(state.long, axis=-1), state.trial)
        return _relative(reach * _norm(state.slopes), _norm(state.states))

    def arrived(state: State) -> Bool[Array, " Q"]:
        residual = residual_of(state)
        # the length of a trial says something about the curvature once a step was taken
        near = (residual <= tolerance) & ((state.steps > 0) | (residual == 0))
        flat = (state.stood >= 2 * _PATIENCE) & (state.floor - state.energies <= noise_of(state))
        return near | flat

    def active(state: State) -> Bool[Array, " Q"]:
        free = (state.steps < max_steps) & (state.failures < _HALVINGS)
        return free & jnp.isfinite(residual_of(state)) & ~arrived(state)

    def advance(state: State) -> State:
        tried = state.states - state.trial[:, None] * state.slopes
        energies, slopes = slope_of(tried)
        decrease = state.trial * jnp.sum(state.slopes**2, axis=-1)
        turned = -state.trial * jnp.sum(slopes * state.slopes, axis=-1)
        noise = noise_of(state)
        falls = energies <= state.energies - _ARMIJO * decrease
        level = (
            (energies <= state.energies + noise)
            & (turned <= (1 - 2 * _ARMIJO) * decrease)
            & (_ARMIJO * decrease <= noise)
        )
        goes = active(state)
        taken = goes & (falls | level) & jnp.isfinite(slopes).all(axis=-1)

        move, turn = tried - state.states, slopes - state.slopes
        curvature = jnp.sum(turn * move, axis=-1)
        convex = curvature > 0
        longest = jnp.where(convex, jnp.sum(move**2, axis=-1) / jnp.where(convex, curvature, 1), 2 * state.trial)
        square = jnp.where(convex, jnp.sum(turn**2, axis=-1), 1)
        shortest = jnp.where(convex, curvature / jnp.where(square > 0, square, 1), longest)
        short = jnp.where(taken[:, None], jnp.append(state.short[:, 1:], shortest[:, None], axis=1), state.short)
        long = jnp.where(taken[:, None], jnp.append(state.long[:, 1:], longest[:, None], axis=1), state.long)
        measured = jnp.where(shortest < 0.8 * longest, jnp.min(short, axis=-1), longest)
        following = jnp.where(adaptive, measured, step)
        trial = jnp.where(taken, following, jnp.where(goes, state.trial / 2, state.trial))

        states = jnp.where(taken[:, None], tried, state.states)
        energies = jnp.where(taken, energies, state.energies)
        slopes = jnp.where(taken[:, None], slopes, state.slopes)
        steps = state.steps + taken
        failures = jnp.where(taken, 0, state.failures + goes)
        steepness = _norm(slopes)
        falling = steepness < state.least
        least = jnp.where(falling, steepness, state.least)
        floor = jnp.where(falling, energies, state.floor)
        stood = jnp.where(falling, 0, state.stood + goes)
        log = state.log
        if record:
            log = log.add(jnp.where(taken, steps, record + 1), states, energies)
        return State(states, energies, slopes, trial, short, long, steps, failures, least, floor, stood, log)

    energies, slopes = slope_of(queries)
    first_size = jnp.abs(energies)
    zeros = jnp.zeros(len(queries), jnp.int32)
    trial = jnp.full(len(queries), jnp.where(adaptive, 1, step), queries.dtype)
    none = jnp.zeros((len(queries), _MEMORY), queries.dtype)
    log = _Log.start(queries, lambda: energies, record)
    start = State(
        queries, energies, slopes, trial, none + jnp.inf, none, zeros, zeros, _norm(slopes), energies, zeros, log
    )
    end = jax.lax.while_loop(lambda state: active(state).any(), advance, start)
    recorded = end.log.filled(end.steps, end.states, end.energies)
    return end.states, end.steps, residual_of(end), end.energies, arrived(end), *recorded
