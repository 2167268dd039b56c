"""Posterior draws of a partition: relabelling, co-clustering, point partitions and their losses.

The posterior of a mixture does not change when its memories are renumbered, so the number of a memory means
nothing across draws. What means something: whether two data share a memory (:func:`coclustering`), the
partition that lies closest to all draws (:func:`point_partition`), and, after each draw was renumbered to
agree with one reference (:func:`relabel`), the memories themselves.

Notation: S draws, N data, K memories, C candidate partitions. Labels are integers from 0 whose values carry
no meaning beyond equality.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from scipy.cluster.hierarchy import linkage
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import squareform
from scipy.special import xlogy

from probam.errors import InputError

__all__ = [
    "Relabelling",
    "binder_loss",
    "coclustering",
    "coclustering_from_responsibilities",
    "credible_radius",
    "expected_loss",
    "number_occupied",
    "point_partition",
    "relabel",
    "stephens",
    "variation_of_information",
]

Loss = Literal["vi", "binder"]

_MAX_SAMPLED = 500
"""How many of the distinct sampled partitions are candidates; of more, evenly spaced ones."""

_MAX_EXACT = 50
"""How many candidates are judged by the exact expected VI; the lower bound chooses which."""

_MAX_CLUSTERS = 50
"""The tree of average linkage is cut into at most so many clusters."""

_BLOCK = 2**24
"""Elements of the largest temporary array."""


def relabel(
    responsibilities: Float[np.ndarray, "S N K"],
    reference: Int[np.ndarray, " N"] | Float[np.ndarray, "N K"] | None = None,
) -> Int[np.ndarray, "S K"]:
    r"""Permutations that renumber the memories of each draw so that the draws agree with ``reference``.

    ``parameter[s][permutations[s]]`` is draw s in the reference's numbering. With a reference partition (N,) the
    permutation maximises the probability of its labels (equivalence classes representatives, Papastamoulis
    and Iliopoulos 2010, with probabilities in place of sampled labels)

    .. math:: \sum_n r_{s n \sigma(c_n)}

    and with reference probabilities q (N, K) it minimises the Kullback-Leibler divergence (Stephens 2000)

    .. math:: \sum_{nk} r_{s n \sigma(k)} \log \bigl( r_{s n \sigma(k)} / q_{nk} \bigr)

    Both are linear assignment problems, solved exactly. Without a reference the first argument is the gain of
    such a problem already, (S, K, K): how well memory k of a draw (columns) plays the part of reference
    memory j (rows), for instance their shared responsibility; it stays small where (S, N, K) would not.

    Raises :class:`probam.errors.InputError` for shapes that do not fit, values that are not finite and a
    reference label outside 0..K-1.
    """
    r = np.asarray(responsibilities)
    if r.ndim != 3 or (reference is None and r.shape[1] != r.shape[2]):
        expected = "(S, K, K) where there is no reference" if reference is None else "(S, N, K)"
        raise InputError(f"responsibilities: expected shape {expected}; got {r.shape}")
    if not np.isfinite(r).all():
        raise InputError("responsibilities: some are not finite; the draws they come from cannot be relabelled")
    weight = None if reference is None else _assignment_weight(np.asarray(reference), *r.shape[1:])
    permutations = np.empty((r.shape[0], r.shape[2]), dtype=np.int64)
    for draw, r_draw in enumerate(r):
        gain = r_draw if weight is None else weight.T @ r_draw
        permutations[draw] = linear_sum_assignment(gain, maximize=True)[1]
    return permutations


def _assignment_weight(q: np.ndarray, num_data: int, num_components: int) -> Float[np.ndarray, "N K"]:
    """What a unit of responsibility for a datum is worth to each reference memory."""
    if q.ndim == 1 and np.issubdtype(q.dtype, np.integer):
        if q.shape != (num_data,):
            raise InputError(f"reference: expected {num_data} labels, one a datum; got {q.shape}")
        if q.size and (q.min() < 0 or q.max() >= num_components):
            raise InputError(f"reference: labels must lie in 0..{num_components - 1}; got {q.min()}..{q.max()}")
        return np.asarray(np.eye(num_components)[q])
    if q.shape != (num_data, num_components):
        raise InputError(
            f"reference: expected {num_data} integer labels or probabilities of shape "
            f"({num_data}, {num_components}); got {q.dtype} of shape {q.shape}"
        )
    return np.asarray(np.log(np.maximum(q, np.finfo(np.float64).tiny)))


class Relabelling(NamedTuple):
    """What :func:`stephens` found."""

    permutations: Int[np.ndarray, "S K"]
    reference: Float[np.ndarray, "N K"]  # mean relabelled responsibilities
    losses: Float[np.ndarray, " T"]  # after each round, nats; never rises


def stephens(
    responsibilities: Float[np.ndarray, "S N K"],
    reference: Int[np.ndarray, " N"] | Float[np.ndarray, "N K"],
    *,
    max_rounds: int = 50,
) -> Relabelling:
    r"""Relabelling without a fixed reference: alternate :func:`relabel` and the mean of the relabelled draws.

    Each round lowers :math:`\sum_s \mathrm{KL}(r_s \circ \sigma_s \,\|\, q)`, in q for given permutations and in
    the permutations for given q (Stephens 2000, algorithm 2). It stops when no permutation changes; the
    answer is a local minimum, and ``reference`` says where the search starts.
    """
    r = np.asarray(responsibilities)
    permutations = relabel(r, reference)
    losses: list[float] = []
    for _ in range(max_rounds):
        aligned = np.take_along_axis(r, permutations[:, None, :], axis=2)
        mean = aligned.mean(axis=0)
        losses.append(float(np.sum(xlogy(r, r)) - len(r) * np.sum(xlogy(mean, mean))))
        new = relabel(r, mean)
        if np.array_equal(new, permutations):
            break
        permutations = new
    mean = np.take_along_axis(r, permutations[:, None, :], axis=2).mean(axis=0)
    return Relabelling(permutations, mean, np.array(losses))


def number_occupied(labels: Int[np.ndarray, "S N"]) -> Int[np.ndarray, " S"]:
    """Number of memories that hold at least one datum, for each draw."""
    ordered = np.sort(_labels(labels), axis=1)
    return np.asarray(np.sum(np.diff(ordered, axis=1) != 0, axis=1) + 1)


def coclustering(labels: Int[np.ndarray, "S N"]) -> Float[np.ndarray, "N N"]:
    """Share of the draws in which two data have the same label: the posterior similarity matrix."""
    z = _canonical(_labels(labels))
    num_draws, num_data = z.shape
    clusters = int(z.max()) + 1
    same = np.zeros((num_data, num_data))
    for block in _blocks(num_draws, num_data * clusters):
        onehot = (z[block, :, None] == np.arange(clusters)).astype(np.float32)  # sums of ones: exact below 2^24
        flat = onehot.transpose(1, 0, 2).reshape(num_data, -1)
        same += flat @ flat.T
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
    za, zb = _labels(np.stack([a, b]))
    together_a = za[:, None] == za
    together_b = zb[:, None] == zb
    pairs = za.size * (za.size - 1)
    return float(np.sum(together_a != together_b) / pairs) if pairs else 0.0


def variation_of_information(a: Int[np.ndarray, " N"], b: Int[np.ndarray, " N"]) -> float:
    """Entropy of each partition given the other, summed, in nats: a metric on partitions (Meila 2007)."""
    return float(_vi_to_draws(_canonical(_labels(a)[None])[0], _canonical(_labels(b)[None]))[0])


def expected_loss(
    candidates: Int[np.ndarray, "C N"], posterior: ArrayLike, *, loss: Loss = "vi"
) -> Float[np.ndarray, " C"]:
    r"""Posterior expected loss of each candidate partition.

    ``posterior`` is either sampled labels (S, N), integers, or a co-clustering matrix (N, N), floating.
    ``"binder"`` needs only the matrix and is exact in both cases. ``"vi"`` is the Monte Carlo average over the
    draws, in nats. From a matrix alone it is the criterion of Wade and Ghahramani (2018),

    .. math::
        \frac1N \sum_n \Bigl( \log \sum_i 1[c_i = c_n] - 2 \log \sum_i p_{in} 1[c_i = c_n] + \log \sum_i p_{in} \Bigr)

    whose middle term is Jensen's lower bound of the part of the expectation that depends on the candidate; the last
    term is a constant that makes it zero where the posterior is certain. It ranks candidates; it is no distance.
    """
    z = _labels(candidates)
    return _expected(z, *_posterior(posterior, z.shape[1]), loss)


def _expected(
    z: Int[np.ndarray, "C N"], draws: Int[np.ndarray, "S N"] | None, similarity: Float[np.ndarray, "N N"], loss: Loss
) -> Float[np.ndarray, " C"]:
    if loss == "binder":
        return _expected_binder(z, similarity)
    if loss != "vi":
        raise InputError(f"loss: expected 'vi' or 'binder'; got {loss!r}")
    if draws is None:
        return _vi_lower_bound(z, similarity)
    canonical = _canonical(draws)
    return np.array([_vi_to_draws(c, canonical).mean() for c in _canonical(z)])


def point_partition(posterior: ArrayLike, *, loss: Loss = "vi") -> Int[np.ndarray, " N"]:
    """The partition of least posterior expected loss, labels 0, 1, ... from the largest cluster to the smallest.

    ``posterior`` is sampled labels (S, N), integers, or a co-clustering matrix (N, N), floating. The candidates
    are up to 500 distinct sampled partitions (where there are draws) and the average-linkage trees of
    ``1 - co-clustering`` cut into 1 to 50 clusters; for ``"vi"`` from draws the 50 of least lower bound are then
    compared by their exact expected loss. The winner is the best *of these*; no search over all
    partitions is feasible beyond a dozen data. Which loss is minimised is that of :func:`expected_loss`.
    """
    draws, similarity = _posterior(posterior, None)
    candidates = _hierarchical(similarity)
    if draws is not None:
        sampled = np.unique(_canonical(draws), axis=0)
        sampled = sampled[np.linspace(0, len(sampled) - 1, min(len(sampled), _MAX_SAMPLED)).astype(int)]
        candidates = np.concatenate([sampled, candidates])
        if loss == "vi" and len(candidates) > _MAX_EXACT:
            candidates = candidates[np.argsort(_vi_lower_bound(candidates, similarity), kind="stable")[:_MAX_EXACT]]
    best = candidates[np.argmin(_expected(candidates, draws, similarity, loss))]
    sizes = np.bincount(best)
    rank = np.empty_like(sizes)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes))
    return np.asarray(rank[best])


def credible_radius(
    labels: Int[np.ndarray, "S N"], centre: Int[np.ndarray, " N"], *, probability: float = 0.95, loss: Loss = "vi"
) -> float:
    """Radius of the smallest ball around ``centre`` that holds ``probability`` of the sampled partitions.

    Source: Wade and Ghahramani (2018). Small radius: the partition is nearly certain.
    """
    z = _labels(labels)
    if loss == "vi":
        distances = _vi_to_draws(_canonical(_labels(centre)[None])[0], _canonical(z))
    else:
        distances = np.array([binder_loss(centre, draw) for draw in z])
    return float(np.quantile(distances, probability, method="inverted_cdf"))


def _labels(labels: ArrayLike) -> Int[np.ndarray, "..."]:
    z = np.asarray(labels)
    if not np.issubdtype(z.dtype, np.integer) or z.size == 0:
        raise InputError(f"labels: expected integers, one a datum; got {z.dtype} of shape {z.shape}")
    return z


class _Posterior(NamedTuple):
    """Sampled labels (S, N), or none, and the co-clustering matrix (N, N)."""

    draws: Int[np.ndarray, "S N"] | None
    similarity: Float[np.ndarray, "N N"]


def _posterior(posterior: ArrayLike, num_data: int | None) -> _Posterior:
    """Sampled labels and a co-clustering matrix are told apart by their type."""
    p = np.asarray(posterior)
    if p.ndim != 2 or (num_data is not None and p.shape[1] != num_data):
        raise InputError(f"posterior: expected labels (S, N) or a co-clustering matrix (N, N); got {p.shape}")
    if np.issubdtype(p.dtype, np.integer):
        return _Posterior(_labels(p), coclustering(p))
    if p.shape[0] != p.shape[1] or not np.allclose(p, p.T) or p.min() < 0 or p.max() > 1 + 1e-6:
        raise InputError(
            f"posterior: a floating array must be a co-clustering matrix, symmetric (N, N) in [0, 1]; got {p.shape}. "
            "Give sampled labels as integers"
        )
    return _Posterior(None, p)


def _canonical(labels: Int[np.ndarray, "S N"]) -> Int[np.ndarray, "S N"]:
    """Labels in order of first appearance, so that equal partitions have equal rows."""
    out = np.empty(labels.shape, dtype=np.int64)
    for row, z in enumerate(labels):
        _, first, inverse = np.unique(z, return_index=True, return_inverse=True)
        rank = np.empty(len(first), dtype=np.int64)
        rank[np.argsort(first)] = np.arange(len(first))
        out[row] = rank[inverse]
    return out


def _vi_to_draws(c: Int[np.ndarray, " N"], draws: Int[np.ndarray, "S N"]) -> Float[np.ndarray, " S"]:
    """VI in nats between one partition and each of many; all in canonical labels."""
    num_draws, num_data = draws.shape
    rows, columns = int(c.max()) + 1, int(draws.max()) + 1
    joint = np.empty((num_draws, rows, columns))
    for block in _blocks(num_draws, max(num_data, rows * columns)):
        z = draws[block]
        cell = (np.arange(len(z))[:, None] * rows + c) * columns + z
        joint[block] = np.bincount(cell.ravel(), minlength=len(z) * rows * columns).reshape(len(z), rows, columns)
    joint /= num_data
    by_row, by_column = joint.sum(axis=2), joint.sum(axis=1)
    vi = xlogy(by_row, by_row).sum(axis=1) + xlogy(by_column, by_column).sum(axis=1)
    return np.asarray(np.maximum(vi - 2 * xlogy(joint, joint).sum(axis=(1, 2)), 0.0))


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


def _vi_lower_bound(
    candidates: Int[np.ndarray, "C N"], similarity: Float[np.ndarray, "N N"]
) -> Float[np.ndarray, " C"]:
    constant = np.log(similarity.sum(axis=0)).mean()
    bounds = np.empty(len(candidates))
    for row, c in enumerate(candidates):
        onehot = _onehot(c)
        size = onehot @ onehot.sum(axis=0)
        shared = np.sum((similarity @ onehot) * onehot, axis=1)
        bounds[row] = np.mean(np.log(size) - 2 * np.log(shared)) + constant
    return bounds


def _onehot(c: Int[np.ndarray, " N"]) -> Float[np.ndarray, "N K"]:
    names, inverse = np.unique(c, return_inverse=True)
    return np.asarray(np.eye(len(names))[inverse])


def _hierarchical(similarity: Float[np.ndarray, "N N"]) -> Int[np.ndarray, "C N"]:
    """Average-linkage clusterings of ``1 - similarity`` into 1, 2, ... clusters.

    The merges are undone one by one here: SciPy's ``cut_tree`` goes astray where heights are tied.
    """
    num_data = len(similarity)
    if num_data == 1:
        return np.zeros((1, 1), dtype=np.int64)
    distance = np.maximum(1.0 - (similarity + similarity.T) / 2, 0.0)
    np.fill_diagonal(distance, 0.0)
    merges = linkage(squareform(distance, checks=False), method="average")[:, :2].astype(int)
    label = np.arange(num_data)
    cuts = [label]
    for node, (left, right) in enumerate(merges, start=num_data):
        label = np.where((label == left) | (label == right), node, label)
        cuts.append(label)
    return _canonical(np.stack(cuts[-_MAX_CLUSTERS:]))


def _blocks(num_draws: int, elements: int) -> Iterator[slice]:
    """Slices of the draws, each of at most ``_BLOCK`` elements."""
    step = max(1, _BLOCK // max(elements, 1))
    return (slice(start, start + step) for start in range(0, num_draws, step))
