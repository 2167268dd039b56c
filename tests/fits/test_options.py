"""The options of a fit: what each refuses, and that documentation, engines and flags agree on them."""

import inspect
from dataclasses import fields
from importlib import import_module
from typing import Any

import numpy as np
import numpyro.distributions as dist
import pytest

import probam
from probam.errors import InputError
from probam.fits.options import ENGINES, FitOptions
from probam.models.gaussian import Gaussian
from probam.options import option_of

OPTIONS = {each.name: each for each in fields(FitOptions)}
OF_ENGINES = ("num_warmup", "num_draws", "num_chains", "checkpoint", "num_steps", "restarts")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("family", 3, "expected the name of a family, FILE.py:Name or a Family; got 3"),
        ("family", Gaussian, "expected the name of a family, FILE.py:Name or a Family; got <class"),
        ("components", -2, "expected a whole number of at least 1; got -2"),
        ("components", 2.0, "expected a whole number of at least 1; got 2.0"),
        ("alpha", "2", "expected a number, or a NumPyro distribution as its prior; got '2'"),
        ("discount", True, "expected a number, or a NumPyro distribution as its prior; got True"),
        ("given_weights", 0.5, "expected a number for each memory; got 0.5"),
        ("given_weights", ["a"], "expected a number for each memory; got ['a']"),
        ("engine", "gibs", "expected one of em, gradient_em, clam, svi, cavi, nuts, gibbs, smc; got 'gibs'"),
        ("seed", 1.5, "expected a whole number from 0 to 2^32 - 1; got 1.5"),
        ("seed", True, "expected a whole number from 0 to 2^32 - 1; got True"),
        ("seed", 2**32, "expected a whole number from 0 to 2^32 - 1; got 4294967296"),
        ("standardise", "yes", "expected True or False; got 'yes'"),
        ("missing", 1, "expected True or False; got 1"),
        ("columns", 3, "expected a list of names; got 3"),
        ("covariance", True, "expected a word; got True"),
        ("weights", 3, "expected a word; got 3"),
        ("variable", 3, "expected a word; got 3"),
        ("prior", dist.Normal(), "expected a mapping from sites to NumPyro distributions; got "),
        ("prior", {"loc": 3}, "expected a mapping from sites to NumPyro distributions; got {'loc': 3}"),
        ("progress", 3, "expected a function of one argument, a probam.Progress; got 3"),
    ],
)
def test_a_bad_option_is_named_before_any_data_are_read(name: str, value: Any, message: str) -> None:
    with pytest.raises(InputError) as error:
        probam.fit("no such file.csv", **{name: value})
    assert str(error.value).startswith(f"{name}: {message}")


def test_priors_numpy_numbers_and_arrays_are_options_too() -> None:
    chosen: dict[str, Any] = {
        "alpha": dist.Gamma(1.0, 1.0),
        "components": np.int64(3),
        "given_weights": np.array([0.5, 0.2, 0.3]),
        "seed": np.uint32(7),
    }
    assert FitOptions(**chosen).changed() == chosen


def test_an_engine_that_cannot_have_missing_entries_is_refused() -> None:
    with pytest.raises(
        InputError, match="missing: engine 'clam' does not integrate missing entries out; use one of em"
    ):
        FitOptions(missing=True, engine="clam")


def test_options_are_given_by_name_and_data_may_be() -> None:
    with pytest.raises(InputError, match="fit: options are given by name; got 'vmf' without one"):
        probam.fit("x.csv", "vmf")  # type: ignore[call-overload]
    with pytest.raises(InputError, match=r"x\.csv: no such file"):
        probam.fit(data="x.csv")


def test_the_signature_and_the_docstring_of_fit_show_every_option() -> None:
    parameters = inspect.signature(probam.fit).parameters
    assert list(parameters) == ["data", *OPTIONS, "engine_options"]
    for name, each in OPTIONS.items():
        assert parameters[name].default == each.default
        assert f"\n    {name}: " in str(probam.fit.__doc__)


@pytest.mark.parametrize("name", OF_ENGINES)
def test_the_help_of_an_engines_option_names_the_engines_that_have_it(name: str) -> None:
    have = {
        engine
        for engine in ENGINES
        if name in inspect.signature(import_module(f"probam.inference.{engine}.engine").run).parameters
    }
    words = option_of(OPTIONS[name]).help.replace(":", ",").replace(";", ",").replace(" (of each chain)", "").split(",")
    assert {word.strip() for word in words} & set(ENGINES) == have


def test_only_engine_options_that_were_given_reach_the_engine() -> None:
    assert FitOptions().of_engine == {}
    assert FitOptions(num_draws=3, restarts=2, seed=1).of_engine == {"num_draws": 3, "restarts": 2}
