"""Rows that are read again at each pass: sums over data larger than memory.

A pass takes the rows in blocks of one shape, so that one program serves all of them; the last block is filled up with
rows of weight zero. While one block is computed the next is read. Blocks are computed in the precision of the rows.
What they come to is added up in double precision, in their order, and what follows from the sums is computed in it too:
neither the number of rows nor that of devices costs digits.
"""

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from probam.data.source import read_ahead
from probam.errors import InputError
from probam.family import Model, Params
from probam.inference.common.processes import agreed, everywhere, joined, totalled
from probam.inference.common.progress import Listener, Reporter, resumable, silent
from probam.inference.common.result import Survey
from probam.options import whole_number
from probam.placement import devices_worth, each, rows_at_once

__all__ = [
    "IN_SAMPLE",
    "Block",
    "RowBlocks",
    "as_floats",
    "draws_wanted",
    "in_cache",
    "in_double",
    "resumable_over",
    "summed",
    "surveyed",
]

IN_SAMPLE = "best end in the sample"
"""The kind of a start that a search in a sample of the rows has found."""

_Sums = TypeVar("_Sums")
_Tree = TypeVar("_Tree")


class Block(NamedTuple):
    """Some rows, and how often each counts."""

    x: Float[np.ndarray, "B D"]
    weight: Float[np.ndarray, " B"]


@dataclass(frozen=True, eq=False)
class RowBlocks:
    """All rows of the data, which do not fit into memory."""

    num_data: int
    """How many rows there are."""
    size: int
    """Rows of a block."""
    dtype: np.dtype[Any]
    """Of the rows."""
    read: Callable[[], Iterator[Float[np.ndarray, "_ D"]]]
    """The rows in the units of the model, from the first one, in pieces of at most ``size`` rows."""
    weight: Float[np.ndarray, " n"] | None = None
    """How often each row that this process reads counts; None counts each once."""
    bounds: tuple[int, ...] | None = None
    """Where every process begins to read, and the end, where each of several reads its own rows; None: one reads all.
    """
    digest: str = ""
    """Of all rows, by which a checkpoint knows them."""

    def __len__(self) -> int:
        """How many blocks this process reads."""
        return -(-self._num_read // self.size)

    @property
    def _process(self) -> int:
        return 0 if self.bounds is None else jax.process_index()

    @property
    def _num_read(self) -> int:
        ends = self._ends_of_rows
        return int(ends[self._process + 1] - ends[self._process])

    @property
    def _ends_of_rows(self) -> np.ndarray:
        """Where the rows of each process begin among all, and N."""
        return np.asarray((0, self.num_data) if self.bounds is None else self.bounds)

    @cached_property
    def _counted(self) -> Float[np.ndarray, " n"]:
        """How often the rows up to each of this process count together."""
        assert self.weight is not None, "rows have weights"
        return np.cumsum(self.weight, dtype=np.float64)

    @cached_property
    def _ends(self) -> np.ndarray:
        """The same as ``_ends_of_rows``, counted by weights; the processes tell each other once."""
        if self.weight is None:
            return self._ends_of_rows
        own = self._counted[-1:]
        return np.concatenate([[0], np.cumsum(own if self.bounds is None else everywhere(own)[:, 0])])

    def __iter__(self) -> Iterator[Block]:
        """The blocks of one pass, of ``size`` rows and weights each; one is read while another is computed."""
        return read_ahead(self._blocks())

    @property
    def total_weight(self) -> float:
        """How many data there are, counted by their weights."""
        return float(self._ends[-1])

    def drawn(self, rng: np.random.Generator, number: int) -> Float[np.ndarray, "M D"]:
        """Rows drawn with replacement, each as often as it counts, in random order, by one pass over all rows.

        Args:
            rng: of the draws.
            number: how many.
        """
        places = self._places(rng, number)
        order = np.argsort(places, kind="stable")
        cuts = np.searchsorted(places[order], self._ends)
        own = order[cuts[self._process] : cuts[self._process + 1]]
        index = self._rows_at(places[own])
        rows, seen = None, 0
        for piece in read_ahead(self.read()):
            rows = np.empty((number, piece.shape[1]), piece.dtype) if rows is None else rows
            begin, end = np.searchsorted(index, [seen, seen + len(piece)])
            rows[own[begin:end]] = piece[index[begin:end] - seen]
            seen += len(piece)
        self._check_number(seen)
        assert rows is not None, "data have rows"
        if self.bounds is not None:
            rows[order] = joined(rows[own], np.diff(cuts).tolist())
        return rows

    def _places(self, rng: np.random.Generator, number: int) -> np.ndarray:
        """Places drawn uniformly where each row takes as much as it counts, one after the other."""
        if self.weight is None:
            return rng.integers(self.num_data, size=number)
        return np.minimum(rng.random(number) * self.total_weight, np.nextafter(self.total_weight, 0))

    def _rows_at(self, places: np.ndarray) -> np.ndarray:
        """The numbers of the rows at places of this process, counted from its first row."""
        if self.weight is None:
            return np.asarray(places - self._ends[self._process])
        return np.searchsorted(self._ends[self._process] + self._counted, places, side="right")

    def agreed(self, tree: _Tree) -> _Tree:
        """A structure of arrays with which a run over these rows begins: those of the first process, on all.

        What processes compute for themselves may differ in its last digits.

        Args:
            tree: the structure.
        """
        return tree if self.bounds is None else agreed(tree)

    def _blocks(self) -> Iterator[Block]:
        begin = 0
        for rows in _of_size(self.read(), self.size):
            lacking = self.size - len(rows)
            weight = np.ones(len(rows), rows.dtype)
            if self.weight is not None:
                weight = self.weight[begin : begin + len(rows)].astype(rows.dtype)
            begin += len(rows)
            if lacking:
                rows = np.concatenate([rows, np.repeat(rows[:1], lacking, axis=0)])
                weight = np.concatenate([weight, np.zeros(lacking, weight.dtype)])
            yield Block(rows, weight)
        self._check_number(begin)

    @property
    def weights_in_words(self) -> str:
        """By which a checkpoint knows the weights of all rows."""
        assert self.weight is not None, "rows have weights"
        digest = hashlib.sha256(np.ascontiguousarray(self.weight).data).digest()
        if self.bounds is not None:
            digest = hashlib.sha256(everywhere(np.frombuffer(digest, np.uint8)).tobytes()).digest()
        return f"{self.num_data} numbers {digest.hex()}"

    def _check_number(self, found: int) -> None:
        if found != self._num_read:
            raise InputError(
                f"data: expected {self._num_read} rows at each pass; this one found {found}; do not change a file "
                "while it is fitted"
            )


def _of_size(pieces: Iterator[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """The same rows in pieces of ``size``; the last one may be shorter."""
    held: list[np.ndarray] = []
    for piece in pieces:
        while len(piece):
            taken = piece[: size - sum(map(len, held))]
            held, piece = [*held, taken], piece[len(taken) :]
            if sum(map(len, held)) == size:
                yield held[0] if len(held) == 1 else np.concatenate(held)
                held = []
    if held:
        yield np.concatenate(held)


def summed(
    function: Callable[..., _Sums],
    shared: Any,
    blocks: RowBlocks,
    *,
    width: int,
    progress: Reporter = silent,
    text: str = "",
) -> _Sums:
    """The sum over all rows of what a compiled function makes of a block, in double precision on the host.

    Where several processes read their own rows, all get the sum over all of them: this is the one thing that they tell
    each other in a pass. Blocks go to the devices in turns where one is worth that. At most one more than there are
    devices wait for their end, so that memory does not grow with the number of rows.

    Args:
        function: of ``shared``, rows (B, D) and how often each counts (B,); its leaves are summed.
        shared: what all blocks share.
        blocks: the rows.
        width: products that a row takes, by which devices are chosen.
        progress: told after each block, with this text.
        text: what is being done.
    """
    devices = devices_worth(blocks.size * width)
    waiting: deque[_Sums] = deque()
    total: _Sums | None = None
    with jax.enable_x64(blocks.dtype == np.float64):
        copies = [jax.device_put(as_floats(shared, blocks.dtype), device) for device in devices]
        for number, rows in enumerate(blocks):
            which = number % len(devices)
            waiting.append(function(copies[which], *jax.device_put(rows, devices[which])))
            if len(waiting) > len(devices):
                total = _added(total, waiting.popleft())
                progress(number + 1 - len(waiting), len(blocks), text)
        for part in waiting:
            total = _added(total, part)
    progress(len(blocks), len(blocks), text)
    assert total is not None, "data have rows"
    return total if blocks.bounds is None else totalled(total, shared)


def _added(total: _Sums | None, part: _Sums) -> _Sums:
    own: _Sums = as_floats(part, np.dtype(np.float64))
    return own if total is None else jax.tree.map(np.add, total, own)


def as_floats(tree: _Tree, dtype: np.dtype[Any]) -> _Tree:
    """Leaves of a structure on the host, those of real numbers in this precision."""

    def one(leaf: Any) -> np.ndarray:
        values = np.asarray(leaf)
        return values.astype(dtype) if values.dtype.kind == "f" else values

    moved: _Tree = jax.tree.map(one, tree)
    return moved


def in_double(tree: _Tree) -> _Tree:
    """The same in double precision, for a context in which JAX computes in it."""
    moved: _Tree = jax.device_put(as_floats(tree, np.dtype(np.float64)))
    return moved


def resumable_over(
    blocks: RowBlocks | None,
    listener: Listener | None,
    checkpoint: str | os.PathLike[str] | None,
    engine: str,
    key: jax.Array,
    model: Model,
    x: jax.Array,
    options: dict[str, Any],
) -> AbstractContextManager[Reporter]:
    """:func:`~probam.inference.common.progress.resumable` for a run that may be over rows in blocks.

    A checkpoint knows them by a digest, and by how they are parted, which the sums are rounded by. Several processes
    that read them, each its own, have one checkpoint together.

    Args:
        blocks: all rows, of which ``x`` is then a sample.
    """
    if blocks is None:
        return resumable(listener, checkpoint, engine, key, model, x, options)
    readers = "1 process" if blocks.bounds is None else f"{len(blocks.bounds) - 1} processes"
    own: dict[str, Any] = {"num_data": blocks.num_data, "rows of a block": blocks.size}
    own |= {"whole data": f"read by {readers} {blocks.digest}"}
    own |= {} if blocks.weight is None else {"weights of all rows": blocks.weights_in_words}
    together = blocks.bounds is not None
    return resumable(listener, checkpoint, engine, key, model, x, options | own, together=together)


def in_cache(
    x: Float[Array, "B D"], weight: Float[Array, " B"], num_components: int
) -> tuple[Float[Array, "G R D"], Float[Array, "G R"]]:
    """A block in parts of a few rows, which a compiled function takes one after the other.

    Args:
        x: the rows.
        weight: how often each counts.
        num_components: memories, for each of which a row has a number.
    """
    size = rows_at_once(len(x), x.shape[1] + num_components, x.dtype)
    size = size if len(x) % size == 0 else len(x)
    return x.reshape(-1, size, x.shape[1]), weight.reshape(-1, size)


def draws_wanted(num_draws: int | None, blocks: RowBlocks | None) -> int:
    """How many draws of an approximation to keep: where none are asked for 1000, or 100 that each look at all rows.

    Raises :class:`probam.errors.InputError` for less than one.
    """
    if num_draws is None:
        return 1000 if blocks is None else 100
    whole_number(least=1)("num_draws", num_draws)
    return num_draws


def surveyed(model: Model, sites: Params, blocks: RowBlocks, progress: Reporter = silent) -> Survey:
    """One pass over all rows under the draws of a posterior.

    Args:
        model: the mixture.
        sites: site values of S draws; leaves lead with the axis of the draws.
        blocks: the rows.
        progress: told after each block.
    """
    num_draws = len(next(iter(sites.values())))
    width = num_draws * model.num_components
    shared, text = (model.with_row_weight(None), sites), f"reading {blocks.num_data:,} rows"
    return summed(_surveyed_block, shared, blocks, width=width, progress=progress, text=text)


@jax.jit
def _surveyed_block(shared: tuple[Model, Params], x: Float[Array, "B D"], weight: Float[Array, " B"]) -> Survey:
    model, sites = shared
    most_probable = len(next(iter(sites.values()))) == 1
    parts = in_cache(x, weight, model.num_components)

    def one(params: Params) -> Survey:
        mixture = model.mixture(params)

        def part(total: Survey, rows: tuple[jax.Array, jax.Array]) -> tuple[Survey, None]:
            log_prob, log_resp = mixture.log_prob_and_responsibilities(rows[0])
            resp = jnp.exp(log_resp)
            if most_probable:
                resp = jax.nn.one_hot(jnp.argmax(log_resp, axis=-1), model.num_components, dtype=x.dtype)
            counted = jnp.where(rows[1] > 0, rows[1] * log_prob, 0)  # 0 x -inf is not a number
            is_there = (rows[1] > 0).astype(x.dtype)  # a row is held once, however often it counts
            own = Survey(jnp.sum(counted), is_there @ resp, rows[1] @ jnp.max(log_resp, axis=-1))
            return jax.tree.map(jnp.add, total, own), None

        nothing = jnp.zeros((), x.dtype)
        zeros = Survey(nothing, jnp.zeros(model.num_components, x.dtype), nothing)
        return jax.lax.scan(part, zeros, parts)[0]

    surveys: Survey = each(one, sites, numbers=x.size * model.num_components)
    return surveys
