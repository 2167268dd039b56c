r"""Relabelling: permutations that give the memories of all draws one numbering.

The posterior of a mixture is the same under all K! numberings of its memories, so a sampler may renumber them from
draw to draw (label switching) and averages of a memory's parameters mean nothing before that is undone. Three rules,
each a linear assignment problem for each draw, solved exactly by :func:`scipy.optimize.linear_sum_assignment`:

``"stephens"``
    Stephens (2000), algorithm 2: permutations and mean responsibilities q in turn, until none changes, lower
    :math:`\sum_s \mathrm{KL}(r_s \circ \sigma_s \,\|\, q)`.
``"ecr"``
    Equivalence classes representatives (Papastamoulis and Iliopoulos 2010): the permutation under which a draw's
    allocations agree best with those of a pivot :math:`z^*`, :math:`\max_\sigma \sum_n r_{s n \sigma(z^*_n)}`.
``"pivotal"``
    Marin, Mengersen and Robert (2005): the permutation that brings the draw's memories nearest to those of the
    draw of highest posterior density (the sum of the squares is what permutations leave alone, so this is their
    largest scalar product). It looks at parameters alone: memories that hold no data, and so lie wherever the prior
    puts them, mislead it. It is for mixtures all of whose memories are in use.

All three begin at the same draw, whose own numbering is theirs. Draws come as :class:`LabelledDraws`: two questions
that a device can answer without ever holding the (S, N, K) responsibilities, or :func:`from_responsibilities`.

Notation: S draws, N data, K memories. ``parameter[s][permutations[s]]`` is draw s in the common numbering.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
import scipy
from jaxtyping import Bool, Float, Int, Num

from probam.errors import InputError

__all__ = [
    "LabelledDraws",
    "Method",
    "Relabelling",
    "agreement",
    "assignments",
    "from_responsibilities",
    "relabel",
    "relabel_all",
]

Method = Literal["stephens", "ecr", "pivotal"]


class LabelledDraws(NamedTuple):
    """What relabelling needs of S draws.

    ``overlap(q)`` is, for a table q (N, K), the sums :math:`\\sum_n q_{nj} r_{snk}` (S, K, K), rows the reference's
    memories and columns the draw's. ``mean(permutations)`` is the mean (N, K) of the renumbered responsibilities.
    ``memories`` are the parameters (S, K, P) that ``"pivotal"`` compares, ``reference`` the draw that all begin at,
    the one of highest posterior density, and ``start`` its responsibilities.
    """

    overlap: Callable[[Float[np.ndarray, "N K"]], Float[np.ndarray, "S K K"]]
    mean: Callable[[Int[np.ndarray, "S K"]], Float[np.ndarray, "N K"]]
    memories: Float[np.ndarray, "S K P"]
    reference: int
    start: Float[np.ndarray, "N K"]


class Relabelling(NamedTuple):
    """Permutations (S, K) and, for ``"stephens"``, the cross entropy after each round (nats; it never rises)."""

    permutations: Int[np.ndarray, "S K"]
    losses: Float[np.ndarray, " T"]


def from_responsibilities(
    responsibilities: Float[np.ndarray, "S N K"], memories: Float[np.ndarray, "S K P"], reference: int = 0
) -> LabelledDraws:
    """:class:`LabelledDraws` from arrays.

    Args:
        responsibilities: of every draw; one-hot tables for allocations.
        memories: parameters of the memories of every draw.
        reference: the draw that all rules begin at.

    Raises:
        InputError: for shapes that do not match and for values that are not finite.
    """
    r, theta = np.asarray(responsibilities), np.asarray(memories)
    if r.ndim != 3:
        raise InputError(f"responsibilities: expected shape (S, N, K); got {r.shape}")
    if theta.ndim != 3 or theta.shape[:2] != (r.shape[0], r.shape[2]):
        raise InputError(f"memories: expected shape ({r.shape[0]}, {r.shape[2]}, P); got {theta.shape}")
    if not (np.isfinite(r).all() and np.isfinite(theta).all()):
        raise InputError(
            "responsibilities, memories: expected finite values; some are not finite, so the draws cannot be relabelled"
        )
    if not 0 <= reference < len(r):
        raise InputError(f"reference: expected the number of a draw, 0 to {len(r) - 1}; got {reference}")

    def mean(permutations: Int[np.ndarray, "S K"]) -> Float[np.ndarray, "N K"]:
        total = np.zeros(r.shape[1:])
        for own, permutation in zip(r, permutations, strict=True):
            total += own[:, permutation]
        return total / len(r)

    return LabelledDraws(lambda q: np.matmul(q.T, r), mean, theta, reference, r[reference])


def relabel(
    draws: LabelledDraws,
    *,
    method: Method = "stephens",
    pivot: Int[np.ndarray, " N"] | None = None,
    max_rounds: int = 50,
) -> Relabelling:
    """Permutations by one of the three rules (see the module).

    Renumbering the memories of any draw does not change the relabelled draws, except for ties; renumbering those of
    the reference draw changes the common numbering only.

    Args:
        draws: from :func:`from_responsibilities`, or computed on a device.
        method: the rule.
        pivot: allocations for ``"ecr"``, labels 0 to K - 1, such as a point partition; None: each datum's most
            responsible memory at the reference draw. Memories without data in the pivot get the memories left over,
            the largest first.
        max_rounds: most rounds of ``"stephens"``, which begins at the reference draw and ends at a local minimum.

    Raises:
        InputError: for an unknown method, and for labels of a pivot that do not match.
    """
    if method not in get_args(Method):
        raise InputError(f"method: expected one of {', '.join(get_args(Method))}; got {method!r}")
    if method == "pivotal":
        return Relabelling(_pivotal(draws), np.zeros(0))
    if method == "ecr":
        hard = _pivot_table(draws, pivot)
        return Relabelling(_ecr(draws.overlap(hard), hard.sum(axis=0) > 0), np.zeros(0))
    if max_rounds < 1:
        raise InputError(f"max_rounds: expected at least 1; got {max_rounds}")
    return _stephens(draws, max_rounds)


def relabel_all(
    draws: LabelledDraws, *, methods: Sequence[Method] = get_args(Method), sizes: Num[np.ndarray, "S K"] | None = None
) -> tuple[Relabelling, dict[str, float]]:
    """The relabelling by the first of several rules, and the :func:`agreement` of each pair of rules.

    Args:
        draws: as in :func:`relabel`.
        methods: the rules.
        sizes: as in :func:`agreement`.

    Returns:
        The relabelling, and agreements by names such as ``"stephens, ecr"``.
    """
    relabellings = {method: relabel(draws, method=method) for method in methods}
    shares = {
        f"{a}, {b}": agreement(relabellings[a].permutations, relabellings[b].permutations, sizes)
        for a, b in itertools.combinations(methods, 2)
    }
    return relabellings[methods[0]], shares


def assignments(gain: Float[np.ndarray, "S K K"]) -> Int[np.ndarray, "S K"]:
    """The permutations of largest total gain; ``gain[s, j, k]`` is the gain of memory k of draw s in place j.

    Raises :class:`probam.errors.InputError` for another shape and for values that are not finite.
    """
    g = np.asarray(gain)
    if g.ndim != 3 or g.shape[1] != g.shape[2]:
        raise InputError(f"gain: expected shape (S, K, K); got {g.shape}")
    if not np.isfinite(g).all():
        raise InputError("gain: expected finite values; some are not finite, so the draws cannot be relabelled")
    return np.array([scipy.optimize.linear_sum_assignment(each, maximize=True)[1] for each in g]).reshape(g.shape[:2])


def agreement(
    a: Int[np.ndarray, "S K"], b: Int[np.ndarray, "S K"], sizes: Num[np.ndarray, "S K"] | None = None
) -> float:
    """Share of the draws that two relabellings number alike, up to one renumbering common to all draws.

    Args:
        a: permutations of one relabelling.
        b: permutations of the other.
        sizes: number of data that each memory of a draw holds, in the draw's own numbering; with it only memories that
            hold data count, because the place of the others is arbitrary.
    """
    if a.shape != b.shape or a.ndim != 2:
        raise InputError(f"a, b: expected permutations (S, K) of the same draws; got {a.shape} and {b.shape}")
    num_components = a.shape[1]
    counted = np.ones(a.shape, bool) if sizes is None else np.take_along_axis(np.asarray(sizes), a, axis=1) > 0
    place = np.argsort(b, axis=1)  # where b puts each memory of the draw
    there = np.take_along_axis(place, a, axis=1)  # (S, K): where b puts what a puts into k
    together = np.zeros((num_components, num_components))
    np.add.at(together, (np.broadcast_to(np.arange(num_components), a.shape)[counted], there[counted]), 1)
    common = scipy.optimize.linear_sum_assignment(together, maximize=True)[1]
    return float(np.mean(((there == common) | ~counted).all(axis=1)))


def _pivotal(draws: LabelledDraws) -> Int[np.ndarray, "S K"]:
    """Each parameter in units of its spread over all draws and memories, so that its unit of measurement is gone."""
    spread = draws.memories.std(axis=(0, 1))
    scaled = draws.memories / np.where(spread > 0, spread, 1)
    scaled = scaled - scaled.mean(axis=(0, 1))  # the scalar product only serves precision
    return assignments(np.einsum("jp,skp->sjk", scaled[draws.reference], scaled))


def _pivot_table(draws: LabelledDraws, pivot: Int[np.ndarray, " N"] | None) -> Float[np.ndarray, "N K"]:
    num_data, num_components = draws.start.shape
    z = draws.start.argmax(axis=1) if pivot is None else np.asarray(pivot)
    if z.shape != (num_data,) or not np.issubdtype(z.dtype, np.integer):
        raise InputError(f"pivot: expected {num_data} integer labels, one per datum; got {z.dtype} of shape {z.shape}")
    if z.min() < 0 or z.max() >= num_components:
        raise InputError(f"pivot: labels must lie in 0..{num_components - 1}; got {z.min()}..{z.max()}")
    return np.asarray(np.eye(num_components, dtype=draws.start.dtype)[z])


def _ecr(gain: Float[np.ndarray, "S K K"], holds_data: Bool[np.ndarray, " K"]) -> Int[np.ndarray, "S K"]:
    """Assignments in which places without data get the memories that are left, the largest first."""
    permutations = assignments(gain)
    empty = np.flatnonzero(~holds_data)
    size = gain.sum(axis=1)  # rows of the pivot's table sum to one: the data that each memory of the draw explains
    for permutation, own in zip(permutations, size, strict=True):
        left = permutation[empty]
        permutation[empty] = left[np.argsort(-own[left], kind="stable")]
    return permutations


def _stephens(draws: LabelledDraws, max_rounds: int) -> Relabelling:
    q, losses = draws.start, []
    permutations = np.empty((0, 0), dtype=np.int64)
    for _ in range(max_rounds):
        gain = draws.overlap(np.log(np.maximum(q, np.finfo(q.dtype).tiny)))
        before, permutations = permutations, assignments(gain)
        losses.append(-float(np.take_along_axis(gain, permutations[:, :, None], axis=2).sum()))
        if np.array_equal(before, permutations):
            break
        q = draws.mean(permutations)
    return Relabelling(permutations, np.array(losses))
