"""Runs what a page of the documentation prints, and compares what comes out with what the page shows.

    python -m tests.repository.printed docs/ten_minutes.md              exit code 1, and what differs
    python -m tests.repository.printed docs/ten_minutes.md --write      writes the page anew

In an empty folder, in order: blocks marked ``python``, in one namespace, as a reader pastes them, and the commands of
blocks marked ``console``, after their ``$``. A block marked ``text`` that follows a ``python`` block is what it prints.
A ``python`` block that begins with a comment like ``# gammas.py`` is also saved under that name.
Blocks marked ``sh`` are lists of commands, of which only the flags are checked. Of a notebook the code of all cells is
run, and the output that is text is compared.

Words and whole numbers must be the same; decimals may differ by 1% or in their last digit, and by any amount where they
are seconds. Three dots stand for anything. The line ``<!-- numbers vary -->`` before a block, or the tag
``numbers-vary`` of a cell, allows any numbers: random draws are others on other machines.
"""

import ast
import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]

GENERATED = re.compile(r"<!-- (?P<subject>[a-z ]+) -->\n.*?<!-- end of (?P=subject) -->", re.DOTALL)
"""Parts of a page that a command writes, of docstrings whose examples are tests of their own."""

BLOCK = re.compile(
    r"^(?P<vary><!-- numbers vary -->\n+)?```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE
)
NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?(?P<seconds>(?= s\b))?")
FILE = re.compile(r"# (?P<name>\w+\.py)\n")
VARY = "numbers-vary"


class Shown(NamedTuple):
    """A program of a page, what it is said to print, and where that stands."""

    kind: str
    program: str
    output: str
    start: int
    end: int
    vary: bool

    def agrees(self, printed: str) -> bool:
        """Whether this is what it prints."""
        return agree(self.output, printed, vary=self.vary)


def blocks(text: str, *kinds: str) -> list[str]:
    """The blocks of these kinds, outside generated parts."""
    return [match["text"] for match in BLOCK.finditer(GENERATED.sub("", text)) if match["kind"] in kinds]


def shown(text: str) -> Iterator[Shown]:
    """The programs of a page, in order; a ``python`` block without a ``text`` block prints what it likes."""
    hidden = [match.span() for match in GENERATED.finditer(text)]
    found = [match for match in BLOCK.finditer(text) if not any(a <= match.start() < b for a, b in hidden)]
    for match, after in zip(found, [*found, None][1:], strict=True):
        if match["kind"] == "console":
            yield from _commands(match)
        elif match["kind"] == "python" and after is not None and after["kind"] == "text":
            yield Shown("python", match["text"], after["text"], *after.span("text"), bool(after["vary"]))
        elif match["kind"] == "python":
            yield Shown("python", match["text"], "...", match.end(), match.end(), vary=True)


def _commands(block: re.Match[str]) -> Iterator[Shown]:
    """The commands of a session, each with the lines up to the next one."""
    for part in re.finditer(r"^\$ (?P<command>.*)\n(?P<output>(?:(?!\$ ).*\n)*)", block["text"], re.MULTILINE):
        start, end = (block.start("text") + place for place in part.span("output"))
        yield Shown("console", part["command"], part["output"], start, end, bool(block["vary"]))


def agree(expected: str, printed: str, *, vary: bool = False) -> bool:
    """Whether the words are the same and the numbers close."""
    words, place = [], 0
    numbers = list(NUMBER.finditer(expected))
    for number in numbers:
        words += [_pattern(expected[place : number.start()]), f"({NUMBER.pattern.replace('?P<seconds>', '')})"]
        place = number.end()
    match = re.fullmatch(rf"\s*{''.join(words)}{_pattern(expected[place:])}\s*", printed.rstrip(), re.DOTALL)
    if match is None:
        return False
    found = [group for group in match.groups() if group]
    return vary or all(
        number["seconds"] is not None or _close(number[0], other) for number, other in zip(numbers, found, strict=True)
    )


def _pattern(words: str) -> str:
    """Any white space for white space, anything for three dots."""
    parts = (r"\s*" if part.isspace() else ".*?" if part == "..." else re.escape(part) for part in _SPLIT.split(words))
    return "".join(parts)


_SPLIT = re.compile(r"(\s+|\.\.\.)")


def _close(expected: str, printed: str) -> bool:
    if expected.lstrip("+-").isdigit() and printed.lstrip("+-").isdigit():
        return int(expected) == int(printed)
    mantissa, _, exponent = expected.partition("e")
    unit = 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
    return abs(float(expected) - float(printed)) <= 0.01 * abs(float(expected)) + 1.01 * unit


class Reader:
    """Who pastes one program after the other into a shell or an interpreter, in an empty folder."""

    def __init__(self, folder: Path) -> None:
        self.names: dict[str, Any] = {"__name__": "__main__"}
        programs = folder / "programs"
        programs.mkdir()
        probam = programs / "probam"
        probam.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m probam "$@"\n')
        probam.chmod(0o755)
        path = os.pathsep.join([str(programs), os.environ.get("PATH", os.defpath)])
        python = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        self.environment = os.environ | {"PATH": path, "PYTHONPATH": python, "COLUMNS": "100", "NO_COLOR": "1"}
        self.folder = folder / "work"
        self.folder.mkdir()

    def run(self, kind: str, program: str) -> str:
        """What it prints."""
        with contextlib.chdir(self.folder):
            return self._command(program) if kind == "console" else self._python(program)

    def _command(self, command: str) -> str:
        done = subprocess.run(command, shell=True, env=self.environment, capture_output=True, text=True)
        expected = (0, 1) if command.startswith("probam verify") else (0,)
        if done.returncode not in expected:
            raise SystemExit(f"$ {command}\nexit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def _python(self, program: str) -> str:
        """What the program prints, and its last expression, as an interpreter shows it."""
        named = FILE.match(program)
        if named is not None:
            Path(named["name"]).write_text(program, encoding="utf-8")
        tree = ast.parse(program)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile(tree, "page", "exec"), self.names)
            if isinstance(last, ast.Expr):
                value = eval(compile(ast.Expression(last.value), "page", "eval"), self.names)
                if value is not None and not program.rstrip().endswith(";"):
                    print(repr(value))
        return printed.getvalue()


def page_differences(path: Path, folder: Path, *, write: bool = False) -> list[str]:
    """What a page shows otherwise than its programs print; ``write`` corrects the page."""
    text, reader, differences, corrections = path.read_text(encoding="utf-8"), Reader(folder), [], []
    for one in shown(text):
        printed = reader.run(one.kind, one.program)
        if not one.agrees(printed):
            differences.append(f"{one.program}\n--- shown\n{one.output}--- printed\n{printed}")
            corrections.append((one.start, one.end, "\n".join(line.rstrip() for line in printed.rstrip().split("\n"))))
    if write:
        for start, end, printed in reversed(corrections):
            text = f"{text[:start]}{printed}\n{text[end:]}" if printed else text[:start] + text[end:]
        path.write_text(text, encoding="utf-8")
    return differences


def notebook_differences(path: Path, folder: Path, *, write: bool = False) -> list[str]:
    """The same of the cells of a notebook; ``write`` runs it in Jupyter instead, which also makes its pictures."""
    if write:
        _write_notebook(path, folder)
        return []
    reader, differences = Reader(folder), []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            program, expected = "".join(cell["source"]), _text_of(cell["outputs"])
            printed = reader.run("python", program)
            if not agree(expected, printed, vary=VARY in cell["metadata"].get("tags", [])):
                differences.append(f"{program}\n--- shown\n{expected}--- printed\n{printed}")
    return differences


def _write_notebook(path: Path, folder: Path) -> None:
    copy = Path(shutil.copy(path, folder))
    jupyter = Path(sys.executable).with_name("jupyter-execute")  # comes with what `make docs` installs
    subprocess.run([jupyter, "--inplace", copy], check=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    notebook = json.loads(copy.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"] = [output for output in cell["outputs"] if output.get("name") != "stderr"]
            cell["metadata"].pop("execution", None)
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _text_of(outputs: list[dict[str, Any]]) -> str:
    """What a cell printed, and its value."""
    streams = ["".join(output["text"]) for output in outputs if output.get("name") == "stdout"]
    values = ["".join(output["data"]["text/plain"]) for output in outputs if output["output_type"] == "execute_result"]
    return "\n".join(streams + values)


def main(arguments: list[str]) -> int:
    """Run the pages that are named; 1 where one differs."""
    write, failed = "--write" in arguments, False
    for name in arguments:
        if name != "--write":
            path = Path(name).resolve()
            differ = notebook_differences if path.suffix == ".ipynb" else page_differences
            with tempfile.TemporaryDirectory() as folder:
                differences = differ(path, Path(folder), write=write)
            print("\n".join(f"{name}: {difference}" for difference in differences), end="")
            failed |= bool(differences)
    return int(failed and not write)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
