"""Programs that the pages print run as printed, and print what the pages show."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import command_of
from tests.repository.printed import ROOT, agree, blocks, page_differences, shown

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
RUN = [page for page in PAGES[1:] if any(shown(page.read_text(encoding="utf-8")))]
NOTEBOOKS = sorted((ROOT / "docs").rglob("*.ipynb"))


def _name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN + NOTEBOOKS, ids=_name)
def test_a_page_shows_what_its_programs_print(page: Path) -> None:
    """In a process of its own, as claims and families that a page registers stay."""
    command = [sys.executable, "-m", "tests.repository.printed", _name(page)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_the_commands_of_a_page_exist_with_their_flags(page: Path) -> None:
    lines = "".join(blocks(page.read_text(encoding="utf-8"), "sh", "bash", "console")).splitlines()
    commands = [line.removeprefix("$ ") for line in lines if line.removeprefix("$ ").startswith("probam ")]
    for command in commands:
        words = shlex.split(command, comments=True)[1:]
        known = command_of(words)
        flags = {flag for parameter in known.params for flag in (*parameter.opts, *parameter.secondary_opts)}
        given = {word for word in words if word.startswith("-")}
        assert given <= flags | {"--device"}, command


def test_numbers_may_differ_a_little_and_words_may_not() -> None:
    assert agree("mean 4.12 nats\nlabel  1", "mean 4.14 nats\nlabel 1\n")
    assert agree("gibbs, seed 0, 254.7 s", "gibbs, seed 0, 3.1 s")
    assert agree("a ... z 1", "a b c\nd z 1")
    assert agree("x 1e-05", "x 1.0e-05")
    assert not agree("mean 4.12 nats", "mean 4.32 nats")
    assert not agree("mean 4.12 nats", "means 4.12 nats")
    assert not agree("one 1", "one 1\ntwo 2")
    assert agree("mean 4.12 nats", "mean 5.3 nats", vary=True)
    assert not agree("mean 4.12 nats", "mean nan nats", vary=True)


PAGE = """# A page

```python
# own.py
x = 2
print("x is", x)
x + 1
```

```text
x is 2
4
```

```console
$ echo one; cat own.py | head -1
one
# own.py
```
"""


def test_a_page_that_shows_something_else_is_noticed_and_written_anew(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    (tmp_path / "first").mkdir()
    (difference,) = page_differences(page, tmp_path / "first", write=True)
    assert difference.endswith("--- shown\nx is 2\n4\n--- printed\nx is 2\n3\n")
    assert page.read_text() == PAGE.replace("\n4\n", "\n3\n")
    (tmp_path / "second").mkdir()
    assert page_differences(page, tmp_path / "second") == []


def test_a_command_that_fails_ends_the_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```console\n$ false\n```\n")
    with pytest.raises(SystemExit, match="exit code 1"):
        page_differences(page, tmp_path)
