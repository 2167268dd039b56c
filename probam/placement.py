"""How much work goes at once, and whether independent work goes side by side: decided for the device, here alone.

On a CPU a block of work should stay in a core's cache, and runs that are independent of each other (restarts, chains,
draws) go one after the other. On an accelerator every step of a loop costs the launch of its kernels, some
microseconds each, and only much work at a time keeps the device busy. There blocks are as large as a share of its
memory allows, and as many runs as fit into that share go side by side.

Callers name the size that suits a CPU and how many numbers their work holds; :func:`numbers_at_once` and :func:`each`
choose. They are asked while a program is traced, so that :func:`laid_out_for` forgets programs that were traced for
another device.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

__all__ = [
    "Device",
    "device",
    "devices_within",
    "devices_worth",
    "each",
    "found",
    "in_blocks",
    "laid_out_for",
    "numbers_at_once",
    "rows_at_once",
]

_R = TypeVar("_R")

_SHARE = 32
"""A block holds at most this part of an accelerator's memory: programs keep several arrays of a block's size."""

_BYTES = 8
"""Of a number, in double precision."""

_BLOCK_BYTES = 2**19
"""Size of a block of rows and of what is made of them on a CPU: it stays in a core's cache."""

_FEWEST_ROWS = 256
"""Rows of a block however wide they are."""

_WORTH_SPREADING = 8_000_000
"""Fewest products for which work on rows is spread over CPU devices: some milliseconds."""

_UNKNOWN = 8 * 2**30
"""Bytes of memory of an accelerator that does not tell."""


@dataclass(frozen=True)
class Device:
    """What work is laid out for.

    >>> Device("gpu", memory=16 * 2**30).numbers
    67108864
    """

    platform: str
    """As JAX calls it: cpu, gpu, tpu."""
    memory: int = _UNKNOWN
    """Bytes that programs can use; on a CPU they do not matter."""

    @property
    def is_cpu(self) -> bool:
        """Whether caches decide how large a block is, and not memory."""
        return self.platform == "cpu"

    @property
    def numbers(self) -> int:
        """How many numbers an accelerator works on at a time."""
        return max(1, self.memory // (_SHARE * _BYTES))


_stated: Device | None = None


def found() -> Device:
    """The device on which JAX runs programs."""
    asked = getattr(jax.config, "jax_default_device", None)
    first = asked if isinstance(asked, jax.Device) else jax.local_devices(backend=asked)[0]
    if first.platform == "cpu":
        return Device("cpu")
    statistics = first.memory_stats() or {}
    return Device(first.platform, int(statistics.get("bytes_limit", _UNKNOWN)))


def device() -> Device:
    """The device that work is laid out for: the one on which it runs, but within :func:`laid_out_for`."""
    return found() if _stated is None else _stated


@contextmanager
def laid_out_for(stated: Device) -> Iterator[None]:
    """Lay out work as for another device, for the whole process: to try on a CPU what a GPU would run.

    Programs compiled before are compiled again, within and afterwards.

    >>> with laid_out_for(Device("gpu", memory=2**30)):
    ...     numbers_at_once(1000)
    4194304
    >>> numbers_at_once(1000) == (1000 if found().is_cpu else found().numbers)
    True
    """
    global _stated
    before, _stated = _stated, stated
    jax.clear_caches()
    try:
        yield
    finally:
        _stated = before
        jax.clear_caches()


def numbers_at_once(on_cpu: int) -> int:
    """How many numbers a block of work holds.

    Args:
        on_cpu: how many suit the caches of a CPU.
    """
    here = device()
    return on_cpu if here.is_cpu else here.numbers


def rows_at_once(num_rows: int, width: int, dtype: np.dtype[Any]) -> int:
    """How many rows a block holds: a divisor of their number if there is one close by, or all of them.

    Args:
        num_rows: number of all rows.
        width: numbers of a row and of what is made of it.
        dtype: of these numbers.
    """
    most = max(_FEWEST_ROWS, numbers_at_once(_BLOCK_BYTES // dtype.itemsize) // width)
    if num_rows <= most:
        return num_rows
    return next((size for size in range(most, most // 2, -1) if num_rows % size == 0), most)


def in_blocks(function: Callable[[Any], _R], rows: Any, block: int) -> _R:
    """``function`` of blocks of rows, its results (one for each row, rows first) joined.

    Args:
        function: of a structure of arrays of ``block`` rows.
        rows: a structure of arrays (N, ...); the last block is filled up with copies of the last row.
        block: how many at a time.
    """
    num_rows = len(jax.tree.leaves(rows)[0])

    def cut(leaf: jax.Array) -> jax.Array:
        edge = ((0, -num_rows % block), *[(0, 0)] * (leaf.ndim - 1))
        return jnp.pad(leaf, edge, mode="edge").reshape(-1, block, *leaf.shape[1:])

    results = jax.lax.map(function, jax.tree.map(cut, rows))
    joined: _R = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:num_rows], results)
    return joined


def devices_worth(products: int) -> list[jax.Device]:
    """The devices over which rows are spread: all of them where there are so many products, else the first."""
    devices: list[jax.Device] = jax.local_devices()  # of this process
    return devices if products >= numbers_at_once(_WORTH_SPREADING) else devices[:1]


def devices_within(products: int) -> list[jax.Device]:
    """The devices over which rows are spread within a compiled program, which waits for all of them at every step.

    On a CPU only the first: its programs use all cores, and devices that share these would wait for each other. Nor
    are rows spread again where chains are.

    Args:
        products: of a step.
    """
    devices, is_spread = devices_worth(products), not jax.sharding.get_abstract_mesh().empty
    return devices[:1] if device().is_cpu or is_spread else devices


def each(function: Callable[[Any], _R], over: Any, *, numbers: int, on_cpu: int | None = None) -> _R:
    """``function`` of every item along the leading axis of ``over``, the results stacked.

    Args:
        function: of one item.
        over: a structure of arrays whose leading axes have one length.
        numbers: how many numbers the work on one item holds at a time, roughly.
        on_cpu: how many items go side by side on a CPU; None: they go one after the other.
    """
    here, count = device(), on_cpu
    if not here.is_cpu:
        together = max(1, here.numbers // max(1, numbers))
        count = 0 if together >= len(jax.tree.leaves(over)[0]) else together  # 0 stands for all
    results: _R = jax.lax.map(function, over, batch_size=count)
    return results
