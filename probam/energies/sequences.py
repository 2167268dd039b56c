r"""Sequence memory: each pattern recalls its successor, with a separation function that reduces crosstalk.

.. math:: s_i \leftarrow \operatorname{sign} \sum_\mu \xi_i^{\mu+1} f(m_i^\mu), \qquad
    m_i^\mu = \frac{1}{N-1} \sum_{j \neq i} \xi_j^\mu s_j

Chaudhry et al. (2023), *Long sequence Hopfield memory*, arXiv:2306.04532. With f the identity it is the asymmetric
Hopfield network; powers are
:class:`probam.energies.separations.Polynomial`. The weights are not symmetric, so there is no energy: recall of a
closed sequence is periodic.

States have shape (..., N) with entries -1 and 1, patterns (K, N). ``cyclic`` says whether the last pattern recalls the
first; an open sequence needs at least two patterns. Bad shapes raise :class:`probam.errors.InputError`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field as parameter

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from probam.energies import separations
from probam.energies.arguments import Scalar, points, positive
from probam.energies.memory import SIGNS, Card, Memory, checked_patterns
from probam.energies.wells import dot, weighted_mean
from probam.errors import InputError
from probam.pytrees import pytree

__all__ = ["Sequence", "exponential", "field", "overlaps", "read_out", "step", "successors"]

Separation = Callable[[Float[Array, "..."]], Float[Array, "..."]]
"""Function f of the overlaps, elementwise."""


def exponential(num_neurons: int) -> Separation:
    r"""The separation \(f(m) = e^{(N-1)(m-1)}\) for N neurons; its largest value is 1."""
    return lambda overlap: jnp.exp((num_neurons - 1) * (overlap - 1))


def overlaps(state: Float[ArrayLike, "*batch N"], patterns: Float[ArrayLike, "K N"]) -> Float[Array, "*batch K N"]:
    r"""Mean agreement of the state with each pattern, without neuron i itself: \(m_i^\mu\), in [-1, 1].

    .. math:: m_i^\mu = \frac{\langle \xi^\mu, s \rangle - \xi_i^\mu s_i}{N - 1}
    """
    state, patterns = points(state, patterns, "patterns")
    if patterns.shape[1] < 2:
        raise InputError("patterns: expected at least 2 neurons, since each overlap leaves one out; got 1")
    total = dot(state, patterns.T)[..., None]
    return (total - patterns * state[..., None, :]) / (patterns.shape[1] - 1)


def field(
    state: Float[ArrayLike, "*batch N"],
    patterns: Float[ArrayLike, "K N"],
    separation: Separation,
    *,
    cyclic: bool = True,
) -> Float[Array, "*batch N"]:
    r"""Local field \(\sum_\mu \xi_i^{\mu+1} f(m_i^\mu)\) of each neuron; ``separation`` is f, elementwise."""
    _, patterns = points(state, patterns, "patterns")
    callers, called = successors(patterns, cyclic)
    return jnp.sum(called * separation(overlaps(state, callers)), axis=-2)


def step(
    state: Float[ArrayLike, "*batch N"],
    patterns: Float[ArrayLike, "K N"],
    separation: Separation,
    *,
    cyclic: bool = True,
) -> Float[Array, "*batch N"]:
    """All neurons set to the sign of their field; a neuron whose field is exactly zero keeps its state.

    >>> cycle = jnp.array([[1.0, 1.0, 1.0], [1.0, -1.0, -1.0]])
    >>> step(cycle[0], cycle, exponential(3)).tolist()  # the next pattern
    [1.0, -1.0, -1.0]
    """
    force = field(state, patterns, separation, cyclic=cyclic)
    return jnp.where(force == 0, jnp.asarray(state, force.dtype), jnp.sign(force))


def read_out(
    state: Float[ArrayLike, "*batch N"], patterns: Float[ArrayLike, "K N"], beta: Scalar, *, cyclic: bool = True
) -> Float[Array, "*batch N"]:
    r"""Mean of the successors under the softmax of the overlaps of all neurons, for beta > 0.

    .. math:: \sum_\mu r_\mu\, \xi^{\mu+1}, \qquad r = \operatorname{softmax}(\beta\, \Xi s)
    """
    state, patterns = points(state, patterns, "patterns")
    callers, called = successors(patterns, cyclic)
    return weighted_mean(positive("beta", beta, state.dtype) * dot(state, callers.T), called)


def successors(patterns: Float[Array, "K N"], cyclic: bool) -> tuple[Float[Array, "L N"], Float[Array, "L N"]]:
    """Patterns, and the successors that they recall; the last of an open sequence recalls none."""
    if cyclic:
        return patterns, jnp.roll(patterns, -1, axis=0)
    if len(patterns) < 2:
        raise InputError("patterns: an open sequence needs at least 2 patterns; got 1")
    return patterns[:-1], patterns[1:]


@pytree
@dataclass(frozen=True, eq=False)
class Sequence(Memory):
    r"""A sequence: each pattern recalls the next one.

    For order in time. One update is one step of the sequence; a steep separation stores long sequences, and corrects
    errors on the way. There is no energy to fall.

    .. math:: s_i \leftarrow \operatorname{sign} \sum_\mu \xi_i^{\mu+1} f(m_i^\mu)

    >>> patterns = jnp.array([[1.0, 1, 1, 1, 1, 1], [1, 1, 1, -1, -1, -1], [1, -1, 1, -1, 1, -1]])
    >>> memory = Sequence(patterns, degree=None)  # exponential
    >>> state = memory.update(memory.update(patterns[0].at[0].set(-1.0)))  # one error, two steps
    >>> int(jnp.sum(state != patterns[2]))
    0
    """

    patterns: Float[ArrayLike, "K N"]
    degree: int | None = parameter(default=None, metadata={"static": True})
    cyclic: bool = parameter(default=True, metadata={"static": True})

    card = Card(
        "sequences",
        SIGNS,
        "none",
        "sign of the successors' sum, weighted by f of the overlaps",
        "N^d / (2 (2d - 1)!! log N) transitions of degree d; exponential in N for the exponential",
        "Chaudhry et al. (2023), arXiv:2306.04532",
        "long_sequences",
    )
    bank = "patterns"
    settles = False
    no_energy = "the couplings lead from a pattern to the next and are not symmetric, so that nothing falls"

    def update(self, states: Float[ArrayLike, "*batch N"]) -> Float[Array, "*batch N"]:
        """:func:`step`."""
        f = exponential(self.shape[0]) if self.degree is None else separations.Polynomial(self.degree)
        return step(states, self.patterns, f, cyclic=self.cyclic)

    @classmethod
    def store(cls, patterns: Float[ArrayLike, "K N"], *, degree: int | None = None, cyclic: bool = True) -> "Sequence":
        """A sequence of these patterns of signs; a degree of None is the exponential separation."""
        most = jnp.shape(patterns)[-1] if degree == 1 and jnp.ndim(patterns) == 2 else None
        return cls(checked_patterns(patterns, SIGNS, most=most, rule="a sequence of degree 1"), degree, cyclic)
