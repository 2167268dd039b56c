"""Entries of matrices at places that are known before a program is traced.

``jax.numpy`` makes a dozen operations of each such place (negative numbers, ranges, triangles are looked at when the
program runs), which are traced and compiled in every program that has a matrix in it. Here there are two to four.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

__all__ = ["columns", "diagonal", "entries", "lower_places"]


def columns(x: Float[Array, "*batch N"], which: Int[np.ndarray, "..."]) -> Float[Array, "..."]:
    """The entries of the last axis with these numbers, which are within it."""
    return jnp.take(x, which, axis=-1, mode="clip")


def diagonal(matrix: Float[Array, "*batch D D"]) -> Float[Array, "*batch D"]:
    """The diagonal of square matrices."""
    size = matrix.shape[-1]
    return matrix.reshape(*matrix.shape[:-2], size * size)[..., :: size + 1]


def entries(
    matrix: Float[Array, "*batch A B"], rows: Int[np.ndarray, " F"], of_rows: Int[np.ndarray, " F"]
) -> Float[Array, "*batch F"]:
    """The entries at pairs of a row and a column (``of_rows``), which are within the matrix."""
    flat = matrix.reshape(*matrix.shape[:-2], matrix.shape[-2] * matrix.shape[-1])
    return columns(flat, rows * matrix.shape[-1] + of_rows)


def lower_places(size: int) -> Int[np.ndarray, "D D"]:
    """For each entry of a D x D matrix its number in a vector of the entries below the diagonal, row by row, then a
    one, for the diagonal, and a zero, for the rest: ``columns`` of that vector are the unit lower triangular matrix."""
    num_below = size * (size - 1) // 2
    places = np.full((size, size), num_below + 1)
    places[np.tril_indices(size, -1)] = np.arange(num_below)
    np.fill_diagonal(places, num_below)
    return places
