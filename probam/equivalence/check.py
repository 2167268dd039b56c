"""Check that the energy of a fitted mixture is its negative log density, with a physical twin or without one."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.scipy.special import gammaln
from jaxtyping import Array, Float
from numpyro.distributions import Distribution, biject_to

from probam.compiled import compiler_options
from probam.distributions.bits import SpinBernoulli
from probam.distributions.counts import MultinomialCounts
from probam.distributions.mixture import MemoryMixture
from probam.distributions.pairwise import pairwise_log_prob
from probam.distributions.von_mises_fisher import VonMisesFisher
from probam.equivalence.twins import physical_twin, twin_name
from probam.numerics.bessel import log_normalizer
from probam.numerics.steady import restored, steady

__all__ = ["Check", "verify_mixture"]

_ROUNDING = 256
"""Bound of an error in units of eps times the largest term of the sum."""


_SMOOTH = 1e-4
"""Largest relative difference of two central differences, one of half the step, that are taken for a derivative.

Where they differ by more, the points straddle a kink.
"""


class Check(NamedTuple):
    """One comparison: what was compared, the two implementations, the largest error, and its bound."""

    name: str
    relation: str
    witnesses: str
    error: float
    tolerance: float
    passed: bool


def verify_mixture(mixture: MemoryMixture, x: Float[Array, "N D"]) -> list[Check]:
    """Checks of one mixture at the rows of ``x``.

    Errors of log densities are in nats, relative to 1 + the largest |log p|. The bound is a few hundred rounding errors
    of the largest square or product in the sum, so it follows the precision of ``x``.

    Args:
        mixture: a mixture with the numbers of one posterior draw.
        x: the points, in model units. Where the memories are directions, they are first scaled to length one.
    """
    twin = twin_name(mixture)
    rounding = _ROUNDING * float(np.finfo(x.dtype).eps)
    if twin is None:
        compare = jax.jit(partial(_compare_alone, mixture), compiler_options=compiler_options())
        measured = {name: float(value) for name, value in compare(x).items()}
        checks = [_fast_check(measured, rounding * measured["size"])]
        differences = _difference_check(mixture, x)
        return checks if differences is None else [*checks, differences]
    measured = {name: float(value) for name, value in _with_twin()(steady(mixture), x).items()}
    unit = rounding * measured["size"]
    both = f"probam.energies ({twin}) against probam.distributions"
    checks = [
        _fast_check(measured, unit),
        _check("energy", "log p = -scale E - constant", both, measured["energy"], unit / measured["log_prob"]),
    ]
    if "responsibilities" in measured:
        checks.append(_check("responsibilities", "equal", both, measured["responsibilities"], unit))
    if "fall" in measured:
        checks.append(
            _check("recall", "a step does not lower log p", both, measured["fall"], unit / measured["log_prob"])
        )
    bound = unit * measured["steepest"] / measured["score"]
    return [*checks, _check("force", "grad log p = -scale grad E", both, measured["force"], bound)]


def _check(name: str, relation: str, witnesses: str, error: float, tolerance: float) -> Check:
    return Check(name, relation, witnesses, error, tolerance, bool(error <= tolerance))


def _fast_check(measured: dict[str, float], unit: float) -> Check:
    return _check(
        "fast log density",
        "equal",
        "probam.distributions (matrix products) against NumPyro (broadcast)",
        measured["broadcast"],
        unit / measured["log_prob"],
    )


@cache
def _with_twin() -> Callable[[Any, jax.Array], dict[str, jax.Array]]:
    """The comparison with a twin, compiled once for all draws of a posterior."""
    return jax.jit(_compare, compiler_options=compiler_options())


def _compare(steady_mixture: Any, x: Float[Array, "N D"]) -> dict[str, jax.Array]:
    """Errors of the twin and of the fast log density of a steady mixture, and the sizes that they are relative to."""
    mixture: MemoryMixture = restored(steady_mixture)
    twin = physical_twin(mixture)
    assert twin is not None
    if twin.retract is not None:
        x = twin.retract(x)
    measured = _compare_densities(mixture, x)
    log_prob = mixture.log_prob(x)
    measured["energy"] = jnp.max(jnp.abs(twin.scale * twin.energy(x) + twin.constant + log_prob)) / measured["log_prob"]
    if twin.responsibilities is not None:
        measured["responsibilities"] = jnp.max(jnp.abs(twin.responsibilities(x) - mixture.responsibilities(x)))
    if twin.update is not None:
        measured["fall"] = jnp.max(log_prob - mixture.log_prob(twin.update(x)), initial=0.0) / measured["log_prob"]

    def tangent(gradient: jax.Array) -> jax.Array:
        """The part of a gradient that is tangent to the sphere, where the memories are directions."""
        return gradient if twin.retract is None else gradient - jnp.sum(gradient * x, -1, keepdims=True) * x

    force = tangent(-twin.scale * jax.grad(lambda v: jnp.sum(twin.energy(v)))(x))
    score = tangent(jax.grad(lambda v: jnp.sum(mixture.log_prob(v)))(x))
    measured["score"] = 1 + jnp.max(jnp.abs(score))
    measured["force"] = jnp.max(jnp.abs(force - score)) / measured["score"]
    measured["size"] = _size(mixture.bank, x)
    measured["steepest"] = _steepest(mixture.bank, x)
    return measured


def _compare_densities(mixture: MemoryMixture, x: Float[Array, "N D"]) -> dict[str, jax.Array]:
    """The fast log density against NumPyro's own mixture of the same bank."""
    mixing = dist.CategoricalLogits(mixture.log_weights, validate_args=False)
    broadcast = dist.MixtureSameFamily(mixing, mixture.bank, validate_args=False).log_prob(x)
    log_prob = mixture.log_prob(x)
    size = 1 + jnp.max(jnp.abs(log_prob))
    return {"log_prob": size, "broadcast": jnp.max(jnp.abs(log_prob - broadcast)) / size}


def _compare_alone(mixture: MemoryMixture, x: Float[Array, "N D"]) -> dict[str, jax.Array]:
    measured = _compare_densities(mixture, x)
    terms = jnp.abs(mixture.log_joint(x))
    measured["size"] = 1 + x.shape[-1] + jnp.max(terms, where=jnp.isfinite(terms), initial=0.0)
    return measured


def _difference_check(mixture: MemoryMixture, x: jax.Array) -> Check | None:
    """Autodiff against central differences along one direction, in unconstrained coordinates of the support.

    Points where differences of two step sizes disagree are at a kink and are left out; at least half of the points must
    remain. ``None`` for a discrete support, or one without unconstrained coordinates.
    """
    if mixture.bank.is_discrete:
        return None
    try:
        transform = biject_to(mixture.support)
    except NotImplementedError:
        return None
    u = np.asarray(transform.inv(x))
    u = u[np.isfinite(u).all(axis=-1)]  # points on the edge of the support have no such coordinates
    if not len(u):
        return None
    spread = np.std(u, axis=0)
    sign = np.where(np.arange(u.shape[-1]) % 2 == 0, 1.0, -0.7)
    direction = (sign * np.where(spread > 0, spread, 1)).astype(u.dtype)
    step = np.asarray(np.finfo(u.dtype).eps ** (1 / 3), u.dtype)

    def log_density(v: jax.Array) -> jax.Array:
        return jnp.asarray(mixture.log_prob(transform(v)))

    def slopes(v: jax.Array) -> tuple[jax.Array, ...]:
        score = jax.grad(lambda rows: jnp.sum(log_density(rows)))(v) @ direction
        ahead_of = [log_density(v + h * direction) - log_density(v - h * direction) for h in (step, step / 2)]
        return score, ahead_of[0] / (2 * step), ahead_of[1] / step

    score, wide, narrow = (np.asarray(slope) for slope in jax.jit(slopes, compiler_options=compiler_options())(u))
    size = 1 + np.abs(narrow)
    is_coarse = np.finfo(u.dtype).eps > 1e-10
    smooth = np.abs(wide - narrow) <= (100 * _SMOOTH if is_coarse else _SMOOTH) * size
    left_out = f" ({int(np.sum(~smooth))} of {smooth.size} points left out)" if not smooth.all() else ""
    errors = np.abs(score - narrow) / size
    return _check(
        "score",
        f"grad log p = central differences{left_out}",
        "this family has no physical energy: autodiff against differences of the log density",
        float(np.max(errors[smooth])) if 2 * np.sum(smooth) >= smooth.size else float("inf"),
        0.05 if is_coarse else 1e-3,
    )


def _size(bank: Distribution, x: Float[Array, "N D"]) -> jax.Array:
    """Size of the largest term of a log density: squares of centred points in units of the narrowest memory."""
    if isinstance(bank, VonMisesFisher):
        log_c = log_normalizer(x.shape[-1], bank.concentration)
        return 1 + jnp.max(bank.concentration) + jnp.max(jnp.abs(log_c))
    products = _products(bank, x)
    if products is not None:
        return 1 + x.shape[-1] + jnp.max(products)
    locations = jnp.asarray(bank.mean)
    origin = locations.mean(axis=0)
    far = jnp.maximum(
        jnp.max(jnp.sum((x - origin) ** 2, axis=-1)), jnp.max(jnp.sum((locations - origin) ** 2, axis=-1))
    )
    return 1 + x.shape[-1] + far * _stiffest(bank)


def _products(bank: Distribution, x: Float[Array, "N D"]) -> jax.Array | None:
    """Sizes of the terms of a log density; ``None`` for Gaussians, whose squares are expanded."""
    base = bank.base_dist if isinstance(bank, dist.Independent) else bank
    if isinstance(base, dist.BernoulliProbs | dist.BernoulliLogits | SpinBernoulli):
        return jnp.sum(jnp.abs(base.logits), axis=-1)
    if isinstance(base, MultinomialCounts):
        return jnp.max(jnp.abs(x) @ jnp.abs(base.log_rates).T) + jnp.sum(gammaln(x + 1), -1)
    if isinstance(base, dist.Dirichlet):
        alpha = jnp.asarray(base.concentration)
        parts = jnp.max(jnp.abs(jnp.log(x)) @ jnp.abs(alpha - 1).T)
        return parts + gammaln(jnp.sum(alpha, -1)) + jnp.sum(jnp.abs(gammaln(alpha)), -1)
    if isinstance(base, dist.Normal | dist.MultivariateNormal):
        return None
    terms = jnp.abs(pairwise_log_prob(bank, x))  # nothing is expanded in the others: the terms themselves
    return jnp.max(terms, where=jnp.isfinite(terms), initial=0.0)


def _stiffest(bank: Distribution) -> jax.Array:
    """Upper bound of the precision of any memory in any direction."""
    if isinstance(bank, dist.MultivariateNormal):
        return jnp.max(jnp.sum(jnp.abs(bank.precision_matrix), axis=-1))
    return 1 / jnp.min(jnp.asarray(bank.variance))


def _steepest(bank: Distribution, x: Float[Array, "N D"]) -> jax.Array:
    """Largest force of one memory at eight of the points: how far an error of a responsibility can move the force."""
    if isinstance(bank, VonMisesFisher):
        return 1 + jnp.max(bank.concentration)
    forces = jax.vmap(jax.jacrev(lambda v: jnp.asarray(bank.log_prob(v))))(x[:8])
    return 1 + jnp.max(jnp.abs(forces))
