"""Claims A1 to A4: the CLAM energy is the negative log density of an isotropic Gaussian mixture.

Physics: :mod:`probam.energies.clam`. Statistics: NumPyro's own ``MixtureSameFamily`` of ``Normal``.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Float
from numpyro.distributions import Distribution

from probam.claims.claim import Piece, excess, extreme, ordinary, register, relative_error
from probam.claims.inputs import Floats, euclidean_bank, generator
from probam.distributions.mixture import MemoryMixture
from probam.energies import clam

__all__ = [
    "ALONE",
    "BANKS",
    "GRADIENT_BANKS",
    "MUTED",
    "WIDE",
    "gaussian_mixture",
    "log_density",
    "log_density_gradient",
    "uniform_bank",
]

_SCHAEFFER = "Schaeffer et al. (2023), Associative Memory under the Probabilistic Lens"

WIDE = extreme("D = 512", num_queries=3, num_memories=5, dim=512)
ALONE = extreme("K = 1, D = 1", num_memories=1, dim=1)
MUTED = extreme("a zero weight", zero_weights=True)
HOT = extreme("beta 1e-6", beta=1e-6)
COLD = extreme("beta 1e6", beta=1e6)
TWINS = extreme("duplicate memories", duplicates=True)
# both sides expand squares about the mean of the memories: a spread L costs eps beta L^2 in nats
STRAY = extreme("one memory 1e6 away", far=1e6, tolerance=1e-4)
SHIFTED = extreme("offset 1e6", offset=1e6)
FAR_QUERY = extreme("queries at 1e8", query_radius=1e8)
BANKS = (ordinary("plain"), HOT, COLD, TWINS, STRAY, SHIFTED, FAR_QUERY)
"""Settings of :func:`probam.claims.inputs.euclidean_bank` that every claim about a bank meets; one shape."""


def uniform_bank(key: jax.Array, **settings: Any) -> dict[str, Floats]:
    """:func:`probam.claims.inputs.euclidean_bank` without the weights."""
    drawn = euclidean_bank(key, **settings)
    del drawn["weights"]
    return drawn


def gaussian_mixture(
    memories: Float[Array, "K D"], weights: Float[Array, " K"], variance: Float[Array, ""]
) -> Distribution:
    """NumPyro's mixture of N(mu_k, variance I) with mixing weights w_k / sum w, broadcast form."""
    return dist.MixtureSameFamily(
        dist.Categorical(logits=jnp.log(weights)), dist.Normal(memories, jnp.sqrt(variance)).to_event(1)
    )


def log_density(mixture: Distribution, x: Float[Array, "... D"]) -> Float[Array, "..."]:
    """Log density in nats."""
    return jnp.asarray(mixture.log_prob(x))


def log_density_gradient(mixture: Distribution, x: Float[Array, "N D"]) -> Float[Array, "N D"]:
    """Gradient in x of the log density, by autodiff through the distribution."""
    gradient: jax.Array = jax.grad(lambda rows: jnp.sum(log_density(mixture, rows)))(x)
    return gradient


@register(
    id="A1",
    source=f"{_SCHAEFFER}, Sec. 2, k-means objective",
    title="k-means is the cold limit of the energy",
    statement="min_k |mu_k - v|^2 - log(K)/beta <= E(v) <= min_k |mu_k - v|^2",
    latex=r"\min_k d_k^2 - \tfrac{1}{\beta}\log K \le E(v) \le \min_k d_k^2,\quad d_k = \lVert \mu_k - v \rVert",
    printed_statement="mu_x = argmin over the indices 1..K of |x - mu_k|^2",
    verdict="TYPO",
    relation="at most",
    constant="log(K) / beta",
    inputs=uniform_bank,
    cases=(*BANKS, ALONE, ordinary("beta 30", beta=30.0)),
    tolerance=1e-12,
    exact={"energy": clam.energy, "slack": lambda beta, K: jnp.log(K) / beta},
    mutations={
        "energy at half beta": {"energy": lambda v, mu, beta: clam.energy(v, mu, beta / 2)},
        "sign of the slack flipped": {"slack": lambda beta, K: -jnp.log(K) / beta},
        "energy divided by two": {"energy": lambda v, mu, beta: clam.energy(v, mu, beta) / 2},
    },
)
def k_means_is_the_cold_limit(queries: Array, memories: Array, beta: Array, *, energy: Piece, slack: Piece) -> Array:
    """Excess over the two bounds."""
    nearest = jnp.min(jnp.sum((queries[:, None, :] - memories) ** 2, axis=-1), axis=-1)
    computed = energy(queries, memories, beta)
    gap = slack(beta, float(memories.shape[0]))
    return jnp.maximum(excess(computed, nearest, gap), excess(nearest - gap, computed, nearest))


@register(
    id="A2",
    source=f"{_SCHAEFFER}, below Eq. 4 and above Eq. 8",
    title="covariance of the memories",
    statement="-log p(x) - beta E(x) is constant in x iff Sigma_k = I / (2 beta)",
    latex=r"-\log p(x) - \beta E(x) = \text{const} \iff \Sigma_k = (2\beta)^{-1} I_D",
    printed_statement="Sigma_k = 2 beta^-1 I",
    verdict="WRONG",
    relation="affine",
    constant="free",
    inputs=uniform_bank,
    cases=(*BANKS, ALONE, WIDE, ordinary("beta 0.3", beta=0.3)),
    tolerance=1e-12,
    exact={"variance": lambda beta: 1.0 / (2.0 * beta), "twin_beta": lambda beta: beta, "energy": clam.energy},
    printed={"variance": lambda beta: 2.0 / beta},
    printed_exceeds=0.05,
    mutations={
        "variance 1 / beta": {"variance": lambda beta: 1.0 / beta},
        "beta doubled": {"variance": lambda beta: 1.0 / (4.0 * beta)},
        "sign of the energy flipped": {"energy": lambda v, mu, beta: -clam.energy(v, mu, beta)},
    },
)
@register(
    id="A2.quarter",
    source=f"{_SCHAEFFER}, below Eq. 4",
    title="the printed covariance is CLAM at beta / 4",
    statement="the mixture with Sigma_k = (2 / beta) I is exactly CLAM at beta / 4",
    latex=r"\Sigma_k = 2\beta^{-1} I:\quad -\log p(x) = \tfrac{\beta}{4} E_{\beta/4}(x) + \text{const}",
    printed_statement="CLAM at beta",
    verdict="WRONG",
    relation="affine",
    constant="free",
    inputs=uniform_bank,
    cases=BANKS,
    tolerance=1e-12,
    exact={"variance": lambda beta: 2.0 / beta, "twin_beta": lambda beta: beta / 4, "energy": clam.energy},
    printed={"twin_beta": lambda beta: beta},
    printed_exceeds=0.05,
    mutations={"beta / 2": {"twin_beta": lambda beta: beta / 2}, "4 beta": {"twin_beta": lambda beta: 4 * beta}},
)
def density_of_a_covariance_is_clam_at_one_beta(
    queries: Array, memories: Array, beta: Array, *, variance: Piece, twin_beta: Piece, energy: Piece
) -> Array:
    """Change over x of -log p - b E_b, b the beta of the twin, relative to the size of log p."""
    log_p = log_density(gaussian_mixture(memories, jnp.ones(memories.shape[0]), variance(beta)), queries)
    scaled = twin_beta(beta) * energy(queries, memories, twin_beta(beta))
    return relative_error(log_p[0] - log_p, scaled - scaled[0], log_p)


def _half_log_normalizer(beta: Array, dim: int) -> Array:
    return 0.5 * dim * jnp.log(jnp.pi / beta)


_A3_MUTATIONS: dict[str, dict[str, Any]] = {
    "beta doubled": {"scale": lambda beta: 2 * beta},
    "normaliser dropped": {"log_normalizer": lambda _beta, _dim: 0.0},
    "normaliser of 2 pi": {"log_normalizer": lambda beta, dim: 0.5 * dim * jnp.log(2 * jnp.pi / beta)},
    "log of the mass dropped": {"log_mass": lambda _mass: 0.0},
    "sign of the energy flipped": {"scale": lambda beta: -beta},
}


@register(
    id="A3.uniform",
    source=f"{_SCHAEFFER}, Eq. 5",
    title="energy = negative log density, uniform weights",
    statement="-log p(x) = beta E(x) + log K + (D/2) log(pi / beta)",
    latex=r"-\log p(x) = \beta E(x) + \log K + \tfrac{D}{2} \log\tfrac{\pi}{\beta}",
    printed_statement="-log p(x) ∝ E(x) + C",
    verdict="CONST",
    relation="equal",
    constant="log K + (D/2) log(pi / beta), scale beta",
    inputs=uniform_bank,
    cases=(*BANKS, ALONE),
    tolerance=1e-12,
    exact={"scale": lambda beta: beta, "log_mass": jnp.log, "log_normalizer": _half_log_normalizer},
    mutations=_A3_MUTATIONS,
)
def energy_is_the_negative_log_density(
    queries: Array, memories: Array, beta: Array, *, scale: Piece, log_mass: Piece, log_normalizer: Piece
) -> Array:
    """Relative error of the identity with its constants, NumPyro's mixture on the left."""
    num_memories, dim = memories.shape
    log_p = log_density(gaussian_mixture(memories, jnp.ones(num_memories), 1 / (2 * beta)), queries)
    energy = clam.energy(queries, memories, beta)
    right = scale(beta) * energy + log_mass(jnp.asarray(float(num_memories))) + log_normalizer(beta, dim)
    return relative_error(-log_p, right, beta * energy)


@register(
    id="A3.weighted",
    source=f"{_SCHAEFFER}, Eq. 5 and the sentence on weighted clustering",
    title="energy = negative log density, weighted memories",
    statement="pi_k = w_k / W: -log p(x) = beta E_w(x) + log W + (D/2) log(pi / beta)",
    latex=r"-\log p(x) = \beta E_w(x) + \log W + \tfrac{D}{2} \log\tfrac{\pi}{\beta},\quad W = \textstyle\sum_k w_k",
    printed_statement="-log p(x) ∝ E(x) + C",
    verdict="CONST",
    relation="equal",
    constant="log W + (D/2) log(pi / beta), scale beta",
    inputs=euclidean_bank,
    cases=(*BANKS, ALONE, WIDE, MUTED),
    tolerance=1e-12,
    exact={
        "scale": lambda beta: beta,
        "log_mass": jnp.log,
        "log_normalizer": _half_log_normalizer,
        "energy_weights": lambda w: w,
    },
    mutations={**_A3_MUTATIONS, "weights left out of the energy": {"energy_weights": lambda _w: None}},
)
def weighted_energy_is_the_negative_log_density(
    queries: Array,
    memories: Array,
    weights: Array,
    beta: Array,
    *,
    scale: Piece,
    log_mass: Piece,
    log_normalizer: Piece,
    energy_weights: Callable[[Array], Array | None],
) -> Array:
    """As A3.uniform, both against NumPyro's broadcast mixture and against the matrix-product one."""
    mass = jnp.sum(weights)
    deviation = jnp.sqrt(1 / (2 * beta))
    broadcast = log_density(gaussian_mixture(memories, weights, 1 / (2 * beta)), queries)
    bank = dist.Normal(memories, deviation).to_event(1)
    product = MemoryMixture(jnp.log(weights / mass), bank).log_prob(queries)
    energy = clam.energy(queries, memories, beta, energy_weights(weights))
    right = scale(beta) * energy + log_mass(mass) + log_normalizer(beta, memories.shape[1])
    return jnp.maximum(relative_error(-broadcast, right, beta * energy), relative_error(-product, right, beta * energy))


def _line(key: jax.Array, *, memories: tuple[float, ...] = (), beta: float = 3.0) -> dict[str, Floats]:
    drawn = generator(key).normal(size=3) if not memories else np.asarray(memories)
    return {"memories": drawn[:, None], "beta": np.asarray(beta)}


@register(
    id="A3.density",
    source=f"{_SCHAEFFER}, Eq. 5",
    title="the density is exp(-beta E), not exp(-E)",
    statement="integral of exp(-beta E) = K (pi/beta)^(D/2); variance = 1/(2 beta) + Var(mu)",
    latex=(
        r"\int e^{-\beta E} = K (\pi/\beta)^{D/2},\quad \operatorname{Var} = \tfrac{1}{2\beta} + "
        r"\operatorname{Var}(\mu)"
    ),
    printed_statement="-log p(x) ∝ E(x) + C, read with scale 1: p = exp(-E) / Z",
    verdict="CONST",
    relation="equal",
    constant="K (pi / beta)^(D/2)",
    inputs=_line,
    cases=(ordinary("memories 0, 2, beta 3", memories=(0.0, 2.0)), ordinary("three, beta 0.4", beta=0.4)),
    tolerance=1e-12,
    tolerance_single=4e-4,
    exact={"scale": lambda beta: beta, "mass": lambda beta, K: K * jnp.sqrt(jnp.pi / beta)},
    printed={"scale": lambda _beta: 1.0},
    printed_exceeds=0.3,
    mutations={
        "beta doubled": {"scale": lambda beta: 2 * beta},
        "normaliser of 2 pi": {"mass": lambda beta, K: K * jnp.sqrt(2 * jnp.pi / beta)},
        "normaliser dropped": {"mass": lambda _beta, K: K},
    },
)
def density_is_the_exponential_of_minus_beta_times_the_energy(
    memories: Array, beta: Array, *, scale: Piece, mass: Piece
) -> Array:
    """Mass and variance by the trapezoidal rule, which is exact to rounding for Gaussians.

    The step of 0.01 is a difference of two points near -40, where numbers in float32 are 2^-18 = 3.8e-6 apart: its
    relative error, and with it that of the mass, is up to 3.8e-4.
    """
    x = jnp.linspace(-40.0, 40.0, 8001)
    density = jnp.exp(-scale(beta) * clam.energy(x[:, None], memories, beta))
    total = jnp.sum(density) * (x[1] - x[0])
    mean = jnp.sum(x * density) / jnp.sum(density)
    variance = jnp.sum((x - mean) ** 2 * density) / jnp.sum(density)
    exact = 1 / (2 * beta) + jnp.var(memories)
    return jnp.maximum(relative_error(total, mass(beta, memories.shape[0])), jnp.abs(variance - exact) / exact)


GRADIENT_BANKS = (
    *(case for case in BANKS if case not in (FAR_QUERY, SHIFTED)),
    # a state near 1e6 is known to 1e-10, and so is a step between two of them
    extreme("offset 1e6", offset=1e6, tolerance=1e-9),
    # distances of 1e16 keep no digit of the responsibilities on the side of the statistics: error |mu| / |x|
    extreme("queries at 1e8", query_radius=1e8, tolerance=1e-7),
)
"""The same for claims about gradients and steps, with the bounds that rounding of the inputs sets."""


@register(
    id="A4.score",
    source=f"{_SCHAEFFER}, Eq. 6",
    title="gradient of the log density",
    statement="grad log p(x) = 2 beta sum_k r_k(x) (mu_k - x) = 2 beta (m(x) - x)",
    latex=r"\nabla \log p(x) = 2\beta \sum_k r_k(x)\,(\mu_k - x) = 2\beta\,(m(x) - x)",
    printed_statement="-grad log p(x) = sum_k r_k(x) (mu_k - x)",
    verdict="WRONG",
    relation="equal",
    constant="2 beta, sign +",
    inputs=euclidean_bank,
    cases=(*GRADIENT_BANKS, ALONE, WIDE, MUTED),
    tolerance=1e-10,
    exact={"scale": lambda beta: 2 * beta, "update": clam.update},
    printed={"scale": lambda _beta: -1.0},
    printed_exceeds=1.0,
    mutations={
        "sign flipped": {"scale": lambda beta: -2 * beta},
        "factor 2 dropped": {"scale": lambda beta: beta},
        "weights left out of the update": {"update": lambda v, mu, beta, _w: clam.update(v, mu, beta)},
        "update at 2 beta": {"update": lambda v, mu, beta, w: clam.update(v, mu, 2 * beta, w)},
    },
)
def score_is_two_beta_times_the_step(
    queries: Array, memories: Array, weights: Array, beta: Array, *, scale: Piece, update: Piece
) -> Array:
    """Autodiff through NumPyro against the physics' update."""
    score = log_density_gradient(gaussian_mixture(memories, weights, 1 / (2 * beta)), queries)
    step = update(queries, memories, beta, weights) - queries
    return relative_error(score, scale(beta) * step)


@register(
    id="A4.dynamics",
    source=f"{_SCHAEFFER}, Eq. 2 and the sentence below Eq. 6",
    title="the flow is gradient ascent of the log density, in time 2 beta t",
    statement="tau dv/dt = -(1/2) grad E(v) = m(v) - v = grad log p(v) / (2 beta)",
    latex=r"\tau \dot v = -\tfrac12 \nabla E(v) = m(v) - v = \tfrac{1}{2\beta} \nabla \log p(v)",
    printed_statement="the two gradient flows are exactly equivalent",
    verdict="COND",
    relation="equal",
    constant="time scale 2 beta",
    inputs=euclidean_bank,
    cases=(*GRADIENT_BANKS, MUTED),
    tolerance=1e-10,
    exact={"time": lambda beta: 2 * beta, "half": 0.5},
    printed={"time": lambda _beta: 1.0},
    printed_exceeds=0.5,
    mutations={
        "time scale beta": {"time": lambda beta: beta},
        "half dropped from Eq. 2": {"half": 1.0},
        "sign of Eq. 2 flipped": {"half": -0.5},
    },
)
def flow_is_rescaled_ascent_of_the_log_density(
    queries: Array, memories: Array, weights: Array, beta: Array, *, time: Piece, half: float
) -> Array:
    """Eq. 2's two sides (autodiff of the energy, the update), then the statistics' gradient."""
    flow = -half * jax.grad(lambda v: jnp.sum(clam.energy(v, memories, beta, weights)))(queries)
    step = clam.update(queries, memories, beta, weights) - queries
    score = log_density_gradient(gaussian_mixture(memories, weights, 1 / (2 * beta)), queries)
    return jnp.maximum(relative_error(flow, step), relative_error(flow, score / time(beta)))
