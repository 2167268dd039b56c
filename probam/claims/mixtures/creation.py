"""Claims A16 and A17: the energy of a memory that can create memories.

Physics: :mod:`probam.energies.creation` (Eq. 12 as printed, exact, collapsed). Statistics: NumPyro mixtures with a
component for the new memory, and joint normal densities of a new datum with the members of a memory.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Float

from probam.claims.claim import Piece, extreme, ordinary, register, relative_error
from probam.claims.inputs import Floats, euclidean_bank, generator
from probam.distributions.mixture import MemoryMixture
from probam.energies import creation

__all__ = ["SEATS", "predictive_mixture", "seated_bank"]

_SCHAEFFER = "Schaeffer et al. (2023), Associative Memory under the Probabilistic Lens"


def seated_bank(
    key: jax.Array,
    *,
    rho: float = 0.4,
    alpha: float = 1.5,
    discount: float = 0.3,
    counts: Sequence[int] | None = None,
    **settings: Any,
) -> dict[str, Floats]:
    """Queries, memories and beta of a bank, counts, rho (of the base measure), alpha and the discount."""
    drawn = euclidean_bank(key, **settings)
    del drawn["weights"]
    size = len(drawn["memories"])
    number = generator(jax.random.fold_in(key, 1)).integers(1, 9, size=size) if counts is None else np.asarray(counts)
    return {
        **drawn,
        "counts": number.astype(float),
        "rho": np.asarray(rho),
        "alpha": np.asarray(alpha),
        "discount": np.asarray(discount),
    }


def predictive_mixture(
    memories: Float[Array, "K D"],
    counts: Float[Array, " K"],
    beta: Float[Array, ""],
    rho: Float[Array, ""],
    alpha: Float[Array, ""],
    discount: Float[Array, ""],
) -> MemoryMixture:
    """Predictive law of the next datum: N(mu_k, I/(2 beta)) by n_k - d; last, N(0, [1/(2 beta) + 1/(2 rho)] I)."""
    num_memories, dim = memories.shape
    variance = jnp.append(jnp.full(num_memories, 1 / (2 * beta)), 1 / (2 * beta) + 1 / (2 * rho))
    bank = dist.Normal(jnp.concatenate([memories, jnp.zeros((1, dim))]), jnp.sqrt(variance)[:, None]).to_event(1)
    seats = jnp.append(counts - discount, alpha + discount * num_memories)
    return MemoryMixture(jnp.log(seats / (jnp.sum(counts) + alpha)), bank)


def _half_log_normalizer(beta: Array, dim: int) -> Array:
    return 0.5 * dim * jnp.log(jnp.pi / beta)


SEATS = (
    ordinary("plain"),
    ordinary("alpha 9", alpha=9.0),
    ordinary("d = 0", discount=0.0),
    extreme("beta 1e-6", beta=1e-6),
    extreme("beta 1e6", beta=1e6),
    extreme("rho 1e-6", rho=1e-6),
    extreme("rho 1e6", rho=1e6),
    extreme("alpha -0.2", alpha=-0.2),
    extreme("queries at 1e8", query_radius=1e8),
)
"""Settings of :func:`seated_bank` that every claim about the creation of memories meets."""


@register(
    id="A16.exact",
    source=f"{_SCHAEFFER}, Eq. 12",
    title="energy of a memory that can create memories",
    statement=(
        "-log p(v | mu, n) = beta E(v) + log(n + alpha) + (D/2) log(pi / beta), with the new memory's term "
        "(alpha + dK) (rho/(beta+rho))^(D/2) exp(-beta rho/(beta+rho) |v|^2)"
    ),
    latex=(
        r"E = -\tfrac1\beta \log\Bigl[(\alpha+dK)\bigl(\tfrac{\rho}{\beta+\rho}\bigr)^{D/2} "
        r"e^{-\frac{\beta\rho}{\beta+\rho}\lVert v\rVert^2} + \sum_k (n_k-d) e^{-\beta\lVert\mu_k-v\rVert^2}\Bigr]"
    ),
    printed_statement="the same without (rho / (beta + rho))^(D/2), and with undefined pi_k for the counts",
    verdict="WRONG",
    relation="equal",
    constant="log(n + alpha) + (D/2) log(pi / beta), scale beta",
    inputs=seated_bank,
    cases=(
        *SEATS,
        extreme("K = 1, D = 1", num_memories=1, dim=1),
        extreme("D = 512", num_queries=3, num_memories=5, dim=512),
    ),
    tolerance=1e-12,
    exact={
        "energy": creation.exact,
        "scale": lambda beta: beta,
        "log_mass": lambda counts, alpha: jnp.log(jnp.sum(counts) + alpha),
        "log_normalizer": _half_log_normalizer,
    },
    printed={"energy": creation.printed},
    printed_exceeds=0.01,
    mutations={
        "beta doubled": {"scale": lambda beta: 2 * beta},
        "discount left out": {
            "energy": lambda v, mu, n, b, r, a, d: creation.exact(v, mu, n, b, r, a, jnp.zeros_like(d))
        },
        "log(n + alpha) dropped": {"log_mass": lambda _counts, _alpha: 0.0},
        "rho read as a precision": {"energy": lambda v, mu, n, b, r, a, d: creation.exact(v, mu, n, b, r / 2, a, d)},
        "normaliser of 2 pi": {"log_normalizer": lambda beta, dim: 0.5 * dim * jnp.log(2 * jnp.pi / beta)},
    },
)
def creation_energy_is_the_negative_log_predictive(
    queries: Array,
    memories: Array,
    counts: Array,
    beta: Array,
    rho: Array,
    alpha: Array,
    discount: Array,
    *,
    energy: Piece,
    scale: Piece,
    log_mass: Piece,
    log_normalizer: Piece,
) -> Array:
    """The identity with its constants, and the posterior probability of each memory and of a new one."""
    mixture = predictive_mixture(memories, counts, beta, rho, alpha, discount)
    value = energy(queries, memories, counts, beta, rho, alpha, discount)
    right = scale(beta) * value + log_mass(counts, alpha) + log_normalizer(beta, memories.shape[1])
    return relative_error(-mixture.log_prob(queries), right, beta * value)


@register(
    id="A16.probability",
    source=f"{_SCHAEFFER}, Eq. 12",
    title="probability of creating a memory",
    statement=(
        "the share of the new term is P(new | v); it falls with D: .0936, .0442, 7.4e-5, 9.9e-24 at D = 1, 2, 10, 64"
    ),
    latex=(
        r"P(\text{new} \mid v) = \frac{(\alpha+dK)\,\mathcal N(v \mid 0, "
        r"\tfrac{1}{2\beta}+\tfrac{1}{2\rho})}{(n+\alpha)\,p(v)}"
    ),
    printed_statement=".1876 at every D (n = 5, alpha = 1, |v| = .3, beta/rho = 4)",
    verdict="WRONG",
    relation="equal",
    constant="none",
    inputs=seated_bank,
    cases=(*SEATS[:-1], extreme("queries at 1e8", query_radius=1e8, tolerance=1e-9)),
    tolerance=1e-12,
    tolerance_extreme=1e-9,
    exact={"probabilities": creation.exact_probabilities, "twin_beta": lambda beta: beta, "twin_rho": lambda rho: rho},
    printed={"probabilities": creation.printed_probabilities},
    printed_exceeds=0.1,
    mutations={
        "beta doubled": {"twin_beta": lambda beta: 2 * beta},
        "base measure's variance 1 / rho": {"twin_rho": lambda rho: rho / 2},
    },
)
def creation_probability_is_the_posterior_of_a_new_component(
    queries: Array,
    memories: Array,
    counts: Array,
    beta: Array,
    rho: Array,
    alpha: Array,
    discount: Array,
    *,
    probabilities: Piece,
    twin_beta: Piece,
    twin_rho: Piece,
) -> Array:
    """The physics' shares against the mixture's responsibilities."""
    mixture = predictive_mixture(memories, counts, twin_beta(beta), twin_rho(rho), alpha, discount)
    return relative_error(
        probabilities(queries, memories, counts, beta, rho, alpha, discount), mixture.responsibilities(queries)
    )


@register(
    id="A16.ratio",
    source=f"{_SCHAEFFER}, Eq. 12",
    title="by how much the printed energy overrates a new memory",
    statement=(
        "printed odds of a new memory = exact odds times (1 + beta/rho)^(D/2): 2.24, 5, 3125, 2.3e22 at beta/rho = 4"
    ),
    latex=r"\frac{\text{odds}_{\text{printed}}}{\text{odds}_{\text{exact}}} = (1 + \beta/\rho)^{D/2}",
    printed_statement="factor 1",
    verdict="WRONG",
    relation="equal",
    constant="(1 + beta / rho)^(D/2)",
    inputs=lambda key, dim: seated_bank(key, dim=dim, beta=2.0, rho=0.5),
    cases=(ordinary("D = 10", dim=10), extreme("D = 1", dim=1), extreme("D = 64", dim=64)),
    tolerance=1e-12,
    tolerance_extreme=1e-11,
    exact={"factor": lambda beta, rho, dim: (1 + beta / rho) ** (dim / 2)},
    printed={"factor": lambda _beta, _rho, _dim: 1.0},
    printed_exceeds=0.99,
    mutations={
        "exponent D": {"factor": lambda beta, rho, dim: (1 + beta / rho) ** dim},
        "rho over beta": {"factor": lambda beta, rho, dim: (1 + rho / beta) ** (dim / 2)},
        "one left out": {"factor": lambda beta, rho, dim: (beta / rho) ** (dim / 2)},
    },
)
def printed_energy_overrates_a_new_memory(
    queries: Array,
    memories: Array,
    counts: Array,
    beta: Array,
    rho: Array,
    alpha: Array,
    discount: Array,
    *,
    factor: Piece,
) -> Array:
    """Odds from the printed shares of the physics over odds from the mixture's log joint densities."""
    printed = creation.printed_probabilities(queries, memories, counts, beta, rho, alpha, discount)
    log_joint = predictive_mixture(memories, counts, beta, rho, alpha, discount).log_joint(queries)
    odds = printed[:, -1] / jnp.sum(printed[:, :-1], axis=-1)
    exact = jnp.exp(log_joint[:, -1] - jax.scipy.special.logsumexp(log_joint[:, :-1], axis=-1))
    return relative_error(odds / exact, jnp.full(len(queries), factor(beta, rho, memories.shape[1])))


def _members(
    key: jax.Array,
    *,
    sizes: tuple[int, ...] = (3, 1, 4),
    num_queries: int = 5,
    dim: int = 3,
    beta: float = 1.7,
    rho: float = 0.4,
    alpha: float = 1.5,
    discount: float = 0.3,
) -> dict[str, Floats]:
    """Members (K, M, D) of each memory, zeros beyond its count, and queries."""
    draw = generator(key)
    members = draw.normal(size=(len(sizes), max(sizes), dim))
    for k, size in enumerate(sizes):
        members[k, size:] = 0.0
    return {
        "queries": draw.normal(size=(num_queries, dim)),
        "members": members,
        "counts": np.asarray(sizes, float),
        "beta": np.asarray(beta),
        "rho": np.asarray(rho),
        "alpha": np.asarray(alpha),
        "discount": np.asarray(discount),
    }


def _log_marginal(data: Float[Array, "M D"], present: Float[Array, " M"], beta: Array, rho: Array) -> Array:
    """Log joint density of the data of one memory, its location integrated out: normal in each coordinate.

    Covariance I/(2 beta) + 11^T/(2 rho) over the present data; absent ones are independent standard normals at zero.
    """
    together = present[:, None] * present
    diagonal = jnp.where(present > 0, 1 / (2 * beta), 1.0)
    covariance = jnp.diag(diagonal) + together / (2 * rho)
    log_prob: Array = dist.MultivariateNormal(jnp.zeros(len(present)), covariance).log_prob(data.T)
    return jnp.sum(log_prob)


@register(
    id="A17.collapsed",
    source=f"{_SCHAEFFER}, Eq. 12, with the memories integrated out",
    title="energy with unknown memory locations",
    statement=(
        "-log p(v | members) = beta E(v) + log(n + alpha), weights (n_k - d)(lam_k/pi)^(D/2) exp(-lam_k |v - m_k|^2), "
        "m_k = beta S_k/(beta n_k + rho), 1/lam_k = 1/beta + 1/(rho + n_k beta)"
    ),
    latex=(
        r"m_k = \frac{\beta S_k}{\beta n_k + \rho},\ \lambda_k^{-1} = \tfrac1\beta + \tfrac{1}{\rho + n_k\beta},\ "
        r"w_k = (n_k-d)(\lambda_k/\pi)^{D/2}"
    ),
    printed_statement="point memories",
    verdict="COND",
    relation="equal",
    constant="log(n + alpha), scale beta",
    inputs=_members,
    cases=(
        ordinary("plain"),
        ordinary("d = 0", discount=0.0),
        extreme("beta 1e4", beta=1e4),
        extreme("beta 1e-4", beta=1e-4),
        extreme("rho 1e-6", rho=1e-6),
        extreme("rho 1e6", rho=1e6),
        extreme("one memory of one datum", sizes=(1,), dim=1),
    ),
    tolerance=1e-12,
    tolerance_extreme=1e-8,  # the oracle's covariance matrix has a condition number of beta / rho
    exact={
        "twin_beta": lambda beta: beta,
        "twin_rho": lambda rho: rho,
        "twin_discount": lambda discount: discount,
        "sums": lambda members, _counts: jnp.sum(members, axis=1),
        "log_mass": lambda counts, alpha: jnp.log(jnp.sum(counts) + alpha),
    },
    mutations={
        "prior precision left out": {"twin_rho": lambda rho: rho / 2},
        "beta doubled": {"twin_beta": lambda beta: 2 * beta},
        "discount left out": {"twin_discount": jnp.zeros_like},
        "log(n + alpha) dropped": {"log_mass": lambda _counts, _alpha: 0.0},
        "sums for means": {"sums": lambda members, counts: jnp.sum(members, axis=1) / counts[:, None]},
    },
)
def collapsed_energy_is_the_negative_log_predictive(
    queries: Array,
    members: Array,
    counts: Array,
    beta: Array,
    rho: Array,
    alpha: Array,
    discount: Array,
    *,
    twin_beta: Piece,
    twin_rho: Piece,
    twin_discount: Piece,
    sums: Piece,
    log_mass: Piece,
) -> Array:
    """Ratios of NumPyro's joint normal densities, with and without the query, against the physics."""
    num_memories, size, dim = members.shape
    b, r, d = twin_beta(beta), twin_rho(rho), twin_discount(discount)
    present = (jnp.arange(size) < counts[:, None]).astype(float)
    extended = jnp.concatenate([jnp.zeros((1, size, dim)), members])
    present = jnp.concatenate([jnp.zeros((1, size)), present])
    seats = jnp.append(alpha + d * num_memories, counts - d)

    def one(v: Array) -> Array:
        def predictive(data: Array, there: Array) -> Array:
            joint = _log_marginal(jnp.concatenate([v[None], data]), jnp.append(1.0, there), b, r)
            alone = _log_marginal(jnp.concatenate([jnp.zeros((1, dim)), data]), jnp.append(0.0, there), b, r)
            blank = -0.5 * dim * jnp.log(2 * jnp.pi)  # the absent query's standard normal at zero
            return joint - (alone - blank)

        log_terms = jax.vmap(predictive)(extended, present) + jnp.log(seats)
        return jax.scipy.special.logsumexp(log_terms) - jnp.log(jnp.sum(counts) + alpha)

    log_p = jax.vmap(one)(queries)
    energy = creation.collapsed(queries, sums(members, counts), counts, beta, rho, alpha, discount)
    return relative_error(-log_p, beta * energy + log_mass(counts, alpha), beta * energy)
