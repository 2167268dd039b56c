"""The README's programs run as printed, and what it points at is there."""

from pathlib import Path

import pytest

from tests.repository.links import broken_links, links_of
from tests.repository.printed import ROOT, blocks

README = ROOT / "README.md"
PYTHON = blocks(README.read_text(), "python")


def test_the_python_of_the_readme_runs_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every block in one namespace, as a reader pastes them, with EM for Gibbs sampling and a short chain."""
    program = "\n".join(PYTHON)
    shorter = {
        'load_shipped("faithful"), standardise=True': 'load_shipped("faithful"), engine="em", standardise=True',
        "num_warmup=300, num_samples=300)": "num_warmup=20, num_samples=20, progress_bar=False)",
    }
    for printed, short in shorter.items():
        assert printed in program
        program = program.replace(printed, short)
    monkeypatch.chdir(tmp_path)
    exec(compile(program, "README.md", "exec"), {"__name__": "__main__"})
    assert {path.name for path in tmp_path.iterdir()} == {"fit.nc", "report.html"}


def test_links_of_the_readme_lead_somewhere() -> None:
    assert len(links_of(README)) > 5
    assert broken_links(README) == []
