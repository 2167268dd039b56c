"""Water filling: amounts proportional to given pulls, none below a floor.

The minimum of a convex energy with terms ``-g_i log c_i`` over ``c_i >= floor`` with a given sum has this form. The
updates of :mod:`probam.energies.composition` and :mod:`probam.energies.counts` are such minima.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ["fill"]


def fill(
    pull: Float[Array, "*batch D"], total: Float[Array, "*batch"], floor: Float[Array, "*#batch"]
) -> Float[Array, "*batch D"]:
    r"""The \(c_i = \max(\text{floor}, a\, g_i)\) whose sum is ``total``, for pulls g of at least 0.

    As in the projection onto a simplex, the m largest pulls are above the floor, for the largest m at which the
    smallest of them is: this needs one sort and no iteration. Where no pull is above 0, the first coordinate gets what
    the floors leave.

    >>> fill(jnp.array([1.0, 3.0]), jnp.asarray(1.0), jnp.asarray(0.375)).tolist()
    [0.375, 0.625]

    Args:
        pull: g, at least 0.
        total: the sum of the result, at least D times the floor.
        floor: the smallest amount.
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
