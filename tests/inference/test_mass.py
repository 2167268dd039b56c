"""The mass of a mode against exact evidences, and the ends that it chooses under stick-breaking."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import betaln
from scipy.stats import multivariate_normal
from sklearn.metrics import adjusted_rand_score

from probam.distributions.supports import innermost
from probam.family import Params
from probam.inference.common.coordinates import Coordinates
from probam.inference.common.information import log_volumes
from probam.inference.em import engine as em
from probam.inference.gradient_em import engine as gradient_em
from probam.models.bernoulli import Bernoulli
from probam.models.gaussian import Gaussian
from probam.models.mixture import Mixture, mixture
from probam.models.weights import weight_prior
from probam.reports.summaries.quantities import last_values
from tests.models.known_precision import KnownPrecision


def log_mass(model: Mixture, params: Params, x: np.ndarray) -> float:
    rows = jnp.asarray(x)
    coordinates = Coordinates(model)
    height = coordinates.log_joint(coordinates.unconstrain(params), rows)
    every = {name: jnp.asarray(value)[None] for name, value in params.items()}
    return float(height + log_volumes(model, every, rows)[0])


def mode(model: Mixture, x: np.ndarray) -> Params:
    states, _ = em.fit_params(jax.random.key(0), model, jnp.asarray(x), restarts=1).ends
    return {name: jnp.asarray(value)[0] for name, value in states.params.items()}


def test_the_mass_of_a_normal_posterior_is_the_evidence() -> None:
    """Laplace's approximation is exact where the log joint is quadratic."""
    x = np.random.default_rng(0).normal(2, 1, (9, 2))
    model = mixture(x, family=KnownPrecision(0.8, 5.0), weights=weight_prior("uniform"), num_components=1)
    location = x.sum(0) / 0.8 / (9 / 0.8 + 1 / 5.0)
    covariance = 0.8 * np.eye(9) + 5.0
    evidence = sum(multivariate_normal(np.zeros(9), covariance).logpdf(column) for column in x.T)
    assert log_mass(model, {"loc": jnp.asarray(location)[None]}, x) == pytest.approx(evidence, abs=1e-9)


def test_the_mass_of_many_bits_is_near_their_evidence() -> None:
    """Beta posteriors of many bits are nearly normal in their logits: Stirling's error is 1 / (12 n)."""
    x = (np.random.default_rng(1).random((4000, 3)) < 0.4).astype(float)
    model = mixture(x, family=Bernoulli(), weights=weight_prior("uniform"), num_components=1)
    (law,) = model.prior.values()
    prior: Any = innermost(law)
    a, b = (np.broadcast_to(np.asarray(c), 3) for c in (prior.concentration1, prior.concentration0))
    ones = x.sum(0)
    evidence = float(np.sum(betaln(a + ones, b + len(x) - ones) - betaln(a, b)))
    assert log_mass(model, mode(model, x), x) == pytest.approx(evidence, abs=1e-2)


def test_a_change_of_units_moves_all_masses_by_one_constant() -> None:
    """Columns in units of 2^-40 and 2^40: the same differences between two ends, whatever their eigenvalues."""
    rng = np.random.default_rng(3)
    x = np.concatenate([rng.normal(c, 1, (40, 2)) for c in (0, 6)])
    unit = np.array([2.0**-40, 2.0**40])

    def difference(x: np.ndarray) -> float:
        model = mixture(x, family=Gaussian(), weights=weight_prior("dp"), num_components=4)
        states, _ = em.fit_params(jax.random.key(0), model, jnp.asarray(x), restarts=2, max_iterations=30).ends
        volumes = log_volumes(model, states.params, jnp.asarray(x))
        return float(volumes[1] - volumes[0])

    assert difference(x * unit) == pytest.approx(difference(x), abs=1e-6)


GROUPS = np.repeat(np.arange(5), 120)
FIVE = 8 * np.array([[0, 0], [1, 0], [0, 1], [1, 1], [0.5, 2]])[GROUPS] + np.random.default_rng(5).normal(size=(600, 2))


@pytest.mark.parametrize("engine", ["em", pytest.param("gradient_em", marks=pytest.mark.slow)])
def test_groups_are_not_split_though_that_is_higher(engine: str) -> None:
    """Five groups 8 sd apart: the highest end explains them by 14 memories, at an adjusted Rand index of .74."""
    x = jnp.asarray(FIVE)
    model = mixture(FIVE, family=Gaussian(), weights=weight_prior("dp"), num_components=20)
    result = {"em": em, "gradient_em": gradient_em}[engine].run(jax.random.key(0), model, x)
    assert result.objective is not None
    assert result.restarts is not None
    assert result.restarts.log_mass is not None
    heights = last_values(result.objective)
    chosen = int(result.restarts.log_mass.argmax())
    assert float(result.stats["lp"][0, 0]) == pytest.approx(heights[chosen])
    assert heights[chosen] < np.nanmax(heights) - 1
    params = {name: jnp.asarray(result.sites[name][0, 0]) for name in Coordinates(model).zeros}
    label = np.asarray(model.mixture(params).log_joint(x)).argmax(1)
    assert adjusted_rand_score(GROUPS, label) > 0.9
