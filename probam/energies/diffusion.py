r"""Diffusion with an exactly known score: the noise level sets the inverse temperature of the memories.

Data \(x_\mu\), scaled by a signal a and blurred by noise of standard deviation s, have the density of a clustering
associative memory (:mod:`probam.energies.clam`) with

.. math:: \mu_\mu = a x_\mu, \qquad \beta(s) = \frac{1}{2 s^2}

Song et al. (2021), arXiv:2011.13456, for the processes: variance exploding (a = 1) and variance preserving
(\(a^2 + s^2 = 1\)). The denoiser is a unit step of recall, the probability-flow equation of the exploding process is
recall with an inverse temperature that rises, and a step of its deterministic sampler (Song et al. 2021,
arXiv:2010.02502) is a relaxed step.

Queries have shape (..., D), memories (K, D), s and a no axes. Errors as in :mod:`probam.energies.clam`.
"""

from dataclasses import dataclass

import jax.numpy as jnp
from jax.scipy.special import i0e, i1e
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from probam.energies import clam
from probam.energies.arguments import Scalar, points, positive
from probam.energies.memory import REAL, Card, Memory, checked_patterns, sharpness
from probam.pytrees import pytree

__all__ = ["Diffusion", "denoise", "drift", "inverse_temperature", "ring_energy", "ring_pull", "sampler_step"]


def inverse_temperature(deviation: Scalar) -> Float[Array, ""]:
    r"""Inverse temperature for noise of standard deviation s > 0: \(\beta = 1 / (2 s^2)\)."""
    deviation = positive("deviation", deviation, jnp.result_type(deviation, float))
    return 0.5 / deviation**2


def denoise(
    query: Float[ArrayLike, "*batch D"],
    memories: Float[ArrayLike, "K D"],
    deviation: Scalar,
    signal: Scalar = 1.0,
) -> Float[Array, "*batch D"]:
    r"""Posterior mean of the clean datum given a noisy one: one unit step of recall, divided by the signal.

    .. math:: \hat x_0(y) = \tfrac1a\, m_{\beta(s)}(y), \quad m(y) = \sum_\mu r_\mu(y)\, a x_\mu

    Args:
        query: noisy data y.
        memories: the clean data, one in each row.
        deviation: s, the standard deviation of the noise, above 0.
        signal: a, the factor of the clean data, above 0; 1 for the variance-exploding process.

    Raises:
        InputError: for shapes and values that do not fit.
    """
    query, memories = points(query, memories)
    signal = positive("signal", signal, query.dtype)
    return clam.update(query, signal * memories, inverse_temperature(deviation)) / signal


def drift(
    query: Float[ArrayLike, "*batch D"], memories: Float[ArrayLike, "K D"], log_sharpness: Scalar
) -> Float[Array, "*batch D"]:
    r"""Velocity of the probability flow (a = 1) in the time \(u = -\log s\).

    .. math:: \frac{dy}{du} = m_{\beta(u)}(y) - y, \qquad \beta(u) = \tfrac12 e^{2u}

    This is the flow of :mod:`probam.energies.clam` with tau = 1 and an increasing beta; ``log_sharpness`` is u.
    """
    query, memories = points(query, memories)
    beta = 0.5 * jnp.exp(2 * jnp.asarray(log_sharpness))
    return clam.update(query, memories, beta) - query


def sampler_step(
    query: Float[ArrayLike, "*batch D"],
    memories: Float[ArrayLike, "K D"],
    deviation: Scalar,
    next_deviation: Scalar,
) -> Float[Array, "*batch D"]:
    r"""Step of the deterministic sampler from noise s to noise s' (a = 1): recall relaxed by \(1 - s'/s\).

    .. math:: y' = \hat x_0 + \tfrac{s'}{s} (y - \hat x_0) = y + \bigl(1 - \tfrac{s'}{s}\bigr) (m_{\beta(s)}(y) - y)

    The relaxation lies in (0, 1) while the noise falls, so no step raises the energy at \(\beta(s)\). ``deviation`` is
    s and ``next_deviation`` is s', both above 0.
    """
    query, memories = points(query, memories)
    now, then = (positive("deviation", value, query.dtype) for value in (deviation, next_deviation))
    relaxation = 1 - then / now
    return query + relaxation * (denoise(query, memories, deviation) - query)


def ring_energy(radius: Float[ArrayLike, "*batch"], deviation: Scalar) -> Float[Array, "*batch"]:
    r"""Energy of infinitely many memories spread evenly on the unit circle, at a distance R from its centre.

    .. math:: E(R) = R^2 + 1 - 2 s^2 \log I_0(R / s^2)

    Each memory has the weight 1/N, so that the limit is finite. The energy is computed as
    \((R - 1)^2 - 2 s^2 \log(e^{-R/s^2} I_0)\), which does not overflow.
    """
    radius, square = _ring(radius, deviation)
    return (radius - 1) ** 2 - 2 * square * jnp.log(i0e(radius / square))


def ring_pull(radius: Float[ArrayLike, "*batch"], deviation: Scalar) -> Float[Array, "*batch"]:
    r"""Distance from the centre after a unit step of recall from R: \(I_1(R/s^2) / I_0(R/s^2)\).

    Its fixed point other than 0 is a ring of minima. It exists iff \(s^2 < \tfrac12\).
    """
    radius, square = _ring(radius, deviation)
    return i1e(radius / square) / i0e(radius / square)


def _ring(radius: Float[ArrayLike, "*batch"], deviation: Scalar) -> tuple[Float[Array, "*batch"], Float[Array, ""]]:
    radius = jnp.asarray(radius)
    radius = radius.astype(jnp.result_type(radius, float))
    return radius, positive("deviation", deviation, radius.dtype) ** 2


@pytree
@dataclass(frozen=True, eq=False)
class Diffusion(Memory):
    r"""The data of a diffusion model at one noise level: the denoiser is a step of recall.

    The exact score of a finite training set. With little noise recall ends at a datum (memorised), with more at a mean
    of several (spurious), with much at the mean of all.

    .. math:: E(y) = -2 s^2 \log \sum_\mu e^{-|y - a x_\mu|^2 / (2 s^2)}, \qquad y \leftarrow a\, \hat x_0(y)

    >>> from probam.dynamics.memories import basins
    >>> data = jnp.array([[0.0, 0.0], [1.0, 0.0], [5.0, 0.0]])
    >>> [len(basins(Diffusion(data, deviation), data).attractors) for deviation in (0.3, 0.6, 3.0)]
    [3, 2, 1]
    """

    memories: Float[ArrayLike, "K D"]
    deviation: Scalar
    signal: Scalar = 1.0

    card = Card(
        "diffusion",
        REAL,
        "-2 s^2 log sum_mu exp(-|y - a x_mu|^2 / (2 s^2))",
        "the denoised state: mean of the data under their shares",
        "every datum, as long as the noise is small against the distances",
        "Pham et al. (2025), arXiv:2505.21777; Song et al. (2021), arXiv:2011.13456",
        "diffusion_memory",
    )
    separable = True

    def energy(self, states: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch"]:
        """:func:`probam.energies.clam.energy` at this noise level."""
        states, memories = points(states, self.memories)
        return clam.energy(states, self.signal * memories, inverse_temperature(self.deviation))

    def update(self, states: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch D"]:
        """:func:`denoise`, times the signal."""
        return jnp.asarray(self.signal) * denoise(states, self.memories, self.deviation, self.signal)

    @classmethod
    def store(cls, patterns: Float[ArrayLike, "K D"], *, deviation: float | None = None) -> "Diffusion":
        """These data under noise; None for ``deviation`` tells them apart."""
        patterns = checked_patterns(patterns, REAL)
        return cls(patterns, sharpness(patterns, deviation, "sd"))
