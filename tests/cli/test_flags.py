"""Flags made from a class of options."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
import typer.main
from typer.testing import CliRunner

from probam.cli.flags import flags
from probam.cli.main import app
from probam.fits.options import FitOptions
from probam.options import Options, option


@dataclass(frozen=True, kw_only=True)
class Walk(Options):
    """Options of a walk."""

    steps: int = option(10, help="Number of steps.", group="Pace", flag=int)
    places: list[str] | None = option(
        None, help="Where to.", flag=str | None, metavar="A,B", parse=lambda text: text.split(",")
    )
    is_slow: bool = option(False, help="Slowly.", flag=bool)
    weather: str = option("dry", help="Not to be chosen on the command line.")


def _program(**how: Any) -> tuple[typer.Typer, list[dict[str, Any]]]:
    """A program of one command that notes what it receives."""
    program, received = typer.Typer(), []

    @program.command()
    @flags(Walk, **how)
    def walk(options: dict[str, Any], output: Path = Path("walk.txt"), as_json: bool = False) -> None:
        received.append(options | {"output": output, "as_json": as_json})

    return program, received


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], {"steps": 10, "is_slow": False}),
        (["--steps", "3", "--is-slow"], {"steps": 3, "is_slow": True}),
        (["--places", "hill,lake"], {"steps": 10, "is_slow": False, "places": ["hill", "lake"]}),
    ],
)
def test_a_command_receives_what_was_given_and_the_defaults(words: list[str], expected: dict[str, Any]) -> None:
    program, received = _program()
    assert CliRunner().invoke(program, words).exit_code == 0
    assert received == [expected | {"output": Path("walk.txt"), "as_json": False}]


def test_flags_stand_where_they_are_put_under_their_heading() -> None:
    program, _ = _program(only=("steps",), after="output")
    parameters = typer.main.get_command(program).params
    assert [parameter.name for parameter in parameters if parameter.name != "help"][:3] == [
        "output",
        "steps",
        "as_json",
    ]
    (steps,) = (parameter for parameter in parameters if parameter.name == "steps")
    assert (steps.help, steps.rich_help_panel) == ("Number of steps.", "Pace")  # type: ignore[attr-defined]


def test_a_switch_has_no_negative_form() -> None:
    program, _ = _program()
    assert CliRunner().invoke(program, ["--no-is-slow"]).exit_code == 2


def test_fit_and_compare_have_the_flags_of_the_same_options() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    fit, compare = ({each.name: each for each in commands[name].params} for name in ("fit", "compare"))
    for name in ("family", "covariance", "weights", "components", "standardise"):
        assert (fit[name].opts, fit[name].help, fit[name].default) == (
            compare[name].opts, compare[name].help, compare[name].default,
        )  # fmt: skip
        assert fit[name].default == getattr(FitOptions(), name)
