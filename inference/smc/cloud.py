"""A cloud of particles: draws from the prior that are cooled, one inverse temperature after the other.

The kernel is Hamiltonian Monte Carlo, and a random walk for families without gradients. Its scales come from the cloud:
masses are the mean squares of the gradients of the target, which by partial integration are the mean curvatures
*within* its modes, however distant the modes are. The step size follows the acceptance.
"""

import math
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
from jaxtyping import Array, Float, Int
from numpyro import handlers

from probam.family import Model, Params
from probam.inference.common.coordinates import Coordinates
from probam.inference.common.devices import over_chains
from probam.placement import each

__all__ = ["IMPOSSIBLE", "LEAPFROG", "Cloud", "Settings", "advance", "begin", "draws"]

_CHUNK = 4
"""Temperatures between two reports of progress."""

_NOTHING = -1e30
"""Replaces a log likelihood of minus infinity: times an inverse temperature of zero it is zero."""

IMPOSSIBLE = 0.5 * _NOTHING
"""Log likelihood below which the data are impossible."""

LEAPFROG = 8
"""Steps of a trajectory of Hamiltonian Monte Carlo."""

_ACCEPTANCE = {"hmc": 0.8, "random_walk": 0.25}
"""Acceptance at which the step size aims."""

_FURTHEST = 50.0
"""Bound on prior draws in unconstrained coordinates: beyond, rounding puts a site on its own bound.

It is for sites that have such a bound (sticks, proportions). Locations are their own coordinates, in the units of the
data, and have none.
"""


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


def _numbers(model: Model, x: jax.Array, settings: Settings) -> int:
    """How many numbers a run holds at a time."""
    return (settings.batch or settings.num_particles) * x.size * model.num_components


@partial(jax.jit, static_argnames="settings")
def begin(model: Model, x: jax.Array, keys: jax.Array, settings: Settings) -> Cloud:
    """Prior draws of every run."""
    target = _target(model, x)
    coordinates = Coordinates(model)
    furthest = _furthest(coordinates, target.unravel, x.dtype)

    def draw(key: jax.Array) -> jax.Array:
        trace = handlers.trace(handlers.seed(model.sites, key)).get_trace()
        free = coordinates.unconstrain({name: trace[name]["value"] for name in coordinates.transforms})
        return jnp.clip(ravel_pytree(free)[0].astype(x.dtype), -furthest, furthest)

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

    clouds: Cloud = each(one, keys, numbers=_numbers(model, x, settings))
    return clouds


def _furthest(coordinates: Coordinates, unravel: Any, dtype: Any) -> Float[Array, " F"]:
    """How far from zero each unconstrained coordinate of a prior draw may lie.

    Coordinates that are the site itself have no bound, logarithms that of the floating-point numbers, and those of
    sites that stand still beyond ``_FURTHEST`` have that.
    """
    num_free = sum(math.prod(shape) for shape in coordinates.shapes.values())
    near, far = (unravel(jnp.full(num_free, place, dtype)) for place in (_FURTHEST, 1.2 * _FURTHEST))
    sites, further = coordinates.constrain(near), coordinates.constrain(far)

    def bound(name: str) -> jax.Array:
        values = sites[name]
        is_own = jnp.all(values == _FURTHEST)
        stands_still = jnp.any((values == further[name]) & (values != 0))
        most = 0.9 * math.log(float(np.finfo(dtype).max))
        return jnp.where(is_own, jnp.inf, jnp.where(stands_still, _FURTHEST, most)).astype(dtype)

    bounds = {name: jnp.full_like(value, 1) * bound(name) for name, value in near.items()}
    return ravel_pytree(bounds)[0]


def _next_temperature(cloud: Cloud, target_ess: jax.Array) -> jax.Array:
    """The inverse temperature at which a share ``target_ess`` of the particles is effective, at most 1.

    Particles under which the data are impossible do not count: they are lost at any temperature.
    """
    possible = jnp.sum(cloud.log_lik > IMPOSSIBLE)
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
        unit = particles.shape[1] ** -0.25  # at equal acceptance the step size falls so with the dimension

        def step(key: jax.Array, state: Any, density: Any, scale: jax.Array) -> tuple[Any, jax.Array]:
            state, info = kernel(key, state, density, scale, shape, LEAPFROG)
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
    """A step of the random walk: of some coordinates, with lengths over two decades, since no length suits all."""
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
def advance(
    model: Model,
    x: jax.Array,
    clouds: Cloud,
    keys: jax.Array,
    target_ess: jax.Array,
    settings: Settings,
    *,
    num_devices: int,
) -> Cloud:
    """At most ``_CHUNK`` further temperatures of every run.

    Args:
        keys: one for each run; temperature t of a run uses the key folded with t.
        target_ess: share of the particles that stays effective from one temperature to the next.
        num_devices: devices over which the runs are spread; a divisor of their number.
    """

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
        cooled: Cloud = each(
            lambda inputs: one(model, x, target_ess, *inputs), (clouds, keys), numbers=_numbers(model, x, settings)
        )
        return cooled

    return over_chains(runs, num_devices, num_shared=3)(model, x, target_ess, clouds, keys)


@jax.jit
def draws(model: Model, x: jax.Array, clouds: Cloud) -> tuple[Params, jax.Array]:
    """Unconstrained sites and log joint density of the particles of every run."""
    target = _target(model, x)
    log_prior = each(jax.vmap(target.log_prior), clouds.particles, numbers=clouds.particles[0].size)
    return jax.vmap(jax.vmap(target.unravel))(clouds.particles), log_prior + clouds.log_lik
