r"""The No-U-Turn sampler on the marginal density, through NumPyro's own kernel.

The kernel's steps are driven by one jitted loop of ours that is compiled once per shape: every chain runs through
``lax.map`` (chains are independent, so a chain never waits for the longest tree of another), and chains are spread over
the JAX devices there are. Warm-up (step size and mass matrix) is the kernel's. Chains begin at different optima of
EM, best first; that they agree is checked afterwards on label-invariant quantities, never assumed.
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

from probam.errors import InputError, NumericalError
from probam.family import Model, Params
from probam.inference.coordinates import Coordinates, sites_of, unconstrained
from probam.inference.result import EngineResult, Progress, silent
from probam.inference.warm import warm_starts

__all__ = ["run"]

_CHUNK = 100
_JITTER = 0.1
"""Standard deviation of the noise added to each chain's start, in unconstrained coordinates."""


class Settings(NamedTuple):
    """What the kernel is built from; static."""

    num_warmup: int
    target_accept: float
    dense_mass: bool
    max_tree_depth: int


def _kernel(model: Model, x: jax.Array, free: Params, key: jax.Array, settings: Settings) -> tuple[NUTS, HMCState]:
    """NumPyro's kernel on the model's log joint, and its first state."""
    coordinates = Coordinates(model)
    kernel = NUTS(
        potential_fn=lambda z: -coordinates.log_joint(z, x),
        target_accept_prob=settings.target_accept,
        dense_mass=settings.dense_mass,
        max_tree_depth=settings.max_tree_depth,
    )
    return kernel, kernel.init(key, settings.num_warmup, free, (), {})


@partial(jax.jit, static_argnames="settings")
def _begin(model: Model, x: jax.Array, free: Params, keys: jax.Array, settings: Settings) -> HMCState:
    """First state of every chain."""
    return jax.vmap(lambda free, key: _kernel(model, x, free, key, settings)[1])(free, keys)


@partial(jax.jit, static_argnames=("settings", "num_steps", "num_devices"))
def _advance(
    model: Model, x: jax.Array, states: HMCState, settings: Settings, *, num_steps: int, num_devices: int
) -> tuple[HMCState, dict[str, Any]]:
    """``num_steps`` transitions of every chain, and what is kept of each."""

    def chain(model: Model, x: jax.Array, state: HMCState) -> tuple[HMCState, dict[str, Any]]:
        # the kernel learns its settings from init; the state it makes is not used and not computed
        kernel, _ = _kernel(model, x, state.z, jax.random.key(0), settings)

        def step(state: HMCState, _: None) -> tuple[HMCState, dict[str, Any]]:
            state = kernel.sample(state, (), {})
            return state, _watched(state)

        return jax.lax.scan(step, state, None, length=num_steps)

    def chains(model: Model, x: jax.Array, states: HMCState) -> tuple[HMCState, dict[str, Any]]:
        return jax.lax.map(partial(chain, model, x), states)

    spread, whole = PartitionSpec("chain"), PartitionSpec()
    mesh = Mesh(np.asarray(jax.devices()[:num_devices]), ("chain",))
    return jax.shard_map(chains, mesh=mesh, in_specs=(whole, whole, spread), out_specs=spread, check_vma=False)(
        model, x, states
    )


def _devices(num_chains: int) -> int:
    """How many devices the chains can be spread over evenly."""
    available = len(jax.devices())
    return max(count for count in range(1, available + 1) if num_chains % count == 0)


def run(
    key: jax.Array,
    model: Model,
    x: Float[Array, "N D"],
    *,
    num_chains: int = 4,
    num_warmup: int = 1000,
    num_draws: int = 1000,
    target_accept: float = 0.8,
    dense_mass: bool = False,
    max_tree_depth: int = 10,
    progress: Progress = silent,
) -> EngineResult:
    """Draws of ``num_chains`` chains.

    Args:
        num_warmup: adaptation steps of each chain, thrown away.
        num_draws: kept draws of each chain.
        target_accept: acceptance probability that the step size aims at; raise it (0.95) against divergences.
        dense_mass: adapt a full mass matrix (worth it when parameters are strongly correlated and few).
        max_tree_depth: trees stop at 2^depth leapfrog steps.

    Raises:
        InputError: for numbers below one or a target outside (0, 1).
        NumericalError: when a chain's log density stops being finite.
    """
    for name, number in (
        ("num_chains", num_chains),
        ("num_warmup", num_warmup),
        ("num_draws", num_draws),
        ("max_tree_depth", max_tree_depth),
    ):
        if number < 1:
            raise InputError(f"{name}: expected at least 1; got {number}")
    if not 0 < target_accept < 1:
        raise InputError(f"target_accept: expected a number between 0 and 1; got {target_accept}")

    settings = Settings(num_warmup, target_accept, dense_mass, max_tree_depth)
    key_start, key_jitter, key_run = jax.random.split(key, 3)
    free = unconstrained(model, warm_starts(key_start, model, x, num_chains, progress=progress))
    leaves, structure = jax.tree.flatten(free)
    noise = [
        _JITTER * jax.random.normal(jax.random.fold_in(key_jitter, i), leaf.shape, leaf.dtype)
        for i, leaf in enumerate(leaves)
    ]
    moved = jax.tree.unflatten(structure, [leaf + eps for leaf, eps in zip(leaves, noise, strict=True)])
    states = _begin(model, x, moved, jax.random.split(key_run, num_chains), settings)
    astray = ~np.isfinite(np.asarray(states.potential_energy))
    if astray.any():  # the noise put a datum outside every support: such chains begin at their optimum itself
        lost = jnp.asarray(astray)
        moved = jax.tree.map(lambda at, by: jnp.where(lost.reshape(-1, *[1] * (at.ndim - 1)), at, by), free, moved)
        states = _begin(model, x, moved, jax.random.split(key_run, num_chains), settings)
    if not bool(jnp.all(jnp.isfinite(states.potential_energy))):
        raise NumericalError("nuts: the log density is not finite where a chain starts; standardise the data")
    num_devices = _devices(num_chains)
    total = num_warmup + num_draws
    for done in range(0, num_warmup, _CHUNK):
        steps = min(_CHUNK, num_warmup - done)
        states, _ = _advance(model, x, states, settings, num_steps=steps, num_devices=num_devices)
        jax.block_until_ready(states)
        progress(done + steps, total, "NUTS warm-up")
    kept = []
    for done in range(0, num_draws, _CHUNK):
        steps = min(_CHUNK, num_draws - done)
        states, draws = _advance(model, x, states, settings, num_steps=steps, num_devices=num_devices)
        kept.append(jax.tree.map(np.asarray, draws))
        divergences = sum(int(chunk["diverging"].sum()) for chunk in kept)
        progress(num_warmup + done + steps, total, f"NUTS sampling, {divergences} divergences")
    watched = jax.tree.map(lambda *chunks: np.concatenate(chunks, axis=1), *kept)
    z = watched.pop("z")
    if not np.isfinite(watched["lp"]).all():
        raise NumericalError("nuts: a chain reached a point where the log density is not finite; standardise the data")
    sites = {name: np.asarray(value) for name, value in sites_of(model, z).items()}
    return EngineResult(sites=sites, stats=watched, objective=None, objective_name="", status="sampled")


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
