"""The numbers that go with the claims: what the exact statement gives, what the printed form gives instead."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from probam.claims.claim import claim
from probam.claims.mixtures.attractors import CORNER_WELLS
from probam.claims.mixtures.creation import predictive_mixture
from probam.claims.mixtures.descent import hopfield_mixture
from probam.claims.mixtures.partitions import labels_of_partitions, log_partition_probability, partition_sizes
from probam.claims.mixtures.sticks import truncated_partition_law
from probam.claims.verify import case_inputs
from probam.distributions.stick_breaking import expected_num_components, expected_remaining, truncation_error
from probam.dynamics.recall import recall
from probam.energies import clam, continuous_hopfield, creation


def _printed_error(claim_id: str, case_name: str) -> float:
    one = claim(claim_id)
    (case,) = (case for case in one.cases if case.name == case_name)
    return one.error(case_inputs(one, case), "printed")


def test_a3_exp_of_minus_the_energy_is_not_the_mixture() -> None:
    x, memories, beta = jnp.linspace(-15, 17, 4001), jnp.array([[0.0], [2.0]]), 3.0
    energy = clam.energy(x[:, None], memories, beta)

    def variance(log_density: jax.Array) -> float:
        weights = jnp.exp(log_density) / jnp.sum(jnp.exp(log_density))
        return float(jnp.sum(weights * (x - jnp.sum(weights * x)) ** 2))

    assert variance(-beta * energy) == pytest.approx(7 / 6, rel=1e-10)
    assert variance(-energy) == pytest.approx(1.602, abs=5e-4)


def test_a4_the_printed_score_differs_by_minus_two_beta() -> None:
    assert _printed_error("A4.score", "plain") == pytest.approx((3.4 + 1) / 3.4, rel=1e-12)  # beta = 1.7


def test_a5_the_printed_rate_lacks_tau() -> None:
    assert _printed_error("A5", "plain") == pytest.approx(1 - 5.8873 / 8.4105, abs=1e-5)  # tau = 0.7


def test_a6_the_boundary_of_two_basins_is_not_half_way() -> None:
    memories, beta = jnp.array([[0.0], [1.0], [1.3]]), 6.0
    starts = jnp.array([[0.48325 - 1e-4], [0.48325 + 1e-4]])
    ended = recall(
        lambda v: clam.update(v, memories, beta), lambda v: clam.energy(v, memories, beta), starts, max_steps=5000
    ).states[:, 0]
    assert ended[0] < 0.2
    assert ended[1] > 0.9
    memories = jnp.array([[0.0], [1.0], [1.0]])
    ended = recall(
        lambda v: clam.update(v, memories, 5.0), lambda v: clam.energy(v, memories, 5.0), jnp.array([0.45])
    ).states
    assert float(ended[0]) == pytest.approx(0.9965, abs=5e-5)


def test_a7_the_posterior_mean_at_the_start_is_not_the_fixed_point() -> None:
    memories, beta = jnp.array([[0.0], [1.0], [2.5]]), 1.5
    once = clam.update(jnp.array([0.8]), memories, beta)
    twice = clam.update(once, memories, beta)
    ended = recall(lambda v: clam.update(v, memories, beta), lambda v: clam.energy(v, memories, beta), once).states
    np.testing.assert_allclose([once[0], twice[0], ended[0]], [0.728471, 0.677168, 0.515715], atol=5e-7)
    np.testing.assert_allclose(clam.responsibilities(ended, memories, beta), [0.487, 0.511, 0.0020], atol=5e-4)


@pytest.mark.parametrize(("beta", "curvature"), [(0.4, 0.4), (0.5, 0.0), (0.6, -0.4)])
def test_a8_the_pitchfork_is_at_one_half(beta: float, curvature: float) -> None:
    memories = jnp.array([[-1.0], [1.0]])
    hessian = jax.hessian(lambda v: clam.energy(v, memories, beta))(jnp.zeros(1))
    np.testing.assert_allclose(hessian, [[curvature]], atol=1e-12)


def test_a9_the_corner_wells_appear_at_a_double_root() -> None:
    with mpmath.workdps(40):

        def advance(b: Any, t: Any) -> tuple[Any, Any]:
            share = 1 / (1 + 2 * mpmath.exp(-3 * b * t))
            return mpmath.mpf("1.5") * share - mpmath.mpf("0.5") - t, mpmath.mpf("4.5") * b * share * (1 - share) - 1

        root = mpmath.findroot(advance, (mpmath.mpf("0.915"), mpmath.mpf("0.38")))
    assert pytest.approx(float(root[0]), rel=1e-15) == CORNER_WELLS
    assert pytest.approx(0.9152145256, abs=5e-11) == CORNER_WELLS


def test_a13_the_layer_norm_lands_at_eight_in_64_dimensions() -> None:
    assert _printed_error("A13.radius", "D = 64") == pytest.approx(1 - 1 / 8, rel=1e-12)


@pytest.mark.parametrize(("dim", "exact"), [(1, 0.0936), (2, 0.0442), (10, 7.4e-5), (64, 9.9e-24)])
def test_a16_the_printed_creation_probability_ignores_the_dimension(dim: int, exact: float) -> None:
    v = 0.3 * jnp.ones(dim) / math.sqrt(dim)
    bank = (jnp.zeros((1, dim)), jnp.array([5.0]), 2.0, 0.5, 1.0, 0.0)
    assert float(creation.printed_probabilities(v, *bank)[-1]) == pytest.approx(0.1876, abs=5e-5)
    assert float(creation.exact_probabilities(v, *bank)[-1]) == pytest.approx(exact, rel=6e-3)
    mixture = predictive_mixture(*(jnp.asarray(part) for part in bank))
    assert float(mixture.responsibilities(v)[-1]) == pytest.approx(exact, rel=6e-3)


def test_a16_the_printed_energy_creates_on_top_of_a_memory() -> None:
    v, bank = jnp.zeros(10), (jnp.zeros((1, 10)), jnp.array([1.0]), 2.0, 0.5, 2.0, 0.0)
    assert float(creation.printed_probabilities(v, *bank)[-1]) == pytest.approx(2 / 3)
    assert float(creation.exact_probabilities(v, *bank)[-1]) == pytest.approx(0.00064, abs=5e-6)


def test_a16_the_printed_new_term_has_too_much_mass() -> None:
    x, bank = jnp.linspace(-30, 30, 6001)[:, None], (jnp.zeros((1, 1)), jnp.array([5.0]), 2.0, 0.5, 1.0, 0.0)

    def mass(energy: jax.Array, shares: jax.Array) -> float:
        density = jnp.exp(-2.0 * energy)
        return float(jnp.sum(density * shares[:, -1]) / jnp.sum(density))

    assert mass(creation.exact(x, *bank), creation.exact_probabilities(x, *bank)) == pytest.approx(1 / 6, rel=1e-10)
    printed = mass(creation.printed(x, *bank), creation.printed_probabilities(x, *bank))
    assert printed == pytest.approx(math.sqrt(5) / (math.sqrt(5) + 5), rel=1e-10)
    assert printed == pytest.approx(0.309, abs=5e-4)


@pytest.mark.parametrize(("alpha", "mean", "growth"), [(1.0, 7.485, 6.909), (10.0, 46.65, 46.15), (0.1, 1.733, 0.921)])
def test_a18_the_logarithm_is_a_lower_bound_within_one(alpha: float, mean: float, growth: float) -> None:
    assert expected_num_components(alpha, 0.0, 1000) == pytest.approx(mean, abs=6e-3)
    assert alpha * math.log1p(1000 / alpha) == pytest.approx(growth, abs=6e-3)


def test_a19_the_power_law_is_close_at_a_million() -> None:
    assert expected_num_components(1.0, 0.5, 10**6) == pytest.approx(2254.75918, abs=5e-6)
    lead = math.gamma(2) / (0.5 * math.gamma(1.5))
    assert lead * 1e3 - 2 == pytest.approx(2254.75833, abs=5e-6)


def test_a20_the_textbook_bound_is_below_the_truth() -> None:
    law = truncated_partition_law(2, 10, 0.3, 0.0)
    variation = 0.0
    for labels in labels_of_partitions(2):
        exact = math.exp(log_partition_probability(partition_sizes(labels), 0.3, 0.0))
        variation += abs(law[labels] - exact) / 2
    assert variation == pytest.approx(2.52e-9, abs=5e-12)
    assert 4 * 2 * math.exp(-9 / 0.3) == pytest.approx(7.49e-13, abs=5e-16)
    assert truncation_error(0.3, 0.0, 10, 2).tv_bound > variation


def test_a20_a_thousand_sticks_of_a_pitman_yor_process_leave_three_thousandths() -> None:
    assert expected_remaining(1.0, 0.5, 1000) == pytest.approx(0.0030, abs=5e-5)


def test_b11_a_longer_memory_takes_over() -> None:
    moved = continuous_hopfield.update(jnp.array([1.0, 0.0]), jnp.array([[1.0, 0.0], [2.0, 1.0]]), 10.0)
    np.testing.assert_allclose(moved, [2.0, 1.0], atol=5e-4)
    log_weights = hopfield_mixture(jnp.array([[1.0, 0.0], [0.0, 1.2]]), jnp.asarray(100.0)).log_weights
    np.testing.assert_allclose(log_weights, [-22.0, -2.8e-10], rtol=5e-3)
