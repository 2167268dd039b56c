r"""The two energies of the Energy Transformer's tokens g: attention to each other, and recall of memories.

.. math::
    E_{\rm att}(g) = -\frac{1}{\beta} \sum_{h, C} \log \sum_{B \ne C} \exp(\beta\, K_{hB} \cdot Q_{hC}),
    \qquad K_{hB} = W^K_h g_B, \quad Q_{hC} = W^Q_h g_C \\

    E_{\rm HN}(g) = -\frac12 \sum_{\mu, C} \max(\xi_\mu \cdot g_C, 0)^2

Hoover et al. (2023), arXiv:2302.07253. Every token is both a query and a key.
:mod:`probam.energies.energy_transformer` has the whole block.

Tokens have shape (..., N, D) with N >= 2, key and query weights (H, Y, D), memories (M, D). Bad
shapes and beta <= 0 raise :class:`probam.errors.InputError`.
"""

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from probam.energies.arguments import Scalar, points, positive
from probam.energies.wells import dot
from probam.errors import InputError

__all__ = ["attention", "attention_energy", "hopfield_energy"]


def attention_energy(
    tokens: Float[ArrayLike, "*batch N D"],
    key_weights: Float[ArrayLike, "H Y D"],
    query_weights: Float[ArrayLike, "H Y D"],
    beta: Scalar,
) -> Float[Array, "*batch"]:
    r"""Energy of a sequence, \(-\beta^{-1} \sum_{h, C} \log \sum_{B \ne C} \exp(\beta\, K_{hB} \cdot Q_{hC})\).

    Args:
        tokens: sequences of N >= 2 tokens.
        key_weights, query_weights: one matrix (Y, D) for each of the H heads.
        beta: inverse temperature, above 0.

    Raises:
        InputError: for shapes that do not fit and beta <= 0.
    """
    logits, beta = _logits(tokens, key_weights, query_weights, beta)
    return -jnp.sum(logsumexp(logits, axis=-1), axis=(-2, -1)) / beta


def attention(
    tokens: Float[ArrayLike, "*batch N D"],
    key_weights: Float[ArrayLike, "H Y D"],
    query_weights: Float[ArrayLike, "H Y D"],
    beta: Scalar,
) -> Float[Array, "*batch H N N"]:
    r"""Attention weights [h, C, B] of the keys B for the query C: softmax over B != C, zero on the diagonal.

    Arguments and errors are those of :func:`attention_energy`.
    """
    return jax.nn.softmax(_logits(tokens, key_weights, query_weights, beta)[0], axis=-1)


def hopfield_energy(
    tokens: Float[ArrayLike, "*batch N D"], memories: Float[ArrayLike, "M D"]
) -> Float[Array, "*batch"]:
    r"""Energy of the memories, \(-\frac12 \sum_{\mu, C} \max(\xi_\mu \cdot g_C, 0)^2\); zero without memories.

    Raises:
        InputError: for memories of another width than the tokens.
    """
    tokens, memories = points(tokens, memories, empty=True)
    return -0.5 * jnp.sum(jax.nn.relu(dot(tokens, memories.T)) ** 2, axis=(-2, -1))


def _logits(
    tokens: Float[ArrayLike, "*batch N D"],
    key_weights: Float[ArrayLike, "H Y D"],
    query_weights: Float[ArrayLike, "H Y D"],
    beta: Scalar,
) -> tuple[Float[Array, "*batch H N N"], Float[Array, ""]]:
    """Scores beta K_B . Q_C at [h, C, B], -inf on the diagonal, and beta."""
    g, keys, queries = (jnp.asarray(value) for value in (tokens, key_weights, query_weights))
    dtype = jnp.result_type(g, keys, queries, float)
    if g.ndim < 2 or g.shape[-2] < 2:
        raise InputError(f"tokens: expected shape (..., N, D) with at least two tokens; got {g.shape}")
    for name, weights in (("key_weights", keys), ("query_weights", queries)):
        if weights.ndim != 3 or weights.shape[-1] != g.shape[-1] or weights.shape != keys.shape:
            raise InputError(
                f"{name}: expected shape (H, Y, {g.shape[-1]}), the same for keys and queries; got {weights.shape}"
            )
    g, keys, queries = g.astype(dtype), keys.astype(dtype), queries.astype(dtype)
    beta = positive("beta", beta, dtype)
    made = [jnp.einsum("hyd,...nd->...hny", weights, g, precision="highest") for weights in (keys, queries)]
    scores = jnp.einsum("...hby,...hcy->...hcb", *made, precision="highest")
    itself = jnp.eye(g.shape[-2], dtype=bool)
    return jnp.where(itself, -jnp.inf, beta * scores), beta
