"""Warm starts: the optimum of (generalised) EM from each of several seeds."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from probam.errors import InputError
from probam.family import Model, Params
from probam.family.capabilities import Absent, MStep
from probam.inference.common.coordinates import Coordinates, arranged
from probam.inference.common.ordering import unordered
from probam.inference.common.result import Progress, silent
from probam.inference.common.start import check_gradient
from probam.inference.em import engine as em
from probam.inference.gradient_em import engine as gradient_em

__all__ = ["has_m_step", "warm_starts"]

_ITERATIONS = 200


def has_m_step(model: Model, x: Float[Array, "N D"]) -> bool:
    """Whether the family has a closed-form M-step under the priors of this model; only shapes are evaluated."""
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


def warm_starts(
    key: jax.Array,
    model: Model,
    x: Float[Array, "N D"],
    num_starts: int,
    *,
    progress: Progress = silent,
) -> Params:
    """Site values of ``num_starts`` optima of the log joint, best first (leaves lead with that axis).

    Closed-form EM where family and prior have it, gradient EM otherwise; twice as many runs as starts, the best kept.
    Memories are numbered in the model's order where it has one.
    """
    free = unordered(model)
    check_gradient(free)  # all who begin here follow gradients
    runs = 2 * num_starts
    if has_m_step(free, x):
        states, _ = em.fit_params(
            key, free, x, max_iterations=_ITERATIONS, tolerance=1e-6, restarts=runs, progress=progress
        )
        params, heights = states.params, states.objective
    else:
        params, heights, _, _ = gradient_em.optima(
            key, free, x, max_iterations=_ITERATIONS, restarts=runs, progress=progress
        )
    order = jnp.argsort(-jnp.where(jnp.isfinite(heights), heights, -jnp.inf))[:num_starts]
    best = jax.tree.map(lambda leaf: leaf[order], params)
    return best if free is model else arranged(model, best)
