"""Bridge sampling of the evidence, from exact posterior draws of enumerated models: no sampler stands between."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import gammaln, logsumexp

from probam.errors import InputError, NumericalError
from probam.inference.common.rows import counted
from probam.inference.evidence import bridge
from probam.models.mixture import mixture
from probam.models.weights import weight_prior
from tests.inference.enumeration import log_marginal
from tests.models.known_precision import KnownPrecision

X = np.array([-2.1, -1.8, 0.1, 0.3, 1.9, 2.4, 2.2, 7.0])
VARIANCE, BASE, K = 0.5, 4.0, 3
CONCENTRATION = 0.8
MODEL = mixture(
    X[:, None],
    family=KnownPrecision(VARIANCE, BASE),
    weights=weight_prior("dirichlet", alpha=CONCENTRATION),
    num_components=K,
)


def exact_draws(
    rng: np.random.Generator, num_draws: int, known: np.ndarray | None = None
) -> tuple[float, dict[str, np.ndarray]]:
    """Log evidence and independent posterior draws of locations and proportions, by weighing every labelling.

    Where labels are ``known`` (-1: not) only the labellings that agree with them.
    """
    labellings = np.array(list(itertools.product(range(K), repeat=len(X))))
    counts = np.stack([(labellings == k).sum(axis=1) for k in range(K)], axis=1)
    logs = gammaln(counts + CONCENTRATION).sum(axis=1) - K * gammaln(CONCENTRATION)
    logs += gammaln(K * CONCENTRATION) - gammaln(K * CONCENTRATION + len(X))
    for row, labels in enumerate(labellings):
        logs[row] += sum(log_marginal(X[labels == k], VARIANCE, BASE) for k in range(K) if (labels == k).any())
    if known is not None:
        logs[((known >= 0) & (labellings != known)).any(axis=1)] = -np.inf
    evidence = float(logsumexp(logs))
    chosen = rng.choice(len(logs), size=num_draws, p=np.exp(logs - evidence))
    sums = np.stack([(X * (labellings[chosen] == k)).sum(axis=1) for k in range(K)], axis=1)
    precision = 1 / BASE + counts[chosen] / VARIANCE
    loc = rng.normal(sums / VARIANCE / precision, precision**-0.5)
    gammas = rng.gamma(counts[chosen] + CONCENTRATION)
    return evidence, {"loc": loc[..., None], "proportions": gammas / gammas.sum(axis=1, keepdims=True)}


@pytest.fixture(scope="module")
def drawn() -> tuple[float, dict[str, np.ndarray]]:
    return exact_draws(np.random.default_rng(0), 4000)


@pytest.mark.parametrize("switching", [True, False], ids=["chains that switch labels", "chains in one labelling"])
def test_evidence_of_an_exchangeable_mixture_is_that_of_all_labellings(
    drawn: tuple[float, dict[str, np.ndarray]], switching: bool
) -> None:
    """Chains that have seen one of the 3! copies, or all of them, tell the same evidence."""
    evidence, sites = drawn
    order = np.argsort(sites["loc"][..., 0], axis=1)
    permutations = order.reshape(2, -1, K)
    if not switching:
        sites = {
            "loc": np.take_along_axis(sites["loc"], order[..., None], axis=1),
            "proportions": np.take_along_axis(sites["proportions"], order, axis=1),
        }
        permutations = np.broadcast_to(np.arange(K), permutations.shape)
    chains = {name: value.reshape(2, -1, *value.shape[1:]) for name, value in sites.items()}
    result = bridge.log_evidence(jax.random.key(1), MODEL, jnp.asarray(X[:, None]), chains, permutations=permutations)
    assert result.se < 0.1
    assert abs(result.log_evidence - evidence) < 4 * result.se  # fails once in 16,000


def test_evidence_given_labels_is_that_of_the_labellings_that_agree_with_them() -> None:
    """One label in each memory numbers them all, and nothing is left to renumber."""
    known = np.array([0, -1, 1, -1, 2, -1, -1, -1])
    evidence, sites = exact_draws(np.random.default_rng(3), 4000, known)
    chains = {name: value.reshape(2, -1, *value.shape[1:]) for name, value in sites.items()}
    model, x = counted(MODEL, jnp.asarray(X[:, None]), None, known)
    result = bridge.log_evidence(jax.random.key(1), model, x, chains)
    assert result.se < 0.1
    assert abs(result.log_evidence - evidence) < 4 * result.se  # fails once in 16,000


def test_one_conjugate_memory_has_its_closed_form_evidence() -> None:
    """Proposal and posterior are both normal: the bridge has next to no error."""
    rng = np.random.default_rng(1)
    model = mixture(
        X[:, None], family=KnownPrecision(VARIANCE, BASE), weights=weight_prior("uniform"), num_components=1
    )
    precision = 1 / BASE + len(X) / VARIANCE
    loc = rng.normal(X.sum() / VARIANCE / precision, precision**-0.5, (2, 1000, 1, 1))
    result = bridge.log_evidence(jax.random.key(2), model, jnp.asarray(X[:, None]), {"loc": loc})
    assert abs(result.log_evidence - log_marginal(X, VARIANCE, BASE)) < 5 * result.se < 0.02


def test_the_relative_error_is_the_spread_of_repeated_bridges() -> None:
    """Bridges between independent draws of N(0, 1) and N(0.5, 1.5^2), both normalised: log ratio of constants is 0."""
    rng = np.random.default_rng(2)

    def log_ratio(z: np.ndarray) -> np.ndarray:
        return -0.5 * z**2 + 0.5 * ((z - 0.5) / 1.5) ** 2 + np.log(1.5)

    result = [
        bridge._bridge(log_ratio(rng.normal(size=(2, 200))), log_ratio(rng.normal(0.5, 1.5, 400))) for _ in range(200)
    ]
    values, errors = np.array([one.log_evidence for one in result]), np.array([one.se for one in result])
    assert abs(values.mean()) < 4 * values.std() / np.sqrt(200)
    np.testing.assert_allclose(errors.mean(), values.std(), rtol=0.25)  # 5 standard errors of a sd from 200


def test_what_bridge_sampling_cannot_do_is_said() -> None:
    many = mixture(X[:, None], family=KnownPrecision(), weights=weight_prior("dirichlet"), num_components=7)
    sites = {"loc": np.zeros((2, 50, 7, 1)), "proportions": np.full((2, 50, 7), 1 / 7)}
    with pytest.raises(InputError, match="at most 6 memories; this model has 7: use engine 'smc'"):
        bridge.log_evidence(jax.random.key(0), many, jnp.asarray(X[:, None]), sites)
    few = {"loc": np.zeros((1, 10, K, 1)), "proportions": np.full((1, 10, K), 1 / K)}
    with pytest.raises(InputError, match="needs 40 draws; got 10"):
        bridge.log_evidence(jax.random.key(0), MODEL, jnp.asarray(X[:, None]), few)
    with pytest.raises(NumericalError, match="found no bridge"):
        bridge._bridge(np.full((2, 50), 5000.0) + np.arange(100.0).reshape(2, 50), np.full(100, -5000.0))
