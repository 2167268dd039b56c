"""Claim C9: which similarities and separations have an energy, and which energy it is.

Physics: :func:`probam.energies.two_layer.similarity_energy` and :mod:`probam.energies.clam`. Statistics: NumPyro's
Gaussian mixtures. Derivatives by autodiff stand against formulas written out.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from probam.claims.claim import Piece, excess, extreme, ordinary, register, relative_error
from probam.claims.inputs import Floats, generator, unit_rows
from probam.claims.mixtures.gaussian import gaussian_mixture, log_density, uniform_bank
from probam.energies import clam, two_layer
from probam.energies.lagrangians import LogSumExp, Quadratic
from probam.energies.two_layer import Network

__all__: list[str] = []

_MILLIDGE = "Millidge et al. (2022), Universal Hopfield Networks"


def _dot(v: Array, memories: Array) -> Array:
    return v @ memories.T


def _half_square(v: Array, memories: Array) -> Array:
    return -jnp.sum((v[..., None, :] - memories) ** 2, axis=-1) / 2


def _manhattan(v: Array, memories: Array) -> Array:
    return -jnp.sum(jnp.abs(v[..., None, :] - memories), axis=-1)


def _rest_energy(score: Callable[[Array, Array], Array], v: Array, memories: Array, beta: Array) -> Array:
    """Physics: linear features and a softmax at rest under the scores."""
    network = Network(memories, Quadratic(), LogSumExp(beta))
    return two_layer.similarity_energy(v, score(v, memories), lambda x: score(x, memories), network)


def _pulls(memories: Array, shares: list[Array], v: Array) -> list[Array]:
    """sum_k f_k dS_k/dv of the three scores, written out."""
    difference = memories - v[:, None]
    by_dot, by_square, by_manhattan = shares
    return [
        by_dot @ memories,
        jnp.einsum("nk,nkd->nd", by_square, difference),
        jnp.einsum("nk,nkd->nd", by_manhattan, jnp.sign(difference)),
    ]


def _reads(memories: Array, shares: list[Array], _v: Array) -> list[Array]:
    """The read-out M^T f, whatever the score."""
    return [share @ memories for share in shares]


@register(
    id="C9.stationary",
    source=f"{_MILLIDGE}, Eqs. 4 and 8, 'for any associative memory model'",
    title="states at rest are read-outs for dot products only",
    statement=(
        "with L_v = |v|^2/2, grad E = v - sum_k f_k dS_k/dv, which is v - M^T f for the dot product only; "
        "Euclidean, K = 1: the minimum is M/2"
    ),
    latex=(
        r"\nabla E = v - \sum_k f_k\,\partial_v S_k,\quad S = -\tfrac12\lVert M - v\rVert^2,\ K = 1:"
        r"\ \arg\min E = \tfrac12 M"
    ),
    printed_statement="an energy and dynamics that retrieve M^T f, for any similarity",
    verdict="WRONG",
    relation="equal",
    constant="none",
    inputs=uniform_bank,
    cases=(ordinary("plain"), extreme("beta 1e-6", beta=1e-6), extreme("beta 1e6", beta=1e6)),
    tolerance=1e-10,
    exact={"pulls": _pulls, "factor": 1.0, "rest": 0.5},
    printed={"pulls": _reads},
    printed_exceeds=0.1,
    mutations={"beta doubled": {"factor": 2.0}, "the minimum at M": {"rest": 1.0}},
)
def stationary_states_follow_the_slope_of_the_score(
    queries: Array, memories: Array, beta: Array, *, pulls: Callable[..., list[Array]], factor: float, rest: float
) -> Array:
    """Autodiff of the energy at rest for three scores against slopes written out; the minimum of one memory."""
    scores = (_dot, _half_square, _manhattan)
    shares = [jax.nn.softmax(factor * beta * score(queries, memories), axis=-1) for score in scores]
    errors = []
    for score, pull in zip(scores, pulls(memories, shares, queries), strict=True):
        slope = jax.grad(lambda v, score=score: jnp.sum(_rest_energy(score, v, memories, beta)))(queries)
        errors.append(relative_error(slope, queries - pull, jnp.max(jnp.abs(memories))))
    alone = memories[:1]
    at_rest = jax.grad(lambda v: _rest_energy(_half_square, v, alone, beta))(rest * alone[0])
    errors.append(jnp.max(jnp.abs(at_rest)) / jnp.max(jnp.abs(alone)))
    return jnp.max(jnp.stack(errors))


@register(
    id="C9.distance",
    source=f"{_MILLIDGE}, Eqs. 4 and 8, 'for any associative memory model'",
    title="for distances, drop the square: CLAM",
    statement="S = -|M - v|^2: -L_h(S(v)) = E_CLAM(v) = -(1/beta) log p(v) + const, with the memories as minima",
    latex=r"-L_h(S(v)) = E_{\rm CLAM}(v) = -\tfrac1\beta\log p(v) + \text{const}",
    printed_statement="|v|^2 / 2 - int sep(sim)",
    verdict="WRONG",
    relation="affine",
    constant="free",
    inputs=uniform_bank,
    cases=(ordinary("plain"), extreme("beta 1e-6", beta=1e-6), extreme("beta 1e6", beta=1e6)),
    tolerance=1e-12,
    exact={"square": 0.0, "sign": 1.0, "variance": lambda beta: 1 / (2 * beta)},
    printed={"square": 0.5},
    printed_exceeds=0.05,
    mutations={"beta doubled": {"variance": lambda beta: 1 / (4 * beta)}, "sign flipped": {"sign": -1.0}},
)
def distances_need_no_square(
    queries: Array, memories: Array, beta: Array, *, square: float, sign: float, variance: Piece
) -> Array:
    """Minus the hidden Lagrangian of the scores against CLAM's energy and NumPyro's mixture."""
    computed = -sign * LogSumExp(beta)(2 * _half_square(queries, memories))
    computed = beta * (computed + square * jnp.sum(queries**2, axis=-1))
    physics = beta * clam.energy(queries, memories, beta)
    log_p = log_density(gaussian_mixture(memories, jnp.ones(len(memories)), variance(beta)), queries)
    return jnp.maximum(
        relative_error(computed, physics), relative_error(computed - computed[0], log_p[0] - log_p, jnp.abs(computed))
    )


def _far_apart(key: jax.Array, *, beta: float = 4.0, num_memories: int = 4, dim: int = 5) -> dict[str, Floats]:
    draw = generator(key)
    frame = np.linalg.qr(draw.normal(size=(dim, dim)))[0][:num_memories]
    return {
        "queries": draw.normal(size=(6, dim)),
        "memories": 3 * frame + 0.1 * unit_rows(draw.normal(size=(num_memories, dim))),
        "beta": np.asarray(beta),
    }


@register(
    id="C9.repellers",
    source=f"{_MILLIDGE}, Tables 2 and 3 read literally",
    title="the literal tables make memories repellers",
    statement=(
        "sim = +|M - v|^2, sep = softmax(-beta sim): E = |v|^2/2 - E_CLAM = |v|^2/2 + (1/beta) log p + const; "
        "Hess E = -I + 4 beta Cov_r(mu), negative definite at separated memories"
    ),
    latex=r"E = \tfrac12\lVert v\rVert^2 - E_{\rm CLAM},\qquad \nabla^2 E = -I + 4\beta\,\mathrm{Cov}_r(\mu)",
    printed_statement="memories are minima of the energy for sim = sum (M - q)^2 and sep = softmax(-beta x)",
    verdict="WRONG",
    relation="affine",
    constant="free",
    inputs=_far_apart,
    cases=(ordinary("plain"), ordinary("beta 1", beta=1.0), extreme("beta 1e4", beta=1e4)),
    tolerance=1e-10,
    exact={"sign": -1.0, "factor": 1.0, "square": 0.5},
    printed={"sign": 1.0},
    printed_exceeds=0.3,
    mutations={"beta doubled": {"factor": 2.0}, "square doubled": {"square": 1.0}},
)
def literal_tables_repel(
    queries: Array, memories: Array, beta: Array, *, sign: float, factor: float, square: float
) -> Array:
    """The literal energy (L_h(h) = -lse(-beta h)/beta) against NumPyro's mixture; its curvature at the memories."""

    def literal(v: Array) -> Array:
        scores = -2 * _half_square(v, memories)
        return jnp.sum(v**2, axis=-1) / 2 + LogSumExp(beta)(-scores)

    mixture = gaussian_mixture(memories, jnp.ones(len(memories)), 1 / (2 * factor * beta))

    def expected(v: Array) -> Array:
        return square * jnp.sum(v**2, axis=-1) - sign * log_density(mixture, v) / beta

    computed, wanted = literal(queries), expected(queries)
    values = relative_error(computed - computed[0], wanted - wanted[0], jnp.abs(computed))
    hessians = [jax.vmap(jax.hessian(function))(memories) for function in (literal, expected)]
    curvature = relative_error(*hessians)
    steepest = excess(jnp.linalg.eigvalsh(hessians[0]), -0.5)
    return jnp.maximum(values, jnp.maximum(curvature, steepest))


def _exp(beta: Array) -> Callable[[Array], Array]:
    return lambda s: jnp.exp(beta * s)


_SEPARATIONS: dict[str, Callable[[Array], Array]] = {
    "square": lambda s: s**2,
    "fourth power": lambda s: s**4,
    "logistic": jax.nn.sigmoid,
    "cosh": jnp.cosh,
}


def _scores(key: jax.Array, *, beta: float = 1.3, num_memories: int = 4) -> dict[str, Floats]:
    return {"scores": generator(key).uniform(0.2, 2.0, size=(3, num_memories)), "beta": np.asarray(beta)}


def _asymmetry(f: Callable[[Array], Array], scores: Array) -> Array:
    """J - J^T of the normalised separation f(s_i) / sum_j f(s_j), by autodiff."""

    def normalised(s: Array) -> Array:
        values = f(s)
        return values / jnp.sum(values)

    jacobian: Array = jax.vmap(jax.jacfwd(normalised))(scores)
    return jacobian - jnp.swapaxes(jacobian, -1, -2)


def _by_ratio(f: Callable[[Array], Array], scores: Array) -> Array:
    """(f_i' f_j - f_i f_j') F^-2 [J - J^T]_ij with the derivatives f'."""
    slope: Array = jax.vmap(jax.vmap(jax.grad(f)))(scores)
    value = f(scores)
    product = value[..., :, None] * slope[..., None, :]
    return (jnp.swapaxes(product, -1, -2) - product) / jnp.sum(value, axis=-1)[:, None, None] ** 2


@register(
    id="C9.softmax",
    source=f"{_MILLIDGE}, Sec. 2, 'energy and dynamics for any associative memory model'",
    title="softmax: the only normalised one with an energy",
    statement=(
        "J - J^T of f(s_i)/sum f(s_j) is (f_i' f_j - f_i f_j') / F^2, F = sum f: zero for all s iff f'/f is constant, "
        "f = exp(beta s); otherwise no Lagrangian has these activations"
    ),
    latex=r"J_{ij} - J_{ji} = \frac{f_j f_i' - f_i f_j'}{(\sum_k f_k)^2} = 0\ \forall s \iff f = e^{\beta s}",
    printed_statement="L_h = int sep(h) dh for any separation",
    verdict="WRONG",
    relation="equal",
    constant="1 / F^2",
    inputs=_scores,
    cases=(ordinary("plain"), extreme("K = 2", num_memories=2), extreme("beta 30", beta=30.0)),
    tolerance=1e-12,
    exact={"separation": _exp, "closed": _by_ratio},
    printed={"separation": lambda _beta: _SEPARATIONS["square"]},
    printed_exceeds=1e-2,
    mutations={
        "cosh for exp": {"separation": lambda beta: lambda s: jnp.cosh(beta * s)},
        "sign flipped": {"closed": lambda f, s: -_by_ratio(f, s)},
        "normaliser dropped": {"closed": lambda f, s: _by_ratio(f, s) * jnp.sum(f(s), axis=-1)[:, None, None]},
    },
)
def only_softmax_has_a_symmetric_jacobian(
    scores: Array, beta: Array, *, separation: Callable[[Any], Callable[[Array], Array]], closed: Piece
) -> Array:
    """Asymmetry of exp, of the physics' softmax, and of four other separations, each against its closed form."""
    physics = jax.vmap(jax.jacfwd(LogSumExp(beta).activation))(scores)
    errors = [
        jnp.max(jnp.abs(_asymmetry(separation(beta), scores))),
        jnp.max(jnp.abs(physics - jnp.swapaxes(physics, -1, -2))) / beta,
    ]
    for f in _SEPARATIONS.values():
        asymmetry = _asymmetry(f, scores)
        errors.append(relative_error(asymmetry, closed(f, scores)))
        errors.append(jnp.where(jnp.max(jnp.abs(asymmetry)) > 1e-5, 0.0, 1.0))
    return jnp.max(jnp.stack(errors))
