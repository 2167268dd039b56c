r"""Coordinates in which a step of a given length means the same whatever the units of the data.

A change of units, x to s x, moves the unconstrained coordinates of a site in one of two ways. Where the bijection is a
logarithm, a logit or the like, it takes pure numbers, and the coordinate is shifted at most. Where it is linear (a
location on the real line, an entry below the diagonal of a Cholesky factor) the coordinate is multiplied. The walk
divides each coordinate of the second kind by its unit, so that it is the same walk in every unit.

Which kind a coordinate is of, the bijection tells: it keeps volume exactly along those in which it is linear. The unit
is the spread of the site's prior, and for a location the unit of its feature where that is smaller (a vague prior says
nothing of the data).
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float
from numpyro.distributions import Distribution, biject_to

from probam.family import Model, Params
from probam.family.capabilities import DataSpace
from probam.inference.common.coordinates import Coordinates
from probam.inference.common.rows import without_missing

__all__ = ["ScaledCoordinates", "units"]

_NUM_DRAWS = 256
"""Draws of a prior from which its spread is taken."""

_QUARTILES_OF_NORMAL = 1.3489795003921634
"""Distance between the quartiles of the standard normal distribution."""


class _Scaled:
    """A bijection from unconstrained values that are divided by their units; densities stay those of the undivided."""

    def __init__(self, transform: Any, unit: jax.Array) -> None:
        self.transform, self.unit = transform, unit

    def __call__(self, walk: jax.Array) -> Any:
        return self.transform(walk * self.unit)

    def inv(self, value: jax.Array) -> Any:
        return self.transform.inv(value) / self.unit

    def log_abs_det_jacobian(self, walk: jax.Array, value: jax.Array) -> Any:
        return self.transform.log_abs_det_jacobian(walk * self.unit, value)


class ScaledCoordinates(Coordinates):
    """Unconstrained coordinates divided by ``units``; log densities are those of :class:`Coordinates`."""

    def __init__(self, model: Model, units: Params) -> None:
        super().__init__(model)
        self.transforms = {name: _Scaled(transform, units[name]) for name, transform in self.transforms.items()}


@jax.jit
def units(model: Model, x: Float[Array, "N D"]) -> Params:
    """The unit of each unconstrained coordinate of the model; 1 for those that are pure numbers.

    Args:
        model: the mixture.
        x: data in units of the model, NaN where an entry is missing.
    """
    result = {name: jnp.ones(zero.shape, x.dtype) for name, zero in Coordinates(model).zeros.items()}
    for site, law in model.prior.items():
        spread, linear = _prior_spread(law)
        if site == model.family.location and spread.shape == x.shape[1:]:
            _, feature_unit = DataSpace.of(model.family).frame(without_missing(x) if model.missing else x)
            spread = jnp.minimum(spread, feature_unit)
        usable = linear & jnp.isfinite(spread) & (spread > 0)
        result[site] = jnp.broadcast_to(jnp.where(usable, spread, 1), result[site].shape).astype(x.dtype)
    return result


def _prior_spread(law: Distribution) -> tuple[Float[Array, "*S"], Bool[Array, "*S"]]:
    """Spread of a prior in its unconstrained coordinates, and in which of them the bijection is linear.

    The spread is taken from the quartiles, which every law has.
    """
    transform = biject_to(law.support)
    draws = law.sample(jax.random.key(0), (_NUM_DRAWS,))
    free = jax.vmap(transform.inv)(draws)
    lower, upper = jnp.quantile(free, jnp.asarray([0.25, 0.75], free.dtype), axis=0)

    def log_volume(free: jax.Array) -> jax.Array:
        return jnp.sum(transform.log_abs_det_jacobian(free, transform(free)))

    linear = jax.grad(log_volume)(free[0]) == 0
    return (upper - lower) / _QUARTILES_OF_NORMAL, linear
