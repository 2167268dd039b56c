r"""A vector in R^D that represents a direction, for samplers that need unconstrained coordinates.

The unit vector z / \|z\| of a draw is uniform on the sphere. The length of z has no meaning; its distribution keeps
it near one, away from the origin, where the direction is undefined.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float
from numpyro.distributions import Distribution, constraints
from numpyro.distributions.util import validate_sample

from probam.errors import InputError

__all__ = ["FreeDirection"]


class FreeDirection(Distribution):
    r"""Isotropic distribution on R^D whose density is greatest on the unit sphere and zero at the origin.

    .. math::

        f(z) = \frac{\Gamma(D/2) \, a^{a + D/2}}{\pi^{D/2} \, \Gamma(a + D/2)} \, \lVert z \rVert^{2a}
        e^{-a \lVert z \rVert^2}, \qquad a = \max(1, D / 2)

    The direction is uniform and independent of the length, for which
    :math:`\lVert z \rVert^2 \sim \mathrm{Gamma}(a + D/2, \text{rate } a)`. The direction of a normal vector is
    uniform too, but its density is largest at the origin, where a small step can change the direction completely.
    Here the length is near one, with a standard deviation of about :math:`(4a)^{-1/2}`.

    At the origin the log density is -inf with zero gradient.

    Args:
        dim: D, at least 1.

    Raises:
        InputError: for ``dim`` below 1.
    """

    arg_constraints = {}  # noqa: RUF012
    support = constraints.real_vector
    pytree_aux_fields = ("dim",)

    dim: int

    def __init__(self, dim: int, *, validate_args: bool | None = None) -> None:
        if dim < 1:
            raise InputError(f"dim: expected a whole number of at least 1; got {dim}")
        self.dim = dim
        super().__init__((), (dim,), validate_args=validate_args)

    @property
    def rate(self) -> float:
        """The exponent a = max(1, D/2), which is also the rate of the squared length."""
        return max(1.0, self.dim / 2)

    @validate_sample  # type: ignore[untyped-decorator]
    def log_prob(self, value: Float[ArrayLike, "... D"]) -> Float[Array, "..."]:
        """Log density at vectors, in nats."""
        half, a = self.dim / 2, self.rate
        on_sphere = math.lgamma(half) - half * math.log(math.pi) - math.lgamma(a + half) + (a + half) * math.log(a) - a
        sq_length = jnp.sum(jnp.asarray(value) ** 2, axis=-1)
        safe = jnp.where(sq_length > 0, sq_length, 1.0)
        return on_sphere + jnp.where(sq_length > 0, a * (jnp.log(safe) - (safe - 1)), -jnp.inf)

    def sample(self, key: Array | None, sample_shape: tuple[int, ...] = ()) -> Float[Array, "*shape D"]:
        """Independent draws, in JAX's default floating type."""
        assert key is not None
        key_direction, key_length = jax.random.split(key)
        normal = jax.random.normal(key_direction, (*sample_shape, self.dim))
        normal = jnp.where(jnp.sum(normal**2, axis=-1, keepdims=True) > 0, normal, 1.0)
        sq_length = jax.random.gamma(key_length, self.rate + self.dim / 2, tuple(sample_shape)) / self.rate
        length = jnp.sqrt(sq_length)[..., None]
        draws: Array = normal / jnp.linalg.norm(normal, axis=-1, keepdims=True) * length
        return draws

    @property
    def mean(self) -> Float[Array, " D"]:
        """Zero: no direction is preferred."""
        return jnp.zeros(self.dim)

    @property
    def variance(self) -> Float[Array, " D"]:
        """Variance of each coordinate, 1/D + 1/(2a)."""
        return jnp.full(self.dim, 1 / self.dim + 1 / (2 * self.rate))
