"""What a person at the command line gets: results, one line for an error, an exit code that means something."""

import contextlib
import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest
import typer.main
import xarray as xr

from probam.cli.main import app, main
from probam.data.shipped import load_shipped
from probam.data.table import Table
from probam.errors import InputError

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
QUICK = ["--engine", "em", "--covariance", "isotropic", "--components", "5", "--restarts", "2"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The single line on stderr of a command that must be refused with exit code 2."""
    capsys.readouterr()
    assert main(words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("probam: ")
    assert said.err.count("\n") == 1
    return said.err


# --- help ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_and_every_option(name: str) -> None:
    command = COMMANDS[name]
    assert command.help
    for parameter in command.params:
        assert parameter.help or parameter.name == "help", f"{name} {parameter.name}"


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_in_the_help_use_options_that_exist(name: str) -> None:
    examples = re.findall(r"probam (\w+)(.*)", COMMANDS[name].epilog)
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


# --- data ----------------------------------------------------------------------------------------------------


def test_data_lists_tells_and_writes(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data"]) == 0
    said = capsys.readouterr()
    assert "faithful" in said.out
    assert said.err == ""
    assert main(["data", "--json"]) == 0
    records = {record["name"]: record for record in json.loads(capsys.readouterr().out)}
    assert records["iris"]["shape"] == [150, 4]
    assert main(["data", "letter20k"]) == 0
    assert "CC BY 4.0" in capsys.readouterr().out
    assert main(["data", "iris", "--labels", "-o", "iris.csv"]) == 0
    frame = pd.read_csv("iris.csv")
    np.testing.assert_array_equal(frame.iloc[:, :4], load_shipped("iris").values)
    assert sorted(frame["label"].unique()) == ["setosa", "versicolor", "virginica"]
    assert [path.name for path in here.iterdir()] == ["iris.csv"]


# --- refusals ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("words", "said"),
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
        ("fit data.nc -o data.nc", "data.nc: this is the file that is read"),
        ("predict data.nc text.csv -o ./text.csv", "text.csv: this is the file that is read"),
        ("recall data.nc text.csv -o data.nc", "data.nc: this is the file that is read"),
        ("verify --claim A99", "A99"),
        ("verify gone.nc", "gone.nc"),
    ],
)
def test_bad_input_is_refused_in_one_line(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
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
    assert said in _refusal(capsys, *words.split())
    assert sorted(os.listdir()) == before


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--engine emm", "engine: expected one of em, gradient_em, clam, svi, cavi, nuts, gibbs, smc; got 'emm'"),
        ("--family gausian", "family: "),
        ("--covariance round", "covariance: "),
        ("--weights dpp --components 3", "weights: "),
        ("--weights dirichlet", "components: "),
        ("--components 0", "components: "),
        ("--components 273", "components: 273 memories for 272 data"),
        ("--alpha 0", "alpha: "),
        ("--alpha -1", "alpha: "),
        ("--alpha nan", "alpha: "),
        ("--weights pyp --discount 1", "discount: "),
        ("--weights pyp --discount -0.1", "discount: "),
        ("--seed -1", "seed: "),
        ("--num-draws 0", "num_draws: "),
        ("--num-chains 0", "num_chains: "),
        ("--num-steps 5", "num_steps: engine 'nuts' has no such option; it has"),
        ("--option colour=red", "colour: engine 'nuts' has no such option"),
        ("--family vmf", "faithful: |data: |unit"),
        ("--family gone.py:Mine", "gone.py"),
    ],
)
def test_models_that_cannot_be_are_refused_in_one_line(
    words: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert re.search(said, _refusal(capsys, "fit", "faithful", *words.split()))
    assert os.listdir() == []


@pytest.mark.usefixtures("here")
def test_a_constant_column_is_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    Path("flat.csv").write_text("a,b\n1,2\n3,2\n5,2\n")
    assert "'b'" in _refusal(capsys, "fit", "flat.csv", "--components", "2")
    assert "'b' is constant" in _refusal(capsys, "fit", "flat.csv", "--components", "2", "--standardise")


# --- defects and interrupts ----------------------------------------------------------------------------------


def _raising(error: BaseException) -> Any:
    def fit(*_: object, **__: object) -> None:
        raise error

    return fit


def test_a_defect_is_one_line_and_debug_shows_where(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("probam.fits.fit.fit", _raising(IndexError("beyond\nthe end")))
    assert main(["fit", "faithful"]) == 1
    said = capsys.readouterr().err
    assert (
        said == "probam: IndexError: beyond the end; this is a defect of probam; run again with --debug to see where\n"
    )
    for words in (["--debug", "fit", "faithful"], ["fit", "faithful", "--debug"], ["fit", "--debug", "faithful"]):
        assert main(words) == 1
        said = capsys.readouterr().err
        assert "Traceback (most recent call last)" in said
        assert "IndexError: beyond" in said
    assert list(here.iterdir()) == []


def test_debug_shows_the_traceback_of_a_refusal_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "gone.csv", "--debug"]) == 2
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert said.splitlines()[-1].startswith("probam: gone.csv: no such file")


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
    said = b""

    def listen(seconds: float) -> bytes:
        if not select.select([terminal], [], [], seconds)[0]:
            return b""
        try:
            return os.read(terminal, 65536)
        except OSError:  # the other end is closed
            return b""

    try:
        deadline = time.monotonic() + 120
        while b"0:00:0" not in said and time.monotonic() < deadline:  # the clock of the progress bar
            said += listen(0.5)
        assert b"0:00:0" in said
        run.send_signal(signal.SIGINT)
        pressed = time.monotonic()
        while run.poll() is None and time.monotonic() < pressed + 60:
            said += listen(0.1)
        assert run.poll() == 130
        assert time.monotonic() - pressed < 10
        said += listen(0.1)
        assert b"probam: interrupted; nothing was written" in said
        assert b"Traceback" not in said
        assert run.stdout is not None
        assert run.stdout.read() == b""
        assert list(tmp_path.iterdir()) == []
    finally:
        run.kill()
        run.wait()
        os.close(terminal)
        if run.stdout is not None:
            run.stdout.close()


# --- the work ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What ``probam fit --json`` printed; the fit lies where ``saved`` says."""
    path = tmp_path_factory.mktemp("fits") / "fit.nc"
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main(["fit", "faithful", *QUICK, "--json", "-o", str(path)]) == 0
    found: dict[str, Any] = json.loads(out.getvalue())
    return found


@pytest.fixture(scope="module")
def saved(told: dict[str, Any]) -> Path:
    return Path(told["saved"])


def test_a_fit_speaks_json(told: dict[str, Any], saved: Path) -> None:
    assert (told["engine"], told["weights"], told["seed"]) == ("em", "dp", 0)
    assert told["columns"] == ["eruptions", "waiting"]
    assert told["truncation"]["num_components"] == 5
    assert len(told["memory"]["weight"]) == 5
    np.testing.assert_allclose(sum(told["memory"]["weight"]), 1.0, rtol=1e-9)
    assert "log_lik" in {row["name"] for row in told["summary"]}
    assert [path.name for path in saved.parent.iterdir()] == ["fit.nc"]


def test_a_fit_tells_people_what_it_found_and_the_same_seed_finds_the_same(
    saved: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["fit", "faithful", *QUICK]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    for words in (
        "eruptions",
        "waiting",
        "memories",
        "[truncation] 5 memories",
        "saved fit.nc",
        "probam report fit.nc",
    ):
        assert words in said.out
    with xr.open_datatree(saved) as first, xr.open_datatree("fit.nc") as second:
        for name, variable in first["posterior"].data_vars.items():
            np.testing.assert_array_equal(variable, second["posterior"][str(name)])
    assert [path.name for path in here.iterdir()] == ["fit.nc"]


def test_float32_hands_single_precision_over_with_x64_off(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[np.dtype[Any], bool]] = []

    def fit(table: Table, **_: object) -> None:
        seen.append((table.values.dtype, jax.config.read("jax_enable_x64")))
        raise InputError("seen")

    monkeypatch.setattr("probam.fits.fit.fit", fit)
    try:
        assert main(["fit", "faithful", "--float32"]) == 2
        assert main(["fit", "faithful"]) == 2
    finally:
        jax.config.update("jax_enable_x64", True)
    assert seen == [(np.dtype(np.float32), False), (np.dtype(np.float64), True)]
    assert list(here.iterdir()) == []


@pytest.mark.slow
def test_a_fit_in_single_precision_stays_in_it(here: Path) -> None:
    words = ["fit", "faithful", *QUICK, "--float32"]
    run = subprocess.run([sys.executable, "-m", "probam.cli.main", *words], capture_output=True, text=True, cwd=here)
    assert (run.returncode, run.stderr) == (0, "")
    with xr.open_datatree(here / "fit.nc") as tree:
        assert tree.attrs["dtype"] == "float32"
        assert tree["posterior"]["weights"].dtype == np.float32


def test_predictions_follow_the_columns_by_name(saved: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = load_shipped("faithful").frame()
    frame.insert(0, "day", "monday")
    frame[["day", "waiting", "eruptions"]].to_csv("swapped.csv", index=False)
    for data, out in (("faithful", "a.csv"), ("swapped.csv", "b.csv")):
        assert main(["predict", str(saved), data, "-o", out]) == 0
    a, b = pd.read_csv("a.csv"), pd.read_csv("b.csv")
    pd.testing.assert_frame_equal(a, b)
    assert list(a) == ["label", "confidence", "log_density"]
    assert len(a) == 272
    assert "272 data in" in capsys.readouterr().out
    assert main(["predict", str(saved), "faithful", "--probabilities", "-o", "p.parquet"]) == 0
    p = pd.read_parquet("p.parquet").filter(like="responsibilities").to_numpy()
    np.testing.assert_allclose(p.sum(axis=1), 1.0, rtol=1e-9)
    np.testing.assert_array_equal(p.argmax(axis=1), a["label"])
    assert (here / "p.parquet").is_file()


def test_recalled_points_rest_where_the_energy_is_flat(
    saved: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pd.DataFrame({"eruptions": [2.0, 4.4, 3.1], "waiting": [55.0, 80.0, 70.0]}).to_csv("cues.csv", index=False)
    assert main(["recall", str(saved), "cues.csv", "-o", "once.csv"]) == 0
    assert main(["recall", str(saved), "once.csv", "-o", "twice.csv"]) == 0
    once, twice = pd.read_csv("once.csv"), pd.read_csv("twice.csv")
    assert {"eruptions", "waiting", "steps", "residual", "energy", "converged", "basin"} <= set(once)
    assert once["converged"].all()
    np.testing.assert_allclose(twice[["eruptions", "waiting"]], once[["eruptions", "waiting"]], atol=1e-3)
    np.testing.assert_array_equal(twice["basin"], once["basin"])
    assert "3 of 3 queries settled" in capsys.readouterr().out
    assert main(["recall", str(saved), "cues.csv", "--max-steps", "1", "--step", "0.1", "-o", "short.npz"]) == 0
    assert "did not settle within 1 steps" in capsys.readouterr().out
    assert (here / "short.npz").is_file()


@pytest.mark.usefixtures("here")
def test_queries_that_do_not_fit_the_fit_are_refused(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "2 features" in _refusal(capsys, "recall", str(saved), "iris", "-o", "out.csv")
    assert "step" in _refusal(capsys, "recall", str(saved), "faithful", "--step", "2.5", "-o", "out.csv")
    assert "--max-steps" in _refusal(capsys, "recall", str(saved), "faithful", "--max-steps", "0", "-o", "out.csv")
    Path("half.nc").write_bytes(saved.read_bytes()[: saved.stat().st_size // 2])
    assert "half.nc" in _refusal(capsys, "predict", "half.nc", "faithful", "-o", "out.csv")
    assert os.listdir() == ["half.nc"]


def test_a_report_stands_alone(saved: Path, here: Path) -> None:
    assert main(["report", str(saved), "-o", "report.html"]) == 0
    page = (here / "report.html").read_text(encoding="utf-8")
    assert page.lstrip().lower().startswith("<!doctype html")
    assert "waiting" in page
    assert not re.search(r"""(src|href)\s*=\s*["']https?:""", page)


def test_verify_passes_for_a_claim_and_a_fit(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(saved), "--claim", "A2"]) == 0
    assert "A2" in capsys.readouterr().out
    assert main(["verify", str(saved), "--claim", "A2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["passed"] is True
    assert {claim["claim"] for claim in told["claims"]} >= {"A2"}
    assert all(check["passed"] for check in told["fit"])
    assert told["fit"]


def test_a_failed_statement_gives_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from probam.claims import verify as court

    honest = court.certify

    def failing(*arguments: Any, **options: Any) -> Any:
        return honest(*arguments, **options)._replace(passed=False, error=1.0)

    monkeypatch.setattr(court, "certify", failing)
    assert main(["verify", "--claim", "A2"]) == 1
    assert "A2" in capsys.readouterr().out


# --- a prior from expectations -------------------------------------------------------------------------------


def test_the_prior_command_gives_parameters_that_expect_what_was_asked(capsys: pytest.CaptureFixture[str]) -> None:
    wishes = ["--memories", "12", "--num-data", "1000", "--later-memories", "22", "--later-num-data", "10000"]
    assert main(["prior", *wishes, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["weights"] == "pyp"
    now, later, _ = told["expected"]
    assert (now["num_data"], later["num_data"]) == (1000, 10_000)
    assert (now["memories"], later["memories"]) == pytest.approx((12, 22), rel=1e-6)
    assert main(["prior", *wishes]) == 0
    assert f"--alpha {told['alpha']:.6g} --discount {told['discount']:.6g}" in capsys.readouterr().out
    assert main(["prior", *wishes[:4], "--sd", "6", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["alpha_prior"]["law"] == "Gamma"


def test_wishes_that_exclude_each_other_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    wishes = ["prior", "--memories", "12", "--num-data", "1000"]
    assert "expected one of them at most" in _refusal(capsys, *wishes, "--discount", "0.1", "--sd", "5")
    assert "--later-num-data" in _refusal(capsys, *wishes, "--later-memories", "20")
    assert "leave room for" in _refusal(capsys, *wishes, "--later-memories", "13", "--later-num-data", "10000")


# --- streams and comparisons ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("here")
def test_a_stream_in_two_pieces_is_the_stream_in_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(2)
    centres = np.array([[0.0, 0.0], [9.0, 1.0], [-4.0, 8.0]])
    frame = pd.DataFrame(centres[rng.integers(0, 3, 260)] + rng.normal(size=(260, 2)), columns=["a", "b"])
    frame.to_csv("whole.csv", index=False)
    frame[:150].to_csv("first.csv", index=False)
    words = ["--covariance", "isotropic", "--warm", "40", "--json"]
    assert main(["stream", "whole.csv", *words, "-o", "whole.nc"]) == 0
    whole = json.loads(capsys.readouterr().out)
    assert main(["stream", "first.csv", *words, "-o", "half.nc"]) == 0
    monkeypatch.setattr(sys, "stdin", io.StringIO(frame[150:].to_csv(index=False)))
    assert main(["stream", "-", "--resume", "half.nc", "-o", "both.nc", "--json"]) == 0
    both = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {"memories", "seconds", "peak_mib"} <= both.keys()
    assert (both["data"], both["memories"]) == (260, whole["memories"])
    assert both["log_predictive"] == whole["log_predictive"]  # the same bits
    assert main(["predict", "both.nc", "whole.csv", "-o", "labels.csv"]) == 0
    capsys.readouterr()
    assert "leave it out" in _refusal(capsys, "stream", "whole.csv", "--resume", "half.nc", "--alpha", "3")


@pytest.mark.usefixtures("here")
def test_fits_are_compared_and_the_better_one_comes_first(capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(4)
    x = np.concatenate([rng.normal(-5, 1, (60, 2)), rng.normal(5, 1, (60, 2))])
    rng.shuffle(x)
    frame = pd.DataFrame(x, columns=["a", "b"])
    frame[:90].to_csv("seen.csv", index=False)
    frame[90:].to_csv("apart.csv", index=False)
    pd.DataFrame({"kind": (x[90:, 0] > 0).astype(int)}).to_csv("kinds.csv", index=False)
    for name, number in (("one", "1"), ("two", "2")):
        given = ["--covariance", "isotropic", "--weights", "dirichlet", "--components", number, "--engine", "em"]
        assert main(["fit", "seen.csv", *given, "-o", f"{name}.nc"]) == 0
    capsys.readouterr()
    words = ["compare", "one.nc", "two.nc", "--held-out", "apart.csv", "--labels", "kinds.csv"]
    assert main([*words, "--json", "-o", "table.csv"]) == 0
    told = json.loads(capsys.readouterr().out)["fits"]
    assert list(told) == ["two", "one"]
    assert told["two"]["ari"] == 1.0
    assert pd.read_csv("table.csv")["fit"].tolist() == ["two", "one"]
    assert main(words) == 0
    assert "log_score" in capsys.readouterr().out
    assert "named twice" in _refusal(capsys, "compare", "one.nc", "one.nc")
    assert "they need --engines" in _refusal(capsys, "compare", "one.nc", "two.nc", "--components", "3")
