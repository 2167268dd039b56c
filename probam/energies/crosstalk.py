r"""Signal, noise and capacity of a dense associative memory of random signs.

Flip one neuron of a stored memory: the energy changes by the signal \(N^n - (N-2)^n\) of that memory plus the
crosstalk of the K - 1 others, independent and of mean zero. Krotov and Hopfield (2016), arXiv:1606.01164, Sec. 3,
for plain powers; here also rectified ones, and the variance at finite N exactly.

All functions take plain numbers and run on the host.
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
    r"""Mean over the memories of what one flip at a stored memory adds to the energy: \(N^n - (N-2)^n\).

    The signal of that memory alone; the others contribute zero on average, rectified or not.
    """
    _check(num_neurons, 1, degree)
    return float(num_neurons**degree - (num_neurons - 2) ** degree)


def flip_variance(num_neurons: int, num_memories: int, degree: int, *, rectified: bool) -> float:
    r"""Variance of the same, exactly: K - 1 times the mean square of one foreign memory's part.

    .. math:: (K - 1)\, \mathbb E\bigl[(F(R + 1) - F(R - 1))^2\bigr], \qquad R = \textstyle\sum_{j=1}^{N-1} \pm 1

    A sum over the N values of R in whole numbers, rounded once at the end.
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
    r"""Leading order of the same: \(4 n^2 (2n - 3)!!\, (K - 1) N^{n-1}\), and half of it for rectified powers."""
    _check(num_neurons, num_memories, degree)
    plain = 4 * degree**2 * _odd_product(degree) * (num_memories - 1) * num_neurons ** (degree - 1)
    return plain / 2 if rectified else float(plain)


def one_step_error(num_neurons: int, num_memories: int, degree: int, *, rectified: bool) -> float:
    r"""Chance that a neuron of a stored memory is unstable, for Gaussian crosstalk: \(\Phi(-{\rm mean} / {\rm sd})\).

    With the exact mean and variance. Gaussian is an assumption: for n > 2 the crosstalk has heavy tails, and the
    quotient is good only where K is large.
    """
    variance = flip_variance(num_neurons, num_memories, degree, rectified=rectified)
    return NormalDist().cdf(-flip_mean(num_neurons, degree) / sqrt(variance)) if variance else 0.0


def hebb_error_probability(num_neurons: int, num_memories: int) -> float:
    r"""Chance that a neuron of a stored memory has the wrong sign of field under Hebb's rule without diagonal, exactly.

    The field times \(\xi_i\) is \(N - 1\) plus the sum of (K - 1)(N - 1) independent signs. Half of the chance of a
    tie (field 0) counts as wrong: memories of both signs are equally likely, and a tie goes to +1.
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
    r"""The alpha_n of \(K = \alpha_n N^{n-1}\) at which one neuron errs with the given chance.

    .. math:: \alpha_n = \frac{1}{(2n - 3)!!\, z^2}, \qquad z = \Phi^{-1}(1 - {\rm error})

    and twice this for rectified powers, whose crosstalk has half the variance. Leading order in N.
    """
    _check(2, 1, degree)
    if not 0 < error < 0.5:
        raise InputError(f"error: expected the chance of one wrong neuron, between 0 and 0.5; got {error}")
    quantile = -NormalDist().inv_cdf(error)
    return (2 if rectified else 1) / (_odd_product(degree) * quantile**2)


def capacity(num_neurons: int, degree: int, error: float, *, rectified: bool) -> float:
    r"""Memories at which one neuron errs with the given chance: \(\alpha_n N^{n-1}\), leading order in N."""
    _check(num_neurons, 1, degree)
    return capacity_coefficient(degree, error, rectified=rectified) * float(num_neurons) ** (degree - 1)


def error_free_capacity(num_neurons: int, degree: int, *, rectified: bool, all_memories: bool = False) -> float:
    r"""Memories up to which a stored one has no wrong neuron, asymptotically.

    .. math:: K = \frac{N^{n-1}}{2 (2n - 3)!! \log N}

    With ``all_memories``, none of them has one: at n = 2 the 2 becomes 4, in general 2n, since the error must
    fall below \(1 / (KN) \sim N^{-n}\). Twice as many for rectified powers.
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
