r"""Truncated stick-breaking weights of Dirichlet (d = 0) and Pitman-Yor processes, and the error of truncation.

.. math::

    V_k \sim \mathrm{Beta}(1 - d, \alpha + k d), \qquad w_k = V_k R_{k-1}, \qquad R_k = \prod_{j \le k} (1 - V_j)

for k = 1, 2, ..., with alpha > -d and 0 <= d < 1. Truncation at T components breaks T - 1 sticks and gives the last
component the rest, :math:`w_T = R_{T-1}` (V_T = 1). Components are in size-biased order: labels are not exchangeable,
and only partitions can be compared with a Chinese restaurant process.

Source: Ishwaran and James (2001, JASA 96, 161); Pitman (2006, Combinatorial Stochastic Processes, ch. 3). The
distributions use JAX and NumPyro; truncation errors and numbers of components are computed by NumPy in float64.

In all functions ``alpha`` is above ``-discount`` and ``discount`` (d) lies in [0, 1); other known values raise
:class:`probam.errors.InputError`, as counts below 1 do.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy
from jax.scipy.special import gammaln, xlog1py, xlogy
from jaxtyping import Array, ArrayLike, Float
from numpyro.distributions import Distribution, constraints
from numpyro.distributions.util import validate_sample
from scipy.special import digamma, expm1, log1p, polygamma

from probam.errors import InputError
from probam.numerics.log_gamma import digamma_difference, log_gamma_ratio, log_rising, log_rising_ratio

__all__ = [
    "StickBreakingSticks",
    "StickBreakingWeights",
    "Truncation",
    "check_parameters",
    "expected_num_components",
    "expected_remaining",
    "log_weights_to_sticks",
    "num_components_law",
    "remaining_moments",
    "sticks_to_log_weights",
    "truncation_error",
]


def sticks_to_log_weights(sticks: Float[Array, "... R"]) -> Float[Array, "... R+1"]:
    r"""Log weights :math:`\log V_k + \sum_{j<k} \log(1 - V_j)`, the last with V_T = 1.

    Sticks of exactly 0 or 1 give log weights of -inf with a gradient of zero, not NaN.

    >>> jnp.exp(sticks_to_log_weights(jnp.array([0.5, 0.5]))).tolist()
    [0.5, 0.25, 0.25]
    """
    positive, not_all = sticks > 0, sticks < 1
    log_taken = jnp.where(positive, jnp.log(jnp.where(positive, sticks, 1.0)), -jnp.inf)
    log_left = jnp.where(not_all, jnp.log1p(-jnp.where(not_all, sticks, 0.0)), -jnp.inf)
    return _log_weights(log_taken, log_left)


def _log_weights(log_taken: Float[Array, "... R"], log_left: Float[Array, "... R"]) -> Float[Array, "... R+1"]:
    zero = jnp.zeros((*log_left.shape[:-1], 1), log_left.dtype)
    log_remaining = jnp.concatenate([zero, jnp.cumsum(log_left, axis=-1)], axis=-1)
    return jnp.concatenate([log_taken, zero], axis=-1) + log_remaining


def log_weights_to_sticks(log_weights: Float[Array, "... T"]) -> Float[Array, "... T-1"]:
    r"""The sticks :math:`V_k = w_k / \sum_{j \ge k} w_j` of weights, which need not be normalised.

    Where nothing is left to break (w_j = 0 for all j >= k) a stick is not determined and set to 1/2.

    >>> [round(stick, 3) for stick in log_weights_to_sticks(jnp.log(jnp.array([2.0, 1.0, 1.0]))).tolist()]
    [0.5, 0.5]
    """
    floor = np.finfo(log_weights.dtype).min / 4  # below every log of a positive number, and safe to subtract
    safe = jnp.where(log_weights > floor, log_weights, floor)
    tail = jax.lax.cumlogsumexp(safe, axis=log_weights.ndim - 1, reverse=True)[..., :-1]
    return jnp.where(tail > floor / 2, jnp.exp(safe[..., :-1] - tail), 0.5)


def check_parameters(alpha: ArrayLike, discount: ArrayLike) -> None:
    """Check that alpha > -discount and 0 <= discount < 1, unless they are traced.

    Raises:
        InputError: for other values.
    """
    if isinstance(alpha, jax.core.Tracer) or isinstance(discount, jax.core.Tracer):
        return
    strength, d = np.broadcast_arrays(np.asarray(alpha, float), np.asarray(discount, float))
    bad = ~((d >= 0) & (d < 1))
    if bad.any():
        raise InputError(f"discount: expected 0 <= discount < 1 (0 is the Dirichlet process); got {d[bad].flat[0]:g}")
    bad = ~((strength > -d) & np.isfinite(strength))
    if bad.any():
        raise InputError(
            f"alpha: expected a finite number above -discount = {0.0 - d[bad].flat[0]:g}; got {strength[bad].flat[0]:g}"
        )


class _StickBreaking(Distribution):
    """Base of both distributions: parameters, checks, and draws of the sticks in logs."""

    arg_constraints = {"alpha": constraints.real, "discount": constraints.unit_interval}  # noqa: RUF012
    reparametrized_params = ["alpha", "discount"]  # noqa: RUF012
    pytree_data_fields = ("alpha", "discount")
    pytree_aux_fields = ("num_components", "is_dirichlet_process")

    alpha: Float[Array, "*batch"]
    discount: Float[Array, "*batch"]
    num_components: int
    is_dirichlet_process: bool
    """Whether the discount is known to be 0, without a look at arrays: the density is then a simpler program."""
    _implied = 0  # number of entries of the event that are omitted because they follow from the others

    def __init__(
        self,
        alpha: Float[ArrayLike, "*#batch"],
        discount: Float[ArrayLike, "*#batch"],
        num_components: int,
        *,
        validate_args: bool | None = None,
    ) -> None:
        _check_count("num_components", num_components)
        check_parameters(alpha, discount)
        dtype = jnp.result_type(alpha, discount, float)
        batch_shape = jnp.broadcast_shapes(jnp.shape(alpha), jnp.shape(discount))
        self.alpha = jnp.broadcast_to(jnp.asarray(alpha, dtype), batch_shape)
        self.discount = jnp.broadcast_to(jnp.asarray(discount, dtype), batch_shape)
        self.num_components = num_components
        self.is_dirichlet_process = isinstance(discount, int | float) and discount == 0
        super().__init__(batch_shape, (num_components - self._implied,), validate_args=validate_args)

    @property
    def num_sticks(self) -> int:
        """T - 1."""
        return self.num_components - 1

    @property
    def strengths(self) -> Float[Array, "*batch R"]:
        """The second Beta parameters alpha + k d, k = 1, ..., T-1."""
        steps = jnp.arange(1, self.num_components, dtype=self.alpha.dtype)
        if self.is_dirichlet_process:
            return self.alpha[..., None] + jnp.zeros_like(steps)
        return self.alpha[..., None] + steps * self.discount[..., None]

    @property
    def _log_normalizer(self) -> Float[Array, "*batch"]:
        """Sum of log B(1 - d, alpha + k d); the Gamma functions of neighbouring sticks cancel except at the ends."""
        alpha, d, num_sticks = self.alpha, self.discount, self.num_sticks
        if self.is_dirichlet_process:  # B(1, alpha) = 1 / alpha
            return -num_sticks * jnp.log(alpha)
        ends = log_gamma_ratio(alpha + 1, num_sticks * d)
        return num_sticks * gammaln(1 - d) + ends - jnp.sum(jnp.log(self.strengths), axis=-1)

    def _sample_logs(self, key: Array | None, sample_shape: tuple[int, ...]) -> tuple[Array, Array]:
        """Draws of (log V, log(1 - V)), both to full accuracy even if V is close to 0 or 1."""
        assert key is not None
        shape = (*sample_shape, *self.strengths.shape)
        first, second = jnp.broadcast_to(1 - self.discount[..., None], shape), jnp.broadcast_to(self.strengths, shape)
        taken, left = jax.random.loggamma(key, jnp.stack([first, second]), dtype=first.dtype)
        total = jnp.logaddexp(taken, left)
        return taken - total, left - total

    @property
    def _mean_left(self) -> Float[Array, "*batch R"]:
        """E(1 - V_k)."""
        return self.strengths / (self.strengths + 1 - self.discount[..., None])


class StickBreakingSticks(_StickBreaking):
    r"""The T - 1 independent sticks V_k ~ Beta(1 - d, alpha + k d) of a truncated DP (d = 0) or Pitman-Yor process.

    The event shape is (T-1,) and the support the unit cube. :func:`sticks_to_log_weights` returns the weights. Draws
    are at least one rounding away from 0 and 1.

    Args:
        alpha: strength, above ``-discount``; may be traced.
        discount: d in [0, 1); may be traced. Both broadcast to the batch shape.
        num_components: T, at least 1.

    Raises:
        InputError: for known parameters outside their range.
    """

    support = constraints.independent(constraints.unit_interval, 1)
    _implied = 1

    @validate_sample  # type: ignore[untyped-decorator]
    def log_prob(self, value: Float[ArrayLike, "... R"]) -> Float[Array, "..."]:
        """Log density of the sticks, in nats."""
        value = jnp.asarray(value)
        terms = xlog1py(self.strengths - 1, -value)
        if not self.is_dirichlet_process:
            terms = terms - xlogy(self.discount[..., None], value)
        return jnp.sum(terms, axis=-1) - self._log_normalizer

    def sample(self, key: Array | None, sample_shape: tuple[int, ...] = ()) -> Float[Array, "*shape R"]:
        """Independent draws."""
        sticks = jnp.exp(self._sample_logs(key, tuple(sample_shape))[0])
        limits = np.finfo(sticks.dtype)
        return jnp.clip(sticks, limits.tiny, 1 - limits.epsneg)

    @property
    def mean(self) -> Float[Array, "*batch R"]:
        """E V_k = (1 - d) / (1 + alpha + (k-1) d)."""
        return 1 - self._mean_left


_LEAST_WEIGHT = 2.0**12
"""Smallest weight of a draw, in units of the smallest normal number."""


class StickBreakingWeights(_StickBreaking):
    r"""The weights of a truncated DP (d = 0) or Pitman-Yor process, in size-biased order, on the simplex.

    With :math:`R_k = \sum_{j > k} w_j`, and with respect to Lebesgue measure in the first T - 1 weights,

    .. math::

        \log p(w) = -d \sum_{k<T} \log w_k - \sum_{k=1}^{T-2} \log R_k + (\alpha + (T-1) d - 1) \log w_T
        - \sum_{k<T} \log B(1 - d, \alpha + k d),

    the density of the sticks divided by the Jacobian :math:`\prod_{k<T} R_{k-1}`. The event shape is (T,).
    Many sticks of a small alpha, or a discount near 1, give weights below the range of floats; see :meth:`sample`.

    >>> StickBreakingWeights(alpha=1.0, discount=0.0, num_components=3).mean.tolist()
    [0.5, 0.25, 0.25]

    Args:
        alpha, discount, num_components: as for :class:`StickBreakingSticks`.

    Raises:
        InputError: for known parameters outside their range.
    """

    support = constraints.simplex

    @validate_sample  # type: ignore[untyped-decorator]
    def log_prob(self, value: Float[ArrayLike, "... T"]) -> Float[Array, "..."]:
        """Log density of the weights, in nats."""
        value = jnp.asarray(value)
        if self.num_components == 1:
            return jnp.zeros(jnp.broadcast_shapes(value.shape[:-1], self.batch_shape), value.dtype)
        remaining = jax.lax.cumsum(value, axis=value.ndim - 1, reverse=True)[..., 1:-1]  # R_1, ..., R_{T-2}
        by_size = jnp.sum(xlogy(self.discount[..., None], value[..., :-1]), axis=-1)
        last = xlogy(self.strengths[..., -1] - 1, value[..., -1])
        return last - by_size - jnp.sum(jnp.log(remaining), axis=-1) - self._log_normalizer

    def sample(self, key: Array | None, sample_shape: tuple[int, ...] = ()) -> Float[Array, "*shape T"]:
        """Independent draws, with full relative accuracy of small weights.

        A weight below ``_LEAST_WEIGHT`` times the smallest normal number is replaced by that, since the density is zero
        or infinite where a weight is 0, and its slope overflows where a weight is smaller.
        """
        weights = jax.nn.softmax(_log_weights(*self._sample_logs(key, tuple(sample_shape))), axis=-1)
        return jnp.maximum(weights, _LEAST_WEIGHT * np.finfo(weights.dtype).tiny)

    @property
    def mean(self) -> Float[Array, "*batch T"]:
        """E w_k, which decreases with k."""
        remaining = jnp.cumprod(self._mean_left, axis=-1)
        whole = jnp.ones((*self.batch_shape, 1), remaining.dtype)
        before = jnp.concatenate([whole, remaining], axis=-1)
        after = jnp.concatenate([remaining, jnp.zeros_like(whole)], axis=-1)
        return before - after


class Truncation(NamedTuple):
    """The prior error of a truncation at T components for n data."""

    expected_remaining: float
    """E R_T: the mean total weight of all but the first T components of the process without truncation."""

    tv_bound: float
    """P(two or more of the n data in the tail of weight R_{T-1}), which bounds the total variation of the data."""

    tv_bound_common: float
    """P(one or more of the n data in the tail): the usual bound, which is weaker."""


def truncation_error(alpha: float, discount: float, num_components: int, num_data: int) -> Truncation:
    r"""Bounds on the total variation between n data under T and under infinitely many components.

    Let R = R_{T-1} be the weight that the truncation gives to its last component and the full process divides among
    infinitely many. The two distributions differ only if the full process separates two data of that tail:

    .. math:: \mathrm{TV} \le 1 - E(1-R)^n - n E[R (1-R)^{n-1}] \le 1 - E(1-R)^n.

    The textbook formula 4 n exp(-(T-1)/alpha) is not a bound. The relative accuracy is about 1e-12 for results of any
    size.

    Args:
        alpha, discount: parameters of the process.
        num_components: T, at least 1.
        num_data: n, at least 1.

    Raises:
        InputError: for parameters outside their range.
    """
    check_parameters(alpha, discount)
    _check_count("num_components", num_components)
    _check_count("num_data", num_data)
    alpha, discount = float(alpha), float(discount)
    at_least = [_probability_in_tail(alpha, discount, num_components - 1, num_data, least) for least in (2, 1)]
    return Truncation(expected_remaining(alpha, discount, num_components), *at_least)


def expected_remaining(alpha: float, discount: float, num_sticks: int) -> float:
    r"""E R_m, the mean weight left after m sticks: :math:`\prod_{k \le m} (\alpha + kd) / (1 + \alpha + (k-1) d)`."""
    return float(remaining_moments(alpha, discount, num_sticks, 1.0))


def remaining_moments(alpha: float, discount: float, num_sticks: int, orders: ArrayLike) -> np.ndarray:
    r"""E R_m^s, the moments of the weight left after m sticks, for real orders s >= 0.

    .. math:: E R_m^s = \prod_{k \le m} \frac{(b_k)_s}{(1 - d + b_k)_s}, \qquad b_k = \alpha + k d

    Args:
        alpha, discount: parameters of the process.
        num_sticks: m, at least 0.
        orders: s, any shape, which is the shape of the result.

    Raises:
        InputError: for parameters outside their range.
    """
    check_parameters(alpha, discount)
    return np.asarray(np.exp(_log_moment(float(alpha), float(discount), num_sticks, np.asarray(orders, dtype=float))))


def _log_moment(alpha: float, discount: float, num_sticks: int, s: np.ndarray) -> np.ndarray:
    """Log of E R_m^s for complex s; 1 - d + b_k = b_{k-1} + 1, so only two Gamma functions remain."""
    if num_sticks == 0:
        return np.zeros_like(s)
    inner = alpha + discount * np.arange(1, num_sticks)
    ends = log_rising(alpha + num_sticks * discount, s) - log_rising(alpha + 1, s)
    return np.asarray(ends - log1p(s[..., None] / inner).sum(axis=-1))


_FEW = 5  # number of data below which probabilities are finite sums of moments
_SPACING = 1 / 64  # of the quadrature nodes; halving it changes nothing
_FAR = 1e5  # where the integrand is below rounding, |Im z|


def _probability_in_tail(alpha: float, discount: float, num_sticks: int, num_data: int, least: int) -> float:
    r"""P(at least ``least`` (1 or 2) of n data in the tail of weight R), where R is left after ``num_sticks`` sticks.

    The probability given R is g(R) = P(Binomial(n, R) >= q). Its expectation is, by Mellin's inversion,

    .. math::

        E\,g(R) = \frac1{2\pi i} \int_{c - i\infty}^{c + i\infty} \frac{\Gamma(q - z)}{\Gamma(q) z}
        \frac{\Gamma(n+1)}{\Gamma(n + 1 - z)} \, E R^z \, \mathrm dz, \qquad 0 < c < q,

    where the binomial sum would lose all digits. On the real axis the integrand is positive and log-convex. The line
    goes through its minimum (saddle point), so nothing cancels. With z = c + i sigma sinh u, where sigma is the width
    of the saddle, the trapezoidal rule in u converges exponentially.
    """
    n, q = num_data, least
    if n < q:
        return 0.0
    if n < _FEW:
        orders = np.arange(q, n + 1)
        signed = [math.comb(n, j) * math.comb(j - 1, q - 1) * (-1) ** (j - q) for j in orders]
        return float(np.dot(signed, remaining_moments(alpha, discount, num_sticks, orders)))
    if num_sticks == 0:
        return 1.0
    inner = alpha + discount * np.arange(1, num_sticks)
    outer = alpha + num_sticks * discount

    def slope(c: float) -> float:
        by_data = digamma(n + 1 - c) - digamma(q - c) - 1 / c
        return float(by_data + digamma(outer + c) - digamma(alpha + 1 + c) - np.sum(1 / (inner + c)))

    c = float(scipy.optimize.brentq(slope, 1e-12, q - 1e-12))
    curvature = polygamma(1, [q - c, outer + c]).sum() - polygamma(1, [n + 1 - c, alpha + 1 + c]).sum()
    sigma = float(curvature + c**-2 + np.sum((inner + c) ** -2.0)) ** -0.5
    u = np.arange(0, math.asinh(_FAR / sigma), _SPACING)
    z = c + 1j * sigma * np.sinh(u)
    log_integrand = log_rising(q, -z) - np.log(z) - log_rising(n + 1, -z)
    log_integrand = log_integrand + _log_moment(alpha, discount, num_sticks, z)
    peak = log_integrand[0].real
    nodes = (np.exp(log_integrand - peak) * sigma * np.cosh(u)).real
    return min(1.0, float(np.exp(peak) * _SPACING / np.pi * (nodes.sum() - nodes[0] / 2)))


def expected_num_components(alpha: float, discount: float, num_data: int) -> float:
    r"""E K_n, the mean number of components that n data occupy, without truncation.

    .. math:: E K_n = \frac{\alpha}{d} \left[ \frac{(\alpha + d)_n}{(\alpha)_n} - 1 \right]
        \;\xrightarrow{d \to 0}\; \alpha [\psi(\alpha + n) - \psi(\alpha)]

    >>> round(expected_num_components(1.0, 0.0, 4), 6)  # 1 + 1/2 + 1/3 + 1/4
    2.083333

    Raises:
        InputError: for parameters outside their range.
    """
    check_parameters(alpha, discount)
    _check_count("num_data", num_data)
    alpha, d = float(alpha), float(discount)
    if d == 0:
        return float(1 + alpha * digamma_difference(alpha + 1, num_data - 1))
    return float(1 + (alpha + d) * expm1(log_rising_ratio(alpha + 1, d, num_data - 1)) / d)


def num_components_law(alpha: float, discount: float, num_data: int) -> np.ndarray:
    r"""P(K_n = k) for k = 0, ..., n: distribution of the number of components that n data occupy, without truncation.

    .. math:: P_{n+1}(k) = \frac{n - k d}{n + \alpha} P_n(k) + \frac{\alpha + (k-1) d}{n + \alpha} P_n(k-1)

    All terms are positive. The cost is proportional to n^2.

    >>> num_components_law(1.0, 0.0, 3).round(4).tolist()  # 2/6, 3/6, 1/6
    [0.0, 0.3333, 0.5, 0.1667]

    Raises:
        InputError: for parameters outside their range.
    """
    check_parameters(alpha, discount)
    _check_count("num_data", num_data)
    law = np.zeros(num_data + 1)
    law[1] = 1.0
    occupied = np.arange(num_data + 1)
    for n in range(1, num_data):
        joins, founds = law * (n - occupied * discount), law * (alpha + occupied * discount)
        law = joins / (n + alpha)
        law[1:] += founds[:-1] / (n + alpha)
    return law


def _check_count(name: str, count: int) -> None:
    if count < 1:
        raise InputError(f"{name}: expected a whole number of at least 1; got {count}")
