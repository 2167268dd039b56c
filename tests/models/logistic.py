"""A family that a newcomer adds in one file without any closed form: logistic memories."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from numpyro.distributions import Distribution

from probam.family import Family, register


@register
@dataclass(frozen=True)
class Logistic(Family):
    """Independent logistic features: round peaks, exponential tails."""

    name: ClassVar[str] = "logistic"

    def prior(self, x: np.ndarray) -> dict[str, Distribution]:
        """Memories where the data are; scales of a quarter of the data's spread."""
        spread = jnp.asarray(x.std(axis=0))
        return {
            "loc": dist.Normal(jnp.asarray(x.mean(axis=0)), 2 * spread).to_event(1),
            "scale": dist.LogNormal(jnp.log(spread / 4), 1.0).to_event(1),
        }

    def bank(self, params: Mapping[str, jax.Array]) -> Distribution:
        """The memories."""
        return dist.Logistic(params["loc"], params["scale"]).to_event(1)
