r"""A variational autoencoder: networks from patterns to codes and from codes to patterns, and their training.

.. math:: -\mathrm{ELBO}(x) = \mathbb E_{q(z|x)} \frac{|x - g(z)|^2}{2 \sigma^2}
    + \mathrm{KL}\bigl(q(z|x)\,\Vert\,N(0, I)\bigr), \qquad q(z|x) = N\bigl(m(x), \operatorname{diag} s(x)^2\bigr)

Kingma and Welling (2014), arXiv:1312.6114. Encoder and decoder have one hidden layer of tanh units. Patterns are
centred, and divided by their standard deviation over all entries, so that the noise has no unit.

Patterns are (..., D), codes (..., Z).
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from probam.energies.arguments import Scalar
from probam.energies.wells import dot

__all__ = ["Autoencoder", "Network", "decode", "divergence", "encode", "negative_bound", "trained"]

_RATE = 3e-3
"""First step of Adam, which falls to zero by a cosine."""


class Network(NamedTuple):
    """Two layers of weights, with tanh units in between."""

    first: Float[Array, "I H"]
    first_bias: Float[Array, " H"]
    second: Float[Array, "H O"]
    second_bias: Float[Array, " O"]


class Autoencoder(NamedTuple):
    """Encoder, to means and log standard deviations of a code; decoder; centre and unit of the patterns."""

    encoder: Network
    decoder: Network
    center: Float[Array, " D"]
    unit: Float[Array, ""]


def encode(autoencoder: Autoencoder, patterns: Float[Array, "*batch D"]) -> Float[Array, "*batch Z"]:
    """Code of each pattern: the mean m(x)."""
    return _posterior(autoencoder.encoder, (patterns - autoencoder.center) / autoencoder.unit)[0]


def decode(autoencoder: Autoencoder, codes: Float[Array, "*batch Z"]) -> Float[Array, "*batch D"]:
    """Pattern of each code: g(z)."""
    return autoencoder.center + autoencoder.unit * _applied(autoencoder.decoder, codes)


def divergence(mean: Float[Array, "*batch Z"], log_sd: Float[Array, "*batch Z"]) -> Float[Array, "*batch"]:
    """Kullback-Leibler divergence of a normal law with independent coordinates from N(0, I), in nats."""
    return jnp.sum(0.5 * (mean**2 + jnp.exp(2 * log_sd) - 1) - log_sd, axis=-1)


def negative_bound(
    networks: tuple[Network, Network], scaled: Float[Array, "B D"], draws: Float[Array, "B Z"], noise: Scalar
) -> Float[Array, ""]:
    """Mean over patterns of minus the bound, up to a constant, in nats; one draw of each code.

    Args:
        networks: encoder and decoder.
        scaled: patterns, centred and in their unit.
        draws: standard normal numbers that make the codes.
        noise: standard deviation of a pattern around the decoded code.
    """
    mean, log_sd = _posterior(networks[0], scaled)
    error = scaled - _applied(networks[1], mean + jnp.exp(log_sd) * draws)
    return jnp.mean(0.5 * jnp.sum(error**2, axis=-1) / noise**2 + divergence(mean, log_sd))


@partial(jax.jit, static_argnames=("num_codes", "num_units", "num_steps", "batch_size"))
def trained(
    key: jax.Array,
    patterns: Float[Array, "N D"],
    noise: Scalar,
    *,
    num_codes: int = 16,
    num_units: int = 128,
    num_steps: int = 2000,
    batch_size: int = 64,
) -> Autoencoder:
    """An autoencoder of these patterns.

    Args:
        key: of first weights, batches and draws.
        patterns: one in each row.
        noise: standard deviation of a pattern around the decoded code, in units of the patterns' standard deviation.
        num_codes: coordinates Z of a code.
        num_units: hidden units of encoder and decoder.
        num_steps: of Adam.
        batch_size: patterns in a step, drawn with replacement.
    """
    dim = patterns.shape[1]
    center = jnp.mean(patterns, axis=0)
    spread = jnp.std(patterns - center)
    unit = jnp.where(spread > 0, spread, 1)
    scaled = (patterns - center) / unit
    key_encoder, key_decoder, key_steps = jax.random.split(key, 3)
    start = (
        _drawn(key_encoder, (dim, num_units, 2 * num_codes), patterns.dtype),
        _drawn(key_decoder, (num_codes, num_units, dim), patterns.dtype),
    )
    adam = optax.adam(optax.cosine_decay_schedule(_RATE, num_steps))
    State = tuple[tuple[Network, Network], optax.OptState]

    def step(state: State, key: jax.Array) -> tuple[State, None]:
        networks, moments = state
        key_rows, key_draws = jax.random.split(key)
        rows = scaled[jax.random.randint(key_rows, (batch_size,), 0, len(scaled))]
        draws = jax.random.normal(key_draws, (batch_size, num_codes), scaled.dtype)
        moves, moments = adam.update(jax.grad(negative_bound)(networks, rows, draws, noise), moments)
        moved: tuple[Network, Network] = jax.tree.map(jnp.add, networks, moves)
        return (moved, moments), None

    (networks, _), _ = jax.lax.scan(step, (start, adam.init(start)), jax.random.split(key_steps, num_steps))
    return Autoencoder(*networks, center, unit)


def _drawn(key: jax.Array, sizes: tuple[int, int, int], dtype: jnp.dtype) -> Network:
    """First weights of variance 1 over the number of inputs, and biases of zero."""
    inputs, hidden, outputs = sizes
    keys = jax.random.split(key)
    first = jax.random.normal(keys[0], (inputs, hidden), dtype) * inputs**-0.5
    second = jax.random.normal(keys[1], (hidden, outputs), dtype) * hidden**-0.5
    return Network(first, jnp.zeros(hidden, dtype), second, jnp.zeros(outputs, dtype))


def _applied(network: Network, inputs: Float[Array, "*batch I"]) -> Float[Array, "*batch O"]:
    hidden = jnp.tanh(dot(inputs, network.first) + network.first_bias)
    return dot(hidden, network.second) + network.second_bias


def _posterior(
    encoder: Network, scaled: Float[Array, "*batch D"]
) -> tuple[Float[Array, "*batch Z"], Float[Array, "*batch Z"]]:
    """Mean and log standard deviations of the code."""
    outputs = _applied(encoder, scaled)
    num_codes = outputs.shape[-1] // 2
    return outputs[..., :num_codes], outputs[..., num_codes:]
