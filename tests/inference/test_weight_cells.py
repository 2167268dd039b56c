"""Every weights under every engine, two memories of bits, against all labellings.

With Beta priors the probabilities integrate out and four data have sixteen labellings: evidence and expectations are
finite sums of Beta functions. Samplers must give the expectations within Monte Carlo error, bounds must lie below the
evidence, point engines must end where the log joint is flat.
"""

from collections.abc import Callable
from itertools import product
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from arviz_stats import ess  # type: ignore[attr-defined]
from scipy.special import betaln, logsumexp

from probam.fits.choices import find_engine
from probam.inference.common.coordinates import Coordinates
from probam.models.bernoulli import Bernoulli
from probam.models.mixture import mixture
from probam.models.weights import WEIGHTS, weight_prior

pytestmark = pytest.mark.slow

X = np.array([[1.0, 0.0, 1.0], [1.0, 1.0, 1.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
A, B = 1.3, 0.8  # Beta prior of every probability
ALPHA, DISCOUNT = 1.7, 0.3
GIVEN = (0.3, 0.7)

Beta = tuple[float, float]

OPTIONS: dict[str, dict[str, Any]] = {
    "uniform": {},
    "fixed": {"given": GIVEN},
    "dirichlet": {"alpha": ALPHA},
    "dp": {"alpha": ALPHA},
    "pyp": {"alpha": ALPHA, "discount": DISCOUNT},
}
FIRST: dict[str, Callable[[np.ndarray], tuple[Beta | float, Beta]]] = {
    "uniform": lambda _: (0.5, (1, 1)),
    "fixed": lambda _: (GIVEN[0], (1, 1)),
    "dirichlet": lambda counts: ((ALPHA + counts[0], ALPHA + counts[1]), (ALPHA, ALPHA)),
    "dp": lambda counts: ((1 + counts[0], ALPHA + counts[1]), (1, ALPHA)),
    "pyp": lambda counts: ((1 - DISCOUNT + counts[0], ALPHA + DISCOUNT + counts[1]), (1 - DISCOUNT, ALPHA + DISCOUNT)),
}
"""Weights -> the first memory's weight given the counts: a number, or the Beta law with that before any data."""


class Exact(NamedTuple):
    """Sums over all labellings."""

    log_evidence: float
    squares: float  # of the weights, their sum's expectation
    predictive: float  # probability of a one in the first feature of the next datum


def exact(kind: str) -> Exact:
    logs, squares, ones = [], [], []
    for labels in product((0, 1), repeat=len(X)):
        member = np.eye(2)[list(labels)]
        counts, sums = member.sum(0), member.T @ X
        log = float(np.sum(betaln(A + sums, B + counts[:, None] - sums) - betaln(A, B)))
        law, before = FIRST[kind](counts)
        if isinstance(law, float):
            log += float(counts @ np.log([law, 1 - law]))
            first, second = np.array([law, law**2]), np.array([1 - law, (1 - law) ** 2])
        else:
            log += float(betaln(*law) - betaln(*before))
            a, b = law
            total = a + b
            first = np.array([a / total, a * (a + 1) / (total * (total + 1))])
            second = np.array([b / total, b * (b + 1) / (total * (total + 1))])
        mean = (A + sums[:, 0]) / (A + B + counts)
        logs.append(log)
        squares.append(first[1] + second[1])
        ones.append(first[0] * mean[0] + second[0] * mean[1])
    weights = np.exp(np.array(logs) - logsumexp(logs))
    return Exact(float(logsumexp(logs)), float(weights @ squares), float(weights @ ones))


def run(kind: str, engine: str, **options: Any) -> tuple[Any, Any]:
    law = weight_prior(kind, **OPTIONS[kind])
    prior = {"prob": dist.Beta(A * jnp.ones(3), B * jnp.ones(3)).to_event(1)}
    model = mixture(X, family=Bernoulli(), weights=law, num_components=2, prior=prior)
    return model, find_engine(engine, options)(jax.random.key(5), model, jnp.asarray(X), **options)


def test_no_weights_are_left_out() -> None:
    assert set(OPTIONS) == set(WEIGHTS)


@pytest.mark.parametrize("kind", OPTIONS)
@pytest.mark.parametrize(
    ("engine", "options"),
    [
        ("nuts", {"num_chains": 2, "num_warmup": 500, "num_draws": 4000, "target_accept": 0.9}),
        ("smc", {"num_particles": 1000, "num_chains": 8}),
        ("gibbs", {"num_chains": 2, "num_warmup": 100, "num_draws": 5000}),
        ("gibbs", {"kernel": "collapsed", "num_chains": 2, "num_warmup": 100, "num_draws": 5000}),
        ("gibbs", {"kernel": "auxiliary", "num_chains": 2, "num_warmup": 100, "num_draws": 5000}),
    ],
    ids=["nuts", "smc", "gibbs", "gibbs-collapsed", "gibbs-auxiliary"],
)
def test_samplers_have_the_expectations_of_all_labellings(kind: str, engine: str, options: dict[str, Any]) -> None:
    expected = exact(kind)
    _, result = run(kind, engine, **options)
    weights, prob = result.sites["weights"], result.sites["prob"]
    for drawn, truth in (
        (np.sum(weights**2, axis=-1), expected.squares),
        (np.sum(weights * prob[..., 0], axis=-1), expected.predictive),
    ):
        if engine == "smc":  # offspring of one ancestor are alike: the spread of independent runs
            error = drawn.mean(axis=1).std(ddof=1) / np.sqrt(len(drawn))
        else:
            error = drawn.std() / np.sqrt(float(ess(drawn)))
        assert abs(drawn.mean() - truth) < 5 * error + 1e-9


@pytest.mark.parametrize("kind", OPTIONS)
@pytest.mark.parametrize("engine", ["svi", "cavi"])
def test_bounds_lie_below_the_evidence_and_near_it(kind: str, engine: str) -> None:
    _, result = run(kind, engine, restarts=4)
    bound = float(np.nanmax(result.objective[:, -1]))
    assert exact(kind).log_evidence - 1.5 < bound < exact(kind).log_evidence + (0.1 if engine == "svi" else 1e-9)


@pytest.mark.parametrize("kind", OPTIONS)
@pytest.mark.parametrize(("engine", "flat"), [("em", 1e-4), ("gradient_em", 5e-2)])
def test_point_engines_end_where_the_log_joint_is_flat(kind: str, engine: str, flat: float) -> None:
    model, result = run(kind, engine, restarts=2)
    coordinates = Coordinates(model)
    params = {name: jnp.asarray(result.sites[name][0, 0]) for name in coordinates.transforms}
    slope = jax.grad(lambda free: coordinates.log_joint(free, jnp.asarray(X)))(coordinates.unconstrain(params))
    assert max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(slope)) < flat


@pytest.mark.parametrize("kind", OPTIONS)
def test_the_evidence_of_tempering_is_that_of_all_labellings(kind: str) -> None:
    _, result = run(kind, "smc", num_particles=1000, num_chains=8)
    assert result.evidence is not None
    assert abs(result.evidence.log_evidence - exact(kind).log_evidence) < 5 * result.evidence.se
