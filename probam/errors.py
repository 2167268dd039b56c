"""Errors with messages for users.

A message names the argument, what was expected, what was given and what to do. The command line prints it as one line
and exits with code 2. Any other exception is a bug in probam.
"""

__all__ = ["InputError", "NumericalError", "ProbamError", "Stop"]


class ProbamError(Exception):
    """Base of all errors whose message is meant for the user."""


class InputError(ProbamError, ValueError):
    """An argument or a file cannot be used as it is."""


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
