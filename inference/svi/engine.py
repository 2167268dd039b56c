r"""Stochastic variational inference, with a diagnostic of how far the result can be trusted.

A guide of :mod:`probam.inference.svi.guides` is fitted by maximising its evidence bound

.. math:: \mathcal L(q) = E_q[\log p(x, z) - \log q(z)] \le \log p(x)

in the unconstrained coordinates z that NUTS uses too.

*Starts.* A known failure, memories that collapse onto each other, comes from a poor start: there the bound has no slope
that would separate them. Each restart begins at another optimum of EM (or generalised EM), and the restart whose bound
ends highest is kept (:mod:`probam.inference.svi.start`).

*Scale.* Coordinates of a mixture differ in curvature by factors of thousands (a precision matrix and a weight, for
example). So each restart measures the curvature of the log joint where it starts, and works in units of it.

*Convergence.* The bound is averaged over windows of steps. A window that rises by less than ``tolerance`` nats per
datum over the one before cuts the step to a quarter; after the fourth such window the restart has converged
(:mod:`probam.inference.svi.climb`).

*Trust.* Importance ratios of the final draws give Pareto's k-hat and, where that is below 0.7, an estimate of the
evidence (:mod:`probam.inference.svi.judge`). The estimate counts one labelling of the memories, the one at which the
guide is: where weights are exchangeable and memories well separated, all labellings together have log K! nats more.
With an ``order`` there is only one labelling, and bound, ``lp`` and evidence are those of all labellings together.

*Data larger than memory.* The restarts are optima of a sample. From the best one, brought to an optimum for all rows
where closed-form EM can, one guide climbs. Its minibatches are drawn from all rows, each with the same probability
(:func:`probam.inference.svi.batch.minibatches`).
"""

import os
from dataclasses import replace

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from probam.errors import InputError
from probam.family import Model
from probam.inference.common.blocks import RowBlocks, draws_wanted, resumable_over
from probam.inference.common.coordinates import Coordinates
from probam.inference.common.ordering import in_order
from probam.inference.common.progress import Listener
from probam.inference.common.result import EngineResult
from probam.inference.common.rows import counted
from probam.inference.common.start import check_guide
from probam.inference.svi.climb import RATES, Climb, climb
from probam.inference.svi.guides import guide_for
from probam.inference.svi.judge import judge
from probam.inference.svi.start import begin

__all__ = ["run"]

_ALL_ROWS = 2000
"""Most rows that a step takes all of."""

_BATCH = 1000
"""Rows of a step where there are more."""


def run(
    key: jax.Array,
    model: Model,
    x: Float[Array, "N D"],
    *,
    guide: str = "mean_field",
    optimiser: str = "adam",
    start: str = "em",
    num_steps: int = 5000,
    num_draws: int | None = None,
    learning_rate: float | None = None,
    tolerance: float = 1e-5,
    batch_size: int | None = None,
    num_particles: int = 1,
    restarts: int = 4,
    order: str = "none",
    order_by: int = 0,
    checkpoint: str | os.PathLike[str] | None = None,
    sample_weight: Float[Array, " N"] | np.ndarray | None = None,
    labels: Int[np.ndarray, " N"] | Bool[np.ndarray, "N K"] | None = None,
    blocks: RowBlocks | None = None,
    progress: Listener | None = None,
) -> EngineResult:
    """Draws from the guide of the best of several restarts, with Pareto's k-hat and, where it allows, the evidence.

    Args:
        guide: "mean_field", "low_rank", "full", "flow" or "sticks" (see :mod:`probam.inference.svi.guides`).
        optimiser: "adam", or "natural" for the natural gradient of the guides "mean_field", "full" and "sticks".
        start: "em" starts each restart at another optimum of EM; "random" at a random point, which loses memories.
        num_steps: most optimisation steps.
        num_draws: draws from the fitted guide (default 1000, over ``blocks`` 100); k-hat needs at least 100.
        learning_rate: of the first step; 1 is a posterior standard deviation (Adam: 0.05) or a natural step (0.2).
        tolerance: rise of the bound over a window of 100 steps, in nats per datum, below which the step is cut.
        batch_size: rows per step, drawn with replacement (default: all up to 2000 rows, 1000 of more).
        num_particles: draws per estimate of the evidence bound (pairs of draws for "natural").
        restarts: guides started at different optima.
        order: "location" or "weight" numbers the memories in order, as in :mod:`probam.inference.nuts.engine`.
        order_by: number of the coordinate for order "location", from 0.
        checkpoint: a file to which the run is written every few seconds, and from which the same call continues.
        sample_weight: how often each row counts, (N,) numbers of at least 0.
        labels: (N,) numbers of the memories to which rows belong, -1 where that is not known, or (N, K) booleans.
        blocks: all rows of data larger than memory, of which ``x`` is a sample.

    Raises:
        InputError: for an unknown guide or optimiser, a guide without that optimiser, or a number out of range.
        NumericalError: when no restart's evidence bound is finite.
    """
    check_guide(model)
    model, x = counted(model, x, sample_weight, labels)
    law = guide_for(guide, Coordinates(model := in_order(model, order, order_by)))
    rate, num_data = _rate(optimiser, learning_rate), len(x) if blocks is None else blocks.num_data
    how = Climb(law, optimiser, num_steps, rate, tolerance * num_data, _rows(batch_size, num_data), num_particles)
    _check(how, start, {"num_draws": (num_draws := draws_wanted(num_draws, blocks)), "restarts": restarts}, num_data)
    *keys, key_steps, key_draws, key_bound = jax.random.split(key, 6)
    own, whole = {"start": start, "restarts": restarts, **vars(how), "guide": guide}, how.batch_size == num_data
    with resumable_over(blocks, progress, checkpoint, "svi", key, model, x, own) as report:
        begun, guides = begin(keys, model, x, law, restarts, at=start, whole=whole, progress=report, blocks=blocks)
        how = replace(how, batch_size=len(begun.x)) if whole and blocks is None else how
        climbed = climb(key_steps, begun, guides, how, report, blocks)
    return judge((key_bound, key_draws), begun, law, climbed, num_draws, order != "none", blocks, report)


def _rows(batch_size: int | None, num_data: int) -> int:
    """Rows of a step."""
    return (num_data if num_data <= _ALL_ROWS else _BATCH) if batch_size is None else batch_size


def _rate(optimiser: str, learning_rate: float | None) -> float:
    """The first step size; an unknown optimiser is refused later."""
    return RATES.get(optimiser, 1.0) if learning_rate is None else learning_rate


def _check(how: Climb, start: str, counts: dict[str, int], num_data: int) -> None:
    """Raise InputError for an option out of range."""
    if how.optimiser not in RATES:
        raise InputError(f"optimiser: expected one of {', '.join(RATES)}; got {how.optimiser!r}")
    if how.optimiser == "natural" and not how.guide.natural:
        raise InputError(
            "optimiser: 'natural' is for the guides 'mean_field', 'full' and 'sticks', whose Fisher information has an "
            f"inverse in closed form; use 'adam' with {how.guide.name!r}"
        )
    if start not in ("em", "random"):
        raise InputError(f"start: expected 'em' or 'random'; got {start!r}")
    for name, number in {"num_steps": how.num_steps, "num_particles": how.num_particles, **counts}.items():
        if number < 1:
            raise InputError(f"{name}: expected at least 1; got {number}")
    if not 0 < how.learning_rate < np.inf:
        raise InputError(f"learning_rate: expected a positive step size; got {how.learning_rate}")
    if not how.least_rise >= 0:
        raise InputError(f"tolerance: expected at least 0 nats per datum; got {how.least_rise / num_data:g}")
    if not 1 <= how.batch_size <= num_data:
        raise InputError(f"batch_size: expected 1 to {num_data} rows; got {how.batch_size}")
