"""Claim D4: a sequence memory with exponential separation predicts the next state of a hidden Markov chain.

Physics: :mod:`probam.energies.sequences`. Statistics: NumPyro's Bernoulli law over all states of a few neurons,
enumerated, with a hidden index that moves on by one.
"""

from collections.abc import Callable
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array

from probam.claims.claim import Piece, extreme, ordinary, register, relative_error
from probam.claims.inputs import Floats, generator
from probam.energies import sequences
from probam.energies.separations import Polynomial

__all__: list[str] = []

_CHAUDHRY = "Chaudhry et al. (2023), Long sequence Hopfield memory (abstract)"


def _states(num_neurons: int) -> Floats:
    """All states of a few neurons, (2^N, N)."""
    return np.array(list(product((-1.0, 1.0), repeat=num_neurons)))


def _patterns(key: jax.Array, *, num_neurons: int, num_patterns: int) -> dict[str, Floats]:
    return {"patterns": generator(key).choice([-1.0, 1.0], size=(num_patterns, num_neurons))}


def _sequence(
    key: jax.Array, *, num_neurons: int = 5, num_patterns: int = 4, beta: float = 0.7, duplicates: bool = False
) -> dict[str, Floats]:
    """Random patterns in a closed sequence, beta, and every state."""
    patterns = _patterns(key, num_neurons=num_neurons, num_patterns=num_patterns)["patterns"]
    if duplicates:
        patterns[-1] = patterns[0]
    return {"patterns": patterns, "states": _states(num_neurons), "beta": np.asarray(beta)}


def _without_beta(key: jax.Array, **settings: Any) -> dict[str, Floats]:
    drawn = _sequence(key, **settings)
    del drawn["beta"]
    return drawn


def _log_emission(states: Array, patterns: Array, beta: Array | float) -> Array:
    """log p(s | z) for each state and pattern, (S, K): each bit agrees with the pattern with log odds 2 beta."""
    law = dist.Bernoulli(logits=2 * beta * patterns).to_event(1)
    return jnp.asarray(law.log_prob((states[:, None] + 1) / 2))


_SEQUENCES = (
    ordinary("plain"),
    ordinary("beta 2, K = 3", beta=2.0, num_patterns=3),
    extreme("beta 1e-6", beta=1e-6),
    extreme("beta 60", beta=60.0),
    extreme("a pattern twice", duplicates=True),
)


@register(
    id="D4.prediction",
    source=_CHAUDHRY,
    title="the read-out predicts the next state of a Markov chain",
    statement=(
        "z uniform, z' = z + 1, p(s|z) ∝ exp(beta xi_z.s): E[xi^{z+1}|s] = read-out; "
        "E[s'|s] = tanh(beta) · read-out, by enumeration of s and s'"
    ),
    latex=(
        r"\mathbb E[s_{t+1} \mid s_t] = \tanh\beta \sum_\mu r_\mu(s_t)\,\xi^{\mu+1},\quad "
        r"r_\mu \propto e^{\beta\langle\xi^\mu, s_t\rangle}"
    ),
    printed_statement="the abstract prints no equation",
    verdict="NEW",
    relation="equal",
    constant="tanh(beta)",
    inputs=_sequence,
    cases=_SEQUENCES,
    tolerance=1e-12,
    exact={"shrink": jnp.tanh, "read_out": sequences.read_out},
    mutations={
        "tanh left out": {"shrink": lambda _beta: 1.0},
        "beta doubled": {"read_out": lambda s, xi, beta: sequences.read_out(s, xi, 2 * beta)},
        "the predecessor in place of the successor": {
            "read_out": lambda s, xi, beta: sequences.read_out(s, xi[::-1], beta)
        },
        "open in place of closed": {"read_out": lambda s, xi, beta: sequences.read_out(s, xi, beta, cyclic=False)},
    },
)
def read_out_is_the_one_step_prediction(
    patterns: Array, states: Array, beta: Array, *, shrink: Callable[[Array], Any], read_out: Piece
) -> Array:
    """Sum over all next states of the chain, each weighted with its probability, against the read-out."""
    log_emission = _log_emission(states, patterns, beta)
    posterior = jax.nn.softmax(log_emission, axis=-1)  # of z given s, (S, K)
    following = jnp.exp(jnp.roll(log_emission, -1, axis=1))  # p(s' | z + 1), (S', K)
    transition = posterior @ following.T  # p(s' | s)
    successor = posterior @ jnp.roll(patterns, -1, axis=0)
    recalled = read_out(states, patterns, beta)
    return jnp.max(
        jnp.stack(
            [
                relative_error(jnp.sum(transition, axis=-1), 1.0),
                relative_error(successor, recalled, 1.0),
                relative_error(transition @ states, shrink(beta) * recalled, 1.0),
            ]
        )
    )


@register(
    id="D4.sign",
    source=_CHAUDHRY,
    title="the sign of the field is the most probable next bit",
    statement="step with f = exp(beta (all neurons)): bit i is arg max_b p(s'_i = b | s) wherever they differ",
    latex=r"\operatorname{sign}\textstyle\sum_\mu r_\mu\,\xi^{\mu+1}_i = \arg\max_b\ p(s'_i = b \mid s)",
    printed_statement="the abstract prints no equation",
    verdict="NEW",
    relation="count",
    constant="none",
    inputs=_sequence,
    cases=(*_SEQUENCES[:2], ordinary("N = 7, K = 6", num_neurons=7, num_patterns=6), *_SEQUENCES[4:]),
    tolerance=0.0,
    exact={"guess": jnp.sign, "shift": -1},
    mutations={
        "sign flipped": {"guess": lambda recalled: -jnp.sign(recalled)},
        "bits of the nearest pattern's own": {"shift": 0},
    },
)
def sign_is_the_most_probable_bit(patterns: Array, states: Array, beta: Array, *, guess: Piece, shift: int) -> Array:
    """Number of bits on which the network and the enumerated marginals disagree, ties (to 1e-9) left out."""
    log_emission = _log_emission(states, patterns, beta)
    posterior = jax.nn.softmax(log_emission, axis=-1)
    transition = posterior @ jnp.exp(jnp.roll(log_emission, shift, axis=1)).T
    up = transition @ ((states + 1) / 2)  # p(s'_i = 1 | s)
    likely = jnp.where(up > 0.5, 1.0, -1.0)
    recalled = sequences.read_out(states, patterns, beta)
    decided = jnp.abs(up - 0.5) > 1e-9
    return jnp.sum(decided & (guess(recalled) != likely)).astype(float)


@register(
    id="D4.leave_one_out",
    source=_CHAUDHRY,
    title="the paper's exponential is a posterior at beta = 1, one bit unseen",
    statement=("f(m) = exp((N-1)(m-1)), m over j != i: field_i / sum_mu f = E[xi_i^{z+1} | s without s_i] at beta = 1"),
    latex=(
        r"\frac{\sum_\mu \xi_i^{\mu+1} e^{(N-1)(m_i^\mu - 1)}}{\sum_\mu e^{(N-1)(m_i^\mu-1)}} = "
        r"\mathbb E[\xi_i^{z+1} \mid s_{\setminus i}],\quad \beta = 1"
    ),
    printed_statement="the abstract prints no equation",
    verdict="NEW",
    relation="equal",
    constant="beta = 1",
    inputs=_without_beta,
    cases=(ordinary("plain"), ordinary("N = 7, K = 3", num_neurons=7, num_patterns=3), _SEQUENCES[4]),
    tolerance=1e-12,
    exact={"beta": 1.0, "unseen": lambda log_emission, own: log_emission - own, "separation": sequences.exponential},
    mutations={
        "beta doubled": {"beta": 2.0},
        "the bit itself seen": {"unseen": lambda log_emission, _own: log_emission},
        "N in place of N - 1": {"separation": lambda n: sequences.exponential(n + 1)},
    },
)
def exponential_separation_is_a_leave_one_out_posterior(
    patterns: Array, states: Array, *, beta: float, unseen: Piece, separation: Callable[[int], Callable[[Array], Array]]
) -> Array:
    """Field over the sum of separations against the posterior from the other bits' Bernoulli law."""
    f = separation(states.shape[1])
    overlap = sequences.overlaps(states, patterns)  # (S, K, N)
    share = sequences.field(states, patterns, f) / jnp.sum(f(overlap), axis=-2)
    own = jnp.asarray(dist.Bernoulli(logits=2 * beta * patterns).log_prob((states[:, None] + 1) / 2))  # (S, K, N)
    log_emission = unseen(jnp.sum(own, axis=-1, keepdims=True), own)
    posterior = jax.nn.softmax(log_emission, axis=1)
    expected = jnp.sum(posterior * jnp.roll(patterns, -1, axis=0), axis=1)
    return relative_error(share, expected, 1.0)


@register(
    id="D4.polynomial",
    source=_CHAUDHRY,
    title="even powers are posteriors of another law",
    statement=(
        "f(x) = x^n, n even: p(s|mu) = <xi_mu, s>^n / Z with one Z for all mu (enumerated), "
        "so sum_mu xi^{mu+1} f / sum_mu f = E[xi^{z+1} | s]"
    ),
    latex=(
        r"p(s\mid\mu) = \langle\xi^\mu,s\rangle^n/Z,\ Z \text{ the same for all } \mu:\quad "
        r"\frac{\sum_\mu\xi^{\mu+1}f_\mu}{\sum_\mu f_\mu} = \mathbb E[\xi^{z+1}\mid s]"
    ),
    printed_statement="the abstract prints no equation",
    verdict="COND",
    relation="equal",
    constant="Z = sum over s of (sum_i s_i)^n; needs f >= 0",
    inputs=_without_beta,
    cases=(ordinary("plain"), ordinary("N = 7, K = 3", num_neurons=7, num_patterns=3), _SEQUENCES[4]),
    tolerance=1e-12,
    exact={"degree": 2, "network_degree": None, "law": None},
    printed={"degree": 3},
    printed_exceeds=0.5,  # odd powers go below zero and are no law
    mutations={
        "power one more than the law's": {"network_degree": 3},
        "power two more than the law's": {"network_degree": 4},
        "uniform law": {"law": lambda overlap: jnp.ones_like(overlap)},
    },
)
def even_powers_are_posteriors(
    patterns: Array, states: Array, *, degree: int, network_degree: int | None, law: Callable[[Array], Array] | None
) -> Array:
    """Overlaps and separations of the physics, normalised over states and over patterns, against the enumerated law."""
    f = Polynomial(degree if network_degree is None else network_degree)
    # each neuron is left out once: sum_i m_i = (N - 1) <xi, s> / (N - 1)
    full = jnp.sum(sequences.overlaps(states, patterns), axis=-1)
    separated = f(full)
    density = (states @ patterns.T) ** degree if law is None else law(full)
    partition = jnp.sum(density, axis=0)  # over states, one for each pattern
    reference = jnp.sum(jnp.sum(states, axis=-1) ** degree)
    is_law = jnp.all(density >= 0) & (partition[0] != 0)
    emission = density / jnp.where(is_law, partition, 1)  # p(s | mu)
    is_emitted = jnp.sum(emission, axis=1) > 0  # a state that no pattern emits has no posterior
    posterior = emission / jnp.where(is_emitted, jnp.sum(emission, axis=1), 1)[:, None]
    total = jnp.sum(separated, axis=1)
    mean = (separated / jnp.where(total == 0, 1, total)[:, None]) @ jnp.roll(patterns, -1, axis=0)
    expected = posterior @ jnp.roll(patterns, -1, axis=0)
    error = relative_error(jnp.where(is_emitted[:, None], mean, 0), expected, 1.0)
    return jnp.where(is_law, jnp.maximum(error, relative_error(partition, reference) if law is None else error), 1.0)


@register(
    id="D4.no_energy",
    source=_CHAUDHRY,
    title="a sequence memory descends no energy",
    statement="a closed sequence of K well separated patterns is recalled round and round: a cycle of K states",
    latex=r"s_0 = \xi^1 \Rightarrow s_t = \xi^{1+(t \bmod K)}:\ \text{no function of } s \text{ falls along a cycle}",
    printed_statement="the abstract prints no equation",
    verdict="NONE",
    relation="count",
    constant="period K",
    inputs=_patterns,
    cases=(
        ordinary("N = 64, K = 9", num_neurons=64, num_patterns=9),
        ordinary("N = 200, K = 5", num_neurons=200, num_patterns=5),
    ),
    tolerance=0.0,
    exact={"follows": lambda patterns: jnp.roll(patterns, -1, axis=0), "own": False},
    printed={"follows": lambda patterns: patterns},  # what any descent would do from a stored minimum
    printed_exceeds=0.5,
    mutations={
        "the sequence backwards": {"follows": lambda patterns: jnp.roll(patterns, 1, axis=0)},
        "symmetric weights: own successor": {"own": True},
    },
)
def closed_sequences_go_round(patterns: Array, *, follows: Piece, own: bool) -> Array:
    """Number of patterns from which one step does not lead to the pattern that should follow."""
    f = sequences.exponential(patterns.shape[1])
    if own:  # each pattern calls up itself: the field of the classical dense memory
        overlap = sequences.overlaps(patterns, patterns)
        moved = jnp.sign(jnp.sum(patterns * f(overlap), axis=-2))
    else:
        moved = sequences.step(patterns, patterns, f)
    return jnp.sum(jnp.any(moved != follows(patterns), axis=-1)).astype(float)
