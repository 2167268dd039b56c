r"""Count vectors: a multinomial whose total is Poisson.

.. math::
    n \sim \mathrm{Poisson}(\lambda), \quad c \mid n \sim \mathrm{Multinomial}(n, m)
    \iff c_i \sim \mathrm{Poisson}(\lambda m_i) \text{ independently}

NumPyro's ``Multinomial`` needs a known total, but each row of a table has its own. With a distribution for the total
the density is defined on all count vectors, and new rows can be drawn. If all memories share :math:`\lambda`, the total
carries no information about the memory of a row: responsibilities are those of the multinomials.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln
from jax.typing import ArrayLike
from jaxtyping import Array, Float
from numpyro.distributions import Distribution, constraints
from numpyro.distributions.util import validate_sample

__all__ = ["MultinomialCounts"]


class MultinomialCounts(Distribution):
    """Counts in D categories with a Poisson total.

    Args:
        probs: (..., D) probabilities of the categories, which sum to one.
        total: expected total of a row, above 0; broadcasts with the batch shape of ``probs``.
    """

    arg_constraints = {"probs": constraints.simplex, "total": constraints.positive}  # noqa: RUF012
    support = constraints.independent(constraints.nonnegative_integer, 1)

    def __init__(
        self,
        probs: Float[ArrayLike, "*batch D"],
        total: Float[ArrayLike, "*#batch"],
        *,
        validate_args: bool | None = None,
    ) -> None:
        shape = jnp.shape(probs)
        self.probs = probs
        self.total = jnp.broadcast_to(jnp.asarray(total), shape[:-1])
        super().__init__(batch_shape=shape[:-1], event_shape=shape[-1:], validate_args=validate_args)

    @property
    def log_rates(self) -> Float[Array, "*batch D"]:
        """Logs of the expected counts; a probability of 0 is replaced by the smallest positive number."""
        probs = jnp.asarray(self.probs)
        return jnp.log(jnp.maximum(probs, np.finfo(probs.dtype).tiny)) + jnp.log(self.total)[..., None]

    @validate_sample  # type: ignore[untyped-decorator]
    def log_prob(self, value: Float[ArrayLike, "... D"]) -> Float[Array, "..."]:
        """Log probability in nats: sum_i [c_i log(lambda m_i) - log c_i!] - lambda."""
        counts = jnp.asarray(value, jnp.result_type(value, float))
        return jnp.sum(counts * self.log_rates - gammaln(counts + 1), axis=-1) - self.total

    def sample(self, key: jax.Array | None, sample_shape: tuple[int, ...] = ()) -> Float[Array, "... D"]:
        """Independent count vectors, in the dtype of the probabilities."""
        assert key is not None, "numpyro passes a key wherever it samples"
        mean = self.mean
        return jax.random.poisson(key, mean, (*sample_shape, *mean.shape)).astype(mean.dtype)

    @property
    def mean(self) -> Float[Array, "*batch D"]:
        """Expected counts."""
        return jnp.asarray(self.probs) * self.total[..., None]

    @property
    def variance(self) -> Float[Array, "*batch D"]:
        """Variances, equal to the means."""
        return self.mean
