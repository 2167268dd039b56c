r"""Expectation-maximisation in closed form, maximum a posteriori or maximum likelihood.

E-step: responsibilities :math:`r_{nk} \propto w_k \, p(x_n \mid \theta_k)`, never stored: rows are taken in blocks
and only their sums :math:`\sum_n r_{nk} T(x_n)` are kept (a family that is not ``additive`` is given the whole (N, K)
table instead). M-step: the family's and the weight prior's ``maximize``. The log joint density (in the unconstrained
coordinates of NumPyro's samplers; for maximum likelihood the log likelihood)
never falls, and where it stops it is stationary. Restarts from k-means++ seeds run side by side in one program; the
best one is returned.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from probam.distributions.pairwise import pairwise_log_prob
from probam.errors import InputError, NumericalError
from probam.family import Model, Moments, Params
from probam.inference.coordinates import Coordinates
from probam.inference.result import EngineResult, Progress, silent
from probam.inference.start import starts

__all__ = ["EMState", "em_step", "expectation", "fit_params", "run"]

_BLOCK = 4096
"""Rows taken at a time in the E-step: (block, K) and (block, F) stay in cache."""

_SMALL = 200_000
"""Most numbers (rows x features x memories) for which several runs go in one batch."""

_CHUNK = 50
"""Iterations between two reports of progress."""


class EMState(NamedTuple):
    """One restart: parameters, the objective there, whether it has stopped."""

    params: Params
    objective: Float[Array, ""]
    done: jax.Array


def expectation(
    model: Model, params: Params, x: Float[Array, "N D"], origin: Float[Array, " D"]
) -> tuple[Moments, Float[Array, ""]]:
    """Responsibility-weighted sums of the family's statistics, and the log likelihood (nats)."""
    mixture = model.mixture(params)

    def block(rows: jax.Array, valid: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        logits = mixture.log_weights + pairwise_log_prob(mixture.bank, rows)
        top = jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
        unnormalised = jnp.exp(logits - top)
        total = jnp.sum(unnormalised, axis=-1, keepdims=True)
        responsibilities = valid[:, None] * unnormalised / total
        sums = jnp.matmul(responsibilities.T, model.family.statistics(rows - origin), precision="highest")
        return jnp.sum(responsibilities, axis=0), sums, jnp.sum(valid * (top + jnp.log(total))[:, 0])

    num_data = len(x)
    if num_data <= _BLOCK:
        counts, sums, log_likelihood = block(x, jnp.ones(num_data, x.dtype))
        return Moments(counts, sums, origin), log_likelihood

    num_blocks = -(-num_data // _BLOCK)
    size = -(-num_data // num_blocks)
    # the last block overlaps the one before; rows already seen count for nothing
    starts = jnp.minimum(jnp.arange(num_blocks) * size, num_data - size)

    def add(
        carry: tuple[jax.Array, jax.Array, jax.Array], k: jax.Array
    ) -> tuple[tuple[jax.Array, jax.Array, jax.Array], None]:
        rows = jax.lax.dynamic_slice_in_dim(x, starts[k], size)
        valid = (starts[k] + jnp.arange(size) >= k * size).astype(x.dtype)
        return jax.tree.map(jnp.add, carry, block(rows, valid)), None

    shapes = jax.eval_shape(block, x[:size], jnp.ones(size, x.dtype))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    (counts, sums, log_likelihood), _ = jax.lax.scan(add, zeros, jnp.arange(num_blocks))
    return Moments(counts, sums, origin), log_likelihood


def em_step(
    model: Model, coordinates: Coordinates, params: Params, x: Float[Array, "N D"], *, likelihood_only: bool
) -> tuple[Params, Float[Array, ""]]:
    """Parameters after one EM step, and the objective *before* it (nats)."""
    family = model.family
    prior = None if likelihood_only else model.prior
    previous = {site: params[site] for site in model.prior}
    if family.additive:
        moments, log_likelihood = expectation(model, params, x, family.frame(x)[0])
        counts, memories = moments.counts, family.maximize(moments, previous, prior)
    else:
        log_joint = model.mixture(params).log_joint(x)
        log_prob = jax.nn.logsumexp(log_joint, axis=-1, keepdims=True)
        responsibilities, log_likelihood = jnp.exp(log_joint - log_prob), jnp.sum(log_prob)
        counts = jnp.sum(responsibilities, axis=0)
        memories = family.maximize_from(x, responsibilities, previous, prior)
    objective = log_likelihood
    if not likelihood_only:
        objective = objective + coordinates.log_prior(coordinates.unconstrain(params))
    others = {name: value for name, value in params.items() if name not in model.prior}
    return memories | model.weights.maximize(counts, others, likelihood_only=likelihood_only), objective


@partial(jax.jit, static_argnames=("likelihood_only", "num_steps"))
def _advance(
    model: Model,
    states: EMState,
    x: jax.Array,
    tolerance: jax.Array,
    *,
    likelihood_only: bool,
    num_steps: int,
) -> tuple[EMState, jax.Array]:
    """``num_steps`` EM steps of every restart; the objective before each, NaN once a restart has stopped."""
    coordinates = Coordinates(model)

    def one(state: EMState, _: None) -> tuple[EMState, jax.Array]:
        params, objective = em_step(model, coordinates, state.params, x, likelihood_only=likelihood_only)
        done = state.done | (objective - state.objective <= tolerance * len(x)) | ~jnp.isfinite(objective)
        kept = jax.tree.map(lambda old, new: jnp.where(done, old, new), state.params, params)
        trace = jnp.where(state.done, jnp.nan, objective)
        return EMState(kept, jnp.where(state.done, state.objective, objective), done), trace

    return jax.lax.map(
        lambda state: jax.lax.scan(one, state, None, length=num_steps),
        states,
        batch_size=side_by_side(len(states.objective), x, model.num_components),
    )


def side_by_side(num_runs: int, x: jax.Array, num_components: int) -> int:
    """How many runs (restarts, draws) go in one batch: all on small data, where one alone cannot fill the cores.

    On large data one at a time is several times faster (its products are plain matrix products, not batched
    ones) and spares XLA's CPU thread pool, which has been seen to stop for good on large batched products.
    """
    return num_runs if x.size * num_components <= _SMALL else 1


def check_closed_form(model: Model) -> None:
    """Say in one sentence that a family has no closed-form M-step and what works instead."""
    if not model.family.closed_form:
        covariance = getattr(model.family, "covariance", None)
        kind = f"{model.family.name!r}" + (f" with covariance {covariance!r}" if covariance else "")
        others = "'gradient_em' or 'nuts'" if model.family.no_guide else "'gradient_em', 'svi' or 'nuts'"
        why = f" ({model.family.no_m_step})" if model.family.no_m_step else ""
        raise InputError(
            f"engine: family {kind} has no closed-form M-step{why}, which engine 'em' needs; use engine {others}"
        )


def active_counts(num_components: int, restarts: int, *, nonparametric: bool) -> np.ndarray:
    """How many memories own data at the start of each restart.

    All of them in a finite mixture; under stick-breaking the restarts spread from K down to 1, since the number of
    occupied memories is what the data should choose.
    """
    if not nonparametric or restarts == 1:
        return np.full(restarts, num_components)
    choices = np.unique(np.round(np.geomspace(1, num_components, restarts)).astype(int))[::-1]
    return choices[np.arange(restarts) % len(choices)]


def fit_params(
    key: jax.Array,
    model: Model,
    x: Float[Array, "N D"],
    *,
    estimate: str = "map",
    max_iterations: int = 1000,
    tolerance: float | None = None,
    restarts: int = 8,
    start: Params | None = None,
    progress: Progress = silent,
) -> tuple[EMState, np.ndarray]:
    """All restarts after EM (leaves lead with the restart axis) and the trace of their objectives (R, I)."""
    check_closed_form(model)
    if estimate not in ("map", "ml"):
        raise InputError(f"estimate: expected 'map' or 'ml'; got {estimate!r}")
    coordinates = Coordinates(model)
    if tolerance is None:
        tolerance = 1e-9 if x.dtype == jnp.float64 else 1e-6
    if start is None:
        active = jnp.asarray(
            active_counts(model.num_components, restarts, nonparametric="sticks" in coordinates.transforms)
        )
        params = starts(jax.random.split(key, restarts), model, x, active)
    else:
        params = {name: jnp.asarray(value)[None] for name, value in start.items()}
    num_runs = next(iter(params.values())).shape[0]
    states = EMState(params, jnp.full(num_runs, -jnp.inf, x.dtype), jnp.zeros(num_runs, bool))
    traces = []
    for done_steps in range(0, max_iterations, _CHUNK):
        states, trace = _advance(
            model,
            states,
            x,
            jnp.asarray(tolerance, x.dtype),
            likelihood_only=estimate == "ml",
            num_steps=min(_CHUNK, max_iterations - done_steps),
        )
        traces.append(np.asarray(trace))
        finished = int(jnp.sum(states.done))
        progress(min(done_steps + _CHUNK, max_iterations), max_iterations, f"EM, {finished} of {num_runs} runs done")
        if finished == num_runs:
            break
    progress(max_iterations, max_iterations, "EM")
    if not bool(jnp.any(jnp.isfinite(states.objective))):
        raise NumericalError(
            "em: the log density is not finite in any restart; standardise the data, "
            "or use fewer components or weights and a prior (estimate='map')"
        )
    return states, np.concatenate(traces, axis=1)


def run(
    key: jax.Array,
    model: Model,
    x: Float[Array, "N D"],
    *,
    estimate: str = "map",
    max_iterations: int = 1000,
    tolerance: float | None = None,
    restarts: int = 8,
    progress: Progress = silent,
) -> EngineResult:
    """The best of several EM runs.

    Args:
        estimate: "map" (with the priors) or "ml" (maximum likelihood; finite weights only).
        max_iterations: most iterations of a restart.
        tolerance: stop when the objective rises by less than this many nats per datum
            (default 1e-9 in float64, 1e-6 in float32).
        restarts: runs from different k-means++ seeds.

    Raises:
        InputError: for a family without a closed-form M-step.
        NumericalError: when no restart stays finite.
    """
    states, trace = fit_params(
        key,
        model,
        x,
        estimate=estimate,
        max_iterations=max_iterations,
        tolerance=tolerance,
        restarts=restarts,
        progress=progress,
    )
    best = int(jnp.argmax(jnp.where(jnp.isfinite(states.objective), states.objective, -jnp.inf)))
    params = jax.tree.map(lambda leaf: leaf[best], states.params)
    return point_result(
        model,
        params,
        objective=trace,
        objective_name="log joint density" if estimate == "map" else "log likelihood",
        lp=states.objective[best],
        status="converged" if bool(states.done[best]) else "max_steps",
    )


def point_result(
    model: Model, params: Params, *, objective: np.ndarray, objective_name: str, lp: jax.Array, status: str
) -> EngineResult:
    """One point estimate as one chain with one draw."""
    values = params | model.deterministics(params)
    return EngineResult(
        sites={name: np.asarray(value)[None, None] for name, value in values.items()},
        stats={"lp": np.asarray(lp)[None, None]},
        objective=objective,
        objective_name=objective_name,
        status=status,
    )
