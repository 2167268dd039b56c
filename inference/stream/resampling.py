r"""Resampling of weighted particles: which go on, how often, and with what weight.

*Systematic* (Carpenter, Clifford and Fearnhead 1999): one uniform number for all; a particle of weight w has floor or
ceil of P w children, P w in the mean, all of equal weight.

*Optimal* (Fearnhead and Clifford 2003; Fearnhead 2004), for states that are discrete: of all children that the
particles can have, more than P, those of weight at least c are kept with their weights, and of the others just so many
that there are P, each with probability w / c and then with weight c, where

.. math:: \sum_i \min(1, w_i / c) = P.

Each weight keeps its mean, and of all such rules this one has the least variance of the weights. No child is there
twice.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

__all__ = ["RESAMPLINGS", "optimal", "systematic"]

RESAMPLINGS = ("systematic", "optimal")


def systematic(uniform: jax.Array, log_weights: Float[Array, " P"]) -> Int[Array, " P"]:
    """Parents of P particles of equal weight: particle p has floor or ceil(P w_p) children, P w_p in the mean."""
    return _places(uniform, jnp.exp(log_weights), jnp.asarray(len(log_weights)), len(log_weights))


def _places(uniform: jax.Array, mass: Float[Array, " N"], num: jax.Array, most: int) -> Int[Array, " most"]:
    """Indices at ``num`` even steps of the cumulative mass, the first at a share ``uniform`` of one; then anything."""
    cumulative = jnp.cumsum(mass)
    steps = (jnp.arange(most) + uniform) / num * cumulative[-1]
    return jnp.minimum(jnp.searchsorted(cumulative, steps, side="right"), len(mass) - 1)


def optimal(
    uniform: jax.Array, log_weights: Float[Array, " N"], num: int
) -> tuple[Int[Array, " P"], Float[Array, " P"]]:
    """Which ``num`` of N >= num weighted children go on, and their log weights.

    Where fewer than ``num`` have any weight all of these go on, and the places that are left have none (-inf).
    """
    weights = jnp.exp(log_weights)
    largest, order = jax.lax.top_k(weights, num)
    beyond = jnp.sum(weights.at[order].set(0))
    rest = beyond + jnp.cumsum(largest[::-1])[::-1]  # all but the first 0, 1, ..., num - 1
    level = rest / jnp.arange(num, 0, -1)
    num_kept = jnp.argmax(largest <= level)  # the first that leaves none above the level
    places = jnp.arange(num)
    is_kept = places < num_kept
    others = weights.at[order].set(jnp.where(is_kept, 0, largest))
    drawn = _places(uniform, others, num - num_kept, num)
    drawn = jnp.where(others[drawn] > 0, drawn, jnp.argmax(others))
    index = jnp.where(is_kept, order, drawn[jnp.maximum(places - num_kept, 0)])
    return index, jnp.where(is_kept, log_weights[order], jnp.log(level[num_kept]))
