r"""BayesPCN: a memory in the weights of layers, to which patterns are written one by one, forgotten, and erased.

Yoo and Wood (2022), arXiv:2205.09930. Each of P particles is a hierarchy of Bayesian linear layers
(:mod:`probam.energies.bayesian_layers`) with a random prior mean of its own. The energy of a state mixes them:

.. math:: E(x) = -\log \sum_p w_p\, e^{-E_p(x)}, \qquad E_p(x) = \min_a -\log p_p(x, a)

Writing finds the activities of a pattern, multiplies \(w_p\) by \(e^{-E_p}\), and does Bayesian regression in each
layer. As activities are points, and are not integrated out, particle weights are those of point estimates. Forgetting
with the rate b moves the weights to their prior and multiplies \(\log w_p\) by 1 - b.

States are (..., D), in units of ``scale``.
"""

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from probam.energies.arguments import Scalar, check_counts, positive, random_key
from probam.energies.bayesian_layers import Activities, Layers, drawn, erase_one, forgotten, read_all, write_all
from probam.energies.memory import REAL, Card, Memory, checked_patterns
from probam.errors import InputError
from probam.pytrees import pytree

__all__ = ["BayesianPredictiveCoding", "Written"]


class Written(NamedTuple):
    """What was written, so that it can be erased: N patterns, and their activities in each layer of each particle."""

    patterns: Float[Array, "N D"]
    activities: Activities  # (P, N, F)

    def activities_of(self, row: int) -> Activities:
        """Those of one pattern, (P, F)."""
        return tuple(each[:, row] for each in self.activities)

    def without(self, row: int) -> "Written":
        """All but one pattern."""
        kept = np.arange(len(self.patterns)) != row
        return Written(self.patterns[kept], tuple(each[:, kept] for each in self.activities))


@pytree
@dataclass(frozen=True, eq=False)
class BayesianPredictiveCoding(Memory):
    r"""Patterns written into the weights of layers, one by one, in fixed space; forgetting frees it.

    For a stream of images or other real vectors of about one scale, and for parts of them that are missing
    (`complete`). Recall is one update: from a noisy copy, repeated updates drift to weaker patterns. `erase` undoes a
    write exactly, as long as the memory has not forgotten since.

    .. math:: M \leftarrow M + (x - M \varphi)\, g^\top, \qquad \Sigma \leftarrow \Sigma - g\, (\Sigma \varphi)^\top,
        \qquad g = \frac{\Sigma \varphi}{\sigma^2 + \varphi^\top \Sigma \varphi}, \qquad \varphi = f(a)

    >>> patterns = jax.random.bernoulli(jax.random.key(0), 0.5, (8, 64)).astype(float)
    >>> memory = BayesianPredictiveCoding.store(patterns, width=64)
    >>> recalled = memory.update(patterns + 0.3 * jax.random.normal(jax.random.key(1), patterns.shape))
    >>> round(float(jnp.mean((recalled - patterns) ** 2)), 2)  # the queries had 0.09
    0.01
    """

    layers: Layers  # each with a first axis of particles
    prior: Layers
    log_weights: Float[Array, " P"]
    noise: Scalar
    scale: Scalar
    forgetting: Scalar = 0.0
    written: Written | None = None
    steps: int = field(default=100, metadata={"static": True})

    card = Card(
        "bayesian_predictive_coding",
        REAL,
        "-log sum_p w_p exp(-min_a E_p(x, a))",
        "prediction of the layers under the most probable activities",
        "any number of patterns, with an error that grows with it; with forgetting the last ones",
        "Yoo and Wood (2022), arXiv:2205.09930",
        "bayesian_predictive_coding",
    )
    separable = True
    settles = False
    falls = False  # activities are found by descent, to a minimum that may be another one after an update

    @property
    def shape(self) -> tuple[int, ...]:
        """Coordinates of a state."""
        return jnp.shape(self.layers[0].mean)[1:2]

    def energy(self, states: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch"]:
        """Negative log of the particles' mixture, at the most probable activities of each, in nats."""
        rows = self._units(states)
        energies, _, _ = read_all(self.layers, rows.reshape(-1, rows.shape[-1]), self.noise, self.steps)
        return -logsumexp(self.log_weights - energies, axis=-1).reshape(rows.shape[:-1])

    def update(self, states: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch D"]:
        """Mean of the particles' predictions, by their shares and precisions."""
        rows = self._units(states)
        energies, means, variances = read_all(self.layers, rows.reshape(-1, rows.shape[-1]), self.noise, self.steps)
        shares = jax.nn.softmax(self.log_weights - energies - jnp.log(variances), axis=-1)
        return jnp.asarray(self.scale) * jnp.sum(shares[..., None] * means, axis=1).reshape(rows.shape)

    def write(self, patterns: Float[ArrayLike, "B D"]) -> "BayesianPredictiveCoding":
        """The memory after these patterns, one after the other; before each it forgets, at its rate."""
        rows = self._units(checked_patterns(patterns, REAL))
        made = write_all(self.layers, self.prior, rows, self.noise, self.forgetting, self.steps)
        layers, log_density, activities = made
        faded = (1 - jnp.asarray(self.forgetting)) ** len(rows) * self.log_weights
        after = replace(self, layers=layers, log_weights=jax.nn.log_softmax(faded + log_density))
        if self.written is None:
            return after
        joined = jax.tree.map(lambda old, new: jnp.concatenate([old, new], axis=1), self.written.activities, activities)
        return replace(after, written=Written(jnp.concatenate([self.written.patterns, rows]), joined))

    def erase(self, patterns: Float[ArrayLike, "B D"]) -> "BayesianPredictiveCoding":
        """The memory without these patterns, as if their activities had never been written.

        Raises:
            InputError: for patterns that are not in the memory, and where it has forgotten.
        """
        if self.written is None:
            raise InputError(
                "erase: a memory that has forgotten cannot undo a write; make it with forgetting=0, and erase before "
                "`forget`"
            )
        layers, log_weights, left = self.layers, self.log_weights, self.written
        for i, row in enumerate(self._units(checked_patterns(patterns, REAL))):
            found = np.flatnonzero(np.all(np.asarray(left.patterns) == np.asarray(row), axis=1))
            if not found.size:
                raise InputError(f"patterns: row {i} was not written, or was erased; erase rows exactly as written")
            layers, log_density = erase_one(layers, row, left.activities_of(int(found[0])), self.noise)
            log_weights, left = log_weights - log_density, left.without(int(found[0]))
        return replace(self, layers=layers, log_weights=jax.nn.log_softmax(log_weights), written=left)

    def forget(self, rate: Scalar) -> "BayesianPredictiveCoding":
        """The memory with its weights moved to their prior: 0 changes nothing, 1 is the memory without patterns."""
        layers = jax.vmap(forgotten, (0, 0, None))(self.layers, self.prior, rate)
        faded = jax.nn.log_softmax((1 - rate) * self.log_weights)
        return replace(self, layers=layers, log_weights=faded, written=None)

    @classmethod
    def store(
        cls,
        patterns: Float[ArrayLike, "K D"],
        *,
        width: int = 128,
        depth: int = 1,
        num_particles: int = 2,
        noise: float = 0.2,
        forgetting: float = 0.0,
        steps: int = 100,
        seed: int = 0,
    ) -> "BayesianPredictiveCoding":
        """A memory after these patterns were written in their order.

        Args:
            patterns: one in each row.
            width: units in each layer above the state.
            depth: number of such layers.
            num_particles: hierarchies with random prior means of their own.
            noise: standard deviation of a unit around its prediction, in units of the patterns' root mean square.
            forgetting: share of the weights that returns to the prior before each write.
            steps: of the descent that finds activities; 20 over the noise is enough.
            seed: of the prior means.
        """
        rows = checked_patterns(patterns, REAL)
        check_counts(width=width, depth=depth, num_particles=num_particles, steps=steps)
        if not 0 <= forgetting <= 1:
            raise InputError(f"forgetting: expected a number from 0 to 1; got {forgetting}")
        positive("noise", noise, rows.dtype)
        sizes = (rows.shape[1], *[width] * depth)
        keys = jax.random.split(random_key(seed), num_particles)
        prior = jax.vmap(lambda key: drawn(key, sizes, rows.dtype))(keys)
        scale = jnp.sqrt(jnp.mean(rows**2))
        empty = Written(rows[:0], tuple(jnp.zeros((num_particles, 0, width), rows.dtype) for _ in range(depth)))
        weights = jnp.full(num_particles, -np.log(num_particles), rows.dtype)
        unit = jnp.where(scale > 0, scale, 1)
        started = cls(prior, prior, weights, noise, unit, forgetting, None if forgetting else empty, steps)
        return started.write(rows)

    def _units(self, states: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch D"]:
        return jnp.asarray(states) / jnp.asarray(self.scale)
