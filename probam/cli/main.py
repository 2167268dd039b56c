"""The command line: its entry point, and what it prints when something goes wrong.

The commands are in :mod:`probam.cli`; they import heavy packages when they run, so that ``--help`` is quick. Results go
to stdout, everything else to stderr. Exit codes: see :data:`probam.cli.program.EXIT_CODES`.
"""

import errno
import gc
import logging
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer
import typer.main

from probam.cli import analysis, comparing, court, datasets, fitting, memories, predicted, queries, streaming  # noqa: F401 (they add commands)
from probam.cli.connected import leave
from probam.cli.console import Interrupted, abandoned, advise, be_quiet, say
from probam.cli.program import QUIET, app, choose_device
from probam.errors import ProbamError

__all__ = ["app", "entered", "main"]

_USAGE = typer.BadParameter.__bases__[0]
"""Base of the errors of the option parser (its module is private in some releases of typer)."""

_YOUNG = 50_000
"""Objects that are made before Python looks for cycles among them; its own number is 700."""


def _print_version(wanted: bool) -> bool:
    if wanted:
        from importlib.metadata import version

        python = ".".join(map(str, sys.version_info[:3]))
        print(f"probam {version('probam')} (Python {python}, jax {version('jax')}, numpyro {version('numpyro')})")
        raise typer.Exit
    return wanted


@app.callback()
def _global(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="On an error print the whole traceback (also allowed after the command).")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help=f"{QUIET} (also allowed after the command).")] = False,
    device: Annotated[
        str | None,
        typer.Option(
            metavar="cpu|gpu",
            help="Where to compute (also allowed after the command). Default: what JAX finds, a GPU first.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Fit memories to data, verify that their energy is the likelihood, and report the uncertainty."""
    del version, debug, quiet  # --version acts in its callback, the others in main()
    choose_device(device)


# --- entering ------------------------------------------------------------------------------------------------


def entered(arguments: Sequence[str] | None = None) -> int:
    """:func:`main` as the only work of a process: Python seldom looks for cycles of objects, and at the end not at all.

    Importing and tracing make objects that live as long as the process, and going through them again and again takes
    longer than most commands compute.
    """
    gc.set_threshold(_YOUNG, 20, 20)
    try:
        return main(arguments)
    finally:
        gc.freeze()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; every error and every warning is one line on stderr."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    end = words.index("--") if "--" in words else len(words)
    debug, quiet = ("--debug" in words[:end], "--quiet" in words[:end])
    words = _device_first([word for word in words[:end] if word not in ("--debug", "--quiet")]) + words[end:]
    be_quiet(quiet)
    with _plain_words(debug), _sigterm_like_ctrl_c():
        return leave(_run(words, debug))


def _device_first(words: list[str]) -> list[str]:
    """The words with ``--device`` and its value before the command, where the parser looks for it."""
    for place, word in enumerate(words):
        if word == "--device" or word.startswith("--device="):
            end = place + (1 if "=" in word else 2)
            return words[place:end] + words[:place] + words[end:]
    return words


def _run(words: list[str], debug: bool) -> int:
    """The exit code of the command; ``debug`` prints the traceback of an error."""
    try:
        code = typer.main.get_command(app).main(args=words, prog_name="probam", standalone_mode=False)
        sys.stdout.flush()
        if code == 130:  # typer has seen Ctrl-C
            raise KeyboardInterrupt
        return code if isinstance(code, int) else 0
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted("")
    except Interrupted as interruption:
        return _interrupted(f"; {interruption}")
    except BrokenPipeError:
        return _unread()
    except SystemExit as ended:  # the parser and rich end a program whose output is closed by themselves
        if isinstance(ended.__context__, BrokenPipeError):
            return _unread()
        raise
    except Exception as error:
        if debug:
            traceback.print_exc()
        return _failed(error, debug)


_terminations: list[int] = []
"""Signals that asked this command to end, SIGINT aside."""


def _terminate(number: int, _: object) -> None:
    _terminations.append(number)
    raise KeyboardInterrupt


@contextmanager
def _sigterm_like_ctrl_c() -> Iterator[None]:
    """SIGTERM ends the work as Ctrl-C does, with an exit code of its own."""
    _terminations.clear()
    if threading.current_thread() is not threading.main_thread():  # only that one hears signals
        yield
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupted(kept: str) -> int:
    """Say what was kept; the exit code. Does not return where a computation cannot be ended otherwise."""
    say(f"{'terminated' if _terminations else 'interrupted'}{kept}")
    code = 128 + (_terminations or [signal.SIGINT])[-1]
    if abandoned():
        from probam.data.writing import remove_unfinished

        remove_unfinished()
        sys.stdout.flush()
        os._exit(code)
    return code


def _unread() -> int:
    """The exit code where the reader of the output went away; what is still to be written goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 141


@contextmanager
def _plain_words(debug: bool) -> Iterator[None]:
    """What libraries print and what probam logs, in plain words: one line, without a place in the source.

    Noise about half-opened files, which follows an error that was raised already, is not printed.
    """
    hook, shown = sys.unraisablehook, warnings.showwarning
    if not debug:
        sys.unraisablehook = lambda _: None
        warnings.showwarning = _say_warning
    logger, lines = logging.getLogger("probam"), _Lines()
    logger.addHandler(lines)
    try:
        yield
    finally:
        logger.removeHandler(lines)
        sys.unraisablehook, warnings.showwarning = hook, shown


class _Lines(logging.Handler):
    """What the library logs, as advice."""

    def emit(self, record: logging.LogRecord) -> None:
        advise(record.getMessage())


def _say_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """One line on stderr for a warning of a library."""
    advise(f"warning: {message}")


def _failed(error: Exception, debug: bool) -> int:
    """Print in one line what went wrong; the exit code for it."""
    if isinstance(error, _USAGE):
        context = getattr(error, "ctx", None)
        place = context.command_path if context is not None else "probam"
        text = error.format_message().rstrip(".")  # type: ignore[attr-defined]
        if type(error).__name__ == "NoArgsIsHelpError":  # its message is the help itself
            print(text, file=sys.stderr)
        else:
            say(f"{text}; try: {place} --help")
        return 2
    if isinstance(error, ProbamError):
        say(str(error))
        return 2
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        say("there is not enough memory; use fewer memories, draws or chains, svi with batch_size, or --float32")
        return 2
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        say(f"the output cannot be written ({error.strerror})")
        return 2
    hint = "" if debug else "; run again with --debug to see where"
    say(f"{type(error).__name__}: {error}; this is a defect of probam{hint}")
    return 1


if __name__ == "__main__":
    sys.exit(entered())
