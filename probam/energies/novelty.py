r"""What is new to a memory of slots: a similarity threshold, or the predictive probabilities of a Pitman-Yor process.

A rule is a small object that is called with a key, shape (D,), and the slots' keys (M, D) and counts (M,), 0 for an
empty one. It returns the slot that the key would join, and whether the key is new. :mod:`probam.energies.consolidated`
writes by it.
"""

from dataclasses import dataclass

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from probam.energies.arguments import Scalar
from probam.energies.wells import dot
from probam.pytrees import pytree

__all__ = ["Novelty", "PitmanYor", "Similarity"]


@pytree
@dataclass(frozen=True)
class Similarity:
    """New is a key whose cosine with the most similar slot is not above the threshold R."""

    threshold: Scalar

    def __call__(
        self, key: Float[Array, " D"], keys: Float[ArrayLike, "M D"], counts: Float[ArrayLike, " M"]
    ) -> tuple[Int[Array, ""], Bool[Array, ""]]:
        """The most similar slot, and whether the key is new."""
        keys, used = jnp.asarray(keys), jnp.asarray(counts) > 0
        size = jnp.linalg.norm(keys, axis=1) * jnp.linalg.norm(key)
        cosine = jnp.where(used, dot(key, keys.T) / jnp.where(size > 0, size, 1), -jnp.inf)
        nearest = jnp.argmax(cosine)
        return nearest, cosine[nearest] <= self.threshold


@pytree
@dataclass(frozen=True)
class PitmanYor:
    r"""New is a key that is most probably that of a new memory.

    .. math:: \log(n_m - d) - \beta |k - k_m|^2 \le \log(\alpha + d M) + \tfrac D2 \log \tfrac{\rho}{\beta + \rho}
        - \tfrac{\beta \rho}{\beta + \rho} |k|^2

    for every slot m, with M the slots in use.
    """

    beta: Scalar
    rho: Scalar
    alpha: Scalar
    discount: Scalar = 0.0

    def __call__(
        self, key: Float[Array, " D"], keys: Float[ArrayLike, "M D"], counts: Float[ArrayLike, " M"]
    ) -> tuple[Int[Array, ""], Bool[Array, ""]]:
        """The most probable slot, and whether a new memory is more probable."""
        counts = jnp.asarray(counts)
        used = counts > 0
        seats = jnp.log(jnp.where(used, counts - self.discount, 1))
        logits = seats - self.beta * jnp.sum((jnp.asarray(keys) - key) ** 2, axis=1)
        logits = jnp.where(used, logits, -jnp.inf)
        share = self.rho / (self.beta + self.rho)
        new = jnp.log(self.alpha + self.discount * jnp.sum(used)) + 0.5 * key.size * jnp.log(share)
        nearest = jnp.argmax(logits)
        return nearest, logits[nearest] <= new - self.beta * share * jnp.sum(key**2)


Novelty = Similarity | PitmanYor
"""What decides whether a key is new."""
