"""Checks of the arguments of an energy: shapes always, values where they are known.

Under ``jit``, ``vmap`` and ``grad`` the values are not known yet; the checks then look at shapes only.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Shaped

from probam.errors import InputError

__all__ = [
    "Logs",
    "Scalar",
    "Weights",
    "check_counts",
    "check_signs",
    "is_traced",
    "log_weights",
    "points",
    "positive",
    "random_key",
]

Scalar = float | Float[ArrayLike, ""]
"""A number or a rank-zero array."""


class Logs(NamedTuple):
    """Logs of weights, for weights outside the range of floating point.

    Spherical memories of concentration 1e4 and 10 side by side, or determinants in many dimensions, need weights such
    as exp(-9990). Every energy accepts ``Logs(log_w)`` as its ``weights``.
    """

    values: Float[ArrayLike, " K"]


Weights = Float[ArrayLike, " K"] | Logs
"""Weights of the memories, or their logs."""


def is_traced(value: object) -> bool:
    """Whether ``value`` is a tracer, a number that is not known yet (inside a JAX transformation)."""
    return isinstance(value, jax.core.Tracer)


def points(
    query: Shaped[ArrayLike, "*batch D"],
    memories: Shaped[ArrayLike, "K D"],
    name: str = "memories",
    *,
    empty: bool = False,
) -> tuple[Float[Array, "*batch D"], Float[Array, "K D"]]:
    """The queries and the memories as floating arrays of one dtype.

    Args:
        query: points, with any number of leading axes.
        memories: one memory in each row.
        name: the name of ``memories`` in error messages.
        empty: whether K = 0 is allowed, for energies that are defined without memories.

    Raises:
        InputError: when ``memories`` is not a matrix with K >= 1 rows, or the last axis of ``query`` is not D long.
    """
    memories, query = jnp.asarray(memories), jnp.asarray(query)
    if memories.ndim != 2 or memories.shape[1] == 0 or (memories.shape[0] == 0 and not empty):
        raise InputError(f"{name}: expected shape (K, D), one row per memory; got {memories.shape}")
    if query.ndim == 0 or query.shape[-1] != memories.shape[1]:
        raise InputError(
            f"query: expected shape (..., {memories.shape[1]}), as many coordinates as {name} have; got {query.shape}"
        )
    dtype = jnp.result_type(query, memories, float)
    return query.astype(dtype), memories.astype(dtype)


def positive(
    name: str, value: ArrayLike, dtype: jnp.dtype, shape: tuple[int, ...] = (), *, zero: bool = False
) -> Float[Array, "..."]:
    """``value`` as a finite, positive array of the given dtype and shape.

    Args:
        name: the argument's name in error messages.
        value: a number or an array of exactly this shape; nothing is broadcast.
        dtype: the dtype of the result.
        shape: the expected shape, by default that of a single number.
        zero: whether 0 is allowed too.

    Raises:
        InputError: for another shape, and for known values that are not finite or not positive.
    """
    array = jnp.asarray(value, dtype)
    if array.shape != shape:
        raise InputError(f"{name}: expected shape {shape}; got {array.shape}")
    if not is_traced(array):
        known = np.asarray(array)
        good = np.isfinite(known) & ((known >= 0) if zero else (known > 0))
        if not good.all():
            bound = "at least 0" if zero else "above 0"
            raise InputError(f"{name}: expected finite values {bound}; got {known[~good].flat[0]}")
    return array


def check_counts(**values: int) -> None:
    """Check that all values are at least 1.

    Raises:
        InputError: for a smaller one, with the argument's name.
    """
    for name, value in values.items():
        if value < 1:
            raise InputError(f"{name}: expected a whole number of at least 1; got {value}")


def check_signs(name: str, values: ArrayLike) -> None:
    """Check that all known values are -1 or 1.

    Raises:
        InputError: for any other value; ``name`` is the argument's name in the message.
    """
    if not is_traced(values):
        known = np.asarray(values)
        bad = known[np.abs(known) != 1]
        if bad.size:
            raise InputError(f"{name}: expected -1 and 1 only; got {bad[0]} (2 b - 1 turns bits b into signs)")


def log_weights(weights: Weights | None, num_memories: int, dtype: jnp.dtype) -> Float[Array, " K"]:
    """Logs of the weights. A zero weight gives -inf and a zero derivative, never NaN.

    Args:
        weights: one for each memory, not necessarily normalised; a weight of 0 marks an absent memory. None gives
            every memory the weight 1.
        num_memories: K.
        dtype: the dtype of the result.

    Raises:
        InputError: for weights that are negative or not finite, and when no weight is above 0.
    """
    if weights is None:
        return jnp.zeros(num_memories, dtype)
    if isinstance(weights, Logs):
        logs = jnp.asarray(weights.values, dtype)
        if logs.shape != (num_memories,):
            raise InputError(f"weights: expected one for each of the {num_memories} memories; got shape {logs.shape}")
        if not is_traced(logs):
            known = np.asarray(logs)
            if not (known < np.inf).all() or np.isneginf(known).all():
                raise InputError(
                    "weights: expected logs below infinity, at least one of them finite; got " + str(known)
                )
        return logs
    weights = positive("weights", weights, dtype, (num_memories,), zero=True)
    if not is_traced(weights) and not np.asarray(weights).any():
        raise InputError("weights: expected at least one above 0; got zeros only")
    absent = weights == 0
    return jnp.where(absent, -jnp.inf, jnp.log(jnp.where(absent, 1, weights)))


def random_key(seed: int) -> Array:
    """The key of a seed.

    Raises :class:`probam.errors.InputError` unless it is a whole number from 0 to 2**32 - 1.
    """
    if not 0 <= seed < 2**32:
        raise InputError(f"seed: expected a whole number from 0 to 2**32 - 1; got {seed}")
    return jax.random.key(seed)
