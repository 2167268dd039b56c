"""Bisection for the point where a slope changes sign, such as the mode of a density of one variable."""

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
    """The point between ``low`` and ``high`` where ``is_rising`` changes from true to false, elementwise.

    The number of bisections is that of the bits of the dtype plus four. If there are several such points, the result
    is one of them; if there is none, it is ``high`` (always rising) or ``low`` (never rising).

    >>> round(float(turning_point(lambda x: x**2 < 2, jnp.asarray(0.0), jnp.asarray(2.0))), 5)
    1.41421

    Args:
        is_rising: elementwise function of the points.
        low, high: the bracket, of one shape and dtype.
    """

    def halve(_: jax.Array, bracket: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bracket
        middle = 0.5 * (low + high)
        up = is_rising(middle)
        return jnp.where(up, middle, low), jnp.where(up, high, middle)

    low, high = jax.lax.fori_loop(0, int(np.finfo(low.dtype).nmant) + 4, halve, (low, high))
    return 0.5 * (low + high)
