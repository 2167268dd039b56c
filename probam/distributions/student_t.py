r"""Elliptical Student-t distributions parametrised by their precision.

NumPyro's ``MultivariateStudentT`` has the Cholesky factor of the scale matrix as its parameter. A mixture of memories
knows the precision (diagonal, or by its factor), which needs no triangular solves.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float
from numpyro.distributions import Distribution, constraints
from numpyro.distributions.util import validate_sample

from probam.numerics.log_gamma import log_gamma_ratio

__all__ = ["EllipticalStudentT"]


class EllipticalStudentT(Distribution):
    r"""Student-t in D dimensions with precision P: covariance :math:`P^{-1} \nu / (\nu - 2)` where nu > 2.

    .. math::
        \log p(x) = \log\Gamma(\tfrac{\nu + D}{2}) - \log\Gamma(\tfrac{\nu}{2}) - \tfrac D2 \log(\nu\pi)
        + \tfrac12 \log|P| - \tfrac{\nu + D}{2} \log\bigl(1 + (x - \mu)^\top P (x - \mu) / \nu\bigr)

    Args:
        df: nu > 0, batch shape.
        loc: the centre, batch shape and D.
        precision: batch shape and D for a diagonal P; batch shape and (D, D), lower triangular L, for P = L L^T.
    """

    arg_constraints = {  # noqa: RUF012
        "df": constraints.positive,
        "loc": constraints.real_vector,
        "precision": constraints.dependent(is_discrete=False, event_dim=1),
    }
    support = constraints.real_vector
    pytree_data_fields = ("df", "loc", "precision")

    def __init__(
        self,
        df: Float[ArrayLike, "*batch"],
        loc: Float[ArrayLike, "*batch D"],
        precision: Float[ArrayLike, "*batch D"] | Float[ArrayLike, "*batch D D"],
        *,
        validate_args: bool | None = None,
    ) -> None:
        self.df, self.loc, self.precision = jnp.asarray(df), jnp.asarray(loc), jnp.asarray(precision)
        super().__init__(self.loc.shape[:-1], self.loc.shape[-1:], validate_args=validate_args)

    @property
    def is_full(self) -> bool:
        """Whether the precision is a matrix (by its factor) and not a diagonal."""
        return self.precision.ndim > self.loc.ndim

    def quadratic_form(self, value: Float[Array | np.ndarray, "... D"]) -> Float[Array, "..."]:
        """(x - mu)^T P (x - mu), without cancellation."""
        return self._square(jnp.asarray(value) - self.loc)

    def _square(self, gap: Float[Array, "*shape D"]) -> Float[Array, "*shape"]:
        if not self.is_full:
            return jnp.sum(self.precision * gap**2, axis=-1)
        return jnp.sum(jnp.einsum("...d,...de->...e", gap, self.precision, precision="highest") ** 2, axis=-1)

    @validate_sample  # type: ignore[untyped-decorator]
    def log_prob(self, value: Float[Array | np.ndarray, "... D"]) -> Float[Array, "..."]:
        """Log density in nats, finite also where the square of the distance overflows."""
        dim, df = self.event_shape[0], self.df
        if self.is_full:
            half_log_det = jnp.sum(jnp.log(jnp.diagonal(self.precision, axis1=-2, axis2=-1)), axis=-1)
        else:
            half_log_det = 0.5 * jnp.sum(jnp.log(self.precision), axis=-1)
        half = 0.5 * (df + dim)
        constant = log_gamma_ratio(0.5 * df, 0.5 * dim) - 0.5 * dim * jnp.log(df * jnp.pi) + half_log_det
        largest = np.finfo(self.loc.dtype).max ** (1 / 3)
        stretch = jnp.maximum(jax.lax.stop_gradient(jnp.max(jnp.abs(value), axis=-1)) / largest, 1)  # 1 but far away
        square = self._square((jnp.asarray(value) - self.loc) / stretch[..., None])
        return constant - half * (jnp.log1p(square / df + (stretch**-2 - 1)) + 2 * jnp.log(stretch))

    def sample(self, key: jax.Array | None, sample_shape: tuple[int, ...] = ()) -> Float[Array, "*shape D"]:
        """Independent draws: a normal vector divided by the square root of a Gamma variable."""
        assert key is not None
        key_normal, key_gamma = jax.random.split(key)
        shape = (*sample_shape, *self.batch_shape)
        normal = jax.random.normal(key_normal, (*shape, *self.event_shape), self.loc.dtype)
        tau = jax.random.gamma(key_gamma, jnp.broadcast_to(0.5 * self.df, shape)) / (0.5 * self.df)
        normal = normal / jnp.sqrt(tau)[..., None]
        if not self.is_full:
            return self.loc + normal / jnp.sqrt(self.precision)
        factor = jnp.broadcast_to(self.precision, (*shape, *self.precision.shape[-2:]))
        solved = jax.lax.linalg.triangular_solve(
            factor, normal[..., None], left_side=True, lower=True, transpose_a=True
        )
        return self.loc + solved[..., 0]

    @property
    def mean(self) -> Float[Array, "*batch D"]:
        """The centre; infinite for df <= 1, as in NumPyro."""
        return jnp.where((self.df > 1)[..., None], self.loc, jnp.inf)

    @property
    def variance(self) -> Float[Array, "*batch D"]:
        """Variance of each feature; infinite for df <= 2."""
        if self.is_full:
            eye = jnp.broadcast_to(jnp.eye(self.event_shape[0], dtype=self.loc.dtype), self.precision.shape)
            inverse = jax.lax.linalg.triangular_solve(self.precision, eye, left_side=True, lower=True)
            core = jnp.sum(inverse**2, axis=-2)
        else:
            core = 1 / self.precision
        wide = self.df > 2
        factor = jnp.where(wide, self.df / jnp.where(wide, self.df - 2, 1), jnp.inf)
        return factor[..., None] * core
