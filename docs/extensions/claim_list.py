"""The directive ``claims``: the claims on one source, each with its exact statement."""

from collections.abc import Iterator
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from probam.claims.claim import Claim, registry
from probam.claims.entries import ENTRIES
from probam.reports.court import VERDICTS


class ClaimList(SphinxDirective):
    """All claims whose entry begins with a letter, by entry."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """A section for each entry."""
        letter = self.arguments[0]
        return [self._entry(entry) for entry in ENTRIES if entry.startswith(letter)]

    def _entry(self, entry: str) -> nodes.section:
        section = nodes.section("", nodes.title("", f"{entry}: {ENTRIES[entry]}"), ids=[entry.lower()])
        self.state.document.note_implicit_target(section, section)
        for one in registry().values():
            if one.id.partition(".")[0] == entry:
                section += _claim(one)
        return section


def _claim(one: Claim) -> nodes.container:
    """Id and title, the equation, and what is known of the statement."""
    head = nodes.paragraph("", "", nodes.literal("", one.id), nodes.Text(" "), nodes.strong("", one.title))
    facts = nodes.field_list("", *(_fact(name, text) for name, text in _facts(one)))
    equation = nodes.math_block("", one.latex, nowrap=False, number=None)
    return nodes.container("", head, equation, facts, classes=["claim"], ids=[f"claim-{one.id.lower()}"])


def _facts(one: Claim) -> Iterator[tuple[str, str]]:
    yield "Statement", f"{one.statement} ({one.relation})"
    if one.constant != "none":
        yield "Constant", one.constant
    yield "Source", one.source
    yield "Printed", f"{one.printed_statement} ({VERDICTS[one.verdict]})"
    yield "Bound", f"{one.tolerance:g} on {len(one.cases)} cases"


def _fact(name: str, text: str) -> nodes.field:
    return nodes.field("", nodes.field_name("", name), nodes.field_body("", nodes.paragraph("", text)))


def setup(app: Any) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("claims", ClaimList)
    return {"parallel_read_safe": True}
