"""``python -m benchmarks.gpu [--scale S] [--output FILE]``: a GPU against its rooflines and against the CPU beside it.

Each side is a process of its own, the CPU with all cores as devices, as the command line has them. A scale below one
takes fewer rows (and queries, memories of a bank), to try the program where no GPU is at hand; rooflines are for scale
one. The records are written as JSON.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

LIMIT = 270
"""Seconds of a side after which it starts no further row: both together stay below ten minutes."""

ROUNDS = 5


class Row(NamedTuple):
    """What is timed, at which size, and on one H200 what its arithmetic and memory allow, milliseconds on paper."""

    size: str
    roofline: float | None
    prepare: Callable[[float, bool], Callable[[], float]]  # of the scale, and whether on a GPU: seconds of one


def _mean_of(run: Callable[[], object], times: int) -> Callable[[], float]:
    """Seconds of one run among so many in a row, after one that compiles."""
    import jax

    jax.block_until_ready(run())

    def seconds() -> float:
        start = time.perf_counter()
        for _ in range(times):
            result = run()
        jax.block_until_ready(result)
        return (time.perf_counter() - start) / times

    return seconds


def _bank(rows: int, features: int, memories: int) -> tuple[np.ndarray, np.ndarray]:
    """Data around well-mixed centres, and other points of the same cloud to start from."""
    random = np.random.default_rng(0)
    centres = 1.5 * random.normal(size=(memories, features)).astype("float32")
    x = centres[random.integers(0, memories, rows)] + random.normal(size=(rows, features)).astype("float32")
    return x, x[random.choice(rows, memories, replace=False)]


def _start(covariance: str, loc: np.ndarray) -> dict[str, Any]:
    """Parameters with equal weights and unit variances."""
    memories, features = loc.shape
    shared = {"loc": loc, "proportions": np.full(memories, 1 / memories, loc.dtype)}
    if covariance == "isotropic":
        return shared | {"beta": np.asarray(0.5, loc.dtype)}
    if covariance == "diagonal":
        return shared | {"precision": np.ones((memories, features), loc.dtype)}
    identity = np.broadcast_to(np.eye(features, dtype=loc.dtype), (memories, features, features))
    return shared | {"precision_cholesky": identity}


def _em_step(covariance: str) -> Callable[[float, bool], Callable[[], float]]:
    """One iteration of closed-form EM, from two runs that differ in nothing but their number of iterations."""

    def prepare(scale: float, on_gpu: bool) -> Callable[[], float]:
        import jax
        import jax.numpy as jnp

        from probam.inference.em.engine import fit_params
        from probam.models.gaussian import Gaussian
        from probam.models.mixture import mixture
        from probam.models.weights import Dirichlet

        x, loc = _bank(max(10_000, round(200_000 * scale)), 32, 64)
        model = mixture(x, family=Gaussian(covariance), weights=Dirichlet(), num_components=64)
        data, start = jnp.asarray(x), _start(covariance, loc)
        few, many = (50, 550) if on_gpu else (2, 7)

        def seconds_of(steps: int) -> float:
            begin = time.perf_counter()
            ends = fit_params(
                jax.random.key(0), model, data, max_iterations=steps, tolerance=-math.inf, start=start, estimate="ml"
            ).ends
            jax.block_until_ready(ends[0])
            return time.perf_counter() - begin

        for steps in (few, many):
            seconds_of(steps)
        return lambda: (seconds_of(many) - seconds_of(few)) / (many - few)

    return prepare


def _e_step(scale: float, on_gpu: bool) -> Callable[[], float]:
    """Responsibilities of a large bank, summed."""
    import jax
    import jax.numpy as jnp

    from probam.inference.em.steps import expectation
    from probam.models.gaussian import Gaussian
    from probam.models.mixture import mixture
    from probam.models.weights import Dirichlet

    memories = max(16, round(1024 * min(1.0, 10 * scale)))
    x, loc = _bank(max(2048, round(1_000_000 * scale)), 128, memories)
    model = mixture(x[:1000], family=Gaussian("isotropic"), weights=Dirichlet(), num_components=memories)
    data, start = jnp.asarray(x), {name: jnp.asarray(value) for name, value in _start("isotropic", loc).items()}
    step, origin = jax.jit(expectation), jnp.asarray(x.mean(axis=0))
    return _mean_of(lambda: step(model, start, data, origin), 10 if on_gpu else 1)


def _recall(scale: float, on_gpu: bool) -> Callable[[], float]:
    """One step and the energy of every query."""
    import jax.numpy as jnp

    from probam.energies.large_bank import step

    size = max(100, round(10_000 * scale))
    queries, _ = _bank(size, 128, 64)
    memories, _ = _bank(size, 128, 64)
    moved, stored = jnp.asarray(queries), jnp.asarray(memories)
    return _mean_of(lambda: step(moved, stored, 0.5), 20 if on_gpu else 1)


def _restarts(scale: float, _: bool) -> Callable[[], float]:
    """Eight whole runs of EM, with their starts."""
    import jax
    import jax.numpy as jnp

    from probam.inference.em.engine import fit_params
    from probam.models.gaussian import Gaussian
    from probam.models.mixture import mixture
    from probam.models.weights import Dirichlet

    x = _bank(max(400, round(20_000 * scale)), 8, 10)[0]
    model, data = mixture(x, family=Gaussian("full"), weights=Dirichlet(), num_components=10), jnp.asarray(x)
    return _mean_of(lambda: fit_params(jax.random.key(0), model, data, restarts=8, max_iterations=200).ends[0], 1)


def _chains(scale: float, _: bool) -> Callable[[], float]:
    """Chains of NUTS, warm-up and draws."""
    import jax
    import jax.numpy as jnp

    from probam.inference.nuts.engine import run
    from probam.models.gaussian import Gaussian
    from probam.models.mixture import mixture
    from probam.models.weights import Dirichlet

    x = _bank(max(100, round(2_000 * scale)), 4, 4)[0]
    model, data = mixture(x, family=Gaussian("diagonal"), weights=Dirichlet(), num_components=4), jnp.asarray(x)
    chains, steps = (16, 100) if scale >= 1 else (2, 5)
    options: dict[str, Any] = {"num_chains": chains, "num_warmup": steps, "num_draws": steps}
    return _mean_of(lambda: run(jax.random.key(0), model, data, **options).sites["loc"], 1)


ROWS = {
    "EM isotropic, an iteration": Row("200,000 x 32, K = 64", 0.2, _em_step("isotropic")),
    "EM diagonal, an iteration": Row("200,000 x 32, K = 64", 0.25, _em_step("diagonal")),
    "EM full, an iteration": Row("200,000 x 32, K = 64", 1.5, _em_step("full")),
    "recall, a step and the energy": Row("10,000 x 10,000 x 128", 1.5, _recall),
    "E-step of a large bank": Row("1,000,000 x 128, K = 1024", 30.0, _e_step),
    "EM full, 8 restarts": Row("20,000 x 8, K = 10", None, _restarts),
    "NUTS, 16 chains of 200 steps": Row("2,000 x 4, K = 4", None, _chains),
}
"""All in float32. The rooflines are goals on paper for one H200 (67 TFLOP/s, 4.8 TB/s), measured on none."""


def _side(kind: str, scale: float) -> None:
    """Print the device of this process and what it takes for each row, a line of JSON each; no row without a GPU."""
    import jax

    answers = os.fdopen(os.dup(1), "w")  # what libraries print goes to stderr
    os.dup2(2, 1)
    device = jax.devices()[0]
    print(json.dumps({"platform": device.platform, "device": device.device_kind}), file=answers, flush=True)
    if kind == "gpu" and device.platform == "cpu":
        return
    begin = time.perf_counter()
    for name, row in ROWS.items():
        if time.perf_counter() - begin > LIMIT:
            print(json.dumps({"row": name, "seconds": None}), file=answers, flush=True)
            continue
        seconds = row.prepare(scale, device.platform != "cpu")
        took = [seconds()]
        while len(took) < ROUNDS and time.perf_counter() - begin < LIMIT:
            took.append(seconds())
        print(json.dumps({"row": name, "seconds": median(took)}), file=answers, flush=True)


def _measured(kind: str, scale: float, environment: dict[str, str]) -> tuple[dict[str, str], dict[str, float | None]]:
    """The device of a side, and its seconds of each row (None: no time was left)."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--side", kind, "--scale", str(scale)]
    done = subprocess.run(command, env=os.environ | environment, stdout=subprocess.PIPE, text=True, check=True)
    device, *rows = map(json.loads, done.stdout.splitlines())
    return device, {row["row"]: row["seconds"] for row in rows}


def table(records: list[dict[str, Any]], device: str | None) -> str:
    """The records as Markdown."""
    head = ("row, float32", "size", device or "no GPU", "roofline", "share of it", "CPU", "CPU / GPU")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for one in records:
        gpu, cpu, roofline = one["gpu_seconds"], one["cpu_seconds"], one["roofline_ms"]
        share = f"{roofline / (1000 * gpu):.0%}" if gpu and roofline and one["scale"] == 1 else ""
        ratio = f"{cpu / gpu:.3g}" if gpu and cpu else ""
        shown = [f"{1000 * value:.3g} ms" if value else "" for value in (gpu, cpu)]
        bound = f"{roofline:g} ms" if roofline else ""
        lines.append(f"| {one['row']} | {one['size']} | {shown[0]} | {bound} | {share} | {shown[1]} | {ratio} |")
    return "\n".join(lines)


def main() -> int:
    """Both sides, the table and the records."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the rows (default 1)")
    parser.add_argument("--output", type=Path, default=Path("out/gpu.json"), help="file of the records")
    parser.add_argument("--side", choices=("cpu", "gpu"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        _side(options.side, options.scale)
        return 0
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={os.cpu_count() or 1}"
    cpu, on_cpu = _measured("cpu", options.scale, {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags.strip()})
    gpu, on_gpu = _measured("gpu", options.scale, {})
    if gpu["platform"] == "cpu":
        print("JAX finds no GPU: only the CPU was measured", file=sys.stderr)
        gpu = {}
    records = [
        {
            "row": name,
            "size": row.size,
            "scale": options.scale,
            "roofline_ms": row.roofline,
            "gpu_seconds": on_gpu.get(name),
            "cpu_seconds": on_cpu[name],
            "gpu": gpu.get("device"),
            "cpu": cpu["device"],
        }
        for name, row in ROWS.items()
    ]
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(records, indent=1))
    if options.scale != 1:
        print(f"the sizes in the table are those of scale 1; this run had {options.scale:g} of them", file=sys.stderr)
    print(table(records, gpu.get("device")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
