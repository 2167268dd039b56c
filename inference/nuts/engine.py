r"""The No-U-Turn sampler on the marginal density, through NumPyro's own kernel.

The kernel's steps are driven by one jitted loop of ours that is compiled once per shape: every chain runs through
``lax.map`` (chains are independent, so a chain never waits for the longest tree of another), and chains are spread over
the JAX devices there are. Warm-up (step size and mass matrix) is the kernel's. Chains begin at different optima of
EM, best first; that they agree is checked afterwards on label-invariant quantities, never assumed.

With an ``order`` the chains stay in one labelling of the memories (:mod:`probam.inference.common.ordering`).

With a ``checkpoint`` the states (adaptation included) and the draws so far are on disk after every chunk of steps.
"""

import os
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
from probam.inference.common.coordinates import Coordinates, log_joints, sites_of, unconstrained
from probam.inference.common.devices import devices_for
from probam.inference.common.ordering import described_order, in_order
from probam.inference.common.result import EngineResult, Progress, silent
from probam.inference.gradient_em.warm import warm_starts
from probam.inference.nuts.checkpoint import Checkpoint, Saved, described, packed, surroundings, unpacked

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


class Chunk(NamedTuple):
    """How the transitions of one call run; static."""

    room: int
    num_devices: int


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


@partial(jax.jit, static_argnames="settings")
def _begin(model: Model, x: jax.Array, free: Params, keys: jax.Array, settings: Settings) -> HMCState:
    """First state of every chain."""
    vectors = jax.vmap(Coordinates(model).flatten)(free)
    return jax.vmap(lambda free, key: _kernel(model, x, free, key, settings)[1])(vectors, keys)


@partial(jax.jit, static_argnames=("settings", "chunk"))
def _advance(
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


@jax.jit
def _sites(model: Model, vectors: jax.Array) -> Params:
    """Site values and deterministics of chains of draws (C, S, P)."""
    sites: Params = sites_of(model, jax.vmap(jax.vmap(Coordinates(model).unflatten))(vectors))
    return sites


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
    order: str = "none",
    order_by: int = 0,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: Progress = silent,
) -> EngineResult:
    """Draws of ``num_chains`` chains.

    Args:
        num_warmup: adaptation steps of each chain, thrown away.
        num_draws: kept draws of each chain.
        target_accept: acceptance probability that the step size aims at; raise it (0.95) against divergences.
        dense_mass: adapt a full mass matrix (worth it when parameters are strongly correlated and few).
        max_tree_depth: trees stop at 2^depth leapfrog steps.
        order: "location" numbers the memories by a coordinate of their location (where that is a point of the data
            space: by a feature), "weight" by falling weight; for weights that are the same under all numberings. The
            posterior is restricted to that labelling, not changed, and ``lp`` is that of the model without an order.
        order_by: number of the coordinate for order "location", from 0.
        checkpoint: a file to which the run is written after every chunk of 100 steps, and from which a run with the
            same key, model, data and options goes on, to the same bits as if it had never stopped. It stays there at
            the end: with a larger ``num_draws`` the chains are continued.

    Raises:
        InputError: for numbers below one, a target outside (0, 1), or a checkpoint that is broken or of another run.
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

    given, model = model, in_order(model, order, order_by)
    settings = Settings(num_warmup, target_accept, dense_mass, max_tree_depth)
    kept_at = None if checkpoint is None else Checkpoint(checkpoint, _identity(key, model, x, num_chains, settings))
    saved = None if kept_at is None else kept_at.read()
    if saved is None:
        states, done, kept = _first(key, model, x, num_chains, settings, progress), 0, {}
    else:
        like = _first_like(key, model, x, num_chains, settings)
        states, done, kept = unpacked(saved.state, like, jax.random.key_impl(key)), saved.done, saved.kept
    chunk = Chunk(_CHUNK, devices_for(num_chains))
    total = num_warmup + num_draws
    while done < total:
        end = num_warmup if done < num_warmup else total
        steps = min(_CHUNK, end - done)
        states, draws = _advance(model, x, states, jnp.asarray(steps), settings, chunk)
        text = "NUTS warm-up"
        if done >= num_warmup:
            fresh = {name: np.asarray(values)[:, :steps] for name, values in draws.items()}
            kept = {name: np.concatenate([kept[name], part], 1) if kept else part for name, part in fresh.items()}
            text = f"NUTS sampling, {int(kept['diverging'].sum())} divergences"
        done += steps
        jax.block_until_ready(states)
        if kept_at is not None:
            kept_at.write(Saved(done, packed(states), kept))
        progress(done, total, text)
    watched = {name: values[:, :num_draws] for name, values in kept.items()}
    z = watched.pop("z")
    if not np.isfinite(watched["lp"]).all():
        raise NumericalError("nuts: a chain reached a point where the log density is not finite; standardise the data")
    sites = {name: np.asarray(value) for name, value in _sites(model, z).items()}
    note = ""
    if model is not given:
        watched["lp"] = _log_joints(given, sites, x)
        note = described_order(model)
    return EngineResult(sites=sites, stats=watched, objective=None, objective_name="", status="sampled", note=note)


def _log_joints(model: Model, sites: dict[str, np.ndarray], x: jax.Array) -> np.ndarray:
    """Log joint density of chains of draws (C, S), nats."""
    together = {name: sites[name].reshape(-1, *sites[name].shape[2:]) for name in Coordinates(model).transforms}
    values = np.asarray(log_joints(model, unconstrained(model, together), x))
    return values.reshape(next(iter(sites.values())).shape[:2])


def _identity(key: jax.Array, model: Model, x: jax.Array, num_chains: int, settings: Settings) -> dict[str, str]:
    """All on which the bits of a chain depend, in words; ``num_draws`` only says how far it goes."""
    options = {"num_chains": num_chains, **settings._asdict()}
    words = f"{jax.random.key_impl(key)} {np.asarray(jax.random.key_data(key)).tolist()}"
    return (
        {"key": words, "model": described(model), "data": described(x)}
        | {name: str(value) for name, value in options.items()}
        | surroundings()
    )


def _first(
    key: jax.Array, model: Model, x: jax.Array, num_chains: int, settings: Settings, progress: Progress
) -> HMCState:
    """States in which the chains begin: optima of EM with a little noise.

    Raises :class:`probam.errors.NumericalError` where the log density is not finite even at the optima.
    """
    key_start, key_jitter, key_run = jax.random.split(key, 3)
    free = unconstrained(model, warm_starts(key_start, model, x, num_chains, progress=progress))
    keys = jax.random.split(key_run, num_chains)
    moved = _jittered(key_jitter, free)
    states = _begin(model, x, moved, keys, settings)
    astray = ~np.isfinite(np.asarray(states.potential_energy))
    if astray.any():  # the noise put a datum outside every support: such chains begin at their optimum itself
        lost = jnp.asarray(astray)
        moved = jax.tree.map(lambda at, by: jnp.where(lost.reshape(-1, *[1] * (at.ndim - 1)), at, by), free, moved)
        states = _begin(model, x, moved, keys, settings)
    if not np.isfinite(np.asarray(states.potential_energy)).all():
        raise NumericalError("nuts: the log density is not finite where a chain starts; standardise the data")
    return states


@jax.jit
def _jittered(key: jax.Array, free: Params) -> Params:
    """Unconstrained values with noise."""
    leaves, structure = jax.tree.flatten(free)
    noise = [
        _JITTER * jax.random.normal(jax.random.fold_in(key, i), leaf.shape, leaf.dtype) for i, leaf in enumerate(leaves)
    ]
    return jax.tree.unflatten(structure, [leaf + eps for leaf, eps in zip(leaves, noise, strict=True)])


def _first_like(key: jax.Array, model: Model, x: jax.Array, num_chains: int, settings: Settings) -> HMCState:
    """Structure, shapes and dtypes of the states; nothing is computed."""
    zeros = Coordinates(model).zeros

    def begin() -> HMCState:
        free = {name: jnp.zeros((num_chains, *zero.shape), zero.dtype) for name, zero in zeros.items()}
        return _begin(model, x, free, jax.random.split(key, num_chains), settings)

    like: HMCState = jax.eval_shape(begin)
    return like


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
