"""A stream that waits: its rows are held back until there are enough of them to set the prior and the units."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from probam.data.table import as_table
from probam.errors import InputError
from probam.family import Family
from probam.streams.learning import Learning
from probam.streams.options import StreamOptions
from probam.streams.schema import Schema, schema_of

__all__ = ["Waiting"]


class Waiting:
    """Rows in data units, and their schema.

    Args:
        options: options of the stream.
        family: what a memory is.
        schema: schema of the rows; None before the first.
        blocks: rows so far.
    """

    def __init__(
        self, options: StreamOptions, family: Family, schema: Schema | None = None, blocks: Sequence[np.ndarray] = ()
    ) -> None:
        self.options = options
        self.family = family
        self.schema = schema
        self.blocks = list(blocks)

    def add(self, data: Any) -> None:
        """Hold back more rows."""
        table = as_table(data, features=None if self.schema is None else self.schema.columns)
        schema = schema_of(table) if self.schema is None else self.schema
        rows = schema.rows(table, self.family)
        self.schema = schema
        self.blocks.append(rows)

    @property
    def num_data(self) -> int:
        """Number of rows that are held back."""
        return sum(map(len, self.blocks))

    @property
    def has_enough(self) -> bool:
        """Whether there are as many rows as the prior is scaled to."""
        return self.num_data >= self.options.warm

    def begin(self) -> tuple[Learning, np.ndarray]:
        """A stream with prior and units from the first rows, and all rows, from which it has yet to learn.

        Raises :class:`probam.errors.InputError` if there are no data yet.
        """
        if self.schema is None:
            raise InputError("stream: no data have come yet; call partial_fit first")
        rows = np.concatenate(self.blocks)
        return Learning(self.options, self.family, self.schema, rows[: self.options.warm]), rows

    def arrays(self) -> dict[str, np.ndarray]:
        """What a file keeps."""
        return {"waiting": np.concatenate(self.blocks)} if self.blocks else {}
