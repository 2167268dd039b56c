"""One task, several sides that take turns, and the ratios of their figures.

Each side runs in a separate process, since thread pools of different libraries conflict in one process; only one works
at a time. A side prepares once (data, compilation, a warm-up run) and then measures one figure on request: seconds, or
effective draws per second. Ratios are taken round by round, so that a drift of the machine cancels.
"""

import importlib
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from probam.data.writing import write_atomically

OURS = "probam"

Prepare = Callable[[], Callable[[], float]]


class NotReachedError(Exception):
    """A side does not do what the task asks; the message says what it did."""


@dataclass(frozen=True)
class Task:
    """A task with its sides; ``unit`` is ``s`` (less is better) or ``1/s`` (more is better)."""

    name: str
    size: str
    unit: str
    sides: Mapping[str, Prepare]
    """Name of the package -> prepare() -> one figure; one of them is ``probam``."""
    note: str = ""
    environment: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Side -> environment variables of its process."""


TASKS: dict[str, tuple[str, str]] = {
    "em-isotropic": ("em", "isotropic"),
    "em-diagonal": ("em", "diagonal"),
    "em-full": ("em", "full"),
    "em-full-large": ("em", "large_full"),
    "em-vmf": ("em", "von_mises_fisher"),
    "pycave": ("em", "pycave"),
    "predict": ("predict", "labels_and_density"),
    "dp-discovery": ("discovery", "plane"),
    "dp-discovery-8d": ("discovery", "eight_features"),
    "dp-vi": ("variational", "dirichlet_process"),
    "gibbs-collapsed": ("gibbs", "collapsed"),
    "gibbs-blocked": ("gibbs", "blocked"),
    "nuts": ("nuts", "two_gaussians_on_a_line"),
    "nuts-2d": ("nuts", "four_gaussians_on_a_plane"),
    "recall": ("recall", "one_step"),
}
"""Task -> (module of this folder, name of the function that makes it)."""


def make(name: str) -> Task:
    """The task called ``name``."""
    module, maker = TASKS[name]
    made: Task = getattr(importlib.import_module(f"benchmarks.{module}"), maker)()
    return made


_HOLDS_BACK = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
"""Variables that keep OpenBLAS from the kernels of this processor: no side inherits them."""


def inherited() -> dict[str, str]:
    """The environment of a process that is measured."""
    return {name: value for name, value in os.environ.items() if name not in _HOLDS_BACK}


class Runner:
    """The process of one side."""

    def __init__(self, task: Task, side: str) -> None:
        self.side = side
        environment = inherited() | dict(task.environment.get(side, {}))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.side", task.name, side],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=Path(__file__).parents[1],
        )
        self.missing = self._answer()  # "" when prepared, else the reason
        self.pools: list[dict[str, Any]] = [] if self.missing else json.loads(self._answer())

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.side}: the process ended with {self._process.wait()}")
        return line.strip()

    def run(self) -> float:
        """One figure."""
        assert self._process.stdin is not None
        self._process.stdin.write("run\n")
        self._process.stdin.flush()
        return float(self._answer())

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._process.stdout.close()


def contest(task: Task, *, rounds: int, report: Callable[[str], None]) -> list[dict[str, Any]]:
    """One record per peer: ratio of figures (above one: ours is better), median and range over the rounds.

    Args:
        rounds: figures of each side.
        report: called with a line of progress.
    """
    runners: list[Runner] = []
    for side in task.sides:
        report(f"{task.name}: preparing {side}")
        runner = Runner(task, side)
        if runner.missing:
            report(f"{task.name}: {side} left out ({runner.missing})")
        runners.append(runner)
    present = [runner for runner in runners if not runner.missing]
    figures: dict[str, list[float]] = {runner.side: [] for runner in present}
    for number in range(rounds):
        for runner in present if number % 2 == 0 else present[::-1]:
            figure = runner.run()
            figures[runner.side].append(figure)
            report(f"{task.name}: round {number + 1} of {rounds}, {runner.side} {figure:.4g} {task.unit}")
    for runner in runners:
        runner.close()
    pools = {runner.side: runner.pools for runner in present}
    return [
        _record(task, side, figures[OURS], theirs) | {"pools": pools[side]}
        for side, theirs in figures.items()
        if side != OURS
    ]


def _record(task: Task, peer: str, ours: list[float], theirs: list[float]) -> dict[str, Any]:
    """The figures of a peer against ours, round by round."""
    pairs = zip(theirs, ours, strict=True) if task.unit == "s" else zip(ours, theirs, strict=True)
    ratios = [above / below for above, below in pairs]
    return {
        "task": task.name,
        "peer": peer,
        "ratio": statistics.median(ratios),
        "low": min(ratios),
        "high": max(ratios),
        "ours": statistics.median(ours),
        "theirs": statistics.median(theirs),
        "unit": task.unit,
        "size": task.size,
        "note": task.note,
        "rounds": len(ours),
        "versions": versions_of(peer),
    }


def versions_of(peer: str) -> dict[str, str]:
    """Versions of Python, of ours and of a peer."""
    versions = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in (OURS, "jax", "numpyro", "numpy", peer.split(",")[0]):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def store(records: list[dict[str, Any]], path: Path) -> None:
    """Write the records; those of other tasks from earlier runs are kept."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = {record["task"] for record in records}
    old = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    kept = [record for record in old if record["task"] not in fresh]
    with write_atomically(path) as temporary:
        temporary.write_text(json.dumps([*kept, *records], indent=1), encoding="utf-8")
