"""Claim A10: in which sense recall is EM, and in which it is not.

Physics: the CLAM energy, responsibilities and update. Statistics: NumPyro's log densities, their gradients and
log odds.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Float

from probam.claims.claim import Piece, extreme, ordinary, register, relative_error
from probam.claims.inputs import Floats, euclidean_bank, generator
from probam.claims.mixtures.gaussian import (
    ALONE,
    BANKS,
    GRADIENT_BANKS,
    MUTED,
    gaussian_mixture,
    log_density,
    uniform_bank,
)
from probam.distributions.mixture import MemoryMixture
from probam.dynamics.recall import recall
from probam.energies import clam

__all__ = ["free_energy"]

_SCHAEFFER = "Schaeffer et al. (2023), Associative Memory under the Probabilistic Lens"


def free_energy(
    v: Float[Array, "*batch D"], q: Float[Array, "*batch K"], memories: Float[Array, "K D"], beta: Float[Array, ""]
) -> Float[Array, "*batch"]:
    r"""Variational free energy :math:`F(v, q) = \sum_k q_k |\mu_k - v|^2 + \beta^{-1} \sum_k q_k \log q_k`."""
    squares = jnp.sum((v[..., None, :] - memories) ** 2, axis=-1)
    negative_entropy = jnp.where(q > 0, q * jnp.log(jnp.where(q > 0, q, 1.0)), 0.0)
    return jnp.sum(q * squares, axis=-1) + jnp.sum(negative_entropy, axis=-1) / beta


def _uniform_mixture(memories: Array, beta: Array) -> MemoryMixture:
    num_memories = memories.shape[0]
    bank = dist.Normal(memories, jnp.sqrt(1 / (2 * beta))).to_event(1)
    return MemoryMixture(jnp.full(num_memories, -jnp.log(float(num_memories))), bank)


def _with_shares(key: jax.Array, **settings: Any) -> dict[str, Floats]:
    drawn = uniform_bank(key, **settings)
    size = (len(drawn["queries"]), len(drawn["memories"]))
    return {**drawn, "q": generator(jax.random.fold_in(key, 1)).dirichlet(np.ones(size[1]), size=size[0])}


@register(
    id="A10.free_energy",
    source=f"{_SCHAEFFER}, title of Sec. 3",
    title="the energy is a minimised variational free energy",
    statement="F(v, q) - E(v) = KL(q || r(v)) / beta; so E = min_q F, at q = r(v)",
    latex=r"F(v,q) - E(v) = \tfrac{1}{\beta} \operatorname{KL}(q \,\Vert\, r(v)) \ge 0",
    printed_statement="clustering with associative memory is expectation maximisation",
    verdict="COND",
    relation="equal",
    constant="1 / beta",
    inputs=_with_shares,
    cases=(*BANKS, ALONE),
    tolerance=1e-12,
    exact={"gap": lambda kl, beta: kl / beta, "turned": False, "twin_beta": lambda beta: beta},
    mutations={
        "beta dropped": {"gap": lambda kl, _beta: kl},
        "sign flipped": {"gap": lambda kl, beta: -kl / beta},
        "divergence turned round": {"turned": True},
        "beta of the posterior doubled": {"twin_beta": lambda beta: 2 * beta},
    },
)
def free_energy_exceeds_the_energy_by_a_divergence(
    queries: Array, memories: Array, beta: Array, q: Array, *, gap: Piece, turned: bool, twin_beta: Piece
) -> Array:
    """F and E of the physics against the divergence of q from the mixture's posterior; F at the posterior."""
    mixture = _uniform_mixture(memories, twin_beta(beta))
    posterior = dist.CategoricalLogits(mixture.log_joint(queries))
    shares = dist.CategoricalLogits(jnp.log(q))
    states = jnp.arange(memories.shape[0])[:, None]
    ratio = shares.log_prob(states) - posterior.log_prob(states)  # (K, N)
    kl = -jnp.sum(posterior.probs.T * ratio, axis=0) if turned else jnp.sum(q.T * ratio, axis=0)
    energy = clam.energy(queries, memories, beta)
    above = free_energy(queries, q, memories, beta)
    at_minimum = free_energy(queries, clam.responsibilities(queries, memories, beta), memories, beta)
    return jnp.maximum(relative_error(above, energy + gap(kl, beta), above), relative_error(at_minimum, energy, above))


@register(
    id="A10.alternation",
    source=f"{_SCHAEFFER}, Sec. 3",
    title="alternating minimisation is the unit Euler step: EM for the location",
    statement="argmin_v F(v, r(v0)) = m(v0) = argmax_v sum_k r_k(v0) log N(v | mu_k, I / (2 beta))",
    latex=(
        r"\arg\min_v F(v, r(v_0)) = m(v_0) = \arg\max_v \textstyle\sum_k r_k(v_0) \log\mathcal N(v \mid "
        r"\mu_k, \tfrac{I}{2\beta})"
    ),
    printed_statement="CLAM's dynamics are EM for the memories",
    verdict="COND",
    relation="equal",
    constant="dt = tau",
    inputs=uniform_bank,
    cases=tuple(case for case in GRADIENT_BANKS if case.name != "queries at 1e8"),
    tolerance=1e-10,
    exact={"step": 1.0, "twin_beta": lambda beta: beta},
    mutations={
        "half a step": {"step": 0.5},
        "a step and a half": {"step": 1.5},
        "beta of the E-step doubled": {"twin_beta": lambda beta: 2 * beta},
    },
)
def alternating_minimisation_is_the_unit_step(
    queries: Array, memories: Array, beta: Array, *, step: float, twin_beta: Piece
) -> Array:
    """Newton's step to the minimum of the quadratic F(., r) and to the maximum of NumPyro's Q, against recall."""
    moved = recall(
        lambda v: clam.update(v, memories, beta),
        lambda v: clam.energy(v, memories, beta),
        queries,
        step=step,
        max_steps=1,
    ).states
    shares = _uniform_mixture(memories, twin_beta(beta)).responsibilities(queries)
    slope = jax.grad(lambda v: jnp.sum(free_energy(v, shares, memories, beta)))(queries)

    def expected_log_joint(v: Array) -> Array:
        log_prob = dist.Normal(memories, jnp.sqrt(1 / (2 * beta))).to_event(1).log_prob(v[:, None, :])
        return jnp.sum(shares * log_prob)

    rise = jax.grad(expected_log_joint)(queries) / (2 * beta)
    size = jnp.max(jnp.abs(queries - memories[0]))
    travelled = moved - queries
    return jnp.maximum(relative_error(travelled, -slope / 2, size), relative_error(travelled, rise, size))


@register(
    id="A10.readout",
    source=f"{_SCHAEFFER}, Sec. 3, 'EM's expectation step ... corresponds to ... rolling out the dynamics'",
    title="one unit step reads out the E-step; more steps do not",
    statement="one unit step from x gives E[mu_z | x] = sum_k r_k(x) mu_k; the E-step moves no data",
    latex=r"m(x) = \mathbb E[\mu_z \mid x]",
    printed_statement="the E-step corresponds to rolling out the dynamics (T steps)",
    verdict="WRONG",
    relation="equal",
    constant="T = 1",
    inputs=euclidean_bank,
    cases=(*GRADIENT_BANKS, ALONE, MUTED),
    tolerance=1e-10,
    exact={"max_steps": 1, "twin_beta": lambda beta: beta, "twin_weights": lambda w: w},
    printed={"max_steps": 1000},
    printed_exceeds=0.05,
    mutations={
        "two steps": {"max_steps": 2},
        "beta of the E-step doubled": {"twin_beta": lambda beta: 2 * beta},
        "weights left out of the E-step": {"twin_weights": jnp.ones_like},
    },
)
def one_unit_step_is_the_posterior_mean_of_the_memory(
    queries: Array,
    memories: Array,
    weights: Array,
    beta: Array,
    *,
    max_steps: int,
    twin_beta: Piece,
    twin_weights: Piece,
) -> Array:
    """Recall after a given number of unit steps against the mixture's posterior mean, relative to the bank's size."""
    moved = recall(
        lambda v: clam.update(v, memories, beta, weights),
        lambda v: clam.energy(v, memories, beta, weights),
        queries,
        max_steps=max_steps,
    ).states
    bank = dist.Normal(memories, jnp.sqrt(1 / (2 * twin_beta(beta)))).to_event(1)
    prior = twin_weights(weights)
    shares = MemoryMixture(jnp.log(prior / jnp.sum(prior)), bank).responsibilities(queries)
    return relative_error(moved, shares @ memories, queries)


def _scores(queries: Array, memories: Array, beta: Array) -> Float[Array, "K D"]:
    """Gradient of sum_n log p(x_n) with respect to the memories, through NumPyro's mixture."""

    def log_lik(locations: Array) -> Array:
        return jnp.sum(log_density(gaussian_mixture(locations, jnp.ones(len(locations)), 1 / (2 * beta)), queries))

    gradient: Array = jax.grad(log_lik)(memories)
    return gradient


_DATA = (
    ordinary("plain", num_queries=6),
    ordinary("N = 40", num_queries=40),
    *(case for case in GRADIENT_BANKS if case.name not in ("plain", "queries at 1e8")),
)


@register(
    id="A10.fisher",
    source=f"{_SCHAEFFER}, Sec. 3 (gradient EM)",
    title="gradient of the log likelihood in the memories",
    statement="grad_{mu_k} sum_n log p(x_n) = 2 beta sum_n r_nk (x_n - mu_k)",
    latex=r"\nabla_{\mu_k} \textstyle\sum_n \log p(x_n) = 2\beta \sum_n r_{nk} (x_n - \mu_k)",
    printed_statement="a gradient step on Eq. 5 in theta; no formula",
    verdict="COND",
    relation="equal",
    constant="2 beta",
    inputs=uniform_bank,
    cases=_DATA,
    tolerance=1e-10,
    exact={"scale": lambda beta: 2 * beta, "shares_beta": lambda beta: beta},
    mutations={
        "factor 2 dropped": {"scale": lambda beta: beta},
        "sign flipped": {"scale": lambda beta: -2 * beta},
        "responsibilities at 2 beta": {"shares_beta": lambda beta: 2 * beta},
    },
)
def memory_gradient_is_the_weighted_residual(
    queries: Array, memories: Array, beta: Array, *, scale: Piece, shares_beta: Piece
) -> Array:
    """Fisher's identity: autodiff of the statistics against the physics' responsibilities."""
    shares = clam.responsibilities(queries, memories, shares_beta(beta))
    residual = jnp.einsum("nk,nkd->kd", shares, queries[:, None, :] - memories)
    return relative_error(_scores(queries, memories, beta), scale(beta) * residual)


@register(
    id="A10.m_step",
    source=f"{_SCHAEFFER}, Sec. 3 (gradient EM against the closed form)",
    title="one gradient step can be the M-step",
    statement="mu_k + (2 beta sum_n r_nk)^-1 grad_{mu_k} sum_n log p(x_n) = sum_n r_nk x_n / sum_n r_nk",
    latex=(
        r"\mu_k + \frac{\nabla_{\mu_k} \sum_n \log p(x_n)}{2\beta \sum_n r_{nk}} = \frac{\sum_n r_{nk} "
        r"x_n}{\sum_n r_{nk}}"
    ),
    printed_statement="gradient steps for the M-step (generalised EM)",
    verdict="COND",
    relation="equal",
    constant="step 1 / (2 beta sum_n r_nk)",
    inputs=uniform_bank,
    cases=(
        ordinary("plain"),
        ordinary("N = 40", num_queries=40),
        extreme("beta 1e-6", beta=1e-6),
        extreme("offset 1e6", offset=1e6),
    ),
    tolerance=1e-10,
    exact={"step": lambda beta, counts: 1 / (2 * beta * counts)},
    mutations={
        "factor 2 dropped": {"step": lambda beta, counts: 1 / (beta * counts)},
        "one step for all": {"step": lambda beta, counts: jnp.full_like(counts, 1 / (2 * beta))},
        "sign flipped": {"step": lambda beta, counts: -1 / (2 * beta * counts)},
    },
)
def gradient_step_of_the_right_length_is_the_m_step(
    queries: Array, memories: Array, beta: Array, *, step: Piece
) -> Array:
    """A gradient step on the statistics' log likelihood against weighted means by the physics' responsibilities."""
    shares = clam.responsibilities(queries, memories, beta)
    counts = jnp.sum(shares, axis=0)
    moved = memories + step(beta, counts)[:, None] * _scores(queries, memories, beta)
    return relative_error(moved, shares.T @ queries / counts[:, None])
