"""The pages of the documentation: short lines, and paths that exist."""

import re
from pathlib import Path

import pytest

from tests.repository.printed import GENERATED, ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LONGEST = 120

SHOWN = re.compile(r"^```(?:text|console)\n.*?^```$", re.DOTALL | re.MULTILINE)
"""What programs print."""

PATH = re.compile(r"`((?:benchmarks|docs|examples|inference|models|probam|reports|tests)/[\w./-]*)(?:::[\w]+)?`")


def long_lines(text: str) -> list[str]:
    """Lines of prose that are too long: tables, addresses, outputs and generated parts do not count."""
    lines = SHOWN.sub("", GENERATED.sub("", text)).splitlines()
    return [line for line in lines if len(line) > LONGEST and not line.startswith(("|", "![")) and "://" not in line]


def missing_paths(text: str) -> list[str]:
    """Files and folders of this repository that a page names and that do not exist."""
    return [path for path in PATH.findall(text) if not (ROOT / path).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_no_line_of_a_page_is_longer_than_120_characters(page: Path) -> None:
    assert long_lines(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_path_that_a_page_names_exists(page: Path) -> None:
    assert missing_paths(page.read_text(encoding="utf-8")) == []


def test_what_is_too_long_and_what_is_missing_is_noticed() -> None:
    prose = "word " * 30
    table, address, generated, output = (
        f"| {prose}",
        f"https://example.org/ {prose}",
        f"<!-- a b -->\n{prose}\n<!-- end of a b -->",
        f"```text\n{prose}\n```",
    )
    assert long_lines("\n".join(["short", prose, table, address, generated, output])) == [prose]
    assert missing_paths("`tests/repository/test_docs.py::long_lines` `probam/nowhere.py` `docs/`") == [
        "probam/nowhere.py"
    ]
