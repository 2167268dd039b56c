"""Recall, basins, barriers and completion of any memory.

These functions ask a :class:`probam.energies.memory.Memory` for what the functions of this room take one by one, check
its states first, and choose the dynamics: one neuron after the other in a network of binary neurons, the memory's own
update, or the gradient of its energy. Programs are compiled once for all memories of a kind and size.
"""

from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Shaped

from probam.dynamics.barriers import lowest_passes
from probam.dynamics.basins import numbered
from probam.dynamics.clamped import complete as complete_rows
from probam.dynamics.discrete import BinaryNetwork, asynchronous
from probam.dynamics.discrete import update as synchronous_update
from probam.dynamics.recall import Recall, descend
from probam.dynamics.recall import recall as iterate
from probam.dynamics.two_layer import flow as integrate
from probam.energies.memory import Memory
from probam.energies.two_layer import Network as TwoLayer
from probam.errors import InputError

__all__ = ["MemoryBasins", "Recalled", "basins", "complete", "passes", "recall", "trajectories"]

_MAX_STEPS = 1000
"""Most steps of a recall that is meant to end at a fixed point."""


_AT_REST = 1e-6
"""Relative distance from rest at which both layers have converged; integration has an error of its own."""


class Recalled(NamedTuple):
    """The final state of each query, and whether it has converged.

    ``steps`` counts updates (in a network of binary neurons sweeps). ``residual`` is the length of the next move,
    relative to the state. ``energy`` is None for a memory without one.
    """

    states: Float[Array, "..."]
    steps: Int[Array, "*batch"]
    residual: Float[Array, "*batch"]
    energy: Float[Array, "*batch"] | None
    converged: Bool[Array, "*batch"]


class MemoryBasins(NamedTuple):
    """The fixed point of each query: an index into ``attractors``, or -1 where recall did not converge."""

    labels: Int[Any, "*batch"]
    attractors: Float[Any, "A *shape"]
    recall: Recalled


def recall(
    memory: Memory,
    queries: Shaped[ArrayLike, "..."],
    *,
    step: float = 1.0,
    max_steps: int | None = None,
    tolerance: float | None = None,
    block_size: int | None = None,
    flow: bool = False,
) -> Recalled:
    """Where each query ends.

    Args:
        memory: any memory; a network of binary neurons sets one neuron after the other.
        queries: states to start from, shape (..., *shape).
        step: length of an update, above 0 and below 2; 1 is the update itself.
        max_steps: most steps of a query; None is 1000, or 1 for a memory that answers by one update.
        tolerance: relative residual at which a query has converged.
        block_size: queries that run at a time; None for all.
        flow: integrate both layers of a two-layer network, by their time constants, for at most ``max_steps`` tau_v;
            the energy is then that of both layers. Otherwise its hidden layer is at rest.

    Raises:
        InputError: for queries of another shape or outside the alphabet, and a memory without dynamics.

    >>> from probam.energies.clam import Clam
    >>> memory = Clam(jnp.array([[0.0, 1.0], [4.0, 0.0]]), beta=2.0)
    >>> recall(memory, jnp.array([3.0, 1.0])).states.round(3).tolist()
    [4.0, 0.0]
    """
    states = memory.check(queries)
    if max_steps is None:
        max_steps = _MAX_STEPS if memory.settles else 1
    if flow:
        if not isinstance(memory, TwoLayer):
            raise InputError(f"flow: {memory.card.name} has one layer; only two_layer has two to integrate")
        horizon = max_steps * float(jnp.asarray(memory.tau_v))
        both = integrate(memory, states, horizon=horizon, tolerance=tolerance or _AT_REST)
        return Recalled(both.visible, both.steps, both.residual, both.energy, both.converged)
    if (network := _network(memory)) is not None:
        last = asynchronous(network, states, order=jnp.arange(states.shape[-1]), max_sweeps=max_steps)
        unstable = synchronous_update(network, last.states, ties="keep") != last.states
        return Recalled(last.states, last.steps, jnp.mean(unstable, -1, states.dtype), last.energy, last.converged)
    options: dict[str, Any] = {"max_steps": max_steps, "tolerance": tolerance, "block_size": block_size}
    ended = _followed(memory, states, step=step, **options)
    energy = None if memory.energy is None else ended.energy
    return Recalled(ended.states.reshape(states.shape), ended.steps, ended.residual, energy, ended.converged)


def _followed(memory: Memory, states: Float[Array, "..."], *, step: float, **options: Any) -> Recall:
    """Recall of a memory whose states are no signs: by its update, or down the gradient of its energy."""
    flat = states.reshape(*states.shape[: states.ndim - len(memory.shape)], prod(memory.shape))
    if memory.update is not None:
        keep = None if memory.keep is None else _of(memory, _kept)
        return iterate(_of(memory, _updated), _of(memory, _heights), flat, step=step, retract=keep, **options)
    if memory.energy is not None and not memory.still:
        return descend(_of(memory, _heights), flat, **options)
    raise InputError(f"memory: {memory.card.name} has no recall: {memory.still or memory.no_update}")


def trajectories(
    memory: Memory, queries: Shaped[ArrayLike, "..."], *, num_steps: int = 60, step: float = 1.0
) -> Float[Array, "..."]:
    """The states that recall passes, shape (num_steps + 1, ..., *shape); the last one is repeated where it ends.

    Args:
        memory: one whose states are no signs.
        queries: states to start from, shape (..., *shape).
        num_steps: how many steps are kept.
        step: as for :func:`recall`.

    Raises:
        InputError: as :func:`recall`, and for a network of binary neurons.

    >>> from probam.energies.clam import Clam
    >>> memory = Clam(jnp.array([[0.0, 1.0], [4.0, 0.0]]), beta=2.0)
    >>> trajectories(memory, jnp.array([3.0, 1.0]), num_steps=2).round(3).tolist()
    [[3.0, 1.0], [4.0, 0.0], [4.0, 0.0]]
    """
    if _network(memory) is not None:
        raise InputError(f"memory: the states of {memory.card.name} are signs, and recall jumps from one to another")
    states = memory.check(queries)
    passed = _followed(memory, states, step=step, max_steps=num_steps, record=num_steps).trajectory
    assert passed is not None  # it was asked to record
    return passed.reshape(len(passed), *states.shape)


def basins(
    memory: Memory,
    queries: Shaped[ArrayLike, "..."],
    *,
    link: float | None = None,
    step: float = 1.0,
    max_steps: int | None = None,
    tolerance: float | None = None,
    flow: bool = False,
) -> MemoryBasins:
    """Every query with the number of the fixed point that recall leads it to, in order of appearance.

    Args:
        link: distance within which recalled states are one fixed point; None is that of
            :func:`probam.dynamics.basins.basin`.
        memory, queries, step, max_steps, tolerance, flow: as for :func:`recall`.
    """
    report = recall(memory, queries, step=step, max_steps=max_steps, tolerance=tolerance, flow=flow)
    batch = report.converged.shape
    labels, positions = numbered(report.states.reshape(*batch, -1), report.converged, link)
    return MemoryBasins(labels, positions.reshape(-1, *memory.shape), report)


def passes(memory: Memory, attractors: Float[ArrayLike, "A *shape"]) -> Float[Array, "A A"]:
    """Energy of the lowest pass found between every two attractors; their own energies on the diagonal.

    :func:`probam.dynamics.barriers.barriers` turns it into climbs.

    Raises:
        InputError: for a memory without an energy, and one of signs or bits, between which there is no path.
    """
    if memory.energy is None:
        raise InputError(f"memory: {memory.card.name} has no energy: {memory.no_energy}")
    if _network(memory) is not None:
        raise InputError(f"memory: the states of {memory.card.name} are signs, and no path leads from one to another")
    rows = memory.check(attractors, "attractors").reshape(-1, prod(memory.shape))
    update = None if memory.update is None else _of(memory, _updated)
    keep = None if memory.keep is None else _of(memory, _kept)
    return lowest_passes(_of(memory, _heights), rows, update=update, keep=keep)


def complete(
    memory: Memory, queries: Float[ArrayLike, "Q D"], missing: Bool[ArrayLike, "Q D"], *, max_steps: int = 1000
) -> Recalled:
    """Where the missing entries of each query converge, the others clamped.

    Args:
        memory: one whose states are real vectors.
        queries: rows; missing entries hold the values to start from.
        missing: which entries may move.
        max_steps: most steps of a query.

    Raises:
        InputError: for a memory without an energy, or whose states are no real vectors.
    """
    if memory.energy is None or _network(memory) is not None or len(memory.shape) != 1:
        raise InputError(
            f"memory: {memory.card.name} cannot be clamped: completion needs an energy over real vectors; "
            "take another memory (`probam memory list`)"
        )
    rows = memory.check(queries)
    update = _of(memory, _updated) if memory.separable else None
    ended = complete_rows(_of(memory, _heights), rows, missing, update=update, max_steps=max_steps)
    return Recalled(ended.states, ended.steps, ended.residual, ended.energy, ended.converged)


def _network(memory: object) -> BinaryNetwork | None:
    """The memory as a network of binary neurons, where it is one."""
    return memory if isinstance(memory, BinaryNetwork) else None


def _of(memory: Memory, function: Callable[[Memory, Array], Array]) -> Callable[[Array], Array]:
    """A function of states alone, with the memory as an argument of compiled programs where it is a pytree."""
    is_leaf = jax.tree_util.all_leaves([memory])
    of_rows: Callable[[Array], Array] = partial(function, memory) if is_leaf else Partial(function, memory)
    return of_rows


def _shaped(memory: Memory, rows: Float[Array, "*batch P"]) -> Float[Array, "..."]:
    return rows.reshape(*rows.shape[:-1], *memory.shape)


def _updated(memory: Memory, rows: Float[Array, "*batch P"]) -> Float[Array, "*batch P"]:
    assert memory.update is not None
    return memory.update(_shaped(memory, rows)).reshape(rows.shape)


def _kept(memory: Memory, rows: Float[Array, "*batch P"]) -> Float[Array, "*batch P"]:
    assert memory.keep is not None
    return memory.keep(_shaped(memory, rows)).reshape(rows.shape)


def _heights(memory: Memory, rows: Float[Array, "*batch P"]) -> Float[Array, "*batch"]:
    """The energy; zero for a memory without one."""
    return jnp.zeros(rows.shape[:-1], rows.dtype) if memory.energy is None else memory.energy(_shaped(memory, rows))
