"""Options that are named once: what each check refuses, and how a function that takes them looks."""

import inspect
import math
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from probam.errors import InputError
from probam.options import Check, Options, boolean, number, one_of, option, optional, takes, whole_number_in

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
        (SLOTS, 9, "x: expected a number of slots from 1 to 8; got 9"),
        (SLOTS, 2.0, "x: expected a number of slots from 1 to 8; got 2.0"),
        (boolean, 1, "x: expected True or False; got 1"),
        (optional(one_of("a", "b")), "c", "x: expected one of a, b; got 'c'"),
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
