"""What people bring to a model, checked once: priors in place of the default ones, and families of their own."""

import inspect
from collections.abc import Mapping

import jax
import numpy as np
from jaxtyping import Float
from numpyro import handlers
from numpyro.distributions import Distribution, constraints

from probam.distributions.supports import innermost, support_in_words
from probam.errors import InputError, own_code, shown
from probam.family import Family, Model, Prior

__all__ = ["check_own_bank", "check_prior", "default_prior", "place_of"]

_REAL = (constraints.real, constraints.real_vector, constraints.real_matrix)
_DRAWS = 100
"""Draws of a prior of which none may lie outside the values of its site."""


def check_prior(site: str, law: Distribution, default: Distribution) -> None:
    """Raise :class:`probam.errors.InputError` for a prior that its site cannot have.

    Args:
        site: its name.
        law: the prior, of the shape of the site.
        default: the prior that the family has for it; its support is where the site has its values.
    """
    name, own, values = type(innermost(law)).__name__, law.support, default.support
    try:
        innermost(law).validate_args(strict=True)
    except ValueError as error:
        said = " ".join(str(error).split())
        raise InputError(f"prior: site {site!r} has a {name} with parameters that it does not take ({said})") from error
    if own is None or own.is_discrete:
        raise InputError(f"prior: site {site!r} has continuous values; got {name}; give it a continuous distribution")
    wanted = innermost(default).support
    if values is None or wanted is None or wanted in _REAL:
        return
    draws = law.sample(jax.random.key(0), (_DRAWS,))
    if innermost(law).support in _REAL or not np.all(np.asarray(values(draws))):
        raise InputError(
            f"prior: site {site!r} has {support_in_words(wanted)}; {name} also gives others; give a law of such values"
        )


# --- families of one's own ------------------------------------------------------------------------------------


def default_prior(family: Family, x: Float[np.ndarray, "N D"]) -> Prior:
    """The default prior of a family; what one of the user's own raises or returns wrongly is said in a sentence."""
    place = place_of(family)
    if place is None:
        return family.prior(x)
    with own_code(f"family: the prior of {family.name!r} in {place} cannot be made", place):
        laws = family.prior(x)
    if not isinstance(laws, Mapping) or not all(isinstance(law, Distribution) for law in laws.values()):
        raise InputError(
            f"family: the prior of {family.name!r} in {place} must be a mapping from sites to NumPyro distributions; "
            f"got {shown(laws)}"
        )
    return laws


def check_own_bank(model: Model, num_features: int) -> None:
    """Raise :class:`probam.errors.InputError` where the bank of a family of the user's own is no bank of K memories.

    Args:
        model: the mixture.
        num_features: D.
    """
    place = place_of(model.family)
    if place is None:
        return
    banks: list[object] = []

    def trace(key: jax.Array) -> None:
        banks.append(handlers.seed(model.parameters, key)()[1])

    what = f"family: the bank of {model.family.name!r} in {place}"
    with own_code(f"{what} cannot be made", place):
        jax.eval_shape(trace, jax.random.key(0))
    bank, expected = banks[0], ((model.num_components,), (num_features,))
    if not isinstance(bank, Distribution):
        raise InputError(f"{what} must be a NumPyro distribution; got {type(bank).__name__}")
    if (bank.batch_shape, bank.event_shape) != expected:
        raise InputError(
            f"{what} must have batch shape {expected[0]}, one entry a memory, and event shape {expected[1]}, the "
            f"features; got {bank.batch_shape} and {bank.event_shape}"
        )


def place_of(family: Family) -> str | None:
    """The file of a family of the user's own; None for those of probam."""
    kind = type(family)
    if kind.__module__.split(".")[0] == "probam":
        return None
    try:
        return inspect.getsourcefile(kind) or kind.__module__
    except TypeError:  # made at a prompt
        return kind.__module__
