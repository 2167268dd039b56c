r"""Sequences that stay at each pattern for a while: a fast force holds the pattern, a delayed one calls up the next.

.. math:: s_i \leftarrow \operatorname{sign} \sum_\mu \bigl[\xi_i^\mu f_S(m_i^\mu)
    + \lambda\, \xi_i^{\mu+1} f_A(\bar m_i^\mu)\bigr]

Chaudhry et al. (2023), arXiv:2306.04532 (MixedNet). \(\bar m\) are the overlaps of the mean \(\bar s\) of the last
\(\tau\) states. While the network sits at a pattern, \(\bar m\) of that pattern grows, until the force on to the next
one wins. The capacity is that of the smaller degree of the two.

A state is the window of the last tau states, shape (..., tau, N), the newest last; its entries are -1 and 1. Patterns
are (K, N) and form a closed sequence.
"""

from dataclasses import dataclass
from dataclasses import field as parameter

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from probam.energies.arguments import Scalar, points, positive
from probam.energies.memory import SIGNS, Card, Memory
from probam.energies.separations import Polynomial
from probam.energies.sequences import Separation, exponential, overlaps, successors
from probam.errors import InputError
from probam.pytrees import pytree

__all__ = ["TimedSequence", "dwell_time", "field", "step"]


def field(
    window: Float[ArrayLike, "*batch T N"],
    patterns: Float[ArrayLike, "K N"],
    stay: Separation,
    move: Separation,
    strength: Scalar,
) -> Float[Array, "*batch N"]:
    r"""Local field of each neuron.

    Args:
        window: the last tau states, the newest last.
        patterns: a closed sequence.
        stay: \(f_S\), elementwise.
        move: \(f_A\), elementwise.
        strength: \(\lambda > 0\), of the force on to the next pattern.
    """
    window, patterns = points(window, patterns, "patterns")
    holding = stay(overlaps(window[..., -1, :], patterns))
    calling = move(overlaps(jnp.mean(window, axis=-2), patterns))
    onward = positive("strength", strength, window.dtype) * calling
    return jnp.sum(patterns * holding + successors(patterns, cyclic=True)[1] * onward, axis=-2)


def step(
    window: Float[ArrayLike, "*batch T N"],
    patterns: Float[ArrayLike, "K N"],
    stay: Separation,
    move: Separation,
    strength: Scalar,
) -> Float[Array, "*batch T N"]:
    """The window one step later; a neuron whose field is exactly zero keeps its state."""
    window = jnp.asarray(window)
    force = field(window, patterns, stay, move, strength)
    newest = jnp.where(force == 0, window[..., -1, :], jnp.sign(force))
    return jnp.concatenate([window[..., 1:, :], newest[..., None, :]], axis=-2)


def dwell_time(delay: int, strength: float, move: Separation) -> int:
    r"""Steps that the network spends at each of many orthogonal patterns, when \(f_S(1) = 1\).

    .. math:: \min\{k : \lambda f_A(k / \tau) > 1 + \lambda f_A(1 - k / \tau)\}

    After k steps the delayed overlap is \(k / \tau\), and that of the pattern before, whose successor is the present
    one, \(1 - k / \tau\).

    Args:
        delay: \(\tau\), states in the window.
        strength: \(\lambda\).
        move: \(f_A\), elementwise, with \(f_A(0) = 0\).

    Raises:
        InputError: where the force on to the next pattern never wins.

    >>> dwell_time(10, 2.0, Polynomial(2))
    8
    """
    share = jnp.arange(1, delay + 1) / delay
    wins = strength * move(share) > 1 + strength * move(1 - share)
    if not bool(jnp.any(wins)):
        raise InputError(f"strength: the network stays at its first pattern for ever; raise {strength:g} above 1")
    return int(jnp.argmax(wins)) + 1


@pytree
@dataclass(frozen=True, eq=False)
class TimedSequence(Memory):
    r"""A sequence with a rhythm: each pattern is held for some steps, then the next one follows.

    For order in time with dwell times. The window of the last states is the memory's state; its length, and the
    strength of the delayed force, set how long a pattern is held: from half the window to all of it.

    .. math:: s_i \leftarrow \operatorname{sign} \sum_\mu \bigl[\xi_i^\mu f_S(m_i^\mu)
        + \lambda\, \xi_i^{\mu+1} f_A(\bar m_i^\mu)\bigr]

    >>> patterns = jnp.array([[1.0, 1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, -1, -1, -1, -1], [1, 1, -1, -1, -1, -1, 1, 1]])
    >>> memory = TimedSequence(patterns, strength=2.0, delay=10, stay=2, move=2)
    >>> state, held = memory.held(0), 0
    >>> for _ in range(20):
    ...     state = memory.update(state)
    ...     held += int(jnp.all(state[-1] == patterns[1]))
    >>> held  # steps at the second pattern
    8
    """

    patterns: Float[ArrayLike, "K N"]
    strength: Scalar = 2.0
    delay: int = parameter(default=10, metadata={"static": True})
    stay: int | None = parameter(default=None, metadata={"static": True})
    move: int | None = parameter(default=None, metadata={"static": True})

    card = Card(
        "timed_sequences",
        SIGNS,
        "none",
        "sign of two forces: on to the present pattern, and, by delayed overlaps, on to the next",
        "that of sequences, of the smaller degree of the two forces",
        "Chaudhry et al. (2023), arXiv:2306.04532",
    )
    bank = "patterns"
    settles = False
    no_energy = "the couplings lead from a pattern to the next and are not symmetric, so that nothing falls"
    no_store = "its states are windows of several steps, not patterns; give it the patterns, and start it with held"

    @property
    def shape(self) -> tuple[int, ...]:
        """The window: the last states, the newest last."""
        return (self.delay, *jnp.shape(self.patterns)[1:])

    def held(self, position: int) -> Float[Array, "T N"]:
        """The window of a network that has stayed at one pattern."""
        return jnp.broadcast_to(jnp.asarray(self.patterns)[position], self.shape)

    def update(self, states: Float[ArrayLike, "*batch T N"]) -> Float[Array, "*batch T N"]:
        """:func:`step`, with powers of these degrees; None is the exponential."""
        size = self.shape[-1]
        stay, move = (exponential(size) if degree is None else Polynomial(degree) for degree in (self.stay, self.move))
        return step(states, self.patterns, stay, move, self.strength)
