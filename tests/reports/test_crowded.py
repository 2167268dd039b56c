"""A report of fifty memories: the heaviest are shown, the others on demand, and no colour is without its number."""

import re
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from matplotlib.colors import to_hex

from probam.reports.figures.landscape import landscape_figure
from probam.reports.figures.memories import weights_figure
from probam.reports.figures.shown import listed_memories, memory_colours, shown_memories
from probam.reports.figures.style import OTHERS, memory_colour
from probam.reports.html import report_html
from probam.reports.tree import variable
from tests.reports.browser import Open, cut_off, needs_browser


@pytest.fixture(scope="module")
def crowded_file(crowded_tree: xr.DataTree, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("crowded") / "report.html"
    path.write_text(report_html(crowded_tree), encoding="utf-8")
    return path


def test_all_memories_are_in_the_page_by_weight(crowded_tree: xr.DataTree, crowded_file: Path) -> None:
    weight = variable(crowded_tree, "memory", "weight").values
    heaviest = np.argsort(-weight).tolist()
    assert crowded_file.read_text().count("Grey: memories whose number is not shown.") == 2  # under each map
    head, folded = crowded_file.read_text().split("<summary>Show all 50 memories</summary>")
    assert [int(k) for k in re.findall(r'data-memory="(\d+)"', head)] == heaviest[:24]
    assert [int(k) for k in re.findall(r'data-memory="(\d+)"', folded)] == heaviest


def test_memories_without_a_bar_of_their_own_share_one(crowded_tree: xr.DataTree) -> None:
    axes = weights_figure(crowded_tree).axes[0]
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert names == [*map(str, shown_memories(crowded_tree)), "26 others"]
    others = [line for line in axes.lines if line.get_color() == OTHERS]
    rest = variable(crowded_tree, "memory", "weight").values[listed_memories(crowded_tree)[24:]]
    np.testing.assert_allclose([np.asarray(line.get_xdata())[1] for line in others], [rest.sum()])


def test_only_memories_with_a_number_have_a_colour(crowded_tree: xr.DataTree) -> None:
    shown = set(shown_memories(crowded_tree).tolist())
    expected = [memory_colour(k) if k in shown else OTHERS for k in range(50)]
    assert memory_colours(crowded_tree) == expected
    drawn = landscape_figure(crowded_tree).axes[0].collections
    points = next(group for group in drawn if group.get_gid() == "data")
    labels = variable(crowded_tree, "partition", "label").values
    assert [to_hex(colour) for colour in points.get_facecolor()] == [expected[label] for label in labels]  # type: ignore[arg-type]


@needs_browser
@pytest.mark.parametrize("by", ["mouse", "keyboard"])
def test_memories_can_be_chosen_beyond_the_first_twelve(open_page: Open, crowded_file: Path, by: str) -> None:
    page = open_page(crowded_file, width=360).page
    bar = page.locator(".chips").first
    assert bar.locator("[data-choice]:visible").count() == 12
    more = bar.get_by_role("button", name="show all 50")
    if by == "mouse":
        more.click()
    else:
        more.press("Enter")
        page.keyboard.press("Enter")  # the focus went on to the first of the others
        assert page.locator(".chips [aria-pressed=true]").count() == 2  # of this picture, and of the other
    assert bar.locator("[data-choice]:visible").count() == 50
    assert more.count() == 0
    page.locator("summary", has_text="Show all").click()
    assert page.locator("details table tbody tr").count() == 50
    assert cut_off(page) == []
