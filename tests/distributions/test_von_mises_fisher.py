import math
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import numpyro
import pytest
import scipy.stats
from numpyro.infer.util import log_density
from scipy.integrate import quad
from scipy.optimize import brentq

from probam.distributions.von_mises_fisher import VonMisesFisher
from probam.errors import InputError
from probam.numerics.bessel import (
    inverse_mean_resultant_length,
    log_normalizer,
    log_normalizer_scaled,
    mean_resultant_gap,
    mean_resultant_length,
    mean_resultant_length_slope,
    mean_resultant_ratio,
)

DIMS = (2, 3, 4, 5, 10, 64, 384, 1024, 4096)
KAPPAS = np.concatenate([[0.0], 10.0 ** np.arange(-6, 7)]).astype(np.float32)  # exact in both precisions
FAR = 4.5  # standard errors; a fair sampler is beyond them once in 150,000 comparisons


@lru_cache
def exact(dim: int, kappa: float) -> tuple[Any, Any, Any]:
    """log C, A and A' at 50 digits."""
    with mp.workdps(50):
        nu, k = mp.mpf(dim) / 2 - 1, mp.mpf(kappa)
        if kappa == 0:
            return mp.loggamma(nu + 1) - mp.log(2) - mp.mpf(dim) / 2 * mp.log(mp.pi), mp.mpf(0), mp.mpf(1) / dim
        below, above = (mp.besseli(order, k, maxterms=10**7) for order in (nu, nu + 1))
        length = above / below
        log_c = nu * mp.log(k) - mp.mpf(dim) / 2 * mp.log(2 * mp.pi) - mp.log(below)
        return log_c, length, 1 - length**2 - (dim - 1) / k * length


@partial(jax.jit, static_argnums=0)
def computed(dim: int, kappa: jax.Array) -> tuple[jax.Array, ...]:
    functions = (
        log_normalizer,
        log_normalizer_scaled,
        mean_resultant_length,
        mean_resultant_gap,
        mean_resultant_ratio,
        mean_resultant_length_slope,
    )
    return tuple(function(dim, kappa) for function in functions)


def unit(vector: np.ndarray) -> np.ndarray:
    scaled: np.ndarray = vector / np.linalg.norm(vector, axis=-1, keepdims=True)
    return scaled


def directions(seed: int, *shape: int) -> np.ndarray:
    return unit(np.random.default_rng(seed).normal(size=shape))


@pytest.mark.parametrize(
    ("dim", "dtype"),
    [(dim, np.float64) for dim in DIMS]
    + [(dim, np.float32) for dim in (2, 3, 4096)]
    + [pytest.param(dim, np.float32, marks=pytest.mark.slow) for dim in (4, 5, 10, 64, 384, 1024)],
)
def test_normaliser_and_its_derivatives_hold_from_the_centre_to_every_corner(dim: int, dtype: Any) -> None:
    bar, relative = (1e-12, 4e-13) if dtype is np.float64 else (1e-5, 3e-4)
    values = [np.asarray(v) for v in computed(dim, jnp.asarray(KAPPAS, dtype))]
    assert all(v.dtype == dtype for v in values)
    with mp.workdps(50):
        for i, kappa in enumerate(map(float, KAPPAS)):
            log_c, length, slope = exact(dim, kappa)
            got = [mp.mpf(float(v[i])) for v in values]
            assert abs(got[0] - log_c) <= bar * max(1, abs(log_c))
            assert abs(got[1] - log_c - kappa) <= bar * max(1, abs(log_c + kappa))
            assert abs(got[2] - length) <= 8 * np.finfo(dtype).eps * length
            ratio = length / kappa if kappa else slope
            for value, reference in zip(got[3:], (1 - length, ratio, slope), strict=True):
                assert abs(value - reference) <= relative * reference


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("dim", [19, 64, 1024])
def test_error_stays_at_rounding_of_the_large_terms_where_the_normaliser_crosses_zero(dim: int, dtype: Any) -> None:
    zero = float(np.float32(brentq(lambda k: float(log_normalizer(dim, k)), 1e-3, 1e5)))
    log_c, *_ = exact(dim, zero)
    scale = max(zero, float(exact(dim, 0.0)[0]))
    error = float(mp.mpf(float(log_normalizer(dim, jnp.asarray(zero, dtype)))) - log_c)
    assert abs(error) <= 12 * np.finfo(dtype).eps * scale


def test_normaliser_on_the_ordinary_sphere_is_kappa_over_four_pi_sinh_kappa() -> None:
    kappa = np.array([0.1, 0.4, 3.0, 200.0])
    expected = np.log(kappa / (4 * np.pi * np.sinh(kappa)))
    np.testing.assert_allclose(log_normalizer(3, kappa), expected, rtol=1e-14)
    np.testing.assert_allclose(mean_resultant_length(3, kappa), 1 / np.tanh(kappa) - 1 / kappa, rtol=1e-12)


def test_normaliser_at_zero_is_one_over_the_area_of_the_sphere() -> None:
    areas = {2: 2 * math.pi, 3: 4 * math.pi, 4: 2 * math.pi**2, 6: math.pi**3}
    for dim, area in areas.items():
        np.testing.assert_allclose(log_normalizer(dim, 0.0), -math.log(area), rtol=1e-15)


@pytest.mark.parametrize("dim", [5, pytest.param(384, marks=pytest.mark.slow)])
def test_three_derivatives_of_the_normaliser_are_right_by_autodiff(dim: int) -> None:
    def derivatives(kappa: jax.Array) -> tuple[jax.Array, ...]:
        first = jax.grad(lambda k: log_normalizer(dim, k))
        second = jax.grad(first)
        return first(kappa), second(kappa), jax.grad(second)(kappa)

    kappas = np.array([0.0, 0.3, 7.0, 900.0])
    got = np.stack(jax.jit(jax.vmap(derivatives))(jnp.asarray(kappas)))
    with mp.workdps(50):
        for i, kappa in enumerate(map(float, kappas)):
            _, length, slope = exact(dim, kappa)
            bend = -2 * length * slope - (dim - 1) * (slope - length / kappa) / kappa if kappa else mp.mpf(0)
            np.testing.assert_allclose(got[:, i], [-float(d) for d in (length, slope, bend)], rtol=1e-9, atol=1e-18)


def test_scaled_normaliser_differentiates_to_one_minus_the_mean_resultant_length() -> None:
    kappa = jnp.array([0.0, 2.0, 1e6])
    slope = jax.grad(lambda k: log_normalizer_scaled(5, k))
    first, second = jax.jit(jax.vmap(jax.value_and_grad(slope)))(kappa)
    np.testing.assert_allclose(first, mean_resultant_gap(5, kappa), rtol=1e-14)
    np.testing.assert_allclose(second, -mean_resultant_length_slope(5, kappa), rtol=1e-14)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("dim", [2, 4096])
def test_inverse_mean_resultant_length_solves_its_equation(dim: int, dtype: Any) -> None:
    eps = float(np.finfo(dtype).eps)
    lengths = np.array([1e-20, 1e-6, 0.05, 0.5, 0.9, 0.999, 1 - 1e-6, 1 - eps / 2], dtype)
    kappas = np.asarray(inverse_mean_resultant_length(dim, jnp.asarray(lengths)))
    assert kappas.dtype == dtype
    with mp.workdps(50):
        for length, kappa in zip(map(float, lengths), map(float, kappas), strict=True):
            _, attained, slope = exact(dim, kappa)
            assert abs((attained - length) / slope) <= 1000 * eps * kappa  # relative error of kappa


def test_inverse_mean_resultant_length_at_its_ends_and_its_derivative() -> None:
    np.testing.assert_array_equal(inverse_mean_resultant_length(6, np.array([0.0, 1.0])), [0.0, np.inf])
    lengths = jnp.array([0.0, 0.2, 0.95])
    kappa, slope = jax.jvp(lambda r: inverse_mean_resultant_length(6, r), (lengths,), (jnp.ones(3),))
    np.testing.assert_allclose(slope * mean_resultant_length_slope(6, kappa), 1.0, rtol=1e-14)
    with pytest.raises(InputError, match=r"length: .* got -0\.25"):
        inverse_mean_resultant_length(6, np.array([0.5, -0.25]))


@pytest.mark.parametrize("kappa", [0.0, 3.7, 250.0])
@pytest.mark.parametrize("dim", [2, 3, 5, 40])
def test_density_integrates_to_one_over_the_sphere(dim: int, kappa: float) -> None:
    mean, other = np.linalg.qr(np.random.default_rng(dim).normal(size=(dim, 2)))[0].T
    law = VonMisesFisher(mean, kappa)
    angle, weight = np.polynomial.legendre.leggauss(200)
    angle, weight = np.pi * (angle + 1) / 2, np.pi * weight / 2
    density = np.exp(law.log_prob(np.cos(angle)[:, None] * mean + np.sin(angle)[:, None] * other))
    log_circle = math.log(2) + (dim - 1) / 2 * math.log(math.pi) - math.lgamma((dim - 1) / 2)  # area of S^{D-2}
    total = np.sum(weight * density * np.exp(log_circle) * np.sin(angle) ** (dim - 2))
    np.testing.assert_allclose(total, 1.0, rtol=1e-11)


@pytest.mark.parametrize("dim", [3, 5, 10])
def test_density_and_entropy_agree_with_scipy(dim: int) -> None:
    mean, x, kappa = directions(0, dim), directions(1, 6, dim), 4
    theirs = scipy.stats.vonmises_fisher(mean, kappa)
    ours = VonMisesFisher(mean, kappa)
    np.testing.assert_allclose(ours.log_prob(x), theirs.logpdf(x), rtol=1e-12)
    np.testing.assert_allclose(ours.entropy(), theirs.entropy(), rtol=1e-12)


def test_log_prob_of_a_bank_broadcasts_to_all_pairs_and_is_log_c_plus_kappa_cosine() -> None:
    memories, x, kappa = directions(2, 4, 3), directions(3, 5, 3), np.array([0.0, 1.5, 40.0, 9e5])
    bank = VonMisesFisher(memories, kappa, validate_args=True)
    assert (bank.batch_shape, bank.event_shape) == ((4,), (3,))
    expected = log_normalizer(3, kappa) + kappa * (x @ memories.T)
    np.testing.assert_allclose(bank.log_prob(x[:, None]), expected, rtol=1e-12, atol=1e-9)
    shared = VonMisesFisher(memories, 2.0)
    np.testing.assert_array_equal(shared.concentration, np.full(4, 2.0))
    assert VonMisesFisher(memories[0], kappa).mean_direction.shape == (4, 3)


def test_float32_keeps_the_log_density_of_a_sharp_memory() -> None:
    mean = directions(4, 8).astype(np.float32)
    kappa = np.float32(1e6)
    x = unit(mean + 1e-3 * np.random.default_rng(5).normal(size=(50, 8))).astype(np.float32)
    single = VonMisesFisher(mean, kappa).log_prob(x)
    m, y = unit(mean.astype(float)), unit(x.astype(float))
    double = np.asarray(VonMisesFisher(m, 1e6).log_prob(y))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, double, atol=2e-2)  # kappa times the cosine would be off by 0.06 and more


def test_entropy_is_minus_the_mean_log_density_and_normal_in_the_limit() -> None:
    dim, kappa = 5, 6.0
    log_c = float(log_normalizer(dim, kappa))
    area = 2 * math.pi**2  # of S^3

    def integrand(cosine: float) -> float:
        log_p = log_c + kappa * cosine
        return -log_p * math.exp(log_p) * area * (1 - cosine**2)

    law = VonMisesFisher(np.eye(dim)[1], kappa)
    np.testing.assert_allclose(law.entropy(), quad(integrand, -1, 1, epsabs=1e-13)[0], rtol=1e-12)
    sharp = VonMisesFisher(jnp.eye(dim, dtype=jnp.float32)[1], jnp.float32(1e6)).entropy()
    assert sharp.dtype == jnp.float32
    np.testing.assert_allclose(sharp, (dim - 1) / 2 * math.log(2 * math.pi * math.e / 1e6), rtol=4e-6)


@pytest.mark.parametrize(
    ("dim", "kappa", "dtype"),
    [
        (2, 0.0, np.float64),
        (3, 1e6, np.float32),
        (64, 30.0, np.float32),
        pytest.param(5, 12.0, np.float64, marks=pytest.mark.slow),
        pytest.param(64, 1e6, np.float32, marks=pytest.mark.slow),
        pytest.param(2, 0.7, np.float32, marks=pytest.mark.slow),
        pytest.param(64, 0.0, np.float64, marks=pytest.mark.slow),
        pytest.param(700, 3e3, np.float32, marks=pytest.mark.slow),
    ],
)
def test_draws_are_unit_vectors_with_the_right_mean_and_covariance(dim: int, kappa: float, dtype: Any) -> None:
    mean = directions(dim, dim).astype(dtype)
    law = VonMisesFisher(mean, jnp.asarray(kappa, dtype))
    draws = np.asarray(law.sample(jax.random.key(dim), (20_000,)))
    assert draws.dtype == dtype
    assert np.all(law.support(draws))
    frame = np.linalg.qr(np.column_stack([mean.astype(float), np.random.default_rng(0).normal(size=(dim, dim - 1))]))[0]
    frame[:, 0] = mean
    across = draws.astype(float) @ frame[:, 1:]
    versine = 0.5 * np.sum((draws.astype(float) - mean) ** 2, axis=-1)

    def standard_errors(values: np.ndarray, expected: float) -> np.ndarray:
        error = (values.mean(axis=0) - expected) / (values.std(axis=0) / np.sqrt(len(values)))
        return np.atleast_1d(np.abs(error))

    assert np.all(standard_errors(versine, float(mean_resultant_gap(dim, kappa))) < FAR)
    assert np.all(
        standard_errors((versine - versine.mean()) ** 2, float(mean_resultant_length_slope(dim, kappa))) < FAR
    )
    assert np.all(standard_errors(across, 0.0) < FAR)
    assert np.all(standard_errors(across**2, float(mean_resultant_ratio(dim, kappa))) < FAR)
    if dim > 2:
        assert np.all(standard_errors(across[:, :-1] * across[:, 1:], 0.0) < FAR)


@pytest.mark.parametrize("kappa", [0.5, 30.0])
def test_cosine_and_turn_follow_their_laws_on_the_ordinary_sphere(kappa: float) -> None:
    mean = directions(9, 3)
    draws = np.asarray(VonMisesFisher(mean, kappa).sample(jax.random.key(3), (20_000,)))
    versine = 1 - draws @ mean
    cdf = partial(lambda k, v: np.expm1(-k * v) / np.expm1(-2 * k), kappa)
    assert scipy.stats.kstest(versine, cdf).pvalue > 1e-4
    frame = np.linalg.qr(np.column_stack([mean, np.eye(3)[:, :2]]))[0]
    turn = np.arctan2(draws @ frame[:, 2], draws @ frame[:, 1])
    assert scipy.stats.kstest(turn, scipy.stats.uniform(-np.pi, 2 * np.pi).cdf).pvalue > 1e-4
    assert abs(scipy.stats.spearmanr(versine, turn).statistic) < FAR / np.sqrt(20_000)


def test_angle_on_the_circle_is_von_mises() -> None:
    mean = np.array([-0.6, 0.8])
    draws = np.asarray(VonMisesFisher(mean, 2.5).sample(jax.random.key(4), (20_000,)))
    angle = np.arctan2(draws[:, 1], draws[:, 0])
    law = scipy.stats.vonmises(2.5, loc=np.arctan2(0.8, -0.6))
    assert (
        scipy.stats.kstest((angle - law.mean() + np.pi) % (2 * np.pi) - np.pi, scipy.stats.vonmises(2.5).cdf).pvalue
        > 1e-4
    )


def test_each_memory_of_a_bank_is_sampled_with_its_own_concentration() -> None:
    memories, kappa = directions(6, 3, 4), np.array([0.0, 5.0, 1e4])
    bank = VonMisesFisher(memories, kappa)
    draws = np.asarray(bank.sample(jax.random.key(0), (1000, 5)))
    assert draws.shape == (1000, 5, 3, 4)
    flat = draws.reshape(-1, 3, 4)
    errors = (flat.mean(axis=0) - bank.mean) / np.sqrt(np.asarray(bank.variance) / len(flat))
    assert np.abs(errors).max() < FAR
    ratios = flat.var(axis=0) / np.asarray(bank.variance)
    np.testing.assert_allclose(ratios, 1.0, atol=FAR * math.sqrt(2 / len(flat)) * 1.2)


def test_distribution_passes_through_jit_vmap_grad_and_expand() -> None:
    memories, kappa, x = jnp.asarray(directions(7, 3, 5)), jnp.array([0.5, 2.0, 80.0]), jnp.asarray(directions(8, 5))
    bank = VonMisesFisher(memories, kappa)
    direct = bank.log_prob(x)
    np.testing.assert_allclose(jax.jit(lambda law, v: law.log_prob(v))(bank, x), direct, rtol=1e-15)
    single = jax.vmap(lambda m, k: VonMisesFisher(m, k).log_prob(x))(memories, kappa)
    np.testing.assert_allclose(single, direct, rtol=1e-14)
    gradient = jax.grad(lambda k: jnp.sum(VonMisesFisher(memories, k).log_prob(x)))(kappa)
    np.testing.assert_allclose(gradient, memories @ x - mean_resultant_length(5, kappa), rtol=1e-12)
    expanded = VonMisesFisher(memories[0], kappa[0]).expand([3])
    assert jnp.shape(expanded.log_prob(x)) == (3,)
    draws = jax.jit(jax.vmap(lambda law, key: law.sample(key), (None, 0)))(
        expanded, jax.random.split(jax.random.key(1), 6)
    )
    assert draws.shape == (6, 3, 5)
    assert len(np.unique(np.asarray(draws)[..., 0])) == 18


def test_distribution_is_a_numpyro_site() -> None:
    x, mean = directions(10, 7, 4), directions(11, 4)

    def program() -> None:
        kappa = numpyro.sample("kappa", numpyro.distributions.Exponential(0.1))
        with numpyro.plate("data", len(x)):
            numpyro.sample("x", VonMisesFisher(mean, kappa), obs=x)

    total, _ = log_density(program, (), {}, {"kappa": 3.0})
    expected = math.log(0.1) - 0.3 + 7 * float(log_normalizer(4, 3.0)) + 3.0 * np.sum(x @ mean)
    np.testing.assert_allclose(total, expected, rtol=1e-12)


def test_density_and_sampler_lower_for_cuda() -> None:
    bank = VonMisesFisher(directions(12, 3, 6).astype(np.float32), jnp.ones(3, jnp.float32))
    x = jnp.asarray(directions(13, 5, 1, 6), jnp.float32)
    for function in (
        lambda v: jax.grad(lambda k: jnp.sum(VonMisesFisher(bank.mean_direction, k).log_prob(v)))(bank.concentration),
        lambda v: bank.sample(jax.random.key(0)) + jnp.sum(v),
    ):
        assert jax.export.export(jax.jit(function), platforms=("cuda",))(x).platforms == ("cuda",)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(InputError, match=r"mean_direction: expected unit vectors .* got shape"):
        VonMisesFisher(np.ones((3, 1)), 1.0)
    with pytest.raises(InputError, match=r"concentration: expected a shape .* got \(2,\)"):
        VonMisesFisher(directions(0, 3, 4), np.ones(2))
    with pytest.raises(InputError, match=r"mean_direction: expected vectors of length 1; got one of length 2"):
        VonMisesFisher(np.array([[2.0, 0.0], [0.0, 1.0]]), 1.0, validate_args=True)
    with pytest.raises(InputError, match="concentration: expected finite numbers of at least 0; got -3"):
        VonMisesFisher(np.array([0.0, 1.0]), np.array([1.0, -3.0]), validate_args=True)
    with pytest.raises(InputError, match="dim: expected a whole number of at least 2"):
        log_normalizer(1, 2.0)
