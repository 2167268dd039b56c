"""``python -m benchmarks.stream``: one pass of the creating memory over 1,000,000 x 16 data with about 100 memories.

Prints seconds after compilation (by the clock, and of the processor, which says more on a busy machine), memories, peak
memory of the process, and with ``--growth`` how the processor's seconds grow with the data and the memories (slopes of
their logs).
"""

import argparse
import json
import resource
import sys
import time

import numpy as np

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


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stream", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--memories", type=int, default=100)
    parser.add_argument("--covariance", default="isotropic", choices=("isotropic", "spherical", "diagonal", "full"))
    parser.add_argument("--dtype", default="float64", choices=("float32", "float64"))
    parser.add_argument("--rule", default="map", choices=("map", "sample"))
    parser.add_argument("--growth", action="store_true", help="also the slopes, from runs of other sizes")
    asked = parser.parse_args()

    import jax

    jax.config.update("jax_enable_x64", asked.dtype == "float64")

    import jax.numpy as jnp

    from probam.conjugacy.normal import NormalGamma, NormalKnownVariance, NormalWishart
    from probam.conjugacy.pairs import ConjugatePair
    from probam.inference.stream.engine import absorb, start
    from probam.inference.stream.kernel import Kernel
    from probam.inference.stream.weights import PitmanYor

    def number(value: object) -> jax.Array:
        return jnp.asarray(value, asked.dtype)

    def pair() -> ConjugatePair:
        """A prior of the data's own scale, under which the groups are found."""
        zero, relative = number(np.zeros(FEATURES)), number(WITHIN / BETWEEN)
        if asked.covariance == "isotropic":
            return NormalKnownVariance(zero, number(np.full(FEATURES, BETWEEN)), number(np.full(FEATURES, WITHIN)))
        if asked.covariance == "full":
            return NormalWishart(zero, relative, number(FEATURES + 11.0), number(10 * WITHIN * np.eye(FEATURES)))
        shape = np.full(1 if asked.covariance == "spherical" else FEATURES, 5.0)
        return NormalGamma(zero, relative, number(shape), number(4 * WITHIN * np.ones_like(shape)))

    law = PitmanYor(number(1.0), number(0.0))
    kernel = Kernel(pair(), law, rule=asked.rule)

    def one_pass(num_data: int, num_memories: int) -> tuple[float, float, int]:
        """Seconds by the clock and of the processor, and memories."""
        x = _data(num_data, num_memories, asked.dtype)
        empty = start(kernel, FEATURES, asked.dtype, jax.random.key(0))
        absorb(kernel, empty, x[: 40 * num_memories])  # compiles, for all the capacities that come
        began, began_cpu = time.perf_counter(), time.process_time()
        state, _ = absorb(kernel, empty, x)
        jax.block_until_ready(state)
        return time.perf_counter() - began, time.process_time() - began_cpu, int(state.size)

    seconds, processor, memories = one_pass(asked.rows, asked.memories)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    said = {
        "rows": asked.rows, "covariance": asked.covariance, "dtype": asked.dtype, "rule": asked.rule,
        "seconds": round(seconds, 2), "processor_seconds": round(processor, 2), "memories": memories,
        "peak_mib": round(peak),
    }  # fmt: skip
    if asked.growth:
        rows = np.unique(np.geomspace(10_000, asked.rows, 5).astype(int))
        said["exponent_rows"] = _slope(rows, [one_pass(int(n), asked.memories)[1] for n in rows])
        many = [one_pass(50_000, k) for k in (50, 100, 200, 400, 800, 1600)]
        sizes = [size for _, _, size in many]
        said["processor_seconds_by_memories"] = {
            str(size): round(spent, 2) for size, (_, spent, _) in zip(sizes, many, strict=True)
        }
        said["exponent_memories"] = _slope(np.array(sizes[1:]), [spent for _, spent, _ in many[1:]])
    print(json.dumps(said))
    return 0


if __name__ == "__main__":
    sys.exit(main())
