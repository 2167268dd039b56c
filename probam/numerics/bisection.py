"""The place where a slope changes sign: the maximum of a density of one variable, found without its curvature."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

__all__ = ["turning_point"]


def turning_point(
    is_rising: Callable[[Float[Array, "*batch"]], Bool[Array, "*batch"]],
    low: Float[Array, "*batch"],
    high: Float[Array, "*batch"],
) -> Float[Array, "*batch"]:
    """Where ``is_rising`` turns from true to false between ``low`` and ``high``, elementwise, by bisection.

    Halves the bracket once for every bit of the dtype and a few more. Where there are several such places it finds
    one of them; where there is none it ends at the side that the answers point to.

    >>> round(float(turning_point(lambda x: x**2 < 2, jnp.asarray(0.0), jnp.asarray(2.0))), 5)
    1.41421
    """

    def halve(_: int, bracket: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bracket
        middle = 0.5 * (low + high)
        up = is_rising(middle)
        return jnp.where(up, middle, low), jnp.where(up, high, middle)

    low, high = jax.lax.fori_loop(0, int(np.finfo(low.dtype).nmant) + 4, halve, (low, high))
    return 0.5 * (low + high)
