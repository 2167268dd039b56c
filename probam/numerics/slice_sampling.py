r"""Slice sampling of many independent one-dimensional densities at once.

Neal (2003, Annals of Statistics 31, 705): draw a height below the density at the present point, step out to an interval
with a limit that is divided at random between both sides (his Figure 3), then shrink it towards the present point
(Figure 5). Each update leaves its density invariant for any width; the width affects only the cost.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ["slice_update"]

_EXPANSIONS = 40
"""Largest length of an interval, in widths."""

_SHRINKS = 100
"""Largest number of proposals; after so many reductions the interval is one point, and the point does not move."""


def slice_update(
    key: jax.Array,
    log_density: Callable[[Float[Array, "*n"]], Float[Array, "*n"]],
    position: Float[Array, "*n"],
    width: Float[Array, "*#n"],
) -> Float[Array, "*n"]:
    """One slice update of each element of ``position``.

    Args:
        key: PRNG key.
        log_density: log density (nats, up to a constant) of each element at its position; elements are independent.
            NaN counts as zero density.
        position: present points, where the density is positive.
        width: initial estimate of the size of the slice, above 0.
    """
    key_height, key_left, key_share, key_shrink = jax.random.split(key, 4)
    shape, dtype = position.shape, position.dtype
    height = log_density(position) - jax.random.exponential(key_height, shape, dtype)

    def inside(points: jax.Array) -> jax.Array:
        return log_density(points) > height  # False for NaN

    left = position - width * jax.random.uniform(key_left, shape, dtype)
    to_left = jax.random.randint(key_share, shape, 0, _EXPANSIONS)
    ends = jnp.stack([left, left + width])
    width = jnp.broadcast_to(width, shape)
    steps = jnp.stack([-width, width])
    remaining = jnp.stack([to_left, _EXPANSIONS - 1 - to_left])

    # one loop for both ends, since each call of log_density adds a copy of its program
    def grow(state: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        ends, remaining, growing = state
        growing = growing & (remaining > 0) & jax.vmap(inside)(ends)
        return jnp.where(growing, ends + steps, ends), remaining - growing, growing

    start = (ends, remaining, jnp.ones(ends.shape, bool))
    left, right = jax.lax.while_loop(lambda state: jnp.any(state[2]), grow, start)[0]

    def pending(state: Any) -> jax.Array:
        return jnp.asarray(jnp.any(~state[3]) & (state[4] < _SHRINKS))

    def propose(state: Any) -> Any:
        left, right, accepted, done, attempt = state
        uniform = jax.random.uniform(jax.random.fold_in(key_shrink, attempt), shape, dtype)
        point = left + uniform * (right - left)
        hit = inside(point)
        accepted = jnp.where(hit & ~done, point, accepted)
        left = jnp.where(~hit & (point < position), point, left)
        right = jnp.where(~hit & (point >= position), point, right)
        return left, right, accepted, done | hit, attempt + 1

    initial = (left, right, position, jnp.zeros(shape, bool), jnp.zeros((), jnp.uint32))
    return jnp.asarray(jax.lax.while_loop(pending, propose, initial)[2])
