"""The table of a GPU against its rooflines and the CPU."""

import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu import ROWS, table


def _record(**changes: Any) -> dict[str, Any]:
    record = {
        "row": "EM",
        "size": "10 x 2",
        "scale": 1.0,
        "roofline_ms": 0.5,
        "gpu_seconds": 0.001,
        "cpu_seconds": 0.02,
    }
    return record | changes


@pytest.mark.parametrize(
    ("changes", "device", "cells"),
    [
        ({}, "H200", ["1 ms", "0.5 ms", "50%", "20 ms", "20"]),
        ({"scale": 0.1}, "H200", ["1 ms", "0.5 ms", "", "20 ms", "20"]),
        ({"roofline_ms": None}, "H200", ["1 ms", "", "", "20 ms", "20"]),
        ({"gpu_seconds": None}, None, ["", "0.5 ms", "", "20 ms", ""]),
    ],
    ids=["whole", "fewer rows than the roofline is for", "no roofline", "no GPU"],
)
def test_a_share_needs_the_size_of_the_roofline_and_a_ratio_both_sides(
    changes: dict[str, Any], device: str | None, cells: list[str]
) -> None:
    head, _, line = table([_record(**changes)], device).splitlines()
    assert head.split(" | ")[2] == (device or "no GPU")
    assert [cell.strip() for cell in line.strip("|").split("|")] == ["EM", "10 x 2", *cells]


def test_the_rooflines_are_those_of_the_page() -> None:
    page = (Path(__file__).parents[2] / "docs" / "gpu.md").read_text()
    goals = re.findall(r"ms \| ([\d.]+) ms \|$", page, re.MULTILINE)
    assert [row.roofline for row in ROWS.values() if row.roofline] == list(map(float, goals))
