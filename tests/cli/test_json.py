"""Every command that prints results prints them as JSON, and tables go through pipes."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from probam.cli.main import main
from probam.cli.results import print_json
from tests.cli.conftest import COMMANDS, QUICK

PATTERNS = "--patterns p.csv"
SMALL = '[fit]\ndata = "faithful"\nengine = "em"\ncovariance = "isotropic"\ncomponents = 5\nrestarts = 2\n'

WALK: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "fit": (f"fit faithful {' '.join(QUICK)}", lambda said: said["saved"] == "fit.nc"),
    "run": ("run a.toml", lambda said: list(said) == ["fit"]),
    "init": ("init b.toml", lambda said: said == {"wrote": "b.toml"}),
    "stream": ("stream rows.csv --covariance diagonal -o s.nc", lambda said: said["data"] == 40),
    "verify": ("verify FIT", lambda said: said["passed"] is True),
    "recall": ("recall FIT rows.csv -o r.csv", lambda said: said["num_queries"] == 40 and said["wrote"] == "r.csv"),
    "predict": ("predict FIT rows.csv -o l.csv", lambda said: said["num_data"] == 40 and said["wrote"] == "l.csv"),
    "complete": ("complete FIT gaps.csv -o w.csv", lambda said: said["num_missing"] == 1),
    "sample": ("sample FIT 3 -o n.csv", lambda said: said["columns"] == ["eruptions", "waiting"]),
    "report": ("report FIT -o page.html", lambda said: said == {"wrote": "page.html"}),
    "export": ("export FIT -o p.json", lambda said: said["num_memories"] == 5),
    "compare": ("compare FIT --held-out rows.csv", lambda said: list(said["fits"]) == ["fit"]),
    "data": ("data iris", lambda said: said["name"] == "iris" and said["shape"] == [150, 4]),
    "prior": ("prior --memories 3 --num-data 60", lambda said: said["weights"] == "dp"),
    "experiment": ("experiment --list", lambda said: "xor" in {one["name"] for one in said}),
    "memory list": ("memory list", lambda said: "clam" in {one["name"] for one in said}),
    "memory show": ("memory show clam", lambda said: said["name"] == "clam"),
    "memory recall": (
        f"memory recall clam {PATTERNS} --queries p.csv -o m.csv",
        lambda said: said["num_patterns_recalled"] == 3,
    ),
    "memory verify": (f"memory verify clam {PATTERNS} --queries p.csv", lambda said: said["passed"] is True),
    "memory landscape": (f"memory landscape clam {PATTERNS} -o m.html", lambda said: said == {"wrote": "m.html"}),
}
"""A call of each command, with FIT for a saved fit, and what must be true of what it says."""


def test_every_command_has_a_place_in_the_walk_and_the_flag() -> None:
    assert set(WALK) == set(COMMANDS)
    for name, command in COMMANDS.items():
        assert any("--json" in parameter.opts for parameter in command.params), name


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


@pytest.mark.parametrize("name", WALK)
def test_results_are_json(name: str, saved: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = pd.DataFrame({"eruptions": np.linspace(1.9, 4.9, 40), "waiting": np.linspace(50, 90, 40)})
    rows.to_csv("rows.csv", index=False)
    (here / "gaps.csv").write_text("eruptions,waiting\n2.0,\n")
    pd.DataFrame(5 * np.eye(3), columns=["a", "b", "c"]).to_csv("p.csv", index=False)
    (here / "a.toml").write_text("verify = false\nreport = false\n" + SMALL)
    words, is_right = WALK[name]
    capsys.readouterr()
    assert main([{"FIT": str(saved)}.get(word, word) for word in words.split()] + ["--json"]) == 0
    assert is_right(json.loads(capsys.readouterr().out, parse_constant=_refuse))


def test_numbers_that_json_does_not_know_are_null(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": [np.nan, 1.5, np.float32(2)], "b": np.array([1, 2]), "c": float("inf"), "d": Path("x")})
    assert json.loads(capsys.readouterr().out) == {"a": [None, 1.5, 2.0], "b": [1, 2], "c": None, "d": "x"}


@pytest.mark.usefixtures("here")
def test_tables_go_through_pipes_of_a_shell(saved: Path) -> None:
    Path("rows.csv").write_text("day,eruptions,waiting\nmon,2.0,54\ntue,4.5,80\nwed,3.0,\n")
    probam = f"{sys.executable} -m probam"
    line = f"cat rows.csv | {probam} complete {saved} - -o - | {probam} predict {saved} - -o - > out.csv"
    run = subprocess.run(["bash", "-o", "pipefail", "-c", line], capture_output=True, text=True, env=os.environ)
    assert run.returncode == 0, run.stderr
    assert run.stdout == ""
    assert "1 missing entries in 1 of 3 rows filled" in run.stderr
    assert "3 data in at most" in run.stderr
    assert pd.read_csv("out.csv")["day"].tolist() == ["mon", "tue", "wed"]
    assert main(["complete", str(saved), "rows.csv", "-o", "whole.csv"]) == 0
    assert main(["predict", str(saved), "whole.csv", "-o", "direct.csv"]) == 0
    assert Path("out.csv").read_text() == Path("direct.csv").read_text()
