"""Commands in a process that writes down what its progress says, and kills itself where that says some words again.

Another signal than SIGKILL finds the run at that place: it waits there for what comes of it.

Run with one argument, which :func:`started` makes.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import probam

__all__ = ["started", "told"]


def started(
    folder: Path,
    commands: list[list[str]],
    at: str = "",
    number: int = 0,
    *,
    by: int = signal.SIGKILL,
    notes: str = "told",
    stdout: int | None = None,
    stderr: int | None = None,
) -> "subprocess.Popen[str]":
    """A process with these commands, one after the other, which write their checkpoints at every step.

    Args:
        folder: in which it runs.
        commands: their words.
        at: words of a text; none for a process that is not killed.
        number: the signal comes when the progress tells of that the so manyth time.
        by: the signal.
        notes: the file for the texts.
        stdout: as of ``Popen``.
        stderr: likewise.
    """
    given = {"commands": commands, "at": at, "number": number, "by": int(by), "notes": notes}
    return subprocess.Popen(
        [sys.executable, __file__, json.dumps(given)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(Path(probam.__file__).parents[1]), "TF_CPP_MIN_LOG_LEVEL": "3"},
        text=True,
        stdout=stdout,
        stderr=stderr,
    )


def told(folder: Path, notes: str = "told") -> str:
    """What the progress of a process has said so far."""
    path = folder / notes
    return path.read_text() if path.exists() else ""


def _main(commands: list[list[str]], at: str, number: int, by: int, notes: str) -> int:
    from probam.cli import console, main
    from probam.data import rotation

    rotation.EVERY = 0
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a runner in the background passes on that it is ignored
    texts: list[str] = []

    def listen(self: console.Bar, step: Any, shown: Any = console.Bar.__call__) -> None:
        shown(self, step)
        texts.append(step.text)
        with Path(notes).open("a") as stream:
            stream.write(f"{step.text}\n")
        if at and sum(at in text for text in texts) == number:
            os.kill(os.getpid(), by)
            time.sleep(60)

    console.Bar.__call__ = listen  # type: ignore[method-assign]
    return max(main.entered(words) for words in commands)


if __name__ == "__main__":
    sys.exit(_main(**json.loads(sys.argv[1])))
