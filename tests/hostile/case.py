"""A bad input, and what must come of it: one sentence that names it, and nothing else."""

import contextlib
import hashlib
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import xarray as xr

from probam.cli.main import main
from probam.errors import InputError
from probam.fits.fitted import Fit
from probam.streams.stream import Stream

__all__ = ["Case", "Good", "Kind", "Place", "files_here", "judged", "numbers_of", "said_by", "taken", "words_of"]


class Place(NamedTuple):
    """What a question can be put to: objects in memory. Their files lie in the working directory."""

    fit: Fit
    """Two isotropic memories by EM, of ``rows.csv`` (columns ``a`` and ``b``); its file is ``fit.nc``."""
    draws: Fit
    """Some draws of the same rows; ``draws.nc``."""
    stream: Stream
    """A stream of the same rows; ``stream.nc``."""


Asked = str | Callable[[Place], object]
"""The words of a command after ``probam``, or a call."""


class Case(NamedTuple):
    """One bad input."""

    what: str
    ask: Asked
    says: tuple[str, ...]
    """Parts of the sentence, in any order; the first names the argument or the file."""
    make: Callable[[], object] | None = None
    """Makes the files."""
    stdin: bytes | None = None


class Good(NamedTuple):
    """A sibling of bad inputs that is taken."""

    ask: Asked
    make: Callable[[], object] | None = None
    stdin: bytes | None = None


class Kind(NamedTuple):
    """Bad inputs of one kind, and a good one."""

    cases: tuple[Case, ...]
    good: Good


def files_here() -> Mapping[str, str]:
    """What lies in the working directory: path -> digest, or what it is."""
    found = {}
    for path in sorted(Path().rglob("*")):
        is_plain = path.is_file() and not path.is_symlink()
        found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest() if is_plain else "other"
    return found


def numbers_of(place: Place) -> str:
    """A digest of everything that the objects hold."""
    digest = hashlib.sha256()
    group = place.stream._group(place.stream._life)
    for tree in (place.fit.made, place.draws.made, xr.DataTree(group)):
        for node in tree.subtree:
            digest.update(
                json.dumps([node.path, {str(name): str(value) for name, value in node.attrs.items()}]).encode()
            )
            for name, variable in node.to_dataset(inherit=False).variables.items():
                digest.update(str(name).encode())
                digest.update(
                    np.ascontiguousarray(
                        variable.values.astype("U") if variable.dtype == object else variable.values
                    ).tobytes()
                )
    return digest.hexdigest()


def said_by(ask: Asked, place: Place) -> str:
    """The sentence by which something is refused.

    Raises ``AssertionError`` where it is not refused as it should be: another exception or exit code, several lines.
    """
    if isinstance(ask, str):
        return _said_by_command(ask)
    answer: object = None
    try:
        with pytest.raises(InputError) as caught:  # under which wrong types meet the message that a user would
            answer = ask(place)
    except pytest.fail.Exception as error:
        raise AssertionError(f"it was taken: {str(answer)[:200]}") from error
    return str(caught.value)


def _said_by_command(words: str) -> str:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(words_of(words))
    said = err.getvalue()
    assert code == 2, (code, out.getvalue()[-500:], said)
    assert out.getvalue() == ""
    assert said.startswith("probam: "), said
    assert said.count("\n") == 1, said
    return said.removeprefix("probam: ").rstrip("\n")


def words_of(command: str) -> list[str]:
    """The words of a command; ``|`` stands for a blank within a word."""
    return [word.replace("|", " ") for word in command.split(" ")]


def judged(case: Case, place: Place) -> list[str]:
    """What is wrong with the answer to a bad input; empty where all is well."""
    before = files_here(), numbers_of(place)
    try:
        said = said_by(case.ask, place)
    except AssertionError as error:
        return [str(error)]
    except Exception as error:
        return [f"{type(error).__name__}: {error}"]
    wrong = [f"it does not say {part!r}" for part in case.says if part not in said]
    wrong += [f"it says {part!r}" for part in ("\n", "Traceback", "defect of probam", " object at 0x") if part in said]
    wrong += ["it is too long"] if len(said) > 700 else []
    after = files_here(), numbers_of(place)
    wrong += ["files changed"] if before[0] != after[0] else []
    wrong += ["an object changed"] if before[1] != after[1] else []
    return [f"{each}: {said}" for each in wrong]


def taken(good: Good, place: Place) -> Any:
    """The answer to a good input; a command must end with 0."""
    if not isinstance(good.ask, str):
        return good.ask(place)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(words_of(good.ask))
    assert code == 0, err.getvalue()
    return out.getvalue()
