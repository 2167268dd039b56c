r"""The multivariate normal distribution given by the Cholesky factor of its precision.

NumPyro's own is given the precision itself and factors its inverse at once. A density needs no more than what is given,

.. math:: \log p(x) = \sum_i \log L_{ii} - \tfrac12 |L^\top (x - \mu)|^2 - \tfrac D2 \log 2\pi, \qquad
    \Sigma^{-1} = L L^\top,

so that the factor of the covariance is only made for draws.
"""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, ArrayLike, Float
from numpyro.distributions import Distribution, constraints
from numpyro.distributions.util import cholesky_of_inverse, lazy_property, promote_shapes, validate_sample

from probam.numerics.entries import diagonal

__all__ = ["PrecisionNormal", "half_log_determinant"]


class PrecisionNormal(dist.MultivariateNormal):
    """A multivariate normal distribution of which L is known, its precision being L L^T.

    Args:
        loc: (..., D) the mean.
        precision_cholesky: (..., D, D) lower triangular, with a positive diagonal.
    """

    arg_constraints = {  # noqa: RUF012
        "loc": constraints.real_vector,
        "precision_cholesky": constraints.lower_cholesky,
    }
    reparametrized_params = ["loc", "precision_cholesky"]  # noqa: RUF012

    def __init__(
        self,
        loc: Float[Array, "*#batch D"],
        precision_cholesky: Float[Array, "*#batch D D"],
        *,
        validate_args: bool | None = None,
    ) -> None:
        column, self.precision_cholesky = promote_shapes(jnp.expand_dims(loc, -1), precision_cholesky)
        self.loc = column[..., 0]
        batch_shape = jax.lax.broadcast_shapes(self.loc.shape[:-1], self.precision_cholesky.shape[:-2])
        Distribution.__init__(self, batch_shape, self.loc.shape[-1:], validate_args=validate_args)

    @lazy_property
    def precision_matrix(self) -> Float[Array, "*batch D D"]:
        """L L^T."""
        return jnp.matmul(self.precision_cholesky, jnp.swapaxes(self.precision_cholesky, -1, -2))

    @lazy_property
    def scale_tril(self) -> Float[Array, "*batch D D"]:
        """The Cholesky factor of the covariance."""
        return jnp.asarray(cholesky_of_inverse(self.precision_matrix))

    @property
    def variance(self) -> Float[Array, "*batch D"]:
        """Of each feature: the squares in a column of the inverse of L."""
        factor = self.precision_cholesky
        identity = jnp.broadcast_to(jnp.eye(factor.shape[-1], dtype=factor.dtype), factor.shape)
        inverse = jax.lax.linalg.triangular_solve(factor, identity, left_side=True, lower=True)
        return jnp.broadcast_to(jnp.sum(inverse**2, axis=-2), self.batch_shape + self.event_shape)

    @validate_sample  # type: ignore[untyped-decorator]
    def log_prob(self, value: Float[ArrayLike, "... D"]) -> Float[Array, "..."]:
        """Log density, nats."""
        centred = jnp.asarray(value) - self.loc
        apart = jnp.einsum("...ij,...i->...j", self.precision_cholesky, centred, precision="highest")
        constant = 0.5 * self.event_shape[0] * np.log(2 * np.pi)
        log_scale = jnp.sum(jnp.log(diagonal(self.precision_cholesky)), axis=-1)
        return jnp.asarray(log_scale - 0.5 * jnp.sum(apart**2, axis=-1) - constant)


def half_log_determinant(law: dist.MultivariateNormal) -> Float[Array, "*batch"]:
    """Half the log of the determinant of the covariance, nats."""
    if isinstance(law, PrecisionNormal):
        return -jnp.sum(jnp.log(diagonal(law.precision_cholesky)), axis=-1)
    return jnp.sum(jnp.log(diagonal(law.scale_tril)), axis=-1)
