"""The checkpoint of one pass over a source: the stream as it is, and which rows of the source it has learned.

The file is that of a stream (:mod:`probam.streams.storage`), sealed, and its last two versions are kept
(:mod:`probam.data.rotation`). Its attribute ``taken`` says how many rows of the source were learned and what their
digest is, so that the same pass goes on after them and other rows are noticed before any is learned.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from probam.data.rotation import Keeper
from probam.data.table import Table
from probam.errors import InputError
from probam.reports.digest import digests
from probam.reports.tree import tree_bytes
from probam.streams.storage import Saved, read_stream, stream_tree

__all__ = ["PassFile"]


class _Taken(NamedTuple):
    """What a pass has learned."""

    begun: str
    """Digest of the stream that it began with."""
    rows: int
    digest: str
    """Of the rows."""


class PassFile:
    """The file of one pass, locked until it is closed; as a context it closes itself.

    Args:
        path: where it is, or will be written.
        begun: the group ``stream`` of the stream that the pass begins with.
        every: seconds between two writings, at least; None for the usual few.

    Raises:
        InputError: where no file can be written at ``path``, another run writes it, or the file there is damaged, of no
            stream, or of another pass.
    """

    def __init__(self, path: str | os.PathLike[str], begun: xr.Dataset, *, every: float | None = None) -> None:
        self.name = os.fspath(path)
        self._seen = hashlib.blake2b(digest_size=16)
        self._taken = _Taken(digests(xr.DataTree.from_dict({"stream": begun})), 0, self._seen.hexdigest())
        self._keeper = Keeper(path, every=every)
        self.saved: Saved | None = self._keeper.read(partial(self._read, json.loads(begun.attrs["options"])))
        """The stream so far; None where the pass has not begun."""

    def __enter__(self) -> "PassFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._keeper.close()

    @property
    def num_rows(self) -> int:
        """How many rows of the source were learned."""
        return self._taken.rows

    def _read(self, options: Mapping[str, Any], path: Path) -> Saved:
        """The stream in a file of this pass."""
        saved = read_stream(path)
        if not saved.taken:
            raise InputError(f"checkpoint: {path} is a stream but no checkpoint of one; go on from it with --resume")
        taken, theirs = _Taken(*json.loads(saved.taken)), saved.options
        differ = [name for name in {**options, **theirs} if options.get(name) != theirs.get(name)]
        told = [f"{name} is {theirs.get(name)} in the file and {options.get(name)} in this run" for name in differ]
        if not told and taken.begun != self._taken.begun:
            told = ["it began with other memories or known values"]
        if told:
            raise InputError(
                f"checkpoint: {path} is of another stream: {'; '.join(told)}. Continue with the options it was made "
                "with, delete it to start again, or name another file"
            )
        self._taken = taken
        return saved

    def rest(self, blocks: Iterator[Table]) -> Iterator[Table]:
        """The tables of a source without the rows that were learned before.

        Raises :class:`probam.errors.InputError` where these are not the first rows of the source.
        """
        left = self._taken.rows
        for table in blocks:
            known = min(left, table.num_data)
            left -= known
            if known:
                self._seen.update(_bytes(table.values[:known]))
                if not left and self._seen.hexdigest() != self._taken.digest:
                    raise InputError(
                        f"checkpoint: the first {self._taken.rows} rows of {table.source} are not those that "
                        f"{self.name} has learned; give the same data again, or go on with new data by --resume"
                    )
            if known < table.num_data:
                yield replace(table, values=table.values[known:])
        if left:
            raise InputError(
                f"checkpoint: {self.name} has learned {self._taken.rows} rows, of which the data lack {left}; give the "
                "same data again, or go on with new data by --resume"
            )

    def put(self, stream: xr.Dataset, learned: Table | None = None) -> None:
        """The stream as it is now, after these rows too; it is written if that is due.

        Args:
            stream: its group ``stream``.
            learned: the rows, in their order; None where there are no more.
        """
        if learned is not None:
            self._seen.update(_bytes(learned.values))
            self._taken = _Taken(self._taken.begun, self._taken.rows + learned.num_data, self._seen.hexdigest())
        self._keeper.put(partial(_write, stream, self._taken))


def _write(stream: xr.Dataset, taken: _Taken, path: Path) -> None:
    path.write_bytes(tree_bytes(stream_tree(stream, taken=json.dumps(taken))))


def _bytes(rows: np.ndarray) -> bytes:
    """The rows, the same in every precision that holds them."""
    return np.ascontiguousarray(rows, np.float64).tobytes()
