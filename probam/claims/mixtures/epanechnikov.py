"""Claim A15, Epanechnikov kernels: a density at eps = 0, exact recall at finite beta, and memories that emerge.

Physics: :mod:`probam.energies.epanechnikov`. Statistics: :mod:`probam.distributions.epanechnikov`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.scipy.special import gammaln
from jaxtyping import Array

from probam.claims.claim import Piece, extreme, ordinary, register, relative_error
from probam.claims.inputs import Floats, generator
from probam.distributions.epanechnikov import Epanechnikov
from probam.energies import clam, epanechnikov

__all__: list[str] = []

_HOOVER = "Hoover et al. (2025), Dense associative memory with Epanechnikov energy (abstract)"


def _reached(key: jax.Array, *, dim: int = 3, num_memories: int = 4, radius: float = 2.5) -> dict[str, Floats]:
    """Memories, queries well within the reach of one of them each, and beta."""
    draw = generator(key)
    memories = draw.normal(size=(num_memories, dim))
    direction = draw.normal(size=(7, dim))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    steps = radius * draw.uniform(0.1, 0.9, size=(7, 1)) * direction
    queries = memories[draw.integers(num_memories, size=7)] + steps
    weights = draw.uniform(0.3, 3.0, size=num_memories)
    return {"queries": queries, "memories": memories, "weights": weights, "beta": np.asarray(2 / radius**2)}


@register(
    id="A15.epanechnikov",
    source=_HOOVER,
    title="the log-sum-ReLU energy is the negative log density of Epanechnikov kernels",
    statement="eps = 0: -log p(v) = beta E(v) + log sum w + log V, V = 2 / (D + 2) pi^(D/2) / Gamma(D/2 + 1) "
    "(2 / beta)^(D/2)",
    latex=(
        r"-\log p(v) = \beta E(v) + \log\sum_k w_k + \log\Bigl[\tfrac{2}{D+2}\tfrac{\pi^{D/2}}{\Gamma(D/2+1)}"
        r"\bigl(\tfrac2\beta\bigr)^{D/2}\Bigr]"
    ),
    printed_statement="the abstract prints no equation",
    verdict="NEW",
    relation="equal",
    constant="log sum w + log V",
    inputs=_reached,
    cases=(
        ordinary("plain"),
        ordinary("K = 1, D = 1", num_memories=1, dim=1),
        ordinary("D = 8", dim=8),
        extreme("radius 1e-4", radius=1e-4),
        extreme("radius 1e5", radius=1e5),
    ),
    tolerance=1e-10,
    exact={
        "radius": lambda beta: jnp.sqrt(2 / beta),
        "shape": lambda dim: 2 / (dim + 2),
        "memory_weights": lambda w: w,
    },
    mutations={
        "beta in place of beta / 2": {"radius": lambda beta: jnp.sqrt(1 / beta)},
        "volume of a flat ball": {"shape": lambda _dim: 1.0},
        "weights left out": {"memory_weights": jnp.ones_like},
    },
)
def log_sum_relu_is_a_density(
    queries: Array, memories: Array, weights: Array, beta: Array, *, radius: Piece, shape: Piece, memory_weights: Piece
) -> Array:
    """Energy against the mixture of our distribution, whose density integrates to one (tests)."""
    dim = memories.shape[1]
    bank = Epanechnikov(memories, jnp.broadcast_to(jnp.sqrt(2 / beta), len(memories)))
    mixing = dist.Categorical(probs=weights / jnp.sum(weights))
    log_p = jnp.asarray(dist.MixtureSameFamily(mixing, bank, validate_args=False).log_prob(queries))
    log_v = 0.5 * dim * jnp.log(jnp.pi) - gammaln(0.5 * dim + 1) + dim * jnp.log(radius(beta)) + jnp.log(shape(dim))
    energy = beta * epanechnikov.energy(queries, memories, beta, memory_weights(weights))
    return relative_error(energy + jnp.log(jnp.sum(weights)) + log_v, -log_p)


def _line(key: jax.Array, *, gap: float = 1.2, num_memories: int = 3) -> dict[str, Floats]:
    """Memories on a line, a gap apart, and queries all along it; a memory reaches as far as 1."""
    draw = generator(key)
    places = gap * np.arange(num_memories, dtype=float)[:, None]
    queries = np.linspace(-0.9, places.max() + 0.9, 60)[:, None] + 1e-3 * draw.normal(size=(60, 1))
    return {"queries": queries, "memories": places, "beta": np.asarray(2.0)}


@register(
    id="A15.emergent",
    source=_HOOVER,
    title="recall is exact at finite beta, and means of close memories are recalled too",
    statement="recall ends at the mean of the memories within reach; a memory alone within reach of itself is recalled "
    "exactly, and so is the midpoint of two whose reaches overlap",
    latex=(
        r"m(v) = \frac{\sum_{k\in A(v)} w_k\mu_k}{\sum_{k\in A(v)} w_k},\qquad "
        r"A(v)=\{k:\lVert v-\mu_k\rVert^2<2/\beta\}"
    ),
    printed_statement="exact memory retrieval; additional emergent local minima while preserving perfect recovery",
    verdict="EXACT",
    relation="equal",
    constant="2 / beta",
    inputs=_line,
    cases=(ordinary("reaches overlap", gap=1.2), ordinary("K = 6", gap=1.5, num_memories=6)),
    tolerance=1e-12,
    exact={
        "recall": epanechnikov.update,
        "ends": lambda memories: jnp.concatenate([memories, (memories[1:] + memories[:-1]) / 2]),
    },
    mutations={
        "Gaussian wells": {"recall": clam.update},
        "nothing emerges": {"ends": lambda memories: memories},
        "reach sqrt(1 / beta)": {"recall": lambda v, mu, beta: epanechnikov.update(v, mu, 2 * beta)},
    },
)
def means_within_reach_are_recalled(
    queries: Array, memories: Array, beta: Array, *, recall: Piece, ends: Piece
) -> Array:
    """Ends of recall from all along the line against memories and midpoints, each of which must be an end of some."""
    states = queries
    for _ in range(12):
        states = recall(states, memories, beta)
    distance = jnp.abs(states - ends(memories).T)
    return jnp.maximum(jnp.max(jnp.min(distance, axis=1)), jnp.max(jnp.min(distance, axis=0)))
