"""The particle filter over partitions and its rejuvenation, against enumeration of every partition."""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.special import logsumexp
from scipy.stats import gamma

import probam.inference.stream.engine as one_stream
from probam.conjugacy.normal import NormalGamma, NormalKnownVariance
from probam.errors import InputError
from probam.inference.stream.decay import exponential_kernel, fading_process
from probam.inference.stream.hyper import Hyper, Learning
from probam.inference.stream.kernel import Kernel
from probam.inference.stream.particles import (
    Particles,
    absorb,
    coclustering,
    from_prior,
    heaviest,
    number_of_memories,
    recall,
    start_particles,
    step_particles,
)
from probam.inference.stream.rejuvenation import Moves, check_moves, reseat, split_merge
from probam.inference.stream.resampling import optimal, systematic
from probam.inference.stream.weights import PitmanYor
from tests.inference.enumeration import log_eppf, log_marginal, partitions, posterior

ALPHA, DISCOUNT, VARIANCE, BASE = 1.3, 0.25, 0.5, 1.0
X = np.array([0.0, 2.0, -0.3, 1.7, 0.9, -1.1])
NUM_CHAINS = 3000


def kernel(rule: str = "sample", energy: str = "collapsed", dim: int = 1) -> Kernel:
    pair = NormalKnownVariance(jnp.zeros(dim), jnp.full(dim, BASE), jnp.full(dim, VARIANCE))
    return Kernel(pair, PitmanYor(jnp.asarray(ALPHA), jnp.asarray(DISCOUNT)), energy, rule)


@pytest.fixture(scope="module")
def exact() -> tuple[float, np.ndarray, np.ndarray]:
    """Log evidence, P(K) and co-clustering of X."""
    return posterior(X, lambda sizes: log_eppf(sizes, ALPHA, DISCOUNT), VARIANCE, BASE)


def test_systematic_resampling_gives_each_particle_its_share_of_children_to_within_one() -> None:
    weights = np.random.default_rng(0).dirichlet(np.full(37, 0.4))
    log_weights, resample = jnp.asarray(np.log(weights)), jax.jit(systematic)
    children = np.zeros((500, 37))
    for i in range(500):
        children[i] = np.bincount(np.asarray(resample((i + 0.5) / 500, log_weights)), minlength=37)
    assert (children >= np.floor(37 * weights)).all()
    assert (children <= np.ceil(37 * weights)).all()
    np.testing.assert_allclose(children.mean(axis=0), 37 * weights, atol=3 / 500)


def test_optimal_resampling_keeps_what_is_above_the_threshold_and_the_mean_of_every_weight() -> None:
    weights = np.random.default_rng(3).dirichlet(np.full(60, 0.3))
    level = brentq(lambda c: np.minimum(1, weights / c).sum() - 23, 1e-9, 1)
    log_weights, resample, means = jnp.asarray(np.log(weights)), jax.jit(partial(optimal, num=23)), np.zeros(60)
    for i in range(500):
        index, after = (np.asarray(found) for found in resample((i + 0.5) / 500, log_weights))
        assert len(set(index)) == 23
        assert set(np.flatnonzero(weights >= level)) <= set(index)
        np.testing.assert_allclose(np.exp(after), np.maximum(weights[index], level), rtol=1e-9)
        means[index] += np.exp(after) / 500
    np.testing.assert_allclose(means, weights, atol=3 * level / 500)


def test_optimal_resampling_of_few_children_keeps_them_all_and_adds_none() -> None:
    weights = np.array([0.2, 0.0, 0.5, 0.3, 0.0, 0.0, 0.0])
    with np.errstate(divide="ignore"):
        log_weights = jnp.asarray(np.log(weights))
    for num in (3, 5):
        index, after = (np.asarray(found) for found in optimal(jnp.asarray(0.7), log_weights, num))
        found = np.zeros(7)
        np.add.at(found, index, np.exp(after))
        np.testing.assert_allclose(found, weights)


def test_as_many_particles_as_partitions_are_the_exact_posterior_to_rounding(exact: Any) -> None:
    evidence, number, together = exact
    settings, empty = start_particles(
        kernel(), 1, float, jax.random.key(3), num_particles=203, window=6, resampling="optimal", capacity=16
    )
    particles, found = absorb(settings, empty, X[:, None])
    assert found.log_predictive.sum() == pytest.approx(evidence, abs=1e-10)
    np.testing.assert_allclose(number_of_memories(particles), number, atol=1e-10)
    np.testing.assert_allclose(coclustering(particles), together, atol=1e-10)


def _evidences(
    threshold: float,
    num_particles: int,
    num_repetitions: int,
    model: Kernel | None = None,
    resampling: str = "systematic",
) -> np.ndarray:
    settings, empty = start_particles(
        model or kernel(), 1, float, jax.random.key(0), num_particles=num_particles, threshold=threshold,
        resampling=resampling, capacity=16,
    )  # fmt: skip

    @jax.jit
    def run(keys: jax.Array) -> jax.Array:
        def one(key: jax.Array) -> jax.Array:
            first = empty._replace(states=empty.states._replace(key=jax.random.split(key, num_particles)))
            if model is not None:
                first = first._replace(states=first.states._replace(hyper=from_prior(model, first.states)))
            return jax.lax.scan(partial(step_particles, settings), first, jnp.asarray(X[:, None]))[1].log_predictive

        return jnp.sum(jax.vmap(one)(keys), axis=1)

    return np.asarray(run(jax.random.split(jax.random.key(7), num_repetitions)))


@pytest.mark.parametrize("threshold", [0.9, pytest.param(0.0, marks=pytest.mark.slow)])
def test_evidence_of_few_particles_is_unbiased(threshold: float, exact: Any) -> None:
    ratio = np.exp(_evidences(threshold, 3, 4000) - exact[0])
    assert ratio.std() > 0.05
    assert abs(ratio.mean() - 1) < 4 * ratio.std() / np.sqrt(len(ratio))


def test_evidence_is_unbiased_and_of_less_variance_where_seats_are_resampled_optimally(exact: Any) -> None:
    drawn, best = (np.exp(_evidences(0.9, 6, 4000, None, kind) - exact[0]) for kind in ("systematic", "optimal"))
    assert best.std() > 0.01
    assert abs(best.mean() - 1) < 4 * best.std() / np.sqrt(len(best))
    assert best.std() < 0.9 * drawn.std()


@pytest.mark.parametrize("moves", [Moves(2, 3), pytest.param(None, marks=pytest.mark.slow)])
def test_many_particles_have_the_exact_posterior(moves: Moves | None, exact: Any) -> None:
    evidence, number, together = exact
    settings, empty = start_particles(
        kernel(), 1, float, jax.random.key(1), num_particles=NUM_CHAINS, window=6, capacity=16
    )
    particles, found = absorb(settings, empty, X[:, None], moves=moves)
    assert found.log_predictive.sum() == pytest.approx(evidence, abs=0.03)
    law = np.zeros(len(number))
    law[: len(number_of_memories(particles))] = number_of_memories(particles)
    np.testing.assert_allclose(law, number, atol=5 * 0.5 / np.sqrt(NUM_CHAINS))
    np.testing.assert_allclose(coclustering(particles), together, atol=5 * 0.5 / np.sqrt(NUM_CHAINS))


def _learning(every: int) -> Kernel:
    """A Dirichlet process whose alpha is learned, Gamma(2, 1.5) before the data."""
    law = PitmanYor(jnp.asarray(1.0), jnp.asarray(0.0))
    return replace(kernel(), law=law, learning=Learning(jnp.array([2.0, 1.5]), every=every))


def _log_eppf_summed_out(sizes: list[int], power: int = 0) -> float:
    """Log of the integral of alpha^power p(partition | alpha) under Gamma(2, 1.5)."""

    def integrand(alpha: float) -> float:
        return float(np.exp(log_eppf(sizes, alpha, 0.0)) * alpha**power * gamma(2.0, scale=1 / 1.5).pdf(alpha))

    return float(np.log(quad(integrand, 0, 60, epsabs=0, epsrel=1e-8, limit=200)[0]))


@pytest.mark.slow
def test_error_of_the_posterior_is_smaller_where_seats_are_resampled_optimally(exact: Any) -> None:
    _, number, together = exact
    errors = {}
    for resampling in ("systematic", "optimal"):
        settings, empty = start_particles(
            kernel(), 1, float, jax.random.key(0), num_particles=24, window=6, resampling=resampling, capacity=16
        )
        squares = np.zeros(2)
        for i in range(200):
            keys = jax.random.split(jax.random.key(i), 24)
            particles, _ = absorb(settings, empty._replace(states=empty.states._replace(key=keys)), X[:, None])
            law = np.zeros(len(number))
            law[: len(number_of_memories(particles))] = number_of_memories(particles)
            squares += ((law - number) ** 2).mean(), ((coclustering(particles) - together) ** 2).mean()
        errors[resampling] = np.sqrt(squares / 200)
    print(errors)
    assert (errors["optimal"] < 0.8 * errors["systematic"]).all()


def test_particles_that_learn_alpha_have_the_posterior_of_the_model_with_alpha_summed_out() -> None:
    evidence, number, together = posterior(X, _log_eppf_summed_out, VARIANCE, BASE)
    log_mean, _, _ = posterior(X, partial(_log_eppf_summed_out, power=1), VARIANCE, BASE)
    settings, empty = start_particles(
        _learning(2), 1, float, jax.random.key(4), num_particles=NUM_CHAINS, window=6, capacity=16
    )
    particles, found = absorb(settings, empty, X[:, None])
    assert found.log_predictive.sum() == pytest.approx(evidence, abs=0.03)
    law = np.zeros(len(number))
    law[: len(number_of_memories(particles))] = number_of_memories(particles)
    np.testing.assert_allclose(law, number, atol=5 * 0.5 / np.sqrt(NUM_CHAINS))
    np.testing.assert_allclose(coclustering(particles), together, atol=5 * 0.5 / np.sqrt(NUM_CHAINS))
    assert isinstance(particles.states.hyper, Hyper)
    shares, alphas = np.exp(np.asarray(particles.log_weights)), np.asarray(particles.states.hyper.alpha)
    assert shares @ alphas == pytest.approx(np.exp(log_mean - evidence), abs=5 * alphas.std() / np.sqrt(NUM_CHAINS))


@pytest.mark.slow
def test_evidence_of_few_particles_that_learn_alpha_is_unbiased() -> None:
    evidence, _, _ = posterior(X, _log_eppf_summed_out, VARIANCE, BASE)
    ratio = np.exp(_evidences(0.9, 3, 4000, _learning(2)) - evidence)
    assert abs(ratio.mean() - 1) < 4 * ratio.std() / np.sqrt(len(ratio))


def _number(value: int) -> jax.Array:
    return jnp.asarray(value, jnp.int32)


def _chains(labels: list[int], window: int) -> Particles:
    """Particles that all hold X with these labels, the last ``window`` rows kept."""
    _, empty = start_particles(
        kernel(), 1, float, jax.random.key(2), num_particles=NUM_CHAINS, window=window, capacity=16
    )
    member = np.eye(16)[labels]
    statistics = np.asarray(kernel().pair.statistics(jnp.asarray(X[:, None])))
    totals = np.concatenate([member.sum(0)[:, None], member.T @ statistics], axis=1)
    size = max(labels) + 1
    states = empty.states._replace(
        totals=jnp.broadcast_to(totals, (NUM_CHAINS, *totals.shape)),
        ident=jnp.broadcast_to(jnp.where(jnp.arange(16) < size, jnp.arange(16, dtype=jnp.int32), -1), (NUM_CHAINS, 16)),
        size=jnp.full(NUM_CHAINS, size, jnp.int32),
        created=jnp.full(NUM_CHAINS, size, jnp.int32),
        seen=jnp.full(NUM_CHAINS, len(X), jnp.uint32),
    )
    places = np.arange(len(X) - window, len(X)) % window
    rows, kept = np.zeros((window, 1)), np.zeros(window, np.int32)
    rows[places], kept[places] = X[-window:, None], labels[-window:]
    return empty._replace(states=states, rows=jnp.asarray(rows), labels=jnp.broadcast_to(kept, (NUM_CHAINS, window)))


def _is_consistent(particles: Particles, frozen: list[int]) -> bool:
    """Whether totals are the sums of the labelled rows, and labels name memories that are there."""
    window = len(particles.rows)
    order = np.arange(len(X) - window, len(X)) % window
    labels = np.concatenate(
        [np.broadcast_to(frozen, (NUM_CHAINS, len(frozen))), np.asarray(particles.labels)[:, order]], axis=1
    )
    member = labels[:, :, None] == np.arange(particles.num_slots)
    totals, live = np.asarray(particles.states.totals), np.asarray(particles.states.live)
    np.testing.assert_allclose(totals[..., 0], member.sum(axis=1))
    np.testing.assert_allclose(totals[..., 1], np.einsum("pnk,n->pk", member, X), atol=1e-12)
    return bool((live == member.any(axis=1)).all() and (live.sum(axis=1) == np.asarray(particles.states.size)).all())


@pytest.mark.parametrize("frozen", [[], [0, 1, 0]])
@pytest.mark.parametrize("move", ["split_merge", "reseat"])
def test_moves_end_in_the_posterior_given_the_rows_that_cannot_move(move: str, frozen: list[int]) -> None:
    window = len(X) - len(frozen)
    particles = _chains([*frozen, *[0] * window], window)
    key, (states, labels) = jax.random.key(3), (particles.states, particles.labels)
    rest, settings = (particles.rows, key), kernel()
    for sweep in range(8 if frozen else 1):
        rest = (particles.rows, jax.random.fold_in(key, sweep))
        if frozen or move == "reseat":
            for again in range(1 if move == "split_merge" else 6):
                rest = (particles.rows, jax.random.fold_in(key, 100 * sweep + again))
                states, labels, _ = reseat(
                    settings, states, labels, *rest, _number(window), _number(0), _number(window)
                )
        if move == "split_merge":
            most = _number(10 if frozen else 50)
            states, labels, done = split_merge(settings, states, labels, *rest, _number(window), _number(0), most)
            assert int(done) == int(most)
    moved = particles._replace(states=states, labels=labels)
    assert _is_consistent(moved, frozen)

    logs, sizes, together = [], [], []
    for blocks in partitions(len(X)):
        where = np.zeros(len(X), int)
        for k, block in enumerate(blocks):
            where[block] = k
        if list(where[: len(frozen)]) != frozen:
            continue
        prior = log_eppf([len(block) for block in blocks], ALPHA, DISCOUNT)
        logs.append(prior + sum(log_marginal(X[block], VARIANCE, BASE) for block in blocks))
        sizes.append(len(blocks))
        together.append(where[-window:, None] == where[-window:])
    share = np.exp(np.array(logs) - logsumexp(logs))
    error = 5 * 0.5 / np.sqrt(NUM_CHAINS)
    np.testing.assert_allclose(coclustering(moved), np.tensordot(share, together, 1), atol=error)
    law = np.bincount(np.asarray(states.size), minlength=len(X) + 1) / NUM_CHAINS
    np.testing.assert_allclose(law, np.bincount(sizes, weights=share, minlength=len(X) + 1), atol=error)


def groups(num_data: int, num_groups: int, dim: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.asarray(8 * rng.normal(size=(num_groups, dim))[rng.integers(0, num_groups, num_data)]) + 0.5 * rng.normal(
        size=(num_data, dim)
    )


def same_bits(first: Particles, second: Particles) -> bool:
    def leaves(particles: Particles) -> list[Any]:
        states = particles.states._replace(key=jax.random.key_data(particles.states.key))
        return jax.tree.leaves(particles._replace(states=states))

    return all(
        np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in zip(leaves(first), leaves(second), strict=True)
    )


@pytest.mark.parametrize("capacity", [32, pytest.param(16, marks=pytest.mark.slow)])  # 16 slots grow to 32
def test_particles_cut_anywhere_end_in_the_same_bits(capacity: int) -> None:
    x, moves = groups(130, 25, 2, 4), Moves(20, 2)
    settings, empty = start_particles(
        kernel(dim=2), 2, float, jax.random.key(5), num_particles=4, window=30, capacity=capacity
    )
    whole, found = absorb(settings, empty, x, moves=moves)
    cut, parts = empty, []
    for piece in np.split(x, [7, 8, 20, 61, 120]):
        cut, part = absorb(settings, cut, piece, moves=moves)
        parts.append(part)
    assert whole.num_slots == 32
    assert same_bits(whole, cut)
    np.testing.assert_array_equal(found.log_predictive, np.concatenate([part.log_predictive for part in parts]))
    np.testing.assert_allclose(np.asarray(whole.states.counts).sum(axis=1), len(x))

    queries = x[::9] + 0.3
    asked = recall(settings, whole, queries)
    weights = np.exp(np.asarray(whole.log_weights))
    assert weights.sum() == pytest.approx(1)
    each = [
        one_stream.recall(settings.kernel, jax.tree.map(lambda leaf, p=p: leaf[p], whole.states), queries)
        for p in range(4)
    ]
    densities = np.array([np.exp(said.log_predictive) for said in each])
    np.testing.assert_allclose(np.exp(asked.log_predictive), weights @ densities, rtol=1e-9)
    new = weights @ (densities * np.array([said.probability_new for said in each]))
    np.testing.assert_allclose(asked.probability_new, new / (weights @ densities), rtol=1e-8)
    lead = each[int(weights.argmax())]
    np.testing.assert_array_equal(asked.ident, lead.ident)
    np.testing.assert_allclose(asked.probability, lead.probability, rtol=1e-9)


@pytest.mark.slow
def test_rejuvenation_finds_the_groups_that_a_greedy_pass_has_joined() -> None:
    rng = np.random.default_rng(0)
    centres = 8 * np.concatenate([np.eye(3), -np.eye(3)])
    x = centres[rng.integers(0, 6, 240)] + 0.5 * rng.normal(size=(240, 3))
    spread = jnp.asarray([x.var(axis=0).mean()])
    pair = NormalGamma(jnp.asarray(x.mean(axis=0)), jnp.asarray(0.1), jnp.array([2.0]), spread)
    greedy = Kernel(pair, PitmanYor(jnp.asarray(1.0), jnp.asarray(0.0)))
    one, _ = one_stream.absorb(greedy, one_stream.start(greedy, 3, float, jax.random.key(0), capacity=16), x)
    assert int(one.size) < 6
    settings, empty = start_particles(greedy, 3, float, jax.random.key(0), num_particles=1, window=120, capacity=16)
    particles, _ = absorb(settings, empty, x, moves=Moves(60))
    counts = np.asarray(heaviest(particles).counts)
    assert np.sum(counts > 20) == 6
    assert counts[counts > 20].sum() >= 238


@pytest.mark.slow
def test_error_of_the_posterior_falls_as_one_over_the_root_of_the_number_of_particles(exact: Any) -> None:
    _, number, together = exact
    sizes = 2 ** np.arange(3, 12)
    errors = []
    for num_particles in sizes:
        settings, empty = start_particles(
            kernel(), 1, float, jax.random.key(0), num_particles=int(num_particles), window=6, capacity=16
        )

        @jax.jit
        def run(keys: jax.Array, empty: Particles = empty, settings: Any = settings) -> tuple[jax.Array, ...]:
            def one(key: jax.Array) -> tuple[jax.Array, ...]:
                keys = jnp.broadcast_to(key, empty.log_weights.shape)
                first = empty._replace(states=empty.states._replace(key=keys))
                last = jax.lax.scan(partial(step_particles, settings), first, jnp.asarray(X[:, None]))[0]
                return last.log_weights, last.labels, last.states.size

            return jax.lax.map(one, keys)

        weights, labels, size = (np.asarray(leaf) for leaf in run(jax.random.split(jax.random.key(4), 100)))
        weights = np.exp(weights)
        same = np.einsum("rp,rpij->rij", weights, labels[..., :, None] == labels[..., None, :])
        law = np.einsum("rp,rpk->rk", weights, size[..., None] == np.arange(len(number)))
        errors.append([np.sqrt(np.mean((law - number) ** 2)), np.sqrt(np.mean((same - together) ** 2))])
    slopes = np.polyfit(np.log(sizes), np.log(np.array(errors)), 1)[0]
    np.testing.assert_allclose(slopes, -0.5, atol=0.05)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_particles": 0}, "particles: expected a whole number from 1"),
        ({"window": 0}, "window: expected a whole number from 1"),
        ({"threshold": 1.5}, "threshold: expected a share"),
        ({"rule": "map"}, "rule: particles differ by what they draw"),
        ({"energy": "conditional"}, "energy: particles are weighted by exact densities"),
    ],
)
def test_particles_that_cannot_be_are_refused(change: dict[str, Any], message: str) -> None:
    words = {name: change[name] for name in ("rule", "energy") if name in change}
    options = {"num_particles": 2} | {name: value for name, value in change.items() if name not in words}
    with pytest.raises(InputError, match=message):
        start_particles(kernel(**words), 1, float, jax.random.key(0), **options)


def test_moves_that_cannot_be_are_refused() -> None:
    fading = fading_process(1.0, 0.0, exponential_kernel(5.0), np.dtype(float))
    for moves, given, message in (
        (Moves(0), kernel(), "rejuvenate_every: expected a number of data of at least 1"),
        (Moves(1, -1), kernel(), "split_merge: expected a number of moves of at least 0"),
        (Moves(1), kernel(energy="conditional"), "rejuvenation needs exact densities"),
        (Moves(1), Kernel(kernel().pair, fading), "where their order does not matter"),
    ):
        with pytest.raises(InputError, match=message):
            check_moves(moves, given)
