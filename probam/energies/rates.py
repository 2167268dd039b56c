"""Positive parameters of memories: one for all, one for each memory, or one for each memory and coordinate."""

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from probam.energies.arguments import positive
from probam.errors import InputError

__all__ = ["rate_of_each", "rates"]


def rates(name: str, value: Float[ArrayLike, "..."], memories: Float[Array, "K D"]) -> Float[Array, "K D"]:
    """``value`` of shape (), (K,) or (K, D) as one number for each memory and coordinate.

    Args:
        name: the argument's name in error messages.
        value: numbers above 0.
        memories: the memories, which set K, D and the dtype.

    Raises:
        InputError: for other shapes, and for values that are not finite and above 0.
    """
    num_memories, dim = memories.shape
    array = _of_shape(name, value, memories, ((), (num_memories,), (num_memories, dim)))
    return jnp.broadcast_to(array[:, None] if array.ndim == 1 else array, memories.shape)


def rate_of_each(name: str, value: Float[ArrayLike, "..."], memories: Float[Array, "K D"]) -> Float[Array, " K"]:
    """``value`` of shape () or (K,) as one number for each memory; arguments and errors are those of :func:`rates`."""
    array = _of_shape(name, value, memories, ((), (len(memories),)))
    return jnp.broadcast_to(array, len(memories))


def _of_shape(
    name: str, value: Float[ArrayLike, "..."], memories: Float[Array, "K D"], shapes: tuple[tuple[int, ...], ...]
) -> Float[Array, "..."]:
    shape = jnp.shape(value)
    if shape not in shapes:
        raise InputError(f"{name}: expected shape {' or '.join(map(str, shapes))}; got {shape}")
    return positive(name, value, memories.dtype, shape)
