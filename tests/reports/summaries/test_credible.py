"""The credible ball against its definition, partition by partition."""

from collections.abc import Callable

import numpy as np
import pytest

from probam.errors import InputError
from probam.reports.summaries.credible import credible_ball, partition_group
from probam.reports.summaries.partition import Loss, coclustering
from probam.reports.summaries.point_partition import point_partition
from tests.reports.summaries.enumerated import slow_binder, slow_vi

Single = Callable[[np.ndarray, np.ndarray], float]

CASES: tuple[tuple[Loss, Single], ...] = (("vi", slow_vi), ("binder", slow_binder))


def noisy(rng: np.random.Generator, num_draws: int, share: float) -> np.ndarray:
    return np.where(rng.random((num_draws, 8)) < share, rng.integers(0, 3, (num_draws, 8)), np.repeat([0, 1], [5, 3]))


@pytest.mark.parametrize(("loss", "single"), CASES)
def test_the_ball_is_the_smallest_that_holds_its_share_of_the_draws(loss: Loss, single: Single) -> None:
    draws = noisy(np.random.default_rng(10), 200, 0.2)
    centre = point_partition(draws, loss=loss)
    away = np.array([single(centre, z) for z in draws])
    for probability in (0.5, 0.9, 0.95, 1.0):
        radius = credible_ball(draws, centre, probability=probability, loss=loss).radius
        assert np.mean(away <= radius + 1e-9) >= probability
        assert np.mean(away < radius - 1e-9) < probability
        assert np.abs(away - radius).min() < 1e-9


@pytest.mark.parametrize(("loss", "single"), CASES)
def test_the_bounds_are_the_furthest_of_the_coarsest_the_finest_and_all_partitions_of_the_ball(
    loss: Loss, single: Single
) -> None:
    draws = noisy(np.random.default_rng(11), 150, 0.3)
    centre = point_partition(draws, loss=loss)
    ball = credible_ball(draws, centre, loss=loss)
    inside = [z for z in draws if single(centre, z) <= ball.radius + 1e-9]
    clusters = [len(set(z.tolist())) for z in inside]
    away = [single(centre, z) for z in inside]
    for bound, among in (
        (ball.upper, [d for d, k in zip(away, clusters, strict=True) if k == min(clusters)]),
        (ball.lower, [d for d, k in zip(away, clusters, strict=True) if k == max(clusters)]),
        (ball.horizontal, away),
    ):
        assert single(centre, bound) == pytest.approx(max(among), abs=1e-9)
    assert ball.upper.max() + 1 == min(clusters)
    assert ball.lower.max() + 1 == max(clusters)
    assert min(clusters) < max(clusters)


def test_the_ball_ignores_the_order_and_the_names_of_the_draws() -> None:
    rng = np.random.default_rng(12)
    draws = noisy(rng, 90, 0.3)
    centre = point_partition(draws)
    own = credible_ball(draws, centre)
    other = credible_ball(np.stack([rng.permutation(20)[z] for z in rng.permutation(draws)]), centre + 5)
    for mine, theirs in zip(own, other, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_a_certain_posterior_has_a_ball_without_extent() -> None:
    draws = np.tile([3, 3, 1, 1, 1, 0], (20, 1))
    ball = credible_ball(draws, draws[0])
    assert ball.radius == 0
    for bound in ball[1:]:
        assert bound.tolist() == [1, 1, 0, 0, 0, 2]


def test_the_partition_group_holds_what_its_parts_say() -> None:
    draws = noisy(np.random.default_rng(13), 120, 0.25)
    variables, attributes = partition_group(draws)
    point, binder = point_partition(draws), point_partition(draws, loss="binder")
    ball = credible_ball(draws, point)
    expected = {
        "coclustering": coclustering(draws).astype(np.float32),
        "point": point,
        "point_binder": binder,
        "ball_upper": ball.upper,
        "ball_lower": ball.lower,
        "ball_horizontal": ball.horizontal,
    }
    assert variables.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(variables[name][0], values)
    assert attributes["credible_radius"] == ball.radius
    assert attributes["credible_radius_binder"] == credible_ball(draws, binder, loss="binder").radius
    assert attributes["expected_loss"] == pytest.approx(np.mean([slow_vi(point, z) for z in draws]), abs=1e-12)
    assert attributes["expected_loss_binder"] == pytest.approx(
        np.mean([slow_binder(binder, z) for z in draws]), abs=1e-12
    )


def test_one_draw_has_a_partition_and_no_ball() -> None:
    variables, attributes = partition_group(np.array([[2, 2, 0, 1]]))
    assert variables["point"][0].tolist() == [0, 0, 1, 2]  # type: ignore[union-attr]
    assert "ball_upper" not in variables
    assert attributes == {}


def test_wrong_inputs_are_named() -> None:
    draws = np.zeros((4, 3), int)
    with pytest.raises(InputError, match="centre: expected 3 labels"):
        credible_ball(draws, np.zeros(2, int))
    with pytest.raises(InputError, match=r"probability: expected a number in \(0, 1\]; got 1.2"):
        credible_ball(draws, draws[0], probability=1.2)
