"""Streams that find the groups of their data: the base measure and the first memories come from the first rows."""

from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import stats
from scipy.special import gammaln
from sklearn.metrics import adjusted_rand_score

from probam.conjugacy.pairs import DirectionOfVonMisesFisher
from probam.streams.groups import find_groups
from probam.streams.learning import Learning
from probam.streams.stream import Stream
from probam.streams.widths import SharingConcentration, SharingCovariance

KINDS = ["isotropic", "spherical", "diagonal", "full"]


def rows(num_data: int, centres: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    z = rng.integers(0, len(centres), num_data)
    return centres[z] + rng.normal(size=(num_data, centres.shape[1])), z


def score(stream: Stream, x: np.ndarray, z: np.ndarray, centres: np.ndarray) -> float:
    """Adjusted Rand index of the memories as a share of that of the nearest true centre."""
    nearest = ((x[:, None] - centres) ** 2).sum(axis=-1).argmin(axis=1)
    return float(adjusted_rand_score(z, stream.predict(x)["label"]) / adjusted_rand_score(z, nearest))


def scattered(groups: int, dim: int) -> np.ndarray:
    return 8 * np.random.default_rng(groups).normal(size=(groups, dim))


@pytest.mark.parametrize("covariance", KINDS)
@pytest.mark.parametrize(
    ("groups", "dim", "num_data"),
    [(5, 2, 1500), (20, 4, 1500), pytest.param(100, 16, 3000, marks=pytest.mark.slow)],
)
def test_a_stream_finds_well_separated_groups(groups: int, dim: int, num_data: int, covariance: str) -> None:
    centres = scattered(groups, dim)
    x, z = rows(num_data, centres)
    stream = Stream(covariance=covariance).partial_fit(x)
    assert score(stream, x, z, centres) >= 0.9
    assert groups <= stream.num_memories <= 1.1 * groups + 1


def test_under_a_prior_as_wide_as_the_data_they_are_not() -> None:
    """What the base measure is found for: a width of a quarter of the variance of all rows makes one memory of many."""
    centres = scattered(20, 4)
    x, z = rows(1500, centres)
    wide = {"precision": dist.Gamma(jnp.full(4, 2.0), 0.5 * jnp.asarray(x[:1000].var(axis=0))).to_event(1)}
    stream = Stream(covariance="diagonal", base="prior", prior=wide).partial_fit(x)
    assert score(stream, x, z, centres) < 0.9


def test_groups_that_come_after_the_first_rows_are_found() -> None:
    centres = scattered(20, 4)
    early, _ = rows(500, centres[:8], seed=1)
    late, z = rows(1500, centres, seed=2)
    stream = Stream(warm=400).partial_fit(early).partial_fit(late)
    assert score(stream, late, z, centres) >= 0.9


@pytest.mark.parametrize("covariance", KINDS)
@pytest.mark.parametrize("separation", [2.0, 3.0, 4.0])
def test_density_of_groups_that_overlap_is_near_the_true_one(separation: float, covariance: str) -> None:
    """A batch fit is at best as good as the truth."""
    centres = separation * np.array(list(product(range(3), range(2))), float)
    x, _ = rows(3000, centres, seed=7)
    stream = Stream(covariance=covariance).partial_fit(x[:1500])
    densities = np.exp(-0.5 * ((x[1500:, None] - centres) ** 2).sum(axis=-1)).mean(axis=1) / (2 * np.pi)
    loss = np.log(densities).mean() - float(stream.predict(x[1500:])["log_predictive"].mean())
    assert loss < 0.05


def test_one_gaussian_stays_whole() -> None:
    x = np.random.default_rng(3).normal(size=(800, 6)) @ np.random.default_rng(4).normal(size=(6, 6))
    assert Stream(covariance="full").partial_fit(x).num_memories == 1


def test_groups_do_not_depend_on_linear_maps() -> None:
    x, z = rows(400, scattered(6, 3), seed=5)
    mixing = np.array([[1e3, 0.0, 0.0], [4e2, 1.0, 0.0], [7.0, -0.5, 0.1]])
    plain = find_groups(SharingCovariance(x, 4 * np.diag(x.var(axis=0)), "full"), 1.0, 0.0)
    mixed = find_groups(SharingCovariance(x @ mixing.T, 4 * np.diag((x @ mixing.T).var(axis=0)), "full"), 1.0, 0.0)
    assert adjusted_rand_score(z, plain.shares.argmax(axis=1)) > 0.9
    np.testing.assert_array_equal(mixed.shares.argmax(axis=1), plain.shares.argmax(axis=1))
    np.testing.assert_allclose(mixed.within, mixing @ plain.within @ mixing.T, rtol=0.02)


def test_rounded_rows_do_not_make_a_group_of_each_value() -> None:
    x, _ = rows(500, np.array([[0.0], [12.0]]), seed=6)
    groups = find_groups(SharingCovariance(np.round(x), 4 * np.diag(x.var(axis=0)), "diagonal"), 1.0, 0.0)
    assert groups.shares.shape[1] == 2
    assert groups.within[0, 0] == pytest.approx(1.0, rel=0.2)


@pytest.mark.parametrize("covariance", ["spherical", "diagonal", "full"])
@pytest.mark.parametrize("kind", ["collinear", "repeated", "wide", "of two values"])
def test_degenerate_rows_have_a_base_measure(kind: str, covariance: str) -> None:
    x, _ = rows(60, scattered(4, 3), seed=8)
    x = {
        "collinear": np.c_[x, x @ [1.0, 2.0, 3.0]],
        "repeated": np.repeat(x[:15], 4, axis=0),
        "wide": np.random.default_rng(9).normal(size=(30, 40)),
        "of two values": (x > 0).astype(float),
    }[kind]
    groups = find_groups(SharingCovariance(x, 4 * np.diag(x.var(axis=0)), covariance), 1.0, 0.0)
    assert np.isfinite(groups.log_evidence)
    assert (np.linalg.eigvalsh(groups.within) > 0).all()


def test_one_gross_outlier_costs_one_memory() -> None:
    centres = scattered(5, 2)
    x, z = rows(600, centres)
    x[100] += 1e3
    stream = Stream().partial_fit(x)
    others = np.arange(600) != 100
    assert score(stream, x[others], z[others], centres) >= 0.9


@pytest.mark.parametrize(
    "options",
    [
        {"known": {"precision": [1.0, 1.0]}},
        {"base": "prior"},
        {"forget": 50.0},
    ],
)
def test_a_width_that_is_given_or_that_moves_is_not_looked_for(options: dict[str, Any]) -> None:
    x, _ = rows(60, scattered(5, 2))
    stream = Stream(covariance="diagonal", **options).partial_fit(x).flush()
    assert isinstance(stream._life, Learning)
    assert stream._life.base is None


@pytest.mark.parametrize("options", [{}, {"rule": "sample"}, {"half_life": 300.0}, {"particles": 2}, {"slots": 4}])
def test_a_stream_with_a_base_measure_is_cut_saved_and_loaded_in_the_same_bits(
    options: dict[str, Any], tmp_path: Path
) -> None:
    x, _ = rows(160, scattered(5, 2))
    options = {"covariance": "diagonal", "warm": 70, **options}
    whole = Stream(**options).partial_fit(x)
    cut = Stream(**options)
    for piece in np.split(x, [30, 90, 110]):
        cut.partial_fit(piece).save(tmp_path / "stream.nc")
        cut = Stream.load(tmp_path / "stream.nc")
    one, two = whole._group(whole._life), cut._group(cut._life)
    assert {name: values.values.tobytes() for name, values in one.data_vars.items()} == {
        name: values.values.tobytes() for name, values in two.data_vars.items()
    }
    assert {"base_within", "base_shape"} <= set(one.data_vars)


def test_more_first_rows_than_are_divided_into_groups() -> None:
    centres = scattered(5, 2)
    x, z = rows(2500, centres)
    stream = Stream(warm=2500).partial_fit(x)
    assert score(stream, x, z, centres) >= 0.9
    assert stream.memories()["count"].sum() == 2500


# --- directions -----------------------------------------------------------------------------------------------


class Directions(NamedTuple):
    """Rows of von Mises-Fisher memories, made by SciPy."""

    x: np.ndarray
    memory: np.ndarray
    nearest: np.ndarray
    """The likeliest memory of each row under the true means and concentrations."""


def directions(num_features: int, num_memories: int, narrowest: float, widest: float, num_data: int) -> Directions:
    rng = np.random.default_rng(0)
    means = rng.normal(size=(num_memories, num_features))
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    concentrations = rng.uniform(widest, narrowest, size=num_memories)
    memory = rng.choice(num_memories, size=num_data, p=rng.dirichlet(np.full(num_memories, 5.0)))
    x = np.empty((num_data, num_features))
    for k in np.unique(memory):
        own = memory == k
        x[own] = stats.vonmises_fisher(means[k], concentrations[k], seed=rng).rvs(own.sum())
    joint = np.stack([stats.vonmises_fisher(*each).logpdf(x) for each in zip(means, concentrations, strict=True)])
    return Directions(x, memory, joint.argmax(axis=0))


@pytest.mark.parametrize(
    ("num_features", "num_memories", "narrowest", "widest"),
    [(3, 4, 200, 60), (3, 8, 1000, 100), (16, 20, 400, 50), (16, 1, 50, 50)],
)
def test_a_stream_finds_directions_and_their_number(
    num_features: int, num_memories: int, narrowest: float, widest: float
) -> None:
    """Whatever their concentrations, of which no prior knows."""
    rows = directions(num_features, num_memories, narrowest, widest, 1500)
    stream = Stream(family="vmf").partial_fit(rows.x)
    assert stream.num_memories == num_memories
    found = adjusted_rand_score(rows.memory, stream.predict(rows.x)["label"])
    assert found >= 0.99 * adjusted_rand_score(rows.memory, rows.nearest)


@pytest.mark.parametrize("num_features", [3, 16])
def test_uniform_directions_are_one_memory_of_uniform_density(num_features: int) -> None:
    x = np.random.default_rng(1).normal(size=(1200, num_features))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    stream = Stream(family="vmf").partial_fit(x)
    assert stream.num_memories == 1
    log_area = np.log(2) + 0.5 * num_features * np.log(np.pi) - gammaln(0.5 * num_features)
    assert stream.predict(x)["log_predictive"].mean() == pytest.approx(-log_area, abs=0.01)


def test_a_stream_learns_the_concentrations_of_its_memories() -> None:
    rows = directions(16, 6, 400, 40, 1500)
    fit = Stream(family="vmf").partial_fit(rows.x).to_fit(num_draws=40)
    drawn = fit.tree["posterior"].to_dataset()["concentration"].values[0]
    order = np.argsort(-np.bincount(rows.memory), kind="stable")
    for k, memory in enumerate(order):
        own = rows.x[rows.memory == memory]
        expected = stats.vonmises_fisher.fit(own)[1]
        error = expected * np.sqrt(2 / (15 * len(own)))  # of a maximum-likelihood estimate
        assert abs(drawn[:, k].mean() - expected) < 5 * error


def test_evidence_of_directions_is_that_of_their_conjugate_pair() -> None:
    rows = directions(5, 3, 60, 20, 60)
    member, kappa = np.eye(3)[rows.memory], np.asarray(33.0)
    pair = DirectionOfVonMisesFisher(jnp.zeros(5), jnp.asarray(33.0))
    expected = pair.log_marginal(jnp.asarray(member.sum(axis=0)), jnp.asarray(member.T @ rows.x)).sum()
    assert SharingConcentration(rows.x).log_marginal(member, kappa) == pytest.approx(float(expected), rel=1e-10)


def test_groups_of_different_widths_are_not_divided() -> None:
    """One width for all makes several groups of the widest one; joined, they are those that were simulated."""
    rng = np.random.default_rng(2)
    z = rng.integers(0, 3, 1200)
    x = np.array([[0.0, 0.0], [30.0, 0.0], [0.0, 30.0]])[z] + np.array([0.3, 1.0, 5.0])[z, None] * rng.normal(
        size=(1200, 2)
    )
    shared = find_groups(SharingCovariance(x[:1000], 4 * np.diag(x.var(axis=0)), "spherical"), 1.0, 0.0)
    assert shared.shares.shape[1] > 3
    stream = Stream(covariance="spherical").partial_fit(x)
    assert stream.num_memories == 3
    assert adjusted_rand_score(z, stream.predict(x)["label"]) > 0.99


def test_a_stream_of_directions_is_cut_saved_and_loaded_in_the_same_bits(tmp_path: Path) -> None:
    x = directions(4, 3, 100, 50, 160).x
    whole = Stream(family="vmf", warm=70).partial_fit(x)
    cut = Stream(family="vmf", warm=70)
    for piece in np.split(x, [30, 90, 110]):
        cut.partial_fit(piece).save(tmp_path / "stream.nc")
        cut = Stream.load(tmp_path / "stream.nc")
    one, two = whole._group(whole._life), cut._group(cut._life)
    assert {name: values.values.tobytes() for name, values in one.data_vars.items()} == {
        name: values.values.tobytes() for name, values in two.data_vars.items()
    }
    assert one["base_within"].shape == ()
