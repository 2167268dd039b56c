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
Bernoulli, SpinBernoulli  hypercube, fields of the log odds            1, 0
MultinomialCounts         counts, fugacities of the expected counts    1, 0
Dirichlet                 composition, exponents alpha - 1             1, 0
========================= ============================================ ===========================================

(and those of :mod:`probam.equivalence.continuous_twins`).

A bank without a physical twin is checked against NumPyro's own broadcast mixture and against finite differences, and
the checks say so. A new family registers its twin at one of the doors of :mod:`probam.equivalence.physical_twins`.
"""

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

from probam.distributions.bessel import log_normalizer
from probam.distributions.bits import SpinBernoulli
from probam.distributions.counts import MultinomialCounts
from probam.distributions.mixture import MemoryMixture
from probam.distributions.pairwise import pairwise_log_prob
from probam.distributions.steady import restored, steady
from probam.distributions.von_mises_fisher import VonMisesFisher
from probam.energies import clam, composition, counts, hypercube, quadratic, spherical
from probam.energies.arguments import Logs
from probam.equivalence import continuous_twins  # noqa: F401  registers the twins of the other continuous families
from probam.equivalence.claim import compiler_options
from probam.equivalence.physical_twins import Twin, bank_twin, held, independent_twin, maps

__all__ = ["Check", "physical_twin", "verify_mixture"]

_ROUNDING = 256
"""Bound of an error in units of eps times the condition of the sum (the largest term that enters it)."""

_SMOOTH = 1e-4
"""Two central differences, one of half the step, that agree so well are a derivative; others straddle a kink."""


class Check(NamedTuple):
    """One comparison: what was compared, by whom, how far apart they are at most, and what is allowed."""

    name: str
    relation: str
    witnesses: str
    error: float
    tolerance: float
    passed: bool


@independent_twin.register
def _(base: dist.Normal, bank: Distribution, log_weights: jax.Array) -> Twin | None:
    if len(bank.event_shape) != 1:
        return None
    loc = jnp.broadcast_to(base.loc, bank.shape())
    scale = jnp.asarray(base.scale)
    if scale.size == 1:
        beta = 1 / (2 * scale.reshape(()) ** 2)
        of = {"memories": loc, "beta": beta, "weights": Logs(log_weights)}
        functions = maps(clam.energy, clam.update, clam.responsibilities, **of)
        return Twin("CLAM", *functions, beta, 0.5 * loc.shape[-1] * jnp.log(jnp.pi / beta))
    stiffness = jnp.broadcast_to(1 / (2 * scale**2), bank.shape())
    return _wells(loc, stiffness, log_weights + 0.5 * jnp.sum(jnp.log(stiffness), axis=-1))


@bank_twin.register
def _(bank: dist.MultivariateNormal, log_weights: jax.Array) -> Twin:
    loc = jnp.broadcast_to(bank.loc, bank.shape())
    dim = loc.shape[-1]
    stiffness = jnp.broadcast_to(bank.precision_matrix, (*bank.batch_shape, dim, dim)) / 2
    _, log_det = jnp.linalg.slogdet(stiffness)
    return _wells(loc, stiffness.astype(loc.dtype), log_weights + 0.5 * log_det.astype(loc.dtype))


@bank_twin.register
def _(bank: VonMisesFisher, log_weights: jax.Array) -> Twin:
    directions = jnp.broadcast_to(bank.mean_direction, bank.shape())
    kappa = jnp.broadcast_to(bank.concentration, bank.batch_shape)
    log_w = log_weights + log_normalizer(directions.shape[-1], kappa)
    of = {"directions": directions, "concentrations": kappa, "weights": Logs(log_w)}
    one = jnp.ones((), directions.dtype)
    functions = maps(spherical.energy, spherical.update, spherical.responsibilities, **of)
    return Twin("spherical memories", *functions, one, 0 * one, held(spherical.retract))


@independent_twin.register(dist.BernoulliProbs)
@independent_twin.register(dist.BernoulliLogits)
def _(base: dist.BernoulliProbs | dist.BernoulliLogits, bank: Distribution, log_weights: jax.Array) -> Twin:
    logits = jnp.broadcast_to(base.logits, bank.shape())
    return _bits(logits, log_weights - jnp.sum(jax.nn.softplus(logits), axis=-1), 0.0)


@independent_twin.register
def _(base: SpinBernoulli, bank: Distribution, log_weights: jax.Array) -> Twin:
    fields = jnp.broadcast_to(base.fields, bank.shape())
    return _bits(fields, log_weights - jnp.sum(jnp.logaddexp(fields, -fields), axis=-1), -1.0)


def _bits(fields: jax.Array, log_weights: jax.Array, low: float) -> Twin:
    of = {"fields": fields, "weights": Logs(log_weights)}
    ends = {"low": jnp.asarray(low, fields.dtype), "high": jnp.ones((), fields.dtype)}
    energy, responsibilities = held(hypercube.energy, **of), held(hypercube.responsibilities, **of)
    update, inside = held(hypercube.update, **of, **ends), held(hypercube.inside, **ends)
    one = jnp.ones((), fields.dtype)
    return Twin("memories of bits", energy, update, responsibilities, one, 0 * one, inside=inside)


@bank_twin.register
def _(bank: MultinomialCounts, log_weights: jax.Array) -> Twin:
    of = {"log_fugacities": bank.log_rates, "weights": Logs(log_weights - bank.total)}
    one = jnp.ones((), bank.log_rates.dtype)
    functions = maps(counts.energy, counts.update, counts.responsibilities, **of)
    return Twin("memories of counts", *functions, one, 0 * one, inside=held(counts.inside))


@bank_twin.register
def _(bank: dist.Dirichlet, log_weights: jax.Array) -> Twin:
    alpha = jnp.broadcast_to(bank.concentration, bank.shape())
    log_w = log_weights + gammaln(jnp.sum(alpha, axis=-1)) - jnp.sum(gammaln(alpha), axis=-1)
    of = {"exponents": alpha - 1, "weights": Logs(log_w)}
    one = jnp.ones((), alpha.dtype)
    functions = maps(composition.energy, composition.update, composition.responsibilities, **of)
    return Twin("memories of compositions", *functions, one, 0 * one, inside=held(composition.inside))


def _wells(loc: jax.Array, stiffness: jax.Array, log_weights: jax.Array) -> Twin:
    of = {"memories": loc, "stiffness": stiffness, "weights": Logs(log_weights)}
    one = jnp.ones((), loc.dtype)
    functions = maps(quadratic.energy, quadratic.update, quadratic.responsibilities, **of)
    return Twin("quadratic wells", *functions, one, 0.5 * loc.shape[-1] * jnp.log(jnp.pi * one))


def physical_twin(mixture: MemoryMixture) -> Twin | None:
    """The physics whose energy is the mixture's negative log density; None where no such physics is written."""
    return bank_twin(mixture.bank, mixture.log_weights)


def verify_mixture(mixture: MemoryMixture, x: Float[Array, "N D"]) -> list[Check]:
    """Checks of one mixture at the rows of ``x``.

    Errors of log densities are in nats, relative to 1 + the largest |log p|; the bound is a few hundred roundings of
    the largest square or product that enters them, so it follows the precision of ``x``. Rows of ``x`` are brought to
    the sphere first where the memories are directions.
    """
    twin = physical_twin(mixture)
    rounding = _ROUNDING * float(np.finfo(x.dtype).eps)
    if twin is None:
        compare = jax.jit(partial(_compare_alone, mixture), compiler_options=compiler_options())
        found = {name: float(value) for name, value in compare(x).items()}
        checks = [_fast_check(found, rounding * found["size"])]
        differences = _difference_check(mixture, x)
        return checks if differences is None else [*checks, differences]
    found = {name: float(value) for name, value in _with_twin()(steady(mixture), x).items()}
    unit = rounding * found["size"]
    both = f"probam.energies ({twin.name}) against probam.distributions"
    checks = [
        _fast_check(found, unit),
        _check("energy", "log p = -scale E - constant", both, found["energy"], unit / found["log_prob"]),
    ]
    if "responsibilities" in found:
        checks.append(_check("responsibilities", "equal", both, found["responsibilities"], unit))
    if "fall" in found:
        checks.append(_check("recall", "a step does not lower log p", both, found["fall"], unit / found["log_prob"]))
    bound = unit * found["steepest"] / found["score"]
    return [*checks, _check("force", "grad log p = -scale grad E", both, found["force"], bound)]


def _check(name: str, relation: str, witnesses: str, error: float, tolerance: float) -> Check:
    return Check(name, relation, witnesses, error, tolerance, bool(error <= tolerance))


def _fast_check(found: dict[str, float], unit: float) -> Check:
    return _check(
        "fast log density",
        "equal",
        "probam.distributions (matrix products) against NumPyro (broadcast)",
        found["broadcast"],
        unit / found["log_prob"],
    )


@cache
def _with_twin() -> Callable[[Any, jax.Array], dict[str, jax.Array]]:
    """The comparisons, compiled once for all draws of a posterior."""
    return jax.jit(_compare, compiler_options=compiler_options())


def _compare(held: Any, x: Float[Array, "N D"]) -> dict[str, jax.Array]:
    """Errors of the twin and of the fast density, and the sizes that they are relative to; a steady mixture."""
    mixture: MemoryMixture = restored(held)
    twin = physical_twin(mixture)
    assert twin is not None
    if twin.retract is not None:
        x = twin.retract(x)
    found = _compare_densities(mixture, x)
    log_prob = mixture.log_prob(x)
    found["energy"] = jnp.max(jnp.abs(twin.scale * twin.energy(x) + twin.constant + log_prob)) / found["log_prob"]
    if twin.responsibilities is not None:
        found["responsibilities"] = jnp.max(jnp.abs(twin.responsibilities(x) - mixture.responsibilities(x)))
    if twin.update is not None:
        found["fall"] = jnp.max(log_prob - mixture.log_prob(twin.update(x)), initial=0.0) / found["log_prob"]

    def tangent(gradient: jax.Array) -> jax.Array:
        """The part along the sphere, where the memories are directions."""
        return gradient if twin.retract is None else gradient - jnp.sum(gradient * x, -1, keepdims=True) * x

    force = tangent(-twin.scale * jax.grad(lambda v: jnp.sum(twin.energy(v)))(x))
    score = tangent(jax.grad(lambda v: jnp.sum(mixture.log_prob(v)))(x))
    found["score"] = 1 + jnp.max(jnp.abs(score))
    found["force"] = jnp.max(jnp.abs(force - score)) / found["score"]
    found["size"] = _size(mixture.bank, x)
    found["steepest"] = _steepest(mixture.bank, x)
    return found


def _compare_densities(mixture: MemoryMixture, x: Float[Array, "N D"]) -> dict[str, jax.Array]:
    """The fast log density against NumPyro's own mixture of the same bank."""
    mixing = dist.CategoricalLogits(mixture.log_weights, validate_args=False)
    broadcast = dist.MixtureSameFamily(mixing, mixture.bank, validate_args=False).log_prob(x)
    log_prob = mixture.log_prob(x)
    size = 1 + jnp.max(jnp.abs(log_prob))
    return {"log_prob": size, "broadcast": jnp.max(jnp.abs(log_prob - broadcast)) / size}


def _compare_alone(mixture: MemoryMixture, x: Float[Array, "N D"]) -> dict[str, jax.Array]:
    found = _compare_densities(mixture, x)
    terms = jnp.abs(mixture.log_joint(x))
    found["size"] = 1 + x.shape[-1] + jnp.max(terms, where=jnp.isfinite(terms), initial=0.0)
    return found


def _difference_check(mixture: MemoryMixture, x: jax.Array) -> Check | None:
    """Autodiff against central differences along one direction, in coordinates in which the support is all of R^D.

    Points where differences of two step sizes disagree are at a kink and left out (half of the points must remain).
    None where there is no derivative to speak of: a discrete support, or one without such coordinates.
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
        "no physical energy is written for this family: autodiff against differences of the density",
        float(np.max(errors[smooth])) if 2 * np.sum(smooth) >= smooth.size else float("inf"),
        0.05 if is_coarse else 1e-3,
    )


def _size(bank: Distribution, x: Float[Array, "N D"]) -> jax.Array:
    """The largest number that enters a log density: squares of centred points in units of the narrowest memory."""
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
    """Sizes of what is added up in a log density; None for Gaussians, whose squares are expanded."""
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
    """At least the largest precision of a memory in any direction."""
    if isinstance(bank, dist.MultivariateNormal):
        return jnp.max(jnp.sum(jnp.abs(bank.precision_matrix), axis=-1))
    return 1 / jnp.min(jnp.asarray(bank.variance))


def _steepest(bank: Distribution, x: Float[Array, "N D"]) -> jax.Array:
    """How much a wrong responsibility can move the force: the steepest force of one memory at some of the points."""
    if isinstance(bank, VonMisesFisher):
        return 1 + jnp.max(bank.concentration)
    forces = jax.vmap(jax.jacrev(lambda v: jnp.asarray(bank.log_prob(v))))(x[:8])
    return 1 + jnp.max(jnp.abs(forces))
