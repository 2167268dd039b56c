r"""Stochastic variational inference: an automatic NumPyro guide, an optax schedule, restarts.

The guide is a Gaussian in unconstrained coordinates (mean field, low rank or full covariance). The known failure,
collapse onto one poor mode, is met by starting each restart's guide at an EM (or generalised EM) optimum of its own,
with a small scale, and by keeping the restart whose evidence bound ends highest.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import (
    AutoContinuous,
    AutoDiagonalNormal,
    AutoLowRankMultivariateNormal,
    AutoMultivariateNormal,
)

from probam.errors import InputError, NumericalError
from probam.family import Model, Params
from probam.inference.coordinates import Coordinates, unconstrained
from probam.inference.result import EngineResult, Progress, silent
from probam.inference.start import check_guide
from probam.inference.warm import warm_starts

__all__ = ["GUIDES", "run"]

GUIDES: dict[str, Callable[..., AutoContinuous]] = {
    "mean_field": AutoDiagonalNormal,
    "low_rank": AutoLowRankMultivariateNormal,
    "full": AutoMultivariateNormal,
}

_CHUNK = 200
_FINAL_PARTICLES = 50
"""Draws in the estimate by which restarts are compared."""

_SCALE = 0.3
"""Starting scale of the guide in units of 1 / sqrt(N): narrower than a posterior of N data, so that the first
gradients speak of the start and not of its blur."""


@partial(jax.jit, static_argnames=("svi", "num_steps", "batch_size"))
def _advance(
    svi: SVI, states: Any, key: jax.Array, x: jax.Array, *, num_steps: int, batch_size: int
) -> tuple[Any, Float[Array, "R I"]]:
    """``num_steps`` steps of every restart on the same minibatches; the evidence bound at each (nats)."""
    num_data = len(x)

    def step(states: Any, key: jax.Array) -> tuple[Any, jax.Array]:
        rows = x if batch_size == num_data else x[jax.random.randint(key, (batch_size,), 0, num_data)]
        states, losses = jax.lax.map(lambda state: svi.stable_update(state, rows, num_data=num_data), states)
        return states, -losses

    states, bound = jax.lax.scan(step, states, jax.random.split(key, num_steps))
    return states, bound.T


def run(
    key: jax.Array,
    model: Model,
    x: Float[Array, "N D"],
    *,
    guide: str = "mean_field",
    num_steps: int = 5000,
    num_draws: int = 1000,
    learning_rate: float = 0.01,
    batch_size: int | None = None,
    num_particles: int = 1,
    restarts: int = 4,
    progress: Progress = silent,
) -> EngineResult:
    """Draws from the guide of the best of several restarts.

    Args:
        guide: "mean_field", "low_rank" or "full" Gaussian in unconstrained coordinates.
        num_steps: optimisation steps (Adam; one-cycle cosine schedule up to ``learning_rate``).
        num_draws: draws from the fitted guide.
        learning_rate: peak step size.
        batch_size: rows per step, drawn with replacement (default: all up to 2000 rows, 1000 beyond).
        num_particles: draws per estimate of the evidence bound.
        restarts: guides started at different optima.

    Raises:
        InputError: for an unknown guide or a bad number.
        NumericalError: when no restart's evidence bound is finite.
    """
    if guide not in GUIDES:
        raise InputError(f"guide: expected one of {', '.join(GUIDES)}; got {guide!r}")
    for name, number in (("num_steps", num_steps), ("num_draws", num_draws), ("num_particles", num_particles)):
        if number < 1:
            raise InputError(f"{name}: expected at least 1; got {number}")
    if not learning_rate > 0:
        raise InputError(f"learning_rate: expected a positive step size; got {learning_rate}")
    if batch_size is None:
        batch_size = len(x) if len(x) <= 2000 else 1000
    if not 1 <= batch_size <= len(x):
        raise InputError(f"batch_size: expected 1 to {len(x)} rows; got {batch_size}")

    check_guide(model)
    key_start, key_init, key_steps, key_draws, key_bound = jax.random.split(key, 5)
    coordinates = Coordinates(model)
    starts = warm_starts(key_start, model, x, restarts, progress=progress)
    law = GUIDES[guide](model, init_scale=_SCALE / len(x) ** 0.5)
    schedule = optax.warmup_cosine_decay_schedule(
        learning_rate / 10, learning_rate, max(1, num_steps // 20), num_steps, learning_rate / 100
    )
    svi = SVI(model, law, optax.adam(schedule), Trace_ELBO(num_particles))
    state = svi.init(key_init, x[:batch_size], num_data=len(x))
    location = jax.vmap(coordinates.flatten)(unconstrained(model, starts))

    def at(location: jax.Array, key: jax.Array) -> Any:
        """The first state with the guide's centre moved to a start."""
        params = svi.get_params(state) | {f"{law.prefix}_loc": location}
        return type(state)(svi.optim.init(params), state.mutable_state, key)

    states = jax.vmap(at)(location, jax.random.split(key_init, restarts))
    traces = []
    for done in range(0, num_steps, _CHUNK):
        states, bound = _advance(
            svi,
            states,
            jax.random.fold_in(key_steps, done),
            x,
            num_steps=min(_CHUNK, num_steps - done),
            batch_size=batch_size,
        )
        traces.append(np.asarray(bound))
        progress(min(done + _CHUNK, num_steps), num_steps, f"SVI, evidence bound {np.nanmax(traces[-1][:, -1]):.1f}")

    def final_bound(state: Any, key: jax.Array) -> jax.Array:
        """Evidence bound on all data, averaged over draws taken one at a time."""
        particle = Trace_ELBO()
        params = svi.get_params(state)
        losses = jax.lax.map(
            lambda key: jnp.asarray(particle.loss(key, params, model, law, x, num_data=len(x))),
            jax.random.split(key, _FINAL_PARTICLES),
        )
        return -jnp.mean(losses)

    bounds = jax.jit(lambda states, keys: jax.lax.map(lambda pair: final_bound(*pair), (states, keys)))
    final = np.asarray(bounds(states, jax.random.split(key_bound, restarts)))
    if not np.isfinite(final).any():
        raise NumericalError(
            "svi: the evidence bound is not finite in any restart; lower the learning rate or standardise the data"
        )
    best = int(np.argmax(np.where(np.isfinite(final), final, -np.inf)))
    params = svi.get_params(jax.tree.map(lambda leaf: leaf[best], states))

    @jax.jit
    def read(key: jax.Array) -> tuple[Params, jax.Array]:
        drawn = law.sample_posterior(key, params, sample_shape=(num_draws,))

        def one(sites: Params) -> tuple[Params, jax.Array]:
            lp = coordinates.log_joint(coordinates.unconstrain(sites), x)
            return sites | model.deterministics(sites), lp

        return jax.lax.map(one, {name: drawn[name] for name in coordinates.zeros})

    sites, lp = read(key_draws)
    return EngineResult(
        sites={name: np.asarray(value)[None] for name, value in sites.items()},
        stats={"lp": np.asarray(lp)[None]},
        objective=np.concatenate([*traces, final[:, None]], axis=1),
        objective_name="evidence lower bound",
        status="max_steps",
    )
