r"""Uniform distributions in a box and in a ball around a centre: log densities are -inf outside, never NaN.

NumPyro's ``Uniform`` has the edges as parameters. With a centre and a half-width a datum that defines an edge counts as
inside.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float
from numpyro.distributions import Distribution, constraints
from numpyro.distributions.util import validate_sample

__all__ = ["UniformBall", "UniformBox"]


class _Flat(Distribution):
    """A centre ``loc`` and a distance ``reach`` from it, within which the density is constant."""

    arg_constraints = {  # noqa: RUF012
        "loc": constraints.real_vector,
        "reach": constraints.dependent(is_discrete=False, event_dim=0),
    }
    support = constraints.real_vector
    pytree_data_fields = ("loc", "reach")

    def __init__(self, loc: ArrayLike, reach: ArrayLike, *, validate_args: bool | None = None) -> None:
        self.loc, self.reach = jnp.asarray(loc), jnp.asarray(reach)
        super().__init__(self.loc.shape[:-1], self.loc.shape[-1:], validate_args=validate_args)

    @property
    def mean(self) -> Float[Array, "*batch D"]:
        """The centre."""
        return self.loc


class UniformBox(_Flat):
    r"""Uniform where :math:`|x_d - \mu_d| \le h_d` for all d; the density is :math:`\prod_d (2 h_d)^{-1}`.

    ``support`` is R^D; outside the box the log density is -inf.

    Args:
        loc: the centre, batch shape and D.
        reach: the half-widths h, above 0, batch shape and D.
    """

    @validate_sample  # type: ignore[untyped-decorator]
    def log_prob(self, value: Float[Array | np.ndarray, "... D"]) -> Float[Array, "..."]:
        """Log density in nats, -inf outside."""
        inside = jnp.all(jnp.abs(value - self.loc) <= self.reach, axis=-1)
        return jnp.where(inside, -jnp.sum(jnp.log(2 * self.reach), axis=-1), -jnp.inf)

    def sample(self, key: jax.Array | None, sample_shape: tuple[int, ...] = ()) -> Float[Array, "*shape D"]:
        """Independent draws."""
        assert key is not None
        shape = (*sample_shape, *self.batch_shape, *self.event_shape)
        return self.loc + self.reach * jax.random.uniform(key, shape, self.loc.dtype, -1, 1)

    @property
    def variance(self) -> Float[Array, "*batch D"]:
        """One third of the squared half-widths."""
        return self.reach**2 / 3


class UniformBall(_Flat):
    r"""Uniform where :math:`\lVert x - \mu \rVert \le R`; the density is :math:`\Gamma(D/2 + 1) / (\pi^{D/2} R^D)`.

    ``support`` is R^D; outside the ball the log density is -inf.

    Args:
        loc: the centre, batch shape and D.
        reach: the radius R, above 0, batch shape.
    """

    @validate_sample  # type: ignore[untyped-decorator]
    def log_prob(self, value: Float[Array | np.ndarray, "... D"]) -> Float[Array, "..."]:
        """Log density in nats, -inf outside."""
        dim = self.event_shape[0]
        inside = jnp.sum((value - self.loc) ** 2, axis=-1) <= self.reach**2
        constant = math.lgamma(dim / 2 + 1) - dim / 2 * math.log(math.pi)
        return jnp.where(inside, constant - dim * jnp.log(self.reach), -jnp.inf)

    def sample(self, key: jax.Array | None, sample_shape: tuple[int, ...] = ()) -> Float[Array, "*shape D"]:
        """Independent draws: a uniform direction, and a radius whose D-th power is uniform."""
        assert key is not None
        key_radius, key_direction = jax.random.split(key)
        shape, dim = (*sample_shape, *self.batch_shape), self.event_shape[0]
        radius = self.reach * jax.random.uniform(key_radius, shape, self.loc.dtype) ** (1 / dim)
        normal = jax.random.normal(key_direction, (*shape, dim), self.loc.dtype)
        draws: Array = self.loc + radius[..., None] * normal / jnp.linalg.norm(normal, axis=-1, keepdims=True)
        return draws

    @property
    def variance(self) -> Float[Array, "*batch D"]:
        """R^2 / (D + 2) for every feature."""
        return jnp.broadcast_to((self.reach**2 / (self.event_shape[0] + 2))[..., None], self.loc.shape)
