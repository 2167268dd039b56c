"""What an energy asks of its arguments: shapes always, values where they are known.

Under ``jit``, ``vmap`` and ``grad`` values are not known yet; these checks then look at shapes only.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from probam.errors import InputError

__all__ = ["Logs", "Scalar", "Weights", "check_signs", "is_traced", "log_weights", "points", "positive"]

Scalar = float | Float[ArrayLike, ""]
"""A number or a rank-zero array."""


class Logs(NamedTuple):
    """Weights given by their logs, for those beyond the range of floating point.

    A spherical memory of concentration 1e4 beside one of 10, or determinants of many dimensions, need weights like
    exp(-9990); every energy takes ``Logs(log_w)`` where it takes ``weights``.
    """

    values: Float[ArrayLike, " K"]


Weights = Float[ArrayLike, " K"] | Logs
"""Weights of the memories, or their logs."""


def is_traced(value: object) -> bool:
    """Whether ``value`` stands for a number that is not known yet (inside a JAX transformation)."""
    return isinstance(value, jax.core.Tracer)


def points(
    query: Float[ArrayLike, "*batch D"], memories: Float[ArrayLike, "K D"], name: str = "memories"
) -> tuple[Float[Array, "*batch D"], Float[Array, "K D"]]:
    """The queries and the memories as floating arrays of one dtype.

    Raises :class:`probam.errors.InputError` when the memories are not K >= 1 rows, or the last axis of the
    queries is not their dimension.
    """
    memories, query = jnp.asarray(memories), jnp.asarray(query)
    if memories.ndim != 2 or memories.shape[0] == 0 or memories.shape[1] == 0:
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
    """``value`` as an array of ``dtype`` and ``shape``: finite and above zero (at least zero with ``zero=True``).

    Raises :class:`probam.errors.InputError` otherwise.
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


def check_signs(name: str, values: ArrayLike) -> None:
    """Raise :class:`probam.errors.InputError` where known values are other than -1 and 1."""
    if not is_traced(values):
        known = np.asarray(values)
        bad = known[np.abs(known) != 1]
        if bad.size:
            raise InputError(f"{name}: expected -1 and 1 only; got {bad[0]} (2 b - 1 turns bits b into signs)")


def log_weights(weights: Weights | None, num_memories: int, dtype: jnp.dtype) -> Float[Array, " K"]:
    """Logs of the weights (zeros for ``None``); a zero weight gives -inf and a zero derivative, never NaN.

    A weight of zero marks a memory that is absent. Raises :class:`probam.errors.InputError` for negative or
    non-finite weights, or when none is above zero.
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
