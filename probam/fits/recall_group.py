"""The ``recall`` group of a fit: recall at the reference draw with its picture, and recall under the posterior.

Positions are stored in the data's units, the plane of the picture in the model's; memories are numbered as in the
group ``memory``.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from probam.errors import InputError
from probam.family import Params
from probam.family.capabilities import DataSpace
from probam.fits.landscape import Landscape, basins, bounded, plane, survey
from probam.fits.landscape_posterior import LandscapePosterior, completion, landscape_posterior, plan
from probam.models.mixture import Mixture
from probam.reports.summaries.partition import coclustering

__all__ = ["RecallGroup", "recall_group"]

_QUERIES = 12
_TRAJECTORY = 60
_BASIN_DATA = 1000
_RECALL_STEPS = 500
_HIDDEN_ROWS = 200
"""Data of which half the entries are hidden, to see how well they are completed."""

_INTERVAL = {"q05": 0.05, "q95": 0.95}


class RecallGroup(NamedTuple):
    """Variables, attributes and coordinates of the group."""

    variables: dict[str, Any]
    attributes: dict[str, Any]
    coordinates: dict[str, Any]


def recall_group(
    model: Mixture,
    sites: Params,
    permutation: Int[np.ndarray, "S K"],
    best: int,
    x: Float[np.ndarray, "N D"],
    rows: Int[np.ndarray, " R"],
    resp: Float[np.ndarray, "N K"],
    units: Any,
    *,
    draws: Int[np.ndarray, " T"],
    num_occupied: int,
) -> RecallGroup:
    """All of the group, from the thinned draws of a fit.

    Args:
        model: the program that was fitted.
        sites: site values, the S = chains x T draws in one row, chain by chain.
        permutation: memory k as relabelled is memory ``permutation[s, k]`` of draw s.
        best: the reference draw.
        x: the data in model units; those with missing entries (NaN) are left out.
        rows: the data of the co-clustering matrix.
        resp: posterior mean of the relabelled responsibilities.
        units: the :class:`probam.data.standardise.Standardiser` between the data's units and the model's.
        draws: numbers of the T thinned draws.
        num_occupied: relabelled memories, the first, that hold data.

    Raises :class:`probam.errors.InputError` where the energy has no dynamics, and where no datum is complete.
    """
    reference = {name: value[best] for name, value in sites.items()}
    landscape = survey(model.mixture(reference))
    if landscape.still:
        raise InputError(f"recall: {landscape.still}")
    whole = np.isfinite(x).all(axis=1)
    if not whole.any():
        raise InputError("recall: every datum lacks an entry; recall starts from complete data")
    known, at = x[whole], np.flatnonzero(whole)
    locations = DataSpace.of(model.family).memories(reference)
    inverse = np.argsort(permutation[best])
    variables, attributes = _at_reference(landscape, locations, known, inverse, resp[whole], units)
    variables["datum_row"] = (at[variables["datum_row"][0]], ("looked_at",))
    queries = np.asarray(units.apply(variables["query"][0]), x.dtype)
    further, said, chosen = _over_draws(
        model,
        sites,
        permutation,
        x,
        rows,
        queries,
        units,
        shape=(len(permutation) // len(draws), len(draws)),
        num_occupied=num_occupied,
    )
    return RecallGroup(variables | further, attributes | said, {"recall/draw": draws[chosen], "recall/row": rows})


def _over_draws(
    model: Mixture,
    sites: Params,
    permutation: Int[np.ndarray, "S K"],
    x: Float[np.ndarray, "N D"],
    rows: Int[np.ndarray, " R"],
    queries: Float[np.ndarray, "Q D"],
    units: Any,
    *,
    shape: tuple[int, int],
    num_occupied: int,
) -> tuple[dict[str, Any], dict[str, Any], Int[np.ndarray, " T"]]:
    """What recall says under the posterior: variables, attributes, and which draws of a chain were used."""
    whole = np.isfinite(x).all(axis=1)
    starts = rows[whole[rows]]
    num_starts = len(starts) + len(queries) + 2 * model.num_components
    chosen, num_memories = plan(sites, shape, num_starts, num_occupied, x.shape[1])
    which = (np.arange(shape[0])[:, None] * shape[1] + chosen).ravel()
    some = {name: value[which] for name, value in sites.items()}
    permutation = permutation[which]
    extent = float(np.sqrt(x[whole].var(axis=0).sum())) or 1.0
    found = landscape_posterior(
        model,
        some,
        permutation,
        x[starts],
        queries,
        num_data=len(x),
        extent=extent,
        num_memories=num_memories,
        max_steps=_RECALL_STEPS,
    )
    basin = np.full((len(which), len(rows)), -1)
    basin[:, whole[rows]] = found.basin
    num_components = model.num_components
    variables = _recalled(found, basin, (shape[0], len(chosen)), num_components, units)
    variables |= _barriers(found, num_components)
    attributes: dict[str, Any] = {
        "num_draws": len(which),
        "unsettled": float(np.mean(found.basin < 0)),
        "barrier_memories": num_memories,
    }
    hidden = _half_hidden(queries)
    trial = x[np.flatnonzero(whole)[np.random.default_rng(1).permutation(int(whole.sum()))[:_HIDDEN_ROWS]]]
    masked = np.concatenate([np.where(hidden, np.nan, queries), np.where(_half_hidden(trial), np.nan, trial)])
    if x.shape[1] > 1:
        try:
            completed = completion(model, some, masked, max_steps=_RECALL_STEPS)
        except InputError as error:
            attributes["no_completion"] = str(error)
        else:
            pooled = completed.pooled()
            for name, values in pooled.items():
                own = values[: len(queries)]
                stored = own * np.asarray(units.scale) if name.endswith("sd") else units.invert(own)
                variables[f"completion_{name}"] = (stored, ("query", "feature"))
            variables["completion_hidden"] = (hidden, ("query", "feature"))
            attributes |= _errors(pooled, masked, trial, x[whole])
    return variables, attributes, chosen


def _recalled(
    found: LandscapePosterior, basin: Int[np.ndarray, "S R"], shape: tuple[int, int], num_components: int, units: Any
) -> dict[str, Any]:
    by_draw = ("chain", "draw")
    num_draws, num_rows = basin.shape
    alone = np.where(basin >= 0, basin, num_draws * num_rows + np.arange(num_rows))  # no rest, no company
    ended = units.invert(found.recalled)
    probability = np.stack([np.mean(found.recalled_memory == k, axis=0) for k in range(num_components)], axis=-1)
    return {
        "num_attractors": (found.num_attractors.reshape(shape), by_draw),
        "num_spurious": (found.num_spurious.reshape(shape), by_draw),
        "same_basin": (coclustering(alone).astype(np.float32), ("row", "row_bis")),
        "recalled": (ended.reshape(*shape, *ended.shape[1:]), (*by_draw, "query", "feature")),
        "recalled_memory": (found.recalled_memory.reshape(*shape, -1), (*by_draw, "query")),
        "recalled_mean": (ended.mean(axis=0), ("query", "feature")),
        "recalled_sd": (ended.std(axis=0), ("query", "feature")),
        "recall_probability": (probability, ("query", "memory")),
    }


def _barriers(found: LandscapePosterior, num_components: int) -> dict[str, Any]:
    """Quantiles over the draws in which both memories hold data; NaN where there is none."""
    between = ("memory", "memory_bis")
    size = found.barrier.shape[1]

    def whole(values: Float[np.ndarray, "M M"]) -> Float[np.ndarray, "K K"]:
        out = np.full((num_components, num_components), np.nan, np.float32)
        out[:size, :size] = values
        return out

    times = found.held.sum(axis=0)
    ordered = np.sort(found.barrier, axis=0)  # NaN last

    def quantile(level: float) -> Float[np.ndarray, "M M"]:
        at = np.clip(np.ceil(level * times).astype(int) - 1, 0, None)
        return np.asarray(np.take_along_axis(ordered, at[None], axis=0)[0])

    merged = np.where(times > 0, found.merged.sum(axis=0) / np.maximum(times, 1), np.nan)
    variables = {"barrier": (whole(quantile(0.5)), between), "merged": (whole(merged), between)}
    return variables | {f"barrier_{name}": (whole(quantile(level)), between) for name, level in _INTERVAL.items()}


def _half_hidden(x: Float[np.ndarray, "N D"]) -> Bool[np.ndarray, "N D"]:
    """Half of the entries of each row, at random; of one feature none."""
    num_data, num_features = x.shape
    order = np.random.default_rng(2).random(x.shape).argsort(axis=1)
    return np.asarray(order < num_features // 2) if num_data else np.zeros(x.shape, bool)


def _errors(
    pooled: dict[str, Float[np.ndarray, "N D"]],
    masked: Float[np.ndarray, "N D"],
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


def _at_reference(
    landscape: Landscape,
    locations: jax.Array,
    x: np.ndarray,
    inverse: np.ndarray,
    resp: Any,
    units: Any,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Recall at the reference draw: trajectories of the least certain data, and basins on the data and on a plane."""
    spherical = landscape.retract is not None
    extent = float(np.sqrt(x.var(axis=0).sum())) or 1.0
    rng = np.random.default_rng(0)
    some = np.sort(rng.permutation(len(x))[:_BASIN_DATA])
    confidence = np.asarray(resp).max(axis=1)
    doubtful = np.argsort(confidence)[: _QUERIES // 2]
    others = rng.permutation(len(x))[: _QUERIES - len(doubtful)]
    rows = np.unique(np.concatenate([doubtful, others]))
    grid = bounded(plane(x, spherical=spherical), landscape, x)

    # data, queries and grid in one run: one program
    everywhere = np.concatenate([x[some], x[rows], grid.points.reshape(-1, x.shape[1]).astype(x.dtype)])
    cuts = np.cumsum([len(some), len(rows)])
    found = basins(landscape, jnp.asarray(everywhere), extent, max_steps=_RECALL_STEPS)
    basin, query_basin, grid_basin = np.split(inverse[found.memory], cuts)
    responsible, query_responsible, grid_responsible = np.split(
        inverse[landscape.memory_of(jnp.asarray(everywhere))], cuts
    )
    _, _, grid_energy = np.split(np.asarray(landscape.energies(jnp.asarray(everywhere))), cuts)
    _, converged, _ = np.split(np.asarray(found.recall.converged), cuts)
    of_data = np.unique(found.attractor[: cuts[0]])

    paths = landscape.run(jnp.asarray(x[rows]), max_steps=_TRAJECTORY, record=_TRAJECTORY)
    if paths.trajectory is None or paths.energies is None:
        raise AssertionError("recall was asked to record and did not")
    nearest = inverse[((x[rows][:, None] - np.asarray(locations)) ** 2).sum(-1).argmin(axis=1)]
    shape = grid.valid.shape
    invalid = ~grid.valid | ~np.isfinite(grid_energy).reshape(shape)  # off the sphere, or outside every support

    def masked(values: Any) -> np.ndarray:
        values = np.asarray(values, np.float32).reshape(shape)
        return np.where(invalid, np.nan, values)

    on_plane = ("grid_y", "grid_x")
    variables = {
        "query": (units.invert(x[rows]), ("query", "feature")),
        "trajectory": (np.swapaxes(units.invert(np.asarray(paths.trajectory)), 0, 1), ("query", "step", "feature")),
        "energy": (np.swapaxes(np.asarray(paths.energies), 0, 1), ("query", "step")),
        "converged": (converged, ("query",)),
        "basin": (query_basin, ("query",)),
        "responsible": (query_responsible, ("query",)),
        "nearest": (nearest, ("query",)),
        "attractor": (units.invert(found.positions[of_data].astype(x.dtype)), ("attractor", "feature")),
        "datum_basin": (basin, ("looked_at",)),
        "datum_responsible": (responsible, ("looked_at",)),
        "datum_row": (some, ("looked_at",)),
        "axis": (grid.axis, ("axis", "feature")),
        "plane_origin": (grid.origin, ("feature",)),
        "grid_x": (grid.x, ("grid_x",)),
        "grid_y": (grid.y, ("grid_y",)),
        "grid_energy": (masked(grid_energy), on_plane),
        "grid_basin": (masked(grid_basin), on_plane),
        "grid_responsible": (masked(grid_responsible), on_plane),
    }
    attributes = {
        "disagreement": float(np.mean(basin != responsible)),
        "spherical": int(spherical),
        "twin": landscape.twin or "negative log density (no physical twin written)",
        "units": "axis, plane_origin, grid_x and grid_y are in model units",
    }
    return variables, attributes
