"""Claims C2 and C8: the classical network as identity separation, with the sign and without.

Physics: :mod:`probam.energies.hopfield` and :mod:`probam.dynamics.discrete`. The other side is sums over memories,
enumeration of all states, a singular value decomposition, and NumPyro's multivariate normal.
"""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array

from probam.claims.claim import Piece, excess, extreme, ordinary, register, relative_error
from probam.claims.hopfield.binary_hopfield import HOPFIELD_BANKS, real_states
from probam.claims.inputs import Floats, generator, sign_bank
from probam.dynamics.discrete import update
from probam.energies import hopfield

__all__: list[str] = []

_MILLIDGE = "Millidge et al. (2022), Universal Hopfield Networks"


def _uhn_energy(v: Array, memories: Array, half: float = 0.5) -> Array:
    """Eq. 8 by couplings: the classical energy of real neurons with a quadratic well."""
    return half * jnp.sum(v**2, axis=-1) + hopfield.energy(v, hopfield.couplings(memories, diagonal=True))


@register(
    id="C2.map",
    source=f"{_MILLIDGE}, Sec. 3.1",
    title="the classical network has identity separation",
    statement="sign(W q) with W = M^T M is sign(M^T id(M q)): the same map, if the diagonal stays",
    latex=r"\operatorname{sign}(W q) = \operatorname{sign}(M^\top\, \mathrm{id}(M q)), \quad W = M^\top M",
    printed_statement="the same with W = M M^T",
    verdict="EXACT",
    relation="equal",
    constant="W_ii = K kept",
    inputs=sign_bank,
    cases=HOPFIELD_BANKS,
    tolerance=1e-12,
    exact={"diagonal": True, "separation": lambda x: x, "sign": lambda x: jnp.where(x >= 0, 1.0, -1.0)},
    mutations={
        "diagonal dropped": {"diagonal": False},
        "separation x^2": {"separation": lambda x: x**2},
        "sign left out": {"sign": lambda x: x},
    },
)
def classical_update_is_identity_separation(
    states: Array, memories: Array, *, diagonal: bool, separation: Piece, sign: Piece
) -> Array:
    """Update of the network against similarity, separation, projection and sign."""
    moved = update(hopfield.Network(hopfield.couplings(memories, diagonal=diagonal)), states)
    return relative_error(moved, sign(separation(states @ memories.T) @ memories))


@register(
    id="C2.energy",
    source=f"{_MILLIDGE}, Sec. 3.1: 'minimizing a Hopfield energy function'",
    title="its synchronous step descends if W keeps W_ii",
    statement="Eq. 8 falls along z = sign(M^T M q) on {-1,1}^N; with W_ii = 0 some steps go up",
    latex=r"E(\operatorname{sign}(W q)) \le E(q), \quad E = \tfrac12 v^\top (I - M^\top M) v",
    printed_statement="W q in one pass minimises the energy",
    verdict="COND",
    relation="at most",
    constant="0",
    inputs=sign_bank,
    cases=HOPFIELD_BANKS,
    tolerance=1e-12,
    exact={"diagonal": True, "energy": _uhn_energy},
    printed={"diagonal": False},
    printed_exceeds=0.01,
    mutations={"energy of opposite sign": {"energy": lambda v, memories: -_uhn_energy(v, memories)}},
)
def identity_separation_descends(states: Array, memories: Array, *, diagonal: bool, energy: Piece) -> Array:
    """Amount by which a step rises, over all states."""
    moved = update(hopfield.Network(hopfield.couplings(memories, diagonal=diagonal)), states)
    return excess(energy(moved, memories), energy(states, memories), energy(states, memories))


@register(
    id="C8.algebra",
    source=f"{_MILLIDGE}, Eqs. 8 and 9",
    title="the energy of identity separation and its step",
    statement="E = |v|^2/2 - |M v|^2/2 = v^T (I - M^T M) v / 2 and v - grad E = M^T M v",
    latex=r"E = \tfrac12 v^\top (I - M^\top M) v, \qquad v - \nabla E = M^\top M v",
    printed_statement="the same with M M^T",
    verdict="EXACT",
    relation="equal",
    constant="1/2",
    inputs=real_states,
    cases=(ordinary("K = 4, N = 7"), ordinary("K = 9, N = 5", num_memories=9, num_neurons=5)),
    tolerance=1e-10,
    exact={"energy": _uhn_energy},
    mutations={
        "|v|^2 for |v|^2 / 2": {"energy": lambda v, memories: _uhn_energy(v, memories, 1.0)},
        "overlaps without 1/2": {"energy": lambda v, memories: 2 * _uhn_energy(v, memories, 0.25)},
        "diagonal dropped": {
            "energy": lambda v, memories: 0.5 * jnp.sum(v**2, -1) + hopfield.energy(v, hopfield.couplings(memories))
        },
    },
)
def identity_separation_energy(
    states: Array,
    memories: Array,
    bias: Array,  # noqa: ARG001
    *,
    energy: Piece,
) -> Array:
    """Couplings against overlaps; the unit step by autodiff against the product."""
    squares = jnp.sum((states @ memories.T) ** 2, axis=-1)
    values = relative_error(energy(states, memories), 0.5 * jnp.sum(states**2, axis=-1) - 0.5 * squares)
    step = states - jax.grad(lambda v: jnp.sum(energy(v, memories)))(states)
    return jnp.maximum(values, relative_error(step, states @ memories.T @ memories))


def _norm_bank(key: jax.Array, *, norm: float, num_memories: int = 3, num_neurons: int = 5) -> dict[str, Floats]:
    """Real memories of a given spectral norm, real states, beta."""
    draw = generator(key)
    memories = draw.normal(size=(num_memories, num_neurons))
    return {
        "states": draw.normal(size=(6, num_neurons)),
        "memories": norm * memories / np.linalg.norm(memories, 2),
        "beta": np.asarray(1.7),
    }


@register(
    id="C8.unbounded",
    source=f"{_MILLIDGE}, Eqs. 8 and 9",
    title="without the sign, states run away",
    statement="along the leading direction u, E(t u) = t^2 (1 - |M|^2)/2, and v <- M^T M v grows by |M|^2 a step",
    latex=r"E(t u) = \tfrac{t^2}{2} (1 - \lVert M \rVert^2), \quad \lVert (M^\top M)^T u \rVert = \lVert M \rVert^{2T}",
    printed_statement="an equilibrium update, 'converges'",
    verdict="COND",
    relation="equal",
    constant="|M|^2: unbounded below for |M| > 1, a single well at 0 for |M| < 1",
    inputs=_norm_bank,
    cases=(ordinary("|M| = 2.5", norm=2.5), ordinary("|M| = 0.8", norm=0.8), extreme("|M| = 1e3", norm=1e3)),
    tolerance=1e-12,
    exact={"growth": lambda norm: norm**2, "well": 1.0},
    printed={"growth": lambda norm: norm**0},
    printed_exceeds=0.5,
    mutations={"growth |M|": {"growth": lambda norm: norm}, "no well": {"well": 0.0}},
)
def identity_separation_runs_away(
    states: Array,  # noqa: ARG001
    memories: Array,
    beta: Array,  # noqa: ARG001
    *,
    growth: Piece,
    well: float,
) -> Array:
    """Ten steps, and the energy along the way, from the leading direction of the memories."""
    _, values, directions = jnp.linalg.svd(memories, full_matrices=False)
    leading = directions[0]
    state = leading
    for _ in range(10):
        state = hopfield.field(state, hopfield.couplings(memories, diagonal=True))
    length = jnp.linalg.norm(state)
    energy = _uhn_energy(state, memories)
    growing = relative_error(length, growth(values[0]) ** 10)
    return jnp.maximum(growing, relative_error(energy, 0.5 * length**2 * (well - values[0] ** 2)))


@register(
    id="C8.twin",
    source=f"{_MILLIDGE}, Eq. 8",
    title="identity separation has a Gaussian twin iff |M| < 1",
    statement="-beta E(v) = log N(v | 0, (beta (I - M^T M))^-1) + (D/2) log(2 pi/beta) - logdet(I - M^T M)/2",
    latex=r"e^{-\beta E(v)} \propto \mathcal N\bigl(v | 0, [\beta (I - M^\top M)]^{-1}\bigr),\ \lVert M \rVert < 1",
    printed_statement="an energy of memories",
    verdict="COND",
    relation="equal",
    constant="(D/2) log(2 pi / beta) - log det(I - M^T M) / 2",
    inputs=_norm_bank,
    cases=(ordinary("|M| = 0.8", norm=0.8), extreme("|M| = 0.9999", norm=0.9999, tolerance=1e-10)),
    tolerance=1e-12,
    exact={
        "precision": lambda beta, gap: beta * gap,
        "log_det": lambda gap: jnp.linalg.slogdet(gap)[1],
        "mean": lambda memories: jnp.zeros(memories.shape[1]),
    },
    printed={"mean": lambda memories: memories[0]},
    printed_exceeds=0.01,
    mutations={
        "beta doubled": {"precision": lambda beta, gap: 2 * beta * gap},
        "determinant left out": {"log_det": lambda _gap: 0.0},
    },
)
def identity_separation_is_one_gaussian(
    states: Array, memories: Array, beta: Array, *, precision: Piece, log_det: Piece, mean: Piece
) -> Array:
    """NumPyro's multivariate normal against the energy."""
    dim = memories.shape[1]
    gap = jnp.eye(dim) - memories.T @ memories
    twin = dist.MultivariateNormal(mean(memories), precision_matrix=precision(beta, gap))
    constant = 0.5 * dim * jnp.log(2 * jnp.pi / beta) - 0.5 * log_det(gap)
    right = twin.log_prob(states) + constant
    return relative_error(-beta * _uhn_energy(states, memories), right, constant)
