r"""The chains of NUTS: NumPyro's kernel on a model, the states in which chains begin, and how they go on.

The kernel's steps are driven by one jitted loop of ours that is compiled once per shape: every chain runs through
``lax.map`` (chains are independent, so a chain never waits for the longest tree of another), and chains are spread over
the JAX devices there are. Warm-up (step size and mass matrix) is the kernel's.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float
from numpyro.infer import NUTS
from numpyro.infer.hmc import HMCState

from probam.errors import NumericalError
from probam.family import Model, Params
from probam.inference.common.coordinates import Coordinates
from probam.inference.gradient_em.warm import Start

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

    room: int
    num_devices: int


def first_states(key_jitter: jax.Array, key_run: jax.Array, start: Start, settings: Settings) -> HMCState:
    """States in which the chains begin: the starts with a little noise, a chain at each.

    Raises :class:`probam.errors.NumericalError` where the log density is not finite even at the starts.
    """
    keys = jax.random.split(key_run, len(start))
    free = start.free
    moved = _jittered(key_jitter, free)
    states = _begin(start.model, start.x, moved, keys, settings)
    astray = ~np.isfinite(np.asarray(states.potential_energy))
    if astray.any():  # the noise put a datum outside every support: such chains begin at their start itself
        lost = jnp.asarray(astray)
        moved = jax.tree.map(lambda at, by: jnp.where(lost.reshape(-1, *[1] * (at.ndim - 1)), at, by), free, moved)
        states = _begin(start.model, start.x, moved, keys, settings)
    if not np.isfinite(np.asarray(states.potential_energy)).all():
        raise NumericalError("nuts: the log density is not finite where a chain starts; standardise the data")
    return states


def states_like(key: jax.Array, model: Model, x: jax.Array, num_chains: int, settings: Settings) -> HMCState:
    """Structure, shapes and dtypes of the states; nothing is computed."""
    zeros = Coordinates(model).zeros

    def begin() -> HMCState:
        free = {name: jnp.zeros((num_chains, *zero.shape), zero.dtype) for name, zero in zeros.items()}
        return _begin(model, x, free, jax.random.split(key, num_chains), settings)

    like: HMCState = jax.eval_shape(begin)
    return like


@partial(jax.jit, static_argnames="settings")
def _begin(model: Model, x: jax.Array, free: Params, keys: jax.Array, settings: Settings) -> HMCState:
    """First state of every chain."""
    vectors = jax.vmap(Coordinates(model).flatten)(free)
    return jax.vmap(lambda free, key: _kernel(model, x, free, key, settings)[1])(vectors, keys)


@jax.jit
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
    """``num_steps`` transitions of every chain, and what is kept of each: the first of ``chunk.room`` places.

    The number of steps is no part of the program: chunks of all lengths run the same instructions, so where a run is
    cut makes no difference to its bits.
    """

    def chain(model: Model, x: jax.Array, num_steps: jax.Array, state: HMCState) -> tuple[HMCState, dict[str, Any]]:
        # the kernel learns its settings from init; the state it makes is not used and not computed
        kernel, _ = _kernel(model, x, state.z, jax.random.key(0), settings)
        places = jax.tree.map(lambda leaf: jnp.zeros((chunk.room, *leaf.shape), leaf.dtype), _watched(state))

        def step(i: jax.Array, carry: tuple[HMCState, dict[str, Any]]) -> tuple[HMCState, dict[str, Any]]:
            state, kept = carry
            state = kernel.sample(state, (), {})
            return state, jax.tree.map(lambda rows, row: rows.at[i].set(row), kept, _watched(state))

        return jax.lax.fori_loop(0, num_steps, step, (state, places))

    def chains(model: Model, x: jax.Array, num_steps: jax.Array, states: HMCState) -> tuple[HMCState, dict[str, Any]]:
        return jax.lax.map(partial(chain, model, x, num_steps), states)

    spread, whole = PartitionSpec("chain"), PartitionSpec()
    mesh = Mesh(np.asarray(jax.devices()[: chunk.num_devices]), ("chain",))
    return jax.shard_map(chains, mesh=mesh, in_specs=(whole, whole, whole, spread), out_specs=spread, check_vma=False)(
        model, x, num_steps, states
    )


def _kernel(
    model: Model, x: jax.Array, free: Float[Array, " P"], key: jax.Array, settings: Settings
) -> tuple[NUTS, HMCState]:
    """NumPyro's kernel on the model's log joint, and its first state.

    The kernel walks on one vector: for each of its small steps three sites are three times the work of one.
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
    """What is kept of each draw, under ArviZ's names."""
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
