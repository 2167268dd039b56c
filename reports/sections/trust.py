"""The section of the report on trust: verdicts, label-invariant quantities with their errors, traces and search."""

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from probam.reports.figures.posterior import optimisation_figure, traces_figure
from probam.reports.figures.style import inline_svg
from probam.reports.page import Section, count, escape, figure, number, table
from probam.reports.summaries.convergence import R_HAT_LIMIT
from probam.reports.summaries.diagnostics import Diagnosis, left_out
from probam.reports.summaries.estimate import bounds_memories
from probam.reports.summaries.quantities import quantity_name
from probam.reports.summaries.verdict import Advice
from probam.reports.tree import has

__all__ = ["trust_section"]

_LEVELS = {"good": "✓ Good", "note": "• Note", "warning": "▲ Warning", "problem": "✕ Problem"}
_INVARIANT = "Label-invariant quantities, which do not depend on how memories are numbered"


def trust_section(tree: xr.DataTree, diagnosis: Diagnosis) -> Section:
    """The verdicts in words, the table of label-invariant quantities, the traces and the search."""
    kind, summary = diagnosis.kind, diagnosis.summary
    body = _verdicts([*diagnosis.advice, *left_out(tree)])
    if len(summary) and kind == "point":
        bounds = ("num_occupied",) if bounds_memories(tree) else ()
        rows = [
            (escape(quantity_name(str(name)) + " (upper bound)" * (name in bounds)), number(_float(row["mean"])))
            for name, row in summary.iterrows()
        ]
        body += table(["quantity", "value"], rows, caption=_INVARIANT)
    elif len(summary):
        body += _summary_table(summary, sampled=kind == "chains")
    if kind == "chains" and bool((summary["sd"] > 0).any()):
        svg = inline_svg(traces_figure(diagnosis), "traces", "Trace and rank plots of label-invariant quantities")
        body += figure(
            svg,
            "Left: traces, one colour per chain; chains that agree overlap. Right: the empirical distribution of each "
            "chain’s ranks minus the uniform one; well-mixed chains stay inside the grey band.",
        )
    if has(tree, "optimisation", "objective"):
        what = escape(tree["optimisation"].attrs.get("what", "objective"))
        svg = inline_svg(optimisation_figure(tree), "search", "Objective of every restart against iterations")
        best = (
            "the one whose end has the largest posterior mass is blue. An end that is higher and has less mass "
            "explains groups by several memories each."
            if has(tree, "optimisation", "log_mass")
            else "the best start is blue. Starts that end lower reached a poorer optimum."
        )
        body += figure(svg, f"The {what} of every start by iteration; {best}")
    title = "Can I trust this fit?" if kind == "point" else "Can I trust this posterior?"
    return Section("trust", title, body)


def _verdicts(advice: list[Advice]) -> str:
    items = "".join(
        f'<li class="{item.level}"><span class="level">{_LEVELS[item.level]}</span>'
        f"<span>{escape(item.text)}</span></li>"
        for item in advice
    )
    return f'<ul class="advice">{items}</ul>'


def _summary_table(summary: pd.DataFrame, *, sampled: bool) -> str:
    heads = {"mean": "mean", "sd": "sd", "mcse": "MC error"}
    heads |= {"ess_bulk": "ESS bulk", "ess_tail": "ESS tail", "r_hat": "R-hat"} if sampled else {}
    with_notes = not bool(summary["note"].isin(["", "independent draws"]).all())
    rows, marks = [], []
    for name, row in summary.iterrows():
        cells = [escape(quantity_name(str(name))), *(_cell(column, _float(row[column])) for column in heads)]
        rows.append([*cells, escape(row["note"])] if with_notes else cells)
        r_hat = _float(row["r_hat"])
        marks.append("flag" if r_hat is not None and r_hat > R_HAT_LIMIT else "")
    caption = f"{_INVARIANT}. MC error: Monte Carlo standard error of the mean"
    if sampled:
        caption += f"; ESS: effective sample size (400 is enough); R-hat: at most {R_HAT_LIMIT} where the chains agree"
    head = ["quantity", *heads.values(), *(["note"] if with_notes else [])]
    return table(head, rows, caption=caption, marks=marks)


def _cell(column: str, value: float | None) -> str:
    if column == "r_hat" and value is not None and np.isfinite(value):
        return f"{value:.3f}"
    if column.startswith("ess") and value is not None:
        return count(round(value))
    return number(value, 2 if column == "mcse" else 4)


def _float(value: Any) -> float | None:
    return None if value is pd.NA or value is None else float(value)
