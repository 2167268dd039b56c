"""Scores of one fit, on fits whose posterior is known exactly."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import stats

import probam.fits.fit as api
from probam.comparison.scores import cross_validate, evidence, held_out_score
from probam.errors import InputError
from probam.fits.fitted import Fit
from probam.inference.common.coordinates import free_parameters
from probam.models.gaussian import Gaussian
from probam.models.mixture import mixture
from probam.models.von_mises_fisher import VonMisesFisherMemory
from probam.models.weights import weight_prior
from tests.comparison.exact_fits import CENTER, HELD, SCALE, X, one_memory, predictive
from tests.inference.enumeration import log_marginal
from tests.models.known_precision import KnownPrecision


def test_held_out_score_is_the_predictive_density_of_the_data_in_their_units(fits: Mapping[str, Fit]) -> None:
    exact = predictive(1.0, 2.0, HELD)
    score = held_out_score(fits["right"], HELD[:, None])
    assert 0 < score.mcse < 0.01
    assert abs(score.mean - exact.mean()) < 5 * score.mcse
    np.testing.assert_allclose(score.se, exact.std(ddof=1) / np.sqrt(len(HELD)), rtol=0.05)
    assert np.isnan(held_out_score(fits["point"], HELD[:, None]).mcse)


def test_evidence_by_bridge_is_that_of_the_data_in_their_units(fits: Mapping[str, Fit]) -> None:
    z = (X - CENTER) / SCALE
    estimate = evidence(fits["right"])
    assert abs(estimate.log_evidence - (log_marginal(z, 1.0, 2.0) - len(X) * np.log(SCALE))) < 5 * estimate.se < 0.02
    with pytest.raises(InputError, match="engine 'em' has no draws of the posterior; use engine 'smc' or 'nuts'"):
        evidence(fits["point"])
    assert evidence(one_memory(1.0, 2.0, stored=-12.5)).log_evidence == -12.5


def test_draws_of_another_density_have_no_bridge(fits: Mapping[str, Fit]) -> None:
    """Where a file cannot hold the user's own prior, the density that comes back is another."""
    other = mixture(X[:, None], family=KnownPrecision(1.0, 3.0), weights=weight_prior("uniform"), num_components=1)
    with pytest.raises(InputError, match="the draws are not of this model's posterior"):
        evidence(Fit(fits["right"].tree, other))


def test_labels_that_do_not_tell_all_memories_apart_have_no_bridge(fits: Mapping[str, Fit]) -> None:
    model = mixture(X[:, None], family=KnownPrecision(), weights=weight_prior("dirichlet"), num_components=3)
    tree = fits["right"].tree.copy()
    allowed = np.ones((len(X), 3), np.int8)
    allowed[0] = [1, 0, 0]
    tree["observed_data"] = xr.DataTree(
        tree["observed_data"].to_dataset().assign(allowed=(("datum", "memory"), allowed))
    )
    with pytest.raises(InputError, match=r"the known labels do not tell all memories apart.*engine 'smc'"):
        evidence(Fit(tree, model))


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


class _Moments:
    """Stands for a fit: a normal law at the mean and sd of what it was given."""

    def __init__(self, data: pd.DataFrame) -> None:
        self.mean, self.sd = float(data.to_numpy().mean()), float(data.to_numpy().std())

    def log_prob(self, data: pd.DataFrame) -> np.ndarray:
        return np.asarray(stats.norm.logpdf(data.to_numpy()[:, 0], self.mean, self.sd))


def test_cross_validation_never_scores_a_datum_that_was_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "fit", lambda data, **options: _Moments(data))
    result = cross_validate(X[:, None], num_folds=4, seed=2)
    for k in range(4):
        rest = X[result.fold != k]
        expected = stats.norm.logpdf(X[result.fold == k], rest.mean(), rest.std())
        np.testing.assert_allclose(result.pointwise[result.fold == k], expected)
    assert np.bincount(result.fold).tolist() == [8, 8, 7, 7]
    np.testing.assert_allclose(result.mean, result.pointwise.mean())
    with pytest.raises(InputError, match="num_folds: expected 2 to 30"):
        cross_validate(X[:, None], num_folds=31)


def test_weights_and_known_labels_go_with_the_rows_of_their_folds() -> None:
    rng = np.random.default_rng(3)
    known = np.arange(24) % 2
    frame = pd.DataFrame({"name": "n", "x": rng.normal(4 * known, 1)})
    weight, labels = rng.uniform(0.5, 2, 24), np.where(rng.uniform(size=24) < 0.5, known, -1)
    model: dict[str, Any] = {"covariance": "isotropic", "weights": "dirichlet", "components": 2, "engine": "em"}
    model["restarts"] = 1
    result = cross_validate(frame, num_folds=2, drop=["name"], sample_weight=weight, labels=labels, **model)
    for fold in range(2):
        held = result.fold == fold
        given = {"sample_weight": weight[~held], "labels": labels[~held]}
        fitted = api.fit(frame.loc[~held, ["x"]], **given, **model)
        np.testing.assert_array_equal(result.pointwise[held], fitted.log_prob(frame.loc[held, ["x"]]))
    with pytest.raises(InputError, match="sample_weight: expected one for each of 24 rows; got shape"):
        cross_validate(frame, num_folds=2, drop=["name"], sample_weight=weight[:3], **model)
