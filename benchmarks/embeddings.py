"""Embeddings by many von Mises-Fisher memories, `em` in blocks and a stream: CPU seconds, peak memory, what is found.

``python -m benchmarks.embeddings [ROWS FEATURES MEMORIES FOLDER]``; 100,000 x 768 with 200 memories by default, 300 MB.
Rows are of SciPy's sampler, one memory at a time, with concentrations from 200 to 1500. A direction is found where a
memory has a cosine above 0.9 to it.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy.stats import vonmises_fisher

import probam
from benchmarks.first_answer import cpu_and_peak

_COMMANDS = {
    "em": ["fit", "--engine", "em", "--weights", "dirichlet", "--components", "{memories}", "--memory", "1GiB"],
    "stream": ["stream", "--float32"],
}


def embeddings(path: Path, num_rows: int, num_features: int, num_memories: int) -> np.ndarray:
    """Write rows of unit length to an NPY file; the true directions.

    Args:
        path: the file.
        num_rows: how many.
        num_features: of a row.
        num_memories: from which they are drawn.
    """
    rng = np.random.default_rng(0)
    means = rng.normal(size=(num_memories, num_features))
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    concentrations = rng.uniform(200, 1500, size=num_memories)
    memory = rng.choice(num_memories, size=num_rows, p=rng.dirichlet(np.full(num_memories, 5.0)))
    rows = np.lib.format.open_memmap(path, "w+", np.float32, (num_rows, num_features))
    for k, (mean, concentration) in enumerate(zip(means, concentrations, strict=True)):
        own = np.flatnonzero(memory == k)
        if own.size:
            rows[own] = vonmises_fisher(mean, concentration, seed=rng).rvs(own.size)
    rows.flush()
    return means


def num_found(path: Path, means: np.ndarray, num_rows: int) -> tuple[int, int]:
    """How many true directions the fit in a file has, and how many memories have more than 50 rows."""
    posterior = probam.load(path).tree["posterior"].to_dataset().isel(chain=0, draw=0)
    cosines = means @ posterior["mean_direction"].values.T
    large = posterior["weights"].values * num_rows > 50
    return int((cosines.max(axis=1) > 0.9).sum()), int(large.sum())


def main(num_rows: int = 100_000, num_features: int = 768, num_memories: int = 200, folder: str | None = None) -> None:
    """Make the rows, run the commands one after the other, and print what each took."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        path = Path(place) / "embeddings.npy"
        means = embeddings(path, num_rows, num_features, num_memories)
        for name, words in _COMMANDS.items():
            output = Path(place) / f"{name}.nc"
            asked = [word.format(memories=num_memories) for word in words]
            command = [sys.executable, "-m", "probam", asked[0], str(path), "--family", "vmf", *asked[1:]]
            began = time.perf_counter()
            cpu, peak = cpu_and_peak([*command, "--quiet", "-o", str(output)], dict(os.environ))
            directions, large = num_found(output, means, num_rows)
            print(
                f"{name}: {directions} of {num_memories} directions, {large} memories of more than 50 rows, "
                f"{cpu:.0f} CPU s, {time.perf_counter() - began:.0f} s, peak {peak:.0f} MiB, file "
                f"{output.stat().st_size / 2**20:.1f} MiB",
                flush=True,
            )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]), *sys.argv[4:5])
