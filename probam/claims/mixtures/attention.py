"""Claims A12 to A14 on whole layers: heads with projections and biases, their mixtures, and the untied layer.

Physics: :mod:`probam.energies.attention`. Statistics: :mod:`probam.models.attention`. The equations by themselves are
claimed in :mod:`probam.claims.mixtures.directional`.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from probam.claims.claim import Piece, Pieces, extreme, ordinary, register, relative_error
from probam.claims.inputs import Floats, generator
from probam.energies import attention as physics
from probam.models import attention as statistics

__all__: list[str] = []

_SCHAEFFER = "Schaeffer et al. (2023), Sec. 4 and Eq. 9"


def _head(
    key: jax.Array,
    *,
    num_queries: int = 5,
    num_keys: int = 4,
    dim: int = 16,
    head_dim: int = 6,
    epsilon: float = 1e-5,
    signs: bool = False,
    offset: float = 0.4,
) -> dict[str, Any]:
    """Inputs, stored tokens, and every weight of one head; ``signs`` makes some gammas negative."""
    draw = generator(key)
    gamma = draw.uniform(0.5, 1.5, size=dim)
    matrices = draw.normal(size=(3, head_dim, dim)) / np.sqrt(dim) * 1.7
    return {
        "x": draw.normal(size=(num_queries, dim)) * 1.3 + offset,
        "tokens": draw.normal(size=(num_keys, dim)),
        "gamma": gamma * np.where(np.arange(dim) % 3 == 0, -1, 1) if signs else gamma,
        "delta": draw.normal(size=dim),
        "epsilon": np.asarray(epsilon),
        "matrices": matrices,
        "biases": draw.normal(size=(3, head_dim)) * 0.5,
    }


_HEADS = (
    ordinary("D = 16, eps 1e-5"),
    ordinary("eps 0", epsilon=0.0),
    ordinary("eps 0.3, gamma of both signs", epsilon=0.3, signs=True),
    extreme("D = 512, 64 a head", dim=512, head_dim=64),
    extreme("offset 1e4", offset=1e4, tolerance=1e-9),  # the inputs themselves are known to 1e-12
)


def _physical(
    kind: type[physics.LayerNorm] | type[physics.RMSNorm],
    gamma: Array,
    delta: Array,
    epsilon: Array,
    matrices: Array,
    biases: Array,
) -> physics.Head:
    return physics.Head(kind(gamma, delta, epsilon), *matrices, *biases)


def _scores(tokens: Array, gamma: Array, delta: Array, matrices: Array, biases: Array) -> statistics.Scores:
    """What the statistics read off the weights."""
    keys = tokens @ matrices[1].T + biases[1]
    return statistics.scores(keys, gamma, delta, query_projection=matrices[0], query_bias=biases[0])


def _printed_posterior(scores: statistics.Scores, x: Array, norm: statistics.Norm, epsilon: Array) -> Array:
    """Posterior with the paper's mixing weights, exp(c_i), not divided by the normaliser."""

    def one(u: Array, r: Array) -> Array:
        exact = statistics.mixture(scores, norm, r)
        return type(exact)(jax.nn.log_softmax(scores.offsets), exact.bank).responsibilities(u)

    shares: Array = jax.vmap(one)(*statistics.place(x, norm, epsilon))
    return shares


_READ_EXACTLY: Pieces = {
    "posterior": statistics.posterior,
    "read_gamma": lambda gamma: gamma,
    "read_delta": lambda delta: delta,
    "read_biases": lambda biases: biases,
}

_MISREAD: Mapping[str, Pieces] = {
    "gamma left out": {"read_gamma": jnp.ones_like},
    "delta left out": {"read_delta": jnp.zeros_like},
    "query bias left out": {"read_biases": lambda biases: biases.at[0].set(0.0)},
    "epsilon doubled": {
        "posterior": lambda scores, x, norm, epsilon: statistics.posterior(scores, x, norm, 2 * epsilon + 1e-3)
    },
}


@register(
    id="A12.layer",
    source=_SCHAEFFER,
    title="a head behind a layer norm, read as its mixture",
    statement=(
        "W_Q, W_K, W_V, biases, gamma (vector), delta, eps: attention = posterior, output = posterior mean of the "
        "value, -energy = log p + log Z, with 1/C_{D-1}(kappa_i) in the mixing weights"
    ),
    latex=(
        r"\operatorname{softmax}_i\tfrac{k_i\cdot q}{\sqrt{d_h}} = p(z=i\mid u),\ z = \mathbb E[v_z\mid u],\ "
        r"g_i = \gamma\odot W_Q^\top k_i/\sqrt{d_h},\ \kappa_i = R\,\lVert Pg_i\rVert,\ "
        r"\pi_i\propto e^{c_i}/C_{D-1}(\kappa_i)"
    ),
    printed_statement="pi_i ∝ exp(k_i . delta)",
    verdict="WRONG",
    relation="equal",
    constant="1 / C_{D-1}(kappa_i)",
    inputs=_head,
    cases=_HEADS,
    tolerance=1e-12,
    tolerance_extreme=1e-11,
    exact={"kind": physics.LayerNorm, "norm": "layer", **_READ_EXACTLY},
    printed={"posterior": _printed_posterior},
    printed_exceeds=0.01,
    mutations={**_MISREAD, "the other normalisation": {"kind": physics.RMSNorm}},
)
@register(
    id="A13.rms_layer",
    source=f"{_SCHAEFFER}, read with RMSNorm",
    title="a head behind an RMS norm, read as its mixture",
    statement="as A12.layer with P = I, on S^{D-1}, with 1/C_D(kappa_i)",
    latex=r"\kappa_i = R\,\lVert g_i\rVert,\quad \pi_i\propto e^{c_i}/C_D(\kappa_i)\ \text{on } S^{D-1}",
    printed_statement="not stated",
    verdict="NEW",
    relation="equal",
    constant="1 / C_D(kappa_i)",
    inputs=_head,
    cases=_HEADS[:4],
    tolerance=1e-12,
    tolerance_extreme=1e-11,
    exact={"kind": physics.RMSNorm, "norm": "rms", **_READ_EXACTLY},
    mutations={
        "normaliser dropped": {"posterior": _printed_posterior},
        **_MISREAD,
        "the other normalisation": {"kind": physics.LayerNorm},
    },
)
def head_is_a_mixture(
    x: Array,
    tokens: Array,
    gamma: Array,
    delta: Array,
    epsilon: Array,
    matrices: Array,
    biases: Array,
    *,
    kind: type[physics.LayerNorm] | type[physics.RMSNorm],
    norm: statistics.Norm,
    posterior: Piece,
    read_gamma: Piece,
    read_delta: Piece,
    read_biases: Piece,
) -> Array:
    """Weights, outputs and energies of a head against posterior, posterior mean and log evidence of its mixture."""
    scores = _scores(tokens, read_gamma(gamma), read_delta(delta), matrices, read_biases(biases))
    head = _physical(kind, gamma, delta, epsilon, matrices, biases)
    shares = posterior(scores, x, norm, epsilon)
    values = tokens @ matrices[2].T + biases[2]
    energy = physics.energy(head, x, tokens)
    errors = [
        relative_error(physics.attention_weights(head, x, tokens), shares),
        relative_error(physics.attend(head, x, tokens, tokens), shares @ values, values),
        relative_error(-energy, statistics.log_evidence(scores, x, norm, epsilon), 1.0),
    ]
    return jnp.max(jnp.stack(errors))


@register(
    id="A13.lifted",
    source=f"{_SCHAEFFER}; derived",
    title="with eps > 0 one mixture serves all queries, a dimension up",
    statement=(
        "u = (xhat, sqrt(D eps/(var+eps)))/sqrt(D) has length 1 for every x; memories with last coordinate 0, "
        "kappa_i = sqrt(D)|P g_i| and 1/C_D(kappa_i): posterior = attention"
    ),
    latex=(
        r"u = \bigl(\hat x/\sqrt D,\ \sqrt{\epsilon/(\sigma^2+\epsilon)}\bigr),\ "
        r"\kappa_i = \sqrt D\,\lVert Pg_i\rVert,\ \pi_i \propto e^{c_i}/C_D(\kappa_i)"
    ),
    printed_statement="not stated",
    verdict="NEW",
    relation="equal",
    constant="1 / C_D(kappa_i)",
    inputs=_head,
    cases=_HEADS[:4],
    tolerance=1e-12,
    tolerance_extreme=1e-11,
    exact={"lift": lambda x, epsilon: statistics.lift(x, "layer", epsilon), "reweigh": False},
    mutations={
        "last coordinate left out": {"lift": lambda x, epsilon: statistics.lift(x, "layer", 0 * epsilon)},
        "weights of the sphere below": {"reweigh": True},
        "epsilon doubled": {"lift": lambda x, epsilon: statistics.lift(x, "layer", 2 * epsilon)},
    },
)
def one_mixture_for_all_queries(
    x: Array,
    tokens: Array,
    gamma: Array,
    delta: Array,
    epsilon: Array,
    matrices: Array,
    biases: Array,
    *,
    lift: Piece,
    reweigh: bool,
) -> Array:
    """Attention of all queries against the posterior in one and the same mixture."""
    scores = _scores(tokens, gamma, delta, matrices, biases)
    law = statistics.lifted_mixture(scores, "layer")
    if reweigh:
        law = type(law)(statistics.mixture(scores, "layer").log_weights, law.bank)
    lifted = lift(x, epsilon)
    head = _physical(physics.LayerNorm, gamma, delta, epsilon, matrices, biases)
    length = jnp.max(jnp.abs(jnp.linalg.norm(lifted, axis=-1) - 1))
    return jnp.maximum(relative_error(physics.attention_weights(head, x, tokens), law.responsibilities(lifted)), length)


def _exact_norm(key: jax.Array, **settings: Any) -> dict[str, Any]:
    drawn = _head(key, epsilon=0.0, **settings)
    num_keys = len(drawn["tokens"])
    moves: Floats = np.linspace(-1.0, 1.6, num_keys)
    del drawn["epsilon"]
    return {**drawn, "moves": moves}


@register(
    id="A14.untied",
    source=f"{_SCHAEFFER}, 'one might want them to be independent'",
    title="the untied layer holds attention, and frees its weights",
    statement=(
        "Untied(kappa, w): attention to directions at kappa_i = sqrt(D)|P g_i|, log w_i = c_i is the head's (eps 0); "
        "adding t_i to log w_i multiplies pi_i by exp(t_i) and leaves kappa, as k_i + t_i/(gamma sum(delta/gamma)) does"
    ),
    latex=(
        r"\kappa_i\,m_i\cdot u + \log w_i:\ w_i\mapsto w_ie^{t_i}\ \Rightarrow\ \pi_i\mapsto\pi_ie^{t_i},\ "
        r"\kappa_i\mapsto\kappa_i"
    ),
    printed_statement="the concentrations and the mixing proportions are inextricably tied",
    verdict="WRONG",
    relation="equal",
    constant="exp(t_i)",
    inputs=_exact_norm,
    cases=(ordinary("D = 16"), ordinary("gamma of both signs", signs=True), extreme("D = 512", dim=512, head_dim=64)),
    tolerance=1e-12,
    tolerance_extreme=1e-11,
    exact={"moved": lambda moves: moves, "sharpened": 1.0, "kept": 1.0},
    printed={"moved": lambda moves: jnp.zeros_like(moves)},
    printed_exceeds=0.05,
    mutations={
        "sign flipped": {"moved": lambda moves: -moves},
        "concentrations halved": {"sharpened": 0.5},
        "weights left out": {"kept": 0.0},
    },
)
def untied_layer_contains_attention(
    x: Array,
    tokens: Array,
    gamma: Array,
    delta: Array,
    matrices: Array,
    biases: Array,
    moves: Array,
    *,
    moved: Piece,
    sharpened: float,
    kept: float,
) -> Array:
    """Untied layer, mixture with moved weights, and a head whose keys were moved: the same attention three ways."""
    head = _physical(physics.LayerNorm, gamma, delta, jnp.zeros(()), matrices, biases)
    free, directions = physics.untie(head, tokens)
    free = physics.Untied(
        free.log_concentrations + jnp.log(sharpened), kept * jnp.asarray(free.log_weights) + moved(moves)
    )
    queries = physics.normalize(physics.LayerNorm(epsilon=0.0), x)
    untied = physics.attend(free, queries, directions, tokens)
    scores = _scores(tokens, gamma, delta, matrices, biases)
    exact = statistics.mixture(scores, "layer")
    law = type(exact)(jax.nn.log_softmax(exact.log_weights + moves), exact.bank)
    places, _ = statistics.place(x, "layer", 0.0)
    # the same by keys alone: without projections, in the space of the input
    effective = statistics.keys_of(law, gamma, delta, "layer", dim=x.shape[1], check=False)
    tied = physics.attend(physics.Head(head.norm, scale=1.0), x, effective, tokens)
    expected = law.responsibilities(places) @ tokens
    return jnp.maximum(relative_error(untied, expected, tokens), relative_error(tied, expected, tokens))


@register(
    id="A14.rms",
    source=f"{_SCHAEFFER}, 'inextricably tied via k_i'",
    title="behind an RMS norm the tie holds",
    statement="k_i -> kappa_i m_i is one to one: kappa_i and m_i fix log pi_i = k_i.delta - log C_D(kappa_i) + const",
    latex=(
        r"k_i = \gamma^{-1}\odot\kappa_i m_i/R \ \Rightarrow\ "
        r"\log\pi_i = k_i\cdot\delta - \log C_D(\kappa_i) + \text{const}"
    ),
    printed_statement="the concentrations and the mixing proportions are inextricably tied",
    verdict="EXACT",
    relation="equal",
    constant="1 / C_D(kappa_i)",
    inputs=_exact_norm,
    cases=(ordinary("D = 16"), ordinary("gamma of both signs", signs=True)),
    tolerance=1e-12,
    exact={"moved": jnp.zeros_like, "read_delta": lambda delta: delta},
    mutations={"weights moved": {"moved": lambda moves: moves}, "delta left out": {"read_delta": jnp.zeros_like}},
)
def rms_norm_ties_weights_to_concentrations(
    x: Array,
    tokens: Array,
    gamma: Array,
    delta: Array,
    matrices: Array,
    biases: Array,
    moves: Array,
    *,
    moved: Piece,
    read_delta: Piece,
) -> Array:
    """Keys recovered from directions and concentrations alone give back the weights, hence the whole attention."""
    keys = tokens @ (matrices[0].T @ matrices[1]).T + biases[0] @ matrices[1]
    scores = statistics.scores(keys, gamma, delta, scale=1.0)
    exact = statistics.mixture(scores, "rms")
    law = type(exact)(jax.nn.log_softmax(exact.log_weights + moved(moves)), exact.bank)
    back = statistics.keys_of(exact, gamma, delta, "rms", dim=x.shape[1], check=False)
    head = physics.Head(physics.RMSNorm(gamma, read_delta(delta), 0.0), scale=1.0)
    places, _ = statistics.place(x, "rms", 0.0)
    weights = physics.attention_weights(head, x, back)
    return jnp.maximum(relative_error(back, keys), relative_error(weights, law.responsibilities(places)))
