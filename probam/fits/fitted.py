"""A fit: the model, the draws and everything a user asks of them."""

import json
import os
from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import xarray as xr

import probam.fits.posterior as posterior
from probam.data.standardise import Standardiser
from probam.data.table import Table, as_table
from probam.data.writing import write_atomically
from probam.equivalence.check import Check, verify_mixture
from probam.errors import InputError
from probam.family import Params
from probam.family.capabilities import DataSpace, MissingEntries
from probam.fits.landscape import Landscape, basins, survey
from probam.fits.landscape_posterior import completion
from probam.models.mixture import Mixture
from probam.reports.html import write_report
from probam.reports.summaries.convergence import invariant_summary
from probam.reports.summaries.diagnostics import advice
from probam.reports.tree import rows_of, write_tree

__all__ = ["Fit"]

_CHECKED_DRAWS = 3
_CHECKED_DATA = 200


class Fit:
    """A fitted memory: draws of its parameters and what follows from them.

    Everything that goes in and comes out is in the data's units; standardisation is undone on the way.

    Attributes:
        tree: the fit as a DataTree in ArviZ's schema (``docs/architecture.md`` lists its groups).
        model: the NumPyro program that was fitted.
    """

    def __init__(self, tree: xr.DataTree, model: Mixture) -> None:
        self.tree = tree
        self.model = model

    def __repr__(self) -> str:
        said = self.tree.attrs
        sizes = self.tree["posterior"].sizes
        return f"<probam.Fit: {said['model']}; {said['engine']}, {sizes['chain']} x {sizes['draw']} draws>"

    def _group(self, name: str) -> xr.Dataset:
        return self.tree[name].to_dataset()

    # --- units -------------------------------------------------------------------------------------------------

    @cached_property
    def standardiser(self) -> Standardiser:
        """Maps data units to the model's and back."""
        constants = self._group("constant_data")
        return Standardiser(constants["center"].values, constants["scale"].values)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the features."""
        return tuple(str(name) for name in self._group("observed_data")["feature"].values)

    @cached_property
    def _positions(self) -> np.ndarray:
        """The fitted data (N, D) as points: what is missing at its conditional mean."""
        return np.asarray(rows_of(self.tree).values)

    def _model_for(self, x: jax.Array) -> Mixture:
        """The model that takes these rows as they are, missing entries included."""
        gaps = bool(jnp.isnan(x).any())
        return replace(self.model, missing=True) if gaps and not self.model.missing else self.model

    @property
    def dtype(self) -> np.dtype[Any]:
        """Precision of the fit."""
        return np.dtype(str(self.tree.attrs["dtype"]))

    def _rows(self, data: Any, what: str, *, missing: bool = False) -> tuple[Table, jax.Array]:
        """A table in data units and its rows in model units; ``missing`` allows gaps where the family does."""
        table = as_table(
            data, prefer=self.columns, name=what, missing=missing and bool(MissingEntries.ask(self.model.family))
        )
        self._check_columns(what, table.columns, table.source)
        values = table.values.astype(self.dtype)
        DataSpace.of(self.model.family).check_support(values, self.columns)
        return table, jnp.asarray(self.standardiser.apply(values))

    def _check_columns(self, what: str, columns: tuple[str, ...], source: str) -> None:
        if len(columns) != len(self.columns):
            raise InputError(
                f"{what}: the fit has {len(self.columns)} features ({_listed(self.columns)}); "
                f"{source} has {len(columns)} ({_listed(columns)})"
            )

    # --- draws -------------------------------------------------------------------------------------------------

    def draws(self, thinned: bool = True) -> Params:
        """Site values of the draws in one row, (S, ...): all of them, or those that the memory group was made from."""
        group = self._group("posterior")
        if thinned:
            group = group.sel(draw=self._group("invariant")["draw"].values)
        sites = [name for name in group.data_vars if name in self._sites]
        return {str(name): jnp.asarray(group[name].values.reshape(-1, *group[name].shape[2:])) for name in sites}

    @cached_property
    def _sites(self) -> frozenset[str]:
        from probam.inference.common.coordinates import Coordinates

        return frozenset(Coordinates(self.model).transforms)

    @cached_property
    def reference(self) -> Params:
        """Site values of the draw with the highest log joint density among the thinned ones."""
        best = int(self.tree["memory"].attrs["reference"])
        return {name: value[best] for name, value in self.draws().items()}

    def _landscape(self, draw: int | None = None) -> Landscape:
        params = self.reference if draw is None else {name: value[draw] for name, value in self.draws().items()}
        return survey(self.model.mixture(params))

    # --- questions ---------------------------------------------------------------------------------------------

    def log_prob(self, data: Any) -> np.ndarray:
        """Log posterior predictive density (N,) in nats, with respect to the data's own units.

        The density is averaged over the draws: log (1/S) sum_s p(x | draw s). Where entries are missing (NaN) it is
        that of the others, for families that have it.
        """
        table, x = self._rows(data, "data", missing=True)
        _, log_density = posterior.responsibilities(self._model_for(x), self.draws(), self._permutations, x)
        return np.asarray(log_density) + self.standardiser.log_jacobians(table.values)

    def responsibilities(self, data: Any) -> np.ndarray:
        """Posterior probability (N, K) that each relabelled memory owns the datum, averaged over the draws."""
        _, x = self._rows(data, "data", missing=True)
        return self._read(x)[0]

    def _read(self, x: jax.Array) -> tuple[np.ndarray, np.ndarray]:
        """Responsibilities and log density of rows in model units."""
        resp, log_density = posterior.responsibilities(self._model_for(x), self.draws(), self._permutations, x)
        undefined = np.isnan(np.asarray(resp)).any(axis=1)
        if undefined.any():
            raise InputError(
                f"data: {undefined.sum()} of {len(x)} rows lie outside the support of every memory, the first is row "
                f"{np.flatnonzero(undefined)[0]}: responsibilities are 0 / 0 there; leave them out"
            )
        return np.asarray(resp), np.asarray(log_density)

    @property
    def _permutations(self) -> jax.Array:
        return jnp.asarray(self._group("memory")["permutation"].values)

    def predict(self, data: Any) -> xr.Dataset:
        """Label, confidence, log density and responsibilities of each datum.

        Labels number the relabelled memories of the ``memory`` group, largest first.
        """
        table, x = self._rows(data, "data", missing=True)
        resp, log_density = self._read(x)
        return xr.Dataset(
            {
                "label": ("datum", resp.argmax(axis=1)),
                "confidence": ("datum", resp.max(axis=1)),
                "log_density": ("datum", log_density + self.standardiser.log_jacobians(table.values)),
                "responsibilities": (("datum", "memory"), resp),
            },
            coords={"datum": np.arange(table.num_data), "memory": np.arange(resp.shape[1])},
        )

    def energy(self, data: Any, *, draw: int | None = None) -> np.ndarray:
        """Energy (N,) of the memory at each row, from the physics (the reference draw, or thinned draw ``draw``).

        Scale and constant are the physical twin's own: -log p = scale * energy + constant
        (:func:`probam.equivalence.twins.physical_twin`).
        """
        _, x = self._rows(data, "data")
        return np.asarray(self._landscape(draw).energy(x))

    def recall(self, queries: Any, *, step: float = 1.0, max_steps: int = 1000, draw: int | None = None) -> xr.Dataset:
        """Where the memory's dynamics end from each query (the reference draw, or thinned draw ``draw``).

        Args:
            queries: rows of D features, or anything that ``probam.fit`` reads.
            step: Euler step in units of tau, in (0, 2); 1 is the unit step (a mean-shift / EM step).
            max_steps: most steps of a query.

        Returns:
            state (query, feature) in data units, steps, residual (distance of the last move, model units), energy,
            converged, basin (memory most responsible where recall ended), responsible (memory most responsible at
            the query).
        """
        if max_steps < 1:
            raise InputError(f"max_steps: expected at least 1; got {max_steps}")
        table, x = self._rows(queries, "queries")
        landscape = self._landscape(draw)
        if landscape.still:
            raise InputError(f"recall: {landscape.still}")
        found = basins(landscape, x, self._extent, step=step, max_steps=max_steps)
        result = found.recall
        outside = ~np.isfinite(np.asarray(result.energy))
        if outside.any():
            raise InputError(
                f"queries: {outside.sum()} of {outside.size} lie outside the support of every memory, the first is row "
                f"{np.flatnonzero(outside)[0]}: the energy is infinite there and recall has nowhere to go"
            )
        return xr.Dataset(
            {
                "state": (("query", "feature"), self.standardiser.invert(np.asarray(result.states))),
                "steps": ("query", np.asarray(result.steps)),
                "residual": ("query", np.asarray(result.residual)),
                "energy": ("query", np.asarray(result.energy)),
                "converged": ("query", np.asarray(result.converged)),
                "basin": ("query", self._relabel(found.memory, draw)),
                "responsible": ("query", self._relabel(landscape.memory_of(x), draw)),
            },
            coords={"query": np.arange(table.num_data), "feature": list(self.columns)},
        )

    @cached_property
    def _extent(self) -> float:
        x = self.standardiser.apply(self._positions)
        return float(np.sqrt(x.var(axis=0).sum())) or 1.0

    def _relabel(self, memory: np.ndarray, draw: int | None) -> np.ndarray:
        """A draw's own memory numbers to those of the ``memory`` group."""
        index = int(self.tree["memory"].attrs["reference"]) if draw is None else draw
        inverse = np.argsort(self._group("memory")["permutation"].values[index])
        return np.asarray(inverse[memory])

    def complete(self, data: Any, *, num_draws: int = 50, max_steps: int = 500) -> xr.Dataset:
        """Missing entries (NaN) of each row, by recall and by the exact conditional of the mixture.

        Args:
            data: rows of D features, or anything that ``probam.fit`` reads; entries may be missing.
            num_draws: most posterior draws to use, evenly taken. A draw counts by how likely it makes the observed
                entries of a row.
            max_steps: most steps of a descent.

        Returns:
            (datum, feature), data units: ``conditional_mean`` and ``conditional_sd``, the posterior predictive mean
            and standard deviation given the observed entries, the guess of least expected squared error; ``descent``
            and ``descent_sd``, mean and spread over the draws of where the energy's descent ends from the mixture's
            mean with the observed entries held; ``missing``. Observed entries are themselves. And ``converged``
            (datum), the share of the draws in which descent came to rest.

        Raises :class:`probam.errors.InputError` for families without an exact conditional or without recall.
        """
        if num_draws < 1 or max_steps < 1:
            raise InputError(f"num_draws, max_steps: expected at least 1; got {num_draws} and {max_steps}")
        table = as_table(data, prefer=self.columns, name="data", missing=True)
        self._check_columns("data", table.columns, table.source)
        values = table.values.astype(self.dtype)
        DataSpace.of(self.model.family).check_support(values, self.columns)
        sites = self.draws()
        which = np.unique(np.linspace(0, len(self._permutations) - 1, num_draws).round().astype(int))
        chosen = {name: value[which] for name, value in sites.items()}
        x = np.asarray(self.standardiser.apply(values), self.dtype)
        found = completion(self.model, chosen, x, max_steps=max_steps)
        missing = np.isnan(values)
        variables: dict[str, Any] = {}
        for name, own in found.pooled().items():
            is_spread = name.endswith("_sd")
            in_units = own * self.standardiser.scale if is_spread else self.standardiser.invert(own)
            variables[name] = (("datum", "feature"), np.where(missing, in_units, 0 if is_spread else values))
        variables["missing"] = (("datum", "feature"), missing)
        variables["converged"] = ("datum", found.converged.mean(axis=0))
        return xr.Dataset(variables, coords={"datum": np.arange(len(values)), "feature": list(self.columns)})

    def sample(self, num_data: int, *, seed: int = 0) -> np.ndarray:
        """New data (num_data, D) from the posterior predictive, in data units."""
        if num_data < 1:
            raise InputError(f"num_data: expected at least 1; got {num_data}")
        sites = self.draws()
        key_draw, key_data = jax.random.split(jax.random.key(seed))
        num_draws = len(self._permutations)
        which = jax.random.randint(key_draw, (num_data,), 0, num_draws)
        chosen = {name: value[which] for name, value in sites.items()}
        rows = np.asarray(posterior.replicate(self.model, chosen, key_data, 1))[:, 0]
        return np.asarray(self.standardiser.invert(rows))

    # --- judgement ---------------------------------------------------------------------------------------------

    def verify(self, *, seed: int = 0) -> list[Check]:
        """Is the energy really the likelihood, at this posterior? Checks at several draws, worst error kept."""
        return verify_draws(self.model, self.draws(), self._checked_points(seed))

    def _checked_points(self, seed: int) -> jax.Array:
        x = self.standardiser.apply(self._positions).astype(self.dtype)
        rng = np.random.default_rng(seed)
        return jnp.asarray(x[rng.permutation(len(x))[:_CHECKED_DATA]])

    def summary(self) -> pd.DataFrame:
        """Label-invariant quantities: mean, sd, Monte Carlo error, effective sample sizes, R-hat."""
        return invariant_summary(self.tree)

    def memories(self) -> pd.DataFrame:
        """The relabelled memories in data units, largest first: weight, size, probability of being occupied, mean."""
        group = self._group("memory")
        frame = pd.DataFrame(
            {
                "weight": group["weight"].values,
                "weight_sd": group["weight_sd"].values,
                "size": group["size"].values,
                "occupied": group["occupied"].values,
            },
            index=pd.Index(group["memory"].values, name="memory"),
        )
        for position, column in enumerate(self.columns):
            frame[column] = group["mean"].values[:, position]
        return frame

    def summary_text(self, *, most: int = 12) -> str:
        """What a person wants to know first, in a few lines."""
        said = self.tree.attrs
        occupied = self._group("invariant")["num_occupied"].values.ravel()
        counts = np.bincount(occupied.astype(int))
        lines = [said["model"], f"{said['engine']}, seed {said['seed']}, {said['seconds']:.1f} s"]
        if occupied.size > 1:
            likely = ", ".join(
                f"{k}: {counts[k] / occupied.size:.0%}" for k in np.argsort(-counts)[:4] if counts[k] > 0
            )
            lines.append(f"memories that hold data: {occupied.mean():.2f} on average ({likely})")
        else:
            lines.append(f"memories that hold data: {int(occupied[0])}")
        frame = self.memories()
        shown = frame[frame["size"] >= 0.5].head(most)
        shown = shown.iloc[:, : 4 + 6].round(4)
        lines += ["", shown.to_string(float_format=lambda value: f"{value:.4g}")]
        smaller = int((frame["size"] >= 0.5).sum()) - len(shown)
        empty = int((frame["size"] < 0.5).sum())
        if smaller:
            lines.append(f"({smaller} smaller memories are not listed)")
        if empty:
            lines.append(f"({empty} of the {len(frame)} memories hold almost no data)")
        lines.append("")
        lines += [f"[{item.level}] {item.text}" for item in advice(self.tree)]
        return "\n".join(lines)

    # --- files -------------------------------------------------------------------------------------------------

    def to_datatree(self) -> xr.DataTree:
        """The fit as a DataTree."""
        return self.tree

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fit as NetCDF4; the file appears whole or not at all.

        Raises :class:`probam.errors.InputError` when ``path`` cannot be written.
        """
        with write_atomically(path) as temporary:
            write_tree(self.tree, temporary)

    def report(self, path: str | os.PathLike[str]) -> None:
        """Write the report, one HTML file that needs nothing else; whole or not at all."""
        with write_atomically(path) as temporary:
            write_report(self.tree, temporary)

    @property
    def options(self) -> dict[str, Any]:
        """Options of the engine as they were given."""
        loaded: dict[str, Any] = json.loads(self.tree.attrs["engine_options"])
        return loaded


def verify_draws(model: Mixture, sites: Params, x: jax.Array) -> list[Check]:
    """The checks of :func:`verify_mixture` at a few draws spread over the posterior, the worst of each kept."""
    num_draws = len(next(iter(sites.values()))) if sites else 1
    worst: dict[str, Check] = {}
    for draw in sorted({round(i) for i in np.linspace(0, num_draws - 1, _CHECKED_DRAWS)}):
        mixture = model.mixture({name: value[draw] for name, value in sites.items()})
        for check in verify_mixture(mixture, x):
            before = worst.get(check.name)
            if before is None or not check.passed or (before.passed and check.error > before.error):
                worst[check.name] = check
    return list(worst.values())


def _listed(names: Iterable[str], most: int = 6) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
