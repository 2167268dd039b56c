r"""Stochastic variational inference that says how far it can be believed.

A guide of :mod:`probam.inference.svi.guides` is fitted by climbing its evidence bound

.. math:: \mathcal L(q) = E_q[\log p(x, z) - \log q(z)] \le \log p(x)

in the unconstrained coordinates z in which NUTS walks too.

*One mode.* The known failure, memories collapsing onto each other, comes of a poor start: from there the bound has no
slope that would part them. Each restart begins at an optimum of its own of EM (or generalised EM), and the restart
whose bound ends highest is kept.

*Scale.* Coordinates of a mixture differ in curvature by factors of thousands (a precision matrix beside a weight).
Before the first step each restart measures the curvature of the log joint where it starts and works in units of it.

*Convergence.* The bound is averaged over windows of steps. A window that rises by less than ``tolerance`` nats per
datum over the one before cuts the step to a quarter; after the fourth such window the restart has converged.

*Belief.* Importance ratios of the final draws give Pareto's k-hat, and with it, below 0.7, an estimate of the evidence
(:mod:`probam.inference.evidence.importance`).
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from probam.errors import InputError, NumericalError
from probam.family import Model, Params
from probam.inference.common.coordinates import Coordinates, unconstrained
from probam.inference.common.ordering import described_order, in_order
from probam.inference.common.result import EngineResult, Evidence, Progress, silent
from probam.inference.common.start import check_guide
from probam.inference.evidence.importance import pareto_smoothed
from probam.inference.gradient_em.warm import warm_starts
from probam.inference.svi.curvature import spreads
from probam.inference.svi.guides import Frame, Guide, guide_for
from probam.inference.svi.steps import adam_step, natural_step, posterior, start_adam

__all__ = ["run"]

_WINDOW = 100
"""Steps over which the bound is averaged."""

_CUTS = 3
"""How often the step is cut, to a quarter each time, before a restart has converged."""

_BLOCK = 50
"""Draws taken by one call of a program, and in the estimate by which restarts are compared."""

_CURVATURE_ROWS = 2000
"""Rows from which the curvature at the start is measured."""

_RANDOM_SCALE = 0.1
"""Starting scale of a guide at a random point, in unconstrained coordinates."""

_STEPS = {"adam": adam_step, "natural": natural_step}
_RATES = {"adam": 0.05, "natural": 0.2}


@partial(jax.jit, static_argnames=("guide", "optimiser", "num_steps", "batch_size", "num_particles"))
def _advance(
    model: Model,
    guide: Guide,
    frames: Frame,
    states: tuple[Params, Any],
    rates: Float[Array, " R"],
    going: Bool[Array, " R"],
    key: jax.Array,
    x: Float[Array, "N D"],
    *,
    optimiser: str,
    num_steps: int,
    batch_size: int,
    num_particles: int,
) -> tuple[tuple[Params, Any], Float[Array, "R I"]]:
    """``num_steps`` steps of every restart that is still going, on the same minibatches; the bound at each (nats).

    A step that leaves the finite numbers is not taken.
    """
    coordinates, take = Coordinates(model), _STEPS[optimiser]

    def one(restart: tuple[Frame, tuple[Params, Any], jax.Array]) -> tuple[tuple[Params, Any], jax.Array]:
        frame, state, rate = restart

        def step(state: tuple[Params, Any], key: jax.Array) -> tuple[tuple[Params, Any], jax.Array]:
            key_rows, key_draw = jax.random.split(key)
            rows = x if batch_size == len(x) else x[jax.random.randint(key_rows, (batch_size,), 0, len(x))]
            *moved, bound = take(
                guide,
                *state,
                key_draw,
                posterior(coordinates, frame, rows, len(x)),
                rate,
                num_particles=num_particles,
            )
            sums = jax.tree.map(lambda leaf: jnp.sum(leaf.astype(x.dtype)), moved)
            finite = jnp.isfinite(bound + jax.tree.reduce(jnp.add, sums))
            return jax.tree.map(lambda new, old: jnp.where(finite, new, old), tuple(moved), state), bound

        return jax.lax.scan(step, state, jax.random.split(key, num_steps))

    def rest(restart: tuple[Frame, tuple[Params, Any], jax.Array]) -> tuple[tuple[Params, Any], jax.Array]:
        return restart[1], jnp.full(num_steps, jnp.nan, x.dtype)

    return jax.lax.map(lambda item: jax.lax.cond(item[1], one, rest, item[0]), ((frames, states, rates), going))


@partial(jax.jit, static_argnames="guide")
def _begin(
    key: jax.Array, guide: Guide, centres: Float[Array, "R P"], spread: Float[Array, "R P *P"], scale: jax.Array
) -> tuple[Frame, Params, Any]:
    """Frame, parameters and moments of Adam of every restart."""
    params = jax.vmap(partial(guide.start, scale=scale))(jax.random.split(key, len(centres)), centres, spread)
    return jax.vmap(guide.frame)(centres, spread), params, jax.vmap(start_adam)(params)


@partial(jax.jit, static_argnames="guide")
def _draw(
    model: Model, guide: Guide, frame: Frame, params: Params, keys: jax.Array, x: jax.Array
) -> tuple[Params, jax.Array, jax.Array]:
    """Draws of the sites, log joint density and log density of the guide at each (unconstrained coordinates, nats)."""
    coordinates = Coordinates(model)

    def one(key: jax.Array) -> tuple[Params, jax.Array, jax.Array]:
        u = guide.draw(params, key)
        free = coordinates.unflatten(frame.apply(u))
        sites = coordinates.constrain(free)
        log_q = guide.log_density(params, u) - frame.log_det
        return sites | model.deterministics(sites), coordinates.log_joint(free, x), log_q

    return jax.lax.map(one, keys)


def _draws(
    model: Model, guide: Guide, restart: tuple[Frame, Params], key: jax.Array, x: jax.Array, num_draws: int
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """:func:`_draw`, a block at a time: one program whatever their number."""
    blocks = [
        jax.tree.map(np.asarray, _draw(model, guide, *restart, jax.random.split(jax.random.fold_in(key, i), _BLOCK), x))
        for i in range(-(-num_draws // _BLOCK))
    ]
    together: tuple[dict[str, np.ndarray], np.ndarray, np.ndarray] = jax.tree.map(
        lambda *leaves: np.concatenate(leaves)[:num_draws], *blocks
    )
    return together


def _check(
    optimiser: str, guide: Guide, start: str, numbers: dict[str, int], learning_rate: float, tolerance: float
) -> None:
    """Raise InputError for an option that makes no sense."""
    if optimiser not in _STEPS:
        raise InputError(f"optimiser: expected one of {', '.join(_STEPS)}; got {optimiser!r}")
    if optimiser == "natural" and not guide.natural:
        raise InputError(
            "optimiser: 'natural' is for the guides 'mean_field', 'full' and 'sticks', whose Fisher information has an "
            f"inverse in closed form; use 'adam' with {guide.name!r}"
        )
    if start not in ("em", "random"):
        raise InputError(f"start: expected 'em' or 'random'; got {start!r}")
    for name, number in numbers.items():
        if number < 1:
            raise InputError(f"{name}: expected at least 1; got {number}")
    if not learning_rate > 0:
        raise InputError(f"learning_rate: expected a positive step size; got {learning_rate}")
    if not tolerance >= 0:
        raise InputError(f"tolerance: expected a number of nats per datum, zero or more; got {tolerance}")


def run(
    key: jax.Array,
    model: Model,
    x: Float[Array, "N D"],
    *,
    guide: str = "mean_field",
    optimiser: str = "adam",
    start: str = "em",
    num_steps: int = 5000,
    num_draws: int = 1000,
    learning_rate: float | None = None,
    tolerance: float = 1e-5,
    batch_size: int | None = None,
    num_particles: int = 1,
    restarts: int = 4,
    order: str = "none",
    order_by: int = 0,
    progress: Progress = silent,
) -> EngineResult:
    """Draws from the guide of the best of several restarts, with Pareto's k-hat and, where it allows, the evidence.

    ``stats`` holds ``lp`` and ``log_q``, the log densities of model and guide at each draw in the same coordinates. The
    evidence counts one labelling of the memories, the one that the guide sits on: where weights are exchangeable and
    memories well apart, all labellings together have log K! nats more. With an ``order`` one labelling is all there
    is, and bound, ``lp`` and evidence are those of all labellings together.

    Args:
        guide: "mean_field", "low_rank", "full", "flow" or "sticks" (see :mod:`probam.inference.svi.guides`).
        optimiser: "adam", or "natural" for the natural gradient of the guides "mean_field", "full" and "sticks".
        start: "em" puts each restart at an optimum of EM of its own; "random" anywhere, which loses memories.
        num_steps: most optimisation steps.
        num_draws: draws from the fitted guide; k-hat needs 100.
        learning_rate: first step size, where 1 is a posterior standard deviation (default 0.05 for Adam) or a whole
            natural-gradient step (default 0.2).
        tolerance: a window of 100 steps that rises less than this many nats per datum has settled.
        batch_size: rows per step, drawn with replacement (default: all up to 2000 rows, 1000 beyond).
        num_particles: draws per estimate of the evidence bound (pairs of draws for "natural").
        restarts: guides started at different optima.
        order: "location" or "weight" to number the memories in order, as in :mod:`probam.inference.nuts.engine`.
        order_by: number of the coordinate for order "location", from 0.

    Raises:
        InputError: for an unknown guide or optimiser, a pair of them that does not exist, or a bad number.
        NumericalError: when no restart's evidence bound is finite.
    """
    check_guide(model)
    model = in_order(model, order, order_by)
    coordinates = Coordinates(model)
    law = guide_for(guide, coordinates)
    numbers = {"num_steps": num_steps, "num_draws": num_draws, "num_particles": num_particles, "restarts": restarts}
    peak = learning_rate if learning_rate is not None else _RATES.get(optimiser, 1.0)
    _check(optimiser, law, start, numbers, peak, tolerance)
    if batch_size is None:
        batch_size = len(x) if len(x) <= 2000 else 1000
    if not 1 <= batch_size <= len(x):
        raise InputError(f"batch_size: expected 1 to {len(x)} rows; got {batch_size}")

    key_start, key_curvature, key_init, key_steps, key_draws, key_bound = jax.random.split(key, 6)
    if start == "em":
        free = unconstrained(model, warm_starts(key_start, model, x, restarts, progress=progress))
        centres = jax.vmap(coordinates.flatten)(free)
        rows = (
            x if len(x) <= _CURVATURE_ROWS else x[jax.random.choice(key_curvature, len(x), (_CURVATURE_ROWS,), False)]
        )
        spread, scale = spreads(model, centres, key_curvature, rows, len(x), matrix=law.wants_matrix), 1.0
    else:
        size = sum(zero.size for zero in coordinates.zeros.values())
        centres = jax.random.uniform(key_start, (restarts, size), x.dtype, -2, 2)
        spread, scale = jnp.ones_like(centres), _RANDOM_SCALE
    frames, params, moments = _begin(key_init, law, centres, spread, jnp.asarray(scale, x.dtype))
    states = (params, moments if optimiser == "adam" else ())

    window = max(1, min(_WINDOW, num_steps // 10))
    num_windows = max(1, num_steps // window)
    cuts, forced, before = np.zeros(restarts, int), np.zeros(restarts, bool), np.full(restarts, -np.inf)
    traces: list[np.ndarray] = []
    for index in range(num_windows):
        due = min(_CUTS, _CUTS + 1 - (num_windows - index))  # the last windows are for small steps, come what may
        forced |= cuts < due
        cuts = np.maximum(cuts, due)
        states, bound = _advance(
            model,
            law,
            frames,
            states,
            jnp.asarray(peak * 0.25**cuts, x.dtype),
            jnp.asarray(cuts <= _CUTS),
            jax.random.fold_in(key_steps, index),
            x,
            optimiser=optimiser,
            num_steps=window,
            batch_size=batch_size,
            num_particles=num_particles,
        )
        traces.append(np.asarray(bound))
        going, now = cuts <= _CUTS, traces[-1].astype(np.float64).mean(axis=1)
        settled = going & (now - before <= tolerance * len(x))
        cuts, before = cuts + settled, np.where(going, now, before)
        done = (index + 1) * window
        progress(done, num_steps, f"SVI, evidence bound {np.max(np.where(np.isfinite(before), before, -np.inf)):.1f}")
        if np.all(cuts > _CUTS):
            break
    progress(num_steps, num_steps, "SVI")

    ends = [jax.tree.map(lambda leaf, r=r: leaf[r], (frames, states[0])) for r in range(restarts)]
    looks = [_draws(model, law, end, key_bound, x, _BLOCK) for end in ends]
    final = np.asarray([np.mean(lp - log_q) for _, lp, log_q in looks])
    if not np.isfinite(final).any():
        raise NumericalError(
            "svi: the evidence bound is not finite in any restart; lower the learning rate or standardise the data"
        )
    statuses = np.where(~np.isfinite(final), "non_finite", np.where((cuts > _CUTS) & ~forced, "converged", "max_steps"))
    best = int(np.argmax(np.where(np.isfinite(final), final, -np.inf)))
    sites, lp, log_q = _draws(model, law, ends[best], key_draws, x, num_draws)
    importance = pareto_smoothed(lp - log_q)
    evidence = None
    if importance is not None and importance.pareto_k < 0.7:
        evidence = Evidence(
            np.asarray([importance.log_evidence]),
            importance.log_evidence,
            importance.standard_error,
            "Pareto-smoothed importance sampling from the guide, "
            + ("one labelling of the memories" if order == "none" else "all labellings of the memories"),
        )
    return EngineResult(
        sites={name: value[None] for name, value in sites.items()},
        stats={"lp": lp[None], "log_q": log_q[None]},
        objective=np.concatenate([*traces, final[:, None]], axis=1),
        objective_name="evidence lower bound",
        status=str(statuses[best]),
        note=described_order(model),
        evidence=evidence,
        pareto_k=None if importance is None else importance.pareto_k,
        restart_status=tuple(str(status) for status in statuses),
    )
