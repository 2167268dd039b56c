"""``python -m benchmarks.stream``: one pass of the creating memory over 1,000,000 x 16 data with about 100 memories.

Prints the seconds after compilation (by the clock and of the processor; on a busy machine trust the latter), the
number of memories and the peak memory of the process. ``--growth`` adds how the processor's seconds grow with the data
and with the memories (slopes of the logs).
"""

import argparse
import json
import sys
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from probam.conjugacy.normal import NormalGamma, NormalKnownVariance, NormalWishart
from probam.conjugacy.pairs import ConjugatePair
from probam.experiments.own_process import peak_mib
from probam.inference.stream.engine import absorb, start
from probam.inference.stream.kernel import Kernel
from probam.inference.stream.weights import PitmanYor

FEATURES = 16
WITHIN, BETWEEN = 0.25, 4.0  # variances of a datum around its centre, and of the centres


def _data(num_data: int, num_memories: int, dtype: str, seed: int = 0) -> np.ndarray:
    """Points around centres that are far apart."""
    random = np.random.default_rng(seed)
    centres = BETWEEN**0.5 * random.normal(size=(num_memories, FEATURES))
    x = np.empty((num_data, FEATURES), dtype)
    for first in range(0, num_data, 100_000):
        rows = x[first : first + 100_000]
        rows[:] = centres[random.integers(0, num_memories, len(rows))] + WITHIN**0.5 * random.normal(size=rows.shape)
    return x


def _slope(sizes: np.ndarray, seconds: list[float]) -> float:
    """Exponent of the seconds in the size, by least squares of the logs."""
    return round(float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0]), 3)


def _pair(covariance: str, dtype: str) -> ConjugatePair:
    """A prior of the data's own scale, under which the groups are found."""

    def number(value: object) -> jax.Array:
        return jnp.asarray(value, dtype)

    zero, relative = number(np.zeros(FEATURES)), number(WITHIN / BETWEEN)
    if covariance == "isotropic":
        return NormalKnownVariance(zero, number(np.full(FEATURES, BETWEEN)), number(np.full(FEATURES, WITHIN)))
    if covariance == "full":
        return NormalWishart(zero, relative, number(FEATURES + 11.0), number(10 * WITHIN * np.eye(FEATURES)))
    shape = np.full(1 if covariance == "spherical" else FEATURES, 5.0)
    return NormalGamma(zero, relative, number(shape), number(4 * WITHIN * np.ones_like(shape)))


class Pass(NamedTuple):
    """What one pass over the data took, and made."""

    seconds: float
    processor_seconds: float
    memories: int


def _one_pass(kernel: Kernel, num_data: int, num_memories: int, dtype: str) -> Pass:
    """One pass after compilation."""
    x = _data(num_data, num_memories, dtype)
    empty = start(kernel, FEATURES, dtype, jax.random.key(0))
    absorb(kernel, empty, x[: 40 * num_memories])  # compiles, for all the capacities that come
    began, began_cpu = time.perf_counter(), time.process_time()
    state, _ = absorb(kernel, empty, x)
    jax.block_until_ready(state)
    return Pass(time.perf_counter() - began, time.process_time() - began_cpu, int(state.size))


def _growth(kernel: Kernel, num_data: int, num_memories: int, dtype: str) -> dict[str, Any]:
    """How the processor's seconds grow with the data, and with the memories."""
    rows = np.unique(np.geomspace(10_000, num_data, 5).astype(int))
    by_rows = [_one_pass(kernel, int(n), num_memories, dtype).processor_seconds for n in rows]
    passes = [_one_pass(kernel, 50_000, k, dtype) for k in (50, 100, 200, 400, 800, 1600)]
    later = passes[1:]
    return {
        "exponent_rows": _slope(rows, by_rows),
        "processor_seconds_by_memories": {str(one.memories): round(one.processor_seconds, 2) for one in passes},
        "exponent_memories": _slope(
            np.array([one.memories for one in later]), [one.processor_seconds for one in later]
        ),
    }


def main() -> int:
    """Run the command; prints one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stream", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--memories", type=int, default=100)
    parser.add_argument("--covariance", default="isotropic", choices=("isotropic", "spherical", "diagonal", "full"))
    parser.add_argument("--dtype", default="float64", choices=("float32", "float64"))
    parser.add_argument("--rule", default="map", choices=("map", "sample"))
    parser.add_argument("--growth", action="store_true", help="also the slopes, from runs of other sizes")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", options.dtype == "float64")
    law = PitmanYor(jnp.asarray(1.0, options.dtype), jnp.asarray(0.0, options.dtype))
    kernel = Kernel(_pair(options.covariance, options.dtype), law, rule=options.rule)
    one = _one_pass(kernel, options.rows, options.memories, options.dtype)
    record: dict[str, Any] = {
        "rows": options.rows,
        "covariance": options.covariance,
        "dtype": options.dtype,
        "rule": options.rule,
        "seconds": round(one.seconds, 2),
        "processor_seconds": round(one.processor_seconds, 2),
        "memories": one.memories,
        "peak_mib": round(peak_mib()),
    }
    if options.growth:
        record |= _growth(kernel, options.rows, options.memories, options.dtype)
    print(json.dumps(record))
    return 0


if __name__ == "__main__":
    sys.exit(main())
