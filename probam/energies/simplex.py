"""Steps of distributions over memories: points of the simplex that climb an evidence lower bound.

A share of zero stays zero: a face of the simplex is never left.
"""

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from probam.energies.arguments import Scalar, is_traced
from probam.energies.wells import shares
from probam.errors import InputError

__all__ = ["free_energy", "inside", "toward"]


def free_energy(
    q: Float[Array, "*batch K"], heights: Float[Array, "*#batch K"], log_w: Float[Array, " K"], beta: Float[Array, ""]
) -> Float[Array, "*batch"]:
    """Mean height under the shares q, and their divergence from the weights over beta; a share of 0 adds nothing."""
    some = q > 0
    logs = jnp.log(jnp.where(some, q, 1)) - jnp.where(some, log_w, 0)
    return jnp.sum(jnp.where(some, q * (heights + logs / beta), 0), axis=-1)


def toward(
    q: Float[Array, "*batch K"], log_target: Float[Array, "*#batch K"], rate: Scalar
) -> Float[Array, "*batch K"]:
    """Shares whose logs are moved towards those of a target by a rate in (0, 1]."""
    if not is_traced(rate) and not 0 < float(np.asarray(rate)) <= 1:
        raise InputError(f"rate: expected a number above 0 and at most 1; got {rate}")
    some = q > 0
    return shares(jnp.where(some, (1 - rate) * jnp.log(jnp.where(some, q, 1)) + rate * log_target, -jnp.inf))


def inside(q: Float[ArrayLike, "*batch K"]) -> Float[Array, "*batch K"]:
    """The point without negative parts, scaled to the sum 1."""
    parts = jnp.maximum(jnp.asarray(q), 0)
    return parts / jnp.sum(parts, axis=-1, keepdims=True)
