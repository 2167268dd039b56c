"""Claims A8 and A9: how many attractors there are, and where they split.

Physics: the CLAM energy, its update and recall. Statistics: responsibilities and modes of NumPyro's mixtures.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Float

from probam.claims.claim import Piece, excess, extreme, ordinary, register, relative_error
from probam.claims.inputs import Floats, euclidean_bank, generator
from probam.claims.mixtures.gaussian import GRADIENT_BANKS, MUTED, gaussian_mixture, log_density, log_density_gradient
from probam.distributions.mixture import MemoryMixture
from probam.dynamics.recall import recall
from probam.energies import clam

__all__ = ["CORNER_WELLS", "memory_covariance"]

CORNER_WELLS = 0.915214525577574799
"""beta R^2 at which wells appear at the corners of a triangle: t = m(t), 1 = m'(t) on the axis to a corner, where
m(t) = (3/2) / (1 + 2 exp(-3 b t)) - 1/2 (solved to 30 digits with mpmath; t = 0.37720)."""

_DERIVED = "not in the paper: derived from Eq. 1 of Schaeffer et al. (2023)"


def memory_covariance(mixture: MemoryMixture, memories: Float[Array, "K D"], x: Float[Array, "N D"]) -> Array:
    """Posterior covariance (N, D, D) of the memory given each datum."""
    resp = mixture.responsibilities(x)
    centred = memories - (resp @ memories)[:, None, :]
    return jnp.einsum("nk,nki,nkj->nij", resp, centred, centred)


def _isotropic(memories: Array, weights: Array, beta: Array) -> MemoryMixture:
    bank = dist.Normal(memories, jnp.sqrt(1 / (2 * beta))).to_event(1)
    return MemoryMixture(jnp.log(weights / jnp.sum(weights)), bank)


@register(
    id="A8.hessian",
    source=_DERIVED,
    title="curvature of the energy and Jacobian of the update",
    statement="Hess E = 2 I - 4 beta Cov_r(mu);  dm/dv = 2 beta Cov_r(mu)",
    latex=(
        r"\nabla^2 E = 2I - 4\beta \operatorname{Cov}_r(\mu),\quad \partial m / \partial v = 2\beta "
        r"\operatorname{Cov}_r(\mu)"
    ),
    printed_statement="not stated",
    verdict="NEW",
    relation="equal",
    constant="2, 4 beta",
    inputs=euclidean_bank,
    cases=(*(case for case in GRADIENT_BANKS if case.name != "queries at 1e8"), MUTED),
    tolerance=1e-10,
    tolerance_extreme=1e-9,
    exact={"scale": lambda beta: 2 * beta, "posterior_weights": lambda w: w},
    mutations={
        "beta doubled": {"scale": lambda beta: 4 * beta},
        "sign flipped": {"scale": lambda beta: -2 * beta},
        "weights left out": {"posterior_weights": jnp.ones_like},
    },
)
def curvature_is_the_posterior_covariance_of_the_memory(
    queries: Array, memories: Array, weights: Array, beta: Array, *, scale: Piece, posterior_weights: Piece
) -> Array:
    """Autodiff of the physics twice over, against the covariance from the mixture's responsibilities."""
    mixture = _isotropic(memories, posterior_weights(weights), beta)
    covariance = memory_covariance(mixture, memories, queries)
    hessian = jax.vmap(jax.hessian(lambda v: clam.energy(v, memories, beta, weights)))(queries)
    jacobian = jax.vmap(jax.jacfwd(lambda v: clam.update(v, memories, beta, weights)))(queries)
    expected = scale(beta) * covariance
    identity = jnp.eye(memories.shape[1])
    return jnp.maximum(relative_error(hessian, 2 * (identity - expected)), relative_error(jacobian, expected, identity))


def _around_the_diameter(key: jax.Array, **settings: Any) -> dict[str, Floats]:
    """Memories with their diameter; the first query is the middle of the two furthest memories."""
    drawn = euclidean_bank(key, **settings)
    memories = drawn["memories"]
    distance = np.linalg.norm(memories[:, None] - memories, axis=-1)
    i, j = np.unravel_index(np.argmax(distance), distance.shape)
    queries = np.concatenate([(memories[[i]] + memories[[j]]) / 2, drawn["queries"]])
    return {"queries": queries, "memories": memories, "diameter": np.max(distance)}


@register(
    id="A8.convex",
    source=_DERIVED,
    title="below beta = 2 / diam^2 the energy is convex and has one attractor",
    statement="beta <= 2 / diam(mu)^2 implies Hess E >= 0, and recall from anywhere ends at one point",
    latex=r"\beta \le 2 / \operatorname{diam}(\mu)^2 \implies \nabla^2 E \succeq 0",
    printed_statement="not stated",
    verdict="NEW",
    relation="at most",
    constant="2 / diam^2, tight for two memories",
    inputs=_around_the_diameter,
    cases=(ordinary("two memories", num_memories=2), ordinary("five memories", num_memories=5)),
    tolerance=1e-10,
    exact={"threshold": lambda diameter: 2 / diameter**2},
    mutations={
        "threshold doubled": {"threshold": lambda diameter: 4 / diameter**2},
        "radius for diameter": {"threshold": lambda diameter: 2 / (diameter / 2) ** 2},
    },
)
def energy_is_convex_when_it_is_warm(queries: Array, memories: Array, diameter: Array, *, threshold: Piece) -> Array:
    """Negative curvature of -(1/beta) log p at the threshold; spread of recall's limits just below it."""
    beta = threshold(diameter)
    mixture = gaussian_mixture(memories, jnp.ones(memories.shape[0]), 1 / (2 * beta))
    hessian = jax.vmap(jax.hessian(lambda v: -log_density(mixture, v) / beta))(queries)
    curvature = jnp.min(jnp.linalg.eigvalsh(hessian))
    warm = 0.9 * beta
    ended = recall(
        lambda v: clam.update(v, memories, warm),
        lambda v: clam.energy(v, memories, warm),
        queries,
        max_steps=1000,
        tolerance=1e-14,
    ).states
    return jnp.maximum(excess(0.0, curvature, 2.0), jnp.max(jnp.abs(ended - ended[-1])) / diameter)


@register(
    id="A8.pitchfork",
    source=_DERIVED,
    title="two memories separate at beta = 1 / (2 a^2)",
    statement="memories ±a: E''(0) = 2 - 4 beta a^2; attractors solve v = a tanh(2 beta a v), two iff beta > 1/(2 a^2)",
    latex=r"E''(0) = 2 - 4\beta a^2,\quad v = a \tanh(2\beta a v)",
    printed_statement="not stated",
    verdict="NEW",
    relation="equal",
    constant="1 / (2 a^2)",
    inputs=lambda key, ratio: {"a": generator(key).uniform(0.5, 2.0), "ratio": np.asarray(ratio)},
    cases=(
        ordinary("0.8 of the threshold", ratio=0.8),
        ordinary("1.2 of the threshold", ratio=1.2),
        ordinary("3 times the threshold", ratio=3.0),
        extreme("1e6 times the threshold", ratio=1e6),
    ),
    tolerance=1e-10,
    exact={"threshold": lambda a: 1 / (2 * a**2), "slope": 2.0, "curvature": lambda beta, a: 2 - 4 * beta * a**2},
    mutations={
        "threshold 1 / a^2": {"threshold": lambda a: 1 / a**2},
        "beta doubled in the fixed-point equation": {"slope": 4.0},
        "curvature's sign flipped": {"curvature": lambda beta, a: 4 * beta * a**2 - 2},
    },
)
def two_memories_part_at_the_pitchfork(
    a: Array, ratio: Array, *, threshold: Piece, slope: float, curvature: Piece
) -> Array:
    """Curvature of -(1/beta) log p at 0, then recall's limit from 0.9 a against the scalar equation and its branch."""
    beta = ratio * threshold(a)
    memories = jnp.stack([-a, a])[:, None]
    mixture = gaussian_mixture(memories, jnp.ones(2), 1 / (2 * beta))
    second = jax.grad(jax.grad(lambda v: -log_density(mixture, v[None]) / beta))(jnp.zeros(()))
    ended = recall(
        lambda v: clam.update(v, memories, beta),
        lambda v: clam.energy(v, memories, beta),
        jnp.stack([0.9 * a, -0.9 * a])[:, None],
        max_steps=2000,
        tolerance=1e-14,
    ).states[:, 0]
    parted = jnp.abs(ended[0] - ended[1]) > 1e-3 * a
    errors = jnp.stack(
        [
            relative_error(second, curvature(beta, a), 2.0),
            jnp.max(jnp.abs(ended - a * jnp.tanh(slope * beta * a * ended))) / a,
            jnp.where(parted == (ratio > 1), 0.0, 1.0),
        ]
    )
    return jnp.max(errors)


def _spread(points: Array) -> Array:
    """Number of distinct rows, to 1e-4."""
    distance = jnp.max(jnp.abs(points[:, None, :] - points[None, :, :]), axis=-1)
    is_first = jnp.sum(jnp.tril(distance < 1e-4, -1), axis=-1) == 0
    return jnp.sum(is_first)


def _modes_on_grid(memories: Array, weights: Array, beta: Array) -> Array:
    grid = jnp.linspace(jnp.min(memories) - 1, jnp.max(memories) + 1, 8001)
    log_p = log_density(gaussian_mixture(memories, weights, 1 / (2 * beta)), grid[:, None])
    return jnp.sum((log_p[1:-1] > log_p[:-2]) & (log_p[1:-1] >= log_p[2:]))


def _attractors(starts: Array, memories: Array, weights: Array, beta: Array) -> Array:
    ended = recall(
        lambda v: clam.update(v, memories, beta, weights),
        lambda v: clam.energy(v, memories, beta, weights),
        starts,
        max_steps=3000,
        tolerance=1e-12,
    ).states
    return _spread(ended)


def _on_a_line(key: jax.Array, *, beta: float) -> dict[str, Floats]:
    """Five memories about one apart, with weights over a factor of ten: one mode at small beta, five at large."""
    draw = generator(key)
    memories = np.cumsum(draw.uniform(0.8, 1.2, size=5))
    return {"memories": memories[:, None], "weights": draw.uniform(0.3, 3.0, size=5), "beta": np.asarray(beta)}


@register(
    id="A9.line",
    source=_DERIVED,
    title="on a line there are no more attractors than memories",
    statement="D = 1, equal variances, any weights: attractors = modes of p <= K",
    latex=r"D = 1:\ \#\text{attractors} = \#\text{modes}(p) \le K",
    printed_statement="not stated",
    verdict="NEW",
    relation="count",
    constant="K",
    inputs=_on_a_line,
    cases=tuple(ordinary(f"K = 5, beta {beta:g}", beta=beta) for beta in (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)),
    tolerance=0.0,
    exact={"twin_beta": lambda beta: beta, "twin_weights": lambda w: w, "most": lambda K: K},
    mutations={
        "beta of the statistics doubled": {"twin_beta": lambda beta: 2 * beta},
        "weights left out of the statistics": {"twin_weights": jnp.ones_like},
        "no more than one mode": {"most": lambda _K: 1},
    },
)
def attractors_on_a_line_are_the_modes(
    memories: Array, weights: Array, beta: Array, *, twin_beta: Piece, twin_weights: Piece, most: Callable[[int], int]
) -> Array:
    """Attractors of recall minus modes of the density, and the number by which the modes exceed K."""
    starts = jnp.linspace(jnp.min(memories) - 0.1, jnp.max(memories) + 0.1, 60)[:, None]
    num_attractors = _attractors(starts, memories, weights, beta)
    modes = _modes_on_grid(memories, twin_weights(weights), twin_beta(beta))
    return (jnp.abs(num_attractors - modes) + jnp.maximum(modes - most(memories.shape[0]), 0)).astype(float)


def _triangle(key: jax.Array, *, ratio: float) -> dict[str, Floats]:
    turn = generator(key).uniform(0, 2 * np.pi)
    angles = turn + 2 * np.pi * np.arange(3) / 3
    return {"corners": np.stack([np.cos(angles), np.sin(angles)], axis=1), "ratio": np.asarray(ratio)}


def _expected_attractors(ratio: Array) -> Array:
    return jnp.where(ratio < CORNER_WELLS, 1, jnp.where(ratio < 1.0, 4, 3))


@register(
    id="A9.triangle",
    source=_DERIVED,
    title="in the plane three memories may have four attractors",
    statement="equilateral triangle, circumradius R: 1, 4, 3 attractors for beta R^2 in (0, c), (c, 1), (1, inf)",
    latex=r"\#\text{attractors} = 1, 4, 3 \text{ for } \beta R^2 < .915215 < \beta R^2 < 1 < \beta R^2",
    printed_statement="not stated",
    verdict="NEW",
    relation="count",
    constant="c = .9152145256 and 1",
    inputs=_triangle,
    cases=tuple(ordinary(f"beta R^2 = {ratio:g}", ratio=ratio) for ratio in (0.90, 0.95, 1.05, 3.0)),
    tolerance=0.0,
    exact={"expected": _expected_attractors, "twin_ratio": lambda ratio: ratio},
    mutations={
        "at most K": {"expected": lambda ratio: jnp.minimum(_expected_attractors(ratio), 3)},
        "beta doubled": {"twin_ratio": lambda ratio: 2 * ratio},
        "beta halved": {"twin_ratio": lambda ratio: ratio / 2},
    },
)
def triangle_has_a_spurious_attractor(corners: Array, ratio: Array, *, expected: Piece, twin_ratio: Piece) -> Array:
    """Limits of recall, from starts around and inside the triangle, that are strict modes of the density."""
    weights, radius = jnp.ones(3), 2.0
    memories, beta = radius * corners, ratio / radius**2
    inside = jnp.concatenate([0.3 * memories, 0.9 * memories, 0.01 * memories, jnp.zeros((1, 2))])
    ended = recall(
        lambda v: clam.update(v, memories, beta),
        lambda v: clam.energy(v, memories, beta),
        inside + 1e-3,
        max_steps=4000,
        tolerance=1e-12,
    ).states
    mixture = gaussian_mixture(memories, weights, radius**2 / (2 * twin_ratio(ratio)))
    curvature = jax.vmap(lambda v: jnp.max(jnp.linalg.eigvalsh(jax.hessian(mixture.log_prob)(v))))(ended)
    slope = jnp.max(jnp.abs(log_density_gradient(mixture, ended))) / jnp.sqrt(beta)
    not_modes = jnp.sum(curvature >= 0) + (slope > 1e-6)
    return (jnp.abs(_spread(ended) - expected(ratio)) + not_modes).astype(float)


@register(
    id="A9.threshold",
    source=_DERIVED,
    title="where the wells at the corners of the triangle appear",
    statement="the corner wells appear at beta R^2 = 0.9152145256; the centre is a minimum iff beta R^2 < 1",
    latex=r"\beta R^2 = 0.9152145256;\quad \nabla^2 E(\text{centre}) = 2(1 - \beta R^2) I",
    printed_statement="not stated",
    verdict="NEW",
    relation="equal",
    constant="0.9152145256",
    inputs=lambda key: {"radius": generator(key).uniform(0.5, 2.0)},
    cases=(ordinary("random radius"),),
    tolerance=1e-8,
    exact={"threshold": CORNER_WELLS, "centre": 1.0},
    mutations={
        "beta doubled": {"threshold": CORNER_WELLS / 2},
        "centre condition at 1/2": {"centre": 0.5},
        "other digits": {"threshold": 0.915208},
    },
)
def corner_wells_appear_at_their_threshold(radius: Array, *, threshold: float, centre: float) -> Array:
    """Bisection on beta for a rest point of the update on the axis to a corner; Hessian at the centre."""
    angles = 2 * jnp.pi * jnp.arange(3) / 3
    memories = radius * jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=1)
    axis = jnp.linspace(0.3, 0.45, 3001)[:, None] * memories[0]

    def halve(_: jax.Array, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bracket
        middle = (low + high) / 2
        advance = clam.update(axis, memories, middle)[:, 0] - axis[:, 0]
        has_well = jnp.max(advance) > 0
        return jnp.where(has_well, low, middle), jnp.where(has_well, middle, high)

    low, _ = jax.lax.fori_loop(0, 40, halve, (0.85 / radius**2, 0.99 / radius**2))
    beta = 0.7 / radius**2
    mixture = gaussian_mixture(memories, jnp.ones(3), 1 / (2 * beta))
    hessian = jax.hessian(lambda v: -log_density(mixture, v) / beta)(jnp.zeros(2))
    expected = 2 * (1 - beta * radius**2 / centre) * jnp.eye(2)
    return jnp.maximum(jnp.abs(low * radius**2 - threshold) / threshold, relative_error(hessian, expected))
