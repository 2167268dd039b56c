r"""The energy landscape of one draw: recall, basins and attractors, on the data and on a plane.

The memories' own dynamics come from the physics: :func:`probam.equivalence.twins.physical_twin` gives the energy that
is the mixture's negative log density, and its update. A family without a physical twin recalls by gradient descent on
its own negative log density. Positions are in model units; callers map them.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float, Int

from probam.compiled import compiled_by_size
from probam.distributions.mixture import MemoryMixture
from probam.dynamics.recall import Recall, attractors, check_finite, check_step, descend, recall
from probam.energies import clam, counts, hypercube, laplace, quadratic
from probam.equivalence.twins import physical_twin
from probam.errors import RowError
from probam.family import Params
from probam.fits.descent import descent_of
from probam.fits.questions import padded
from probam.models.mixture import Mixture

__all__ = [
    "MERGE",
    "Basins",
    "Ends",
    "Landscape",
    "Plane",
    "Rests",
    "basins",
    "bounded",
    "check_inside",
    "energies_at",
    "extent_of",
    "kind_of",
    "plane",
    "recalled",
    "run_all",
    "runs_briefly",
    "survey",
]

MERGE = 1e-3
"""Attractors closer than this fraction of the data's spread are one."""

_BRIEF = 10_000_000
"""Most states times parameters of a draw for which recall runs for a moment only."""

_SEPARATED_ROWS = 20_000
"""Rows that are looked at for the plane that separates groups: of more, as many evenly spaced ones."""

_NARROW = 1e-3
"""Least spread of a feature within groups, as a share of its whole spread."""

_EDGE = 1e-4
"""A point that is moved by less than this fraction of the data's extent was inside."""


class Landscape(NamedTuple):
    """The energy of a mixture and its recall, ready to be run from any query."""

    mixture: MemoryMixture
    energy: Callable[[jax.Array], jax.Array]
    update: Callable[[jax.Array], jax.Array] | None
    retract: Callable[[jax.Array], jax.Array] | None
    twin: str
    still: str = ""  # why nothing moves, for an energy without dynamics
    inside: Callable[[jax.Array], jax.Array] | None = None  # brings a point to where the energy is defined
    scale: float | Float[Array, ""] = 1.0  # differences of energy times this are nats

    def run(
        self,
        queries: Float[Array, "Q D"],
        *,
        step: float | Float[Array, ""] = 1.0,
        max_steps: int = 1000,
        record: int = 0,
        tolerance: float | None = None,
    ) -> Recall:
        """Recall from every query."""
        how: dict[str, Any] = {"max_steps": max_steps, "record": record, "tolerance": tolerance}
        if self.update is None:
            return self._kept(descend(self.energy, queries, **how))
        return recall(self.update, self.energy, queries, step=step, retract=self.retract, **how)

    def _kept(self, ended: Recall) -> Recall:
        """The states of a descent, brought to where the energy is defined."""
        if self.inside is None:
            return ended
        trajectory = None if ended.trajectory is None else self.inside(ended.trajectory)
        return ended._replace(states=self.inside(ended.states), trajectory=trajectory)

    @property
    def keep(self) -> Callable[[jax.Array], jax.Array] | None:
        """Brings states back to the sphere, or to where the energy is defined; None where it is so everywhere."""
        return self.retract or self.inside

    @property
    def keeps_total(self) -> bool:
        """Whether recall never changes the sum of a state (counts): rests at different totals are different places."""
        return _own_function(self.update) is counts.update

    @property
    def is_separable(self) -> bool:
        """Whether each coordinate of the update minimises a bound on the energy in that coordinate alone."""
        function = _own_function(self.update)
        if function is quadratic.update:
            return bool(self.update.keywords["stiffness"].ndim == 2)  # type: ignore[union-attr]
        return function in (clam.update, hypercube.update, laplace.update)

    def energies(self, states: Float[Array, "Q D"]) -> Float[Array, " Q"]:
        """Energy of each state."""
        return jnp.asarray(jax.jit(jax.vmap(self.energy))(states))


def survey(mixture: MemoryMixture) -> Landscape:
    """The landscape of a mixture, from its physical twin where one is written."""
    twin = physical_twin(mixture)
    if twin is None:
        descent = descent_of(mixture)
        return Landscape(mixture, descent.energy, None, None, "", descent.still, descent.inside)
    energy, update, retract = map(_traced_once, (twin.energy, twin.update, twin.retract))
    return Landscape(mixture, energy, update, retract, twin.name, twin.still, twin.inside, twin.scale)


def _traced_once(function: Any) -> Any:
    """The same function of states. Programs that call it often trace and lower it once, and run it where it is called.

    Functions of a twin are partial ones; others are left as they are.
    """
    if not isinstance(function, Partial):
        return function
    return Partial(_jitted(function.func), *function.args, **function.keywords)


@cache
def _jitted(function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    return jax.jit(function)


def _own_function(function: Any) -> Any:
    """The function of the physics behind a function of states."""
    called = getattr(function, "func", None)
    return getattr(called, "__wrapped__", called)


def extent_of(x: Float[np.ndarray, "N D"]) -> float:
    """Spread of data: the square root of their total variance; 1 where they all coincide."""
    return float(np.sqrt(x.var(axis=0).sum())) or 1.0


def kind_of(model: Mixture, params: Params) -> Landscape:
    """What the landscape of a draw is like: its twin, what keeps states inside, and why nothing moves.

    Where there is a twin, nothing is computed for it, and of its functions only ``inside`` can be called.
    """
    found: list[Landscape] = []
    jax.eval_shape(lambda params: found.append(survey(model.mixture(params))), params)
    kind = found[0]
    if not kind.twin:
        return survey(model.mixture(params))  # a descent depends on the numbers
    return kind if kind.inside is None else kind._replace(inside=lambda states: _inside(model, params, states))


@jax.jit
def _inside(model: Mixture, params: Params, states: Float[Array, "... D"]) -> Float[Array, "... D"]:
    """The states, brought to where the energy is defined."""
    inside = survey(model.mixture(params)).inside
    return states if inside is None else inside(states)


class Ends(NamedTuple):
    """Where recall ends from each query."""

    recall: Recall
    responsible: Int[np.ndarray, " Q"]  # memory most responsible at the query
    memory: Int[np.ndarray, " Q"]  # and where recall ended


def recalled(
    model: Mixture, params: Params, queries: Float[np.ndarray, "Q D"], *, step: float = 1.0, max_steps: int = 1000
) -> Ends:
    """Recall from every query, in one program for all fits of a kind.

    Args:
        model: the program that was fitted.
        params: its sites.
        queries: where recall starts, in the units of the model.
        step: Euler step in units of tau, in (0, 2).
        max_steps: most steps of a query.
    """
    check_step(step)
    starts = jnp.asarray(padded(queries, model.num_components))
    found = _recall(model, params, starts, jnp.asarray(step, starts.dtype), max_steps=max_steps)
    ended, responsible, memory = jax.tree.map(lambda of_start: np.asarray(of_start)[: len(queries)], found)
    return Ends(check_finite("recall", ended), responsible, memory)


def check_inside(ended: Recall) -> Recall:
    """The same, or :class:`probam.errors.InputError` where a query ends outside the support of every memory."""
    outside = ~np.isfinite(np.asarray(ended.energy))
    if outside.any():
        raise RowError(
            f"queries: {outside.sum()} of {outside.size} end where every memory has density 0, the first is ",
            np.flatnonzero(outside)[0],
            "; the energy is infinite there, so recall cannot start; leave them out",
        )
    return ended


def run_all(
    model: Mixture, params: Params, queries: Float[Array, "Q D"], step: Float[Array, ""], *, max_steps: int
) -> tuple[Recall, Int[Array, " Q"], Int[Array, " Q"]]:
    """Recall, and the memories most responsible at each query and where its recall ends."""
    mixture = model.mixture(params)
    ended = survey(mixture).run(queries, step=step, max_steps=max_steps)
    at_query, at_end = (jnp.argmax(mixture.log_responsibilities(v), axis=-1) for v in (queries, ended.states))
    return ended, at_query, at_end


def runs_briefly(params: Params, num_states: int) -> bool:
    """Whether compiling a program of recall costs more than running it."""
    return num_states * sum(value.size for value in params.values()) <= _BRIEF


_recall = compiled_by_size(
    lambda _, params, queries, *__, **___: runs_briefly(params, len(queries)), static_argnames="max_steps"
)(run_all)


@jax.jit
def energies_at(model: Mixture, params: Params, states: Float[Array, "Q D"]) -> Float[Array, " Q"]:
    """Energy of each state."""
    return survey(model.mixture(params)).energy(states)


class Basins(NamedTuple):
    """Where recall ends from each query, close ends as one attractor."""

    attractor: Int[np.ndarray, " Q"]  # number of the attractor
    positions: Float[np.ndarray, "A D"]  # of the attractors
    memory: Int[np.ndarray, " Q"]  # most responsible at the first end of the attractor


def basins(ends: Ends, scale: float) -> Basins:
    """The attractors of recall.

    Args:
        ends: where recall ended.
        scale: spread of the data; ends of recall closer than a thousandth of it are one attractor.
    """
    labels, positions = attractors(np.asarray(ends.recall.states), MERGE * scale)
    _, first = np.unique(labels, return_index=True)
    return Basins(labels, positions, ends.memory[first][labels])


class Rests:
    """Where recall has come to rest so far: queries of later blocks that end there have the same memory."""

    def __init__(self, scale: float) -> None:
        """No place yet.

        Args:
            scale: as for :func:`basins`.
        """
        self._scale = scale
        self._places: list[Float[np.ndarray, "A D"]] = []
        self._memories: list[Int[np.ndarray, " A"]] = []

    def memories(self, ends: Ends) -> Int[np.ndarray, " Q"]:
        """As :func:`basins` finds them for the first block; of later ones, those of places that are known already."""
        states = np.asarray(ends.recall.states)
        found = np.full(len(states), -1)
        if self._places:
            from scipy.spatial import KDTree  # only what needs it waits for it

            _, nearest = KDTree(np.concatenate(self._places)).query(states, distance_upper_bound=MERGE * self._scale)
            found = np.append(np.concatenate(self._memories), -1)[nearest]
        new = np.flatnonzero(found < 0)
        if new.size:
            of_new = jax.tree.map(lambda leaf: np.asarray(leaf)[new], ends)
            places = basins(of_new, self._scale)
            found[new] = places.memory
            _, first = np.unique(places.attractor, return_index=True)
            first = first[np.asarray(of_new.recall.converged)[first]]  # a state on its way is no place
            self._places.append(np.asarray(of_new.recall.states)[first])
            self._memories.append(places.memory[first])
        return found


class Plane(NamedTuple):
    """A grid of points on a plane through the data (the hemisphere, for unit vectors)."""

    origin: Float[np.ndarray, " D"]
    axis: Float[np.ndarray, "2 D"]
    x: Float[np.ndarray, " X"]
    y: Float[np.ndarray, " Y"]
    points: Float[np.ndarray, "Y X D"]
    valid: np.ndarray  # (Y, X) bool: whether the plane has a point there
    kind: str = "principal"  # of the directions: of most variance, or "discriminant": those that separate groups


def plane(
    x: Float[np.ndarray, "N D"],
    *,
    spherical: bool,
    owner: Int[np.ndarray, " N"] | None = None,
    size: int = 72,
    margin: float = 0.15,
) -> Plane:
    """A plane through the data: the one that separates their groups, or the principal plane; the data's own axes in
    one and two dimensions.

    Args:
        x: data in the units of the model.
        spherical: the data are unit vectors. The view is then orthographic, from the mean direction: the grid is the
            disc of radius one.
        owner: the group of each datum, where they have groups.
        size: points of the grid along each axis.
        margin: width of the border around the data, as a fraction of their range.
    """
    return _hemisphere(x, size) if spherical else _flat_plane(x, owner, size, margin)


def _hemisphere(x: Float[np.ndarray, "N D"], size: int) -> Plane:
    """The hemisphere around the mean direction, seen from far away."""
    num_features = x.shape[1]
    front = x.mean(axis=0)
    length = np.linalg.norm(front)
    front = front / length if length > 1e-6 else np.eye(num_features)[0]
    rest = x - np.outer(x @ front, front)
    _, _, directions = np.linalg.svd(rest, full_matrices=False)
    axis = directions[:2]
    axis = axis - np.outer(axis @ front, front)
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    grid = np.linspace(-1, 1, size)
    across, up = np.meshgrid(grid, grid)
    height = 1 - across**2 - up**2
    valid = height >= 0
    if num_features == 2:
        axis = np.stack([axis[0], np.zeros(2)])
        up = np.zeros_like(across)
        height = 1 - across**2
        valid = np.ones_like(across, bool)
    points = across[..., None] * axis[0] + up[..., None] * axis[1] + np.sqrt(np.maximum(height, 0))[..., None] * front
    points /= np.linalg.norm(points, axis=-1, keepdims=True)
    return Plane(front, axis, grid, grid, points, valid)


def _separating(x: Float[np.ndarray, "N D"], owner: Int[np.ndarray, " N"]) -> Float[np.ndarray, "2 D"] | None:
    """Two orthonormal directions along which groups lie farthest apart; None for one group.

    They span the first two discriminant directions under a diagonal covariance within groups: the principal directions
    of the means, where each feature is measured in its standard deviation within groups. Two groups have one such
    direction; the other is that of most variance at right angles to it.
    """
    every = -(-len(x) // _SEPARATED_ROWS)  # of many rows, some tell the directions
    _, group, sizes = np.unique(owner[::every], return_inverse=True, return_counts=True)
    if len(sizes) < 2:
        return None
    rows = x[::every].astype(np.float64)
    means = np.zeros((len(sizes), rows.shape[1]))
    np.add.at(means, group, rows)
    means /= sizes[:, None]
    spread = np.sqrt(((rows - means[group]) ** 2).mean(axis=0))
    spread = np.maximum(spread, _NARROW * rows.std(axis=0))
    spread = np.where(spread > 0, spread, 1)
    apart = np.sqrt(sizes / len(rows))[:, None] * (means - rows.mean(axis=0)) / spread
    _, strength, directions = np.linalg.svd(apart, full_matrices=False)
    if not strength[0] > 0:
        return None
    axis = directions[:2] / spread
    first = axis[0] / np.linalg.norm(axis[0])
    if strength[1] <= _NARROW * strength[0]:
        rest = rows - rows.mean(axis=0)
        axis = np.stack([first, np.linalg.svd(rest - np.outer(rest @ first, first), full_matrices=False)[2][0]])
    second = axis[1] - (axis[1] @ first) * first
    both = np.stack([first, second / np.linalg.norm(second)])
    largest = np.take_along_axis(both, np.abs(both).argmax(axis=1)[:, None], axis=1)
    return np.asarray(both * np.sign(largest), x.dtype)


def _flat_plane(x: Float[np.ndarray, "N D"], owner: Int[np.ndarray, " N"] | None, size: int, margin: float) -> Plane:
    """A rectangle around the data on the plane that separates groups, or on that of their largest variance."""
    num_features, kind = x.shape[1], "principal"
    origin = x.mean(axis=0) if num_features > 2 else np.zeros(num_features)
    if num_features == 1:
        axis = np.array([[1.0], [0.0]])
    elif num_features == 2:
        axis = np.eye(2)
    elif owner is not None and (separating := _separating(x, owner)) is not None:
        axis, kind = separating, "discriminant"
    else:
        _, _, directions = np.linalg.svd(x - origin, full_matrices=False)
        axis = directions[:2]
    seen = (x - origin) @ axis.T
    low, high = seen.min(axis=0), seen.max(axis=0)
    pad = margin * (high - low)
    pad = np.where(high > low, pad, pad.max())  # a picture of points on a line has a height too
    wide = np.linspace(low[0] - pad[0], high[0] + pad[0], size if num_features > 1 else 4 * size)
    tall = np.linspace(low[1] - pad[1], high[1] + pad[1], size) if num_features > 1 else np.zeros(1)
    mesh = np.stack(np.meshgrid(wide, tall), axis=-1)
    return Plane(origin, axis, wide, tall, origin + mesh @ axis, np.ones(mesh.shape[:2], bool), kind)


def bounded(
    grid: Plane,
    inside: Callable[[Array], Array] | None,
    x: Float[np.ndarray, "N D"],
    *,
    always_ends: bool = False,
) -> Plane:
    """The plane with its points brought to where the energy is defined.

    Where the data lie in the plane, points that had to be moved are no longer valid: the picture ends at the edge of
    the square or the simplex. Elsewhere the plane is a view of a higher-dimensional body, and all points stay.

    Args:
        grid: the plane.
        inside: brings points to where the energy is defined; None where it is so everywhere.
        x: data in the units of the model.
        always_ends: the picture always ends where points had to be moved.
    """
    if inside is None:
        return grid
    moved = np.asarray(inside(jnp.asarray(grid.points, x.dtype)))
    extent = float(np.ptp(x, axis=0).max()) or 1.0
    kept = np.abs(moved - grid.points).max(axis=-1) <= _EDGE * extent
    flat = grid.origin + ((x - grid.origin) @ grid.axis.T) @ grid.axis
    ends_at_edge = always_ends or np.abs(flat - x).max() <= _EDGE * extent
    return grid._replace(points=moved, valid=grid.valid & kept if ends_at_edge and kept.any() else grid.valid)
