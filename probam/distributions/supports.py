"""Where a distribution has its support, for checks of data before anything is computed.

Only supports that are the same for all parameters count: positive numbers, whole numbers, the simplex. One that moves
with the parameters (the interval of a uniform law) says nothing of the data by itself.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from numpyro.distributions import Distribution, ExpandedDistribution, Independent, constraints
from numpyro.distributions.constraints import Constraint

__all__ = ["Outside", "fixed_support", "innermost", "outside", "support_in_words"]

_WORDS: tuple[tuple[Constraint[Any], str], ...] = (
    (constraints.positive, "numbers above 0"),
    (constraints.nonnegative, "numbers of at least 0"),
    (constraints.unit_interval, "numbers from 0 to 1"),
    (constraints.open_interval(0, 1), "numbers between 0 and 1"),
    (constraints.boolean, "0 or 1"),
    (constraints.nonnegative_integer, "whole numbers of at least 0"),
    (constraints.positive_integer, "whole numbers of at least 1"),
    (constraints.circular, "angles from -pi to pi"),
    (constraints.simplex, "positive parts that sum to 1"),
    (constraints.sphere, "vectors of length 1"),
)


class Outside(NamedTuple):
    """Rows outside a support: how many, the first of them, and its first column outside (None where all count)."""

    num_rows: int
    row: int
    column: int | None


def innermost(law: Distribution) -> Distribution:
    """A distribution out of ``expand`` and ``to_event``."""
    while isinstance(law, Independent | ExpandedDistribution):
        law = law.base_dist
    return law


def fixed_support(law: Distribution) -> Constraint[Any] | None:
    """The support of one datum or feature, where it is the same for all parameters and not all of R^D; else None."""
    support = getattr(type(innermost(law)), "support", None)
    if not isinstance(support, Constraint) or constraints.is_dependent(support):
        return None
    return None if support in (constraints.real, constraints.real_vector) else support


def outside(support: Constraint[Any], x: Float[np.ndarray, "N D"]) -> Outside | None:
    """Rows of ``x`` outside a support, None where there are none. Missing entries (NaN) are inside."""
    missing = np.isnan(x)
    bad = ~np.asarray(support(x))
    bad = bad & (~missing if bad.ndim == 2 else ~missing.any(axis=1))
    if not bad.any():
        return None
    if bad.ndim == 1:
        return Outside(int(bad.sum()), int(np.flatnonzero(bad)[0]), None)
    row, column = np.argwhere(bad)[0]
    return Outside(int(bad.any(axis=1).sum()), int(row), int(column))


def support_in_words(support: Constraint[Any]) -> str:
    """What lies in a support, for messages."""
    return next((words for constraint, words in _WORDS if constraint == support), str(support))
