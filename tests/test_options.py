"""Options that are named once: what each check refuses, and how a function that takes them looks."""

import inspect
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from probam.errors import InputError
from probam.options import (
    Check,
    Options,
    boolean,
    file_path,
    memory_size,
    number,
    one_of,
    option,
    optional,
    takes,
    takes_open,
    whole_number_in,
)

STRENGTH = number(what="strength", above=0, is_finite=True)
SHARE = number(least=0)
SLOTS = whole_number_in("a number of slots from 1 to 8", 1, 8)


@dataclass(frozen=True, kw_only=True)
class Walk(Options):
    """Options of a walk."""

    steps: int = option(10, help="Number of steps.")


class Walker:
    """Takes a walk."""

    @takes(Walk)
    def __init__(self, options: Walk) -> None:
        self.steps = options.steps


@takes_open(Walk)
def hike(data: str, options: Walk, others: dict[str, Any]) -> tuple[str, int, dict[str, Any]]:
    """Walk somewhere.

    Args:
        data: where.

    Raises:
        InputError: for options that cannot be.
    """
    return data, options.steps, others


@pytest.mark.parametrize(
    ("check", "value"),
    [
        (STRENGTH, 2),
        (STRENGTH, np.float32(0.5)),
        (STRENGTH, jnp.asarray(3.0)),
        (SHARE, 0.0),
        (SHARE, math.inf),
        (SLOTS, np.int64(8)),
        (boolean, np.True_),
        (optional(SHARE), None),
        (file_path, Path("x.nc")),
    ],
)
def test_values_of_the_type_and_within_the_bounds_pass(check: Check, value: Any) -> None:
    check("x", value)


@pytest.mark.parametrize(
    ("check", "value", "message"),
    [
        (STRENGTH, 0, "x: expected a strength above 0; got 0"),
        (STRENGTH, math.inf, "x: expected a strength above 0; got inf"),
        (STRENGTH, "2", "x: expected a strength above 0; got '2'"),
        (STRENGTH, True, "x: expected a strength above 0; got True"),
        (SHARE, math.nan, "x: expected a number of at least 0; got nan"),
        (SHARE, None, "x: expected a number of at least 0; got None"),
        (SHARE, np.array([1.0]), "x: expected a number of at least 0; got array"),
        (number(), -math.inf, "x: expected a number; got -inf"),
        (number(), 10**400, "x: expected a number; got 1000"),
        (memory_size, 10**400, "x: expected a size of memory, as 1GiB, 500MB or a number of bytes; got 1000"),
        (memory_size, np.ones(2), "x: expected a size of memory, as 1GiB, 500MB or a number of bytes; got array"),
        (SLOTS, 9, "x: expected a number of slots from 1 to 8; got 9"),
        (SLOTS, 2.0, "x: expected a number of slots from 1 to 8; got 2.0"),
        (boolean, 1, "x: expected True or False; got 1"),
        (optional(one_of("a", "b")), "c", "x: expected one of a, b; got 'c'"),
        (file_path, None, "x: expected the path of a file; got None"),
    ],
)
def test_other_values_are_refused_by_name(check: Check, value: Any, message: str) -> None:
    with pytest.raises(InputError) as error:
        check("x", value)
    assert str(error.value).startswith(message)


def test_a_class_that_takes_options_shows_them_and_says_its_own_name() -> None:
    assert str(inspect.signature(Walker)) == "(*, steps: int = 10) -> None"
    assert "steps: Number of steps." in str(Walker.__init__.__doc__)
    assert Walker(steps=3).steps == 3
    with pytest.raises(InputError, match="stepz: Walker has no such option; it has steps"):
        Walker(stepz=3)  # type: ignore[call-arg]


def test_an_open_function_hands_unknown_keywords_on() -> None:
    assert hike("there", steps=3, speed=2) == ("there", 3, {"speed": 2})
    assert hike(data="there") == ("there", 10, {})
    expected = "(data: str, *, steps: int = 10, **others: Any) -> tuple[str, int, dict[str, typing.Any]]"
    assert str(inspect.signature(hike)).replace("typing.Any)", "Any)") == expected
    with pytest.raises(InputError, match="hike: options are given by name; got 3 without one"):
        hike("there", 3)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="hike"):
        hike(steps=3)  # type: ignore[call-overload]


def test_options_are_described_after_the_other_arguments() -> None:
    text = str(hike.__doc__)
    assert text.index("data: where.") < text.index("steps: Number of steps.") < text.index("Raises:")
