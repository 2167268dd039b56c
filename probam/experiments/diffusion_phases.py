r"""Phases of a diffusion at one noise: where its denoiser comes to rest, and whose state that is.

Starts are data with noise. The denoiser is applied until a state rests, at a minimum of the energy at this noise. Three
kinds of minima, told apart by the data and the curvature alone:

* *memorised*: one datum has more than half of the responsibility;
* *spurious*: several data share it, and the minimum is stiff in every direction;
* *generalised*: several data share it, and in some direction more than half of a small displacement is left after a
  step. Along that direction the energy is flat, as on a manifold of states.

How much a minimum holds is measured three times: by where recall leads after noise was added (the volume of the basin),
by whether the diffusion at this noise (Langevin dynamics) leaves it, and by its softest direction.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from probam.energies import clam

__all__ = ["PHASES", "REACHES", "Rests", "by_phase", "exact", "phase_of", "rests", "settled"]

PHASES = ("memorised", "spurious", "generalised")

REACHES = (1.0, 2.0, 4.0)
"""How far states are moved before they are recalled again: standard deviations of the move, in those of the noise."""

_MOST_STEPS = 400
_STILL = 1e-5
"""Length of a step, in noises, at which a state rests."""
_SAME = 0.5
"""Distance of two rests, in noises, below which they are one."""
_POWER_STEPS = 40
_LANGEVIN_STEP, _LANGEVIN_STEPS = 0.1, 100
"""Steps of the Langevin dynamics: ten times the time in which a state relaxes in a stiff direction."""


_Denoiser = Callable[[Float[Array, "Q D"]], Float[Array, "Q D"]]


class Rests(NamedTuple):
    """Where states come to rest, and what these places are like."""

    states: Float[Array, "Q D"]
    own: Float[Array, " Q"]  # largest responsibility of a datum
    softest: Float[Array, " Q"]  # largest share of a small displacement that is left after a step
    returned: Bool[Array, "R Q"]  # whether recall leads back after a move of each reach
    stayed: Bool[Array, " Q"]  # whether it does after Langevin dynamics at this noise


def exact(data: Float[Array, "N D"], present: Float[Array, " N"], noise: Float[Array, ""]) -> _Denoiser:
    """The denoiser of the data with a weight above 0: their mean under the responsibilities at this noise."""
    return partial(clam.update, memories=data, beta=0.5 / noise**2, weights=present)


@jax.jit
def rests(
    data: Float[Array, "N D"],
    present: Float[Array, " N"],
    starts: Float[Array, "Q D"],
    key: jax.Array,
    noise: Float[Array, ""],
) -> Rests:
    """Where the denoiser of the data comes to rest from each start, and what these places are like.

    Args:
        data: those that were stored or learned.
        present: weight of each datum, 0 for those that are not there (so that one program serves several numbers).
        starts: noisy states.
        key: of the moves and of the Langevin dynamics.
        noise: s.
    """
    denoise = exact(data, present, noise)
    states = settled(data, present, starts, noise)
    key_soft, key_move, key_walk = jax.random.split(key, 3)
    own = jnp.max(clam.responsibilities(states, data, 0.5 / noise**2, present), axis=-1)
    moves = noise * jnp.asarray(REACHES)[:, None, None] * jax.random.normal(key_move, (len(REACHES), *states.shape))
    walked = _walked(denoise, states + moves[0], key_walk, noise)
    others = jnp.concatenate([(states + moves).reshape(-1, states.shape[-1]), walked])
    again = settled(data, present, others, noise).reshape(-1, *states.shape)
    same = jnp.linalg.norm(again - states, axis=-1) < _SAME * noise
    return Rests(states, own, _softest(denoise, states, key_soft), same[:-1], same[-1])


@jax.jit
def settled(
    data: Float[Array, "N D"], present: Float[Array, " N"], starts: Float[Array, "Q D"], noise: Float[Array, ""]
) -> Float[Array, "Q D"]:
    """Where the denoiser comes to rest from each start; arguments as those of :func:`rests`."""
    denoise = exact(data, present, noise)

    def goes_on(carry: tuple[Array, Array, Array]) -> Array:
        return (carry[1] < _MOST_STEPS) & (carry[2] > _STILL * noise)

    def step(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        moved = denoise(carry[0])
        return moved, carry[1] + 1, jnp.max(jnp.linalg.norm(moved - carry[0], axis=-1))

    far = jnp.asarray(jnp.inf, starts.dtype)
    ended: tuple[Array, Array, Array] = jax.lax.while_loop(goes_on, step, (starts, jnp.asarray(0), far))
    return ended[0]


def _softest(denoise: _Denoiser, states: Float[Array, "Q D"], key: jax.Array) -> Float[Array, " Q"]:
    """The largest eigenvalue of the denoiser's Jacobian at each state, by the power method."""

    def pushed(u: Array) -> Array:
        tangent: Array = jax.jvp(denoise, (states,), (u,))[1]
        return tangent

    def unit(u: Array) -> Array:
        length = jnp.linalg.norm(u, axis=-1, keepdims=True)
        divisor: Array = jnp.where(length > 0, length, 1)
        return u / divisor

    start = unit(jax.random.normal(key, states.shape, states.dtype))
    ended = jax.lax.fori_loop(0, _POWER_STEPS, lambda _, u: unit(pushed(u)), start)
    return jnp.sum(ended * pushed(ended), axis=-1)


def _walked(denoise: _Denoiser, states: Float[Array, "Q D"], key: jax.Array, noise: Float[Array, ""]) -> Array:
    """The states after Langevin dynamics that leave the density at this noise as it is."""

    def step(x: Array, key: jax.Array) -> tuple[Array, None]:
        kick = jnp.sqrt(2 * _LANGEVIN_STEP) * noise * jax.random.normal(key, x.shape, x.dtype)
        return x + _LANGEVIN_STEP * (denoise(x) - x) + kick, None

    walked, _ = jax.lax.scan(step, states, jax.random.split(key, _LANGEVIN_STEPS))
    return walked


def phase_of(own: Float[np.ndarray, " Q"], softest: Float[np.ndarray, " Q"]) -> Int[np.ndarray, " Q"]:
    """Number of the phase of each rest, in the order of :data:`PHASES`.

    >>> phase_of(np.array([0.9, 0.3, 0.3]), np.array([0.2, 0.2, 0.8])).tolist()
    [0, 1, 2]
    """
    return np.where(own > 0.5, 0, np.where(softest > 0.5, 2, 1))


def by_phase(phase: Int[np.ndarray, " Q"], values: np.ndarray) -> Float[np.ndarray, " P"]:
    """Mean of the values in each phase, NaN where there is none.

    >>> by_phase(np.array([0, 0, 2]), np.array([1.0, 3.0, 5.0])).tolist()
    [2.0, nan, 5.0]
    """
    return np.array([values[phase == p].mean() if (phase == p).any() else np.nan for p in range(len(PHASES))])
