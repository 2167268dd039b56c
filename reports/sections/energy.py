"""Sections of the report on the energy: landscape, recall, verification, truncation; and how to repeat the fit."""

import shlex

import numpy as np
import xarray as xr

from probam.reports.figures.landscape import disagreement, disagreement_figure, is_line, landscape_figure, view
from probam.reports.figures.shown import is_uncertain
from probam.reports.figures.style import inline_svg
from probam.reports.page import Section, count, escape, figure, number, percent, spelled, table
from probam.reports.summaries.quantities import engine_kind, options, truncation
from probam.reports.tree import has, variable

__all__ = [
    "glossary_section",
    "landscape_section",
    "parting_section",
    "repeat_section",
    "truncation_section",
    "verification_section",
]

_LINE_CAPTION = """The energy along the one feature, the data as a silhouette, the memories on the curve; below, the
memory that a point is assigned to and the one it is recalled as."""

_PLANE_CAPTION = """Pale: low energy. Lines: equal energy. Data in the colour of their memory. Squares: queries, with
the path of recall (straight between steps); crosses: where recall ends."""

_ELLIPSES = " Pale ellipse: one standard deviation of a memory’s data, features taken apart."
_REGIONS = " Ring: 90 % region of the memory itself."
_REFERENCE = " Energy and recall are those of the likeliest draw, the memories posterior means."

_LINE_LENGTH = 76


def _has_plane(tree: xr.DataTree) -> bool:
    return has(tree, "recall", "grid_energy") and has(tree, "memory")


def landscape_section(tree: xr.DataTree) -> Section | None:
    """The energy over the plane, with recall from some queries."""
    if not _has_plane(tree):
        return None
    recall = tree["recall"].to_dataset()
    num_features = int(tree["observed_data"].sizes["feature"])
    said = [
        "The memories are wells of an energy: minus the log density, up to scale and a constant. Recall runs downhill."
    ]
    if "converged" in recall:
        done, total = int(recall["converged"].values.astype(bool).sum()), int(recall["converged"].size)
        said.append(f"From {count(total)} queries, {'all' if done == total else count(done)} came to rest.")
    if "attractor" in recall:
        ends = int(recall["attractor"].shape[0])
        said.append(f"Recall from the data looked at ends in {spelled(ends, 'place', 'places')}.")
    if view(tree).spherical:
        said.append(
            "The data are directions; the disc is the half of the sphere around their mean, seen from outside (faint "
            "dots lie on the other half)."
        )
    elif num_features > 2:
        said.append(
            f"The plane of the two widest directions is shown; distances in the other {num_features - 2} are not."
        )
    svg = inline_svg(landscape_figure(tree), "landscape", "Energy landscape with memories, data and recall")
    caption = _LINE_CAPTION if is_line(tree) else _PLANE_CAPTION
    if not is_line(tree) and not view(tree).spherical:
        caption += _ELLIPSES * has(tree, "memory", "sd") + _REGIONS * is_uncertain(tree)
    caption += _REFERENCE * (engine_kind(tree) != "point")
    body = f"<p>{' '.join(said)}</p>{figure(svg, caption)}"
    return Section("landscape", "The energy landscape and recall", body)


def parting_section(tree: xr.DataTree) -> Section | None:
    """Where recall leads to another memory than the one most responsible."""
    if not has(tree, "recall"):
        return None
    found = disagreement(tree)
    differ = spelled(found.num_differ) if found.num_differ == 0 else count(found.num_differ)
    body = (
        "<p>A datum can be given to the memory most responsible for it, or to the one that recall leads to. "
        "These are different maps: a basin of recall is no cell of nearest memories. Here they differ for "
        f"<strong>{differ} of {count(found.num_data)}</strong> {found.of} looked at"
    )
    if found.num_differ:
        body += f" ({percent(found.num_differ / found.num_data)})"
    if np.isfinite(found.plane_share):
        body += f", and on {percent(found.plane_share)} of the {'line' if is_line(tree) else 'plane'} shown"
    body += ".</p>"
    if _has_plane(tree) and not is_line(tree):
        svg = inline_svg(disagreement_figure(tree), "parting", "Basins of recall against assignments")
        body += figure(
            svg,
            "Colours: the memory most responsible. Stripes: recall leads to another one, in whose colour they are. "
            "Ringed data are recalled as another memory than they are assigned to.",
        )
    return Section("parting", "Where do recall and assignment part?", body)


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
        "<p>Two pieces of code that share nothing, the physics and the statistics, were asked for the same numbers "
        "at this fit. The error is the largest difference found.</p>"
    )
    head = ["check", "what must hold", "who was asked", "error", "allowed", "verdict"]
    body += table(head, rows, caption="Checks at this fit", words=(1, 2))
    return Section("verification", "Is the energy really the likelihood?", body)


def truncation_section(tree: xr.DataTree) -> Section | None:
    """What cutting a stick-breaking process costs (CLAIMS A20)."""
    numbers = truncation(tree)
    limit = tree.attrs.get("num_components")
    if not numbers or limit is None:
        return None
    said = [f"The process has no last memory; this fit stops at {escape(limit)}."]
    if "expected_remaining" in numbers:
        said.append(f"The weight expected beyond is {number(numbers['expected_remaining'], 2)}.")
    if "tv_bound" in numbers:
        num_data = count(int(tree["observed_data"].sizes["datum"]))
        bound = number(min(numbers["tv_bound"], 1.0), 2)
        said.append(
            f"Before any data are seen, cutting it changes the law of {num_data} data by at most {bound} in total "
            "variation (0: not at all, 1: entirely)."
        )
    if has(tree, "invariant", "num_occupied"):
        most = int(variable(tree, "invariant", "num_occupied").max())
        said.append(f"No draw used more than {most} of {escape(limit)}.")
    return Section("truncation", "What does the truncation cost?", f"<p>{' '.join(said)}</p>")


def repeat_section(tree: xr.DataTree) -> Section:
    """The command, seed and versions that give this fit again."""
    said = tree.attrs
    given = dict(options(tree, "weights_options"))
    in_python = [name for name, value in given.items() if isinstance(value, str)]
    flags = {"family": said.get("family"), **options(tree, "family_options"), "weights": said.get("weights")}
    if "given" in given:
        flags["given-weights"] = ",".join(str(weight) for weight in given.pop("given"))
    flags["components"] = said.get("num_components")
    flags |= {name: value for name, value in given.items() if name not in in_python}
    flags |= {"engine": said.get("engine"), "seed": said.get("seed")}

    source = str(said.get("source", ""))
    words: list[tuple[str, ...]] = [("probam", "fit", source if source and source != "array" else "DATA")]
    words += [(f"--{name}", str(value)) for name, value in flags.items() if value not in (None, "")]
    words += [("--standardise",)] if said.get("standardised") else []
    words += [("--float32",)] if said.get("dtype") == "float32" else []
    words += [("--option", f"{name}={value}") for name, value in options(tree, "engine_options").items()]
    lines = [""]
    for word in [*words, ("-o", "fit.nc")]:
        piece = shlex.join(word)
        if len(lines[-1]) + len(piece) > _LINE_LENGTH:
            lines.append("   ")
        lines[-1] += f" {piece}"
    command = " \\\n".join(lines).strip()

    body = f"<pre>{escape(command)}</pre>"
    if in_python:
        body += (
            f"<p>The prior of {escape(', '.join(in_python))} was given in Python; the command has the default one.</p>"
        )
    versions = options(tree, "versions") or {"probam": said.get("probam_version", "")}
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    body += f"<p>Versions: {escape(listed)}. The same seed gives the same numbers on the same machine and versions.</p>"
    return Section("repeat", "How can I repeat this?", body)


def glossary_section(tree: xr.DataTree) -> Section:  # noqa: ARG001
    """The five words that a reader needs."""
    words = {
        "Memory": "A stored pattern: one component of the mixture. It holds the data that it explains best.",
        "Energy": "A height over the space of data, low where data are likely: minus the log density, up to scale and "
        "a constant.",
        "Recall": "Running downhill on the energy from a query until it comes to rest, at or near a memory.",
        "Basin": "All queries from which recall ends at the same place.",
        "Posterior": "What the data leave possible, with probabilities. It is seen through draws; R-hat and ESS say "
        "whether they suffice.",
    }
    entries = "".join(f"<dt>{word}</dt><dd>{meaning}</dd>" for word, meaning in words.items())
    return Section("words", "Five words", f'<dl class="words">{entries}</dl>')
