r"""The von Mises-Fisher normaliser and mean resultant length, for every dimension and concentration.

.. math::

    \log C_D(\kappa) = \nu \log\kappa - \tfrac D2 \log 2\pi - \log I_\nu(\kappa), \qquad \nu = \tfrac D2 - 1,

with respect to surface measure on the unit sphere of :math:`\mathbb R^D`, and its derivative
:math:`-A_D(\kappa)`, :math:`A_D = I_{\nu+1} / I_\nu`, the mean resultant length.

Method. Debye's expansion, uniform in :math:`\kappa` (DLMF 10.41.3), is evaluated at the order
:math:`\mu` of at least 20 that is a whole number above :math:`\nu`, where twelve terms reach rounding error. The
backward recurrence of :math:`I` (DLMF 10.29.1), in which errors do not grow, leads from there to the order
:math:`\nu`; from :math:`\nu = 20` on there is nothing to recur. Below,
:math:`R_o = I_{o+1}/I_o` at order :math:`o`. All formulas use quantities that neither cancel nor overflow
for small or large :math:`\kappa`:

- :math:`s = R / \kappa`, finite at :math:`\kappa = 0`;
- :math:`t = 1 - R`, which keeps its digits as :math:`\kappa \to \infty`;
- :math:`v = \mathrm dR / \mathrm d\kappa`.

Dimensions are static, concentrations are arrays of any shape.
"""

import math
from fractions import Fraction
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from probam.errors import InputError

__all__ = [
    "inverse_mean_resultant_length",
    "log_normalizer",
    "log_normalizer_scaled",
    "mean_resultant_gap",
    "mean_resultant_length",
    "mean_resultant_length_slope",
    "mean_resultant_ratio",
]

_LEAST_ORDER = 20
_TERMS = 12
_NEWTON_STEPS = 4


def _debye_polynomials(num_terms: int) -> list[list[Fraction]]:
    """Coefficients of Q_k, where U_k(p) = p^k Q_k(p^2) are Debye's polynomials (DLMF 10.41.9)."""
    rows = [[Fraction(1)]]
    for k in range(num_terms - 1):
        row = [Fraction(0)] * (k + 2)
        for i, c in enumerate(rows[k]):  # the term c p^e of U_k
            e = k + 2 * i
            row[i] += c * (Fraction(e, 2) + Fraction(1, 8 * (e + 1)))
            row[i + 1] -= c * (Fraction(e, 2) + Fraction(5, 8 * (e + 3)))
        rows.append(row)
    return rows


_Q = [[float(c) for c in row] for row in _debye_polynomials(_TERMS)]


class _Orders(NamedTuple):
    """Results of the recurrence at the order nu; arrays of the concentration's shape."""

    s: Array  # A / kappa
    t: Array  # 1 - A
    v: Array  # dA / dkappa
    log_growth: Array  # log I_nu(kappa) kappa^-nu, minus its value at 0
    log_growth_scaled: Array  # the same minus kappa


def _debye(order: float, r: Array) -> tuple[Array, Array, Array]:
    r"""Debye sums at :math:`r = \sqrt{\mu^2 + \kappa^2}`: S, Y and :math:`-r \, \mathrm dY / \mathrm dr`.

    :math:`S = \sum_k U_k(p) \mu^{-k}`, p = mu / r, and
    :math:`Y = S^{-1} \sum_k (\tfrac12 U_k + p U_k') \, r^{-1} \mu^{-k}`, which carries the
    difference between Debye's two series (DLMF 10.41.9 for V_k).
    """
    rho = 1 / r
    q = (order * rho) ** 2
    S = X = dS = dX = jnp.zeros_like(r)
    for k in reversed(range(_TERMS)):
        row, exponent = _Q[k], [k + 2 * i for i in range(k + 1)]
        weighted = [(0.5 + e) * c for c, e in zip(row, exponent, strict=True)]
        S = S * rho + _horner(row, q)
        X = X * rho + _horner(weighted, q)
        dS = dS * rho + _horner([e * c for c, e in zip(row, exponent, strict=True)], q)
        dX = dX * rho + _horner([(e + 1) * c for c, e in zip(weighted, exponent, strict=True)], q)
    X, dX = X * rho, dX * rho
    return S, X / S, (dX - X * dS / S) / S


def _horner(coefficients: list[float], x: Array) -> Array:
    value = jnp.full_like(x, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        value = value * x + c
    return value


def _descend(dim: int, kappa: Array) -> _Orders:
    """Debye's expansion at an order of at least 20, then steps of the backward recurrence down to nu."""
    nu = dim / 2 - 1
    steps = max(0, math.ceil(_LEAST_ORDER - nu))
    mu = nu + steps
    r = jnp.sqrt(mu**2 + kappa**2)
    p = mu / r
    S, Y, dY = _debye(mu, r)
    rise = kappa**2 / (mu + r)  # r - mu
    shortfall = (mu + mu**2 / (r + kappa)) / (mu + r)  # 1 - rise / kappa

    s = 1 / (mu + r) - Y / r
    t = shortfall + kappa * Y / r
    v = p / (mu + r) + (dY * (kappa / r) ** 2 - p**2 * Y) / r
    product = jnp.ones_like(kappa)
    for order in (nu + j for j in range(steps, 0, -1)):
        s = 1 / (2 * order + kappa**2 * s)
        t = (2 * order - kappa * t) * s
        v = (2 * order - kappa**2 * v) * s**2
        product = product * (2 * order * s) * (1 + rise / (2 * mu))

    at_zero = sum(sum(row) / mu**k for k, row in enumerate(_Q))
    rest = jnp.log(S / at_zero) - jnp.log(product) - nu * jnp.log1p(rise / (2 * mu)) - 0.5 * jnp.log1p(rise / mu)
    return _Orders(s, t, v, rise + rest, rest - kappa * shortfall)


def _log_uniform(dim: int) -> float:
    """log C_D(0), minus the log area of the sphere."""
    return math.lgamma(dim / 2) - math.log(2) - dim / 2 * math.log(math.pi)


def _floating(x: ArrayLike) -> Array:
    return jnp.asarray(x, dtype=jnp.result_type(x, float))


def _check_dim(dim: int) -> None:
    if dim < 2:
        raise InputError(f"dim: expected a whole number of at least 2; got {dim}")


def log_normalizer(dim: int, concentration: ArrayLike) -> Float[Array, "..."]:
    r"""Log of the normaliser C_D(kappa), in nats; its derivative is -A_D(kappa), to any order.

    .. math:: \log C_D(\kappa) = \nu \log\kappa - \tfrac D2 \log 2\pi - \log I_\nu(\kappa)

    The error is a few roundings of max(1, kappa, |log C_D(0)|): at most 1e-12 max(1, \|log C_D\|) in
    float64 and 1e-5 max(1, \|log C_D\|) in float32. The exception is the one kappa, for each D > 18, at which log C_D
    is zero as the difference of two large terms; there these bounds hold relative to max(kappa, |log C_D(0)|).

    >>> round(float(log_normalizer(3, 0.0)), 4)  # minus the log of the sphere's area 4 pi
    -2.531

    Args:
        dim: D, the dimension of the space around the sphere, at least 2.
        concentration: kappa, at least 0.

    Raises:
        InputError: for ``dim`` below 2.
    """
    _check_dim(dim)
    value: Array = _log_normalizer(dim, _floating(concentration))
    return value


def log_normalizer_scaled(dim: int, concentration: ArrayLike) -> Float[Array, "..."]:
    r"""Log of C_D(kappa) e^kappa, the density at the mean direction; it grows only like (D-1)/2 log kappa.

    A log density written as this number minus kappa (1 - cos) keeps its digits in float32 for large kappa. Arguments
    and errors are those of :func:`log_normalizer`.
    """
    _check_dim(dim)
    value: Array = _log_normalizer_scaled(dim, _floating(concentration))
    return value


def mean_resultant_length(dim: int, concentration: ArrayLike) -> Float[Array, "..."]:
    r"""A_D(kappa) = I_{D/2}(kappa) / I_{D/2-1}(kappa), the length of the mean of the directions, in [0, 1].

    Arguments and errors are those of :func:`log_normalizer`.
    """
    _check_dim(dim)
    value: Array = _mean_resultant_length(dim, _floating(concentration))
    return value


def mean_resultant_gap(dim: int, concentration: ArrayLike) -> Float[Array, "..."]:
    r"""1 - A_D(kappa), the mean of 1 - cos, to full relative accuracy where A is close to one.

    Arguments and errors are those of :func:`log_normalizer`.
    """
    _check_dim(dim)
    value: Array = _gap(dim, _floating(concentration))
    return value


def mean_resultant_ratio(dim: int, concentration: ArrayLike) -> Float[Array, "..."]:
    """A_D(kappa) / kappa, the variance of a coordinate orthogonal to the mean direction; 1/D at kappa = 0.

    Arguments and errors are those of :func:`log_normalizer`.
    """
    _check_dim(dim)
    value: Array = _ratio(dim, _floating(concentration))
    return value


def mean_resultant_length_slope(dim: int, concentration: ArrayLike) -> Float[Array, "..."]:
    r"""dA_D/dkappa = 1 - A^2 - (D-1) A / kappa, the variance of the cosine to the mean direction.

    It falls from 1/D at kappa = 0 to (D-1) / (2 kappa^2) for large kappa, with full relative accuracy at both ends.
    Arguments and errors are those of :func:`log_normalizer`.
    """
    _check_dim(dim)
    value: Array = _slope(dim, _floating(concentration))
    return value


@partial(jax.custom_jvp, nondiff_argnums=(0,))
@partial(jax.jit, static_argnums=0)
def _log_normalizer(dim: int, kappa: Array) -> Array:
    return _log_uniform(dim) - _descend(dim, kappa).log_growth


@_log_normalizer.defjvp
def _log_normalizer_jvp(dim: int, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return _log_normalizer(dim, *primals), -_mean_resultant_length(dim, *primals) * tangents[0]


@partial(jax.custom_jvp, nondiff_argnums=(0,))
@partial(jax.jit, static_argnums=0)
def _log_normalizer_scaled(dim: int, kappa: Array) -> Array:
    return _log_uniform(dim) - _descend(dim, kappa).log_growth_scaled


@_log_normalizer_scaled.defjvp
def _log_normalizer_scaled_jvp(dim: int, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return _log_normalizer_scaled(dim, *primals), _gap(dim, *primals) * tangents[0]


@partial(jax.custom_jvp, nondiff_argnums=(0,))
@partial(jax.jit, static_argnums=0)
def _mean_resultant_length(dim: int, kappa: Array) -> Array:
    return kappa * _descend(dim, kappa).s


@_mean_resultant_length.defjvp
def _mean_resultant_length_jvp(dim: int, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return _mean_resultant_length(dim, *primals), _slope(dim, *primals) * tangents[0]


@partial(jax.custom_jvp, nondiff_argnums=(0,))
@partial(jax.jit, static_argnums=0)
def _gap(dim: int, kappa: Array) -> Array:
    return _descend(dim, kappa).t


@_gap.defjvp
def _gap_jvp(dim: int, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return _gap(dim, *primals), -_slope(dim, *primals) * tangents[0]


@partial(jax.jit, static_argnums=0)
def _slope(dim: int, kappa: Array) -> Array:
    return _descend(dim, kappa).v


@partial(jax.jit, static_argnums=0)
def _ratio(dim: int, kappa: Array) -> Array:
    return _descend(dim, kappa).s


def inverse_mean_resultant_length(dim: int, length: ArrayLike) -> Float[Array, "..."]:
    r"""The concentration kappa at which A_D(kappa) = ``length``, for lengths in [0, 1).

    Newton's method for logit A_D as a function of log kappa, in which the curve is nearly a straight line of slope one,
    started at r (D - r^2) / (1 - r^2) (Banerjee et al. 2005, JMLR 6, Eq. 4.4). It is differentiable, with the
    derivative 1 / A'(kappa).

    Args:
        dim: D, the dimension of the space around the sphere, at least 2.
        length: mean resultant lengths; 1 (all directions equal) gives infinity.

    Raises:
        InputError: for ``dim`` below 2, and for known lengths outside [0, 1].
    """
    _check_dim(dim)
    length = _floating(length)
    if not isinstance(length, jax.core.Tracer):
        values = np.asarray(length)
        if not np.all((values >= 0) & (values <= 1)):
            worst = values[~((values >= 0) & (values <= 1))].flat[0]
            raise InputError(f"length: expected mean resultant lengths from 0 to 1; got {worst}")
    value: Array = _inverse(dim, length)
    return value


@partial(jax.custom_jvp, nondiff_argnums=(0,))
@partial(jax.jit, static_argnums=0)
def _inverse(dim: int, length: Array) -> Array:
    inside = (length > 0) & (length < 1)
    r = jnp.where(inside, length, 0.5)

    def newton(_: Array, kappa: Array) -> Array:
        at = _descend(dim, kappa)
        logit_error = jnp.log((kappa * at.s / r) * ((1 - r) / at.t))
        return kappa * jnp.exp(-logit_error * at.s * at.t / at.v)

    start = r * (dim - r**2) / ((1 - r) * (1 + r))
    kappa = jax.lax.fori_loop(0, _NEWTON_STEPS, newton, start)
    outside = jnp.where(length == 0, 0.0, jnp.where(length >= 1, jnp.inf, jnp.nan))
    solved: Array = jnp.where(inside, kappa, outside)
    return solved


@_inverse.defjvp
def _inverse_jvp(dim: int, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    kappa = _inverse(dim, *primals)
    finite = jnp.isfinite(kappa)
    slope = _slope(dim, jnp.where(finite, kappa, 0.0))
    return kappa, jnp.where(finite, 1 / slope, jnp.inf) * tangents[0]
