"""The cost of the arithmetic alone, as a side called "floor": its ratio is the share of peak speed reached."""

import time
from collections.abc import Callable

import numpy as np

from benchmarks.contest import Prepare

FLOOR = "floor"

_SIZE = 2048
_REPEATS = 3


def matrix_products(flops: float, dtype: str) -> Prepare:
    """Seconds for ``flops`` floating-point operations at the speed of a square matrix product on all cores (BLAS)."""

    def prepare() -> Callable[[], float]:
        a = np.random.default_rng(0).normal(size=(_SIZE, _SIZE)).astype(dtype)
        a @ a

        def seconds() -> float:
            best = np.inf
            for _ in range(_REPEATS):
                start = time.perf_counter()
                a @ a
                best = min(best, time.perf_counter() - start)
            return float(flops * best / (2 * _SIZE**3))

        return seconds

    return prepare
