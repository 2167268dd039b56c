"""Claim A11: steps of recall never climb, for any step between 0 and 2, with a sharp bound.

Physics: the updates and :mod:`probam.dynamics.recall`. Statistics: the log densities of the twins, which must rise
by at least the stated amount.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Float

from probam.claims.claim import Piece, excess, extreme, ordinary, register, relative_error
from probam.claims.inputs import Floats, euclidean_bank, spherical_bank
from probam.claims.mixtures.gaussian import BANKS, MUTED, WIDE, gaussian_mixture, log_density, uniform_bank
from probam.distributions.mixture import MemoryMixture
from probam.distributions.von_mises_fisher import VonMisesFisher
from probam.dynamics.recall import recall
from probam.energies import clam, continuous_hopfield, spherical
from probam.numerics.bessel import log_normalizer

__all__ = ["hopfield_mixture", "von_mises_fisher_mixture"]

_DERIVED = "not in the paper: derived from Eqs. 1 and 2 of Schaeffer et al. (2023)"


def hopfield_mixture(
    memories: Float[Array, "K D"], beta: Float[Array, ""], log_weights: Float[Array, " K"] | None = None
) -> MemoryMixture:
    """Twin of the continuous Hopfield network: pi_k ∝ exp(beta |xi_k|^2 / 2), covariance I / beta."""
    logits = 0.5 * beta * jnp.sum(memories**2, axis=-1) if log_weights is None else log_weights
    bank = dist.Normal(memories, jnp.sqrt(1 / beta)).to_event(1)
    return MemoryMixture(jax.nn.log_softmax(logits), bank)


def von_mises_fisher_mixture(
    directions: Float[Array, "K D"], concentrations: Float[Array, " K"], weights: Float[Array, " K"]
) -> tuple[MemoryMixture, Float[Array, ""]]:
    """Mixture with pi_k ∝ w_k / C_D(kappa_k), and log sum_k w_k / C_D(kappa_k)."""
    logits = jnp.log(weights) - log_normalizer(directions.shape[-1], concentrations)
    mixture = MemoryMixture(jax.nn.log_softmax(logits), VonMisesFisher(directions, concentrations))
    return mixture, jax.scipy.special.logsumexp(logits)


_STEPS = (0.05, 0.5, 1.0, 1.5, 1.9)


def _with_steps(bank: Callable[..., dict[str, Floats]]) -> Callable[..., dict[str, Floats]]:
    def inputs(key: jax.Array, **settings: Any) -> dict[str, Floats]:
        return {**bank(key, **settings), "steps": np.asarray(_STEPS)}

    return inputs


def _one_step(
    update: Callable[[Array], Array], energy: Callable[[Array], Array], queries: Array, steps: Array
) -> Float[Array, "A N D"]:
    """States after one step of recall of each size."""
    states: Array = jax.vmap(lambda step: recall(update, energy, queries, step=step, max_steps=1).states)(steps)
    return states


_ALONE = ordinary("K = 1", num_memories=1, dim=2)


@register(
    id="A11.clam",
    source=_DERIVED,
    title="Euler steps of CLAM descend",
    statement="v' = v + a (m(v) - v), 0 < a < 2: E(v') - E(v) <= -a (2 - a) |m(v) - v|^2; equality for K = 1",
    latex=r"E(v') - E(v) \le -a(2-a) \lVert m(v) - v \rVert^2,\quad 0 < a < 2",
    printed_statement="the energy is non-increasing along the continuous flow",
    verdict="NEW",
    relation="at most",
    constant="a (2 - a)",
    inputs=_with_steps(euclidean_bank),
    cases=(*BANKS, _ALONE, WIDE, MUTED, ordinary("beta 30", beta=30.0)),
    tolerance=1e-12,
    exact={"gain": lambda a: a * (2 - a), "direction": 1.0, "update": clam.update},
    mutations={
        "bound 2 a": {"gain": lambda a: 2 * a},
        "bound doubled": {"gain": lambda a: 2 * a * (2 - a)},
        "step downhill in log p": {"direction": -1.0},
        "weights left out": {"update": lambda v, mu, beta, _w: clam.update(v, mu, beta)},
    },
)
def clam_steps_descend(
    queries: Array,
    memories: Array,
    weights: Array,
    beta: Array,
    steps: Array,
    *,
    gain: Piece,
    direction: float,
    update: Piece,
) -> Array:
    """Amount by which -(1/beta) log p (NumPyro) after a step exceeds the bound; two-sided for K = 1."""
    moved = _one_step(
        lambda v: v + direction * (update(v, memories, beta, weights) - v),
        lambda v: clam.energy(v, memories, beta, weights),
        queries,
        steps,
    )
    mixture = gaussian_mixture(memories, weights, 1 / (2 * beta))
    before, after = -log_density(mixture, queries) / beta, -log_density(mixture, moved) / beta
    length = jnp.sum((update(queries, memories, beta, weights) - queries) ** 2, axis=-1)
    bound = before - gain(steps)[:, None] * length
    return relative_error(after, bound, before) if memories.shape[0] == 1 else excess(after, bound, before)


@register(
    id="A11.hopfield",
    source=_DERIVED.replace("Eqs. 1 and 2", "the analogue for continuous Hopfield networks"),
    title="Euler steps of the continuous Hopfield network descend",
    statement="v' = v + a (m(v) - v), 0 < a < 2: E(v') - E(v) <= -(a (2 - a) / 2) |m(v) - v|^2; equality for K = 1",
    latex=r"E(v') - E(v) \le -\tfrac{a(2-a)}{2} \lVert m(v) - v \rVert^2,\quad 0 < a < 2",
    printed_statement="not stated",
    verdict="NEW",
    relation="at most",
    constant="a (2 - a) / 2",
    inputs=_with_steps(uniform_bank),
    cases=(
        *(case for case in BANKS if case.name != "offset 1e6"),
        extreme("offset 1e6", offset=1e6, tolerance=1e-9),  # a step between states near 1e6 is known to 1e-10
        _ALONE,
        ordinary("beta 30", beta=30.0),
    ),
    tolerance=1e-12,
    exact={"gain": lambda a: a * (2 - a) / 2, "direction": 1.0, "log_weights": lambda _mu: None},
    mutations={
        "half dropped": {"gain": lambda a: a * (2 - a)},
        "norm prior dropped": {"log_weights": lambda mu: jnp.zeros(mu.shape[0])},
        "step uphill": {"direction": -1.0},
    },
)
def hopfield_steps_descend(
    queries: Array,
    memories: Array,
    beta: Array,
    steps: Array,
    *,
    gain: Piece,
    direction: float,
    log_weights: Callable[[Array], Array | None],
) -> Array:
    """As A11.clam, with the Gaussian twin of B11."""
    moved = _one_step(
        lambda v: v + direction * (continuous_hopfield.update(v, memories, beta) - v),
        lambda v: continuous_hopfield.energy(v, memories, beta),
        queries,
        steps,
    )
    mixture = hopfield_mixture(memories, beta, log_weights(memories))
    before, after = -log_density(mixture, queries) / beta, -log_density(mixture, moved) / beta
    length = jnp.sum((continuous_hopfield.update(queries, memories, beta) - queries) ** 2, axis=-1)
    bound = before - gain(steps)[:, None] * length
    return relative_error(after, bound, before) if memories.shape[0] == 1 else excess(after, bound, before)


@register(
    id="A11.spherical",
    source=_DERIVED,
    title="the spherical update never lowers the log density",
    statement="v' = normalise(sum_k r_k(v) kappa_k m_k): log p(v') >= log p(v) under the von Mises-Fisher mixture",
    latex=r"v' \propto \textstyle\sum_k r_k(v)\,\kappa_k m_k \implies \log p(v') \ge \log p(v)",
    printed_statement="not stated",
    verdict="NEW",
    relation="at most",
    constant="none",
    inputs=spherical_bank,
    cases=(
        ordinary("plain"),
        ordinary("kappa 30", concentration=30.0),
        extreme("kappa 1e-6", concentration=3e-7),
        extreme("kappa 1e6", concentration=3e5),
        extreme("D = 512", num_queries=3, num_memories=5, dim=512, concentration=100.0),
        extreme("duplicate directions", duplicates=True),
        extreme("a zero weight", zero_weights=True),
    ),
    tolerance=1e-12,
    exact={"direction": 1.0, "rise": 1.0, "weights_of": lambda w: w},
    mutations={
        "opposite direction": {"direction": -1.0},
        "asked to fall": {"rise": -1.0},
        "mixing weights without the normaliser, all on one": {"weights_of": lambda w: w * 1e6 ** jnp.arange(w.size)},
    },
)
def spherical_steps_ascend(
    queries: Array,
    directions: Array,
    concentrations: Array,
    weights: Array,
    *,
    direction: float,
    rise: float,
    weights_of: Piece,
) -> Array:
    """Fall of log p over each of three successive updates."""
    mixture, _ = von_mises_fisher_mixture(directions, concentrations, weights_of(weights))
    worst, v = jnp.zeros(()), queries
    for _ in range(3):
        moved = direction * spherical.update(v, directions, concentrations, weights)
        before, after = rise * mixture.log_prob(v), rise * mixture.log_prob(moved)
        worst = jnp.maximum(worst, excess(before, after, concentrations))
        v = moved
    return worst
