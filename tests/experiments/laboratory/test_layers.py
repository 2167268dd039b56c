"""Layers of the laboratory's transformers against closed forms, the universal networks and the Energy Transformer."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array
from scipy.special import softmax

from probam.energies.similarities import SIMILARITIES
from probam.energies.token_energies import attention_energy, hopfield_energy
from probam.errors import InputError
from probam.experiments.laboratory.attention import ENERGY, FORMS, SelfAttention, kinds, similarity_scores
from probam.experiments.laboratory.network import (
    EnergyBlock,
    Shape,
    Transformer,
    build,
    matched,
    num_parameters,
    operations,
)
from probam.experiments.laboratory.tasks import Characters, Images

WIDTH, HEADS, LENGTH = 16, 2, 7
CHAIN = Shape(words=5, outputs=5, length=LENGTH, width=WIDTH, heads=HEADS, layers=2, hidden=24)


def _tokens(seed: int, shape: tuple[int, ...] = (LENGTH, WIDTH)) -> Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def _attention(kind: str) -> tuple[SelfAttention, Array, Array]:
    """A layer, outputs of a normalisation with random gamma and delta, and delta."""
    rng = np.random.default_rng(3)
    gamma, delta = jnp.asarray(rng.uniform(0.5, 2, WIDTH)), jnp.asarray(rng.normal(size=WIDTH))
    tokens = jax.vmap(eqx.nn.LayerNorm(WIDTH, use_weight=False, use_bias=False))(_tokens(4))
    return SelfAttention(jax.random.key(1), WIDTH, HEADS, kind), gamma * tokens + delta, delta


@pytest.mark.parametrize("form", FORMS[1:])
def test_untied_attention_is_tied_attention_at_the_tied_point(form: str) -> None:
    tied, tokens, shift = _attention("tied")
    untied, _, _ = _attention(form)
    seen = jnp.tri(LENGTH, dtype=bool)
    np.testing.assert_allclose(
        untied.weights(tokens, shift, seen), tied.weights(tokens, shift, seen), rtol=0, atol=1e-12
    )
    np.testing.assert_allclose(untied(tokens, shift, seen), tied(tokens, shift, seen), rtol=0, atol=1e-12)


def test_tied_attention_is_scaled_dot_products() -> None:
    layer, tokens, shift = _attention("tied")
    y, size = np.asarray(tokens), WIDTH // HEADS
    queries = y @ np.asarray(layer.query.weight).T + np.asarray(layer.query.bias)
    keys, values = (y @ np.asarray(one.weight).T for one in (layer.key, layer.value))
    parts = [slice(h * size, (h + 1) * size) for h in range(HEADS)]
    mixed = [softmax(queries[:, p] @ keys[:, p].T / np.sqrt(size), axis=1) @ values[:, p] for p in parts]
    expected = np.concatenate(mixed, axis=1) @ np.asarray(layer.output.weight).T + np.asarray(layer.output.bias)
    np.testing.assert_allclose(layer(tokens, shift), expected, atol=1e-12)


def test_freed_readouts_scale_the_slope_and_add_to_the_offset() -> None:
    tied, tokens, shift = _attention("tied")
    free, _, _ = _attention("untied")
    u, v = _tokens(8, (HEADS, WIDTH)) / 4, _tokens(9, (HEADS, WIDTH))
    free = eqx.tree_at(lambda layer: (layer.concentration, layer.mixing), free, (u, v))
    base = np.asarray(tied.logits(tokens, shift))
    # the offset is the logit of a query whose normalised part is zero: the shift alone
    asked = np.asarray(tied.query(shift)).reshape(HEADS, -1)
    keys = np.asarray(jax.vmap(tied.key)(tokens)).reshape(LENGTH, HEADS, -1)
    offset = np.einsum("hy,bhy->hb", asked, keys) / np.sqrt(WIDTH // HEADS)
    a, b = (np.asarray(readout) @ np.asarray(tokens).T for readout in (u, v))
    expected = np.exp(a)[:, None] * (base - offset[:, None]) + offset[:, None] + b[:, None]
    np.testing.assert_allclose(free.logits(tokens, shift), expected, atol=1e-12)


@pytest.mark.parametrize("name", SIMILARITIES)
def test_similarities_are_those_of_the_universal_networks(name: str) -> None:
    kind, queries, keys = SIMILARITIES[name], _tokens(1, (6, 9)), _tokens(2, (5, 9))
    inside: dict[str, Callable[[Array], np.ndarray]] = {
        "real": np.asarray,
        "nonzero sum": lambda x: np.logaddexp(x, 0),
        "nonnegative": lambda x: np.logaddexp(x, 0),
        "binary": lambda x: (np.asarray(x) > 0).astype(float),
    }
    expected = kind.scores(*(inside[kind.domain](x) for x in (queries, keys)))
    np.testing.assert_allclose(similarity_scores(kind, queries, keys), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", SIMILARITIES)
def test_every_similarity_tells_queries_and_keys_how_to_change(name: str) -> None:
    kind, queries, keys = SIMILARITIES[name], _tokens(1, (6, 9)), _tokens(2, (5, 9))
    weights = _tokens(3, (6, 5))
    slopes = jax.grad(lambda q, k: jnp.sum(weights * similarity_scores(kind, q, k)), argnums=(0, 1))(queries, keys)
    for slope in slopes:
        assert np.isfinite(slope).all()
        assert (np.abs(slope).max(axis=1) > 1e-8).all()


def test_the_energy_block_steps_down_the_gradient_of_its_energy() -> None:
    shape = Shape(words=4, outputs=4, length=5, width=8, heads=2, layers=1, hidden=6, attention=ENERGY, causal=False)
    made = (EnergyBlock(jax.random.key(2), shape._replace(turns=turns)) for turns in (1, 2))
    numbers = (_tokens(5, (8,)), jnp.asarray(np.log(0.7)))
    block, twice = (eqx.tree_at(lambda b: (b.shift, b.log_step), one, numbers) for one in made)
    x = _tokens(6, (5, 8))
    centred = np.asarray(x) - np.asarray(x).mean(axis=1, keepdims=True)
    g = centred / np.sqrt(centred.var(axis=1, keepdims=True) + 1e-5) + np.asarray(block.shift)

    @jax.jit
    def energy(at: Array) -> Array:
        matrices = (block.key_weights, block.query_weights)
        return attention_energy(at, *matrices, 4**-0.5) + hopfield_energy(at, block.memories)

    slope, h = np.empty_like(g), 1e-5
    for place in np.ndindex(*g.shape):
        nudge = np.zeros_like(g)
        nudge[place] = h
        slope[place] = (energy(g + nudge) - energy(g - nudge)) / (2 * h)
    np.testing.assert_allclose(block(x, None), x - 0.7 * slope, atol=1e-8)
    again = block.memory(5)
    np.testing.assert_allclose(twice(x, None), again.update(again.update(x)), atol=1e-12)


def test_networks_of_all_kinds_have_the_parameters_of_the_largest() -> None:
    target = num_parameters(CHAIN._replace(attention="untied"))
    for kind in kinds():
        shape = CHAIN._replace(attention=kind)
        if kind == ENERGY:
            shape = shape._replace(layers=1, causal=False)
        shape = matched(shape, num_parameters, target)
        network = build(jax.random.key(0), shape)
        counted = sum(leaf.size for leaf in jax.tree.leaves(network) if eqx.is_array(leaf))
        assert counted == num_parameters(shape)
        unit = WIDTH if kind == ENERGY else CHAIN.layers * (2 * WIDTH + 1)
        assert abs(counted - target) <= unit / 2
    with pytest.raises(InputError, match="target: expected more"):
        matched(CHAIN, num_parameters, 100)


def test_operations_are_those_of_the_matrix_products() -> None:
    shape = CHAIN._replace(width=64, hidden=256, length=32)
    products = 2 * shape.layers * (4 * 64**2 + 2 * 64 * 256 + 2 * 64 * 32) + 2 * 64 * shape.outputs
    assert products < operations(shape) < 1.15 * products
    more = matched(shape, operations, 2 * operations(shape))
    assert operations(more) == pytest.approx(2 * operations(shape), rel=0.01)


def test_a_causal_network_does_not_see_later_tokens_and_another_does() -> None:
    words = jnp.array([0, 1, 2, 3, 4, 0, 1])
    other = words.at[4].set(2)
    for kind in ("tied", "untied", "manhattan"):
        network = build(jax.random.key(0), CHAIN._replace(attention=kind))
        gap = np.abs(network(words) - network(other)).max(axis=1)
        np.testing.assert_array_equal(gap[:4], 0)
        assert (gap[4:] > 0).all()
    for kind, layers in (("tied", 2), (ENERGY, 1)):
        network = build(jax.random.key(0), CHAIN._replace(attention=kind, causal=False, layers=layers))
        assert (np.abs(network(words) - network(other)).max(axis=1) > 0).all()


@pytest.mark.parametrize("norm", ["layer", "rms"])
@pytest.mark.parametrize("kind", kinds())
def test_gradients_are_finite_in_single_precision(kind: str, norm: str) -> None:
    if norm == "rms" and kind not in FORMS:
        pytest.skip("the normalisation before another similarity is the same layer")
    numbers = np.random.default_rng(0).integers(5, size=400)
    with jax.enable_x64(False):
        task = Characters(numbers, 5, LENGTH, masked=kind == ENERGY, windows=4)
        size = {"width": WIDTH, "heads": HEADS, "layers": 1, "hidden": 8}
        shape = task.shape(attention=kind, norm=norm, **size)
        network = build(jax.random.key(0), shape)
        batch = task.draw(jax.random.key(1), jnp.zeros((), jnp.int32), 3)
        slopes = eqx.filter_grad(lambda one: task.loss(one, batch))(network)
        for slope in jax.tree.leaves(slopes):
            assert slope.dtype == jnp.float32
            assert np.isfinite(slope).all()


def test_networks_of_patches_have_finite_gradients_in_single_precision() -> None:
    patches = np.random.default_rng(0).random((20, 4, 3))
    with jax.enable_x64(False):
        task = Images(patches, [0, 1], held=5)
        for kind, layers in (("tied", 2), (ENERGY, 1)):
            network = build(jax.random.key(0), task.shape(width=8, heads=2, layers=layers, hidden=8, attention=kind))
            batch = task.draw(jax.random.key(1), jnp.ones((), jnp.int32), 3)
            slopes = eqx.filter_grad(lambda one, batch=batch: task.loss(one, batch))(network)
            assert all(np.isfinite(slope).all() for slope in jax.tree.leaves(slopes))


def test_shapes_that_are_none_are_named() -> None:
    with pytest.raises(InputError, match="num_heads: expected a divisor of the width 16; got 3"):
        SelfAttention(jax.random.key(0), 16, 3)
    with pytest.raises(InputError, match=r"kind: expected one of tied, .* got 'loose'"):
        SelfAttention(jax.random.key(0), 16, 2, "loose")
    with pytest.raises(InputError, match="one energy block that is not causal"):
        Transformer(jax.random.key(0), CHAIN._replace(attention=ENERGY, layers=1))
