r"""Physical twins of Gaussian, directional and discrete banks: the energy that is the negative log density.

A twin is computed from the parameters of the fitted bank alone, with

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

The other continuous families are in :mod:`probam.equivalence.continuous_twins`. A bank without a physical twin is
checked against NumPyro's own broadcast mixture and against finite differences. A new family registers its twin with one
of the two functions of :mod:`probam.equivalence.twin`.
"""

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.scipy.special import gammaln
from numpyro.distributions import Distribution

from probam.distributions.bits import SpinBernoulli
from probam.distributions.counts import MultinomialCounts
from probam.distributions.mixture import MemoryMixture
from probam.distributions.von_mises_fisher import VonMisesFisher
from probam.energies import clam, composition, counts, hypercube, quadratic, spherical
from probam.energies.arguments import Logs
from probam.equivalence.twin import Twin, bank_twin, independent_twin, recall_functions, with_parameters
from probam.numerics.bessel import log_normalizer
from probam.numerics.steady import restored, steady

__all__ = ["physical_twin", "twin_name"]


@independent_twin.register
def _(base: dist.Normal, bank: Distribution, log_weights: jax.Array) -> Twin | None:
    if len(bank.event_shape) != 1:
        return None
    loc = jnp.broadcast_to(base.loc, bank.shape())
    scale = jnp.asarray(base.scale)
    if scale.size == 1:
        beta = 1 / (2 * scale.reshape(()) ** 2)
        parameters = {"memories": loc, "beta": beta, "weights": Logs(log_weights)}
        functions = recall_functions(clam.energy, clam.update, clam.responsibilities, **parameters)
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
    parameters = {"directions": directions, "concentrations": kappa, "weights": Logs(log_w)}
    one = jnp.ones((), directions.dtype)
    functions = recall_functions(spherical.energy, spherical.update, spherical.responsibilities, **parameters)
    return Twin("spherical memories", *functions, one, 0 * one, with_parameters(spherical.retract))


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
    parameters = {"fields": fields, "weights": Logs(log_weights)}
    ends = {"low": jnp.asarray(low, fields.dtype), "high": jnp.ones((), fields.dtype)}
    energy, responsibilities = (
        with_parameters(hypercube.energy, **parameters),
        with_parameters(hypercube.responsibilities, **parameters),
    )
    update, inside = with_parameters(hypercube.update, **parameters, **ends), with_parameters(hypercube.inside, **ends)
    one = jnp.ones((), fields.dtype)
    return Twin("memories of bits", energy, update, responsibilities, one, 0 * one, inside=inside)


@bank_twin.register
def _(bank: MultinomialCounts, log_weights: jax.Array) -> Twin:
    parameters = {"log_fugacities": bank.log_rates, "weights": Logs(log_weights - bank.total)}
    one = jnp.ones((), bank.log_rates.dtype)
    functions = recall_functions(counts.energy, counts.update, counts.responsibilities, **parameters)
    return Twin("memories of counts", *functions, one, 0 * one, inside=with_parameters(counts.inside))


@bank_twin.register
def _(bank: dist.Dirichlet, log_weights: jax.Array) -> Twin:
    alpha = jnp.broadcast_to(bank.concentration, bank.shape())
    log_w = log_weights + gammaln(jnp.sum(alpha, axis=-1)) - jnp.sum(gammaln(alpha), axis=-1)
    parameters = {"exponents": alpha - 1, "weights": Logs(log_w)}
    one = jnp.ones((), alpha.dtype)
    functions = recall_functions(composition.energy, composition.update, composition.responsibilities, **parameters)
    return Twin("memories of compositions", *functions, one, 0 * one, inside=with_parameters(composition.inside))


def _wells(loc: jax.Array, stiffness: jax.Array, log_weights: jax.Array) -> Twin:
    parameters = {"memories": loc, "stiffness": stiffness, "weights": Logs(log_weights)}
    one = jnp.ones((), loc.dtype)
    functions = recall_functions(quadratic.energy, quadratic.update, quadratic.responsibilities, **parameters)
    return Twin("quadratic wells", *functions, one, 0.5 * loc.shape[-1] * jnp.log(jnp.pi * one))


def physical_twin(mixture: MemoryMixture) -> Twin | None:
    """The energy that is the negative log density of the mixture, with its dynamics; ``None`` where there is none."""
    return bank_twin(mixture.bank, mixture.log_weights)


def twin_name(mixture: MemoryMixture) -> str | None:
    """The name of the physical twin, ``None`` where there is none; nothing is computed for it."""
    found: list[Twin | None] = []
    jax.eval_shape(lambda law: found.append(physical_twin(restored(law))), steady(mixture))
    return None if found[0] is None else found[0].name
