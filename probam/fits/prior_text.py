"""Priors written as text, ``site=Distribution(numbers)``, read without executing any of it."""

import ast
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpyro.distributions as dist
import xarray as xr
from numpyro.distributions import Distribution

from probam.distributions.supports import innermost
from probam.errors import InputError, shown

__all__ = ["check_prior_is_known", "priors_of_file", "priors_of_text", "text_of_law", "texts_of_priors"]

_MOST_NUMBERS = 10_000
"""Parameters of a prior with more numbers than this are not written."""

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
            raise InputError(f"prior: expected site=Distribution(numbers); got {shown(text)}; {_EXAMPLE}")
        if site in priors:
            raise InputError(f"prior: site {site!r} is given twice; give each site one distribution")
        priors[site] = _law(law.strip(), text)
    return priors


def texts_of_priors(priors: Mapping[str, Distribution]) -> dict[str, str | None]:
    """What a file holds of the priors that a user gave: the text of each, None where it has none."""
    return {site: text_of_law(law) for site, law in priors.items()}


def text_of_law(law: Distribution) -> str | None:
    """A distribution as text that :func:`priors_of_text` reads, to the last bit; None where it cannot be written.

    Written are NumPyro's own distributions whose parameters are arrays, also out of ``expand`` and ``to_event``.
    """
    inner = innermost(law)
    held = inner.__dict__
    values = {name: np.asarray(held[name], float) for name in inner.arg_constraints if held.get(name) is not None}
    if "scale_tril" in values:  # of which NumPyro also keeps what it was made of, and takes one of them
        values = {
            name: value for name, value in values.items() if name not in ("covariance_matrix", "precision_matrix")
        }
    batch = law.shape()[: len(law.shape()) - inner.event_dim]
    if batch != inner.batch_shape:
        if inner.event_dim:
            return None
        values = {name: np.broadcast_to(value, batch) for name, value in values.items()}
    if sum(value.size for value in values.values()) > _MOST_NUMBERS:
        return None
    text = f"{type(inner).__name__}({', '.join(f'{name}={value.tolist()}' for name, value in values.items())})"
    try:
        again = _law(text, text, checked=False)  # the numbers are those of a law that was made before
    except InputError:
        return None
    return text if type(again) is type(inner) and again.shape() == law.shape() else None


def priors_of_file(tree: xr.DataTree) -> dict[str, Distribution]:
    """The priors that the user gave to a fit, by site, as far as its file holds them; all others are the defaults."""
    texts = json.loads(str(tree.attrs.get("given_prior", "{}")))
    return priors_of_text([f"{site}={text}" for site, text in texts.items() if text is not None])


def check_prior_is_known(tree: xr.DataTree) -> None:
    """Raise where a file does not hold the prior that was fitted: :class:`probam.errors.InputError`."""
    if "given_prior" not in tree.attrs:
        raise InputError("this fit does not say which prior it had: another version of probam saved it; fit again")
    unknown = [site for site, text in json.loads(str(tree.attrs["given_prior"])).items() if text is None]
    if unknown:
        raise InputError(
            f"the prior of {', '.join(unknown)} is not one that a file can hold; give a distribution of NumPyro whose "
            "parameters are numbers"
        )


def _law(call: str, text: str, *, checked: bool = True) -> Distribution:
    try:
        tree = ast.parse(call, mode="eval").body
    except (SyntaxError, ValueError) as error:
        raise InputError(f"prior: cannot read {shown(text)}; {_EXAMPLE}") from error
    if (
        not isinstance(tree, ast.Call)
        or not isinstance(tree.func, ast.Name)
        or any(k.arg is None for k in tree.keywords)
    ):
        raise InputError(f"prior: expected site=Distribution(numbers); got {shown(text)}; {_EXAMPLE}")
    kind = getattr(dist, tree.func.id, None) if tree.func.id in dist.__all__ else None
    if not (isinstance(kind, type) and issubclass(kind, Distribution)):
        raise InputError(f"prior: NumPyro has no distribution called {tree.func.id!r}; {_EXAMPLE}")
    arguments = [_numbers(argument, text) for argument in tree.args]
    named = {str(keyword.arg): _numbers(keyword.value, text) for keyword in tree.keywords}
    try:
        return kind(*arguments, **named, validate_args=checked)
    except (TypeError, ValueError, AssertionError, AttributeError) as error:
        raise InputError(f"prior: {tree.func.id} does not take the arguments of {shown(text)}: {error}") from error


def _numbers(node: ast.expr, text: str) -> Any:
    """A number, or an array from nested lists of numbers."""
    try:
        value = np.asarray(ast.literal_eval(node))
    except (ValueError, TypeError, SyntaxError) as error:
        raise InputError(f"prior: arguments are numbers or lists of numbers; got {shown(text)}; {_EXAMPLE}") from error
    if value.dtype.kind not in "iuf" or not np.isfinite(value).all():
        raise InputError(f"prior: arguments are finite numbers or lists of them; got {shown(text)}; {_EXAMPLE}")
    return float(value) if value.ndim == 0 else value.astype(float)
