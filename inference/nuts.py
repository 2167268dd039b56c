r"""The No-U-Turn sampler on the marginal density, through NumPyro's own kernel.

The kernel's steps are driven by one jitted loop of ours that is compiled once per shape: every chain runs through
``lax.map`` (chains are independent, so a chain never waits for the longest tree of another), and chains are spread over
the JAX devices there are. Warm-up (step size and mass matrix) is the kernel's. Chains begin at different optima of
EM, best first; that they agree is checked afterwards on label-invariant quantities, never assumed.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float
from numpyro.infer import NUTS
from numpyro.infer.hmc import HMCState

from probam.errors import InputError, NumericalError
from probam.family import Model, Params
from probam.inference.coordinates import Coordinates
from probam.inference.result import EngineResult, Progress, silent
from probam.inference.warm import warm_starts

__all__ = ["run"]

_CHUNK = 100
_JITTER = 0.1
"""Standard deviation of the noise added to each chain's start, in unconstrained coordinates."""


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

    key_start, key_jitter, key_run = jax.random.split(key, 3)
    coordinates = Coordinates(model)
    starts = warm_starts(key_start, model, x, num_chains, progress=progress)
    free = jax.jit(jax.vmap(coordinates.unconstrain))(starts)
    leaves, structure = jax.tree.flatten(free)
    noise = [
        _JITTER * jax.random.normal(jax.random.fold_in(key_jitter, i), leaf.shape, leaf.dtype)
        for i, leaf in enumerate(leaves)
    ]
    free = jax.tree.unflatten(structure, [leaf + eps for leaf, eps in zip(leaves, noise, strict=True)])

    kernel = NUTS(
        potential_fn=lambda z: -coordinates.log_joint(z, x),
        target_accept_prob=target_accept,
        dense_mass=dense_mass,
        max_tree_depth=max_tree_depth,
    )
    keys = jax.random.split(key_run, num_chains)
    first = jax.jit(jax.vmap(lambda key, z: kernel.init(key, num_warmup, z, (), {})))(keys, free)
    if not bool(jnp.all(jnp.isfinite(first.potential_energy))):
        raise NumericalError("nuts: the log density is not finite where a chain starts; standardise the data")

    mesh = Mesh(np.asarray(jax.devices()[: _devices(num_chains)]), ("chain",))
    spread = PartitionSpec("chain")

    @partial(jax.jit, static_argnames=("num_steps", "keep"))
    def advance(states: HMCState, *, num_steps: int, keep: bool) -> tuple[HMCState, Any]:
        def step(state: HMCState, _: None) -> tuple[HMCState, Any]:
            state = kernel.sample(state, (), {})
            return state, _watched(state) if keep else None

        def chain(state: HMCState) -> tuple[HMCState, Any]:
            return jax.lax.scan(step, state, None, length=num_steps)

        over_chains = partial(jax.lax.map, chain)
        return jax.shard_map(over_chains, mesh=mesh, in_specs=spread, out_specs=spread, check_vma=False)(states)

    states = jax.device_put(first, NamedSharding(mesh, spread))
    total = num_warmup + num_draws
    for done in range(0, num_warmup, _CHUNK):
        steps = min(_CHUNK, num_warmup - done)
        states, _ = jax.block_until_ready(advance(states, num_steps=steps, keep=False))
        progress(done + steps, total, "NUTS warm-up")
    kept = []
    for done in range(0, num_draws, _CHUNK):
        steps = min(_CHUNK, num_draws - done)
        states, draws = advance(states, num_steps=steps, keep=True)
        kept.append(jax.tree.map(np.asarray, draws))
        divergences = sum(int(chunk["diverging"].sum()) for chunk in kept)
        progress(num_warmup + done + steps, total, f"NUTS sampling, {divergences} divergences")
    watched = jax.tree.map(lambda *chunks: np.concatenate(chunks, axis=1), *kept)
    z = watched.pop("z")
    if not np.isfinite(watched["lp"]).all():
        raise NumericalError("nuts: a chain reached a point where the log density is not finite; standardise the data")
    return EngineResult(
        sites=_sites(coordinates, z), stats=watched, objective=None, objective_name="", status="sampled"
    )


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


def _sites(coordinates: Coordinates, z: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Site values and deterministics of all draws."""

    @jax.jit
    def constrain(free: Params) -> Params:
        def one(free: Params) -> Params:
            sites = coordinates.constrain(free)
            return sites | coordinates.model.deterministics(sites)

        return jax.vmap(jax.vmap(one))(free)

    return {name: np.asarray(value) for name, value in constrain(z).items()}
