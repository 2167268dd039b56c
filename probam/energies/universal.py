r"""Universal Hopfield networks: similarity, separation, projection.

.. math:: z = P^\top \operatorname{sep}(\operatorname{sim}(M, q))

Millidge et al. (2022), arXiv:2202.04557, with memories as the rows of M, (K, D), and of P, (K, O): row k of P is the
output of memory k. P = M (the default) is autoassociation, any other P heteroassociation. The weights do not depend on
P, so the capacity does not either where they are nearly one-hot. Any :class:`probam.energies.similarities.Similarity`
can be combined with any separation of :mod:`probam.energies.separations`, in two ways:

natural
    the scores are the similarity, or minus the distance, and the separation is applied without normalisation;
normalised (``normalised=True``, Appendix E)
    similarities are divided by their sum, distances are replaced by their reciprocals divided by the sum of these, and
    the separated scores are divided by their sum again.

Limits of the normalised form: a memory at distance zero has the whole weight, and several share it equally; so do all
memories where all distances are infinite or all similarities zero. Other similarities with a sum of zero have no limit
and raise :class:`probam.errors.InputError` (inside ``jit`` the result is not finite).

In the normalised form softmax is not the posterior of any mixture (the odds of two memories depend on the others), its
largest weight is at most e^beta / (e^beta + K - 1), and log separation reverses the ranking.

:func:`energy` belongs to the natural softmax of a similarity. All functions take queries of shape (..., D). ``kind`` is
a similarity or the name of one (see :data:`probam.energies.similarities.SIMILARITIES`).
"""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Shaped

from probam.energies import separations, similarities
from probam.energies.arguments import Scalar, is_traced, positive
from probam.energies.memory import REAL, Card, Memory, checked_patterns, sharpness
from probam.energies.separations import Separation, sum_to_one
from probam.energies.similarities import Similarity, similarity
from probam.energies.wells import dot
from probam.errors import InputError
from probam.pytrees import pytree

__all__ = [
    "Universal",
    "energy",
    "normalised_scores",
    "reciprocal_shares",
    "retrieve",
    "retrieve_as_printed",
    "scores",
    "separated",
    "weights",
]


def scores(
    query: Shaped[ArrayLike, "*batch D"], memories: Shaped[ArrayLike, "K D"], kind: Similarity | str
) -> Float[Array, "*batch K"]:
    """Natural scores: the similarity, or minus the distance."""
    return _named(kind).scores(query, memories)


def reciprocal_shares(distances: Float[Array, "*batch K"]) -> Float[Array, "*batch K"]:
    r"""Reciprocal distances divided by their sum, \(d_k^{-1} / \sum_j d_j^{-1}\), including the limits.

    Memories at distance zero share the whole equally. Memories at an infinite distance get nothing, unless all are.

    >>> reciprocal_shares(jnp.array([1.0, 3.0, jnp.inf])).tolist()
    [0.75, 0.25, 0.0]
    """
    least = jax.lax.stop_gradient(jnp.min(distances, axis=-1, keepdims=True))
    zero = distances == 0
    infinite = jnp.isinf(distances)
    ordinary = jnp.where(zero | infinite, 1, distances)
    ratio = jnp.where(zero, 1.0, jnp.where(infinite, 0.0, jnp.where(jnp.isinf(least), 1, least) / ordinary))
    return sum_to_one(ratio)


def normalised_scores(
    query: Shaped[ArrayLike, "*batch D"], memories: Shaped[ArrayLike, "K D"], kind: Similarity | str
) -> Float[Array, "*batch K"]:
    """Scores of Appendix E: similarities or reciprocal distances, divided by their sum.

    Raises:
        InputError: where similarities that are not all zero sum to zero.
    """
    kind = _named(kind)
    return _appendix_e(kind(query, memories), kind.is_distance)


def weights(
    query: Shaped[ArrayLike, "*batch D"],
    memories: Shaped[ArrayLike, "K D"],
    kind: Similarity | str,
    separation: Separation,
    *,
    normalised: bool = False,
) -> Float[Array, "*batch K"]:
    """Weight of each memory: sep(sim(M, q)), with the two normalisations of Appendix E if ``normalised``."""
    kind = _named(kind)
    return separated(kind(query, memories), separation, is_distance=kind.is_distance, normalised=normalised)


def separated(
    values: Float[Array, "*batch K"], separation: Separation, *, is_distance: bool, normalised: bool = False
) -> Float[Array, "*batch K"]:
    """Weights from similarities or distances that are already computed.

    Args:
        values: similarities or distances.
        separation: the separation.
        is_distance: whether ``values`` are distances.
        normalised: whether to apply the two normalisations of Appendix E.
    """
    if normalised:
        return _defined(separation.shares(_appendix_e(values, is_distance)), "separated scores")
    return separation(-values if is_distance else values)


def retrieve(
    query: Shaped[ArrayLike, "*batch D"],
    memories: Shaped[ArrayLike, "K D"],
    kind: Similarity | str,
    separation: Separation,
    *,
    projection: Shaped[ArrayLike, "K O"] | None = None,
    normalised: bool = False,
) -> Float[Array, "*batch O"]:
    r"""Output of the network after one step, \(z = P^\top \operatorname{sep}(\operatorname{sim}(M, q))\).

    The classical network is ``sign(retrieve(q, M, "dot", Identity()))``.

    >>> from probam.energies.separations import Softmax
    >>> memories = jnp.array([[0.0, 1.0], [4.0, 0.0]])
    >>> retrieve(jnp.array([3.0, 1.0]), memories, "manhattan", Softmax(20.0)).round(3).tolist()
    [4.0, 0.0]

    Args:
        query: points of R^D.
        memories: one memory in each row.
        kind: a similarity, or its name.
        separation: the separation.
        projection: P, one row for each memory; None means the memories themselves.
        normalised: whether to apply the two normalisations of Appendix E.

    Raises:
        InputError: for an unknown name, vectors outside the similarity's domain, and a projection with another number
            of rows than memories.
    """
    share = weights(query, memories, kind, separation, normalised=normalised)
    return dot(share, _rows(memories if projection is None else projection, share))


def energy(
    query: Shaped[ArrayLike, "*batch D"], memories: Shaped[ArrayLike, "K D"], kind: Similarity | str, beta: Scalar
) -> Float[Array, "*batch"]:
    r"""Energy whose well depths are the natural scores.

    .. math:: E(q) = -\frac{1}{\beta} \log \sum_k \exp(\beta s_k(q))

    The term |q|^2 / 2 of the paper's energy is left out. It belongs to the dot product alone
    (:mod:`probam.energies.continuous_hopfield`); with a distance it would shift the minima from the memories towards
    the origin. The squared Euclidean distance gives :mod:`probam.energies.clam`.

    Args:
        query, memories, kind: as for :func:`retrieve`.
        beta: inverse temperature, above 0.
    """
    natural_scores = scores(query, memories, kind)
    beta = positive("beta", beta, natural_scores.dtype)
    return -logsumexp(beta * natural_scores, axis=-1) / beta


def retrieve_as_printed(
    query: Shaped[ArrayLike, "*batch D"],
    memories: Shaped[ArrayLike, "K D"],
    kind: str,
    separation: str,
    parameter: float = 1.0,
    *,
    projection: Shaped[ArrayLike, "K O"] | None = None,
) -> Float[Array, "*batch O"]:
    """Tables 2 and 3 exactly as printed, z = P^T sep(sim(M, q)): for comparison only.

    The tables print squared distances as similarities, divergences of both signs, max(x) for one-hot and logs of zero,
    so the result may be infinite or NaN.

    Args:
        query, memories, projection: as for :func:`retrieve`.
        kind: a name of Table 2.
        separation: a name of Table 3.
        parameter: n or beta of the separation.

    Raises:
        InputError: for names that are not in the tables.
    """
    for argument, name, known in (
        ("kind", kind, similarities.PRINTED),
        ("separation", separation, separations.PRINTED),
    ):
        if name not in known:
            raise InputError(f"{argument}: expected one of {', '.join(known)}; got {name!r}")
    share = separations.PRINTED[separation](similarities.PRINTED[kind](query, memories), parameter)
    return dot(share, _rows(memories if projection is None else projection, share))


def _appendix_e(values: Float[Array, "*batch K"], is_distance: bool) -> Float[Array, "*batch K"]:
    return reciprocal_shares(values) if is_distance else _defined(sum_to_one(values), "similarities")


def _named(kind: Similarity | str) -> Similarity:
    return similarity(kind) if isinstance(kind, str) else kind


def _rows(projection: Shaped[ArrayLike, "K O"], share: Float[Array, "*batch K"]) -> Float[Array, "K O"]:
    rows = jnp.asarray(projection, share.dtype)
    if rows.ndim != 2 or len(rows) != share.shape[-1]:
        raise InputError(f"projection: expected one row for each of the {share.shape[-1]} memories; got {rows.shape}")
    return rows


def _defined(share: Float[Array, "*batch K"], what: str) -> Float[Array, "*batch K"]:
    """The shares; an error where a sum was zero."""
    if not is_traced(share):
        lost = ~np.isfinite(np.asarray(share)).all(axis=-1)
        if lost.any():
            raise InputError(
                f"query: {what} sum to 0 for {lost.sum()} of {lost.size} queries, and Appendix E divides by that sum; "
                "use natural scores, a distance, or data of one sign"
            )
    return share


@pytree
@dataclass(frozen=True, eq=False)
class Universal(Memory):
    r"""The universal Hopfield network: any similarity, a softmax, and a projection.

    Choose the similarity that the data call for: the Manhattan distance withstands outliers, Kullback-Leibler
    divergences compare distributions. :func:`retrieve` has the other separations and other outputs than the memories.

    .. math:: z = \Xi^\top \operatorname{softmax}(\beta\, \operatorname{sim}(\Xi, q)), \qquad
        E(q) = -\frac{1}{\beta} \log \sum_k \exp(\beta s_k(q))

    >>> memory = Universal(jnp.array([[0.0, 0.0], [4.0, 1.0]]), "manhattan", beta=1.0)
    >>> recalled = memory.update(jnp.array([3.0, 1.0]))
    >>> round(recalled[0].item(), 3)  # the distances are 4 and 1: softmax(-4, -1)
    3.81
    """

    memories: Float[ArrayLike, "K D"]
    similarity: str = field(metadata={"static": True})
    beta: Scalar

    card = Card(
        "universal",
        REAL,
        "-(1/beta) log sum_k exp(beta s_k(q)), s the similarity or minus the distance",
        "mean of the memories under the softmax of beta s_k(q)",
        "depends on similarity and separation; largest for Manhattan distances on images",
        "Millidge et al. (2022), arXiv:2202.04557",
        "universal_hopfield",
    )

    @property
    def falls(self) -> bool:
        """True for the squared Euclidean distance, whose update is that of CLAM."""
        return self.similarity == "squared euclidean"

    def energy(self, states: Shaped[ArrayLike, "*batch D"]) -> Float[Array, "*batch"]:
        """:func:`energy`."""
        return energy(states, self.memories, self.similarity, self.beta)

    def update(self, states: Shaped[ArrayLike, "*batch D"]) -> Float[Array, "*batch D"]:
        """:func:`retrieve`, by a softmax."""
        return retrieve(states, self.memories, self.similarity, separations.Softmax(self.beta))

    @classmethod
    def store(
        cls, patterns: Float[ArrayLike, "K D"], *, similarity: str = "manhattan", beta: float | None = None
    ) -> "Universal":
        """A memory of these patterns; None for ``beta`` tells them apart by their Euclidean distances."""
        patterns = checked_patterns(patterns, REAL)
        squared = similarity in ("squared euclidean", "dot")
        _named(similarity)
        return cls(patterns, similarity, sharpness(patterns, beta, power=2 if squared else 1))
