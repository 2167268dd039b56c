r"""One step up the evidence bound: Adam on the path of a draw, or the natural gradient of a Gaussian guide.

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
:math:`\epsilon^T` for :math:`-L^T E[\nabla^2 f] L`. For a quadratic f the mean gradient has no noise at all.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from probam.family import Params
from probam.inference.guides import Full, Guide, MeanField, full_factor

__all__ = ["Target", "adam_step", "bound_estimate", "natural_step"]

Target = Callable[[Float[Array, " P"]], Float[Array, ""]]
"""Log density in whitened coordinates, nats, up to a constant."""

_ADAM = optax.scale_by_adam()


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
    """One step of Adam; the bound before it (nats)."""

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
    """One natural-gradient step of a Gaussian guide from pairs of opposite draws; the bound before it (nats).

    No coordinate of the mean moves by more than one standard deviation of the guide.
    """
    loc, log_scale = params["loc"], params["log_scale"]
    full = isinstance(guide, Full)
    assert full or isinstance(guide, MeanField), "natural gradients are of Gaussian guides"
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
    entropy = jnp.sum(log_scale) + 0.5 * loc.size * float(np.log(2 * np.pi * np.e))
    # the estimate of an identity matrix from one pair has mean square P + 2 (full) or 3 (diagonal)
    own_rate = rate / (1 + ((loc.size + 1) if full else 2) / num_particles)
    if full:
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
        step = rate * factor**2 * slope
        moved = loc + jnp.clip(step, -factor, factor)
        excess = own_rate * (curvature - 1)
        new = {"loc": moved, "log_scale": log_scale - 0.5 * jnp.log1p(excess + 0.5 * excess**2)}
    return new, state, value + entropy
