r"""Curvature of the log joint density at a point: the scale of the posterior in each unconstrained coordinate.

Exact for few coordinates (one Hessian-vector product each). For more, the diagonal is estimated from products with
random signs v, :math:`\operatorname{diag} H \approx \overline{v \odot H v}` (Bekas, Kokiopoulou & Saad 2007), at a cost
that does not depend on the number of coordinates.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from probam.compiled import compiled_by_size, is_small
from probam.distributions.likelihood import log_likelihood_of
from probam.family import Model
from probam.inference.common.coordinates import Coordinates
from probam.inference.svi.batch import Batch
from probam.placement import each

__all__ = ["spreads"]

_EXACT = 256
"""Most coordinates with an exact Hessian, where only its diagonal is needed."""

_EXACT_MATRIX = 512
"""Most coordinates with an exact Hessian, where the matrix is needed; for more, its diagonal is used."""

_PROBES = 64

_LEAST = 0.1
"""A curvature is at least this share of the prior's own, and of the sum of squared slopes of the data.

The latter is Fisher's information where the model holds. It is needed where densities have kinks (Laplace memories) and
second derivatives carry no information.
"""

_ROWS_AT_A_TIME = 100
"""Of a CPU."""

_LEAST_EIGENVALUE = 1e-3
"""Of the Hessian in units of its diagonal."""


@compiled_by_size(
    lambda model, _, __, batch, **___: is_small(batch.rows, model.num_components), static_argnames="matrix"
)
def spreads(
    model: Model,
    points: Float[Array, "R P"],
    key: jax.Array,
    batch: Batch,
    *,
    matrix: bool,
) -> Float[Array, "R P *P"]:
    r"""Standard deviations of the Gaussian that has the curvature of the log joint at each point.

    Args:
        points: unconstrained coordinates, one row for each point.
        batch: some of the data.
        matrix: False gives :math:`|h_i|^{-1/2}` for the diagonal h of the Hessian H. True gives the Cholesky factor of
            :math:`(-H)^{-1}`, its eigenvalues made positive, for up to 512 coordinates, a diagonal matrix for more.
    """
    coordinates, size = Coordinates(model), points.shape[-1]

    def log_prior(z: jax.Array) -> jax.Array:
        return coordinates.log_prior(coordinates.unflatten(z))

    def log_likelihood(z: jax.Array) -> jax.Array:
        return batch.log_likelihood(coordinates, coordinates.constrain(coordinates.unflatten(z)))

    def both_slopes(z: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jax.grad(log_prior)(z), jax.grad(log_likelihood)(z)

    def log_density(z: jax.Array, row: tuple[jax.Array, jax.Array | None]) -> jax.Array:
        x, weight = jax.tree.map(lambda leaf: leaf[None], row)
        mixture = coordinates.model.mixture(coordinates.constrain(coordinates.unflatten(z)))
        return log_likelihood_of(mixture, x, weight)(mixture)

    exact = size <= (_EXACT_MATRIX if matrix else _EXACT)
    directions = (
        jnp.eye(size, dtype=points.dtype) if exact else jax.random.rademacher(key, (_PROBES, size), points.dtype)
    )

    numbers = batch.rows.size * coordinates.model.num_components

    def one(z: jax.Array) -> jax.Array:
        of_prior, of_data = each(lambda along: jax.jvp(both_slopes, (z,), (along,))[1], directions, numbers=numbers)
        products = of_prior + of_data
        share = jnp.sum if exact else jnp.mean
        diagonal, prior = (jnp.abs(share(directions * these, axis=0)) for these in (products, of_prior))
        of_rows = (batch.rows, batch.weight)
        slopes = each(lambda row: jax.grad(log_density)(z, row) ** 2, of_rows, numbers=size, on_cpu=_ROWS_AT_A_TIME)
        least = _LEAST * jnp.maximum(prior, batch.scale * jnp.sum(slopes, axis=0))
        tiny = float(np.finfo(z.dtype).tiny) ** 0.5
        scale = jax.lax.rsqrt(jnp.maximum(jnp.maximum(diagonal, least), tiny))
        if not matrix:
            return scale
        if not exact:
            return jnp.diag(scale)
        whitened = -scale[:, None] * products * scale
        values, vectors = jnp.linalg.eigh(0.5 * (whitened + whitened.T))
        covariance = (vectors / jnp.maximum(jnp.abs(values), _LEAST_EIGENVALUE)) @ vectors.T
        return scale[:, None] * jnp.linalg.cholesky(covariance)

    return jnp.asarray(each(one, points, numbers=numbers * len(directions)))
