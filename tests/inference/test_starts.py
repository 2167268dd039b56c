"""Starts of several kinds against oracles, and the optimum that k-means++ misses against an independent search."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import cdist
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture

from probam.distributions.supports import innermost
from probam.inference.common.agglomeration import agglomerate, likelihood_cost, settled, split_and_merge, ward_cost
from probam.inference.common.kinds import FRESH, MOVED, Starts, plan
from probam.inference.common.start import metric_rows
from probam.inference.em import engine as em
from probam.models.gaussian import Gaussian
from probam.models.mixture import Mixture, mixture
from probam.models.von_mises_fisher import VonMisesFisherMemory
from probam.models.weights import weight_prior


def model(x: np.ndarray, covariance: str, components: int, weights: str = "dirichlet") -> Mixture:
    return mixture(x, family=Gaussian(covariance), weights=weight_prior(weights), num_components=components)


def groups(seed: int, sizes: tuple[int, ...], widths: tuple[float, ...], centres: Any) -> tuple[np.ndarray, np.ndarray]:
    """Spherical groups, and the group of each row."""
    rng = np.random.default_rng(seed)
    centres = np.asarray(centres, float)
    own = [
        rng.normal(centre, width, (size, centres.shape[1]))
        for centre, width, size in zip(centres, widths, sizes, strict=True)
    ]
    return np.concatenate(own), np.repeat(np.arange(len(sizes)), sizes)


TIGHT_IN_WIDE = groups(0, (100, 60, 55), (0.5, 1.0, 10.0), [[0] * 5, [3, 0, 0, 0, 0], [0] * 5])
"""215 rows in 5 dimensions: two tight groups inside a wide one."""


def test_wards_agglomeration_is_scipys() -> None:
    y = np.random.default_rng(0).normal(size=(60, 3))
    for number in (2, 5, 11):
        expected = fcluster(linkage(y, "ward"), number, "maxclust")
        assert adjusted_rand_score(expected, agglomerate(y, number, ward_cost(y))) == 1.0


def by_trying_all(y: np.ndarray, number: int, cost: Callable[[list[np.ndarray]], float]) -> list[frozenset[int]]:
    """Agglomeration that computes the cost of every union from the rows."""
    parts = [frozenset([row]) for row in range(len(y))]
    while len(parts) > number:
        unions = [
            [part for part in parts if part not in (one, other)] + [one | other]
            for i, one in enumerate(parts)
            for other in parts[:i]
        ]
        parts = min(unions, key=lambda union: cost([y[sorted(part)] for part in union]))
    return parts


def test_agglomeration_by_likelihood_takes_the_cheapest_union_of_all() -> None:
    y = np.random.default_rng(1).normal(size=(14, 2)) * np.repeat([0.1, 2.0], 7)[:, None]
    neighbours = y.var(axis=0).mean() / len(y)

    def cost(parts: list[np.ndarray]) -> float:
        return sum(len(part) * np.log(part.var(axis=0).mean() + neighbours) for part in parts)

    for number in (2, 4):
        label = agglomerate(y, number, likelihood_cost(y))
        expected = by_trying_all(y, number, cost)
        assert {frozenset(np.flatnonzero(label == group).tolist()) for group in range(number)} == set(expected)


def test_a_row_of_weight_three_is_agglomerated_like_three_rows() -> None:
    y = np.random.default_rng(2).normal(size=(30, 2))
    weight = np.resize([1.0, 3.0], 30)
    whole = np.repeat(y, weight.astype(int), axis=0)
    cost = likelihood_cost(whole)
    label = agglomerate(y, 4, cost, weight)
    assert adjusted_rand_score(np.repeat(label, weight.astype(int)), agglomerate(whole, 4, cost)) == 1.0


@pytest.mark.parametrize(("joined", "divided"), [(True, True), (True, False), (False, True)])
def test_a_move_mends_groups_that_were_joined_and_divided(joined: bool, divided: bool) -> None:
    y, truth = groups(3, (40, 50, 60, 70), (0.5, 1.0, 1.5, 0.5), 8 * np.eye(4))
    wrong = truth.copy()
    if joined:
        wrong[wrong == 1] = 0
    if divided:
        wrong[np.flatnonzero(wrong == 3)[::2]] = 1 if joined else 4
    num_groups = 4 if joined else 6  # where only one group is two, a join needs a free number to stand alone
    moved = split_and_merge(np.random.default_rng(0), y, wrong, num_groups, 6)
    assert len(moved) == 6
    assert adjusted_rand_score(truth, moved[0]) == 1.0
    assert all(label.max() < num_groups for label in moved)


MANY_GROUPS = groups(1, (12,) * 40, (1.0,) * 40, 9 * np.random.default_rng(2).normal(size=(40, 8)))
"""480 rows in 8 dimensions."""


def test_moves_of_many_groups_at_once_mend_all_that_were_joined_and_divided() -> None:
    """Seven groups in two lumps, three groups in halves, two groups of one row: as many as there are."""
    y, true = MANY_GROUPS
    label = true.copy()
    label[np.isin(true, (0, 1, 2, 3))], label[np.isin(true, (4, 5, 6))] = 0, 4
    for group, part in ((10, 1), (11, 2), (12, 3)):
        label[np.flatnonzero(true == group)[:5]] = part
    label[np.flatnonzero(true == 20)[0]], label[np.flatnonzero(true == 30)[0]] = 5, 6
    assert adjusted_rand_score(true, label) < 0.8
    mended = settled(np.random.default_rng(0), y, label, 40)
    assert adjusted_rand_score(true, mended) == 1.0
    every = split_and_merge(np.random.default_rng(0), y, label, 40, 4)
    all_five, two, one, single = (adjusted_rand_score(true, after) for after in every)
    assert 1.0 == all_five > two > one > adjusted_rand_score(true, label)
    assert single > adjusted_rand_score(true, label)
    assert min(np.bincount(after)[after].min() for after in every) > 1  # no group of one row is left or made


def test_labels_of_many_groups_that_are_right_stay() -> None:
    y, true = MANY_GROUPS
    assert adjusted_rand_score(true, settled(np.random.default_rng(0), y, true, 40)) == 1.0
    few = np.minimum(true, 20)
    np.testing.assert_array_equal(settled(np.random.default_rng(0), y, few, 40), few)


def test_em_finds_every_one_of_many_directions() -> None:
    """Sixty memories on a sphere in 24 dimensions, about ten rows each: a start at k-means++ seeds misses a fifth."""
    rng = np.random.default_rng(3)
    means = rng.normal(size=(60, 24))
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    x = np.concatenate([stats.vonmises_fisher(mean, 150, seed=rng).rvs(10) for mean in means])
    program = mixture(x, family=VonMisesFisherMemory(), weights=weight_prior("dirichlet"), num_components=60)

    def found(restarts: int) -> int:
        searched = em.fit_params(jax.random.key(0), program, jnp.asarray(x), restarts=restarts)
        direction = np.asarray(searched.ends[0].params["direction"])[searched.best]
        direction = direction / np.linalg.norm(direction, axis=1, keepdims=True)
        return int(((means @ direction.T).max(axis=1) > 0.9).sum())

    assert found(1) < 54
    assert found(8) >= 59


def test_one_group_alone_has_no_move_and_two_are_divided_again() -> None:
    y = np.random.default_rng(4).normal(size=(30, 2))
    rng = np.random.default_rng(0)
    assert split_and_merge(rng, y, np.zeros(30, int), 1, 4) == []
    moved = split_and_merge(rng, y, np.arange(30) % 2, 2, 4)
    assert [len(np.unique(label)) for label in moved] == [2, 2]


def test_distances_are_those_of_the_models_own_metric() -> None:
    x = np.random.default_rng(5).normal(size=(50, 3)) @ np.diag([1.0, 5.0, 0.2]) + 1e3
    law = model(x, "full", 4).prior["precision_cholesky"]
    guess = np.asarray(law.rate_matrix) / float(law.concentration)  # type: ignore[attr-defined]
    gamma = innermost(model(x, "diagonal", 4).prior["precision"])
    variances = np.asarray(gamma.rate / gamma.concentration)  # type: ignore[attr-defined]
    expected = {
        "full": cdist(x, x, "mahalanobis", VI=np.linalg.inv(guess)),
        "tied": cdist(x, x, "mahalanobis", VI=np.linalg.inv(guess)),
        "spherical": cdist(x, x) / np.sqrt(x.var(axis=0).mean()),
        "isotropic": cdist(x, x) / np.sqrt(x.var(axis=0).mean()),
        "diagonal": cdist(x, x, "seuclidean", V=variances),
        "lkj": cdist(x, x, "seuclidean", V=x.var(axis=0)),
    }
    for covariance, distances in expected.items():
        y = np.asarray(metric_rows(model(x, covariance, 4), jnp.asarray(x)))
        np.testing.assert_allclose(cdist(y, y), distances, rtol=1e-9, atol=1e-9)


def test_half_of_the_starts_are_fresh_and_of_all_kinds() -> None:
    x = TIGHT_IN_WIDE[0]
    finite, process = model(x, "spherical", 6), model(x, "spherical", 20, "dp")
    assert plan(finite, 8) == ((*FRESH, *[MOVED] * 4), (6, 6, 6, 6))
    assert plan(finite, 1).kinds == FRESH[:1]
    assert plan(finite, 2).kinds == FRESH[:2]
    assert plan(finite, 5).kinds == (*FRESH[:3], MOVED, MOVED)
    assert plan(finite, 13).kinds == (*FRESH, FRESH[0], FRESH[2], FRESH[0], *[MOVED] * 6)
    assert plan(process, 1).num_active == (20,)
    assert len(set(plan(process, 8).num_active)) == 4
    assert min(plan(process, 8).num_active) > 1


def test_the_optimum_that_k_means_misses_is_found_by_the_defaults_from_every_seed() -> None:
    """Two tight groups in a wide one. The optimum is known from scikit-learn's EM, begun at the true groups."""
    x, truth = TIGHT_IN_WIDE
    own = [x[truth == group] for group in range(3)]
    oracle = GaussianMixture(
        3,
        covariance_type="spherical",
        tol=1e-12,
        max_iter=2000,
        reg_covar=0,
        weights_init=np.bincount(truth) / len(x),
        means_init=np.stack([part.mean(axis=0) for part in own]),
        precisions_init=np.array([1 / part.var(axis=0).mean() for part in own]),
    ).fit(x)
    optimum = oracle.score(x) * len(x)
    found, by_seeds = [], []
    program = model(x, "spherical", 3)
    for seed in range(10):
        states, _ = em.fit_params(jax.random.key(seed), program, jnp.asarray(x), estimate="ml").ends
        found.append(float(states.objective.max()))
        by_seeds.append(float(states.objective[0]))
    assert max(found) < optimum + 1e-3
    assert np.sum(np.array(found) > optimum - 1e-3) >= 9
    assert np.sum(np.array(by_seeds) > optimum - 50) <= 1  # k-means++, of which all starts used to be


def test_starts_are_a_function_of_the_key() -> None:
    x = TIGHT_IN_WIDE[0]
    program = model(x, "spherical", 3)
    first, second = (Starts.of(jax.random.key(3), program, jnp.asarray(x), 4) for _ in range(2))
    made = first.fresh()
    for site, value in second.fresh().items():
        np.testing.assert_array_equal(value, made[site])
    best = jax.tree.map(lambda leaf: leaf[0], made)
    for site, value in second.moved(best)[0].items():
        np.testing.assert_array_equal(value, first.moved(best)[0][site])
