"""The report: one HTML file that a person can read, and that needs nothing else.

It reads a fit's tree and nothing more. Sections whose group the fit lacks are left out; where a reader would miss one,
a sentence says why.
"""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import xarray as xr

from probam.errors import InputError
from probam.reports.page import Section, escape, number, page, spelled
from probam.reports.sections.energy import (
    glossary_section,
    landscape_section,
    parting_section,
    repeat_section,
    truncation_section,
    verification_section,
)
from probam.reports.sections.posterior import (
    data_and_model_section,
    finding,
    memories_section,
    number_of_memories_section,
    partition_section,
    predictive_section,
    trust_section,
    weights_section,
)
from probam.reports.sections.recall import recall_section
from probam.reports.summaries.diagnostics import Advice, advice
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
    said = advice(tree)
    parts: list[Callable[[xr.DataTree], Section | None]] = [
        data_and_model_section,
        lambda tree: trust_section(tree, said),
        number_of_memories_section,
        memories_section,
        weights_section,
        partition_section,
        predictive_section,
        landscape_section,
        parting_section,
        recall_section,
        verification_section,
        truncation_section,
        repeat_section,
        glossary_section,
    ]
    sections = [section for part in parts if (section := part(tree)) is not None]
    source = str(tree.attrs.get("source", "")) or "data"
    title = f"Memories of {Path(source).name}"
    return page(title, lead=_lead(tree), verdict=_verdict(tree, said), sections=sections)


# --- the verdict ----------------------------------------------------------------------------------------------


def _lead(tree: xr.DataTree) -> str:
    model = str(tree.attrs.get("model", ""))
    return f'<p class="lead">{escape(model[:1].upper() + model[1:].rstrip("."))}.</p>' if model else ""


def _verdict(tree: xr.DataTree, said: list[Advice]) -> str:
    """One paragraph: what was found, and whether to believe it."""
    level = said[0].level if said[0].level in ("problem", "warning") else "good"
    first = f"<strong>{escape(finding(tree))}</strong> "
    serious = [item for item in said if item.level in ("problem", "warning")]
    if serious:
        opening = "Do not rely on it yet." if level == "problem" else "Read it with care."
        believe = f"{opening} {escape(serious[0].text)}"
        if len(serious) > 1:
            others = len(serious) - 1
            believe += (
                f' There {"is" if others == 1 else "are"} {spelled(others)} more to <a href="#trust">look at</a>.'
            )
    else:
        believe = " ".join(escape(item.text) for item in said if item.level == "good")
    second = _checked(tree)
    return f'<div class="verdict {level}"><p>{first}{believe}</p>{f"<p>{second}</p>" if second else ""}</div>'


def _checked(tree: xr.DataTree) -> str:
    """One sentence on the verification, where all of it passed (a failure is advice already)."""
    if not has(tree, "verification"):
        return ""
    passed = variable(tree, "verification", "passed").values.astype(bool)
    if not passed.size or not passed.all():
        return ""
    worst = float(np.max(variable(tree, "verification", "error").values))
    checks = {1: "the check", 2: "both checks"}.get(passed.size, f"all {spelled(passed.size)} checks")
    return f"The energy was checked against the likelihood: {checks} passed, largest error {number(worst, 2)}."
