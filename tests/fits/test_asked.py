"""Questions about many rows go block after block: the answers are those of all rows, and errors name the row."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import probam.fits.fit as api
from probam.data.source import row_source
from probam.data.writing import joined
from probam.dynamics.recall import Recall
from probam.errors import InputError
from probam.fits.fitted import Fit
from probam.fits.landscape import Ends, Rests, basins

RNG = np.random.default_rng(1)
X = np.concatenate([RNG.normal(-2, 1, (60, 3)), RNG.normal(2, 1, (60, 3))])
ROWS = RNG.permutation(np.concatenate([RNG.normal(-2, 1, (20, 3)), RNG.normal(2, 1, (21, 3))]))
GAPS = np.where(RNG.random(ROWS.shape) < 0.2, np.nan, ROWS)
GAPS[np.isnan(GAPS).all(axis=1)] = 0.5
NAMES = ["a", "b", "c"]


@pytest.fixture(scope="module")
def fit() -> Fit:
    """Draws of two memories of three named features."""
    options: dict[str, Any] = {"engine": "gibbs", "num_chains": 1, "num_warmup": 20, "num_draws": 6}
    return api.fit(pd.DataFrame(X, columns=NAMES), weights="dirichlet", components=2, covariance="diagonal", **options)


BLOCKS: dict[str, tuple[Callable[[Fit, Any, int], Iterator[xr.Dataset]], np.ndarray]] = {
    "predict": (lambda fit, data, rows: fit.predict_blocks(data, rows=rows, spread=True), ROWS),
    "predict with gaps": (lambda fit, data, rows: fit.predict_blocks(data, rows=rows), GAPS),
    "labels alone": (lambda fit, data, rows: fit.predict_blocks(data, rows=rows, probabilities=False), ROWS),
    "recall": (lambda fit, data, rows: fit.recall_blocks(data, rows=rows), ROWS),
    "anneal": (lambda fit, data, rows: fit.anneal_blocks(data, 0.5, rows=rows, num_steps=20), ROWS),
    "complete": (lambda fit, data, rows: fit.complete_blocks(data, rows=rows), GAPS),
}


@pytest.mark.parametrize(("ask", "x"), BLOCKS.values(), ids=BLOCKS)
def test_blocks_together_are_the_answer(
    fit: Fit, tmp_path: Path, ask: Callable[[Fit, Any, int], Iterator[xr.Dataset]], x: np.ndarray
) -> None:
    whole = joined(ask(fit, x, 1000))
    pd.DataFrame(x, columns=NAMES).to_csv(tmp_path / "rows.csv", index_label="id")
    np.save(tmp_path / "rows.npy", x)
    along = next(iter(whole.data_vars.values())).dims[0]
    for data in (x, tmp_path / "rows.csv", tmp_path / "rows.npy", row_source(tmp_path / "rows.npy", missing=True)):
        parts = list(ask(fit, data, 10))
        assert [part.sizes[along] for part in parts] == [10, 10, 10, 10, 1]
        together = joined(parts)
        assert list(together.data_vars) == list(whole.data_vars)
        assert set(together.coords) == set(whole.coords)
        np.testing.assert_array_equal(together[along], np.arange(len(x)))
        for name, values in whole.data_vars.items():
            if name in ("steps", "residual", "converged"):
                continue  # where rounding ends the last step
            np.testing.assert_allclose(together[name], values, rtol=1e-9, atol=1e-9)


def test_a_path_is_answered_like_its_rows(fit: Fit, tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", ROWS)
    path = tmp_path / "rows.npy"
    np.testing.assert_array_equal(fit.log_prob(path), fit.log_prob(ROWS))
    np.testing.assert_array_equal(fit.responsibilities(path), fit.responsibilities(ROWS))
    xr.testing.assert_identical(fit.predict(path), fit.predict(ROWS))
    xr.testing.assert_identical(fit.recall(path), fit.recall(ROWS))


def test_many_rows_are_answered_as_they_are_alone(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = {
        "log_prob": fit.log_prob(ROWS),
        "shares": fit.responsibilities(ROWS),
        "ends": fit.recall(ROWS)["state"].values,
    }
    monkeypatch.setattr("probam.fits.questions._MOST", 7)
    assert [part.sizes["datum"] for part in fit.predict_blocks(ROWS)] == [7, 7, 7, 7, 7, 6]
    parts = {
        "log_prob": fit.log_prob(ROWS),
        "shares": fit.responsibilities(ROWS),
        "ends": fit.recall(ROWS)["state"].values,
    }
    for name, values in whole.items():
        np.testing.assert_allclose(parts[name], values, rtol=1e-9)


def _ends(states: np.ndarray, memory: list[int], converged: list[bool]) -> Ends:
    zero = jnp.zeros(len(states))
    recall = Recall(jnp.asarray(states), zero.astype(int), zero, zero, jnp.asarray(converged), None, None)
    return Ends(recall, np.array(memory), np.array(memory))


def test_ends_of_a_place_have_one_memory_in_all_blocks() -> None:
    place = np.array([[0.0, 0.0], [0.0, 1e-5], [5.0, 5.0]])
    first = _ends(place, [3, 1, 2], [True, True, False])
    rests = Rests(1.0)
    np.testing.assert_array_equal(rests.memories(first), basins(first, 1.0).memory)
    later = _ends(place + 2e-5, [0, 0, 0], [True] * 3)
    assert rests.memories(later).tolist() == [3, 3, 0]  # the last of the first block had not come to rest
    assert rests.memories(_ends(place[2:], [7], [True])).tolist() == [0]


@pytest.mark.parametrize(
    ("family", "good", "bad", "words"),
    [
        ("bernoulli", [0.0, 1.0], [0.5, 1.0], "1 values are neither 0 nor 1, the first in {row}, column "),
        ("dirichlet", [0.5, 0.5], [0.7, 0.7], "1 of 6 rows do not sum to 1, first {row}, whose sum is 1.4;"),
        ("multinomial", [3.0, 4.0], [2.5, 1.0], "1 values are not counts, the first in {row}, column "),
    ],
)
def test_an_error_in_a_block_names_the_row_of_the_file(
    tmp_path: Path, family: str, good: list[float], bad: list[float], words: str
) -> None:
    jitter = np.array([0.1, -0.1]) * (np.arange(40)[:, None] % 3) if family == "dirichlet" else np.zeros((40, 2))
    x = np.array([good if i % 2 else good[::-1] for i in range(40)]) + jitter
    fit = api.fit(pd.DataFrame(x, columns=["a", "b"]), family=family, weights="uniform", components=1, engine="em")
    rows = x.copy()
    rows[24] = bad
    pd.DataFrame(rows, columns=["a", "b"]).to_csv(tmp_path / "rows.csv", index=False)
    np.save(tmp_path / "rows.npy", rows)
    for path, row in (("rows.csv", "row 25 (line 26)"), ("rows.npy", "row 24 (counting from 0)")):
        with pytest.raises(InputError) as caught:
            list(fit.predict_blocks(tmp_path / path, rows=6))
        assert words.format(row=row) in str(caught.value)


def test_a_missing_entry_of_a_cue_has_its_row(fit: Fit, tmp_path: Path) -> None:
    frame = pd.DataFrame(ROWS, columns=NAMES)
    frame.loc[30, "b"] = np.nan
    frame.to_csv(tmp_path / "cues.csv", index=False)
    with pytest.raises(InputError, match=r"column 'b' has a missing value in row 31 \(line 32\); energy and recall"):
        list(fit.recall_blocks(tmp_path / "cues.csv", rows=4))
    with pytest.raises(InputError, match=r"column 'b' has a missing value in row 30 \(counting from 0\)"):
        fit.recall(frame)


def test_arguments_of_blocks_are_checked_before_a_row_is_read(fit: Fit) -> None:
    for ask in (fit.predict_blocks, fit.recall_blocks, fit.complete_blocks):
        with pytest.raises(InputError, match="rows: expected a whole number of at least 1; got 0"):
            ask("missing.csv", rows=0)
    with pytest.raises(InputError, match="noise: expected a number above 0"):
        fit.anneal_blocks("missing.csv", 0.0)
