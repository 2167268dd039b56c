r"""Spins: features that are -1 or +1.

.. math:: P(s = +1) = p, \qquad P(s = -1) = 1 - p

NumPyro's ``Bernoulli`` is the same distribution on {0, 1}; this one is on {-1, +1} and has the mean 2 p - 1.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float
from numpyro.distributions import Distribution, constraints
from numpyro.distributions.util import validate_sample

__all__ = ["SpinBernoulli", "spin"]


class _Spin(constraints.ParameterFreeConstraint[Any]):
    """The two values -1 and +1."""

    is_discrete = True
    event_dim = 0

    def __call__(self, x: ArrayLike) -> Array:
        return jnp.abs(jnp.asarray(x)) == 1

    def feasible_like(self, prototype: ArrayLike) -> Array:
        """Spins that are all up."""
        return jnp.ones_like(prototype)


spin = _Spin()
"""Constraint of a value that is -1 or +1."""


class SpinBernoulli(Distribution):
    r"""A spin that is up (+1) with probability p.

    .. math:: \log P(s) = \tfrac12 s \ell - \log 2\cosh(\tfrac12 \ell), \qquad \ell = \log \frac{p}{1 - p}

    >>> float(SpinBernoulli(0.0).log_prob(-1.0)) == -float(jnp.log(2.0))
    True

    Args:
        logits: log odds of +1, twice the field that acts on the spin; any shape, which is the batch shape.
    """

    arg_constraints = {"logits": constraints.real}  # noqa: RUF012
    support = spin

    def __init__(self, logits: Float[ArrayLike, "*batch"], *, validate_args: bool | None = None) -> None:
        self.logits = logits
        super().__init__(batch_shape=jnp.shape(logits), validate_args=validate_args)

    @property
    def fields(self) -> Float[Array, "*batch"]:
        """Half the log odds."""
        return 0.5 * jnp.asarray(self.logits)

    def sample(self, key: jax.Array | None, sample_shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Independent spins, in the dtype of the log odds."""
        assert key is not None, "numpyro passes a key wherever it samples"
        logits = jnp.asarray(self.logits)
        up = jax.random.bernoulli(key, jax.nn.sigmoid(logits), (*sample_shape, *self.batch_shape))
        return jnp.where(up, 1, -1).astype(logits.dtype)

    @validate_sample  # type: ignore[untyped-decorator]
    def log_prob(self, value: Float[ArrayLike, "..."]) -> Float[Array, "..."]:
        """Log probability in nats; linear between its values at -1 and +1."""
        return jnp.asarray(value) * self.fields - jnp.logaddexp(self.fields, -self.fields)

    def cdf(self, value: Float[ArrayLike, "..."]) -> Float[Array, "..."]:
        """Probability of at most ``value``: 0 below -1, 1 - p below +1, 1 from there."""
        down = jax.nn.sigmoid(-jnp.asarray(self.logits))
        return jnp.where(jnp.asarray(value) < -1, 0, jnp.where(jnp.asarray(value) < 1, down, 1))

    @property
    def mean(self) -> Float[Array, "*batch"]:
        """2 p - 1."""
        return jnp.tanh(self.fields)

    @property
    def variance(self) -> Float[Array, "*batch"]:
        """4 p (1 - p)."""
        return 4 * jax.nn.sigmoid(self.logits) * jax.nn.sigmoid(-jnp.asarray(self.logits))
