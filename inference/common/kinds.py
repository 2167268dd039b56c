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
from jaxtyping import Array, Float, Int
from numpy.typing import ArrayLike

from probam.family import Model, Params
from probam.family.capabilities import Gradients
from probam.inference.common.agglomeration import (
    agglomerate,
    likelihood_cost,
    nearest_group,
    split_and_merge,
    ward_cost,
)
from probam.inference.common.coordinates import Coordinates
from probam.inference.common.information import log_volumes, positions
from probam.inference.common.result import Restarts
from probam.inference.common.start import Given, active_counts, metric_rows, starts, systematic_sample

__all__ = ["FRESH", "MOVED", "Plan", "Searched", "Starts", "best_of", "plan"]

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

_WEIGHED = 2048
"""Rows from which the information at an end is taken."""

_MOST_COORDINATES = 256
"""Coordinates of a memory above which its information costs too much, and ends are judged by height."""

_Ends = TypeVar("_Ends")


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
    key: jax.Array
    x: Float[Array, "M D"]
    """Rows in model units, all or a systematic sample; NaN where an entry is missing."""
    y: Float[np.ndarray, "M D"]
    """The same in the model's metric, missing entries filled."""
    weight: Float[Array, " M"] | None
    stands_for: float
    """How many rows of the data a row of the sample stands for."""
    by_mass: bool
    """Whether ends are judged by their mass."""

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
        y = np.asarray(metric_rows(model, rows), np.float64)
        by_mass = by_mass and _has_mass(model)
        return cls(plan(model, restarts), model, key, rows, y, counted, len(x) / len(rows), by_mass)

    def fresh(self) -> Params:
        """Site values of the starts that are made afresh; leaves lead with their axis."""
        kinds, active = self.plan.kinds[: self.plan.num_fresh], self.plan.num_active
        label = [self._agglomerated(kind, count) for kind, count in zip(kinds, active, strict=True)]
        given = Given(
            jnp.asarray(np.stack([np.zeros(len(self.y), np.int32) if own is None else own for own in label])),
            jnp.asarray([own is not None for own in label]),
        )
        at_random = jnp.asarray([kind == "random rows" for kind in kinds])
        return self._made(given, at_random, active)

    def searched(
        self, climb: Callable[[Params], _Ends], reached: Callable[[_Ends], tuple[Params, ArrayLike]]
    ) -> Searched[_Ends]:
        """The ends of all starts: first of the fresh ones, then of those that move the memories of the best.

        Args:
            climb: from site values of several starts to where they end; leaves lead with the axis of the starts.
            reached: site values and objectives of ends.
        """
        ends = climb(self.fresh())
        worth = self._worth(*reached(ends))
        rounds = [0] * len(worth)
        for number in range(1, 1 + self._num_rounds):
            best = best_of(worth)
            if not np.isfinite(worth[best]):
                break
            moved, num_moves = self.moved(jax.tree.map(lambda leaf, best=best: leaf[best], reached(ends)[0]), number)
            if not num_moves:
                break
            after = climb(moved)
            worth = np.concatenate([worth, self._worth(*reached(after))[:num_moves]])
            rounds += [number] * num_moves
            ends = _joined(ends, after, num_moves)
            if not worth[best_of(worth)] > worth[best] + _RISE:
                break
        kinds = (*self.plan.kinds[: self.plan.num_fresh], *[MOVED] * (len(rounds) - self.plan.num_fresh))
        return Searched(ends, worth, Restarts(kinds, tuple(rounds), worth if self.by_mass else None))

    @property
    def _num_rounds(self) -> int:
        if not self.plan.has_moves:
            return 0
        return _ROUNDS if self.by_mass else 1

    def _worth(self, params: Params, objective: ArrayLike) -> Float[np.ndarray, " R"]:
        """By what ends are compared: how high they are, or how much mass they have."""
        height = np.asarray(objective, np.float64)
        if not self.by_mass:
            return height
        chosen = self._rng(2).permutation(len(self.x))[:_WEIGHED]
        share = jnp.full(len(chosen), self.stands_for * len(self.x) / len(chosen), self.x.dtype)
        weight = share if self.weight is None else share * self.weight[chosen]
        volumes = log_volumes(self.model.with_row_weight(weight), params, self.x[chosen])
        return height + np.asarray(volumes, np.float64)

    def moved(self, best: Params, number: int = 1) -> tuple[Params, int]:
        """Site values after moves of the memories at ``best``, and how many of them there are.

        As many as :meth:`fresh` makes, so that the same program climbs from them; what there is too much repeats.
        ``number`` is that of the round.
        """
        num_moves = len(self.plan.kinds) - self.plan.num_fresh
        label = np.asarray(_labels(self.model, best, self.x))
        rng = self._rng(1 if number == 1 else 1 + number)
        moves = split_and_merge(rng, self.y, label, self.model.num_components, num_moves)
        every = np.resize(np.stack([*moves, label]), (self.plan.num_fresh, len(label)))
        given = Given(jnp.asarray(every, jnp.int32), jnp.ones(len(every), bool))
        return self._made(given, jnp.zeros(len(every), bool), [self.model.num_components] * len(every)), len(moves)

    def _made(self, given: Given, at_random: jax.Array, active: Any) -> Params:
        keys = jax.random.split(self.key, len(at_random))
        return starts(keys, self.model, self.x, jnp.asarray(active), self.weight, given, at_random)

    def _rng(self, number: int) -> np.random.Generator:
        return np.random.default_rng(np.asarray(jax.random.key_data(jax.random.fold_in(self.key, number))))

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
        return label.astype(np.int32)


def _has_mass(model: Model) -> bool:
    """Whether ends of this model are judged by their mass: under stick-breaking, where their information is at hand."""
    coordinates = Coordinates(model)
    affordable = positions(coordinates)[0].shape[1] <= _MOST_COORDINATES
    return "sticks" in coordinates.transforms and affordable and bool(Gradients.ask(model.family))


@jax.jit
def _labels(model: Model, params: Params, x: Float[Array, "M D"]) -> Int[Array, " M"]:
    """The memory of largest responsibility of each row."""
    return jnp.argmax(model.mixture(params).log_joint(x), axis=-1)


def best_of(objective: Any) -> int:
    """The run of the largest finite objective."""
    values = np.asarray(objective)
    return int(np.argmax(np.where(np.isfinite(values), values, -np.inf)))


def _joined(first: _Ends, second: _Ends, keep: int) -> _Ends:
    """Ends of several runs and those of ``keep`` others, leaves leading with the axis of the runs.

    Traces, whose second axis differs, are filled up with NaN.
    """

    def both(one: Any, other: Any) -> Any:
        joined: Any = jnp if isinstance(one, jax.Array) else np
        one, other = np.asarray(one), np.asarray(other)[:keep]
        if one.ndim > 1 and one.shape[2:] == other.shape[2:] and one.shape[1] != other.shape[1]:
            length = max(one.shape[1], other.shape[1])
            one, other = (
                np.pad(trace, ((0, 0), (0, length - trace.shape[1])), constant_values=np.nan) for trace in (one, other)
            )
        return joined.asarray(np.concatenate([one, other]))

    return jax.tree.map(both, first, second)
