"""Values of another type for every option of every engine and of every class of options, found by asking for them."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from probam.errors import InputError
from probam.fits.choices import engine_options, find_engine
from probam.fits.options import ENGINES, FitOptions
from probam.options import Options
from probam.streams.options import StreamOptions

ODD: dict[str, Any] = {
    "a table": np.ones((2, 2)),
    "words": np.array(["a", "b"]),
    "a set": set(),
    "bytes": b"x",
    "a complex number": 1 + 2j,
    "no time": np.datetime64("NaT"),
    "an object": object(),
    "an array of JAX": jnp.ones(2),
}
"""What no option takes."""

TOO_LARGE = 10**400


def refused(name: str, value: Any, engine: str) -> str:
    with pytest.raises(InputError) as caught:
        find_engine(engine, {name: value})
    return str(caught.value)


@pytest.mark.parametrize("engine", ENGINES)
def test_an_option_of_an_engine_is_refused_by_name_before_the_engine_begins(engine: str) -> None:
    for name in engine_options(engine):
        for value in (*ODD.values(), TOO_LARGE):
            said = refused(name, value, engine)
            assert said.startswith(f"{name}: expected "), said
            assert "; got " in said, said
            assert len(said) < 200, said


def test_a_whole_number_that_fills_no_word_is_refused_with_the_bound() -> None:
    assert refused("restarts", 2**31, "em") == "restarts: expected a number below 2^31; got 2147483648"
    find_engine("em", {"restarts": 2**31 - 1, "tolerance": 2**31})


@pytest.mark.parametrize("options", [FitOptions, StreamOptions], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("what", [*ODD, "too large a number"])
def test_an_option_is_taken_or_refused_by_name(options: type[Options], what: str) -> None:
    value, num_refused = ODD.get(what, TOO_LARGE), 0
    for field in dataclasses.fields(options):
        try:
            with pytest.raises(InputError) as caught:
                options(**{field.name: value})
        except pytest.fail.Exception:
            continue  # an option of any type
        num_refused += 1
        assert field.name in str(caught.value)
        assert len(str(caught.value)) < 400, caught.value
    assert num_refused >= len(dataclasses.fields(options)) / 2
