"""Every kind of page passes all rules of axe-core, WCAG A and AA among them, by light and by dark."""

import re
from collections.abc import Callable, Set
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import xarray as xr
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from probam.claims.verify import as_json, verify
from probam.energies.clam import Clam
from probam.experiments.experiment import html, perform
from probam.fits.memory_landscape import landscape_of
from probam.reports.court import court_html
from probam.reports.html import report_html
from probam.reports.memory import memory_html
from tests.experiments.test_experiment import TINY
from tests.reports.browser import Open, cut_off, needs_browser

UNDECIDED = {"elmPartiallyObscured", "nonBmp", "shortTextContent"}
"""Texts whose contrast axe-core leaves to people: half scrolled away, in equations, single digits."""


def violations(page: Page, undecided: Set[str] = UNDECIDED) -> list[str]:
    """What axe-core finds on a page, and texts outside pictures whose contrast it has not measured."""
    page.add_style_tag(content=".wide{background:none!important}")  # it measures no contrast on gradients
    found = Axe().run(page, options={"resultTypes": ["violations", "incomplete"]}).response
    wrong = [f"{rule['id']}: {node['html'][:200]}" for rule in found["violations"] for node in rule["nodes"]]
    for rule in found["incomplete"]:
        nodes = [node for node in rule["nodes"] if not node["html"].startswith("<text")]
        checks: list[Any] = [check["data"] for node in nodes for check in node["any"]]
        messages = {data["messageKey"] for data in checks} - undecided
        wrong += [f"{rule['id']}: {message}" for message in sorted(messages)]
    return wrong


def claims_page() -> str:
    with jax.enable_x64(True):
        results = verify(["A20.pair", "A4.score"])
    return court_html(as_json([results[0]._replace(passed=False), *results[1:]]))


def memory_page() -> str:
    patterns = np.random.default_rng(4).normal(size=(5, 4))
    return memory_html(landscape_of(Clam.store(patterns, beta=0.8), patterns, patterns + 0.3))


PAGES: dict[str, Callable[[], str]] = {
    "claims": claims_page,
    "experiment": lambda: html(TINY, perform(TINY, 1)),
    "memory": memory_page,
}


@pytest.fixture(scope="module", params=["report", "point estimate", *PAGES])
def kind_of_page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if request.param == "report":
        text: str = request.getfixturevalue("report")
    elif request.param == "point estimate":
        tree: xr.DataTree = request.getfixturevalue("em_tree")
        text = report_html(tree)
    else:
        text = PAGES[request.param]()
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(text, encoding="utf-8")
    return path


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_passes_the_rules_of_accessibility(open_page: Open, kind_of_page: Path, scheme: str) -> None:
    visit = open_page(kind_of_page, color_scheme=scheme)
    assert violations(visit.page) == []
    visit.page.set_viewport_size({"width": 360, "height": 800})
    assert violations(visit.page) == []
    assert cut_off(visit.page) == []
    assert visit.complaints == []


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_a_reader_changes_passes_them_too(
    open_page: Open, sphere_tree: xr.DataTree, report_file: Path, tmp_path: Path, scheme: str
) -> None:
    path = tmp_path / "sphere.html"
    path.write_text(report_html(sphere_tree), encoding="utf-8")
    page = open_page(path, color_scheme=scheme).page
    page.locator(".menu select").first.select_option(index=3)
    page.locator(".chips button").first.click()
    assert violations(page) == []
    page = open_page(report_file, color_scheme=scheme).page
    page.locator(".lens").first.press("Enter")
    page.locator(".film input").press("Home")
    assert violations(page, UNDECIDED | {"bgOverlap"}) == []  # parts of the matrix that the lens cuts off


def test_words_of_pictures_have_the_colours_of_the_page(report: str) -> None:
    """Their contrast is the one that axe-core measures elsewhere; numbers on discs have a test of their own."""
    styles = re.findall(r'<text style="([^"]*)"[^>]*>([^<]*)</text>', report)
    fills = {re.sub(r".*fill: ", "", style) for style, words in styles if not words.isdigit()}
    assert fills <= {"var(--ink)", "var(--muted)"}


@needs_browser
def test_a_fault_is_found(open_page: Open, report_file: Path) -> None:
    """The control of the test above."""
    page = open_page(report_file).page
    page.evaluate("document.querySelector('svg').removeAttribute('aria-label')")
    page.add_style_tag(content="td{color:#bbb!important}@media (prefers-color-scheme:dark){td{color:#444!important}}")
    assert {line.split(":")[0] for line in violations(page)} >= {"color-contrast"}
