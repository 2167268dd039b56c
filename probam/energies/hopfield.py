r"""The classical Hopfield network: binary neurons, symmetric couplings, a quadratic energy.

.. math:: E(s) = -\tfrac12 s^\top T s - b \cdot s, \qquad s \in \{-1, 1\}^N

Hopfield (1982), doi:10.1073/pnas.79.8.2554. An update sets a neuron to the sign of its local field \(T s + b\). Updates
of one neuron at a time never raise the energy (:mod:`probam.dynamics.discrete`).

Convention: with the factor 1/2 the field is minus the gradient. The slides of Yang (2020) leave it out
(:func:`slide_energy`), which doubles every energy difference.

States have shape (..., N), memories (K, N), couplings (N, N), a bias (N,). Couplings that are not symmetric have no
energy; they raise :class:`probam.errors.InputError`, as bad shapes do.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Shaped

from probam.energies.arguments import is_traced, points
from probam.energies.memory import SIGNS, Card, Memory, checked_patterns
from probam.energies.wells import dot
from probam.errors import InputError
from probam.pytrees import pytree

__all__ = [
    "Network",
    "couplings",
    "energy",
    "field",
    "flip_difference",
    "gradient",
    "pseudo_inverse_couplings",
    "slide_energy",
]

Rule = Literal["hebb", "pseudo_inverse"]
"""How patterns become couplings."""

_ASYMMETRY = 1e3
"""Largest difference between T and its transpose that counts as rounding, in eps of the largest entry."""


def couplings(memories: Shaped[ArrayLike, "K N"], *, diagonal: bool = False) -> Float[Array, "N N"]:
    r"""Hebb's rule: \(T_{ij} = \sum_\mu \xi_i^\mu \xi_j^\mu\), with \(T_{ii} = 0\) unless ``diagonal``.

    The sum is not divided by N. For memories of signs the diagonal is K. With it T is positive semidefinite, so that
    synchronous updates never raise the energy, and every neuron has an additional field of K in favour of its state.

    >>> couplings(jnp.array([[1.0, -1.0, 1.0]])).tolist()
    [[0.0, -1.0, 1.0], [-1.0, 0.0, -1.0], [1.0, -1.0, 0.0]]

    Raises:
        InputError: when ``memories`` is not a matrix with at least one row.
    """
    memories = _rows(memories)
    return _without_diagonal(dot(memories.T, memories), diagonal)


def pseudo_inverse_couplings(
    memories: Shaped[ArrayLike, "K N"], *, diagonal: bool = True, cutoff: float | None = None
) -> Float[Array, "N N"]:
    r"""The projection onto the span of the memories: \(T = \Xi^+ \Xi\), with \(T_{ii} = 0\) unless ``diagonal``.

    Personnaz, Guyon and Dreyfus (1985), doi:10.1051/jphyslet:01985004608035900; Kanter and Sompolinsky (1987),
    doi:10.1103/PhysRevA.35.380. Every memory has the field \(T \xi = \xi\), and \((1 - T_{ii}) \xi_i\) without the
    diagonal: K <= N independent memories are fixed points. At K = N the projection is the identity, for which every
    state is a fixed point; without the diagonal all fields vanish.

    Args:
        memories: one memory in each row; repeated memories are allowed.
        diagonal: whether to keep the diagonal.
        cutoff: singular values up to this fraction of the largest are set to zero; None means max(K, N) eps.

    Raises:
        InputError: when ``memories`` is not a matrix with at least one row.
    """
    memories = _rows(memories)
    projection = dot(jnp.linalg.pinv(memories, rtol=cutoff), memories)
    return _without_diagonal((projection + projection.T) / 2, diagonal)


def field(
    state: Float[ArrayLike, "*batch N"],
    couplings: Float[ArrayLike, "N N"],
    bias: Float[ArrayLike, " N"] | None = None,
) -> Float[Array, "*batch N"]:
    r"""Local field of each neuron: \(h_i = \sum_j T_{ij} s_j + b_i = -\partial E / \partial s_i\).

    The update of Hopfield (1982) is its sign. A diagonal in ``couplings`` acts as a field \(T_{ii} s_i\). Arguments and
    errors are those of :func:`energy`.
    """
    state, couplings, bias = _network(state, couplings, bias)
    fields: Array = dot(state, couplings.T) + bias
    return fields


def energy(
    state: Float[ArrayLike, "*batch N"],
    couplings: Float[ArrayLike, "N N"],
    bias: Float[ArrayLike, " N"] | None = None,
) -> Float[Array, "*batch"]:
    r"""Energy of each state: \(E(s) = -\tfrac12 s^\top T s - b \cdot s\).

    >>> memory = jnp.array([1.0, -1.0, 1.0])
    >>> energy(memory, couplings(memory[None, :])).item()  # -(N^2 - N) / 2
    -3.0

    Args:
        state: -1 and 1, or any real numbers.
        couplings: T, a symmetric matrix.
        bias: b, one for each neuron; None is zero.

    Raises:
        InputError: for shapes that do not fit, and couplings that are not symmetric.
    """
    state, couplings, bias = _network(state, couplings, bias)
    return -jnp.sum(state * (dot(state, couplings) / 2 + bias), axis=-1)


def slide_energy(state: Float[ArrayLike, "*batch N"], couplings: Float[ArrayLike, "N N"]) -> Float[Array, "*batch"]:
    r"""Energy without the 1/2: \(E(s) = -\sum_{ij} s_i T_{ij} s_j\), twice :func:`energy`.

    Yang (2020), "Lyapunov (Energy) function". Of Hebb's couplings it is \(-\sum_\mu \langle \xi^\mu, s \rangle^2\)
    with the diagonal, and KN more without. Arguments and errors are those of :func:`energy`.
    """
    return 2 * energy(state, couplings)


def gradient(
    state: Float[ArrayLike, "*batch N"],
    couplings: Float[ArrayLike, "N N"],
    bias: Float[ArrayLike, " N"] | None = None,
) -> Float[Array, "*batch N"]:
    r"""Gradient of :func:`energy` over real states: \(-T s - b\); arguments and errors are those of :func:`energy`."""
    return -field(state, couplings, bias)


def flip_difference(
    state: Float[ArrayLike, "*batch N"],
    couplings: Float[ArrayLike, "N N"],
    bias: Float[ArrayLike, " N"] | None = None,
) -> Float[Array, "*batch N"]:
    r"""Change of :func:`energy` when each neuron alone is flipped, \(s_i \to -s_i\).

    .. math:: \Delta E_i = -\Delta s_i \Bigl(\sum_{j \ne i} T_{ij} s_j + b_i\Bigr), \qquad \Delta s_i = -2 s_i

    The diagonal does not matter, since \(s_i^2\) does not change. In the slides' convention the difference is twice
    this. Arguments and errors are those of :func:`energy`.
    """
    state, couplings, bias = _network(state, couplings, bias)
    change: Array = 2 * state * (dot(state, couplings) + bias - jnp.diagonal(couplings) * state)
    return change


@pytree
@dataclass(frozen=True, eq=False)
class Network(Memory):
    r"""The classical Hopfield network: signs, symmetric couplings and a bias (None is zero).

    The textbook memory: patterns are added into couplings by Hebb's rule, and can be taken out again. It holds few
    patterns, and pairs of opposites with them; the pseudo-inverse rule holds more, and cannot be changed bit by bit.

    .. math:: E(s) = -\tfrac12 s^\top T s - b \cdot s, \qquad s_i \leftarrow \operatorname{sign}\bigl((T s + b)_i\bigr)

    >>> from probam.dynamics.memories import recall
    >>> network = Network.store(jnp.array([[1.0, 1, 1, 1, -1, -1], [1.0, -1, 1, -1, 1, -1]]))
    >>> recalled = recall(network, jnp.array([-1.0, 1, 1, 1, -1, -1]))  # the first pattern with one error
    >>> recalled.energy.item()
    -12.0
    """

    couplings: Float[ArrayLike, "N N"]
    bias: Float[ArrayLike, " N"] | None = None

    card = Card(
        "hopfield",
        SIGNS,
        "-s' T s / 2 - b . s",
        "sign of the field T s + b, one neuron after the other",
        "0.138 N random patterns with few errors, N / (2 log N) without; pseudo-inverse: N - 1",
        "Hopfield (1982), doi:10.1073/pnas.79.8.2554",
        "capacity",
    )
    bank = "couplings"
    falls = False  # all neurons at once may go uphill; one after the other does not

    @property
    def num_neurons(self) -> int:
        """N."""
        return jnp.shape(self.couplings)[0]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of states and fields."""
        dtype: np.dtype[Any] = jnp.result_type(self.couplings, float)
        return dtype

    def start(self, _state: Float[Array, " N"], /) -> tuple[()]:
        """Nothing is stored between updates: a local field is one row times the state."""
        return ()

    def local(self, _kept: tuple[()], state: Float[Array, " N"], index: Int[Array, ""], /) -> Float[Array, ""]:
        """Field of one neuron."""
        drive: Array = jnp.dot(jnp.asarray(self.couplings)[index], state, precision="highest")
        return drive if self.bias is None else drive + jnp.asarray(self.bias)[index]

    def flip(self, kept: tuple[()], _index: Int[Array, ""], _change: Float[Array, ""], /) -> tuple[()]:
        """Nothing is stored."""
        return kept

    def fields(self, states: Float[Array, "*batch N"]) -> Float[Array, "*batch N"]:
        """Fields of all neurons."""
        return field(states, self.couplings, self.bias)

    def energy(self, states: Float[Array, "*batch N"]) -> Float[Array, "*batch"]:
        """:func:`energy` of each state."""
        return energy(states, self.couplings, self.bias)

    def update(self, states: Float[ArrayLike, "*batch N"]) -> Float[Array, "*batch N"]:
        """All neurons at once: the sign of the field; where it is zero a neuron stays."""
        force = field(states, self.couplings, self.bias)
        return jnp.where(force == 0, jnp.asarray(states, force.dtype), jnp.sign(force))

    def write(self, patterns: Float[ArrayLike, "K N"]) -> "Network":
        """The network after these patterns were added by Hebb's rule."""
        return replace(self, couplings=jnp.asarray(self.couplings) + couplings(checked_patterns(patterns, SIGNS)))

    def erase(self, patterns: Float[ArrayLike, "K N"]) -> "Network":
        """The network after these patterns were taken away, as Hebb's rule added them."""
        return replace(self, couplings=jnp.asarray(self.couplings) - couplings(checked_patterns(patterns, SIGNS)))

    @classmethod
    def store(cls, patterns: Float[ArrayLike, "K N"], *, rule: Rule = "hebb") -> "Network":
        """A network of these patterns of signs.

        Args:
            patterns: one in each row.
            rule: ``hebb``, or ``pseudo_inverse``; both without self-coupling.

        Raises:
            InputError: for another rule, and more patterns than it can store: N by Hebb's rule, for which already
                0.138 N random ones are too many, and N - 1 by the pseudo-inverse.
        """
        if rule not in get_args(Rule):
            raise InputError(f"rule: expected {' or '.join(get_args(Rule))}; got {rule!r}")
        most = jnp.shape(patterns)[-1] - (rule == "pseudo_inverse") if jnp.ndim(patterns) == 2 else None
        rows = checked_patterns(patterns, SIGNS, most=most, rule=f"the rule {rule}")
        return cls(couplings(rows) if rule == "hebb" else pseudo_inverse_couplings(rows, diagonal=False))


def _rows(memories: Shaped[ArrayLike, "K N"]) -> Float[Array, "K N"]:
    memories = jnp.asarray(memories)
    return points(memories if memories.ndim != 2 else memories[:1], memories)[1]


def _without_diagonal(matrix: Float[Array, "N N"], diagonal: bool) -> Float[Array, "N N"]:
    return matrix if diagonal else jnp.where(jnp.eye(len(matrix), dtype=bool), 0, matrix)


def _network(
    state: Float[ArrayLike, "*batch N"], couplings: Float[ArrayLike, "N N"], bias: Float[ArrayLike, " N"] | None
) -> tuple[Float[Array, "*batch N"], Float[Array, "N N"], Float[Array, " N"]]:
    """States, couplings and bias in one dtype, their shapes (and the symmetry of known couplings) checked."""
    state, couplings = points(state, couplings, "couplings")
    num_neurons = state.shape[-1]
    if len(couplings) != num_neurons:
        raise InputError(f"couplings: expected a square matrix (N, N); got shape {couplings.shape}")
    if not is_traced(couplings):
        known = np.asarray(couplings)
        gap, size = np.abs(known - known.T).max(), np.abs(known).max()
        if not gap <= _ASYMMETRY * np.finfo(known.dtype).eps * size:
            raise InputError(
                f"couplings: expected a finite symmetric matrix, T_ij = T_ji; got entries that differ by {gap:.3g}; "
                "without symmetry there is no energy"
            )
    if bias is None:
        return state, couplings, jnp.zeros(num_neurons, state.dtype)
    bias = jnp.asarray(bias, state.dtype)
    if bias.shape != (num_neurons,):
        raise InputError(f"bias: expected one for each of the {num_neurons} neurons; got shape {bias.shape}")
    return state, couplings, bias
