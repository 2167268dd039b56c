"""The constraints file pins every version once, and nothing else.

    python .ci/check_constraints.py [constraints.txt [pyproject.toml]]

Every line is blank, a comment, or ``name==version``, with a ``python_version`` marker where interpreters
need different versions. Names are normalised and in order; on each supported Python at most one line speaks
of a package; every direct dependency is pinned, to a version that ``pyproject.toml`` allows. No addresses, no
options. Prints what is wrong and exits with 1.
"""

import re
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from packaging.markers import InvalidMarker, Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

ROOT = Path(__file__).resolve().parents[1]

LINE = re.compile(r"(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;#*]+)(?:\s*;\s*(?P<marker>[^#]+?))?(?:\s+#.*)?")


class Pin(NamedTuple):
    """One line of the file: a version, and the Pythons that it is for."""

    line: int
    version: Version
    marker: Marker | None


def problems(constraints: str, project: dict[str, Any]) -> list[str]:
    """What is wrong, one sentence each, in the order of the file; empty when all is well."""
    pins, faults = _read(constraints)
    pythons = _supported(project)
    faults += [fault for python in pythons for fault in _pinned_twice(pins, python)]
    for requirement in _direct(project):
        faults += [fault for python in pythons for fault in _not_pinned(requirement, pins, python)]
    return list(dict.fromkeys(faults))


def _read(constraints: str) -> tuple[dict[str, list[Pin]], list[str]]:
    """The pins of each package, and what is wrong with single lines."""
    faults: list[str] = []
    pins: dict[str, list[Pin]] = defaultdict(list)
    previous = ""
    for number, raw in enumerate(constraints.splitlines(), start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        match = LINE.fullmatch(line)
        if match is None:
            faults.append(f"line {number}: {line!r} is {_what(line)}; expected name==version")
            continue
        name = canonicalize_name(match["name"])
        if match["name"] != name:
            faults.append(f"line {number}: {match['name']!r} is spelled {name!r} when normalised")
        if name < previous:
            faults.append(f"line {number}: {name!r} stands after {previous!r}; keep the names in order")
        previous = max(previous, name)
        try:
            pin = Pin(number, Version(match["version"]), Marker(match["marker"]) if match["marker"] else None)
        except (InvalidVersion, InvalidMarker) as error:
            faults.append(f"line {number}: {' '.join(str(error).split())}")
            continue
        if pin.marker is not None and _variables(pin.marker) != {"python_version"}:
            faults.append(f"line {number}: the marker {match['marker']!r} asks for more than python_version")
        pins[name].append(pin)
    return pins, faults


def _pinned_twice(pins: Mapping[str, list[Pin]], python: str) -> Iterator[str]:
    for name, lines in pins.items():
        numbers = [str(pin.line) for pin in lines if _applies(pin.marker, python)]
        if len(numbers) > 1:
            yield f"lines {', '.join(numbers)}: {name!r} is pinned more than once on Python {python}"


def _not_pinned(requirement: Requirement, pins: Mapping[str, list[Pin]], python: str) -> Iterator[str]:
    """A direct dependency without a pin, or with one that the project does not allow."""
    if not _applies(requirement.marker, python):
        return
    name = canonicalize_name(requirement.name)
    versions = [pin.version for pin in pins.get(name, []) if _applies(pin.marker, python)]
    if not versions:
        yield f"{name!r} is a direct dependency and not pinned on Python {python}"
    elif not requirement.specifier.contains(versions[0], prereleases=True):
        wanted = requirement.specifier
        yield f"{name!r} is pinned to {versions[0]} on Python {python}; pyproject.toml wants {wanted}"


def _variables(marker: Marker) -> set[str]:
    """What a marker asks for."""
    return set(re.findall(r"[a-z_]+", re.sub(r'"[^"]*"', "", str(marker)))) - {"and", "or", "in", "not"}


def _what(line: str) -> str:
    if line.startswith("-"):
        return "an option"
    if "://" in line or " @ " in line or line.startswith((".", "/")):
        return "an address"
    return "no exact version"


def _applies(marker: Marker | None, python: str) -> bool:
    return marker is None or marker.evaluate(
        {"python_version": python, "python_full_version": f"{python}.0", "extra": ""}
    )


def _supported(project: dict[str, Any]) -> list[str]:
    """Python versions named by the classifiers."""
    classifiers = " ".join(project["project"].get("classifiers", []))
    return re.findall(r"Python :: (\d+\.\d+)", classifiers)


def _direct(project: dict[str, Any]) -> Iterable[Requirement]:
    """Requirements of the package and of its extras for development, for the documentation and for GPUs."""
    table = project["project"]
    extras = table.get("optional-dependencies", {})
    chosen = [wanted for name in ("dev", "docs", "cuda") for wanted in extras.get(name, [])]
    return map(Requirement, [*table["dependencies"], *chosen])


def main(arguments: list[str]) -> int:
    """Check, print, and say whether all is well."""
    constraints = Path(arguments[0]) if arguments else ROOT / "constraints.txt"
    project = Path(arguments[1]) if len(arguments) > 1 else ROOT / "pyproject.toml"
    faults = problems(constraints.read_text(encoding="utf-8"), tomllib.loads(project.read_text(encoding="utf-8")))
    for fault in faults:
        print(f"{constraints.name}: {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
