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

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the programs of all engines came to."""
    output = tmp_path_factory.mktemp("lowered") / "report.json"
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.fits.lowered", str(output)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(output.read_text())
    return found


def test_every_program_lowers_for_cuda(report: dict[str, Any]) -> None:
    assert report["failed"] == {}


def test_no_compiled_function_of_an_engine_was_left_out(report: dict[str, Any]) -> None:
    of_engines = {name for name in report["known"] if name.startswith("probam.inference.")}
    assert len(of_engines) > 50
    assert of_engines - set(report["lowered"]) == set()
    assert {name.split(".")[2] for name in of_engines} >= {
        "cavi", "em", "evidence", "gibbs", "gradient_em", "nuts", "smc", "stream", "svi"
    }  # fmt: skip
    assert {"probam.dynamics.learning._descend", "probam.fits.posterior.read"} <= set(report["lowered"])


def test_work_laid_out_for_a_gpu_gives_the_numbers_of_the_cpu(report: dict[str, Any]) -> None:
    """Engines, prediction, completion and recall: no quantity differs by more than rounding (1e-9 relative)."""
    assert len(report["different"]) > 10
    assert {name: found for name, found in report["different"].items() if found} == {}
