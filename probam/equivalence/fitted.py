r"""Is the energy of a *fitted* mixture its negative log density?

Every fitted bank that the physics knows gets its twin: an energy built from the numbers of the bank alone, with

.. math:: \log p(x) = -\text{scale} \cdot E(x) - \text{constant}

========================= ============================================ ===========================================
bank                      energy                                       scale, constant
========================= ============================================ ===========================================
Normal, one scale         CLAM, beta = 1 / (2 sigma^2), w = weights    beta, (D/2) log(pi / beta)
Normal, own scales;       quadratic wells, A = precision / 2,          1, (D/2) log pi
MultivariateNormal        log w = log weights + (1/2) log det A
VonMisesFisher            spherical, log w = log weights + log C_D     1, 0
========================= ============================================ ===========================================

A bank without a physical twin is checked against NumPyro's own broadcast density and finite differences, and the check
says so. :func:`bank_twin` dispatches on the type of the bank (``Independent`` ones on what is inside): a new family
registers its twin there.
"""

from collections.abc import Callable
from functools import singledispatch
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.scipy.special import logsumexp
from jax.tree_util import Partial
from jaxtyping import Array, Float
from numpyro.distributions import Distribution

from probam.distributions.bessel import log_normalizer
from probam.distributions.mixture import MemoryMixture
from probam.distributions.von_mises_fisher import VonMisesFisher
from probam.energies import clam, quadratic, spherical
from probam.energies.arguments import Logs

__all__ = ["Check", "Twin", "bank_twin", "physical_twin", "verify_mixture"]

_Map = Callable[[jax.Array], jax.Array]

_ROUNDING = 256
"""Bound of an error in units of eps times the condition of the sum (the largest term that enters it)."""


class Twin(NamedTuple):
    """The physics of a mixture: log p(x) = -scale * energy(x) - constant. States are rows (..., D)."""

    name: str
    energy: _Map
    update: _Map
    responsibilities: _Map
    scale: Float[Array, ""]
    constant: Float[Array, ""]
    retract: _Map | None = None


class Check(NamedTuple):
    """One comparison: what was compared, by whom, how far apart they are at most, and what is allowed."""

    name: str
    relation: str
    witnesses: str
    error: float
    tolerance: float
    passed: bool


@singledispatch
def bank_twin(bank: Distribution, log_weights: Float[Array, " K"]) -> Twin | None:  # noqa: ARG001
    """The physical twin of a bank of memories with these log weights; None where none is written."""
    return None


@bank_twin.register
def _(bank: dist.MultivariateNormal, log_weights: jax.Array) -> Twin:
    loc = jnp.broadcast_to(bank.loc, bank.shape())
    num_features = loc.shape[-1]
    stiffness = jnp.broadcast_to(bank.precision_matrix, (*bank.batch_shape, num_features, num_features)) / 2
    _, log_det = jnp.linalg.slogdet(stiffness)
    return _wells(loc, stiffness.astype(loc.dtype), log_weights + 0.5 * log_det.astype(loc.dtype))


@bank_twin.register
def _(bank: VonMisesFisher, log_weights: jax.Array) -> Twin:
    directions = jnp.broadcast_to(bank.mean_direction, bank.shape())
    kappa = jnp.broadcast_to(bank.concentration, bank.batch_shape)
    of = {
        "directions": directions,
        "concentrations": kappa,
        "weights": Logs(log_weights + log_normalizer(directions.shape[-1], kappa)),
    }
    one = jnp.ones((), directions.dtype)
    return Twin(
        "spherical memories",
        Partial(spherical.energy, **of),
        Partial(spherical.update, **of),
        Partial(spherical.responsibilities, **of),
        one,
        0 * one,
        Partial(spherical.retract),
    )


@bank_twin.register
def _(bank: dist.Independent, log_weights: jax.Array) -> Twin | None:
    base = bank.base_dist
    if not isinstance(base, dist.Normal) or len(bank.event_shape) != 1:
        return None
    loc = jnp.broadcast_to(base.loc, bank.shape())
    scale = jnp.asarray(base.scale)
    if scale.size == 1:
        beta = 1 / (2 * scale.reshape(()) ** 2)
        of = {"memories": loc, "beta": beta, "weights": Logs(log_weights)}
        return Twin(
            "CLAM",
            Partial(clam.energy, **of),
            Partial(clam.update, **of),
            Partial(clam.responsibilities, **of),
            beta,
            0.5 * loc.shape[-1] * jnp.log(jnp.pi / beta),
        )
    stiffness = jnp.broadcast_to(1 / (2 * scale**2), bank.shape())
    return _wells(loc, stiffness, log_weights + 0.5 * jnp.sum(jnp.log(stiffness), axis=-1))


def _wells(loc: jax.Array, stiffness: jax.Array, log_weights: jax.Array) -> Twin:
    of = {"memories": loc, "stiffness": stiffness, "weights": Logs(log_weights)}
    one = jnp.ones((), loc.dtype)
    return Twin(
        "quadratic wells",
        Partial(quadratic.energy, **of),
        Partial(quadratic.update, **of),
        Partial(quadratic.responsibilities, **of),
        one,
        0.5 * loc.shape[-1] * jnp.log(jnp.pi * one),
    )


def physical_twin(mixture: MemoryMixture) -> Twin | None:
    """The physics whose energy is the mixture's negative log density; None where no such physics is written."""
    return bank_twin(mixture.bank, mixture.log_weights)


def verify_mixture(mixture: MemoryMixture, x: Float[Array, "N D"]) -> list[Check]:
    """Checks of one mixture at the rows of ``x``.

    Errors of log densities are in nats, relative to 1 + the largest |log p|; the bound is a few hundred roundings of
    the largest square or product that enters them, so it follows the precision of ``x``.
    """
    eps = float(jnp.finfo(x.dtype).eps)
    twin = physical_twin(mixture)
    log_prob = np.asarray(mixture.log_prob(x))
    size = _size(mixture, x)
    bound = _ROUNDING * eps * size / (1 + float(np.max(np.abs(log_prob))))
    checks = [_broadcast_check(mixture, x, log_prob, bound)]
    if twin is None:
        return [*checks, _gradient_check(mixture, x)]
    both = f"probam.energies ({twin.name}) against probam.distributions"
    said = np.asarray(-twin.scale * twin.energy(x) - twin.constant)
    checks.append(_check("energy", "log p = -scale E - constant", both, _relative(said, log_prob), bound))
    resp = np.asarray(mixture.responsibilities(x))
    error = float(np.max(np.abs(np.asarray(twin.responsibilities(x)) - resp)))
    checks.append(_check("responsibilities", "equal", both, error, _ROUNDING * eps * size))

    def tangent(gradient: jax.Array) -> np.ndarray:
        if twin.retract is None:
            return np.asarray(gradient)
        return np.asarray(gradient - jnp.sum(gradient * x, -1, keepdims=True) * x)  # along the sphere

    force = tangent(-twin.scale * jax.vmap(jax.grad(twin.energy))(x))
    score = tangent(jax.vmap(jax.grad(mixture.log_prob))(x))
    steepest = float(np.max(np.abs(score)))
    spread = _slope_size(mixture, x)
    error = float(np.max(np.abs(force - score))) / (1 + steepest)
    checks.append(
        _check("force", "grad log p = -scale grad E", both, error, _ROUNDING * eps * size * spread / (1 + steepest))
    )
    return checks


def _check(name: str, relation: str, witnesses: str, error: float, tolerance: float) -> Check:
    return Check(name, relation, witnesses, error, tolerance, bool(error <= tolerance))


def _relative(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.max(np.abs(a - b))) / (1 + float(np.max(np.abs(b))))


def _broadcast_check(mixture: MemoryMixture, x: jax.Array, log_prob: np.ndarray, bound: float) -> Check:
    """The matrix-product form against the sum over memories of NumPyro's own log densities."""
    pairs = mixture.bank.log_prob(x[:, None, :])
    broadcast = np.asarray(logsumexp(mixture.log_weights + pairs, axis=-1))
    return _check(
        "fast log density",
        "equal",
        "probam.distributions (matrix products) against NumPyro (broadcast)",
        _relative(log_prob, broadcast),
        bound,
    )


def _gradient_check(mixture: MemoryMixture, x: jax.Array) -> Check:
    """Autodiff against central differences along one direction, at points where both are smooth to that order."""
    eps = float(jnp.finfo(x.dtype).eps)
    spread = jnp.maximum(jnp.std(x, axis=0), 1e-12)
    direction = spread * jnp.where(jnp.arange(x.shape[-1]) % 2 == 0, 1.0, -0.7).astype(x.dtype)
    step = eps ** (1 / 3)
    score = jax.vmap(jax.grad(mixture.log_prob))(x) @ direction
    ahead, behind = mixture.log_prob(x + step * direction), mixture.log_prob(x - step * direction)
    difference = (ahead - behind) / (2 * step)
    errors = np.abs(np.asarray(score - difference)) / (1 + np.abs(np.asarray(score)))
    return _check(
        "score",
        "grad log p = central differences (median over the data)",
        "no physical energy is written for this family: autodiff against differences of the density",
        float(np.median(errors)),
        100 * eps ** (2 / 3) * (1 + float(np.max(np.abs(np.asarray(mixture.log_prob(x)))))),
    )


def _size(mixture: MemoryMixture, x: jax.Array) -> float:
    """The largest number that enters a log density: squares of centred points in units of the narrowest memory."""
    bank = mixture.bank
    if isinstance(bank, VonMisesFisher):
        return (
            1
            + float(jnp.max(bank.concentration))
            + float(jnp.max(jnp.abs(log_normalizer(x.shape[-1], bank.concentration))))
        )
    locations = jnp.asarray(bank.mean)
    far = jnp.max(jnp.sum((x - locations.mean(axis=0)) ** 2, axis=-1))
    far = jnp.maximum(far, jnp.max(jnp.sum((locations - locations.mean(axis=0)) ** 2, axis=-1)))
    if isinstance(bank, dist.MultivariateNormal):
        stiffest = jnp.max(jnp.linalg.eigvalsh(bank.precision_matrix))
    else:
        stiffest = 1 / jnp.min(bank.variance)
    return 1 + x.shape[-1] + float(far * stiffest)


def _slope_size(mixture: MemoryMixture, x: jax.Array) -> float:
    """How much a wrong responsibility can move the force: the steepest force of one memory at a point."""
    bank = mixture.bank
    if isinstance(bank, VonMisesFisher):
        return 1 + float(jnp.max(bank.concentration))
    return 1 + float(jnp.max(jax.vmap(jax.jacrev(lambda v: bank.log_prob(v)))(x[:8])))
