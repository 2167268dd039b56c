"""EM steps over rows in parts, each of which is summed by itself: the M-step sees the sum of all.

Parts are on several devices, where they stay (:class:`OnDevices`), or blocks of data larger than memory, which are read
again at each pass (:class:`InBlocks`).
"""

from abc import ABC, abstractmethod
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from probam.errors import InputError
from probam.family import Model, Moments, Params
from probam.family.capabilities import AdditiveMStep, MStep
from probam.inference.common.blocks import RowBlocks, summed
from probam.inference.common.coordinates import Coordinates
from probam.inference.common.progress import Reporter, silent
from probam.inference.common.rows import Rows
from probam.inference.em.steps import EMState, Settings, expectation, judged, kept_statistics, maximization

__all__ = ["InBlocks", "OnDevices", "Parts", "advance_in_parts", "check_sums"]

_ASK = 8
"""Iterations on several devices after which it is asked whether a run has stopped: devices wait for the question."""

_expectation = jax.jit(expectation)
_kept_statistics = jax.jit(kept_statistics)

Sums = tuple[Moments, jax.Array]
"""Sums of a part's statistics, and its log likelihood (nats)."""


class Parts(ABC):
    """Rows in parts."""

    ask: int
    """Iterations after which it is asked whether a run has stopped."""

    @abstractmethod
    def sums(self, params: Params) -> list[Sums]:
        """The sums of every part, or of all together, on the first device."""


class OnDevices(Parts):
    """Each device sums over its own rows while the others sum over theirs.

    Args:
        model: the mixture.
        rows: those of each device.
        origin: (D,) point that statistics are relative to.
    """

    ask = _ASK

    def __init__(self, model: Model, rows: list[Rows], origin: Float[Array, " D"]) -> None:
        self._rows = rows
        self._devices = [next(iter(part.x.devices())) for part in rows]
        self._copies = [jax.device_put((model, origin), device) for device in self._devices]
        self._origin = self._copies[0][1]
        self._kept = [
            _kept_statistics(own, part.x, zero, part.weight)
            for part, (own, zero) in zip(rows, self._copies, strict=True)
        ]

    def sums(self, params: Params) -> list[Sums]:
        """As in :class:`Parts`."""
        parts = []
        for part, (model, origin), device, kept in zip(
            self._rows, self._copies, self._devices, self._kept, strict=True
        ):
            there = params if device == self._devices[0] else jax.device_put(params, device)
            parts.append(_expectation(model, there, part.x, origin, part.weight, kept))
        others = [(moments._replace(origin=self._origin), part) for moments, part in parts[1:]]
        moved: list[Sums] = jax.device_put(others, self._devices[0])  # the origin is there
        return [parts[0], *moved]


class InBlocks(Parts):
    """Blocks of rows that are read again at each pass; their sums are in double precision, and the M-step with them.

    Args:
        model: the mixture.
        blocks: the rows.
        origin: (D,) point that statistics are relative to.
        progress: told after each block.
    """

    ask = 1

    def __init__(
        self, model: Model, blocks: RowBlocks, origin: Float[Array, " D"], progress: Reporter = silent
    ) -> None:
        self._model, self._blocks, self._origin, self._progress = model, blocks, origin, progress
        self._width = model.num_components * _num_statistics(model, origin)
        self.passes = 0
        """Those that were made, before a cut too."""

    def sums(self, params: Params) -> list[Sums]:
        """As in :class:`Parts`."""
        self.passes += 1
        text = f"EM, pass {self.passes} over {self._blocks.num_data:,} rows"
        shared = (self._model, params, self._origin)
        moments, log_likelihood = summed(
            _of_block, shared, self._blocks, width=self._width, progress=self._progress, text=text
        )
        one: Sums = jax.device_put((moments._replace(origin=self._origin), log_likelihood))
        return [one]


@jax.jit
def _of_block(
    shared: tuple[Model, Params, jax.Array], x: Float[Array, "B D"], weight: Float[Array, " B"]
) -> tuple[Moments, jax.Array]:
    model, params, origin = shared
    return expectation(model, params, x, origin, weight)


def _num_statistics(model: Model, origin: jax.Array) -> int:
    shape = jax.ShapeDtypeStruct((1, len(origin)), origin.dtype)
    size: int = jax.eval_shape(AdditiveMStep.of(model.family).statistics, shape).shape[-1]
    return size


def check_sums(model: Model) -> None:
    """Raise :class:`probam.errors.InputError` for a family whose M-step is no function of sums over the rows."""
    m_step = MStep.ask(model.family)
    if m_step and not isinstance(m_step, AdditiveMStep):
        raise InputError(
            f"engine: the M-step of family {model.family.name!r} is no function of sums over rows, so that engine 'em' "
            "cannot go through rows in blocks; give it more memory (memory=, --memory), or use engine 'gradient_em' or "
            "'svi'"
        )


@partial(jax.jit, static_argnames=("settings",))
def _ascend(
    model: Model, state: EMState, parts: list[Sums], tolerance: jax.Array, *, settings: Settings
) -> tuple[EMState, jax.Array]:
    """One M-step from the sums of every part."""
    counts = sum(moments.counts for moments, _ in parts)
    sums = sum(moments.sums for moments, _ in parts)
    log_likelihood = sum(part for _, part in parts)
    params, objective = maximization(
        model,
        Coordinates(model),
        state.params,
        Moments(jnp.asarray(counts), jnp.asarray(sums), parts[0][0].origin),
        jnp.asarray(log_likelihood),
        settings,
    )
    return judged(state, params, objective, tolerance, settings)


def advance_in_parts(
    model: Model, states: EMState, parts: Parts, tolerance: jax.Array, *, settings: Settings, num_steps: int
) -> tuple[EMState, np.ndarray]:
    """``num_steps`` EM steps of every restart; the objective before each, NaN once a restart has stopped.

    Args:
        model: the mixture.
        states: of all restarts; leaves lead with their axis.
        parts: the rows.
        tolerance: nats.
        settings: of the steps.
        num_steps: how many.
    """
    device = jax.local_devices()[0]
    model = jax.device_put(model, device)
    num_runs = len(states.objective)
    after: list[EMState] = []
    traces = np.full((num_runs, num_steps), np.nan, states.objective.dtype)
    for run in range(num_runs):
        state: EMState = jax.device_put(jax.tree.map(lambda leaf, run=run: np.asarray(leaf)[run], states), device)
        objectives: list[jax.Array] = []
        for step in range(0 if bool(states.done[run]) else num_steps):
            state, objective = _ascend(model, state, parts.sums(state.params), tolerance, settings=settings)
            objectives.append(objective)
            if step % parts.ask == parts.ask - 1 and bool(state.done):
                break
        after.append(state)
        traces[run, : len(objectives)] = objectives
    # by way of the host: what stays on one device cannot enter a program of several
    return jax.tree.map(lambda *leaves: jax.device_put(np.stack(leaves)), *after), traces
