"""What a command asks of XLA: every program costs compiling, lowering or loading, however small it is."""

import json
import os
import subprocess
import sys
from pathlib import Path

from probam.compiled import SWITCH

_MOST = 42
"""Programs of a fit by EM; eleven of them are the engine and what comes before it."""


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


def test_a_fit_by_em_asks_for_few_programs_and_the_next_one_finds_them_all(tmp_path: Path) -> None:
    words = ("fit", "faithful", "--engine", "em", "-o", str(tmp_path / "fit.nc"))
    first = _counted(tmp_path, *words)
    assert 0 < first["programs"] <= _MOST
    assert first["misses"] > 0
    assert _counted(tmp_path, *words)["misses"] == 0
