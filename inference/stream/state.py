r"""The state of a stream, and how the number of memories is bounded: the memory of least weight gives up its slot.

A datum that takes a new memory by the kernel's rule takes an empty slot: the threshold of novelty is the process's own
predictive probability of something new. If the memories are then more than M, the one of least weight under
the law of labels is dropped with its data: without fading the one with the fewest data, with fading the one whose data
have the least present weight (recency and frequency in one number). Of several with the same weight the one goes that
was not used for longest. A memory that was just made is never dropped. So a stream never stores more than M memories
and one empty slot.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt

from probam.inference.stream.hyper import Hyper

__all__ = ["StreamState", "weakest", "without"]


class StreamState(NamedTuple):
    """Everything that the next datum needs. Empty slots have ``ident`` -1, zero totals and the base measure's row.

    ``totals`` holds the count and the sum of statistics of each memory; ``low`` what rounding took from them, so that
    float32 sums stay right to the last digit however long the stream. The states of P particles lead with that axis.
    """

    totals: Float[Array, "K S"]
    low: Float[Array, "K S"]
    known: Any  # rows of stream_predictive.prepare, or of a motion
    ident: Int[Array, " K"]  # number of the memory in order of creation
    born: Int[Array, " K"]  # datum that created it
    last: Int[Array, " K"]  # datum that used it last
    size: Int[Array, ""]  # memories alive
    created: Int[Array, ""]  # memories ever created
    seen: UInt[Array, ""]  # data so far: the number of the next one
    key: jax.Array
    traces: Any = ()  # (K, M) of a law whose counts fade
    hyper: Hyper | tuple[()] = ()  # of a process that is learned

    @property
    def counts(self) -> Float[Array, "*P K"]:
        """Data of each memory."""
        return self.totals[..., 0]

    @property
    def sums(self) -> Float[Array, "*P K F"]:
        """Sums of statistics of each memory."""
        return self.totals[..., 1:]

    @property
    def live(self) -> Bool[Array, "*P K"]:
        """Slots that hold a memory."""
        return self.ident >= 0

    @property
    def num_slots(self) -> int:
        """Room for memories."""
        return len(self.ident)

    @property
    def num_seen(self) -> UInt[Array, ""]:
        """Data so far."""
        return self.seen

    @property
    def ages(self) -> Int[Array, " K"]:
        """Data since a memory was last used; of empty slots, anything."""
        return self.seen.astype(jnp.int32) - self.last


def weakest(state: StreamState, log_weights: Float[Array, " K"], is_new: jax.Array) -> Bool[Array, " K"]:
    """Marks the memory that gives up its slot: least weight, then longest unused, never the newest if ``is_new``."""
    candidate = state.live & ~(is_new & (state.ident == state.created - 1))
    weight = jnp.where(candidate, log_weights, jnp.inf)
    least = candidate & (weight == jnp.min(weight))
    slot = jnp.argmax(jnp.where(least, state.ages, -1))
    return jnp.arange(state.num_slots) == slot


def without(state: StreamState, gone: Bool[Array, " K"], base: Any) -> StreamState:
    """The slots marked ``gone`` made empty; ``base`` holds one row of ``known`` of an empty slot."""

    def clear(rows: jax.Array, row: jax.Array) -> jax.Array:
        return jnp.where(gone.reshape(-1, *(1,) * (rows.ndim - 1)), row, rows)

    nothing = jnp.zeros_like(state.totals[:1])
    return state._replace(
        totals=clear(state.totals, nothing),
        low=clear(state.low, nothing),
        known=jax.tree.map(clear, state.known, base),
        traces=jax.tree.map(lambda rows: clear(rows, jnp.zeros_like(rows[:1])), state.traces),
        ident=jnp.where(gone, -1, state.ident),
        born=jnp.where(gone, -1, state.born),
        last=jnp.where(gone, -1, state.last),
        size=state.size - jnp.sum(gone, dtype=state.size.dtype),
    )
