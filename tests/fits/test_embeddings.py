"""Embeddings as they are published: lists in one column of Parquet, rounded to half precision or to decimals."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import probam.fits.fit as api
from probam.data.table import as_table
from probam.errors import InputError
from probam.models.von_mises_fisher import VonMisesFisherMemory

RNG = np.random.default_rng(0)
DIRECTIONS = RNG.normal(size=(60, 8)) + np.repeat([[4.0], [-4.0]], 30, axis=0)
DIRECTIONS /= np.linalg.norm(DIRECTIONS, axis=1, keepdims=True)
NAMES = tuple(f"embedding_{entry}" for entry in range(8))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_column_of_lists_is_fitted_and_questioned(dtype: Any, tmp_path: Path) -> None:
    path = tmp_path / "embeddings.parquet"
    rows = DIRECTIONS.astype(dtype)
    pd.DataFrame({"id": range(60), "text": ["t"] * 60, "embedding": list(rows)}).to_parquet(path)
    fit = api.fit(path, family="vmf", columns=["embedding"], weights="dirichlet", components=2, engine="em", restarts=1)
    assert fit.columns == NAMES
    answers = [fit.predict(data) for data in (path, as_table(path, columns=["embedding"]), rows)]
    for answer in answers:
        assert np.isfinite(answer["log_density"]).all()
        np.testing.assert_array_equal(answer["label"], answers[0]["label"])
    assert len(set(answers[0]["label"].values.tolist())) == 2


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_unit_length_has_one_rule_for_both_precisions(dtype: Any) -> None:
    family = VonMisesFisherMemory()
    for rounded in (DIRECTIONS.astype(np.float16), DIRECTIONS.round(4), DIRECTIONS * (1 + 0.9 * 2.0**-10)):
        family.check_support(rounded.astype(dtype), NAMES)
    for other in (1.0015, 0.9985):
        with pytest.raises(InputError, match=r"60 of 60 rows are not of unit length, first row 0 .*`--normalise`"):
            family.check_support((other * DIRECTIONS).astype(dtype), NAMES)


def test_rows_of_any_length_are_fitted_and_asked_as_directions(tmp_path: Path) -> None:
    lengths = np.random.default_rng(1).lognormal(0, 2, (60, 1))
    model: dict[str, Any] = {"family": "vmf", "weights": "dirichlet", "components": 2, "engine": "em", "restarts": 1}
    fit = api.fit(lengths * DIRECTIONS, normalise=True, **model)
    same = api.fit(as_table(lengths * DIRECTIONS).normalised(), **model)
    for site, values in same.draws().items():
        np.testing.assert_array_equal(fit.draws()[site], values)
    assert "each row divided by its length" in fit.tree.attrs["model"]
    fit.save(tmp_path / "fit.nc")
    expected = same.predict(DIRECTIONS)
    for asked in (fit, api.load(tmp_path / "fit.nc")):
        for scale in (1.0, 3.0, lengths):
            answer = asked.predict(scale * DIRECTIONS)
            np.testing.assert_allclose(answer["log_density"], expected["log_density"], atol=1e-9)
            np.testing.assert_array_equal(answer["label"], expected["label"])
    with pytest.raises(InputError, match="normalise: a row with missing entries has no length"):
        api.fit(DIRECTIONS, normalise=True, missing=True, **model)


@pytest.mark.parametrize("family", ["vmf", "gaussian"])
def test_a_row_with_gaps_has_no_length_and_a_fit_of_directions_answers_none(family: str) -> None:
    """Given values of other lengths would be answers to another question: both calls are refused, with a remedy."""
    fit = api.fit(
        5 * DIRECTIONS, family=family, normalise=True, weights="dirichlet", components=1, engine="em", restarts=1
    )
    gaps = 5 * np.where(np.arange(8) == 2, np.nan, DIRECTIONS[:3])
    said = r"divides each row by its length \(normalise=True, `--normalise`\), and a row with gaps has none: impute"
    for question in (fit.complete, fit.predict, fit.log_prob, fit.responsibilities, fit.recall, fit.energy):
        with pytest.raises(InputError, match=rf"column 'x2' has a missing value in row 0 .*{said}"):
            question(gaps)
    for target, given in (("x2", np.delete(gaps, 2, axis=1)), (None, gaps)):
        with pytest.raises(InputError, match=rf"given: a row without its target has gaps; .*{said}"):
            fit.conditional(target, given)
