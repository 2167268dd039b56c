"""Posterior draws of a partition: co-clustering, and the losses by which partitions are compared.

The posterior of a mixture does not change when its memories are renumbered, so the number of a memory has no meaning
across draws. What has a meaning is whether two data share a memory (:func:`coclustering`), and how far two partitions
are from each other (:func:`distances`).

Notation: S draws, N data, K memories, C candidate partitions. Labels are integers from 0 whose values carry
no meaning beyond equality.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from scipy.special import xlogy

from probam.errors import InputError

__all__ = [
    "Loss",
    "PartitionDraws",
    "binder_loss",
    "canonical",
    "check_labels",
    "check_loss",
    "cluster_sizes",
    "coclustering",
    "coclustering_from_responsibilities",
    "distances",
    "expected_loss",
    "number_occupied",
    "partition_draws",
    "variation_of_information",
    "vi_criterion",
]

Loss = Literal["vi", "binder"]

_BLOCK = 2**24
"""Elements of the largest temporary array."""


def number_occupied(labels: Int[np.ndarray, "S N"]) -> Int[np.ndarray, " S"]:
    """Number of memories that hold at least one datum, for each draw."""
    ordered = np.sort(check_labels(labels), axis=1)
    return np.asarray(np.sum(np.diff(ordered, axis=1) != 0, axis=1) + 1)


def cluster_sizes(labels: Int[np.ndarray, "S N"], num_components: int) -> Int[np.ndarray, "S K"]:
    """How many data each memory of each draw holds."""
    z = check_labels(labels)
    cell = np.arange(len(z))[:, None] * num_components + z
    return np.bincount(cell.ravel(), minlength=len(z) * num_components).reshape(len(z), num_components)


def coclustering(labels: Int[np.ndarray, "S N"]) -> Float[np.ndarray, "N N"]:
    """Share of the draws in which two data have the same label: the posterior similarity matrix."""
    z = canonical(labels)
    num_draws, num_data = z.shape
    same = np.zeros((num_data, num_data))
    for block in _blocks(num_draws, num_data):
        for cluster in range(int(z[block].max()) + 1):
            member = (z[block] == cluster).astype(np.float32)  # sums of ones: exact below 2^24
            same += member.T @ member
    return np.asarray(same / num_draws)


def coclustering_from_responsibilities(responsibilities: Float[np.ndarray, "S N K"]) -> Float[np.ndarray, "N N"]:
    r"""Posterior probability that two data share a memory, with the labels summed out.

    .. math:: P(z_i = z_j) = \frac1S \sum_s \sum_k r_{sik} r_{sjk} \quad (i \ne j)

    and one on the diagonal: given the parameters of a draw the labels are independent. Its Monte Carlo
    error is never larger than that of :func:`coclustering` on labels drawn from the same responsibilities.
    """
    r = np.asarray(responsibilities)
    if r.ndim != 3:
        raise InputError(f"responsibilities: expected shape (S, N, K); got {r.shape}")
    num_draws, num_data, num_components = r.shape
    same = np.zeros((num_data, num_data))
    for block in _blocks(num_draws, num_data * num_components):
        flat = r[block].transpose(1, 0, 2).reshape(num_data, -1)
        same += flat @ flat.T
    same /= num_draws
    np.fill_diagonal(same, 1.0)
    return same


def binder_loss(a: Int[np.ndarray, " N"], b: Int[np.ndarray, " N"]) -> float:
    """Share of the pairs of data on which two partitions disagree: one minus the Rand index."""
    return float(distances(a, np.asarray(b)[None], loss="binder")[0])


def variation_of_information(a: Int[np.ndarray, " N"], b: Int[np.ndarray, " N"]) -> float:
    """Entropy of each partition given the other, summed, in nats: a metric on partitions (Meila 2007)."""
    return float(distances(a, np.asarray(b)[None])[0])


def distances(
    centre: Int[np.ndarray, " N"], draws: Int[np.ndarray, "S N"], *, loss: Loss = "vi"
) -> Float[np.ndarray, " S"]:
    r"""Distance of each draw from one partition, both losses from the table n of shared counts.

    .. math::
        \mathrm{VI} = \frac1N \Bigl( \sum_i n_{i\cdot} \log n_{i\cdot} + \sum_j n_{\cdot j} \log n_{\cdot j}
        - 2 \sum_{ij} n_{ij} \log n_{ij} \Bigr), \qquad
        \mathrm{Binder} = \frac{\sum_i n_{i\cdot}^2 + \sum_j n_{\cdot j}^2 - 2 \sum_{ij} n_{ij}^2}{N (N - 1)}
    """
    check_loss(loss)
    return _distances(canonical(np.asarray(centre)[None])[0], canonical(draws), loss)


def expected_loss(
    candidates: Int[np.ndarray, "C N"], posterior: "ArrayLike | PartitionDraws", *, loss: Loss = "vi"
) -> Float[np.ndarray, " C"]:
    r"""Posterior expected loss of each candidate partition.

    Args:
        candidates: labels of each candidate.
        posterior: sampled labels (S, N), integers, or a co-clustering matrix (N, N), floating, or both.
        loss: ``"binder"`` needs only the matrix and is exact. ``"vi"`` is the Monte Carlo average over the draws, in
            nats; from a matrix alone it is :func:`vi_criterion`, which ranks candidates but is not a distance.
    """
    check_loss(loss)
    z = check_labels(candidates)
    draws, similarity = partition_draws(posterior, z.shape[1])
    if loss == "binder":
        return _expected_binder(z, similarity)
    if draws is None:
        return vi_criterion(z, similarity)
    return np.array([_distances(c, draws, loss).mean() for c in canonical(z)])


def vi_criterion(candidates: Int[np.ndarray, "C N"], similarity: Float[np.ndarray, "N N"]) -> Float[np.ndarray, " C"]:
    r"""A criterion for the expected variation of information that needs only a co-clustering matrix, nats.

    .. math::
        \frac1N \sum_n \Bigl( \log \sum_i 1[c_i = c_n] - 2 \log \sum_i p_{in} 1[c_i = c_n] + \log \sum_i p_{in} \Bigr)

    The middle term is Jensen's lower bound of the part of the expectation that depends on the candidate; the last
    term is a constant that makes it zero where the posterior is certain (Wade and Ghahramani 2018).
    """
    constant = np.log(similarity.sum(axis=0)).mean()
    bounds = np.empty(len(candidates))
    for row, c in enumerate(candidates):
        onehot = _onehot(c)
        size = onehot @ onehot.sum(axis=0)
        shared = np.sum((similarity @ onehot) * onehot, axis=1)
        bounds[row] = np.mean(np.log(size) - 2 * np.log(shared)) + constant
    return bounds


class PartitionDraws(NamedTuple):
    """Sampled labels (S, N) in canonical form, or none, and the co-clustering matrix (N, N)."""

    draws: Int[np.ndarray, "S N"] | None
    similarity: Float[np.ndarray, "N N"]


def partition_draws(posterior: ArrayLike | PartitionDraws, num_data: int | None = None) -> PartitionDraws:
    """Sampled labels, recognised by their integer type, or a co-clustering matrix, as :class:`PartitionDraws`.

    Args:
        posterior: labels (S, N), integers, or a matrix (N, N), floating.
        num_data: the N that is expected; None: any.

    Raises:
        InputError: for anything else, and for another number of data.
    """
    p = posterior.similarity if isinstance(posterior, PartitionDraws) else np.asarray(posterior)
    if p.ndim != 2 or (num_data is not None and p.shape[1] != num_data):
        raise InputError(f"posterior: expected labels (S, N) or a co-clustering matrix (N, N); got {p.shape}")
    if isinstance(posterior, PartitionDraws):
        return posterior
    if np.issubdtype(p.dtype, np.integer):
        draws = canonical(p)
        return PartitionDraws(draws, coclustering(draws))
    if p.shape[0] != p.shape[1] or not np.allclose(p, p.T) or p.min() < 0 or p.max() > 1 + 1e-6:
        raise InputError(
            f"posterior: a floating array must be a co-clustering matrix, symmetric (N, N) in [0, 1]; got {p.shape}. "
            "Give sampled labels as integers"
        )
    return PartitionDraws(None, p)


def check_labels(labels: ArrayLike) -> Int[np.ndarray, "..."]:
    """The labels as an array; :class:`probam.errors.InputError` where they are not integers or there are none."""
    z = np.asarray(labels)
    if not np.issubdtype(z.dtype, np.integer) or z.size == 0:
        raise InputError(f"labels: expected integers, one per datum; got {z.dtype} of shape {z.shape}")
    return z


def check_loss(loss: str) -> None:
    """Raise :class:`probam.errors.InputError` for an unknown loss."""
    if loss not in ("vi", "binder"):
        raise InputError(f"loss: expected 'vi' or 'binder'; got {loss!r}")


def canonical(labels: ArrayLike) -> Int[np.ndarray, "S N"]:
    """Labels (S, N) in order of first appearance, so that equal partitions have equal rows."""
    z = check_labels(labels)
    if z.ndim != 2:
        raise InputError(f"labels: expected shape (S, N), one row per partition; got {z.shape}")
    lowest, highest = int(z.min()), int(z.max())
    if highest - lowest > z.shape[1]:  # names are far from each other: number them
        names, z = np.unique(z, return_inverse=True)
        z, lowest, highest = z.reshape(-1, np.shape(labels)[1]), 0, len(names) - 1
    z = z - lowest
    every = np.arange(len(z))
    rank = np.full((len(z), highest - lowest + 1), -1)  # the new name of each old one, -1 until it appears
    num_seen = np.zeros(len(z), dtype=np.int64)
    out = np.empty(z.shape, dtype=np.int64)
    for datum, own in enumerate(z.T):
        fresh = rank[every, own] < 0
        rank[every[fresh], own[fresh]] = num_seen[fresh]
        num_seen += fresh
        out[:, datum] = rank[every, own]
    return out


def _distances(c: Int[np.ndarray, " N"], draws: Int[np.ndarray, "S N"], loss: Loss) -> Float[np.ndarray, " S"]:
    """:func:`distances` of canonical labels."""
    num_draws, num_data = draws.shape
    rows, columns = int(c.max()) + 1, int(draws.max()) + 1
    distance = np.empty(num_draws)
    for block in _blocks(num_draws, max(num_data, rows * columns)):
        z = draws[block]
        cell = (np.arange(len(z))[:, None] * rows + c) * columns + z
        joint = np.bincount(cell.ravel(), minlength=len(z) * rows * columns).reshape(len(z), rows, columns)
        by_row, by_column = joint.sum(axis=2), joint.sum(axis=1)
        if loss == "vi":
            alone = xlogy(by_row, by_row).sum(axis=1) + xlogy(by_column, by_column).sum(axis=1)
            distance[block] = np.maximum(alone - 2 * xlogy(joint, joint).sum(axis=(1, 2)), 0.0) / num_data
        else:
            disagreements = (by_row**2).sum(axis=1) + (by_column**2).sum(axis=1) - 2 * (joint**2).sum(axis=(1, 2))
            distance[block] = disagreements / max(num_data * (num_data - 1), 1)
    return distance


def _expected_binder(
    candidates: Int[np.ndarray, "C N"], similarity: Float[np.ndarray, "N N"]
) -> Float[np.ndarray, " C"]:
    num_data = candidates.shape[1]
    pairs = num_data * (num_data - 1)
    if not pairs:
        return np.zeros(len(candidates))
    odds = 1.0 - 2.0 * similarity  # |1[together] - p| summed is sum p + sum over together (1 - 2 p)
    np.fill_diagonal(odds, 0.0)
    base = similarity.sum() - np.trace(similarity)
    within = [np.sum(onehot * (odds @ onehot)) for onehot in map(_onehot, candidates)]
    return np.asarray((base + np.array(within)) / pairs)


def _onehot(c: Int[np.ndarray, " N"]) -> Float[np.ndarray, "N K"]:
    names, inverse = np.unique(c, return_inverse=True)
    return np.asarray(np.eye(len(names))[inverse])


def _blocks(num_draws: int, elements: int) -> Iterator[slice]:
    """Slices of the draws, each of at most ``_BLOCK`` elements."""
    step = max(1, _BLOCK // max(elements, 1))
    return (slice(start, start + step) for start in range(0, num_draws, step))
