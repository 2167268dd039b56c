"""The tour through the code leads to files that are there, and fits into an evening."""

import re
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"
TOUR = (DOCS / "tour.md").read_text()
STOPS = re.findall(r"^\*\*(\d+)\. \[`([^`]+)`\]\(\.\./([^)]+)\)\*\*", TOUR, re.MULTILINE)


def test_the_tour_has_32_stops_in_order() -> None:
    assert [int(number) for number, _, _ in STOPS] == list(range(1, 33))
    assert len({path for _, _, path in STOPS}) == 32


def test_every_stop_is_a_file_under_its_own_name() -> None:
    assert [path for _, name, path in STOPS if name != path or not (DOCS.parent / path).is_file()] == []


def test_the_tour_is_an_evening_long() -> None:
    assert sum(len((DOCS.parent / path).read_text().splitlines()) for _, _, path in STOPS) < 8200


def test_the_names_that_a_stop_mentions_are_in_its_file() -> None:
    paragraphs = [paragraph for paragraph in TOUR.split("\n\n") if paragraph.startswith("**")]
    for (_, _, path), paragraph in zip(STOPS, paragraphs, strict=True):
        code = (DOCS.parent / path).read_text()
        names = re.findall(r"`([A-Za-z_][\w.]*)`", paragraph)
        assert [name for name in names if not name.endswith(".py") and name.rpartition(".")[2] not in code] == [], path
