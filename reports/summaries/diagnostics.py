"""Can the posterior be trusted? The verdict on a fit, in plain words.

:func:`diagnose` reads the label-invariant draws from the tree once, and every rule of ``RULES`` judges those, their
summary (:mod:`probam.reports.summaries.convergence`), or what the engine says of its own run.
"""

from typing import NamedTuple, get_args

import pandas as pd
import xarray as xr

from probam.reports.summaries.chain_rules import CHAIN_RULES
from probam.reports.summaries.convergence import summarise
from probam.reports.summaries.model_rules import MODEL_RULES
from probam.reports.summaries.quantities import EngineKind, InvariantDraws, engine_kind, invariant_draws, options
from probam.reports.summaries.search_rules import SEARCH_RULES
from probam.reports.summaries.verdict import Advice, Facts, Level, Rule

__all__ = ["RULES", "Diagnosis", "advice", "diagnose", "left_out", "rule_table"]

RULES: tuple[Rule, ...] = (*SEARCH_RULES, *CHAIN_RULES, *MODEL_RULES)
"""All rules of the verdict."""

_GOOD: dict[EngineKind, str] = {
    "point": "The search ended without problems. It gives a point estimate, without error bars.",
    "approximation": "The approximation was fitted without problems. Its error bars are usually too small.",
    "chains": "The chains agree with each other, and there are enough effective draws.",
}
_GROUPS = {
    "log_likelihood": "log density of each datum",
    "partition": "posterior partition",
    "posterior_predictive": "replicated data",
    "predictive_check": "comparison with replicated data",
    "prior": "draws from the prior",
    "prior_predictive": "data drawn from the prior",
    "log_prior": "log density of the prior",
    "recall": "recall and energy landscape",
    "verification": "verification of its energy",
}
"""Groups that a fit may lack, in words."""

_WORDS: dict[Level, str] = {"problem": "problem", "warning": "caution", "note": "note", "good": "good"}


class Diagnosis(NamedTuple):
    """What tells whether a fit can be trusted; the label-invariant draws are read from its tree once."""

    kind: EngineKind
    draws: InvariantDraws
    summary: pd.DataFrame  # of these draws: one row a quantity
    advice: list[Advice]  # the gravest first


def diagnose(tree: xr.DataTree) -> Diagnosis:
    """The label-invariant quantities of a fit, their summary, and the verdicts on them."""
    kind, draws = engine_kind(tree), invariant_draws(tree)
    facts = Facts(tree, kind, draws, summarise(draws, kind))
    said = [item for rule in RULES for item in rule.judge(facts)]
    if not any(item.level in ("problem", "warning") for item in said):
        said.append(Advice("good", _GOOD[kind]))
    gravest_first = sorted(said, key=lambda item: get_args(Level).index(item.level))
    return Diagnosis(kind, draws, facts.summary, gravest_first)


def advice(tree: xr.DataTree) -> list[Advice]:
    """What a careful colleague would say about this fit, the gravest first; ``good`` alone when all is well."""
    return diagnose(tree).advice


def left_out(tree: xr.DataTree) -> list[Advice]:
    """A note for each group that the fit could not make, and why."""
    return [
        Advice("note", f"This fit has no {_GROUPS.get(name, name)} (group {name}): {str(reason).rstrip('.')}.")
        for name, reason in options(tree, "left_out").items()
    ]


def rule_table() -> str:
    """The rules as a Markdown table."""
    lines = ["| rule | engines | what it reads | when it speaks | level |", "|---|---|---|---|---|"]
    for rule in RULES:
        engines = "all" if len(rule.kinds) == len(_GOOD) else ", ".join(rule.kinds)
        levels = ", ".join(_WORDS[level] for level in rule.levels)
        lines.append(f"| {rule.name} | {engines} | {rule.reads} | {rule.bar} | {levels} |")
    return "\n".join(lines)
