"""The energy landscape of any memory with continuous states, as the tree that a page is made of.

The energy on the plane of the two widest directions, recall from queries, and the fixed points where it ends.
``probam.reports.memory`` draws the tree; it has the groups of a fit that such a picture needs, in the units of the
patterns.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float, Int

from probam.data.columns import counted
from probam.dynamics.memories import MemoryBasins, basins, recall, trajectories
from probam.energies.memory import BITS, SIGNS, UNIT, Alphabet, Memory
from probam.errors import InputError
from probam.fits.landscape import Plane, bounded, plane
from probam.fits.recall_group import picture
from probam.placement import rows_at_once

__all__ = ["check_drawable", "landscape_of"]

_STEPS = 60
"""Steps of recall that are drawn."""

_ACROSS, _UP = 5, 3
"""Queries on the plane where none are given."""


class _Ends(NamedTuple):
    """Where recall ends from every pattern and every query."""

    paths: Float[np.ndarray, "T Q D"]
    attractors: Float[np.ndarray, "A D"]
    of_patterns: Int[np.ndarray, " K"]  # numbers of attractors, -1 where recall did not converge
    of_queries: Int[np.ndarray, " Q"]


def landscape_of(
    memory: Memory,
    patterns: Float[np.ndarray, "K D"],
    queries: Float[np.ndarray, "Q D"] | None = None,
    *,
    columns: Sequence[str] | None = None,
    parameters: Mapping[str, Any] | None = None,
    step: float = 1.0,
    max_steps: int | None = None,
) -> xr.DataTree:
    """The landscape of a memory around its patterns.

    Args:
        memory: one with an energy over real vectors; every memory of one's own that has one.
        patterns: the patterns that it stores; two or more different ones.
        queries: where recall starts; None for points of the plane.
        columns: names of the numbers of a state.
        parameters: what the memory was made with, for readers.
        step: length of an update, above 0 and below 2.
        max_steps: most steps of a query.

    Raises:
        InputError: for a memory whose states are signs, bits or sequences, one without an energy or that moves on
            along a sequence, and for patterns that are all the same.
    """
    _check(memory)
    stored = np.asarray(memory.check(patterns, "patterns"))
    if len(np.unique(stored, axis=0)) < 2:
        raise InputError("patterns: a landscape needs two different patterns or more; got one")
    given = None if queries is None else np.asarray(memory.check(queries))
    grid = _grid(memory, stored if given is None else np.concatenate([stored, given]))
    starts = _on_the_plane(memory, grid) if given is None else given
    starts = starts if len(starts) else stored
    ends = None if memory.still else _ended(memory, stored, starts, step, max_steps)
    names = list(counted(stored.shape[1])) if columns is None else [str(name) for name in columns]
    groups = {
        "observed_data": xr.Dataset({"x": (("datum", "feature"), stored)}, {"feature": names}),
        "constant_data": xr.Dataset(
            {"center": ("feature", np.zeros(len(names))), "scale": ("feature", np.ones(len(names)))}
        ),
        "memory": xr.Dataset(
            {"mean": (("memory", "feature"), stored), "weight": ("memory", np.full(len(stored), 1 / len(stored)))},
            {"memory": np.arange(len(stored))},
        ),
        "recall": _recall(memory, stored, grid, ends).assign_coords(feature=names),
    }
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs=_attributes(memory, parameters or {})), **groups})


def check_drawable(name: str, states: Alphabet) -> None:
    """Raise :class:`probam.errors.InputError` where the states of a memory of this name have nothing between them."""
    if states in (SIGNS, BITS):
        raise InputError(
            f"memory: the states of {name} are {states.name}, and there is no landscape between them; `probam memory "
            "recall` says where recall ends"
        )


def _check(memory: Memory) -> None:
    """Raise an error for a memory that has no landscape."""
    name = memory.card.name
    check_drawable(name, memory.alphabet)
    if len(memory.shape) != 1:
        raise InputError(f"memory: a state of {name} is a table of shape {memory.shape}; only vectors lie on a plane")
    if memory.energy is None:
        raise InputError(f"memory: {name} has no landscape, as it has no energy: {memory.no_energy}")
    if not memory.settles:
        raise InputError(f"memory: {name} moves on along a sequence, so that there is no landscape to descend")


def _grid(memory: Memory, rows: Float[np.ndarray, "N D"]) -> Plane:
    """A grid of states on the plane of the two widest directions, or on the hemisphere."""
    spherical = memory.alphabet is UNIT
    made = plane(rows, spherical=spherical)
    inside: Callable[[Array], Array] | None = None if spherical else memory.keep
    made = bounded(made, inside, rows)
    allowed = memory.alphabet.allows(made.points.reshape(-1, rows.shape[1])).reshape(made.valid.shape)
    return made._replace(valid=made.valid & allowed)


def _on_the_plane(memory: Memory, grid: Plane) -> Float[np.ndarray, "Q D"]:
    """A few states of the grid, evenly spaced, that have a finite energy; perhaps none."""
    height, width = grid.valid.shape
    rows = np.unique(np.linspace(0, height - 1, _UP + 2)[1:-1].astype(int)) if height > 1 else np.zeros(1, int)
    columns = np.linspace(0, width - 1, _ACROSS + 2)[1:-1].astype(int)
    states = grid.points[np.ix_(rows, columns)].reshape(-1, grid.points.shape[-1])
    states = states[grid.valid[np.ix_(rows, columns)].ravel()]
    finite: Float[np.ndarray, "Q D"] = states[np.isfinite(_energies(memory, states))]
    return finite


def _energies(memory: Memory, states: Float[np.ndarray, "Q D"]) -> Float[np.ndarray, " Q"]:
    """Energy of each state, computed by blocks of rows."""
    if not len(states):
        return np.empty(0)
    size = rows_at_once(len(states), prod(np.shape(getattr(memory, memory.bank))), states.dtype)
    rows = np.pad(states, ((0, -len(states) % size), (0, 0)), mode="edge").reshape(-1, size, states.shape[1])
    energy = jax.jit(partial(jax.lax.map, memory.energy))
    values: Float[np.ndarray, " Q"] = np.asarray(energy(jnp.asarray(rows))).reshape(-1)[: len(states)]
    return values


def _ended(
    memory: Memory,
    patterns: Float[np.ndarray, "K D"],
    queries: Float[np.ndarray, "Q D"],
    step: float,
    max_steps: int | None,
) -> _Ends:
    """Recall from patterns and queries together, so that they share their numbers of fixed points."""
    found: MemoryBasins = basins(memory, np.concatenate([patterns, queries]), step=step, max_steps=max_steps)
    paths = trajectories(memory, queries, num_steps=min(_STEPS, max_steps or _STEPS), step=step)
    of_patterns, of_queries = np.split(np.asarray(found.labels), [len(patterns)])
    return _Ends(np.asarray(paths), np.asarray(found.attractors), of_patterns, of_queries)


def _recall(memory: Memory, patterns: Float[np.ndarray, "K D"], grid: Plane, ends: _Ends | None) -> xr.Dataset:
    """The picture, and what recall does from the queries."""
    flat, valid = grid.points.reshape(-1, patterns.shape[1]), grid.valid.ravel()
    energy = np.full(len(flat), np.nan)
    energy[valid] = _energies(memory, flat[valid])
    owners = {"grid_responsible": _nearest(flat, patterns)}
    if ends is not None and _is_line(memory, grid):
        defined = np.where(np.isfinite(energy)[:, None], flat, flat[np.argmax(np.isfinite(energy))])
        owners["grid_basin"] = _nearest(np.asarray(recall(memory, defined).states), patterns)
    made = picture(grid, energy, **owners)
    variables: dict[str, Any] = {name: (dims, values) for name, (values, dims) in made.items()}
    if ends is not None:
        variables |= {
            "trajectory": (("query", "step", "feature"), np.swapaxes(ends.paths, 0, 1)),
            "attractor": (("attractor", "feature"), ends.attractors),
            "attractor_energy": ("attractor", _energies(memory, ends.attractors)),
            "attractor_nearest": ("attractor", _nearest(ends.attractors, patterns)),
            "pattern_attractor": ("memory", ends.of_patterns),
            "query_attractor": ("query", ends.of_queries),
        }
    attributes = {"spherical": int(memory.alphabet is UNIT), "points": "patterns", "owner": "nearest to"}
    return xr.Dataset(variables, attrs=attributes)


def _is_line(memory: Memory, grid: Plane) -> bool:
    """Whether the picture is a curve: one number in a state, or directions in the plane."""
    return grid.valid.shape[0] == 1 or (memory.alphabet is UNIT and grid.points.shape[-1] == 2)


def _nearest(states: Float[np.ndarray, "Q D"], patterns: Float[np.ndarray, "K D"]) -> Int[np.ndarray, " Q"]:
    """Number of the pattern that is nearest to each state."""
    square = (patterns**2).sum(axis=1) - 2 * states @ patterns.T
    return np.asarray(square.argmin(axis=1))


def _attributes(memory: Memory, parameters: Mapping[str, Any]) -> dict[str, str]:
    """What a page says of the memory."""
    card = memory.card
    return {
        "probam_version": version("probam"),
        "memory": card.name,
        "states": card.states.name,
        "energy": card.energy,
        "update": card.update,
        "capacity": card.capacity,
        "source": card.source,
        "parameters": ", ".join(f"{name} = {value}" for name, value in parameters.items()),
        "still": memory.still,
    }
