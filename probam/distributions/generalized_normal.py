r"""Generalised normal (exponential power) distribution on the line, and a radial Laplace distribution in R^D."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaincc
from jaxtyping import Array, ArrayLike, Float
from numpyro.distributions import Distribution, constraints
from numpyro.distributions.util import promote_shapes, validate_sample

from probam.errors import InputError

__all__ = ["GeneralizedNormal", "RadialLaplace"]


class GeneralizedNormal(Distribution):
    r"""Density proportional to exp(-beta |x - loc|^p); p = 1 is Laplace, p = 2 normal with variance 1 / (2 beta).

    .. math:: p(x) = \frac{\beta^{1/p}}{2\,\Gamma(1 + 1/p)} e^{-\beta |x - \mu|^p}

    Nadarajah (2005), doi:10.1080/02664760500079464, with beta in place of scale^-p.

    Args:
        loc: the centre.
        beta: rate, above 0; broadcasts with ``loc``.
        power: p, a number of at least 1.

    Raises:
        InputError: for a power below 1.
    """

    arg_constraints = {"loc": constraints.real, "beta": constraints.positive}  # noqa: RUF012
    support = constraints.real
    pytree_data_fields = ("loc", "beta")
    pytree_aux_fields = ("power",)

    def __init__(
        self,
        loc: Float[ArrayLike, "*#batch"],
        beta: Float[ArrayLike, "*#batch"],
        power: float,
        *,
        validate_args: bool | None = None,
    ) -> None:
        if not 1 <= power < math.inf:
            raise InputError(f"power: expected a number of at least 1; got {power}")
        self.loc, self.beta = promote_shapes(loc, beta)
        self.power = float(power)
        shape = jnp.broadcast_shapes(jnp.shape(loc), jnp.shape(beta))
        super().__init__(shape, validate_args=validate_args)

    @validate_sample  # type: ignore[untyped-decorator]
    def log_prob(self, value: Float[Array | np.ndarray, "..."]) -> Float[Array, "..."]:
        """Log density in nats; its derivative at the peak is zero."""
        gap = jnp.abs(value - self.loc)
        nonzero = gap > 0
        raised = jnp.where(nonzero, jnp.where(nonzero, gap, 1) ** self.power, 0)
        constant = jnp.log(self.beta) / self.power - math.log(2) - math.lgamma(1 + 1 / self.power)
        return jnp.asarray(constant - self.beta * raised)

    def cdf(self, value: Float[ArrayLike, "..."]) -> Float[Array, "..."]:
        """Probability of at most ``value``, by the incomplete Gamma function: beta |x - loc|^p is Gamma(1/p)."""
        gap = value - self.loc
        tail = 0.5 * gammaincc(1 / self.power, self.beta * jnp.abs(gap) ** self.power)
        return jnp.where(gap > 0, 1 - tail, tail)

    def sample(self, key: jax.Array | None, sample_shape: tuple[int, ...] = ()) -> Float[Array, "*shape"]:
        """Independent draws: beta |x - loc|^p is Gamma(1/p) and the sign is fair."""
        assert key is not None
        key_size, key_sign = jax.random.split(key)
        shape = (*sample_shape, *self.batch_shape)
        dtype = jnp.result_type(self.loc, self.beta, float)
        size = (jax.random.gamma(key_size, 1 / self.power, shape, dtype) / self.beta) ** (1 / self.power)
        return jnp.asarray(self.loc + jax.random.rademacher(key_sign, shape, dtype) * size)

    @property
    def mean(self) -> Float[Array, "*batch"]:
        """The centre."""
        centre: Array = jnp.broadcast_to(self.loc, self.batch_shape)
        return centre

    @property
    def variance(self) -> Float[Array, "*batch"]:
        """Gamma(3/p) / Gamma(1/p) beta^(-2/p)."""
        ratio = math.exp(math.lgamma(3 / self.power) - math.lgamma(1 / self.power))
        return jnp.broadcast_to(ratio * self.beta ** (-2 / self.power), self.batch_shape)


class RadialLaplace(Distribution):
    r"""Density proportional to exp(-beta |x - loc|), with the Euclidean distance, in D dimensions.

    .. math:: p(x) = \frac{\Gamma(D/2)\, \beta^D}{2 \pi^{D/2}\, \Gamma(D)} e^{-\beta \lVert x - \mu \rVert}

    It corresponds to the similarity -Euclidean distance (unsquared). The distance from the centre is Gamma(D, beta).

    Args:
        loc: the centre, batch shape and D.
        beta: rate, above 0, batch shape.
    """

    arg_constraints = {"loc": constraints.real_vector, "beta": constraints.positive}  # noqa: RUF012
    support = constraints.real_vector
    pytree_data_fields = ("loc", "beta")

    def __init__(
        self, loc: Float[ArrayLike, "*batch D"], beta: Float[ArrayLike, "*batch"], *, validate_args: bool | None = None
    ) -> None:
        self.loc, self.beta = jnp.asarray(loc), jnp.asarray(beta)
        super().__init__(self.loc.shape[:-1], self.loc.shape[-1:], validate_args=validate_args)

    @validate_sample  # type: ignore[untyped-decorator]
    def log_prob(self, value: Float[Array | np.ndarray, "... D"]) -> Float[Array, "..."]:
        """Log density in nats; its derivative at the peak is zero."""
        dim = self.event_shape[0]
        square = jnp.sum((value - self.loc) ** 2, axis=-1)
        nonzero = square > 0
        distance = jnp.where(nonzero, jnp.sqrt(jnp.where(nonzero, square, 1)), 0)
        constant = math.lgamma(dim / 2) - math.log(2) - dim / 2 * math.log(math.pi) - math.lgamma(dim)
        return constant + dim * jnp.log(self.beta) - self.beta * distance

    def sample(self, key: jax.Array | None, sample_shape: tuple[int, ...] = ()) -> Float[Array, "*shape D"]:
        """Independent draws: a Gamma distance in a uniform direction."""
        assert key is not None
        key_distance, key_direction = jax.random.split(key)
        shape = (*sample_shape, *self.batch_shape)
        dim, dtype = self.event_shape[0], self.loc.dtype
        distance = jax.random.gamma(key_distance, dim, shape, dtype) / self.beta
        normal = jax.random.normal(key_direction, (*shape, dim), dtype)
        draws: Array = self.loc + distance[..., None] * normal / jnp.linalg.norm(normal, axis=-1, keepdims=True)
        return draws

    @property
    def mean(self) -> Float[Array, "*batch D"]:
        """The centre."""
        return self.loc

    @property
    def variance(self) -> Float[Array, "*batch D"]:
        """Variance of each feature, (D + 1) / beta^2."""
        return jnp.broadcast_to(((self.event_shape[0] + 1) / self.beta**2)[..., None], self.loc.shape)
