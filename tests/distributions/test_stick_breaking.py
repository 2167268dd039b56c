import math
from collections import Counter
from collections.abc import Iterator
from itertools import permutations

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import numpyro
import pytest
import scipy.stats
from numpyro.distributions import Gamma
from numpyro.infer.util import log_density

from probam.distributions.stick_breaking import (
    StickBreakingSticks,
    StickBreakingWeights,
    check_parameters,
    expected_num_components,
    expected_remaining,
    log_weights_to_sticks,
    num_components_law,
    remaining_moments,
    sticks_to_log_weights,
    truncation_error,
)
from probam.errors import InputError

FAR = 4.5  # standard errors; a fair sampler is beyond them once in 150,000 comparisons
CASES = [(1.3, 0.0), (0.7, 0.35), (-0.2, 0.5)]  # (alpha, discount): DP, Pitman-Yor, Pitman-Yor with alpha < 0


def betas(alpha: float, discount: float, num_sticks: int) -> list[tuple[float, float]]:
    """Beta parameters of the sticks."""
    return [(1 - discount, alpha + k * discount) for k in range(1, num_sticks + 1)]


def partitions(num_data: int) -> Iterator[list[list[int]]]:
    """All partitions of 0, ..., n-1."""
    if num_data == 0:
        yield []
        return
    for smaller in partitions(num_data - 1):
        for i in range(len(smaller)):
            yield [*smaller[:i], [*smaller[i], num_data - 1], *smaller[i + 1 :]]
        yield [*smaller, [num_data - 1]]


def eppf(alpha: float, discount: float, sizes: list[int]) -> float:
    """Probability of one partition with these block sizes under the untruncated process (CLAIMS A19)."""
    value = math.prod(alpha + i * discount for i in range(1, len(sizes)))
    value /= math.prod(alpha + i for i in range(1, sum(sizes)))
    return value * math.prod(math.prod(j - discount for j in range(1, size)) for size in sizes)


def truncated_eppf(alpha: float, discount: float, num_components: int, sizes: list[int]) -> float:
    """The same under T components: sum over injective labellings of E prod_k w_k^{n_k}, by Beta moments."""
    total = 0.0
    for labels in permutations(range(num_components), len(sizes)):
        counts = [0] * num_components
        for label, size in zip(labels, sizes, strict=True):
            counts[label] = size
        value = 1.0
        for k, (a, b) in enumerate(betas(alpha, discount, num_components - 1)):
            behind = sum(counts[k + 1 :])
            rising = [math.prod(c + i for i in range(m)) for c, m in ((a, counts[k]), (b, behind))]
            value *= rising[0] * rising[1] / math.prod(a + b + i for i in range(counts[k] + behind))
        total += value
    return total


# --- sticks and weights -----------------------------------------------------------------------------------------------


def test_log_weights_are_exact_to_the_last_digit_at_extreme_sticks() -> None:
    sticks = np.array([1e-300, 1 - 1e-12, 0.3, 1e-9, 0.999])
    got = np.asarray(sticks_to_log_weights(jnp.asarray(sticks)))
    with mp.workdps(50):
        remaining, expected = mp.mpf(1), []
        for stick in [*map(float, sticks), 1.0]:
            expected.append(float(mp.log(remaining * stick)))
            remaining *= 1 - mp.mpf(stick)
    np.testing.assert_allclose(got, expected, rtol=4e-16)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_sticks_and_log_weights_are_inverse_to_each_other(dtype: jnp.dtype) -> None:
    sticks = jax.random.uniform(jax.random.key(0), (3, 6), dtype, 0.05, 0.95)
    log_weights = sticks_to_log_weights(sticks)
    assert log_weights.shape == (3, 7)
    assert log_weights.dtype == dtype
    eps = float(np.finfo(dtype).eps)
    np.testing.assert_allclose(jnp.sum(jnp.exp(log_weights), axis=-1), 1.0, rtol=8 * eps)
    np.testing.assert_allclose(log_weights_to_sticks(log_weights), sticks, rtol=30 * eps)
    np.testing.assert_allclose(log_weights_to_sticks(log_weights + 5.0), sticks, rtol=60 * eps)


def test_inverse_keeps_sticks_whose_weights_underflow() -> None:
    sticks = jnp.full(400, 0.99)
    log_weights = sticks_to_log_weights(sticks)
    assert log_weights[-1] < -1800
    np.testing.assert_allclose(log_weights_to_sticks(log_weights), sticks, rtol=1e-12)


def test_gradients_are_finite_where_sticks_or_weights_are_at_their_ends() -> None:
    sticks = jnp.array([0.2, 0.0, 0.5, 1.0, 0.3])
    logits = jnp.arange(6.0)
    slope = jax.grad(lambda v: jax.nn.logsumexp(logits + sticks_to_log_weights(v)))(sticks)
    assert np.all(np.isfinite(slope))
    step = 1e-6
    there, back = (jax.nn.logsumexp(logits + sticks_to_log_weights(sticks.at[2].add(h))) for h in (step, -step))
    np.testing.assert_allclose(slope[2], (there - back) / (2 * step), rtol=1e-6)
    log_weights = jnp.array([-0.5, -jnp.inf, -1.0, -jnp.inf, -jnp.inf])
    np.testing.assert_allclose(log_weights_to_sticks(log_weights), [1 / (1 + math.exp(-0.5)), 0, 1, 0.5], rtol=1e-15)
    assert np.all(np.isfinite(jax.jacobian(log_weights_to_sticks)(log_weights)))


# --- densities --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("alpha", "discount"), CASES)
def test_log_density_of_the_sticks_is_a_sum_of_beta_log_densities(alpha: float, discount: float) -> None:
    sticks = np.random.default_rng(0).uniform(size=(4, 6))
    law = StickBreakingSticks(alpha, discount, 7, validate_args=True)
    expected = sum(scipy.stats.beta(a, b).logpdf(sticks[:, k]) for k, (a, b) in enumerate(betas(alpha, discount, 6)))
    np.testing.assert_allclose(law.log_prob(sticks), expected, rtol=1e-12)
    np.testing.assert_allclose(law.mean, [a / (a + b) for a, b in betas(alpha, discount, 6)], rtol=1e-14)


def test_log_density_of_a_thousand_sticks_keeps_float32_digits() -> None:
    sticks = np.random.default_rng(1).beta(0.5, 100.0, size=999).astype(np.float32)
    law = StickBreakingSticks(np.float32(2.0), np.float32(0.5), 1000)
    got = law.log_prob(sticks)
    expected = sum(
        scipy.stats.beta(a, b).logpdf(float(stick)) for stick, (a, b) in zip(sticks, betas(2.0, 0.5, 999), strict=True)
    )
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=2e-5)


@pytest.mark.parametrize(("alpha", "discount"), CASES)
def test_the_two_laws_differ_by_the_jacobian_of_the_map(alpha: float, discount: float) -> None:
    sticks = jnp.asarray(np.random.default_rng(2).uniform(0.1, 0.9, size=4))
    jacobian = jax.jacobian(lambda v: jnp.exp(sticks_to_log_weights(v))[:-1])(sticks)
    log_volume = np.linalg.slogdet(np.asarray(jacobian)).logabsdet
    weights = jnp.exp(sticks_to_log_weights(sticks))
    on_simplex = StickBreakingWeights(alpha, discount, 5, validate_args=True).log_prob(weights)
    np.testing.assert_allclose(
        on_simplex + log_volume, StickBreakingSticks(alpha, discount, 5).log_prob(sticks), rtol=1e-12
    )


@pytest.mark.parametrize(("alpha", "discount"), CASES)
def test_density_of_three_weights_integrates_to_one_over_the_simplex(alpha: float, discount: float) -> None:
    t, h = np.arange(-4.6, 4.6, 0.05), 0.05  # tanh-sinh nodes, dense towards the edges where the density is infinite
    x = 1 / (1 + np.exp(-np.pi * np.sinh(t)))
    rest = 1 / (1 + np.exp(np.pi * np.sinh(t)))  # 1 - x without cancellation
    step = h * np.pi * np.cosh(t) * x * rest
    weights = np.stack(
        [np.broadcast_to(x[:, None], (t.size, t.size)), rest[:, None] * x, rest[:, None] * rest], axis=-1
    )
    density = np.exp(StickBreakingWeights(alpha, discount, 3).log_prob(weights))
    np.testing.assert_allclose(np.sum(density * rest[:, None] * step[:, None] * step), 1.0, rtol=1e-8)


def test_dirichlet_process_with_two_components_and_alpha_one_is_uniform() -> None:
    weights = np.array([[0.2, 0.8], [0.9, 0.1], [1.0, 0.0]])
    np.testing.assert_allclose(StickBreakingWeights(1.0, 0.0, 2).log_prob(weights), 0.0, atol=1e-15)


def test_one_component_has_no_stick_and_weight_one() -> None:
    assert StickBreakingSticks(1.0, 0.2, 1).log_prob(np.zeros((3, 0))).shape == (3,)
    np.testing.assert_array_equal(sticks_to_log_weights(jnp.zeros((3, 0))), np.zeros((3, 1)))
    np.testing.assert_array_equal(StickBreakingWeights(1.0, 0.2, 1).log_prob(np.ones((3, 1))), np.zeros(3))
    np.testing.assert_array_equal(StickBreakingWeights(1.0, 0.2, 1).sample(jax.random.key(0), (3,)), np.ones((3, 1)))


def test_parameters_may_be_batched_traced_and_random() -> None:
    alpha, discount = jnp.array([0.5, 2.0, 9.0]), 0.25
    sticks = jnp.asarray(np.random.default_rng(3).uniform(size=4))
    law = StickBreakingSticks(alpha, discount, 5)
    assert (law.batch_shape, law.event_shape) == ((3,), (4,))
    direct = law.log_prob(sticks)
    mapped = jax.jit(jax.vmap(lambda a: StickBreakingSticks(a, discount, 5).log_prob(sticks)))(alpha)
    np.testing.assert_allclose(mapped, direct, rtol=1e-14)
    np.testing.assert_allclose(jax.jit(lambda d, v: d.log_prob(v))(law, sticks), direct, rtol=1e-14)
    slopes = jax.jit(jax.grad(lambda a, d: StickBreakingSticks(a, d, 5).log_prob(sticks), (0, 1)))(2.0, 0.25)
    step = 1e-5
    numeric = [
        (
            StickBreakingSticks(2.0 + i, 0.25 + j, 5).log_prob(sticks)
            - StickBreakingSticks(2.0 - i, 0.25 - j, 5).log_prob(sticks)
        )
        / (2 * step)
        for i, j in ((step, 0.0), (0.0, step))
    ]
    np.testing.assert_allclose(slopes, numeric, rtol=1e-7)

    def program() -> None:
        random_alpha = numpyro.sample("alpha", Gamma(2.0, 1.0))
        numpyro.sample("sticks", StickBreakingSticks(random_alpha, discount, 5))

    total, _ = log_density(program, (), {}, {"alpha": alpha[1], "sticks": sticks})
    np.testing.assert_allclose(total, direct[1] + math.log(2.0) - 2.0, rtol=1e-13)


# --- samplers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("alpha", "discount"), CASES)
def test_sticks_and_weights_are_drawn_from_their_laws(alpha: float, discount: float) -> None:
    sticks = np.asarray(StickBreakingSticks(alpha, discount, 4).sample(jax.random.key(0), (20_000,)))
    for k, (a, b) in enumerate(betas(alpha, discount, 3)):
        assert scipy.stats.kstest(sticks[:, k], scipy.stats.beta(a, b).cdf).pvalue > 1e-4
    correlations = np.corrcoef(sticks, rowvar=False)[np.triu_indices(3, 1)]
    assert np.abs(correlations).max() < FAR / math.sqrt(len(sticks))
    law = StickBreakingWeights(alpha, discount, 4)
    weights = np.asarray(law.sample(jax.random.key(1), (20_000,)))
    assert np.all(law.support(weights))
    errors = (weights.mean(axis=0) - law.mean) / (weights.std(axis=0) / math.sqrt(len(weights)))
    assert np.abs(errors).max() < FAR
    # Two data are together with probability (1-d)/(1+alpha), or because both are in the tail that truncation merges.
    together = np.sum(weights**2, axis=-1)
    apart_in_tail = 1 - (1 - discount) / (1 + alpha + 3 * discount)
    expected = (1 - discount) / (1 + alpha) + remaining_moments(alpha, discount, 3, 2.0) * apart_in_tail
    assert abs(together.mean() - expected) < FAR * together.std() / math.sqrt(len(together))


def test_draws_stay_off_the_ends_in_float32_where_the_law_crowds_there() -> None:
    sticks = StickBreakingSticks(jnp.float32(1e-3), jnp.float32(0.0), 6).sample(jax.random.key(0), (2000,))
    assert sticks.dtype == jnp.float32
    assert np.all((np.asarray(sticks) > 0) & (np.asarray(sticks) < 1))
    assert np.all(np.isfinite(sticks_to_log_weights(sticks)))


def test_draws_differentiate_to_the_derivative_of_their_mean() -> None:
    def draws(alpha: jax.Array) -> jax.Array:
        return StickBreakingSticks(alpha, 0.25, 3).sample(jax.random.key(5), (20_000,))

    alpha = jnp.asarray(1.5)
    slopes = np.asarray(jax.jit(jax.jacfwd(draws))(alpha))
    expected = jax.jacobian(lambda a: StickBreakingSticks(a, 0.25, 3).mean)(alpha)
    errors = (slopes.mean(axis=0) - expected) / (slopes.std(axis=0) / math.sqrt(len(slopes)))
    assert np.abs(errors).max() < FAR


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("alpha", "discount", "num_components"), [(0.1, 0.0, 201), (0.5, 0.999, 50)])
def test_the_density_of_own_draws_is_finite_where_weights_underflow(
    alpha: float, discount: float, num_components: int, dtype: str
) -> None:
    parameters = jnp.asarray(alpha, dtype), jnp.asarray(discount, dtype)
    draws = StickBreakingWeights(*parameters, num_components).sample(jax.random.key(5), (1000,))
    least = np.asarray(draws).min()
    assert np.finfo(dtype).tiny < least < 1e4 * np.finfo(dtype).tiny  # what the test is about occurs in it
    np.testing.assert_allclose(draws.sum(-1), 1, rtol=1e-5)

    def total(alpha: jax.Array, discount: jax.Array, draws: jax.Array) -> jax.Array:
        return StickBreakingWeights(alpha, discount, num_components, validate_args=False).log_prob(draws)

    values = jax.jit(total)(*parameters, draws)
    assert np.isfinite(values).all()
    slopes = jax.jit(jax.vmap(jax.grad(total, argnums=(0, 1, 2)), in_axes=(None, None, 0)))(*parameters, draws)
    for slope in slopes:
        assert np.isfinite(slope).all()


def test_the_log_density_of_weights_keeps_its_digits_at_a_large_strength() -> None:
    for alpha, discount in ((1e12, 0.0), (1e12, 0.5)):
        weights = np.full(5, 0.2)
        with mp.workdps(50):
            a, d = mp.mpf(alpha), mp.mpf(discount)
            sticks = [mp.mpf(1) / (5 - k) for k in range(4)]
            exact = mp.fsum(
                -d * mp.log(v) + (a + k * d - 1) * mp.log(1 - v) - mp.log(mp.beta(1 - d, a + k * d))
                for k, v in enumerate(sticks, start=1)
            ) - mp.fsum(mp.log(1 - mp.mpf(k) / 5) for k in range(4))
        got = StickBreakingWeights(alpha, discount, 5).log_prob(weights)
        np.testing.assert_allclose(got, float(exact), rtol=1e-14)
        small = StickBreakingSticks(alpha, discount, 5).log_prob(np.full(4, 1e-12))
        with mp.workdps(50):
            v = mp.mpf(1e-12)
            near = mp.fsum(
                -d * mp.log(v) + (a + k * d - 1) * mp.log(1 - v) - mp.log(mp.beta(1 - d, a + k * d))
                for k in range(1, 5)
            )
        np.testing.assert_allclose(small, float(near), rtol=1e-12)


def test_density_and_sampler_lower_for_cuda() -> None:
    def function(alpha: jax.Array, sticks: jax.Array) -> tuple[jax.Array, jax.Array]:
        slope = jax.grad(lambda a: StickBreakingSticks(a, 0.25, 5).log_prob(sticks))(alpha)
        return slope, StickBreakingWeights(alpha, 0.25, 5).sample(jax.random.key(0))

    exported = jax.export.export(jax.jit(function), platforms=("cuda",))(
        jnp.float32(1.0), jnp.full(4, jnp.float32(0.3))
    )
    assert exported.platforms == ("cuda",)


# --- what truncation costs --------------------------------------------------------------------------------------------


def test_moments_of_the_remaining_stick_are_products_of_beta_moments() -> None:
    for alpha, discount in CASES:
        for num_sticks in (0, 1, 7, 40):
            orders = np.array([0, 1, 2, 5])
            with mp.workdps(40):
                expected = [
                    float(
                        mp.fprod(mp.rf(b, int(j)) / mp.rf(a + b, int(j)) for a, b in betas(alpha, discount, num_sticks))
                    )
                    for j in orders
                ]
            np.testing.assert_allclose(remaining_moments(alpha, discount, num_sticks, orders), expected, rtol=1e-13)


def test_expected_remaining_is_geometric_for_dp_and_polynomial_for_pitman_yor() -> None:
    np.testing.assert_allclose(expected_remaining(2.0, 0.0, 30), (2 / 3) ** 30, rtol=1e-13)
    assert f"{expected_remaining(1.0, 0.5, 1000):.4f}" == "0.0030"  # CLAIMS A20
    limit = math.gamma(4) / math.gamma(3) / 1000  # Gamma((1+alpha)/d) / Gamma(1+alpha/d) T^{-(1-d)/d}
    np.testing.assert_allclose(expected_remaining(1.0, 0.5, 1000), limit, rtol=4e-3)


@pytest.mark.parametrize("num_data", [1, 2, 4, 5, 6, 30, 120])
def test_truncation_bounds_agree_with_the_binomial_sum_at_120_digits(num_data: int) -> None:
    for alpha, discount, num_components in (
        (0.3, 0.0, 10),
        (-0.2, 0.5, 4),
        (50.0, 0.2, 3),
        (0.01, 0.9, 25),
        (10.0, 0.0, 40),
    ):
        bounds = truncation_error(alpha, discount, num_components, num_data)
        with mp.workdps(120):
            a, d = mp.mpf(alpha), mp.mpf(discount)
            moments = [
                mp.fprod(mp.rf(a + k * d, j) / mp.rf(a + 1 + (k - 1) * d, j) for k in range(1, num_components))
                for j in range(num_data + 1)
            ]
            for least, got in ((2, bounds.tv_bound), (1, bounds.tv_bound_common)):
                terms = [
                    mp.binomial(num_data, j) * mp.binomial(j - 1, least - 1) * (-1) ** (j - least) * moments[j]
                    for j in range(least, num_data + 1)
                ]
                np.testing.assert_allclose(got, float(mp.fsum(terms)), rtol=3e-14)


@pytest.mark.parametrize("num_data", [10, 1000, 10**6])
@pytest.mark.parametrize(("alpha", "discount"), [(1.3, 0.0), (0.05, 0.9), (30.0, 0.1)])
def test_truncation_at_two_components_has_a_beta_tail_in_closed_form(
    alpha: float, discount: float, num_data: int
) -> None:
    bounds = truncation_error(alpha, discount, 2, num_data)
    with mp.workdps(40):
        b, a = mp.mpf(alpha) + mp.mpf(discount), 1 - mp.mpf(discount)
        none = mp.beta(b, a + num_data) / mp.beta(b, a)
        one = num_data * mp.beta(b + 1, a + num_data - 1) / mp.beta(b, a)
        np.testing.assert_allclose(bounds.tv_bound_common, float(1 - none), rtol=1e-13)
        np.testing.assert_allclose(bounds.tv_bound, float(1 - none - one), rtol=1e-13)


def test_truncation_bounds_of_a_long_stick_agree_with_simulation() -> None:
    alpha, discount, num_components, num_data = 1.5, 0.3, 60, 5000
    generator = np.random.default_rng(0)
    log_remaining = np.zeros(50_000)
    for a, b in betas(alpha, discount, num_components - 1):
        log_remaining += np.log(generator.beta(b, a, size=log_remaining.size))
    remaining = np.exp(log_remaining)
    bounds = truncation_error(alpha, discount, num_components, num_data)
    for least, got in ((2, bounds.tv_bound), (1, bounds.tv_bound_common)):
        simulated: np.ndarray = np.asarray(scipy.stats.binom.sf(least - 1, num_data, remaining))
        assert abs(simulated.mean() - got) < FAR * simulated.std() / math.sqrt(simulated.size)


def test_truncation_bounds_hold_their_order_at_a_million_data_and_a_thousand_components() -> None:
    for alpha, discount in ((1.0, 0.5), (5.0, 0.0), (100.0, 0.0), (0.1, 0.999)):
        for num_components in (2, 20, 1000):
            bounds = truncation_error(alpha, discount, num_components, 10**6)
            assert 0 <= bounds.tv_bound <= bounds.tv_bound_common * (1 + 1e-12) <= 1 + 1e-12
            mean_tail = 10**6 * expected_remaining(alpha, discount, num_components - 1)
            assert bounds.tv_bound_common <= mean_tail * (1 + 1e-12)  # Markov
            if mean_tail < 1e-6:
                pairs = 10**6 * (10**6 - 1) / 2 * remaining_moments(alpha, discount, num_components - 1, 2.0)
                np.testing.assert_allclose(bounds.tv_bound, pairs, rtol=1e-3)


def test_truncation_error_of_two_data_is_known_and_refutes_the_textbook_bound() -> None:
    alpha, num_components = 0.3, 10
    # Two data in the tail, weight R_9, are parted with probability alpha / (1 + alpha), and never by the truncation.
    true = (alpha / (alpha + 2)) ** 9 * alpha / (1 + alpha)
    assert f"{true:.2e}" == "2.52e-09"  # CLAIMS A20
    bounds = truncation_error(alpha, 0.0, num_components, 2)
    assert 4 * 2 * math.exp(-(num_components - 1) / alpha) < true <= bounds.tv_bound < bounds.tv_bound_common


@pytest.mark.parametrize(("alpha", "discount"), CASES)
@pytest.mark.parametrize("num_components", [2, 3, 4])
def test_truncation_bound_covers_the_distance_between_the_laws_of_partitions(
    num_components: int, alpha: float, discount: float
) -> None:
    for num_data in (2, 3, 5):
        distance, total = 0.0, 0.0
        for partition in partitions(num_data):
            sizes = [len(block) for block in partition]
            truncated = truncated_eppf(alpha, discount, num_components, sizes)
            total += truncated
            distance += 0.5 * abs(truncated - eppf(alpha, discount, sizes))
        np.testing.assert_allclose(total, 1.0, rtol=1e-12)
        assert 0 < distance <= truncation_error(alpha, discount, num_components, num_data).tv_bound


# --- number of components ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("alpha", "discount"), [(1.3, 0.0), (0.7, 0.35), (-0.2, 0.5), (0.0, 0.4)])
def test_law_of_the_number_of_components_sums_the_eppf(alpha: float, discount: float) -> None:
    for num_data in (1, 2, 6):
        enumerated: Counter[int] = Counter()
        for partition in partitions(num_data):
            enumerated[len(partition)] += eppf(alpha, discount, [len(block) for block in partition])  # type: ignore[assignment]
        expected = [enumerated[k] for k in range(num_data + 1)]
        np.testing.assert_allclose(sum(expected), 1.0, rtol=1e-13)
        law = num_components_law(alpha, discount, num_data)
        np.testing.assert_allclose(law, expected, rtol=1e-13, atol=1e-16)
        mean = expected_num_components(alpha, discount, num_data)
        np.testing.assert_allclose(mean, law @ np.arange(num_data + 1), rtol=1e-13)


def test_expected_number_of_components_at_the_sizes_of_the_claims() -> None:
    np.testing.assert_allclose(expected_num_components(1.0, 0.5, 10**6), 2254.75918, atol=5e-6)  # CLAIMS A19
    for alpha, expected in ((1.0, 7.485), (10.0, 46.65), (0.1, 1.733)):  # CLAIMS A18
        np.testing.assert_allclose(expected_num_components(alpha, 0.0, 1000), expected, rtol=1e-4)
    harmonic = math.fsum(1 / i for i in range(1, 1001))
    np.testing.assert_allclose(expected_num_components(1.0, 0.0, 1000), harmonic, rtol=1e-14)


def test_expected_number_of_components_is_continuous_at_discount_zero() -> None:
    at_zero = expected_num_components(2.0, 0.0, 5000)
    for discount in (1e-300, 1e-15, 1e-10):
        np.testing.assert_allclose(expected_num_components(2.0, discount, 5000), at_zero, rtol=1e-8)


def test_variance_of_the_number_of_components_of_a_dirichlet_process() -> None:
    alpha, num_data = 3.0, 800
    law, k = num_components_law(alpha, 0.0, num_data), np.arange(num_data + 1)
    mean = law @ k
    i = np.arange(num_data)
    np.testing.assert_allclose(law @ (k - mean) ** 2, np.sum(alpha * i / (alpha + i) ** 2), rtol=1e-11)


# --- arguments --------------------------------------------------------------------------------------------------------


def test_bad_arguments_are_named() -> None:
    with pytest.raises(InputError, match=r"discount: expected 0 <= discount < 1 .* got 1"):
        StickBreakingSticks(1.0, 1.0, 4)
    with pytest.raises(InputError, match=r"discount: .* got -0\.1"):
        truncation_error(1.0, -0.1, 4, 10)
    with pytest.raises(InputError, match=r"alpha: expected a finite number above -discount = -0\.5; got -0\.5"):
        check_parameters(np.array([1.0, -0.5]), 0.5)
    with pytest.raises(InputError, match=r"alpha: .* got nan"):
        StickBreakingWeights(math.nan, 0.0, 4)
    with pytest.raises(InputError, match="num_components: expected a whole number of at least 1; got 0"):
        StickBreakingWeights(1.0, 0.0, 0)
    with pytest.raises(InputError, match="num_data: expected a whole number of at least 1; got 0"):
        expected_num_components(1.0, 0.0, 0)
    check_parameters(-0.3, 0.5)
