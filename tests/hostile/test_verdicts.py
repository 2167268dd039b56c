"""Any value of an option is taken or refused by name, and the command line and Python agree on which."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from probam.errors import InputError
from probam.fits.options import ENGINES, FitOptions
from probam.options import Options, option_of
from probam.streams.options import StreamOptions
from tests.cli.conftest import COMMANDS

FEW = settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])

CLASSES: dict[str, type[Options]] = {"fit": FitOptions, "stream": StreamOptions}
NUMBERS = {
    (command, each.name): option_of(each).flag
    for command, options in CLASSES.items()
    for each in fields(options)
    if option_of(each).flag in (int, float, int | None, float | None)
}
WORDS = {
    (command, each.name)
    for command, options in CLASSES.items()
    for each in fields(options)
    if option_of(each).flag in (str, str | None) and option_of(each).parse is None and each.name != "sample_weight"
}
ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.binary(max_size=4),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    st.sampled_from([np.float32("nan"), np.arange(3), np.int64(2), object, len, 1j, ..., np.array(2), np.array([[]])]),
)


def verdict(make: Callable[[], object]) -> str:
    """What was said of the options; empty where they were taken."""
    try:
        with pytest.raises(InputError) as caught:  # under which wrong types meet the message that a user would
            make()
    except pytest.fail.Exception:
        return ""
    assert "\n" not in str(caught.value)
    return str(caught.value)


def by_python(command: str, name: str, value: Any) -> str:
    return verdict(lambda: CLASSES[command](**{name: value}))


def by_command(command: str, name: str, text: str) -> str:
    """The verdict on a flag, as the command's own parser hands it on."""
    parser = COMMANDS[command]
    words = ["data.csv", f"--{name.replace('_', '-')}={text}"]
    values = parser.make_context(command, words).params
    known = {each.name for each in fields(CLASSES[command]) if option_of(each).flag is not None}
    given = {key: value for key, value in values.items() if key in known and value is not None and key != "prior"}
    return verdict(lambda: CLASSES[command](**given))


@pytest.mark.parametrize(("command", "name"), NUMBERS, ids=map(" ".join, NUMBERS))
@FEW
@given(data=st.data())
def test_a_number_has_one_verdict(command: str, name: str, data: st.DataObject) -> None:
    whole = NUMBERS[command, name] in (int, int | None)
    value = data.draw(
        st.one_of(st.integers(-3, 5), st.integers()) if whole else st.one_of(st.floats(), st.floats(-2, 2))
    )
    python = by_python(command, name, value)
    assert by_command(command, name, repr(value)) == python
    assert python == "" or name in python


@pytest.mark.parametrize(("command", "name"), sorted(WORDS), ids=map(" ".join, sorted(WORDS)))
@FEW
@given(
    text=st.one_of(
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=10), st.sampled_from(ENGINES)
    )
)
def test_a_word_has_one_verdict(command: str, name: str, text: str) -> None:
    python = by_python(command, name, text)
    assert by_command(command, name, text) == python
    assert python == "" or name in python


@pytest.mark.parametrize("command", CLASSES)
@settings(FEW, max_examples=200)
@given(data=st.data())
def test_anything_at_all_is_taken_or_refused_by_name(command: str, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from([each.name for each in fields(CLASSES[command])]))
    value = data.draw(ANYTHING)
    said = by_python(command, name, value)
    assert said == "" or name in said


def test_there_are_options_of_both_kinds() -> None:
    assert len(NUMBERS) > 15
    assert len(WORDS) > 10
