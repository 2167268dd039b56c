r"""Which similarity and separation together have a probabilistic twin, on which domain, and which have none and why.

Weights :math:`w_k(q) = g(s_k) / \sum_j g(s_j)` are the posterior of a mixture iff g is at least 0 and
:math:`Z(m) = \int g(s(m, q))\, dq` is finite over the domain of the queries. The components then have the density
:math:`g(s(m_k, q)) / Z(m_k)` and the mixing weights :math:`\pi_k \propto Z(m_k)`. (Only for :math:`g = e^{\beta s}` is
the energy :math:`-\beta^{-1} \log \sum_k e^{\beta s_k}` minus the log density, up to scale and a constant.)

:func:`twin` looks up the table: it returns the family with its normaliser and weights, or raises an error that gives
the reason why there is none.
Similarities have the names of :mod:`probam.energies.similarities`; a distance d stands for the score -d. Domains:

=========== ================================================================================================
``space``   R^D
``sphere``  unit vectors, surface measure
``spin``    {-1, 1}^D
``binary``  {0, 1}^D
``box``     [0, 1]^D
``simplex`` at least 0, sum 1; the volume of the first D - 1 coordinates
``counts``  whole numbers whose sum is beta; q = c / beta, with the multinomial coefficients as base measure
=========== ================================================================================================
"""

import math

import jax
import jax.numpy as jnp

from probam.claims.universal import twin_families as of
from probam.claims.universal.twin_families import ScoreTwin
from probam.errors import InputError

__all__ = ["DOMAINS", "SEPARATIONS", "ScoreTwin", "pairs_with_twins", "twin"]

DOMAINS = ("space", "sphere", "spin", "binary", "box", "simplex", "counts")
"""Domains of the queries."""

SEPARATIONS = (
    "softmax",
    "identity",
    "polynomial",
    "rectified polynomial",
    "threshold",
    "max",
    "log",
    "normalised softmax",
)
"""g of the score; "normalised softmax" divides the scores by their sum first (Millidge et al. 2022, Appendix E)."""


def twin(similarity: str, separation: str = "softmax", domain: str = "space", *, power: float = 2.0) -> ScoreTwin:
    """The probabilistic twin of a similarity and a separation on a domain.

    Args:
        similarity: a name of :mod:`probam.energies.similarities`.
        separation: one of :data:`SEPARATIONS`.
        domain: one of :data:`DOMAINS`.
        power: the p of the similarity ``"lp"``.

    Raises :class:`probam.errors.InputError` for an unknown name, and where there is no twin, with the reason.

    >>> twin("manhattan", "softmax", "space").family
    'product of Laplace laws at m_i with scale 1 / beta'
    """
    if domain not in DOMAINS:
        raise InputError(f"domain: expected one of {', '.join(DOMAINS)}; got {domain!r}")
    if separation not in SEPARATIONS:
        raise InputError(f"separation: expected one of {', '.join(SEPARATIONS)}; got {separation!r}")
    if similarity not in _KNOWN:
        raise InputError(f"similarity: expected one of {', '.join(_KNOWN)}; got {similarity!r}")
    if similarity == "lp" and not 1 <= power < math.inf:
        raise InputError(f"power: expected a number of at least 1; got {power}")
    pair = f"{similarity} with {separation} on {domain}"
    if separation in _NO_SEPARATION:
        raise InputError(f"{pair}: no probabilistic twin: {_NO_SEPARATION[separation]}")
    if (similarity, separation, domain) == ("lp", "softmax", "space"):
        return of.lp(power)
    if (similarity, separation, domain) in _TABLE:
        return _TABLE[similarity, separation, domain]
    if (similarity, separation, domain) in _NONE:
        raise InputError(f"{pair}: no probabilistic twin: {_NONE[similarity, separation, domain]}")
    there = [place for one, other, place in _TABLE if (one, other) == (similarity, separation)]
    where = f"; there is one on {', '.join(there)}" if there else ""
    raise InputError(f"{pair}: no probabilistic twin with a known normaliser{where}")


def pairs_with_twins() -> list[tuple[str, str, str]]:
    """All (similarity, separation, domain) of the table, "lp" included."""
    return [*_TABLE, ("lp", "softmax", "space")]


_PLAIN_SPIN, _RECTIFIED_SPIN = (of.of_overlap(of.overlap_log_z, rectified=one) for one in (False, True))
_PLAIN_SPHERE, _RECTIFIED_SPHERE = (of.of_overlap(of.cosine_log_z, rectified=one) for one in (False, True))

_ROWS = (
    ScoreTwin(
        "squared euclidean",
        "softmax",
        "space",
        "N(m, I / (2 beta))",
        of.per_feature(lambda beta: 0.5 * jnp.log(jnp.pi / beta)),
        of.of_bank(of.gaussian),
    ),
    ScoreTwin(
        "euclidean", "softmax", "space", "radial Laplace: exp(-beta |q - m|)", of.radial_log_z, of.of_bank(of.radial)
    ),
    ScoreTwin(
        "manhattan",
        "softmax",
        "space",
        "product of Laplace laws at m_i with scale 1 / beta",
        of.per_feature(lambda beta: jnp.log(2 / beta)),
        of.of_bank(of.laplace),
    ),
    ScoreTwin(
        "dot", "softmax", "sphere", "von Mises-Fisher, kappa = beta |m|", of.directions_log_z, of.of_bank(of.directions)
    ),
    ScoreTwin(
        "dot - |q|^2 / 2",
        "softmax",
        "space",
        "N(m, I / beta)",
        lambda m, beta: 0.5 * beta * jnp.sum(m**2, -1) + 0.5 * m.shape[-1] * jnp.log(2 * jnp.pi / beta),
        of.of_bank(of.hopfield),
    ),
    ScoreTwin(
        "dot",
        "softmax",
        "spin",
        "Bernoulli with log odds 2 beta m_i",
        lambda m, beta: jnp.sum(jnp.logaddexp(beta * m, -beta * m), -1),
        of.of_bank(of.sign_flips),
    ),
    ScoreTwin(
        "dot",
        "softmax",
        "binary",
        "Bernoulli with log odds beta m_i",
        lambda m, beta: jnp.sum(jax.nn.softplus(beta * m), -1),
        of.of_bank(of.bits),
    ),
    ScoreTwin(
        "cosine",
        "softmax",
        "sphere",
        "von Mises-Fisher at m / |m|, kappa = beta",
        lambda m, beta: of.directions_log_z(of.unit(m), beta),
        of.of_bank(lambda m, beta: of.directions(of.unit(m), beta)),
    ),
    ScoreTwin(
        "hamming",
        "softmax",
        "binary",
        "bits of m that flip with probability 1 / (1 + e^beta)",
        of.per_feature(lambda beta: jax.nn.softplus(-beta)),
        of.of_bank(of.bit_flips),
    ),
    ScoreTwin(
        "hamming",
        "softmax",
        "spin",
        "spins of m that flip with probability 1 / (1 + e^beta)",
        of.per_feature(lambda beta: jax.nn.softplus(-beta)),
        of.of_bank(lambda m, beta: of.sign_flips(m, beta / 2)),
    ),
    ScoreTwin("kl", "softmax", "counts", "Multinomial(beta, m)", lambda m, beta: of.each(0 * beta, m), of.multinomial),
    ScoreTwin(
        "reverse kl", "softmax", "simplex", "Dirichlet(1 + beta m)", of.dirichlet_log_z, of.of_bank(of.dirichlet)
    ),
    ScoreTwin(
        "jeffreys",
        "softmax",
        "simplex",
        "exp(-beta Jeffreys), normalised by quadrature",
        *of.normalised_by(of.jeffreys),
    ),
    ScoreTwin(
        "jensen-shannon",
        "softmax",
        "simplex",
        "exp(-beta Jensen-Shannon), normalised by quadrature",
        *of.normalised_by(of.jensen_shannon),
    ),
    ScoreTwin("normalised dot", "softmax", "simplex", "log-linear, exp(beta m . q)", of.log_linear_z, of.log_linear),
    ScoreTwin(
        "dot",
        "identity",
        "box",
        "density m . q",
        of.mean_on_box,
        lambda q, m, b: of.power(q @ m.T, jnp.ones(()), rectified=True) - of.mean_on_box(m, b),
    ),
    ScoreTwin("dot", "polynomial", "spin", "(m . q)^n, n even", *_PLAIN_SPIN),
    ScoreTwin("dot", "rectified polynomial", "spin", "max(m . q, 0)^n", *_RECTIFIED_SPIN),
    ScoreTwin("dot", "polynomial", "sphere", "(m . q)^n, n even", *_PLAIN_SPHERE),
    ScoreTwin("dot", "rectified polynomial", "sphere", "max(m . q, 0)^n", *_RECTIFIED_SPHERE),
    ScoreTwin("hamming", "threshold", "binary", "uniform on the Hamming ball around m", of.ball_log_volume, of.in_ball),
    ScoreTwin("hamming", "threshold", "spin", "uniform on the Hamming ball around m", of.ball_log_volume, of.in_ball),
)

_TABLE = {(row.similarity, row.separation, row.domain): row for row in _ROWS}
_KNOWN = (*dict.fromkeys(row.similarity for row in _ROWS), "lp")

_NO_SEPARATION = {
    "max": "one-hot weights are the limit of softmax for beta to infinity (classification EM, k-means); a memory's "
    "weight falls to exactly 0 when a nearer one is added, which no density at the query allows",
    "log": "the log of a score below 1 is negative, and of normalised scores it ranks the memories in reverse",
    "normalised softmax": "scores divided by their sum make the odds of two memories depend on all others, and in a "
    "mixture they do not",
}

_NONE = {
    ("dot", "softmax", "space"): "the integral of exp(beta m . q) over R^D diverges; with -|q|^2 / 2 (similarity "
    "'dot - |q|^2 / 2') it is N(m, I / beta)",
    ("cosine", "softmax", "space"): "exp(beta cos) does not fall off with the length of q, so its integral over R^D "
    "diverges; it needs a density of the length beside it, or unit vectors (domain 'sphere')",
    **{
        ("dot", "identity", place): "m . q is negative at some queries, and its integral over a symmetric domain is 0; "
        "a density needs memories and queries of at least 0 (domain 'box')"
        for place in ("space", "sphere", "spin")
    },
}
