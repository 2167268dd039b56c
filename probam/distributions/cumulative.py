"""Cumulative distribution functions of one feature, and the quantiles of mixtures of such laws.

NumPyro's own ``cdf`` where it has one; :func:`cumulative` takes further laws.
"""

from collections.abc import Callable
from functools import singledispatch
from typing import Any

import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, ArrayLike, Float
from numpyro.distributions import Distribution

from probam.errors import InputError
from probam.numerics.bisection import crossing

__all__ = ["cumulative", "quantiles"]

_WHOLE = 0.25
"""How near the quantile of a law of whole numbers is sought before it is rounded."""


@singledispatch
def cumulative(law: Distribution, value: Float[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Probability that each variable of a law is at most ``value``; a law may register its own.

    Raises:
        InputError: for a law whose cumulative distribution function is not known.
    """
    support: Any = law.support
    low, high = getattr(support, "lower_bound", -jnp.inf), getattr(support, "upper_bound", jnp.inf)
    value = jnp.asarray(value)
    try:
        inside = jnp.asarray(law.cdf(jnp.clip(value, low, high)))
    except NotImplementedError as error:
        raise InputError(
            f"quantiles: {type(law).__name__} has no cumulative distribution function; mean, sd, log_prob and sample "
            "have answers"
        ) from error
    return jnp.where(value < low, 0, jnp.where(value >= high, 1, inside))


@cumulative.register(dist.BernoulliProbs)
@cumulative.register(dist.BernoulliLogits)
def _(law: dist.BernoulliProbs | dist.BernoulliLogits, value: Float[ArrayLike, "..."]) -> Float[Array, "..."]:
    below = 1 - jnp.asarray(law.mean)
    return jnp.where(jnp.asarray(value) < 0, 0, jnp.where(jnp.asarray(value) < 1, below, 1))


def quantiles(
    probability: Callable[[Float[Array, "Q D"]], Float[Array, "Q D"]],
    levels: Float[Array, " Q"],
    low: Float[Array, " D"],
    high: Float[Array, " D"],
    *,
    is_discrete: bool = False,
) -> Float[Array, "Q D"]:
    """Least values of D features that are not exceeded with the probabilities ``levels``.

    Args:
        probability: cumulative distribution functions, elementwise: column d is of feature d.
        levels: between 0 and 1.
        low, high: where to look first, low < high.
        is_discrete: whether the features are whole numbers.
    """
    shape = (*levels.shape, *low.shape)
    wanted, low, high = (jnp.broadcast_to(each, shape) for each in (levels[:, None], low, high))
    found = crossing(probability, wanted, low, high, resolution=_WHOLE if is_discrete else 0.0)
    return jnp.round(found) if is_discrete else found
