r"""A key-value memory with a fixed number of slots: what is familiar is averaged, what is new takes the oldest slot.

.. math:: \text{familiar: } k_m \leftarrow \frac{n_m k_m + k}{n_m + 1},\ n_m \leftarrow n_m + 1; \qquad
    \text{new: } k_m \leftarrow k,\ n_m \leftarrow 1 \text{ at the oldest } m

He et al. (2024), CAMELoT, arXiv:2402.13449, from the abstract and overviews (its code is not public). Reading is
attention: the mean of the values under the slots' shares, which are those of CLAM with the counts as weights.

What is new is decided by a similarity threshold R, or by the predictive probabilities of a Pitman-Yor process, which
needs no threshold (:mod:`probam.energies.novelty`). With R above 1 everything is new, and the slots are a window of the
last tokens.

Keys are (..., D), values (..., V), for M slots (M, D) and (M, V).
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from probam.energies import clam
from probam.energies.arguments import Scalar, check_counts
from probam.energies.memory import REAL, Card, Memory, checked_patterns, sharpness
from probam.energies.novelty import Novelty, Similarity
from probam.energies.wells import dot
from probam.pytrees import pytree

__all__ = ["Consolidated", "Slots", "empty", "write"]


class Slots(NamedTuple):
    """M slots; a count of 0 is an empty one, and the age counts the tokens since the last use."""

    keys: Float[ArrayLike, "M D"]
    values: Float[ArrayLike, "M V"]
    counts: Float[ArrayLike, " M"]
    ages: Float[ArrayLike, " M"]


def empty(num_slots: int, dim: int, value_dim: int) -> Slots:
    """Slots without content."""
    check_counts(num_slots=num_slots)
    return Slots(*(jnp.zeros(shape) for shape in ((num_slots, dim), (num_slots, value_dim), num_slots, num_slots)))


def write(slots: Slots, key: Float[Array, " D"], value: Float[Array, " V"], novelty: Novelty) -> Slots:
    """The slots after one token: it joins the nearest slot, or replaces an empty or else the oldest one."""
    keys, values, counts, ages = (jnp.asarray(part) for part in slots)
    nearest, is_new = novelty(key, keys, counts)
    place = jnp.where(is_new, jnp.argmax(jnp.where(counts > 0, ages, jnp.inf)), nearest)
    count = jnp.where(is_new, 0, counts[place])
    return Slots(
        keys.at[place].set((count * keys[place] + key) / (count + 1)),
        values.at[place].set((count * values[place] + value) / (count + 1)),
        counts.at[place].set(count + 1),
        (ages + 1).at[place].set(0),
    )


@pytree
@dataclass(frozen=True, eq=False)
class Consolidated(Memory):
    r"""A fixed number of slots for a stream of any length: familiar tokens are averaged, new ones replace the oldest.

    For long streams in fixed space, with keys and values. A slot that is used again is young again, so that many
    rare tokens do not push out what keeps coming back.

    .. math:: E(q) = -\frac1\beta \log \sum_m n_m e^{-\beta |k_m - q|^2}

    >>> patterns = jnp.array([[4.0, 0.0], [0.0, 4.0], [0.0, 4.2], [0.1, 4.1]])
    >>> memory = Consolidated.store(patterns, num_slots=2, threshold=0.9)
    >>> round(memory.read(jnp.array([0.3, 3.0]))[1].item(), 2)  # close to the mean of three, 4.1
    4.09
    """

    slots: Slots
    novelty: Novelty
    beta: Scalar

    card = Card(
        "consolidated",
        REAL,
        "-(1/beta) log sum_m n_m exp(-beta |k_m - q|^2)",
        "mean of the slots' keys under their shares",
        "as many distinct patterns as slots; of more, the last ones that were used",
        "He et al. (2024), arXiv:2402.13449",
        "consolidated_memory",
    )
    bank = "keys"
    separable = True

    @property
    def keys(self) -> Float[ArrayLike, "M D"]:
        """Of all slots."""
        return self.slots.keys

    @property
    def counts(self) -> Float[ArrayLike, " M"]:
        """Tokens in each slot."""
        return self.slots.counts

    def energy(self, states: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch"]:
        """CLAM's energy, with the counts as weights."""
        return clam.energy(states, self.keys, self.beta, self.counts)

    def update(self, states: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch D"]:
        """Attention to the keys, with the keys as values; it never raises the energy."""
        return clam.update(states, self.keys, self.beta, self.counts)

    def read(self, queries: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch V"]:
        """Attention to the keys: the mean of the values under the slots' shares."""
        shares = clam.responsibilities(queries, self.keys, self.beta, self.counts)
        return dot(shares, jnp.asarray(self.slots.values))

    def write(self, patterns: Float[ArrayLike, "B D"], values: Float[ArrayLike, "B V"] | None = None) -> "Consolidated":
        """The memory after these tokens, one after the other; without values the keys are their own."""
        keys = jnp.asarray(patterns)
        tokens = (keys, keys if values is None else jnp.asarray(values))
        slots, _ = jax.lax.scan(lambda state, token: (write(state, *token, self.novelty), None), self.slots, tokens)
        return replace(self, slots=slots)

    @classmethod
    def store(
        cls,
        patterns: Float[ArrayLike, "K D"],
        *,
        num_slots: int = 64,
        threshold: float = 0.9,
        beta: float | None = None,
    ) -> "Consolidated":
        """A memory after these patterns came as a stream; a cosine above the threshold is familiar."""
        rows = checked_patterns(patterns, REAL)
        slots = empty(num_slots, *(2 * rows.shape[1:]))
        started = cls(jax.tree.map(lambda part: part.astype(rows.dtype), slots), Similarity(threshold), 1.0)
        written = started.write(rows)
        used = np.asarray(written.keys)[np.asarray(written.counts) > 0]
        return replace(written, beta=sharpness(used, beta))
