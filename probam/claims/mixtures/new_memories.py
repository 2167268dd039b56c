"""Claim A17, continued: the force, the threshold and the posterior of a new memory, and the DP-means limit.

Physics: :mod:`probam.energies.creation`. Statistics: the predictive mixture of
:mod:`probam.claims.mixtures.creation` and NumPyro's normal densities.
"""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array

from probam.claims.claim import Piece, extreme, ordinary, register, relative_error
from probam.claims.inputs import Floats, generator
from probam.claims.mixtures.creation import SEATS, predictive_mixture, seated_bank
from probam.claims.mixtures.gaussian import log_density, log_density_gradient
from probam.energies import creation

__all__: list[str] = []

_SCHAEFFER = "Schaeffer et al. (2023), Associative Memory under the Probabilistic Lens"


@register(
    id="A17.force",
    source=f"{_SCHAEFFER}, Eq. 12 through Eq. 2",
    title="force of the memory-creating energy",
    statement="-(1/2) grad E = sum_k p_k (mu_k - v) - p_new rho/(beta + rho) v = grad log p(v) / (2 beta)",
    latex=(
        r"-\tfrac12\nabla E = \sum_k p_k(\mu_k - v) - p_{\text{new}} \tfrac{\rho}{\beta+\rho} v = "
        r"\tfrac{1}{2\beta}\nabla\log p(v)"
    ),
    printed_statement="no formula",
    verdict="NEW",
    relation="equal",
    constant="rho / (beta + rho)",
    inputs=seated_bank,
    cases=(*SEATS[:-1], extreme("queries at 1e8", query_radius=1e8, tolerance=1e-7)),
    tolerance=1e-10,
    exact={"pull": lambda beta, rho: rho / (beta + rho), "time": lambda beta: 2 * beta},
    mutations={
        "rho / (beta + rho) left out": {"pull": lambda _beta, _rho: 1.0},
        "beta / (beta + rho)": {"pull": lambda beta, rho: beta / (beta + rho)},
        "sign of the pull flipped": {"pull": lambda beta, rho: -rho / (beta + rho)},
        "time scale beta": {"time": lambda beta: beta},
    },
)
def force_is_the_scaled_gradient_of_the_log_predictive(
    queries: Array,
    memories: Array,
    counts: Array,
    beta: Array,
    rho: Array,
    alpha: Array,
    discount: Array,
    *,
    pull: Piece,
    time: Piece,
) -> Array:
    """Autodiff of the energy, the physics' force and the formula with the statistics' shares, against the score."""
    arguments = (memories, counts, beta, rho, alpha, discount)
    mixture = predictive_mixture(memories, counts, beta, rho, alpha, discount)
    score = log_density_gradient(mixture, queries) / time(beta)
    descent = -0.5 * jax.grad(lambda v: jnp.sum(creation.exact(v, *arguments)))(queries)
    shares = mixture.responsibilities(queries)
    towards = jnp.einsum("nk,nkd->nd", shares[:, :-1], memories - queries[:, None, :])
    formula = towards - shares[:, -1:] * pull(beta, rho) * queries
    errors = jnp.stack(
        [
            relative_error(score, descent),
            relative_error(score, creation.force(queries, *arguments)),
            relative_error(score, formula),
        ]
    )
    return jnp.max(errors)


@register(
    id="A17.threshold",
    source=f"{_SCHAEFFER}, Eq. 12",
    title="when a new memory is the more probable",
    statement=(
        "new beats k iff |mu_k - v|^2 - rho/(beta+rho) |v|^2 "
        "> (1/beta)[log((n_k - d)/(alpha + dK)) + (D/2) log(1 + beta/rho)]"
    ),
    latex=(
        r"\lVert\mu_k-v\rVert^2 - \tfrac{\rho}{\beta+\rho}\lVert v\rVert^2 > \tfrac1\beta\bigl["
        r"\log\tfrac{n_k-d}{\alpha+dK} + \tfrac D2\log(1+\tfrac\beta\rho)\bigr]"
    ),
    printed_statement="no formula; Eq. 12 has no D/2 term",
    verdict="WRONG",
    relation="equal",
    constant="(D / (2 beta)) log(1 + beta / rho)",
    inputs=seated_bank,
    cases=SEATS,
    tolerance=1e-12,
    exact={
        "dimension_term": lambda dim, beta, rho: dim / 2 * jnp.log1p(beta / rho),
        "threshold": creation.creation_threshold,
        "discount_sign": 1.0,
    },
    printed={
        "dimension_term": lambda _dim, _beta, _rho: 0.0,
        "threshold": lambda *arguments: creation.creation_threshold(arguments[0], 0, *arguments[2:]),
    },
    printed_exceeds=0.05,
    mutations={
        "dimension left out": {"dimension_term": lambda _dim, _beta, _rho: 0.0},
        "D for D / 2": {"dimension_term": lambda dim, beta, rho: dim * jnp.log1p(beta / rho)},
        "sign of the discount flipped": {"discount_sign": -1.0},
    },
)
def new_memories_win_beyond_the_threshold(
    queries: Array,
    memories: Array,
    counts: Array,
    beta: Array,
    rho: Array,
    alpha: Array,
    discount: Array,
    *,
    dimension_term: Piece,
    threshold: Piece,
    discount_sign: float,
) -> Array:
    """Margin by which the left side exceeds the right, beta times, against the mixture's log odds of new over k."""
    num_memories, dim = memories.shape
    log_joint = predictive_mixture(memories, counts, beta, rho, alpha, discount).log_joint(queries)
    log_odds = log_joint[:, -1:] - log_joint[:, :-1]
    squares = jnp.sum((queries[:, None, :] - memories) ** 2, axis=-1)
    drift = rho / (beta + rho) * jnp.sum(queries**2, axis=-1, keepdims=True)
    d = discount_sign * discount
    seats_log = jnp.log((counts - d) / (alpha + d * num_memories))
    right = (seats_log + dimension_term(dim, beta, rho)) / beta
    margin = beta * (squares - drift)
    scale = jnp.maximum(jnp.max(jnp.abs(margin)), jnp.max(beta * squares))
    by_formula = relative_error(margin - beta * right, log_odds, scale)
    known = threshold(counts, dim, beta, rho, alpha, discount)
    return jnp.maximum(by_formula, relative_error(margin - beta * known, log_odds, scale))


@register(
    id="A17.posterior",
    source=f"{_SCHAEFFER}, Sec. 5",
    title="the memory that is created",
    statement="mu_new | v ~ N(beta v/(beta + rho), I/(2(beta + rho)))",
    latex=r"\mu_{\text{new}} \mid v \sim \mathcal N\bigl(\tfrac{\beta v}{\beta+\rho},\ \tfrac{I}{2(\beta+\rho)}\bigr)",
    printed_statement="not stated",
    verdict="NEW",
    relation="equal",
    constant="none",
    inputs=seated_bank,
    cases=SEATS[:-1],
    tolerance=1e-12,
    exact={"mean": lambda mean, _v: mean, "variance": lambda variance, _beta: variance},
    mutations={
        "created at v": {"mean": lambda _mean, v: v},
        "variance of the data": {"variance": lambda _variance, beta: 1 / (2 * beta)},
        "variance doubled": {"variance": lambda variance, _beta: 2 * variance},
    },
)
def created_memory_has_the_conjugate_posterior(
    queries: Array,
    memories: Array,
    counts: Array,
    beta: Array,
    rho: Array,
    alpha: Array,
    discount: Array,
    *,
    mean: Piece,
    variance: Piece,
) -> Array:
    """Bayes' rule at places mu: log p(mu) + log p(v | mu) - log p(v) against the physics' mean and variance."""
    del counts, alpha, discount
    places = memories[:1] + jnp.linspace(-1.0, 1.0, 4)[:, None]
    center, spread = creation.creation_posterior(queries, beta, rho)
    center, spread = mean(center, queries), variance(spread, beta)

    def log_normal(x: Array, location: Array, var: Array) -> Array:
        return log_density(dist.Normal(location, jnp.sqrt(var)).to_event(1), x)

    prior = log_normal(places, jnp.zeros_like(places), 1 / (2 * rho))[:, None]
    likelihood = log_normal(queries, places[:, None, :], 1 / (2 * beta))
    evidence = log_normal(queries, jnp.zeros_like(queries), 1 / (2 * beta) + 1 / (2 * rho))
    posterior = log_normal(places[:, None, :], center, spread)
    scale = jnp.maximum(jnp.max(jnp.abs(likelihood)), jnp.max(jnp.abs(prior)))
    return relative_error(prior + likelihood - evidence, posterior, scale)


def _penalised(key: jax.Array, *, beta: float) -> dict[str, Floats]:
    draw = generator(key)
    return {
        "queries": draw.normal(size=(12, 2)),
        "memories": draw.normal(size=(4, 2)),
        "counts": draw.integers(1, 9, size=4).astype(float),
        "beta": np.asarray(beta),
        "rho": np.asarray(0.5),
        "penalty": np.asarray(0.8),
    }


@register(
    id="A17.dp_means",
    source=f"{_SCHAEFFER}, Sec. 5, with the limit of DP-means",
    title="the cold limit creates beyond a fixed squared distance",
    statement="d = 0, alpha = (1 + beta/rho)^(D/2) e^(-beta lam): |E - min(lam, min_k |mu_k - v|^2)| -> 0 as 1/beta",
    latex=r"E(v) \to \min\bigl(\lambda,\ \min_k \lVert\mu_k - v\rVert^2\bigr),\quad \beta\to\infty",
    printed_statement="not stated",
    verdict="NEW",
    relation="limit",
    constant="rate (log(1 + n) + rho |v|^2) / beta",
    inputs=_penalised,
    cases=(*(ordinary(f"beta {beta:g}", beta=beta) for beta in (10.0, 1e3, 1e5)), extreme("beta 1e8", beta=1e8)),
    tolerance=1e-12,
    exact={"limit": jnp.minimum, "twin_beta": lambda beta: beta},
    mutations={
        "penalty doubled": {"limit": lambda penalty, squares: jnp.minimum(2 * penalty, squares)},
        "memories only": {"limit": lambda _penalty, squares: squares},
        "beta of the density doubled": {"twin_beta": lambda beta: 2 * beta},
    },
)
def cold_creation_is_dp_means(
    queries: Array,
    memories: Array,
    counts: Array,
    beta: Array,
    rho: Array,
    penalty: Array,
    *,
    limit: Piece,
    twin_beta: Piece,
) -> Array:
    """Distance of E from its limit beyond the rate, and E against the log density with that strength (in logs)."""
    dim = memories.shape[1]
    energy = creation.small_variance(queries, memories, counts, beta, rho, penalty)
    squares = jnp.min(jnp.sum((queries[:, None, :] - memories) ** 2, axis=-1), axis=-1)
    rate = (jnp.log1p(jnp.sum(counts)) + rho * jnp.sum(queries**2, axis=-1)) / beta
    beyond = jnp.max(jnp.maximum(jnp.abs(energy - limit(penalty, squares)) - rate, 0.0))
    b = twin_beta(beta)
    log_alpha = dim / 2 * jnp.log1p(b / rho) - b * penalty
    variance = 1 / (2 * b)
    known = dist.Normal(memories, jnp.sqrt(variance)).to_event(1).log_prob(queries[:, None, :]) + jnp.log(counts)
    fresh = dist.Normal(jnp.zeros(dim), jnp.sqrt(variance + 1 / (2 * rho))).to_event(1).log_prob(queries) + log_alpha
    log_p = jax.scipy.special.logsumexp(jnp.concatenate([known, fresh[:, None]], axis=-1), axis=-1)
    right = beta * energy + dim / 2 * jnp.log(jnp.pi / beta)
    return jnp.maximum(beyond, relative_error(-log_p, right, beta * energy))
