"""The report: one HTML file that a person can read, and that needs nothing else.

It reads a fit's tree and nothing more. Sections whose group the fit lacks are left out.
"""

import os
from pathlib import Path

import numpy as np
import xarray as xr

from probam.errors import InputError
from probam.reports.page import escape, number, page, spelled
from probam.reports.sections.energy import disagreement_section, landscape_section, verification_section
from probam.reports.sections.model import data_and_model_section, glossary_section, repeat_section
from probam.reports.sections.posterior import (
    finding,
    memories_section,
    number_of_memories_section,
    partition_section,
    predictive_section,
    truncation_section,
    weights_section,
)
from probam.reports.sections.recall import recall_section
from probam.reports.sections.trust import trust_section
from probam.reports.summaries.diagnostics import Diagnosis, diagnose
from probam.reports.summaries.estimate import headline
from probam.reports.summaries.verdict import Advice, Level, verdict_of
from probam.reports.tree import has, variable

__all__ = ["report_html", "write_report"]


def write_report(tree: xr.DataTree, path: str | os.PathLike[str]) -> None:
    """Write the report of a fit as one HTML file.

    Raises :class:`probam.errors.InputError` where ``path`` cannot be written.
    """
    text = report_html(tree)
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{os.fspath(path)}: cannot be written ({error.strerror or error})") from error


def report_html(tree: xr.DataTree) -> str:
    """The report of a fit as an HTML document."""
    diagnosis = diagnose(tree)
    sections = [
        data_and_model_section(tree),
        trust_section(tree, diagnosis),
        number_of_memories_section(tree, diagnosis),
        memories_section(tree),
        weights_section(tree),
        partition_section(tree),
        predictive_section(tree),
        landscape_section(tree),
        disagreement_section(tree),
        recall_section(tree),
        verification_section(tree),
        truncation_section(tree, diagnosis),
        repeat_section(tree),
        glossary_section(),
    ]
    source = str(tree.attrs.get("source", "")) or "data"
    return page(
        f"Memories of {Path(source).name}",
        lead=_lead(tree),
        verdict=_verdict(tree, diagnosis),
        sections=[section for section in sections if section is not None],
    )


# --- the verdict ----------------------------------------------------------------------------------------------


def _lead(tree: xr.DataTree) -> str:
    """What the fit is and the log likelihood there, then the model."""
    model = str(tree.attrs.get("model", ""))
    sentences = [headline(tree), model[:1].upper() + model[1:].rstrip(".")]
    return "".join(f'<p class="lead">{escape(sentence)}.</p>' for sentence in sentences if sentence)


def _verdict(tree: xr.DataTree, diagnosis: Diagnosis) -> str:
    """The box on top: what was found, whether to believe it, and whether the energy was verified."""
    level, believe = _belief(diagnosis.advice)
    first = f"<strong>{escape(finding(tree, diagnosis))}</strong> {believe}"
    second = _checked(tree)
    return f'<div class="verdict {level}"><p>{first}</p>{f"<p>{second}</p>" if second else ""}</div>'


def _belief(advice: list[Advice]) -> tuple[Level, str]:
    """How grave the gravest verdict is, and the sentences on it (HTML)."""
    level = verdict_of(advice)
    if level == "good":
        return level, " ".join(escape(item.text) for item in advice if item.level == "good")
    serious = [item for item in advice if item.level in ("problem", "warning")]
    opening = "Do not rely on this fit yet." if level == "problem" else "Use this fit with care."
    believe = f"{opening} {escape(serious[0].text)}"
    others = len(serious) - 1
    if others:
        more = spelled(others, "more issue is", "more issues are").capitalize()
        believe += f' {more} listed <a href="#trust">below</a>.'
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
