"""Rules on fits whose engine searched for an optimum: how the search ended, and what its end is worth."""

from collections.abc import Iterator

import xarray as xr

from probam.reports.summaries.agreement import agreement
from probam.reports.summaries.outcome import NOISY, OUTCOMES, is_still_rising, remedy, search_of
from probam.reports.summaries.verdict import Facts, Finding, Rule
from probam.reports.tree import has

__all__ = ["SEARCH_RULES"]

_CLIMBED = ("em", "gradient_em")
"""Engines whose starts climb one objective, in nats, each to the end."""

_FAR = 3.0
"""Nats: optima further apart are different explanations of the data."""

_K_HAT = 0.7


def _step_limit(facts: Facts) -> Iterator[Finding]:
    search = search_of(facts.tree)
    if search is None or search.status != "max_steps":
        return
    if search.engine not in NOISY or is_still_rising(search.objective):
        text = f"The search reached its step limit before the {search.what} settled."
        yield Finding("warning", f"{text} {remedy(search.status, search.engine)}")


def _not_finite(facts: Facts) -> Iterator[Finding]:
    search = search_of(facts.tree)
    if search is not None and search.status == "non_finite":
        yield Finding("problem", f"The {search.what} became infinite or NaN. {remedy(search.status, search.engine)}")


def _degenerate(facts: Facts) -> Iterator[Finding]:
    if facts.tree.attrs.get("outcome") == "degenerate":
        yield Finding("problem", f"The fit is degenerate: {OUTCOMES['degenerate']}. {remedy('degenerate', '')}")


def _found_once(facts: Facts) -> Iterator[Finding]:
    """How many starts reached the best optimum, of which kinds, and how far the others stayed below."""
    search, found = search_of(facts.tree), agreement(facts.tree)
    if search is None or found is None:
        return
    is_alone = len(found.reached) < 2 and found.gap > _FAR and not found.settled and search.engine in _CLIMBED
    yield Finding("warning" if is_alone else "note", found.sentence())


def _sampler(tree: xr.DataTree) -> str:
    """The engine that samples the posterior of the same model; empty where none does, or not over so many rows."""
    return "" if has(tree, "all_rows") else str(tree.attrs.get("sampler", "nuts"))


def _point_estimate(facts: Facts) -> Iterator[Finding]:
    sampler = _sampler(facts.tree)
    remedy = f" To get a posterior, fit the same model with engine {sampler}." if sampler else ""
    if has(facts.tree, "all_rows"):
        remedy = " Engines svi and cavi approximate the posterior of all rows."
    yield Finding("note", f"A point estimate has no uncertainty.{remedy}")


def _pareto_k(facts: Facts) -> Iterator[Finding]:
    k_hat = facts.tree["optimisation"].attrs.get("pareto_k") if has(facts.tree, "optimisation") else None
    if k_hat is not None and float(k_hat) > _K_HAT:
        yield Finding(
            "warning",
            f"The approximation misses part of the posterior (Pareto k-hat {float(k_hat):.2f}, above {_K_HAT}). "
            "Do not report its error bars; use engine nuts or a richer guide (option guide).",
        )


_ORIGINS = {"stream": "are conditional on what one pass over the data made of them"}
"""Where draws of an approximation come from, by engine."""


def _approximation(facts: Facts) -> Iterator[Finding]:
    origin = _ORIGINS.get(str(facts.tree.attrs.get("engine")), "come from a fitted approximation")
    sampler = _sampler(facts.tree)
    remedy = f" Engine {sampler} samples the posterior itself." if sampler else ""
    yield Finding(
        "note",
        f"The draws {origin}, which usually understates the uncertainty. R-hat is not given, because agreement between "
        f"draws says nothing about this error.{remedy}",
    )


SEARCH_RULES = (
    Rule(
        "step limit",
        "how the search ended",
        "stopped at its limit; of a noisy search (svi, clam), while the objective still rose",
        ("warning",),
        _step_limit,
        ("point", "approximation"),
    ),
    Rule("search not finite", "how the search ended", "the objective was infinite or NaN", ("problem",), _not_finite),
    Rule(
        "degenerate",
        "widths of the memories of a maximum of the likelihood",
        "one is the least that it is let; the likelihood has no maximum there",
        ("problem",),
        _degenerate,
        ("point",),
    ),
    Rule(
        "optimum found once",
        "where each start ended",
        f"at most one start reached the best objective (split and merge moves of its end aside), and the next one is "
        f"more than {_FAR:g} nats lower (em, gradient_em); where ends are compared by mass, only if the last moves "
        "still raised it; otherwise a note says how many reached it, and of which kinds",
        ("note", "warning"),
        _found_once,
        ("point",),
    ),
    Rule("point estimate", "the number of draws", "one draw", ("note",), _point_estimate, ("point",)),
    Rule(
        "approximation misfit",
        "Pareto k-hat of the importance ratios",
        f"above {_K_HAT}",
        ("warning",),
        _pareto_k,
        ("approximation",),
    ),
    Rule(
        "approximation",
        "the engine",
        "its draws are of an approximation",
        ("note",),
        _approximation,
        ("approximation",),
    ),
)
"""Rules on engines that search."""
