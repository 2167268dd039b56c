"""The rows that closed-form EM sums over: weighted, grouped by what is missing, spread over devices.

Rows of weight zero are left out, so that they do not change any start, origin or width. Where a family integrates
missing entries out pattern by pattern, rows that lack the same features form groups of one shape, filled up with copies
of weight zero. Few rows are filled up with such copies too, so that a few more or less are no other program. Each
device has its own rows and sums over them; the first device adds the sums. No collective operation is needed, so that
none can wait for a device that a busy machine does not serve.
"""

from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from probam.compiled import filled_number, is_small
from probam.errors import InputError, RowError
from probam.family import Model
from probam.family.capabilities import AdditiveMStep, MissingEntries, MStep
from probam.placement import devices_worth

__all__ = [
    "Rows",
    "by_pattern",
    "check_labels",
    "check_weight",
    "counted",
    "filled",
    "numbers_memories",
    "rows_on",
    "total_weight",
    "weighed",
    "without_missing",
]


class Rows(NamedTuple):
    """Rows of one device: (N, D), or (G, B, D) in G groups that lack the same features each."""

    x: jax.Array
    weight: jax.Array | None  # (N,) or (G, B); with an axis K more where rows cannot belong to every memory


def check_weight(weight: object, num_data: int, dtype: np.dtype, *, are_all: bool = True) -> np.ndarray:
    """Weights of the data as an array (N,). Raises :class:`probam.errors.InputError` where they are not valid.

    Args:
        weight: how often each datum counts.
        num_data: N.
        dtype: of the array.
        are_all: whether there are no other data, so that some of these have to count.
    """
    given = _array("sample_weight", weight, f"{num_data} numbers, one for each datum")
    if given.shape != (num_data,) or given.dtype.kind not in "fiub":
        raise InputError(
            f"sample_weight: expected {num_data} numbers, one for each datum; got shape {given.shape} of {given.dtype}"
        )
    weights = given.astype(dtype)
    bad = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if bad.size:
        said = f" has {weights[bad[0]]:g}; give 0 to leave a datum out"
        raise RowError("sample_weight: expected finite numbers of at least 0; ", bad[0], said)
    if are_all and not (weights > 0).any():
        raise InputError("sample_weight: every datum has weight zero; give some of them a positive weight")
    return weights


def check_labels(labels: object, num_data: int, num_components: int) -> np.ndarray:
    """Which memories each row may belong to, (N, K) booleans.

    Args:
        labels: (N,) whole numbers: the number of a row's memory, -1 where it is not known; or the (N, K) booleans.
        num_data: N.
        num_components: K.

    Raises :class:`probam.errors.InputError` where they are not valid.
    """
    what = f"{num_data} whole numbers from -1 (not known) to {num_components - 1}, or ({num_data}, {num_components}) "
    what += "booleans that say which memories are allowed"
    given = _array("labels", labels, what)
    if given.shape == (num_data, num_components) and given.dtype == bool:
        none = np.flatnonzero(~given.any(axis=1))
        if none.size:
            raise InputError(f"labels: row {none[0]} may belong to no memory; allow it at least one")
        return given
    if given.shape != (num_data,) or given.dtype.kind not in "iuf":
        raise InputError(f"labels: expected {what}; got shape {given.shape} of {given.dtype}")
    bad = np.flatnonzero(~((given >= -1) & (given < num_components) & (given == np.floor(given))))
    if bad.size:
        raise InputError(f"labels: expected {what}; row {bad[0]} has {given[bad[0]]:g}")
    return np.asarray((given[:, None] == np.arange(num_components)) | (given[:, None] == -1))


def _array(name: str, value: object, what: str) -> np.ndarray:
    """The value as an array; raises where it is none."""
    try:
        return np.asarray(value)
    except (ValueError, TypeError) as error:
        raise InputError(f"{name}: expected {what}; got lists of different lengths") from error


def counted(
    model: Model, x: Float[Array, "N D"], sample_weight: object = None, labels: object = None
) -> tuple[Model, Float[Array, "M D"]]:
    """The model, told how often each row counts and which memories it may belong to, and the rows that count.

    A model that was told so before stays as it is where nothing more is given.

    Args:
        model: the mixture.
        x: rows in model units.
        sample_weight: (N,) numbers of at least 0; rows of weight 0 are left out.
        labels: see :func:`check_labels`.
    """
    if sample_weight is None and labels is None:
        return model, x
    dtype = np.dtype(x.dtype)
    weight = np.ones(len(x), dtype) if sample_weight is None else check_weight(sample_weight, len(x), dtype)
    counts = weight > 0
    rows = x if counts.all() else jnp.asarray(np.asarray(x)[counts])
    if labels is not None:
        weight = weight[:, None] * check_labels(labels, len(x), model.num_components)
    return model.with_row_weight(jnp.asarray(weight[counts], dtype)), rows


_Weight = TypeVar("_Weight", jax.Array, np.ndarray)


def total_weight(weight: _Weight) -> _Weight:
    """How often each row counts (N,), whatever memory it belongs to."""
    return weight.max(axis=1) if weight.ndim == 2 else weight


def numbers_memories(weight: jax.Array | np.ndarray | None) -> bool:
    """Whether rows are weighted for each memory, (N, K): then known labels are the numbers of the memories."""
    return weight is not None and weight.ndim == 2


def without_missing(x: Float[Array, "N D"], weight: Float[Array, " N"] | None = None) -> Float[Array, "N D"]:
    """Data with the mean of the observed entries of a feature in the place of its missing ones (for starts).

    Rows of ``weight`` zero have no part in the mean; the weights of the others do not matter.
    """
    known = ~jnp.isnan(x)
    seen = known if weight is None else known & (weight > 0)[:, None]
    mean = jnp.sum(jnp.where(seen, x, 0), axis=0) / jnp.maximum(jnp.sum(seen, axis=0), 1)
    return jnp.where(known, x, mean)


def filled(x: np.ndarray, weight: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Rows and how often each counts, filled up to one of eight numbers between a power of two and the next.

    What is added are copies of the first row of weight zero: at most an eighth of the rows.

    Args:
        x: (N, D) rows.
        weight: (N,) or (N, K); None counts each row once.
    """
    weight = np.ones(len(x), x.dtype) if weight is None else weight
    lacking = filled_number(len(x)) - len(x)
    nothing = np.zeros((lacking, *weight.shape[1:]), weight.dtype)
    return np.concatenate([x, np.repeat(x[:1], lacking, axis=0)]), np.concatenate([weight, nothing])


def weighed(model: Model, x: Float[Array, "N D"]) -> tuple[Model, Float[Array, "M D"]]:
    """Few rows :func:`filled` up, and the model told how often each counts: its programs then serve nearby numbers of
    rows too. Many rows, rows with known labels, and the models of them, stay as they are."""
    if numbers_memories(model.row_weight) or not is_small(x, model.num_components):
        return model, x
    weight = None if model.row_weight is None else np.asarray(model.row_weight)
    rows, weight = jax.device_put(filled(np.asarray(x), weight))
    return model.with_row_weight(weight), rows


def by_pattern(x: np.ndarray, weight: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Rows (G, B, D) and weights (G, B) or (G, B, K): a group's rows lack the same features; copies of weight zero
    fill it up.

    B is the power of two for which groups of B rows cost least, where a group's matrices cost as much as 8 D rows.
    """
    lacking = np.packbits(np.isnan(x), axis=1)
    _, pattern, sizes = np.unique(lacking, axis=0, return_inverse=True, return_counts=True)
    choices = 2 ** np.arange(0, int(np.ceil(np.log2(sizes.max()))) + 1)
    cost = [np.sum(-(-sizes // rows)) * (rows + 8 * x.shape[1]) for rows in choices]
    rows = int(choices[int(np.argmin(cost))])
    order = np.argsort(pattern.ravel(), kind="stable")
    ends = np.cumsum(sizes)
    taken, valid = [], []
    for begin, end in zip(ends - sizes, ends, strict=True):
        places = np.arange(begin, begin + -(-(end - begin) // rows) * rows)
        taken.append(order[np.minimum(places, end - 1)])
        valid.append(places < end)
    row = np.concatenate(taken)
    counts = np.concatenate(valid).astype(x.dtype)
    if weight is not None:
        counts = counts.reshape(-1, *[1] * (weight.ndim - 1)) * weight[row]
    return x[row].reshape(-1, rows, x.shape[1]), counts.reshape(-1, rows, *counts.shape[1:])


def rows_on(model: Model, x: Float[Array, "N D"], weight: np.ndarray | None) -> list[Rows]:
    """The rows of each device that EM uses: one, or all where an iteration is long enough to be shared."""
    m_step, products = MStep.of(model.family), 0
    if isinstance(m_step, AdditiveMStep):
        num_statistics = jax.eval_shape(m_step.statistics, jax.ShapeDtypeStruct((1, x.shape[1]), x.dtype)).shape[-1]
        products = len(x) * num_statistics * model.num_components
    devices = devices_worth(products)
    parts = len(devices)
    weights: list[np.ndarray | None]
    if model.missing and MissingEntries.of(model.family).missing == "pattern":
        grouped, counted = by_pattern(np.asarray(x), weight)
        rows, weights = np.array_split(grouped, parts), list(np.array_split(counted, parts))
    elif parts == 1 and isinstance(m_step, AdditiveMStep) and is_small(x, model.num_components):
        return [Rows(*jax.device_put(filled(np.asarray(x), weight)))]
    elif parts == 1:
        return [Rows(x, None if weight is None else jnp.asarray(weight))]
    else:
        rows = np.array_split(np.asarray(x), parts)
        weights = [None] * parts if weight is None else list(np.array_split(weight, parts))
    if parts == 1:
        return [Rows(jnp.asarray(rows[0]), jnp.asarray(weights[0]))]
    return [Rows(*jax.device_put((r, w), device)) for r, w, device in zip(rows, weights, devices, strict=True)]
