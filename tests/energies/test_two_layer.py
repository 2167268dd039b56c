"""Two-layer networks: the printed formula, descent, the elimination of the hidden layer, and the two limits."""

from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp, softmax

from probam.energies import continuous_hopfield, two_layer
from probam.energies.lagrangians import LayerNorm, LogCosh, LogSumExp, Power, Quadratic, RectifiedPower, Softplus
from probam.energies.two_layer import Network, dense_associative_memory, modern_hopfield
from probam.errors import InputError

RNG = np.random.default_rng(3)
MEMORIES = RNG.normal(size=(4, 3))
CURRENT = RNG.normal(size=3)
V, H = RNG.normal(size=(2, 5, 3)), RNG.normal(size=(2, 5, 4))
PAIRS = {
    "tanh, softmax": (LogCosh(1.3), LogSumExp(2.0)),
    "layer norm, rectified cube": (LayerNorm(0.9, 0.1, 0.05), RectifiedPower(3)),
    "linear, logistic": (Quadratic(), Softplus(1.6)),
}

energy = jax.jit(two_layer.energy)
effective_energy = jax.jit(two_layer.effective_energy)
velocity = jax.jit(two_layer.velocity)
update = jax.jit(two_layer.update)


def network(name: str) -> Network:
    return Network(MEMORIES, *PAIRS[name], CURRENT, tau_v=0.7, tau_h=0.3)


def tanh_softmax_energy(v: np.ndarray, h: np.ndarray) -> np.ndarray:
    """Yang's slide, term by term, for tanh features and softmax memories."""
    g, f = np.tanh(1.3 * v), softmax(2 * h, axis=-1)
    visible = ((v - CURRENT) * g).sum(-1) - np.log(2 * np.cosh(1.3 * v)).sum(-1) / 1.3
    hidden = (h * f).sum(-1) - logsumexp(2 * h, axis=-1) / 2
    return visible + hidden - np.einsum("...k,kd,...d->...", f, MEMORIES, g)


def test_the_energy_is_the_three_brackets_of_the_slide() -> None:
    np.testing.assert_allclose(energy(V, H, network("tanh, softmax")), tanh_softmax_energy(V, H), rtol=1e-12)


def test_velocity_is_the_leak_the_pull_and_the_current() -> None:
    v_rate, h_rate = velocity(V, H, network("tanh, softmax"))
    np.testing.assert_allclose(v_rate, (softmax(2 * H, axis=-1) @ MEMORIES - V + CURRENT) / 0.7, rtol=1e-12)
    np.testing.assert_allclose(h_rate, (np.tanh(1.3 * V) @ MEMORIES.T - H) / 0.3, rtol=1e-12)


@pytest.mark.parametrize("name", PAIRS)
def test_along_the_dynamics_the_energy_changes_as_the_hessians_say_and_never_rises(name: str) -> None:
    net = network(name)
    v_rate, h_rate = velocity(V, H, net)
    ahead, behind = (energy(V + dt * v_rate, H + dt * h_rate, net) for dt in (1e-5, -1e-5))
    result = jax.jit(two_layer.dissipation)(V, H, net)
    np.testing.assert_allclose(result, (ahead - behind) / 2e-5, rtol=1e-6, atol=1e-7)
    assert (result < 0).all()


@pytest.mark.parametrize("name", PAIRS)
def test_the_hidden_layer_at_rest_has_the_least_energy_of_all(name: str) -> None:
    net = network(name)
    rest = two_layer.answer(V, net)
    np.testing.assert_allclose(energy(V, rest, net), effective_energy(V, net), rtol=1e-11, atol=1e-12)
    for scale in (0.1, 1.0, 10.0):
        assert (energy(V, rest + scale * H, net) >= effective_energy(V, net) - 1e-12).all()


@pytest.mark.parametrize("name", PAIRS)
def test_the_update_of_the_fast_network_never_goes_uphill(name: str) -> None:
    net, states = network(name), 3 * V
    for _ in range(6):
        following = update(states, net)
        assert (effective_energy(following, net) <= effective_energy(states, net) + 1e-12).all()
        states = np.asarray(following)


def test_fast_linear_units_under_a_softmax_are_the_continuous_hopfield_network() -> None:
    net = modern_hopfield(MEMORIES, 1.7)
    bank = (MEMORIES, 1.7)
    np.testing.assert_allclose(effective_energy(V, net), continuous_hopfield.energy(V, *bank), rtol=1e-12)
    np.testing.assert_allclose(update(V, net), continuous_hopfield.update(V, *bank), rtol=1e-12)
    step = jax.jit(two_layer.effective_velocity)(V, net)
    np.testing.assert_allclose(step, continuous_hopfield.update(V, *bank) - V, atol=1e-14)


def test_finite_hidden_times_cost_the_kl_divergence_of_the_two_softmaxes() -> None:
    f, r = softmax(1.7 * H, axis=-1), softmax(1.7 * V @ MEMORIES.T, axis=-1)
    gap = (f * np.log(f / r)).sum(-1) / 1.7
    net = modern_hopfield(MEMORIES, 1.7)
    np.testing.assert_allclose(energy(V, H, net) - effective_energy(V, net), gap, rtol=1e-11)


@pytest.mark.parametrize(("n", "rectified"), [(1, True), (2, True), (3, True), (2, False), (3, False)])
def test_fast_signs_under_powers_are_dense_associative_memory(n: int, rectified: bool) -> None:
    xor = np.array([[-1, -1, -1], [-1, 1, 1], [1, -1, 1], [1, 1, -1]], float)
    net = dense_associative_memory(xor, n, rectified=rectified)
    states = np.array(list(product((-1.0, 1.0), repeat=3)))
    overlap = states @ xor.T
    wanted = -((np.maximum(overlap, 0) if rectified else overlap) ** n).sum(-1)
    result = effective_energy(0.3 * states, net)
    np.testing.assert_allclose(result, wanted, atol=1e-13)
    parity = states.prod(-1)
    if rectified:
        np.testing.assert_allclose(result, -(3**n + 3) / 2 + (3**n - 3) / 2 * parity, atol=1e-13)
    slope = n * (np.maximum(overlap, 0) if rectified else overlap) ** (n - 1)
    np.testing.assert_allclose(update(states, net), (slope * (overlap > 0) if n == 1 else slope) @ xor, atol=1e-13)


def test_only_convex_pairs_promise_descent() -> None:
    assert modern_hopfield(MEMORIES, 1.0).is_convex
    assert not dense_associative_memory(MEMORIES, 3, rectified=False).is_convex


def test_linear_units_on_both_layers_have_no_least_energy_beyond_norm_one() -> None:
    values, directions = np.linalg.svd(MEMORIES)[1:]
    for factor, sign in ((0.9 / values[0], 1), (1.1 / values[0], -1)):
        net = Network(factor * MEMORIES, Quadratic(), Quadratic())
        depth = effective_energy(1e3 * directions[:1], net)
        np.testing.assert_allclose(depth, [1e6 / 2 * (1 - (factor * values[0]) ** 2)], rtol=1e-9)
        assert np.sign(depth) == sign


def test_coupling_by_similarity_is_coupling_by_outputs_for_linear_features_only() -> None:
    def dot(v: Any) -> Any:
        return v @ MEMORIES.T

    linear = network("linear, logistic")
    result = two_layer.similarity_energy(V, H, dot, linear)
    np.testing.assert_allclose(result, energy(V, H, linear), rtol=1e-12)
    other = network("tanh, softmax")
    assert (np.abs(two_layer.similarity_energy(V, H, dot, other) - energy(V, H, other)) > 1e-3).all()
    with pytest.raises(InputError, match="similarity: expected scores of shape"):
        two_layer.similarity_energy(V, H, lambda v: v, linear)


def test_the_energy_is_differentiable_in_everything_that_a_network_holds() -> None:
    net = network("tanh, softmax")
    slopes = jax.jit(jax.grad(lambda net: two_layer.energy(V[0, 0], H[0, 0], net)))(net)
    f, g = softmax(2 * H[0, 0]), np.tanh(1.3 * V[0, 0])
    np.testing.assert_allclose(slopes.memories, -np.outer(f, g), rtol=1e-12)
    np.testing.assert_allclose(slopes.current, -g, rtol=1e-12)


def test_float32_stays_float32_and_bad_shapes_are_named() -> None:
    net = modern_hopfield(np.float32(MEMORIES), 1.7)
    result = energy(np.float32(V), np.float32(H), net)
    assert result.dtype == jnp.float32
    np.testing.assert_allclose(result, energy(V, H, modern_hopfield(MEMORIES, 1.7)), rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match=r"hidden: expected shape \(2, 5, 4\)"):
        two_layer.energy(V, V, net)
    with pytest.raises(InputError, match="tau_h: expected finite values above 0; got 0"):
        two_layer.velocity(V, H, Network(MEMORIES, Quadratic(), Power(2), tau_h=0.0))
    with pytest.raises(InputError, match=r"current: expected one number or shape \(3,\); got \(2,\)"):
        two_layer.energy(V, H, Network(MEMORIES, Quadratic(), Power(2), current=np.ones(2)))
