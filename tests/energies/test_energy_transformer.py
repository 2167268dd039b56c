"""The attention energy: loops over heads and tokens, both roles of a token, descent."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp, softmax

from probam.energies import energy_transformer
from probam.energies.lagrangians import LayerNorm
from probam.errors import InputError

RNG = np.random.default_rng(2)
TOKENS = RNG.normal(size=(2, 5, 3))
KEYS, QUERIES = RNG.normal(size=(2, 4, 3)), RNG.normal(size=(2, 4, 3))
attention_energy = jax.jit(energy_transformer.attention_energy)
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
    np.testing.assert_allclose(energy_transformer.attention(TOKENS, KEYS, QUERIES, 0.9), weights, rtol=1e-11)


def test_layers_flow_downhill_in_the_energy_of_their_tokens() -> None:
    norm = LayerNorm(1.1, 0.2, 1e-3)
    states = TOKENS
    before = attention_energy(norm.activation(states), KEYS, QUERIES, 0.9)
    for _ in range(5):
        states = states + 0.02 * velocity(states, norm, KEYS, QUERIES, 0.9, 0.7)
        after = attention_energy(norm.activation(states), KEYS, QUERIES, 0.9)
        assert (after < before).all()
        before = after


def test_float32_stays_float32_and_bad_shapes_are_named() -> None:
    result = attention_energy(np.float32(TOKENS), np.float32(KEYS), np.float32(QUERIES), 0.9)
    assert result.dtype == jnp.float32
    with pytest.raises(InputError, match="at least two tokens"):
        energy_transformer.attention_energy(TOKENS[:, :1], KEYS, QUERIES, 0.9)
    with pytest.raises(InputError, match="query_weights: expected shape"):
        energy_transformer.attention_energy(TOKENS, KEYS, QUERIES[:1], 0.9)
    with pytest.raises(InputError, match="beta: expected finite values above 0"):
        energy_transformer.attention_energy(TOKENS, KEYS, QUERIES, 0.0)
