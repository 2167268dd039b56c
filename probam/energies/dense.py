r"""Dense associative memories: energies that sum a steep function of the overlaps.

.. math:: E(s) = -\sum_\mu F(\langle \xi^\mu, s \rangle), \qquad s \in \{-1, 1\}^N

with \(F(x) = x^n\) (:class:`Polynomial`, rectified at zero or plain; Krotov and Hopfield 2016, arXiv:1606.01164) or
\(F(x) = e^{\beta x}\) (:class:`Exponential`; Demircigil et al. 2017, arXiv:1702.01929, have beta = 1). Plain n = 2 is
twice the classical network of :mod:`probam.energies.hopfield` with its diagonal kept.

Two different rules set a neuron to the sign of a field:

* the *difference* rule of 2016 compares the energies of the two states of the neuron
  (:func:`difference_field`). Updates of one neuron at a time never raise the energy, whatever F;
* the *derivative* rule, the limit of the two-layer network, uses \(\sum_\mu \xi_i^\mu F'(\langle \xi^\mu, s \rangle)\)
  (:func:`derivative_field`). If F is convex, no update raises the energy, neither of one neuron nor of all at once;
  plain powers of odd n are not convex. At n = 2 it includes the self-coupling \(K s_i\), which the difference rule
  leaves out.

States have shape (..., N), memories (K, N). Bad shapes and values raise :class:`probam.errors.InputError`.
Signal, noise and capacity are in :mod:`probam.energies.crosstalk`.
"""

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from probam.energies.arguments import Scalar, check_signs, points, positive
from probam.energies.memory import SIGNS, Card, Memory, checked_patterns
from probam.energies.wells import dot
from probam.errors import InputError
from probam.pytrees import pytree

__all__ = [
    "Exponential",
    "Network",
    "Polynomial",
    "Separation",
    "derivative_field",
    "difference_field",
    "energy",
    "flip_difference",
    "gradient",
    "log_depth",
]


@runtime_checkable
class Separation(Protocol):
    """The function F of an overlap: a pytree, so that networks can be arguments of compiled functions."""

    def __call__(self, x: Float[Array, "*any"]) -> Float[Array, "*any"]:
        """F(x)."""

    def derivative(self, x: Float[Array, "*any"]) -> Float[Array, "*any"]:
        """F'(x)."""

    def scaled(
        self, x: Float[Array, "*any"], axis: int | tuple[int, ...]
    ) -> tuple[Float[Array, "*any"], Float[Array, "..."]]:
        """F(x) / c and log c, with one c > 0 along ``axis`` that prevents overflow; log c keeps this axis."""

    def scaled_derivative(self, x: Float[Array, "*any"], axis: int | tuple[int, ...]) -> Float[Array, "*any"]:
        """F'(x) / c with one c > 0 along ``axis`` that prevents overflow."""


@pytree
@dataclass(frozen=True)
class Polynomial:
    r"""\(F_n(x) = x^n\); rectified, \(F_n(x) = 0\) for x < 0.

    Rectified powers are convex, and break the symmetry s -> -s of the plain even ones. The derivative of a rectified
    power at 0 is the one from below, 0.

    Args:
        degree: n, a whole number of at least 1.
        rectified: whether F is zero at negative overlaps.

    Raises:
        InputError: for any other degree.
    """

    degree: int = field(metadata={"static": True})
    rectified: bool = field(default=True, metadata={"static": True})

    def __post_init__(self) -> None:
        if not isinstance(self.degree, int) or self.degree < 1:
            raise InputError(f"degree: expected a whole number n >= 1; got {self.degree!r}")

    def __call__(self, x: Float[Array, "*any"]) -> Float[Array, "*any"]:
        """F_n(x)."""
        return self._kept(x, jax.lax.integer_pow(x, self.degree))

    def derivative(self, x: Float[Array, "*any"]) -> Float[Array, "*any"]:
        """n x^(n-1)."""
        return self._kept(x, self.degree * jax.lax.integer_pow(x, self.degree - 1))

    def scaled(
        self, x: Float[Array, "*any"], axis: int | tuple[int, ...]
    ) -> tuple[Float[Array, "*any"], Float[Array, "..."]]:
        """Scaled by the power of two above the largest |x|, so that whole overlaps stay exact."""
        x, exponent = _scaled_by_a_power_of_two(x, axis)
        return self(x), self.degree * exponent * np.log(2).astype(x.dtype)

    def scaled_derivative(self, x: Float[Array, "*any"], axis: int | tuple[int, ...]) -> Float[Array, "*any"]:
        """Scaled by the power of two above the largest |x|."""
        return self.derivative(_scaled_by_a_power_of_two(x, axis)[0])

    def _kept(self, x: Float[Array, "*any"], power: Float[Array, "*any"]) -> Float[Array, "*any"]:
        return jnp.where(x > 0, power, 0) if self.rectified else power


@pytree
@dataclass(frozen=True)
class Exponential:
    r"""\(F(x) = e^{\beta x}\), beta > 0.

    It overflows where \(\beta x\) exceeds 709 (88 in float32); compare such energies by :func:`log_depth`. The fields
    of this module are scaled and do not overflow.
    """

    beta: Scalar = 1.0

    def __call__(self, x: Float[Array, "*any"]) -> Float[Array, "*any"]:
        """exp(beta x)."""
        return jnp.exp(positive("beta", self.beta, x.dtype) * x)

    def derivative(self, x: Float[Array, "*any"]) -> Float[Array, "*any"]:
        """beta exp(beta x)."""
        return positive("beta", self.beta, x.dtype) * self(x)

    def scaled(
        self, x: Float[Array, "*any"], axis: int | tuple[int, ...]
    ) -> tuple[Float[Array, "*any"], Float[Array, "..."]]:
        """Scaled by the value at the largest x."""
        beta = positive("beta", self.beta, x.dtype)
        largest = jax.lax.stop_gradient(jnp.max(x, axis=axis, keepdims=True))
        return jnp.exp(beta * (x - largest)), beta * largest

    def scaled_derivative(self, x: Float[Array, "*any"], axis: int | tuple[int, ...]) -> Float[Array, "*any"]:
        """Scaled by the derivative at the largest x."""
        return self.scaled(x, axis)[0]


def energy(
    state: Float[ArrayLike, "*batch N"], memories: Float[ArrayLike, "K N"], separation: Separation
) -> Float[Array, "*batch"]:
    r"""Energy of each state: \(E(s) = -\sum_\mu F(\langle \xi^\mu, s \rangle)\).

    >>> memories = jnp.array([[1.0, 1.0, -1.0], [1.0, -1.0, 1.0]])
    >>> energy(memories[0], memories, Polynomial(3)).item()  # overlaps 3 and -1
    -27.0

    Args:
        state: -1 and 1, or any real numbers.
        memories: one memory in each row.
        separation: F, a :class:`Polynomial` or :class:`Exponential`.

    Raises:
        InputError: for shapes that do not fit.
    """
    state, memories = points(state, memories)
    return -jnp.sum(separation(dot(state, memories.T)), axis=-1)


def log_depth(
    state: Float[ArrayLike, "*batch N"], memories: Float[ArrayLike, "K N"], separation: Separation
) -> Float[Array, "*batch"]:
    r"""Log of the depth: \(\log(-E(s)) = \log \sum_\mu F(\langle \xi^\mu, s \rangle)\), without overflow.

    For the exponential memory it is \({\rm lse}_\mu\, \beta \langle \xi^\mu, s \rangle\). It is -inf where E(s) = 0.
    Arguments are those of :func:`energy`.

    Raises:
        InputError: for shapes that do not fit, and for plain powers of odd n, whose energies have both signs.
    """
    if isinstance(separation, Polynomial) and separation.degree % 2 and not separation.rectified:
        raise InputError("separation: expected F(x) >= 0; a plain power of odd n has no log; use rectified=True")
    state, memories = points(state, memories)
    terms, log_scale = separation.scaled(dot(state, memories.T), -1)
    total = jnp.sum(terms, axis=-1)
    return jnp.where(total > 0, jnp.log(jnp.where(total > 0, total, 1)) + log_scale[..., 0], -jnp.inf)


def gradient(
    state: Float[ArrayLike, "*batch N"], memories: Float[ArrayLike, "K N"], separation: Separation
) -> Float[Array, "*batch N"]:
    r"""Gradient over real states: \(\nabla E(s) = -\sum_\mu F'(\langle \xi^\mu, s \rangle)\, \xi^\mu\).

    Arguments and errors are those of :func:`energy`.
    """
    state, memories = points(state, memories)
    return -dot(separation.derivative(dot(state, memories.T)), memories)


def derivative_field(
    state: Float[ArrayLike, "*batch N"], memories: Float[ArrayLike, "K N"], separation: Separation
) -> Float[Array, "*batch N"]:
    r"""Field of the derivative rule, \(\sum_\mu \xi_i^\mu F'(\langle \xi^\mu, s \rangle)\), up to a positive factor.

    It is minus :func:`gradient`, divided by a positive number common to all neurons of a state to prevent overflow.
    Krotov and Hopfield (2020), arXiv:2008.06996, limit of fast hidden neurons. Arguments and errors are those of
    :func:`energy`.
    """
    state, memories = points(state, memories)
    return dot(separation.scaled_derivative(dot(state, memories.T), -1), memories)


def difference_field(
    state: Float[ArrayLike, "*batch N"], memories: Float[ArrayLike, "K N"], separation: Separation
) -> Float[Array, "*batch N"]:
    r"""Field of the difference rule, \(E(s_i = -1) - E(s_i = 1)\), up to a positive factor.

    .. math:: \sum_\mu \Bigl[F\bigl(\xi_i^\mu + \textstyle\sum_{j \ne i} \xi_j^\mu s_j\bigr) -
              F\bigl(-\xi_i^\mu + \textstyle\sum_{j \ne i} \xi_j^\mu s_j\bigr)\Bigr]

    Krotov and Hopfield (2016), Eq. 4, divided by a positive number common to all neurons of a state. For states and
    memories of signs the field is one matrix product: with overlaps m it is
    \(\sum_\mu \xi_i^\mu A_\mu + s_i \sum_\mu B_\mu\), where
    \(2 A = F(m + 2) - F(m - 2)\) and \(2 B = 2 F(m) - F(m + 2) - F(m - 2)\).

    Raises:
        InputError: for shapes that do not fit, and values other than -1 and 1. :class:`Network` accepts real memories,
            one neuron at a time.
    """
    state, memories = _signs(state, memories)
    return _difference(state, memories, separation.scaled(_raised_and_lowered(state, memories), (0, -1))[0])


def flip_difference(
    state: Float[ArrayLike, "*batch N"], memories: Float[ArrayLike, "K N"], separation: Separation
) -> Float[Array, "*batch N"]:
    r"""Change of :func:`energy` when each neuron alone is flipped, \(s_i \to -s_i\); for signs only.

    It is \(s_i\) times the unscaled :func:`difference_field`. At a stored memory it is signal plus crosstalk
    (:mod:`probam.energies.crosstalk`). Errors are those of :func:`difference_field`.
    """
    state, memories = _signs(state, memories)
    return state * _difference(state, memories, separation(_raised_and_lowered(state, memories)))


@pytree
@dataclass(frozen=True, eq=False)
class Network(Memory):
    r"""Dense associative memory: binary neurons, and a steep function of the overlaps.

    Far more patterns than the classical network: about N^(n-1) for the power n, and exponentially many for the
    exponential. The patterns themselves are kept.

    .. math:: E(s) = -\sum_\mu F(\langle \xi^\mu, s \rangle), \qquad F(x) = x^n \text{ or } e^{\beta x}

    Args:
        memories: signs; for updates of one neuron at a time, any real numbers.
        separation: F.
        rule: "difference" (2016) or "derivative".

    Raises:
        InputError: for another rule.

    >>> from probam.dynamics.memories import recall
    >>> xor = jnp.array([[-1.0, -1, -1], [-1, 1, 1], [1, -1, 1], [1, 1, -1]])
    >>> network = Network.store(xor, degree=3)  # four patterns in three neurons
    >>> recalled = recall(network, jnp.array([1.0, 1, -1]))
    >>> recalled.energy.item()
    -27.0
    """

    memories: Float[ArrayLike, "K N"]
    separation: Separation
    rule: Literal["difference", "derivative"] = field(default="difference", metadata={"static": True})

    card = Card(
        "dense",
        SIGNS,
        "-sum_mu F(xi_mu . s), F a power or an exponential",
        "sign of E(s_i = -1) - E(s_i = 1), one neuron after the other",
        "N^(n-1) / (2 (2n - 3)!! log N) for the power n; about 2^(N/2) for the exponential",
        "Krotov and Hopfield (2016), arXiv:1606.01164; Demircigil et al. (2017), arXiv:1702.01929",
        "dense_capacity",
    )

    def __post_init__(self) -> None:
        if self.rule not in ("difference", "derivative"):
            raise InputError(f"rule: expected 'difference' or 'derivative'; got {self.rule!r}")

    @property
    def num_neurons(self) -> int:
        """N."""
        return jnp.shape(self.memories)[1]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of states and fields."""
        dtype: np.dtype[Any] = jnp.result_type(self.memories, float)
        return dtype

    def start(self, state: Float[Array, " N"]) -> Float[Array, " K"]:
        """The overlaps, which are updated after each change of a neuron."""
        return jnp.matmul(self.memories, state, precision="highest")

    def local(self, kept: Float[Array, " K"], state: Float[Array, " N"], index: Int[Array, ""]) -> Float[Array, ""]:
        """Field of one neuron."""
        column = jnp.asarray(self.memories)[:, index]
        if self.rule == "derivative":
            return jnp.sum(column * self.separation.scaled_derivative(kept, -1))
        others = kept - column * state[index]
        up, down = self.separation.scaled(jnp.stack([others + column, others - column]), (0, 1))[0]
        return jnp.sum(up - down)

    def flip(self, kept: Float[Array, " K"], index: Int[Array, ""], change: Float[Array, ""]) -> Float[Array, " K"]:
        """Overlaps after a neuron changed by ``change``."""
        return kept + change * jnp.asarray(self.memories)[:, index]

    def fields(self, states: Float[Array, "*batch N"]) -> Float[Array, "*batch N"]:
        """Fields of all neurons."""
        rule = derivative_field if self.rule == "derivative" else difference_field
        return rule(states, self.memories, self.separation)

    @property
    def falls(self) -> bool:
        """Whether all neurons at once never go uphill: by the derivative rule, where F is known to be convex."""
        f = self.separation
        is_convex = isinstance(f, Exponential) or (isinstance(f, Polynomial) and (f.rectified or f.degree % 2 == 0))
        return self.rule == "derivative" and is_convex

    def energy(self, states: Float[Array, "*batch N"]) -> Float[Array, "*batch"]:
        """:func:`energy` of each state."""
        return energy(states, self.memories, self.separation)

    def update(self, states: Float[ArrayLike, "*batch N"]) -> Float[Array, "*batch N"]:
        """All neurons at once: the sign of the field; where it is zero a neuron stays."""
        states = jnp.asarray(states, self.dtype)
        force = self.fields(states)
        return jnp.where(force == 0, states, jnp.sign(force))

    @classmethod
    def store(
        cls,
        patterns: Float[ArrayLike, "K N"],
        *,
        degree: int = 3,
        beta: float | None = None,
        rule: Literal["difference", "derivative"] = "difference",
    ) -> "Network":
        """A network of these patterns of signs, with rectified powers or, given ``beta``, an exponential."""
        separation = Polynomial(degree) if beta is None else Exponential(beta)
        return cls(checked_patterns(patterns, SIGNS), separation, rule)


def _signs(
    state: Float[ArrayLike, "*batch N"], memories: Float[ArrayLike, "K N"]
) -> tuple[Float[Array, "*batch N"], Float[Array, "K N"]]:
    check_signs("state", state)
    check_signs("memories", memories)
    return points(state, memories)


def _raised_and_lowered(state: Float[Array, "*batch N"], memories: Float[Array, "K N"]) -> Float[Array, "3 *batch K"]:
    """Overlaps m + 2, m and m - 2: the present one and those after one flip."""
    overlaps = dot(state, memories.T)
    return jnp.stack([overlaps + 2, overlaps, overlaps - 2])


def _difference(
    state: Float[Array, "*batch N"], memories: Float[Array, "K N"], values: Float[Array, "3 *batch K"]
) -> Float[Array, "*batch N"]:
    """E(s_i = -1) - E(s_i = 1) of every neuron, from F at the raised, present and lowered overlaps."""
    raised, present, lowered = values
    own = jnp.sum(present - (raised + lowered) / 2, axis=-1, keepdims=True)
    return dot((raised - lowered) / 2, memories) + state * own


def _scaled_by_a_power_of_two(
    x: Float[Array, "*any"], axis: int | tuple[int, ...]
) -> tuple[Float[Array, "*any"], Int[Array, "..."]]:
    """x / 2^e and e, where 2^e is the least power of two above all |x| along the axis (e = 0 if they vanish)."""
    largest = jnp.max(jnp.abs(jax.lax.stop_gradient(x)), axis=axis, keepdims=True)
    exponent = jnp.frexp(largest)[1]
    return jnp.ldexp(x, -exponent), exponent
