"""Every command that a page, a message or a help text prints can be run, and that of a report gives the same fit."""

import html
import re
import shlex
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
import typer.main
import xarray as xr

import probam
from probam.cli.main import app, main
from probam.data.shipped import load_shipped
from probam.fits.options import ENGINES
from probam.reports.sections.model import repeat_section
from probam.reports.summaries.diagnostics import advice
from tests.cli.conftest import COMMANDS, QUICK

RNG = np.random.default_rng(0)
ROWS = pd.DataFrame(np.r_[RNG.normal(-3, 1, (25, 2)), RNG.normal(3, 1, (35, 2))], columns=["a length", "b"]).round(4)

MODEL = "--covariance diagonal --weights dirichlet --components 2 --seed 3"
SHORT = {
    "em": "--restarts 3 --estimate map --option max_iterations=60",
    "gradient_em": "--restarts 2 --option max_iterations=50 --option optimiser=natural",
    "svi": "--num-steps 60 --num-draws 30 --restarts 1 --option guide=mean_field",
    "cavi": "--restarts 2 --num-draws 30 --option moves=false",
    "nuts": "--num-chains 1 --num-warmup 20 --num-draws 20 --option target_accept=0.7",
    "gibbs": "--num-chains 2 --num-warmup 5 --num-draws 20",
    "smc": "--num-chains 1 --option num_particles=40 --option num_moves=1",
}
"""Options of each engine that make it quick; clam has a model of its own."""


@pytest.fixture
def rows(here: Path) -> Path:
    """Two columns to learn from, with a gap, beside text and numbers that are weights."""
    frame = ROWS.assign(name="x", count=np.resize([1.0, 2.0], len(ROWS)))
    frame.loc[3, "b"] = np.nan
    frame.to_csv(here / "rows.csv", index=False)
    ROWS.to_csv(here / "whole.csv", index=False)
    return here / "rows.csv"


def printed_command(path: str) -> list[str]:
    """The command that the report of a fit shows under "How can I repeat this?"."""
    with xr.open_datatree(path) as tree:
        found = re.search(r"<pre>(.*?)</pre>", repeat_section(tree).body, re.DOTALL)
    assert found is not None
    return shlex.split(html.unescape(found.group(1)).replace("\\\n", " "))


def repeated(command: list[str], data: str = "DATA") -> None:
    """Run a fit, then what its report prints (with the name of the data for DATA), and compare the two fits."""
    assert main([*command, "-o", "first.nc"]) == 0
    words = printed_command("first.nc")
    assert words[0] == "probam"
    assert main([{"fit.nc": "second.nc", "DATA": data}.get(word, word) for word in words[1:]]) == 0
    with xr.open_datatree("first.nc") as first, xr.open_datatree("second.nc") as second:
        for name, variable in first["posterior"].data_vars.items():
            np.testing.assert_array_equal(variable, second["posterior"][str(name)])


@pytest.mark.parametrize(
    "of_file",
    [
        ["--columns", "b", "--columns", "a length", "--sample-weight", "count", "--missing", "--standardise"],
        ["--drop", "name", "--labels", "count", "--missing"],
    ],
)
@pytest.mark.usefixtures("rows")
def test_the_command_of_a_report_gives_the_fit_with_all_that_was_asked_of_the_file(of_file: list[str]) -> None:
    repeated(["fit", "rows.csv", *of_file, *MODEL.split(), "--engine", "em", *SHORT["em"].split()])


@pytest.mark.slow
@pytest.mark.parametrize("engine", [name for name in SHORT if name != "em"])
@pytest.mark.usefixtures("rows")
def test_the_command_of_a_report_gives_the_fit(engine: str) -> None:
    repeated(["fit", "whole.csv", *MODEL.split(), "--engine", engine, *SHORT[engine].split()])


@pytest.mark.slow
@pytest.mark.usefixtures("rows")
def test_the_command_of_a_report_gives_the_memories_of_clam() -> None:
    words = "--covariance isotropic --weights uniform --components 2 --restarts 2 --option num_epochs=20"
    repeated(["fit", "whole.csv", "--engine", "clam", *words.split()])


def test_every_engine_is_repeated() -> None:
    assert {*SHORT, "clam"} == set(ENGINES)


@pytest.mark.usefixtures("rows")
def test_the_command_of_a_stream_gives_the_stream(capsys: pytest.CaptureFixture[str]) -> None:
    repeated(
        [
            "stream",
            "whole.csv",
            "--covariance",
            "diagonal",
            "--alpha",
            "2",
            "--warm",
            "30",
            "--learn-alpha",
            "--seed",
            "4",
        ],
        "whole.csv",
    )
    assert not {"--engine", "--components"} & set(printed_command("first.nc"))
    with xr.open_datatree("first.nc") as tree:
        assert "DATA stands for a file of the rows" in repeat_section(tree).body
        assert "Refit with more" not in " ".join(item.text for item in advice(tree))
    capsys.readouterr()


def test_what_only_python_can_give_is_named() -> None:
    prior = {"beta": dist.Gamma(jnp.array(2.0), jnp.array(1.0))}
    x = load_shipped("faithful").values
    fitted = probam.fit(x, prior=prior, covariance="isotropic", components=5, engine="em", restarts=2)
    body = repeat_section(fitted.tree).body
    assert "Given in Python, and not by this command: prior." in body
    assert "<pre>probam fit DATA " in body
    assert (
        "maximum a posteriori under the given prior of beta and the default prior of the rest" in repr(fitted).lower()
    )


@pytest.mark.usefixtures("here")
def test_what_a_fit_prints_to_do_next_can_be_done(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "iris", "--labels", "label", *QUICK]) == 0
    lines = capsys.readouterr().out.splitlines()
    commands = [
        shlex.split(found.group(1)) for line in lines if (found := re.match(r"(?:next:)?\s+(probam [^(]*)", line))
    ]
    assert [words[1] for words in commands] == ["report", "verify", "predict"]
    assert commands[0][3:] == ["--labels", "label"]
    for words in commands:
        assert main([{"DATA": "iris"}.get(word, word) for word in words[1:]]) == 0


@pytest.mark.usefixtures("here")
def test_the_process_that_prior_advises_can_be_fitted(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prior", "--memories", "3", "--num-data", "60"]) == 0
    found = re.search(r"use it: probam (fit DATA .*)", capsys.readouterr().out)
    assert found is not None
    words = ["faithful" if word == "DATA" else word for word in shlex.split(found.group(1))]
    assert main([*words, *QUICK]) == 0


def test_commands_of_the_help_can_be_parsed() -> None:
    group = typer.main.get_group(app)
    texts = [str(group.epilog), *(str(command.epilog) for command in COMMANDS.values())]
    lines = [line for text in texts for line in text.splitlines() if line.startswith("  ")]
    commands = [shlex.split(part) for line in lines for part in re.findall(r"probam (.+?)(?=, then | \||$)", line)]
    assert len(commands) > 50
    for words in commands:
        name = words[0] if words[0] in COMMANDS else " ".join(words[:2])
        COMMANDS[name].make_context(name, words[len(name.split()) :])  # parses, and does not run
