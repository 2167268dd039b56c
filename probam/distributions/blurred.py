r"""A mixture after Gaussian noise was added to its draws: the densities that a diffusion goes through.

.. math:: p_s(x) = \int p(y) \, N(x \mid y, s^2 I) \, dy = \sum_k w_k \int p_k(y) \, N(x \mid y, s^2 I) \, dy

A normal memory stays normal: s^2 is added to its variances. For features that are independent within a memory one
integral a feature remains, which is closed for Laplace, uniform and Bernoulli memories. The weights never change, and
by Tweedie's formula the mean of the clean datum given a noisy one is \(E[y \mid x] = x + s^2 \nabla \log p_s(x)\).
"""

import math
from functools import singledispatch

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.scipy.special import log_ndtr
from jaxtyping import Array, Float
from numpyro.distributions import Distribution, constraints
from numpyro.distributions.util import validate_sample

from probam.distributions.bits import SpinBernoulli
from probam.distributions.mixture import MemoryMixture
from probam.distributions.uniform import UniformBox
from probam.errors import InputError

__all__ = ["Noisy", "blurred", "denoised", "widths"]

_LOG_ROOT = 0.5 * math.log(2 * math.pi)


def blurred(mixture: MemoryMixture, deviation: float | Float[Array, ""]) -> MemoryMixture:
    """The mixture after independent normal noise of this standard deviation was added to every feature of a draw.

    Raises:
        InputError: for memories without a closed form, and a deviation below 0.

    >>> bank = dist.Normal(jnp.array([[0.0], [4.0]]), 0.6).to_event(1)
    >>> wide = blurred(MemoryMixture(jnp.log(jnp.array([0.25, 0.75])), bank), 0.8)
    >>> wide.bank.base_dist.scale.round(3).tolist()
    [[1.0]]
    """
    if not isinstance(deviation, jax.core.Tracer) and not deviation >= 0:
        raise InputError(f"deviation: expected a number of at least 0; got {deviation}")
    bank = mixture.bank
    base = bank.base_dist if isinstance(bank, dist.Independent) and bank.reinterpreted_batch_ndims == 1 else bank
    return MemoryMixture(mixture.log_weights, _with_noise(base, deviation), validate_args=False)


def denoised(
    mixture: MemoryMixture, x: Float[Array, "N D"], deviation: float | Float[Array, ""]
) -> Float[Array, "N D"]:
    r"""Mean of the clean datum given each noisy one, \(x + s^2 \nabla \log p_s(x)\) (Tweedie's formula).

    Args:
        mixture: of the clean data.
        x: noisy data.
        deviation: s, above 0.
    """
    wide = blurred(mixture, deviation)
    score: Array = jax.grad(lambda rows: jnp.sum(jnp.asarray(wide.log_prob(rows))))(x)
    return x + deviation**2 * score


def widths(mixture: MemoryMixture) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The least standard deviation of a memory in any direction, and the largest of the whole mixture in a feature."""
    bank = mixture.bank
    if isinstance(bank, dist.MultivariateNormal):
        least = jnp.min(jnp.linalg.eigvalsh(jnp.asarray(bank.covariance_matrix)))
    else:
        least = jnp.min(jnp.asarray(bank.variance))
    return jnp.sqrt(jnp.maximum(least, 0)), jnp.sqrt(jnp.max(mixture.variance))


class Noisy(Distribution):
    """One value of a law, plus independent normal noise.

    Args:
        law: of one value; of any batch shape.
        deviation: standard deviation of the noise, above 0.
    """

    arg_constraints = {"deviation": constraints.positive}  # noqa: RUF012
    support = constraints.real
    pytree_data_fields = ("law", "deviation")

    def __init__(
        self, law: Distribution, deviation: float | Float[Array, ""], *, validate_args: bool | None = None
    ) -> None:
        self.law, self.deviation = law, jnp.asarray(deviation)
        super().__init__(batch_shape=law.batch_shape, validate_args=validate_args)

    @validate_sample  # type: ignore[untyped-decorator]
    def log_prob(self, value: Float[Array | np.ndarray, "..."]) -> Float[Array, "..."]:
        """Log density in nats."""
        return _log_prob(self.law, jnp.asarray(value), self.deviation)

    def sample(self, key: jax.Array | None, sample_shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Independent draws."""
        assert key is not None, "numpyro passes a key wherever it samples"
        key_law, key_noise = jax.random.split(key)
        clean = jnp.asarray(self.law.sample(key_law, sample_shape), self.deviation.dtype)
        return clean + self.deviation * jax.random.normal(key_noise, clean.shape, self.deviation.dtype)

    @property
    def mean(self) -> Float[Array, "*batch"]:
        """That of the law."""
        return jnp.asarray(self.law.mean)

    @property
    def variance(self) -> Float[Array, "*batch"]:
        """The sum of both."""
        return jnp.asarray(self.law.variance) + self.deviation**2


# --- banks with noise -----------------------------------------------------------------------------------------


@singledispatch
def _with_noise(bank: Distribution, _deviation: float | Float[Array, ""]) -> Distribution:
    """The memories with noise; dispatched on the bank, or on the law of a feature where features are independent."""
    raise InputError(
        f"family: memories of the kind {type(bank).__name__} have no density in closed form once normal noise is added "
        "(those of gaussian, laplace, bernoulli and uniform boxes do); draw from such a fit directly (Fit.sample, "
        "`probam sample`) or recall without noise (Fit.recall, `probam recall`)"
    )


@_with_noise.register
def _(bank: dist.Normal, deviation: float | jax.Array) -> Distribution:
    spread = jnp.sqrt(jnp.asarray(bank.scale) ** 2 + deviation**2)
    return dist.Normal(bank.loc, spread, validate_args=False).to_event(1)


@_with_noise.register
def _(bank: dist.MultivariateNormal, deviation: float | jax.Array) -> Distribution:
    matrix = jnp.asarray(bank.covariance_matrix)
    wider = matrix + deviation**2 * jnp.eye(matrix.shape[-1], dtype=matrix.dtype)
    return dist.MultivariateNormal(bank.loc, covariance_matrix=wider, validate_args=False)


@_with_noise.register(dist.Laplace)
@_with_noise.register(dist.BernoulliProbs)
@_with_noise.register(dist.BernoulliLogits)
@_with_noise.register(SpinBernoulli)
def _(bank: Distribution, deviation: float | jax.Array) -> Distribution:
    return Noisy(bank, deviation, validate_args=False).to_event(1)


@_with_noise.register
def _(bank: UniformBox, deviation: float | jax.Array) -> Distribution:
    edges = dist.Uniform(bank.loc - bank.reach, bank.loc + bank.reach, validate_args=False)
    return Noisy(edges, deviation, validate_args=False).to_event(1)


# --- densities of one value with noise ------------------------------------------------------------------------


@singledispatch
def _log_prob(law: Distribution, _x: jax.Array, _s: jax.Array) -> jax.Array:
    """Log density of a value of the law with noise of standard deviation s."""
    raise InputError(f"law: a {type(law).__name__} with normal noise has no density in closed form")


@_log_prob.register
def _(law: dist.Laplace, x: jax.Array, s: jax.Array) -> jax.Array:
    r"""With the gap g = x - mu: \(\frac{1}{2b} e^{s^2/2b^2} \sum_\pm e^{\pm g/b}\, \Phi(\mp g/s - s/b)\)."""
    gap, width = x - jnp.asarray(law.loc), jnp.asarray(law.scale)
    above = log_ndtr(gap / s - s / width) - gap / width
    below = log_ndtr(-gap / s - s / width) + gap / width
    return jnp.logaddexp(above, below) + 0.5 * (s / width) ** 2 - jnp.log(2 * width)


@_log_prob.register
def _(law: dist.Uniform, x: jax.Array, s: jax.Array) -> jax.Array:
    r"""\((\Phi(u) - \Phi(l)) / (\text{high} - \text{low})\), in the tail in which the difference keeps its digits."""
    low, high = jnp.asarray(law.low), jnp.asarray(law.high)
    upper, lower = (high - x) / s, (low - x) / s
    right = lower > -upper  # x is left of the middle: both ends are mirrored
    far, near = jnp.where(right, -lower, upper), jnp.where(right, -upper, lower)
    log_far, log_near = log_ndtr(far), log_ndtr(near)
    return log_far + jnp.log1p(-jnp.exp(log_near - log_far)) - jnp.log(high - low)


def _two_values(x: jax.Array, s: jax.Array, logits: jax.Array, low: float) -> jax.Array:
    """Either of two values, ``low`` and 1, with noise."""
    at_low = jax.nn.log_sigmoid(-logits) - 0.5 * ((x - low) / s) ** 2
    at_one = jax.nn.log_sigmoid(logits) - 0.5 * ((x - 1) / s) ** 2
    return jnp.logaddexp(at_low, at_one) - jnp.log(s) - _LOG_ROOT


@_log_prob.register(dist.BernoulliProbs)
@_log_prob.register(dist.BernoulliLogits)
def _(law: dist.BernoulliProbs | dist.BernoulliLogits, x: jax.Array, s: jax.Array) -> jax.Array:
    return _two_values(x, s, jnp.asarray(law.logits), 0.0)


@_log_prob.register
def _(law: SpinBernoulli, x: jax.Array, s: jax.Array) -> jax.Array:
    return _two_values(x, s, jnp.asarray(law.logits), -1.0)
