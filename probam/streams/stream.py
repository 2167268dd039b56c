"""A stream of data and the memories that it makes: learn by parts, ask at any time, save, load and go on.

The engine is :mod:`probam.inference.stream.engine`. A stream has two lives, :mod:`probam.streams.waiting` and
:mod:`probam.streams.learning`; this file holds what a user sees of both.
"""

import json
import os
import time
from collections.abc import Sequence
from typing import Any

import pandas as pd
import xarray as xr

from probam.data.blocks import row_blocks
from probam.errors import InputError
from probam.fits.choices import find_family
from probam.fits.fitted import Fit
from probam.inference.common.result import Progress, silent
from probam.inference.stream.engine import Absorbed
from probam.options import takes
from probam.streams.learning import Learning
from probam.streams.options import StreamOptions
from probam.streams.prior import known_arrays
from probam.streams.storage import read_stream, stream_group, write_stream
from probam.streams.to_fit import fit_tree_of_stream
from probam.streams.waiting import Waiting

__all__ = ["Stream", "run_stream"]


class Stream:
    """An associative memory that makes memories as its data call for them.

    The default prior is scaled to the first ``warm`` rows, which are held back until they have all come (or until
    something is asked): the result does not depend on how the data are cut. The same seed and data give the same bits.
    """

    @takes(StreamOptions)
    def __init__(self, options: StreamOptions) -> None:
        """Options of a stream, each with a default.

        Raises:
            InputError: naming the argument, what was expected, what came and what to do.
        """
        self.family = find_family(options.family, options.covariance)
        if options.standardise and self.family.as_they_are:
            raise InputError(f"standardise: family {self.family.name!r} takes the data as they are; leave it out")
        self._options = options
        self._life: Waiting | Learning = Waiting(options, self.family)
        self.recent: Absorbed | None = None
        """What became of the rows that the last :meth:`partial_fit` took in; None while they are held back."""

    def __repr__(self) -> str:
        return f"<probam.Stream: {self.family.signature}, {self.num_data} data, {self.num_memories} memories>"

    # --- learning ----------------------------------------------------------------------------------------------

    def partial_fit(self, data: Any, *, progress: Progress = silent) -> "Stream":
        """Learn from more rows, one after the other. Returns the stream itself.

        Args:
            data: anything that ``probam.fit`` reads, with the columns of the rows that came before.
            progress: called with (rows done, rows in all, text).

        Raises:
            InputError: for data that cannot be read, or do not fit the rows that came before or the family.
            NumericalError: when a predictive density stops being finite.
        """
        if isinstance(self._life, Waiting):
            self._life.add(data)
            self.recent = None
            if self._life.has_enough:
                self._begin(self._life, progress)
            return self
        rows = self._life.schema.read(data, self.family)
        self.recent = None
        self.recent = self._life.absorb(rows, progress)
        return self

    def flush(self) -> "Stream":
        """Take in the rows that were held back, with a prior scaled to as many as have come."""
        self._learning()
        return self

    def _learning(self) -> Learning:
        """The second life, which begins here if it had not."""
        return self._begin(self._life, silent) if isinstance(self._life, Waiting) else self._life

    def _begin(self, waiting: Waiting, progress: Progress) -> Learning:
        """From the first life to the second, with the rows that were held back."""
        learning, rows = waiting.begin()
        self.recent = learning.absorb(rows, progress)
        self._life = learning
        return learning

    # --- questions ---------------------------------------------------------------------------------------------

    @property
    def num_data(self) -> int:
        """Rows that have come, those held back included."""
        return self._life.num_data

    @property
    def num_memories(self) -> int:
        """Memories alive (of several particles: in the one of largest weight)."""
        return 0 if isinstance(self._life, Waiting) else self._life.num_memories

    @property
    def seconds(self) -> float:
        """Time spent learning."""
        return 0.0 if isinstance(self._life, Waiting) else self._life.seconds

    @property
    def log_predictive(self) -> float:
        """Prequential log score: sum over the data of log p(x_n | the data before, as they were labelled), nats.

        In data units. With energy "collapsed" each term is a density, and the sum the log evidence as one particle
        estimates it; "printed" has no normaliser, and its sum means nothing on its own.
        """
        return 0.0 if isinstance(self._life, Waiting) else self._life.log_predictive

    @property
    def log_evidence(self) -> float | None:
        """Log density of all data under the model, nats, its exponential unbiased; None where it is not estimated.

        That is :attr:`log_predictive` where memories are drawn (rule "sample") by exact densities (energy "collapsed")
        and none was pruned, merged or dropped; the more particles, the smaller its error.
        """
        return self.log_predictive if self._options.estimates_evidence else None

    @property
    def alpha(self) -> float:
        """Strength of the process; where it is learned, as it stands (the mean of particles by weight)."""
        return float(self._options.alpha) if isinstance(self._life, Waiting) else self._life.process.alpha

    @property
    def discount(self) -> float:
        """Discount of the process; where it is learned, as it stands (the mean of particles by weight)."""
        return float(self._options.discount) if isinstance(self._life, Waiting) else self._life.process.discount

    def warnings(self) -> list[str]:
        """Sentences on what the data say against the stream's assumptions; empty where nothing was found.

        The sizes of the memories are tested for a power-law tail, which contradicts a Dirichlet process (p < 0.01). A
        family that is streamed by an approximation is named too.
        """
        return self._learning().warnings()

    def number_of_memories(self) -> pd.Series:
        """Posterior probability of each number of memories, as the particles have it."""
        return self._learning().number_of_memories()

    @property
    def growth(self) -> pd.DataFrame:
        """Memories alive and prequential log score after n data, for n evenly spaced in log n."""
        return self._learning().growth

    def predict(self, data: Any) -> xr.Dataset:
        """What the memories say of each row of ``data``, nothing learned.

        ``memory`` (number in order of creation), ``probability`` of it, ``probability_new`` (that the row is of no
        memory yet), ``log_predictive`` (log density of the row given all data so far, data units, nats). Several
        particles are averaged by weight; ``memory`` and ``probability`` are of the one of largest weight.
        """
        return self._learning().predict(data)

    def memories(self) -> pd.DataFrame:
        """Memories alive, largest first: data, probability before the next datum is seen, birth, last use, mean.

        Counts are of all data; the probability and the mean are those for the next datum.
        """
        return self._learning().memories()

    # --- files -------------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the stream to ``path`` as NetCDF4, whole or not at all; :meth:`load` goes on from it, bit for bit."""
        if self._options.prior:
            raise InputError(
                "prior: a stream with priors of your own cannot be saved; give known values, or the default"
            )
        write_stream(path, self._group())

    def _group(self) -> xr.Dataset:
        """Everything, as arrays that NetCDF can hold."""
        schema = self._life.schema
        attributes = {
            "options": json.dumps(self._options.attributes()),
            "columns": json.dumps([] if schema is None else list(schema.columns)),
            "dtype": "" if schema is None else schema.dtype.name,
            "seconds": self.seconds,
            "num_data": self.num_data,
            "num_memories": self.num_memories,
            "log_predictive": self.log_predictive,
        }
        known = {f"known_{site}": value for site, value in known_arrays(self._options.known).items()}
        return stream_group(known | self._life.arrays(), attributes)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Stream":
        """A stream that was saved, by itself or within the fit that :meth:`to_fit` made.

        Raises :class:`probam.errors.InputError` for a file that is missing, damaged or holds no stream.
        """
        saved = read_stream(path)
        stream = cls(**saved.options, known=saved.known)
        arrays, schema = saved.arrays, saved.schema
        if schema is not None and "warm_rows" in arrays:
            stream._life = Learning(stream._options, stream.family, schema, arrays["warm_rows"])
            stream._life.restore(arrays, saved.seconds, os.fspath(path))
        elif schema is not None and "waiting" in arrays:
            stream._life = Waiting(stream._options, stream.family, schema, [arrays["waiting"]])
        return stream

    # --- to a fit ----------------------------------------------------------------------------------------------

    def to_fit(self, *, num_draws: int = 200, progress: Progress = silent) -> Fit:
        """A :class:`probam.fits.fitted.Fit`: draws of all sites given the stream's final partition.

        One memory more than there are stands for those that are yet to come (it takes the rest of the weights). The
        draws of one particle know nothing of other partitions: they are an approximation of the posterior, and count as
        one. Of several particles, each draw is given the partition of one that is drawn by weight. The fit
        shows a uniform sample of the rows (``reservoir``), and its group ``stream`` is this stream as :meth:`save`
        writes it, so that :meth:`load` can go on from the saved fit.

        Args:
            num_draws: number of draws, at least 1.
            progress: called with (done, total, text).
        """
        if num_draws < 1:
            raise InputError(f"num_draws: expected at least 1; got {num_draws}")
        learning, began = self._learning(), time.perf_counter()
        tree, model = fit_tree_of_stream(learning, num_draws, progress)
        tree["stream"] = xr.DataTree(self._group())
        tree.attrs["seconds"] = self.seconds + time.perf_counter() - began
        return Fit(tree, model)


def run_stream(
    source: Any,
    *,
    columns: Sequence[str] | None = None,
    rows: int = 50_000,
    begun: Stream | None = None,
    progress: Progress = silent,
    **options: Any,
) -> Stream:
    """A :class:`Stream` (with its ``options``) after one pass over a source, in blocks of ``rows`` rows.

    Args:
        source: a path (CSV, TSV, Parquet and NPY are read block by block), ``"-"`` for CSV on standard input, or
            anything that ``probam.fit`` reads.
        columns: which columns to use.
        rows: how many rows are held at once.
        begun: the stream to go on with, in place of a new one.
        progress: called with (data so far, data in all or 0 where that is not known, text with the live number of
            memories).
    """
    stream = Stream(**options) if begun is None else begun
    first = stream.num_data
    blocks, total = row_blocks(source, rows=rows, columns=columns)
    for table in blocks:
        stream.partial_fit(table)
        progress(stream.num_data - first, total or 0, f"{stream.num_data} data, {stream.num_memories} memories")
    stream.flush()
    progress(stream.num_data, stream.num_data, f"{stream.num_data} data, {stream.num_memories} memories")
    return stream
