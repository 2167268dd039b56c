"""Claim B12: the energy of two layers is a variational free energy.

Physics: :mod:`probam.energies.two_layer` and its Lagrangians. Statistics: harmoniums, two layers of NumPyro
distributions coupled by Xi, whose expectations are sums over all their states (Gaussians: Gauss-Hermite quadrature).
"""

from collections.abc import Callable
from itertools import product
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.scipy.special import logsumexp
from jaxtyping import Array

from probam.claims.claim import Piece, excess, extreme, ordinary, register, relative_error
from probam.claims.hopfield.two_layer import layers
from probam.claims.mixtures.descent import hopfield_mixture
from probam.energies import continuous_hopfield, two_layer
from probam.energies.lagrangians import Lagrangian, LogCosh, LogSumExp, Quadratic, Softplus
from probam.energies.two_layer import Network, modern_hopfield

__all__ = ["LayerLaw", "one_of_all", "spins"]

_YANG = "Yang (2020), Large associative memory (slides on Krotov and Hopfield), energy function"
_NODES = 6
"""Quadrature points for each Gaussian coordinate: exact for the polynomials of degree 2 that occur."""


class LayerLaw(NamedTuple):
    """States of a layer, their probabilities under q of natural parameters x, and log q / nu."""

    states: Array  # (M, N)
    probabilities: Array  # (M,)
    log_ratio: Array  # (M,)


def spins(x: Array) -> LayerLaw:
    """Spins under counting measure; L = log 2 cosh."""
    states = jnp.asarray(list(product((-1.0, 1.0), repeat=x.shape[-1])))
    log_q = jnp.asarray(dist.Bernoulli(logits=2 * x).to_event(1).log_prob((states + 1) / 2))
    return LayerLaw(states, jnp.exp(log_q), log_q)


def _bits(x: Array) -> LayerLaw:
    """Bits under counting measure; L = softplus."""
    states = jnp.asarray(list(product((0.0, 1.0), repeat=x.shape[-1])))
    log_q = jnp.asarray(dist.Bernoulli(logits=x).to_event(1).log_prob(states))
    return LayerLaw(states, jnp.exp(log_q), log_q)


def one_of_all(x: Array) -> LayerLaw:
    """One unit on, under counting measure; L = log-sum-exp."""
    log_q = jnp.asarray(dist.Categorical(logits=x).log_prob(jnp.arange(x.shape[-1])))
    return LayerLaw(jnp.eye(x.shape[-1]), jnp.exp(log_q), log_q)


def _gaussians(x: Array) -> LayerLaw:
    """Real units under the standard normal measure; L = |x|^2 / 2."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    dim = x.shape[-1]
    states = x + jnp.asarray(list(product(nodes, repeat=dim)))
    probabilities = jnp.asarray([np.prod(chosen) for chosen in product(weights / weights.sum(), repeat=dim)])
    laws = (dist.Normal(mean, 1.0).to_event(1) for mean in (x, jnp.zeros(dim)))
    log_law, log_standard = (jnp.asarray(law.log_prob(states)) for law in laws)
    ratio = log_law - log_standard
    return LayerLaw(states, probabilities, ratio)


_KINDS: tuple[tuple[Lagrangian, Callable[[Array], LayerLaw], Lagrangian, Callable[[Array], LayerLaw]], ...] = (
    (LogCosh(), spins, LogSumExp(), one_of_all),
    (Softplus(), _bits, LogCosh(), spins),
    (Quadratic(), _gaussians, LogSumExp(), one_of_all),
)


def _elbo(visible: LayerLaw, hidden: LayerLaw, memories: Array, current: Array) -> Array:
    """E_q [I.s + t^T Xi s - log q(s)/nu(s) - log q(t)/nu(t)], in nats, as a sum over pairs of states."""
    log_joint = visible.states @ current + (hidden.states @ memories @ visible.states.T)  # (T, S)
    log_q = hidden.log_ratio[:, None] + visible.log_ratio
    return jnp.sum(hidden.probabilities[:, None] * visible.probabilities * (log_joint - log_q))


@register(
    id="B12.elbo",
    source=_YANG,
    title="the energy of two layers is minus an ELBO",
    statement=(
        "E(v, h) = -ELBO of the harmonium exp(I.s + t^T Xi s) dnu_v(s) dnu_h(t) under the factorised q of natural "
        "parameters (v, h), where L = log int exp(x.s) dnu(s) (log 2 cosh, softplus, log-sum-exp, |x|^2 / 2)"
    ),
    latex=(
        r"E(v,h) = -\mathbb E_{q_v q_h}\Bigl[I \cdot s + t^\top \Xi s - \log\tfrac{dq_v}{d\nu_v}"
        r" - \log\tfrac{dq_h}{d\nu_h}\Bigr]"
    ),
    printed_statement="E = [(v - I) g - L_v] + [h f - L_h] - f Xi g, no density named",
    verdict="NEW",
    relation="equal",
    constant="none; at inverse temperature 1",
    inputs=layers,
    cases=(ordinary("plain"), extreme("states at 30", size=30.0), extreme("states at 1e-8", size=1e-8)),
    tolerance=1e-12,
    exact={"beta": 1.0, "coupling": 1.0, "driven": 1.0, "measure": lambda layer: layer},
    mutations={
        "beta doubled": {"beta": 2.0},
        "sign of the coupling flipped": {"coupling": -1.0},
        "current left out": {"driven": 0.0},
        "base measure left out": {"measure": lambda layer: layer._replace(log_ratio=jnp.zeros_like(layer.log_ratio))},
        "base measure normalised": {"measure": lambda layer: layer._replace(log_ratio=layer.log_ratio + jnp.log(2.0))},
    },
)
def energy_is_minus_the_elbo(
    visible: Array,
    hidden: Array,
    memories: Array,
    current: Array,
    tau_v: Array,  # noqa: ARG001
    tau_h: Array,  # noqa: ARG001
    *,
    beta: float,
    coupling: float,
    driven: float,
    measure: Callable[[LayerLaw], LayerLaw],
) -> Array:
    """Energies of all states of three kinds of networks against sums over all states of the harmoniums."""
    errors = []
    for L_v, visible_law, L_h, hidden_law in _KINDS:
        network = Network(memories, L_v, L_h, current)

        def free_energy(v: Array, h: Array, law_v: Any = visible_law, law_h: Any = hidden_law) -> tuple[Array, Array]:
            q_v, q_h = measure(law_v(beta * v)), measure(law_h(beta * h))
            size = jnp.max(jnp.abs(q_v.log_ratio)) + jnp.max(jnp.abs(q_h.log_ratio))
            return -_elbo(q_v, q_h, coupling * memories, driven * current), size

        expected, size = jax.vmap(free_energy)(visible, hidden)
        errors.append(relative_error(two_layer.energy(visible, hidden, network), expected, size))
    return jnp.max(jnp.stack(errors))


def _settled(network: Network, visible: Array) -> tuple[Array, Array]:
    """A few unit steps of both layers, near the least energy."""
    for _ in range(4):
        visible = two_layer.update(visible, network)
    return visible, two_layer.answer(visible, network)


@register(
    id="B12.evidence",
    source=_YANG,
    title="the energy is never below minus the log evidence",
    statement="-E(v, h) <= log Z of the harmonium for every (v, h); the fixed points are its mean-field solutions",
    latex=r"-E(v, h) \le \log Z = \log \sum_{s,t} e^{I \cdot s + t^\top \Xi s}",
    printed_statement="no density named",
    verdict="NEW",
    relation="at most",
    constant="the gap is KL(q || p)",
    inputs=layers,
    cases=(ordinary("plain"), ordinary("another"), extreme("states at 30", size=30.0)),
    tolerance=1e-12,
    exact={"bound": lambda log_z, _states: log_z, "driven": 1.0},
    mutations={
        "sign flipped": {"bound": lambda log_z, _states: -log_z},
        "normaliser of the states left in": {"bound": lambda log_z, states: log_z - jnp.log(float(states))},
        "current left out": {"driven": 0.0},
    },
)
def energy_is_bounded_by_the_evidence(
    visible: Array,
    hidden: Array,
    memories: Array,
    current: Array,
    tau_v: Array,  # noqa: ARG001
    tau_h: Array,  # noqa: ARG001
    *,
    bound: Piece,
    driven: float,
) -> Array:
    """Energies of drawn and of settled states against the enumerated log Z of two harmoniums."""
    errors = []
    for L_v, visible_law, L_h, hidden_law in _KINDS[:2]:
        network = Network(memories, L_v, L_h, current)
        s, t = visible_law(visible[0]).states, hidden_law(hidden[0]).states
        log_z = logsumexp(driven * (s @ current) + t @ memories @ s.T)
        settled = _settled(network, visible)
        energies = jnp.concatenate([two_layer.energy(visible, hidden, network), two_layer.energy(*settled, network)])
        errors.append(excess(-energies, bound(log_z, len(s) * len(t)), log_z))
    return jnp.max(jnp.stack(errors))


@register(
    id="B12.modern",
    source=_YANG,
    title="finite hidden times: a partial E-step",
    statement="E(v, h) - E_MCHN(v) = (1/beta) KL(softmax(beta h) || r(v)) >= 0, r the posterior of the Gaussian twin",
    latex=(
        r"E(v,h) - E_{\rm MCHN}(v) = \tfrac1\beta\,{\rm KL}\bigl(\operatorname{softmax}(\beta h) \,\|\, "
        r"\operatorname{softmax}(\beta\Xi v)\bigr)"
    ),
    printed_statement="tau_h -> 0 only",
    verdict="NEW",
    relation="equal",
    constant="1 / beta",
    inputs=lambda key, *, beta=1.7, **settings: {
        **{name: value for name, value in layers(key, **settings).items() if name in ("visible", "hidden", "memories")},
        "beta": np.asarray(beta),
    },
    cases=(
        ordinary("plain"),
        extreme("beta 1e-6", beta=1e-6),
        extreme("beta 1e6", beta=1e6),
        extreme("states at 1e6", size=1e6),
    ),
    tolerance=1e-12,
    exact={
        "divergence": lambda log_q, log_r: jnp.sum(jnp.exp(log_q) * (log_q - log_r), axis=-1),
        "twin_beta": lambda beta: beta,
        "factor": lambda beta: 1 / beta,
        "log_weights": None,
    },
    mutations={
        "divergence reversed": {"divergence": lambda log_q, log_r: jnp.sum(jnp.exp(log_r) * (log_r - log_q), axis=-1)},
        "beta doubled": {"twin_beta": lambda beta: 2 * beta},
        "1 / beta left out": {"factor": lambda beta: jnp.ones_like(beta)},
        "weights left out of the twin": {"log_weights": lambda mu, _beta: jnp.zeros(len(mu))},
    },
)
def modern_energy_exceeds_its_limit_by_a_divergence(
    visible: Array,
    hidden: Array,
    memories: Array,
    beta: Array,
    *,
    divergence: Piece,
    twin_beta: Piece,
    factor: Piece,
    log_weights: Callable[[Array, Array], Array] | None,
) -> Array:
    """Difference of the energies against the divergence of NumPyro's categorical from the mixture's posterior."""
    network = modern_hopfield(memories, beta)
    computed = two_layer.energy(visible, hidden, network)
    limit = continuous_hopfield.energy(visible, memories, beta)
    log_q = jax.vmap(lambda h: dist.Categorical(logits=twin_beta(beta) * h).log_prob(jnp.arange(len(memories))))(hidden)
    logits = None if log_weights is None else log_weights(memories, beta)
    log_joint = hopfield_mixture(memories, beta, logits).log_joint(visible)
    log_r = log_joint - logsumexp(log_joint, axis=-1, keepdims=True)
    scale = jnp.abs(computed) + jnp.abs(limit) + jnp.sum(visible**2, axis=-1) + jnp.max(jnp.abs(log_joint)) / beta
    return relative_error(computed - limit, factor(beta) * divergence(log_q, log_r), scale)
