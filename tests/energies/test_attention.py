"""Attention behind a normalisation against plain NumPy and JAX's own attention; the untied layer."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from probam.energies import attention
from probam.energies.attention import Head, LayerNorm, Readout, RMSNorm, Untied
from probam.errors import InputError

attend = jax.jit(attention.attend)
energy = jax.jit(attention.energy)

Parts = dict[str, Any]

D, H, N, K, V = 6, 4, 5, 3, 2


@pytest.fixture
def parts() -> Parts:
    rng = np.random.default_rng(0)
    return {
        "x": rng.normal(size=(2, N, D)) * 1.3 + 0.4,
        "tokens": rng.normal(size=(2, K, D)),
        "gamma": rng.uniform(0.5, 1.5, size=D) * np.where(np.arange(D) == 1, -1, 1),
        "delta": rng.normal(size=D),
        "epsilon": 1e-5,
        "matrices": (rng.normal(size=(H, D)), rng.normal(size=(H, D)), rng.normal(size=(V, D))),
        "biases": (rng.normal(size=H), rng.normal(size=H), rng.normal(size=V)),
    }


def head(parts: Parts, kind: type[LayerNorm] | type[RMSNorm] = LayerNorm) -> Head:
    return Head(kind(parts["gamma"], parts["delta"], parts["epsilon"]), *parts["matrices"], *parts["biases"])


def by_hand(parts: Parts, *, centred: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights, output and energy of the head, one query and one key at a time."""
    query_matrix, key_matrix, value_matrix = parts["matrices"]
    query_bias, key_bias, value_bias = parts["biases"]
    weights, outputs = np.zeros((2, N, K)), np.zeros((2, N, V))
    energies = np.zeros((2, N))
    for b in range(2):
        for n in range(N):
            x = parts["x"][b, n]
            x = x - x.mean() if centred else x
            normed = parts["gamma"] * x / np.sqrt((x**2).mean() + parts["epsilon"]) + parts["delta"]
            query = query_matrix @ normed + query_bias
            logits = [query @ (key_matrix @ token + key_bias) / np.sqrt(H) for token in parts["tokens"][b]]
            weights[b, n] = np.exp(logits) / np.sum(np.exp(logits))
            energies[b, n] = -np.log(np.sum(np.exp(logits)))
            values = parts["tokens"][b] @ value_matrix.T + value_bias
            outputs[b, n] = weights[b, n] @ values
    return weights, outputs, energies


@pytest.mark.parametrize(("kind", "centred"), [(LayerNorm, True), (RMSNorm, False)])
def test_a_head_is_softmax_of_scaled_products_of_normed_queries(parts: Parts, kind: Any, centred: bool) -> None:
    weights, outputs, energies = by_hand(parts, centred=centred)
    layer = head(parts, kind)
    got = jax.jit(attention.attention_weights)(layer, parts["x"], parts["tokens"])
    np.testing.assert_allclose(got, weights, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(attend(layer, parts["x"], parts["tokens"], parts["tokens"]), outputs, rtol=1e-12)
    np.testing.assert_allclose(energy(layer, parts["x"], parts["tokens"]), energies, rtol=1e-12)


def test_jax_attention_agrees_behind_the_norm(parts: Parts) -> None:
    layer = Head(LayerNorm(parts["gamma"], parts["delta"], parts["epsilon"]))
    mask = np.random.default_rng(1).random((2, N, K)) < 0.6
    mask[:, :, 0] = True
    normed = attention.normalize(layer.norm, parts["x"])
    wanted = jax.nn.dot_product_attention(
        normed[:, :, None], parts["tokens"][:, :, None], parts["tokens"][:, :, None], mask=mask[:, None]
    )[:, :, 0]
    got = attend(layer, parts["x"], parts["tokens"], parts["tokens"], mask)
    np.testing.assert_allclose(got, wanted, rtol=0, atol=2e-6)  # its softmax is single precision


def test_the_gradient_of_the_energy_is_minus_the_mean_key(parts: Parts) -> None:
    keys, queries = parts["tokens"][0], parts["x"][0]
    free = Untied(np.log(3.0), parts["delta"][:K])
    slope = jax.jit(jax.grad(lambda x: attention.energy(free, x, keys).sum()))(queries)
    weights = attention.attention_weights(free, queries, keys)
    units = keys / np.linalg.norm(keys, axis=-1, keepdims=True)
    pull = 3.0 * weights @ units
    along = queries / np.linalg.norm(queries, axis=-1, keepdims=True)
    tangent = pull - np.sum(pull * along, axis=-1, keepdims=True) * along
    np.testing.assert_allclose(slope, -tangent / np.linalg.norm(queries, axis=-1, keepdims=True), rtol=1e-11)


def test_the_untied_layer_does_what_the_head_does_at_the_head_s_own_values(parts: Parts) -> None:
    layer = head({**parts, "epsilon": 0.0})
    free, directions = attention.untie(layer, parts["tokens"][0])
    queries = attention.normalize(LayerNorm(epsilon=0.0), parts["x"][0])
    values = parts["tokens"][0] @ parts["matrices"][2].T + parts["biases"][2]
    np.testing.assert_allclose(
        attend(free, 7.0 * queries, 0.3 * directions, values),  # only directions count
        attend(layer, parts["x"][0], parts["tokens"][0], parts["tokens"][0]),
        rtol=1e-12,
    )


def test_a_free_weight_moves_the_odds_and_nothing_else(parts: Parts) -> None:
    keys, queries = parts["tokens"][0], parts["x"][0]
    free = Untied(np.array([0.3, 1.0, -0.5]), np.zeros(K))
    moved = Untied(free.log_concentrations, np.array([0.0, 1.7, 0.0]))
    before, after = (np.asarray(attention.attention_weights(p, queries, keys)) for p in (free, moved))
    np.testing.assert_allclose(after[:, 1] / after[:, 0], np.exp(1.7) * before[:, 1] / before[:, 0], rtol=1e-12)
    np.testing.assert_allclose(after[:, 2] / after[:, 0], before[:, 2] / before[:, 0], rtol=1e-12)


def test_a_readout_without_slopes_is_scaled_dot_product_attention_to_unit_queries() -> None:
    rng = np.random.default_rng(2)
    queries, keys, values = rng.normal(size=(2, 3, N, H)), rng.normal(size=(2, 3, K, H)), rng.normal(size=(2, 3, K, H))
    unit = queries / np.linalg.norm(queries, axis=-1, keepdims=True)
    readout = Readout(-0.5 * np.log(H), np.zeros(H), np.zeros(H))
    got = attend(attention.read_out(readout, keys), queries, keys, values)
    wanted = jax.nn.dot_product_attention(*(jnp.swapaxes(rows, 1, 2) for rows in (unit, keys, values)))
    np.testing.assert_allclose(got, jnp.swapaxes(wanted, 1, 2), rtol=0, atol=2e-6)  # its softmax is single precision

    def loss(params: Readout) -> jax.Array:
        return jnp.sum(attention.attend(attention.read_out(params, gapped), queries, keys, values))

    gapped = np.where(np.arange(K)[:, None] == 1, 0.0, keys)
    slopes = jax.jit(jax.grad(loss))(readout)  # trainable, even with a key of length zero
    assert all(np.isfinite(slope).all() for slope in slopes)
    assert all(np.abs(slope).max() > 0 for slope in slopes)


def test_constant_inputs_and_hidden_keys_give_numbers(parts: Parts) -> None:
    layer = head({**parts, "epsilon": 0.0})
    flat = np.full((1, D), 3.0)
    np.testing.assert_allclose(attention.normalize(layer.norm, flat), parts["delta"][None])
    slope = jax.grad(lambda x: attention.normalize(layer.norm, x).sum())(flat)
    assert np.isfinite(slope).all()
    hidden = np.zeros((1, K), bool)
    unseen = attention.attention_weights(layer, flat, parts["tokens"][0], hidden)
    np.testing.assert_array_equal(unseen, np.zeros((1, K)))
    assert attention.energy(layer, flat, parts["tokens"][0], hidden)[0] == np.inf


def test_float32_stays_float32(parts: Parts) -> None:
    single = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), parts)
    got = attend(head(single), single["x"], single["tokens"], single["tokens"])
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, by_hand(parts, centred=True)[1], rtol=1e-4, atol=1e-5)
    free, directions = attention.untie(head(single), single["tokens"][0])
    assert attend(free, single["x"][0], directions, single["tokens"][0]).dtype == jnp.float32


def test_misfits_are_named(parts: Parts) -> None:
    x, tokens = parts["x"][0], parts["tokens"][0]
    with pytest.raises(InputError, match=r"query_projection: expected a matrix \(out, 6\)"):
        attention.logits(Head(LayerNorm(), parts["matrices"][0].T), x, tokens)
    with pytest.raises(InputError, match="keys: expected as many features as the queries have, 6"):
        attention.logits(Head(LayerNorm()), x, tokens[:, :4])
    with pytest.raises(InputError, match="gamma: expected a number or one for each of the 6 features"):
        attention.normalize(LayerNorm(np.ones(3)), x)
    with pytest.raises(InputError, match="values: expected one row for each of the 3 keys"):
        attention.attend(Head(LayerNorm()), x, tokens, tokens[:2])
    with pytest.raises(InputError, match="mask: expected a shape that broadcasts"):
        attention.attend(Head(LayerNorm()), x, tokens, tokens, np.ones((N, K + 1), bool))
    with pytest.raises(InputError, match="log_weights: expected one for each of the 3 keys"):
        attention.logits(Untied(0.0, np.zeros(2)), x, tokens)
