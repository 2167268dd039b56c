"""What a fit says of rows whose memory is known: it holds to the labels where it speaks of them, and only there."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp

import probam.fits.fit as api
import probam.fits.posterior as posterior
from probam.comparison.compare import compare
from probam.family import Params
from probam.fits.fitted import Fit
from probam.models.gaussian import Gaussian
from probam.models.mixture import mixture
from probam.models.weights import weight_prior
from probam.reports.tree import variable

RNG = np.random.default_rng(4)
K = 4
GROUP = np.repeat([2, 3], [10, 30])
X = RNG.normal(size=(40, 2)) + np.where(GROUP[:, None] == 2, [-1.0, 0.0], [1.0, 0.5])
LABELS = np.where(np.arange(40) % 2 == 0, GROUP, -1)
LABELS[0] = 3  # against what its features say
X[0] = [-1.5, np.nan]
MODEL: dict[str, Any] = {"covariance": "diagonal", "weights": "dirichlet", "components": K, "engine": "em"}
KNOWN = LABELS >= 0


@pytest.fixture(scope="module")
def fit() -> Fit:
    """Two groups that overlap, known as memories 2 and 3 of four; half of the rows are labelled."""
    return api.fit(X, labels=LABELS, missing=True, restarts=1, **MODEL)


def log_joint_of(fit: Fit) -> np.ndarray:
    """Log of weight times density of each row under each memory, by SciPy; NaN does not count."""
    sites = fit.reference
    sd = np.asarray(sites["precision"]) ** -0.5
    log_density = np.nansum(stats.norm.logpdf(X[:, None], np.asarray(sites["loc"]), sd), axis=-1)
    return np.asarray(log_density + np.log(np.asarray(sites["proportions"])))


def test_labels_partition_and_likelihood_are_given_what_is_known(fit: Fit) -> None:
    partition = fit.tree["partition"].to_dataset()
    np.testing.assert_array_equal(partition["label"].values[KNOWN], LABELS[KNOWN])
    np.testing.assert_array_equal(partition["confidence"].values[KNOWN], 1)
    together = partition["coclustering"].values[np.ix_(KNOWN, KNOWN)]
    np.testing.assert_array_equal(together, LABELS[KNOWN][:, None] == LABELS[KNOWN])
    log_joint = log_joint_of(fit)
    expected = np.where(KNOWN, log_joint[np.arange(40), LABELS], logsumexp(log_joint, axis=1))
    np.testing.assert_allclose(variable(fit.tree, "log_likelihood", "x").values[0, 0], expected, rtol=1e-9)
    resp = np.exp(log_joint - logsumexp(log_joint, axis=1, keepdims=True))
    np.testing.assert_allclose(partition["confidence"].values[~KNOWN], resp[~KNOWN].max(axis=1), rtol=1e-9)


def test_a_gap_is_completed_by_the_memory_that_is_known(fit: Fit) -> None:
    """Features are independent within a memory, so that its conditional mean is its mean."""
    completed = variable(fit.tree, "observed_data", "completed").values[0]
    np.testing.assert_allclose(completed, [-1.5, np.asarray(fit.reference["loc"])[3, 1]], rtol=1e-9)


def test_a_fitted_row_that_is_asked_again_is_answered_by_its_features_alone(fit: Fit) -> None:
    log_joint = log_joint_of(fit)
    answer = fit.predict(X)
    np.testing.assert_allclose(answer["log_density"], logsumexp(log_joint, axis=1), rtol=1e-9)
    np.testing.assert_array_equal(answer["label"], log_joint.argmax(axis=1))
    assert answer["label"][0] == 2
    assert variable(fit.tree, "partition", "label")[0] == 3


def test_barriers_and_the_summary_look_at_the_heaviest_memories_whatever_their_numbers() -> None:
    fit = api.fit(X, labels=GROUP, missing=True, restarts=1, **MODEL)
    size = variable(fit.tree, "memory", "size").values
    assert size[:2].tolist() == [0, 0]
    barrier = fit.group("recall")["barrier"].values
    assert np.isfinite(barrier[2:, 2:]).all()
    assert np.isnan(barrier[:2]).all()
    lines = fit.summary_text(most=1).splitlines()
    row = lines.index(next(line for line in lines if line.startswith("memory "))) + 1
    assert lines[row].split()[0] == str(2 + int(np.argmax(size[2:])))
    assert "(1 smaller memories are not listed)" in lines


def test_fits_of_other_labels_are_fits_of_other_data(fit: Fit) -> None:
    without = api.fit(X, missing=True, restarts=1, **MODEL)
    frame = compare({"known": fit, "not": without}, labels=GROUP)
    notes = frame.attrs["notes"]
    assert all(any("not all fits have the same data" in note for note in notes[name]) for name in ("known", "not"))
    assert "the memories of 20 fitted data were known; they count in ari and nmi" in notes["known"]
    assert not any("were known" in note for note in notes["not"])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_drawn_labels_are_among_those_that_a_row_may_have(dtype: Any) -> None:
    """Also where the responsibilities of all of these underflow."""
    rows = jnp.asarray(np.where(np.isnan(X), 0, X), dtype)
    model = mixture(np.asarray(rows), family=Gaussian("diagonal"), weights=weight_prior("dirichlet"), num_components=K)
    allowed = np.ones((40, K), bool)
    allowed[::2] = [False, True, False, True]
    loc = np.tile([[0.0, 0], [40, 0], [1, 1], [60, 0]], (200, 1, 1))
    sites: Params = {
        "loc": jnp.asarray(loc, dtype),
        "precision": jnp.ones((200, K, 2), dtype),
        "proportions": jnp.full((200, K), 1 / K, dtype),
    }
    reading = posterior.read(model, sites, jax.random.key(0), rows, jnp.array([[0, 2], [1, 3]]), jnp.asarray(allowed))
    assert np.isfinite(reading.log_lik).all()
    assert set(np.unique(reading.labels[:, ::2])) == {1}
    assert set(np.unique(reading.labels[:, 1::2])) == {0, 2}
    np.testing.assert_allclose(reading.together[:, 0], 1, rtol=1e-6)
