"""The memories of a stream: sizes, current weights and locations, and a test of their sizes against the process."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float, Int

from probam.compiled import compiled_quickly
from probam.conjugacy.pairs import ConjugatePair
from probam.data.standardise import Standardiser
from probam.distributions.growth import tail_of
from probam.errors import InputError
from probam.inference.stream.decay import FadingPitmanYor
from probam.inference.stream.drift import Place
from probam.inference.stream.kernel import Kernel, log_seats, present
from probam.inference.stream.predictive import locations
from probam.inference.stream.state import StreamState

__all__ = ["memory_locations", "memory_table", "memory_weights", "slots_by_size", "tail_warnings"]

_SURE = 0.01
"""Level of the test of a Dirichlet process against a longer tail."""


def slots_by_size(state: StreamState) -> Int[np.ndarray, " L"]:
    """Slots that hold memories, most data first; older ones first among equals."""
    ident, counts = np.asarray(state.ident), np.asarray(state.totals)[..., 0]
    live = np.flatnonzero(ident >= 0)
    return live[np.lexsort((ident[live], -counts[live]))]


def memory_weights(kernel: Kernel, state: StreamState) -> Float[np.ndarray, " K"]:
    """Probability of each slot's memory before the next datum is seen."""
    log_weights = np.asarray(_log_weights(kernel, state))
    return np.where(np.asarray(state.ident) >= 0, np.exp(log_weights), 0)


@compiled_quickly()
def _log_weights(kernel: Kernel, state: StreamState) -> Float[Array, " K"]:
    return log_seats(kernel, state, jnp.zeros_like(state.live))


@compiled_quickly()
def _locations(pair: ConjugatePair, counts: Float[Array, " K"], sums: Float[Array, "K F"]) -> Array | None:
    return locations(pair, counts, sums)


def memory_locations(kernel: Kernel, state: StreamState) -> Float[np.ndarray, "K D"] | None:
    """Posterior mean of each memory for the next datum; None for a pair that has no location."""
    if kernel.motion is None:
        means = _locations(kernel.pair, state.counts, state.sums)
        return None if means is None else np.asarray(means)
    rows = present(kernel, state)
    if isinstance(rows, Place):
        pair: Any = kernel.pair
        off = rows.mean if pair.basis is None else jnp.linalg.solve(pair.basis[0], rows.mean.T).T
        return np.asarray(pair.loc + off)
    means = locations(*kernel.motion.as_pair(kernel.pair, rows))
    return None if means is None else np.asarray(means)


def memory_table(kernel: Kernel, state: StreamState, units: Standardiser, columns: tuple[str, ...]) -> pd.DataFrame:
    """The memories, largest first: count, weight, birth, last use and, if they have one, mean in data units.

    A feature called as one of the former, ``weight`` for example, is ``mean_weight``.
    """
    slots = slots_by_size(state)
    frame = pd.DataFrame(
        {
            "count": np.asarray(state.totals)[slots, 0],
            "weight": memory_weights(kernel, state)[slots],
            "born": np.asarray(state.born)[slots],
            "last": np.asarray(state.last)[slots],
        },
        index=pd.Index(np.asarray(state.ident)[slots], name="memory"),
    )
    means = memory_locations(kernel, state)
    if means is None:
        return frame
    titles = [f"mean_{column}" if column in frame else column for column in columns]
    located = pd.DataFrame(units.invert(means[slots]), columns=titles, index=frame.index)
    return pd.concat([frame, located], axis=1)


def tail_warnings(kernel: Kernel, state: StreamState, discount: float) -> list[str]:
    """A sentence if the sizes of the memories contradict the Dirichlet process that the stream assumes.

    There is none if the process has a ``discount``, or if memories fade or are dropped.
    """
    if discount > 0 or kernel.slots is not None or isinstance(kernel.law, FadingPitmanYor):
        return []
    counts = np.asarray(state.counts)[np.asarray(state.live)]
    try:
        tail = tail_of(np.round(counts))
    except InputError:  # too few to say anything
        return []
    if not tail.p_value < _SURE:
        return []
    return [
        f"discount: the sizes of the {len(counts)} memories fall off as a power law, which a Dirichlet process does "
        f"not make (p = {tail.p_value:.1g}); discount={tail.discount:.2f} (standard error {tail.discount_se:.2f}) with "
        f"alpha={tail.alpha:.3g} fits them best, and learn_discount=True learns it"
    ]
