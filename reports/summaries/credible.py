"""Uncertainty of a partition: the credible ball around it and its bounds (Wade and Ghahramani 2018).

The ball is the smallest one with 95 % of the posterior. The partitions at its edge show how the partition could
differ: with fewer clusters (upper bound in the lattice of partitions), with more (lower), or as far as possible
(horizontal).
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from probam.errors import InputError
from probam.reports.summaries.partition import (
    Loss,
    PartitionDraws,
    canonical,
    check_labels,
    coclustering_from_responsibilities,
    distances,
    expected_loss,
    number_occupied,
    partition_draws,
)
from probam.reports.summaries.point_partition import by_size, point_partition
from probam.reports.tree import Variables

__all__ = ["CredibleBall", "credible_ball", "partition_group", "point_estimate_group"]

_PROBABILITY = 0.95


class CredibleBall(NamedTuple):
    """A ball of partitions; clusters of the bounds are numbered from the largest to the smallest."""

    radius: float  # in the loss: nats, or a share of the pairs
    upper: Int[np.ndarray, " N"]  # of the partitions of fewest clusters in the ball, the furthest
    lower: Int[np.ndarray, " N"]  # of those of most clusters, the furthest
    horizontal: Int[np.ndarray, " N"]  # of all, the furthest


def credible_ball(
    labels: Int[np.ndarray, "S N"],
    centre: Int[np.ndarray, " N"],
    *,
    probability: float = _PROBABILITY,
    loss: Loss = "vi",
) -> CredibleBall:
    """The smallest ball around a partition with a given share of the sampled partitions, and its bounds.

    Bounds are sampled partitions. Where several qualify, the first in the lexicographic order of labels numbered by
    first appearance is taken, so that neither the order of the draws nor their numbering matters.

    Args:
        labels: sampled partitions.
        centre: the partition in the middle of the ball.
        probability: the share, in (0, 1].
        loss: the distance between partitions.

    Raises:
        InputError: for labels that do not match, a probability outside (0, 1] and an unknown loss.
    """
    partitions, times = np.unique(canonical(labels), axis=0, return_counts=True)
    own = check_labels(centre)
    if own.shape != partitions.shape[1:]:
        raise InputError(f"centre: expected {partitions.shape[1]} labels, one per datum; got {own.shape}")
    if not 0 < probability <= 1:
        raise InputError(f"probability: expected a number in (0, 1]; got {probability}")
    away = distances(own, partitions, loss=loss)
    away = away.round(12)  # distances that are equal on paper are equal here
    order = np.argsort(away, kind="stable")
    num_within = np.cumsum(times[order])  # sampled partitions within each distance
    wanted = probability * num_within[-1] * (1 - 1e-12)
    radius = float(away[order][np.searchsorted(num_within, wanted)])
    inside = away <= radius
    clusters = number_occupied(partitions)

    def furthest(among: np.ndarray) -> Int[np.ndarray, " N"]:
        return by_size(partitions[np.argmax(np.where(among, away, -1.0))])

    return CredibleBall(
        radius,
        furthest(inside & (clusters == clusters[inside].min())),
        furthest(inside & (clusters == clusters[inside].max())),
        furthest(inside),
    )


def point_estimate_group(responsibilities: Float[np.ndarray, "R K"]) -> Variables:
    """Variables of the group ``partition`` of R data at a single setting of the parameters.

    ``coclustering`` is the probability given these parameters: that two data share a memory is the sum over memories of
    the products of their responsibilities. ``point`` and ``point_binder`` are the partitions that summarise it.
    """
    together = np.clip(coclustering_from_responsibilities(responsibilities[None].astype(np.float64)), 0, 1)
    known = PartitionDraws(None, together)
    return _similarity_and_points(known, point_partition(known), point_partition(known, loss="binder"))


def _similarity_and_points(
    known: PartitionDraws, point: Int[np.ndarray, " R"], binder: Int[np.ndarray, " R"]
) -> dict[str, Any]:
    return {
        "coclustering": (known.similarity.astype(np.float32), ("row", "row_bis")),
        "point": (point, ("row",)),
        "point_binder": (binder, ("row",)),
    }


def partition_group(labels: Int[np.ndarray, "S R"]) -> tuple[Variables, dict[str, Any]]:
    """Variables and attributes of the group ``partition`` that follow from sampled labels of R data.

    Variables: ``coclustering`` (row, row_bis), ``point`` and ``point_binder`` (row), ``ball_upper``, ``ball_lower`` and
    ``ball_horizontal`` (row) of the ball around ``point``. Attributes: ``credible_radius`` and ``expected_loss`` (nats)
    and the same with ``_binder`` (shares of the pairs of data), ``credible_probability``. One draw has no ball.
    """
    known = partition_draws(canonical(labels))
    z = known.draws
    assert z is not None, "labels are draws"
    point, binder = point_partition(known), point_partition(known, loss="binder")
    variables = _similarity_and_points(known, point, binder)
    if len(z) == 1:
        return variables, {}
    ball = credible_ball(z, point)
    for name in ("upper", "lower", "horizontal"):
        variables[f"ball_{name}"] = (getattr(ball, name), ("row",))
    attributes = {
        "credible_radius": ball.radius,
        "credible_radius_binder": credible_ball(z, binder, loss="binder").radius,
        "credible_probability": _PROBABILITY,
        "expected_loss": float(expected_loss(point[None], known)[0]),
        "expected_loss_binder": float(expected_loss(binder[None], known, loss="binder")[0]),
    }
    return variables, attributes
