"""A headless Chromium that Playwright drives as a person would: by mouse, by finger and by keyboard."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, sync_playwright

__all__ = ["Open", "Visit", "centre", "cut_off", "launched", "needs_browser", "opened"]

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")

_CUT_OFF = """() => {
  const wide = document.documentElement.clientWidth;
  const scrolls = (element) => ["auto", "scroll"].includes(getComputedStyle(element).overflowX);
  const outside = (box, frame) => box.width && (box.left < frame.left - 1 || box.right > frame.right + 1);
  const cut = [];
  const look = (element) => {
    const box = element.getBoundingClientRect();
    if (outside(box, { left: 0, right: wide })) cut.push(`${element.tagName} ${element.className}`);
    if (element.matches("details:not([open])")) return look(element.firstElementChild);
    const hidden = element.scrollWidth > element.clientWidth + 1 && element.clientWidth && !element.closest("svg");
    if (scrolls(element)) {
      const sign = element.matches(".plot") ? getComputedStyle(element, "::after").display : "shadow";
      if (hidden && sign === "none") cut.push(`no sign: ${element.className}`);
      return undefined;
    }
    return element.matches("svg") ? undefined : [...element.children].forEach(look);
  };
  look(document.body);
  document.querySelectorAll("svg").forEach((svg) => {
    const frame = svg.getBoundingClientRect();
    svg.querySelectorAll("text").forEach((text) => {
      if (outside(text.getBoundingClientRect(), frame)) cut.push(`text ${text.textContent}`);
    });
  });
  return cut;
}"""


class Visit(NamedTuple):
    """A page that is open, and what came of it."""

    page: Page
    complaints: list[str]  # what the page and the browser wrote to the console, and errors
    requests: list[str]  # addresses that the page asked for, its own first


Open = Callable[..., Visit]
"""Opens a file; takes the width of the window in pixels and what a browser context of Playwright takes."""


@contextmanager
def launched() -> Iterator[Browser]:
    """A browser that asks the network for nothing of its own."""
    with sync_playwright() as driver:
        arguments = ["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND"]
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


def opened(context: BrowserContext, path: Path) -> Visit:
    """A file in a tab of its own."""
    visit = Visit(context.new_page(), [], [])
    visit.page.on("console", lambda message: visit.complaints.append(message.text))
    visit.page.on("pageerror", lambda error: visit.complaints.append(str(error)))
    visit.page.on("request", lambda request: visit.requests.append(request.url))
    visit.page.goto(path.as_uri())
    return visit


def centre(element: Locator) -> tuple[float, float]:
    """Where the middle of an element is in the window."""
    box: dict[str, Any] = element.evaluate("(element) => element.getBoundingClientRect().toJSON()")
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def cut_off(page: Page) -> list[str]:
    """What stands outside the window or its picture, and parts that scroll without a sign that they do."""
    return list(page.evaluate(_CUT_OFF))
