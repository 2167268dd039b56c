r"""Lévy distribution whose log density is -inf, not NaN, at and below its location."""

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.scipy.special import erfc
from jaxtyping import Array, ArrayLike, Float
from numpyro.distributions import constraints
from numpyro.distributions.util import validate_sample

__all__ = ["Levy"]


class Levy(dist.Levy):
    r"""NumPyro's Lévy distribution as a density on the whole line, for mixtures with several locations.

    .. math:: p(x) = \sqrt{\frac{c}{2\pi}} \frac{e^{-c / (2 (x - \mu))}}{(x - \mu)^{3/2}}, \qquad x > \mu

    ``support`` is the whole line; for x <= mu the log density is -inf, with zero derivative. The mode is mu + c / 3.
    """

    support = constraints.real

    @validate_sample  # type: ignore[untyped-decorator]
    def log_prob(self, value: Float[Array | np.ndarray, "..."]) -> Float[Array, "..."]:
        """Log density in nats."""
        gap = value - self.loc
        above = gap > 0
        safe = jnp.where(above, gap, 1)
        inside = 0.5 * jnp.log(self.scale / (2 * jnp.pi)) - 0.5 * self.scale / safe - 1.5 * jnp.log(safe)
        log_density: Array = jnp.where(above, inside, -jnp.inf)
        return log_density

    def cdf(self, value: Float[ArrayLike, "..."]) -> Float[Array, "..."]:
        r"""\(\operatorname{erfc} \sqrt{c / (2 (x - \mu))}\), 0 at and below the location."""
        gap = jnp.asarray(value) - self.loc
        above = gap > 0
        return jnp.where(above, erfc(jnp.sqrt(0.5 * self.scale / jnp.where(above, gap, 1))), 0)
