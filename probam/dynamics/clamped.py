r"""Completion by descent: recall of the missing entries while the observed ones are clamped.

.. math:: \dot v_m = -\nabla_m E(v_m, v_o), \qquad v_o \text{ fixed}

The end is a local minimum of the energy on the slice of states that have the observed entries: a mode of the density of
the missing entries given the others, and for one memory, but not in general, their conditional mean. An update can be
used where it is separable: where its i-th coordinate minimises, in coordinate i alone, a bound on the energy (memories
of one width, or of a width for each axis: \(v_m = \sum_k r_k(v) \mu_{km}\) at the end). Elsewhere (quadratic wells with
correlations) the missing part of the update does not descend on the slice, and gradients are used.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float

from probam.dynamics.recall import Recall, descend, recall
from probam.energies.arguments import is_traced
from probam.errors import InputError

__all__ = ["complete"]


def complete(
    energy: Callable[[Float[Array, "Q D"]], Float[Array, " Q"]],
    queries: Float[ArrayLike, "Q D"],
    missing: Bool[ArrayLike, "Q D"],
    *,
    update: Callable[[Float[Array, "Q D"]], Float[Array, "Q D"]] | None = None,
    max_steps: int = 1000,
    tolerance: float | None = None,
) -> Recall:
    """Where the missing entries of each query converge, the others clamped at their values.

    May be called inside ``jit`` and ``vmap``.

    Args:
        energy: of rows of states; without an update its gradients are used, one row at a time.
        queries: rows; the missing entries hold the values to start from.
        missing: which entries may move.
        update: the energy's own, where it is separable; None follows gradients.
        max_steps: most steps of a query.
        tolerance: relative residual at which a query has converged (see :class:`probam.dynamics.recall.Recall`).

    Raises:
        InputError: for a mask of another shape than the queries, and as :func:`probam.dynamics.recall.recall`.
    """
    start, free = jnp.asarray(queries), jnp.asarray(missing, bool)
    if start.ndim != 2 or free.shape != start.shape:
        raise InputError(f"missing: expected a mask of the shape of the queries, {start.shape}; got {free.shape}")
    if not is_traced(start) and not np.isfinite(np.asarray(start)).all():
        raise InputError("queries: expected finite values, also in missing entries (where recall starts)")
    if update is not None:
        moved = _kept(update)(_moved, update, free, start)
        return recall(moved, energy, start, max_steps=max_steps, tolerance=tolerance)
    mask = free.astype(start.dtype)
    clamped = _kept(energy)(_clamped, energy)
    report = descend(clamped, jnp.concatenate([start, start, mask], axis=1), max_steps=max_steps, tolerance=tolerance)
    return report._replace(states=report.states[:, : start.shape[1]])


def _kept(function: Callable[..., Any]) -> Callable[..., Any]:
    """The kind of partial application with which recall keeps its compiled program, where it can."""
    return Partial if isinstance(function, Partial) else partial


def _moved(update: Callable[[Array], Array], free: Array, start: Array, rows: Array) -> Array:
    return jnp.where(free, update(rows), start)


def _clamped(energy: Callable[[Array], Array], point: Float[Array, " P"]) -> Float[Array, ""]:
    """Energy of a state with its observed part from the query, of [state, query, mask]; only missing entries have a
    slope."""
    state, query, mask = jnp.split(point, 3)
    query, mask = jax.lax.stop_gradient((query, mask))
    return energy(jnp.where(mask > 0, state, query))
