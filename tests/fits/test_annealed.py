"""Annealed recall of a fit, and draws by it: exact laws of the fitted mixture, units, families, refusals."""

from functools import cache
from typing import Any

import numpy as np
import pytest
from scipy import stats

import probam.fits.fit as api
from probam.data.shipped import load_shipped
from probam.errors import InputError
from probam.fits.fitted import Fit


@cache
def fitted(family: str = "gaussian", **options: Any) -> Fit:
    waiting = load_shipped("faithful").values[:, 1:]
    x = (waiting > 68).astype(float) if family == "bernoulli" else waiting
    return api.fit(x, family=family, components=2, weights="uniform", engine="em", restarts=1, **options)


def normals(fit: Fit) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights, means and standard deviations of the memories in data units."""
    group = fit.group("memory")
    return group["weight"].values, group["mean"].values[:, 0], group["sd"].values[:, 0]


def law(weights: np.ndarray, loc: np.ndarray, widths: np.ndarray) -> Any:
    return lambda x: stats.norm.cdf(np.asarray(x)[..., None], loc, widths) @ weights


@pytest.mark.parametrize("by", ["ode", "sde"])
def test_draws_by_annealed_recall_have_the_law_of_the_fit(by: str) -> None:
    fit = fitted(standardise=True)
    drawn = fit.sample(1500, seed=1, by=by)
    assert drawn.shape == (1500, 1)
    assert stats.kstest(drawn[:, 0], law(*normals(fit))).pvalue > 1e-2  # seed fixed
    np.testing.assert_array_equal(fit.sample(1500, seed=1, by=by), drawn)


def test_annealed_recall_is_the_posterior_of_the_clean_datum() -> None:
    """The fit is standardised, so that noise of 0.5 is half a standard deviation of the data."""
    fit = fitted(standardise=True)
    weights, loc, widths = normals(fit)
    noise, query = 0.5 * float(fit.standardiser.scale[0]), 66.0
    share = weights * stats.norm.pdf(query, loc, np.sqrt(widths**2 + noise**2))
    gain = widths**2 / (widths**2 + noise**2)
    exact = law(share / share.sum(), loc + gain * (query - loc), np.sqrt(gain) * noise)
    ended = fit.anneal(np.full((1500, 1), query), 0.5, by="sde", seed=2)
    assert stats.kstest(ended["state"].values[:, 0], exact).pvalue > 1e-2  # seed fixed
    assert set(ended["responsible"].values) == {int(share.argmax())}
    assert abs((ended["basin"].values == 0).mean() - share[0] / share.sum()) < 0.05
    np.testing.assert_allclose(ended["energy"], fit.energy(ended["state"].values), rtol=1e-9)


def test_the_flow_keeps_the_order_of_states_and_their_quantiles() -> None:
    """In one dimension the ODE maps each quantile of the noisy law to the same quantile of the clean one."""
    fit = fitted()
    weights, loc, widths = normals(fit)
    queries = np.linspace(40, 100, 13)
    quantiles = law(weights, loc, np.sqrt(widths**2 + 100))(queries)
    ends = fit.anneal(queries[:, None], 10.0)["state"].values[:, 0]
    np.testing.assert_allclose(law(weights, loc, widths)(ends), quantiles, atol=2e-4)


def test_bits_are_recalled_as_bits_and_laplace_memories_have_a_closed_form() -> None:
    bits = fitted("bernoulli").anneal(np.array([[-0.6], [0.2], [0.9], [1.7]]), 0.3)
    np.testing.assert_allclose(bits["state"].values[:, 0], [0, 0, 1, 1], atol=1e-3)
    peaks = fitted("laplace")
    assert peaks.anneal([[60.0], [90.0]], 8.0)["state"].shape == (2, 1)


def test_what_annealed_recall_cannot_do_is_said() -> None:
    fit = fitted()
    for options, why in (
        ({"noise": 0.0}, "noise: expected a number above 0; got 0.0"),
        ({"noise": 1.0, "by": "pde"}, "by: expected one of ode, sde; got 'pde'"),
        ({"noise": 1.0, "num_steps": 1}, "num_steps: expected a whole number of at least 2; got 1"),
    ):
        with pytest.raises(InputError, match=why):
            fit.anneal([[60.0]], **options)
    with pytest.raises(InputError, match="by: expected one of draws, ode, sde; got 'exact'"):
        fit.sample(3, by="exact")
    with pytest.raises(InputError, match="EllipticalStudentT have no density in closed form once normal noise"):
        fitted("student_t").anneal([[60.0]], 1.0)
