r"""Dense associative memory in random features (DrDAM): any number of memories in a vector of fixed length.

.. math::
    \varphi(x) = \tfrac{1}{\sqrt Y} (\cos \Omega x, \sin \Omega x), \quad \Omega_{yd} \sim N(0, \gamma), \qquad
    T = \sum_\mu w_\mu \varphi(\xi_\mu), \qquad \hat S(x) = \varphi(x) \cdot T

Hoover et al. (2024), arXiv:2410.24153, with the features of Rahimi and Recht (2007). The mean of \(\hat S\) over the
frequencies is the kernel sum \(\sum_\mu w_\mu e^{-\gamma |x - \xi_\mu|^2 / 2}\), so

.. math:: \hat E(x) = -\tfrac{2}{\gamma} \log \hat S(x)

estimates the energy of :mod:`probam.energies.clam` at \(\beta = \gamma / 2\). The estimate of the sum is unbiased; by
Jensen's inequality its log is not. With few features \(\hat S\) can be zero or negative far from all memories: there
the energy is +inf, and :func:`update` does not move the query.

Queries have shape (..., D), frequencies (Y, D), the stored vector (2Y,). A memory is written by adding its features
and erased by subtracting them. Bad shapes and gamma <= 0 raise :class:`probam.errors.InputError`.
"""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from probam.energies.arguments import Scalar, Weights, log_weights, points, positive
from probam.energies.memory import REAL, Card, Memory, checked_patterns, sharpness
from probam.energies.wells import dot
from probam.errors import InputError
from probam.pytrees import pytree

__all__ = ["RandomFeatures", "draw_frequencies", "energy", "features", "kernel_sum", "store", "update"]


def draw_frequencies(key: jax.Array, num_features: int, dim: int, gamma: Scalar) -> Float[Array, "Y D"]:
    r"""Y independent frequencies \(\omega \sim N(0, \gamma I)\).

    Args:
        key: PRNG key.
        num_features: Y; the error of the kernel sum falls as its inverse square root.
        dim: D.
        gamma: above 0, in inverse squared units of the data; larger values make narrower memories.
    """
    if num_features < 1 or dim < 1:
        raise InputError(f"num_features, dim: expected whole numbers of at least 1; got {num_features} and {dim}")
    gamma = positive("gamma", gamma, jnp.result_type(gamma, float))
    return jnp.sqrt(gamma) * jax.random.normal(key, (num_features, dim), gamma.dtype)


def features(frequencies: Float[ArrayLike, "Y D"], x: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch 2*Y"]:
    r"""The map \(\varphi(x) = Y^{-1/2} (\cos\Omega x, \sin\Omega x)\), of length one for every x."""
    x, frequencies = points(x, frequencies, "frequencies")
    return _features(frequencies, x)


def store(
    frequencies: Float[ArrayLike, "Y D"], memories: Float[ArrayLike, "K D"], weights: Weights | None = None
) -> Float[Array, " Z"]:
    r"""All memories in one vector: \(T = \sum_\mu w_\mu \varphi(\xi_\mu)\).

    Args:
        frequencies: from :func:`draw_frequencies`.
        memories: one memory in each row.
        weights: one for each memory, at least 0, not necessarily normalised. None gives every memory the weight 1.
    """
    memories, frequencies = points(memories, frequencies, "frequencies")
    w = jnp.exp(log_weights(weights, memories.shape[0], memories.dtype))
    return dot(w, _features(frequencies, memories))


def kernel_sum(
    stored: Float[ArrayLike, " Z"], frequencies: Float[ArrayLike, "Y D"], query: Float[ArrayLike, "*batch D"]
) -> Float[Array, "*batch"]:
    r"""Estimate \(\hat S = \varphi(x) \cdot T\) of the sum of kernels: unbiased, possibly negative."""
    query, frequencies, stored = _checked(stored, frequencies, query)
    return dot(_features(frequencies, query), stored[:, None])[..., 0]


def energy(
    stored: Float[ArrayLike, " Z"],
    frequencies: Float[ArrayLike, "Y D"],
    query: Float[ArrayLike, "*batch D"],
    gamma: Scalar,
) -> Float[Array, "*batch"]:
    r"""Estimated energy \(-\tfrac2\gamma \log \hat S\), in squared units of the data; +inf where \(\hat S \le 0\).

    Args:
        stored: the memories, from :func:`store`.
        frequencies: those that ``stored`` was made with.
        query: points of R^D.
        gamma: the value that the frequencies were drawn with.
    """
    total = kernel_sum(stored, frequencies, query)
    gamma = positive("gamma", gamma, total.dtype)
    seen = total > 0
    return jnp.where(seen, -2 / gamma * jnp.log(jnp.where(seen, total, 1)), jnp.inf)


def update(
    stored: Float[ArrayLike, " Z"],
    frequencies: Float[ArrayLike, "Y D"],
    query: Float[ArrayLike, "*batch D"],
    gamma: Scalar,
) -> Float[Array, "*batch D"]:
    r"""Unit step of the estimated flow: \(x - \tfrac12\nabla\hat E\), or \(x + \nabla\hat S/(\gamma\hat S)\).

    It estimates the mean of the memories under their responsibilities. Where \(\hat S \le 0\) the energy is not defined
    and the query does not move. Arguments are those of :func:`energy`.
    """
    query, frequencies, stored = _checked(stored, frequencies, query)
    gamma = positive("gamma", gamma, query.dtype)
    num_features = len(frequencies)
    phi = _features(frequencies, query)
    total = dot(phi, stored[:, None])
    # the derivative of (cos, sin) turns them into (-sin, cos)
    turned = phi[..., :num_features] * stored[num_features:] - phi[..., num_features:] * stored[:num_features]
    seen = total > 0
    return query + jnp.where(seen, dot(turned, frequencies) / (gamma * jnp.where(seen, total, 1)), 0)


def _features(frequencies: Float[Array, "Y D"], x: Float[Array, "*batch D"]) -> Float[Array, "*batch 2*Y"]:
    phase = dot(x, frequencies.T)
    scale: float = len(frequencies) ** -0.5
    return jnp.concatenate([jnp.cos(phase), jnp.sin(phase)], axis=-1) * scale


def _checked(
    stored: Float[ArrayLike, " Z"], frequencies: Float[ArrayLike, "Y D"], query: Float[ArrayLike, "*batch D"]
) -> tuple[Float[Array, "*batch D"], Float[Array, "Y D"], Float[Array, " Z"]]:
    query, frequencies = points(query, frequencies, "frequencies")
    stored = jnp.asarray(stored, query.dtype)
    if stored.shape != (2 * len(frequencies),):
        raise InputError(f"stored: expected two numbers for each of {len(frequencies)} frequencies; got {stored.shape}")
    return query, frequencies, stored


@pytree
@dataclass(frozen=True, eq=False)
class RandomFeatures(Memory):
    r"""Any number of patterns in one vector of fixed length: write adds to it, erase subtracts.

    For many patterns, or for a stream of them, where an error is acceptable: it falls as one over the square root of
    the number of features. Wells must be wide against the distances; at large beta, and far from all patterns, the
    estimate is lost in its noise.

    .. math:: \hat E(x) = -\tfrac{2}{\gamma} \log\, \varphi(x) \cdot T, \qquad T = \sum_\mu \varphi(\xi_\mu)

    >>> from probam.dynamics.memories import recall
    >>> memory = RandomFeatures.store(jnp.array([[0.0, 0.0], [4.0, 0.0]]), num_features=4000, gamma=1.0)
    >>> recalled = recall(memory.erase(jnp.array([[4.0, 0.0]])), jnp.array([1.0, 0.5]))
    >>> round(float(jnp.linalg.norm(recalled.states)), 1)  # only the memory at the origin is left
    0.0
    """

    stored: Float[ArrayLike, " Z"]
    frequencies: Float[ArrayLike, "Y D"]
    gamma: Scalar

    card = Card(
        "random_features",
        REAL,
        "-(2/gamma) log phi(x) . T, an estimate of CLAM's at beta = gamma / 2",
        "a unit step down the estimated gradient",
        "any number of patterns, with an error that grows with their number over the number of features",
        "Hoover et al. (2024), arXiv:2410.24153; Rahimi and Recht (2007)",
        "random_features",
    )
    bank = "frequencies"
    falls = False

    def energy(self, states: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch"]:
        """:func:`energy`."""
        return energy(self.stored, self.frequencies, states, self.gamma)

    def update(self, states: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch D"]:
        """:func:`update`."""
        return update(self.stored, self.frequencies, states, self.gamma)

    def write(self, patterns: Float[ArrayLike, "B D"]) -> "RandomFeatures":
        """The memory after these patterns were added."""
        return replace(self, stored=jnp.asarray(self.stored) + store(self.frequencies, patterns))

    def erase(self, patterns: Float[ArrayLike, "B D"]) -> "RandomFeatures":
        """The memory after these patterns were taken away; they must have been written."""
        return replace(self, stored=jnp.asarray(self.stored) - store(self.frequencies, patterns))

    @classmethod
    def store(
        cls, patterns: Float[ArrayLike, "K D"], *, num_features: int = 4096, gamma: float | None = None, seed: int = 0
    ) -> "RandomFeatures":
        """A memory of these patterns; None for ``gamma`` tells them apart.

        Args:
            patterns: one in each row.
            num_features: number of frequencies.
            gamma: inverse width of the kernel.
            seed: of the frequencies.
        """
        patterns = checked_patterns(patterns, REAL)
        gamma = sharpness(patterns, gamma, "precision")
        frequencies = draw_frequencies(jax.random.key(seed), num_features, patterns.shape[1], gamma)
        return cls(store(frequencies, patterns), frequencies, gamma)
