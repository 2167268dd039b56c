r"""Dirichlet memories: compositions, rows of positive parts that sum to one.

.. math::
    p(x \mid \alpha_k) = \frac{\Gamma(A_k)}{\prod_i \Gamma(\alpha_{ki})} \prod_i x_i^{\alpha_{ki} - 1},
    \qquad A_k = \sum_i \alpha_{ki}

Site: ``concentration`` (K, D). The memory is the mean :math:`\alpha_k / A_k`; the larger :math:`A_k`, the closer the
data lie to it. Default prior: an exponential law for each :math:`\alpha_i` (so that directions are uniform on the
simplex where the data's mean is), scaled so that a memory is expected to be four times as concentrated as all data
together; with respect to :math:`A_k` it weighs as much as two data. The data are taken as they are: there is no
centring or scaling of compositions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.scipy.special import digamma, gammaln, polygamma
from jaxtyping import Array, Float
from numpyro.distributions import Distribution

from probam.errors import InputError, RowError
from probam.family import Moments, Params, Prior, conjugate, register
from probam.family.capabilities import AdditiveMStep

__all__ = ["DirichletMemory"]

_CONCENTRATED = 4.0
"""Prior guess of a memory's 1 + A as a multiple of the data's."""

_LARGEST = 1e6
"""Largest total concentration that maximum likelihood may reach; without it the likelihood of a memory on one datum
is unbounded. It is part of the estimator (and not needed under a prior)."""

_SMALLEST = 1e-6
"""Smallest concentration that an M-step may reach."""

_NEWTON_STEPS = 30
_LONGEST_STEP = 3.0
"""Longest move of a log concentration in one Newton step."""


@register
@dataclass(frozen=True)
class DirichletMemory(AdditiveMStep):
    """Compositions of D parts (see the module)."""

    name: ClassVar[str] = "dirichlet"
    location: ClassVar[str] = "concentration"
    as_they_are: ClassVar[bool] = True

    def check_support(self, x: np.ndarray, columns: Sequence[str]) -> None:
        """Refuse rows that do not sum to one, parts that are not positive, and a single column."""
        if x.shape[1] < 2:
            raise InputError(f"data: compositions need at least 2 columns (parts); got 1 ({columns[0]!r})")
        bad = np.argwhere(x <= 0)
        if len(bad):
            row, column = bad[0]
            raise RowError(
                f"data: {len(bad)} parts are not positive, the first in ",
                row,
                f", column {columns[column]!r}: {x[row, column]:g}; expected parts above 0: replace zeros by a small "
                "part and divide each row by its sum, or give counts to family 'multinomial'",
            )
        total = x.sum(axis=1)
        off = np.flatnonzero(np.abs(total - 1) > (1e-3 if x.dtype == np.float32 else 1e-6))
        if off.size:
            raise RowError(
                f"data: {off.size} of {len(x)} rows do not sum to 1, first ",
                off[0],
                f", whose sum is {total[off[0]]:.6g}; divide each row by its sum",
            )

    def frame(self, x: Float[Array, "N D"]) -> tuple[Float[Array, " D"], Float[Array, " D"]]:
        """Parts as they are, each in units of its spread."""
        spread = jnp.std(x, axis=0)
        return jnp.zeros_like(spread), jnp.where(spread > 0, spread, 1)

    def prior(self, x: np.ndarray) -> dict[str, Distribution]:
        """Exponential priors around a few times the concentration of all data together."""
        mean = x.mean(axis=0, dtype=np.float64)
        variance = max(float(x.var(axis=0, dtype=np.float64).sum()), 1e-6)
        overall = float(np.sum(mean * (1 - mean))) / variance  # 1 + A of one Dirichlet with these moments
        expected = np.maximum(_CONCENTRATED * overall * mean, 10 * _SMALLEST)
        rate = (1 / expected).astype(x.dtype)
        return {"concentration": dist.Gamma(np.ones_like(rate), rate).to_event(1)}

    def bank(self, params: Mapping[str, jax.Array]) -> Distribution:
        """The memories as one NumPyro ``Dirichlet``."""
        return dist.Dirichlet(params["concentration"], validate_args=False)

    def memories(self, params: Mapping[str, jax.Array]) -> Float[Array, "K D"]:
        """The mean composition of each memory."""
        concentration = params["concentration"]
        return concentration / jnp.sum(concentration, axis=-1, keepdims=True)

    def deterministics(self, params: Mapping[str, jax.Array]) -> Params:
        """``mean``: the mean composition of each memory."""
        return {"mean": self.memories(params)}

    def statistics(self, x: Float[Array, "N D"]) -> Float[Array, "N D"]:
        """Logs of the parts (the origin of the frame is zero)."""
        return jnp.log(x)

    def maximize(self, moments: Moments, params: Params, prior: Prior | None) -> Params:
        r"""The concentrations that maximise the expected log joint, by Newton's method from the previous ones.

        With n data and sums S of their logs, and a Gamma(a, b) prior seen in log concentrations, the target

        .. math:: n \Bigl[\log\Gamma(A) - \sum_i \log\Gamma(\alpha_i)\Bigr] + \sum_i \alpha_i S_i
            + \sum_i [a \log \alpha_i - b_i \alpha_i]

        is concave in alpha, and its Hessian is diagonal plus rank one (Minka 2000, Estimating a Dirichlet
        distribution, Sec. 1): a step costs O(D). Steps are taken in log alpha and shortened until they rise.
        """
        counts, sums = moments.counts[:, None], moments.sums
        shape, rate = jnp.zeros((), sums.dtype), jnp.zeros((), sums.dtype)
        if prior is not None:
            gamma = conjugate(prior, "concentration", dist.Gamma)
            shape, rate = gamma.concentration, gamma.rate
        pull = sums - rate  # what multiplies alpha

        def target(alpha: jax.Array) -> jax.Array:
            likelihood = counts[:, 0] * (gammaln(jnp.sum(alpha, -1)) - jnp.sum(gammaln(alpha), -1))
            return likelihood + jnp.sum(pull * alpha + shape * jnp.log(alpha), axis=-1)

        def newton(alpha: jax.Array) -> tuple[jax.Array, jax.Array]:
            """Newton's step in log alpha, no longer than allowed, and its slope."""
            total = jnp.sum(alpha, axis=-1, keepdims=True)
            force = counts * (digamma(total) - digamma(alpha)) + pull + shape / alpha
            stiffness = counts * polygamma(1, alpha) + shape / alpha**2
            stiffness = jnp.where(stiffness > 0, stiffness, 1)  # an empty memory without a prior feels no force
            coupling = counts * polygamma(1, total)
            left = jnp.maximum(1 - coupling * jnp.sum(1 / stiffness, -1, keepdims=True), np.finfo(alpha.dtype).eps)
            common = coupling * jnp.sum(force / stiffness, -1, keepdims=True) / left
            step = (force + common) / (stiffness * alpha)
            longest = jnp.max(jnp.abs(step), axis=-1, keepdims=True)
            step = step * jnp.minimum(1, _LONGEST_STEP / jnp.where(longest > 0, longest, 1))
            return step, jnp.max(jnp.abs(step), axis=-1)

        lengths = jnp.asarray([1.0, 0.25, 0.05, 0.0], sums.dtype)[:, None, None]
        tolerance = 8 * float(np.finfo(sums.dtype).eps) ** 0.5

        def unfinished(state: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
            return (state[0] < _NEWTON_STEPS) & jnp.any(state[2] > tolerance)

        def advance(state: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
            number, alpha, _ = state
            step, size = newton(alpha)
            tried = jnp.maximum(alpha * jnp.exp(lengths * step), _SMALLEST)
            # near the maximum the target is flat to its last digits, and Newton's own step is the best there is
            height = jnp.where(size <= 1e-3, -jnp.arange(4.0)[:, None], jax.vmap(target)(tried))
            best = jnp.argmax(height, axis=0)
            alpha = jnp.take_along_axis(tried, best[None, :, None], axis=0)[0]
            return number + 1, alpha, size

        empty = counts <= 0
        begun = jnp.where(empty & (prior is None), 1, jnp.maximum(params["concentration"], _SMALLEST))
        state = (jnp.zeros((), jnp.int32), begun, jnp.full(len(begun), jnp.inf, sums.dtype))
        alpha = jax.lax.while_loop(unfinished, advance, state)[1]
        if prior is None:
            alpha = alpha * jnp.minimum(1, _LARGEST / jnp.sum(alpha, axis=-1, keepdims=True))
            alpha = jnp.where(empty, params["concentration"], alpha)
        return {"concentration": alpha}
