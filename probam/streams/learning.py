"""A stream that learns: its prior and units are fixed, and every datum changes the memories."""

import time
from collections.abc import Mapping
from copy import copy, deepcopy
from typing import Any

import jax
import numpy as np
import pandas as pd
import xarray as xr

from probam.data.standardise import Standardiser, identity, standardiser
from probam.data.table import Table
from probam.family import Family
from probam.family.capabilities import DataSpace
from probam.inference.common.progress import Reporter, silent
from probam.inference.stream.engine import Absorbed, shares
from probam.models.mixture import mixture
from probam.models.weights import weight_prior
from probam.streams.base_measure import BaseMeasure, find_beginning, with_base_measure
from probam.streams.kernel import stream_kernel
from probam.streams.memories import memory_table, tail_warnings
from probam.streams.options import StreamOptions
from probam.streams.partitions import Partitions, Process, SinglePartition, start_partitions
from probam.streams.prior import known_arrays, stream_pair
from probam.streams.schema import Schema
from probam.streams.sketch import Growth, Reservoir
from probam.streams.storage import learned_arrays

__all__ = ["Learning"]


class Learning:
    """Memories, and what is kept of the data.

    Args:
        options: options of the stream.
        family: what a memory is.
        schema: columns and precision of the rows.
        warm_rows: the first rows (data units), from which the default prior and the units follow. The stream has yet to
            learn from them by :meth:`absorb`.
        saved: what :meth:`arrays` returned, for a stream that goes on by :meth:`restore`; None for one that begins.
    """

    def __init__(
        self,
        options: StreamOptions,
        family: Family,
        schema: Schema,
        warm_rows: np.ndarray,
        saved: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self.options = options
        self.family = family
        self.schema = schema
        self.known = known_arrays(options.known)
        self.units = _units(options, family, schema, warm_rows)
        with schema.precision():
            x = self.in_model_units(warm_rows)
            model = mixture(x, family=family, weights=weight_prior("dp"), num_components=1, prior=options.prior or {})
            begun = find_beginning(options, family, model.prior, x) if saved is None else None
            self._seats = begun.seats if begun is not None and options.begins_with_groups else None
            self.base = None if begun is None else begun.base
            if saved is not None:
                self.base = BaseMeasure.from_arrays(saved)
            self.prior = with_base_measure(family, model.prior, self.base, schema.dtype)
            pair, self.is_approximate = stream_pair(family, self.prior, self.known, 1, schema.dtype)
            kernel = stream_kernel(options, pair, self.units.scale, schema.dtype)
            key = jax.random.key(int(options.seed))
            self.partitions = start_partitions(options, kernel, len(schema.columns), schema.dtype, key)
        self.seconds = 0.0
        self._warm_rows = warm_rows
        self._reservoir = Reservoir(int(options.reservoir), int(options.seed))
        self._growth = Growth()

    def in_model_units(self, rows: np.ndarray) -> np.ndarray:
        """Rows in the units and the precision of the memories."""
        return np.asarray(self.units.apply(rows), self.schema.dtype)

    def absorb(self, rows: np.ndarray, progress: Reporter = silent) -> Absorbed:
        """Learn from rows (data units), one after the other; returns what happened to each.

        An error leaves everything as it was. Where ``progress`` is stopped, the rows that are left are not learned.
        """
        began, seen = time.perf_counter(), self.num_data
        with self.schema.precision():
            partitions, absorbed = self._learned(self.in_model_units(rows), progress)
        growth, reservoir = deepcopy(self._growth), copy(self._reservoir)
        growth.add(seen, absorbed.size, absorbed.log_predictive + self.units.log_jacobian())
        reservoir.add(seen, rows[: len(absorbed.size)])
        seconds = self.seconds + time.perf_counter() - began
        self.partitions, self._growth, self._reservoir, self.seconds = partitions, growth, reservoir, seconds
        self._seats = None
        return absorbed

    def _learned(self, x: np.ndarray, progress: Reporter) -> tuple[Partitions, Absorbed]:
        """The partitions after more rows (model units); the first rows join the memories of their groups."""
        if self._seats is None:
            return self.partitions.absorb(x, progress)
        assert isinstance(self.partitions, SinglePartition)
        num_seats = len(self._seats)
        seated, first = self.partitions.seat(x[:num_seats], self._seats, progress)
        partitions, others = seated.absorb(x[num_seats:], progress)
        return partitions, first.followed_by(others)

    # --- questions ---------------------------------------------------------------------------------------------

    @property
    def num_data(self) -> int:
        """Number of data so far."""
        return int(self.partitions.state.seen)

    @property
    def num_memories(self) -> int:
        """Number of memories (in the particle of largest weight, if there are several)."""
        return int(self.partitions.state.size)

    @property
    def log_predictive(self) -> float:
        """Prequential log score in nats, in data units."""
        return self._growth.log_score

    @property
    def growth(self) -> pd.DataFrame:
        """Number of memories and prequential log score after n data, for n evenly spaced in log n."""
        return self._growth.frame()

    @property
    def sample(self) -> np.ndarray:
        """Rows drawn uniformly from all rows so far, in data units."""
        return self._reservoir.rows()

    @property
    def process(self) -> Process:
        """Parameters of the process; their current values if they are learned."""
        learned = self.partitions.learned_process()
        return Process(float(self.options.alpha), float(self.options.discount)) if learned is None else learned

    def warnings(self) -> list[str]:
        """Sentences about assumptions of the stream that the data contradict."""
        sentences = tail_warnings(self.partitions.kernel, self.partitions.state, self.process.discount)
        if self.is_approximate:
            sentences.append(
                f"family {self.family.name!r} has no exact predictive density: memories are Gaussians of the same "
                "variances"
            )
        return sentences

    def number_of_memories(self) -> pd.Series:
        """Posterior probability of each number of memories that is possible."""
        law = self.partitions.number_of_memories()
        possible = np.flatnonzero(law)
        return pd.Series(law[possible], index=pd.Index(possible, name="memories"), name="probability")

    def predict(self, data: Any) -> xr.Dataset:
        """The memory of each row and its probability; see :meth:`probam.streams.stream.Stream.predict`."""
        rows = self.schema.read(data, self.family)
        with self.schema.precision():
            recalled = self.partitions.recall(self.in_model_units(rows))
        return xr.Dataset(
            {
                "label": ("datum", recalled.ident),
                "memory": ("datum", recalled.ident),  # former name of label
                "probability": ("datum", recalled.probability),
                "probability_new": ("datum", recalled.probability_new),
                "log_predictive": ("datum", recalled.log_predictive + self.units.log_jacobian()),
            },
            coords={"datum": np.arange(len(rows))},
        )

    def responsibilities(self, data: Any) -> xr.DataArray:
        """Probability of each memory; see :meth:`probam.streams.stream.Stream.responsibilities`."""
        rows = self.schema.read(data, self.family)
        kernel, state = self.partitions.kernel, self.partitions.state
        with self.schema.precision():
            probability = shares(kernel, state, self.in_model_units(rows))
        ident = np.asarray(state.ident)
        slots = np.flatnonzero(ident >= 0)
        slots = slots[np.argsort(ident[slots])]
        coordinates = {"datum": np.arange(len(rows)), "memory": ident[slots]}
        return xr.DataArray(probability[:, slots], coordinates, ["datum", "memory"], "responsibilities")

    def memories(self) -> pd.DataFrame:
        """Table of the memories, largest first."""
        with self.schema.precision():
            return memory_table(self.partitions.kernel, self.partitions.state, self.units, self.schema.columns)

    # --- files -------------------------------------------------------------------------------------------------

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything that a file keeps."""
        learned = {"warm_rows": self._warm_rows} | learned_arrays(self.partitions.learned)
        base = {} if self.base is None else self.base.arrays()
        return learned | base | self._reservoir.arrays() | self._growth.arrays()

    def restore(self, arrays: Mapping[str, np.ndarray], seconds: float, path: str) -> None:
        """Continue from what :meth:`arrays` returned; ``path`` names the file in messages."""
        with self.schema.precision():
            self.partitions = self.partitions.restored(arrays, path)
        self._reservoir.restore(arrays)
        self._growth.restore(arrays)
        self.seconds = seconds


def _units(options: StreamOptions, family: Family, schema: Schema, warm_rows: np.ndarray) -> Standardiser:
    """The map from data units to model units, from the first rows, after a check of these."""
    DataSpace.of(family).check_data(warm_rows, schema.columns)
    if options.standardise:
        return standardiser(Table(warm_rows, schema.columns, "data"))
    return identity(warm_rows.shape[1], schema.dtype)
