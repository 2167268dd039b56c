r"""Claim C18, softmax rows: the weights of a universal Hopfield network as the posterior of a mixture.

Physics: the scores of :mod:`probam.energies.similarities` and their softmax. Statistics: the components of
:mod:`probam.claims.universal.twin_table` with :math:`\pi_k \propto Z(m_k)`. The normalisers are compared with
independent integrals and sums over the whole domain (:mod:`probam.claims.universal.twin_integrals`).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any

import jax
import numpy as np
import numpy.typing as npt
from jaxtyping import Array
from scipy.special import logsumexp

from probam.claims.claim import Case, Pieces, extreme, ordinary, register
from probam.claims.inputs import Floats, generator, unit_rows
from probam.claims.universal.twin_integrals import (
    Scores,
    circles,
    dot,
    hamming,
    jeffreys,
    jensen_shannon,
    over_corners,
    over_counts,
    over_simplex,
    product_of_lines,
    reverse,
    shells,
)
from probam.claims.universal.twin_table import ScoreTwin, twin
from probam.compiled import compiler_options
from probam.energies.similarities import similarity
from probam.errors import InputError

__all__ = [
    "MILLIDGE",
    "bank",
    "bank_parts",
    "compare",
    "of_similarity",
    "refused",
    "relative_difference",
    "softmax",
    "statistics",
]

MILLIDGE = "Millidge et al. (2022), Universal Hopfield Networks, Tables 2 and 3"


def softmax(logits: Floats) -> Floats:
    """Shares of the exponentials, in the last axis."""
    return np.asarray(np.exp(logits - logsumexp(logits, axis=-1, keepdims=True)))


def relative_difference(left: npt.ArrayLike, right: npt.ArrayLike) -> float:
    """Largest difference over the largest entry (or over one, where all are smaller)."""
    a, b = np.asarray(left, float), np.asarray(right, float)
    return float(np.max(np.abs(a - b)) / max(np.max(np.abs(a)), np.max(np.abs(b)), 1.0))


# inputs --------------------------------------------------------------------------------------------------------------


def bank(
    key: jax.Array,
    *,
    domain: str,
    real_memories: bool = False,
    beta: float = 1.7,
    dim: int = 3,
    num_queries: int = 6,
    num_memories: int = 4,
) -> dict[str, Any]:
    """Queries (N, D), memories (K, D) of different lengths and beta, on a domain of the table.

    Args:
        key: random key.
        domain: one of :data:`probam.claims.universal.twin_table.DOMAINS`. Six of ten bits are up on average; the
            sum of counts is beta.
        real_memories: on ``"spin"`` and ``"binary"``, draw normal memories instead of bits.
        beta: inverse temperature, which is passed on.
        dim: number of features D.
        num_queries: N.
        num_memories: K.
    """
    draw = generator(key)
    shapes = (num_queries, dim), (num_memories, dim)
    queries, memories = (draw.normal(size=shape) for shape in shapes)
    if domain == "sphere":
        queries = unit_rows(queries)
    elif domain in ("spin", "binary"):
        low, real = -1.0 if domain == "spin" else 0.0, memories
        queries, memories = (np.where(draw.random(shape) < 0.6, 1.0, low) for shape in shapes)
        memories[0], memories[1, 0], memories[1, 1:] = 1.0, low, 1.0
        memories = real if real_memories else memories
    elif domain in ("simplex", "counts"):
        queries, memories = (draw.dirichlet(np.full(dim, 2.0), size=len_) for len_ in (num_queries, num_memories))
        if domain == "counts":
            queries = np.array([draw.multinomial(round(beta), row) for row in queries], float)
    elif domain == "box":
        queries, memories = (draw.random(shape) for shape in shapes)
    return {"queries": queries, "memories": memories, "beta": float(beta)}


def refused(similarity: str, separation: str, domain: str) -> bool:
    """Whether the table gives a reason why this pair has no twin."""
    try:
        twin(similarity, separation, domain)
    except InputError as reason:
        return "no probabilistic twin: " in str(reason)
    return False


def bank_parts(key: jax.Array, *, names: tuple[str, ...], **settings: Any) -> dict[str, Any]:
    """Only those inputs of :func:`bank` that are named."""
    drawn = bank(key, **settings)
    return {name: drawn[name] for name in names}


# the two sides -------------------------------------------------------------------------------------------------------


@cache
def of_similarity(name: str) -> Scores:
    """Scores of the physics, compiled at first use: minus the distance, or the similarity itself."""
    compiled = cache(lambda: jax.jit(similarity(name).scores, compiler_options=compiler_options()))
    return lambda queries, memories: compiled()(queries, memories)


@cache
def statistics(row: ScoreTwin) -> Callable[[Floats, Floats, float], tuple[Floats, Floats, Floats]]:
    """Log density (N, K), log Z (K,) and log weights (K,) of a row, compiled once."""

    def all_three(queries: Array, memories: Array, beta: Array) -> tuple[Array, Array, Array]:
        log_z = row.log_normalizer(memories, beta)
        return row.log_density(queries, memories, beta), log_z, row.log_weights(memories, beta)

    compiled = jax.jit(all_three, compiler_options=compiler_options())

    def on_host(queries: Floats, memories: Floats, parameter: float) -> tuple[Floats, Floats, Floats]:
        log_density, log_z, log_weights = map(np.asarray, compiled(queries, memories, parameter))
        return log_density, log_z, log_weights

    return on_host


def compare(
    queries: Floats,
    memories: Floats,
    beta: float,
    *,
    row: Callable[[], ScoreTwin],
    scores: Scores,
    measure: Callable[[Floats, float], Sequence[float] | Floats],
    uniform: bool,
    is_density: bool,
    sign: float,
    twin_beta: float,
    normaliser: float,
    weights: float,
) -> float:
    """Largest of four errors of a row of the table.

    They compare the softmax weights with the posterior; beta s - log Z with the log density; log Z with its integral;
    and the mixing weights with the shares of the integrals.

    Args:
        queries, memories, beta: the inputs.
        row: the row of the table.
        scores: the physics' scores of all pairs.
        measure: memories and beta -> log Z by integration.
        uniform: whether the mixing weights must be equal.
        is_density: whether beta s - log Z is the whole log density; ``False``: up to a function of the query.
        sign, twin_beta, normaliser, weights: factors of the scores, of the twin's beta, of log Z and of the log mixing
            weights; 1 in the exact statement.
    """
    log_density, log_z, log_weights = statistics(row())(queries, memories, twin_beta * beta)
    log_z, log_weights = normaliser * log_z, weights * log_weights
    logits = sign * beta * np.asarray(scores(queries, memories), float)
    pointwise = logits - log_z - log_density
    if not is_density:
        pointwise = pointwise - pointwise[:, :1]
    integrals = np.asarray(measure(memories, beta))
    equal = np.full(len(memories), -math.log(len(memories)))
    return max(
        relative_difference(softmax(logits), softmax(log_weights + log_density)),
        float(np.max(np.abs(pointwise)) / max(1.0, np.max(np.abs(logits)))),
        relative_difference(log_z, integrals),
        relative_difference(np.exp(log_weights), softmax(integrals)),
        relative_difference(np.exp(log_weights), np.exp(equal)) if uniform else 0.0,
    )


# the rows ------------------------------------------------------------------------------------------------------------

_EXACT: Pieces = {"is_density": True, "sign": 1.0, "twin_beta": 1.0, "normaliser": 1.0, "weights": 1.0}

_COMMON: Mapping[str, Pieces] = {
    "beta doubled": {"twin_beta": 2.0},
    "normaliser dropped": {"normaliser": 0.0},
    "sign flipped": {"sign": -1.0},
}


def register_row(
    part: str,
    *,
    title: str,
    statement: str,
    latex: str,
    constant: str,
    domain: str,
    cases: tuple[Case, ...] = (),
    tolerance: float = 1e-12,
    common: Mapping[str, Pieces] = _COMMON,
    mutations: Mapping[str, Pieces] | None = None,
    real_memories: bool = False,
    **pieces: Any,
) -> None:
    """Register a softmax row: :func:`compare` with these pieces, on the domain's inputs."""
    uniform = pieces["uniform"]
    extra = {} if uniform else {"weights left out": {"weights": 0.0}}
    register(
        id=f"C18.{part}",
        source=MILLIDGE,
        title=title,
        statement=statement,
        latex=latex,
        printed_statement="weights softmax(beta sim), no density named",
        verdict="NEW",
        relation="equal",
        constant=constant,
        inputs=partial(bank, domain=domain, real_memories=real_memories),
        cases=cases or (ordinary("plain"), ordinary("beta 0.4, D = 4", beta=0.4, dim=4)),
        tolerance=tolerance,
        exact={**_EXACT, **pieces},
        mutations={**common, **extra, **(mutations or {})},
        jit=False,
    )(compare)


_SHARP = (ordinary("plain"), ordinary("beta 0.4, D = 4", beta=0.4, dim=4), extreme("beta 1e3", beta=1e3))
_ALL = (*_SHARP, extreme("beta 1e-3", beta=1e-3), extreme("one memory", num_memories=1))

register_row(
    "euclid",
    title="squared distance: Gaussians of variance 1 / (2 beta)",
    statement="softmax(-beta |q - m|^2) = posterior of N(m_k, I/(2 beta)), uniform pi; Z = (pi/beta)^(D/2)",
    latex=r"e^{-\beta\lVert q-m\rVert^2} = (\pi/\beta)^{D/2}\, \mathcal N(q \mid m, I/(2\beta))",
    constant="Z = (pi / beta)^(D/2), uniform weights",
    domain="space",
    cases=_ALL,
    row=partial(twin, "squared euclidean"),
    scores=of_similarity("squared euclidean"),
    measure=partial(product_of_lines, power=2.0),
    uniform=True,
    mutations={"variance 1 / beta": {"twin_beta": 0.5}},
)
register_row(
    "distance",
    title="distance itself: radial Laplace laws",
    statement="softmax(-beta |q - m|) = posterior of radial Laplace laws, uniform pi",
    latex=r"Z = 2\pi^{D/2}\,\Gamma(D) / (\Gamma(D/2)\,\beta^D)",
    constant="Z = 2 pi^(D/2) Gamma(D) / (Gamma(D/2) beta^D), uniform weights",
    domain="space",
    cases=_ALL,
    row=partial(twin, "euclidean"),
    scores=of_similarity("euclidean"),
    measure=shells,
    uniform=True,
)
register_row(
    "manhattan",
    title="Manhattan distance: products of Laplace laws",
    statement="softmax(-beta |q - m|_1) = posterior of prod_i Laplace(m_i, 1/beta), uniform pi; Z = (2/beta)^D",
    latex=r"Z = (2/\beta)^D",
    constant="Z = (2 / beta)^D, uniform weights",
    domain="space",
    cases=_ALL,
    row=partial(twin, "manhattan"),
    scores=of_similarity("manhattan"),
    measure=partial(product_of_lines, power=1.0),
    uniform=True,
)


def _lp_scores(queries: Floats, memories: Floats) -> Floats:
    return -np.asarray(np.sum(np.abs(queries[:, None] - memories) ** _POWER, axis=-1))


_POWER = 3.5

register_row(
    "lp",
    title="L_p distance to the p: generalised normals",
    statement="softmax(-beta sum |q - m|^p) = posterior of generalised normals, uniform pi (here p = 3.5)",
    latex=r"Z = \bigl(2\,\Gamma(1 + 1/p)\,\beta^{-1/p}\bigr)^D",
    constant="Z = (2 Gamma(1 + 1/p) beta^(-1/p))^D, uniform weights",
    domain="space",
    cases=_ALL,
    row=partial(twin, "lp", power=_POWER),
    scores=_lp_scores,
    measure=partial(product_of_lines, power=_POWER),
    uniform=True,
    mutations={"p = 2": {"row": partial(twin, "lp", power=2.0)}},
)
register_row(
    "dot_sphere",
    title="dot product on the sphere: von Mises-Fisher",
    statement="softmax(beta m . q) = posterior of vMF(m/|m|, beta |m|), pi_k prop. to 1/C_D(beta |m_k|)",
    latex=r"Z = 1 / C_D(\beta\lVert m\rVert)",
    constant="Z = 1 / C_D(beta |m|) (times R^(D-1) at radius R)",
    domain="sphere",
    cases=(ordinary("plain"), ordinary("beta 0.4, D = 5", beta=0.4, dim=5), extreme("beta 300", beta=300.0)),
    row=partial(twin, "dot", domain="sphere"),
    scores=of_similarity("dot"),
    measure=partial(circles, unit=False),
    uniform=False,
)
register_row(
    "dot_spin",
    title="dot product on spins: Bernoulli, log odds 2 beta m",
    statement="softmax(beta m . q) = posterior of Bernoulli(logit 2 beta m_i) on {-1,1}^D, Z = prod 2 cosh(beta m_i)",
    latex=r"Z = \prod_i 2\cosh(\beta m_i)",
    constant="Z = prod 2 cosh(beta m_i); uniform weights iff all Z are equal, as for memories of spins",
    domain="spin",
    row=partial(twin, "dot", domain="spin"),
    scores=of_similarity("dot"),
    measure=partial(over_corners, low=-1.0, score=dot),
    uniform=True,
    cases=(ordinary("plain", dim=5), ordinary("beta 0.4, D = 7", beta=0.4, dim=7), extreme("beta 30", beta=30.0)),
    mutations={"log odds beta m": {"twin_beta": 0.5}},
)
register_row(
    "dot_spin_real",
    title="dot product on spins, real memories: weights by Z",
    statement="as C18.dot_spin for real memories: pi_k prop. to prod cosh(beta m_ki)",
    latex=r"\pi_k \propto \prod_i \cosh(\beta m_{ki})",
    constant="Z = prod 2 cosh(beta m_i)",
    domain="spin",
    real_memories=True,
    row=partial(twin, "dot", domain="spin"),
    scores=of_similarity("dot"),
    measure=partial(over_corners, low=-1.0, score=dot),
    uniform=False,
    cases=(ordinary("plain", dim=5), ordinary("beta 0.4, D = 7", beta=0.4, dim=7), extreme("beta 30", beta=30.0)),
)
register_row(
    "dot_binary",
    title="dot product on bits: Bernoulli, log odds beta m",
    statement="softmax(beta m . q) = posterior of Bernoulli(logit beta m_i) on {0,1}^D, pi_k prop. to Z",
    latex=r"Z = \prod_i (1 + e^{\beta m_i})",
    constant="Z = prod (1 + e^(beta m_i)); uniform weights iff all memories have as many ones",
    domain="binary",
    row=partial(twin, "dot", domain="binary"),
    scores=of_similarity("dot"),
    measure=partial(over_corners, low=0.0, score=dot),
    uniform=False,
    cases=(ordinary("plain", dim=5), ordinary("beta 0.4, D = 7", beta=0.4, dim=7), extreme("beta 30", beta=30.0)),
    mutations={"log odds 2 beta m": {"twin_beta": 2.0}},
)
register_row(
    "cosine",
    title="cosine on the sphere: von Mises-Fisher, one kappa",
    statement="softmax(beta cos) = posterior of vMF(m/|m|, beta), uniform pi; on R^D none without a law of the length",
    latex=r"Z = 1 / C_D(\beta)",
    constant="Z = 1 / C_D(beta), uniform weights",
    domain="sphere",
    cases=(ordinary("plain"), ordinary("beta 0.4, D = 5", beta=0.4, dim=5), extreme("beta 300", beta=300.0)),
    row=partial(twin, "cosine", domain="sphere"),
    scores=of_similarity("cosine"),
    measure=partial(circles, unit=True),
    uniform=True,
    mutations={"kappa beta |m|": {"row": partial(twin, "dot", domain="sphere")}},
)
register_row(
    "hamming",
    title="Hamming distance: bits flipped independently",
    statement="softmax(-beta d_H) = posterior of memories whose bits flip with probability 1/(1+e^beta), uniform pi",
    latex=r"Z = (1 + e^{-\beta})^D",
    constant="Z = (1 + e^(-beta))^D, uniform weights",
    domain="binary",
    row=partial(twin, "hamming", domain="binary"),
    scores=of_similarity("hamming"),
    measure=partial(over_corners, low=0.0, score=hamming),
    uniform=True,
    cases=(ordinary("plain", dim=5), ordinary("beta 0.4, D = 7", beta=0.4, dim=7), extreme("beta 30", beta=30.0)),
)
register_row(
    "kl",
    title="KL(q || m) of frequencies: multinomials",
    statement="q = c/beta, counts c of total beta: softmax(-beta KL(q||m)) = posterior of Multinomial(beta, m)",
    latex=r"e^{-\beta\,\mathrm{KL}(q\Vert m)} = e^{\beta H(q)} \prod_i m_i^{c_i},\ \sum_c \tbinom{\beta}{c} m^c = 1",
    constant="Z = 1 with respect to the multinomial coefficients; the entropy of q cancels",
    domain="counts",
    row=partial(twin, "kl", domain="counts"),
    scores=of_similarity("kl"),
    measure=over_counts,
    uniform=True,
    is_density=False,
    cases=(ordinary("beta 6", beta=6.0), ordinary("beta 4, D = 4", beta=4.0, dim=4), extreme("beta 40", beta=40.0)),
    common={"beta doubled": {"sign": 2.0}, "sign flipped": {"sign": -1.0}},
    mutations={"squared distance": {"scores": of_similarity("squared euclidean")}},
)
register_row(
    "reverse_kl",
    title="KL(m || q): Dirichlet laws",
    statement="softmax(-beta KL(m||q)) = posterior of Dirichlet(1 + beta m), pi_k prop. to Z",
    latex=r"Z = e^{-\beta\sum_i m_i \log m_i} \prod_i \Gamma(1 + \beta m_i) / \Gamma(D + \beta)",
    constant="Z = exp(-beta sum m log m) prod Gamma(1 + beta m_i) / Gamma(D + beta)",
    domain="simplex",
    row=partial(twin, "reverse kl", domain="simplex"),
    scores=of_similarity("reverse kl"),
    measure=partial(over_simplex, score=reverse),
    uniform=False,
    cases=(ordinary("plain"), ordinary("beta 9.5", beta=9.5), extreme("beta 60", beta=60.0)),
)
register_row(
    "jeffreys",
    title="Jeffreys' divergence: normalisable, numerically",
    statement="softmax(-beta J(q, m)): density exp(-beta J)/Z on the simplex, Z depends on m and has no closed form",
    latex=r"Z(m) = \int_\Delta e^{-\beta[\mathrm{KL}(q\Vert m) + \mathrm{KL}(m\Vert q)]}\,dq",
    constant="Z by two quadratures: Gauss-Legendre after a smooth step, and tanh-sinh",
    domain="simplex",
    row=partial(twin, "jeffreys", domain="simplex"),
    scores=of_similarity("jeffreys"),
    measure=partial(over_simplex, score=jeffreys),
    uniform=False,
    cases=(ordinary("plain"), ordinary("beta 9.5", beta=9.5)),
    tolerance=1e-10,
)
register_row(
    "jensen_shannon",
    title="Jensen-Shannon divergence: normalisable, numerically",
    statement="softmax(-beta JS(q, m)): density exp(-beta JS)/Z on the simplex, Z depends on m and has no closed form",
    latex=r"Z(m) = \int_\Delta e^{-\beta\,\mathrm{JS}(q, m)}\,dq",
    constant="Z by two quadratures: Gauss-Legendre after a smooth step, and tanh-sinh",
    domain="simplex",
    row=partial(twin, "jensen-shannon", domain="simplex"),
    scores=of_similarity("jensen-shannon"),
    measure=partial(over_simplex, score=jensen_shannon),
    uniform=False,
    cases=(ordinary("plain", beta=5.0), ordinary("beta 30", beta=30.0)),
    tolerance=1e-10,
)
register_row(
    "normdot",
    title="normalised dot product: log-linear laws on the simplex",
    statement="softmax(beta m . q) on the simplex: density e^(beta m.q)/Z, Z = sum_i e^(beta m_i)/prod beta(m_i - m_j)",
    latex=r"Z = \sum_i e^{\beta m_i} / \prod_{j\ne i} \beta(m_i - m_j)",
    constant="Z = divided difference of exp at beta m_1, ..., beta m_D",
    domain="simplex",
    row=partial(twin, "normalised dot", domain="simplex"),
    scores=of_similarity("normalised dot"),
    measure=partial(over_simplex, score=dot),
    uniform=False,
    cases=(ordinary("plain"), ordinary("beta 9.5", beta=9.5), extreme("beta 60", beta=60.0)),
)
