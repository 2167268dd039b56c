"""Rank tests against exact laws: uniform ranks pass at their stated rate, shifted and narrow ones are caught."""

import numpy as np
import pytest
from scipy.stats import binom

from probam.errors import InputError
from probam.reports.summaries.ranks import chi_square, ecdf_envelope, rank_dataset, ranks_among, uniformity


def test_a_rank_counts_the_draws_below() -> None:
    rng = np.random.default_rng(0)
    truth, draws = rng.normal(size=13), rng.normal(size=(13, 9))
    slow = [sum(d < t for d in own) for t, own in zip(truth, draws, strict=True)]
    assert ranks_among(truth, draws, rng).tolist() == slow


def test_ties_spread_evenly_over_the_ranks_that_they_span() -> None:
    truth, draws = np.full(6000, 2.0), np.tile([1.0, 2.0, 2.0, 3.0, 1.0], (6000, 1))
    ranks = ranks_among(truth, draws, np.random.default_rng(1))
    shares = np.bincount(ranks, minlength=6) / 6000
    np.testing.assert_allclose(shares[2:5], 1 / 3, atol=5 * np.sqrt(2 / 9 / 6000))  # five standard errors
    assert shares[[0, 1, 5]].sum() == 0


def test_the_envelope_holds_the_whole_ecdf_of_uniform_ranks_with_its_probability() -> None:
    """Fresh uniform ranks, a generator that the envelope did not see; within four standard errors, and not above."""
    rng = np.random.default_rng(2)
    band = ecdf_envelope(60, 19)
    below = np.stack([np.cumsum(np.bincount(rng.integers(0, 20, 60), minlength=20))[:19] for _ in range(4000)])
    inside = ((below >= band.lower) & (below <= band.upper)).all(axis=1).mean()
    assert 0.95 - 4 * np.sqrt(0.95 * 0.05 / 4000) < inside < 0.985  # discrete: somewhat above


def test_the_envelope_of_one_place_is_the_binomial_interval() -> None:
    """One draw: the rank is 0 or 1, and nothing needs adjusting."""
    band = ecdf_envelope(200, 1)
    low, high = int(band.lower[0]), int(band.upper[0])
    mass = binom.cdf(high, 200, 0.5) - binom.cdf(low - 1, 200, 0.5)
    narrower = binom.cdf(high - 1, 200, 0.5) - binom.cdf(low, 200, 0.5)
    assert narrower < 0.95 <= mass + 4 * np.sqrt(0.95 * 0.05 / 4000)  # the tail is adjusted by 4000 simulations
    assert low + high == 200


def test_p_values_of_uniform_ranks_are_as_small_as_they_say() -> None:
    rng = np.random.default_rng(3)
    p_values = np.array([uniformity(rng.integers(0, 20, 100), 19)[:2] for _ in range(400)])
    for p in p_values.T:
        for level in (0.05, 0.3):
            assert abs(np.mean(p <= level) - level) < 4 * np.sqrt(level * (1 - level) / 400) + 0.02


def test_distance_says_whether_the_ecdf_leaves_its_envelope() -> None:
    rng = np.random.default_rng(4)
    band = ecdf_envelope(80, 19)
    outside = []
    for power in np.linspace(0.5, 2, 60):
        ranks = np.floor(20 * rng.random(80) ** power).astype(int)
        below = np.array([np.sum(ranks < i) for i in range(1, 20)])
        outside.append(bool(((below < band.lower) | (below > band.upper)).any()))
        assert (uniformity(ranks, 19).distance >= 1) == outside[-1]
    assert 5 < sum(outside) < 55


@pytest.mark.parametrize(("spread", "shift"), [(2.0, 0.0), (0.5, 0.0), (1.0, 0.6)])
def test_wide_narrow_and_shifted_posteriors_are_caught(spread: float, shift: float) -> None:
    rng = np.random.default_rng(5)
    truth, draws = rng.normal(size=300), shift + spread * rng.normal(size=(300, 99))
    result = uniformity(ranks_among(truth, draws, rng), 99)
    assert result.p_ecdf < 0.001
    assert result.p_chi_square < 0.001
    assert result.distance > 1
    assert (result.mean < 0.4) == (shift > 0)


def test_chi_square_by_hand() -> None:
    ranks = np.repeat([0, 2, 4, 7], [11, 4, 10, 15])  # bins 01 | 23 | 45 | 67 | 89: eight expected in each
    statistic = sum((n - 8) ** 2 / 8 for n in (11, 4, 10, 15, 0))
    assert statistic == 17.75
    assert chi_square(ranks, 9) == pytest.approx(np.exp(-17.75 / 2) * (1 + 17.75 / 2), rel=1e-12)  # four degrees


def test_a_rank_dataset_leaves_out_what_never_varies_and_counts_effective_draws() -> None:
    rng = np.random.default_rng(6)
    steps = rng.normal(size=(40, 99))
    slow = np.zeros_like(steps)
    for t in range(1, 99):
        slow[:, t] = 0.9 * slow[:, t - 1] + np.sqrt(1 - 0.81) * steps[:, t]
    truths = [{"fast": float(v), "slow": float(v), "still": 1.0} for v in rng.normal(size=40)]
    draws = [{"fast": a, "slow": b, "still": np.ones(99)} for a, b in zip(steps, slow, strict=True)]
    figures = rank_dataset(truths, draws)
    assert figures["quantity"].values.tolist() == ["fast", "slow"]
    assert figures["rank"].shape == (40, 2)
    assert figures.attrs["num_draws"] == 99
    fast, slower = figures["ess"].values
    assert 70 < fast < 130
    assert slower < 25


def test_what_has_no_rank_or_too_few_is_named() -> None:
    rng = np.random.default_rng(7)
    with pytest.raises(InputError, match="not finite"):
        ranks_among(np.array([np.nan]), np.zeros((1, 3)), rng)
    with pytest.raises(InputError, match="too few"):
        chi_square(np.array([3, 1]), 19)
