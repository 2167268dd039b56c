"""The façade: fit, predict, recall, save and load, on real data, and what it says of bad arguments."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
import xarray as xr
from scipy import integrate, stats

import probam.fits.fit as api
from probam.data.shipped import load_shipped
from probam.errors import InputError
from probam.fits.fitted import Fit


@pytest.fixture(scope="module")
def faithful() -> Fit:
    """Old Faithful by NUTS, a short run."""
    return api.fit(
        load_shipped("faithful"),
        weights="dp",
        components=5,
        engine="nuts",
        standardise=True,
        num_warmup=200,
        num_draws=150,
        num_chains=2,
        seed=3,
    )


@pytest.fixture(scope="module")
def galaxies() -> Fit:
    """The galaxy velocities by EM: one feature."""
    return api.fit(
        load_shipped("galaxy82"), covariance="spherical", weights="pyp", components=6, engine="em", standardise=True
    )


def test_two_eruptions_are_found_in_data_units(faithful: Fit) -> None:
    frame = faithful.memories()
    assert frame["weight"].is_monotonic_decreasing
    data = load_shipped("faithful").values
    for of_data, of_memories in ((data[:, 0] < 3, frame["eruptions"] < 3), (data[:, 0] > 3, frame["eruptions"] > 3)):
        kind = frame[of_memories]  # each kind may have several memories
        assert abs(kind["weight"].sum() - of_data.mean()) < 0.05
        mean = np.average(kind[["eruptions", "waiting"]], weights=kind["weight"], axis=0)
        np.testing.assert_allclose(mean, data[of_data].mean(axis=0), rtol=0.05)
    assert "Dirichlet-process" in faithful.summary_text()


def test_a_feature_may_be_called_as_a_column_of_the_table_of_memories() -> None:
    """Length, weight and size are common names of features."""
    x = np.repeat([[-300.0, 0.001], [300.0, 0.001]], [30, 10], axis=0) + np.random.default_rng(0).normal(size=(40, 2))
    fitted = api.fit(pd.DataFrame(x, columns=["weight", "size"]), components=2, engine="em", restarts=2)
    frame = fitted.memories()
    assert list(frame.columns) == ["weight", "weight_sd", "size", "occupied", "mean_weight", "mean_size"]
    np.testing.assert_allclose(frame["weight"], [0.75, 0.25], atol=0.02)
    np.testing.assert_allclose(frame["mean_weight"], [-300, 300], rtol=0.02)
    assert "smaller" not in fitted.summary_text()


@pytest.mark.parametrize("engine", ["em", "gradient_em", "cavi"])
def test_a_tolerance_below_zero_is_refused(engine: str) -> None:
    with pytest.raises(InputError, match=r"tolerance: expected a number of at least 0; got -1"):
        api.fit(np.eye(4), components=1, engine=engine, tolerance=-1.0)


def test_a_checkpoint_and_the_output_are_two_files(tmp_path: Path) -> None:
    path = tmp_path / "run.nc"
    with pytest.raises(InputError, match=r"checkpoint: .*run.nc is the output too; give it a name of its own"):
        api.fit(np.eye(4), components=1, engine="nuts", checkpoint=path, output=path)
    assert not path.exists()


def test_the_density_is_one_in_the_units_of_the_data(galaxies: Fit) -> None:
    def density(v: float) -> float:
        return float(np.exp(galaxies.log_prob(np.array([[v]]))[0]))

    total, _ = integrate.quad(density, 0, 50, limit=60, epsabs=1e-4)
    assert abs(total - 1) < 2e-3


def test_log_density_is_averaged_over_the_draws(faithful: Fit) -> None:
    x = load_shipped("faithful").values[:7]
    z = faithful.standardiser.apply(x)
    draws = faithful.draws()
    each = np.stack(
        [faithful.model.mixture({k: v[s] for k, v in draws.items()}).log_prob(z) for s in range(len(draws["loc"]))]
    )
    expected = np.logaddexp.reduce(each, axis=0) - np.log(len(each)) - np.log(faithful.standardiser.scale).sum()
    np.testing.assert_allclose(faithful.log_prob(x), expected, rtol=1e-10)
    stored = faithful.tree["log_likelihood"].to_dataset()["x"].values[..., :7].reshape(-1, 7)
    np.testing.assert_allclose(stored, each - np.log(faithful.standardiser.scale).sum(), rtol=1e-10)


def test_responsibilities_are_posterior_probabilities(faithful: Fit) -> None:
    resp = faithful.responsibilities(load_shipped("faithful"))
    assert resp.shape == (272, 5)
    np.testing.assert_allclose(resp.sum(axis=1), 1, rtol=1e-10)
    found = faithful.predict(load_shipped("faithful"))
    np.testing.assert_array_equal(found["label"], resp.argmax(1))
    np.testing.assert_array_equal(found["label"], faithful.tree["partition"]["label"])


def test_a_saved_fit_loads_identical_and_answers_alike(faithful: Fit, tmp_path: Path) -> None:
    path = tmp_path / "fit.nc"
    faithful.save(path)
    loaded = api.load(path)
    xr.testing.assert_identical(loaded.tree, faithful.tree)
    x = load_shipped("faithful")
    np.testing.assert_array_equal(loaded.log_prob(x), faithful.log_prob(x))
    xr.testing.assert_identical(loaded.recall(x.values[:5]), faithful.recall(x.values[:5]))
    with xr.open_datatree(path) as plain:
        assert set(plain.children) >= {"posterior", "sample_stats", "log_likelihood", "observed_data", "memory"}
        assert plain["posterior"]["loc"].dims == ("chain", "draw", "memory", "feature")


def test_recall_ends_at_fixed_points_downhill(faithful: Fit) -> None:
    x = load_shipped("faithful").values[:40]
    found = faithful.recall(x)
    assert bool(found["converged"].all())
    again = faithful.recall(found["state"].values)
    np.testing.assert_allclose(again["state"], found["state"], rtol=1e-6)
    assert np.all(found["energy"].values <= faithful.energy(x) + 1e-12)


def test_the_fit_is_verified(faithful: Fit, galaxies: Fit) -> None:
    for fitted in (faithful, galaxies):
        checks = fitted.verify()
        assert checks
        assert all(check.passed for check in checks), checks
        assert set(fitted.group("verification")["check"].values) == {check.name for check in checks}


def test_questions_of_other_lengths_are_answered_by_the_same_programs(galaxies: Fit) -> None:
    x = load_shipped("galaxy82").values
    compiled: list[float] = []

    def listen(event: str, duration_secs: float, **_: str | int) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(duration_secs)

    def asked(num_rows: int) -> list[xr.Dataset]:
        return [ask(x[:num_rows]) for ask in (galaxies.predict, galaxies.recall, galaxies.complete)]

    few = asked(41)
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        more = asked(47)
        assert not compiled
        asked(49)
        assert compiled  # so what is not compiled anew would be noticed
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    for one, other in zip(few, more, strict=True):
        rows = other.isel({next(iter(one.sizes)): slice(41)})
        xr.testing.assert_allclose(one, rows, rtol=1e-12)


def test_samples_look_like_the_data(faithful: Fit) -> None:
    x = load_shipped("faithful").values
    drawn = faithful.sample(4000, seed=1)
    np.testing.assert_allclose(drawn.mean(0), x.mean(0), rtol=0.05)
    np.testing.assert_allclose(drawn.std(0), x.std(0), rtol=0.1)


def test_the_same_seed_gives_the_same_bits() -> None:
    options = {"covariance": "diagonal", "weights": "dirichlet", "components": 2, "engine": "em", "restarts": 2}
    one, two = (api.fit(load_shipped("faithful"), seed=7, **options) for _ in range(2))
    for name in ("posterior", "memory", "posterior_predictive", "invariant", "recall"):
        xr.testing.assert_identical(one.group(name), two.group(name))


def test_frames_arrays_and_files_are_the_same_data(tmp_path: Path) -> None:
    table = load_shipped("faithful")
    frame = pd.DataFrame(table.values, columns=list(table.columns))
    frame.to_csv(tmp_path / "x.csv", index=False)
    options = {"covariance": "isotropic", "weights": "uniform", "components": 2, "engine": "em", "restarts": 1}
    fits = [api.fit(data, **options) for data in (table, frame, tmp_path / "x.csv", table.values)]
    for fitted in fits[1:]:
        np.testing.assert_array_equal(fitted.tree["posterior"]["loc"], fits[0].tree["posterior"]["loc"])
    assert fits[1].columns == ("eruptions", "waiting")
    swapped = frame[["waiting", "eruptions"]]
    np.testing.assert_array_equal(fits[1].log_prob(swapped), fits[1].log_prob(frame))


def test_float32_data_stay_float32() -> None:
    x = load_shipped("faithful").values.astype(np.float32)
    fitted = api.fit(x, covariance="diagonal", weights="dp", alpha=1.0, components=3, engine="em", standardise=True)
    assert fitted.tree["posterior"]["loc"].dtype == np.float32
    assert fitted.tree.attrs["dtype"] == "float32"
    assert all(check.passed for check in fitted.verify()), fitted.verify()


def test_a_prior_of_ones_own_is_used() -> None:
    x = load_shipped("galaxy82").values
    tight = {"loc": dist.Normal(np.array([20.0]), np.array([1e-3])).to_event(1)}
    fitted = api.fit(x, covariance="diagonal", weights="uniform", components=2, engine="em", prior=tight)
    np.testing.assert_allclose(fitted.tree["posterior"]["loc"], 20, atol=0.01)


X = np.random.default_rng(0).normal(size=(10, 2))


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (X, {"family": "gausian"}, "family: expected one of bernoulli, .*gaussian, .*; got 'gausian'"),
        (X, {"covariance": "round"}, "covariance: expected one of isotropic"),
        (X, {"family": "vmf", "covariance": "full"}, "covariance: family 'vmf' has no such option"),
        (X, {"weights": "crp"}, "weights: expected one of uniform"),
        (
            X,
            {"engine": "gibs"},
            "engine: expected one of em, gradient_em, clam, svi, cavi, nuts, gibbs, smc; got 'gibs'",
        ),
        (X, {"engine": "em", "num_draws": 3}, "num_draws: engine 'em' has no such option; it has estimate"),
        (X, {"engine": "nuts", "num_draws": 2.5}, "num_draws: expected a whole number; got 2.5"),
        (X, {"engine": "nuts", "target_accept": "high"}, "target_accept: expected a number; got 'high'"),
        (X, {"components": 11}, "components: 11 memories for 10 data"),
        (X, {"components": 0}, "components: expected a whole number of at least 1; got 0"),
        (X, {"weights": "dirichlet"}, "components: weights 'dirichlet' need a number of memories"),
        (X, {"alpha": -1.0}, "alpha"),
        (X, {"alpha": 0.0}, "alpha"),
        (X, {"weights": "pyp", "alpha": 1.0, "discount": 1.0}, "discount"),
        (X, {"weights": "pyp", "alpha": 1.0, "discount": -0.1}, "discount"),
        (X, {"weights": "dp", "discount": 0.5}, "discount: only weights 'pyp' have one"),
        (X, {"weights": "uniform", "alpha": 1.0, "components": 2}, "alpha: weights 'uniform' have none"),
        (X, {"seed": -1}, "seed: expected a whole number"),
        (X, {"family": "vmf"}, "10 of 10 rows are not of unit length, first row 0"),
        (np.zeros((4, 3)), {"family": "vmf"}, r"row 0 \(counting from 0\) is all zeros"),
        (np.column_stack([X, np.ones(10)]), {}, "column 'x2' is constant"),
        (X[:1], {}, "row"),
        (np.where(X > 1, np.nan, X), {}, "(?i)nan|missing|finite"),
        (X, {"prior": {"mean": dist.Normal(0, 1)}}, "prior: family 'gaussian' has no site 'mean'"),
        (X, {"prior": {"loc": dist.Normal(np.zeros(3), 1)}}, r"prior: site 'loc' of one memory has shape \(2,\)"),
        (X, {"family": "nowhere.py:Thing"}, "family: no such file: nowhere.py"),
    ],
)
def test_bad_arguments_are_named(data: np.ndarray, options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        api.fit(data, **{"engine": "em", **options})


def test_queries_of_the_wrong_width_are_refused(faithful: Fit) -> None:
    with pytest.raises(InputError, match=r"queries: expected the 2 features .* \('eruptions', 'waiting'\); got 3"):
        faithful.recall(np.zeros((4, 3)))


def test_a_double_precision_fit_needs_double_precision(galaxies: Fit, tmp_path: Path) -> None:
    galaxies.save(tmp_path / "fit.nc")
    with jax.enable_x64(False), pytest.raises(InputError, match="double precision; turn it on"):
        api.load(tmp_path / "fit.nc")


@pytest.mark.parametrize("path", [None, 3, b"fit.nc"])
def test_a_path_that_is_none_is_refused(galaxies: Fit, path: Any) -> None:
    for asked in (api.load, galaxies.save, galaxies.report):
        with pytest.raises(InputError, match="path: expected the path of a file; got"):
            asked(path)


def test_a_folder_is_no_fit(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="this is a folder; expected a file"):
        api.load(tmp_path)


def test_a_fit_is_not_made_by_hand_from_anything(galaxies: Fit) -> None:
    with pytest.raises(InputError, match="tree: expected the DataTree of a fit; got dict"):
        Fit({}, galaxies.model)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="model: expected the mixture that was fitted; got NoneType"):
        Fit(galaxies.tree, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("sample", {"num_data": 2.5}, "num_data: expected a whole number of at least 1; got 2.5"),
        ("sample", {"num_data": 3, "seed": -1}, "seed: expected a whole number from 0"),
        ("verify", {"seed": "a"}, "seed: expected a whole number from 0"),
        ("energy", {"data": [[20.0]], "draw": 1}, "draw: expected the number of a thinned draw, from 0 to 0; got 1"),
        (
            "recall",
            {"queries": [[20.0]], "draw": -1},
            "draw: expected the number of a thinned draw, from 0 to 0; got -1",
        ),
        ("recall", {"queries": [[20.0]], "max_steps": 0}, "max_steps: expected a whole number of at least 1; got 0"),
        ("complete", {"data": [[20.0]], "num_draws": 1.0}, "num_draws: expected a whole number of at least 1; got 1.0"),
    ],
)
def test_bad_arguments_of_a_question_are_named(
    galaxies: Fit, method: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        getattr(galaxies, method)(**options)


def test_missing_entries_are_integrated_out_where_that_is_asked_for() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(-4, 1, (30, 3)), rng.normal(4, 1, (50, 3))])
    x[rng.random(x.shape) < 0.1] = np.nan
    x[np.isnan(x).all(axis=1)] = 0.0
    given: dict[str, Any] = {
        "covariance": "diagonal",
        "weights": "dirichlet",
        "components": 2,
        "engine": "em",
        "standardise": True,
    }
    with pytest.raises(InputError, match="missing value"):
        api.fit(x, **given)
    found = api.fit(x, missing=True, **given)
    assert f"{np.isnan(x).sum()} of {x.size} entries missing" in found.tree.attrs["model"]
    assert np.array_equal(found.tree["observed_data"].to_dataset()["x"].values, x, equal_nan=True)
    completed = found.tree["observed_data"].to_dataset()["completed"].values
    assert np.array_equal(completed[~np.isnan(x)], x[~np.isnan(x)])
    assert np.isfinite(completed).all()

    group = found.tree["memory"].to_dataset()  # the observed density by hand, in data units
    mean, sd, weight = group["mean"].values, group["sd"].values, group["weight"].values
    log_terms = stats.norm.logpdf(x[:, None, :], mean, sd)
    by_hand = np.log(np.exp(np.nansum(log_terms, axis=-1)) @ weight)
    np.testing.assert_allclose(found.log_prob(x), by_hand, rtol=1e-9)
    assert found.predict(x)["label"].values.tolist() == [1] * 30 + [0] * 50
    with pytest.raises(InputError, match="missing value"):
        found.recall(x)
    with pytest.raises(InputError, match="missing: engine 'clam' does not integrate"):
        api.fit(x, missing=True, **(given | {"engine": "clam"}))


@pytest.mark.parametrize(("dtype", "far"), [("float64", 1e160), ("float32", 9.96921e36)])
def test_a_row_far_from_every_memory_has_density_zero_and_a_nearest_memory(dtype: str, far: float) -> None:
    """9.96921e36 is the value that NetCDF puts where a float is missing."""
    rng = np.random.default_rng(0)
    x = np.r_[rng.normal(size=(100, 2)), np.array([1, 4]) * rng.normal(size=(50, 2)) + 6].astype(dtype)
    fit = api.fit(x, engine="em", weights="dirichlet", components=2, covariance="full", restarts=1)
    queries = np.array([[far, far], [0, -far]], dtype)
    np.testing.assert_array_equal(fit.log_prob(queries), -np.inf)
    table = fit.predict(queries)
    np.testing.assert_array_equal(table["label"], 1)  # the smaller memory, with the larger covariance
    np.testing.assert_allclose(table["responsibilities"].sum("memory"), 1, rtol=1e-6)
    np.testing.assert_array_equal(fit.energy(queries), np.inf)


def test_a_datum_of_weight_two_counts_as_two_data() -> None:
    rng = np.random.default_rng(1)
    x = np.concatenate([rng.normal(-4, 1, (20, 2)), rng.normal(4, 1, (30, 2))])
    given: dict[str, Any] = {
        "covariance": "isotropic",
        "weights": "dirichlet",
        "components": 2,
        "engine": "em",
        "estimate": "ml",
    }
    weighted = api.fit(x, sample_weight=np.repeat([2.0, 1.0], [20, 30]), **given)
    repeated = api.fit(np.concatenate([x, x[:20]]), **given)
    for name in ("mean", "weight"):
        got, expected = (np.sort(one.tree["memory"].to_dataset()[name].values, axis=0) for one in (weighted, repeated))
        np.testing.assert_allclose(got, expected, rtol=1e-5)
    with pytest.raises(InputError, match="sample_weight: engine 'gibbs' has no likelihood that takes weights"):
        api.fit(x, sample_weight=np.ones(50), engine="gibbs")


def test_rows_of_weight_zero_are_held_by_no_memory() -> None:
    """Thirty rows far away that count for nothing: no memory holds them, and no number of memories counts one."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 2))
    x[:30] += 6
    weight = np.repeat([0.0, 1.0], 30)
    fitted = api.fit(x, sample_weight=weight, engine="em", weights="dp", components=3, restarts=2)
    memory = fitted.tree["memory"].to_dataset()
    label = fitted.predict(x)["label"].values[30:]
    assert float(memory["size"].sum()) == 30
    assert int((memory["occupied"] > 0).sum()) == len(np.unique(label))
    assert float(fitted.tree["invariant"]["num_occupied"].mean()) == len(np.unique(label))
