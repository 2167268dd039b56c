"""Claims A18 and A19: Chinese restaurants with one and two parameters.

Physics: the shares of :mod:`probam.energies.creation` where no memory is nearer than another. Statistics: the law of
the number of components in :mod:`probam.distributions.stick_breaking`. Both are held against the enumeration of all
partitions of a few data (Bell numbers: 877 for seven).
"""

import math
from collections.abc import Callable, Iterator
from itertools import product

import jax
import numpy as np
import numpy.typing as npt

from probam.claims.claim import extreme, ordinary, register
from probam.claims.inputs import Floats, generator
from probam.distributions.stick_breaking import expected_num_components, num_components_law
from probam.energies import creation

__all__ = ["labels_of_partitions", "log_partition_probability", "partition_sizes", "rising"]

_SCHAEFFER = "Schaeffer et al. (2023), Associative Memory under the Probabilistic Lens"


def labels_of_partitions(num_data: int) -> Iterator[tuple[int, ...]]:
    """Every partition of n data once, as labels in order of appearance (restricted growth strings)."""

    def grow(prefix: tuple[int, ...], used: int) -> Iterator[tuple[int, ...]]:
        if len(prefix) == num_data:
            yield prefix
            return
        for label in range(used + 1):
            yield from grow((*prefix, label), max(used, label + 1))

    return grow((), 0)


def partition_sizes(labels: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """Sizes of the blocks, in order of appearance."""
    return np.bincount(labels)


def rising(x: float, n: int) -> float:
    """Rising factorial x (x+1) ... (x+n-1)."""
    return math.prod(x + i for i in range(n))


def log_partition_probability(sizes: npt.NDArray[np.int64], alpha: float, discount: float) -> float:
    """Log of the exchangeable partition probability function of the two-parameter restaurant.

    prod_{i=1}^{K-1} (alpha + i d) / (alpha + 1)_{n-1} * prod_k (1 - d)_{n_k - 1}; Pitman (2006), Theorem 3.2.
    """
    num_blocks, num_data = len(sizes), int(sizes.sum())
    opened = math.prod(alpha + i * discount for i in range(1, num_blocks))
    filled = math.prod(rising(1 - discount, int(size) - 1) for size in sizes)
    return math.log(opened) + math.log(filled) - math.log(rising(alpha + 1, num_data - 1))


def _relative(left: npt.ArrayLike, right: npt.ArrayLike) -> float:
    a, b = np.asarray(left, float), np.asarray(right, float)
    return float(np.max(np.abs(a - b)) / max(np.max(np.abs(a)), np.max(np.abs(b))))


def _restaurant(
    key: jax.Array, *, num_data: int = 5, alpha: float | None = None, discount: float = 0.0
) -> dict[str, float | int]:
    strength = float(generator(key).uniform(0.3, 3.0)) if alpha is None else alpha
    return {"num_data": num_data, "alpha": strength, "discount": discount}


_RESTAURANTS = (
    ordinary("d = 0.3", discount=0.3),
    ordinary("alpha 1, d = 0.5", alpha=1.0, discount=0.5),
    ordinary("alpha -0.2, d = 0.5", alpha=-0.2, discount=0.5),
    extreme("d = 0", discount=0.0),
    extreme("alpha 1e-6, d = 0.9", alpha=1e-6, discount=0.9),
    extreme("alpha 1e6", alpha=1e6, discount=0.3),
    extreme("d = 0.999, alpha -0.9", alpha=-0.9, discount=0.999),
)


_shares = jax.jit(creation.exact_probabilities)


def _seats(counts: npt.NDArray[np.int64], alpha: float, discount: float) -> Floats:
    """Eq. 11 for one more datum, physics: every memory and the query at the base measure's mean, flat wells."""
    memories = np.zeros((len(counts), 1))
    shares = _shares(np.zeros(1), memories, counts.astype(float), 1e-16, 1.0, alpha, discount)
    return np.asarray(shares)


def _seats_with_negative_printed_weights(counts: npt.NDArray[np.int64], alpha: float, discount: float) -> Floats:
    """Eq. 12's pi_k - d with pi_k read as probabilities n_k / n, as the paper defines pi."""
    weights = np.append(counts / counts.sum() - discount, alpha + discount * len(counts))
    return np.asarray(weights / weights.sum())


@register(
    id="A19.rule",
    source=f"{_SCHAEFFER}, Eq. 11",
    title="the seats of the memory-creating energy are the two-parameter restaurant",
    statement="P(c) = (n_c - d)/(n + alpha), P(new) = (alpha + dK)/(n + alpha): the ratio of partition probabilities",
    latex=r"P(c_{n+1} = c) = \frac{n_c - d}{n + \alpha},\quad P(\text{new}) = \frac{\alpha + dK}{n + \alpha}",
    printed_statement=(
        "the indicator reads c_n = c for c_{n'} = c; alpha > 0 only; and Eq. 12 has probabilities pi_k for counts"
    ),
    verdict="TYPO",
    relation="equal",
    constant="n + alpha; valid for 0 <= d < 1, alpha > -d",
    inputs=_restaurant,
    cases=_RESTAURANTS,
    tolerance=1e-12,
    exact={"seats": _seats},
    printed={"seats": _seats_with_negative_printed_weights},
    printed_exceeds=0.1,
    mutations={
        "discount left out": {"seats": lambda n, alpha, _discount: _seats(n, abs(alpha), 0.0)},
        "discount doubled": {"seats": lambda n, alpha, discount: _seats(n, alpha + discount, discount / 2)},
    },
    jit=False,
)
def creation_seats_are_ratios_of_partition_probabilities(
    num_data: int, alpha: float, discount: float, *, seats: Callable[..., Floats]
) -> float:
    """Shares of the physics in the flat limit against ratios of enumerated partition probabilities."""
    worst = 0.0
    sizes = {tuple(sorted(partition_sizes(labels))) for labels in labels_of_partitions(num_data - 1)}
    for counts in (np.array(size) for size in sorted(sizes)):
        before = log_partition_probability(counts, alpha, discount)
        joined = [counts + (np.arange(len(counts)) == k) for k in range(len(counts))] + [np.append(counts, 1)]
        exact = [math.exp(log_partition_probability(after, alpha, discount) - before) for after in joined]
        worst = max(worst, _relative(seats(counts, alpha, discount), exact))
    return worst


@register(
    id="A19.partitions",
    source=f"{_SCHAEFFER}, Eq. 11",
    title="the two-parameter restaurant is a law of partitions, for alpha > -d",
    statement=(
        "prod_{i<K}(alpha + i d)/(alpha + 1)_{n-1} prod_k (1 - d)_{n_k - 1} sums to 1 over partitions; "
        "its number of blocks has the law of num_components_law"
    ),
    latex=r"P(\text{partition}) = \frac{\prod_{i=1}^{K-1}(\alpha + i d)}{(\alpha+1)_{n-1}} \prod_k (1-d)_{n_k-1}",
    printed_statement="Eq. 11, one datum at a time, alpha > 0",
    verdict="TYPO",
    relation="equal",
    constant="(alpha + 1)_{n-1}",
    inputs=_restaurant,
    cases=(*_RESTAURANTS, ordinary("n = 7, d = 0.3", num_data=7, discount=0.3)),
    tolerance=1e-12,
    tolerance_extreme=1e-8,  # the closed form of the mean cancels where alpha far exceeds n
    exact={"twin": lambda alpha, discount: (alpha, discount), "shift": 0},
    mutations={
        "discount left out": {"twin": lambda alpha, _discount: (max(alpha, 0.1), 0.0)},
        "alpha shifted by d": {"twin": lambda alpha, discount: (alpha + discount, discount)},
        "one seat too many": {"shift": 1},
    },
    jit=False,
)
def partition_probabilities_sum_to_one(
    num_data: int, alpha: float, discount: float, *, twin: Callable[[float, float], tuple[float, float]], shift: int
) -> float:
    """Sum over all partitions; law and mean of the number of blocks against the statistics' recursion and formula."""
    law: Floats = np.zeros(num_data + 1)
    for labels in labels_of_partitions(num_data):
        sizes = partition_sizes(labels)
        law[len(sizes)] += math.exp(log_partition_probability(sizes, alpha, discount))
    mean = float(law @ np.arange(num_data + 1)) + shift
    by_recursion = num_components_law(*twin(alpha, discount), num_data)
    by_formula = expected_num_components(*twin(alpha, discount), num_data)
    return max(abs(float(law.sum()) - 1), _relative(law, by_recursion), _relative(mean, by_formula))


def _power_law(alpha: float, discount: float, num_data: int) -> float:
    lead = math.lgamma(alpha + 1) - math.lgamma(alpha + discount) - math.log(discount)
    return math.exp(lead + discount * math.log(num_data)) - alpha / discount


@register(
    id="A19.growth",
    source=f"{_SCHAEFFER}, Sec. 5, 'accelerates how quickly new clusters form'",
    title="clusters of the two-parameter restaurant grow as a power",
    statement="E K_n -> Gamma(alpha+1)/(d Gamma(alpha+d)) n^d - alpha/d: 2254.75918 against 2254.75833 at n = 1e6",
    latex=r"\mathbb E K_n \sim \frac{\Gamma(\alpha+1)}{d\,\Gamma(\alpha+d)} n^d - \frac{\alpha}{d}",
    printed_statement="no formula",
    verdict="NEW",
    relation="limit",
    constant="Gamma(alpha + 1) / (d Gamma(alpha + d)), remainder O(n^(d-1))",
    inputs=_restaurant,
    cases=(
        ordinary("alpha 1, d = 0.5, n = 1e6", alpha=1.0, discount=0.5, num_data=10**6),
        ordinary("d = 0.3, n = 1e6", discount=0.3, num_data=10**6),
        extreme("alpha -0.2, d = 0.5, n = 1e8", alpha=-0.2, discount=0.5, num_data=10**8),
    ),
    tolerance=2e-6,
    exact={"limit": _power_law},
    mutations={
        "last term dropped": {"limit": lambda a, d, n: _power_law(a, d, n) + a / d},
        "discount left out of Gamma": {"limit": lambda a, d, n: n**d / d - a / d},
        "discount doubled": {"limit": lambda a, d, n: _power_law(a, min(2 * d, 0.99), n)},
    },
    jit=False,
)
def clusters_grow_as_a_power(
    num_data: int, alpha: float, discount: float, *, limit: Callable[[float, float, int], float]
) -> float:
    """Relative distance of the statistics' mean from the power law."""
    return _relative(expected_num_components(alpha, discount, num_data), limit(alpha, discount, num_data))


def _log_growth(alpha: float, num_data: int) -> float:
    return alpha * math.log1p(num_data / alpha)


@register(
    id="A18.growth",
    source=f"{_SCHAEFFER}, Eq. 10 and 'logarithmically many clusters'",
    title="clusters of the one-parameter restaurant grow as a logarithm",
    statement="alpha log(1 + n/alpha) <= E K_n <= alpha log(1 + n/alpha) + 1, E K_n = sum_i alpha/(alpha + i)",
    latex=r"0 \le \mathbb E K_n - \alpha\log(1 + n/\alpha) \le 1",
    printed_statement="logarithmically many clusters in n",
    verdict="CONST",
    relation="at most",
    constant="alpha log(1 + n / alpha), within 1",
    inputs=_restaurant,
    cases=(
        ordinary("alpha 1, n = 1000", alpha=1.0, num_data=1000),
        ordinary("alpha 10, n = 1000", alpha=10.0, num_data=1000),
        ordinary("alpha 0.1, n = 1000", alpha=0.1, num_data=1000),
        extreme("alpha 1e-6, n = 1e5", alpha=1e-6, num_data=10**5),
        extreme("alpha 1e6, n = 1e5", alpha=1e6, num_data=10**5),
        extreme("n = 1", num_data=1),
    ),
    tolerance=1e-12,
    exact={"growth": _log_growth, "slack": 1.0},
    mutations={
        "alpha log n": {"growth": lambda alpha, n: alpha * math.log(n)},
        "alpha doubled": {"growth": lambda alpha, n: _log_growth(2 * alpha, n)},
        "no slack": {"slack": 0.0},
    },
    jit=False,
)
def clusters_grow_as_a_logarithm(
    num_data: int, alpha: float, discount: float, *, growth: Callable[[float, int], float], slack: float
) -> float:
    """Amount by which the mean leaves the band, and the statistics' mean against the sum over data."""
    mean = expected_num_components(alpha, discount, num_data)
    lower = growth(alpha, num_data)
    outside = max(lower - mean, mean - lower - slack, 0.0) / mean
    by_sum = math.fsum(alpha / (alpha + i) for i in range(num_data))
    return max(outside, _relative(mean, by_sum))


def _seats_of_the_chinese_restaurant(counts: npt.NDArray[np.int64], alpha: float) -> Floats:
    return np.asarray(np.append(counts, alpha) / (counts.sum() + alpha))


@register(
    id="A18.rule",
    source=f"{_SCHAEFFER}, Eq. 10",
    title="the one-parameter restaurant",
    statement="P(c) = n_c/(n + alpha), P(new) = alpha/(n + alpha): products along any order of the data agree",
    latex=r"\prod_n p(c_n \mid c_{<n}) \text{ depends on the block sizes only}",
    printed_statement="the same with n - 1 for the number of earlier data",
    verdict="EXACT",
    relation="equal",
    constant="alpha + n - 1",
    inputs=_restaurant,
    cases=(ordinary("n = 5", num_data=5), ordinary("alpha 2.5", alpha=2.5, num_data=5)),
    tolerance=1e-12,
    exact={"seats": _seats_of_the_chinese_restaurant},
    mutations={
        "alpha left out of the total": {"seats": lambda n, alpha: np.append(n, alpha) / max(n.sum(), 1)},
        "a discount of 0.1": {"seats": lambda n, alpha: np.append(n - 0.1, alpha + 0.1 * len(n)) / (n.sum() + alpha)},
    },
    jit=False,
)
def restaurant_is_exchangeable(num_data: int, alpha: float, discount: float, *, seats: Callable[..., Floats]) -> float:
    """Product of Eq. 10 over the data of every partition against the partition probability with d = 0."""
    worst = 0.0
    for labels in labels_of_partitions(num_data):
        product_of_seats = 1.0
        for n in range(1, num_data):
            counts = np.bincount(labels[:n])
            product_of_seats *= seats(counts, alpha)[labels[n]]
        exact = math.exp(log_partition_probability(partition_sizes(labels), alpha, discount))
        worst = max(worst, _relative(product_of_seats, exact))
    return worst


def all_labels(num_data: int, num_labels: int) -> Iterator[tuple[int, ...]]:
    """Every assignment of n data to T labels."""
    return product(range(num_labels), repeat=num_data)
