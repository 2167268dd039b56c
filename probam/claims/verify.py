"""Run claims: draw inputs, measure errors, and return certificates, as a table or as JSON."""

import math
import os
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from importlib.metadata import version
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from probam.claims.claim import PRINTED, Case, Certificate, Claim, Inputs, claim, select
from probam.claims.entries import missing
from probam.errors import InputError
from probam.reports.court import VERDICTS

__all__ = ["as_json", "case_inputs", "certify", "certify_each", "legend", "summary", "table", "verify"]

_THREADS = 4
"""Largest number of claims run in parallel: nearly all the time goes into compilation, which releases the GIL."""

_WIDEST = 140
"""Largest width of the table of claims, in columns."""

Cases = Literal["all", "ordinary", "extreme"]


def case_inputs(one: Claim, case: Case, *, seed: int = 0) -> Inputs:
    """Inputs of one case, determined by the seed, the claim and the name of the case."""
    key = jax.random.key(seed)
    for name in (one.id, case.name):
        key = jax.random.fold_in(key, zlib.crc32(name.encode()))
    return one.inputs(key, **case.settings)


def _closeness(error: float, bound: float) -> float:
    if error <= bound:
        return error / bound if bound > 0 else 0.0
    return error / bound if bound > 0 else float("inf")


def _in_single(inputs: Inputs) -> Inputs:
    """The inputs with all float64 arrays and numbers rounded to float32."""

    def rounded(value: Any) -> Any:
        is_double = isinstance(value, float) or getattr(value, "dtype", None) == jnp.float64
        return jnp.asarray(value, jnp.float32) if is_double else value

    return {name: jax.tree.map(rounded, value) for name, value in inputs.items()}


class _Measured(NamedTuple):
    """Errors of a claim on one case, and whether the run reached its end."""

    case: Case
    error: float
    printed_error: float | None
    problem: str = ""


def _measure(one: Claim, case: Case, *, seed: int, single: bool) -> _Measured:
    """Errors of the exact and, on ordinary cases, of the printed form; an exception counts as an infinite error.

    In single precision x64 is off while the claim runs: constants that it makes would be of double precision otherwise,
    and one of them is enough for the rest of the computation to be so, too.
    """
    try:
        inputs = case_inputs(one, case, seed=seed)
        with jax.enable_x64(False) if single else nullcontext():
            inputs = _in_single(inputs) if single else inputs
            printed = one.error(inputs, PRINTED) if one.printed is not None and not case.is_extreme else None
            return _Measured(case, one.error(inputs), printed)
    except Exception as exception:
        lines = str(exception).strip().splitlines()
        reason = f"{type(exception).__name__}: {lines[0] if lines else 'no message'}"
        return _Measured(case, float("inf"), None, f"raised on {case.name!r}: {reason}")


def certify(one: Claim, *, seed: int = 0, cases: Cases = "all", single: bool = False) -> Certificate:
    """Certificate of one claim over its ordinary cases, its extreme ones, or both.

    It passes when the exact statement is within its bound on every case and the printed form, where its pieces are
    given, exceeds ``printed_exceeds`` on some ordinary case. A claim that raises an exception fails, and the note of
    the certificate names the exception.

    Args:
        one: the claim.
        seed: seed of the random inputs.
        cases: which cases of the claim are run.
        single: compute in float32, on the ordinary cases, with the bound of single precision
            (:meth:`probam.claims.claim.Claim.in_single`).
    """
    start = time.perf_counter()
    if single:
        one = one.in_single()
    chosen = [case for case in one.cases if cases == "all" or case.is_extreme == (cases == "extreme")]
    measured = [_measure(one, case, seed=seed, single=single) for case in chosen]
    nothing = _Measured(one.cases[0], 0.0, None, f"has no {cases} cases")
    worst = max(measured, key=lambda each: _closeness(each.error, one.bound(each.case)), default=nothing)
    printed_errors = [each.printed_error for each in measured if each.printed_error is not None]
    printed_error = max(printed_errors, default=None)
    note, passed = _judge(one, worst, printed_error)
    return Certificate(
        claim=one.id,
        error=worst.error,
        tolerance=one.bound(worst.case),
        case=worst.case.name,
        printed_error=printed_error,
        passed=passed,
        seconds=time.perf_counter() - start,
        note=note,
        seed=seed,
    )


def _judge(one: Claim, worst: _Measured, printed_error: float | None) -> tuple[str, bool]:
    """Note and verdict, from the case nearest to its bound and the largest error of the printed form."""
    holds = worst.error <= one.bound(worst.case)
    if worst.problem:
        return worst.problem, holds
    if not holds:
        return f"exact statement fails on {worst.case.name!r}", False
    if printed_error is not None and not printed_error > one.printed_exceeds:
        return f"printed form did not fail: expected an error above {one.printed_exceeds:g}", False
    return "", True


def certify_each(
    claims: str | Iterable[str] | None = None,
    *,
    seed: int = 0,
    cases: Cases = "all",
    slow: bool = False,
    single: bool = False,
) -> Iterator[tuple[int, Certificate]]:
    """Certificates one by one, each with the number of claims that are still to come (for a progress bar).

    The arguments and the errors are those of :func:`verify`; the errors are raised at the first step.
    """
    if jnp.result_type(float) != jnp.float64:
        raise InputError(
            "x64: claims are verified in double precision, and it is off; call "
            "jax.config.update('jax_enable_x64', True) before any array is made, or run `probam verify`, which does"
        )
    chosen = [one for one in select(_names(claims), slow=slow) if one.jit or not single]
    if cases not in ("all", "ordinary", "extreme"):
        raise InputError(f"cases: expected 'all', 'ordinary' or 'extreme'; got {cases!r}")
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise InputError(f"seed: expected a whole number; got {seed!r}")
    pool = ThreadPoolExecutor(max_workers=min(_THREADS, os.cpu_count() or 1))
    try:
        certificates = pool.map(lambda one: certify(one, seed=seed, cases=cases, single=single), chosen)
        for number, certificate in enumerate(certificates, start=1):
            yield len(chosen) - number, certificate
    finally:  # an interrupt waits for the claims at work, not for those in the queue
        pool.shutdown(wait=True, cancel_futures=True)


def _names(claims: str | Iterable[str] | None) -> list[str] | None:
    """The names of the claims as a list; one name may stand alone."""
    if claims is None:
        return None
    names = [claims] if isinstance(claims, str) else claims
    if not isinstance(names, Iterable):
        raise InputError(f"claims: expected an id or entry such as 'A2', or a list of them; got {claims!r}")
    return list(names)


def verify(
    claims: str | Iterable[str] | None = None,
    *,
    seed: int = 0,
    cases: Cases = "all",
    slow: bool = False,
    single: bool = False,
) -> list[Certificate]:
    """Certificates of claims: the error of each exact statement, its bound, and by how much the printed form fails.

    A claim that raises an exception has a certificate that did not pass.

    Args:
        claims: an id (``"A3.weighted"``), an entry (``"A3"``: all its parts), or several of them; ``None``: all quick
            claims, and with ``slow`` all.
        seed: seed of the random inputs; other seeds try other inputs.
        cases: run the ordinary inputs, the extreme ones, or both.
        slow: with ``claims=None``, include the statistical and long claims.
        single: compute in float32 instead of float64, on ordinary inputs; this leaves out the claims that do not run
            through JAX.

    Raises :class:`probam.errors.InputError` where double precision is off or a name is not that of a claim.
    """
    return [certificate for _, certificate in certify_each(claims, seed=seed, cases=cases, slow=slow, single=single)]


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return "0" if value == 0 else f"{value:.1e}"


class _NoWider(Table):
    """A table that fills the terminal, up to the width at which no title is cut."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from super().__rich_console__(console, options.update(max_width=min(options.max_width, _WIDEST)))


def table(certificates: Sequence[Certificate]) -> Table:
    """One row per claim, for a terminal of 100 columns; the reasons of failures are below the table."""
    failed = [f"{certificate.claim}: {certificate.note}" for certificate in certificates if not certificate.passed]
    rows = _NoWider(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 0), expand=True, caption="\n".join(failed))
    rows.caption_justify = "left"
    width_of_ids = max((len(certificate.claim) for certificate in certificates), default=0)
    for header, width in (("claim", width_of_ids), ("title", 0), ("relation", 8), ("printed", 7)):
        rows.add_column(header, no_wrap=True, overflow="ellipsis", min_width=width or None, ratio=None if width else 1)
    for header in ("error", "bound", "misprint"):
        rows.add_column(header, no_wrap=True, justify="right", min_width=8)
    rows.add_column("result", no_wrap=True, min_width=6)
    for certificate in certificates:
        one = claim(certificate.claim)
        rows.add_row(
            one.id,
            Text(one.title),
            one.relation,
            one.verdict,
            _number(certificate.error),
            _number(certificate.tolerance),
            _number(certificate.printed_error),
            Text("holds", style="green") if certificate.passed else Text("FAILS", style="bold red"),
        )
    return rows


def legend(certificates: Sequence[Certificate]) -> str:
    """What the columns of :func:`table` mean, and the words that it has for printed forms."""
    verdicts = {claim(certificate.claim).verdict for certificate in certificates}
    lines = [
        "result    whether the exact statement holds: its error is within the bound, and the printed form fails where "
        "it must",
        "misprint  error of the form that the paper prints, which must be large; - where there is none, or it is not "
        "tried",
        "printed   what is known of that form:",
        *(f"          {verdict:<6}{meaning}" for verdict, meaning in VERDICTS.items() if verdict in verdicts),
    ]
    if verdicts & {"WRONG", "TYPO", "ILL"}:
        lines.append("A row with WRONG, TYPO or ILL that holds is no fault: it checks the statement as corrected.")
    return "\n".join(lines)


def summary(certificates: Sequence[Certificate], *, single: bool = False) -> str:
    """One line: how many claims hold, how many printed forms fail as expected, and how long it took."""
    num_passed = sum(certificate.passed for certificate in certificates)
    entries = len({claim(certificate.claim).entry for certificate in certificates})
    misprints = sum(certificate.printed_error is not None and certificate.passed for certificate in certificates)
    seconds = sum(certificate.seconds for certificate in certificates)
    seeds = ", ".join(str(seed) for seed in sorted({certificate.seed for certificate in certificates}))
    dtype = "float32" if single else "float64"
    line = f"{num_passed} of {len(certificates)} statements ({entries} entries) hold in {dtype}"
    if misprints:
        line += f"; {misprints} misprints shown failing"
    return f"{line}; seed {seeds or 'none'}; {seconds:.1f} s of work"


def _finite(value: float | None) -> float | None:
    return value if value is None or math.isfinite(value) else None


def as_json(certificates: Sequence[Certificate], *, single: bool = False) -> dict[str, Any]:
    """The certificates with their claims, the seed and the versions, as numbers and strings that JSON can hold.

    Errors that are not finite are ``None``. ``pending`` maps the entries without a claim to the reason.
    """
    claims = []
    for certificate in certificates:
        one = claim(certificate.claim)
        claims.append(
            {
                "claim": one.id,
                "entry": one.entry,
                "source": one.source,
                "title": one.title,
                "statement": one.statement,
                "latex": one.latex,
                "printed": one.printed_statement,
                "verdict": one.verdict,
                "relation": one.relation,
                "constant": one.constant,
                "error": _finite(certificate.error),
                "tolerance": certificate.tolerance,
                "case": certificate.case,
                "printed_error": _finite(certificate.printed_error),
                "printed_exceeds": one.printed_exceeds if one.printed is not None else None,
                "mutations": list(one.mutations),
                "passed": certificate.passed,
                "note": certificate.note,
                "seconds": round(certificate.seconds, 3),
                "seed": certificate.seed,
            }
        )
    return {
        "passed": all(certificate.passed for certificate in certificates),
        "summary": summary(certificates, single=single),
        "pending": missing(),
        "seed": certificates[0].seed if certificates else None,
        "dtype": "float32" if single else "float64",
        "versions": {name: version(name) for name in ("probam", "jax", "jaxlib", "numpyro", "numpy", "scipy")},
        "claims": claims,
    }
