"""ProbamStream: a stream behind the interface of scikit-learn."""

import pickle
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from probam.errors import InputError
from probam.estimators.stream import ProbamStream
from probam.streams.stream import Stream

RNG = np.random.default_rng(8)
CENTRES = np.array([[-6.0, 0.0], [6.0, 0.0], [0.0, 8.0]])
LABELS = RNG.integers(0, 3, 240)
X = CENTRES[LABELS] + RNG.normal(size=(240, 2))
SETTINGS: dict[str, Any] = {"covariance_type": "diag", "warm": 60}


@pytest.fixture(scope="module")
def learned() -> ProbamStream:
    return ProbamStream(**SETTINGS).fit(X)


def test_parts_are_as_good_as_the_whole(learned: ProbamStream) -> None:
    parts = ProbamStream(**SETTINGS)
    for rows in np.array_split(X, 7):
        assert parts.partial_fit(rows) is parts
    np.testing.assert_array_equal(parts.means_, learned.means_)
    np.testing.assert_array_equal(parts.predict_proba(X), learned.predict_proba(X))
    again = parts.fit(X)
    np.testing.assert_array_equal(again.weights_, learned.weights_)
    assert again.stream_.num_data == 240, "fit forgets what came before"


def test_answers_are_those_of_the_stream(learned: ProbamStream) -> None:
    stream = Stream(covariance="diagonal", warm=60).partial_fit(X)
    predicted = stream.predict(X)
    np.testing.assert_array_equal(learned.score_samples(X), predicted["log_predictive"])
    np.testing.assert_array_equal(learned.memory_ids_[learned.predict(X)], predicted["label"])
    old = 1 - predicted["probability_new"].values
    np.testing.assert_allclose(learned.predict_proba(X).max(axis=1) * old, predicted["probability"], rtol=1e-9)
    np.testing.assert_allclose(learned.predict_proba(X).sum(axis=1), 1)
    np.testing.assert_array_equal(learned.predict_new(X), predicted["probability_new"])
    assert learned.predict_new([[60.0, 60.0]])[0] > 0.99
    nearest = np.linalg.norm(learned.means_[:, None] - CENTRES, axis=-1)
    assert nearest.min(axis=0).max() < 0.5
    assert np.mean(nearest[learned.predict(X)].argmin(axis=1) == LABELS) > 0.97


def test_names_features_and_pipelines() -> None:
    frame = pd.DataFrame(X, columns=["left", "right"])
    named = ProbamStream(**SETTINGS).fit(frame)
    features = named.set_output(transform="pandas").transform(frame)
    assert list(features.columns) == [f"probamstream{k}" for k in range(len(named.means_))]
    with pytest.raises(ValueError, match="feature names should match"):
        named.partial_fit(frame.rename(columns={"left": "up"}))
    chain = make_pipeline(StandardScaler(), ProbamStream(**SETTINGS))
    assert chain.fit(X).predict(X).shape == (240,)


def test_samples_recall_and_conditionals_come_from_a_fit_of_the_stream(learned: ProbamStream) -> None:
    rows, labels = learned.sample(50)
    assert rows.shape == (50, 2)
    assert labels.min() >= 0
    rest = learned.recall(CENTRES)
    assert np.linalg.norm(rest - CENTRES, axis=1).max() < 0.6
    law = learned.conditional("x0", given={"x1": [8.0]})
    assert abs(float(law.mean.values.item())) < 0.7
    assert learned.to_fit() is learned.to_fit()


def test_a_pickle_goes_on_with_the_same_bits_in_either_precision(learned: ProbamStream) -> None:
    with jax.enable_x64(False):
        loaded = pickle.loads(pickle.dumps(learned))
        np.testing.assert_array_equal(loaded.predict_proba(X), learned.predict_proba(X))
        loaded.partial_fit(X[:20])
    copied = pickle.loads(pickle.dumps(learned)).partial_fit(X[:20])
    np.testing.assert_array_equal(loaded.means_, copied.means_)
    waiting = pickle.loads(pickle.dumps(ProbamStream(**SETTINGS).partial_fit(X[:30])))
    assert waiting.stream_.num_data == 30
    assert waiting.partial_fit(X[30:]).stream_.num_data == 240
    np.testing.assert_array_equal(waiting.means_, learned.means_)


def test_what_cannot_be_is_said_in_one_sentence() -> None:
    with pytest.raises(InputError, match="stream_options: 'warm' is set by a parameter"):
        ProbamStream(stream_options={"warm": 3}).fit(X)
    with pytest.raises(ValueError, match="NaN"):
        ProbamStream().fit(np.where(X > 8, np.nan, X))
    assert not hasattr(clone(ProbamStream()), "means_")
