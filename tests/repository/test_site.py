"""The pages of the documentation site: in the navigation, linked to what exists, with the whole public interface."""

import importlib
import json
import re
import runpy
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import probam
from tests.repository.links import broken_links
from tests.repository.printed import ROOT, blocks

DOCS = ROOT / "docs"
INDEX = DOCS / "index.md"
PAGES = sorted(DOCS.rglob("*.md"))
NOTEBOOKS = sorted(DOCS.rglob("*.ipynb"))

TOCTREE = re.compile(r"^```\{toctree\}\n(.*?)^```$", re.DOTALL | re.MULTILINE)
DOCUMENTED = re.compile(r"^\.\. auto(?P<kind>module|class|function):: (?P<name>[\w.]+)", re.MULTILINE)
IMPORTED = re.compile(r"^ *from (probam[\w.]*) import ([\w, ]+)", re.MULTILINE)


def navigation(page: Path = INDEX) -> Iterator[Path]:
    """The pages below a page, in the order of the navigation."""
    for tree in TOCTREE.findall(page.read_text(encoding="utf-8")):
        for entry in tree.splitlines():
            if entry.strip() and not entry.startswith(":"):
                found = [page.parent / f"{entry}{suffix}" for suffix in (".md", ".ipynb")]
                (below,) = [path for path in found if path.exists()] or [found[0]]
                yield below
                if below.suffix == ".md" and below.exists():
                    yield from navigation(below)


def test_every_page_is_in_the_navigation_once() -> None:
    listed = [path.relative_to(DOCS).as_posix() for path in navigation()]
    there = [path.relative_to(DOCS).as_posix() for path in [*PAGES, *NOTEBOOKS] if path != INDEX]
    assert sorted(listed) == sorted(there), "each page stands in one toctree, of docs/index.md or of a page below it"


@pytest.mark.parametrize("page", [*PAGES, *NOTEBOOKS], ids=lambda page: page.relative_to(DOCS).as_posix())
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    assert broken_links(page) == []


def test_a_link_to_nothing_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# Other\n\n## The *second* part, at last\n")
    page = tmp_path / "page.md"
    links = ("other.md", "other.md#the-second-part-at-last", "other.md#third", "nowhere.md", "#a-page", "#b")
    page.write_text("# A page\n\n" + "\n".join(f"[x]({link})" for link in links) + "\n\n`[x](code.md)`\n")
    assert broken_links(page) == ["other.md#third", "nowhere.md", "#b"]


@pytest.mark.parametrize("page", NOTEBOOKS, ids=lambda page: page.stem)
def test_a_notebook_was_run_and_shows_no_path_of_the_machine_that_did(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    code = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert "site-packages" not in text
    assert len(text) < 200_000


@cache
def documented() -> frozenset[str]:
    """Dotted names in the reference, those of a module's ``__all__`` included."""
    names: set[str] = set()
    for page in (DOCS / "reference").glob("*.md"):
        for kind, name in DOCUMENTED.findall(page.read_text(encoding="utf-8")):
            names.add(name)
            if kind == "module":
                names |= {f"{name}.{each}" for each in importlib.import_module(name).__all__}
    return frozenset(names)


def test_the_public_names_are_in_the_reference() -> None:
    exceptions = {"InputError", "NumericalError", "ProbamError", "Stop"}
    known = documented()
    assert {f"probam.{name}" for name in set(probam.__all__) - exceptions} <= known
    assert {f"probam.errors.{name}" for name in exceptions} <= known


def test_what_the_pages_import_is_in_the_reference() -> None:
    known = documented()
    lost = set()
    for page in [ROOT / "README.md", *PAGES]:
        for module, names in IMPORTED.findall("\n".join(blocks(page.read_text(encoding="utf-8"), "python"))):
            home = "probam" if module == "probam" else module
            lost |= {f"{home}.{name.strip()}" for name in names.split(",")} - known
    assert lost == set()


def test_bars_and_stars_of_a_docstring_are_what_they_are() -> None:
    plain = runpy.run_path(str(DOCS / "extensions" / "plain_docstrings.py"))["plain"]
    words = ["The distance |x - y|, a ``|z|``, **bold**, :func:`a|b` and log* n."]
    equation = [".. math::", "", "    |x|^* = 1", "", "Then |x|."]
    example = [">>> abs(-1) * 2  # |x|", "2"]
    assert plain(words) == [r"The distance \|x - y\|, a ``|z|``, **bold**, :func:`a|b` and log\* n."]
    assert plain(equation) == [*equation[:-1], r"Then \|x\|."]
    assert plain(example) == example


def test_the_citation_names_the_version_that_is_built() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8").splitlines()
    (author,) = project["authors"]
    expected = {f"version: {project['version']}", f"license: {project['license']}", f"  - name: {author['name']}"}
    assert expected <= set(citation)
