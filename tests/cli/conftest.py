"""What tests of the command line share: a scratch folder, a refused command, one saved fit."""

import contextlib
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import typer.main

from probam.cli.main import app, main

Refusal = Callable[..., str]


def _commands() -> dict[str, Any]:
    """Every command by its words: ``fit``, ``memory list``."""
    found: dict[str, Any] = {}
    for name, command in typer.main.get_group(app).commands.items():
        inner = getattr(command, "commands", None)
        found |= {name: command} if inner is None else {f"{name} {word}": one for word, one in inner.items()}
    return found


COMMANDS = _commands()


def command_of(words: Sequence[str]) -> Any:
    """The command that begins with these words."""
    return COMMANDS.get(words[0]) or COMMANDS[" ".join(words[:2])]


QUICK = ("--engine", "em", "--covariance", "isotropic", "--components", "5", "--restarts", "2")
"""Flags of a fit that takes a second."""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, empty."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def refusal(capsys: pytest.CaptureFixture[str]) -> Refusal:
    """Runs a command that must be refused with exit code 2; returns its single line on stderr."""

    def run(*words: str) -> str:
        capsys.readouterr()
        assert main(words) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.startswith("probam: ")
        assert printed.err.count("\n") == 1
        return printed.err

    return run


@pytest.fixture(scope="session")
def record(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What ``probam fit --json`` printed; the fit lies where ``saved`` says."""
    path = tmp_path_factory.mktemp("fits") / "fit.nc"
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main(["fit", "faithful", *QUICK, "--json", "-o", str(path)]) == 0
    printed: dict[str, Any] = json.loads(out.getvalue())
    return printed


@pytest.fixture(scope="session")
def saved(record: dict[str, Any]) -> Path:
    """The file of that fit."""
    return Path(record["saved"])
