"""Data larger than memory: looked at once, then a sample of them in memory, and all rows in blocks for the engine."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from probam.data.source import RowSource
from probam.data.standardise import Standardiser, identity
from probam.data.table import Table, check_unit, check_varies
from probam.errors import InputError, rows_named
from probam.family import Family
from probam.family.capabilities import DataSpace
from probam.fits.choices import double_precision
from probam.fits.options import FitOptions
from probam.fits.spread import SpreadRows, source_for, spread_rows
from probam.inference.common.blocks import RowBlocks
from probam.inference.common.processes import everywhere
from probam.inference.common.rows import check_weight
from probam.options import num_bytes

__all__ = ["SAMPLE", "larger_source", "parts_of"]

SAMPLE = 20_000
"""Most rows of the sample that a fit holds of data larger than memory."""

_MEMORY = "4GiB"
"""Most memory of each of several processes, where none is stated."""

_HELD = 12
"""An ordinary fit holds about so many times its data."""

_ALIVE = 32
"""A block takes about so many times its own size: it is read, checked, put into other units, copied to a device."""

_SHARE = 4
"""Blocks take this part of the memory."""

_OF_SAMPLE = 3
"""The fit of the sample takes this part: a search among many memories needs many rows."""

_MOST_ROWS = 2**17
"""Rows of a block, at most: larger ones are not faster."""

_FEWEST_ROWS = 64
"""Rows of a block and of a sample, at least."""


def larger_source(data: Any, options: FitOptions) -> RowSource | SpreadRows | None:
    """The rows of data that do not fit into the memory that a fit may take; None where they do, or none is stated.

    Rows that are spread over several processes are read in blocks however few they are.

    Args:
        data: as :func:`probam.fit` takes them.
        options: of the fit.

    Raises:
        InputError: for an engine or an option that needs all rows in memory.
    """
    if options.distributed:
        return data if isinstance(data, SpreadRows) else spread_rows(data, options)
    if options.memory is None:
        return None
    limit = num_bytes(options.memory)
    source = data if isinstance(data, RowSource) else source_for(data, options)
    needed = _HELD * source.num_data * len(source.columns) * _item(source)
    if needed <= limit or source.num_data <= _sample_rows(source, limit):
        return None
    text = f"memory: {source.num_data:,} rows need about {_in_units(needed)} in memory, more than {_in_units(limit)}, "
    text += "so that they are read in blocks"
    options.check_blocks(text)
    return source


class Parts(NamedTuple):
    """What a fit of data larger than memory sees of them."""

    table: Table
    """A uniform sample of the rows, without replacement."""
    units: Standardiser
    blocks: RowBlocks
    """All rows, in the units of the model."""
    weight: Float[np.ndarray, " M"] | None = None
    """How often each row of the sample counts; None counts each once."""


def parts_of(source: RowSource | SpreadRows, options: FitOptions, family: Family) -> Parts:
    """The sample, the units and the blocks, after one pass in which all rows are checked.

    Args:
        source: the rows.
        options: of the fit.
        family: of the memories.
    """
    limit = num_bytes(_MEMORY if options.memory is None else options.memory)
    bounds = source.bounds if isinstance(source, SpreadRows) else None
    dtype = np.dtype(np.float64 if double_precision() and source.dtype != np.float32 else np.float32)
    size, weight = _block_rows(source, limit), None
    if options.sample_weight is not None:
        weight = _weight_of(source, options.sample_weight, dtype)

    def read() -> Iterator[Table]:
        for table in source.blocks(size):
            table = table.astype(dtype)
            yield table.normalised() if options.normalise else table

    seen, digest = _seen(read, family)
    if bounds is not None:
        seen, digest = seen.of_all_processes(), everywhere(np.frombuffer(digest, np.uint8)).tobytes()
    extremes = Table(np.stack([seen.lowest, seen.highest]), source.columns, source.name)
    check_unit(extremes, num_data=source.num_data)
    if options.standardise:
        check_varies(extremes)
        deviation = np.sqrt(seen.squares / seen.number)
        units = Standardiser(seen.mean.astype(dtype), deviation.astype(dtype))
    else:
        units = identity(len(source.columns), dtype)
    rows, drawn = source.sample(_sample_rows(source, limit), int(options.seed))
    rows = rows.astype(dtype)
    rows = rows.normalised() if options.normalise else rows
    named = replace(rows, source=f"a sample of {rows.num_data:,} rows of {source.name}")
    DataSpace.of(family).check_data(named.values, named.columns)

    def blocks() -> Iterator[np.ndarray]:
        for table in read():
            yield np.asarray(units.apply(table.values), dtype)

    said = hashlib.sha256(digest).hexdigest()
    of_all = RowBlocks(source.num_data, size, dtype, blocks, weight, bounds, said)
    of_sample = None if weight is None else _of_sample(source, weight, drawn)
    return Parts(replace(rows, source=source.name), units, of_all, of_sample)


def _weight_of(source: RowSource | SpreadRows, weight: object, dtype: np.dtype[Any]) -> Float[np.ndarray, " n"]:
    """How often each row that this process reads counts."""
    return source.own(weight, dtype) if isinstance(source, SpreadRows) else check_weight(weight, source.num_data, dtype)


def _of_sample(
    source: RowSource | SpreadRows, weight: Float[np.ndarray, " n"], drawn: NDArray[np.int64]
) -> Float[np.ndarray, " M"]:
    """The weights of a sample; raises :class:`probam.errors.InputError` where no row of it counts."""
    of_sample = source.at(drawn, weight) if isinstance(source, SpreadRows) else weight[drawn]
    if not (of_sample > 0).any():
        raise InputError(
            f"sample_weight: all {len(drawn):,} rows of the sample that is searched have weight 0; leave rows of "
            "weight 0 out of the data, or give more memory"
        )
    return np.asarray(of_sample)


class _Seen(NamedTuple):
    """Moments and extremes of some rows."""

    number: int
    mean: Float[np.ndarray, " D"]
    squares: Float[np.ndarray, " D"]
    """Sums of squares about the mean."""
    lowest: np.ndarray
    highest: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray) -> "_Seen":
        x = values.astype(np.float64)
        mean = x.mean(axis=0)
        squares = ((x - mean) ** 2).sum(axis=0)
        return cls(len(x), mean, squares, values.min(axis=0), values.max(axis=0))

    def of_all_processes(self) -> "_Seen":
        """Those of the rows of all processes, joined in their order."""
        own = np.concatenate([[self.number], self.mean, self.squares, self.lowest, self.highest])
        parts = []
        for number, *others in everywhere(own):
            mean, squares, lowest, highest = np.split(np.asarray(others), 4)
            parts.append(_Seen(int(number), mean, squares, lowest, highest))
        return reduce(_Seen.joined, parts)

    def joined(self, other: "_Seen") -> "_Seen":
        """Those of both together.

        Source: Chan, Golub & LeVeque (1983), Algorithms for computing the sample variance.
        """
        number, apart = self.number + other.number, other.mean - self.mean
        return _Seen(
            number,
            self.mean + apart * (other.number / number),
            self.squares + other.squares + apart**2 * (self.number * other.number / number),
            np.minimum(self.lowest, other.lowest),
            np.maximum(self.highest, other.highest),
        )


def _seen(read: Callable[[], Iterator[Table]], family: Family) -> tuple[_Seen, bytes]:
    """What one pass sees of all rows, each of which is checked, and a digest of them."""
    total, digest = None, hashlib.sha256()
    for table in read():
        with rows_named(table.row_words):
            DataSpace.of(family).check_support(table.values, table.columns)
        digest.update(np.ascontiguousarray(table.values).data)
        own = _Seen.of(table.values)
        total = own if total is None else total.joined(own)
    assert total is not None, "a source has rows"
    return total, digest.digest()


def _item(source: RowSource | SpreadRows) -> int:
    return int(np.dtype(source.dtype).itemsize)


def _sample_rows(source: RowSource | SpreadRows, limit: int) -> int:
    """How many rows the sample has."""
    of_a_row = len(source.columns) * _item(source) * _HELD
    return _at_least(source, limit // _OF_SAMPLE // of_a_row, SAMPLE)


def _block_rows(source: RowSource | SpreadRows, limit: int) -> int:
    """How many rows a block has: a power of two, which smaller blocks divide."""
    of_a_row = len(source.columns) * _item(source) * _ALIVE
    rows = _at_least(source, limit // _SHARE // of_a_row, _MOST_ROWS)
    return 1 << (rows.bit_length() - 1)


def _at_least(source: RowSource | SpreadRows, rows: int, most: int) -> int:
    """As many rows as there is memory for, but not more than ``most``."""
    if rows < _FEWEST_ROWS:
        needed = _FEWEST_ROWS * len(source.columns) * _item(source) * max(_ALIVE * _SHARE, _HELD * _OF_SAMPLE)
        raise InputError(
            f"memory: expected at least {_in_units(needed)} for rows of {len(source.columns)} columns; give more"
        )
    return min(rows, most)


def _in_units(number: float) -> str:
    """Bytes as people read them.

    >>> _in_units(1.5 * 2**30), _in_units(700)
    ('1.5 GiB', '1 KiB')
    """
    for unit, size in (("GiB", 2**30), ("MiB", 2**20)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{-(-number // 2**10):.0f} KiB"
