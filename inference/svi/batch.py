"""Rows of one step of SVI, whose log likelihood stands for that of all data."""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from probam.distributions.likelihood import log_likelihood_of
from probam.family import Model, Params
from probam.inference.common.blocks import RowBlocks
from probam.inference.common.coordinates import Coordinates
from probam.inference.common.rows import total_weight

__all__ = ["Batch", "draw_batch", "minibatches"]

_POOL = 4
"""Blocks whose rows are drawn in one pass over data larger than memory."""


class Batch(NamedTuple):
    """Some rows, or all."""

    rows: Float[Array, "B D"]
    weight: jax.Array | None
    """How often each of them counts, as :attr:`probam.family.Model.row_weight`."""
    scale: float | jax.Array
    """What their log likelihood is multiplied with."""
    num_data: float | jax.Array
    """How many data there are, rows counted by their weights."""

    def log_likelihood(self, coordinates: Coordinates, params: Params) -> Float[Array, ""]:
        """Estimate of the log likelihood of all data, nats."""
        mixture = coordinates.model.mixture(params)
        return self.scale * log_likelihood_of(mixture, self.rows, self.weight)(mixture)


def draw_batch(key: jax.Array, model: Model, x: Float[Array, "N D"], size: int, *, replace: bool = True) -> Batch:
    """``size`` rows drawn at random; all of them where ``size`` is their number.

    Weighted rows are drawn with replacement, as often as they count, and have weight one in the batch.

    Args:
        key: of the draw.
        model: the mixture, which knows how often each row counts.
        x: all rows.
        size: how many to draw.
        replace: whether rows without weights may be drawn twice.
    """
    weight = model.row_weight
    if weight is None:
        if size == len(x):
            return Batch(x, None, 1.0, len(x))
        if replace:
            index = jax.random.randint(key, (size,), 0, len(x))
        else:
            index = jax.random.choice(key, len(x), (size,), False)
        return Batch(x[index], None, len(x) / size, len(x))
    each = total_weight(weight)
    num_data = jnp.sum(each)
    if size == len(x):
        return Batch(x, weight, 1.0, num_data)
    index = jax.random.categorical(key, jnp.log(each), shape=(size,))
    of_rows = None if weight.ndim == 1 else (weight[index] > 0).astype(x.dtype)
    return Batch(x[index], of_rows, num_data / size, num_data)


def minibatches(
    key: jax.Array, blocks: RowBlocks, windows: range, window: int, size: int
) -> Iterator[Float[np.ndarray, "I B D"]]:
    """Rows of the minibatches of one window of steps after the other, drawn with replacement from all rows.

    Every row of every minibatch is any row of the data with a probability in proportion to how often that counts,
    independently of all others, so that the log likelihood of a minibatch times N/B has that of all rows as its mean,
    as in memory (N: all data, counted by their weights). One pass over the data
    draws as many windows as there is memory for.

    Args:
        key: of the draws.
        blocks: all rows.
        windows: which windows of the run; those before do not change the draws.
        window: steps of a window.
        size: rows of a minibatch.
    """
    seed = np.asarray(jax.random.key_data(key)).ravel().tolist()
    together = max(1, min(windows.stop, _POOL * blocks.size // (window * size)))
    for pool in range(windows.start // together, -(-windows.stop // together)):
        begin, end = pool * together, min((pool + 1) * together, windows.stop)
        rows = blocks.drawn(np.random.default_rng([*seed, pool]), (end - begin) * window * size)
        yield from rows.reshape(end - begin, window, size, -1)[max(windows.start - begin, 0) :]
