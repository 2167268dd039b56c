"""Priors written as text, ``site=Distribution(numbers)``, read without executing any of it."""

import ast
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpyro.distributions as dist
from numpyro.distributions import Distribution

from probam.errors import InputError

__all__ = ["priors_of_text"]

_EXAMPLE = "write for example 'loc=Normal(0, 10)' or 'beta=Gamma(2, rate=0.5)'"


def priors_of_text(texts: Sequence[str]) -> dict[str, Distribution]:
    """NumPyro distributions by site.

    Args:
        texts: each ``site=Name(arguments)``. The name is that of a distribution of NumPyro; arguments are numbers or
            nested lists of numbers, by position or by name.

    Raises:
        InputError: for text that is anything else, arguments that the distribution refuses, a site given twice.

    >>> law = priors_of_text(["beta=Gamma(2, rate=0.5)"])["beta"]
    >>> float(law.mean)
    4.0
    """
    priors: dict[str, Distribution] = {}
    for text in texts:
        site, equals, law = text.partition("=")
        site = site.strip()
        if not equals or not site.isidentifier():
            raise InputError(f"prior: expected site=Distribution(numbers); got {text!r}; {_EXAMPLE}")
        if site in priors:
            raise InputError(f"prior: site {site!r} is given twice; give each site one distribution")
        priors[site] = _law(law.strip(), text)
    return priors


def _law(call: str, text: str) -> Distribution:
    try:
        tree = ast.parse(call, mode="eval").body
    except (SyntaxError, ValueError) as error:
        raise InputError(f"prior: cannot read {text!r}; {_EXAMPLE}") from error
    if (
        not isinstance(tree, ast.Call)
        or not isinstance(tree.func, ast.Name)
        or any(k.arg is None for k in tree.keywords)
    ):
        raise InputError(f"prior: expected site=Distribution(numbers); got {text!r}; {_EXAMPLE}")
    kind = getattr(dist, tree.func.id, None) if tree.func.id in dist.__all__ else None
    if not (isinstance(kind, type) and issubclass(kind, Distribution)):
        raise InputError(f"prior: NumPyro has no distribution called {tree.func.id!r}; {_EXAMPLE}")
    arguments = [_numbers(argument, text) for argument in tree.args]
    named = {str(keyword.arg): _numbers(keyword.value, text) for keyword in tree.keywords}
    try:
        return kind(*arguments, **named, validate_args=True)
    except (TypeError, ValueError, AssertionError, AttributeError) as error:
        raise InputError(f"prior: {tree.func.id} does not take the arguments of {text!r}: {error}") from error


def _numbers(node: ast.expr, text: str) -> Any:
    """A number, or an array from nested lists of numbers."""
    try:
        value = np.asarray(ast.literal_eval(node))
    except (ValueError, TypeError, SyntaxError) as error:
        raise InputError(f"prior: arguments are numbers or lists of numbers; got {text!r}; {_EXAMPLE}") from error
    if value.dtype.kind not in "iuf" or not np.isfinite(value).all():
        raise InputError(f"prior: arguments are finite numbers or lists of them; got {text!r}; {_EXAMPLE}")
    return float(value) if value.ndim == 0 else value.astype(float)
