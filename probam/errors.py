"""Errors with messages for users.

A message names the argument, what was expected, what was given and what to do. The command line prints it as one line
and exits with code 2. Any other exception is a bug in probam.
"""

__all__ = ["InputError", "NumericalError", "ProbamError"]


class ProbamError(Exception):
    """Base of all errors whose message is meant for the user."""


class InputError(ProbamError, ValueError):
    """An argument or a file cannot be used as it is."""


class NumericalError(ProbamError, ArithmeticError):
    """A computation produced a number that is not finite; the message says where, and what to do."""
