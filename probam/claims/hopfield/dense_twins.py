r"""Claim B7: what law on \(\{-1, 1\}^N\) a dense memory stands for: three readings, and one that does not exist.

Physics: :mod:`probam.energies.dense` and :mod:`probam.energies.hopfield`. Statistics: NumPyro mixtures of the number
of neurons that differ from a memory, mixtures of Bernoulli bits, and a Gaussian hidden layer summed by quadrature.
"""

from collections.abc import Callable
from functools import partial
from math import comb, factorial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array

from probam.claims.claim import Piece, extreme, ordinary, register, relative_error
from probam.claims.inputs import Floats, sign_bank
from probam.energies import dense, hopfield

__all__: list[str] = []

_YANG = "Yang (2020), Large associative memory (slides on Krotov and Hopfield)"

_BANKS = (
    ordinary("K = 4, N = 7"),
    ordinary("K = 9, N = 5", num_memories=9, num_neurons=5),
    extreme("repeated and opposite memories", duplicates=True),
    extreme("N = 60", num_memories=20, num_neurons=60, num_states=9),
)

_TWINNED = (
    dense.Polynomial(2),
    dense.Polynomial(3),
    dense.Polynomial(2, rectified=False),
    dense.Polynomial(4, rectified=False),
)


def _shells(num_neurons: int, degree: int, rectified: bool) -> Floats:
    """F_n(N - 2d) times the number of states that differ from a memory in d neurons, d = 0 ... N."""
    overlaps = num_neurons - 2.0 * np.arange(num_neurons + 1)
    powers = np.where((overlaps > 0) | (not rectified), overlaps**degree, 0.0)
    return np.asarray(powers * [comb(num_neurons, d) for d in range(num_neurons + 1)])


def _mixture_log_density(states: Array, memories: Array, shells: Floats) -> Array:
    """Statistics: choose a memory, then how many neurons differ, then which; all three under NumPyro."""
    num_memories, num_neurons = memories.shape
    differing = jnp.sum(states[:, None, :] != memories, axis=-1)  # (S, K)
    log_shells = jnp.where(shells > 0, jnp.log(jnp.where(shells > 0, shells, 1.0)), -jnp.inf)
    log_ways = jnp.log(jnp.array([float(comb(num_neurons, d)) for d in range(num_neurons + 1)]))
    log_part = dist.Categorical(logits=log_shells).log_prob(differing) - log_ways[differing]
    log_weight = dist.Categorical(probs=jnp.full(num_memories, 1 / num_memories)).log_prob(jnp.arange(num_memories))
    return jnp.logaddexp.reduce(log_part + log_weight, axis=-1)


@register(
    id="B7.density",
    source=f"{_YANG}, Dense associative memory",
    title="a polynomial energy is minus a density, not its log",
    statement=(
        "E(s) = -K Z_n p_mix(s), p(s|xi) = F_n(<xi, s>)/Z_n, Z_n = sum_d C(N,d) F_n(N - 2d): rectified n = 2, 3, "
        "plain n = 2, 4"
    ),
    latex=r"E(s) = -K Z_n\, p_{\rm mix}(s), \qquad Z_n = \sum_{d=0}^N \binom Nd F_n(N - 2d)",
    printed_statement="no density",
    verdict="NEW",
    relation="equal",
    constant="K Z_n, the same for every memory",
    inputs=sign_bank,
    cases=_BANKS,
    tolerance=1e-12,
    exact={"reading": lambda log_p: -jnp.exp(log_p), "count": float, "normaliser": np.sum},
    mutations={
        "log of the density": {"reading": lambda log_p: -log_p},
        "K left out": {"count": lambda _num_memories: 1.0},
        "normaliser dropped": {"normaliser": lambda _shells: 1.0},
        "binomials left out": {"normaliser": lambda shells: np.sum(shells > 0)},
    },
)
def polynomial_energy_is_minus_a_density(
    states: Array,
    memories: Array,
    *,
    reading: Piece,
    count: Callable[[int], float],
    normaliser: Callable[[Floats], Any],
) -> Array:
    """Energies against NumPyro's mixture, on all states."""
    errors = []
    for separation in _TWINNED:
        shells = _shells(memories.shape[1], separation.degree, separation.rectified)
        right = count(len(memories)) * normaliser(shells) * reading(_mixture_log_density(states, memories, shells))
        errors.append(relative_error(dense.energy(states, memories, separation), right))
    return jnp.max(jnp.stack(errors))


@register(
    id="B7.hopfield",
    source=f"{_YANG}, Lyapunov function",
    title="the classical energy as a density: Z = N 2^N",
    statement="-s^T T s (diagonal kept) = -K N 2^N p_mix(s), p(s|xi) = <xi, s>^2 / (N 2^N)",
    latex=r"s^\top T s = K N 2^N\, p_{\rm mix}(s), \qquad Z_2 = N 2^N",
    printed_statement="no density",
    verdict="NEW",
    relation="equal",
    constant="K N 2^N",
    inputs=sign_bank,
    cases=_BANKS,
    tolerance=1e-12,
    exact={"normaliser": lambda num_neurons: num_neurons * 2.0**num_neurons, "rectified": False, "diagonal": True},
    mutations={
        "2^N for N 2^N": {"normaliser": lambda num_neurons: 2.0**num_neurons},
        "rectified": {"rectified": True},
        "diagonal dropped": {"diagonal": False},
    },
)
def classical_energy_is_minus_a_density(
    states: Array, memories: Array, *, normaliser: Callable[[int], float], rectified: bool, diagonal: bool
) -> Array:
    """Couplings against NumPyro's mixture, on all states."""
    num_memories, num_neurons = memories.shape
    log_p = _mixture_log_density(states, memories, _shells(num_neurons, 2, rectified))
    left = hopfield.slide_energy(states, hopfield.couplings(memories, diagonal=diagonal))
    return relative_error(left, -num_memories * normaliser(num_neurons) * jnp.exp(log_p))


def _bernoulli_mixture(memories: Array, logits: Array) -> dist.Distribution:
    """Equal mixture of independent bits; bit i is up with the log odds of its neuron in the memory."""
    weights = dist.Categorical(probs=jnp.full(len(memories), 1 / len(memories)))
    return dist.MixtureSameFamily(weights, dist.Bernoulli(logits=logits * memories).to_event(1))


@register(
    id="B7.log",
    source=f"{_YANG}, after Demircigil et al. (2017)",
    title="the exponential energy is a Bernoulli mixture",
    statement="lse(beta Xi s) = log K + N log(2 cosh beta) + log p_mix(s), P(s_i = xi_i) = sigmoid(2 beta)",
    latex=r"\sum_\mu e^{\beta\langle\xi^\mu, s\rangle} = K (2\cosh\beta)^N p_{\rm mix}(s)",
    printed_statement="no density",
    verdict="NEW",
    relation="equal",
    constant="log K + N log(2 cosh beta)",
    inputs=partial(sign_bank, beta=0.7),
    cases=(
        *_BANKS,
        extreme("beta 1e-6", beta=1e-6),
        extreme("beta 17", beta=17.0),
        extreme("N = 2000", num_memories=5, num_neurons=2000, num_states=7),
    ),
    tolerance=1e-12,
    exact={"logits": lambda beta: 2 * beta, "normaliser": lambda beta: jnp.logaddexp(beta, -beta), "count": np.log},
    mutations={
        "beta doubled": {"logits": lambda beta: 4 * beta},
        "log odds beta": {"logits": lambda beta: beta},
        "normaliser dropped": {"normaliser": lambda _beta: 0.0},
        "K left out": {"count": lambda _num_memories: 0.0},
        "sign flipped": {"logits": lambda beta: -2 * beta},
    },
)
def exponential_energy_is_a_bernoulli_mixture(
    states: Array,
    memories: Array,
    beta: Array,
    *,
    logits: Piece,
    normaliser: Callable[[Array], Any],
    count: Callable[[int], Any],
) -> Array:
    """Log depth of the physics against NumPyro's mixture of bits, on all states."""
    num_memories, num_neurons = memories.shape
    log_p = _bernoulli_mixture(memories, logits(beta)).log_prob((states + 1) / 2)
    constant = count(num_memories) + num_neurons * normaliser(beta)
    return relative_error(dense.log_depth(states, memories, dense.Exponential(beta)), constant + log_p, constant)


_NODES, _NODE_WEIGHTS = np.polynomial.hermite_e.hermegauss(90)


@register(
    id="B7.boltzmann",
    source=f"{_YANG}, RBM-like networks",
    title="exp(-beta E) is a Gaussian-hidden Boltzmann machine",
    statement=(
        "exp(-beta E) = prod_mu exp(beta <xi, s>^2) = prod_mu E_h exp(sqrt(2 beta) h <xi, s>), h standard normal: a "
        "product, not a mixture"
    ),
    latex=r"e^{-\beta E(s)} = \prod_\mu \mathbb E_h\, e^{\sqrt{2\beta}\, h \langle\xi^\mu, s\rangle}",
    printed_statement="no hidden law named",
    verdict="NEW",
    relation="equal",
    constant="sqrt(2 beta)",
    inputs=partial(sign_bank, beta=0.1),
    cases=(*_BANKS[:2], extreme("beta 1e-6", beta=1e-6), extreme("repeated and opposite memories", duplicates=True)),
    tolerance=1e-12,
    exact={
        "coupling": lambda beta: jnp.sqrt(2 * beta),
        "scale": 1.0,
        "joined": lambda logs: jnp.sum(logs, axis=-1),
        "diagonal": True,
    },
    mutations={
        "sqrt(beta)": {"coupling": jnp.sqrt},
        "variance 2": {"scale": float(np.sqrt(2))},
        "mixture for product": {"joined": lambda logs: jax.scipy.special.logsumexp(logs, axis=-1)},
        "diagonal dropped": {"diagonal": False},
    },
)
def boltzmann_factor_has_gaussian_hidden_units(
    states: Array, memories: Array, beta: Array, *, coupling: Piece, scale: float, joined: Piece, diagonal: bool
) -> Array:
    """Sum over a quadrature of NumPyro's normal, unit by unit, against the couplings; logs, on all states."""
    drive = coupling(beta) * scale * (states @ memories.T)[..., None] * _NODES
    normal = dist.Normal(0.0, 1.0).log_prob(_NODES)
    log_weights = np.log(_NODE_WEIGHTS) + 0.5 * _NODES**2 + normal  # hermegauss has the weight exp(-h^2 / 2)
    logs = jax.scipy.special.logsumexp(drive + log_weights, axis=-1)
    left = -beta * hopfield.slide_energy(states, hopfield.couplings(memories, diagonal=diagonal))
    return relative_error(left, joined(logs), 1.0)


def _powers(_key: jax.Array, *, degree: int) -> dict[str, int]:
    return {"degree": degree}


def _least_eigenvalue(degree: int, beta: float = 0.3) -> float:
    """Of the Hankel matrix of the moments that exp(beta h^n) would have, up to order 2n."""
    moments = [0.0] * (2 * degree + 1)
    for power in range(0, 2 * degree + 1, degree):
        moments[power] = beta ** (power // degree) * factorial(power) / factorial(power // degree)
    hankel = np.array([[moments[i + j] for j in range(degree + 1)] for i in range(degree + 1)])
    size = np.sqrt(np.maximum(np.diagonal(hankel), 1.0))
    return float(np.linalg.eigvalsh(hankel / size / size[:, None])[0])


@register(
    id="B7.marcinkiewicz",
    source=f"{_YANG}, RBM-like networks; Marcinkiewicz (1939)",
    title="steeper powers have no additive hidden layer",
    statement=(
        "exp(beta t^n), n > 2, is no moment generating function: a variance of 0 beside E h^n = n! beta; the moments' "
        "Hankel matrix has a negative eigenvalue"
    ),
    latex=r"e^{\beta t^n} = \mathbb E e^{t h}, \; n > 2 \Rightarrow \mathbb E h^2 = 0,\; \mathbb E h^n = n!\beta",
    printed_statement="a hidden layer for every F",
    verdict="NONE",
    relation="at most",
    constant="least eigenvalue below -0.01",
    inputs=_powers,
    cases=(ordinary("n = 3", degree=3), ordinary("n = 4", degree=4), ordinary("n = 6", degree=6)),
    tolerance=0.0,
    exact={"least": _least_eigenvalue},
    mutations={
        "n = 2": {"least": lambda _degree: _least_eigenvalue(2)},
        "n = 1": {"least": lambda _d: _least_eigenvalue(1)},
    },
    jit=False,
)
def steeper_powers_are_no_moment_generating_functions(degree: int, *, least: Callable[[int], float]) -> float:
    """How far the least eigenvalue is above -0.01."""
    return max(least(degree) + 0.01, 0.0)
