"""``probam run`` and ``probam init``: an analysis from one file."""

import html
import json
import os
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from probam.cli.analysis import _keys
from probam.cli.analysis_file import steps_of, template
from probam.cli.console import Interrupted
from probam.cli.main import main
from probam.data.shipped import load_shipped
from tests.cli.conftest import COMMANDS, QUICK, Refusal

FIT = """
[fit]
data = "rows.csv"
engine = "em"
covariance = "isotropic"
components = 5
restarts = 2
"""
"""The fit of ``QUICK``."""

OF_RUN = {"fit_file", "fit_files", "family", "as_json", "quiet"}
"""Parameters of the commands after the fit that ``run`` gives."""


@pytest.fixture
def folder(here: Path) -> Path:
    """A folder beside the working directory, with rows."""
    folder = here / "study"
    folder.mkdir()
    load_shipped("faithful").frame().to_csv(folder / "rows.csv", index=False)
    return folder


def test_a_file_gives_what_the_commands_give_one_by_one(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (
        FIT + '[predict]\ndata = "rows.csv"\noutput = "labels.csv"\nwith-inputs = true\n[report]\noutput = "a.html"\n'
    )
    (folder / "analysis.toml").write_text(text)
    assert main(["run", "study/analysis.toml"]) == 0
    at_once = capsys.readouterr().out
    assert sorted(path.name for path in folder.iterdir()) == [
        *("a.html", "analysis.toml", "fit.nc", "labels.csv", "rows.csv")
    ]
    with xr.open_datatree(folder / "fit.nc") as tree:
        assert tree.attrs["analysis"] == text
        draws = tree["posterior"].to_dataset().load()
    assert html.escape(text, quote=False) in (folder / "a.html").read_text().replace("&quot;", '"')
    labels = pd.read_csv(folder / "labels.csv")
    for words in (
        ["fit", "study/rows.csv", *QUICK, "-o", "study/fit.nc"],
        ["verify", "study/fit.nc"],
        ["predict", "study/fit.nc", "study/rows.csv", "--with-inputs", "-o", "study/labels.csv"],
        ["report", "study/fit.nc", "-o", "study/a.html"],
    ):
        assert main(words) == 0
    one_by_one = capsys.readouterr().out
    assert [line for line in at_once.splitlines() if not line.startswith("em, seed")] == [
        line
        for line in one_by_one.splitlines()
        if not line.startswith("em, seed")  # the seconds that it took
    ]
    with xr.open_datatree(folder / "fit.nc") as tree:
        xr.testing.assert_identical(draws.drop_attrs(), tree["posterior"].to_dataset().load().drop_attrs())
    pd.testing.assert_frame_equal(labels, pd.read_csv(folder / "labels.csv"))


def test_labels_of_the_fit_are_those_of_the_report(folder: Path) -> None:
    long = pd.read_csv(folder / "rows.csv")
    long.assign(kind=np.where(long["eruptions"] > 3, "long", "short")).to_csv(folder / "rows.csv", index=False)
    (folder / "analysis.toml").write_text("verify = false\n" + FIT + 'labels = "kind"\n')
    assert main(["run", "study/analysis.toml"]) == 0
    assert "Do the memories match the known labels?" in (folder / "fit.html").read_text()


def test_data_that_are_not_there_are_told_before_the_fit(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "analysis.toml").write_text(FIT + '[predict]\ndata = "row.csv"\noutput = "labels.csv"\n')
    assert main(["run", "study/analysis.toml"]) == 2
    assert "row.csv: no such file" in capsys.readouterr().err
    assert not (folder / "fit.nc").exists()


def test_results_of_all_commands_are_one_object(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "analysis.toml").write_text("report = false\n" + FIT)
    assert main(["run", "study/analysis.toml", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert list(record) == ["fit", "verify"]
    assert record["verify"]["passed"] is True
    assert record["fit"]["saved"] == "study/fit.nc"


@pytest.mark.usefixtures("here")
def test_the_exit_code_is_that_of_the_command_that_failed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from probam.equivalence.check import Check

    failed = Check("energy", "equal", "a against b", 1.0, 0.1, False)
    monkeypatch.setattr("probam.fits.fitted.Fit.verify", lambda *_, **__: [failed])
    Path("analysis.toml").write_text(FIT.replace("rows.csv", "faithful"))
    assert main(["run", "analysis.toml"]) == 1
    printed = capsys.readouterr().out
    assert "FAILED" in printed
    assert printed.endswith("wrote fit.html\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[fit", "a.toml: it is not TOML: "),
        ("[verify]", "a.toml: fit: this table is missing; write [fit] with the key data"),
        ("fit = false", "a.toml: fit: this table is missing"),
        ("[fit]", "a.toml: fit.data: this key is missing; A file (.csv"),
        ("[fti]\ndata = 'faithful'", "a.toml: fti: no such table; did you mean fit?"),
        ("[sim]", "a.toml: sim: no such table; the tables are fit, verify, predict, report"),
        ("data = 'faithful'", "a.toml: data: this key belongs into a table; write it below [fit]"),
        ("fit = 3", "a.toml: fit: expected a table [fit], or false; got 3"),
        ("[fit]\ndata = 'faithful'\ncomponets = 3", "a.toml: fit.componets: no such key; did you mean components?"),
        ("[fit]\ndata = 'faithful'\n[report]\nxyz = 3", "report.xyz: no such key; the keys are output"),
        ("[fit]\ndata = 'faithful'\ncomponents = '3'", 'fit.components: expected a whole number; got "3"'),
        ("[fit]\ndata = 'faithful'\ncomponents = true", "fit.components: expected a whole number; got true"),
        ("[fit]\ndata = 'faithful'\nalpha = 'one'", 'fit.alpha: expected a number; got "one"'),
        ("[fit]\ndata = 'faithful'\nstandardise = 1", "fit.standardise: expected true or false; got 1"),
        ("[fit]\ndata = ['a', 'b']", 'fit.data: expected text; got ["a", "b"]'),
        ("[fit]\ndata = 'faithful'\ncolumns = [1]", "fit.columns: expected text or a list of text; got [1]"),
        ("[fit]\ndata = 'faithful'\nprior = 1", "fit.prior: expected a table of names and values; got 1"),
        ("[fit]\ndata = 'faithful'\ngiven_weights = 1", "fit.given_weights: expected text or a list; got 1"),
        ("[fit]\ndata = 'faithful'\nengine = 'emm'", "engine: expected one of em, "),
        ("[fit]\ndata = 'gone.csv'", "gone.csv: no such file"),
        ("[fit]\ndata = 'faithful'\n[report]\noutput = 'r.pdf'", "r.pdf: unknown kind of output"),
        ("[fit]\ndata = 'faithful'\noutput = 'gone/fit.nc'", "the folder gone does not exist"),
    ],
)
@pytest.mark.usefixtures("here")
def test_a_file_that_cannot_be_used_is_refused_before_anything_is_computed(
    text: str, message: str, refusal: Refusal
) -> None:
    Path("a.toml").write_text(text)
    assert message in refusal("run", "a.toml")
    assert os.listdir() == ["a.toml"]


@pytest.mark.usefixtures("here")
def test_a_file_that_is_not_there_is_refused_with_the_way_to_one(refusal: Refusal) -> None:
    assert "gone.toml: it cannot be read (No such file or directory); `probam init` writes one" in refusal(
        "run", "gone.toml"
    )
    Path("binary.toml").write_bytes(b"\xff\xfe")
    assert "binary.toml: it is not UTF-8 text" in refusal("run", "binary.toml")


def test_values_of_toml_become_those_of_the_command_line() -> None:
    text = """
[fit]
data = "x.csv"
columns = ["a,b", "c"]
drop = "d,e"
given-weights = [0.25, 0.75]
alpha = 2
prior = { loc = "Normal(0, 10)", beta = "Gamma(2, 0.5)" }
[fit.option]
target_accept = 0.9
moves = false
guide = "mean_field"
"""
    step = steps_of(text, _keys(), "a.toml")["fit"]
    assert step == {
        "data": "x.csv",
        "columns": ['"a,b"', "c"],
        "drop": ["d,e"],
        "given_weights": "0.25,0.75",
        "alpha": 2.0,
        "prior": ["loc=Normal(0, 10)", "beta=Gamma(2, 0.5)"],
        "option": ["target_accept=0.9", "moves=false", "guide=mean_field"],
    }
    assert isinstance(step["alpha"], float)


@pytest.mark.parametrize("command", list(_keys()))
def test_a_file_has_the_flags_of_the_commands(command: str) -> None:
    keys = _keys()[command]
    of_run = OF_RUN - {"family"} if command == "fit" else OF_RUN
    flags = {
        each.name: max(each.opts, key=len).removeprefix("--").replace("-", "_")
        for each in COMMANDS[command].params
        if each.name not in of_run | {"help"}
    }
    assert {key.parameter: key.name for key in keys.values()} == flags


def test_a_new_file_runs_as_it_is_and_every_line_of_it_can_be_set(
    here: Path, capsys: pytest.CaptureFixture[str], refusal: Refusal
) -> None:
    assert main(["init"]) == 0
    printed = capsys.readouterr().out
    assert "edit `data` below [fit]" in printed
    assert "next: probam run analysis.toml" in printed
    text = (here / "analysis.toml").read_text()
    assert steps_of(text, _keys(), "analysis.toml") == {
        "fit": {"data": "faithful", "output": Path("fit.nc")},
        "verify": {},
        "report": {"output": Path("report.html")},
    }
    lines = [line.removeprefix("# ") for line in text.splitlines() if not line.startswith("##")]
    every = "\n".join(lines[lines.index("[fit]") :])
    steps = steps_of(every, _keys(), "analysis.toml")
    assert {name: len(step or {}) for name, step in steps.items()} == {
        name: len(keys) for name, keys in _keys().items()
    }
    assert "analysis.toml: this file exists" in refusal("init")
    (here / "analysis.toml").write_text("mine")
    assert main(["init", "--force"]) == 0
    assert (here / "analysis.toml").read_text() == text
    assert "unknown kind of output" in refusal("init", "analysis.csv")


def test_text_in_a_new_file_is_toml() -> None:
    keys = _keys()
    given: dict[str, dict[str, Any]] = {"fit": {"data": 'a "quoted"\\name.csv'}}
    assert tomllib.loads(template(keys, given))["fit"]["data"] == 'a "quoted"\\name.csv'


def test_an_interrupt_after_the_fit_says_that_the_fit_is_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def pressed(_: object) -> None:
        raise Interrupted("nothing was written")

    monkeypatch.setattr("probam.cli.court.interruptible", pressed)
    (folder / "analysis.toml").write_text(FIT)
    assert main(["run", "study/analysis.toml"]) == 130
    assert capsys.readouterr().err == "probam: interrupted; study/fit.nc holds the fit; verify wrote nothing\n"
    assert sorted(path.name for path in folder.iterdir()) == ["analysis.toml", "fit.nc", "rows.csv"]
