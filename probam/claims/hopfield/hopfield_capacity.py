"""Claim B4: how many memories the classical network holds, by Hebb's rule and by the pseudo-inverse.

Physics: :mod:`probam.energies.hopfield`, :mod:`probam.energies.crosstalk` and :mod:`probam.dynamics.discrete`. The
other side is enumeration of all banks, NumPyro's binomial law, asymptotic formulas, and simulation.
"""

from collections.abc import Callable
from math import log, pi, sqrt
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array

from probam.claims.claim import Piece, extreme, ordinary, register, relative_error
from probam.claims.inputs import Floats, all_banks, generator, sign_bank
from probam.dynamics.discrete import asynchronous, update
from probam.energies import crosstalk, hopfield

__all__: list[str] = []

_YANG = "Yang (2020), Large associative memory (slides on Krotov and Hopfield)"


def _every_bank(_key: jax.Array, *, num_memories: int, num_neurons: int) -> dict[str, Floats]:
    return {"banks": all_banks(num_memories, num_neurons)}


def _tail_with_half_the_tie(num_memories: int, num_neurons: int, tie: float = 0.5) -> Array:
    """Statistics: the sum of (K - 1)(N - 1) signs below -(N - 1), from NumPyro's binomial."""
    total = (num_memories - 1) * (num_neurons - 1)
    heads = jnp.arange(total + 1)
    chance = jnp.exp(dist.Binomial(total, 0.5).log_prob(heads))
    below = 2 * heads - total + num_neurons - 1
    return jnp.sum(jnp.where(below < 0, chance, jnp.where(below == 0, tie * chance, 0)))


@register(
    id="B4.errors",
    source=f"{_YANG}, network capacity",
    title="unstable neurons under Hebb's rule, exactly",
    statement=(
        "a neuron of a stored memory is unstable with chance P(B < ) + P(B = )/2, B the sum of (K-1)(N-1) signs "
        "against -(N-1); all banks enumerated"
    ),
    latex=r"P_{\rm err} = P(B < 1 - N) + \tfrac12 P(B = 1 - N), \quad B = \sum^{(K-1)(N-1)} \pm 1",
    printed_statement="K_max = 0.138 N",
    verdict="NEW",
    relation="equal",
    constant="(K - 1)(N - 1) signs, T_ii = 0, ties to +1",
    inputs=_every_bank,
    cases=(
        ordinary("K = 3, N = 3", num_memories=3, num_neurons=3),
        ordinary("K = 2, N = 4", num_memories=2, num_neurons=4),
        ordinary("K = 4, N = 3", num_memories=4, num_neurons=3),
    ),
    tolerance=1e-12,
    exact={"tail": _tail_with_half_the_tie, "diagonal": False},
    mutations={
        "ties are errors": {"tail": lambda k, n: _tail_with_half_the_tie(k, n, 1.0)},
        "K for K - 1": {"tail": lambda k, n: _tail_with_half_the_tie(k + 1, n)},
        "diagonal kept": {"diagonal": True},
    },
)
def share_of_unstable_neurons(banks: Array, *, tail: Piece, diagonal: bool) -> Array:
    """Enumeration through the network's update, NumPyro's binomial, and the sum of the physics."""

    def unstable(memories: Array) -> Array:
        moved = update(hopfield.Network(hopfield.couplings(memories, diagonal=diagonal)), memories)
        return jnp.mean(moved != memories, dtype=memories.dtype)

    enumerated = jnp.mean(jax.vmap(unstable)(banks))
    by_physics = crosstalk.hebb_error_probability(banks.shape[2], banks.shape[1])
    by_statistics = tail(banks.shape[1], banks.shape[2])
    return jnp.maximum(relative_error(enumerated, by_statistics), relative_error(enumerated, by_physics))


@register(
    id="B4.pseudo_inverse",
    source=f"{_YANG}, network capacity: 'K_max = N (Kanter and Sompolinsky, 1987)'",
    title="K = N memories need the pseudo-inverse rule",
    statement=(
        "T = Xi^+ Xi gives T xi = xi, and (1 - T_ii) xi_i without the diagonal, for any K <= N independent memories; "
        "Hebb's rule does not"
    ),
    latex=r"\Xi^+ \Xi\, \xi^\mu = \xi^\mu, \qquad \sum_{j \ne i} T_{ij} \xi_j^\mu = (1 - T_{ii})\, \xi_i^\mu",
    printed_statement="K_max = N beside T = sum_mu xi^mu xi^mu^T",
    verdict="WRONG",
    relation="equal",
    constant="1",
    inputs=sign_bank,
    cases=(
        ordinary("K = 4, N = 7"),
        ordinary("K = N = 7", num_memories=7),
        extreme("repeated and opposite memories", duplicates=True),
        extreme("K = 75, N = 80", num_memories=75, num_neurons=80, num_states=2),
    ),
    tolerance=1e-12,
    tolerance_extreme=1e-10,  # condition of the bank times eps
    exact={"rule": hopfield.pseudo_inverse_couplings},
    printed={"rule": lambda memories: hopfield.couplings(memories, diagonal=True) / memories.shape[1]},
    printed_exceeds=0.1,
    mutations={
        "diagonal left out": {"rule": lambda memories: hopfield.pseudo_inverse_couplings(memories, diagonal=False)},
        "projection halved": {"rule": lambda memories: hopfield.pseudo_inverse_couplings(memories) / 2},
    },
)
def pseudo_inverse_couplings_hold_every_memory(
    states: Array,  # noqa: ARG001
    memories: Array,
    *,
    rule: Piece,
) -> Array:
    """Fields at the memories with and without the diagonal."""
    couplings = rule(memories)
    own = jnp.diagonal(couplings)
    bare = hopfield.field(memories, couplings - jnp.diag(own))
    whole = relative_error(hopfield.field(memories, couplings), memories)
    return jnp.maximum(whole, relative_error(bare, (1 - own) * memories, 1.0))


def _large(_key: jax.Array, *, num_neurons: int, all_memories: bool) -> dict[str, Any]:
    return {"num_neurons": num_neurons, "all_memories": all_memories}


def _expected_errors(num_neurons: int, all_memories: bool) -> float:
    """Leading term of the expected number of wrong neurons at the capacity without errors."""
    if all_memories:
        return 1 / (4 * log(num_neurons) * sqrt(8 * pi * log(num_neurons)))
    return 1 / sqrt(4 * pi * log(num_neurons))


@register(
    id="B4.error_free",
    source=f"{_YANG}, network capacity",
    title="capacity without any error under Hebb's rule",
    statement=(
        "at K = N/(2 log N) one memory has 1/sqrt(4 pi log N) wrong neurons on average; at K = N/(4 log N) all "
        "memories together have 1/(4 log N sqrt(8 pi log N)): both vanish, within 15 % at N = 1000"
    ),
    latex=r"K = \frac{N}{2\log N}: \; N P_{\rm err} \sim \frac{1}{\sqrt{4\pi\log N}}; \qquad K = \frac{N}{4\log N}",
    printed_statement=(
        "0.138 N (Hopfield 1982); in fact Amit, Gutfreund and Sompolinsky (1985), with 1.6 % of the neurons wrong"
    ),
    verdict="WRONG",
    relation="limit",
    constant="2 log N for one memory, 4 log N for all",
    inputs=_large,
    cases=(
        ordinary("one memory, N = 1000", num_neurons=1000, all_memories=False),
        ordinary("all memories, N = 1000", num_neurons=1000, all_memories=True),
    ),
    tolerance=0.15,
    exact={
        "capacity": lambda num_neurons, all_memories: crosstalk.error_free_capacity(
            num_neurons, 2, rectified=False, all_memories=all_memories
        )
    },
    printed={"capacity": lambda num_neurons, _all_memories: 0.138 * num_neurons},
    printed_exceeds=0.9,
    mutations={
        "N / log N": {"capacity": lambda num_neurons, _all_memories: num_neurons / log(num_neurons)},
        "N / (3 log N)": {"capacity": lambda num_neurons, _all_memories: num_neurons / (3 * log(num_neurons))},
    },
    jit=False,
)
def wrong_neurons_at_the_error_free_capacity(
    num_neurons: int, all_memories: bool, *, capacity: Callable[[int, bool], float]
) -> float:
    """Exact expected number of errors against its leading term."""
    num_memories = round(capacity(num_neurons, all_memories)) + 1  # K - 1 foreign ones
    expected = num_neurons * crosstalk.hebb_error_probability(num_neurons, num_memories)
    if all_memories:
        expected *= num_memories - 1
    leading = _expected_errors(num_neurons, all_memories)
    return abs(expected - leading) / max(expected, leading)


def _two_loads(key: jax.Array, *, num_neurons: int, below: float, above: float) -> dict[str, Any]:
    draw = generator(key)
    banks = [
        draw.choice([-1.0, 1.0], size=(round(load * num_neurons), num_neurons)).astype(np.float32)
        for load in (below, above)
    ]
    return {"below": banks[0], "above": banks[1]}


@register(
    id="B4.transition",
    source=f"{_YANG}, network capacity; Amit, Gutfreund and Sompolinsky (1985), doi:10.1103/PhysRevLett.55.1530",
    title="recall breaks down near 0.138 N",
    statement=(
        "N = 1000: from a stored memory the final overlap is above 0.95 on average at K = 0.12 N and below 0.6 at "
        "K = 0.2 N; 40 memories each, fails by chance less than once in 1e4"
    ),
    latex=r"\langle \xi, s^\infty \rangle / N > 0.95 \text{ at } 0.12 N, \quad < 0.6 \text{ at } 0.2 N",
    printed_statement="K_max = 0.138 N (Hopfield 1982)",
    verdict="TYPO",
    relation="at most",
    constant="0.138 is of Amit, Gutfreund and Sompolinsky; Hopfield (1982) has about 0.15 by simulation",
    inputs=_two_loads,
    cases=(ordinary("N = 1000", num_neurons=1000, below=0.12, above=0.2),),
    tolerance=0.0,
    exact={"rule": hopfield.couplings, "order": (0, 1)},
    mutations={
        "pseudo-inverse rule": {"rule": hopfield.pseudo_inverse_couplings},
        "loads exchanged": {"order": (1, 0)},
    },
    jit=False,
    slow=True,
)
def recall_breaks_down_at_the_transition(below: Floats, above: Floats, *, rule: Piece, order: tuple[int, int]) -> float:
    """How far the two mean overlaps are on the wrong side."""
    overlaps = []
    for memories in (below, above):
        cues = memories[:40]
        report = asynchronous(hopfield.Network(rule(memories)), cues, key=jax.random.key(0), max_sweeps=100)
        overlaps.append(float(np.mean(np.asarray(report.states) * cues)))
    low, high = (overlaps[i] for i in order)
    return max(0.95 - low, high - 0.6, 0.0)
