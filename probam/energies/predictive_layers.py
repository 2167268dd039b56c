r"""Layers that predict each other: the energy of predictive coding, inference of hidden layers, and local learning.

.. math:: F = \frac{|x_0 - W_0 f(x_1) - b_0|^2}{2 \sigma^2} + \frac12 \sum_{l=1}^{L-1} |x_l - W_l f(x_{l+1}) - b_l|^2
    + \frac12 |x_L - b_L|^2

Salvatori et al. (2021), arXiv:2109.08063. \(x_0\) is what is seen, the other layers are hidden; the last one is
predicted by its bias alone. Inference goes downhill in the hidden layers while the seen pixels are clamped; an unseen
pixel is at the minimum equal to its prediction, and leaves F. Learning goes downhill in the weights: error times
activity, each layer by itself.
"""

from itertools import pairwise
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float

from probam.energies.wells import dot
from probam.errors import InputError

__all__ = ["Activation", "Layers", "energy", "errors", "inferred", "local_gradient", "prediction"]

Activation = Literal["tanh", "linear"]
"""f: both have slopes of at most 1."""

Hidden = tuple[Float[Array, "..."], ...]
"""The layers x_1 to x_L, each (..., width)."""


class Layers(NamedTuple):
    """Weights W_l (width of l, width of l + 1) for l < L, biases b_l for l <= L."""

    weights: tuple[Float[ArrayLike, "..."], ...]
    biases: tuple[Float[ArrayLike, "..."], ...]

    def check(self) -> None:
        """Raise :class:`probam.errors.InputError` where shapes do not follow each other."""
        widths = [jnp.shape(bias) for bias in self.biases]
        expected = [(*low, *high) for low, high in pairwise(widths)]
        found = [jnp.shape(weight) for weight in self.weights]
        if len(widths) < 2 or any(len(width) != 1 for width in widths) or found != expected:
            raise InputError(
                f"weights: expected shapes {expected}, as biases of shapes {widths} need; got {found}; give one bias "
                "more than weights, each of the width of its layer"
            )


def _active(layer: Float[Array, "..."], activation: Activation) -> Float[Array, "..."]:
    """f of a layer."""
    return jnp.tanh(layer) if activation == "tanh" else layer


def prediction(
    layers: Layers, level: int, above: Float[Array, "*batch H"] | None, activation: Activation
) -> Float[Array, "..."]:
    """What the layer above says of a level, W f(x) + b; the bias for the last one, above which there is None."""
    bias = jnp.asarray(layers.biases[level])
    if above is None:
        return bias
    return dot(_active(above, activation), jnp.asarray(layers.weights[level], above.dtype).T) + bias


def errors(layers: Layers, seen: Float[Array, "*batch D"], hidden: Hidden, activation: Activation) -> Hidden:
    """What is left of each level after its prediction, of x_0 first."""
    levels = zip((seen, *hidden), (*hidden, None), strict=True)
    return tuple(at - prediction(layers, level, above, activation) for level, (at, above) in enumerate(levels))


def energy(
    layers: Layers,
    seen: Float[Array, "*batch D"],
    hidden: Hidden,
    activation: Activation,
    noise: Float[Array, ""],
    known: Bool[Array, "*#batch D"] | None = None,
) -> Float[Array, "*batch"]:
    """F, in nats; pixels that are not known are at their prediction."""
    first, *others = errors(layers, seen, hidden, activation)
    if known is not None:
        first = jnp.where(known, first, 0)
    return 0.5 * jnp.sum((first / noise) ** 2, axis=-1) + sum(0.5 * jnp.sum(e**2, axis=-1) for e in others)


def inferred(
    layers: Layers,
    seen: Float[Array, "*batch D"],
    activation: Activation,
    noise: Float[Array, ""],
    num_steps: int,
    known: Bool[Array, "*#batch D"] | None = None,
) -> Hidden:
    r"""Hidden layers after some steps downhill from the prediction of the top.

    The step of a layer is one over a bound of its curvature, \(1 + |W|^2 / \sigma^2\), and half of that where hidden
    layers move together: for linear layers F then never rises.
    """
    dtype, batch = seen.dtype, seen.shape[:-1]
    hidden: Hidden = ()
    for level in range(len(layers.weights), 0, -1):
        predicted = prediction(layers, level, hidden[0] if hidden else None, activation)
        hidden = (jnp.broadcast_to(predicted, (*batch, predicted.shape[-1])).astype(dtype), *hidden)
    scales = [noise, *(jnp.ones((), dtype) for _ in hidden)]
    together = 1 if len(hidden) == 1 else 2
    steps = [
        1 / (together * (1 + (jnp.linalg.norm(jnp.asarray(weight, dtype), ord=2) / scale) ** 2))
        for weight, scale in zip(layers.weights, scales, strict=False)
    ]
    slope = jax.grad(lambda at: jnp.sum(energy(layers, seen, at, activation, noise, known)))

    def moved(_: int | Array, at: Hidden) -> Hidden:
        return tuple(x - step * g for x, step, g in zip(at, steps, slope(at), strict=True))

    settled: Hidden = jax.lax.fori_loop(0, num_steps, moved, hidden)
    return settled


def local_gradient(
    layers: Layers, seen: Float[Array, "N D"], hidden: Hidden, activation: Activation, noise: Float[Array, ""]
) -> Layers:
    """Mean slope of F in the weights at fixed layers: minus the error of a level times the activity of the next."""
    first, *others = errors(layers, seen, hidden, activation)
    left = [first / noise**2, *others]
    weights = tuple(-dot(e.T, _active(x, activation)) / len(seen) for e, x in zip(left, hidden, strict=False))
    return Layers(weights, tuple(-jnp.mean(e, axis=0) for e in left))
