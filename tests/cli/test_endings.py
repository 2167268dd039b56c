"""How a command ends: its exit code, what it says of what was kept, and ``--quiet``."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import typer.main

import probam
from probam.cli.console import Bar
from probam.cli.main import app, main
from probam.cli.program import EXIT_CODES
from probam.inference.common.progress import Progress

PROGRAM = (  # a test runner in the background passes on that SIGINT is ignored
    "import signal, sys\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    "from probam.cli.main import entered\nsys.exit(entered())\n"
)
ENDLESS = ("--engine", "nuts", "--num-warmup", "20", "--num-draws", "1000000", "--checkpoint", "run.ckpt")
MODEL = ("--covariance", "isotropic", "--weights", "uniform", "--components", "1")


def started(words: Sequence[str], folder: Path, program: str = PROGRAM, **streams: Any) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", program, *words]
    own = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}  # JAX set it here
    return subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True, env=own, **streams)


@pytest.mark.parametrize(
    ("number", "code", "how"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_a_signal_ends_a_fit_with_its_code_and_a_line_on_what_was_kept(
    number: signal.Signals, code: int, how: str, tmp_path: Path
) -> None:
    np.savetxt(tmp_path / "x.csv", np.random.default_rng(0).normal(size=(30, 1)))
    run = started(["fit", "x.csv", *MODEL, *ENDLESS, "-o", "fit.nc"], tmp_path, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "run.ckpt").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        run.send_signal(number)
        _, err = run.communicate(timeout=60)
    finally:
        run.kill()
        run.wait()
    assert run.returncode == code
    assert code in EXIT_CODES
    assert err == f"probam: {how}; run.ckpt holds the run so far; the same command goes on from there\n"
    left = {path.name for path in tmp_path.iterdir()}
    assert {"run.ckpt", "x.csv"} <= left <= {"run.ckpt", "run.ckpt.previous", "x.csv"}  # the last two are kept


READING = (  # the result of the engine takes as long to read as a report of many memories would
    "import pathlib, time\nfrom probam.fits import fit, posterior\nfit._SOON_AGAIN = 1e9\n"
    "posterior.read = lambda *_, **__: (pathlib.Path('reading').touch(), time.sleep(600))\n"
)


def test_ctrl_c_while_the_result_of_a_short_run_is_read_leaves_the_result_in_the_file(tmp_path: Path) -> None:
    np.savetxt(tmp_path / "x.csv", np.random.default_rng(0).normal(size=(30, 1)))
    words = ["fit", "x.csv", *MODEL, "--engine", "em", "--restarts", "1", "-o", "fit.nc"]
    run = started(words, tmp_path, READING + PROGRAM, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "reading").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        run.send_signal(signal.SIGINT)
        _, err = run.communicate(timeout=60)
    finally:
        run.kill()
        run.wait()
    assert err.splitlines()[-1] == (
        "probam: interrupted; fit.nc holds what the engine returned; the rest is computed when it is read"
    )
    assert run.returncode == 130
    assert {path.name for path in tmp_path.iterdir()} == {"x.csv", "reading", "fit.nc"}
    assert "memory" in probam.load(tmp_path / "fit.nc").tree.children


@pytest.mark.parametrize(
    "words", [["data"], ["prior", "--num-data", "100", "--memories", "4"], ["--help"]], ids=lambda words: words[0]
)
def test_a_closed_output_ends_a_command_quietly(words: list[str], tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    run = started(words, tmp_path, stdout=writing)
    os.close(writing)
    _, err = run.communicate(timeout=60)
    assert (run.returncode, err) == (141, "")
    assert 141 in EXIT_CODES


def test_the_exit_codes_stand_in_the_help_and_in_the_documentation(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    helped = " ".join(capsys.readouterr().out.split())
    page = (Path(__file__).parents[2] / "docs" / "command_line.md").read_text(encoding="utf-8")
    for code, meaning in EXIT_CODES.items():
        assert f"{code} {meaning}" in helped
        assert f"| {code} | {meaning} |" in page


# --- --quiet --------------------------------------------------------------------------------------------------


def commands(group: Any, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*before, name))
        else:
            yield (*before, name)


ALL = list(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_every_command_can_be_quiet_and_says_so(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--help", "--quiet"]) == 0
    assert "--quiet" in capsys.readouterr().out


def test_quiet_leaves_errors_and_results_and_nothing_else_on_the_streams(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(1)
    table = pd.DataFrame(rng.normal(size=(60, 3)), columns=["a", "b", "c"])
    table["kind"] = np.arange(60) % 2
    table.to_csv("rows.csv")  # with a column that numbers the rows, and one that looks like labels
    how = ["fit", "rows.csv", *MODEL, "--engine", "em", "--restarts", "1"]
    assert main(how) == 0
    loud = capsys.readouterr()
    assert [line.split("'")[1] for line in loud.err.splitlines()] == ["column 1", "kind"]
    assert main([*how, "--quiet"]) == 0
    quiet = capsys.readouterr()
    assert quiet.err == ""
    assert quiet.out.splitlines()[0] == loud.out.splitlines()[0]
    assert main(["fit", "gone.csv", "--quiet"]) == 2
    assert capsys.readouterr().err.startswith("probam: gone.csv: no such file")
    assert (here / "fit.nc").exists()


@pytest.mark.parametrize("quiet", [False, True])
def test_the_bar_shows_pace_and_numbers_unless_quiet(
    quiet: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("probam.cli.console._quiet", quiet)
    monkeypatch.setattr("probam.cli.console._BAR_AFTER", 0.0)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    with Bar() as bar:
        bar(Progress(100, 2000, "NUTS sampling", {"divergences": 3.0}))
        time.sleep(0.3)
        bar(Progress(200, 2000, "NUTS sampling", {"divergences": 4.0}))
        time.sleep(0.3)
    shown = capsys.readouterr().err
    for part in ("NUTS sampling", "4 divergences", "/s, at most 0:0", "left"):
        assert (part in shown) is not quiet
