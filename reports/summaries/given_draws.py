"""Draws as callers have them, NumPy arrays or xarray objects of one chain or several, checked and in one form.

Chain and draw come first. What is made of them has the kind of what was given.
"""

from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Int

from probam.errors import InputError

__all__ = ["SAMPLE", "GivenDraws", "finite", "given_draws", "given_labels", "whole_labels"]

SAMPLE = ("chain", "draw")
"""Names of the first dimensions."""


class GivenDraws(NamedTuple):
    """An array whose first axes are chains and draws, and what xarray says of its other axes."""

    values: np.ndarray  # (chain, draw, ...)
    rest: tuple[str, ...] | None  # names of the other dimensions, None of a plain array
    coords: dict[str, Any]

    @property
    def datum(self) -> str:
        """Name of the dimension of the data, the first after chain and draw."""
        return self.rest[0] if self.rest else "datum"

    @property
    def rows(self) -> np.ndarray:
        """All draws in one row, chain by chain."""
        return self.values.reshape(-1, *self.values.shape[2:])

    def like(self, values: np.ndarray, dims: tuple[str, ...]) -> Any:
        """``values`` as the caller has arrays: plain, or with the dimensions and their labels."""
        if self.rest is None:
            return values
        known = {
            name: self.coords[name.removesuffix("_bis")] for name in dims if name.removesuffix("_bis") in self.coords
        }
        return xr.DataArray(values, {name: np.asarray(own) for name, own in known.items()}, dims)


def given_draws(name: str, values: Any, ndim: int) -> GivenDraws:
    """An array with chain and draw first and ``ndim`` axes in all; one axis less is one chain."""
    if isinstance(values, xr.DataArray):
        missing = [dim for dim in SAMPLE if dim not in values.dims]
        if missing or values.ndim != ndim:
            given = ", ".join(map(str, values.dims))
            raise InputError(f"{name}: expected the dimensions chain and draw and {ndim - 2} more; got {given}")
        rest = tuple(str(dim) for dim in values.dims if dim not in SAMPLE)
        coords = {str(key): coordinate.values for key, coordinate in values.coords.items() if coordinate.ndim == 1}
        return GivenDraws(values.transpose(*SAMPLE, *rest).values, rest, coords)
    array = np.asarray(values)
    if array.ndim not in (ndim - 1, ndim) or array.size == 0:
        raise InputError(
            f"{name}: expected chain and draw first, {ndim} axes or {ndim - 1} of one chain; got {array.shape}"
        )
    return GivenDraws(array if array.ndim == ndim else array[None], None, {})


def given_labels(labels: Any) -> GivenDraws:
    """Sampled labels (chain, draw, datum)."""
    draws = given_draws("labels", labels, 3)
    return draws._replace(values=whole_labels("labels", draws.values))


def whole_labels(name: str, values: np.ndarray) -> Int[np.ndarray, "..."]:
    """Labels as integers; floating ones, as Stan and R write them, if they are whole."""
    if values.dtype.kind in "iub":
        return values.astype(np.int64)
    if values.dtype.kind != "f":
        raise InputError(f"{name}: expected whole numbers, one per datum; got {values.dtype}")
    bad = ~np.isfinite(values)
    if bad.any():
        first = tuple(int(i) for i in np.argwhere(bad)[0])
        raise InputError(f"{name}: {bad.sum()} of {bad.size} are missing (NaN or infinite), the first at {first}")
    if (values != np.round(values)).any():
        raise InputError(f"{name}: expected whole numbers; got {values[values != np.round(values)][0]:g}")
    return values.astype(np.int64)


def finite(name: str, draws: GivenDraws) -> GivenDraws:
    """The draws, if all of their numbers are finite; else :class:`probam.errors.InputError`."""
    bad = ~np.isfinite(draws.values)
    if bad.any():
        first = tuple(int(i) for i in np.argwhere(bad)[0])
        raise InputError(f"{name}: {bad.sum()} of {bad.size} numbers are not finite, the first at {first}")
    return draws
