"""Gradient EM is one walk in every unit of the data, and says when its steps are too small."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import probam
from probam.inference.common.coordinates import Coordinates
from probam.inference.gradient_em import engine as gradient_em
from probam.inference.gradient_em.units import ScaledCoordinates, units
from probam.models.gaussian import Gaussian
from probam.models.mixture import Mixture, mixture
from probam.models.weights import weight_prior

SMALL, LARGE = 2.0**-40, 2.0**40


def _clusters() -> np.ndarray:
    """Two, six standard deviations apart in each of two features."""
    rng = np.random.default_rng(0)
    return np.concatenate([rng.normal(-3, 1, (100, 2)), rng.normal(3, 1, (100, 2))])


def _model(x: np.ndarray, covariance: str = "full", **prior: dist.Distribution) -> Mixture:
    return mixture(x, family=Gaussian(covariance), weights=weight_prior("dirichlet"), num_components=2, prior=prior)


def _log_density(x: np.ndarray, unit: np.ndarray, **options: object) -> np.ndarray:
    """Of each row, nats in the first units, at the best of two runs on the data in other units."""
    fit = probam.fit(x * unit, weights="dirichlet", components=2, engine="gradient_em", seed=0, restarts=2, **options)
    return np.asarray(fit.log_prob(x * unit)) + np.log(unit).sum()


@pytest.mark.parametrize("engine", ["em", "gradient_em"])
def test_two_clusters_are_found_at_any_scale(engine: str) -> None:
    x = _clusters()
    heights = []
    for scale in (1.0, 1e-3, 1e-6):
        fit = probam.fit(x * scale, covariance="diagonal", weights="dirichlet", components=2, engine=engine, seed=0)
        heights.append(float(np.mean(fit.log_prob(x * scale))) + 2 * np.log(scale))
    np.testing.assert_allclose(heights, heights[0], atol=1e-6)
    assert heights[0] > -3.6  # one memory for both clusters: below -5


@pytest.mark.parametrize(
    "covariance", ["full", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("diagonal", "tied", "lkj"))]
)
def test_a_unit_for_each_column_changes_nothing(covariance: str) -> None:
    x = _clusters()
    first, *others = (
        _log_density(x, np.asarray(unit), covariance=covariance)
        for unit in ((1.0, 1.0), (SMALL, SMALL), (LARGE, LARGE), (SMALL, LARGE))
    )
    assert first.mean() > -3.6
    for other in others:
        np.testing.assert_allclose(other, first, atol=1e-8)


@pytest.mark.parametrize("covariance", ["isotropic", pytest.param("spherical", marks=pytest.mark.slow)])
def test_a_unit_for_all_columns_changes_nothing(covariance: str) -> None:
    x = _clusters()
    first, *others = (_log_density(x, np.full(2, unit), covariance=covariance) for unit in (1.0, SMALL, LARGE))
    assert first.mean() > -3.6
    for other in others:
        np.testing.assert_allclose(other, first, atol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("optimiser", ["ecg", "natural"])
def test_line_searches_end_at_one_height_in_every_unit(optimiser: str) -> None:
    """Where they stop depends on the last bits, so that heights agree to the square of what positions do."""
    x = _clusters()
    heights = [
        _log_density(x, np.asarray(unit), covariance="full", optimiser=optimiser).mean()
        for unit in ((1.0, 1.0), (SMALL, SMALL), (SMALL, LARGE))
    ]
    assert heights[0] > -3.6
    np.testing.assert_allclose(heights, heights[0], atol=1e-8)


def test_an_offset_changes_nothing() -> None:
    """Locations far from zero have fewer digits; the height depends on the square of what they lose.

    At an offset of 2^26 the runs end 2e-4 from each other in a row's log density (measured), and so 5e-8 on average.
    """
    x = np.round(_clusters() * 2**10) / 2**10  # exact beside the offset
    near, far = (_log_density(x + offset, np.ones(2), covariance="diagonal") for offset in (0.0, 2.0**26))
    assert near.mean() > -3.6
    np.testing.assert_allclose(far, near, atol=5e-4)
    np.testing.assert_allclose(far.mean(), near.mean(), atol=1e-7)


def test_units_are_those_of_the_coordinates() -> None:
    """A row of a factor in NumPyro's coordinates is divided by its feature's unit; logs and ratios have none."""
    x, unit = _clusters(), np.array([2.0**-20, 2.0**7])
    here, there = (units(_model(y), jnp.asarray(y)) for y in (x, x * unit))
    np.testing.assert_allclose(here["loc"], np.tile(x.std(0), (2, 1)), rtol=1e-12)  # the prior is twice as wide
    np.testing.assert_allclose(there["loc"], here["loc"] * unit, rtol=1e-12)
    np.testing.assert_allclose(there["precision_cholesky"], here["precision_cholesky"], rtol=1e-9)
    np.testing.assert_array_equal(here["proportions"], 1)

    models = [_model(y, precision_cholesky=_wishart(y)) for y in (x, x * unit)]
    here, there = (units(model, jnp.asarray(y)) for model, y in zip(models, (x, x * unit), strict=True))
    free = Coordinates(models[0]).unconstrain(
        {"loc": jnp.zeros((2, 2)), "precision_cholesky": jnp.asarray([np.eye(2), [[1.0, 0.0], [5.0, 1.0]]])}
        | {"proportions": jnp.full(2, 0.5)}
    )
    below = np.asarray(free["precision_cholesky"][1]) == 5.0  # the coordinate of the entry below the diagonal
    assert below.sum() == 1
    np.testing.assert_allclose(
        np.asarray(there["precision_cholesky"])[:, below], np.asarray(here["precision_cholesky"])[:, below] / unit[1]
    )
    assert float(here["precision_cholesky"][0, below][0]) != 1
    for result in (here, there):
        np.testing.assert_array_equal(np.asarray(result["precision_cholesky"])[:, ~below], 1)


def _wishart(x: np.ndarray) -> dist.Distribution:
    return dist.WishartCholesky(5.0, rate_matrix=jnp.diag(5.0 * jnp.asarray(x.var(0))))


def test_a_vague_prior_on_a_location_leaves_the_unit_to_the_data() -> None:
    x = _clusters()
    vague = dist.Normal(jnp.zeros(2), 1e6).to_event(1)
    narrow = dist.Normal(jnp.zeros(2), 0.5).to_event(1)
    np.testing.assert_allclose(units(_model(x, loc=vague), jnp.asarray(x))["loc"][0], x.std(0))
    np.testing.assert_allclose(units(_model(x, loc=narrow), jnp.asarray(x))["loc"][0], 0.5, rtol=0.2)


def test_densities_in_scaled_coordinates_are_those_of_the_coordinates() -> None:
    x = jnp.asarray(_clusters())
    model = _model(_clusters())
    plain, unit = Coordinates(model), units(model, x)
    scaled = ScaledCoordinates(model, unit)
    noise = np.random.default_rng(1)
    free = {name: jnp.asarray(noise.normal(0, 0.5, zero.shape)) for name, zero in plain.zeros.items()}
    walk = jax.tree.map(jnp.divide, free, unit)
    np.testing.assert_allclose(scaled.log_joint(walk, x), plain.log_joint(free, x), rtol=1e-12)
    back = scaled.unconstrain(scaled.constrain(walk))
    for name, value in walk.items():
        np.testing.assert_allclose(back[name], value, rtol=1e-10, atol=1e-12)


def test_a_search_whose_steps_are_too_small_has_not_converged() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([_clusters(), rng.normal(0, 1, (60, 2))])
    model = _model(x, "diagonal")
    slow, quick = (
        gradient_em.run(
            jax.random.key(0),
            model,
            jnp.asarray(x),
            optimiser="adam",
            restarts=1,
            learning_rate=rate,
            max_iterations=400,
        )
        for rate in (1e-10, 0.05)
    )
    assert slow.stats["lp"][0, 0] < quick.stats["lp"][0, 0] - 1
    assert (slow.status, quick.status) == ("max_steps", "converged")
