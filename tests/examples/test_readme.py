"""The README's programs run as printed, and what it points at is there."""

import re
import shlex
from pathlib import Path

import pytest

from tests.cli.conftest import command_of

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
COMMANDS = [
    shlex.split(line, comments=True)
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("probam ")
]


def test_the_python_of_the_readme_runs_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every block in one namespace, as a reader pastes them, with EM for Gibbs sampling and a short chain."""
    program = "\n".join(PYTHON)
    shorter = {
        'load_shipped("faithful"), standardise=True': 'load_shipped("faithful"), engine="em", standardise=True',
        "num_warmup=300, num_samples=300)": "num_warmup=20, num_samples=20, progress_bar=False)",
    }
    for printed, short in shorter.items():
        assert printed in program
        program = program.replace(printed, short)
    monkeypatch.chdir(tmp_path)
    exec(compile(program, "README.md", "exec"), {"__name__": "__main__"})
    assert {path.name for path in tmp_path.iterdir()} == {"fit.nc", "report.html"}


@pytest.mark.parametrize("command", COMMANDS, ids=[" ".join(command[1:3]) for command in COMMANDS])
def test_the_commands_of_the_readme_exist_with_their_flags(command: list[str]) -> None:
    known = command_of(command[1:])
    flags = {flag for parameter in known.params for flag in (*parameter.opts, *parameter.secondary_opts)}
    assert {word for word in command[2:] if word.startswith("-")} <= flags


def test_links_of_the_readme_lead_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert len(links) > 5
    assert [link for link in links if not (ROOT / link.split("#")[0]).exists()] == []
