r"""Three ways to label queries by an energy, which differ.

* :func:`nearest`: the memory at the least distance (Voronoi cells);
* :func:`argmax_responsibility`: the memory of the largest responsibility, \(\arg\max_k r_k(v)\);
* :func:`basin`: the fixed point that recall leads to. A fixed point need not be a memory: wells merge at low beta, and
  from two dimensions on there can be more fixed points than memories.

They agree only for large beta and away from ties: with the memories 0, 1, 1 at beta = 5 the query 0.45 is nearest to 0,
but is recalled as 0.9965. (The label of a clustering associative memory, "the nearest memory once the energy has
converged", is ``nearest`` of the recalled states: a fourth, coarser map.)
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from probam.dynamics.recall import Recall, attractors, recall
from probam.energies import clam

__all__ = ["Basins", "argmax_responsibility", "basin", "nearest", "numbered"]

_LINK = 1e5
"""Default distance, in eps of the states' size, below which two recalled states are one fixed point."""


class Basins(NamedTuple):
    """The fixed point of each query: an index into ``attractors``, or -1 where recall did not converge."""

    labels: Int[np.ndarray, "*batch"]
    attractors: Float[np.ndarray, "A D"]
    recall: Recall


def nearest(queries: Float[ArrayLike, "*batch D"], memories: Float[ArrayLike, "K D"]) -> Int[Array, "*batch"]:
    """Index of the memory nearest to each query."""
    return clam.nearest(queries, memories)


def argmax_responsibility(
    queries: Float[ArrayLike, "*batch D"],
    responsibilities: Callable[[Float[Array, "*batch D"]], Float[Array, "*batch K"]],
) -> Int[Array, "*batch"]:
    """Index of the memory with the largest responsibility for each query, before any recall."""
    return jnp.argmax(responsibilities(jnp.asarray(queries)), axis=-1)


def basin(
    update: Callable[[Float[Array, "Q D"]], Float[Array, "Q D"]],
    energy: Callable[[Float[Array, "Q D"]], Float[Array, " Q"]],
    queries: Float[ArrayLike, "*batch D"],
    *,
    link: float | None = None,
    step: float = 1.0,
    max_steps: int = 10_000,
    tolerance: float | None = None,
    retract: Callable[[Float[Array, "Q D"]], Float[Array, "Q D"]] | None = None,
    block_size: int | None = None,
) -> Basins:
    """Recall every query to its fixed point and number the fixed points in order of appearance.

    The arguments not named here, and the errors, are those of :func:`probam.dynamics.recall.recall`. Not for use under
    ``jit``: the number of fixed points is not known beforehand.

    Args:
        link: distance within which recalled states are one fixed point; by default 1e5 eps times the largest state,
            which covers the remaining error of slow convergence.
    """
    report = recall(
        update,
        energy,
        queries,
        step=step,
        max_steps=max_steps,
        tolerance=tolerance,
        retract=retract,
        block_size=block_size,
    )
    labels, positions = numbered(report.states, report.converged, link)
    return Basins(labels, positions, report)


def numbered(
    states: Float[ArrayLike, "*batch D"], converged: Bool[ArrayLike, "*batch"], link: float | None = None
) -> tuple[Int[np.ndarray, "*batch"], Float[np.ndarray, "A D"]]:
    """The number of the fixed point of each recalled state, -1 where it has not converged, and the fixed points.

    Args:
        states: where recall ended.
        converged: whether it had converged there.
        link: as for :func:`basin`.
    """
    states, converged = np.asarray(states), np.asarray(converged)
    labels = np.full(converged.shape, -1)
    if link is None:
        size = float(np.linalg.norm(states, axis=-1).max(initial=0))
        link = _LINK * float(np.finfo(states.dtype).eps) * size
    labels[converged], positions = attractors(states[converged], link)
    return labels, positions
