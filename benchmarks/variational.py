"""A Dirichlet-process mixture by coordinate ascent: seconds from a k-means start to a held-out log density.

Both sides have one model (Normal-Wishart memories with full covariances, alpha known) and start from the same k-means
labels, which are not timed. The goal is the best held-out log density of our side, less a thousandth of a nat per
datum; the density is that of the mixture at the means of weights, locations and covariances. Each side is timed on a
run of exactly as many passes as it needs to reach the goal.
"""

import math
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.contest import OURS, Task

ROWS, FEATURES, TRUNCATION = 10_000, 8, 20
HELD_OUT = 5_000
ALPHA = 1.0
WITHIN = 1e-3
LONGEST = 160
"""Passes after which neither side rises noticeably."""


def _data() -> tuple[np.ndarray, np.ndarray]:
    """Twelve clusters of unequal sizes whose covariances differ and overlap a little; rows to fit, rows held out."""
    random = np.random.default_rng(0)
    shares = random.dirichlet(np.full(12, 3.0))
    label = random.choice(12, size=ROWS + HELD_OUT, p=shares)
    centres = random.normal(0, 2.0, (12, FEATURES))
    mixes = np.eye(FEATURES) + 0.4 * random.normal(size=(12, FEATURES, FEATURES))
    noise = random.normal(size=(ROWS + HELD_OUT, FEATURES))
    x = centres[label] + np.einsum("ni,nij->nj", noise, mixes[label])
    return x[:ROWS], x[ROWS:]


def _start(x: np.ndarray) -> np.ndarray:
    from sklearn.cluster import KMeans

    labels = KMeans(TRUNCATION, n_init=1, random_state=0).fit(x).labels_
    sizes = np.bincount(labels, minlength=TRUNCATION)
    return np.eye(TRUNCATION)[np.argsort(np.argsort(-sizes))[labels]]  # large ones first


def _score(x: np.ndarray, weights: np.ndarray, means: np.ndarray, covariances: np.ndarray) -> float:
    """Mean log density in nats."""
    from scipy.special import logsumexp
    from scipy.stats import multivariate_normal

    logs = [multivariate_normal.logpdf(x, mean, cov) for mean, cov in zip(means, covariances, strict=True)]
    return float(np.mean(logsumexp(np.stack(logs, axis=1) + np.log(weights), axis=1)))


def _stick_means(counts: np.ndarray) -> np.ndarray:
    """Mean weights of truncated sticks."""
    behind = counts.sum() - np.cumsum(counts)
    taken = (1 + counts) / (1 + counts + ALPHA + behind)
    taken[-1] = 1
    return taken * np.concatenate([[1], np.cumprod(1 - taken[:-1])])


def _model(x: np.ndarray) -> Any:
    from probam.models.gaussian import Gaussian
    from probam.models.mixture import mixture
    from probam.models.weights import StickBreaking

    return mixture(x, family=Gaussian("full"), weights=StickBreaking(ALPHA), num_components=TRUNCATION)


Fit = Callable[[int], Callable[[np.ndarray], float]]
"""Passes -> a fit that can score rows."""


def _ours(x: np.ndarray, start: np.ndarray) -> Fit:
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    from probam.inference.cavi.engine import Search, fit_factors

    model, rows, labels = _model(x), jnp.asarray(x), jnp.asarray(start)
    pair = model.family.conjugate_base(model.prior)
    loc, freedom = np.asarray(pair.loc), float(pair.freedom)
    posterior = jax.jit(pair._posterior)

    def fit(passes: int) -> Callable[[np.ndarray], float]:
        _, state, _, _ = fit_factors(
            jax.random.key(0),
            model,
            rows,
            Search(base="conjugate", max_iterations=passes, tolerance=-math.inf, moves=False),
            start=labels,
        )
        jax.block_until_ready(state)

        def score(held_out: np.ndarray) -> float:
            counts, _ = (np.asarray(leaf) for leaf in state.factors.own)
            mean, rate = (np.asarray(leaf) for leaf in posterior(*state.factors.own))
            return _score(held_out, _stick_means(counts), loc + mean, rate / (freedom + counts)[:, None, None])

        return score

    return fit


def _theirs(x: np.ndarray, start: np.ndarray) -> Fit:
    import jax

    jax.config.update("jax_enable_x64", True)
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import BayesianGaussianMixture
    from typing_extensions import override

    warnings.simplefilter("ignore", ConvergenceWarning)
    model = _model(x)
    pair = model.family.conjugate_base(model.prior)
    prior = {
        "mean_precision_prior": float(pair.relative),
        "mean_prior": np.asarray(pair.loc),
        "degrees_of_freedom_prior": float(pair.freedom),
        "covariance_prior": np.asarray(pair.rate),
    }

    class FromGiven(BayesianGaussianMixture):  # type: ignore[misc]
        @override
        def _initialize_parameters(self, X: np.ndarray, random_state: object, xp: object = None) -> None:
            self._initialize(X, start)

    def fit(passes: int) -> Callable[[np.ndarray], float]:
        fitted = FromGiven(
            n_components=TRUNCATION,
            weight_concentration_prior_type="dirichlet_process",
            weight_concentration_prior=ALPHA,
            reg_covar=0.0,
            tol=0.0,
            max_iter=passes,
            **prior,
        ).fit(x)
        return lambda held_out: _score(held_out, fitted.weights_, fitted.means_, fitted.covariances_)

    return fit


def _needed(fit: Fit, held_out: np.ndarray, goal: float) -> int:
    """Fewest passes that reach the goal, by bisection: held-out densities rise monotonically here."""
    low, high = 0, LONGEST
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fit(middle)(held_out) >= goal else (middle, high)
    return high


def _side(make: Callable[[np.ndarray, np.ndarray], Fit]) -> Callable[[], Callable[[], float]]:
    def prepare() -> Callable[[], float]:
        x, held_out = _data()
        start = _start(x)
        fit = make(x, start)
        goal = _ours(x, start)(LONGEST)(held_out) - WITHIN
        passes = _needed(fit, held_out, goal)
        if passes == LONGEST and fit(passes)(held_out) < goal:
            raise RuntimeError(f"the goal was not reached in {LONGEST} passes")

        def seconds() -> float:
            begin = time.perf_counter()
            fit(passes)
            return time.perf_counter() - begin

        return seconds

    return prepare


def dirichlet_process() -> Task:
    """Full covariances on both sides, in double precision."""
    return Task(
        "dp-vi",
        f"N={ROWS} D={FEATURES} truncation {TRUNCATION} float64",
        "s",
        {OURS: _side(_ours), "scikit-learn": _side(_theirs)},
        f"to {WITHIN} nats per datum below the best held-out log density, from the same k-means labels",
    )
