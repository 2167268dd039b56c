"""Local learning of layers that predict each other: inference with the patterns clamped, then a step of the weights."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from probam.energies.arguments import is_traced
from probam.energies.predictive_layers import Activation, Layers, inferred, local_gradient
from probam.errors import NumericalError

__all__ = ["learned"]

_RATE = 0.02
"""First step size of Adam, for patterns of unit spread; it falls to zero along a cosine."""
_INFERENCE_STEPS = 40


def learned(
    key: jax.Array,
    patterns: Float[Array, "K D"],
    widths: tuple[int, ...],
    noise: Float[Array, ""],
    activation: Activation,
    num_epochs: int,
) -> Layers:
    """Layers after some epochs, each with all patterns: hidden layers are inferred, then every weight moves by its
    own error and activity.

    Args:
        key: of the first weights.
        patterns: one in each row, of about unit spread.
        widths: of the hidden layers, the one next to the patterns first.
        noise: standard deviation of a pattern's entry around its prediction.
        activation: f.
        num_epochs: updates of the weights.

    Raises:
        NumericalError: where a weight leaves the finite numbers.
    """
    layers: Layers = _descend(key, patterns, noise, widths, activation, num_epochs)
    if not is_traced(patterns) and not all(np.isfinite(np.asarray(each)).all() for each in jax.tree.leaves(layers)):
        raise NumericalError("learned: a weight left the finite numbers; raise noise")
    return layers


@partial(jax.jit, static_argnums=(3, 4, 5))
def _descend(
    key: jax.Array,
    patterns: Float[Array, "K D"],
    noise: Float[Array, ""],
    widths: tuple[int, ...],
    activation: Activation,
    num_epochs: int,
) -> Layers:
    dtype, sizes = patterns.dtype, (patterns.shape[1], *widths)
    keys = jax.random.split(key, len(widths))
    start = Layers(
        tuple(
            jax.random.normal(one, (low, high), dtype) / jnp.sqrt(jnp.asarray(high, dtype))
            for one, low, high in zip(keys, sizes, widths, strict=False)
        ),
        (jnp.mean(patterns, axis=0), *(jnp.zeros(width, dtype) for width in widths)),
    )
    adam = optax.scale_by_adam()

    def epoch(carry: tuple[Layers, optax.OptState], done: Array) -> tuple[tuple[Layers, optax.OptState], None]:
        layers, state = carry
        hidden = inferred(layers, patterns, activation, noise, _INFERENCE_STEPS)
        slope = local_gradient(layers, patterns, hidden, activation, noise)
        direction, state = adam.update(slope, state)
        rate = _RATE * (1 + jnp.cos(jnp.pi * done / num_epochs)) / 2
        moved: Layers = jax.tree.map(lambda w, d: w - rate.astype(dtype) * d, layers, direction)
        return (moved, state), None

    carried, _ = jax.lax.scan(epoch, (start, adam.init(start)), jnp.arange(num_epochs, dtype=dtype))
    trained: Layers = carried[0]
    return trained
