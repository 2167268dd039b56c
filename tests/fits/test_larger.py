"""Fits of data larger than memory: what is said of all rows is what all rows say, and memory stays within its limit."""

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import pytest

import probam
from benchmarks.first_answer import cpu_and_peak
from probam.data.source import row_source
from probam.errors import InputError
from probam.fits.fitted import Fit
from probam.fits.larger import parts_of
from probam.fits.options import FitOptions
from probam.models.gaussian import Gaussian
from probam.reports.summaries.criteria import expected_loo, information
from probam.reports.summaries.estimate import total_log_likelihood
from probam.reports.tree import num_data, variable

MEMORY = 1_600_000
"""Bytes in which the rows below do not fit."""


def _rows(number: int = 6000, dtype: type = np.float64) -> np.ndarray:
    """Three groups of different sizes, sorted by group, so that no block looks like the whole."""
    rng = np.random.default_rng(7)
    centres = np.array([[0.0, 10, 3], [8, 20, 0], [-7, 15, -2]])
    group = np.sort(rng.choice(3, size=number, p=[0.6, 0.3, 0.1]))
    return (centres[group] + rng.normal(size=(number, 3)) * [1, 5, 0.5]).astype(dtype)


def _fit(data: Any, **options: Any) -> Fit:
    options = {"weights": "dirichlet", "components": 3, "covariance": "diagonal", "engine": "em"} | options
    return probam.fit(data, **options)


def _means(fitted: Fit) -> np.ndarray:
    return np.asarray(variable(fitted.tree, "memory", "mean").values)


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return _rows()


@pytest.fixture(scope="module")
def large(x: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> tuple[Fit, Path]:
    """A fit in blocks of a file, and the file."""
    path = tmp_path_factory.mktemp("rows") / "x.npy"
    np.save(path, x)
    return _fit(path, memory=MEMORY, standardise=True), path


def test_numbers_of_the_fit_are_those_of_all_rows(large: tuple[Fit, Path], x: np.ndarray) -> None:
    fitted, tree = large[0], large[0].tree
    held = variable(tree, "observed_data", "x").values
    assert len(held) < len(x) == num_data(tree)
    labels = fitted.predict(x)["label"].values
    np.testing.assert_array_equal(tree["memory"]["size"].values, np.bincount(labels, minlength=3))
    total = total_log_likelihood(tree)
    assert total is not None
    np.testing.assert_allclose(total.item(), fitted.log_prob(x).sum(), rtol=1e-10)
    assert f"fitted to {len(x)} data" in tree.attrs["model"]
    assert int(tree["invariant"]["num_occupied"].item()) == 3


def test_all_rows_are_standardised_by_their_own_moments(large: tuple[Fit, Path], x: np.ndarray) -> None:
    center, scale = (variable(large[0].tree, "constant_data", name).values for name in ("center", "scale"))
    np.testing.assert_allclose(center, x.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(scale, x.std(axis=0), rtol=1e-12)


def test_moments_keep_their_digits_far_from_zero() -> None:
    """Squares of numbers near 1e9 leave no digit of a variance of one; moments that are joined do."""
    rng = np.random.default_rng(0)
    values = np.array([1e9, -3.0]) + rng.normal(size=(3000, 2))
    options = FitOptions(memory=500_000, standardise=True, engine="em")
    units = parts_of(row_source(values), options, Gaussian("diagonal")).units
    np.testing.assert_allclose(units.scale, np.std(values - [1e9, -3], axis=0), rtol=1e-7)


def test_a_fit_in_blocks_ends_where_one_in_memory_does(large: tuple[Fit, Path]) -> None:
    whole = _fit(large[1], standardise=True)
    one, other = (total_log_likelihood(fit.tree) for fit in (large[0], whole))
    assert one is not None
    assert other is not None
    np.testing.assert_allclose(one, other, rtol=1e-6)  # the default prior is scaled to the sample
    np.testing.assert_allclose(_means(large[0]), _means(whole), atol=2e-2)


def test_the_sample_is_of_rows_of_the_data_and_the_same_for_the_same_seed(x: np.ndarray) -> None:
    one, same, other = (_fit(x, memory=MEMORY, seed=seed, restarts=1, max_iterations=2) for seed in (1, 1, 2))
    held = [variable(fit.tree, "observed_data", "x").values for fit in (one, same, other)]
    every = {tuple(row) for row in x}
    assert all(tuple(row) in every for row in held[0])
    assert len({tuple(row) for row in held[0]}) == len(held[0])
    np.testing.assert_array_equal(held[0], held[1])
    assert not np.array_equal(held[0], held[2])


def test_a_saved_fit_and_one_that_was_cut_off_say_the_same_of_all_rows(
    large: tuple[Fit, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large[0].save(tmp_path / "whole.nc")
    loaded = probam.load(tmp_path / "whole.nc")
    kept: list[Any] = []
    monkeypatch.setattr("probam.fits.fit._SOON_AGAIN", 0.0)
    monkeypatch.setattr("probam.fits.fit._save_or_rescue", lambda tree, path: kept.append(tree))
    fitted = _fit(large[1], memory=MEMORY, standardise=True, output=tmp_path / "cut.nc")
    probam.reports.tree.write_tree(kept[0], tmp_path / "cut.nc")
    cut = probam.load(tmp_path / "cut.nc")
    assert fitted.tree.attrs["seed"] == cut.tree.attrs["seed"]
    for name in ("memory", "invariant", "all_rows"):
        for each in (loaded, cut):
            assert each.tree[name].to_dataset().equals(large[0].tree[name].to_dataset()), name


def test_a_file_with_fewer_rows_than_its_sample_is_refused(large: tuple[Fit, Path], tmp_path: Path) -> None:
    tree = large[0].tree.copy(deep=True)
    tree["all_rows"].attrs["num_data"] = 10
    probam.reports.tree.write_tree(tree, tmp_path / "fit.nc")
    with pytest.raises(InputError, match="all_rows is of 10 rows; observed_data has"):
        probam.load(tmp_path / "fit.nc")


def test_criteria_count_all_rows(large: tuple[Fit, Path], x: np.ndarray) -> None:
    tree = large[0].tree
    found = information(tree, 5)
    log_lik = large[0].log_prob(x).sum()
    confidence = large[0].predict(x)["confidence"].values
    np.testing.assert_allclose(found.bic, 5 * np.log(len(x)) - 2 * log_lik, rtol=1e-10)
    np.testing.assert_allclose(found.icl, found.bic - 2 * np.log(confidence).sum(), rtol=1e-10)
    draws = _fit(x, memory=MEMORY, engine="cavi", num_draws=20).tree
    with pytest.raises(InputError, match="loo: this fit holds a sample of the rows"):
        expected_loo(draws)


@pytest.mark.parametrize(("engine", "is_weighted"), [("cavi", False), ("cavi", True), ("svi", True)])
def test_draws_are_read_at_all_rows(x: np.ndarray, engine: str, is_weighted: bool) -> None:
    weight = np.random.default_rng(0).integers(0, 4, len(x)).astype(float) if is_weighted else np.ones(len(x))
    steps = {"num_steps": 200, "restarts": 1} if engine == "svi" else {}
    known = {"sample_weight": weight} if is_weighted else {}
    fitted = _fit(x, memory=MEMORY, engine=engine, num_draws=10, **steps, **known)
    tree = fitted.tree
    assert variable(tree, "memory", "size").values.sum() == pytest.approx(np.count_nonzero(weight))
    np.testing.assert_array_equal(variable(tree, "invariant", "num_occupied").values, 3)
    total = total_log_likelihood(tree)
    assert total is not None
    draw = fitted._chosen(4)
    one = fitted.model.mixture(draw).log_prob(fitted.standardiser.apply(x))
    np.testing.assert_allclose(total[0, 4], weight @ np.asarray(one), rtol=1e-10)


def test_words_say_which_rows_the_fit_holds(large: tuple[Fit, Path], tmp_path: Path) -> None:
    held = len(variable(large[0].tree, "observed_data", "x"))
    sentence = f"It holds {held} of 6000 rows, drawn at random"
    assert sentence in large[0].summary_text()
    assert "Engines svi and cavi approximate the posterior of all rows." in large[0].summary_text()
    large[0].report(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert sentence in page
    assert "hold the 6000 data" in page


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_every_kind_of_file_gives_the_fit_of_its_numbers(large: tuple[Fit, Path], tmp_path: Path, kind: str) -> None:
    frame = pd.DataFrame(np.load(large[1]), columns=["a", "b", "c"])
    path = tmp_path / f"x.{kind}"
    if kind == "csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path)
    fitted = _fit(path, memory=MEMORY, standardise=True)
    np.testing.assert_allclose(_means(fitted), _means(large[0]), rtol=1e-8)
    assert fitted.columns == ("a", "b", "c")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "nuts"}, "engine 'nuts' needs all rows at once: use engine em, gradient_em, cavi, svi"),
        ({"engine": None}, "the default engine needs all rows at once"),
        ({"labels": np.zeros(6000, int)}, "labels needs all rows at once"),
        ({"sample_weight": np.ones(5999)}, "sample_weight: expected 6000 numbers"),
        ({"sample_weight": np.eye(1, 6000)[0]}, "rows of the sample that is searched have weight 0"),
        ({"missing": True}, "missing needs all rows at once"),
        ({"memory": "much"}, "memory: expected a size of memory, as 1GiB"),
        ({"memory": 0}, "memory: expected a size of memory"),
        ({"memory": True}, "memory: expected a size of memory"),
        ({"memory": 5000}, "memory: expected at least"),
        ({"family": "laplace", "covariance": None}, "no function of sums over rows"),
    ],
)
def test_what_needs_all_rows_at_once_is_refused(x: np.ndarray, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        _fit(x, **({"memory": MEMORY} | options))


@pytest.mark.parametrize("engine", ["em", "gradient_em"])
def test_weighted_rows_in_blocks_count_as_in_memory(x: np.ndarray, engine: str) -> None:
    """Priors are scaled to the sample and to all rows, so that the two maxima differ a little."""
    weight = np.random.default_rng(0).integers(0, 4, len(x)).astype(float)
    how: dict[str, Any] = {"engine": engine, "sample_weight": weight, "standardise": True, "restarts": 2}
    fitted = _fit(x, memory=MEMORY, **how)
    whole = _fit(x, **how)
    log_prob = fitted.log_prob(x)
    total, of_whole = (total_log_likelihood(fit.tree) for fit in (fitted, whole))
    assert total is not None
    assert of_whole is not None
    np.testing.assert_allclose(total.item(), weight @ log_prob, rtol=1e-9)
    np.testing.assert_allclose(total, of_whole, rtol=1e-6)
    np.testing.assert_allclose(_means(fitted), _means(whole), atol=3e-2)
    labels = fitted.predict(x)["label"].values
    counted = np.bincount(labels[weight > 0], minlength=3)
    np.testing.assert_array_equal(fitted.tree["memory"]["size"].values, counted)
    confidence = fitted.predict(x)["confidence"].values
    found = information(fitted.tree, 5)
    np.testing.assert_allclose(found.bic, 5 * np.log(weight.sum()) - 2 * weight @ log_prob, rtol=1e-9)
    np.testing.assert_allclose(found.icl, found.bic - 2 * weight @ np.log(confidence), rtol=1e-9)


def test_a_row_that_no_memory_can_have_is_named_by_its_number(x: np.ndarray) -> None:
    rows = (x > 5).astype(float)
    rows[4321, 1] = 0.5
    with pytest.raises(InputError, match=r"row 4321.*column 'x1': 0\.5"):
        _fit(rows, memory=MEMORY, family="bernoulli", covariance=None)
    gone = x.copy()
    gone[4321, 1] = np.nan
    with pytest.raises(InputError, match="row 4321"):
        _fit(gone, memory=MEMORY)


def test_rows_that_fit_are_fitted_as_without_a_limit(x: np.ndarray) -> None:
    one, other = _fit(x[:500]), _fit(x[:500], memory="1GiB")
    assert "all_rows" not in other.tree.children
    np.testing.assert_array_equal(one.tree["posterior"]["loc"], other.tree["posterior"]["loc"])


_PEAK = """
import sys
import jax
jax.config.update("jax_enable_x64", False)
from probam.fits.fit import fit_essentials
from probam.reports.tree import num_data
path, rows, memory = sys.argv[1:]
options = dict(weights="dirichlet", components=8, covariance="diagonal", max_iterations=3, restarts=2)
fitted = fit_essentials(path, engine="em", memory=memory, **options)
assert num_data(fitted.made) == int(rows)
"""


def _written(path: Path, num_rows: int, num_features: int = 16) -> Path:
    """A file of single-precision rows, written a part at a time."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(8, num_features)).astype(np.float32) * 4
    rows = np.lib.format.open_memmap(path, "w+", np.float32, (num_rows, num_features))
    for begin in range(0, num_rows, 100_000):
        count = min(100_000, num_rows - begin)
        noise = rng.standard_normal((count, num_features), np.float32)
        rows[begin : begin + count] = centres[rng.integers(8, size=count)] + noise
    rows.flush()
    return path


def _peak(folder: Path, num_rows: int, memory: str) -> int:
    """Peak memory of a process that fits so many rows, in bytes; the compiler's own is not in it."""
    path = _written(folder / f"{num_rows}.npy", num_rows)
    kept = {
        "JAX_COMPILATION_CACHE_DIR": str(folder),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    words = [sys.executable, "-c", _PEAK, str(path), str(num_rows), memory]
    return int(cpu_and_peak(words, os.environ | kept)[1] * 2**20)


def test_memory_stays_within_the_limit_beyond_that_of_a_small_fit(tmp_path: Path) -> None:
    """128 MB of rows; the sample has 4096. The first runs compile, the others find the programs."""
    limit = 64 * 2**20
    _peak(tmp_path, 4096, "1GiB")
    _peak(tmp_path, 100_000, str(limit))
    assert _peak(tmp_path, 2_000_000, str(limit)) < _peak(tmp_path, 4096, "1GiB") + limit


def _ran(*words: object) -> float:
    """Peak memory of a command, in MiB; what it took is printed (``-s``)."""
    cpu, peak = cpu_and_peak([sys.executable, "-m", "probam", *map(str, words), "--quiet"], dict(os.environ))
    print(f"\n{words[0]}: {cpu:.0f} CPU s, peak {peak:.0f} MiB", end="", flush=True)
    return peak


def _assert_finds(path: Path, centres: np.ndarray) -> None:
    """Memories of more than a hundredth of a group are the groups, as far as their rows tell; the others are few."""
    tree = probam.load(path).tree
    weight, mean = (np.asarray(variable(tree, "memory", name)) for name in ("weight", "mean"))
    large = weight > 0.01 / len(centres)
    print(f"\n{path.stem}: {large.sum()} memories of {len(large)}, weights {np.round(weight, 5)}", end="", flush=True)
    assert large.sum() == len(centres)
    assert weight[large].sum() > 0.999
    apart = np.abs(mean[large][:, None] - centres).max(axis=2)
    np.testing.assert_array_equal(np.sort(apart.argmin(axis=1)), np.arange(len(centres)))
    assert apart.min(axis=1).max() < 0.03


@pytest.mark.slow
@pytest.mark.timeout(6 * 3600)
def test_fifty_million_rows_are_fitted_streamed_predicted_and_reported_in_one_and_a_half_gibibytes(
    tmp_path: Path,
) -> None:
    """3.2 GB of rows, written in blocks; every process with all that it loads. The folder is removed at the end.

    ``PROBAM_CHECK_TYPES=0 python -m pytest -n0 -s -m slow tests/fits/test_larger.py`` prints what each command took.
    """
    num_rows = 50_000_000
    with TemporaryDirectory(dir=tmp_path) as folder:
        rows, fit, stream = (Path(folder) / name for name in ("rows.npy", "em.nc", "stream.nc"))
        _written(rows, num_rows)
        centres = np.random.default_rng(0).normal(size=(8, 16)).astype(np.float32) * 4
        model = ("--covariance", "diagonal")
        em = (*model, "--engine", "em", "--weights", "dirichlet", "--components", "8", "--restarts", "2")
        peaks = [_ran("fit", rows, *em, "--memory", "256MiB", "-o", fit)]
        _assert_finds(fit, centres)
        peaks += [_ran("report", fit, "-o", Path(folder) / "em.html")]
        peaks += [_ran("predict", fit, rows, "-o", Path(folder) / "labels.parquet")]
        labels = pd.read_parquet(Path(folder) / "labels.parquet", columns=["label"])["label"]
        assert np.ptp(np.bincount(labels, minlength=8)) < 0.01 * num_rows
        assert len(labels) == num_rows
        peaks += [_ran("stream", rows, *model, "--float32", "-o", stream)]
        _assert_finds(stream, centres)
        assert probam.Stream.load(stream).memories()["count"].sum() == pytest.approx(num_rows, rel=1e-6)
        assert max(peaks) < 1.5 * 2**10
