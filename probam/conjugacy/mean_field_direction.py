r"""Directions of unknown concentration: the exact posterior of mean direction and concentration together.

Given n data of resultant S, a uniform prior on the direction m and any density of :math:`u = \log\kappa`,

.. math::
    q(u) \propto p(u) \, \frac{C(\kappa)^n \, C(0)}{C(\kappa |S|)}, \qquad
    q(m \mid \kappa) = \mathrm{vMF}(S / |S|, \kappa |S|):

the concentration is left with one dimension, which is summed by the trapezoidal rule around its mode, where it is
exact to many digits. So kappa is neither a point estimate nor a factor of its own.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float

from probam.conjugacy.pairs import ConjugatePair, DirectionOfVonMisesFisher
from probam.distributions.direction import FreeDirection
from probam.numerics.bessel import log_normalizer, log_normalizer_scaled, mean_resultant_length
from probam.numerics.bisection import turning_point
from probam.pytrees import pytree

__all__ = ["DirectionAndConcentration"]

_NODES = np.linspace(-3.6, 3.6, 73)
"""Nodes t: q(log kappa) is evaluated at mode + width sinh(t), close by near the mode, up to 18 widths away."""

_STEP = float(_NODES[1] - _NODES[0])

_FEW_NODES = np.linspace(-3.0, 3.0, 25)
"""For predictive densities, which are asked for at every datum: up to 10 widths from the mode."""

_REACH = 12.0
"""The mode is looked for within so many prior standard deviations of the prior's centre."""


@pytree
@dataclass(frozen=True)
class DirectionAndConcentration(ConjugatePair):
    """Directions, a uniform prior on their mean and a log-normal one on their concentration."""

    loc: Float[Array, ""]  # of log kappa
    scale: Float[Array, ""]

    def statistics(self, x: jax.Array) -> jax.Array:
        """The direction itself."""
        return x

    def _log_density(self, u: jax.Array, counts: jax.Array, length: jax.Array, dim: int) -> jax.Array:
        """Log of p(u) times the marginal likelihood of the data given kappa, all sites (K, ...) alike."""
        kappa = jnp.exp(u)
        normalizers = counts * log_normalizer_scaled(dim, kappa) - log_normalizer_scaled(dim, kappa * length)
        likelihood = normalizers - kappa * (counts - length) + log_normalizer(dim, jnp.zeros((), u.dtype))
        z = (u - self.loc) / self.scale
        return likelihood - 0.5 * z**2 - jnp.log(self.scale) - 0.5 * jnp.log(2 * jnp.pi)

    def _mode(self, counts: jax.Array, length: jax.Array, dim: int) -> tuple[jax.Array, jax.Array]:
        """Mode and width (K,) of each memory's q."""

        def slope(u: jax.Array) -> jax.Array:
            kappa = jnp.exp(u)
            pull = length * mean_resultant_length(dim, kappa * length) - counts * mean_resultant_length(dim, kappa)
            return kappa * pull - (u - self.loc) / self.scale**2

        centre = jnp.broadcast_to(self.loc, counts.shape).astype(counts.dtype)
        reach = _REACH * self.scale
        mode = turning_point(lambda u: slope(u) > 0, centre - reach, centre + reach)
        _, curvature = jax.jvp(slope, (mode,), (jnp.ones_like(mode),))
        width = 1 / jnp.sqrt(jnp.maximum(-curvature, self.scale**-2))
        return mode, width

    def _masses(
        self, counts: jax.Array, sums: jax.Array, nodes: np.ndarray = _NODES
    ) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        """Mode, width, resultant length, and the log masses (K, J) of the cells around the nodes."""
        dim = sums.shape[-1]
        square = jnp.sum(sums**2, axis=-1)
        length = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)
        length = jnp.minimum(length, counts)  # rounding
        mode, width = jax.lax.stop_gradient(self._mode(counts, length, dim))
        t = jnp.asarray(nodes, sums.dtype)
        u = mode[:, None] + width[:, None] * jnp.sinh(t)
        cells = jnp.log(width[:, None] * jnp.cosh(t) * float(nodes[1] - nodes[0]))
        return mode, width, length, self._log_density(u, counts[:, None], length[:, None], dim) + cells

    def concentrations(
        self, counts: Float[Array, " K"], sums: Float[Array, "K D"]
    ) -> tuple[Float[Array, "K J"], Float[Array, "K J"], Float[Array, " K"]]:
        """Concentrations that stand for the posterior of each memory, their log masses, and the resultant lengths."""
        mode, width, length, logs = self._masses(counts, sums, _FEW_NODES)
        kappa = jnp.exp(mode[:, None] + width[:, None] * jnp.sinh(jnp.asarray(_FEW_NODES, sums.dtype)))
        return kappa, jax.nn.log_softmax(logs, axis=-1), length

    def log_marginal(self, counts: jax.Array, sums: jax.Array) -> jax.Array:
        """The sum of the masses."""
        return logsumexp(self._masses(counts, sums)[3], axis=-1)

    def draw(self, key: jax.Array, counts: jax.Array, sums: jax.Array) -> dict[str, jax.Array]:
        """``concentration`` (K,), and ``direction`` (K, D) with a length from the prior of :class:`FreeDirection`."""
        key_cell, key_point, key_direction, key_length = jax.random.split(key, 4)
        mode, width, _, logs = self._masses(counts, sums)
        cell = jax.random.categorical(key_cell, logs, axis=-1)
        t = jnp.asarray(_NODES, sums.dtype)[cell]
        t = t + _STEP * jax.random.uniform(key_point, cell.shape, sums.dtype, -0.5, 0.5)
        kappa = jnp.exp(mode + width * jnp.sinh(t))
        pair = DirectionOfVonMisesFisher(jnp.zeros(sums.shape[-1], sums.dtype), kappa)
        direction = pair.draw(key_direction, counts, sums)["direction"]
        length = jnp.linalg.norm(FreeDirection(sums.shape[-1]).sample(key_length, counts.shape), axis=-1)
        return {"direction": direction * length[:, None].astype(sums.dtype), "concentration": kappa}
