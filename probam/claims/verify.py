"""Running claims: inputs are drawn, errors measured, certificates written, shown and stored."""

import math
import os
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.metadata import version
from typing import Any, Literal

import jax
import jax.numpy as jnp
from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from probam.claims.claim import Case, Certificate, Claim, Inputs, claim, select
from probam.claims.entries import missing
from probam.errors import InputError

__all__ = ["as_json", "case_inputs", "certify", "certify_each", "summary", "table", "verify"]

_THREADS = 4
"""Most claims that are worked on at a time: nearly all the time goes into compilation, which runs outside the GIL."""

_WIDEST = 140
"""Columns that a table of claims takes at most."""

Cases = Literal["all", "ordinary", "extreme"]


def case_inputs(one: Claim, case: Case, *, seed: int = 0) -> Inputs:
    """Inputs of one case: the same seed, claim and case name give the same inputs, whatever else runs."""
    key = jax.random.key(seed)
    for name in (one.id, case.name):
        key = jax.random.fold_in(key, zlib.crc32(name.encode()))
    return one.inputs(key, case)


def _closeness(error: float, bound: float) -> float:
    if error <= bound:
        return error / bound if bound > 0 else 0.0
    return error / bound if bound > 0 else float("inf")


def _in_single(inputs: Inputs) -> Inputs:
    """The same inputs, every array and number of double precision rounded to single."""

    def rounded(value: Any) -> Any:
        is_double = isinstance(value, float) or getattr(value, "dtype", None) == jnp.float64
        return jnp.asarray(value, jnp.float32) if is_double else value

    return {name: jax.tree.map(rounded, value) for name, value in inputs.items()}


def certify(one: Claim, *, seed: int = 0, cases: Cases = "all", single: bool = False) -> Certificate:
    """Certificate of one claim over its ordinary cases, its extreme ones, or both.

    It passes when the exact statement is within its bound on every case and the printed form, where one is
    held to be wrong, exceeds ``printed_exceeds`` on some ordinary case. With ``single`` both sides compute in
    float32, on ordinary inputs, and the bound is the claim's ``tolerance_single``.
    """
    start = time.perf_counter()
    if single:
        bound = one.tolerance if one.tolerance_single is None else one.tolerance_single
        one = replace(one, cases=tuple(replace(case, tolerance=bound) for case in one.cases if not case.is_extreme))
    worst, worst_case, printed_error = -1.0, one.cases[0], None
    worst_error = 0.0
    for case in one.cases:
        if cases != "all" and case.is_extreme != (cases == "extreme"):
            continue
        inputs = case_inputs(one, case, seed=seed)
        if single:
            inputs = _in_single(inputs)
        error = one.error(inputs)
        if _closeness(error, one.bound(case)) > worst:
            worst, worst_case, worst_error = _closeness(error, one.bound(case)), case, error
        if one.printed_error is not None and not case.is_extreme:
            printed_error = max(printed_error or 0.0, one.printed_error(inputs))
    holds = worst_error <= one.bound(worst_case)
    misprint_shown = printed_error is None or printed_error > one.printed_exceeds
    note = ""
    if worst < 0:
        note = f"has no {cases} cases"
    elif not holds:
        note = f"exact statement fails on {worst_case.name!r}"
    elif not misprint_shown:
        note = f"printed form did not fail: expected an error above {one.printed_exceeds:g}"
    return Certificate(
        claim=one.id,
        error=worst_error,
        tolerance=one.bound(worst_case),
        case=worst_case.name,
        printed_error=printed_error,
        passed=holds and misprint_shown,
        seconds=time.perf_counter() - start,
        note=note,
        seed=seed,
    )


def certify_each(
    claims: Iterable[str] | None = None,
    *,
    seed: int = 0,
    cases: Cases = "all",
    slow: bool = False,
    single: bool = False,
) -> Iterator[tuple[int, Certificate]]:
    """Certificates one by one, each with the number of claims that are still to come (for a progress bar).

    ``slow`` adds the statistical and long claims where all are called; ``single`` computes in float32, which leaves
    out the claims that are stated in double precision only.

    Raises :class:`probam.errors.InputError` as :func:`verify` does, at the first step.
    """
    if jnp.result_type(float) != jnp.float64:
        raise InputError(
            "x64: claims are verified in double precision, and it is off; call "
            "jax.config.update('jax_enable_x64', True) before any array is made, or run `probam verify`, which does"
        )
    if cases not in ("all", "ordinary", "extreme"):
        raise InputError(f"cases: expected 'all', 'ordinary' or 'extreme'; got {cases!r}")
    chosen = select(None if claims is None else list(claims), slow=slow)
    if single:
        chosen = [one for one in chosen if one.tolerance_single is not None]
    pool = ThreadPoolExecutor(max_workers=min(_THREADS, os.cpu_count() or 1))
    try:
        certificates = pool.map(lambda one: certify(one, seed=seed, cases=cases, single=single), chosen)
        for number, certificate in enumerate(certificates, start=1):
            yield len(chosen) - number, certificate
    finally:  # an interrupt waits for the claims at work, not for those in the queue
        pool.shutdown(wait=True, cancel_futures=True)


def verify(
    claims: Iterable[str] | None = None,
    *,
    seed: int = 0,
    cases: Cases = "all",
    slow: bool = False,
    single: bool = False,
) -> list[Certificate]:
    """Certificates of the claims called by id or entry (``None``: of all quick ones, with ``slow`` of all).

    Computed in float64, or with ``single`` in float32.

    Raises :class:`probam.errors.InputError` where double precision is off or a name calls no claim.
    """
    return [certificate for _, certificate in certify_each(claims, seed=seed, cases=cases, slow=slow, single=single)]


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return "0" if value == 0 else f"{value:.1e}"


class _NoWider(Table):
    """A table that fills its terminal up to the width at which every title is whole."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from super().__rich_console__(console, options.update(max_width=min(options.max_width, _WIDEST)))


def table(certificates: Sequence[Certificate]) -> Table:
    """One row a claim, for a terminal of 100 columns; reasons of failures stand below."""
    failed = [f"{found.claim}: {found.note}" for found in certificates if not found.passed]
    shown = _NoWider(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 0), expand=True, caption="\n".join(failed))
    shown.caption_justify = "left"
    names = max((len(found.claim) for found in certificates), default=0)
    for header, width in (("claim", names), ("says", 0), ("relation", 8), ("printed", 7)):
        shown.add_column(header, no_wrap=True, overflow="ellipsis", min_width=width or None, ratio=None if width else 1)
    for header in ("error", "bound", "misprint"):
        shown.add_column(header, no_wrap=True, justify="right", min_width=8)
    shown.add_column("verdict", no_wrap=True, min_width=7)
    for found in certificates:
        one = claim(found.claim)
        shown.add_row(
            one.id,
            Text(one.title),
            one.relation,
            one.verdict,
            _number(found.error),
            _number(found.tolerance),
            _number(found.printed_error),
            Text("holds", style="green") if found.passed else Text("FAILS", style="bold red"),
        )
    return shown


def summary(certificates: Sequence[Certificate], *, single: bool = False) -> str:
    """One line: how many claims hold, how many misprints were shown failing, how long it took."""
    held = sum(found.passed for found in certificates)
    entries = len({claim(found.claim).entry for found in certificates})
    misprints = sum(found.printed_error is not None and found.passed for found in certificates)
    seconds = sum(found.seconds for found in certificates)
    seeds = ", ".join(str(seed) for seed in sorted({found.seed for found in certificates}))
    line = f"{held} of {len(certificates)} statements ({entries} entries) hold in {'float32' if single else 'float64'}"
    if misprints:
        line += f"; {misprints} misprints shown failing"
    return f"{line}; seed {seeds or 'none'}; {seconds:.1f} s of work"


def _finite(value: float | None) -> float | None:
    return value if value is None or math.isfinite(value) else None


def as_json(certificates: Sequence[Certificate], *, single: bool = False) -> dict[str, Any]:
    """The certificates with their claims, seed and versions: numbers and strings only, null for what is not finite.

    ``pending`` maps the entries of the list for which no claim is registered to the reason.
    """
    claims = []
    for found in certificates:
        one = claim(found.claim)
        claims.append(
            {
                "claim": one.id,
                "entry": one.entry,
                "source": one.source,
                "title": one.title,
                "statement": one.statement,
                "latex": one.latex,
                "printed": one.printed,
                "verdict": one.verdict,
                "relation": one.relation,
                "constant": one.constant,
                "error": _finite(found.error),
                "tolerance": found.tolerance,
                "case": found.case,
                "printed_error": _finite(found.printed_error),
                "printed_exceeds": one.printed_exceeds if one.printed_error is not None else None,
                "mutations": list(one.mutations),
                "passed": found.passed,
                "note": found.note,
                "seconds": round(found.seconds, 3),
                "seed": found.seed,
            }
        )
    return {
        "passed": all(found.passed for found in certificates),
        "summary": summary(certificates, single=single),
        "pending": missing(),
        "seed": certificates[0].seed if certificates else None,
        "dtype": "float32" if single else "float64",
        "versions": {name: version(name) for name in ("probam", "jax", "jaxlib", "numpyro", "numpy", "scipy")},
        "claims": claims,
    }
