"""The guide to the report explains every section, and its pictures are there and small."""

import re
from pathlib import Path

from PIL import Image

from tests.reports.test_html import HEADINGS

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "report.md"


def test_every_section_of_a_report_is_explained_in_the_order_of_the_page() -> None:
    explained = re.findall(r"^## (.*)$", GUIDE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    of_report = [heading.replace("this posterior", "this fit") for heading in HEADINGS]
    assert [heading for heading in explained if heading in of_report] == of_report
    assert "Do the memories match the known labels?" in explained
    assert "Recall under the posterior" in explained


def test_the_pictures_are_at_three_widths_in_light_and_dark() -> None:
    names = re.findall(r"\]\(([^)]*\.webp)\)", GUIDE.read_text(encoding="utf-8"))
    pictures = [GUIDE.parent / name for name in names]
    assert {f"report_{width}_{scheme}.webp" for width in (360, 768, 1440) for scheme in ("light", "dark")} < {
        picture.name for picture in pictures
    }
    for picture in pictures:
        _, width, scheme = (*picture.stem.split("_"), "")[:3]
        with Image.open(picture) as image:
            assert not width.isdigit() or image.width == int(width)
            brightness = sum(image.convert("L").histogram()[128:]) / (image.width * image.height)
        assert (brightness > 0.5) == (scheme != "dark"), picture.name
    assert sum(picture.stat().st_size for picture in pictures) < 1_000_000
