r"""Barriers between memories: how high an energy rises on the way from one attractor to another.

The lowest pass between two attractors a and b is the height that every path between them reaches at least,

.. math:: P(a, b) = \min_{\gamma: a \to b} \; \max_t \; E(\gamma(t)), \qquad B(a \to b) = P(a, b) - E(a)

and it is attained at a saddle of the energy. Between two CLAM memories of one beta the path is the segment between
them: every stationary point lies in the convex hull of the memories, and the energy rises away from the line. In
general :func:`string` searches for the path: it relaxes each point of the straight path by the energy's own update and
then spaces the points evenly again (the simplified string method of E, Ren and Vanden-Eijnden 2007,
doi:10.1063/1.2720838, with the update instead of the gradient). Every path gives an upper bound, so the lowest path met
is kept. P is an ultrametric, so a detour through a third attractor counts where it is lower (:func:`lowest_passes`).
The result is an upper bound, up to the interpolation of a path's top, and equals P where the string has found the
saddle.

Energies and updates take rows of states (..., D), as in :func:`probam.dynamics.recall.recall`. Heights are in the
energy's units: times the scale of a physical twin they are nats, the log of how much less likely the pass is.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from probam.energies.arguments import is_traced
from probam.errors import InputError

__all__ = ["Strings", "barriers", "lowest_passes", "string"]

Rows = Callable[[Array], Array]
"""A function of states, rows (..., D)."""

_FINE = 8
"""Points of a segment at which a path's top is looked for."""

_COOLED = 0.01
"""Length of the last gradient step, in distances between neighbours on a path; the first is one."""


class Strings(NamedTuple):
    """The best path found between each of B pairs of states, and the energy at its top."""

    paths: Float[Array, "B P D"]
    top: Float[Array, " B"]


def string(
    energy: Rows,
    start: Float[ArrayLike, "B D"],
    end: Float[ArrayLike, "B D"],
    *,
    update: Rows | None = None,
    keep: Rows | None = None,
    num_images: int = 24,
    num_steps: int = 80,
) -> Strings:
    """The lowest paths found from each start to its end, and their highest energies.

    Args:
        energy: of rows of states.
        start: where each path begins, an attractor.
        end: where it ends.
        update: the energy's own update. None moves the points of a path down the gradient, in steps that shrink from
            the distance between neighbours to a hundredth of it.
        keep: maps states back to the domain of the energy (a sphere, a cube).
        num_images: points of a path, the ends included.
        num_steps: relaxations; 0 leaves the straight path.

    The top is that of the piecewise linear path, from eight points a segment and a parabola through the highest.
    May be called inside ``jit`` and ``vmap``.

    Raises:
        InputError: for ends of other shapes than the starts, non-finite ones, and fewer than three images.
    """
    start, end = jnp.asarray(start), jnp.asarray(end)
    if start.ndim != 2 or start.shape != end.shape:
        raise InputError(f"start, end: expected two arrays of shape (B, D); got {start.shape} and {end.shape}")
    if num_images < 3 or num_steps < 0:
        raise InputError(f"num_images, num_steps: expected at least 3 and 0; got {num_images} and {num_steps}")
    if not (is_traced(start) or is_traced(end)) and not np.isfinite(np.asarray(start) + np.asarray(end)).all():
        raise InputError("start, end: expected finite states; leave out attractors that recall did not reach")
    hold: Rows = (lambda rows: rows) if keep is None else keep
    share = jnp.linspace(0, 1, num_images, dtype=start.dtype)[:, None]
    straight = _pinned(hold(start[:, None] + share * (end - start)[:, None]), start, end)
    relax = _downhill(energy, num_steps) if update is None else _updated(update)

    def advance(t: Array, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        paths, best, lowest = state
        top = jnp.max(energy(_fine(paths, 2, hold)), axis=-1)
        better = top < lowest
        kept = jnp.where(better[:, None, None], paths, best), jnp.where(better, top, lowest)
        relaxed = _pinned(hold(relax(t, paths)), start, end)
        return _pinned(hold(_evenly(relaxed)), start, end), *kept

    highest = jnp.full(len(start), jnp.inf, start.dtype)
    _, best, _ = jax.lax.fori_loop(0, num_steps + 1, advance, (straight, straight, highest))
    return Strings(best, _summit(energy(_fine(best, _FINE, hold))))


def lowest_passes(
    energy: Rows,
    attractors: Float[ArrayLike, "M D"],
    *,
    update: Rows | None = None,
    keep: Rows | None = None,
    num_images: int = 24,
    num_steps: int = 80,
) -> Float[Array, "M M"]:
    r"""Energy of the lowest pass found between every two of M attractors; on the diagonal their own energies.

    .. math:: P_{ij} \leftarrow \min_k \max(P_{ik}, P_{kj})

    lowers the passes of direct strings by detours through the other attractors. The other arguments and the errors are
    those of :func:`string`.

    Args:
        attractors: minima of the energy, finite.
    """
    attractors = jnp.asarray(attractors)
    one, other = np.triu_indices(len(attractors), 1)
    own = energy(attractors)
    passes = jnp.diag(own)
    if not len(one):
        return passes
    strings = string(
        energy, attractors[one], attractors[other], update=update, keep=keep, num_images=num_images, num_steps=num_steps
    )
    top = jnp.maximum(strings.top, jnp.maximum(own[one], own[other]))
    top = jnp.where(jnp.isnan(top), jnp.inf, top)  # a path that leaves the energy's domain is no path
    passes = passes.at[one, other].set(top).at[other, one].set(top)

    def detour(k: Array, passes: Array) -> Array:
        return jnp.minimum(passes, jnp.maximum(passes[:, k, None], passes[k]))

    return jnp.asarray(jax.lax.fori_loop(0, len(attractors), detour, passes))


def barriers(passes: Float[ArrayLike, "M M"]) -> Float[Array, "M M"]:
    """Height of each pass over the attractor that is left: the climb from i (row) to j (column).

    Zero on the diagonal, and between two attractors that are the same.

    Args:
        passes: those of :func:`lowest_passes`.
    """
    passes = jnp.asarray(passes)
    return jnp.maximum(passes - jnp.diagonal(passes)[:, None], 0)


def _updated(update: Rows) -> Callable[[Array, Array], Array]:
    def relax(t: Array, paths: Array) -> Array:
        del t
        return update(paths)

    return relax


def _downhill(energy: Rows, num_steps: int) -> Callable[[Array, Array], Array]:
    """Gradient steps; the longest on a path is a share of the distance between its points, which falls with time."""
    slope = jax.grad(lambda rows: jnp.sum(energy(rows)))

    def relax(t: Array, paths: Array) -> Array:
        gradient = slope(paths)
        gradient = jnp.where(jnp.isfinite(gradient), gradient, 0)
        steepest = jnp.max(_norm(gradient), axis=-1)[:, None, None]
        between = jnp.mean(_norm(jnp.diff(paths, axis=1)), axis=-1)[:, None, None]
        length = between * _COOLED ** (t / max(num_steps - 1, 1)).astype(paths.dtype)
        step = jnp.where(steepest > 0, length / jnp.where(steepest > 0, steepest, 1), 0)
        moved: Array = paths - step * gradient
        return moved

    return relax


def _norm(rows: Float[Array, "*batch D"]) -> Float[Array, "*batch"]:
    return jnp.sqrt(jnp.sum(rows**2, axis=-1))


def _pinned(paths: Float[Array, "B P D"], start: Float[Array, "B D"], end: Float[Array, "B D"]) -> Array:
    return paths.at[:, 0].set(start).at[:, -1].set(end)


def _evenly(paths: Float[Array, "B P D"]) -> Float[Array, "B P D"]:
    """The same polygons with their points at equal distances along them."""
    num_images = paths.shape[1]

    def one(path: Float[Array, "P D"]) -> Float[Array, "P D"]:
        along = jnp.concatenate([jnp.zeros(1, path.dtype), jnp.cumsum(_norm(jnp.diff(path, axis=0)))])
        even = along[-1] * jnp.linspace(0, 1, num_images, dtype=path.dtype)
        left = jnp.clip(jnp.searchsorted(along, even, side="right") - 1, 0, num_images - 2)
        width = along[left + 1] - along[left]
        share = jnp.where(width > 0, (even - along[left]) / jnp.where(width > 0, width, 1), 0)
        return path[left] + share[:, None] * (path[left + 1] - path[left])

    return jax.vmap(one)(paths)


def _fine(paths: Float[Array, "B P D"], parts: int, hold: Rows) -> Float[Array, "B F D"]:
    """The points of the paths with each segment cut in equal parts."""
    share = (jnp.arange(parts, dtype=paths.dtype) / parts)[:, None]
    inner = paths[:, :-1, None] + share * (paths[:, 1:] - paths[:, :-1])[:, :, None]
    inner = inner.reshape(len(paths), -1, paths.shape[-1])
    return hold(jnp.concatenate([inner, paths[:, -1:]], axis=1))


def _summit(heights: Float[Array, "B F"]) -> Float[Array, " B"]:
    """Top of the parabola through the highest of the heights along a path and its neighbours."""
    at = jnp.argmax(heights, axis=-1)
    inner = jnp.clip(at, 1, heights.shape[-1] - 2)
    before, top, after = (jnp.take_along_axis(heights, (inner + i)[:, None], axis=-1)[:, 0] for i in (-1, 0, 1))
    bend = 2 * top - before - after
    bent = (at == inner) & (bend > 0) & jnp.isfinite(bend)
    rise = jnp.where(bent, (after - before) ** 2 / (8 * jnp.where(bent, bend, 1)), 0)
    return jnp.max(heights, axis=-1) + jnp.where(jnp.isfinite(rise), rise, 0)
