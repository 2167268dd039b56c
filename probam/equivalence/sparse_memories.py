r"""Claims C3 and C15: sparse distributed memories, Hamming distances and dot products.

Physics: :mod:`probam.energies.sparse_distributed`. The other side is NumPyro's categorical law over all binary vectors,
its Bernoulli and binomial laws, and counts over all vectors.
"""

from collections.abc import Callable
from functools import cache, partial
from math import log
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array

from probam.energies import sparse_distributed
from probam.equivalence.binary_inputs import all_states, sign_bank
from probam.equivalence.claim import extreme, ordinary, register, relative_error
from probam.equivalence.inputs import Floats, generator

__all__: list[str] = []

_MILLIDGE = "Millidge et al. (2022), Universal Hopfield Networks"


def _locations(
    key: jax.Array, *, num_memories: int = 5, num_bits: int = 6, radius: int = 2, all_addresses: bool = False
) -> dict[str, Any]:
    """All binary vectors as queries, some (or all) as addresses, and real patterns of three entries."""
    draw = generator(key)
    queries = (all_states(num_bits) + 1) / 2
    addresses = queries if all_addresses else queries[draw.choice(len(queries), size=num_memories)]
    return {
        "queries": queries,
        "addresses": addresses,
        "patterns": draw.normal(size=(len(addresses), 3)),
        "radius": np.asarray(float(radius)),
    }


_LOCATIONS = (
    ordinary("K = 5, D = 6, r = 2"),
    ordinary("K = 7, D = 6, r = 3", num_memories=7, radius=3),
    extreme("r = 0", radius=0),
    extreme("r = D", radius=6),
    extreme("K = 1", num_memories=1),
)


def _within(distances: Array, radius: Array) -> Array:
    return distances <= radius


@register(
    id="C3",
    source=f"{_MILLIDGE}, Sec. 3.2",
    title="a sparse distributed memory mixes Hamming balls",
    statement=(
        "active iff d_H <= r; p(q|a) = 1[d_H <= r]/V, V = sum_{j<=r} C(D, j): #active = K V p_mix(q), and the read per "
        "active location is E[pattern | q]"
    ),
    latex=r"p(q \mid a) = 1[d_H(a, q) \le r] / V, \quad V = \sum_{j \le r} \binom Dj",
    printed="thresh returns 1 if the distance is greater than the threshold",
    verdict="WRONG",
    relation="equal",
    constant="K V",
    inputs=_locations,
    cases=_LOCATIONS,
    tolerance=1e-12,
    printed_pieces={"near": lambda distances, radius: distances > radius},
    printed_exceeds=0.5,
    mutations={
        "greater than": {"near": lambda distances, radius: distances > radius},
        "less than": {"near": lambda distances, radius: distances < radius},
        "radius + 1 in V": {"volume": lambda dim, radius: sparse_distributed.ball_volume(dim, radius + 1)},
        "sum for the mean": {"reading": lambda reading: reading.total},
    },
    jit=False,
)
def reading_is_the_posterior_mean(
    queries: Floats,
    addresses: Floats,
    patterns: Floats,
    radius: Floats,
    *,
    near: Callable[[Array, Array], Array] = _within,
    volume: Callable[[int, int], int] = sparse_distributed.ball_volume,
    reading: Callable[[sparse_distributed.Reading], Array] = lambda reading: reading.mean,
) -> float:
    """NumPyro's categorical over all vectors, normalised by their sum, and Bayes' rule, against the read."""
    found = _read(queries, addresses, patterns, radius)
    differing = np.sum(queries[:, None, :] != addresses, axis=-1)  # (all, K)
    ball = near(differing, radius).T.astype(float)
    vectors = np.arange(len(queries))
    chance = np.exp(dist.Categorical(probs=ball / ball.sum(axis=1, keepdims=True)).log_prob(vectors[:, None]))
    chance = np.where(ball.T > 0, chance, 0.0)  # Categorical keeps probabilities above the smallest number
    density = chance.mean(axis=1)
    num_active = len(addresses) * volume(queries.shape[1], int(radius)) * density
    posterior = chance / np.where(density > 0, chance.sum(axis=1), 1.0)[:, None]
    counts = relative_error(np.asarray(found.num_active, float), num_active)
    return float(jnp.maximum(counts, relative_error(np.asarray(reading(found)), posterior @ patterns)))


_read = jax.jit(sparse_distributed.read)
_written = jax.jit(
    lambda queries, addresses, patterns, radius: sparse_distributed.write(
        jnp.zeros((len(addresses), patterns.shape[1])), queries, patterns, addresses, radius
    )
)


@register(
    id="C15.overlap",
    source=f"{_MILLIDGE}, Sec. 3.4; Kanerva (1988)",
    title="what is read at distance d of what was written",
    statement="with all 2^D addresses: z(q) = sum_b I(d(q, q_b)) x_b, I(d) the size of two balls' intersection",
    latex=r"z(q) = \sum_b I\bigl(d_H(q, q_b)\bigr)\, x_b",
    printed="the number of addresses decreases approximately exponentially",
    verdict="NEW",
    relation="equal",
    constant="I(d) = sum_{i,j} C(d,i) C(D-d,j) 1[i+j <= r] 1[d-i+j <= r]",
    inputs=partial(_locations, all_addresses=True),
    cases=(ordinary("D = 6, r = 2"), ordinary("D = 5, r = 3", num_bits=5, radius=3), extreme("r = D", radius=6)),
    tolerance=1e-12,
    mutations={
        "one ball": {"overlap": lambda dim, radius, _d: sparse_distributed.ball_volume(dim, radius)},
        "radius - 1": {"overlap": lambda dim, radius, d: sparse_distributed.ball_overlap(dim, radius - 1, d)},
        "distance halved": {"overlap": lambda dim, radius, d: sparse_distributed.ball_overlap(dim, radius, d // 2)},
    },
    jit=False,
)
def read_after_write_is_the_overlap_of_balls(
    queries: Floats,
    addresses: Floats,
    patterns: Floats,
    radius: Floats,
    *,
    overlap: Callable[[int, int, int], int] = sparse_distributed.ball_overlap,
) -> float:
    """Three patterns written, then read everywhere."""
    written, values = queries[[1, 11, 26]], patterns[:3]
    counters = _written(written, addresses, values, radius)
    found = _read(queries, addresses, counters, radius).total
    differing = np.sum(queries[:, None, :] != written, axis=-1)
    sizes = np.array([float(overlap(queries.shape[1], int(radius), d)) for d in range(queries.shape[1] + 1)])
    return float(relative_error(np.asarray(found), sizes[differing] @ values))


@register(
    id="C15.hamming",
    source=f"{_MILLIDGE}, Sec. 3.4: 'the Hamming distance is the dot product (mod 2)'",
    title="Hamming distance and dot product",
    statement="bits: d_H = |a| + |b| - 2 a.b; signs: d_H = (D - a.b)/2; all pairs of 6 bits",
    latex=r"d_H = |a| + |b| - 2\, a \cdot b \;\; (\{0, 1\}), \qquad d_H = (D - a \cdot b) / 2 \;\; (\{-1, 1\})",
    printed="a.b mod 2",
    verdict="WRONG",
    relation="equal",
    constant="2 and 1/2",
    inputs=partial(_locations, all_addresses=True),
    cases=(ordinary("D = 6"),),
    tolerance=1e-12,
    printed_pieces={"by_bits": lambda a, b: (a @ b.T) % 2},
    printed_exceeds=0.5,
    mutations={
        "mod 2": {"by_bits": lambda a, b: (a @ b.T) % 2},
        "a.b once": {"by_bits": lambda a, b: a.sum(1)[:, None] + b.sum(1) - a @ b.T},
        "1/2 dropped": {"by_signs": lambda a, b: a.shape[1] - a @ b.T},
        "sign flipped": {"by_signs": lambda a, b: (a.shape[1] + a @ b.T) / 2},
    },
)
def hamming_distance_by_dot_products(
    queries: Array,
    addresses: Array,
    patterns: Array,  # noqa: ARG001
    radius: Array,  # noqa: ARG001
    *,
    by_bits: Callable[[Array, Array], Array] = lambda a, b: a.sum(1)[:, None] + b.sum(1) - 2 * a @ b.T,
    by_signs: Callable[[Array, Array], Array] = lambda a, b: (a.shape[1] - a @ b.T) / 2,
) -> Array:
    """The physics, the count of differing bits and both formulas."""
    counted = jnp.sum(queries[:, None, :] != addresses, axis=-1).astype(queries.dtype)
    physics = relative_error(sparse_distributed.hamming(queries, addresses), counted)
    bits = relative_error(by_bits(queries, addresses), counted)
    signs = relative_error(by_signs(2 * queries - 1, 2 * addresses - 1), counted)
    return jnp.maximum(physics, jnp.maximum(bits, signs))


def _signed(key: jax.Array, **settings: Any) -> dict[str, Floats]:
    found = sign_bank(key, **settings)
    draw = generator(jax.random.fold_in(key, 1))
    found["patterns"] = draw.normal(size=(len(found["memories"]), 3))
    return found


@register(
    id="C15.attention",
    source=f"{_MILLIDGE}, Sec. 3.4; Bricken and Pehlevan (2021)",
    title="exp(-beta d_H) for the threshold is attention",
    statement=(
        "P^T softmax(beta/2 A q) = E[pattern | q] when each address's bits are flipped with chance 1/(1 + e^beta): "
        "exp(-beta d_H) = exp(-beta D/2) exp(beta a.q/2)"
    ),
    latex=r"P^\top \mathrm{softmax}(\tfrac\beta2 A q) = \mathbb E[p \mid q]",
    printed="a heuristic replacement of the threshold",
    verdict="EXACT",
    relation="equal",
    constant="beta / 2 on signs",
    inputs=partial(_signed, beta=1.3),
    cases=(
        ordinary("K = 4, D = 7"),
        ordinary("K = 9, D = 5", num_memories=9, num_neurons=5),
        extreme("beta 1e-6", beta=1e-6),
        extreme("beta 30", beta=30.0),
        extreme("repeated and opposite addresses", duplicates=True),
    ),
    tolerance=1e-12,
    tolerance_extreme=1e-11,
    mutations={
        "beta doubled": {"slope": 1.0},
        "sign flipped": {"sign": -1.0},
        "flips with chance e^-beta": {"log_odds": lambda beta: jnp.log(jnp.expm1(beta))},
    },
)
def attention_is_a_mixture_of_flipped_bits(
    states: Array,
    memories: Array,
    beta: Array,
    patterns: Array,
    *,
    slope: float = 0.5,
    sign: float = 1.0,
    log_odds: Callable[[Array], Array] = lambda beta: beta,
) -> Array:
    """NumPyro's Bernoulli bits and Bayes' rule against the continuous read."""
    bits = dist.Bernoulli(logits=log_odds(beta) * memories).to_event(1)
    posterior = jax.nn.softmax(bits.log_prob((states[:, None, :] + 1) / 2), axis=-1)
    found = sparse_distributed.attention_read(sign * states, memories, patterns, slope * beta)
    return relative_error(found, posterior @ patterns, patterns)


def _ball(_key: jax.Array, *, num_bits: int, radius: int) -> dict[str, int]:
    return {"num_bits": num_bits, "radius": radius}


@cache
def _fair_counts(num_bits: int) -> Floats:
    """Statistics: chance of m ones among n fair bits, for all n and m up to D, from NumPyro's binomial."""
    counts = np.arange(num_bits + 1.0)
    chance = np.exp(np.asarray(dist.Binomial(counts[:, None], 0.5).log_prob(np.minimum(counts, counts[:, None]))))
    return np.where(counts <= counts[:, None], chance, 0.0)


def _binomial_overlap(num_bits: int, radius: int, distance: int) -> float:
    """Statistics: log chance that a fair vector is within r of both ends, from two binomials."""
    chance = _fair_counts(num_bits)
    i, j = np.meshgrid(np.arange(distance + 1), np.arange(num_bits - distance + 1), indexing="ij")
    inside = (i + j <= radius) & (distance - i + j <= radius)
    return log(float(np.sum((chance[distance, i] * chance[num_bits - distance, j])[inside])))


def _exponential_decay(num_bits: int, radius: int, distance: int) -> float:
    """Straight line through the logs at distances 4 and 8."""
    near, far = (_binomial_overlap(num_bits, radius, d) for d in (4, 8))
    return near + (far - near) * (distance - 4) / 4


@register(
    id="C15.tail",
    source=f"{_MILLIDGE}, Sec. 3.4: 'the tails of a Gaussian distribution decay exponentially'",
    title="the overlap of two balls has no exponential tail",
    statement=(
        "log I(d) - D log 2 is a binomial probability; D = 64, r = 20: slopes per two bits -.31 to -.43 for d = 4..20, "
        "then -.77 (d = 30) and -2.0 (d = 38)"
    ),
    latex=r"2^{-D} I(d) = P\bigl(i + j \le r,\; d - i + j \le r\bigr)",
    printed="approximately exponential, since Gaussian tails decay exponentially",
    verdict="WRONG",
    relation="equal",
    constant="D log 2",
    inputs=_ball,
    cases=(ordinary("D = 64, r = 20", num_bits=64, radius=20), ordinary("D = 30, r = 9", num_bits=30, radius=9)),
    tolerance=1e-12,
    printed_pieces={"decay": _exponential_decay},
    printed_exceeds=0.05,
    mutations={
        "exponential": {"decay": _exponential_decay},
        "radius - 1": {"decay": lambda dim, radius, d: _binomial_overlap(dim, radius - 1, d)},
        "one ball": {"decay": lambda dim, radius, _d: _binomial_overlap(dim, radius, 0)},
    },
    jit=False,
)
def overlap_of_balls_is_a_binomial_probability(
    num_bits: int, radius: int, *, decay: Callable[[int, int, int], float] = _binomial_overlap
) -> float:
    """Logs of whole numbers against NumPyro's binomials, at every distance up to 2r - 2."""
    distances = range(0, 2 * radius - 1, 2)
    exact = [log(sparse_distributed.ball_overlap(num_bits, radius, d)) - num_bits * log(2) for d in distances]
    return float(relative_error(np.array(exact), np.array([decay(num_bits, radius, d) for d in distances])))
