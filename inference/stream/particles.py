r"""Sequential Monte Carlo over partitions: many streams of the same data, weighted and resampled.

A particle is a :class:`probam.inference.stream.kernel.StreamState`. For each datum it is weighted, before the datum is
seated, by what it says of the datum with its seat summed out,

.. math:: w_n \propto w_{n-1}\, p(x_n \mid x_{<n}, \text{labels}_{<n}),

so that the weight does not depend on the seat that is drawn (the fully adapted filter of Pitt and Shephard 1999). Where
the effective number of particles falls below ``threshold`` P they are resampled, systematically and before the datum is
seated: copies may take different seats. Each datum's log mean weight adds up to a log evidence whose exponential is
unbiased (Del Moral 2004), and the weighted particles converge to the posterior of partitions as 1 / sqrt(P).

With ``resampling`` "optimal" there is no drawing of seats: of all seats that the datum can have in all particles P are
kept (:mod:`probam.inference.stream.resampling`). Where the particles are more than the partitions nothing is random.

Where the process is learned, each particle has parameters of its own, drawn from their prior at the start and from
their posterior given the particle's partition at intervals (Escobar and West 1995): the target is then the joint
posterior of partitions and parameters, and the evidence that of the model with both summed out.

The last W rows of the stream are kept with their labels in every particle: :mod:`probam.inference.stream.rejuvenation`
reseats them. What is random about datum n is a function of the key and n alone. Memory is P K F.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float, Int, UInt

from probam.errors import InputError
from probam.inference.common.progress import Reporter, silent
from probam.inference.stream.engine import Absorbed, Recalled, recall_blocks, start, take_in
from probam.inference.stream.hyper import Hyper, draw_prior
from probam.inference.stream.kernel import GROUP, Kernel, StepInfo, choose, grow, join, logits, relearn, relearn_is_due
from probam.inference.stream.rejuvenation import Moves, check_moves, enough_room, reseat, split_merge
from probam.inference.stream.resampling import RESAMPLINGS, optimal, systematic
from probam.inference.stream.state import StreamState
from probam.placement import each
from probam.pytrees import pytree

__all__ = [
    "Filter",
    "Particles",
    "absorb",
    "coclustering",
    "from_prior",
    "heaviest",
    "number_of_memories",
    "recall",
    "rejuvenate",
    "start_particles",
    "step_particles",
]

THRESHOLD = 0.5
"""Particles are resampled when fewer than this share of them is effective."""


@pytree
@dataclass(frozen=True)
class Filter:
    """What does not change along a filtered stream."""

    kernel: Kernel
    threshold: jax.Array
    resampling: str = field(default="systematic", metadata={"static": True})


class Particles(NamedTuple):
    """Everything that the next datum needs."""

    states: StreamState  # every leaf leads with P; seen is the same for all, keys stay in their places
    log_weights: Float[Array, " P"]  # normalised
    rows: Float[Array, "W D"]  # row n is kept in place n mod W
    labels: Int[Array, "P W"]  # slot of each kept row in each particle; -1 where no row came yet

    @property
    def size(self) -> Int[Array, ""]:
        """Most memories of a particle."""
        return jnp.max(self.states.size)

    @property
    def num_slots(self) -> int:
        """Room for memories in every particle."""
        return self.states.ident.shape[-1]

    @property
    def num_seen(self) -> UInt[Array, ""]:
        """Data so far."""
        return self.states.seen[0]


def start_particles(
    kernel: Kernel,
    num_features: int,
    dtype: Any,
    key: jax.Array,
    *,
    num_particles: int,
    window: int = 1,
    threshold: float = THRESHOLD,
    resampling: str = "systematic",
    capacity: int = 8 * GROUP,
) -> tuple[Filter, Particles]:
    """The filter and particles without memories, after their numbers were checked.

    Raises :class:`probam.errors.InputError`, also for a greedy rule or an energy that is no density where there are
    several particles: they would all be the same, or weighted by what is no probability.
    """
    for name, value in (("particles", num_particles), ("window", window)):
        if not 1 <= value <= 2**20:
            raise InputError(f"{name}: expected a whole number from 1 to 2^20; got {value}")
    if not 0 <= threshold <= 1:
        raise InputError(f"threshold: expected a share of the particles, from 0 to 1; got {threshold}")
    if resampling not in RESAMPLINGS:
        raise InputError(f"resampling: expected one of {', '.join(RESAMPLINGS)}; got {resampling!r}")
    if resampling == "optimal" and num_particles == 1:
        raise InputError("resampling: one particle is never resampled; give more particles, or leave it out")
    if num_particles > 1 and kernel.rule != "sample":
        raise InputError(f"rule: particles differ by what they draw; use rule 'sample' with them, not {kernel.rule!r}")
    if num_particles > 1 and kernel.energy != "collapsed":
        raise InputError(f"energy: particles are weighted by exact densities; use 'collapsed', not {kernel.energy!r}")
    one = start(kernel, num_features, dtype, key, capacity=capacity)
    states = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (num_particles, *leaf.shape)), one)
    states = states._replace(key=jax.random.split(key, num_particles))
    if kernel.learning is not None and kernel.rule == "sample":
        states = states._replace(hyper=from_prior(kernel, states))
    shares = np.full(num_particles, 1 / num_particles)
    if resampling == "optimal" and kernel.learning is None:
        shares = np.eye(num_particles)[0]  # all are alike: one of them is enough
    with np.errstate(divide="ignore"):
        log_weights = jnp.asarray(np.log(shares), dtype)
    particles = Particles(
        states,
        log_weights,
        jnp.zeros((window, num_features), dtype),
        jnp.full((num_particles, window), -1, jnp.int32),
    )
    return Filter(kernel, jnp.asarray(threshold, dtype), resampling), particles


@jax.jit
def from_prior(kernel: Kernel, states: StreamState) -> Hyper:
    """Parameters of the process for each particle."""
    learning = kernel.learning
    assert learning is not None
    keys = jax.vmap(lambda key: jax.random.fold_in(key, np.uint32(2**32 - 3)))(states.key)
    drawn: Hyper = jax.vmap(lambda key, hyper: draw_prior(learning, key, hyper))(keys, states.hyper)
    return drawn


def _key(states: StreamState, purpose: int) -> jax.Array:
    """A key of all particles together; no datum has such a number."""
    return jax.random.fold_in(states.key[0], np.uint32(2**32 - purpose))


def step_particles(settings: Filter, particles: Particles, x: Float[Array, " D"]) -> tuple[Particles, StepInfo]:
    """Weight, resample, seat: one datum. Needs one empty slot in every particle.

    The information about the datum is from the particle of largest weight; ``log_predictive`` is from all particles.
    """
    kernel, states = settings.kernel, particles.states
    scores, fresh = jax.vmap(partial(logits, kernel), (0, None))(states, x)
    keys = jax.random.split(jax.random.fold_in(_key(states, 2), states.seen[0]))
    seat = _seat_best if settings.resampling == "optimal" else partial(_seat_drawn, settings)
    seated = seat(particles, scores, fresh, keys)
    states, labels, log_weights, slots, fresh, log_mean = seated
    states = states._replace(key=particles.states.key)
    place = states.seen[0] % len(particles.rows)
    states, info = jax.vmap(partial(join, kernel), (0, None, 0, 0, None))(states, x, slots, fresh, log_mean)
    if kernel.learning is not None:
        is_due = relearn_is_due(kernel.learning, states.seen[0])
        hyper = jax.lax.cond(is_due, lambda: jax.vmap(partial(relearn, kernel))(states), lambda: states.hyper)
        states = states._replace(hyper=hyper)
    after = Particles(states, log_weights, particles.rows.at[place].set(x), labels.at[:, place].set(slots))
    lead = jnp.argmax(log_weights)
    return after, jax.tree.map(lambda leaf: leaf[lead], info)


class _Seated(NamedTuple):
    """The particles that go on, and where the datum goes in each."""

    states: StreamState
    labels: Int[Array, "P W"]
    log_weights: Float[Array, " P"]
    slots: Int[Array, " P"]
    fresh: Int[Array, " P"]
    log_mean: Float[Array, ""]  # log predictive density of all particles, less the base


def _seat_drawn(
    settings: Filter, particles: Particles, scores: Float[Array, "P K"], fresh: Int[Array, " P"], keys: jax.Array
) -> _Seated:
    """Weighted with the seat summed out, resampled where few are effective, then each seat drawn."""
    num = len(scores)
    top = jnp.max(scores, axis=-1)
    mass = jnp.exp(scores - top[:, None])
    log_weights = particles.log_weights + top + jnp.log(jnp.sum(mass, axis=-1))
    log_mean = logsumexp(log_weights)
    log_weights = log_weights - log_mean
    present = (particles.states, particles.labels, mass, fresh)
    if num > 1:

        def resampled() -> Any:
            parents = systematic(jax.random.uniform(keys[0], (), scores.dtype), log_weights)
            return jax.tree.map(lambda leaf: leaf[parents], present), jnp.full_like(log_weights, -np.log(num))

        is_low = logsumexp(2 * log_weights) > -jnp.log(settings.threshold * num)
        present, log_weights = jax.lax.cond(is_low, resampled, lambda: (present, log_weights))
    states, labels, mass, fresh = present
    if settings.kernel.rule == "map":
        slots = jnp.argmax(mass, axis=-1).astype(jnp.int32)
    else:
        slots = jax.vmap(choose)(mass, jax.random.uniform(keys[1], (num,), scores.dtype))
    return _Seated(states, labels, log_weights, slots, fresh, log_mean)


def _seat_best(particles: Particles, scores: Float[Array, "P K"], fresh: Int[Array, " P"], keys: jax.Array) -> _Seated:
    """Every seat in every particle is a child; P of them go on."""
    log_joint = (particles.log_weights[:, None] + scores).reshape(-1)
    log_mean = logsumexp(log_joint)
    uniform = jax.random.uniform(keys[0], (), scores.dtype)
    children, log_weights = optimal(uniform, log_joint - log_mean, len(scores))
    parents, slots = children // scores.shape[1], children % scores.shape[1]
    states, labels, fresh = jax.tree.map(lambda leaf: leaf[parents], (particles.states, particles.labels, fresh))
    return _Seated(states, labels, log_weights, slots.astype(jnp.int32), fresh, log_mean)


@jax.jit
def _grow(kernel: Kernel, particles: Particles) -> Particles:
    return particles._replace(states=jax.vmap(partial(grow, kernel))(particles.states))


def rejuvenate(settings: Filter, particles: Particles, moves: Moves) -> Particles:
    """The same target, other seats for the rows that are kept: split-merge moves, then each row reseated once.

    Slots are doubled where a particle has none empty, and the move that needs one is made then.
    """
    kernel = settings.kernel
    key = jax.random.fold_in(_key(particles.states, 1), particles.num_seen)
    num_kept = min(int(particles.num_seen), len(particles.rows))
    for program, total in ((split_merge, moves.split_merge if num_kept > 1 else 0), (reseat, num_kept)):
        done = 0
        while done < total:
            if not enough_room(particles.states):
                particles = _grow(kernel, particles)
            states, labels, reached = program(
                kernel,
                particles.states,
                particles.labels,
                particles.rows,
                key,
                *(jnp.asarray(number, jnp.int32) for number in (num_kept, done, total)),
            )
            particles, done = particles._replace(states=states, labels=labels), int(reached)
    return particles


def absorb(
    settings: Filter,
    particles: Particles,
    x: Float[np.ndarray, "N D"],
    *,
    moves: Moves | None = None,
    progress: Reporter = silent,
) -> tuple[Particles, Absorbed]:
    """The particles after the data, one after the other, and what became of each.

    ``moves`` rejuvenates whenever the number of data seen is a multiple of its interval. The sum of
    ``log_predictive`` is the log evidence of the data.

    Raises :class:`probam.errors.NumericalError` when a predictive density stops being finite.
    """
    if moves is not None:
        check_moves(moves, settings.kernel)
    particles, info = take_in(
        step_particles, settings, particles, x, enlarge=partial(_grow, settings.kernel),
        every=0 if moves is None else moves.every,
        pause=None if moves is None else lambda state, _: rejuvenate(settings, state, moves), progress=progress,
    )  # fmt: skip
    return particles, Absorbed(*info, [])  # type: ignore[arg-type]


# --- questions ------------------------------------------------------------------------------------------------


def heaviest(particles: Particles) -> StreamState:
    """The particle of largest weight, as a stream of its own."""
    lead = int(np.argmax(np.asarray(particles.log_weights)))
    state: StreamState = jax.tree.map(lambda leaf: leaf[lead], particles.states)
    return state


def number_of_memories(particles: Particles) -> Float[np.ndarray, " J"]:
    """Posterior probability of 0, 1, ..., J - 1 memories."""
    return np.bincount(np.asarray(particles.states.size), weights=np.exp(np.asarray(particles.log_weights, np.float64)))


def coclustering(particles: Particles) -> Float[np.ndarray, "H H"]:
    """Posterior probability that two of the kept rows share a memory; oldest row first."""
    seen, window = int(particles.num_seen), len(particles.rows)
    order = np.arange(max(seen - window, 0), seen) % window
    labels = np.asarray(particles.labels)[:, order]
    together = np.zeros((len(order), len(order)))
    for weight, row in zip(np.exp(np.asarray(particles.log_weights, np.float64)), labels, strict=True):
        together += weight * (row[:, None] == row[None])
    return together


@jax.jit
def _recall_block(kernel: Kernel, particles: Particles, x: Float[Array, "B D"]) -> tuple[jax.Array, ...]:
    states, lead = particles.states, jnp.argmax(particles.log_weights)
    live = states.live

    def one(x: jax.Array) -> tuple[jax.Array, ...]:
        scores, fresh = jax.vmap(partial(logits, kernel), (0, None))(states, x)
        joint = particles.log_weights[:, None] + scores
        log_density = logsumexp(joint)
        is_fresh = (jnp.arange(live.shape[1]) == fresh[:, None]) & ~live
        new = jnp.sum(jnp.where(is_fresh, jnp.exp(joint - log_density), 0))
        old = jnp.where(live[lead], scores[lead], -jnp.inf)
        slot = jnp.argmax(old)
        share = jnp.exp(old[slot] - logsumexp(scores[lead]))
        return states.ident[lead, slot], share, new, log_density + kernel.pair.log_base(x[None])[0]

    log_probs: tuple[jax.Array, ...] = each(one, x, numbers=live.size * x.shape[1])
    return log_probs


def recall(settings: Filter, particles: Particles, x: Float[np.ndarray, "N D"]) -> Recalled:
    """Recall of queries by all particles; the memory and its probability are from the particle of largest weight."""
    if not enough_room(particles.states):
        particles = _grow(settings.kernel, particles)
    return recall_blocks(partial(_recall_block, settings.kernel, particles), x)
