r"""Separations: functions that increase the differences between the scores of a universal Hopfield network.

Each is a small object with two functions of the scores s, shape (..., K), where larger means more similar:

* calling it returns sep(s) itself (Table 3 of Millidge et al. 2022, arXiv:2202.04557);
* ``shares`` returns sep(s) / sum sep(s), as in the paper's Appendix E, including the limits: infinite values share the
  whole equally, and so do scores that are all zero.

Softmax uses \(e^{+\beta s}\), since scores grow with similarity (Table 3 prints \(e^{-\beta x}\), for raw distances).
Max is one-hot, and exact ties share (Table 3 prints the largest score itself). :data:`PRINTED` has the printed forms.
For softmax, max and top-k both functions are the same.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from probam.energies.arguments import Scalar, is_traced, positive
from probam.errors import InputError
from probam.pytrees import pytree

__all__ = [
    "PRINTED",
    "Identity",
    "Log",
    "Max",
    "Polynomial",
    "Separation",
    "Softmax",
    "Square",
    "Threshold",
    "TopK",
    "sum_to_one",
]

Scores = Float[Array, "*batch K"]


@runtime_checkable
class Separation(Protocol):
    """A function of scores, and its normalised form."""

    def __call__(self, scores: Scores) -> Scores:
        """The function itself, sep(s)."""

    def shares(self, scores: Scores) -> Scores:
        """The function divided by its sum, sep(s) / sum sep(s), including the limits."""


def sum_to_one(values: Scores) -> Scores:
    """Values divided by their sum; infinite values share equally, and so do values that are all zero.

    For other values with a sum of zero there is no limit, and the result is not finite.
    """
    infinite = jnp.isinf(values)
    values = jnp.where(jnp.any(infinite, axis=-1, keepdims=True), infinite, values)
    values = jnp.where(jnp.all(values == 0, axis=-1, keepdims=True), 1, values)
    return values / jnp.sum(values, axis=-1, keepdims=True)


def _gap(scores: Scores) -> Scores:
    """Scores relative to the largest; zero for ties at infinity."""
    top = jax.lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True))
    level = scores == top
    return jnp.where(level, jnp.where(jnp.isinf(scores), 0, scores) - jnp.where(jnp.isinf(top), 0, top), scores - top)


@jax.tree_util.register_static
@dataclass(frozen=True)
class Polynomial:
    r"""\(s^n\) with a whole number n >= 1 (else :class:`probam.errors.InputError`); even powers lose the sign."""

    n: int

    def __post_init__(self) -> None:
        if isinstance(self.n, bool) or not isinstance(self.n, int) or self.n < 1:
            raise InputError(f"n: expected a whole number of at least 1; got {self.n!r}")

    def __call__(self, scores: Scores) -> Scores:
        """The power."""
        return scores**self.n

    def shares(self, scores: Scores) -> Scores:
        """Powers divided by their sum; scores are first scaled to a largest of one, so that nothing overflows."""
        infinite = jnp.isinf(scores)
        scores = jnp.where(jnp.any(infinite, axis=-1, keepdims=True), jnp.where(infinite, jnp.sign(scores), 0), scores)
        largest = jax.lax.stop_gradient(jnp.max(jnp.abs(scores), axis=-1, keepdims=True))
        return sum_to_one((scores / jnp.where(largest > 0, largest, 1)) ** self.n)


@jax.tree_util.register_static
class Identity(Polynomial):
    """The scores themselves: the classical network."""

    def __init__(self) -> None:
        super().__init__(1)


@jax.tree_util.register_static
class Square(Polynomial):
    """The squares of the scores."""

    def __init__(self) -> None:
        super().__init__(2)


@jax.tree_util.register_static
@dataclass(frozen=True)
class Log:
    """The log of the scores, which must not be negative (else :class:`probam.errors.InputError`).

    The logs of scores below one (Appendix E) are negative, and dividing by their sum reverses the ranking: the least
    similar memory gets the largest share, an exact match none.
    """

    def __call__(self, scores: Scores) -> Scores:
        """The log."""
        if not is_traced(scores):
            known = np.asarray(scores)
            if not (known >= 0).all():
                raise InputError(
                    f"scores: the log separation needs scores of at least 0; got {known[~(known >= 0)].flat[0]} "
                    "(minus a distance is negative: use Appendix E's normalised scores)"
                )
        return jnp.log(scores)

    def shares(self, scores: Scores) -> Scores:
        """Logs over their sum."""
        return sum_to_one(self(scores))


@pytree
@dataclass(frozen=True)
class Softmax:
    r"""\(e^{\beta s_k} / \sum_j e^{\beta s_j}\) with beta > 0; it tends to max as beta grows."""

    beta: Scalar

    def __call__(self, scores: Scores) -> Scores:
        """The shares."""
        return self.shares(scores)

    def shares(self, scores: Scores) -> Scores:
        """The softmax; scores of plus infinity share the whole, and so do scores that are all minus infinity."""
        beta = positive("beta", self.beta, scores.dtype)
        gap = _gap(scores)
        gone = jnp.isinf(gap)
        height = jnp.where(gone, 0, jnp.exp(beta * jnp.where(gone, 0, gap)))
        return height / jnp.sum(height, axis=-1, keepdims=True)


@jax.tree_util.register_static
@dataclass(frozen=True)
class Max:
    """One for the largest score, zero elsewhere; exact ties share."""

    def __call__(self, scores: Scores) -> Scores:
        """The shares."""
        return self.shares(scores)

    def shares(self, scores: Scores) -> Scores:
        """One-hot."""
        best = (scores == jnp.max(scores, axis=-1, keepdims=True)).astype(scores.dtype)
        return best / jnp.sum(best, axis=-1, keepdims=True)


@pytree
@dataclass(frozen=True)
class Threshold:
    """One for scores of at least ``least``, zero elsewhere.

    With minus the Hamming distance and least = -r this reads a sparse distributed memory, where the addresses *within*
    radius r are active. The shares are all zero where none is.
    """

    least: Scalar

    def __call__(self, scores: Scores) -> Scores:
        """One or zero."""
        return (scores >= self.least).astype(scores.dtype)

    def shares(self, scores: Scores) -> Scores:
        """Equal shares for scores of at least ``least``."""
        active = self(scores)
        return active / jnp.maximum(jnp.sum(active, axis=-1, keepdims=True), 1)


@jax.tree_util.register_static
@dataclass(frozen=True)
class TopK:
    """1/k for the k largest scores; scores that tie for the last places share them. k = 1 is :class:`Max`."""

    k: int

    def __post_init__(self) -> None:
        if isinstance(self.k, bool) or not isinstance(self.k, int) or self.k < 1:
            raise InputError(f"k: expected a whole number of at least 1; got {self.k!r}")

    def __call__(self, scores: Scores) -> Scores:
        """The shares."""
        return self.shares(scores)

    def shares(self, scores: Scores) -> Scores:
        """Equal shares for the k largest scores (for all, where there are fewer than k)."""
        k = min(self.k, scores.shape[-1])
        last = jax.lax.top_k(scores, k)[0][..., -1:]
        above = (scores > last).astype(scores.dtype)
        level = (scores == last).astype(scores.dtype)
        left = k - jnp.sum(above, axis=-1, keepdims=True)
        return (above + level * left / jnp.sum(level, axis=-1, keepdims=True)) / k


def _printed_softmax(x: ArrayLike, beta: float | Array) -> Array:
    return jax.nn.softmax(-beta * jnp.asarray(x), axis=-1)


def _printed_max(x: ArrayLike, _: float | Array) -> Array:
    x = jnp.asarray(x)
    return jnp.broadcast_to(jnp.max(x, axis=-1, keepdims=True), x.shape)


PRINTED: Mapping[str, Callable[[ArrayLike, float | Array], Array]] = MappingProxyType(
    {
        "identity": lambda x, _: jnp.asarray(x),
        "square": lambda x, _: jnp.asarray(x) ** 2,
        "polynomial": lambda x, n: jnp.asarray(x) ** n,
        "log": lambda x, _: jnp.log(jnp.asarray(x)),
        "softmax": _printed_softmax,
        "max": _printed_max,
    }
)
"""Table 3 of Millidge et al. (2022) exactly as printed, for comparison; functions of the scores and a parameter."""
