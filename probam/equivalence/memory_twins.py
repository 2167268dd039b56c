r"""The densities that memories are: mixtures in NumPyro, made from the parameters of a memory alone.

.. math:: \log p(x) = -\text{scale} \cdot E(x) - \text{constant}

A sum of terms \(w_k \exp(-E_k(x))\) whose integrals are \(Z_k\) is a mixture with weights \(w_k Z_k / \sum_j w_j Z_j\)
and the constant \(\log \sum_k w_k Z_k\). The physics has the terms; here are the integrals, and NumPyro's components.
Where there is no such density, a text says why.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.scipy.special import gammaln, logsumexp
from jaxtyping import Array, Float
from numpyro.distributions import Distribution

from probam.distributions.bits import SpinBernoulli
from probam.distributions.epanechnikov import Epanechnikov
from probam.distributions.generalized_normal import GeneralizedNormal, RadialLaplace
from probam.distributions.levy import Levy
from probam.distributions.mixture import MemoryMixture
from probam.distributions.uniform import UniformBall, UniformBox
from probam.distributions.von_mises_fisher import VonMisesFisher
from probam.energies import (
    assignments,
    attention,
    bayesian_predictive_coding,
    clam,
    composition,
    consolidated,
    continuous_hopfield,
    counts,
    creation,
    dense,
    diffusion,
    energy_transformer,
    epanechnikov,
    generalized_normal,
    hopfield,
    hypercube,
    laplace,
    layered_sequences,
    positive_features,
    predictive_coding,
    predictive_hierarchy,
    quadratic,
    random_features,
    sequences,
    sparse_distributed,
    spherical,
    streamed_assignments,
    student_t,
    supports,
    timed_sequences,
    two_layer,
    universal,
    variational,
)
from probam.energies.arguments import Logs
from probam.energies.lagrangians import LogSumExp, Quadratic
from probam.energies.memory import Memory
from probam.equivalence.twin import Density, twin
from probam.numerics.bessel import log_normalizer

__all__ = ["twin_in_words"]

_LOG_PI = math.log(math.pi)


def _mixture(
    log_w: Float[Array, " K"], log_z: Float[Array, " K"], bank: Distribution, scale: float | Float[Array, ""] = 1.0
) -> Density:
    """The density of a sum of terms with these weights and integrals."""
    constant = logsumexp(log_w + log_z)
    return Density(MemoryMixture(log_w + log_z - constant, bank), jnp.asarray(scale), constant)


def _logs(weights: object, rows: Float[Array, "K D"]) -> Float[Array, " K"]:
    """Logs of the weights of a memory; zero for None."""
    if weights is None:
        return jnp.zeros(len(rows), rows.dtype)
    if isinstance(weights, Logs):
        return jnp.asarray(weights.values, rows.dtype)
    return jnp.log(jnp.asarray(weights, rows.dtype))


def _normal(loc: Float[Array, "K D"], variance: Float[Array, "..."]) -> Distribution:
    """Independent normal features; one variance, or one for each memory."""
    scale = jnp.sqrt(jnp.asarray(variance, loc.dtype))
    columns = scale[:, None] if scale.ndim == 1 else scale
    return dist.Normal(loc, jnp.broadcast_to(columns, loc.shape)).to_event(1)


def _rows(values: object) -> Float[Array, "K D"]:
    array = jnp.asarray(values)
    return array.astype(jnp.result_type(array, float))


def _columns(value: object, rows: Float[Array, "K D"]) -> Float[Array, "K D"]:
    """A rate for all, for each memory, or for each memory and coordinate, as the last."""
    array = jnp.asarray(value, rows.dtype)
    return jnp.broadcast_to(array[:, None] if array.ndim == 1 else array, rows.shape)


# --- Gaussians -------------------------------------------------------------------------------------------------------


@twin.register
def _(memory: clam.Clam) -> Density:
    """A Gaussian mixture: N(mu_k, I / (2 beta)), with the weights w_k."""
    loc, beta = _rows(memory.memories), jnp.asarray(memory.beta)
    log_z = jnp.full(len(loc), 0.5 * loc.shape[1] * (_LOG_PI - jnp.log(beta)))
    return _mixture(_logs(memory.weights, loc), log_z, _normal(loc, 0.5 / beta), beta)


@twin.register
def _(memory: diffusion.Diffusion) -> Density:
    """A Gaussian mixture: N(a x_mu, s^2 I), with equal weights."""
    loc, square = jnp.asarray(memory.signal) * _rows(memory.memories), jnp.asarray(memory.deviation) ** 2
    log_z = jnp.full(len(loc), 0.5 * loc.shape[1] * (_LOG_PI + jnp.log(2 * square)))
    return _mixture(jnp.zeros(len(loc)), log_z, _normal(loc, square), 0.5 / square)


@twin.register
def _(memory: quadratic.Quadratic) -> Density:
    """A Gaussian mixture: N(mu_k, (2 A_k)^-1), with weights w_k / sqrt(det A_k)."""
    loc, stiffness = _rows(memory.memories), jnp.asarray(memory.stiffness)
    log_w, dim = _logs(memory.weights, loc), loc.shape[1]
    if stiffness.ndim < 3:
        columns = _columns(stiffness, loc)
        log_z = 0.5 * jnp.sum(_LOG_PI - jnp.log(columns), axis=-1)
        return _mixture(log_w, log_z, dist.Normal(loc, (2 * columns) ** -0.5).to_event(1))
    symmetric = (stiffness + jnp.swapaxes(stiffness, -1, -2)) / 2
    log_z = 0.5 * (dim * _LOG_PI - jnp.linalg.slogdet(symmetric)[1])
    return _mixture(log_w, log_z, dist.MultivariateNormal(loc, precision_matrix=2 * symmetric))


@twin.register
def _(memory: continuous_hopfield.ContinuousHopfield) -> Density:
    """A Gaussian mixture: N(xi_k, I / beta), with weights exp(beta |xi_k|^2 / 2)."""
    return _attended(_rows(memory.memories), jnp.asarray(memory.beta), jnp.zeros(()))


@twin.register
def _(memory: two_layer.Network) -> Density | str:
    """A Gaussian mixture, for linear features and softmax memories; none for other Lagrangians."""
    if isinstance(memory.visible, Quadratic) and isinstance(memory.hidden, LogSumExp):
        rows = _rows(memory.memories)
        return _attended(rows, jnp.asarray(memory.hidden.inverse_temperature), jnp.asarray(memory.current))
    return (
        "only linear features with softmax memories sum exponentials of quadratic forms, a Gaussian mixture; for other "
        "Lagrangians exp(-E) has no normaliser in closed form"
    )


def _attended(memories: Float[Array, "K D"], beta: Float[Array, ""], current: Float[Array, "..."]) -> Density:
    r"""The Gaussians of softmax memories: exp(-beta E) sums \(e^{\beta (\xi + I) \cdot v - \beta |v|^2 / 2}\)."""
    loc = memories + current
    log_z = 0.5 * beta * jnp.sum(loc**2, axis=-1) + 0.5 * loc.shape[1] * jnp.log(2 * jnp.pi / beta)
    return _mixture(jnp.zeros(len(loc)), log_z, _normal(loc, 1 / beta), beta)


@twin.register
def _(memory: creation.Creation) -> Density:
    """A Gaussian mixture: the memories with weights n_k - d, and N(0, I / (2 beta) + I / (2 rho)) with alpha + d K."""
    loc, beta, rho = _rows(memory.memories), jnp.asarray(memory.beta), jnp.asarray(memory.rho)
    num_memories, dim = loc.shape
    sizes, alpha, discount = (jnp.asarray(value) for value in (memory.counts, memory.alpha, memory.discount))
    seats = jnp.append(sizes - discount, alpha + discount * num_memories)
    places = jnp.concatenate([loc, jnp.zeros((1, dim), loc.dtype)])
    variances = jnp.append(jnp.full(num_memories, 0.5 / beta), 0.5 / beta + 0.5 / rho)
    log_z = jnp.full(num_memories + 1, 0.5 * dim * jnp.log(jnp.pi / beta))
    return _mixture(jnp.log(seats), log_z, _normal(places, variances), beta)


@twin.register
def _(memory: consolidated.Consolidated) -> Density:
    """A Gaussian mixture: N(k_m, I / (2 beta)), with the counts as weights."""
    loc, beta = _rows(memory.keys), jnp.asarray(memory.beta)
    log_z = jnp.full(len(loc), 0.5 * loc.shape[1] * (_LOG_PI - jnp.log(beta)))
    return _mixture(jnp.log(jnp.asarray(memory.counts)), log_z, _normal(loc, 0.5 / beta), beta)


@twin.register
def _(memory: predictive_coding.Decoder) -> Density:
    """A Gaussian mixture: the posterior of the latent state, each memory updated by the observation."""
    loc, matrix = _rows(memory.memories), jnp.asarray(memory.matrix)
    square, noise = jnp.asarray(memory.width) ** 2, jnp.asarray(memory.noise) ** 2
    seen = jnp.asarray(memory.observation) - jnp.asarray(memory.bias)
    num_seen, dim = matrix.shape
    precision = matrix.T @ matrix / noise + jnp.eye(dim) / square
    means = jnp.linalg.solve(precision, (seen @ matrix / noise + loc / square).T).T
    spread = noise * jnp.eye(num_seen) + square * matrix @ matrix.T
    evidence = dist.MultivariateNormal(loc @ matrix.T, covariance_matrix=spread).log_prob(seen)
    log_z = evidence + 0.5 * dim * jnp.log(2 * jnp.pi * square) + 0.5 * num_seen * jnp.log(2 * jnp.pi * noise)
    bank = dist.MultivariateNormal(means, precision_matrix=jnp.broadcast_to(precision, (len(loc), dim, dim)))
    return _mixture(_logs(memory.weights, loc), log_z, bank)


@twin.register
def _(memory: predictive_hierarchy.PredictiveCoding) -> Density | str:
    """A normal law with the covariance of all layers, where they are linear; none for others."""
    if memory.activation != "linear":
        return (
            "the energy is minus the log density of all layers together at the most probable hidden ones; the density "
            "of the seen one alone has no closed form unless the layers are linear (activation='linear')"
        )
    *hidden, mean = (jnp.asarray(bias) for bias in memory.layers.biases)
    spread = jnp.eye(len(mean), dtype=mean.dtype)
    noises = [jnp.asarray(memory.noise), *[jnp.ones(())] * (len(hidden) - 1)]
    for weight, bias, noise in zip(memory.layers.weights[::-1], hidden[::-1], noises[::-1], strict=True):
        matrix = jnp.asarray(weight)
        mean = bias + matrix @ mean
        spread = noise**2 * jnp.eye(len(bias)) + matrix @ spread @ matrix.T
    constant = 0.5 * len(mean) * jnp.log(2 * jnp.pi) + 0.5 * jnp.linalg.slogdet(spread)[1]
    return Density(dist.MultivariateNormal(mean, covariance_matrix=spread), jnp.ones(()), constant)


@twin.register
def _(memory: positive_features.PositiveFeatures) -> Density:
    """A Gaussian mixture: N(c_y, I / (2 gamma)) at fixed random centres, whose weights are what is written."""
    centres, gamma = _rows(memory.centres), jnp.asarray(memory.gamma)
    proposal = dist.Normal(0.0, memory.spread).expand([centres.shape[1]]).to_event(1)
    overlap = 0.5 * centres.shape[1] * jnp.log(2 * gamma / jnp.pi)
    log_m = jnp.log(jnp.asarray(memory.stored)) - proposal.log_prob(centres) + overlap - math.log(len(centres))
    log_z = jnp.full(len(centres), 0.5 * centres.shape[1] * jnp.log(jnp.pi / gamma))
    return _mixture(log_m, log_z, _normal(centres, 0.5 / gamma), 0.5 * gamma)


# --- other wells -----------------------------------------------------------------------------------------------------


@twin.register
def _(memory: laplace.Laplace) -> Density:
    """A mixture of products of Laplace laws with scales 1 / beta_kd."""
    loc = _rows(memory.memories)
    beta = _columns(memory.beta, loc)
    return _mixture(
        _logs(memory.weights, loc), jnp.sum(jnp.log(2 / beta), axis=-1), dist.Laplace(loc, 1 / beta).to_event(1)
    )


@twin.register
def _(memory: student_t.StudentT) -> Density:
    """A mixture of multivariate Student-t laws with scatter matrices A_k^-1."""
    loc = _rows(memory.memories)
    num_memories, dim = loc.shape
    stiffness, df = jnp.asarray(memory.stiffness), jnp.broadcast_to(jnp.asarray(memory.df), (num_memories,))
    if stiffness.ndim < 3:
        stiffness = jax.vmap(jnp.diag)(_columns(stiffness, loc))
    scatter = jnp.linalg.inv((stiffness + jnp.swapaxes(stiffness, -1, -2)) / 2)
    factor = jnp.linalg.cholesky(scatter)
    log_det = 2 * jnp.sum(jnp.log(jnp.diagonal(factor, axis1=-2, axis2=-1)), axis=-1)
    log_z = gammaln(df / 2) - gammaln((df + dim) / 2) + 0.5 * dim * jnp.log(df * jnp.pi) + 0.5 * log_det
    return _mixture(_logs(memory.weights, loc), log_z, dist.MultivariateStudentT(df, loc, factor))


@twin.register
def _(memory: generalized_normal.GeneralizedNormal) -> Density:
    """A mixture of products of generalised normal laws."""
    loc, power = _rows(memory.memories), memory.power
    beta = _columns(memory.beta, loc)
    log_z = jnp.sum(jnp.log(2.0) + gammaln(1 + 1 / power) - jnp.log(beta) / power, axis=-1)
    return _mixture(_logs(memory.weights, loc), log_z, GeneralizedNormal(loc, beta, power).to_event(1))


@twin.register
def _(memory: generalized_normal.Radial) -> Density | str:
    """A mixture of radial Laplace laws for p = 1, of Gaussians for p = 2."""
    loc, dim = _rows(memory.memories), jnp.shape(memory.memories)[1]
    beta = jnp.broadcast_to(jnp.asarray(memory.beta, loc.dtype), (len(loc),))
    log_w = _logs(memory.weights, loc)
    if memory.power == 1:
        log_z = jnp.log(2.0) + 0.5 * dim * _LOG_PI + gammaln(1.0 * dim) - gammaln(0.5 * dim) - dim * jnp.log(beta)
        return _mixture(log_w, log_z, RadialLaplace(loc, beta))
    if memory.power == 2:
        return _mixture(log_w, 0.5 * dim * (_LOG_PI - jnp.log(beta)), _normal(loc, 0.5 / beta))
    return "a density, but none of NumPyro's or ours: there is one for the powers 1 and 2"


@twin.register
def _(memory: supports.Box) -> Density:
    """A mixture of uniform laws on boxes."""
    loc = _rows(memory.memories)
    reach = _columns(memory.half_widths, loc)
    return _mixture(_logs(memory.weights, loc), jnp.sum(jnp.log(2 * reach), axis=-1), UniformBox(loc, reach))


@twin.register
def _(memory: supports.Ball) -> Density:
    """A mixture of uniform laws in balls."""
    loc = _rows(memory.memories)
    dim, radii = loc.shape[1], jnp.broadcast_to(jnp.asarray(memory.radii, loc.dtype), (len(loc),))
    log_z = 0.5 * dim * _LOG_PI - gammaln(0.5 * dim + 1) + dim * jnp.log(radii)
    return _mixture(_logs(memory.weights, loc), log_z, UniformBall(loc, radii))


@twin.register
def _(memory: supports.Levy) -> Density:
    """A mixture of products of Levy laws."""
    loc = _rows(memory.memories)
    scales = _columns(memory.scales, loc)
    log_z = 0.5 * jnp.sum(jnp.log(2 * jnp.pi / scales), axis=-1)
    return _mixture(_logs(memory.weights, loc), log_z, Levy(loc, scales).to_event(1))


@twin.register
def _(memory: epanechnikov.Epanechnikov) -> Density | str:
    """A mixture of Epanechnikov kernels of radius sqrt(2 / beta), for eps = 0; none above it."""
    if float(jnp.asarray(memory.floor)) > 0:
        return "eps above 0 makes the energy finite everywhere, and its exponential has no finite integral; set it to 0"
    loc, beta = _rows(memory.memories), jnp.asarray(memory.beta)
    dim, radius = loc.shape[1], jnp.full(len(loc), jnp.sqrt(2 / beta))
    log_z = math.log(2 / (dim + 2)) + 0.5 * dim * _LOG_PI - gammaln(0.5 * dim + 1) + dim * jnp.log(radius)
    return _mixture(_logs(memory.weights, loc), log_z, Epanechnikov(loc, radius), beta)


# --- directions ------------------------------------------------------------------------------------------------------


@twin.register
def _(memory: spherical.Spherical) -> Density:
    """A von Mises-Fisher mixture: directions m_k, concentrations kappa_k."""
    directions = _rows(memory.directions)
    kappa = jnp.asarray(memory.concentrations, directions.dtype)
    log_z = -log_normalizer(directions.shape[1], kappa)
    return _mixture(_logs(memory.weights, directions), log_z, VonMisesFisher(directions, kappa))


@twin.register
def _(memory: continuous_hopfield.CosineHopfield) -> Density:
    """A von Mises-Fisher mixture of one concentration beta."""
    rows, beta = _rows(memory.memories), jnp.asarray(memory.beta)
    directions = rows / jnp.linalg.norm(rows, axis=-1, keepdims=True)
    kappa = jnp.full(len(rows), beta, rows.dtype)
    return _mixture(
        jnp.zeros(len(rows)), -log_normalizer(rows.shape[1], kappa), VonMisesFisher(directions, kappa), beta
    )


# --- bits, counts, compositions --------------------------------------------------------------------------------------


@twin.register
def _(memory: hypercube.Hypercube) -> Density | str:
    """A mixture of products of Bernoulli laws: log odds f_ki on 0 and 1, 2 f_ki on -1 and 1."""
    fields = _rows(memory.fields)
    log_w = _logs(memory.weights, fields)
    if (memory.low, memory.high) == (0, 1):
        return _mixture(log_w, jnp.sum(jnp.logaddexp(fields, 0), axis=-1), dist.BernoulliLogits(fields).to_event(1))
    if (memory.low, memory.high) == (-1, 1):
        bank = SpinBernoulli(2 * fields).to_event(1)
        return _mixture(log_w, jnp.sum(jnp.logaddexp(fields, -fields), axis=-1), bank)
    return f"a mixture of bits with the values {memory.low:g} and {memory.high:g}; NumPyro has 0 and 1, and we -1 and 1"


@twin.register
def _(memory: counts.Counts) -> Density:
    """A mixture of products of Poisson laws with rates z_ki."""
    rates = jnp.exp(_rows(memory.log_fugacities))
    bank = dist.Poisson(rates).to_event(1)
    return _mixture(_logs(memory.weights, rates), jnp.sum(rates, axis=-1), bank)


@twin.register
def _(memory: composition.Composition) -> Density | str:
    """A mixture of Dirichlet laws with parameters 1 + e_ki."""
    alpha = 1 + _rows(memory.exponents)
    if not bool(jnp.all(alpha > 0)):
        return "a term with an exponent of -1 or less has no finite integral; raise the exponents above -1"
    log_z = jnp.sum(gammaln(alpha), axis=-1) - gammaln(jnp.sum(alpha, axis=-1))
    return _mixture(_logs(memory.weights, alpha), log_z, dist.Dirichlet(alpha))


# --- by similarity ---------------------------------------------------------------------------------------------------


@twin.register
def _(memory: universal.Universal) -> Density | str:
    """A mixture by similarity: Gaussian, Laplace or radial Laplace for the three distances; else none on R^D."""
    loc, beta = _rows(memory.memories), jnp.asarray(memory.beta)
    num_memories, dim = loc.shape
    log_w, per_memory = jnp.zeros(num_memories), jnp.ones(num_memories)
    if memory.similarity == "squared euclidean":
        return _mixture(log_w, 0.5 * dim * jnp.log(jnp.pi / beta) * per_memory, _normal(loc, 0.5 / beta), beta)
    if memory.similarity == "manhattan":
        bank = dist.Laplace(loc, jnp.full(loc.shape, 1 / beta)).to_event(1)
        return _mixture(log_w, dim * jnp.log(2 / beta) * per_memory, bank, beta)
    if memory.similarity == "euclidean":
        log_z = jnp.log(2.0) + 0.5 * dim * _LOG_PI + gammaln(1.0 * dim) - gammaln(0.5 * dim) - dim * jnp.log(beta)
        return _mixture(log_w, log_z * per_memory, RadialLaplace(loc, beta * per_memory), beta)
    return _NO_SIMILARITY.get(
        memory.similarity,
        "exp of this similarity is a density on the similarity's own domain only; "
        "probam.claims.universal.twin_table names it",
    )


_NO_SIMILARITY = {
    "dot": "exp(beta m . q) has no finite integral over R^D; continuous_hopfield adds -|q|^2 / 2, on the sphere it is "
    "spherical",
    "cosine": "exp(beta cos) does not fall off with the length of q; on the sphere it is cosine_hopfield",
}


# --- none ------------------------------------------------------------------------------------------------------------

_NONE: dict[type[Memory], str] = {
    assignments.Assignments: (
        "a state is a distribution over memories, not a datum; minus beta times the least energy is the log density of "
        "clam's mixture at the datum, up to a constant"
    ),
    streamed_assignments.StreamedAssignments: (
        "a state is a distribution over memories, not a datum; minus beta times the least energy is the log density of "
        "creation's mixture at the datum, up to a constant"
    ),
    hopfield.Network: (
        "exp(-E) is a Boltzmann machine: a mixture over a continuous hidden field, whose normaliser sums 2^N states "
        "(the claims on the harmonium)"
    ),
    dense.Network: (
        "the energy is minus a sum, not minus the log of one; for the exponential, log(-E) is the log density of "
        "hypercube's mixture, up to a constant"
    ),
    sparse_distributed.SparseDistributed: (
        "it has no energy; its locations respond as uniform densities on Hamming balls, as those of ball do"
    ),
    sequences.Sequence: (
        "it has no energy; in time it is a hidden Markov model that moves from each pattern to the next "
        "(probam.distributions.hidden_sequence)"
    ),
    layered_sequences.LayeredSequence: (
        "it has no energy; by Hebb's rule it is the hidden Markov model of sequences, and the pseudo-inverse has none"
    ),
    timed_sequences.TimedSequence: (
        "it has no energy; in time it is close to a hidden Markov model that stays at a pattern, or moves to the next "
        "(probam.distributions.hidden_sequence)"
    ),
    attention.Attention: (
        "the energy depends on the direction of the normalised query alone, so that it is no density of the query; "
        "that direction has a von Mises-Fisher mixture (probam.models.attention)"
    ),
    energy_transformer.EnergyTransformer: (
        "a product over tokens of sums over the others, times that of the memories: a random field without a "
        "normaliser in closed form; its attention is the posterior of an alignment (claim D3)"
    ),
    random_features.RandomFeatures: (
        "the estimated kernel sum is negative at some states, so that it is no density; its mean is that of clam"
    ),
    variational.Variational: (
        "the density is one of codes: the Gaussian mixture of its `latent` memory; seen through the encoder its energy "
        "has no normaliser in the space of patterns"
    ),
    bayesian_predictive_coding.BayesianPredictiveCoding: (
        "activities are at their most probable values, not integrated out, so that exp(-E) has no normaliser in closed "
        "form; given activities each layer is Bayesian linear regression (probam.distributions.linear_regression)"
    ),
}


def _reason(kind: type[Memory], memory: Memory) -> str:
    del memory
    return _NONE[kind]


for _kind in _NONE:
    twin.register(_kind, partial(_reason, _kind))


def twin_in_words(kind: type[Memory]) -> str:
    """The density of a kind of memory in a sentence, or ``none: `` and the reason."""
    if kind in _NONE:
        return f"none: {_NONE[kind]}"
    return (twin.dispatch(kind).__doc__ or "").split("\n")[0].rstrip(".")
