r"""Claims B5, B9 and the dense parts of C4: polynomial and exponential memories of signs.

Physics: :mod:`probam.energies.dense` and :mod:`probam.energies.hopfield`. The other side is enumeration of states,
autodiff of the two-layer energy, and closed forms.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Array

from probam.claims.claim import Piece, excess, extreme, ordinary, register, relative_error
from probam.claims.inputs import Floats, generator, sign_bank
from probam.dynamics.discrete import update
from probam.energies import dense, hopfield

__all__: list[str] = []

_YANG = "Yang (2020), Large associative memory (slides on Krotov and Hopfield)"
_MILLIDGE = "Millidge et al. (2022), Universal Hopfield Networks"
_KROTOV = "Krotov and Hopfield (2016), arXiv:1606.01164"

_BANKS = (
    ordinary("K = 4, N = 7"),
    ordinary("K = 9, N = 5", num_memories=9, num_neurons=5),
    extreme("repeated and opposite memories", duplicates=True),
    extreme("N = 300", num_memories=40, num_neurons=300, num_states=20),
)


def _plain(degree: int) -> dense.Polynomial:
    return dense.Polynomial(degree, rectified=False)


_SQUARE, _CUBE, _PLAIN_SQUARE = dense.Polynomial(2), dense.Polynomial(3), _plain(2)


def _with_opposites(memories: Array) -> Array:
    return jnp.concatenate([memories, -memories])


@register(
    id="B5.pairs",
    source=f"{_YANG}, Dense associative memory: 'n = 2 is the original Hopfield nets'",
    title="rectified n = 2 needs every memory's opposite",
    statement="-s^T T s with the diagonal = rectified F_2 on the 2K memories +-xi; on the K alone s -> -s is broken",
    latex=r"-\sum_\mu \langle \xi^\mu, s\rangle^2 = -\sum_\mu \sum_\pm F_2(\pm\langle\xi^\mu,s\rangle)",
    printed_statement="rectified F_2 on the K memories",
    verdict="WRONG",
    relation="equal",
    constant="2K memories",
    inputs=sign_bank,
    cases=_BANKS,
    tolerance=1e-12,
    exact={"bank": _with_opposites, "separation": _SQUARE},
    printed={"bank": lambda memories: memories},
    printed_exceeds=0.1,
    mutations={
        "plain F_2 on 2K": {"separation": _plain(2)},
        "sign flipped": {"bank": lambda memories: jnp.concatenate([memories, memories])},
    },
)
def rectified_square_with_opposites_is_hopfield(
    states: Array, memories: Array, *, bank: Piece, separation: dense.Separation
) -> Array:
    """Couplings against the dense memory, on all states."""
    left = hopfield.slide_energy(states, hopfield.couplings(memories, diagonal=True))
    return relative_error(left, dense.energy(states, bank(memories), separation))


@register(
    id="B5.plain",
    source=f"{_YANG}, Dense associative memory",
    title="plain n = 2 is the classical network",
    statement=(
        "E_2 plain = -s^T T s with the diagonal; the difference rule's field is 4 (T - K I) s: without the diagonal"
    ),
    latex=r"E_2 = -s^\top T s, \qquad E(s_i = -1) - E(s_i = 1) = 4 \sum_{j \ne i} T_{ij} s_j",
    printed_statement="n = 2 is the original Hopfield net, F_n rectified",
    verdict="COND",
    relation="equal",
    constant="4",
    inputs=sign_bank,
    cases=_BANKS,
    tolerance=1e-12,
    exact={"separation": _PLAIN_SQUARE, "own": 1.0, "factor": 4.0},
    printed={"separation": dense.Polynomial(2)},
    printed_exceeds=0.1,
    mutations={"n = 4": {"separation": _plain(4)}, "own coupling kept": {"own": 0.0}, "factor 2": {"factor": 2.0}},
)
def plain_square_is_hopfield(
    states: Array, memories: Array, *, separation: dense.Separation, own: float, factor: float
) -> Array:
    """Energies, and local fields from the change of energy by each flip."""
    couplings = hopfield.couplings(memories, diagonal=True)
    energies = relative_error(hopfield.slide_energy(states, couplings), dense.energy(states, memories, separation))
    fields = states * dense.flip_difference(states, memories, separation)
    bare = hopfield.field(states, couplings - own * len(memories) * jnp.eye(memories.shape[1]))
    return jnp.maximum(energies, relative_error(fields, factor * bare))


def _currents(key: jax.Array, **settings: Any) -> dict[str, Floats]:
    """Currents of feature neurons, whose signs are the states, and an input current."""
    drawn = sign_bank(key, **settings)
    draw = generator(jax.random.fold_in(key, 1))
    drawn["currents"] = drawn["states"] * draw.uniform(0.2, 2.0, size=drawn["states"].shape)
    drawn["inputs"] = np.asarray(draw.normal(size=drawn["memories"].shape[1]))
    return drawn


def _two_layer_energy(
    v: Array, h: Array, inputs: Array, memories: Array, separation: dense.Separation
) -> tuple[Array, Array, Array]:
    """Feature part, hidden part and interaction of the two-layer energy; activations by autodiff of Lagrangians."""
    feature, g = jax.value_and_grad(lambda v: jnp.sum(jnp.abs(v)))(v)
    hidden, f = jax.value_and_grad(lambda h: jnp.sum(separation(h)))(h)
    return jnp.dot(v - inputs, g) - feature, jnp.dot(h, f) - hidden, -jnp.dot(f, memories @ g)


@register(
    id="B9.energy",
    source=f"{_YANG}, Dense associative memory limit",
    title="the two-layer energy in the dense limit",
    statement="L_v = sum|v|, L_h = sum F(h), h = Xi sign(v): E = -L_h - I.s = -sum_{mu=1}^K F(<xi^mu, s>) - I.s",
    latex=r"E = -L_h - I \cdot s = -\sum_{\mu=1}^K F_n(\langle \xi^\mu, s \rangle) - I \cdot s",
    printed_statement="E = -L_v = -sum_{i=1}^N F_n(<xi^mu, s>)",
    verdict="TYPO",
    relation="equal",
    constant="0 for I = 0",
    inputs=_currents,
    cases=(ordinary("K = 4, N = 7"), ordinary("K = 9, N = 5", num_memories=9, num_neurons=5)),
    tolerance=1e-12,
    exact={
        "energy": lambda v, memories, separation: dense.energy(jnp.sign(v), memories, separation),
        "current": 1.0,
        "lag": 0.0,
    },
    printed={"energy": lambda v, _memories, _separation: -jnp.sum(jnp.abs(v), axis=-1)},
    printed_exceeds=0.5,
    mutations={
        "input current dropped": {"current": 0.0},
        "slow hidden neurons": {"lag": 0.1},
        "sign flipped": {"current": -1.0},
    },
)
def two_layer_energy_in_the_dense_limit(
    states: Array, memories: Array, currents: Array, inputs: Array, *, energy: Piece, current: float, lag: float
) -> Array:
    """Lagrangians by autodiff against the dense energy, for n = 2, 3 and an exponential."""
    errors = []
    for separation in (dense.Polynomial(2), dense.Polynomial(3), dense.Exponential(0.3)):
        hidden = (1 - lag) * states @ memories.T
        parts = jax.vmap(_two_layer_energy, (0, 0, None, None, None))(currents, hidden, inputs, memories, separation)
        right = energy(currents, memories, separation) - current * states @ inputs
        errors.append(relative_error(sum(parts), right))
    return jnp.max(jnp.stack(errors))


@register(
    id="B9.rules",
    source=f"{_YANG}, Dense associative memory limit; {_KROTOV}",
    title="difference rule and derivative rule at n = 2",
    statement="sum F(a + xi) - F(a - xi) = 4 (sum xi <xi, s> - K s), the derivative's field is 2 sum xi <xi, s>",
    latex=r"\tfrac14 h^{\rm difference}_i = \tfrac12 h^{\rm derivative}_i - K s_i",
    printed_statement="s_i = sign(sum_mu xi_i F'(<xi, s>)) as the rule of 2016",
    verdict="WRONG",
    relation="equal",
    constant="self-coupling K s_i",
    inputs=sign_bank,
    cases=_BANKS,
    tolerance=1e-12,
    exact={"own": 1.0, "separation": _PLAIN_SQUARE, "factor": 0.25},
    printed={"own": 0.0},
    printed_exceeds=0.1,
    mutations={"n = 3": {"separation": _plain(3)}, "factor 2": {"factor": 0.5}},
)
def rules_differ_by_the_self_coupling(
    states: Array, memories: Array, *, own: float, separation: dense.Separation, factor: float
) -> Array:
    """Unscaled fields of the two rules, on all states."""
    by_difference = factor * states * dense.flip_difference(states, memories, separation)
    by_derivative = -0.5 * dense.gradient(states, memories, separation)
    return relative_error(by_difference, by_derivative - own * len(memories) * states)


_CONVEX: tuple[dense.Separation, ...] = (dense.Polynomial(1), dense.Polynomial(3), _plain(4), dense.Exponential(0.4))


@register(
    id="B9.descent",
    source=f"{_YANG}, Dense associative memory limit",
    title="the derivative rule descends iff F is convex",
    statement="E(s') <= E(s) + grad E(s).(s' - s) <= E(s), all neurons at once, rectified n >= 1, even n, exponential",
    latex=r"E(s') - E(s) \le \nabla E(s) \cdot (s' - s) \le 0",
    printed_statement="descent for the Lagrangian sum F_n; plain odd n have no such guarantee",
    verdict="COND",
    relation="at most",
    constant="F convex",
    inputs=sign_bank,
    cases=(ordinary("K = 4, N = 7"), ordinary("K = 9, N = 5", num_memories=9, num_neurons=5)),
    tolerance=1e-12,
    exact={"separations": _CONVEX, "judge": dense.energy, "slope": 1.0},
    printed={"separations": (_plain(3),)},
    printed_exceeds=0.01,
    mutations={
        "sign flipped": {"judge": lambda s, memories, separation: -dense.energy(s, memories, separation)},
        "twice the fall": {"slope": 2.0},
    },
)
def derivative_rule_descends(
    states: Array, memories: Array, *, separations: tuple[dense.Separation, ...], judge: Piece, slope: float
) -> Array:
    """Amount by which the bounds are broken over all states."""
    errors = []
    for separation in separations:
        moved = update(dense.Network(memories, separation, "derivative"), states)
        before = judge(states, memories, separation)
        fall = judge(moved, memories, separation) - before
        along = slope * jnp.sum(dense.gradient(states, memories, separation) * (moved - states), axis=-1)
        errors.append(jnp.maximum(excess(fall, along, before), excess(along, 0.0, before)))
    return jnp.max(jnp.stack(errors))


@register(
    id="B9.jumps",
    source=f"{_YANG}, Dense associative memory limit; Conditions for convergence",
    title="along the flow the energy falls in jumps",
    statement="the Hessian of sum|v| is 0 almost everywhere: E changes only where a sign changes, and then falls",
    latex=r"\tau_v \dot v = \Xi^\top F'(\Xi\, \mathrm{sign}\, v) - v: \quad \dot E = 0 \text{ between sign changes}",
    printed_statement="dE/dt = -tau_v v'^T (d^2 L_v / dv^2) v' - ... , which is 0",
    verdict="COND",
    relation="at most",
    constant="F convex",
    inputs=_currents,
    cases=(ordinary("K = 4, N = 7"), ordinary("K = 9, N = 5", num_memories=9, num_neurons=5)),
    tolerance=1e-12,
    exact={"separation": _CUBE, "direction": 1.0, "activation": jnp.sign},
    mutations={"flow of opposite sign": {"direction": -1.0}, "tanh for sign": {"activation": jnp.tanh}},
)
def energy_falls_in_jumps(
    states: Array,  # noqa: ARG001
    memories: Array,
    currents: Array,
    inputs: Array,  # noqa: ARG001
    *,
    separation: dense.Separation,
    direction: float,
    activation: Piece,
) -> Array:
    """Euler steps of a fifth of tau: rises anywhere, and changes where no sign changed."""

    def step(v: Array, _: None) -> tuple[Array, tuple[Array, Array]]:
        drive = -direction * dense.gradient(activation(v), memories, separation)
        after = v + 0.2 * (drive - v)
        energy = dense.energy(activation(after), memories, separation)
        before = dense.energy(activation(v), memories, separation)
        still = jnp.all(jnp.sign(after) == jnp.sign(v), axis=-1)
        return after, ((energy - before) / jnp.max(jnp.abs(before)), still)

    _, (change, still) = jax.lax.scan(step, currents, None, length=30)
    return jnp.max(jnp.where(still, jnp.abs(change), jnp.maximum(change, 0.0)))


def _many_pairs(key: jax.Array, *, num_pairs: int) -> dict[str, Floats]:
    draw = generator(key)
    return {
        "banks": draw.choice([-1.0, 1.0], size=(num_pairs, 12, 10)),
        "states": draw.choice([-1.0, 1.0], size=(num_pairs, 10)),
    }


@register(
    id="B9.disagreement",
    source=f"{_YANG}, Dense associative memory limit; {_KROTOV}",
    title="how often the two rules disagree",
    statement=(
        "random states, N = 10, K = 12, plain powers, ties to +1: neurons set otherwise in 37.7, 11.2, 35.8 % for "
        "n = 2, 3, 4; within 5 standard errors (by chance 1 in 1e6)"
    ),
    latex=r"P\bigl(\mathrm{sign}\, h^{\rm difference} \ne \mathrm{sign}\, h^{\rm derivative}\bigr)",
    printed_statement="one rule",
    verdict="WRONG",
    relation="limit",
    constant="37.7, 11.2, 35.8 %",
    inputs=_many_pairs,
    cases=(ordinary("20000 banks", num_pairs=20000),),
    tolerance=0.0,
    exact={"shares": (0.377, 0.112, 0.358), "rules": ("difference", "derivative"), "rectified": False},
    printed={"shares": (0.0, 0.0, 0.0)},
    printed_exceeds=0.3,
    mutations={"the same rule": {"rules": ("difference", "difference")}, "rectified": {"rectified": True}},
    slow=True,
)
def share_of_disagreements(
    banks: Array, states: Array, *, shares: tuple[float, float, float], rules: tuple[Any, Any], rectified: bool
) -> Array:
    """Distance of the found shares from the stated ones beyond five standard errors and their last digit."""
    errors = []
    for degree, share in zip((2, 3, 4), shares, strict=True):
        separation = dense.Polynomial(degree, rectified)
        first, second = (
            jax.vmap(lambda memories, s, rule=rule: update(dense.Network(memories, separation, rule), s))(banks, states)  # noqa: B023
            for rule in rules
        )
        differing = jnp.mean(first != second, axis=-1, dtype=states.dtype)
        noise = 5 * jnp.std(differing) / jnp.sqrt(len(differing))
        errors.append(jnp.maximum(jnp.abs(jnp.mean(differing) - share) - noise - 0.0005, 0.0))
    return jnp.max(jnp.stack(errors))


def _reals(key: jax.Array, **settings: Any) -> dict[str, Floats]:
    """Real states and memories of signs: energies have gradients."""
    drawn = sign_bank(key, **settings)
    draw = generator(jax.random.fold_in(key, 1))
    return {"states": draw.normal(size=drawn["states"].shape), "memories": drawn["memories"]}


@register(
    id="C4.dense",
    source=f"{_MILLIDGE}, Sec. 3.3",
    title="the dense energy: minus a sum over memories",
    statement="E = -sum_mu F(<xi^mu, q>), -grad E = sum_mu xi^mu F'(<xi^mu, q>); plain n = 2, 4, rectified n = 3",
    latex=r"E = -\sum_\mu F(\langle \xi^\mu, q \rangle)",
    printed_statement="E = F(W q), W the coupling matrix",
    verdict="WRONG",
    relation="equal",
    constant="-1",
    inputs=_reals,
    cases=(ordinary("K = 4, N = 7"), ordinary("K = 9, N = 5", num_memories=9, num_neurons=5)),
    tolerance=1e-10,
    exact={"energy": dense.energy},
    printed={"energy": lambda q, memories, F: jnp.sum(F(q @ (memories.T @ memories)), axis=-1)},
    printed_exceeds=0.9,
    mutations={
        "sign flipped": {"energy": lambda q, memories, F: -dense.energy(q, memories, F)},
        "couplings for memories": {"energy": lambda q, memories, F: dense.energy(q, memories.T @ memories, F)},
        "one memory left out": {"energy": lambda q, memories, F: dense.energy(q, memories[1:], F)},
    },
)
def dense_gradient_is_minus_the_read_out(states: Array, memories: Array, *, energy: Piece) -> Array:
    """Autodiff of the energy against sums over memories, and against the gradient of the physics."""
    errors = []
    for degree, rectified in ((2, False), (3, True), (4, False)):
        separation = dense.Polynomial(degree, rectified)
        downhill = -jax.grad(lambda q: jnp.sum(energy(q, memories, separation)))(states)  # noqa: B023
        overlaps = states @ memories.T
        slopes = degree * jnp.where((overlaps > 0) | (not rectified), overlaps ** (degree - 1), 0.0)
        errors.append(relative_error(downhill, slopes @ memories))
        errors.append(relative_error(downhill, -dense.gradient(states, memories, separation)))
    return jnp.max(jnp.stack(errors))


@register(
    id="C4.exponential",
    source=f"{_MILLIDGE}, Sec. 3.3",
    title="the exponential energy is a sum, not a softmax",
    statement="E = -sum_mu exp(<xi^mu, q>) = -exp(lse(Xi q)), -grad E = Xi^T exp(Xi q); a summed softmax is constant",
    latex=r"E = -\sum_\mu e^{\langle \xi^\mu, q \rangle} = -e^{\operatorname{lse}(\Xi q)}",
    printed_statement="E = softmax(W q)",
    verdict="WRONG",
    relation="equal",
    constant="-1",
    inputs=_reals,
    cases=(ordinary("K = 4, N = 7"), ordinary("K = 9, N = 5", num_memories=9, num_neurons=5)),
    tolerance=1e-10,
    exact={"energy": dense.energy},
    printed={"energy": lambda q, memories, _F: jnp.sum(jax.nn.softmax(q @ memories.T, axis=-1), axis=-1)},
    printed_exceeds=0.9,
    mutations={
        "beta doubled": {"energy": lambda q, memories, _F: dense.energy(q, memories, dense.Exponential(2.0))},
        "sign flipped": {"energy": lambda q, memories, F: -dense.energy(q, memories, F)},
        "log of the sum": {"energy": lambda q, memories, F: -dense.log_depth(q, memories, F)},
    },
)
def exponential_energy_is_minus_exp_of_lse(states: Array, memories: Array, *, energy: Piece) -> Array:
    """Values against exp(lse), autodiff against sums over memories and the gradient of the physics."""
    separation = dense.Exponential()
    overlaps = states @ memories.T
    values = relative_error(energy(states, memories, separation), -jnp.exp(logsumexp(overlaps, axis=-1)))
    downhill = -jax.grad(lambda q: jnp.sum(energy(q, memories, separation)))(states)
    slopes = relative_error(downhill, jnp.exp(overlaps) @ memories)
    physics = relative_error(downhill, -dense.gradient(states, memories, separation))
    return jnp.maximum(values, jnp.maximum(slopes, physics))
