"""The section of the report on known labels, and the table of two groupings of the same data."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from probam.errors import InputError
from probam.reports.figures.shown import memory_colours, memory_name, shortened
from probam.reports.page import Section, count, escape, folded, number, percent, spelled, table
from probam.reports.summaries.contingency import Contingency, agreement, contingency
from probam.reports.tree import has, variable

__all__ = ["contingency_table", "labels_section", "memory_cell"]

_MOST_SHOWN = 12
"""Most rows, and most columns, of a table that is not folded."""

_MOST_FOLDED = 40


def labels_section(tree: xr.DataTree, labels: Sequence[object] | np.ndarray) -> Section:
    """How well the memories agree with known labels, and the table of labels against memories.

    Args:
        tree: the fit.
        labels: the label of each datum, None or NaN where it is not known.

    Raises:
        InputError: for another number of labels, and where none is known.
    """
    num_data = int(tree["observed_data"].sizes["datum"])
    known = np.asarray(labels, object).ravel()
    if len(known) != num_data:
        raise InputError(f"labels: expected one for each of {num_data} fitted data; got {len(known)}")
    title = "Do the memories match the known labels?"
    if not has(tree, "partition", "label"):
        return Section("labels", title, "<p>This fit does not say which memory each row has.</p>")
    memories = variable(tree, "partition", "label").values
    scores, crossed = agreement(known, memories), contingency(known, memories)
    body = (
        f"<p>The adjusted Rand index is <strong>{number(scores.ari, 3)}</strong> (1: the same groups; 0: no more than "
        f"groups by chance would have) and the normalised mutual information <strong>{number(scores.nmi, 3)}</strong> "
        f"(from 0 to 1). Where each label is matched with one memory, {count(crossed.num_shared)} of "
        f"{count(crossed.num_data)} rows ({percent(crossed.num_shared / crossed.num_data)}) have the memory of their "
        f"label.{_which_rows(tree, scores.num_data)}</p>"
    )
    body += contingency_table(
        crossed,
        caption="Rows of the data by label and memory; bold: the memory matched with the label",
        row=lambda label: escape(shortened(str(label))),
        column=lambda memory: memory_cell(tree, int(memory)),
        others=("more label", "more labels", "more memory", "more memories"),
    )
    return Section("labels", title, body)


def _which_rows(tree: xr.DataTree, num_known: int) -> str:
    """Rows without a label, and rows whose label the fit was told."""
    words = ""
    missing = int(tree["observed_data"].sizes["datum"]) - num_known
    if missing:
        words += f" {spelled(missing, 'row', 'rows').capitalize()} without a label {'is' if missing == 1 else 'are'} "
        words += "left out."
    if has(tree, "observed_data", "allowed"):
        given = int((variable(tree, "observed_data", "allowed").values == 0).any(axis=1).sum())
        words += f" The fit was told the memory of {spelled(given, 'row', 'rows')}, which agree for that reason."
    return words


def memory_cell(tree: xr.DataTree, position: int) -> str:
    """The name of a memory with a dot of its colour (HTML)."""
    return (
        f'<span class="dot" style="background:{memory_colours(tree)[position]}"></span>'
        f"{escape(memory_name(tree, position))}"
    )


def contingency_table(
    crossed: Contingency,
    *,
    caption: str,
    row: Callable[[Any], str],
    column: Callable[[Any], str],
    others: tuple[str, str, str, str],
) -> str:
    """The table of two groupings (HTML): its heaviest part, and more of it on demand.

    Args:
        crossed: the counts.
        caption: HTML, without the full stop.
        row: HTML of the name of a row.
        column: HTML of the name of a column.
        others: what one and several more rows are called, and one and several more columns.
    """

    def shown(most: int) -> str:
        counts, left = _limited(crossed, most)
        heads = [*map(column, crossed.columns[:most]), *([spelled(left[1], *others[2:])] if left[1] else []), "all"]
        names = [*map(row, crossed.rows[:most]), *([spelled(left[0], *others[:2])] if left[0] else [])]
        num_matched = min(crossed.num_matched, most)
        lines = [
            [name, *_cells(own, i if i < num_matched else None)]
            for i, (name, own) in enumerate(zip(names, counts, strict=True))
        ]
        return table(["", *heads], lines, caption=caption)

    html = shown(_MOST_SHOWN)
    if max(crossed.counts.shape) > _MOST_SHOWN:
        html += folded("A larger part of the table", shown(_MOST_FOLDED))
    return html


def _cells(counts: np.ndarray, partner: int | None) -> list[str]:
    """The counts of a row and their sum, the one that is shared with the partner in bold."""
    cells = [count(int(value)) for value in counts]
    if partner is not None:
        cells[partner] = f"<strong>{cells[partner]}</strong>"
    return [*cells, count(int(counts.sum()))]


def _limited(crossed: Contingency, most: int) -> tuple[np.ndarray, tuple[int, int]]:
    """The counts of the first rows and columns with the sums of the others after them, and the number of the others."""
    counts, left = crossed.counts, [max(size - most, 0) for size in crossed.counts.shape]
    for axis, others in enumerate(left):
        if others:
            first, rest = np.split(counts, [most], axis=axis)
            counts = np.concatenate([first, rest.sum(axis=axis, keepdims=True)], axis=axis)
    return counts, (left[0], left[1])
