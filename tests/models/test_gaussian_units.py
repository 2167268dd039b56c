"""Maximum likelihood of Gaussian memories whose features are of very different size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from probam.family import Moments
from probam.family.capabilities import AdditiveMStep
from probam.inference.em import engine as em
from probam.models.gaussian import Gaussian
from probam.models.mixture import mixture
from probam.models.weights import weight_prior

UNITS = np.array([1e-6, 1.0, 1e4])


def _correlated() -> np.ndarray:
    root = np.array([[1.0, 0, 0], [0.9, 0.5, 0], [-0.3, 0.2, 0.8]])
    return np.random.default_rng(6).normal(size=(80, 3)) @ root.T * UNITS


@pytest.mark.parametrize("covariance", ["tied", "full"])
def test_one_memory_is_the_sample_covariance_whatever_the_units(covariance: str) -> None:
    x = _correlated()
    model = mixture(x, family=Gaussian(covariance), weights=weight_prior("uniform"), num_components=1)
    result = em.run(jax.random.key(0), model, jnp.asarray(x), estimate="ml", restarts=1)
    factor = result.sites["precision_cholesky"].reshape(3, 3)
    np.testing.assert_allclose(
        np.linalg.inv(factor @ factor.T) / np.outer(UNITS, UNITS),
        np.cov(x.T, bias=True) / np.outer(UNITS, UNITS),
        rtol=1e-8,
    )


def test_a_memory_without_width_has_a_millionth_of_each_features_variance() -> None:
    """Two memories, of which the first has a single datum: its covariance is the floor alone."""
    x = _correlated()
    family = Gaussian("full")
    responsibilities = np.zeros((80, 2))
    responsibilities[0, 0] = responsibilities[1:, 1] = 1
    statistics = np.asarray(AdditiveMStep.of(family).statistics(jnp.asarray(x)))
    moments = Moments(jnp.asarray(responsibilities.sum(0)), jnp.asarray(responsibilities.T @ statistics), jnp.zeros(3))
    params = {"loc": jnp.zeros((2, 3)), "precision_cholesky": jnp.tile(jnp.eye(3), (2, 1, 1))}
    factors = np.asarray(family.maximize(moments, params, None)["precision_cholesky"])
    narrow, wide = (np.linalg.inv(factor @ factor.T) for factor in factors)
    np.testing.assert_allclose(narrow / np.outer(x.std(0), x.std(0)), 1e-6 * np.eye(3), rtol=1e-6, atol=1e-14)
    np.testing.assert_allclose(wide, np.cov(x[1:].T, bias=True), rtol=1e-8)
