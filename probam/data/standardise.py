"""Data in other units: subtract a center, divide by a scale, and back."""

from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from probam.data.table import Table, check_varies, has_gaps

__all__ = ["Standardiser", "identity", "standardiser"]

_Array = TypeVar("_Array")


class Standardiser(NamedTuple):
    r"""The map between data units ``x`` and model units ``z``.

    .. math:: z = (x - c) / s, \qquad \log p_x(x) = \log p_z(z) - \sum_i \log s_i

    ``apply`` and ``invert`` take NumPy and JAX arrays with the features on the last axis.
    """

    center: NDArray[Any]  # (D,)
    scale: NDArray[Any]  # (D,), > 0

    def apply(self, x: _Array) -> _Array:
        """Model units from data units."""
        z = x - self.center
        z /= self.scale
        return z  # type: ignore[no-any-return]

    def invert(self, z: _Array) -> _Array:
        """Data units from model units."""
        return z * self.scale + self.center  # type: ignore[no-any-return]

    @property
    def is_identity(self) -> bool:
        """Whether data and model have the same units."""
        return not self.center.any() and bool((self.scale == 1).all())

    def log_jacobian(self) -> float:
        """log |det dz/dx| in nats: what to add to a log density in model units to have it in data units."""
        return -float(np.sum(np.log(self.scale.astype(np.float64))))

    def log_jacobians(self, x: NDArray[Any]) -> NDArray[np.float64]:
        """:meth:`log_jacobian` of each row of ``x`` (N, D), in which missing entries (NaN) do not count."""
        if not has_gaps(x):
            return np.full(len(x), self.log_jacobian())
        known = (~np.isnan(x)).astype(np.float64)
        log_jacobians: NDArray[np.float64] = -known @ np.log(self.scale.astype(np.float64))
        return log_jacobians


def identity(num_features: int, dtype: str | np.dtype[Any] | type[np.floating[Any]] = np.float64) -> Standardiser:
    """The map that leaves the data in their own units.

    Args:
        num_features: D.
        dtype: of its center and scale.
    """
    return Standardiser(np.zeros(num_features, dtype), np.ones(num_features, dtype))


def standardiser(table: Table) -> Standardiser:
    """The map that gives every column mean zero and standard deviation one (divisor N).

    Moments are computed in double precision from the entries that are not missing, and rounded to the table's
    precision. Raises :class:`probam.errors.InputError` for a constant column.
    """
    check_varies(table)
    x = table.values.astype(np.float64)
    return Standardiser(
        np.nanmean(x, axis=0).astype(table.values.dtype), np.nanstd(x, axis=0).astype(table.values.dtype)
    )
