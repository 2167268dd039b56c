"""Newton steps at the end of a search: to where the slope is rounding, and nowhere else."""

import jax
import jax.numpy as jnp
import numpy as np

from probam.family import family
from probam.fits.choices import families
from probam.inference.common.coordinates import Coordinates
from probam.inference.em import engine as em
from probam.inference.gradient_em.polish import polished
from probam.inference.gradient_em.units import units
from probam.models.gaussian import Gaussian
from probam.models.mixture import mixture
from probam.models.weights import weight_prior

RNG = np.random.default_rng(0)
X = np.concatenate([RNG.normal(-3, 1, (40, 2)), RNG.normal(3, 1, (50, 2))])


def test_a_point_near_a_maximum_is_moved_to_it_and_one_on_a_slope_is_not_lowered() -> None:
    """The maximum is known from closed-form EM, run to the end."""
    x = jnp.asarray(X)
    model = mixture(X, family=Gaussian("diagonal"), weights=weight_prior("dirichlet"), num_components=2)
    states, _ = em.fit_params(jax.random.key(0), model, x, restarts=1, tolerance=0.0, max_iterations=3000).ends
    maximum = {name: value[0] for name, value in states.params.items()}
    near = {name: value * (1 + 1e-6) for name, value in maximum.items()}
    near["proportions"] = maximum["proportions"]
    coordinates, unit = Coordinates(model), units(model, x)
    slope = jax.jit(jax.grad(lambda free: coordinates.log_joint(free, x)))
    height = jax.jit(lambda params: coordinates.log_joint(coordinates.unconstrain(params), x))
    ended = polished(model, unit, near, x)
    for name, value in ended.items():
        np.testing.assert_allclose(value, maximum[name], rtol=1e-10)
    steepest = max(float(jnp.max(jnp.abs(leaf))) for leaf in slope(coordinates.unconstrain(ended)).values())
    assert steepest < 1e-10
    far = {name: value * 1.3 for name, value in maximum.items()} | {"proportions": maximum["proportions"]}
    assert float(height(polished(model, unit, far, x))) >= float(height(far))


def test_where_the_density_has_kinks_the_end_is_not_lowered() -> None:
    families()
    model = mixture(X, family=family("laplace"), weights=weight_prior("dirichlet"), num_components=2)
    x, coordinates = jnp.asarray(X), Coordinates(model)
    states, _ = em.fit_params(jax.random.key(0), model, x, restarts=1, max_iterations=50).ends
    end = {name: value[0] for name, value in states.params.items()}
    height = jax.jit(lambda params: coordinates.log_joint(coordinates.unconstrain(params), x))
    assert float(height(polished(model, units(model, x), end, x))) >= float(height(end)) - 1e-10
