"""The command ``python -m benchmarks.verdicts``: is the verdict on a fit to be believed? Into ``docs/validation.md``.

It gives the verdict on forty fits of which it is known whether they are right (:mod:`benchmarks.judged`), and measures
how often data of a right model are said not to be reproduced. The file is changed between its marks only.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.judged import Case, all_cases
from benchmarks.validation import made_by, replace_between
from probam.compiled import keep_compiled
from probam.fits.derived import with_groups
from probam.fits.draws import thin
from probam.fits.fit import fit
from probam.fits.options import FitOptions
from probam.fits.predictive_check import predictive_check_group
from probam.fits.prepared import prepare
from probam.inference.em.engine import run as run_em
from probam.inference.gibbs.engine import run as run_gibbs
from probam.models.gaussian import Gaussian
from probam.models.mixture import Mixture, mixture
from probam.models.weights import Dirichlet
from probam.reports.summaries.diagnostics import advice
from probam.reports.summaries.reproduction import FALSE_ALARM
from probam.reports.summaries.verdict import Level, verdict_of

__all__ = ["Judged", "alarm_table", "false_alarms", "judge", "main", "mistakes", "verdict_table"]

_MOST_MISTAKES = 2
"""Most misses, and most false alarms, of the forty."""

_CHEAP = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
"""Compile quickly: most programs run once."""

_LEVELS = (FALSE_ALARM, 0.05, 0.2)


class Judged(NamedTuple):
    """A fit and the verdict on it."""

    case: Case
    verdict: Level
    rules: tuple[str, ...]
    """Rules that spoke of a problem or of caution."""
    seconds: float

    @property
    def is_mistake(self) -> bool:
        """A miss, or a false alarm."""
        return (self.verdict == "good") == bool(self.case.wrong)


def judge(cases: Sequence[Case]) -> Iterator[Judged]:
    """Make the fits and give the verdict on each."""
    for case in cases:
        began = time.perf_counter()
        fitted = fit(case.data(case.rng()), seed=case.number, **case.options)
        tree = with_groups(fitted.tree, fitted.model, ["verification"])
        said = advice(tree if case.spoil is None else case.spoil(tree))
        rules = dict.fromkeys(item.rule for item in said if item.level in ("problem", "warning"))
        yield Judged(case, verdict_of(said), tuple(rules), time.perf_counter() - began)


def mistakes(judged: Sequence[Judged]) -> tuple[int, int]:
    """How many wrong fits are called good, and how many right ones are not."""
    wrong = [one for one in judged if one.is_mistake]
    return sum(bool(one.case.wrong) for one in wrong), sum(not one.case.wrong for one in wrong)


def verdict_table(judged: Sequence[Judged]) -> str:
    """The verdicts as Markdown, mistakes in bold."""
    misses, alarms = mistakes(judged)
    num_right = sum(not one.case.wrong for one in judged)
    lines = [
        f"{len(judged) - num_right} wrong fits, {misses} of them called good; {num_right} right fits, {alarms} of them "
        f"not called good (at most {_MOST_MISTAKES} of each are allowed).",
        "",
        "| fit | engine | what is wrong | verdict | rules that spoke | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for one in judged:
        words = "caution" if one.verdict == "warning" else one.verdict
        marked = f"**{words}**" if one.is_mistake else words
        lines.append(
            f"| {one.case.words} | {one.case.options['engine']} | {one.case.wrong or '-'} | {marked} "
            f"| {', '.join(one.rules) or '-'} | {one.seconds:.0f} |"
        )
    return "\n".join(lines)


class _Truth(NamedTuple):
    """A model with known parameters, from which data are drawn and to which it is fitted."""

    words: str
    covariance: str
    num_data: int
    gap: float
    """Distance of the groups, in standard deviations."""


_TRUTHS = (
    _Truth("three groups, 5 sd apart, 300 x 3, isotropic", "isotropic", 300, 5.0),
    _Truth("three groups, 3 sd apart, 150 x 3, isotropic", "isotropic", 150, 3.0),
    _Truth("three groups, 5 sd apart, 300 x 3, diagonal", "diagonal", 300, 5.0),
)


def false_alarms(num_simulations: int, seed: int) -> dict[tuple[str, str], list[float]]:
    """p-values of fits to data of the fitted model, by model and engine.

    Args:
        num_simulations: of each model.
        seed: the same seed gives the same figures on the same machine.
    """
    p_values: dict[tuple[str, str], list[float]] = {}
    for position, truth in enumerate(_TRUTHS):
        for simulation in range(num_simulations):
            key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), position), simulation)
            rng = np.random.default_rng([seed, position, simulation])
            centres = truth.gap * np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]])
            x = centres[rng.integers(3, size=truth.num_data)] + rng.normal(size=(truth.num_data, 3))
            for engine in ("em", "gibbs"):
                p_values.setdefault((truth.words, engine), []).append(_p_value(key, x, truth.covariance, engine))
            _show(simulation + 1, num_simulations, truth.words)
    return p_values


def _p_value(key: jax.Array, x: np.ndarray, covariance: str, engine: str) -> float:
    """The p-value of the data under a fit of three memories to them."""
    family = Gaussian(covariance)
    prepared = prepare(x, FitOptions(covariance=covariance), family)
    model: Mixture = mixture(prepared.x, family=family, weights=Dirichlet(1.0), num_components=3)
    key_run, key_check = jax.random.split(key)
    rows = jnp.asarray(prepared.x)
    if engine == "em":
        result = run_em(key_run, model, rows)
    else:
        result = run_gibbs(key_run, model, rows, num_chains=1, num_warmup=200, num_draws=200)
    group = predictive_check_group(key_check, thin(model, result, len(x)), prepared)
    return float(group.attributes["p_value"])


def alarm_table(p_values: dict[tuple[str, str], list[float]]) -> str:
    """How often p is below a few levels, as Markdown."""
    heads = [f"p < {level:g}" for level in _LEVELS]
    lines = [f"| model | engine | simulations | {' | '.join(heads)} |", "|---|---|---|" + "---|" * len(heads)]
    for (words, engine), values in p_values.items():
        shares = " | ".join(f"{np.mean(np.asarray(values) < level):.1%}" for level in _LEVELS)
        lines.append(f"| {words} | {engine} | {len(values)} | {shares} |")
    return "\n".join(lines)


def _show(done: int, total: int, text: str) -> None:
    end = "\n" if done == total else ""
    print(f"\r{text}: {done} of {total}{end}", end="", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """``python -m benchmarks.verdicts``: 0 where no more than two fits of each kind are misjudged."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.verdicts", description=__doc__.split("\n\n")[0])
    parser.add_argument("--tables", nargs="+", choices=("verdicts", "alarms"), default=("verdicts", "alarms"))
    parser.add_argument("--simulations", type=int, default=100, help="of each model, for the rate of false alarms")
    parser.add_argument("--seed", type=int, default=0, help="of these simulations")
    parser.add_argument("--output", type=Path, help="a Markdown file in which the tables are replaced")
    options = parser.parse_args(arguments)
    os.environ["XLA_FLAGS"] = f"{_CHEAP} {os.environ.get('XLA_FLAGS', '')}".strip()
    jax.config.update("jax_enable_x64", True)
    keep_compiled()
    words = sys.argv[1:] if arguments is None else arguments
    made = made_by(" ".join(["python -m benchmarks.verdicts", *words]))
    judged: list[Judged] = []
    if "verdicts" in options.tables:
        judged = _judged_one_by_one(all_cases())
        _write(options.output, "verdicts", made, verdict_table(judged))
    if "alarms" in options.tables:
        p_values = false_alarms(options.simulations, options.seed)
        _write(options.output, "false alarms", made, alarm_table(p_values))
    return int(max(mistakes(judged)) > _MOST_MISTAKES)


def _judged_one_by_one(cases: Sequence[Case]) -> list[Judged]:
    """The verdicts, each said as it is found."""
    judged = []
    for one in judge(cases):
        judged.append(one)
        said = f"{one.verdict} ({', '.join(one.rules)})" if one.rules else one.verdict
        print(f"{one.case.wrong or 'right'}: {one.case.words}: {said}", file=sys.stderr, flush=True)
    return judged


def _write(output: Path | None, subject: str, made: str, table: str) -> None:
    """Print a table, and put it into the file where there is one."""
    print(table)
    if output is not None:
        replace_between(output, subject, f"{made}\n\n{table}")


if __name__ == "__main__":
    sys.exit(main())
