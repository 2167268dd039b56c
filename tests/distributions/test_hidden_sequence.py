"""The filter of a hidden Markov model is the sum over all paths; draws follow the transitions."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy.stats import multivariate_normal

from probam.distributions.hidden_sequence import HiddenSequence, onward
from probam.errors import InputError

RNG = np.random.default_rng(4)
PATTERNS = RNG.normal(size=(3, 2))
INITIAL = np.array([0.5, 0.2, 0.3])
SEEN = RNG.normal(size=(2, 4, 2))


def _enumerated(seen: np.ndarray, transition: np.ndarray) -> tuple[np.ndarray, float]:
    """p(z_T | x) and log p(x), summed over every path of memories."""
    total = np.zeros(3)
    for path in product(range(3), repeat=len(seen)):
        p = INITIAL[path[0]]
        for t, z in enumerate(path):
            p *= multivariate_normal.pdf(seen[t], PATTERNS[z], 0.49 * np.eye(2))
            p *= transition[path[t - 1], z] if t else 1
        total[path[-1]] += p
    return total / total.sum(), float(np.log(total.sum()))


@pytest.mark.parametrize(("stay", "cyclic"), [(0.0, True), (0.3, True), (0.4, False)])
def test_the_filter_is_the_sum_over_all_paths(stay: float, cyclic: bool) -> None:
    transition = onward(3, stay=stay, cyclic=cyclic)
    law = HiddenSequence(dist.Normal(PATTERNS, 0.7).to_event(1), INITIAL, transition, 4)
    log_posterior, _ = law.filtered(SEEN)
    for b in range(2):
        expected, evidence = _enumerated(SEEN[b], np.asarray(transition))
        np.testing.assert_allclose(np.exp(log_posterior[b, -1]), expected, rtol=1e-11, atol=1e-300)
        np.testing.assert_allclose(law.log_prob(SEEN)[b], evidence, rtol=1e-12)
        np.testing.assert_allclose(law.next_memory(SEEN)[b], expected @ np.asarray(transition), rtol=1e-11)


def test_a_row_of_probabilities_sums_to_one_and_a_wrong_one_is_refused() -> None:
    np.testing.assert_allclose(np.sum(onward(5, stay=0.2, cyclic=False), axis=1), 1)
    with pytest.raises(InputError, match="stay: expected a probability"):
        onward(3, stay=1.0)


def test_draws_follow_the_transitions_and_show_their_memories() -> None:
    law = HiddenSequence(dist.Normal(10 * PATTERNS, 0.1).to_event(1), INITIAL, onward(3, stay=0.3), 5)
    seen, memories = law.sample_with_memories(jax.random.key(1), (400,))
    assert seen.shape == law.sample(jax.random.key(2), (400,)).shape == (400, 5, 2)
    assert np.max(np.abs(seen - 10 * PATTERNS[memories])) < 0.6
    moved = (np.diff(memories, axis=1) % 3).ravel()
    assert set(moved) == {0, 1}
    assert abs(np.mean(moved == 0) - 0.3) < 4 * (0.21 / 1600) ** 0.5
    np.testing.assert_array_equal(jnp.argmax(law.filtered(seen)[0], axis=-1), memories)
