"""The command that verifies claims and fits."""

import json
from pathlib import Path
from typing import Any

import pytest

from probam.cli.main import main


def test_verify_passes_for_a_claim_and_a_fit(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(saved), "--claim", "A2"]) == 0
    assert "A2" in capsys.readouterr().out
    assert main(["verify", str(saved), "--claim", "A2", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["passed"] is True
    assert {claim["claim"] for claim in record["claims"]} >= {"A2"}
    assert all(check["passed"] for check in record["fit"])
    assert record["fit"]


def test_a_failed_statement_gives_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from probam.claims import verify as court

    honest = court.certify

    def failing(*arguments: Any, **options: Any) -> Any:
        return honest(*arguments, **options)._replace(passed=False, error=1.0)

    monkeypatch.setattr(court, "certify", failing)
    assert main(["verify", "--claim", "A2"]) == 1
    assert "A2" in capsys.readouterr().out
