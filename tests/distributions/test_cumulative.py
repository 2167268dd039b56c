"""Cumulative distribution functions: against SciPy."""

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import stats

from probam.distributions.bits import SpinBernoulli
from probam.distributions.cumulative import cumulative
from probam.distributions.generalized_normal import GeneralizedNormal
from probam.distributions.levy import Levy
from probam.errors import InputError

VALUES = np.array([-30.0, -1.0, -0.3, 0.0, 0.4, 1.0, 2.5, 70.0])


def test_laws_of_numbers() -> None:
    def agrees(law: dist.Distribution, oracle: object) -> None:
        np.testing.assert_allclose(cumulative(law, VALUES), oracle.cdf(VALUES), rtol=1e-10, atol=1e-300)  # type: ignore[attr-defined]

    agrees(Levy(-0.5, 0.7), stats.levy(-0.5, 0.7))
    agrees(GeneralizedNormal(0.2, 1.3, 3.0), stats.gennorm(3, 0.2, 1.3 ** (-1 / 3)))
    agrees(dist.StudentT(4.5, 0.3, 2.0), stats.t(4.5, 0.3, 2.0))
    agrees(dist.Gamma(2.0, 3.0), stats.gamma(2, scale=1 / 3))
    agrees(dist.Poisson(3.3), stats.poisson(3.3))
    agrees(dist.BernoulliProbs(0.3), stats.bernoulli(0.3))
    agrees(dist.BernoulliLogits(-0.4), stats.bernoulli(1 / (1 + np.exp(0.4))))


def test_spins() -> None:
    probability = cumulative(SpinBernoulli(0.6), np.array([-1.1, -1.0, 0.9, 1.0]))
    down = 1 / (1 + np.exp(0.6))
    np.testing.assert_allclose(probability, [0, down, down, 1], rtol=1e-12)


def test_angles_have_no_distribution_function() -> None:
    with pytest.raises(InputError, match="VonMises has no cumulative distribution function; mean, sd, log_prob"):
        cumulative(dist.VonMises(jnp.zeros(2), jnp.ones(2)), jnp.zeros(2))
