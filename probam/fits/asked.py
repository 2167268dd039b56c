"""What a fit answers about rows, however many: they go block after block, and only the answers are all in memory."""

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from probam.data.table import Table
from probam.data.writing import joined
from probam.errors import InputError, rows_named
from probam.family import Params
from probam.family.capabilities import DataSpace
from probam.fits.annealed import WAYS, annealed
from probam.fits.answers import Answers, begin
from probam.fits.completed import completed
from probam.fits.held import Held
from probam.fits.landscape import Rests, check_inside, energies_at, extent_of, kind_of, recalled
from probam.fits.options import SEEDS
from probam.fits.questions import question_blocks, rows_at_a_time, rows_of_family
from probam.options import boolean, number, one_of, whole_number, whole_number_in
from probam.reports.summaries.quantities import evenly

__all__ = ["Asked"]

_T = TypeVar("_T")

_COPIES = 4
"""States of a query that recall has at a time beside the query: the last, the next, one in the units of the data, and
the one that is written."""


class Asked(Held):
    """A fit that answers questions about rows; :class:`probam.fits.fitted.Fit` has the others.

    Data are rows of D features: anything that ``probam.fit`` reads, the path of a file larger than memory, or a
    :class:`probam.data.source.RowSource`.
    """

    def log_prob(self, data: Any) -> np.ndarray:
        """Log posterior predictive density (N,) in nats, with respect to the data's own units.

        The density is averaged over the draws: log (1/S) sum_s p(x | draw s). Of a row with missing entries (NaN) it
        is the density of the others, for families that can integrate entries out.

        Args:
            data: rows of D features, or anything that ``probam.fit`` reads.
        """
        return np.concatenate(
            [self._log_density(table, found) for table, found in self._answered(data, len(self.columns), each=False)]
        )

    def responsibilities(self, data: Any) -> np.ndarray:
        """Posterior probability (N, K) that each relabelled memory owns the datum, averaged over the draws.

        Args:
            data: rows of D features, or anything that ``probam.fit`` reads.
        """
        parts = []
        for table, found in self._answered(data, self._width, each=True):
            with rows_named(table.row_words):
                parts.append(np.asarray(found.owned().responsibilities))
        return np.concatenate(parts)

    def predict(
        self, data: Any, *, probabilities: bool = True, spread: bool = False, top: int | None = None
    ) -> xr.Dataset:
        """Label, confidence, log density and responsibilities of each datum.

        Labels are the numbers of the relabelled memories in the group ``memory``: the largest first, or the known
        labels of a fit with ``labels``. A question has no label: a fitted row that is asked again is answered by its
        features alone, and the group ``partition`` has what its known label says.

        Args:
            data: rows of D features, or anything that ``probam.fit`` reads; entries may be missing (NaN) if the
                family can integrate them out. The rows of a file are not all read into memory.
            probabilities: with the responsibilities (datum, memory), the probability of each memory. Without them
                many rows take less time, and no more memory than the other answers.
            spread: with ``confidence_sd``, the posterior standard deviation of the confidence: over the draws s of
                r_s, the responsibility of the label's memory, sqrt(mean_s (r_s - mean r)^2). 0 for a point estimate.
            top: in place of the responsibilities of all memories the numbers of so many of the most probable ones,
                ``memory`` (datum, rank), and their probabilities, ``probability`` (datum, rank). Memory does not grow
                with rows times memories.
        """
        return joined(self.predict_blocks(data, probabilities=probabilities, spread=spread, top=top))

    def predict_blocks(
        self,
        data: Any,
        *,
        rows: int | None = None,
        probabilities: bool = True,
        spread: bool = False,
        top: int | None = None,
    ) -> Iterator[xr.Dataset]:
        """:meth:`predict` of some rows after the other, for answers that do not all fit into memory.

        Args:
            data: as there.
            rows: most rows of a block; None: as many as keep its numbers few.
            probabilities: as there.
            spread: as there.
            top: as there.

        Returns:
            Datasets like that of :meth:`predict`, whose coordinate ``datum`` counts on from block to block.
        """
        boolean("probabilities", probabilities)
        boolean("spread", spread)
        if top is not None:
            most = self.model.num_components
            whole_number_in(f"a whole number from 1 to {most}, the memories of the fit", 1, most)("top", top)
        each, leading = probabilities and top is None, int(top or 0)
        width = self._width if each else len(self.columns) + 2 * leading
        answered = self._answered(data, width, rows=_checked(rows), each=each, spread=spread, top=leading)
        return (self._predicted(table, found, each=each, top=leading) for table, found in answered)

    def _predicted(self, table: Table, found: Answers, *, each: bool, top: int) -> xr.Dataset:
        with rows_named(table.row_words):
            found = found.owned()
        columns = {"label": np.asarray(found.label, np.int64), "confidence": np.asarray(found.confidence)}
        if found.confidence_sd is not None:
            columns["confidence_sd"] = np.asarray(found.confidence_sd)
        columns["log_density"] = self._log_density(table, found)
        answer = xr.Dataset(
            {name: ("datum", values) for name, values in columns.items()}, coords={"datum": _numbers(table)}
        )
        if found.leading is not None:
            leading = {
                name: (("datum", "rank"), np.asarray(values)) for name, values in found.leading._asdict().items()
            }
            return answer.assign(leading).assign_coords(rank=np.arange(1, top + 1))
        if not each:
            return answer
        responsibilities = {"responsibilities": (("datum", "memory"), np.asarray(found.responsibilities))}
        return answer.assign(responsibilities).assign_coords(memory=np.arange(self.model.num_components))

    def energy(self, data: Any, *, draw: int | None = None) -> np.ndarray:
        """Energy (N,) of the memory at each row, from the physics.

        It has the scale and the constant of the physical twin: -log p = scale * energy + constant
        (:func:`probam.equivalence.twins.physical_twin`).

        Args:
            data: rows of D features, or anything that ``probam.fit`` reads.
            draw: number of a thinned draw; None for the reference draw, the one of highest log joint density.
        """
        _, x = self._rows(data, "data")
        return np.asarray(energies_at(self.model, self._sites_of(draw), jnp.asarray(x)))

    def recall(self, queries: Any, *, step: float = 1.0, max_steps: int = 1000, draw: int | None = None) -> xr.Dataset:
        """Where the memory's dynamics end from each query.

        Args:
            queries: rows of D features, or anything that ``probam.fit`` reads.
            step: Euler step in units of tau, in (0, 2); 1 is the unit step (a mean-shift / EM step).
            max_steps: most steps of a query.
            draw: number of a thinned draw; None for the reference draw, the one of highest log joint density.

        Returns:
            state (query, feature) in data units, steps, residual (distance of the last move, model units), energy,
            converged, basin (memory most responsible where recall ended), responsible (memory most responsible at
            the query).
        """
        return joined(self.recall_blocks(queries, step=step, max_steps=max_steps, draw=draw))

    def recall_blocks(
        self,
        queries: Any,
        *,
        rows: int | None = None,
        step: float = 1.0,
        max_steps: int = 1000,
        draw: int | None = None,
    ) -> Iterator[xr.Dataset]:
        """:meth:`recall` of some queries after the other, for ends that do not all fit into memory.

        Args:
            queries: as there.
            rows: most queries of a block; None: as many as keep its numbers few.
            step: as there.
            max_steps: as there.
            draw: as there.

        Returns:
            Datasets like that of :meth:`recall`, whose coordinate ``query`` counts on from block to block.
        """
        whole_number(least=1)("max_steps", max_steps)
        params = self._sites_of(draw)
        width = self._width + _COPIES * len(self.columns)
        blocks = self._blocks(queries, "queries", width, rows=_checked(rows))
        return self._recalled(blocks, params, draw, step=step, max_steps=max_steps)

    def _recalled(
        self, blocks: Iterator[tuple[Table, np.ndarray]], params: Params, draw: int | None, **how: Any
    ) -> Iterator[xr.Dataset]:
        rests: Rests | None = None
        for table, x in blocks:
            if rests is None:
                if still := kind_of(self.model, params).still:
                    raise InputError(f"recall: {still}")
                rests = Rests(self._extent)
            ends = recalled(self.model, params, x, **how)
            ends = _first(table.num_data, ends)
            with rows_named(table.row_words):
                result = check_inside(ends.recall)
            of_queries = {name: getattr(result, name) for name in ("steps", "residual", "energy", "converged")}
            basin = self._relabel(rests.memories(ends), draw)
            own = of_queries | {"basin": basin, "responsible": self._relabel(ends.responsible, draw)}
            yield self._ends(table, result.states, own)

    def anneal(
        self,
        queries: Any,
        noise: float,
        *,
        by: str = "ode",
        num_steps: int = 1000,
        seed: int = 0,
        draw: int | None = None,
    ) -> xr.Dataset:
        """Annealed recall: each query is a datum with noise on it, which the fit takes away level by level.

        The diffusion of the fitted mixture is run backwards with its exact score. The ODE gives each query one end;
        ends of the SDE are draws of the clean datum given the noisy one.

        Args:
            queries: rows of D features, or anything that ``probam.fit`` reads.
            noise: its standard deviation in units of the data, or of a standardised fit in its features' own.
            by: "ode" or "sde".
            num_steps: how many levels the noise goes through; the error of the SDE is proportional to one over it.
            seed: of the SDE.
            draw: number of a thinned draw; None for the reference draw, the one of highest log joint density.

        Returns:
            state (query, feature) in data units; energy, basin (memory most responsible at the end), responsible
            (memory most responsible for the noisy query).

        Raises :class:`probam.errors.InputError` where the density of the family with noise has no closed form.
        """
        options: dict[str, Any] = {"by": by, "num_steps": num_steps, "seed": seed, "draw": draw}
        return joined(self.anneal_blocks(queries, noise, **options))

    def anneal_blocks(
        self,
        queries: Any,
        noise: float,
        *,
        rows: int | None = None,
        by: str = "ode",
        num_steps: int = 1000,
        seed: int = 0,
        draw: int | None = None,
    ) -> Iterator[xr.Dataset]:
        """:meth:`anneal` of some queries after the other, for ends that do not all fit into memory.

        Args:
            queries: as there.
            noise: as there.
            rows: most queries of a block; None: as many as keep its numbers few. Of the SDE, blocks of other lengths
                have other draws.
            by: as there.
            num_steps: as there.
            seed: as there.
            draw: as there.

        Returns:
            Datasets like that of :meth:`anneal`, whose coordinate ``query`` counts on from block to block.
        """
        number(above=0, is_finite=True)("noise", noise)
        whole_number(least=2)("num_steps", num_steps)
        SEEDS("seed", seed)
        one_of(*WAYS)("by", by)
        tables = self._tables(queries, "queries", self._width, _checked(rows), False)
        level = jnp.asarray(noise, self.dtype)
        return self._annealed(tables, jax.random.key(seed), level, draw, by=by, num_steps=num_steps)

    def _annealed(
        self, tables: Iterator[Table], key: jax.Array, noise: jax.Array, draw: int | None, **how: Any
    ) -> Iterator[xr.Dataset]:
        params = self._sites_of(draw)
        for block, (table, values) in enumerate(_even(tables, self._as_they_are)):
            of_block = jax.random.fold_in(key, block) if block else key
            x = jnp.asarray(self.standardiser.apply(values).astype(self.dtype))
            ends = _first(table.num_data, annealed(self.model, params, of_block, x, noise, **how))
            basin, responsible = (self._relabel(np.asarray(each), draw) for each in (ends.memory, ends.responsible))
            yield self._ends(table, ends.states, {"energy": ends.energy, "basin": basin, "responsible": responsible})

    def _ends(self, table: Table, states: Any, of_queries: dict[str, Any]) -> xr.Dataset:
        """Where queries ended, in data units, and what is known of each."""
        state = (("query", "feature"), self.standardiser.invert(np.asarray(states)))
        known = {name: ("query", np.asarray(values)) for name, values in of_queries.items()}
        return xr.Dataset({"state": state, **known}, coords={"query": _numbers(table), "feature": list(self.columns)})

    @cached_property
    def _extent(self) -> float:
        return extent_of(self.standardiser.apply(self._positions))

    def complete(self, data: Any, *, num_draws: int = 50, max_steps: int = 500, descent: bool = True) -> xr.Dataset:
        """Missing entries (NaN) of each row, by recall and by the exact conditional of the mixture.

        Args:
            data: rows of D features, or anything that ``probam.fit`` reads; entries may be missing.
            num_draws: most posterior draws to use, evenly spaced. A draw is weighted by the likelihood of the observed
                entries of a row.
            max_steps: most steps of a descent.
            descent: whether to recall; without it there is no ``descent``, ``descent_sd`` and ``converged``.

        Returns:
            (datum, feature), data units: ``conditional_mean`` and ``conditional_sd``, the posterior predictive mean
            and standard deviation given the observed entries (the mean has the least expected squared error);
            ``descent`` and ``descent_sd``, mean and spread over the draws of where the energy's descent ends when it
            starts at the mixture's mean and the observed entries are fixed; ``missing``. Observed entries are
            unchanged. And ``converged`` (datum), the share of the draws in which descent came to rest.

        Raises :class:`probam.errors.InputError` for families without an exact conditional or without this recall.
        """
        options: dict[str, Any] = {"num_draws": num_draws, "max_steps": max_steps, "descent": descent}
        return joined(self.complete_blocks(data, **options))

    def complete_blocks(
        self,
        data: Any,
        *,
        rows: int | None = None,
        num_draws: int = 50,
        max_steps: int = 500,
        descent: bool = True,
    ) -> Iterator[xr.Dataset]:
        """:meth:`complete` of some rows after the other, for answers that do not all fit into memory.

        Args:
            data: as there.
            rows: most rows of a block; None: as many as keep its numbers few.
            num_draws: as there.
            max_steps: as there.
            descent: as there.

        Returns:
            Datasets like that of :meth:`complete`, whose coordinate ``datum`` counts on from block to block.
        """
        whole_number(least=1)("num_draws", num_draws)
        whole_number(least=1)("max_steps", max_steps)
        boolean("descent", descent)
        which = evenly(len(self._permutations), num_draws)
        tables = self._tables(data, "data", self._width + len(which) * len(self.columns), _checked(rows), True)
        return self._completed(tables, which, max_steps if descent else None)

    def _completed(self, tables: Iterator[Table], which: np.ndarray, max_steps: int | None) -> Iterator[xr.Dataset]:
        sites, family = self._chosen(which), DataSpace.of(self.model.family)
        for table, values in _even(tables, self._as_they_are):
            with rows_named(table.row_words):
                family.check_support(values[: table.num_data], self.columns)
                answer = completed(self.model, sites, values, self.standardiser, self.columns, max_steps)
            yield answer.isel(datum=slice(table.num_data)).assign_coords(datum=_numbers(table))

    # --- blocks ------------------------------------------------------------------------------------------------

    @property
    def _width(self) -> int:
        """Numbers of a row and of its memories."""
        return len(self.columns) + self.model.num_components

    def _blocks(
        self, data: Any, what: str, width: int, *, rows: int | None = None, missing: bool = False
    ) -> Iterator[tuple[Table, np.ndarray]]:
        """Tables in data units and their rows in model units, filled up as by :func:`_even`.

        Args:
            data: rows.
            what: what errors call them.
            width: numbers of a row and of what is made of it.
            rows: most rows of a block; None: by their width.
            missing: allow missing entries if the family does.
        """
        for table, values in _even(self._tables(data, what, width, rows, missing), self._of_family):
            yield table, self.standardiser.apply(values)

    def _tables(self, data: Any, what: str, width: int, rows: int | None, missing: bool) -> Iterator[Table]:
        """Blocks of data, in data units."""
        return question_blocks(
            data,
            self.columns,
            rows=rows_at_a_time(width) if rows is None else rows,
            name=what,
            missing=missing,
            normalised=self.is_normalised,
        )

    def _of_family(self, table: Table) -> np.ndarray:
        return rows_of_family(self.model.family, table, self.dtype)

    def _as_they_are(self, table: Table) -> np.ndarray:
        return table.values.astype(self.dtype, copy=False)

    def _answered(
        self, data: Any, width: int, *, rows: int | None = None, each: bool, spread: bool = False, top: int = 0
    ) -> Iterator[tuple[Table, Answers]]:
        """Tables and what the draws, which are read once, say of their rows.

        Args:
            data: rows.
            width: numbers of a row and of what is made of it.
            rows: most rows of a block; None: by their width.
            each, spread, top: as :func:`~probam.fits.answers.begin` has them.
        """
        sites, permutations = self.draws(), self._permutations
        begun = (
            (table, begin(self.model_for(x), sites, permutations, x, each=each, spread=spread, top=top))
            for table, x in self._blocks(data, "data", width, rows=rows, missing=True)
        )
        for table, found in _one_behind(begun):
            yield table, _first(table.num_data, found())

    def _log_density(self, table: Table, found: Answers) -> np.ndarray:
        return np.asarray(found.log_density) + self.standardiser.log_jacobians(table.values)


def _even(tables: Iterator[Table], values_of: Callable[[Table], np.ndarray]) -> Iterator[tuple[Table, np.ndarray]]:
    """Tables and their values; those that are shorter than the longest before them have their last row again and again,
    so that one program serves all.
    """
    most = 0
    for table in tables:
        values, most = values_of(table), max(most, table.num_data)
        yield table, np.pad(values, ((0, most - len(values)), (0, 0)), mode="edge") if len(values) < most else values


def _one_behind(items: Iterable[_T]) -> Iterator[_T]:
    """The same items, each when the next one is there: what it has begun goes on meanwhile."""
    before: list[_T] = []
    for item in items:
        yield from before
        before = [item]
    yield from before


def _first(num_rows: int, found: _T) -> _T:
    """The answers of the first rows, as NumPy arrays."""
    answers: _T = jax.tree.map(lambda leaf: np.asarray(leaf)[:num_rows], found)
    return answers


def _checked(rows: int | None) -> int | None:
    if rows is not None:
        whole_number(least=1)("rows", rows)
    return rows


def _numbers(table: Table) -> np.ndarray:
    """The numbers of the rows in their source."""
    return np.arange(table.first_row, table.first_row + table.num_data)
