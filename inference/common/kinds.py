r"""Starts of several kinds, so that their agreement says more than that one kind of luck repeats itself.

The first half of the starts is made afresh: at k-means++ seeds, by agglomeration into spherical Gaussian groups of
different widths, at random rows, by Ward's agglomeration; further ones are of the first and the third kind in turns.
When they have ended, the other half splits and merges memories of the best of them. All distances are in the model's
own metric (:meth:`probam.family.capabilities.DataSpace.metric`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from numpy.typing import ArrayLike

from probam.family import Model, Params
from probam.inference.common.agglomeration import (
    agglomerate,
    likelihood_cost,
    nearest_group,
    split_and_merge,
    ward_cost,
)
from probam.inference.common.coordinates import Coordinates
from probam.inference.common.start import Given, active_counts, metric_rows, starts, systematic_sample

__all__ = ["FRESH", "MOVED", "Plan", "Starts", "best_of", "plan"]

FRESH = ("k-means++", "agglomeration", "random rows", "Ward's agglomeration")
"""Kinds of starts that are made afresh, in their order."""

MOVED = "split and merge"
"""The kind of the starts that move memories of the best end of the others."""

_AGGLOMERATED = 500
"""Rows that are agglomerated, where there are not more groups than half of them."""

_MOST_AGGLOMERATED = 1000

_Ends = TypeVar("_Ends")


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

    @classmethod
    def of(
        cls, key: jax.Array, model: Model, x: Float[Array, "N D"], restarts: int, weight: np.ndarray | None = None
    ) -> "Starts":
        """For these data.

        Args:
            key: for the sample, the seeds and the moves; the starts are a function of it alone.
            model: the mixture.
            x: data in model units; NaN where an entry is missing.
            restarts: how many starts.
            weight: how often each row counts; None counts each once.
        """
        counted = None if weight is None else jnp.asarray(weight)
        rows, counted = systematic_sample(key, x, counted, model.num_components)
        y = np.asarray(metric_rows(model, rows), np.float64)
        return cls(plan(model, restarts), model, key, rows, y, counted)

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

    def searched(self, climb: Callable[[Params], _Ends], reached: Callable[[_Ends], tuple[Params, ArrayLike]]) -> _Ends:
        """The ends of all starts: first of the fresh ones, then of those that move the memories of the best.

        Args:
            climb: from site values of several starts to where they end; leaves lead with the axis of the starts.
            reached: site values and objectives of ends.
        """
        ends = climb(self.fresh())
        params, objective = reached(ends)
        if not self.plan.has_moves or not np.isfinite(np.asarray(objective)).any():
            return ends
        best = best_of(objective)
        moved, num_moves = self.moved(jax.tree.map(lambda leaf: leaf[best], params))
        return _joined(ends, climb(moved), num_moves) if num_moves else ends

    def moved(self, best: Params) -> tuple[Params, int]:
        """Site values after moves of the memories at ``best``, and how many of them there are.

        As many as :meth:`fresh` makes, so that the same program climbs from them; what there is too much repeats.
        """
        num_moves = len(self.plan.kinds) - self.plan.num_fresh
        label = np.asarray(_labels(self.model, best, self.x))
        moves = split_and_merge(self._rng(1), self.y, label, self.model.num_components, num_moves)
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
