"""Right models pass, wrong ones are caught, with gaps, bits and directions too; the file holds the judgement."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import probam.fits.fit as api
import probam.fits.predictive_check as predictive_check
from probam.errors import InputError
from probam.fits.choices import find_family
from probam.fits.draws import thin
from probam.fits.fitted import Fit
from probam.fits.groups import Group
from probam.fits.options import FitOptions
from probam.fits.predictive_check import drawn, predictive_check_group
from probam.fits.prepared import prepare
from probam.inference.em.engine import run
from probam.models.gaussian import Gaussian
from probam.models.mixture import mixture
from probam.models.weights import Dirichlet, Fixed
from probam.reports.html import report_html
from probam.reports.summaries.diagnostics import advice
from probam.reports.summaries.reproduction import FALSE_ALARM, reproduction

RNG = np.random.default_rng(3)
TWO_GROUPS = np.r_[RNG.normal(-3, 1, (80, 2)), RNG.normal(3, 1, (70, 2))]
GAPS = TWO_GROUPS.copy()
GAPS[RNG.random(150) < 0.2, 1] = np.nan
BITS = (RNG.random((150, 6)) < np.repeat(RNG.random((2, 6)), 75, axis=0)).astype(float)
DIRECTIONS = RNG.normal([3, 0, 0], 1, size=(150, 3))
DIRECTIONS /= np.linalg.norm(DIRECTIONS, axis=1, keepdims=True)


def fitted(x: np.ndarray, components: int, **options: Any) -> Fit:
    return api.fit(x, weights="dirichlet", components=components, engine="em", restarts=4, seed=0, **options)


def judged(x: np.ndarray, components: int, **options: Any) -> Group:
    """The judgement on an EM fit, without the other groups of its file."""
    chosen = FitOptions(components=components, **options)
    family = find_family(chosen.family, chosen.covariance)
    prepared = prepare(x, chosen, family)
    model = mixture(prepared.x, family=family, weights=Dirichlet(1.0), num_components=components)
    result = run(jax.random.key(0), model, jnp.asarray(prepared.x), restarts=4)
    return predictive_check_group(jax.random.key(1), thin(model, result, len(x)), prepared)


@pytest.fixture(scope="module")
def one_memory_for_two_groups() -> Fit:
    return fitted(TWO_GROUPS, 1, covariance="full")


@pytest.mark.parametrize(
    ("x", "components", "options"),
    [
        (TWO_GROUPS, 2, {"covariance": "isotropic"}),
        (GAPS, 2, {"covariance": "isotropic", "missing": True}),
        (BITS, 2, {"family": "bernoulli"}),
        (DIRECTIONS, 1, {"family": "vmf"}),
    ],
)
def test_data_of_the_fitted_family_are_reproduced(x: np.ndarray, components: int, options: dict[str, Any]) -> None:
    found = judged(x, components, **options).attributes
    assert found["p_value"] > FALSE_ALARM
    assert found["num_rows"] == 150
    assert found["num_replicates"] == 200


def test_a_right_model_is_rarely_blamed() -> None:
    """Twenty data sets of the model; two or more below 1 % have probability 0.02 at the stated rate."""
    p_values = []
    for seed in range(20):
        rng = np.random.default_rng([8, seed])
        x = np.r_[rng.normal(-2.5, 1, (80, 2)), rng.normal(2.5, 1, (70, 2))]
        p_values.append(judged(x, 2, covariance="isotropic").attributes["p_value"])
    assert np.sum(np.array(p_values) < FALSE_ALARM) <= 1


def test_one_memory_for_two_groups_is_caught_and_the_verdict_is_not_good(one_memory_for_two_groups: Fit) -> None:
    found = reproduction(one_memory_for_two_groups.tree)
    assert found is not None
    assert found.p_value == pytest.approx(1 / 201)
    assert "(150 rows and 2 features)" in str(found.what)
    said = advice(one_memory_for_two_groups.tree)
    assert [item.level for item in said if "does not reproduce" in item.text] == ["warning"]
    assert "good" not in [item.level for item in said]
    assert "The fit does not reproduce the data." in report_html(one_memory_for_two_groups.tree)


def test_the_judgement_is_saved_and_its_replicates_are_not(one_memory_for_two_groups: Fit, tmp_path: Path) -> None:
    one_memory_for_two_groups.save(tmp_path / "fit.nc")
    loaded = api.load(tmp_path / "fit.nc")
    group = loaded.tree["predictive_check"]
    xr.testing.assert_identical(group.to_dataset(), one_memory_for_two_groups.tree["predictive_check"].to_dataset())
    assert set(group.data_vars) == {"deviation", "aspect"}
    assert json.loads(group.attrs["looked_at"]) == ["spread", "dependence", "tails", "density"]


@pytest.mark.parametrize("largest", [predictive_check._LARGEST_BANK, 0])
def test_replicated_rows_have_the_moments_of_the_mixture(largest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """4,000 rows, from a bank of as many memories and from the mixture itself; tolerances are 5 standard errors."""
    monkeypatch.setattr(predictive_check, "_LARGEST_BANK", largest)
    family, weights = Gaussian("isotropic"), Fixed((0.2, 0.8))
    model = mixture(TWO_GROUPS, family=family, weights=weights, num_components=2)
    params = {"loc": jnp.array([[0.0, 3.0], [2.0, -1.0]]), "beta": jnp.array(2.0)}
    rows = np.asarray(drawn(model, params, model.mixture(params), jax.random.key(0), 4000))
    mean, covariance = np.array([1.6, -0.2]), np.eye(2) / 4 + 0.16 * np.outer([2, -4], [2, -4])
    sd = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(rows.mean(axis=0), mean, atol=float(5 * sd.max() / np.sqrt(4000)))
    np.testing.assert_allclose(np.cov(rows.T), covariance, atol=float(5 * np.sqrt(2 / 4000) * sd.max() ** 2))


def test_weighted_data_and_a_handful_of_rows_are_not_compared() -> None:
    with pytest.raises(InputError, match="7 data are too few"):
        judged(TWO_GROUPS[:7], 1, covariance="isotropic")
    with pytest.raises(InputError, match="the data have weights"):
        judged(TWO_GROUPS, 2, covariance="isotropic", sample_weight=np.ones(150))


def test_a_few_rows_of_many_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictive_check, "_MOST_ROWS", 60)
    assert judged(np.tile(TWO_GROUPS, (4, 1)), 2, covariance="isotropic").attributes["num_rows"] == 60
