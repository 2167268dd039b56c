"""Functions for anybody's draws agree with definitions: enumeration of all partitions, SciPy, scikit-learn, ArviZ."""

import itertools
import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import arviz_stats
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import stats
from sklearn.metrics import mutual_info_score, rand_score

import probam
import probam.partitions as partitions
from probam.errors import InputError

stats_of_arviz: Any = arviz_stats  # it has no types
RNG = np.random.default_rng(3)
NUM_DATA = 5
ANY_NAME: Any = "salso"


def entry(table: pd.DataFrame, row: Any, column: str) -> float:
    return float(table[column].to_dict()[row])


def all_partitions(num_data: int) -> Iterator[list[int]]:
    """Every partition once, by restricted growth."""
    if num_data == 0:
        yield []
        return
    for head in all_partitions(num_data - 1):
        for label in range(max(head, default=-1) + 2):
            yield [*head, label]


EVERY = np.array(list(all_partitions(NUM_DATA)))


def entropy(labels: Any) -> float:
    return float(stats.entropy(np.unique(labels, return_counts=True)[1]))


def distance(a: Any, b: Any, loss: str) -> float:
    """H(a | b) + H(b | a) by counting data that share both labels, and the share of the pairs that disagree."""
    a, b = np.asarray(a).tolist(), np.asarray(b).tolist()
    if loss == "binder":
        pairs = list(itertools.combinations(range(len(a)), 2))
        return sum((a[i] == a[j]) != (b[i] == b[j]) for i, j in pairs) / len(pairs)
    joint, by_a, by_b = Counter(zip(a, b, strict=True)), Counter(a), Counter(b)
    return sum(n * (math.log(by_a[i] / n) + math.log(by_b[j] / n)) for (i, j), n in joint.items()) / len(a)


def test_distances_are_those_of_scikit_learn() -> None:
    for a, b in EVERY[RNG.integers(0, len(EVERY), (12, 2))]:
        expected = entropy(a) + entropy(b) - 2 * float(mutual_info_score(a, b))
        np.testing.assert_allclose(partitions.distances(a, b[None]), expected, atol=1e-12)
        np.testing.assert_allclose(distance(a, b, "vi"), expected, atol=1e-12)
        np.testing.assert_allclose(partitions.distances(a, b[None], loss="binder"), 1 - rand_score(a, b), atol=1e-12)
        np.testing.assert_allclose(distance(a, b, "binder"), 1 - rand_score(a, b), atol=1e-12)


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    """Two chains of 60 draws about two partitions, under random numbers of their clusters."""
    centres = np.array([[0, 0, 1, 1, 2], [0, 0, 0, 1, 1]])
    z = centres[RNG.integers(0, 2, (2, 60))]
    moved = RNG.random(z.shape) < 0.1
    z = np.where(moved, RNG.integers(0, 4, z.shape), z)
    names = np.array([[RNG.permutation(4) for _ in range(60)] for _ in range(2)])
    return np.take_along_axis(names, z, axis=2)


def test_there_are_as_many_partitions_as_bell_says() -> None:
    assert len(EVERY) == 52


def test_the_coclustering_is_the_share_of_draws_together(labels: np.ndarray) -> None:
    rows = labels.reshape(-1, NUM_DATA)
    expected = [[np.mean(rows[:, i] == rows[:, j]) for j in range(NUM_DATA)] for i in range(NUM_DATA)]
    np.testing.assert_allclose(partitions.coclustering(labels), expected, rtol=1e-12)
    np.testing.assert_array_equal(partitions.coclustering(rows), partitions.coclustering(labels))


@pytest.mark.parametrize("loss", ["vi", "binder"])
def test_no_partition_has_a_smaller_expected_loss_than_the_point_partition(labels: np.ndarray, loss: Any) -> None:
    rows = labels.reshape(-1, NUM_DATA)
    expected = [np.mean([distance(each, row, loss) for row in rows]) for each in EVERY]
    np.testing.assert_allclose(partitions.expected_loss(EVERY, labels, loss=loss), expected, atol=1e-12)
    found = partitions.point_partition(labels, loss=loss)
    np.testing.assert_allclose(partitions.expected_loss(found, labels, loss=loss), [min(expected)], atol=1e-12)
    if loss == "binder":
        similarity = partitions.coclustering(labels)
        np.testing.assert_array_equal(partitions.point_partition(similarity=similarity, loss=loss), found)
        np.testing.assert_allclose(
            partitions.expected_loss(EVERY, similarity=similarity, loss=loss), expected, atol=1e-9
        )


@pytest.mark.parametrize("loss", ["vi", "binder"])
def test_the_credible_ball_is_the_smallest_with_95_of_100_draws(labels: np.ndarray, loss: Any) -> None:
    ball = partitions.credible_ball(labels, loss=loss)
    centre = partitions.point_partition(labels, loss=loss)
    away = np.array([distance(centre, row, loss) for row in labels.reshape(-1, NUM_DATA)])
    np.testing.assert_allclose(partitions.distances(centre, labels, loss=loss).ravel(), away, atol=1e-12)
    smallest = next(radius for radius in np.sort(away) if np.mean(away <= radius + 1e-9) >= 0.95)
    np.testing.assert_allclose(ball.radius, smallest, atol=1e-9)
    inside = labels.reshape(-1, NUM_DATA)[away <= ball.radius + 1e-9]
    counts = [len(np.unique(row)) for row in inside]
    assert (len(np.unique(ball.upper)), len(np.unique(ball.lower))) == (min(counts), max(counts))
    np.testing.assert_allclose(
        distance(centre, ball.horizontal, loss), max(away[away <= ball.radius + 1e-9]), atol=1e-9
    )


def test_the_number_of_clusters_has_its_share_of_draws_and_the_error_of_arviz(labels: np.ndarray) -> None:
    table = partitions.num_occupied(labels)
    counts = np.array([[len(np.unique(row)) for row in chain] for chain in labels])
    seen = Counter(counts.ravel().tolist())
    assert dict(table["probability"]) == {k: n / counts.size for k, n in sorted(seen.items())}
    for k in seen:
        indicator = (counts == k).astype(float)
        np.testing.assert_allclose(entry(table, k, "mcse"), stats_of_arviz.mcse(indicator), rtol=1e-9)
        independent = np.sqrt(indicator.mean() * (1 - indicator.mean()) / indicator.size)
        assert 0.5 * independent < entry(table, k, "mcse") < 2 * independent


def test_quantities_are_those_of_scipy_and_blind_to_numbering(labels: np.ndarray) -> None:
    weights = RNG.dirichlet(np.ones(4), size=(2, 60))
    log_lik = RNG.normal(size=(2, 60, NUM_DATA))
    pairs = [(0, 1), (2, 4)]
    own = partitions.quantities(labels, weights=weights, log_lik=log_lik, pairs=pairs)
    assert dict(own.sizes) == {"chain": 2, "draw": 60, "pair": 2}
    for chain, draw in itertools.product(range(2), (0, 17, 59)):
        z = labels[chain, draw]
        one = own.isel(chain=chain, draw=draw)
        assert one["num_occupied"] == len(np.unique(z))
        np.testing.assert_allclose(one["cluster_entropy"], entropy(z), atol=1e-12)
        np.testing.assert_allclose(one["largest_cluster"], max(Counter(z.tolist()).values()) / NUM_DATA)
        np.testing.assert_array_equal(one["together"], [z[0] == z[1], z[2] == z[4]])
        np.testing.assert_allclose(one["weight_entropy"], stats.entropy(weights[chain, draw]))
        np.testing.assert_allclose(one["log_lik"], log_lik[chain, draw].sum())
    xr.testing.assert_allclose(
        partitions.quantities(7 - labels, weights=weights[..., ::-1], log_lik=log_lik, pairs=pairs), own
    )


def test_convergence_is_arvizs_and_sees_chains_that_disagree(labels: np.ndarray) -> None:
    own = partitions.quantities(labels)
    table = partitions.convergence(own)
    assert table.equals(partitions.convergence(labels))
    values = own["cluster_entropy"].values
    np.testing.assert_allclose(entry(table, "cluster_entropy", "ess_bulk"), stats_of_arviz.ess(values), rtol=1e-9)
    assert table["r_hat"].dropna().max() < 1.1
    apart = labels.copy()
    apart[1] = RNG.integers(0, 2, apart[1].shape)
    assert entry(partitions.convergence(apart), "num_occupied", "r_hat") > 1.2


def test_samplers_of_one_law_agree_and_of_two_laws_do_not() -> None:
    def sampler(probability: float, num_draws: int) -> np.ndarray:
        """Five data in one cluster, each alone in another with this probability; independent draws."""
        alone = RNG.random((2, num_draws, NUM_DATA)) < probability
        return np.where(alone, 1 + np.arange(NUM_DATA), 0)

    table = partitions.across_engines({"one": sampler(0.3, 400), "two": sampler(0.3, 250)})
    assert table["r_hat"].max() < 1.03
    assert table["gap"].max() < 4.5
    assert {"mean_one", "mean_two"} < set(table.columns)
    other = partitions.across_engines({"one": sampler(0.3, 400), "two": sampler(0.6, 250)})
    assert entry(other, "num_occupied", "r_hat") > 1.1
    assert entry(other, "num_occupied", "gap") > 10
    expected = 1 + 5 * 0.6  # a cluster for each that is alone, one for the rest: empty with probability .6^5
    assert abs(entry(other, "num_occupied", "mean_two") - (expected - 0.6**5)) < 0.2


def switched(num_draws: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Locations (chain, draw, K), responsibilities and labels of three components, renumbered at random."""
    centres = np.array([-4.0, 0.0, 5.0])
    x = np.r_[np.full(8, -4.0), np.full(5, 0.0), np.full(3, 5.0)] + RNG.normal(0, 0.3, 16)
    mu = centres + RNG.normal(0, 0.2, (2, num_draws, 3))
    order = np.array([[RNG.permutation(3) for _ in range(num_draws)] for _ in range(2)])
    mu = np.take_along_axis(mu, order, axis=2)
    log_resp = stats.norm.logpdf(x[:, None], mu[:, :, None, :], 1.0)
    resp = np.exp(log_resp - np.logaddexp.reduce(log_resp, axis=-1, keepdims=True))
    return mu, resp, resp.argmax(axis=-1)


@pytest.mark.parametrize("method", ["stephens", "ecr", "pivotal"])
def test_every_rule_undoes_label_switching(method: Any) -> None:
    mu, resp, labels = switched()
    by_resp = partitions.relabel(responsibilities=resp, parameters=mu, method=method)
    by_labels = partitions.relabel(labels=labels, parameters=mu, method=method)
    assert partitions.agreement(by_resp, by_labels) == 1
    sorted_by_place = np.sort(mu, axis=2)
    np.testing.assert_array_equal(partitions.renumbered(mu, by_resp), sorted_by_place)  # 8, 5 and 3 data
    np.testing.assert_array_equal(partitions.renumbered(mu[..., None], by_resp)[..., 0], sorted_by_place)
    own = partitions.renumbered_labels(labels, by_labels)
    np.testing.assert_array_equal(own, np.broadcast_to(np.r_[[0] * 8, [1] * 5, [2] * 3], own.shape))


def test_parameters_alone_are_enough_for_the_pivotal_rule_and_density_chooses_where_it_begins() -> None:
    mu, _, _ = switched()
    density = np.zeros(mu.shape[:2])
    density[1, 7] = 1.0
    found = partitions.relabel(parameters=mu, method="pivotal", log_density=density)
    np.testing.assert_array_equal(found[1, 7], [0, 1, 2])
    ranks = np.argsort(np.argsort(partitions.renumbered(mu, found), axis=2), axis=2)
    assert (ranks == ranks[1, 7]).all()


def test_one_chain_may_be_given_without_its_axis() -> None:
    mu, resp, labels = switched()
    found = partitions.relabel(labels=labels[0], parameters=mu[0], method="pivotal")
    assert found.shape == (1, 40, 3)
    np.testing.assert_array_equal(partitions.renumbered(mu[0], found), np.sort(mu[0], axis=1))
    np.testing.assert_array_equal(
        partitions.relabel(responsibilities=resp[0]), partitions.relabel(responsibilities=resp[:1])
    )
    assert partitions.distances(labels[0, 0], labels[0]).shape == (40,)


def test_xarray_gives_xarray_with_the_names_of_the_data() -> None:
    mu, _, labels = switched()
    names = [f"row {i}" for i in range(16)]
    z = xr.DataArray(labels, {"patient": names}, ("chain", "draw", "patient")).transpose("draw", "patient", "chain")
    same = partitions.coclustering(z)
    assert same.dims == ("patient", "patient_bis")
    assert list(same["patient_bis"].values) == names
    assert partitions.point_partition(z).sel(patient="row 15") == 2
    order = partitions.relabel(labels=z)
    own = partitions.renumbered(xr.DataArray(mu, dims=("chain", "draw", "component")), order)
    assert own.dims == ("chain", "draw", "component")
    np.testing.assert_array_equal(own, np.sort(mu, axis=2))
    assert set(partitions.renumbered_labels(z, order).dims) == {"chain", "draw", "patient"}


def test_whole_numbers_of_stan_and_r_may_be_floating(labels: np.ndarray) -> None:
    np.testing.assert_array_equal(partitions.coclustering(labels.astype(float) + 1), partitions.coclustering(labels))


def test_the_module_is_there_without_an_import() -> None:
    assert probam.partitions is partitions
    assert "partitions" in dir(probam)


def gap(labels: np.ndarray) -> np.ndarray:
    broken = labels.astype(float)
    broken[1, 3, 2] = np.nan
    return broken


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda z: partitions.coclustering(gap(z)), r"labels: 1 of 600 are missing .* the first at \(1, 3, 2\)"),
        (lambda z: partitions.coclustering(z + 0.5), "labels: expected whole numbers; got"),
        (
            lambda z: partitions.coclustering(z[0, 0]),
            r"labels: expected chain and draw first, 3 axes or 2 of one chain",
        ),
        (lambda z: partitions.coclustering(z.astype(str)), "labels: expected whole numbers, one per datum; got <U"),
        (
            lambda z: partitions.coclustering(xr.DataArray(z)),
            "labels: expected the dimensions chain and draw and 1 more",
        ),
        (lambda z: partitions.point_partition(), "labels, similarity: give sampled labels, or a co-clustering matrix"),
        (lambda z: partitions.point_partition(z, loss=ANY_NAME), "loss: expected 'vi' or 'binder'; got 'salso'"),
        (lambda z: partitions.point_partition(similarity=np.full((3, 3), np.nan)), "similarity: expected finite"),
        (lambda z: partitions.point_partition(similarity=np.eye(3) * 2), "must be a co-clustering matrix"),
        (lambda z: partitions.expected_loss(EVERY, similarity=np.eye(NUM_DATA)), "needs sampled labels"),
        (lambda z: partitions.expected_loss(EVERY[:, :4], z), "candidates: expected 5 labels, one per datum"),
        (lambda z: partitions.credible_ball(z, np.zeros(4)), r"centre: expected 5 labels, one per datum; got \(4,\)"),
        (lambda z: partitions.credible_ball(z, probability=95), r"probability: expected a number in \(0, 1\]; got 95"),
        (lambda z: partitions.distances(np.zeros(4), z), "centre: expected 5 labels, one per datum"),
        (lambda z: partitions.quantities(), "give at least one of them"),
        (lambda z: partitions.quantities(z, pairs=[(0, 5)]), r"pairs: expected two numbers of data each, 0 to 4"),
        (lambda z: partitions.quantities(z, weights=np.ones((2, 3, 4))), "expected the same chains and draws"),
        (
            lambda z: partitions.quantities(weights=np.full((2, 3, 4), np.nan)),
            "weights: 24 of 24 numbers are not finite",
        ),
        (lambda z: partitions.across_engines({"one": z}), "engines: expected at least two; got one"),
        (lambda z: partitions.relabel(), "give one of them; only method 'pivotal' can do with parameters alone"),
        (
            lambda z: partitions.relabel(labels=z, method="pivotal"),
            "parameters: method 'pivotal' compares the parameters",
        ),
        (lambda z: partitions.relabel(labels=z, method=ANY_NAME), "method: expected one of stephens, ecr, pivotal"),
        (
            lambda z: partitions.relabel(labels=z + 1, num_components=4),
            "expected 0 to 3; got 1 to 4; Stan and R count from 1",
        ),
        (lambda z: partitions.relabel(labels=z, log_density=np.zeros(60)), r"log_density: expected shape \(2, 60\)"),
        (lambda z: partitions.renumbered(z, np.zeros((2, 60, 3), int)), r"values: expected \(chain, draw, component\)"),
    ],
)
def test_what_is_wrong_is_said(call: Any, words: str, labels: np.ndarray) -> None:
    with pytest.raises(InputError, match=words):
        call(labels)
