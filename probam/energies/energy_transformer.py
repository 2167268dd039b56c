r"""The Energy Transformer: a sequence of tokens that attend to each other and recall memories, in one energy.

.. math::
    E(g) = E_{\rm att}(g) - \frac12 \sum_{\mu, C} \max(\xi_\mu \cdot g_C, 0)^2, \qquad g_C = \nabla L(x_C), \qquad
    \tau \dot x = -\nabla_g E

Hoover et al. (2023), arXiv:2302.07253. \(E_{\rm att}\) is the energy of :mod:`probam.energies.token_energies`; the
second term is a Hopfield network, whose force \(\Xi^\top \max(\Xi g, 0)\) is a layer of a transformer with tied
weights. L is the Lagrangian of layer normalisation, :class:`probam.energies.lagrangians.LayerNorm`.

In continuous time E falls, \(\dot E = -\tau\, \dot x^\top \nabla^2 L\, \dot x\), as L is convex. In steps of length a:

- E is concave in each token alone: both terms are, since no token is its own key. A step of one token therefore never
  raises E, however long it is: \(\Delta E \le \nabla_g E \cdot \Delta g = -\Delta x \cdot \Delta g / a \le 0\).
- A step of all tokens at once may raise E, but not where
  \(a \le \sqrt\epsilon / (\gamma \sqrt{N - 1} \sum_h |W_h^{K\top} W^Q_h|)\), by the largest singular values.
"""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from probam.energies.arguments import Scalar, is_traced, positive
from probam.energies.lagrangians import Lagrangian, LayerNorm
from probam.energies.memory import TOKENS, Card, Memory
from probam.energies.token_energies import attention_energy, hopfield_energy
from probam.pytrees import pytree

__all__ = ["EnergyTransformer", "velocity"]


def velocity(
    states: Float[ArrayLike, "*batch N D"],
    lagrangian: Lagrangian,
    key_weights: Float[ArrayLike, "H Y D"],
    query_weights: Float[ArrayLike, "H Y D"],
    memories: Float[ArrayLike, "M D"],
    beta: Scalar,
    tau: Scalar = 1.0,
) -> Float[Array, "*batch N D"]:
    r"""Rate of change of the layers under the tokens, \(\dot x = -\tau^{-1} \nabla_g E\) at \(g = \nabla L(x)\).

    The gradient of the attention has two terms for each token: one as a query, and one as a key of all others.

    Args:
        states: the layers x.
        lagrangian: the Lagrangian L of a layer.
        key_weights, query_weights, beta: as for :func:`probam.energies.token_energies.attention_energy`.
        memories: the rows of Xi; none for attention alone.
        tau: time constant, above 0.
    """

    def total(tokens: Float[Array, "*batch N D"]) -> Float[Array, ""]:
        attended = attention_energy(tokens, key_weights, query_weights, beta)
        return jnp.sum(attended + hopfield_energy(tokens, memories))

    tokens = lagrangian.activation(states)
    slope: Array = jax.grad(total)(tokens)
    return -slope / positive("tau", tau, tokens.dtype)


@pytree
@dataclass(frozen=True, eq=False)
class EnergyTransformer(Memory):
    r"""A sequence of tokens that are each other's memories, and share a bank of more.

    Each token is pulled to the tokens that it resembles, by attention whose weights are learned, and along the memories
    with which it has a positive product. It makes a sequence consistent; :mod:`probam.dynamics.patches` trains one to
    complete images.

    .. math:: x \leftarrow x - a\, \nabla_g E(g), \qquad g = \nabla L(x), \qquad
        E(g) = -\frac{1}{\beta} \sum_{h, C} \log \sum_{B \ne C} \exp(\beta\, K_{hB} \cdot Q_{hC})
        - \frac12 \sum_{\mu, C} \max(\xi_\mu \cdot g_C, 0)^2

    Tokens move all at once, as in the paper, or ``in_turn``, with which no step raises the energy.

    >>> from probam.dynamics.memories import recall
    >>> weights = jnp.eye(3)[None]
    >>> memory = EnergyTransformer(weights, weights, jnp.array([[1.0, -1.0, 0.0]]), beta=1.0, num_tokens=2)
    >>> tokens = jnp.array([[1.0, 0.0, 0.2], [0.8, 0.1, 0.0]])
    >>> recalled = recall(memory, tokens, max_steps=200)
    >>> round(recalled.energy.item(), 1)  # two products of 3 with each other, and half of 6 twice with the memory
    -12.0
    """

    key_weights: Float[ArrayLike, "H Y D"]
    query_weights: Float[ArrayLike, "H Y D"]
    memories: Float[ArrayLike, "M D"]
    beta: Scalar
    num_tokens: int = field(metadata={"static": True})
    norm: LayerNorm = field(default_factory=LayerNorm)
    step: Scalar = 0.1
    in_turn: bool = field(default=False, metadata={"static": True})

    card = Card(
        "energy_transformer",
        TOKENS,
        "-(1/beta) sum_(h, C) log sum_(B != C) exp(beta K_hB . Q_hC) - sum_(m, C) max(xi_m . g_C, 0)^2 / 2",
        "a step down the gradient in the layer's outputs, of all tokens or of one after the other",
        "not known in closed form",
        "Hoover et al. (2023), arXiv:2302.07253",
        "energy_transformer",
    )
    no_store = "its patterns are in learned weights: build EnergyTransformer(key_weights, query_weights, ...) in Python"

    @property
    def shape(self) -> tuple[int, ...]:
        """Tokens and their coordinates."""
        return self.num_tokens, jnp.shape(self.key_weights)[-1]

    @property
    def falls(self) -> bool:
        """Whether no update raises the energy for sure: tokens in turn, or a step of at most ``safe_step``."""
        return self.in_turn or (not is_traced(self.step) and bool(self.step <= self.safe_step()))

    def safe_step(self) -> Float[Array, ""]:
        r"""Length up to which no step of all tokens raises the energy; longer ones may.

        Along a direction u the attention energy curves by at most
        \(-2 \sum A_{CB}\, u_B^\top W^{K\top} W^Q u_C \le 2 \sqrt{N - 1}\, |W^{K\top} W^Q|\, |u|^2\), and
        \(\Delta x \cdot \Delta g \ge \sqrt\epsilon\, |\Delta g|^2 / \gamma\), so that
        \(\Delta E \le (\lambda / 2 - \sqrt\epsilon / (\gamma a))\, |\Delta g|^2\).
        """
        keys, queries = jnp.asarray(self.key_weights), jnp.asarray(self.query_weights)
        products = jnp.einsum("hyd,hye->hde", keys, queries, precision="highest")
        pull = jnp.sum(jnp.linalg.norm(products, ord=2, axis=(-2, -1)))
        return jnp.sqrt(jnp.asarray(self.norm.eps)) / (self.norm.gain * jnp.sqrt(self.num_tokens - 1.0) * pull)

    def energy(self, states: Float[ArrayLike, "*batch N D"]) -> Float[Array, "*batch"]:
        """Both energies of the outputs of the layers."""
        tokens, weights = self.norm.activation(states), (self.key_weights, self.query_weights)
        return attention_energy(tokens, *weights, self.beta) + hopfield_energy(tokens, self.memories)

    def update(self, states: Float[ArrayLike, "*batch N D"]) -> Float[Array, "*batch N D"]:
        """A step of the layers along :func:`velocity`."""
        layers = jnp.asarray(states)
        if not self.in_turn:
            return layers + self.step * self._velocity(layers)

        def moved(token: int | Array, at: Float[Array, "*batch N D"]) -> Float[Array, "*batch N D"]:
            return at.at[..., token, :].add(self.step * self._velocity(at)[..., token, :])

        turned: Float[Array, "*batch N D"] = jax.lax.fori_loop(0, self.num_tokens, moved, layers)
        return turned

    def _velocity(self, layers: Float[Array, "*batch N D"]) -> Float[Array, "*batch N D"]:
        return velocity(layers, self.norm, self.key_weights, self.query_weights, self.memories, self.beta)
