"""What all rows of a stream have in common: columns and precision, which the first rows determine."""

from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import numpy as np

from probam.data.table import Table, as_table
from probam.family import Family
from probam.family.capabilities import DataSpace
from probam.fits.choices import double_precision, precision

__all__ = ["Schema", "schema_of"]


class Schema(NamedTuple):
    """Names of the columns, float32 or float64, and whether rows are divided by their length."""

    columns: tuple[str, ...]
    dtype: np.dtype[Any]
    normalise: bool = False

    def read(self, data: Any, family: Family) -> np.ndarray:
        """The rows (N, D) of anything that ``probam.fit`` reads, after the checks of :meth:`rows`."""
        return self.rows(as_table(data, features=self.columns), family)

    def rows(self, table: Table, family: Family) -> np.ndarray:
        """The rows (N, D) of a table.

        Raises :class:`probam.errors.InputError` for rows outside the support of the family.
        """
        table = table.astype(self.dtype)
        rows = table.normalised().values if self.normalise else table.values
        DataSpace.of(family).check_support(rows, self.columns)
        return rows

    def precision(self) -> AbstractContextManager[Any]:
        """Context in which JAX computes in this precision."""
        return precision(self.dtype)


def schema_of(table: Table, *, normalise: bool = False) -> Schema:
    """Columns of the table; double precision if JAX has it turned on and the data are not float32."""
    is_double = double_precision() and table.values.dtype != np.float32
    return Schema(table.columns, np.dtype(np.float64 if is_double else np.float32), normalise)
