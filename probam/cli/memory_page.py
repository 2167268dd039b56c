"""What is said of a memory: its card, the words, equation and example of its docstring, and its twin.

``probam memory show`` prints it, and ``docs/memories.md`` has it for all memories. ``python -m probam.cli.memory_page
docs/memories.md`` writes the page's list anew.
"""

import doctest
import inspect
import re
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

from probam.energies.memory import Memory
from probam.energies.registry import MEMORIES
from probam.equivalence.memory_twins import twin_in_words

__all__ = ["Description", "description", "list_of_memories"]

_IMPORTS = {"jnp": "import jax.numpy as jnp", "jax": "import jax"}
"""Names that the examples find in the module they stand in, and how a reader gets them."""


class Description(NamedTuple):
    """What a docstring says of a memory."""

    words: str
    equation: str
    """In TeX."""
    example: list[str]
    """Lines of Python, without those that import."""
    number: str
    """What the last line gives."""
    imports: list[str]


def description(memory: type[Memory]) -> Description:
    """The words before the equation, the equation, and the example of a memory's docstring."""
    text = inspect.getdoc(memory) or ""
    words, _, rest = text.partition(".. math::")
    equation = re.split(r"\n\n(?=\S)", rest, maxsplit=1)[0]
    examples = doctest.DocTestParser().get_examples(text)
    lines = [line for example in examples for line in example.source.rstrip("\n").split("\n")]
    code = [line for line in lines if not line.startswith("from ")]
    number = examples[-1].want.strip() if examples else ""
    plain = re.sub(r":(?:func|class|mod|data):`~?(?:[\w.]*\.)?(\w+)`", r"`\1`", " ".join(words.split()))
    imports = _imports(memory, code, [line for line in lines if line.startswith("from ")])
    return Description(plain, " ".join(equation.split()), code, number, imports)


def _imports(memory: type[Memory], code: list[str], given: list[str]) -> list[str]:
    """The lines that import what an example uses: those that it has, and those that the module has for it."""
    used = set(re.findall(r"(?<![\w.])\w+", " ".join(line.partition("#")[0] for line in code)))
    own = sorted({memory.__name__, *_own_names(memory)} & used)
    ours = [f"from {memory.__module__} import {', '.join(own)}"] if own else []
    return [line for name, line in _IMPORTS.items() if name in used] + sorted(given + ours)


def _own_names(memory: type[Memory]) -> list[str]:
    """What an example may use of the module of its memory."""
    module = sys.modules.get(memory.__module__)
    public = getattr(module, "__all__", [])
    return [name for name in public if inspect.isclass(vars(module)[name]) or inspect.isfunction(vars(module)[name])]


def list_of_memories() -> str:
    """The table of all memories and a section for each, in Markdown."""
    head = "| name | states | energy | update | capacity | density | source | experiment |\n|" + "---|" * 8
    rows = [head]
    for name, memory in MEMORIES.items():
        card = memory.card
        cells = [
            f"[{name}](#{name})",
            card.states.name,
            "none" if card.energy == "none" else f"`{card.energy}`",
            card.update,
            card.capacity,
            _short(twin_in_words(memory)),
            card.source,
            f"`{card.experiment}`" if card.experiment else "-",
        ]
        rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n\n".join(["\n".join(rows), *(_section(name, memory) for name, memory in MEMORIES.items())]) + "\n"


def _short(twin: str) -> str:
    """The kind of density, or none; the section has the whole sentence."""
    return "none" if twin.startswith("none: ") else twin.partition(":")[0].partition(",")[0]


def _section(name: str, memory: type[Memory]) -> str:
    card, told = memory.card, description(memory)
    code = "\n".join([*told.imports, "", *told.example])
    density = twin_in_words(memory)
    says = f"No density: {density.removeprefix('none: ')}." if density.startswith("none: ") else f"Density: {density}."
    return "\n\n".join(
        [
            f"### {name}",
            _filled(told.words),
            f"$$ {told.equation} $$",
            _filled(f"{says} Source: {card.source}."),
            f"```python\n{code}\n```",
            f"The last line gives **{told.number}**.",
        ]
    )


def _filled(text: str) -> str:
    return textwrap.fill(text, 118, break_long_words=False, break_on_hyphens=False)


def _main(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    begin, end = "<!-- memories -->\n", "<!-- end of memories -->"
    before, _, rest = text.partition(begin)
    path.write_text(before + begin + "\n" + list_of_memories() + "\n" + end + rest.partition(end)[2], encoding="utf-8")


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
