r"""A fixed number of memories: novelty asks for a slot, and the memory that is worth least gives it up.

A datum that takes a new memory by the kernel's rule (the threshold of novelty is so the process's own predictive
probability of something new) takes an empty slot. If the memories are then more than M, the one of least weight under
the law of labels is dropped with its data: without fading the one of fewest data, with fading the one whose data are
worth least by now (recency and frequency in one number); of several alike the one not used for longest. The memory just
made is never the one. Whatever the stream, M memories and one empty slot are all that is held.
"""

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

if TYPE_CHECKING:
    from probam.inference.stream_kernel import StreamState

__all__ = ["weakest", "without"]


def weakest(state: "StreamState", log_weights: Float[Array, " K"], is_new: jax.Array) -> Bool[Array, " K"]:
    """Marks the memory that gives up its slot: least weight, then longest unused, never the newest if ``is_new``."""
    candidate = state.live & ~(is_new & (state.ident == state.created - 1))
    weight = jnp.where(candidate, log_weights, jnp.inf)
    least = candidate & (weight == jnp.min(weight))
    slot = jnp.argmax(jnp.where(least, state.ages, -1))
    return jnp.arange(state.num_slots) == slot


def without(state: "StreamState", gone: Bool[Array, " K"], base: Any) -> "StreamState":
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
