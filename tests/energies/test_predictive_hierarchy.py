"""Predictive coding: inference and learning against derivatives and closed forms; completion as a Gaussian does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from probam.dynamics.memories import complete
from probam.energies import predictive_layers
from probam.energies.predictive_hierarchy import PredictiveCoding
from probam.energies.predictive_layers import Layers
from probam.errors import InputError

RNG = np.random.default_rng(6)
LAYERS = Layers(
    (jnp.asarray(RNG.normal(size=(5, 3))), jnp.asarray(RNG.normal(size=(3, 2)))),
    (jnp.asarray(RNG.normal(size=5)), jnp.asarray(RNG.normal(size=3)), jnp.asarray(RNG.normal(size=2))),
)
SEEN = jnp.asarray(RNG.normal(size=(4, 5)))
NOISE = jnp.asarray(0.7)
KNOWN = np.array([True, True, False, True, False])


def test_steps_of_inference_never_raise_the_energy_and_end_where_it_is_stationary() -> None:
    energies = []
    for num_steps in (0, 1, 2, 5, 20, 2000):
        hidden = predictive_layers.inferred(LAYERS, SEEN, "tanh", NOISE, num_steps)
        energies.append(predictive_layers.energy(LAYERS, SEEN, hidden, "tanh", NOISE))
    assert (np.diff(energies, axis=0) < 0).all()
    slopes = jax.grad(lambda at: jnp.sum(predictive_layers.energy(LAYERS, SEEN, at, "tanh", NOISE)))(hidden)
    for slope in slopes:
        np.testing.assert_allclose(slope, 0, atol=1e-6)


def test_local_learning_is_the_slope_of_the_energy_in_the_weights() -> None:
    hidden = (jnp.asarray(RNG.normal(size=(4, 3))), jnp.asarray(RNG.normal(size=(4, 2))))
    wanted = jax.grad(lambda layers: jnp.mean(predictive_layers.energy(layers, SEEN, hidden, "tanh", NOISE)))(LAYERS)
    local = predictive_layers.local_gradient(LAYERS, SEEN, hidden, "tanh", NOISE)
    for one, other in zip(jax.tree.leaves(local), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)


def test_the_slope_of_the_energy_of_what_is_seen_needs_no_derivative_of_inference() -> None:
    memory = PredictiveCoding(LAYERS, 0.7, "tanh", 3000)
    slope = jax.grad(lambda x: memory.energy(x))(SEEN[0])
    step = 1e-5
    for i in range(5):
        ahead, behind = (float(memory.energy(SEEN[0] + sign * step * np.eye(5)[i])) for sign in (1, -1))
        np.testing.assert_allclose(slope[i], (ahead - behind) / (2 * step), rtol=1e-5)


def test_linear_layers_complete_by_the_gaussian_conditional_mean() -> None:
    memory = PredictiveCoding(LAYERS, 0.7, "linear", 6000)
    w0, w1 = (np.asarray(weight) for weight in LAYERS.weights)
    b0, b1, b2 = (np.asarray(bias) for bias in LAYERS.biases)
    mean = b0 + w0 @ (b1 + w1 @ b2)
    covariance = 0.49 * np.eye(5) + w0 @ (np.eye(3) + w1 @ w1.T) @ w0.T
    gain = covariance[np.ix_(~KNOWN, KNOWN)] @ np.linalg.inv(covariance[np.ix_(KNOWN, KNOWN)])
    wanted = np.array(SEEN)
    wanted[:, ~KNOWN] = mean[~KNOWN] + (wanted[:, KNOWN] - mean[KNOWN]) @ gain.T
    start = np.where(KNOWN, SEEN, 9.0)
    np.testing.assert_allclose(memory.completed(start, KNOWN), wanted, atol=1e-8)


def test_clamped_recall_of_any_memory_ends_at_the_same_completion() -> None:
    memory = PredictiveCoding(Layers((LAYERS.weights[0] / 3,), (jnp.zeros(5), jnp.zeros(3))), 0.7, "linear", 300)
    ended = complete(memory, SEEN, np.broadcast_to(~KNOWN, SEEN.shape))
    np.testing.assert_allclose(ended.states, memory.completed(SEEN, KNOWN), atol=1e-5)


def test_what_was_learned_is_read_back() -> None:
    patterns = jnp.asarray(RNG.normal(size=(4, 6)))
    memory = PredictiveCoding.store(patterns, width=8, depth=2, num_epochs=400)
    np.testing.assert_allclose(memory.update(patterns), patterns, atol=0.1)
    assert [jnp.shape(weight) for weight in memory.layers.weights] == [(6, 8), (8, 8)]


def test_bad_layers_and_options_are_named() -> None:
    with pytest.raises(InputError, match=r"weights: expected shapes \[\(5, 2\)\], as biases of shapes"):
        PredictiveCoding(Layers((jnp.ones((5, 3)),), (jnp.zeros(5), jnp.zeros(2))), 0.7)
    with pytest.raises(InputError, match="activation: expected tanh or linear; got 'relu'"):
        PredictiveCoding(LAYERS, 0.7, "relu")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="activation: expected tanh or linear; got 'relu'"):
        PredictiveCoding.store(SEEN, activation="relu")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="width: expected a whole number of at least 1; got 0"):
        PredictiveCoding.store(SEEN, width=0)
    with pytest.raises(InputError, match="noise: expected finite values above 0"):
        PredictiveCoding.store(SEEN, noise=0.0)
