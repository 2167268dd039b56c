"""Claims B10 and B13: the energy of two layers falls, and it may fall for ever.

Physics: :mod:`probam.energies.two_layer`. The other witness of B10 is the Hessians of the Lagrangians in closed form;
of B13, NumPyro's Gaussians and mixtures.
"""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array

from probam.claims.claim import Piece, excess, extreme, ordinary, register, relative_error
from probam.claims.inputs import Floats, generator
from probam.claims.mixtures.descent import hopfield_mixture
from probam.energies import two_layer
from probam.energies.lagrangians import LayerNorm, LogCosh, LogSumExp, Quadratic, RectifiedPower, Softplus
from probam.energies.two_layer import Network, modern_hopfield

__all__ = ["LAYERS", "layers"]

_YANG = "Yang (2020), Large associative memory (slides on Krotov and Hopfield)"


def layers(
    key: jax.Array,
    *,
    num_states: int = 5,
    num_memories: int = 4,
    dim: int = 3,
    size: float = 1.0,
    tau_v: float = 0.7,
    tau_h: float = 0.3,
) -> dict[str, Floats]:
    """States of both layers, memories, a current and the two time constants; ``size`` is that of the states."""
    draw = generator(key)
    return {
        "visible": size * draw.normal(size=(num_states, dim)),
        "hidden": size * draw.normal(size=(num_states, num_memories)),
        "memories": draw.normal(size=(num_memories, dim)),
        "current": draw.normal(size=dim),
        "tau_v": np.asarray(tau_v),
        "tau_h": np.asarray(tau_h),
    }


LAYERS = (
    ordinary("plain"),
    extreme("tau_h 1e-6", tau_h=1e-6),
    extreme("tau_h 1e6", tau_h=1e6),
    extreme("states at 30", size=30.0),
)
"""Settings of :func:`layers` of one shape."""


def _softmax_form(x: Array, u: Array) -> Array:
    share = jax.nn.softmax(2.0 * x, axis=-1)
    return 2.0 * (jnp.sum(share * u**2, axis=-1) - jnp.sum(share * u, axis=-1) ** 2)


def _layer_norm_form(x: Array, u: Array) -> Array:
    spread = jnp.sqrt(jnp.var(x, axis=-1) + 0.05)
    along = jnp.mean((x - jnp.mean(x, axis=-1, keepdims=True)) * u, axis=-1) / spread
    return 0.9 * x.shape[-1] * (jnp.var(u, axis=-1) - along**2) / spread


# Lagrangians of the two layers, and their Hessians u' H(x) u written out
_PAIRS = (
    (
        (LogCosh(1.3), lambda x, u: 1.3 * jnp.sum((u / jnp.cosh(1.3 * x)) ** 2, axis=-1)),
        (LogSumExp(2.0), _softmax_form),
    ),
    (
        (LayerNorm(0.9, 0.2, 0.05), _layer_norm_form),
        (RectifiedPower(3), lambda x, u: 6 * jnp.sum(jnp.maximum(x, 0) * u**2, axis=-1)),
    ),
    (
        (Quadratic(), lambda _x, u: jnp.sum(u**2, axis=-1)),
        (Softplus(1.6), lambda x, u: 0.4 * jnp.sum((u / jnp.cosh(0.8 * x)) ** 2, axis=-1)),
    ),
)


@register(
    id="B10",
    source=f"{_YANG}, 'Conditions for convergence'",
    title="two layers lose energy for any time constants",
    statement="dE/dt = -tau_v v'^T Hess L_v v' - tau_h h'^T Hess L_h h' <= 0, I constant, convex Lagrangians",
    latex=(
        r"\dot E = -\tau_v\,\dot v^\top \nabla^2 L_v\,\dot v - \tau_h\,\dot h^\top \nabla^2 L_h\,\dot h"
        r" \le 0,\quad \nabla^2 L \succeq 0"
    ),
    printed_statement="the same formula",
    verdict="EXACT",
    relation="equal",
    constant="tau_v, tau_h; semi-definite Hessians are enough",
    inputs=layers,
    cases=LAYERS,
    tolerance=1e-10,
    exact={"scale": lambda tau: tau, "driven": 1.0},
    mutations={
        "tau left out": {"scale": lambda _tau: 1.0},
        "sign flipped": {"scale": lambda tau: -tau},
        "current left out of the dynamics": {"driven": 0.0},
        "Hessian of the outputs halved": {"scale": lambda tau: tau / 2},
    },
)
def two_layers_dissipate_through_their_hessians(
    visible: Array,
    hidden: Array,
    memories: Array,
    current: Array,
    tau_v: Array,
    tau_h: Array,
    *,
    scale: Piece,
    driven: float,
) -> Array:
    """Derivative of the energy along the velocity against the Hessians written out, for three pairs of layers."""
    errors = []
    for (L_v, visible_form), (L_h, hidden_form) in _PAIRS:
        network = Network(memories, L_v, L_h, current, tau_v, tau_h)
        rates = two_layer.velocity(visible, hidden, Network(memories, L_v, L_h, driven * current, tau_v, tau_h))
        slope = jax.jvp(lambda v, h, net=network: two_layer.energy(v, h, net), (visible, hidden), rates)[1]
        by_visible = scale(tau_v) * visible_form(visible, rates[0])
        by_hidden = scale(tau_h) * hidden_form(hidden, rates[1])
        terms = jnp.abs(by_visible) + jnp.abs(by_hidden)
        errors += [relative_error(slope, -by_visible - by_hidden, terms), excess(slope, 0.0, terms)]
    return jnp.max(jnp.stack(errors))


def _linear(
    key: jax.Array, *, norm: float = 1.5, num_memories: int = 4, dim: int = 3, reach: float = 10.0
) -> dict[str, Floats]:
    draw = generator(key)
    memories = draw.normal(size=(num_memories, dim))
    return {
        "memories": norm * memories / np.linalg.norm(memories, 2),
        "reach": np.asarray(reach),
        "queries": draw.normal(size=(5, dim)),
    }


@register(
    id="B13.linear",
    source=f"{_YANG}, 'boundedness needs to be checked'",
    title="linear units on both layers have no least energy",
    statement=(
        "with L = |x|^2/2 on both layers E(t u) = t^2 (1 - s^2)/2 along the first singular vector u of Xi: "
        "unbounded below iff s > 1, though both Hessians are I; iff s < 1 exp(-E) is a Gaussian, precision I - Xi^T Xi"
    ),
    latex=r"E(tu) = \tfrac12 t^2 (1 - \sigma_1^2),\qquad e^{-E} \propto \mathcal N(0, (I - \Xi^\top\Xi)^{-1})",
    printed_statement="the energy decreases, if Hessians of the Lagrangians are positive semi-definite",
    verdict="COND",
    relation="equal",
    constant="(1 - s^2) / 2",
    inputs=_linear,
    cases=(
        ordinary("norm 1.5"),
        ordinary("norm 0.8", norm=0.8),
        extreme("norm 100", norm=100.0),
        extreme("norm 1e-6", norm=1e-6),
        extreme("state at 1e8", reach=1e8),
    ),
    tolerance=1e-12,
    tolerance_extreme=1e-9,
    mutations={
        "sign flipped": {"depth": lambda s: (1 + s**2) / 2},
        "1 - s": {"depth": lambda s: (1 - s) / 2},
        "memories doubled": {"depth": lambda s: (1 - 4 * s**2) / 2},
        "always bounded": {"depth": lambda s: jnp.abs(1 - s**2) / 2},
    },
    exact={"depth": lambda s: (1 - s**2) / 2},
    printed={"depth": lambda s: jnp.maximum(1 - s**2, 0) / 2},
    printed_exceeds=0.5,
)
def linear_layers_are_unbounded_beyond_norm_one(
    memories: Array, reach: Array, queries: Array, *, depth: Piece
) -> Array:
    """Energy along the first singular vector; below norm one, energy differences against NumPyro's Gaussian."""
    network = Network(memories, Quadratic(), Quadratic())
    _, values, directions = jnp.linalg.svd(memories, full_matrices=False)
    far = reach * directions[0]
    along = relative_error(two_layer.effective_energy(far, network), reach**2 * depth(values[0]), reach**2)
    bounded = values[0] < 1
    safe = jnp.where(bounded, memories, 0)
    gaussian = dist.MultivariateNormal(
        jnp.zeros(memories.shape[1]), precision_matrix=jnp.eye(memories.shape[1]) - safe.T @ safe
    )
    log_p = gaussian.log_prob(queries)
    energies = two_layer.effective_energy(queries, Network(safe, Quadratic(), Quadratic()))
    return jnp.maximum(along, relative_error(log_p - log_p[0], energies[0] - energies))


@register(
    id="B13.softmax",
    source=f"{_YANG}, 'boundedness needs to be checked'",
    title="a softmax bounds the energy from below",
    statement="modern limit: E(v) >= -max_k |xi_k|^2 / 2 - log(K) / beta; so log p of the twin is bounded above",
    latex=r"E(v) \ge -\tfrac12\max_k\lVert\xi_k\rVert^2 - \tfrac1\beta\log K",
    printed_statement="boundedness needs to be checked for the specific choice",
    verdict="NEW",
    relation="at most",
    constant="max |xi|^2 / 2 + log(K) / beta, reached by K equal memories",
    inputs=lambda key, *, beta=2.0, spread=1.0: {
        "memories": (first := generator(key).normal(size=(4, 3)))[0] + spread * (first - first[0]),
        "beta": np.asarray(beta),
    },
    cases=(
        ordinary("plain"),
        ordinary("equal memories", spread=0.0),
        extreme("beta 1e-6", beta=1e-6),
        extreme("beta 1e6", beta=1e6),
    ),
    tolerance=1e-12,
    exact={"floor": lambda square, K, beta: -square / 2 - jnp.log(K) / beta},
    mutations={
        "half the norm": {"floor": lambda square, K, beta: -square / 4 - jnp.log(K) / beta},
        "log K left out": {"floor": lambda square, _K, _beta: -square / 2},
        "sign of log K flipped": {"floor": lambda square, K, beta: -square / 2 + jnp.log(K) / beta},
    },
)
def modern_energy_is_bounded_below(memories: Array, beta: Array, *, floor: Piece) -> Array:
    """Excess of the floor over the energy at the memories and beyond, by the physics and by the twin's density."""
    states = jnp.concatenate([memories, 10 * memories, jnp.mean(memories, axis=0, keepdims=True)])
    lowest = floor(jnp.max(jnp.sum(memories**2, axis=-1)), float(len(memories)), beta)
    computed = two_layer.effective_energy(states, modern_hopfield(memories, beta))
    mass = jax.scipy.special.logsumexp(beta * jnp.sum(memories**2, axis=-1) / 2)
    log_normalizer = memories.shape[1] / 2 * jnp.log(2 * jnp.pi / beta)
    by_density = -(hopfield_mixture(memories, beta).log_prob(states) + mass + log_normalizer) / beta
    size = jnp.max(jnp.abs(lowest)) + log_normalizer / beta
    return jnp.maximum(excess(lowest, computed, size), excess(lowest, by_density, size))
