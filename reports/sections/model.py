"""Sections of the report on the fit itself: data and model, how to repeat it, and the words that the page uses."""

import shlex
from typing import Any

import numpy as np
import xarray as xr

from probam.reports.figures.shown import PANELS
from probam.reports.page import Section, count, escape, folded, number, spelled, table
from probam.reports.summaries.quantities import engine_kind, options
from probam.reports.tree import num_data, rows_of

__all__ = ["data_and_model_section", "glossary_section", "repeat_section"]

_LINE_LENGTH = 76


def data_and_model_section(tree: xr.DataTree) -> Section:
    """What was fitted to what, and how."""
    facts = {**_data_facts(tree), **_model_facts(tree)}
    left_out = options(tree, "left_out")
    if left_out:
        facts["Left out"] = escape("; ".join(f"{name}: {why}" for name, why in left_out.items()))
    body = '<dl class="facts">' + "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in facts.items()) + "</dl>"
    prior = options(tree, "prior")
    if prior:
        rows = [(f"<code>{escape(site)}</code>", f"<code>{escape(law)}</code>") for site, law in prior.items()]
        priors = table(["parameter", "prior"], rows, caption="In model units", words=(1,))
        body += folded(f"The {spelled(len(rows), 'prior', 'priors')}", priors)
    return Section("model", "Data and model", body)


def _data_facts(tree: xr.DataTree) -> dict[str, str]:
    x = rows_of(tree)
    num_held, num_features = int(x.sizes["datum"]), int(x.sizes["feature"])
    rows = f"{count(num_data(tree))} rows"
    if num_held < num_data(tree):
        rows += f", of which this page has a random sample of {count(num_held)}"
    names = ", ".join(escape(name) for name in x["feature"].values[:PANELS])
    names += f" and {num_features - PANELS} more" if num_features > PANELS else ""
    constants = tree["constant_data"]
    standardised = bool(np.any(constants["center"].values != 0) or np.any(constants["scale"].values != 1))
    return {
        "Data": f"{rows}, {spelled(num_features, 'feature', 'features')}: {names}",
        "Source": escape(tree.attrs.get("source", "") or "not recorded"),
        "Units": "standardised for the fit, shown in the original units" if standardised else "original",
    }


def _model_facts(tree: xr.DataTree) -> dict[str, str]:
    attributes = tree.attrs
    sizes = tree["posterior"].sizes
    draws = {
        "point": "a point estimate, no posterior",
        "approximation": f"{count(sizes['draw'])} independent draws",
        "chains": f"{spelled(sizes['chain'], 'chain', 'chains')} of {count(sizes['draw'])} draws",
    }[engine_kind(tree)]
    limit = "Most memories" if attributes.get("weights") in ("dp", "pyp") else "Memories"
    if attributes.get("engine") == "stream":
        limit = "Memories in a draw"  # those that were made, and one without data

    def with_options(name: str) -> str:
        return escape(_with_options(str(attributes.get(name, "–")), options(tree, f"{name}_options")))

    return {
        "Family": with_options("family"),
        "Weights": with_options("weights"),
        limit: escape(attributes.get("num_components", "–")),
        "Engine": with_options("engine"),
        "Draws": draws,
        "Seed": escape(attributes.get("seed", "–")),
        "Precision": escape(attributes.get("dtype", "–")),
        "Time": f"{number(float(attributes['seconds']), 3)} seconds" if "seconds" in attributes else "–",
    }


def _with_options(name: str, chosen: dict[str, Any]) -> str:
    listed = ", ".join(f"{key.replace('_', ' ')} {_option_value(value)}" for key, value in chosen.items())
    return f"{name} ({listed})" if listed else name


def _option_value(value: Any) -> str:
    if isinstance(value, list) and len(value) > 6:
        return f"{len(value)} values"
    return number(value) if isinstance(value, float) else str(value)


def repeat_section(tree: xr.DataTree) -> Section:
    """The command, seed and versions that give this fit again."""
    body = _command(options(tree, "command"))
    if "analysis" in tree.attrs:
        body += folded("The file of <code>probam run</code>", f"<pre>{escape(str(tree.attrs['analysis']))}</pre>")
    versions = options(tree, "versions") or {"probam": tree.attrs.get("probam_version", "")}
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    body += f"<p>Versions: {escape(listed)}. The same seed gives the same numbers on the same machine and versions.</p>"
    return Section("repeat", "How can I repeat this?", body)


def _command(command: dict[str, Any]) -> str:
    """The command that repeats the fit, and what it cannot give; empty where the fit does not say."""
    groups = command.get("groups", [])
    if not groups:
        return ""
    body = f"<pre>{escape(_wrapped(groups))}</pre>"
    if groups[0][-1] == "DATA":
        body += "<p>DATA stands for a file of the rows, in their order.</p>"
    if command["in_python"]:
        names = ", ".join(name.replace("_", " ") for name in command["in_python"])
        body += f"<p>Given in Python, and not by this command: {escape(names)}.</p>"
    return body


def _wrapped(words: list[list[str]]) -> str:
    """A command over several lines, each continued by a backslash."""
    lines = [""]
    for group in words:
        piece = shlex.join(group)
        if len(lines[-1]) + len(piece) > _LINE_LENGTH:
            lines.append("   ")
        lines[-1] += f" {piece}"
    return " \\\n".join(lines).strip()


_WORDS = {
    "Memory": "A stored pattern: one component of the mixture. It holds the data that it explains best.",
    "Energy": "A function of the data, low where data are likely: minus the log density, up to scale and a constant.",
    "Recall": "Descent on the energy from a query until it stops, at or near a memory.",
    "Basin": "All queries from which recall ends at the same point.",
    "Posterior": "The probability distribution of the parameters given the data. It is represented by draws; R-hat and "
    "ESS show whether there are enough of them.",
}


def glossary_section() -> Section:
    """The five words that a reader needs."""
    entries = "".join(f"<dt>{word}</dt><dd>{meaning}</dd>" for word, meaning in _WORDS.items())
    return Section("words", "Five words", f'<dl class="words">{entries}</dl>')
