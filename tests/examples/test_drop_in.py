"""The example of scikit-learn's interface and the programs of its page run, and what they assert is true."""

import runpy
from pathlib import Path

import pytest

from tests.repository.printed import ROOT, blocks

FILE = ROOT / "examples" / "sklearn_drop_in.py"
PROGRAMS = blocks((ROOT / "docs" / "sklearn.md").read_text(), "python")


def test_what_the_example_asserts_is_true(capsys: pytest.CaptureFixture[str]) -> None:
    assert FILE.read_text().count("\nassert ") == 5
    runpy.run_path(str(FILE), run_name="__main__")
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_the_programs_of_the_page_run_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(PROGRAMS) == 3
    monkeypatch.chdir(tmp_path)
    scope: dict[str, object] = {}
    exec(compile("\n".join(PROGRAMS), "sklearn.md", "exec"), scope)
    assert {path.name for path in tmp_path.iterdir()} == {"parameters.json"}
