r"""A memory of your own, in one file: patterns of phases, such as hours of the day or angles of joints.

A memory is a subclass of `Memory` with an energy, an update, or both. That is enough for recall, basins, barriers,
completion and the command line:

    probam memory recall examples/a_memory_of_your_own.py:Phases --patterns p.csv --queries q.csv -o recalled.csv

A density is a second, independent statement: `twin.register` makes it, and here it is compared with the energy.
"""

from dataclasses import dataclass

import jax

jax.config.update("jax_enable_x64", True)  # double precision; set it before the first array

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

from probam.distributions.mixture import MemoryMixture
from probam.dynamics.memories import basins, recall
from probam.energies.memory import Card, Memory, between, checked_patterns
from probam.equivalence.twin import Density, twin
from probam.numerics.bessel import log_normalizer
from probam.pytrees import pytree

ANGLES = between(-np.pi, np.pi, "angles")


@pytree
@dataclass(frozen=True, eq=False)
class Phases(Memory):
    r"""Patterns of phases: every entry is an angle, and -pi is pi.

    .. math:: E(v) = -\log \sum_k \exp\Bigl(\kappa \sum_d \cos(v_d - \mu_{kd})\Bigr)

    >>> memory = Phases(jnp.array([[3.0], [0.0]]), 4.0)
    >>> moved = memory.update(jnp.array([-3.0]))
    >>> round(moved[0].item(), 3)  # across pi, the short way
    3.0
    """

    memories: jax.Array
    kappa: float

    card = Card("phases", ANGLES, "-log sum_k exp(kappa sum_d cos(v_d - mu_kd))", "circular mean", "many", "this file")

    def energy(self, states):
        """Minus the log of the sum over the memories."""
        return -jax.scipy.special.logsumexp(self._logits(states), axis=-1)

    def update(self, states):
        """The circular mean of the memories under their shares; it never raises the energy."""
        share = jax.nn.softmax(self._logits(states), axis=-1)
        return jnp.arctan2(share @ jnp.sin(self.memories), share @ jnp.cos(self.memories))

    def _logits(self, states):
        return self.kappa * jnp.sum(jnp.cos(states[..., None, :] - self.memories), axis=-1)

    @classmethod
    def store(cls, patterns, *, kappa=4.0):
        """A memory of these patterns."""
        return cls(checked_patterns(patterns, ANGLES), kappa)


@twin.register
def _(memory: Phases) -> Density:
    """A mixture of products of von Mises laws."""
    num_memories, dim = memory.memories.shape
    bank = dist.VonMises(memory.memories, memory.kappa).to_event(1)
    weights = jnp.full(num_memories, -jnp.log(num_memories))
    constant = jnp.log(num_memories) - dim * log_normalizer(2, jnp.asarray(memory.kappa))
    return Density(MemoryMixture(weights, bank), jnp.ones(()), constant)


if __name__ == "__main__":
    # Three rhythms of a day: when four genes are most active, as angles.
    rhythms = jnp.array([[0.0, 1.5, 3.0, -1.5], [1.5, 3.0, -1.5, 0.0], [0.0, 0.0, 3.1, 3.1]])
    memory = Phases.store(rhythms)
    seen = rhythms + 0.4 * jax.random.normal(jax.random.key(0), rhythms.shape)
    seen = jnp.arctan2(jnp.sin(seen), jnp.cos(seen))
    recalled = recall(memory, seen)
    error = jnp.abs(jnp.sin(recalled.states - rhythms)).max()
    print(f"largest error of what was seen {jnp.abs(jnp.sin(seen - rhythms)).max():.2f}, after recall {error:.2f}")
    assert error < 0.05

    day = jax.random.uniform(jax.random.key(1), (500, 4), minval=-jnp.pi, maxval=jnp.pi)
    found = basins(memory, day)
    print(f"500 random states end at {len(found.attractors)} fixed points")
    assert jnp.all(memory.energy(memory.update(day)) <= memory.energy(day) + 1e-12)

    density = twin(memory)
    gap = jnp.max(jnp.abs(density.distribution.log_prob(day) + density.scale * memory.energy(day) + density.constant))
    print(f"energy and log density agree to {gap:.0e}")
    assert gap < 1e-10
