"""What families with a location and a scale share: the spread that data need, data-scaled priors, parts of M-steps."""

from collections.abc import Callable, Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from probam.data.table import constant_columns
from probam.errors import InputError
from probam.family import Params
from probam.family.capabilities import DataSpace
from probam.placement import each

__all__ = ["LocationScale", "along_features", "centre_and_width", "occupied"]


class LocationScale(DataSpace):
    """A family whose memories have a location and a scale for each feature, so that data need some spread."""

    memory: ClassVar[str]
    """One memory in the words of a message, for example "a Laplace memory"."""

    def check_data(self, x: np.ndarray, columns: Sequence[str]) -> None:
        """Refuse a column of which nothing is observed, and a constant one: it has no scale to find."""
        absent = np.isnan(x).all(axis=0)
        if absent.any():
            column = columns[int(np.flatnonzero(absent)[0])]
            raise InputError(f"data: nothing is observed of column {column!r}; leave the column out")
        constant = constant_columns(x)
        if constant.size:
            column = columns[int(constant[0])]
            raise InputError(f"data: column {column!r} is constant, and {self.memory} needs some spread; leave it out")


def centre_and_width(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Median and mean absolute deviation from it of each feature, in the data's dtype."""
    centre = np.median(x, axis=0).astype(x.dtype)
    return centre, np.mean(np.abs(x - centre), axis=0).astype(x.dtype)


def along_features(
    function: Callable[..., tuple[jax.Array, ...]], *arrays: jax.Array, numbers: int
) -> tuple[jax.Array, ...]:
    """``function`` of every feature, the last axis of every array; it holds so many numbers at a time."""
    moved = each(lambda one: function(*one), tuple(jnp.moveaxis(array, -1, 0) for array in arrays), numbers=numbers)
    return tuple(jnp.moveaxis(array, 0, -1) for array in moved)


def occupied(counts: jax.Array, fresh: Params, previous: Params) -> Params:
    """Fresh values where a memory has data, the previous ones where it has none (maximum likelihood alone)."""
    has_data = counts > 0
    return {
        site: jnp.where(jnp.expand_dims(has_data, tuple(range(1, value.ndim))), value, previous[site])
        for site, value in fresh.items()
    }
