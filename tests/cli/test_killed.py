"""Runs that are killed: nothing is lost, nothing is corrupt, and the end is that of a run that was not killed."""

import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest

from probam.data.rotation import Keeper, is_sealed
from probam.fits.options import ENGINES, TAKE_BLOCKS
from probam.reports.tree import read_tree
from tests.cli.told_and_killed import started, told

PROGRAM = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from probam.data import rotation
rotation.EVERY = float(sys.argv[1])
from probam.cli.main import main
sys.exit(main(sys.argv[2:]))
"""
"""The command line, which writes its checkpoint as often as it is told."""

RUNS = {
    "nuts": "--weights dirichlet --components 2 --num-warmup 300 --num-draws 600 --num-chains 2",
    "gibbs": "--components 8 --num-warmup 500 --num-draws 1500 --num-chains 2",
    "smc": "--weights dirichlet --components 2 --option num_particles=300 --num-chains 2",
    "em": "--weights dirichlet --components 12 --restarts 8 --option tolerance=0 --option max_iterations=2000",
    "gradient_em": "--weights dirichlet --components 4 --restarts 3 --option tolerance=0 --option max_iterations=400",
    "svi": "--weights dirichlet --components 4 --restarts 3 --num-steps 4000 --num-draws 200 --option tolerance=0",
    "cavi": "--components 20 --restarts 6 --num-draws 200 --option tolerance=0",
    "clam": "--weights uniform --components 6 --restarts 4 --option num_epochs=2000",
    "stream": "--warm 200 --every 500",
    "em over a file": "--weights dirichlet --components 3 --restarts 1 --option tolerance=0",
    "gradient_em over a file": "--weights dirichlet --components 3 --restarts 1 --option tolerance=0 "
    "--option max_iterations=60",
    "cavi over a file": "--components 6 --restarts 1 --num-draws 50 --option tolerance=0",
    "svi over a file": "--weights dirichlet --components 3 --restarts 1 --num-steps 4000 --num-draws 50 "
    "--option tolerance=0",
}
"""Options of a run of each engine, of a stream and of those that read rows in blocks, of some seconds."""

IN_BLOCKS = {
    "em": "--weights dirichlet --components 3 --restarts 1 --option tolerance=0 --option max_iterations=6",
    "cavi": "--components 4 --restarts 1 --num-draws 20 --option tolerance=0 --option max_iterations=6",
    "svi": "--weights dirichlet --components 3 --restarts 1 --num-steps 200 --num-draws 20 --option tolerance=0",
}
"""Options of short runs over rows in blocks, of which a sample is searched first."""


class Trial(NamedTuple):
    """A run that is killed again and again."""

    folder: Path
    words: tuple[str, ...]
    every: float

    def start(self, *, stderr: int = subprocess.DEVNULL) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(self.every), *self.words],
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            text=True,
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},  # XLA tells of programs that it finds in a cache
        )

    @property
    def holder(self) -> str:
        """Who has the checkpoint, in words; empty where nobody does, or a killed run left it at once."""
        try:
            return (self.folder / "run.ckpt.lock").read_text()
        except FileNotFoundError:
            return ""

    @property
    def unfinished(self) -> set[str]:
        """Files that are being written, or were when a run was killed."""
        return {entry.name for entry in os.scandir(self.folder) if entry.name.startswith(".probam-")}

    def assert_nothing_is_corrupt(self) -> None:
        """The last version is whole, or the one before where there is none yet."""
        checkpoint = self.folder / "run.ckpt"
        assert not checkpoint.exists() or is_sealed(checkpoint)
        previous = self.folder / "run.ckpt.previous"
        assert not previous.exists() or is_sealed(previous)


def trial_of(name: str, folder: Path, every: float = 0.0) -> Trial:
    """The run with this name, on data in this folder."""
    engine, *larger = name.split(maxsplit=1)
    command = "stream" if engine == "stream" else f"fit --engine {engine}"
    command += " --memory 1000000" if larger else ""
    data_in(folder, 20_000 if larger or engine == "stream" else 200)
    words = f"{command} rows.csv --covariance isotropic {RUNS[name]} --quiet --checkpoint run.ckpt -o fit.nc"
    return Trial(folder, tuple(words.split()), every)


def data_in(folder: Path, num_data: int) -> None:
    """Rows around four centres, as a table."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(num_data, 2)) + 5.0 * rng.integers(0, 4, (num_data, 1)) * [1, -0.5]
    pd.DataFrame(rows, columns=["a", "b"]).to_csv(folder / "rows.csv", index=False)


def wait_for(run: "subprocess.Popen[str]", trial: Trial, *, in_a_write: bool, seconds: float) -> None:
    """Until so much time of the engine's work is over, and where that is asked for until it writes after that."""
    known = trial.unfinished
    while run.poll() is None and str(run.pid) not in trial.holder.split():
        time.sleep(0.01)
    until = time.monotonic() + seconds
    while run.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    while in_a_write and run.poll() is None and trial.holder and not trial.unfinished - known:
        pass


def killed(trial: Trial, *, in_a_write: bool, seconds: float) -> str:
    """How a run was hit: ``in a write``, ``at work``, or ``after its work`` where the engine was faster."""
    before, run = trial.unfinished, trial.start()
    try:
        wait_for(run, trial, in_a_write=in_a_write, seconds=seconds)
        run.send_signal(signal.SIGKILL)
        code = run.wait()
    finally:
        run.kill()
        run.wait()
    trial.assert_nothing_is_corrupt()
    if code == 0 or not trial.holder:
        return "after its work"
    assert code == -signal.SIGKILL
    return "in a write" if trial.unfinished - before else "at work"


def seconds_of(trial: Trial) -> float:
    """Of an engine's work in a whole run: as long as it holds its checkpoint."""
    run = trial.start()
    while run.poll() is None and not trial.holder:
        time.sleep(0.01)
    began = time.monotonic()
    while run.poll() is None and trial.holder:
        time.sleep(0.01)
    seconds = time.monotonic() - began
    assert run.wait() == 0
    return seconds


def assert_same_posterior(one: Path, other: Path) -> None:
    """Bit for bit."""
    ours, theirs = read_tree(one), read_tree(other)
    for group in ("posterior", "sample_stats", "optimisation"):
        assert (group in ours.children) == (group in theirs.children)
        if group in theirs.children:
            assert set(ours[group].data_vars) == set(theirs[group].data_vars)
            for name, values in theirs[group].data_vars.items():
                np.testing.assert_array_equal(ours[group][str(name)].values, values.values, err_msg=f"{group}/{name}")


def survived(name: str, whole: Trial, seconds: float, trial: Trial, kills: int, rng: random.Random) -> Counter[str]:
    """Kill a run so often or more, let it end, and compare; every other time it should be hit while it writes.

    The system may let a write end before the signal comes: it is tried again until a third of the hits were in one.

    Args:
        name: of the engine.
        whole: the run that was not killed.
        seconds: that its engine took.
        trial: the same in another folder.
        kills: how often at least, spread over the engine's work.
        rng: for the moments.
    """
    hits = Counter[str]()
    for number in range(5 * kills):
        in_a_write, share = number % 2 == 0, rng.uniform(0.1, 0.9) / kills
        hits[killed(trial, in_a_write=in_a_write, seconds=share * seconds)] += 1
        if hits["in a write"] + hits["at work"] >= kills and hits["in a write"] >= kills // 3:
            break
        if (trial.folder / "fit.nc").exists():  # it has come to its end: once more from the beginning
            assert_same_posterior(trial.folder / "fit.nc", whole.folder / "fit.nc")
        if not trial.holder:
            for made in ("fit.nc", "run.ckpt", "run.ckpt.previous"):
                (trial.folder / made).unlink(missing_ok=True)
    assert trial.start().wait() == 0, name
    assert_same_posterior(trial.folder / "fit.nc", whole.folder / "fit.nc")
    return hits


@pytest.fixture(scope="module")
def whole_gibbs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trial, float]:
    """A run that nothing has hit, and the seconds that it took."""
    trial = trial_of("gibbs", tmp_path_factory.mktemp("whole"))
    return trial, seconds_of(trial)


def test_gibbs_that_was_killed_ends_in_the_bits_of_a_run_that_was_not(
    whole_gibbs: tuple[Trial, float], tmp_path: Path
) -> None:
    hits = survived("gibbs", *whole_gibbs, trial_of("gibbs", tmp_path), 2, random.Random(1))
    assert hits["in a write"] + hits["at work"] >= 2


@pytest.mark.parametrize("name", ["em", "stream"])
def test_a_run_that_was_killed_ends_in_the_bits_of_one_that_was_not(name: str, tmp_path: Path) -> None:
    whole = trial_of(name, tmp_path / "whole")
    survived(name, whole, seconds_of(whole), trial_of(name, tmp_path / "killed"), 1, random.Random(1))


def test_every_engine_is_killed() -> None:
    assert set(RUNS) == {*ENGINES, "stream", *(f"{engine} over a file" for engine in TAKE_BLOCKS)}


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_fifty_kills_lose_nothing(name: str, tmp_path: Path) -> None:
    """Six or more of each run, spread over it, and some of them in the middle of a write."""
    whole, trial = trial_of(name, tmp_path / "whole"), trial_of(name, tmp_path / "killed")
    hits = survived(name, whole, seconds_of(whole), trial, 6, random.Random(7))
    print(name, dict(hits), f"{len(trial.unfinished)} half-written files")
    assert hits["in a write"] + hits["at work"] >= 6
    assert hits["in a write"] >= 2


def in_blocks(engine: str) -> list[str]:
    """A fit of data larger than the memory that it may take."""
    words = f"fit rows.csv --engine {engine} --memory 300000 --covariance diagonal {IN_BLOCKS[engine]}"
    return [*words.split(), "--checkpoint", f"{engine}.ckpt", "-o", f"{engine}.nc"]


def test_a_kill_in_the_midst_of_a_pass_over_a_file_costs_that_pass_and_no_bit(tmp_path: Path) -> None:
    kills = {"em": ("EM, pass 5 over", 9), "cavi": ("CAVI, pass 2 over", 5), "svi": ("SVI", 4)}
    for name in ("whole", "cut"):
        data_in(tmp_path / name, 2000)
    runs = [started(tmp_path / "whole", [in_blocks(engine) for engine in kills], stdout=subprocess.DEVNULL)]
    for engine, place in kills.items():
        run = started(tmp_path / "cut", [in_blocks(engine)], *place, notes=engine, stdout=subprocess.DEVNULL)
        assert run.wait() == -signal.SIGKILL
        assert is_sealed(tmp_path / "cut" / f"{engine}.ckpt")
    runs += [started(tmp_path / "cut", [in_blocks(engine) for engine in kills], stdout=subprocess.DEVNULL)]
    assert [run.wait() for run in runs] == [0, 0]
    again = set(told(tmp_path / "cut").splitlines())
    assert not again & {f"EM, pass {number} over 2,000 rows" for number in range(1, 5)}  # those were not made again
    assert {"EM, pass 5 over 2,000 rows", "CAVI, pass 2 over 2,000 rows"} <= again
    for engine in kills:
        assert_same_posterior(tmp_path / "cut" / f"{engine}.nc", tmp_path / "whole" / f"{engine}.nc")


# --- signals ---------------------------------------------------------------------------------------------------


@contextmanager
def going_on(trial: Trial) -> Iterator["subprocess.Popen[str]"]:
    """A run that has written its checkpoint and goes on."""
    run, until = trial.start(stderr=subprocess.PIPE), time.monotonic() + 120
    try:
        while not (trial.folder / "run.ckpt").exists() and run.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        yield run
    finally:
        run.kill()
        run.wait()


def endless(folder: Path, every: float = 0.0) -> Trial:
    """A run of Gibbs that has no end."""
    trial = trial_of("gibbs", folder, every)
    return trial._replace(words=(*trial.words, "--num-draws", "1000000"))


def done(checkpoint: Path) -> int:
    """Steps in a checkpoint."""
    with np.load(checkpoint) as file:
        return int(json.loads(str(file["head"]))["phases"][-1]["done"])


def wait_for_two_versions(trial: Trial) -> None:
    until = time.monotonic() + 60
    while not (trial.folder / "run.ckpt.previous").exists() and time.monotonic() < until:
        time.sleep(0.01)


def test_a_disk_that_gets_full_costs_no_step_and_a_changed_bit_a_line_and_one_version(
    whole_gibbs: tuple[Trial, float], tmp_path: Path
) -> None:
    """From some moment on no file of the process can grow; then the disk spoils what it has."""
    trial, checkpoint = trial_of("gibbs", tmp_path), tmp_path / "run.ckpt"
    with going_on(trial) as run:
        until = time.monotonic() + 60
        while not (tmp_path / "run.ckpt.previous").exists() and time.monotonic() < until:
            time.sleep(0.01)
        resource.prlimit(run.pid, resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
        _, err = run.communicate(timeout=60)
    assert run.returncode == 2
    assert re.fullmatch(r"probam: .*run.ckpt: it could not be written \(.*File too large\)\n", err)
    assert sorted(os.listdir(tmp_path)) == ["rows.csv", "run.ckpt", "run.ckpt.previous"]
    assert is_sealed(checkpoint)
    assert is_sealed(tmp_path / "run.ckpt.previous")
    content = bytearray(checkpoint.read_bytes())
    content[len(content) // 2] ^= 1
    checkpoint.write_bytes(content)
    run = trial._replace(words=tuple(word for word in trial.words if word != "--quiet")).start(stderr=subprocess.PIPE)
    _, err = run.communicate(timeout=200)
    assert run.returncode == 0
    assert err == "probam: run.ckpt is damaged; going on from run.ckpt.previous, the version before\n"
    assert_same_posterior(tmp_path / "fit.nc", whole_gibbs[0].folder / "fit.nc")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_writes_the_checkpoint_and_says_that_the_same_command_goes_on(
    number: signal.Signals, tmp_path: Path
) -> None:
    """What was done since the last writing is in the file."""
    trial = endless(tmp_path, every=1.0)
    with going_on(trial) as run:
        before = done(tmp_path / "run.ckpt")
        time.sleep(0.5)
        run.send_signal(number)
        _, err = run.communicate(timeout=60)
    assert run.returncode == 128 + number
    how = "terminated" if number == signal.SIGTERM else "interrupted"
    assert err == f"probam: {how}; run.ckpt holds the run so far; the same command goes on from there\n"
    assert {path.name for path in tmp_path.iterdir()} - {"run.ckpt.previous"} == {"rows.csv", "run.ckpt"}
    trial.assert_nothing_is_corrupt()
    assert done(tmp_path / "run.ckpt") >= before


def test_a_signal_keeps_the_rows_of_a_pipe_that_were_learned(tmp_path: Path) -> None:
    trial = trial_of("stream", tmp_path)
    with going_on(trial) as run:
        run.send_signal(signal.SIGTERM)
        _, err = run.communicate(timeout=60)
    assert run.returncode == 143
    assert err == "probam: terminated; run.ckpt holds the rows so far; the same command goes on from there\n"
    trial.assert_nothing_is_corrupt()


def test_a_second_run_on_the_same_checkpoint_is_told_so(tmp_path: Path) -> None:
    trial = trial_of("gibbs", tmp_path)
    with Keeper(tmp_path / "run.ckpt"):  # this process is the first run
        second = trial.start(stderr=subprocess.PIPE)
        _, err = second.communicate(timeout=200)
    assert second.returncode == 2
    assert err.startswith(f"probam: checkpoint: a run that goes on writes run.ckpt (process {os.getpid()} on ")
    assert len(err.splitlines()) == 1
    assert sorted(os.listdir(tmp_path)) == ["rows.csv"]
