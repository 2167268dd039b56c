"""The prior as groups of a fit: its log density is SciPy's, its draws have its moments, and a file keeps it.

Draws: 1000 of a fixed key; a mean within five of its own standard errors fails once in 1.7 million.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import xarray as xr
from numpyro.infer.util import log_density
from scipy import stats

import probam.fits.fit as api
from probam.errors import InputError
from probam.fits.fitted import Fit
from probam.fits.prior_text import priors_of_text, text_of_law
from probam.reports.tree import variable, write_tree
from probam.streams.stream import Stream

RNG = np.random.default_rng(8)
X = np.r_[RNG.normal(-3, 1, (18, 2)), RNG.normal(3, 1, (14, 2))]
GROUPS = ("prior", "prior_predictive", "log_prior")
OWN = {"loc": dist.Normal(0.5, 2.0), "beta": dist.Gamma(6.0, 3.0)}


def fitted(x: np.ndarray = X, **options: Any) -> Fit:
    own = {"covariance": "isotropic", "weights": "dp", "components": 3, "engine": "em", "restarts": 1}
    return api.fit(x, **own | options)


@pytest.fixture(scope="module")
def fit() -> Fit:
    return fitted(prior=OWN, alpha=dist.Gamma(3.0, 2.0), standardise=True)


def test_the_log_prior_of_each_site_is_that_of_scipy(fit: Fit) -> None:
    group, draw = fit.group("log_prior"), fit.tree["posterior"].to_dataset().isel(chain=0, draw=0)
    alpha = float(draw["alpha"])
    expected = {
        "loc": stats.norm.logpdf(draw["loc"].values, 0.5, 2.0).sum(axis=1),
        "beta": stats.gamma.logpdf(draw["beta"].values, 6, scale=1 / 3),
        "alpha": stats.gamma.logpdf(alpha, 3, scale=1 / 2),
        "sticks": stats.beta.logpdf(draw["sticks"].values, 1, alpha).sum(),
    }
    assert set(group.data_vars) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(group[name].isel(chain=0, draw=0).values, value, rtol=1e-9, err_msg=name)
    total, _ = log_density(fit.model.parameters, (), {}, {name: value[0] for name, value in fit.draws().items()})
    np.testing.assert_allclose(sum(float(values.sum()) for values in group.data_vars.values()), total, rtol=1e-9)


def near(values: np.ndarray, expected: float) -> None:
    """The mean of independent values is ``expected`` within five standard errors."""
    error = values.std(ddof=1) / np.sqrt(len(values))
    assert abs(values.mean() - expected) < 5 * error, (values.mean(), expected, error)


def test_draws_of_the_prior_have_its_moments(fit: Fit) -> None:
    draws = {str(name): values.values[0] for name, values in fit.group("prior").data_vars.items()}
    assert set(draws) == set(fit.tree["posterior"].data_vars)
    near(draws["loc"][:, 1, 0], 0.5)
    near((draws["loc"][:, 2, 1] - 0.5) ** 2, 4.0)
    near(draws["beta"], 6 / 3)
    near(draws["alpha"], 3 / 2)
    near(draws["sticks"][:, 0] - 1 / (1 + draws["alpha"]), 0.0)  # E of Beta(1, alpha)
    np.testing.assert_allclose(draws["weights"].sum(axis=1), 1)
    np.testing.assert_allclose(draws["weights"][:, 0], draws["sticks"][:, 0])


def test_data_drawn_from_the_prior_have_its_moments_in_the_units_of_the_data(fit: Fit) -> None:
    """E x = E mu and var x = var mu + E 1 / (2 beta), of which a Gamma(6, 3) gives 3 / 10, in units of the model."""
    group = fit.group("prior_predictive")
    assert dict(group.sizes) == {"chain": 1, "draw": 1000, "datum": 32, "feature": 2}
    scale, center = fit.standardiser.scale, fit.standardiser.center
    first = group["x"].values[0, :, 0, 1].astype(np.float64)  # one datum of each draw: the others share its parameters
    in_model_units = (first - center[1]) / scale[1]
    near(in_model_units, 0.5)
    near((in_model_units - 0.5) ** 2, 4.0 + 0.3)


def test_a_prior_that_is_given_comes_back_from_the_file(fit: Fit, tmp_path: Path) -> None:
    fit.save(tmp_path / "lean.nc")
    loaded = api.load(tmp_path / "lean.nc")
    assert not set(GROUPS) & set(loaded.tree.children)
    for name in GROUPS:
        xr.testing.assert_identical(loaded.group(name), fit.group(name))


@pytest.mark.parametrize(
    "law",
    [
        dist.Normal(0.1, 2.5),
        dist.Normal(np.array([0.1, -2.0]), 1.0).to_event(1),
        dist.Normal(0.0, 3.0).expand([2]).to_event(1),
        dist.MultivariateNormal(jnp.zeros(2), jnp.array([[2.0, 0.3], [0.3, 1.0]])),
        dist.LogNormal(0.1, 1 / 3),
    ],
)
def test_a_law_reads_back_as_it_was_written(law: dist.Distribution) -> None:
    text = text_of_law(law)
    assert text is not None
    again = priors_of_text([f"x={text}"])["x"]
    value = np.full(law.shape(), 0.7)
    own, read = (np.sum(np.asarray(each.log_prob(value))) for each in (law, again))
    np.testing.assert_array_equal(own, read)


def test_a_prior_that_no_file_can_hold_is_named(tmp_path: Path) -> None:
    halves = dist.MixtureSameFamily(dist.Categorical(np.array([0.5, 0.5])), dist.Gamma(np.array([2.0, 9.0]), 1.0))
    fit = fitted(alpha=halves)
    fit.save(tmp_path / "fit.nc")
    for each in (fit, api.load(tmp_path / "fit.nc")):
        with pytest.raises(InputError, match="the prior of alpha is not one that a file can hold"):
            each.group("prior")
    tree = fit.tree.copy()
    del tree.attrs["given_prior"]
    write_tree(tree, tmp_path / "old.nc")
    with pytest.raises(InputError, match="does not say which prior it had"):
        api.load(tmp_path / "old.nc").group("log_prior")


def test_the_prior_of_a_stream_is_that_of_its_base_measure(tmp_path: Path) -> None:
    stream = Stream(covariance="diagonal", alpha=1.5).partial_fit(X)
    fit = stream.to_fit(num_draws=20)
    fit.save(tmp_path / "stream.nc")
    group = api.load(tmp_path / "stream.nc").group("log_prior")
    xr.testing.assert_allclose(group, fit.group("log_prior"))
    sticks = variable(fit.tree, "posterior", "sticks").values[0]
    np.testing.assert_allclose(group["sticks"].values[0], stats.beta.logpdf(sticks, 1, 1.5).sum(axis=1), rtol=1e-6)


def test_other_numbers_of_a_prior_give_another_place_in_the_cache(fit: Fit) -> None:
    """A group is found by what it is made of, and the prior is part of that."""
    from probam.fits.derived import _sources  # the key, which has no other sign

    other = fitted(prior=OWN | {"loc": dist.Normal(0.5, 2.5)}, standardise=True, alpha=dist.Gamma(3.0, 2.0))
    own, others = (_sources(fit.tree, model) for model in (fit.model, other.model))
    assert not own.equals(others)
    assert own.equals(_sources(fit.tree, jax.tree.map(lambda leaf: leaf, fit.model)))
