"""Claim B11: the continuous Hopfield network is a Gaussian mixture whose prior is the memories' norms.

Read with cosines it is a von Mises-Fisher mixture of uniform weights. Physics:
:mod:`probam.energies.continuous_hopfield`. Statistics: NumPyro's normal mixture and our von Mises-Fisher.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Array

from probam.claims.claim import Piece, extreme, ordinary, register, relative_error
from probam.claims.inputs import spherical_bank, unit_rows
from probam.claims.mixtures.descent import hopfield_mixture
from probam.claims.mixtures.gaussian import ALONE, BANKS, GRADIENT_BANKS, WIDE, log_density_gradient, uniform_bank
from probam.distributions.mixture import MemoryMixture
from probam.distributions.von_mises_fisher import VonMisesFisher
from probam.dynamics.recall import recall
from probam.energies import clam, continuous_hopfield
from probam.numerics.bessel import log_normalizer

__all__: list[str] = []

_YANG = "Yang (2020), Large associative memory (slides on Krotov and Hopfield), modern limit"


def _norm_prior(memories: Array, beta: Array) -> Array:
    return 0.5 * beta * jnp.sum(memories**2, axis=-1)


@register(
    id="B11.mixture",
    source=_YANG,
    title="the energy as a Gaussian mixture",
    statement=(
        "log p(v) = -beta E(v) - lse_k(beta |xi_k|^2 / 2) - (D/2) log(2 pi / beta); pi_k ∝ exp(beta |xi_k|^2 / 2)"
    ),
    latex=(
        r"\log p(v) = -\beta E(v) - \operatorname{lse}_k\tfrac{\beta\lVert\xi_k\rVert^2}{2} - \tfrac D2 "
        r"\log\tfrac{2\pi}{\beta}"
    ),
    printed_statement="E = |v|^2 / 2 - log sum_k exp(xi_k . v), no density named",
    verdict="EXACT",
    relation="equal",
    constant="lse_k(beta |xi_k|^2 / 2) + (D/2) log(2 pi / beta), scale beta",
    inputs=uniform_bank,
    cases=(*BANKS, ALONE, WIDE),
    tolerance=1e-12,
    exact={
        "log_weights": _norm_prior,
        "twin_beta": lambda beta: beta,
        "log_mass": logsumexp,
        "log_normalizer": lambda beta, dim: 0.5 * dim * jnp.log(2 * jnp.pi / beta),
    },
    mutations={
        "uniform weights": {"log_weights": lambda mu, _beta: jnp.zeros(mu.shape[0])},
        "beta of CLAM": {"twin_beta": lambda beta: 2 * beta},
        "mass of the prior dropped": {"log_mass": lambda _logits: 0.0},
        "normaliser of pi": {"log_normalizer": lambda beta, dim: 0.5 * dim * jnp.log(jnp.pi / beta)},
    },
)
def hopfield_energy_is_a_negative_log_density(
    queries: Array,
    memories: Array,
    beta: Array,
    *,
    log_weights: Piece,
    twin_beta: Piece,
    log_mass: Piece,
    log_normalizer: Piece,
) -> Array:
    """Relative error of the identity with its constants, in units of the largest term."""
    logits = log_weights(memories, beta)
    log_p = hopfield_mixture(memories, twin_beta(beta), logits).log_prob(queries)
    scaled = beta * continuous_hopfield.energy(queries, memories, beta)
    right = -scaled - log_mass(logits) - log_normalizer(beta, memories.shape[1])
    return relative_error(log_p, right, scaled)


@register(
    id="B11.update",
    source=_YANG,
    title="the update is a unit step of gradient flow",
    statement="Xi^T softmax(beta Xi v) = v - grad E(v) = v + grad log p(v) / beta",
    latex=r"\Xi^\top \operatorname{softmax}(\beta\Xi v) = v - \nabla E(v) = v + \beta^{-1} \nabla \log p(v)",
    printed_statement="v <- sum_mu xi^mu softmax(<xi^mu, v>)",
    verdict="EXACT",
    relation="equal",
    constant="1 / beta",
    inputs=uniform_bank,
    cases=GRADIENT_BANKS,
    tolerance=1e-10,
    exact={"time": lambda beta: beta, "update": continuous_hopfield.update},
    mutations={
        "1 / (2 beta), as for CLAM": {"time": lambda beta: 2 * beta},
        "sign flipped": {"time": lambda beta: -beta},
        "CLAM's update": {"update": lambda v, xi, beta: clam.update(v, xi, beta / 2)},
    },
)
def attention_is_a_unit_step(queries: Array, memories: Array, beta: Array, *, time: Piece, update: Piece) -> Array:
    """The update against autodiff of the energy and of the twin's log density."""
    step = update(queries, memories, beta) - queries
    force = -jax.grad(lambda v: jnp.sum(continuous_hopfield.energy(v, memories, beta)))(queries)
    score = log_density_gradient(hopfield_mixture(memories, beta), queries) / time(beta)
    return jnp.maximum(relative_error(step, force), relative_error(step, score))


def _two(key: jax.Array, *, norm: float, beta: float) -> dict[str, np.ndarray]:
    angle = float(jax.random.uniform(key, (), minval=0.3, maxval=0.6))
    memories = np.array([[1.0, 0.0], [norm * np.cos(angle), norm * np.sin(angle)]])
    return {"memories": memories, "beta": np.asarray(beta)}


@register(
    id="B11.norms",
    source=_YANG,
    title="long memories win: the norm failure is a prior",
    statement=(
        "a stored memory is left in one step iff the twin's prior pi_k ∝ exp(beta |xi_k|^2 / 2) outweighs "
        "its likelihood"
    ),
    latex=r"\arg\max_k r_k(\xi_1) = \arg\max_k \bigl[\log \pi_k + \log \mathcal N(\xi_1 \mid \xi_k, I/\beta)\bigr]",
    printed_statement="each memory is an attractor",
    verdict="COND",
    relation="count",
    constant="log pi_k = beta |xi_k|^2 / 2 - lse",
    inputs=_two,
    cases=(
        ordinary("norms 1 and 1.2", norm=1.2, beta=100.0),
        ordinary("norms 1 and 2.2", norm=2.2, beta=10.0),
        ordinary("norms 1 and 1", norm=1.0, beta=100.0),
        extreme("norms 1 and 1.02, beta 1e6", norm=1.02, beta=1e6),
    ),
    tolerance=0.0,
    exact={"log_weights": _norm_prior, "winner": None},
    printed={"winner": lambda memories, _beta: jnp.arange(memories.shape[0])},
    printed_exceeds=0.5,
    mutations={
        "uniform prior": {"log_weights": lambda mu, _beta: jnp.zeros(mu.shape[0])},
        "sign of the prior flipped": {"log_weights": lambda mu, beta: -_norm_prior(mu, beta)},
    },
)
def stored_memories_go_where_prior_times_likelihood_says(
    memories: Array, beta: Array, *, log_weights: Piece, winner: Callable[[Array, Array], Array] | None
) -> Array:
    """Number of stored memories from which one step of recall goes nearest to another memory than expected."""
    moved = recall(
        lambda v: continuous_hopfield.update(v, memories, beta),
        lambda v: continuous_hopfield.energy(v, memories, beta),
        memories,
        max_steps=1,
    ).states
    reached = jnp.argmin(jnp.sum((moved[:, None] - memories) ** 2, axis=-1), axis=-1)
    mixture = hopfield_mixture(memories, beta, log_weights(memories, beta))
    expected = jnp.argmax(mixture.log_joint(memories), axis=-1) if winner is None else winner(memories, beta)
    return jnp.sum(reached != expected).astype(float)


def _cosines(key: jax.Array, *, beta: float = 3.0, **settings: Any) -> dict[str, np.ndarray]:
    """Queries on the sphere, and the same ones longer; memories of many lengths."""
    bank = spherical_bank(key, **settings)
    queries, lengths = unit_rows(bank["queries"]), bank["concentrations"][:, None]
    return {
        "queries": queries,
        "longer": 3 * queries,
        "directions": bank["directions"],
        "concentrations": np.full(len(lengths), beta),
        "memories": lengths * bank["directions"],
        "beta": np.asarray(beta),
    }


@register(
    id="B11.cosine",
    source="Millidge et al. (2022), Table 2 and Sec. 2 read with cosines; Ramsauer et al. (2021), arXiv:2008.02217",
    title="with cosines: a uniform von Mises-Fisher mixture",
    statement=(
        "on the unit sphere log p(v) = -beta E_cos(v) - log K + log C_D(beta), p = (1/K) sum_k vMF(xi_k / |xi_k|, beta)"
    ),
    latex=r"\log p(v) = -\beta E_{\cos}(v) - \log K + \log C_D(\beta)",
    printed_statement="no density named",
    verdict="COND",
    relation="equal",
    constant="log K - log C_D(beta); on R^D no density: the energy does not see |v|",
    inputs=_cosines,
    cases=(
        ordinary("plain"),
        extreme("beta 1e-6", beta=1e-6),
        extreme("beta 1e6", beta=1e6),
        extreme("D = 512", dim=512, num_queries=3),
        extreme("duplicate memories", duplicates=True),
    ),
    tolerance=1e-12,
    tolerance_extreme=1e-11,
    exact={
        "energy": continuous_hopfield.cosine_energy,
        "concentration": lambda kappa, _mu: kappa,
        "log_constant": log_normalizer,
    },
    mutations={
        "beta doubled": {"concentration": lambda kappa, _mu: 2 * kappa},
        "the norms as concentrations": {"concentration": lambda kappa, mu: kappa * jnp.linalg.norm(mu, axis=-1)},
        "normaliser dropped": {"log_constant": lambda _dim, _beta: 0.0},
        "the dot product": {"energy": continuous_hopfield.energy},
    },
)
def cosine_energy_is_a_uniform_von_mises_fisher_mixture(
    queries: Array,
    longer: Array,
    directions: Array,
    concentrations: Array,
    memories: Array,
    beta: Array,
    *,
    energy: Piece,
    concentration: Piece,
    log_constant: Callable[..., Any],
) -> Array:
    """Log densities, and responsibilities, of the two sides; the energy must not see the length of a query."""
    num_memories, dim = memories.shape
    bank = VonMisesFisher(directions, concentration(concentrations, memories))
    mixture = MemoryMixture(jnp.full(num_memories, -jnp.log(num_memories)), bank)
    scaled = beta * energy(queries, memories, beta)
    right = -scaled - jnp.log(num_memories) + log_constant(dim, beta)
    shares = continuous_hopfield.cosine_responsibilities(queries, memories, beta)
    posterior = relative_error(shares, mixture.responsibilities(queries))
    by_direction = relative_error(beta * energy(longer, memories, beta), scaled)
    return jnp.maximum(relative_error(mixture.log_prob(queries), right, scaled), jnp.maximum(posterior, by_direction))
