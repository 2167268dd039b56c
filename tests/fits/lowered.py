"""The little work of every engine, laid out for a GPU: its programs lowered for CUDA, its numbers beside the CPU's.

Run as a program, since functions are compiled where modules are imported: ``python -m tests.fits.lowered FILE WORK``
writes JSON with the compiled functions of the package, those that were lowered, what failed, and by how much the
numbers of the named pieces of work (none named: of all) differ where they are laid out for a CPU.
"""

import json
import sys
import warnings
from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import Any

import blackjax  # noqa: F401 (what these compile is not ours)
import jax
import numpy as np
import numpyro  # noqa: F401
import optax  # noqa: F401

_compile = jax.jit

LEFT_OUT = ("svi natural",)
"""Other programs of functions that the rest compiles too; only the long check, which names no work, has them."""


class Recorder:
    """Stands in for ``jax.jit``; while it is on, it lowers each new program for CUDA as well."""

    def __init__(self) -> None:
        self.known: set[str] = set()
        self.lowered: set[str] = set()
        self.failed: dict[str, str] = {}
        self.is_on = False

    def __call__(self, function: Callable[..., Any] | None = None, **options: Any) -> Any:
        if function is None:
            return partial(self, **options)
        compiled: Any = _compile(function, **options)
        inner = getattr(function, "func", function)
        name = f"{inner.__module__}.{inner.__qualname__}"
        self.known.add(name)

        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            before = compiled._cache_size()
            result = compiled(*args, **kwargs)
            if self.is_on and compiled._cache_size() > before:
                self.lower(name, compiled, args, kwargs)
            return result

        return call

    def lower(self, name: str, compiled: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        try:
            compiled.trace(*args, **kwargs).lower(lowering_platforms=("cuda",))
            self.lowered.add(name)
        except Exception as error:  # whatever it is, the test prints it
            self.failed[name] = f"{type(error).__name__}: {error}"


def _difference(here: dict[str, np.ndarray], there: dict[str, np.ndarray]) -> dict[str, float]:
    """Largest relative difference of each quantity that is not the same to rounding."""
    assert here.keys() == there.keys()
    found = {}
    for name, values in here.items():
        if not np.allclose(there[name], values, rtol=1e-9, atol=1e-10, equal_nan=True):
            found[name] = float(np.nanmax(np.abs(there[name] - values) / (np.abs(values) + 1e-10)))
    return found


def main(output: Path, *compared: str) -> None:
    """Run every engine on little data, and what is compared a second time."""
    jax.config.update("jax_enable_x64", True)
    jax.jit = recorder = Recorder()
    from probam.placement import Device, laid_out_for
    from tests.fits.little_work import little_work

    with laid_out_for(Device("cpu")):
        here = {name: work() for name, work in little_work() if not compared or name in compared}
    recorder.is_on = True
    with laid_out_for(Device("gpu")):
        there = {name: work() for name, work in little_work() if not compared or name not in LEFT_OUT}
    report = {
        "known": sorted(recorder.known),
        "lowered": sorted(recorder.lowered),
        "failed": recorder.failed,
        "different": {name: _difference(numbers, there[name]) for name, numbers in here.items()},
    }
    output.write_text(json.dumps(report))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    main(Path(sys.argv[1]), *sys.argv[2:])
