"""The report: complete, self-contained, escaped, and quiet in a real browser."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from probam.errors import InputError
from probam.reports.html import report_html, write_report
from probam.reports.page import number, percent, with_error
from probam.reports.tree import variable
from tests.reports.browser import Open, needs_browser

HEADINGS = [
    "Can I trust this posterior?",
    "How many memories?",
    "The memories",
    "The weights",
    "Which data belong together?",
    "Does the model reproduce the data?",
    "The energy landscape and recall",
    "Where do recall and assignment differ?",
    "Is the energy really the likelihood?",
    "What does the truncation cost?",
    "Data and model",
    "How can I repeat this?",
    "Five words",
]
VOID = {"meta", "link", "br", "hr", "img", "input"}


class Reader(HTMLParser):
    """What a page holds; refuses elements that are closed in the wrong order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.targets: list[str] = []
        self.headings: list[str] = []
        self.svgs: list[dict[str, str | None]] = []
        self.columns: list[dict[str, str | None]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if attributes.get("id"):
            self.ids.append(str(attributes["id"]))
        self.targets += [
            str(attributes[name]) for name in ("href", "src", "xlink:href", "action", "poster") if name in attributes
        ]
        if tag == "svg":
            self.svgs.append(attributes)
        if tag == "th":
            self.columns.append(attributes)
        if tag == "h2":
            self.headings.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open, tag
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.text += data
        if "h2" in self.open:
            self.headings[-1] += data


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


def test_the_report_has_its_sections_in_order(report: str) -> None:
    assert read(report).headings == HEADINGS


def test_the_head_says_what_was_found_and_shows_it(report: str) -> None:
    head = report[report.index("<header>") : report.index("</header>")]
    assert re.search(r"They differ most in .*\(\d+\u202f%\).*between them", head)
    assert re.search(r"A row’s memory is certain to .* on average", head)
    assert head.count("<svg") == 1


def test_the_report_refers_to_nothing_outside_itself(report: str) -> None:
    reader = read(report)
    assert all(target.startswith(("#", "data:")) for target in reader.targets)
    assert {target[1:] for target in reader.targets if target.startswith("#")} <= set(reader.ids)
    bare = re.sub(r"data:image/png;base64,[^\"]*|\"percent\":\{[^}]*\}", "", report)
    assert not re.search(r"https?:|//[a-z]|@import", bare)
    for url in re.findall(r"url\(([^)]*)\)", report):
        assert url.startswith("#")
    assert "default-src 'none'" in report


def test_no_two_elements_share_an_id(report: str) -> None:
    ids = read(report).ids
    assert len(ids) == len(set(ids))


def test_every_figure_says_what_it_shows_and_every_head_cell_its_scope(report: str) -> None:
    reader = read(report)
    assert len(reader.svgs) == 8
    assert all(svg.get("role") == "img" and svg.get("aria-label") for svg in reader.svgs)
    assert reader.columns
    assert all(cell.get("scope") in ("col", "row") for cell in reader.columns)
    assert '<html lang="en">' in report


def test_what_the_user_wrote_is_escaped(report: str, posterior_tree: xr.DataTree) -> None:
    tree = posterior_tree.copy()
    tree.attrs = {**posterior_tree.attrs, "model": "<script>alert(1)</script>", "source": "a\"b'<img src=x>.csv"}
    page = report_html(tree)
    assert page.count("<script") == report.count("<script") == 3  # its own: data, and what test_script looks at
    assert "alert(1)</script>" not in page
    assert "<img" not in page
    assert "length <mm>" not in page
    assert "length &lt;mm&gt;" in page
    assert "mass &amp; co." in page
    assert "length <mm>" in read(page).text


def test_the_verdict_says_what_was_found(report: str, posterior_tree: xr.DataTree) -> None:
    counts = variable(posterior_tree, "invariant", "num_occupied").values.ravel()
    share = np.mean(counts == 3)
    text = read(report).text
    assert f"Three memories hold the 66 data with probability {round(100 * share)}\u202f%" in text
    assert "The chains agree with each other" in text
    assert "both checks passed" in text


def test_a_bad_fit_is_not_praised(posterior_tree: xr.DataTree) -> None:
    tree = posterior_tree.copy()
    shifted = variable(posterior_tree, "sample_stats", "lp").copy()
    shifted[1] -= 500
    tree["sample_stats"] = xr.Dataset({"lp": shifted})
    failed = posterior_tree["verification"].to_dataset().copy(deep=True)
    failed["passed"][1] = False
    tree["verification"] = failed
    text = read(report_html(tree)).text
    assert "Do not rely on this fit yet." in text
    assert "different modes" in text
    assert "checks passed" not in text
    assert "descent failed" in text


def test_no_number_has_more_digits_than_a_reader_wants(report: str) -> None:
    shown = re.sub(r"<(svg|style|script)\b.*?</\1>", "", report, flags=re.DOTALL)
    assert not re.search(r"\d\.\d{7,}", shown)
    assert "nan" not in shown.lower().replace("finance", "")
    assert "&lt;NA&gt;" not in shown


def test_the_command_repeats_the_fit(report: str) -> None:
    command = read(report).text.split("How can I repeat this?")[-1].split("fit.nc")[0]
    words = " ".join(command.replace("\\", " ").split())
    assert words == "probam fit 'simulated <three> groups.csv' --weights dp -o"
    assert "Given in Python, and not by this command: alpha." in read(report).text


def test_a_point_estimate_gets_a_report_without_error_bars(em_tree: xr.DataTree) -> None:
    reader = read(report_html(em_tree))
    assert reader.headings == [
        "Can I trust this fit?",
        "How many memories?",
        "The memories",
        "The weights",
        "Data and model",
        "How can I repeat this?",
        "Five words",
    ]
    assert "gives a point estimate, without error bars" in reader.text
    assert "R-hat" not in reader.text.split("Five words")[0]
    assert "of 30 features the 6 in which memories differ most" in reader.text


def test_every_kind_of_landscape_gets_a_report(
    line_tree: xr.DataTree, plane_tree: xr.DataTree, sphere_tree: xr.DataTree
) -> None:
    for tree, words in (
        (line_tree, "of the line shown"),
        (plane_tree, "distances along the other 3 are not visible"),
        (sphere_tree, "The data are directions"),
    ):
        assert words in read(report_html(tree)).text


def test_one_group_alone_makes_a_report(posterior_tree: xr.DataTree) -> None:
    needed = {"posterior", "observed_data", "constant_data"}
    for extra in [
        "",
        "sample_stats",
        "invariant",
        "memory",
        "partition",
        "posterior_predictive",
        "recall",
        "verification",
    ]:
        nodes = {name: posterior_tree[name].to_dataset() for name in needed | {extra} if name}
        tree = xr.DataTree.from_dict({"/": xr.Dataset(attrs={"probam_version": "0.1.0"}), **nodes})
        assert "Data and model" in read(report_html(tree)).headings


def test_a_group_that_could_not_be_made_is_a_note(em_tree: xr.DataTree) -> None:
    tree = em_tree.copy()
    tree.attrs["left_out"] = '{"recall": "descend: 3 queries <left> the finite numbers"}'
    page = report_html(tree)
    assert "no recall and energy landscape (group recall): descend: 3 queries &lt;left&gt; the finite numbers." in page


def without_energy(tree: xr.DataTree, columns: slice) -> xr.DataTree:
    """The fit with some columns of its picture outside the support."""
    recall = tree["recall"].to_dataset()
    names = ("grid_energy", "grid_basin", "grid_responsible")
    outside = np.isin(np.arange(recall.sizes["grid_x"]), np.arange(recall.sizes["grid_x"])[columns])
    cut = {name: recall[name].astype(float).where(xr.DataArray(~outside, dims="grid_x")) for name in names}
    changed = tree.copy()
    changed["recall"] = xr.DataTree(recall.assign(cut))
    return changed


@pytest.mark.filterwarnings("error")
def test_a_plane_without_a_point_of_finite_energy_is_not_drawn(posterior_tree: xr.DataTree) -> None:
    assert "The energy landscape and recall" not in report_html(without_energy(posterior_tree, slice(None)))


@pytest.mark.filterwarnings("error")
def test_a_curve_ends_at_the_edge_of_the_support(line_tree: xr.DataTree) -> None:
    assert "The energy landscape and recall" in report_html(without_energy(line_tree, slice(20)))


def test_an_unwritable_path_is_named(em_tree: xr.DataTree, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="it is a folder"):
        write_report(em_tree, tmp_path)


def test_numbers_are_written_as_people_write_them() -> None:
    assert [number(value) for value in (0.1 + 0.2, 123456.7, 1e-9, -2.0, 10000, True)][:5] == [
        "0.3",
        "123457",
        "1\u202f×\u202f10⁻⁹",
        "−2",
        "10\u202f000",
    ]
    assert number(float("nan")) == number("text") == "–"
    assert number(float("-inf")) == "−∞"
    assert number(0.00999999) == "0.01"
    assert with_error(0.5, 0.0996) == "0.50 ± 0.10"
    assert with_error(1e9, 3e-9) == "1\u202f×\u202f10⁹ ± 3\u202f×\u202f10⁻⁹"
    assert with_error(float("1.5"), float("nan")) == "1.5"
    assert percent(0.9951) == "99.5 %"


@needs_browser
def test_a_browser_shows_the_report_without_complaint(open_page: Open, report_file: Path) -> None:
    visit = open_page(report_file)
    assert visit.complaints == []
    assert visit.page.locator("h2").all_text_contents() == HEADINGS
    assert visit.page.locator(".plot > svg").count() == 8


@needs_browser
def test_a_browser_would_complain_of_any_request(open_page: Open, report: str, tmp_path: Path) -> None:
    """The control of the test above: the page's own policy turns every request into a line on the console."""
    page = tmp_path / "report.html"
    page.write_text(report.replace("</main>", '<img src="https://example.invalid/x.png" alt=""></main>'), "utf-8")
    assert any("Content Security Policy" in line for line in open_page(page).complaints)
