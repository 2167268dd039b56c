"""The report: one HTML file that a person can read, and that needs nothing else.

It reads a fit's tree and nothing more. Sections whose group the fit lacks are left out.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from probam.reports.page import page, write_page
from probam.reports.sections.energy import (
    disagreement_section,
    landscape_picture,
    landscape_section,
    verification_section,
)
from probam.reports.sections.labels import labels_section
from probam.reports.sections.lead import model_in_words, verdict
from probam.reports.sections.model import data_and_model_section, glossary_section, repeat_section
from probam.reports.sections.posterior import (
    memories_section,
    number_of_memories_section,
    partition_section,
    predictive_section,
    truncation_section,
    weights_section,
)
from probam.reports.sections.recall import recall_section
from probam.reports.sections.trust import trust_section
from probam.reports.summaries.diagnostics import diagnose

__all__ = ["report_html", "write_report"]


def write_report(
    tree: xr.DataTree, path: str | os.PathLike[str], labels: Sequence[object] | np.ndarray | None = None
) -> None:
    """Write the report of a fit as one HTML file.

    Args:
        tree: the fit.
        path: the file.
        labels: as for :func:`report_html`.

    Raises:
        InputError: where ``path`` cannot be written, and for labels that do not match the data.
    """
    write_page(report_html(tree, labels), path)


def report_html(tree: xr.DataTree, labels: Sequence[object] | np.ndarray | None = None) -> str:
    """The report of a fit as an HTML document.

    Args:
        tree: the fit.
        labels: known label of each datum that was fitted, None or NaN where it is not known; the report then says how
            well the memories agree with them. None: no labels are known.
    """
    diagnosis = diagnose(tree)
    sections = [
        trust_section(tree, diagnosis),
        number_of_memories_section(tree, diagnosis),
        memories_section(tree),
        weights_section(tree),
        partition_section(tree),
        None if labels is None else labels_section(tree, labels),
        predictive_section(tree),
        landscape_section(tree),
        disagreement_section(tree),
        recall_section(tree),
        verification_section(tree),
        truncation_section(tree, diagnosis),
        data_and_model_section(tree),
        repeat_section(tree),
        glossary_section(),
    ]
    source = str(tree.attrs.get("source", "")) or "data"
    return page(
        f"Memories of {Path(source).name}",
        lead="",
        verdict=verdict(tree, diagnosis) + model_in_words(tree) + landscape_picture(tree),
        sections=[section for section in sections if section is not None],
    )
