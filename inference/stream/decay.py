r"""Counts that fade: a recurrent Chinese restaurant process with one datum to an epoch (after Ahmed and Xing 2008).

The weight of a memory is the sum of the present weights of its data,

.. math:: w_k(n) = \sum_{i < n,\; z_i = k} \kappa(n - i),

with a kernel of ages that starts at one and falls. Here kernels are mixtures of exponentials,

.. math:: \kappa(a) = \sum_m c_m e^{-\lambda_m a}, \qquad \sum_m c_m = 1,

for which M numbers to a memory are enough, exactly: each use turns trace m into :math:`e^{-\lambda_m a} t_m + 1`,
with a the age since the last use, and between uses nothing has to be done. One term is a half-life;
:func:`mixture_of_exponentials` finds the terms of any completely monotone kernel (Bernstein), a power law among them,
to a stated relative error.

Statistics do not fade with the counts: a memory that nobody used keeps its place and can win again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy
from jaxtyping import Array, Bool, Float, Int, Num

from probam.errors import InputError
from probam.pytrees import pytree

__all__ = [
    "AgeKernel",
    "FadingPitmanYor",
    "age_kernel",
    "exponential_kernel",
    "fading_process",
    "mixture_of_exponentials",
    "power_kernel",
]

_LEAST = 1e-300
"""Half-lives up to this count as zero: a rate is finite."""

FADINGS = ("exponential", "power")

_WORST = 0.01  # relative error at which a mixture is refused
_RATES_PER_DECADE = 3


class AgeKernel(NamedTuple):
    """Weight of a datum after a number of further data: :math:`\\kappa(a) = \\sum_m c_m e^{-\\lambda_m a}`."""

    shares: Float[np.ndarray, " M"]  # c_m, sum 1
    rates: Float[np.ndarray, " M"]  # lambda_m, slowest first
    error: float = 0.0
    """Largest relative error against the kernel that was asked for, at ages up to its reach."""

    def __call__(self, age: Num[np.ndarray, "*A"]) -> Float[np.ndarray, "*A"]:
        """The worth of a datum of this age."""
        return np.asarray(np.exp(-np.multiply.outer(age, self.rates)) @ self.shares)


def exponential_kernel(half_life: float) -> AgeKernel:
    """One half after ``half_life`` data, a quarter after twice as many; infinity means no fading."""
    _check_half_life(half_life)
    return AgeKernel(np.ones(1), np.array([np.log(2) / half_life]))


def power_kernel(half_life: float, exponent: float = 1.0, *, reach: float = 1e7) -> AgeKernel:
    r"""The power law :math:`\kappa(a) = (1 + a / \tau)^{-p}` that is worth one half at ``half_life``.

    A long memory: after many half-lives a datum counts as :math:`a^{-p}`, where an exponential has forgotten it.
    """
    _check_half_life(half_life)
    if not 0 < exponent <= 4:
        raise InputError(f"fading_exponent: expected a number above 0, at most 4; got {exponent}")
    if half_life == np.inf:
        return exponential_kernel(half_life)
    scale = half_life / np.expm1(np.log(2) / exponent)
    return mixture_of_exponentials(lambda age: np.exp(-exponent * np.log1p(age / scale)), reach=reach)


def mixture_of_exponentials(
    kernel: Callable[[Float[np.ndarray, " A"]], Float[np.ndarray, " A"]], *, reach: float = 1e7
) -> AgeKernel:
    """A short mixture of exponentials for a kernel of ages, right in relative terms from age 0 to ``reach``.

    Least squares with shares that are not negative, on rates evenly spaced in their logs.

    Raises :class:`probam.errors.InputError` for a kernel that does not start at one, or that is no such mixture to
    within one per cent (only completely monotone kernels are).
    """
    ages = np.append(0.0, np.geomspace(0.5, reach, 400))
    weights = np.asarray(kernel(ages), float)
    if not np.isfinite(weights).all() or (weights <= 0).any() or abs(weights[0] - 1) > 1e-12:
        raise InputError("kernel: expected a positive function of the age that is 1 at age 0")
    num_rates = int(np.ceil(_RATES_PER_DECADE * np.log10(reach * 30))) + 4
    rates = np.append(0.0, np.geomspace(0.1 / reach, 10.0, num_rates))
    parts = np.exp(-np.multiply.outer(ages, rates)) / weights[:, None]
    parts[0] *= 1e3  # the shares sum to one
    ones = np.append(1e3, np.ones(len(ages) - 1))
    shares, _ = scipy.optimize.nnls(parts, ones, maxiter=100 * len(rates))
    used = shares > 0
    fitted = AgeKernel(shares[used] / shares[used].sum(), rates[used])
    error = float(np.abs(fitted(ages) / weights - 1).max())
    if error > _WORST:
        raise InputError(
            "kernel: expected a completely monotone function of the age; mixtures of exponentials miss it by "
            f"{error:.2g}"
        )
    return fitted._replace(error=error)


def age_kernel(half_life: float, fading: str = "exponential", exponent: float = 1.0) -> AgeKernel:
    """The kernel of that name. Raises :class:`probam.errors.InputError` for an unknown one."""
    if fading not in FADINGS:
        raise InputError(f"fading: expected one of {', '.join(FADINGS)}; got {fading!r}")
    return exponential_kernel(half_life) if fading == "exponential" else power_kernel(half_life, exponent)


def _check_half_life(half_life: float) -> None:
    if not half_life > _LEAST:
        raise InputError(f"half_life: expected a number of data above 0 (infinity never fades); got {half_life}")


@pytree
@dataclass(frozen=True)
class FadingPitmanYor:
    r"""Two-parameter Chinese restaurant process whose tables empty with time.

    .. math:: p(k) = \frac{w_k - d \, w_k / n_k}{W + \alpha}, \qquad
        p({\rm new}) = \frac{\alpha + d \sum_j w_j / n_j}{W + \alpha}, \qquad W = \sum_j w_j,

    with n_k all data of a memory and w_k what they are still worth: the discount of a memory fades with it, so the
    probabilities sum to one, and where nothing fades (w = n) this is the process of Eq. 11. Where everything has faded
    only a new memory is left; hence alpha > 0.
    """

    alpha: jax.Array
    discount: jax.Array
    shares: Float[Array, " M"]
    rates: Float[Array, " M"]

    def empty(self, num_slots: int) -> Float[Array, "K M"]:
        """Traces of empty slots."""
        return jnp.zeros((num_slots, len(self.rates)), self.shares.dtype)

    def use(self, trace: Float[Array, " M"], age: Int[Array, ""]) -> Float[Array, " M"]:
        """The traces of a memory after a datum joined it, ``age`` data after its last use."""
        return jnp.exp(-self.rates * age) * trace + 1

    def log_weights(
        self,
        counts: Float[Array, " K"],
        ages: Int[Array, " K"],
        live: Bool[Array, " K"],
        fresh: Bool[Array, " K"],
        traces: Float[Array, "K M"],
    ) -> Float[Array, " K"]:
        """Normalised log probabilities; a memory's keeps its digits however long it was not used."""
        slowest = self.rates[0]
        age = jnp.where(live, ages, 0).astype(counts.dtype)
        here = jnp.exp(-(self.rates - slowest) * age[:, None])
        scaled = jnp.where(live, jnp.sum(self.shares * here * traces, axis=-1), 1)  # w_k less its slowest factor
        decay = -slowest * age
        per_datum = scaled / jnp.where(live, counts, 1)
        faded = jnp.where(live, jnp.exp(decay), 0)
        total = self.alpha + jnp.sum(faded * scaled)
        is_first = ~jnp.any(live)
        new = jnp.where(is_first, 1, self.alpha + self.discount * jnp.sum(faded * per_datum)).astype(counts.dtype)
        weight = jnp.where(live, scaled - self.discount * per_datum, jnp.where(fresh, new, 1))
        return jnp.log(weight) + decay - jnp.log(jnp.where(is_first, 1, total)).astype(counts.dtype)


def fading_process(alpha: float, discount: float, kernel: AgeKernel, dtype: np.dtype[Any]) -> FadingPitmanYor:
    """The process with these numbers. Raises :class:`probam.errors.InputError` for alpha <= 0."""
    if not alpha > 0:
        raise InputError(f"alpha: where counts fade a new memory must always be possible: alpha above 0; got {alpha}")
    order = np.argsort(kernel.rates)
    numbers = (alpha, discount, kernel.shares[order], kernel.rates[order])
    return FadingPitmanYor(*(jnp.asarray(np.asarray(value, dtype)) for value in numbers))
