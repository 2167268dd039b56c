r"""Monotone ascent on the log joint density: conjugate gradients and the natural gradient.

Both need the exact gradient of the log joint, which Fisher's identity makes the gradient of Q at the responsibilities
of the same point, and both search along a ray that never leads down.

*Conjugate gradients* (expectation-conjugate-gradient: Salakhutdinov, Roweis & Ghahramani 2003, ICML). Directions by
Polak and Ribiere, restarted where they would not ascend. Where memories overlap, and EM creeps, these are far faster.

*Natural gradient.* The gradient is divided by the information that *complete* data (assignments and all) hold,

.. math::
    I_c = -\nabla^2_\theta \, Q(\theta \mid r), \qquad
    \theta \leftarrow \theta + t \, I_c^{-1} \nabla \log p(x, \theta)

with t = 1 tried first (Titterington 1984; Lange 1995, who shows that this is EM to first order). EM itself is such a
step: for Gaussian memories :math:`\theta_{EM} - \theta = P(\theta) \nabla L` with P the inverse of that information
(Xu & Jordan 1996), and in the mean parameters of an exponential family a unit natural step *is* the M-step. For a
parameter in which the family is canonical (the logit of a bit, a location) :math:`I_c` is Fisher's information itself.
Memories do not interact in Q, so :math:`I_c` is one block for each memory and one for the weights with what memories
share; the blocks between are left out, and eigenvalues are made positive.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from probam.family import Model, Params
from probam.inference.common.coordinates import Coordinates
from probam.inference.common.information import complete_information, positions
from probam.inference.gradient_em.line_search import climb
from probam.inference.gradient_em.units import ScaledCoordinates
from probam.placement import each

__all__ = ["Ascent", "Ray", "advance", "begin", "conjugate_ray", "moved"]

_LEAST_EIGENVALUE = 1e-8
"""Of a block of the information, as a part of its largest."""


class Ascent(NamedTuple):
    """The state of one run: its position, and the memory of conjugate gradients."""

    z: Float[Array, " P"]
    gradient: Float[Array, " P"]
    direction: Float[Array, " P"]
    step: Float[Array, ""]  # of the last search, times its slope: what the next one starts from
    objective: Float[Array, ""]  # log joint at z


class Ray(NamedTuple):
    """Where to search for the next position."""

    direction: Float[Array, " P"]
    slope: Float[Array, ""]
    first: Float[Array, ""]
    """The first step to try."""


def conjugate_ray(climber: Ascent, gradient: Float[Array, " P"]) -> Ray:
    """The next direction of conjugate gradients, by Polak and Ribiere.

    Args:
        climber: the run.
        gradient: at its position.
    """
    squared = jnp.sum(climber.gradient**2)
    kept = jnp.sum(gradient * (gradient - climber.gradient)) / jnp.where(squared > 0, squared, 1)
    conjugate = gradient + jnp.where(squared > 0, jnp.maximum(kept, 0), 0) * climber.direction
    direction = jnp.where(jnp.sum(conjugate * gradient) > 0, conjugate, gradient)
    slope = jnp.sum(direction * gradient)
    steep = jnp.where(slope > 0, slope, 1)
    first = jnp.where(climber.step > 0, climber.step / steep, jax.lax.rsqrt(steep))
    return Ray(direction, slope, first)


def moved(
    climber: Ascent,
    value: Float[Array, ""],
    gradient: Float[Array, " P"],
    ray: Ray,
    length: Float[Array, ""],
) -> Ascent:
    """The run after a step of this length; where nothing rose the next direction is the steepest.

    Args:
        climber: the run.
        value: at its position.
        gradient: there.
        ray: that was searched.
        length: of the step, zero where nothing rose.
    """
    place = jnp.where(length > 0, climber.z + length * ray.direction, climber.z)
    fresh = jnp.where(length > 0, ray.direction, 0)
    return Ascent(place, gradient, fresh, length * ray.slope, value)


def _divided(information: Float[Array, "*batch M M"], gradient: Float[Array, "*batch M"]) -> Float[Array, "*batch M"]:
    """The gradient over the information, whose eigenvalues are made positive."""
    values, vectors = jnp.linalg.eigh(information)
    values = jnp.abs(values)
    values = jnp.maximum(values, _LEAST_EIGENVALUE * jnp.max(values, axis=-1, keepdims=True))
    along = jnp.einsum("...ij,...i->...j", vectors, gradient) / values
    return jnp.einsum("...ij,...j->...i", vectors, along)


def natural_direction(
    coordinates: Coordinates, z: Float[Array, " P"], gradient: Float[Array, " P"], x: Float[Array, "N D"]
) -> Float[Array, " P"]:
    """The gradient divided by the complete-data information."""
    own, rest = positions(coordinates)
    memories, others = complete_information(coordinates, z, x)
    direction = jnp.zeros_like(z)
    if own.shape[1]:
        direction = direction.at[own].set(_divided(memories, gradient[own]))
    if len(rest):
        direction = direction.at[rest].set(_divided(others, gradient[rest]))
    return direction


@jax.jit
def begin(model: Model, walk: Params) -> Ascent:
    """States before the first step (leaves lead with the restart axis)."""
    z = jax.vmap(Coordinates(model).flatten)(walk)
    nothing = jnp.zeros_like(z)
    return Ascent(z, nothing, nothing, jnp.zeros_like(z[:, 0]), jnp.full_like(z[:, 0], -jnp.inf))


@partial(jax.jit, static_argnames=("optimiser", "num_steps"))
def advance(
    model: Model, units: Params, climbers: Ascent, x: Float[Array, "N D"], *, optimiser: str, num_steps: int
) -> tuple[Ascent, Float[Array, "R I"]]:
    """``num_steps`` steps of every run by ``"ecg"`` or ``"natural"``; the log joint before each (nats).

    Args:
        model: the mixture.
        units: of the coordinates, see :mod:`probam.inference.gradient_em.units`.
        climbers: where the runs are, in coordinates divided by the units.
        x: data in units of the model.
        optimiser: how directions are chosen.
        num_steps: steps of each run.
    """
    coordinates = ScaledCoordinates(model, units)

    def log_joint(z: jax.Array) -> jax.Array:
        return coordinates.log_joint(coordinates.unflatten(z), x)

    def move(climber: Ascent, _: None) -> tuple[Ascent, jax.Array]:
        value, gradient = jax.value_and_grad(log_joint)(climber.z)
        if optimiser == "natural":
            direction = natural_direction(coordinates, climber.z, gradient, x)
            ray = Ray(direction, jnp.sum(direction * gradient), jnp.ones_like(value))
        else:
            ray = conjugate_ray(climber, gradient)

        def along(length: jax.Array) -> tuple[jax.Array, jax.Array]:
            return jax.jvp(
                lambda length: log_joint(climber.z + length * ray.direction), (length,), (jnp.ones_like(length),)
            )

        length = climb(along, ray.first, backtrack=optimiser == "natural")[0]
        return moved(climber, value, gradient, ray, length), value

    return each(
        lambda climber: jax.lax.scan(move, climber, None, length=num_steps),
        climbers,
        numbers=x.size * model.num_components,
    )
