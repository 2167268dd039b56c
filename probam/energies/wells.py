r"""Sums of wells, \(\sum_k w_k \exp(-(v-\mu_k)^\top A_k (v-\mu_k))\), as matrix products.

Every energy of a distance is minus the log of such a sum. Rounding errors and overflow have to be avoided:

* with a common offset (memories at 1e6, say) the expanded square cancels, so queries and memories are first
  taken relative to the memories' mean;
* far away (a query at 1e8) all squared distances agree in every digit of a float, so the part that is common to all
  wells, the quadratic form of the least stiff one, is left out of the *logits*: it does not change a softmax;
* where squares would overflow (a query at 1e160) the logits are those nearer by on the same ray from the memories'
  mean, where the least stiff well in that direction already has the whole sum.

:func:`log_sum` adds the missing part back. It computes the term of one well per query, the leading one, directly from
``v - mu_k``. No array of shape (Q, K, D) is made.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

__all__ = [
    "diagonal_logits",
    "dot",
    "full_logits",
    "heights",
    "isotropic_logits",
    "log_shares",
    "log_sum",
    "mean_of",
    "quadratic_form",
    "shares",
    "weighted_mean",
]


def dot(left: Float[Array, "... I"], right: Float[Array, "I J"]) -> Float[Array, "... J"]:
    """Matrix product at the full precision of the dtype, on every device."""
    return jnp.matmul(left, right, precision="highest")


def mean_of(memories: Float[Array, "K D"]) -> Float[Array, " D"]:
    """The memories' mean, used as an origin: constant for derivatives, since no result depends on it."""
    return jax.lax.stop_gradient(jnp.mean(memories, axis=0))


def _within_range(
    query: Float[Array, "*batch D"], memories: Float[Array, "K D"], stiffness: Float[Array, "..."]
) -> Float[Array, "*batch D"]:
    """Queries whose squares would overflow, moved in along the ray from the origin; all others as they are.

    The limit is the cube root of the largest number, in units of the memories' extent plus the widest well.
    """
    extent = jax.lax.stop_gradient(jnp.max(jnp.abs(memories)) + jnp.min(stiffness) ** -0.5)
    limit = np.finfo(query.dtype).max ** (1 / 3) * extent
    size = jax.lax.stop_gradient(jnp.max(jnp.abs(query), axis=-1, keepdims=True))
    return query / jnp.maximum(size / limit, 1)


def quadratic_form(gap: Float[Array, "*batch D"], matrix: Float[Array, "*batch D D"]) -> Float[Array, "*batch"]:
    """g^T A g for a positive definite A: infinite where it overflows, never NaN."""
    limit = np.finfo(gap.dtype).max ** (1 / 3)
    stretch = jax.lax.stop_gradient(jnp.maximum(jnp.max(jnp.abs(gap), axis=-1) / limit, 1))
    gap = gap / stretch[..., None]
    return jnp.einsum("...d,...de,...e->...", gap, matrix, gap, precision="highest") * stretch * stretch


def isotropic_logits(
    query: Float[Array, "*batch D"],
    memories: Float[Array, "K D"],
    stiffness: Float[Array, " K"],
    log_weights: Float[Array, " K"],
    excess: Float[Array, " K"] | None = None,
) -> Float[Array, "*batch K"]:
    r"""Log terms of wells \(A_k = a_k I\), up to a function of the query alone.

    .. math:: \log w_k - a_k |\mu_k|^2 + 2 a_k \mu_k \cdot v - (a_k - a_{\min}) |v|^2

    Args:
        query, memories: coordinates relative to a common origin.
        stiffness: a.
        log_weights: log w.
        excess: \(a_k - a_{\min}\), to the accuracy that the caller can provide; None if all wells are equally stiff.
    """
    query = _within_range(query, memories, stiffness)
    logits = dot(query, (2 * stiffness[:, None] * memories).T)
    logits += log_weights - stiffness * jnp.sum(memories**2, axis=-1)
    if excess is None:
        return logits
    return logits - jnp.sum(query**2, axis=-1, keepdims=True) * excess


def diagonal_logits(
    query: Float[Array, "*batch D"],
    memories: Float[Array, "K D"],
    stiffness: Float[Array, "K D"],
    log_weights: Float[Array, " K"],
) -> Float[Array, "*batch K"]:
    """Log terms of wells with a diagonal stiffness, up to a function of the query alone.

    Query and memories are relative to a common origin.
    """
    softest = jnp.argmin(jnp.sum(stiffness, axis=-1))
    excess = stiffness - jax.lax.stop_gradient(stiffness[softest])
    query = _within_range(query, memories, stiffness)
    features = jnp.concatenate([query, query**2], axis=-1)
    coefficients = jnp.concatenate([2 * stiffness * memories, -excess], axis=-1)
    return dot(features, coefficients.T) + (log_weights - jnp.sum(stiffness * memories**2, axis=-1))


def full_logits(
    query: Float[Array, "*batch D"],
    memories: Float[Array, "K D"],
    stiffness: Float[Array, "K D D"],
    log_weights: Float[Array, " K"],
) -> Float[Array, "*batch K"]:
    """Log terms of wells with a symmetric stiffness matrix each, up to a function of the query alone.

    The quadratic form is linear in the D (D + 1) / 2 products of two coordinates, so it is one more matrix product.
    Query and memories are relative to a common origin.
    """
    softest = jnp.argmin(jnp.trace(stiffness, axis1=-2, axis2=-1))
    excess = stiffness - jax.lax.stop_gradient(stiffness[softest])
    row, column = jnp.triu_indices(query.shape[-1])
    twice = jnp.where(row == column, 1, 2).astype(query.dtype)
    query = _within_range(query, memories, jnp.diagonal(stiffness, axis1=-2, axis2=-1))
    pull = jnp.einsum("kde,ke->kd", stiffness, memories, precision="highest")
    features = jnp.concatenate([query, query[..., row] * query[..., column]], axis=-1)
    coefficients = jnp.concatenate([2 * pull, -twice * excess[:, row, column]], axis=-1)
    return dot(features, coefficients.T) + (log_weights - jnp.sum(pull * memories, axis=-1))


def heights(logits: Float[Array, "*batch K"]) -> Float[Array, "*batch K"]:
    """The wells' terms relative to the largest one: between 0 and 1, not normalised.

    All other results are computed from this array, so that a program with several of them computes it once.
    """
    return jnp.exp(logits - jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True)))


def shares(logits: Float[Array, "*batch K"]) -> Float[Array, "*batch K"]:
    """The softmax of the logits: the part of the sum that each well contributes."""
    height = heights(logits)
    return height / jnp.sum(height, axis=-1, keepdims=True)


def log_shares(logits: Float[Array, "*batch K"]) -> Float[Array, "*batch K"]:
    """Logs of the shares, finite where a share underflows."""
    top = jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
    return logits - top - jnp.log(jnp.sum(jnp.exp(logits - top), axis=-1, keepdims=True))


def weighted_mean(logits: Float[Array, "*batch K"], values: Float[Array, "K D"]) -> Float[Array, "*batch D"]:
    """Mean of the values, weighted by the shares."""
    height = heights(logits)
    return dot(height, values) / jnp.sum(height, axis=-1, keepdims=True)


def log_sum(
    logits: Float[Array, "*batch K"],
    log_term: Callable[[Int[Array, "*batch"]], Float[Array, "*batch"]],
) -> Float[Array, "*batch"]:
    """Log of the sum of the wells' terms, in nats.

    Args:
        logits: log terms, up to a function of the query that is common to all wells.
        log_term: returns the full log term of one well for each query, given the indices of the wells; it is called
            for the leading well only.
    """
    leading = jnp.argmax(logits, axis=-1)
    top = jnp.take_along_axis(logits, leading[..., None], axis=-1)[..., 0]
    lead = top - jax.lax.stop_gradient(top)  # zero, but its derivative is not
    return log_term(leading) - lead + jnp.log(jnp.sum(heights(logits), axis=-1))
