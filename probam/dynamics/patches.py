r"""Completion of images by an Energy Transformer: patches become tokens, tokens move downhill, and are read as patches.

.. math:: x_C = W p_C + b_C, \qquad x \leftarrow x - a\, \nabla_g E(g) \;(T\text{ times}), \qquad
    \hat p_C = V g_C + c

Hoover et al. (2023), arXiv:2302.07253. A hidden patch enters as one learned vector in place of \(W p_C\). All weights,
those of the energy too, are learned by gradients through the T steps, so that the squared error of the hidden patches
is small. The block is a :class:`probam.energies.energy_transformer.EnergyTransformer`.
"""

from dataclasses import dataclass, field, replace
from functools import partial
from math import gcd
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float

from probam.energies.energy_transformer import EnergyTransformer
from probam.energies.lagrangians import LayerNorm
from probam.errors import InputError, NumericalError
from probam.pytrees import pytree

__all__ = ["Completer", "Weights", "cut", "energies_along", "hide", "joined", "patch_side", "train", "untrained"]


class Weights(NamedTuple):
    """All that is learned: N tokens of D numbers, patches of P pixels, H heads of width Y, M memories."""

    encoder: Float[Array, "D P"]
    positions: Float[Array, "N D"]
    hidden_token: Float[Array, " D"]
    key_weights: Float[Array, "H Y D"]
    query_weights: Float[Array, "H Y D"]
    memories: Float[Array, "M D"]
    shift: Float[Array, " D"]
    decoder: Float[Array, "P D"]
    bias: Float[Array, " P"]


@pytree
@dataclass(frozen=True, eq=False)
class Completer:
    """A block between patches: its weights, the length of a step, and how many steps it makes."""

    weights: Weights
    step: float = field(default=1.0, metadata={"static": True})
    num_steps: int = field(default=3, metadata={"static": True})

    @property
    def block(self) -> EnergyTransformer:
        """The memory in which the tokens move."""
        w = self.weights
        beta = w.key_weights.shape[1] ** -0.5
        norm = LayerNorm(1.0, w.shift, 1e-5)
        return EnergyTransformer(w.key_weights, w.query_weights, w.memories, beta, len(w.positions), norm, self.step)

    def layers(self, patches: Float[Array, "B N P"], hidden: Bool[Array, "B N"]) -> Float[Array, "B N D"]:
        """Tokens before the first step."""
        w = self.weights
        seen = jnp.einsum("dp,bnp->bnd", w.encoder, patches, precision="highest")
        return jnp.where(hidden[..., None], w.hidden_token, seen) + w.positions

    def read(self, layers: Float[Array, "B N D"]) -> Float[Array, "B N P"]:
        """Patches that tokens stand for."""
        w = self.weights
        return jnp.einsum("pd,bnd->bnp", w.decoder, self.block.norm.activation(layers), precision="highest") + w.bias

    def complete(self, patches: Float[Array, "B N P"], hidden: Bool[Array, "B N"]) -> Float[Array, "B N P"]:
        """The patches with the hidden ones filled in; what stands in hidden ones does not matter."""
        update = self.block.update
        last = jax.lax.fori_loop(0, self.num_steps, lambda _, x: update(x), self.layers(patches, hidden))
        return jnp.where(hidden[..., None], self.read(last), patches)

    def energies(self, patches: Float[Array, "B N P"], hidden: Bool[Array, "B N"]) -> Float[Array, "B T"]:
        """Energy before the first step and after each one."""
        return energies_along(self.block, self.layers(patches, hidden), self.num_steps).T


def energies_along(block: EnergyTransformer, layers: Float[Array, "B N D"], num_steps: int) -> Float[Array, "T B"]:
    """Energy of tokens before the first step of a block and after each one."""

    def moved(x: Float[Array, "B N D"], _: None) -> tuple[Float[Array, "B N D"], Float[Array, " B"]]:
        return block.update(x), block.energy(x)

    last, before = jax.lax.scan(moved, layers, None, length=num_steps)
    return jnp.concatenate([before, block.energy(last)[None]])


def untrained(
    key: jax.Array,
    patches: Float[Array, "I N P"],
    *,
    dim: int = 32,
    num_heads: int = 4,
    width: int = 8,
    num_memories: int = 64,
) -> Completer:
    """A completer with small random weights, in the precision of the patches; what it reads is close to their mean.

    Args:
        patches: of the images to learn from.
        dim: numbers of a token.
        num_heads, width: heads of the attention, and the length of a key.
        num_memories: rows of Xi.
    """
    num_tokens, num_pixels = patches.shape[1:]
    scales: dict[str, tuple[tuple[int, ...], float]] = {
        "encoder": ((dim, num_pixels), 3 * num_pixels**-0.5),  # grey values differ by about a third
        "positions": ((num_tokens, dim), 1.0),
        "hidden_token": ((dim,), 1.0),
        "key_weights": ((num_heads, width, dim), 0.3 * dim**-0.5),
        "query_weights": ((num_heads, width, dim), 0.3 * dim**-0.5),
        "memories": ((num_memories, dim), 0.1 * dim**-0.5),
        "decoder": ((num_pixels, dim), 0.1 * dim**-0.5),
    }
    dtype, keys = patches.dtype, jax.random.split(key, len(scales))
    drawn = {
        name: jnp.asarray(scale, dtype) * jax.random.normal(one, shape, dtype)
        for one, (name, (shape, scale)) in zip(keys, scales.items(), strict=True)
    }
    return Completer(Weights(**drawn, shift=jnp.zeros(dim, dtype), bias=jnp.mean(patches, axis=(0, 1))))


def train(
    key: jax.Array,
    completer: Completer,
    patches: Float[Array, "I N P"],
    *,
    num_updates: int,
    batch_size: int = 64,
    num_hidden: int | None = None,
    learning_rate: float = 0.02,
) -> tuple[Completer, Float[Array, " U"]]:
    """The completer after training, and the mean squared error of hidden pixels in each batch.

    Args:
        completer: where to start.
        patches: of the images to learn from.
        num_updates: steps of Adam, whose length falls to zero along a cosine.
        batch_size: images of a step, drawn with replacement.
        num_hidden: hidden patches of an image, drawn anew each time; half of them where it is None.

    Raises:
        NumericalError: where the error leaves the finite numbers.
    """
    hidden = patches.shape[1] // 2 if num_hidden is None else num_hidden
    rate = jnp.asarray(learning_rate, patches.dtype)
    trained, errors = _descend(key, completer, patches, rate, num_updates, batch_size, hidden)
    if not np.isfinite(np.asarray(errors)).all():
        raise NumericalError("train: the error left the finite numbers; lower learning_rate")
    return trained, errors


@partial(jax.jit, static_argnums=(4, 5, 6))
def _descend(
    key: jax.Array,
    completer: Completer,
    patches: Float[Array, "I N P"],
    learning_rate: Float[Array, ""],
    num_updates: int,
    batch_size: int,
    num_hidden: int,
) -> tuple[Completer, Float[Array, " U"]]:
    adam = optax.scale_by_adam()

    def error(weights: Weights, rows: Float[Array, "B N P"], hidden: Bool[Array, "B N"]) -> Float[Array, ""]:
        filled = replace(completer, weights=weights).complete(rows, hidden)
        return jnp.sum((filled - rows) ** 2) / (jnp.sum(hidden) * rows.shape[-1])

    def advance(carry: tuple[Weights, optax.OptState], this: tuple[jax.Array, Array]) -> tuple[Any, Array]:
        weights, state = carry
        key_rows, key_hidden = jax.random.split(this[0])
        rows = patches[jax.random.randint(key_rows, (batch_size,), 0, len(patches))]
        hidden = hide(key_hidden, batch_size, patches.shape[1], num_hidden)
        value, slope = jax.value_and_grad(error)(weights, rows, hidden)
        direction, state = adam.update(slope, state)
        rate = learning_rate * (1 + jnp.cos(jnp.pi * this[1] / num_updates)) / 2
        weights = jax.tree.map(lambda w, d: w - rate * d, weights, direction)
        return (weights, state), value

    start = (completer.weights, adam.init(completer.weights))
    steps = jnp.arange(num_updates, dtype=patches.dtype)
    (weights, _), errors = jax.lax.scan(advance, start, (jax.random.split(key, num_updates), steps))
    return replace(completer, weights=weights), errors


# --- patches -----------------------------------------------------------------------------------------------------


def hide(key: jax.Array, num_images: int, num_tokens: int, num_hidden: int) -> Bool[Array, "B N"]:
    """Random masks, each with as many hidden patches."""
    order = jax.random.uniform(key, (num_images, num_tokens)).argsort(axis=1)
    return order < num_hidden


def patch_side(shape: tuple[int, ...]) -> int:
    """Side of the square patches of images (height, width, channels): about a seventh of the image, and at least 2.

    Raises:
        InputError: where height and width have no common divisor of that size.

    >>> patch_side((28, 28, 1)), patch_side((8, 8, 1)), patch_side((64, 64, 3))
    (4, 2, 8)
    """
    common, most = gcd(shape[0], shape[1]), max(2, min(shape[:2]) // 7)
    side = max(each for each in range(1, most + 1) if common % each == 0)
    if side == 1:
        raise InputError(
            f"images: {shape[0]} x {shape[1]} pixels cannot be cut into square patches of 2 to {most} pixels; crop them"
        )
    return side


def cut(images: Float[ArrayLike, "I H W C"], side: int) -> Float[Array, "I N P"]:
    """Patches of images, row by row."""
    array = jnp.asarray(images)
    count, height, width, channels = array.shape
    grid = array.reshape(count, height // side, side, width // side, side, channels)
    return grid.transpose(0, 1, 3, 2, 4, 5).reshape(count, -1, side * side * channels)


def joined(patches: Float[Array, "I N P"], shape: tuple[int, ...]) -> Float[Array, "I H W C"]:
    """Images (height, width, channels) of patches; the inverse of :func:`cut`."""
    height, width, channels = shape
    side = round((patches.shape[2] / channels) ** 0.5)
    grid = patches.reshape(len(patches), height // side, width // side, side, side, channels)
    return grid.transpose(0, 1, 3, 2, 4, 5).reshape(len(patches), *shape)
