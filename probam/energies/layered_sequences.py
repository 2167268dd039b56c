r"""Sequences in two layers of neurons, whose couplings join two neurons each; with the pseudo-inverse, for correlated
patterns too.

.. math:: s \leftarrow \operatorname{sign}\bigl(M^\top f(W s)\bigr), \qquad W = \Xi / N \ \text{ or } \ W = (\Xi^+)^\top

Chaudhry et al. (2023), arXiv:2306.04532. A power f of an overlap couples many neurons at once. One hidden neuron for
each pattern, with the activation f, does the same with couplings of two neurons: W reads the overlaps, M writes the
successors. The overlaps are then over all neurons, where :mod:`probam.energies.sequences` leaves out the one that is
set.

The generalised pseudo-inverse takes \(\sum_\nu O^+_{\mu\nu} m^\nu\), with \(O = \Xi \Xi^\top / N\), in place of the
overlap \(m^\mu\). Since \(O^+ \Xi / N = (\Xi^+)^\top\), this is another W. At a stored pattern all these numbers are
zero but the pattern's own, which is one, however correlated independent patterns are.

States have shape (..., N) with entries -1 and 1, weights (L, N) for L transitions.
"""

from dataclasses import dataclass
from dataclasses import field as parameter
from typing import Literal

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from probam.energies.arguments import points
from probam.energies.memory import SIGNS, Card, Memory, checked_patterns
from probam.energies.separations import Polynomial
from probam.energies.sequences import successors
from probam.energies.wells import dot, heights
from probam.errors import InputError
from probam.pytrees import pytree

__all__ = ["LayeredSequence", "hidden", "reading_weights", "step"]

Rule = Literal["hebb", "pseudo_inverse"]
"""How patterns become the weights that read them."""


def reading_weights(patterns: Float[ArrayLike, "L N"], rule: Rule) -> Float[Array, "L N"]:
    r"""W: \(\Xi / N\), whose products with a state are overlaps, or \((\Xi^+)^\top\), without correlations."""
    _, patterns = points(jnp.ones(jnp.shape(patterns)[-1:]), patterns, "patterns")
    if rule == "hebb":
        return patterns / patterns.shape[1]
    if rule == "pseudo_inverse":
        return jnp.linalg.pinv(patterns).T
    raise InputError(f"rule: expected hebb or pseudo_inverse; got {rule!r}")


def hidden(
    state: Float[ArrayLike, "*batch N"], reading: Float[ArrayLike, "L N"], degree: int | None
) -> Float[Array, "*batch L"]:
    r"""Activity of the hidden neurons: f(W s).

    Args:
        state: the visible neurons.
        reading: W.
        degree: of the power f, or None for the exponential \(f(m) = e^{N m}\), relative to its largest value.
    """
    state, reading = points(state, reading, "reading")
    overlap = dot(state, reading.T)
    return heights(reading.shape[1] * overlap) if degree is None else Polynomial(degree)(overlap)


def step(
    state: Float[ArrayLike, "*batch N"],
    reading: Float[ArrayLike, "L N"],
    writing: Float[ArrayLike, "L N"],
    degree: int | None,
) -> Float[Array, "*batch N"]:
    """All visible neurons set to the sign of what the hidden ones write; one whose field is zero keeps its state."""
    state, writing = points(state, writing, "writing")
    force = dot(hidden(state, reading, degree), writing)
    return jnp.where(force == 0, state, jnp.sign(force))


@pytree
@dataclass(frozen=True, eq=False)
class LayeredSequence(Memory):
    r"""A sequence in two layers: hidden neurons recognise a pattern and call up the next one.

    For sequences of similar patterns, such as the frames of a film: with the pseudo-inverse every transition between
    independent patterns is exact, up to as many patterns as neurons. `rule=hebb` is the network of `sequences`, with
    couplings of two neurons each.

    .. math:: s \leftarrow \operatorname{sign}\bigl(M^\top f(W s)\bigr), \qquad W = (\Xi^+)^\top

    >>> patterns = 1 - 2 * jnp.eye(6)  # six patterns of six signs, which differ in two places each
    >>> stored = {rule: LayeredSequence.store(patterns, rule=rule, degree=1) for rule in ("hebb", "pseudo_inverse")}
    >>> [int(jnp.sum(memory.update(patterns[0]) != patterns[1])) for memory in stored.values()]  # wrong signs
    [1, 0]
    """

    reading: Float[ArrayLike, "L N"]
    writing: Float[ArrayLike, "L N"]
    degree: int | None = parameter(default=None, metadata={"static": True})

    card = Card(
        "layered_sequences",
        SIGNS,
        "none",
        "sign of what the hidden neurons write, which are f of the products of their weights with the state",
        "pseudo-inverse: N independent patterns, exactly; Hebb's rule: that of sequences, linear in all neurons",
        "Chaudhry et al. (2023), arXiv:2306.04532",
        "long_sequences",
    )
    bank = "reading"
    settles = False
    no_energy = "the weights that read are not the transpose of those that write, so that nothing falls"

    def update(self, states: Float[ArrayLike, "*batch N"]) -> Float[Array, "*batch N"]:
        """:func:`step`."""
        return step(states, self.reading, self.writing, self.degree)

    @classmethod
    def store(
        cls,
        patterns: Float[ArrayLike, "K N"],
        *,
        rule: Rule = "pseudo_inverse",
        degree: int | None = None,
        cyclic: bool = True,
    ) -> "LayeredSequence":
        """A sequence of these patterns of signs; a degree of None is the exponential separation."""
        most = jnp.shape(patterns)[-1] if rule == "pseudo_inverse" and jnp.ndim(patterns) == 2 else None
        checked = checked_patterns(patterns, SIGNS, most=most, rule="a sequence by the pseudo-inverse")
        callers, called = successors(checked, cyclic)
        return cls(reading_weights(callers, rule), called, degree)
