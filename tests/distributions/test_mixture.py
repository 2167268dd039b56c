"""The mixture distribution: the same law as NumPyro's, by matrix products."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from numpyro.distributions import Distribution
from scipy import integrate, stats

from probam.distributions.generalized_normal import GeneralizedNormal, RadialLaplace
from probam.distributions.mixture import MemoryMixture
from probam.distributions.observed import observed_densities
from probam.distributions.pairwise import pairwise_densities, pairwise_log_prob
from probam.distributions.student_t import EllipticalStudentT
from probam.distributions.von_mises_fisher import VonMisesFisher

N, K, D = 7, 4, 3


def _banks(dtype: str = "float64") -> dict[str, Any]:
    rng = np.random.default_rng(1)
    loc = jnp.asarray(rng.normal(0, 2, (K, D)), dtype)
    scale = jnp.asarray(rng.uniform(0.5, 2, (K, D)), dtype)
    factor = jnp.asarray(np.tril(rng.normal(0, 0.4, (K, D, D))) + 1.2 * np.eye(D), dtype)
    direction = loc / jnp.linalg.norm(loc, axis=-1, keepdims=True)
    return {
        "isotropic": dist.Normal(loc, jnp.asarray([0.7], dtype)).to_event(1),
        "scalar scale": dist.Normal(loc, jnp.asarray(0.7, dtype)).to_event(1),
        "spherical": dist.Normal(loc, scale[:, :1]).to_event(1),
        "diagonal": dist.Normal(loc, scale).to_event(1),
        "full, scale_tril": dist.MultivariateNormal(loc, scale_tril=factor),
        "full, precision": dist.MultivariateNormal(loc, precision_matrix=factor @ jnp.swapaxes(factor, -1, -2)),
        "von Mises-Fisher": VonMisesFisher(direction, 3 * scale[:, 0]),
        "Laplace (no matrix form)": dist.Laplace(loc, scale).to_event(1),
        "Student-t (no matrix form)": dist.MultivariateStudentT(4.0, loc, factor),
    }


BANKS = _banks()


def _points(bank: Distribution, seed: int = 2) -> jax.Array:
    x = jnp.asarray(np.random.default_rng(seed).normal(0, 3, (N, D)))
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True) if isinstance(bank, VonMisesFisher) else x


LOG_WEIGHTS = jnp.log(jnp.asarray([0.1, 0.45, 0.25, 0.2]))


@pytest.mark.parametrize("name", BANKS)
def test_log_density_is_that_of_the_broadcast_mixture(name: str) -> None:
    bank = BANKS[name]
    x = _points(bank)
    pairs = bank.log_prob(x[:, None, :])
    np.testing.assert_allclose(pairwise_log_prob(bank, x), pairs, rtol=1e-12, atol=1e-12)
    mixture = MemoryMixture(LOG_WEIGHTS, bank)
    expected = np.logaddexp.reduce(np.asarray(LOG_WEIGHTS + pairs), axis=-1)
    np.testing.assert_allclose(mixture.log_prob(x), expected, rtol=1e-12)
    np.testing.assert_allclose(
        mixture.responsibilities(x), np.exp(np.asarray(LOG_WEIGHTS + pairs) - expected[:, None]), rtol=1e-11
    )
    if not isinstance(bank, VonMisesFisher):
        theirs = dist.MixtureSameFamily(dist.Categorical(logits=LOG_WEIGHTS), bank)
        np.testing.assert_allclose(mixture.log_prob(x), theirs.log_prob(x), rtol=1e-12)


@pytest.mark.parametrize("name", ["isotropic", "spherical", "diagonal", "full, scale_tril", "von Mises-Fisher"])
def test_gradients_are_those_of_the_broadcast_form(name: str) -> None:
    bank = BANKS[name]
    x = _points(bank)

    def ours(bank: Distribution) -> jax.Array:
        return MemoryMixture(LOG_WEIGHTS, bank, validate_args=False).log_prob(x).sum()

    def broadcast(bank: Distribution) -> jax.Array:
        return jax.nn.logsumexp(LOG_WEIGHTS + bank.log_prob(x[:, None, :]), axis=-1).sum()

    def along(gradient: jax.Array, parameter: jax.Array) -> jax.Array:
        """Directions move along the sphere only; off it the two forms may differ."""
        if not (isinstance(bank, VonMisesFisher) and gradient.ndim == 2):
            return gradient
        return gradient - jnp.sum(gradient * parameter, -1, keepdims=True) * parameter

    leaves = (jax.tree.leaves(jax.grad(ours)(bank)), jax.tree.leaves(jax.grad(broadcast)(bank)), jax.tree.leaves(bank))
    for mine, theirs, parameter in zip(*leaves, strict=True):
        np.testing.assert_allclose(along(mine, parameter), along(theirs, parameter), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["isotropic", "diagonal", "full, scale_tril", "von Mises-Fisher"])
def test_no_array_of_data_by_memories_by_features_is_made(name: str) -> None:
    bank = BANKS[name]
    mixture = MemoryMixture(LOG_WEIGHTS, bank, validate_args=False)
    num_data = 1000
    jaxpr = jax.make_jaxpr(mixture.log_prob)(jnp.ones((num_data, D)))
    text = str(jaxpr)
    assert f"[{num_data},{K}]" in text
    assert f"[{num_data},{K},{D}]" not in text
    assert f"[{num_data},{K},{D}]" in str(jax.make_jaxpr(bank.log_prob)(jnp.ones((num_data, 1, D))))


@pytest.mark.parametrize("name", ["isotropic", "diagonal", "full, scale_tril"])
def test_a_common_offset_of_a_million_changes_nothing(name: str) -> None:
    bank, offset = BANKS[name], 1e6
    base: Any = bank.base_dist if isinstance(bank, dist.Independent) else bank
    moved = (
        dist.Normal(base.loc + offset, base.scale).to_event(1)
        if isinstance(base, dist.Normal)
        else dist.MultivariateNormal(base.loc + offset, scale_tril=base.scale_tril)
    )
    x = jnp.round(_points(bank) * 2**20) / 2**20
    exact = (x + offset) - offset  # what is left of x after the rounding of the sum
    expected = pairwise_log_prob(
        dist.Normal((base.loc + offset) - offset, base.scale).to_event(1)
        if isinstance(base, dist.Normal)
        else dist.MultivariateNormal((base.loc + offset) - offset, scale_tril=base.scale_tril),
        exact,
    )
    np.testing.assert_allclose(pairwise_log_prob(moved, x + offset), expected, rtol=1e-8)


@pytest.mark.parametrize("name", [name for name in BANKS if name != "Student-t (no matrix form)"])
def test_float32_stays_float32_and_is_accurate(name: str) -> None:
    bank = _banks("float32")[name]
    x = _points(bank).astype(jnp.float32)
    mixture = MemoryMixture(LOG_WEIGHTS.astype(jnp.float32), bank, validate_args=False)
    log_prob = mixture.log_prob(x)
    assert log_prob.dtype == jnp.float32
    np.testing.assert_allclose(
        log_prob, MemoryMixture(LOG_WEIGHTS, BANKS[name]).log_prob(_points(bank)), rtol=3e-5, atol=3e-5
    )


FAR = ["isotropic", "scalar scale", "spherical", "diagonal", "full, scale_tril", "full, precision"]


def _nearest(bank: Distribution, directions: np.ndarray) -> np.ndarray:
    """The memory whose quadratic form is least along each ray; where all are equal, that of the largest slope."""
    base: Any = bank.base_dist if isinstance(bank, dist.Independent) else bank
    loc = np.asarray(base.loc, float)
    if isinstance(base, dist.MultivariateNormal):
        precision = np.linalg.inv(np.asarray(base.covariance_matrix, float))
    else:
        precision = np.eye(D) / np.broadcast_to(np.asarray(base.scale, float), (K, D))[:, None] ** 2
    form = np.einsum("nd,kde,ne->nk", directions, precision, directions)
    slope = np.einsum("nd,kde,ke->nk", directions, precision, loc)
    equal = np.ptp(precision, axis=0).max() < 1e-6
    return (slope if equal else -form).argmax(axis=-1)


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize(("dtype", "distances"), [("float64", (1e12, 1e100, 1e160)), ("float32", (1e8, 1e25, 1e37))])
@pytest.mark.parametrize("name", FAR)
def test_far_away_no_density_is_nan_and_the_nearest_memory_is_responsible(
    name: str, dtype: str, distances: tuple[float, ...], missing: bool
) -> None:
    bank = _banks(dtype)[name]
    mixture = MemoryMixture(LOG_WEIGHTS.astype(dtype), bank, missing=missing)
    directions = np.random.default_rng(4).normal(size=(40, D))
    directions[0] = [1, 1, 1]
    for distance in distances:
        x = jnp.asarray(distance * directions, dtype)
        log_prob, log_resp = mixture.log_prob(x), mixture.log_responsibilities(x)
        assert not np.isnan(log_prob).any()
        assert (log_prob < -1e10).all()
        np.testing.assert_allclose(mixture.responsibilities(x).sum(-1), 1, rtol=1e-5)
        assert not np.isnan(log_resp).any()
        agree = np.asarray(log_resp).argmax(-1) == _nearest(bank, directions)
        assert agree.all() if dtype == "float64" else agree.mean() > 0.9  # at 203 spreads the limit is not yet reached
    assert (np.asarray(log_prob) == -np.inf).all()  # the square of the last distance overflows


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("name", FAR)
def test_beyond_the_largest_radius_log_densities_are_those_of_the_direct_form(name: str, missing: bool) -> None:
    bank = BANKS[name]
    x = _points(bank) * 10.0 ** np.arange(3, 3 + N)[:, None]
    got = (observed_densities if missing else pairwise_densities)(bank, x).here
    np.testing.assert_allclose(got, bank.log_prob(x[:, None, :]), rtol=1e-10)


def test_a_gap_in_a_far_row_leaves_the_density_of_the_others() -> None:
    for name in ("diagonal", "full, scale_tril"):
        mixture = MemoryMixture(LOG_WEIGHTS, BANKS[name], missing=True, validate_args=False)
        x = jnp.array([[1e160, jnp.nan, -1e160], [jnp.nan, jnp.nan, jnp.nan]])
        np.testing.assert_allclose(mixture.log_prob(x), [-np.inf, 0], atol=1e-12)
        assert not np.isnan(mixture.log_responsibilities(x)).any()


@pytest.mark.parametrize(
    "bank",
    [
        dist.Laplace(BANKS["diagonal"].base_dist.loc, BANKS["diagonal"].base_dist.scale).to_event(1),
        GeneralizedNormal(BANKS["diagonal"].base_dist.loc, 1.3, 4.0).to_event(1),
        RadialLaplace(BANKS["diagonal"].base_dist.loc, jnp.full(K, 0.5)),
        EllipticalStudentT(jnp.full(K, 3.0), BANKS["diagonal"].base_dist.loc, jnp.ones((K, D))),
        EllipticalStudentT(jnp.full(K, 3.0), BANKS["diagonal"].base_dist.loc, jnp.eye(D) + jnp.zeros((K, D, D))),
    ],
    ids=lambda bank: type(getattr(bank, "base_dist", bank)).__name__,
)
def test_responsibilities_of_other_location_families_are_probabilities_where_densities_underflow(
    bank: Distribution,
) -> None:
    mixture = MemoryMixture(LOG_WEIGHTS, bank)
    x = 1e160 * jnp.asarray(np.random.default_rng(4).normal(size=(5, D)))
    assert not np.isnan(mixture.log_prob(x)).any()
    np.testing.assert_allclose(mixture.responsibilities(x).sum(-1), 1, rtol=1e-12)


@pytest.mark.parametrize("full", [False, True])
def test_the_student_t_density_is_finite_where_the_square_of_the_distance_overflows(full: bool) -> None:
    precision = jnp.eye(D) + jnp.zeros((K, D, D)) if full else jnp.ones((K, D))
    bank = EllipticalStudentT(jnp.full(K, 3.0), BANKS["diagonal"].base_dist.loc, precision)
    near, far = (bank.log_prob(jnp.array([[distance, 0.0, 0.0]]))[0] for distance in (1e60, 1e160))
    np.testing.assert_allclose(far - near, -(3 + D) * np.log(1e100), rtol=1e-13)


@pytest.mark.parametrize("name", BANKS)
def test_log_responsibilities_sum_to_one_where_the_responsibilities_underflow(name: str) -> None:
    mixture = MemoryMixture(LOG_WEIGHTS, BANKS[name])
    x = 90 * _points(BANKS[name]) if name != "von Mises-Fisher" else _points(BANKS[name])
    log_resp = mixture.log_responsibilities(x)
    assert np.isfinite(log_resp).all()
    np.testing.assert_allclose(jax.nn.logsumexp(log_resp, axis=-1), 0, atol=1e-12)
    np.testing.assert_allclose(jnp.exp(log_resp), mixture.responsibilities(x), rtol=1e-10, atol=1e-300)
    if name in FAR:
        assert (np.asarray(mixture.responsibilities(x)) == 0).any()


def test_the_density_integrates_to_one() -> None:
    bank = dist.Normal(jnp.asarray([[-2.0], [0.5], [4.0]]), jnp.asarray([[0.3], [1.0], [2.0]])).to_event(1)
    mixture = MemoryMixture(jnp.log(jnp.asarray([0.2, 0.5, 0.3])), bank)
    density = jax.jit(lambda v: jnp.exp(mixture.log_prob(v[None])))
    total, _ = integrate.quad(lambda v: float(density(jnp.asarray(v))), -20, 30, points=[-2, 0.5, 4], epsabs=1e-10)
    assert abs(total - 1) < 1e-8


def test_draws_have_the_mixtures_mean_variance_and_weights() -> None:
    mixture = MemoryMixture(LOG_WEIGHTS, BANKS["full, scale_tril"])
    sampled, memory = mixture.sample_with_memory(jax.random.key(3), (20_000,))
    draws = np.asarray(sampled)
    standard_error = np.sqrt(np.asarray(mixture.variance) / len(draws))
    assert np.all(np.abs(draws.mean(0) - mixture.mean) < 5 * standard_error)  # 3 tests: fails once in 500,000
    fourth = ((draws - draws.mean(0)) ** 4).mean(0)
    variance_error = np.sqrt((fourth - draws.var(0) ** 2) / len(draws))
    assert np.all(np.abs(draws.var(0) - mixture.variance) < 5 * variance_error)
    test = stats.chisquare(np.bincount(memory, minlength=K), len(draws) * np.exp(np.asarray(LOG_WEIGHTS)))
    assert test.pvalue > 1e-6


@pytest.mark.parametrize("shape", [(), (0,), (2, 3), (5000,)])
def test_draws_are_of_their_own_memory_and_no_two_alike(shape: tuple[int, ...]) -> None:
    """One memory has most rows, so that the bank is asked many times; memories do not overlap."""
    centres = np.asarray([[-100.0], [0.0], [100.0]])
    bank = dist.Normal(jnp.asarray(centres), 1.0).to_event(1)
    mixture = MemoryMixture(jnp.log(jnp.asarray([0.05, 0.9, 0.05])), bank)
    draws, memory = (np.asarray(array) for array in mixture.sample_with_memory(jax.random.key(0), shape))
    assert draws.shape == (*shape, 1)
    assert memory.shape == shape
    noise = (draws - centres[memory]).ravel()
    assert np.all(np.abs(noise) < 6)
    assert len(np.unique(noise)) == noise.size
    if noise.size > 1000:
        for k in range(3):
            own = noise[memory == k]
            assert stats.kstest(own, "norm").pvalue > 1e-6, k
        halves = noise[: len(noise) // 2], noise[len(noise) // 2 : len(noise) // 2 * 2]
        assert abs(np.corrcoef(*halves)[0, 1]) < 5 / np.sqrt(len(halves[0]))


def test_memories_of_many_draws_are_independent_from_block_to_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probam.distributions.mixture._AT_ONCE", 40)
    law = MemoryMixture(jnp.log(jnp.asarray([0.3, 0.5, 0.2])), dist.Normal(jnp.zeros((3, 1)), 1.0).to_event(1))
    memory = np.asarray(law.sample_with_memory(jax.random.key(5), (10_000,))[1])
    assert stats.chisquare(np.bincount(memory, minlength=3), [3000, 5000, 2000]).pvalue > 1e-6
    pairs = np.histogram2d(memory[:-13], memory[13:], bins=3)[0]  # 13 draws are a block
    assert stats.chi2_contingency(pairs).pvalue > 1e-6


def test_a_memory_of_weight_zero_takes_no_part_and_its_gradient_is_finite() -> None:
    log_weights = jnp.log(jnp.asarray([0.5, 0.0, 0.5, 0.0]))
    bank: Any = BANKS["diagonal"]
    x = _points(bank)
    without = MemoryMixture(
        jnp.log(jnp.asarray([0.5, 0.5])), dist.Normal(bank.base_dist.loc[::2], bank.base_dist.scale[::2]).to_event(1)
    )
    np.testing.assert_allclose(MemoryMixture(log_weights, bank).log_prob(x), without.log_prob(x), rtol=1e-13)
    gradient = jax.grad(lambda v: MemoryMixture(log_weights, bank).log_prob(v).sum())(x)
    assert np.isfinite(gradient).all()


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="log_weights: expected one for each"):
        MemoryMixture(LOG_WEIGHTS[:2], BANKS["diagonal"])
    with pytest.raises(ValueError, match="bank: expected batch shape"):
        MemoryMixture(LOG_WEIGHTS, dist.Normal(jnp.zeros(K), 1.0))
