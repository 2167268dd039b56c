"""What a command holds of large data: some copies of the rows, and nothing of rows by memories."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.first_answer import cpu_and_peak

_MOST_MIB = 500
"""Beyond what the same command takes for a thousand rows."""

_MOST_OF_FILE = 3
"""Size of the file of a point estimate, in sizes of its data."""


def _peak_mib(*words: str) -> float:
    """Of a command in a process of its own that has its programs already."""
    command = [sys.executable, "-m", "probam.cli.main", *words]
    subprocess.run(command, check=True, capture_output=True)
    return cpu_and_peak(command, dict(os.environ))[1]


@pytest.mark.slow
def test_a_fit_of_a_million_rows_holds_little_beyond_them(tmp_path: Path) -> None:
    rng, peaks = np.random.default_rng(0), {}
    centres = 2 * rng.normal(size=(16, 16))
    for num_rows in (1000, 1_000_000):
        x = centres[rng.integers(0, 16, num_rows)] + rng.normal(size=(num_rows, 16))
        rows, fit = tmp_path / f"{num_rows}.npy", tmp_path / f"{num_rows}.nc"
        np.save(rows, x.astype(np.float32))
        model = ("--covariance", "diagonal", "--weights", "dirichlet", "--components", "16")
        steps = ("--engine", "em", "--restarts", "2", "--option", "max_iterations=20")
        peaks[num_rows] = _peak_mib("fit", str(rows), *model, *steps, "-o", str(fit))
    assert peaks[1_000_000] - peaks[1000] < _MOST_MIB
    assert fit.stat().st_size < _MOST_OF_FILE * rows.stat().st_size
