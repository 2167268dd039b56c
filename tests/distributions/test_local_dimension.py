"""Flat directions of a mixture: the Hessian's identity, Gaussian data, other families."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy.linalg import eigh

from probam.distributions.local_dimension import flatness, local_dimension, responsibility_covariance
from probam.distributions.mixture import MemoryMixture
from probam.errors import InputError

RNG = np.random.default_rng(6)
LOC, LOG_WEIGHTS = RNG.normal(size=(4, 3)), np.log(np.array([0.1, 0.4, 0.2, 0.3]))
ROOTS = np.tril(RNG.normal(size=(4, 3, 3))) + 2 * np.eye(3)
BANKS = {
    "isotropic": dist.Normal(LOC, 0.8).to_event(1),
    "full": dist.MultivariateNormal(LOC, scale_tril=jnp.asarray(ROOTS)),
    "logistic": dist.Logistic(LOC, 0.7).to_event(1),
}


@pytest.mark.parametrize("name", BANKS)
def test_the_hessian_of_the_log_density_is_stiffness_less_the_covariance_of_forces(name: str) -> None:
    mixture, x = MemoryMixture(jnp.asarray(LOG_WEIGHTS), BANKS[name]), jnp.asarray(RNG.normal(size=3))
    hessian = np.asarray(jax.hessian(mixture.log_prob)(x))
    shares = np.asarray(mixture.responsibilities(x))
    stiffness = -np.einsum("k,kde->de", shares, np.asarray(jax.hessian(BANKS[name].log_prob)(x)))
    np.testing.assert_allclose(flatness(mixture, x), eigh(hessian + stiffness, stiffness)[0], atol=1e-10)


def test_means_alone_give_the_flatness_of_round_memories() -> None:
    mixture, x = MemoryMixture(jnp.asarray(LOG_WEIGHTS), BANKS["isotropic"]), RNG.normal(size=(2, 5, 3))
    spectrum = np.linalg.eigvalsh(np.asarray(responsibility_covariance(mixture, x))) / 0.64
    np.testing.assert_allclose(flatness(mixture, x), spectrum, atol=1e-10)
    np.testing.assert_array_equal(local_dimension(mixture, x), (spectrum > 0.5).sum(axis=-1))


def test_memories_that_are_not_concave_are_refused() -> None:
    heavy = MemoryMixture(jnp.zeros(1), dist.StudentT(1.0, jnp.zeros((1, 2)), 1.0).to_event(1))
    with pytest.raises(InputError, match="not concave at one of the points"):
        flatness(heavy, jnp.array([[5.0, 5.0]]))
