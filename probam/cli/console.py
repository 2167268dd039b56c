"""Output of the command line: one line for an error, a progress bar for long work, and work that Ctrl-C interrupts."""

import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console, RenderableType
from rich.progress import BarColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Columns
from rich.table import Column

if TYPE_CHECKING:
    from probam.inference.common.progress import Progress

__all__ = ["Bar", "Interrupted", "abandoned", "advise", "be_quiet", "interruptible", "say", "show"]

_T = TypeVar("_T")

_BAR_AFTER = 2.0
"""Seconds before a progress bar appears."""

_WIDTH = 12
"""Width of the bar."""

_FEW = 100
"""Steps up to which a rate says nothing: they are parts of the work, or its share in per cent."""

_quiet = False
"""Whether ``--quiet`` was given."""

_workers: list[threading.Thread] = []


class Interrupted(Exception):  # noqa: N818 (no error: the user wanted it)
    """Ctrl-C or SIGTERM has ended the work; the message says what was kept."""


def be_quiet(quiet: bool) -> None:
    """Whether from now on there is neither a bar nor advice on stderr; errors stay."""
    global _quiet
    _quiet = quiet


def say(text: str) -> None:
    """One line on stderr."""
    print(f"probam: {' '.join(text.split())}", file=sys.stderr, flush=True)


def advise(text: str) -> None:
    """One line on stderr that is no error, unless ``--quiet`` was given."""
    if not _quiet:
        say(text)


def interruptible(work: Callable[[], _T]) -> _T:
    """The result of ``work``, which runs in a thread of its own, so that Ctrl-C interrupts a compiled loop too.

    ``work`` must not write files, other than the checkpoint of a run, which an interruption brings up to date, and what
    a :class:`probam.data.rotation.SavedIfCutOff` saves.

    Raises :class:`Interrupted` where Ctrl-C or SIGTERM came first.
    """
    results: list[_T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    worker = threading.Thread(target=run, daemon=True)
    _workers.append(worker)
    worker.start()
    try:
        while worker.is_alive():
            worker.join(0.1)
        _workers.remove(worker)
        if errors:
            raise errors[0]
    except KeyboardInterrupt as interruption:
        if (rotation := sys.modules.get("probam.data.rotation")) is not None:
            rotation.save_all()
        raise Interrupted("nothing was written") from interruption
    return results[0]


def abandoned() -> bool:
    """Whether an interrupted computation is still running, which would delay the exit."""
    return bool(_workers)


class Bar:
    """A progress bar on stderr that appears after two seconds; nothing without a terminal, or under --quiet.

    ::

        with Bar("fitting") as bar:
            probam.fits.fit.fit(x, progress=bar)
    """

    def __init__(self, text: str = "working") -> None:
        self._text = text
        self._bar: Columns | None = None
        self._task = TaskID(0)
        self._pace = _Pace()
        self._later: threading.Timer | None = None

    def __enter__(self) -> "Bar":
        if sys.stderr.isatty() and not _quiet:
            in_words = [TextColumn(f"{{task.fields[{name}]}}", table_column=_uncut()) for name in ("pace", "numbers")]
            columns = (SpinnerColumn(), TextColumn("{task.description}", table_column=_uncut()), BarColumn(_WIDTH))
            clock = TimeElapsedColumn(table_column=Column(no_wrap=True, min_width=7))
            self._bar = Columns(*columns, clock, *in_words, console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task(self._text, total=None, pace="", numbers="")
            self._later = threading.Timer(_BAR_AFTER, self._bar.start)
            self._later.daemon = True
            self._later.start()
        return self

    def __call__(self, step: "Progress") -> None:
        """Show how far the work has come: its rate, the time that is left, and the numbers that are known."""
        if self._bar is not None:
            self._bar.update(
                self._task,
                completed=step.done,
                total=step.total or None,
                description=step.text or self._text,
                pace=self._pace.after(step.done, step.total, time.monotonic()),
                numbers=step.numbers,
            )

    def __exit__(self, *_: object) -> None:
        if self._bar is not None and self._later is not None:
            self._later.cancel()
            self._later.join()
            self._bar.stop()


def _uncut() -> Column:
    """A column of text on one line."""
    return Column(no_wrap=True, overflow="ellipsis")


class _Pace:
    """Steps a second, and the time that is left, since the first report of the present phase."""

    def __init__(self) -> None:
        self._total, self._first, self._began, self._done = -1, 0, 0.0, 0

    def after(self, done: int, total: int, now: float) -> str:
        """The pace in words when ``done`` of ``total`` steps are done; empty where it is not known yet.

        >>> pace = _Pace()
        >>> pace.after(100, 2000, 50.0), pace.after(300, 2000, 52.0), pace.after(1, 4, 55.0), pace.after(2, 4, 115.0)
        ('', '100/s, at most 0:17 left', '', 'at most 2:00 left')
        """
        if total != self._total or done < self._done:
            self._total, self._first, self._began = total, done, now
        self._done = done
        if done <= self._first or now <= self._began or done == total:  # a search may end long before its total
            return ""
        rate = (done - self._first) / (now - self._began)
        speed = [] if 0 < total <= _FEW else [f"{rate:.0f}/s" if rate >= 10 else f"{rate:.2g}/s"]
        left = [f"at most {_clock((total - done) / rate)} left"] if total else []
        return ", ".join(speed + left)


def _clock(seconds: float) -> str:
    """Minutes and seconds, with hours where there are some.

    >>> _clock(96.4), _clock(3723)
    ('1:36', '1:02:03')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def show(table: RenderableType) -> None:
    """A table on stdout, as wide as the terminal; 200 columns where stdout is not a terminal."""
    console = Console()
    if not sys.stdout.isatty():
        console = Console(width=200)
    console.print(table)
