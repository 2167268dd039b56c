"""Recall between encoder and decoder is EM under the mixture of codes; the networks learn what a linear model finds."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from sklearn.decomposition import PCA

from probam.distributions.mixture import MemoryMixture
from probam.energies.autoencoder import decode, divergence, encode, trained
from probam.energies.variational import Variational
from probam.equivalence.memory_check import verify_memory
from probam.errors import InputError

_DRAW = np.random.default_rng(0)
PLANE = _DRAW.normal(size=(300, 2)) @ _DRAW.normal(size=(2, 6)) + 0.05 * _DRAW.normal(size=(300, 6)) + 1


@pytest.fixture(scope="module")
def memory() -> Variational:
    autoencoder = trained(jax.random.key(1), jnp.asarray(PLANE), 0.1, num_codes=2, num_units=32, num_steps=2000)
    return Variational(autoencoder, encode(autoencoder, jnp.asarray(PLANE[:5])), 0.4)


def test_the_networks_find_the_plane_that_principal_components_find(memory: Variational) -> None:
    principal = PCA(2).fit(PLANE)
    residual = np.mean((principal.inverse_transform(principal.transform(PLANE)) - PLANE) ** 2)
    rows = jnp.asarray(PLANE)
    error = np.mean((decode(memory.autoencoder, encode(memory.autoencoder, rows)) - PLANE) ** 2)
    assert error < 4 * residual  # tanh units bend the plane a little
    assert residual < 0.001 * PLANE.var()


def test_the_divergence_is_that_of_independent_normal_laws() -> None:
    mean, log_sd = jnp.asarray(_DRAW.normal(size=(2, 4, 3)))
    law, prior = dist.Normal(mean, jnp.exp(log_sd)).to_event(1), dist.Normal(jnp.zeros(3), 1.0).to_event(1)
    expected = dist.kl_divergence(law, prior)
    np.testing.assert_allclose(divergence(mean, log_sd), expected, rtol=1e-12)


def test_the_memory_of_codes_is_the_gaussian_mixture_that_is_the_prior(memory: Variational) -> None:
    points = memory.codes[_DRAW.integers(5, size=20)] + 0.4 * _DRAW.normal(size=(20, 2))
    checks = verify_memory(memory.latent, points).checks
    assert {check.name for check in checks} == {"energy", "force", "update"}
    assert all(check.passed for check in checks)


def test_recall_is_ten_steps_of_em_for_the_code_then_decoding(memory: Variational) -> None:
    prior = MemoryMixture(jnp.full(5, -np.log(5)), dist.Normal(memory.codes, 0.4).to_event(1))
    queries = jnp.asarray(PLANE[:3] + 0.1)
    code = encode(memory.autoencoder, queries)
    np.testing.assert_allclose(
        memory.energy(queries), -prior.log_prob(code) - np.log(5) - np.log(2 * np.pi * 0.4**2), rtol=1e-9
    )
    for _ in range(10):
        code = prior.responsibilities(code) @ memory.codes  # maximises the expected log joint: equal covariances
    np.testing.assert_allclose(memory.update(queries), decode(memory.autoencoder, code), rtol=1e-9)


def test_writing_is_one_pass_of_the_encoder_and_erasing_takes_the_code_away(memory: Variational) -> None:
    more = memory.write(PLANE[5:8])
    np.testing.assert_allclose(more.codes[5:], encode(memory.autoencoder, jnp.asarray(PLANE[5:8])), rtol=1e-9)
    np.testing.assert_array_equal(more.erase(PLANE[[6, 5, 7]]).codes, memory.codes)


def test_bad_input_gets_one_sentence_with_the_remedy(memory: Variational) -> None:
    with pytest.raises(InputError, match=r"patterns: row 1 is not stored; erase rows exactly as written"):
        memory.erase(PLANE[[0, 9]])
    with pytest.raises(InputError, match=r"patterns: these are all that is stored; a memory keeps at least one"):
        memory.erase(PLANE[:5])
    with pytest.raises(InputError, match=r"num_codes: expected a whole number of at least 1; got 0"):
        Variational.store(PLANE, num_codes=0)
    with pytest.raises(InputError, match=r"noise: expected finite values above 0; got 0\.0"):
        Variational.store(PLANE, noise=0.0)
