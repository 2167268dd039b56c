"""The page of ``probam verify --html``: every claim with its equation, what the paper prints, and the errors.

Made of the record that :func:`probam.claims.verify.as_json` returns.
"""

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from latex2mathml.converter import convert

from probam.reports.page import Section, escape, number, page, spelled, table, write_page

__all__ = ["VERDICTS", "court_html", "equation", "write_court"]

_SOURCES = {
    "A": "Associative memory under the probabilistic lens (A)",
    "B": "Large associative memories (B)",
    "C": "Universal Hopfield networks (C)",
    "D": "Further memories (D)",
}

VERDICTS = {
    "EXACT": "holds as printed",
    "CONST": "holds up to the stated constant or scale",
    "COND": "holds under a further condition",
    "WRONG": "false as printed",
    "TYPO": "misprinted, the intention is clear",
    "ILL": "not defined as printed",
    "NONE": "no such object exists",
    "NEW": "not in the paper; derived for this registry",
}
"""What the verdicts on printed forms mean."""

_FUNCTION = r"<mi>(log|exp|det|cos|sin|tanh)</mi>(?!<mo[^>]*>&#x00028;)"
"""The name of a function before an argument without parentheses, from which a thin space should part it."""

_CSS = """<style>
.claim{border-top:1px solid var(--rule);padding:1rem 0 .4rem;break-inside:avoid}
.claim h3{margin:0 0 .3rem}.claim h3 code{color:var(--muted);margin-right:.5em}
.claim math{font-size:1.08rem}.equation{overflow:auto hidden;padding:.5rem 0;max-width:none}
.claim dl.facts{font-size:.92rem;margin-bottom:.6rem}
</style>"""


def write_court(record: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Write the record of claims as one HTML file, completely or not at all.

    Raises :class:`probam.errors.InputError` where ``path`` cannot be written.
    """
    write_page(court_html(record), path)


def equation(latex: str) -> str:
    r"""An equation as MathML, which browsers typeset without help.

    >>> equation(r"\beta = 1").count("<mi>&#x003B2;</mi>")
    1
    """
    plain = re.sub(r"\\arg\s*\\(min|max)", r"\\mathrm{arg\\,\1}", latex)  # names that the converter lacks
    plain = re.sub(r"\\[Bb]igg?[lr]?\s*(?=\\[lr]vert)", "", plain)
    return re.sub(_FUNCTION, "<mi>\\1&#x2009;</mi>", str(convert(plain, display="block")))


def court_html(record: Mapping[str, Any]) -> str:
    """The record of claims as an HTML document."""
    claims: Sequence[Mapping[str, Any]] = record["claims"]
    failed = [one for one in claims if not one["passed"]]
    pending: Mapping[str, str] = record.get("pending", {})
    verdict = f"<strong>{escape(record['summary'])}.</strong>"
    if failed:
        names = ", ".join(f'<a href="#{one["claim"]}">{escape(one["claim"])}</a>' for one in failed)
        verdict += f" These fail: {names}."
    if pending:
        verdict += " Pending: " + "; ".join(f"{escape(entry)} ({escape(why)})" for entry, why in pending.items()) + "."
    lead = (
        '<p class="lead">Energies and densities are implemented independently of each other. This page checks the '
        "statements that relate them: the error of each exact statement against its bound and, where a paper prints "
        "something else, the error of the printed form.</p>"
    )
    sections = [_overview(claims)]
    for letter, source in _SOURCES.items():
        chosen = [one for one in claims if one["entry"].startswith(letter)]
        if chosen:
            sections.append(Section(f"source-{letter}", source, _CSS + "".join(map(_claim, chosen))))
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    sections.append(
        Section(
            "repeat",
            "How to repeat this",
            f"<pre>probam verify --seed {escape(record['seed'] or 0)}</pre>"
            f"<p>{escape(record['dtype'])}; {escape(versions)}.</p>",
        )
    )
    return page(
        "Energies and likelihoods in court",
        lead=lead,
        verdict=f'<div class="verdict {"problem" if failed else "good"}"><p>{verdict}</p></div>',
        sections=sections,
        kicker="probam verify",
    )


def _overview(claims: Sequence[Mapping[str, Any]]) -> Section:
    entries = dict.fromkeys(one["entry"] for one in claims)
    rows = []
    for kind, meaning in VERDICTS.items():
        chosen = [one for one in claims if one["verdict"] == kind]
        if chosen:
            passed = sum(bool(one["passed"]) for one in chosen)
            failing = sum(one["printed_error"] is not None for one in chosen)
            rows.append((escape(kind), escape(meaning), str(len(chosen)), str(passed), str(failing)))
    counted = table(
        ("printed form", "meaning", "statements", "hold", "misprint shown"), rows, caption="Results", words=(1,)
    )
    number_of_statements = spelled(len(claims), "statement", "statements").capitalize()
    text = f"<p>{number_of_statements} of {spelled(len(entries), 'entry', 'entries')} were checked.</p>"
    return Section("overview", "Summary", text + counted)


def _claim(one: Mapping[str, Any]) -> str:
    """One claim: title, equation, facts."""
    facts = [("statement", escape(one["statement"])), ("source", escape(one["source"]))]
    if one["printed"]:
        facts.append(("printed", f"{escape(one['printed'])} <em>({escape(VERDICTS[one['verdict']])})</em>"))
    error = number(one["error"], 2) if one["error"] is not None else "not finite"
    mark = '<span class="passed">holds</span>' if one["passed"] else '<span class="failed">fails</span>'
    facts.append(("result", f"{mark}: {error} of {number(float(one['tolerance']), 2)} allowed ({escape(one['case'])})"))
    if one["printed_error"] is not None:
        facts.append(("misprint", f"the printed form is off by {number(one['printed_error'], 2)}"))
    if one["mutations"]:
        facts.append(("mutations", escape(", ".join(one["mutations"]))))
    if one["note"]:
        facts.append(("note", escape(one["note"])))
    listed = "".join(f"<dt>{name}</dt><dd>{text}</dd>" for name, text in facts)
    return (
        f'<article class="claim" id="{escape(one["claim"])}"><h3><code>{escape(one["claim"])}</code>'
        f'{escape(one["title"])}</h3><div class="equation" tabindex="0">{equation(one["latex"])}</div>'
        f'<dl class="facts">{listed}</dl></article>'
    )
