r"""Signal, noise and capacity of a dense associative memory of random signs.

When one neuron of a stored memory is flipped, the energy changes by the signal \(N^n - (N-2)^n\) of that memory plus
the crosstalk of the K - 1 others, which is independent of the signal and has mean zero. Krotov and Hopfield (2016),
arXiv:1606.01164, Sec. 3, treat plain powers to leading order; this module adds rectified powers and the exact variance
at finite N.

All functions take plain numbers and run on the host: ``num_neurons`` N >= 2, ``num_memories`` K >= 1, ``degree``
n >= 1, and ``rectified`` for powers that are zero at negative overlaps. Other values raise
:class:`probam.errors.InputError`.
"""

from math import comb, log, prod, sqrt
from statistics import NormalDist

from probam.errors import InputError

__all__ = [
    "capacity",
    "capacity_coefficient",
    "error_free_capacity",
    "flip_mean",
    "flip_variance",
    "flip_variance_leading",
    "hebb_error_probability",
    "one_step_error",
]


def flip_mean(num_neurons: int, degree: int) -> float:
    r"""Mean over the memories of the energy change when one neuron of a stored memory is flipped: \(N^n - (N-2)^n\).

    This is the signal of that memory alone; the others contribute zero on average, rectified or not.
    """
    _check(num_neurons, 1, degree)
    return float(num_neurons**degree - (num_neurons - 2) ** degree)


def flip_variance(num_neurons: int, num_memories: int, degree: int, *, rectified: bool) -> float:
    r"""Exact variance of the same energy change: K - 1 times the mean square of another memory's contribution.

    .. math:: (K - 1)\, \mathbb E\bigl[(F(R + 1) - F(R - 1))^2\bigr], \qquad R = \textstyle\sum_{j=1}^{N-1} \pm 1

    The sum over the N values of R uses whole numbers and is rounded once, at the end.

    >>> flip_variance(100, 10, 2, rectified=False) == 16 * 9 * 99  # E[(4 R)^2] = 16 (N - 1)
    True
    """
    _check(num_neurons, num_memories, degree)

    def power(x: int) -> int:
        return 0 if rectified and x < 0 else x**degree

    total, ways = 0, 1
    for minuses in range(num_neurons):
        rest = num_neurons - 1 - 2 * minuses
        total += ways * (power(rest + 1) - power(rest - 1)) ** 2
        ways = ways * (num_neurons - 1 - minuses) // (minuses + 1)
    return float((num_memories - 1) * total / 2 ** (num_neurons - 1))


def flip_variance_leading(num_neurons: int, num_memories: int, degree: int, *, rectified: bool) -> float:
    r"""Leading order of that variance: \(4 n^2 (2n - 3)!!\, (K - 1) N^{n-1}\), and half of it for rectified powers."""
    _check(num_neurons, num_memories, degree)
    plain = 4 * degree**2 * _odd_product(degree) * (num_memories - 1) * num_neurons ** (degree - 1)
    return plain / 2 if rectified else float(plain)


def one_step_error(num_neurons: int, num_memories: int, degree: int, *, rectified: bool) -> float:
    r"""Probability that a neuron of a stored memory is unstable: \(\Phi(-{\rm mean} / {\rm sd})\).

    Mean and variance are exact; that the crosstalk is Gaussian is an assumption. For n > 2 it has heavy tails, and the
    approximation is good only for large K.
    """
    variance = flip_variance(num_neurons, num_memories, degree, rectified=rectified)
    return NormalDist().cdf(-flip_mean(num_neurons, degree) / sqrt(variance)) if variance else 0.0


def hebb_error_probability(num_neurons: int, num_memories: int) -> float:
    r"""Exact probability that the field at a neuron of a stored memory has the wrong sign (Hebb's rule, no diagonal).

    The field times \(\xi_i\) is \(N - 1\) plus the sum of (K - 1)(N - 1) independent signs. A tie (field 0) counts as
    half an error: it is resolved to +1, and memories of both signs are equally likely.
    """
    _check(num_neurons, num_memories, 2)
    total = (num_memories - 1) * (num_neurons - 1)
    limit = total - (num_neurons - 1)  # wrong: sum < -(N - 1), a tie: sum = -(N - 1); the sum is 2 heads - total
    if limit < 0:
        return 0.0
    heads = limit // 2
    term = comb(total, heads) / 2**total  # the largest one, rounded once; the others follow by their ratios
    chance: float = term / 2 if 2 * heads == limit else term
    while heads and term > chance * 1e-18:
        term *= heads / (total - heads + 1)
        chance += term
        heads -= 1
    return chance


def capacity_coefficient(degree: int, error: float, *, rectified: bool) -> float:
    r"""The coefficient alpha_n in \(K = \alpha_n N^{n-1}\) at which one neuron is wrong with probability ``error``.

    .. math:: \alpha_n = \frac{1}{(2n - 3)!!\, z^2}, \qquad z = \Phi^{-1}(1 - {\rm error})

    and twice this for rectified powers, whose crosstalk has half the variance. Leading order in N.

    Raises:
        InputError: for ``error`` outside (0, 0.5).
    """
    _check(2, 1, degree)
    if not 0 < error < 0.5:
        raise InputError(f"error: expected the probability of a wrong neuron, between 0 and 0.5; got {error}")
    quantile = -NormalDist().inv_cdf(error)
    return (2 if rectified else 1) / (_odd_product(degree) * quantile**2)


def capacity(num_neurons: int, degree: int, error: float, *, rectified: bool) -> float:
    r"""Number of memories, \(\alpha_n N^{n-1}\), at which one neuron is wrong with probability ``error``."""
    _check(num_neurons, 1, degree)
    return capacity_coefficient(degree, error, rectified=rectified) * float(num_neurons) ** (degree - 1)


def error_free_capacity(num_neurons: int, degree: int, *, rectified: bool, all_memories: bool = False) -> float:
    r"""Number of memories up to which a stored memory has no wrong neuron, asymptotically.

    .. math:: K = \frac{N^{n-1}}{2 (2n - 3)!! \log N}

    With ``all_memories`` no memory has a wrong neuron: the factor 2 becomes 2n (4 at n = 2), since the error must be
    below \(1 / (KN) \sim N^{-n}\). Rectified powers store twice as many.
    """
    _check(num_neurons, 1, degree)
    factor = 2 * degree if all_memories else 2
    plain = float(num_neurons) ** (degree - 1) / (factor * _odd_product(degree) * log(num_neurons))
    return 2 * plain if rectified else plain


def _odd_product(degree: int) -> int:
    """(2n - 3)!!, 1 for n = 1 and 2."""
    return prod(range(1, 2 * degree - 2, 2))


def _check(num_neurons: int, num_memories: int, degree: int) -> None:
    for name, value, least in (
        ("num_neurons", num_neurons, 2),
        ("num_memories", num_memories, 1),
        ("degree", degree, 1),
    ):
        if value != int(value) or value < least:
            raise InputError(f"{name}: expected a whole number of at least {least}; got {value}")
