"""A family that a newcomer adds in one file: Gaussian memories whose precision is known.

It is given to probam as ``--family tests/models/known_precision.py:KnownPrecision`` and has a closed-form M-step.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from numpyro.distributions import Distribution

from probam.family import Family, Moments, Params, Prior, register


@register
@dataclass(frozen=True)
class KnownPrecision(Family):
    """N(loc_k, variance I) with ``variance`` known and loc_k ~ N(0, base_variance I)."""

    variance: float = 0.5
    base_variance: float = 4.0

    name: ClassVar[str] = "known_precision"

    @property
    def closed_form(self) -> bool:
        """The M-step is a weighted mean."""
        return True

    def prior(self, x: np.ndarray) -> dict[str, Distribution]:
        """The base measure."""
        return {"loc": dist.Normal(jnp.zeros(x.shape[1]), self.base_variance**0.5).to_event(1)}

    def bank(self, params: Mapping[str, jax.Array]) -> Distribution:
        """The memories."""
        return dist.Normal(params["loc"], jnp.asarray(self.variance**0.5)).to_event(1)

    def statistics(self, x: jax.Array) -> jax.Array:
        """The data themselves."""
        return x

    def maximize(self, moments: Moments, params: Params, prior: Prior | None) -> Params:
        """Precision-weighted mean of the data and the base."""
        counts = moments.counts[:, None]
        total = moments.sums + counts * moments.origin
        if prior is None:
            return {"loc": jnp.where(counts > 0, total / jnp.where(counts > 0, counts, 1), params["loc"])}
        return {"loc": total / (counts + self.variance / self.base_variance)}
