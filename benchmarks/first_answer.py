"""The command ``python -m benchmarks.first_answer``: what the first answer costs, in CPU seconds of whole processes.

Every command of the table is run on faithful (272 x 2) in a process of its own, three times in a row: *cold*, with
empty caches; *new N*, with the data's last row left out and the programs of the first run kept; *warm*, the first data
again. In turns with them scikit-learn fits the data (20 full components, 8 k-means++ starts to 1e-9).
"""

import argparse
import compileall
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

import probam
from benchmarks.contest import inherited, versions_of
from probam.data.shipped import load_shipped
from probam.data.writing import write_atomically
from probam.errors import ProbamError

__all__ = ["COMMANDS", "STATES", "Figures", "cpu_and_peak", "first_answers", "main", "record", "table"]

STATES = ("cold", "new N", "warm")

_PEER = """
import sys
import numpy as np
from sklearn.mixture import GaussianMixture
x = np.loadtxt(sys.argv[1], delimiter=",", skiprows=1)
options = dict(n_init=8, init_params="k-means++", tol=1e-9, max_iter=5000, random_state=0)
print(np.bincount(GaussianMixture(20, **options).fit_predict(x)))
"""

_AT_ITS_BEST = {"OPENBLAS_NUM_THREADS": "1"}
"""Of the peer: on matrices this small a second thread of BLAS only waits, at several times the CPU seconds."""


@dataclass(frozen=True)
class Command:
    """Words of a command line; ``{rows}``, ``{gaps}``, ``{em}``, ``{nuts}`` and ``{out}`` stand for files."""

    name: str
    words: str

    @property
    def fits(self) -> tuple[str, ...]:
        """Engines whose fit the command is given."""
        return tuple(engine for engine in ("em", "nuts") if f"{{{engine}}}" in self.words)


COMMANDS = (
    *(
        Command(f"fit --engine {engine}", f"fit {{rows}} --engine {engine} -o {{out}}.nc")
        for engine in ("em", "svi", "gibbs", "cavi", "nuts")
    ),
    Command("predict", "predict {em} {rows} -o {out}.csv"),
    Command("recall", "recall {em} {rows} -o {out}.csv"),
    Command("complete", "complete {em} {gaps} -o {out}.csv"),
    Command("report of em", "report {em} -o {out}.html"),
    Command("report of nuts", "report {nuts} -o {out}.html"),
    Command("verify", "verify {em}"),
    Command("stream", "stream {rows} -o {out}.nc"),
)


class Figures(NamedTuple):
    """What one process took."""

    cpu_seconds: float
    peak_mib: float
    programs: int
    misses: int
    peer_seconds: float
    """CPU seconds of scikit-learn's script in the same round."""


class _Bench:
    """Files of the data, fits that are asked about, and processes that are measured."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        x = load_shipped("faithful").values
        for name, rows in (("whole", x), ("shorter", x[:-1])):
            self._write(f"{name}.csv", rows)
            gaps = rows.copy()
            gaps[::5, 1] = np.nan
            self._write(f"{name}-gaps.csv", gaps)

    def _write(self, name: str, rows: np.ndarray) -> None:
        lines = [",".join("" if np.isnan(value) else repr(float(value)) for value in row) for row in rows]
        (self._folder / name).write_text("\n".join(["eruptions,waiting", *lines, ""]), encoding="utf-8")

    def _words(self, command: Command, data: str) -> list[str]:
        files = {"rows": f"{data}.csv", "gaps": f"{data}-gaps.csv", "out": "out"}
        files |= {engine: f"{data}-{engine}.nc" for engine in ("em", "nuts")}
        places = {name: str(self._folder / file) for name, file in files.items()}
        return [word.format(**places) for word in command.words.split()]

    def prepare(self, command: Command) -> None:
        """Make the fits that the command is given, with caches that it does not see."""
        for engine in command.fits:
            for data in ("whole", "shorter"):
                fit = self._folder / f"{data}-{engine}.nc"
                if not fit.exists():
                    words = ["fit", str(self._folder / f"{data}.csv"), "--engine", engine, "-o", str(fit)]
                    cpu_and_peak([sys.executable, "-m", "probam.cli.main", *words], _with_caches(self._folder / "own"))

    def peer(self) -> float:
        """CPU seconds of scikit-learn's script."""
        words = [sys.executable, "-c", _PEER, str(self._folder / "whole.csv")]
        return cpu_and_peak(words, inherited() | _AT_ITS_BEST)[0]

    def run(self, command: Command, data: str, caches: Path, peer_seconds: float) -> Figures:
        """One process of the command."""
        counts = self._folder / "counts.json"
        words = [sys.executable, "-m", "benchmarks.counted", str(counts), *self._words(command, data)]
        cpu, peak = cpu_and_peak(words, _with_caches(caches))
        counted = json.loads(counts.read_text(encoding="utf-8"))
        return Figures(cpu, peak, counted["programs"], counted["misses"], peer_seconds)


def _with_caches(folder: Path) -> dict[str, str]:
    """The environment of a process that finds and keeps programs, and all else that probam keeps, in a folder."""
    own = ("JAX_COMPILATION_CACHE", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in inherited().items() if not name.startswith(own)}
    return kept | {"PROBAM_COMPILED": str(folder / "compiled"), "XDG_CACHE_HOME": str(folder)}


_CHARGED = """
import json, resource, subprocess, sys
code = subprocess.run(sys.argv[2:]).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
with open(sys.argv[1], "w") as stream:
    json.dump([code, used.ru_utime + used.ru_stime, used.ru_maxrss], stream)
"""
"""What starts a process to be measured: the peak of one counts the memory of the process that starts it."""


def cpu_and_peak(
    words: Sequence[str], environment: dict[str, str], folder: Path = Path(__file__).parents[1]
) -> tuple[float, float]:
    """CPU seconds (user and system) and peak memory (MiB) of a process.

    Args:
        words: the command.
        environment: its variables.
        folder: in which it runs.

    Raises :class:`probam.errors.ProbamError` where it fails.
    """
    with TemporaryDirectory() as place:
        said, charged = Path(place) / "said", Path(place) / "charged"
        with said.open("w") as stream:
            starter = [sys.executable, "-S", "-c", _CHARGED, str(charged), *words]
            subprocess.run(starter, stdout=stream, stderr=stream, env=environment, cwd=folder, check=True)
        code, seconds, peak = json.loads(charged.read_text())
        if code:
            raise ProbamError(f"{' '.join(words)} ended with {code}:\n{said.read_text()[-2000:]}")
    return seconds, peak / (2**20 if sys.platform == "darwin" else 2**10)


def _make_bytecode() -> None:
    """Compile the package to Python's bytecode, which an installed one comes with."""
    package = Path(probam.__file__).parent
    for folder in (package, *(link.resolve() for link in package.iterdir() if link.is_symlink())):
        compileall.compile_dir(folder, quiet=1)


def first_answers(commands: Sequence[Command], rounds: int) -> Iterator[tuple[str, str, Figures]]:
    """Command, state and figures of every process, in the order in which they run."""
    _make_bytecode()
    with TemporaryDirectory() as place:
        bench = _Bench(Path(place))
        for command in commands:
            bench.prepare(command)
        for _ in range(rounds):
            for command in commands:
                peer_seconds = bench.peer()
                with TemporaryDirectory() as caches:
                    for state, data in zip(STATES, ("whole", "shorter", "whole"), strict=True):
                        yield command.name, state, bench.run(command, data, Path(caches), peer_seconds)


def record(command: str, state: str, figures: Sequence[Figures]) -> dict[str, Any]:
    """Medians over the rounds; ``ratio`` is scikit-learn's time over ours (above one: ours is shorter)."""
    ratios = [one.peer_seconds / one.cpu_seconds for one in figures]
    return {
        "command": command,
        "state": state,
        "cpu_seconds": statistics.median(one.cpu_seconds for one in figures),
        "peak_mib": statistics.median(one.peak_mib for one in figures),
        "programs": max(one.programs for one in figures),
        "misses": max(one.misses for one in figures),
        "ratio": statistics.median(ratios),
        "low": min(ratios),
        "high": max(ratios),
        "peer_seconds": statistics.median(one.peer_seconds for one in figures),
        "rounds": len(figures),
        "versions": versions_of("scikit-learn"),
    }


def table(records: Sequence[dict[str, Any]]) -> str:
    """The records as Markdown, a line for every command."""
    lines = [
        "| command | CPU seconds: cold / new N / warm | scikit-learn / ours | programs | not in a cache | peak MiB |",
        "|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(one["command"] for one in records):
        own = [one for state in STATES for one in records if (one["command"], one["state"]) == (name, state)]
        digits = {"cpu_seconds": ".1f", "ratio": ".2f", "programs": "d", "misses": "d", "peak_mib": ".0f"}
        cells = [" / ".join(format(one[key], digit) for one in own) for key, digit in digits.items()]
        lines.append("| " + " | ".join([f"`{name}`", *cells]) + " |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """``python -m benchmarks.first_answer``: 0 when every command ran."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.first_answer", description=(__doc__ or "").split("\n\n", maxsplit=1)[0]
    )
    names = [command.name for command in COMMANDS]
    parser.add_argument("commands", nargs="*", metavar="COMMAND", help=f"some of: {', '.join(names)} (default: all)")
    parser.add_argument("--rounds", type=int, default=2, help="runs of each command in each state (default 2)")
    parser.add_argument("--output", type=Path, default=Path("out/bench-first.json"), help="file of the records")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.commands) - set(names))
    if unknown:
        parser.error(f"unknown command {unknown[0]!r}; expected some of {', '.join(map(repr, names))}")
    chosen = [command for command in COMMANDS if command.name in (options.commands or names)]
    measured: dict[tuple[str, str], list[Figures]] = {}
    for command, state, figures in first_answers(chosen, options.rounds):
        measured.setdefault((command, state), []).append(figures)
        print(f"{command}, {state}: {figures.cpu_seconds:.1f} s, {figures.programs} programs", file=sys.stderr)
    records = [record(command, state, figures) for (command, state), figures in measured.items()]
    options.output.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(options.output) as temporary:
        temporary.write_text(json.dumps(records, indent=1), encoding="utf-8")
    print(table(records))
    print(f"records: {options.output}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
