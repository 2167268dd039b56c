"""Questions of commands to a fit: the rows of a file go by in blocks, and so do the answers that are written."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from probam.cli.arguments import source_of_rows
from probam.cli.console import Bar, interruptible
from probam.cli.program import api_ready

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr

    from probam.data.source import Rows, RowSource
    from probam.fits.fitted import Fit

__all__ = ["Asked", "IdColumn", "ask", "one_by_one", "plain", "titled", "with_names"]

_T = TypeVar("_T")

IdColumn = Annotated[
    str | None,
    typer.Option(
        "--id",
        metavar="COLUMN",
        help="The column of DATA that names the rows. Without it, the first that is no feature and has another text or "
        "whole number in every row, for which DATA is read once more.",
    ),
]


class Asked:
    """A fit, and the rows that it is asked about."""

    def __init__(self, fitted: "Fit", rows: "RowSource", column: str | None) -> None:
        """A question.

        Args:
            fitted: the fit.
            rows: of the features that it learned.
            column: name of the column that names the rows; None: it is looked for.
        """
        from probam.data.source import Remembered

        self.fitted = fitted
        self.rows = rows
        self._remembered = Remembered(rows)
        self._column = column

    def names(self) -> str | None:
        """The column that names the rows; None where there is none."""
        if self._column is not None:
            self.settle()
            return self._column
        return interruptible(self.rows.name_column)

    def settle(self) -> None:
        """Give each column one kind in all blocks."""
        interruptible(self.rows.settle)

    def features_with_gaps(self) -> dict[str, int]:
        """The features of which some row lacks the entry, and where they stand."""
        import numpy as np

        lacking = np.zeros(len(self.fitted.columns), bool)
        for table in one_by_one(self.rows.blocks(self.rows.rows_at_once)):
            if table.has_gaps:
                lacking |= np.isnan(table.values).any(axis=0)
        return {name: at for at, name in enumerate(self.fitted.columns) if lacking[at]}

    def answers(
        self, words: str, answer: Callable[["RowSource"], Iterator["xr.Dataset"]]
    ) -> Iterator[tuple["Rows", "xr.Dataset"]]:
        """What the file says of rows, and what the fit says of them, block by block.

        Args:
            words: for the progress bar.
            answer: makes the answers of the rows of a source.
        """
        from probam.inference.common.progress import Progress

        with Bar(words) as bar:
            for found in one_by_one(answer(self._remembered)):
                part = self._remembered.next_part()
                yield part, found
                bar(Progress(part.table.first_row + part.table.num_data, 0, words))


def one_by_one(blocks: Iterator[_T]) -> Iterator[_T]:
    """The same blocks, each made so that Ctrl-C interrupts it."""
    end: Any = object()
    while (block := interruptible(lambda: next(blocks, end))) is not end:
        yield block


def titled(name: str, taken: Iterable[object]) -> str:
    """A title for a column of the file that no column of the answers has."""
    return f"input_{name}" if name in taken else name


def plain(values: "np.ndarray") -> "np.ndarray":
    """Numbers as they are, everything else as text, which files of all kinds hold."""
    import numpy as np
    import pandas as pd

    if values.dtype.kind in "biuf":
        return values
    return np.array(["" if pd.isna(value) is True else str(value) for value in values], dtype=object)


def with_names(answer: "xr.Dataset", part: "Rows", column: str | None) -> "xr.Dataset":
    """An answer, and before it the column that names its rows, where there is one.

    Args:
        answer: of some rows.
        part: what the file says of them.
        column: name of that column.
    """
    import xarray as xr

    from probam.data.labels import names_in

    if column is None:
        return answer
    along = next(iter(answer.data_vars.values())).dims[0]
    taken = {*map(str, answer.variables), *part.table.columns}
    named = {titled(column, taken): (along, plain(names_in(part.contents, part.table, column)))}
    return xr.Dataset(named, coords=answer.coords).merge(answer)


def ask(
    fit_file: Path,
    data: str,
    labels: str | None = None,
    *,
    column: str | None = None,
    family: str | None = None,
    **reading: Any,
) -> Asked:
    """A saved fit, and rows that it is asked about.

    Args:
        fit_file: the fit.
        data: path of a file, ``-`` for CSV on standard input, or name of a shipped set.
        labels: name of the column of labels; None where there is none.
        column: name of the column that names the rows; None: it is looked for.
        family: the family of the user's own that the fit was made with.
        reading: other keywords of :func:`probam.cli.arguments.source_of_rows`.
    """
    fitted = api_ready().load(fit_file, family=family)
    return Asked(fitted, source_of_rows(data, labels, features=fitted.columns, **reading), column)
