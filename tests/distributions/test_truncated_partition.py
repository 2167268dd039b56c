"""The law of partitions under truncated sticks: enumeration of labels, sums over all partitions, limits."""

import itertools

import numpy as np
import pytest

from probam.claims.mixtures.sticks import truncated_partition_law
from probam.distributions.growth import log_partition_probability
from probam.distributions.truncated_partition import log_truncated_partition_probability
from probam.errors import InputError
from tests.inference.enumeration import log_truncated, partitions

PROCESSES = [(1.3, 0.0), (0.7, 0.35), (-0.2, 0.5), (1e3, 0.1), (1e-3, 0.0)]


@pytest.mark.parametrize(("alpha", "discount"), PROCESSES)
def test_the_recursion_over_sticks_is_the_sum_over_all_placements_of_the_blocks(alpha: float, discount: float) -> None:
    for sizes, num_components in itertools.product(
        ([1], [5], [1, 1], [2, 1, 1], [3, 2, 1], [2, 2, 1, 1], [7, 1, 3], [1, 1, 1, 1]), (1, 2, 3, 4, 6)
    ):
        got = log_truncated_partition_probability(alpha, discount, num_components, sizes)
        np.testing.assert_allclose(got, log_truncated(sizes, alpha, discount, num_components), rtol=1e-11, atol=1e-11)


def test_it_is_the_law_of_the_labels_of_data_summed_over_all_of_them() -> None:
    for labels, probability in truncated_partition_law(5, 3, 0.7, 0.4).items():
        got = log_truncated_partition_probability(0.7, 0.4, 3, np.bincount(labels))
        np.testing.assert_allclose(np.exp(got), probability, rtol=1e-12)


@pytest.mark.parametrize(("alpha", "discount"), PROCESSES)
@pytest.mark.parametrize("num_components", [1, 2, 5, 40])
def test_probabilities_of_all_partitions_sum_to_one(alpha: float, discount: float, num_components: int) -> None:
    total = sum(
        np.exp(log_truncated_partition_probability(alpha, discount, num_components, [len(block) for block in blocks]))
        for blocks in partitions(7)
    )
    np.testing.assert_allclose(total, 1, rtol=1e-12)


def test_with_many_sticks_the_law_is_that_of_the_restaurant() -> None:
    sizes = np.repeat([1, 2, 3, 5, 8, 13, 21], [6, 4, 2, 2, 1, 1, 1])
    limit = log_partition_probability(2.5, 0.0, sizes)
    gaps = [abs(log_truncated_partition_probability(2.5, 0.0, t, sizes) - limit) for t in (30, 60, 200)]
    assert gaps[0] > 1e-6
    assert gaps[1] < 1e-9
    assert gaps[2] < 1e-12


def test_a_thousand_data_of_large_strength_have_a_probability() -> None:
    """T^n is 50^1000; each datum on a stick of its own is out of reach, so the probability is zero."""
    sizes = np.repeat([10, 20, 30, 40], 10)
    assert np.isfinite(log_truncated_partition_probability(1e12, 0.5, 50, sizes))
    assert log_truncated_partition_probability(1.0, 0.0, 50, np.ones(1000)) == -np.inf


def test_bad_arguments_are_named() -> None:
    with pytest.raises(InputError, match="num_components: expected a whole number of at least 1; got 0"):
        log_truncated_partition_probability(1.0, 0.0, 0, [1])
    with pytest.raises(InputError, match="sizes: expected whole numbers"):
        log_truncated_partition_probability(1.0, 0.0, 3, [1.5])
    with pytest.raises(InputError, match="alpha: expected a finite number above -discount"):
        log_truncated_partition_probability(-1.0, 0.0, 3, [1])
