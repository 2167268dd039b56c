"""Arrays in signatures have the name that one imports, and a dash stands between a parameter and what is said of it."""

from typing import Any

from docutils import nodes


def _short(app: Any, what: str, name: str, obj: Any, options: Any, *signature: str | None) -> tuple[str | None, ...]:  # noqa: ARG001
    """The signature, and what it returns."""
    return tuple(text and text.replace("jaxlib._jax.Array", "Array") for text in signature)


def _dashes(app: Any, doctree: nodes.document) -> None:  # noqa: ARG001
    """Elsewhere two hyphens begin a flag, so that pages have no other clever punctuation."""
    for text in list(doctree.findall(nodes.Text)):
        if text == " -- ":
            text.parent.replace(text, nodes.Text(" – "))


def setup(app: Any) -> dict[str, bool]:
    """Register both."""
    app.connect("autodoc-process-signature", _short)
    app.connect("doctree-read", _dashes)
    return {"parallel_read_safe": True}
