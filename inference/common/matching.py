"""The numbers of the memories of starts.

A start numbers its memories in any order. Where it is known to which memories some rows may belong, the numbering
counts: memories are matched to labels so that these rows keep as much of their responsibilities as they can (the
assignment problem, solved for each start). Under stick-breaking and fixed weights it counts as well: there every order
of the same memories is another mode, and no step along a gradient leads from one to the other.
"""

import jax
import jax.numpy as jnp
import numpy as np
import scipy
from jaxtyping import Array, Float, Int

from probam.compiled import compiled_by_work
from probam.distributions.likelihood import shares
from probam.family import Model, Params
from probam.inference.common.rows import numbers_memories
from probam.placement import each

__all__ = ["in_likeliest_order", "matched", "numbered", "permute"]


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


@compiled_by_work(lambda _, params, x, __: (params, len(x)))
def _overlap(
    model: Model, params: Params, x: Float[Array, "N D"], weight: Float[Array, "N K"]
) -> Float[Array, "R K K"]:
    """Responsibility of each memory (columns) for the rows that may belong to a label (rows), of every start."""
    known = _known(weight)
    numbers = x.size * model.num_components
    return jnp.asarray(
        each(lambda params: known.T @ model.mixture(params).responsibilities(x), params, numbers=numbers)
    )


def in_likeliest_order(model: Model, params: Params, x: Float[Array, "N D"]) -> Params:
    """Site values of several starts, with the memories of each in the order that the prior of the weights prefers.

    The weights are then the likeliest ones for that order. What is known of the rows numbers the memories already.

    Args:
        model: the mixture.
        params: site values; leaves lead with the axis of the starts.
        x: rows in model units.
    """
    counts = jax.ShapeDtypeStruct((model.num_components,), x.dtype)
    if numbers_memories(model.row_weight) or not len(jax.eval_shape(model.weights.orders_by_size, counts)):
        return params
    return _reordered(model, params, x)


@compiled_by_work(lambda _, params, x: (params, len(x)))
def _reordered(model: Model, params: Params, x: Float[Array, "N D"]) -> Params:
    def one(params: Params) -> Params:
        _, responsibilities = shares(model.mixture(params).log_joint(x), model.row_weight)
        counts = jnp.sum(responsibilities, axis=0)
        order = model.weights.likeliest_order(counts, params)
        others = {name: value for name, value in params.items() if name not in model.prior}
        weights = model.weights.maximize(counts[order], others, likelihood_only=False)
        moved = permute(model, params, order) | weights
        is_new = jnp.any(order != jnp.arange(len(order)))
        return {name: jnp.where(is_new, moved[name], value) for name, value in params.items()}

    after: Params = each(one, params, numbers=x.size * model.num_components)
    return after


def permute(model: Model, params: Params, order: Int[Array, " K"]) -> Params:
    """The same parameters with memory ``order[j]`` in place j; the weights' sites are left as they are."""
    owned = set(model.prior) - model.family.shared
    return {name: value[order] if name in owned else value for name, value in params.items()}


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
    return np.stack([scipy.optimize.linear_sum_assignment(-each)[1] for each in np.asarray(overlap)])
