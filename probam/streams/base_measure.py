r"""The base measure of a stream, found from its first rows (empirical Bayes).

One greedy pass needs to know how wide a memory is: under a vague prior the first memory widens until it holds every
group. So the first rows are divided into groups of one width (:mod:`probam.streams.groups`), which becomes the prior
guess of the width of a memory. The first rows join the memories of their groups, and the pass goes on from there:
groups that come later are found under the same base measure. Nothing depends on a number of groups that is known, and
for Gaussians nothing on the units of the features.

How much the memories differ in width follows from the same groups: of the shapes of the prior of a width the one with
the largest marginal likelihood.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from numpyro.distributions import Distribution
from scipy.spatial import cKDTree
from threadpoolctl import threadpool_limits

from probam.compiled import compiled_quickly
from probam.conjugacy.pairs import ConjugatePair
from probam.errors import InputError
from probam.family import Family
from probam.inference.common.rows import filled
from probam.streams.groups import Groups, find_groups, joined
from probam.streams.options import StreamOptions
from probam.streams.prior import stream_pair
from probam.streams.widths import Sharing, Width, room_for, width_of

__all__ = ["BaseMeasure", "Beginning", "find_beginning", "with_base_measure"]

_MOST_ROWS = 1000
"""Rows that are divided into groups: of more, as many evenly spaced ones."""
_FEWEST_ROWS = 10
_ROUNDS = 3
"""Most often that groups are joined under the base measure that was found with them."""
_SHAPES = (2.0, 4.0, 8.0, 16.0, 32.0)


class BaseMeasure(NamedTuple):
    """The prior of the width of a memory."""

    within: np.ndarray
    """Prior guess, in model units: of Gaussians the covariance (D, D), of directions the concentration ()."""
    shape: float
    """Of a Gamma prior on the precision of one feature: it weighs as much as 2 x shape data."""

    def arrays(self) -> dict[str, np.ndarray]:
        """What a file keeps."""
        return {"base_within": self.within, "base_shape": np.asarray(self.shape)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "BaseMeasure | None":
        """From what :meth:`arrays` returned; None if a file has none."""
        return cls(arrays["base_within"], float(arrays["base_shape"])) if "base_within" in arrays else None


class Beginning(NamedTuple):
    """How a stream begins."""

    base: BaseMeasure
    seats: Int[np.ndarray, " N"]
    """The group of each of the first rows, numbered in order of appearance."""


def find_beginning(
    options: StreamOptions, family: Family, prior: Mapping[str, Distribution], x: Float[np.ndarray, "N D"]
) -> Beginning | None:
    """The base measure and groups of the first rows (model units); None where the prior is not learned from them."""
    width = _to_find(options, family)
    if width is None or len(x) < _FEWEST_ROWS:
        return None
    all_rows = np.asarray(x, np.float64)
    rows = all_rows[:: -(-len(x) // _MOST_ROWS)]
    sharing = width.sharing(rows, prior)
    if sharing is None:
        return None
    with threadpool_limits(limits=1, user_api="blas"):  # many small products: threads would wait for each other
        groups = find_groups(sharing, float(options.alpha), float(options.discount))
        base = _with_best_shape(family, prior, rows, groups.within, _drawn(groups, int(options.seed)))
        for _ in range(0 if width.is_known else _ROUNDS):
            before, marginal = groups, _Marginal(family, prior, base, rows)
            groups = joined(groups, sharing, marginal, float(options.alpha), float(options.discount))
            if groups.shares.shape == before.shares.shape:
                break
            base = _with_best_shape(family, prior, rows, groups.within, _drawn(groups, int(options.seed)))
    labels = _drawn(groups, int(options.seed))
    seats = labels if len(rows) == len(x) else _nearest_groups(sharing, all_rows, rows, groups.within, labels)
    return Beginning(base, _in_order(seats))


def with_base_measure(
    family: Family, prior: Mapping[str, Distribution], base: BaseMeasure | None, dtype: np.dtype
) -> dict[str, Distribution]:
    """The prior with the law of the width replaced by that of the base measure."""
    if base is None:
        return dict(prior)
    width = width_of(family)
    if width is None or np.ndim(base.within) != width.num_axes:
        raise InputError(f"base_within: this is no width of a memory of family {family.name!r}; learn the stream again")
    return {**prior, width.site: width.law(np.asarray(base.within, dtype), np.asarray(base.shape, dtype))}


def _to_find(options: StreamOptions, family: Family) -> Width | None:
    """The width that is to be found; None where it is given, or where memories move."""
    width = width_of(family) if options.base == "evidence" and not options.is_moving else None
    given = (options.known or {}).keys() | (options.prior or {}).keys()
    return None if width is None or width.site in given else width


def _drawn(groups: Groups, seed: int) -> Int[np.ndarray, " N"]:
    """A group of each row, drawn by its probability; numbered without gaps.

    Memories that overlap keep their widths, which the most probable groups would cut off.
    """
    below = np.cumsum(groups.shares, axis=1)
    uniform = np.random.default_rng(seed).uniform(size=(len(below), 1)) * below[:, -1:]
    return np.unique(np.sum(below <= uniform, axis=1), return_inverse=True)[1]


def _nearest_groups(
    sharing: Sharing,
    x: Float[np.ndarray, "N D"],
    rows: Float[np.ndarray, "J D"],
    within: np.ndarray,
    labels: Int[np.ndarray, " J"],
) -> Int[np.ndarray, " N"]:
    """The group whose mean is nearest to each row of ``x``, in the metric of the width within groups."""
    means = np.stack([rows[labels == k].mean(axis=0) for k in range(int(labels.max()) + 1)])
    points, centres = (sharing.in_metric(values, within) for values in (x, means))
    return np.asarray(cKDTree(centres).query(points)[1])


def _in_order(labels: Int[np.ndarray, " N"]) -> Int[np.ndarray, " N"]:
    """The same groups, numbered in order of appearance."""
    _, first, place = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[place].astype(np.int32)


# --- how much memories differ ---------------------------------------------------------------------------------


class _Marginal:
    """The log density of the rows of groups under the conjugate pair of the memories, in double precision.

    Args:
        family: of the memories.
        prior: of their sites.
        base: in the place of the law of their width.
        x: the rows.
    """

    def __init__(
        self, family: Family, prior: Mapping[str, Distribution], base: BaseMeasure, x: Float[np.ndarray, "N D"]
    ) -> None:
        with jax.enable_x64(True):
            law = with_base_measure(family, prior, base, x.dtype)
            self._pair = stream_pair(family, law, {}, 1, x.dtype).pair
            rows, _ = filled(x, None)
            self._statistics = np.asarray(_statistics(self._pair, jnp.asarray(rows)))[: len(x)]

    def __call__(self, shares: Float[np.ndarray, "N J"]) -> Float[np.ndarray, " J"]:
        """Of groups of which rows have these shares, their parameters integrated out (nats)."""
        num_groups = shares.shape[1]
        counts = np.zeros(room_for(num_groups))
        sums = np.zeros((len(counts), self._statistics.shape[1]))
        counts[:num_groups], sums[:num_groups] = shares.sum(axis=0), shares.T @ self._statistics
        with jax.enable_x64(True):
            return np.asarray(_log_marginal(self._pair, jnp.asarray(counts), jnp.asarray(sums)))[:num_groups]


@compiled_quickly()
def _statistics(pair: ConjugatePair, x: Float[Array, "N D"]) -> Float[Array, "N F"]:
    return pair.statistics(x)


@compiled_quickly()
def _log_marginal(pair: ConjugatePair, counts: Float[Array, " K"], sums: Float[Array, "K F"]) -> Float[Array, " K"]:
    return pair.log_marginal(counts, sums)


def _with_best_shape(
    family: Family,
    prior: Mapping[str, Distribution],
    x: Float[np.ndarray, "N D"],
    within: np.ndarray,
    labels: Int[np.ndarray, " N"],
) -> BaseMeasure:
    """The shape with the largest marginal likelihood of the groups; it is at most their number (and at least 2)."""
    shapes = [shape for shape in _SHAPES if shape <= max(int(labels.max()) + 1, _SHAPES[0])]
    width = width_of(family)
    if width is not None and width.is_known:
        shapes = shapes[:1]
    bases, member = [BaseMeasure(within, shape) for shape in shapes], np.eye(int(labels.max()) + 1)[labels]
    if len(bases) == 1:
        return bases[0]
    return max(bases, key=lambda base: _Marginal(family, prior, base, x)(member).sum())
