"""Memories from a stream of data: learn from one part after another, query at any time, save and resume.

The engine is :mod:`probam.inference.stream.engine`. A stream is first :mod:`probam.streams.waiting` for enough rows to
set its prior, and then :mod:`probam.streams.learning`; this file is the class that users see.
"""

import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import xarray as xr

from probam.data.rotation import EVERY
from probam.data.source import row_blocks
from probam.data.table import Table
from probam.errors import InputError, ProbamError
from probam.family import Family
from probam.fits.choices import find_family, saved_family
from probam.fits.fitted import Fit
from probam.inference.common.progress import Listener, Reporter
from probam.inference.stream.engine import Absorbed
from probam.options import file_path, optional, takes, whole_number
from probam.streams.checkpoint import PassFile
from probam.streams.learning import Learning
from probam.streams.options import StreamOptions
from probam.streams.prior import known_arrays
from probam.streams.schema import Schema
from probam.streams.storage import read_stream, stream_group, write_stream
from probam.streams.to_fit import fit_tree_of_stream, usual_draws
from probam.streams.waiting import Waiting

__all__ = ["Stream", "run_stream"]

_log = logging.getLogger(__name__)

_Answer = TypeVar("_Answer")


class Stream:
    """An associative memory that creates memories as its data require.

    The default prior is scaled to the first ``warm`` rows, which are held back until all of them have arrived (or until
    a result is requested). How the data are divided into parts does not change the result. The same seed and data give
    the same bits. After an error a stream is, bit for bit, what it was before the call. ``help(Stream.__init__)``
    describes the options.
    """

    @takes(StreamOptions)
    def __init__(self, options: StreamOptions) -> None:
        """A stream without data. Every option has a default.

        Raises:
            InputError: for an option that has the wrong type or value, or cannot go together with another.
        """
        self.family = find_family(options.family, options.covariance)
        if options.standardise and self.family.as_they_are:
            raise InputError(f"standardise: family {self.family.name!r} takes the data as they are; leave it out")
        self._options = options
        self._life: Waiting | Learning = Waiting(options, self.family)
        self.recent: Absorbed | None = None
        """What happened to each row of the last :meth:`partial_fit`; None while the rows are held back."""

    def __repr__(self) -> str:
        try:
            memories = f"{self.num_memories} memories"
        except ProbamError:
            memories = "from which no memory can be made yet"
        return f"<probam.Stream: {self.family.signature}, {self.num_data} data, {memories}>"

    # --- learning ----------------------------------------------------------------------------------------------

    def partial_fit(self, data: Any, *, progress: Listener | None = None) -> "Stream":
        """Learn from more rows, one after the other. Returns the stream itself.

        Args:
            data: anything that ``probam.fit`` reads, with the same columns in every call.
            progress: called with a ``probam.Progress`` now and then. Where it raises ``probam.Stop``, the rows so far
                are learned and the others are not; ``num_data`` says how many were.

        Raises:
            InputError: for data that cannot be read, have other columns, or are outside the support of the family.
            NumericalError: when a predictive density stops being finite.
        """
        if isinstance(self._life, Waiting):
            waiting = self._life.with_rows(data)
            if waiting.has_enough:
                self._life, self.recent = waiting.begun(Reporter(progress))
            else:
                self._life, self.recent = waiting, None
        else:
            self.recent = self._life.absorb(self._life.schema.read(data, self.family), Reporter(progress))
        return self

    def flush(self) -> "Stream":
        """Learn from the rows that are held back, with a prior scaled to those. Returns the stream itself.

        Raises:
            InputError: if there are no data yet.
        """
        self._ask(lambda learning: learning)
        return self

    def _ask(self, question: Callable[[Learning], _Answer]) -> _Answer:
        """The answer of a stream that learns; rows that are held back are learned from if there is an answer."""
        if not isinstance(self._life, Waiting):
            return question(self._life)
        learning, recent = self._life.begun()
        answer = question(learning)
        self._life, self.recent = learning, recent
        return answer

    def _preview(self) -> Learning | None:
        """The stream as :meth:`flush` would leave it, without flushing it; None before the first data."""
        if not isinstance(self._life, Waiting):
            return self._life
        return self._life.begun()[0] if self._life.num_data else None

    @property
    def schema(self) -> Schema | None:
        """Columns and precision of the rows; None before the first."""
        return self._life.schema

    # --- questions ---------------------------------------------------------------------------------------------

    @property
    def num_data(self) -> int:
        """Number of rows so far, including those that are held back."""
        return self._life.num_data

    @property
    def num_memories(self) -> int:
        """Number of memories (in the particle of largest weight, if there are several).

        While rows are held back, this and the other numbers below are those after :meth:`flush`, but the rows stay held
        back. They raise :class:`probam.errors.InputError` if the prior cannot be set from these rows.
        """
        learning = self._preview()
        return 0 if learning is None else learning.num_memories

    @property
    def seconds(self) -> float:
        """Seconds spent learning."""
        return 0.0 if isinstance(self._life, Waiting) else self._life.seconds

    @property
    def log_predictive(self) -> float:
        """Prequential log score: sum over the data of log p(x_n | earlier data and their labels), data units, nats.

        With energy "collapsed" each term is a log density, and the sum is the log evidence as one particle estimates
        it. Energy "printed" has no normaliser, so that its sum has no meaning by itself.
        """
        learning = self._preview()
        return 0.0 if learning is None else learning.log_predictive

    @property
    def log_evidence(self) -> float | None:
        """Log density of all data under the model in nats, with an unbiased exponential; None if it is not estimated.

        It is :attr:`log_predictive` if memories are drawn (rule "sample") by exact densities (energy "collapsed") and
        are never pruned, merged or dropped. More particles make its error smaller.
        """
        return self.log_predictive if self._options.estimates_evidence else None

    @property
    def alpha(self) -> float:
        """Strength of the process; its current value if it is learned (weighted mean of the particles)."""
        learning = None if self._options.alpha_prior is None else self._preview()
        return float(self._options.alpha) if learning is None else learning.process.alpha

    @property
    def discount(self) -> float:
        """Discount of the process; its current value if it is learned (weighted mean of the particles)."""
        learning = None if self._options.alpha_prior is None else self._preview()
        return float(self._options.discount) if learning is None else learning.process.discount

    def warnings(self) -> list[str]:
        """Sentences about assumptions of the stream that the data contradict; an empty list if there are none.

        The sizes of the memories are tested for a power-law tail, which contradicts a Dirichlet process (p < 0.01). A
        sentence also says so if the predictive density of the family is approximated.
        """
        return self._ask(Learning.warnings)

    def number_of_memories(self) -> pd.Series:
        """Posterior probability of each number of memories, from the weights of the particles."""
        return self._ask(Learning.number_of_memories)

    @property
    def growth(self) -> pd.DataFrame:
        """Number of memories and prequential log score after n data, for n evenly spaced in log n."""
        return self._ask(lambda learning: learning.growth)

    def predict(self, data: Any) -> xr.Dataset:
        """The memory of each row and its probability, without learning from the rows.

        Args:
            data: anything that ``probam.fit`` reads, with the columns of the stream.

        Returns:
            For each row ``label`` (the number of its memory, in order of creation), ``probability`` of that memory,
            ``probability_new`` (of none of the memories) and ``log_predictive`` (log density of the row given all data
            so far, in data units and nats). Several particles are averaged by weight, except for ``label`` and
            ``probability``, which are those of the particle of largest weight. ``memory`` is the former name of
            ``label`` and will go.
        """
        return self._ask(lambda learning: learning.predict(data))

    def responsibilities(self, data: Any) -> xr.DataArray:
        """Probability (datum, memory) of each memory for each row, if the row is of one of them; rows sum to one.

        Memories have their numbers, in order of creation. Of several particles it is the one of largest weight.

        Args:
            data: anything that ``probam.fit`` reads, with the columns of the stream.
        """
        return self._ask(lambda learning: learning.responsibilities(data))

    def memories(self) -> pd.DataFrame:
        """Table of the memories, largest first.

        ``count`` is the number of data of a memory, ``weight`` its probability before the next datum is seen; ``born``
        and ``last`` are the numbers of the data that created it and that used it last. The columns of the data hold its
        mean for the next datum, if the family has one.
        """
        return self._ask(Learning.memories)

    # --- files -------------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the stream to a NetCDF4 file, completely or not at all; :meth:`load` resumes it bit for bit.

        Args:
            path: the file.

        Raises:
            InputError: if the stream has priors of its own, which a file cannot hold, or the file cannot be written.
        """
        file_path("path", path)
        write_stream(path, self._saveable())

    def _saveable(self) -> xr.Dataset:
        """The group of the stream as it is; raises where a file cannot hold it."""
        if self._options.prior:
            raise InputError(
                "prior: a stream with priors of your own cannot be saved; use known values or the default priors"
            )
        return self._group(self._life)

    def _group(self, life: Waiting | Learning) -> xr.Dataset:
        """Everything, as arrays that NetCDF can hold."""
        schema = life.schema
        attributes = {
            "options": json.dumps(self._options.attributes()),
            "columns": json.dumps([] if schema is None else list(schema.columns)),
            "dtype": "" if schema is None else schema.dtype.name,
            "seconds": 0.0,
            "num_data": life.num_data,
        }
        if isinstance(life, Learning):
            attributes |= {
                "seconds": life.seconds,
                "num_memories": life.num_memories,
                "log_predictive": life.log_predictive,
            }
        known = {f"known_{site}": value for site, value in known_arrays(self._options.known).items()}
        return stream_group(known | life.arrays(), attributes)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, family: str | Family | None = None) -> "Stream":
        """The stream in a file.

        Args:
            path: a file written by :meth:`save`, or a saved fit that :meth:`to_fit` made.
            family: the family of your own that it learns, as in :func:`probam.load`.

        Raises:
            InputError: for a file that is missing, damaged or holds no stream.
        """
        file_path("path", path)
        saved = read_stream(path)
        recorded = str(saved.options["family"])
        saved_family(recorded, saved.options.get("covariance"), family, os.fspath(path))
        options = saved.options | {"family": recorded if family is None else family}
        stream = cls(**options, known=saved.known)
        return stream._resumed(saved.schema, saved.arrays, saved.seconds, os.fspath(path))

    def _resumed(self, schema: Schema | None, arrays: Mapping[str, np.ndarray], seconds: float, path: str) -> "Stream":
        """The stream itself, with what it had learned; ``path`` names where that was kept in messages."""
        if schema is not None and "warm_rows" in arrays:
            learning = Learning(self._options, self.family, schema, arrays["warm_rows"], arrays)
            learning.restore(arrays, seconds, path)
            self._life = learning
        elif schema is not None and "waiting" in arrays:
            self._life = Waiting(self._options, self.family, schema, (arrays["waiting"],))
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickles and copies: arrays of NumPy, since those of JAX lose digits where it is in single precision."""
        return _unpickled, (self._options.as_dict(), self._life.schema, self._life.arrays(), self.seconds)

    # --- to a fit ----------------------------------------------------------------------------------------------

    def to_fit(self, *, num_draws: int | None = None, progress: Listener | None = None) -> Fit:
        """A :class:`probam.fits.fitted.Fit`: draws of all sites given the partition of the data into memories.

        The fit has one memory more than the stream, which stands for all memories yet to come and takes the rest of the
        weight. With several particles, each draw is conditional on the partition of a particle that is drawn by
        weight. With one particle, all draws are conditional on its last partition, and so only approximate the
        posterior. The data of the fit are a uniform sample of the rows (``reservoir``). Its group ``stream`` holds the
        stream as :meth:`save` writes it, so that :meth:`load` can resume it from the saved fit.

        Args:
            num_draws: number of draws, at least 1; None takes 200, or fewer where many memories have many features.
            progress: called with a ``probam.Progress``.
        """
        optional(whole_number(least=1))("num_draws", num_draws)
        return self._ask(lambda learning: self._fit_of(learning, num_draws, Reporter(progress)))

    def _fit_of(self, learning: Learning, num_draws: int | None, progress: Reporter) -> Fit:
        began = time.perf_counter()
        tree, model = fit_tree_of_stream(learning, num_draws or usual_draws(learning), progress)
        tree["stream"] = xr.DataTree(self._group(learning))
        tree.attrs["seconds"] = learning.seconds + time.perf_counter() - began
        return Fit(tree, model)


def _unpickled(options: dict[str, Any], schema: Schema | None, arrays: dict[str, np.ndarray], seconds: float) -> Stream:
    return Stream(**options)._resumed(schema, arrays, seconds, "pickle")


def run_stream(
    source: Any,
    *,
    columns: Sequence[str] | None = None,
    drop: Sequence[str] | None = None,
    rows: int = 50_000,
    begun: Stream | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    every: float | None = None,
    progress: Listener | None = None,
    **options: Any,
) -> Stream:
    """A :class:`Stream` after one pass over a source.

    Args:
        source: a path (CSV, TSV, Parquet and NPY are read block by block), ``"-"`` for CSV on standard input, or
            anything that ``probam.fit`` reads.
        columns: which columns to use.
        drop: which columns to leave out; they may hold text.
        rows: number of rows that are read at once.
        begun: a stream to continue, in place of a new one.
        checkpoint: a file to which the stream is written after a block of rows. The same call goes on from it with the
            same bits: it passes over the rows that were learned, after a check that they are the same.
        every: seconds between two writings of the checkpoint, at least; 0 writes it after each block, None every few
            seconds. From standard input a block is also taken when so much time is over.
        progress: called with a ``probam.Progress`` after every block; its total is 0 if the number of data is unknown.
            Where it raises ``probam.Stop``, the rest of the source is not read.
        options: those of a new :class:`Stream`.
    """
    stream = Stream(**options) if begun is None else begun
    if checkpoint is None:
        blocks, total = row_blocks(source, rows=rows, columns=columns, drop=drop)
        return _learned(stream, blocks, total, Reporter(progress))
    with PassFile(checkpoint, stream._saveable(), every=every) as file:
        if file.saved is not None:
            stream._resumed(file.saved.schema, file.saved.arrays, file.saved.seconds, file.name)
            _log.warning("%s: the first %d rows were learned before and are passed over", file.name, file.num_rows)
        seconds = EVERY if every is None else every or None
        blocks, total = row_blocks(source, rows=rows, columns=columns, drop=drop, seconds=seconds)
        return _learned(stream, blocks, total, Reporter(progress), file)


def _learned(
    stream: Stream, blocks: Iterator[Table], total: int | None, report: Reporter, file: PassFile | None = None
) -> Stream:
    """The stream after the blocks of a source of ``total`` rows, kept in a file as it goes on."""
    first = stream.num_data - (0 if file is None else file.num_rows)
    for table in blocks if file is None else file.rest(blocks):
        stream.partial_fit(table)
        if file is not None:
            file.put(stream._saveable(), table)
        learned = {} if stream.recent is None else {"memories": stream.num_memories}
        held_back = "" if learned else ", held back"
        report(stream.num_data - first, total or 0, f"stream, {stream.num_data} data{held_back}", **learned)
        if report.stopped:
            break
    stream.flush()
    if file is not None and not report.stopped:
        file.put(stream._saveable())
    report(stream.num_data, stream.num_data, f"stream, {stream.num_data} data", memories=stream.num_memories)
    return stream
