"""Point partitions against an exhaustive search over all partitions of small sets."""

import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from probam.errors import InputError
from probam.reports.summaries.partition import Loss, coclustering, expected_loss
from probam.reports.summaries.point_partition import by_size, point_partition
from tests.reports.summaries.enumerated import all_partitions, slow_binder, slow_vi

LOSSES: tuple[Loss, ...] = ("vi", "binder")


def own_loss(partition: np.ndarray, posterior: np.ndarray, loss: Loss) -> float:
    return float(expected_loss(partition[None], posterior, loss=loss)[0])


@pytest.mark.parametrize("num_data", [4, 5, 6, 7])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("kind", ["draws", "matrix"])
def test_no_partition_of_all_beats_the_point_partition(num_data: int, loss: Loss, kind: str) -> None:
    """Concentrated, diffuse and wholly random posteriors."""
    rng = np.random.default_rng(num_data)
    everything = all_partitions(num_data)
    for share in (0.12, 0.3, 0.5, 1.0):
        truth = everything[rng.integers(len(everything))]
        noise = rng.random((40, num_data)) < share
        draws = np.where(noise, rng.integers(0, num_data, (40, num_data)), truth)
        posterior = draws if kind == "draws" else coclustering(draws)
        losses = expected_loss(everything, posterior, loss=loss)
        result = own_loss(point_partition(posterior, loss=loss), posterior, loss)
        assert result == pytest.approx(losses.min(), abs=1e-12)


def test_the_exhaustive_search_agrees_with_losses_counted_by_hand() -> None:
    rng = np.random.default_rng(1)
    draws = np.where(rng.random((15, 6)) < 0.3, rng.integers(0, 4, (15, 6)), [0, 0, 1, 1, 1, 2])
    for loss, slow in (("vi", slow_vi), ("binder", slow_binder)):
        means = [np.mean([slow(c, z) for z in draws]) for c in all_partitions(6)]
        result = point_partition(draws, loss=loss)  # type: ignore[arg-type]
        assert np.mean([slow(result, z) for z in draws]) == pytest.approx(min(means), abs=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("kind", ["draws", "matrix"])
def test_moving_no_datum_lowers_the_expected_loss(loss: Loss, kind: str) -> None:
    rng = np.random.default_rng(2)
    truth = np.repeat(np.arange(4), [9, 7, 5, 4])
    draws = np.where(rng.random((60, 25)) < 0.35, rng.integers(0, 7, (60, 25)), truth)
    posterior = draws if kind == "draws" else coclustering(draws)
    result = point_partition(posterior, loss=loss)
    neighbours = np.repeat(result[None], 25 * (result.max() + 2), axis=0).reshape(25, -1, 25)
    for datum in range(25):
        neighbours[datum, :, datum] = np.arange(result.max() + 2)
    losses = expected_loss(neighbours.reshape(-1, 25), posterior, loss=loss)
    assert own_loss(result, posterior, loss) <= losses.min() + 1e-9 / 25


@pytest.mark.parametrize("loss", LOSSES)
def test_no_sampled_partition_beats_the_point_partition(loss: Loss) -> None:
    draws = np.random.default_rng(8).integers(0, 4, (30, 9))
    assert own_loss(point_partition(draws, loss=loss), draws, loss) <= expected_loss(draws, draws, loss=loss).min()


def test_the_search_goes_beyond_draws_and_cuts_and_mostly_to_the_best_of_all_partitions() -> None:
    """Seven draws of pure noise: the hardest posterior there is for a greedy search, and seldom is a draw the best."""
    rng = np.random.default_rng(3)
    everything, beyond, best = all_partitions(8), 0, 0
    for _ in range(20):
        draws = rng.integers(0, 3, (7, 8))
        result, least = own_loss(point_partition(draws), draws, "vi"), expected_loss(everything, draws).min()
        tree = linkage(squareform(1 - coclustering(draws), checks=False), "average")
        cuts = [fcluster(tree, k, "maxclust")[None] for k in range(1, 9)]
        candidates = expected_loss(np.concatenate([draws, *cuts]), draws).min()
        assert result <= candidates + 1e-12
        beyond += bool(result < candidates - 1e-9)
        best += bool(result < least + 1e-9)
    assert beyond >= 3
    assert best >= 18


def test_neither_the_order_nor_the_names_nor_the_repetition_of_draws_matter() -> None:
    rng = np.random.default_rng(4)
    draws = np.where(rng.random((50, 10)) < 0.25, rng.integers(0, 4, (50, 10)), np.repeat([0, 1, 2], [5, 3, 2]))
    renamed = np.stack([rng.permutation(30)[z] for z in rng.permutation(draws)])
    for loss in LOSSES:
        own = point_partition(draws, loss=loss)
        np.testing.assert_array_equal(point_partition(renamed, loss=loss), own)
        np.testing.assert_array_equal(point_partition(np.repeat(draws, 3, axis=0), loss=loss), own)


def test_the_point_partition_numbers_its_clusters_by_size() -> None:
    draws = np.tile([7, 7, 2, 2, 2, 5], (10, 1))
    for loss in LOSSES:
        assert point_partition(draws, loss=loss).tolist() == [1, 1, 0, 0, 0, 2]
        assert point_partition(np.zeros((3, 1), int), loss=loss).tolist() == [0]
    assert by_size(np.array([4, 9, 9, 1])).tolist() == [1, 0, 0, 2]


def test_binder_and_vi_part_where_doubt_is_spread_over_single_data() -> None:
    """Binder's loss pays for doubtful data with clusters of their own; VI does so later (Wade and Ghahramani 2018)."""
    rng = np.random.default_rng(5)
    truth = np.repeat([0, 1], 6)
    draws = np.where(rng.random((400, 12)) < 0.45, rng.integers(0, 6, (400, 12)), truth)
    few, many = (point_partition(draws, loss=loss).max() + 1 for loss in LOSSES)
    assert few < many


def test_an_unknown_loss_is_named() -> None:
    with pytest.raises(InputError, match="expected 'vi' or 'binder'; got 'rand'"):
        point_partition(np.zeros((2, 3), int), loss="rand")  # type: ignore[arg-type]
