"""Questions to a fit are not training data: rows with gaps, asked alone, and the features that the fit has learned."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import probam.fits.fit as api
from probam.comparison.compare import compare
from probam.comparison.scores import cross_validate, held_out_score
from probam.errors import InputError
from probam.fits.fitted import Fit
from probam.streams.stream import Stream

RNG = np.random.default_rng(0)
X = np.concatenate([RNG.normal(-2, 1, (80, 3)), RNG.normal(2, 1, (80, 3))])
GAPS = np.array([[-2.0, np.nan, -1.5], [2.0, 1.0, 2.0], [np.nan, 1.0, np.nan]])
MODEL: dict[str, Any] = {"weights": "dirichlet", "components": 2, "covariance": "diagonal", "engine": "em"}


@pytest.fixture(scope="module")
def fit() -> Fit:
    """Two memories of three named features."""
    return api.fit(pd.DataFrame(X, columns=["a", "b", "c"]), restarts=1, **MODEL)


@pytest.fixture(scope="module")
def unnamed() -> Fit:
    """The same memories of three features without names."""
    return api.fit(X, restarts=1, **MODEL)


@pytest.fixture(scope="module")
def stream() -> Stream:
    """A stream of the same named rows."""
    return Stream(covariance="diagonal", warm=50).partial_fit(pd.DataFrame(X, columns=["a", "b", "c"]))


ANSWERS: dict[str, Callable[[Fit, Any], Any]] = {
    "log_prob": lambda fit, rows: fit.log_prob(rows),
    "responsibilities": lambda fit, rows: fit.responsibilities(rows),
    "predict": lambda fit, rows: fit.predict(rows)["log_density"],
    "conditional_mean": lambda fit, rows: fit.complete(rows)["conditional_mean"],
    "conditional_sd": lambda fit, rows: fit.complete(rows)["conditional_sd"],
    "descent": lambda fit, rows: fit.complete(rows)["descent"],
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_a_rows_answer_does_not_depend_on_the_rows_beside_it(unnamed: Fit, answer: Callable[[Fit, Any], Any]) -> None:
    together = np.asarray(answer(unnamed, GAPS))
    alone = np.concatenate([np.asarray(answer(unnamed, GAPS[[row]])) for row in range(len(GAPS))])
    assert np.isfinite(together).all()
    np.testing.assert_allclose(alone, together, rtol=1e-12)


def test_a_column_without_values_cannot_be_learned_and_recall_needs_whole_rows(unnamed: Fit) -> None:
    with pytest.raises(InputError, match="column 'x1' has no values; leave it out"):
        api.fit(np.where([False, True, False], np.nan, X), missing=True, **MODEL)
    for question in (unnamed.recall, unnamed.energy):
        with pytest.raises(InputError, match=r"column 'x1' has a missing value in row 0 .*need whole rows: impute"):
            question(GAPS)
    with pytest.raises(InputError, match=r"row 0 .* has no values"):
        unnamed.predict(np.full((1, 3), np.nan))


def test_gaps_that_a_family_cannot_integrate_out_are_refused_with_its_reason() -> None:
    rows = np.array([[0.6, 0.8], [0.8, 0.6], [1.0, 0.0]])
    fit = api.fit(rows, family="vmf", weights="uniform", components=1, engine="em", restarts=1)
    for question in (fit.predict, fit.log_prob):
        with pytest.raises(InputError, match=r"family 'vmf' cannot integrate them out: .*; leave those"):
            question(np.array([[0.6, np.nan]]))


def test_scores_of_rows_with_gaps() -> None:
    missing = np.where(RNG.uniform(size=X.shape) < 0.1, np.nan, X)
    missing[np.isnan(missing).all(axis=1)] = 0.0
    sampled = api.fit(missing, missing=True, num_warmup=20, num_draws=40, num_chains=2, **(MODEL | {"engine": "gibbs"}))
    score = held_out_score(sampled, GAPS[:1])
    np.testing.assert_allclose(score.mean, sampled.log_prob(GAPS)[0], rtol=1e-12)
    assert 0 < score.mcse < 1
    frame = compare([sampled], GAPS)
    np.testing.assert_allclose(frame["log_score"].iloc[0], sampled.log_prob(GAPS).mean())
    folds = cross_validate(missing, num_folds=2, missing=True, restarts=1, **MODEL)
    assert np.isfinite(folds.pointwise).all()


QUESTIONS = ["predict", "log_prob", "responsibilities", "recall", "complete", "energy"]


@pytest.mark.parametrize("name", [*QUESTIONS, "stream.predict", "stream.partial_fit"])
def test_other_features_than_those_learned_are_refused(fit: Fit, unnamed: Fit, stream: Stream, name: str) -> None:
    of_stream = name.startswith("stream.")
    asked = (
        [getattr(stream, name.removeprefix("stream."))] if of_stream else [getattr(fit, name), getattr(unnamed, name)]
    )
    for question in asked:
        for width in (2, 4):  # of four columns the first would be a row number
            with pytest.raises(
                InputError, match=rf"expected the 3 features that were learned \(.*\); got {width} \('x0'"
            ):
                question(np.ones((3, width)))
    before = stream.num_data
    one_off = pd.DataFrame(X[:3], columns=["a", "B", "c"])
    with pytest.raises(
        InputError, match=r"\('a', 'b', 'c'\); got 3 \('a', 'B', 'c'\); no column is called 'b'; rename"
    ):
        asked[0](one_off)
    assert stream.num_data == before


@pytest.mark.parametrize("name", QUESTIONS)
def test_columns_are_reordered_by_name_and_others_are_left_alone(fit: Fit, name: str) -> None:
    question = getattr(fit, name)
    shuffled = pd.DataFrame({"c": X[:9, 2], "day": "monday", "a": X[:9, 0], "b": X[:9, 1]})
    answers = [question(rows) for rows in (X[:9], shuffled, pd.DataFrame(X[:9]), xr.DataArray(X[:9]))]
    for answer in answers[1:]:
        if isinstance(answer, xr.Dataset):
            xr.testing.assert_equal(answer, answers[0])
        else:
            np.testing.assert_array_equal(answer, answers[0])


def test_a_stream_reorders_by_name(stream: Stream) -> None:
    shuffled = pd.DataFrame({"c": X[:9, 2], "a": X[:9, 0], "b": X[:9, 1]})
    xr.testing.assert_equal(stream.predict(shuffled), stream.predict(X[:9]))


def test_files_keep_whether_their_columns_have_names(fit: Fit, unnamed: Fit, tmp_path: Path) -> None:
    plain, numbered = tmp_path / "plain.csv", tmp_path / "numbered.csv"
    np.savetxt(plain, X[:5], delimiter=",")
    np.savetxt(numbered, np.column_stack([np.arange(5), X[:5]]), delimiter=",")
    for fitted in (fit, unnamed):
        np.testing.assert_array_equal(fitted.log_prob(plain), fitted.log_prob(X[:5]))
        with pytest.raises(InputError, match=r"numbered.csv: expected the 3 features .*; got 4"):
            fitted.log_prob(numbered)
    named = tmp_path / "named.csv"
    pd.DataFrame(X[:5], columns=["x2", "x1", "x0"]).to_csv(named, index=False)
    np.testing.assert_array_equal(unnamed.log_prob(named), unnamed.log_prob(X[:5, ::-1]))
