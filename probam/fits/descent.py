"""Recall of a family without a physical twin: gradient descent on its negative log density, within its support.

Most of these families are a person's own. Positive numbers, counts and numbers in an interval are descended in the box
that their support spans; a density of whole numbers is taken between them as its formula continues it, unvalidated.
Angles are periodic: descent crosses pi, and its ends are brought back to [-pi, pi]. Other supports (simplex, sphere)
are left by every step along a gradient: these families are said to have no descent.
"""

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpyro.distributions import Distribution, ExpandedDistribution, Independent, constraints
from numpyro.distributions.constraints import Constraint

from probam.distributions.mixture import MemoryMixture
from probam.distributions.supports import support_in_words
from probam.energies.arguments import is_traced

__all__ = ["Descent", "descent_of"]

_MARGIN = 1e-6
"""Share of the way from the edge of a support to the mean that descent leaves free: at the edge itself the density may
be 0 or infinite."""

Map = Callable[[jax.Array], jax.Array]
"""A function of states, rows (..., D)."""


class Descent(NamedTuple):
    """The energy of a mixture for gradient descent.

    ``inside`` brings a point to where the energy is defined, and is None where it is so everywhere. A text in ``still``
    is the reason why there is no descent.
    """

    energy: Map
    inside: Map | None
    still: str


def descent_of(mixture: MemoryMixture) -> Descent:
    """The negative log density of a mixture, constant beyond the edge of its support so that descent ends there."""
    bank = _unvalidated(mixture.bank) if mixture.bank.is_discrete else mixture.bank
    density = MemoryMixture(mixture.log_weights, bank, missing=mixture.missing, validate_args=False)
    support = _support_of_feature(mixture.bank)
    inside: Map | None = None
    if _is(support, constraints.circular):
        inside = _wrapped
    elif support is not None:
        inside = _clipped(mixture.bank, support)
    still = _why_still(mixture.bank, support, density)

    def energy(v: jax.Array) -> jax.Array:
        return jnp.asarray(-density.log_prob(v if inside is None else inside(v)))

    return Descent(energy, inside, still)


def _unvalidated(law: Distribution) -> Distribution:
    """The same distribution, which evaluates its formula outside its support too."""
    law = copy.copy(law)
    law._validate_args = False
    if isinstance(law, Independent | ExpandedDistribution):
        law.base_dist = _unvalidated(law.base_dist)
    return law


def _support_of_feature(bank: Distribution) -> Constraint[Any] | None:
    """The support of one feature, or of a whole datum where features depend on each other; None for all of R^D."""
    support: Any = bank.support
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return None if _is(support, constraints.real) else support


def _is(support: Constraint[Any] | None, singleton: Constraint[Any]) -> bool:
    """Whether a support is one without parameters; equality would compare bounds that jit does not know."""
    return type(support) is type(singleton)


def _bounds(support: Constraint[Any]) -> tuple[Any, Any]:
    """Least and largest value of one feature."""
    if _is(support, constraints.boolean):
        return 0.0, 1.0
    return getattr(support, "lower_bound", -np.inf), getattr(support, "upper_bound", np.inf)


def _clipped(bank: Distribution, support: Constraint[Any]) -> Map | None:
    """Brings points into the smallest box that holds the support of every memory; None where it is all of R^D."""
    least, most = _bounds(support)
    if isinstance(least, float) and isinstance(most, float) and np.isinf([least, most]).all():
        return None
    low = jnp.min(jnp.broadcast_to(least, bank.shape()), axis=0)
    high = jnp.max(jnp.broadcast_to(most, bank.shape()), axis=0)
    if not bank.is_discrete:
        mean = jnp.asarray(bank.mean)
        low, high = low + _margin(mean, low), high - _margin(mean, high)

    def clip(v: jax.Array) -> jax.Array:  # with the slope of the inside at the edge itself, where many counts lie
        return jnp.where(v < low, low, jnp.where(v > high, high, v)).astype(v.dtype)

    return clip


def _margin(mean: Float[Array, "K D"], edge: Float[Array, " D"]) -> Float[Array, " D"]:
    way = jnp.abs(mean - edge)
    return jnp.where(jnp.isfinite(edge), _MARGIN * jnp.min(jnp.where(jnp.isfinite(way), way, 1.0), axis=0), 0.0)


def _wrapped(v: jax.Array) -> jax.Array:
    """Angles in [-pi, pi]."""
    return jnp.where(jnp.abs(v) > np.pi, v - 2 * np.pi * jnp.round(v / (2 * np.pi)), v)


def _why_still(bank: Distribution, support: Constraint[Any] | None, density: MemoryMixture) -> str:
    """Why nothing descends; empty where something does."""
    if support is not None and support.event_dim > 0:
        return (
            f"this family has no physical twin, and descent along a gradient leaves its support "
            f"({support_in_words(support)})"
        )
    if not bank.is_discrete or any(map(is_traced, jax.tree.leaves(bank))):
        return ""
    between = jnp.asarray(bank.mean) + 0.25
    slopes = np.asarray(jax.vmap(jax.grad(density.log_prob))(between))
    if np.any(slopes[np.isfinite(slopes)] != 0):
        return ""
    return "this family is discrete: its density has no slope between its values, so there is no descent"
