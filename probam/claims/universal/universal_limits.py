"""Claims C13 and C14: what Appendix E's normalised scores do, in the limit of an exact match and as a posterior.

Physics: :mod:`probam.energies.universal`. Statistics: NumPyro's normal mixtures and the multivariate Student-t.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array

from probam.claims.claim import Piece, excess, extreme, ordinary, register, relative_error
from probam.claims.inputs import Floats, generator
from probam.claims.mixtures.gaussian import uniform_bank
from probam.claims.universal.universal import MILLIDGE, key_mixture
from probam.energies import separations, universal
from probam.energies.separations import Identity, Log, Max, Polynomial, Separation, Softmax, sum_to_one

__all__: list[str] = []

_LOG, _CUBE = Log(), Polynomial(3)
_E = f"{MILLIDGE}, Appendix E"


def _near(key: jax.Array, *, distance: float = 1e-7, copies: int = 1, num_memories: int = 5) -> dict[str, Floats]:
    """Memories of which the first ``copies`` are equal, and a query at ``distance`` from them (Manhattan)."""
    draw = generator(key)
    memories = draw.normal(size=(num_memories, 3))
    memories[1:copies] = memories[0]
    direction = draw.normal(size=3)
    query = memories[0] + distance * direction / np.abs(direction).sum()
    return {"memories": memories, "query": query, "distance": np.asarray(distance), "copies": np.asarray(float(copies))}


def _literal_reciprocals(distances: Array) -> Array:
    return (1 / distances) / jnp.sum(1 / distances, axis=-1, keepdims=True)


@register(
    id="C13.a",
    source=f"{_E}, reciprocal distances",
    title="an exact match has weight 1, shared by its copies",
    statement=(
        "d^-1 / sum d^-1 is inf/inf at a memory; its limit is one-hot, shared by c equal memories, and is approached "
        "as sum_j d / d_j over the others: at d = 0 exactly, and within that bound at d > 0"
    ),
    latex=r"w_k \to \tfrac1c [d_k = 0],\qquad \sum_{j: d_j > 0} w_j \le \frac{d}{c} \sum_{j} \frac{1}{d_j - d}",
    printed_statement="normalised reciprocals of the distances",
    verdict="ILL",
    relation="limit",
    constant="1 / c for c equal memories",
    inputs=_near,
    cases=(
        ordinary("at a memory", distance=0.0),
        ordinary("at two copies", distance=0.0, copies=2),
        ordinary("beside it", distance=1e-3),
        ordinary("beside two copies", distance=1e-3, copies=2),
        extreme("at 1e-300", distance=1e-300),
        extreme("all are copies", distance=0.0, copies=5),
    ),
    tolerance=1e-12,
    exact={"shares": universal.reciprocal_shares},
    printed={"shares": _literal_reciprocals},
    printed_exceeds=1.0,
    mutations={
        "first copy takes all": {"shares": lambda d: Max()(-d - 1e-6 * jnp.arange(d.shape[-1]))},
        "floor of 0.1 on distances": {"shares": lambda d: _literal_reciprocals(jnp.maximum(d, 0.1))},
    },
)
def exact_matches_share_the_whole(
    memories: Array, query: Array, distance: Array, copies: Array, *, shares: Piece
) -> Array:
    """Shares of the copies against 1/c, and of the others against their bound."""
    computed = shares(jnp.sum(jnp.abs(memories - query), axis=-1))
    is_copy = jnp.all(memories == memories[0], axis=-1)
    others = jnp.sum(jnp.abs(memories - memories[0]), axis=-1) - distance
    bound = distance / copies * jnp.sum(jnp.where(is_copy, 0, 1 / jnp.where(is_copy, 1, others)))
    short = jnp.where(is_copy, 1 / copies - computed, 0)
    spread = relative_error(jnp.where(is_copy, computed, computed[0]), computed[0])
    lost = jnp.sum(jnp.where(is_copy, 0, computed))
    return jnp.stack([spread, excess(lost, bound, 1.0), excess(short, bound / copies, 1.0)])


def _scores(key: jax.Array, *, num_queries: int = 6, num_memories: int = 5, sharp: float = 1.0) -> dict[str, Floats]:
    """Scores that are positive and sum to one."""
    return {"scores": generator(key).dirichlet(np.full(num_memories, 1 / sharp), size=num_queries) + 0.0}


@register(
    id="C13.b",
    source=f"{_E} and Table 3, log",
    title="log separation reverses the ranking",
    statement="of scores below 1, log s_k / sum log s_j falls with s_k: the least alike memory weighs most",
    latex=r"s_i < s_j < 1 \implies \frac{\log s_i}{\sum\log s} > \frac{\log s_j}{\sum\log s}",
    printed_statement="log among the separation functions, larger scores for the more alike",
    verdict="WRONG",
    relation="count",
    constant="none",
    inputs=_scores,
    cases=(ordinary("5 memories"), extreme("nearly one-hot", sharp=3.0), extreme("nearly equal", sharp=1e-3)),
    tolerance=0.0,
    exact={"separation": _LOG, "order": -1.0, "scale": 1.0},
    printed={"order": 1.0},
    printed_exceeds=1.0,
    mutations={
        "identity": {"separation": Identity()},
        "softmax": {"separation": Softmax(3.0)},
        "scores above one": {"scale": 1e9},
    },
)
def log_shares_fall_with_the_score(scores: Array, *, separation: Separation, order: float, scale: float) -> Array:
    """Pairs of memories whose weights do not stand in the stated order, over all queries."""
    share = separation.shares(scale * scores)
    rises = jnp.sign(scores[:, :, None] - scores[:, None, :])
    follows = jnp.sign(share[:, :, None] - share[:, None, :])
    return jnp.sum(jnp.where(rises != 0, follows != order * rises, False)).astype(float)


@register(
    id="C13.c",
    source=f"{_E}, identity, square and polynomial",
    title="powers of reciprocal scores are Shepard weights",
    statement="the inner normalisation cancels: w_k = d_k^-p / sum_j d_j^-p, p = n for d, 2n for d^2; no scale is left",
    latex=r"w_k = d_k^{-p} / \textstyle\sum_j d_j^{-p}",
    printed_statement="scores normalised 'to make a fair comparison' of scales",
    verdict="EXACT",
    relation="equal",
    constant="none: the scale of the data cancels",
    inputs=uniform_bank,
    cases=(
        ordinary("plain"),
        extreme("offset 1e6", offset=1e6, tolerance=1e-8),
        extreme("one memory 1e6 away", far=1e6),
        extreme("duplicate memories", duplicates=True),
        extreme("queries at 1e8", query_radius=1e8),
        extreme("K = 1, D = 1", num_memories=1, dim=1),
    ),
    tolerance=1e-12,
    exact={"kind": "manhattan", "power": 3, "separation": _CUBE.shares, "inverse": -1.0},
    mutations={
        "one power less": {"power": 2},
        "squared distances": {"kind": "squared euclidean"},
        "normaliser dropped": {"separation": lambda scores: scores**3},
        "scores not inverted": {"inverse": 1.0},
    },
)
def reciprocal_powers_are_shepard_weights(
    queries: Array, memories: Array, beta: Array, *, kind: str, power: int, separation: Piece, inverse: float
) -> Array:
    """Appendix E's cubic weights against powers of the distances themselves, in logs."""
    share = separation(universal.normalised_scores(queries, memories, kind))
    distances = jnp.sum(jnp.abs(queries[:, None, :] - memories), axis=-1)
    del beta
    return relative_error(share, jax.nn.softmax(inverse * power * jnp.log(distances), axis=-1))


def _matched(key: jax.Array, *, num_memories: int = 100, beta: float = 1.0) -> dict[str, Floats]:
    memories = generator(key).normal(size=(num_memories, 3))
    return {"memories": memories, "beta": np.asarray(beta)}


@register(
    id="C13.d",
    source=f"{_E} and Sec. 5.2, 'the softmax performs relatively poorly'",
    title="normalised softmax cannot get near one-hot at beta 1",
    statement=(
        "weights of normalised scores are at most e^beta/(e^beta + K - 1), attained at an exact match: .0267 at "
        "K = 100, beta = 1; one-hot within eps needs beta >= log((K - 1)(1 - eps)/eps)"
    ),
    latex=r"\max_k w_k \le \frac{e^\beta}{e^\beta + K - 1}",
    printed_statement="softmax separation compared with others at beta = 1",
    verdict="COND",
    relation="at most",
    constant="e^beta / (e^beta + K - 1)",
    inputs=_matched,
    cases=(
        ordinary("K = 100, beta 1"),
        ordinary("K = 100, beta 10", beta=10.0),
        extreme("K = 100, beta 1e-6", beta=1e-6),
        extreme("K = 100, beta 100", beta=100.0),
        extreme("K = 1", num_memories=1),
    ),
    tolerance=1e-12,
    exact={"others": lambda K: K - 1, "inverse_temperature": lambda beta: beta, "normalised": True, "matched": 1.0},
    mutations={
        "K for K - 1": {"others": lambda K: K},
        "beta doubled": {"inverse_temperature": lambda beta: 2 * beta},
        "natural scores": {"normalised": False},
        "not attained": {"matched": 0.5},
    },
)
def normalised_softmax_has_a_largest_weight(
    memories: Array,
    beta: Array,
    *,
    others: Callable[[float], float],
    inverse_temperature: Piece,
    normalised: bool,
    matched: float,
) -> Array:
    """Excess over the bound at and between memories, distance from it at a match, and the beta that eps needs."""
    queries = jnp.concatenate([memories[:2] * matched, (memories[:2] + memories[-2:]) / 2])
    separation = Softmax(inverse_temperature(beta))
    computed = jnp.max(universal.weights(queries, memories, "manhattan", separation, normalised=normalised), axis=-1)
    rest = others(float(len(memories)))
    largest = 1 / (1 + rest * jnp.exp(-beta))
    needed = Softmax(jnp.log(max(rest, 1.0) * 0.99 / 0.01)).shares(jnp.eye(len(memories))[0])[0]
    reached = relative_error(needed, 0.99) if len(memories) > 1 else jnp.asarray(0.0)
    return jnp.stack([excess(computed, largest, largest), relative_error(computed[0], largest), reached])


def _printed_separation(scores: Array, beta: float | Array) -> Array:
    return separations.PRINTED["softmax"](scores, beta)


@register(
    id="C13.e",
    source=f"{_E} against Table 3, softmax",
    title="exp(-beta x) is for distances, exp(+beta s) for scores",
    statement=(
        "Table 3 on raw squared distances is the posterior of equal Gaussians; on Appendix E's scores only e^{+beta s} "
        "puts the largest weight on that posterior's mode"
    ),
    latex=r"\operatorname{softmax}(-\beta d^2) = p(k \mid q),\qquad "
    r"\arg\max_k \operatorname{softmax}(+\beta s)_k = \arg\max_k p(k \mid q)",
    printed_statement="e^{-beta x} / sum e^{-beta x}, with scores that are larger for the more alike",
    verdict="WRONG",
    relation="equal",
    constant="sign of beta",
    inputs=uniform_bank,
    cases=(
        ordinary("plain"),
        ordinary("beta 0.3", beta=0.3),
        extreme("beta 1e-6", beta=1e-6),
        extreme("beta 1e6", beta=1e6, tolerance=1e-8),
        extreme("one memory 1e6 away", far=1e6, tolerance=1e-4),
    ),
    tolerance=1e-12,
    exact={"on_scores": lambda scores, beta: Softmax(beta)(scores), "on_distances": _printed_separation},
    printed={"on_scores": _printed_separation},
    printed_exceeds=0.5,
    mutations={
        "sign flipped on distances": {"on_distances": lambda d, beta: _printed_separation(-d, beta)},
        "beta doubled": {"on_distances": lambda d, beta: _printed_separation(2 * d, beta)},
        "distance not squared": {"on_distances": lambda d, beta: _printed_separation(jnp.sqrt(d), beta)},
    },
)
def sign_of_the_softmax_depends_on_what_it_is_given(
    queries: Array, memories: Array, beta: Array, *, on_scores: Piece, on_distances: Piece
) -> Array:
    """Table 3 on distances against the twin's posterior; share of queries whose largest weight is off its mode."""
    posterior = key_mixture(memories, beta).responsibilities(queries)
    distances = -universal.scores(queries, memories, "squared euclidean")
    literal = relative_error(on_distances(distances, beta), posterior)
    weights = on_scores(universal.normalised_scores(queries, memories, "squared euclidean"), 50.0)
    off = jnp.mean(jnp.argmax(weights, axis=-1) != jnp.argmin(distances, axis=-1))
    return jnp.maximum(literal, off)


def _changed_third(key: jax.Array, *, beta: float = 1.7, distance: float = 1.0) -> dict[str, Floats]:
    """Queries, two memories, and two choices of a third one."""
    draw = generator(key)
    rows = draw.uniform(0.1, 1.0, size=(8, 3))
    return {
        "queries": rows[:4],
        "pair": rows[4:6],
        "thirds": rows[6:] * np.array([[1.0], [distance]]),
        "beta": np.asarray(beta),
    }


def _natural(queries: Array, memories: Array, beta: Array) -> Array:
    return universal.weights(queries, memories, "squared euclidean", Softmax(beta))


def _appendix(kind: str, separation: Callable[[Array], Separation]) -> Callable[..., Array]:
    return lambda queries, memories, beta: universal.weights(queries, memories, kind, separation(beta), normalised=True)


@register(
    id="C14.odds",
    source=_E,
    title="no mixture has the posterior of normalised softmax",
    statement=(
        "the odds r_1 / r_2 of any mixture do not depend on its other memories; those of natural scores keep this (and "
        "are the twin's), those of sum-normalised softmax and log change with a third memory"
    ),
    latex=r"\frac{r_1}{r_2} = \frac{\pi_1 p(q \mid m_1)}{\pi_2 p(q \mid m_2)} \text{ for every } m_3",
    printed_statement="softmax separation of normalised scores, read as attention",
    verdict="NONE",
    relation="equal",
    constant="none",
    inputs=_changed_third,
    cases=(
        ordinary("plain"),
        ordinary("third one far", distance=10.0),
        extreme("beta 1e-3", beta=1e-3, tolerance=1e-10),
        extreme("beta 100", beta=100.0, tolerance=1e-10),
    ),
    tolerance=1e-12,
    exact={"weights": _natural},
    printed={"weights": _appendix("squared euclidean", Softmax)},
    printed_exceeds=1e-2,
    mutations={
        "Appendix E, dot product": {"weights": _appendix("normalised dot", Softmax)},
        "Appendix E, Manhattan": {"weights": _appendix("manhattan", Softmax)},
        "Appendix E, log": {"weights": _appendix("squared euclidean", lambda _beta: Log())},
        "beta doubled": {"weights": lambda q, M, beta: _natural(q, M, 2 * beta)},
    },
)
def odds_do_not_depend_on_a_third_memory(
    queries: Array, pair: Array, thirds: Array, beta: Array, *, weights: Piece
) -> Array:
    """Log odds of two memories beside either third one, and against the Gaussian twin's."""
    banks = [jnp.concatenate([pair, thirds[n : n + 1]]) for n in range(2)]
    shares = [weights(queries, bank, beta) for bank in banks]
    first, second = (jnp.log(share[:, 0]) - jnp.log(share[:, 1]) for share in shares)
    log_joint = key_mixture(pair, beta).log_joint(queries)
    twin = log_joint[:, 0] - log_joint[:, 1]
    return jnp.maximum(relative_error(first, second), relative_error(first, twin))


def _radial(key: jax.Array, *, dim: int = 3, power: int = 2) -> dict[str, Floats]:
    direction = generator(key).normal(size=dim)
    return {"direction": direction / np.abs(direction).sum(), "power": np.asarray(float(power))}


def _kernel(direction: Array, radii: Array, power: Array) -> Array:
    """Weight of a memory at the origin over that of a memory that stays at distance one, at distances r."""

    def ratio(r: Array) -> Array:
        query = jnp.append(r * direction, 0.0)
        bank = jnp.stack([jnp.zeros_like(query), query.at[-1].set(1.0)])
        share = sum_to_one(universal.normalised_scores(query, bank, "manhattan") ** power)
        return share[0] / share[1]

    return jax.vmap(ratio)(radii)


@register(
    id="C14.tails",
    source=f"{_E}, identity and polynomial",
    title="reciprocal distances are no density in any dimension",
    statement=(
        "the component d^-p is homogeneous: the mass of the shell 2r..4r is 2^(D-p) times that of r..2r, so that the "
        "inner shells diverge for p >= D and the outer ones for p <= D"
    ),
    latex=r"\int_{2r}^{4r} \rho^{D-1-p}\,d\rho = 2^{D-p} \int_r^{2r} \rho^{D-1-p}\,d\rho",
    printed_statement="reciprocal distances as scores",
    verdict="NONE",
    relation="equal",
    constant="2^(D - p)",
    inputs=_radial,
    cases=(
        ordinary("p = 2 < D = 3"),
        ordinary("p = 3 = D", power=3),
        ordinary("p = 5 > D = 3", power=5),
        extreme("p = 1, D = 64", dim=64, power=1),
        extreme("p = 64, D = 2", dim=2, power=64, tolerance=1e-8),
    ),
    tolerance=1e-12,
    exact={"jacobian": 0, "exponent": lambda p: p},
    mutations={
        "one dimension less": {"jacobian": -1},
        "squared distances": {"exponent": lambda p: 2 * p},
        "one power more": {"exponent": lambda p: p + 1},
    },
)
def shells_of_a_reciprocal_component_keep_their_ratio(
    direction: Array, power: Array, *, jacobian: int, exponent: Piece
) -> Array:
    """Shell masses from the network's weights by Gauss-Legendre quadrature in log r, against the power of two."""
    dim = direction.shape[0]
    nodes, weights = np.polynomial.legendre.leggauss(24)
    radii = 0.3 * np.exp(np.log(2) * (nodes + 1) / 2)
    inner, outer = (
        jnp.sum(weights * r ** (dim + jacobian) * _kernel(direction, jnp.asarray(r), power)) for r in (radii, 2 * radii)
    )
    return relative_error(outer, inner * 2.0 ** (dim - exponent(power)))


@register(
    id="C14.cousin",
    source=f"{_E}; the regularised form is derived here",
    title="regularised reciprocal distances: a Student-t mixture",
    statement=(
        "weights ∝ (1 + d^2/nu)^(-(nu + D)/2) are the posterior of equal Student-t components: d^-p with p = nu + D "
        "far away, integrable at 0"
    ),
    latex=r"w_k \propto (1 + d_k^2/\nu)^{-(\nu + D)/2} = p(k \mid q)",
    printed_statement="nothing",
    verdict="NEW",
    relation="equal",
    constant="Gamma((nu + D)/2) / (Gamma(nu/2) (nu pi)^(D/2)), the same for all memories",
    inputs=lambda key, *, nu=2.5, **settings: {**uniform_bank(key, **settings), "nu": np.asarray(nu)},
    cases=(
        ordinary("nu 2.5"),
        ordinary("nu 30", nu=30.0),
        extreme("nu 1e-3", nu=1e-3),
        extreme("queries at 1e3", query_radius=1e3, tolerance=1e-9),
        extreme("K = 1, D = 1", num_memories=1, dim=1),
    ),
    tolerance=1e-12,
    exact={
        "exponent": lambda nu, dim: (nu + dim) / 2,
        "freedom": lambda nu: nu,
        "kernel": lambda squares, nu: 1 + squares / nu,
    },
    mutations={
        "exponent nu / 2": {"exponent": lambda nu, _dim: nu / 2},
        "nu doubled": {"freedom": lambda nu: 2 * nu},
        "not regularised": {"kernel": lambda squares, nu: squares / nu},
    },
)
def student_weights_are_regularised_powers(
    queries: Array, memories: Array, beta: Array, nu: Array, *, exponent: Piece, freedom: Piece, kernel: Piece
) -> Array:
    """Shares of the network's squared distances under the kernel, against NumPyro's Student-t components."""
    dim = memories.shape[1]
    squares = -universal.scores(queries, memories, "squared euclidean")
    share = Softmax(1.0).shares(-exponent(nu, dim) * jnp.log(kernel(squares, nu)))
    bank = dist.MultivariateStudentT(freedom(nu), memories, jnp.eye(dim))
    log_p = bank.log_prob(queries[:, None])
    del beta
    return relative_error(share, jax.nn.softmax(log_p, axis=-1))
