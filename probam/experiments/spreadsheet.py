"""Findings and the tables of a page as CSV, with numbers that a program can read."""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from html.parser import HTMLParser

from probam.experiments.finding import Finding

__all__ = ["findings_csv", "table_csv"]

_POWER = re.compile(r"^(-?[\d.]+)\s*×\s*10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)$")
_NORMAL = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
_THIN = re.compile(r"(?<=\d)\u202f(?=\d{3}(\D|$))")


class _Cells(HTMLParser):
    """Rows of a table, as the text of their cells; a line break in a cell becomes "; "."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """A row, a cell or a line break begins."""
        del attrs
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self._inside = True
        elif tag == "br" and self._inside:
            self.rows[-1][-1] += "; "

    def handle_endtag(self, tag: str) -> None:
        """A cell ends."""
        if tag in ("td", "th"):
            self._inside = False

    def handle_data(self, data: str) -> None:
        """Text, kept inside cells only."""
        if self._inside:
            self.rows[-1][-1] += data


def table_csv(table: str) -> str:
    """A table of :func:`probam.reports.page.table` as CSV; a column of values with errors becomes two.

    >>> from probam.reports.page import table
    >>> print(table_csv(table(["method", "score"], [["a", "−1.50 ± 0.20"], ["b", "2\u202f×\u202f10⁻⁵"]], caption="")))
    method,score,"score, error"
    a,-1.50,0.20
    b,2e-5,
    <BLANKLINE>
    """
    cells = _Cells()
    cells.feed(table)
    header, *rows = cells.rows
    columns: list[list[str]] = []
    for position, name in enumerate(header):
        parts = [row[position].split(" ± ") for row in rows]
        columns.append([name, *(_plain(part[0]) for part in parts)])
        if any(len(part) == 2 for part in parts):
            columns.append([f"{name}, error", *(_plain(part[1]) if len(part) == 2 else "" for part in parts)])
    return _csv(zip(*columns, strict=True))


def findings_csv(findings: Sequence[Finding]) -> str:
    """Findings as CSV, one a row; empty where a note has no number."""
    records = [finding.record() for finding in findings]
    header = list(records[0]) if records else []
    rows = [["" if value is None else str(value) for value in record.values()] for record in records]
    return _csv([header, *rows])


def _plain(cell: str) -> str:
    """A number with an ASCII minus, without thin spaces, powers of ten as 1e5; other text as it is."""
    text = _THIN.sub("", cell).replace("−", "-").replace("\u202f", " ").strip()
    power = _POWER.match(text)
    return f"{power[1]}e{power[2].translate(_NORMAL)}" if power else "" if text == "–" else text


def _csv(rows: Iterable[Iterable[str]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()
