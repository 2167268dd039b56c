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

import os
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from probam.compiled import compiled_by_size, compiled_quickly, is_small
from probam.errors import InputError, NumericalError, Stop
from probam.family import ExchangeableWeights, Model, Params
from probam.family.capabilities import Absent, Conjugacy, MissingEntries
from probam.inference.common.checkpoint import Phase
from probam.inference.common.devices import devices_for, over_chains, spread
from probam.inference.common.matching import matched
from probam.inference.common.progress import Listener, Reporter, resumable
from probam.inference.common.result import EngineResult
from probam.inference.common.rows import counted
from probam.inference.common.start import starting_params
from probam.inference.gibbs.kernels import KERNELS, Settings, State, sweep
from probam.inference.gibbs.length import Draws, Length, draws_agree, every_second, length_of
from probam.inference.gibbs.missing import Patterns, observed_log_joint, patterns, sweep_with_missing
from probam.inference.gibbs.moves import allowed_only, conditionals_of, draw_labels, statistics_of
from probam.placement import each

__all__ = ["run"]

_WORK = 4_000_000
"""Labels times memories that pass between two reports of progress (a second or so)."""


def _begin(model: Model, x: jax.Array, keys: jax.Array, groups: Patterns | None) -> State:
    """First state of every chain: k-means++ seeds, labels drawn from their responsibilities."""
    for_seeds, for_labels = _begun(keys)
    params = matched(model, _seeded(model, x, for_seeds), x, model.row_weight)
    return State(params, _first_labels(model, x, for_labels, params, groups))


@compiled_quickly(static_argnums=1)
def _keys(key: jax.Array, num_chains: int) -> jax.Array:
    """The key of every chain."""
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(num_chains))


@compiled_quickly()
def _begun(keys: jax.Array) -> tuple[jax.Array, jax.Array]:
    """For the seeds and the first labels of every chain."""
    pairs = jax.vmap(jax.random.split)(keys)
    return pairs[:, 0], pairs[:, 1]


@compiled_by_size(lambda model, x, _: is_small(x, model.num_components))
def _seeded(model: Model, x: jax.Array, keys: jax.Array) -> Params:
    """Site values at the k-means++ seeds of every chain."""
    params: Params = each(lambda key: starting_params(key, model, x), keys, numbers=x.size * model.num_components)
    return params


@compiled_by_size(lambda model, x, *_: is_small(x, model.num_components))
def _first_labels(
    model: Model, x: jax.Array, keys: jax.Array, params: Params, groups: Patterns | None
) -> Int[Array, "C N"]:
    def one(inputs: tuple[jax.Array, Params]) -> jax.Array:
        key, params = inputs
        logits = allowed_only(model, observed_log_joint(model.mixture(params), x, groups))
        return draw_labels(key, logits, masked=model.row_weight is not None)[0]

    labels: jax.Array = each(one, (keys, params), numbers=x.size * model.num_components)
    return labels


class _Span(NamedTuple):
    """Draws to make next: the number of the first, the number after the last, and the sweeps of each."""

    first: jax.Array
    end: jax.Array
    thin: jax.Array


def _side_by_side(model: Model, x: jax.Array, settings: Settings) -> int | None:
    """How many chains a CPU advances together: all (0) where it spends a sweep on the steps of a program, not on data.

    One label at a time, and memories without full conditionals, end when the last chain does: these go one by one.
    """
    at_once = settings.kernel in ("blocked", "slice") and bool(conditionals_of(model))
    return 0 if at_once and is_small(x, model.num_components) else None


@compiled_by_size(
    lambda model, x, *_, **__: is_small(x, model.num_components),
    often=True,
    static_argnames=("settings", "num_steps", "num_devices"),
)
def _advance(
    model: Model,
    x: jax.Array,
    states: State,
    keys: jax.Array,
    span: _Span,
    groups: Patterns | None,
    settings: Settings,
    *,
    num_steps: int,
    num_devices: int,
) -> tuple[State, tuple[Params, dict[str, jax.Array]]]:
    """``num_steps`` draws of every chain; sweep t of a chain has the key of t. Draws after the span take no sweep."""

    def chain(
        model: Model, x: jax.Array, groups: Patterns | None, span: _Span, state: State, key: jax.Array
    ) -> tuple[State, tuple[Params, Params]]:
        statistics = None if model.missing else statistics_of(model, x)

        def once(state: State, t: jax.Array) -> tuple[State, tuple[Params, Params]]:
            key_sweep = jax.random.fold_in(key, t)
            if model.missing:
                return sweep_with_missing(key_sweep, model, x, state, settings, groups)
            return sweep(key_sweep, model, x, state, settings, statistics)

        def step(state: State, number: jax.Array) -> tuple[State, tuple[Params, Params]]:
            nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(once, state, number))
            begin = number * span.thin
            end = jnp.where(number < span.end, begin + span.thin, begin)
            state, (params, stats) = jax.lax.fori_loop(
                begin, end, lambda t, carry: once(carry[0], t), (state, nothing[1])
            )
            return state, (params | model.deterministics(params), stats)

        advanced: tuple[State, tuple[Params, Params]] = jax.lax.scan(step, state, span.first + jnp.arange(num_steps))
        return advanced

    def chains(
        model: Model, x: jax.Array, groups: Patterns | None, span: _Span, states: State, keys: jax.Array
    ) -> tuple[State, tuple[Params, Params]]:
        numbers, on_cpu = x.size * model.num_components, _side_by_side(model, x, settings)
        return each(
            lambda inputs: chain(model, x, groups, span, *inputs), (states, keys), numbers=numbers, on_cpu=on_cpu
        )

    return over_chains(chains, num_devices, num_shared=4)(model, x, groups, span, states, keys)


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
    num_draws: int | None = None,
    thin: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    labels: Int[np.ndarray, " N"] | Bool[np.ndarray, "N K"] | None = None,
    progress: Listener | None = None,
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
        num_draws: draws of each chain that are kept. None keeps 1000, and lengthens the chains until they agree.
        thin: sweeps per draw, 1 by default where ``num_draws`` is given. Where neither is, it is doubled until R-hat
            and the effective draws meet the bars of the verdict, or the work reaches a limit
            (:mod:`probam.inference.gibbs.length`); the note of the result says where it ended.
        checkpoint: a file to which the run is written every few seconds; the same call continues from it, bit for bit.
        labels: (N,) numbers of the memories to which rows belong, -1 where that is not known, or (N, K) booleans; for
            kernel "blocked".
        progress: told after every second or so, and asked whether to stop.

    Raises:
        InputError: for options that do not fit each other, the family or the weights; the message says what works.
        NumericalError: when the log joint stops being finite, or the slice kernel runs out of memories.
    """
    settings = _settings(model, kernel, partition, base, split_merge)
    if labels is not None and kernel != "blocked":
        raise InputError(f"labels: kernel {kernel!r} moves memories from number to number; use kernel 'blocked'")
    counts: dict[str, Any] = {"num_chains": num_chains, "num_warmup": num_warmup, "num_draws": num_draws, "thin": thin}
    size = (len(x), x.shape[1], model.num_components)
    length = length_of(size, settings, has_conditionals=bool(conditionals_of(model)), **counts)
    model, x = counted(model, x, None, labels)
    keys = _keys(key, num_chains)
    groups = patterns(np.asarray(x)) if model.missing and MissingEntries.of(model.family).missing == "pattern" else None
    own = {"num_chains": num_chains, "devices": devices_for(num_chains), **settings._asdict(), **length._asdict()}
    with resumable(progress, checkpoint, "gibbs", key, model, x, own) as report:
        sampler = _Sampler(model, x, keys, groups, settings, length, report.phase("chains"), report)
        (sites, stats), thin = sampler.draws()
    status, note = "stopped" if sampler.progress.stopped else "sampled", _note(model, settings, thin)
    return EngineResult(sites=sites, stats=stats, objective=None, objective_name="", status=status, note=note)


class _Walk(NamedTuple):
    """How far the chains have come."""

    states: State
    done: int  # draws of each chain, discarded ones included
    thin: int  # sweeps of a draw
    kept: list[Draws]  # parts of the draws after the warm-up


@dataclass(frozen=True)
class _Sampler:
    """Everything that the chains of one call share."""

    model: Model
    x: Float[Array, "N D"]
    keys: jax.Array
    groups: Patterns | None
    settings: Settings
    length: Length
    phase: Phase
    progress: Reporter

    def draws(self) -> tuple[Draws, int]:
        """Sites and statistics of the kept draws of every chain, and the sweeps of each draw."""
        walk, length = self._begun(), self.length
        while True:
            walk = self._continued(walk)
            if not walk.kept:
                nothing = "gibbs: stopped in the warm-up of the chains; there are no draws to keep yet"
                raise Stop(nothing + self.progress.goes_on)
            draws: Draws = jax.tree.map(lambda *parts: np.concatenate(parts, axis=1), *walk.kept)
            _check_draws(draws[1], self.model.num_components)
            if self.progress.stopped or walk.thin >= length.most or draws_agree(draws):
                return jax.tree.map(lambda leaf: leaf[:, : length.num_draws], draws), walk.thin
            walk = _Walk(walk.states, length.total // 2, 2 * walk.thin, [every_second(draws, length.num_warmup)])

    def _begun(self) -> _Walk:
        """The chains before their first sweep, or where a checkpoint has them."""
        num_devices = devices_for(len(self.keys))
        states = spread(_begin(self.model, self.x, self.keys, self.groups), num_devices)
        saved = self.phase.resumed((states, np.zeros((), int)))
        if saved is None:
            return _Walk(states, 0, self.length.thin, [])
        states, thin = saved.state
        named: tuple[dict[str, np.ndarray], dict[str, np.ndarray]] = ({}, {})
        for name, values in saved.kept.items():
            which, _, own = name.partition(".")
            named[which == "stats"][own] = values
        return _Walk(spread(states, num_devices), saved.done, int(thin), [named] if saved.kept else [])

    def _save(self, walk: _Walk) -> None:
        grown = [
            {f"sites.{name}": values for name, values in sites.items()}
            | {f"stats.{name}": values for name, values in stats.items()}
            for sites, stats in walk.kept
        ]
        self.phase.save(walk.done, (walk.states, np.asarray(walk.thin)), grown)

    def _continued(self, walk: _Walk) -> _Walk:
        """The chains after all draws (fewer where the run is stopped), with the new ones after the warm-up."""
        total, num_warmup = self.length.total, self.length.num_warmup
        work = len(self.x) * self.model.num_components * len(self.keys) * self.length.thin
        chunk = int(np.clip(_WORK // work, 1, min(total, 250)))
        chunk = -(-total // -(-total // chunk))  # chunks of one length, so that one program serves them all
        num_steps = max(1, chunk * self.length.thin // walk.thin)
        while walk.done < total and not self.progress.stopped:
            done, end = walk.done, min(walk.done + num_steps, total)
            states, draws = _advance(
                self.model,
                self.x,
                walk.states,
                self.keys,
                _Span(*jax.device_put(tuple(np.array((done, end, walk.thin))))),
                self.groups,
                self.settings,
                num_steps=chunk,
                num_devices=devices_for(len(self.keys)),
            )
            kept = walk.kept
            if end > num_warmup:
                kept = [*kept, jax.tree.map(partial(_between, max(num_warmup - done, 0), end - done), draws)]
            else:
                jax.block_until_ready(states)
            walk = _Walk(states, end, walk.thin, kept)
            self._save(walk)
            self._show(end, walk.thin, np.asarray(draws[1]["occupied"])[:, end - done - 1])
        return walk

    def _show(self, done: int, thin: int, occupied: np.ndarray) -> None:
        phase = "warm-up" if done <= self.length.num_warmup else "sampling"
        longer = f", {thin} sweeps a draw" if thin > 1 else ""
        self.progress(done * thin, self.length.total * thin, f"Gibbs {phase}{longer}", memories=occupied.mean())


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


def _note(model: Model, settings: Settings, thin: int) -> str:
    notes = [] if thin == 1 else [f"{thin} sweeps between two draws"]
    if settings.exchangeable:
        law = "Chinese restaurant process" if model.weights.name == "stick-breaking" else "mixture of finite mixtures"
        notes.append(f"sampled under the {law}, at most {model.num_components} memories with data")
    if settings.kernel == "slice":
        notes.append("sampled without truncation; what lies beyond is given to the last memory")
    if settings.integrated:
        notes.append("the family's conjugate base measure in the place of its priors")
    return "; ".join(notes)
