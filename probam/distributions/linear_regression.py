r"""Bayesian linear regression with several outputs: the matrix normal posterior of the weights, in one batch.

.. math::
    x_n = W \varphi_n + \sigma \varepsilon_n, \qquad W \sim MN(M_0, I_D, \Sigma_0) \;\Rightarrow\;
    W \mid X \sim MN(M, I_D, \Sigma), \quad \Sigma^{-1} = \Sigma_0^{-1} + \Phi^\top \Phi / \sigma^2, \quad
    M = (M_0 \Sigma_0^{-1} + X^\top \Phi / \sigma^2)\, \Sigma

The D rows of W are independent and share the covariance \(\Sigma\) (F, F). Activities are the rows of \(\Phi\) (N, F),
targets the rows of X (N, D). The equations are solved by Cholesky factors.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.scipy.linalg import cho_factor, cho_solve
from jaxtyping import Array, Float

__all__ = ["MatrixNormal", "log_evidence", "posterior", "predictive"]


class MatrixNormal(NamedTuple):
    """Distribution of the weights: mean (D, F), and covariance (F, F) of each of the D independent rows."""

    mean: Float[Array, "D F"]
    covariance: Float[Array, "F F"]


def posterior(
    prior: MatrixNormal, activities: Float[Array, "N F"], targets: Float[Array, "N D"], noise: Float[Array, ""]
) -> MatrixNormal:
    """Distribution of the weights given all pairs.

    Args:
        prior: distribution of the weights before.
        activities, targets: the pairs, one in each row.
        noise: standard deviation of a target around the prediction, above 0.
    """
    eye = jnp.eye(prior.covariance.shape[0], dtype=prior.mean.dtype)
    precision_prior = cho_solve(cho_factor(prior.covariance), eye)
    factor = cho_factor(precision_prior + activities.T @ activities / noise**2)
    pull = precision_prior @ prior.mean.T + activities.T @ targets / noise**2
    return MatrixNormal(cho_solve(factor, pull).T, cho_solve(factor, eye))


def log_evidence(
    prior: MatrixNormal, activities: Float[Array, "N F"], targets: Float[Array, "N D"], noise: Float[Array, ""]
) -> Float[Array, ""]:
    r"""Log density of all targets with the weights integrated out, in nats.

    Each output is one draw of \(N(\Phi M_{0,d}, \sigma^2 I + \Phi \Sigma_0 \Phi^\top)\) over the N data. Arguments are
    those of :func:`posterior`.
    """
    covariance = noise**2 * jnp.eye(len(activities), dtype=targets.dtype)
    covariance = covariance + activities @ prior.covariance @ activities.T
    law = dist.MultivariateNormal((activities @ prior.mean.T).T, covariance_matrix=covariance)
    return jnp.sum(law.log_prob(targets.T))


def predictive(law: MatrixNormal, activity: Float[Array, " F"], noise: Float[Array, ""]) -> dist.Distribution:
    """Distribution of the target (D,) of a new activity."""
    variance = noise**2 + activity @ law.covariance @ activity
    mean: jax.Array = law.mean @ activity
    return dist.Normal(mean, jnp.sqrt(variance)).to_event(1)
