r"""Trained heads read as mixtures of von Mises-Fisher memories (CLAIMS A12 to A14).

The tokens that a query sees are memories: the direction and the concentration \(\kappa_i\) of the key's slope, and a
mixing weight \(\pi_i \propto e^{c_i + b_i} / C(\kappa_i)\). :mod:`probam.models.attention` has the densities; here its
posterior is compared with the weights that the network computes, which makes the reading exact or shows that it is not.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import entr, logsumexp
from jaxtyping import Array, Float, Int

from probam.distributions.von_mises_fisher import VonMisesFisher
from probam.errors import InputError
from probam.experiments.laboratory.attention import FORMS
from probam.experiments.laboratory.network import Block, Transformer
from probam.models.attention import Norm, Scores, mixture, posterior, scores

__all__ = ["Reading", "head_scores", "norm_of", "read"]


class Reading(NamedTuple):
    """What the heads (L, H) of a network are as mixtures, over the tokens of some sequences, in nats where logs.

    ``log_concentration_sd`` and ``log_weight_sd`` are standard deviations over the tokens of a sequence of the logs of
    concentrations and mixing weights; ``correlation`` is that of the two; the ``free`` ones are of the freed parts
    alone, 0 where they are tied. ``memories`` is the effective number that a query recalls, the exponential of the
    entropy of its posterior, and ``seen`` the mean number that it sees. ``energy`` is minus the log evidence of a
    query, up to the constant of the mixture. ``gap`` is the largest difference between posterior and attention.
    """

    concentration: Float[np.ndarray, "L H"]
    log_concentration_sd: Float[np.ndarray, "L H"]
    free_concentration_sd: Float[np.ndarray, "L H"]
    log_weight_sd: Float[np.ndarray, "L H"]
    free_weight_sd: Float[np.ndarray, "L H"]
    correlation: Float[np.ndarray, "L H"]
    memories: Float[np.ndarray, "L H"]
    seen: float
    energy: Float[np.ndarray, "L H"]
    gap: float


def norm_of(block: Block) -> Norm:
    """The name of the normalisation before the attention."""
    return "layer" if isinstance(block.first, eqx.nn.LayerNorm) else "rms"


def head_scores(block: Block, tokens: Float[Array, "T D"], head: int | Int[Array, ""]) -> Scores:
    """What a head asks of a normalised query, for the keys of these tokens.

    Args:
        block: with attention by dot products, tied or not.
        tokens: inputs of the block.
        head: its number.

    Raises:
        InputError: for a similarity other than the dot product: its logits are not linear in the query.
    """
    attention = block.attention
    if attention.kind not in FORMS:
        raise InputError(f"block: expected attention by dot products, {', '.join(FORMS)}; got {attention.kind!r}")
    normed, shift = block.normed(tokens)
    rows, bias = attention.split(attention.query.weight.T)[head].T, attention.query.bias
    asked = scores(
        attention.split(jax.vmap(attention.key)(normed))[head],
        block.scale,
        shift,
        query_projection=rows,
        query_bias=None if bias is None else attention.split(bias)[head],
    )
    factor, weight = attention.readouts(normed)
    slopes = asked.slopes if factor is None else jnp.exp(factor[head])[:, None] * asked.slopes
    return Scores(slopes, asked.offsets if weight is None else asked.offsets + weight[head])


def _read_head(block: Block, tokens: Float[Array, "T D"], weights: Float[Array, "T T"], head: Int[Array, ""]) -> Array:
    """Nine numbers of a head, in the order of :class:`Reading` without ``seen``."""
    asked, norm = head_scores(block, tokens, head), norm_of(block)
    made = mixture(asked, norm)
    seen = weights > 0
    every = posterior(asked, tokens, norm, block.first.eps)
    shares = jnp.where(seen, every, 0)
    shares = shares / jnp.sum(shares, axis=-1, keepdims=True)
    free = block.attention.readouts(block.normed(tokens)[0])
    spread = [jnp.zeros(()) if one is None else jnp.std(one[head]) for one in free]
    assert isinstance(made.bank, VonMisesFisher)
    kappa, log_weights = made.bank.concentration, made.log_weights
    log_kappa = jnp.log(kappa)
    normed = (block.normed(tokens)[0] - block.shift) / block.scale
    logits = normed @ asked.slopes.T + asked.offsets
    return jnp.stack(
        [
            jnp.mean(kappa),
            jnp.std(log_kappa),
            spread[0],
            jnp.std(log_weights),
            spread[1],
            jnp.corrcoef(log_kappa, log_weights)[0, 1],
            jnp.mean(jnp.exp(jnp.sum(entr(shares), axis=-1))),
            -jnp.mean(logsumexp(jnp.where(seen, logits, -jnp.inf), axis=-1)),
            jnp.max(jnp.abs(shares - weights)),
        ]
    )


@eqx.filter_jit
def _read_all(network: Transformer, words: Int[Array, "B T"]) -> Float[Array, "B L H M"]:
    def of_sequence(sequence: Int[Array, " T"]) -> Array:
        states, seen = network.layers(sequence), network.seen(len(sequence))
        layers = []
        for block, tokens in zip(network.attending, states, strict=False):
            weights = block.attention.weights(*block.normed(tokens), seen=seen)
            heads = jnp.arange(len(weights))
            layers.append(jax.lax.map(lambda h, b=block, x=tokens, w=weights: _read_head(b, x, w[h], h), heads))
        return jnp.stack(layers)

    every: Array = jax.lax.map(of_sequence, words)
    return every


def read(network: Transformer, words: Int[Array, "B T"]) -> Reading:
    """The heads of a network as mixtures, means over sequences; in JAX's default precision.

    Args:
        network: with attention by dot products.
        words: the sequences.
    """
    dtype = jnp.result_type(float)
    network = jax.tree.map(lambda leaf: leaf.astype(dtype) if eqx.is_inexact_array(leaf) else leaf, network)
    every = np.asarray(_read_all(network, words))
    means, length = every.mean(axis=0), words.shape[1]
    seen = (length + 1) / 2 if network.causal else float(length)
    concentration, sd, free_sd, weight_sd, free_weight_sd, correlation, memories, energy = np.moveaxis(means, -1, 0)[:8]
    spreads = (concentration, sd, free_sd, weight_sd, free_weight_sd, correlation)
    return Reading(*spreads, memories, seen, energy, float(every[..., 8].max()))
