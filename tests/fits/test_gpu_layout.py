"""What a GPU would run: the programs of all engines lower for CUDA, and laid out for a GPU they give the same numbers.

No GPU is needed: :mod:`tests.fits.lowered` lowers the programs, and runs those that are laid out for a GPU on the CPU.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(900)  # one process runs and lowers everything

ROOT = Path(__file__).parents[2]


QUICKLY_COMPARED = ("em", "nuts", "smc", "gibbs blocked")


def _report(output: Path, *compared: str) -> dict[str, Any]:
    """What the programs of all engines came to, and how the numbers of the named pieces of work differ."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    command = [sys.executable, "-m", "tests.fits.lowered", str(output), *compared]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(output.read_text())
    return found


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of all engines; a few of them compared."""
    return _report(tmp_path_factory.mktemp("lowered") / "report.json", *QUICKLY_COMPARED)


def test_every_program_lowers_for_cuda(report: dict[str, Any]) -> None:
    assert report["failed"] == {}


def test_no_compiled_function_of_an_engine_was_left_out(report: dict[str, Any]) -> None:
    of_engines = {name for name in report["known"] if name.startswith("probam.inference.")}
    assert len(of_engines) > 50
    assert of_engines - set(report["lowered"]) == set()
    assert {name.split(".")[2] for name in of_engines} >= {
        "cavi", "em", "evidence", "gibbs", "gradient_em", "nuts", "smc", "stream", "svi"
    }  # fmt: skip
    others = {
        "dynamics.learning._descend",
        "dynamics.recall._blocks",
        "fits.posterior._read",
        "fits.answers._in_blocks",
    }
    assert {f"probam.{name}" for name in others} <= set(report["lowered"])


def _differ(report: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Quantities of which work differs by more than rounding (1e-9 of them), and by how much."""
    return {name: found for name, found in report["different"].items() if found}


def test_work_laid_out_for_a_gpu_gives_the_numbers_of_the_cpu(report: dict[str, Any]) -> None:
    assert set(report["different"]) == set(QUICKLY_COMPARED)
    assert _differ(report) == {}


@pytest.mark.slow
def test_all_work_laid_out_for_a_gpu_lowers_and_gives_the_numbers_of_the_cpu(tmp_path: Path) -> None:
    """Prediction, completion, recall and streams too."""
    report = _report(tmp_path / "report.json")
    assert report["failed"] == {}
    assert len(report["different"]) == 16
    assert _differ(report) == {}
