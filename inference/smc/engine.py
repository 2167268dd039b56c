r"""Tempered sequential Monte Carlo from the prior to the posterior, with the evidence, out of BlackJAX's parts.

A cloud of particles begins as draws from the prior and passes through

.. math:: \pi_t(z) \propto p(z) \, p(x \mid z)^{\beta_t}, \qquad 0 = \beta_0 < \beta_1 < \dots < \beta_T = 1

(Neal 2001; Del Moral, Doucet & Jasra 2006, doi:10.1111/j.1467-9868.2006.00553.x). Each step chooses the next inverse
temperature so that with the weights :math:`w_i \propto p(x \mid z_i)^{\beta_{t+1} - \beta_t}` a given share of the
particles stays effective, adds the log of their mean to the log evidence, resamples (systematically) and moves every
particle by a kernel that leaves the new target invariant. Particles spread over the modes while the likelihood is still
flat, so that the cloud has them in the right proportions; a chain would stay in the mode where it began.

The moves are those of :mod:`probam.inference.smc.cloud`. Runs are independent; each is a chain of the result, and their
spread is the standard error of the evidence.
"""

import os

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from probam.errors import InputError, NumericalError, Stop
from probam.family import Model
from probam.family.capabilities import Absent, Gradients
from probam.inference.common.coordinates import sites_of
from probam.inference.common.devices import devices_for, spread
from probam.inference.common.progress import Listener, Reporter, resumable
from probam.inference.common.result import EngineResult, combine_runs
from probam.inference.common.rows import counted
from probam.inference.smc.cloud import IMPOSSIBLE, LEAPFROG, Cloud, Settings, advance, begin, draws
from probam.placement import numbers_at_once

__all__ = ["run"]

_MOST_TEMPERATURES = 2000
"""A run that needs more ends with an error: the data carry more information than so many particles can follow."""

_TOGETHER = 100_000
"""Numbers (particles x data x features x memories) that are computed together on a CPU.

So many stay in cache, and avoid the large batched products on which XLA's CPU thread pool was seen to hang.
"""


def run(
    key: jax.Array,
    model: Model,
    x: Float[Array, "N D"],
    *,
    num_particles: int = 1000,
    num_chains: int = 4,
    num_moves: int = 5,
    target_ess: float = 0.7,
    mutation: str | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    sample_weight: Float[Array, " N"] | np.ndarray | None = None,
    labels: Int[np.ndarray, " N"] | Bool[np.ndarray, "N K"] | None = None,
    progress: Listener | None = None,
) -> EngineResult:
    """The particles of ``num_chains`` independent runs as draws, and the evidence.

    Args:
        num_particles: particles of a run, all of them draws of the result.
        num_chains: independent runs; the evidence has no standard error with one alone.
        num_moves: moves of every particle at each temperature (trajectories of 8 leapfrog steps, or eight times as
            many steps of a random walk). More moves follow the target better, at proportionally more cost.
        target_ess: share of the particles that stays effective from one temperature to the next. Closer to one means
            more temperatures and a smaller error.
        mutation: "hmc" or "random_walk"; None takes "hmc" where the family has gradients.
        checkpoint: a file to which the run is written every few seconds; the same call continues from it, bit for bit.
        sample_weight: how often each row counts, (N,) numbers of at least 0.
        labels: (N,) numbers of the memories to which rows belong, -1 where that is not known, or (N, K) booleans.

    Raises:
        InputError: for numbers out of range, or "hmc" with a family without gradients.
        NumericalError: when no particle gives the data a positive likelihood, or a log density is not a number.
    """
    _check(num_particles, num_chains, num_moves, target_ess)
    model, x = counted(model, x, sample_weight, labels)
    kind = _mutation(mutation, model)
    moves = num_moves * (LEAPFROG if kind == "random_walk" else 1)
    settings = Settings(num_particles, moves, kind, _batch(num_particles, x, model.num_components))
    key_prior, key_run = jax.random.split(key)
    own = {"num_chains": num_chains, "devices": devices_for(num_chains), "target_ess": target_ess}
    with resumable(progress, checkpoint, "smc", key, model, x, own | settings._asdict()) as report:
        clouds = _prior_clouds(_keys(key_prior, num_chains), model, x, settings)
        clouds = _cooled(_keys(key_run, num_chains), model, x, clouds, target_ess, settings, report)
    free, lp = draws(model, x, clouds)
    if not np.isfinite(np.asarray(lp)).all():
        raise NumericalError("smc: the log joint density is not finite at some particles; standardise the data")
    return EngineResult(
        sites={name: np.asarray(value) for name, value in sites_of(model, free).items()},
        stats={
            "lp": np.asarray(lp),
            "acceptance_rate": np.asarray(clouds.acceptance),
            "ancestor": np.asarray(clouds.ancestor),
        },
        objective=None,
        objective_name="",
        status="sampled",
        evidence=combine_runs(np.asarray(clouds.log_evidence, np.float64), "tempered sequential Monte Carlo"),
    )


def _check(num_particles: int, num_chains: int, num_moves: int, target_ess: float) -> None:
    """Raise InputError for a number out of range."""
    for name, number, least in (
        ("num_particles", num_particles, 10),
        ("num_chains", num_chains, 1),
        ("num_moves", num_moves, 1),
    ):
        if number < least:
            raise InputError(f"{name}: expected at least {least}; got {number}")
    if not 0 < target_ess < 1:
        raise InputError(f"target_ess: expected a number between 0 and 1; got {target_ess}")


def _mutation(name: str | None, model: Model) -> str:
    """The kernel that moves the particles, by default "hmc" where the family has gradients."""
    if name not in (None, "hmc", "random_walk"):
        raise InputError(f"mutation: expected 'hmc' or 'random_walk'; got {name!r}")
    gradients = Gradients.ask(model.family)
    if name == "hmc" and isinstance(gradients, Absent):
        raise InputError(f"mutation: family {model.family.name!r}: {gradients.reason}; use mutation 'random_walk'")
    return name or ("random_walk" if isinstance(gradients, Absent) else "hmc")


def _prior_clouds(keys: jax.Array, model: Model, x: jax.Array, settings: Settings) -> Cloud:
    """Prior draws of every run.

    Raises :class:`probam.errors.NumericalError` where the data are impossible under all draws of a run.
    """
    clouds = begin(model, x, keys, settings)
    log_lik = np.asarray(clouds.log_lik)
    if np.isnan(log_lik).any():
        raise NumericalError(
            f"smc: the log likelihood is not a number at {np.isnan(log_lik).sum()} of {log_lik.size} draws from the "
            "prior; standardise the data, or use double precision"
        )
    if (log_lik <= IMPOSSIBLE).all(axis=1).any():
        raise NumericalError(
            f"smc: under none of {settings.num_particles} draws from the prior are all data possible; use more "
            "particles, more components or a wider prior (with hard bounds few draws allow all data), or engine 'gibbs'"
        )
    return clouds


def _cooled(
    keys: jax.Array,
    model: Model,
    x: jax.Array,
    clouds: Cloud,
    target_ess: float,
    settings: Settings,
    progress: Reporter,
) -> Cloud:
    """The clouds of every run at inverse temperature one."""
    aim, num_devices = jnp.asarray(target_ess, x.dtype), devices_for(len(keys))
    phase = progress.phase("clouds")
    before = phase.resumed(clouds)
    clouds = spread(clouds if before is None else before.state, num_devices)
    if before is not None and before.ended:
        return clouds
    while True:
        clouds = advance(model, x, clouds, keys, aim, settings, num_devices=num_devices)
        if not np.isfinite(np.asarray(clouds.log_evidence)).all():
            raise NumericalError("smc: the log evidence is not finite; standardise the data, or use double precision")
        hottest, count = float(np.asarray(clouds.temperature).min()), int(np.max(clouds.num_temperatures))
        phase.save(count, clouds, ended=hottest >= 1)
        values = {"inverse_temperature": hottest, "acceptance": float(np.asarray(clouds.acceptance).mean())}
        progress(round(100 * hottest**0.25), 100, f"SMC, {count} temperatures", **values)
        if hottest >= 1:
            return clouds
        if progress.stopped:
            raise Stop(
                f"smc: stopped at inverse temperature {hottest:.2g}; only at 1 are the particles draws of the "
                f"posterior, so there is nothing to keep{progress.goes_on}"
            )
        if count >= _MOST_TEMPERATURES:
            raise NumericalError(
                f"smc: stopped at inverse temperature {hottest:.2g} after {count} steps; lower target_ess, or raise "
                "num_moves"
            )


def _batch(num_particles: int, x: jax.Array, num_components: int) -> int:
    """Particles at a time: a divisor of their number; 0 stands for all."""
    most = max(1, numbers_at_once(_TOGETHER) // (x.size * num_components))
    if most >= num_particles:
        return 0
    return max(size for size in range(1, most + 1) if num_particles % size == 0)


def _keys(key: jax.Array, count: int) -> jax.Array:
    """The i-th run gets the key folded with i, however many there are."""
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(count))
