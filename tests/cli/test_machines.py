"""A fit by several processes: its numbers are those of one, and the loss of a process ends the others in words."""

import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import probam
from probam.cli.main import main
from probam.data.rotation import is_sealed
from probam.reports.tree import read_tree
from tests.cli.test_killed import assert_same_posterior
from tests.cli.told_and_killed import started, told
from tests.inference.test_processes import free_port

MODEL = ("--weights", "dirichlet", "--components", "3", "--covariance", "diagonal", "--engine", "em", "--restarts", "2")


def _rows(number: int) -> np.ndarray:
    rng = np.random.default_rng(7)
    centres = np.array([[0.0, 10], [8, 20], [-7, 15]])
    group = np.sort(rng.choice(3, size=number, p=[0.6, 0.3, 0.1]))
    return centres[group] + rng.normal(size=(number, 2)) * [1, 5]


def _started(
    folder: Path, count: int, words: list[str], ends: Sequence[tuple[str, int]] = (), by: int = signal.SIGKILL
) -> "list[subprocess.Popen[str]]":
    """So many processes, each of which may have an end of its own."""
    place = ["--distributed", "--coordinator", f"127.0.0.1:{free_port()}", "--num-processes", str(count)]
    return [
        started(
            folder,
            [["fit", *words, *place, "--process-id", str(i)]],
            *(ends[i] if ends else ()),
            by=by,
            notes=f"told{i}",
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for i in range(count)
    ]


@pytest.mark.parametrize(
    ("kind", "engine"),
    [
        ("npy", "em"),
        ("csv", "em"),
        *(pytest.param("csv", engine, marks=pytest.mark.slow) for engine in ("gradient_em", "cavi", "svi")),
    ],
)
def test_two_processes_write_the_fit_of_one(kind: str, engine: str, tmp_path: Path) -> None:
    """The rows of the text have weights."""
    x = _rows(2000)
    weight = np.random.default_rng(1).integers(0, 4, len(x))
    for i, part in enumerate((slice(0, 500), slice(500, None))):
        if kind == "npy":
            np.save(tmp_path / f"part-{i}.npy", x[part])
        else:
            frame = pd.DataFrame({"x0": x[part, 0], "count": weight[part], "x1": x[part, 1]})
            frame.to_csv(tmp_path / f"part-{i}.csv", index=False)
    own = {"num_draws": 20} if engine in ("cavi", "svi") else {}
    own |= {"num_steps": 200} if engine == "svi" else {}
    words = [f"part-{{process}}.{kind}", *MODEL, "--engine", engine, "--standardise", "--memory", "300000", "--json"]
    words += [word for name, value in own.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    runs = _started(tmp_path, 2, words + (["--sample-weight", "count"] if kind == "csv" else []))
    (out, err), others = [run.communicate(timeout=280) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], (err, others)
    assert err == ""
    assert others == ("", "")
    assert out.startswith("{")
    assert sorted(path.name for path in tmp_path.glob("*.nc")) == ["fit.nc"]
    both = read_tree(tmp_path / "fit.nc")
    options = {"weights": "dirichlet", "components": 3, "covariance": "diagonal", "engine": engine, "restarts": 2}
    known = {"sample_weight": weight} if kind == "csv" else {}
    alone = probam.fit(x, **options, **own, **known, standardise=True, memory=300_000).tree
    assert "all_rows" in both.children
    for group in ("posterior", "memory", "all_rows", "observed_data", "constant_data"):
        for name, values in alone[group].to_dataset().data_vars.items():
            if values.dtype.kind == "f":
                np.testing.assert_allclose(
                    both[group][str(name)], values, rtol=1e-10, atol=1e-10, err_msg=f"{group}/{name}"
                )
    assert both.attrs["devices"].endswith("cpu in 2 processes")
    assert both.attrs["source"] == f"part-{{process}}.{kind}"
    assert both["all_rows"].attrs.get("total_weight") == (None if kind == "npy" else weight.sum())


@pytest.mark.parametrize(
    ("victim", "number"),
    [
        (1, signal.SIGKILL),
        pytest.param(0, signal.SIGKILL, marks=pytest.mark.slow),
        pytest.param(1, signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param(1, signal.SIGSTOP, marks=pytest.mark.slow),
        pytest.param(0, signal.SIGSTOP, marks=pytest.mark.slow),
    ],
)
def test_a_lost_process_ends_the_other_with_a_sentence_within_a_minute(
    victim: int, number: signal.Signals, tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", np.tile(_rows(5000), (10, 1)))
    words = ["x.npy", *MODEL, "--components", "10", "--memory", "2MB", "--option", "tolerance=0"]
    runs = _started(tmp_path, 2, words)
    other = runs[1 - victim]
    try:
        deadline = time.monotonic() + 240
        while (
            not all("EM, pass 2 over" in told(tmp_path, f"told{i}") for i in range(2)) and time.monotonic() < deadline
        ):
            assert [run.poll() for run in runs] == [None, None]
            time.sleep(0.05)
        runs[victim].send_signal(number)
        out, err = other.communicate(timeout=60)
    finally:
        for run in runs:
            run.kill()
            run.communicate()
    assert other.returncode == 2
    assert out == ""
    assert err.startswith("probam: distributed: another process of this run ")
    assert err.count("\n") == 1
    assert not list(tmp_path.glob("*.nc"))


CUT = ("x.npy", *MODEL, "--memory", "300000", "--option", "tolerance=0")
CHECKPOINT = ("--checkpoint", "run.ckpt")


def _ended(runs: "list[subprocess.Popen[str]]", seconds: float = 240) -> list[tuple[int, str]]:
    """Exit codes, and what was said on stderr."""
    try:
        said = [run.communicate(timeout=seconds)[1] for run in runs]
    finally:
        for run in runs:
            run.kill()
    return [(run.returncode, err) for run, err in zip(runs, said, strict=True)]


PLACES = {"em": ("EM, pass 5 over", 4), "gradient_em": ("gradient EM, pass 9 over", 3)}
PLACES |= {"cavi": ("CAVI, pass 4 over", 4), "svi": ("SVI", 4)}
"""Where runs are killed: words of the progress, and how often it has said them."""

STEPS = ("--option", "max_iterations=8")
OWN = {"cavi": (*STEPS, "--num-draws", "20"), "svi": ("--num-draws", "20", "--num-steps", "200")}


@pytest.mark.parametrize(
    ("engine", "victim"),
    [("em", 1), *(pytest.param(engine, 0, marks=pytest.mark.slow) for engine in PLACES)],
)
def test_after_the_loss_of_a_process_the_same_commands_go_on_to_the_bits_of_a_run_without_one(
    engine: str, victim: int, tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", _rows(2000))
    words = [*CUT, "--engine", engine, *OWN.get(engine, STEPS)]
    whole = _started(tmp_path, 2, [*words, "-o", "whole.nc"])
    assert _ended(whole) == [(0, ""), (0, "")]
    ends = [PLACES[engine] if i == victim else ("", 0) for i in range(2)]
    killed = _ended(_started(tmp_path, 2, [*words, *CHECKPOINT], ends))
    assert killed[victim] == (-signal.SIGKILL, "")
    code, err = killed[1 - victim]
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("probam: distributed: another process of this run ")
    assert err.endswith("; with a checkpoint they go on from there\n")
    assert is_sealed(tmp_path / "run.ckpt")
    assert not (tmp_path / "fit.nc").exists()
    for i in range(2):
        (tmp_path / f"told{i}").unlink()
    assert _ended(_started(tmp_path, 2, [*words, *CHECKPOINT])) == [(0, ""), (0, "")]
    for i in range(2 if engine == "em" else 0):
        again = told(tmp_path, f"told{i}").splitlines()
        assert not {"EM, pass 1 over 2,000 rows", "EM, pass 4 over 2,000 rows"} & set(again)
        assert "EM, pass 5 over 2,000 rows" in again
    assert_same_posterior(tmp_path / "fit.nc", tmp_path / "whole.nc")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_that_is_told_to_end_keeps_the_run_and_the_others_end_with_it(
    victim: int, number: signal.Signals, tmp_path: Path
) -> None:
    """The checkpoint is of the pass before the one in which the signal came, and the run goes on to the same bits."""
    np.save(tmp_path / "x.npy", _rows(2000))
    words = [*CUT, *STEPS]
    assert _ended(_started(tmp_path, 2, [*words, "-o", "whole.nc"])) == [(0, ""), (0, "")]
    ends = [("EM, pass 5 over", 4) if i == victim else ("", 0) for i in range(2)]
    runs = _started(tmp_path, 2, [*words, *CHECKPOINT], ends, number)
    with suppress(subprocess.TimeoutExpired):
        runs[victim].wait(timeout=240)
    told_to_end = _ended(runs, seconds=60)
    how = "terminated" if number == signal.SIGTERM else "interrupted"
    kept = f"probam: {how}; run.ckpt holds the run so far; the same command goes on from there\n"
    assert told_to_end[victim] == (128 + number, kept)
    code, err = told_to_end[1 - victim]
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("probam: distributed: another process of this run ")
    assert is_sealed(tmp_path / "run.ckpt")
    assert not (tmp_path / "fit.nc").exists()
    for i in range(2):
        (tmp_path / f"told{i}").unlink()
    assert _ended(_started(tmp_path, 2, [*words, *CHECKPOINT])) == [(0, ""), (0, "")]
    for i in range(2):
        again = told(tmp_path, f"told{i}").splitlines()
        assert "EM, pass 4 over 2,000 rows" not in again
        assert "EM, pass 5 over 2,000 rows" in again
    assert_same_posterior(tmp_path / "fit.nc", tmp_path / "whole.nc")


def test_a_process_that_waits_for_the_others_hears_that_it_is_to_end(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", _rows(100))
    port = free_port()
    place = ["--distributed", "--coordinator", f"127.0.0.1:{port}", "--num-processes", "2", "--process-id", "0"]
    run = started(tmp_path, [["fit", "x.npy", *MODEL, *place]], stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 120
        while not _listens(port) and time.monotonic() < deadline:
            time.sleep(0.1)
        run.send_signal(signal.SIGTERM)
        assert run.communicate(timeout=30)[1] == "probam: terminated; nothing was written\n"
    finally:
        run.kill()
    assert run.returncode == 143
    assert [path.name for path in tmp_path.iterdir()] == ["x.npy"]


def _listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("is_damaged", [True, False])
def test_a_checkpoint_that_the_first_process_cannot_use_ends_all_of_them(
    is_damaged: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path, said = Path("run.ckpt"), "run.ckpt is not a complete checkpoint"
    np.save(tmp_path / "x.npy", _rows(2000))
    path.write_bytes(b"nothing")
    if not is_damaged:
        path.unlink()
        options = {"weights": "dirichlet", "components": 3, "covariance": "diagonal", "engine": "em", "restarts": 2}
        own = {"tolerance": 0, "max_iterations": 8, "checkpoint": path}
        probam.fit("x.npy", **options, memory=300_000, **own)
        said = "run.ckpt is of another run: whole data is read by 1 process in the file and read by 2 processes in this"
    before = path.read_bytes()
    first, other = _ended(_started(tmp_path, 2, [*CUT, *STEPS, *CHECKPOINT]), seconds=100)
    assert (first[0], other[0]) == (2, 2)
    assert first[1].startswith(f"probam: checkpoint: {said}")
    assert other[1].startswith("probam: distributed: another process of this run ")
    assert [err.count("\n") for _, err in (first, other)] == [1, 1]
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--engine", "nuts"], "distributed: each process reads its own rows in blocks; engine 'nuts' needs all rows"),
        ([], "distributed: each process reads its own rows in blocks; the default engine needs all rows"),
        (["--engine", "em", "--missing"], "missing needs all rows at once: leave it out"),
        (
            ["--engine", "em", "--process-id", "2", "--num-processes", "2"],
            "--process-id: expected a number from 0 to 1",
        ),
        (["--engine", "em", "--coordinator", "here"], "--coordinator: expected HOST:PORT; got 'here'"),
    ],
)
def test_what_several_processes_cannot_do_is_told_before_they_wait(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "x.npy", _rows(10))
    assert main(["fit", str(tmp_path / "x.npy"), "--distributed", *words]) == 2
    assert said in capsys.readouterr().err


def test_the_place_of_a_process_is_for_several(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "x.npy", _rows(10))
    assert main(["fit", str(tmp_path / "x.npy"), "--process-id", "0"]) == 2
    assert "--process-id: it is for --distributed" in capsys.readouterr().err


def test_a_fit_in_python_asks_for_the_connection_first() -> None:
    with pytest.raises(probam.InputError, match=r"distributed: .* call jax\.distributed\.initialize"):
        probam.fit(_rows(10), engine="em", distributed=True)
