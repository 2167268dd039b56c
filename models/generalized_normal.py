r"""Generalised normal memories: independent features with tails between Laplace's and the uniform's.

.. math:: p(x \mid \mu_k, \beta_k) = \prod_d \frac{\beta_{kd}^{1/p}}{2\,\Gamma(1 + 1/p)} e^{-\beta_{kd} |x_d -
    \mu_{kd}|^p}

The option ``power`` is p >= 1, one number for all (default 1.5): 1 is Laplace, 2 a diagonal Gaussian, large values come
near the uniform box. Sites: ``loc`` and ``beta``, both (K, D); ``scale`` = beta^(-1/p) is shown beside them. Default
priors see each feature's median m, mean absolute deviation a from it and mean M of |x - m|^p: locations are Normal(m, 3
a), beta is Gamma with shape 2 around 2^p / (p M), the value for a memory half as wide as the data.

The M-step: along each feature the weighted sum of |x - mu|^p is convex, its minimum is bisected; then beta in closed
form.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Float
from numpyro.distributions import Distribution

from probam.distributions.generalized_normal import GeneralizedNormal
from probam.errors import InputError
from probam.family import Params, Prior, conjugate, register
from probam.family.capabilities import MStep
from probam.models.location_scale import LocationScale, along_features, centre_and_width, occupied
from probam.numerics.bisection import turning_point

__all__ = ["GeneralizedNormalMemory"]

_SHAPE = 2.0
"""Shape of the Gamma prior on beta."""

_FLOOR = 1e-3
"""Smallest scale, relative to that of all data as one memory, that maximum likelihood may reach."""


@register
@dataclass(frozen=True)
class GeneralizedNormalMemory(LocationScale, MStep):
    """Memories with independent exponential-power features of a known power."""

    power: float = 1.5

    name: ClassVar[str] = "generalized_normal"
    memory: ClassVar[str] = "a generalised normal memory"

    def __post_init__(self) -> None:
        if not 1 <= self.power < np.inf:
            raise InputError(
                f"power: expected a number of at least 1 (below it the density has a cusp at every memory and the "
                f"M-step many optima); got {self.power}"
            )

    def prior(self, x: np.ndarray) -> dict[str, Distribution]:
        """Default base measure, scaled to each feature (see the module)."""
        centre, width = centre_and_width(x)
        power = np.mean(np.abs(x - centre) ** self.power, axis=0)
        rate = (_SHAPE * self.power * power / 2**self.power).astype(x.dtype)
        return {
            "loc": dist.Normal(centre, 3 * width).to_event(1),
            "beta": dist.Gamma(np.full(x.shape[1], _SHAPE, x.dtype), rate).to_event(1),
        }

    def bank(self, params: Mapping[str, jax.Array]) -> Distribution:
        """The memories, valid by construction."""
        return GeneralizedNormal(params["loc"], params["beta"], self.power, validate_args=False).to_event(1)

    def deterministics(self, params: Mapping[str, jax.Array]) -> Params:
        """``scale``: beta^(-1/p), in the data's units."""
        return {"scale": params["beta"] ** (-1 / self.power)}

    def maximize_from(
        self, x: Float[Array, "N D"], responsibilities: Float[Array, "N K"], params: Params, prior: Prior | None
    ) -> Params:
        """Locations given the previous beta, then beta given the new locations: each an exact maximum (in log beta)."""
        counts = jnp.sum(responsibilities, axis=0)
        if prior is None:
            centre, tightness = x[:1], jnp.zeros_like(params["beta"])
        else:
            normal = conjugate(prior, "loc", dist.Normal)
            centre = jnp.broadcast_to(normal.loc, x[:1].shape)
            tightness = jnp.broadcast_to(normal.scale**-2, params["beta"].shape) / params["beta"]

        def one(
            column: jax.Array, centre: jax.Array, tightness: jax.Array, total: jax.Array
        ) -> tuple[jax.Array, jax.Array]:
            """Location and sum of |x - mu|^p of every memory along one feature."""

            def is_denser_above(loc: jax.Array) -> jax.Array:
                gap = loc - column[:, None]
                slope = jnp.sum(responsibilities * jnp.sign(gap) * jnp.abs(gap) ** (self.power - 1), axis=0)
                return self.power * slope + tightness * (loc - centre[0]) <= 0

            edges = (jnp.minimum(jnp.min(column), centre[0]), jnp.maximum(jnp.max(column), centre[0]))
            loc = turning_point(is_denser_above, jnp.full_like(counts, edges[0]), jnp.full_like(counts, edges[1]))
            spread = jnp.sum(responsibilities * jnp.abs(column[:, None] - loc) ** self.power, axis=0)
            return loc, jnp.maximum(spread, _FLOOR**self.power * total * counts) if prior is None else spread

        total = jnp.mean(jnp.abs(x - jnp.median(x, axis=0)) ** self.power, axis=0, keepdims=True)
        loc, spread = along_features(one, x, centre, tightness, total, numbers=responsibilities.size)
        shape = counts[:, None] / self.power
        if prior is None:
            return occupied(counts, {"loc": loc, "beta": shape / jnp.where(spread > 0, spread, 1)}, params)
        gamma = conjugate(prior, "beta", dist.Gamma)
        return {"loc": loc, "beta": (shape + gamma.concentration) / (spread + gamma.rate)}
