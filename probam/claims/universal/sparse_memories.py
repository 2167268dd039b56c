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

from probam.claims.claim import Piece, extreme, ordinary, register, relative_error
from probam.claims.inputs import Floats, all_states, generator, sign_bank
from probam.energies import sparse_distributed

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


@register(
    id="C3",
    source=f"{_MILLIDGE}, Sec. 3.2",
    title="a sparse distributed memory mixes Hamming balls",
    statement=(
        "active iff d_H <= r; p(q|a) = 1[d_H <= r]/V, V = sum_{j<=r} C(D, j): #active = K V p_mix(q), and the read per "
        "active location is E[pattern | q]"
    ),
    latex=r"p(q \mid a) = 1[d_H(a, q) \le r] / V, \quad V = \sum_{j \le r} \binom Dj",
    printed_statement="thresh returns 1 if the distance is greater than the threshold",
    verdict="WRONG",
    relation="equal",
    constant="K V",
    inputs=_locations,
    cases=_LOCATIONS,
    tolerance=1e-12,
    exact={
        "near": lambda distances, radius: distances <= radius,
        "volume": sparse_distributed.ball_volume,
        "reading": lambda reading: reading.mean,
    },
    printed={"near": lambda distances, radius: distances > radius},
    printed_exceeds=0.5,
    mutations={
        "less than": {"near": lambda distances, radius: distances < radius},
        "radius + 1 in V": {"volume": lambda dim, radius: sparse_distributed.ball_volume(dim, radius + 1)},
        "sum for the mean": {"reading": lambda reading: reading.total},
    },
)
def reading_is_the_posterior_mean(
    queries: Array,
    addresses: Array,
    patterns: Array,
    radius: Array,
    *,
    near: Piece,
    volume: Callable[[int, int], int],
    reading: Piece,
) -> Array:
    """NumPyro's categorical over all vectors, normalised by their sum, and Bayes' rule, against the read."""
    computed = sparse_distributed.read(queries, addresses, patterns, radius)
    ball = near(_differing(queries, addresses), radius)  # (all, K)
    law = dist.Categorical(probs=(ball / jnp.sum(ball, axis=0)).T)
    chance = jnp.exp(law.log_prob(jnp.arange(len(queries))[:, None]))
    chance = jnp.where(ball, chance, 0.0)  # Categorical keeps probabilities above the smallest number
    density = jnp.mean(chance, axis=1)
    volumes = jnp.array([float(volume(queries.shape[1], r)) for r in range(queries.shape[1] + 1)])
    num_active = len(addresses) * volumes[radius.astype(int)] * density
    posterior = chance / jnp.where(density > 0, jnp.sum(chance, axis=1), 1.0)[:, None]
    counts = relative_error(computed.num_active.astype(density.dtype), num_active)
    return jnp.maximum(counts, relative_error(reading(computed), posterior @ patterns))


def _differing(queries: Array, addresses: Array) -> Array:
    return jnp.sum(queries[:, None, :] != addresses, axis=-1)


@register(
    id="C15.overlap",
    source=f"{_MILLIDGE}, Sec. 3.4; Kanerva (1988)",
    title="what is read at distance d of what was written",
    statement="with all 2^D addresses: z(q) = sum_b I(d(q, q_b)) x_b, I(d) the size of two balls' intersection",
    latex=r"z(q) = \sum_b I\bigl(d_H(q, q_b)\bigr)\, x_b",
    printed_statement="the number of addresses decreases approximately exponentially",
    verdict="NEW",
    relation="equal",
    constant="I(d) = sum_{i,j} C(d,i) C(D-d,j) 1[i+j <= r] 1[d-i+j <= r]",
    inputs=partial(_locations, all_addresses=True),
    cases=(ordinary("D = 6, r = 2"), ordinary("D = 5, r = 3", num_bits=5, radius=3), extreme("r = D", radius=6)),
    tolerance=1e-12,
    exact={"overlap": sparse_distributed.ball_overlap},
    mutations={
        "one ball": {"overlap": lambda dim, radius, _d: sparse_distributed.ball_volume(dim, radius)},
        "radius - 1": {"overlap": lambda dim, radius, d: sparse_distributed.ball_overlap(dim, radius - 1, d)},
        "distance halved": {"overlap": lambda dim, radius, d: sparse_distributed.ball_overlap(dim, radius, d // 2)},
    },
)
def read_after_write_is_the_overlap_of_balls(
    queries: Array, addresses: Array, patterns: Array, radius: Array, *, overlap: Callable[[int, int, int], int]
) -> Array:
    """Three patterns written, then read everywhere."""
    num_bits = queries.shape[1]
    written, values = queries[jnp.array([1, 11, 26])], patterns[:3]
    counters = sparse_distributed.write(jnp.zeros_like(patterns), written, values, addresses, radius)
    computed = sparse_distributed.read(queries, addresses, counters, radius).total
    table = [[float(overlap(num_bits, r, d)) for d in range(num_bits + 1)] for r in range(1, num_bits + 1)]
    sizes = jnp.array(table)[radius.astype(int) - 1]
    return relative_error(computed, sizes[_differing(queries, written)] @ values)


@register(
    id="C15.hamming",
    source=f"{_MILLIDGE}, Sec. 3.4: 'the Hamming distance is the dot product (mod 2)'",
    title="Hamming distance and dot product",
    statement="bits: d_H = |a| + |b| - 2 a.b; signs: d_H = (D - a.b)/2; all pairs of 6 bits",
    latex=r"d_H = |a| + |b| - 2\, a \cdot b \;\; (\{0, 1\}), \qquad d_H = (D - a \cdot b) / 2 \;\; (\{-1, 1\})",
    printed_statement="a.b mod 2",
    verdict="WRONG",
    relation="equal",
    constant="2 and 1/2",
    inputs=partial(_locations, all_addresses=True),
    cases=(ordinary("D = 6"),),
    tolerance=1e-12,
    exact={
        "by_bits": lambda a, b: a.sum(1)[:, None] + b.sum(1) - 2 * a @ b.T,
        "by_signs": lambda a, b: (a.shape[1] - a @ b.T) / 2,
    },
    printed={"by_bits": lambda a, b: (a @ b.T) % 2},
    printed_exceeds=0.5,
    mutations={
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
    by_bits: Piece,
    by_signs: Piece,
) -> Array:
    """The physics, the count of differing bits and both formulas."""
    counted = jnp.sum(queries[:, None, :] != addresses, axis=-1).astype(queries.dtype)
    physics = relative_error(sparse_distributed.hamming(queries, addresses), counted)
    bits = relative_error(by_bits(queries, addresses), counted)
    signs = relative_error(by_signs(2 * queries - 1, 2 * addresses - 1), counted)
    return jnp.maximum(physics, jnp.maximum(bits, signs))


def _signed(key: jax.Array, **settings: Any) -> dict[str, Floats]:
    drawn = sign_bank(key, **settings)
    draw = generator(jax.random.fold_in(key, 1))
    drawn["patterns"] = draw.normal(size=(len(drawn["memories"]), 3))
    return drawn


@register(
    id="C15.attention",
    source=f"{_MILLIDGE}, Sec. 3.4; Bricken and Pehlevan (2021)",
    title="exp(-beta d_H) for the threshold is attention",
    statement=(
        "P^T softmax(beta/2 A q) = E[pattern | q] when each address's bits are flipped with chance 1/(1 + e^beta): "
        "exp(-beta d_H) = exp(-beta D/2) exp(beta a.q/2)"
    ),
    latex=r"P^\top \mathrm{softmax}(\tfrac\beta2 A q) = \mathbb E[p \mid q]",
    printed_statement="a heuristic replacement of the threshold",
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
    exact={"slope": 0.5, "sign": 1.0, "log_odds": lambda beta: beta},
    mutations={
        "beta doubled": {"slope": 1.0},
        "sign flipped": {"sign": -1.0},
        "flips with chance e^-beta": {"log_odds": lambda beta: jnp.log(jnp.expm1(beta))},
    },
)
def attention_is_a_mixture_of_flipped_bits(
    states: Array, memories: Array, beta: Array, patterns: Array, *, slope: float, sign: float, log_odds: Piece
) -> Array:
    """NumPyro's Bernoulli bits and Bayes' rule against the continuous read."""
    bits = dist.Bernoulli(logits=log_odds(beta) * memories).to_event(1)
    posterior = jax.nn.softmax(bits.log_prob((states[:, None, :] + 1) / 2), axis=-1)
    computed = sparse_distributed.attention_read(sign * states, memories, patterns, slope * beta)
    return relative_error(computed, posterior @ patterns, patterns)


def _ball(_key: jax.Array, *, num_bits: int, radius: int) -> dict[str, int]:
    return {"num_bits": num_bits, "radius": radius}


@cache
def _fair_counts(num_bits: int) -> Floats:
    """Statistics: chance of m ones among n fair bits, for all n and m up to D, from NumPyro's binomial."""
    counts = np.arange(num_bits + 1.0)
    log_chance = jax.jit(lambda: dist.Binomial(counts[:, None], 0.5).log_prob(np.minimum(counts, counts[:, None])))()
    chance = np.exp(np.asarray(log_chance))
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
    printed_statement="approximately exponential, since Gaussian tails decay exponentially",
    verdict="WRONG",
    relation="equal",
    constant="D log 2",
    inputs=_ball,
    cases=(ordinary("D = 64, r = 20", num_bits=64, radius=20), ordinary("D = 30, r = 9", num_bits=30, radius=9)),
    tolerance=1e-12,
    exact={"decay": _binomial_overlap},
    printed={"decay": _exponential_decay},
    printed_exceeds=0.05,
    mutations={
        "radius - 1": {"decay": lambda dim, radius, d: _binomial_overlap(dim, radius - 1, d)},
        "one ball": {"decay": lambda dim, radius, _d: _binomial_overlap(dim, radius, 0)},
    },
    jit=False,
)
def overlap_of_balls_is_a_binomial_probability(
    num_bits: int, radius: int, *, decay: Callable[[int, int, int], float]
) -> float:
    """Logs of whole numbers against NumPyro's binomials, at every distance up to 2r - 2."""
    distances = range(0, 2 * radius - 1, 2)
    exact = [log(sparse_distributed.ball_overlap(num_bits, radius, d)) - num_bits * log(2) for d in distances]
    decayed = [decay(num_bits, radius, d) for d in distances]
    return float(np.max(np.abs(np.subtract(exact, decayed))) / np.max(np.abs(exact)))
