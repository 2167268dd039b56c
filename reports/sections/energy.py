"""Sections of the report on the energy: the landscape, recall against assignment, and the verification."""

import numpy as np
import xarray as xr

from probam.reports.figures.interactive import points_for_script
from probam.reports.figures.landscape import (
    disagreement,
    disagreement_figure,
    is_line,
    landscape_figure,
    view,
)
from probam.reports.figures.shown import is_uncertain, listed_memories, shown_memories
from probam.reports.figures.style import inline_svg
from probam.reports.page import Section, count, data_block, escape, figure, number, percent, spelled, table
from probam.reports.summaries.quantities import engine_kind
from probam.reports.tree import has, variable

__all__ = ["disagreement_section", "landscape_picture", "landscape_section", "verification_section"]

_LINE_CAPTION = """The energy along the feature, over a histogram of the data, with the memories on the curve. Below:
the memory that each point is assigned to, and the memory that it is recalled as."""

_PLANE_CAPTION = """The energy is lowest where the map has the colour of the page. Lines: equal energy. Points: data,
in the colour of their memory. Squares: queries, with the path of recall (straight between steps). Crosses: where recall
ends."""

_ELLIPSES = " Tinted ellipse: one standard deviation of a memory’s data, without correlation between features."
_REGIONS = " Ring: 90 % region of the memory."
_GREY = " Grey: memories whose number is not shown."
_REFERENCE = " Energy and recall are those of the draw of highest density; memories are posterior means."


def _has_plane(tree: xr.DataTree) -> bool:
    """Whether a landscape is stored, with a point of finite energy."""
    if not (has(tree, "recall", "grid_energy") and has(tree, "memory")):
        return False
    return bool(np.isfinite(variable(tree, "recall", "grid_energy").values.astype(np.float64)).any())


def _has_grey(tree: xr.DataTree) -> bool:
    """Whether there are memories that the picture draws in grey."""
    return len(listed_memories(tree)) > len(shown_memories(tree))


def landscape_picture(tree: xr.DataTree) -> str:
    """The energy over the plane, with data, memories and recall from some queries (HTML); empty where there is none."""
    if not _has_plane(tree):
        return ""
    svg = inline_svg(landscape_figure(tree), "landscape", "Energy landscape with memories, data and recall")
    caption = _LINE_CAPTION if is_line(tree) else _PLANE_CAPTION
    if not is_line(tree) and not view(tree).spherical:
        caption += _ELLIPSES * has(tree, "memory", "sd") + _REGIONS * is_uncertain(tree)
    caption += _GREY * _has_grey(tree)
    caption += _REFERENCE * (engine_kind(tree) != "point")
    points = points_for_script(tree)
    return figure(svg, caption) + (data_block("points", points) if points else "")


def landscape_section(tree: xr.DataTree) -> Section | None:
    """What :func:`landscape_picture`, at the head of the page, shows."""
    if not _has_plane(tree):
        return None
    words = [*_landscape_words(tree), "The picture is at the top of this page."]
    return Section("landscape", "The energy landscape and recall", f"<p>{' '.join(words)}</p>")


def _landscape_words(tree: xr.DataTree) -> list[str]:
    """Sentences on the energy, on how many recalls converged and where they ended, and on what the plot shows."""
    recall = tree["recall"].to_dataset()
    num_features = int(tree["observed_data"].sizes["feature"])
    sentences = [
        "The memories are wells of an energy: minus the log density, up to scale and a constant. Recall descends it."
    ]
    if "converged" in recall:
        converged, total = int(recall["converged"].values.astype(bool).sum()), int(recall["converged"].size)
        share = "all" if converged == total else f"{count(converged)} of"
        sentences.append(f"Recall converged from {share} {count(total)} queries.")
    if "attractor" in recall and "num_attractors" not in recall:  # else the section on recall counts them
        ends = int(recall["attractor"].shape[0])
        sentences.append(f"Recall from the sampled data ends at {spelled(ends, 'attractor', 'attractors')}.")
    if view(tree).spherical:
        sentences.append(
            "The data are directions. The disc shows the hemisphere around their mean, seen from outside; faint dots "
            "lie on the other hemisphere."
        )
    elif num_features > 2:
        separates = recall.attrs.get("plane") == "discriminant"
        which = "on which the memories lie farthest apart" if separates else "of the first two principal components"
        sentences.append(
            f"The plot shows the plane {which}; distances along the other {num_features - 2} are not visible."
        )
    return sentences


def disagreement_section(tree: xr.DataTree) -> Section | None:
    """Where recall leads to another memory than the one most responsible."""
    if not has(tree, "recall"):
        return None
    result = disagreement(tree)
    differ = spelled(result.num_differ) if result.num_differ == 0 else count(result.num_differ)
    body = (
        "<p>A datum can be assigned to the memory with the largest responsibility, or to the memory that recall leads "
        "to. The two can differ, because a basin of recall is not the set of points nearest to a memory. Here they "
        f"differ for <strong>{differ} of {count(result.num_data)}</strong> {result.of}"
    )
    if result.num_differ:
        body += f" ({percent(result.num_differ / result.num_data)})"
    if np.isfinite(result.plane_share):
        body += f", and on {percent(result.plane_share)} of the {'line' if is_line(tree) else 'plane'} shown"
    body += ".</p>"
    if _has_plane(tree) and not is_line(tree):
        svg = inline_svg(disagreement_figure(tree), "parting", "Basins of recall against assignments")
        body += figure(
            svg,
            "Colours: the memory with the largest responsibility. Stripes: recall leads to another memory, in whose "
            "colour they are. Rings: data that are recalled as another memory than they are assigned to."
            + _GREY
            * _has_grey(tree),
        )
    return Section("parting", "Where do recall and assignment differ?", body)


def verification_section(tree: xr.DataTree) -> Section | None:
    """The table of checks that the energy is the likelihood."""
    if not has(tree, "verification"):
        return None
    group = tree["verification"].to_dataset()
    rows = []
    for position, name in enumerate(group["check"].values):
        verdict = "passed" if bool(group["passed"].values[position]) else "failed"
        rows.append(
            [
                escape(name),
                *(escape(group[key].values[position]) if key in group else "–" for key in ("relation", "witnesses")),
                number(float(group["error"].values[position]), 2),
                number(float(group["tolerance"].values[position]), 2),
                f'<span class="{verdict}">{verdict}</span>',
            ]
        )
    body = (
        "<p>Two implementations that share no code, one of the physics and one of the statistics, computed the same "
        "quantities at this fit. The error is the largest difference between them.</p>"
    )
    head = ["check", "relation", "implementations", "error", "tolerance", "verdict"]
    body += table(head, rows, caption="Checks at this fit", words=(1, 2))
    return Section("verification", "Is the energy really the likelihood?", body)
