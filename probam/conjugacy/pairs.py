r"""Conjugate pairs: memories whose parameters can be integrated out.

A pair is a likelihood :math:`p(x \mid \theta)` with additive statistics T(x) and a prior on theta under which the
marginal likelihood of n data depends on n and the sum of T alone, in closed form:

================================ ======================================= =====================================
pair                             likelihood                              prior
================================ ======================================= =====================================
:class:`NormalKnownVariance`     N(mu, Sigma), Sigma known               N(m, S0) on mu
:class:`NormalGamma`             N(mu, 1 / tau), one or D precisions     mu given tau normal, Gamma on tau
:class:`NormalWishart`           N(mu, Lambda^{-1})                      mu given Lambda normal, Wishart
:class:`DirectionOfVonMisesFisher` vMF(m, kappa), kappa known            vMF (or uniform) on m
:class:`BetaBernoulli`           independent Bernoulli features          Beta on each probability
:class:`DirichletMultinomial`    multinomial counts                      Dirichlet on the probabilities
================================ ======================================= =====================================

Every method serves K memories at once: ``counts`` is (K,), ``sums`` (K, F). ``log_marginal`` and ``draw`` are what a
partition needs; ``tables``, ``begin``, ``predict`` and ``move`` keep posterior predictive densities up to date while
data come and go one at a time; ``expectations`` is what variational inference needs, where counts are not whole. The
Gaussian pairs live in :mod:`probam.conjugacy.normal`; the formula of the direction is that of
Nunez-Antonio and Gutierrez-Pena (2005).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln, xlogy
from jaxtyping import Array, Float
from typing_extensions import override

from probam.distributions.von_mises_fisher import VonMisesFisher
from probam.numerics.bessel import log_normalizer
from probam.numerics.log_gamma import log_beta, log_gamma_ratio
from probam.pytrees import pytree

__all__ = [
    "BetaBernoulli",
    "ConjugatePair",
    "DirectionOfVonMisesFisher",
    "DirichletMultinomial",
    "Expectations",
]


class Expectations(NamedTuple):
    r"""What is expected of a datum under each of K memories: :math:`E \log p(x \mid \theta_k) = T(x) s_k + c_k`.

    That is less the ``log_base`` of the datum.
    """

    log_marginal: Float[Array, " K"]  # of the data so far, nats
    slope: Float[Array, "K F"]
    offset: Float[Array, " K"]


class ConjugatePair(ABC):
    """A likelihood and its conjugate prior, the same for each of K memories unless a field leads with K."""

    @abstractmethod
    def statistics(self, x: Float[Array, "N D"]) -> Float[Array, "N F"]:
        """Additive sufficient statistics."""

    @abstractmethod
    def log_marginal(self, counts: Float[Array, " K"], sums: Float[Array, "K F"]) -> Float[Array, " K"]:
        """Log density (nats) of the data of each memory, its parameters integrated out, less their ``log_base``."""

    @abstractmethod
    def draw(self, key: jax.Array, counts: Float[Array, " K"], sums: Float[Array, "K F"]) -> dict[str, jax.Array]:
        """The integrated parameters of each memory, drawn from their posterior."""

    def expectations(self, counts: Float[Array, " K"], sums: Float[Array, "K F"]) -> Expectations:
        r"""Expected log density of a datum under the posterior of each memory.

        The marginal likelihood of an exponential family is a ratio of normalisers, :math:`Z(n, S) / Z(0, 0)`, whose
        log has the posterior means of the natural parameters as its derivatives by S, and those of the log normaliser
        by n. Counts need not be whole.
        """

        def total(counts: jax.Array, sums: jax.Array) -> tuple[jax.Array, jax.Array]:
            each = self.log_marginal(counts, sums)
            return jnp.sum(each), each

        (_, each), (offset, slope) = jax.value_and_grad(total, argnums=(0, 1), has_aux=True)(counts, sums)
        return Expectations(each, slope, offset)

    def log_base(self, x: Float[Array, "N D"]) -> Float[Array, " N"]:
        """Part of the log density of a datum that no parameter touches."""
        return jnp.zeros(x.shape[:-1], x.dtype)

    def tables(self, num_data: int) -> Any:
        """What predictive densities need of the counts 0, ..., num_data, made once."""
        del num_data
        return ()

    def begin(self, counts: Float[Array, " K"], sums: Float[Array, "K F"]) -> Any:
        """What is known of K memories, in a form that :meth:`move` keeps up to date."""
        return counts, sums, self.log_marginal(counts, sums)

    def predict(
        self, known: Any, tables: Any, x: Float[Array, " D"], statistics: Float[Array, " F"]
    ) -> Float[Array, " K"]:
        """Posterior predictive log density of a datum under each memory, less its ``log_base``."""
        del tables, x
        counts, sums, log_marginal = known
        return jnp.asarray(self.log_marginal(counts + 1, sums + statistics) - log_marginal)

    def alone(self, k: jax.Array, tables: Any) -> tuple["ConjugatePair", Any]:
        """The pair of memory k only, and its tables, for what is known of that one memory."""
        del k
        return self, tables

    def predict_rows(
        self, known: Any, tables: Any, x: Float[Array, "B D"], statistics: Float[Array, "B F"]
    ) -> Float[Array, "B K"]:
        """``predict`` of several data at once."""
        return jax.vmap(lambda x_n, t_n: self.predict(known, tables, x_n, t_n))(x, statistics)

    def move(self, known: Any, k: jax.Array, x: Float[Array, " D"], statistics: Float[Array, " F"], sign: float) -> Any:
        """The same after a datum joined (sign 1) or left (sign -1) memory k."""
        del x
        counts, sums, _ = known
        counts, sums = counts.at[k].add(sign), sums.at[k].add(sign * statistics)
        return counts, sums, self.log_marginal(counts, sums)


@pytree
@dataclass(frozen=True)
class DirectionOfVonMisesFisher(ConjugatePair):
    r"""Directions of known concentration, a vMF prior on their mean direction.

    ``pull`` (D,) is the prior's concentration times its mean direction; zero is the uniform prior. The marginal is
    :math:`C(\kappa)^n \, C(|c|) / C(|\kappa S + c|)` for prior pull c and resultant S.
    """

    pull: Float[Array, " D"]
    concentration: jax.Array  # () or (K,)

    def alone(self, k: jax.Array, tables: Any) -> tuple[ConjugatePair, Any]:
        """With that memory's concentration."""
        concentration = jnp.asarray(self.concentration)
        return (replace(self, concentration=concentration[k][None]) if concentration.ndim else self), tables

    def statistics(self, x: jax.Array) -> jax.Array:
        """The direction itself."""
        return x

    def _resultant(self, sums: jax.Array) -> jax.Array:
        return jnp.broadcast_to(self.concentration, sums.shape[:-1])[..., None] * sums + self.pull

    def log_marginal(self, counts: jax.Array, sums: jax.Array) -> jax.Array:
        """Ratio of normalisers."""
        dim = sums.shape[-1]
        length = jnp.linalg.norm(self._resultant(sums), axis=-1)
        prior = log_normalizer(dim, jnp.linalg.norm(self.pull))
        return counts * log_normalizer(dim, self.concentration) + prior - log_normalizer(dim, length)

    @override
    def draw(self, key: jax.Array, counts: jax.Array, sums: jax.Array) -> dict[str, jax.Array]:
        """``direction`` (K, D), of unit length."""
        resultant = self._resultant(sums)
        length = jnp.linalg.norm(resultant, axis=-1)
        somewhere = jnp.zeros_like(resultant).at[..., 0].set(1)  # where there is no pull at all, any mean will do
        mean = jnp.where(length[..., None] > 0, resultant / jnp.where(length > 0, length, 1)[..., None], somewhere)
        return {"direction": VonMisesFisher(mean, length, validate_args=False).sample(key)}


@pytree
@dataclass(frozen=True)
class BetaBernoulli(ConjugatePair):
    """Independent binary features, a Beta(a, b) prior on the probability of the higher value; a and b are (D,)."""

    successes: Float[Array, " D"]
    failures: Float[Array, " D"]
    values: tuple[float, float] = field(default=(0.0, 1.0), metadata={"static": True})

    def statistics(self, x: jax.Array) -> jax.Array:
        """The features as zeros and ones."""
        low, high = self.values
        return (x - low) / (high - low)

    def log_marginal(self, counts: jax.Array, sums: jax.Array) -> jax.Array:
        """Ratio of Beta functions."""
        after = log_beta(self.successes + sums, self.failures + counts[..., None] - sums)
        return jnp.sum(after - log_beta(self.successes, self.failures), axis=-1)

    def draw(self, key: jax.Array, counts: jax.Array, sums: jax.Array) -> dict[str, jax.Array]:
        """Site ``prob``."""
        return {"prob": jax.random.beta(key, self.successes + sums, self.failures + counts[..., None] - sums)}

    def begin(self, counts: jax.Array, sums: jax.Array) -> Any:
        """Counts and sums."""
        return counts, sums

    @override
    def predict(self, known: Any, tables: Any, x: jax.Array, statistics: jax.Array) -> jax.Array:
        """Bernoulli at the posterior means."""
        counts, sums = known
        a, b = self.successes + sums, self.failures + counts[:, None] - sums
        return jnp.sum(xlogy(statistics, a) + xlogy(1 - statistics, b) - jnp.log(a + b), axis=-1)

    @override
    def move(self, known: Any, k: jax.Array, x: jax.Array, statistics: jax.Array, sign: float) -> Any:
        """One more or one less."""
        counts, sums = known
        return counts.at[k].add(sign), sums.at[k].add(sign * statistics)


@pytree
@dataclass(frozen=True)
class DirichletMultinomial(ConjugatePair):
    """Rows of counts, a Dirichlet prior (D,) on their probabilities."""

    concentration: Float[Array, " D"]

    def statistics(self, x: jax.Array) -> jax.Array:
        """The counts themselves."""
        return x

    def log_base(self, x: jax.Array) -> jax.Array:
        """The multinomial coefficient."""
        return gammaln(1 + jnp.sum(x, axis=-1)) - jnp.sum(gammaln(1 + x), axis=-1)

    @override
    def log_marginal(self, counts: jax.Array, sums: jax.Array) -> jax.Array:
        """Ratio of multivariate Beta functions."""
        total = jnp.sum(self.concentration)
        each = log_gamma_ratio(self.concentration, sums)
        return jnp.sum(each, axis=-1) - log_gamma_ratio(total, jnp.sum(sums, axis=-1))

    @override
    def draw(self, key: jax.Array, counts: jax.Array, sums: jax.Array) -> dict[str, jax.Array]:
        """Site ``prob``."""
        return {"prob": jax.random.dirichlet(key, self.concentration + sums)}
