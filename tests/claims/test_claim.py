"""What a claim is, how it is found, and how its errors are measured."""

import inspect
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from probam.claims import claim as room
from probam.claims.claim import claim, excess, extreme, ordinary, register, registry, relative_error, select
from probam.claims.verify import case_inputs, certify, verify
from probam.errors import InputError

FIRST = ("A2", "A3", "A4", "A8", "A9", "A10", "A11", "A12", "A13", "A16", "A17", "A19", "A20", "B11")


def test_the_first_claims_are_registered_in_the_order_of_their_entries() -> None:
    entries = list(dict.fromkeys(one.entry for one in registry().values()))
    assert set(FIRST) <= set(entries)
    assert entries == sorted(entries, key=lambda entry: (entry[0], int(entry[1:])))


@pytest.mark.parametrize("claim_id", list(registry()))
def test_a_claim_can_fail_and_says_what_it_says(claim_id: str) -> None:
    one = claim(claim_id)
    assert len(one.wrong_forms) >= 2
    assert any(not case.is_extreme for case in one.cases)
    assert len({case.name for case in one.cases}) == len(one.cases)
    assert (one.verdict == "WRONG") <= (one.printed is not None)
    for text in (one.source, one.title, one.statement, one.latex, one.printed_statement, one.constant):
        assert text
        assert "\n" not in text
    assert len(one.title) <= 80
    assert one.latex.count("{") == one.latex.count("}")


def test_an_entry_selects_all_its_parts_and_an_id_one() -> None:
    assert [one.id for one in select(["A3"])] == ["A3.density", "A3.uniform", "A3.weighted"]
    assert [one.id for one in select(["A2"])] == ["A2", "A2.quarter"]
    assert [one.id for one in select(["A2.quarter"])] == ["A2.quarter"]
    assert select(None, slow=True) == list(registry().values())
    assert select(None) == [one for one in registry().values() if not one.slow]
    assert [one.id for one in select(["B4.transition"])] == ["B4.transition"]  # a slow one, asked for by name


@pytest.mark.parametrize("name", ["A99", "a2", "A1.", ""])
def test_an_unknown_name_is_answered_with_the_known_ones(name: str) -> None:
    with pytest.raises(InputError, match=r"claim: expected .*A16"):
        select([name])
    with pytest.raises(InputError, match=r"claim: expected one of .*A16"):
        claim(name)


def test_adding_a_claim_takes_one_decorated_function(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_CLAIMS", dict(room._CLAIMS))

    def filed(function: Any) -> Any:
        return register(
            id="Z1.cosine",
            source="school",
            title="cosine of the sum",
            statement="cos(a + b) = cos a cos b - sin a sin b",
            latex=r"\cos(a+b) = \cos a\cos b - \sin a\sin b",
            printed_statement="cos(a + b) = cos a + cos b",
            verdict="WRONG",
            relation="equal",
            inputs=lambda key, size: {"a": jax.random.normal(key, (5,)), "b": size * jnp.arange(1.0, 6.0)},
            cases=(ordinary("small", size=1.0), extreme("large", size=1e3)),
            tolerance=1e-14,
            tolerance_extreme=1e-12,
            exact={"right": lambda a, b: jnp.cos(a) * jnp.cos(b) - jnp.sin(a) * jnp.sin(b)},
            printed={"right": lambda a, b: jnp.cos(a) + jnp.cos(b)},
            printed_exceeds=0.1,
            mutations={"sign": {"right": lambda a, b: jnp.cos(a) * jnp.cos(b) + jnp.sin(a) * jnp.sin(b)}},
        )(function)

    def cosine_of_the_sum(a: Any, b: Any, *, right: Any) -> Any:
        return relative_error(jnp.cos(a + b), right(a, b))

    filed(cosine_of_the_sum)
    (certificate,) = verify(["Z1"])
    assert certificate.passed
    assert certificate.claim == "Z1.cosine"
    assert certificate.printed_error is not None
    assert certificate.printed_error > 0.1
    inputs = case_inputs(claim("Z1.cosine"), claim("Z1.cosine").cases[0])
    assert claim("Z1.cosine").error(inputs, "sign") > 0.1
    with pytest.raises(ValueError, match="registered twice"):
        filed(cosine_of_the_sum)


def test_a_piece_that_the_exact_statement_lacks_is_refused() -> None:
    one = claim("A2")
    with pytest.raises(ValueError, match="claim A2, half of it: varience is not among the exact pieces"):
        replace(one, mutations={"half of it": {"varience": 0.5}})
    with pytest.raises(ValueError, match="claim A2, printed: scale is not among the exact pieces"):
        replace(one, printed={"scale": 2.0})


@pytest.mark.parametrize("claim_id", list(registry()))
def test_the_exact_pieces_are_the_keyword_only_arguments(claim_id: str) -> None:
    parameters = inspect.signature(claim(claim_id).function).parameters.values()
    assert {one.name for one in parameters if one.kind is one.KEYWORD_ONLY} == set(claim(claim_id).exact)
    assert all(one.default is one.empty for one in parameters)


def test_no_mutation_repeats_the_printed_form() -> None:
    claims = registry().values()
    pairs = [(one.id, name) for one in claims for name, pieces in one.mutations.items() if pieces == one.printed]
    assert pairs == []


def test_the_example_of_the_documentation_is_a_claim_that_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_CLAIMS", dict(room._CLAIMS))
    text = (Path(__file__).parents[2] / "docs" / "claims.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", text, flags=re.S)
    exec(compile(example, "docs/claims.md", "exec"), {})
    one = claim("A4.example")
    assert certify(one).passed
    inputs = case_inputs(one, one.cases[0])
    assert all(one.error(inputs, form) > 2 * one.tolerance for form in one.wrong_forms)


def test_inputs_follow_the_seed_the_claim_and_the_case_alone() -> None:
    one = claim("A4.score")
    first, again = (case_inputs(one, one.cases[0], seed=3) for _ in range(2))
    other_seed, other_case = case_inputs(one, one.cases[0], seed=4), case_inputs(one, one.cases[1], seed=3)
    np.testing.assert_array_equal(first["queries"], again["queries"])
    assert np.abs(first["queries"] - other_seed["queries"]).max() > 0.1
    assert np.abs(first["queries"] - other_case["queries"]).max() > 0.1


def test_relative_error_is_norm_wise_and_zero_agrees_with_zero() -> None:
    assert float(relative_error(np.array([4.0, 1e-9]), np.array([4.0, 0.0]))) == pytest.approx(2.5e-10)
    assert float(relative_error(np.array([0.0, 0.0]), np.array([0.0, 0.0]))) == 0.0
    assert float(relative_error(np.array([1e-9]), np.array([0.0]))) == 1.0
    assert float(relative_error(np.array([1e-9]), np.array([0.0]), scale=2.0)) == pytest.approx(5e-10)


def test_excess_counts_only_the_side_that_breaks_the_bound() -> None:
    assert float(excess(np.array([1.0, 2.0]), np.array([1.0, 3.0]))) == 0.0
    assert float(excess(np.array([1.0, 4.0]), np.array([1.0, 2.0]))) == pytest.approx(0.5)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_error_that_is_not_finite_fails(value: float) -> None:
    broken = replace(claim("A2"), function=lambda **_: value)
    certificate = certify(broken, cases="ordinary")
    assert not certificate.passed
    assert certificate.error == float("inf")
