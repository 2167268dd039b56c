"""The report's script: tables sort, points say which row they are, one memory stands out; and all of it is optional."""

import base64
import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from playwright.sync_api import Locator, Page, expect

from probam.reports.figures.interactive import points_for_script
from probam.reports.figures.landscape import drawn_points
from probam.reports.html import report_html
from probam.reports.page import Section, data_block, number, page, table
from tests.reports.browser import Open, Visit, centre, cut_off, needs_browser

SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)
VALUES = [3.0, -2.5, 1e9, 12_345.0, float("nan"), float("inf"), 2e-7, -4e8, 7.0]


@pytest.fixture
def shown(open_page: Open, report_file: Path) -> Visit:
    return open_page(report_file)


def memory_labels(tree: xr.DataTree) -> list[int]:
    return [int(label) for label in tree["partition"].to_dataset()["label"].values]


def test_the_policy_lets_exactly_the_script_of_the_page_run(report: str) -> None:
    scripts = SCRIPT.findall(report)
    assert len(scripts) == 1
    assert len(scripts[0]) < 100_000
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert re.findall(r"script-src ([^;\"]*)", report) == [f"'sha256-{digest}'"]
    assert report.count("<script") == 3  # the others hold data, which no browser runs
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


def test_a_curve_has_no_points_to_name(line_tree: xr.DataTree) -> None:
    assert points_for_script(line_tree) is None


WINDOWS = [(width, scheme) for width in (360, 768, 1440) for scheme in ("light", "dark")]


@needs_browser
def test_the_script_is_quiet_and_asks_for_nothing(shown: Visit) -> None:
    shown.page.locator("#landscape-data :is(use, path)").first.hover(force=True)
    assert shown.complaints == []
    assert [address for address in shown.requests[1:] if not address.startswith("data:")] == []


@needs_browser
@pytest.mark.parametrize(("width", "scheme"), WINDOWS)
def test_nothing_is_cut_off(open_page: Open, report_file: Path, width: int, scheme: str) -> None:
    visit = open_page(report_file, width=width, color_scheme=scheme)
    assert cut_off(visit.page) == []
    assert visit.complaints == []


@needs_browser
def test_what_is_cut_off_is_found(shown: Visit) -> None:
    """The control of the test above."""
    shown.page.evaluate("document.querySelector('h1').style.marginLeft = '-400px'")
    shown.page.evaluate("document.querySelector('svg text').setAttribute('transform', 'translate(5000 0)')")
    assert {line.split()[0] for line in cut_off(shown.page)} == {"H1", "text"}


@needs_browser
def test_without_the_script_nothing_is_missing_and_nothing_is_dead(open_page: Open, report_file: Path) -> None:
    bare = open_page(report_file, java_script_enabled=False).page
    assert bare.locator("button").count() == 0
    with_script = open_page(report_file).page
    assert with_script.locator(".chips").count() == 2
    with_script.evaluate("document.querySelectorAll('.bar').forEach((bar) => bar.remove())")
    assert with_script.locator("main").text_content() == bare.locator("main").text_content()
    assert with_script.locator("button").count() > 0


def numbers_page(folder: Path) -> Path:
    rows = [[str(place), number(value)] for place, value in enumerate(VALUES)]
    body = table(["place", "value"], rows, caption="Numbers")
    body += table(
        ["share"], [["78 %"], ["under 0.1 %"], ["5.0 %"], ["over 99.9 %"], ["100 %"], ["0 %"]], caption="Shares"
    )
    path = folder / "numbers.html"
    path.write_text(page("Numbers", lead="", verdict="", sections=[Section("numbers", "Numbers", body)]), "utf-8")
    return path


def column(page: Page, which: int) -> list[str]:
    """First cells of a table's rows, from the top."""
    return page.locator("table").nth(which).locator("tbody tr > :first-child").all_text_contents()


@needs_browser
@pytest.mark.parametrize("by", ["mouse", "Enter", "Space"])
def test_a_head_cell_sorts_by_the_value_and_gives_back_the_order_as_written(
    open_page: Open, tmp_path: Path, by: str
) -> None:
    tab = open_page(numbers_page(tmp_path)).page
    head = tab.locator("thead th").nth(1)
    written = [str(place) for place in range(len(VALUES))]
    finite = [place for place in range(len(VALUES)) if not np.isnan(VALUES[place])]
    rising = [str(place) for place in sorted(finite, key=VALUES.__getitem__)]
    missing = [str(place) for place in range(len(VALUES)) if np.isnan(VALUES[place])]
    for direction, order in (
        ("ascending", rising + missing),
        ("descending", rising[::-1] + missing),
        (None, written),
    ):
        if by == "mouse":
            head.locator("button").click()
        else:
            head.locator("button").press(by)
        assert head.get_attribute("aria-sort") == direction
        assert column(tab, 0) == order


@needs_browser
def test_percentages_sort_with_their_bounds(open_page: Open, tmp_path: Path) -> None:
    tab = open_page(numbers_page(tmp_path)).page
    tab.locator("th button").nth(2).click()
    assert [text.replace("\u202f", " ") for text in column(tab, 1)] == [
        *("0 %", "under 0.1 %", "5.0 %", "78 %", "over 99.9 %", "100 %")
    ]


def points_of(page: Page) -> Locator:
    """The points of the picture at the top, in the order of the rows."""
    return page.locator("#landscape-data [role=img]")


def tip(page: Page) -> str:
    """What the note beside a point says; empty where there is none."""
    note = page.locator(".tip")
    return str(note.text_content()) if note.is_visible() else ""


@needs_browser
def test_a_point_says_its_row_to_the_mouse_to_the_finger_and_to_the_keyboard(
    shown: Visit, open_page: Open, posterior_tree: xr.DataTree, report_file: Path
) -> None:
    at = drawn_points(posterior_tree).at
    lonely = int(np.argmax(np.sort(np.linalg.norm(at[:, None] - at, axis=-1), axis=1)[:, 1]))
    words = f"row {lonely}, memory {memory_labels(posterior_tree)[lonely]}, confidence "
    tab = shown.page
    assert tip(tab) == ""
    points_of(tab).nth(lonely).hover(force=True)
    assert tip(tab).startswith(words)
    tab.locator("h1").hover()
    assert tip(tab) == ""
    tab.locator("h1").click()
    tab.keyboard.press("Tab")
    assert tip(tab).startswith("row 0, memory ")
    tab.keyboard.press("ArrowRight")
    right = min((x, place) for place, x in enumerate(at[:, 0]) if x > at[0, 0])[1]
    assert tip(tab).startswith(f"row {right}, memory ")
    tab.keyboard.press("Escape")
    assert tip(tab) == ""
    phone = open_page(report_file, width=360, has_touch=True).page
    points_of(phone).nth(lonely).tap(force=True)
    assert tip(phone).startswith(words)
    box = phone.locator(".tip").bounding_box()
    assert box is not None
    assert 0 <= box["x"] < box["x"] + box["width"] <= 360


@needs_browser
@pytest.mark.parametrize("width", [360, 768, 1440])
def test_the_ring_stays_around_its_point_when_the_page_scrolls(open_page: Open, report_file: Path, width: int) -> None:
    tab = open_page(report_file, width=width).page
    point = points_of(tab).nth(5)
    point.focus()
    for _ in range(2):
        np.testing.assert_allclose(centre(tab.locator(".ring")), centre(point), atol=1)
        tab.evaluate("scrollBy(0, 37)")


@needs_browser
@pytest.mark.parametrize("way", [".chips [data-choice='{}']", "[data-memory='{}']"])
def test_choosing_a_memory_fades_the_points_of_the_others(shown: Visit, posterior_tree: xr.DataTree, way: str) -> None:
    labels = memory_labels(posterior_tree)
    chosen = labels[0]
    button = shown.page.locator(way.format(chosen)).first
    pressed = shown.page.locator(".chips [aria-pressed=true]")

    def away() -> list[bool]:
        return list(points_of(shown.page).evaluate_all("(points) => points.map((point) => point.matches('.away'))"))

    assert not any(away())
    button.click()
    assert away() == [label != chosen for label in labels]
    assert set(pressed.all_text_contents()) == {str(chosen)}
    shown.page.keyboard.press("Escape")
    assert not any(away())
    expect(pressed).to_have_count(0)
    button.click()
    button.click()
    assert not any(away())


@needs_browser
def test_names_from_the_data_stay_text(open_page: Open, posterior_tree: xr.DataTree, tmp_path: Path) -> None:
    names = [
        f"</script><img src=x onerror=alert({place})>" for place in range(posterior_tree["memory"].sizes["memory"])
    ]
    groups = {name: group.to_dataset() for name, group in posterior_tree.children.items()}
    groups["memory"] = groups["memory"].assign_coords(memory=names)
    path = tmp_path / "hostile.html"
    text = report_html(xr.DataTree.from_dict({"/": posterior_tree.to_dataset(), **groups}))
    path.write_text(text, encoding="utf-8")
    visit = open_page(path)
    assert "<img" not in text
    assert visit.page.locator("img").count() == 0
    points_of(visit.page).first.focus()
    assert f"memory {names[memory_labels(posterior_tree)[0]]}" in tip(visit.page)
    assert visit.complaints == []
