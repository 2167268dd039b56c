"""``python -m benchmarks.stream``: one pass of the creating memory over 1,000,000 x 16 data with about 100 memories.

Prints seconds after compilation, memories, peak memory of the process, and how cost grows with the data and the
memories (slopes of log seconds).
"""

import argparse
import json
import resource
import sys
import time

import numpy as np

FEATURES = 16


def _data(num_data: int, num_memories: int, dtype: str, seed: int = 0) -> np.ndarray:
    """Points around centres that are far apart."""
    random = np.random.default_rng(seed)
    centres = 2 * random.normal(size=(num_memories, FEATURES))
    x = np.empty((num_data, FEATURES), dtype)
    for first in range(0, num_data, 100_000):
        rows = x[first : first + 100_000]
        rows[:] = centres[random.integers(0, num_memories, len(rows))] + 0.5 * random.normal(size=rows.shape)
    return x


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

    from probam.inference.stream import absorb, start
    from probam.inference.stream_kernel import Kernel
    from probam.inference.stream_weights import PitmanYor
    from probam.models.gaussian import Gaussian

    family = Gaussian(asked.covariance)

    def one_pass(num_data: int, num_memories: int) -> tuple[float, int]:
        x = _data(num_data, num_memories, asked.dtype)
        prior = family.prior(x[:2000])
        known = {"loc": jnp.zeros((1, FEATURES), asked.dtype), "beta": jnp.asarray(2.0, asked.dtype)}
        pair = family.conjugate_base(prior) or family.conjugate(known, prior)
        assert pair is not None
        law = PitmanYor(jnp.asarray(1.0, asked.dtype), jnp.asarray(0.0, asked.dtype))
        kernel = Kernel(pair, law, rule=asked.rule)
        empty = start(kernel, FEATURES, asked.dtype, jax.random.key(0))
        absorb(kernel, empty, x[: 40 * num_memories])  # compiles, for all the capacities that come
        began = time.perf_counter()
        state, _ = absorb(kernel, empty, x)
        jax.block_until_ready(state)
        return time.perf_counter() - began, int(state.size)

    seconds, memories = one_pass(asked.rows, asked.memories)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    said = {
        "rows": asked.rows, "covariance": asked.covariance, "dtype": asked.dtype, "rule": asked.rule,
        "seconds": round(seconds, 2), "memories": memories, "peak_mib": round(peak),
    }  # fmt: skip
    if asked.growth:
        rows = np.unique(np.geomspace(10_000, asked.rows, 5).astype(int))
        times = [one_pass(n, asked.memories)[0] for n in rows]
        said["exponent_rows"] = round(float(np.polyfit(np.log(rows), np.log(times), 1)[0]), 3)
        memories_wanted = np.array([100, 200, 400, 800])
        many = [one_pass(50_000, int(k)) for k in memories_wanted]
        said["seconds_by_memories"] = {str(size): round(spent, 2) for spent, size in many}
    print(json.dumps(said))
    return 0


if __name__ == "__main__":
    sys.exit(main())
