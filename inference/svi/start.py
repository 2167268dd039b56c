"""Where the guides of a run begin: at optima of EM, with the scale of the posterior there, or at random points."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from probam.compiled import compiled_quickly
from probam.family import Model, Params
from probam.family.capabilities import AdditiveMStep, MStep
from probam.inference.common.blocks import RowBlocks, as_floats
from probam.inference.common.coordinates import Coordinates, arranged, constrained, unconstrained
from probam.inference.common.kinds import run_of
from probam.inference.common.ordering import unordered
from probam.inference.common.progress import Reporter
from probam.inference.common.rows import weighed
from probam.inference.em import engine as em
from probam.inference.gradient_em.warm import Start, has_m_step, start_at_optima
from probam.inference.svi.batch import draw_batch
from probam.inference.svi.curvature import spreads
from probam.inference.svi.guides import Frame, Guide
from probam.inference.svi.steps import start_adam

__all__ = ["Restarts", "begin"]

_CURVATURE_ROWS = 2048
"""Most rows from which the curvature at the start is measured; all that a step takes all of, filled up."""

_REACH = 1.0
"""Nats per coordinate by which a start may be lower than the best: the volumes of modes rarely differ by as much.

From a start that has lost memories a guide seldom comes back: a repeat of a better one is worth more.
"""

_PASSES = 50
"""Most passes over rows in blocks before the guide begins."""

_RANDOM_SCALE = 0.1
"""Starting scale of a guide at a random point, in unconstrained coordinates."""


class Restarts(NamedTuple):
    """The guide of every restart; leaves lead with the restart axis."""

    frames: Frame
    params: Params
    moments: Any  # of Adam


def begin(
    keys: Sequence[jax.Array],
    model: Model,
    x: Float[Array, "N D"],
    guide: Guide,
    restarts: int,
    *,
    at: str,
    whole: bool,
    progress: Reporter,
    blocks: RowBlocks | None = None,
) -> tuple[Start, Restarts]:
    """The starts, and the guide of every restart.

    Args:
        keys: three: for the starts, for the curvature there, and for the parameters of the guides.
        at: "em" for optima of EM, where the curvature sets the scale; "random" for random points.
        whole: whether each step takes all rows: few are then filled up (:func:`probam.inference.common.rows.weighed`).
        blocks: all rows, where ``x`` is a sample of them. The best start is then brought to an optimum for all rows,
            where closed-form EM can, and is the only one.
    """
    key_start, key_curvature, key_guide = keys
    if at == "em":
        reach = float(_REACH * sum(map(math.prod, Coordinates(model).shapes.values())))
        start = start_at_optima(key_start, model, x, restarts, reach=reach, progress=progress)
    else:
        start = _random_start(key_start, model, x, restarts)
    if blocks is not None:
        start = _for_all_rows(start, blocks, progress, climbs=at == "em")
    elif whole:
        start = Start(*weighed(start.model, start.x), start.free)
    if at == "em":
        spread, scale = _posterior_spread(key_curvature, start, guide, blocks), 1.0
    else:
        spread, scale = jnp.ones_like(start.vectors), _RANDOM_SCALE
    guides = _guides(key_guide, guide, start.vectors, spread, jax.device_put(x.dtype.type(scale)))
    if blocks is None:
        return start, guides
    model = start.model.with_row_weight(None)
    return Start(model, start.x, blocks.agreed(start.free)), blocks.agreed(guides)


def _random_start(key: jax.Array, model: Model, x: Float[Array, "N D"], restarts: int) -> Start:
    """Points between -2 and 2 in every unconstrained coordinate."""
    coordinates = Coordinates(model)
    size = sum(map(math.prod, coordinates.shapes.values()))
    vectors = jax.random.uniform(key, (restarts, size), x.dtype, -2, 2)
    return Start(model, x, jax.vmap(coordinates.unflatten)(vectors))


def _for_all_rows(start: Start, blocks: RowBlocks, progress: Reporter, *, climbs: bool) -> Start:
    """The best start, brought to an optimum of all rows where that takes sums over them alone."""
    model, best = unordered(start.model), run_of(start.free, np.array([0]))
    if climbs and has_m_step(model, start.x) and isinstance(MStep.ask(model.family), AdditiveMStep):
        params = run_of(constrained(start.model, best), 0)
        plain = model.with_row_weight(None)  # blocks have those of all rows
        ends, _ = em.in_blocks(
            plain, params, start.x, blocks, max_iterations=_PASSES, tolerance=1e-6, progress=progress
        )
        at_all = jax.device_put(as_floats(ends.params, start.x.dtype))
        best = unconstrained(start.model, at_all if model is start.model else arranged(start.model, at_all))
    return Start(start.model, start.x, best)


def _posterior_spread(key: jax.Array, start: Start, guide: Guide, blocks: RowBlocks | None) -> Float[Array, "R P *P"]:
    """Spread of the posterior at every start, by the curvature of the log joint for some of the rows."""
    batch = draw_batch(key, start.model, start.x, min(len(start.x), _CURVATURE_ROWS), replace=False)
    if blocks is not None:
        total = blocks.total_weight
        batch = batch._replace(scale=batch.scale * (total / batch.num_data), num_data=total)
    return spreads(start.model, start.vectors, key, batch, matrix=guide.wants_matrix)


@compiled_quickly(static_argnames="guide")
def _guides(
    key: jax.Array, guide: Guide, centres: Float[Array, "R P"], spread: Float[Array, "R P *P"], scale: jax.Array
) -> Restarts:
    """Frame, parameters and moments of Adam of every restart."""
    params = jax.vmap(partial(guide.start, scale=scale))(jax.random.split(key, len(centres)), centres, spread)
    return Restarts(jax.vmap(guide.frame)(centres, spread), params, jax.vmap(start_adam)(params))
