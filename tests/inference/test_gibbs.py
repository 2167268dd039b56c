"""Gibbs kernels against enumerated posteriors, and Geweke's joint test of whole sweeps."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import lgamma
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from arviz_stats import ess  # type: ignore[attr-defined]
from typing_extensions import override

from probam.conjugacy.normal import NormalKnownVariance
from probam.errors import InputError
from probam.family import ExchangeableWeights, Family, Moments, Params, Prior, WeightPrior
from probam.family.capabilities import Conditionals, Conjugacy, MissingEntries
from probam.inference.gibbs import engine as gibbs
from probam.inference.gibbs.kernels import Settings, State, sweep
from probam.inference.gibbs.missing import patterns, sweep_with_missing
from probam.models.bernoulli import Bernoulli
from probam.models.gaussian import Gaussian
from probam.models.mixture import Mixture, mixture
from probam.models.multinomial import Multinomial
from probam.models.von_mises_fisher import VonMisesFisherMemory
from probam.models.weights import Dirichlet, StickBreaking, Uniform, weight_prior
from tests.inference.enumeration import log_eppf, log_truncated, posterior
from tests.models.known_precision import KnownPrecision

X = np.array([-2.1, -1.8, 0.1, 0.3, 1.9, 2.4, 2.2, 7.0])
"""Data of CLAIMS E: likelihood variance 0.5, base N(0, 4)."""


@dataclass(frozen=True)
class Conjugate(KnownPrecision, Conditionals, Conjugacy):
    """The family of CLAIMS E with its full conditional and its marginal."""

    name: ClassVar[str] = "known_precision_conjugate"

    def frame(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jnp.zeros_like(x[0]), jnp.ones_like(x[0])

    @override
    def can_draw(self, prior: Prior) -> bool:
        return True

    def draw(self, key: jax.Array, moments: Moments, params: Params, prior: Prior) -> Params:
        sums = jnp.concatenate([moments.sums, jnp.zeros_like(moments.sums)], axis=-1)  # squares do not matter here
        return self.conjugate(params, prior).draw(key, moments.counts, sums)

    @override
    def conjugate(self, params: Params, prior: Prior) -> NormalKnownVariance:
        zero = jnp.zeros(params["loc"].shape[-1])
        return NormalKnownVariance(zero, zero + self.base_variance, zero + self.variance)


def log_finite(sizes: list[int], concentration: float, k: int) -> float:
    """Dirichlet-multinomial law of a partition, k memories."""
    t, n = len(sizes), sum(sizes)
    if t > k:
        return -np.inf
    blocks = sum(lgamma(concentration + size) - lgamma(concentration) for size in sizes)
    rising = lgamma(k * concentration + n) - lgamma(k * concentration)
    return lgamma(k + 1) - lgamma(k - t + 1) - rising + blocks


def log_mixed(sizes: list[int], concentration: float, most: int) -> float:
    """Number of memories uniform on 1, ..., most."""
    return float(np.logaddexp.reduce([log_finite(sizes, concentration, k) - np.log(most) for k in range(1, most + 1)]))


def expect_enumeration(
    weights: WeightPrior,
    num_components: int,
    log_prior: Callable[[list[int]], float],
    *,
    family: Family | None = None,
    num_draws: int = 1000,
    **options: Any,
) -> None:
    """P(K = k) and the co-clustering matrix of X within five standard errors (about 12 numbers: once in 10^5)."""
    _, number, together = posterior(X, log_prior, 0.5, 4.0)
    model = mixture(X[:, None], family=family or Conjugate(), weights=weights, num_components=num_components)
    x = jnp.asarray(X[:, None])
    result = gibbs.run(jax.random.key(1), model, x, num_warmup=100, num_draws=num_draws, num_chains=2, **options)

    def agree(draws: np.ndarray, expected: Any, what: object) -> None:
        if draws.std() == 0:
            assert abs(draws.mean() - expected) < 20 / draws.size, what
        else:
            error = draws.std() / np.sqrt(min(float(ess(draws)), draws.size))
            assert abs(draws.mean() - expected) < 5 * error, (what, draws.mean(), expected, error)

    occupied = result.stats["occupied"]
    agree(occupied.astype(float), number @ np.arange(9), "E K")
    for k in (3, 4, 5, 6):
        if number[k] > 0.02:
            agree((occupied == k).astype(float), number[k], f"P(K = {k})")
    # pairs through the responsibilities at each draw: the labels' law given weights and locations
    weights_, loc = result.sites["weights"], result.sites["loc"][..., 0]
    log_joint = -((X[:, None] - loc[:, :, None, :]) ** 2) / (2 * 0.5)  # (C, S, N, K)
    resp = weights_[:, :, None, :] * np.exp(log_joint)
    resp /= resp.sum(-1, keepdims=True)
    if options.get("partition") != "exchangeable" and options.get("kernel") != "slice":
        for i, j in ((0, 1), (2, 4), (3, 5), (6, 7), (4, 6)):
            agree((resp[:, :, i] * resp[:, :, j]).sum(-1), together[i, j], (i, j))


def test_blocked_sweeps_sample_the_truncated_posterior() -> None:
    expect_enumeration(StickBreaking(1.0), 5, lambda sizes: log_truncated(sizes, 1.0, 0.0, 5), kernel="blocked")


def test_collapsed_sweeps_with_split_merge_sample_the_chinese_restaurant_posterior() -> None:
    expect_enumeration(
        StickBreaking(0.5, 0.3),
        8,
        lambda sizes: log_eppf(sizes, 0.5, 0.3),
        kernel="collapsed",
        partition="exchangeable",
        split_merge=2,
    )


SLOW: dict[str, tuple[WeightPrior, int, Callable[[list[int]], float], dict[str, Any]]] = {
    "blocked, sliced memories": (
        StickBreaking(1.0),
        5,
        lambda sizes: log_truncated(sizes, 1.0, 0.0, 5),
        {"kernel": "blocked", "family": KnownPrecision()},
    ),
    "blocked, Dirichlet": (Dirichlet(1.0), 4, lambda sizes: log_finite(sizes, 1.0, 4), {"kernel": "blocked"}),
    "blocked, Pitman-Yor": (
        StickBreaking(0.5, 0.3),
        6,
        lambda sizes: log_truncated(sizes, 0.5, 0.3, 6),
        {"kernel": "blocked"},
    ),
    "collapsed": (StickBreaking(1.0), 5, lambda sizes: log_truncated(sizes, 1.0, 0.0, 5), {"kernel": "collapsed"}),
    "collapsed, split-merge": (
        StickBreaking(1.0),
        5,
        lambda sizes: log_truncated(sizes, 1.0, 0.0, 5),
        {"kernel": "collapsed", "split_merge": 3},
    ),
    "auxiliary": (StickBreaking(1.0), 5, lambda sizes: log_truncated(sizes, 1.0, 0.0, 5), {"kernel": "auxiliary"}),
    "Chinese restaurant": (
        StickBreaking(1.0),
        8,
        lambda sizes: log_eppf(sizes, 1.0, 0.0),
        {"kernel": "collapsed", "partition": "exchangeable"},
    ),
    "Chinese restaurant, auxiliary": (
        StickBreaking(0.5, 0.3),
        8,
        lambda sizes: log_eppf(sizes, 0.5, 0.3),
        {"kernel": "auxiliary", "partition": "exchangeable"},
    ),
    "Chinese restaurant of at most 5": (
        StickBreaking(1.0),
        5,
        lambda sizes: log_eppf(sizes, 1.0, 0.0) if len(sizes) <= 5 else -np.inf,
        {"kernel": "collapsed", "partition": "exchangeable", "split_merge": 1},
    ),
    "finite mixtures": (
        Dirichlet(0.7),
        6,
        lambda sizes: log_mixed(sizes, 0.7, 6),
        {"kernel": "collapsed", "partition": "exchangeable", "split_merge": 1},
    ),
    "slice": (StickBreaking(1.0), 40, lambda sizes: log_eppf(sizes, 1.0, 0.0), {"kernel": "slice"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_every_kernel_samples_its_enumerated_posterior(name: str) -> None:
    weights, num_components, log_prior, options = SLOW[name]
    expect_enumeration(weights, num_components, log_prior, num_draws=8000, **options)


def geweke(
    model: Mixture,
    num_data: int,
    settings: Settings,
    summaries: Callable[[Params], jax.Array],
    gaps: np.ndarray | None = None,
) -> None:
    """Sweeps that alternate with new data given labels and memories leave the prior invariant (Geweke 2004).

    About ten summaries, five standard errors each: fails once in 10^5. ``gaps`` says which entries are missing.
    """
    num_chains, num_steps = 8, 6000
    groups = (
        None
        if gaps is None or MissingEntries.of(model.family).missing != "pattern"
        else patterns(np.where(gaps, np.nan, 0.0))
    )
    at = jnp.arange(num_data)

    def prior(key: jax.Array) -> tuple[Params, jax.Array]:
        key_sites, key_labels = jax.random.split(key)
        trace = numpyro.handlers.trace(numpyro.handlers.seed(model.parameters, key_sites)).get_trace()
        params = {name: jnp.asarray(site["value"]) for name, site in trace.items() if site["type"] == "sample"}
        if settings.integrated:
            pair = Conjugacy.of(model.family).conjugate_base(model.prior)
            assert pair is not None
            size = pair.statistics(jnp.asarray(DATA)).shape[1]
            none = jnp.zeros(model.num_components)
            drawn = pair.draw(jax.random.fold_in(key, 1), none, jnp.zeros((model.num_components, size)))
            params |= Conjugacy.of(model.family).integrated_sites(drawn)
        logits = model.weights.log_weights(params, model.num_components)
        return params, jax.random.categorical(key_labels, logits, shape=(num_data,)).astype(jnp.int32)

    def data(key: jax.Array, params: Params, labels: jax.Array) -> jax.Array:
        return jnp.asarray(model.family.bank(params).sample(key, (num_data,)), DATA.dtype)[at, labels]

    def chain(key: jax.Array) -> jax.Array:
        params, labels = prior(key)

        def step(state: State, key: jax.Array) -> tuple[State, jax.Array]:
            key_data, key_sweep = jax.random.split(key)
            x = data(key_data, state.params, state.labels)
            if gaps is None:
                state, _ = sweep(key_sweep, model, x, state, settings)
            else:
                x = jnp.where(jnp.asarray(gaps), jnp.nan, x)
                state, _ = sweep_with_missing(key_sweep, model, x, state, settings, groups)
            return state, summaries(state.params)

        return jax.lax.scan(step, State(params, labels), jax.random.split(key, num_steps))[1]

    drawn = np.asarray(jax.jit(partial(jax.lax.map, chain))(jax.random.split(jax.random.key(7), num_chains)))
    independent = np.asarray(
        jax.jit(jax.vmap(lambda key: summaries(prior(key)[0])))(jax.random.split(jax.random.key(8), 60_000))
    )
    for i in range(drawn.shape[-1]):
        draws = drawn[..., i]
        error = np.hypot(draws.std() / np.sqrt(float(ess(draws))), independent[:, i].std() / np.sqrt(60_000))
        assert abs(draws.mean() - independent[:, i].mean()) < 5 * error, (i, draws.mean(), independent[:, i].mean())


def all_sites(params: Params) -> jax.Array:
    """Bounded functions of all sites, with and without regard to the order of memories."""
    terms = []
    for _, value in sorted(params.items()):
        squashed = jnp.tanh(0.5 * value)
        terms += [jnp.mean(squashed), jnp.mean(squashed**2), jnp.ravel(squashed)[-1]]
    return jnp.stack(terms)


DATA = np.random.default_rng(0).normal(0.3, 1.1, (9, 2))
HYPER = StickBreaking(dist.Gamma(2.0, 1.5), dist.Beta(1.5, 3.0))
GEWEKE = {
    "blocked full": (Gaussian("full"), HYPER, "blocked"),
    "blocked isotropic": (Gaussian("isotropic"), HYPER, "blocked"),
    "blocked LKJ (sliced)": (Gaussian("lkj"), Dirichlet(0.8), "blocked"),
    "collapsed full": (Gaussian("full"), HYPER, "collapsed"),
    "collapsed spherical": (Gaussian("spherical"), Dirichlet(0.8), "collapsed"),
    "conjugate full": (Gaussian("full"), HYPER, "conjugate"),
    "conjugate spherical": (Gaussian("spherical"), HYPER, "conjugate"),
    "auxiliary diagonal": (Gaussian("diagonal"), HYPER, "auxiliary"),
    "blocked vMF": (VonMisesFisherMemory(), HYPER, "blocked"),
    "blocked spins": (Bernoulli("spin"), Dirichlet(0.8), "blocked"),
    "collapsed bits": (Bernoulli("01"), HYPER, "collapsed"),
    "blocked counts": (Multinomial(), Dirichlet(0.8), "blocked"),
    "collapsed counts": (Multinomial(), HYPER, "collapsed"),
    "collapsed vMF": (VonMisesFisherMemory(), Uniform(), "collapsed"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", GEWEKE)
def test_sweeps_and_new_data_leave_the_prior_as_it_is(name: str) -> None:
    family, weights, kernel = GEWEKE[name]
    x = {
        "vmf": DATA / np.linalg.norm(DATA, axis=1, keepdims=True),
        "bernoulli": (DATA > 0) * (2.0 if name == "blocked spins" else 1.0) - (name == "blocked spins"),
        "multinomial": np.round(np.abs(DATA)),
    }.get(family.name, DATA)
    model = mixture(x, family=family, weights=weights, num_components=3)
    integrated = kernel == "conjugate"
    kernel = "collapsed" if integrated else kernel
    geweke(model, 5, Settings(kernel, False, integrated, 2 if kernel == "collapsed" else 0), all_sites)


def test_the_same_key_gives_the_same_bits_and_hyper_parameters_are_sites() -> None:
    weights = StickBreaking(dist.Gamma(2.0, 1.5))
    model = mixture(DATA, family=Gaussian("diagonal"), weights=weights, num_components=3)
    calls: list[tuple[int, int]] = []
    runs = [
        gibbs.run(
            jax.random.key(4),
            model,
            jnp.asarray(DATA),
            kernel="collapsed",
            base="conjugate",
            partition="exchangeable",
            split_merge=1,
            num_warmup=3,
            num_draws=20,
            num_chains=2,
            thin=2,
            progress=lambda step: calls.append((step.done, step.total)),
        )
        for _ in range(2)
    ]
    for name, value in runs[0].sites.items():
        np.testing.assert_array_equal(value, runs[1].sites[name])
    sites = runs[0].sites
    assert set(sites) == {"loc", "precision", "sticks", "alpha", "weights"}
    assert sites["loc"].shape == (2, 20, 3, 2)
    assert runs[0].stats["lp"].shape == (2, 20)
    assert calls[-1] == (46, 46)  # sweeps
    assert "Chinese restaurant" in runs[0].note
    assert "conjugate base" in runs[0].note


@pytest.mark.parametrize("gaps", [False, True])
def test_chains_side_by_side_are_those_that_go_alone(gaps: bool) -> None:
    x = np.where(np.random.default_rng(3).random(DATA.shape) < 0.2, np.nan, DATA) if gaps else DATA
    model = mixture(x, family=Gaussian("full"), weights=HYPER, num_components=3)
    alone, beside = (
        gibbs.run(jax.random.key(2), model, jnp.asarray(x), num_warmup=1, num_draws=4, num_chains=number)
        for number in (1, 3)
    )
    for name, values in (alone.sites | alone.stats).items():
        np.testing.assert_allclose(values[0], (beside.sites | beside.stats)[name][0], rtol=1e-8, err_msg=name)


def test_weights_given_a_partition_have_their_posterior_means() -> None:
    """(n_k - d) / (n + alpha) under Pitman-Yor; over K = 3, 4, 5 and their posterior for finite mixtures."""
    counts, num_draws = np.array([3.0, 2.0, 1.0, 0.0, 0.0]), 20_000
    keys = jax.random.split(jax.random.key(5), num_draws)
    terms = {k: np.exp(log_finite([3, 2, 1], 0.7, k)) for k in (3, 4, 5)}
    finite = sum(p * (counts[:3] + 0.7) / (6 + 0.7 * k) for k, p in terms.items()) / sum(terms.values())
    for weights, expected in ((StickBreaking(0.5, 0.3), (counts[:3] - 0.3) / 6.5), (Dirichlet(0.7), finite)):

        def draw(key: jax.Array, weights: ExchangeableWeights = weights) -> jax.Array:
            params = weights.draw_given_partition(key, jnp.asarray(counts), {})
            return jnp.exp(weights.log_weights(params, 5))

        drawn = np.asarray(jax.jit(jax.vmap(draw))(keys))
        np.testing.assert_allclose(drawn.sum(1), 1, rtol=1e-12)
        error = drawn[:, :3].std(0) / np.sqrt(num_draws)
        assert (np.abs(drawn[:, :3].mean(0) - expected) < 5 * error).all()  # 6 numbers: once in 3 * 10^5


def test_options_that_do_not_fit_say_what_does() -> None:
    def refused(message: str, family: Family, weights: WeightPrior, **options: Any) -> None:
        model = mixture(DATA, family=family, weights=weights, num_components=3)
        with pytest.raises(InputError, match=message):
            gibbs.run(jax.random.key(0), model, jnp.asarray(DATA), **options)

    full, process, finite = Gaussian("full"), weight_prior("dp"), Dirichlet(1.0)
    refused("kernel: expected one of blocked, slice, collapsed, auxiliary; got 'neal'", full, process, kernel="neal")
    refused("use 'blocked' with finite weights", full, finite, kernel="slice")
    refused("use 'collapsed' or 'auxiliary' here", full, process, partition="exchangeable")
    refused("use weights 'dp', 'pyp' or 'dirichlet'", full, Uniform(), kernel="auxiliary", partition="exchangeable")
    refused("use kernel 'auxiliary'", Gaussian("lkj"), process, kernel="collapsed")
    refused("use kernel 'collapsed'", full, process, split_merge=2)
    refused("leave base at 'model'", Gaussian("isotropic"), process, kernel="collapsed", base="conjugate")
    refused("num_draws: expected at least 1; got 0", full, process, num_draws=0)
