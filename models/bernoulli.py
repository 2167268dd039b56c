r"""Bernoulli memories: binary features that are independent within a memory.

.. math:: p(x \mid p_k) = \prod_i p_{ki}^{b_i} (1 - p_{ki})^{1 - b_i}

======== ============================ ============================== =======================
values   data                         memory (its mean)              site
======== ============================ ============================== =======================
``01``   x = b in {0, 1}              :math:`p_k`                    ``prob`` (K, D): P(x = 1)
``spin`` x = 2 b - 1 in {-1, +1}      :math:`2 p_k - 1`              ``prob`` (K, D): P(x = 1)
======== ============================ ============================== =======================

Default prior: a Beta for each probability with the weight of two data, one of them a coin toss and one of them at
the feature's own frequency m: Beta(1/2 + m, 3/2 - m). Columns that never change are welcome. The data are taken as
they are: there is no centring or scaling of bits.
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

from probam.conjugacy.mean_field import Integrated, MeanField
from probam.conjugacy.pairs import BetaBernoulli, ConjugatePair
from probam.distributions.bits import SpinBernoulli
from probam.distributions.built import built
from probam.distributions.supports import innermost
from probam.errors import InputError, RowError
from probam.family import Moments, Params, Prior, conjugate, register
from probam.family.capabilities import AdditiveMStep, Conditionals, Conjugacy, ExpectedSums, MeanFieldFactors

__all__ = ["VALUES", "Bernoulli"]

VALUES = {"01": (0.0, 1.0), "spin": (-1.0, 1.0)}
"""What the two values of a feature are."""

_RAREST = 1e-6
"""Smallest probability of either value that maximum likelihood may reach.

Without it a feature that is the same in all of a memory's data forbids the other value for ever. It is part of the
estimator (and not needed under a prior)."""


def _between_fair_and(frequency: Float[Array, " D"]) -> tuple[Distribution, ...]:
    """Priors of probabilities, as two data would leave them: half a one, half a zero and one of the frequency."""
    return (dist.Beta(0.5 + frequency, 1.5 - frequency, validate_args=False).to_event(1),)


@register
@dataclass(frozen=True)
class Bernoulli(AdditiveMStep, Conditionals, Conjugacy, MeanFieldFactors, ExpectedSums):
    """Binary memories on {0, 1} or {-1, +1} (see the module)."""

    values: str = "01"

    name: ClassVar[str] = "bernoulli"
    location: ClassVar[str] = "prob"
    as_they_are: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.values not in VALUES:
            raise InputError(f"values: expected one of {', '.join(VALUES)}; got {self.values!r}")

    @property
    def missing(self) -> str:
        """Features are independent within a memory."""
        return "entry"

    def check_support(self, x: np.ndarray, columns: Sequence[str]) -> None:
        """Refuse any value but the two."""
        low, high = VALUES[self.values]
        bad = np.argwhere((x != low) & (x != high) & ~np.isnan(x))
        if not len(bad):
            return
        row, column = bad[0]
        other = next(name for name in VALUES if name != self.values)
        if np.isin(x[~np.isnan(x)], VALUES[other]).all():
            advice = f"use family 'bernoulli,values={other}'"
        else:
            advice = "turn the data into bits first"
        raise RowError(
            f"data: {len(bad)} values are neither {low:g} nor {high:g}, the first in ",
            row,
            f", column {columns[column]!r}: {x[row, column]:g}; {advice}",
        )

    def frame(self, x: Float[Array, "N D"]) -> tuple[Float[Array, " D"], Float[Array, " D"]]:
        """Bits as they are: squared distances count the features that differ."""
        return jnp.zeros_like(x[0]), jnp.ones_like(x[0])

    def prior(self, x: np.ndarray) -> dict[str, Distribution]:
        """Beta priors between a fair coin and the frequencies of the data."""
        low, high = VALUES[self.values]
        frequency = ((np.nanmean(x, axis=0) - low) / (high - low)).astype(x.dtype)
        (prob,) = built(_between_fair_and, frequency)
        return {"prob": prob}

    def bank(self, params: Mapping[str, jax.Array]) -> Distribution:
        """The memories as ``Bernoulli(...).to_event(1)`` or ``SpinBernoulli(...).to_event(1)``."""
        bits = dist.BernoulliProbs(params["prob"], validate_args=False)
        if self.values == "spin":
            return SpinBernoulli(bits.logits, validate_args=False).to_event(1)
        return bits.to_event(1)

    def memories(self, params: Mapping[str, jax.Array]) -> Float[Array, "K D"]:
        """The mean of each memory, between the two values."""
        low, high = VALUES[self.values]
        return low + (high - low) * params["prob"]

    def statistics(self, x: Float[Array, "N D"]) -> Float[Array, "N D"]:
        """The data themselves."""
        return x

    def expected_sums(
        self, params: Params, x: Float[Array, "N D"], responsibilities: Float[Array, "N K"], origin: Float[Array, " D"]
    ) -> Float[Array, "K D"]:
        """Sums of the data, with a memory's mean for what is missing."""
        known = ~jnp.isnan(x)
        seen = jnp.matmul(responsibilities.T, jnp.where(known, x - origin, 0), precision="highest")
        lacking = jnp.matmul(responsibilities.T, 1 - known.astype(x.dtype), precision="highest")
        return seen + lacking * (self.memories(params) - origin)

    def maximize(self, moments: Moments, params: Params, prior: Prior | None) -> Params:
        """Frequencies; with a Beta(a, b) prior the mode in log odds, (a + ones) / (a + b + data)."""
        low, high = VALUES[self.values]
        counts = moments.counts[:, None]
        total = moments.sums + counts * moments.origin
        ones = jnp.clip((total - low * counts) / (high - low), 0, counts)
        if prior is None:
            frequency = jnp.clip(ones / jnp.where(counts > 0, counts, 1), _RAREST, 1 - _RAREST)
            return {"prob": jnp.where(counts > 0, frequency, params["prob"])}
        beta = conjugate(prior, "prob", dist.Beta)
        a, b = beta.concentration1, beta.concentration0
        return {"prob": (a + ones) / (a + b + counts)}

    def can_draw(self, prior: Prior) -> bool:
        """Under Beta priors."""
        return isinstance(innermost(prior["prob"]), dist.Beta)

    def draw(self, key: jax.Array, moments: Moments, params: Params, prior: Prior) -> Params:
        """Beta draws, kept off 0 and 1 by one rounding."""
        low, high = VALUES[self.values]
        pair = self.conjugate(params, prior)
        total = moments.sums + moments.counts[:, None] * moments.origin
        ones = jnp.clip((total - low * moments.counts[:, None]) / (high - low), 0, moments.counts[:, None])
        assert pair is not None, "checked by can_draw"
        return self.integrated_sites(pair.draw(key, moments.counts, ones))

    def integrated_sites(self, drawn: Params) -> Params:
        """Off 0 and 1 by one rounding."""
        limits = np.finfo(drawn["prob"].dtype)
        return {"prob": jnp.clip(drawn["prob"], limits.tiny, 1 - limits.epsneg)}

    def mean_field(self, prior: Prior) -> MeanField | None:
        """The posterior of each probability."""
        pair = self.conjugate({}, prior)
        return None if pair is None else Integrated(pair)

    @override
    def conjugate(self, params: Params, prior: Prior) -> ConjugatePair | None:
        """All parameters."""
        if not self.can_draw(prior):
            return None
        beta, num_features = conjugate(prior, "prob", dist.Beta), prior["prob"].event_shape
        a, b = (jnp.broadcast_to(shape, num_features) for shape in (beta.concentration1, beta.concentration0))
        return BetaBernoulli(a, b, VALUES[self.values])
