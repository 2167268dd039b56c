r"""Positive random features: any number of memories in a vector of fixed length, and a density.

The kernel of two points is an overlap of two kernels at a point between them, so a mean over random *centres* c with
the density q estimates it:

.. math:: e^{-\gamma |x - \xi|^2 / 2} = \Bigl(\frac{2\gamma}{\pi}\Bigr)^{D/2}
    \int e^{-\gamma |x - c|^2} e^{-\gamma |\xi - c|^2}\, dc, \qquad c_y \sim q = N(0, s^2 I)

.. math:: T_y = \sum_\mu w_\mu e^{-\gamma |\xi_\mu - c_y|^2}, \qquad
    \hat S(x) = \sum_y M_y e^{-\gamma |x - c_y|^2}, \quad
    M_y = \frac{T_y}{Y q(c_y)} \Bigl(\frac{2\gamma}{\pi}\Bigr)^{D/2}

With \(s^2 = 1 / (4 \gamma)\) these are the exponential features \(\exp(\omega \cdot x - \gamma |x|^2)\),
\(\omega = 2 \gamma c\), of Hoover et al. (2024), arXiv:2410.24153, and Choromanski et al. (2021), arXiv:2009.14794.
They fail for patterns farther from the origin than their centres, so s is free here. The estimate is unbiased and never
negative, unlike that of :mod:`probam.energies.random_features`: a sum of Gaussians at fixed centres, receptive fields,
of which writing changes the weights alone.

Queries have shape (..., D), centres (Y, D), the stored vector (Y,). Writing adds, erasing subtracts. Bad shapes, and
gamma or s that are not above 0, raise :class:`probam.errors.InputError`.
"""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from probam.energies import clam
from probam.energies.arguments import Logs, Scalar, Weights, positive
from probam.energies.memory import REAL, Card, Memory, checked_patterns, sharpness
from probam.errors import InputError
from probam.pytrees import pytree

__all__ = ["PositiveFeatures", "draw_centres", "log_masses", "store"]


def draw_centres(key: jax.Array, num_features: int, dim: int, spread: Scalar) -> Float[Array, "Y D"]:
    """Y independent centres, normal with the standard deviation ``spread`` around the origin."""
    if num_features < 1 or dim < 1:
        raise InputError(f"num_features, dim: expected whole numbers of at least 1; got {num_features} and {dim}")
    spread = positive("spread", spread, jnp.result_type(spread, float))
    return spread * jax.random.normal(key, (num_features, dim), spread.dtype)


def store(
    centres: Float[ArrayLike, "Y D"], memories: Float[ArrayLike, "K D"], gamma: Scalar, weights: Weights | None = None
) -> Float[Array, " Y"]:
    r"""All memories in one vector: \(T_y = \sum_\mu w_\mu e^{-\gamma |\xi_\mu - c_y|^2}\), one for each centre."""
    rate = positive("gamma", gamma, jnp.result_type(jnp.asarray(memories), float))
    return jnp.exp(-rate * clam.energy(centres, memories, gamma, weights))


def log_masses(
    stored: Float[ArrayLike, " Y"], centres: Float[ArrayLike, "Y D"], gamma: Scalar, spread: Scalar
) -> Float[Array, " Y"]:
    r"""Log of the weight \(M_y\) of each centre's kernel in \(\hat S\); -inf where T is not above 0.

    Args:
        stored: T, from :func:`store`.
        centres: those that ``stored`` was made with.
        gamma: inverse width of the kernel.
        spread: s, the standard deviation that the centres were drawn with.
    """
    centres = jnp.asarray(centres)
    stored = jnp.asarray(stored, centres.dtype)
    if stored.shape != centres.shape[:1]:
        raise InputError(f"stored: expected one number for each of {len(centres)} centres; got shape {stored.shape}")
    gamma, spread = (positive(*named, centres.dtype) for named in (("gamma", gamma), ("spread", spread)))
    num_centres, dim = centres.shape
    has = stored > 0
    log_stored = jnp.where(has, jnp.log(jnp.where(has, stored, 1)), -jnp.inf)
    minus_log_q = jnp.sum(centres**2, axis=-1) / (2 * spread**2) + dim * jnp.log(2 * spread * jnp.sqrt(gamma))
    return log_stored + minus_log_q - jnp.log(num_centres)


@pytree
@dataclass(frozen=True, eq=False)
class PositiveFeatures(Memory):
    r"""Any number of patterns in the weights of fixed random receptive fields: write adds, erase subtracts.

    As `random_features`, with an estimate that is a density: recall never meets a negative sum, and every update goes
    downhill. The fields must cover the patterns, so this is for few dimensions and patterns around the origin.

    .. math:: \hat E(x) = -\tfrac2\gamma \log \sum_y M_y e^{-\gamma |x - c_y|^2}

    >>> from probam.dynamics.memories import recall
    >>> memory = PositiveFeatures.store(jnp.array([[-1.0, 0.0], [1.0, 0.0]]), num_features=4000, gamma=4.0)
    >>> recalled = recall(memory.erase(jnp.array([[1.0, 0.0]])), jnp.array([0.2, 0.1]))
    >>> round(recalled.states[0].item(), 1)  # only the first is left
    -1.0
    """

    stored: Float[ArrayLike, " Y"]
    centres: Float[ArrayLike, "Y D"]
    gamma: Scalar
    spread: Scalar

    card = Card(
        "positive_features",
        REAL,
        "-(2/gamma) log sum_y M_y exp(-gamma |x - c_y|^2), an estimate of CLAM's at beta = gamma / 2",
        "mean of the centres under their shares",
        "any number of patterns in few dimensions; the number of centres that covers them grows with D as a power",
        "Hoover et al. (2024), arXiv:2410.24153 (exponential features); Choromanski et al. (2021), arXiv:2009.14794",
        "random_features",
    )
    bank = "centres"
    separable = True

    def energy(self, states: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch"]:
        """The estimated energy, twice that of CLAM with the centres as memories."""
        return 2 * clam.energy(states, self.centres, self.gamma, self._masses())

    def update(self, states: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch D"]:
        """Mean of the centres under their shares of the sum; it never raises the energy."""
        return clam.update(states, self.centres, self.gamma, self._masses())

    def write(self, patterns: Float[ArrayLike, "B D"]) -> "PositiveFeatures":
        """The memory after these patterns were added."""
        return replace(self, stored=jnp.asarray(self.stored) + store(self.centres, patterns, self.gamma))

    def erase(self, patterns: Float[ArrayLike, "B D"]) -> "PositiveFeatures":
        """The memory after these patterns were taken away; they must have been written."""
        return replace(self, stored=jnp.asarray(self.stored) - store(self.centres, patterns, self.gamma))

    @classmethod
    def store(
        cls, patterns: Float[ArrayLike, "K D"], *, num_features: int = 4096, gamma: float | None = None, seed: int = 0
    ) -> "PositiveFeatures":
        """A memory of these patterns; None for ``gamma`` tells them apart. The centres spread as the patterns do."""
        patterns = checked_patterns(patterns, REAL)
        gamma = sharpness(patterns, gamma, "precision")
        spread = float(jnp.sqrt(jnp.mean(patterns**2) + 0.25 / gamma))
        centres = draw_centres(jax.random.key(seed), num_features, patterns.shape[1], spread)
        return cls(store(centres, patterns, gamma), centres, gamma, spread)

    def _masses(self) -> Logs:
        return Logs(log_masses(self.stored, self.centres, self.gamma, self.spread))
