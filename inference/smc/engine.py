r"""Tempered sequential Monte Carlo from the prior to the posterior, with the evidence, out of BlackJAX's parts.

A cloud of particles begins as draws from the prior and passes through

.. math:: \pi_t(z) \propto p(z) \, p(x \mid z)^{\beta_t}, \qquad 0 = \beta_0 < \beta_1 < \dots < \beta_T = 1

(Neal 2001; Del Moral, Doucet & Jasra 2006, doi:10.1111/j.1467-9868.2006.00553.x). Each step chooses the next inverse
temperature so that the weights :math:`w_i \propto p(x \mid z_i)^{\beta_{t+1} - \beta_t}` keep a wished share of the
particles effective, adds the log of their mean to the log evidence, resamples (systematically) and moves every
particle by a kernel that leaves the new target invariant. Modes are populated while the likelihood is still flat,
so that a cloud holds them in their right proportions where a chain would stay in the one it began in.

The kernel is Hamiltonian Monte Carlo; random walks serve the families without a gradient. Its scales come from the
cloud: masses are the mean squares of the slopes of the target, which are the mean curvatures *within* its modes
(integration by parts) however far apart the modes are, and the step size follows the acceptance. Runs are independent;
each is a chain of the result, and their spread is the standard error of the evidence.
"""

from functools import partial
from typing import Any, NamedTuple

import blackjax.mcmc.hmc as hmc
import blackjax.mcmc.random_walk as random_walk
import jax
import jax.numpy as jnp
import numpy as np
from blackjax.smc.base import map_fn, update_and_take_last
from blackjax.smc.ess import log_ess
from blackjax.smc.resampling import systematic
from blackjax.smc.solver import dichotomy
from jax.flatten_util import ravel_pytree
from jax.scipy.special import logsumexp
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Int
from numpyro import handlers

from probam.errors import InputError, NumericalError
from probam.family import Model, Params
from probam.family.capabilities import Absent, Gradients
from probam.inference.common.coordinates import Coordinates, sites_of
from probam.inference.common.devices import devices_for
from probam.inference.common.result import EngineResult, Progress, combine_runs, silent

__all__ = ["run"]

_CHUNK = 4
"""Temperatures between two reports of progress."""

_MOST_TEMPERATURES = 2000
"""A run that needs more is given up: the data tell more than so many particles can follow."""

_NOTHING = -1e30
"""Stands for a log likelihood of minus infinity: times a temperature of zero it is zero."""

_TOGETHER = 100_000
"""Numbers (particles x data x features x memories) that are computed side by side: they stay in cache, and XLA's CPU
thread pool is spared the large batched products at which it was seen to stand still."""

_LEAPFROG = 8
_ACCEPTANCE = {"hmc": 0.8, "random_walk": 0.25}
_FURTHEST = 50.0
"""Prior draws in unconstrained coordinates are kept within +- this: beyond, a site sits on its bound by rounding."""


class Settings(NamedTuple):
    """What the program is built from; static."""

    num_particles: int
    num_moves: int
    mutation: str
    batch: int  # particles at a time, 0 for all


class Cloud(NamedTuple):
    """The particles of one run."""

    particles: Float[Array, "P F"]  # unconstrained
    log_lik: Float[Array, " P"]
    ancestor: Int[Array, " P"]  # the prior draw that each descends from
    acceptance: Float[Array, " P"]  # of its last moves
    temperature: Float[Array, ""]  # inverse: 0 is the prior, 1 the posterior
    log_evidence: Float[Array, ""]
    log_step: Float[Array, ""]
    num_temperatures: Int[Array, ""]


class _Target(NamedTuple):
    """Log prior and log likelihood on vectors of unconstrained coordinates."""

    log_prior: Any
    log_lik: Any
    unravel: Any


def _target(model: Model, x: jax.Array) -> _Target:
    coordinates = Coordinates(model)
    _, unravel = ravel_pytree({name: zero.astype(x.dtype) for name, zero in coordinates.zeros.items()})

    def log_prior(z: jax.Array) -> jax.Array:
        return coordinates.log_prior(unravel(z)).astype(z.dtype)

    def log_lik(z: jax.Array) -> jax.Array:
        value = coordinates.log_likelihood(coordinates.constrain(unravel(z)), x)
        return jnp.where(value == -jnp.inf, _NOTHING, value).astype(z.dtype)

    return _Target(log_prior, log_lik, unravel)


@partial(jax.jit, static_argnames="settings")
def _begin(model: Model, x: jax.Array, keys: jax.Array, settings: Settings) -> Cloud:
    """Prior draws of every run."""
    target = _target(model, x)
    coordinates = Coordinates(model)

    def draw(key: jax.Array) -> jax.Array:
        trace = handlers.trace(handlers.seed(model.parameters, key)).get_trace()
        free = coordinates.unconstrain({name: trace[name]["value"] for name in coordinates.transforms})
        return jnp.clip(ravel_pytree(free)[0].astype(x.dtype), -_FURTHEST, _FURTHEST)

    def one(key: jax.Array) -> Cloud:
        particles = jax.vmap(draw)(jax.random.split(key, settings.num_particles))
        zero = jnp.zeros((), x.dtype)
        return Cloud(
            particles,
            map_fn(target.log_lik, settings.batch)(particles),
            jnp.arange(settings.num_particles),
            jnp.zeros(settings.num_particles, x.dtype),
            zero,
            zero,
            zero,
            jnp.asarray(0),
        )

    clouds: Cloud = jax.lax.map(one, keys)
    return clouds


def _next_temperature(cloud: Cloud, target_ess: jax.Array) -> jax.Array:
    """The inverse temperature at which a share ``target_ess`` of the particles is effective, 1 where more are.

    Particles under which the data are impossible are lost at any temperature, and do not count for the share.
    """
    possible = jnp.sum(cloud.log_lik > 0.5 * _NOTHING)
    aim = jnp.log(possible * target_ess)
    rest = 1 - cloud.temperature
    step: jax.Array = dichotomy(lambda delta: log_ess(delta * cloud.log_lik) - aim, jnp.zeros_like(rest), rest)
    return jnp.where(step >= rest, jnp.ones_like(rest), cloud.temperature + step)


def _mutate(
    key: jax.Array, target: _Target, particles: jax.Array, cloud: Cloud, beta: jax.Array, settings: Settings
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Particles after the moves, the acceptance of each, and the adapted log step size."""

    def log_density(z: jax.Array) -> jax.Array:
        return jnp.asarray(target.log_prior(z) + beta * target.log_lik(z))

    if settings.mutation == "hmc":
        kernel = hmc.build_kernel()
        slopes = map_fn(jax.grad(log_density), settings.batch)(particles)
        square = jnp.mean(jnp.where(jnp.isfinite(slopes), slopes, 0) ** 2, axis=0)
        shape = 1 / (square + 1 / _spread(particles) ** 2)
        unit = particles.shape[1] ** -0.25  # the step size at which acceptance settles falls so with the dimension

        def step(key: jax.Array, state: Any, density: Any, scale: jax.Array) -> tuple[Any, jax.Array]:
            state, info = kernel(key, state, density, scale, shape, _LEAPFROG)
            return state, info.acceptance_rate

        init = hmc.init
    else:
        walk = random_walk.build_additive_step()
        shape = _spread(particles)
        unit = 2.4 / particles.shape[1] ** 0.5

        def step(key: jax.Array, state: Any, density: Any, scale: jax.Array) -> tuple[Any, jax.Array]:
            state, info = walk(key, state, density, lambda key, at: scale * _jump(key, at, shape))
            return state, info.acceptance_rate

        init = random_walk.init

    update, _ = update_and_take_last(init, log_density, step, 1, settings.num_particles, settings.batch)

    def move(carry: tuple[jax.Array, jax.Array], key: jax.Array) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        particles, log_step = carry
        key_scale, key_moves = jax.random.split(key)
        stretch = jax.random.uniform(key_scale, (settings.num_particles,), particles.dtype, 0.4, 1.6)
        keys = jax.random.split(key_moves, settings.num_particles)
        particles, acceptance = update(keys, particles, {"scale": unit * jnp.exp(log_step) * stretch})
        acceptance = acceptance[:, 0].astype(particles.dtype)
        log_step = log_step + jnp.mean(acceptance) - _ACCEPTANCE[settings.mutation]
        return (particles, log_step), acceptance

    keys = jax.random.split(key, settings.num_moves)
    (particles, log_step), acceptance = jax.lax.scan(move, (particles, cloud.log_step), keys)
    return particles, jnp.mean(acceptance, axis=0), log_step


def _spread(particles: jax.Array) -> jax.Array:
    """Standard deviation of every coordinate over the cloud."""
    return jnp.maximum(jnp.std(particles, axis=0), np.finfo(particles.dtype).eps)


def _jump(key: jax.Array, at: jax.Array, spread: jax.Array) -> jax.Array:
    """A random walk's step: some coordinates only, and over two decades of lengths, since no one length suits all."""
    key_share, key_which, key_length, key_step = jax.random.split(key, 4)
    share = jnp.exp(jax.random.uniform(key_share, (), at.dtype, -jnp.log(1.0 * len(at)), 0.0))
    chosen = jax.random.uniform(key_which, at.shape, at.dtype) < share
    length = jnp.exp(jax.random.uniform(key_length, (), at.dtype, -4.0, 0.5))
    return jnp.where(chosen, length * spread * jax.random.normal(key_step, at.shape, at.dtype), 0)


def _cool(key: jax.Array, target: _Target, cloud: Cloud, target_ess: jax.Array, settings: Settings) -> Cloud:
    """One temperature: reweigh, resample, move."""
    key_resample, key_move = jax.random.split(key)
    beta = _next_temperature(cloud, target_ess)
    log_weights = (beta - cloud.temperature) * cloud.log_lik
    total = logsumexp(log_weights)
    chosen = systematic(key_resample, jnp.exp(log_weights - total), settings.num_particles)
    particles, acceptance, log_step = _mutate(key_move, target, cloud.particles[chosen], cloud, beta, settings)
    return Cloud(
        particles,
        map_fn(target.log_lik, settings.batch)(particles),
        cloud.ancestor[chosen],
        acceptance,
        beta,
        cloud.log_evidence + total - jnp.log(1.0 * settings.num_particles).astype(total.dtype),
        log_step,
        cloud.num_temperatures + 1,
    )


@partial(jax.jit, static_argnames=("settings", "num_devices"))
def _advance(
    model: Model,
    x: jax.Array,
    clouds: Cloud,
    keys: jax.Array,
    target_ess: jax.Array,
    settings: Settings,
    *,
    num_devices: int,
) -> Cloud:
    """At most ``_CHUNK`` further temperatures of every run; temperature t of a run has the key of t."""

    def one(model: Model, x: jax.Array, target_ess: jax.Array, cloud: Cloud, key: jax.Array) -> Cloud:
        target, last = _target(model, x), cloud.num_temperatures + _CHUNK

        def cool(cloud: Cloud) -> Cloud:
            return _cool(jax.random.fold_in(key, cloud.num_temperatures), target, cloud, target_ess, settings)

        def unfinished(cloud: Cloud) -> jax.Array:
            finite = jnp.isfinite(cloud.log_evidence)
            return finite & (cloud.temperature < 1) & (cloud.num_temperatures < last)

        cooled: Cloud = jax.lax.while_loop(unfinished, cool, cloud)
        return cooled

    def runs(model: Model, x: jax.Array, target_ess: jax.Array, clouds: Cloud, keys: jax.Array) -> Cloud:
        cooled: Cloud = jax.lax.map(lambda inputs: one(model, x, target_ess, *inputs), (clouds, keys))
        return cooled

    spread, whole = PartitionSpec("chain"), PartitionSpec()
    mesh = Mesh(np.asarray(jax.devices()[:num_devices]), ("chain",))
    specs = (whole, whole, whole, spread, spread)
    return jax.shard_map(runs, mesh=mesh, in_specs=specs, out_specs=spread, check_vma=False)(
        model, x, target_ess, clouds, keys
    )


@jax.jit
def _draws(model: Model, x: jax.Array, clouds: Cloud) -> tuple[Params, jax.Array]:
    """Unconstrained sites and log joint density of the particles of every run."""
    target = _target(model, x)
    log_prior = jax.lax.map(jax.vmap(target.log_prior), clouds.particles)
    return jax.vmap(jax.vmap(target.unravel))(clouds.particles), log_prior + clouds.log_lik


def _batch(num_particles: int, x: jax.Array, num_components: int) -> int:
    """Particles at a time: a divisor of their number; 0 stands for all."""
    most = max(1, _TOGETHER // (x.size * num_components))
    if most >= num_particles:
        return 0
    return max(size for size in range(1, most + 1) if num_particles % size == 0)


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
    progress: Progress = silent,
) -> EngineResult:
    """The particles of ``num_chains`` independent runs as draws, and the evidence.

    Args:
        num_particles: particles of a run, all of them draws of the result.
        num_chains: independent runs; the evidence has no standard error with one alone.
        num_moves: moves of every particle at each temperature (trajectories of 8 leapfrog steps, or eight times as
            many steps of a random walk). More moves follow the target better, at proportionally more cost.
        target_ess: share of the particles that stays effective from one temperature to the next; nearer to one means
            more temperatures and a smaller error.
        mutation: "hmc" or "random_walk"; by default the former wherever the family has gradients.

    Raises:
        InputError: for numbers out of range, or "hmc" with a family without gradients.
        NumericalError: when no particle gives the data a positive likelihood, or a log density is not a number.
    """
    for name, number, least in (
        ("num_particles", num_particles, 10),
        ("num_chains", num_chains, 1),
        ("num_moves", num_moves, 1),
    ):
        if number < least:
            raise InputError(f"{name}: expected at least {least}; got {number}")
    if not 0 < target_ess < 1:
        raise InputError(f"target_ess: expected a number between 0 and 1; got {target_ess}")
    if mutation not in (None, "hmc", "random_walk"):
        raise InputError(f"mutation: expected 'hmc' or 'random_walk'; got {mutation!r}")
    gradients = Gradients.ask(model.family)
    if mutation == "hmc" and isinstance(gradients, Absent):
        raise InputError(f"mutation: family {model.family.name!r}: {gradients.reason}; use mutation 'random_walk'")
    kind = mutation or ("hmc" if gradients else "random_walk")
    moves = num_moves * (_LEAPFROG if kind == "random_walk" else 1)
    settings = Settings(num_particles, moves, kind, _batch(num_particles, x, model.num_components))

    key_prior, key_run = jax.random.split(key)
    clouds = _begin(model, x, _keys(key_prior, num_chains), settings)
    log_lik = np.asarray(clouds.log_lik)
    if np.isnan(log_lik).any():
        raise NumericalError(
            f"smc: the log likelihood is not a number at {np.isnan(log_lik).sum()} of {log_lik.size} draws from the "
            "prior; standardise the data, or use double precision"
        )
    if (log_lik <= 0.5 * _NOTHING).all(axis=1).any():
        raise NumericalError(
            f"smc: under none of {num_particles} draws from the prior are all data possible; use more particles, more "
            "components or a wider prior (a family with hard bounds has few such draws), or engine 'gibbs'"
        )
    keys, aim = _keys(key_run, num_chains), jnp.asarray(target_ess, x.dtype)
    num_devices = devices_for(num_chains)
    while True:
        clouds = _advance(model, x, clouds, keys, aim, settings, num_devices=num_devices)
        temperature, count = np.asarray(clouds.temperature), int(np.max(clouds.num_temperatures))
        if not np.isfinite(np.asarray(clouds.log_evidence)).all():
            raise NumericalError("smc: the log evidence is not finite; standardise the data, or use double precision")
        coldest = float(temperature.min())
        text = f"SMC, inverse temperature {coldest:.2g} after {count} steps"
        progress(round(100 * coldest**0.25), 100, text)
        if coldest >= 1:
            break
        if count >= _MOST_TEMPERATURES:
            raise NumericalError(
                f"smc: at inverse temperature {coldest:.2g} after {count} steps; lower target_ess, or raise num_moves"
            )
    free, lp = _draws(model, x, clouds)
    if not np.isfinite(np.asarray(lp)).all():
        raise NumericalError("smc: the log joint density is not finite at some particles; standardise the data")
    stats = {
        "lp": np.asarray(lp),
        "acceptance_rate": np.asarray(clouds.acceptance),
        "ancestor": np.asarray(clouds.ancestor),
    }
    return EngineResult(
        sites={name: np.asarray(value) for name, value in sites_of(model, free).items()},
        stats=stats,
        objective=None,
        objective_name="",
        status="sampled",
        evidence=combine_runs(np.asarray(clouds.log_evidence, np.float64), "tempered sequential Monte Carlo"),
    )


def _keys(key: jax.Array, count: int) -> jax.Array:
    """The i-th run gets the key folded with i, however many there are."""
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(count))
