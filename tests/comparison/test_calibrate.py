"""The calibration harness passes exact samplers and catches wrong ones."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpyro.distributions as dist
import pytest
import xarray as xr
from scipy.stats import norm

import probam.comparison.calibrate as calibration
from benchmarks.validation import verdict
from probam.comparison.calibrate import calibrate
from probam.errors import InputError, NumericalError
from probam.inference.common.result import EngineResult
from probam.models.gaussian import Gaussian
from probam.models.weights import Uniform
from probam.reports.summaries.ranks import rank_dataset
from tests.models.known_precision import KnownPrecision

PRIOR_SD, NOISE, NUM_DATA = 2.0, 1.5, 6

Sampler = Callable[[np.random.Generator, np.ndarray], np.ndarray]


def exact(rng: np.random.Generator, x: np.ndarray, spread: float = 1.0) -> np.ndarray:
    """99 draws of the mean of normal data under a normal prior; ``spread`` 1 is the posterior."""
    precision = 1 / PRIOR_SD**2 + len(x) / NOISE**2
    return np.asarray(x.sum() / NOISE**2 / precision + spread * rng.normal(size=99) / precision**0.5)


def doubled(rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
    return exact(rng, x, 2.0)


def prior_again(rng: np.random.Generator, _x: np.ndarray) -> np.ndarray:
    """A sampler that has not looked at the data."""
    return PRIOR_SD * rng.normal(size=99)


def ranked(sampler: Sampler, num_simulations: int = 200) -> xr.Dataset:
    """Ranks of the mean, of the log likelihood and of the log density at a point, in NumPy alone."""
    rng = np.random.default_rng(0)
    truths, draws = [], []
    for _ in range(num_simulations):
        mean = PRIOR_SD * rng.normal()
        x = mean + NOISE * rng.normal(size=NUM_DATA)
        values = np.concatenate([[mean], sampler(rng, x)])
        seen: dict[str, np.ndarray] = {
            "mean": values,
            "log_lik": np.sum(norm.logpdf(x, values[:, None], NOISE), axis=1),
            "probe": np.asarray(norm.logpdf(0.7, values, NOISE)),
        }
        truths.append({name: value[0] for name, value in seen.items()})
        draws.append({name: value[1:] for name, value in seen.items()})
    return rank_dataset(truths, draws)


def test_an_exact_sampler_passes() -> None:
    figures = ranked(exact)
    assert (figures["p_ecdf"].values > 0.01).all()
    assert (figures["p_chi_square"].values > 0.01).all()
    assert (figures["distance"].values < 1.2).all()


def test_a_posterior_of_twice_the_scale_is_caught_by_every_quantity() -> None:
    figures = ranked(doubled)
    assert (figures["p_ecdf"].values < 0.001).all()
    assert (figures["distance"].values > 1.2).all()


def test_only_the_log_likelihood_sees_that_the_prior_was_sampled_instead_of_the_posterior() -> None:
    """Modrak et al. (2023): ranks of parameters alone are uniform under the prior too."""
    figures = ranked(prior_again)
    p = dict(zip(figures["quantity"].values.tolist(), figures["p_ecdf"].values.tolist(), strict=True))
    assert p["mean"] > 0.01
    assert p["log_lik"] < 0.001


FAMILY = KnownPrecision(variance=NOISE**2, base_variance=PRIOR_SD**2)
PRIOR = {"loc": dist.Normal(np.zeros(2), PRIOR_SD).to_event(1)}


def engine(spread: float, fails: int = 0) -> Any:
    """One memory in two dimensions, sampled in closed form; the first ``fails`` runs raise."""
    rng = np.random.default_rng(1)
    runs = []

    def run(key: Any, model: Any, x: Any) -> EngineResult:
        del model
        runs.append(key)
        if len(runs) <= fails:
            raise NumericalError("astray")
        columns = [exact(rng, column, spread) for column in np.asarray(x).T]
        sites = {"loc": np.stack(columns, axis=1)[None, :, None, :]}  # (chain, draw, memory, feature)
        return EngineResult(sites, {"lp": np.zeros((1, 99))}, None, "", "sampled")

    return run


def calibrated(run: Any, monkeypatch: pytest.MonkeyPatch) -> xr.Dataset:
    monkeypatch.setattr(calibration, "find_engine", lambda name, options: run)
    return calibrate(
        FAMILY, Uniform(), "exact", components=1, prior=PRIOR, num_data=NUM_DATA, num_simulations=100, seed=3
    )


def test_the_models_own_program_and_an_exact_engine_fit_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = calibrated(engine(1.0), monkeypatch)
    assert figures["quantity"].values.tolist() == ["log_lik", "probe_energy"]  # one memory: nothing else varies
    assert verdict("nuts", figures) == "passes"
    assert (figures["distance"].values < 1.2).all()
    assert figures.attrs["num_data"] == NUM_DATA
    assert figures.sizes["simulation"] == 100
    monkeypatch.undo()
    wrong = calibrated(engine(2.0), monkeypatch)
    assert verdict("nuts", wrong) == "fails"
    assert verdict("svi", wrong) == "an approximation: 2 of 2 quantities miscalibrated"


def test_runs_that_fail_are_counted_and_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = calibrated(engine(1.0, fails=10), monkeypatch)
    assert (figures.attrs["failed"], figures.sizes["simulation"]) == (10, 90)
    with pytest.raises(NumericalError, match="60 of 100 runs"):
        calibrated(engine(1.0, fails=60), monkeypatch)


def test_what_cannot_be_calibrated_says_why() -> None:
    settings: dict[str, Any] = {"components": 2, "num_data": 5, "num_simulations": 20}
    with pytest.raises(InputError, match="also needs a prior on 'beta'"):
        calibrate(Gaussian("isotropic"), "uniform", "nuts", prior=PRIOR, **settings)
    with pytest.raises(InputError, match="num_simulations: expected at least 10; got 3"):
        calibrate(FAMILY, "uniform", "nuts", prior=PRIOR, **settings | {"num_simulations": 3})
    with pytest.raises(InputError, match="engine: expected one of"):
        calibrate(FAMILY, "uniform", "tarot", prior=PRIOR, **settings)
    with pytest.raises(InputError, match="has no such option"):
        calibrate(FAMILY, "uniform", "nuts", prior=PRIOR, burn_in=3, **settings)
