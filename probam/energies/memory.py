r"""What an associative memory is: states, an energy over them, and an update that recalls.

Every memory of :mod:`probam.energies` is a small frozen object, a pytree of its parameters, at the end of the file that
has its equations. :mod:`probam.energies.registry` lists them; :mod:`probam.dynamics.memories` recalls, completes and
finds basins and barriers of any of them; :func:`probam.equivalence.twin.twin` gives the density that one of them is.

A memory of your own is a subclass with an energy, an update, or both, made a pytree
(``examples/a_memory_of_your_own.py``). What it lacks is None, and a text says why.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Shaped

from probam.energies.arguments import is_traced
from probam.energies.conventions import convert
from probam.errors import InputError

__all__ = [
    "BITS",
    "COUNTS",
    "REAL",
    "SIGNS",
    "SIMPLEX",
    "TOKENS",
    "UNIT",
    "Alphabet",
    "Card",
    "Memory",
    "between",
    "checked_patterns",
    "sharpness",
]

Rows = Callable[[Any], Array]
"""A function of states, shape (..., *shape)."""

_APART = 8.0
"""Log of the least odds of a pattern against another, where it is stored."""

_CLOSE = 1e-6
"""How far the length of a unit vector or the sum of a composition may be from 1."""


@dataclass(frozen=True)
class Alphabet:
    """The values that states may have."""

    name: str
    rule: str
    """What is expected, for messages."""
    remedy: str
    """What to do with other values."""
    allows: Callable[[np.ndarray], Bool[np.ndarray, " Q"]]
    """Which rows, of any number of axes after the first, have such values."""

    def check(self, name: str, rows: Shaped[np.ndarray, "Q *shape"]) -> None:
        """Raise :class:`probam.errors.InputError` where a row has other values; ``name`` is what messages call them."""
        bad = np.flatnonzero(~self.allows(rows))
        if bad.size:
            values = ", ".join(f"{value:g}" for value in rows[bad[0]].reshape(-1)[:4])
            dots = ", ..." if rows[bad[0]].size > 4 else ""
            raise InputError(f"{name}: expected {self.rule}; row {bad[0]} has {values}{dots}; {self.remedy}")


def _all(rows: Bool[np.ndarray, "Q *shape"]) -> Bool[np.ndarray, " Q"]:
    return np.asarray(rows.reshape(len(rows), -1).all(axis=1))


def between(low: float, high: float, name: str = "values in between") -> Alphabet:
    """States of a cube, whose corners are the data: every entry from ``low`` to ``high``."""
    return Alphabet(
        name,
        f"values from {low:g} to {high:g}",
        "rescale the values, or choose a memory of real states",
        lambda rows: _all((rows >= low) & (rows <= high)),
    )


REAL = Alphabet("real", "finite numbers", "drop or impute the rows", lambda rows: _all(np.isfinite(rows)))
"""Points of R^D."""

UNIT = Alphabet(
    "unit vectors",
    "rows of length 1",
    "divide each row by its length (--normalise)",
    lambda rows: np.abs(np.linalg.norm(rows.reshape(len(rows), -1), axis=1) - 1) <= _CLOSE,
)
"""Directions: points of the unit sphere."""

SIGNS = Alphabet(
    "signs",
    "-1 and 1 only",
    "2 b - 1 turns bits b into signs (--threshold turns numbers into signs)",
    lambda rows: _all(np.abs(rows) == 1),
)
"""-1 and 1."""

BITS = Alphabet(
    "bits",
    "0 and 1 only",
    "(s + 1) / 2 turns signs s into bits (--threshold turns numbers into bits)",
    lambda rows: _all((rows == 0) | (rows == 1)),
)
"""0 and 1."""

COUNTS = Alphabet(
    "counts",
    "finite counts of at least 0",
    "drop or correct the rows",
    lambda rows: _all(np.isfinite(rows) & (rows >= 0)),
)
"""Counts; between whole numbers the factorial is a Gamma function."""

SIMPLEX = Alphabet(
    "compositions",
    "parts of at least 0 with the sum 1",
    "divide each row by its sum",
    lambda rows: _all(rows >= 0) & (np.abs(rows.reshape(len(rows), -1).sum(axis=1) - 1) <= _CLOSE),
)
"""Parts of a whole."""

TOKENS = Alphabet("sequences of tokens", REAL.rule, REAL.remedy, REAL.allows)
"""Real states of shape (N, D)."""


@dataclass(frozen=True)
class Card:
    """What a list of memories says of one of them, in plain words."""

    name: str
    states: Alphabet
    energy: str
    update: str
    capacity: str
    source: str
    experiment: str = ""
    """Name of the experiment that measures it."""


class Memory:
    """An associative memory: a frozen dataclass and pytree, whose fields are its parameters.

    ``energy`` and ``update`` take states of shape (..., *shape) and are None where there is none: ``no_energy`` and
    ``no_update`` then say why. Without an update recall follows the gradient of the energy, unless ``still`` is the
    reason why nothing moves. ``store`` makes a memory of patterns, ``write`` and ``erase`` give the memory with
    patterns added or taken away.
    """

    card: ClassVar[Card]
    bank: ClassVar[str] = "memories"
    """The field with one row for each memory."""

    energy: Rows | None = None
    update: Rows | None = None
    keep: Rows | None = None
    """Maps points to states (to the sphere, into a cube); None where every point is a state."""
    store: ClassVar[Callable[..., "Memory"] | None] = None
    write: Callable[[Any], "Memory"] | None = None
    erase: Callable[[Any], "Memory"] | None = None

    no_energy: ClassVar[str] = ""
    no_update: ClassVar[str] = ""
    no_store: ClassVar[str] = ""
    still: ClassVar[str] = ""
    settles: ClassVar[bool] = True
    """Whether recall is meant to end at a fixed point; a sequence moves on, and others answer by one update."""

    @property
    def falls(self) -> bool:
        """Whether no update raises the energy."""
        return self.energy is not None and self.update is not None

    @property
    def separable(self) -> bool:
        """Whether each coordinate of the update lowers the energy alone, so that others may be clamped."""
        return False

    @property
    def alphabet(self) -> Alphabet:
        """The values of states."""
        return self.card.states

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one state."""
        return tuple(jnp.shape(getattr(self, self.bank))[1:])

    def check(self, states: Shaped[ArrayLike, "..."], name: str = "queries") -> Float[Array, "..."]:
        """The states as floating numbers.

        Args:
            states: any number of them, shape (..., *shape).
            name: what messages call them.

        Raises:
            InputError: for another shape, and for known values outside the alphabet.
        """
        array = jnp.asarray(states)
        array = array.astype(jnp.result_type(array, float))
        shape = self.shape
        if array.shape[array.ndim - len(shape) :] != shape or array.ndim < len(shape):
            expected = ", ".join(["...", *map(str, shape)])
            raise InputError(
                f"{name}: expected shape ({expected}), as the memory's states have; got {array.shape}; "
                "take the same columns as the patterns have"
            )
        if not is_traced(array):
            self.alphabet.check(name, np.asarray(array).reshape(-1, *shape))
        return array


def checked_patterns(
    patterns: Shaped[ArrayLike, "..."], alphabet: Alphabet, *, most: int | None = None, rule: str = ""
) -> Float[Array, "K D"]:
    """Patterns to store, as floating rows.

    Args:
        patterns: one in each row.
        alphabet: the values that they may have.
        most: largest number that the rule can store; None where there is no such number.
        rule: the name of the rule in messages.

    Raises:
        InputError: for another shape than (K, D), values outside the alphabet, and more patterns than can be stored.
    """
    array = jnp.asarray(patterns)
    if array.ndim != 2 or 0 in array.shape:
        raise InputError(
            f"patterns: expected shape (K, D), one pattern in each row; got {array.shape}; "
            "flatten each pattern (x.reshape(len(x), -1))"
        )
    array = array.astype(jnp.result_type(array, float))
    if not is_traced(array):
        alphabet.check("patterns", np.asarray(array))
    if most is not None and len(array) > most:
        raise InputError(
            f"patterns: {rule} can store {most} patterns of {array.shape[1]} numbers; got {len(array)}; "
            "store fewer, or take another memory (`probam memory list`)"
        )
    return array


def sharpness(
    patterns: Float[ArrayLike, "K D"], given: float | None, convention: str = "clam", power: float = 2
) -> float:
    r"""The inverse temperature that is given or, for None, one at which patterns are told apart.

    .. math:: \beta = 8 / \min_{\mu \ne \nu} |\xi_\mu - \xi_\nu|^p

    With the kernel \(e^{-\beta |v - \mu|^p}\) the share of another pattern at a pattern is at most \(e^{-8}\) of its
    own. Equal patterns do not count; with one pattern, or only equal ones, the distance is taken as 1.

    Args:
        patterns: one in each row.
        given: the value that was asked for.
        convention: that of the result, a name of :data:`probam.energies.conventions.CONVENTIONS`; p is then 2.
        power: p, of Euclidean distances.
    """
    if given is not None:
        return float(given)
    rows = np.asarray(patterns, np.float64)
    nearest = np.inf
    for i in range(1, len(rows)):
        square = ((rows[:i] - rows[i]) ** 2).sum(axis=1)
        nearest = min(nearest, square[square > 0].min(initial=np.inf))
    beta = _APART / nearest ** (power / 2) if np.isfinite(nearest) else _APART
    return float(np.asarray(convert(beta, "clam", convention)))
