"""The command ``python -m benchmarks.validation``: the figures of ``docs/validation.md``, by the runs that make them.

It calibrates the engines on two small problems (:mod:`probam.comparison.calibrate`) and, given the results of the
slow tests, lists those too; the file is changed between its marks only.
"""

import argparse
import platform
import sys
import textwrap
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
import xarray as xr
from numpyro.distributions import Distribution

from probam.comparison.calibrate import calibrate
from probam.compiled import keep_compiled
from probam.data.writing import write_atomically
from probam.errors import InputError, NumericalError
from probam.family import Family, WeightPrior
from probam.inference.common.progress import Progress
from probam.models.gaussian import Gaussian
from probam.models.weights import Dirichlet, StickBreaking
from probam.reports.summaries.quantities import quantity_name

__all__ = [
    "PROBLEMS",
    "Problem",
    "Row",
    "made_by",
    "main",
    "replace_between",
    "run_all",
    "slow_table",
    "tables",
    "verdict",
]

_LEVEL = 0.01
"""An engine passes on a problem when no quantity's ECDF test falls below this over the number of quantities."""


class Problem(NamedTuple):
    """A model with its fixed prior, and how many data are drawn from it."""

    words: str
    family: Family
    weights: WeightPrior
    components: int
    prior: dict[str, Distribution]
    num_data: int


def _problems() -> dict[str, Problem]:
    """Small problems on which memories overlap, so that labels switch and numbers of memories are in doubt."""
    prior = {"loc": dist.Normal(jnp.zeros(2), 2.0).to_event(1), "beta": dist.Gamma(4.0, 4.0)}
    return {
        "finite": Problem(
            "three Gaussian memories (spherical, each its precision), Dirichlet(1) weights, 20 data in 2 dimensions",
            Gaussian("spherical"),
            Dirichlet(1.0),
            3,
            prior,
            20,
        ),
        "dp": Problem(
            "Gaussian memories (isotropic, one precision), Dirichlet process truncated at 4, alpha ~ Gamma(2, 1), "
            "20 data in 2 dimensions",
            Gaussian("isotropic"),
            StickBreaking(dist.Gamma(2.0, 1.0)),
            4,
            prior,
            20,
        ),
    }


PROBLEMS = ("finite", "dp")

_RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "gibbs": ("gibbs", {"num_chains": 1, "num_warmup": 300, "num_draws": 99, "thin": 20}),
    "gibbs collapsed": (
        "gibbs",
        {"kernel": "collapsed", "num_chains": 1, "num_warmup": 300, "num_draws": 99, "thin": 20},
    ),
    "nuts": ("nuts", {"num_chains": 1, "num_warmup": 500, "num_draws": 1980, "target_accept": 0.95}),
    "svi": ("svi", {"num_draws": 99}),
    "cavi": ("cavi", {}),
}
"""What the command runs: engine and options. SVI and CAVI are approximations: their error is measured, not judged."""

_EXACT = ("gibbs", "gibbs collapsed", "nuts")


class Row(NamedTuple):
    """One run of the command: its figures, or the reason why there are none."""

    name: str
    problem: str
    figures: xr.Dataset | None
    refused: str


def run_all(names: Sequence[str], problems: Sequence[str], num_simulations: int, seed: int) -> Iterator[Row]:
    """The named runs of the command, on the named problems.

    Args:
        names: of ``_RUNS``.
        problems: of ``PROBLEMS``.
        num_simulations: of each run.
        seed: the same seed gives the same figures on the same machine.
    """
    for problem_name in problems:
        problem = _problems()[problem_name]
        for name in names:
            engine, options = _RUNS[name]
            try:
                figures = calibrate(
                    problem.family,
                    problem.weights,
                    engine,
                    components=problem.components,
                    prior=problem.prior,
                    num_data=problem.num_data,
                    num_simulations=num_simulations,
                    seed=seed,
                    progress=_show,
                    **options,
                )
                yield Row(name, problem_name, figures, "")
            except (InputError, NumericalError) as error:
                yield Row(name, problem_name, None, str(error))


def _show(step: Progress) -> None:
    end = "\n" if step.done == step.total else ""
    print(f"\r{step.text}: {step.done} of {step.total} simulations{end}", end="", file=sys.stderr, flush=True)


def verdict(name: str, figures: xr.Dataset) -> str:
    """Whether an exact engine passes, or how many quantities of an approximation are miscalibrated.

    Args:
        name: of ``_RUNS``.
    """
    low = figures["p_ecdf"].values < _LEVEL / figures.sizes["quantity"]
    if name in _EXACT:
        return "fails" if low.any() else "passes"
    return f"an approximation: {int(low.sum())} of {len(low)} quantities miscalibrated"


def tables(rows: Sequence[Row]) -> str:
    """The figures of each run as Markdown."""
    lines = []
    for problem_name in dict.fromkeys(row.problem for row in rows):
        lines.append(f"### {problem_name}: {_problems()[problem_name].words}\n")
        for row in rows:
            if row.problem != problem_name:
                continue
            if row.figures is None:
                lines.append(f"**{row.name}**: not run ({row.refused}).\n")
                continue
            attributes = row.figures.attrs
            lines.append(
                f"**{row.name}** ({attributes['options'] or 'default options'}): {verdict(row.name, row.figures)}. "
                f"{row.figures.sizes['simulation']} simulations"
                + (f", {attributes['failed']} more failed" if attributes["failed"] else "")
                + f", {attributes['num_draws']} ranked draws, {attributes['seconds']:.0f} s.\n"
            )
            lines.append("| quantity | p, ECDF | distance | p, chi-square | mean rank | ESS |")
            lines.append("|---|---|---|---|---|---|")
            for quantity in row.figures["quantity"].values:
                one = row.figures.sel(quantity=quantity)
                lines.append(
                    f"| {quantity_name(str(quantity))} | {_p(one['p_ecdf'])} | {float(one['distance']):.2f} "
                    f"| {_p(one['p_chi_square'])} | {float(one['mean_rank']):.3f} | {float(one['ess']):.0f} |"
                )
            lines.append("")
    return "\n".join(lines)


def _p(value: Any) -> str:
    return f"{float(value):.3f}" if float(value) >= 0.001 else f"{float(value):.1e}"


def slow_table(results: Path) -> str:
    """Outcome and time of each test in a file of pytest's ``--junitxml``, with the cases of a test together.

    Raises:
        InputError: where there is no such file.
    """
    try:
        cases = ElementTree.parse(results).getroot().iter("testcase")
    except (OSError, ElementTree.ParseError) as error:
        raise InputError(f"{results}: expected results of pytest --junitxml; {error}") from error
    outcomes: dict[tuple[str, str], list[tuple[str, float]]] = {}
    for case in cases:
        kinds = {child.tag for child in case}
        outcome = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        place = case.get("classname", "").replace(".", "/") + ".py"
        name = case.get("name", "").split("[")[0]
        outcomes.setdefault((place, name), []).append((outcome, float(case.get("time", 0))))
    lines = ["| file | test | outcome | seconds |", "|---|---|---|---|"]
    for (place, name), ended in sorted(outcomes.items()):
        counts = [(outcome, sum(one == outcome for one, _ in ended)) for outcome in ("passed", "failed", "skipped")]
        counted = ", ".join(f"{number} {outcome}" for outcome, number in counts if number)
        lines.append(f"| `{place}` | `{name}` | {counted} | {sum(seconds for _, seconds in ended):.0f} |")
    return "\n".join(lines)


def replace_between(path: Path, subject: str, text: str) -> None:
    """Put ``text`` between the lines ``<!-- SUBJECT -->`` and ``<!-- end of SUBJECT -->`` of a file.

    Raises:
        InputError: where the file or its marks are missing.
    """
    begin, end = f"<!-- {subject} -->", f"<!-- end of {subject} -->"
    try:
        before, rest = path.read_text(encoding="utf-8").split(begin)
        _, after = rest.split(end)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: expected a file with the lines {begin!r} and {end!r}, once each") from error
    with write_atomically(path) as temporary:
        temporary.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", encoding="utf-8")


def made_by(command: str) -> str:
    """The line above a table: when and with what it was made."""
    now = datetime.now(UTC).strftime("%Y-%m-%d")
    versions = ", ".join(f"{name} {version(name)}" for name in ("probam", "jax", "numpyro", "numpy"))
    line = f"Made on {now} by `{command}` (Python {platform.python_version()}, {versions}; float64)."
    return textwrap.fill(line, 120, break_long_words=False, break_on_hyphens=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """``python -m benchmarks.validation``: 0 where exact engines are calibrated and no slow test failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.validation", description=__doc__.split("\n\n")[0])
    parser.add_argument("--simulations", type=int, default=200)
    parser.add_argument("--engines", nargs="+", choices=tuple(_RUNS), default=tuple(_RUNS))
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=PROBLEMS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--slow", type=Path, help="results of pytest -m slow --junitxml=FILE, listed too")
    parser.add_argument("--output", type=Path, help="a Markdown file in which the figures are replaced")
    options = parser.parse_args(arguments)
    jax.config.update("jax_enable_x64", True)
    keep_compiled()
    words = sys.argv[1:] if arguments is None else arguments
    made = made_by(" ".join(["python -m benchmarks.validation", *words]))
    slow = "" if options.slow is None else slow_table(options.slow)
    if options.output is not None and slow:
        replace_between(options.output, "slow tests", f"{made_by('python -m pytest -m slow')}\n\n{slow}")
    rows: list[Row] = []
    for row in run_all(options.engines, options.problems, options.simulations, options.seed):
        rows.append(row)
        if options.output is not None:  # after each run: nothing done is lost
            replace_between(options.output, "calibration", f"{made}\n\n{tables(rows)}")
    print(tables(rows), slow, sep="\n")
    exact = [row for row in rows if row.name in _EXACT]
    failed = any(row.figures is None or verdict(row.name, row.figures) == "fails" for row in exact)
    return int(failed or " failed" in slow)


if __name__ == "__main__":
    sys.exit(main())
