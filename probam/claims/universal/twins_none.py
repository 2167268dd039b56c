r"""Claim C18, the other separations and the pairs without a twin: what fails, and by how much.

A mixture's posterior has weights of at least zero, a finite mass on the domain of the queries, and odds of two
memories that do not depend on any other. Where a pair of :mod:`probam.claims.universal.twin_table` has no twin, one of
the three conditions is shown to fail, and the table must refuse the pair.
"""

import math
from collections.abc import Callable
from functools import partial

import jax
import numpy as np
from scipy.integrate import quad

from probam.claims.claim import extreme, ordinary, register
from probam.claims.inputs import Floats, generator
from probam.claims.universal.softmax_twins import (
    MILLIDGE,
    bank,
    bank_parts,
    compare,
    of_similarity,
    refused,
    relative_difference,
    softmax,
    statistics,
)
from probam.claims.universal.twin_integrals import corners, dot
from probam.claims.universal.twin_table import twin

__all__: list[str] = []


# dot product in space ----------------------------------------------------------------------------------------------


def _boxes(memories: Floats, beta: float, *, penalty: float, half_width: float) -> Floats:
    """log Z of exp(beta (m . q - penalty |q|^2)) over a cube, coordinate by coordinate."""

    def one(m: float) -> float:
        top = m / (2 * penalty) if penalty else math.copysign(half_width, m)
        top = min(max(top, -half_width), half_width)
        log_top = beta * (m * top - penalty * top**2)
        inner = quad(
            lambda x: math.exp(beta * (m * x - penalty * x**2) - log_top),
            -half_width, half_width, epsabs=0, epsrel=1e-13, limit=400, points=[top],
        )[0]  # fmt: skip
        return log_top + math.log(inner)

    return np.array([sum(one(float(m)) for m in row) for row in memories])


def _penalised(queries: Floats, memories: Floats, *, penalty: float) -> Floats:
    return np.asarray(dot(queries, memories) - penalty * np.sum(queries**2, axis=-1, keepdims=True))


@register(
    id="C18.dot_plane",
    source=MILLIDGE,
    title="dot product on R^D: none without -|q|^2 / 2",
    statement="exp(beta m . q) has no integral over R^D; with -|q|^2/2: N(m, I/beta), pi_k prop. to exp(beta|m|^2/2)",
    latex=r"Z = e^{\beta\lVert m\rVert^2/2} (2\pi/\beta)^{D/2}",
    printed_statement="weights softmax(beta m . q), no density named: the integral over a cube grows for ever",
    verdict="NONE",
    relation="equal",
    constant="Z = exp(beta |m|^2 / 2) (2 pi / beta)^(D/2)",
    inputs=partial(bank, domain="space"),
    cases=(ordinary("plain"), ordinary("beta 0.4, D = 4", beta=0.4, dim=4), extreme("beta 100", beta=100.0)),
    tolerance=1e-12,
    exact={"penalty": 0.5, "weights": 1.0, "normaliser": 1.0, "twin_beta": 1.0, "sign": 1.0},
    printed={"penalty": 0.0},
    printed_exceeds=0.9,
    mutations={
        "weights left out": {"weights": 0.0},
        "normaliser dropped": {"normaliser": 0.0},
        "variance 1 / (2 beta)": {"twin_beta": 2.0},
        "sign flipped": {"sign": -1.0},
    },
    jit=False,
)
def dot_product_needs_a_norm(
    queries: Floats,
    memories: Floats,
    beta: float,
    *,
    penalty: float,
    weights: float,
    normaliser: float,
    twin_beta: float,
    sign: float,
) -> float:
    """The row with its penalty; its mass over two cubes of different size; whether the table refuses the bare one."""
    width = 60 / math.sqrt(beta) + 2 * float(np.max(np.abs(memories)))
    wide, wider = (_boxes(memories, beta, penalty=penalty, half_width=k * width) for k in (1, 2))
    error = compare(
        queries,
        memories,
        beta,
        row=partial(twin, "dot - |q|^2 / 2"),
        scores=partial(_penalised, penalty=penalty),
        measure=lambda m, b: _boxes(m, b, penalty=penalty, half_width=width),
        uniform=False,
        is_density=penalty > 0,
        weights=weights,
        normaliser=normaliser,
        twin_beta=twin_beta,
        sign=sign,
    )
    missing = 0.0 if refused("dot", "softmax", "space") and refused("cosine", "softmax", "space") else 1.0
    return max(error, float(np.max(np.abs(wider - wide)) / max(1.0, np.max(np.abs(wide)))), missing)


# threshold ---------------------------------------------------------------------------------------------------------


@register(
    id="C18.threshold",
    source=MILLIDGE,
    title="threshold on the Hamming distance: uniform balls",
    statement="1[d <= r]/#active = posterior of uniform Hamming balls, V = sum_{j<=r} C(D, j), uniform pi",
    latex=r"p(q \mid m) = \mathbf 1[d_H(q, m) \le r] / V(r)",
    printed_statement="thresh is 1 if the distance is greater than the threshold",
    verdict="WRONG",
    relation="equal",
    constant="V(r) = sum_{j <= r} C(D, j), the same for every memory",
    inputs=partial(bank_parts, names=("memories", "beta"), domain="binary"),
    cases=(ordinary("r = 2, D = 6", dim=6, beta=2.0), ordinary("r = 3, D = 8", dim=8, beta=3.0)),
    tolerance=1e-12,
    exact={"far": False, "shift": 0.0, "tilt": 0.0},
    printed={"far": True},
    printed_exceeds=0.5,
    mutations={"radius one larger": {"shift": 1.0}, "weights by number": {"tilt": 0.3}},
    jit=False,
)
def thresholds_are_uniform_balls(memories: Floats, beta: float, *, far: bool, shift: float, tilt: float) -> float:
    """Shares of the active memories against the posterior at every corner where one is; volumes against counts."""
    everywhere = corners(memories.shape[1], 0.0)
    distance = -np.asarray(of_similarity("hamming")(everywhere, memories))
    active = (distance > beta) if far else (distance <= beta)
    log_density, log_z, _ = statistics(twin("hamming", "threshold", "binary"))(everywhere, memories, beta + shift)
    seen = active.any(axis=1) & np.isfinite(log_density).any(axis=1)
    share = active[seen] / active[seen].sum(axis=1, keepdims=True)
    volume = np.exp(log_z)
    return max(
        relative_difference(share, softmax(log_density[seen] + tilt * np.arange(len(memories)))),
        relative_difference(volume / active.sum(axis=0), np.ones(len(memories))),
    )


# max, log, and scores that are normalised first -----------------------------------------------------------------------


def _one_hot(scores: Floats) -> Floats:
    return np.asarray(scores == scores.max(axis=-1, keepdims=True), float)


@register(
    id="C18.max",
    source=MILLIDGE,
    title="max: the limit of softmax, no density of its own",
    statement="|softmax(beta s) - one-hot| <= (K-1) e^(-beta gap); a weight of 1 falls to 0 when a nearer memory comes",
    latex=r"\lVert \mathrm{softmax}(\beta s) - \mathbf 1_{\arg\max} \rVert_\infty \le (K-1) e^{-\beta\,\mathrm{gap}}",
    printed_statement="sep = max",
    verdict="NONE",
    relation="at most",
    constant="(K - 1) exp(-beta gap)",
    inputs=partial(bank, domain="space"),
    cases=(ordinary("beta 5", beta=5.0), ordinary("beta 50", beta=50.0), extreme("beta 1e6", beta=1e6)),
    tolerance=1e-12,
    exact={"rate": 1.0, "weights": _one_hot},
    mutations={
        "rate doubled": {"rate": 2.0},
        "softmax for max": {"weights": lambda scores: softmax(3.0 * scores)},
        "farthest for nearest": {"weights": lambda scores: _one_hot(-scores)},
    },
    jit=False,
)
def max_is_the_limit_of_softmax(
    queries: Floats, memories: Floats, beta: float, *, rate: float, weights: Callable[[Floats], Floats]
) -> float:
    """Excess over the bound; and the odds of two memories with and without the query itself as a third."""
    scores = np.asarray(of_similarity("squared euclidean")(queries, memories))
    ordered = np.sort(scores, axis=1)
    gap = ordered[:, -1] - ordered[:, -2]
    off = np.max(np.abs(softmax(beta * scores) - weights(scores)), axis=1)
    over = float(np.max(off - (len(memories) - 1) * np.exp(-rate * beta * gap)))
    pair = scores[:, :2]
    with_third = weights(np.column_stack([pair, np.zeros(len(pair))]))[:, :2]
    drop = np.max(weights(pair), axis=1) - np.max(with_third, axis=1)  # from certain to impossible
    missing = 0.0 if refused("squared euclidean", "max", "space") else 1.0
    return max(over, 1.0 - float(np.min(drop)), missing, 0.0)


def _reciprocal(key: jax.Array, *, num_memories: int = 4) -> dict[str, Floats]:
    """Reciprocal distances of Appendix E, (N, K): not yet divided by their sums."""
    return {"scores": 1 / generator(key).uniform(0.2, 3.0, size=(5, num_memories))}


@register(
    id="C18.log",
    source=f"{MILLIDGE}, Appendix E",
    title="log separation: ranks the memories in reverse",
    statement="log of scores that sum to 1 over its sum falls as the score rises: .858 .023 .119 to .0253 .6231 .3516",
    latex=r"s_1 > s_2 \Rightarrow \log s_1 / \textstyle\sum_j \log s_j < \log s_2 / \sum_j \log s_j",
    printed_statement="sep = log, for recall of the nearest memory",
    verdict="NONE",
    relation="count",
    constant="none",
    inputs=_reciprocal,
    cases=(ordinary("K = 4"), ordinary("K = 7", num_memories=7), extreme("K = 2", num_memories=2)),
    tolerance=1e-4,
    exact={"separation": np.log, "normalise": lambda s: s / s.sum(axis=-1, keepdims=True)},
    mutations={
        "identity for log": {"separation": lambda s: s},
        "scores not normalised": {"normalise": lambda s: s},
        "square for log": {"separation": lambda s: s**2},
    },
    jit=False,
)
def log_separation_reverses_the_ranking(
    scores: Floats, *, separation: Callable[[Floats], Floats], normalise: Callable[[Floats], Floats]
) -> float:
    """Pairs that are not reversed, plus the distance from the stated numbers."""
    shares = separation(normalise(scores))
    shares = shares / shares.sum(axis=-1, keepdims=True)
    order = (scores[:, :, None] > scores[:, None, :]) & (shares[:, :, None] >= shares[:, None, :])
    example = separation(normalise(np.array([0.858, 0.023, 0.119])))
    stated = float(np.max(np.abs(example / example.sum() - np.array([0.0253, 0.6231, 0.3516]))))
    missing = 0.0 if refused("dot", "log", "space") else 1.0
    return float(order.sum()) + stated + missing


@register(
    id="C18.normalised",
    source=f"{MILLIDGE}, Appendix E",
    title="softmax of normalised scores: odds depend on all others",
    statement="log odds are beta (s_1 - s_2)/sum s: one more memory changes them by the ratio of the sums, not by 0",
    latex=r"\log \frac{r_1}{r_2} = \beta\, \frac{s_1 - s_2}{\sum_j s_j}",
    printed_statement="softmax(beta s / sum s)",
    verdict="NONE",
    relation="equal",
    constant="the log odds change by the factor sum_{j<=K} s_j / sum_{j<=K+1} s_j, here by more than 2 %",
    inputs=_reciprocal,
    cases=(ordinary("K = 4"), ordinary("K = 7", num_memories=7), extreme("K = 3", num_memories=3)),
    tolerance=1e-12,
    exact={"normalise": lambda s: s / s.sum(axis=-1, keepdims=True), "double": 1.0},
    mutations={
        "softmax of raw scores": {"normalise": lambda s: s},
        "softmax of scores over the largest": {"normalise": lambda s: s / s.max(axis=-1, keepdims=True)},
        "beta doubled": {"double": 2.0},
    },
    jit=False,
)
def normalised_scores_break_the_odds(scores: Floats, *, normalise: Callable[[Floats], Floats], double: float) -> float:
    """Odds of the first two memories among all but the last, and among all, against the formula."""
    beta = 2.0

    def log_odds(values: Floats) -> Floats:
        shares = softmax(double * beta * normalise(values))
        return np.log(shares[:, 0] / shares[:, 1])

    def stated(values: Floats) -> Floats:
        return np.asarray(beta * (values[:, 0] - values[:, 1]) / values.sum(axis=1))

    fewer, more = log_odds(scores[:, :-1]), log_odds(scores)
    change = np.abs(more / fewer - 1)
    missing = 0.0 if refused("euclidean", "normalised softmax", "space") else 1.0
    still = max(0.02 - float(np.min(change)), 0.0)
    return max(
        relative_difference(fewer, stated(scores[:, :-1])), relative_difference(more, stated(scores)), still, missing
    )
