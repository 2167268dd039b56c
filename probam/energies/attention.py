r"""Attention behind a normalisation, and the untied layer whose concentrations and mixing weights are free.

.. math::
    \hat x = \frac{x - \bar x}{\sqrt{\operatorname{var} x + \epsilon}}, \qquad
    q = W_Q(\gamma \odot \hat x + \delta) + b_Q, \qquad k_i = W_K y_i + b_K, \qquad
    z = \sum_i \operatorname{softmax}_i\!\Bigl(\frac{k_i \cdot q}{\sqrt{d_{\rm head}}}\Bigr) (W_V u_i + b_V)

Ba et al. (2016), arXiv:1607.06450, for the layer norm (the variance divides by D); Zhang and Sennrich (2019),
arXiv:1910.07467, for the root mean square in its place; Schaeffer et al. (2023), Sec. 4, for attention behind it. The
energy of a query is \(E(x) = -\log \sum_i \exp(\text{logit}_i)\), in nats.

Schaeffer et al. observe that concentrations and mixing weights are both functions of the key, "whereas one might want
them to be independent". :class:`Untied` is that layer: it attends to *directions*,

.. math:: \text{logit}_i = \kappa_i\, \frac{k_i \cdot q}{|k_i| |q|} + \log w_i

with \(\kappa_i, w_i\) free, under the same signature ``attend(params, queries, keys, values)``.

Matrices are stored as (out, in), as ``torch.nn.Linear`` does. Queries have shape (..., N, D), keys (..., K, E), values
(..., K, V) with the leading axes (batch, heads) broadcast. Shapes that do not fit raise
:class:`probam.errors.InputError`.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float

from probam.energies.arguments import Scalar
from probam.energies.memory import REAL, Card, Memory, checked_patterns, sharpness
from probam.energies.spherical import retract
from probam.energies.wells import shares
from probam.errors import InputError
from probam.pytrees import pytree

__all__ = [
    "Attention",
    "Head",
    "LayerNorm",
    "RMSNorm",
    "Readout",
    "Untied",
    "attend",
    "attention_weights",
    "energy",
    "logits",
    "normalize",
    "read_out",
    "untie",
]


class LayerNorm(NamedTuple):
    r"""\(\gamma \odot (x - \bar x) / \sqrt{\operatorname{var} x + \epsilon} + \delta\)."""

    gamma: Scalar | Float[ArrayLike, " D"] = 1.0
    delta: Scalar | Float[ArrayLike, " D"] = 0.0
    epsilon: Scalar = 1e-5


class RMSNorm(NamedTuple):
    r"""\(\gamma \odot x / \sqrt{\overline{x^2} + \epsilon} + \delta\): no mean is removed."""

    gamma: Scalar | Float[ArrayLike, " D"] = 1.0
    delta: Scalar | Float[ArrayLike, " D"] = 0.0
    epsilon: Scalar = 1e-5


class Head(NamedTuple):
    r"""One head of attention.

    The paper's \(z = V \sigma(K q)\) has ``scale=1.0`` and no projections.

    Args:
        norm: the normalisation applied to the queries.
        query_projection, key_projection, value_projection: matrices (out, in); None is the identity.
        query_bias, key_bias, value_bias: added after the projection; None is zero.
        scale: factor of the dot products; None means \(1 / \sqrt{d_{\rm head}}\), where \(d_{\rm head}\) is the length
            of a projected query.
    """

    norm: LayerNorm | RMSNorm
    query_projection: Float[ArrayLike, "H D"] | None = None
    key_projection: Float[ArrayLike, "H E"] | None = None
    value_projection: Float[ArrayLike, "V E"] | None = None
    query_bias: Float[ArrayLike, " H"] | None = None
    key_bias: Float[ArrayLike, " H"] | None = None
    value_bias: Float[ArrayLike, " V"] | None = None
    scale: Scalar | None = None


class Untied(NamedTuple):
    """Logs of the concentrations and of the mixing weights, one for each key or one for all keys.

    The weights need not sum to one. Leading axes broadcast with those of the keys.
    """

    log_concentrations: Scalar | Float[ArrayLike, "*batch K"]
    log_weights: Scalar | Float[ArrayLike, "*batch K"]


class Readout(NamedTuple):
    r"""Parameters of an untied layer for keys that come with the sequence: two separate linear functions of the key.

    .. math:: \log \kappa_i = \log |k_i| + a + c \cdot k_i, \qquad \log w_i = m \cdot k_i

    With \(c = m = 0\) and \(a = \log(R / \sqrt{H})\) it is scaled dot-product attention for queries of length R.
    """

    log_scale: Scalar
    concentration: Float[ArrayLike, " H"]
    mixing: Float[ArrayLike, " H"]


def normalize(norm: LayerNorm | RMSNorm, x: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch D"]:
    r"""The normalised, scaled and shifted input.

    Before \(\gamma\) and \(\delta\) are applied its length is \(\sqrt{D}\sqrt{v / (v + \epsilon)}\), where v is the
    variance (for RMSNorm, the mean square). An input with v = 0 has no direction and gives \(\delta\), even for
    \(\epsilon = 0\).

    >>> [round(x, 3) for x in normalize(LayerNorm(epsilon=0.0), jnp.array([1.0, 2.0, 3.0])).tolist()]
    [-1.225, 0.0, 1.225]

    Raises:
        InputError: when gamma or delta is neither a number nor one number for each feature.
    """
    x = _floating("x", x)
    if isinstance(norm, LayerNorm):
        x = x - jnp.mean(x, axis=-1, keepdims=True)
    square = jnp.mean(x**2, axis=-1, keepdims=True) + jnp.asarray(norm.epsilon, x.dtype)
    unit = x / jnp.sqrt(jnp.where(square > 0, square, 1))
    return _per_feature("gamma", norm.gamma, x) * unit + _per_feature("delta", norm.delta, x)


def logits(
    params: Head | Untied, queries: Float[ArrayLike, "*batch N D"], keys: Float[ArrayLike, "*batch K E"]
) -> Float[Array, "*batch N K"]:
    """Logit of every key for every query.

    Args:
        params: a :class:`Head`, or an :class:`Untied` layer, for which only directions count; a query or key of
            length zero has no direction and a dot product of 0.
        queries: for a head, the inputs of its normalisation.
        keys: for a head, the inputs of its key projection (in self-attention, the normalised tokens).

    Raises:
        InputError: for shapes that do not fit.
    """
    queries, keys = _floating("queries", queries), _rows("keys", keys)
    dtype = jnp.result_type(queries, keys)
    if isinstance(params, Untied):
        products = _products(retract(queries.astype(dtype)), retract(keys.astype(dtype)))
        concentrations = jnp.exp(jnp.asarray(params.log_concentrations, dtype))
        return products * _per_key("log_concentrations", concentrations, keys) + _per_key(
            "log_weights", jnp.asarray(params.log_weights, dtype), keys
        )
    normed = normalize(params.norm, queries.astype(dtype))
    projected = _project("query", normed, params.query_projection, params.query_bias)
    stored = _project("key", keys.astype(dtype), params.key_projection, params.key_bias)
    return _scale(params, projected) * _products(projected, stored)


def attention_weights(
    params: Head | Untied,
    queries: Float[ArrayLike, "*batch N D"],
    keys: Float[ArrayLike, "*batch K E"],
    mask: Bool[ArrayLike, "*batch N K"] | None = None,
) -> Float[Array, "*batch N K"]:
    """Softmax of the logits over the keys that a query may see.

    Args:
        params, queries, keys: as for :func:`logits`.
        mask: True where a query sees a key; None lets every query see all keys. A query that sees no key gets
            weights of zero.

    Raises:
        InputError: for shapes that do not fit.
    """
    seen, any_seen = _masked(logits(params, queries, keys), mask)
    return jnp.where(any_seen[..., None], shares(jnp.where(any_seen[..., None], seen, 0)), 0)


def attend(
    params: Head | Untied,
    queries: Float[ArrayLike, "*batch N D"],
    keys: Float[ArrayLike, "*batch K E"],
    values: Float[ArrayLike, "*batch K V"],
    mask: Bool[ArrayLike, "*batch N K"] | None = None,
) -> Float[Array, "*batch N O"]:
    """Mean of the values under the attention weights: the mean of the value given the query.

    >>> head = Head(LayerNorm(), scale=4.0)
    >>> keys, values = jnp.array([[1.0, -1.0], [-1.0, 1.0]]), jnp.array([[10.0], [20.0]])
    >>> attend(head, jnp.array([[3.0, 1.0]]), keys, values).round(2).tolist()  # the query is along the first key
    [[10.0]]

    Args:
        params, queries, keys, mask: as for :func:`attention_weights`.
        values: one row for each key; for a head, the inputs of its value projection.

    Raises:
        InputError: for shapes that do not fit.
    """
    weights = attention_weights(params, queries, keys, mask)
    rows = _rows("values", values).astype(weights.dtype)
    if isinstance(params, Head):
        rows = _project("value", rows, params.value_projection, params.value_bias)
    if rows.shape[-2] != weights.shape[-1]:
        raise InputError(f"values: expected one row for each of the {weights.shape[-1]} keys; got shape {rows.shape}")
    return jnp.matmul(weights, rows, precision="highest")


def energy(
    params: Head | Untied,
    queries: Float[ArrayLike, "*batch N D"],
    keys: Float[ArrayLike, "*batch K E"],
    mask: Bool[ArrayLike, "*batch N K"] | None = None,
) -> Float[Array, "*batch N"]:
    r"""Energy of each query, in nats: \(E(x) = -\log \sum_i \exp(\text{logit}_i(x))\).

    It is infinite for a query that sees no key. Arguments and errors are those of :func:`attention_weights`.
    """
    seen, any_seen = _masked(logits(params, queries, keys), mask)
    return jnp.where(any_seen, -logsumexp(jnp.where(any_seen[..., None], seen, 0), axis=-1), jnp.inf)


def untie(head: Head, keys: Float[ArrayLike, "K E"]) -> tuple[Untied, Float[Array, "K D"]]:
    r"""The untied layer that is equivalent to a head, and the directions that it attends to.

    .. math::
        \kappa_i = \sqrt{D}\, |g_i|, \quad \log w_i = a_i \cdot \delta + s\, k_i \cdot b_Q, \quad
        g_i = P(\gamma \odot a_i), \quad a_i = s\, W_Q^\top k_i

    where s is the scale and P removes the mean (for RMSNorm, P is the identity). The queries of the layer are the
    normalised inputs before gamma and delta, ``normalize(LayerNorm(), x)``. At epsilon = 0 its attention weights are
    those of the head; for epsilon > 0 the head's concentrations are smaller by \(\sqrt{v / (v + \epsilon)}\), which
    depends on the query.
    """
    stored = _project("key", _rows("keys", keys), head.key_projection, head.key_bias)
    scaled = _scale(head, stored) * stored
    slopes = scaled
    if head.query_projection is not None:
        slopes = jnp.matmul(scaled, jnp.asarray(head.query_projection, scaled.dtype), precision="highest")
    log_weights = jnp.sum(slopes * _per_feature("delta", head.norm.delta, slopes), axis=-1)
    if head.query_bias is not None:
        log_weights += jnp.sum(scaled * jnp.asarray(head.query_bias, scaled.dtype), axis=-1)
    slopes = _per_feature("gamma", head.norm.gamma, slopes) * slopes
    if isinstance(head.norm, LayerNorm):
        slopes = slopes - jnp.mean(slopes, axis=-1, keepdims=True)
    return Untied(_log_length(slopes) + 0.5 * math.log(slopes.shape[-1]), log_weights), slopes


def read_out(params: Readout, keys: Float[ArrayLike, "*batch K H"]) -> Untied:
    """Concentrations and mixing weights of these keys. A key of length zero gets concentration zero."""
    keys = _rows("keys", keys)
    bends = [
        _products(keys, _per_feature(name, value, keys, number=False)[None, :])[..., 0]
        for name, value in (("concentration", params.concentration), ("mixing", params.mixing))
    ]
    return Untied(_log_length(keys) + jnp.asarray(params.log_scale, keys.dtype) + bends[0], bends[1])


def _log_length(rows: Float[Array, "*batch D"]) -> Float[Array, "*batch"]:
    """Log of the length, -inf with a zero derivative where it is zero."""
    square = jnp.sum(rows**2, axis=-1)
    return jnp.where(square > 0, 0.5 * jnp.log(jnp.where(square > 0, square, 1)), -jnp.inf)


def _scale(head: Head, projected: Float[Array, "*batch H"]) -> Float[Array, ""]:
    scale = projected.shape[-1] ** -0.5 if head.scale is None else head.scale
    return jnp.asarray(scale, projected.dtype)


def _products(queries: Float[Array, "*#batch N H"], keys: Float[Array, "*#batch K H"]) -> Float[Array, "*batch N K"]:
    if queries.shape[-1] != keys.shape[-1]:
        raise InputError(
            f"keys: expected as many features as the queries have, {queries.shape[-1]}; got shape {keys.shape}"
        )
    return jnp.matmul(queries, jnp.swapaxes(keys, -1, -2), precision="highest")


def _project(
    name: str,
    rows: Float[Array, "*batch E"],
    matrix: Float[ArrayLike, "H E"] | None,
    bias: Float[ArrayLike, " H"] | None,
) -> Float[Array, "*batch H"]:
    if matrix is not None:
        matrix = jnp.asarray(matrix, rows.dtype)
        if matrix.ndim != 2 or matrix.shape[1] != rows.shape[-1]:
            raise InputError(
                f"{name}_projection: expected a matrix (out, {rows.shape[-1]}), as torch.nn.Linear stores it; "
                f"got shape {matrix.shape}"
            )
        rows = jnp.matmul(rows, matrix.T, precision="highest")
    return rows if bias is None else rows + _per_feature(f"{name}_bias", bias, rows, number=False)


def _masked(
    values: Float[Array, "*batch N K"], mask: Bool[ArrayLike, "*batch N K"] | None
) -> tuple[Float[Array, "*batch N K"], Bool[Array, "*batch N"]]:
    """Logits with -inf where the mask hides a key, and which queries see any key."""
    if mask is not None:
        try:
            values = jnp.where(mask, values, -jnp.inf)
        except ValueError:
            raise InputError(
                f"mask: expected a shape that broadcasts with (queries, keys) = {values.shape}; got {jnp.shape(mask)}"
            ) from None
    return values, jnp.logical_not(jnp.all(jnp.isneginf(values), axis=-1))


def _floating(name: str, rows: ArrayLike) -> Float[Array, "*batch D"]:
    array = jnp.asarray(rows)
    if array.ndim == 0:
        raise InputError(f"{name}: expected an array with features in its last axis; got a number")
    return array.astype(jnp.result_type(array, float))


def _rows(name: str, rows: ArrayLike) -> Float[Array, "*batch K D"]:
    array = _floating(name, rows)
    if array.ndim < 2 or array.shape[-2] == 0:
        raise InputError(f"{name}: expected shape (..., K, D) with K >= 1 rows; got {array.shape}")
    return array


def _per_feature(name: str, value: ArrayLike, rows: Float[Array, "*batch D"], *, number: bool = True) -> Array:
    array = jnp.asarray(value, rows.dtype)
    if array.shape != rows.shape[-1:] and not (number and array.ndim == 0):
        either = "a number or " if number else ""
        raise InputError(f"{name}: expected {either}one for each of the {rows.shape[-1]} features; got {array.shape}")
    return array


def _per_key(name: str, values: Array, keys: Float[Array, "*batch K H"]) -> Array:
    """Values with an axis for the queries; a number stands for all keys."""
    if values.ndim == 0:
        return values
    if values.shape[-1] != keys.shape[-2]:
        raise InputError(f"{name}: expected one for each of the {keys.shape[-2]} keys; got shape {values.shape}")
    return values[..., None, :]


@pytree
@dataclass(frozen=True, eq=False)
class Attention(Memory):
    r"""Attention behind a layer norm, as a memory of its keys.

    What one head of a transformer stores: the keys, which are values as well. Only the direction of a query counts,
    after its mean is taken away.

    .. math:: E(x) = -\log \sum_i \exp(s\, k_i \cdot \operatorname{norm}(x)), \qquad
        x \leftarrow \sum_i \operatorname{softmax}_i(s\, k_i \cdot \operatorname{norm}(x))\, k_i

    >>> memory = Attention(Head(LayerNorm(), scale=4.0), jnp.array([[1.0, -1.0, 0.0], [0.0, -1.0, 1.0]]))
    >>> recalled = memory.update(jnp.array([5.0, 1.0, 2.0]))
    >>> round(recalled[0].item(), 3)
    0.999
    """

    head: Head
    keys: Float[ArrayLike, "K D"]

    card = Card(
        "attention",
        REAL,
        "-log sum_i exp(s k_i . norm(x))",
        "mean of the keys under the attention weights",
        "exponential in D for keys in different directions",
        "Ba et al. (2016), arXiv:1607.06450; Schaeffer et al. (2023), Sec. 4",
    )
    bank = "keys"
    falls = False

    def energy(self, states: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch"]:
        """:func:`energy`."""
        rows = jnp.asarray(states)
        return energy(self.head, rows.reshape(-1, rows.shape[-1]), self.keys).reshape(rows.shape[:-1])

    def update(self, states: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch D"]:
        """:func:`attend`, with the keys as values."""
        rows = jnp.asarray(states)
        return attend(self.head, rows.reshape(-1, rows.shape[-1]), self.keys, self.keys).reshape(rows.shape)

    @classmethod
    def store(cls, patterns: Float[ArrayLike, "K D"], *, scale: float | None = None) -> "Attention":
        """A head behind a layer norm with these keys; None for ``scale`` tells keys of equal length apart."""
        keys = checked_patterns(patterns, REAL)
        if scale is None:
            length = float(jnp.mean(jnp.linalg.norm(keys, axis=-1)))
            scale = sharpness(keys, None, "dot") * length / keys.shape[1] ** 0.5
        return cls(Head(LayerNorm(), scale=scale), keys)
