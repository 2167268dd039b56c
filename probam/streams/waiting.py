"""A stream that waits: its rows are held back until there are enough of them to set the prior and the units."""

from typing import Any

import numpy as np

from probam.data.table import as_table
from probam.errors import InputError
from probam.family import Family
from probam.inference.common.progress import Reporter, silent
from probam.inference.stream.engine import Absorbed
from probam.streams.learning import Learning
from probam.streams.options import StreamOptions
from probam.streams.schema import Schema, schema_of

__all__ = ["Waiting"]


class Waiting:
    """Rows in data units, and their schema. It never changes: more rows make another one.

    Args:
        options: options of the stream.
        family: what a memory is.
        schema: schema of the rows; None before the first.
        blocks: rows so far.
    """

    def __init__(
        self,
        options: StreamOptions,
        family: Family,
        schema: Schema | None = None,
        blocks: tuple[np.ndarray, ...] = (),
    ) -> None:
        self.options = options
        self.family = family
        self.schema = schema
        self.blocks = blocks
        self._begun: tuple[Learning, Absorbed] | None = None

    def with_rows(self, data: Any) -> "Waiting":
        """The same with more rows.

        Raises:
            InputError: for data that cannot be read, have other columns, or are outside the support of the family.
        """
        if self.schema is not None:
            return Waiting(self.options, self.family, self.schema, (*self.blocks, self.schema.read(data, self.family)))
        table = as_table(data)
        schema = schema_of(table, normalise=bool(self.options.normalise))
        return Waiting(self.options, self.family, schema, (schema.rows(table, self.family),))

    @property
    def num_data(self) -> int:
        """Number of rows that are held back."""
        return sum(map(len, self.blocks))

    @property
    def has_enough(self) -> bool:
        """Whether there are as many rows as the prior is scaled to."""
        return self.num_data >= self.options.warm

    def begun(self, progress: Reporter = silent) -> tuple[Learning, Absorbed]:
        """A stream that has learned from these rows, and what happened to each row.

        It is computed once and remembered, so that a question costs nothing more when it is asked again.

        Raises:
            InputError: if there are no data yet, or the prior cannot be set from the first rows.
        """
        if self._begun is None:
            if self.schema is None:
                raise InputError("stream: no data have come yet; call partial_fit first")
            rows = np.concatenate(self.blocks)
            learning = Learning(self.options, self.family, self.schema, rows[: self.options.warm])
            self._begun = learning, learning.absorb(rows, progress)
        return self._begun

    def arrays(self) -> dict[str, np.ndarray]:
        """What a file keeps."""
        return {"waiting": np.concatenate(self.blocks)} if self.blocks else {}
