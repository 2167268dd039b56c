"""CLAM beside the engines: its memories are where its own error is stationary, and no model but its own is taken."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import probam.fits.fit as api
from probam.dynamics.learning import reconstruction_error
from probam.errors import InputError


def _groups() -> np.ndarray:
    rng = np.random.default_rng(3)
    return np.concatenate([rng.normal(m, 0.6, (n, 2)) for m, n in (((-3, 0), 25), ((3, 1), 35), ((0, 5), 30))])


def test_clam_ends_where_the_error_of_recall_is_stationary_and_is_reported_like_any_engine() -> None:
    x = _groups()
    options = {"num_epochs": 400, "learning_rate": 0.03, "restarts": 2}
    result = api.fit(x, covariance="isotropic", weights="uniform", components=3, engine="clam", **options)
    beta, memories = result.reference["beta"], result.reference["loc"]

    def error(memories: jax.Array) -> jax.Array:
        return reconstruction_error(memories, jnp.asarray(x), beta, num_steps=10, step=0.1)

    slope, start = (float(jnp.linalg.norm(jax.grad(error)(at))) for at in (memories, memories + 0.3))
    assert slope < 1e-3 * start
    assert "least recall error" in result.tree.attrs["model"]
    assert sorted(np.bincount(result.predict(x)["label"].values).tolist()) == [25, 30, 35]


def test_clam_refuses_models_that_are_not_its_own() -> None:
    for inputs in (
        {"covariance": "diagonal", "weights": "uniform"},
        {"covariance": "isotropic", "weights": "dirichlet"},
    ):
        with pytest.raises(InputError, match="isotropic Gaussian memories of equal weights"):
            api.fit(_groups(), components=3, engine="clam", **inputs)
