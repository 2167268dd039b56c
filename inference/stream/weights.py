"""Laws of the next label in a stream: how likely each memory, and a new one, is before the datum is seen."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from typing_extensions import override

from probam.errors import InputError
from probam.pytrees import pytree

__all__ = ["PitmanYor", "WeightLaw", "check_pitman_yor"]


@runtime_checkable
class WeightLaw(Protocol):
    """A sequential law of labels. An implementation is a pytree: its numbers are leaves."""

    def log_weights(
        self, counts: Float[Array, " K"], ages: Int[Array, " K"], live: Bool[Array, " K"], fresh: Bool[Array, " K"]
    ) -> Float[Array, " K"]:
        """Log probability of each slot for the next datum.

        Args:
            counts: (K,) data of the memory in each slot.
            ages: (K,) data since it was last used.
            live: (K,) which slots hold a memory.
            fresh: (K,) marks the empty slot that a new memory would take.

        The entries of other slots are ignored, but must not be NaN.
        """


@pytree
@dataclass(frozen=True)
class PitmanYor(WeightLaw):
    r"""Two-parameter Chinese restaurant process (Schaeffer et al. 2023, Eq. 11); the DP at discount 0.

    .. math:: p(k) = \frac{n_k - d}{n + \alpha}, \qquad p({\rm new}) = \frac{\alpha + d K}{n + \alpha}

    The first datum makes a memory with probability one (which matters where alpha <= 0).
    """

    alpha: jax.Array
    discount: jax.Array

    @override
    def log_weights(
        self, counts: Float[Array, " K"], ages: Int[Array, " K"], live: Bool[Array, " K"], fresh: Bool[Array, " K"]
    ) -> Float[Array, " K"]:
        """Normalised log probabilities."""
        num_live = jnp.sum(live)
        total = self.alpha + jnp.sum(counts)
        new = jnp.where(num_live == 0, 1.0, self.alpha + self.discount * num_live).astype(counts.dtype)
        weight = jnp.where(live, counts - self.discount, jnp.where(fresh, new, 1))
        return jnp.log(weight) - jnp.log(jnp.where(num_live == 0, 1.0, total)).astype(counts.dtype)

    def log_join(self, first: jax.Array, second: jax.Array, num_live: jax.Array) -> jax.Array:
        """Log ratio of the probabilities of a partition with two blocks joined and with them apart (A19's EPPF)."""
        lgamma = jax.scipy.special.gammaln
        joined = lgamma(first + second - self.discount) - lgamma(first - self.discount) - lgamma(second - self.discount)
        return joined + lgamma(1 - self.discount) - jnp.log(self.alpha + self.discount * (num_live - 1))


def check_pitman_yor(alpha: float, discount: float) -> None:
    """Raise :class:`probam.errors.InputError` outside 0 <= discount < 1, -discount < alpha < infinity."""
    if not 0 <= discount < 1:
        raise InputError(f"discount: expected a number in [0, 1), 0 for the Dirichlet process; got {discount}")
    if not -discount < alpha < np.inf:
        raise InputError(f"alpha: expected a finite strength above -discount = {-discount:g}; got {alpha}")
