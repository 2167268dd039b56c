r"""Claims B1 to B3 and the classical part of C4: energy and dynamics of the classical network.

Physics: :mod:`probam.energies.hopfield` and :mod:`probam.dynamics.discrete`. The other side is enumeration of all
states, and autodiff.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from probam.claims.claim import Piece, excess, extreme, ordinary, register, relative_error
from probam.claims.inputs import Floats, generator, sign_bank
from probam.dynamics.discrete import asynchronous, synchronous, update
from probam.energies import hopfield

__all__ = ["HOPFIELD_BANKS", "real_states"]

_YANG = "Yang (2020), Large associative memory (slides on Krotov and Hopfield)"
_MILLIDGE = "Millidge et al. (2022), Universal Hopfield Networks"

HOPFIELD_BANKS = (
    ordinary("K = 4, N = 7"),
    ordinary("K = 9, N = 5", num_memories=9, num_neurons=5),
    extreme("repeated and opposite memories", duplicates=True),
    extreme("N = 300", num_memories=40, num_neurons=300, num_states=20),
)


@register(
    id="B1",
    source=f"{_YANG}, Lyapunov function",
    title="the energy as squared overlaps, up to KN",
    statement="-sum_ij s_i T_ij s_j = -sum_mu <xi^mu, s>^2 + K N for T_ii = 0, without the KN if the diagonal stays",
    latex=r"-\sum_{ij} s_i T_{ij} s_j = -\sum_\mu \langle \xi^\mu, s\rangle^2 + KN \quad (T_{ii} = 0)",
    printed_statement="equality, beside T_ii = 0",
    verdict="CONST",
    relation="equal",
    constant="K N",
    inputs=sign_bank,
    cases=HOPFIELD_BANKS,
    tolerance=1e-12,
    exact={
        "shift": lambda num_memories, num_neurons: num_memories * num_neurons,
        "energy": hopfield.slide_energy,
        "diagonal": False,
    },
    printed={"shift": lambda _num_memories, _num_neurons: 0.0},
    printed_exceeds=0.1,
    mutations={
        "K for KN": {"shift": lambda num_memories, _num_neurons: num_memories},
        "energy with the 1/2": {"energy": hopfield.energy},
        "sign flipped": {"energy": lambda s, T: -hopfield.slide_energy(s, T)},
        "diagonal kept": {"diagonal": True},
    },
)
def energy_is_minus_squared_overlaps(
    states: Array, memories: Array, *, shift: Callable[[int, int], float], energy: Piece, diagonal: bool
) -> Array:
    """Couplings against overlaps, on all states."""
    squares = jnp.sum((states @ memories.T) ** 2, axis=-1)
    right = -squares + shift(*memories.shape)
    return relative_error(energy(states, hopfield.couplings(memories, diagonal=diagonal)), right, squares)


def _coupled(
    key: jax.Array, *, num_neurons: int = 4, diagonal: float = 0.0, hebb: int = 0, scale: float = 1.0
) -> dict[str, Floats]:
    """All states, symmetric couplings (Gaussian, or Hebb's of so many memories) with a diagonal, and a bias."""
    draw = generator(key)
    couplings = draw.normal(size=(num_neurons, num_neurons))
    couplings = couplings + couplings.T
    if hebb:
        memories = draw.choice([-1.0, 1.0], size=(hebb, num_neurons))
        couplings = memories.T @ memories
    np.fill_diagonal(couplings, diagonal * draw.uniform(0.5, 1.5, size=num_neurons))
    states = sign_bank(key, num_neurons=num_neurons)["states"]
    return {"states": states, "couplings": scale * couplings, "bias": scale * draw.normal(size=num_neurons)}


_COUPLED = (
    ordinary("16 states, 4 flips"),
    ordinary("Hebb, K = 3", hebb=3),
    ordinary("with a diagonal", num_neurons=5, diagonal=2.0),
    extreme("couplings of 1e-150", scale=1e-150),
    extreme("couplings of 1e150", scale=1e150),
)


def _flipped(states: Array) -> Array:
    """Every neighbour of every state, (S, N, N): entry i has neuron i flipped."""
    return states[:, None, :] * (1 - 2 * jnp.eye(states.shape[1]))


def _other_fields(states: Array, couplings: Array, bias: Array | float) -> Array:
    return states @ (couplings - jnp.diag(jnp.diagonal(couplings))) + bias


@register(
    id="B2.flip",
    source=f"{_YANG}, Lyapunov function",
    title="energy of one flip, in the slide's convention",
    statement="Delta E = -2 Delta s_i sum_{j != i} T_ij s_j for E = -s^T T s; all states, all flips",
    latex=r"\Delta E = -2\,\Delta s_i \sum_{j \ne i} T_{ij} s_j",
    printed_statement="Delta E = -Delta s_i sum_j T_ij s_j",
    verdict="WRONG",
    relation="equal",
    constant="2 (the printed form belongs to the energy with 1/2)",
    inputs=_coupled,
    cases=_COUPLED,
    tolerance=1e-12,
    exact={"factor": 2.0, "fields": _other_fields},
    printed={"factor": 1.0},
    printed_exceeds=0.4,
    mutations={"sign flipped": {"factor": -2.0}, "own coupling counted": {"fields": lambda s, T, b: s @ T + b}},
)
def one_flip_in_the_slides_convention(
    states: Array,
    couplings: Array,
    bias: Array,  # noqa: ARG001
    *,
    factor: float,
    fields: Piece,
) -> Array:
    """Differences of enumerated energies against the formula."""
    change = hopfield.slide_energy(_flipped(states), couplings) - hopfield.slide_energy(states, couplings)[:, None]
    right = -factor * (-2 * states) * fields(states, couplings, 0.0)
    return relative_error(change, right)


@register(
    id="B2.half",
    source=f"{_YANG}, Lyapunov function; Hopfield (1982)",
    title="energy of one flip with the 1/2 and a bias",
    statement="Delta E = -Delta s_i (sum_{j != i} T_ij s_j + b_i) for E = -s^T T s / 2 - b.s",
    latex=r"\Delta E = -\Delta s_i \Bigl(\sum_{j \ne i} T_{ij} s_j + b_i\Bigr)",
    printed_statement="the same without bias, for the energy without 1/2",
    verdict="COND",
    relation="equal",
    constant="1",
    inputs=_coupled,
    cases=_COUPLED,
    tolerance=1e-12,
    exact={"energy": hopfield.energy, "fields": _other_fields},
    mutations={
        "energy of the slides": {"energy": lambda s, T, _b: hopfield.slide_energy(s, T)},
        "bias left out": {"fields": lambda s, T, _b: _other_fields(s, T, 0.0)},
        "bias of opposite sign": {"energy": lambda s, T, b: hopfield.energy(s, T, -b)},
        "own coupling counted": {"fields": lambda s, T, b: s @ T + b},
    },
)
def one_flip_with_the_half(states: Array, couplings: Array, bias: Array, *, energy: Piece, fields: Piece) -> Array:
    """Enumerated differences, the formula, and the function of the physics."""
    change = energy(_flipped(states), couplings, bias) - energy(states, couplings, bias)[:, None]
    by_formula = 2 * states * fields(states, couplings, bias)
    by_physics = hopfield.flip_difference(states, couplings, bias)
    return jnp.maximum(relative_error(change, by_formula), relative_error(change, by_physics))


@register(
    id="B2.descent",
    source=f"{_YANG}, Lyapunov function",
    title="asynchronous updates never raise the energy",
    statement="every asynchronous run, ties to +1, ends in a fixed point; its energy never rises (ties: it may stay)",
    latex=r"E(s^{t+1}) \le E(s^t), \quad \text{and some } s^t \text{ is a fixed point}",
    printed_statement="energy monotonically decreases",
    verdict="COND",
    relation="at most",
    constant="non-increasing; strictly only without ties",
    inputs=sign_bank,
    cases=(ordinary("K = 4, N = 7"), extreme("repeated and opposite memories", duplicates=True)),
    tolerance=1e-12,
    exact={
        "run": lambda network, states: asynchronous(network, states, order=np.arange(7)[::-1], record=8),
        "judge": lambda couplings: couplings,
    },
    mutations={
        "all neurons at once": {"run": lambda network, states: synchronous(network, states, record=8)},
        "couplings of opposite sign": {"judge": lambda T: -T},
        "energy of other memories": {"judge": lambda T: jnp.roll(T, 1, axis=(0, 1))},
    },
    jit=False,
)
def asynchronous_runs_descend(
    states: Floats, memories: Floats, *, run: Callable[..., Any], judge: Callable[[Any], Any]
) -> float:
    """Largest rise from sweep to sweep over the size of the energies; 1 for a run that has not ended."""
    network = hopfield.Network(memories.T @ memories - len(memories) * np.eye(memories.shape[1]))
    report = run(network, states)
    energies = -0.5 * np.einsum("tsi,ij,tsj->ts", report.trajectory, judge(network.couplings), report.trajectory)
    rise = float(np.max(np.diff(energies, axis=0)) / np.max(np.abs(energies)))
    return max(rise, 0.0, float(not report.converged.all()))


_PAIR = np.array([[1.0, -1.0], [-1.0, 1.0]])


def _one_memory(_key: jax.Array) -> dict[str, Floats]:
    return {"states": _PAIR, "memories": np.ones((1, 2))}


@register(
    id="B3.two_cycle",
    source=f"{_YANG}, network dynamics",
    title="synchronous updates without the diagonal can cycle",
    statement="xi = (1, 1): (1, -1) and (-1, 1) follow each other for ever; with the diagonal both stop",
    latex=r"T = \begin{pmatrix} 0 & 1 \\ 1 & 0 \end{pmatrix}: \quad (1, -1) \leftrightarrow (-1, 1)",
    printed_statement="update neurons in a random order until converge",
    verdict="COND",
    relation="count",
    constant="period 2",
    inputs=_one_memory,
    cases=(ordinary("two neurons"),),
    tolerance=0.0,
    exact={"period": 2, "diagonal": (False, True)},
    printed={"period": 1},
    printed_exceeds=0.5,
    mutations={
        "diagonal kept": {"diagonal": (True, True)},
        "diagonal never kept": {"diagonal": (False, False)},
        "period 4": {"period": 4},
    },
    jit=False,
)
def two_neurons_follow_each_other(
    states: Floats, memories: Floats, *, period: int, diagonal: tuple[bool, bool]
) -> float:
    """Runs of other periods than stated, and states off the cycle."""
    cycle, stop = (
        synchronous(hopfield.Network(hopfield.couplings(memories, diagonal=kept)), states) for kept in diagonal
    )
    wrong = np.sum(np.asarray(cycle.period) != period) + np.sum(np.asarray(stop.period) != 1)
    return float(wrong + np.sum(np.abs(cycle.states.sum(axis=1)) > 0))


def _symmetric(key: jax.Array, *, num_neurons: int = 7) -> dict[str, Floats]:
    drawn = _coupled(key, num_neurons=num_neurons)
    return {"states": drawn["states"], "couplings": drawn["couplings"]}


@register(
    id="B3.periods",
    source="Goles, Fogelman and Pellegrin (1985), doi:10.1016/0166-218X(85)90029-0",
    title="synchronous orbits end in fixed points or 2-cycles",
    statement="for symmetric T every synchronous orbit ends in a fixed point or a cycle of length 2; all states",
    latex=r"T = T^\top \Rightarrow s^{t+2} = s^t \text{ for all large } t",
    printed_statement="no statement",
    verdict="NEW",
    relation="count",
    constant="periods 1 and 2",
    inputs=_symmetric,
    cases=(ordinary("N = 7, 128 states"),),
    tolerance=0.0,
    exact={"made": lambda couplings: couplings, "periods": (1, 2)},
    mutations={
        "antisymmetric couplings": {"made": lambda T: np.triu(T, 1) - np.triu(T, 1).T},
        "fixed points only": {"periods": (1,)},
    },
    jit=False,
)
def synchronous_orbits_have_period_one_or_two(
    states: Floats, couplings: Floats, *, made: Callable[[Floats], Floats], periods: tuple[int, ...]
) -> float:
    """Number of orbits of another period, or whose end was not found."""
    report = synchronous(hopfield.Network(jnp.asarray(made(couplings))), states)
    return float(np.sum(~np.isin(report.period, periods)))


@register(
    id="B3.diagonal",
    source=f"{_YANG}, network dynamics; Krotov and Hopfield (2020)",
    title="synchronous updates with the diagonal descend",
    statement="E(s') - E(s) <= -(s' - s)^T T (s' - s) / 2 <= 0 for T = Xi^T Xi; without the diagonal E may rise",
    latex=r"E(s') - E(s) \le -\tfrac12 (s' - s)^\top T (s' - s) \le 0, \quad T = \Xi^\top \Xi",
    printed_statement="descent whatever the order",
    verdict="COND",
    relation="at most",
    constant="1/2",
    inputs=sign_bank,
    cases=(ordinary("K = 4, N = 7"), *HOPFIELD_BANKS[2:]),
    tolerance=1e-12,
    exact={"diagonal": True, "curvature": 0.5, "sign": 1.0},
    printed={"diagonal": False, "curvature": 0.0},
    printed_exceeds=0.01,
    mutations={"twice the descent": {"curvature": 1.0}, "sign flipped": {"sign": -1.0}},
)
def synchronous_updates_descend_with_the_diagonal(
    states: Array, memories: Array, *, diagonal: bool, curvature: float, sign: float
) -> Array:
    """Amount by which the bound is broken, over all states."""
    couplings = hopfield.couplings(memories, diagonal=diagonal)
    moved = update(hopfield.Network(sign * couplings), states)
    step = moved - states
    fall = hopfield.energy(moved, couplings) - hopfield.energy(states, couplings)
    bound = -curvature * jnp.sum(step * (step @ couplings), axis=-1)
    return excess(fall, bound, hopfield.energy(states, couplings))


def real_states(key: jax.Array, **settings: Any) -> dict[str, Floats]:
    """Memories of signs, real states and a bias: energies have gradients."""
    drawn = sign_bank(key, **settings)
    draw = generator(jax.random.fold_in(key, 1))
    drawn["bias"] = np.asarray(draw.normal(size=drawn["memories"].shape[1]))
    drawn["states"] = np.asarray(draw.normal(size=drawn["states"].shape))
    return drawn


@register(
    id="C4.hopfield",
    source=f"{_MILLIDGE}, Sec. 3.3",
    title="the classical energy: sign and 1/2",
    statement="E = -q^T W q / 2 - b.q: minus its gradient is the field W q + b that the update follows",
    latex=r"E = -\tfrac12 q^\top W q - b^\top q, \qquad -\nabla E = W q + b",
    printed_statement="E = q^T W q + q^T b",
    verdict="WRONG",
    relation="equal",
    constant="-1/2 and -1",
    inputs=real_states,
    cases=(ordinary("K = 4, N = 7"), ordinary("K = 9, N = 5", num_memories=9, num_neurons=5)),
    tolerance=1e-10,
    exact={"energy": hopfield.energy},
    printed={"energy": lambda q, W, b: jnp.sum(q * (q @ W), axis=-1) + q @ b},
    printed_exceeds=0.9,
    mutations={
        "1/2 left out": {"energy": lambda q, W, b: 2 * hopfield.energy(q, W) - q @ b},
        "sign of the bias": {"energy": lambda q, W, b: hopfield.energy(q, W, -b)},
        "sign of the couplings": {"energy": lambda q, W, b: hopfield.energy(q, -W, b)},
    },
)
def classical_gradient_is_minus_the_field(states: Array, memories: Array, bias: Array, *, energy: Piece) -> Array:
    """Autodiff of the energy against sums over memories."""
    couplings = hopfield.couplings(memories, diagonal=True)
    downhill = -jax.grad(lambda q: jnp.sum(energy(q, couplings, bias)))(states)
    by_overlaps = (states @ memories.T) @ memories + bias
    by_physics = hopfield.field(states, couplings, bias)
    return jnp.maximum(relative_error(downhill, by_overlaps), relative_error(downhill, by_physics))
