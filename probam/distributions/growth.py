r"""The number K_n of memories that n data occupy under the two-parameter Chinese restaurant process.

This module has the variance of K_n (CLAIMS A18, A19); the alpha, the (alpha, d) or the prior on alpha that gives K_n an
expected value (elicitation); and the maximum-likelihood (alpha, d) for sizes of memories, with a test of d = 0. Sizes
with a power-law tail contradict a Dirichlet process.

All functions run on the host, in double precision. Throughout, ``alpha`` is above ``-discount``, ``discount`` (d) lies
in [0, 1), and ``num_data`` is n >= 1.
"""

from typing import NamedTuple

import numpy as np
import scipy
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy.special import chdtrc, expit, expm1, gammaincinv, gammaln, logit

from probam.distributions.stick_breaking import check_parameters, expected_num_components
from probam.errors import InputError
from probam.numerics.log_gamma import digamma_difference, log_rising, trigamma_difference

__all__ = [
    "Tail",
    "alpha_for",
    "alpha_prior_for",
    "block_sizes",
    "log_partition_probability",
    "parameters_for",
    "tail_of",
    "variance_num_components",
]

_LEAST, _MOST = 1e-9, 1e9  # range of alpha
_LARGEST_DISCOUNT = 0.995
_NODES = 96  # quadrature nodes over the quantiles of a prior on alpha


def variance_num_components(alpha: float, discount: float, num_data: int) -> float:
    r"""Var K_n, for the process without truncation.

    With p_n the probability, given K_n, that datum n + 1 creates a memory,

    .. math:: \operatorname{Var} K_{n+1} = \Big(1 + \frac{2 d}{n + \alpha}\Big) \operatorname{Var} K_n
        + E p_n (1 - E p_n), \qquad E p_n = \frac{\alpha + d \, E K_n}{n + \alpha},

    where every term is positive. Without a discount it is the sum of A18.

    Raises:
        InputError: for parameters outside their range.
    """
    check_parameters(alpha, discount)
    if num_data < 1:
        raise InputError(f"num_data: expected a whole number of at least 1; got {num_data}")
    if discount == 0:
        return float(_dirichlet_variance(np.asarray(alpha), num_data)) if alpha > 0 else 0.0
    n = np.arange(1, num_data)
    growth = np.log1p(discount / (n + alpha))  # E K_{n+1} + alpha / d = (E K_n + alpha / d) (1 + d / (n + alpha))
    mean = 1 + (alpha + discount) * expm1(np.concatenate([[0.0], np.cumsum(growth)[:-1]])) / discount
    founds, joins = (alpha + discount * mean) / (n + alpha), (n - discount * mean) / (n + alpha)
    log_factor = np.log1p(2 * discount / (n + alpha))
    after = np.cumsum(log_factor[::-1])[::-1] - log_factor  # factor of a term from later data
    return float(np.sum(founds * joins * np.exp(after)))


def _dirichlet_variance(alpha: Float[np.ndarray, " *A"], num_data: int) -> Float[np.ndarray, " *A"]:
    """Sum of alpha i / (alpha + i)^2 over i = 1, ..., n - 1, to the rounding of n."""
    first = alpha * digamma_difference(alpha + 1, num_data - 1)
    second = alpha**2 * trigamma_difference(alpha + 1, num_data - 1)
    return np.asarray(np.maximum(first - second, 0))


def alpha_for(memories: float, num_data: int, discount: float = 0.0) -> float:
    """The alpha > 0 under which ``num_data`` data occupy ``memories`` memories on average.

    >>> round(alpha_for(10.0, 1000), 3)
    1.444

    Args:
        memories: the expected number of memories, not necessarily whole.
        num_data: number of data, at least 2.
        discount: d in [0, 1); 0 is the Dirichlet process.

    Raises:
        InputError: when no alpha > 0 gives this number.
    """
    if num_data < 2:
        raise InputError(f"num_data: expected at least 2, since one datum always occupies one memory; got {num_data}")
    if not 0 <= discount < 1:
        raise InputError(f"discount: expected a number in [0, 1); got {discount}")
    least, most = (expected_num_components(alpha, discount, num_data) for alpha in (_LEAST, _MOST))
    if not least < memories < most:
        raise InputError(
            f"memories: with discount {discount:g}, {num_data} data occupy between {least:.4g} and {most:.4g} memories "
            f"on average, whatever alpha; got {memories:g}" + ("; lower the discount" if memories <= least else "")
        )

    def miss(log_alpha: float) -> float:
        return expected_num_components(float(np.exp(log_alpha)), discount, num_data) - memories

    return float(np.exp(scipy.optimize.brentq(miss, np.log(_LEAST), np.log(_MOST), xtol=1e-13)))


def parameters_for(memories: float, num_data: int, later_memories: float, later_num_data: int) -> tuple[float, float]:
    """The (alpha, d) under which E K_n is ``memories`` at ``num_data`` and ``later_memories`` at ``later_num_data``.

    The second expectation determines how heavy the tail is: in a Dirichlet process (d = 0) the number of memories grows
    like log n, in a Pitman-Yor process like n^d.

    Args:
        memories, num_data: the first expectation, as for :func:`alpha_for`.
        later_memories, later_num_data: the second, at a larger number of data.

    Raises:
        InputError: when no pair with alpha > 0 satisfies both; the message says what is possible.
    """
    if later_num_data <= num_data:
        raise InputError(f"later_num_data: expected more than num_data = {num_data}; got {later_num_data}")

    def later(discount: float) -> float:
        return expected_num_components(alpha_for(memories, num_data, discount), discount, later_num_data)

    def possible(discount: float) -> bool:
        return expected_num_components(_LEAST, discount, num_data) < memories

    widest = _LARGEST_DISCOUNT
    if not possible(widest):  # the discount at which alpha would have to be zero
        beyond = scipy.optimize.brentq(lambda d: expected_num_components(_LEAST, d, num_data) - memories, 0, widest)
        widest = beyond * (1 - 1e-9)
    low, high = later(0.0), later(widest)
    if not low <= later_memories <= high:
        raise InputError(
            f"later_memories: {memories:g} memories at {num_data} data allow between {low:.4g} and {high:.4g} at "
            f"{later_num_data}; got {later_memories:g}"
        )
    discount = (
        0.0 if later_memories == low else float(scipy.optimize.brentq(lambda d: later(d) - later_memories, 0, widest))
    )
    return alpha_for(memories, num_data, discount), discount


def alpha_prior_for(memories: float, sd: float, num_data: int) -> tuple[float, float]:
    """Concentration and rate of the Gamma prior on alpha under which K_n has this mean and standard deviation.

    Args:
        memories: the mean of K_n in a Dirichlet process.
        sd: its standard deviation. It has a lower bound, since K_n varies even if alpha is known.
        num_data: number of data, at least 2.

    Raises:
        InputError: for an ``sd`` below that bound, and one that is too large for any Gamma prior.
    """
    centre = alpha_for(memories, num_data)
    floor = variance_num_components(centre, 0.0, num_data) ** 0.5
    if not sd > floor:
        raise InputError(
            f"sd: with alpha known ({centre:.4g}) the number of memories already has a standard deviation of "
            f"{floor:.4g}; expected more than that; got {sd:g}"
        )
    nodes, mass = np.polynomial.legendre.leggauss(_NODES)
    quantiles, mass = (nodes + 1) / 2, mass / 2

    def law(log_mean: float, log_concentration: float) -> tuple[float, float]:
        concentration = np.exp(log_concentration)
        alpha = np.maximum(gammaincinv(concentration, quantiles) * np.exp(log_mean) / concentration, 1e-300)
        mean = 1 + alpha * digamma_difference(alpha + 1, num_data - 1)
        average = float(mass @ mean)
        variance = mass @ _dirichlet_variance(alpha, num_data) + mass @ (mean - average) ** 2
        return average, float(variance**0.5)

    def miss(point: Float[np.ndarray, " 2"]) -> list[float]:
        average, spread = law(*point)
        return [np.log(average / memories), np.log(spread / sd)]

    guess = np.array([np.log(centre), -np.log(max((sd**2 - floor**2) / memories**2, 1e-3))])
    solution = scipy.optimize.root(miss, guess)
    if not solution.success or np.abs(solution.fun).max() > 1e-6:
        raise InputError(
            f"sd: no Gamma prior on alpha gives {memories:g} memories with a standard deviation of {sd:g} at "
            f"{num_data} data; use a smaller one"
        )
    log_mean, log_concentration = solution.x
    return float(np.exp(log_concentration)), float(np.exp(log_concentration - log_mean))


def log_partition_probability(alpha: float, discount: float, sizes: ArrayLike) -> float:
    r"""Log probability of a partition with these block sizes (A19).

    .. math:: \frac{\prod_{i=1}^{K-1} (\alpha + i d)}{(\alpha + 1)_{n-1}} \prod_k (1 - d)_{n_k - 1}

    ``sizes`` are whole numbers in any order; zeros are ignored.

    Raises:
        InputError: for parameters outside their range, and sizes that are not whole numbers.
    """
    counts = block_sizes(sizes)
    check_parameters(alpha, discount)
    return _log_probability(alpha, discount, counts)


def _log_probability(alpha: float, discount: float, counts: Float[np.ndarray, " K"]) -> float:
    founded = np.sum(np.log(alpha + discount * np.arange(1, len(counts))))
    seated = np.sum(gammaln(counts - discount) - gammaln(1 - discount))
    return float(founded + seated - log_rising(alpha + 1, counts.sum() - 1))


class Tail(NamedTuple):
    """Maximum-likelihood (alpha, d) for the sizes of memories, and a comparison with d = 0."""

    alpha: float
    discount: float
    discount_se: float
    """Standard error from the curvature; infinite at d = 0 or where the sizes do not determine the discount."""
    log_probability: float
    log_probability_dirichlet: float
    """The same under the maximum-likelihood Dirichlet process, d = 0."""

    @property
    def p_value(self) -> float:
        """P-value of the likelihood ratio against d = 0, a boundary point: half of a chi-square with one degree."""
        return float(0.5 * chdtrc(1, 2 * max(self.log_probability - self.log_probability_dirichlet, 0)))


def tail_of(sizes: ArrayLike) -> Tail:
    """Maximum-likelihood (alpha, d) from the sizes of the memories.

    Args:
        sizes: number of data of each memory, in any order; zeros are ignored.

    Raises:
        InputError: for sizes that are not whole numbers, fewer than two memories with data, and memories with one
            datum each, from which nothing can be estimated.
    """
    counts = block_sizes(sizes)
    if len(counts) < 2 or counts.max() < 2:
        raise InputError(
            f"sizes: expected at least two memories and one of them with two data; got {len(counts)} memories, the "
            f"largest with {counts.max(initial=0):g}"
        )

    def cost(point: Float[np.ndarray, " 2"]) -> float:
        return -_log_probability(float(np.exp(point[0])), float(expit(point[1])), counts)

    def cost_without_discount(point: Float[np.ndarray, " 1"]) -> float:
        return -_log_probability(float(np.exp(point[0])), 0.0, counts)

    start = np.log(max(len(counts) / np.log(counts.sum() + 1), 0.1))
    null = scipy.optimize.minimize(cost_without_discount, np.array([start]))
    bounds = [(np.log(_LEAST), np.log(_MOST)), (-25.0, logit(_LARGEST_DISCOUNT))]
    runs = [
        scipy.optimize.minimize(cost, np.array([start, logit(d)]), method="L-BFGS-B", bounds=bounds)
        for d in (0.05, 0.5)
    ]
    best = min(runs, key=lambda run: float(run.fun))
    if -best.fun <= -null.fun + 1e-9:
        return Tail(float(np.exp(null.x[0])), 0.0, np.inf, -float(null.fun), -float(null.fun))
    alpha, discount = float(np.exp(best.x[0])), float(expit(best.x[1]))
    step = 1e-4
    shifts = step * np.array([[1, 0], [-1, 0], [0, 1], [0, -1], [1, 1], [-1, -1]])
    right, left, up, down, out, back = (cost(best.x + shift) for shift in shifts)
    here = cost(best.x)
    across = (out + back - right - left - up - down + 2 * here) / 2
    curvature = np.array([[right + left - 2 * here, across], [across, up + down - 2 * here]]) / step**2
    determinant = np.linalg.det(curvature)
    variance = curvature[0, 0] / determinant if determinant > 0 and curvature[0, 0] > 0 else np.inf
    se = float(np.sqrt(variance) * discount * (1 - discount))
    return Tail(alpha, discount, se, -float(best.fun), -float(null.fun))


def block_sizes(sizes: ArrayLike) -> Float[np.ndarray, " K"]:
    """The sizes that are not 0.

    Raises:
        InputError: for an empty list, and for sizes that are not whole numbers.
    """
    counts = np.asarray(sizes, float).ravel()
    if counts.size == 0 or (counts < 0).any() or (counts != np.round(counts)).any():
        raise InputError("sizes: expected whole numbers of data, at least one of them; got " + repr(sizes)[:80])
    return counts[counts > 0]
