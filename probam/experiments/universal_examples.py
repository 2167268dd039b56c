"""Images that a universal Hopfield network reads out: Figures 5, 7, 8, 10, 12 and 13 of Millidge et al. (2022).

One set of images is stored. What is damaged, what is read out and what was wanted stand side by side.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float

from probam.energies import universal
from probam.energies.separations import Max, Softmax
from probam.experiments.image_retrieval import DAMAGES, PAPER_THRESHOLD, Damage, damaged

__all__ = ["LEVELS", "errors_shown", "heteroassociated", "reconstructions"]

LEVELS: dict[Damage, tuple[float, ...]] = {
    "noise": (0.1, 0.3, 0.5, 0.8, 1.0),
    **dict.fromkeys(DAMAGES[1:], (0.1, 0.3, 0.5, 0.7, 0.9)),
}
"""Variances of the noise, and parts of the image that are set to zero."""

_ERRORS = (0.1 * PAPER_THRESHOLD, 0.5 * PAPER_THRESHOLD, PAPER_THRESHOLD, 2 * PAPER_THRESHOLD, 4 * PAPER_THRESHOLD)
_FEW, _SHOWN = 10, 4


def heteroassociated(key: jax.Array, stored: Float[Array, "K H W C"]) -> xr.Dataset:
    """Figure 5: a few noisy images of ten that are stored, and the lower halves read out for them."""
    few = stored[:_FEW]
    query = damaged(key, few[None], jnp.asarray(0.5), "noise")[0]
    lower = few[:, few.shape[1] // 2 :]
    read = universal.retrieve(
        query.reshape(len(few), -1),
        few.reshape(len(few), -1),
        "normalised dot",
        Max(),
        projection=lower.reshape(len(few), -1),
        normalised=True,
    )
    halves = ("example", "lower_row", "column", "channel")
    return xr.Dataset(
        {
            "query": (("example", "row", "column", "channel"), np.asarray(query[:_SHOWN])),
            "wanted": (halves, np.asarray(lower[:_SHOWN])),
            "read": (halves, np.asarray(read[:_SHOWN]).reshape(_SHOWN, *lower.shape[1:])),
        }
    )


def reconstructions(key: jax.Array, stored: Float[Array, "K H W C"]) -> xr.Dataset:
    """Figures 7, 8, 12 and 13: one image under every damage and level, and what is read out by Manhattan and max."""
    one = stored[:1]
    queries = jnp.stack(
        [
            damaged(jax.random.fold_in(key, i), one[None], jnp.asarray(level), damage)[0, 0]
            for i, damage in enumerate(LEVELS)
            for level in LEVELS[damage]
        ]
    )
    read = _read(queries, stored, Max())
    levels = np.array(list(LEVELS.values()))
    shape = (*levels.shape, *stored.shape[1:])
    pixels = ("damage", "step", "row", "column", "channel")
    return xr.Dataset(
        {
            "query": (pixels, np.asarray(queries).reshape(shape)),
            "read": (pixels, np.asarray(read).reshape(shape)),
            "level": (("damage", "step"), levels),
        },
        coords={"damage": list(LEVELS)},
        attrs={"stored": len(stored)},
    )


def errors_shown(stored: Float[Array, "K H W C"], scale: float) -> xr.Dataset:
    """Figure 10: images read out with a squared error near the threshold, near a tenth of it and near four times it.

    Half-masked images are read by Manhattan and the softmax at beta = 100 on normalised scores, which averages.

    Args:
        stored: images, all of which are tried.
        scale: of the thresholds.
    """
    masked = damaged(jax.random.key(0), stored[None], jnp.asarray(0.5), "mask")[0]
    sizes = [size for size in (5, _FEW, 25, 50, 100) if size <= len(stored)]
    read = np.concatenate([np.asarray(_read(masked[:size], stored[:size], Softmax(100.0))) for size in sizes])
    wanted = np.concatenate([np.asarray(stored[:size]) for size in sizes])
    errors = ((read - wanted) ** 2).reshape(len(read), -1).sum(axis=1)
    chosen = _nearest(errors, [scale * error for error in _ERRORS])
    pixels = ("example", "row", "column", "channel")
    return xr.Dataset(
        {"read": (pixels, read[chosen]), "wanted": (pixels, wanted[chosen]), "error": ("example", errors[chosen])}
    )


def _nearest(errors: Float[np.ndarray, " N"], aims: Sequence[float]) -> list[int]:
    """The error nearest to each aim, by their logarithms; those that are the same are taken once."""
    logs = np.log(np.maximum(errors, 1e-12))
    return list(dict.fromkeys(int(np.abs(logs - np.log(aim)).argmin()) for aim in aims))


def _read(
    queries: Float[Array, "Q H W C"], stored: Float[Array, "K H W C"], separation: Max | Softmax
) -> Float[Array, "Q H W C"]:
    """What the network reads out by the Manhattan distance."""
    rows = universal.retrieve(
        queries.reshape(len(queries), -1), stored.reshape(len(stored), -1), "manhattan", separation, normalised=True
    )
    return rows.reshape(queries.shape)
