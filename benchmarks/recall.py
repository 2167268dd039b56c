"""One recall step of every query and its energy, against attention with the distances folded in."""

import time
from collections.abc import Callable

import numpy as np

from benchmarks.contest import OURS, Task
from benchmarks.floor import FLOOR, matrix_products

QUERIES, MEMORIES, FEATURES = 10_000, 10_000, 128
BETA = 0.5

DEVICES = {OURS: {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}}


def _data() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    memories = random.normal(size=(MEMORIES, FEATURES)).astype("float32")
    queries = memories[random.integers(0, MEMORIES, QUERIES)] + 0.5 * random.normal(size=(QUERIES, FEATURES))
    return queries.astype("float32"), memories


def timed(run: Callable[[], object]) -> Callable[[], float]:
    run()

    def seconds() -> float:
        start = time.perf_counter()
        run()
        return time.perf_counter() - start

    return seconds


def one_step() -> Task:
    """Attention over the bank: the output for every query (ours also gives its energy)."""

    def ours() -> Callable[[], float]:
        import jax
        import jax.numpy as jnp

        from probam.energies.large_bank import step

        queries, memories = map(jnp.asarray, _data())
        return timed(lambda: jax.block_until_ready(step(queries, memories, BETA)))

    def torch() -> Callable[[], float]:
        import torch

        torch.set_flush_denormal(True)
        queries, memories = map(torch.from_numpy, _data())
        # -beta |v - m|^2 = 2 beta v.m - beta |m|^2 + f(v): the norms take one more feature, padded to a multiple of 16
        keys = torch.zeros(1, 1, MEMORIES, FEATURES + 16)
        keys[0, 0, :, :FEATURES] = memories
        keys[0, 0, :, FEATURES] = -BETA * (memories**2).sum(-1)
        padded = torch.zeros(1, 1, QUERIES, FEATURES + 16)
        padded[0, 0, :, :FEATURES] = 2 * BETA * queries
        padded[0, 0, :, FEATURES] = 1
        values = torch.nn.functional.pad(memories, (0, 16))[None, None]
        attend = torch.nn.functional.scaled_dot_product_attention

        def run() -> object:
            with torch.no_grad():
                return attend(padded, keys, values, scale=1.0)

        return timed(run)

    size = f"{QUERIES} queries x {MEMORIES} memories x {FEATURES} float32"
    floor = matrix_products(2 * 2.0 * QUERIES * MEMORIES * FEATURES, "float32")
    sides = {OURS: ours, "torch": torch, FLOOR: floor}
    return Task("recall", size, "s", sides, "torch without the energy", DEVICES)
