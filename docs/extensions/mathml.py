"""Equations as MathML, which browsers typeset without a script and without a network."""

from typing import Any

from docutils import nodes

from probam.reports.court import equation


def _inline(self: Any, node: nodes.math) -> None:
    self.body.append(equation(node.astext()).replace('display="block"', 'display="inline"', 1))
    raise nodes.SkipNode


def _block(self: Any, node: nodes.math_block) -> None:
    self.body.append(self.starttag(node, "div", CLASS="math"))
    self.body.append(equation(node.astext()) + "</div>\n")
    raise nodes.SkipNode


def setup(app: Any) -> dict[str, bool]:
    """Register the renderer."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True}
