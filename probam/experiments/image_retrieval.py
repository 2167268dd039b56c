"""How often a universal Hopfield network retrieves stored images from damaged ones.

The measurement of Millidge et al. (2022): K images are stored, and each is damaged and presented. It counts as
retrieved when the sum over all pixels of the squared difference between output and original is below a threshold;
pixels are between 0 and 1. Similarities of all pairs are computed once for the largest K; smaller memories are the
first rows of the same sets.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float

from probam.energies import universal
from probam.energies.separations import Separation
from probam.energies.similarities import Similarity
from probam.errors import InputError

__all__ = [
    "DAMAGES",
    "IMAGE_SETS",
    "PAPER_THRESHOLD",
    "Damage",
    "Rule",
    "damaged",
    "distances",
    "draw_sets",
    "images",
    "mean_image_retrieved",
    "neighbour_distance",
    "of_the_paper",
    "retrieved",
    "run_retrieval",
]

Damage = Literal["noise", "mask", "random mask", "inpainting"]

DAMAGES: tuple[Damage, ...] = ("noise", "mask", "random mask", "inpainting")

IMAGE_SETS = (
    "sets of images of any name: an array X of shape (N, height, width) or (N, height, width, channels), whole numbers "
    "from 0 to 255 or fractions from 0 to 1"
)
"""What ``--data`` names, for experiments whose images :func:`images` reads."""

PAPER_THRESHOLD = 50.0
"""Sum over pixels and channels of squared differences, pixels in [0, 1], below which the paper counts as retrieved."""

_PAPER_SHAPES = {"mnist": (28, 28, 1), "cifar": (32, 32, 3), "tiny": (64, 64, 3)}
"""The paper's images by a part of their set's name: MNIST, CIFAR-10 and Tiny ImageNet."""


class Rule(NamedTuple):
    """A separation, and whether it acts on Appendix E's normalised scores or on the natural ones."""

    name: str
    separation: Separation
    normalised: bool


def images(folder: Path | None, num_memories: int) -> dict[str, Float[np.ndarray, "N H W C"]]:
    """Image sets by name, pixels in [0, 1], single precision.

    Args:
        folder: every ``NAME/data.npz`` in it whose array X has images, (N, H, W) or (N, H, W, C), whole numbers from 0
            to 255 or fractions from 0 to 1, and at least ``num_memories`` of them. None for scikit-learn's digits.
        num_memories: images needed of each set.

    Raises:
        InputError: where the folder has no such set, or pixels are outside their range.
    """
    if folder is None:
        from sklearn.datasets import load_digits

        return {"digits": (load_digits().images / 16).astype(np.float32)[..., None]}
    sets, small = {}, []
    for path in sorted(folder.glob("*/data.npz")):
        with np.load(path, allow_pickle=False) as stored:
            if "X" not in stored or stored["X"].ndim not in (3, 4):
                continue
            pixels = stored["X"]
        if len(pixels) < num_memories:
            small.append(f"{path.parent.name} ({len(pixels)})")
        else:
            sets[path.parent.name] = _scaled(pixels, path)
    if not sets:
        few = f"; these have too few: {', '.join(small)}" if small else ""
        raise InputError(
            f"data: {folder} has no set of {num_memories} images or more; expected NAME/data.npz with an array X of "
            f"shape (N, height, width) or (N, height, width, channels){few}"
        )
    return sets


def _scaled(pixels: np.ndarray, path: Path) -> Float[np.ndarray, "N H W C"]:
    """Pixels in [0, 1] with an axis of channels; whole numbers are divided by 255."""
    scaled = pixels.astype(np.float32) / (255 if np.issubdtype(pixels.dtype, np.integer) else 1)
    if not (scaled.min() >= 0 and scaled.max() <= 1):  # NaN fails too
        raise InputError(f"{path}: expected pixels from 0 to 1, or whole numbers from 0 to 255")
    return scaled[..., None] if scaled.ndim == 3 else scaled


def of_the_paper(name: str, shape: tuple[int, ...]) -> bool:
    """Whether a set is one of the paper's kinds of images, by its name and the shape (H, W, C) of an image.

    >>> of_the_paper("mnist_dev4k", (28, 28, 1)), of_the_paper("fashion_mnist", (28, 28, 1))
    (True, False)
    """
    return "fashion" not in name.lower() and any(
        part in name.lower() and shape == expected for part, expected in _PAPER_SHAPES.items()
    )


def distances(rows: Float[np.ndarray, "M D"], others: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "M N"]:
    """Euclidean distances of rows, by one matrix product.

    >>> distances(np.array([[0.0, 0.0]]), np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [[5.0, 0.0]]
    """
    squares = (rows**2).sum(axis=1)[:, None] + (others**2).sum(axis=1) - 2 * rows @ others.T
    return np.asarray(np.sqrt(np.maximum(squares, 0)))


def neighbour_distance(rows: Float[np.ndarray, "N D"]) -> float:
    """Median distance of a row to the nearest other one.

    >>> neighbour_distance(np.array([[0.0], [1.0], [3.0]]))
    1.0
    """
    gaps = distances(rows, rows)
    np.fill_diagonal(gaps, np.inf)
    return float(np.median(gaps.min(axis=1)))


def draw_sets(key: jax.Array, pool: Float[np.ndarray, "N H W C"], num_sets: int, num_memories: int) -> Array:
    """Independent sets of K different images, (S, K, H, W, C).

    Raises:
        InputError: where the pool has fewer than K images.
    """
    if num_memories > len(pool):
        raise InputError(f"num_memories: expected at most {len(pool)}, the number of images; got {num_memories}")
    draw = np.random.default_rng(np.asarray(jax.random.key_data(key)).tolist())
    return jnp.asarray(pool[np.stack([draw.permutation(len(pool))[:num_memories] for _ in range(num_sets)])])


@partial(jax.jit, static_argnames="damage")
def damaged(key: jax.Array, sets: Float[Array, "S K H W C"], level: Float[Array, ""], damage: Damage) -> Array:
    """The images after damage.

    Args:
        level: variance of the noise, share of rows, probability or share of the height.
        damage: "noise": Gaussian on every pixel, then clipped to [0, 1]. "mask": a share of the rows, from the top, is
            set to zero. "random mask": every pixel (all channels) is set to zero with a probability. "inpainting": a
            border is set to zero, half of the share of the height on each side.
    """
    _, _, height, width, _ = sets.shape
    rows, columns = jnp.arange(height)[:, None], jnp.arange(width)[None, :]
    if damage == "noise":
        noise = jnp.sqrt(level).astype(sets.dtype) * jax.random.normal(key, sets.shape, sets.dtype)
        return jnp.clip(sets + noise, 0, 1)
    if damage == "mask":
        keep = jnp.broadcast_to(rows >= jnp.round(level * height), (height, width))
    elif damage == "random mask":
        keep = jax.random.uniform(key, sets.shape[:4]) >= level
    else:
        border = jnp.floor(level * height / 2)
        edge = jnp.minimum(jnp.minimum(rows, height - 1 - rows), jnp.minimum(columns, width - 1 - columns))
        keep = edge >= border
    return jnp.where(keep[..., None], sets, 0)


@jax.jit
def _values(kind: Similarity, queries: Float[Array, "S K D"], memories: Float[Array, "S K D"]) -> Float[Array, "S K K"]:
    """Similarities of all queries and memories, set by set."""
    values: Array = jax.lax.map(lambda pair: kind(*pair), (queries, memories))
    return values


@partial(jax.jit, static_argnames=("is_distance", "normalised", "ladder", "signs"))
def retrieved(
    values: Float[Array, "S K K"],
    projection: Float[Array, "S K O"],
    separation: Separation,
    thresholds: Float[Array, " T"],
    *,
    is_distance: bool,
    normalised: bool,
    ladder: tuple[int, ...],
    signs: bool = False,
) -> Float[Array, "S L T"]:
    """Fraction of the queries that are retrieved, with the first K images of each set stored, for K in ``ladder``.

    Args:
        values: similarities of queries and memories.
        projection: what each memory stands for.
        thresholds: errors below which a query is retrieved.
        is_distance: whether the similarity is a distance.
        normalised: whether the separation acts on Appendix E's normalised scores.
        ladder: numbers of stored images.
        signs: read the sign of the sum, as the classical network does. The rows of ``projection`` are then -1 and 1,
            and the error counts wrong pixels.
    """
    fractions = []
    for size in ladder:
        target = projection[:, :size]
        share = universal.separated(values[:, :size, :size], separation, is_distance=is_distance, normalised=normalised)
        read = jnp.matmul(share, target, precision="highest")
        error = jnp.sum((read >= 0) != (target >= 0) if signs else (read - target) ** 2, axis=-1)
        fractions.append(jnp.mean(error[..., None] < thresholds, axis=1))
    return jnp.stack(fractions, axis=1)


@partial(jax.jit, static_argnames="ladder")
def mean_image_retrieved(
    memories: Float[Array, "S K D"], threshold: Float[Array, ""], ladder: tuple[int, ...]
) -> Float[Array, "S L"]:
    """Fraction retrieved when the output is the mean of the memories for every query: the chance level.

    Args:
        threshold: error below which a query is retrieved.
        ladder: numbers of stored images.
    """
    parts = [memories[:, :size] for size in ladder]
    errors = [jnp.sum((part - jnp.mean(part, axis=1, keepdims=True)) ** 2, axis=-1) for part in parts]
    return jnp.stack([jnp.mean(error < threshold, axis=1) for error in errors], axis=1)


def run_retrieval(
    key: jax.Array,
    sets: Float[Array, "S K H W C"],
    kinds: dict[str, Similarity],
    rules: Sequence[Rule],
    *,
    damage: Damage,
    level: float,
    ladder: tuple[int, ...],
    thresholds: Sequence[float],
    projection: Float[Array, "S K O"] | None = None,
) -> xr.DataArray:
    """Fractions retrieved, (similarity, rule, num_memories, threshold, set).

    Args:
        key: for the damage.
        kinds: similarities by name.
        ladder: numbers of stored images.
        thresholds: errors below which a query is retrieved.
        projection: what each memory stands for; None for the memory itself.
    """
    num_sets, num_memories = sets.shape[:2]
    memories = sets.reshape(num_sets, num_memories, -1)
    queries = damaged(key, sets, jnp.asarray(level), damage).reshape(memories.shape)
    target = memories if projection is None else projection
    limits = jnp.asarray(thresholds, memories.dtype)
    fractions = np.empty((len(kinds), len(rules), len(ladder), len(thresholds), num_sets))
    for i, kind in enumerate(kinds.values()):
        values = _values(kind, queries, memories)
        for j, rule in enumerate(rules):
            fraction = retrieved(
                values,
                target,
                rule.separation,
                limits,
                is_distance=kind.is_distance,
                normalised=rule.normalised,
                ladder=ladder,
            )
            fractions[i, j] = np.moveaxis(np.asarray(fraction), 0, -1)
    return xr.DataArray(
        fractions,
        dims=("similarity", "rule", "num_memories", "threshold", "set"),
        coords={
            "similarity": list(kinds),
            "rule": [rule.name for rule in rules],
            "num_memories": list(ladder),
            "threshold": list(thresholds),
        },
    )
