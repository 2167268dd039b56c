"""The memory of one's own recalls, is the density that it says, and its example gives the number that it prints."""

import doctest
import runpy
from pathlib import Path

import pytest

FILE = Path(__file__).resolve().parents[2] / "examples" / "a_memory_of_your_own.py"


def test_what_the_file_asserts_is_true(capsys: pytest.CaptureFixture[str]) -> None:
    assert FILE.read_text().count("assert ") >= 3
    scope = runpy.run_path(str(FILE), run_name="__main__")
    assert "energy and log density agree" in capsys.readouterr().out
    test = doctest.DocTestParser().get_doctest(scope["Phases"].__doc__, scope, "Phases", str(FILE), 0)
    results = doctest.DocTestRunner(verbose=False).run(test)
    assert (results.failed, results.attempted) == (0, 3)
