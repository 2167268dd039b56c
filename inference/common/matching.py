"""Starts whose memories are numbered as the known labels have them.

A start numbers its memories in any order. Where it is known to which memories some rows may belong, the numbering
counts: memories are matched to labels so that these rows keep as much of their responsibilities as they can (the
assignment problem, solved for each start).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy.optimize import linear_sum_assignment

from probam.family import Model, Params

__all__ = ["matched", "numbered"]


def matched(model: Model, params: Params, x: Float[Array, "N D"], weight: jax.Array | np.ndarray | None) -> Params:
    """Site values of several starts, with the memories of each numbered to fit what is known of the rows.

    Args:
        model: the mixture.
        params: site values; leaves lead with the axis of the starts.
        x: rows in model units.
        weight: how often each row counts; only an (N, K) array says which memories a row may belong to.
    """
    if weight is None or weight.ndim == 1:
        return params
    owned = set(model.prior) - model.family.shared
    order = jnp.asarray(_best_order(_overlap(model, params, x, jnp.asarray(weight))))
    return {
        name: jax.vmap(lambda leaf, which: leaf[which])(value, order) if name in owned else value
        for name, value in params.items()
    }


@jax.jit
def _overlap(
    model: Model, params: Params, x: Float[Array, "N D"], weight: Float[Array, "N K"]
) -> Float[Array, "R K K"]:
    """Responsibility of each memory (columns) for the rows that may belong to a label (rows), of every start."""
    known = _known(weight)
    return jnp.asarray(jax.lax.map(lambda params: known.T @ model.mixture(params).responsibilities(x), params))


def numbered(assignment: Float[Array, "R M K"], weight: Float[Array, "R M K"]) -> Float[Array, "R M K"]:
    """First assignments of several runs with the memories numbered to fit what is known, and kept to it.

    A row whose memory it cannot belong to is shared among those that it can.

    Args:
        assignment: how much of each row each memory has.
        weight: how often each row counts, 0 for memories that it cannot belong to.
    """
    order = jnp.asarray(_best_order(jnp.einsum("rmk,rmj->rkj", _known(weight), assignment)))
    kept = jnp.take_along_axis(assignment, order[:, None, :], axis=2) * (weight > 0)
    shared = jnp.max(weight, axis=2, keepdims=True) * weight / jnp.sum(weight, axis=2, keepdims=True)
    return jnp.where(jnp.any(kept > 0, axis=2, keepdims=True), kept, shared)


def _known(weight: Float[Array, "*R N K"]) -> Float[Array, "*R N K"]:
    """Equal shares among the memories that a row may belong to; nothing for rows that may belong to any."""
    tells = jnp.any(weight == 0, axis=-1, keepdims=True)
    return jnp.where(tells, weight / jnp.sum(weight, axis=-1, keepdims=True), 0)


def _best_order(overlap: Float[Array, "R K K"]) -> Int[np.ndarray, "R K"]:
    """The memory that gets each number, so that what labels (rows) and memories (columns) share is largest."""
    return np.stack([linear_sum_assignment(-each)[1] for each in np.asarray(overlap)])
