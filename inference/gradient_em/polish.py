r"""The last digits of an end: Newton steps, which need slopes only.

A line search compares heights, and near a maximum they are equal to rounding within the root of the rounding of the
position: conjugate gradients end some 1e-8 of a spread beside it, in a direction that depends on the units. Newton's
step

.. math:: z \leftarrow z + (-\nabla^2 L)^{-1} \nabla L

by conjugate gradients on products of the Hessian with a vector ends where the slope itself is rounding. It is taken
only where the slope falls and the height does not.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from probam.family import Model, Params
from probam.inference.gradient_em.units import ScaledCoordinates

__all__ = ["FLAT", "PRODUCTS", "ROUNDING", "STEPS", "polished"]

FLAT = 1e-3
"""Nats per datum that the slope may promise where a search has converged; more, and it only walks slowly."""

STEPS = 3
"""Newton's, at most."""

PRODUCTS = 200
"""Most products of the Hessian with a vector for a step."""

ROUNDING = 64
"""Rounding errors of the height by which a step may lower it."""


@jax.jit
def polished(model: Model, units: Params, params: Params, x: Float[Array, "N D"]) -> Params:
    """Site values at the maximum beside these, if Newton's steps lead there; else the same values.

    Args:
        model: the mixture.
        units: of the coordinates, see :mod:`probam.inference.gradient_em.units`.
        params: site values where a search ended.
        x: data in units of the model.
    """
    coordinates = ScaledCoordinates(model, units)

    def log_joint(z: jax.Array) -> jax.Array:
        return coordinates.log_joint(coordinates.unflatten(z), x)

    def step(z: jax.Array, _: None) -> tuple[jax.Array, None]:
        height, slope = jax.value_and_grad(log_joint)(z)
        _, product = jax.linearize(jax.grad(log_joint), z)
        direction, _ = jax.scipy.sparse.linalg.cg(lambda v: -product(v), slope, tol=1e-6, maxiter=PRODUCTS)
        there = z + direction
        new_height, new_slope = jax.value_and_grad(log_joint)(there)
        rounding = ROUNDING * np.finfo(z.dtype).eps * jnp.abs(height)
        better = (jnp.linalg.norm(new_slope) < jnp.linalg.norm(slope)) & (new_height >= height - rounding)
        return jnp.where(better, there, z), None

    start = coordinates.flatten(coordinates.unconstrain(params))
    end = jax.lax.scan(step, start, None, length=STEPS)[0]
    sites = coordinates.constrain(coordinates.unflatten(end))
    moved = jnp.any(end != start)
    return {name: jnp.where(moved, sites[name], value) for name, value in params.items()}
