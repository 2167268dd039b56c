"""Commands about many rows take little more memory than the same commands about few."""

import os
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest

from benchmarks.first_answer import cpu_and_peak
from probam.cli.main import main

CENTRES = np.random.default_rng(0).normal(size=(10, 16)) * 4


def _rows(path: str, num_rows: int, seed: int) -> None:
    """Rows about ten centres, single precision, written a few at a time."""
    file = np.lib.format.open_memmap(path, "w+", np.float32, (num_rows, 16))
    for first in range(0, num_rows, 100_000):
        rng = np.random.default_rng((seed, first))
        part = file[first : first + 100_000]
        part[:] = CENTRES[rng.integers(10, size=len(part))] + rng.standard_normal(part.shape)
    file.flush()


def _peak(*words: str) -> float:
    """Most MiB that a command of its own process has in memory."""
    return cpu_and_peak([sys.executable, "-m", "probam", *words], dict(os.environ), Path.cwd())[1]


@pytest.fixture
def fit(here: Path) -> str:
    """Ten memories of sixteen features."""
    _rows("train.npy", 5000, 1)
    words = "--engine em --covariance diagonal --weights dirichlet --components 10 --restarts 1 -o fit.nc"
    assert main(["fit", "train.npy", *words.split()]) == 0
    return str(here / "fit.nc")


def _bar(fit: str, command: str, num_rows: int, most: float) -> None:
    _rows("few.npy", 1000, 2)
    _rows("many.npy", num_rows, 3)
    few, many = (_peak(command, fit, f"{name}.npy", "-o", f"{name}.parquet") for name in ("few", "many"))
    assert many - few < most, f"{command}: {many:.0f} MiB for {num_rows} rows, {few:.0f} for 1000"
    assert parquet.ParquetFile("many.parquet").metadata.num_rows == num_rows


@pytest.mark.parametrize("command", ["predict", "recall"])
def test_a_million_rows_are_answered_in_less_than_200_mib_more(fit: str, command: str) -> None:
    _bar(fit, command, 1_000_000, 200)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_twenty_million_rows_are_predicted_in_less_than_200_mib_more(fit: str) -> None:
    _bar(fit, "predict", 20_000_000, 200)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_million_cues_are_completed_in_less_than_400_mib_more(fit: str) -> None:
    _bar(fit, "complete", 1_000_000, 400)
