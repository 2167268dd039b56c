"""How the run behind a fit ended: one of a few named outcomes, and what to do where it is not ``converged``.

The root attributes ``outcome`` and ``remedy`` of a fit say it; the rules of the verdict say more.
"""

from typing import NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Float

from probam.reports.summaries.convergence import agree
from probam.reports.summaries.quantities import engine_kind, invariant_draws, last_values
from probam.reports.tree import has

__all__ = ["NOISY", "OUTCOMES", "Outcome", "Search", "is_still_rising", "outcome_of", "remedy", "search_of"]

OUTCOMES = {
    "converged": "the search came to rest, or the chains agree and have enough effective draws",
    "max_steps": "the steps that were allowed did not suffice",
    "non_finite": "the objective or draws became infinite or NaN",
    "degenerate": "a memory is as narrow as it is let: it sits on rows that are equal or in line",
    "stopped": "a progress callback ended the run",
}
"""The outcomes, and what they mean."""

NOISY = ("svi", "clam")
"""Engines whose objective is an estimate: their search ends after a number of steps."""

_STEPS = {
    "em": "max_iterations",
    "gradient_em": "max_iterations",
    "cavi": "max_iterations",
    "svi": "num_steps",
    "clam": "num_epochs",
    "nuts": "num_draws",
    "gibbs": "num_draws",
    "smc": "num_particles",
}
"""The option of each engine that limits its steps."""


class Outcome(NamedTuple):
    """How a run ended."""

    name: str
    """One of :data:`OUTCOMES`."""
    remedy: str
    """What to do, in a sentence; empty where it has converged."""


class Search(NamedTuple):
    """How an optimiser came to its end."""

    engine: str
    what: str
    status: str
    objective: Float[np.ndarray, "R T"]


def search_of(tree: xr.DataTree) -> Search | None:
    """The search behind a fit; None where it was none."""
    if not has(tree, "optimisation", "objective"):
        return None
    group = tree["optimisation"]
    objective = group["objective"].transpose("restart", "iteration").values.astype(np.float64)
    what, status = str(group.attrs.get("what", "objective")), str(group.attrs.get("status", ""))
    return Search(str(tree.attrs.get("engine", "")), what, status, objective)


def is_still_rising(objective: Float[np.ndarray, "R T"]) -> bool:
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


def outcome_of(tree: xr.DataTree, *, is_narrow: bool = False) -> Outcome:
    """How the run behind a fit ended.

    Args:
        tree: the fit.
        is_narrow: whether a memory has reached the least width that the estimate is let.
    """
    name = _name(tree, is_narrow=is_narrow)
    return Outcome(name, remedy(name, str(tree.attrs.get("engine", ""))))


def remedy(outcome: str, engine: str) -> str:
    """What to do after an outcome of an engine; empty for ``converged``."""
    option = _STEPS.get(engine)
    more = "Allow more steps" if engine not in ("nuts", "gibbs", "smc") else "Make more draws"
    return {
        "max_steps": f"{more}{f' (option {option})' if option else ''}.",
        "non_finite": "Lower the step size (option learning_rate), or check the data.",
        "degenerate": "Use fewer memories, a covariance with fewer parameters, or estimate map, whose prior keeps "
        "memories wide; rows may be repeated.",
        "stopped": "Fit again and let it end.",
    }.get(outcome, "")


def _name(tree: xr.DataTree, *, is_narrow: bool) -> str:
    search, status = search_of(tree), str(tree.attrs.get("status", ""))
    if status == "stopped":
        return "stopped"
    if search is None:
        return "converged" if engine_kind(tree) == "point" or agree(invariant_draws(tree)) else "max_steps"
    if is_narrow:
        return "degenerate"
    if search.status == "max_steps" and search.engine in NOISY and not is_still_rising(search.objective):
        return "converged"
    return search.status
