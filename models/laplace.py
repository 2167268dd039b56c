r"""Laplace memories: independent features, sharp peaks, heavy tails; medians in place of means.

.. math:: p(x \mid \mu_k, b_k) = \prod_d \frac{1}{2 b_{kd}} \exp\left(-\frac{|x_d - \mu_{kd}|}{b_{kd}}\right)

Sites: ``loc`` and ``scale``, both (K, D). Default priors see each feature's median m and mean absolute deviation a from
it: locations are Laplace around m with scale 2 a, scales inverse-Gamma with shape 2 around a / 2 (the weight of two
data). Both keep the M-step in closed form: the location is a median of the data weighted by responsibilities, with m
as one more datum; the scale is a mean absolute deviation from it, with two more data.
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

from probam.conjugacy.normal import NormalKnownVariance
from probam.conjugacy.pairs import ConjugatePair
from probam.distributions.supports import innermost
from probam.family import Params, Prior, conjugate, register
from probam.family.capabilities import Conjugacy, MStep
from probam.models.location_scale import LocationScale, along_features, centre_and_width, occupied

__all__ = ["Laplace", "weighted_median"]

_SHAPE = 2.0
"""Shape of the inverse-Gamma prior on a scale."""

_FLOOR = 1e-3
"""Smallest scale, as a fraction of the mean absolute deviation of all data, that maximum likelihood may reach.

Without it the likelihood is unbounded: a memory on one datum with no width."""


def weighted_median(values: Float[Array, " N"], weights: Float[Array, "N K"]) -> Float[Array, " K"]:
    r"""Least minimiser of :math:`\sum_n w_{nk} |x_n - m|` for each k: where the sorted weights first reach a half."""
    order = jnp.argsort(values)
    below = jnp.cumsum(weights[order], axis=0)
    return values[order][jnp.argmax(below >= 0.5 * below[-1], axis=0)]


@register
@dataclass(frozen=True)
class Laplace(LocationScale, MStep, Conjugacy):
    """Memories with independent Laplace features."""

    name: ClassVar[str] = "laplace"
    memory: ClassVar[str] = "a Laplace memory"

    def prior(self, x: np.ndarray) -> dict[str, Distribution]:
        """Default base measure, scaled to each feature's median and mean absolute deviation."""
        centre, width = centre_and_width(x)
        shape = np.full(x.shape[1], _SHAPE, x.dtype)
        return {
            "loc": dist.Laplace(centre, 2 * width).to_event(1),
            "scale": dist.InverseGamma(shape, shape * width / 2).to_event(1),
        }

    def bank(self, params: Mapping[str, jax.Array]) -> Distribution:
        """The memories as ``Laplace(...).to_event(1)``, valid by construction."""
        return dist.Laplace(params["loc"], params["scale"], validate_args=False).to_event(1)

    def approximate_pair(self, params: Params, prior: Prior) -> ConjugatePair | None:
        """Gaussians of the same means and variances: 2 b^2 within a memory, 2 s^2 for the prior of its location.

        Means stand for medians, so that an outlier pulls more than it should.
        """
        law = innermost(prior["loc"])
        if not isinstance(law, dist.Laplace):
            return None
        return NormalKnownVariance(jnp.asarray(law.loc), 2 * jnp.asarray(law.scale) ** 2, 2 * params["scale"] ** 2)

    def maximize_from(
        self, x: Float[Array, "N D"], responsibilities: Float[Array, "N K"], params: Params, prior: Prior | None
    ) -> Params:
        """Locations given the previous scales, then scales given the new locations: each an exact maximum.

        Scales are maximised in the coordinate log scale. The prior's median joins the data with the weight
        scale / (the prior's scale).
        """
        counts = jnp.sum(responsibilities, axis=0)
        if prior is None:
            centre, pull = x[:1], jnp.zeros_like(params["scale"])
        else:
            law = conjugate(prior, "loc", dist.Laplace)
            centre, pull = jnp.broadcast_to(law.loc, x[:1].shape), params["scale"] / law.scale

        def one(column: jax.Array, centre: jax.Array, pull: jax.Array, width: jax.Array) -> tuple[jax.Array, jax.Array]:
            """Location and sum of absolute deviations of every memory along one feature."""
            loc = weighted_median(jnp.append(column, centre), jnp.concatenate([responsibilities, pull[None]]))
            spread = jnp.sum(responsibilities * jnp.abs(column[:, None] - loc), axis=0)
            return loc, jnp.maximum(spread, _FLOOR * width * counts) if prior is None else spread

        width = jnp.mean(jnp.abs(x - jnp.median(x, axis=0)), axis=0, keepdims=True)
        loc, spread = along_features(one, x, centre, pull, width, numbers=responsibilities.size)
        if prior is None:
            scale = spread / jnp.where(counts > 0, counts, 1)[:, None]
            return occupied(counts, {"loc": loc, "scale": scale}, params)
        gamma = conjugate(prior, "scale", dist.InverseGamma)
        return {"loc": loc, "scale": (spread + gamma.rate) / (counts[:, None] + gamma.concentration)}
