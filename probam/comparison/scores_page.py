"""Pages of comparisons: what :mod:`probam.reports.scores` and ``covariances`` show, from the tables and the fits."""

import os
from collections.abc import Mapping

import numpy as np
import pandas as pd

from probam.comparison.compare import same_data
from probam.comparison.covariances import MCLUST, Selection
from probam.fits.fitted import Fit
from probam.fits.landscape import plane
from probam.reports.covariances import selection_html
from probam.reports.figures.scores import Scattered
from probam.reports.page import write_page
from probam.reports.scores import scores_html
from probam.reports.tree import has, rows_of, variable

__all__ = ["write_scores", "write_selection"]


def write_scores(
    frame: pd.DataFrame, fits: Mapping[str, Fit], path: str | os.PathLike[str], *, subject: str = ""
) -> None:
    """Write a comparison as one self-contained HTML file, completely or not at all.

    Args:
        frame: what :func:`probam.compare` or :func:`probam.comparison.engines.compare_engines` returned.
        fits: the fits of the table, by name.
        path: the file.
        subject: what was compared, for the title; the names of the fits by default.
    """
    ordered = {str(name): fits[name] for name in frame.index if name in fits}
    trees = {name: fit.tree for name, fit in ordered.items()}
    text = scores_html(frame, trees, _scattered(ordered), subject=subject or ", ".join(ordered))
    write_page(text, path)


def write_selection(selection: Selection, path: str | os.PathLike[str]) -> None:
    """Write a choice of covariance and number of memories as one self-contained HTML file, completely or not at all.

    Args:
        selection: what :func:`probam.comparison.covariances.compare_covariances` returned.
        path: the file.
    """
    chosen = selection.chosen
    name = f"{next(iter(selection.best.values())).covariance} covariance"
    text = selection_html(
        selection.table, selection.best, _scattered({name: chosen}), subject=selection.source, title_of=MCLUST
    )
    write_page(text, path)


def _scattered(fits: Mapping[str, Fit]) -> Scattered | None:
    """The fitted rows on the plane that separates the memories of the first fit; None where fits have other rows."""
    if not same_data(list(fits.values())) or not all(has(fit.tree, "partition", "label") for fit in fits.values()):
        return None
    labels = {name: variable(fit.tree, "partition", "label").values for name, fit in fits.items()}
    first = next(iter(fits.values()))
    x = rows_of(first.tree).values.astype(np.float64)
    names = [str(name) for name in first.columns]
    if x.shape[1] == 1:
        height = np.random.default_rng(0).uniform(-1, 1, len(x))
        return Scattered(np.stack([x[:, 0], height], axis=1), (names[0], "spread at random"), labels)
    if x.shape[1] == 2:
        return Scattered(x, (names[0], names[1]), labels)
    x = first.standardiser.apply(x)
    seen = plane(x, spherical=False, owner=next(iter(labels.values())), size=2)
    axes = ("direction that separates the memories of the first fit best", "second direction")
    return Scattered((x - seen.origin) @ seen.axis.T, axes, labels)
