r"""A mixture whose components are stored memories.

.. math:: \log p(x) = \log \sum_k w_k \, p(x \mid \theta_k)

``MemoryMixture`` has the same distribution as NumPyro's ``MixtureSameFamily`` and costs less: it computes the (N, K)
log densities by :func:`probam.distributions.pairwise.pairwise_log_prob`, as matrix products where the family has them.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.scipy.special import logsumexp
from jaxtyping import Array, Bool, Float, Int, Num
from numpyro.distributions import Distribution, constraints
from numpyro.distributions.util import validate_sample

from probam.distributions.observed import observed_densities, observed_log_prob, pattern_log_prob
from probam.distributions.pairwise import Densities, linear_form, moved_in, pairwise_densities, pairwise_log_prob

__all__ = ["MemoryMixture"]

_AT_ONCE = 2**22
"""Largest number of entries in a block of draws (draws x K x D), or of memories that are drawn (draws x K)."""


class MemoryMixture(Distribution):
    """Mixture of the K memories of a bank.

    >>> bank = dist.Normal(jnp.array([[0.0], [4.0]]), 1.0).to_event(1)
    >>> mixture = MemoryMixture(jnp.log(jnp.array([0.25, 0.75])), bank)
    >>> float(mixture.mean[0])
    3.0
    >>> [round(r, 3) for r in mixture.responsibilities(jnp.array([2.0])).tolist()]  # half-way: the weights
    [0.25, 0.75]

    Args:
        log_weights: (K,) log mixing weights; their exponentials sum to one (-inf switches a memory off).
        bank: any NumPyro distribution with batch shape (K,) and event shape (D,).
        missing: whether entries of the data may be missing (NaN); the density of a row is then that of its observed
            entries (:mod:`probam.distributions.observed`).

    Raises:
        ValueError: when the shapes do not fit.
    """

    arg_constraints = {"log_weights": constraints.independent(constraints.less_than_eq(1e-3), 1)}  # noqa: RUF012
    pytree_data_fields = ("log_weights", "bank")
    pytree_aux_fields = ("missing",)
    reparametrized_params: list[str] = []  # noqa: RUF012

    def __init__(
        self,
        log_weights: Float[Array | np.ndarray, " K"],
        bank: Distribution,
        *,
        missing: bool = False,
        validate_args: bool | None = None,
    ) -> None:
        if len(bank.batch_shape) != 1 or len(bank.event_shape) != 1:
            raise ValueError(
                f"bank: expected batch shape (K,) and event shape (D,); got {bank.batch_shape} and {bank.event_shape}"
            )
        if jnp.shape(log_weights) != bank.batch_shape:
            raise ValueError(
                f"log_weights: expected one for each of the bank's {bank.batch_shape[0]} memories; "
                f"got shape {jnp.shape(log_weights)}"
            )
        self.log_weights = jnp.asarray(log_weights)
        self.bank = bank
        self.missing = missing
        super().__init__(batch_shape=(), event_shape=bank.event_shape, validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint[Any] | None:
        """The support of the memories."""
        return self.bank.support

    @property
    def num_components(self) -> int:
        """K, the number of memories."""
        return int(self.bank.batch_shape[0])

    def log_joint(self, x: Float[Array, "... D"]) -> Float[Array, "... K"]:
        """Log of weight times density for each datum and memory, in nats.

        For data near the memories, as those of a fit are. :meth:`log_prob` and :meth:`log_responsibilities` also take
        rows whose squares overflow.
        """
        rows = jnp.reshape(x, (-1, self.event_shape[0]))
        of_rows = observed_log_prob if self.missing else pairwise_log_prob
        return jnp.reshape(self.log_weights + of_rows(self.bank, rows), (*jnp.shape(x)[:-1], self.num_components))

    def log_joints(self, x: Float[Array, "... D"]) -> Densities:
        """:meth:`log_joint` of rows that may be anywhere, and of the same rows moved in to the largest radius."""
        of_rows = observed_densities if self.missing else pairwise_densities
        shape = (*jnp.shape(x)[:-1], self.num_components)
        densities = of_rows(self.bank, jnp.reshape(x, (-1, self.event_shape[0])))
        return Densities(*(jnp.reshape(self.log_weights + log_density, shape) for log_density in densities))

    def log_joint_by_memory(self, x: Float[Array, "N D"]) -> Float[Array, "K N"]:
        """:meth:`log_joint`, memories first, as one product where the densities are linear in statistics of a row."""
        form = None if self.missing else linear_form(self.bank, x)
        return self.log_joint(x).T if form is None else form.by_memory(self.log_weights)

    def has_far_rows(self, x: Float[Array, "N D"]) -> Bool[Array, ""] | bool:
        """Whether :meth:`log_joints` may differ from :meth:`log_joint`: a row lies beyond the largest radius."""
        if self.missing:
            return True
        moved = moved_in(self.bank, x)
        return moved is not None and jnp.any(moved[0].stretch > 1)

    def log_joint_of_pattern(self, x: Float[Array, "N D"]) -> Float[Array, "N K"]:
        """``log_joint`` of rows that all lack the same features, with one matrix inversion for all rows."""
        return self.log_weights + pattern_log_prob(self.bank, x)

    @validate_sample  # type: ignore[untyped-decorator]
    def log_prob(self, value: Float[Array | np.ndarray, "... D"]) -> Float[Array, "..."]:
        """Log density in nats, with respect to the base measure of the bank."""
        return logsumexp(self.log_joints(jnp.asarray(value)).here, axis=-1)

    def responsibilities(self, x: Float[Array, "... D"]) -> Float[Array, "... K"]:
        """Posterior probability of each memory given the datum; rows sum to one."""
        return jax.nn.softmax(self.log_joints(x).nearby, axis=-1)

    def log_responsibilities(self, x: Float[Array, "... D"]) -> Float[Array, "... K"]:
        """Logs of the responsibilities, finite where these underflow.

        Very far from the memories, where log densities are -inf or agree in all digits, they are those nearer by on the
        same ray (:func:`probam.distributions.pairwise.largest_radius`): there the memory that is nearest in its own
        metric has almost all of the probability. They are NaN outside the support of every memory.
        """
        return self.log_prob_and_responsibilities(x)[1]

    def log_prob_and_responsibilities(
        self, x: Float[Array, "... D"]
    ) -> tuple[Float[Array, "..."], Float[Array, "... K"]]:
        """:meth:`log_prob` and :meth:`log_responsibilities` from one pass over the data."""
        here, nearby = self.log_joints(x)
        return logsumexp(here, axis=-1), nearby - logsumexp(nearby, axis=-1, keepdims=True)

    def sample_with_memory(
        self, key: jax.Array, sample_shape: tuple[int, ...] = ()
    ) -> tuple[Num[Array, "... D"], Int[Array, "..."]]:
        """Draws, and the index of the memory that each was drawn from.

        The bank is asked for draws of all memories at once, as often as the memory with most rows needs them: about
        N K times the largest weight in all, where a draw of every memory for each row would be N K.
        """
        key_memory, key_data = jax.random.split(key)
        memory = self._memories(key_memory, sample_shape)
        owner, kind = memory.reshape(-1), jax.eval_shape(self.bank.sample, key_data)
        nothing = jnp.zeros((owner.size, *self.event_shape), kind.dtype)
        if not owner.size:
            return nothing.reshape(*sample_shape, *self.event_shape), memory
        order, sizes = jnp.argsort(owner, stable=True), jnp.bincount(owner, length=self.num_components)
        begins = jnp.cumsum(sizes) - sizes
        fair_share = -(-owner.size // self.num_components)
        at_once = max(1, min(fair_share, _AT_ONCE // (self.num_components * self.event_shape[0])))

        def add(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            first, rows = state
            drawn = jnp.asarray(self.bank.sample(jax.random.fold_in(key_data, first), (at_once,)))
            turn = first + jnp.arange(at_once)[:, None]
            row = jnp.where(turn < sizes, order[jnp.minimum(begins + turn, owner.size - 1)], owner.size)
            return first + at_once, rows.at[row].set(drawn, mode="drop")

        most = jnp.max(sizes)
        rows = jax.lax.while_loop(lambda state: state[0] < most, add, (jnp.zeros((), order.dtype), nothing))[1]
        return rows.reshape(*sample_shape, *self.event_shape), memory

    def _memories(self, key: jax.Array, sample_shape: tuple[int, ...]) -> Int[Array, "..."]:
        """Memories drawn by their weights; a block with a key of its own at a time, where they are many."""
        law, number = dist.Categorical(logits=self.log_weights), math.prod(sample_shape)
        block = max(1, _AT_ONCE // self.num_components)
        if number <= block:
            return jnp.asarray(law.sample(key, sample_shape))
        keys = jax.random.split(key, -(-number // block))
        blocks: jax.Array = jax.lax.map(lambda its_key: law.sample(its_key, (block,)), keys)
        return blocks.ravel()[:number].reshape(sample_shape)

    def sample(self, key: jax.Array | None, sample_shape: tuple[int, ...] = ()) -> Num[Array, "... D"]:
        """Independent draws from the mixture."""
        assert key is not None, "numpyro passes a key wherever it samples"
        return self.sample_with_memory(key, sample_shape)[0]

    @property
    def mean(self) -> Float[Array, " D"]:
        """Weighted mean of the memories' means."""
        return jnp.exp(self.log_weights) @ self.bank.mean

    @property
    def variance(self) -> Float[Array, " D"]:
        """Variance of each feature (law of total variance)."""
        weights = jnp.exp(self.log_weights)
        return weights @ (self.bank.variance + (self.bank.mean - self.mean) ** 2)
