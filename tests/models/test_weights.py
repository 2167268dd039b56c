"""The law of labels under stick-breaking against Beta functions to 40 digits, and its total; its M-step."""

from itertools import product

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy

from probam.family import WeightPrior
from probam.models.weights import Dirichlet, Fixed, StickBreaking


def by_beta_functions(counts: np.ndarray, alpha: float, discount: float) -> float:
    """Log of the product of E V_k^n_k (1 - V_k)^(data after k) over independent Beta sticks."""
    with mp.workdps(40):
        a, d, total, tail = mp.mpf(alpha), mp.mpf(discount), mp.mpf(0), int(counts.sum())
        for k, count in enumerate(counts[:-1], start=1):
            tail -= int(count)
            total += mp.log(mp.beta(1 - d + int(count), a + k * d + tail)) - mp.log(mp.beta(1 - d, a + k * d))
        return float(total)


CASES = [
    (1.3, 0.0, 5, 20),
    (0.02, 0.3, 7, 300),
    (1e12, 0.0, 6, 100),
    (5.0, 0.9, 3, 1000),
    (0.0, 0.4, 4, 30),
    (-0.2, 0.4, 4, 30),
    (0.7, 0.2, 2, 9),
    (0.7, 0.0, 1, 9),
    (2.0, 0.0, 20, 1_000_000),
]


@pytest.mark.parametrize(("alpha", "discount", "num_components", "num_data"), CASES)
def test_the_law_of_labels_is_the_product_of_beta_functions(
    alpha: float, discount: float, num_components: int, num_data: int
) -> None:
    rng = np.random.default_rng(num_data)
    for concentration in (0.1, 3.0):
        counts = rng.multinomial(num_data, rng.dirichlet(np.full(num_components, concentration))).astype(float)
        law = StickBreaking(alpha, discount)
        np.testing.assert_allclose(
            float(law.log_marginal(jnp.asarray(counts), {})),
            by_beta_functions(counts, alpha, discount),
            rtol=1e-14,
            atol=1e-11,
        )


def test_the_law_of_labels_sums_to_one() -> None:
    law = StickBreaking(0.7, 0.3)
    counts = np.array([np.bincount(labels, minlength=3) for labels in product(range(3), repeat=5)], float)
    total = sum(float(jnp.exp(law.log_marginal(jnp.asarray(row), {}))) for row in counts)
    assert total == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("num_components", [1, 2, 9])
def test_alpha_of_a_dirichlet_process_is_the_most_probable_given_the_sticks(num_components: int) -> None:
    """Against a search on the density of log(alpha): Gamma prior, Beta(1, alpha) sticks, the Jacobian of the log."""
    counts = np.random.default_rng(0).uniform(0, 40, num_components)
    before = {"alpha": jnp.asarray(0.7), "sticks": jnp.full(num_components - 1, 0.5)}
    after = StickBreaking(dist.Gamma(2.0, 3.0)).maximize(jnp.asarray(counts), before, likelihood_only=False)
    sticks = np.asarray(after["sticks"]) if num_components > 1 else np.zeros(0)

    def minus_log_density(log_alpha: float) -> float:
        alpha = np.exp(log_alpha)
        of_sticks = scipy.stats.beta(1, alpha).logpdf(sticks).sum()
        return float(-(scipy.stats.gamma(2, scale=1 / 3).logpdf(alpha) + log_alpha + of_sticks))

    found = scipy.optimize.minimize_scalar(
        minus_log_density, bounds=(-6, 6), method="bounded", options={"xatol": 1e-10}
    )
    np.testing.assert_allclose(np.log(after["alpha"]), found.x, atol=1e-6)


@pytest.mark.parametrize(
    "law", [StickBreaking(1.3), StickBreaking(0.6, 0.3), Dirichlet(0.7), Fixed((1.0, 2.0, 0.5, 4.0, 1.5, 1.0))]
)
@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4, 5), (5, 1, 2, 3, 4, 0), (3, 0, 5, 1, 4, 2)])
def test_terms_of_the_memories_serve_every_order_of_them(law: WeightPrior, order: tuple[int, ...]) -> None:
    counts = jnp.asarray([7.0, 0.0, 3.0, 1.0, 0.0, 12.0])
    terms = jax.tree.map(lambda leaf: leaf[jnp.asarray(order)], law.marginal_terms(counts, {}))
    expected = law.log_marginal(counts[jnp.asarray(order)], {})
    np.testing.assert_allclose(law.log_marginal_of(terms, {}), expected, rtol=1e-13)
