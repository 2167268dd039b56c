"""Partitions of small sets, where every partition can be listed, against hand counts and scikit-learn."""

import itertools
from math import log

import numpy as np
import pytest
from scipy.special import xlogy
from sklearn import metrics

from probam.errors import InputError
from probam.reports.partition import (
    binder_loss,
    coclustering,
    coclustering_from_responsibilities,
    credible_radius,
    expected_loss,
    number_occupied,
    point_partition,
    relabel,
    stephens,
    variation_of_information,
)


def all_partitions(num_data: int) -> np.ndarray:
    """Every partition as labels in order of first appearance: Bell(num_data) rows."""
    rows = [[0]]
    for _ in range(num_data - 1):
        rows = [[*row, label] for row in rows for label in range(max(row) + 2)]
    return np.array(rows)


def slow_vi(a: np.ndarray, b: np.ndarray) -> float:
    """H(a | b) + H(b | a) from conditional counts, cluster by cluster."""
    total = 0.0
    for i in range(len(a)):
        own_a, own_b = a == a[i], b == b[i]
        both = np.sum(own_a & own_b)
        total -= log(both / own_a.sum()) + log(both / own_b.sum())
    return total / len(a)


def dirichlet(rng: np.random.Generator, *shape: int) -> np.ndarray:
    draws = rng.gamma(0.7, size=shape)
    return np.asarray(draws / draws.sum(axis=-1, keepdims=True))


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


@pytest.mark.parametrize("num_data", [4, 5, 6])
@pytest.mark.parametrize("loss", ["vi", "binder"])
@pytest.mark.parametrize("given", ["draws", "matrix"])
def test_the_point_partition_beats_every_other_partition_of_a_concentrated_posterior(
    num_data: int, loss: str, given: str
) -> None:
    rng = np.random.default_rng(num_data)
    everything = all_partitions(num_data)
    for _ in range(8):
        truth = everything[rng.integers(len(everything))]
        noise = rng.random((40, num_data)) < 0.12
        draws = np.where(noise, rng.integers(0, num_data, (40, num_data)), truth)
        posterior = draws if given == "draws" else coclustering(draws)
        found = point_partition(posterior, loss=loss)  # type: ignore[arg-type]
        losses = expected_loss(everything, posterior, loss=loss)  # type: ignore[arg-type]
        own = expected_loss(found[None], posterior, loss=loss)[0]  # type: ignore[arg-type]
        assert own == pytest.approx(losses.min(), abs=1e-12)


@pytest.mark.parametrize("loss", ["vi", "binder"])
def test_no_sampled_partition_beats_the_point_partition(loss: str) -> None:
    draws = np.random.default_rng(8).integers(0, 4, (30, 9))
    found = point_partition(draws, loss=loss)  # type: ignore[arg-type]
    own = expected_loss(found[None], draws, loss=loss)[0]  # type: ignore[arg-type]
    assert own <= expected_loss(draws, draws, loss=loss).min() + 1e-12  # type: ignore[arg-type]


def test_the_exact_search_survives_the_shortlist() -> None:
    """More candidates than are judged exactly: the shortlist by the bound still holds the best of them."""
    rng = np.random.default_rng(9)
    truth = np.repeat(np.arange(3), [5, 4, 3])
    draws = np.where(rng.random((400, 12)) < 0.25, rng.integers(0, 5, (400, 12)), truth)
    assert len(np.unique(draws, axis=0)) > 200
    own = expected_loss(point_partition(draws)[None], draws)[0]
    assert own <= expected_loss(draws, draws).min() + 1e-12


def test_the_point_partition_numbers_its_clusters_by_size() -> None:
    draws = np.tile([7, 7, 2, 2, 2, 5], (10, 1))
    assert point_partition(draws).tolist() == [1, 1, 0, 0, 0, 2]
    assert point_partition(np.zeros((3, 1), int)).tolist() == [0]


def test_the_credible_ball_holds_its_share_of_the_draws() -> None:
    rng = np.random.default_rng(10)
    draws = np.where(rng.random((200, 8)) < 0.2, rng.integers(0, 3, (200, 8)), np.repeat([0, 1], 4))
    centre = point_partition(draws)
    for loss, single in (("vi", variation_of_information), ("binder", binder_loss)):
        radius = credible_radius(draws, centre, probability=0.9, loss=loss)  # type: ignore[arg-type]
        distances = np.array([single(centre, z) for z in draws])
        assert np.mean(distances <= radius + 1e-12) >= 0.9
        assert np.mean(distances < radius - 1e-12) < 0.9


def test_relabelling_undoes_every_permutation() -> None:
    rng = np.random.default_rng(11)
    resp = dirichlet(rng, 7, 4)
    reference = resp.argmax(axis=1)
    permutations = np.array(list(itertools.permutations(range(4))))
    shuffled = np.stack([resp[:, order] for order in permutations])
    for target in (reference, resp):
        found = relabel(shuffled, target)
        undone = np.take_along_axis(shuffled, found[:, None, :], axis=2)
        np.testing.assert_array_equal(undone, np.broadcast_to(resp, undone.shape))


def test_relabelling_is_the_best_of_all_permutations() -> None:
    rng = np.random.default_rng(12)
    resp, reference, labels = dirichlet(rng, 5, 6, 4), dirichlet(rng, 6, 4), rng.integers(0, 4, 6)
    orders = list(itertools.permutations(range(4)))
    for draw, own_kl, own_labels in zip(resp, relabel(resp, reference), relabel(resp, labels), strict=True):
        kl = [np.sum(xlogy(draw[:, o], draw[:, o]) - xlogy(draw[:, o], reference)) for o in map(list, orders)]
        hit = [draw[np.arange(6), np.array(o)[labels]].sum() for o in orders]
        assert orders[int(np.argmin(kl))] == tuple(own_kl)
        assert max(hit) == pytest.approx(draw[np.arange(6), own_labels[labels]].sum(), abs=1e-14)


def test_a_gain_matrix_stands_for_the_responsibilities_it_was_made_of() -> None:
    rng = np.random.default_rng(13)
    resp, labels = dirichlet(rng, 5, 8, 3), rng.integers(0, 3, 8)
    gain = np.einsum("nj,snk->sjk", np.eye(3)[labels], resp)
    np.testing.assert_array_equal(relabel(gain), relabel(resp, labels))


def test_stephens_never_climbs_and_ends_at_a_fixed_point() -> None:
    rng = np.random.default_rng(14)
    truth = dirichlet(rng, 12, 3)
    resp = np.stack([(0.7 * truth + 0.3 * dirichlet(rng, 12, 3))[:, rng.permutation(3)] for _ in range(25)])
    found = stephens(resp, resp[0])
    assert (np.diff(found.losses) <= 1e-10).all()
    aligned = np.take_along_axis(resp, found.permutations[:, None, :], axis=2)
    np.testing.assert_allclose(found.reference, aligned.mean(axis=0), atol=1e-14)
    np.testing.assert_array_equal(relabel(resp, found.reference), found.permutations)
    kl = sum(np.sum(xlogy(r, r) - xlogy(r, found.reference)) for r in aligned)
    assert found.losses[-1] == pytest.approx(kl, abs=1e-9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: relabel(np.ones((2, 3))), r"expected shape \(S, K, K\).*got \(2, 3\)"),
        (lambda: relabel(np.ones((2, 3, 4))), r"expected shape \(S, K, K\)"),
        (lambda: relabel(np.full((1, 2, 2), np.nan)), "not finite"),
        (lambda: relabel(np.ones((2, 3, 4)), np.array([0, 1, 4])), r"labels must lie in 0\.\.3; got 0\.\.4"),
        (lambda: relabel(np.ones((2, 3, 4)), np.array([0, 1])), "expected 3 labels"),
        (lambda: relabel(np.ones((2, 3, 4)), np.ones((4, 3))), r"probabilities of shape \(3, 4\)"),
        (lambda: coclustering(np.ones((2, 3))), "expected integers"),
        (lambda: coclustering_from_responsibilities(np.ones((2, 3))), r"expected shape \(S, N, K\)"),
        (lambda: point_partition(np.array([[1.0, 0.4], [0.6, 1.0]])), "co-clustering matrix, symmetric"),
        (lambda: expected_loss(np.array([[0, 1]]), np.zeros((2, 3), int)), r"labels \(S, N\)"),
        (lambda: expected_loss(np.array([[0, 1]]), np.zeros((3, 2), int), loss="rand"), "expected 'vi' or 'binder'"),  # type: ignore[arg-type]
    ],
)
def test_wrong_inputs_are_named(call: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()  # type: ignore[operator]
