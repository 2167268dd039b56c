r"""The law of the partition of n data under stick-breaking weights that are truncated at T components.

The law is exchangeable but has no product form. With the blocks on given sticks, n_k data on stick k (0 where it is
empty) and m_k beyond it, the expectation over the sticks telescopes to

.. math::

    \frac{1}{(\alpha + 1)_n} \prod_{k < T} (1 - d)_{n_k} \; (\alpha + (T-1) d)_{n_T}
    \prod_{k \le T-2} \frac{\alpha + k d}{\alpha + k d + m_k}

and the law is the sum over all ways to place the t blocks on T sticks. Only the last product depends on the order, and
only through the data that are still to be placed. So the sum is a recursion over the sticks whose state is the multiset
of the sizes not yet placed. For sizes of multiplicities :math:`c_1, c_2, \dots` it has :math:`\prod_i (c_i + 1)`
states: at most 2^t, and less than exponential in n, where the sum over labels has T^n terms. All terms are positive.

As T grows the law tends to that of the Chinese restaurant process
(:func:`probam.distributions.growth.log_partition_probability`).
"""

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from probam.distributions.growth import block_sizes
from probam.distributions.stick_breaking import check_parameters
from probam.errors import InputError
from probam.numerics.log_gamma import log_rising

__all__ = ["log_truncated_partition_probability"]


def log_truncated_partition_probability(alpha: float, discount: float, num_components: int, sizes: ArrayLike) -> float:
    """Log probability of a partition with these block sizes under truncation; -inf for more blocks than components.

    >>> round(float(np.exp(log_truncated_partition_probability(1.0, 0.0, 2, [1, 1]))), 6)  # two sticks: E 2 V (1 - V)
    0.333333

    Args:
        alpha: strength, above ``-discount``.
        discount: d in [0, 1); 0 is the Dirichlet process.
        num_components: T, at least 1.
        sizes: whole numbers in any order; zeros are ignored.

    Raises:
        InputError: for parameters outside their range, and sizes that are not whole numbers.
    """
    check_parameters(alpha, discount)
    if num_components < 1:
        raise InputError(f"num_components: expected a whole number of at least 1; got {num_components}")
    counts = block_sizes(sizes)
    if len(counts) > num_components:
        return -np.inf
    if len(counts) == 0 or num_components == 1:
        return 0.0
    kinds, multiplicities = np.unique(counts, return_counts=True)
    log_sum = np.full(multiplicities + 1, -np.inf)  # by the number of blocks of each size that are still to be placed
    log_sum[tuple(multiplicities)] = 0.0
    remaining = sum(np.ix_(*(size * np.arange(c + 1) for size, c in zip(kinds, multiplicities, strict=True))))
    for k in range(1, num_components):
        log_sum = np.logaddexp(log_sum, _with_one_placed(log_sum))
        if k < num_components - 1:
            stick = alpha + k * discount
            log_sum = log_sum + np.log(stick / (stick + remaining))
    seated = float(np.sum(multiplicities * [log_rising(1 - discount, np.asarray(size)) for size in kinds]))
    total = seated - float(log_rising(alpha + 1, np.asarray(counts.sum())))
    return total + float(np.logaddexp.reduce(_of_the_last_stick(log_sum, kinds, alpha, discount, num_components)))


def _with_one_placed(log_sum: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """The sums after any one of the remaining blocks was placed on the present stick."""
    placed = np.full_like(log_sum, -np.inf)
    for axis, length in enumerate(log_sum.shape):
        by_size, into = np.moveaxis(log_sum, axis, -1), np.moveaxis(placed, axis, -1)
        into[..., :-1] = np.logaddexp(into[..., :-1], by_size[..., 1:] + np.log(np.arange(1, length)))
    return placed


def _of_the_last_stick(
    log_sum: Float[np.ndarray, "..."],
    kinds: Float[np.ndarray, " S"],
    alpha: float,
    discount: float,
    num_components: int,
) -> Float[np.ndarray, " S+1"]:
    """Log terms of an empty last component, and of one with a block of each size."""
    strength = alpha + (num_components - 1) * discount
    terms = [log_sum[(0,) * log_sum.ndim]]
    for axis, size in enumerate(kinds):
        alone = tuple(int(other == axis) for other in range(log_sum.ndim))
        data = np.asarray(size)
        terms.append(log_sum[alone] + float(log_rising(strength, data) - log_rising(1 - discount, data)))
    return np.array(terms)
