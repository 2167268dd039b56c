"""Every convention names the kernel of a normalised density of NumPyro, whatever name one came from."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from probam.distributions.von_mises_fisher import VonMisesFisher
from probam.energies.conventions import CONVENTIONS, convert
from probam.errors import InputError

BETA = 1.7
MEMORY, OTHER = jnp.array([0.6, -0.8, 0.0]), jnp.array([0.0, 0.6, 0.8])
QUERY, SECOND = jnp.array([0.28, 0.0, 0.96]), jnp.array([-0.6, 0.0, 0.8])


def _log_density(name: str, value: float, x: jax.Array, memory: jax.Array) -> jax.Array:
    """What a statistician reads into the number of the convention."""
    normal = dist.MultivariateNormal
    densities = {
        "clam": lambda: normal(memory, covariance_matrix=jnp.eye(3) / (2 * value)),
        "precision": lambda: normal(memory, precision_matrix=value * jnp.eye(3)),
        "sd": lambda: dist.Normal(memory, value).to_event(1),
        "dot": lambda: normal(memory, precision_matrix=value * jnp.eye(3)),  # times a function of v alone
        "concentration": lambda: VonMisesFisher(memory, value),
    }
    return jnp.asarray(densities[name]().log_prob(x))


@pytest.mark.parametrize("name", CONVENTIONS)
def test_log_odds_of_unit_vectors_are_the_same_in_every_convention(name: str) -> None:
    value = float(np.asarray(convert(BETA, "clam", name)))
    for x in (QUERY, SECOND):
        odds = _log_density(name, value, x, MEMORY) - _log_density(name, value, x, OTHER)
        expected = -BETA * (jnp.sum((x - MEMORY) ** 2) - jnp.sum((x - OTHER) ** 2))
        np.testing.assert_allclose(odds, expected, rtol=1e-13)


@pytest.mark.parametrize("source", CONVENTIONS)
@pytest.mark.parametrize("target", CONVENTIONS)
def test_there_and_back_is_the_identity(source: str, target: str) -> None:
    values = np.array([1e-6, 0.3, 1e6])
    np.testing.assert_allclose(convert(convert(values, source, target), target, source), values, rtol=1e-14)


def test_an_unknown_convention_is_refused() -> None:
    with pytest.raises(InputError, match="target: expected one of clam, precision"):
        convert(1.0, "clam", "temperature")
