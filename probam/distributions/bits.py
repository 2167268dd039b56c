r"""Spins: features that are -1 or +1.

.. math:: P(s = +1) = p, \qquad P(s = -1) = 1 - p

NumPyro has the same law on {0, 1} (``Bernoulli``); this is the one on {-1, +1}, of mean 2 p - 1.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.special import xlog1py, xlogy
from jax.typing import ArrayLike
from jaxtyping import Array, Float
from numpyro.distributions import Distribution, constraints
from numpyro.distributions.util import clamp_probs, validate_sample

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
    """A spin that is up (+1) with probability ``probs`` and down (-1) otherwise.

    Args:
        probs: probability of +1, in [0, 1]; logs of 0 are those of the smallest number, as in NumPyro's Bernoulli.
    """

    arg_constraints = {"probs": constraints.unit_interval}  # noqa: RUF012
    support = spin

    def __init__(self, probs: Float[ArrayLike, "*batch"], *, validate_args: bool | None = None) -> None:
        self.probs = probs
        super().__init__(batch_shape=jnp.shape(probs), validate_args=validate_args)

    def sample(self, key: jax.Array | None, sample_shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Independent spins, in the dtype of the probabilities."""
        assert key is not None, "numpyro passes a key wherever it samples"
        probs = jnp.asarray(self.probs)
        up = jax.random.bernoulli(key, probs, (*sample_shape, *self.batch_shape))
        return jnp.where(up, 1, -1).astype(probs.dtype)

    @validate_sample  # type: ignore[untyped-decorator]
    def log_prob(self, value: Float[ArrayLike, "..."], intermediates: object = None) -> Float[Array, "..."]:  # noqa: ARG002
        """Log probability in nats; between -1 and +1 the straight line through both."""
        probs = clamp_probs(self.probs)
        up = 0.5 * (1 + jnp.asarray(value, jnp.result_type(value, float)))
        return xlogy(up, probs) + xlog1py(1 - up, -probs)

    @property
    def logits(self) -> Float[Array, "*batch"]:
        """Log odds of +1."""
        probs = clamp_probs(self.probs)
        return jnp.log(probs) - jnp.log1p(-probs)

    @property
    def mean(self) -> Float[Array, "*batch"]:
        """2 p - 1."""
        return 2 * jnp.asarray(self.probs) - 1

    @property
    def variance(self) -> Float[Array, "*batch"]:
        """4 p (1 - p)."""
        probs = jnp.asarray(self.probs)
        return 4 * probs * (1 - probs)
