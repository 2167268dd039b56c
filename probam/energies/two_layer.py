r"""Two layers of neurons with Lagrangians: the networks of Krotov and Hopfield.

.. math::
    \tau_v \dot v = \Xi^\top f - v + I, \qquad \tau_h \dot h = \Xi g - h, \qquad
    g = \nabla L_v(v), \quad f = \nabla L_h(h)

    E(v, h) = [(v - I) \cdot g - L_v(v)] + [h \cdot f - L_h(h)] - f \cdot \Xi g

Krotov and Hopfield (2021), arXiv:2008.06996; Yang (2020), slides, Part III. The rows of \(\Xi\) are the K memories, v
are the currents of the D feature neurons, h those of the K memory neurons, I is a constant external current.
Along the dynamics, for any time constants,

.. math:: \dot E = -\tau_v\, \dot v^\top \nabla^2 L_v\, \dot v - \tau_h\, \dot h^\top \nabla^2 L_h\, \dot h,

so the energy never rises where both Lagrangians are convex. It can be unbounded below: with linear units on both layers
and a singular value of \(\Xi\) above 1 the dynamics diverge.

Visible states have shape (..., D), hidden states (..., K). Bad shapes and time constants that are not above zero raise
:class:`probam.errors.InputError`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from probam.energies.arguments import Scalar, points, positive
from probam.energies.lagrangians import AbsoluteValue, Lagrangian, LogSumExp, Power, Quadratic, RectifiedPower
from probam.energies.memory import REAL, Card, Memory, checked_patterns, sharpness
from probam.energies.wells import dot
from probam.errors import InputError
from probam.pytrees import pytree

__all__ = [
    "Network",
    "answer",
    "dense_associative_memory",
    "dissipation",
    "effective_energy",
    "effective_velocity",
    "energy",
    "modern_hopfield",
    "similarity_energy",
    "update",
    "velocity",
]


@pytree
@dataclass(frozen=True)
class Network(Memory):
    r"""Two layers of neurons: features and memories, with any activations that have a Lagrangian.

    The family that dense memories and attention belong to: choose the activations, and the energy follows. As a memory
    the hidden layer is at rest; :mod:`probam.dynamics.two_layer` integrates both layers. The network is a JAX pytree:
    it can be an argument of a compiled function and be differentiated.

    .. math:: E(v) = (v - I) \cdot g - L_v(v) - L_h(\Xi g), \qquad v \leftarrow \Xi^\top f(\Xi g(v)) + I

    >>> network = modern_hopfield(jnp.eye(3), beta=8.0)
    >>> recalled = network.update(jnp.array([0.9, 0.2, 0.1]))
    >>> round(recalled[0].item(), 3)  # that of the modern Hopfield network
    0.995

    Args:
        memories: one memory in each row.
        visible, hidden: the Lagrangians of the feature neurons and of the memory neurons.
        current: I, one number or one for each feature neuron.
        tau_v, tau_h: time constants above 0. For the limit of a fast hidden layer, tau_h -> 0, use
            :func:`effective_energy` and :func:`effective_velocity`.
    """

    memories: Float[ArrayLike, "K D"]
    visible: Lagrangian
    hidden: Lagrangian
    current: float | Float[ArrayLike, " D"] = 0.0
    tau_v: Scalar = 1.0
    tau_h: Scalar = 1.0

    card = Card(
        "two_layer",
        REAL,
        "(v - I) . g - L_v(v) - L_h(Xi g)",
        "Xi' f(Xi g(v)) + I",
        "that of the memory which its Lagrangians make",
        "Krotov and Hopfield (2021), arXiv:2008.06996",
        "xor",
    )

    @property
    def falls(self) -> bool:
        """Whether both Lagrangians are convex."""
        return self.is_convex

    def energy(self, states: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch"]:
        """:func:`effective_energy`."""
        return effective_energy(states, self)

    def update(self, states: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch D"]:
        """:func:`update`."""
        return update(states, self)

    @classmethod
    def store(cls, patterns: Float[ArrayLike, "K D"], *, beta: float | None = None) -> "Network":
        """:func:`modern_hopfield` with these patterns; None for ``beta`` tells patterns of equal length apart."""
        patterns = checked_patterns(patterns, REAL)
        return modern_hopfield(patterns, sharpness(patterns, beta, "dot"))

    @property
    def is_convex(self) -> bool:
        """Whether both Lagrangians are convex, so that the energy cannot rise along the dynamics."""
        return self.visible.is_convex and self.hidden.is_convex


def energy(
    visible: Float[ArrayLike, "*batch D"], hidden: Float[ArrayLike, "*batch K"], network: Network
) -> Float[Array, "*batch"]:
    r"""Energy of the two layers, \([(v - I) \cdot g - L_v] + [h \cdot f - L_h] - f \cdot \Xi g\).

    Args:
        visible, hidden: currents v and h of the two layers.
        network: memories, Lagrangians and current.

    Raises:
        InputError: for shapes that do not fit.
    """
    v, h, memories = _layers(visible, hidden, network)
    g, f = network.visible.activation(v), network.hidden.activation(h)
    own = network.visible.legendre(v) - jnp.sum(_current(network, memories) * g, axis=-1)
    return own + network.hidden.legendre(h) - jnp.sum(f * dot(g, memories.T), axis=-1)


def velocity(
    visible: Float[ArrayLike, "*batch D"], hidden: Float[ArrayLike, "*batch K"], network: Network
) -> tuple[Float[Array, "*batch D"], Float[Array, "*batch K"]]:
    r"""Rates of change \(\dot v = (\Xi^\top f - v + I) / \tau_v\) and \(\dot h = (\Xi g - h) / \tau_h\)."""
    v, h, memories = _layers(visible, hidden, network)
    tau_v = positive("tau_v", network.tau_v, v.dtype)
    tau_h = positive("tau_h", network.tau_h, v.dtype)
    pull = dot(network.hidden.activation(h), memories) + _current(network, memories)
    return (pull - v) / tau_v, (dot(network.visible.activation(v), memories.T) - h) / tau_h


def dissipation(
    visible: Float[ArrayLike, "*batch D"], hidden: Float[ArrayLike, "*batch K"], network: Network
) -> Float[Array, "*batch"]:
    r"""Rate at which the energy changes along the dynamics, by the Hessians of the Lagrangians.

    .. math:: \dot E = -\tau_v\, \dot v^\top \nabla^2 L_v\, \dot v - \tau_h\, \dot h^\top \nabla^2 L_h\, \dot h
    """
    v, h, _ = _layers(visible, hidden, network)
    v_rate, h_rate = velocity(v, h, network)
    by_visible = jnp.sum(v_rate * network.visible.curvature(v, v_rate), axis=-1)
    by_hidden = jnp.sum(h_rate * network.hidden.curvature(h, h_rate), axis=-1)
    return -jnp.asarray(network.tau_v, v.dtype) * by_visible - jnp.asarray(network.tau_h, v.dtype) * by_hidden


def answer(visible: Float[ArrayLike, "*batch D"], network: Network) -> Float[Array, "*batch K"]:
    r"""Hidden currents at rest for a fixed visible layer, \(h = \Xi g(v)\): the limit \(\tau_h \to 0\)."""
    v, memories = points(visible, network.memories)
    return dot(network.visible.activation(v), memories.T)


def effective_energy(visible: Float[ArrayLike, "*batch D"], network: Network) -> Float[Array, "*batch"]:
    r"""Energy with the hidden layer at rest, \((v - I) \cdot g - L_v(v) - L_h(\Xi g)\).

    It is the minimum of the energy over h where \(L_h\) is convex. With signs as visible units and no current it is
    \(-\sum_\mu F(\xi^\mu \cdot \sigma)\), a dense associative memory; with linear units and a softmax it is the energy
    of :mod:`probam.energies.continuous_hopfield`.
    """
    v, memories = points(visible, network.memories)
    g = network.visible.activation(v)
    own = network.visible.legendre(v) - jnp.sum(_current(network, memories) * g, axis=-1)
    return own - network.hidden(dot(g, memories.T))


def effective_velocity(visible: Float[ArrayLike, "*batch D"], network: Network) -> Float[Array, "*batch D"]:
    r"""Rate of change of v with the hidden layer at rest, \((\Xi^\top f(\Xi g) - v + I) / \tau_v\)."""
    v, _ = points(visible, network.memories)
    return (update(v, network) - v) / positive("tau_v", network.tau_v, v.dtype)


def update(visible: Float[ArrayLike, "*batch D"], network: Network) -> Float[Array, "*batch D"]:
    r"""Result of an Euler step dt = tau_v with the hidden layer at rest: \(\Xi^\top f(\Xi g(v)) + I\).

    This is the concave-convex procedure for :func:`effective_energy`: with convex Lagrangians it never raises it.
    """
    v, memories = points(visible, network.memories)
    return dot(network.hidden.activation(answer(v, network)), memories) + _current(network, memories)


def dense_associative_memory(
    memories: Float[ArrayLike, "K D"], n: int, *, rectified: bool = True, tau_v: Scalar = 1.0, tau_h: Scalar = 1.0
) -> Network:
    r"""The network whose limit \(\tau_h \to 0\) is a dense associative memory of order n: signs, and powers \(F_n\).

    Its :func:`effective_energy` is \(-\sum_\mu F_n(\xi^\mu \cdot {\rm sign}\, v)\); Krotov and Hopfield (2016),
    arXiv:1606.01164. Its update \({\rm sign} \sum_\mu \xi^\mu F_n'(\xi^\mu \cdot \sigma)\) uses the derivative of
    \(F_n\), not the difference of the 2016 rule. Plain powers of odd n above 1 are not convex and may raise the energy.
    """
    return Network(memories, AbsoluteValue(), RectifiedPower(n) if rectified else Power(n), tau_v=tau_v, tau_h=tau_h)


def modern_hopfield(
    memories: Float[ArrayLike, "K D"], beta: Scalar, *, tau_v: Scalar = 1.0, tau_h: Scalar = 1.0
) -> Network:
    r"""The network whose limit \(\tau_h \to 0\) is the modern Hopfield network: linear units and a softmax.

    For finite \(\tau_h\) its energy exceeds that of :mod:`probam.energies.continuous_hopfield` by
    \(\beta^{-1}\, {\rm KL}({\rm softmax}(\beta h) \,\|\, {\rm softmax}(\beta \Xi v))\).
    """
    return Network(memories, Quadratic(), LogSumExp(beta), tau_v=tau_v, tau_h=tau_h)


def similarity_energy(
    visible: Float[ArrayLike, "*batch D"],
    hidden: Float[ArrayLike, "*batch K"],
    similarity: Callable[[Float[Array, "*batch D"]], Float[Array, "*batch K"]],
    network: Network,
) -> Float[Array, "*batch"]:
    r"""Energy with the layers coupled by a similarity of the memories to v itself, not to g(v).

    .. math:: E = [(v - I) \cdot g - L_v] + [h \cdot f - L_h] - \sum_\mu f_\mu S_\mu(v)

    Millidge et al. (2022), Eq. 3, with the indices of the memories corrected. It equals :func:`energy` for the dot
    product S = Xi v if g is the identity. Its gradient flow \(\tau \dot x = -\nabla E\) is *not* the dynamics of
    :func:`velocity`: it multiplies the rates in brackets by the Hessians of the Lagrangians.

    Args:
        visible, hidden: currents of the two layers.
        similarity: S, from v to one score for each memory.
        network: memories, Lagrangians and current.

    Raises:
        InputError: for shapes that do not fit, those of the scores included.
    """
    v, h, memories = _layers(visible, hidden, network)
    scores = similarity(v)
    if scores.shape != h.shape:
        raise InputError(f"similarity: expected scores of shape {h.shape}, one for each memory; got {scores.shape}")
    own = network.visible.legendre(v) - jnp.sum(_current(network, memories) * network.visible.activation(v), axis=-1)
    return own + network.hidden.legendre(h) - jnp.sum(network.hidden.activation(h) * scores, axis=-1)


def _layers(
    visible: Float[ArrayLike, "*batch D"], hidden: Float[ArrayLike, "*batch K"], network: Network
) -> tuple[Float[Array, "*batch D"], Float[Array, "*batch K"], Float[Array, "K D"]]:
    """Both layers and the memories in one dtype."""
    v, memories = points(visible, network.memories)
    h = jnp.asarray(hidden)
    if h.shape != (*v.shape[:-1], len(memories)):
        raise InputError(
            f"hidden: expected shape {(*v.shape[:-1], len(memories))}, one entry per memory for each visible state; "
            f"got {h.shape}"
        )
    dtype = jnp.result_type(v, h)
    return v.astype(dtype), h.astype(dtype), memories.astype(dtype)


def _current(network: Network, memories: Float[Array, "K D"]) -> Float[Array, " D"]:
    current = jnp.asarray(network.current, memories.dtype)
    if current.shape not in ((), memories.shape[1:]):
        raise InputError(f"current: expected one number or shape {memories.shape[1:]}; got {current.shape}")
    return jnp.broadcast_to(current, memories.shape[1:])
