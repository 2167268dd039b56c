"""The lessons run as they are, and their facts hold."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
LESSONS = sorted(EXAMPLES.glob("lesson_*.py"))


def test_there_are_six_lessons_each_below_80_lines() -> None:
    assert [lesson.name.split("_")[1] for lesson in LESSONS] == list("123456")
    assert {lesson.name: lines for lesson in LESSONS if (lines := len(lesson.read_text().splitlines())) >= 80} == {}


@pytest.mark.parametrize("lesson", LESSONS, ids=[lesson.stem for lesson in LESSONS])
def test_what_the_lesson_asserts_is_true(lesson: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "assert" in lesson.read_text()
    runpy.run_path(str(lesson), run_name="__main__")
    assert len(capsys.readouterr().out.splitlines()) >= 3, "a lesson tells the reader what it has found"


def test_a_lesson_runs_as_a_script_from_any_folder(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    run = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:__main__", LESSONS[0]],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert "claim A2" in run.stdout
    assert list(tmp_path.iterdir()) == []
