"""Collapsed sweeps that take several data at a time walk where the sweep that takes one after another walks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import probam.inference.gibbs.collapsed as gibbs_collapsed
from probam.conjugacy.normal import NormalGamma, NormalKnownVariance, NormalWishart
from probam.conjugacy.pairs import BetaBernoulli, ConjugatePair, DirectionOfVonMisesFisher
from probam.distributions.partitions import chinese_restaurant
from tests.inference.enumeration import log_eppf

N, D, K = 700, 2, 5  # three blocks, the last of which overlaps the one before
RANDOM = np.random.default_rng(4)
GROUP = RANDOM.integers(0, 3, N)
X = np.array([[0.0, 0.0], [3.0, 0.5], [8.0, -8.0]])[GROUP] + RANDOM.normal(size=(N, D))
UNIT = X / np.linalg.norm(X, axis=1, keepdims=True)
BITS = (RANDOM.random((N, D)) < np.array([[0.1, 0.2], [0.5, 0.9], [0.9, 0.1]])[GROUP]).astype(float)
FACTOR = np.linalg.cholesky(np.eye(D) + 0.3 * RANDOM.random((K, 1, 1)))
LOC, SCALE = jnp.zeros(D), jnp.array([9.0, 16.0])

PAIRS: dict[str, tuple[ConjugatePair, np.ndarray]] = {
    "normal-Wishart": (NormalWishart(LOC, jnp.array(0.1), jnp.array(4.0), jnp.eye(D)), X),
    "normal-gamma": (NormalGamma(LOC, jnp.array(0.1), jnp.array([2.0]), jnp.array([2.0])), X),
    "a covariance for each memory": (NormalKnownVariance.full(LOC, jnp.diag(SCALE), jnp.asarray(FACTOR)), X),
    "a concentration for each memory": (
        DirectionOfVonMisesFisher(jnp.zeros(D), jnp.array([5.0, 8.0, 3.0, 4.0, 9.0])),
        UNIT,
    ),
    "beta-Bernoulli": (BetaBernoulli(jnp.ones(D), jnp.ones(D)), BITS),
}


@pytest.mark.parametrize("name", PAIRS)
def test_windows_of_data_draw_the_labels_of_the_sweep_one_by_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Label for label, from a start in which many labels change to a state in which few do."""
    pair, x = PAIRS[name]
    law = chinese_restaurant(jnp.array(1.0), jnp.array(0.2), K, N)
    rows, labels = jnp.asarray(x), jnp.asarray(np.where(RANDOM.random(N) < 0.3, RANDOM.integers(0, K, N), GROUP))

    def sweeps(fewest: int) -> np.ndarray:
        monkeypatch.setattr(gibbs_collapsed, "_FEWEST", fewest)
        monkeypatch.setattr(gibbs_collapsed, "_MOST_CHANGES", 20)  # blocks of both kinds

        @jax.jit
        def run(labels: jax.Array) -> jax.Array:
            def once(labels: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
                labels = gibbs_collapsed.collapsed_labels(key, pair, law, rows, labels, K)
                return labels, labels

            return jax.lax.scan(once, labels.astype(jnp.int32), jax.random.split(jax.random.key(1), 6))[1]

        return np.asarray(run(labels))

    one_by_one, windows = sweeps(N + 1), sweeps(1)
    changes = np.sum(np.diff(one_by_one, axis=0, prepend=np.asarray(labels)[None]) != 0, axis=1)
    assert changes[0] > 50
    assert changes.min() > 0
    np.testing.assert_array_equal(windows, one_by_one)


def test_a_sweep_is_algorithm_3_of_neal() -> None:
    """One sweep in NumPy: conditionals as ratios of partition probabilities and of marginal likelihoods."""
    pair, x = PAIRS["normal-gamma"]
    x, before = x[:60], GROUP[:60]
    assert isinstance(pair, NormalGamma)
    alpha, discount, capacity = 1.5, 0.2, 4
    law = chinese_restaurant(jnp.array(alpha), jnp.array(discount), capacity, 60)
    key = jax.random.key(3)
    found = np.asarray(
        jax.jit(lambda labels: gibbs_collapsed.collapsed_labels(key, pair, law, jnp.asarray(x), labels, capacity))(
            jnp.asarray(before, jnp.int32)
        )
    )
    uniform = np.asarray(jax.random.uniform(jax.random.split(key, 1)[0], (60,), jnp.float64))
    statistics = np.asarray(pair.statistics(jnp.asarray(x)))
    marginal = jax.jit(pair.log_marginal)
    labels = before.copy()
    for n in range(60):
        scores = np.empty(capacity)
        others = np.delete(labels, n)
        for k in range(capacity):
            trial = labels.copy()
            trial[n] = k
            member = np.eye(capacity)[trial]
            counts = member.sum(0)
            # an empty slot is one of several: the new memory is as probable in each
            empty = np.sum(np.bincount(others, minlength=capacity) == 0) if k not in others else 1
            scores[k] = log_eppf(counts[counts > 0].astype(int).tolist(), alpha, discount) - np.log(empty)
            scores[k] += float(np.sum(np.asarray(marginal(counts, member.T @ statistics))))
        below = np.cumsum(np.exp(scores - scores.max()))
        labels[n] = np.searchsorted(below, uniform[n] * below[-1], side="right")
    np.testing.assert_array_equal(found, labels)
    assert np.any(found != before)


def test_predictives_of_rows_are_those_of_one_datum_each() -> None:
    """Squared distances as one matrix product, for the pair that has them."""
    pair, x = PAIRS["normal-Wishart"]
    statistics, tables = pair.statistics(jnp.asarray(x)), pair.tables(N)
    member = np.eye(K)[GROUP]
    known = pair.begin(jnp.asarray(member.sum(0)), jnp.asarray(member.T @ np.asarray(statistics)))
    rows = np.asarray(pair.predict_rows(known, tables, jnp.asarray(x[:9]), statistics[:9]))
    each = np.stack([pair.predict(known, tables, jnp.asarray(x[n]), statistics[n]) for n in range(9)])
    np.testing.assert_allclose(rows, each, rtol=1e-11)
