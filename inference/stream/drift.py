r"""Memories that drift or fade between their uses: the posterior of a memory after an age without data.

=================== ====================================================== ==================================
motion              between one datum and the next                         pairs
=================== ====================================================== ==================================
:class:`RandomWalk` :math:`\mu' = \mu + N(0, q)`                           Gaussian of known variance
:class:`Diffusion`  :math:`\mu' - m = \sqrt{1-b}(\mu - m) + \sqrt b N(0, S_0)`  Gaussian of known variance
:class:`Forgetting` the data's statistics lose a share                     any
=================== ====================================================== ==================================

The first two are linear Gaussian, so a memory's posterior is that of a Kalman filter which predicts over the age at
once and updates with each datum that the memory takes: K memories cost no more than K D each datum. A random walk has
no stationary law: the longer a memory was not used, the wider it is. The diffusion keeps the prior N(m, S_0) invariant
(CLAIMS D5; it acts on the difference to the prior mean): a memory that nobody uses returns to the prior. So it does
under forgetting, which raises the likelihood of a datum to the power of :math:`2^{-a/h}` at age a: counts and sums fall
together, and the prior (no data) stays as it is.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
from typing_extensions import override

from probam.conjugacy.normal import NormalKnownVariance
from probam.conjugacy.pairs import ConjugatePair
from probam.errors import InputError
from probam.inference.stream.predictive import known_variance, log_predictive, prepare
from probam.pytrees import pytree

__all__ = ["Diffusion", "Forgetting", "Motion", "Place", "RandomWalk", "check_motion"]


@runtime_checkable
class Motion(Protocol):
    """How the posterior of a memory changes with its age; the rows of K memories are a pytree that leads with K."""

    def empty(self, pair: Any, totals: Float[Array, "K S"]) -> Any:
        """Rows of memories without data: the prior. Of ``totals`` only shape and dtype matter."""

    def ahead(self, pair: Any, rows: Any, ages: Int[Array, " K"]) -> Any:
        """The rows after so many data that the memories did not take."""

    def join(self, pair: Any, rows: Any, statistics: Float[Array, " F"]) -> Any:
        """The rows after a datum came to each."""

    def log_predictive(
        self, pair: Any, rows: Any, x: Float[Array, " D"], statistics: Float[Array, " F"]
    ) -> Float[Array, " K"]:
        """Predictive log density of a datum under each memory, less the pair's ``log_base`` (nats)."""

    def as_pair(self, pair: Any, rows: Any) -> tuple[Any, Float[Array, " K"], Float[Array, "K F"]]:
        """A pair, counts and sums of which the rows are the posterior."""


def check_motion(motion: Motion, pair: ConjugatePair) -> None:
    """Raise :class:`probam.errors.InputError` where memories of this pair cannot have this motion."""
    if isinstance(motion, Forgetting):
        return
    name = "drift" if isinstance(motion, RandomWalk) else "forgetting"
    if not isinstance(pair, NormalKnownVariance):
        raise InputError(
            f"{name}: memories move exactly where they are Gaussians of known variance (covariance='isotropic', or "
            "known precisions); use forget with forgetting='statistics' here"
        )
    if isinstance(motion, RandomWalk) and pair.basis is not None:
        raise InputError(f"{name}: known precisions must be diagonal for a random walk; use covariance='isotropic'")


class Place(NamedTuple):
    """Posterior of each memory's location at its last use, in the pair's basis, less its loc."""

    mean: Float[Array, "K D"]
    variance: Float[Array, "K D"]


class _Gaussian(Motion):
    """What both Gaussian motions share: the update of a Kalman filter and its predictive density."""

    def empty(self, pair: NormalKnownVariance, totals: Float[Array, "K S"]) -> Place:
        """The prior."""
        mean = jnp.zeros((len(totals), len(pair.loc)), totals.dtype)
        return Place(mean, jnp.broadcast_to(known_variance(pair)[0], mean.shape).astype(totals.dtype))

    def join(self, pair: NormalKnownVariance, rows: Place, statistics: Float[Array, " F"]) -> Place:
        """Gain v / (v + sigma^2)."""
        _, noise, basis, _ = known_variance(pair)
        off = statistics[: len(pair.loc)]
        place = off if basis is None else jnp.sum(basis * off, axis=-1)
        gain = rows.variance / (rows.variance + noise)
        return Place(rows.mean + gain * (place - rows.mean), gain * noise)

    def log_predictive(
        self, pair: NormalKnownVariance, rows: Place, x: Float[Array, " D"], statistics: Float[Array, " F"]
    ) -> Float[Array, " K"]:
        """Gaussian of the variance of a datum and of the memory's place."""
        _, noise, basis, log_volume = known_variance(pair)
        off = statistics[: len(x)]
        place = off if basis is None else jnp.sum(basis * off, axis=-1)
        variance = rows.variance + noise
        terms = (place - rows.mean) ** 2 / variance + jnp.log(2 * jnp.pi * variance)
        return log_volume.astype(x.dtype) - 0.5 * jnp.sum(terms, axis=-1)

    def as_pair(
        self, pair: NormalKnownVariance, rows: Place
    ) -> tuple[NormalKnownVariance, Float[Array, " K"], Float[Array, "K F"]]:
        """No data, and a prior that is the posterior: its mean stands in the sums."""
        _, noise, basis, _ = known_variance(pair)
        first = rows.mean * noise / rows.variance
        if basis is not None:
            first = jnp.linalg.solve(basis, first.T).T
        num_features = jax.eval_shape(pair.statistics, first).shape[-1]
        sums = jnp.pad(first, ((0, 0), (0, num_features - first.shape[-1])))
        frame = None if basis is None else jnp.broadcast_to(basis, (len(first), *basis.shape))
        own = NormalKnownVariance(pair.loc, rows.variance, jnp.broadcast_to(noise, first.shape), frame)
        return own, jnp.zeros(len(first), first.dtype), sums


@pytree
@dataclass(frozen=True)
class RandomWalk(_Gaussian):
    """Locations that take a Gaussian step of this variance with every datum of the stream, whoever takes it."""

    step: jax.Array  # () or (D,)

    @override
    def ahead(self, pair: NormalKnownVariance, rows: Place, ages: Int[Array, " K"]) -> Place:
        """Wider by ``step`` for each datum."""
        return Place(rows.mean, rows.variance + self.step * ages[:, None])


@pytree
@dataclass(frozen=True)
class Diffusion(_Gaussian):
    """Locations that return to the prior and are kept as wide as it by noise; b is the rate of CLAIMS D5."""

    rate: jax.Array  # b in [0, 1]

    def ahead(self, pair: NormalKnownVariance, rows: Place, ages: Int[Array, " K"]) -> Place:
        """(1 - b)^(a / 2) of the mean is left, and (1 - b)^a of the difference to the prior variance."""
        prior_variance = known_variance(pair)[0]
        log_kept = ages[:, None] * jnp.log1p(-self.rate)
        kept = jnp.where(ages[:, None] > 0, jnp.exp(log_kept), 1)
        return Place(jnp.sqrt(kept) * rows.mean, prior_variance + kept * (rows.variance - prior_variance))


class _Remaining(NamedTuple):
    """What is left of each memory's data at its last use."""

    counts: Float[Array, " K"]
    sums: Float[Array, "K F"]


@pytree
@dataclass(frozen=True)
class Forgetting(Motion):
    """Statistics that lose the share 1 - exp(-rate) with every datum of the stream; the prior is never forgotten.

    All memories are prepared anew for each datum (:func:`probam.inference.stream.predictive.prepare`).
    """

    rate: jax.Array

    @override
    def empty(self, pair: ConjugatePair, totals: Float[Array, "K S"]) -> _Remaining:
        """No data."""
        totals = jnp.zeros_like(totals)
        return _Remaining(totals[:, 0], totals[:, 1:])

    @override
    def ahead(self, pair: ConjugatePair, rows: _Remaining, ages: Int[Array, " K"]) -> _Remaining:
        """exp(-rate a) of counts and sums."""
        kept = jnp.exp(-self.rate * ages)
        return _Remaining(kept * rows.counts, kept[:, None] * rows.sums)

    @override
    def join(self, pair: ConjugatePair, rows: _Remaining, statistics: Float[Array, " F"]) -> _Remaining:
        """One more."""
        return _Remaining(rows.counts + 1, rows.sums + statistics)

    def log_predictive(
        self, pair: ConjugatePair, rows: _Remaining, x: Float[Array, " D"], statistics: Float[Array, " F"]
    ) -> Float[Array, " K"]:
        """That of the pair for what is left."""
        return jnp.asarray(log_predictive(pair, prepare(pair, rows.counts, rows.sums), x, statistics))

    def as_pair(
        self, pair: ConjugatePair, rows: _Remaining
    ) -> tuple[ConjugatePair, Float[Array, " K"], Float[Array, "K F"]]:
        """The pair itself, and what is left."""
        return pair, rows.counts, rows.sums
