"""Claim D1, further: which directions a diffusion of finitely many data has, by noise.

Physics: :mod:`probam.dynamics.local_dimension`, on CLAM. Statistics: :mod:`probam.distributions.local_dimension`, on
NumPyro's mixtures.
"""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array

from probam.claims.claim import Piece, extreme, ordinary, register, relative_error
from probam.claims.inputs import Floats, euclidean_bank
from probam.distributions.local_dimension import flatness, responsibility_covariance
from probam.distributions.mixture import MemoryMixture
from probam.dynamics.local_dimension import curvatures, what_is_left
from probam.energies.clam import Clam

__all__: list[str] = []

_ACHILLI = "Achilli et al. (2024), Losing dimensions, arXiv:2410.08727 (abstract; statement derived)"


def _round(memories: Array, weights: Array, variance: Array) -> MemoryMixture:
    """Memories N(mu, variance I)."""
    bank = dist.Normal(memories, jnp.sqrt(variance), validate_args=False).to_event(1)
    return MemoryMixture(jnp.log(weights / jnp.sum(weights)), bank, validate_args=False)


@register(
    id="D1.jacobian",
    source=_ACHILLI,
    title="the score's Jacobian has the responsibility covariance",
    statement="grad^2 log p_t = -I / t + Cov_r(x) / t^2, t = s^2; Hess E = 2 I - 2 Cov_r(x) / t",
    latex=r"\nabla^2 \log p_t = -\tfrac1t I + \tfrac{1}{t^2} \operatorname{Cov}_r(x_\mu),\quad t = s^2",
    printed_statement="the abstract prints no equation",
    verdict="NEW",
    relation="equal",
    constant="t = 1 / (2 beta)",
    inputs=euclidean_bank,
    cases=(ordinary("plain"), ordinary("D = 7", dim=7), extreme("beta 1e-6", beta=1e-6), extreme("one far", far=1e3)),
    tolerance=1e-10,
    exact={"jacobian": lambda cov, t: cov / t**2 - jnp.eye(cov.shape[-1]) / t, "scale": 2.0},
    mutations={
        "covariance over t": {"jacobian": lambda cov, t: cov / t - jnp.eye(cov.shape[-1]) / t},
        "covariance taken away": {"jacobian": lambda cov, t: -cov / t**2 - jnp.eye(cov.shape[-1]) / t},
        "energy without its factor 2": {"scale": 1.0},
    },
)
def jacobian_is_the_responsibility_covariance(
    queries: Array, memories: Array, weights: Array, beta: Array, *, jacobian: Piece, scale: float
) -> Array:
    """Second derivatives of the mixture, and the Hessian's spectrum of the energy, against the covariance."""
    t = 0.5 / beta
    mixture = _round(memories, weights, t)
    stated = jacobian(responsibility_covariance(mixture, queries), t)
    exact = jax.vmap(jax.hessian(mixture.log_prob))(queries)
    curvature = curvatures(Clam(memories, beta, weights), queries)
    of_energy = jnp.linalg.eigvalsh(-scale * t * stated)
    return jnp.maximum(relative_error(exact, stated, 1 / t), relative_error(curvature, of_energy, 2.0))


@register(
    id="D1.flatness",
    source=_ACHILLI,
    title="flat directions of the density are those that recall leaves",
    statement="eigenvalues of Cov_r(x) / t = those of the Jacobian of a step of recall = 1 - lambda(Hess E) / 2",
    latex=r"\operatorname{spec} \tfrac1t \operatorname{Cov}_r(x_\mu) = \operatorname{spec} \nabla m = 1 - \tfrac12 "
    r"\operatorname{spec} \operatorname{Hess} E",
    printed_statement="the abstract prints no equation",
    verdict="NEW",
    relation="equal",
    constant="1/2",
    inputs=euclidean_bank,
    cases=(ordinary("plain"), ordinary("D = 7", dim=7), extreme("beta 100", beta=100.0)),
    tolerance=1e-10,
    exact={"half": 0.5, "variance": lambda beta: 0.5 / beta},
    mutations={"whole curvature": {"half": 1.0}, "variance 1 / beta": {"variance": lambda beta: 1 / beta}},
)
def flat_directions_are_left_by_recall(
    queries: Array, memories: Array, weights: Array, beta: Array, *, half: float, variance: Piece
) -> Array:
    """The spectrum by the mixture's forces against those of the physics."""
    memory = Clam(memories, beta, weights)
    flat = flatness(_round(memories, weights, variance(beta)), queries)
    by_energy = jnp.flip(1 - half * curvatures(memory, queries), axis=-1)
    left = what_is_left(memory, queries)
    return jnp.maximum(relative_error(flat, left, 1.0), relative_error(by_energy, left, 1.0))


def _grid(key: jax.Array, *, deviation: float = 0.5, narrow: float = 0.3, spacing: float = 0.1) -> dict[str, Floats]:
    """A fine grid with the weights of a Gaussian of standard deviations 1 and ``narrow``, noise, and a point."""
    del key
    x, y = np.arange(-7, 7.01, 1.6 * spacing), np.arange(-7 * narrow, 7.01 * narrow, 1.6 * spacing * narrow)
    points = np.stack([a.ravel() for a in np.meshgrid(x, y)], axis=1)
    log_weights = -0.5 * (points[:, 0] ** 2 + (points[:, 1] / narrow) ** 2)
    return {
        "points": points,
        "log_weights": log_weights - np.log(np.exp(log_weights).sum()),
        "deviation": np.asarray(deviation),
        "narrow": np.asarray(narrow),
        "query": np.array([[0.3, -0.2]]),
    }


@register(
    id="D1.directions",
    source=_ACHILLI,
    title="a direction appears when the noise falls below its spread",
    statement="many data of N(0, diag sigma^2): Cov_r(x) / t has the eigenvalues sigma^2 / (sigma^2 + t)",
    latex=r"\tfrac1t\operatorname{Cov}_r(x_\mu) \to \operatorname{diag} \frac{\sigma_i^2}{\sigma_i^2 + t}",
    printed_statement="the abstract prints no equation",
    verdict="NEW",
    relation="equal",
    constant="1/2 at t = sigma^2",
    inputs=_grid,
    cases=(ordinary("plain"), ordinary("s = 0.3", deviation=0.3), extreme("s = 3", deviation=3.0)),
    tolerance=1e-8,  # a sum over a grid of a tenth of the narrower width
    exact={"flat": lambda square, t: square / (square + t)},
    mutations={
        "gone already at t = sigma^2": {"flat": lambda square, t: jnp.maximum(0, 1 - t / square)},
        "standard deviations for variances": {"flat": lambda square, t: square**0.5 / (square**0.5 + t**0.5)},
    },
)
def directions_appear_by_their_spread(
    points: Array, log_weights: Array, deviation: Array, narrow: Array, query: Array, *, flat: Piece
) -> Array:
    """A fine grid in place of infinitely many data."""
    mixture = _round(points, jnp.exp(log_weights), deviation**2)
    squares = jnp.stack([narrow**2, jnp.ones(())])
    return relative_error(flatness(mixture, query)[0], flat(squares, deviation**2), 1.0)
