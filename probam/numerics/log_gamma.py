r"""Logs of ratios of Gamma functions and differences of their derivatives, without cancellation at large arguments.

``jax.scipy.special.betaln`` (JAX 0.10) has errors of up to 1.3e-6 where its larger argument lies between 8 and 100, and
SciPy's function of 5e-10 where it is near 1e5. The functions here are exact to rounding. :func:`log_gamma_ratio` and
:func:`log_beta` use JAX; the others run on the host, in double precision.
"""

import math

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln
from jax.typing import ArrayLike
from jaxtyping import Array, Complex, Float
from scipy.special import expm1, log1p

__all__ = ["digamma_difference", "log_beta", "log_gamma_ratio", "log_rising", "log_rising_ratio", "trigamma_difference"]

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


_BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66)
"""B_2, B_4, ..., B_10."""

_POWERS = 12
"""Powers of d / x, at x above ``_RAISED``, in the expansion of x log(1 + d / x)."""

_RAISED = 25
"""Argument from which five Bernoulli numbers give the asymptotic series to rounding."""


def log_rising(
    a: float, s: float | Float[np.ndarray, "*shape"] | Complex[np.ndarray, "*shape"]
) -> Float[np.ndarray, "*shape"] | Complex[np.ndarray, "*shape"]:
    """log Gamma(a + s) - log Gamma(a) to full relative accuracy: for whole s the log of a (a + 1) ... (a + s - 1).

    The recurrence of Gamma raises a above 25; Stirling's series does the rest. Both are written as differences.

    >>> round(float(log_rising(4.0, np.array(3.0))), 5)  # log(4 * 5 * 6)
    4.78749

    Args:
        a: above 0.
        s: real or complex, with Re(a + s) > 0.
    """
    s = np.asarray(s)
    steps = np.arange(max(0, math.ceil(_RAISED - a)))
    w = a + steps.size
    growth = log1p(s / w)
    value = (w - 0.5) * growth + s * (np.log(w + s) - 1) - log1p(s[..., None] / (a + steps)).sum(axis=-1)
    for j, bernoulli in enumerate(_BERNOULLI, start=1):
        value = value + bernoulli / (2 * j * (2 * j - 1)) * w ** (1 - 2 * j) * expm1((1 - 2 * j) * growth)
    return np.asarray(value)


def log_rising_ratio(a: float, d: float, steps: int) -> float:
    """Log of (a + d)_m / (a)_m for m = ``steps``, the sum of log(1 + d / (a + i)) over i < m, at the cost of one term.

    Where a is large this second difference of log Gamma is far below the rounding of the first ones. So the part
    x log(1 + d / x) of Stirling's series is expanded in d / x, and each power is a difference.

    >>> round(log_rising_ratio(2.0, 0.5, 3), 5)  # log(2.5 / 2 * 3.5 / 3 * 4.5 / 4)
    0.49508

    Args:
        a: above 0.
        d: in [0, 1].
        steps: m, at least 0.
    """
    low = a + np.arange(_RAISED)
    value = np.sum(log1p(d * steps / (low * (low + steps + d))))
    w = a + _RAISED
    growth, shifted, later = log1p(steps / w), log1p(d / w), log1p(d / (w + steps))
    value += d * log1p(steps / (w + d)) + 0.5 * log1p(d * steps / (w * (w + steps + d)))
    power = np.arange(1, _POWERS + 1)
    value += np.sum((-d) ** power * d / (power + 1) * w**-power * expm1(-power * growth))
    for j, bernoulli in enumerate(_BERNOULLI, start=1):
        order = 1 - 2 * j
        ends = (w + steps) ** order * expm1(order * later) - w**order * expm1(order * shifted)
        value += bernoulli / (2 * j * (2 * j - 1)) * ends
    return float(value)


def digamma_difference(a: Float[ArrayLike, "*#shape"], h: Float[ArrayLike, "*#shape"]) -> Float[np.ndarray, "*shape"]:
    """psi(a + h) - psi(a) to full relative accuracy: for whole h the sum of 1 / (a + i) over i < h.

    >>> round(float(digamma_difference(1.0, 3.0)), 5)  # 1 + 1/2 + 1/3
    1.83333

    Args:
        a: above 0.
        h: at least 0.
    """
    a, h = np.asarray(a, float), np.asarray(h, float)
    raised = a[..., None] + np.arange(_RAISED)
    value = np.sum(h[..., None] / (raised * (raised + h[..., None])), axis=-1)
    w = a + _RAISED
    growth = log1p(h / w)
    value = value + growth - expm1(-growth) / (2 * w)
    for j, bernoulli in enumerate(_BERNOULLI, start=1):
        value = value - bernoulli / (2 * j) * w ** (-2 * j) * expm1(-2 * j * growth)
    return np.asarray(value)


def trigamma_difference(a: Float[ArrayLike, "*#shape"], h: Float[ArrayLike, "*#shape"]) -> Float[np.ndarray, "*shape"]:
    """psi'(a) - psi'(a + h) to full relative accuracy: for whole h the sum of 1 / (a + i)^2 over i < h.

    >>> round(float(trigamma_difference(1.0, 3.0)), 5)  # 1 + 1/4 + 1/9
    1.36111

    Arguments are those of :func:`digamma_difference`.
    """
    a, h = np.asarray(a, float), np.asarray(h, float)
    raised, rise = a[..., None] + np.arange(_RAISED), h[..., None]
    value = np.sum(rise / raised**2 * (2 * raised + rise) / (raised + rise) ** 2, axis=-1)
    w = a + _RAISED
    growth = log1p(h / w)
    value = value - expm1(-growth) / w - expm1(-2 * growth) / (2 * w**2)
    for j, bernoulli in enumerate(_BERNOULLI, start=1):
        value = value - bernoulli * w ** (-1 - 2 * j) * expm1((-1 - 2 * j) * growth)
    return np.asarray(value)
