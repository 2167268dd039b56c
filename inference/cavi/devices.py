"""CAVI in memory on several devices: each brings the labels of its own rows to their best, the first adds the sums.

A pass over one batch is the pass of :func:`probam.inference.cavi.steps.one_pass`, to rounding: all that labels tell the
other factors is a sum over the rows.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from probam.inference.cavi.steps import (
    Data,
    Parts,
    State,
    Totals,
    View,
    counted_last,
    labels_of,
    ordered,
    refined,
)
from probam.placement import devices_worth

__all__ = ["OnDevices", "advance_on_devices", "spread_over"]

_ASK = 8
"""Passes after which it is asked whether a run has stopped: devices wait for the question."""


class OnDevices:
    """The rows of one batch, a share on each device, where they stay.

    Args:
        parts: the mean field.
        data: the rows, in one batch.
        devices: over which they are spread.
    """

    def __init__(self, parts: Parts, data: Data, devices: list[jax.Device]) -> None:
        self.numbered = data.valid.ndim == 4
        self.constant = jax.device_put(data.constant, devices[0])
        cut: Any = partial(np.array_split, indices_or_sections=len(devices), axis=1)
        rows, valid = (np.asarray(leaf)[0] for leaf in (data.rows, data.valid))  # (G, R, F), (G, R, ...)
        self._shares = [
            jax.device_put((parts, data._replace(rows=own[None], valid=counts[None])), device)
            for own, counts, device in zip(cut(rows), cut(valid), devices, strict=True)
        ]
        self._devices = devices

    def labels(self, view: View) -> list[Totals]:
        """What the labels of every device's rows come to at their best, on the first device.

        Args:
            view: the other factors.
        """
        totals = [
            _labels(parts, data, jax.device_put(view, device))
            for (parts, data), device in zip(self._shares, self._devices, strict=True)
        ]
        moved: list[Totals] = jax.device_put(totals, self._devices[0])
        return moved


def spread_over(parts: Parts, data: Data, states: State) -> OnDevices | None:
    """The rows on several devices; None where there is one, where a pass is too short, or has several batches.

    Args:
        parts: the mean field.
        data: the rows.
        states: of the runs to come, whose shapes count.
    """
    num_components, num_statistics = states.seen.sums.shape[-2:]
    devices = devices_worth(int(np.prod(data.rows.shape[:3])) * num_components * num_statistics)
    return None if len(devices) == 1 or len(data.rows) > 1 else OnDevices(parts, data, devices)


def advance_on_devices(
    parts: Parts, spread: OnDevices, states: State, rise: Float[Array, ""], num_passes: int
) -> tuple[State, Float[np.ndarray, "R T"]]:
    """At most ``num_passes`` passes of every run, fewer once one rises by less than ``rise``; the bound at each.

    Args:
        parts: the mean field.
        spread: the rows.
        states: of all runs; leaves lead with their axis.
        rise: nats.
        num_passes: how many. The bound of a pass that was not made is NaN.
    """
    device = jax.local_devices()[0]
    parts, rise = jax.device_put((parts, rise), device)
    after: list[Any] = []
    traces = np.full((len(states.bound), num_passes), np.nan, states.bound.dtype)
    for run in range(len(states.bound)):
        state: State = jax.device_put(jax.tree.map(lambda leaf, run=run: np.asarray(leaf)[run], states), device)
        bounds: list[jax.Array] = []
        for number in range(0 if bool(states.done[run]) else num_passes):
            following = _refined(parts, spread.constant, state)
            state, bound = _passed(parts, rise, state, following, spread.labels(following.view), spread.numbered)
            bounds.append(bound)
            if number % _ASK == _ASK - 1 and bool(state.done):
                break
        after.append(state)
        traces[run, : len(bounds)] = bounds
    # by way of the host: what stays on one device cannot enter a program of several
    return jax.tree.map(lambda *leaves: jax.device_put(np.stack(leaves)), *after), traces


@jax.jit
def _labels(parts: Parts, data: Data, view: View) -> Totals:
    return labels_of(parts, data, data.rows[0], data.valid[0], view)


@jax.jit
def _refined(parts: Parts, constant: Float[Array, ""], state: State) -> State:
    return refined(parts, constant, state, counted_last(state))


@partial(jax.jit, static_argnames="numbered")
def _passed(
    parts: Parts, rise: Float[Array, ""], before: State, state: State, totals: list[Totals], numbered: bool
) -> tuple[State, Float[Array, ""]]:
    """The state at the end of a pass, and its bound; a run that has stopped stays as it is."""
    whole = jax.tree.map(lambda *leaves: sum(leaves)[None], *totals)
    after = ordered(parts, state._replace(by_batch=whole), numbered=numbered)
    after = after._replace(done=~before.fresh & ~(after.bound - before.bound > rise))
    kept: State = jax.tree.map(lambda old, new: jnp.where(before.done, old, new), before, after)
    return kept, jnp.where(before.done, jnp.nan, after.bound)
