r"""In how many directions a mixture is flat at a point, by scale.

.. math:: \nabla^2 \log p = -W + \operatorname{Cov}_r(g), \qquad g_k = \nabla \log p_k, \quad
    W = -\sum_k r_k \nabla^2 \log p_k

This holds for every mixture of smooth densities. W is what one memory alone would have; the responsibility covariance
of the forces g takes away from it. Its eigenvalues relative to W are near 0 where the mixture is as stiff as a memory
(a direction that is lost) and near 1 where it is flat (a direction in which the data lie); between memories they may be
above 1. For memories N(mu_k, s^2 I) they are those of \(\operatorname{Cov}_r(\mu) / s^2\). Data of a Gaussian of
variance \(\sigma^2\) have \(\sigma^2 / (\sigma^2 + s^2)\), as long as many of them share the responsibility.
:func:`probam.distributions.blurred.blurred` looks at a mixture on a larger scale.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float, Int

from probam.distributions.mixture import MemoryMixture
from probam.errors import InputError

__all__ = ["flatness", "local_dimension", "responsibility_covariance"]


def responsibility_covariance(mixture: MemoryMixture, x: Float[Array | np.ndarray, "*batch D"]) -> Float[Array, "..."]:
    """Covariance of the memories' means under the responsibilities at each point, shape (..., D, D)."""
    shares, means = mixture.responsibilities(jnp.asarray(x)), jnp.asarray(mixture.bank.mean)
    gaps = means - (shares @ means)[..., None, :]  # (..., K, D)
    return jnp.einsum("...k,...kd,...ke->...de", shares, gaps, gaps)


def flatness(mixture: MemoryMixture, x: Float[Array | np.ndarray, "*batch D"]) -> Float[Array, "*batch D"]:
    """Eigenvalues of the forces' covariance relative to W at each point, in ascending order.

    Args:
        mixture: of densities that are smooth at the points; W must be positive definite there.
        x: points.

    Raises:
        InputError: where W is not positive definite, as for memories with tails that are not log-concave.

    >>> import numpyro.distributions as dist
    >>> bank = dist.Normal(jnp.array([[-1.0, 0.0], [1.0, 0.0]]), 1.0).to_event(1)
    >>> flatness(MemoryMixture(jnp.log(jnp.array([0.5, 0.5])), bank), jnp.zeros(2)).round(3).tolist()
    [0.0, 1.0]
    """
    points = jnp.asarray(x)

    def at(point: Array) -> Array:
        shares = mixture.responsibilities(point)

        def mean_log_density(y: Array) -> Array:
            return jnp.sum(shares * jnp.asarray(mixture.bank.log_prob(y)))

        forces = jax.jacobian(lambda y: jnp.asarray(mixture.bank.log_prob(y)))(point)  # (K, D)
        gaps = forces - shares @ forces
        covariance = jnp.einsum("k,kd,ke->de", shares, gaps, gaps)
        root = jnp.linalg.cholesky(-jax.hessian(mean_log_density)(point))
        half = solve_triangular(root, covariance, lower=True)
        spectrum: Array = jnp.linalg.eigvalsh(solve_triangular(root, half.T, lower=True))
        return spectrum

    values: Array = jax.lax.map(at, points.reshape(-1, points.shape[-1])).reshape(points.shape)
    if not isinstance(values, jax.core.Tracer) and not bool(jnp.all(jnp.isfinite(values))):
        raise InputError("x: a memory's log density is not concave at one of the points; take points nearer to them")
    return values


def local_dimension(
    mixture: MemoryMixture, x: Float[Array | np.ndarray, "*batch D"], *, least: float = 0.5
) -> Int[Array, "*batch"]:
    """Number of directions at each point that are flatter than ``least``."""
    return jnp.sum(flatness(mixture, x) > least, axis=-1)
