r"""Lévy memories: one-sided features with tails so heavy that they have no mean.

.. math::
    p(x \mid \mu_k, c_k) = \prod_d \sqrt{\frac{c_{kd}}{2\pi}}
    \frac{e^{-c_{kd} / (2 (x_d - \mu_{kd}))}}{(x_d - \mu_{kd})^{3/2}}, \qquad x_d > \mu_{kd}

Sites: ``mode`` and ``scale`` c, both (K, D); ``loc`` = mode - c / 3 is shown beside them. The density *at* mu is zero:
what such a memory retrieves is its mode, a third of c above mu (CLAIMS A15), so the mode is what is stored. Default
priors see each feature's median m and mean absolute deviation a (or the median distance from m, where the tail makes it
smaller): modes are Normal(m, 3 a), scales log-normal around a with standard deviation 1.
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
from typing_extensions import override

from probam.distributions.levy import Levy
from probam.family import Params, Prior, register
from probam.family.capabilities import Start
from probam.models.location_scale import LocationScale

__all__ = ["LevyMemory"]

_MARGIN = 0.25
"""How far below its least datum a memory begins, in units of its scale."""


@register
@dataclass(frozen=True)
class LevyMemory(LocationScale, Start):
    """Memories with independent Lévy features, each from its own edge upwards."""

    name: ClassVar[str] = "levy"
    memory: ClassVar[str] = "a Lévy memory"
    location: ClassVar[str] = "mode"
    no_m_step: ClassVar[str] = (
        "its support begins at mu_k: a memory could never pass a datum for which it has any responsibility"
    )

    no_guide: ClassVar[str] = (
        "a Gaussian guide always reaches parameters under which some datum lies below every edge, where the evidence "
        "bound is minus infinity"
    )

    def prior(self, x: np.ndarray) -> dict[str, Distribution]:
        """Default base measure, scaled to each feature by quantiles (see the module)."""
        median = np.median(x, axis=0)
        gap = np.abs(x - median)
        middle = np.median(gap, axis=0)
        width = np.where(middle > 0, np.minimum(middle, gap.mean(axis=0)), gap.mean(axis=0)).astype(x.dtype)
        return {
            "mode": dist.Normal(median.astype(x.dtype), 3 * width).to_event(1),
            "scale": dist.LogNormal(np.log(width), x.dtype.type(1)).to_event(1),
        }

    def bank(self, params: Mapping[str, jax.Array]) -> Distribution:
        """The memories, valid by construction."""
        return Levy(_edge(params), params["scale"], validate_args=False).to_event(1)

    def spread(self, params: Mapping[str, jax.Array]) -> Float[Array, "K D"]:
        """Half the width of the peak (where the curvature at the mode puts one standard deviation): there is no sd."""
        return jnp.sqrt(2 / 27) * params["scale"]

    def deterministics(self, params: Mapping[str, jax.Array]) -> Params:
        """``loc``: the edge of the support, mu."""
        return {"loc": _edge(params)}

    @override
    def start(self, x: Float[Array, "N D"], assignment: Float[Array, "N K"], params: Params, prior: Prior) -> Params:
        """Edges below the least datum assigned, so that every datum lies in a support; scales as those data ask.

        Given mu the likeliest scale is the harmonic mean of x - mu.
        """
        counts = jnp.sum(assignment, axis=0)[:, None]
        has_data = counts > 0
        least = jnp.min(jnp.where(assignment[:, :, None] > 0, x[:, None, :], jnp.inf), axis=0)
        lowest = jnp.where(has_data, least, jnp.min(x, axis=0))
        edge = lowest - _MARGIN * params["scale"]
        gap = jnp.where(assignment[:, :, None] > 0, x[:, None, :] - edge, 1)
        inverse = jnp.sum(assignment[:, :, None] / gap, axis=0)
        scale = jnp.where(has_data, counts / jnp.where(has_data, inverse, 1), params["scale"])
        return params | {"scale": scale, "mode": edge + scale / 3}


def _edge(params: Mapping[str, jax.Array]) -> Float[Array, "K D"]:
    return params["mode"] - params["scale"] / 3
