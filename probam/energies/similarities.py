r"""Similarities and distances between a query and the memories: the first stage of a universal Hopfield network.

Each similarity is an object with a name, the domain of its vectors, a flag for distances
(:attr:`Similarity.is_distance`), and a method to compute all pairs without an array of shape (Q, K, D): by matrix
products where they exist, otherwise by blocks of memories. These are the functions in Table 2 of Millidge et al.
(2022), arXiv:2202.04557, with corrected signs and names (:data:`PRINTED` has the printed forms):

* the printed Euclidean distance is squared; both forms are here;
* the printed KL is minus the divergence, its reverse is plus the divergence; here both are divergences;
* the printed Jensen-Shannon divergence is half of Jeffreys' divergence; here are both Jeffreys' divergence and the
  Jensen-Shannon divergence (to the midpoint, at most log 2).

Squared distances and divergences expand into matrix products that cancel where a query is close to a memory. Pairs
whose value is below 1/64 of the terms are therefore computed again from their differences: the distance of a stored
vector from itself is exactly zero, and small distances keep their digits.

The normalised dot product and the divergences first divide vectors by their sums. A vector of zeros becomes the
uniform one, its limit. A KL divergence is infinite where the second vector has a zero that the first does not have;
``pseudocount`` (see :func:`smoothed`) adds a constant to the normalised entries and normalises again.

Queries have shape (..., D), memories (K, D), values (..., K). Vectors outside the domain raise
:class:`probam.errors.InputError` where values are known (outside ``jit``). Inside ``jit``, entries that are not all
zero but sum to zero give values that are not finite.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import xlogy
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Shaped

from probam.energies.arguments import is_traced, points
from probam.energies.wells import dot, mean_of
from probam.errors import InputError
from probam.placement import each

__all__ = ["PRINTED", "SIMILARITIES", "Domain", "Similarity", "similarity", "smoothed"]

Domain = Literal["real", "nonzero sum", "nonnegative", "binary"]
"""All of R^D; entries that do not sum to zero; entries of at least zero; entries in {0, 1} or in {-1, 1}."""

_CLOSE = 1 / 64
"""Fraction of the expanded terms below which a pair is computed again from its differences."""

_NEIGHBOURS = 4
"""Number of close memories per query up to which only these are computed again; with more, all pairs are."""

_AT_ONCE = 2**18
"""Largest number of entries in a block of memories with all queries (queries x block x D) on a CPU."""


class _Expanded(NamedTuple):
    """A value by matrix products and the size of the terms that were subtracted; None where nothing cancels."""

    value: Float[Array, "Q K"]
    terms: Float[Array, "Q K"] | None


@jax.tree_util.register_static
@dataclass(frozen=True)
class Similarity:
    """How similar a query and a memory are; calling it returns the values of all pairs."""

    name: str
    is_distance: bool
    """Whether small values mean similar; the value is then zero for equal vectors."""
    domain: Domain
    pairs: Callable[[Float[Array, "*batch D"], Float[Array, "*batch D"]], Float[Array, "*batch"]]
    """The definition for a query and a memory, with any axes before the last."""
    products: Callable[[Float[Array, "Q D"], Float[Array, "K D"]], _Expanded] | None = None
    """All pairs by matrix products; None where there is no such form."""
    finish: Callable[[Float[Array, "Q K"]], Float[Array, "Q K"]] | None = None
    """Function applied to all values at the end; None for no function."""
    sums_to_one: bool = False
    """Whether vectors are first divided by their sums."""
    pseudocount: float = 0.0
    """Added to every entry of a vector that sums to one."""

    def __call__(
        self, query: Shaped[ArrayLike, "*batch D"], memories: Shaped[ArrayLike, "K D"]
    ) -> Float[Array, "*batch K"]:
        """Value for each query and memory, with the sign that the name implies."""
        query, memories = self._prepared(query, memories)
        rows = query.reshape(-1, query.shape[-1])
        if self.products is None:
            values = _by_blocks(self.pairs, rows, memories)
        else:
            expanded = self.products(rows, memories)
            values = expanded.value if expanded.terms is None else _refined(self.pairs, expanded, rows, memories)
        if self.finish is not None:
            values = self.finish(values)
        return values.reshape(*query.shape[:-1], len(memories))

    def scores(
        self, query: Shaped[ArrayLike, "*batch D"], memories: Shaped[ArrayLike, "K D"]
    ) -> Float[Array, "*batch K"]:
        """The value, or minus the distance: larger means more similar."""
        values = self(query, memories)
        return -values if self.is_distance else values

    def _prepared(
        self, query: Shaped[ArrayLike, "*batch D"], memories: Shaped[ArrayLike, "K D"]
    ) -> tuple[Float[Array, "*batch D"], Float[Array, "K D"]]:
        query, memories = points(query, memories)
        _check_domain(self, query, memories)
        if not self.sums_to_one:
            return query, memories
        return _normalised(query, self.pseudocount), _normalised(memories, self.pseudocount)


def smoothed(kind: Similarity, pseudocount: float) -> Similarity:
    """The similarity of the smoothed vectors (x + c) / sum(x + c), where x sums to one and c is the pseudocount.

    Args:
        kind: a similarity of vectors that are divided by their sums.
        pseudocount: c, at least 0. It keeps a divergence finite where a vector has zeros; a larger one reduces the
            influence of small entries.

    Raises:
        InputError: for a negative pseudocount, and a similarity that does not divide vectors by their sums.
    """
    if not kind.sums_to_one:
        raise InputError(
            f"similarity: expected one that divides vectors by their sums, which smoothing needs; got {kind.name!r}"
        )
    if not 0 <= pseudocount < np.inf:
        raise InputError(f"pseudocount: expected a finite number of at least 0; got {pseudocount}")
    return replace(kind, pseudocount=float(pseudocount))


def similarity(name: str) -> Similarity:
    """The similarity with this name.

    >>> similarity("manhattan")(jnp.array([0.0, 1.0]), jnp.array([[1.0, 1.0], [3.0, -1.0]])).tolist()
    [1.0, 5.0]

    Raises:
        InputError: for a name that is not in :data:`SIMILARITIES`.
    """
    if name not in SIMILARITIES:
        raise InputError(f"similarity: expected one of {', '.join(SIMILARITIES)}; got {name!r}")
    return SIMILARITIES[name]


def _check_domain(kind: Similarity, query: Float[Array, "*batch D"], memories: Float[Array, "K D"]) -> None:
    for name, array in (("query", query), ("memories", memories)):
        if kind.domain == "real" or is_traced(array):
            continue
        known = np.asarray(array)
        if kind.domain == "nonnegative" and not (known >= 0).all():
            raise InputError(f"{name}: {kind.name} expects entries of at least 0; got {known[~(known >= 0)].flat[0]}")
        if kind.domain == "nonzero sum":
            undefined = (known.sum(axis=-1) == 0) & (known != 0).any(axis=-1)
            if undefined.any():
                raise InputError(
                    f"{name}: {kind.name} divides by the sum of the entries, which is 0 for {undefined.sum()} of "
                    f"{undefined.size} vectors; use 'cosine', which divides by the length"
                )
        if kind.domain == "binary" and not (np.isin(known, (0, 1)).all() or np.isin(known, (-1, 1)).all()):
            raise InputError(f"{name}: {kind.name} expects entries in {{0, 1}} or in {{-1, 1}}")
    if kind.domain == "binary" and not (is_traced(query) or is_traced(memories)):
        vectors = (np.asarray(query), np.asarray(memories))
        if any((part < 0).any() for part in vectors) and any((part == 0).any() for part in vectors):
            raise InputError(f"query: {kind.name} expects the same coding for queries and memories; got 0, 1 and -1, 1")


def _normalised(x: Float[Array, "*batch D"], pseudocount: float) -> Float[Array, "*batch D"]:
    """Rows over their sums; a row of zeros becomes uniform, the limit of equal small entries."""
    empty = jnp.all(x == 0, axis=-1, keepdims=True)
    x = jnp.where(empty, 1, x)
    x = x / jnp.sum(x, axis=-1, keepdims=True)
    return x if pseudocount == 0 else (x + pseudocount) / (1 + pseudocount * x.shape[-1])


# all pairs ----------------------------------------------------------------------------------------------------------


def _by_blocks(
    pairs: Callable[..., Float[Array, "..."]], rows: Float[Array, "Q D"], memories: Float[Array, "K D"]
) -> Float[Array, "Q K"]:
    """All pairs from their differences, by blocks of memories."""
    on_cpu = max(1, min(len(memories), _AT_ONCE // max(1, rows.size)))
    against = jax.checkpoint(lambda memory: pairs(rows, memory))  # derivatives recompute the differences
    columns: Array = each(against, memories, numbers=rows.size, on_cpu=on_cpu)
    return columns.T


def _refined(
    pairs: Callable[..., Float[Array, "..."]],
    expanded: _Expanded,
    rows: Float[Array, "Q D"],
    memories: Float[Array, "K D"],
) -> Float[Array, "Q K"]:
    """The expanded values, with close pairs replaced by their values from differences."""
    value, terms = expanded
    close = value <= _CLOSE * terms  # type: ignore[operator]
    value = jnp.where(close, 0, value)
    many = jnp.max(jnp.sum(close, axis=-1)) > min(_NEIGHBOURS, len(memories))

    def all_pairs() -> Float[Array, "Q K"]:
        return jnp.where(close, _by_blocks(pairs, rows, memories), value)

    def neighbours() -> Float[Array, "Q K"]:
        _, index = jax.lax.top_k(close.astype(rows.dtype), min(_NEIGHBOURS, len(memories)))
        direct = jnp.stack([pairs(rows, memories[index[:, n]]) for n in range(index.shape[1])], axis=-1)
        chosen = jnp.take_along_axis(close, index, axis=-1)
        row = jnp.arange(len(rows))[:, None]
        return value.at[row, index].add(jnp.where(chosen, direct, 0))

    refined: Array = jax.lax.cond(many, all_pairs, neighbours)
    return refined


# products and lengths -----------------------------------------------------------------------------------------------


def _dot_pairs(q: Float[Array, "*#batch D"], m: Float[Array, "*#batch D"]) -> Float[Array, "*batch"]:
    return jnp.sum(q * m, axis=-1)


def _dot_products(q: Float[Array, "Q D"], m: Float[Array, "K D"]) -> _Expanded:
    return _Expanded(dot(q, m.T), None)


def _unit(x: Float[Array, "*batch D"]) -> Float[Array, "*batch D"]:
    """Rows of length one; a row of zeros does not change, and has similarity 0 to all rows."""
    largest = jnp.max(jnp.abs(x), axis=-1, keepdims=True)
    x = x / jnp.where(largest > 0, largest, 1)
    square = jnp.sum(x**2, axis=-1, keepdims=True)
    return x / jnp.sqrt(jnp.where(square > 0, square, 1))


def _cosine_pairs(q: Float[Array, "*#batch D"], m: Float[Array, "*#batch D"]) -> Float[Array, "*batch"]:
    return _dot_pairs(_unit(q), _unit(m))


def _cosine_products(q: Float[Array, "Q D"], m: Float[Array, "K D"]) -> _Expanded:
    return _dot_products(_unit(q), _unit(m))


# distances ----------------------------------------------------------------------------------------------------------


def _square_pairs(q: Float[Array, "*#batch D"], m: Float[Array, "*#batch D"]) -> Float[Array, "*batch"]:
    return jnp.sum((q - m) ** 2, axis=-1)


def _square_products(q: Float[Array, "Q D"], m: Float[Array, "K D"]) -> _Expanded:
    origin = mean_of(m)
    q, m = q - origin, m - origin
    terms = jnp.sum(q**2, axis=-1)[:, None] + jnp.sum(m**2, axis=-1)
    return _Expanded(terms - 2 * dot(q, m.T), terms)


def _root(square: Float[Array, "Q K"]) -> Float[Array, "Q K"]:
    """Square root whose derivative at zero is zero."""
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)


def _manhattan_pairs(q: Float[Array, "*#batch D"], m: Float[Array, "*#batch D"]) -> Float[Array, "*batch"]:
    return jnp.sum(jnp.abs(q - m), axis=-1)


def _hamming_pairs(q: Float[Array, "*#batch D"], m: Float[Array, "*#batch D"]) -> Float[Array, "*batch"]:
    return jnp.sum((q > 0) != (m > 0), axis=-1).astype(q.dtype)


def _hamming_products(q: Float[Array, "Q D"], m: Float[Array, "K D"]) -> _Expanded:
    """|a| + |b| - 2 a.b of bits: whole numbers, exact up to 2^24 dimensions even in float32."""
    a, b = (q > 0).astype(q.dtype), (m > 0).astype(m.dtype)
    return _Expanded(jnp.sum(a, axis=-1)[:, None] + jnp.sum(b, axis=-1) - 2 * dot(a, b.T), None)


# divergences of vectors that sum to one -----------------------------------------------------------------------------


def _safe_log(x: Float[Array, "..."]) -> Float[Array, "..."]:
    return jnp.log(jnp.where(x > 0, x, 1))


def _divergence(p: Float[Array, "*#batch D"], r: Float[Array, "*#batch D"]) -> Float[Array, "*batch"]:
    """Sum of p log(p / r) - p + r, whose terms are never negative.

    The log is that of one plus the relative difference, so that close vectors keep their digits.
    """
    both = (p > 0) & (r > 0)
    gap = p - r
    ratio = jnp.where(gap < 0, -gap, gap) / jnp.where(both, jnp.where(gap < 0, p, r), 1)
    log_ratio = jnp.where(gap < 0, -1, 1) * jnp.log1p(jnp.minimum(ratio, float(np.finfo(p.dtype).max)))
    term = jnp.where(both, p * log_ratio, 0) - gap
    return jnp.sum(jnp.where((p > 0) & (r == 0), jnp.inf, jnp.maximum(term, 0)), axis=-1)


def _divergence_products(p: Float[Array, "Q D"], r: Float[Array, "K D"]) -> _Expanded:
    entropy = -jnp.sum(xlogy(p, jnp.where(p > 0, p, 1)), axis=-1)[:, None]
    cross = -dot(p, _safe_log(r).T)
    outside = dot((p > 0).astype(p.dtype), (r == 0).astype(p.dtype).T) > 0
    return _Expanded(jnp.where(outside, jnp.inf, cross - entropy), entropy + cross)


def _reverse_pairs(q: Float[Array, "*#batch D"], m: Float[Array, "*#batch D"]) -> Float[Array, "*batch"]:
    return _divergence(m, q)


def _reverse_products(q: Float[Array, "Q D"], m: Float[Array, "K D"]) -> _Expanded:
    value, terms = _divergence_products(m, q)
    return _Expanded(value.T, terms.T)  # type: ignore[union-attr]


def _jeffreys_pairs(q: Float[Array, "*#batch D"], m: Float[Array, "*#batch D"]) -> Float[Array, "*batch"]:
    return _divergence(q, m) + _divergence(m, q)


def _jeffreys_products(q: Float[Array, "Q D"], m: Float[Array, "K D"]) -> _Expanded:
    there, back = _divergence_products(q, m), _reverse_products(q, m)
    return _Expanded(there.value + back.value, there.terms + back.terms)  # type: ignore[operator]


def _jensen_shannon_pairs(q: Float[Array, "*#batch D"], m: Float[Array, "*#batch D"]) -> Float[Array, "*batch"]:
    midpoint = (q + m) / 2
    return (_divergence(q, midpoint) + _divergence(m, midpoint)) / 2


SIMILARITIES: Mapping[str, Similarity] = MappingProxyType(
    {
        one.name: one
        for one in (
            Similarity("dot", False, "real", _dot_pairs, _dot_products),
            Similarity("normalised dot", False, "nonzero sum", _dot_pairs, _dot_products, sums_to_one=True),
            Similarity("cosine", False, "real", _cosine_pairs, _cosine_products),
            Similarity("squared euclidean", True, "real", _square_pairs, _square_products),
            Similarity("euclidean", True, "real", _square_pairs, _square_products, finish=_root),
            Similarity("manhattan", True, "real", _manhattan_pairs),
            Similarity("hamming", True, "binary", _hamming_pairs, _hamming_products),
            Similarity("kl", True, "nonnegative", _divergence, _divergence_products, sums_to_one=True),
            Similarity("reverse kl", True, "nonnegative", _reverse_pairs, _reverse_products, sums_to_one=True),
            Similarity("jeffreys", True, "nonnegative", _jeffreys_pairs, _jeffreys_products, sums_to_one=True),
            Similarity("jensen-shannon", True, "nonnegative", _jensen_shannon_pairs, sums_to_one=True),
        )
    }
)
"""By name: ``kl`` is KL(query || memory), ``reverse kl`` is KL(memory || query), ``jeffreys`` is their sum."""


# Table 2 as printed -------------------------------------------------------------------------------------------------


def _printed(definition: Callable[[Array, Array], Array]) -> Callable[[ArrayLike, ArrayLike], Array]:
    def values(query: ArrayLike, memories: ArrayLike) -> Array:
        rows, bank = points(query, memories)
        return definition(rows[..., None, :], bank)

    return values


PRINTED: Mapping[str, Callable[[ArrayLike, ArrayLike], Array]] = MappingProxyType(
    {
        "euclidean": _printed(lambda q, M: jnp.sum((M - q) ** 2, axis=-1)),
        "manhattan": _printed(lambda q, M: jnp.sum(jnp.abs(M - q), axis=-1)),
        "dot": _printed(lambda q, M: jnp.sum(M * q, axis=-1)),
        "kl": _printed(lambda q, M: jnp.sum(q * jnp.log(M / q), axis=-1)),
        "reverse kl": _printed(lambda q, M: jnp.sum(M * jnp.log(M / q), axis=-1)),
        "jensen-shannon": _printed(
            lambda q, M: jnp.sum(M * jnp.log(M / q), axis=-1) / 2 + jnp.sum(q * jnp.log(q / M), axis=-1) / 2
        ),
    }
)
"""Table 2 of Millidge et al. (2022) exactly as printed, for comparison, by a (..., K, D) broadcast."""
