"""Rules on every fit: whether its numbers are finite, the model was large enough and reproduces the data."""

from collections.abc import Iterator

import numpy as np

from probam.reports.page import first_named
from probam.reports.summaries.outcome import remedy
from probam.reports.summaries.quantities import quantity_name, truncation
from probam.reports.summaries.reproduction import FALSE_ALARM, reproduction
from probam.reports.summaries.verdict import Facts, Finding, Rule
from probam.reports.tree import has, variable

__all__ = ["MODEL_RULES"]

_TOUCHED = 0.01
"""The truncation matters when this share of the draws uses the last free memory."""

_PRIOR_CHANGED = 0.05


def _not_finite(facts: Facts) -> Iterator[Finding]:
    bad = [quantity_name(name) for name, values in facts.draws.items() if not np.isfinite(values).all()]
    if bad:
        yield Finding("problem", f"Some draws are not finite: {first_named(bad)}. Check the data and the priors.")


def _all_occupied(facts: Facts) -> float:
    """Share of the draws in which every memory of a truncated process holds data; 0 for others (streams have none)."""
    limit = int(facts.tree.attrs.get("num_components", 0))
    is_truncated = facts.tree.attrs.get("weights") in ("dp", "pyp") and facts.tree.attrs.get("engine") != "stream"
    if not is_truncated or not limit or "num_occupied" not in facts.draws:
        return 0.0
    return float(np.mean(facts.draws["num_occupied"] >= limit))


def _truncation_reached(facts: Facts) -> Iterator[Finding]:
    share = _all_occupied(facts)
    if share > _TOUCHED:
        limit, num_data = int(facts.tree.attrs["num_components"]), int(facts.tree["observed_data"].sizes["datum"])
        when = "" if facts.kind == "point" else f"in {share:.0%} of the draws "
        more = f" Refit with more, say {min(2 * limit, num_data)}." if limit < num_data else ""
        yield Finding("warning", f"The truncation is too low: {when}all {limit} memories are occupied.{more}")


def _truncation_felt(facts: Facts) -> Iterator[Finding]:
    bound = truncation(facts.tree).get("tv_bound") if facts.tree.attrs.get("weights") in ("dp", "pyp") else None
    if bound is not None and bound > _PRIOR_CHANGED and _all_occupied(facts) <= _TOUCHED:
        yield Finding(
            "note",
            f"The truncation at {facts.tree.attrs.get('num_components')} memories changes the prior distribution of "
            f"the data by up to {bound:.2g} in total variation. After the fit, what matters is whether all memories "
            "are occupied.",
        )


def _reproduced(facts: Facts) -> Iterator[Finding]:
    found = reproduction(facts.tree)
    if found is None:
        return
    if found.is_reproduced:
        yield Finding("note", f"Replicated data look like the data (p = {found.p_value:.2g}) in {found.what}.")
    else:
        yield Finding(
            "warning",
            f"The fit does not reproduce the data (p = {found.p_value:.2g}): {found.where}. "
            f"Looked at were {found.what}. Try more memories, another covariance or family, or a weaker prior.",
        )


def _verification(facts: Facts) -> Iterator[Finding]:
    if not has(facts.tree, "verification", "passed"):
        return
    passed = variable(facts.tree, "verification", "passed")
    failed = [str(name) for name in passed["check"].values[~passed.values.astype(bool)]]
    if failed:
        text = f"The energy does not match the likelihood: {first_named(failed)} failed. Please report this."
        yield Finding("problem", text)


def _stopped(facts: Facts) -> Iterator[Finding]:
    if str(facts.tree.attrs.get("status", "")) != "stopped":
        return
    if facts.kind == "chains":
        draws = facts.tree["posterior"].sizes["draw"]
        text = f"The sampler was stopped early: {draws} draws of each chain are kept."
        yield Finding("note", f"{text} Whether they suffice, R-hat and the effective draws say.")
    else:
        text = "The search was stopped before its end: this is the best that it had found by then."
        yield Finding("warning", f"{text} {remedy('stopped', '')}")


MODEL_RULES = (
    Rule(
        "stopped",
        "how the engine ended",
        "a progress callback stopped it; chains keep their draws, which other rules judge",
        ("note", "warning"),
        _stopped,
    ),
    Rule("draws not finite", "the label-invariant quantities", "any is infinite or NaN", ("problem",), _not_finite),
    Rule(
        "truncation reached",
        "memories that hold data, under weights dp and pyp",
        f"all of them in more than {_TOUCHED:.0%} of the draws",
        ("warning",),
        _truncation_reached,
    ),
    Rule(
        "truncation felt",
        "what the truncation changes in the prior distribution of the data",
        f"more than {_PRIOR_CHANGED} in total variation",
        ("note",),
        _truncation_felt,
    ),
    Rule(
        "data not reproduced",
        "spread, dependence, tails and density of the data against replicated data",
        f"p below {FALSE_ALARM}; otherwise a note says what was looked at",
        ("note", "warning"),
        _reproduced,
    ),
    Rule("energy not verified", "checks of the energy against the density", "one failed", ("problem",), _verification),
)
"""Rules on every fit."""
