"""The page of ``probam compare``: the fits of one table in pictures, the table, and what its columns mean.

It reads the table that :func:`probam.compare` returns and the trees of its fits, and nothing more.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from probam.reports.figures.scores import Scattered, Score, plane_figure, score_of, scores_figure
from probam.reports.figures.style import inline_svg
from probam.reports.page import Section, enumerated, escape, figure, number, page, spelled, table, with_error
from probam.reports.summaries.contingency import agreement
from probam.reports.tree import variable

__all__ = ["scores_html"]


class _Column(NamedTuple):
    """A column of the page: one of the table, with its error where that is known, and what it means (HTML)."""

    name: str
    error: str | None
    words: str
    meaning: str


_COLUMNS = (
    _Column("memories", None, "memories in use", "how many memories hold data, on average over the draws"),
    _Column(
        "attractors_per_memory",
        None,
        "attractors per memory",
        "fixed points of recall for each memory that holds data: 1 where every memory is recalled as itself, less "
        "where wells have merged, more where recall also ends elsewhere",
    ),
    _Column(
        "log_score",
        "log_score_se",
        "held-out log density",
        "mean log density of a row that no fit has seen, in nats; more is better. Its error is that of other rows",
    ),
    _Column(
        "log_score_diff",
        "log_score_diff_se",
        "difference",
        "to the best, row by row, with the standard error of the pairs: it is smaller than that of either score, since "
        "rows that are hard for one fit are hard for all",
    ),
    _Column(
        "elpd_loo",
        "elpd_se",
        "leave-one-out",
        "sum over the fitted rows of the log density of each row under a fit of the others, estimated from the draws",
    ),
    _Column("elpd_diff", "elpd_diff_se", "difference in leave-one-out", "to the best, paired row by row"),
    _Column("bic", None, "BIC", "d log N − 2 log L; less is better (mclust prints its negative, where more is better)"),
    _Column("icl", None, "ICL", "BIC plus a penalty for rows between memories; less is better"),
    _Column("log_evidence", "evidence_se", "log evidence", "log probability of the data under the prior, in nats"),
    _Column("ari", None, "ARI", "adjusted Rand index of the known labels and the memories: 1 the same, 0 by chance"),
    _Column("nmi", None, "NMI", "normalised mutual information of the same"),
    _Column("ari_recall", None, "ARI of recall", "the ARI of the labels and of the memories where recall ends"),
    _Column("seconds", None, "seconds", "of the fit, compilation and all"),
    _Column(
        "ess_per_second",
        None,
        "effective draws per second",
        "the least over the quantities that do not depend on the numbers of memories",
    ),
)


def scores_html(
    frame: pd.DataFrame, trees: Mapping[str, xr.DataTree], scattered: Scattered | None, *, subject: str
) -> str:
    """The comparison as an HTML document.

    Args:
        frame: what :func:`probam.compare` returns.
        trees: the fits by name; rows of the table without one were not fitted.
        scattered: the rows with the memories of each fit; None where the fits have not the same data.
        subject: what was compared, for the title.
    """
    sections = [
        _scores(frame, trees),
        _refused(frame),
        None if scattered is None or len(scattered.labels) < 2 else _partitions(scattered),
        _notes(frame),
        _glossary(frame),
    ]
    fitted = spelled(int(frame["seconds"].notna().sum()), "fit", "fits")
    return page(
        f"Comparison: {subject}",
        lead=f'<p class="lead">{escape(fitted.capitalize())} side by side.</p>',
        verdict=_verdict(frame),
        sections=[section for section in sections if section is not None],
        kicker="probam compare",
    )


def _verdict(frame: pd.DataFrame) -> str:
    """Which fit predicts best, and which others are as good as that (HTML)."""
    score = score_of(frame)
    if score is None:
        text = "No fit has draws, and no rows were held out: the table has no score to order the fits by."
        return f'<div class="verdict note"><p>{text} Give <code>--held-out</code>.</p></div>'
    best = str(frame[score.column].idxmax())
    value = number(float(frame[score.column].max()))
    text = f"<strong>{escape(best)} has the highest score</strong>, {value} ({escape(score.words)})."
    return f'<div class="verdict good"><p>{text} {_others(frame, score, best)}</p></div>'


def _others(frame: pd.DataFrame, score: Score, best: str) -> str:
    """Which fits are within two standard errors of the best (HTML)."""
    others = frame[frame[score.difference].notna()].drop(index=best, errors="ignore")
    if not len(others):
        return ""
    close = others.index[-others[score.difference] <= 2 * others[score.error]]
    if not len(close):
        return "All others are worse by more than two standard errors of the difference."
    names = escape(enumerated([str(name) for name in close]))
    return f"Within two standard errors of it, and so not told apart by these rows: {names}."


def _shown(frame: pd.DataFrame) -> Iterator[_Column]:
    return (column for column in _COLUMNS if frame[column.name].notna().any())


def _scores(frame: pd.DataFrame, trees: Mapping[str, xr.DataTree]) -> Section:
    """The picture of the scores, and the table."""
    counts = {name: variable(tree, "invariant", "num_occupied").values.ravel() for name, tree in trees.items()}
    svg = inline_svg(scores_figure(frame, counts), "scores", "Score, memories in use and seconds of each fit")
    caption = "A line for each fit, the best on top."
    if score_of(frame) is not None:
        caption += (
            " Bars of the score: two standard errors of the difference to the best, paired row by row; where a bar "
            "reaches the broken line, the rows do not tell the fits apart."
        )
    caption += " Bars of the memories: 90 % of the draws."
    columns = list(_shown(frame))
    fitted = frame[frame["seconds"].notna()]
    rows = [[escape(name), *(_cell(row, column) for column in columns)] for name, row in fitted.iterrows()]
    header = ["fit", *(escape(column.words) for column in columns)]
    body = figure(svg, caption) + table(header, rows, caption="The fits, the best first")
    return Section("scores", "Scores", body)


def _cell(row: "pd.Series[float]", column: _Column) -> str:
    """A value with its error."""
    value = float(row[column.name])
    if column.error is None or not np.isfinite(value):
        return number(value)
    return with_error(value, float(row[column.error]))


def _refused(frame: pd.DataFrame) -> Section | None:
    """Engines that do not fit this model, each with its reason."""
    rows = frame[frame["seconds"].isna()]
    if not len(rows):
        return None
    body = [[escape(name), escape(str(row["estimate"]).removeprefix("not fitted: "))] for name, row in rows.iterrows()]
    return Section("refused", "Not fitted", table(["engine", "why"], body, caption="Engines without a fit", words=(1,)))


def _partitions(scattered: Scattered) -> Section:
    """The partitions on one plane, and how alike each two of them are."""
    svg = inline_svg(plane_figure(scattered), "partitions", "The rows by memory, a panel for each fit")
    caption = (
        "The fitted rows, coloured by the memory that most probably owns each, with the number of such memories. "
        "Memories of two fits that share most rows have the same colour."
    )
    names = list(scattered.labels)
    rows = [[escape(name), *_agreements(scattered, name)] for name in names]
    alike = table(["fit", *map(escape, names)], rows, caption="Adjusted Rand index of each two partitions")
    return Section("partitions", "Partitions side by side", figure(svg, caption) + alike)


def _agreements(scattered: Scattered, name: str) -> list[str]:
    """Adjusted Rand index of the partition of one fit and of each."""
    own = scattered.labels[name]
    return [number(agreement(own, other).ari, 3) for other in scattered.labels.values()]


def _notes(frame: pd.DataFrame) -> Section:
    """What each fit is, and what stays empty and why."""
    notes: Mapping[str, list[str]] = frame.attrs.get("notes", {})
    parts = []
    for name, row in frame[frame["seconds"].notna()].iterrows():
        named = name if name == row["engine"] else f"{name} (engine {row['engine']})"
        texts = [row["estimate"], *notes.get(str(name), [])]
        parts.append(f"<h3>{escape(named)}</h3><ul>{''.join(f'<li>{escape(text)}</li>' for text in texts)}</ul>")
    return Section("notes", "Notes on each fit", "".join(parts))


def _glossary(frame: pd.DataFrame) -> Section:
    """What the columns of this page mean."""
    words = "".join(f"<dt>{escape(column.words)}</dt><dd>{escape(column.meaning)}.</dd>" for column in _shown(frame))
    return Section("words", "What the columns mean", f'<dl class="words">{words}</dl>')
