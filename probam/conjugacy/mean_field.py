r"""Factors of a mean field: what coordinate-ascent variational inference asks of memories and of weights.

The mean field is :math:`q(z) \, q(\theta) \, q(w) \, q(h)`: labels, parameters of the memories, weights, and the
hyper-parameters of the weights. Given q(z) the memories see the data only through counts :math:`n_k = \sum_n r_{nk}`
and sums :math:`S_k = \sum_n r_{nk} T(x_n)`; given the factors of the rest, q(z) needs nothing but
:math:`E \log p(x \mid \theta_k) = T(x) s_k + c_k`. So any family is served by one matrix product each way.

:class:`Integrated` makes a factor of any :class:`~probam.conjugacy.pairs.ConjugatePair`. There the best
:math:`q(\theta_k)` *is* the posterior given counts and sums, and the bound's share of the memory is their log marginal.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln
from jaxtyping import Array, Float
from typing_extensions import override

from probam.conjugacy.pairs import ConjugatePair
from probam.pytrees import pytree

__all__ = ["Counted", "Expected", "Factors", "HyperField", "Integrated", "KnownHyper", "MeanField", "gamma_bound"]


class Factors(NamedTuple):
    """Parameters of the factors q."""

    own: Any  # leaves lead with the K axis
    common: Any = ()  # of parameters that all memories share


class Expected(NamedTuple):
    """Expectations under q, and its share of the evidence bound."""

    slope: Float[Array, "K F"]
    offset: Float[Array, " K"]
    bound: Float[Array, ""]  # E log p(data | memories) - KL(q || prior), nats, less the constant of the data


class MeanField(ABC):
    """Closed-form factors of the parameters of K memories under a prior."""

    @abstractmethod
    def statistics(self, x: Float[Array, "N D"]) -> Float[Array, "N F"]:
        """Additive sufficient statistics."""

    def constant(self, x: Float[Array, "N D"]) -> Float[Array, ""]:
        """Part of the log density of the data that no parameter touches (nats)."""
        return jnp.zeros((), x.dtype)

    @abstractmethod
    def begin(self, counts: Float[Array, " K"], sums: Float[Array, "K F"]) -> Factors:
        """First factors, given a first guess of the labels."""

    @abstractmethod
    def update(self, factors: Factors, counts: Float[Array, " K"], sums: Float[Array, "K F"]) -> Factors:
        """Each factor in turn at its best given the others: the bound cannot fall."""

    @abstractmethod
    def expect(self, factors: Factors, counts: Float[Array, " K"], sums: Float[Array, "K F"]) -> Expected:
        """Expectations, and the bound of data with these counts and sums."""

    @abstractmethod
    def draw(self, key: jax.Array, factors: Factors) -> dict[str, jax.Array]:
        """Parameters of all memories drawn from q."""


@pytree
@dataclass(frozen=True)
class Integrated(MeanField):
    """The joint factor of all parameters of a conjugate pair: the posterior itself."""

    pair: ConjugatePair

    def statistics(self, x: jax.Array) -> jax.Array:
        """Those of the pair."""
        return self.pair.statistics(x)

    def constant(self, x: jax.Array) -> jax.Array:
        """The pair's base measure."""
        return jnp.sum(self.pair.log_base(x))

    def begin(self, counts: jax.Array, sums: jax.Array) -> Factors:
        """Counts and sums are sufficient."""
        return Factors((counts, sums))

    @override
    def update(self, factors: Factors, counts: jax.Array, sums: jax.Array) -> Factors:
        """The posterior of these data."""
        return Factors((counts, sums))

    @override
    def expect(self, factors: Factors, counts: jax.Array, sums: jax.Array) -> Expected:
        """The bound is the log marginal likelihood of what each memory holds."""
        log_marginal, slope, offset = self.pair.expectations(*factors.own)
        return Expected(slope, offset, jnp.sum(log_marginal))

    def draw(self, key: jax.Array, factors: Factors) -> dict[str, jax.Array]:
        """From the posterior of each memory."""
        return self.pair.draw(key, *factors.own)


@pytree
@dataclass(frozen=True)
class Counted(Integrated):
    r"""Rows of counts whose total is Poisson, with the same expected total for all memories, Gamma(shape, rate).

    A row's total says nothing of its memory, so the factor of the expected total is its exact posterior.
    """

    shape: Float[Array, ""]
    rate: Float[Array, ""]

    def constant(self, x: jax.Array) -> jax.Array:
        """The factorials."""
        return -jnp.sum(gammaln(1 + x))

    def _total(self, counts: jax.Array, sums: jax.Array) -> tuple[jax.Array, jax.Array]:
        return self.shape + jnp.sum(sums), self.rate + jnp.sum(counts)

    def expect(self, factors: Factors, counts: jax.Array, sums: jax.Array) -> Expected:
        """That of the shares, and the log evidence of the totals."""
        shares = super().expect(factors, counts, sums)
        shape, rate = self._total(*factors.own)
        totals = gammaln(shape) - gammaln(self.shape) + self.shape * jnp.log(self.rate) - shape * jnp.log(rate)
        return shares._replace(bound=shares.bound + totals)

    def draw(self, key: jax.Array, factors: Factors) -> dict[str, jax.Array]:
        """The shares, and ``total``."""
        key_shares, key_total = jax.random.split(key)
        shape, rate = self._total(*factors.own)
        return super().draw(key_shares, factors) | {
            "total": jax.random.gamma(key_total, shape, dtype=shape.dtype) / rate
        }


class HyperField(ABC):
    r"""Factor of the hyper-parameters h of the weights.

    Given counts and means :math:`\bar h` the factor of the weights is their conjugate posterior under
    :math:`\bar h`, and the weights' share of the bound is the log marginal of the counts under :math:`\bar h` plus
    what :meth:`average` returns.
    """

    @abstractmethod
    def begin(self) -> dict[str, jax.Array]:
        """First means."""

    @abstractmethod
    def average(
        self, counts: Float[Array, " K"], means: dict[str, jax.Array]
    ) -> tuple[dict[str, jax.Array], Float[Array, ""]]:
        """Means of the best q(h) given the factor of the weights, and what q(h) adds to the log marginal (nats)."""

    @abstractmethod
    def draw(self, key: jax.Array, counts: Float[Array, " K"], means: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """Hyper-parameters drawn from q(h)."""


@pytree
@dataclass(frozen=True)
class KnownHyper(HyperField):
    """No hyper-parameters."""

    def begin(self) -> dict[str, jax.Array]:
        """No site."""
        return {}

    @override
    def average(self, counts: jax.Array, means: dict[str, jax.Array]) -> tuple[dict[str, jax.Array], jax.Array]:
        """Nothing."""
        return {}, jnp.zeros((), counts.dtype)

    @override
    def draw(self, key: jax.Array, counts: jax.Array, means: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """No site."""
        return {}


def gamma_bound(
    shape: jax.Array, rate: jax.Array, prior_shape: jax.Array, prior_rate: jax.Array, mean_log: jax.Array
) -> jax.Array:
    r"""Minus the divergence of Gamma(shape, rate) from Gamma(prior_shape, prior_rate), given E log under the former."""
    same = gammaln(shape) - gammaln(prior_shape) + prior_shape * jnp.log(prior_rate) - shape * jnp.log(rate)
    return same + (prior_shape - shape) * mean_log - (prior_rate - rate) * shape / rate
