"""Universal Hopfield networks: separations, Appendix E with its limits, and the memories that they contain."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax

from probam.energies import clam, universal
from probam.energies.separations import (
    PRINTED,
    Identity,
    Log,
    Max,
    Polynomial,
    Separation,
    Softmax,
    Square,
    Threshold,
    TopK,
    sum_to_one,
)
from probam.energies.similarities import SIMILARITIES
from probam.errors import InputError

raw = jax.jit(lambda separation, scores: separation(scores))
shares = jax.jit(lambda separation, scores: separation.shares(scores))
weights = jax.jit(universal.weights, static_argnames=("kind", "normalised"))
retrieve = jax.jit(universal.retrieve, static_argnames=("kind", "normalised"))
normalised_scores = jax.jit(universal.normalised_scores, static_argnames="kind")
INF = np.inf
SCORES = np.array([[0.5, 0.2, 0.3], [0.1, 0.8, 0.1]])
ALL = (Identity(), Square(), Polynomial(5), Log(), Softmax(3.0), Max(), Threshold(0.25), TopK(2))


@pytest.fixture
def bank() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    return rng.uniform(size=(2, 6)), rng.uniform(size=(4, 6))


def test_separations_are_table_3_with_the_sign_and_the_one_hot_put_right() -> None:
    expected: dict[Separation, np.ndarray] = {
        Identity(): SCORES,
        Square(): SCORES**2,
        Polynomial(5): SCORES**5,
        Log(): np.log(SCORES),
        Softmax(3.0): softmax(3 * SCORES, axis=-1),
        Max(): np.array([[1.0, 0, 0], [0, 1.0, 0]]),
        Threshold(0.25): np.array([[1.0, 0, 1], [0, 1.0, 0]]),
        TopK(2): np.array([[0.5, 0, 0.5], [0.25, 0.5, 0.25]]),
    }
    for separation, values in expected.items():
        np.testing.assert_allclose(raw(separation, SCORES), values, rtol=1e-14)
        np.testing.assert_allclose(
            shares(separation, SCORES), values / values.sum(-1, keepdims=True), rtol=1e-14, atol=1e-16
        )


@pytest.mark.parametrize("separation", ALL, ids=lambda one: f"{type(one).__name__}")
def test_shares_keep_the_dtype_and_sum_to_one(separation: Separation) -> None:
    result = shares(separation, SCORES.astype(np.float32))
    assert result.dtype == jnp.float32
    np.testing.assert_allclose(result.sum(-1), 1, rtol=1e-6)


def test_infinite_scores_and_zeros_share_equally() -> None:
    rows = np.array([[1.0, INF, INF], [-INF, 2.0, -INF], [-INF, -INF, -INF], [0.0, 0.0, 0.0]])
    best = np.array([[0, 0.5, 0.5], [0, 1, 0], [1 / 3, 1 / 3, 1 / 3], [1 / 3, 1 / 3, 1 / 3]])
    choosing: tuple[Separation, ...] = (Softmax(7.0), Max())
    for separation in choosing:
        np.testing.assert_allclose(shares(separation, rows), best, rtol=1e-15)
    for separation in (Identity(), Polynomial(3), Square()):
        np.testing.assert_allclose(shares(separation, rows[[0, 2, 3]]), best[[0, 2, 3]], rtol=1e-15)
    result = shares(Log(), np.array([[0.0, 1.0, 0.0], [1.0, 1.0, 1.0]]))
    np.testing.assert_allclose(result, [[0.5, 0, 0.5], [1 / 3, 1 / 3, 1 / 3]])


def test_high_powers_neither_overflow_nor_vanish() -> None:
    tiny = np.array([1e-6, 2e-6, 0.5e-6], np.float32)
    powers = np.array([1.0, 2.0, 0.5]) ** 40
    np.testing.assert_allclose(shares(Polynomial(40), tiny), powers / powers.sum(), rtol=1e-5)
    assert (tiny**40 == 0).all()  # the trap is real
    np.testing.assert_allclose(shares(Polynomial(40), tiny * 1e15), powers / powers.sum(), rtol=1e-5)


def test_ties_divide_the_last_places_and_top_one_is_max() -> None:
    rows = np.array([[3.0, 1.0, 1.0, 1.0, 0.0], [2.0, 2.0, 2.0, 0.0, 2.0]])
    np.testing.assert_allclose(raw(TopK(2), rows), [[1 / 2, 1 / 6, 1 / 6, 1 / 6, 0], [1 / 4, 1 / 4, 1 / 4, 0, 1 / 4]])
    np.testing.assert_array_equal(raw(TopK(1), rows), raw(Max(), rows))
    np.testing.assert_allclose(raw(TopK(9), rows), np.full((2, 5), 0.2))


def test_a_threshold_that_nothing_passes_reads_zero(bank: tuple[np.ndarray, np.ndarray]) -> None:
    queries, memories = bank
    for normalised in (False, True):
        read = retrieve(queries, memories, "manhattan", Threshold(1e3), normalised=normalised)
        np.testing.assert_array_equal(read, np.zeros((2, 6)))


def test_softmax_has_finite_derivatives_in_scores_and_beta_at_its_limits() -> None:
    def first(beta: Any, scores: Any) -> Any:
        return Softmax(beta).shares(scores)[0]

    slopes = jax.jit(jax.grad(first, argnums=(0, 1)))
    for scores in ([1.0, -INF, 0.3], [INF, 0.0, INF], [2.0, 2.0, 2.0]):
        assert all(np.isfinite(part).all() for part in slopes(1.5, np.array(scores)))
    share = softmax(1.5 * SCORES[0])
    _, slope = slopes(1.5, SCORES[0])
    np.testing.assert_allclose(slope, 1.5 * share[0] * (np.eye(3)[0] - share), rtol=1e-13)


def test_reciprocal_distances_have_their_limits() -> None:
    rows = np.array([[2.0, 1.0, 4.0], [0.0, 3.0, 1.0], [0.0, 3.0, 0.0], [INF, 2.0, 2.0], [INF, INF, INF]])
    expected = np.array([[2 / 7, 4 / 7, 1 / 7], [1, 0, 0], [0.5, 0, 0.5], [0, 0.5, 0.5], [1 / 3, 1 / 3, 1 / 3]])
    np.testing.assert_allclose(jax.jit(universal.reciprocal_shares)(rows), expected, rtol=1e-15)
    slope = jax.jit(jax.grad(lambda d: universal.reciprocal_shares(d)[0]))
    np.testing.assert_allclose(slope(rows[0]), [-1 / 7 + 2 / 49, 4 / 49 * 2, 1 / 98], rtol=1e-12)
    assert all(np.isfinite(slope(row)).all() for row in rows)


@pytest.mark.parametrize("name", [name for name in SIMILARITIES if name != "hamming"])
def test_normalised_scores_are_those_of_appendix_e(name: str, bank: tuple[np.ndarray, np.ndarray]) -> None:
    queries, memories = bank
    values = np.asarray(SIMILARITIES[name](queries, memories))
    values = 1 / values if SIMILARITIES[name].is_distance else values
    result = normalised_scores(queries, memories, name)
    np.testing.assert_allclose(result, values / values.sum(-1, keepdims=True), rtol=1e-12)


def test_an_exact_match_and_its_copies_share_the_whole(bank: tuple[np.ndarray, np.ndarray]) -> None:
    _, memories = bank
    twice = np.concatenate([memories, memories[1:2]])
    for name in ("squared euclidean", "manhattan", "jensen-shannon"):
        np.testing.assert_array_equal(normalised_scores(memories[1], twice, name), [0, 0.5, 0, 0, 0.5])
    for separation in (Identity(), Max()):
        result = weights(memories[1], twice, "manhattan", separation, normalised=True)
        np.testing.assert_array_equal(result, [0, 0.5, 0, 0, 0.5])
    result = weights(memories[1], twice, "manhattan", Log(), normalised=True)
    np.testing.assert_allclose(result, np.array([1, 0, 1, 1, 0]) / 3)  # the ranking is turned round


def test_similarities_that_cancel_have_no_normalised_scores() -> None:
    memories, query = np.array([[1.0, -1.0], [-1.0, 1.0]]), np.array([1.0, 0.5])
    with pytest.raises(InputError, match="similarities sum to 0 for 1 of 1 queries, and Appendix E divides by that"):
        universal.normalised_scores(query, memories, "dot")
    assert not np.isfinite(normalised_scores(query, memories, "dot")).any()  # known too late under jit


def test_the_readout_is_the_sum_of_projected_rows(bank: tuple[np.ndarray, np.ndarray]) -> None:
    queries, memories = bank
    projection = np.random.default_rng(8).normal(size=(4, 3))
    for normalised in (False, True):
        share = np.asarray(weights(queries, memories, "manhattan", Softmax(4.0), normalised=normalised))
        read = retrieve(queries, memories, "manhattan", Softmax(4.0), projection=projection, normalised=normalised)
        np.testing.assert_allclose(read, np.einsum("qk,ko->qo", share, projection), rtol=1e-13)
        auto = retrieve(queries, memories, "manhattan", Softmax(4.0), normalised=normalised)
        np.testing.assert_allclose(auto, np.einsum("qk,kd->qd", share, memories), rtol=1e-13)
    with pytest.raises(InputError, match=r"projection: expected one row for each of the 4 memories; got \(3, 4\)"):
        universal.retrieve(queries, memories, "dot", Max(), projection=projection.T)


def test_batches_of_queries_keep_their_shape(bank: tuple[np.ndarray, np.ndarray]) -> None:
    queries, memories = bank
    rows = np.concatenate([queries, queries * 0.5, queries + 0.1])
    read = np.asarray(retrieve(rows, memories, "euclidean", Softmax(4.0)))
    np.testing.assert_allclose(
        retrieve(rows.reshape(3, 2, 6), memories, "euclidean", Softmax(4.0)), read.reshape(3, 2, 6), rtol=1e-14
    )
    one = partial(universal.retrieve, kind="euclidean", separation=Softmax(4.0))
    mapped = jax.jit(jax.vmap(one, (0, None)))(rows, memories)
    np.testing.assert_allclose(mapped, read, rtol=1e-13)


def test_squared_euclidean_softmax_is_one_step_of_clam_and_shares_its_energy(
    bank: tuple[np.ndarray, np.ndarray],
) -> None:
    queries, memories = bank
    beta = 3.0
    np.testing.assert_allclose(
        retrieve(queries, memories, "squared euclidean", Softmax(beta)),
        clam.update(queries, memories, beta),
        rtol=1e-13,
    )
    energy = jax.jit(universal.energy, static_argnames="kind")
    np.testing.assert_allclose(
        energy(queries, memories, "squared euclidean", beta), clam.energy(queries, memories, beta), rtol=1e-12
    )


def test_the_energy_of_manhattan_pulls_along_signs(bank: tuple[np.ndarray, np.ndarray]) -> None:
    queries, memories = bank
    beta = 2.5
    slope = jax.jit(jax.grad(lambda v: universal.energy(v, memories, "manhattan", beta)))(queries[0])
    share = softmax(-beta * np.abs(queries[0] - memories).sum(-1))
    np.testing.assert_allclose(slope, share @ np.sign(queries[0] - memories), rtol=1e-13)


def test_identity_and_dot_product_recall_bipolar_patterns_as_the_classical_network_does() -> None:
    rng = np.random.default_rng(2)
    memories = np.sign(rng.normal(size=(3, 64)))
    weight_matrix = memories.T @ memories
    queries = memories * np.where(rng.uniform(size=memories.shape) < 0.1, -1, 1)
    read = retrieve(queries, memories, "dot", Identity())
    np.testing.assert_array_equal(read, queries @ weight_matrix)
    np.testing.assert_array_equal(np.sign(read), memories)


def test_a_sparse_distributed_memory_reads_addresses_within_the_radius() -> None:
    rng = np.random.default_rng(6)
    addresses, patterns = rng.integers(2, size=(40, 12)), rng.integers(2, size=(40, 5))
    query, radius = rng.integers(2, size=12), 4
    active = (addresses != query).sum(-1) <= radius
    assert 0 < active.sum() < 40
    read = universal.retrieve(query, addresses, "hamming", Threshold(-float(radius)), projection=patterns)
    np.testing.assert_array_equal(read, patterns[active].sum(0))


def test_the_tables_as_printed_choose_the_least_similar_or_nothing() -> None:
    memories, query = np.array([[0.0, 0.0], [4.0, 1.0], [1.0, 5.0]]), np.array([0.2, 0.1])
    nearest = universal.retrieve_as_printed(query, memories, "euclidean", "softmax", 1.0)
    np.testing.assert_allclose(nearest, memories[0], atol=1e-3)  # e^{-beta x} suits a distance
    dots = universal.retrieve_as_printed(query, memories, "dot", "softmax", 50.0)
    np.testing.assert_allclose(dots, memories[0], atol=1e-3)  # the least similar one: dot products grow with likeness
    largest = universal.retrieve_as_printed(query, memories, "dot", "max")
    np.testing.assert_allclose(largest, (query @ memories.T).max() * memories.sum(0))  # a number, not a choice
    np.testing.assert_array_equal(PRINTED["polynomial"](query, 3), query**3)
    with pytest.raises(InputError, match="kind: expected one of euclidean, manhattan"):
        universal.retrieve_as_printed(query, memories, "cosine", "max")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Polynomial(0), "n: expected a whole number of at least 1; got 0"),
        (lambda: TopK(-1), "k: expected a whole number of at least 1; got -1"),
        (lambda: Softmax(0.0)(jnp.asarray(SCORES)), "beta: expected finite values above 0; got 0.0"),
        (lambda: Log()(jnp.array([1.0, -2.25])), "scores: the log separation needs scores of at least 0; got -2.25"),
    ],
)
def test_parameters_outside_their_range_are_named(make: Any, message: str) -> None:
    with pytest.raises(InputError) as error:
        make()
    assert message in str(error.value)


def test_beta_is_not_compiled_in() -> None:
    traces = []

    @jax.jit
    def program(separation: Separation, scores: jax.Array) -> jax.Array:
        traces.append(separation)
        return sum_to_one(separation(scores))

    for beta in (1.0, 2.0, 5.0):
        program(Softmax(beta), SCORES)
    assert len(traces) == 1
