"""Several processes of one run, each of which reads its own rows: how they tell each other what these come to.

They are started and connected by :func:`jax.distributed.initialize`. All run the same program: they call the functions
below in the same order, and get the same numbers. What processes have is joined in the order of their numbers, in
double precision or as it is, so that the result does not depend on who is first. One device of each process takes part,
so that none waits for another of its own.
"""

import zlib
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Float, UInt8

from probam.errors import InputError, ProbamError, without_addresses

__all__ = ["agreed", "check_alike", "check_connected", "everywhere", "is_first", "joined", "of_first", "totalled"]

_Tree = TypeVar("_Tree")

_ONE_KIND = "give all of them machines of one kind and the same versions"


def check_connected() -> None:
    """Raise :class:`probam.errors.InputError` where this process is not connected to others."""
    if not jax.distributed.is_initialized():
        raise InputError(
            "distributed: this process is not connected to others; call jax.distributed.initialize() before anything "
            "else of JAX, or use `probam fit --distributed`"
        )


def is_first() -> bool:
    """Whether this process is the one that writes and prints."""
    return jax.process_index() == 0


def everywhere(values: np.ndarray) -> np.ndarray:
    """What every process gives, stacked in their order, with every bit.

    Args:
        values: of this process; of one shape and type on all.

    Raises:
        ProbamError: where another process has ended.
    """
    bits = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
    return np.frombuffer(_together(bits, _same).tobytes(), values.dtype).reshape(-1, *values.shape)


def _together(bits: UInt8[np.ndarray, " B"], program: Callable[[jax.Array], jax.Array]) -> UInt8[np.ndarray, "..."]:
    """What a program makes of the bytes of all processes, (P, B), on each of them."""
    if jax.process_count() == 1:
        return np.asarray(program(jax.device_put(bits[None])))
    first = {device.process_index: device for device in reversed(jax.devices())}
    mesh = Mesh(np.asarray([first[process] for process in sorted(first)]), ("process",))
    own = jax.device_put(bits[None], first[jax.process_index()])
    of_all = jax.make_array_from_single_device_arrays(
        (len(first), len(bits)), NamedSharding(mesh, PartitionSpec("process")), [own]
    )
    try:
        copied = jax.jit(program, out_shardings=NamedSharding(mesh, PartitionSpec()))(of_all)
        return np.asarray(copied.addressable_data(0))
    except (ValueError, RuntimeError) as error:  # of the library that carries the numbers
        raise ProbamError(
            f"distributed: another process of this run has ended, so that this one, number {jax.process_index()} of "
            f"{jax.process_count()}, cannot go on; its own message says why. Start all of them again; with a "
            "checkpoint they go on from there"
        ) from error


def _same(values: jax.Array) -> jax.Array:
    return values


def _only(values: jax.Array) -> jax.Array:
    """Of all rows but one, zeros."""
    return values.sum(axis=0, dtype=values.dtype)


def totalled(tree: _Tree, given: Any) -> _Tree:
    """The sum over all processes, in their order.

    Args:
        tree: a structure of float64 arrays.
        given: what these were computed from beside the rows.

    Raises:
        ProbamError: where another process has ended, or was given something else.
    """
    leaves, structure = jax.tree.flatten(tree)
    parts = everywhere(np.concatenate([[float(_digest(given))], *map(np.ravel, leaves)]))
    _check_same(parts[:, 0], "the numbers", _ONE_KIND)
    total = parts[0, 1:].copy()
    for part in parts[1:, 1:]:
        total += part
    ends = np.cumsum([np.size(leaf) for leaf in leaves])
    each = zip(np.split(total, ends[:-1]), leaves, strict=True)
    whole: _Tree = jax.tree.unflatten(structure, [part.reshape(np.shape(leaf)) for part, leaf in each])
    return whole


def agreed(tree: _Tree) -> _Tree:
    """What the first process has, on all of them: they may differ in the last digits where their devices do.

    Args:
        tree: a structure of arrays.
    """

    def one(leaf: Any) -> jax.Array:
        own = np.asarray(leaf)
        bits = _bits_of_first(np.frombuffer(np.ascontiguousarray(own).tobytes(), np.uint8))
        moved: jax.Array = jax.device_put(np.frombuffer(bits.tobytes(), own.dtype).reshape(own.shape))
        return moved

    with_first: _Tree = jax.tree.map(one, tree)
    return with_first


def of_first(content: bytes) -> bytes:
    """The bytes that the first process gives, on all of them; how many there are, only that one knows.

    Args:
        content: of this process.
    """
    number = int(everywhere(np.asarray([len(content)]))[0, 0])
    own = np.frombuffer(content, np.uint8) if is_first() else np.zeros(number, np.uint8)
    return _bits_of_first(own).tobytes() if number else b""


def _bits_of_first(bits: UInt8[np.ndarray, " B"]) -> UInt8[np.ndarray, " B"]:
    return _together(bits if is_first() else np.zeros_like(bits), _only)


def check_alike(given: object, what: str, remedy: str) -> None:
    """Raise :class:`probam.errors.ProbamError` where processes were not given the same.

    Args:
        given: anything of which ``repr`` says what it is, addresses aside.
        what: it is, in words.
        remedy: what to do, in words.
    """
    digest = zlib.crc32(without_addresses(repr(given)).encode())
    _check_same(everywhere(np.asarray([float(digest)]))[:, 0], what, remedy)


def _check_same(digests: Float[np.ndarray, " P"], what: str, remedy: str) -> None:
    others = np.flatnonzero(digests != digests[0])
    if len(others):
        raise ProbamError(f"distributed: {what} of process {others[0]} differ from those of process 0; {remedy}")


def _digest(tree: Any) -> int:
    """A checksum of all leaves, whatever their order: that of a distribution's is not the same in all processes."""
    return sum(zlib.crc32(np.ascontiguousarray(leaf).tobytes()) for leaf in jax.tree.leaves(tree))


def joined(rows: np.ndarray, counts: Sequence[int]) -> np.ndarray:
    """The rows of all processes, one after the other.

    Args:
        rows: (n, D) those of this process.
        counts: how many each process has.
    """
    most = max(counts)
    padded = np.zeros((most, *rows.shape[1:]), rows.dtype)
    padded[: len(rows)] = rows
    parts = everywhere(padded)
    return np.concatenate([part[:count] for part, count in zip(parts, counts, strict=True)])
