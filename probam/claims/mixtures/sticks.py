"""Claim A20: stick-breaking weights, what truncating them leaves over, and bounds that hold.

Statistics: :mod:`probam.distributions.stick_breaking`. It is judged by exact enumeration: the probability of an
assignment of n data to T sticks is a product of moments of Beta variables. (The claim has no energy; its second
witness is the enumeration.)
"""

import math
from collections import defaultdict
from collections.abc import Callable
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import betaln

from probam.claims.claim import extreme, ordinary, register
from probam.claims.inputs import Floats
from probam.claims.mixtures.partitions import (
    all_labels,
    labels_of_partitions,
    log_partition_probability,
    partition_sizes,
)
from probam.compiled import compiler_options
from probam.distributions.stick_breaking import (
    StickBreakingSticks,
    StickBreakingWeights,
    expected_remaining,
    remaining_moments,
    sticks_to_log_weights,
    truncation_error,
)

__all__ = ["truncated_partition_law"]

_SCHAEFFER = "Schaeffer et al. (2023), Associative Memory under the Probabilistic Lens"


def _label_probability(labels: tuple[int, ...], num_components: int, alpha: float, discount: float) -> float:
    """P(z_1, ..., z_n) under truncation at T: a product of moments E V^m (1 - V)^l of Beta(1 - d, alpha + k d)."""
    counts = np.bincount(labels, minlength=num_components)
    beyond = np.cumsum(counts[::-1])[::-1] - counts  # data on later sticks
    k = np.arange(1, num_components)
    moments = betaln(1 - discount + counts[:-1], alpha + k * discount + beyond[:-1])
    return math.exp(np.sum(moments - betaln(1 - discount, alpha + k * discount)))


def truncated_partition_law(
    num_data: int, num_components: int, alpha: float, discount: float
) -> dict[tuple[int, ...], float]:
    """Probability of every partition of n data under stick-breaking truncated at T, by enumerating T^n assignments."""
    law: dict[tuple[int, ...], float] = defaultdict(float)
    for labels in all_labels(num_data, num_components):
        first: dict[int, int] = {}
        in_order = tuple(first.setdefault(label, len(first)) for label in labels)
        law[in_order] += _label_probability(labels, num_components, alpha, discount)
    return dict(law)


def _total_variation(num_data: int, num_components: int, alpha: float, discount: float) -> float:
    """Between the partition laws with T and with infinitely many components."""
    truncated = truncated_partition_law(num_data, num_components, alpha, discount)
    distance = 0.0
    for labels in labels_of_partitions(num_data):
        exact = math.exp(log_partition_probability(partition_sizes(labels), alpha, discount))
        distance += abs(truncated.get(labels, 0.0) - exact)
    return distance / 2


def _pair_variation(num_components: int, alpha: float, discount: float) -> float:
    """The same for two data, without cancellation: the tail is taken as one component, which parts no pair.

    TV = E R^2 P(a pair of the tail is parted), and the tail beyond T - 1 sticks is a restaurant with strength
    alpha + (T - 1) d, so that P(parted) = (alpha + T d) / (1 + alpha + (T - 1) d).
    """
    k = np.arange(1, num_components)
    b = alpha + k * discount
    square = float(np.prod(b * (b + 1) / ((b + 1 - discount) * (b + 2 - discount))))
    strength = alpha + (num_components - 1) * discount
    return square * (strength + discount) / (1 + strength)


def _process(
    key: jax.Array, *, alpha: float, discount: float = 0.0, num_components: int = 4, num_data: int = 4
) -> dict[str, float | int]:
    del key
    return {"alpha": alpha, "discount": discount, "num_components": num_components, "num_data": num_data}


_PROCESSES = (
    ordinary("alpha 1.3", alpha=1.3),
    ordinary("alpha 0.7, d = 0.4", alpha=0.7, discount=0.4, num_components=3, num_data=5),
    ordinary("alpha -0.2, d = 0.5", alpha=-0.2, discount=0.5, num_components=5, num_data=3),
    extreme("T = 1", alpha=1.3, num_components=1),
    extreme("alpha 1e-3", alpha=1e-3),
    extreme("alpha 1e3", alpha=1e3, discount=0.1),
    extreme("d = 0.95", alpha=0.5, discount=0.95),
)


def _moment_product(alpha: float, discount: float, num_sticks: int, order: int) -> float:
    b = alpha + np.arange(1, num_sticks + 1) * discount
    steps = np.arange(order)[:, None]
    return float(np.prod((b + steps) / (1 - discount + b + steps)))


@register(
    id="A20.remaining",
    source=f"{_SCHAEFFER}, Sec. 5 (stick-breaking form of the DP and PYP)",
    title="length that remains after T sticks",
    statement=(
        "E R_T = prod_{k<=T} (alpha + kd)/(1 + alpha + (k-1)d); E R^j = prod (b_k)_j/(1-d+b_k)_j, b_k = alpha + kd"
    ),
    latex=r"\mathbb E R_T = \prod_{k\le T} \frac{\alpha + k d}{1 + \alpha + (k-1) d}",
    printed_statement="not stated",
    verdict="NEW",
    relation="equal",
    constant="DP: (alpha/(1+alpha))^T; PYP: Gamma((1+alpha)/d)/Gamma(1+alpha/d) T^(-(1-d)/d)",
    inputs=_process,
    cases=(
        *_PROCESSES,
        ordinary("alpha 1, d = 0.5, T = 1000", alpha=1.0, discount=0.5, num_components=1000),
        extreme("alpha 2, T = 300", alpha=2.0, num_components=300),
    ),
    tolerance=1e-11,
    exact={"twin": lambda alpha, discount: (alpha, discount), "more": 0},
    mutations={
        "discount left out": {"twin": lambda alpha, _discount: (max(alpha, 0.1), 0.0)},
        "sticks counted from 2": {"twin": lambda alpha, discount: (alpha + discount, discount)},
        "one stick more": {"more": 1},
    },
    jit=False,
)
def remaining_length_has_product_moments(
    alpha: float,
    discount: float,
    num_components: int,
    num_data: int,
    *,
    twin: Callable[[float, float], tuple[float, float]],
    more: int,
) -> float:
    """The statistics' moments against Beta moments multiplied out, relative."""
    a, d = twin(alpha, discount)
    num_sticks = num_components + more
    orders = np.arange(1, num_data + 1)
    computed = np.append(remaining_moments(a, d, num_sticks, orders), expected_remaining(a, d, num_sticks))
    exact = [_moment_product(alpha, discount, num_components, j) for j in (*orders.tolist(), 1)]
    return float(np.max(np.abs(computed / np.array(exact) - 1)))


@register(
    id="A20.pair",
    source=f"{_SCHAEFFER}, Sec. 5 (stick-breaking form of the DP and PYP)",
    title="stick-breaking and restaurant agree on partitions, not on labels",
    statement=(
        "truncated at T, the partition law is a sum of Beta moments over assignments; with E R_T -> 0 it is the "
        "restaurant's, P(pair together) -> (1-d)/(1+alpha)"
    ),
    latex=(
        r"\Bigl\lvert P_T(\text{pair}) - \tfrac{1-d}{1+\alpha} \Bigr\rvert = \mathbb E "
        r"R_{T-1}^2\,\tfrac{\alpha+Td}{1+\alpha+(T-1)d}"
    ),
    printed_statement="CRP and DP are used as one",
    verdict="COND",
    relation="equal",
    constant="E R_{T-1}^2 (alpha + Td)/(1 + alpha + (T-1)d)",
    inputs=_process,
    cases=_PROCESSES,
    tolerance=1e-12,
    tolerance_extreme=1e-11,
    exact={"correction": lambda total: total, "together": lambda alpha, discount: (1 - discount) / (1 + alpha)},
    printed={"correction": lambda _total: 0.0},
    printed_exceeds=0.05,
    mutations={
        "sign flipped": {"correction": lambda total: -total},
        "discount left out of (1 - d)": {"together": lambda alpha, _discount: 1 / (1 + alpha)},
    },
    jit=False,
)
def partitions_of_sticks_are_the_restaurants(
    alpha: float,
    discount: float,
    num_components: int,
    num_data: int,
    *,
    correction: Callable[[float], float],
    together: Callable[[float, float], float],
) -> float:
    """Enumerated law for two data against the restaurant's; sum over all partitions of n data."""
    law = truncated_partition_law(2, num_components, alpha, discount)
    expected = together(alpha, discount) + correction(_pair_variation(num_components, alpha, discount))
    total = math.fsum(truncated_partition_law(num_data, num_components, alpha, discount).values())
    return max(abs(law[(0, 0)] - expected), abs(total - 1))


@cache
def _densities() -> Callable[[float, float, int, Floats], tuple[jax.Array, ...]]:
    """Weights of given sticks, density of the sticks and density of the weights."""

    def both(alpha: jax.Array, discount: jax.Array, num_components: int, sticks: jax.Array) -> tuple[jax.Array, ...]:
        weights = jnp.exp(sticks_to_log_weights(sticks))
        of_sticks = StickBreakingSticks(alpha, discount, num_components).log_prob(sticks)
        of_weights = StickBreakingWeights(alpha, discount, num_components).log_prob(weights)
        return weights, jnp.exp(of_sticks), jnp.exp(of_weights)

    return jax.jit(both, static_argnums=2, compiler_options=compiler_options())


@cache
def _sampler() -> Callable[[jax.Array, float, float, int], jax.Array]:
    """Many draws of the weights."""

    def draws(key: jax.Array, alpha: jax.Array, discount: jax.Array, num_components: int) -> jax.Array:
        return StickBreakingWeights(alpha, discount, num_components).sample(key, (20000,))

    return jax.jit(draws, static_argnums=3, compiler_options=compiler_options())


@register(
    id="A20.density",
    source=f"{_SCHAEFFER}, Sec. 5 (stick-breaking form of the DP and PYP)",
    title="the stick-breaking density integrates to the enumerated law",
    statement="V_k ~ Beta(1-d, alpha+kd): integral of p(V) sum over labels of prod_i w_{z_i} = P_T(partition)",
    latex=r"\int p(V) \prod_i w_{z_i}(V)\, dV = P_T(z),\quad V_k \sim \operatorname{Beta}(1-d,\ \alpha+kd)",
    printed_statement="not stated",
    verdict="NEW",
    relation="equal",
    constant="prod_k B(1-d, alpha+kd)",
    inputs=_process,
    cases=(
        ordinary("alpha 2, T = 3", alpha=2.0, num_components=3, num_data=3),
        ordinary("alpha 1, d = 0.5, T = 3", alpha=1.0, discount=0.5, num_components=3, num_data=3),
        extreme("alpha 60, T = 3", alpha=60.0, num_components=3, num_data=2),
    ),
    tolerance=1e-12,
    tolerance_extreme=1e-10,
    exact={"twin": lambda alpha, discount: (alpha, discount), "of_weights": False},
    mutations={
        "alpha shifted by one": {"twin": lambda alpha, discount: (alpha + 1.0, discount)},
        "discount of 0.25": {"twin": lambda alpha, _discount: (alpha, 0.25)},
        "density of the weights for that of the sticks": {"of_weights": True},
    },
    jit=False,
)
def stick_density_integrates_to_the_enumerated_law(
    alpha: float,
    discount: float,
    num_components: int,
    num_data: int,
    *,
    twin: Callable[[float, float], tuple[float, float]],
    of_weights: bool,
) -> float:
    """Gauss-Legendre in the angles V = sin^2 theta of both sticks (smooth for these parameters); both densities."""
    a, d = twin(alpha, discount)
    nodes, node_weights = np.polynomial.legendre.leggauss(60)
    theta, jacobian = np.pi / 4 * (nodes + 1), np.pi / 4 * node_weights
    sticks = np.stack(np.meshgrid(np.sin(theta) ** 2, np.sin(theta) ** 2, indexing="ij"), axis=-1).reshape(-1, 2)
    slope = 2 * np.sin(theta) * np.cos(theta) * jacobian
    volume = np.outer(slope, slope).ravel()
    weights, density, on_simplex = (np.asarray(part) for part in _densities()(a, d, num_components, sticks))
    change = on_simplex * (1 if of_weights else 1 - sticks[:, 0])  # |dw / dV| = R_1 for T = 3
    worst = 0.0
    for labels in all_labels(num_data, num_components):
        exact = _label_probability(labels, num_components, alpha, discount)
        likelihood = np.prod(weights[:, labels], axis=1)
        for one in (density, change):
            worst = max(worst, abs(float(np.sum(volume * one * likelihood)) - exact))
    return worst


def _textbook_bound(alpha: float, discount: float, num_components: int, num_data: int) -> float:
    del discount
    return 4 * num_data * math.exp(-(num_components - 1) / alpha)


def _sharp_bound(alpha: float, discount: float, num_components: int, num_data: int) -> float:
    return truncation_error(alpha, discount, num_components, num_data).tv_bound


@register(
    id="A20.bound",
    source="Ishwaran and James (2001), Theorem 2, as commonly quoted for the DP behind Schaeffer et al., Sec. 5",
    title="truncation error of the law of n data",
    statement="TV <= P(>= 2 data in the tail) = 1 - E(1-R)^n - n E[R (1-R)^(n-1)] <= 1 - E(1-R)^n, R = R_{T-1}",
    latex=r"\mathrm{TV} \le 1 - \mathbb E(1-R)^n - n\,\mathbb E[R(1-R)^{n-1}] \le 1 - \mathbb E(1-R)^n",
    printed_statement="TV <= 4 n exp(-(T-1)/alpha)",
    verdict="WRONG",
    relation="at most",
    constant="the textbook's replaces E exp by exp E: TV 2.52e-9 > 7.49e-13 at alpha .3, T 10, n 2",
    inputs=_process,
    cases=(
        *_PROCESSES,
        ordinary("alpha 0.3, T = 10, n = 2", alpha=0.3, num_components=10, num_data=2),
        extreme("alpha 0.3, T = 300, n = 2", alpha=0.3, num_components=300, num_data=2),
    ),
    tolerance=1e-12,
    exact={"bound": _sharp_bound},
    printed={"bound": _textbook_bound},
    printed_exceeds=0.99,
    mutations={
        "tail of one stick more": {"bound": lambda a, d, t, n: _sharp_bound(a, d, t + 1, n)},
        "a fifth of it": {"bound": lambda a, d, t, n: _sharp_bound(a, d, t, n) / 5},
    },
    jit=False,
)
def truncation_is_bounded_by_two_data_in_the_tail(
    alpha: float,
    discount: float,
    num_components: int,
    num_data: int,
    *,
    bound: Callable[[float, float, int, int], float],
) -> float:
    """Relative excess of the enumerated total variation (closed form for n = 2), and the order of the two bounds."""
    if num_data == 2:
        variation = _pair_variation(num_components, alpha, discount)
    else:
        variation = _total_variation(num_data, num_components, alpha, discount)
    report = truncation_error(alpha, discount, num_components, num_data)
    claimed = bound(alpha, discount, num_components, num_data)
    over = max(variation - claimed, 0.0) / variation if variation > 1e-14 else 0.0
    disorder = max(report.tv_bound - report.tv_bound_common, 0.0)
    return max(over, disorder)


def _law(alpha: float, discount: float, num_components: int, num_data: int) -> Floats:
    """Probabilities of the partitions in the order of :func:`labels_of_partitions`."""
    law = truncated_partition_law(num_data, num_components, alpha, discount)
    return np.array([law.get(labels, 0.0) for labels in labels_of_partitions(num_data)])


@register(
    id="A20.sampler",
    source=f"{_SCHAEFFER}, Sec. 5 (stick-breaking form of the DP and PYP)",
    title="sampled weights have the enumerated law",
    statement=(
        "the mean over draws of the probabilities of all partitions is P_T, to 5 standard errors (p < 1e-4 overall)"
    ),
    latex=r"\tfrac1S \textstyle\sum_s P(\text{partition} \mid w_s) \to P_T(\text{partition})",
    printed_statement="not stated",
    verdict="NEW",
    relation="limit",
    constant="5 standard errors of 20000 draws",
    inputs=lambda key, **settings: {**_process(key, **settings), "key": key},
    cases=(ordinary("alpha 0.7, d = 0.4", alpha=0.7, discount=0.4, num_components=3, num_data=4),),
    tolerance=5.0,
    exact={"twin": lambda alpha, discount: (alpha, discount)},
    mutations={
        "alpha doubled": {"twin": lambda alpha, discount: (2 * alpha, discount)},
        "discount left out": {"twin": lambda alpha, _discount: (alpha, 0.0)},
    },
    jit=False,
)
def sampled_weights_have_the_enumerated_law(
    key: jax.Array,
    alpha: float,
    discount: float,
    num_components: int,
    num_data: int,
    *,
    twin: Callable[[float, float], tuple[float, float]],
) -> float:
    """Largest deviation of a partition's mean probability, in standard errors."""
    weights = np.asarray(_sampler()(key, *twin(alpha, discount), num_components))
    conditional: dict[tuple[int, ...], Floats] = defaultdict(lambda: np.zeros(len(weights)))
    for labels in all_labels(num_data, num_components):
        first: dict[int, int] = {}
        in_order = tuple(first.setdefault(label, len(first)) for label in labels)
        conditional[in_order] = conditional[in_order] + np.prod(weights[:, labels], axis=1)
    exact = truncated_partition_law(num_data, num_components, alpha, discount)
    return max(
        abs(float(values.mean()) - exact[labels]) / (float(values.std()) / math.sqrt(len(weights)))
        for labels, values in conditional.items()
    )
