r"""Log densities of N data under each of K memories, as matrix products.

For an exponential family :math:`\log p(x \mid \theta_k) = T(x) \cdot \eta_k + c_k`, so the (N, K) matrix of log
densities is one product of the (N, F) statistics with the (F, K) natural parameters: no (N, K, D) array is made.
Gaussian statistics are computed relative to the mean of the memories, since the expanded square
:math:`|x|^2 - 2 x \cdot \mu + |\mu|^2` loses all digits far from the origin.

Far away (a query at 1e160) squares overflow, and their differences are lost long before. So rows beyond
:func:`largest_radius` are moved in along the ray from that origin: log densities are extended from there by the degrees
of the statistics, which gives -inf where they overflow, never NaN, and responsibilities are those at the moved row
(:class:`Densities`), which are the limit along the ray up to memories that are equally near in their own metrics.

Such a family registers ``linear_form`` for the type of its bank (for ``Independent`` distributions:
``independent_form`` for the type of the base distribution). A family without such a form that can do better than
broadcasting registers ``pairwise_log_prob``. For all other distributions NumPyro's ``log_prob`` is broadcast.
"""

from functools import singledispatch
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.scipy.special import gammaln
from jaxtyping import Array, ArrayLike, Float
from numpyro.distributions import Distribution

from probam.distributions.bits import SpinBernoulli
from probam.distributions.counts import MultinomialCounts
from probam.distributions.generalized_normal import GeneralizedNormal, RadialLaplace
from probam.distributions.precision_normal import half_log_determinant
from probam.distributions.student_t import EllipticalStudentT
from probam.distributions.von_mises_fisher import VonMisesFisher
from probam.numerics.bessel import log_normalizer
from probam.numerics.entries import columns, entries

__all__ = [
    "Densities",
    "LinearForm",
    "Rays",
    "gaussian_spread",
    "independent_form",
    "largest_radius",
    "linear_form",
    "moved_in",
    "origin",
    "pairwise_densities",
    "pairwise_log_prob",
    "rays",
    "spread_of",
    "upper_triangle",
]


class LinearForm(NamedTuple):
    """Log densities as a sum of products of statistics (N, F) with coefficients (K, F), and a constant (K,)."""

    statistics: tuple[Float[Array, "N F"], ...]
    coefficients: tuple[Float[Array, "K F"], ...]
    constant: Float[Array, " K"]

    @property
    def matrix(self) -> Float[Array, "K F"]:
        """All coefficients side by side."""
        return jnp.concatenate(self.coefficients, axis=-1)

    def by_memory(self, log_weights: Float[Array, " K"]) -> Float[Array, "K N"]:
        """Log of weight times density as one product, memories first: sums over memories then go along rows."""
        ones = jnp.ones((len(self.statistics[0]), 1), self.statistics[0].dtype)
        statistics = jnp.concatenate([*self.statistics, ones], axis=-1)
        return jnp.einsum("kf,nf->kn", self.with_constant(log_weights), statistics, precision="highest")

    def with_constant(self, log_weights: Float[Array, " K"]) -> Float[Array, "K S"]:
        """All coefficients side by side, and at their end that of a statistic which is 1: constants and log weights."""
        return jnp.concatenate([self.matrix, (self.constant + log_weights)[:, None]], axis=-1)

    @property
    def products(self) -> tuple[Float[Array, "N K"], ...]:
        """Each statistic times its coefficients."""
        return tuple(_dot(*pair) for pair in zip(self.statistics, (c.T for c in self.coefficients), strict=True))


@singledispatch
def linear_form(
    bank: Distribution, x: Float[Array, "N D"], zero: Float[Array, " D"] | None = None
) -> LinearForm | None:
    """The log densities of ``x`` under the memories of ``bank`` as products; None for a bank without such a form.

    Statistics depend only on ``x`` and ``zero``, coefficients and constant only on ``bank`` and ``zero``.

    Args:
        bank: the memories, with batch shape (K,) and event shape (D,).
        x: the data.
        zero: the point around which squares are expanded; None means :func:`origin` of the memories.
    """
    if isinstance(bank, dist.Independent):
        return independent_form(bank.base_dist, bank, x, zero)
    return None


@singledispatch
def independent_form(
    _base: Distribution, _bank: Distribution, _x: Float[Array, "N D"], _zero: Float[Array, " D"] | None
) -> LinearForm | None:
    """:func:`linear_form` of an ``Independent`` bank, dispatched on the type of its base distribution."""
    return None


class Densities(NamedTuple):
    """Log densities (nats) of rows under each memory."""

    here: Float[Array, "N K"]
    """At the rows themselves."""

    nearby: Float[Array, "N K"]
    """The same, but rows beyond the largest radius are first moved in to it, where differences keep their digits."""


@singledispatch
def pairwise_log_prob(bank: Distribution, x: Float[Array, "N D"]) -> Float[Array, "N K"]:
    """Log density (nats) of each row of ``x`` under each memory of ``bank``, with batch (K,) and event shape (D,).

    >>> bank = dist.Normal(jnp.array([[0.0, 0.0], [1.0, 1.0]]), 1.0).to_event(1)
    >>> density = pairwise_log_prob(bank, jnp.array([[0.0, 0.0], [3.0, 4.0]]))
    >>> [round(value, 3) for value in (density[:, 0] - density[:, 1]).tolist()]  # half the difference of squares
    [1.0, -6.0]
    """
    form = linear_form(bank, x)
    return jnp.asarray(bank.log_prob(x[:, None, :])) if form is None else sum(form.products, form.constant)


def pairwise_densities(bank: Distribution, x: Float[Array, "N D"]) -> Densities:
    """:func:`pairwise_log_prob` of rows that may be anywhere, and of the same rows moved in to the largest radius.

    It costs about a quarter more, so engines, whose data are near their memories, call :func:`pairwise_log_prob`.
    """
    moved_rows = moved_in(bank, x)
    if moved_rows is None:
        here = pairwise_log_prob(bank, x)
        return Densities(here, here)
    moved, within = moved_rows
    if isinstance(_base_of(bank), dist.Normal | dist.MultivariateNormal):
        form = linear_form(bank, within)
        assert form is not None, "Gaussian memories have one"
        return moved.quadratic(form.constant, *form.products)
    return Densities(pairwise_log_prob(bank, x), pairwise_log_prob(bank, within))


def moved_in(bank: Distribution, x: Float[Array, "N D"]) -> tuple["Rays", Float[Array, "N D"]] | None:
    """Rows moved in to the largest radius, relative to :func:`origin` and as they are; None for a bank whose densities
    need no unit of distance.

    Where no row is moved, both members of :func:`pairwise_densities` are :func:`pairwise_log_prob`, up to rounding.
    """
    base = _base_of(bank)
    if not hasattr(base, "loc"):
        return None
    loc = jnp.broadcast_to(base.loc, bank.shape())
    zero = origin(loc)
    spread = spread_of(base, loc - zero)
    if spread is None:
        return None
    moved = rays(x - zero, spread)
    return moved, jnp.where(moved.stretch > 1, zero + moved.centred, x)


def _base_of(bank: Distribution) -> Distribution:
    return bank.base_dist if isinstance(bank, dist.Independent) else bank


def origin(locations: Float[Array, "K D"]) -> Float[Array, " D"]:
    """The point around which squares are expanded; the density does not depend on it."""
    return jax.lax.stop_gradient(jnp.mean(locations, axis=0))


def largest_radius(dtype: jnp.dtype) -> float:
    """Distance from the memories, in their spreads, up to which log densities are computed from the row itself.

    The rounding of a square at this distance is the cube root of that of the dtype.
    """
    return float(np.finfo(dtype).eps ** (-1 / 3))


class Rays(NamedTuple):
    """Rows relative to an origin, those beyond the largest radius moved in along their ray."""

    centred: Float[Array, "N D"]
    stretch: Float[Array, "N 1"]  # the row itself is at ``stretch * centred``; 1 where it was not moved

    def quadratic(
        self,
        constant: Float[Array, " K"] | Float[Array, "N K"],
        linear: Float[Array, "N K"],
        square: Float[Array, "N K"],
    ) -> Densities:
        """Log densities of second degree in a row, from their three parts at the moved rows.

        Args:
            constant, linear, square: the terms of degree 0, 1 and 2; the last is not positive.
        """
        nearby = constant + linear + square
        extended = constant + self.stretch * (linear + self.stretch * jnp.minimum(square, 0))
        return Densities(jnp.where(self.stretch > 1, extended, nearby), nearby)


def rays(centred: Float[Array, "N D"], spread: Float[Array, " D"]) -> Rays:
    """Move rows in to the largest radius.

    Args:
        centred: rows relative to the origin.
        spread: the unit of distance along each feature (:func:`spread_of`).
    """
    radius = largest_radius(centred.dtype)
    distance = jnp.max(jnp.abs(centred / spread), axis=-1, keepdims=True)
    stretch = jax.lax.stop_gradient(jnp.maximum(distance / radius, 1))
    return Rays(centred / stretch, stretch)


@singledispatch
def spread_of(_base: Distribution, _loc: Float[Array, "K D"]) -> Float[Array, " D"] | None:
    """The largest distance of a memory from the origin plus the largest width of one, for each feature.

    It is the unit of :func:`largest_radius`, constant for derivatives. None for a bank whose densities need no unit.

    Args:
        _base: the bank, or the base distribution of an ``Independent`` bank.
        _loc: the locations of the memories relative to the origin.
    """
    return None


def _spread(loc: Float[Array, "K D"], width: Float[ArrayLike, "..."]) -> Float[Array, " D"]:
    widest = jnp.max(jnp.broadcast_to(width, loc.shape), axis=0)
    return jax.lax.stop_gradient(jnp.max(jnp.abs(loc), axis=0) + widest).astype(loc.dtype)


@spread_of.register
def _(base: dist.Laplace, loc: jax.Array) -> jax.Array:
    return _spread(loc, jnp.asarray(base.scale))


@spread_of.register
def _(base: GeneralizedNormal, loc: jax.Array) -> jax.Array:
    return _spread(loc, base.beta ** (-1 / base.power))


@spread_of.register
def _(base: RadialLaplace, loc: jax.Array) -> jax.Array:
    return _spread(loc, 1 / base.beta[..., None])


@spread_of.register
def _(base: EllipticalStudentT, loc: jax.Array) -> jax.Array:
    if base.is_full:
        return _spread(loc, 1 / jnp.diagonal(base.precision, axis1=-2, axis2=-1))
    return _spread(loc, base.precision**-0.5)


@spread_of.register(dist.Normal)
@spread_of.register(dist.MultivariateNormal)
def gaussian_spread(base: dist.Normal | dist.MultivariateNormal, loc: Float[Array, "K D"]) -> Float[Array, " D"]:
    """:func:`spread_of` of Gaussian memories."""
    if isinstance(base, dist.Normal):
        return _spread(loc, jnp.asarray(base.scale))
    return _spread(loc, jnp.sqrt(base.variance))


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.matmul(a, b, precision="highest")


@independent_form.register
def _(base: dist.Normal, bank: Distribution, x: jax.Array, zero: jax.Array | None) -> LinearForm:
    num_features = bank.event_shape[0]
    loc = jnp.broadcast_to(base.loc, bank.shape())
    zero = origin(loc) if zero is None else zero
    centred, loc = x - zero, loc - zero
    scale = jnp.asarray(base.scale)
    if scale.ndim == 0 or scale.shape[-1] == 1:  # one precision for all features: |x|^2 is one column, not D
        precision = jnp.broadcast_to(scale.reshape(scale.shape[:-1]), bank.batch_shape) ** -2  # (K,)
        constant = 0.5 * num_features * jnp.log(precision / (2 * jnp.pi)) - 0.5 * precision * jnp.sum(loc**2, -1)
        return LinearForm(
            (centred, jnp.sum(centred**2, -1)[:, None]),
            (precision[:, None] * loc, -0.5 * precision[:, None]),
            constant,
        )
    precisions = jnp.broadcast_to(scale, bank.shape()) ** -2  # (K, D)
    constant = 0.5 * jnp.sum(jnp.log(precisions / (2 * jnp.pi)) - precisions * loc**2, axis=-1)
    return LinearForm((centred, centred**2), (precisions * loc, -0.5 * precisions), constant)


def upper_triangle(x: Float[Array, "N D"]) -> Float[Array, "N F"]:
    """Products x_i x_j for i <= j, one column each: F = D (D + 1) / 2."""
    rows, of_rows = np.triu_indices(x.shape[-1])
    return columns(x, rows) * columns(x, of_rows)


@linear_form.register
def _(bank: dist.MultivariateNormal, x: jax.Array, zero: jax.Array | None = None) -> LinearForm:
    num_features = bank.event_shape[0]
    loc = jnp.broadcast_to(bank.loc, bank.shape())
    zero = origin(loc) if zero is None else zero
    centred, loc = x - zero, loc - zero
    # NumPyro takes inverses against a float64 identity where x64 is on: back to the precision of the memories
    precision = jnp.broadcast_to(bank.precision_matrix, (*bank.batch_shape, num_features, num_features))
    precision = precision.astype(loc.dtype)
    rows, of_rows = np.triu_indices(num_features)
    twice_off_diagonal = np.where(rows == of_rows, 1.0, 2.0).astype(x.dtype)
    eta_square = entries(precision, rows, of_rows) * twice_off_diagonal  # (K, F)
    eta_linear = jnp.einsum("kij,kj->ki", precision, loc, precision="highest")
    half_log_det = half_log_determinant(bank).astype(loc.dtype)
    constant = (
        -0.5 * num_features * jnp.log(jnp.asarray(2 * jnp.pi, x.dtype))
        - half_log_det
        - 0.5 * jnp.sum(loc * eta_linear, axis=-1)
    )
    return LinearForm((centred, upper_triangle(centred)), (eta_linear, -0.5 * eta_square), constant)


@linear_form.register
def _(bank: VonMisesFisher, x: jax.Array, _zero: jax.Array | None = None) -> LinearForm:
    directions = jnp.broadcast_to(bank.mean_direction, bank.shape())
    concentration = jnp.broadcast_to(bank.concentration, bank.batch_shape)
    return LinearForm((x,), (concentration[:, None] * directions,), log_normalizer(x.shape[-1], concentration))


@independent_form.register(dist.BernoulliProbs)
@independent_form.register(dist.BernoulliLogits)
def _(
    base: dist.BernoulliProbs | dist.BernoulliLogits,
    bank: Distribution,
    x: jax.Array,
    _zero: jax.Array | None,
) -> LinearForm:
    logits = jnp.broadcast_to(base.logits, bank.shape())
    return LinearForm((x,), (logits,), -jnp.sum(jax.nn.softplus(logits), axis=-1))


@independent_form.register
def _(base: SpinBernoulli, bank: Distribution, x: jax.Array, _zero: jax.Array | None) -> LinearForm:
    fields = jnp.broadcast_to(base.fields, bank.shape())
    return LinearForm((x,), (fields,), -jnp.sum(jnp.logaddexp(fields, -fields), axis=-1))


@linear_form.register
def _(bank: MultinomialCounts, x: jax.Array, _zero: jax.Array | None = None) -> LinearForm:
    orders = -jnp.sum(gammaln(x + 1), axis=-1, keepdims=True)  # the same for all memories
    return LinearForm((x, orders), (bank.log_rates, jnp.ones((len(bank.log_rates), 1), orders.dtype)), -bank.total)


@linear_form.register
def _(bank: dist.Dirichlet, x: jax.Array, _zero: jax.Array | None = None) -> LinearForm:
    concentration = jnp.broadcast_to(bank.concentration, bank.shape())
    log_beta = jnp.sum(gammaln(concentration), axis=-1) - gammaln(jnp.sum(concentration, axis=-1))
    return LinearForm((jnp.log(x),), (concentration - 1,), -log_beta)
