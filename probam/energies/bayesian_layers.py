r"""Linear layers with uncertain weights, one above the other: energy, most probable activities, writes.

.. math:: x = W_0 f(a_1) + \sigma \varepsilon_0, \qquad a_l = W_l f(a_{l+1}) + \sigma \varepsilon_l, \qquad
    a_L \sim N(0, I)

Yoo and Wood (2022), arXiv:2205.09930. With the weights integrated out, the energy of a state and its activities is the
sum of the layers' surprises (:func:`probam.energies.predictive_coding.surprise`), and writing them is one rank-one
update of each layer. The activities of a state are those of least energy, found by descent.

Layers are a tuple from the state up, (D, F_1), (F_1, F_2) and so on; activities a tuple \((a_1, \dots, a_L)\). These
functions are for one state. :func:`read_all`, :func:`write_all` and :func:`erase_one` are for P particles, whose layers
have a first axis (P, ...).
"""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from probam.energies import predictive_coding
from probam.energies.arguments import Scalar
from probam.energies.predictive_coding import Layer

__all__ = [
    "Activities",
    "Layers",
    "changed",
    "drawn",
    "energy",
    "erase_one",
    "explained",
    "features",
    "forgotten",
    "predicted",
    "read_all",
    "write_all",
]

Layers = tuple[Layer, ...]
Activities = tuple[Array, ...]
"""One array for each layer above the state, (..., F)."""

_RATE = 0.25
"""First step of the descent, in units of the noise, which is how narrow valleys are; it falls to zero by a cosine."""


def features(activity: Float[Array, "*batch F"]) -> Float[Array, "*batch F"]:
    """f, the GELU: the identity for large positive activities, zero for large negative ones."""
    return jax.nn.gelu(activity)


def drawn(key: jax.Array, sizes: tuple[int, ...], dtype: jnp.dtype) -> Layers:
    r"""Layers before anything is written: means \(N(0, 1/F)\), and the identity as covariance.

    Args:
        key: of the means.
        sizes: numbers of units, from the state up.
        dtype: of the weights.
    """
    keys = jax.random.split(key, len(sizes) - 1)
    return tuple(
        Layer(jax.random.normal(key, (low, high), dtype) * high**-0.5, jnp.eye(high, dtype=dtype))
        for key, (low, high) in zip(keys, pairwise(sizes), strict=True)
    )


def energy(layers: Layers, state: Float[Array, " D"], activities: Activities, noise: Scalar) -> Float[Array, ""]:
    """Negative log density of a state and its activities, with the weights integrated out, in nats.

    Args:
        layers: from the state up.
        state: x.
        activities: of the layers above.
        noise: standard deviation of each unit around its prediction, above 0.
    """
    top = activities[-1]
    total = 0.5 * jnp.sum(top**2) + 0.5 * top.shape[0] * jnp.log(2 * jnp.pi)
    for layer, low, high in zip(layers, (state, *activities), activities, strict=False):
        total = total + predictive_coding.surprise(layer, features(high), low, noise)
    return total


def explained(layers: Layers, state: Float[Array, " D"], noise: Scalar, steps: int) -> Activities:
    """Activities at a minimum of the energy, for a clamped state: ``steps`` of Adam from zero, more for less noise.

    Derivatives with respect to the state pass through the energy alone, as at an exact minimum.
    """
    start = tuple(jnp.zeros(layer.mean.shape[1], layer.mean.dtype) for layer in layers)
    adam = optax.adam(optax.cosine_decay_schedule(_RATE * noise, steps))
    slope = jax.grad(lambda activities: energy(layers, jax.lax.stop_gradient(state), activities, noise))

    def step(carried: tuple[Any, optax.OptState], _: None) -> tuple[tuple[Any, optax.OptState], None]:
        activities, moments = carried
        moves, moments = adam.update(slope(activities), moments)
        return (optax.apply_updates(activities, moves), moments), None

    (activities, _), _ = jax.lax.scan(step, (start, adam.init(start)), length=steps)
    return jax.lax.stop_gradient(activities)


def predicted(layers: Layers, activities: Activities, noise: Scalar) -> tuple[Float[Array, " D"], Float[Array, ""]]:
    """Mean of the state under its activities, and its variance in each coordinate."""
    layer, phi = layers[0], features(activities[0])
    variance = jnp.asarray(noise, phi.dtype) ** 2 + phi @ layer.covariance @ phi
    return predictive_coding.read(layer, phi), variance


def changed(
    rule: Callable[[Layer, Array, Array, Scalar], Layer],
    layers: Layers,
    state: Float[Array, " D"],
    activities: Activities,
    noise: Scalar,
) -> Layers:
    """All layers after a state and its activities are written, or erased.

    Args:
        rule: :func:`probam.energies.predictive_coding.write` or :func:`probam.energies.predictive_coding.erase`.
        layers, state, activities, noise: as for :func:`energy`.
    """
    lows = (state, *activities)
    return tuple(
        rule(layer, features(high), low, noise) for layer, low, high in zip(layers, lows, activities, strict=False)
    )


def forgotten(layers: Layers, prior: Layers, rate: Scalar) -> Layers:
    """All layers after :func:`probam.energies.predictive_coding.forget`."""
    return tuple(predictive_coding.forget(*pair, rate) for pair in zip(layers, prior, strict=True))


# --- particles -------------------------------------------------------------------------------------------------------


@partial(jax.jit, static_argnames="steps")
def read_all(
    layers: Layers, states: Float[Array, "Q D"], noise: Scalar, steps: int
) -> tuple[Float[Array, "Q P"], Float[Array, "Q P D"], Float[Array, "Q P"]]:
    """Of each state and particle: least energy, and the mean and variance that its activities predict."""

    def one(state: Array, layers: Layers) -> tuple[Array, Array, Array]:
        activities = explained(layers, state, noise, steps)
        return energy(layers, state, activities, noise), *predicted(layers, activities, noise)

    return jax.vmap(jax.vmap(one, (None, 0)), (0, None))(states, layers)


@partial(jax.jit, static_argnames="steps")
def write_all(
    layers: Layers, prior: Layers, states: Float[Array, "B D"], noise: Scalar, forgetting: Scalar, steps: int
) -> tuple[Layers, Float[Array, " P"], Activities]:
    """States written one after the other.

    Args:
        layers, prior: of P particles, now and before anything was written.
        states: what to write.
        noise: standard deviation of each unit around its prediction.
        forgetting: share that returns to the prior before each write.
        steps: of the descent.

    Returns:
        The layers, the log densities of the states (those of earlier ones fade with 1 - forgetting), and the activities
        (P, B, F).
    """

    def one(carried: tuple[Layers, Array], state: Array, prior: Layers) -> tuple[tuple[Layers, Array], Activities]:
        before, faded = forgotten(carried[0], prior, forgetting), jnp.asarray((1 - forgetting) * carried[1])
        activities = explained(before, state, noise, steps)
        log_density = faded - energy(before, state, activities, noise)
        return (changed(predictive_coding.write, before, state, activities, noise), log_density), activities

    def particle(layers: Layers, prior: Layers) -> tuple[tuple[Layers, Any], Activities]:
        return jax.lax.scan(lambda carried, state: one(carried, state, prior), (layers, jnp.zeros(())), states)

    (after, log_density), activities = jax.vmap(particle)(layers, prior)
    return after, log_density, activities


@jax.jit
def erase_one(
    layers: Layers, state: Float[Array, " D"], activities: Activities, noise: Scalar
) -> tuple[Layers, Float[Array, " P"]]:
    """The layers without a state whose activities (P, F) were these, and its log density given all others."""

    def particle(layers: Layers, activities: Activities) -> tuple[Layers, Array]:
        left = changed(predictive_coding.erase, layers, state, activities, noise)
        return left, -energy(left, state, activities, noise)

    return jax.vmap(particle)(layers, activities)
