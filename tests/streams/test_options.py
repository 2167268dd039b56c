"""Options of a stream: what is refused, what a file keeps of them, how the class shows them."""

import dataclasses
import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from probam.errors import InputError
from probam.reports.tree import write_tree
from probam.streams.options import StreamOptions
from probam.streams.stream import Stream

AS_SAVED: dict[str, Any] = {
    "family": "gaussian",
    "covariance": None,
    "alpha": 1.0,
    "discount": 0.0,
    "rule": "map",
    "energy": "collapsed",
    "seed": 0,
    "base": "evidence",
    "standardise": False,
    "normalise": False,
    "warm": 1000,
    "tidy_every": 0,
    "merge": True,
    "prune_count": 0,
    "prune_age": 0,
    "reservoir": 2000,
    "capacity": 128,
    "particles": 1,
    "resampling": "systematic",
    "rejuvenate_every": 0,
    "window": 500,
}
"""The attribute ``options`` of a file, where every option has its default."""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"family": 3}, "family: expected the name of a family, FILE.py:Name or a Family; got 3"),
        ({"covariance": True}, "covariance: expected a word; got True"),
        ({"alpha": "many"}, "alpha: expected a number; got 'many'"),
        ({"discount": None}, "discount: expected a number; got None"),
        ({"rule": "best"}, "rule: expected one of map, sample; got 'best'"),
        ({"energy": "free"}, "energy: expected one of collapsed, conditional, printed; got 'free'"),
        ({"energy": None}, "energy: expected one of collapsed, conditional, printed; got None"),
        ({"seed": 1.5}, "seed: expected a whole number from 0 to 2\\^32 - 1; got 1.5"),
        ({"prior": "normal"}, "prior: expected a mapping from names of sites"),
        ({"known": [2.0]}, "known: expected a mapping from names of sites"),
        ({"known": {"beta": "two"}}, "known: expected numbers for site 'beta'; got 'two'"),
        ({"standardise": "yes"}, "standardise: expected True or False; got 'yes'"),
        ({"warm": "all"}, "warm: expected a number of rows of at least 2; got 'all'"),
        ({"merge": 0}, "merge: expected True or False; got 0"),
        ({"tidy_every": 5, "prune_age": -1}, "prune_age: expected a number of data of at least 0; got -1"),
        ({"capacity": 0}, "capacity: expected a number of slots from 1 to 2\\^20; got 0"),
        ({"window": 2.5}, "window: expected a whole number from 1 to 2\\^20; got 2.5"),
        ({"half_life": "long"}, "half_life: expected a number; got 'long'"),
        ({"fading_exponent": float("nan")}, "fading_exponent: expected a number; got nan"),
        ({"drift": float("inf")}, "drift: expected a variance for each datum of at least 0; got inf"),
        ({"forget": 0}, "forget: expected a half-life in data above 0; got 0"),
        ({"learn_alpha": "yes"}, "learn_alpha: expected True, or the two numbers of its prior; got 'yes'"),
        ({"learn_every": 0}, "learn_every: expected a number of data of at least 1; got 0"),
    ],
)
def test_an_option_of_a_wrong_type_is_refused_before_any_data(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Stream(**options)


def test_the_class_shows_its_options_to_people_and_to_the_type_checker() -> None:
    parameters = inspect.signature(Stream).parameters
    assert list(parameters) == [each.name for each in dataclasses.fields(StreamOptions)]
    assert all(parameters[each.name].default == each.default for each in dataclasses.fields(StreamOptions))
    described = str(Stream.__init__.__doc__)
    assert all(f"\n    {name}: " in described for name in parameters)
    with pytest.raises(InputError, match="alpha: expected a number"):
        Stream(alpha="x")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="alhpa: Stream has no such option; it has family, covariance, alpha"):
        Stream(alhpa=2.0)  # type: ignore[call-arg]


def test_the_options_are_read_without_importing_jax() -> None:
    """``probam stream --help`` lists them."""
    program = "import sys, probam.streams.options; print({'jax', 'numpy'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


def test_a_file_keeps_every_option_and_those_of_change_where_they_differ() -> None:
    assert json.dumps(StreamOptions().attributes()) == json.dumps(AS_SAVED)
    changed = StreamOptions(alpha=2, particles=3, half_life=40, forget=5.0, forgetting="statistics").attributes()
    assert changed == AS_SAVED | {"alpha": 2.0, "particles": 3, "rule": "sample", "half_life": 40, "forget": 5.0}
    assert isinstance(changed["alpha"], float)
    learned = StreamOptions(learn_discount=True, learn_every=7).attributes()
    assert learned == AS_SAVED | {"learn_alpha": (1.0, 1.0), "learn_discount": (1.0, 3.0), "learn_every": 7}


def test_what_a_file_keeps_of_the_options_makes_the_same_options() -> None:
    for options in (
        StreamOptions(),
        StreamOptions(family="vmf", particles=4, resampling="optimal", learn_alpha=(2.0, 1.0)),
        StreamOptions(half_life=9.0, fading="power", slots=4, forget=3.0, rule="sample", discount=0.3),
    ):
        kept = json.loads(json.dumps(options.attributes()))
        assert StreamOptions(**kept).attributes() == options.attributes()


def test_a_file_with_the_attributes_of_layout_2_is_loaded(tmp_path: Path) -> None:
    """Written by hand, so that a change of the names or of the order of options in files is noticed."""
    rows = np.random.default_rng(0).normal(size=(30, 2))
    first = {name: value for name, value in AS_SAVED.items() if name != "base"}  # an option that came later
    attributes = {
        "layout": 2, "options": json.dumps(first | {"covariance": "diagonal", "slots": 5}),
        "columns": '["a", "b"]', "dtype": "float64", "seconds": 0.0, "num_data": 30, "state": "",
    }  # fmt: skip
    group = xr.Dataset({"waiting": (("waiting_0", "waiting_1"), rows)}, attrs=attributes)
    root = xr.Dataset(attrs={"probam_version": "0.1.0", "kind": "stream"})  # before files had a version
    write_tree(xr.DataTree.from_dict({"/": root, "stream": group}), tmp_path / "stream.nc")
    loaded = Stream.load(tmp_path / "stream.nc")
    assert loaded.num_data == 30
    assert list(loaded.memories().columns[-2:]) == ["a", "b"]
    expected = Stream(covariance="diagonal", slots=5, base="prior").partial_fit(rows).flush()
    assert loaded.log_predictive == expected.log_predictive
