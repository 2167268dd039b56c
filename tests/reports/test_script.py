"""The report's script: tables sort, points say which row they are, one memory stands out; and all of it is optional."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from probam.reports.figures.landscape import drawn_points, points_for_script
from probam.reports.html import report_html
from probam.reports.page import Section, data_block, number, page, table
from tests.reports.browser import BROWSER, Tab, opened

needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)
VALUES = [3.0, -2.5, 1e9, 12_345.0, float("nan"), float("inf"), 2e-7, -4e8, 7.0]


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with opened(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.fixture
def shown(tab: Tab, report_file: Path) -> Tab:
    tab.show(report_file)
    return tab


def memory_labels(tree: xr.DataTree) -> list[int]:
    return [int(label) for label in tree["partition"].to_dataset()["label"].values]


def test_the_policy_lets_exactly_the_script_of_the_page_run(report: str) -> None:
    scripts = SCRIPT.findall(report)
    assert len(scripts) == 1
    assert len(scripts[0]) < 100_000
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert re.findall(r"script-src ([^;\"]*)", report) == [f"'sha256-{digest}'"]
    assert report.count("<script") == 2  # the other holds data, which no browser runs
    assert not re.search(r"\son\w+=|javascript:", SCRIPT.sub("", report))


def test_data_for_the_script_cannot_end_their_element() -> None:
    hostile = ["</script><script>alert(1)</script>", "<!--", "]]>", "a & b"]
    element = data_block("points", hostile)
    inside = element.removeprefix('<script type="application/json" id="points">').removesuffix("</script>")
    assert not re.search("[<>&]", inside)
    assert json.loads(inside) == hostile


def test_points_carry_their_row_their_memory_and_its_probability(posterior_tree: xr.DataTree) -> None:
    data = points_for_script(posterior_tree)
    assert data is not None
    assert data["row"] == list(range(66))
    assert data["memory"] == memory_labels(posterior_tree)
    shares = [float(str(text).removeprefix("over ").removesuffix(" %")) for text in np.asarray(data["confidence"])]
    confidence = posterior_tree["partition"].to_dataset()["confidence"].values
    np.testing.assert_allclose(shares, 100 * confidence, atol=0.51)


def test_points_of_the_far_side_come_last_and_stay_with_their_rows(sphere_tree: xr.DataTree) -> None:
    drawn = drawn_points(sphere_tree)
    assert drawn.behind.any()
    assert (np.diff(drawn.behind.astype(int)) >= 0).all()
    assert sorted(drawn.row) == list(range(300))


def test_pixels_and_curves_have_no_points_to_name(plane_tree: xr.DataTree, line_tree: xr.DataTree) -> None:
    assert points_for_script(plane_tree) is None  # 1200 data
    assert points_for_script(line_tree) is None


@needs_browser
def test_the_script_is_quiet_and_asks_for_nothing(shown: Tab) -> None:
    shown.point_at("document.querySelector('#landscape-data use, #landscape-data path')")
    assert shown.complaints() == []
    assert [address for address in shown.requests()[1:] if not address.startswith("data:")] == []


@needs_browser
def test_without_the_script_nothing_is_missing_and_nothing_is_dead(tab: Tab, report_file: Path) -> None:
    text = "document.querySelector('main').textContent"
    tab.ask("Emulation.setScriptExecutionDisabled", value=True)
    tab.show(report_file)
    bare = tab.value(text)
    assert tab.value("document.querySelectorAll('button').length") == 0
    tab.ask("Emulation.setScriptExecutionDisabled", value=False)
    tab.show(report_file)
    assert tab.value("document.querySelectorAll('.chips').length") == 2
    tab.value("document.querySelectorAll('.chips').forEach((chips) => chips.remove())")
    assert tab.value(text) == bare
    assert tab.value("document.querySelectorAll('button').length") > 0


def numbers_page(folder: Path) -> Path:
    rows = [[str(place), number(value)] for place, value in enumerate(VALUES)]
    body = table(["place", "value"], rows, caption="Numbers")
    body += table(
        ["share"], [["78 %"], ["under 0.1 %"], ["5.0 %"], ["over 99.9 %"], ["100 %"], ["0 %"]], caption="Shares"
    )
    path = folder / "numbers.html"
    path.write_text(page("Numbers", lead="", verdict="", sections=[Section("numbers", "Numbers", body)]), "utf-8")
    return path


def column(tab: Tab, which: int) -> list[str]:
    """First cells of a table's rows, from the top."""
    cells = f"[...document.querySelectorAll('table')[{which}].tBodies[0].rows].map((row) => row.cells[0].textContent)"
    return [str(text) for text in tab.value(cells)]


@needs_browser
@pytest.mark.parametrize("by", ["mouse", "Enter", " "])
def test_a_head_cell_sorts_by_the_value_and_gives_back_the_order_as_written(tab: Tab, tmp_path: Path, by: str) -> None:
    tab.show(numbers_page(tmp_path))
    button = "document.querySelectorAll('th button')[1]"
    state = "document.querySelectorAll('thead th')[1].getAttribute('aria-sort')"
    written = [str(place) for place in range(len(VALUES))]
    finite = [place for place in range(len(VALUES)) if not np.isnan(VALUES[place])]
    rising = [str(place) for place in sorted(finite, key=VALUES.__getitem__)]
    missing = [str(place) for place in range(len(VALUES)) if np.isnan(VALUES[place])]
    if by != "mouse":
        tab.value(f"{button}.focus()")
    for direction, order in (
        ("ascending", rising + missing),
        ("descending", rising[::-1] + missing),
        (None, written),
    ):
        if by == "mouse":
            tab.click(button)
        else:
            tab.press(by)
        assert tab.value(state) == direction
        assert column(tab, 0) == order


@needs_browser
def test_percentages_sort_with_their_bounds(tab: Tab, tmp_path: Path) -> None:
    tab.show(numbers_page(tmp_path))
    tab.click("document.querySelectorAll('th button')[2]")
    assert [text.replace("\u202f", " ") for text in column(tab, 1)] == [
        *("0 %", "under 0.1 %", "5.0 %", "78 %", "over 99.9 %", "100 %")
    ]


TIP = "document.querySelector('.tip').hidden ? '' : document.querySelector('.tip').textContent"


def point_of(place: int) -> str:
    return f"document.querySelectorAll('#landscape-data [role=img]')[{place}]"


@needs_browser
def test_a_point_says_its_row_to_the_mouse_to_the_finger_and_to_the_keyboard(
    shown: Tab, posterior_tree: xr.DataTree, report_file: Path
) -> None:
    at = drawn_points(posterior_tree).at
    lonely = int(np.argmax(np.sort(np.linalg.norm(at[:, None] - at, axis=-1), axis=1)[:, 1]))
    words = f"row {lonely}, memory {memory_labels(posterior_tree)[lonely]}, confidence "
    assert shown.value(TIP) == ""
    shown.point_at(point_of(lonely))
    assert shown.value(TIP).startswith(words)
    shown.point_at("document.querySelector('h1')")
    assert shown.value(TIP) == ""
    shown.value("document.querySelector('header .plot').focus()")
    shown.press("Tab")
    assert shown.value(TIP).startswith("row 0, memory ")
    shown.press("ArrowRight")
    right = min((x, place) for place, x in enumerate(at[:, 0]) if x > at[0, 0])[1]
    assert shown.value(TIP).startswith(f"row {right}, memory ")
    shown.press("Escape")
    assert shown.value(TIP) == ""
    shown.show(report_file, width=360, touch=True)
    shown.tap(point_of(lonely))
    assert shown.value(TIP).startswith(words)
    box = shown.value("document.querySelector('.tip').getBoundingClientRect().toJSON()")
    assert 0 <= box["left"] < box["right"] <= 360


@needs_browser
@pytest.mark.parametrize("width", [360, 768, 1440])
def test_the_ring_stays_around_its_point_when_the_page_scrolls(shown: Tab, report_file: Path, width: int) -> None:
    shown.show(report_file, width=width)
    middle = "(({{x, y, width, height}}) => [x + width / 2, y + height / 2])({}.getBoundingClientRect())"
    shown.value(f"{point_of(5)}.focus()")
    for _ in range(2):
        ring, point = (shown.value(middle.format(what)) for what in ("document.querySelector('.ring')", point_of(5)))
        np.testing.assert_allclose(ring, point, atol=1)
        shown.value("scrollBy(0, 37)")


@needs_browser
@pytest.mark.parametrize("way", [".chips [data-choice='{}']", "[data-memory='{}']"])
def test_choosing_a_memory_fades_the_points_of_the_others(shown: Tab, posterior_tree: xr.DataTree, way: str) -> None:
    labels = memory_labels(posterior_tree)
    chosen = labels[0]
    away = "[...document.querySelectorAll('#landscape-data [role=img]')].map((point) => point.matches('.away'))"
    button = f'document.querySelector("{way.format(chosen)}")'
    pressed = "document.querySelector('.chips [aria-pressed=true]')?.textContent ?? ''"
    assert not any(shown.value(away))
    shown.click(button)
    assert shown.value(away) == [label != chosen for label in labels]
    assert shown.value(pressed) == str(chosen)
    shown.press("Escape")
    assert not any(shown.value(away))
    assert shown.value(pressed) == ""
    shown.click(button)
    shown.click(button)
    assert not any(shown.value(away))


@needs_browser
def test_names_from_the_data_stay_text(tab: Tab, posterior_tree: xr.DataTree, tmp_path: Path) -> None:
    names = [
        f"</script><img src=x onerror=alert({place})>" for place in range(posterior_tree["memory"].sizes["memory"])
    ]
    groups = {name: group.to_dataset() for name, group in posterior_tree.children.items()}
    groups["memory"] = groups["memory"].assign_coords(memory=names)
    path = tmp_path / "hostile.html"
    text = report_html(xr.DataTree.from_dict({"/": posterior_tree.to_dataset(), **groups}))
    path.write_text(text, encoding="utf-8")
    tab.show(path)
    assert "<img" not in text
    assert tab.value("document.querySelectorAll('img').length") == 0
    tab.value(f"{point_of(0)}.focus()")
    assert f"memory {names[memory_labels(posterior_tree)[0]]}" in tab.value(TIP)
    assert tab.complaints() == []
