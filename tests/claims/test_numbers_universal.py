"""Numbers stated with the claims on universal Hopfield networks: what is exact, what the printed forms give."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from probam.claims.universal.similarity_scores import categorical_divergence
from probam.energies import universal
from probam.energies.separations import Log, Max, Softmax
from probam.energies.similarities import SIMILARITIES

weights = jax.jit(universal.weights, static_argnames=("kind", "normalised"))


def test_c11_the_released_jensen_shannon_score_picks_memory_1_where_the_nearest_is_0() -> None:
    query, memories = jnp.array([0.6, 0.3, 0.1]), jnp.array([[0.55, 0.33, 0.12], [0.1, 0.2, 0.7]])
    there, back = categorical_divergence(memories, query[None])[:, 0], categorical_divergence(query[None], memories)[0]
    score = 1 / (0.5 / there + 0.5 / back)  # reciprocals averaged, inverted again
    assert int(jnp.argmax(score)) == 1
    for name in ("kl", "reverse kl", "jeffreys", "jensen-shannon"):
        assert int(jnp.argmin(SIMILARITIES[name](query, memories))) == 0


def test_c12_a_stored_vector_that_sums_to_one_retrieves_the_other() -> None:
    memories = np.array([[0.6, 0.4], [1.0, 0.0]])
    result = jax.jit(SIMILARITIES["normalised dot"])(memories[0], memories)
    np.testing.assert_allclose(result, [0.52, 0.6], rtol=1e-15)
    np.testing.assert_array_equal(weights(memories[0], memories, "normalised dot", Max()), [0, 1])
    np.testing.assert_array_equal(weights(memories[0], memories, "cosine", Max()), [1, 0])


def test_c13_log_separation_gives_the_best_memory_a_fortieth() -> None:
    result = jax.jit(Log().shares)(np.array([0.858, 0.023, 0.119]))
    np.testing.assert_allclose(result, [0.025, 0.622, 0.352], atol=2e-3)  # the scores are rounded


@pytest.mark.parametrize(("beta", "bound"), [(1.0, 0.0267), (100.0, 1.0)])
def test_c13_softmax_of_a_hundred_normalised_scores_weighs_at_most_a_fortieth_at_beta_one(
    beta: float, bound: float
) -> None:
    memories = np.random.default_rng(0).uniform(size=(100, 3))
    at_a_memory = weights(memories[4], memories, "squared euclidean", Softmax(beta), normalised=True)
    assert float(at_a_memory[4]) == pytest.approx(bound, abs=5e-5)
    natural = weights(memories[4], memories, "squared euclidean", Softmax(1e5))
    assert float(natural[4]) == pytest.approx(1.0, abs=1e-9)


def test_c13_one_hot_within_a_percent_of_a_hundred_needs_beta_nine_point_two() -> None:
    needed = np.log(99 * 0.99 / 0.01)
    assert needed == pytest.approx(9.19, abs=5e-3)
    np.testing.assert_allclose(jax.jit(Softmax(needed).shares)(np.eye(100)[7])[7], 0.99, rtol=1e-12)
