"""The house keeps its shape: few loose files, short functions, an engine is a folder, tests mirror the rooms."""

import ast
import re
import tomllib
from collections.abc import Iterator
from importlib import import_module
from inspect import isfunction
from pathlib import Path

import pytest

from probam.fits.options import ENGINES

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "probam"
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
OUTSIDE = ("inference", "models", "reports")
"""Rooms that are folders at the root; the package holds links to them."""

LOOSE = {"__init__", "__main__", "compiled", "errors", "options", "partitions", "placement", "pytrees"}
"""Files that may stand in ``probam`` itself; any other belongs into a room."""

LONGEST_FILE = 500
LONGEST_FUNCTION = 60
EXCEPTIONS: dict[str, str] = {}
"""Functions that may be longer or more complex, each with its reason; at most five."""

NO_ENGINES = {"common", "evidence", "stream"}
"""Folders of ``inference`` without a ``run``: what engines share, evidence after a run, and streams."""


def _sources() -> list[Path]:
    """Every file of the package once, by its address without links."""
    rooms = [path for path in PACKAGE.iterdir() if path.is_dir() and not path.is_symlink()]
    files = [path for room in (*rooms, *(ROOT / name for name in OUTSIDE)) for path in room.rglob("*.py")]
    return sorted([*files, *PACKAGE.glob("*.py")])


def _functions(tree: ast.AST, inside: str = "") -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every function, also within classes and functions, with its qualified name."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if not isinstance(node, ast.ClassDef):
                yield f"{inside}{node.name}", node
            yield from _functions(node, f"{inside}{node.name}.")
        else:
            yield from _functions(node, inside)


def _all_functions() -> Iterator[tuple[str, int, str]]:
    """Address of every function (``folder/file.py:name``), its lines without decorators, and its first line."""
    for path in _sources():
        text = path.read_text()
        lines = text.splitlines()
        for name, node in _functions(ast.parse(text)):
            assert node.end_lineno is not None
            address = f"{path.relative_to(ROOT).as_posix()}:{name}"
            yield address, node.end_lineno - node.lineno + 1, lines[node.lineno - 1]


def _rooms() -> set[str]:
    """Folders of the package that hold code."""
    return {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}


def _loose() -> set[str]:
    """Files of the package that are in no room."""
    return {path.stem for path in PACKAGE.glob("*.py")}


def _layers() -> list[set[str]]:
    """The floors of the import contract, highest first."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if "floors" in contract["name"])
    return [{name.strip().removeprefix("probam.") for name in floor.split("|")} for floor in layers]


def test_no_file_lies_loose_in_the_package() -> None:
    assert _loose() <= LOOSE


def test_no_file_is_longer_than_500_lines() -> None:
    lengths = {path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines()) for path in _sources()}
    assert len(lengths) > 200
    assert {name: length for name, length in lengths.items() if length > LONGEST_FILE} == {}


def test_no_function_is_longer_than_60_lines() -> None:
    lengths = {address: length for address, length, _ in _all_functions()}
    assert len(lengths) > 2000
    assert {name: n for name, n in lengths.items() if n > LONGEST_FUNCTION and name not in EXCEPTIONS} == {}


def test_complex_functions_are_the_listed_exceptions() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    assert "C901" in settings["select"], "`make check` measures the complexity of every function"
    assert settings["mccabe"]["max-complexity"] == 12
    assert {address for address, _, line in _all_functions() if "C901" in line} <= EXCEPTIONS.keys()


def test_exceptions_are_few_and_each_is_needed() -> None:
    assert len(EXCEPTIONS) <= 5
    assert all(EXCEPTIONS.values()), "each exception says why"
    needed = {address for address, n, line in _all_functions() if n > LONGEST_FUNCTION or "C901" in line}
    assert EXCEPTIONS.keys() <= needed


def test_engines_are_the_folders_of_inference() -> None:
    folders = {path.name for path in (ROOT / "inference").iterdir() if (path / "__init__.py").exists()}
    assert folders - NO_ENGINES == set(ENGINES)
    assert [path.name for path in (ROOT / "inference").glob("*.py")] == ["__init__.py"]


@pytest.mark.parametrize("name", ENGINES)
def test_the_engine_of_a_folder_has_a_run(name: str) -> None:
    engine = import_module(f"probam.inference.{name}.engine")
    assert isfunction(engine.run)
    assert engine.run.__module__ == engine.__name__
    assert "run" in engine.__all__


def test_tests_mirror_the_rooms() -> None:
    folders = {path.name for path in (ROOT / "tests").iterdir() if (path / "__init__.py").exists()}
    assert folders == _rooms() | {"benchmarks", "examples", "hostile", "repository"}
    loose = {path.stem.removeprefix("test_") for path in (ROOT / "tests").glob("test_*.py")}
    assert loose <= _loose(), "a test lies loose only where what it tests does"
    assert all(list((ROOT / "tests" / folder).glob("test_*.py")) for folder in folders)


def test_every_room_stands_on_one_floor() -> None:
    floors = _layers()
    placed = [room for floor in floors for room in floor]
    assert sorted(placed) == sorted(_rooms() | _loose() - {"__init__", "__main__"})
    assert len(floors) <= 10


def test_the_picture_of_the_floors_is_the_contract() -> None:
    picture = re.search(r"```text\n(.*?)```", ARCHITECTURE, re.DOTALL)
    assert picture is not None
    drawn = re.findall(r"^ +(\d+) +(.*)$", picture[1], re.MULTILINE)
    assert [int(number) for number, _ in drawn] == list(range(len(_layers()), 0, -1))
    assert [set(re.findall(r"\w+", rooms)) for _, rooms in drawn] == _layers()


def test_the_table_of_rooms_names_each_file_once() -> None:
    table = dict(re.findall(r"^\| `([\w/]+)` \|[^|]*\| (.*) \|$", ARCHITECTURE, re.MULTILINE))
    named = {room: sorted(re.findall(r"`(\w+)`", files)) for room, files in table.items()}
    folders: dict[str, list[str]] = {}
    for path in _sources():
        inside = folders.setdefault(path.parent.relative_to(ROOT).as_posix(), [])
        inside += [path.stem] if path.stem != "__init__" else []
    del folders["probam"]
    assert named == folders
