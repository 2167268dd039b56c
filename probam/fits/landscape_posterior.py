r"""The posterior over the landscape: every draw is an energy, and recall is run on all of them.

What does not depend on the numbering of memories, draw by draw:

* whether two data share a basin: their recalls end at one attractor. Its average over draws is a co-clustering matrix
  of basins;
* the number of attractors: distinct places where recall comes to rest from the data, from the memories that hold data
  (an expected half of a datum or more) and from the centres of pairs, triples and all of the six largest of them;
* the number of spurious attractors: those where recall from none of the draw's K memories ends (CLAIMS A9: in two or
  more dimensions there may be more attractors than memories).

These are lower bounds on the numbers of all minima, since only these starts are tried. With memories numbered as in the
``memory`` group of a fit: barriers between them, and where a query is recalled to. :func:`completion` fills missing
entries by descent, beside the exact conditional of the mixture.

One compiled program serves all draws: site values are its arguments. Positions are in model units.
"""

from collections.abc import Callable
from functools import cache
from itertools import combinations, pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from probam.compiled import compiler_options
from probam.distributions.conditional import conditional
from probam.dynamics.barriers import barriers, lowest_passes
from probam.dynamics.clamped import complete
from probam.dynamics.recall import attractors
from probam.errors import InputError, RowError
from probam.family import Params
from probam.family.capabilities import DataSpace
from probam.fits.landscape import MERGE, Landscape, kind_of, survey
from probam.fits.questions import padded
from probam.models.mixture import Mixture
from probam.placement import each
from probam.reports.summaries.quantities import evenly

__all__ = [
    "Completion",
    "Filled",
    "LandscapePosterior",
    "Plan",
    "completion",
    "fill",
    "landscape_posterior",
    "plan",
]

_NUMBERS = 20_000_000
"""Most numbers in the ends of recall (draws x starts x D); with more, the draws are thinned."""

_WORK = 3e8
"""Most states times parameters, over all draws, that recall and barriers may compute."""

_PAIR = 72
"""States of recall that the barrier of one pair of memories costs as much as."""

_MEMORIES = 12
"""Most memories between which barriers are computed."""

_CENTRES = 6
"""Memories from whose pairs, triples and whole further starts are made."""

_OFF = 1e-3
"""Memories and centres are displaced by this fraction of the data's extent before recall, data and queries by a tenth
of it, so that recall does not rest at a saddle or on the ridge between two basins."""

_TOLERANCE = 1e-9
"""Relative residual at which recall has arrived; at least 4 eps of the dtype."""

_LEAST = 0.5
"""Expected number of data from which a memory counts as occupied."""


class LandscapePosterior(NamedTuple):
    """Recall at each of S draws, for R rows and Q queries; memories as relabelled, M of them."""

    num_attractors: Int[np.ndarray, " S"]
    num_spurious: Int[np.ndarray, " S"]
    basin: Int[np.ndarray, "S R"]  # number of the attractor within its draw, -1 where recall did not come to rest
    recalled: Float[np.ndarray, "S Q D"]
    recalled_memory: Int[np.ndarray, "S Q"]  # most responsible where recall ended; -1 where it did not come to rest
    attractor: Float[np.ndarray, "S M D"]  # where recall from each memory ends, NaN where it did not come to rest
    barrier: Float[np.ndarray, "S M M"]  # nats from row to column; NaN for memories that hold no data
    merged: Bool[np.ndarray, "S M M"]  # both hold data and share an attractor
    at_rest: Bool[np.ndarray, "S M M"]  # both hold data and have come to rest


class Filled(NamedTuple):
    """Missing entries of N rows at each of S draws by the exact conditional; observed entries are themselves."""

    log_marginal: Float[np.ndarray, "S N"]  # of the observed entries, nats
    mean: Float[np.ndarray, "S N D"]
    variance: Float[np.ndarray, "S N D"]

    @property
    def draw_weights(self) -> Float[np.ndarray, "S N"]:
        """Posterior of the draw given a row's observed entries: softmax over draws of their log density."""
        raised = np.exp(self.log_marginal - self.log_marginal.max(axis=0))
        return np.asarray(raised / raised.sum(axis=0))

    def pooled(self) -> dict[str, Float[np.ndarray, "N D"]]:
        r"""``conditional_mean`` and ``conditional_sd`` under the posterior predictive law. Draws count with
        :attr:`draw_weights`."""
        weight = self.draw_weights[..., None]
        mean = np.sum(weight * self.mean, axis=0)
        variance = np.sum(weight * (self.variance + (self.mean - mean) ** 2), axis=0)
        return {"conditional_mean": mean, "conditional_sd": np.sqrt(variance)}


class Completion(NamedTuple):
    """The same with recall: where descent from the mixture's mean ends while observed entries are fixed."""

    filled: Filled
    descent: Float[np.ndarray, "S N D"]
    converged: Bool[np.ndarray, "S N"]

    def pooled(self) -> dict[str, Float[np.ndarray, "N D"]]:
        r"""``descent`` and ``descent_sd``, mean and spread over draws of where descent ends, beside those of
        :meth:`Filled.pooled`."""
        weight = self.filled.draw_weights[..., None]
        end = np.sum(weight * self.descent, axis=0)
        spread = np.sqrt(np.sum(weight * (self.descent - end) ** 2, axis=0))
        return {"descent": end, "descent_sd": spread, **self.filled.pooled()}


class Plan(NamedTuple):
    """How much of a posterior recall is run on."""

    draws: Int[np.ndarray, " T"]  # positions in each chain
    num_memories: int  # M, those between which barriers are computed


def plan(
    sites: Params, shape: tuple[int, int], num_starts: int, num_occupied: int, num_features: int, *, most: int = 50
) -> Plan:
    """The draws to use, evenly spaced in each chain, and the number of memories, as time and memory allow.

    Args:
        sites: site values of all draws.
        shape: chains, and draws of each.
        num_starts: starts of recall at each draw.
        num_occupied: memories that hold data; the twelve largest of them are used.
        num_features: D.
        most: most draws of all chains together. There are fewer where a draw has many parameters, since each state of
            recall meets all of them, but at least one of each chain.
    """
    num_chains, num_draws = shape
    size = max(1, sum(int(np.prod(value.shape[1:])) for value in sites.values()))
    pairs = min(_MEMORIES * (_MEMORIES - 1) // 2, max(1, int(_WORK / 3) // (_PAIR * size)))
    num_memories = max(1, min(num_occupied, int((1 + np.sqrt(1 + 8 * pairs)) / 2)))
    states = num_starts + _PAIR * num_memories * (num_memories - 1) // 2
    most = min(most, int(_WORK) // (states * size), _NUMBERS // (num_starts * num_features))
    count = max(1, min(num_draws, most // num_chains))
    return Plan(evenly(num_draws, count), num_memories)


def landscape_posterior(
    model: Mixture,
    sites: Params,
    permutation: Int[np.ndarray, "S K"],
    rows: Float[np.ndarray, "R D"],
    queries: Float[np.ndarray, "Q D"],
    *,
    num_data: int,
    extent: float,
    memories: Int[np.ndarray, " M"],
    max_steps: int = 500,
) -> LandscapePosterior:
    """Recall of data and queries at every draw.

    Args:
        model: the program that was fitted.
        sites: site values, leading axis S.
        permutation: memory k as relabelled is memory ``permutation[s, k]`` of draw s.
        rows: data, model units; enough of them to stand for all.
        queries: model units.
        num_data: how many data the rows stand for.
        extent: spread of the data; places closer than a thousandth of it are one.
        memories: numbers, as relabelled, of those between which barriers are computed.
        max_steps: most steps of a recall.

    Raises :class:`probam.errors.InputError` where the energy has no dynamics, and for rows that are not finite.
    """
    _check_moves(model, sites)
    if not (np.isfinite(rows).all() and np.isfinite(queries).all()):
        raise InputError("rows, queries: expected finite values; recall starts from complete data")
    centre = _centres(min(model.num_components, _CENTRES))
    order = permutation[:, memories]
    walks = _walked(model, sites, order, rows, queries, centre, extent, max_steps)
    occupied = walks.shares * num_data >= _LEAST  # (S, K)
    num_starts = (len(rows), len(queries), model.num_components)
    rests = _rests(walks, occupied, centre, num_starts, None if _surveyed(model, sites).keeps_total else MERGE * extent)
    from_query, from_memory = (slice(*ends) for ends in pairwise(np.cumsum(num_starts)))
    recalled_memory = np.take_along_axis(np.argsort(permutation, axis=1), walks.memory[:, from_query], axis=1)
    return LandscapePosterior(
        num_attractors=rests.num_attractors,
        num_spurious=rests.num_spurious,
        basin=rests.basin,
        recalled=walks.states[:, from_query],
        recalled_memory=np.where(walks.arrived[:, from_query], recalled_memory, -1),
        **_between_memories(walks.states[:, from_memory], rests.of_memory, occupied, walks.barrier, order),
    )


def _walked(
    model: Mixture,
    sites: Params,
    order: Int[np.ndarray, "S M"],
    rows: Float[np.ndarray, "R D"],
    queries: Float[np.ndarray, "Q D"],
    centre: Float[np.ndarray, "G C"],
    extent: float,
    max_steps: int,
) -> "_HostWalks":
    """Recall from slightly displaced rows, queries, memories and centres of memories, at every draw."""
    given = padded(rows, model.num_components)
    num_given, num_own = len(given) + len(queries), model.num_components + len(centre)
    noise = np.random.default_rng(0).normal(size=(num_given + num_own, rows.shape[1]))
    noise *= extent * np.repeat([_OFF / 10, _OFF], [num_given, num_own])[:, None]
    walks = _walks()(
        model,
        sites,
        jnp.asarray(order),
        jnp.asarray(given),
        jnp.asarray(len(rows)),
        jnp.asarray(queries),
        jnp.asarray(centre, rows.dtype),
        jnp.asarray(noise, rows.dtype),
        max_steps=max_steps,
    )
    repeated = np.arange(len(rows), len(given))
    host = _HostWalks(*(np.asarray(leaf) for leaf in walks))
    of_starts = {name: np.delete(getattr(host, name), repeated, axis=1) for name in ("states", "arrived", "memory")}
    return host._replace(**of_starts)


class _Rests(NamedTuple):
    """Attractors of each draw, numbered within it; -1 where recall did not come to rest."""

    num_attractors: Int[np.ndarray, " S"]
    num_spurious: Int[np.ndarray, " S"]
    basin: Int[np.ndarray, "S R"]  # of each row
    of_memory: Int[np.ndarray, "S K"]


def _rests(
    walks: "_HostWalks",
    occupied: Bool[np.ndarray, "S K"],
    centre: Float[np.ndarray, "G C"],
    num_starts: tuple[int, int, int],
    tolerance: float | None,
) -> _Rests:
    """The distinct places where recall comes to rest.

    Args:
        walks: where recall ends.
        occupied: which memories of a draw hold data; a centre of memories some of which hold none is no start.
        centre: shares of the largest memories in the centres.
        num_starts: rows, queries and memories among the starts, in this order; the others are centres.
        tolerance: places closer than this are one. None where there is one place for each total of a state: there
            places are told apart by the memory most responsible.
    """
    num_draws = len(occupied)
    cuts = np.cumsum(num_starts)
    largest = np.argsort(-walks.shares, axis=1, kind="stable")[:, : centre.shape[1]]
    is_empty = ~np.take_along_axis(occupied, largest, axis=1)
    is_start = ~(is_empty.astype(int) @ (centre > 0).T.astype(int)).astype(bool)  # (S, G)
    numbers = np.zeros((2, num_draws), int)
    basin = np.empty((num_draws, num_starts[0]), int)
    of_memory = np.empty(occupied.shape, int)
    for s in range(num_draws):
        if tolerance is None:
            places = np.where(walks.arrived[s], walks.memory[s], -1)
        else:
            places = _places(walks.states[s], walks.arrived[s], tolerance)
        basin[s], _, of_memory[s], of_centre = np.split(places, cuts)
        reached = np.unique(np.concatenate([basin[s], of_memory[s][occupied[s]], of_centre[is_start[s]]]))
        reached = reached[reached >= 0]
        numbers[:, s] = len(reached), len(np.setdiff1d(reached, of_memory[s]))
    return _Rests(numbers[0], numbers[1], basin, of_memory)


def _between_memories(
    states: Float[np.ndarray, "S K D"],
    rest: Int[np.ndarray, "S K"],
    occupied: Bool[np.ndarray, "S K"],
    barrier: Float[np.ndarray, "S M M"],
    order: Int[np.ndarray, "S M"],
) -> dict[str, np.ndarray]:
    """Attractors of the memories, and which of two share one or what barrier stands between them.

    Args:
        states: where recall from each memory of a draw ends.
        rest: number of the attractor there, -1 where it is none.
        occupied: which memories of a draw hold data.
        barrier: nats from row to column, of the memories in their ``order``.
        order: the draw's own numbers of these M memories.
    """
    first_rest, holds = (np.take_along_axis(values, order, axis=1) for values in (rest, occupied))
    comes_to_rest = holds & (first_rest >= 0)
    at_rest = comes_to_rest[:, :, None] & comes_to_rest[:, None]
    merged = at_rest & (first_rest[:, :, None] == first_rest[:, None])
    place: np.ndarray = np.take_along_axis(states, order[..., None], axis=1)
    return {
        "attractor": np.where((first_rest >= 0)[..., None], place, np.nan),
        "barrier": np.where(at_rest, np.where(merged, 0, barrier), np.nan),
        "merged": merged,
        "at_rest": at_rest,
    }


def fill(model: Mixture, sites: Params, x: Float[np.ndarray, "N D"]) -> Filled:
    """Missing entries (NaN) of rows in model units by the exact conditional, at every draw.

    Raises :class:`probam.errors.InputError` for infinite entries and for families without an exact conditional.
    """
    rows = jnp.asarray(padded(_not_infinite(x), model.num_components))
    return _finite(model, Filled(*(np.asarray(values)[:, : len(x)] for values in _fillings()(model, sites, rows))))


def completion(model: Mixture, sites: Params, x: Float[np.ndarray, "N D"], *, max_steps: int = 500) -> Completion:
    """Missing entries (NaN) of rows in model units, by descent and by the exact conditional, at every draw.

    Descent starts from the observed entries and the mixture's mean in the place of the others. Raises
    :class:`probam.errors.InputError` as :func:`fill` does, and where the energy has no dynamics.
    """
    rows = jnp.asarray(padded(_not_infinite(x), model.num_components))
    _check_moves(model, sites)
    found = _completions()(model, sites, rows, max_steps=max_steps)
    *filled, descent, converged = (np.asarray(values)[:, : len(x)] for values in found)
    return Completion(_finite(model, Filled(*filled)), descent, converged)


def _not_infinite(x: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "N D"]:
    x = np.asarray(x)
    if np.isinf(x).any():
        raise InputError("x: expected finite values, NaN where an entry is missing; an entry is infinite")
    return x


def _finite(model: Mixture, filled: Filled) -> Filled:
    """The same, or an error where an entry has no mean."""
    endless = ~np.isfinite(filled.mean).all(axis=(0, 2))
    if endless.any():
        raise RowError(
            f"complete: missing entries have no finite mean in {endless.sum()} of {len(endless)} rows, the first is ",
            np.flatnonzero(endless)[0],
            f": tails of {model.family.name!r} memories are too heavy, or the observed entries lie outside every "
            "support",
        )
    return filled


def _surveyed(model: Mixture, sites: Params) -> Landscape:
    """The landscape of the first draw, whose kind is that of all."""
    return kind_of(model, {name: jnp.asarray(np.asarray(value)[0]) for name, value in sites.items()})


def _check_moves(model: Mixture, sites: Params) -> None:
    still = _surveyed(model, sites).still
    if still:
        raise InputError(f"recall: {still}")


class _Walks(NamedTuple):
    """Where recall ends from T starts at each draw: rows, queries, memories, centres."""

    states: Float[Array, "S T D"]
    arrived: Bool[Array, "S T"]
    memory: Int[Array, "S T"]  # most responsible at the end, the draw's own number
    shares: Float[Array, "S K"]  # of the rows, expected for each memory
    barrier: Float[Array, "S M M"]  # nats


class _HostWalks(NamedTuple):
    """:class:`_Walks` as NumPy arrays."""

    states: Float[np.ndarray, "S T D"]
    arrived: Bool[np.ndarray, "S T"]
    memory: Int[np.ndarray, "S T"]
    shares: Float[np.ndarray, "S K"]
    barrier: Float[np.ndarray, "S M M"]


@cache
def _walks() -> Callable[..., _Walks]:
    return jax.jit(_walk_draws, static_argnames="max_steps", compiler_options=compiler_options())


def _walk_draws(
    model: Mixture,
    sites: Params,
    order: Int[Array, "S M"],
    rows: Float[Array, "R D"],
    num_rows: Int[Array, ""],
    queries: Float[Array, "Q D"],
    centre: Float[Array, "G C"],
    noise: Float[Array, "T D"],
    *,
    max_steps: int,
) -> _Walks:
    tolerance = max(4 * float(np.finfo(rows.dtype).eps), _TOLERANCE)
    counted = (jnp.arange(len(rows)) < num_rows).astype(rows.dtype)  # the others repeat the last one

    def one(inputs: tuple[Params, Int[Array, " M"]]) -> _Walks:
        params, chosen = inputs
        mixture = model.mixture(params)
        landscape = survey(mixture)
        memories = DataSpace.of(model.family).memories(params)
        shares = counted @ mixture.responsibilities(rows) / num_rows
        largest = jnp.argsort(-shares)[: centre.shape[1]]
        starts = jnp.concatenate([rows, queries, memories, centre @ memories[largest]]) + noise
        if landscape.keep is not None:
            starts = landscape.keep(starts)
        starts = starts.astype(rows.dtype)
        ended = landscape.run(starts, max_steps=max_steps, tolerance=tolerance)
        arrived = ended.converged & jnp.isfinite(ended.energy)
        memory = jnp.argmax(mixture.log_responsibilities(ended.states), axis=-1)
        wells = ended.states[len(rows) + len(queries) + chosen]
        passes = lowest_passes(landscape.energy, wells, update=landscape.update, keep=landscape.keep)
        return _Walks(ended.states, arrived, memory, shares, landscape.scale * barriers(passes))

    walks: _Walks = each(one, (sites, order), numbers=rows.size * model.num_components)
    return walks


@cache
def _fillings() -> Callable[..., tuple[Array, ...]]:
    return jax.jit(_fill_draws, compiler_options=compiler_options())


def _fill_draws(model: Mixture, sites: Params, x: Float[Array, "N D"]) -> tuple[Array, ...]:
    def one(params: Params) -> tuple[Array, ...]:
        exact = conditional(model.mixture(params), x)
        return exact.log_marginal, exact.mean, exact.variance

    filled: tuple[Array, ...] = each(one, sites, numbers=x.size * model.num_components)
    return filled


@cache
def _completions() -> Callable[..., tuple[Array, ...]]:
    return jax.jit(_complete_draws, static_argnames="max_steps", compiler_options=compiler_options())


def _complete_draws(model: Mixture, sites: Params, x: Float[Array, "N D"], *, max_steps: int) -> tuple[Array, ...]:
    missing = jnp.isnan(x)
    tolerance = max(4 * float(np.finfo(x.dtype).eps), _TOLERANCE)

    def one(params: Params) -> tuple[Array, ...]:
        mixture = model.mixture(params)
        exact = conditional(mixture, x)
        landscape = survey(mixture)
        start = jnp.where(missing, mixture.mean, x).astype(x.dtype)
        update = landscape.update if landscape.is_separable else None
        ended = complete(landscape.energy, start, missing, update=update, max_steps=max_steps, tolerance=tolerance)
        states = ended.states if landscape.inside is None else landscape.inside(ended.states)
        states = jnp.where(missing, states, x)
        return exact.log_marginal, exact.mean, exact.variance, states, ended.converged

    completed: tuple[Array, ...] = each(one, sites, numbers=x.size * model.num_components)
    return completed


def _centres(count: int) -> Float[np.ndarray, "G C"]:
    """Rows of shares that make the centres of the pairs, the triples and all of ``count`` memories."""
    sets = [
        chosen for size in sorted({2, 3, count}) if 2 <= size <= count for chosen in combinations(range(count), size)
    ]
    shares = np.zeros((len(sets), count))
    for row, chosen in zip(shares, sets, strict=True):
        row[list(chosen)] = 1 / len(chosen)
    return shares


def _places(
    states: Float[np.ndarray, "T D"], arrived: Bool[np.ndarray, " T"], tolerance: float
) -> Int[np.ndarray, " T"]:
    """Number of the place where each recall ended; those short of rest belong to the place they have come close to,
    or to none (-1)."""
    labels = np.full(len(states), -1)
    if not arrived.any():
        return labels
    labels[arrived], places = attractors(states[arrived], tolerance)
    for t in np.flatnonzero(~arrived & np.isfinite(states).all(axis=1)):
        away = np.linalg.norm(places - states[t], axis=1)
        if away.min() <= tolerance:
            labels[t] = away.argmin()
    return labels
