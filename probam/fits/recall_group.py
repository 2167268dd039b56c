"""The ``recall`` group of a fit: recall at the reference draw with its picture, and recall under the posterior.

Positions are stored in the data's units, the plane of the picture in the model's; memories are numbered as in the
group ``memory``.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from probam.compiled import compiled_by_size
from probam.data.standardise import Standardiser
from probam.dynamics.recall import Recall, check_finite
from probam.errors import InputError
from probam.family import Params
from probam.family.capabilities import DataSpace
from probam.fits.draws import Draws
from probam.fits.groups import Group
from probam.fits.landscape import (
    Ends,
    Landscape,
    Plane,
    basins,
    bounded,
    extent_of,
    kind_of,
    plane,
    run_all,
    runs_briefly,
    survey,
)
from probam.fits.landscape_posterior import LandscapePosterior, completion, landscape_posterior, plan
from probam.fits.saved import Saved
from probam.models.mixture import Mixture
from probam.reports.summaries.partition import coclustering

__all__ = ["picture", "recall_group"]

_QUERIES = 12
_TRAJECTORY = 60
_BASIN_DATA = 1000
_RECALL_STEPS = 500
_HIDDEN_ROWS = 200
"""Data of which half the entries are hidden, to see how well they are completed."""

_INTERVAL = {"q05": 0.05, "q95": 0.95}

Variable = tuple[Any, tuple[str, ...]]
"""An array, and the names of its dimensions."""


def recall_group(fit: Saved) -> Group:
    """All of the group, from the thinned draws of a fit.

    Raises :class:`probam.errors.InputError` where the energy has no dynamics, and where no datum is complete.
    """
    draws, units, x = fit.draws, fit.units, fit.x
    reference = draws.at(draws.reference)
    kind = kind_of(draws.model, reference)
    if kind.still:
        raise InputError(f"recall: {kind.still}")
    complete = np.isfinite(x).all(axis=1)
    if not complete.any():
        raise InputError("recall: every datum has a missing entry; recall starts from complete data")
    whole = x if complete.all() else x[complete]  # large data are not copied
    starts = _starts(kind, whole, fit.label[complete], fit.confidence[complete])
    numbers = np.argsort(fit.permutation[draws.reference])
    extent = extent_of(whole)
    variables, attributes = _at_reference(draws.model, reference, kind, numbers, starts, units, extent)
    variables["datum_row"] = (np.flatnonzero(complete)[starts.data], ("looked_at",))
    variables["query_row"] = (np.flatnonzero(complete)[starts.queries], ("query",))
    recalled, used = _over_draws(fit, starts.x[starts.queries], extent)
    completed = _completed_queries(used, whole, starts.x[starts.queries], units)
    return Group(
        {**variables, **recalled.variables, **completed.variables},
        {**attributes, **recalled.attributes, **completed.attributes},
        recalled.coordinates,
    )


# --- the reference draw ---------------------------------------------------------------------------------------


class _Starts(NamedTuple):
    """Where recall at the reference draw starts: some data, the queries, and a grid of points on a plane."""

    x: Float[np.ndarray, "N D"]
    data: Int[np.ndarray, " B"]  # rows of x
    queries: Int[np.ndarray, " Q"]  # rows of x
    grid: Plane

    @property
    def points(self) -> Float[np.ndarray, "T D"]:
        """All of them in one array, so that one program recalls them, for few and for many data.

        The last datum and the last query are repeated until there are as many as there can be.
        """
        grid = self.grid.points.reshape(-1, self.x.shape[1]).astype(self.x.dtype)
        return np.concatenate([_repeated(self.x[self.data], _BASIN_DATA), self.padded_queries, grid])

    @property
    def padded_queries(self) -> Float[np.ndarray, "Q D"]:
        """The queries, the last one repeated."""
        return _repeated(self.x[self.queries], _QUERIES)

    def split(self, values: Any) -> list[np.ndarray]:
        """What belongs to the data, to the queries and to the grid."""
        of_data, of_queries, of_grid = np.split(np.asarray(values), np.cumsum([_BASIN_DATA, _QUERIES]))
        return [of_data[: len(self.data)], of_queries[: len(self.queries)], of_grid]


def _repeated(x: Float[np.ndarray, "N D"], count: int) -> Float[np.ndarray, "M D"]:
    """So many rows: those of ``x``, and its last one again and again."""
    return np.pad(x, ((0, count - len(x)), (0, 0)), mode="edge")


def _starts(
    kind: Landscape, x: Float[np.ndarray, "N D"], label: Int[np.ndarray, " N"], confidence: Float[np.ndarray, " N"]
) -> _Starts:
    """Random data, and as queries the data that are least sure of their memory and some others."""
    rng = np.random.default_rng(0)
    data = np.sort(rng.permutation(len(x))[:_BASIN_DATA])
    doubtful = np.argsort(confidence)[: _QUERIES // 2]
    others = rng.permutation(len(x))[: _QUERIES - len(doubtful)]
    grid = plane(x, spherical=kind.retract is not None, owner=label)
    grid = bounded(grid, kind.inside, x, always_ends=not kind.twin)
    return _Starts(x, data, np.unique(np.concatenate([doubtful, others])), grid)


def _at_reference(
    model: Mixture,
    reference: Params,
    kind: Landscape,
    numbers: Int[np.ndarray, " K"],
    starts: _Starts,
    units: Standardiser,
    extent: float,
) -> tuple[dict[str, Variable], dict[str, Any]]:
    """Recall at the reference draw: trajectories of the queries, basins of the data and on the plane.

    Args:
        model: the program that was fitted.
        reference: sites of the reference draw.
        kind: its landscape.
        numbers: the numbers of its memories in the group ``memory``.
        starts: where recall starts.
        units: between the units of the data and those of the model.
        extent: spread of the data.
    """
    x, points = starts.x, starts.points
    energies, ends, paths = _recalled_reference(model, reference, points, starts.padded_queries)
    reached = basins(ends, extent)
    basin, query_basin, grid_basin = starts.split(numbers[reached.memory])
    responsible, query_responsible, grid_responsible = starts.split(numbers[ends.responsible])
    _, _, grid_energy = starts.split(energies)
    _, converged, _ = starts.split(ends.recall.converged)
    locations = np.asarray(DataSpace.of(model.family).memories(reference))
    distances = ((x[starts.queries][:, None] - locations) ** 2).sum(-1)
    attractor = reached.positions[np.unique(reached.attractor[: len(starts.data)])]
    variables: dict[str, Variable] = {
        **_trajectories(paths, x[starts.queries], units),
        "converged": (converged, ("query",)),
        "basin": (query_basin, ("query",)),
        "responsible": (query_responsible, ("query",)),
        "nearest": (numbers[distances.argmin(axis=1)], ("query",)),
        "attractor": (units.invert(attractor.astype(x.dtype)), ("attractor", "feature")),
        "datum_basin": (basin, ("looked_at",)),
        "datum_responsible": (responsible, ("looked_at",)),
        **picture(starts.grid, grid_energy, grid_basin=grid_basin, grid_responsible=grid_responsible),
    }
    attributes = {
        "disagreement": float(np.mean(basin != responsible)),
        "spherical": int(kind.retract is not None),
        "plane": starts.grid.kind,
        "twin": kind.twin or "negative log density (no physical twin written)",
        "units": "axis, plane_origin, grid_x and grid_y are in model units",
    }
    return variables, attributes


def _recalled_reference(
    model: Mixture, reference: Params, points: Float[np.ndarray, "T D"], queries: Float[np.ndarray, "Q D"]
) -> tuple[Float[np.ndarray, " T"], Ends, Recall]:
    """Energies of the points, where recall from them ends, and the first steps of recall from the queries."""
    energies, (ended, responsible, memory), paths = _recall_reference(
        model, reference, jnp.asarray(points), jnp.asarray(queries)
    )
    check_finite("recall", ended)
    return np.asarray(energies), Ends(ended, np.asarray(responsible), np.asarray(memory)), check_finite("recall", paths)


@compiled_by_size(lambda _, reference, points, __: runs_briefly(reference, len(points)))
def _recall_reference(
    model: Mixture, reference: Params, points: Float[Array, "T D"], queries: Float[Array, "Q D"]
) -> tuple[Float[Array, " T"], tuple[Recall, Array, Array], Recall]:
    landscape = survey(model.mixture(reference))
    energies = landscape.energies(points)
    points = _where_defined(points, energies)
    ended = run_all(model, reference, points, jnp.ones((), points.dtype), max_steps=_RECALL_STEPS)
    return energies, ended, landscape.run(queries, max_steps=_TRAJECTORY, record=_TRAJECTORY)


def _where_defined(points: Float[Array, "T D"], energies: Float[Array, " T"]) -> Float[Array, "T D"]:
    """The points with each one of infinite energy, where recall cannot start, replaced by one of finite energy.

    Only points of the plane can have infinite energy without harm: the picture does not show them.
    """
    is_defined = jnp.isfinite(energies)
    is_kept = is_defined | ~jnp.any(is_defined)
    return jnp.where(is_kept[:, None], points, points[jnp.argmax(is_defined)])


def _trajectories(paths: Recall, queries: Float[np.ndarray, "Q D"], units: Standardiser) -> dict[str, Variable]:
    """The first steps of recall from each query; ``paths`` may hold repeated ones after them."""
    if paths.trajectory is None or paths.energies is None:
        raise AssertionError("recall was asked to record and did not")
    states, energies = (
        np.swapaxes(np.asarray(kept), 0, 1)[: len(queries)] for kept in (paths.trajectory, paths.energies)
    )
    return {
        "query": (units.invert(queries), ("query", "feature")),
        "trajectory": (units.invert(states), ("query", "step", "feature")),
        "energy": (energies, ("query", "step")),
    }


def picture(grid: Plane, energy: Float[np.ndarray, " G"], **owners: Int[np.ndarray, " G"]) -> dict[str, Variable]:
    """The plane with its energy and the memories that own its points; NaN off the sphere and outside every support."""
    shape = grid.valid.shape
    is_seen = grid.valid & np.isfinite(energy).reshape(shape)

    def shown(values: np.ndarray) -> tuple[Float[np.ndarray, "Y X"], tuple[str, str]]:
        return np.where(is_seen, np.asarray(values, np.float32).reshape(shape), np.nan), ("grid_y", "grid_x")

    return {
        "axis": (grid.axis, ("axis", "feature")),
        "plane_origin": (grid.origin, ("feature",)),
        "grid_x": (grid.x, ("grid_x",)),
        "grid_y": (grid.y, ("grid_y",)),
        "grid_energy": shown(energy),
        **{name: shown(values) for name, values in owners.items()},
    }


# --- the posterior --------------------------------------------------------------------------------------------


def _over_draws(fit: Saved, queries: Float[np.ndarray, "Q D"], extent: float) -> tuple[Group, Draws]:
    """What recall says under the posterior, and the draws that it was run on."""
    draws, x, rows = fit.draws, fit.x, fit.rows
    complete = np.isfinite(x).all(axis=1)
    starts = rows[complete[rows]]
    num_components = draws.model.num_components
    num_queries, queries = len(queries), _repeated(queries, _QUERIES)
    num_starts = len(starts) + len(queries) + 2 * num_components
    chosen, num_memories = plan(draws.sites, draws.shape, num_starts, fit.num_occupied, x.shape[1])
    used = draws.only(chosen)
    memories = np.sort(np.argsort(-fit.weights, kind="stable")[:num_memories])
    recalled = landscape_posterior(
        used.model,
        used.sites,
        fit.permutation[draws.of_every_chain(chosen)],
        x[starts],
        queries,
        num_data=len(x),
        extent=extent,
        memories=memories,
        max_steps=_RECALL_STEPS,
    )
    recalled = recalled._replace(
        recalled=recalled.recalled[:, :num_queries], recalled_memory=recalled.recalled_memory[:, :num_queries]
    )
    basin = np.full((len(used), len(rows)), -1)
    basin[:, complete[rows]] = recalled.basin
    variables = _recalled(recalled, basin, used.shape, num_components, fit.units) | _barriers(
        recalled, memories, num_components
    )
    attributes = {
        "num_draws": len(used),
        "unsettled": float(np.mean(recalled.basin < 0)),
        "barrier_memories": num_memories,
    }
    return Group(variables, attributes, {"draw": used.kept, "row": rows}), used


def _completed_queries(
    draws: Draws, x: Float[np.ndarray, "N D"], queries: Float[np.ndarray, "Q D"], units: Standardiser
) -> Group:
    """How well hidden entries are completed: half of those of each query, and of some data.

    Args:
        draws: the draws that recall is run on.
        x: complete data.
        queries: in the units of the model, as ``x`` is.
        units: between the units of the data and those of the model.
    """
    if x.shape[1] == 1:
        return Group({})
    hidden = _half_hidden(queries)
    trial = x[np.random.default_rng(1).permutation(len(x))[:_HIDDEN_ROWS]]
    masked = np.concatenate([np.where(hidden, np.nan, queries), np.where(_half_hidden(trial), np.nan, trial)])
    try:
        pooled = completion(draws.model, draws.sites, masked, max_steps=_RECALL_STEPS).pooled()
    except InputError as error:
        return Group({}, {"no_completion": str(error)})
    variables: dict[str, Variable] = {"completion_hidden": (hidden, ("query", "feature"))}
    for name, values in pooled.items():
        own = values[: len(queries)]
        stored = own * np.asarray(units.scale) if name.endswith("sd") else units.invert(own)
        variables[f"completion_{name}"] = (stored, ("query", "feature"))
    return Group(variables, _errors(pooled, masked, trial, x))


def _recalled(
    recalled: LandscapePosterior,
    basin: Int[np.ndarray, "S R"],
    shape: tuple[int, int],
    num_components: int,
    units: Standardiser,
) -> dict[str, Variable]:
    """Attractors, basins shared by two data, and where the queries are recalled to."""
    by_draw = ("chain", "draw")
    num_draws, num_rows = basin.shape
    alone = np.where(basin >= 0, basin, num_draws * num_rows + np.arange(num_rows))  # no rest: a basin of its own
    ended = units.invert(recalled.recalled)
    probability = np.stack([np.mean(recalled.recalled_memory == k, axis=0) for k in range(num_components)], axis=-1)
    return {
        "num_attractors": (recalled.num_attractors.reshape(shape), by_draw),
        "num_spurious": (recalled.num_spurious.reshape(shape), by_draw),
        "same_basin": (coclustering(alone).astype(np.float32), ("row", "row_bis")),
        "recalled": (ended.reshape(*shape, *ended.shape[1:]), (*by_draw, "query", "feature")),
        "recalled_memory": (recalled.recalled_memory.reshape(*shape, -1), (*by_draw, "query")),
        "recalled_mean": (ended.mean(axis=0), ("query", "feature")),
        "recalled_sd": (ended.std(axis=0), ("query", "feature")),
        "recall_probability": (probability, ("query", "memory")),
    }


def _barriers(
    recalled: LandscapePosterior, memories: Int[np.ndarray, " M"], num_components: int
) -> dict[str, Variable]:
    """Quantiles over the draws in which both memories hold data; NaN where there is none."""
    between = ("memory", "memory_bis")

    def whole(values: Float[np.ndarray, "M M"]) -> Float[np.ndarray, "K K"]:
        out = np.full((num_components, num_components), np.nan, np.float32)
        out[np.ix_(memories, memories)] = values
        return out

    times = recalled.at_rest.sum(axis=0)
    ordered = np.sort(recalled.barrier, axis=0)  # NaN last

    def quantile(level: float) -> Float[np.ndarray, "M M"]:
        at = np.clip(np.ceil(level * times).astype(int) - 1, 0, None)
        return np.asarray(np.take_along_axis(ordered, at[None], axis=0)[0])

    merged = np.where(times > 0, recalled.merged.sum(axis=0) / np.maximum(times, 1), np.nan)
    variables = {"barrier": (whole(quantile(0.5)), between), "merged": (whole(merged), between)}
    return variables | {f"barrier_{name}": (whole(quantile(level)), between) for name, level in _INTERVAL.items()}


def _half_hidden(x: Float[np.ndarray, "N D"]) -> Bool[np.ndarray, "N D"]:
    """Half of the entries of each row, at random; of one feature none."""
    num_data, num_features = x.shape
    order = np.random.default_rng(2).random(x.shape).argsort(axis=1)
    return np.asarray(order < num_features // 2) if num_data else np.zeros(x.shape, bool)


def _errors(
    pooled: dict[str, Float[np.ndarray, "Q D"]],
    masked: Float[np.ndarray, "Q D"],
    trial: Float[np.ndarray, "M D"],
    x: Float[np.ndarray, "N D"],
) -> dict[str, float]:
    """Mean squared errors on hidden entries of data that the fit has seen, in units of the feature's variance."""
    hidden = np.isnan(masked[-len(trial) :])
    spread = x.std(axis=0)
    unit = np.where(spread > 0, spread, 1)

    def error(guess: Float[np.ndarray, "M D"]) -> float:
        return float(np.mean((((guess - trial) / unit) ** 2)[hidden]))

    guesses = {name: pooled[name][-len(trial) :] for name in ("descent", "conditional_mean")}
    guesses["column_mean"] = np.broadcast_to(x.mean(axis=0), trial.shape)
    return {f"mse_{name}": error(guess) for name, guess in guesses.items()}
