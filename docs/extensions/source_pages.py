"""Links from pages to files of the repository lead to pages that show the file.

On a code host ``../probam/energies/clam.py`` is the file itself. On the site the same link leads to a page with its
text, and a link to a folder to a page that lists its files.
"""

import html
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.transforms.post_transforms import SphinxPostTransform

ROOT = Path(__file__).resolve().parents[2]
LEXERS = {".py": "python", ".toml": "toml"}


class SourceLinks(SphinxPostTransform):
    """Links to what is outside the documentation become links to pages of the source."""

    default_priority = 5  # before MyST looks for a page of this name

    def run(self, **kwargs: Any) -> None:  # noqa: ARG002
        """Replace the links of one page."""
        here = Path(self.env.doc2path(self.env.docname)).parent
        for node in [
            *self.document.findall(addnodes.download_reference),
            *self.document.findall(addnodes.pending_xref),
        ]:
            path = _outside(here, node)
            if path is not None:
                name = path.relative_to(ROOT).as_posix()
                self.env.source_pages |= {name, *(_files(path) if path.is_dir() else ())}
                uri = self.app.builder.get_relative_uri(self.env.docname, page_of(name))
                node.replace_self(nodes.reference("", "", *node.children, internal=True, refuri=uri))


def _outside(here: Path, node: Any) -> Path | None:
    """The file or folder of the repository that a link leads to, None where it leads to a page."""
    if isinstance(node, addnodes.pending_xref) and node["reftype"] != "myst":
        return None
    path = (here / node["reftarget"]).resolve()
    if node.get("refdomain") == "doc":  # MyST has taken the suffix off
        path = path.with_suffix(".md")
    inside = path.is_relative_to(ROOT / "docs") or not path.is_relative_to(ROOT)
    return path if path.exists() and not inside else None


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(ROOT).as_posix() for path in folder.glob("*.py"))


def page_of(name: str) -> str:
    """The page that shows a file or a folder of the repository."""
    return f"source/{name}"


def pages(app: Any) -> Iterator[tuple[str, dict[str, str], str]]:
    """The pages of all files and folders that were linked."""
    for name in sorted(app.env.source_pages):
        body = _listing(name) if (ROOT / name).is_dir() else _text(app, name)
        yield page_of(name), {"title": name, "body": f"<h1>{html.escape(name)}</h1>{body}"}, "page.html"


def _text(app: Any, name: str) -> str:
    text = (ROOT / name).read_text(encoding="utf-8")
    return str(app.builder.highlighter.highlight_block(text, LEXERS.get(Path(name).suffix, "text")))


def _listing(name: str) -> str:
    links = (f'<li><a href="{file}.html">{html.escape(file)}</a></li>' for file in _files(ROOT / name))
    return f"<ul>{''.join(links)}</ul>"


def _prepare(app: Any) -> None:
    app.env.source_pages = set()


def setup(app: Any) -> dict[str, bool]:
    """Register the transform and the pages."""
    app.connect("builder-inited", _prepare)
    app.connect("html-collect-pages", pages)
    app.add_post_transform(SourceLinks)
    return {"parallel_read_safe": False}
