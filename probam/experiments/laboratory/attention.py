r"""Self-attention as a parameter: tied as usual, with freed concentrations or weights, or with another similarity.

After a normalisation \(y = \gamma \odot \hat x + \delta\) a head asks of the query \(\hat x\) a linear function for
each key, and is a mixture of von Mises-Fisher memories (CLAIMS A12 and A13; :mod:`probam.models.attention`):

.. math::
    \text{logit}_i = e^{a_i}\, \frac{k_i \cdot W_Q(\gamma \odot \hat x)}{\sqrt Y}
    + \frac{k_i \cdot (W_Q \delta + b_Q)}{\sqrt Y} + b_i, \qquad a_i = u \cdot y_i, \quad b_i = v \cdot y_i

The first term is the concentration times the cosine, the others are the log weight (before the normaliser). With
u = v = 0 both are functions of the key, as Schaeffer et al. (2023), Sec. 4, observe. A vector u in each head frees the
concentrations, a vector v the weights: they are read from the token \(y_i\) itself, not from its key. Training starts
at u = v = 0.

The similarities are those of Millidge et al. (2022), times a learned inverse temperature of each head. Divergences and
the normalised dot product need numbers above zero: queries and keys pass through a softplus. The Hamming distance needs
bits: signs, whose derivative is that of a logistic function.
"""

from functools import partial
from math import log, sqrt
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from probam.energies.similarities import SIMILARITIES, Similarity
from probam.errors import InputError

__all__ = ["ENERGY", "FORMS", "Form", "SelfAttention", "kinds", "similarity_scores"]

Form = Literal["tied", "untied concentrations", "untied proportions", "untied"]

FORMS: tuple[Form, ...] = ("tied", "untied concentrations", "untied proportions", "untied")
"""Attention by dot products: usual, with concentrations or mixing proportions of their own, with both."""

ENERGY = "energy transformer"
"""The kind of attention that stands for the whole block of Hoover et al. (2023)."""

_START = 1 / 3
"""Standard deviation of the logits of random tokens before training; that of scaled dot products."""


def kinds() -> tuple[str, ...]:
    """Every kind of attention: the forms, the similarities by name, and the block of the Energy Transformer."""
    return *FORMS, *SIMILARITIES, ENERGY


def similarity_scores(kind: Similarity, queries: Float[Array, "Q Y"], keys: Float[Array, "K Y"]) -> Float[Array, "Q K"]:
    """Scores of all pairs, larger for more similar ones, of queries and keys of any sign.

    They are first brought into the domain of the similarity. Values are those of
    :meth:`probam.energies.similarities.Similarity.scores`, up to the rounding of close pairs.
    """
    if kind.domain == "binary":
        return _straight_through(kind, queries, keys)
    if kind.domain in ("nonnegative", "nonzero sum"):
        queries, keys = jax.nn.softplus(queries), jax.nn.softplus(keys)
    if kind.sums_to_one:
        queries, keys = (x / jnp.sum(x, axis=-1, keepdims=True) for x in (queries, keys))
    if kind.products is None:
        values = kind.pairs(queries[:, None], keys[None])
    else:
        values = kind.products(queries, keys).value
        values = jnp.maximum(values, 0) if kind.is_distance else values
    if kind.finish is not None:
        values = kind.finish(values)
    return -values if kind.is_distance else values


def _straight_through(kind: Similarity, queries: Float[Array, "Q Y"], keys: Float[Array, "K Y"]) -> Float[Array, "Q K"]:
    """Minus the distance of the signs' bits, with the derivative of the expected distance of independent bits."""
    bits = [(x > 0).astype(x.dtype) for x in (queries, keys)]
    soft_q, soft_k = jax.nn.sigmoid(queries), jax.nn.sigmoid(keys)
    expected = jnp.sum(soft_q, axis=-1)[:, None] + jnp.sum(soft_k, axis=-1) - 2 * soft_q @ soft_k.T
    exact = kind.products(*bits).value if kind.products is not None else kind.pairs(bits[0][:, None], bits[1][None])
    return -(jax.lax.stop_gradient(exact - expected) + expected)


class SelfAttention(eqx.Module):
    """Attention of tokens to each other, by heads; the module's docstring has the equations."""

    query: eqx.nn.Linear
    key: eqx.nn.Linear
    value: eqx.nn.Linear
    output: eqx.nn.Linear
    concentration: Float[Array, "H D"] | None
    mixing: Float[Array, "H D"] | None
    log_beta: Float[Array, " H"] | None
    kind: str = eqx.field(static=True)
    num_heads: int = eqx.field(static=True)

    def __init__(self, key: jax.Array, width: int, num_heads: int, kind: str = "tied"):
        if width % num_heads:
            raise InputError(f"num_heads: expected a divisor of the width {width}; got {num_heads}")
        if kind not in FORMS and kind not in SIMILARITIES:
            raise InputError(f"kind: expected one of {', '.join((*FORMS, *SIMILARITIES))}; got {kind!r}")
        keys = jax.random.split(key, 5)
        self.query = eqx.nn.Linear(width, width, key=keys[0])
        self.key = eqx.nn.Linear(width, width, use_bias=False, key=keys[1])
        self.value = eqx.nn.Linear(width, width, use_bias=False, key=keys[2])
        self.output = eqx.nn.Linear(width, width, key=keys[3])
        none = jnp.zeros((num_heads, width))
        self.concentration = none if kind in ("untied concentrations", "untied") else None
        self.mixing = none if kind in ("untied proportions", "untied") else None
        self.log_beta = None
        if kind in SIMILARITIES:
            self.log_beta = jnp.full(num_heads, log(_START)) - _log_spread(keys[4], kind, width // num_heads)
        self.kind, self.num_heads = kind, num_heads

    def split(self, rows: Float[Array, "*batch D"]) -> Float[Array, "H *batch Y"]:
        """One part of the features for each head."""
        return jnp.moveaxis(rows.reshape(*rows.shape[:-1], self.num_heads, -1), -2, 0)

    def readouts(self, tokens: Float[Array, "T D"]) -> tuple[Float[Array, "H T"] | None, Float[Array, "H T"] | None]:
        """Log factors of the concentrations and of the weights of each token's memory; None where they are tied."""
        free = (self.concentration, self.mixing)
        made = [None if readout is None else jnp.einsum("hd,td->ht", readout, tokens) for readout in free]
        return made[0], made[1]

    def logits(self, tokens: Float[Array, "T D"], shift: Float[Array, " D"]) -> Float[Array, "H T T"]:
        r"""Logit [h, c, b] of the key of token b for the query of token c.

        Args:
            tokens: outputs of the normalisation.
            shift: its \(\delta\).
        """
        queries, keys = self.split(jax.vmap(self.query)(tokens)), self.split(jax.vmap(self.key)(tokens))
        if self.log_beta is not None:
            of_pairs: Array = jax.vmap(partial(similarity_scores, SIMILARITIES[self.kind]))(queries, keys)
            return jnp.exp(self.log_beta)[:, None, None] * of_pairs
        keys = keys / sqrt(keys.shape[-1])
        factor, weight = self.readouts(tokens)
        if factor is None:
            made = jnp.einsum("hcy,hby->hcb", queries, keys)
        else:
            centre = self.split(self.query(shift))
            pulls = jnp.einsum("hcy,hby->hcb", queries - centre[:, None], keys)
            made = jnp.exp(factor)[:, None] * pulls + jnp.einsum("hy,hby->hb", centre, keys)[:, None]
        return made if weight is None else made + weight[:, None]

    def weights(
        self, tokens: Float[Array, "T D"], shift: Float[Array, " D"], seen: Bool[Array, "T T"] | None
    ) -> Float[Array, "H T T"]:
        """Attention weights: softmax of the logits over the keys that a query sees (True), all for None."""
        logits = self.logits(tokens, shift)
        return jax.nn.softmax(logits if seen is None else jnp.where(seen, logits, -jnp.inf), axis=-1)

    def __call__(
        self, tokens: Float[Array, "T D"], shift: Float[Array, " D"], seen: Bool[Array, "T T"] | None = None
    ) -> Float[Array, "T D"]:
        """Means of the values under the attention weights, joined and projected; arguments as for :meth:`weights`."""
        values = self.split(jax.vmap(self.value)(tokens))
        mixed = jnp.einsum("hcb,hby->chy", self.weights(tokens, shift, seen), values)
        return jax.vmap(self.output)(mixed.reshape(len(tokens), -1))


def _log_spread(key: jax.Array, kind: str, width: int) -> Float[Array, ""]:
    """Log of the standard deviation of the scores of random queries and keys, as they are before training."""
    queries, keys = jax.random.normal(key, (2, 128, width)) * 3**-0.5
    return jnp.log(jnp.std(similarity_scores(SIMILARITIES[kind], queries, keys)))
