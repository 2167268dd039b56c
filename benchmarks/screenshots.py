"""The command ``python -m benchmarks.screenshots``: the pictures of reports in ``docs/images``, taken anew.

A report of the eruptions of Old Faithful at three widths, light and dark, and the page that compares two of its fits.
It needs Chromium and Playwright, as the tests of the browser do.
"""

import argparse
import io
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image

from tests.reports.browser import launched

__all__ = ["SIZES", "main", "photographed"]

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"

SIZES = ((360, 1150), (768, 1024), (1440, 940))
"""Width and height of a phone, a tablet and a wide screen, in pixels."""

SCHEMES = ("light", "dark")


def photographed(browser: Any, page: Path, to: Path, *, size: tuple[int, int], scheme: str) -> None:
    """The top of a page as a WebP picture.

    Args:
        browser: of Playwright.
        page: the HTML file.
        to: the picture.
        size: of the window, in pixels.
        scheme: ``light`` or ``dark``.
    """
    width, height = size
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    tab = context.new_page()
    tab.goto(page.as_uri())
    picture = Image.open(io.BytesIO(tab.screenshot()))
    picture.convert("RGB").save(to, quality=82, method=6)
    context.close()


def _fits(given: Sequence[str]) -> dict[str, Any]:
    """Two fits of the same data by name: those that are given, or a Dirichlet process and two memories."""
    import jax

    jax.config.update("jax_enable_x64", True)
    import probam
    from probam.data.shipped import load_shipped

    if given:
        return {Path(path).stem: probam.load(path) for path in given}
    data = load_shipped("faithful")
    return {
        "process": probam.fit(data, standardise=True, seed=1),
        "two": probam.fit(data, standardise=True, seed=1, weights="dirichlet", components=2),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Take all pictures; ``arguments`` are those of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.screenshots", description=__doc__)
    parser.add_argument(
        "fits", nargs="*", metavar="FIT.nc", help="two saved fits of the same data, instead of new ones"
    )
    parser.add_argument("--output", type=Path, default=IMAGES, help="where the pictures go")
    chosen = parser.parse_args(arguments)
    import probam

    fits = _fits(chosen.fits)
    chosen.output.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as folder, launched() as browser:
        report, compared = Path(folder) / "report.html", Path(folder) / "compared.html"
        next(iter(fits.values())).report(report)
        probam.compare_report(fits, compared)
        for size in SIZES:
            for scheme in SCHEMES:
                to = chosen.output / f"report_{size[0]}_{scheme}.webp"
                photographed(browser, report, to, size=size, scheme=scheme)
        photographed(browser, compared, chosen.output / "report_compared.webp", size=(1000, 1250), scheme="light")
    for picture in sorted(chosen.output.glob("report_*")):
        print(f"{picture.name}: {picture.stat().st_size // 1000} kB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
