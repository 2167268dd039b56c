"""The library does not talk to the terminal: only the command line prints."""

import ast
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import probam

ROOT = Path(probam.__file__).parents[1]


def spoken(source: str) -> Iterator[str]:
    """Calls by which a program writes to the terminal, or asks Python to."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "warnings.warn", "warn"):
            yield ast.unparse(node.func)
        elif isinstance(node, ast.Attribute) and ast.unparse(node) in ("sys.stdout", "sys.stderr"):
            yield ast.unparse(node)


def test_what_writes_to_the_terminal_is_found() -> None:
    source = "print(1)\nsys.stderr.write('a')\nwarnings.warn('b')\nlog.warning('c')\n"
    assert sorted(spoken(source)) == ["print", "sys.stderr", "warnings.warn"]


def test_only_the_command_line_writes_to_the_terminal() -> None:
    files = [path for folder in ("probam", "models", "inference", "reports") for path in (ROOT / folder).rglob("*.py")]
    library = [path for path in files if "cli" not in path.parts and "__main__" not in path.name]
    assert len(library) > 300
    said = {str(path): words for path in library if (words := list(spoken(path.read_text(encoding="utf-8"))))}
    assert said == {}


def test_what_is_logged_is_heard_only_by_those_who_listen(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(",a,b\n0,1,2\n1,3,4\n", encoding="utf-8")
    reading = "from probam.data.table import as_table; as_table('rows.csv')"
    listening = f"import logging; logging.basicConfig(); {reading}"
    heard = [
        subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True).stderr
        for program in (reading, listening)
    ]
    assert heard == ["", "WARNING:probam.data.delimited:rows.csv: left out 'column 1', which only numbers the rows\n"]
    assert any(isinstance(handler, logging.NullHandler) for handler in logging.getLogger("probam").handlers)
