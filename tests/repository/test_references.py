"""Cross-references in docstrings lead to names that exist."""

import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("probam", "models", "inference", "reports")
REFERENCE = re.compile(r":(?:mod|func|class|meth|data|attr|exc):`~?(probam(?:\.\w+)*)`")


def _exists(name: str) -> bool:
    """Whether a dotted name is a module, or an attribute of what stands before its last dot."""
    place, _, last = name.rpartition(".")
    if not place:
        return name == "probam"
    if not _exists(place):
        return False
    return hasattr(_found(place), last) or (_is_package(place) and find_spec(name) is not None)


def _is_package(name: str) -> bool:
    return hasattr(_found(name), "__path__")


def _found(name: str) -> object:
    """A module, or what is defined in one."""
    try:
        return import_module(name)
    except ModuleNotFoundError:
        place, _, last = name.rpartition(".")
        return getattr(_found(place), last)


def test_every_reference_names_something_that_exists() -> None:
    references: dict[str, list[str]] = {}
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            for name in REFERENCE.findall(path.read_text(encoding="utf-8")):
                references.setdefault(name, []).append(path.relative_to(ROOT).as_posix())
    assert len(references) > 100
    assert {name: paths for name, paths in references.items() if not _exists(name)} == {}


def test_a_reference_to_nothing_is_noticed() -> None:
    assert _exists("probam.energies.clam")
    assert _exists("probam.energies.clam.energy")
    assert _exists("probam.family.Family.bank")
    assert not _exists("probam.energies.clam.nothing")
    assert not _exists("probam.nowhere.clam")
