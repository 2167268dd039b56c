r"""Exact Gibbs sampling: blocked, slice, collapsed (Neal 3) and auxiliary (Neal 8) sweeps, split-merge moves.

What each kernel samples is decided here and nowhere else:

* By default (``partition="model"``, ``base="model"``) every kernel samples the posterior of the model itself, the same
  one as NUTS: truncated sticks, Dirichlet, fixed or equal weights, and the model's own priors. Where a prior is not
  conjugate, not even given the other sites (LKJ correlations, a prior of the user's, a family without ``draw``), that
  memory's sites are moved by slice sampling, which is exact too. ``collapsed`` integrates out what is conjugate given
  the other sites: for Gaussians the locations given the precisions, for the sphere the directions given the
  concentrations.
* ``base="conjugate"`` (kernel ``collapsed``) replaces the base measure by the family's fully conjugate one, for
  Gaussians Normal-Gamma or Normal-Wishart with the same prior on the precisions: another prior on the locations, whose
  spread follows the memory's own. That is algorithm 3 with everything integrated out.
* ``partition="exchangeable"`` (kernels ``collapsed`` and ``auxiliary``) lifts the truncation: Chinese restaurant
  process for weights ``dp`` and ``pyp``, a mixture of finite mixtures for ``dirichlet`` (a number of memories uniform
  on 1 to K). K is then the capacity, and the law is conditioned on at most K memories that hold data.
* Kernel ``slice`` samples the untruncated stick-breaking process. It stops with an error where the K memories do not
  reach far enough for that to be exact.

Missing entries are drawn with the rest (:mod:`probam.inference.gibbs.missing`).

``stats["lp"]`` is the log joint density that NUTS reports, except under another target, where it is the log joint of
the labels and whatever is not integrated out.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Bool, Float, Int

from probam.errors import InputError, NumericalError
from probam.family import ExchangeableWeights, Model, Params
from probam.family.capabilities import Absent, Conjugacy, MissingEntries
from probam.inference.common.devices import devices_for
from probam.inference.common.matching import matched
from probam.inference.common.result import EngineResult, Progress, silent
from probam.inference.common.rows import counted
from probam.inference.common.start import starting_params
from probam.inference.gibbs.kernels import KERNELS, Settings, State, sweep
from probam.inference.gibbs.missing import Patterns, observed_log_joint, patterns, sweep_with_missing
from probam.inference.gibbs.moves import allowed_only, draw_labels, statistics_of

__all__ = ["run"]

_WORK = 4_000_000
"""Labels times memories that pass between two reports of progress (a second or so)."""


def _begin(model: Model, x: jax.Array, keys: jax.Array, groups: Patterns | None) -> State:
    """First state of every chain: k-means++ seeds, labels drawn from their responsibilities."""
    pairs = jax.vmap(jax.random.split)(keys)
    params = matched(model, _seeded(model, x, pairs[:, 0]), x, model.row_weight)
    return State(params, _first_labels(model, x, pairs[:, 1], params, groups))


@jax.jit
def _seeded(model: Model, x: jax.Array, keys: jax.Array) -> Params:
    """Site values at the k-means++ seeds of every chain."""
    params: Params = jax.lax.map(lambda key: starting_params(key, model, x), keys)
    return params


@jax.jit
def _first_labels(
    model: Model, x: jax.Array, keys: jax.Array, params: Params, groups: Patterns | None
) -> Int[Array, "C N"]:
    def one(inputs: tuple[jax.Array, Params]) -> jax.Array:
        key, params = inputs
        logits = allowed_only(model, observed_log_joint(model.mixture(params), x, groups))
        return draw_labels(key, logits, masked=model.row_weight is not None)[0]

    labels: jax.Array = jax.lax.map(one, (keys, params))
    return labels


@partial(jax.jit, static_argnames=("settings", "num_steps", "thin", "num_devices"))
def _advance(
    model: Model,
    x: jax.Array,
    states: State,
    keys: jax.Array,
    done: jax.Array,
    groups: Patterns | None,
    settings: Settings,
    *,
    num_steps: int,
    thin: int,
    num_devices: int,
) -> tuple[State, tuple[Params, dict[str, jax.Array]]]:
    """``num_steps`` kept draws of every chain, ``thin`` sweeps each; sweep t of a chain has the key of t."""

    def chain(
        model: Model, x: jax.Array, groups: Patterns | None, state: State, key: jax.Array
    ) -> tuple[State, tuple[Params, Params]]:
        statistics = None if model.missing else statistics_of(model, x)

        def once(state: State, t: jax.Array) -> tuple[State, tuple[Params, Params]]:
            key_sweep = jax.random.fold_in(key, t)
            if model.missing:
                return sweep_with_missing(key_sweep, model, x, state, settings, groups)
            return sweep(key_sweep, model, x, state, settings, statistics)

        def step(state: State, t: jax.Array) -> tuple[State, tuple[Params, Params]]:
            state, every = jax.lax.scan(once, state, t * thin + jnp.arange(thin))
            params, stats = jax.tree.map(lambda leaf: leaf[-1], every)
            return state, (params | model.deterministics(params), stats)

        advanced: tuple[State, tuple[Params, Params]] = jax.lax.scan(step, state, done + jnp.arange(num_steps))
        return advanced

    def chains(
        model: Model, x: jax.Array, groups: Patterns | None, states: State, keys: jax.Array
    ) -> tuple[State, tuple[Params, Params]]:
        return jax.lax.map(lambda inputs: chain(model, x, groups, *inputs), (states, keys))

    spread, whole = PartitionSpec("chain"), PartitionSpec()
    mesh = Mesh(np.asarray(jax.devices()[:num_devices]), ("chain",))
    specs = (whole, whole, whole, spread, spread)
    return jax.shard_map(chains, mesh=mesh, in_specs=specs, out_specs=spread, check_vma=False)(
        model, x, groups, states, keys
    )


def run(
    key: jax.Array,
    model: Model,
    x: Float[Array, "N D"],
    *,
    kernel: str = "blocked",
    partition: str = "model",
    base: str = "model",
    split_merge: int = 0,
    num_chains: int = 4,
    num_warmup: int = 500,
    num_draws: int = 1000,
    thin: int = 1,
    labels: Int[np.ndarray, " N"] | Bool[np.ndarray, "N K"] | None = None,
    progress: Progress = silent,
) -> EngineResult:
    """Draws of ``num_chains`` chains.

    Args:
        key: of all chains; chain i uses ``fold_in(key, i)``.
        model: the mixture to sample.
        x: (N, D) data in model units; missing entries (NaN) are drawn with the rest.
        kernel: "blocked", "slice", "collapsed" or "auxiliary" (see :mod:`probam.inference.gibbs.kernels`).
        partition: "model", or "exchangeable" for a free number of memories.
        base: "model", or "conjugate" to integrate out all parameters under the family's conjugate base measure.
        split_merge: split-merge moves after each collapsed sweep.
        num_chains: number of chains.
        num_warmup: draws at the start of each chain that are discarded.
        num_draws: draws of each chain that are kept.
        thin: sweeps per draw.
        labels: (N,) numbers of the memories to which rows belong, -1 where that is not known, or (N, K) booleans; for
            kernel "blocked".
        progress: called with (done, total, text).

    Raises:
        InputError: for options that do not fit each other, the family or the weights; the message says what works.
        NumericalError: when the log joint stops being finite, or the slice kernel runs out of memories.
    """
    settings = _settings(model, kernel, partition, base, split_merge)
    if labels is not None and kernel != "blocked":
        raise InputError(f"labels: kernel {kernel!r} moves memories from number to number; use kernel 'blocked'")
    model, x = counted(model, x, None, labels)
    schedule = Schedule(num_warmup, num_draws, thin)
    _check_numbers(num_chains, schedule)
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(num_chains))
    groups = patterns(np.asarray(x)) if model.missing and MissingEntries.of(model.family).missing == "pattern" else None
    sites, stats = _sample(model, x, keys, groups, settings, schedule, progress)
    _check_draws(stats, model.num_components)
    return EngineResult(
        sites=sites, stats=stats, objective=None, objective_name="", status="sampled", note=_note(model, settings)
    )


class Schedule(NamedTuple):
    """How many draws of a chain are discarded and kept, and the sweeps per draw."""

    num_warmup: int
    num_draws: int
    thin: int


def _check_numbers(num_chains: int, schedule: Schedule) -> None:
    for name, number in (("num_chains", num_chains), ("num_draws", schedule.num_draws), ("thin", schedule.thin)):
        if number < 1:
            raise InputError(f"{name}: expected at least 1; got {number}")
    if schedule.num_warmup < 0:
        raise InputError(f"num_warmup: expected at least 0; got {schedule.num_warmup}")


def _sample(
    model: Model,
    x: Float[Array, "N D"],
    keys: jax.Array,
    groups: Patterns | None,
    settings: Settings,
    schedule: Schedule,
    progress: Progress,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Sites and statistics of the kept draws of every chain (leaves lead with chain and draw)."""
    num_chains = len(keys)
    states = _begin(model, x, keys, groups)
    num_devices = devices_for(num_chains)
    work = len(x) * model.num_components * num_chains * schedule.thin
    total = schedule.num_warmup + schedule.num_draws
    chunk = int(np.clip(_WORK // work, 1, min(total, 250)))
    chunk = -(-total // -(-total // chunk))  # chunks of one length, so that one program serves them all
    kept = []
    done = 0
    while done < total:
        states, (sites, stats) = _advance(
            model,
            x,
            states,
            keys,
            jnp.asarray(done),
            groups,
            settings,
            num_steps=chunk,
            thin=schedule.thin,
            num_devices=num_devices,
        )
        first, last = max(schedule.num_warmup - done, 0), min(total - done, chunk)
        done += chunk
        if first < last:
            kept.append(jax.tree.map(partial(_between, first, last), (sites, stats)))
        else:
            jax.block_until_ready(states)
        occupied = np.asarray(stats["occupied"])[:, -1]
        phase = "warm-up" if done <= schedule.num_warmup else "sampling"
        progress(min(done, total), total, f"Gibbs {phase}, {occupied.min()} to {occupied.max()} memories hold data")
    draws: tuple[dict[str, np.ndarray], dict[str, np.ndarray]] = jax.tree.map(
        lambda *chunks: np.concatenate(chunks, axis=1), *kept
    )
    return draws


def _check_draws(stats: dict[str, np.ndarray], num_components: int) -> None:
    """Raise where the log joint is not finite, or the slice kernel ran out of memories."""
    if not np.isfinite(stats["lp"]).all():
        raise NumericalError("gibbs: the log joint density is not finite in some draws; standardise the data")
    if "beyond" in stats and stats["beyond"].any():
        share = float((stats["beyond"] > 0).mean())
        raise NumericalError(
            f"gibbs: in {share:.0%} of the draws the slices reach beyond {num_components} memories; "
            "raise components, or use kernel 'blocked' (the truncated model) or partition 'exchangeable'"
        )


def _between(first: int, last: int, leaf: jax.Array) -> np.ndarray:
    """Draws first to last of every chain, on the host."""
    return np.asarray(leaf)[:, first:last]


def _settings(model: Model, kernel: str, partition: str, base: str, split_merge: int) -> Settings:
    """The options, after it was checked that they fit each other, the family and the weights."""
    for name, value, known in (
        ("kernel", kernel, KERNELS),
        ("partition", partition, ("model", "exchangeable")),
        ("base", base, ("model", "conjugate")),
    ):
        if value not in known:
            raise InputError(f"{name}: expected one of {', '.join(known)}; got {value!r}")
    if kernel == "slice" and model.weights.name != "stick-breaking":
        raise InputError("kernel: 'slice' is for weights 'dp' and 'pyp'; use 'blocked' with finite weights")
    if partition == "exchangeable":
        _check_exchangeable(model, kernel)
    if split_merge < 0:
        raise InputError(f"split_merge: expected at least 0; got {split_merge}")
    if split_merge and kernel != "collapsed":
        raise InputError(f"split_merge: kernel {kernel!r} has no marginal likelihoods; use kernel 'collapsed'")
    _check_base(model, kernel, base)
    return Settings(kernel, partition == "exchangeable", base == "conjugate", split_merge)


def _check_exchangeable(model: Model, kernel: str) -> None:
    """Raise where the kernel or the weights do not know a law of partitions with a free number of memories."""
    weights = model.weights
    if kernel not in ("collapsed", "auxiliary"):
        raise InputError(f"partition: kernel {kernel!r} samples weights; use 'collapsed' or 'auxiliary' here")
    if not isinstance(weights, ExchangeableWeights):
        raise InputError(
            f"partition: weights {weights.name!r} have no exchangeable law of a free number of memories; "
            "use weights 'dp', 'pyp' or 'dirichlet'"
        )


def _check_base(model: Model, kernel: str, base: str) -> None:
    """Raise where the kernel, the family or its priors have nothing to integrate out."""
    name = model.family.name
    if base == "conjugate":
        if kernel != "collapsed":
            raise InputError(f"base: kernel {kernel!r} integrates nothing out; use kernel 'collapsed' with 'conjugate'")
        conjugacy = Conjugacy.ask(model.family)
        if not conjugacy or conjugacy.conjugate_base(model.prior) is None:
            raise InputError(
                f"base: family {name!r} has no other conjugate base under these priors; leave base at 'model'"
            )
    elif kernel == "collapsed" and not _is_conjugate(model):
        raise InputError(
            f"kernel: nothing can be integrated out of family {name!r} under these priors; "
            "use kernel 'auxiliary' (weights integrated out) or 'blocked'"
        )


def _is_conjugate(model: Model) -> bool:
    num_components, conjugacy = model.num_components, Conjugacy.ask(model.family)
    if isinstance(conjugacy, Absent):
        return False
    shapes = {
        site: jax.ShapeDtypeStruct(
            prior.event_shape if site in model.family.shared else (num_components, *prior.event_shape),
            jnp.zeros(()).dtype,
        )
        for site, prior in model.prior.items()
    }
    has_pair = []

    def look(params: Params) -> None:
        has_pair.append(conjugacy.conjugate(params, model.prior) is not None)

    jax.eval_shape(look, shapes)
    return has_pair[0]


def _note(model: Model, settings: Settings) -> str:
    notes = []
    if settings.exchangeable:
        law = "Chinese restaurant process" if model.weights.name == "stick-breaking" else "mixture of finite mixtures"
        notes.append(f"sampled under the {law}, at most {model.num_components} memories with data")
    if settings.kernel == "slice":
        notes.append("sampled without truncation; what lies beyond is given to the last memory")
    if settings.integrated:
        notes.append("the locations' prior spread tied to the memory's own (conjugate base measure)")
    return "; ".join(notes)
