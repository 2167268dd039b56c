"""What a command asks of XLA: every program costs compiling, lowering or loading, however small it is."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from probam.compiled import SWITCH
from probam.data.shipped import load_shipped

_OF_EM = 16
"""Most programs of a fit by EM; ten of them are the engine and what comes before it."""

_OF_LENGTH = 2
"""Most of them that are made again for another number of rows: where the sums begin, and the metric of the starts."""

_OF_SVI = 33

_OF_STREAM = 40

_OF_REPORT = 24
"""Of the first report of a fit by EM; the groups that it makes are kept."""


def _counted(folder: Path, *words: str) -> dict[str, int]:
    """Programs that a command asks for in a process of its own, and those that it does not find in the cache."""
    counts = folder / "counts.json"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JAX_COMPILATION_CACHE")}
    subprocess.run(
        [sys.executable, "-m", "benchmarks.counted", str(counts), *words],
        check=True,
        capture_output=True,
        cwd=Path(__file__).parents[2],
        env=kept | {SWITCH: str(folder / "compiled"), "XDG_CACHE_HOME": str(folder)},
    )
    counted: dict[str, int] = json.loads(counts.read_text(encoding="utf-8"))
    return counted


def _rows(path: Path, values: np.ndarray) -> str:
    np.savetxt(path, values, delimiter=",", header="eruptions,waiting", comments="")
    return str(path)


def test_a_fit_by_em_asks_for_few_programs_and_the_next_one_finds_them(tmp_path: Path) -> None:
    x, fitted = load_shipped("faithful").values, tmp_path / "fit.nc"
    whole, shorter = (_rows(tmp_path / f"{len(rows)}.csv", rows) for rows in (x, x[:-1]))
    first = _counted(tmp_path, "fit", whole, "--engine", "em", "-o", str(fitted))
    assert 0 < first["programs"] <= _OF_EM
    other = _counted(tmp_path, "fit", shorter, "--engine", "em", "-o", str(tmp_path / "other.nc"))
    assert 0 < other["misses"] <= _OF_LENGTH < first["misses"]
    assert _counted(tmp_path, "fit", whole, "--engine", "em", "-o", str(fitted))["misses"] == 0
    report = ("report", str(fitted), "-o", str(tmp_path / "report.html"))
    assert 0 < _counted(tmp_path, *report)["programs"] <= _OF_REPORT
    assert _counted(tmp_path, *report)["programs"] <= 2


def test_a_stream_asks_for_few_programs_and_one_of_another_length_finds_them(tmp_path: Path) -> None:
    x, saved = load_shipped("faithful").values[::4], str(tmp_path / "stream.nc")
    whole, shorter = (_rows(tmp_path / f"{len(rows)}.csv", rows) for rows in (x, x[:-1]))
    assert 0 < _counted(tmp_path, "stream", whole, "-o", saved)["programs"] <= _OF_STREAM
    assert _counted(tmp_path, "stream", shorter, "-o", saved)["misses"] == 0


@pytest.mark.slow
def test_a_fit_by_svi_asks_for_few_programs(tmp_path: Path) -> None:
    words = ("fit", "faithful", "--engine", "svi", "-o", str(tmp_path / "fit.nc"))
    assert 0 < _counted(tmp_path, *words)["programs"] <= _OF_SVI
