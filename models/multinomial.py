r"""Multinomial memories: rows of counts, each memory with its own shares of the categories.

.. math::
    n \sim \mathrm{Poisson}(\lambda), \qquad c \mid n, k \sim \mathrm{Multinomial}(n, m_k)

Sites: ``prob`` (K, D), the shares :math:`m_k`, and ``total`` (), the expected total of a row, which all memories share:
how many counts a row holds says nothing about its memory, so responsibilities are those of the multinomials. The law
of the total makes the density one over all count vectors and lets new rows be drawn.

Default priors: Dirichlet(a) on the shares, where a is half flat and half the data's own shares f,
:math:`a_i = \tfrac12 (1 + D f_i)` (D counts in all); Gamma with shape 2 and the data's mean on the total. Columns
without a count are welcome. The data are taken as they are: there is no centring or scaling of counts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Float
from numpyro.distributions import Distribution
from typing_extensions import override

from probam.conjugacy.mean_field import Counted, MeanField
from probam.conjugacy.pairs import ConjugatePair, DirichletMultinomial
from probam.distributions.counts import MultinomialCounts
from probam.distributions.supports import innermost
from probam.errors import InputError, RowError
from probam.family import Moments, Params, Prior, conjugate, register
from probam.family.capabilities import AdditiveMStep, Conditionals, Conjugacy, MeanFieldFactors

__all__ = ["Multinomial"]

_RAREST = 1e-6
"""Smallest share, relative to equal ones, that maximum likelihood may reach.

Without it a category that is empty in all of a memory's data is forbidden for ever. It is part of the estimator (and
not needed under a prior)."""

_TOTAL_SHAPE = 2.0
"""Shape of the Gamma prior on the expected total of a row."""


@register
@dataclass(frozen=True)
class Multinomial(AdditiveMStep, Conditionals, Conjugacy, MeanFieldFactors):
    """Counts in D categories (see the module)."""

    name: ClassVar[str] = "multinomial"
    location: ClassVar[str] = "prob"
    as_they_are: ClassVar[bool] = True
    no_missing: ClassVar[str] = (
        "a missing count leaves the row's total unknown, and memories are compared by shares of the total"
    )

    @property
    def shared(self) -> frozenset[str]:
        """One expected total for all memories."""
        return frozenset({"total"})

    def check_support(self, x: np.ndarray, columns: Sequence[str]) -> None:
        """Refuse negative and broken counts, and a single column."""
        if x.shape[1] < 2:
            raise InputError(f"data: counts need at least 2 columns (categories); got 1 ({columns[0]!r})")
        bad = np.argwhere((x < 0) | (np.abs(x - np.round(x)) > 0))  # a missing entry (NaN) is not bad
        if len(bad):
            row, column = bad[0]
            raise RowError(
                f"data: {len(bad)} values are not counts, the first in ",
                row,
                f", column {columns[column]!r}: {x[row, column]:g}; expected whole numbers from 0 up (shares that sum "
                "to one are for family 'dirichlet')",
            )

    def check_data(self, x: np.ndarray, columns: Sequence[str]) -> None:
        """Refuse data without a single count."""
        self.check_support(x, columns)
        if not x.any():
            raise InputError("data: all counts are 0; expected at least one above")

    def frame(self, x: Float[Array, "N D"]) -> tuple[Float[Array, " D"], Float[Array, " D"]]:
        """Counts in units of the root of their mean, as in the chi-square distance."""
        mean = jnp.mean(x, axis=0)
        return jnp.zeros_like(mean), jnp.sqrt(jnp.where(mean > 0, mean, 1))

    def prior(self, x: np.ndarray) -> dict[str, Distribution]:
        """Dirichlet priors between equal shares and those of the data; Gamma on the total."""
        per_row = float(x.sum()) / len(x)
        share = (x.mean(axis=0) / per_row).astype(x.dtype)
        shape = x.dtype.type(_TOTAL_SHAPE)
        return {
            "prob": dist.Dirichlet(0.5 + 0.5 * x.shape[1] * share),
            "total": dist.Gamma(shape, shape / x.dtype.type(per_row)),
        }

    def bank(self, params: Mapping[str, jax.Array]) -> Distribution:
        """The memories as one :class:`MultinomialCounts`."""
        return MultinomialCounts(params["prob"], params["total"], validate_args=False)

    def memories(self, params: Mapping[str, jax.Array]) -> Float[Array, "K D"]:
        """Expected counts of each memory."""
        return params["total"] * params["prob"]

    def statistics(self, x: Float[Array, "N D"]) -> Float[Array, "N D"]:
        """The counts themselves."""
        return x

    def maximize(self, moments: Moments, params: Params, prior: Prior | None) -> Params:
        """Shares of the counts; with a Dirichlet(a) prior the mode in log ratios, (a + counts) / sum."""
        rows = moments.counts[:, None]
        counts = jnp.maximum(moments.sums + rows * moments.origin, 0)
        num_counts, num_rows = jnp.sum(counts), jnp.sum(rows)
        if prior is None:
            each = jnp.sum(counts, axis=-1, keepdims=True)
            share = jnp.maximum(counts / jnp.where(each > 0, each, 1), _RAREST / counts.shape[-1])
            share = jnp.where(each > 0, share / jnp.sum(share, axis=-1, keepdims=True), params["prob"])
            return {"prob": share, "total": num_counts / num_rows}
        dirichlet, gamma = conjugate(prior, "prob", dist.Dirichlet), conjugate(prior, "total", dist.Gamma)
        share = counts + dirichlet.concentration
        return {
            "prob": share / jnp.sum(share, axis=-1, keepdims=True),
            "total": (num_counts + gamma.concentration) / (num_rows + gamma.rate),
        }

    def can_draw(self, prior: Prior) -> bool:
        """Under a Dirichlet prior on the shares and a Gamma prior on the total."""
        return isinstance(innermost(prior["prob"]), dist.Dirichlet) and isinstance(
            innermost(prior["total"]), dist.Gamma
        )

    def draw(self, key: jax.Array, moments: Moments, params: Params, prior: Prior) -> Params:
        """Dirichlet shares, kept off 0 by one rounding, and a Gamma total: independent given the labels."""
        key_prob, key_total = jax.random.split(key)
        rows = moments.counts[:, None]
        counts = jnp.maximum(moments.sums + rows * moments.origin, 0)
        pair, gamma = self.conjugate(params, prior), conjugate(prior, "total", dist.Gamma)
        assert pair is not None, "checked by can_draw"
        drawn = pair.draw(key_prob, moments.counts, counts)
        shape, rate = gamma.concentration + jnp.sum(counts), gamma.rate + jnp.sum(rows)
        return self.integrated_sites(drawn | {"total": jax.random.gamma(key_total, shape, dtype=counts.dtype) / rate})

    def integrated_sites(self, drawn: Params) -> Params:
        """Off 0 by one rounding."""
        return drawn | {"prob": jnp.maximum(drawn["prob"], np.finfo(drawn["prob"].dtype).tiny)}

    def mean_field(self, prior: Prior) -> MeanField | None:
        """The posterior of each memory's shares, and that of the total."""
        pair = self.conjugate({}, prior)
        if pair is None:
            return None
        gamma = conjugate(prior, "total", dist.Gamma)
        return Counted(pair, jnp.asarray(gamma.concentration), jnp.asarray(gamma.rate))

    @override
    def conjugate(self, params: Params, prior: Prior) -> ConjugatePair | None:
        """The shares; given them the total knows nothing of the labels."""
        if not self.can_draw(prior):
            return None
        return DirichletMultinomial(jnp.asarray(conjugate(prior, "prob", dist.Dirichlet).concentration))
