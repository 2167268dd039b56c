"""The energies of tokens: loops over heads, tokens and memories; what a step does, and where it stops lowering them."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp, softmax

from probam.energies import energy_transformer, token_energies
from probam.energies.energy_transformer import EnergyTransformer
from probam.energies.lagrangians import LayerNorm, Quadratic
from probam.errors import InputError

RNG = np.random.default_rng(2)
TOKENS = RNG.normal(size=(2, 5, 3))
KEYS, QUERIES = RNG.normal(size=(2, 4, 3)), RNG.normal(size=(2, 4, 3))
MEMORIES = RNG.normal(size=(6, 3))
attention_energy = jax.jit(token_energies.attention_energy)
velocity = jax.jit(energy_transformer.velocity)


def test_energy_and_attention_are_sums_over_the_other_tokens() -> None:
    wanted = np.zeros(2)
    weights = np.zeros((2, 2, 5, 5))
    for n in range(2):
        for h in range(2):
            for c in range(5):
                others = [b for b in range(5) if b != c]
                scores = 0.9 * np.array([(KEYS[h] @ TOKENS[n, b]) @ (QUERIES[h] @ TOKENS[n, c]) for b in others])
                wanted[n] -= logsumexp(scores) / 0.9
                weights[n, h, c, others] = softmax(scores)
    np.testing.assert_allclose(attention_energy(TOKENS, KEYS, QUERIES, 0.9), wanted, rtol=1e-13)
    np.testing.assert_allclose(token_energies.attention(TOKENS, KEYS, QUERIES, 0.9), weights, rtol=1e-11)


def test_the_hopfield_half_is_a_layer_with_tied_weights() -> None:
    wanted, force = np.zeros(2), np.zeros_like(TOKENS)
    for n in range(2):
        for c in range(5):
            for memory in MEMORIES:
                product = max(memory @ TOKENS[n, c], 0.0)
                wanted[n] -= product**2 / 2
                force[n, c] += product * memory
    np.testing.assert_allclose(token_energies.hopfield_energy(TOKENS, MEMORIES), wanted, rtol=1e-13)
    identity = Quadratic()
    both = velocity(TOKENS, identity, KEYS, QUERIES, MEMORIES, 0.9)
    attended = velocity(TOKENS, identity, KEYS, QUERIES, np.zeros((0, 3)), 0.9)
    np.testing.assert_allclose(both - attended, force, rtol=1e-11, atol=1e-12)


def test_layers_flow_downhill_in_the_energy_of_their_tokens() -> None:
    block = EnergyTransformer(KEYS, QUERIES, MEMORIES, 0.9, 5, LayerNorm(1.1, 0.2, 1e-3), step=0.02)
    states, energies = jnp.asarray(TOKENS), []
    for _ in range(6):
        energies.append(block.energy(states))
        states = block.update(states)
    assert (np.diff(energies, axis=0) < 0).all()


def test_layer_normalisation_never_turns_a_change_around() -> None:
    """dg/dx has the eigenvalues gamma / s, gamma eps / s^3 along the layer and 0 along a constant: none is negative."""
    norm, layer = LayerNorm(0.8, 0.3, 0.05), np.array([0.3, -1.0, 0.7, 2.0, 0.4])
    spread = np.sqrt(layer.var() + 0.05)
    slopes = np.linalg.eigvalsh(jax.jacobian(norm.activation)(jnp.asarray(layer)))
    np.testing.assert_allclose(slopes, [0, 0.8 * 0.05 / spread**3, *[0.8 / spread] * 3], atol=1e-12)


def test_the_step_at_which_four_repelling_tokens_stop_lowering_the_energy() -> None:
    """Three tokens d (1, -1) and one -d (1, -1) at beta -> 0: the three reach the side of the fourth at a = 3 s / 2."""
    d, eps, gain = 0.7, 0.1, 0.8
    states = d * jnp.array([[1.0, -1], [1, -1], [1, -1], [-1, 1]])
    last = 1.5 * np.sqrt(d**2 + eps) / gain
    keys = jnp.eye(2)[None]
    for factor, in_turn, is_raised in ((0.99, False, False), (1.01, False, True), (1.01, True, False)):
        norm = LayerNorm(gain, 0.0, eps)
        block = EnergyTransformer(keys, -keys, jnp.zeros((0, 2)), 1e-4, 4, norm, factor * last, in_turn)
        assert (block.energy(block.update(states)) > block.energy(states)) == is_raised
        assert block.falls == in_turn


def test_a_step_is_safe_by_the_curvature_of_the_energy() -> None:
    """1 / safe_step is half the bound of the curvature, times the largest slope gamma / sqrt(eps) of the outputs."""
    block = EnergyTransformer(KEYS, QUERIES, MEMORIES, 0.9, 5, LayerNorm(0.9, 0.2, 0.05))
    bound = 2 * np.sqrt(0.05) / (0.9 * float(block.safe_step()))
    rows = jnp.asarray(RNG.normal(size=(20, 15)))
    hessian = jax.jit(
        jax.vmap(jax.hessian(lambda g: token_energies.attention_energy(g.reshape(5, 3), KEYS, QUERIES, 0.9)))
    )
    assert 0 < np.linalg.eigvalsh(hessian(rows)).max() < bound
    assert replace(block, step=block.safe_step()).falls
    assert not replace(block, step=1.01 * block.safe_step()).falls


def test_float32_stays_float32_and_bad_shapes_are_named() -> None:
    result = attention_energy(np.float32(TOKENS), np.float32(KEYS), np.float32(QUERIES), 0.9)
    assert result.dtype == jnp.float32
    with pytest.raises(InputError, match=r"query: expected shape \(..., 2\), as many coordinates as memories have"):
        token_energies.hopfield_energy(TOKENS, MEMORIES[:, :2])
    with pytest.raises(InputError, match="at least two tokens"):
        token_energies.attention_energy(TOKENS[:, :1], KEYS, QUERIES, 0.9)
    with pytest.raises(InputError, match="query_weights: expected shape"):
        token_energies.attention_energy(TOKENS, KEYS, QUERIES[:1], 0.9)
    with pytest.raises(InputError, match="beta: expected finite values above 0"):
        token_energies.attention_energy(TOKENS, KEYS, QUERIES, 0.0)
