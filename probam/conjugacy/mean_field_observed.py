r"""Factors of a mean field where entries of the data are missing, for memories whose features are independent.

The density of what is observed of a row is a product over its observed features, so with the parameters of each feature
in factors of their own

.. math:: E \log p(x_{n, \text{observed}} \mid \theta_k)
    = \sum_{d \text{ observed}} \left( T_d(x_{nd}) \, s_{kd} + c_{kd} \right)

exactly: every feature has a mean field of one feature, and sees the data that have it, with counts of its own. Whether
an entry is observed joins the statistics, so that whatever else walks over the data need not know.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from typing_extensions import override

from probam.conjugacy.mean_field import Expected, Factors, Integrated, MeanField
from probam.conjugacy.mean_field_normal import NormalAndGamma
from probam.conjugacy.normal import NormalGamma, NormalKnownVariance
from probam.conjugacy.pairs import BetaBernoulli
from probam.pytrees import pytree

__all__ = ["FeatureWise", "by_feature"]


@pytree
@dataclass(frozen=True)
class FeatureWise(MeanField):
    """D mean fields of one feature each: the leaves of ``inner`` lead with the feature axis."""

    inner: MeanField

    def statistics(self, x: Float[Array, "N D"]) -> Float[Array, "N F"]:
        """Which entries are observed (one or zero), then the statistics of each feature, zero where it is missing."""
        known = ~jnp.isnan(x)
        filled = jnp.where(known, x, 0)
        each = jax.vmap(lambda inner, column: inner.statistics(column[:, None]))(self.inner, filled.T)  # (D, N, F)
        each = jnp.where(known[..., None], jnp.moveaxis(each, 0, 1), 0)
        return jnp.concatenate([known.astype(x.dtype), each.reshape(len(x), -1)], axis=-1)

    def constant(self, x: Float[Array, "N D"]) -> Float[Array, ""]:
        """That of the observed entries."""
        known = ~jnp.isnan(x)

        def of(inner: MeanField, column: jax.Array, known: jax.Array) -> jax.Array:
            nothing = inner.constant(jnp.zeros((1, 1), x.dtype))
            return inner.constant(jnp.where(known, column, 0)[:, None]) - jnp.sum(~known) * nothing

        return jnp.sum(jax.vmap(of)(self.inner, x.T, known.T))

    def _by_feature(self, sums: Float[Array, "K F"]) -> tuple[Float[Array, "D K"], Float[Array, "D K G"]]:
        """Counts and sums of each feature."""
        num_features = len(jax.tree.leaves(self.inner)[0])
        each = sums[:, num_features:].reshape(len(sums), num_features, -1)
        return sums[:, :num_features].T, jnp.moveaxis(each, 1, 0)

    @override
    def begin(self, counts: Float[Array, " K"], sums: Float[Array, "K F"]) -> Factors:
        """Those of each feature."""
        return _turned(jax.vmap(lambda inner, n, s: inner.begin(n, s))(self.inner, *self._by_feature(sums)))

    @override
    def update(self, factors: Factors, counts: Float[Array, " K"], sums: Float[Array, "K F"]) -> Factors:
        """Those of each feature."""
        factors_by_feature = jax.vmap(lambda inner, f, n, s: inner.update(f, n, s))(
            self.inner, _turned(factors), *self._by_feature(sums)
        )
        return _turned(factors_by_feature)

    def expect(self, factors: Factors, counts: Float[Array, " K"], sums: Float[Array, "K F"]) -> Expected:
        """The offset of a feature counts where it is observed: it is the slope of that indicator."""
        slope, offset, bound = jax.vmap(lambda inner, f, n, s: inner.expect(f, n, s))(
            self.inner, _turned(factors), *self._by_feature(sums)
        )
        each = jnp.moveaxis(slope, 0, 1).reshape(len(counts), -1)
        return Expected(jnp.concatenate([offset.T, each], axis=-1), jnp.zeros_like(counts), jnp.sum(bound))

    def draw(self, key: jax.Array, factors: Factors) -> dict[str, jax.Array]:
        """Features side by side."""
        turned = _turned(factors)
        keys = jax.random.split(key, len(jax.tree.leaves(turned)[0]))
        drawn = jax.vmap(lambda inner, key, f: inner.draw(key, f))(self.inner, keys, turned)
        return {name: jnp.swapaxes(value[..., 0], 0, 1) for name, value in drawn.items()}


def _turned(factors: Factors) -> Factors:
    """Leaves (D, K, ...) as (K, D, ...), or back."""
    turned: Factors = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), factors)
    return turned


def by_feature(memories: MeanField, num_features: int) -> FeatureWise | None:
    """The mean field with each feature in factors of its own; None where features share parameters."""
    own: Any = memories.pair if isinstance(memories, Integrated) else memories
    if not isinstance(own, BetaBernoulli | NormalGamma | NormalKnownVariance | NormalAndGamma):
        return None
    if isinstance(own, NormalAndGamma) and own.is_shared:
        return None
    leaves = jax.tree.leaves(memories)
    if any(np.shape(leaf) not in ((), (num_features,)) for leaf in leaves):
        return None  # a precision, or a basis, for several features

    def split(leaf: jax.Array) -> jax.Array:
        return jnp.asarray(leaf)[:, None] if jnp.ndim(leaf) else jnp.broadcast_to(leaf, (num_features,))

    return FeatureWise(jax.tree.map(split, memories))
