r"""Starts of several kinds, so that their agreement says more than that one kind of luck repeats itself.

The first half of the starts is made afresh: at k-means++ seeds, by agglomeration into spherical Gaussian groups of
different widths, at random rows, by Ward's agglomeration; further ones are of the first and the third kind in turns.
When they have ended, the other half splits and merges memories of the best of them. All distances are in the model's
own metric (:meth:`probam.family.capabilities.DataSpace.metric`).

Under stick-breaking the best end is the one with the largest mass (:mod:`probam.inference.common.information`), not the
highest: nothing in the height of a mode speaks against one more memory, so that the highest explains each group by
several. The moves then go on as long as they find more mass.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from numpy.typing import ArrayLike

from probam.compiled import compiled_by_size, compiled_quickly, is_small
from probam.family import Model, Params
from probam.family.capabilities import Gradients
from probam.inference.common.agglomeration import (
    MANY,
    agglomerate,
    likelihood_cost,
    nearest_group,
    settled,
    split_and_merge,
    ward_cost,
)
from probam.inference.common.coordinates import Coordinates
from probam.inference.common.information import log_volumes, positions
from probam.inference.common.progress import Reporter, silent
from probam.inference.common.result import Restarts
from probam.inference.common.rows import filled
from probam.inference.common.start import Given, active_counts, metric_rows, starts, systematic_sample

__all__ = ["FRESH", "MOVED", "Plan", "Searched", "Starts", "as_runs", "best_of", "plan", "run_of"]

FRESH = ("k-means++", "agglomeration", "random rows", "Ward's agglomeration")
"""Kinds of starts that are made afresh, in their order."""

MOVED = "split and merge"
"""The kind of the starts that move memories of the best end of the others."""

_AGGLOMERATED = 500
"""Rows that are agglomerated, where there are not more groups than half of them."""

_MOST_AGGLOMERATED = 1000

_ROUNDS = 8
"""Most rounds of moves where ends are judged by their mass."""

_RISE = 0.1
"""Nats of mass for which one more round is worth it."""

_RISE_OF_A_ROW = 0.01
"""Nats of height for each row for which one more round is worth it, where many groups are moved."""

_WEIGHED = 2048
"""Rows from which the information at an end is taken."""

_MOST_COORDINATES = 256
"""Coordinates of a memory above which its information costs too much, and ends are judged by height."""

_Ends = TypeVar("_Ends")
_Tree = TypeVar("_Tree")


@dataclass(frozen=True, eq=False)
class Searched(Generic[_Ends]):
    """What a search came to."""

    ends: _Ends
    """Of all runs; leaves lead with their axis."""
    worth: Float[np.ndarray, " R"]
    """By what ends are compared, nats: the height of each, or its mass."""
    restarts: Restarts
    """How each run began."""

    @property
    def best(self) -> int:
        """The number of the best end."""
        return best_of(self.worth)


class Plan(NamedTuple):
    """Which starts there are, in their order."""

    kinds: tuple[str, ...]
    """Of all of them."""
    num_active: tuple[int, ...]
    """How many memories own data in each fresh one."""

    @property
    def num_fresh(self) -> int:
        """How many are made afresh."""
        return len(self.num_active)

    @property
    def has_moves(self) -> bool:
        """Whether some starts move the best end."""
        return len(self.kinds) > self.num_fresh


def plan(model: Model, restarts: int) -> Plan:
    """The kinds of the starts; one or two are all made afresh.

    Under stick-breaking the fresh ones begin from different numbers of memories.
    """
    num_moves = restarts // 2 if restarts > 2 else 0
    fresh = restarts - num_moves
    kinds = [FRESH[i] if i < len(FRESH) else FRESH[i % 2 * 2] for i in range(fresh)]
    nonparametric = "sticks" in Coordinates(model).transforms
    active = active_counts(model.num_components, fresh + (fresh > 1), nonparametric=nonparametric)[:fresh]
    return Plan((*kinds, *[MOVED] * num_moves), tuple(int(count) for count in active))


@dataclass(frozen=True, eq=False)
class Starts:
    """Makes the starts of one search."""

    plan: Plan
    model: Model
    x: Float[Array, "F D"]
    """Rows in model units, all or a systematic sample; NaN where an entry is missing. Few are :func:`filled` up."""
    points: Float[Array, "F D"]
    """The same in the model's metric, missing entries filled."""
    y: Float[np.ndarray, "M D"]
    """The same in double precision, and no more than there are."""
    weight: Float[Array, " F"] | None
    stands_for: float
    """How many rows of the data a row of the sample stands for."""
    by_mass: bool
    """Whether ends are judged by their mass."""
    keys: "_Keys"
    """Of the fresh starts and of what is drawn for them."""

    @classmethod
    def of(
        cls,
        key: jax.Array,
        model: Model,
        x: Float[Array, "N D"],
        restarts: int,
        weight: np.ndarray | None = None,
        *,
        by_mass: bool = True,
    ) -> "Starts":
        """For these data.

        Args:
            key: for the sample, the seeds and the moves; the starts are a function of it alone.
            model: the mixture.
            x: data in model units; NaN where an entry is missing.
            restarts: how many starts.
            weight: how often each row counts; None counts each once.
            by_mass: whether ends may be judged by their mass; they are where the model has stick-breaking weights.
        """
        counted = None if weight is None else jnp.asarray(weight)
        rows, counted = systematic_sample(key, x, counted, model.num_components)
        num_rows, points = len(rows), metric_rows(model, rows)
        y = np.asarray(points, np.float64)
        if is_small(rows, model.num_components):  # programs then serve nearby numbers of rows
            more, often = filled(np.asarray(rows), None if counted is None else np.asarray(counted))
            points, rows, counted = jax.device_put((filled(np.asarray(points), None)[0], more, often))
        by_mass, its_plan = by_mass and _has_mass(model), plan(model, restarts)
        keys = _keys(key, num_starts=its_plan.num_fresh)
        return cls(its_plan, model, rows, points, y, counted, len(x) / num_rows, by_mass, keys)

    def fresh(self) -> Params:
        """Site values of the starts that are made afresh; leaves lead with their axis."""
        kinds, active = self.plan.kinds[: self.plan.num_fresh], self.plan.num_active
        label = [self._agglomerated(kind, count) for kind, count in zip(kinds, active, strict=True)]
        given = np.stack([np.zeros(len(self.y), np.int32) if own is None else own for own in label])
        taken = np.array([own is not None for own in label])
        return self._made(given, taken, np.array([kind == "random rows" for kind in kinds]), np.array(active))

    def searched(
        self,
        climb: Callable[[Params], _Ends],
        reached: Callable[[_Ends], tuple[Params, ArrayLike]],
        progress: Reporter = silent,
    ) -> Searched[_Ends]:
        """The ends of all starts: first of the fresh ones, then of those that move the memories of the best.

        Args:
            climb: from site values of several starts to where they end; leaves lead with the axis of the starts.
            reached: site values and objectives of ends.
            progress: to whom ``climb`` reports; once stopped, no further starts are made.
        """
        ends = climb(self.fresh())
        worth = self._worth(*reached(ends))
        rounds = [0] * len(worth)
        for number in range(1, 1 + self._num_rounds):
            best = best_of(worth)
            if progress.stopped or not np.isfinite(worth[best]):
                break
            moved, num_moves = self.moved(run_of(reached(ends)[0], best), number)
            if not num_moves:
                break
            after = climb(moved)
            worth = np.concatenate([worth, self._worth(*reached(after))[:num_moves]])
            rounds += [number] * num_moves
            ends = _joined(ends, after, num_moves)
            if not worth[best_of(worth)] > worth[best] + (_RISE if self.by_mass else _RISE_OF_A_ROW * len(self.y)):
                break
        kinds = (*self.plan.kinds[: self.plan.num_fresh], *[MOVED] * (len(rounds) - self.plan.num_fresh))
        return Searched(ends, worth, Restarts(kinds, tuple(rounds), worth if self.by_mass else None))

    @property
    def _num_rounds(self) -> int:
        if not self.plan.has_moves:
            return 0
        return _ROUNDS if self.by_mass or self.model.num_components >= MANY else 1

    def _worth(self, params: Params, objective: ArrayLike) -> Float[np.ndarray, " R"]:
        """By what ends are compared: how high they are, or how much mass they have."""
        height = np.asarray(objective, np.float64)
        if not self.by_mass:
            return height
        chosen = self._rng(2).permutation(len(self.y))[:_WEIGHED]
        weight = np.full(len(chosen), self.stands_for * len(self.y) / len(chosen), self.x.dtype)
        if self.weight is not None:
            weight = weight * np.asarray(self.weight)[chosen]
        rows, weight = jax.device_put(filled(np.asarray(self.x)[chosen], weight))
        volumes = log_volumes(self.model.with_row_weight(weight), params, rows)
        return height + np.asarray(volumes, np.float64)

    def moved(self, best: Params, number: int = 1) -> tuple[Params, int]:
        """Site values after moves of the memories at ``best``, and how many of them there are.

        As many as :meth:`fresh` makes, so that the same program climbs from them; what there is too much repeats.
        ``number`` is that of the round.
        """
        num_moves = len(self.plan.kinds) - self.plan.num_fresh
        label = np.asarray(_labels(self.model, best, self.x))[: len(self.y)]
        rng = self._rng(1 if number == 1 else 1 + number)
        moves = split_and_merge(rng, self.y, label, self.model.num_components, num_moves)
        every = np.resize(np.stack([*moves, label]), (self.plan.num_fresh, len(label)))
        all_of_them = np.ones(len(every), bool)
        active = np.full(len(every), self.model.num_components)
        return self._made(every.astype(np.int32), all_of_them, ~all_of_them, active), len(moves)

    def _made(
        self,
        label: Int[np.ndarray, "R M"],
        taken: Bool[np.ndarray, " R"],
        at_random: Bool[np.ndarray, " R"],
        active: Int[np.ndarray, " R"],
    ) -> Params:
        lacking = len(self.x) - label.shape[1]  # copies of the first row
        label = np.concatenate([label, np.repeat(label[:, :1], lacking, axis=1)], axis=1)
        given = Given(jax.device_put(label), jax.device_put(taken))
        counts, by_chance = jax.device_put(active), jax.device_put(at_random)
        return starts(self.keys.of_starts, self.model, self.x, self.points, counts, self.weight, given, by_chance)

    def _rng(self, number: int) -> np.random.Generator:
        return np.random.default_rng(np.asarray(self.keys.seeds)[number])

    def _agglomerated(self, kind: str, num_groups: int) -> Int[np.ndarray, " M"] | None:
        """The group of every row by agglomeration of some rows; None for a kind that starts from seeds."""
        if kind not in (FRESH[1], FRESH[3]):
            return None
        num_rows = min(len(self.y), max(_AGGLOMERATED, min(2 * num_groups, _MOST_AGGLOMERATED)))
        chosen = np.sort(self._rng(0).permutation(len(self.y))[:num_rows])
        some, weight = self.y[chosen], None if self.weight is None else np.asarray(self.weight)[chosen]
        cost = likelihood_cost(some) if kind == FRESH[1] else ward_cost(some)
        num_groups = min(num_groups, num_rows)
        label = agglomerate(some, num_groups, cost, weight)
        if num_rows < len(self.y):
            label = nearest_group(self.y, some, label, num_groups)
        return settled(self._rng(0), self.y, label, num_groups).astype(np.int32)


def _has_mass(model: Model) -> bool:
    """Whether ends of this model are judged by their mass: under stick-breaking, where their information is at hand."""
    coordinates = Coordinates(model)
    affordable = positions(coordinates)[0].shape[1] <= _MOST_COORDINATES
    return "sticks" in coordinates.transforms and affordable and bool(Gradients.ask(model.family))


class _Keys(NamedTuple):
    """What is drawn with the key of a search."""

    of_starts: jax.Array
    seeds: jax.Array
    """Of the generators of what is not drawn in a compiled program: of the rows that are agglomerated, of moves."""


@compiled_quickly(static_argnames="num_starts")
def _keys(key: jax.Array, *, num_starts: int) -> _Keys:
    seeds = jax.vmap(lambda number: jax.random.key_data(jax.random.fold_in(key, number)))(jnp.arange(2 + _ROUNDS))
    return _Keys(jax.random.split(key, num_starts), seeds)


@compiled_by_size(lambda model, _, x: is_small(x, model.num_components))
def _labels(model: Model, params: Params, x: Float[Array, "M D"]) -> Int[Array, " M"]:
    """The memory of largest responsibility of each row."""
    return jnp.argmax(model.mixture(params).log_joint(x), axis=-1)


def best_of(objective: Any) -> int:
    """The run of the largest finite objective."""
    values = np.asarray(objective)
    return int(np.argmax(np.where(np.isfinite(values), values, -np.inf)))


def run_of(runs: _Tree, run: int | Int[np.ndarray, "*R"]) -> _Tree:
    """One or some of several runs (leaves lead with their axis), taken on the host: a slice would be a program."""
    taken: _Tree = jax.tree.map(lambda leaf: jax.device_put(np.asarray(leaf)[run]), runs)
    return taken


def as_runs(run: _Tree) -> _Tree:
    """The only one of several runs, made on the host for the same reason."""
    runs: _Tree = jax.tree.map(lambda leaf: jax.device_put(np.asarray(leaf)[None]), run)
    return runs


def _joined(first: _Ends, second: _Ends, keep: int) -> _Ends:
    """Ends of several runs and those of ``keep`` others, leaves leading with the axis of the runs.

    Traces, whose second axis differs, are filled up with NaN.
    """

    def both(one: Any, other: Any) -> Any:
        on_device = isinstance(one, jax.Array)
        one, other = np.asarray(one), np.asarray(other)[:keep]
        if one.ndim > 1 and one.shape[2:] == other.shape[2:] and one.shape[1] != other.shape[1]:
            length = max(one.shape[1], other.shape[1])
            one, other = (
                np.pad(trace, ((0, 0), (0, length - trace.shape[1])), constant_values=np.nan) for trace in (one, other)
            )
        joined = np.concatenate([one, other])
        return jax.device_put(joined) if on_device else joined

    return jax.tree.map(both, first, second)
