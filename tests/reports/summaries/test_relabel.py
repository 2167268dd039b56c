"""Relabelling against brute force over all permutations, and the rules against each other."""

import itertools
from typing import get_args

import numpy as np
import pytest
from scipy.special import xlogy

from probam.errors import InputError
from probam.reports.summaries.relabel import (
    LabelledDraws,
    Method,
    agreement,
    assignments,
    from_responsibilities,
    relabel,
    relabel_all,
)
from tests.reports.summaries.enumerated import dirichlet

METHODS: tuple[Method, ...] = get_args(Method)
ORDERS = [list(order) for order in itertools.permutations(range(4))]


def shuffled(rng: np.random.Generator, num_draws: int, noise: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Responsibilities (S, 14, 4) and memories (S, 4, 3) around one truth, and the order that hides each draw."""
    z = np.repeat(np.arange(4), [5, 4, 3, 2])
    truth = 0.8 * np.eye(4)[z] + 0.05
    resp = (1 - noise) * truth + noise * dirichlet(rng, num_draws, 14, 4)
    loc = np.array([[0, 0, 9], [4, 0, 5], [0, 5, 1], [6, 6, 0]]) + 5 * noise * rng.normal(size=(num_draws, 4, 3))
    orders = np.stack([rng.permutation(4) for _ in range(num_draws)])
    return np.take_along_axis(resp, orders[:, None], axis=2), np.take_along_axis(loc, orders[..., None], axis=1), orders


def aligned(resp: np.ndarray, permutations: np.ndarray) -> np.ndarray:
    return np.asarray(np.take_along_axis(resp, permutations[:, None], axis=2))


def test_an_assignment_is_the_best_of_all_permutations() -> None:
    gain = np.random.default_rng(0).normal(size=(9, 4, 4))
    for own, result in zip(gain, assignments(gain), strict=True):
        assert result.tolist() == max(ORDERS, key=lambda order: own[np.arange(4), order].sum())


def test_ecr_agrees_best_with_the_pivot_of_all_permutations() -> None:
    rng = np.random.default_rng(1)
    labels, pivot = rng.integers(0, 4, (12, 10)), rng.permutation([0, 1, 1, 2, 2, 2, 3, 3, 3, 3])
    draws = from_responsibilities(np.eye(4)[labels], rng.normal(size=(12, 4, 2)))
    for z, own in zip(labels, relabel(draws, method="ecr", pivot=pivot).permutations, strict=True):
        agreeing = [np.sum(np.array(order)[pivot] == z) for order in ORDERS]
        assert np.sum(own[pivot] == z) == max(agreeing)


def test_ecr_fills_the_places_without_data_by_size() -> None:
    resp = np.tile([0.1, 0.6, 0.0, 0.3], (1, 6, 1))
    draws = from_responsibilities(resp, np.zeros((1, 4, 1)))
    assert relabel(draws, method="ecr", pivot=np.full(6, 2)).permutations.tolist() == [[3, 0, 1, 2]]


def test_pivotal_memories_lie_nearest_to_the_pivots_of_all_permutations() -> None:
    rng = np.random.default_rng(2)
    loc = rng.normal(size=(11, 4, 3)) * [1, 40, 0.2] + [5, 0, -300]
    draws = from_responsibilities(dirichlet(rng, 11, 6, 4), loc, reference=4)
    unit = loc.std(axis=(0, 1))
    for own, result in zip(loc, relabel(draws, method="pivotal").permutations, strict=True):
        away = [np.sum(((own[order] - loc[4]) / unit) ** 2) for order in ORDERS]
        assert result.tolist() == ORDERS[int(np.argmin(away))]


def test_stephens_ends_where_no_permutation_of_a_draw_and_no_other_mean_is_better() -> None:
    rng = np.random.default_rng(3)
    resp, loc, _ = shuffled(rng, 25, 0.7)
    result = relabel(from_responsibilities(resp, loc))
    q = aligned(resp, result.permutations).mean(axis=0)
    for r, own in zip(resp, result.permutations, strict=True):
        divergence = [np.sum(xlogy(r[:, order], r[:, order]) - xlogy(r[:, order], q)) for order in ORDERS]
        assert own.tolist() == ORDERS[int(np.argmin(divergence))]
    assert (np.diff(result.losses) <= 1e-9).all()
    assert result.losses[-1] == pytest.approx(-np.sum(xlogy(aligned(resp, result.permutations), q)), abs=1e-9)


def test_stephens_from_the_right_start_is_the_best_of_all_joint_permutations() -> None:
    """Three draws of three memories: all 6 x 6 x 6 joint numberings, the mean of each being its own best q."""
    rng = np.random.default_rng(4)
    resp = 0.6 * dirichlet(rng, 7, 3) + 0.4 * dirichlet(rng, 3, 7, 3)
    orders = [list(order) for order in itertools.permutations(range(3))]

    def cross_entropy(chosen: tuple[list[int], ...]) -> float:
        mean = np.mean([r[:, order] for r, order in zip(resp, chosen, strict=True)], axis=0)
        return -3 * float(np.sum(xlogy(mean, mean)))

    least = min(cross_entropy(chosen) for chosen in itertools.product(orders, repeat=3))
    assert relabel(from_responsibilities(resp, np.zeros((3, 3, 1)))).losses[-1] == pytest.approx(least, abs=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_every_rule_undoes_all_permutations_of_one_draw(method: Method) -> None:
    rng = np.random.default_rng(5)
    resp, loc = dirichlet(rng, 7, 4), rng.normal(size=(4, 2))
    draws = from_responsibilities(np.stack([resp[:, o] for o in ORDERS]), np.stack([loc[o] for o in ORDERS]), 3)
    result = relabel(draws, method=method).permutations
    undone = np.take_along_axis(np.array(ORDERS), result, axis=1)
    np.testing.assert_array_equal(undone, np.broadcast_to(undone[0], undone.shape))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("noise", [0.2, 0.7])
def test_shuffling_the_input_changes_nothing_but_the_common_numbering(method: Method, noise: float) -> None:
    rng = np.random.default_rng(6)
    resp, loc, _ = shuffled(rng, 20, noise)
    once = relabel(from_responsibilities(resp, loc, 7), method=method).permutations
    orders = np.stack([rng.permutation(4) for _ in range(20)])
    again = from_responsibilities(aligned(resp, orders), np.take_along_axis(loc, orders[..., None], axis=1), 7)
    twice = np.take_along_axis(orders, relabel(again, method=method).permutations, axis=1)
    common = [once[7].tolist().index(memory) for memory in twice[7]]
    np.testing.assert_array_equal(twice, once[:, common])


@pytest.mark.parametrize("method", METHODS)
def test_relabelling_relabelled_draws_changes_nothing(method: Method) -> None:
    resp, loc, _ = shuffled(np.random.default_rng(7), 20, 0.5)
    once = relabel(from_responsibilities(resp, loc), method=method).permutations
    undone = np.take_along_axis(loc, once[..., None], axis=1)
    twice = relabel(from_responsibilities(aligned(resp, once), undone), method=method).permutations
    np.testing.assert_array_equal(twice, np.broadcast_to(twice[0], twice.shape))


def test_the_rules_agree_and_find_the_truth_where_memories_are_well_apart() -> None:
    resp, loc, orders = shuffled(np.random.default_rng(8), 60, 0.05)
    draws = from_responsibilities(resp, loc)
    result = [relabel(draws, method=method).permutations for method in METHODS]
    for permutations in result:
        assert agreement(permutations, np.argsort(orders, axis=1)) == 1
        assert agreement(permutations, result[0]) == 1


def test_agreement_is_the_share_of_draws_that_are_alike_under_the_best_common_numbering() -> None:
    rng = np.random.default_rng(9)
    a = np.stack([rng.permutation(4) for _ in range(30)])
    b = a[:, [2, 0, 3, 1]].copy()
    b[:7] = b[:7, [1, 0, 2, 3]]
    assert agreement(a, b) == 23 / 30
    slow = max(np.mean((a[:, order] == b).all(axis=1)) for order in ORDERS)
    assert agreement(a, b) == slow


def test_agreement_counts_only_memories_that_hold_data() -> None:
    a = np.tile(np.arange(4), (6, 1))
    b = a.copy()
    b[0] = [0, 1, 3, 2]
    sizes = np.tile([5.0, 3.0, 1.0, 2.0], (6, 1))
    assert agreement(a, b, sizes) == 5 / 6
    sizes[0, 2:] = 0
    assert agreement(a, b, sizes) == 1


def test_draws_on_a_device_are_relabelled_by_the_same_two_questions() -> None:
    """The questions answered draw by draw, as a device does that never holds all responsibilities."""
    resp, loc, _ = shuffled(np.random.default_rng(10), 9, 0.6)
    one_by_one = LabelledDraws(
        lambda q: np.stack([q.T @ r for r in resp]),
        lambda permutations: np.mean([r[:, o] for r, o in zip(resp, permutations, strict=True)], axis=0),
        loc,
        2,
        resp[2],
    )
    for method in METHODS:
        own = relabel(from_responsibilities(resp, loc, 2), method=method).permutations
        np.testing.assert_array_equal(relabel(one_by_one, method=method).permutations, own)


def test_all_rules_at_once_say_what_each_says_and_how_far_they_agree() -> None:
    resp, loc, _ = shuffled(np.random.default_rng(11), 30, 0.6)
    draws = from_responsibilities(resp, loc, 3)
    own = {method: relabel(draws, method=method).permutations for method in METHODS}
    sizes = resp.sum(axis=1)
    result, shares = relabel_all(draws, methods=("ecr", "pivotal", "stephens"), sizes=sizes)
    np.testing.assert_array_equal(result.permutations, own["ecr"])
    assert list(shares) == ["ecr, pivotal", "ecr, stephens", "pivotal, stephens"]
    assert shares["ecr, stephens"] == agreement(own["ecr"], own["stephens"], sizes)
    assert 0 < shares["ecr, pivotal"] < 1


DRAWS = from_responsibilities(np.full((2, 3, 4), 0.25), np.zeros((2, 4, 1)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: assignments(np.ones((2, 3, 4))), r"gain: expected shape \(S, K, K\); got \(2, 3, 4\)"),
        (lambda: assignments(np.full((1, 2, 2), np.nan)), "not finite"),
        (lambda: from_responsibilities(np.ones((2, 3)), np.ones((2, 3, 1))), r"expected shape \(S, N, K\)"),
        (lambda: from_responsibilities(np.ones((2, 3, 4)), np.ones((2, 3, 1))), r"expected shape \(2, 4, P\)"),
        (lambda: from_responsibilities(np.full((2, 3, 4), np.inf), np.ones((2, 4, 1))), "not finite"),
        (lambda: from_responsibilities(np.ones((2, 3, 4)), np.ones((2, 4, 1)), 2), "a draw, 0 to 1; got 2"),
        (lambda: relabel(DRAWS, method="kmeans"), "expected one of stephens, ecr, pivotal; got 'kmeans'"),  # type: ignore[arg-type]
        (lambda: relabel(DRAWS, max_rounds=0), "max_rounds: expected at least 1"),
        (lambda: relabel(DRAWS, method="ecr", pivot=np.array([0, 1, 4])), r"labels must lie in 0\.\.3; got 0\.\.4"),
        (lambda: relabel(DRAWS, method="ecr", pivot=np.array([0, 1])), "expected 3 integer labels"),
        (lambda: agreement(np.zeros((2, 3), int), np.zeros((3, 3), int)), r"got \(2, 3\) and \(3, 3\)"),
    ],
)
def test_wrong_inputs_are_named(call: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()  # type: ignore[operator]
