"""The page of ``probam compare --covariances``: what criteria say of each shape and number of memories.

It reads the table that :func:`probam.comparison.covariances.compare_covariances` makes, and nothing more.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import pandas as pd

from probam.reports.figures.covariances import criteria_figure
from probam.reports.figures.scores import Scattered, plane_figure
from probam.reports.figures.style import inline_svg
from probam.reports.page import Section, enumerated, escape, figure, page, spelled, table, with_error

__all__ = ["selection_html"]


class _Criterion(NamedTuple):
    """A criterion: its column, that of its error, which is better, its title and what it means (HTML)."""

    column: str
    error: str | None
    better: str
    title: str
    meaning: str


_CRITERIA = {
    "bic": _Criterion(
        "bic",
        None,
        "less",
        "BIC",
        "d log N − 2 log L at the maximum of the likelihood L, with d free parameters and N rows; less is better, as "
        "in scikit-learn (mclust prints its negative). A difference of 6 is probable, one of 10 clear",
    ),
    "icl": _Criterion(
        "icl",
        None,
        "less",
        "ICL",
        "BIC and a penalty for rows between memories; less is better (mclust prints its negative). It asks for groups "
        "that lie apart, and so for fewer",
    ),
    "loo": _Criterion(
        "elpd_loo",
        "elpd_se",
        "more",
        "leave-one-out",
        "log density of each row under a fit of the others, summed, in nats; more is better. Its error is that of "
        "other rows; the difference of two models has a smaller one",
    ),
    "evidence": _Criterion(
        "log_evidence",
        "evidence_se",
        "more",
        "log evidence",
        "log probability of the rows under the model and its default prior, in nats; more is better. Its error is that "
        "of the computation",
    ),
}


def selection_html(
    frame: pd.DataFrame,
    best: Mapping[str, tuple[str, int]],
    scattered: Scattered | None,
    *,
    subject: str,
    title_of: Mapping[str, str],
) -> str:
    """The choice as an HTML document.

    Args:
        frame: a row for each model, by ``covariance`` and ``components``.
        best: the best model by each criterion; the first one decides.
        scattered: the rows with the memories of the chosen model; None where they cannot be drawn.
        subject: what the rows are called.
        title_of: what mclust calls each shape.
    """
    sections = [_criteria(frame, best), _tables(frame, best, title_of), _chosen(scattered), _notes(frame), _words(best)]
    models = spelled(len(frame), "model", "models")
    return page(
        f"Covariance and number of memories: {subject}",
        lead=f'<p class="lead">{escape(models.capitalize())} of Gaussian memories, compared by '
        f"{escape(enumerated([_CRITERIA[name].title for name in best]))}.</p>",
        verdict=_verdict(frame, best),
        sections=[section for section in sections if section is not None],
        kicker="probam compare --covariances",
    )


def _verdict(frame: pd.DataFrame, best: Mapping[str, tuple[str, int]]) -> str:
    """Which model each criterion chooses, and how far the next one is (HTML)."""
    sentences = []
    for name, (shape, count) in best.items():
        criterion = _CRITERIA[name]
        said = f"{criterion.title} chooses {shape} covariance, {spelled(count, 'memory', 'memories')}"
        sentences.append(f"<strong>{escape(said)}</strong>{escape(_lead(frame, criterion))}.")
    kind = "good" if len(set(best.values())) == 1 else "note"
    return f'<div class="verdict {kind}">{"".join(f"<p>{sentence}</p>" for sentence in sentences)}</div>'


def _lead(frame: pd.DataFrame, criterion: _Criterion) -> str:
    """How far the best model is from the next one, in words."""
    ranked = frame[criterion.column].dropna().sort_values(ascending=criterion.better == "less", kind="stable")
    if len(ranked) < 2:
        return ""
    shape, count = ranked.index[1]
    gap = abs(float(ranked.iloc[1] - ranked.iloc[0]))
    error = float(frame["elpd_diff_se"].get(ranked.index[1], math.nan)) if criterion.column == "elpd_loo" else 0.0
    by = f"{'higher' if criterion.better == 'less' else 'lower'} by {with_error(gap, error, 3)}"
    return f"; next is {shape}, {count}, {by}"


def _criteria(frame: pd.DataFrame, best: Mapping[str, tuple[str, int]]) -> Section:
    """The criteria against the number of memories."""
    shown = {_CRITERIA[name].title: _CRITERIA[name][:3] for name in best}
    svg = inline_svg(criteria_figure(frame, shown), "criteria", "Criteria against the number of memories, by shape")
    caption = "A line for each shape of the covariance; a ring around the best model."
    caption += " Bars: two standard errors." if any(_CRITERIA[name].error for name in best) else ""
    caption += " The scale shows the models near the best; the others are in the table."
    return Section("criteria", "Criteria", figure(svg, caption))


def _tables(frame: pd.DataFrame, best: Mapping[str, tuple[str, int]], title_of: Mapping[str, str]) -> Section:
    """A table for each criterion: shapes by numbers of memories."""
    shapes = list(dict.fromkeys(frame.index.get_level_values("covariance")))
    counts = list(dict.fromkeys(frame.index.get_level_values("components")))
    parts = []
    for name, choice in best.items():
        criterion = _CRITERIA[name]
        rows = []
        for shape in shapes:
            cells = [_cell(frame, criterion, (shape, count), choice) for count in counts]
            rows.append([f"{escape(shape)} ({title_of[shape]})", *cells])
        header = ["covariance", *(str(count) for count in counts)]
        caption = f"{criterion.title} by number of memories, {criterion.better} is better; the best in bold"
        parts.append(table(header, rows, caption=caption))
    return Section("models", "All models", "".join(parts))


def _cell(frame: pd.DataFrame, criterion: _Criterion, model: tuple[str, int], best: tuple[str, int]) -> str:
    """The value of a model with its error; bold for the best one."""
    value = float(frame[criterion.column].get(model, math.nan))
    error = 0.0 if criterion.error is None else float(frame[criterion.error].get(model, math.nan))
    is_exact = math.isfinite(value) and not error > 0
    text = f"{value:.1f}".replace("-", "−") if is_exact else with_error(value, error)
    return f"<strong>{text}</strong>" if tuple(model) == tuple(best) else text


def _chosen(scattered: Scattered | None) -> Section | None:
    """The rows by memory of the chosen model."""
    if scattered is None:
        return None
    svg = inline_svg(plane_figure(scattered), "chosen", "The rows by memory of the chosen model")
    caption = "The rows, coloured by the memory of the chosen model that most probably owns each, and their number."
    return Section("chosen", "The chosen model", figure(svg, caption))


def _notes(frame: pd.DataFrame) -> Section | None:
    """Why models have no numbers."""
    noted = frame[frame["note"] != ""].reset_index()
    columns = zip(noted["covariance"], noted["components"], noted["note"], strict=True)
    rows = [[f"{escape(shape)}, {count}", escape(note)] for shape, count, note in columns]
    if not rows:
        return None
    return Section("notes", "Models without numbers", table(["model", "why"], rows, caption="Reasons", words=(1,)))


def _words(best: Mapping[str, tuple[str, int]]) -> Section:
    """What the criteria mean."""
    words = "".join(
        f"<dt>{escape(_CRITERIA[name].title)}</dt><dd>{escape(_CRITERIA[name].meaning)}.</dd>" for name in best
    )
    return Section("words", "What the criteria mean", f'<dl class="words">{words}</dl>')
