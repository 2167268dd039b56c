"""Claims C11 and C12: what the similarities of universal Hopfield networks are, and what normalising does to them.

Physics: :mod:`probam.energies.similarities`. Statistics: NumPyro's categorical and normal log densities, from which
divergences follow by summation, and a normal mixture on unit vectors.
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

from probam.claims.claim import Piece, extreme, ordinary, register, relative_error
from probam.claims.inputs import Floats, generator
from probam.claims.mixtures.gaussian import uniform_bank
from probam.claims.universal.universal import MILLIDGE, key_mixture
from probam.energies import similarities, universal
from probam.energies.separations import Max, Softmax, sum_to_one
from probam.energies.similarities import SIMILARITIES

__all__ = ["categorical_divergence", "compositions"]


def compositions(
    key: jax.Array, *, num_queries: int = 5, num_memories: int = 4, dim: int = 6, spread: float = 1.0
) -> dict[str, Floats]:
    """Queries and memories with positive entries that sum to one; a small spread makes them nearly one-hot."""
    draw = generator(key)
    rows = draw.gamma(spread, size=(num_queries + num_memories, dim)) + 1e-12
    rows /= rows.sum(axis=-1, keepdims=True)
    return {"queries": rows[:num_queries], "memories": rows[num_queries:]}


def categorical_divergence(left: Array, right: Array) -> Array:
    """KL(left || right) in nats for all pairs of rows, (N, K), summed over the outcomes of NumPyro's categoricals."""
    outcomes = jnp.arange(left.shape[-1])[:, None, None]
    log_left = dist.Categorical(probs=left[:, None]).log_prob(outcomes)  # (D, N, 1)
    log_right = dist.Categorical(probs=right).log_prob(outcomes)  # (D, 1, K)
    return jnp.sum(jnp.exp(log_left) * (log_left - log_right), axis=0)


_COMPOSITIONS = (
    ordinary("plain"),
    extreme("nearly one-hot", spread=0.1),
    extreme("nearly equal", spread=1e4, tolerance=1e-9),  # the oracle subtracts entropies; a divergence is 1e-4 of them
)


@register(
    id="C11.kl",
    source=f"{MILLIDGE}, Table 2",
    title="the two KL rows of the table have opposite signs",
    statement="kl = KL(q || M) and reverse kl = KL(M || q), both distances; the printed sum q ln(M / q) is -KL(q || M)",
    latex=r"\textstyle\sum_i q_i \ln(M_i / q_i) = -\mathrm{KL}(q \Vert M),\quad "
    r"\sum_i M_i \ln(M_i / q_i) = +\mathrm{KL}(M \Vert q)",
    printed_statement="KL: sum q ln(M / q); reverse KL: sum M ln(M / q)",
    verdict="WRONG",
    relation="equal",
    constant="none; nats",
    inputs=compositions,
    cases=(*_COMPOSITIONS, extreme("D = 512", dim=512, tolerance=1e-11)),
    tolerance=1e-12,
    exact={"forward": SIMILARITIES["kl"], "backward": SIMILARITIES["reverse kl"], "unit": 1.0},
    printed={"forward": similarities.PRINTED["kl"]},
    printed_exceeds=0.5,
    mutations={
        "arguments exchanged": {"forward": SIMILARITIES["reverse kl"], "backward": SIMILARITIES["kl"]},
        "bits for nats": {"unit": np.log(2.0)},
        "pseudocount 1e-4": {"forward": similarities.smoothed(SIMILARITIES["kl"], 1e-4)},
    },
)
def kl_rows_are_divergences_of_categoricals(
    queries: Array, memories: Array, *, forward: Piece, backward: Piece, unit: float
) -> Array:
    """Both divergences of the physics against the statistics' sums."""
    there = relative_error(forward(queries, memories), categorical_divergence(queries, memories) / unit)
    back = relative_error(backward(queries, memories), categorical_divergence(memories, queries).T / unit)
    return jnp.maximum(there, back)


def _information_on_the_source(queries: Array, memories: Array) -> Array:
    """Mutual information of an outcome and which of two equally likely categoricals it came from, (N, K)."""

    def pair(q: Array, m: Array) -> Array:
        log_parts = dist.Categorical(probs=jnp.stack([q, m])).log_prob(jnp.arange(q.shape[0])[:, None])  # (D, 2)
        log_whole = logsumexp(log_parts + jnp.log(0.5), axis=-1)
        return 0.5 * jnp.sum(jnp.exp(log_parts) * (log_parts - log_whole[:, None]))

    computed: Array = jax.vmap(lambda q: jax.vmap(partial(pair, q))(memories))(queries)
    return computed


@register(
    id="C11.jensen-shannon",
    source=f"{MILLIDGE}, Table 2",
    title="the printed Jensen-Shannon is half of Jeffreys",
    statement="JS(q, M) = I(outcome; which of q, M) <= log 2, to the midpoint; (KL + KL') / 2 is Jeffreys / 2",
    latex=r"\mathrm{JS} = \tfrac12\mathrm{KL}(q \Vert \tfrac{q+M}{2}) + \tfrac12\mathrm{KL}(M \Vert \tfrac{q+M}{2}) "
    r"\ne \tfrac12\mathrm{KL}(M \Vert q) + \tfrac12\mathrm{KL}(q \Vert M)",
    printed_statement="(1/2) KL[M || q] + (1/2) KL[q || M]",
    verdict="WRONG",
    relation="equal",
    constant="1/2 each; nats",
    inputs=compositions,
    cases=_COMPOSITIONS,
    tolerance=1e-12,
    exact={"shannon": SIMILARITIES["jensen-shannon"], "jeffreys": SIMILARITIES["jeffreys"]},
    printed={"shannon": similarities.PRINTED["jensen-shannon"]},
    printed_exceeds=0.5,
    mutations={
        "factor 1/2 dropped": {"shannon": lambda q, M: 2 * SIMILARITIES["jensen-shannon"](q, M)},
        "Jeffreys halved": {"jeffreys": lambda q, M: SIMILARITIES["jeffreys"](q, M) / 2},
        "its square root": {"shannon": lambda q, M: jnp.sqrt(SIMILARITIES["jensen-shannon"](q, M))},
    },
)
def jensen_shannon_is_the_information_on_the_source(
    queries: Array, memories: Array, *, shannon: Piece, jeffreys: Piece
) -> Array:
    """Jensen-Shannon against a mutual information, Jeffreys against the sum of the statistics' divergences."""
    information = _information_on_the_source(queries, memories)
    both = categorical_divergence(queries, memories) + categorical_divergence(memories, queries).T
    first = relative_error(shannon(queries, memories), information)
    return jnp.maximum(first, relative_error(jeffreys(queries, memories), both))


@register(
    id="C11.euclidean",
    source=f"{MILLIDGE}, Table 2",
    title="the printed Euclidean distance is squared",
    statement="sum (M - q)^2 = d^2 = -(log N(q; M, I/(2 beta)) + (D/2) log(pi / beta)) / beta, d its root",
    latex=r"\textstyle\sum_i (M_i - q_i)^2 = d^2 = -\beta^{-1} \log \mathcal N(q \mid M, (2\beta)^{-1}I) + c",
    printed_statement="Euclidean distance: sum (M - q)^2",
    verdict="TYPO",
    relation="equal",
    constant="(D / 2) log(pi / beta)",
    inputs=uniform_bank,
    cases=(
        ordinary("plain"),
        ordinary("beta 0.3", beta=0.3),
        extreme("offset 1e6", offset=1e6),
        extreme("queries at 1e8", query_radius=1e8),
        extreme("one memory 1e6 away", far=1e6),
        extreme("D = 512", dim=512, num_queries=3),
    ),
    tolerance=1e-12,
    exact={
        "distance": SIMILARITIES["euclidean"],
        "variance": lambda beta: 1 / (2 * beta),
        "log_volume": lambda beta, dim: 0.5 * dim * jnp.log(jnp.pi / beta),
    },
    printed={"distance": similarities.PRINTED["euclidean"]},
    printed_exceeds=0.1,
    mutations={
        "not the root": {"distance": SIMILARITIES["squared euclidean"]},
        "normaliser dropped": {"log_volume": lambda _beta, _dim: 0.0},
        "beta doubled": {"variance": lambda beta: 1 / (4 * beta)},
        "Manhattan": {"distance": SIMILARITIES["manhattan"]},
    },
)
def squared_distance_is_a_normal_log_density(
    queries: Array,
    memories: Array,
    beta: Array,
    *,
    distance: Piece,
    variance: Piece,
    log_volume: Callable[[Array, int], Any],
) -> Array:
    """The squared distance and the square of the distance against the statistics' log density."""
    bank = dist.Normal(memories, jnp.sqrt(variance(beta))).to_event(1)
    log_p = bank.log_prob(queries[:, None])
    lost = log_volume(beta, memories.shape[1])
    expected = -(log_p + lost) / beta
    squared = SIMILARITIES["squared euclidean"](queries, memories)
    size = jnp.max(jnp.abs(lost / beta))
    return jnp.maximum(
        relative_error(squared, expected, size), relative_error(distance(queries, memories) ** 2, expected, size)
    )


def _code_score(there: Array, back: Array) -> Array:
    """Reciprocals averaged, then inverted: the harmonic mean of the two divergences."""
    return 1 / (0.5 / there + 0.5 / back)


@register(
    id="C11.code",
    source=f"{MILLIDGE}, released program, functions.py of commit a4058a0",
    title="the released Jensen-Shannon score prefers the unlike",
    statement="1/((1/KL + 1/KL')/2) = 2 KL KL' / (KL + KL') grows with each divergence: least for the nearest",
    latex=r"\Bigl(\tfrac12 \mathrm{KL}^{-1} + \tfrac12 \mathrm{KL}'^{-1}\Bigr)^{-1} = "
    r"\frac{\mathrm{KL}\,\mathrm{KL}'}{\tfrac12(\mathrm{KL} + \mathrm{KL}')}",
    printed_statement="a similarity score, larger for the more alike",
    verdict="WRONG",
    relation="count",
    constant="none",
    inputs=lambda key, **settings: _perturbed(key, **settings),
    cases=(ordinary("6 outcomes"), extreme("D = 64", dim=64)),
    tolerance=0.0,
    exact={"score": _code_score, "prefers": jnp.argmin},
    printed={"prefers": jnp.argmax},
    printed_exceeds=1.0,
    mutations={"inverted once more": {"score": lambda there, back: 1 / _code_score(there, back)}},
)
def released_jensen_shannon_score_is_least_for_the_nearest(
    queries: Array, memories: Array, *, score: Piece, prefers: Piece
) -> Array:
    """Queries near memory k (query k) for which the score's choice is another one."""
    pairs = queries[:, None], memories
    there, back = SIMILARITIES["reverse kl"].pairs(*pairs), SIMILARITIES["kl"].pairs(*pairs)
    chosen = prefers(score(there, back), axis=-1)
    return jnp.sum(chosen != jnp.arange(len(queries))).astype(float)


def _perturbed(key: jax.Array, *, num_memories: int = 5, dim: int = 6) -> dict[str, Floats]:
    """Well separated compositions, and each one mixed with two percent of another."""
    draw = generator(key)
    memories = draw.gamma(1.0, size=(num_memories, dim)) + 0.05
    memories /= memories.sum(axis=-1, keepdims=True)
    return {"memories": memories, "queries": 0.98 * memories + 0.02 * np.roll(memories, 1, axis=0)}


def _positive_directions(
    key: jax.Array, *, num_memories: int = 30, dim: int = 4, pair: bool = False
) -> dict[str, Floats]:
    """Distinct non-negative patterns; ``pair``: the two of the counterexample."""
    if pair:
        return {"memories": np.array([[0.6, 0.4], [1.0, 0.0]])}
    return {"memories": generator(key).gamma(1.0, size=(num_memories, dim)) + 1e-3}


@register(
    id="C12.ranking",
    source=f"{MILLIDGE}, Eq. 13 and Appendix E.1",
    title="sum-normalised dot products still lose patterns",
    statement=(
        "x.x >= x.z fails, also for vectors that sum to one: .52 = |(.6,.4)|^2 < (.6,.4).(1,0) = .6; for unit vectors "
        "it holds: the cosine reads back every direction, as the posterior under equal Gaussians at unit vectors does"
    ),
    latex=r"\frac{x \cdot z}{\lVert x\rVert \lVert z\rVert} \le 1 = \frac{x \cdot x}{\lVert x\rVert^2}",
    printed_statement="dot(X, z) = norm(norm(X) . norm(z)), norm(x) = x / sum x",
    verdict="WRONG",
    relation="count",
    constant="Euclidean length for sum",
    inputs=_positive_directions,
    cases=(
        ordinary("the counterexample", pair=True),
        ordinary("30 in 4 dimensions"),
        extreme("K = 1", num_memories=1),
        extreme("D = 64", dim=64),
    ),
    tolerance=0.0,
    exact={"kind": "cosine", "sign": 1.0},
    printed={"kind": "normalised dot"},
    printed_exceeds=0.5,
    mutations={"no normalisation": {"kind": "dot"}, "sign flipped": {"sign": -1.0}},
)
def cosine_reads_back_every_direction(memories: Array, *, kind: str, sign: float) -> Array:
    """Patterns that are not read back under max, and choices that differ from the twin's."""
    chosen = Max()(sign * universal.scores(memories, memories, kind))
    lost = jnp.sum(jnp.any(chosen != jnp.eye(len(memories)), axis=-1))
    directions = memories / jnp.sqrt(jnp.sum(memories**2, axis=-1, keepdims=True))
    mode = jnp.argmax(key_mixture(directions, jnp.asarray(5.0)).log_joint(directions), axis=-1)
    return (lost + jnp.sum(mode != jnp.argmax(chosen, axis=-1))).astype(float)


@register(
    id="C12.twice",
    source=f"{MILLIDGE}, Eq. 13, outer norm",
    title="normalising dot products again rescales beta",
    statement="softmax(beta s / sum s) = softmax((beta / sum s) s): a beta of each query's own, nothing else",
    latex=r"\operatorname{softmax}(\beta s / \textstyle\sum_j s_j) = \operatorname{softmax}(\beta' s),\quad "
    r"\beta' = \beta / \textstyle\sum_j s_j",
    printed_statement="normalised again for numerical reasons",
    verdict="COND",
    relation="equal",
    constant="beta / sum_j s_j",
    inputs=compositions,
    cases=(
        ordinary("plain"),
        extreme("nearly one-hot", spread=0.1),
        extreme("nearly equal", spread=1e4),
        extreme("K = 1", num_memories=1),
        extreme("D = 512", dim=512),
    ),
    tolerance=1e-12,
    exact={"effective": lambda scores: 50.0 / jnp.sum(scores, axis=-1)},
    mutations={
        "beta doubled": {"effective": lambda scores: 100.0 / jnp.sum(scores, axis=-1)},
        "one beta for all": {"effective": lambda scores: jnp.full(len(scores), 50.0)},
        "length for sum": {"effective": lambda scores: 50.0 / jnp.sqrt(jnp.sum(scores**2, axis=-1))},
    },
)
def the_outer_normalisation_is_a_beta_of_each_query(queries: Array, memories: Array, *, effective: Piece) -> Array:
    """Appendix E's weights at beta = 50 against the plain softmax at each query's own beta."""
    twice = universal.weights(queries, memories, "normalised dot", Softmax(50.0), normalised=True)
    scores = universal.scores(queries, memories, "normalised dot")
    once = jax.nn.softmax(effective(scores)[:, None] * scores, axis=-1)
    return relative_error(twice, sum_to_one(once))
