"""Claim D3: the Energy Transformer's attention is the posterior of an alignment; its memories are neurons at their MAP.

Physics: :mod:`probam.energies.energy_transformer` and the layer-norm Lagrangian. Statistics: sums over all alignments
of a few tokens (each token C of head h is aligned with one a_h(C) != C), their log weights given by NumPyro, and the
half-normal prior of the neurons behind the memories.
"""

from collections.abc import Callable
from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.scipy.special import logsumexp
from jaxtyping import Array

from probam.claims.claim import Piece, excess, extreme, ordinary, register, relative_error
from probam.claims.inputs import Floats, generator
from probam.energies import energy_transformer, token_energies
from probam.energies.lagrangians import LayerNorm

__all__: list[str] = []

_HOOVER = "Hoover et al. (2023), Energy Transformer, arXiv:2302.07253, Eqs. 1 to 6"
_EPS = 0.05


def _sequence(
    key: jax.Array,
    *,
    num_tokens: int = 3,
    dim: int = 4,
    num_heads: int = 2,
    width: int = 3,
    beta: float = 0.8,
    size: float = 1.0,
    tau: float = 0.7,
) -> dict[str, Floats]:
    draw = generator(key)
    return {
        "states": size * draw.normal(size=(num_tokens, dim)),
        "key_weights": draw.normal(size=(num_heads, width, dim)),
        "query_weights": draw.normal(size=(num_heads, width, dim)),
        "shift": 0.3 * draw.normal(size=dim),
        "beta": np.asarray(beta),
        "tau": np.asarray(tau),
    }


def _tokens(states: Array, shift: Array) -> Array:
    """Layer norm of gain 0.9, written out."""
    centred = states - jnp.mean(states, axis=-1, keepdims=True)
    return 0.9 * centred / jnp.sqrt(jnp.mean(centred**2, axis=-1, keepdims=True) + _EPS) + shift


def _no_memories(states: Array) -> Array:
    """An empty bank, with which the block has its attention alone."""
    return jnp.zeros((0, states.shape[-1]))


def _alignments(num_tokens: int, *, itself: bool = False) -> Array:
    """All maps of tokens to tokens (other than themselves), of shape (M, N)."""
    choices = [[b for b in range(num_tokens) if itself or b != c] for c in range(num_tokens)]
    return jnp.asarray(list(product(*choices)))


def _scores(g: Array, keys: Array, queries: Array) -> Array:
    """K_B . Q_C at [h, C, B], one pair at a time."""
    num_heads, num_tokens = len(keys), len(g)
    rows = [
        [[jnp.dot(keys[h] @ g[b], queries[h] @ g[c]) for b in range(num_tokens)] for c in range(num_tokens)]
        for h in range(num_heads)
    ]
    return jnp.asarray(rows)


def _log_alignments(scores: Array, alignments: Array) -> Array:
    """sum_C score[h, C, a(C)] for every alignment of every head, (H, M)."""
    token = jnp.arange(alignments.shape[1])
    return jax.vmap(lambda head: jax.vmap(lambda a: jnp.sum(head[token, a]))(alignments))(scores)


@register(
    id="D3.alignments",
    source=_HOOVER,
    title="attention energy: a sum over all alignments",
    statement=(
        "exp(-beta E) = sum over alignments a_h(C) != C of exp(beta sum_{h,C} K_{h,a_h(C)} . Q_{hC}), "
        "and attention is the posterior of a"
    ),
    latex=(
        r"e^{-\beta E} = \sum_{a:\,a_h(C)\ne C} \exp\Bigl(\beta\sum_{h,C} K_{h,a_h(C)}\cdot Q_{hC}\Bigr),\quad "
        r"A_{hCB} = P(a_h(C) = B)"
    ),
    printed_statement="abstract only",
    verdict="EXACT",
    relation="equal",
    constant="none",
    inputs=_sequence,
    cases=(
        ordinary("plain"),
        extreme("beta 1e-6", beta=1e-6),
        extreme("beta 1e6", beta=1e6),
        extreme("states at 1e8", size=1e8),
    ),
    tolerance=1e-12,
    exact={"itself": False, "factor": 1.0, "exchange": False},
    mutations={
        "a token aligned with itself": {"itself": True},
        "beta doubled": {"factor": 2.0},
        "keys and queries exchanged": {"exchange": True},
        "sign flipped": {"factor": -1.0},
    },
)
def attention_energy_sums_alignments(
    states: Array,
    key_weights: Array,
    query_weights: Array,
    shift: Array,
    beta: Array,
    tau: Array,  # noqa: ARG001
    *,
    itself: bool,
    factor: float,
    exchange: bool,
) -> Array:
    """Energy and attention against the enumeration of all alignments of all heads."""
    g = _tokens(states, shift)
    energy = token_energies.attention_energy(g, key_weights, query_weights, beta)
    weights = token_energies.attention(g, key_weights, query_weights, beta)
    sides = (query_weights, key_weights) if exchange else (key_weights, query_weights)
    alignments = _alignments(len(g), itself=itself)
    log_terms = factor * beta * _log_alignments(_scores(g, *sides), alignments)  # (H, M)
    size = beta * jnp.max(jnp.abs(_scores(g, *sides))) * len(key_weights) * len(g)
    value = relative_error(beta * energy, -jnp.sum(logsumexp(log_terms, axis=-1)), size)
    law = dist.Categorical(logits=log_terms)  # of the alignment of each head
    is_aligned = jax.nn.one_hot(alignments, len(g))  # (M, C, B)
    marginals = jnp.einsum("hm,mcb->hcb", law.probs, is_aligned)
    # rounding of a score moves its share by as much
    return jnp.maximum(value, relative_error(weights, marginals, 1.0 + 0.1 * size))


@register(
    id="D3.two_roles",
    source=_HOOVER,
    title="each token is a query and a key",
    statement=(
        "-grad_C E = sum_{h,B} [A_{hCB} W_Q^T K_B + A_{hBC} W_K^T Q_B]: ordinary attention has the first term only, "
        "so E is no sum of independent token likelihoods"
    ),
    latex=(r"-\nabla_{g_C} E = \sum_{h,B}\bigl[A_{hCB}\,W_h^{Q\top} K_{hB} + A_{hBC}\,W_h^{K\top} Q_{hB}\bigr]"),
    printed_statement="abstract only",
    verdict="EXACT",
    relation="equal",
    constant="none",
    inputs=_sequence,
    cases=(ordinary("plain"), extreme("beta 1e-6", beta=1e-6), extreme("beta 1e6", beta=1e6)),
    tolerance=1e-10,
    exact={"as_query": 1.0, "as_key": 1.0},
    mutations={
        "query term only": {"as_key": 0.0},
        "key term only": {"as_query": 0.0},
        "sign flipped": {"as_key": -1.0},
    },
)
def force_has_a_query_and_a_key_term(
    states: Array,
    key_weights: Array,
    query_weights: Array,
    shift: Array,
    beta: Array,
    tau: Array,
    *,
    as_query: float,
    as_key: float,
) -> Array:
    """The physics' velocity against expectations under the enumerated posterior of the alignments."""
    lagrangian = LayerNorm(0.9, shift, _EPS)
    rate = tau * energy_transformer.velocity(
        states, lagrangian, key_weights, query_weights, _no_memories(states), beta, tau
    )
    g = _tokens(states, shift)
    scores, alignments = _scores(g, key_weights, query_weights), _alignments(len(g))
    law = dist.Categorical(logits=beta * _log_alignments(scores, alignments))
    posterior = jnp.einsum("hm,mcb->hcb", law.probs, jax.nn.one_hot(alignments, len(g)))
    keys = jnp.einsum("hyd,nd->hny", key_weights, g)
    queries = jnp.einsum("hyd,nd->hny", query_weights, g)
    received = jnp.einsum("hcb,hby,hyd->cd", posterior, keys, query_weights)
    sent = jnp.einsum("hbc,hby,hyd->cd", posterior, queries, key_weights)
    size = jnp.max(jnp.abs(received)) + jnp.max(jnp.abs(sent))
    return relative_error(rate, as_query * received + as_key * sent, size)


def _norm_form(x: Array, u: Array) -> Array:
    """u' Hess L u of layer norm: (gamma / s) (|u - mean u|^2 - (xhat . u)^2 / D)."""
    spread = jnp.sqrt(jnp.var(x, axis=-1) + _EPS)
    xhat = (x - jnp.mean(x, axis=-1, keepdims=True)) / spread[..., None]
    along = jnp.sum(xhat * u, axis=-1) ** 2 / x.shape[-1]
    return 0.9 * (jnp.sum((u - jnp.mean(u, axis=-1, keepdims=True)) ** 2, axis=-1) - along) / spread


@register(
    id="D3.layer_norm",
    source=_HOOVER,
    title="layer norm has a Lagrangian; attention descends",
    statement=(
        "L = D gamma sqrt(var + eps) + delta.x has grad L = LN(x) and a semi-definite Hessian with (1..1) in its null "
        "space; under tau x' = -dE/dg, dE/dt = -tau x'^T Hess L x' <= 0"
    ),
    latex=(
        r"\nabla\bigl[D\gamma\sqrt{\mathrm{var}(x)+\epsilon} + \delta\cdot x\bigr] = \mathrm{LN}(x),\qquad "
        r"\dot E = -\tau\,\dot x^\top \nabla^2 L\,\dot x \le 0"
    ),
    printed_statement="abstract only",
    verdict="EXACT",
    relation="equal",
    constant="tau",
    inputs=_sequence,
    cases=(
        ordinary("plain"),
        extreme("beta 1e-6", beta=1e-6),
        extreme("beta 1e6", beta=1e6),
        extreme("states at 1e4", size=1e4),
    ),
    tolerance=1e-10,
    exact={"gain": lambda _dim: 0.9, "shifted": 1.0, "scale": lambda tau: tau, "form": _norm_form},
    mutations={
        "D left out of L": {"gain": lambda dim: 0.9 / dim},
        "shift left out": {"shifted": 0.0},
        "tau left out": {"scale": lambda _tau: 1.0},
        "squared speed": {"form": lambda _x, u: jnp.sum(u**2, axis=-1)},
    },
)
def attention_descends_through_layer_norm(
    states: Array,
    key_weights: Array,
    query_weights: Array,
    shift: Array,
    beta: Array,
    tau: Array,
    *,
    gain: Callable[[int], float],
    shifted: float,
    scale: Piece,
    form: Piece,
) -> Array:
    """Activation, null vector and rate of the energy, by autodiff, against layer norm and its Hessian written out."""
    lagrangian = LayerNorm(gain(states.shape[-1]), shifted * shift, _EPS)
    activation = relative_error(lagrangian.activation(states), _tokens(states, shift))
    flat = jnp.max(jnp.abs(lagrangian.curvature(states, jnp.ones_like(states))))
    weights = (key_weights, query_weights)
    rates = energy_transformer.velocity(states, lagrangian, *weights, _no_memories(states), beta, tau)

    def energy_of(x: Array) -> Array:
        return token_energies.attention_energy(lagrangian.activation(x), *weights, beta)

    slope = jax.jvp(energy_of, (states,), (rates,))[1]
    parts = form(states, rates)
    rate = relative_error(slope, -scale(tau) * jnp.sum(parts))
    return jnp.max(jnp.stack([activation, flat, rate, excess(-parts, 0.0, jnp.max(jnp.abs(parts)))]))


def _block(
    key: jax.Array, *, repelling: bool = False, beta: float = 0.8, size: float = 1.0, num_states: int = 7
) -> dict[str, Floats]:
    """States of six tokens, and a block with memories; with ``repelling`` every query is minus its key."""
    draw = generator(key)
    keys = draw.normal(size=(2, 3, 4))
    return {
        "states": size * draw.normal(size=(num_states, 6, 4)),
        "key_weights": keys,
        "query_weights": -keys if repelling else draw.normal(size=keys.shape),
        "memories": 0.3 * draw.normal(size=(5, 4)),
        "beta": np.asarray(beta),
    }


@register(
    id="D3.hopfield",
    source=_HOOVER,
    title="the Hopfield half: half-normal neurons at their most probable values",
    statement=(
        "-1/2 sum max(xi.g, 0)^2 = const - max_h sum [log p(h) + h xi.g], p half-normal; its force is Xi' h at the "
        "most probable h = max(Xi g, 0): a layer with tied weights"
    ),
    latex=(
        r"-\tfrac12\sum_{\mu,C}\max(\xi_\mu\cdot g_C,0)^2 = \text{const} - \max_{h \ge 0}\sum_{\mu,C}"
        r"\bigl[\log p(h_{\mu C}) + h_{\mu C}\,\xi_\mu\cdot g_C\bigr],\quad -\nabla_{g} E = \Xi^\top\max(\Xi g,0)"
    ),
    printed_statement="the README of the authors' code leaves out the square",
    verdict="TYPO",
    relation="equal",
    constant="the prior at 0, for each memory and token",
    inputs=_block,
    cases=(ordinary("plain"), extreme("states at 1e8", size=1e8)),
    tolerance=1e-12,
    exact={"exponent": 2, "rectified": True},
    printed={"exponent": 1},
    printed_exceeds=1e-3,
    mutations={"not rectified": {"rectified": False}},
)
def memories_are_neurons_at_their_most_probable_values(
    states: Array,
    key_weights: Array,
    query_weights: Array,
    memories: Array,
    beta: Array,
    *,
    exponent: int,
    rectified: bool,
) -> Array:
    """Energy and force against NumPyro's half-normal prior, its maximum found by the sign of the derivative."""
    lagrangian = LayerNorm(0.9, 0.0, _EPS)
    g = _tokens(states, jnp.zeros(states.shape[-1]))
    drive = jnp.einsum("md,snd->snm", memories, g, precision="highest")
    prior = dist.HalfNormal(1.0, validate_args=False)  # its support is open at 0
    height = jnp.where(drive > 0, drive, 0.0) if rectified else drive
    gain = prior.log_prob(jnp.abs(height)) - prior.log_prob(0.0) + height * drive
    half = gain if exponent == 2 else 0.5 * height
    energy = token_energies.hopfield_energy(g, memories)
    weights = (key_weights, query_weights)
    both = energy_transformer.velocity(states, lagrangian, *weights, memories, beta)
    attended = energy_transformer.velocity(states, lagrangian, *weights, _no_memories(states), beta)
    force = jnp.einsum("snm,md->snd", height if exponent == 2 else 0.5 * jnp.sign(height), memories)
    value = relative_error(energy, -jnp.sum(half, axis=(-2, -1)))
    return jnp.maximum(value, relative_error(both - attended, force, jnp.max(jnp.abs(both))))


@register(
    id="D3.steps",
    source=_HOOVER,
    title="steps of any length lower the energy where tokens move in turn",
    statement=(
        "E is concave in each token, so no step of one token raises it; a step of all tokens does not where its length "
        "is at most sqrt(eps) / (gamma sqrt(N-1) sum_h |W_K' W_Q|), but may where it is longer"
    ),
    latex=(
        r"E(x_C + a\,v_C) \le E(x) \text{ for all } a > 0,\qquad E(x + a\,v) \le E(x) \text{ for } "
        r"a \le \frac{\sqrt\epsilon}{\gamma\sqrt{N-1}\,\sum_h |W_h^{K\top} W_h^Q|},\qquad v = -\nabla_g E"
    ),
    printed_statement="the layers minimise the energy (for small steps of all tokens)",
    verdict="COND",
    relation="at most",
    inputs=_block,
    cases=(
        ordinary("repelling tokens", repelling=True, beta=0.02),
        ordinary("plain"),
        extreme("beta 1e3", beta=1e3),
        extreme("states at 1e4", size=1e4),
    ),
    tolerance=1e-12,
    exact={"in_turn": True, "factor": 1.0},
    mutations={"all tokens at once": {"in_turn": False}, "a thousand times longer": {"factor": 1e3}},
)
def steps_of_tokens_in_turn_lower_the_energy(
    states: Array,
    key_weights: Array,
    query_weights: Array,
    memories: Array,
    beta: Array,
    *,
    in_turn: bool,
    factor: float,
) -> Array:
    """Energies before and after: long and short steps of tokens in turn, and the longest safe one of all tokens."""
    block = partial(
        energy_transformer.EnergyTransformer, key_weights, query_weights, memories, beta, 6, LayerNorm(0.9, 0.1, _EPS)
    )
    safe = factor * block().safe_step()
    moves = [block(step=step, in_turn=in_turn) for step in (0.01, 1.0, 100.0)] + [block(step=safe)]
    before = block().energy(states)
    return jnp.stack([excess(move.energy(move.update(states)), before, jnp.abs(before)) for move in moves])
