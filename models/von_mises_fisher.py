r"""Von Mises-Fisher memories: directions on the unit sphere.

.. math:: p(x \mid m_k, \kappa_k) = C_D(\kappa_k) \exp(\kappa_k \, m_k \cdot x)

Sites: ``direction`` (K, D), a vector whose direction alone matters (:class:`FreeDirection`: uniform on the sphere),
and ``concentration`` (K,). Default prior: log kappa normal with standard deviation 1.5 around the value at which a
memory is e times as concentrated as all data together.
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

from probam.conjugacy.mean_field import Integrated, MeanField
from probam.conjugacy.mean_field_direction import DirectionAndConcentration
from probam.conjugacy.pairs import ConjugatePair, DirectionOfVonMisesFisher
from probam.distributions.direction import FreeDirection
from probam.distributions.supports import innermost
from probam.distributions.von_mises_fisher import VonMisesFisher
from probam.errors import InputError, RowError
from probam.family import Moments, Params, Prior, register
from probam.family.capabilities import AdditiveMStep, Conditionals, Conjugacy, MeanFieldFactors
from probam.numerics.bessel import (
    inverse_mean_resultant_length,
    log_normalizer_scaled,
    mean_resultant_length,
    mean_resultant_length_slope,
    mean_resultant_ratio,
)
from probam.numerics.bisection import turning_point
from probam.numerics.slice_sampling import slice_update

__all__ = ["VonMisesFisherMemory"]

_LARGEST = 1e6
"""Largest concentration that maximum likelihood may reach (where the normaliser is verified)."""

_LENGTH_TOLERANCE = 2.0**-10
"""Two roundings of half precision: embeddings are often stored so, or as decimals, whatever precision they have now."""


@register
@dataclass(frozen=True)
class VonMisesFisherMemory(AdditiveMStep, Conditionals, Conjugacy, MeanFieldFactors):
    """Directions with their own concentrations."""

    name: ClassVar[str] = "vmf"
    location: ClassVar[str] = "direction"
    as_they_are: ClassVar[bool] = True
    linear: ClassVar[bool] = True
    no_missing: ClassVar[str] = (
        "unit length ties the coordinates together, and the density of some of them has no closed form"
    )

    def check_support(self, x: np.ndarray, columns: Sequence[str]) -> None:
        """Refuse rows that are not unit vectors, and data with one column."""
        if x.shape[1] < 2:
            raise InputError(f"data: directions need at least 2 columns; got 1 ({columns[0]!r})")
        length = np.linalg.norm(x, axis=1)
        if np.any(length == 0):
            row = int(np.flatnonzero(length == 0)[0])
            raise RowError("data: ", row, " is all zeros and has no direction; leave such rows out")
        bad = np.flatnonzero(np.abs(length - 1) > _LENGTH_TOLERANCE)
        if bad.size:
            raise RowError(
                f"data: {bad.size} of {len(x)} rows are not of unit length, first ",
                bad[0],
                f" (length {length[bad[0]]:.6g}); normalise=True (`--normalise`) divides each row by its length",
            )

    def frame(self, x: Float[Array, "N D"]) -> tuple[Float[Array, " D"], Float[Array, " D"]]:
        """The sphere's own centre and unit."""
        return jnp.zeros_like(x[0]), jnp.ones_like(x[0])

    def prior(self, x: np.ndarray) -> dict[str, Distribution]:
        """Uniform directions; log-normal concentrations scaled to the data's overall concentration."""
        num_features = x.shape[1]
        resultant = min(float(np.linalg.norm(x.mean(axis=0))), 1 - 1e-6)
        overall = float(inverse_mean_resultant_length(num_features, jnp.asarray(resultant, x.dtype)))
        centre = x.dtype.type(np.log(np.e * (overall + num_features)))
        return {
            "direction": FreeDirection(num_features),
            "concentration": dist.LogNormal(centre, x.dtype.type(1.5)),
        }

    def bank(self, params: Mapping[str, jax.Array]) -> Distribution:
        """The memories as one :class:`VonMisesFisher`."""
        return VonMisesFisher(_unit(params["direction"]), params["concentration"], validate_args=False)

    def memories(self, params: Mapping[str, jax.Array]) -> Float[Array, "K D"]:
        """The mean directions at unit length."""
        return _unit(params["direction"])

    def spread(self, params: Mapping[str, jax.Array]) -> Float[Array, "K D"]:
        r"""Standard deviation of each coordinate: Cov x = (A / kappa) (I - m m^T) + A' m m^T."""
        num_features = params["direction"].shape[-1]
        square = _unit(params["direction"]) ** 2
        kappa = params["concentration"][:, None]
        across, along = mean_resultant_ratio(num_features, kappa), mean_resultant_length_slope(num_features, kappa)
        return jnp.sqrt(across * (1 - square) + along * square)

    def deterministics(self, params: Mapping[str, jax.Array]) -> Params:
        """``mean_direction``: the direction at unit length."""
        return {"mean_direction": _unit(params["direction"])}

    def statistics(self, x: Float[Array, "N D"]) -> Float[Array, "N D"]:
        """The direction itself."""
        return x

    def maximize(self, moments: Moments, params: Params, prior: Prior | None) -> Params:
        r"""Mean direction, and the kappa that solves A_D(kappa) = resultant length (plus the prior's pull).

        With the log-normal prior (m, s) on kappa the target in u = log kappa is
        n (kappa rbar + log C_D(kappa)) - (u - m)^2 / (2 s^2); its derivative changes sign between u = m and the
        maximum-likelihood value, where bisection finds it.
        """
        counts, sums = moments.counts, moments.sums
        num_features = sums.shape[-1]
        length = jnp.linalg.norm(sums, axis=-1)
        has_direction = length > 0
        direction = jnp.where(
            has_direction[:, None], sums / jnp.where(has_direction, length, 1)[:, None], _unit(params["direction"])
        )
        resultant = jnp.clip(length / jnp.where(counts > 0, counts, 1), 0, 1 - np.finfo(sums.dtype).epsneg)
        likeliest = jnp.clip(inverse_mean_resultant_length(num_features, resultant), 0, _LARGEST)
        if prior is None:
            return {"direction": direction, "concentration": likeliest}
        log_normal = prior["concentration"]
        if not isinstance(log_normal, dist.LogNormal) or not isinstance(prior["direction"], FreeDirection):
            raise InputError(
                "prior: the closed-form M-step needs a LogNormal prior on 'concentration' and FreeDirection on "
                "'direction'; use engine 'gradient_em', 'svi' or 'nuts' with this prior"
            )

        def slope(log_kappa: jax.Array) -> jax.Array:
            kappa = jnp.exp(log_kappa)
            likelihood = counts * kappa * (resultant - mean_resultant_length(num_features, kappa))
            return likelihood - (log_kappa - log_normal.loc) / log_normal.scale**2

        centre = jnp.broadcast_to(log_normal.loc, counts.shape)
        edge = jnp.log(jnp.maximum(likeliest, np.finfo(sums.dtype).tiny))
        low, high = jnp.minimum(centre, edge), jnp.maximum(centre, edge)
        log_kappa = turning_point(lambda log_kappa: slope(log_kappa) > 0, low, high)
        return {"direction": direction, "concentration": jnp.exp(log_kappa)}

    def can_draw(self, prior: Prior) -> bool:
        """Under the uniform direction; any prior on the concentration will do."""
        return isinstance(prior["direction"], FreeDirection)

    def draw(self, key: jax.Array, moments: Moments, params: Params, prior: Prior) -> Params:
        r"""Concentration with the direction integrated out, then the direction given the concentration.

        With n data of resultant S, :math:`p(\kappa \mid S) \propto C(\kappa)^n / C(\kappa |S|) \, p(\kappa)`, which is
        sliced in log kappa; then the direction is vMF around S with concentration kappa |S|. The length of the free
        vector means nothing to the data and comes from its prior.
        """
        key_concentration, key_direction, key_length = jax.random.split(key, 3)
        counts, sums = moments.counts, moments.sums
        num_features = sums.shape[-1]
        length = jnp.linalg.norm(sums, axis=-1)

        def log_density(log_kappa: jax.Array) -> jax.Array:
            kappa = jnp.exp(log_kappa)
            normalizers = counts * log_normalizer_scaled(num_features, kappa)
            normalizers = normalizers - log_normalizer_scaled(num_features, kappa * length)
            return normalizers - kappa * (counts - length) + prior["concentration"].log_prob(kappa) + log_kappa

        width = jnp.asarray(1.0, sums.dtype)
        kappa = jnp.exp(slice_update(key_concentration, log_density, jnp.log(params["concentration"]), width))
        pair = DirectionOfVonMisesFisher(jnp.zeros(num_features, sums.dtype), kappa)
        direction = pair.draw(key_direction, counts, sums)["direction"]
        free = FreeDirection(num_features)
        shape = free.rate + 0.5 * num_features
        sq_length = jax.random.gamma(key_length, shape, length.shape, sums.dtype) / free.rate
        return {"direction": direction * jnp.sqrt(sq_length)[:, None], "concentration": kappa}

    def mean_field(self, prior: Prior) -> MeanField | None:
        """One factor for direction and concentration together, the latter's one dimension by quadrature."""
        pair = self.conjugate_base(prior)
        return None if pair is None else Integrated(pair)

    def conjugate(self, params: Params, prior: Prior) -> ConjugatePair | None:
        """The direction, given the concentrations."""
        if not self.can_draw(prior):
            return None
        kappa = params["concentration"]
        return DirectionOfVonMisesFisher(jnp.zeros(params["direction"].shape[-1], kappa.dtype), kappa)

    def conjugate_base(self, prior: Prior) -> ConjugatePair | None:
        """The prior itself, the concentration integrated out by quadrature; None where it is no log-normal one."""
        log_normal = innermost(prior["concentration"])
        if not self.can_draw(prior) or not isinstance(log_normal, dist.LogNormal):
            return None
        return DirectionAndConcentration(jnp.asarray(log_normal.loc), jnp.asarray(log_normal.scale))


def _unit(vector: jax.Array) -> jax.Array:
    return vector / jnp.linalg.norm(vector, axis=-1, keepdims=True)
