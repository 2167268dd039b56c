"""Densities of the guides, the natural gradient, the tail of importance ratios: each against an independent account."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats
from scipy.optimize import minimize
from scipy.special import betaln, polygamma

from probam.inference.common.coordinates import Coordinates
from probam.inference.evidence.importance import pareto_smoothed
from probam.inference.svi.batch import Batch
from probam.inference.svi.curvature import spreads
from probam.inference.svi.guides import Flow, Frame, Full, Guide, LowRank, MeanField, Sticks, guide_for
from probam.inference.svi.steps import Posterior, _over_information, bound_estimate, natural_step, posterior
from probam.models.gaussian import Gaussian
from probam.models.laplace import Laplace
from probam.models.mixture import mixture
from probam.models.weights import weight_prior
from tests.models.known_precision import KnownPrecision

SIZE = 4


def _params(guide: Guide, seed: int = 0) -> dict[str, jax.Array]:
    """A guide away from its start, its numbers all different."""
    rng = np.random.default_rng(seed)
    at, unit = jnp.asarray(rng.normal(0, 1, SIZE)), jnp.asarray(rng.uniform(0.5, 2, SIZE))
    params = guide.start(jax.random.key(seed), at, unit, jnp.asarray(0.8))
    return {name: value + rng.normal(0, 0.4, value.shape) for name, value in params.items() if name != "logit_unit"} | {
        name: value for name, value in params.items() if name == "logit_unit"
    }


def test_the_densities_of_gaussian_guides_are_those_of_scipy() -> None:
    u = np.random.default_rng(9).normal(0, 1, SIZE)
    for guide in (MeanField(), LowRank(2), Full()):
        params = _params(guide)
        diagonal = np.diag(np.exp(np.asarray(params["log_scale"])))
        if isinstance(guide, Full):
            factor = np.tril(params["lower"], -1) + diagonal
            covariance = factor @ factor.T
        else:
            extra = np.asarray(params.get("factor", np.zeros((SIZE, 1))))
            covariance = diagonal**2 + extra @ extra.T
        expected = stats.multivariate_normal.logpdf(u, np.asarray(params["loc"]), covariance)
        assert_allclose(guide.log_density(params, jnp.asarray(u)), expected, rtol=1e-10)


def test_the_density_of_a_flow_is_that_of_its_noise_over_the_jacobian() -> None:
    """The draw as a function of its noise, the Jacobian by differences of the seven-point formula."""
    guide = Flow()
    params = _params(guide)
    noise = np.random.default_rng(1).normal(0, 1, SIZE)

    @jax.jit
    def push(noise: jax.Array) -> jax.Array:
        """``draw`` with its noise given."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(jax.random, "normal", lambda key, shape, dtype: noise)
            return guide.draw(params, jax.random.key(0))

    step, weights = 1e-3, np.array([-1, 9, -45, 0, 45, -9, 1]) / 60
    columns = [
        sum(w * np.asarray(push(noise + step * i * axis)) for i, w in zip(range(-3, 4), weights, strict=True)) / step
        for axis in np.eye(SIZE)
    ]
    log_det = np.linalg.slogdet(np.stack(columns, axis=1))[1]
    expected = stats.norm.logpdf(noise).sum() - log_det
    assert_allclose(jax.jit(guide.log_density)(params, push(jnp.asarray(noise))), expected, rtol=1e-8)


def test_stick_factors_are_betas_and_their_draws_follow_them() -> None:
    guide = Sticks((1, 3), (0.0, float(np.log(2))))
    params = _params(guide)
    first, second = (np.asarray(value) for value in guide.betas(params))
    u = np.random.default_rng(2).normal(0, 1, SIZE)
    v = 1 / (1 + np.exp(-u[[1, 3]]))
    expected = np.sum(stats.beta.logpdf(v, first, second) + np.log(v * (1 - v)))  # of logit V
    expected += np.sum(stats.norm.logpdf(u[[0, 2]], params["loc"], np.exp(params["log_scale"])))
    assert_allclose(guide.log_density(params, jnp.asarray(u)), expected, rtol=1e-10)
    draws = np.asarray(jax.jit(jax.vmap(guide.draw, (None, 0)))(params, jax.random.split(jax.random.key(0), 2000)))
    for column, a, b in zip((1, 3), first, second, strict=True):
        sample = 1 / (1 + np.exp(-draws[:, column]))
        assert stats.kstest(sample, stats.beta(a, b).cdf).pvalue > 1e-4
    frame = guide.frame(jnp.arange(4.0), jnp.full(4, 2.0))
    assert_allclose(frame.centre, [0, 0, 2, np.log(2)])
    assert_allclose(frame.factor, [2, 1, 2, 1])


def test_beta_sticks_begin_with_the_curvature_they_are_given() -> None:
    guide = Sticks((0,), (0.0,))
    for logit, sd in ((0.4, 0.05), (-3.0, 0.02)):
        params = guide.start(jax.random.key(0), jnp.asarray([logit]), jnp.asarray([sd]), jnp.asarray(1.0))
        first, second = (float(value[0]) for value in guide.betas(params))
        assert_allclose(np.log(first / second), logit, rtol=1e-6)
        assert_allclose((1 / first + 1 / second) ** 0.5, sd, rtol=1e-6)


@pytest.mark.parametrize("weights", ["dirichlet", "dp"])
def test_sticks_of_the_weights_make_the_weights(weights: str) -> None:
    """The positions and offsets: breaking sticks with the logits of V gives the very weights of the model."""
    x = np.random.default_rng(0).normal(0, 1, (9, 2))
    model = mixture(x, family=Gaussian("isotropic"), weights=weight_prior(weights), num_components=4)
    coordinates = Coordinates(model)
    guide = guide_for("sticks", coordinates)
    assert isinstance(guide, Sticks)
    z = np.random.default_rng(1).normal(0, 1, sum(value.size for value in coordinates.zeros.values()))
    v = 1 / (1 + np.exp(-(z[list(guide.positions)] - np.array(guide.offsets))))
    broken = np.append(v, 1) * np.append(1, np.cumprod(1 - v))
    mixed = model.mixture(coordinates.constrain(coordinates.unflatten(jnp.asarray(z))))
    assert_allclose(np.exp(mixed.log_weights), broken, rtol=1e-6)


def test_where_guide_and_posterior_agree_the_gradient_has_no_noise() -> None:
    guide, params = Full(), _params(Full())
    target = lambda u: guide.log_density(params, u) + 3.0  # noqa: E731
    value, slope = jax.jit(jax.value_and_grad(lambda p, key: bound_estimate(guide, p, key, target)))(
        params, jax.random.key(4)
    )
    assert_allclose(value, 3.0, rtol=1e-12)
    for name, leaf in slope.items():
        assert_allclose(leaf, 0, atol=1e-10, err_msg=name)


def _quadratic() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(6)
    root = rng.normal(0, 1, (SIZE, SIZE))
    return root @ root.T + np.eye(SIZE), rng.normal(0, 1, SIZE)


@pytest.mark.parametrize("full", [False, True])
def test_the_natural_step_is_the_gradient_over_fishers_information(full: bool) -> None:
    """On a quadratic of curvature A: the mean moves by rate S A (b - m) exactly, the spread as its law says."""
    curvature, top = _quadratic()
    guide: Guide = Full() if full else MeanField()
    params, rate, pairs = _params(guide), 0.01, 20_000

    def target(u: jax.Array) -> jax.Array:
        return -0.5 * (u - top) @ jnp.asarray(curvature) @ (u - top)

    moved, _, bound = jax.jit(
        lambda p: natural_step(guide, p, (), jax.random.key(0), target, jnp.asarray(rate), num_particles=pairs)
    )(params)

    def law(p: dict[str, jax.Array]) -> tuple[np.ndarray, np.ndarray]:
        diagonal = np.diag(np.exp(np.asarray(p["log_scale"])))
        factor = np.tril(p["lower"], -1) + diagonal if full else diagonal
        return np.asarray(p["loc"]), factor @ factor.T

    (mean, covariance), (new_mean, new_covariance) = law(params), law(moved)
    assert_allclose(new_mean - mean, rate * covariance @ curvature @ (top - mean), rtol=1e-10)
    shown = curvature if full else np.diag(np.diag(curvature))
    change = -rate * (covariance @ shown @ covariance - covariance)
    scale = np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
    largest = np.linalg.eigvalsh(np.linalg.cholesky(covariance).T @ curvature @ np.linalg.cholesky(covariance))[-1]
    noise = 5 * rate * largest * SIZE / pairs**0.5 + (rate * largest) ** 2  # Monte Carlo, and the step's second order
    assert np.all(np.abs(new_covariance - covariance - change) < noise * scale)
    exact = -0.5 * ((mean - top) @ curvature @ (mean - top) + np.trace(curvature @ covariance))
    exact += 0.5 * np.linalg.slogdet(2 * np.pi * np.e * covariance)[1]
    assert abs(float(bound) - exact) < 5 * np.trace(curvature @ covariance) / pairs**0.5


@pytest.mark.parametrize(("weights", "alpha"), [pytest.param("dp", 1.3, marks=pytest.mark.slow), ("dirichlet", 0.7)])
def test_the_first_natural_step_of_sticks_lands_on_the_conjugate_posterior(weights: str, alpha: float) -> None:
    """Memories a hundred deviations apart: labels are known, and the posterior of each stick is a Beta of counts."""
    x = np.repeat([-100.0, 0.0, 100.0], (5, 2, 3))[:, None] + np.linspace(-1, 1, 10)[:, None]
    model = mixture(x, family=KnownPrecision(1.0, 1e4), weights=weight_prior(weights, alpha=alpha), num_components=3)
    coordinates = Coordinates(model)
    guide = guide_for("sticks", coordinates)
    assert isinstance(guide, Sticks)
    sites: dict[str, jax.Array] = {"loc": jnp.array([[-100.0], [0], [100]])}
    sites |= {"sticks": jnp.array([0.3, 0.6])} if weights == "dp" else {"proportions": jnp.array([0.2, 0.3, 0.5])}
    at = coordinates.flatten(coordinates.unconstrain(sites))
    frame, begin = guide.frame(at, 0.1 + 0 * at), guide.start(jax.random.key(0), at, 0.1 + 0 * at, jnp.asarray(1.0))

    @jax.jit
    def after(rows: jax.Array) -> tuple[jax.Array, jax.Array]:
        target = posterior(coordinates, frame, Batch(rows, None, len(x) / len(rows), len(x)))
        moved, _, _ = natural_step(guide, begin, (), jax.random.key(1), target, jnp.asarray(1.0), num_particles=2)
        return guide.betas(moved)

    counts, behind = np.array([5.0, 2]), np.array([5.0, 3])
    first = 1 + counts if weights == "dp" else alpha + counts
    second = alpha + behind if weights == "dp" else alpha * np.array([2, 1]) + behind
    for result, expected in zip(after(jnp.asarray(x)), (first, second), strict=True):
        assert_allclose(result, expected, rtol=1e-9)
    # minibatches that share the data out share the step out: their mean is the step of all data
    order = np.random.default_rng(0).permutation(10)
    halves = [after(jnp.asarray(x[np.repeat(part, 2)])) for part in (order[:5], order[5:])]
    for one, two, expected in zip(*halves, (first, second), strict=True):
        assert abs(one[0] - two[0]) > 0.5
        assert_allclose((one + two) / 2, expected, rtol=1e-9)


@pytest.mark.slow
def test_the_natural_step_of_sticks_is_the_gradient_over_fishers_information() -> None:
    """One stick between two known densities that overlap, so that counts move with it; the bound by quadrature."""
    rng = np.random.default_rng(4)
    odds = rng.normal(0, 1.5, 12)  # log density under the first memory over that under the second
    prior, numbers, rate, pairs = np.array([1.4, 2.2]), np.array([2.5, 4.0]), 0.01, 320_000
    grid = np.linspace(-40, 40, 200_001)
    log_v, log_rest = -np.logaddexp(0, -grid), -np.logaddexp(0, grid)

    def bound(ab: np.ndarray) -> float:
        log_q = ab[0] * log_v + ab[1] * log_rest - betaln(*ab)
        log_p = prior[0] * log_v + prior[1] * log_rest - betaln(*prior)
        log_p = log_p + np.sum(np.logaddexp(log_v[:, None] + odds, log_rest[:, None]), axis=1)
        return float(np.sum(np.exp(log_q) * (log_p - log_q)) * (grid[1] - grid[0]))

    step = 1e-4 * np.eye(2)
    gradient = np.array([(bound(numbers + e) - bound(numbers - e)) / 2e-4 for e in step])
    information = np.diag(polygamma(1, numbers)) - polygamma(1, numbers.sum())
    expected = np.linalg.solve(information, gradient)

    class Known(Posterior):
        """Of one stick and a coordinate of a standard normal, which says nothing."""

        def __init__(self) -> None:
            def log_likelihood(u: jax.Array) -> jax.Array:
                shares = jax.nn.log_sigmoid(u[0]) + jnp.asarray(odds), jax.nn.log_sigmoid(-u[0])
                return jnp.sum(jnp.logaddexp(*shares))

            def log_prior(u: jax.Array) -> jax.Array:
                sticks = prior[0] * jax.nn.log_sigmoid(u[0]) + prior[1] * jax.nn.log_sigmoid(-u[0]) - betaln(*prior)
                return sticks - 0.5 * u[1] ** 2 - 0.5 * np.log(2 * np.pi)

            super().__init__(log_prior, log_likelihood, len(odds))

    guide = Sticks((0,), (0.0,))
    zero = jnp.zeros(2)
    params = guide.with_betas(guide.start(jax.random.key(0), zero, zero + 1, jnp.asarray(1.0)), *numbers[:, None])
    take = jax.jit(
        lambda p, key: natural_step(guide, p, (), key, Known(), jnp.asarray(rate), num_particles=pairs // 16)
    )
    steps = []
    for seed in range(16):
        moved, _, value = take(params, jax.random.key(seed))
        steps.append([*(np.asarray(guide.betas(moved))[:, 0] - numbers) / rate, float(value)])
    mean, error = np.mean(steps, axis=0), np.std(steps, axis=0, ddof=1) / 16**0.5
    assert (np.abs(mean[:2] - expected) < 5 * error[:2]).all(), (mean, expected, error)
    assert (error[:2] < 0.1 * np.abs(expected)).all()
    assert abs(mean[2] - bound(numbers)) < 5 * error[2]


def test_a_gradient_over_fishers_information_gives_the_gradient_back() -> None:
    numbers = np.array([[0.3, 2.0, 30.0, 60.0, 900.0], [1.2, 5.0, 70.0, 40.0, 30.0]])
    gradient = np.random.default_rng(0).normal(0, 1, numbers.shape)
    result = np.asarray(_over_information(jnp.asarray(numbers), jnp.asarray(gradient)))
    back = polygamma(1, numbers) * result - polygamma(1, numbers.sum(0)) * result.sum(0)
    assert_allclose(back, gradient, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("matrix", [False, True])
def test_spreads_are_those_of_the_inverse_hessian(matrix: bool) -> None:
    """One memory of known precision would do; here all sites of one Gaussian memory at its optimum."""
    x = np.random.default_rng(3).normal(1.0, 2.0, (30, 2))
    model = mixture(x, family=Gaussian("diagonal"), weights=weight_prior("uniform"), num_components=1)
    coordinates = Coordinates(model)
    z = jnp.asarray([[1.0, 1.2, -1.3, -1.5]])
    result = np.asarray(
        spreads(model, z, jax.random.key(0), Batch(jnp.asarray(x), None, 60 / len(x), 60), matrix=matrix)
    )[0]

    def minus_log_joint(z: jax.Array) -> jax.Array:
        free = coordinates.unflatten(z)
        rows = coordinates.log_likelihood(coordinates.constrain(free), jnp.asarray(x))
        return -coordinates.log_prior(free) - 2 * rows  # 30 rows stand for 60

    hessian = np.asarray(jax.jit(jax.hessian(minus_log_joint))(z[0]))
    if matrix:
        assert_allclose(result @ result.T, np.linalg.inv(hessian), rtol=1e-8, atol=1e-14)
    else:
        assert_allclose(result, np.diag(hessian) ** -0.5, rtol=1e-8)


@pytest.mark.parametrize("covariance", ["isotropic", "full"])
def test_the_flat_vector_means_the_same_inside_a_compiled_function(covariance: str) -> None:
    """JAX sorts the dictionary of priors of a model on its way in; guides put numbers where they flattened them."""
    x = np.random.default_rng(0).normal(0, 1, (12, 3))
    model = mixture(x, family=Gaussian(covariance), weights=weight_prior("pyp"), num_components=4)
    coordinates = Coordinates(model)
    noise = np.random.default_rng(1)
    free = {name: jnp.asarray(noise.normal(0, 0.3, value.shape)) for name, value in coordinates.zeros.items()}
    z = coordinates.flatten(free)
    for name, value in jax.jit(lambda model, z: Coordinates(model).unflatten(z))(model, z).items():
        np.testing.assert_array_equal(value, free[name], err_msg=name)


def test_where_a_density_has_kinks_slopes_stand_in_for_curvature() -> None:
    """Laplace memories: the log likelihood is piecewise linear in the location, of squared slope 1 / b^2 a datum."""
    x = np.random.default_rng(3).laplace(1.0, 2.0, (31, 1))
    model = mixture(x, family=Laplace(), weights=weight_prior("uniform"), num_components=1)
    coordinates = Coordinates(model)
    free = {name: jnp.zeros_like(value) + 0.3 for name, value in coordinates.zeros.items()}
    z = coordinates.flatten(free)
    result = spreads(model, z[None], jax.random.key(0), Batch(jnp.asarray(x), None, 31 / len(x), 31), matrix=False)[0]
    scale = float(model.family.bank(coordinates.constrain(free)).variance[0, 0] / 2) ** 0.5
    assert_allclose(coordinates.unflatten(result)["loc"][0, 0], (0.1 * 31 / scale**2) ** -0.5, rtol=1e-6)


def test_a_ratio_that_dwarfs_its_tail_has_an_infinite_one() -> None:
    result = pareto_smoothed(np.append(np.linspace(-3000, -2000, 199), 0.0))
    assert result is not None
    assert result.pareto_k == np.inf


def test_a_frame_is_an_affine_map_with_its_volume() -> None:
    rng = np.random.default_rng(0)
    factor = np.tril(rng.normal(0, 1, (3, 3)))
    for inputs in (factor, np.abs(factor[:, 0])):
        frame = Frame(jnp.arange(3.0), jnp.asarray(inputs))
        matrix = inputs if inputs.ndim == 2 else np.diag(inputs)
        assert_allclose(frame.apply(jnp.ones(3)), np.arange(3) + matrix @ np.ones(3), rtol=1e-12)
        assert_allclose(frame.log_det, np.linalg.slogdet(matrix)[1], rtol=1e-12)


def test_guides_keep_single_precision() -> None:
    for guide in (MeanField(), LowRank(), Full(), Flow(), Sticks((1,), (0.0,))):
        one = jnp.ones(3, jnp.float32)
        params = jax.eval_shape(guide.start, jax.random.key(0), one, one, jnp.float32(1))
        u = jax.eval_shape(guide.draw, params, jax.random.key(0))
        assert u.dtype == jnp.float32, guide.name
        assert jax.eval_shape(guide.log_density, params, u).dtype == jnp.float32, guide.name


def test_the_tail_of_pareto_ratios_is_recovered_and_a_constant_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    for shape in (0.3, 1.0):
        log_ratios = np.log(stats.genpareto.rvs(shape, loc=1, size=20_000, random_state=rng))
        result = pareto_smoothed(log_ratios)
        shifted = pareto_smoothed(log_ratios - 700.0)  # a factor K!, or an evidence
        assert result is not None
        assert shifted is not None
        assert abs(result.pareto_k - shape) < 0.15
        assert_allclose(shifted.pareto_k, result.pareto_k, atol=1e-9)
        assert_allclose(shifted.log_evidence, result.log_evidence - 700, rtol=1e-12)
        if shape < 0.7:  # the mean of 1 + generalised Pareto is 1 + 1 / (1 - k)
            assert abs(result.log_evidence - np.log(1 + 1 / (1 - shape))) < 5 * result.standard_error


def test_equal_ratios_have_no_tail_and_too_few_have_no_estimate() -> None:
    equal = pareto_smoothed(np.full(200, -3.5))
    assert equal is not None
    assert (equal.pareto_k, equal.log_evidence, equal.standard_error) == (0.0, -3.5, 0.0)
    assert pareto_smoothed(np.zeros(99)) is None
    assert pareto_smoothed(np.append(np.zeros(200), -np.inf)) is None


def test_k_hat_condemns_the_best_mean_field_of_a_funnel() -> None:
    """Neal's funnel v ~ N(0, 3^2), x | v ~ N(0, e^v) in nine x: the bound of a mean field is in closed form."""
    num = 9

    def minus_bound(numbers: np.ndarray) -> float:
        centre, log_s, log_t = numbers
        expected = -(centre**2 + np.exp(2 * log_s)) / 18 - num * centre / 2
        expected -= 0.5 * num * np.exp(2 * log_t - centre + np.exp(2 * log_s) / 2)
        return -(expected + log_s + num * log_t)

    centre, log_s, log_t = minimize(minus_bound, np.zeros(3)).x
    rng = np.random.default_rng(0)
    v = rng.normal(centre, np.exp(log_s), 20_000)
    x = rng.normal(0, np.exp(log_t), (20_000, num))
    log_q = stats.norm.logpdf(v, centre, np.exp(log_s)) + np.sum(stats.norm.logpdf(x, 0, np.exp(log_t)), axis=1)
    log_p = stats.norm.logpdf(v, 0, 3) + np.sum(stats.norm.logpdf(x, 0, np.exp(v / 2)[:, None]), axis=1)
    result = pareto_smoothed(log_p - log_q)
    assert result is not None
    assert result.pareto_k > 0.7
