r"""A small score network: a perceptron that learns to take noise away, in plain JAX with Adam from Optax.

.. math::
    D_\theta(x, s) = \bar x + \sigma F_\theta\Bigl( \frac{x - \bar x}{\sqrt{\sigma^2 + s^2}}, \log s \Bigr), \qquad
    \theta = \arg\min E\, \frac{\lVert D_\theta(x_\mu + s \epsilon, s) - x_\mu \rVert^2}{\max(s, 0.3\, \sigma)^2}

with the mean and the standard deviation of the data. The least loss over all functions is that of the exact denoiser of
the training set, whose diffusion recalls training data only; a network that does not reach it may generalise. It
predicts the clean datum, not the noise: a perceptron of this size cannot magnify the little that is left of the noise
near a datum. Everything is in single precision.
"""

from functools import partial
from itertools import pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

__all__ = ["Network", "Training", "denoise", "trained"]

_FREQUENCIES = 0.5 * np.arange(1, 5)
"""Of the sines and cosines of log s that the network sees."""


_LEAST_WEIGHTED = 0.3
"""Noise, in standard deviations of the data, below which errors count no more."""

_Layers = list[tuple[Array, Array]]
_Carry = tuple[_Layers, optax.OptState]


class Network(NamedTuple):
    """Weights and biases of the layers, and the mean and standard deviation of the data."""

    layers: _Layers
    mean: Float[Array, " D"]
    spread: Float[Array, ""]


class Training(NamedTuple):
    """How a network is trained. Noise is drawn uniformly in its logarithm, in standard deviations of the data."""

    width: int = 160
    steps: int = 2000
    batch: int = 128
    rate: float = 2e-3
    noise: tuple[float, float] = (0.1, 10.0)


def denoise(network: Network, x: Float[Array, "Q D"], noise: Float[Array, "*q"]) -> Float[Array, "Q D"]:
    """Mean of the clean datum given each noisy one, as the network has learned it.

    Args:
        network: the weights.
        x: noisy data.
        noise: one standard deviation for all, or one for each row.
    """
    s = jnp.broadcast_to(noise, x.shape[:1])[:, None].astype(x.dtype) / network.spread
    y = (x - network.mean) / network.spread
    turns = jnp.log(s) * jnp.asarray(_FREQUENCIES, x.dtype)
    hidden = jnp.concatenate([y / jnp.sqrt(s**2 + 1), jnp.log(s) / 4, jnp.sin(turns), jnp.cos(turns)], axis=-1)
    for weight, bias in network.layers[:-1]:
        hidden = jax.nn.silu(hidden @ weight + bias)
    weight, bias = network.layers[-1]
    return network.mean + network.spread * (hidden @ weight + bias)


def _fresh(key: jax.Array, sizes: tuple[int, ...]) -> _Layers:
    """Layers before training: normal weights, and a last layer of zeros."""
    layers = []
    for i, (before, after) in enumerate(pairwise(sizes)):
        scale = 0.0 if i == len(sizes) - 2 else before**-0.5
        weight = scale * jax.random.normal(jax.random.fold_in(key, i), (before, after), jnp.float32)
        layers.append((weight, jnp.zeros(after, jnp.float32)))
    return layers


@partial(jax.jit, static_argnames="how")
def trained(
    key: jax.Array, data: Float[Array, "N D"], present: Float[Array, " N"], how: Training
) -> tuple[Network, Float[Array, " T"]]:
    """A network that has learned to denoise the data, and its loss at each step.

    Args:
        key: of the weights, the batches and the noise.
        data: one datum in each row.
        present: weight of each datum, 0 for those that are not there.
        how: size and length of the training.
    """
    data = data.astype(jnp.float32)
    share = present / jnp.sum(present)
    mean = (share @ data).astype(jnp.float32)
    spread = jnp.sqrt(jnp.sum(share @ (data - mean) ** 2) / data.shape[1]).astype(jnp.float32)
    key_start, key_run = jax.random.split(key)
    sizes = (data.shape[1] + 1 + 2 * len(_FREQUENCIES), how.width, how.width, how.width, data.shape[1])
    optimiser = optax.adam(optax.cosine_decay_schedule(how.rate, how.steps, alpha=0.01))
    layers = _fresh(key_start, sizes)
    low, high = np.log(how.noise)

    def loss(layers: _Layers, clean: Array, noise: Array, kick: Array) -> Array:
        network = Network(layers, mean, spread)
        gap = denoise(network, clean + noise[:, None] * kick, noise) - clean
        weight = 1 / jnp.maximum(noise, _LEAST_WEIGHTED * spread) ** 2
        return jnp.mean(weight * jnp.mean(gap**2, axis=-1))

    def step(carry: _Carry, key: jax.Array) -> tuple[_Carry, Array]:
        layers, state = carry
        key_row, key_noise, key_kick = jax.random.split(key, 3)
        rows = jax.random.choice(key_row, len(data), (how.batch,), p=share)
        noise = spread * jnp.exp(jax.random.uniform(key_noise, (how.batch,), jnp.float32, low, high))
        kick = jax.random.normal(key_kick, (how.batch, data.shape[1]), jnp.float32)
        value, slope = jax.value_and_grad(loss)(layers, data[rows], noise, kick)
        change, state = optimiser.update(slope, state)
        changed: _Layers = jax.tree.map(jnp.add, layers, change)
        return (changed, state), value

    (layers, _), losses = jax.lax.scan(step, (layers, optimiser.init(layers)), jax.random.split(key_run, how.steps))
    return Network(layers, mean, spread), losses
