"""Warm starts of engines that follow gradients: the optima that (generalised) EM reaches from several seeds."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from probam.errors import InputError
from probam.family import Model, Params
from probam.family.capabilities import Absent, MStep
from probam.inference.common.coordinates import Coordinates, arranged, flattened, log_joints, unconstrained
from probam.inference.common.kinds import run_of
from probam.inference.common.matching import in_likeliest_order
from probam.inference.common.ordering import unordered
from probam.inference.common.progress import Reporter, silent
from probam.inference.common.rows import weighed
from probam.inference.common.start import check_gradient
from probam.inference.em import engine as em
from probam.inference.gradient_em import engine as gradient_em

__all__ = ["Start", "has_m_step", "start_at_optima"]

_ITERATIONS = 200


@dataclass(frozen=True)
class Start:
    """A model, its data, and the points at which runs begin; made once and handed on."""

    model: Model
    """With its memories in the order of the run."""

    x: Float[Array, "N D"]
    """In units of the model, NaN where an entry is missing."""

    free: Params
    """Unconstrained values of every site; leaves lead with the axis of the R starts, best first."""

    def __len__(self) -> int:
        return len(next(iter(self.free.values())))

    @property
    def vectors(self) -> Float[Array, "R P"]:
        """The starts as vectors, sites in alphabetical order."""
        return flattened(self.model, self.free)


def has_m_step(model: Model, x: Float[Array, "N D"]) -> bool:
    """Whether the family has a closed-form M-step under the priors of this model; only shapes are evaluated.

    Args:
        x: data, of which only shape and dtype matter.
    """
    m_step, coordinates = MStep.ask(model.family), Coordinates(model)
    if isinstance(m_step, Absent):
        return False

    def look(x: jax.Array) -> Any:
        params = coordinates.constrain(coordinates.zeros)
        sites = {site: params[site] for site in model.prior}
        share = jnp.ones((len(x), model.num_components), x.dtype)
        return m_step.maximize_from(x, share, sites, model.prior)

    try:
        jax.eval_shape(look, x)
    except InputError:  # a prior that is not conjugate
        return False
    return True


def start_at_optima(
    key: jax.Array,
    model: Model,
    x: Float[Array, "N D"],
    num_starts: int,
    *,
    reach: float = float("inf"),
    progress: Reporter = silent,
) -> Start:
    """``num_starts`` optima of the log joint, best first.

    Closed-form EM where family and prior allow it, gradient EM otherwise; of twice as many runs the best are kept. The
    memories are in the model's order where it has one, else in the order that the prior of the weights prefers.

    Args:
        x: data in units of the model, NaN where an entry is missing.
        reach: optima lower than the best by more nats than this are left out; the others then serve several times.
    """
    free = unordered(model)
    check_gradient(free)  # every engine that starts here follows gradients
    runs = 2 * num_starts
    if has_m_step(free, x):
        states, _ = em.fit_params(
            key, free, x, max_iterations=_ITERATIONS, tolerance=1e-6, restarts=runs, by_mass=False, progress=progress
        ).ends
        params, heights = states.params, states.objective
    else:
        optima = gradient_em.optima(
            key, free, x, max_iterations=_ITERATIONS, restarts=runs, by_mass=False, progress=progress
        ).ends
        params, heights = optima.params, optima.final
    ends = jax.device_put(dict(params))
    counted, rows = weighed(free, x)
    params = in_likeliest_order(counted, ends, rows)
    if params is not ends:
        heights = log_joints(counted, unconstrained(free, params), rows)
    height = np.where(np.isfinite(heights), heights, -np.inf)
    order = np.argsort(-height, kind="stable")[:num_starts]
    order = np.resize(order[height[order] >= height[order[0]] - reach], num_starts)
    best = run_of(params, order)
    return Start(model, x, unconstrained(model, best if free is model else arranged(model, best)))
