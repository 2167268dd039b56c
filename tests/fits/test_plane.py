"""The plane of a landscape: that of most variance, or the one that separates groups."""

import numpy as np
import pytest

from probam.fits.landscape import plane


def _groups(num_groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Ten features: wide noise everywhere, and groups apart along the narrow features 3 and 7."""
    rng = np.random.default_rng(0)
    owner = np.arange(600) % num_groups
    x = rng.normal(size=(600, 10)) * np.where(np.isin(np.arange(10), [3, 7]), 0.05, 5.0)
    x[:, 3] += np.array([0.0, 1.0, 1.0])[owner]
    x[:, 7] += np.array([0.0, 0.3, -0.3])[owner]
    return x, owner


def test_groups_are_apart_on_their_plane_and_not_on_that_of_most_variance() -> None:
    x, owner = _groups(3)
    separating, widest = plane(x, spherical=False, owner=owner), plane(x, spherical=False)
    assert (separating.kind, widest.kind) == ("discriminant", "principal")
    np.testing.assert_allclose(separating.axis @ separating.axis.T, np.eye(2), atol=1e-12)
    span = np.linalg.norm(separating.axis[:, [3, 7]])
    assert span > 0.999 * np.sqrt(2)
    for grid, least, most in ((separating, 0.98, 1.0), (widest, 0.0, 0.6)):
        seen = (x - grid.origin) @ grid.axis.T
        centres = np.stack([seen[owner == k].mean(axis=0) for k in range(3)])
        nearest = np.linalg.norm(seen[:, None] - centres, axis=-1).argmin(axis=1)
        assert least <= np.mean(nearest == owner) <= most
    inside = (separating.points.reshape(-1, 10) - separating.origin) @ separating.axis.T
    np.testing.assert_allclose(
        inside[[0, -1]], [[separating.x[0], separating.y[0]], [separating.x[-1], separating.y[-1]]]
    )


def test_two_groups_have_one_direction_and_the_other_is_the_widest_at_right_angles() -> None:
    x, owner = _groups(2)
    x[:, 5] *= 3
    grid = plane(x, spherical=False, owner=owner)
    assert np.linalg.norm(grid.axis[0, [3, 7]]) > 0.999
    assert grid.axis[1, 5] > 0.99
    assert abs(grid.axis[0] @ grid.axis[1]) < 1e-12


@pytest.mark.parametrize("num_features", [1, 2, 5])
def test_one_group_and_few_features_need_no_separation(num_features: int) -> None:
    x = np.random.default_rng(1).normal(size=(50, num_features))
    one = plane(x, spherical=False, owner=np.zeros(50, int))
    np.testing.assert_array_equal(one.axis, plane(x, spherical=False).axis)
    assert one.kind == "principal"
    two = plane(x, spherical=False, owner=np.arange(50) % 2)
    assert two.kind == ("discriminant" if num_features > 2 else "principal")


def test_groups_that_are_single_points_have_a_plane() -> None:
    x = np.eye(4).repeat(5, axis=0)
    grid = plane(x, spherical=False, owner=np.arange(20) // 5)
    assert np.isfinite(grid.points).all()
    np.testing.assert_allclose(grid.axis @ grid.axis.T, np.eye(2), atol=1e-12)
