"""``docs/public.md`` says what is public; the code has exactly that, and the reference describes it."""

import importlib
import inspect
import re
from collections.abc import Iterator

import pytest

import probam
from tests.repository.printed import ROOT

PAGE = (ROOT / "docs" / "public.md").read_text(encoding="utf-8")
DIRECTIVE = re.compile(r"^\.\. auto(module|class|function):: ([\w.]+)", re.MULTILINE)


def directives() -> Iterator[tuple[str, str]]:
    """Kind and name of what the reference describes."""
    for page in sorted((ROOT / "docs" / "reference").glob("*.md")):
        yield from DIRECTIVE.findall(page.read_text(encoding="utf-8"))


def found(name: str) -> object:
    """What a dotted name stands for: a module, or what one defines."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        home, _, last = name.rpartition(".")
        return getattr(found(home), last)


def modules() -> set[str]:
    """Modules that the reference describes, whole or in part; names of ``probam`` itself are apart."""
    whole = {name for kind, name in directives() if kind == "module"}
    return whole | {name.rpartition(".")[0] for kind, name in directives() if kind != "module"} - {"probam"}


def test_the_page_names_what_probam_has() -> None:
    listed = PAGE[PAGE.index("**The names of `probam`**") : PAGE.index("Of a class")]
    assert set(re.findall(r"`(\w+)`", listed)) - {"probam"} == set(probam.__all__)


def test_the_page_lists_the_modules_of_the_reference() -> None:
    listed = re.findall(r"`(probam\.[\w.]+)`", PAGE[PAGE.index("## The modules") :])
    assert len(listed) == len(set(listed))
    assert set(listed) == modules()


def public_names() -> list[str]:
    """Every public name: those of ``probam``, and those of the listed modules."""
    named = {name for kind, name in directives() if kind != "module"}
    whole = [name for kind, name in directives() if kind == "module"]
    of_modules = {f"{name}.{each}" for name in whole for each in vars(found(name))["__all__"]}
    return sorted({f"probam.{name}" for name in probam.__all__} | named | of_modules)


def test_every_public_name_exists_and_says_what_it_is() -> None:
    names = public_names()
    assert len(names) > 150
    defined = [name for name in names if name.endswith(f".{getattr(found(name), '__name__', '')}")]
    silent = [name for name in defined if not inspect.getdoc(found(name))]
    assert silent == []


@pytest.mark.parametrize("name", [name for name in probam.__all__ if inspect.isclass(getattr(probam, name))])
def test_every_method_of_a_public_class_says_what_it_does(name: str) -> None:
    cls = getattr(probam, name)
    own = {
        each: value
        for base in cls.__mro__
        if base.__module__.startswith("probam")
        for each, value in vars(base).items()
    }
    callables = {each for each, value in own.items() if not each.startswith("_") and callable(value)}
    assert [each for each in sorted(callables) if not inspect.getdoc(getattr(cls, each))] == []
