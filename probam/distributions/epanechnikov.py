r"""The Epanechnikov distribution in R^D: a parabola of the distance, zero beyond a radius."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln
from jaxtyping import Array, Float
from numpyro.distributions import Distribution, constraints
from numpyro.distributions.util import validate_sample

__all__ = ["Epanechnikov"]


class Epanechnikov(Distribution):
    r"""Density proportional to \(1 - |x - \mu|^2 / h^2\) where it is positive.

    .. math:: p(x) = \frac{D + 2}{2} \frac{\Gamma(D/2 + 1)}{\pi^{D/2} h^D} \max(0, 1 - |x - \mu|^2 / h^2)

    Epanechnikov (1969), doi:10.1137/1114019. Its covariance is \(h^2 I / (D + 4)\).

    Args:
        loc: the centre, batch shape and D.
        radius: h > 0, batch shape.
    """

    arg_constraints = {"loc": constraints.real_vector, "radius": constraints.positive}  # noqa: RUF012
    support = constraints.real_vector
    pytree_data_fields = ("loc", "radius")

    def __init__(
        self,
        loc: Float[Array | np.ndarray, "*batch D"],
        radius: Float[Array | np.ndarray, "*batch"],
        *,
        validate_args: bool | None = None,
    ) -> None:
        self.loc, self.radius = jnp.asarray(loc), jnp.asarray(radius)
        super().__init__(self.loc.shape[:-1], self.loc.shape[-1:], validate_args=validate_args)

    @validate_sample  # type: ignore[untyped-decorator]
    def log_prob(self, value: Float[Array | np.ndarray, "... D"]) -> Float[Array, "..."]:
        """Log density in nats, -inf beyond the radius."""
        dim = self.event_shape[0]
        height = 1 - jnp.sum((value - self.loc) ** 2, axis=-1) / self.radius**2
        inside = height > 0
        log_volume = 0.5 * dim * jnp.log(jnp.pi) - gammaln(0.5 * dim + 1) + dim * jnp.log(self.radius)
        log_height = jnp.log(jnp.where(inside, height, 1))
        return jnp.where(inside, log_height + jnp.log(0.5 * dim + 1) - log_volume, -jnp.inf)

    def sample(self, key: jax.Array | None, sample_shape: tuple[int, ...] = ()) -> Float[Array, "... D"]:
        """Independent draws: a uniform direction, and a radius whose square over h^2 is Beta(D / 2, 2)."""
        assert key is not None, "numpyro passes a key wherever it samples"
        key_direction, key_radius = jax.random.split(key)
        shape, dim = (*sample_shape, *self.batch_shape), self.event_shape[0]
        direction = jax.random.normal(key_direction, (*shape, dim), self.loc.dtype)
        direction = direction / jnp.linalg.norm(direction, axis=-1, keepdims=True)
        square = jax.random.beta(key_radius, 0.5 * dim, 2.0, shape, self.loc.dtype)
        draws: Array = self.loc + (self.radius * jnp.sqrt(square))[..., None] * direction
        return draws

    @property
    def mean(self) -> Float[Array, "*batch D"]:
        """The centre."""
        return self.loc

    @property
    def variance(self) -> Float[Array, "*batch D"]:
        """h^2 / (D + 4) for every feature."""
        return jnp.broadcast_to((self.radius**2)[..., None] / (self.event_shape[0] + 4), self.loc.shape)
