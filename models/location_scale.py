"""What families with a location and a scale share: data-scaled priors, and the priors that their M-steps need."""

from collections.abc import Sequence
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from numpyro.distributions import Distribution

from probam.errors import InputError
from probam.family import Params, Prior

__all__ = ["along_features", "centre_and_width", "check_spread", "conjugate", "occupied"]

_D = TypeVar("_D", bound=Distribution)


def check_spread(x: np.ndarray, columns: Sequence[str], memory: str) -> None:
    """Refuse a constant column: it has no scale to find."""
    constant = np.ptp(x, axis=0) == 0
    if constant.any():
        column = columns[int(np.flatnonzero(constant)[0])]
        raise InputError(f"data: column {column!r} is constant, and {memory} needs some spread; leave the column out")


def centre_and_width(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Median and mean absolute deviation from it of each feature, in the data's dtype."""
    centre = np.median(x, axis=0).astype(x.dtype)
    return centre, np.mean(np.abs(x - centre), axis=0).astype(x.dtype)


def conjugate(prior: Prior, site: str, expected: type[_D]) -> _D:
    """The prior of a site, taken out of the ``Independent`` around it, if it is of the family that an M-step needs."""
    given = prior[site]
    inner = given.base_dist if isinstance(given, dist.Independent) else given
    if not isinstance(inner, expected):
        raise InputError(
            f"prior: the closed-form M-step needs a {expected.__name__} prior on {site!r}; "
            f"got {type(inner).__name__}; use engine 'gradient_em', 'svi' or 'nuts' with this prior"
        )
    return inner


def along_features(function: object, *arrays: jax.Array) -> tuple[jax.Array, ...]:
    """``function`` of each feature in turn, the last axis of every array: keeps (N, K) in hand and never (N, K, D)."""
    moved = jax.lax.map(lambda one: function(*one), tuple(jnp.moveaxis(array, -1, 0) for array in arrays))  # type: ignore[operator]
    return tuple(jnp.moveaxis(array, 0, -1) for array in moved)


def occupied(counts: jax.Array, fresh: Params, previous: Params) -> Params:
    """Fresh values where a memory has data, the previous ones where it has none (maximum likelihood alone)."""
    held = counts > 0
    return {
        site: jnp.where(jnp.expand_dims(held, tuple(range(1, value.ndim))), value, previous[site])
        for site, value in fresh.items()
    }
