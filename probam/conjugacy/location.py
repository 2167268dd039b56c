"""The normal prior of a location, and the most probable locations of Gaussian memories under it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, Float
from numpyro.distributions import Distribution

from probam.distributions.supports import innermost
from probam.errors import InputError

__all__ = [
    "NormalPrior",
    "independent_normal",
    "most_probable_locations",
    "most_probable_locations_full",
    "normal_prior",
]


class NormalPrior(NamedTuple):
    """One normal law of all features."""

    loc: Float[Array, " D"]
    scale_tril: Float[Array, "D D"]

    @property
    def covariance(self) -> Float[Array, "D D"]:
        """Of the location."""
        return jnp.matmul(self.scale_tril, self.scale_tril.T, precision="highest")

    @property
    def precision(self) -> Float[Array, "D D"]:
        """Inverse of the covariance."""
        eye = jnp.eye(len(self.loc), dtype=self.loc.dtype)
        return jnp.asarray(jax.scipy.linalg.cho_solve((self.scale_tril, True), eye))


def normal_prior(law: Distribution) -> NormalPrior:
    """The prior of a location as one law of all features.

    Args:
        law: ``Normal`` (inside ``to_event``) or ``MultivariateNormal``.

    Raises:
        InputError: for another law.
    """
    inner = innermost(law)
    if isinstance(inner, dist.MultivariateNormal):
        return NormalPrior(jnp.asarray(inner.loc), jnp.asarray(inner.scale_tril))
    normal = independent_normal(law)
    loc = jnp.broadcast_to(normal.loc, law.event_shape)
    return NormalPrior(loc, jnp.diag(jnp.broadcast_to(normal.scale, loc.shape)))


def independent_normal(law: Distribution) -> dist.Normal:
    """The prior of a location whose features are independent, out of ``expand`` and ``to_event``.

    Raises:
        InputError: for another law.
    """
    inner = innermost(law)
    if not isinstance(inner, dist.Normal):
        raise InputError(f"prior: expected a Normal prior on the location; got {type(inner).__name__}")
    return inner


def most_probable_locations(
    counts: Float[Array, " K"],
    sums: Float[Array, "K D"],
    precision: Float[Array, "K #D"],
    previous: Float[Array, "K D"],
    origin: Float[Array, " D"],
    law: Distribution | None,
) -> Float[Array, "K D"]:
    """Locations of memories whose features are independent.

    Args:
        counts: of the data of each memory.
        sums: of the data less ``origin``.
        precision: of the data around their location, (K, 1) or (K, D).
        previous: locations less ``origin``, kept where there are no data and no prior.
        origin: what locations are relative to.
        law: prior of a location; None for maximum likelihood.
    """
    if law is None:
        occupied = counts[:, None] > 0
        return jnp.where(occupied, sums / jnp.where(occupied, counts[:, None], 1), previous)
    normal = independent_normal(law)
    prior_precision = normal.scale**-2
    pull = precision * sums + prior_precision * (normal.loc - origin)
    return jnp.asarray(pull / (precision * counts[:, None] + prior_precision))


def most_probable_locations_full(
    counts: Float[Array, " K"],
    sums: Float[Array, "K D"],
    precision: Float[Array, "K D D"],
    previous: Float[Array, "K D"],
    origin: Float[Array, " D"],
    law: Distribution | None,
) -> Float[Array, "K D"]:
    """The same where features are correlated within a memory: ``precision`` is that matrix."""
    if law is None:
        return most_probable_locations(counts, sums, jnp.ones_like(sums), previous, origin, None)
    prior = normal_prior(law)
    pull = jnp.einsum("kij,kj->ki", precision, sums) + prior.precision @ (prior.loc - origin)
    matrix = counts[:, None, None] * precision + prior.precision
    factor = jax.lax.linalg.cholesky(matrix, symmetrize_input=False)
    return jnp.asarray(jax.scipy.linalg.cho_solve((factor, True), pull[..., None])[..., 0])
