"""Sides of a benchmark run at their best, and what they need can be installed."""

import subprocess
import venv
from pathlib import Path

import pytest

from benchmarks.contest import Runner, make

ROOT = Path(__file__).parents[2]


def test_a_side_takes_the_kernel_of_its_processor_whatever_this_process_was_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    free = Runner(make("em-full"), "floor")
    free.close()
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Prescott")  # the oldest kernel of all
    held_back = Runner(make("em-full"), "floor")
    held_back.close()
    assert free.pools == held_back.pools
    assert all(pool.get("architecture", "").lower() != "prescott" for pool in held_back.pools)
    assert all(pool["num_threads"] >= 1 for pool in free.pools)


@pytest.mark.slow
def test_the_peers_are_installed_beside_probam_with_the_versions_of_the_constraints(tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    install = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", ROOT / "constraints.txt")
    subprocess.run([python, *install, f"{ROOT}[dev,bench]"], check=True)
    peers = "import nutpie, pymc, torch, sklearn, blackjax; print(torch.__version__.split('+')[0])"
    version = subprocess.run([python, "-c", peers], check=True, capture_output=True, text=True).stdout.strip()
    assert f"torch=={version}" in (ROOT / "constraints.txt").read_text().splitlines()
