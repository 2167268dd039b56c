r"""Completion by descent: recall of the missing entries while the observed ones are held.

.. math:: \dot v_m = -\nabla_m E(v_m, v_o), \qquad v_o \text{ fixed}

The end is a local minimum of the energy on the slice that the observed entries cut: a mode of the density of the
missing entries given the others, for one memory its conditional mean, in general not. An update may be given where
it is separable: where its i-th coordinate is the minimum, in coordinate i alone, of a bound on the energy (memories of
one width or of their own along each axis: \(v_m = \sum_k r_k(v) \mu_{km}\) at the end). Elsewhere (quadratic wells
with correlations) the update's missing part is no descent on the slice, and gradients are followed.
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
    """Where the missing entries of each query come to rest, the others held at their values.

    Args:
        energy: of rows of states; without an update it is asked for gradients, one row at a time.
        queries: rows whose missing entries hold where to start from.
        missing: which entries may move.
        update: the energy's own, where it is separable.
        max_steps: most steps of a query.
        tolerance: relative residual at which a query has arrived (see :class:`probam.dynamics.recall.Recall`).

    May be called inside ``jit`` and ``vmap``. Raises :class:`probam.errors.InputError` for masks of another shape than
    the queries and for what :func:`probam.dynamics.recall.recall` refuses.
    """
    start, free = jnp.asarray(queries), jnp.asarray(missing, bool)
    if start.ndim != 2 or free.shape != start.shape:
        raise InputError(f"missing: expected one answer an entry of the queries, {start.shape}; got {free.shape}")
    if not is_traced(start) and not np.isfinite(np.asarray(start)).all():
        raise InputError("queries: expected finite values, also where to start from in the place of missing entries")
    if update is not None:
        moved = _kept(update)(_moved, update, free, start)
        return recall(moved, energy, start, max_steps=max_steps, tolerance=tolerance)
    mask = free.astype(start.dtype)
    held = _kept(energy)(_held, energy)
    report = descend(held, jnp.concatenate([start, start, mask], axis=1), max_steps=max_steps, tolerance=tolerance)
    return report._replace(states=report.states[:, : start.shape[1]])


def _kept(function: Callable[..., Any]) -> Callable[..., Any]:
    """How to hold arguments: so that recall keeps its compiled program, where that is possible at all."""
    return Partial if isinstance(function, Partial) else partial


def _moved(update: Callable[[Array], Array], free: Array, start: Array, rows: Array) -> Array:
    return jnp.where(free, update(rows), start)


def _held(energy: Callable[[Array], Array], point: Float[Array, " 3D"]) -> Float[Array, ""]:
    """Energy of a state whose observed part is beside it: [state, query, mask], of which only the missing entries of
    the state have a slope."""
    state, query, mask = jnp.split(point, 3)
    query, mask = jax.lax.stop_gradient((query, mask))
    return energy(jnp.where(mask > 0, state, query))
