"""Claims A12 to A14: attention after a layer normalisation is a von Mises-Fisher mixture.

Physics: :mod:`probam.energies.spherical` (softmax of dot products with the normalised query). Statistics: the
von Mises-Fisher distribution with its normaliser. Attention and the layer norm themselves are written here as the
paper prints them; they are what the two sides are asked about.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float

from probam.claims.claim import Piece, extreme, ordinary, register, relative_error
from probam.claims.inputs import Floats, generator, orthonormal_complement_of_ones, unit_rows
from probam.distributions.mixture import MemoryMixture
from probam.distributions.von_mises_fisher import VonMisesFisher
from probam.energies import spherical
from probam.numerics.bessel import log_normalizer

__all__ = ["attention", "layer_norm"]

_SCHAEFFER = "Schaeffer et al. (2023), Associative Memory under the Probabilistic Lens"


def attention(query: Float[Array, "N D"], keys: Float[Array, "K D"]) -> Float[Array, "N K"]:
    """Attention weights softmax(K q), as in Sec. 4 of the paper."""
    return jax.nn.softmax(query @ keys.T, axis=-1)


def layer_norm(x: Float[Array, "N D"], epsilon: Float[Array, ""]) -> Float[Array, "N D"]:
    """(x - mean) / sqrt(var + eps): the layer norm of Sec. 4 before gamma and delta."""
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    return centred / jnp.sqrt(jnp.mean(centred**2, axis=-1, keepdims=True) + epsilon)


def _layer(
    key: jax.Array,
    *,
    num_queries: int = 6,
    num_keys: int = 4,
    dim: int = 5,
    gamma: float = 2.0,
    vector_gamma: bool = False,
    epsilon: float = 0.0,
    duplicates: bool = False,
) -> dict[str, Floats]:
    """Inputs x, keys of unequal length, values, gamma (scalar or one a feature), delta and epsilon."""
    draw = generator(key)
    keys = draw.normal(size=(num_keys, dim)) / np.sqrt(dim) * draw.uniform(0.4, 2.5, size=(num_keys, 1))
    if duplicates:
        keys[-1] = keys[0]
    return {
        "x": draw.normal(size=(num_queries, dim)) * 1.3 + 0.4,
        "keys": keys,
        "values": draw.normal(size=(num_keys, 3)),
        "gamma": gamma * (draw.uniform(0.5, 1.5, size=dim) if vector_gamma else np.ones(dim)),
        "delta": draw.normal(size=dim),
        "epsilon": np.asarray(epsilon),
        "frame": orthonormal_complement_of_ones(dim),
    }


def _unit_radius(length: Array) -> Array:
    return length / length  # a constant of ones sends XLA's simplifier round in circles


def _with_the_ones(frame: Array) -> Array:
    """Basis of the whole space: the frame and the direction of the mean."""
    dim = frame.shape[0]
    return jnp.concatenate([frame, jnp.full((dim, 1), dim**-0.5)], axis=1)


def _unframed(key: jax.Array, **settings: Any) -> dict[str, Floats]:
    drawn = _layer(key, **settings)
    del drawn["frame"]
    return drawn


def _on_the_sphere(key: jax.Array, **settings: Any) -> dict[str, Floats]:
    drawn = _layer(key, **settings)
    del drawn["epsilon"], drawn["frame"]
    drawn["x"] = unit_rows(drawn["x"])
    drawn["gamma"] = drawn["gamma"][0]
    return drawn


def _split(matrix: Float[Array, "K D"]) -> tuple[Float[Array, " K"], Float[Array, "K D"]]:
    length = jnp.linalg.norm(matrix, axis=-1)
    return length, matrix / length[:, None]


@register(
    id="A12",
    source=f"{_SCHAEFFER}, Eq. 9",
    title="attention on the sphere is a von Mises-Fisher mixture, with its normaliser",
    statement=(
        "softmax(k.q) = posterior iff pi_i ∝ exp(k_i.delta) / C_D(kappa_i), kappa_i = gamma |k_i|; "
        "lse_i(k_i.q) = log p(x) + log sum_j exp(k_j.delta) / C_D(kappa_j)"
    ),
    latex=(
        r"\pi_i \propto e^{k_i\cdot\delta} / C_D(\kappa_i),\quad \operatorname{lse}_i(k_i\cdot q) = \log p(x) "
        r"+ \log Z"
    ),
    printed_statement="pi_i ∝ exp(k_i . delta)",
    verdict="WRONG",
    relation="equal",
    constant="1 / C_D(kappa_i); log Z = log sum_j exp(k_j . delta) / C_D(kappa_j)",
    inputs=_on_the_sphere,
    cases=(
        ordinary("plain"),
        ordinary("gamma 10", gamma=10.0),
        extreme("kappa 1e-6", gamma=1e-6),
        extreme("kappa 1e6", gamma=1e6),
        extreme("D = 2, K = 1", num_keys=1, dim=2),
        extreme("D = 512", dim=512, num_queries=3, gamma=30.0),
        extreme("D = 512, kappa 1e6", dim=512, num_queries=3, gamma=1e6),
        extreme("duplicate keys", duplicates=True),
    ),
    tolerance=1e-12,
    tolerance_extreme=1e-9,  # a logit of 1e6 is known to 1e-10
    exact={
        "concentration": lambda gamma, length: gamma * length,
        "log_mixing": lambda shift, log_c: shift - log_c,
        "log_evidence": lambda shift, log_c: logsumexp(shift - log_c),
    },
    printed={"log_mixing": lambda shift, _log_c: shift, "log_evidence": lambda shift, _log_c: logsumexp(shift)},
    printed_exceeds=0.01,
    mutations={
        "normaliser dropped": {"log_mixing": lambda shift, _log_c: shift},
        "normaliser on the wrong side": {"log_mixing": lambda shift, log_c: shift + log_c},
        "delta left out": {"log_mixing": lambda _shift, log_c: -log_c},
        "gamma left out of kappa": {"concentration": lambda _gamma, length: length},
        "log Z dropped": {"log_evidence": lambda _shift, _log_c: 0.0},
    },
)
def attention_is_a_von_mises_fisher_posterior(
    x: Array,
    keys: Array,
    values: Array,
    gamma: Array,
    delta: Array,
    *,
    concentration: Piece,
    log_mixing: Piece,
    log_evidence: Piece,
) -> Array:
    """Weights, output and log-sum-exp of attention against posterior, posterior mean and log density of the mixture."""
    length, directions = _split(keys)
    kappa, shift = concentration(gamma, length), keys @ delta
    log_c = log_normalizer(keys.shape[1], kappa)
    mixture = MemoryMixture(jax.nn.log_softmax(log_mixing(shift, log_c)), VonMisesFisher(directions, kappa))
    query = gamma * x + delta
    weights = attention(query, keys)
    energy = spherical.energy(x, directions, gamma * length, jnp.exp(shift))
    posterior = mixture.responsibilities(x)
    errors = jnp.stack(
        [
            relative_error(weights, posterior),
            relative_error(weights @ values, posterior @ values, values),
            relative_error(logsumexp(query @ keys.T, axis=-1), mixture.log_prob(x) + log_evidence(shift, log_c), log_c),
            relative_error(-energy, mixture.log_prob(x) + log_evidence(shift, log_c), log_c),
        ]
    )
    return jnp.max(errors)


_LAYERS = (
    ordinary("D = 64", dim=64),
    ordinary("eps 1e-5", dim=64, epsilon=1e-5),
    ordinary("vector gamma, eps 0.1", dim=64, vector_gamma=True, epsilon=0.1),
    extreme("gamma 1e4", dim=64, gamma=1e4, vector_gamma=True),
    extreme("duplicate keys", dim=64, duplicates=True),
)
_SMALL = extreme("D = 3", dim=3)
_WIDE = extreme("D = 512", dim=512, num_queries=3, vector_gamma=True)


@register(
    id="A13.radius",
    source=f"{_SCHAEFFER}, Sec. 4, '|q~| ≈ 1'",
    title="where the layer norm puts the query",
    statement="|xhat| = sqrt(D) sqrt(var / (var + eps)) and 1 . xhat = 0",
    latex=(
        r"\lVert \hat x \rVert = \sqrt{D}\,\sqrt{\tfrac{\sigma^2}{\sigma^2+\epsilon}},\quad \mathbf 1 \cdot "
        r"\hat x = 0"
    ),
    printed_statement="|q~| ≈ 1",
    verdict="WRONG",
    relation="equal",
    constant="sqrt(D): 8 at D = 64",
    inputs=lambda key, **settings: {
        name: value for name, value in _layer(key, **settings).items() if name in ("x", "epsilon")
    },
    cases=(*_LAYERS, _WIDE),
    tolerance=1e-12,
    exact={"radius": lambda dim, variance, epsilon: jnp.sqrt(dim * variance / (variance + epsilon))},
    printed={"radius": lambda _dim, variance, _epsilon: jnp.ones_like(variance)},
    printed_exceeds=0.87,  # 1 - 1/8 at D = 64
    mutations={
        "radius D": {"radius": lambda dim, variance, epsilon: dim * jnp.sqrt(variance / (variance + epsilon))},
        "epsilon left out": {"radius": lambda dim, variance, _epsilon: jnp.full_like(variance, dim**0.5)},
        "radius sqrt(D - 1)": {
            "radius": lambda dim, variance, epsilon: jnp.sqrt((dim - 1) * variance / (variance + epsilon))
        },
    },
)
def layer_norm_lands_on_a_sphere_of_radius_root_dim(x: Array, epsilon: Array, *, radius: Piece) -> Array:
    """Length and sum of the entries of the normalised input."""
    normed = layer_norm(x, epsilon)
    length = jnp.linalg.norm(normed, axis=-1)
    total = jnp.max(jnp.abs(jnp.sum(normed, axis=-1))) / x.shape[1]
    return jnp.maximum(relative_error(length, radius(x.shape[1], jnp.var(x, axis=-1), epsilon)), total)


def _posterior_and_evidence(
    unit: Array, radius: Array, scaled_keys: Array, shift: Array, dim: int
) -> tuple[Array, Array, Array]:
    """Posterior, log evidence and energy for each query on its own sphere of radius R: kappa_i = R |scaled key|."""
    length, directions = _split(scaled_keys)

    def one(u: Array, r: Array) -> tuple[Array, Array, Array]:
        kappa = r * length
        logits = shift - log_normalizer(dim, kappa)
        mixture = MemoryMixture(jax.nn.log_softmax(logits), VonMisesFisher(directions, kappa))
        energy = spherical.energy(u, directions, kappa, jnp.exp(shift))
        return mixture.responsibilities(u), mixture.log_prob(u) + logsumexp(logits), energy

    posterior, evidence, energy = jax.vmap(one)(unit, radius)
    return posterior, evidence, energy


@register(
    id="A13.layer_norm",
    source=f"{_SCHAEFFER}, Sec. 4 and Eq. 9",
    title="layer-normed attention lives on the sphere of dimension D - 2",
    statement=(
        "kappa_i = R |P(gamma k_i)|, P = I - 11^T/D, R = |xhat|; pi_i ∝ exp(k_i.delta) / C_{D-1}(kappa_i) on S^{D-2}"
    ),
    latex=(
        r"\kappa_i = R\,\lVert P(\gamma \odot k_i) \rVert,\ P = I - \tfrac{\mathbf 1 \mathbf 1^\top}{D},\ "
        r"\pi_i \propto e^{k_i\cdot\delta}/C_{D-1}(\kappa_i)"
    ),
    printed_statement="kappa_i = gamma |k_i| on the unit sphere, pi_i ∝ exp(k_i . delta)",
    verdict="WRONG",
    relation="equal",
    constant="1 / C_{D-1}(kappa_i)",
    inputs=_layer,
    cases=(*_LAYERS, _SMALL),
    tolerance=1e-11,
    tolerance_extreme=1e-9,
    exact={
        "radius": lambda length: length,
        "basis": lambda frame: frame,
        "scale": lambda gamma, keys: gamma * keys,
        "shift": lambda keys, delta: keys @ delta,
        "extra_dim": 0,
    },
    printed={"radius": _unit_radius, "basis": _with_the_ones},
    printed_exceeds=0.1,
    mutations={
        "radius 1": {"radius": _unit_radius},
        "gamma left out": {"scale": lambda _gamma, keys: keys},
        "delta left out": {"shift": lambda keys, _delta: jnp.zeros(keys.shape[0])},
        "normaliser of one dimension more": {"extra_dim": 1},
    },
)
def layer_normed_attention_is_a_mixture_on_the_sphere_without_the_mean(
    x: Array,
    keys: Array,
    values: Array,
    gamma: Array,
    delta: Array,
    epsilon: Array,
    frame: Array,
    *,
    radius: Piece,
    basis: Piece,
    scale: Piece,
    shift: Piece,
    extra_dim: int,
) -> Array:
    """Attention to LN(x) against the posterior in an orthonormal basis of the vectors with zero sum."""
    normed = layer_norm(x, epsilon)
    weights = attention(gamma * normed + delta, keys)
    log_sum = logsumexp((gamma * normed + delta) @ keys.T, axis=-1)
    frame = basis(frame)
    inside = normed @ frame
    length = jnp.linalg.norm(inside, axis=-1)
    posterior, evidence, energy = _posterior_and_evidence(
        inside / length[:, None],
        radius(length),
        scale(gamma, keys) @ frame,
        shift(keys, delta),
        frame.shape[1] + extra_dim,
    )
    errors = jnp.stack(
        [
            relative_error(weights, posterior),
            relative_error(weights @ values, posterior @ values, values),
            relative_error(log_sum, evidence, 1.0),
            relative_error(log_sum, -energy, 1.0),
        ]
    )
    return jnp.max(errors)


@register(
    id="A13.rms_norm",
    source=f"{_SCHAEFFER}, Sec. 4, read with RMSNorm",
    title="RMS-normed attention lives on the sphere of dimension D - 1",
    statement="no mean is removed: kappa_i = R |gamma k_i|, pi_i ∝ exp(k_i.delta) / C_D(kappa_i) on S^{D-1}",
    latex=r"\kappa_i = R\,\lVert \gamma \odot k_i \rVert,\quad \pi_i \propto e^{k_i\cdot\delta}/C_D(\kappa_i)",
    printed_statement="not stated",
    verdict="NEW",
    relation="equal",
    constant="1 / C_D(kappa_i)",
    inputs=_unframed,
    cases=_LAYERS,
    tolerance=1e-11,
    tolerance_extreme=1e-9,
    exact={"radius": lambda length: length, "scale": lambda gamma, keys: gamma * keys, "extra_dim": 0},
    mutations={
        "radius 1": {"radius": _unit_radius},
        "gamma left out": {"scale": lambda _gamma, keys: keys},
        "normaliser of one dimension fewer": {"extra_dim": -1},
    },
)
def rms_normed_attention_is_a_mixture_on_the_whole_sphere(
    x: Array,
    keys: Array,
    values: Array,
    gamma: Array,
    delta: Array,
    epsilon: Array,
    *,
    radius: Piece,
    scale: Piece,
    extra_dim: int,
) -> Array:
    """As for the layer norm, without the projection."""
    normed = x / jnp.sqrt(jnp.mean(x**2, axis=-1, keepdims=True) + epsilon)
    weights = attention(gamma * normed + delta, keys)
    length = jnp.linalg.norm(normed, axis=-1)
    posterior, evidence, _ = _posterior_and_evidence(
        normed / length[:, None], radius(length), scale(gamma, keys), keys @ delta, keys.shape[1] + extra_dim
    )
    log_sum = logsumexp((gamma * normed + delta) @ keys.T, axis=-1)
    errors = jnp.stack(
        [
            relative_error(weights, posterior),
            relative_error(weights @ values, posterior @ values, values),
            relative_error(log_sum, evidence, 1.0),
        ]
    )
    return jnp.max(errors)


@register(
    id="A14",
    source=f"{_SCHAEFFER}, Sec. 4, 'inextricably tied via k_i'",
    title="under layer norm, mixing weights are free of the concentrations",
    statement="k_i + c / gamma leaves m_i and kappa_i alone and multiplies pi_i by exp(c sum_j delta_j / gamma_j)",
    latex=(
        r"k_i \mapsto k_i + c\,\gamma^{-1}:\quad m_i,\kappa_i \text{ unchanged},\ \log\pi_i \mapsto \log\pi_i "
        r"+ c \textstyle\sum_j \delta_j/\gamma_j"
    ),
    printed_statement="the concentrations and the mixing proportions are inextricably tied",
    verdict="WRONG",
    relation="equal",
    constant="c sum_j delta_j / gamma_j",
    inputs=_layer,
    cases=_LAYERS,
    tolerance=1e-11,
    tolerance_extreme=1e-9,
    exact={"moved_by": lambda delta, gamma: jnp.sum(delta / gamma)},
    printed={"moved_by": lambda _delta, _gamma: 0.0},
    printed_exceeds=0.05,
    mutations={
        "gamma left out": {"moved_by": lambda delta, _gamma: jnp.sum(delta)},
        "sign flipped": {"moved_by": lambda delta, gamma: -jnp.sum(delta / gamma)},
        "gamma in place of its inverse": {"moved_by": lambda delta, gamma: jnp.sum(delta * gamma)},
    },
)
def mixing_weights_are_free_under_layer_norm(
    x: Array, keys: Array, values: Array, gamma: Array, delta: Array, epsilon: Array, frame: Array, *, moved_by: Piece
) -> Array:
    """Attention with keys moved by different amounts c_i against the mixture of the old keys, weights moved."""
    moves = jnp.linspace(-1.0, 1.5, keys.shape[0])
    normed = layer_norm(x, epsilon)
    inside = normed @ frame
    length = jnp.linalg.norm(inside, axis=-1)
    shift = keys @ delta + moves * moved_by(delta, gamma)
    posterior, evidence, _ = _posterior_and_evidence(
        inside / length[:, None], length, (gamma * keys) @ frame, shift, frame.shape[1]
    )
    query = gamma * normed + delta
    moved_keys = keys + moves[:, None] / gamma
    weights = attention(query, moved_keys)
    errors = jnp.stack(
        [
            relative_error(weights, posterior),
            relative_error(weights @ values, posterior @ values, values),
            relative_error(logsumexp(query @ moved_keys.T, axis=-1), evidence, 1.0),
        ]
    )
    return jnp.max(errors)
