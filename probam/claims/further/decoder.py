"""Claim D6: a mixture prior behind a decoder is recall with an evidence.

Physics: :mod:`probam.energies.predictive_coding` (the free energy of a latent state, its update). Statistics:
:mod:`probam.distributions.linear_decoder` (marginal and posterior mixtures of a linear decoder).
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.scipy.special import logsumexp
from jaxtyping import Array

from probam.claims.claim import Piece, excess, extreme, ordinary, register, relative_error
from probam.claims.inputs import Floats, generator
from probam.distributions.linear_decoder import LinearDecoder, latent_posterior, latent_prior, likelihood, observed
from probam.distributions.mixture import MemoryMixture
from probam.energies import predictive_coding

__all__: list[str] = []

_ANNABI = "Annabi et al. (2022), variational inference and auto-associative memory (abstract)"


def _decoder(
    key: jax.Array,
    *,
    num_memories: int = 4,
    latent: int = 2,
    observed: int = 3,
    width: float = 0.7,
    noise: float = 0.5,
    num_points: int = 7,
) -> dict[str, Floats]:
    """A mixture prior in the latent space, a linear decoder, an observation and latent points."""
    draw = generator(key)
    weights = draw.uniform(0.3, 3.0, size=num_memories)
    return {
        "points": draw.normal(size=(num_points, latent)),
        "observation": draw.normal(size=observed) * 1.5,
        "weights": weights / weights.sum(),
        "memories": draw.normal(size=(num_memories, latent)) * 1.4,
        "matrix": draw.normal(size=(observed, latent)),
        "bias": draw.normal(size=observed),
        "width": np.asarray(width),
        "noise": np.asarray(noise),
    }


_DECODERS = (
    ordinary("Z = 2, D = 3"),
    ordinary("Z = 3, D = 2", latent=3, observed=2),
    extreme("noise 1e-3", noise=1e-3, tolerance=1e-8),
    extreme("width 100", width=100.0, tolerance=1e-8),
)


def _decode(bend: Callable[[Array], Array], matrix: Array, bias: Array, latent: Array) -> Array:
    return bend(latent) @ matrix.T + bias


def _gaussians(law: MemoryMixture) -> dist.MultivariateNormal:
    """The components of a latent posterior."""
    assert isinstance(law.bank, dist.MultivariateNormal)
    return law.bank


def _model(weights: Array, memories: Array, matrix: Array, bias: Array, width: Array, noise: Array) -> LinearDecoder:
    return LinearDecoder(jnp.log(weights), memories, width, matrix, bias, noise)


@register(
    id="D6.free_energy",
    source=_ANNABI,
    title="pull of the memories plus prediction error = -log joint",
    statement=(
        "p(z) = sum_k pi_k N(mu_k, t^2 I), beta = 1/(2 t^2): -log p(x, z) = |x - g(z)|^2/(2 s^2) + beta E_CLAM(z) "
        "+ (Z/2) log(2 pi t^2) + (D/2) log(2 pi s^2)"
    ),
    latex=(
        r"-\log p(x,z) = \tfrac{\lVert x-g(z)\rVert^2}{2s^2} + \beta E_{\rm CLAM}(z) + \tfrac Z2\log 2\pi t^2 + "
        r"\tfrac D2\log 2\pi s^2,\quad \beta = \tfrac{1}{2t^2}"
    ),
    printed_statement="the abstract prints no equation",
    verdict="NEW",
    relation="equal",
    constant="(Z/2) log(2 pi t^2) + (D/2) log(2 pi s^2)",
    inputs=_decoder,
    cases=_DECODERS,
    tolerance=1e-12,
    exact={
        "physical_width": lambda t: t,
        "physical_noise": lambda s: s,
        "physical_weights": lambda w: w,
        "constant": lambda t, s, z, d: 0.5 * z * jnp.log(2 * jnp.pi * t**2) + 0.5 * d * jnp.log(2 * jnp.pi * s**2),
    },
    mutations={
        "beta doubled": {"physical_width": lambda t: t / jnp.sqrt(2.0)},
        "normaliser dropped": {"constant": lambda _t, _s, _z, _d: 0.0},
        "weights left out": {"physical_weights": lambda _w: None},
        "half of the error dropped": {"physical_noise": lambda s: s / jnp.sqrt(2.0)},
    },
)
def free_energy_is_the_negative_log_joint(
    points: Array,
    observation: Array,
    weights: Array,
    memories: Array,
    matrix: Array,
    bias: Array,
    width: Array,
    noise: Array,
    *,
    physical_width: Piece,
    physical_noise: Piece,
    physical_weights: Callable[[Array], Array | None],
    constant: Callable[..., Any],
) -> Array:
    """NumPyro's prior and likelihood against the physics, for a linear decoder and a curved one."""
    model = _model(weights, memories, matrix, bias, width, noise)
    shift = constant(width, noise, memories.shape[1], len(observation))
    prior = latent_prior(model).log_prob(points)
    errors = []
    for bend in (lambda z: z, jnp.tanh):
        energy = predictive_coding.free_energy(
            points,
            observation,
            partial(_decode, bend, matrix, bias),
            physical_noise(noise),
            memories,
            physical_width(width),
            physical_weights(weights),
        )
        log_joint = prior + likelihood(model, bend(points)).log_prob(observation)
        errors.append(relative_error(-log_joint, energy + shift, energy))
    return jnp.maximum(*errors)


@register(
    id="D6.posterior",
    source=_ANNABI,
    title="linear decoder: evidence and posterior in closed form",
    statement=(
        "p(x) = sum_k pi_k N(A mu_k + b, s^2 I + t^2 AA'), p(z|x) a mixture of K Gaussians: "
        "p(x, z) = p(x) p(z|x) at every z"
    ),
    latex=(
        r"p(x) = \sum_k\pi_k N(A\mu_k+b,\ s^2 I + t^2 AA^\top),\quad p(z\mid x) = "
        r"\sum_k r_k(x)\,N\bigl(m_k,\,(A^\top A/s^2 + I/t^2)^{-1}\bigr)"
    ),
    printed_statement="the abstract prints no equation",
    verdict="NEW",
    relation="equal",
    constant="none",
    inputs=_decoder,
    cases=_DECODERS,
    tolerance=1e-12,
    exact={"reweigh": lambda law, _prior: law, "marginal_width": lambda t: t, "marginal_noise": lambda s: s},
    mutations={
        "prior weights in place of responsibilities": {"reweigh": lambda law, prior: type(law)(prior, law.bank)},
        "width left out of the marginal": {"marginal_width": lambda _t: 1e-6},
        "noise doubled in the marginal": {"marginal_noise": lambda s: jnp.sqrt(2.0) * s},
    },
)
def posterior_of_a_linear_decoder(
    points: Array,
    observation: Array,
    weights: Array,
    memories: Array,
    matrix: Array,
    bias: Array,
    width: Array,
    noise: Array,
    *,
    reweigh: Callable[[Any, Array], Any],
    marginal_width: Callable[[Array], Any],
    marginal_noise: Piece,
) -> Array:
    """Bayes' rule at random latent points, with the energy of the physics as the joint."""
    model = _model(weights, memories, matrix, bias, width, noise)
    energy = predictive_coding.free_energy(
        points, observation, lambda z: z @ matrix.T + bias, noise, memories, width, weights
    )
    constant = 0.5 * memories.shape[1] * jnp.log(2 * jnp.pi * width**2)
    constant += 0.5 * len(observation) * jnp.log(2 * jnp.pi * noise**2)
    blurred = model._replace(width=marginal_width(width), noise=marginal_noise(noise))
    law = reweigh(latent_posterior(model, observation), model.log_weights)
    right = observed(blurred).log_prob(observation) + law.log_prob(points)
    return relative_error(-energy - constant, right, energy)


def _with_nodes(key: jax.Array, **settings: Any) -> dict[str, Floats]:
    drawn = _decoder(key, num_points=1, **settings)
    node, mass = np.polynomial.hermite_e.hermegauss(24)
    mass = mass / mass.sum()
    drawn["points"] = np.stack(np.meshgrid(node, node), axis=-1).reshape(-1, 2)
    return {**drawn, "masses": np.outer(mass, mass).ravel()}


@register(
    id="D6.bound",
    source=_ANNABI,
    title="the evidence bound, and its gap is a Kullback-Leibler divergence",
    statement=("ELBO(q) <= log p(x), equal iff q = p(z|x); a Gaussian q falls short by KL(q || p(z|x)) > 0 when K > 1"),
    latex=(
        r"\log p(x) - \mathbb E_q\bigl[\log p(x,z) - \log q(z)\bigr] = "
        r"\mathrm{KL}\bigl(q\,\Vert\,p(z\mid x)\bigr) \ge 0"
    ),
    printed_statement="the abstract prints no equation",
    verdict="NEW",
    relation="equal",
    constant="none",
    inputs=_with_nodes,
    cases=(ordinary("K = 4", width=1.2), ordinary("K = 4, noise 1", width=1.2, noise=1.0)),
    tolerance=1e-12,
    exact={"entropy": 1.0, "physical_weights": lambda w: w, "direction": 1.0, "physical_width": lambda t: t},
    mutations={
        "entropy of q left out": {"entropy": 0.0},
        "weights left out": {"physical_weights": lambda _w: None},
        "bound taken the wrong way round": {"direction": -1.0},
        "beta doubled": {"physical_width": lambda t: t / jnp.sqrt(2.0)},
    },
)
def evidence_bound_of_a_point_memory(
    points: Array,
    masses: Array,
    observation: Array,
    weights: Array,
    memories: Array,
    matrix: Array,
    bias: Array,
    width: Array,
    noise: Array,
    *,
    entropy: float,
    physical_weights: Callable[[Array], Array | None],
    direction: float,
    physical_width: Piece,
) -> Array:
    """Means over a Gaussian q (the posterior's leading component) by quadrature; the physics' energy is the joint."""
    model = _model(weights, memories, matrix, bias, width, noise)
    exact, evidence = latent_posterior(model, observation), observed(model).log_prob(observation)
    leading = jnp.argmax(exact.log_weights)
    covariance = _gaussians(exact).covariance_matrix
    q = dist.MultivariateNormal(
        _gaussians(exact).loc[leading], covariance_matrix=jnp.broadcast_to(covariance, (len(weights), 2, 2))[leading]
    )
    z = q.mean + points @ q.scale_tril.T
    energy = predictive_coding.free_energy(
        z, observation, lambda z: z @ matrix.T + bias, noise, memories, physical_width(width), physical_weights(weights)
    )
    constant = 0.5 * memories.shape[1] * jnp.log(2 * jnp.pi * width**2)
    constant += 0.5 * len(observation) * jnp.log(2 * jnp.pi * noise**2)
    bound = masses @ (-energy - constant - entropy * q.log_prob(z))
    divergence = masses @ (q.log_prob(z) - exact.log_prob(z))
    # with the posterior itself as q the integrand is the evidence, at every point
    tight = -energy - constant - exact.log_prob(z)
    positive = excess(0.0, direction * (evidence - bound), evidence)
    return jnp.max(
        jnp.stack(
            [
                relative_error(evidence - bound, divergence, evidence),
                relative_error(tight, evidence, energy),
                positive,
                jnp.where(divergence > 1e-6, 0.0, 1.0),
            ]
        )
    )


@register(
    id="D6.update",
    source=_ANNABI,
    title="recall behind a linear decoder is EM, and never climbs",
    statement=(
        "z' = sum_k r_k(z) E[z | x, memory k] = exact EM for the latent state; F(z') <= F(z), still where grad F = 0"
    ),
    latex=r"z' = \sum_k r_k(z)\,m_k(x),\quad F(z') \le F(z),\quad z' = z \iff \nabla F(z) = 0",
    printed_statement="the abstract prints no equation",
    verdict="NEW",
    relation="equal",
    constant="(A'A/s^2 + I/t^2)^-1",
    inputs=_decoder,
    cases=_DECODERS[:2],
    tolerance=1e-10,
    exact={"physical_width": lambda t: t, "physical_noise": lambda s: s, "physical_weights": lambda w: w},
    mutations={
        "beta doubled": {"physical_width": lambda t: t / jnp.sqrt(2.0)},
        "weights left out": {"physical_weights": lambda _w: None},
        "noise doubled": {"physical_noise": lambda s: jnp.sqrt(2.0) * s},
    },
)
def recall_behind_a_linear_decoder_is_em(
    points: Array,
    observation: Array,
    weights: Array,
    memories: Array,
    matrix: Array,
    bias: Array,
    width: Array,
    noise: Array,
    *,
    physical_width: Piece,
    physical_noise: Piece,
    physical_weights: Callable[[Array], Array | None],
) -> Array:
    """The physics' step against the components' posterior means, weighted by the prior's responsibilities at z."""
    model = _model(weights, memories, matrix, bias, width, noise)
    law = latent_posterior(model, observation)
    shares = latent_prior(model).responsibilities(points)
    settings = (physical_noise(noise), memories, physical_width(width), physical_weights(weights))
    moved = predictive_coding.recall_update(points, observation, matrix, bias, *settings)

    def energy(z: Array) -> Array:
        return predictive_coding.free_energy(z, observation, lambda z: z @ matrix.T + bias, *settings)

    before, after = energy(points), energy(moved)
    slope = jax.grad(lambda z: jnp.sum(energy(z)))(points)
    precision = matrix.T @ matrix / noise**2 + jnp.eye(matrix.shape[1]) / width**2
    return jnp.max(
        jnp.stack(
            [
                relative_error(moved, shares @ _gaussians(law).loc),
                relative_error((points - moved) @ precision, slope),
                excess(after, before, before),
                jnp.abs(logsumexp(law.log_weights)),
            ]
        )
    )
