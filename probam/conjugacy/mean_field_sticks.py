r"""Factors of alpha and of the discount of stick-breaking weights.

With :math:`V_k \sim \mathrm{Beta}(1 - d, \alpha + k d)`, :math:`k = 1, \ldots, T - 1`, and a factor q(V) the best
factor of the hyper-parameters is proportional to prior times :math:`e^{g}`,

.. math::
    g(\alpha, d) = \sum_k \left[ -\log B(1 - d, \alpha + k d) - d \, E \log V_k
        + (\alpha + k d - 1) \, E \log (1 - V_k) \right],

and q(V) in turn depends on it through the means of alpha and d alone. For a Gamma prior on alpha and d = 0 it is a
Gamma law (Blei and Jordan 2006, Section 4); otherwise :class:`Lattice` sums it over a lattice.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import digamma, gammaln, logsumexp
from jaxtyping import Array, Float
from numpyro.distributions import Distribution, biject_to

from probam.conjugacy.mean_field import HyperField
from probam.numerics.log_gamma import log_beta
from probam.pytrees import pytree

__all__ = ["GammaAlpha", "Lattice", "lattice"]

_REACH = {"alpha": 10.0, "discount": 9.0}
"""The lattice covers +- this in log alpha and logit discount."""

_FEWEST = 49


def _stick_logs(
    counts: Float[Array, " T"], alpha: jax.Array, discount: jax.Array
) -> tuple[Float[Array, " R"], Float[Array, " R"]]:
    """E log V_k and E log(1 - V_k) under the posterior of the sticks."""
    behind = jnp.sum(counts) - jnp.cumsum(counts)[:-1]
    first = 1 - discount + counts[:-1]
    second = alpha + discount * jnp.arange(1, len(counts)) + behind
    total = digamma(first + second)
    return digamma(first) - total, digamma(second) - total


@pytree
@dataclass(frozen=True)
class GammaAlpha(HyperField):
    """Alpha ~ Gamma(shape, rate), no discount."""

    shape: Float[Array, ""]
    rate: Float[Array, ""]

    def begin(self) -> dict[str, jax.Array]:
        """The prior mean."""
        return {"alpha": self.shape / self.rate}

    def _factor(self, counts: jax.Array, means: Mapping[str, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        _, left = _stick_logs(counts, means["alpha"], jnp.zeros((), counts.dtype))
        total = jnp.sum(left)
        return self.shape + len(counts) - 1, self.rate - total, total

    def average(self, counts: jax.Array, means: dict[str, jax.Array]) -> tuple[dict[str, jax.Array], jax.Array]:
        """Gamma(a + T - 1, b - sum_k E log(1 - V_k))."""
        shape, rate, total = self._factor(counts, means)
        log_mass = self.shape * jnp.log(self.rate) - gammaln(self.shape) + gammaln(shape) - shape * jnp.log(rate)
        at_means = (len(counts) - 1) * jnp.log(means["alpha"]) + means["alpha"] * total
        return {"alpha": shape / rate}, log_mass - at_means

    def draw(self, key: jax.Array, counts: jax.Array, means: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """Site ``alpha``."""
        shape, rate, _ = self._factor(counts, means)
        return {"alpha": jax.random.gamma(key, shape, dtype=rate.dtype) / rate}


@pytree
@dataclass(frozen=True)
class Lattice(HyperField):
    """Alpha and discount on a lattice in log alpha and logit discount; either may be known (one point)."""

    alpha: Float[Array, " A"]
    discount: Float[Array, " B"]
    log_mass: Float[Array, "A B"]  # log prior mass of a cell less the sum of log B(1 - d, alpha + k d)
    steps: Float[Array, "2"]  # of log alpha and logit discount; 0 where known
    sites: tuple[str, ...] = field(metadata={"static": True})

    def begin(self) -> dict[str, jax.Array]:
        """Middles of the lattice: alpha one, discount a half; or what is known."""
        return self._named(self.alpha[len(self.alpha) // 2], self.discount[len(self.discount) // 2])

    def _named(self, alpha: jax.Array, discount: jax.Array) -> dict[str, jax.Array]:
        return {name: value for name, value in (("alpha", alpha), ("discount", discount)) if name in self.sites}

    def _values(self, means: Mapping[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
        return means.get("alpha", self.alpha[0]), means.get("discount", self.discount[0])

    def _factor(self, counts: jax.Array, means: Mapping[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
        """Log mass of every cell under prior times e^g, and g at the means."""
        alpha, discount = self._values(means)
        taken, left = _stick_logs(counts, alpha, discount)
        order = jnp.arange(1, len(counts))
        by_discount = jnp.sum(order * left) - jnp.sum(taken)
        logs = self.log_mass + (self.alpha[:, None] - 1) * jnp.sum(left) + self.discount * by_discount
        at_means = (alpha - 1) * jnp.sum(left) + discount * by_discount
        return logs, at_means - jnp.sum(log_beta(1 - discount, alpha + order * discount))

    def average(self, counts: jax.Array, means: dict[str, jax.Array]) -> tuple[dict[str, jax.Array], jax.Array]:
        """Sums over the lattice."""
        logs, at_means = self._factor(counts, means)
        log_total = logsumexp(logs)
        mass = jnp.exp(logs - log_total)
        fresh = self._named(jnp.sum(mass @ jnp.ones_like(self.discount) * self.alpha), jnp.sum(mass * self.discount))
        return fresh, log_total - at_means

    def draw(self, key: jax.Array, counts: jax.Array, means: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """A cell by its mass, and a point in it."""
        key_cell, key_point = jax.random.split(key)
        logs, _ = self._factor(counts, means)
        row, column = jnp.divmod(jax.random.categorical(key_cell, logs.ravel()), logs.shape[1])
        off = self.steps * jax.random.uniform(key_point, (2,), logs.dtype, -0.5, 0.5)
        odds = self.discount[column] / (1 - self.discount[column]) * jnp.exp(off[1])
        return self._named(self.alpha[row] * jnp.exp(off[0]), odds / (1 + odds))


def lattice(alpha: float | Distribution, discount: float | Distribution, num_components: int) -> Lattice:
    """The lattice for these priors, fine enough for the posterior of ``num_components`` sticks.

    Spacings are at most 2/3 of 1 / sqrt(number of sticks), which is about the narrowest that q can be in these
    coordinates; sums over a lattice then agree with integrals of smooth densities to many digits.
    """
    points: list[jax.Array] = []
    logs: list[jax.Array] = []
    steps: list[float] = []
    for name, law in (("alpha", alpha), ("discount", discount)):
        if not isinstance(law, Distribution):
            points.append(jnp.asarray([1.0 * law]))
            logs.append(jnp.zeros(1))
            steps.append(0.0)
            continue
        number = max(_FEWEST, 2 * int(np.ceil(1.5 * _REACH[name] * np.sqrt(num_components))) + 1)
        free = jnp.linspace(-_REACH[name], _REACH[name], number)
        transform = biject_to(law.support)
        value = transform(free)
        step = float(free[1] - free[0])
        log_prior = jnp.asarray(law.log_prob(value)) + transform.log_abs_det_jacobian(free, value) + np.log(step)
        points.append(value)
        logs.append(log_prior)
        steps.append(step)
    return Lattice(
        points[0],
        points[1],
        _log_mass(*points, *logs, num_components=num_components),
        jnp.asarray(steps),
        tuple(name for name, law in (("alpha", alpha), ("discount", discount)) if isinstance(law, Distribution)),
    )


@partial(jax.jit, static_argnames="num_components")
def _log_mass(
    alpha: jax.Array, discount: jax.Array, log_alpha: jax.Array, log_discount: jax.Array, *, num_components: int
) -> jax.Array:
    """Log prior mass of the cells less the log normalisers of the sticks."""

    def add(k: jax.Array, total: jax.Array) -> jax.Array:
        return total - log_beta(1 - discount, alpha[:, None] + k * discount)

    mass: jax.Array = jax.lax.fori_loop(1, num_components, add, log_alpha[:, None] + log_discount)
    return mass
