r"""One step up the evidence bound: Adam on the path of a draw, or the natural gradient of Gaussians and of sticks.

The bound of a guide q over the whitened coordinates u of a target with log density f is
:math:`\mathcal L = E_q[f(u) - \log q(u)]`.

*Natural gradient.* For a Gaussian :math:`q = N(m, S)` the steepest ascent in the geometry of q itself is
(Khan & Lin 2017, arXiv:1703.04265; Khan et al. 2018, arXiv:1806.04854)

.. math::
    m \leftarrow m + \rho S \, E_q[\nabla f], \qquad
    S^{-1} \leftarrow S^{-1} + \rho G + \tfrac12 \rho^2 G S G, \quad G = E_q[-\nabla^2 f] - S^{-1}

where the last term, of second order, keeps :math:`S^{-1}` positive definite (Lin, Schmidt & Khan 2020,
arXiv:2002.10060). Expectations come from pairs of opposite draws :math:`m \pm L \epsilon` (:math:`S = L L^T`): the
mean of the two gradients, and by Price's theorem (Bonnet 1964, Price 1958) half their difference times
:math:`\epsilon^T` for :math:`-L^T E[\nabla^2 f] L`. For a quadratic f the mean gradient has no noise.

*Sticks.* The natural parameters of :math:`V \sim \mathrm{Beta}(a, b)` multiply :math:`\log V` and :math:`\log(1 - V)`,
as do the parameters of its prior and the counts of the data: with fixed responsibilities the natural gradient leads
straight to the conjugate posterior :math:`\mathrm{Beta}(a_0 + n_j, b_0 + n_{>j})`, and a step is a moving average of
sufficient statistics (Hoffman, Blei, Wang & Paisley 2013; Khan & Lin 2017). But counts move with the sticks, since
labels are summed out. With a count :math:`\bar n` that does not depend on the draw

.. math::
    \tilde\nabla E_q[f] = \bar n + F^{-1} E \bigl[ \nabla_{a, b} \, (n(V) - \bar n) \cdot
    (\log V, \log(1 - V)) \bigr], \qquad F = \text{Fisher's information of the Beta},

holds exactly, with the gradient along the path of the draw. Two independent draws of the sticks serve as each other's
:math:`\bar n`; where responsibilities do not depend on the weights, the second term and all noise are zero.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.scipy.special import digamma, polygamma
from jaxtyping import Array, Float

from probam.family import Params
from probam.inference.common.coordinates import Coordinates
from probam.inference.svi.batch import Batch
from probam.inference.svi.guides import Frame, Full, Guide, MeanField, Sticks, draw_logits, full_factor
from probam.numerics.log_gamma import log_beta

__all__ = ["Posterior", "Target", "adam_step", "bound_estimate", "natural_step", "posterior"]

Target = Callable[[Float[Array, " P"]], Float[Array, ""]]
"""Log density in whitened coordinates, nats, up to a constant."""

_ADAM = optax.scale_by_adam()

_MOST_CORRECTION = 0.5
"""Largest relative change of a stick's parameters in one step by the term that is not conjugate."""

_LARGE = 50.0
"""Parameters of a Beta from which a series of their trigamma is exact to rounding, or nearly."""


@dataclass(frozen=True)
class Posterior:
    """A target that is a prior times the likelihood of ``num_data`` data."""

    log_prior: Target
    log_likelihood: Target
    num_data: float | jax.Array

    def __call__(self, u: Float[Array, " P"]) -> Float[Array, ""]:
        """Log density, nats."""
        return self.log_prior(u) + self.log_likelihood(u)


def posterior(coordinates: Coordinates, frame: Frame, batch: Batch) -> Posterior:
    """Log joint density of whitened coordinates, by the rows of a minibatch.

    Args:
        coordinates: of the model.
        frame: of the whitened coordinates.
        batch: rows whose log likelihood stands for that of all data.
    """

    def log_prior(u: jax.Array) -> jax.Array:
        return coordinates.log_prior(coordinates.unflatten(frame.apply(u))) + frame.log_det

    def log_likelihood(u: jax.Array) -> jax.Array:
        params = coordinates.constrain(coordinates.unflatten(frame.apply(u)))
        return batch.log_likelihood(coordinates, params)

    return Posterior(log_prior, log_likelihood, batch.num_data)


def bound_estimate(guide: Guide, params: Params, key: jax.Array, target: Target) -> Float[Array, ""]:
    """One draw's estimate of the bound, nats; its gradient in ``params`` follows the path of the draw alone."""
    u = guide.draw(params, key)
    return target(u) - guide.log_density(jax.lax.stop_gradient(params), u)


def start_adam(params: Params) -> optax.OptState:
    """Moments of Adam at the start."""
    return _ADAM.init(params)


def adam_step(
    guide: Guide, params: Params, state: Any, key: jax.Array, target: Target, rate: jax.Array, *, num_particles: int
) -> tuple[Params, Any, Float[Array, ""]]:
    """One step of Adam; the bound before it (nats).

    Args:
        state: moments of Adam.
        rate: step size, where 1 is a posterior standard deviation.
        num_particles: draws whose bounds are averaged.
    """

    def loss(params: Params) -> jax.Array:
        keys = jax.random.split(key, num_particles)
        return -jnp.mean(jax.vmap(lambda key: bound_estimate(guide, params, key, target))(keys))

    value, gradient = jax.value_and_grad(loss)(params)
    updates, moments = _ADAM.update(gradient, state)
    moved = jax.tree.map(lambda param, update: param - rate * update, params, updates)
    return moved, moments, -value


def natural_step(
    guide: Guide, params: Params, state: Any, key: jax.Array, target: Target, rate: jax.Array, *, num_particles: int
) -> tuple[Params, Any, Float[Array, ""]]:
    """One natural-gradient step from pairs of opposite draws; the bound before it (nats).

    No coordinate of a Gaussian's mean moves by more than one standard deviation of the guide.

    Args:
        state: handed on unchanged.
        rate: share of a whole natural-gradient step.
        num_particles: pairs of draws.
    """
    if isinstance(guide, Sticks):
        assert isinstance(target, Posterior), "sticks need prior and likelihood one by one"
        moved, bound = _natural_sticks(guide, params, key, target, rate, num_particles)
        return moved, state, bound
    loc, log_scale = params["loc"], params["log_scale"]
    full = isinstance(guide, Full)
    assert full or isinstance(guide, MeanField), "no other guide is natural"
    factor = full_factor(params) if full else jnp.exp(log_scale)

    def spread(noise: jax.Array) -> jax.Array:
        return factor @ noise if full else factor * noise

    def pair(key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        noise = jax.random.normal(key, loc.shape, loc.dtype)
        aside = spread(noise)
        above, slope_above = jax.value_and_grad(target)(loc + aside)
        below, slope_below = jax.value_and_grad(target)(loc - aside)
        mean, half = 0.5 * (slope_above + slope_below), 0.5 * (slope_below - slope_above)
        if full:
            raw = jnp.outer(noise, factor.T @ half)
            return 0.5 * (above + below), mean, 0.5 * (raw + raw.T)
        return 0.5 * (above + below), mean, noise * factor * half

    value, slope, curvature = jax.tree.map(
        lambda leaf: jnp.mean(leaf, axis=0), jax.vmap(pair)(jax.random.split(key, num_particles))
    )
    entropy = _entropy(log_scale)
    if full:
        own_rate = _curvature_rate(rate, loc.size + 1, num_particles)
        gain = factor.T @ slope
        step = rate * gain
        biggest = jnp.max(jnp.abs(factor @ step) / jnp.sqrt(jnp.sum(factor**2, axis=-1)))
        moved = loc + factor @ step / jnp.maximum(1, biggest)
        excess = own_rate * (curvature - jnp.eye(loc.size, dtype=loc.dtype))
        # S^-1 becomes L^-T (I + A + A^2/2) L^-1 with A the excess; its factor's inverse transpose follows
        precision = jnp.eye(loc.size, dtype=loc.dtype) + excess + 0.5 * excess @ excess
        inner = jnp.linalg.cholesky(precision)
        turned = jax.scipy.linalg.solve_triangular(inner, factor.T, lower=True)  # R with S = R^T R
        upper = jnp.linalg.qr(turned, mode="r")
        lower = upper.T * jnp.sign(jnp.diagonal(upper))
        new = {"loc": moved, "log_scale": jnp.log(jnp.diagonal(lower)), "lower": jnp.tril(lower, -1)}
    else:
        new = _moved(loc, log_scale, slope, curvature, rate, num_particles)
    return new, state, value + entropy


def _entropy(log_scale: Float[Array, " P"]) -> Float[Array, ""]:
    """Of a Gaussian, whose factor has these logs on its diagonal."""
    return jnp.sum(log_scale) + 0.5 * log_scale.size * float(np.log(2 * np.pi * np.e))


def _curvature_rate(rate: jax.Array, excess: int, num_particles: int) -> jax.Array:
    """The estimate of an identity matrix from one pair has mean square 1 + ``excess``: P + 2 (full), 3 (diagonal)."""
    return rate / (1 + excess / num_particles)


def _moved(
    loc: jax.Array, log_scale: jax.Array, slope: jax.Array, curvature: jax.Array, rate: jax.Array, num_particles: int
) -> Params:
    """Independent Gaussians after a natural-gradient step."""
    factor = jnp.exp(log_scale)
    excess = _curvature_rate(rate, 2, num_particles) * (curvature - 1)
    return {
        "loc": loc + jnp.clip(rate * factor**2 * slope, -factor, factor),
        "log_scale": log_scale - 0.5 * jnp.log1p(excess + 0.5 * excess**2),
    }


def _counts(slope: Float[Array, " J"], logit: Float[Array, " J"], num_data: float | jax.Array) -> Float[Array, "2 J"]:
    r"""Data in each memory but the last, and behind it, from the slope of the log likelihood in the logits.

    The slope is :math:`n_j (1 - V_j) - n_{>j} V_j`, and all data together are known.
    """

    def take(left: jax.Array, inputs: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        slope, share = inputs
        here = jnp.clip(slope + left * share, 0, left)
        return left - here, jnp.stack([here, left - here])

    counts: jax.Array = jax.lax.scan(take, jnp.asarray(num_data, slope.dtype), (slope, jax.nn.sigmoid(logit)))[1]
    return counts.T


def _prior_numbers(guide: Sticks, log_prior: Target, u: Float[Array, " P"]) -> Float[Array, "2 J"]:
    r"""a_0 and b_0 of each stick given the rest, from the slopes a_0 (1 - V) - b_0 V of its log density at two V."""
    logit, rest = guide.split(u)
    at = jnp.stack([logit * 0 + float(np.log(3.0)), logit * 0 - float(np.log(3.0))])  # V = 3/4 and 1/4
    high, low = jax.vmap(lambda logit: guide.split(jax.grad(log_prior)(guide.joined(logit, rest)))[0])(at)
    total = 2 * (low - high)
    first = low + total / 4
    return jnp.stack([first, total - first])


def _over_information(numbers: Float[Array, "2 J"], gradient: Float[Array, "2 J"]) -> Float[Array, "2 J"]:
    r"""A gradient in (a, b) of each stick over Fisher's information of the Beta.

    That is :math:`\mathrm{diag}(\psi_1(a), \psi_1(b)) - \psi_1(a + b) 1 1^\top`, inverted by the formula of Sherman and
    Morrison. Its determinant cancels for large numbers but for :math:`1 / \psi_1(x) - x`, which has a series there.
    """
    both = jnp.concatenate([numbers, jnp.sum(numbers, axis=0, keepdims=True)])
    trigamma = polygamma(1, both)
    safe = jnp.maximum(both, 1)
    series = -1 / 2 + 1 / (12 * safe) + 1 / (24 * safe**2) - 1 / (720 * safe**3)
    first, second, total = jnp.where(both > _LARGE, series, 1 / trigamma - both)
    over = gradient / trigamma[:2]
    return over + jnp.sum(over, axis=0) / trigamma[:2] / (total - first - second)


def _natural_sticks(
    guide: Sticks, params: Params, key: jax.Array, target: Posterior, rate: jax.Array, num_particles: int
) -> tuple[Params, Float[Array, ""]]:
    """Natural-gradient steps of the Betas and of the Gaussians."""
    loc, log_scale = params["loc"], params["log_scale"]
    numbers = jnp.stack(guide.betas(params))  # (2, J)

    def look(logit: jax.Array, gaussian: jax.Array) -> tuple[jax.Array, ...]:
        """Log joint at a draw, its slope in the Gaussians, counts of the data, numbers of the prior."""
        u = guide.joined(logit, gaussian)
        log_lik, of_lik = jax.value_and_grad(target.log_likelihood)(u)
        log_prior, of_prior = jax.value_and_grad(target.log_prior)(u)
        counts = _counts(guide.split(of_lik)[0], logit, target.num_data)
        return (
            log_lik + log_prior,
            guide.split(of_lik + of_prior)[1],
            counts,
            _prior_numbers(guide, target.log_prior, u),
        )

    def pair(key: jax.Array) -> tuple[jax.Array, ...]:
        key_noise, key_sticks = jax.random.split(key)
        noise = jax.random.normal(key_noise, loc.shape, loc.dtype)
        aside = jnp.exp(log_scale) * noise
        shape = (2, numbers.shape[1])
        logits, back = jax.vjp(lambda ab: draw_logits(key_sticks, *(jnp.broadcast_to(n, shape) for n in ab)), numbers)
        values, slopes, counts, priors = jax.vmap(look)(logits, jnp.stack([loc + aside, loc - aside]))
        # the part of the log likelihood that moves with the counts, along the paths of both draws
        (here, behind), share = counts[0] - counts[1], jax.nn.sigmoid(logits)
        of_logits = 0.5 * jnp.array([[1], [-1]], share.dtype) * (here * (1 - share) - behind * share)
        curvature = noise * jnp.exp(log_scale) * 0.5 * (slopes[1] - slopes[0])
        return jnp.mean(values), jnp.mean(slopes, 0), curvature, jnp.mean(counts + priors, 0), back(of_logits)[0]

    value, slope, curvature, towards, path = jax.tree.map(
        lambda leaf: jnp.mean(leaf, axis=0), jax.vmap(pair)(jax.random.split(key, num_particles))
    )
    correction = _over_information(numbers, path)
    conjugate = numbers + rate * (towards - numbers)
    change = jnp.clip(rate * correction / conjugate, -_MOST_CORRECTION, _MOST_CORRECTION)
    first, second = conjugate * (1 + change)
    mean_logs = digamma(numbers) - digamma(jnp.sum(numbers, axis=0))
    entropy = jnp.sum(log_beta(*numbers)) - jnp.sum(numbers * mean_logs)
    moved = params | _moved(loc, log_scale, slope, curvature, rate, num_particles)
    return guide.with_betas(moved, first, second), value + entropy + _entropy(log_scale)
