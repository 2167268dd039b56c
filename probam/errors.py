"""Errors with messages for users.

A message names the argument, what was expected, what was given and what to do. The command line prints it as one line
and exits with code 2. Any other exception is a bug in probam.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["InputError", "NumericalError", "ProbamError", "RowError", "Stop", "rows_named"]


class ProbamError(Exception):
    """Base of all errors whose message is meant for the user."""


class InputError(ProbamError, ValueError):
    """An argument or a file cannot be used as it is."""


class RowError(InputError):
    """A row cannot be used. Whoever knows where the row came from says which one it is (:func:`rows_named`).

    Attributes:
        row: its number among those that were given.
    """

    def __init__(self, before: str, row: int, after: str) -> None:
        self.before, self.row, self.after = before, int(row), after
        super().__init__(f"{before}row {self.row}{after}")

    def __reduce__(self) -> tuple[type["RowError"], tuple[str, int, str]]:
        return type(self), (self.before, self.row, self.after)


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
