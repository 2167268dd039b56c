r"""The chains of NUTS: NumPyro's kernel on a model, the first states of the chains, and their transitions.

One jitted loop of our own drives the kernel's steps; it is compiled once per shape. Chains are spread over the JAX
devices. On a CPU those of one device go one after the other, so that none waits for the longest tree of another; on a
GPU they go side by side (:mod:`probam.placement`). Warm-up (step size and mass matrix) is the kernel's.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpyro.infer import NUTS
from numpyro.infer.hmc import HMCState

from probam.compiled import compiled_by_size, compiled_quickly, is_small
from probam.errors import NumericalError
from probam.family import Model, Params
from probam.inference.common.coordinates import Coordinates
from probam.inference.common.devices import over_chains
from probam.inference.gradient_em.warm import Start
from probam.placement import each

__all__ = ["Chunk", "Settings", "advance", "first_states", "states_like"]

_JITTER = 0.1
"""Standard deviation of the noise added to each chain's start, in unconstrained coordinates."""


class Settings(NamedTuple):
    """What the kernel is built from; static."""

    num_warmup: int
    target_accept: float
    dense_mass: bool
    max_tree_depth: int


class Chunk(NamedTuple):
    """How the transitions of one call run; static."""

    size: int  # most transitions
    num_devices: int


def first_states(key_jitter: jax.Array, key_run: jax.Array, start: Start, settings: Settings) -> HMCState:
    """First states of the chains: one at each start, with a little noise.

    Args:
        key_jitter: for the noise.
        key_run: for the chains.

    Raises:
        NumericalError: where the log density is not finite at a start.
    """
    keys = jax.random.split(key_run, len(start))
    free = start.free
    moved = _jittered(key_jitter, free)
    states = _begin(start.model, start.x, moved, keys, settings)
    astray = ~np.isfinite(np.asarray(states.potential_energy))
    if astray.any():  # the noise moved a datum outside every support: these chains begin at their start itself
        back = jnp.asarray(astray)
        moved = jax.tree.map(lambda at, by: jnp.where(back.reshape(-1, *[1] * (at.ndim - 1)), at, by), free, moved)
        states = _begin(start.model, start.x, moved, keys, settings)
    if not np.isfinite(np.asarray(states.potential_energy)).all():
        raise NumericalError("nuts: the log density is not finite where a chain starts; standardise the data")
    return states


def states_like(key: jax.Array, model: Model, x: jax.Array, num_chains: int, settings: Settings) -> HMCState:
    """Structure, shapes and dtypes of the states; nothing is computed."""
    zeros = Coordinates(model).zeros

    def begin() -> HMCState:
        free = {name: jnp.zeros((num_chains, *zero.shape), zero.dtype) for name, zero in zeros.items()}
        return _states(model, x, free, jax.random.split(key, num_chains), settings)

    like: HMCState = jax.eval_shape(begin)
    return like


def _states(model: Model, x: jax.Array, free: Params, keys: jax.Array, settings: Settings) -> HMCState:
    """First state of every chain."""
    vectors = jax.vmap(Coordinates(model).flatten)(free)
    return jax.vmap(lambda free, key: _kernel(model, x, free, key, settings)[1])(vectors, keys)


_begin = compiled_by_size(lambda model, x, *_: is_small(x, model.num_components), static_argnames="settings")(_states)


@compiled_quickly()
def _jittered(key: jax.Array, free: Params) -> Params:
    """Unconstrained values with noise."""
    leaves, structure = jax.tree.flatten(free)
    noise = [
        _JITTER * jax.random.normal(jax.random.fold_in(key, i), leaf.shape, leaf.dtype) for i, leaf in enumerate(leaves)
    ]
    return jax.tree.unflatten(structure, [leaf + eps for leaf, eps in zip(leaves, noise, strict=True)])


@partial(jax.jit, static_argnames=("settings", "chunk"))
def advance(
    model: Model, x: jax.Array, states: HMCState, num_steps: jax.Array, settings: Settings, chunk: Chunk
) -> tuple[HMCState, dict[str, Any]]:
    """``num_steps`` transitions of every chain, and what is recorded of each, in the first of ``chunk.size`` rows.

    The number of steps is not part of the program: chunks of any length run the same instructions, so that the bits of
    a run do not depend on where it is interrupted.
    """

    def chain(model: Model, x: jax.Array, num_steps: jax.Array, state: HMCState) -> tuple[HMCState, dict[str, Any]]:
        # init sets up the kernel; the state that it returns is not used, and so not computed
        kernel, _ = _kernel(model, x, state.z, jax.random.key(0), settings)
        places = jax.tree.map(lambda leaf: jnp.zeros((chunk.size, *leaf.shape), leaf.dtype), _watched(state))

        def step(i: jax.Array, carry: tuple[HMCState, dict[str, Any]]) -> tuple[HMCState, dict[str, Any]]:
            state, kept = carry
            state = kernel.sample(state, (), {})
            return state, jax.tree.map(lambda rows, row: rows.at[i].set(row), kept, _watched(state))

        return jax.lax.fori_loop(0, num_steps, step, (state, places))

    def chains(model: Model, x: jax.Array, num_steps: jax.Array, states: HMCState) -> tuple[HMCState, dict[str, Any]]:
        return each(partial(chain, model, x, num_steps), states, numbers=x.size * model.num_components)

    return over_chains(chains, chunk.num_devices, num_shared=3)(model, x, num_steps, states)


def _kernel(
    model: Model, x: jax.Array, free: Float[Array, " P"], key: jax.Array, settings: Settings
) -> tuple[NUTS, HMCState]:
    """NumPyro's kernel on the model's log joint, and its first state.

    The kernel works on one vector: for its small steps three sites would be three times the work of one.
    """
    coordinates = Coordinates(model)
    log_joint = coordinates.log_joint_given(x)
    kernel = NUTS(
        potential_fn=lambda z: -log_joint(coordinates.unflatten(z)),
        target_accept_prob=settings.target_accept,
        dense_mass=settings.dense_mass,
        max_tree_depth=settings.max_tree_depth,
    )
    return kernel, kernel.init(key, settings.num_warmup, free, (), {})


def _watched(state: HMCState) -> dict[str, Any]:
    """What is recorded of each draw, under ArviZ's names."""
    return {
        "z": state.z,
        "lp": -state.potential_energy,
        "energy": state.energy,
        "diverging": state.diverging,
        "n_steps": state.num_steps,
        "tree_depth": jnp.ceil(jnp.log2(state.num_steps + 1.0)).astype(jnp.int32),
        "acceptance_rate": state.accept_prob,
        "step_size": state.adapt_state.step_size,
    }
