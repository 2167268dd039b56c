"""Families that call themselves linear: one matrix of statistics gives the log densities and the sums of the M-step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from probam.distributions.pairwise import linear_form
from probam.family.capabilities import Statistics
from probam.inference.common.start import starting_params
from probam.models.gaussian import Gaussian
from probam.models.mixture import mixture
from probam.models.von_mises_fisher import VonMisesFisherMemory
from probam.models.weights import Dirichlet

LINEAR = [
    *(Gaussian(kind) for kind in ("isotropic", "spherical", "diagonal", "tied", "full", "lkj")),
    VonMisesFisherMemory(),
]


@pytest.mark.parametrize("family", LINEAR, ids=lambda family: family.signature)
def test_log_densities_are_products_with_the_statistics_of_the_m_step(family: Statistics) -> None:
    """T(x - zero) . eta_k + c_k is NumPyro's own log density, with T the family's ``statistics``."""
    assert family.linear
    random = np.random.default_rng(3)
    x = random.normal(size=(11, 3))
    if family.name == "vmf":
        x /= np.linalg.norm(x, axis=1, keepdims=True)
    model = mixture(x, family=family, weights=Dirichlet(), num_components=2)
    params = starting_params(jax.random.key(0), model, jnp.asarray(x))
    zero = np.zeros(3) if family.name == "vmf" else np.array([0.3, -1.0, 2.0])
    bank = family.bank(params)
    form = linear_form(bank, jnp.asarray(x), jnp.asarray(zero))
    assert form is not None
    statistics = np.asarray(family.statistics(jnp.asarray(x - zero)))
    coefficients = np.concatenate(form.coefficients, axis=-1)
    ours = statistics @ coefficients.T + np.asarray(form.constant)
    np.testing.assert_allclose(ours, np.asarray(bank.log_prob(jnp.asarray(x)[:, None, :])), rtol=0, atol=1e-11)
