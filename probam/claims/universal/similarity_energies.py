"""Claims C4 (modern network), C5, C6 and C7: energies of universal Hopfield networks.

Physics: :func:`probam.energies.two_layer.similarity_energy` and the energies of the memories. Statistics: NumPyro's
Gaussian mixtures. Derivatives by autodiff stand against formulas written out.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Array

from probam.claims.claim import Piece, excess, extreme, ordinary, register, relative_error
from probam.claims.hopfield.two_layer import LAYERS, layers
from probam.claims.inputs import Floats, generator, unit_rows
from probam.claims.mixtures.descent import hopfield_mixture
from probam.claims.mixtures.gaussian import gaussian_mixture, log_density, uniform_bank
from probam.dynamics.recall import recall
from probam.energies import continuous_hopfield, two_layer
from probam.energies.lagrangians import LogCosh, LogSumExp, Quadratic
from probam.energies.two_layer import Network

__all__: list[str] = []

_MILLIDGE = "Millidge et al. (2022), Universal Hopfield Networks"
_BETA = 2.0
"""Inverse temperature of the softmax layers here."""


def _dot(memories: Array) -> Callable[[Array], Array]:
    return lambda v: v @ memories.T


def _half_square(memories: Array) -> Callable[[Array], Array]:
    return lambda v: -jnp.sum((v[..., None, :] - memories) ** 2, axis=-1) / 2


def _printed_modern(query: Array, memories: Array, beta: Array) -> Array:
    """Sec. 3.3's q^T q + lse(W q), at inverse temperature beta."""
    return jnp.sum(query**2, axis=-1) + logsumexp(beta * query @ memories.T, axis=-1) / beta


@register(
    id="C4.modern",
    source=f"{_MILLIDGE}, Sec. 3.3",
    title="the modern energy needs its minus sign",
    statement=(
        "(1/2) q^T q - (1/beta) lse(beta W q) = -(1/beta) log p(q) + const; the printed q^T q + lse(W q) has all "
        "Hessian eigenvalues >= 2: one minimum, whatever is stored"
    ),
    latex=(
        r"E = \tfrac12 q^\top q - \tfrac1\beta\operatorname{lse}(\beta W q),\qquad "
        r"\nabla^2[q^\top q + \operatorname{lse}(Wq)] \succeq 2I"
    ),
    printed_statement="E = q^T q + lse(W q)",
    verdict="WRONG",
    relation="affine",
    constant="free",
    inputs=uniform_bank,
    cases=(ordinary("plain"), extreme("beta 1e-6", beta=1e-6), extreme("beta 1e6", beta=1e6)),
    tolerance=1e-12,
    exact={"energy": continuous_hopfield.energy, "least": 2.0},
    printed={"energy": _printed_modern},
    printed_exceeds=0.1,
    mutations={
        "half left out": {
            "energy": lambda q, mu, beta: continuous_hopfield.energy(q, mu, beta) + jnp.sum(q**2, axis=-1) / 2
        },
        "beta doubled": {"energy": lambda q, mu, beta: continuous_hopfield.energy(q, mu, 2 * beta)},
        "printed curvature above 4": {"least": 4.0},
    },
)
def modern_energy_is_a_difference(
    queries: Array, memories: Array, beta: Array, *, energy: Piece, least: float
) -> Array:
    """Differences of energies against log densities of the twin; least curvature of the printed form."""
    computed = beta * energy(queries, memories, beta)
    log_p = hopfield_mixture(memories, beta).log_prob(queries)
    scale = jnp.abs(computed) + beta * jnp.sum(queries**2, axis=-1) + jnp.max(beta * jnp.sum(memories**2, axis=-1))
    values = relative_error(log_p - log_p[0], computed[0] - computed, scale)
    curvature = jax.vmap(jax.hessian(lambda q: _printed_modern(q, memories, beta)))(queries)
    return jnp.maximum(values, excess(least, jnp.linalg.eigvalsh(curvature)))


def _elementwise_jacobian(h: Array) -> Array:
    """The printed f'(h), which keeps the diagonal of the softmax's Jacobian only."""
    return _softmax_jacobian(h) * jnp.eye(h.shape[-1], dtype=h.dtype)


def _softmax_jacobian(h: Array) -> Array:
    share = jax.nn.softmax(_BETA * h, axis=-1)
    outer = share[..., :, None] * share[..., None, :]
    return _BETA * (share[..., None] * jnp.eye(h.shape[-1], dtype=h.dtype) - outer)


@register(
    id="C5.gradients",
    source=f"{_MILLIDGE}, Eqs. 2 and 3",
    title="gradients of the universal energy",
    statement="grad_v E = H_v (v - I) - J_S^T f and grad_h E = J_f (h - S(v)); J_f is a matrix for a softmax",
    latex=r"\nabla_v E = \nabla^2 L_v\,(v - I) - J_S^\top f,\qquad \nabla_h E = J_f\,(h - S(v))",
    printed_statement=(
        "tau_v v' = sum_j dsim/dv f - v g'(v) and tau_h h' = f'(h) [S - h], elementwise, no I, indices confused"
    ),
    verdict="TYPO",
    relation="equal",
    constant="none",
    inputs=layers,
    cases=LAYERS[:1] + LAYERS[3:],
    tolerance=1e-10,
    exact={"jacobian": _softmax_jacobian, "driven": 1.0},
    printed={"jacobian": _elementwise_jacobian, "driven": 0.0},
    printed_exceeds=0.05,
    mutations={
        "elementwise f'": {"jacobian": _elementwise_jacobian},
        "current left out": {"driven": 0.0},
        "sign flipped": {"jacobian": lambda h: -_softmax_jacobian(h)},
    },
)
def gradients_of_the_universal_energy(
    visible: Array,
    hidden: Array,
    memories: Array,
    current: Array,
    tau_v: Array,  # noqa: ARG001
    tau_h: Array,  # noqa: ARG001
    *,
    jacobian: Piece,
    driven: float,
) -> Array:
    """Autodiff of the physics' energy, tanh features and Euclidean scores, against the formulas written out."""
    network = Network(memories, LogCosh(1.3), LogSumExp(_BETA), current)

    def total(v: Array, h: Array) -> Array:
        return jnp.sum(two_layer.similarity_energy(v, h, _half_square(memories), network))

    v_slope, h_slope = jax.grad(total, argnums=(0, 1))(visible, hidden)
    stiffness = 1.3 / jnp.cosh(1.3 * visible) ** 2
    share = jax.nn.softmax(_BETA * hidden, axis=-1)
    own, pull = stiffness * (visible - driven * current), share @ memories - visible
    scores = _half_square(memories)(visible)
    by_hidden = jnp.einsum("nkl,nl->nk", jacobian(hidden), hidden - scores)
    size = jnp.max(jnp.abs(hidden)) + jnp.max(jnp.abs(scores))
    return jnp.maximum(
        relative_error(v_slope, own - pull, jnp.abs(own) + jnp.abs(pull)), relative_error(h_slope, by_hidden, size)
    )


@register(
    id="C5.coupling",
    source=f"{_MILLIDGE}, Eq. 3 beside Krotov and Hopfield (2021)",
    title="coupled by currents or by outputs",
    statement="with dot products E_UHN - E_KH = f . Xi (g(v) - v): the same energy iff g is the identity",
    latex=r"E_{\rm UHN} - E_{\rm KH} = f \cdot \Xi\,(g(v) - v)",
    printed_statement="the energy of Krotov and Hopfield",
    verdict="COND",
    relation="equal",
    constant="f . Xi (g - v)",
    inputs=layers,
    cases=LAYERS[:1] + LAYERS[3:],
    tolerance=1e-12,
    exact={"gap": lambda f, memories, g, v: jnp.sum(f * ((g - v) @ memories.T), axis=-1)},
    printed={"gap": lambda _f, _memories, g, _v: jnp.zeros(g.shape[:-1])},
    printed_exceeds=0.05,
    mutations={
        "sign flipped": {"gap": lambda f, memories, g, v: -jnp.sum(f * ((g - v) @ memories.T), axis=-1)},
        "currents for outputs": {"gap": lambda f, memories, g, _v: jnp.sum(f * (g @ memories.T), axis=-1)},
    },
)
def couplings_differ_by_the_outputs(
    visible: Array,
    hidden: Array,
    memories: Array,
    current: Array,
    tau_v: Array,  # noqa: ARG001
    tau_h: Array,  # noqa: ARG001
    *,
    gap: Piece,
) -> Array:
    """Difference of the two energies for tanh features; none for linear ones."""
    share = jax.nn.softmax(_BETA * hidden, axis=-1)
    errors = []
    for L_v, outputs in ((LogCosh(1.3), jnp.tanh(1.3 * visible)), (Quadratic(), visible)):
        network = Network(memories, L_v, LogSumExp(_BETA), current)
        universal = two_layer.similarity_energy(visible, hidden, _dot(memories), network)
        difference = universal - two_layer.energy(visible, hidden, network)
        errors.append(relative_error(difference, gap(share, memories, outputs, visible), universal))
    return jnp.max(jnp.stack(errors))


@register(
    id="C5.effective",
    source=f"{_MILLIDGE}, Eq. 4",
    title="the universal energy with the hidden layer at rest",
    statement="at h = S(v): E = |v|^2/2 - L_h(S(v)); Euclidean softmax: |v|^2/2 - (log p(v) + log Z) / beta",
    latex=r"E = \tfrac12\lVert v\rVert^2 - L_h(S(v)) = \tfrac12\lVert v\rVert^2 - \tfrac1\beta[\log p(v) + \log Z]",
    printed_statement="E = sum v^2 / 2 - int sep(sim); 'f' cannot vanish'",
    verdict="EXACT",
    relation="equal",
    constant="log Z = log K + (D/2) log(2 pi / beta)",
    inputs=layers,
    cases=LAYERS[:1] + LAYERS[3:],
    tolerance=1e-12,
    exact={"sign": 1.0, "log_mass": lambda K, D: np.log(K) + D / 2 * np.log(2 * np.pi / _BETA), "twin_beta": _BETA},
    mutations={
        "sign flipped": {"sign": -1.0},
        "normaliser dropped": {"log_mass": lambda _K, _D: 0.0},
        "beta doubled in the twin": {"twin_beta": 2 * _BETA},
    },
)
def rest_energy_is_a_log_density_and_a_square(
    visible: Array,
    hidden: Array,  # noqa: ARG001
    memories: Array,
    current: Array,  # noqa: ARG001
    tau_v: Array,  # noqa: ARG001
    tau_h: Array,  # noqa: ARG001
    *,
    sign: float,
    log_mass: Callable[[int, int], Any],
    twin_beta: float,
) -> Array:
    """Energy of the two layers, the hidden one at rest, against NumPyro's mixture of covariance I / beta."""
    network = Network(memories, Quadratic(), LogSumExp(_BETA))
    similarity = _half_square(memories)
    computed = two_layer.similarity_energy(visible, similarity(visible), similarity, network)
    mixture = gaussian_mixture(memories, jnp.ones(len(memories)), jnp.asarray(1 / twin_beta))
    log_p = log_density(mixture, visible) + log_mass(*memories.shape)
    square = jnp.sum(visible**2, axis=-1) / 2
    return relative_error(computed, square - sign * log_p / _BETA, square + jnp.abs(log_p))


def _orthonormal_pair(*, beta: float) -> dict[str, Floats]:
    return {"queries": np.array([[0.8, 0.1]]), "memories": np.eye(2), "beta": np.asarray(beta)}


def _near_memories(key: jax.Array, *, beta: float = 4.0, num_memories: int = 3, dim: int = 4) -> dict[str, Floats]:
    draw = generator(key)
    memories = unit_rows(draw.normal(size=(num_memories, dim)))
    noise = 0.3 * draw.normal(size=(5, dim))
    queries = memories[draw.integers(num_memories, size=5)] + noise
    return {"queries": queries, "memories": memories, "beta": np.asarray(beta)}


def _limits(queries: Array, memories: Array, beta: Array, max_steps: int = 3000) -> Array:
    return recall(
        lambda v: continuous_hopfield.update(v, memories, beta),
        lambda v: continuous_hopfield.energy(v, memories, beta),
        queries,
        max_steps=max_steps,
        tolerance=1e-14,
    ).states


@register(
    id="C6.one_step",
    source=f"{_MILLIDGE}, Eqs. 6 and 7, 'equilibrium occurs after a single step'",
    title="one step of attention is not the equilibrium",
    statement=(
        "|v1 - v*| <= diam(xi) TV(r(v0), r(v*)), with equality for K = 2; zero iff the posterior does not move "
        "(one-hot, or K = 1)"
    ),
    latex=r"\lVert v_1 - v^*\rVert \le \operatorname{diam}(\xi)\,\tfrac12\lVert r(v_0) - r(v^*)\rVert_1",
    printed_statement="v* = M softmax(M q): converges to a local minimum in a single step (proven)",
    verdict="WRONG",
    relation="at most",
    constant="diameter times total variation",
    inputs=_near_memories,
    cases=(
        ordinary("plain"),
        ordinary("K = 2", num_memories=2),
        extreme("K = 1", num_memories=1),
        extreme("beta 1e-6", beta=1e-6),
        extreme("beta 1e6", beta=1e6),
    ),
    tolerance=1e-12,
    exact={"bound": lambda diameter, variation: diameter * variation, "twin_beta": lambda beta: beta},
    printed={"bound": lambda diameter, _variation: 0 * diameter},
    printed_exceeds=0.01,
    mutations={
        "half the bound": {"bound": lambda diameter, variation: diameter * variation / 2},
        "beta doubled": {"twin_beta": lambda beta: 2 * beta},
    },
)
def one_step_misses_by_the_variation_of_the_posterior(
    queries: Array, memories: Array, beta: Array, *, bound: Piece, twin_beta: Piece
) -> Array:
    """Distance from the first step to the limit of recall against posteriors of the Gaussian twin."""
    first, last = continuous_hopfield.update(queries, memories, beta), _limits(queries, memories, beta)
    mixture = hopfield_mixture(memories, twin_beta(beta))
    moved = mixture.responsibilities(queries) - mixture.responsibilities(last)
    variation = jnp.sum(jnp.abs(moved), axis=-1) / 2
    between = jnp.sum((memories[:, None] - memories) ** 2, axis=-1)
    diameter = jnp.sqrt(jnp.max(between)) * jnp.ones(len(queries))
    return excess(jnp.linalg.norm(first - last, axis=-1), bound(diameter, variation), 1.0)


@register(
    id="C6.rate",
    source=f"{_MILLIDGE}, Eqs. 6 and 7, 'equilibrium occurs after a single step'",
    title="the miss of one step falls exponentially in beta",
    statement=(
        "two orthonormal memories, scores 0.8 and 0.1: |v1 - v*| -> sqrt(2) (exp(-0.7 beta) - exp(-beta)); "
        "0.051 at beta = 4, 1.9e-5 at 16"
    ),
    latex=r"\lVert v_1 - v^*\rVert \to \sqrt2\,(e^{-0.7\beta} - e^{-\beta})",
    printed_statement="zero",
    verdict="WRONG",
    relation="limit",
    constant="sqrt(2), rate 0.7 = the gap of the scores; remainder O(exp(-1.4 beta))",
    inputs=lambda _key, *, beta: _orthonormal_pair(beta=beta),
    cases=(ordinary("beta 16", beta=16.0), ordinary("beta 20", beta=20.0)),
    tolerance=1e-4,
    tolerance_single=0.11,
    exact={"rate": lambda beta: jnp.sqrt(2.0) * (jnp.exp(-0.7 * beta) - jnp.exp(-beta))},
    printed={"rate": lambda beta: 0 * beta},
    printed_exceeds=0.5,
    mutations={
        "beta doubled": {"rate": lambda beta: jnp.sqrt(2.0) * (jnp.exp(-1.4 * beta) - jnp.exp(-2 * beta))},
        "one coordinate only": {"rate": lambda beta: jnp.exp(-0.7 * beta) - jnp.exp(-beta)},
        "limit at the memory": {"rate": lambda beta: jnp.sqrt(2.0) * jnp.exp(-0.7 * beta)},
    },
)
def miss_of_one_step_falls_exponentially(queries: Array, memories: Array, beta: Array, *, rate: Piece) -> Array:
    """Miss of the first step against its asymptotic form.

    The miss is a difference of two states of length about 1, of which float32 keeps eps = 1.2e-7. The large entry of a
    state is 1 / (1 + exp(-beta gap)): the sum is rounded by eps / 2 at most, the quotient by eps / 4, so the entries of
    the two states differ by d = exp(-0.7 beta) - exp(-beta) with an error of at most 1.5 eps. The small entries keep
    their digits, and the relative error of sqrt(2) d is at most 1.5 eps / (2 d): 0.0066 at beta = 16, 0.11 at 20.
    """
    first, last = continuous_hopfield.update(queries, memories, beta), _limits(queries, memories, beta)
    return relative_error(jnp.linalg.norm(first - last), rate(beta))


def _squared_speed(_v: Array, rate: Array) -> Array:
    return jnp.sum(rate**2, axis=-1)


def _hidden_form(h: Array, rate: Array) -> Array:
    return jnp.einsum("nk,nkl,nl->n", rate, _softmax_jacobian(h), rate)


@register(
    id="C7",
    source=f"{_MILLIDGE}, Appendix A, Eq. 10, under the dynamics of Eq. 2",
    title="gradient flow falls by squared speeds, no Hessians",
    statement="under tau_v v' = -dE/dv, tau_h h' = -dE/dh: dE/dt = -tau_v |v'|^2 - tau_h |h'|^2",
    latex=r"\dot E = -\tau_v \lVert\dot v\rVert^2 - \tau_h \lVert\dot h\rVert^2",
    printed_statement="dE/dt = -v' Hess L_v v' - h' Hess L_h h', if the Hessians are positive definite",
    verdict="WRONG",
    relation="equal",
    constant="tau_v, tau_h",
    inputs=layers,
    cases=LAYERS[:3],
    tolerance=1e-10,
    exact={"visible_form": _squared_speed, "hidden_form": _squared_speed, "scale": lambda tau: tau},
    printed={
        "visible_form": lambda v, rate: jnp.sum(1.3 * (rate / jnp.cosh(1.3 * v)) ** 2, axis=-1),
        "hidden_form": _hidden_form,
        "scale": lambda _tau: 1.0,
    },
    printed_exceeds=0.1,
    mutations={
        "Hessian of the hidden layer": {"hidden_form": _hidden_form},
        "tau left out": {"scale": lambda _tau: 1.0},
        "sign flipped": {"scale": lambda tau: -tau},
    },
)
def gradient_flow_falls_by_squared_speeds(
    visible: Array,
    hidden: Array,
    memories: Array,
    current: Array,
    tau_v: Array,
    tau_h: Array,
    *,
    visible_form: Piece,
    hidden_form: Piece,
    scale: Piece,
) -> Array:
    """Derivative of the physics' energy along the flow written out (C5) against the squared speeds."""
    network = Network(memories, LogCosh(1.3), LogSumExp(_BETA), current)
    similarity = _half_square(memories)
    share = jax.nn.softmax(_BETA * hidden, axis=-1)
    pull = share @ memories - visible
    v_rate = (pull - 1.3 / jnp.cosh(1.3 * visible) ** 2 * (visible - current)) / tau_v
    h_rate = -jnp.einsum("nkl,nl->nk", _softmax_jacobian(hidden), hidden - similarity(visible)) / tau_h
    slope = jax.jvp(
        lambda v, h: two_layer.similarity_energy(v, h, similarity, network), (visible, hidden), (v_rate, h_rate)
    )[1]
    expected = -scale(tau_v) * visible_form(visible, v_rate) - scale(tau_h) * hidden_form(hidden, h_rate)
    return relative_error(slope, expected)
