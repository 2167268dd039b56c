"""Similarities against SciPy's distances and relative entropies, near, far and on top of a memory."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy.spatial.distance import cdist
from scipy.special import rel_entr

from probam.energies.similarities import PRINTED, SIMILARITIES, Similarity, similarity, smoothed
from probam.errors import InputError

Oracle = Callable[[np.ndarray, np.ndarray], np.ndarray]

value = jax.jit(lambda kind, query, memories: kind(query, memories))


def _divergence(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    p, r = left / left.sum(-1, keepdims=True), right / right.sum(-1, keepdims=True)
    return np.array([[rel_entr(a, b).sum() for b in r] for a in p])


def _normalised_dot(q: np.ndarray, m: np.ndarray) -> np.ndarray:
    return (q / q.sum(-1, keepdims=True)) @ (m / m.sum(-1, keepdims=True)).T


ORACLES: dict[str, Oracle] = {
    "dot": lambda q, m: q @ m.T,
    "normalised dot": _normalised_dot,
    "cosine": lambda q, m: 1 - cdist(q, m, "cosine"),
    "squared euclidean": lambda q, m: cdist(q, m, "sqeuclidean"),
    "euclidean": lambda q, m: cdist(q, m),
    "manhattan": lambda q, m: cdist(q, m, "cityblock"),
    "hamming": lambda q, m: cdist(q, m, "hamming") * q.shape[1],
    "kl": _divergence,
    "reverse kl": lambda q, m: _divergence(m, q).T,
    "jeffreys": lambda q, m: _divergence(q, m) + _divergence(m, q).T,
    "jensen-shannon": lambda q, m: cdist(q, m, "jensenshannon") ** 2,
}
DISTANCES = [name for name, one in SIMILARITIES.items() if one.is_distance]


def _vectors(name: str, num_queries: int = 4, num_memories: int = 5, dim: int = 7) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    query, memories = rng.gamma(1.0, size=(num_queries, dim)), rng.gamma(1.0, size=(num_memories, dim))
    if SIMILARITIES[name].domain == "real":
        return query - 1, memories - 1
    return (np.floor(query) > 0, np.floor(memories) > 0) if name == "hamming" else (query, memories)


def test_every_similarity_has_an_oracle() -> None:
    assert set(ORACLES) == set(SIMILARITIES)


@pytest.mark.parametrize("name", SIMILARITIES)
def test_values_are_those_of_scipy(name: str) -> None:
    query, memories = _vectors(name)
    expected = ORACLES[name](query, memories)
    values = value(SIMILARITIES[name], query, memories)
    np.testing.assert_allclose(values, expected, rtol=1e-12, atol=1e-13)
    batched = value(SIMILARITIES[name], query.reshape(2, 2, -1), memories)
    np.testing.assert_allclose(batched, expected.reshape(2, 2, -1), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", SIMILARITIES)
def test_single_precision_stays_single_and_accurate(name: str) -> None:
    query, memories = (part.astype(np.float32) for part in _vectors(name))
    values = value(SIMILARITIES[name], query, memories)
    assert values.dtype == jnp.float32
    expected = ORACLES[name](query.astype(float), memories.astype(float))
    np.testing.assert_allclose(values, expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", DISTANCES)
@pytest.mark.parametrize("copies", [1, 6])
def test_a_stored_vector_is_at_distance_exactly_zero_from_itself_and_its_copies(name: str, copies: int) -> None:
    _, memories = _vectors(name)
    bank = np.concatenate([np.repeat(memories[2:3], copies, axis=0), memories])
    values = np.asarray(value(SIMILARITIES[name], memories[2], bank))
    assert (values[:copies] == 0).all()
    assert values[copies + 2] == 0
    assert (np.delete(values[copies:], 2) > 0).all()


@pytest.mark.parametrize("name", [name for name in DISTANCES if name != "hamming"])
def test_small_distances_keep_their_digits(name: str) -> None:
    """Against fifty digits, where the expanded squares and entropies would have lost all of them."""
    query, memories = _vectors(name)
    query[0] = memories[1] * (1 + 1e-7 * np.arange(7))
    with mp.workdps(50):
        p, r = ([mp.mpf(float(a)) for a in row] for row in (query[0], memories[1]))
        if SIMILARITIES[name].sums_to_one:
            p, r = [a / mp.fsum(p) for a in p], [b / mp.fsum(r) for b in r]
        pairs = list(zip(p, r, strict=True))

        def divergence(left: int, right: int) -> Any:
            return mp.fsum(pair[left] * mp.log(pair[left] / pair[right]) for pair in pairs)

        def to_the_midpoint(side: int) -> Any:
            return mp.fsum(pair[side] * mp.log(2 * pair[side] / (pair[0] + pair[1])) for pair in pairs)

        exact = {
            "squared euclidean": lambda: mp.fsum((a - b) ** 2 for a, b in pairs),
            "euclidean": lambda: mp.sqrt(mp.fsum((a - b) ** 2 for a, b in pairs)),
            "manhattan": lambda: mp.fsum(abs(a - b) for a, b in pairs),
            "kl": lambda: divergence(0, 1),
            "reverse kl": lambda: divergence(1, 0),
            "jeffreys": lambda: divergence(0, 1) + divergence(1, 0),
            "jensen-shannon": lambda: (to_the_midpoint(0) + to_the_midpoint(1)) / 2,
        }[name]()
        # relative differences of 1e-7 keep nine of sixteen digits when the two vectors are rounded
        np.testing.assert_allclose(value(SIMILARITIES[name], query, memories)[0, 1], float(exact), rtol=1e-7)


def test_a_common_offset_costs_squared_distances_no_digits() -> None:
    query, memories = _vectors("squared euclidean")
    query, memories = query + 1e6, memories + 1e6
    values = value(SIMILARITIES["squared euclidean"], query, memories)
    np.testing.assert_allclose(values, cdist(query, memories, "sqeuclidean"), rtol=1e-12)


@pytest.mark.parametrize("name", ["manhattan", "jensen-shannon", "squared euclidean"])
def test_many_memories_are_taken_in_blocks(name: str) -> None:
    query, memories = _vectors(name, num_queries=30, num_memories=601, dim=211)
    query[0] = memories[600]
    kind = SIMILARITIES[name]
    program = jax.jit(lambda query, memories: kind(query, memories)).lower(query, memories).compile()
    rows = [0, 7, 29]
    np.testing.assert_allclose(
        np.asarray(program(query, memories))[rows], ORACLES[name](query[rows], memories), atol=1e-9
    )
    memory = program.memory_analysis()
    assert memory is not None
    assert memory.temp_size_in_bytes < 8 * query.size * len(memories) / 2  # of the (Q, K, D) array


def test_divergences_are_infinite_outside_the_support_and_jensen_shannon_is_log_two() -> None:
    query, memories = (
        np.array([1.0, 3.0, 0.0, 0.0]),
        np.array([[1.0, 3.0, 0.0, 0.0], [2.0, 1.0, 1.0, 0.0], [0, 0, 0, 2.0]]),
    )
    divergence = np.log([1 / 4, 3 / 4]) - np.log([1 / 2, 1 / 4])
    inside = 1 / 4 * divergence[0] + 3 / 4 * divergence[1]
    np.testing.assert_allclose(value(SIMILARITIES["kl"], query, memories), [0, inside, np.inf], rtol=1e-14)
    np.testing.assert_array_equal(value(SIMILARITIES["reverse kl"], query, memories), [0, np.inf, np.inf])
    np.testing.assert_array_equal(value(SIMILARITIES["jeffreys"], query, memories), [0, np.inf, np.inf])
    np.testing.assert_allclose(value(SIMILARITIES["jensen-shannon"], query, memories)[2], np.log(2), rtol=1e-15)


def test_a_pseudocount_keeps_divergences_finite_and_is_itself_a_distribution() -> None:
    query, memories = np.array([1.0, 3.0, 0.0]), np.array([[0.0, 1.0, 1.0], [5.0, 0.0, 0.0]])
    kind, c = smoothed(SIMILARITIES["reverse kl"], 0.01), 0.01
    p, r = query / 4 + c, memories / memories.sum(1, keepdims=True) + c
    np.testing.assert_allclose(value(kind, query, memories), _divergence(r, p[None])[:, 0], rtol=1e-13)
    assert smoothed(kind, 0.0) == SIMILARITIES["reverse kl"]


def test_a_vector_of_zeros_is_the_limit_of_small_equal_entries() -> None:
    memories, zero = np.array([[1.0, 2.0, 1.0], [3.0, 0.5, 0.5]]), np.zeros(3)
    for name in ("normalised dot", "kl", "jensen-shannon"):
        limit = ORACLES[name](np.full((1, 3), 1e-9), memories)[0]
        np.testing.assert_allclose(value(SIMILARITIES[name], zero, memories), limit, rtol=1e-12)
    np.testing.assert_array_equal(value(SIMILARITIES["cosine"], zero, memories), [0, 0])


@pytest.mark.parametrize("name", [name for name in SIMILARITIES if name != "hamming"])
def test_derivatives_are_those_of_finite_differences(name: str) -> None:
    query, memories = _vectors(name, 2, 3, 4)
    weights = np.arange(1.0, 7.0).reshape(2, 3)
    query[0] = 1.02 * memories[1]  # one pair close enough to be evaluated again
    total = jax.jit(lambda q, m: jnp.sum(weights * SIMILARITIES[name](q, m)))
    check_grads(total, (query, memories), order=1, modes=["rev"], eps=1e-6, rtol=1e-6, atol=1e-6)


def test_the_unsquared_distance_has_a_finite_derivative_at_a_memory() -> None:
    _, memories = _vectors("euclidean")
    slope = jax.jit(jax.grad(lambda v: SIMILARITIES["euclidean"](v, memories)[1]))(memories[1])
    np.testing.assert_array_equal(slope, np.zeros(7))


def test_divergences_are_stationary_at_a_stored_distribution() -> None:
    memories = np.array([[0.2, 0.3, 0.5], [0.1, 0.1, 0.8]])
    for name in ("kl", "jensen-shannon"):
        slope = jax.jit(jax.grad(lambda v, kind=SIMILARITIES[name]: kind(v, memories)[1]))(memories[1])
        np.testing.assert_allclose(slope, np.zeros(3), atol=1e-15)


def test_hamming_is_the_same_in_both_codings_and_linear_in_the_dot_product() -> None:
    bits, bank = _vectors("hamming")
    spins, spin_bank = 2.0 * bits - 1, 2.0 * bank - 1
    hamming = value(SIMILARITIES["hamming"], spins, spin_bank)
    np.testing.assert_array_equal(value(SIMILARITIES["hamming"], bits * 1.0, bank * 1.0), hamming)
    np.testing.assert_array_equal((7 - value(SIMILARITIES["dot"], spins, spin_bank)) / 2, hamming)


def test_scores_grow_with_likeness() -> None:
    for name, one in SIMILARITIES.items():
        query, memories = (np.asarray(part, float) for part in _vectors(name))
        query[1] = memories[3]
        sign = -1 if one.is_distance else 1
        scores = np.asarray(jax.jit(one.scores)(query, memories))
        np.testing.assert_array_equal(scores, sign * np.asarray(value(one, query, memories)))
        if name not in ("dot", "normalised dot"):
            assert scores[1].argmax() == 3


def test_printed_forms_have_the_signs_of_table_2() -> None:
    query, memories = _vectors("kl")
    query, memories = query / query.sum(-1, keepdims=True), memories / memories.sum(-1, keepdims=True)
    for name, signed in {
        "euclidean": cdist(query, memories, "sqeuclidean"),
        "manhattan": cdist(query, memories, "cityblock"),
        "dot": query @ memories.T,
        "kl": -_divergence(query, memories),
        "reverse kl": _divergence(memories, query).T,
        "jensen-shannon": ORACLES["jeffreys"](query, memories) / 2,
    }.items():
        np.testing.assert_allclose(PRINTED[name](query, memories), signed, rtol=1e-11)


@pytest.mark.parametrize(
    ("name", "query", "message"),
    [
        ("kl", [-1.0, 2.0], "query: kl expects entries of at least 0; got -1.0"),
        (
            "normalised dot",
            [-1.0, 1.0],
            "query: normalised dot divides by the sum of the entries, which is 0 for 1 of 1",
        ),
        ("hamming", [0.5, 1.0], "query: hamming expects entries in {0, 1} or in {-1, 1}"),
        ("hamming", [-1.0, 1.0], "query: hamming expects the same coding for queries and memories; got 0, 1 and -1, 1"),
        ("manhattan", [1.0, 2.0, 3.0], r"query: expected shape (..., 2)"),
    ],
)
def test_vectors_outside_the_domain_are_named(name: str, query: list[float], message: str) -> None:
    with pytest.raises(InputError) as error:
        similarity(name)(np.array(query), np.array([[0.0, 1.0]]))
    assert message in str(error.value)


def test_unknown_names_and_meaningless_pseudocounts_are_refused() -> None:
    with pytest.raises(InputError, match="expected one of dot, normalised dot"):
        similarity("L2")
    with pytest.raises(InputError, match="which smoothing needs; got 'manhattan'"):
        smoothed(SIMILARITIES["manhattan"], 0.1)
    with pytest.raises(InputError, match="pseudocount: expected a finite number of at least 0; got -1"):
        smoothed(SIMILARITIES["kl"], -1)


def test_similarities_are_static_to_jit() -> None:
    traces = []

    @jax.jit
    def scores(kind: Similarity, query: jax.Array) -> jax.Array:
        traces.append(kind.name)
        return kind.scores(query, jnp.eye(3))

    for _ in range(2):
        scores(similarity("dot"), jnp.ones(3))
        scores(smoothed(similarity("kl"), 0.5), jnp.ones(3))
    assert traces == ["dot", "kl"]
