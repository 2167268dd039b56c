"""The command ``python -m benchmarks.scale``: how cost grows with rows (N), memories (K) and features (D).

Each size is measured in a process of its own: CPU seconds (user and system, all threads) of the work after a first run
of the same size has compiled it, and the peak memory of the process. One of N, K and D varies at a time. The exponent
is the slope of the log of the seconds against the log of the size, over the upper half of the sizes. `reading` is what
making the groups of a fit costs, beside EM of the same data: a share, not a power.
"""

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.contest import inherited, versions_of
from probam.data.writing import write_atomically
from probam.experiments.own_process import peak_mib

__all__ = ["SIZES", "TASKS", "Size", "exponent", "main", "table"]


class Size(NamedTuple):
    """Of one measurement."""

    rows: int
    memories: int
    features: int


_MIDDLE = Size(20_000, 16, 8)

SIZES: dict[str, tuple[int, ...]] = {
    "rows": (10_000, 30_000, 100_000, 300_000, 1_000_000),
    "memories": (4, 16, 64, 256, 1024),
    "features": (2, 8, 32, 128, 256),
}
"""What varies -> its values; the others are those in the middle."""

Work = Callable[[], object]


def _data(size: Size, seed: int = 0) -> np.ndarray:
    """float32 rows around as many centres as there are memories, which overlap a little."""
    random = np.random.default_rng(seed)
    centres = 2 * random.normal(size=(size.memories, size.features))
    x = centres[random.integers(0, size.memories, size.rows)] + random.normal(size=(size.rows, size.features))
    return x.astype("float32")


def _model(x: np.ndarray, size: Size, weights: str) -> Any:
    from probam.models.gaussian import Gaussian
    from probam.models.mixture import mixture
    from probam.models.weights import Dirichlet, StickBreaking

    law = Dirichlet() if weights == "dirichlet" else StickBreaking(1.0)
    return mixture(x, family=Gaussian("diagonal"), weights=law, num_components=size.memories)


def _em(size: Size) -> Work:
    """Ten steps of one run."""
    import jax

    from probam.inference.em.engine import fit_params

    x = _data(size)
    model, rows = _model(x, size, "dirichlet"), jax.device_put(x)
    start: Any = {
        "loc": x[: size.memories],
        "precision": np.ones((size.memories, size.features), "float32"),
        "proportions": np.full(size.memories, 1 / size.memories, "float32"),
    }
    return lambda: fit_params(jax.random.key(0), model, rows, max_iterations=10, tolerance=-math.inf, start=start).ends


def _cavi(size: Size) -> Work:
    """Ten passes of one run, without moves."""
    import jax

    from probam.inference.cavi.engine import Search, fit_factors

    x = _data(size)
    model, rows = _model(x, size, "dp"), jax.device_put(x)
    search = Search(max_iterations=10, tolerance=-math.inf, restarts=1, moves=False)
    return lambda: fit_factors(jax.random.key(0), model, rows, search)


def _svi(size: Size) -> Work:
    """Two hundred steps of one guide, on batches of the default size, from random points."""
    import jax

    from probam.inference.svi.engine import run

    x = _data(size)
    model, rows = _model(x, size, "dp"), jax.device_put(x)
    return lambda: run(jax.random.key(0), model, rows, start="random", num_steps=200, restarts=1, num_draws=100)


def _stream(size: Size) -> Work:
    """One pass over groups far apart."""
    import jax
    import jax.numpy as jnp

    from probam.conjugacy.normal import NormalKnownVariance
    from probam.inference.stream.engine import absorb, start
    from probam.inference.stream.kernel import Kernel
    from probam.inference.stream.weights import PitmanYor

    random = np.random.default_rng(0)
    centres = 4 * random.normal(size=(size.memories, size.features))
    x = centres[random.integers(0, size.memories, size.rows)] + 0.5 * random.normal(size=(size.rows, size.features))
    rows, zero = x.astype("float32"), jnp.zeros(size.features, "float32")
    law = PitmanYor(jnp.asarray(1.0, "float32"), jnp.asarray(0.0, "float32"))
    kernel = Kernel(NormalKnownVariance(zero, zero + 16, zero + 0.25), law)
    empty = start(kernel, size.features, "float32", jax.random.key(0))
    return lambda: absorb(kernel, empty, rows)


def _fitted(size: Size) -> Any:
    import probam

    few = size._replace(rows=max(2000, 2 * size.memories))
    return probam.fit(
        _data(few, seed=1), covariance="diagonal", weights="dirichlet", components=size.memories, engine="em",
        restarts=1, max_iterations=5,
    )  # fmt: skip


def _predict(size: Size) -> Work:
    """Labels and log densities of all rows."""
    fit, x = _fitted(size), _data(size)
    return lambda: fit.predict(x, probabilities=False)


def _recall(size: Size) -> Work:
    """One step of every row, and its energy."""
    import jax

    from probam.energies.large_bank import step

    queries, memories = jax.device_put((_data(size), _data(size._replace(rows=size.memories), seed=1)))
    return lambda: step(queries, memories, 0.5)


def _reading(size: Size) -> Work:
    """The groups of a fit of the default options, once EM has ended."""
    import probam

    x = _data(size)
    return lambda: probam.fit(
        x, covariance="diagonal", weights="dirichlet", components=size.memories, engine="em", restarts=1,
        max_iterations=1,
    )  # fmt: skip


def _em_fit(size: Size) -> Work:
    """EM of the default options, alone."""
    import jax

    from probam.inference.em.engine import run

    x = _data(size)
    model, rows = _model(x, size, "dirichlet"), jax.device_put(x)
    return lambda: run(jax.random.key(0), model, rows)


TASKS: dict[str, Callable[[Size], Work]] = {
    "em": _em,
    "svi": _svi,
    "cavi": _cavi,
    "stream": _stream,
    "predict": _predict,
    "recall": _recall,
}
_READING = {"reading": _reading, "em of defaults": _em_fit}
_READ = Size(200_000, 16, 8)
"""At which reading is compared with EM."""


def _one(task: str, size: Size) -> dict[str, float]:
    """Figures of this process."""
    import jax

    jax.config.update("jax_enable_x64", False)
    work = (TASKS | _READING)[task](size)
    jax.block_until_ready(work())
    began = time.process_time()
    jax.block_until_ready(work())
    seconds = time.process_time() - began
    return {"cpu_seconds": seconds, "peak_mib": peak_mib()}


def _measured(task: str, size: Size) -> dict[str, Any]:
    words = [sys.executable, "-m", "benchmarks.scale", "--one", task, *map(str, size)]
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, env=inherited(), cwd=Path(__file__).parents[1]
    )
    if done.returncode:
        raise SystemExit(f"{task} {size}: exit code {done.returncode}\n{done.stderr[-2000:]}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(f"{task} {size}: {figures['cpu_seconds']:.3g} s, {figures['peak_mib']:.0f} MiB", file=sys.stderr)
    return {"task": task, **size._asdict(), **figures}


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """Slope of the logs over the upper half of the sizes.

    >>> round(exponent([1, 10, 100, 1000], [5, 5, 30, 300]), 6)
    1.0
    """
    upper = min(len(sizes) // 2, len(sizes) - 2)
    return float(np.polyfit(np.log(sizes[upper:]), np.log(seconds[upper:]), 1)[0])


def table(records: Sequence[dict[str, Any]]) -> str:
    """The records of tasks that vary as Markdown: seconds and memory from the smallest to the largest size."""
    lines = ["| task | varies | CPU seconds | exponent | peak MiB |", "|---|---|---|---|---|"]
    for task in dict.fromkeys(one["task"] for one in records if "varies" in one):
        for varies, sizes in SIZES.items():
            own = [one for one in records if one["task"] == task and one.get("varies") == varies]
            if len(own) < 2:
                continue
            seconds, peaks = ([one[name] for one in own] for name in ("cpu_seconds", "peak_mib"))
            power = exponent([one[varies] for one in own], seconds)
            ends = f"{varies} {sizes[0]:,} to {own[-1][varies]:,}"
            each = " / ".join(f"{value:.3g}" for value in seconds)
            lines.append(f"| `{task}` | {ends} | {each} | {power:.2f} | {peaks[0]:.0f} to {peaks[-1]:.0f} |")
    return "\n".join(lines)


def _write(records: Sequence[dict[str, Any]], path: Path) -> None:
    """The records so far, with the versions that they were measured with."""
    versions = {"versions": versions_of("numpy")}
    with write_atomically(path) as temporary:
        temporary.write_text(json.dumps([one | versions for one in records], indent=1), encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """``python -m benchmarks.scale``: 0 when every size ran."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scale", description=(__doc__ or "").split("\n\n", maxsplit=1)[0]
    )
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"some of: {', '.join(TASKS)}, reading (default: all)")
    parser.add_argument("--most", type=int, default=10**9, help="leave out sizes above this many N x K x D")
    parser.add_argument("--output", type=Path, default=Path("out/bench-scale.json"), help="file of the records")
    parser.add_argument("--one", nargs=4, metavar=("TASK", "N", "K", "D"), help="measure one size in this process")
    options = parser.parse_args(arguments)
    if options.one:
        print(json.dumps(_one(options.one[0], Size(*map(int, options.one[1:])))))
        return 0
    known = [*TASKS, "reading"]
    unknown = sorted(set(options.tasks) - set(known))
    if unknown:
        parser.error(f"unknown task {unknown[0]!r}; expected some of {', '.join(known)}")
    chosen, records = options.tasks or known, []
    options.output.parent.mkdir(parents=True, exist_ok=True)
    for task in (name for name in TASKS if name in chosen):
        for varies, sizes in SIZES.items():
            for value in sizes:
                size = _MIDDLE._replace(**{varies: value})
                if np.prod(size, dtype=float) <= options.most:
                    records.append(_measured(task, size) | {"varies": varies})
                    _write(records, options.output)  # each time: a run of hours may be cut off
    print(table(records))
    if "reading" in chosen:
        read, em = (_measured(name, _READ) for name in _READING)
        records += [read, em]
        share = read["cpu_seconds"] / em["cpu_seconds"]
        print(f"\nreading a fit of {_READ.rows:,} rows: {share:.0%} of the CPU seconds of its EM")
    _write(records, options.output)
    print(f"records: {options.output}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
