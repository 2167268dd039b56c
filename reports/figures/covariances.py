"""Criteria against the number of memories, a line for each shape of the covariance."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from probam.reports.figures.shown import panels
from probam.reports.figures.style import INK, MEMORY_COLOURS, quiet, styled

__all__ = ["criteria_figure"]

_MARKERS = "osD^v"
_LEAST_ROOM = 20.0
"""Height of a panel that shows a difference of 10, which is clear in BIC."""


@styled
def criteria_figure(table: pd.DataFrame, criteria: dict[str, tuple[str, str | None, str]]) -> Figure:
    """A panel for each criterion; a ring marks the best model.

    The scale ends a little beyond the best value of the middle shape, so that models that nobody would choose do not
    flatten the rest.

    Args:
        table: a row for each model, by ``covariance`` and ``components``.
        criteria: title of a panel -> the column, that of its error or None, and "less" or "more", which is better.
    """
    figure, all_axes = panels(len(criteria), width=8.4 if len(criteria) > 1 else 5.6, height=3.0, columns=2)
    for panel, (title, (column, error, better)) in zip(all_axes, criteria.items(), strict=True):
        known = table[table[column].notna()]
        for place, (shape, rows) in enumerate(known.groupby(level="covariance", sort=False)):
            at = rows.index.get_level_values("components")
            bars = None if error is None else 2 * rows[error].fillna(0).to_numpy(float)
            panel.errorbar(
                at,
                rows[column].to_numpy(float),
                yerr=bars,
                marker=_MARKERS[place % len(_MARKERS)],
                color=MEMORY_COLOURS[place % len(MEMORY_COLOURS)],
                ms=4,
                lw=1.2,
                label=str(shape),
            )
        values = known[column].to_numpy(float)
        best = int(np.argmin(values) if better == "less" else np.argmax(values))
        at_best = known.index.get_level_values("components")[best]
        panel.plot(at_best, values[best], "o", ms=11, mfc="none", mec=INK, mew=1.2)
        _limit(panel, known[column], is_less=better == "less")
        panel.set_title(title)
        panel.set_xlabel("memories")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        quiet(panel, grid="y")
    figure.legend(*all_axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return figure


def _limit(panel: Axes, values: pd.Series, *, is_less: bool) -> None:
    """End the scale a little beyond the best value of the middle shape."""
    signed = values if is_less else -values
    by_shape = signed.groupby(level="covariance").min()
    low = float(by_shape.min())
    room = max(3 * (float(by_shape.median()) - low), _LEAST_ROOM)
    low, high = low - 0.1 * room, min(low + room, float(signed.max()) + 0.1 * room)
    panel.set_ylim((low, high) if is_less else (-high, -low))
