"""The parts of the experiment on long sequences: failing steps, and the capacity that they give."""

import jax
import numpy as np
import pytest
from scipy.stats import chi2, norm

from probam.energies.sequences import Sequence
from probam.experiments.long_sequences import crosstalk_variance, failing, failing_by_overlaps, half_failing, half_of


@pytest.mark.parametrize("degree", [1, 2, None])
def test_a_step_fails_where_the_network_of_all_transitions_makes_an_error(degree: int | None) -> None:
    step = jax.jit(lambda key: failing(key, 9, 6, degree))
    failed = 0
    for seed in range(3):
        key = jax.random.key(seed)
        key_own, key_others = jax.random.split(key)
        own, target = np.asarray(jax.random.rademacher(key_own, (2, 9), float))
        others = np.asarray(jax.random.rademacher(key_others, (8, 7, 9), float))
        f = (lambda m: m**degree) if degree else (lambda m: np.exp(8 * (m - 1)))
        results = np.asarray(step(key))
        for g in range(8):
            pairs = [(own, target), *((b[i], b[i + 1]) for b in others[: g + 1] for i in range(6))]
            force = np.zeros(9)
            for caller, called in pairs:
                force += called * f((caller @ own - caller * own) / 8)
            new = np.where(np.abs(force) < 1e-12, own, np.sign(force))
            exact = np.abs(force) > 1e-9
            result = bool(results[g])
            if exact.all():
                assert result == bool(np.any(new != target))
            failed += result
    assert 0 < failed < 24
    assert Sequence(np.stack([own, target]), degree, cyclic=False).update(own).tolist() == target.tolist()


def test_capacity_is_found_again_from_steps_that_fail_as_assumed() -> None:
    rng = np.random.default_rng(2)
    size, truth = 40, 300.0
    counts = 75.0 * np.arange(1, 9)
    level = norm.isf(1 - 0.5 ** (1 / size))
    share = 1 - norm.cdf(level * np.sqrt(truth / counts)) ** size
    result, error = half_failing(rng.random((3000, 8)) < share, counts, size, rng)
    assert abs(result - truth) < 4 * error
    assert 0 < error < 0.03 * truth
    assert crosstalk_variance(3, 1) == 0.5  # the mean of two signs


def test_shared_overlaps_are_a_chi_squared_variance_for_degree_one() -> None:
    size, block = 200, 7  # the overlaps of many neurons are normal, with variance 1 / (N - 1)
    result = failing_by_overlaps(np.random.default_rng(5), size, block, 1)
    levels = (np.arange(4000) + 0.5) / 4000
    for g in (1, 7):
        variance = chi2.ppf(levels, (g + 1) * block) / (size - 1)
        expected = 1 - np.mean(norm.cdf(variance**-0.5) ** size)
        assert abs(result[g] - expected) < 5 * 0.5 / np.sqrt(4000)  # at most that spread; fails once in a million
    # fewer steps fail at the level where one variance for all lets half of them fail
    counts = block * np.arange(1.0, 9)
    alike = 1 - norm.cdf(np.sqrt((size - 1) / counts)) ** size
    assert half_of(result, counts, size) > half_of(alike, counts, size)
