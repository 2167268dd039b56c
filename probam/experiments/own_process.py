"""Functions run in a separate process, so that seconds and memory are those of the function alone."""

import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

__all__ = ["Cost", "alone", "cost", "peak_mib"]

Value = TypeVar("Value")

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Cost(NamedTuple):
    """The cost of a call."""

    cpu_seconds: float  # of all threads of the process together, so that a busy machine changes little
    peak_mib: float  # peak memory of the process during the call, above its memory before


def alone(function: Callable[..., Value], *arguments: Any) -> Value:
    """``function(*arguments)``, computed in a new Python process; an exception is raised again here.

    Function, arguments and value are pickled, so the function must be at the top of a module. As with all new processes
    of Python, a script that calls this needs ``if __name__ == "__main__":``.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def cost(work: Callable[[], Value]) -> tuple[Value, Cost]:
    """The value of a call and its cost.

    On Linux the kernel's record of the peak resident memory is reset before the call, so that the peak is that of the
    call. Elsewhere it is the rise of the process's record, which misses what fits into memory used and freed before.
    Memory that the process has freed but not returned counts as used before: call this in a new process.
    """
    before = _begin()
    began = time.process_time()
    value = work()
    seconds = time.process_time() - began
    return value, Cost(seconds, max(peak_mib() - before, 0.0))


def _begin() -> float:
    """Present memory (MiB); resets the record to it where that is possible."""
    try:
        _RESET.write_text("5")
    except OSError:
        return peak_mib()
    return _linux("VmRSS:")


def peak_mib() -> float:
    """Most memory that this process has held (MiB).

    On Linux that of its own memory: what ``getrusage`` says counts the process that started it too.
    """
    if _STATUS.exists():
        return _linux("VmHWM:")
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def _linux(name: str) -> float:
    """An entry of the process's status (MiB)."""
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) / 2**10
