r"""The No-U-Turn sampler on the marginal density, through NumPyro's own kernel.

Chains (:mod:`probam.inference.nuts.chains`) begin at different optima of EM, best first. Whether they agree is checked
afterwards, on label-invariant quantities.

With an ``order`` the chains stay in one labelling of the memories (:mod:`probam.inference.common.ordering`).

With a ``checkpoint`` the states (adaptation included) and the draws so far are written to disk now and then
(:mod:`probam.inference.common.checkpoint`).
"""

import os
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from numpyro.infer.hmc import HMCState

from probam.compiled import compiled_by_size, is_small
from probam.errors import InputError, NumericalError, Stop
from probam.family import Model, Params
from probam.inference.common.checkpoint import Phase
from probam.inference.common.coordinates import Coordinates, log_joints, sites_of, unconstrained
from probam.inference.common.devices import devices_for, spread
from probam.inference.common.ordering import described_order, in_order
from probam.inference.common.progress import Listener, resumable
from probam.inference.common.result import EngineResult
from probam.inference.common.rows import counted
from probam.inference.gradient_em.warm import start_at_optima
from probam.inference.nuts.chains import Chunk, Settings, advance, first_states, states_like

__all__ = ["run"]

_CHUNK = 100
"""Most transitions between two reports of progress."""


class _Walk(NamedTuple):
    """Progress of a run."""

    states: HMCState
    done: int  # transitions of each chain, warm-up included
    kept: dict[str, np.ndarray]  # what is watched of every draw (C, S, ...); empty during the warm-up
    acceptance: float = float("nan")  # mean over the last chunk

    @property
    def text(self) -> str:
        """The progress in words."""
        return "NUTS sampling" if self.kept else "NUTS warm-up"

    @property
    def values(self) -> dict[str, float]:
        """The numbers that are reported."""
        divergences = {"divergences": float(self.kept["diverging"].sum())} if self.kept else {}
        return divergences | {"acceptance": self.acceptance}


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
    sample_weight: Float[Array, " N"] | np.ndarray | None = None,
    labels: Int[np.ndarray, " N"] | Bool[np.ndarray, "N K"] | None = None,
    progress: Listener | None = None,
) -> EngineResult:
    """Draws of ``num_chains`` chains.

    Args:
        num_warmup: adaptation steps of each chain, which are discarded.
        num_draws: kept draws of each chain.
        target_accept: acceptance probability at which the step size aims; raise it (0.95) against divergences.
        dense_mass: adapt a full mass matrix, for few parameters that are strongly correlated.
        max_tree_depth: trees stop at 2^depth leapfrog steps.
        order: "location" numbers the memories by a coordinate of their location (where that is a point of the data
            space: by a feature), "weight" by decreasing weight; for weights that are exchangeable. The posterior is
            restricted to that labelling, not changed, and ``lp`` is that of the model without an order.
        order_by: number of the coordinate for order "location", from 0.
        checkpoint: a file to which the run is written every few seconds; the same call continues from it, bit for bit,
            and one with a larger ``num_draws`` continues the chains.
        sample_weight: how often each row counts, (N,) numbers of at least 0.
        labels: (N,) numbers of the memories to which rows belong, -1 where that is not known, or (N, K) booleans.

    Raises:
        InputError: for numbers below one, a target outside (0, 1), or a checkpoint that is damaged or of another run.
        NumericalError: when a chain's log density is not finite.
    """
    counts = {"num_chains": num_chains, "num_warmup": num_warmup, "num_draws": num_draws}
    _check(counts | {"max_tree_depth": max_tree_depth}, target_accept)
    model, x = counted(model, x, sample_weight, labels)
    requested, model = model, in_order(model, order, order_by)
    settings = Settings(num_warmup, target_accept, dense_mass, max_tree_depth)
    with resumable(progress, checkpoint, "nuts", key, model, x, _decisive(num_chains, settings)) as report:
        chains = report.phase("chains")
        walk = _resumed(chains, key, model, x, num_chains, settings)
        if walk is None:
            key_start, key_jitter, key_run = jax.random.split(key, 3)
            start = start_at_optima(key_start, model, x, num_chains, progress=report)
            walk = _Walk(first_states(key_jitter, key_run, start, settings), 0, {})
        while walk.done < num_warmup + num_draws and not report.stopped:
            walk = _continued(walk, model, x, num_draws, settings)
            chains.save(walk.done, walk.states, [walk.kept])
            report(walk.done, num_warmup + num_draws, walk.text, **walk.values)
    if not walk.kept:
        how_far = f"after {walk.done} of {num_warmup} steps of each chain"
        raise Stop(f"nuts: stopped in the warm-up, {how_far}; there are no draws to keep yet{report.goes_on}")
    status = "sampled" if walk.done >= num_warmup + num_draws else "stopped"
    return _result(requested, model, x, walk.kept, num_draws, status)


def _check(counts: dict[str, int], target_accept: float) -> None:
    """Raise InputError for an option out of range."""
    for name, number in counts.items():
        if number < 1:
            raise InputError(f"{name}: expected at least 1; got {number}")
    if not 0 < target_accept < 1:
        raise InputError(f"target_accept: expected a number between 0 and 1; got {target_accept}")


def _resumed(
    chains: Phase, key: jax.Array, model: Model, x: jax.Array, num_chains: int, settings: Settings
) -> _Walk | None:
    """The walk in a checkpoint, None where there is none yet."""
    if not chains.has_begun:
        return None
    saved = chains.resumed(states_like(key, model, x, num_chains, settings), jax.random.key_impl(key))
    return None if saved is None else _Walk(saved.state, saved.done, saved.kept)


def _continued(walk: _Walk, model: Model, x: jax.Array, num_draws: int, settings: Settings) -> _Walk:
    """The walk after at most ``_CHUNK`` more transitions, of the warm-up or of the draws alone."""
    warm_up, total = walk.done < settings.num_warmup, settings.num_warmup + num_draws
    num_steps = min(_CHUNK, (settings.num_warmup if warm_up else total) - walk.done)
    chunk = Chunk(_CHUNK, devices_for(len(walk.states.i)))
    states = spread(walk.states, chunk.num_devices)
    states, draws = advance(model, x, states, jnp.asarray(num_steps), settings, chunk)
    kept, acceptance = walk.kept, float(np.asarray(draws["acceptance_rate"])[:, :num_steps].mean())
    if not warm_up:
        fresh = {name: np.asarray(values)[:, :num_steps] for name, values in draws.items()}
        kept = {name: np.concatenate([kept[name], part], 1) if kept else part for name, part in fresh.items()}
    jax.block_until_ready(states)
    return _Walk(states, walk.done + num_steps, kept, acceptance)


def _result(
    requested: Model, model: Model, x: jax.Array, kept: dict[str, np.ndarray], num_draws: int, status: str
) -> EngineResult:
    """The first ``num_draws`` draws, with ``lp`` of the requested model, which has no order."""
    stats = {name: values[:, :num_draws] for name, values in kept.items()}
    z = stats.pop("z")
    if not np.isfinite(stats["lp"]).all():
        raise NumericalError("nuts: a chain reached a point where the log density is not finite; standardise the data")
    sites = {name: np.asarray(value) for name, value in _sites(model, jax.device_put(z)).items()}
    if model is not requested:
        stats["lp"] = _log_joints(requested, sites, x)
    return EngineResult(sites, stats, objective=None, objective_name="", status=status, note=described_order(model))


@compiled_by_size(lambda _, vectors: is_small(vectors, 1))
def _sites(model: Model, vectors: jax.Array) -> Params:
    """Site values and deterministics of chains of draws (C, S, P)."""
    sites: Params = sites_of(model, jax.vmap(jax.vmap(Coordinates(model).unflatten))(vectors))
    return sites


def _log_joints(model: Model, sites: dict[str, np.ndarray], x: jax.Array) -> np.ndarray:
    """Log joint density of chains of draws (C, S), nats."""
    names = Coordinates(model).transforms
    together = {name: jax.device_put(sites[name].reshape(-1, *sites[name].shape[2:])) for name in names}
    values = np.asarray(log_joints(model, unconstrained(model, together), x))
    return values.reshape(next(iter(sites.values())).shape[:2])


def _decisive(num_chains: int, settings: Settings) -> dict[str, object]:
    """The options that the bits of a chain depend on; ``num_draws`` only sets its length."""
    return {"num_chains": num_chains, "devices": devices_for(num_chains), **settings._asdict()}
