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


def test_a_fit_is_verified_without_the_claims_unless_they_are_asked_for(
    saved: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from probam.claims import verify as court

    asked: list[bool] = []

    def no_claims(*_: Any, **options: Any) -> Any:
        asked.append(options["slow"])
        return iter(())

    monkeypatch.setattr(court, "certify_each", no_claims)
    assert main(["verify", str(saved), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["claims"] == []
    assert record["fit"]
    assert main(["verify", str(saved)]) == 0
    printed = capsys.readouterr().out
    assert "entries of the list" not in printed
    assert "fast log density" in printed
    assert not asked
    assert main(["verify", str(saved), "--court"]) == 0
    assert "entries of the list" in capsys.readouterr().out
    assert main(["verify", str(saved), "--all"]) == 0
    assert asked == [False, True]


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
