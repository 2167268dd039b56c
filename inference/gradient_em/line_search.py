r"""A step along a ray up a smooth function: never down, and near the top of the ray.

Weak Wolfe conditions by bracketing: the far end of the bracket is too high a step (it fails Armijo's condition or the
slope there has turned), the near end is always safe. New points are where the secant of the slopes is zero, kept off
the ends of the bracket.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ["Bracket", "climb", "is_open", "narrowed", "wide_bracket"]

_ARMIJO = 1e-4
"""Part of the rise that the slope at the start promises, which a step must reach."""

_CURVATURE = 0.1
"""A slope is flat when it is below this part of the one at the start: small, for conjugate directions."""

_MOST_TRIALS = 15
_MOST_GROWTH = 4.0


class Bracket(NamedTuple):
    """What a search knows so far."""

    near: jax.Array  # a step that keeps Armijo's condition, with slope upwards: zero to begin with
    slope_near: jax.Array
    far: jax.Array  # infinite until a step is seen to be too long
    slope_far: jax.Array
    best: jax.Array  # the step to take
    rise: jax.Array  # what it gains
    trial: jax.Array
    flat: jax.Array
    trials: jax.Array


def wide_bracket(slope: Float[Array, ""], first: Float[Array, ""]) -> Bracket:
    """What is known before the first step.

    Args:
        slope: at the start; where it is not upwards there is nothing to search.
        first: the first step to try.
    """
    zero, infinite = jnp.zeros_like(first), jnp.full_like(first, jnp.inf)
    return Bracket(zero, slope, infinite, zero, zero, zero, first, ~(slope > 0), jnp.zeros((), jnp.int32))


def is_open(bracket: Bracket) -> jax.Array:
    """Whether the search goes on, at ``bracket.trial``."""
    return ~bracket.flat & (bracket.trials < _MOST_TRIALS)


def narrowed(
    bracket: Bracket, slope: Float[Array, ""], rise: Float[Array, ""], tilt: Float[Array, ""], *, backtrack: bool
) -> Bracket:
    """What is known after a look at ``bracket.trial``.

    Args:
        bracket: what was known.
        slope: at the start.
        rise: from the start to the trial.
        tilt: slope at the trial.
        backtrack: see :func:`climb`.
    """
    step = bracket.trial
    sound = jnp.isfinite(rise) & jnp.isfinite(tilt)
    safe = sound & (rise >= _ARMIJO * step * slope)
    upward = safe & (tilt > 0)
    near = jnp.where(upward, step, bracket.near)
    slope_near = jnp.where(upward, tilt, bracket.slope_near)
    far = jnp.where(upward, bracket.far, step)
    slope_far = jnp.where(upward, bracket.slope_far, jnp.where(sound, tilt, jnp.nan))
    better = safe & (rise > bracket.rise)
    flat = safe if backtrack else safe & (jnp.abs(tilt) <= _CURVATURE * slope)
    bounded = jnp.isfinite(far)
    turned = bounded & (slope_far < 0)
    secant = jnp.where(turned, slope_near / jnp.where(turned, slope_near - slope_far, 1), 0.5)
    between = near + jnp.clip(secant, 0.1, 0.9) * jnp.where(bounded, far - near, 0)
    return Bracket(
        near,
        slope_near,
        far,
        slope_far,
        jnp.where(better, step, bracket.best),
        jnp.where(better, rise, bracket.rise),
        jnp.where(bounded, between, _MOST_GROWTH * step),
        flat,
        bracket.trials + 1,
    )


def climb(
    along: Callable[[Float[Array, ""]], tuple[Float[Array, ""], Float[Array, ""]]],
    first: Float[Array, ""],
    *,
    backtrack: bool = False,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Step and rise of a function whose value and slope at a step are ``along(step)``; zero where nothing rises.

    Args:
        along: value and derivative on the ray; the derivative at zero should be positive.
        first: the first step tried.
        backtrack: take the first step that keeps Armijo's condition (no step longer than ``first``).
    """
    value, slope = along(jnp.zeros_like(first))

    def attempt(bracket: Bracket) -> Bracket:
        here, tilt = along(bracket.trial)
        return narrowed(bracket, slope, here - value, tilt, backtrack=backtrack)

    end = jax.lax.while_loop(is_open, attempt, wide_bracket(slope, first))
    return end.best, end.rise
