r"""The attention energy of the Energy Transformer, in which every token is both a query and a key.

.. math::
    E(g) = -\frac{1}{\beta} \sum_{h, C} \log \sum_{B \ne C} \exp(\beta\, K_{hB} \cdot Q_{hC}),
    \qquad K_{hB} = W^K_h g_B, \quad Q_{hC} = W^Q_h g_C

Hoover et al. (2023), arXiv:2302.07253. The tokens are the outputs g of layers x with a Lagrangian (in the paper,
:class:`probam.energies.lagrangians.LayerNorm`). The layers follow \(\tau \dot x = -\nabla_g E\), so that
\(\dot E = -\tau\, \dot x^\top \nabla^2 L\, \dot x\).

Tokens have shape (..., N, D) with N >= 2, key and query weights (H, Y, D). Bad shapes and beta <= 0 raise
:class:`probam.errors.InputError`.
"""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from probam.energies.arguments import Scalar, positive
from probam.energies.lagrangians import Lagrangian, LayerNorm
from probam.energies.memory import TOKENS, Card, Memory
from probam.errors import InputError
from probam.pytrees import pytree

__all__ = ["EnergyTransformer", "attention", "attention_energy", "velocity"]


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


def velocity(
    states: Float[ArrayLike, "*batch N D"],
    lagrangian: Lagrangian,
    key_weights: Float[ArrayLike, "H Y D"],
    query_weights: Float[ArrayLike, "H Y D"],
    beta: Scalar,
    tau: Scalar = 1.0,
) -> Float[Array, "*batch N D"]:
    r"""Rate of change of the layers under the tokens, \(\dot x = -\tau^{-1} \nabla_g E\) at \(g = \nabla L(x)\).

    The gradient has two terms for each token: one as a query, and one as a key of all others.

    Args:
        states: the layers x.
        lagrangian: the Lagrangian L of a layer.
        key_weights, query_weights, beta: as for :func:`attention_energy`.
        tau: time constant, above 0.
    """
    tokens = lagrangian.activation(states)
    slope: Array = jax.grad(lambda g: jnp.sum(attention_energy(g, key_weights, query_weights, beta)))(tokens)
    return -slope / positive("tau", tau, tokens.dtype)


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


@pytree
@dataclass(frozen=True, eq=False)
class EnergyTransformer(Memory):
    r"""A sequence of tokens that are each other's memories.

    Each token is pulled to the tokens that it resembles, by attention whose weights are learned. Use it to make a
    sequence consistent; the patterns are in the weights, not stored one by one.

    .. math:: x \leftarrow x - a\, \nabla_g E(g), \qquad g = \nabla L(x), \qquad
        E(g) = -\frac{1}{\beta} \sum_{h, C} \log \sum_{B \ne C} \exp(\beta\, K_{hB} \cdot Q_{hC})

    >>> from probam.dynamics.memories import recall
    >>> weights = jnp.eye(3)[None]
    >>> memory = EnergyTransformer(weights, weights, beta=1.0, num_tokens=2)
    >>> tokens = jnp.array([[1.0, 0.0, 0.2], [0.8, 0.1, 0.0]])
    >>> recalled = recall(memory, tokens, max_steps=200)
    >>> round(recalled.energy.item(), 2)  # the tokens agree: each looks at the other with a product of 3
    -6.0
    """

    key_weights: Float[ArrayLike, "H Y D"]
    query_weights: Float[ArrayLike, "H Y D"]
    beta: Scalar
    num_tokens: int = field(metadata={"static": True})
    lagrangian: Lagrangian = field(default_factory=LayerNorm)
    step: Scalar = 0.1

    card = Card(
        "energy_transformer",
        TOKENS,
        "-(1/beta) sum_(h, C) log sum_(B != C) exp(beta K_hB . Q_hC)",
        "a step down the gradient in the layer's outputs",
        "not known in closed form",
        "Hoover et al. (2023), arXiv:2302.07253",
    )
    falls = False
    no_store = "its patterns are in learned weights: build EnergyTransformer(key_weights, query_weights, ...) in Python"

    @property
    def shape(self) -> tuple[int, ...]:
        """Tokens and their coordinates."""
        return self.num_tokens, jnp.shape(self.key_weights)[-1]

    def energy(self, states: Float[ArrayLike, "*batch N D"]) -> Float[Array, "*batch"]:
        """:func:`attention_energy` of the outputs of the layers."""
        tokens = self.lagrangian.activation(states)
        return attention_energy(tokens, self.key_weights, self.query_weights, self.beta)

    def update(self, states: Float[ArrayLike, "*batch N D"]) -> Float[Array, "*batch N D"]:
        """A step of the layers along :func:`velocity`."""
        rate = velocity(states, self.lagrangian, self.key_weights, self.query_weights, self.beta)
        return jnp.asarray(states) + self.step * rate
