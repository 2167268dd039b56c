"""Parts of the report that a reader plays with: other axes, enlarged matrices, recall step by step."""

import base64
import re
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from playwright.sync_api import Locator, Page, Position, expect

from probam.reports.figures.data import grouping
from probam.reports.figures.interactive import axes_to_choose, matrices_for_script, points_for_script
from probam.reports.figures.landscape import drawn_points, view
from probam.reports.html import report_html
from probam.reports.page import percent
from probam.reports.tree import rows_of, variable
from tests.reports.browser import Open, Visit, cut_off, needs_browser
from tests.reports.landscapes import Bank, with_landscape


@pytest.fixture(scope="module")
def plane_file(plane_tree: xr.DataTree, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve hundred data in five features, drawn as pixels."""
    path = tmp_path_factory.mktemp("plane") / "report.html"
    path.write_text(report_html(plane_tree), encoding="utf-8")
    return path


def tip(page: Page) -> str:
    note = page.locator(".tip")
    return str(note.text_content()) if note.is_visible() else ""


# Axes


def test_the_first_two_axes_are_those_of_the_map_and_the_others_features_and_principal_axes(
    plane_tree: xr.DataTree, posterior_tree: xr.DataTree, sphere_tree: xr.DataTree
) -> None:
    x = rows_of(plane_tree).values[drawn_points(plane_tree).row]
    axes = {axis.name: axis for axis in axes_to_choose(plane_tree)}
    columns = [f"column {place}" for place in range(5)]
    assert list(axes) == ["principal axis 1", "principal axis 2", *columns, "principal axis 3"]
    on_map = np.stack([axes[f"principal axis {place}"].points for place in (1, 2)], axis=1)
    np.testing.assert_allclose(on_map, view(plane_tree)(x))
    for place, column in enumerate(columns):
        np.testing.assert_array_equal(axes[column].points, x[:, place])
    third = axes["principal axis 3"]
    variances = np.linalg.eigvalsh(np.cov(x.T))[::-1]
    assert third.points.var(ddof=1) == pytest.approx(variances[2])
    assert third.title == f"principal axis 3 ({percent(variances[2] / variances.sum())} of the variance)"
    assert axes_to_choose(posterior_tree) == []  # two features, which the map shows
    names = [axis.name for axis in axes_to_choose(sphere_tree)]
    assert names[:2] == ["disc, across", "disc, up"]
    assert "principal axis 1" in names


@pytest.mark.parametrize("num_data", [300, 40])  # more than features, and fewer
def test_principal_axes_of_many_features_are_those_of_the_covariance(num_data: int) -> None:
    rng = np.random.default_rng(6)
    loc = rng.normal(size=(5, 60)) * 2
    x = loc[rng.integers(0, 5, num_data)] + rng.normal(size=(num_data, 60)) * np.linspace(0.5, 2, 60)
    axes = axes_to_choose(with_landscape(x, Bank(loc, 1.0, np.full(5, 0.2), spherical=False)))
    third = next(axis for axis in axes if axis.name == "principal axis 3")
    variances, directions = np.linalg.eigh(np.cov(x.T))
    assert third.points.var(ddof=1) == pytest.approx(variances[-3])
    expected = (x - x.mean(axis=0)) @ directions[:, -3]
    np.testing.assert_allclose(third.points, expected * np.sign(expected @ third.points), atol=1e-6)


def test_the_script_is_told_positions_to_a_thousandth_of_the_axis(plane_tree: xr.DataTree) -> None:
    told = points_for_script(plane_tree)
    assert told is not None
    assert len(told["row"]) == 1200
    for axis, numbers in zip(axes_to_choose(plane_tree), told["axes"], strict=True):
        width = numbers["high"] - numbers["low"]
        read = numbers["low"] + width * np.array(numbers["points"]) / 4095
        np.testing.assert_allclose(read, axis.points, atol=1e-3 * width)


def scatter_of(page: Page) -> Locator:
    return page.locator("svg.scatter")


def places(page: Page) -> np.ndarray:
    """Positions of the points of the scatter on the screen, upwards."""
    numbers = (
        scatter_of(page)
        .locator("#chosen-data circle")
        .evaluate_all("(dots) => dots.map((dot) => [Number(dot.getAttribute('cx')), -Number(dot.getAttribute('cy'))])")
    )
    return np.array(numbers)


@needs_browser
@pytest.mark.parametrize("by", ["mouse", "keyboard"])
def test_other_axes_show_the_same_data(open_page: Open, plane_tree: xr.DataTree, plane_file: Path, by: str) -> None:
    visit = open_page(plane_file)
    page, menus = visit.page, visit.page.locator(".menu select")
    if by == "mouse":
        menus.nth(0).select_option(label="column 3")
        menus.nth(1).select_option(label="column 0")
    else:
        for menu, name in ((menus.nth(0), "column 3"), (menus.nth(1), "column 0")):
            menu.focus()
            page.keyboard.type(name)
    x = rows_of(plane_tree).values[drawn_points(plane_tree).row]
    shown = places(page)
    for axis, column in ((0, 3), (1, 0)):
        slope, start = np.polyfit(x[:, column], shown[:, axis], 1)
        assert slope > 0
        np.testing.assert_allclose(start + slope * x[:, column], shown[:, axis], atol=0.2)
    expect(page.locator("header svg:not(.scatter)")).to_be_hidden()
    assert scatter_of(page).get_attribute("aria-label") == "The data by column 3 and column 0"
    back = page.get_by_role("button", name="back to the map")
    if by == "mouse":
        lowest = int(shown[:, 1].argmin())
        scatter_of(page).locator("#chosen-data circle").nth(lowest).hover(force=True)
        back.click()
    else:
        scatter_of(page).locator("#chosen-data circle").nth(7).focus()
        assert tip(page).startswith("row 7, memory ")
        back.press("Enter")
    expect(scatter_of(page)).to_have_count(0)
    expect(page.locator("header svg:not(.scatter)")).to_be_visible()
    assert visit.complaints == []


@needs_browser
def test_memories_can_be_chosen_on_other_axes_too(open_page: Open, plane_tree: xr.DataTree, plane_file: Path) -> None:
    page = open_page(plane_file).page
    chips = page.locator("header .chips")
    expect(chips).to_be_hidden()  # the points of the map are pixels
    page.locator(".menu select").first.select_option(label="column 1")
    chips.locator("[data-choice='2']").click()
    labels = variable(plane_tree, "partition", "label").values
    expect(scatter_of(page).locator(".away")).to_have_count(int((labels != 2).sum()))
    page.locator(".menu select").first.select_option(label="column 2")
    expect(scatter_of(page).locator(".away")).to_have_count(int((labels != 2).sum()))


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_other_axes_fit_in_a_phone_and_print_the_map(open_page: Open, plane_file: Path, scheme: str) -> None:
    page = open_page(plane_file, width=360, color_scheme=scheme).page
    page.locator(".menu select").first.select_option(label="column 1")
    assert cut_off(page) == []
    page.emulate_media(media="print")
    expect(page.locator("header svg:not(.scatter)")).to_be_visible()
    expect(scatter_of(page)).to_be_hidden()
    expect(page.locator("header .menu")).to_be_hidden()


# Matrices


def test_the_script_is_told_each_pair_in_the_order_of_the_picture(posterior_tree: xr.DataTree) -> None:
    told, (order, cuts) = matrices_for_script(posterior_tree), grouping(posterior_tree)
    similarity = variable(posterior_tree, "partition", "coclustering").values
    percents = np.frombuffer(base64.b64decode(told["percent"]["coclustering"]), np.uint8).reshape(66, 66)
    np.testing.assert_allclose(percents, 100 * similarity[np.ix_(order, order)], atol=0.5)
    assert told["row"] == order.tolist()
    assert told["cuts"] == cuts.tolist()


def pair_at(page: Page) -> tuple[int, int, int]:
    """Two rows and their probability, in per cent, as the note says."""
    found = re.fullmatch(r"row (\d+) \(memory \d+\) and row (\d+) \(memory \d+\): (\d+)\u202f%", tip(page))
    assert found, tip(page)
    return int(found[1]), int(found[2]), int(found[3])


def seen_block(lens: Locator) -> list[int]:
    """Column, row, width and height of what is seen."""
    return [int(number) for number in str(lens.get_attribute("viewBox")).split()]


@pytest.fixture
def matrix(open_page: Open, report_file: Path) -> tuple[Visit, Locator]:
    visit = open_page(report_file)
    lens = visit.page.locator(".lens").first
    lens.scroll_into_view_if_needed()
    return visit, lens


def cell_at(lens: Locator, row: int, column: int, size: int = 66) -> Position:
    """The place of a pair on the whole matrix, for the mouse."""
    box = lens.bounding_box()
    assert box is not None
    return {"x": (column + 0.5) * box["width"] / size, "y": (row + 0.5) * box["height"] / size}


@needs_browser
def test_the_mouse_enlarges_a_group_and_a_block(matrix: tuple[Visit, Locator], posterior_tree: xr.DataTree) -> None:
    (page, complaints, _), lens = matrix
    order, cuts = grouping(posterior_tree)
    similarity = variable(posterior_tree, "partition", "coclustering").values
    first, second = int(cuts[0]), int(cuts[1]) - int(cuts[0])
    lens.hover(position=cell_at(lens, 3, first + 2))
    row, other, share = pair_at(page)
    assert (row, other) == (order[3], order[first + 2])
    assert share == round(100 * similarity[row, other])
    lens.click(position=cell_at(lens, 3, first + 2))
    assert seen_block(lens) == [first, 0, second, first]
    expect(page.locator("#together-matrix-coclustering text").first).to_be_hidden()
    page.get_by_role("button", name="whole matrix").first.click()
    assert seen_block(lens) == [0, 0, 66, 66]
    lens.hover(position=cell_at(lens, 10, 5))
    box = lens.bounding_box()
    assert box is not None
    page.mouse.down()
    lens.hover(position=cell_at(lens, 20, 12))
    page.mouse.up()
    assert seen_block(lens) == [5, 10, 8, 11]
    page.mouse.move(box["x"] + 2, box["y"] + 2)
    assert pair_at(page)[:2] == (order[10], order[5])
    page.keyboard.press("Escape")
    assert seen_block(lens) == [0, 0, 66, 66]
    assert complaints == []


@needs_browser
def test_the_keyboard_enlarges_a_group_and_a_block(matrix: tuple[Visit, Locator], posterior_tree: xr.DataTree) -> None:
    (page, _, _), lens = matrix
    order, cuts = grouping(posterior_tree)
    lens.focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowDown"):
        page.keyboard.press(key)
    assert pair_at(page)[:2] == (order[1], order[2])
    page.keyboard.press("Enter")
    assert seen_block(lens) == [0, 0, cuts[0], cuts[0]]
    for key in ("Shift+ArrowRight", "Shift+ArrowRight", "Shift+ArrowDown", "Enter"):
        page.keyboard.press(key)
    assert seen_block(lens) == [2, 1, 3, 2]
    page.keyboard.press("Escape")
    assert seen_block(lens) == [0, 0, 66, 66]


@needs_browser
def test_the_lens_lies_on_the_image_of_the_matrix(matrix: tuple[Visit, Locator]) -> None:
    """It shows the same pixels: hiding it changes nothing by more than the width of a line."""
    (page, _, _), lens = matrix
    boxes = [lens.bounding_box(), page.locator("#together-matrix-coclustering image").first.bounding_box()]
    assert None not in boxes
    one, other = ([box["x"], box["y"], box["width"], box["height"]] for box in boxes if box)
    np.testing.assert_allclose(one, other, atol=1)


# Recall


@needs_browser
@pytest.mark.parametrize("by", ["keyboard", "mouse"])
def test_recall_is_shown_step_by_step(open_page: Open, report_file: Path, by: str) -> None:
    page = open_page(report_file).page
    slider, path = page.locator(".film input"), page.locator("#landscape-recall-0 path")
    last = int(slider.get_attribute("max") or 0)
    whole = str(path.get_attribute("d"))
    if by == "keyboard":
        slider.press("Home")
    else:
        slider.click(position={"x": 2, "y": 5})
    expect(page.locator(".film")).to_contain_text(f"step 0 of {last}")
    start = re.findall(r"-?[\d.]+", whole)[:2]
    runner = page.locator(".runner").first
    assert [runner.get_attribute(name) for name in ("cx", "cy")] == [
        str(float(number)).removesuffix(".0") for number in start
    ]
    slider.press("ArrowRight")
    expect(page.locator(".film")).to_contain_text(f"step 1 of {last}")
    slider.press("End")
    assert path.get_attribute("d") == whole
    expect(runner).to_be_hidden()


@needs_browser
@pytest.mark.parametrize("by", ["mouse", "keyboard"])
def test_recall_plays_to_its_end_and_pauses(open_page: Open, report_file: Path, by: str) -> None:
    page = open_page(report_file).page
    page.clock.install(time=0)
    page.clock.pause_at(1)
    bar, button, slider = (page.locator(part) for part in (".film", ".film button", ".film input"))
    last = int(slider.get_attribute("max") or 0)

    def press() -> None:
        button.click() if by == "mouse" else button.press("Enter")
        page.clock.run_for(50)

    press()
    expect(button).to_have_text("⏸ pause")
    page.clock.run_for(350)  # a step takes a third of a second
    expect(bar).to_contain_text(f"step 1 of {last}")
    press()
    expect(button).to_have_text("▶ play recall")
    page.clock.run_for(10_000)
    expect(bar).to_contain_text(f"step 1 of {last}")
    press()
    page.clock.run_for(1000 * last)
    expect(bar).to_contain_text(f"step {last} of {last}")
    expect(button).to_have_text("▶ play recall")


@needs_browser
def test_nothing_moves_by_itself_for_readers_who_want_that(open_page: Open, report_file: Path) -> None:
    page = open_page(report_file, reduced_motion="reduce").page
    expect(page.locator(".film button")).to_be_hidden()
    page.locator(".film input").press("Home")
    expect(page.locator(".film")).to_contain_text("step 0 of")
