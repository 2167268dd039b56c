"""Wells with their own stiffness against the plain sum over differences."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

from probam.energies import clam, quadratic
from probam.errors import InputError

Bank = tuple[np.ndarray, np.ndarray, np.ndarray, np.random.Generator]

KINDS = ["scalar", "isotropic", "diagonal", "full"]
energy = jax.jit(quadratic.energy)
responsibilities = jax.jit(quadratic.responsibilities)
update = jax.jit(quadratic.update)


def bank(kind: str, num_memories: int = 5, dim: int = 3) -> Bank:
    rng = np.random.default_rng(KINDS.index(kind))
    root = rng.normal(size=(num_memories, dim, dim))
    stiffness = {
        "scalar": np.array(1.7),
        "isotropic": rng.gamma(2.0, size=num_memories),
        "diagonal": rng.gamma(2.0, size=(num_memories, dim)),
        "full": root @ root.swapaxes(1, 2) + 0.1 * np.eye(dim),
    }[kind]
    return rng.normal(size=(num_memories, dim)), stiffness, rng.dirichlet(np.ones(num_memories)), rng


def matrices(stiffness: Any, num_memories: int, dim: int) -> Any:
    """The same stiffness, written out as one matrix a memory."""
    if stiffness.ndim == 3:
        return (stiffness + stiffness.swapaxes(1, 2)) / 2
    if stiffness.ndim == 2:
        return stiffness[:, :, None] * np.eye(dim)
    return np.broadcast_to(stiffness, (num_memories,))[:, None, None] * np.eye(dim)


def oracle(queries: Any, memories: Any, stiffness: Any, weights: Any) -> tuple[Any, ...]:
    A = matrices(stiffness, *memories.shape)
    gap = queries[..., None, :] - memories
    terms = np.log(weights) - np.einsum("...kd,kde,...ke->...k", gap, A, gap)
    total = logsumexp(terms, axis=-1)
    r = np.exp(terms - total[..., None])
    middle = memories.mean(0)
    pull = np.einsum("...k,kde,ke->...d", r, A, memories - middle)
    mean = middle + np.linalg.solve(np.einsum("...k,kde->...de", r, A), pull[..., None])[..., 0]
    return -total, r, mean


@pytest.mark.parametrize("offset", [0.0, 1e6])
@pytest.mark.parametrize("kind", KINDS)
def test_energy_responsibilities_and_update_are_the_plain_sums_near_and_far_from_zero(kind: str, offset: float) -> None:
    memories, stiffness, weights, rng = bank(kind)
    memories, queries = memories + offset, rng.normal(size=(2, 4, 3)) + offset
    wanted = oracle(queries, memories, stiffness, weights)
    np.testing.assert_allclose(energy(queries, memories, stiffness, weights), wanted[0], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(responsibilities(queries, memories, stiffness, weights), wanted[1], atol=1e-12)
    np.testing.assert_allclose(update(queries, memories, stiffness, weights), wanted[2], atol=1e-12 + 1e-15 * offset)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_stiffness_is_beta_times_the_clam_energy_even_at_1e8(kind: str) -> None:
    rng = np.random.default_rng(5)
    memories, weights = np.array([[1.0, 0.3], [1.0, -0.2], [-2.0, 0.1]]), np.array([1.0, 2.0, 4.0])
    queries = np.concatenate([rng.normal(size=(3, 2)), [[1e8, 1.0]]])
    stiffness = {
        "scalar": np.array(1.5),
        "isotropic": np.full(3, 1.5),
        "diagonal": np.full((3, 2), 1.5),
        "full": np.broadcast_to(1.5 * np.eye(2), (3, 2, 2)),
    }[kind]
    np.testing.assert_allclose(
        energy(queries, memories, stiffness, weights), 1.5 * clam.energy(queries, memories, 1.5, weights), rtol=1e-12
    )
    np.testing.assert_allclose(
        responsibilities(queries, memories, stiffness, weights),
        clam.responsibilities(queries, memories, 1.5, weights),
        atol=1e-6,
    )
    np.testing.assert_allclose(
        update(queries, memories, stiffness, weights), clam.update(queries, memories, 1.5, weights), atol=1e-6
    )


@pytest.mark.parametrize("a", [0.1, 1.0, 1.9])
@pytest.mark.parametrize("kind", KINDS)
def test_a_relaxed_step_lowers_the_energy_by_its_square_in_the_mean_stiffness(kind: str, a: float) -> None:
    memories, stiffness, weights, rng = bank(kind)
    queries = 2 * rng.normal(size=(50, 3))
    r = np.asarray(responsibilities(queries, memories, stiffness, weights))
    mean_stiffness = np.einsum("qk,kde->qde", r, matrices(stiffness, 5, 3))
    move = np.asarray(update(queries, memories, stiffness, weights)) - queries
    drop = energy(queries + a * move, memories, stiffness, weights) - energy(queries, memories, stiffness, weights)
    bound = -a * (2 - a) * np.einsum("qd,qde,qe->q", move, mean_stiffness, move)
    assert (bound < -1e-6).all()
    assert (drop <= bound + 1e-12).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_update_is_a_step_along_the_gradient_in_the_metric_of_the_mean_stiffness(kind: str) -> None:
    memories, stiffness, weights, rng = bank(kind)
    query = rng.normal(size=3)
    slope = jax.jit(jax.grad(quadratic.energy))(query, memories, stiffness, weights)
    r = np.asarray(responsibilities(query, memories, stiffness, weights))
    mean_stiffness = np.einsum("k,kde->de", r, matrices(stiffness, 5, 3))
    wanted = query - np.linalg.solve(2 * mean_stiffness, slope)
    np.testing.assert_allclose(update(query, memories, stiffness, weights), wanted, rtol=1e-11)


@pytest.mark.parametrize("kind", KINDS)
def test_slopes_in_all_arguments_are_those_of_central_differences(kind: str) -> None:
    memories, stiffness, weights, rng = bank(kind)
    arguments = (rng.normal(size=3), memories, stiffness, weights)
    slopes = jax.jit(jax.grad(quadratic.energy, argnums=(0, 1, 2, 3)))(*arguments)
    for number, slope in enumerate(slopes):
        direction = rng.normal(size=np.shape(slope))
        if number == 2 and kind == "full":
            direction = direction + direction.swapaxes(1, 2)
        shifted = [
            energy(*(value + h * direction if i == number else value for i, value in enumerate(arguments)))
            for h in (1e-6, -1e-6)
        ]
        np.testing.assert_allclose((slope * direction).sum(), (shifted[0] - shifted[1]) / 2e-6, rtol=1e-6, atol=1e-8)


def test_a_zero_weight_is_absent_with_finite_derivatives() -> None:
    memories, stiffness, weights, rng = bank("full")
    weights = np.where(np.arange(5) == 3, 0.0, weights)
    queries, kept = rng.normal(size=(4, 3)), np.arange(5) != 3
    np.testing.assert_allclose(
        energy(queries, memories, stiffness, weights),
        oracle(queries, memories[kept], stiffness[kept], weights[kept])[0],
        rtol=1e-12,
    )
    slopes = jax.jit(
        jax.grad(lambda *args: quadratic.energy(*args).sum() + quadratic.update(*args).sum(), argnums=(0, 1, 2, 3))
    )(queries, memories, stiffness, weights)
    assert all(np.isfinite(slope).all() for slope in slopes)


def test_extreme_stiffness_is_finite_and_the_stiff_well_rules_only_next_to_its_memory() -> None:
    memories, stiffness = np.array([[0.0, 0.0], [3.0, 0.0]]), np.array([1e-6, 1e6])
    queries = np.array([[3.0, 1e-4], [2.0, 0.0], [1e8, 0.0]])
    np.testing.assert_allclose(responsibilities(queries, memories, stiffness)[:, 1].round(3), [0.497, 0, 0], atol=2e-3)
    assert np.isfinite(energy(queries, memories, stiffness)).all()
    assert np.isfinite(update(queries, memories, stiffness)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_float32_stays_float32(kind: str) -> None:
    memories, stiffness, weights, rng = bank(kind)
    queries = rng.normal(size=(2, 4, 3))
    single = [np.float32(part) for part in (queries, memories, stiffness, weights)]
    for function, wanted in zip((energy, responsibilities, update), oracle(*map(np.float64, single)), strict=True):
        got = function(*single)
        assert got.dtype == jnp.float32
        np.testing.assert_allclose(got, wanted, rtol=2e-4, atol=2e-5)


def test_bad_stiffness_is_named() -> None:
    memories = np.eye(3)[:2]
    with pytest.raises(
        InputError, match=r"stiffness: expected shape \(\), \(2,\), \(2, 3\) or \(2, 3, 3\); got \(3,\)"
    ):
        quadratic.energy(np.zeros(3), memories, np.ones(3))
    with pytest.raises(InputError, match="stiffness: expected finite values above 0; got -1"):
        quadratic.update(np.zeros(3), memories, np.array([1.0, -1.0]))
    with pytest.raises(InputError, match="positive definite matrices; number 1 has the eigenvalue -2"):
        quadratic.responsibilities(np.zeros(3), memories, np.array([np.eye(3), np.diag([1.0, -2.0, 1.0])]))


@pytest.mark.parametrize(("dtype", "distance"), [("float64", 1e160), ("float64", 1e300), ("float32", 1e37)])
@pytest.mark.parametrize("kind", KINDS)
def test_where_squares_overflow_the_energy_is_infinite_and_the_softest_well_has_the_whole_sum(
    kind: str, dtype: str, distance: float
) -> None:
    memories, stiffness, weights, rng = bank(kind)
    directions = rng.normal(size=(30, 3))
    queries = (distance * directions).astype(dtype)
    arguments = [np.asarray(value, dtype) for value in (memories, stiffness, weights)]
    assert (np.asarray(energy(queries, *arguments)) == np.inf).all()
    share = np.asarray(responsibilities(queries, *arguments))
    form = np.einsum("nd,kde,ne->nk", directions, matrices(stiffness, 5, 3), directions)
    slope = directions @ memories.T
    np.testing.assert_array_equal(share.argmax(-1), slope.argmax(-1) if kind == "scalar" else form.argmin(-1))
    np.testing.assert_allclose(share.max(-1), 1, rtol=1e-6)
    assert np.isfinite(update(queries, *arguments)).all()
