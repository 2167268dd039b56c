"""Roots in one variable by brackets: where a slope changes sign, and where an increasing function reaches a level.

:func:`crossing` uses the rule of Chandrupatla (1997, Advances in Engineering Software 28, 145-149): inverse quadratic
interpolation where three points lie on a curve that it fits, bisection elsewhere.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

__all__ = ["crossing", "turning_point"]


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


class _Bracket(NamedTuple):
    """Points with values below 0 and of at least 0."""

    low: Float[Array, "*batch"]
    high: Float[Array, "*batch"]
    at_low: Float[Array, "*batch"]
    at_high: Float[Array, "*batch"]

    def cut(
        self, point: Float[Array, "*batch"], value: Float[Array, "*batch"], here: Bool[Array, "*batch"]
    ) -> "_Bracket":
        """The part on that side of a point where the sign changes, of the elements ``here``."""
        below = here & (value < 0)
        above = here & (value >= 0)
        return _Bracket(
            jnp.where(below, point, self.low),
            jnp.where(above, point, self.high),
            jnp.where(below, value, self.at_low),
            jnp.where(above, value, self.at_high),
        )


def crossing(
    increasing: Callable[[Float[Array, "*batch"]], Float[Array, "*batch"]],
    level: Float[Array, "*batch"],
    low: Float[Array, "*batch"],
    high: Float[Array, "*batch"],
    *,
    resolution: float = 0.0,
) -> Float[Array, "*batch"]:
    """The least point at which an increasing function has at least the value ``level``, elementwise.

    It lies below the result by at most ``resolution`` or a few roundings of the ends of the bracket, whichever is more.
    Where no number has a lesser value or none a value as large, it is infinite.

    >>> round(float(crossing(jnp.exp, jnp.asarray(2.0), jnp.asarray(-1.0), jnp.asarray(0.0))), 5)
    0.69315

    Args:
        increasing: elementwise function of the points; it may have steps.
        level: the values to reach.
        low, high: where to look first, low < high; the bracket is widened until it holds the point.
        resolution: how near is near enough.
    """
    bracket = _widened(lambda point: increasing(point) - level, low, high)
    found = (bracket.at_low < 0) & (bracket.at_high >= 0)
    point = _narrowed(lambda point: increasing(point) - level, bracket, found, resolution)
    return jnp.where(found, point, jnp.where(bracket.at_low >= 0, -jnp.inf, jnp.inf))


def _widened(
    function: Callable[[jax.Array], jax.Array], low: Float[Array, "*batch"], high: Float[Array, "*batch"]
) -> _Bracket:
    """A bracket of the sign change, twice as wide at each step; the old end becomes the other one."""
    most = float(np.finfo(low.dtype).max) / 4

    def is_open(carry: tuple[_Bracket, jax.Array]) -> jax.Array:
        bracket, step = carry
        return jnp.any(((bracket.at_low >= 0) | (bracket.at_high < 0)) & (step < most))

    def wider(carry: tuple[_Bracket, jax.Array]) -> tuple[_Bracket, jax.Array]:
        bracket, step = carry
        left, right = bracket.at_low >= 0, bracket.at_high < 0
        low, high = (
            jnp.where(left, bracket.low - step, bracket.low),
            jnp.where(right, bracket.high + step, bracket.high),
        )
        at_low, at_high = (
            jnp.where(left, function(low), bracket.at_low),
            jnp.where(right, function(high), bracket.at_high),
        )
        return _Bracket(low, high, at_low, at_high), 2 * step

    start = _Bracket(low, high, function(low), function(high))
    bracket: _Bracket = jax.lax.while_loop(is_open, wider, (start, high - low))[0]
    return bracket


def _narrowed(
    function: Callable[[jax.Array], jax.Array], bracket: _Bracket, found: Bool[Array, "*batch"], resolution: float
) -> Float[Array, "*batch"]:
    """The upper end of a bracket after it was narrowed by Chandrupatla's rule."""
    size = jnp.maximum(jnp.abs(bracket.low), jnp.abs(bracket.high))
    near = jnp.maximum(resolution, 4 * float(np.finfo(size.dtype).eps) * size)

    def is_wide(carry: tuple[_Bracket, jax.Array]) -> jax.Array:
        return jnp.any(found & (carry[0].high - carry[0].low > near))

    def narrower(carry: tuple[_Bracket, jax.Array]) -> tuple[_Bracket, jax.Array]:
        bracket, share = carry
        width = bracket.high - bracket.low
        point = bracket.low + share * width
        value = function(point)
        after = bracket.cut(point, value, found & (width > near))
        dropped = jnp.where(value < 0, bracket.low, bracket.high)
        at_dropped = jnp.where(value < 0, bracket.at_low, bracket.at_high)
        margin = 0.5 * near / jnp.maximum(after.high - after.low, near)
        return after, jnp.clip(_interpolated(after, dropped, at_dropped), margin, 1 - margin)

    narrowed: tuple[_Bracket, jax.Array] = jax.lax.while_loop(is_wide, narrower, (bracket, jnp.full_like(size, 0.5)))
    return narrowed[0].high


def _interpolated(
    bracket: _Bracket, third: Float[Array, "*batch"], at_third: Float[Array, "*batch"]
) -> Float[Array, "*batch"]:
    """Where in a bracket (0 to 1) the inverse parabola through its ends and a third point is 0, else its middle."""
    low, high, at_low, at_high = bracket
    newest_is_low = third < low
    near, far = jnp.where(newest_is_low, low, high), jnp.where(newest_is_low, high, low)
    at_near, at_far = jnp.where(newest_is_low, at_low, at_high), jnp.where(newest_is_low, at_high, at_low)
    xi, phi = (near - far) / (third - far), (at_near - at_far) / (at_third - at_far)
    fits = (phi**2 < xi) & ((1 - phi) ** 2 < 1 - xi)
    share = at_near / (at_far - at_near) * at_third / (at_far - at_third)
    share = share + (third - near) / (far - near) * at_near / (at_third - at_near) * at_far / (at_third - at_far)
    share = jnp.where(newest_is_low, share, 1 - share)
    return jnp.where(fits & jnp.isfinite(share), share, 0.5)
