"""A claim that survives a perturbed convention is not a test: the printed form and every mutation must fail."""

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from probam.claims.claim import claim, select
from probam.claims.verify import case_inputs

WRONG_FORMS = [(one.id, form) for one in select(None) for form in one.wrong_forms]

MARGIN = 2.0
"""How far beyond its bound a mutated statement must be wrong (nearly all are wrong by 1e9 bounds and more)."""


def _error(claim_id: str, form: str) -> float:
    """Largest error over the ordinary cases, up to the first that is far enough beyond the bound.

    A case of another shape is another program to compile, and one failure is all that is asked for.
    """
    one = claim(claim_id)
    largest = 0.0
    for case in one.cases:
        if not case.is_extreme and largest <= MARGIN * one.tolerance:
            largest = max(largest, one.error(case_inputs(one, case), form))
    return largest


@pytest.fixture(scope="module")
def errors(request: pytest.FixtureRequest) -> Iterator[dict[tuple[str, str], "Future[float]"]]:
    """Errors under way for the wrong forms that this session tests, in the order in which it tests them."""
    parameters = [getattr(item, "callspec", None) for item in request.session.items if item.path == request.path]
    pairs = [(spec.params["claim_id"], spec.params["form"]) for spec in parameters if spec is not None]
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        yield {pair: pool.submit(_error, *pair) for pair in pairs}


@pytest.mark.parametrize(("claim_id", "form"), WRONG_FORMS)
def test_a_perturbed_convention_makes_the_claim_fail(
    claim_id: str, form: str, errors: dict[tuple[str, str], "Future[float]"]
) -> None:
    one = claim(claim_id)
    assert errors[claim_id, form].result() > MARGIN * one.tolerance


def test_the_conventions_named_by_the_papers_are_all_perturbed() -> None:
    named = " | ".join(form for _, form in WRONG_FORMS)
    for convention in ("beta doubled", "normaliser dropped", "sign flipped", "weights left out"):
        assert convention in named
