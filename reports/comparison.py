"""The page that compares fits of the same data: verdicts first, then numbers, partitions and memories side by side.

It reads the trees of the fits and a table of their scores, and nothing more.
"""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import xarray as xr

from probam.reports.page import count, enumerated, escape, page, spelled
from probam.reports.sections.comparison import (
    matched_section,
    notes_section,
    numbers_section,
    partitions_section,
    words_section,
)
from probam.reports.sections.lead import belief
from probam.reports.sections.posterior import finding
from probam.reports.summaries.diagnostics import Diagnosis, diagnose
from probam.reports.summaries.preference import preference
from probam.reports.summaries.quantities import options
from probam.reports.tree import num_data

__all__ = ["comparison_html"]

_MODEL = ("family", "weights", "num_components")


def comparison_html(trees: Mapping[str, xr.DataTree], frame: pd.DataFrame) -> str:
    """Several fits of the same data as one HTML document.

    Args:
        trees: the fits by name.
        frame: a row of scores for each fit (:func:`probam.comparison.compare.compare`).
    """
    diagnoses = {name: diagnose(tree) for name, tree in trees.items()}
    first = next(iter(trees.values()))
    sizes = first["observed_data"].sizes
    source = Path(str(first.attrs.get("source", "")) or "data").name
    fits = spelled(len(trees), "fit", "fits")
    lead = f"{enumerated(list(trees))}: fits of the same {count(num_data(first))} rows with "
    lead += spelled(sizes["feature"], "feature", "features")
    sections = [
        numbers_section(trees, diagnoses, frame),
        partitions_section(trees),
        matched_section(trees),
        notes_section(frame),
        words_section(),
    ]
    return page(
        f"{fits.capitalize()} of {source}",
        lead=f'<p class="lead">{escape(lead)}.</p>',
        verdict=_verdicts(trees, diagnoses) + _preferred(trees, diagnoses, frame),
        sections=[section for section in sections if section is not None],
        kicker="probam report of several fits",
    )


def _verdicts(trees: Mapping[str, xr.DataTree], diagnoses: Mapping[str, Diagnosis]) -> str:
    """A box for each fit: what it found, and whether to believe it (HTML)."""
    boxes = []
    for place, (name, tree) in enumerate(trees.items()):
        level, believe = belief(diagnoses[name].advice, more="told by its own report")
        found = f"<strong>{escape(name)}</strong>: {escape(finding(tree, diagnoses[name]))}"
        boxes.append(f'<div class="verdict {level}" id="fit-{place}"><p>{found}</p><p>{believe}</p></div>')
    return "".join(boxes)


def _preferred(trees: Mapping[str, xr.DataTree], diagnoses: Mapping[str, Diagnosis], frame: pd.DataFrame) -> str:
    """Which fit is preferred, and what that preference is of (HTML)."""
    said, *more = preference(frame)
    sentences = [f"<strong>{escape(said)}</strong>", *map(escape, more)]
    if len({_model(tree) for tree in trees.values()}) == 1:
        sentences.append(
            "All fits have the same model and prior: a difference is one between engines or between the ends of their "
            "searches, not between models."
        )
    doubtful = [name for name, diagnosis in diagnoses.items() if diagnosis.advice[0].level == "problem"]
    if doubtful:
        sentences.append(f"Do not rely on the scores of {escape(enumerated(doubtful))} yet.")
    return f"<p>{' '.join(sentences)}</p>"


def _model(tree: xr.DataTree) -> str:
    """What the model and its prior are."""
    attributes = [str(tree.attrs.get(name, "")) for name in _MODEL]
    return repr(
        (attributes, *(sorted(options(tree, name).items()) for name in ("family_options", "weights_options", "prior")))
    )
