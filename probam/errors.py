"""Errors that speak to people.

A message names the argument, what was expected, what came and what to do. The command line
prints it as one line and exits with 2; any other exception is a defect of ours.
"""

__all__ = ["InputError", "NumericalError", "ProbamError"]


class ProbamError(Exception):
    """Anything that probam says to its user instead of a traceback."""


class InputError(ProbamError, ValueError):
    """Something the user gave cannot be used as it is."""


class NumericalError(ProbamError, ArithmeticError):
    """A computation left the finite numbers; the message says where and what helps."""
