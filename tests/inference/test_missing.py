"""Missing entries in every engine that samples or approximates: the posterior given what was observed, exactly."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from arviz_stats import ess  # type: ignore[attr-defined]
from numpyro.distributions import Distribution
from scipy.special import betaln, logsumexp
from scipy.stats import multivariate_normal, multivariate_t

from probam.conjugacy.mean_field import Integrated, MeanField
from probam.conjugacy.normal import NormalGamma
from probam.distributions.observed import observed_log_prob
from probam.errors import InputError
from probam.family import Family, Prior, WeightPrior
from probam.family.capabilities import Conjugacy
from probam.fits.choices import find_engine
from probam.inference.cavi import engine as cavi
from probam.inference.gibbs import engine as gibbs
from probam.inference.gibbs.kernels import Settings
from probam.inference.gibbs.missing import completed, observed_log_joint, patterns
from probam.models.bernoulli import Bernoulli
from probam.models.gaussian import Gaussian
from probam.models.mixture import Mixture, mixture
from probam.models.weights import Dirichlet, StickBreaking, Uniform
from tests.inference.enumeration import log_eppf, log_marginal, log_truncated, partitions
from tests.inference.test_gibbs import DATA, HYPER, Conjugate, all_sites, geweke

SLOW = pytest.mark.slow
FACTOR = np.array([[1.0, 0, 0], [0.8, 0.6, 0], [-0.5, 0.4, 0.7]])
COVARIANCE = FACTOR @ FACTOR.T
BASE = 4.0


@dataclass(frozen=True)
class KnownCovariance(Family):
    """Correlated features of known covariance: the location given observed entries is Gaussian."""

    name: ClassVar[str] = "known_covariance"

    @property
    def missing(self) -> str:
        return "pattern"

    def prior(self, x: np.ndarray) -> dict[str, Distribution]:
        return {"loc": dist.Normal(jnp.zeros(x.shape[1]), BASE**0.5).to_event(1)}

    def bank(self, params: Mapping[str, jax.Array]) -> Distribution:
        return dist.MultivariateNormal(params["loc"], jnp.asarray(COVARIANCE), validate_args=False)


def _correlated() -> np.ndarray:
    """Seven rows of three features, a third of the entries missing, of one row all."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(7, 3)) @ FACTOR.T + np.array([1.0, -2.0, 0.5])
    x[rng.random(x.shape) < 0.33] = np.nan
    x[4] = np.nan
    return x


def _posterior(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Mean and covariance of the location, and the log evidence, row by row with SciPy and NumPy."""
    precision, pull = np.eye(3) / BASE, np.zeros(3)
    for row in x:
        o = np.flatnonzero(~np.isnan(row))
        inverse = np.linalg.inv(COVARIANCE[np.ix_(o, o)])
        precision[np.ix_(o, o)] += inverse
        pull[o] += inverse @ row[o]
    covariance = np.linalg.inv(precision)
    n, d = np.nonzero(~np.isnan(x))
    joint = np.where(n[:, None] == n, COVARIANCE[np.ix_(d, d)], 0) + BASE * (d[:, None] == d)
    return covariance @ pull, covariance, float(multivariate_normal.logpdf(x[n, d], np.zeros(len(n)), joint))


@pytest.mark.parametrize(
    ("engine", "options"),
    [
        ("gradient_em", {"restarts": 4, "max_iterations": 200}),
        pytest.param("gradient_em", {"optimiser": "ecg", "restarts": 2}, marks=SLOW),
        pytest.param("gradient_em", {"optimiser": "natural", "restarts": 2}, marks=SLOW),
        ("nuts", {"num_chains": 2, "num_warmup": 200, "num_draws": 500}),
        ("svi", {"guide": "full", "optimiser": "natural", "restarts": 2, "num_draws": 3000}),
        pytest.param("svi", {"guide": "full", "restarts": 2, "num_draws": 3000}, marks=SLOW),
        pytest.param("smc", {"num_particles": 300, "num_chains": 8}, marks=SLOW),
        pytest.param("gibbs", {"num_chains": 2, "num_warmup": 200, "num_draws": 4000}, marks=SLOW),
    ],
)
def test_one_memory_has_its_exact_posterior_given_the_observed_entries(engine: str, options: dict[str, Any]) -> None:
    x = _correlated()
    mean, covariance, evidence = _posterior(x)
    model = mixture(x, family=KnownCovariance(), weights=Uniform(), num_components=1)
    result = find_engine(engine, options)(jax.random.key(0), model, jnp.asarray(x), **options)
    loc = result.sites["loc"][:, :, 0]
    if engine == "gradient_em":
        np.testing.assert_allclose(loc[0, 0], mean, atol=1e-5)
        np.testing.assert_allclose(
            result.stats["lp"][0, 0], evidence + multivariate_normal.logpdf(mean, mean, covariance), rtol=1e-8
        )
        return
    # the log joint at a draw is the evidence times the posterior density there: no Monte Carlo error
    exact = evidence + multivariate_normal.logpdf(loc, mean, covariance)
    np.testing.assert_allclose(result.stats["lp"], exact.reshape(loc.shape[:2]), rtol=1e-8)
    sizes = [min(float(ess(loc[..., i])), loc[..., i].size) for i in range(3)]
    error = np.sqrt(np.diag(covariance) / sizes)
    assert (np.abs(loc.mean(axis=(0, 1)) - mean) < 5 * error).all()
    spread = np.cov(loc.reshape(-1, 3).T)
    scale = np.sqrt(np.diag(covariance))
    assert (np.abs(spread - covariance) < 8 * np.outer(scale, scale) / np.sqrt(min(sizes))).all()
    if engine in ("svi", "smc"):
        assert result.evidence is not None
        assert abs(result.evidence.log_evidence - evidence) < 5 * result.evidence.se + 1e-3


@dataclass(frozen=True)
class Independent(Conjugate):
    """Features of known variance, independent: all of Gibbs sampling and of the mean field."""

    name: ClassVar[str] = "known_precision_missing"

    @property
    def missing(self) -> str:
        return "entry"

    def mean_field(self, prior: Prior) -> MeanField:
        return Integrated(self.conjugate({"loc": jnp.zeros(prior["loc"].event_shape)}, prior))


X = np.array([[-2.1, -1.0], [-1.8, np.nan], [np.nan, 0.3], [0.2, 0.9], [1.9, np.nan], [2.4, 2.0], [np.nan, np.nan]])


def _enumerated(log_prior: Callable[[list[int]], float]) -> tuple[float, np.ndarray, np.ndarray]:
    """Log evidence, P(K = k) and the co-clustering matrix of X over all partitions; features are independent."""
    logs, found = [], []
    for blocks in partitions(len(X)):
        total = log_prior([len(block) for block in blocks])
        for block in blocks:
            for column in X[block].T:
                seen = column[~np.isnan(column)]
                total += log_marginal(seen, 0.5, BASE) if len(seen) else 0.0
        logs.append(total)
        found.append(blocks)
    mass = np.exp(np.array(logs) - logsumexp(logs))
    number, together = np.zeros(len(X) + 1), np.zeros((len(X), len(X)))
    for weight, blocks in zip(mass, found, strict=True):
        number[len(blocks)] += weight
        for block in blocks:
            together[np.ix_(block, block)] += weight
    return float(logsumexp(logs)), number, together


KERNELS: list[Any] = [
    (StickBreaking(1.0), 4, partial(log_truncated, alpha=1.0, discount=0.0, truncation=4), {"kernel": "blocked"}),
    (
        StickBreaking(0.5, 0.3),
        7,
        partial(log_eppf, alpha=0.5, discount=0.3),
        {"kernel": "collapsed", "partition": "exchangeable", "split_merge": 1},
    ),
    (StickBreaking(1.0), 4, partial(log_truncated, alpha=1.0, discount=0.0, truncation=4), {"kernel": "auxiliary"}),
    (StickBreaking(1.0), 4, partial(log_truncated, alpha=1.0, discount=0.0, truncation=4), {"kernel": "collapsed"}),
    (StickBreaking(1.0), 40, partial(log_eppf, alpha=1.0, discount=0.0), {"kernel": "slice"}),
]


@pytest.mark.parametrize(
    ("weights", "num_components", "log_prior", "options"),
    [KERNELS[0], *(pytest.param(*case, marks=SLOW) for case in KERNELS[1:])],
    ids=["blocked", "restaurant", "auxiliary", "collapsed", "slice"],
)
def test_gibbs_samples_the_enumerated_posterior_of_rows_with_gaps(
    weights: WeightPrior, num_components: int, log_prior: Callable[..., float], options: dict[str, Any]
) -> None:
    _, number, together = _enumerated(log_prior)
    model = mixture(X, family=Independent(), weights=weights, num_components=num_components)
    x = jnp.asarray(X)
    result = gibbs.run(jax.random.key(1), model, x, num_warmup=100, num_draws=1500, num_chains=2, **options)

    def agree(draws: np.ndarray, expected: Any, what: object) -> None:
        error = draws.std() / np.sqrt(min(float(ess(draws)), draws.size))
        assert abs(draws.mean() - expected) < 5 * error + 1e-4, (what, draws.mean(), expected, error)

    occupied = result.stats["occupied"].astype(float)
    agree(occupied, number @ np.arange(len(number)), "E K")
    for k in range(2, 5):
        agree((occupied == k).astype(float), number[k], k)
    if options["kernel"] == "slice" or "partition" in options:
        return
    loc = result.sites["loc"]  # (C, S, K, D)
    of_rows = np.nansum((X[:, None] - loc[:, :, None]) ** 2, axis=-1)
    resp = result.sites["weights"][:, :, None] * np.exp(-of_rows / (2 * 0.5))
    resp /= resp.sum(-1, keepdims=True)
    for i, j in ((0, 1), (2, 3), (4, 5), (1, 6), (0, 5)):
        agree((resp[:, :, i] * resp[:, :, j]).sum(-1), together[i, j], (i, j))


def test_missing_entries_are_drawn_from_their_regression_on_the_observed_ones() -> None:
    x = _correlated()
    labels = np.arange(len(x)) % 2
    loc = np.array([[1.0, -2, 0.5], [0, 1, 3]])
    covariance = np.stack([COVARIANCE, np.diag([1.0, 2, 3]) + 0.4])
    bank = dist.MultivariateNormal(jnp.asarray(loc), jnp.asarray(covariance))
    keys, groups = jax.random.split(jax.random.key(2), 20_000), patterns(x)
    draw = jax.jit(jax.vmap(lambda key: completed(key, bank, jnp.asarray(x), jnp.asarray(labels), groups)))
    drawn = np.asarray(draw(keys))
    for n, row in enumerate(x):
        o, m = np.flatnonzero(~np.isnan(row)), np.flatnonzero(np.isnan(row))
        sigma, mu = covariance[labels[n]], loc[labels[n]]
        np.testing.assert_array_equal(drawn[:, n, o], np.broadcast_to(row[o], (20_000, len(o))))
        gain = sigma[np.ix_(m, o)] @ np.linalg.inv(sigma[np.ix_(o, o)])
        rest = sigma[np.ix_(m, m)] - gain @ sigma[np.ix_(o, m)]
        error = np.sqrt(np.diag(rest) / 20_000)
        assert (np.abs(drawn[:, n, m].mean(0) - mu[m] - gain @ (row[o] - mu[o])) < 5 * error).all(), n
        scale = np.sqrt(np.outer(np.diag(rest), np.diag(rest)))
        assert (np.abs(np.cov(drawn[:, n, m].T).reshape(rest.shape) - rest) < 8 * scale / 20_000**0.5).all(), n


def test_densities_by_pattern_are_those_row_by_row() -> None:
    x = _correlated()
    model = mixture(x, family=Gaussian("full"), weights=Uniform(), num_components=2)
    rng = np.random.default_rng(0)
    params = {"loc": jnp.asarray(rng.normal(size=(2, 3)))}
    params["precision_cholesky"] = jnp.asarray(np.linalg.cholesky(np.stack([COVARIANCE, np.eye(3) + 0.2])))
    law = model.mixture(params)
    by_group = jax.jit(lambda x, groups: observed_log_joint(law, x, groups))(jnp.asarray(x), patterns(x))
    np.testing.assert_allclose(by_group, observed_log_prob(law.bank, jnp.asarray(x)) - np.log(2), rtol=1e-10)


def _bound(model: Mixture, x: np.ndarray, **options: Any) -> float:
    search = cavi.Search(**{"restarts": 3, "moves": False, "tolerance": 1e-13} | options)
    _, state, trace, _ = cavi.fit_factors(jax.random.key(0), model, jnp.asarray(x), search)
    assert np.nanmin(np.diff(trace, axis=1)) > -1e-9, "the bound fell"
    return float(state.bound)


def test_the_bound_of_one_memory_with_gaps_is_the_evidence_of_the_observed_entries() -> None:
    x = _correlated()
    seen = [column[~np.isnan(column)] for column in x.T]
    model = mixture(x, family=Gaussian("diagonal"), weights=Uniform(), num_components=1)
    pair = Conjugacy.of(model.family).conjugate_base(model.prior)
    assert isinstance(pair, NormalGamma)
    expected = 0.0
    for d, column in enumerate(seen):
        a, b = float(pair.shape[d]), float(pair.rate[d])
        matrix = b / a * (np.eye(len(column)) + 1 / float(pair.relative))
        law: Any = multivariate_t
        expected += float(law.logpdf(column, np.full(len(column), pair.loc[d]), matrix, df=2 * a))
    np.testing.assert_allclose(_bound(model, x, base="conjugate", restarts=1), expected, rtol=1e-10)

    bits = np.where(np.isnan(x), np.nan, x > 0)
    model = mixture(bits, family=Bernoulli(), weights=Uniform(), num_components=1)
    expected = 0.0
    for column in bits.T:
        column = column[~np.isnan(column)]
        a, b = 0.5 + column.mean(), 1.5 - column.mean()
        expected += float(betaln(a + column.sum(), b + (1 - column).sum()) - betaln(a, b))
    np.testing.assert_allclose(_bound(model, bits, restarts=1), expected, rtol=1e-10)


def test_the_bound_with_gaps_stays_below_the_enumerated_evidence() -> None:
    evidence = _enumerated(partial(log_truncated, alpha=1.0, discount=0.0, truncation=3))[0]
    bound = _bound(mixture(X, family=Independent(), weights=StickBreaking(1.0), num_components=3), X)
    assert evidence - 3 < bound < evidence  # log 3! of it are the labellings that a mean field does not cover


@pytest.mark.slow
@pytest.mark.parametrize("base", ["model", "conjugate"])
def test_where_nothing_is_missing_features_of_their_own_have_the_plain_bound(base: str) -> None:
    rng = np.random.default_rng(5)
    x = np.concatenate([rng.normal(-2, 1, (20, 3)), rng.normal(2, 0.7, (15, 3))])
    plain = mixture(x, family=Gaussian("diagonal"), weights=StickBreaking(dist.Gamma(1.0, 1.0)), num_components=4)
    masked = replace(plain, missing=True)
    for batch_size in (None, 16):
        one, two = (_bound(model, x, base=base, batch_size=batch_size) for model in (plain, masked))
        np.testing.assert_allclose(one, two, rtol=1e-9)
    result = cavi.run(jax.random.key(0), masked, jnp.asarray(x), base=base, num_draws=50)
    assert result.sites["loc"].shape == result.sites["precision"].shape == (1, 50, 4, 3)


GAPS = np.array([[False, False], [True, False], [False, True], [True, True], [False, True]])
GEWEKE = {
    "blocked full": (Gaussian("full"), HYPER, "blocked"),
    "blocked tied": (Gaussian("tied"), Dirichlet(0.8), "blocked"),
    "blocked isotropic": (Gaussian("isotropic"), HYPER, "blocked"),
    "blocked LKJ (sliced)": (Gaussian("lkj"), Dirichlet(0.8), "blocked"),
    "collapsed full": (Gaussian("full"), HYPER, "collapsed"),
    "conjugate full": (Gaussian("full"), HYPER, "conjugate"),
    "auxiliary diagonal": (Gaussian("diagonal"), HYPER, "auxiliary"),
    "blocked spins": (Bernoulli("spin"), Dirichlet(0.8), "blocked"),
    "collapsed bits": (Bernoulli("01"), HYPER, "collapsed"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", GEWEKE)
def test_sweeps_with_gaps_and_new_data_leave_the_prior_as_it_is(name: str) -> None:
    """Observed entries given all else, then missing ones, then a sweep."""
    family, weights, kernel = GEWEKE[name]
    x = {"blocked spins": np.sign(DATA), "collapsed bits": (DATA > 0) * 1.0}.get(name, DATA)
    complete = mixture(x, family=family, weights=weights, num_components=3)
    integrated = kernel == "conjugate"
    kernel = "collapsed" if integrated else kernel
    settings = Settings(kernel, False, integrated, 2 if kernel == "collapsed" else 0)
    geweke(replace(complete, missing=True), len(GAPS), settings, all_sites, GAPS)


def test_a_bank_whose_conditional_is_not_known_is_refused() -> None:
    bank = dist.MultivariateStudentT(4.0, jnp.zeros((2, 3)), jnp.eye(3))
    with pytest.raises(InputError, match="engine 'gibbs' cannot draw those of a MultivariateStudentT; use engine"):
        completed(jax.random.key(0), bank, jnp.zeros((4, 3)), jnp.zeros(4, jnp.int32), None)
