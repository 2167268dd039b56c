"""CLAM against sums of fifty digits and against the theorems about it."""

from typing import Any

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from jax.test_util import check_grads

from probam.energies import clam
from probam.errors import InputError

Bank = tuple[np.ndarray, ...]

energy = jax.jit(clam.energy)
responsibilities = jax.jit(clam.responsibilities)
update = jax.jit(clam.update)
EPS = np.finfo(np.float64).eps


def oracle(query: Any, memories: Any, beta: float, weights: Any) -> tuple[Any, ...]:
    """Energy, responsibilities and update of one query, term by term at fifty digits."""
    query, memories = np.asarray(query, float), np.asarray(memories, float)
    with mp.workdps(50):
        squares = [mp.fsum((mp.mpf(a) - mp.mpf(b)) ** 2 for a, b in zip(mu, query, strict=True)) for mu in memories]
        nearest = min(square for square, w in zip(squares, weights, strict=True) if w > 0)
        terms = [mp.mpf(w) * mp.exp(-mp.mpf(beta) * (s - nearest)) for s, w in zip(squares, weights, strict=True)]
        total = mp.fsum(terms)
        shares = [term / total for term in terms]
        mean = [mp.fsum(r * mp.mpf(mu[d]) for r, mu in zip(shares, memories, strict=True)) for d in range(len(query))]
        return float(nearest - mp.log(total) / beta), np.array(shares, float), np.array(mean, float)


def oracles(queries: Any, memories: Any, beta: float, weights: Any) -> tuple[np.ndarray, ...]:
    rows = [oracle(query, memories, beta, weights) for query in queries.reshape(-1, queries.shape[-1])]
    energies, shares, means = (np.array(part) for part in zip(*rows, strict=True))
    batch = queries.shape[:-1]
    return energies.reshape(batch), shares.reshape(*batch, -1), means.reshape(queries.shape)


@pytest.fixture
def bank() -> Bank:
    rng = np.random.default_rng(1)
    return rng.normal(size=(5, 3)), np.array([0.5, 2.0, 1.0, 0.1, 3.0]), rng.normal(size=(2, 4, 3))


@pytest.mark.parametrize("offset", [0.0, 1e6])
@pytest.mark.parametrize("beta", [1e-6, 0.3, 7.0, 1e6])
def test_energy_responsibilities_and_update_are_the_sums_of_the_papers_near_and_far_from_zero(
    bank: Bank, beta: float, offset: float
) -> None:
    memories, weights, queries = bank[0] + offset, bank[1], bank[2] + offset
    wanted = oracles(queries, memories, beta, weights)
    rounding = 100 * EPS * (1 + beta)  # of a logit: the spread is of order one
    np.testing.assert_allclose(energy(queries, memories, beta, weights), wanted[0], atol=rounding / beta, rtol=1e-14)
    np.testing.assert_allclose(responsibilities(queries, memories, beta, weights), wanted[1], atol=rounding)
    np.testing.assert_allclose(update(queries, memories, beta, weights), wanted[2], atol=rounding + 4 * EPS * offset)


def test_energy_next_to_a_memory_is_the_squared_distance_to_it() -> None:
    memories = np.array([[1e3, 2e3], [-3e3, 1e3], [0.5e3, -4e3]])
    query = memories[1] + np.array([3e-5, -4e-5])
    np.testing.assert_allclose(energy(query, memories, 2.0), oracle(query, memories, 2.0, [1, 1, 1])[0], rtol=1e-12)


def test_responsibilities_survive_a_query_at_1e8_where_squared_distances_have_lost_them() -> None:
    memories, weights = np.array([[1.0, 0.3], [1.0, -0.2], [-2.0, 0.1]]), np.array([1.0, 2.0, 4.0])
    query = np.array([1e8, 1.0])
    _, wanted, mean = oracle(query, memories, 1.5, weights)
    assert wanted[:2].min() > 0.1
    np.testing.assert_allclose(responsibilities(query, memories, 1.5, weights), wanted, atol=1e-6)
    np.testing.assert_allclose(update(query, memories, 1.5, weights), mean, atol=1e-6)
    np.testing.assert_allclose(energy(query, memories, 1.5, weights), 1e16, rtol=1e-7)
    direct = -1.5 * ((query - memories) ** 2).sum(-1) + np.log(weights)
    naive = np.exp(direct - direct.max()) / np.exp(direct - direct.max()).sum()
    assert abs(naive - wanted).max() > 0.05  # the trap is real


def test_float32_keeps_its_digits_at_a_common_offset(bank: Bank) -> None:
    offset = 1e4
    memories, queries = (bank[0] + offset).astype(np.float32), (bank[2] + offset).astype(np.float32)
    wanted = oracles(queries, memories, 2.0, np.ones(5))
    got = energy(queries, memories, 2.0), responsibilities(queries, memories, 2.0), update(queries, memories, 2.0)
    assert all(part.dtype == jnp.float32 for part in got)
    np.testing.assert_allclose(got[0], wanted[0], atol=2e-5)
    np.testing.assert_allclose(got[1], wanted[1], atol=2e-5)
    np.testing.assert_allclose(got[2], wanted[2], atol=2e-5 + 4 * offset * float(np.finfo(np.float32).eps))


def test_a_doubled_memory_lowers_the_energy_by_log_2_over_beta_so_the_sum_is_not_a_mean(bank: Bank) -> None:
    memories, _, queries = bank
    beta = 1.7
    twice = energy(queries, np.repeat(memories, 2, axis=0), beta)
    np.testing.assert_allclose(energy(queries, memories, beta) - twice, np.log(2) / beta, rtol=1e-12)


@pytest.mark.parametrize("beta", [0.1, 1.0, 1e2, 1e4])
def test_energy_lies_within_log_k_over_beta_below_the_k_means_distance(bank: Bank, beta: float) -> None:
    memories, _, queries = bank
    least = ((queries[..., None, :] - memories) ** 2).sum(-1).min(-1)
    gap = least - energy(queries, memories, beta)
    assert (gap >= -1e-13).all()
    assert (gap <= np.log(5) / beta + 1e-13).all()


def test_free_energy_exceeds_the_energy_by_the_kl_divergence_over_beta(bank: Bank) -> None:
    memories, _, queries = bank
    beta, query = 0.9, queries[0, 1]
    q = np.random.default_rng(2).dirichlet(np.ones(5))
    r = np.asarray(responsibilities(query, memories, beta))
    squares = ((query - memories) ** 2).sum(-1)
    free = (q * squares).sum() + (q * np.log(q)).sum() / beta
    np.testing.assert_allclose(free - energy(query, memories, beta), (q * np.log(q / r)).sum() / beta, rtol=1e-12)


def test_derivatives_are_those_of_finite_differences(bank: Bank) -> None:
    memories, weights, queries = bank

    def total(*args: Any) -> Any:
        return clam.energy(*args).sum()

    check_grads(jax.jit(total), (queries[0], memories, 0.8, weights), order=2, modes=["rev"], eps=1e-5, rtol=1e-6)


def test_update_is_a_half_gradient_step_also_at_a_large_offset(bank: Bank) -> None:
    memories, weights, queries = bank[0] + 1e6, bank[1], bank[2] + 1e6
    slope = jax.jit(jax.grad(lambda v: clam.energy(v, memories, 0.8, weights).sum()))(queries)
    np.testing.assert_allclose(queries - 0.5 * slope, update(queries, memories, 0.8, weights), atol=1e-9)
    _, _, mean = oracles(queries - 1e6, bank[0], 0.8, weights)
    np.testing.assert_allclose(slope, 2 * (bank[2] - mean), atol=1e-9)


def test_energy_falls_at_half_the_squared_gradient_over_tau_and_not_at_the_printed_rate(bank: Bank) -> None:
    memories, _, queries = bank
    beta, tau, query = 1.1, 0.7, queries[1, 2]
    velocity = (update(query, memories, beta) - query) / tau
    slope = jax.jit(lambda v, dv: jax.jvp(lambda u: clam.energy(u, memories, beta), (v,), (dv,))[1])(query, velocity)
    square = (np.asarray(jax.jit(jax.grad(clam.energy))(query, memories, beta)) ** 2).sum()
    np.testing.assert_allclose(slope, -square / (2 * tau), rtol=1e-12)
    np.testing.assert_allclose(slope, -2 * tau * (velocity**2).sum(), rtol=1e-12)
    np.testing.assert_allclose(-square / 2 / slope, tau, rtol=1e-12)  # the paper's rate lacks the 1 / tau


def test_two_memories_split_at_beta_one_over_two_a_squared() -> None:
    memories = np.array([[1.0], [-1.0]])
    curvature = jax.jit(jax.hessian(clam.energy))
    got = [float(curvature(np.zeros(1), memories, beta)[0, 0]) for beta in (0.4, 0.5, 0.6)]
    np.testing.assert_allclose(got, [0.4, 0.0, -0.4], atol=1e-15)
    np.testing.assert_allclose(clam.convexity_threshold(memories), 0.5, rtol=1e-15)
    np.testing.assert_allclose([clam.hessian_bound(memories, beta) for beta in (0.4, 0.6)], [0.4, -0.4], atol=1e-15)


def test_hessian_is_two_minus_four_beta_times_the_covariance_and_above_its_bound(bank: Bank) -> None:
    memories, weights, queries = bank
    beta, rows = 0.6, queries.reshape(-1, 3)
    hessian = jax.jit(jax.vmap(lambda v: jax.hessian(clam.energy)(v, memories, beta, weights)))(rows)
    r = np.asarray(responsibilities(rows, memories, beta, weights))
    gap = memories - np.einsum("qk,kd->qd", r, memories)[:, None]
    covariance = np.einsum("qk,qkd,qke->qde", r, gap, gap)
    np.testing.assert_allclose(hessian, 2 * np.eye(3) - 4 * beta * covariance, atol=1e-12)
    assert np.linalg.eigvalsh(hessian).min() >= clam.hessian_bound(memories, beta)
    farthest = max(((a - b) ** 2).sum() for a in memories for b in memories)
    np.testing.assert_allclose(clam.hessian_bound(memories, beta), 2 - beta * farthest, rtol=1e-13)
    assert clam.convexity_threshold(np.full((3, 2), 0.1)) == np.inf


@pytest.mark.parametrize("a", [0.05, 0.7, 1.0, 1.5, 1.9])
@pytest.mark.parametrize("beta", [0.01, 1.0, 300.0])
def test_a_relaxed_step_lowers_the_energy_by_at_least_a_times_two_minus_a_times_its_square(
    bank: Bank, a: float, beta: float
) -> None:
    memories, weights, queries = bank
    move = update(queries, memories, beta, weights) - queries
    drop = energy(queries + a * move, memories, beta, weights) - energy(queries, memories, beta, weights)
    bound = -a * (2 - a) * (move**2).sum(-1)
    assert (drop <= bound + 1e-11 / min(beta, 1)).all()


def test_the_descent_bound_is_sharp_for_one_memory(bank: Bank) -> None:
    query, memory = bank[2][0, 0], bank[0][:1]
    for a in (0.3, 1.0, 1.8):
        moved = query + a * (update(query, memory, 2.5) - query)
        np.testing.assert_allclose(
            energy(moved, memory, 2.5), (1 - a) ** 2 * energy(query, memory, 2.5), rtol=1e-12, atol=1e-14
        )


def test_a_zero_weight_is_an_absent_memory_with_finite_derivatives(bank: Bank) -> None:
    memories, weights, queries = bank
    weights = np.where(np.arange(5) == 2, 0.0, weights)
    kept = np.arange(5) != 2
    np.testing.assert_allclose(
        energy(queries, memories, 3.0, weights), energy(queries, memories[kept], 3.0, weights[kept]), rtol=1e-13
    )
    share = responsibilities(queries, memories, 3.0, weights)
    assert (share[..., 2] == 0).all()
    np.testing.assert_allclose(share.sum(-1), 1, rtol=1e-14)

    def total(*args: Any) -> Any:
        return clam.energy(*args).sum() + clam.update(*args).sum() + (clam.responsibilities(*args) ** 2).sum()

    slopes = jax.jit(jax.grad(total, argnums=(0, 1, 2, 3)))(queries, memories, 3.0, weights)
    assert all(np.isfinite(slope).all() for slope in slopes)
    assert (slopes[1][2] == 0).all()


@jax.jit
def value_and_slopes(query: Any, memories: Any, beta: float) -> Any:
    def total(v: Any, m: Any) -> Any:
        return (clam.energy(v, m, beta) + clam.update(v, m, beta).sum(-1)).sum()

    return jax.value_and_grad(total, argnums=(0, 1))(query, memories)


@pytest.mark.parametrize("beta", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_memory_and_duplicates_are_finite_with_their_derivatives_at_every_beta(beta: float, dtype: Any) -> None:
    rng = np.random.default_rng(3)
    query, one = rng.normal(size=(4, 3)).astype(dtype), rng.normal(size=(1, 3)).astype(dtype)
    for memories in (one, np.repeat(one, 5, axis=0)):
        value, slopes = value_and_slopes(query, memories, beta)
        assert np.isfinite(value)
        assert all(np.isfinite(slope).all() for slope in slopes)
        np.testing.assert_allclose(
            update(query, memories, beta), np.broadcast_to(one, (4, 3)), rtol=4 * np.finfo(dtype).eps
        )


def test_nearest_is_the_least_distance_at_any_offset() -> None:
    rng = np.random.default_rng(4)
    memories, queries = rng.normal(size=(17, 3)), rng.normal(size=(6, 50, 3))
    wanted = ((queries[..., None, :] - memories) ** 2).sum(-1).argmin(-1)
    np.testing.assert_array_equal(clam.nearest(queries, memories), wanted)
    np.testing.assert_array_equal(clam.nearest(queries + 1e6, memories + 1e6), wanted)


def test_one_query_batches_and_vmap_agree(bank: Bank) -> None:
    memories, weights, queries = bank
    whole = energy(queries, memories, 1.3, weights)
    mapped = jax.jit(jax.vmap(jax.vmap(lambda v: clam.energy(v, memories, 1.3, weights))))(queries)
    np.testing.assert_allclose(mapped, whole, rtol=1e-14)
    assert energy(queries[0, 0], memories, 1.3, weights).shape == ()
    assert update(queries[0, 0], memories, 1.3, weights).shape == (3,)
    assert responsibilities(queries, memories, 1.3, weights).shape == (2, 4, 5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"beta": 0.0}, "beta: expected finite values above 0; got 0"),
        ({"beta": np.nan}, "beta: expected finite values above 0; got nan"),
        ({"beta": np.ones(2)}, "beta: expected shape \\(\\)"),
        ({"weights": np.array([1.0, -2.0])}, "weights: expected finite values at least 0; got -2"),
        ({"weights": np.zeros(2)}, "weights: expected at least one above 0"),
        ({"weights": np.ones(3)}, "weights: expected shape \\(2,\\)"),
        ({"query": np.ones((4, 2))}, "query: expected shape \\(..., 3\\)"),
        ({"memories": np.ones(3)}, "memories: expected shape \\(K, D\\)"),
    ],
)
def test_bad_arguments_are_named(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {
        "query": np.zeros(3),
        "memories": np.eye(3)[:2],
        "beta": 1.0,
        "weights": np.ones(2),
    } | change
    functions: tuple[Any, ...] = (clam.energy, clam.responsibilities, clam.update)
    for function in functions:
        with pytest.raises(InputError, match=message):
            function(**arguments)
