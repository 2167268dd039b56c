"""In docstrings bars and stars are what they are: ``|x - y|`` is a distance, and ``log* n`` a function.

Docstrings are read in a terminal and in editors too, where a backslash before each bar would be in the way. So the site
puts it there, outside literals, roles, examples and equations.
"""

import re
from typing import Any

MARKED = re.compile(r"(``.+?``|:\w+:`[^`]+`|\*\*[^*\s][^*]*\*\*)")
INDENT = re.compile(r"\s*")


def plain(lines: list[str]) -> list[str]:
    """The lines of a docstring, with backslashes before bars and stars that mark nothing."""
    told, inside = [], None
    for line in lines:
        indent = INDENT.match(line).end()
        if inside is not None and line.strip() and indent <= inside:
            inside = None
        code = inside is not None or line.lstrip().startswith((">>>", "..", "*args", "**"))
        told.append(line if code else _escaped(line))
        if inside is None and (line.lstrip().startswith(".. ") or line.rstrip().endswith("::")):
            inside = indent
    return told


def _escaped(line: str) -> str:
    parts = MARKED.split(line)
    parts[::2] = [re.sub(r"(?<!\\)([|*])", r"\\\1", part) for part in parts[::2]]
    return "".join(parts)


def _rewrite(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:  # noqa: ARG001
    lines[:] = plain(lines)


def setup(app: Any) -> dict[str, bool]:
    """Register ahead of what reads the sections of a docstring."""
    app.connect("autodoc-process-docstring", _rewrite, priority=100)
    return {"parallel_read_safe": True}
