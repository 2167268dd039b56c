"""Fits side by side, on fits whose posterior is known exactly."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import probam.fits.fit as api
from probam.comparison.compare import (
    compare,
    compare_engines,
    comparison_record,
    comparison_text,
    cross_validate,
    evidence,
    free_parameters,
    held_out_score,
    split,
)
from probam.errors import InputError
from probam.fits.fitted import Fit
from probam.models.gaussian import Gaussian
from probam.models.mixture import mixture
from probam.models.von_mises_fisher import VonMisesFisherMemory
from probam.models.weights import weight_prior
from probam.reports.tree import build_tree
from tests.inference.enumeration import log_marginal
from tests.models.known_precision import KnownPrecision

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
SCALE, CENTER = 2.0, 1.0
RNG = np.random.default_rng(0)
X = RNG.normal(1.5, 2.0, 30)
HELD = RNG.normal(1.5, 2.0, 40)


def one_memory(
    variance: float, base: float, *, seed: int = 0, engine: str = "nuts", stored: float | None = None
) -> Fit:
    """A fit of one memory of known variance whose draws are exact; data in other units than the model."""
    z = (X - CENTER) / SCALE
    precision = 1 / base + len(z) / variance
    mean = z.sum() / variance / precision
    shape = (2, 500) if engine == "nuts" else (1, 1)
    loc = np.random.default_rng(seed).normal(mean, precision**-0.5, shape) if engine == "nuts" else np.full(shape, mean)
    model = mixture(
        z[:, None],
        family=KnownPrecision(variance, base),
        weights=weight_prior("uniform"),
        num_components=1,
    )
    log_lik = np.asarray(stats.norm.logpdf(z, loc[..., None], variance**0.5))
    lp = stats.norm.logpdf(loc, 0, base**0.5) + log_lik.sum(axis=-1)
    tree = build_tree(
        attributes={
            "probam_version": "0",
            "engine": engine,
            "engine_options": {"estimate": "ml"} if engine == "em" else {},
            "weights": "uniform",
            "seconds": 2.0,
            "dtype": "float64",
            "model": "one memory",
        },
        data=X[:, None],
        columns=["x"],
        center=np.array([CENTER]),
        scale=np.array([SCALE]),
        posterior={
            "loc": (loc[..., None, None], ("chain", "draw", "memory", "feature")),
            "weights": (np.ones((*shape, 1)), ("chain", "draw", "memory")),
        },
        sample_stats={"lp": (lp, ("chain", "draw"))},
        invariant={
            "num_occupied": (np.ones(shape), ("chain", "draw")),
            "log_lik": (log_lik.sum(-1), ("chain", "draw")),
        },
        log_likelihood={"x": (log_lik - np.log(SCALE), ("chain", "draw", "datum"))},
        memory={"permutation": (np.zeros((loc.size, 1), np.int32), ("sample", "memory"))},
        partition={"label": (np.zeros(len(X), int), ("datum",)), "confidence": (np.ones(len(X)), ("datum",))},
        group_attributes={"memory": {"reference": 0}},
    )
    if stored is not None:
        tree["evidence/log_evidence"] = ("run", np.full(2, stored))
        tree["evidence"].attrs.update(log_evidence=stored, se=0.1, method="said")
    return Fit(tree, model)


def predictive(variance: float, base: float, data: np.ndarray) -> np.ndarray:
    """Exact log predictive density, data units."""
    z = (X - CENTER) / SCALE
    precision = 1 / base + len(z) / variance
    spread = np.sqrt(1 / precision + variance)
    return np.asarray(
        stats.norm.logpdf((data - CENTER) / SCALE, z.sum() / variance / precision, spread) - np.log(SCALE)
    )


def cell(frame: pd.DataFrame, row: Any, column: str) -> float:
    return float(frame[column].to_dict()[row])


@pytest.fixture(scope="module")
def fits() -> dict[str, Fit]:
    return {
        "wide": one_memory(4.0, 1.0, seed=1),
        "right": one_memory(1.0, 2.0),
        "point": one_memory(1.0, 2.0, engine="em"),
    }


def test_held_out_score_is_the_predictive_density_of_the_data_in_their_units(fits: Mapping[str, Fit]) -> None:
    exact = predictive(1.0, 2.0, HELD)
    found = held_out_score(fits["right"], HELD[:, None])
    assert 0 < found.mcse < 0.01
    assert abs(found.mean - exact.mean()) < 5 * found.mcse
    np.testing.assert_allclose(found.se, exact.std(ddof=1) / np.sqrt(len(HELD)), rtol=0.05)
    assert np.isnan(held_out_score(fits["point"], HELD[:, None]).mcse)


def test_evidence_by_bridge_is_that_of_the_data_in_their_units(fits: Mapping[str, Fit]) -> None:
    z = (X - CENTER) / SCALE
    found = evidence(fits["right"])
    assert abs(found.log_evidence - (log_marginal(z, 1.0, 2.0) - len(X) * np.log(SCALE))) < 5 * found.se < 0.02
    with pytest.raises(InputError, match="engine 'em' has no draws of the posterior; use engine 'smc' or 'nuts'"):
        evidence(fits["point"])
    assert evidence(one_memory(1.0, 2.0, stored=-12.5)).log_evidence == -12.5


def test_draws_of_another_density_have_no_bridge(fits: Mapping[str, Fit]) -> None:
    """A saved fit does not keep the user's own priors: the density that comes back is another."""
    other = mixture(X[:, None], family=KnownPrecision(1.0, 3.0), weights=weight_prior("uniform"), num_components=1)
    with pytest.raises(InputError, match="the draws are not of this model's posterior"):
        evidence(Fit(fits["right"].tree, other))


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
    assert "point: loo: this fit is one best setting" in text
    assert "log_score_diff" in text
    record = json.loads(json.dumps(comparison_record(frame)))
    assert [one["name"] for one in record["fits"]] == list(frame.index)
    assert record["fits"][0]["log_score_diff"] == 0
    assert record["fits"][-1]["bic"] is None


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
    with pytest.raises(InputError, match="fits: expected at least one"):
        compare({})


@pytest.mark.parametrize(
    ("family", "num_features", "num_components", "weights", "expected"),
    [
        (Gaussian("full"), 3, 3, "dirichlet", 29),  # mclust VVV,3 in three dimensions
        (Gaussian("isotropic"), 1, 2, "dirichlet", 4),  # mclust E,2
        (Gaussian("diagonal"), 4, 3, "uniform", 24),
        (Gaussian("lkj"), 3, 2, "dirichlet", 19),  # as full
        (VonMisesFisherMemory(), 3, 2, "dirichlet", 7),  # two angles and a concentration each, and a weight
    ],
    ids=["VVV", "E", "VVI with equal weights", "lkj", "von Mises-Fisher"],
)
def test_free_parameters_are_those_that_others_count(
    family: Any, num_features: int, num_components: int, weights: str, expected: int
) -> None:
    x = np.random.default_rng(1).normal(size=(20, num_features))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    model = mixture(x + 0.1, family=family, weights=weight_prior(weights), num_components=num_components)
    assert free_parameters(model) == expected


def test_a_split_is_a_partition_and_the_seed_decides_it() -> None:
    rows, held = split(23, 0.3, 4)
    assert sorted([*rows, *held]) == list(range(23))
    assert len(held) == 7
    np.testing.assert_array_equal(held, split(23, 0.3, 4)[1])
    assert not np.array_equal(held, split(23, 0.3, 5)[1])
    with pytest.raises(InputError, match="leaves nothing on one side"):
        split(3, 0.01, 0)


class _Moments:
    """Stands for a fit: a normal law at the mean and sd of what it was given."""

    def __init__(self, data: pd.DataFrame) -> None:
        self.mean, self.sd = float(data.to_numpy().mean()), float(data.to_numpy().std())

    def log_prob(self, data: pd.DataFrame) -> np.ndarray:
        return np.asarray(stats.norm.logpdf(data.to_numpy()[:, 0], self.mean, self.sd))


def test_cross_validation_never_scores_a_datum_that_was_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "fit", lambda data, **options: _Moments(data))
    found = cross_validate(X[:, None], num_folds=4, seed=2)
    for k in range(4):
        rest = X[found.fold != k]
        expected = stats.norm.logpdf(X[found.fold == k], rest.mean(), rest.std())
        np.testing.assert_allclose(found.pointwise[found.fold == k], expected)
    assert np.bincount(found.fold).tolist() == [8, 8, 7, 7]
    np.testing.assert_allclose(found.mean, found.pointwise.mean())
    with pytest.raises(InputError, match="num_folds: expected 2 to 30"):
        cross_validate(X[:, None], num_folds=31)


@pytest.mark.slow
def test_engines_are_compared_on_the_same_rows_and_those_that_cannot_fit_are_named() -> None:
    rng = np.random.default_rng(6)
    truth = np.repeat([0, 1], [40, 60])
    x = np.where(truth[:, None] == 0, -3.0, 3.0) + rng.normal(size=(100, 2))
    frame, found = compare_engines(
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
    assert set(found) == {"em", "gibbs", "nuts"}
    assert (frame["ari"] == 1).all()
    np.testing.assert_allclose(cell(frame, "gibbs", "log_score"), cell(frame, "nuts", "log_score"), atol=0.02)
    assert (frame["log_score_diff"] <= 0).all()
    frame, _ = compare_engines(x, ("em", "gradient_em"), covariance="lkj", weights="uniform", components=2)
    assert list(frame.index) == ["gradient_em"]
    assert "no closed-form M-step" in frame.attrs["notes"]["em"][0]


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
    found = cell(frame, "fit", "bic")
    num_free = free_parameters(fitted.model)
    ours = 0.5 * (num_free * np.log(len(x)) - found)
    assert ours > log_lik - 2e-3
    np.testing.assert_allclose(found + 2 * (ours - log_lik), bic, atol=2e-3)
    assert np.isfinite(cell(frame, "fit", "icl"))
