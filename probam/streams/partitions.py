"""What a stream learns: one partition of its data into memories, or several that are weighted.

:class:`SinglePartition` and :class:`WeightedPartitions` have the same methods, so that the rest of a stream need not
know which of them it has. Both are immutable: ``absorb`` returns what was learned as another object.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int

import probam.inference.stream.engine as engine
import probam.inference.stream.particles as particle_filter
from probam.inference.common.progress import Reporter
from probam.inference.stream.engine import Absorbed, Recalled
from probam.inference.stream.hyper import Hyper
from probam.inference.stream.kernel import Kernel
from probam.inference.stream.particles import Filter, Particles, heaviest, start_particles
from probam.inference.stream.rejuvenation import Moves
from probam.inference.stream.state import StreamState
from probam.inference.stream.tidy import Tidy
from probam.streams.kernel import rejuvenation_moves, tidying
from probam.streams.options import StreamOptions
from probam.streams.storage import Learned, refill

__all__ = ["Partitions", "Process", "SinglePartition", "WeightedPartitions", "start_partitions"]


class Process(NamedTuple):
    """Parameters of the two-parameter Chinese restaurant process."""

    alpha: float
    discount: float


@dataclass(frozen=True)
class SinglePartition:
    """One partition; a datum stays where it was assigned, unless tidying merges or drops its memory."""

    kernel: Kernel
    state: StreamState
    tidying: Tidy | None

    def absorb(self, x: Float[np.ndarray, "N D"], progress: Reporter) -> tuple["SinglePartition", Absorbed]:
        """The partition after more data (model units), and what happened to each datum."""
        state, absorbed = engine.absorb(self.kernel, self.state, x, tidying=self.tidying, progress=progress)
        return replace(self, state=state), absorbed

    def seat(
        self, x: Float[np.ndarray, "N D"], numbers: Int[np.ndarray, " N"], progress: Reporter
    ) -> tuple["SinglePartition", Absorbed]:
        """The partition after data (model units) whose memories are given by number."""
        state, absorbed = engine.seat(self.kernel, self.state, x, numbers, progress=progress)
        return replace(self, state=state), absorbed

    def recall(self, x: Float[np.ndarray, "N D"]) -> Recalled:
        """The memory of each query (model units) and its probability."""
        return engine.recall(self.kernel, self.state, x)

    def learned_process(self) -> Process | None:
        """Current parameters of the process; None if they are not learned."""
        hyper = self.state.hyper
        return Process(float(hyper.alpha), float(hyper.discount)) if isinstance(hyper, Hyper) else None

    def number_of_memories(self) -> Float[np.ndarray, " J"]:
        """Posterior probability of 0, 1, ..., J - 1 memories: all on one number."""
        law = np.zeros(int(self.state.size) + 1)
        law[-1] = 1
        return law

    @property
    def most_memories(self) -> int:
        """Number of memories."""
        return int(self.state.size)

    @property
    def learned(self) -> Learned[None]:
        """Everything that a file keeps."""
        return Learned(self.state, None, self.kernel.pair)

    def restored(self, arrays: Mapping[str, np.ndarray], path: str) -> "SinglePartition":
        """The same with the numbers of a file."""
        learned = refill(self.learned, arrays, path)
        return replace(self, kernel=replace(self.kernel, pair=learned.pair), state=learned.state)


@dataclass(frozen=True)
class WeightedPartitions:
    """A particle filter over partitions; with rejuvenation also of one particle."""

    settings: Filter
    particles: Particles
    state: StreamState
    """The particle of largest weight."""
    moves: Moves | None

    @property
    def kernel(self) -> Kernel:
        """The kernel of all particles."""
        return self.settings.kernel

    def absorb(self, x: Float[np.ndarray, "N D"], progress: Reporter) -> tuple["WeightedPartitions", Absorbed]:
        """The particles after more data (model units), and what happened to each datum in the one of largest weight."""
        particles, absorbed = particle_filter.absorb(
            self.settings, self.particles, x, moves=self.moves, progress=progress
        )
        return replace(self, particles=particles, state=heaviest(particles)), absorbed

    def recall(self, x: Float[np.ndarray, "N D"]) -> Recalled:
        """The memory of each query (model units) and its probability, averaged over the particles by weight."""
        return particle_filter.recall(self.settings, self.particles, x)

    def learned_process(self) -> Process | None:
        """Weighted means of the parameters of the process; None if they are not learned."""
        hyper = self.particles.states.hyper
        if not isinstance(hyper, Hyper):
            return None
        shares = np.exp(np.asarray(self.particles.log_weights, np.float64))
        return Process(float(shares @ hyper.alpha), float(shares @ hyper.discount))

    def number_of_memories(self) -> Float[np.ndarray, " J"]:
        """Posterior probability of 0, 1, ..., J - 1 memories."""
        return particle_filter.number_of_memories(self.particles)

    @property
    def most_memories(self) -> int:
        """Number of memories in the particle that has most."""
        return int(self.particles.size)

    @property
    def learned(self) -> Learned[Particles]:
        """Everything that a file keeps."""
        return Learned(self.state, self.particles, self.kernel.pair)

    def restored(self, arrays: Mapping[str, np.ndarray], path: str) -> "WeightedPartitions":
        """The same with the numbers of a file."""
        learned = refill(self.learned, arrays, path)
        settings = replace(self.settings, kernel=replace(self.kernel, pair=learned.pair))
        return replace(self, settings=settings, particles=learned.particles, state=learned.state)


Partitions = SinglePartition | WeightedPartitions


def start_partitions(
    options: StreamOptions, kernel: Kernel, num_features: int, dtype: np.dtype[Any], key: jax.Array
) -> Partitions:
    """Partitions without memories."""
    capacity = options.slots + 1 if options.slots else options.capacity
    if not options.is_filtered:
        state = engine.start(kernel, num_features, dtype, key, capacity=capacity)
        return SinglePartition(kernel, state, tidying(options))
    moves = rejuvenation_moves(options)
    settings, particles = start_particles(
        kernel, num_features, dtype, key, capacity=capacity, num_particles=options.particles,
        window=1 if moves is None else options.window, resampling=options.resampling,
    )  # fmt: skip
    return WeightedPartitions(settings, particles, heaviest(particles), moves)
