"""The command ``python -m benchmarks.cells``: the verdict on every engine at its defaults, into ``docs/validation.md``.

Seven shipped data sets and three made ones, whose groups are known, each fitted by every engine that takes the family
with nothing but the engine named. Each fit is a process of its own and is stopped after a limit. The table says the
verdict, which rules spoke, how many memories hold data, how well they agree with known groups (adjusted Rand index),
and the CPU seconds of the whole process.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Int
from sklearn.metrics import adjusted_rand_score

import probam
from benchmarks.validation import made_by, replace_between
from probam.compiled import keep_compiled
from probam.data.shipped import load_labels, load_shipped
from probam.fits.derived import with_groups
from probam.reports.summaries.diagnostics import advice
from probam.reports.summaries.verdict import verdict_of

__all__ = ["DATA_SETS", "ENGINES", "Cell", "cell_table", "main", "measured"]

ENGINES = ("em", "gradient_em", "svi", "cavi", "gibbs", "nuts", "smc")

_LIMIT = 300
"""Seconds after which a fit is stopped."""


class Rows(NamedTuple):
    """Data, and the groups of the rows where these are known."""

    x: Any
    group: Int[np.ndarray, " N"] | None


def _five_groups() -> Rows:
    rng = np.random.default_rng(5)
    group = np.repeat(np.arange(5), 120)
    centres = 8 * np.array([[0, 0], [1, 0], [0, 1], [1, 1], [0.5, 2]])
    return Rows(centres[group] + rng.normal(size=(600, 2)), group)


def _sizes() -> Rows:
    """Measurements that share a common size: correlations of about .99, groups that differ along thin directions."""
    rng = np.random.default_rng(7)
    group = np.repeat(np.arange(4), 50)
    shape = np.array(
        [[5.0, 4.2, 10, 11.4, 4.5], [5.0, 4.6, 10, 11, 4.2], [5.4, 4.4, 10, 11.2, 4.8], [5.4, 4.8, 10, 10.8, 4.5]]
    )
    size = rng.normal(3, 0.5, (200, 1))
    return Rows(size * shape[group] + rng.normal(0, 0.15, (200, 5)), group)


def _directions() -> Rows:
    """Three groups on the sphere in four dimensions."""
    rng = np.random.default_rng(11)
    group = np.repeat(np.arange(3), 100)
    x = np.eye(4)[group] + rng.normal(0, 0.25, (300, 4))
    return Rows(x / np.linalg.norm(x, axis=1, keepdims=True), group)


def _shipped(name: str, *, has_labels: bool = False, rows: int | None = None) -> Callable[[], Rows]:
    def load() -> Rows:
        table = load_shipped(name)
        if not has_labels:
            return Rows(table if rows is None else table.values[:rows], None)
        group = np.unique(load_labels(name), return_inverse=True)[1]
        return Rows(table if rows is None else table.values[:rows], group[:rows])

    return load


@dataclass(frozen=True)
class DataSet:
    """Rows by name, and what is said of the model beside the engine."""

    name: str
    rows: Callable[[], Rows]
    options: dict[str, Any] = field(default_factory=dict)


_SPHERE = {"family": "vmf"}

DATA_SETS = (
    DataSet("faithful", _shipped("faithful")),
    DataSet("galaxy82", _shipped("galaxy82")),
    DataSet("iris", _shipped("iris", has_labels=True)),
    DataSet("household", _shipped("household", has_labels=True)),
    DataSet("household_directions", _shipped("household_directions", has_labels=True), _SPHERE),
    DataSet("comets", _shipped("comets"), _SPHERE),
    DataSet("letter20k, 1000 rows", _shipped("letter20k", has_labels=True, rows=1000), {"covariance": "diagonal"}),
    DataSet("five groups, 8 sd apart (600 x 2)", _five_groups),
    DataSet("four groups that share a size (200 x 5)", _sizes),
    DataSet("three groups of directions (300 x 4)", _directions, _SPHERE),
)


class Cell(NamedTuple):
    """What a fit came to."""

    data: str
    engine: str
    verdict: str
    rules: tuple[str, ...] = ()
    num_memories: float | None = None
    rand_index: float | None = None
    seconds: float | None = None

    @classmethod
    def of(cls, data: DataSet, engine: str) -> "Cell":
        """Fit, and judge the fit; an engine that does not take the model says why."""
        rows = data.rows()
        try:
            fitted = probam.fit(rows.x, engine=engine, **data.options)
        except probam.InputError as error:
            return cls(data.name, engine, "refused", (str(error),))
        said = advice(with_groups(fitted.tree, fitted.model, ["verification"]))
        rules = dict.fromkeys(item.rule for item in said if item.level in ("problem", "warning"))
        occupied = fitted.tree["invariant"].to_dataset()["num_occupied"].values
        index = None
        if rows.group is not None:
            index = float(adjusted_rand_score(rows.group, fitted.tree["partition"].to_dataset()["label"].values))
        verdict = {"warning": "caution"}.get(verdict_of(said), verdict_of(said))
        return cls(data.name, engine, verdict, tuple(rules), float(np.mean(occupied)), index)


def measured(sets: Sequence[DataSet], engines: Sequence[str], limit: float = _LIMIT, jobs: int = 1) -> Iterator[Cell]:
    """Every cell, each in its own process, ``jobs`` of them at a time."""

    def measure(pair: tuple[DataSet, str]) -> Cell:
        data, engine = pair
        command = [sys.executable, "-m", "benchmarks.cells", "--cell", data.name, engine]
        try:
            ended = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=True)
        except subprocess.TimeoutExpired:
            return Cell(data.name, engine, f"stopped after {limit:.0f} s")
        cell = Cell(**json.loads(ended.stdout.splitlines()[-1]))
        return cell._replace(rules=tuple(cell.rules))

    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(measure, [(data, engine) for data in sets for engine in engines])


def cell_table(cells: Sequence[Cell]) -> str:
    """The cells as Markdown, and how many are good."""
    fitted = [cell for cell in cells if cell.verdict != "refused"]
    good = sum(cell.verdict == "good" for cell in fitted)
    lines = [
        f"{good} of {len(fitted)} fits are good.",
        "",
        "| data | engine | verdict | rules that spoke | memories | adjusted Rand index | CPU seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for cell in cells:
        numbers = [(cell.num_memories, ".1f"), (cell.rand_index, ".2f"), (cell.seconds, ".0f")]
        words = [cell.data, cell.engine, cell.verdict, ", ".join(cell.rules) or "-"]
        words += ["-" if value is None else format(value, digits) for value, digits in numbers]
        lines.append("| " + " | ".join(words) + " |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """``python -m benchmarks.cells``: 0 when the table is made."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cells", description=__doc__.split("\n\n")[0])
    names = [data.name for data in DATA_SETS]
    parser.add_argument("--sets", nargs="+", choices=names, default=names)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES)
    parser.add_argument("--limit", type=float, default=_LIMIT, help="seconds after which a fit is stopped")
    parser.add_argument("--jobs", type=int, default=1, help="fits at a time")
    parser.add_argument("--cell", nargs=2, metavar=("SET", "ENGINE"), help="one cell alone, in this process, as JSON")
    parser.add_argument("--output", type=Path, help="a Markdown file in which the table is replaced")
    options = parser.parse_args(arguments)
    by_name = {data.name: data for data in DATA_SETS}
    if options.cell is not None:
        jax.config.update("jax_enable_x64", True)
        keep_compiled()
        cell = Cell.of(by_name[options.cell[0]], options.cell[1])._replace(seconds=time.process_time())
        print(json.dumps(cell._asdict()))
        return 0
    words = sys.argv[1:] if arguments is None else arguments
    made = made_by(" ".join(["python -m benchmarks.cells", *words]))
    cells = []
    for cell in measured([by_name[name] for name in options.sets], options.engines, options.limit, options.jobs):
        cells.append(cell)
        print(*(value for value in cell if value is not None), file=sys.stderr, flush=True)
        if options.output is not None:  # after each: nothing done is lost
            replace_between(options.output, "cells", f"{made}\n\n{cell_table(cells)}")
    print(cell_table(cells))
    return 0


if __name__ == "__main__":
    sys.exit(main())
