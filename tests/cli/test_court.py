"""The command that verifies claims and fits."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from probam.claims.claim import claim
from probam.cli.main import main
from probam.reports.court import VERDICTS
from tests.cli.conftest import Refusal


def test_verify_passes_for_a_claim_and_a_fit(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(saved), "--claim", "A2"]) == 0
    assert "A2" in capsys.readouterr().out
    assert main(["verify", str(saved), "--claim", "A2", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["passed"] is True
    assert {claim["claim"] for claim in record["claims"]} >= {"A2"}
    assert all(check["passed"] for check in record["fit"])
    assert record["fit"]


def test_words_of_the_table_are_explained_below_it(capsys: pytest.CaptureFixture[str]) -> None:
    verdicts = {"A2": claim("A2").verdict, "A7": claim("A7").verdict}
    assert main(["verify", "--claim", "A2", "--claim", "A7"]) == 0
    printed = capsys.readouterr().out
    shown = {word for word in VERDICTS if f"  {word:<6}{VERDICTS[word]}\n" in printed}
    assert shown == set(verdicts.values())
    assert ("is no fault" in printed) == bool(shown & {"WRONG", "TYPO", "ILL"})


@pytest.mark.usefixtures("here")
def test_a_refused_experiment_leaves_no_folder(refusal: Refusal) -> None:
    assert "uses no further data sets" in refusal("experiment", "xor", "--data", ".", "-o", "out/of/here")
    assert os.listdir() == []


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
