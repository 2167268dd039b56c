"""Data made ready for a fit: checked, in one precision, in the units of the model."""

import os
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from probam.data.standardise import Standardiser, identity, standardiser
from probam.data.table import Table, as_table, check_rows, check_unit
from probam.errors import InputError, rows_named
from probam.family import Family
from probam.family.capabilities import DataSpace
from probam.fits.choices import double_precision
from probam.fits.larger import larger_source, parts_of
from probam.fits.options import FitOptions
from probam.inference.common.blocks import RowBlocks
from probam.inference.common.rows import check_weight

__all__ = ["Prepared", "prepare"]


@dataclass(frozen=True, eq=False)
class Prepared:
    """A table, and its rows as the model sees them."""

    table: Table
    units: Standardiser
    """Between the units of the table and those of the model."""
    x: Float[np.ndarray, "N D"]
    """The rows in the units of the model; NaN where an entry is missing."""
    weight: Float[np.ndarray, " N"] | None = None
    """How often each row counts; None counts each once."""
    allowed: Bool[np.ndarray, "N K"] | None = None
    """To which memories each row may belong; None: to any."""
    blocks: RowBlocks | None = None
    """All rows of data larger than memory, of which the others are a sample."""

    @classmethod
    def of(cls, table: Table, units: Standardiser) -> "Prepared":
        """The rows of a table in the units of a model, in the table's precision."""
        x = table.values if units.is_identity else units.apply(table.values)
        return cls(table, units, np.asarray(x, table.values.dtype))

    @property
    def num_data(self) -> int:
        """How many rows the data have; all of them, where a sample is in memory."""
        return self.table.num_data if self.blocks is None else self.blocks.num_data

    @property
    def dtype(self) -> np.dtype[Any]:
        """Precision of the rows."""
        return self.x.dtype


def prepare(data: Any, options: FitOptions, family: Family) -> Prepared:
    """Data of any kind that ``probam.fit`` takes, made ready for memories of a family.

    Raises :class:`probam.errors.InputError` where the data cannot be read or the family cannot have them.
    """
    if options.standardise and family.as_they_are:
        raise InputError(f"standardise: family {family.name!r} takes the data as they are; leave it out")
    source = larger_source(data, options)
    if source is not None:
        table, units, blocks, weight = parts_of(source, options, family)
        prepared = replace(Prepared.of(table, units), blocks=blocks, weight=weight)
        DataSpace.of(family).check_support(prepared.x, table.columns)
        return prepared
    variable = None if isinstance(data, Table) else options.variable  # a table was read already
    table = as_table(data, columns=options.columns, drop=options.drop, variable=variable, missing=options.missing)
    check_rows(table)
    dtype = np.float64 if double_precision() and table.values.dtype != np.float32 else np.float32
    is_own = isinstance(data, (str, os.PathLike, Table))  # nobody else has the array of a file, or changes a table
    table = table.astype(dtype, copy=not is_own)
    table = table.normalised() if options.normalise else table
    check_unit(table)
    with rows_named(table.row_words):
        DataSpace.of(family).check_data(table.values, table.columns)
    units = standardiser(table) if options.standardise else identity(table.num_features, dtype)
    prepared = Prepared.of(table, units)
    if options.sample_weight is not None:
        with rows_named(table.row_words):
            weight = check_weight(options.sample_weight, table.num_data, prepared.dtype)
        prepared = replace(prepared, weight=weight)
    with rows_named(table.row_words):
        DataSpace.of(family).check_support(prepared.x, table.columns)
    return prepared
