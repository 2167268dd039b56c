"""The order of the memories: under weights that are not exchangeable each order is another mode."""

from itertools import permutations
from math import lgamma

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from probam.family import Params, WeightPrior
from probam.inference.common.coordinates import log_joints, unconstrained
from probam.inference.common.matching import in_likeliest_order
from probam.inference.em import engine as em
from probam.models.mixture import Mixture, mixture
from probam.models.weights import weight_prior
from tests.models.known_precision import KnownPrecision

GROUPS = np.array([-4.1, -3.6, -0.2, 0.3, 0.9, 3.9, 4.1, 4.4, 4.7, 5.0])
BASE = 9.0


def _log_marginal(counts: np.ndarray, alpha: float, discount: float) -> float:
    """Log probability of labels with these counts under truncated sticks."""
    total = 0.0
    for k in range(1, len(counts)):
        a, b = 1 - discount, alpha + k * discount
        here, behind = counts[k - 1], counts[k:].sum()
        total += lgamma(a + here) + lgamma(b + behind) - lgamma(a + b + here + behind)
        total -= lgamma(a) + lgamma(b) - lgamma(a + b)
    return total


@pytest.mark.parametrize(("alpha", "discount"), [(0.3, 0.0), (1.0, 0.0), (9.0, 0.0), (2.0, 0.4), (30.0, 0.7)])
def test_of_all_orders_under_sticks_the_likeliest_is_found(alpha: float, discount: float) -> None:
    law = weight_prior("dp", alpha=alpha) if discount == 0 else weight_prior("pyp", alpha=alpha, discount=discount)
    find = jax.jit(lambda counts: law.likeliest_order(counts, {}))
    for counts in np.random.default_rng(0).gamma(0.5, 20, (20, 5)):
        best = max(_log_marginal(counts[list(order)], alpha, discount) for order in permutations(range(5)))
        assert_allclose(_log_marginal(counts[np.asarray(find(counts))], alpha, discount), best, rtol=1e-12)


def test_of_all_orders_under_fixed_weights_the_likeliest_is_found() -> None:
    given = (0.1, 0.4, 0.05, 0.25, 0.2)
    law = weight_prior("fixed", given=given)
    for counts in np.random.default_rng(1).gamma(0.5, 20, (20, 5)):
        best = max(np.log(given) @ counts[list(order)] for order in permutations(range(5)))
        order = np.asarray(law.likeliest_order(jnp.asarray(counts), {}))
        assert_allclose(np.log(given) @ counts[order], best, rtol=1e-12)


def test_where_all_orders_are_alike_memories_keep_theirs() -> None:
    counts = jnp.asarray([1.0, 5.0, 2.0])
    for name in ("dirichlet", "uniform"):
        assert list(weight_prior(name).likeliest_order(counts, {})) == [0, 1, 2]


def _sticks(counts: np.ndarray, alpha: float) -> np.ndarray:
    behind = np.cumsum(counts[::-1])[::-1][1:]
    return np.asarray((1 + counts[:-1]) / (1 + counts[:-1] + alpha + behind))


def _model(weights: WeightPrior) -> Mixture:
    return mixture(GROUPS[:, None], family=KnownPrecision(1.0, BASE), weights=weights, num_components=3)


def _by_hand(loc: np.ndarray, counts: np.ndarray, alpha: float) -> tuple[float, Params]:
    """Where EM that never changes the order ends, and the log joint there."""
    for _ in range(400):
        sticks = _sticks(counts, alpha)
        weights = np.append(sticks, 1) * np.cumprod(np.append(1, 1 - sticks))
        joint = weights * np.exp(-0.5 * (GROUPS[:, None] - loc) ** 2) / np.sqrt(2 * np.pi)
        density = joint.sum(axis=1)
        end = (loc, sticks)
        counts = (joint / density[:, None]).sum(axis=0)
        loc = (joint / density[:, None]).T @ GROUPS / (counts + 1 / BASE)
    loc, sticks = end
    height = np.log(density).sum() + stats.norm.logpdf(loc, 0, BASE**0.5).sum()
    height += (stats.beta.logpdf(sticks, 1, alpha) + np.log(sticks) + np.log1p(-sticks)).sum()
    return float(height), {"loc": jnp.asarray(loc[:, None]), "sticks": jnp.asarray(sticks)}


@pytest.mark.parametrize("alpha", [1.0, 6.0])
def test_em_ends_at_the_best_order_from_every_order(alpha: float) -> None:
    """The oracle is EM that keeps the numbers, from each order of the three groups."""
    model = _model(weight_prior("dp", alpha=alpha))
    loc, counts = np.array([-3.8, 0.3, 4.4]), np.array([2.0, 3.0, 5.0])
    ends = [_by_hand(loc[list(order)], counts[list(order)], alpha) for order in permutations(range(3))]
    best = max(height for height, _ in ends)
    assert best - min(height for height, _ in ends) > 0.1
    for _, end in ends:
        state, trace = em.fit_params(jax.random.key(0), model, jnp.asarray(GROUPS[:, None]), start=end).ends
        assert_allclose(state.objective[0], best, atol=1e-5)
        assert np.all(np.diff(trace[0][np.isfinite(trace[0])]) > -1e-12)


def test_known_labels_number_the_memories_whatever_order_the_weights_prefer() -> None:
    labels = np.full(len(GROUPS), -1)
    labels[:2] = 0
    result = em.run(
        jax.random.key(0), _model(weight_prior("dp", alpha=1.0)), jnp.asarray(GROUPS[:, None]), labels=labels
    )
    assert_allclose(result.sites["loc"][0, 0, 0], -3.64, atol=0.1)
    free = em.run(jax.random.key(0), _model(weight_prior("dp", alpha=1.0)), jnp.asarray(GROUPS[:, None]))
    assert free.sites["loc"][0, 0, 0, 0] > 3  # the largest group
    assert free.stats["lp"][0, 0] > result.stats["lp"][0, 0] + 0.1


def test_starts_in_any_order_are_put_into_the_likeliest() -> None:
    model, x = _model(weight_prior("dp", alpha=1.0)), jnp.asarray(GROUPS[:, None])
    loc, counts = np.array([-3.64, 0.32, 4.27]), np.array([2.0, 3.0, 5.0])
    orders = [list(order) for order in permutations(range(3))]
    starts = {
        "loc": jnp.asarray(np.stack([loc[order, None] for order in orders])),
        "sticks": jnp.asarray(np.stack([_sticks(counts[order], 1.0) for order in orders])),
    }
    before = np.asarray(log_joints(model, unconstrained(model, starts), x))
    moved = in_likeliest_order(model, starts, x)
    assert np.all(np.asarray(moved["loc"])[:, 0, 0] > 3)
    after = np.asarray(log_joints(model, unconstrained(model, moved), x))
    assert after.min() > before.max() - 0.01
    assert np.ptp(before) > 0.1
