"""Bad input of every kind is refused in one sentence that names it, and leaves everything as it was.

The tables beside this file hold the inputs. Each kind has a good sibling, which is taken, so that a refusal of
everything would be noticed; the judge is tried on answers that are wrong.
"""

import io
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import probam
from probam.errors import InputError, NumericalError
from probam.streams.stream import Stream
from tests.hostile.arrays import ARRAYS, FIT, X
from tests.hostile.case import Case, Kind, Place, judged, taken
from tests.hostile.commands import COMMANDS
from tests.hostile.files import FILES
from tests.hostile.options import OPTIONS
from tests.hostile.questions import QUESTIONS
from tests.hostile.saved import SAVED

KINDS: dict[str, Kind] = {**FILES, **ARRAYS, **OPTIONS, **QUESTIONS, **SAVED, **COMMANDS}
CASES = [(kind, case) for kind, each in KINDS.items() for case in each.cases]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Place, dict[str, bytes]]:
    """The objects, and their files."""
    folder = tmp_path_factory.mktemp("kept")
    text = "a,b\n" + "".join(f"{a},{b}\n" for a, b in X)
    (folder / "rows.csv").write_text(text)
    rows: Any = folder / "rows.csv"
    stream = Stream(covariance="diagonal", warm=20).partial_fit(rows)
    place = Place(probam.fit(rows, **FIT), stream.to_fit(num_draws=20), stream)
    place.fit.save(folder / "fit.nc")
    place.draws.save(folder / "draws.nc")
    stream.save(folder / "stream.nc")
    return place, {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def place(kept: tuple[Place, dict[str, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """The objects; their files lie in the working directory."""
    monkeypatch.chdir(tmp_path)
    for name, content in kept[1].items():
        Path(name).write_bytes(content)
    return kept[0]


def prepared(make: Callable[[], object] | None, stdin: bytes | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if make is not None:
        make()
    if stdin is not None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))


def named(kind: str, case: Case) -> str:
    """A name that is the same in every process: without addresses."""
    return re.sub(r" at 0x[0-9a-f]+", "", f"{kind}: {case.what}")[:90]


@pytest.mark.parametrize(("kind", "case"), CASES, ids=[named(kind, case) for kind, case in CASES])
def test_bad_input_is_refused_in_one_sentence_and_changes_nothing(
    kind: str, case: Case, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    del kind
    prepared(case.make, case.stdin, monkeypatch)
    assert judged(case, place) == []


@pytest.mark.parametrize("kind", KINDS)
def test_the_good_sibling_of_a_kind_is_taken(kind: str, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    good = KINDS[kind].good
    prepared(good.make, good.stdin, monkeypatch)
    taken(good, place)


def test_the_corpus_is_large_and_no_kind_of_it_prevails() -> None:
    assert len(CASES) >= 300
    assert len(KINDS) >= 30
    assert max(len(kind.cases) for kind in KINDS.values()) <= 15
    assert all(case.says for _, case in CASES)
    for kind in KINDS.values():
        assert len({(case.what, case.stdin) for case in kind.cases}) == len(kind.cases)


def test_the_page_says_how_large_it_is() -> None:
    page = Path(__file__).parents[2] / "docs" / "reliability.md"
    assert f"A corpus of {len(CASES)} bad inputs of {len(KINDS)} kinds " in page.read_text()


# --- the judge ------------------------------------------------------------------------------------------------


def refuse(sentence: str, error: type[Exception] = InputError) -> None:
    raise error(sentence)


def leave_a_file(_: Place) -> None:
    Path("left.csv").touch()
    refuse("x: bad; leave it out")


def change_a_file(_: Place) -> None:
    Path("rows.csv").write_text("a,b\n")
    refuse("x: bad; leave it out")


def change_the_stream(place: Place) -> None:
    place.stream.partial_fit(X[:1])
    refuse("x: bad; leave it out")


def change_the_fit(place: Place) -> None:
    place.fit.made["posterior"].to_dataset()["loc"].values[...] = 0
    refuse("x: bad; leave it out")


WRONG: dict[str, tuple[Callable[[Place], object] | str, str]] = {
    "taken": (lambda _: 3, "it was taken"),
    "another exception": (lambda _: refuse("x: bad", KeyError), "KeyError"),
    "a number that is not finite": (lambda _: refuse("x: bad", NumericalError), "NumericalError"),
    "without its name": (lambda _: refuse("bad; leave it out"), "it does not say 'x: '"),
    "without a remedy": (lambda _: refuse("x: bad"), "it does not say 'leave it out'"),
    "two lines": (lambda _: refuse("x: bad\nleave it out"), "it says '\\n'"),
    "an address": (lambda _: refuse("x: bad <some object at 0x7f>; leave it out"), "it says ' object at 0x'"),
    "a novel": (lambda _: refuse("x: bad; leave it out" + "!" * 700), "it is too long"),
    "a file is left": (leave_a_file, "files changed"),
    "a file is changed": (change_a_file, "files changed"),
    "the stream is changed": (change_the_stream, "an object changed"),
    "the fit is changed": (change_the_fit, "an object changed"),
    "a command that is taken": ("data", "0"),
}


@pytest.mark.parametrize("what", WRONG)
def test_the_judge_finds_what_is_wrong(what: str, place: Place) -> None:
    ask, found = WRONG[what]
    own = place
    if what.endswith("is changed"):
        stream = Stream(covariance="diagonal", warm=20).partial_fit(X)
        own = Place(probam.load("fit.nc"), place.draws, stream)
    wrong = judged(Case(what, ask, ("x: ", "leave it out")), own)
    assert any(found in each for each in wrong), wrong


def test_the_judge_passes_what_is_right(place: Place) -> None:
    assert judged(Case("right", lambda _: refuse("x: bad; leave it out"), ("x: ", "leave it out")), place) == []
    assert judged(Case("right", "predict gone.nc rows.csv -o out.csv", ("gone.nc", "no such file")), place) == []
