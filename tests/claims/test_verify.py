"""The court in session: every claim holds, every misprint fails, and the result can be read by people and machines."""

import io
import json
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from rich.console import Console

from probam.claims import claim as room
from probam.claims.claim import Certificate, claim, registry, select
from probam.claims.entries import ENTRIES, PENDING, answered, missing
from probam.claims.verify import as_json, certify, certify_each, summary, table, verify
from probam.cli.main import main
from probam.errors import InputError


@pytest.fixture(scope="module")
def certificates() -> list[Certificate]:
    return verify(seed=0)


def test_every_exact_statement_holds_and_every_misprint_fails(certificates: list[Certificate]) -> None:
    assert [certificate.claim for certificate in certificates] == [one.id for one in select(None)]
    assert [(one.claim, one.note, one.error) for one in certificates if not one.passed] == []
    assert all(0 <= certificate.error <= certificate.tolerance for certificate in certificates)


def test_claims_stated_wrong_are_shown_failing(certificates: list[Certificate]) -> None:
    shown = {certificate.claim for certificate in certificates if certificate.printed_error is not None}
    assert {one.id for one in select(None) if one.verdict == "WRONG"} <= shown


def test_every_entry_of_the_list_is_answered_or_pending_with_a_reason() -> None:
    assert len(ENTRIES) == 59
    assert set(answered()) == set(ENTRIES)
    assert {entry: why for entry, why in missing().items() if entry not in PENDING} == {}
    assert not [entry for entry in PENDING if answered()[entry]]


@pytest.mark.slow
def test_statements_hold_in_single_precision() -> None:
    results = verify(single=True, slow=True)
    assert len(results) > 0.6 * len(registry())
    assert [(one.claim, one.note, one.error) for one in results if not one.passed] == []


@pytest.mark.slow
def test_the_statistical_claims_hold() -> None:
    ids = [one.id for one in registry().values() if one.slow]
    assert [(one.claim, one.note, one.error) for one in verify(ids) if not one.passed] == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 7))
def test_claims_hold_whatever_the_seed(seed: int) -> None:
    assert [(result.claim, result.note, result.error) for result in verify(seed=seed) if not result.passed] == []


def test_the_same_seed_gives_the_same_certificate() -> None:
    first, again = (verify(["A8.hessian"], seed=2)[0] for _ in range(2))
    assert first._replace(seconds=0.0) == again._replace(seconds=0.0)
    assert verify(["A8.hessian"], seed=3)[0].error != first.error


def test_certificates_come_one_by_one_with_the_number_left() -> None:
    seen = [(left, certificate.claim) for left, certificate in certify_each(["A19", "A20.pair"])]
    assert seen == [(3, "A19.growth"), (2, "A19.partitions"), (1, "A19.rule"), (0, "A20.pair")]


def test_the_table_fits_a_terminal_of_100_columns(certificates: list[Certificate]) -> None:
    stream = io.StringIO()
    Console(width=100, file=stream).print(table(certificates))
    lines = stream.getvalue().splitlines()
    assert max(len(line) for line in lines) <= 100
    for certificate in certificates:
        row = next(line for line in lines if line.startswith(f"{certificate.claim} "))
        assert claim(certificate.claim).relation in row
        assert claim(certificate.claim).verdict in row
        assert row.rstrip().endswith("holds")


def test_json_is_strict_and_complete(certificates: list[Certificate]) -> None:
    broken = certificates[0]._replace(error=float("inf"), passed=False, note="made up")
    record = json.loads(json.dumps(as_json([broken, *certificates[1:]]), allow_nan=False))
    assert record["passed"] is False
    assert record["seed"] == 0
    assert {"probam", "jax", "numpyro"} <= set(record["versions"])
    assert [one["claim"] for one in record["claims"]] == [one.id for one in select(None)]
    assert record["claims"][0]["error"] is None
    assert all(one["statement"] and one["mutations"] for one in record["claims"])
    assert as_json(certificates)["passed"] is True


def test_the_summary_counts(certificates: list[Certificate]) -> None:
    line = summary([certificates[0]._replace(passed=False), *certificates[1:]])
    assert line.startswith(f"{len(certificates) - 1} of {len(certificates)} statements")
    assert "seed 0" in line


def test_a_failing_statement_is_named_with_its_case() -> None:
    strict = replace(claim("A20.remaining"), tolerance=0.0, tolerance_extreme=0.0)
    certificate = certify(strict)
    assert not certificate.passed
    assert certificate.note == f"exact statement fails on {certificate.case!r}"
    stream = io.StringIO()
    Console(width=100, file=stream).print(table([certificate]))
    assert "FAILS" in stream.getvalue()
    assert "exact statement fails" in stream.getvalue()


def test_a_misprint_that_does_not_fail_is_reported() -> None:
    certificate = certify(replace(claim("A20.pair"), printed_exceeds=2.0))
    assert not certificate.passed
    assert "printed form did not fail" in certificate.note


def test_the_printed_form_is_left_alone_on_extreme_inputs() -> None:
    assert certify(claim("A20.pair"), cases="extreme").printed_error is None
    assert certify(claim("A20.pair"), cases="ordinary").printed_error is not None


def _raising(*_: Any, **__: Any) -> Any:
    raise TypeError("primal and tangent dtypes differ\nand a second line")


def test_a_claim_that_raises_is_a_failed_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(room._CLAIMS, "A20.pair", replace(claim("A20.pair"), function=_raising))
    raised, other = verify(["A20.pair", "A20.remaining"])
    assert not raised.passed
    assert raised.error == float("inf")
    assert raised.note == "raised on 'alpha 1.3': TypeError: primal and tangent dtypes differ"
    assert other.passed
    record = json.loads(json.dumps(as_json([raised, other]), allow_nan=False))
    assert record["passed"] is False
    assert record["claims"][0]["error"] is None


def test_inputs_that_raise_are_a_failed_certificate() -> None:
    certificate = certify(replace(claim("A20.pair"), inputs=_raising), cases="ordinary")
    assert not certificate.passed
    assert "TypeError" in certificate.note


def test_the_command_prints_json_and_exits_with_1_where_a_claim_raises(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(room._CLAIMS, "A20.pair", replace(claim("A20.pair"), function=_raising))
    assert main(["verify", "--claim", "A20.pair", "--json"]) == 1
    record = json.loads(capsys.readouterr().out)
    assert record["passed"] is False
    assert "TypeError" in record["claims"][0]["note"]
    assert main(["verify", "--claim", "A20.pair"]) == 1
    assert "TypeError" in capsys.readouterr().out


@pytest.mark.parametrize(("single", "dtype"), [(False, "float64"), (True, "float32")])
def test_constants_that_a_claim_makes_have_the_precision_of_the_run(single: bool, dtype: str) -> None:
    dtypes = []

    def constant(**_: Any) -> float:
        dtypes.append(str(jnp.ones(3).dtype))
        return 0.0

    assert certify(replace(claim("A2"), function=constant, printed=None), cases="ordinary", single=single).passed
    assert set(dtypes) == {dtype}


@pytest.mark.parametrize("claim_id", ["A3.density", "C7", "C6.rate"])
def test_claims_that_once_failed_in_single_precision_hold(claim_id: str) -> None:
    (result,) = verify(claim_id, single=True)
    assert result.passed, result.note


def test_one_name_may_stand_alone() -> None:
    assert [result.claim for result in verify("A20.pair")] == ["A20.pair"]


def test_arguments_of_the_wrong_kind_are_refused() -> None:
    with pytest.raises(InputError, match=r"claims: expected an id or entry such as 'A2', or a list of them; got 2"):
        verify(2)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"seed: expected a whole number; got 0.5"):
        verify("A2", seed=0.5)  # type: ignore[arg-type]


def test_single_precision_is_refused_with_the_way_out() -> None:
    with jax.enable_x64(False), pytest.raises(InputError, match=r"x64: .*jax_enable_x64"):
        verify(["A2"])


def test_unknown_sets_of_cases_are_refused() -> None:
    with pytest.raises(InputError, match="cases: expected 'all'"):
        verify(["A2"], cases="some")  # type: ignore[arg-type]
