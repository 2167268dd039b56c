"""Running claims: inputs are drawn, errors measured, certificates written."""

import time
import zlib
from collections.abc import Iterable, Iterator
from typing import Literal

import jax

from probam.equivalence.claim import Case, Certificate, Claim, Inputs, select
from probam.errors import InputError

__all__ = ["case_inputs", "certify", "certify_each", "verify"]

Cases = Literal["all", "ordinary", "extreme"]


def case_inputs(claim: Claim, case: Case, *, seed: int = 0) -> Inputs:
    """Inputs of one case: the same seed, claim and case name give the same inputs, whatever else runs."""
    key = jax.random.key(seed)
    for name in (claim.id, case.name):
        key = jax.random.fold_in(key, zlib.crc32(name.encode()))
    return claim.inputs(key, case)


def _closeness(error: float, bound: float) -> float:
    if error <= bound:
        return error / bound if bound > 0 else 0.0
    return error / bound if bound > 0 else float("inf")


def certify(claim: Claim, *, seed: int = 0, cases: Cases = "all") -> Certificate:
    """Certificate of one claim over its ordinary cases, its extreme ones, or both.

    It passes when the exact statement is within its bound on every case and the printed form, where one is
    held to be wrong, exceeds ``printed_exceeds`` on some ordinary case.
    """
    start = time.perf_counter()
    worst, worst_case, printed_error = -1.0, claim.cases[0], None
    worst_error = 0.0
    for case in claim.cases:
        if cases != "all" and case.is_extreme != (cases == "extreme"):
            continue
        inputs = case_inputs(claim, case, seed=seed)
        error = claim.error(inputs)
        if _closeness(error, claim.bound(case)) > worst:
            worst, worst_case, worst_error = _closeness(error, claim.bound(case)), case, error
        if claim.printed_error is not None and not case.is_extreme:
            printed_error = max(printed_error or 0.0, claim.printed_error(inputs))
    holds = worst_error <= claim.bound(worst_case)
    misprint_shown = printed_error is None or printed_error > claim.printed_exceeds
    note = ""
    if worst < 0:
        note = f"has no {cases} cases"
    elif not holds:
        note = f"exact statement fails on {worst_case.name!r}"
    elif not misprint_shown:
        note = f"printed form did not fail: expected an error above {claim.printed_exceeds:g}"
    return Certificate(
        claim=claim.id,
        error=worst_error,
        tolerance=claim.bound(worst_case),
        case=worst_case.name,
        printed_error=printed_error,
        passed=holds and misprint_shown,
        seconds=time.perf_counter() - start,
        note=note,
        seed=seed,
    )


def certify_each(
    claims: Iterable[str] | None = None, *, seed: int = 0, cases: Cases = "all"
) -> Iterator[tuple[int, Certificate]]:
    """Certificates one by one, each with the number of claims that are still to come (for a progress bar).

    Raises :class:`probam.errors.InputError` as :func:`verify` does, at the first step.
    """
    if not jax.config.jax_enable_x64:
        raise InputError(
            "x64: claims are verified in double precision, and it is off; call "
            "jax.config.update('jax_enable_x64', True) before any array is made, or run `probam verify`, which does"
        )
    if cases not in ("all", "ordinary", "extreme"):
        raise InputError(f"cases: expected 'all', 'ordinary' or 'extreme'; got {cases!r}")
    chosen = select(None if claims is None else list(claims))
    for number, one in enumerate(chosen, start=1):
        yield len(chosen) - number, certify(one, seed=seed, cases=cases)


def verify(claims: Iterable[str] | None = None, *, seed: int = 0, cases: Cases = "all") -> list[Certificate]:
    """Certificates of the claims called by id or entry (``None``: of all), in float64.

    Raises :class:`probam.errors.InputError` where double precision is off or a name calls no claim.
    """
    return [certificate for _, certificate in certify_each(claims, seed=seed, cases=cases)]
