"""Gradient EM beyond Adam: ascent that never falls, and EM itself as a preconditioned gradient."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import xlogy

from probam.errors import InputError
from probam.family import Params, innermost
from probam.inference.common import information
from probam.inference.common.coordinates import Coordinates
from probam.inference.em import engine as em
from probam.inference.gradient_em import ascent
from probam.inference.gradient_em import engine as gradient_em
from probam.inference.gradient_em.line_search import climb
from probam.models.bernoulli import Bernoulli
from probam.models.gaussian import Gaussian
from probam.models.mixture import Mixture, mixture
from probam.models.weights import weight_prior
from tests.models.known_precision import KnownPrecision


def _groups() -> np.ndarray:
    rng = np.random.default_rng(5)
    return np.concatenate([rng.normal(c, s, (n, 2)) for c, s, n in ((0, 0.6, 14), (3, 1.0, 17), (-4, 0.8, 9))])


def _model(covariance: str = "diagonal", weights: str = "dirichlet") -> tuple[Mixture, jax.Array]:
    x = _groups()
    return mixture(x, family=Gaussian(covariance), weights=weight_prior(weights), num_components=3), jnp.asarray(x)


def _one_step_of_em(model: Mixture, x: jax.Array, params: Params, estimate: str) -> dict[str, np.ndarray]:
    states, _ = em.fit_params(jax.random.key(0), model, x, estimate=estimate, start=params, max_iterations=1).ends
    return {name: np.asarray(value[0]) for name, value in states.params.items()}


@pytest.mark.parametrize("optimiser", ["ecg", "natural"])
def test_the_log_joint_never_falls_and_ends_where_closed_form_em_does(optimiser: str) -> None:
    model, x = _model()
    closed = em.run(jax.random.key(0), model, x, restarts=2)
    result = gradient_em.run(jax.random.key(0), model, x, optimiser=optimiser, restarts=2, tolerance=1e-12)
    assert result.status == "converged"
    assert result.objective is not None
    assert np.diff(result.objective, axis=1).min() > -1e-12 * np.abs(result.objective).max()
    np.testing.assert_allclose(result.stats["lp"], closed.stats["lp"], rtol=1e-9)
    coordinates = Coordinates(model)
    free = coordinates.unconstrain({name: jnp.asarray(result.sites[name][0, 0]) for name in coordinates.zeros})
    slope = jax.jit(jax.grad(lambda free: coordinates.log_joint(free, x)))(free)
    for name, value in slope.items():  # the gradient of the potential of NUTS
        assert float(jnp.max(jnp.abs(value))) < 1e-3, name


def test_em_is_the_gradient_times_the_matrices_of_xu_and_jordan() -> None:
    """Xu & Jordan (1996), Theorem 1; the M-step's covariances are about the new means, which takes a square off."""
    model, x = _model("full")
    rng = np.random.default_rng(3)
    loc = np.array([[0.5, -0.3], [2.0, 3.5], [-3.0, -5.0]])
    factors = np.tril(rng.normal(0, 0.2, (3, 2, 2)), -1) + np.eye(2) * rng.uniform(0.7, 1.2, (3, 2, 1))
    precision = factors @ factors.transpose(0, 2, 1)
    covariance, weights = np.linalg.inv(precision), np.array([0.5, 0.2, 0.3])
    params = {"loc": jnp.asarray(loc), "precision_cholesky": jnp.asarray(factors), "proportions": jnp.asarray(weights)}
    after = _one_step_of_em(model, x, params, "ml")

    def log_likelihood(weights: jax.Array, loc: jax.Array, covariance: jax.Array) -> jax.Array:
        """Written out; the derivative in the covariance takes its entries as free."""
        apart = x[:, None, :] - loc
        square = jnp.einsum("nkd,kde,nke->nk", apart, jnp.linalg.inv(covariance), apart)
        log_norm = 0.5 * jnp.log(jnp.linalg.det(covariance)) + jnp.log(2 * jnp.pi)
        return jnp.sum(jnp.log(jnp.sum(weights * jnp.exp(-0.5 * square - log_norm), axis=-1)))

    gradient = jax.jit(jax.grad(log_likelihood, argnums=(0, 1, 2)))
    by_weight, by_loc, by_covariance = map(
        np.asarray, gradient(jnp.asarray(weights), params["loc"], jnp.asarray(covariance))
    )
    counts = np.asarray(model.mixture(params).responsibilities(x)).sum(0)
    step = np.einsum("kde,ke->kd", covariance, by_loc) / counts[:, None]
    np.testing.assert_allclose(after["loc"], loc + step, rtol=1e-9)
    moved = weights + (np.diag(weights) - np.outer(weights, weights)) @ by_weight / len(x)
    np.testing.assert_allclose(after["proportions"], moved, rtol=1e-9)
    spread = covariance + 2 * covariance @ by_covariance @ covariance / counts[:, None, None]
    spread = spread - step[:, :, None] * step[:, None, :]
    new = np.asarray(after["precision_cholesky"])
    np.testing.assert_allclose(np.linalg.inv(new @ new.transpose(0, 2, 1)), spread, rtol=1e-7)


def test_a_unit_natural_step_in_a_location_is_the_m_step() -> None:
    """Where Q is quadratic, minus its Hessian is Fisher's information and one step of it maximises."""
    x = jnp.asarray(_groups())
    model = mixture(_groups(), family=KnownPrecision(0.8, 5.0), weights=weight_prior("uniform"), num_components=3)
    coordinates = Coordinates(model)
    params = {"loc": jnp.asarray([[0.5, -0.3], [2.0, 1.5], [1.0, -1.0]])}

    @jax.jit
    def both(params: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        z = coordinates.flatten(params)
        gradient = jax.grad(lambda z: coordinates.log_joint(coordinates.unflatten(z), x))(z)
        direction = ascent.natural_direction(coordinates, z, gradient, x)
        blocks, _ = information.complete_information(coordinates, z, x)
        return coordinates.unflatten(z + direction)["loc"], blocks, model.mixture(params).responsibilities(x)

    stepped, blocks, responsibilities = both(params)
    after = _one_step_of_em(model, x, params, "map")
    np.testing.assert_allclose(stepped, after["loc"], rtol=1e-10)
    counts = np.asarray(responsibilities).sum(0)
    np.testing.assert_allclose(blocks, (counts / 0.8 + 1 / 5.0)[:, None, None] * np.eye(2), rtol=1e-10, atol=1e-12)


def test_the_information_of_bits_is_fishers_in_their_logits() -> None:
    """The logit is the canonical parameter: (n_k + a + b) p (1 - p) under a Beta(a, b) prior, from no pair of bits."""
    bits = (np.random.default_rng(1).random((11, 4)) < 0.4).astype(float)
    model = mixture(bits, family=Bernoulli(), weights=weight_prior("uniform"), num_components=2)
    coordinates, x = Coordinates(model), jnp.asarray(bits)
    z = jnp.asarray(np.random.default_rng(2).normal(0, 1, 8))
    (site,) = model.prior
    prior: Any = innermost(model.prior[site])
    total = np.asarray(prior.concentration1 + prior.concentration0)
    blocks, rest = jax.jit(lambda z: information.complete_information(coordinates, z, x))(z)
    p = 1 / (1 + np.exp(-np.asarray(z).reshape(2, 4)))
    log_joint = xlogy(x[:, None], p).sum(-1) + xlogy(1 - x[:, None], 1 - p).sum(-1)
    odds = np.exp(log_joint[:, 0] - log_joint[:, 1])
    counts = np.stack([odds / (1 + odds), 1 / (1 + odds)]).sum(1)
    np.testing.assert_allclose(blocks, [np.diag(row) for row in (counts[:, None] + total) * p * (1 - p)], atol=1e-10)
    assert rest.shape == (0, 0)


def test_the_blocks_of_the_information_are_those_of_the_hessian_of_q() -> None:
    model, x = _model("isotropic", "dp")  # beta is shared, sticks and alpha are the weights'
    coordinates = Coordinates(model)
    z = jnp.asarray(np.random.default_rng(4).normal(0, 0.5, sum(v.size for v in coordinates.zeros.values())))

    @jax.jit
    def both(z: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        responsibilities = model.mixture(coordinates.constrain(coordinates.unflatten(z))).responsibilities(x)
        q = lambda z: information.expected_log_joint(coordinates, coordinates.unflatten(z), responsibilities, x)  # noqa: E731
        return -jax.hessian(q)(z), information.complete_information(coordinates, z, x)

    whole, (memories, rest) = both(z)
    own, others = information.positions(coordinates)
    assert own.shape == (3, 2)
    assert len(others) == 4
    for k in range(3):
        np.testing.assert_allclose(memories[k], whole[np.ix_(own[k], own[k])], rtol=1e-9, atol=1e-9)
        for other in range(k):
            np.testing.assert_allclose(whole[np.ix_(own[k], own[other])], 0, atol=1e-9)
    np.testing.assert_allclose(rest, whole[np.ix_(others, others)], rtol=1e-9, atol=1e-9)


def test_a_line_search_stops_where_the_slope_is_flat_and_never_lower() -> None:
    top = 3.7

    def hill(step: jax.Array) -> jax.Array:
        return -jnp.log(jnp.cosh(step - top))

    def with_slope(function: Callable[[jax.Array], jax.Array]) -> Callable[[jax.Array], tuple[jax.Array, jax.Array]]:
        return lambda step: jax.jvp(function, (step,), (jnp.ones_like(step),))

    search = jax.jit(lambda first: climb(with_slope(hill), first))
    begin = -np.log(np.cosh(top))
    for first in (1e-3, 1.0, 500.0):
        step, rise = search(jnp.asarray(first))
        np.testing.assert_allclose(rise, -np.log(np.cosh(float(step) - top)) - begin, rtol=1e-12)
        assert abs(np.tanh(float(step) - top)) <= 0.1 * np.tanh(top)
    back = jax.jit(lambda first: climb(with_slope(hill), first, backtrack=True))
    step, rise = back(jnp.asarray(0.5))
    assert float(step) == 0.5  # long enough a step for Armijo, though not the top
    down = jax.jit(lambda first: climb(with_slope(lambda step: -step), first))
    assert [float(v) for v in down(jnp.asarray(1.0))] == [0.0, 0.0]


@pytest.mark.slow
def test_conjugate_gradients_need_fewer_steps_than_em_where_memories_overlap() -> None:
    """Salakhutdinov et al. (2003): EM creeps where little is known of the assignments."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(-0.6, 1, (300, 2)), rng.normal(0.6, 1, (300, 2))])
    model = mixture(x, family=Gaussian("isotropic"), weights=weight_prior("dirichlet"), num_components=2)
    top = gradient_em.run(jax.random.key(0), model, jnp.asarray(x), optimiser="ecg", restarts=1, tolerance=1e-13)
    closed = em.run(jax.random.key(0), model, jnp.asarray(x), restarts=1, tolerance=1e-14, max_iterations=20_000)
    height = max(float(top.stats["lp"][0, 0]), float(closed.stats["lp"][0, 0]))
    steps = []
    for result in (top, closed):
        assert result.objective is not None
        near = np.flatnonzero(result.objective[0] > height - 1e-6)
        assert near.size
        steps.append(int(near[0]))
    assert steps[0] < 0.5 * steps[1], steps


def test_an_unknown_optimiser_is_named() -> None:
    model, x = _model()
    with pytest.raises(InputError, match="optimiser: expected one of ecg, natural, adam; got 'newton'"):
        gradient_em.run(jax.random.key(0), model, x, optimiser="newton")
