"""Partitions of small sets, where every partition can be listed, against hand counts and scikit-learn."""

import itertools
from math import log

import numpy as np
import pytest
from scipy.special import xlogy
from sklearn import metrics

from probam.errors import InputError
from probam.reports.summaries.partition import (
    binder_loss,
    canonical,
    cluster_sizes,
    coclustering,
    coclustering_from_responsibilities,
    distances,
    expected_loss,
    number_occupied,
    partition_draws,
    variation_of_information,
)
from tests.reports.summaries.enumerated import all_partitions, dirichlet, slow_binder, slow_vi


def test_there_are_bell_many_partitions() -> None:
    assert [len(all_partitions(n)) for n in range(1, 7)] == [1, 2, 5, 15, 52, 203]


def test_binder_is_one_minus_the_rand_index_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = rng.integers(0, 4, (2, 11))
        assert binder_loss(a, b) == pytest.approx(1 - metrics.rand_score(a, b), abs=1e-15)


def test_binder_of_a_hand_count() -> None:
    # pairs: {01} together in both, {02} and {12} only in b, the rest apart in both
    assert binder_loss(np.array([0, 0, 1, 2]), np.array([5, 5, 5, 3])) == 2 / 6
    assert binder_loss(np.array([4]), np.array([9])) == 0.0


def test_vi_is_entropies_minus_twice_the_mutual_information() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        a, b = rng.integers(0, 5, (2, 13))
        entropies = sum(-xlogy(p, p).sum() for p in (np.bincount(labels) / 13 for labels in (a, b)))
        expected = entropies - 2 * metrics.mutual_info_score(a, b)
        assert variation_of_information(a, b) == pytest.approx(expected, abs=1e-12)
        assert variation_of_information(a, b) == pytest.approx(slow_vi(a, b), abs=1e-12)


def test_vi_of_one_cluster_against_singletons_is_log_n() -> None:
    assert variation_of_information(np.zeros(6, int), np.arange(6)) == pytest.approx(log(6), abs=1e-14)


def test_vi_and_binder_are_metrics_on_all_partitions_of_five() -> None:
    partitions = all_partitions(5)
    for loss in (variation_of_information, binder_loss):
        table = np.array([[loss(a, b) for b in partitions] for a in partitions])
        np.testing.assert_array_equal(table == 0, np.eye(len(partitions), dtype=bool))
        np.testing.assert_allclose(table, table.T, atol=1e-14)
        assert (table[:, :, None] + table[None] >= table[:, None] - 1e-12).all()  # d(a,b) + d(b,c) >= d(a,c)


def test_coclustering_counts_draws_pair_by_pair() -> None:
    labels = np.random.default_rng(2).integers(0, 4, (9, 7))
    slow = np.array([[np.mean([z[i] == z[j] for z in labels]) for j in range(7)] for i in range(7)])
    np.testing.assert_array_equal(coclustering(labels), slow)


def test_coclustering_ignores_the_names_of_labels() -> None:
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 4, (9, 7))
    renamed = np.stack([rng.permutation(50)[z] for z in labels])
    np.testing.assert_array_equal(coclustering(labels), coclustering(renamed))


def test_coclustering_from_responsibilities_is_the_expectation_over_labels() -> None:
    resp = dirichlet(np.random.default_rng(4), 2, 4, 3)
    exact = np.zeros((4, 4))
    for draw in resp:
        for z in itertools.product(range(3), repeat=4):
            weight = np.prod(draw[np.arange(4), z])
            exact += weight * np.equal.outer(z, z) / 2
    np.testing.assert_allclose(coclustering_from_responsibilities(resp), exact, atol=1e-14)


def test_number_occupied_counts_distinct_labels() -> None:
    labels = np.array([[3, 3, 3, 3], [0, 9, 0, 9], [4, 1, 2, 3]])
    assert number_occupied(labels).tolist() == [1, 2, 4]


def test_cluster_sizes_count_the_data_of_each_memory_of_each_draw() -> None:
    labels = np.random.default_rng(20).integers(0, 4, (6, 9))
    slow = [[int(np.sum(z == k)) for k in range(5)] for z in labels]
    assert cluster_sizes(labels, 5).tolist() == slow


@pytest.mark.parametrize("loss", ["vi", "binder"])
def test_expected_loss_is_the_average_over_draws(loss: str) -> None:
    rng = np.random.default_rng(5)
    draws = rng.integers(0, 3, (17, 6))
    candidates = all_partitions(6)[::7]
    single = variation_of_information if loss == "vi" else binder_loss
    slow = [np.mean([single(c, z) for z in draws]) for c in candidates]
    np.testing.assert_allclose(expected_loss(candidates, draws, loss=loss), slow, atol=1e-12)  # type: ignore[arg-type]


def test_binder_needs_only_the_coclustering_matrix() -> None:
    rng = np.random.default_rng(6)
    draws, candidates = rng.integers(0, 3, (17, 6)), all_partitions(6)
    from_draws = expected_loss(candidates, draws, loss="binder")
    np.testing.assert_allclose(expected_loss(candidates, coclustering(draws), loss="binder"), from_draws, atol=1e-14)


def test_the_vi_criterion_of_a_matrix_is_jensens_bound_up_to_a_constant() -> None:
    rng = np.random.default_rng(7)
    draws, candidates = rng.integers(0, 3, (17, 6)), all_partitions(6)
    exact, bound = expected_loss(candidates, draws), expected_loss(candidates, coclustering(draws))
    # own part of E VI is (1/N) sum log|c_n| - 2 E log|c_n & z_n|, the rest E log|z_n| is common to all candidates
    common = np.mean([np.log(np.sum(z[:, None] == z, axis=1)).mean() for z in draws])
    constant = np.log(coclustering(draws).sum(axis=0)).mean()
    assert (bound - constant <= exact - common + 1e-12).all()
    certain = np.repeat(draws[:1], 5, axis=0)
    np.testing.assert_allclose(
        expected_loss(candidates, coclustering(certain)), expected_loss(candidates, certain), atol=1e-12
    )


def test_distances_from_one_partition_to_many_are_counted_pair_by_pair_and_datum_by_datum() -> None:
    rng = np.random.default_rng(8)
    centre, draws = rng.integers(0, 3, 7), rng.integers(0, 5, (11, 7))
    np.testing.assert_allclose(distances(centre, draws), [slow_vi(centre, z) for z in draws], atol=1e-13)
    np.testing.assert_allclose(
        distances(centre, draws, loss="binder"), [slow_binder(centre, z) for z in draws], atol=1e-15
    )


def test_canonical_labels_are_equal_just_where_partitions_are() -> None:
    rng = np.random.default_rng(9)
    partitions = all_partitions(5)
    np.testing.assert_array_equal(canonical(partitions), partitions)
    for span in (7, 10**6):  # names near and far apart
        renamed = np.stack([rng.permutation(span)[:9][z] - 3 for z in partitions])
        np.testing.assert_array_equal(canonical(renamed), partitions)


def test_draws_that_were_read_once_serve_again() -> None:
    draws = np.random.default_rng(10).integers(0, 3, (13, 6))
    for loss in ("vi", "binder"):
        known = expected_loss(draws, partition_draws(draws), loss=loss)
        np.testing.assert_array_equal(known, expected_loss(draws, draws, loss=loss))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: coclustering(np.ones((2, 3))), "expected integers"),
        (lambda: coclustering(np.ones(3, int)), r"expected shape \(S, N\)"),
        (lambda: coclustering_from_responsibilities(np.ones((2, 3))), r"expected shape \(S, N, K\)"),
        (lambda: partition_draws(np.array([[1.0, 0.4], [0.6, 1.0]])), "co-clustering matrix, symmetric"),
        (lambda: expected_loss(np.array([[0, 1]]), np.zeros((2, 3), int)), r"labels \(S, N\)"),
        (lambda: expected_loss(np.array([[0, 1]]), np.zeros((3, 2), int), loss="rand"), "expected 'vi' or 'binder'"),  # type: ignore[arg-type]
    ],
)
def test_wrong_inputs_are_named(call: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()  # type: ignore[operator]
