"""The head of the report: what a reader learns in a minute. What the fit is, what it found, whether to believe it."""

import re

import numpy as np
import xarray as xr

from probam.reports.page import count, enumerated, escape, number, percent, spelled
from probam.reports.sections.posterior import finding
from probam.reports.summaries.diagnostics import Diagnosis
from probam.reports.summaries.differences import explained_variance, sureness
from probam.reports.summaries.estimate import headline, sample_in_words
from probam.reports.summaries.verdict import Advice, Level, verdict_of
from probam.reports.tree import has, rows_of, variable

__all__ = ["belief", "model_in_words", "verdict"]

_MINUS = re.compile(r"(?<=\s)-(?=\d)")
"""The sign of a number in text that a terminal shows too."""

_TELLING = 0.1
"""Share of a feature's variance between the memories from which it tells them apart."""

_NAMED = 3
"""Most features that the head names."""


def model_in_words(tree: xr.DataTree) -> str:
    """What the fit is and the log likelihood there, then the model (HTML)."""
    model = str(tree.attrs.get("model", ""))
    sentences = [headline(tree), model[:1].upper() + model[1:].rstrip("."), sample_in_words(tree).rstrip(".")]
    return "".join(f'<p class="lead">{escape(_MINUS.sub("−", sentence))}.</p>' for sentence in sentences if sentence)


def verdict(tree: xr.DataTree, diagnosis: Diagnosis) -> str:
    """The box on top (HTML): what the fit found, whether to believe it, and whether the energy was verified."""
    level, believe = belief(diagnosis.advice, more='listed <a href="#trust">below</a>')
    found = [f"<strong>{escape(finding(tree, diagnosis))}</strong>", *map(escape, (_differences(tree), _sure(tree)))]
    paragraphs = [" ".join(part for part in found if part), believe, _checked(tree)]
    return f'<div class="verdict {level}">{"".join(f"<p>{text}</p>" for text in paragraphs if text)}</div>'


def _differences(tree: xr.DataTree) -> str:
    """Which features tell the memories apart; empty where the fit does not say."""
    explained = explained_variance(tree)
    if explained is None:
        return ""
    names = [str(name) for name in rows_of(tree)["feature"].values]
    order = [int(place) for place in np.argsort(-explained, kind="stable") if explained[place] >= _TELLING]
    if not order:
        return "No single feature tells the memories apart: between them lies under 10 % of the variance of each."
    named = [f"{names[place]} ({percent(float(explained[place]))})" for place in order[:_NAMED]]
    of_all = f" of {count(len(names))} features" if len(names) > _NAMED else ""
    features = enumerated(named) + of_all
    return f"They differ most in {features}; in brackets, the share of its variance that lies between them."


def _sure(tree: xr.DataTree) -> str:
    """How sure the memory of a row is; empty where the fit does not say."""
    found = sureness(tree)
    if found is None:
        return ""
    doubtful = spelled(found.num_doubtful, "row lies", "rows lie")
    between = f"; {doubtful} between memories (under 60 %)" if found.num_doubtful else ""
    return f"A row’s memory is certain to {percent(found.mean)} on average{between}."


def belief(advice: list[Advice], *, more: str) -> tuple[Level, str]:
    """How grave the gravest verdict is, and the sentences on it (HTML).

    Args:
        advice: what the rules said.
        more: HTML of where the other issues are to be found, after "two more issues are".
    """
    level = verdict_of(advice)
    if level == "good":
        return level, " ".join(escape(item.text) for item in advice if item.level == "good")
    serious = [item for item in advice if item.level in ("problem", "warning")]
    opening = "Do not rely on this fit yet." if level == "problem" else "Use this fit with care."
    believe = f"{opening} {escape(serious[0].text)}"
    others = len(serious) - 1
    if others:
        believe += f" {spelled(others, 'more issue is', 'more issues are').capitalize()} {more}."
    return level, believe


def _checked(tree: xr.DataTree) -> str:
    """One sentence on the verification, where all of it passed (a failure is advice already)."""
    if not has(tree, "verification"):
        return ""
    passed = variable(tree, "verification", "passed").values.astype(bool)
    if not passed.size or not passed.all():
        return ""
    worst = float(np.max(variable(tree, "verification", "error").values))
    checks = {1: "the check", 2: "both checks"}.get(passed.size, f"all {spelled(passed.size)} checks")
    return f"The energy was verified against the likelihood: {checks} passed, largest error {number(worst, 2)}."
