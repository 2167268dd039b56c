r"""Radial Laplace memories: the density falls off with the Euclidean distance itself, not its square.

.. math::
    p(x \mid \mu_k, \beta_k) = \frac{\Gamma(D/2)\, \beta_k^D}{2 \pi^{D/2}\, \Gamma(D)} e^{-\beta_k \lVert x - \mu_k
    \rVert}

Sites: ``loc`` (K, D) and ``beta`` (K,). The M-step for a location is a step of Weiszfeld's towards the geometric
median, with Vardi and Zhang's (2000, doi:10.1073/pnas.97.4.1423) correction where it stands on a datum: a generalised
EM step, monotone and not exact. Default priors see each feature's median m and mean absolute deviation a from it, and
the mean distance r from m: locations are radial Laplace around m with the beta that puts a standard deviation of 3
times the mean a in each feature; beta is Gamma with shape 2 around 2 D / r, the value for a memory half as wide as the
data.
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

from probam.distributions.generalized_normal import RadialLaplace
from probam.family import Params, Prior, conjugate, register
from probam.family.capabilities import MStep
from probam.models.location_scale import LocationScale, centre_and_width, occupied
from probam.placement import each

__all__ = ["RadialLaplaceMemory"]

_SHAPE = 2.0
"""Shape of the Gamma prior on beta."""

_FLOOR = 1e-3
"""Smallest 1 / beta, relative to that of all data as one memory, that maximum likelihood may reach."""


@register
@dataclass(frozen=True)
class RadialLaplaceMemory(LocationScale, MStep):
    """Memories whose density falls off with the Euclidean distance."""

    name: ClassVar[str] = "radial_laplace"
    memory: ClassVar[str] = "a radial Laplace memory"

    def prior(self, x: np.ndarray) -> dict[str, Distribution]:
        """Default base measure (see the module)."""
        centre, width = centre_and_width(x)
        dim = x.shape[1]
        distance = np.mean(np.linalg.norm(x - centre, axis=1))
        base = np.sqrt(dim + 1) / (3 * width.mean())
        shape = x.dtype.type(_SHAPE)
        return {
            "loc": RadialLaplace(centre, x.dtype.type(base)),
            "beta": dist.Gamma(shape, x.dtype.type(_SHAPE * distance / (2 * dim))),
        }

    def bank(self, params: Mapping[str, jax.Array]) -> Distribution:
        """The memories, valid by construction."""
        return RadialLaplace(params["loc"], params["beta"], validate_args=False)

    def maximize_from(
        self, x: Float[Array, "N D"], responsibilities: Float[Array, "N K"], params: Params, prior: Prior | None
    ) -> Params:
        """One step towards the geometric median given the previous beta; then the exact beta (in log beta)."""
        counts = jnp.sum(responsibilities, axis=0)
        points, weights = x, responsibilities
        if prior is not None:  # the prior's centre is one more datum
            law = conjugate(prior, "loc", RadialLaplace)
            points = jnp.concatenate([x, law.loc[None]])
            weights = jnp.concatenate([responsibilities, (law.beta / params["beta"])[None]])

        def nearer(one: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            loc, weight = one
            moved = _weiszfeld(points, weight, loc)
            return moved, jnp.linalg.norm(x - moved, axis=-1)

        loc, distance = each(nearer, (params["loc"], weights.T), numbers=points.size)
        total = jnp.sum(responsibilities * distance.T, axis=0)
        shape = counts * x.shape[1]
        if prior is None:
            overall = jnp.mean(jnp.linalg.norm(x - jnp.median(x, axis=0), axis=-1))
            total = jnp.maximum(total, _FLOOR * overall * counts)
            return occupied(counts, {"loc": loc, "beta": shape / jnp.where(total > 0, total, 1)}, params)
        gamma = conjugate(prior, "beta", dist.Gamma)
        return {"loc": loc, "beta": (shape + gamma.concentration) / (total + gamma.rate)}


def _weiszfeld(points: Float[Array, "N D"], weights: Float[Array, " N"], loc: Float[Array, " D"]) -> Float[Array, " D"]:
    """One monotone step from ``loc`` towards the minimum of the weighted sum of distances."""
    distance = jnp.linalg.norm(points - loc, axis=-1)
    is_elsewhere = distance > 0
    pull = jnp.where(is_elsewhere, weights / jnp.where(is_elsewhere, distance, 1), 0)
    here = jnp.sum(jnp.where(is_elsewhere, 0, weights))
    total = jnp.sum(pull)
    target = pull @ (points - loc) / jnp.where(total > 0, total, 1)
    force = total * jnp.linalg.norm(target)
    kept = jnp.where(here > 0, jnp.minimum(1, here / jnp.where(force > 0, force, 1)), 0)
    kept = jnp.where(force > 0, kept, 1)
    return loc + (1 - kept) * target
