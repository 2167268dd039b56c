"""The climb: all restarts up the evidence bound, in windows of steps, until each has converged."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from probam.compiled import compiled_by_size, is_small
from probam.family import Model, Params
from probam.inference.common.blocks import RowBlocks
from probam.inference.common.coordinates import Coordinates
from probam.inference.common.progress import Reporter, highest_of
from probam.inference.gradient_em.warm import Start
from probam.inference.svi.batch import Batch, draw_batch, minibatches
from probam.inference.svi.guides import Frame, Guide
from probam.inference.svi.start import Restarts
from probam.inference.svi.steps import adam_step, natural_step, posterior
from probam.placement import each

__all__ = ["RATES", "Climb", "Climbed", "climb"]

_WINDOW = 100
"""Steps over which the bound is averaged."""

_CUTS = 3
"""How often the step is cut, to a quarter each time, before a restart has converged."""

_STEPS: dict[str, Callable[..., Any]] = {"adam": adam_step, "natural": natural_step}

RATES = {"adam": 0.05, "natural": 0.2}
"""First step size of each optimiser, where none is asked for."""


@dataclass(frozen=True)
class Climb:
    """How the restarts climb."""

    guide: Guide
    optimiser: str
    num_steps: int  # at most
    learning_rate: float  # first step size
    least_rise: float  # nats over a window, below which the step is cut
    batch_size: int  # rows of a step
    num_particles: int  # draws per estimate of the bound


class Climbed(NamedTuple):
    """Where every restart ended; leaves lead with the restart axis."""

    frames: Frame
    params: Params
    trace: Float[np.ndarray, "R I"]  # of the bound, nats; NaN once a restart had converged
    converged: Bool[np.ndarray, " R"]
    stopped: bool  # by a progress callback


class _Pace(NamedTuple):
    """How often the step of each restart has been cut, and why."""

    cuts: Int[np.ndarray, " R"]
    hurried: Bool[np.ndarray, " R"]  # whether a step was cut because few windows were left
    bound: Float[np.ndarray, " R"]  # mean over the last window, nats

    @classmethod
    def first(cls, restarts: int) -> "_Pace":
        return cls(np.zeros(restarts, int), np.zeros(restarts, bool), np.full(restarts, -np.inf))

    @property
    def going(self) -> Bool[np.ndarray, " R"]:
        return self.cuts <= _CUTS

    def with_windows_left(self, windows: int) -> "_Pace":
        """The last windows are for small steps in any case."""
        due = min(_CUTS, _CUTS + 1 - windows)
        return self._replace(cuts=np.maximum(self.cuts, due), hurried=self.hurried | (self.cuts < due))

    def after(self, window: Float[np.ndarray, "R I"], least_rise: float) -> "_Pace":
        """A window that rises by no more than ``least_rise`` nats over the one before cuts the step."""
        mean = window.astype(np.float64).mean(axis=1)
        level = self.going & (mean - self.bound <= least_rise)
        return self._replace(cuts=self.cuts + level, bound=np.where(self.going, mean, self.bound))


def climb(
    key: jax.Array, start: Start, restarts: Restarts, how: Climb, progress: Reporter, blocks: RowBlocks | None = None
) -> Climbed:
    """Where every restart ends, converged or after ``how.num_steps`` steps.

    Args:
        key: for minibatches and draws.
        start: model and data.
        restarts: the guides where they begin.
        blocks: all rows, where the data are a sample of them: minibatches are then drawn from all rows.
    """
    window = max(1, min(_WINDOW, how.num_steps // 10))
    num_windows = max(1, how.num_steps // window)
    num_data = None if blocks is None else jax.device_put(start.x.dtype.type(blocks.total_weight))
    states = (restarts.params, restarts.moments if how.optimiser == "adam" else ())
    pace = _Pace.first(len(start))
    traces: list[np.ndarray] = []
    phase, begin = progress.phase("SVI"), 0
    before = phase.resumed((states, pace))
    if before is not None:
        (states, pace), traces = before.state, [before.kept["bound"]]
        begin = num_windows if before.ended else before.done
    highest, windows = highest_of(pace.bound), range(begin, num_windows)
    drawn = None if blocks is None else minibatches(key, blocks, windows, window, how.batch_size)
    for index in windows:
        pace = pace.with_windows_left(num_windows - index)
        states, bound = _advance(
            start.model,
            how.guide,
            restarts.frames,
            states,
            jax.device_put((how.learning_rate * 0.25**pace.cuts).astype(start.x.dtype)),
            jax.device_put(pace.going),
            key,
            np.uint32(index),
            num_data,
            start.x if drawn is None else jax.device_put(next(drawn)),
            optimiser=how.optimiser,
            num_steps=window,
            batch_size=how.batch_size,
            num_particles=how.num_particles,
        )
        traces.append(np.asarray(bound))
        pace = pace.after(traces[-1], how.least_rise)
        highest = highest_of(pace.bound)
        ended = not pace.going.any() or index + 1 == num_windows
        phase.save(index + 1, (states, pace), [{"bound": trace} for trace in traces], ended=ended)
        progress((index + 1) * window, how.num_steps, "SVI", elbo=highest)
        if not pace.going.any() or progress.stopped:
            break
    progress(how.num_steps, how.num_steps, "SVI", elbo=highest)
    trace, converged = np.concatenate(traces, axis=1), ~pace.going & ~pace.hurried
    return Climbed(restarts.frames, states[0], trace, converged, progress.stopped)


@compiled_by_size(
    lambda model, *others, **_: is_small(others[-1], model.num_components),
    often=True,
    static_argnames=("guide", "optimiser", "num_steps", "batch_size", "num_particles"),
)
def _advance(
    model: Model,
    guide: Guide,
    frames: Frame,
    states: tuple[Params, Any],
    rates: Float[Array, " R"],
    going: Bool[Array, " R"],
    key: jax.Array,
    window: np.uint32 | jax.Array,
    num_data: jax.Array | None,
    x: Float[Array, "*rows D"],
    *,
    optimiser: str,
    num_steps: int,
    batch_size: int,
    num_particles: int,
) -> tuple[tuple[Params, Any], Float[Array, "R I"]]:
    """``num_steps`` steps of every restart that is still going, on the same minibatches; the bound at each (nats).

    A step to numbers that are not finite is not taken. ``window`` is how many such calls were before. ``x`` is all data
    (N, D), or the minibatches of all steps (I, B, D), of ``num_data`` data.
    """
    coordinates, take, key = Coordinates(model), _STEPS[optimiser], jax.random.fold_in(key, window)

    def one(restart: tuple[Frame, tuple[Params, Any], jax.Array]) -> tuple[tuple[Params, Any], jax.Array]:
        frame, state, rate = restart

        def step(
            state: tuple[Params, Any], given: tuple[jax.Array, jax.Array | None]
        ) -> tuple[tuple[Params, Any], jax.Array]:
            key_rows, key_draw = jax.random.split(given[0])
            if num_data is None or given[1] is None:
                batch = draw_batch(key_rows, model, x, batch_size)
            else:
                batch = Batch(given[1], None, num_data / batch_size, num_data)
            *moved, bound = take(
                guide,
                *state,
                key_draw,
                posterior(coordinates, frame, batch),
                rate,
                num_particles=num_particles,
            )
            sums = jax.tree.map(lambda leaf: jnp.sum(leaf.astype(x.dtype)), moved)
            finite = jnp.isfinite(bound + jax.tree.reduce(jnp.add, sums))
            return jax.tree.map(lambda new, old: jnp.where(finite, new, old), tuple(moved), state), bound

        return jax.lax.scan(step, state, (jax.random.split(key, num_steps), None if num_data is None else x))

    def rest(restart: tuple[Frame, tuple[Params, Any], jax.Array]) -> tuple[tuple[Params, Any], jax.Array]:
        return restart[1], jnp.full(num_steps, jnp.nan, x.dtype)

    return each(
        lambda item: jax.lax.cond(item[1], one, rest, item[0]),
        ((frames, states, rates), going),
        numbers=num_particles * batch_size * x.shape[-1] * model.num_components,
    )
