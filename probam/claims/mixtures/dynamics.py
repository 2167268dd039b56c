"""Claims A5 to A7: how fast the energy falls along the dynamics, and where recall ends.

Physics: :mod:`probam.dynamics.recall` and the CLAM update. Statistics: NumPyro's mixtures.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array

from probam.claims.claim import Piece, extreme, ordinary, register, relative_error
from probam.claims.inputs import Floats, euclidean_bank, generator, unit_rows
from probam.claims.mixtures.gaussian import (
    ALONE,
    GRADIENT_BANKS,
    gaussian_mixture,
    log_density,
    log_density_gradient,
    uniform_bank,
)
from probam.distributions.mixture import MemoryMixture
from probam.dynamics.recall import recall
from probam.energies import clam

__all__: list[str] = []

_SCHAEFFER = "Schaeffer et al. (2023), Associative Memory under the Probabilistic Lens"


def _timed(key: jax.Array, *, tau: float = 0.7, **settings: Any) -> dict[str, Floats]:
    return {**uniform_bank(key, **settings), "tau": np.asarray(tau)}


@register(
    id="A5",
    source=f"{_SCHAEFFER}, Sec. 2, below Eq. 2",
    title="rate at which the energy falls along the flow",
    statement="dE/dt = -|grad E|^2 / (2 tau) = -(2 / tau) |m(v) - v|^2",
    latex=r"\dot E = -\tfrac{1}{2\tau} \lVert \nabla E \rVert^2 = -\tfrac{2}{\tau} \lVert m(v) - v \rVert^2",
    printed_statement="dE/dt = -(1/2) |grad E|^2",
    verdict="WRONG",
    relation="equal",
    constant="1 / (2 tau)",
    inputs=_timed,
    cases=GRADIENT_BANKS,
    tolerance=1e-10,
    exact={"rate": lambda tau: 1 / (2 * tau)},
    printed={"rate": lambda _tau: 0.5},
    printed_exceeds=0.29,
    mutations={
        "rate 1 / tau": {"rate": lambda tau: 1 / tau},
        "sign flipped": {"rate": lambda tau: -1 / (2 * tau)},
        "tau inverted": {"rate": lambda tau: tau / 2},
    },
)
def energy_falls_at_the_squared_gradient_over_two_tau(
    queries: Array, memories: Array, beta: Array, tau: Array, *, rate: Piece
) -> Array:
    """Derivative of -(1/beta) log p (NumPyro) along the physics' velocity, against both right-hand sides."""
    velocity = (clam.update(queries, memories, beta) - queries) / tau
    mixture = gaussian_mixture(memories, jnp.ones(memories.shape[0]), 1 / (2 * beta))
    slope = -jnp.sum(log_density_gradient(mixture, queries) / beta * velocity, axis=-1)
    gradient = jax.grad(lambda v: jnp.sum(clam.energy(v, memories, beta)))(queries)
    by_gradient = -rate(tau) * jnp.sum(gradient**2, axis=-1)
    by_step = -4 * rate(tau) * jnp.sum((tau * velocity) ** 2, axis=-1)
    return jnp.maximum(relative_error(slope, by_gradient), relative_error(slope, by_step))


def _pair(key: jax.Array, *, beta: float = 2.0, dim: int = 3) -> dict[str, Floats]:
    draw = generator(key)
    half = 0.9 * unit_rows(draw.normal(size=(1, dim)))
    return {"memories": draw.normal(size=dim) + np.concatenate([half, -half]), "beta": np.asarray(beta)}


@register(
    id="A6.saddle",
    source=f"{_SCHAEFFER}, Sec. 2, 'guaranteed to converge to a local minima'",
    title="limits are critical points, which may be saddles",
    statement="the midpoint of two memories is stationary at every beta; Hess E there has eigenvalue 2 - 4 beta a^2",
    latex=(
        r"\nabla E\bigl(\tfrac{\mu_1+\mu_2}{2}\bigr) = 0,\quad \lambda_{\min} = 2 - 4\beta a^2,\quad a = "
        r"\tfrac12\lVert\mu_1-\mu_2\rVert"
    ),
    printed_statement="the energy converges to a local minimum",
    verdict="COND",
    relation="equal",
    constant="2 - 4 beta a^2",
    inputs=_pair,
    cases=(
        ordinary("beta 2"),
        ordinary("beta 0.05", beta=0.05),
        extreme("beta 1e4", beta=1e4),
        extreme("D = 1", dim=1),
    ),
    tolerance=1e-10,
    exact={"start": lambda mu: jnp.mean(mu, axis=0), "least": lambda beta, a: 2 - 4 * beta * a**2},
    printed={"least": lambda beta, a: jnp.maximum(2 - 4 * beta * a**2, 0.0)},
    printed_exceeds=0.5,
    mutations={
        "beta doubled": {"least": lambda beta, a: 2 - 8 * beta * a**2},
        "sign flipped": {"least": lambda beta, a: 2 + 4 * beta * a**2},
        "off the middle": {"start": lambda mu: mu[0] + 0.4 * (mu[1] - mu[0])},
    },
)
def midpoint_is_stationary_and_a_saddle(memories: Array, beta: Array, *, start: Piece, least: Piece) -> Array:
    """Gradients of both sides at the midpoint, and the least eigenvalue of the Hessian of -(1/beta) log p."""
    middle = start(memories)
    a = jnp.linalg.norm(memories[0] - memories[1]) / 2
    step = clam.update(middle, memories, beta) - middle
    mixture = gaussian_mixture(memories, jnp.ones(2), 1 / (2 * beta))
    score = log_density_gradient(mixture, middle[None, :]) / (2 * beta)
    hessian = jax.hessian(lambda v: -log_density(mixture, v) / beta)(middle)
    curvature = jnp.min(jnp.linalg.eigvalsh(hessian))
    stationary = jnp.maximum(jnp.max(jnp.abs(step)), jnp.max(jnp.abs(score))) / a
    return jnp.maximum(stationary, relative_error(curvature, least(beta, a)))


def _line(key: jax.Array, *, memories: tuple[float, ...] = (), beta: float = 6.0) -> dict[str, Floats]:
    chosen = np.asarray(memories) if memories else generator(key).normal(size=3)
    grid = np.linspace(chosen.min(), chosen.max(), 2001)
    return {"memories": chosen[:, None], "beta": np.asarray(beta), "grid": grid}


def _ridge_of(log_p: Array) -> Array:
    """Index of the grid point where hill climbing from each grid point ends."""
    index = jnp.arange(log_p.size)
    before, after = jnp.maximum(index - 1, 0), jnp.minimum(index + 1, log_p.size - 1)
    uphill = jnp.where(log_p[before] > log_p[after], before, after)
    uphill = jnp.where(log_p[uphill] > log_p, uphill, index)
    ridge: Array = jax.lax.fori_loop(0, 11, lambda _, to: to[to], uphill)  # doubling: 2^11 > 2001 steps
    return ridge


def _by_hill_climbing(grid: Array, memories: Array, beta: Array) -> Array:
    log_p = log_density(gaussian_mixture(memories, jnp.ones(len(memories)), 1 / (2 * beta)), grid[:, None])
    return grid[_ridge_of(log_p)]


def _by_nearest_memory(grid: Array, memories: Array, beta: Array) -> Array:
    distance = jnp.abs(grid[:, None] - memories[:, 0])  # (grid, K)
    mode_of_memory = _by_hill_climbing(grid, memories, beta)[jnp.argmin(distance, axis=0)]
    return mode_of_memory[jnp.argmin(distance, axis=1)]


@register(
    id="A6.basins",
    source=f"{_SCHAEFFER}, Sec. 2, 'we assign the datum to the nearest memory'",
    title="basins of recall are not Voronoi cells",
    statement="on a line, recall from x ends at the mode of p that hill climbing from x reaches",
    latex=r"D = 1:\ \lim_t v_t(x) = \text{mode of } p \text{ uphill of } x \ne \arg\min_k \lvert x - \mu_k \rvert",
    printed_statement="the limit is named by the memory nearest to the start",
    verdict="WRONG",
    relation="count",
    constant="none (boundary at 0.48325, not 0.5, for memories 0, 1, 1.3 and beta 6)",
    inputs=_line,
    cases=(
        ordinary("memories 0, 1, 1.3", memories=(0.0, 1.0, 1.3)),
        ordinary("memories 0, 1, 1", memories=(0.0, 1.0, 1.0), beta=5.0),
        ordinary("three memories"),
        extreme("beta 0.01", beta=0.01),
    ),
    tolerance=2.0,  # of 2001 starts: the two neighbours of a boundary
    exact={"destination": _by_hill_climbing},
    printed={"destination": _by_nearest_memory},
    printed_exceeds=20.0,
    mutations={"beta doubled": {"destination": lambda x, mu, beta: _by_hill_climbing(x, mu, 2 * beta)}},
)
def recall_ends_at_the_mode_uphill(memories: Array, beta: Array, grid: Array, *, destination: Piece) -> Array:
    """Number of starts whose limit is not the expected mode (to two steps of the grid)."""
    ended = recall(
        lambda v: clam.update(v, memories, beta),
        lambda v: clam.energy(v, memories, beta),
        grid[:, None],
        max_steps=4000,
        tolerance=1e-9,
    ).states[:, 0]
    return jnp.sum(jnp.abs(ended - destination(grid, memories, beta)) > 2 * (grid[1] - grid[0])).astype(float)


@register(
    id="A7",
    source=f"{_SCHAEFFER}, Sec. 3, 'v* is a fixed point'",
    title="fixed points of recall",
    statement="v* = sum_k r_k(v*) mu_k: responsibilities at v*, not at the start; m(x) is the first unit step",
    latex=r"v^* = \sum_k r_k(v^*)\,\mu_k \ne \sum_k r_k(x)\,\mu_k = m(x)",
    printed_statement="v* = sum_k p(z = k | x) mu_k with v(0) = x is a fixed point",
    verdict="WRONG",
    relation="equal",
    constant="none",
    inputs=euclidean_bank,
    cases=(
        ordinary("plain"),
        ordinary("beta 4", beta=4.0),
        extreme("beta 1e6", beta=1e6),
        extreme("beta 1e-6", beta=1e-6),
        ALONE,
    ),
    tolerance=1e-10,
    exact={"posterior_at": lambda _start, end: end, "twin_beta": lambda beta: beta, "max_steps": 5000},
    printed={"posterior_at": lambda start, _end: start},
    printed_exceeds=0.02,
    mutations={"beta doubled": {"twin_beta": lambda beta: 2 * beta}, "half a step": {"max_steps": 1}},
)
def fixed_points_are_posterior_means_at_themselves(
    queries: Array,
    memories: Array,
    weights: Array,
    beta: Array,
    *,
    posterior_at: Piece,
    twin_beta: Piece,
    max_steps: int,
) -> Array:
    """Recall's limit against the posterior mean of the memory under the mixture."""
    ended = recall(
        lambda v: clam.update(v, memories, beta, weights),
        lambda v: clam.energy(v, memories, beta, weights),
        queries,
        max_steps=max_steps,
        tolerance=1e-13,
    ).states
    bank = dist.Normal(memories, jnp.sqrt(1 / (2 * twin_beta(beta)))).to_event(1)
    mixture = MemoryMixture(jnp.log(weights / jnp.sum(weights)), bank)
    return relative_error(ended, mixture.responsibilities(posterior_at(queries, ended)) @ memories)
