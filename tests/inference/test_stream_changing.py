"""Streams that are not stationary, against explicit sums, a Kalman filter, a smoother, quadrature and invariants."""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import gammaln
from scipy.stats import beta as beta_law
from scipy.stats import gamma as gamma_law
from scipy.stats import norm

from probam.conjugacy.normal import NormalGamma, NormalKnownVariance
from probam.conjugacy.pairs import BetaBernoulli, ConjugatePair, DirichletMultinomial
from probam.energies.predictive_coding import Layer, forget
from probam.errors import InputError
from probam.inference.stream.decay import (
    AgeKernel,
    age_kernel,
    exponential_kernel,
    fading_process,
    mixture_of_exponentials,
    power_kernel,
)
from probam.inference.stream.drift import Diffusion, Forgetting, Place, RandomWalk, check_motion
from probam.inference.stream.engine import absorb, start
from probam.inference.stream.hyper import Hyper, Learning, check_learning, draw
from probam.inference.stream.kernel import Kernel, log_seats, logits, step
from probam.inference.stream.state import StreamState
from probam.inference.stream.weights import PitmanYor

D = 2
FLOAT = np.dtype(float)
KERNELS = {
    "exponential": exponential_kernel(7.0),
    "power": power_kernel(5.0, 0.7),
    "mixture": AgeKernel(np.array([0.4, 0.6]), np.array([0.01, 0.5])),
}


def gaussians() -> NormalKnownVariance:
    loc, prior_variance, variance = np.array([0.3, -0.4]), np.array([9.0, 16.0]), np.array([0.5, 0.8])
    return NormalKnownVariance(jnp.asarray(loc), jnp.asarray(prior_variance), jnp.asarray(variance))


def rows(num_data: int, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.asarray(4 * rng.normal(size=(4, D))[rng.integers(0, 4, num_data)] + 0.8 * rng.normal(size=(num_data, D)))


def process(alpha: float = 1.2, discount: float = 0.25) -> PitmanYor:
    return PitmanYor(jnp.asarray(alpha), jnp.asarray(discount))


def stream(kernel: Kernel, x: np.ndarray, capacity: int = 16) -> tuple[StreamState, Any]:
    return absorb(kernel, start(kernel, x.shape[1], float, jax.random.key(3), capacity=capacity), x)


def same_bits(first: StreamState, second: StreamState) -> bool:
    one, two = (jax.tree.leaves(state._replace(key=jax.random.key_data(state.key))) for state in (first, second))
    return all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in zip(one, two, strict=True))


# --- counts that fade -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KERNELS)
def test_seats_are_explicit_sums_of_the_kernel_over_all_past_data(name: str) -> None:
    alpha, discount, worth = 1.2, 0.25, KERNELS[name]
    kernel = Kernel(gaussians(), fading_process(alpha, discount, worth, FLOAT), rule="sample")
    x = rows(60)
    state, found = stream(kernel, x)
    size = int(state.size)
    assert size > 2
    fresh = jnp.arange(16) == size
    seats = np.exp(np.asarray(log_seats(kernel, state, fresh)))[: size + 1]
    weights = np.zeros(size)
    for i, k in enumerate(found.ident):
        weights[k] += worth(np.asarray(60 - i))
    counts = np.bincount(found.ident)
    expected = np.append(weights - discount * weights / counts, alpha + discount * np.sum(weights / counts))
    np.testing.assert_allclose(seats, expected / (weights.sum() + alpha), rtol=1e-11)
    assert seats.sum() == pytest.approx(1)


def test_a_stream_that_never_fades_is_the_stationary_one_bit_for_bit() -> None:
    x = rows(150)
    still = Kernel(gaussians(), process(), rule="sample")
    fading = replace(still, law=fading_process(1.2, 0.25, exponential_kernel(np.inf), FLOAT))
    (one, said), (two, also) = stream(still, x), stream(fading, x)
    assert same_bits(one, two._replace(traces=()))
    assert said.log_predictive.tobytes() == also.log_predictive.tobytes()


def test_labels_of_data_that_say_nothing_have_the_fading_law() -> None:
    """Three data: the chance that they fall in one, two or three memories, written out."""
    alpha, worth, num = 0.8, exponential_kernel(1.0), 20_000
    kernel = Kernel(DirichletMultinomial(jnp.ones(2)), fading_process(alpha, 0.0, worth, FLOAT), rule="sample")
    nothing = jnp.zeros((3, 2))

    @jax.jit
    @jax.vmap
    def sizes(key: jax.Array) -> jax.Array:
        empty = start(kernel, 2, float, jax.random.key(0), capacity=16)._replace(key=key)
        return jax.lax.scan(partial(step, kernel), empty, nothing)[0].size

    one, two = worth(np.array([1.0, 2.0]))
    again = one / (one + alpha)
    together = again * (one + two) / (one + two + alpha)
    apart = (1 - again) * alpha / (one + two + alpha)
    law = np.array([together, 1 - together - apart, apart])
    found = np.bincount(np.asarray(sizes(jax.random.split(jax.random.key(9), num))), minlength=4)[1:] / num
    assert np.abs(found - law).max() < 4.5 * np.sqrt(0.25 / num)


def test_a_memory_that_has_faded_beyond_all_floats_keeps_its_weight_in_logs_and_wins_again() -> None:
    x = np.concatenate([np.full((5, D), 30.0), np.full((4000, D), -3.0), np.full((1, D), 30.0)])
    kernel = Kernel(gaussians(), fading_process(1e-6, 0.0, exponential_kernel(2.0), FLOAT))
    state, found = stream(kernel, x)
    seats = np.asarray(log_seats(kernel, replace_last(state, 4005, 4), jnp.zeros(16, bool)))
    assert seats[0] < -2000 * np.log(2) + 5  # exp of it is zero
    assert np.isfinite(seats[0])
    assert found.ident[-1] == 2  # so worthless that a new one is cheaper ...
    slow = replace(kernel, law=fading_process(1e-6, 0.0, exponential_kernel(400.0), FLOAT))
    assert stream(slow, x)[1].ident[-1] == 0  # ... and here it revives
    power = replace(kernel, law=fading_process(1e-6, 0.0, power_kernel(2.0), FLOAT))
    assert stream(power, x)[1].ident[-1] == 0  # as under a long memory with the same half-life


def replace_last(state: StreamState, seen: int, last: int) -> StreamState:
    """The state before its last datum, as far as weights look at it."""
    return state._replace(seen=jnp.asarray(seen, state.seen.dtype), last=state.last.at[0].set(last))


@pytest.mark.parametrize("exponent", [0.3, 1.0, 2.5])
def test_power_kernel_is_the_power_law_to_its_stated_error_and_starts_at_one(exponent: float) -> None:
    half_life = 30.0
    found = power_kernel(half_life, exponent)
    scale = half_life / (2 ** (1 / exponent) - 1)
    ages = np.concatenate([np.arange(50.0), np.geomspace(50, 1e7, 500)])
    expected = (1 + ages / scale) ** -exponent
    assert np.abs(found(ages) / expected - 1).max() < 1.5 * found.error + 1e-9
    assert found.error < 0.01
    assert found(np.zeros(1)) == pytest.approx(1, abs=1e-12)
    assert len(found.rates) <= 30
    assert (found.shares > 0).all()


def test_kernels_that_are_no_mixtures_of_exponentials_are_refused() -> None:
    with pytest.raises(InputError, match="completely monotone"):
        mixture_of_exponentials(lambda age: np.exp(-((age / 1e6) ** 2)) + 1e-9 * (age > 0), reach=1e6)
    with pytest.raises(InputError, match="1 at age 0"):
        mixture_of_exponentials(lambda age: 2 / (1 + age))
    for wrong in (
        lambda: age_kernel(-1.0),
        lambda: age_kernel(3.0, "cosine"),
        lambda: power_kernel(3.0, 0.0),
        lambda: fading_process(0.0, 0.5, KERNELS["power"], FLOAT),
    ):
        with pytest.raises(InputError):
            wrong()


# --- memories that move ---------------------------------------------------------------------------------------


def test_a_random_walk_is_an_explicit_kalman_filter_of_each_memory() -> None:
    pair, q, x = gaussians(), np.array([0.03, 0.05]), rows(40)
    kernel = Kernel(pair, process(), motion=RandomWalk(jnp.asarray(q)))
    state, found = stream(kernel, x)
    assert int(state.size) > 2
    loc, prior, noise = (np.asarray(leaf) for leaf in (pair.loc, pair.prior_variance, pair.variance))
    for k in range(int(state.size)):
        mean, variance, last = loc, prior, -1
        for n in np.flatnonzero(found.ident == k):
            variance = variance + q * (0 if last < 0 else n - last)
            gain = variance / (variance + noise)
            mean, variance, last = mean + gain * (x[n] - mean), (1 - gain) * variance, int(n)
        np.testing.assert_allclose(np.asarray(state.known.mean)[k] + loc, mean, rtol=1e-10)
        np.testing.assert_allclose(np.asarray(state.known.variance)[k], variance, rtol=1e-10)
        score = np.asarray(logits(kernel, state, jnp.asarray(x[0]))[0] - log_seats(kernel, state, state.live))[k]
        width = np.sqrt(variance + q * (40 - last) + noise)
        assert score == pytest.approx(np.sum(norm.logpdf(x[0], mean, width)), rel=1e-9)


def test_log_predictive_of_one_drifting_memory_is_the_joint_gaussian_of_all_data() -> None:
    """Batch oracle: a random walk seen in noise is one Gaussian; its last location's posterior is the filter's."""
    pair, q, num = gaussians(), 0.2, 12
    x = np.cumsum(np.random.default_rng(0).normal(size=(num, D)) * np.sqrt(q), axis=0)
    kernel = Kernel(pair, PitmanYor(jnp.asarray(1e-300), jnp.asarray(0.0)), motion=RandomWalk(jnp.asarray(q)))
    state, found = stream(kernel, x)
    assert int(state.size) == 1
    steps = np.minimum.outer(np.arange(num), np.arange(num))
    total = 0.0
    for j in range(D):
        prior, noise, loc = (float(leaf[j]) for leaf in (pair.prior_variance, pair.variance, pair.loc))
        walk = prior + q * steps
        joint = walk + noise * np.eye(num)
        off = x[:, j] - loc
        total -= 0.5 * (num * np.log(2 * np.pi) + np.linalg.slogdet(joint)[1] + off @ np.linalg.solve(joint, off))
        weights = np.linalg.solve(joint, walk[-1])
        assert state.known.mean[0, j] == pytest.approx(weights @ off, rel=1e-9)
        assert state.known.variance[0, j] == pytest.approx(walk[-1, -1] - weights @ walk[-1], rel=1e-9)
    assert found.log_predictive.sum() == pytest.approx(total, rel=1e-10)


@pytest.mark.parametrize("motion", [RandomWalk, Diffusion, Forgetting])
def test_memories_that_do_not_move_are_the_stationary_ones(motion: Any) -> None:
    x, still = rows(60), Kernel(gaussians(), process())
    (one, said), (two, also) = stream(still, x), stream(replace(still, motion=motion(jnp.zeros(()))), x)
    np.testing.assert_array_equal(said.ident, also.ident)
    np.testing.assert_allclose(said.log_predictive, also.log_predictive, rtol=1e-11)
    np.testing.assert_array_equal(one.totals, two.totals)


def test_diffusion_is_the_forgetting_map_of_claim_d5_and_returns_to_the_prior() -> None:
    pair, rate = gaussians(), 0.3
    motion = Diffusion(jnp.asarray(rate))
    place = Place(jnp.array([[1.5, -0.7]]), jnp.array([[0.2, 0.4]]))
    prior = Layer(jnp.zeros((1, D)), jnp.diag(pair.prior_variance))
    layer = Layer(place.mean, jnp.diag(place.variance[0]))
    for age in range(4):
        found = motion.ahead(pair, place, jnp.array([age]))
        np.testing.assert_allclose(found.mean, layer.mean, rtol=1e-12)
        np.testing.assert_allclose(found.variance[0], np.diag(layer.covariance), rtol=1e-12)
        layer = forget(layer, prior, rate)
    base = motion.empty(pair, jnp.zeros((1, 5)))
    for row, age in ((place, 400), (base, 3)):
        gone = motion.ahead(pair, row, jnp.array([age]))
        np.testing.assert_allclose(gone.mean, base.mean, atol=1e-12)
        np.testing.assert_allclose(gone.variance, base.variance, rtol=1e-12)


@pytest.mark.parametrize("name", ["gamma", "bits"])
def test_forgetting_weights_each_datum_by_its_age_and_relaxes_to_the_prior(name: str) -> None:
    pair: ConjugatePair = BetaBernoulli(jnp.array([0.6, 1.4]), jnp.array([1.0, 0.8]), (0.0, 1.0))
    x = (rows(9) > 0).astype(float)
    if name == "gamma":
        pair, x = NormalGamma(jnp.zeros(D), jnp.asarray(0.3), jnp.array([1.5, 2.0]), jnp.array([0.7, 1.3])), rows(9)
    rate = 0.2
    kernel = Kernel(pair, PitmanYor(jnp.asarray(1e-300), jnp.asarray(0.0)), motion=Forgetting(jnp.asarray(rate)))
    state, _ = stream(kernel, x)
    assert int(state.size) == 1
    worth = np.exp(-rate * np.arange(8, -1, -1))
    statistics = np.asarray(pair.statistics(jnp.asarray(x)))
    np.testing.assert_allclose(state.known.counts[0], worth.sum(), rtol=1e-12)
    np.testing.assert_allclose(state.known.sums[0], worth @ statistics, rtol=1e-11)
    late = state._replace(seen=jnp.asarray(9 + 4000, state.seen.dtype))
    probe = jnp.asarray(x[3])
    said = np.asarray(logits(kernel, late, probe)[0] - log_seats(kernel, late, jnp.arange(16) == 1))
    assert said[0] == pytest.approx(said[1], rel=1e-9)  # of the memory, and of the base measure
    soon = np.asarray(logits(kernel, state, probe)[0] - log_seats(kernel, state, jnp.arange(16) == 1))
    assert abs(soon[0] - soon[1]) > 0.1


def test_memories_of_other_families_do_not_drift() -> None:
    with pytest.raises(InputError, match="known variance"):
        check_motion(RandomWalk(jnp.asarray(0.1)), DirichletMultinomial(jnp.ones(2)))
    check_motion(Forgetting(jnp.asarray(0.1)), DirichletMultinomial(jnp.ones(2)))


# --- a fixed number of slots ----------------------------------------------------------------------------------


def test_slots_are_the_plain_loop_that_drops_the_least_and_longest_unused() -> None:
    most, x = 3, rows(120, seed=5)
    kernel = Kernel(gaussians(), process(2.0, 0.1), slots=jnp.asarray(most, jnp.int32))
    state, found = stream(kernel, x)
    assert found.size.max() == most
    assert int(state.created) > most + 2  # some were dropped
    held: dict[int, list[int]] = {}
    for n, k in enumerate(found.ident.tolist()):
        assert found.is_new[n] == (k not in held)  # one that was dropped never comes back under its number
        held.setdefault(k, []).append(n)
        if len(held) > most:
            old = [j for j in held if j != k]
            del held[min(old, key=lambda j: (len(held[j]), held[j][-1]))]
    live = np.asarray(state.live)
    found_counts = dict(zip(np.asarray(state.ident)[live].tolist(), np.asarray(state.counts)[live], strict=True))
    assert found_counts == {k: len(data) for k, data in held.items()}
    for k, data in held.items():
        slot = int(np.flatnonzero(np.asarray(state.ident) == k)[0])
        np.testing.assert_allclose(state.sums[slot, :D], (x[data] - np.asarray(gaussians().loc)).sum(0), rtol=1e-9)
    empty = ~live
    assert not np.asarray(state.totals)[empty].any()
    assert state.num_slots == 16  # never grew


def test_room_for_all_memories_drops_none_and_fading_decides_who_goes() -> None:
    x = rows(100)
    free = Kernel(gaussians(), process())
    one, _ = stream(free, x)
    two, _ = stream(replace(free, slots=jnp.asarray(int(one.size), jnp.int32)), x)
    assert same_bits(one, two)
    old = np.concatenate([np.full((30, D), 20.0), np.full((5, D), -20.0), np.array([[20.0, -20.0]])])
    kept = {}
    for half_life in (np.inf, 3.0):
        law = fading_process(1.0, 0.0, exponential_kernel(half_life), FLOAT)
        state, _ = stream(replace(free, law=law, slots=jnp.asarray(2, jnp.int32)), old)
        kept[half_life] = sorted(np.asarray(state.ident)[np.asarray(state.live)].tolist())
    assert kept == {np.inf: [0, 2], 3.0: [1, 2]}


# --- a process that is learned --------------------------------------------------------------------------------


def _chain(learning: Learning, begin: Hyper, counts: np.ndarray, num: int) -> Hyper:
    live = jnp.asarray(counts > 0)

    @jax.jit
    def run(keys: jax.Array) -> Hyper:
        def one(hyper: Hyper, key: jax.Array) -> tuple[Hyper, Hyper]:
            hyper = draw(learning, key, hyper, jnp.asarray(counts), live)
            return hyper, hyper

        return jax.lax.scan(one, begin, keys)[1]

    return jax.tree.map(np.asarray, run(jax.random.split(jax.random.key(5), num)))


def _z(draws: Any, expected: float) -> float:
    """Miss in standard errors of batch means."""
    means = draws.reshape(40, -1).mean(axis=1)
    return float(abs(draws.mean() - expected) / (means.std(ddof=1) / np.sqrt(40)))


def test_learned_alpha_has_the_posterior_given_the_number_of_memories() -> None:
    shape, rate, n, k = 1.5, 0.7, 57, 6
    counts = np.zeros(16)
    counts[:k] = [30, 11, 8, 5, 2, 1]
    learning = Learning(jnp.array([shape, rate]))
    draws = _chain(learning, Hyper(jnp.asarray(1.0), jnp.asarray(0.0)), counts, 20_000).alpha

    def density(alpha: float) -> float:  # CLAIMS A18: p(K | alpha) is alpha^K Gamma(alpha) / Gamma(alpha + n)
        log_prob = k * np.log(alpha) + gammaln(alpha) - gammaln(alpha + n)
        return float(gamma_law.pdf(alpha, shape, scale=1 / rate) * np.exp(log_prob + gammaln(n)))

    total = quad(density, 0, 40)[0]
    for power in (1, 2):
        assert _z(draws**power, quad(lambda a: a**power * density(a), 0, 40)[0] / total) < 4.5  # noqa: B023
    assert _z(draws < 1.0, quad(density, 0, 1)[0] / total) < 4.5


def test_learned_alpha_and_discount_have_the_posterior_given_the_sizes() -> None:
    shape, rate, first, second = 1.5, 0.7, 1.0, 2.0
    sizes = np.array([14, 6, 3, 1, 1, 1, 1])
    counts = np.zeros(16)
    counts[:7] = sizes
    learning = Learning(jnp.array([shape, rate]), jnp.array([first, second]), dirichlet=False)
    draws = _chain(learning, Hyper(jnp.asarray(1.0), jnp.asarray(0.3)), counts, 10_000)
    alpha, discount = np.meshgrid(np.linspace(0.01, 14, 500), (np.arange(400) + 0.5) / 400, indexing="ij")
    log_prob = gamma_law.logpdf(alpha, shape, scale=1 / rate) + beta_law.logpdf(discount, first, second)
    log_prob += (
        sum(np.log(alpha + i * discount) for i in range(1, 7)) - gammaln(alpha + sizes.sum()) + gammaln(alpha + 1)
    )
    log_prob += sum(gammaln(size - discount) - gammaln(1 - discount) for size in sizes)
    mass = np.exp(log_prob - log_prob.max())
    mass /= mass.sum()
    assert _z(draws.alpha, float((mass * alpha).sum())) < 4.5
    assert _z(draws.discount, float((mass * discount).sum())) < 4.5
    assert _z(draws.alpha * draws.discount, float((mass * alpha * discount).sum())) < 4.5


def test_the_process_changes_at_its_indices_alone_and_cuts_leave_no_trace() -> None:
    x = rows(90)
    learning = Learning(jnp.array([1.0, 1.0]), every=20)
    kernel = Kernel(gaussians(), process(1.2, 0.0), rule="sample", learning=learning)
    whole, found = stream(kernel, x)
    cut, alphas = start(kernel, D, float, jax.random.key(3), capacity=16), []
    for first, last in ((0, 19), (19, 20), (20, 39), (39, 61), (61, 90)):
        cut, _ = absorb(kernel, cut, x[first:last])
        assert isinstance(cut.hyper, Hyper)
        alphas.append(float(cut.hyper.alpha))
    assert same_bits(whole, cut)
    assert alphas[0] == 1.2
    assert alphas[1] == alphas[2] != 1.2
    assert len({*alphas}) == 4
    still, said = stream(replace(kernel, learning=None), x)
    assert said.log_predictive[:20].tobytes() == found.log_predictive[:20].tobytes()
    assert int(still.size) > 1


def test_priors_and_intervals_that_mean_nothing_are_refused() -> None:
    for wrong in (((0.0, 1.0), None, 5), ((1.0, 1.0), (1.0, -2.0), 5), ((1.0, 1.0), None, 0)):
        with pytest.raises(InputError):
            check_learning(*wrong)
