"""Rules on fits whose engine searched for an optimum: how the search ended, and what its end is worth."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Float

from probam.reports.summaries.agreement import agreement
from probam.reports.summaries.quantities import last_values
from probam.reports.summaries.verdict import Facts, Finding, Rule
from probam.reports.tree import has

__all__ = ["SEARCH_RULES"]

_NOISY = ("svi", "clam")
"""Engines whose objective is an estimate: their search ends after a number of steps."""

_CLIMBED = ("em", "gradient_em")
"""Engines whose starts climb one objective, in nats, each to the end."""

_STEPS = {
    "em": "max_iterations",
    "gradient_em": "max_iterations",
    "cavi": "max_iterations",
    "svi": "num_steps",
    "clam": "num_epochs",
}
"""The option of each engine that limits its steps."""

_FAR = 3.0
"""Nats: optima further apart are different explanations of the data."""

_K_HAT = 0.7


class _Search(NamedTuple):
    """How an optimiser came to its end."""

    engine: str
    what: str
    status: str
    objective: Float[np.ndarray, "R T"]


def _search(tree: xr.DataTree) -> _Search | None:
    if not has(tree, "optimisation", "objective"):
        return None
    group = tree["optimisation"]
    objective = group["objective"].transpose("restart", "iteration").values.astype(np.float64)
    what, status = str(group.attrs.get("what", "objective")), str(group.attrs.get("status", ""))
    return _Search(str(tree.attrs.get("engine", "")), what, status, objective)


def _step_limit(facts: Facts) -> Iterator[Finding]:
    search = _search(facts.tree)
    if search is None or search.status != "max_steps":
        return
    if search.engine not in _NOISY or _still_rising(search.objective):
        how = f" (option {_STEPS[search.engine]})" if search.engine in _STEPS else ""
        text = f"The search reached its step limit before the {search.what} settled. Allow more steps{how}."
        yield Finding("warning", text)


def _still_rising(objective: Float[np.ndarray, "R T"]) -> bool:
    """Whether the best restart of a noisy search gained more in its last tenth than its noise explains."""
    trace = objective[np.nanargmax(last_values(objective))]
    trace = trace[np.isfinite(trace)]
    tenth = len(trace) // 10
    if tenth < 5:
        return False
    last, before = trace[-tenth:], trace[-2 * tenth : -tenth]
    error = np.sqrt((last.var(ddof=1) + before.var(ddof=1)) / tenth)
    gain = last.mean() - before.mean()
    return bool(gain > 4 * error and gain > 1e-3 * np.ptp(trace))


def _not_finite(facts: Facts) -> Iterator[Finding]:
    search = _search(facts.tree)
    if search is not None and search.status == "non_finite":
        text = (
            f"The {search.what} became infinite or NaN. Lower the step size (option learning_rate), or check the data."
        )
        yield Finding("problem", text)


def _found_once(facts: Facts) -> Iterator[Finding]:
    """How many starts reached the best optimum, of which kinds, and how far the others stayed below."""
    search, found = _search(facts.tree), agreement(facts.tree)
    if search is None or found is None:
        return
    is_alone = len(found.reached) < 2 and found.gap > _FAR and not found.settled and search.engine in _CLIMBED
    yield Finding("warning" if is_alone else "note", found.sentence())


def _sampler(tree: xr.DataTree) -> str:
    """The engine that samples the posterior of the same model; empty where none does."""
    return str(tree.attrs.get("sampler", "nuts"))


def _point_estimate(facts: Facts) -> Iterator[Finding]:
    sampler = _sampler(facts.tree)
    remedy = f" To get a posterior, fit the same model with engine {sampler}." if sampler else ""
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
