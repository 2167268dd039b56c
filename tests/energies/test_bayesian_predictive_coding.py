"""Layers are the batch posterior of what was written; what is erased leaves no trace; forgetting ends in the prior."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy.optimize import minimize

from probam.distributions.linear_regression import MatrixNormal, posterior, predictive
from probam.energies.bayesian_layers import Layers, energy, explained, features
from probam.energies.bayesian_predictive_coding import BayesianPredictiveCoding
from probam.errors import InputError

SIZES = {"width": 5, "depth": 2, "num_particles": 2, "steps": 60}
PATTERNS = jnp.asarray(np.random.default_rng(0).normal(size=(4, 6)))


@pytest.fixture(scope="module")
def memory() -> BayesianPredictiveCoding:
    return BayesianPredictiveCoding.store(PATTERNS, **SIZES)


def _assert_same(one: BayesianPredictiveCoding, other: BayesianPredictiveCoding, tolerance: float) -> None:
    for left, right in zip(
        jax.tree.leaves((one.layers, one.log_weights)), jax.tree.leaves((other.layers, other.log_weights)), strict=True
    ):
        np.testing.assert_allclose(left, right, atol=tolerance)


def _particle(layers: Layers, p: int) -> Layers:
    one: Layers = jax.tree.map(lambda each: each[p], layers)
    return one


def test_each_layer_is_the_batch_posterior_of_its_activities_in_any_order(memory: BayesianPredictiveCoding) -> None:
    assert memory.written is not None
    for p in range(2):
        lows = (memory.written.patterns, *(each[p] for each in memory.written.activities))
        pairs = zip(memory.layers, memory.prior, lows, lows[1:], strict=False)
        for layer, prior, low, high in pairs:
            backwards = features(high)[::-1], low[::-1]
            batch = posterior(MatrixNormal(prior.mean[p], prior.covariance[p]), *backwards, jnp.asarray(0.2))
            np.testing.assert_allclose(layer.mean[p], batch.mean, atol=1e-10)
            np.testing.assert_allclose(layer.covariance[p], batch.covariance, atol=1e-10)


def test_the_energy_of_a_state_and_its_activities_is_their_negative_log_density(
    memory: BayesianPredictiveCoding,
) -> None:
    draw = np.random.default_rng(1)
    state, first, second = (jnp.asarray(draw.normal(size=size)) for size in (6, 5, 5))
    layers, noise = _particle(memory.layers, 0), jnp.asarray(0.2)
    log_density = dist.Normal(0, 1).log_prob(second).sum()
    for layer, low, high in zip(layers, (state, first), (first, second), strict=True):
        log_density += predictive(MatrixNormal(*layer), features(high), noise).log_prob(low)
    np.testing.assert_allclose(energy(layers, state, (first, second), noise), -log_density, rtol=1e-12)


def test_activities_are_at_a_minimum_that_another_optimiser_finds_from_there(memory: BayesianPredictiveCoding) -> None:
    layers, state = _particle(memory.layers, 1), PATTERNS[2] / memory.scale
    found = explained(layers, state, 0.2, 400)

    def value(flat: np.ndarray) -> tuple[float, np.ndarray]:
        height, slope = of_flat(flat)
        return float(height), np.asarray(slope)

    of_flat = jax.jit(jax.value_and_grad(lambda flat: energy(layers, state, (flat[:5], flat[5:]), 0.2)))
    start = np.concatenate(found)
    better = minimize(value, start, jac=True)
    assert value(start)[0] - better.fun < 0.02
    assert value(np.zeros(10))[0] - better.fun > 1


def test_what_was_written_and_erased_leaves_no_trace(memory: BayesianPredictiveCoding) -> None:
    more = jnp.asarray(np.random.default_rng(2).normal(size=(2, 6)))
    written = memory.write(more)
    assert float(jnp.max(jnp.abs(written.layers[0].mean - memory.layers[0].mean))) > 0.01
    _assert_same(written.erase(more), memory, 1e-9)
    assert len(written.erase(more).written.patterns) == 4  # type: ignore[union-attr]


def test_an_early_pattern_is_erased_as_well_as_the_last(memory: BayesianPredictiveCoding) -> None:
    left = memory.erase(PATTERNS[1:2])
    assert left.written is not None
    for p in range(2):
        low, high = left.written.patterns, left.written.activities[0][p]
        batch = posterior(
            MatrixNormal(left.prior[0].mean[p], left.prior[0].covariance[p]), features(high), low, jnp.asarray(0.2)
        )
        np.testing.assert_allclose(left.layers[0].mean[p], batch.mean, atol=1e-9)
    everything = left.erase(PATTERNS[jnp.array([3, 0, 2])])
    np.testing.assert_allclose(everything.log_weights, -np.log(2), atol=1e-9)


def test_forgetting_everything_is_the_memory_without_patterns(memory: BayesianPredictiveCoding) -> None:
    gone = memory.forget(1.0)
    for layer, prior in zip(gone.layers, memory.prior, strict=True):
        np.testing.assert_array_equal(layer.mean, prior.mean)
        np.testing.assert_array_equal(layer.covariance, prior.covariance)
    np.testing.assert_allclose(gone.log_weights, -np.log(2))
    _assert_same(memory.forget(0.0), memory, 1e-14)


def test_forgetting_at_a_rate_is_forgetting_before_each_write(memory: BayesianPredictiveCoding) -> None:
    at_a_rate = BayesianPredictiveCoding.store(PATTERNS, forgetting=0.3, **SIZES)
    by_hand = memory.erase(PATTERNS)
    for row in PATTERNS:
        by_hand = by_hand.forget(0.3).write(row[None])
    _assert_same(at_a_rate, by_hand, 1e-8)


def test_recall_is_the_mean_of_the_particles_by_shares_and_precisions(memory: BayesianPredictiveCoding) -> None:
    query = jnp.asarray(np.random.default_rng(3).normal(size=6))
    heights, means, precisions = [], [], []
    for p in range(2):
        layers = _particle(memory.layers, p)
        activities = explained(layers, query / memory.scale, 0.2, 60)
        law = predictive(MatrixNormal(*layers[0]), features(activities[0]), jnp.asarray(0.2))
        heights.append(memory.log_weights[p] - energy(layers, query / memory.scale, activities, 0.2))
        means.append(law.mean)
        precisions.append(1 / law.variance[0])
    shares = np.exp(np.array(heights)) * np.array(precisions)
    expected = memory.scale * (shares[:, None] * np.array(means)).sum(0) / shares.sum()
    np.testing.assert_allclose(memory.update(query), expected, rtol=1e-6)
    np.testing.assert_allclose(memory.energy(query), -np.log(np.exp(np.array(heights)).sum()), rtol=1e-6)


def test_bad_input_gets_one_sentence_with_the_remedy(memory: BayesianPredictiveCoding) -> None:
    with pytest.raises(InputError, match=r"patterns: row 0 was not written, or was erased; erase rows exactly as"):
        memory.erase(PATTERNS[:1] + 1)
    with pytest.raises(InputError, match=r"erase: a memory that has forgotten cannot undo a write; make it with forg"):
        memory.forget(0.1).erase(PATTERNS[:1])
    with pytest.raises(InputError, match=r"width: expected a whole number of at least 1; got 0"):
        BayesianPredictiveCoding.store(PATTERNS, width=0)
    with pytest.raises(InputError, match=r"forgetting: expected a number from 0 to 1; got 1.5"):
        BayesianPredictiveCoding.store(PATTERNS, forgetting=1.5)
    with pytest.raises(InputError, match=r"noise: expected finite values above 0; got 0.0"):
        BayesianPredictiveCoding.store(PATTERNS, noise=0.0)
