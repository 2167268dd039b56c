"""Streams as a user holds them: parts, questions, files, the way to a fit, sources read block by block."""

import io
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest
from numpyro.distributions import Gamma
from scipy.stats import multivariate_normal

import probam.streams.to_fit as to_fit
from probam.data.source import row_blocks
from probam.errors import InputError
from probam.fits.fit import load
from probam.inference.common.progress import Progress
from probam.models.mixture import Mixture
from probam.models.weights import weight_prior
from probam.streams.draws import draw_from_partitions
from probam.streams.learning import Learning
from probam.streams.sketch import Growth, Reservoir
from probam.streams.stream import Stream, run_stream

KNOWN: dict[str, Any] = {"covariance": "isotropic", "known": {"beta": 2.0}}
CENTRES = np.array([[-6.0, 0.0], [0.0, 6.0], [6.0, 0.0], [0.0, -6.0]])


def rows(num_data: int, dtype: Any = np.float64, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = CENTRES[rng.integers(0, 4, num_data)] + 0.5 * rng.normal(size=(num_data, 2))
    return np.asarray(x, dtype)


@pytest.fixture(scope="module")
def streamed() -> Stream:
    return Stream(**KNOWN, rule="sample", seed=3, reservoir=90).partial_fit(rows(1500))


def test_memories_are_the_centres_of_the_data(streamed: Stream) -> None:
    frame = streamed.memories()
    large = frame[frame["count"] > 100]
    assert len(large) == 4
    means = large[["x0", "x1"]].to_numpy()
    nearest = np.linalg.norm(means[:, None] - CENTRES, axis=-1).min(axis=1)
    assert nearest.max() < 0.2
    assert frame["count"].sum() == streamed.num_data == 1500
    assert frame["count"].is_monotonic_decreasing
    assert frame["weight"].sum() == pytest.approx(1500 / 1501)
    named = Stream(seed=1).partial_fit(pd.DataFrame(np.eye(3), columns=["count", "b", "last"])).memories()
    assert list(named.columns) == ["count", "weight", "born", "last", "mean_count", "b", "mean_last"]


def test_prediction_is_the_predictive_density_of_the_chinese_restaurant(streamed: Stream) -> None:
    x = rows(5, seed=9)
    frame = streamed.memories()
    assert isinstance(streamed._life, Learning)
    base = streamed._life.prior["loc"].base_dist  # type: ignore[attr-defined]
    loc, spread, variance = np.asarray(base.loc), np.asarray(base.scale) ** 2, 0.25
    density = np.zeros((len(x), len(frame) + 1))
    for k, (count, mean) in enumerate(zip(frame["count"], frame[["x0", "x1"]].to_numpy(), strict=True)):
        width = variance + 1 / (1 / spread + count / variance)
        density[:, k] = count / 1501 * multivariate_normal(mean, np.diag(width)).pdf(x)
    density[:, -1] = 1 / 1501 * multivariate_normal(loc, np.diag(variance + spread)).pdf(x)
    predicted = streamed.predict(x)
    np.testing.assert_allclose(predicted["log_predictive"], np.log(density.sum(axis=1)), rtol=1e-9)
    np.testing.assert_array_equal(predicted["label"], frame.index.to_numpy()[density[:, :-1].argmax(axis=1)])
    shares = density / density.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(predicted["probability"], shares[:, :-1].max(axis=1), rtol=1e-9)
    np.testing.assert_allclose(predicted["probability_new"], shares[:, -1], rtol=1e-8)


@pytest.mark.parametrize(("dtype", "far"), [("float64", 1e160), ("float32", 1e37)])
@pytest.mark.parametrize("options", [KNOWN, {"covariance": "diagonal"}, {"covariance": "full"}])
def test_a_query_whose_square_overflows_has_a_memory_and_no_answer_is_nan(
    options: dict[str, Any], dtype: str, far: float
) -> None:
    stream = Stream(**options, warm=50).partial_fit(rows(120, dtype))
    near = stream.predict(rows(3, dtype, seed=9))
    queries = np.concatenate([np.array([[far, far], [0, -far]], dtype), rows(3, dtype, seed=9)])
    predicted = stream.predict(queries)
    for name in predicted:
        assert not np.isnan(predicted[name].values).any()
        np.testing.assert_array_equal(predicted[name].values[2:], near[name].values)
    assert (predicted["probability"] + predicted["probability_new"] <= 1 + 1e-6).all()
    assert (predicted["log_predictive"][:2] < -300).all()


def test_units_change_the_score_by_their_jacobian_alone() -> None:
    x = rows(400)
    plain = Stream(covariance="diagonal").partial_fit(x).flush()
    scaled = Stream(covariance="diagonal", standardise=True).partial_fit(x).flush()
    assert plain.num_memories == scaled.num_memories
    assert scaled.log_predictive == pytest.approx(plain.log_predictive, rel=1e-9)
    np.testing.assert_allclose(scaled.memories(), plain.memories(), rtol=1e-8, atol=1e-8)


def arrays_of(stream: Stream) -> dict[str, bytes]:
    return {str(name): values.values.tobytes() for name, values in stream._group(stream._life).data_vars.items()}


@pytest.mark.parametrize("dtype", [np.float32, pytest.param(np.float64, marks=pytest.mark.slow)])
def test_a_stream_cut_saved_and_loaded_at_20_places_ends_in_the_same_bits(dtype: Any, tmp_path: Path) -> None:
    x = rows(2600, dtype)
    options: dict[str, Any] = {**KNOWN, "rule": "sample", "discount": 0.4, "seed": 5, "capacity": 16, "tidy_every": 300}
    options |= {"prune_count": 1, "prune_age": 50, "reservoir": 100}
    whole = Stream(**options).partial_fit(x)
    cuts = np.sort(np.random.default_rng(0).integers(1, len(x), 20))
    cut = Stream(**options)
    for piece in np.split(x, cuts):
        if len(piece):
            cut.partial_fit(piece)
        cut.save(tmp_path / "stream.nc")
        cut = Stream.load(tmp_path / "stream.nc")
    assert cut._life.schema is not None
    assert cut._life.schema.dtype == dtype
    assert cut.log_predictive == whole.log_predictive
    assert arrays_of(cut) == arrays_of(whole)
    pd.testing.assert_frame_equal(cut.growth, whole.growth)


def test_a_fit_of_a_stream_has_fewer_draws_where_many_memories_have_many_features(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x = np.random.default_rng(0).normal(size=(40, 3))
    stream = Stream(covariance="diagonal", warm=20).partial_fit(x)
    numbers = 0  # of one draw, but for its weights
    for most, expected in ((2**25, 200), (None, 37), (1, 10)):
        monkeypatch.setattr(to_fit, "_NUMBERS", 37 * numbers + 1 if most is None else most)
        posterior = stream.to_fit().tree["posterior"].to_dataset()
        assert posterior.sizes["draw"] == expected
        numbers = sum(posterior[site].isel(draw=0).size for site in ("loc", "precision"))
        assert numbers == 2 * 3 * posterior.sizes["memory"]


def test_a_fit_of_the_stream_holds_the_stream(streamed: Stream, tmp_path: Path) -> None:
    fitted = streamed.to_fit(num_draws=30)
    fitted.save(tmp_path / "fit.nc")
    again = load(tmp_path / "fit.nc")
    assert again.tree.attrs["engine"] == "stream"
    posterior = again.tree["posterior"].to_dataset()
    assert dict(posterior.sizes)["draw"] == 30
    frame = streamed.memories()
    assert posterior.sizes["memory"] == len(frame) + 1
    np.testing.assert_allclose(posterior["weights"].sum("memory"), 1, rtol=1e-9)
    np.testing.assert_allclose(posterior["beta"], 2.0)
    # given the partition: Dirichlet(n_1, ..., n_K, alpha) weights, normal locations
    counts = np.append(frame["count"].to_numpy(), 1.0)
    share = counts / counts.sum()
    error = np.sqrt(share * (1 - share) / (counts.sum() + 1) / 30)
    assert (np.abs(posterior["weights"].mean(("chain", "draw")).values - share) < 5 * error).all()
    big = frame["count"].to_numpy() > 100
    drawn = posterior["loc"].values[0][:, :-1][:, big]
    error = np.sqrt(0.25 / frame["count"].to_numpy()[big] / 30)[:, None]
    assert (np.abs(drawn.mean(axis=0) - frame[["x0", "x1"]].to_numpy()[big]) < 5 * error).all()
    observed = again.tree["observed_data"].to_dataset()["x"].values
    assert observed.shape == (90, 2)
    assert set(map(tuple, observed)) <= set(map(tuple, rows(1500)))
    assert "drawn uniformly" in again.tree["observed_data"].attrs["sample"]
    resumed = Stream.load(tmp_path / "fit.nc")
    assert arrays_of(resumed) == arrays_of(streamed)
    assert again.predict(rows(3))["label"].shape == (3,)


def _slow(*values: Any) -> Any:
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("options", "sites"),
    [
        ({"covariance": "full", "known": {"precision_cholesky": np.eye(2)}}, {"loc", "precision_cholesky"}),
        ({"family": "multinomial"}, {"prob", "total"}),
        _slow({"covariance": "spherical"}, {"loc", "beta"}),
        _slow({"covariance": "full"}, {"loc", "precision_cholesky"}),
        _slow({"family": "vmf"}, {"direction", "concentration"}),
        _slow({"family": "bernoulli"}, {"prob"}),
    ],
)
def test_every_conjugate_family_streams_and_draws_all_its_sites(options: dict[str, Any], sites: set[str]) -> None:
    x = rows(60)
    if options.get("family") == "vmf":
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
    elif "family" in options:
        x = (x > 1).astype(float) + (3.0 if options["family"] == "multinomial" else 0.0)
    stream = Stream(**options).partial_fit(x).flush()
    assert np.isfinite(stream.log_predictive)
    assert stream.memories()["count"].sum() == 60
    assert np.isfinite(stream.memories().to_numpy()).all()
    learning = stream._life
    assert isinstance(learning, Learning)
    model = Mixture(stream.family, weight_prior("dp", alpha=1.0), stream.num_memories + 1, learning.prior)
    result = draw_from_partitions(jax.random.key(0), model, learning, x, 2)
    assert sites <= set(result.sites)
    assert all(np.isfinite(values).all() for values in (*result.sites.values(), result.stats["lp"]))


def test_a_stream_of_normalised_rows_is_the_stream_of_their_directions(tmp_path: Path) -> None:
    lengths = np.random.default_rng(2).lognormal(0, 1, (150, 1))
    unit = rows(150) / np.linalg.norm(rows(150), axis=1, keepdims=True)
    options: dict[str, Any] = {"covariance": "isotropic", "known": {"beta": 200.0}, "warm": 40}
    expected = Stream(**options).partial_fit(unit)
    stream = Stream(**options, normalise=True)
    for part in range(0, 150, 30):  # of which the first is held back
        stream.partial_fit((lengths * unit)[part : part + 30])
    np.testing.assert_allclose(stream.log_predictive, expected.log_predictive, rtol=1e-10)
    stream.save(tmp_path / "stream.nc")
    for asked in (stream, Stream.load(tmp_path / "stream.nc")):
        answer = asked.predict(7 * unit)["log_predictive"]
        np.testing.assert_allclose(answer, expected.predict(unit)["log_predictive"], rtol=1e-9)


# --- sources --------------------------------------------------------------------------------------------------


def test_every_source_gives_the_same_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = rows(300)
    frame = pd.DataFrame(x, columns=["a", "b"])
    frame.to_csv(tmp_path / "x.csv", index=False)
    frame.to_csv(tmp_path / "x.tsv.gz", index=False, header=False, sep="\t")
    frame.to_parquet(tmp_path / "x.parquet")
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "x.npz", X=x)
    monkeypatch.setattr("sys.stdin", io.StringIO(frame.to_csv(index=False)))
    options = {**KNOWN, "warm": 100}
    expected = Stream(**options).partial_fit(x)
    seen: list[Progress] = []
    for name in ("x.csv", "x.tsv.gz", "x.parquet", "x.npy", "x.npz", "-"):
        source = name if name == "-" else tmp_path / name
        stream = run_stream(source, rows=70, progress=seen.append, **options)
        assert stream.log_predictive == expected.log_predictive, name
        named = ["a", "b"] if name in ("x.csv", "x.parquet", "-") else ["x0", "x1"]
        assert list(stream.memories().columns[-2:]) == named
    assert seen[0] == (70, 0, "stream, 70 data, held back", {})
    assert seen[-1] == (300, 300, "stream, 300 data", {"memories": expected.num_memories})


def test_broken_sources_are_explained(tmp_path: Path) -> None:
    (tmp_path / "ragged.csv").write_text("a,b\n1,2\n3\n")
    (tmp_path / "text.csv").write_text("a,b\n1,2\n3,x\n")
    (tmp_path / "empty.csv").write_text("a,b\n")
    (tmp_path / "twice.csv").write_text("a,a\n1,2\n")
    for name, message in (
        ("ragged.csv", r"row 2 \(line 3\) has 1 field where the header has 2"),
        ("text.csv", "'b' holds text"),
        ("empty.csv", "no rows"),
        ("twice.csv", "more than once"),
        ("none.csv", "none.csv"),
    ):
        with pytest.raises(InputError, match=message):
            list(row_blocks(tmp_path / name)[0])


# --- sketches -------------------------------------------------------------------------------------------------


def test_reservoir_is_a_uniform_sample_wherever_the_stream_is_cut() -> None:
    num_rows, size, runs = 40, 8, 3000
    x = np.arange(num_rows, dtype=float)[:, None]
    chosen = np.zeros(num_rows)
    for seed in range(runs):
        whole, cut = Reservoir(size, seed), Reservoir(size, seed)
        whole.add(0, x)
        for first, last in ((0, 3), (3, 4), (4, 29), (29, 40)):
            cut.add(first, x[first:last])
        np.testing.assert_array_equal(whole.rows(), cut.rows())
        assert len(np.unique(whole.rows())) == size
        chosen[whole.rows()[:, 0].astype(int)] += 1
    share = size / num_rows
    assert (np.abs(chosen / runs - share) < 4.5 * np.sqrt(share * (1 - share) / runs)).all()


def test_growth_curve_has_points_at_even_steps_of_log_n_wherever_it_is_cut() -> None:
    sizes, scores = np.arange(1, 1001), np.full(1000, -0.1)
    whole, cut = Growth(), Growth()
    whole.add(0, sizes, scores)
    for first, last in ((0, 10), (10, 11), (11, 700), (700, 1000)):
        cut.add(first, sizes[first:last], scores[first:last])
        after = Growth()
        after.restore(cut.arrays())
        cut = after
    pd.testing.assert_frame_equal(whole.frame(), cut.frame())
    frame = whole.frame()
    assert frame["data"].iloc[[0, -1]].tolist() == [1, 1000]
    assert (np.diff(np.log10(frame["data"][frame["data"] > 100])) < 0.06).all()
    np.testing.assert_array_equal(frame["memories"], frame["data"])
    assert whole.log_score == np.add.accumulate(scores)[-1]


# --- what cannot be -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"family": "student_t"}, "streams work with gaussian .covariance isotropic, spherical, diagonal, full., vmf"),
        ({"covariance": "lkj"}, "nothing can be integrated out of family 'gaussian'"),
        ({"covariance": "diagonal", "known": {"beta": 2.0}}, "known: family 'gaussian' has no site 'beta'.*precision"),
        ({"energy": "printed"}, "use energy 'collapsed' here"),
        ({"alpha": -1.0}, "alpha: expected a finite strength"),
        ({"discount": 1.0}, "discount: expected a number in"),
        ({"seed": -1}, "seed: expected a whole number"),
        ({"warm": 1}, "warm: expected a number of rows of at least 2"),
        ({"prune_count": 2}, "say how often with tidy_every"),
        ({"family": "vmf", "standardise": True}, "takes the data as they are"),
    ],
)
def test_streams_that_cannot_be_say_what_can(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Stream(**options).partial_fit(rows(10)).flush()


def test_questions_too_early_and_data_that_do_not_fit_are_refused(streamed: Stream, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="num_draws: expected a whole number of at least 1; got 0"):
        streamed.to_fit(num_draws=0)
    with pytest.raises(InputError, match="no data have come yet"):
        Stream().predict(rows(2))
    with pytest.raises(InputError, match=r"expected the 2 features that were learned .*; got 1"):
        streamed.partial_fit(np.ones((4, 1)))
    with pytest.raises(InputError, match=r"expected the 2 features that were learned .*; got 1"):
        streamed.predict(np.ones((4, 1)))
    own = Stream(covariance="spherical", prior={"beta": Gamma(3.0, 2.0)}).partial_fit(rows(30))
    with pytest.raises(InputError, match="priors of your own cannot be saved"):
        own.save(tmp_path / "own.nc")
    (tmp_path / "no.nc").write_text("no")
    with pytest.raises(InputError, match="not a readable NetCDF4 file"):
        Stream.load(tmp_path / "no.nc")
