"""Functions run in a process of their own, so that what they cost is theirs alone: seconds and memory."""

import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

__all__ = ["Cost", "alone", "cost"]

Value = TypeVar("Value")

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Cost(NamedTuple):
    """What a call took."""

    seconds: float
    peak_mib: float  # most memory that the process held during the call, beyond what it held before


def alone(function: Callable[..., Value], *arguments: Any) -> Value:
    """``function(*arguments)``, computed by a new Python process that ends with it; what it raises is raised here.

    Function, arguments and value travel by pickling: the function must be found by its name in a module. As ever with
    new processes of Python, a script that calls this needs ``if __name__ == "__main__":``.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def cost(work: Callable[[], Value]) -> tuple[Value, Cost]:
    """The value of a call and what it took.

    On Linux the kernel's record of the largest resident memory is set back before the call, so the peak is that of the
    call. Elsewhere it is the rise of the process's record, which misses what fits into memory used and freed before.
    Memory that the process was given before and had not returned counts as held before: ask in a new process.
    """
    before = _begin()
    began = time.perf_counter()
    value = work()
    seconds = time.perf_counter() - began
    return value, Cost(seconds, max(_record() - before, 0.0))


def _begin() -> float:
    """Memory held by now (MiB), the record set back to it where that can be done."""
    try:
        _RESET.write_text("5")
    except OSError:
        return _record()
    return _linux("VmRSS:")


def _record() -> float:
    """Most memory that was held (MiB)."""
    if _STATUS.exists():
        return _linux("VmHWM:")
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def _linux(name: str) -> float:
    """An entry of the process's status (MiB)."""
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) / 2**10
