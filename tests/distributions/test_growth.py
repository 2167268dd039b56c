"""Growth laws and elicitation: exact laws of K_n, all set partitions, simulated seatings, round trips."""

from math import exp

import mpmath
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import gamma

from probam.distributions.growth import (
    alpha_for,
    alpha_prior_for,
    log_partition_probability,
    parameters_for,
    tail_of,
    variance_num_components,
)
from probam.distributions.stick_breaking import expected_num_components, num_components_law
from probam.errors import InputError


@pytest.mark.parametrize("alpha", [0.3, 1.0, 12.0])
@pytest.mark.parametrize("discount", [0.0, 1e-7, 0.25, 0.8])
@pytest.mark.parametrize("num_data", [1, 2, 57])
def test_the_variance_is_that_of_the_exact_law(alpha: float, discount: float, num_data: int) -> None:
    law = num_components_law(alpha, discount, num_data)
    k = np.arange(num_data + 1)
    exact = law @ k**2 - (law @ k) ** 2
    assert variance_num_components(alpha, discount, num_data) == pytest.approx(exact, rel=1e-9, abs=1e-10)


def test_a_negative_alpha_above_minus_the_discount_has_a_variance() -> None:
    law = num_components_law(-0.2, 0.5, 40)
    k = np.arange(41)
    assert variance_num_components(-0.2, 0.5, 40) == pytest.approx(law @ k**2 - (law @ k) ** 2, rel=1e-10)


@pytest.mark.parametrize("discount", [0.0, 0.4])
def test_the_alpha_asked_for_gives_the_memories_asked_for(discount: float) -> None:
    alpha = alpha_for(23.5, 700, discount)
    assert expected_num_components(alpha, discount, 700) == pytest.approx(23.5, rel=1e-10)


def test_two_wishes_determine_strength_and_discount() -> None:
    truth = (3.2, 0.37)
    wishes = [expected_num_components(*truth, n) for n in (400, 9000)]
    assert parameters_for(wishes[0], 400, wishes[1], 9000) == pytest.approx(truth, rel=1e-6)


def test_a_growth_that_no_process_has_is_refused_with_what_is_possible() -> None:
    with pytest.raises(InputError, match=r"later_memories: 10 memories at 100 data allow between 2\d\.\d+ and "):
        parameters_for(10, 100, 11, 10_000)
    with pytest.raises(InputError, match="lower the discount"):
        alpha_for(2, 1000, 0.9)
    with pytest.raises(InputError, match="one datum always occupies one memory"):
        alpha_for(1, 1)


def test_the_prior_asked_for_gives_mean_and_spread_of_the_memories() -> None:
    num_data, wanted = 300, (9.0, 4.0)
    concentration, rate = alpha_prior_for(*wanted, num_data)
    prior = gamma(concentration, scale=1 / rate)

    def average(power: int) -> float:
        def term(quantile: float) -> float:
            law = num_components_law(float(prior.ppf(quantile)), 0.0, num_data)
            return float(law @ np.arange(num_data + 1.0) ** power)

        return float(quad(term, 0, 1, epsrel=1e-5, limit=60)[0])

    mean = average(1)
    assert (mean, (average(2) - mean**2) ** 0.5) == pytest.approx(wanted, rel=1e-3)
    with pytest.raises(InputError, match="sd: with alpha known"):
        alpha_prior_for(9.0, 1.0, num_data)


@pytest.mark.parametrize("discount", [0.0, 0.5])
@pytest.mark.parametrize("alpha", [1e-3, 1.0, 1e6, 1e12, 1e15])
def test_the_probability_of_a_partition_keeps_its_digits_at_any_strength(alpha: float, discount: float) -> None:
    for sizes in ([1], [2], [1, 1, 1], [40, 7, 1, 1, 12], [5] * 30):
        with mpmath.workdps(50):
            a, d, n = mpmath.mpf(alpha), mpmath.mpf(discount), sum(sizes)
            exact = mpmath.fsum(mpmath.log(a + i * d) for i in range(1, len(sizes)))
            exact -= mpmath.fsum(mpmath.log(a + i) for i in range(1, n))
            exact += mpmath.fsum(mpmath.log(j - d) for size in sizes for j in range(1, size))
        got = log_partition_probability(alpha, discount, sizes)
        np.testing.assert_allclose(got, float(exact), rtol=1e-13, atol=1e-11)


@pytest.mark.parametrize("discount", [0.0, 0.5])
@pytest.mark.parametrize("alpha", [1e-3, 1e6, 1e12, 1e15])
def test_mean_and_variance_of_the_number_of_memories_keep_their_digits(alpha: float, discount: float) -> None:
    num_data = 30
    with mpmath.workdps(60):
        a, d, mean, variance = mpmath.mpf(alpha), mpmath.mpf(discount), mpmath.mpf(1), mpmath.mpf(0)
        for n in range(1, num_data):
            founds = (a + d * mean) / (n + a)
            variance = (1 + 2 * d / (n + a)) * variance + founds * (1 - founds)
            mean += founds
    np.testing.assert_allclose(expected_num_components(alpha, discount, num_data), float(mean), rtol=1e-13)
    # without a discount the variance is a difference of two numbers near n
    rounding = 1e-13 if discount else 0
    np.testing.assert_allclose(
        variance_num_components(alpha, discount, num_data),
        float(variance),
        rtol=1e-12,
        atol=1e-14 * num_data + rounding,
    )


def test_partitions_of_six_data_have_probability_one_in_all() -> None:
    def partitions(n: int) -> list[list[int]]:
        block_sizes = [[1]]
        for _ in range(n - 1):
            block_sizes = [
                [*sizes[:k], size + 1, *sizes[k + 1 :]] for sizes in block_sizes for k, size in enumerate(sizes)
            ] + [[*sizes, 1] for sizes in block_sizes]  # fmt: skip
        return block_sizes

    every = partitions(6)
    assert len(every) == 203
    for alpha, discount in [(1.3, 0.0), (0.7, 0.35), (-0.2, 0.5)]:
        total = sum(exp(log_partition_probability(alpha, discount, sizes)) for sizes in every)
        assert total == pytest.approx(1, rel=1e-12)


def _seat(alpha: float, discount: float, num_data: int, seed: int) -> np.ndarray:
    """Sizes of the memories after so many data of the restaurant."""
    random = np.random.default_rng(seed)
    sizes = [1]
    owner = [0]  # memory of each datum: joining that of a uniformly drawn datum is joining in proportion to size
    for n, u in enumerate(random.random(num_data - 1), start=1):
        if u * (n + alpha) < alpha + discount * len(sizes):
            owner.append(len(sizes))
            sizes.append(1)
            continue
        while True:  # thin by (size - d) / size
            k = owner[random.integers(n)]
            if random.random() < 1 - discount / sizes[k]:
                break
        owner.append(k)
        sizes[k] += 1
    return np.array(sizes)


def test_a_power_law_tail_is_found_with_its_error_and_contradicts_a_dirichlet_process() -> None:
    tail = tail_of(_seat(2.0, 0.5, 4000, seed=1))
    assert abs(tail.discount - 0.5) < 4 * tail.discount_se < 0.2
    assert tail.p_value < 1e-6


def test_sizes_of_a_dirichlet_process_are_not_called_a_power_law() -> None:
    p_values = [tail_of(_seat(6.0, 0.0, 1500, seed)).p_value for seed in range(12)]
    assert min(p_values) > 1e-3  # 12 tests: a false alarm of one in a hundred
    assert max(p_values) == 0.5  # at the edge for about half of them


def test_the_standard_error_of_the_discount_covers_the_truth() -> None:
    tails = [tail_of(_seat(1.0, 0.4, 800, seed)) for seed in range(40)]
    scores = np.array([(tail.discount - 0.4) / tail.discount_se for tail in tails])
    assert 0.7 < scores.std() < 1.4  # 40 scores of a standard normal: 1 within +-0.35 at 99.8 %
    assert abs(scores.mean()) < 0.6


def test_the_likelihood_is_highest_where_it_says() -> None:
    sizes = _seat(1.5, 0.3, 600, seed=7)
    tail = tail_of(sizes)
    for alpha, discount in [(1.02, 1.0), (0.98, 1.0), (1.0, 1.02), (1.0, 0.98)]:
        assert log_partition_probability(tail.alpha * alpha, tail.discount * discount, sizes) < tail.log_probability


def test_what_tells_nothing_is_refused() -> None:
    for sizes in ([5], [1, 1, 1], []):
        with pytest.raises(InputError, match="sizes: expected"):
            tail_of(sizes)
