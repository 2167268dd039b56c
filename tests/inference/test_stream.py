"""The creating memory, against marginal likelihoods, enumeration, the physics of Eq. 12 and a plain loop."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats
from scipy.special import gammaln, logsumexp
from scipy.stats import chisquare

from probam.conjugacy.mean_field_direction import DirectionAndConcentration
from probam.conjugacy.normal import NormalGamma, NormalKnownVariance, NormalWishart
from probam.conjugacy.pairs import (
    BetaBernoulli,
    ConjugatePair,
    DirectionOfVonMisesFisher,
    DirichletMultinomial,
)
from probam.energies.creation import collapsed_probabilities, exact_probabilities, printed_probabilities
from probam.errors import InputError, NumericalError
from probam.inference.stream.engine import absorb, recall, start
from probam.inference.stream.kernel import Kernel, StepInfo, begin, choose, grow, logits, step
from probam.inference.stream.predictive import log_predictive, prepare
from probam.inference.stream.state import StreamState
from probam.inference.stream.tidy import Tidy, check_tidy, join_gains, tidy
from probam.inference.stream.weights import PitmanYor, check_pitman_yor
from probam.pytrees import pytree
from tests.inference.enumeration import log_eppf, log_marginal, partitions

RNG = np.random.default_rng(5)
D = 3


@pytree
@dataclass(frozen=True)
class GammaPoisson(ConjugatePair):
    """A pair that the stream has never heard of: independent Poisson counts, a Gamma(a, b) prior on each rate."""

    shape: jax.Array
    rate: jax.Array

    def statistics(self, x: jax.Array) -> jax.Array:
        return x

    def log_marginal(self, counts: jax.Array, sums: jax.Array) -> jax.Array:
        shape, rate = self.shape + sums, self.rate + counts[:, None]
        gammas = jax.scipy.special.gammaln(shape) - jax.scipy.special.gammaln(self.shape)
        return jnp.sum(gammas + self.shape * jnp.log(self.rate) - shape * jnp.log(rate), axis=-1)

    def draw(self, key: jax.Array, counts: jax.Array, sums: jax.Array) -> dict[str, jax.Array]:
        return {"rate": jax.random.gamma(key, self.shape + sums) / (self.rate + counts[:, None])}


LOC = RNG.normal(size=D)
SPREAD = np.array([0.7, 1.3, 2.1])
MATRIX = RNG.normal(size=(D, 5))
GAMMA = (LOC, np.asarray(0.3), np.array([1.5, 2.0, 2.5]), SPREAD)
FACTOR = np.linalg.cholesky(MATRIX @ MATRIX.T)[None]
PAIRS: dict[str, Callable[[], ConjugatePair]] = {
    "known": lambda: NormalKnownVariance(*_arrays(LOC, SPREAD**2, np.array([0.4, 0.2, 0.9]))),
    "known-full": lambda: NormalKnownVariance.full(*_arrays(LOC, np.diag(SPREAD), FACTOR)),
    "gamma": lambda: NormalGamma(*_arrays(*GAMMA)),
    "gamma-shared": lambda: NormalGamma(*_arrays(LOC, np.asarray(0.3), np.array([2.5]), np.array([1.1]))),
    "wishart": lambda: NormalWishart(*_arrays(LOC, np.asarray(0.4), np.asarray(5.5), MATRIX @ MATRIX.T)),
    "vmf": lambda: DirectionOfVonMisesFisher(*_arrays(np.array([0.5, 0.1, -0.2]), np.asarray(4.0))),
    "bits": lambda: BetaBernoulli(jnp.array([0.6, 1.0, 1.4]), jnp.array([1.4, 1.0, 0.6]), (-1.0, 1.0)),
    "counts": lambda: DirichletMultinomial(*_arrays(np.array([0.5, 1.5, 2.5]))),
    "other": lambda: GammaPoisson(*_arrays(np.array([0.5, 1.5, 2.5]), np.asarray(0.7))),
}


def _arrays(*values: np.ndarray) -> tuple[Any, ...]:
    return tuple(jnp.asarray(value) for value in values)


def data(name: str, num_data: int) -> np.ndarray:
    rng = np.random.default_rng(11)
    x = rng.normal(size=(num_data, D)) + 2 * rng.integers(-1, 2, size=(num_data, 1))
    if name == "vmf":
        return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True))
    if name == "bits":
        return np.where(x > 0, 1.0, -1.0)
    if name in ("counts", "other"):
        return rng.poisson(2.0, size=x.shape).astype(float)
    return x


def process(alpha: float = 1.3, discount: float = 0.25) -> PitmanYor:
    return PitmanYor(jnp.asarray(alpha), jnp.asarray(discount))


def totals(pair: ConjugatePair, x: np.ndarray, labels: np.ndarray, num_slots: int) -> tuple[jax.Array, jax.Array]:
    member = np.eye(num_slots)[labels]
    return jnp.asarray(member.sum(0)), jnp.asarray(member.T @ np.asarray(pair.statistics(jnp.asarray(x))))


@pytest.mark.parametrize("name", PAIRS)
def test_predictive_is_the_ratio_of_marginal_likelihoods(name: str) -> None:
    pair, x = PAIRS[name](), data(name, 12)
    counts, sums = totals(pair, x[:11], np.arange(11) % 3, 4)  # the last slot is empty

    @jax.jit
    def both(counts: jax.Array, sums: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        statistics = pair.statistics(x[None])[0]
        slow = jax.vmap(lambda n, s: pair.log_marginal(n[None], s[None])[0])
        ratio = slow(counts + 1, sums + statistics) - slow(counts, sums)
        return log_predictive(pair, prepare(pair, counts, sums), x, statistics), ratio

    found, expected = both(counts, sums, jnp.asarray(x[11]))
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("num_data", [0, 1, 2, 30])
def test_predictive_of_directions_of_unknown_concentration_is_an_integral(num_data: int) -> None:
    """On the sphere in three dimensions the normaliser is kappa / (4 pi sinh kappa); quadrature is SciPy's."""
    x, loc, scale = data("vmf", 31), np.log(6.0), 0.7
    pair = DirectionAndConcentration(*_arrays(np.asarray(loc), np.asarray(scale)))

    def log_norm(kappa: float) -> float:
        return -np.log(4 * np.pi) if kappa == 0 else np.log(kappa / (2 * np.pi)) - kappa - np.log1p(-np.exp(-2 * kappa))

    def marginal(rows: np.ndarray) -> float:
        length = np.linalg.norm(rows.sum(axis=0))

        def density(u: float) -> float:
            likelihood = len(rows) * log_norm(np.exp(u)) + log_norm(0.0) - log_norm(np.exp(u) * length)
            return float(np.exp(likelihood) * stats.norm.pdf(u, loc, scale))

        return integrate.quad(density, loc - 8 * scale, loc + 8 * scale, epsabs=0, epsrel=1e-10, limit=200)[0]

    counts, sums = jnp.array([float(num_data)]), jnp.asarray(x[:num_data].sum(axis=0))[None]
    for query in (x[30], -x[30]):
        found = log_predictive(pair, prepare(pair, counts, sums), jnp.asarray(query), jnp.asarray(query))
        expected = np.log(marginal(np.r_[x[:num_data], query[None]]) / marginal(x[:num_data]))
        np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("energy", "physics"),
    [("collapsed", collapsed_probabilities), ("conditional", exact_probabilities), ("printed", printed_probabilities)],
)
def test_shares_of_memories_and_of_a_new_one_are_those_of_the_energy(energy: str, physics: Any) -> None:
    beta, rho, alpha, discount = 1.7, 0.4, 1.3, 0.25
    pair = NormalKnownVariance(jnp.zeros(D), jnp.full(D, 0.5 / rho), jnp.full(D, 0.5 / beta))
    kernel = Kernel(pair, process(alpha, discount), energy)
    x = data("known", 9)
    labels = np.array([0, 0, 1, 2, 2, 2, 1, 0])
    state = begin(kernel, jnp.asarray(x[0]), jax.random.key(0))
    counts, sums = totals(pair, x[:8], labels, 16)
    state = state._replace(
        totals=jnp.concatenate([counts[:, None], sums], axis=1),
        known=prepare(kernel.scorer, counts, sums),
        ident=jnp.where(jnp.arange(16) < 3, jnp.arange(16, dtype=jnp.int32), -1),
        size=jnp.asarray(3, jnp.int32),
    )
    scores, fresh = jax.jit(partial(logits, kernel))(state, jnp.asarray(x[8]))
    assert fresh == 3
    first = np.asarray(sums)[:3, :D]
    places = first if energy == "collapsed" else beta * first / (beta * np.asarray(counts)[:3, None] + rho)
    expected = physics(x[8], places, np.asarray(counts)[:3], beta, rho, alpha, discount)
    np.testing.assert_allclose(jax.nn.softmax(scores[:4]), expected, rtol=1e-10)
    assert np.isneginf(scores[4:]).all()


def test_printed_energy_makes_a_memory_of_every_datum_as_dimensions_grow() -> None:
    rng = np.random.default_rng(3)
    created = {}
    for energy in ("conditional", "printed"):
        for dim in (2, 64):
            pair = NormalKnownVariance(jnp.zeros(dim), jnp.full(dim, 25.0), jnp.full(dim, 0.5))
            kernel = Kernel(pair, process(1.0, 0.0), energy)
            state = start(kernel, dim, float, jax.random.key(0), capacity=64)
            x = 3 * np.array([[1], [-1]])[np.arange(60) % 2] + 0.7 * rng.normal(size=(60, dim))
            created[energy, dim] = int(absorb(kernel, state, x)[0].created)
    assert 2 <= created["conditional", 2] < 8
    assert created["conditional", 64] == 2
    assert created["printed", 64] == 60


# --- a whole stream -------------------------------------------------------------------------------------------


def plain_loop(pair: ConjugatePair, x: np.ndarray, alpha: float, discount: float) -> tuple[list[int], list[float]]:
    """The MAP rule with full marginal likelihoods at each datum."""
    log_marginal = jax.jit(pair.log_marginal)
    statistics = np.asarray(pair.statistics(jnp.asarray(x)))
    counts, sums = np.zeros(0), np.zeros((0, statistics.shape[1]))
    labels, scores = [], []
    for n, t in enumerate(statistics):
        now = np.zeros((8, statistics.shape[1]))
        many = np.zeros(8)
        now[: len(sums)], many[: len(sums)] = sums, counts
        ratio = np.asarray(log_marginal(jnp.asarray(many + 1), jnp.asarray(now + t)))
        ratio = (ratio - np.asarray(log_marginal(jnp.asarray(many), jnp.asarray(now))))[: len(sums) + 1]
        seats = np.append(counts - discount, alpha + discount * len(counts) if n else alpha)
        score = np.log(seats / (n + alpha)) + ratio
        k = int(score.argmax())
        if k == len(counts):
            counts, sums = np.append(counts, 0), np.vstack([sums, 0 * t])
        counts[k] += 1
        sums[k] += t
        labels.append(k)
        scores.append(logsumexp(score))
    return labels, scores


def test_map_stream_is_the_plain_loop_over_marginal_likelihoods() -> None:
    pair, x = PAIRS["gamma"](), data("gamma", 50)
    kernel = Kernel(pair, process())
    state, found = absorb(kernel, start(kernel, D, float, jax.random.key(0)), x)
    labels, scores = plain_loop(pair, x, 1.3, 0.25)
    assert len(set(labels)) > 1
    np.testing.assert_array_equal(found.ident, labels)
    np.testing.assert_allclose(found.log_predictive, scores, rtol=1e-10)
    np.testing.assert_array_equal(found.is_new, np.append(True, np.diff(np.maximum.accumulate(labels)) > 0))
    assert int(state.size) == len(set(labels))
    np.testing.assert_array_equal(np.asarray(state.counts)[: int(state.size)], np.bincount(labels))


@jax.jit
def _streams(kernel: Kernel, x: jax.Array, keys: jax.Array) -> StepInfo:
    """What happens along independent streams of the same data."""

    def one(key: jax.Array) -> StepInfo:
        return jax.lax.scan(partial(step, kernel), begin(kernel, x[0], key), x)[1]

    return jax.vmap(one)(keys)


def restricted_growth(num_data: int) -> list[tuple[int, ...]]:
    strings: list[tuple[int, ...]] = [()]
    for _ in range(num_data):
        strings = [(*s, k) for s in strings for k in range(max(s, default=-1) + 2)]
    return strings


def test_sampled_stream_has_the_sequential_law_of_partitions() -> None:
    num_data, num_streams, alpha, discount = 4, 10_000, 0.8, 0.3
    pair = NormalKnownVariance(jnp.zeros(2), jnp.full(2, 1.5), jnp.full(2, 0.6))
    x = np.array([[0.0, 0.3], [0.9, -0.6], [-0.4, 0.8], [1.1, 0.2]])
    kernel = Kernel(pair, process(alpha, discount), rule="sample")
    labels = np.asarray(_streams(kernel, jnp.asarray(x), jax.random.split(jax.random.key(1), num_streams)).ident)

    def log_density(rows: list[int]) -> float:
        """Of data that share a memory: a Gaussian with exchangeable correlation, written out."""
        n = len(rows)
        covariance = 0.6 * np.eye(n) + 1.5
        total = 0.0
        for column in x[rows].T:
            total -= 0.5 * (n * np.log(2 * np.pi) + np.linalg.slogdet(covariance)[1])
            total -= 0.5 * column @ np.linalg.solve(covariance, column)
        return total if n else 0.0

    probability = {}
    for string in restricted_growth(num_data):
        log_prob = 0.0
        for n, k in enumerate(string):
            blocks = [[m for m in range(n) if string[m] == j] for j in range(max(string[:n], default=-1) + 1)] + [[]]
            seats = [len(b) - discount for b in blocks[:-1]] + [alpha + discount * (len(blocks) - 1)]
            terms = [np.log(s) + log_density([*b, n]) - log_density(b) for s, b in zip(seats, blocks, strict=True)]
            log_prob += terms[k] - logsumexp(terms)
        probability[string] = np.exp(log_prob)
    assert sum(probability.values()) == pytest.approx(1)
    strings, counts = np.unique(labels, axis=0, return_counts=True)
    observed = dict(zip(map(tuple, strings.tolist()), counts, strict=True))
    assert set(observed) <= set(probability)
    frequencies = [observed.get(string, 0) for string in probability]
    assert chisquare(frequencies, num_streams * np.array(list(probability.values()))).pvalue > 1e-3


@pytest.mark.parametrize(("alpha", "discount"), [(2.0, 0.0), (0.7, 0.45), (-0.2, 0.5)])
def test_number_of_memories_has_the_law_of_the_prior_where_the_data_say_nothing(alpha: float, discount: float) -> None:
    num_data, num_streams = 14, 6000
    kernel = Kernel(DirichletMultinomial(jnp.ones(2)), process(alpha, discount), rule="sample")
    nothing = jnp.zeros((num_data, 2))  # rows without a single count: their density is 1 under every memory
    infos = _streams(kernel, nothing, jax.random.split(jax.random.key(2), num_streams))
    sizes = np.asarray(infos.size)[:, -1]
    law = np.array([0.0, 1.0])  # CLAIMS A18: P(K_1 = 1) = 1, then one datum more
    for n in range(1, num_data):
        k = np.arange(len(law))
        new = law * (alpha + k * discount) / (n + alpha)
        law = np.append(law * (n - k * discount) / (n + alpha), 0) + np.append(0, new)
    if discount:  # E K_n of CLAIMS A19
        ratio = np.exp(gammaln(alpha + discount + num_data) - gammaln(alpha + discount))
        ratio /= np.prod(alpha + 1 + np.arange(num_data - 1))
        assert law @ np.arange(len(law)) == pytest.approx((ratio / discount) - alpha / discount)
    else:  # A18
        assert law @ np.arange(len(law)) == pytest.approx(np.sum(alpha / (alpha + np.arange(num_data))))
    observed = np.bincount(sizes, minlength=num_data + 1)[1:]
    expected = num_streams * law[1:]
    common = expected > 5
    pooled = [np.append(values[common], values[~common].sum()) for values in (observed, expected)]
    possible = pooled[1] > 0
    assert chisquare(pooled[0][possible], pooled[1][possible]).pvalue > 1e-3


# --- where it is cut, and how much room there is --------------------------------------------------------------


def same_bits(first: StreamState, second: StreamState) -> bool:
    one, two = (jax.tree.leaves(state._replace(key=jax.random.key_data(state.key))) for state in (first, second))
    return all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("dtype", [np.float64, pytest.param(np.float32, marks=pytest.mark.slow)])
def test_a_stream_cut_anywhere_ends_in_the_same_bits(dtype: type) -> None:
    rng = np.random.default_rng(8)
    x: np.ndarray = 6 * rng.normal(size=(50, D))[rng.integers(0, 50, 6000)] + 0.5 * rng.normal(size=(6000, D))
    x = x.astype(dtype)
    pair: Any = NormalKnownVariance(jnp.zeros(D, dtype), jnp.full(D, 40, dtype), jnp.full(D, 0.25, dtype))
    law = PitmanYor(jnp.asarray(1.0, dtype), jnp.asarray(0.2, dtype))
    kernel = Kernel(pair, law, rule="sample")
    tidying = Tidy(every=700, max_count=1, min_age=300)
    empty = start(kernel, D, dtype, jax.random.key(4), capacity=16)
    whole, found = absorb(kernel, empty, x, tidying=tidying)
    cut, parts = empty, []
    for piece in np.split(x, np.sort(rng.integers(0, len(x), 20))):
        cut, part = absorb(kernel, cut, piece, tidying=tidying)
        parts.append(part)
    assert len(whole.ident) >= 64  # it grew twice
    assert found.tidied
    assert same_bits(whole, cut)
    assert found.tidied == [went for part in parts for went in part.tidied]
    for name in ("ident", "is_new", "log_predictive", "size"):
        np.testing.assert_array_equal(getattr(found, name), np.concatenate([getattr(part, name) for part in parts]))


def test_room_for_more_memories_changes_no_label() -> None:
    x, pair = data("known", 300), PAIRS["known"]()
    kernel = Kernel(pair, process(3.0, 0.5), rule="sample")
    tight, roomy = (
        absorb(kernel, start(kernel, D, float, jax.random.key(6), capacity=capacity), x) for capacity in (16, 128)
    )
    assert int(tight[0].size) > 16
    np.testing.assert_array_equal(tight[1].ident, roomy[1].ident)
    np.testing.assert_allclose(tight[1].log_predictive, roomy[1].log_predictive, rtol=1e-12)


def test_growing_keeps_the_memories_and_adds_empty_slots() -> None:
    x, pair = data("wishart", 40), PAIRS["wishart"]()
    kernel = Kernel(pair, process())
    state, _ = absorb(kernel, start(kernel, D, float, jax.random.key(0), capacity=16), x)
    more = jax.jit(grow)(kernel, state)
    assert len(more.ident) == 32
    score = jax.jit(logits)
    before, after = (np.asarray(score(kernel, which, jnp.asarray(x[0]))[0]) for which in (state, more))
    np.testing.assert_allclose(before, after[:16], rtol=1e-13)
    assert np.isneginf(after[16:]).all()


def test_slots_are_chosen_in_proportion_to_their_mass() -> None:
    mass = np.zeros(48)
    mass[[0, 5, 17, 40]] = [1.0, 2.5, 0.5, 3.0]
    uniform = (np.arange(70_000) + 0.5) / 70_000
    found = np.asarray(jax.jit(jax.vmap(choose, (None, 0)))(jnp.asarray(mass), jnp.asarray(uniform)))
    np.testing.assert_allclose(np.bincount(found, minlength=48) / 70_000, mass / mass.sum(), atol=2e-5)


def test_float32_totals_stay_exact_in_long_streams() -> None:
    pair = NormalKnownVariance(jnp.zeros(2, jnp.float32), jnp.ones(2, jnp.float32), jnp.ones(2, jnp.float32))
    kernel = Kernel(pair, PitmanYor(jnp.float32(1e-6), jnp.float32(0)))
    x = np.full((200_000, 2), 0.1, np.float32) * np.array([1, 3], np.float32)
    state, _ = absorb(kernel, start(kernel, 2, np.float32, jax.random.key(0), capacity=16), x)
    expected = x.astype(float).sum(axis=0)
    np.testing.assert_allclose(np.asarray(state.sums, float)[0, :2], expected, rtol=1.2e-7)
    plain = np.add.accumulate(x, axis=0)[-1]
    assert np.abs(plain - expected).max() > 100 * np.abs(np.asarray(state.sums)[0, :2] - expected).max()


# --- questions ------------------------------------------------------------------------------------------------


def test_recall_says_what_the_next_step_would_find() -> None:
    x, pair = data("vmf", 80), PAIRS["vmf"]()
    kernel = Kernel(pair, process())
    state, _ = absorb(kernel, start(kernel, D, float, jax.random.key(0), capacity=16), x[:70])
    found = recall(kernel, state, x[70:])
    _, info = jax.jit(jax.vmap(partial(step, kernel), (None, 0)))(state, jnp.asarray(x[70:]))
    np.testing.assert_allclose(found.log_predictive, info.log_predictive, rtol=1e-10)
    scores = jax.jit(jax.vmap(lambda row: logits(kernel, state, row)[0]))(jnp.asarray(x[70:]))
    resp = np.asarray(jax.nn.softmax(scores, axis=-1))
    size = int(state.size)
    np.testing.assert_array_equal(found.ident, resp[:, :size].argmax(axis=1))
    np.testing.assert_allclose(found.probability, resp[:, :size].max(axis=1), rtol=1e-9)
    np.testing.assert_allclose(found.probability_new, resp[:, size], rtol=1e-9)


def test_merging_gains_are_differences_of_the_log_joint() -> None:
    x, pair = data("wishart", 9), PAIRS["wishart"]()
    alpha, discount = 1.3, 0.25
    kernel = Kernel(pair, process(alpha, discount))
    labels = np.array([0, 1, 2, 0, 1, 2, 2, 0, 1])
    state = absorb(kernel, start(kernel, D, float, jax.random.key(0), capacity=16), x)[0]
    counts, sums = totals(pair, x, labels, 16)
    state = state._replace(
        totals=jnp.concatenate([counts[:, None], sums], axis=1),
        ident=jnp.where(jnp.arange(16) < 3, jnp.arange(16, dtype=jnp.int32), -1),
        size=jnp.asarray(3, jnp.int32),
    )

    def log_joint(labels: np.ndarray) -> float:
        blocks = [np.flatnonzero(labels == k) for k in np.unique(labels)]
        sizes = np.array([len(block) for block in blocks])
        prior = np.sum(np.log(alpha + discount * np.arange(1, len(blocks))))
        prior += np.sum(gammaln(sizes - discount) - gammaln(1 - discount))
        _, block_sums = totals(pair, x, np.unique(labels, return_inverse=True)[1], len(blocks))
        return float(prior + jnp.sum(pair.log_marginal(jnp.asarray(sizes, float), block_sums)))

    gains = np.asarray(jax.jit(join_gains)(kernel, state))
    for a, b in ((0, 1), (0, 2), (1, 2)):
        expected = log_joint(np.where(labels == b, a, labels)) - log_joint(labels)
        assert gains[a, b] == pytest.approx(expected, abs=1e-9)
    assert np.isneginf(gains[np.tril_indices(16)]).all()


def test_merging_ends_where_no_pair_gains_and_keeps_every_datum() -> None:
    rng = np.random.default_rng(0)
    pair = NormalKnownVariance(jnp.zeros(D), jnp.full(D, 9.0), jnp.full(D, 1.0))
    kernel = Kernel(pair, process(30.0, 0.0), rule="sample")  # a law that makes too many
    x = 5 * rng.normal(size=(3, D))[rng.integers(0, 3, 400)] + rng.normal(size=(400, D))
    state, _ = absorb(kernel, start(kernel, D, float, jax.random.key(0)), x)
    kernel = Kernel(pair, process(0.5, 0.0))
    merged, went = tidy(kernel, state, Tidy(every=1))
    assert len(went) == int(state.size) - int(merged.size) > 3
    assert (np.asarray(jax.jit(join_gains)(kernel, merged)) <= 0).all()
    np.testing.assert_allclose(np.sum(merged.totals, axis=0), np.sum(state.totals, axis=0), rtol=1e-12)
    assert all(kept < gone for gone, kept in went)
    counts, sums = merged.counts, merged.sums
    for rows, expected in zip(merged.known, prepare(pair, counts, sums), strict=True):
        np.testing.assert_allclose(rows, expected, rtol=1e-12)


def test_pruning_forgets_small_old_memories_only() -> None:
    x = np.concatenate([np.full((1, 2), 50.0), np.zeros((30, 2)), np.full((1, 2), -50.0)])
    pair = NormalKnownVariance(jnp.zeros(2), jnp.full(2, 900.0), jnp.full(2, 1.0))
    kernel = Kernel(pair, process(1.0, 0.0))
    state, _ = absorb(kernel, start(kernel, 2, float, jax.random.key(0)), x)
    assert int(state.size) == 3
    kept, went = tidy(kernel, state, Tidy(every=1, merge=False, max_count=1, min_age=10))
    assert went == [(0, -1)]
    assert sorted(np.asarray(kept.ident)[np.asarray(kept.live)]) == [1, 2]
    assert float(kept.counts.sum()) == 31
    _, again = absorb(kernel, kept, np.array([[51.0, 50.0]]))
    assert again.ident[0] == 3  # a new number in the old slot


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"energy": "free"}, "energy: expected one of collapsed, conditional, printed; got 'free'"),
        ({"rule": "best"}, "rule: expected one of map, sample; got 'best'"),
        ({"energy": "printed"}, "Gaussians of known variance"),
    ],
)
def test_kernels_that_cannot_be_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        start(Kernel(PAIRS["gamma"](), process(), **change), D, float, jax.random.key(0))


def test_numbers_out_of_range_are_refused() -> None:
    for alpha, discount in ((1.0, 1.0), (1.0, -0.1), (-0.3, 0.3), (np.inf, 0.0)):
        with pytest.raises(InputError, match="expected a"):
            check_pitman_yor(alpha, discount)
    for wrong in (Tidy(every=0), Tidy(every=1, max_count=-1), Tidy(every=1, min_age=-1)):
        with pytest.raises(InputError, match="expected a number of data"):
            check_tidy(wrong)
    with pytest.raises(InputError, match="capacity"):
        start(Kernel(PAIRS["gamma"](), process()), D, float, jax.random.key(0), capacity=0)


def test_a_density_that_is_not_finite_is_said() -> None:
    kernel = Kernel(PAIRS["gamma"](), process())
    state = start(kernel, D, float, jax.random.key(0))
    with pytest.raises(NumericalError, match="datum 1 "):
        absorb(kernel, state, np.array([[1.0, 2.0, 3.0], [np.inf, 0, 0]]))


@pytest.mark.slow
def test_sampled_streams_reweighted_by_their_score_have_the_exact_posterior() -> None:
    """The prequential score is the importance weight of a one-particle stream: E over streams is enumeration."""
    num_streams, alpha, discount = 200_000, 1.3, 0.25
    x = np.array([0.0, 2.0, -0.3, 1.7, 0.9, -1.1])
    pair = NormalKnownVariance(jnp.zeros(1), jnp.ones(1), jnp.full(1, 0.5))
    kernel = Kernel(pair, process(alpha, discount), rule="sample")
    info = _streams(kernel, jnp.asarray(x[:, None]), jax.random.split(jax.random.key(0), num_streams))
    log_weight = np.asarray(info.log_predictive).sum(axis=1)
    labels = np.asarray(info.ident)
    log_joints, together = [], []
    for partition in partitions(len(x)):
        terms = log_eppf([len(block) for block in partition], alpha, discount)
        terms += sum(log_marginal(x[block], 0.5, 1.0) for block in partition)
        log_joints.append(terms)
        together.append(any({0, 1} <= set(block) for block in partition))
    evidence = logsumexp(log_joints)
    evidence_terms = np.exp(log_weight - evidence)
    error = evidence_terms.std() / np.sqrt(num_streams)
    assert abs(evidence_terms.mean() - 1) < 4 * error
    exact = np.sum(np.exp(np.array(log_joints) - evidence)[together])
    share = labels[:, 0] == labels[:, 1]
    found = np.sum(evidence_terms * share) / evidence_terms.sum()
    error = np.std(evidence_terms * (share - exact)) / np.sqrt(num_streams)
    assert abs(found - exact) < 4 * error
