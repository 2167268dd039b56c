"""Variational inference: exact where the guide contains the posterior, below the evidence, frank about the rest."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from probam.errors import InputError
from probam.inference.common.result import EngineResult
from probam.inference.common.rows import weighed
from probam.inference.em import engine as em
from probam.inference.svi import engine as svi
from probam.inference.svi import start as svi_start
from probam.models.gaussian import Gaussian
from probam.models.mixture import Mixture, mixture
from probam.models.weights import weight_prior
from probam.numerics.within_covariance import within_covariance
from tests.inference.enumeration import log_truncated, posterior
from tests.models.known_precision import KnownPrecision

GROUPS = np.array([-4.1, -3.6, -0.2, 0.3, 0.9, 3.9, 4.4, 5.0])


def _groups_model(x: np.ndarray) -> Mixture:
    return mixture(x[:, None], family=KnownPrecision(1.0, 9.0), weights=weight_prior("dp", alpha=1.0), num_components=3)


def _finals(result: EngineResult) -> np.ndarray:
    assert result.objective is not None
    return result.objective[:, -1]


@pytest.mark.parametrize(
    ("guide", "optimiser"),
    [
        ("mean_field", "adam"),
        pytest.param("low_rank", "adam", marks=pytest.mark.slow),
        pytest.param("full", "adam", marks=pytest.mark.slow),
        pytest.param("full", "natural", marks=pytest.mark.slow),
        pytest.param("flow", "adam", marks=pytest.mark.slow),
    ],
)
def test_a_conjugate_posterior_is_found_and_the_bound_touches_the_evidence(guide: str, optimiser: str) -> None:
    """One memory of known variance: the posterior of its location is Gaussian, so the best guide is exact."""
    x = np.random.default_rng(0).normal(2.0, 1.0, (40, 2))
    variance, base = 1.0, 4.0
    model = mixture(x, family=KnownPrecision(variance, base), weights=weight_prior("uniform"), num_components=1)
    result = svi.run(
        jax.random.key(0), model, jnp.asarray(x), guide=guide, optimiser=optimiser, num_draws=4000, restarts=2
    )
    precision = len(x) / variance + 1 / base
    mean, sd = x.sum(0) / variance / precision, precision**-0.5
    draws = result.sites["loc"][0, :, 0]
    assert_allclose(draws.mean(0), mean, atol=5 * sd / 4000**0.5)
    assert_allclose(draws.std(0), sd, rtol=5 / 8000**0.5)
    law = stats.multivariate_normal(np.zeros(len(x)), variance * np.eye(len(x)) + base)
    evidence = float(np.sum(law.logpdf(x.T)))
    error = np.std(result.stats["lp"] - result.stats["log_q"])
    assert error < 0.1  # the ratios hardly vary: the guide is the posterior
    assert_allclose(_finals(result), evidence, atol=5 * error / 50**0.5 + 1e-6)
    assert result.status == "converged"
    assert result.restart_status == ("converged", "converged")
    assert result.pareto_k is not None
    if guide == "flow":  # as near as noise in its last steps allows, and k-hat sees the shape of a tail however small
        return
    assert result.pareto_k < 0.7
    assert result.evidence is not None
    assert abs(result.evidence.log_evidence - evidence) < 5 * result.evidence.se + 1e-6


@pytest.mark.parametrize(
    ("guide", "optimiser"),
    [
        ("mean_field", "natural"),
        pytest.param("mean_field", "adam", marks=pytest.mark.slow),
        pytest.param("low_rank", "adam", marks=pytest.mark.slow),
        pytest.param("full", "adam", marks=pytest.mark.slow),
        pytest.param("full", "natural", marks=pytest.mark.slow),
        pytest.param("flow", "adam", marks=pytest.mark.slow),
        pytest.param("sticks", "adam", marks=pytest.mark.slow),
        pytest.param("sticks", "natural", marks=pytest.mark.slow),
    ],
)
def test_the_bound_never_exceeds_the_exact_evidence_of_a_mixture(guide: str, optimiser: str) -> None:
    evidence, _, _ = posterior(GROUPS, lambda sizes: log_truncated(sizes, 1.0, 0.0, 3), 1.0, 9.0)
    result = svi.run(
        jax.random.key(0),
        _groups_model(GROUPS),
        jnp.asarray(GROUPS[:, None]),
        guide=guide,
        optimiser=optimiser,
        restarts=3,
    )
    bounds = result.stats["lp"] - result.stats["log_q"]  # 1000 draws
    assert bounds.mean() + 4 * bounds.std() / bounds.size**0.5 < evidence
    assert np.all(_finals(result) < evidence)
    assert _finals(result).max() > evidence - 2.2  # log 3! of it is the label symmetry that one mode cannot cover
    if result.evidence is not None:  # of one labelling
        assert result.evidence.log_evidence < evidence + 4 * result.evidence.se


def test_random_starts_lose_memories_that_starts_at_optima_keep() -> None:
    """Five groups ten standard deviations apart, two to four data each.

    A restart that lost a memory is dozens of nats lower and has converged all the same: only restarts that begin
    elsewhere can tell. The loss of one of five memories here costs 30 nats or more, and noise a tenth of a nat.
    """
    centres, sizes = np.linspace(-20, 20, 5), (4, 2, 4, 3, 4)
    x = np.repeat(centres, sizes) + np.random.default_rng(0).normal(0, 1, 17)
    family = KnownPrecision(1.0, 150.0)
    model = mixture(x[:, None], family=family, weights=weight_prior("dp", alpha=1.0), num_components=5)
    random, seeded = (
        svi.run(jax.random.key(3), model, jnp.asarray(x[:, None]), start=start, restarts=5, num_draws=100)
        for start in ("random", "em")
    )
    lost = _finals(random) < _finals(seeded).max() - 20
    assert lost.sum() >= 2
    assert {status for status, gone in zip(random.restart_status, lost, strict=True) if gone} == {"converged"}
    assert (_finals(seeded) < _finals(seeded).max() - 20).sum() <= 1
    memories = seeded.sites["loc"][0].mean(0)[:, 0]
    assert np.all(np.abs(memories - centres[:, None]).min(axis=1) < 3)
    assert len(seeded.restart_status) == 5


def test_rows_of_weight_zero_that_fill_up_the_data_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(0).normal(np.repeat(GROUPS, 5), 0.1)[:-1]
    x, model = jnp.asarray(rows[:, None]), _groups_model(rows)
    options: dict[str, Any] = {"restarts": 2, "num_steps": 100, "num_draws": 50, "start": "random"}
    filled = svi.run(jax.random.key(0), model, x, **options)
    monkeypatch.setattr(svi_start, "weighed", lambda model, x: (model, x))
    plain = svi.run(jax.random.key(0), model, x, **options)
    assert filled.objective is not None
    assert plain.objective is not None
    np.testing.assert_allclose(filled.objective, plain.objective, rtol=1e-8)
    np.testing.assert_allclose(filled.stats["lp"], plain.stats["lp"], rtol=1e-8)
    assert len(weighed(model, x)[1]) == 40


def test_too_few_steps_say_so() -> None:
    result = svi.run(
        jax.random.key(0),
        _groups_model(GROUPS),
        jnp.asarray(GROUPS[:, None]),
        optimiser="natural",
        restarts=3,
        num_steps=1000,
        tolerance=0.0,
        num_draws=50,
    )
    assert result.objective is not None
    assert result.objective.shape == (3, 1001)
    assert result.status == "max_steps"
    assert result.pareto_k is None  # from fewer than 100 draws no tail is read
    assert result.evidence is None


@pytest.mark.slow
def test_minibatches_find_the_same_optimum() -> None:
    rng = np.random.default_rng(1)
    x = np.concatenate([rng.normal(-3, 1, (600, 2)), rng.normal(3, 0.5, (400, 2))])
    model = mixture(x, family=Gaussian("diagonal"), weights=weight_prior("dirichlet"), num_components=2)
    for optimiser in ("adam", "natural"):
        whole, parts = (
            svi.run(jax.random.key(0), model, jnp.asarray(x), optimiser=optimiser, restarts=1, batch_size=b)
            for b in (1000, 100)
        )
        for result in (whole, parts):
            weights = np.sort(result.sites["weights"][0].mean(0))
            assert_allclose(weights, [0.4, 0.6], atol=0.03)
        assert abs(_finals(whole)[0] - _finals(parts)[0]) < 0.001 * len(x)  # nats per datum


@pytest.mark.slow
def test_full_covariances_of_discrete_data_stay_where_em_put_them() -> None:
    """Directions of nearly no spread: without whitening Adam walked off by six nats per datum (letters, 1500 steps)."""
    rng = np.random.default_rng(0)
    factors = rng.normal(0, 1, (3, 6, 6)) * np.array([3, 2, 1, 0.3, 0.1, 0.03])
    x = np.concatenate([rng.normal(c, 1, (400, 6)) @ f for c, f in zip((-1, 0, 2), factors, strict=True)])
    model = mixture(x, family=Gaussian("full"), weights=weight_prior("dirichlet"), num_components=3)
    for optimiser in ("adam", "natural"):
        result = svi.run(
            jax.random.key(0), model, jnp.asarray(x), optimiser=optimiser, num_steps=1500, restarts=1, batch_size=200
        )
        loss = (_start_height(model, x) - result.stats["lp"].mean()) / len(x)
        assert loss < 0.15, optimiser  # the draws of a Gaussian posterior are P / 2 nats below its mode


def _start_height(model: Mixture, x: np.ndarray) -> float:
    return float(em.run(jax.random.key(0), model, jnp.asarray(x)).stats["lp"][0, 0])


@pytest.mark.slow
def test_a_flow_comes_nearer_to_the_evidence_of_a_funnel_and_k_hat_condemns_the_mean_field() -> None:
    """Two data, one memory: its location is the less certain the smaller its precision; the evidence by quadrature."""
    x = np.array([[-0.4], [0.7]])
    model = mixture(x, family=Gaussian("diagonal"), weights=weight_prior("uniform"), num_components=1)
    poor, good = (
        svi.run(jax.random.key(0), model, jnp.asarray(x), guide=guide, restarts=1, num_particles=8, num_draws=4000)
        for guide in ("mean_field", "flow")
    )
    loc, log_precision = np.linspace(-8, 8, 1601)[:, None], np.linspace(-12, 6, 1801)
    sd = np.exp(-0.5 * log_precision)
    log_joint = np.asarray(stats.norm.logpdf(loc, x.mean(), 2 * x.std()))
    for datum in x[:, 0]:
        log_joint = log_joint + stats.norm.logpdf(datum, loc, sd)
    law = stats.gamma(2.0, scale=1 / (2.0 * within_covariance(x, "diagonal")[0, 0]))
    log_joint = log_joint + law.logpdf(np.exp(log_precision)) + log_precision
    evidence = np.log(np.sum(np.exp(log_joint)) * 0.01 * 0.01)
    bounds = [result.stats["lp"] - result.stats["log_q"] for result in (poor, good)]
    means, errors = [b.mean() for b in bounds], [b.std() / b.size**0.5 for b in bounds]
    assert means[0] + 4 * errors[0] < means[1] - 4 * errors[1] < evidence
    assert poor.pareto_k is not None
    assert poor.pareto_k > 0.7
    assert poor.evidence is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("guide", "optimiser"), [("mean_field", "natural"), ("full", "adam"), ("sticks", "natural"), ("flow", "adam")]
)
def test_single_precision_stays_single_and_finds_the_same_bound(guide: str, optimiser: str) -> None:
    finals = []
    for dtype in (np.float64, np.float32):
        x = GROUPS.astype(dtype)
        with jax.enable_x64(dtype == np.float64):
            result = svi.run(
                jax.random.key(0),
                _groups_model(x),
                jnp.asarray(x[:, None]),
                guide=guide,
                optimiser=optimiser,
                restarts=3,
            )
        assert result.sites["loc"].dtype == dtype
        finals.append((result.stats["lp"] - result.stats["log_q"]).astype(float))
    error = (finals[0].var() / finals[0].size + finals[1].var() / finals[1].size) ** 0.5
    assert abs(finals[0].mean() - finals[1].mean()) < 4 * error + 0.02


def test_bad_options_are_named() -> None:
    x = np.random.default_rng(0).normal(0, 1, (12, 2))
    model = mixture(x, family=Gaussian("isotropic"), weights=weight_prior("uniform"), num_components=2)
    for options, message in (
        ({"guide": "spline"}, "guide: expected one of mean_field, low_rank, full, flow, sticks; got 'spline'"),
        ({"guide": "sticks"}, "guide: 'sticks' needs weights 'dirichlet', 'dp' or 'pyp'"),
        ({"batch_size": 13}, "batch_size: expected 1 to 12 rows; got 13"),
        ({"optimiser": "sgd"}, "optimiser: expected one of adam, natural; got 'sgd'"),
        ({"optimiser": "natural", "guide": "flow"}, "'natural' is for the guides 'mean_field', 'full' and 'sticks'"),
        ({"start": "prior"}, "start: expected 'em' or 'random'; got 'prior'"),
        ({"tolerance": -1.0}, "tolerance: expected at least 0 nats per datum; got -1"),
        ({"num_steps": 0}, "num_steps: expected at least 1; got 0"),
    ):
        with pytest.raises(InputError, match=message):
            svi.run(jax.random.key(0), model, jnp.asarray(x), **options)
