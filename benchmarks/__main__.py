"""``python -m benchmarks [TASK ...] [--rounds N] [--output FILE]``: a table of ratios, and the same as records."""

import argparse
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.contest import TASKS, contest, make, store


def main() -> int:
    """Run the named tasks, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"one of {', '.join(TASKS)} (default: all)")
    parser.add_argument("--rounds", type=int, default=7, help="measurements of each side (default 7)")
    parser.add_argument("--output", type=Path, default=Path("out/bench.json"), help="file of the records")
    options = parser.parse_args()
    unknown = [name for name in options.tasks if name not in TASKS]
    if unknown:
        parser.error(f"unknown task {unknown[0]!r}; expected one of {', '.join(TASKS)}")
    log = Console(stderr=True)
    for name in options.tasks or TASKS:
        task = make(name)
        records = contest(
            task, rounds=options.rounds, report=lambda text: log.print(text, style="dim", highlight=False)
        )
        store(records, options.output)
        show = Table(title=f"{name}: {task.size}", title_justify="left")
        for header in ("peer", "peer / ours", "low", "high", "ours", "theirs", "unit"):
            show.add_column(header, justify="left" if header in ("peer", "unit") else "right")
        for one in records:
            cells = [f"{one[key]:.3g}" for key in ("ratio", "low", "high", "ours", "theirs")]
            show.add_row(one["peer"], *cells, one["unit"])
        Console().print(show)
    print(f"records: {options.output}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
