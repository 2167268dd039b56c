r"""Components of the mixtures behind similarity and separation, with their normalisers.

The rows of :mod:`probam.claims.universal.twin_table`. Distributions are taken from NumPyro or
:mod:`probam.distributions` where they exist there; the others are written out: the density is g(score) over the
normaliser Z(m).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.scipy.special import gammaln, logsumexp, xlogy
from jaxtyping import Array, Float
from numpyro.distributions import Distribution

from probam.distributions.bits import SpinBernoulli
from probam.distributions.generalized_normal import GeneralizedNormal, RadialLaplace
from probam.distributions.pairwise import pairwise_log_prob
from probam.distributions.von_mises_fisher import VonMisesFisher
from probam.energies.arguments import is_traced
from probam.errors import InputError
from probam.numerics.bessel import log_normalizer

__all__ = [
    "ScoreTwin",
    "ball_log_volume",
    "bit_flips",
    "bits",
    "cosine_log_z",
    "directions",
    "directions_log_z",
    "dirichlet",
    "dirichlet_log_z",
    "each",
    "gaussian",
    "hopfield",
    "in_ball",
    "jeffreys",
    "jensen_shannon",
    "laplace",
    "length",
    "log_linear",
    "log_linear_z",
    "lp",
    "mean_on_box",
    "multinomial",
    "normalised_by",
    "of_bank",
    "of_overlap",
    "overlap_log_z",
    "per_feature",
    "power",
    "radial",
    "radial_log_z",
    "sign_flips",
    "unit",
]

_Normaliser = Callable[[Array, Array], Array]
_Density = Callable[[Array, Array, Array], Array]

_NODES = 64
"""Gauss-Legendre nodes in each direction of a simplex."""

_MOST_PARTS = 4
"""Most parts of a simplex whose normaliser is found by quadrature."""


@dataclass(frozen=True)
class ScoreTwin:
    """The mixture whose posterior the weights of a universal Hopfield network are.

    ``parameter`` of the methods is beta for softmax, the degree of a polynomial, the radius of a threshold on a
    distance; identity has none (any number).
    """

    similarity: str
    separation: str
    domain: str
    family: str
    """The component in words."""
    log_normalizer: _Normaliser
    """(memories (K, D), parameter) -> log Z(m_k), (K,)."""
    log_density: _Density
    """(queries (N, D), memories (K, D), parameter) -> normalised log density of each component, (N, K)."""

    def log_weights(self, memories: Float[Array, "K D"], parameter: Float[Array, ""]) -> Float[Array, " K"]:
        """Log of the mixing weights: Z over the sum of all Z."""
        log_z = self.log_normalizer(memories, parameter)
        return log_z - logsumexp(log_z)

    def posterior(
        self, queries: Float[Array, "N D"], memories: Float[Array, "K D"], parameter: Float[Array, ""]
    ) -> Float[Array, "N K"]:
        """Probability that a query came from each memory: the weights that the network reads out with."""
        joint = self.log_weights(memories, parameter) + self.log_density(queries, memories, parameter)
        return jnp.exp(joint - logsumexp(joint, axis=-1, keepdims=True))


# components -------------------------------------------------------------------------------------------------------


def of_bank(bank: Callable[[Array, Array], Distribution]) -> _Density:
    """Log densities of a bank that is made of memories and the parameter."""
    return lambda queries, memories, parameter: pairwise_log_prob(bank(memories, parameter), queries)


def gaussian(memories: Array, beta: Array) -> Distribution:
    """N(m, I / (2 beta)), the twin of the squared distance."""
    return dist.Normal(memories, jnp.sqrt(0.5 / beta), validate_args=False).to_event(1)


def hopfield(memories: Array, beta: Array) -> Distribution:
    """N(m, I / beta), the twin of the dot product with -|q|^2 / 2."""
    return dist.Normal(memories, jnp.sqrt(1 / beta), validate_args=False).to_event(1)


def laplace(memories: Array, beta: Array) -> Distribution:
    """Laplace laws around each coordinate, the twin of the Manhattan distance."""
    return dist.Laplace(memories, 1 / beta, validate_args=False).to_event(1)


def per_feature(log_one: Callable[[Array], Array]) -> _Normaliser:
    """The same log normaliser for each of D independent features."""
    return lambda memories, beta: each(memories.shape[-1] * log_one(beta), memories)


def length(memories: Array) -> Array:
    """Euclidean length of each memory."""
    return jnp.sqrt(jnp.sum(memories**2, axis=-1))


def each(value: Array, memories: Array) -> Array:
    """One value for all memories."""
    return jnp.broadcast_to(value, memories.shape[:1])


def lp(power: float) -> ScoreTwin:
    """The row of the distance sum_i |q_i - m_i|^p: Z = (2 Gamma(1 + 1/p) beta^(-1/p))^D."""

    def log_z(memories: Array, beta: Array) -> Array:
        one = math.log(2) + math.lgamma(1 + 1 / power) - jnp.log(beta) / power
        return each(memories.shape[-1] * one, memories)

    def bank(memories: Array, beta: Array) -> Distribution:
        return GeneralizedNormal(memories, beta, power, validate_args=False).to_event(1)

    return ScoreTwin("lp", "softmax", "space", "product of generalised normals at m_i", log_z, of_bank(bank))


def radial_log_z(memories: Array, beta: Array) -> Array:
    """Surface of the unit sphere times Gamma(D) / beta^D."""
    dim = memories.shape[-1]
    surface = math.log(2) + dim / 2 * math.log(math.pi) - math.lgamma(dim / 2)
    return each(surface + math.lgamma(dim) - dim * jnp.log(beta), memories)


def radial(memories: Array, beta: Array) -> Distribution:
    """exp(-beta |q - m|), the twin of the Euclidean distance itself."""
    return RadialLaplace(memories, each(beta, memories), validate_args=False)


def unit(memories: Array) -> Array:
    """The directions of the memories."""
    return memories / length(memories)[:, None]


def directions(memories: Array, beta: Array) -> Distribution:
    """Von Mises-Fisher laws around the directions of the memories, concentrations beta |m|."""
    return VonMisesFisher(unit(memories), beta * length(memories), validate_args=False)


def directions_log_z(memories: Array, beta: Array) -> Array:
    """Log of 1 / C_D(beta |m|)."""
    return -log_normalizer(memories.shape[-1], beta * length(memories))


def sign_flips(memories: Array, beta: Array) -> Distribution:
    """Independent spins with log odds 2 beta m_i."""
    return SpinBernoulli(2 * beta * memories, validate_args=False).to_event(1)


def bits(memories: Array, beta: Array) -> Distribution:
    """Independent bits with log odds beta m_i."""
    return dist.BernoulliLogits(beta * memories, validate_args=False).to_event(1)


def bit_flips(memories: Array, beta: Array) -> Distribution:
    """The bits of a memory, each flipped with probability 1 / (1 + e^beta)."""
    return dist.BernoulliLogits(beta * (2 * memories - 1), validate_args=False).to_event(1)


def multinomial(queries: Array, memories: Array, beta: Array) -> Array:
    """Multinomial(beta, m) at counts: the sum of the queries is beta."""
    coefficient = gammaln(beta + 1) - jnp.sum(gammaln(queries + 1), axis=-1, keepdims=True)
    return coefficient + jnp.sum(xlogy(queries[:, None], memories), axis=-1)


def dirichlet_log_z(memories: Array, beta: Array) -> Array:
    """exp(-beta sum m log m) prod Gamma(1 + beta m_i) / Gamma(D + beta), in logs."""
    entropy = -jnp.sum(xlogy(memories, memories), axis=-1)
    top = jnp.sum(gammaln(1 + beta * memories), axis=-1) - gammaln(memories.shape[-1] + beta)
    return beta * entropy + top


def dirichlet(memories: Array, beta: Array) -> Distribution:
    """Dirichlet(1 + beta m), the twin of -KL(m || q)."""
    return dist.Dirichlet(1 + beta * memories, validate_args=False)


# integrals over the simplex ------------------------------------------------------------------------------------------


def _simplex_nodes(parts: int) -> tuple[np.ndarray, np.ndarray]:
    """Points of the simplex, (M, parts), and log weights of a rule that is at ease with logs at the edges.

    Gauss-Legendre in stick-breaking coordinates after u = s^3 (10 - 15 s + 6 s^2), which is flat at both ends.
    """
    if not 2 <= parts <= _MOST_PARTS:
        raise InputError(
            f"memories: this normaliser has no closed form and is found by quadrature for 2 to {_MOST_PARTS} parts; "
            f"got {parts}"
        )
    node, weight = np.polynomial.legendre.leggauss(_NODES)
    s, log_w = (node + 1) / 2, np.log(weight / 2)
    u, log_du = s**3 * (10 - 15 * s + 6 * s**2), np.log(30 * s**2 * (1 - s) ** 2)
    rest_of = (1 - s) ** 3 * (1 + 3 * s + 6 * s**2)  # 1 - u, without cancellation
    grids = np.meshgrid(*[np.arange(_NODES)] * (parts - 1), indexing="ij")
    rest, log_weight, points = np.ones(grids[0].size), np.zeros(grids[0].size), []
    for axis, grid in enumerate(grids):
        index = grid.ravel()
        points.append(rest * u[index])
        log_weight += log_w[index] + log_du[index] + (parts - 2 - axis) * np.log(rest_of[index])
        rest = rest * rest_of[index]
    return np.stack([*points, rest], axis=-1), log_weight


def _by_quadrature(score: Callable[[Array, Array], Array]) -> _Normaliser:
    """log Z on the simplex of exp(beta score(q, m)), for a few parts."""

    def log_z(memories: Array, beta: Array) -> Array:
        points, log_weight = _simplex_nodes(memories.shape[-1])
        q = jnp.asarray(points, memories.dtype)
        return jnp.stack([logsumexp(beta * score(q, m) + log_weight.astype(memories.dtype)) for m in memories])

    return log_z


def jeffreys(q: Array, m: Array) -> Array:
    """Minus Jeffreys' divergence, the sum of both KL divergences."""
    return -jnp.sum((q - m) * (jnp.log(q) - jnp.log(m)), axis=-1)


def jensen_shannon(q: Array, m: Array) -> Array:
    """Minus the Jensen-Shannon divergence, to the midpoint."""
    half = (q + m) / 2
    return -0.5 * jnp.sum(xlogy(q, q / half) + xlogy(m, m / half), axis=-1)


def normalised_by(score: Callable[[Array, Array], Array]) -> tuple[_Normaliser, _Density]:
    """Normaliser by quadrature and the density that goes with it."""
    log_z = _by_quadrature(score)

    def log_density(queries: Array, memories: Array, beta: Array) -> Array:
        return beta * score(queries[:, None], memories) - log_z(memories, beta)

    return log_z, log_density


def log_linear_z(memories: Array, beta: Array) -> Array:
    r"""Log of the divided difference exp[beta m_1, ..., beta m_D] (Hermite-Genocchi), from a matrix exponential.

    :math:`\sum_i e^{\beta m_i} / \prod_{j \ne i} \beta (m_i - m_j)` where all m_i differ; equal ones do no harm here.
    """
    dim = memories.shape[-1]
    top = jnp.max(memories, axis=-1, keepdims=True)

    def corner(shifted: Array) -> Array:
        ladder = jnp.diag(shifted) + jnp.eye(dim, k=1, dtype=shifted.dtype)
        return jnp.asarray(jax.scipy.linalg.expm(ladder))[0, -1]

    return beta * top[:, 0] + jnp.log(jax.vmap(corner)(beta * (memories - top)))


def log_linear(queries: Array, memories: Array, beta: Array) -> Array:
    """Log density exp(beta m . q) / Z on the simplex."""
    return beta * queries @ memories.T - log_linear_z(memories, beta)


# other separations ---------------------------------------------------------------------------------------------------


def mean_on_box(memories: Array, _: Array) -> Array:
    """Log of the integral of m . q over [0, 1]^D, half the sum of the entries."""
    return jnp.log(jnp.sum(memories, axis=-1) / 2)


def power(value: Array, degree: Array, *, rectified: bool) -> Array:
    """Log of s^n, or of max(s, 0)^n."""
    size = jnp.maximum(value, 0) if rectified else jnp.abs(value)
    return degree * jnp.log(jnp.where(size > 0, size, 1)) + jnp.where(size > 0, 0.0, -jnp.inf)


def overlap_log_z(memories: Array, degree: Array, *, rectified: bool) -> Array:
    """Sum over {-1, 1}^D of F_n(overlap), the same for every corner: overlaps D - 2 j, C(D, j) times each."""
    dim = memories.shape[-1]
    flips = np.arange(dim + 1)
    times = np.array([math.lgamma(dim + 1) - math.lgamma(j + 1) - math.lgamma(dim - j + 1) for j in flips])
    terms = times + power(jnp.asarray(dim - 2.0 * flips, memories.dtype), degree, rectified=rectified)
    return each(logsumexp(terms), memories)


def cosine_log_z(memories: Array, degree: Array, *, rectified: bool) -> Array:
    """Integral over the sphere of F_n(m . q), |m| given."""
    dim = memories.shape[-1]
    half, across = (degree + 1) / 2, (dim - 1) / 2
    beta_function = gammaln(half) + math.lgamma(across) - gammaln(half + across)
    circle = math.log(2) + across * math.log(math.pi) - math.lgamma(across)
    sides = 0.0 if rectified else math.log(2)
    return sides + circle - math.log(2) + beta_function + degree * jnp.log(length(memories))


def of_overlap(log_z: Callable[..., Array], *, rectified: bool) -> tuple[_Normaliser, _Density]:
    """Densities F_n(m . q) / Z."""

    def normaliser(memories: Array, degree: Array) -> Array:
        if not rectified and not is_traced(degree) and degree % 2:
            raise InputError(
                f"degree: an odd power is negative at some queries and has no probabilistic twin; got {degree}; "
                "rectify it, or take an even one"
            )
        return log_z(memories, degree, rectified=rectified)

    def log_density(queries: Array, memories: Array, degree: Array) -> Array:
        return power(queries @ memories.T, degree, rectified=rectified) - normaliser(memories, degree)

    return normaliser, log_density


def ball_log_volume(memories: Array, radius: Array) -> Array:
    """Log of the number of bit vectors within the radius, sum_{j <= r} C(D, j)."""
    dim = memories.shape[-1]
    flips = np.arange(dim + 1)
    times = np.array([math.comb(dim, j) for j in flips], float)
    return each(jnp.log(jnp.sum(jnp.where(flips <= radius, times, 0))), memories)


def in_ball(queries: Array, memories: Array, radius: Array) -> Array:
    """Uniform on the Hamming ball around each memory."""
    distance = jnp.sum((queries[:, None] > 0) != (memories > 0), axis=-1)
    return jnp.where(distance <= radius, 0.0, -jnp.inf) - ball_log_volume(memories, radius)
