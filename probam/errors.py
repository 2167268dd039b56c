"""Errors with messages for users.

A message names the argument, what was expected, what was given and what to do. The command line prints it as one line
and exits with code 2. Any other exception is a bug in probam.
"""

import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import SupportsInt

__all__ = [
    "ColumnError",
    "InputError",
    "NumericalError",
    "ProbamError",
    "RowError",
    "Stop",
    "column_named",
    "own_code",
    "rows_named",
    "shown",
    "without_addresses",
]


class ProbamError(Exception):
    """Base of all errors whose message is meant for the user."""


class InputError(ProbamError, ValueError):
    """An argument or a file cannot be used as it is."""


class RowError(InputError):
    """A row cannot be used. Whoever knows where the row came from says which one it is (:func:`rows_named`).

    Attributes:
        row: its number among those that were given.
    """

    def __init__(self, before: str, row: SupportsInt, after: str) -> None:
        self.before, self.row, self.after = before, int(row), after
        super().__init__(f"{before}row {self.row}{after}")

    def __reduce__(self) -> tuple[type["RowError"], tuple[str, int, str]]:
        return type(self), (self.before, self.row, self.after)


class ColumnError(InputError):
    """A column is not there. Whoever asked for it under another name than ``argument`` says so (:func:`column_named`).

    Attributes:
        column: its name.
    """

    def __init__(self, argument: str, column: str, after: str) -> None:
        self.argument, self.column, self.after = argument, column, after
        super().__init__(f"{argument}: {after}")

    def __reduce__(self) -> tuple[type["ColumnError"], tuple[str, str, str]]:
        return type(self), (self.argument, self.column, self.after)


@contextmanager
def column_named(argument: str, column: str | None) -> Iterator[None]:
    """Within this, an error about this column names this argument.

    >>> with column_named("sample_weight", "often"):
    ...     raise ColumnError("columns", "often", "rows.csv has no column 'often'")
    Traceback (most recent call last):
    probam.errors.InputError: sample_weight: rows.csv has no column 'often'
    """
    try:
        yield
    except ColumnError as error:
        if error.column != column:
            raise
        raise InputError(f"{argument}: {error.after}") from error


@contextmanager
def rows_named(words: Callable[[int], str]) -> Iterator[None]:
    """Within this, an error about a row says in these words which one it is.

    >>> with rows_named(lambda row: f"row {row + 101} (line {row + 102})"):
    ...     raise RowError("data: ", 2, " is all zeros")
    Traceback (most recent call last):
    probam.errors.InputError: data: row 103 (line 104) is all zeros
    """
    try:
        yield
    except RowError as error:
        raise InputError(f"{error.before}{words(error.row)}{error.after}") from error


class NumericalError(ProbamError, ArithmeticError):
    """A computation produced a number that is not finite; the message says where, and what to do."""


class Stop(ProbamError):  # noqa: N818 (it asks for an end, as StopIteration does)
    """Raised in a progress callback, it ends the work with what is there.

    Where nothing can be kept yet, ``probam.fit`` raises it with the reason.

    >>> import numpy as np, probam
    >>> def until_two_hundred(step: probam.Progress) -> None:
    ...     if step.text.startswith("NUTS sampling") and step.done >= 200:
    ...         raise probam.Stop
    >>> x = np.random.default_rng(0).normal(size=(30, 1))
    >>> how = dict(weights="uniform", components=1, engine="nuts", num_chains=1, num_warmup=100)
    >>> fitted = probam.fit(x, progress=until_two_hundred, **how)
    >>> fitted.tree["posterior"].sizes["draw"], fitted.tree.attrs["status"]
    (100, 'stopped')
    """


def without_addresses(text: str) -> str:
    """The words of an object without its address in memory, which differs between processes."""
    return re.sub(r" at 0x[0-9a-f]+", "", text)


def shown(value: object, most: int = 100) -> str:
    """A value as messages show it: on one line, cut where it is long, without addresses in memory."""
    try:
        text = " ".join(without_addresses(repr(value)).split())
    except Exception:  # an object whose own words fail
        text = f"<{type(value).__name__}>"
    return text if len(text) <= most else f"{text[: most - 3]}..."


@contextmanager
def own_code(what: str, place: str) -> Iterator[None]:
    """Within it code of the user's own runs; what that raises becomes an :class:`InputError` that says where.

    Args:
        what: begins the sentence: the argument, and what the code did.
        place: the file of the code, or its module.
    """
    try:
        yield
    except ProbamError:
        raise
    except (Exception, SystemExit) as error:  # `exit()` in a file that is imported is no way to end this program
        own = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if _is_file(frame.filename, place)]
        line = f", line {own[-1]}" if own else ""
        said = " ".join(str(error).split())[:200]
        raise InputError(f"{what} ({type(error).__name__}{line}: {said}); correct {place}") from error


def _is_file(name: str, place: str) -> bool:
    return place.endswith(".py") and Path(name).resolve() == Path(place).resolve()
