"""Functions of ArviZ take a fit: every public one is called, and those that refuse are listed with the line."""

import inspect
import traceback
import warnings
from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.metadata import version
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from packaging.version import Version

import probam.fits.fit as api
from probam.errors import InputError
from probam.fits.fitted import Fit
from probam.reports.tree import variable

if Version(version("arviz")) >= Version("1"):
    pytest.skip("the tables are of ArviZ below 1, which Python 3.11 has", allow_module_level=True)

from tests.fits.arviz_calls import (
    BROKEN,
    BROKEN_LINE,
    ENDLESS,
    NO_FIT,
    REFUSED,
    SEVERAL_DRAWS,
    TABLES,
    stats,
)

RNG = np.random.default_rng(5)
X = np.r_[RNG.normal(-2, 1, (22, 2)), RNG.normal(2, 1, (18, 2))]
ENGINES: dict[str, dict[str, Any]] = {
    "nuts": {"num_chains": 2, "num_draws": 60, "num_warmup": 60},
    "gibbs": {"num_chains": 2, "num_draws": 60, "num_warmup": 30},
    "smc": {"num_chains": 2, "num_particles": 60},
    "svi": {"num_draws": 120, "restarts": 1},
    "cavi": {"num_draws": 120},
    "em": {"restarts": 1},
}


@cache
def fitted(engine: str, **options: Any) -> Fit:
    """A fit of two memories, made once."""
    model: dict[str, Any] = {"covariance": "isotropic", "weights": "dirichlet", "components": 2, "standardise": True}
    return api.fit(X, **model, engine=engine, **ENGINES[engine], **options)


def refusal(call: Callable[[xr.DataTree], Any], tree: xr.DataTree) -> tuple[Exception, list[str]] | None:
    """What a function raises, and the lines through which it came; None where it takes the tree."""
    plt.switch_backend("agg")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            call(tree)
    except Exception as error:
        return error, [str(frame.line) for frame in traceback.extract_tb(error.__traceback__)]
    finally:
        plt.close("all")
    return None


def walk(library: str, engine: str, *, relabelled: bool) -> dict[str, str]:
    """Functions that do not do what the tables say: they fail, or do not refuse as listed."""
    tree = fitted(engine).to_arviz(feature="x0", relabelled=relabelled)
    wrong = {}
    for name, call in TABLES[library].items():
        found = refusal(call, tree)
        line = refusing_line(library, name, engine)
        if line is None and found is not None:
            wrong[name] = f"{type(found[0]).__name__}: {found[0]}"
        elif line is not None and (found is None or line not in found[1]):
            wrong[name] = f"expected to be refused by {line!r}; got {found}"
    return wrong


def refusing_line(library: str, name: str, engine: str) -> str | None:
    """The line of ArviZ that refuses fits of an engine."""
    if library == "arviz_plots" and name in BROKEN and Version(version("xarray")) >= Version("2026.4"):
        return BROKEN_LINE
    engines, line = REFUSED.get((library, name), ((engine,), ""))
    return None if engine in engines else line


@pytest.mark.parametrize("library", list(TABLES))
def test_every_public_function_is_called_or_is_about_no_fit(library: str) -> None:
    module = import_module(library)
    public = {name for name in dir(module) if not name.startswith("_") and inspect.isfunction(getattr(module, name))}
    called, others = set(TABLES[library]), set(NO_FIT[library])
    assert called | others == public
    assert not called & others
    assert len({name for _, name in REFUSED}) <= 10


def test_every_function_of_arviz_takes_a_fit_by_nuts_or_refuses_as_listed() -> None:
    assert walk("arviz_stats", "nuts", relabelled=True) == {}
    assert walk("arviz_plots", "nuts", relabelled=True) == {}


def test_a_point_estimate_is_taken_where_one_draw_is_enough() -> None:
    tree = fitted("em").to_arviz(feature="x0")
    for name, call in TABLES["arviz_stats"].items():
        if name != ENDLESS and refusing_line("arviz_stats", name, "em") is None:
            assert (refusal(call, tree) is not None) == (name in SEVERAL_DRAWS), name


@pytest.mark.slow
@pytest.mark.parametrize("relabelled", [True, False])
@pytest.mark.parametrize("engine", [name for name in ENGINES if name != "em"])
@pytest.mark.parametrize("library", list(TABLES))
def test_every_function_takes_the_fit_of_every_engine_or_refuses_as_listed(
    library: str, engine: str, relabelled: bool
) -> None:
    assert walk(library, engine, relabelled=relabelled) == {}


def test_all_groups_have_the_same_draws_and_memories_are_numbered_alike() -> None:
    fit = fitted("nuts")
    tree = fit.to_arviz(num_draws=50)
    draws = variable(tree, "posterior", "draw").values
    assert len(draws) == 25
    for name in ("posterior", "sample_stats", "log_likelihood", "log_prior", "posterior_predictive"):
        assert tree[name].sizes["chain"] == 2
        np.testing.assert_array_equal(variable(tree, name, "draw").values, draws)
    permutation = fit.group("memory")["permutation"].values.reshape(2, 60, 2)
    own = fit.tree["posterior"].to_dataset()
    for chain, position in ((0, 0), (1, 13), (1, 24)):
        draw = draws[position]
        order = permutation[chain, draw]
        np.testing.assert_array_equal(
            variable(tree, "posterior", "loc").values[chain, position], own["loc"].values[chain, draw][order]
        )
        prior = fit.group("log_prior")["loc"].values[chain, draw]
        np.testing.assert_array_equal(variable(tree, "log_prior", "loc").values[chain, position], prior[order])
    as_sampled = fit.to_arviz(num_draws=50, relabelled=False)
    xr.testing.assert_identical(as_sampled["posterior"].to_dataset(), own.sel(draw=draws))


def test_replicated_data_are_those_of_their_draw() -> None:
    """The mean of a replicated row is the mixture's: sum_k w_k mu_k, in units of the data."""
    fit = fitted("nuts")
    tree = fit.to_arviz()
    group = tree["posterior"].to_dataset()
    mean = (group["weights"] * group["loc"]).sum("memory") * fit.standardiser.scale + fit.standardiser.center
    away = (variable(tree, "posterior_predictive", "x") - mean).mean("datum").values.reshape(-1, 2)
    error = away.std(axis=0) / np.sqrt(len(away))
    assert (np.abs(away.mean(axis=0)) < 5 * error).all(), (away.mean(axis=0), error)


def test_one_feature_leaves_the_others_beside_the_data() -> None:
    fit = fitted("em")
    whole, one = fit.to_arviz(), fit.to_arviz(feature="x1")
    assert variable(whole, "observed_data", "x").dims == ("datum", "feature")
    assert variable(one, "observed_data", "x").dims == ("datum",)
    np.testing.assert_array_equal(variable(one, "observed_data", "x"), X[:, 1])
    np.testing.assert_array_equal(variable(one, "constant_data", "x0"), X[:, 0])
    np.testing.assert_array_equal(
        variable(one, "posterior_predictive", "x"),
        variable(whole, "posterior_predictive", "x").sel(feature="x1", drop=True),
    )


def test_sticks_go_where_memories_are_renumbered_and_weights_of_rows_count_in_the_likelihood() -> None:
    weight = np.r_[np.full(20, 2.0), np.zeros(5), np.ones(15)]
    options: dict[str, Any] = {
        "covariance": "isotropic",
        "weights": "dp",
        "components": 3,
        "engine": "em",
        "restarts": 1,
    }
    fit = api.fit(X, **options, sample_weight=weight)
    tree = fit.to_arviz()
    assert "sticks" not in tree["posterior"]
    assert "sticks" in fit.to_arviz(relabelled=False)["posterior"]
    assert set(tree["observed_data"].data_vars) == {"x"}
    np.testing.assert_array_equal(variable(tree, "constant_data", "weight"), weight)
    own = variable(fit.tree, "log_likelihood", "x").values
    np.testing.assert_allclose(variable(tree, "log_likelihood", "x").values, own * weight)


def test_power_scaling_finds_a_prior_that_the_data_contradict() -> None:
    """A tight prior on the locations, far from the data: both the prior and the likelihood move the posterior."""
    import numpyro.distributions as dist

    options: dict[str, Any] = {"covariance": "isotropic", "weights": "uniform", "components": 1, "engine": "gibbs"}
    conflict = api.fit(X, **options, num_chains=2, num_draws=200, num_warmup=20, prior={"loc": dist.Normal(3.0, 0.2)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = stats.psense_summary(conflict.to_arviz(), prior_var_names=["loc"])
    assert table.loc["loc[0, x0]", "diagnosis"] == "potential prior-data conflict"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"feature": "x7"}, "feature: expected one of x0, x1; got 'x7'"),
        ({"num_draws": 1}, "num_draws: expected at least one for each of 2 chains; got 1"),
        ({"num_draws": 0.5}, "num_draws: "),
        ({"relabelled": "yes"}, "relabelled: "),
    ],
)
def test_what_is_wrong_is_said(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        fitted("nuts").to_arviz(**options)
