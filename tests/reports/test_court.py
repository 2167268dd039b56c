"""The court's page holds every claim with its equation typeset, and says what failed."""

import re
from pathlib import Path

import pytest

from probam.claims.claim import claim, registry
from probam.claims.verify import as_json, verify
from probam.errors import InputError
from probam.reports.court import court_html, equation, write_court


@pytest.mark.parametrize("claim_id", registry())
def test_every_equation_becomes_mathml_without_rests_of_latex(claim_id: str) -> None:
    typeset = equation(claim(claim_id).latex)
    assert typeset.startswith("<math")
    assert not re.search(r"\\|merror", typeset)


def test_the_page_shows_each_claim_tried_and_what_failed(tmp_path: Path) -> None:
    results = verify(["A20.pair", "A4.score"])
    record = as_json([results[0]._replace(passed=False, note="made up & broken"), *results[1:]])
    write_court(record, tmp_path / "court.html")
    text = (tmp_path / "court.html").read_text(encoding="utf-8")
    assert text == court_html(record)
    assert {one.claim for one in results} <= set(re.findall(r'<article class="claim" id="([^"]+)"', text))
    assert f'These fail: <a href="#{results[0].claim}">' in text
    assert "made up &amp; broken" in text
    assert text.count('<span class="passed">holds</span>') == 1
    assert not re.search(r'(?:src|href)="(?!#|data:)', text)


def test_a_page_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    record = as_json(verify(["A20.pair"]))
    with pytest.raises(InputError, match=r"court.html: the folder .*absent does not exist; create it first"):
        write_court(record, tmp_path / "absent" / "court.html")
    assert list(tmp_path.iterdir()) == []
