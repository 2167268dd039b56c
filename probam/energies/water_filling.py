"""Water filling: shares in proportion to given pulls, none below a floor.

Where the pieces of a convex energy are ``-g_i log c_i``, its minimum over ``c_i >= floor`` with a given sum has this
form; the updates of :mod:`probam.energies.composition` and :mod:`probam.energies.counts` are such minima.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ["fill"]


def fill(
    pull: Float[Array, "*batch D"], total: Float[Array, "*batch"], floor: Float[Array, "*#batch"]
) -> Float[Array, "*batch D"]:
    r"""The \(c_i = \max(\text{floor}, a\, g_i)\) whose sum is ``total``, for pulls g of at least 0.

    The m strongest pulls stand above the floor for the largest m at which the weakest of them does, as in the
    projection on a simplex: one sort, no iteration. ``total`` is at least D floors. Where no pull is above 0, the
    first coordinate takes what the floors leave.
    """
    dim = pull.shape[-1]
    floor, total = floor[..., None], total[..., None]
    first = jnp.arange(dim) == 0
    pull = jnp.where(jnp.all(pull <= 0, axis=-1, keepdims=True), first.astype(pull.dtype), jnp.maximum(pull, 0))
    pull = pull / jnp.max(pull, axis=-1, keepdims=True)
    ordered = -jnp.sort(-pull, axis=-1)
    height = (total - (dim - jnp.arange(1, dim + 1)) * floor) / jnp.cumsum(ordered, axis=-1)  # a, for each m
    stands = height * ordered > floor
    above = jnp.maximum(jnp.sum(stands, axis=-1, keepdims=True), 1)
    return jnp.maximum(floor, jnp.take_along_axis(height, above - 1, axis=-1) * pull)
