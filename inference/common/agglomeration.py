r"""Hierarchical agglomeration of rows, and moves that split and merge groups: starts that do not depend on luck.

Every row begins as a group of its own, and the two groups whose union costs least are joined until few are left. With
:math:`n_k` rows and scatter :math:`T_k = \sum_{n \in k} |y_n - \bar y_k|^2` of group k in D dimensions the cost is

.. math::
    \sum_k n_k \log\Big(\frac{T_k}{n_k D} + v\Big) \quad\text{(likelihood)}, \qquad \sum_k T_k \quad\text{(Ward)}.

The first is minus twice the log likelihood, over D, of spherical Gaussian groups that differ in width: it finds tight
groups inside wide ones, where distances alone do not. v is the scale of squared distances between neighbours, and keeps
single rows from a width of zero. Rows are in the metric of the model, so that "spherical" means: shaped as a memory is
guessed to be. Sources: Fraley (1998, doi:10.1137/S1064827596311451); Ward (1963).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

__all__ = ["MANY", "agglomerate", "likelihood_cost", "nearest_group", "settled", "split_and_merge", "ward_cost"]

Cost = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Cost of groups, from their numbers of rows and their scatters."""


def likelihood_cost(y: Float[np.ndarray, "N D"]) -> Cost:
    """Minus twice the log likelihood over D of spherical groups of different widths, for rows like these."""
    num_rows, num_features = y.shape
    neighbours = float(y.var(axis=0).mean()) * num_rows ** (-2 / num_features) or 1.0
    return lambda count, scatter: count * np.log(scatter / (count * num_features) + neighbours)


def ward_cost(y: Float[np.ndarray, "N D"]) -> Cost:
    """The scatter itself: groups of one width."""
    del y
    return lambda _, scatter: scatter


@dataclass
class _Groups:
    """Groups of rows as counts, means and scatters; N of them, of which some may be gone (count 0)."""

    count: Float[np.ndarray, " N"]
    mean: Float[np.ndarray, "N D"]
    scatter: Float[np.ndarray, " N"]

    @classmethod
    def of(cls, y: Float[np.ndarray, "N D"], label: Int[np.ndarray, " N"]) -> "_Groups":
        """Groups numbered 0, 1, ... without a gap."""
        count = np.bincount(label).astype(float)
        mean = np.stack([y[label == group].mean(axis=0) for group in range(len(count))])
        return cls(count, mean, np.bincount(label, np.sum((y - mean[label]) ** 2, axis=1)))

    def united(self, one: int) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, " N"]]:
        """Count and scatter of the union of one group with each."""
        count = self.count[one] + self.count
        apart = np.sum((self.mean - self.mean[one]) ** 2, axis=1)
        between = self.count[one] * self.count / np.maximum(count, np.finfo(count.dtype).tiny)
        return count, self.scatter[one] + self.scatter + between * apart

    def rise(self, one: int, cost: Cost) -> Float[np.ndarray, " N"]:
        """How much dearer the union of one group with each is than the two alone; infinite for itself and none."""
        count, scatter = self.united(one)
        there = self.count > 0
        there[one] = False
        safe = np.where(there, self.count, 1.0)
        own = cost(self.count[one : one + 1], self.scatter[one : one + 1])[0]
        rise = cost(np.where(there, count, 1.0), scatter) - cost(safe, self.scatter) - own
        return np.where(there, rise, np.inf)

    def join(self, one: int, other: int) -> None:
        """Put the rows of ``other`` into ``one``."""
        count, scatter = self.united(one)
        self.mean[one] += (self.mean[other] - self.mean[one]) * (self.count[other] / count[other])
        self.count[one], self.scatter[one] = count[other], scatter[other]
        self.count[other] = 0


def agglomerate(
    y: Float[np.ndarray, "N D"], num_groups: int, cost: Cost, weight: Float[np.ndarray, " N"] | None = None
) -> Int[np.ndarray, " N"]:
    """Labels 0 to ``num_groups - 1`` of the groups that are left when the cheapest unions have been made.

    The table of unions has N x N entries, and one row of it is renewed N times.

    Args:
        y: rows in the metric of the model.
        num_groups: how many groups to leave, at most N.
        cost: :func:`likelihood_cost` or :func:`ward_cost` of these rows.
        weight: how often each row counts; None counts each once.
    """
    num_rows = len(y)
    count = np.ones(num_rows) if weight is None else np.asarray(weight, np.float64).copy()
    groups = _Groups(count, np.asarray(y, np.float64).copy(), np.zeros(num_rows))
    label = np.arange(num_rows)
    rises = np.stack([groups.rise(row, cost) for row in range(num_rows)])
    for _ in range(num_rows - num_groups):
        one, other = sorted(divmod(int(rises.argmin()), num_rows))
        groups.join(one, other)
        label[label == other] = one
        rises[one] = rises[:, one] = groups.rise(one, cost)
        rises[other] = rises[:, other] = np.inf
    return np.unique(label, return_inverse=True)[1]


def split_and_merge(
    rng: np.random.Generator, y: Float[np.ndarray, "N D"], label: Int[np.ndarray, " N"], num_groups: int, num_moves: int
) -> list[Int[np.ndarray, " N"]]:
    """Labels after each of several moves: two groups are joined, and another is divided between the two numbers.

    Of all moves those are taken after which the rows are likeliest, as spherical Gaussian groups of their own widths
    and shares. A group is divided by agglomeration or at two of its rows. Where a number is free, a move may also join
    or divide alone; likelihoods of different numbers of groups are compared as BIC does. Source: Ueda, Nakano,
    Ghahramani & Hinton (2000, doi:10.1162/089976600300015088). Of many groups one after the other would take too long:
    the first labels are those after all moves that make the rows likelier, the next after half of them, and so on, and
    those after single moves follow.

    Args:
        rng: draws the rows at which groups are divided.
        y: rows in the metric of the model.
        label: group of each row.
        num_groups: how many numbers there are for groups; some may have no row.
        num_moves: how many at most; there are fewer where there are not so many moves.
    """
    used, position = np.unique(label, return_inverse=True)
    changed, fewest = [], 1
    if len(used) >= MANY:
        changed, fewest = _many_moves(rng, y, label, num_groups, num_moves), 2
        used, position = _without_lone_rows(y, position, used)
    free = np.setdiff1d(np.arange(num_groups), used)[:1]
    if len(changed) >= num_moves:
        return changed
    names = np.append(used, free)
    joined, divided = _joined(y, position), _divided(rng, y, position, fewest)
    moves: list[tuple[_Joined | None, _Divided | None]]
    moves = [(join, part) for join in joined for part in divided if part.group not in join.pair]
    if free.size:
        moves += [(None, part) for part in divided] + [(join, None) for join in joined]
    elif len(used) == 2:
        moves = [(joined[0], part) for part in _divided(rng, y, np.zeros_like(position))]
    price = _price(y)
    moves.sort(key=lambda move: (move[0].loss - price if move[0] else 0) + (move[1].loss + price if move[1] else 0))
    for join, part in moves[: num_moves - len(changed)]:
        after = position.copy()
        if join is not None:
            after[after == join.pair[1]] = join.pair[0]
        if part is not None:
            after[part.rows] = len(used) if join is None else join.pair[1]
        changed.append(names[after])
    return changed


def _price(y: Float[np.ndarray, "N D"]) -> float:
    """Of a group, as BIC counts its mean, width and share."""
    return float(0.5 * (y.shape[1] + 2) * np.log(len(y)))


def settled(
    rng: np.random.Generator, y: Float[np.ndarray, "N D"], label: Int[np.ndarray, " N"], num_groups: int
) -> Int[np.ndarray, " N"]:
    """Labels of many groups after all moves that make the rows likelier; those of few as they are.

    Args:
        rng: draws the rows at which groups are divided.
        y: rows in the metric of the model.
        label: group of each row.
        num_groups: how many numbers there are for groups; some may have no row.
    """
    if len(np.unique(label)) < MANY:
        return label
    return _many_moves(rng, y, label, num_groups, 1)[0]


def _many_moves(
    rng: np.random.Generator,
    y: Float[np.ndarray, "N D"],
    label: Int[np.ndarray, " N"],
    num_groups: int,
    num_labels: int,
) -> list[Int[np.ndarray, " N"]]:
    """Labels after all moves that make the rows likelier, the best divisions first, after half of them, a quarter, ...

    A part of a group that was divided may be divided again, and a group may take in several.
    """
    cost, (given, position) = _classification_cost(y), np.unique(label, return_inverse=True)
    used, label = _without_lone_rows(y, position, given)
    free = np.setdiff1d(np.arange(num_groups), given)
    names = np.concatenate([used, np.setdiff1d(given, used), free])
    num_lone = len(given) - len(used)
    numbers = _Numbers(_joined(y, label, len(names) ** 2), np.bincount(label), num_lone, len(names), _price(y))
    parts = [part for group in range(len(numbers.count)) if (part := _halved(rng, y, label, group, cost))]
    labels = [label]
    while parts:
        part = min(parts, key=lambda part: part.loss)
        join, price = numbers.next_for(part.group)
        if price + part.loss >= 0:
            break
        label = label.copy()
        label[label == join.pair[1]] = join.pair[0]
        label[part.rows] = join.pair[1]
        labels.append(label)
        numbers.take(part.group, join)
        parts = [other for other in parts if other.group not in (part.group, *join.pair)]
        parts += [half for group in (part.group, join.pair[1]) if (half := _halved(rng, y, label, group, cost))]
    num_moves = len(labels) - 1
    lengths = [num_moves >> i for i in range(num_labels) if num_moves >> i] or [0]
    return [names[labels[length]] for length in lengths]


def _without_lone_rows(
    y: Float[np.ndarray, "N D"], label: Int[np.ndarray, " N"], names: Int[np.ndarray, " K"]
) -> tuple[Int[np.ndarray, " K2"], Int[np.ndarray, " N"]]:
    """Names and labels, without a gap, after each group of one row has gone to the nearest other one.

    A memory at a single row explains that row far too well, and no other.
    """
    groups = _Groups.of(y, label)
    others = np.flatnonzero(groups.count > 1)
    if not others.size:
        return names, label
    after = label.copy()
    for row in np.flatnonzero(groups.count[label] == 1):
        after[row] = others[np.argmin(np.sum((groups.mean[others] - y[row]) ** 2, axis=1))]
    return names[others], np.searchsorted(others, after)


class _Joined(NamedTuple):
    """Two groups that become one."""

    pair: tuple[int, int]
    loss: float  # of log likelihood, nats


class _Divided(NamedTuple):
    """A group of which some rows leave."""

    group: int
    rows: Int[np.ndarray, " M"]
    loss: float  # of log likelihood, nats; negative where it rises


class _Numbers:
    """Which number a part of a group may have: that of a group that joins another, or a free one.

    Args:
        joins: pairs of groups, those of least loss first.
        count: rows of each group.
        num_lone: how many numbers after those of the groups cost nothing.
        num_names: how many numbers there are.
        price: of each number after these.
    """

    def __init__(self, joins: list[_Joined], count: Int[np.ndarray, " K"], num_lone: int, num_names: int, price: float):
        self.count = count
        self._joins, self._price = joins, price
        self._free = list(range(len(count), num_names))
        self._num_lone = num_lone
        self._gone, self._larger, self._divided = set[int](), set[int](), set[int]()

    def next_for(self, group: int) -> tuple[_Joined, float]:
        """The cheapest number for a part of this group, second in the pair whose groups are joined for it; its price.

        A free number is a pair with itself; where there is no number, the price is infinite.
        """
        if self._free:
            return _Joined((self._free[0], self._free[0]), 0.0), 0.0 if self._num_lone > 0 else self._price
        for join in self._joins:
            into, number = sorted(join.pair, key=lambda one: -self.count[one])
            taken = self._gone | self._divided | {group}
            if into not in taken and number not in taken | self._larger:
                return _Joined((into, number), join.loss), join.loss
        return _Joined((group, group), 0.0), np.inf

    def take(self, group: int, join: _Joined) -> None:
        """Part of this group has the number that was found for it."""
        into, number = join.pair
        self._divided |= {group, number}
        if self._free:
            self._free, self._num_lone = self._free[1:], self._num_lone - 1
        else:
            self._larger |= {into}
            self._gone |= {number}


MANY = 32
"""Groups from which on several are moved at once."""

_HALVINGS = 5
"""Steps by which a group of many is divided."""

_TRIED = 8
"""Most pairs, and most groups, from which moves are made."""

_DIVIDED = 200
"""Most rows by which a group is divided."""


def _joined(y: Float[np.ndarray, "N D"], label: Int[np.ndarray, " N"], most: int = _TRIED) -> list[_Joined]:
    """The pairs of groups that are joined at least loss."""
    groups = _Groups.of(y, label)
    cost = _classification_cost(y)
    rises = np.stack([groups.rise(one, cost) for one in range(len(groups.count))])
    pairs = zip(*np.triu_indices(len(rises), 1), strict=True)
    every = [_Joined((int(one), int(other)), float(rises[one, other])) for one, other in pairs]
    return sorted(every, key=lambda join: join.loss)[:most]


def _divided(
    rng: np.random.Generator, y: Float[np.ndarray, "N D"], label: Int[np.ndarray, " N"], fewest: int = 1
) -> list[_Divided]:
    """The groups that lie widest for their number of rows, each divided in two ways, of ``fewest`` rows at least."""
    groups = _Groups.of(y, label)
    cost = _classification_cost(y)
    widest = np.argsort(-groups.scatter, kind="stable")[:_TRIED]
    parts = []
    for group in (int(group) for group in widest if groups.count[group] > 1):
        own = np.flatnonzero(label == group)
        for second in (_by_agglomeration(rng, y[own]), _at_rows(rng, y[own])):
            if fewest <= second.sum() <= own.size - fewest:
                halves = _Groups.of(y[own], second.astype(int))
                loss = np.sum(cost(halves.count, halves.scatter)) - cost(groups.count, groups.scatter)[group]
                parts.append(_Divided(group, own[second], float(loss)))
    return parts


def _halved(
    rng: np.random.Generator, y: Float[np.ndarray, "N D"], label: Int[np.ndarray, " N"], group: int, cost: Cost
) -> _Divided | None:
    """A group divided by two means; None where it is not."""
    own = np.flatnonzero(label == group)
    rows = y[own]
    if own.size < 4:
        return None
    square = np.sum((rows - rows[rng.integers(own.size)]) ** 2, axis=1)
    if not square.any():
        return None
    second = _at(rows, rows[square.argmin()], rows[rng.choice(own.size, p=square / square.sum())])
    for _ in range(_HALVINGS):
        if not 0 < second.sum() < own.size:
            return None
        second = _at(rows, rows[~second].mean(axis=0), rows[second].mean(axis=0))
    if not 1 < second.sum() < own.size - 1:
        return None
    whole, halves = _Groups.of(rows, np.zeros(own.size, int)), _Groups.of(rows, second.astype(int))
    loss = np.sum(cost(halves.count, halves.scatter)) - np.sum(cost(whole.count, whole.scatter))
    return _Divided(group, own[second], float(loss))


def _at(
    y: Float[np.ndarray, "N D"], one: Float[np.ndarray, " D"], other: Float[np.ndarray, " D"]
) -> Bool[np.ndarray, " N"]:
    """The rows that are nearer to the other of two points."""
    return np.asarray(y @ (other - one) > 0.5 * (other @ other - one @ one))


def _classification_cost(y: Float[np.ndarray, "N D"]) -> Cost:
    """Minus the log likelihood, nats, of rows that belong to spherical groups of their own widths and shares."""
    half, shape = likelihood_cost(y), y.shape
    return lambda count, scatter: 0.5 * shape[1] * half(count, scatter) - count * np.log(count / shape[0])


def _at_rows(rng: np.random.Generator, y: Float[np.ndarray, "N D"]) -> Bool[np.ndarray, " N"]:
    """The rows that are nearer to the second of two random ones."""
    first, second = y[rng.choice(len(y), 2, replace=False)]
    return np.asarray(np.sum((y - second) ** 2, axis=1) < np.sum((y - first) ** 2, axis=1))


def _by_agglomeration(rng: np.random.Generator, y: Float[np.ndarray, "N D"]) -> Bool[np.ndarray, " N"]:
    """The rows of the second of the two groups that agglomeration leaves (of a sample, where there are many rows)."""
    some = y if len(y) <= _DIVIDED else y[rng.choice(len(y), _DIVIDED, replace=False)]
    return nearest_group(y, some, agglomerate(some, 2, likelihood_cost(some)), 2) == 1


def nearest_group(
    y: Float[np.ndarray, "N D"], known: Float[np.ndarray, "M D"], label: Int[np.ndarray, " M"], num_groups: int
) -> Int[np.ndarray, " N"]:
    """The group of each row under spherical groups with the means and widths of rows whose groups are known."""
    floor = np.exp(likelihood_cost(known)(np.ones(1), np.zeros(1)))[0]
    scores = []
    for group in range(num_groups):
        own = known[label == group]
        width = own.var(axis=0).mean() + floor
        scores.append(np.sum((y - own.mean(axis=0)) ** 2, axis=1) / width + y.shape[1] * np.log(width))
    return np.argmin(scores, axis=0)
