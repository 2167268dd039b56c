"""ProbamMixture: the numbers of scikit-learn's mixtures where the model is the same, and what only probam has."""

import pickle
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.stats import multivariate_normal
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags

import probam.fits.fit as api
from probam.errors import InputError
from probam.estimators.mixture import ProbamMixture

RNG = np.random.default_rng(5)
X = np.concatenate([RNG.normal(-4, [1, 2], (40, 2)), RNG.normal(4, [2, 1], (60, 2))])
X[:, 1] += 0.5 * X[:, 0]
ORDER = RNG.permutation(100)
X, LABELS = X[ORDER], np.repeat([1, 0], [40, 60])[ORDER]  # the larger memory comes first

VARIATIONAL: dict[str, Any] = {"engine": "cavi", "covariance_type": "diag", "fit_options": {"num_draws": 20}}


@pytest.fixture(scope="module")
def mixture() -> ProbamMixture:
    return ProbamMixture(n_components=2, n_init=2).fit(X)


@pytest.mark.parametrize(
    "kind", ["full", "diag", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("tied", "spherical"))]
)
def test_maximum_likelihood_has_the_numbers_of_scikit_learn(kind: Any) -> None:
    ours = ProbamMixture(2, covariance_type=kind, estimate="ml", n_init=2).fit(X)
    theirs = GaussianMixture(2, covariance_type=kind, tol=1e-13, reg_covar=0, max_iter=2000, random_state=0).fit(X)
    order = np.argsort(-theirs.weights_)
    np.testing.assert_allclose(ours.weights_, theirs.weights_[order], rtol=1e-5)
    np.testing.assert_allclose(ours.means_, theirs.means_[order], rtol=1e-4)
    covariances = theirs.covariances_ if kind == "tied" else theirs.covariances_[order]
    assert ours.covariances_.shape == covariances.shape
    np.testing.assert_allclose(ours.covariances_, covariances, rtol=1e-4)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X)[:, order], atol=1e-5)
    np.testing.assert_allclose(ours.score_samples(X), theirs.score_samples(X), rtol=1e-5)
    assert ours.score(X) == pytest.approx(theirs.score(X), rel=1e-9)
    assert ours.lower_bound_ == pytest.approx(theirs.lower_bound_, rel=1e-9)
    assert ours.aic(X) == pytest.approx(theirs.aic(X), rel=1e-9)
    assert ours.bic(X) == pytest.approx(theirs.bic(X), rel=1e-9)
    assert ours.converged_ is True
    assert ours.n_iter_ > 1


def test_probabilities_are_those_of_the_attributes(mixture: ProbamMixture) -> None:
    joint = mixture.weights_ * np.stack(
        [multivariate_normal(m, c).pdf(X) for m, c in zip(mixture.means_, mixture.covariances_, strict=True)], axis=1
    )
    np.testing.assert_allclose(mixture.score_samples(X), np.log(joint.sum(axis=1)), rtol=1e-10)
    np.testing.assert_allclose(mixture.predict_proba(X), joint / joint.sum(axis=1, keepdims=True), atol=1e-12)
    np.testing.assert_array_equal(mixture.predict(X), joint.argmax(axis=1))
    assert np.mean(mixture.fit_predict(X) == LABELS) > 0.97


def test_an_estimator_is_the_fit_of_its_seed(mixture: ProbamMixture) -> None:
    ours = mixture.to_fit()
    assert "predictive_check" not in ours.made.children, "what no question needs is not made by fitting"
    fit = api.fit(X, weights="dirichlet", components=2, engine="em", restarts=2)
    for name in fit.tree.children:
        xr.testing.assert_identical(ours.tree[name].to_dataset(), fit.tree[name].to_dataset())
    assert ours.tree.attrs.keys() == fit.tree.attrs.keys()
    differs = {name for name, value in fit.tree.attrs.items() if ours.tree.attrs[name] != value}
    assert differs <= {"seconds", "source", "command"}
    other = ProbamMixture(n_components=2, random_state=np.random.RandomState(3)).fit(X)
    assert 0 <= other.to_fit().tree.attrs["seed"] < 2**32


def test_weights_of_rows_are_repetitions_of_rows() -> None:
    weight = RNG.integers(0, 4, len(X))
    estimator = ProbamMixture(estimate="ml").fit(X, sample_weight=weight)
    repeated = X.repeat(weight, axis=0)
    np.testing.assert_allclose(estimator.means_[0], repeated.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(estimator.covariances_[0], np.cov(repeated.T, bias=True), rtol=1e-6)
    assert estimator.lower_bound_ == pytest.approx(estimator.score(repeated), rel=1e-9)


def test_missing_entries_are_integrated_out() -> None:
    gaps = X.copy()
    gaps[::5, 1] = np.nan
    estimator = ProbamMixture(2, covariance_type="diag", n_init=2).fit(gaps)
    assert get_tags(estimator).input_tags.allow_nan
    seen = estimator.score_samples([[1.0, np.nan]])
    widths = np.sqrt(estimator.covariances_[:, 0])
    joint = estimator.weights_ * np.exp(-0.5 * ((1 - estimator.means_[:, 0]) / widths) ** 2) / widths
    assert seen[0] == pytest.approx(np.log(joint.sum() / np.sqrt(2 * np.pi)), rel=1e-9)
    for other in ({"engine": "clam"}, {"family": "student_t"}, {"normalise": True}, {"family": "no such family"}):
        refusing = clone(estimator).set_params(covariance_type=None, **other)
        assert not get_tags(refusing).input_tags.allow_nan
        with pytest.raises(ValueError, match="NaN"):
            refusing.fit(gaps)


def test_search_pipeline_and_names_of_features() -> None:
    frame = pd.DataFrame(X, columns=["length", "width"])
    search = GridSearchCV(ProbamMixture(n_init=1, covariance_type="diag"), {"n_components": [1, 2]}, cv=2).fit(frame)
    assert search.best_params_ == {"n_components": 2}
    best = search.best_estimator_.set_output(transform="pandas")
    features = best.transform(frame)
    assert list(features.columns) == ["probammixture0", "probammixture1"]
    assert list(best.feature_names_in_) == ["length", "width"]
    np.testing.assert_allclose(features.to_numpy(), best.predict_proba(frame))
    chain = make_pipeline(StandardScaler(), ProbamMixture(2, n_init=1, covariance_type="diag"), LogisticRegression())
    assert chain.fit(X, LABELS).score(X, LABELS) > 0.97
    law = best.conditional("width", given={"length": [1.0]})
    assert law.mean.sizes == {"datum": 1, "feature": 1}


def test_one_gaussian_regresses_as_least_squares_do() -> None:
    estimator = ProbamMixture(estimate="ml").fit(X)
    slope, intercept = np.polyfit(X[:, 0], X[:, 1], 1)
    law = estimator.conditional("x1", given=[[0.5], [2.0]])
    np.testing.assert_allclose(law.mean.values.ravel(), intercept + slope * np.array([0.5, 2.0]), rtol=1e-6)


def test_samples_have_their_memories_and_recall_ends_at_them(mixture: ProbamMixture) -> None:
    rows, labels = mixture.sample(400)
    assert rows.shape == (400, 2)
    assert np.mean(labels == mixture.predict(rows)) > 0.97
    assert abs(np.mean(labels == 0) - mixture.weights_[0]) < 4 * np.sqrt(0.25 / 400)
    np.testing.assert_array_equal(mixture.sample(400)[1], labels)
    far = mixture.recall(mixture.means_ + 0.5)
    np.testing.assert_allclose(far, mixture.means_, atol=0.1)


def test_draws_are_averaged_and_criteria_refuse_them() -> None:
    drawn = ProbamMixture(2, **VARIATIONAL).fit(X)
    memory = drawn.to_fit().group("memory")
    np.testing.assert_array_equal(drawn.means_, memory["mean"])
    np.testing.assert_allclose(drawn.predict_proba(X).sum(axis=1), 1)
    rows, labels = drawn.sample(300)
    assert np.mean(labels == drawn.predict(rows)) > 0.9
    assert drawn.converged_ is True
    assert drawn.covariances_.shape == (2, 2)
    with pytest.raises(InputError, match=r"aic: engine 'cavi' gives several draws.*engine 'em'"):
        drawn.aic(X)


def test_a_bound_of_the_evidence_is_in_the_units_of_the_data() -> None:
    bound = ProbamMixture(2, **VARIATIONAL, standardise=True).fit(X).lower_bound_
    scaled = ProbamMixture(2, **VARIATIONAL, standardise=True).fit(X * [10, 1]).lower_bound_
    assert scaled == pytest.approx(bound - len(X) * np.log(10), rel=1e-9)


def test_a_process_in_single_precision_computes_in_that_of_the_rows(mixture: ProbamMixture) -> None:
    with jax.enable_x64(False):
        again = ProbamMixture(n_components=2, n_init=2).fit(X)
        loaded = pickle.loads(pickle.dumps(again))
        np.testing.assert_array_equal(again.predict_proba(X), mixture.predict_proba(X))
        np.testing.assert_array_equal(loaded.score_samples(X), mixture.score_samples(X))
        np.testing.assert_array_equal(loaded.recall(X[:3]), mixture.recall(X[:3]))
        with pytest.raises(InputError, match="double precision; turn it on"):
            again.to_fit()
        assert ProbamMixture().fit(X.astype(np.float32)).predict_proba(X).dtype == np.float32


def test_what_cannot_be_is_said_in_one_sentence(mixture: ProbamMixture) -> None:
    with pytest.raises(InputError, match="fit_options: 'engine' is set by a parameter"):
        ProbamMixture(fit_options={"engine": "em"}).fit(X)
    with pytest.raises(InputError, match="no such option"):
        ProbamMixture(fit_options={"num_dras": 3}).fit(X)
    with pytest.raises(InputError, match="covariance: expected one of"):
        ProbamMixture(covariance_type="round").fit(X)
    with pytest.raises(InputError, match="bic: with weights 'dp' the truncation"):
        ProbamMixture(2, covariance_type="diag", weights="dp", n_init=1).fit(X).bic(X)
    with pytest.raises(InputError, match="n_samples: expected a whole number"):
        mixture.sample(0)
    directions = ProbamMixture(family="bernoulli").fit(np.eye(2)[LABELS])
    with pytest.raises(AttributeError, match="covariances_: memories of family 'bernoulli' have no covariances"):
        _ = directions.covariances_
    assert not hasattr(ProbamMixture(), "covariances_")
