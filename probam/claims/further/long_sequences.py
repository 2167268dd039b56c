"""Claim D4, further: two layers, the pseudo-inverse, dwell times, crosstalk, and the exact filter.

Physics: :mod:`probam.energies.sequences`, :mod:`probam.energies.layered_sequences` and
:mod:`probam.energies.timed_sequences`. Statistics: :mod:`probam.distributions.hidden_sequence`, couplings of many
neurons summed term by term, and moments over all states of a few neurons.
"""

from collections.abc import Callable
from math import cosh, exp
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array

from probam.claims.claim import Piece, extreme, ordinary, register, relative_error
from probam.claims.inputs import Floats, all_states, generator
from probam.distributions.bits import SpinBernoulli
from probam.distributions.hidden_sequence import HiddenSequence, onward
from probam.energies import layered_sequences, sequences, timed_sequences
from probam.energies.separations import Polynomial

__all__: list[str] = []

_CHAUDHRY = "Chaudhry et al. (2023), Long sequence Hopfield memory, arXiv:2306.04532"


def _signs(
    key: jax.Array, *, num_neurons: int = 12, num_patterns: int = 5, likeness: float = 0.0, length: int = 4
) -> dict[str, Floats]:
    """Patterns of signs, each sign that of a common template with the probability (1 + likeness) / 2, and states."""
    draw = generator(key)
    template = draw.choice([-1.0, 1.0], size=num_neurons)
    kept = np.where(draw.random((num_patterns, num_neurons)) < (1 + likeness) / 2, 1.0, -1.0)
    return {
        "patterns": kept * template,
        "states": draw.choice([-1.0, 1.0], size=(3, length, num_neurons)),
    }


@register(
    id="D4.two_layers",
    source=_CHAUDHRY,
    title="two layers with two-neuron couplings are a network of many-neuron ones",
    statement=(
        "f(m) = m^2: M' f(W s) with W = Xi / N is sum_jk J_ijk s_j s_k, J_ijk = sum_mu xi_i^{mu+1} xi_j^mu xi_k^mu / "
        "N^2, with the self-couplings j = i and k = i kept"
    ),
    latex=r"\sum_\mu \xi_i^{\mu+1} \Bigl(\tfrac1N\sum_j \xi_j^\mu s_j\Bigr)^2 = \sum_{jk} J_{ijk} s_j s_k",
    printed_statement="overlaps over j != i with 1 / (N - 1), and two-body weights xi_j^mu / N, as one network",
    verdict="COND",
    relation="equal",
    constant="1 / N^2",
    inputs=_signs,
    cases=(
        ordinary("plain"),
        ordinary("K = 9", num_patterns=9),
        extreme("N = 2, K = 2", num_neurons=2, num_patterns=2),
    ),
    tolerance=1e-12,
    exact={"self_couplings": 1.0, "neurons": 0, "rule": "hebb"},
    printed={"self_couplings": 0.0, "neurons": -1},
    printed_exceeds=1e-3,
    mutations={
        "N - 1 in place of N": {"neurons": -1},
        "self-couplings left out": {"self_couplings": 0.0},
        "read by the pseudo-inverse": {"rule": "pseudo_inverse"},
    },
)
def two_layers_are_many_neuron_couplings(
    patterns: Array, states: Array, *, self_couplings: float, neurons: int, rule: layered_sequences.Rule
) -> Array:
    """The hidden layer against a tensor of three-neuron couplings, contracted with the state twice."""
    callers, called = patterns, jnp.roll(patterns, -1, axis=0)
    hidden = layered_sequences.hidden(states, layered_sequences.reading_weights(callers, rule), 2)
    size = patterns.shape[1]
    couplings = jnp.einsum("mi,mj,mk->ijk", called, callers, callers) / (size + neurons) ** 2
    others = 1 - (1 - self_couplings) * jnp.eye(size)
    couplings = couplings * others[:, :, None] * others[:, None, :]
    return relative_error(hidden @ called, jnp.einsum("ijk,...j,...k->...i", couplings, states, states), 1.0)


@register(
    id="D4.pseudo_inverse",
    source=_CHAUDHRY,
    title="the pseudo-inverse follows independent patterns exactly, however correlated",
    statement="rank(Xi) = K: sum_nu O^+_mu,nu m^nu = 1 at pattern mu and 0 at the others; each step is exact",
    latex=r"\sum_\nu O^+_{\mu\nu} m^\nu(\xi^\kappa) = \delta_{\mu\kappa},\qquad O = \Xi\Xi^\top/N",
    printed_statement="sgn[sum_mu xi^(mu+1) f(sum_nu O^+ m^nu)] recalls highly correlated patterns",
    verdict="EXACT",
    relation="equal",
    constant="none",
    inputs=_signs,
    cases=(
        ordinary("plain", num_neurons=40),
        ordinary("correlated", num_neurons=60, num_patterns=8, likeness=0.7),
        extreme("very correlated", num_neurons=200, num_patterns=12, likeness=0.9),
    ),
    tolerance=1e-11,
    exact={"overlaps_of": "all", "weights": lambda o: jnp.linalg.pinv(o)},
    mutations={
        "plain overlaps": {"weights": lambda o: jnp.eye(len(o))},
        "each overlap over its own variance": {"weights": lambda o: jnp.diag(1 / jnp.sum(o**2, axis=0))},
        "neuron 0 left out of the overlaps": {"overlaps_of": "others"},
    },
)
def pseudo_inverse_overlaps_are_one_hot(
    patterns: Array, states: Array, *, overlaps_of: str, weights: Callable[[Array], Array]
) -> Array:
    """Printed overlaps times the inverse of their matrix, the two-layer weights, and the recalled patterns."""
    del states
    size, one_hot = patterns.shape[1], jnp.eye(len(patterns))
    overlap = patterns @ patterns.T / size  # (state, pattern)
    left_out = sequences.overlaps(patterns, patterns)[..., 0]
    printed = (overlap if overlaps_of == "all" else left_out) @ weights(overlap)
    reading = layered_sequences.reading_weights(patterns, "pseudo_inverse")
    following = jnp.roll(patterns, -1, axis=0)
    wrong = [jnp.sum(layered_sequences.step(patterns, reading, following, d) != following) for d in (1, 3, None)]
    layered = layered_sequences.hidden(patterns, reading, 1)
    errors = [
        relative_error(printed, one_hot),
        relative_error(layered, one_hot),
        jnp.max(jnp.stack(wrong)).astype(float),
    ]
    return jnp.max(jnp.stack(errors))


def _orthogonal(
    key: jax.Array, *, power: int = 6, num_patterns: int = 5, delay: int = 10, strength: float = 2.0, degree: int = 2
) -> dict[str, Any]:
    """Orthogonal patterns: rows of Sylvester's matrix of 2^power neurons, in random order."""
    matrix: Floats = np.ones((1, 1))
    for _ in range(power):
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    rows = generator(key).permutation(len(matrix))[:num_patterns]
    return {"patterns": matrix[rows], "delay": delay, "strength": strength, "degree": degree}


@register(
    id="D4.dwell",
    source=_CHAUDHRY,
    title="how long a timed sequence stays at each pattern",
    statement="orthogonal patterns, f_S(1) = 1: the least k with lambda f_A(k / tau) > 1 + lambda f_A(1 - k / tau)",
    latex=r"\min\{k : \lambda f_A(k/\tau) > 1 + \lambda f_A(1 - k/\tau)\}",
    printed_statement="no number of steps",
    verdict="NEW",
    relation="count",
    constant="none",
    inputs=_orthogonal,
    cases=(
        ordinary("plain"),
        ordinary("degree 1, tau 7", degree=1, delay=7, strength=1.6),
        ordinary("degree 3, strong", degree=3, delay=12, strength=3.3),
    ),
    tolerance=0.0,
    exact={"dwell": timed_sequences.dwell_time},
    mutations={
        "the whole delay": {"dwell": lambda delay, _strength, _move: delay},
        "the pull of the pattern before left out": {
            "dwell": lambda tau, strength, f: 1 + int(jnp.argmax(strength * f(jnp.arange(1, tau + 1) / tau) > 1))
        },
        "one step more": {"dwell": lambda *of: timed_sequences.dwell_time(*of) + 1},
    },
    jit=False,
)
def dwell_time_follows_from_the_two_forces(
    patterns: Floats, delay: int, strength: float, degree: int, *, dwell: Callable[..., int]
) -> Array:
    """Steps at each of the patterns, in a run of the network that begins at the first."""
    memory = timed_sequences.TimedSequence(patterns, strength, delay, 3, degree)
    expected = dwell(delay, strength, Polynomial(degree))
    window, held = memory.held(0), np.zeros(len(patterns))
    for _ in range(3 * expected + 1):  # the first pattern was held already: it is left at the first step
        window = memory.update(window)
        held += np.all(np.asarray(window[-1]) == patterns, axis=1)
    return jnp.sum(jnp.asarray(held[1:4] != expected)).astype(float)


def _law_of_overlaps(key: jax.Array, *, num_neurons: int = 9) -> dict[str, Floats]:
    """A pattern, and every state of its neurons."""
    return {"pattern": generator(key).choice([-1.0, 1.0], size=num_neurons), "states": all_states(num_neurons)}


def _moment(degree: int | None, n: int) -> float:
    """Exact mean square of f of an overlap of n random signs."""
    if degree is None:
        return (cosh(2) / exp(2)) ** n
    return {1: 1 / n, 2: (3 * n - 2) / n**3, 3: (15 * n**2 - 30 * n + 16) / n**5}[degree]


@register(
    id="D4.crosstalk",
    source=_CHAUDHRY,
    title="mean square of the crosstalk of one pattern",
    statement=(
        "over all states, n = N - 1: E m^2 = 1/n, E m^4 = (3n - 2)/n^3, E m^6 = (15n^2 - 30n + 16)/n^5, "
        "E exp(2n(m - 1)) = (cosh 2 / e^2)^n; a capacity of 1 / (2 log N) over it"
    ),
    latex=r"\mathbb E m^4 = \frac{3n-2}{n^3},\quad \mathbb E e^{2n(m-1)} = (\cosh 2/e^2)^n,\quad n = N - 1",
    printed_statement="(2d - 1)!! / N^d for the degree d",
    verdict="COND",
    relation="equal",
    constant="(2d - 1)!! / N^d to leading order",
    inputs=_law_of_overlaps,
    cases=(ordinary("N = 9"), ordinary("N = 6", num_neurons=6), extreme("N = 2", num_neurons=2)),
    tolerance=1e-12,
    exact={"moment": _moment},
    printed={
        "moment": lambda d, n: _moment(None, n) if d is None else {1: 1, 2: 3, 3: 15}[d] / (n + 1) ** d,
    },
    printed_exceeds=0.05,
    mutations={
        "N in place of N - 1": {"moment": lambda d, n: _moment(d, n + 1)},
        "variance of the exponential without the square": {
            "moment": lambda d, n: (cosh(1) / exp(1)) ** n if d is None else _moment(d, n)
        },
    },
)
def crosstalk_has_these_moments(pattern: Array, states: Array, *, moment: Callable[[int | None, int], float]) -> Array:
    """Separations of the physics, squared and averaged over every state, against closed forms."""
    overlap = sequences.overlaps(states, pattern[None])[:, 0, :]
    size = len(pattern)
    forms: dict[int | None, Callable[[Array], Array]] = {
        1: Polynomial(1),
        2: Polynomial(2),
        3: Polynomial(3),
        None: sequences.exponential(size),
    }
    errors = [relative_error(jnp.mean(f(overlap) ** 2, axis=0), moment(d, size - 1)) for d, f in forms.items()]
    return jnp.max(jnp.stack(errors))


@register(
    id="D4.filter",
    source=_CHAUDHRY,
    title="the exact filter is a network of delayed overlaps",
    statement=(
        "z' = z + 1, spins of log odds 2 beta xi: E[xi^{z_T + 1} | s_1, ..., s_T] is the read-out of windows of T "
        "patterns at the window of T states"
    ),
    latex=r"\mathbb E[\xi^{z_T+1}\mid s_{1:T}] = \sum_\mu \operatorname{softmax}_\mu\Bigl(\beta \sum_{t<T} "
    r"\langle \xi^{\mu-t}, s_{T-t}\rangle\Bigr)\,\xi^{\mu+1}",
    printed_statement="no statement on several observations",
    verdict="NEW",
    relation="equal",
    constant="beta",
    inputs=_signs,
    cases=(ordinary("T = 4"), ordinary("T = 2, K = 9", num_patterns=9, length=2), extreme("T = 1", length=1)),
    tolerance=1e-12,
    exact={"odds": 2.0, "delay": 1, "stay": 0.0},
    mutations={
        "log odds of beta": {"odds": 1.0},
        "the window backwards": {"delay": -1},
        "a filter that may stay": {"stay": 0.2},
    },
)
def filter_is_a_network_of_delayed_overlaps(
    patterns: Array, states: Array, *, odds: float, delay: int, stay: float
) -> Array:
    """The filter of the hidden Markov model against the read-out of stacked patterns."""
    num_patterns, length, beta = len(patterns), states.shape[1], 0.3
    bank = SpinBernoulli(odds * beta * patterns).to_event(1)
    chain = HiddenSequence(bank, jnp.full(num_patterns, 1 / num_patterns), onward(num_patterns, stay=stay), length)
    expected = chain.next_memory(states) @ patterns
    windows = jnp.concatenate([jnp.roll(patterns, delay * t, axis=0) for t in reversed(range(length))], axis=1)
    recalled = sequences.read_out(states.reshape(len(states), -1), windows, beta)
    following = recalled[:, -patterns.shape[1] :]  # the newest part of the window that is recalled
    return relative_error(following, expected, 1.0)


def _rows(key: jax.Array, *, num_patterns: int = 5, dim: int = 4, beta: float = 2.0) -> dict[str, Floats]:
    """Real patterns of different lengths, one observation of each of two steps, and beta."""
    draw = generator(key)
    return {
        "patterns": draw.normal(size=(num_patterns, dim)),
        "states": draw.normal(size=(3, 1, dim)),
        "beta": np.asarray(beta),
    }


@register(
    id="D4.continuous",
    source=_CHAUDHRY,
    title="real sequences: the read-out is the filter for patterns of one length",
    statement="N(xi_z, I / beta), |xi| all equal: E[xi^{z + 1} | x] is the read-out of the dot products",
    latex=r"\mathbb E[\xi^{z+1}\mid x] = \sum_\mu \operatorname{softmax}_\mu(\beta\,\xi^\mu\cdot x)\,\xi^{\mu+1}"
    r"\iff |\xi^\mu| \text{ equal}",
    printed_statement="no statement on continuous patterns",
    verdict="NEW",
    relation="equal",
    constant="covariance I / beta",
    inputs=_rows,
    cases=(ordinary("plain"), ordinary("K = 12", num_patterns=12), extreme("beta 1e-6", beta=1e-6)),
    tolerance=1e-12,
    exact={
        "scaled": lambda rows: rows / jnp.linalg.norm(rows, axis=1, keepdims=True),
        "variance": lambda beta: 1 / beta,
    },
    mutations={
        "patterns of different lengths": {"scaled": jnp.asarray},
        "covariance I / (2 beta)": {"variance": lambda beta: 0.5 / beta},
    },
)
def read_out_filters_patterns_of_one_length(
    patterns: Array, states: Array, beta: Array, *, scaled: Piece, variance: Piece
) -> Array:
    """The Gaussian filter of one observation against the read-out."""
    rows = scaled(patterns)
    bank = dist.Normal(rows, jnp.sqrt(variance(beta))).to_event(1)
    chain = HiddenSequence(bank, jnp.full(len(rows), 1 / len(rows)), onward(len(rows)), 1)
    return relative_error(sequences.read_out(states[:, 0], rows, beta), chain.next_memory(states) @ rows, 1.0)
