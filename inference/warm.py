"""Good places to begin: the optimum of (generalised) EM from each of several seeds."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from probam.errors import InputError
from probam.family import Model, Params
from probam.inference import em, gradient_em
from probam.inference.result import Progress, silent
from probam.inference.start import check_gradient

__all__ = ["warm_starts"]

_ITERATIONS = 200


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
    """
    check_gradient(model)  # all who begin here follow gradients
    runs = 2 * num_starts
    try:
        states, _ = em.fit_params(
            key, model, x, max_iterations=_ITERATIONS, tolerance=1e-6, restarts=runs, progress=progress
        )
        params, heights = states.params, states.objective
    except InputError:  # no M-step in closed form for this family, or not under this prior
        params, heights, _, _ = gradient_em.optima(
            key, model, x, max_iterations=_ITERATIONS, restarts=runs, progress=progress
        )
    order = jnp.argsort(-jnp.where(jnp.isfinite(heights), heights, -jnp.inf))[:num_starts]
    return jax.tree.map(lambda leaf: leaf[order], params)
