"""Fits side by side, on fits whose posterior is known exactly."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import special, stats
from sklearn.metrics import adjusted_rand_score

import probam
import probam.fits.fit as api
from probam.comparison.compare import compare, comparison_record, comparison_text
from probam.comparison.engines import compare_engines
from probam.comparison.splits import split
from probam.errors import InputError
from probam.fits.fitted import Fit
from probam.inference.common.coordinates import free_parameters
from probam.reports.tree import variable
from tests.comparison.exact_fits import CENTER, HELD, SCALE, X, predictive

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


def cell(frame: pd.DataFrame, row: Any, column: str) -> float:
    return float(frame[column].to_dict()[row])


def test_fits_are_ordered_by_what_they_predict_with_paired_errors(fits: Mapping[str, Fit]) -> None:
    labels = np.arange(len(HELD)) % 2
    frame = compare(fits, HELD[:, None], labels, bridged=True)
    assert list(frame.index)[-1] == "wide"
    best = frame.index[0]
    exact = {name: predictive(*pair, HELD) for name, pair in (("wide", (4.0, 1.0)), ("right", (1.0, 2.0)))}
    gap = exact["wide"] - exact["right"]
    assert cell(frame, best, "log_score_diff") == 0
    assert cell(frame, best, "log_score_diff_se") == 0
    np.testing.assert_allclose(cell(frame, "wide", "log_score_diff"), gap.mean(), atol=0.02)
    np.testing.assert_allclose(cell(frame, "wide", "log_score_diff_se"), gap.std(ddof=1) / np.sqrt(len(HELD)), rtol=0.1)
    second = frame.index[1]  # as good as the best one, datum by datum: that is what pairing sees
    assert 0 < cell(frame, second, "log_score_diff_se") < 0.1 * cell(frame, second, "log_score_se")
    z_lik = predictive_at_the_mean(1.0, 2.0)
    np.testing.assert_allclose(cell(frame, "point", "bic"), np.log(len(X)) - 2 * z_lik, rtol=1e-9)
    assert np.isnan(cell(frame, "point", "elpd_loo"))
    assert np.isnan(cell(frame, "right", "bic"))
    assert cell(frame, "right", "log_evidence") > cell(frame, "wide", "log_evidence")
    np.testing.assert_allclose([cell(frame, name, "ari") for name in fits], 0.0, atol=1e-12)
    assert cell(frame, "right", "ess_per_second") > 100
    text = comparison_text(frame)
    assert "point: loo: a point estimate has no posterior draws" in text
    assert "log_score_diff" in text


def test_the_record_is_json_with_every_digit_and_null_for_what_is_not_finite(fits: Mapping[str, Fit]) -> None:
    frame = compare(fits)
    frame.loc["wide", "seconds"] = np.inf
    record = json.loads(json.dumps(comparison_record(frame), allow_nan=False))
    assert list(record["fits"]) == list(frame.index)
    assert record["fits"]["right"]["elpd_loo"] == cell(frame, "right", "elpd_loo")
    assert record["fits"]["right"]["bic"] is None
    assert record["fits"]["wide"]["seconds"] is None
    assert record["notes"] == frame.attrs["notes"]


def predictive_at_the_mean(variance: float, base: float) -> float:
    """Log likelihood of the fitted data at the posterior mean, data units."""
    z = (X - CENTER) / SCALE
    mean = z.sum() / variance / (1 / base + len(z) / variance)
    return float(np.sum(stats.norm.logpdf(z, mean, variance**0.5)) - len(X) * np.log(SCALE))


def test_without_held_out_data_leave_one_out_decides(fits: Mapping[str, Fit]) -> None:
    frame = compare({name: fits[name] for name in ("wide", "right")})
    assert list(frame.index) == ["right", "wide"]
    assert cell(frame, "wide", "elpd_diff") < 0 < cell(frame, "wide", "elpd_diff_se")
    assert frame["log_score"].isna().all()
    with pytest.raises(InputError, match="labels: expected one for each of 30 fitted data; got 3"):
        compare(fits, labels=[0, 1, 1])
    with pytest.raises(InputError, match="labels: expected one for each of 40 held-out rows; got 30"):
        compare(fits, HELD[:, None], np.zeros(30))


def test_log_scores_of_rows_of_other_lengths_have_no_difference(fits: Mapping[str, Fit]) -> None:
    divided = Fit(fits["right"].tree.copy(), fits["right"].model)
    divided.tree.attrs["normalised"] = 1
    frame = compare({"rows": fits["right"], "directions": divided}, HELD[:, None])
    assert frame["log_score"].notna().all()
    assert frame["log_score_diff"].isna().all()
    said = "not all fits divide each row by its length: their log scores cannot be compared"
    assert all(said in frame.attrs["notes"][name] for name in ("rows", "directions"))


def test_a_list_of_fits_is_numbered_from_one(fits: Mapping[str, Fit]) -> None:
    named = probam.compare({"fit 1": fits["wide"], "fit 2": fits["right"]})
    for several in ([fits["wide"], fits["right"]], (fits["wide"], fits["right"])):
        frame = probam.compare(several)
        pd.testing.assert_frame_equal(frame, named)
        assert list(frame.index) == ["fit 2", "fit 1"]


def test_what_is_no_collection_of_fits_is_refused_with_what_to_do(fits: Mapping[str, Fit], tmp_path: Path) -> None:
    one = fits["right"]
    for wrong, message in (
        (one, r"^fits: expected a list of fits, or a mapping of names to fits; got one fit; .*\[fit\]$"),
        ("em.nc", r"^fits: expected .*; got 'em\.nc'; load a saved fit first, \[probam\.load\('em\.nc'\)\]$"),
        (tmp_path, r"^fits: expected .*; got '/.*'; load a saved fit first, \[probam\.load\('/.*'\)\]$"),
        (3, r"^fits: expected .*; got int; put the fits into a list$"),
        (None, r"^fits: expected .*; got NoneType"),
        ({one}, r"^fits: expected .*; got set; put the fits into a list$"),
        (fits.values(), r"^fits: expected .*; got dict_values; put the fits into a list$"),
        ([], r"^fits: expected .*, at least one; got none$"),
        ({}, r"^fits: expected .*, at least one; got none$"),
        ([one, "em.nc"], r"^fits: expected .*; got str for 'fit 2'; load saved fits first, with probam\.load$"),
        ({"a": one, "b": 3}, r"^fits: expected .*; got int for 'b'; use what probam\.fit or probam\.load returns$"),
    ):
        with pytest.raises(InputError, match=message):
            probam.compare(wrong)  # type: ignore[arg-type]


def test_the_other_arguments_are_refused_by_name(fits: Mapping[str, Fit]) -> None:
    both = [fits["right"], fits["wide"]]
    with pytest.raises(InputError, match=r"^held_out: expected a 2-D array .*; got shape \(40,\)"):
        probam.compare(both, HELD)
    with pytest.raises(
        InputError, match=r"^held_out: expected the 1 feature that was learned \('x'\); got 2 \('x0', 'x1'\)"
    ):
        probam.compare(both, np.ones((4, 2)))
    with pytest.raises(InputError, match=r"^seed: expected a whole number from 0 to 2\^32 - 1; got -1$"):
        probam.compare(both, seed=-1)
    with pytest.raises(InputError, match=r"^bridged: expected True or False; got 'yes'$"):
        probam.compare(both, bridged="yes")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"^labels: expected one for each of 30 fitted data; got 3$"):
        probam.compare(both, labels=[0, 1, 1])
    with pytest.raises(InputError, match=r"^engines: expected a list of names, or 'all'; got 'em'; write \['em'\]$"):
        compare_engines(X[:, None], "em")


def test_attractors_are_counted_per_memory_on_the_draws_that_were_recalled(fits: Mapping[str, Fit]) -> None:
    fit = Fit(fits["right"].tree.copy(), fits["right"].model)
    occupied = np.ones((2, 500))
    occupied[:, 7], occupied[:, 8] = 4, 50  # recall was run at the draws 0 and 7
    invariant = fit.tree["invariant"].to_dataset().assign(num_occupied=(("chain", "draw"), occupied))
    fit.tree["invariant"] = xr.DataTree(invariant)
    fit.tree["recall"] = xr.DataTree(
        xr.Dataset({"num_attractors": (("chain", "draw"), [[1, 2], [3, 6]])}, coords={"chain": [0, 1], "draw": [0, 7]})
    )
    frame = compare({"fit": fit}, attractors=True)
    assert cell(frame, "fit", "attractors_per_memory") == np.mean([1 / 1, 2 / 4, 3 / 1, 6 / 4])
    assert np.isnan(cell(compare({"fit": fit}), "fit", "attractors_per_memory"))


@pytest.mark.slow
def test_wells_that_have_merged_are_one_attractor_and_recall_labels_by_it() -> None:
    rng = np.random.default_rng(9)
    truth = np.arange(240) % 3
    x = np.array([[-0.6, 0.0], [0.6, 0.0], [0.0, 9.0]])[truth] + 0.9 * rng.normal(size=(240, 2))
    fit = api.fit(x, covariance="isotropic", weights="uniform", components=3, engine="em", seed=0)
    frame = compare({"fit": fit}, labels=truth, attractors=True)
    memories, beta = (variable(fit.tree, "posterior", name).values[0, 0] for name in ("loc", "beta"))
    states = x
    for _ in range(3000):  # mean shift: the update of the energy
        states = special.softmax(-beta * ((states[:, None] - memories) ** 2).sum(-1), axis=1) @ memories
    ends = {tuple(state) for state in np.round(states, 3)}
    assert len(ends) == 2
    assert cell(frame, "fit", "attractors_per_memory") == len(ends) / 3
    apart = adjusted_rand_score(truth, states[:, 1] > 4)
    assert cell(frame, "fit", "ari_recall") == pytest.approx(apart, abs=1e-12)


def test_a_split_is_a_partition_and_the_seed_decides_it() -> None:
    rows, others = split(23, 0.3, 4)
    assert sorted([*rows, *others]) == list(range(23))
    assert len(others) == 7
    np.testing.assert_array_equal(others, split(23, 0.3, 4)[1])
    assert not np.array_equal(others, split(23, 0.3, 5)[1])
    with pytest.raises(InputError, match="leaves none to fit or none to hold out"):
        split(3, 0.01, 0)


@pytest.mark.slow
def test_engines_are_compared_on_the_same_rows_and_those_that_cannot_fit_are_named() -> None:
    rng = np.random.default_rng(6)
    truth = np.repeat([0, 1], [40, 60])
    x = np.where(truth[:, None] == 0, -3.0, 3.0) + rng.normal(size=(100, 2))
    frame, fitted = compare_engines(
        x,
        ("em", "gibbs", "nuts"),
        held_out=0.25,
        labels=truth,
        seed=1,
        engine_options={name: {"num_warmup": 100, "num_draws": 200, "num_chains": 2} for name in ("gibbs", "nuts")},
        covariance="diagonal",
        weights="dirichlet",
        components=2,
    )
    assert set(fitted) == {"em", "gibbs", "nuts"}
    assert (frame["ari"] == 1).all()
    np.testing.assert_allclose(cell(frame, "gibbs", "log_score"), cell(frame, "nuts", "log_score"), atol=0.02)
    assert (frame["log_score_diff"] <= 0).all()
    frame, _ = compare_engines(x, ("em", "gradient_em"), covariance="lkj", weights="uniform", components=2)
    assert list(frame.index) == ["gradient_em", "em"]
    assert "no closed-form M-step" in str(frame["estimate"].to_dict()["em"])
    assert np.isnan(cell(frame, "em", "log_score"))


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.exists(), reason="the shared data folder is not here")
@pytest.mark.parametrize(
    ("name", "covariance", "components", "log_lik", "bic"),
    [("acidity", "isotropic", 2, -185.9493, 392.0723), ("diabetes145", "full", 3, -2303.4956, 4751.3164)],
    ids=["acidity E,2", "diabetes VVV,3"],
)
def test_bic_is_mclusts(name: str, covariance: str, components: int, log_lik: float, bic: float) -> None:
    """mclust stops at its own tolerance and may end in another optimum: ours must be at least as high."""
    x = np.load(SHARED / name / "data.npz", allow_pickle=False)["X"]
    fitted = api.fit(
        x,
        covariance=covariance,
        weights="dirichlet",
        components=components,
        engine="em",
        estimate="ml",
        restarts=40,
        standardise=True,
    )
    frame = compare({"fit": fitted})
    own_bic = cell(frame, "fit", "bic")
    num_free = free_parameters(fitted.model)
    ours = 0.5 * (num_free * np.log(len(x)) - own_bic)
    assert ours > log_lik - 2e-3
    np.testing.assert_allclose(own_bic + 2 * (ours - log_lik), bic, atol=2e-3)
    assert np.isfinite(cell(frame, "fit", "icl"))
