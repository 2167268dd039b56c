"""Claim D2: random features estimate the kernel sum of a dense memory without bias, and its energy with a bias.

Physics: :mod:`probam.energies.random_features`. Statistics: NumPyro's normal densities, and the mean over the
frequencies by Gauss-Hermite quadrature.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array

from probam.claims.claim import Piece, extreme, ordinary, register, relative_error
from probam.claims.inputs import Floats, euclidean_bank
from probam.energies import clam, positive_features, random_features
from probam.energies.arguments import Logs

__all__: list[str] = []

_HOOVER = "Hoover et al. (2024), Dense associative memory through the lens of random features (abstract)"


def _bank(key: jax.Array, *, gamma: float = 1.6, **settings: Any) -> dict[str, Floats]:
    """Queries, memories and weights in two dimensions, and gamma."""
    drawn = euclidean_bank(key, dim=2, **settings)
    return {**{name: drawn[name] for name in ("queries", "memories", "weights")}, "gamma": np.asarray(gamma)}


def _quadrature(key: jax.Array, *, num_nodes: int = 96, **settings: Any) -> dict[str, Floats]:
    """The same with the nodes and weights of Gauss and Hermite for a standard normal in two dimensions."""
    node, mass = np.polynomial.hermite_e.hermegauss(num_nodes)
    mass = np.asarray(mass / np.sum(mass))
    return {
        **_bank(key, **settings),
        "nodes": np.stack(np.meshgrid(node, node), axis=-1).reshape(-1, 2),
        "masses": np.outer(mass, mass).ravel(),
    }


_CASES = (
    ordinary("plain"),
    ordinary("K = 1", num_memories=1),
    ordinary("gamma 0.2", gamma=0.2),
    extreme("gamma 1e-6", gamma=1e-6),
    extreme("duplicate memories", duplicates=True),
    extreme("a zero weight", zero_weights=True),
)


def _kernel(difference: Array, gamma: Array) -> Array:
    """The Gaussian kernel as a ratio of NumPyro's normal densities."""
    law = dist.Normal(jnp.zeros(2), 1 / jnp.sqrt(gamma)).to_event(1)
    log_p, log_top = (jnp.asarray(law.log_prob(x)) for x in (difference, jnp.zeros(2)))
    return jnp.exp(log_p - log_top)


def _one_feature(frequencies: Array, queries: Array, memories: Array, weights: Array) -> Array:
    """The physics' estimate from each frequency alone, (M, N)."""

    def estimate(frequency: Array) -> Array:
        stored = random_features.store(frequency[None], memories, weights)
        return random_features.kernel_sum(stored, frequency[None], queries)

    estimates: Array = jax.vmap(estimate)(frequencies)
    return estimates


@register(
    id="D2.mean",
    source=_HOOVER,
    title="random features estimate the sum of kernels without bias",
    statement="w ~ N(0, gamma I): E[phi(x).T] = sum_m w_m exp(-gamma |x - xi_m|^2 / 2) = exp(-beta E), beta = gamma/2",
    latex=(
        r"\mathbb E_\omega[\varphi(x)\cdot T] = \sum_\mu w_\mu e^{-\gamma\lVert x-\xi_\mu\rVert^2/2} = "
        r"e^{-\beta E_{\rm CLAM}(x)},\quad \beta = \gamma/2"
    ),
    printed_statement="the abstract prints no equation",
    verdict="NEW",
    relation="equal",
    constant="beta_CLAM = gamma / 2",
    inputs=_quadrature,
    cases=_CASES,
    tolerance=1e-12,
    exact={"beta": lambda gamma: gamma / 2, "deviation": jnp.sqrt, "stored_weights": lambda w: w},
    mutations={
        "beta doubled": {"beta": lambda gamma: gamma},
        "frequencies of variance 2 gamma": {"deviation": lambda gamma: jnp.sqrt(2 * gamma)},
        "weights left out": {"stored_weights": jnp.ones_like},
    },
)
def kernel_sum_is_unbiased(
    queries: Array,
    memories: Array,
    weights: Array,
    gamma: Array,
    nodes: Array,
    masses: Array,
    *,
    beta: Piece,
    deviation: Piece,
    stored_weights: Piece,
) -> Array:
    """Quadrature over one frequency against NumPyro's kernels and CLAM's energy; the features have length one."""
    estimates = _one_feature(deviation(gamma) * nodes, queries, memories, stored_weights(weights))
    mean = masses @ estimates
    kernels = jnp.sum(weights * _kernel(queries[:, None] - memories, gamma), axis=-1)
    physics = jnp.exp(-beta(gamma) * clam.energy(queries, memories, beta(gamma), weights))
    length = jnp.linalg.norm(random_features.features(deviation(gamma) * nodes[:7], queries), axis=-1)
    return jnp.max(
        jnp.stack([relative_error(mean, kernels), relative_error(mean, physics), jnp.max(jnp.abs(length - 1))])
    )


@register(
    id="D2.variance",
    source=_HOOVER,
    title="variance of one random feature, one memory and many",
    statement=(
        "one memory: Var cos(w.(x - xi)) = (1 - k^2)^2 / 2; many: sum_mn w_m w_n ([k(xi_m - xi_n) "
        "+ k(2x - xi_m - xi_n)] / 2 - k_m k_n); Y features: over Y"
    ),
    latex=(
        r"\operatorname{Var}\cos\omega\cdot(x-\xi) = \tfrac12(1-k^2)^2,\quad \operatorname{Var}\hat S = \tfrac1Y"
        r"\sum_{\mu\nu} w_\mu w_\nu\bigl(\tfrac12[k(\xi_\mu-\xi_\nu) + k(2x-\xi_\mu-\xi_\nu)] - k_\mu k_\nu\bigr)"
    ),
    printed_statement="the abstract prints no equation",
    verdict="NEW",
    relation="equal",
    constant="1/2, 1/Y",
    inputs=_quadrature,
    cases=_CASES[:3],
    tolerance=1e-12,
    exact={
        "one": lambda k: (1 - k**2) ** 2 / 2,
        "pairs": lambda covariance: jnp.sum(covariance, axis=(1, 2)),
        "product": lambda k: k[:, :, None] * k[:, None, :],
    },
    mutations={
        "square dropped: (1 - k^2) / 2": {"one": lambda k: (1 - k**2) / 2},
        "half dropped": {"one": lambda k: (1 - k**2) ** 2},
        "memories taken for independent": {"pairs": lambda covariance: jnp.trace(covariance, axis1=1, axis2=2)},
        "product of the means left in": {"product": lambda k: 0 * k[:, :, None] * k[:, None, :]},
    },
)
def variance_of_a_feature(
    queries: Array,
    memories: Array,
    weights: Array,
    gamma: Array,
    nodes: Array,
    masses: Array,
    *,
    one: Piece,
    pairs: Piece,
    product: Piece,
) -> Array:
    """Quadrature of the squared deviation against the two closed forms."""
    frequencies = jnp.sqrt(gamma) * nodes
    alone = _one_feature(frequencies, queries, memories[:1], jnp.ones_like(weights[:1]))
    kernel = _kernel(queries[:, None] - memories, gamma)
    spread_alone = masses @ (alone - masses @ alone) ** 2
    estimates = _one_feature(frequencies, queries, memories, weights)
    spread = masses @ (estimates - masses @ estimates) ** 2
    between = _kernel(memories[:, None] - memories, gamma)
    across = _kernel(2 * queries[:, None, None] - memories[:, None] - memories, gamma)
    covariance = weights[:, None] * weights * (0.5 * (between + across) - product(kernel))
    return jnp.maximum(
        relative_error(spread_alone, one(kernel[:, 0]), 1.0),
        relative_error(spread, pairs(covariance), jnp.sum(weights) ** 2),
    )


@register(
    id="D2.force",
    source=_HOOVER,
    title="the features' force has the right mean, and is the energy's gradient",
    statement="E[grad S^] = gamma S (m(x) - x); update(x) - x = -(1/2) grad E^ for every draw with S^ > 0",
    latex=(r"\mathbb E[\nabla\hat S(x)] = \gamma\,S(x)\,(m(x) - x),\qquad \hat m(x) - x = -\tfrac12 \nabla \hat E(x)"),
    printed_statement="the abstract prints no equation",
    verdict="NEW",
    relation="equal",
    constant="gamma, 1/2",
    inputs=_quadrature,
    cases=_CASES[:3],
    tolerance=1e-10,
    exact={"rate": lambda gamma: gamma, "half": 0.5},
    mutations={
        "gamma doubled": {"rate": lambda gamma: 2 * gamma},
        "half of Eq. 2 dropped": {"half": 1.0},
        "sign flipped": {"rate": lambda gamma: -gamma},
    },
)
def force_is_unbiased(
    queries: Array,
    memories: Array,
    weights: Array,
    gamma: Array,
    nodes: Array,
    masses: Array,
    *,
    rate: Piece,
    half: float,
) -> Array:
    """Autodiff of the estimates under quadrature against CLAM's step; autodiff of the energy against the update."""
    frequencies = jnp.sqrt(gamma) * nodes

    def mean(x: Array) -> Array:
        return jnp.sum(masses @ _one_feature(frequencies, x, memories, weights))

    total = masses @ _one_feature(frequencies, queries, memories, weights)
    step = clam.update(queries, memories, gamma / 2, weights) - queries
    unbiased = relative_error(jax.grad(mean)(queries), rate(gamma) * total[:, None] * step)
    subset = frequencies[:: nodes.shape[0] // 61]
    stored = random_features.store(subset, memories, weights)
    near = jnp.broadcast_to(memories[jnp.argmax(weights)], queries.shape)
    seen = random_features.kernel_sum(stored, subset, queries)[:, None] > 0
    visible = jnp.where(seen, queries, near)  # where there is an energy
    slope = jax.grad(lambda x: jnp.sum(random_features.energy(stored, subset, x, gamma)))(visible)
    moved = random_features.update(stored, subset, visible, gamma) - visible
    return jnp.maximum(unbiased, relative_error(moved, -half * slope))


@register(
    id="D2.positive",
    source=f"{_HOOVER}; the exponential features of its program",
    title="positive random features estimate the sum of kernels, and are a density",
    statement="c ~ N(0, s^2 I): E[sum_y M_y exp(-gamma |x - c_y|^2)] = sum_m w_m exp(-gamma |x - xi_m|^2 / 2), and for "
    "each draw it is a Gaussian mixture of covariance I / (2 gamma); s^2 = 1 / (4 gamma) are the exponential features",
    latex=(
        r"\mathbb E_c\Bigl[\tfrac{T(c)}{q(c)}\bigl(\tfrac{2\gamma}{\pi}\bigr)^{D/2} e^{-\gamma\lVert x-c\rVert^2}"
        r"\Bigr] = \sum_\mu w_\mu e^{-\gamma\lVert x-\xi_\mu\rVert^2/2}"
    ),
    printed_statement="the abstract prints no equation",
    verdict="NEW",
    relation="equal",
    constant="(2 gamma / pi)^(D/2) / q(c)",
    inputs=_quadrature,
    cases=_CASES[:3],
    tolerance=1e-9,
    exact={"spread": lambda gamma: jnp.sqrt(1 / (4 * gamma)), "masses_of": positive_features.log_masses},
    mutations={
        "spread of another law": {"masses_of": lambda t, c, g, s: positive_features.log_masses(t, c, g, 1.2 * s)},
        "density of the centres left out": {"masses_of": lambda t, c, _g, _s: jnp.log(t) - jnp.log(len(c))},
        "gamma halved": {"masses_of": lambda t, c, g, s: positive_features.log_masses(t, c, g / 2, s)},
    },
)
def positive_features_are_a_density(
    queries: Array,
    memories: Array,
    weights: Array,
    gamma: Array,
    nodes: Array,
    masses: Array,
    *,
    spread: Piece,
    masses_of: Piece,
) -> Array:
    """Quadrature over one centre against NumPyro's kernels, and one draw's energy against NumPyro's mixture."""
    scale = spread(gamma)
    centres = scale * nodes
    stored = positive_features.store(centres, memories, gamma, weights)
    log_m = masses_of(stored, centres, gamma, scale) + jnp.log(len(centres))
    square = jnp.sum((queries[:, None] - centres) ** 2, axis=-1)
    mean = jnp.exp(log_m - gamma * square) @ masses
    kernels = jnp.sum(weights * _kernel(queries[:, None] - memories, gamma), axis=-1)
    few = slice(None, None, max(len(centres) // 40, 1))
    one_draw = log_m[few]
    bank = dist.Normal(centres[few], 1 / jnp.sqrt(2 * gamma)).to_event(1)
    mixture = dist.MixtureSameFamily(dist.Categorical(logits=one_draw), bank, validate_args=False)
    constant = jax.scipy.special.logsumexp(one_draw) + jnp.log(jnp.pi / gamma)
    energy = gamma * clam.energy(queries, centres[few], gamma, Logs(one_draw))
    return jnp.maximum(relative_error(mean, kernels), relative_error(energy + constant, -mixture.log_prob(queries)))


def _many_draws(key: jax.Array, *, num_features: int = 100, num_draws: int = 100_000) -> dict[str, Any]:
    drawn = _bank(key, num_queries=1, num_memories=3)
    return {**drawn, "key": key, "slots": np.zeros((num_draws // 1000, 1000)), "feature": np.zeros(num_features)}


@register(
    id="D2.bias",
    source=_HOOVER,
    title="the estimated energy is too high, by the variance of the sum",
    statement=(
        "E[E^] - E = Var(S^) / (gamma S^2) + O(1/Y^2) > 0 (Jensen); 1e5 draws of Y = 100 features, "
        "error rate 1e-5 (4.5 standard errors plus 3 Var^2 / (gamma S^4))"
    ),
    latex=r"\mathbb E[\hat E] - E = \frac{\operatorname{Var}\hat S}{\gamma S^2} + O(Y^{-2})",
    printed_statement="the abstract prints no equation",
    verdict="NEW",
    relation="limit",
    constant="1 / (gamma S^2)",
    inputs=_many_draws,
    cases=(ordinary("Y = 100"),),
    tolerance=1.0,
    exact={"bias": 1.0},
    mutations={"no bias": {"bias": 0.0}, "sign flipped": {"bias": -1.0}, "twice the bias": {"bias": 2.0}},
    slow=True,
)
def energy_estimate_is_biased_upwards(
    queries: Array,
    memories: Array,
    weights: Array,
    gamma: Array,
    key: Array,
    slots: Array,
    feature: Array,
    *,
    bias: float,
) -> Array:
    """Distance of the mean estimate from the exact energy plus its bias, in units of the stated bound."""

    def estimate(key_draw: Array) -> Array:
        frequencies = random_features.draw_frequencies(key_draw, feature.shape[0], 2, gamma)
        stored = random_features.store(frequencies, memories, weights)
        return random_features.energy(stored, frequencies, queries, gamma)[0]

    def block(key_block: Array) -> Array:
        estimates: Array = jax.vmap(estimate)(jax.random.split(key_block, slots.shape[1]))
        return estimates

    estimates = jax.lax.map(block, jax.random.split(key, slots.shape[0]))
    kernel = _kernel(queries[:, None] - memories, gamma)
    total = jnp.sum(weights * kernel)
    between = _kernel(memories[:, None] - memories, gamma)
    across = _kernel(2 * queries[0] - memories[:, None] - memories, gamma)
    covariance = weights[:, None] * weights * (0.5 * (between + across) - kernel[0][:, None] * kernel[0])
    ratio = jnp.sum(covariance) / feature.shape[0] / total**2
    exact = clam.energy(queries, memories, gamma / 2, weights)[0]
    distance = jnp.abs(jnp.mean(estimates) - exact - bias * ratio / gamma)
    bound = 4.5 * jnp.std(estimates) / jnp.sqrt(slots.size) + 3 * ratio**2 / gamma
    return distance / bound
