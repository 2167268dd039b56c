r"""An associative memory that can create memories: CLAM with a Pitman-Yor weight for a new one.

Eq. 12 of Schaeffer et al. (2023) compares K memories, weighted by how often each was used, with a memory that does not
exist yet:

.. math:: E(v) = -\frac{1}{\beta} \log \Bigl[ (\alpha + dK)\, c\, e^{-\frac{\beta\rho}{\beta+\rho} |v|^2}
          + \sum_k (n_k - d)\, e^{-\beta |\mu_k - v|^2} \Bigr]

with the strength alpha, the discount d and the counts \(n_k \ge 1\) of the Chinese restaurant process. The paper prints
c = 1. But the place of a new memory is unknown: it is drawn from the base measure and has to be integrated out. The
printed exponent implies the base \(N(0, I / (2\rho))\), under which \(c = (\rho / (\beta + \rho))^{D/2}\). Without this
factor the weight of the new memory is too large by \((1 + \beta/\rho)^{D/2}\), whatever the data.

* :func:`printed` is Eq. 12 as printed (with counts in place of its \(\pi_k\), since \(\pi_k - d\) can be negative);
* :func:`exact` has the factor: it is minus the log of the predictive density of v when the memories are known;
* :func:`collapsed` integrates the places of all memories out, given the data that used them.

Convention (``clam`` of :mod:`probam.energies.conventions`): beta and rho are inverse temperatures, twice of which are
precisions: a memory is the Gaussian \(N(\mu_k, I / (2\beta))\) and the base measure \(N(0, I / (2\rho))\). Hence
\(\beta_{\rm MCHN} = 2\beta\).

All functions share these arguments:

* ``query``: states, shape (..., D);
* ``memories``: one in each row, shape (K, D); K = 0 is a memory that has learned nothing yet, and the energy is then
  that of the base measure;
* ``counts``: number of data that used each memory, at least 1, shape (K,);
* ``beta``, ``rho``: inverse temperatures of a memory and of the base measure, above 0;
* ``alpha``: strength of the process, above ``-discount``, and above 0 if there are no memories;
* ``discount``: d in [0, 1); 0 is the Dirichlet process.

Other values and bad shapes raise :class:`probam.errors.InputError`.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from probam.energies.arguments import Scalar, is_traced, points, positive
from probam.energies.memory import REAL, Card, Memory, checked_patterns, sharpness
from probam.energies.wells import dot, isotropic_logits, log_sum, mean_of, shares
from probam.errors import InputError
from probam.pytrees import pytree

__all__ = [
    "Creation",
    "collapsed",
    "collapsed_probabilities",
    "creation_posterior",
    "creation_threshold",
    "exact",
    "exact_probabilities",
    "force",
    "printed",
    "printed_probabilities",
    "small_variance",
    "update",
]


def printed(
    query: Float[ArrayLike, "*batch D"],
    memories: Float[ArrayLike, "K D"],
    counts: Float[ArrayLike, " K"],
    beta: Scalar,
    rho: Scalar,
    alpha: Scalar,
    discount: Scalar,
) -> Float[Array, "*batch"]:
    r"""Energy of Eq. 12 as printed (c = 1), with counts for \(\pi_k\). It lacks the normaliser of the new memory.

    The arguments are listed at the top of this module.
    """
    wells = _known(query, memories, counts, beta, rho, alpha, discount, normalised=False)
    return _energy(wells)


def printed_probabilities(
    query: Float[ArrayLike, "*batch D"],
    memories: Float[ArrayLike, "K D"],
    counts: Float[ArrayLike, " K"],
    beta: Scalar,
    rho: Scalar,
    alpha: Scalar,
    discount: Scalar,
) -> Float[Array, "*batch K+1"]:
    """Relative weights of the K memories and, last, of a new one, in Eq. 12 as printed.

    The arguments are listed at the top of this module.
    """
    return shares(_known(query, memories, counts, beta, rho, alpha, discount, normalised=False).logits)


def exact(
    query: Float[ArrayLike, "*batch D"],
    memories: Float[ArrayLike, "K D"],
    counts: Float[ArrayLike, " K"],
    beta: Scalar,
    rho: Scalar,
    alpha: Scalar,
    discount: Scalar,
) -> Float[Array, "*batch"]:
    r"""Energy of the predictive density of the state when the K memories are known.

    Eq. 12 with \(c = (\rho / (\beta + \rho))^{D/2}\). With \(n = \sum_k n_k\),

    .. math:: -\log p(v \mid \mu, n) = \beta E(v) + \log(n + \alpha) + \tfrac{D}{2} \log(\pi / \beta)

    The arguments are listed at the top of this module.
    """
    return _energy(_known(query, memories, counts, beta, rho, alpha, discount, normalised=True))


def exact_probabilities(
    query: Float[ArrayLike, "*batch D"],
    memories: Float[ArrayLike, "K D"],
    counts: Float[ArrayLike, " K"],
    beta: Scalar,
    rho: Scalar,
    alpha: Scalar,
    discount: Scalar,
) -> Float[Array, "*batch K+1"]:
    """Posterior probabilities that the state belongs to each of the K memories and, last, to a new one.

    The arguments are listed at the top of this module.

    >>> query, memories, counts = jnp.array([0.2, 0.1]), jnp.array([[0.0, 0.0], [4.0, 0.0]]), jnp.array([5.0, 3.0])
    >>> result = exact_probabilities(query, memories, counts, beta=1.0, rho=0.1, alpha=1.0, discount=0.0)
    >>> [round(probability, 3) for probability in result.tolist()]  # the new memory weighs alpha rho / (beta + rho)
    [0.981, 0.0, 0.019]
    """
    return shares(_known(query, memories, counts, beta, rho, alpha, discount, normalised=True).logits)


def collapsed(
    query: Float[ArrayLike, "*batch D"],
    sums: Float[ArrayLike, "K D"],
    counts: Float[ArrayLike, " K"],
    beta: Scalar,
    rho: Scalar,
    alpha: Scalar,
    discount: Scalar,
) -> Float[Array, "*batch"]:
    r"""Energy of the predictive density of the state, with the memories integrated out.

    A memory is known through the number n_k of data that used it and their sum S_k (``sums``, one row for each memory;
    the other arguments are listed at the top of this module). A new memory is the case n = 0, S = 0:

    .. math:: E(v) = -\frac{1}{\beta} \log \sum_{k=0}^{K} g_k \bigl(\tfrac{\lambda_k}{\pi}\bigr)^{D/2}
              e^{-\lambda_k |v - m_k|^2}, \quad m_k = \frac{\beta S_k}{\beta n_k + \rho}, \quad
              \frac{1}{\lambda_k} = \frac{1}{\beta} + \frac{1}{\rho + n_k \beta}

    with \(g_k = n_k - d\), \(g_0 = \alpha + dK\). The densities include their normalisers, so that
    \(-\log p(v) = \beta E(v) + \log(n + \alpha)\). As all n_k grow, E tends to :func:`exact` plus
    \(\tfrac{D}{2\beta} \log(\pi / \beta)\).
    """
    return _energy(_integrated(query, sums, counts, beta, rho, alpha, discount))


def collapsed_probabilities(
    query: Float[ArrayLike, "*batch D"],
    sums: Float[ArrayLike, "K D"],
    counts: Float[ArrayLike, " K"],
    beta: Scalar,
    rho: Scalar,
    alpha: Scalar,
    discount: Scalar,
) -> Float[Array, "*batch K+1"]:
    """Posterior probabilities of the K memories and, last, of a new one, all places integrated out.

    These are the probabilities of one step of collapsed Gibbs sampling. Arguments are those of :func:`collapsed`.
    """
    return shares(_integrated(query, sums, counts, beta, rho, alpha, discount).logits)


def small_variance(
    query: Float[ArrayLike, "*batch D"],
    memories: Float[ArrayLike, "K D"],
    counts: Float[ArrayLike, " K"],
    beta: Scalar,
    rho: Scalar,
    penalty: Scalar,
) -> Float[Array, "*batch"]:
    r"""The exact energy at d = 0 and \(\alpha = (1 + \beta/\rho)^{D/2} e^{-\beta\lambda}\), with the penalty lambda.

    As beta grows it tends to \(\min(\lambda, \min_k |\mu_k - v|^2)\), the objective of DP-means (Kulis and Jordan
    2012, arXiv:1111.0352). ``penalty`` is lambda, at least 0, in squared units of the data. Only the log of alpha is
    computed, since alpha itself underflows long before the limit is near.
    """
    query, memories = points(query, memories, empty=True)
    beta, rho = positive("beta", beta, query.dtype), positive("rho", rho, query.dtype)
    penalty = positive("penalty", penalty, query.dtype, zero=True)
    log_counts = jnp.log(_counts(counts, len(memories), query.dtype))
    return _energy(_seats(query, memories, log_counts, -beta * penalty, beta, rho))


def force(
    query: Float[ArrayLike, "*batch D"],
    memories: Float[ArrayLike, "K D"],
    counts: Float[ArrayLike, " K"],
    beta: Scalar,
    rho: Scalar,
    alpha: Scalar,
    discount: Scalar,
) -> Float[Array, "*batch D"]:
    r"""Downhill force of the exact energy: memories attract, and a new memory attracts to the base measure's mean.

    .. math:: -\tfrac12 \nabla E(v) = \sum_k p_k (\mu_k - v) - p_{\rm new} \frac{\rho}{\beta + \rho} v

    The arguments are listed at the top of this module.
    """
    wells = _known(query, memories, counts, beta, rho, alpha, discount, normalised=True)
    share = shares(wells.logits)
    old, new = share[..., :-1], share[..., -1:]
    places = wells.places[:-1]
    origin = _origin(places)
    pull = dot(old, places - origin) - jnp.sum(old, axis=-1, keepdims=True) * (wells.query - origin)
    return pull - new * (wells.stiffness[-1] / wells.beta) * wells.query


def update(
    query: Float[ArrayLike, "*batch D"],
    memories: Float[ArrayLike, "K D"],
    counts: Float[ArrayLike, " K"],
    beta: Scalar,
    rho: Scalar,
    alpha: Scalar,
    discount: Scalar,
) -> Float[Array, "*batch D"]:
    r"""Minimum of the quadratic bound on the exact energy that touches it at the query.

    .. math:: m(v) = \frac{\sum_k p_k \mu_k}{\sum_k p_k + p_{\rm new}\, \rho / (\beta + \rho)}

    It never raises the energy, and its fixed points are the zeros of :func:`force`. The arguments are listed at the top
    of this module.
    """
    wells = _known(query, memories, counts, beta, rho, alpha, discount, normalised=True)
    share = shares(wells.logits)
    relative = wells.stiffness / wells.beta
    weight = share * relative
    origin = _origin(wells.places[:-1])
    return origin + dot(weight, wells.places - origin) / jnp.sum(weight, axis=-1, keepdims=True)


def creation_posterior(
    query: Float[ArrayLike, "*batch D"], beta: Scalar, rho: Scalar
) -> tuple[Float[Array, "*batch D"], Float[Array, ""]]:
    r"""Mean and variance (of each coordinate) of the memory that the state would create.

    .. math:: \mu_{\rm new} \mid v \sim N\Bigl(\frac{\beta v}{\beta + \rho},\ \frac{I}{2 (\beta + \rho)}\Bigr)
    """
    query = jnp.asarray(query)
    query = query.astype(jnp.result_type(query, float))
    beta, rho = positive("beta", beta, query.dtype), positive("rho", rho, query.dtype)
    return beta / (beta + rho) * query, 1 / (2 * (beta + rho))


def creation_threshold(
    counts: Float[ArrayLike, " K"], dim: int, beta: Scalar, rho: Scalar, alpha: Scalar, discount: Scalar
) -> Float[Array, " K"]:
    r"""Threshold beyond which a new memory is more probable than each of the K, in squared units of the data.

    In the exact energy a new memory is more probable than memory k iff

    .. math:: |\mu_k - v|^2 - \frac{\rho}{\beta + \rho} |v|^2
              > \frac{1}{\beta} \Bigl[ \log \frac{n_k - d}{\alpha + dK} + \tfrac{D}{2} \log(1 + \beta/\rho) \Bigr]
    """
    dtype = jnp.result_type(jnp.asarray(counts), float)
    beta, rho = positive("beta", beta, dtype), positive("rho", rho, dtype)
    log_old, log_new = _log_seats(counts, alpha, discount, jnp.size(counts), dtype)
    return (log_old - log_new + dim / 2 * jnp.log1p(beta / rho)) / beta


class _Wells(NamedTuple):
    """K + 1 isotropic wells; the last one belongs to a new memory."""

    query: Float[Array, "*batch D"]
    places: Float[Array, "K+1 D"]
    stiffness: Float[Array, " K+1"]
    log_weights: Float[Array, " K+1"]
    logits: Float[Array, "*batch K+1"]
    beta: Float[Array, ""]


def _energy(wells: _Wells) -> Float[Array, "*batch"]:
    def log_term(k: Int[Array, "*batch"]) -> Float[Array, "*batch"]:
        square = jnp.sum((wells.query - wells.places[k]) ** 2, axis=-1)
        return wells.log_weights[k] - wells.stiffness[k] * square

    return -log_sum(wells.logits, log_term) / wells.beta


def _known(
    query: Float[ArrayLike, "*batch D"],
    memories: Float[ArrayLike, "K D"],
    counts: Float[ArrayLike, " K"],
    beta: Scalar,
    rho: Scalar,
    alpha: Scalar,
    discount: Scalar,
    *,
    normalised: bool,
) -> _Wells:
    """Wells of Eq. 12, with or without the normaliser of the new memory."""
    query, memories = points(query, memories, empty=True)
    beta, rho = positive("beta", beta, query.dtype), positive("rho", rho, query.dtype)
    log_old, log_new = _log_seats(counts, alpha, discount, len(memories), query.dtype)
    if normalised:
        log_new = log_new - query.shape[-1] / 2 * jnp.log1p(beta / rho)
    return _seats(query, memories, log_old, log_new, beta, rho)


def _seats(
    query: Float[Array, "*batch D"],
    memories: Float[Array, "K D"],
    log_old: Float[Array, " K"],
    log_new: Float[Array, ""],
    beta: Float[Array, ""],
    rho: Float[Array, ""],
) -> _Wells:
    new = beta * (rho / (beta + rho))
    stiffness = jnp.append(jnp.broadcast_to(beta, log_old.shape), new)
    excess = jnp.append(jnp.broadcast_to(beta * (beta / (beta + rho)), log_old.shape), 0)
    return _wells(query, memories, stiffness, excess, jnp.append(log_old, log_new), beta)


def _integrated(
    query: Float[ArrayLike, "*batch D"],
    sums: Float[ArrayLike, "K D"],
    counts: Float[ArrayLike, " K"],
    beta: Scalar,
    rho: Scalar,
    alpha: Scalar,
    discount: Scalar,
) -> _Wells:
    """Wells of the posterior predictive densities."""
    query, sums = points(query, sums, "sums", empty=True)
    beta, rho = positive("beta", beta, query.dtype), positive("rho", rho, query.dtype)
    log_old, log_new = _log_seats(counts, alpha, discount, len(sums), query.dtype)
    counts = jnp.asarray(counts, query.dtype)
    gathered = rho + counts * beta  # half of each memory's posterior precision
    centers = beta * sums / gathered[:, None]
    known = jnp.append(gathered, rho)
    stiffness = beta * (known / (beta + known))
    excess = jnp.append(beta * (counts * beta / (beta + gathered)) * (beta / (beta + rho)), 0)
    log_weights = jnp.append(log_old, log_new) + query.shape[-1] / 2 * jnp.log(stiffness / jnp.pi)
    return _wells(query, centers, stiffness, excess, log_weights, beta)


def _wells(
    query: Float[Array, "*batch D"],
    memories: Float[Array, "K D"],
    stiffness: Float[Array, " K+1"],
    excess: Float[Array, " K+1"],
    log_weights: Float[Array, " K+1"],
    beta: Float[Array, ""],
) -> _Wells:
    """Wells at the memories and at zero, evaluated relative to the memories' mean."""
    places = jnp.concatenate([memories, jnp.zeros((1, memories.shape[1]), memories.dtype)])
    origin = _origin(memories)
    logits = isotropic_logits(query - origin, places - origin, stiffness, log_weights, excess)
    return _Wells(query, places, stiffness, log_weights, logits, beta)


def _origin(memories: Float[Array, "K D"]) -> Float[Array, " D"]:
    """The memories' mean; without memories, the mean of the base measure."""
    return mean_of(memories) if len(memories) else jnp.zeros(memories.shape[1:], memories.dtype)


def _counts(counts: Float[ArrayLike, " K"], num_memories: int, dtype: jnp.dtype) -> Float[Array, " K"]:
    counts = positive("counts", counts, dtype, (num_memories,))
    if not is_traced(counts) and (np.asarray(counts) < 1).any():
        raise InputError(
            f"counts: expected at least 1, the number of data that use each memory (not proportions); "
            f"got {np.asarray(counts).min():.6g}"
        )
    return counts


def _log_seats(
    counts: Float[ArrayLike, " K"], alpha: Scalar, discount: Scalar, num_memories: int, dtype: jnp.dtype
) -> tuple[Float[Array, " K"], Float[Array, ""]]:
    """Log seating weights of the Chinese restaurant process: log(n_k - d) and log(alpha + d K)."""
    counts = _counts(counts, num_memories, dtype)
    alpha, discount = jnp.asarray(alpha, dtype), jnp.asarray(discount, dtype)
    for name, value in (("alpha", alpha), ("discount", discount)):
        if value.shape != ():
            raise InputError(f"{name}: expected one number; got an array of shape {value.shape}")
    if not is_traced(discount) and not 0 <= float(discount) < 1:
        raise InputError(f"discount: expected a number in [0, 1); got {float(discount):.6g}")
    if not (is_traced(alpha) or is_traced(discount)) and not -float(discount) < float(alpha) < np.inf:
        raise InputError(f"alpha: expected a finite strength above -discount; got {float(alpha):.6g}")
    if num_memories == 0 and not is_traced(alpha) and not float(alpha) > 0:
        raise InputError(
            f"alpha: expected a strength above 0 where there are no memories, since it is the weight of the first one; "
            f"got {float(alpha):.6g}"
        )
    return jnp.log(counts - discount), jnp.log(alpha + discount * num_memories)


@pytree
@dataclass(frozen=True, eq=False)
class Creation(Memory):
    r"""A memory that knows it may meet something new: CLAM with a Pitman-Yor weight for a memory to come.

    For streams. The energy is the predictive one: a state far from all memories is pulled to the centre of what new
    memories look like, not to the nearest old one. :func:`exact_probabilities` says how likely the state is new.

    .. math::
        E(v) = -\frac{1}{\beta} \log \Bigl[ (\alpha + dK) \bigl(\tfrac{\rho}{\beta + \rho}\bigr)^{D/2}
        e^{-\frac{\beta\rho}{\beta+\rho} |v|^2} + \sum_k (n_k - d)\, e^{-\beta |\mu_k - v|^2} \Bigr]

    >>> memory = Creation(jnp.array([[3.0, 0.0]]), jnp.array([9.0]), beta=1.0, rho=0.1, alpha=1.0)
    >>> far = memory.update(jnp.array([-4.0, 0.0]))
    >>> round(far[0].item(), 3)  # nothing like it is known: back to the centre of all that may come
    0.0
    """

    memories: Float[ArrayLike, "K D"]
    counts: Float[ArrayLike, " K"]
    beta: Scalar
    rho: Scalar
    alpha: Scalar
    discount: Scalar = 0.0

    card = Card(
        "creation",
        REAL,
        "-(1/beta) log [(alpha + d K) c exp(-beta rho |v|^2 / (beta + rho)) + sum_k (n_k - d) exp(-beta |mu_k - v|^2)]",
        "mean of the memories and of the centre, weighted by shares and stiffness",
        "grows with the data, as alpha log n, or n^d with a discount d",
        "Schaeffer et al. (2023), Eq. 12, with the normaliser of the new memory",
        "on_demand",
    )
    separable = True

    def energy(self, states: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch"]:
        """:func:`exact`."""
        return exact(states, self.memories, self.counts, self.beta, self.rho, self.alpha, self.discount)

    def update(self, states: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch D"]:
        """:func:`update`."""
        return update(states, self.memories, self.counts, self.beta, self.rho, self.alpha, self.discount)

    @classmethod
    def store(
        cls,
        patterns: Float[ArrayLike, "K D"],
        *,
        beta: float | None = None,
        rho: float | None = None,
        alpha: float = 1.0,
        discount: float = 0.0,
    ) -> "Creation":
        """A memory that used each pattern once; None tells them apart (``beta``) and takes their spread (``rho``)."""
        patterns = checked_patterns(patterns, REAL)
        beta = sharpness(patterns, beta)
        if rho is None:
            spread = float(jnp.mean(patterns**2))
            rho = 0.5 / spread if spread > 0 else beta
        return cls(patterns, jnp.ones(len(patterns), patterns.dtype), beta, rho, alpha, discount)
