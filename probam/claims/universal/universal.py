"""Claims C1, C10, C16 and C17: shapes, one-hot separation, projection and attention of universal Hopfield networks.

Physics: :mod:`probam.energies.universal`. Statistics: posteriors of NumPyro's normal mixtures.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array

from probam.claims.claim import Piece, excess, extreme, ordinary, register, relative_error
from probam.claims.inputs import Floats, generator
from probam.claims.mixtures.descent import hopfield_mixture
from probam.claims.mixtures.gaussian import uniform_bank
from probam.distributions.mixture import MemoryMixture
from probam.energies import separations, similarities, universal
from probam.energies.separations import Identity, Max, Softmax
from probam.energies.similarities import SIMILARITIES

__all__ = ["MILLIDGE", "key_mixture"]

MILLIDGE = "Millidge et al. (2022), Universal Hopfield Networks"

_MAX = Max()
_SQUARED = SIMILARITIES["squared euclidean"]


def key_mixture(
    keys: Array, beta: Array, *, variance: Callable[[Array], Array] = lambda beta: 1 / (2 * beta)
) -> MemoryMixture:
    """Gaussian mixture with the keys as means, one variance and equal weights."""
    log_weights = jnp.full(keys.shape[0], -jnp.log(float(keys.shape[0])))
    return MemoryMixture(log_weights, dist.Normal(keys, jnp.sqrt(variance(beta))).to_event(1))


def _with_projection(key: jax.Array, *, num_outputs: int = 2, scale: float = 1.0, **settings: Any) -> dict[str, Floats]:
    """A bank and what its memories stand for, (K, O), around means that differ from zero."""
    drawn = uniform_bank(key, **settings)
    projection = 1 + generator(jax.random.fold_in(key, 1)).normal(size=(len(drawn["memories"]), num_outputs))
    return {**drawn, "projection": scale * projection}


def _product(left: Array, right: Array) -> Array:
    """The matrix product, infinite where the shapes do not allow it."""
    if left.shape[-1] != right.shape[0]:
        return jnp.full((left.shape[0], right.shape[1]), jnp.inf)
    return left @ right


def _shape_error(left: Array, right: Array) -> Array:
    """Relative error, infinite where the shapes differ."""
    return relative_error(left, right) if left.shape == right.shape else jnp.asarray(jnp.inf)


@register(
    id="C1.weights",
    source=f"{MILLIDGE}, Secs. 2 and 3.1, Eqs. 8, 9 and 12",
    title="weights of the classical network from rows",
    statement="memories as rows (K, D), projections as rows (K, O): W = M^T M = sum_k m_k m_k^T, W_hetero = P^T M",
    latex=r"P^\top (M q) = \Bigl(\sum_k p_k m_k^\top\Bigr) q",
    printed_statement="W = M M^T, which is K x K and multiplies no state unless K = D",
    verdict="TYPO",
    relation="equal",
    inputs=_with_projection,
    cases=(
        ordinary("K = 4, D = 3"),
        ordinary("K = D = 5", num_memories=5, dim=5, num_outputs=5),
        extreme("K = 1, D = 1", num_memories=1, dim=1),
        extreme("D = 512", dim=512, num_queries=3),
        extreme("offset 1e6", offset=1e6),
    ),
    tolerance=1e-12,
    exact={"hebbian": lambda left, right: left.T @ right},
    printed={"hebbian": lambda left, right: _product(right, left.T)},
    printed_exceeds=0.1,
    mutations={
        "divided by K": {"hebbian": lambda left, right: left.T @ right / left.shape[0]},
        "a memory left out": {"hebbian": lambda left, right: left[:-1].T @ right[:-1]},
    },
)
def identity_separation_is_the_hebbian_matrix(
    queries: Array, memories: Array, beta: Array, projection: Array, *, hebbian: Piece
) -> Array:
    """Read-out of the identity separation against the matrix of outer products, auto- and hetero-associative."""
    errors = []
    for rows in (memories, projection):
        read = universal.retrieve(queries, memories, "dot", Identity(), projection=rows)
        errors.append(_shape_error(read, _product(queries, hebbian(rows, memories).T)))
    del beta
    return jnp.stack(errors)


@register(
    id="C1.readout",
    source=f"{MILLIDGE}, Eqs. 6, 7 and 11",
    title="attention read-out from rows",
    statement="z = M^T softmax(beta M v) = E[xi_z | v] under the mixture with pi_k ∝ exp(beta |xi_k|^2/2), cov. I/beta",
    latex=r"M^\top \operatorname{softmax}(\beta M v) = \mathbb E[\xi_z \mid v]",
    printed_statement="v = M softmax(M v)",
    verdict="TYPO",
    relation="equal",
    constant="beta, as for the continuous Hopfield network",
    inputs=uniform_bank,
    cases=(
        ordinary("plain"),
        ordinary("K = D = 4", num_memories=4, dim=4),
        extreme("beta 1e-6", beta=1e-6),
        extreme("beta 1e6", beta=1e6, tolerance=1e-8),
        extreme("K = 1, D = 1", num_memories=1, dim=1),
        extreme("duplicate memories", duplicates=True),
        extreme("D = 512", dim=512, num_queries=3),
    ),
    tolerance=1e-12,
    exact={"readout": lambda share, M: share @ M, "inverse_temperature": lambda beta: beta, "log_weights": None},
    printed={"readout": lambda share, M: _product(share, M.T)},
    printed_exceeds=0.1,
    mutations={
        "beta doubled": {"inverse_temperature": lambda beta: 2 * beta},
        "weights left out": {"log_weights": lambda M, _beta: jnp.zeros(M.shape[0])},
    },
)
def softmax_readout_is_a_posterior_mean(
    queries: Array,
    memories: Array,
    beta: Array,
    *,
    readout: Piece,
    inverse_temperature: Piece,
    log_weights: Callable[[Array, Array], Array] | None,
) -> Array:
    """One step of the network against the mean of the memories under the twin's posterior."""
    share = universal.weights(queries, memories, "dot", Softmax(inverse_temperature(beta)))
    logits = None if log_weights is None else log_weights(memories, beta)
    expected = hopfield_mixture(memories, beta, logits).responsibilities(queries) @ memories
    return _shape_error(readout(share, memories), expected)


@register(
    id="C10.nearest",
    source=f"{MILLIDGE}, Table 3 and Sec. 6",
    title="max separation is one-hot at the nearest memory",
    statement="M^T max(-d^2) = the memory of largest posterior at any beta under equal weights",
    latex=r"M^\top \operatorname{onehot}\arg\max_k(-d_k^2) = \mu_{\arg\max_k p(k \mid q)}",
    printed_statement="sep(x) = max(x), a number",
    verdict="WRONG",
    relation="equal",
    constant="none: the same at every beta",
    inputs=uniform_bank,
    cases=(
        ordinary("plain"),
        ordinary("beta 30", beta=30.0),
        extreme("K = 1, D = 1", num_memories=1, dim=1),
        extreme("duplicate memories", duplicates=True),
        extreme("offset 1e6", offset=1e6),
        extreme("one memory 1e6 away", far=1e6),
    ),
    tolerance=1e-12,
    exact={"separation": _MAX},
    printed={"separation": lambda scores: separations.PRINTED["max"](scores, 1.0)},
    printed_exceeds=0.1,
    mutations={
        "softmax at beta 1": {"separation": Softmax(1.0)},
        "sign flipped": {"separation": lambda scores: Max()(-scores)},
    },
)
def max_reads_out_the_most_probable_memory(queries: Array, memories: Array, beta: Array, *, separation: Piece) -> Array:
    """The network with its separation exchanged, against the mode of the Gaussian twin's posterior."""
    read = separation(universal.scores(queries, memories, _SQUARED)) @ memories
    mode = memories[jnp.argmax(key_mixture(memories, beta).log_joint(queries), axis=-1)]
    return relative_error(read, mode)


def _compositions(key: jax.Array, *, num_memories: int = 60, dim: int = 3, spread: float = 1.0) -> dict[str, Floats]:
    """Far more vectors with positive entries than dimensions, of different sums."""
    return {"memories": generator(key).gamma(spread, size=(num_memories, dim)) + 1e-9}


_PROPER = ("squared euclidean", "manhattan", "kl", "jensen-shannon")


def _by_distance(kind: str, memories: Array) -> Array:
    return universal.scores(memories, memories, kind)


def _as_printed(kind: str, memories: Array) -> Array:
    return -universal.scores(memories, memories, kind)


@register(
    id="C10.capacity",
    source=f"{MILLIDGE}, Sec. 6, 'sim(x, x) < sim(x, y) for any y'",
    title="max separation stores any number of distinct patterns",
    statement="every stored pattern is read back iff its score with itself exceeds all others; true of every distance",
    latex=r"s(x, x) > s(x, y)\ \forall y \ne x \implies M^\top\operatorname{max}(s(M, x)) = x,\quad K = 60,\ D = 3",
    printed_statement="the similarity has its minimum at the memory, with max separation",
    verdict="WRONG",
    relation="count",
    constant="larger scores mean alike: minus the distance",
    inputs=_compositions,
    cases=(ordinary("60 in 3 dimensions"), extreme("nearly one-hot", spread=0.05), extreme("nearly equal", spread=1e4)),
    tolerance=0.0,
    exact={"scores": _by_distance},
    printed={"scores": _as_printed},
    printed_exceeds=1.0,
    mutations={
        "dot product": {"scores": lambda _kind, memories: universal.scores(memories, memories, "dot")},
        "normalised dot product": {
            "scores": lambda _kind, memories: universal.scores(memories, memories, "normalised dot")
        },
    },
)
def every_stored_pattern_is_read_back(memories: Array, *, scores: Piece) -> Array:
    """Number of stored patterns, over all distances, for which the one-hot separation is not at the pattern."""
    lost = [
        jnp.sum(jnp.any(Max()(scores(kind, memories)) != jnp.eye(len(memories)), axis=-1)).astype(float)
        for kind in _PROPER
    ]
    return jnp.stack(lost)


def _hull(key: jax.Array, *, num_memories: int = 5, dim: int = 3, num_queries: int = 200) -> dict[str, Floats]:
    """Memories of which the last is a mean of the others, and queries in all directions, the last one being it."""
    draw = generator(key)
    memories = draw.normal(size=(num_memories, dim))
    memories[-1] = draw.dirichlet(np.full(num_memories - 1, 5.0)) @ memories[:-1]
    return {"memories": memories, "queries": np.vstack([draw.normal(size=(num_queries, dim)), memories[-1:]])}


@register(
    id="C10.hull",
    source=f"{MILLIDGE}, Sec. 6, 'a theoretically infinite capacity'",
    title="the dot product never reads a mean of memories",
    statement="with the dot product, a memory inside the convex hull of the others is read for no query at all",
    latex=(
        r"\mu_K = \sum_{k<K} a_k \mu_k,\ a \ge 0,\ \textstyle\sum a = 1 "
        r"\implies \mu_K^\top q \le \max_{k<K} \mu_k^\top q"
    ),
    printed_statement="infinite capacity with max, the similarity left open",
    verdict="COND",
    relation="count",
    constant="none",
    inputs=_hull,
    cases=(
        ordinary("5 in 3 dimensions"),
        ordinary("12 in 4 dimensions", num_memories=12, dim=4),
        extreme("2 in 1 dimension", num_memories=3, dim=1),
        extreme("D = 64", num_memories=40, dim=64),
    ),
    tolerance=0.0,
    exact={"kind": "dot"},
    mutations={
        "euclidean distance": {"kind": "squared euclidean"},
        "manhattan distance": {"kind": "manhattan"},
        "cosine": {"kind": "cosine"},
    },
)
def a_mean_of_memories_is_never_read(memories: Array, queries: Array, *, kind: str) -> Array:
    """Number of queries whose largest score is the mean's, ties apart."""
    computed = universal.scores(queries, memories, kind)
    largest = jnp.max(computed[:, :-1], axis=-1)
    rounding = 8 * float(np.finfo(computed.dtype).eps) * jnp.max(jnp.abs(computed), axis=-1)
    return jnp.sum(computed[:, -1] > largest + rounding).astype(float)


def _hetero_posterior_mean(queries: Array, memories: Array, beta: Array, projection: Array) -> Array:
    return hopfield_mixture(memories, beta).responsibilities(queries) @ projection


@register(
    id="C16.posterior",
    source=f"{MILLIDGE}, Eq. 11 and Appendix B",
    title="heteroassociation is a posterior mean of the values",
    statement="P^T softmax(beta M q) = E[p_z | q]: the posterior of autoassociation, other values",
    latex=r"P^\top\operatorname{softmax}(\beta M q) = \mathbb E[p_z \mid q]",
    printed_statement="z = P sigma(M q)",
    verdict="EXACT",
    relation="equal",
    constant="beta = 1 in print",
    inputs=_with_projection,
    cases=(
        ordinary("plain"),
        ordinary("O = 7", num_outputs=7),
        extreme("beta 1e-6", beta=1e-6),
        extreme("beta 1e6", beta=1e6, tolerance=1e-8),
        extreme("K = 1, D = 1", num_memories=1, dim=1),
        extreme("values of 1e6", scale=1e6),
    ),
    tolerance=1e-12,
    exact={"expected": _hetero_posterior_mean},
    mutations={
        "beta doubled": {"expected": lambda q, M, beta, P: _hetero_posterior_mean(q, M, 2 * beta, P)},
        "weights left out": {
            "expected": lambda q, M, beta, P: hopfield_mixture(M, beta, jnp.zeros(M.shape[0])).responsibilities(q) @ P
        },
        "rows of P shifted": {
            "expected": lambda q, M, beta, P: _hetero_posterior_mean(q, M, beta, jnp.roll(P, 1, axis=0))
        },
    },
)
def heteroassociation_is_a_posterior_mean(
    queries: Array, memories: Array, beta: Array, projection: Array, *, expected: Piece
) -> Array:
    """The read-out of other rows against the twin's posterior mean."""
    read = universal.retrieve(queries, memories, "dot", Softmax(beta), projection=projection)
    return relative_error(read, expected(queries, memories, beta, projection))


def _own_spread(projection: Array, _memories: Array) -> Array:
    """Largest distance of each row to another one."""
    gaps = projection[:, None, :] - projection[None, :, :]
    return jnp.max(jnp.sqrt(jnp.sum(gaps**2, axis=-1)), axis=-1)


@register(
    id="C16.error",
    source=f"{MILLIDGE}, Sec. 6 and Appendix B, 'statistically identical'",
    title="errors depend on P, and vanish as weights get one-hot",
    statement="|z - p_k| = |P^T (w - e_k)| <= (1 - w_k) max_j |p_j - p_k|: equal weights, errors in the units of P",
    latex=r"\lVert P^\top w - p_k \rVert \le (1 - w_k) \max_j \lVert p_j - p_k \rVert",
    printed_statement="retrieval errors of auto- and heteroassociation are the same",
    verdict="COND",
    relation="at most",
    constant="spread of the rows of P",
    inputs=_with_projection,
    cases=(
        ordinary("plain"),
        ordinary("beta 20", beta=20.0),
        ordinary("values 30 times wider", scale=30.0),
        ordinary("two memories", num_memories=2, num_outputs=5),
        extreme("beta 1e6", beta=1e6),
        extreme("K = 1", num_memories=1),
    ),
    tolerance=1e-12,
    exact={"spread": _own_spread, "power": 1},
    printed={"spread": lambda _P, M: _own_spread(M, M)},
    printed_exceeds=0.05,
    mutations={"1 - w squared": {"power": 2}, "spread halved": {"spread": lambda P, M: _own_spread(P, M) / 2}},
)
def error_of_the_readout_is_bounded_by_the_missing_weight(
    queries: Array, memories: Array, beta: Array, projection: Array, *, spread: Piece, power: int
) -> Array:
    """Excess over the bound for every query and memory; for two memories the bound is attained."""
    share = universal.weights(queries, memories, "manhattan", Softmax(beta))
    read = universal.retrieve(queries, memories, "manhattan", Softmax(beta), projection=projection)
    errors = jnp.sqrt(jnp.sum((read[:, None, :] - projection) ** 2, axis=-1))
    missing = jnp.sum(jnp.where(jnp.eye(share.shape[1], dtype=bool), 0, share[:, None, :]), axis=-1)
    return excess(errors, missing**power * spread(projection, memories), jnp.max(jnp.abs(projection)))


@register(
    id="C17",
    source=f"{MILLIDGE}, Appendix F",
    title="Euclidean attention is a posterior over keys",
    statement="softmax(-beta |k_i - q|^2) = p(key i | q) of equal-weight Gaussians of variance 1/(2 beta) at the keys",
    latex=r"\operatorname{softmax}_i(-\beta\lVert k_i - q\rVert^2) = p(i \mid q),\quad \Sigma = (2\beta)^{-1} I",
    printed_statement="softmax(beta sim(K, Q)); no mixture named",
    verdict="EXACT",
    relation="equal",
    constant="variance 1 / (2 beta)",
    inputs=_with_projection,
    cases=(
        ordinary("plain"),
        ordinary("beta 0.3", beta=0.3),
        extreme("beta 1e-6", beta=1e-6),
        extreme("beta 1e6", beta=1e6, tolerance=1e-8),
        extreme("duplicate keys", duplicates=True),
        extreme("offset 1e6", offset=1e6, tolerance=1e-8),
        extreme("queries at 1e3", query_radius=1e3, tolerance=1e-8),
        extreme("K = 1, D = 1", num_memories=1, dim=1),
        extreme("D = 512", dim=512, num_queries=3),
    ),
    tolerance=1e-12,
    exact={"kind": _SQUARED, "variance": lambda beta: 1 / (2 * beta), "inverse_temperature": lambda beta: beta},
    mutations={
        "variance 1 / beta": {"variance": lambda beta: 1 / beta},
        "beta doubled": {"inverse_temperature": lambda beta: 2 * beta},
        "distance not squared": {"kind": "euclidean"},
        "sign flipped": {"kind": similarities.Similarity("-", False, "real", _SQUARED.pairs)},
    },
)
def euclidean_attention_is_a_gaussian_posterior(
    queries: Array,
    memories: Array,
    beta: Array,
    projection: Array,
    *,
    kind: similarities.Similarity | str,
    variance: Piece,
    inverse_temperature: Piece,
) -> Array:
    """Attention weights and the attended values against the statistics' posterior over keys."""
    separation = Softmax(inverse_temperature(beta))
    share = universal.weights(queries, memories, kind, separation)
    attended = universal.retrieve(queries, memories, kind, separation, projection=projection)
    posterior = key_mixture(memories, beta, variance=variance).responsibilities(queries)
    return jnp.maximum(relative_error(share, posterior), relative_error(attended, posterior @ projection))
