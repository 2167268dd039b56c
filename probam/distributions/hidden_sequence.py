r"""Hidden Markov models over a bank of memories, with the exact filter.

.. math:: p(x_{1:T}) = \sum_{z_{1:T}} \pi_{z_1} \prod_{t > 1} A_{z_{t-1} z_t} \prod_t p(x_t \mid z_t)

The hidden state z moves from memory to memory, and each step shows a noisy copy of the memory. With the transition
z -> z + 1 it is the statistical side of a sequence memory.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float
from numpyro.distributions import Categorical, Distribution, constraints
from numpyro.distributions.util import validate_sample

from probam.errors import InputError

__all__ = ["HiddenSequence", "onward"]


def onward(num_memories: int, *, stay: float = 0.0, cyclic: bool = True) -> Float[Array, "K K"]:
    """Transition matrix of a sequence: on to the next memory, or stay with the probability ``stay``.

    The last memory of an open sequence is kept for ever.

    >>> onward(3, stay=0.25, cyclic=False).tolist()
    [[0.25, 0.75, 0.0], [0.0, 0.25, 0.75], [0.0, 0.0, 1.0]]
    """
    if not 0 <= stay < 1:
        raise InputError(f"stay: expected a probability of at least 0 and below 1; got {stay}")
    moved = jnp.roll(jnp.eye(num_memories), 1, axis=1)
    matrix = stay * jnp.eye(num_memories) + (1 - stay) * moved
    return matrix if cyclic else matrix.at[-1].set(jnp.eye(num_memories)[-1])


class HiddenSequence(Distribution):
    """Sequences of T observations of memories that follow each other; event shape (T, D).

    Args:
        bank: law of an observation for each memory, batch shape (K,).
        initial: probability of each memory at the first step.
        transition: row z has the probabilities of the memory after z.
        length: T, observations in a sequence.
    """

    arg_constraints = {"initial": constraints.simplex, "transition": constraints.simplex}  # noqa: RUF012
    pytree_data_fields = ("bank", "initial", "transition")
    pytree_aux_fields = ("length",)

    def __init__(
        self,
        bank: Distribution,
        initial: Float[Array | np.ndarray, " K"],
        transition: Float[Array | np.ndarray, "K K"],
        length: int,
        *,
        validate_args: bool | None = None,
    ) -> None:
        self.bank, self.length = bank, length
        self.initial, self.transition = jnp.asarray(initial), jnp.asarray(transition)
        super().__init__((), (length, *bank.event_shape), validate_args=validate_args)

    @property
    def support(self) -> Any:
        """Sequences of what the bank supports."""
        assert self.bank.support is not None, "a bank has a support"
        return constraints.independent(self.bank.support, 1)

    def filtered(self, value: Float[Array | np.ndarray, "*batch T D"]) -> tuple[Array, Array]:
        """Log probability of each memory at each step given the observations so far, and of each observation.

        Returns:
            log p(z_t | x_1, ..., x_t), shape (..., T, K), and log p(x_t | x_1, ..., x_(t-1)), shape (..., T).
        """
        emission = jnp.asarray(self.bank.log_prob(jnp.asarray(value)[..., None, :]))  # (..., T, K)
        log_initial, log_transition = jnp.log(self.initial), jnp.log(self.transition)
        dtype = jnp.result_type(emission, log_initial, log_transition)

        def step(log_prior: Array, log_lik: Array) -> tuple[Array, tuple[Array, Array]]:
            joint = log_prior + log_lik
            evidence = logsumexp(joint, axis=-1)
            posterior = joint - evidence[..., None]
            return logsumexp(posterior[..., :, None] + log_transition, axis=-2), (posterior, evidence)

        first = jnp.broadcast_to(log_initial.astype(dtype), (*emission.shape[:-2], emission.shape[-1]))
        _, (posterior, evidence) = jax.lax.scan(step, first, jnp.moveaxis(emission, -2, 0))
        return jnp.moveaxis(posterior, 0, -2), jnp.moveaxis(evidence, 0, -1)

    def next_memory(self, value: Float[Array | np.ndarray, "*batch T D"]) -> Float[Array, "*batch K"]:
        """Probability of each memory at the step after the last observation."""
        return jnp.exp(self.filtered(value)[0][..., -1, :]) @ self.transition

    @validate_sample  # type: ignore[untyped-decorator]
    def log_prob(self, value: Float[Array | np.ndarray, "*batch T D"]) -> Float[Array, "*batch"]:
        """Log density of the whole sequence in nats."""
        return jnp.sum(self.filtered(value)[1], axis=-1)

    def sample_with_memories(self, key: jax.Array, sample_shape: tuple[int, ...] = ()) -> tuple[Array, Array]:
        """Sequences, shape (*sample_shape, T, D), and the memory of each step, shape (*sample_shape, T)."""
        key_first, key_moves, key_seen = jax.random.split(key, 3)
        first = jnp.asarray(Categorical(probs=self.initial).sample(key_first, sample_shape))

        def move(z: Array, key: jax.Array) -> tuple[Array, Array]:
            return jnp.asarray(Categorical(probs=self.transition[z]).sample(key)), z

        _, path = jax.lax.scan(move, first, jax.random.split(key_moves, self.length))
        memories = jnp.moveaxis(path, 0, -1)
        keys = jax.random.split(key_seen, memories.size)
        drawn = jax.vmap(lambda key, z: jnp.asarray(self.bank.sample(key))[z])(keys, memories.reshape(-1))
        return drawn.reshape(*memories.shape, *self.bank.event_shape), memories

    def sample(self, key: jax.Array | None, sample_shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Independent sequences."""
        assert key is not None, "numpyro passes a key wherever it samples"
        return self.sample_with_memories(key, sample_shape)[0]
