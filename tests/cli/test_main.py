"""What a person at the command line gets: help, one line for an error, an exit code that means something."""

import os
import pty
import re
import runpy
import select
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import xarray as xr

from probam.cli.main import main
from probam.errors import InputError
from tests.cli.conftest import COMMANDS, Refusal


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_and_every_option(name: str) -> None:
    command = COMMANDS[name]
    assert command.help
    for parameter in command.params:
        assert parameter.help or parameter.name == "help", f"{name} {parameter.name}"


def test_the_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    listed = re.findall(r"^\W*(\w+)  ", capsys.readouterr().out, re.MULTILINE)
    assert {name for name in COMMANDS if " " not in name} <= set(listed)


def test_python_dash_m_probam_is_the_command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["probam", "nonsense"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("probam", run_name="__main__")
    assert ended.value.code == 2
    assert "No such command 'nonsense'" in capsys.readouterr().err


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_in_the_help_use_options_that_exist(name: str) -> None:
    examples = re.findall(r"probam ((?:memory )?\w+)(.*)", COMMANDS[name].epilog)
    assert examples
    for command, rest in examples:
        known = {option for parameter in COMMANDS[command].params for option in parameter.opts}
        used = set(re.findall(r"(?<=\s)-{1,2}[a-z][a-z-]*", rest))
        assert used <= known


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from probam.cli.main import main\n"
        "assert main(['fit', '--help']) == 0\n"
        "heavy = {'jax', 'numpyro', 'pandas', 'xarray', 'matplotlib', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "--components" in run.stdout
    assert run.stderr == ""


def test_version_names_the_parts_that_matter(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert re.fullmatch(
        r"probam \d+\.\d+\.\d+ \(Python 3\.\d+\.\d+, jax [\d.]+, numpyro [\d.]+\)\n", capsys.readouterr().out
    )


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("fit", "Missing argument 'DATA'; try: probam fit --help"),
        ("fit x.csv --no-such", "No such option: --no-such"),
        ("fit x.csv --components three", "--components"),
        ("nothing", "No such command 'nothing'; try: probam --help"),
        ("fit gone.csv", "gone.csv: no such file"),
        ("fit faithfull", "faithfull: no such file, and no shipped set of that name; did you mean 'faithful'?"),
        ("fit faithful -o nowhere/fit.nc", "nowhere/fit.nc: the folder nowhere does not exist"),
        ("fit faithful -o fit.csv", "expected a name that ends in .nc"),
        ("fit faithful --columns waitin", "did you mean 'waiting'?"),
        ("fit faithful --option target_accept", "option: expected NAME=VALUE"),
        ("fit faithful --given-weights 1,x", "given-weights: expected numbers"),
        ("fit faithful --variable u", "variable: only NPZ and NetCDF"),
        ("fit text.csv", "text.csv: column 'b' holds text in row 2 (line 3): 'oops'"),
        ("fit ragged.csv", "ragged.csv: row 2 (line 3) has 1 field where the header has 2"),
        ("fit empty.csv", "empty.csv: the file is empty"),
        ("fit header.csv", "header.csv: it has a header and no rows"),
        ("fit one.csv", "one.csv: a fit needs at least 2 data; got one row"),
        ("fit hole.csv", "hole.csv: column 'b' has a missing value (nan) in row 1 (line 2)"),
        ("fit inf.npy", "inf.npy: column 'x1' has an infinite value (inf) in row 2"),
        ("fit line.npy", "line.npy: expected a 2-D array"),
        ("fit broken.nc", "broken.nc: it cannot be read as NetCDF"),
        ("data faithfull -o x.csv", "did you mean 'faithful'?"),
        ("data faithful -o x.pickle", "unknown kind of output"),
        ("data faithful --labels -o x.csv", "faithful: it has no labels"),
        ("data -o x.csv", "NAME: expected the name of a set"),
        ("predict gone.nc faithful -o out.csv", "gone.nc"),
        ("predict broken.nc faithful -o out.csv", "broken.nc"),
        ("predict data.nc faithful -o out.csv", "data.nc"),
        ("recall gone.nc faithful -o out.xlsx", "out.xlsx: unknown kind of output"),
        ("recall gone.nc faithful", "Missing option '-o' / '--output'; try: probam recall --help"),
        ("report gone.nc -o report.pdf", "report.pdf: unknown kind of output"),
        ("report gone.nc", "gone.nc"),
        ("fit data.nc -o data.nc", "data.nc: this file is the input"),
        ("predict data.nc text.csv -o ./text.csv", "text.csv: this file is the input"),
        ("recall data.nc text.csv -o data.nc", "data.nc: this file is the input"),
        ("verify --claim A99", "A99"),
        ("verify gone.nc", "gone.nc"),
    ],
)
def test_bad_input_is_refused_in_one_line(words: str, message: str, refusal: Refusal) -> None:
    Path("text.csv").write_text("a,b\n1,2\n3,oops\n")
    Path("ragged.csv").write_text("a,b\n1,2\n3\n")
    Path("empty.csv").touch()
    Path("header.csv").write_text("a,b\n")
    Path("one.csv").write_text("a,b\n1,2\n")
    Path("hole.csv").write_text("a,b\n1,\n3,4\n")
    np.save("inf.npy", [[1.0, 2.0], [3.0, 4.0], [5.0, np.inf]])
    np.save("line.npy", [1.0, 2.0])
    Path("broken.nc").write_bytes(b"\x89HDF\r\n\x1a\n and no more")
    xr.Dataset({"x": (("i", "j"), np.eye(3))}).to_netcdf("data.nc", engine="h5netcdf")
    before = sorted(os.listdir())
    assert message in refusal(*words.split())
    assert sorted(os.listdir()) == before


def _raising(error: BaseException) -> Any:
    def fit(*_: object, **__: object) -> None:
        raise error

    return fit


def test_a_defect_is_one_line_and_debug_shows_where(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("probam.fits.fit.fit", _raising(IndexError("beyond\nthe end")))
    assert main(["fit", "faithful"]) == 1
    printed = capsys.readouterr().err
    assert (
        printed
        == "probam: IndexError: beyond the end; this is a defect of probam; run again with --debug to see where\n"
    )
    for words in (["--debug", "fit", "faithful"], ["fit", "faithful", "--debug"], ["fit", "--debug", "faithful"]):
        assert main(words) == 1
        printed = capsys.readouterr().err
        assert "Traceback (most recent call last)" in printed
        assert "IndexError: beyond" in printed
    assert list(here.iterdir()) == []


def test_debug_shows_the_traceback_of_a_refusal_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "gone.csv", "--debug"]) == 2
    printed = capsys.readouterr().err
    assert "Traceback" in printed
    assert printed.splitlines()[-1].startswith("probam: gone.csv: no such file")


def test_a_warning_of_a_library_is_one_line_without_its_place(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fit(*_: object, **__: object) -> None:
        warnings.warn("the sky\n is low", stacklevel=1)
        raise InputError("seen")

    monkeypatch.setattr("probam.fits.fit.fit", fit)
    shown = warnings.showwarning
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main(["fit", "faithful"]) == 2
    assert capsys.readouterr().err == "probam: warning: the sky is low\nprobam: seen\n"
    assert warnings.showwarning is shown
    assert list(here.iterdir()) == []


def test_an_interrupt_says_so_and_leaves_nothing(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("probam.fits.fit.fit", _raising(KeyboardInterrupt()))
    assert main(["fit", "faithful"]) == 130
    assert capsys.readouterr().err.strip() == "probam: interrupted; nothing was written"
    assert list(here.iterdir()) == []


def test_ctrl_c_in_mid_fit_ends_at_once_with_130_and_no_file(tmp_path: Path) -> None:
    terminal, stderr = pty.openpty()
    hearing = (  # a test runner in the background passes on that SIGINT is ignored
        "import signal, sys\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from probam.cli.main import main\nsys.exit(main())\n"
    )
    words = ["fit", "letter20k", "--num-warmup", "500", "-o", str(tmp_path / "fit.nc")]
    run = subprocess.Popen(
        [sys.executable, "-c", hearing, *words],
        stdout=subprocess.PIPE,
        stderr=stderr,
    )
    os.close(stderr)
    printed = b""

    def listen(seconds: float) -> bytes:
        if not select.select([terminal], [], [], seconds)[0]:
            return b""
        try:
            return os.read(terminal, 65536)
        except OSError:  # the other end is closed
            return b""

    try:
        deadline = time.monotonic() + 120
        while b"0:00:0" not in printed and time.monotonic() < deadline:  # the clock of the progress bar
            printed += listen(0.5)
        assert b"0:00:0" in printed
        run.send_signal(signal.SIGINT)
        pressed = time.monotonic()
        while run.poll() is None and time.monotonic() < pressed + 60:
            printed += listen(0.1)
        assert run.poll() == 130
        assert time.monotonic() - pressed < 10
        printed += listen(0.1)
        assert b"probam: interrupted; nothing was written" in printed
        assert b"Traceback" not in printed
        assert run.stdout is not None
        assert run.stdout.read() == b""
        assert list(tmp_path.iterdir()) == []
    finally:
        run.kill()
        run.wait()
        os.close(terminal)
        if run.stdout is not None:
            run.stdout.close()


@pytest.mark.skipif(jax.default_backend() == "gpu", reason="the refusal is for machines without a GPU")
@pytest.mark.parametrize("words", [["--device", "gpu", "verify", "A1"], ["verify", "A1", "--device=gpu"]])
def test_a_gpu_that_is_not_there_is_refused_in_one_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert capsys.readouterr().err == (
        "probam: --device: JAX finds no GPU; install the extra cuda (pip install 'probam[cuda]') on a machine with an "
        "NVIDIA GPU and its driver, or use --device cpu\n"
    )


def test_a_device_is_a_cpu_or_a_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "--device", "tpu"]) == 2
    assert capsys.readouterr().err == "probam: --device: expected cpu or gpu; got 'tpu'\n"
    assert main(["data", "--device", "cpu"]) == 0
