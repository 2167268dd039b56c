"""The page of a memory: its energy landscape, where recall ends, and the fixed points.

It reads the tree that :func:`probam.fits.memory_landscape.landscape_of` makes, and nothing more.
"""

import os

import numpy as np
import xarray as xr

from probam.reports.figures.landscape import is_line, landscape_figure
from probam.reports.figures.shown import shown_memories
from probam.reports.figures.style import inline_svg
from probam.reports.page import Section, count, escape, figure, first_named, number, page, spelled, table, write_page
from probam.reports.tree import has

__all__ = ["memory_html", "write_memory_page"]

_MOST = 40
"""Fixed points that are listed."""

_LINE = "The energy along the line, with the patterns by number, and a histogram of them. Below: the pattern that is "
_LINE += "nearest to each point, and the one that is nearest to where recall ends from there."
_PLANE = (
    "The energy is lowest where the map has the colour of the page. Lines: equal energy. Discs: patterns, by number."
)
_PATHS = (
    " Squares: queries, with the path of recall (straight between steps). Crosses: fixed points, where recall ends."
)
_VIEW = " The plane is that of the two widest directions. Patterns, paths and fixed points are projected on it; those "
_VIEW += "that lie off it have a lower energy than the plane has there."
_SPHERE = " The sphere is seen from the mean of the patterns and queries; what lies on its far side is not shown."


def write_memory_page(tree: xr.DataTree, path: str | os.PathLike[str]) -> None:
    """Write the page of a memory as one HTML file.

    Raises :class:`probam.errors.InputError` where ``path`` cannot be written.
    """
    write_page(memory_html(tree), path)


def memory_html(tree: xr.DataTree) -> str:
    """The page of a memory as an HTML document."""
    sections = [_landscape(tree), _fixed_points(tree), _memory(tree)]
    patterns = spelled(tree["memory"].sizes["memory"], "pattern", "patterns").capitalize()
    numbers = spelled(tree["memory"].sizes["feature"], "number", "numbers")
    return page(
        f"Landscape of {tree.attrs['memory']}",
        lead=f'<p class="lead">{escape(patterns)} of {numbers} are stored.</p>',
        verdict=_verdict(tree),
        sections=[section for section in sections if section is not None],
        kicker="probam memory",
    )


def _verdict(tree: xr.DataTree) -> str:
    """One paragraph: how many patterns are fixed points of their own."""
    if not has(tree, "recall", "attractor_energy"):
        still = escape(str(tree.attrs["still"]))
        return f'<div class="verdict note"><p><strong>Nothing moves: {still}.</strong></p></div>'
    recall = tree["recall"].to_dataset()
    ends = recall["pattern_attractor"].values
    rested = ends >= 0
    own = rested & (recall["attractor_nearest"].values[ends] == np.arange(len(ends)))
    count_of, those = spelled(int(own.sum())).capitalize(), spelled(len(ends), "pattern", "patterns")
    recalled = "is recalled as itself" if own.sum() == 1 else "are recalled as themselves"
    text = f"{count_of} of {those} {recalled}; {_counted(recall)}."
    if not rested.all():
        text += f" Recall from {spelled(int((~rested).sum()), 'pattern', 'patterns')} was stopped before it converged."
    return f'<div class="verdict {"good" if own.all() else "warning"}"><p><strong>{escape(text)}</strong></p></div>'


def _counted(recall: xr.Dataset) -> str:
    """How many fixed points were found, and from how many starts."""
    starts = recall.sizes["memory"] + recall.sizes["query"]
    points = spelled(recall.sizes["attractor"], "fixed point was", "fixed points were")
    return f"{points} found from {count(starts)} starts"


def _landscape(tree: xr.DataTree) -> Section:
    """The picture, with how to read it."""
    svg = inline_svg(landscape_figure(tree), "landscape", "Energy landscape with patterns and recall")
    caption = _LINE if is_line(tree) else _PLANE
    features = tree["recall"].sizes["feature"]
    if not is_line(tree):
        caption += _PATHS if has(tree, "recall", "trajectory") else ""
        caption += _SPHERE if tree["recall"].attrs["spherical"] else _VIEW if features > 2 else ""
        hidden = tree["memory"].sizes["memory"] - len(shown_memories(tree))
        caption += f" The first {len(shown_memories(tree))} patterns carry their number." if hidden else ""
    return Section("landscape", "Energy landscape", figure(svg, caption))


def _fixed_points(tree: xr.DataTree) -> Section | None:
    """The fixed points, with what is recalled as each."""
    if not has(tree, "recall", "attractor_energy"):
        return None
    recall = tree["recall"].to_dataset()
    patterns, queries = recall["pattern_attractor"].values, recall["query_attractor"].values
    order = np.argsort(-np.bincount(patterns[patterns >= 0], minlength=recall.sizes["attractor"]), kind="stable")
    places = tree["memory"].to_dataset()["mean"].values
    rows = []
    for point in order[:_MOST]:
        nearest = int(recall["attractor_nearest"].values[point])
        distance = float(np.linalg.norm(recall["attractor"].values[point] - places[nearest]))
        rows.append(
            [
                str(point),
                number(float(recall["attractor_energy"].values[point])),
                str(nearest),
                number(distance, 3),
                first_named([str(place) for place in np.flatnonzero(patterns == point)], 12) or "none",
                str(int((queries == point).sum())),
            ]
        )
    caption = "Fixed points, those of most patterns first"
    caption += f"; {len(rows)} of {len(order)}" if len(rows) < len(order) else ""
    header = ["fixed point", "energy", "nearest pattern", "distance to it", "patterns that end there", "queries"]
    remark = ""
    if not (queries >= 0).all():
        stopped = spelled(int((queries < 0).sum()), "query", "queries")
        remark = f"<p>Recall from {stopped} was stopped before it converged.</p>"
    return Section("fixed", "Where recall ends", table(header, rows, caption=caption, words=(4,)) + remark)


def _memory(tree: xr.DataTree) -> Section:
    """What the memory is."""
    names = ("memory", "states", "energy", "update", "capacity", "parameters", "source")
    facts = "".join(
        f"<dt>{name}</dt><dd>{escape(tree.attrs[name])}</dd>" for name in names if str(tree.attrs[name]).strip()
    )
    shown = f"<code>probam memory show {escape(tree.attrs['memory'])}</code>"
    return Section("memory", "Which memory is this?", f'<dl class="facts">{facts}</dl><p>{shown} explains it.</p>')
