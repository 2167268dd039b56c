"""The number of clusters from the data alone: seconds until a Dirichlet-process mixture has found them.

Ten Gaussian clusters with covariances of their own. A side has found them when its partition has an adjusted Rand index
above .95 and ten clusters hold at least one row in two hundred. Every side may hold twenty and begins as it does by
default: ours at k-means++ seeds, the peers at k-means. It is timed on a run of exactly as many sweeps or passes as it
needs, which is found beforehand; our ``cavi``, which tries several starts and moves, on a whole run. A side that does
not find the clusters is left out, with what it found.
"""

import time
import warnings
from collections.abc import Callable

import numpy as np

from benchmarks.contest import OURS, NotReachedError, Prepare, Task

ROWS, CLUSTERS, TRUNCATION = 10_000, 10, 20
MOST_SWEEPS = 400


def _data(features: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows, and the cluster of each."""
    random = np.random.default_rng(3)
    label = np.repeat(np.arange(CLUSTERS), ROWS // CLUSTERS)
    angle = 2 * np.pi * np.arange(CLUSTERS) / CLUSTERS
    centres = random.normal(0, 3, (CLUSTERS, features))
    centres[:, :2] = 12 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    mixes = np.eye(features) + 0.3 * random.normal(size=(CLUSTERS, features, features))
    x = centres[label] + np.einsum("ni,nij->nj", random.normal(size=(ROWS, features)), mixes[label])
    order = random.permutation(ROWS)
    return x[order], label[order]


def _found(truth: np.ndarray, labels: np.ndarray) -> bool:
    from sklearn.metrics import adjusted_rand_score

    held = np.sum(np.bincount(labels) >= ROWS // 200)
    return bool(held == CLUSTERS and adjusted_rand_score(truth, labels) > 0.95)


def _check(truth: np.ndarray, labels: np.ndarray) -> None:
    from sklearn.metrics import adjusted_rand_score

    if not _found(truth, labels):
        held = int(np.sum(np.bincount(labels) >= ROWS // 200))
        raise NotReachedError(f"{held} clusters, adjusted Rand index {adjusted_rand_score(truth, labels):.3f}")


def _whole(truth: np.ndarray, fit: Callable[[], np.ndarray]) -> Callable[[], float]:
    """Seconds of a run that stops by itself."""
    _check(truth, fit())

    def seconds() -> float:
        start = time.perf_counter()
        fit()
        return time.perf_counter() - start

    return seconds


def _sweeps(truth: np.ndarray, fit: Callable[[int], np.ndarray]) -> Callable[[], float]:
    """Seconds of the shortest run that finds the clusters, to a factor of 1.25."""
    sweeps = 5
    while not _found(truth, labels := fit(sweeps)):
        if sweeps >= MOST_SWEEPS:
            _check(truth, labels)
        sweeps = min(MOST_SWEEPS, max(sweeps + 1, int(1.25 * sweeps)))
    return _whole(truth, lambda: fit(sweeps))


def _ours(features: int, engine: str) -> Prepare:
    def prepare() -> Callable[[], float]:
        import jax
        import jax.numpy as jnp

        jax.config.update("jax_enable_x64", True)
        from probam.inference.cavi import engine as cavi
        from probam.inference.gibbs import engine as gibbs
        from probam.models.gaussian import Gaussian
        from probam.models.mixture import mixture
        from probam.models.weights import StickBreaking

        x, truth = _data(features)
        rows = jnp.asarray((x - x.mean(axis=0)) / x.std(axis=0))
        model = mixture(
            np.asarray(rows), family=Gaussian("full"), weights=StickBreaking(1.0), num_components=TRUNCATION
        )

        def labels_of(sites: dict[str, np.ndarray]) -> np.ndarray:
            last = {name: jnp.asarray(value[0, -1]) for name, value in sites.items()}
            return np.asarray(model.mixture(last).responsibilities(rows).argmax(axis=1))

        if engine == "cavi":
            return _whole(truth, lambda: labels_of(cavi.run(jax.random.key(0), model, rows, num_draws=1).sites))

        def sweep(sweeps: int) -> np.ndarray:
            drawn = gibbs.run(jax.random.key(0), model, rows, num_chains=1, num_warmup=0, num_draws=sweeps)
            return labels_of(drawn.sites)

        return _sweeps(truth, sweep)

    return prepare


def _scikit_learn(features: int) -> Prepare:
    def prepare() -> Callable[[], float]:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import BayesianGaussianMixture

        warnings.simplefilter("ignore", ConvergenceWarning)
        x, truth = _data(features)

        def fit(passes: int) -> np.ndarray:
            model = BayesianGaussianMixture(
                n_components=TRUNCATION, weight_concentration_prior=1.0, tol=0.0, max_iter=passes, random_state=0
            )
            return np.asarray(model.fit(x).predict(x))

        return _sweeps(truth, fit)

    return prepare


def _pyrichlet(features: int) -> Prepare:
    def prepare() -> Callable[[], float]:
        from pyrichlet.mixture_models import DirichletProcessMixture  # type: ignore[import-not-found]

        x, truth = _data(features)

        def sweep(sweeps: int) -> np.ndarray:
            chain = DirichletProcessMixture(alpha=1.0, total_iter=sweeps, burn_in=sweeps - 1, rng=0)
            chain.fit_gibbs(x, init_groups=TRUNCATION)
            return np.asarray(chain.gibbs_map_cluster())

        return _sweeps(truth, sweep)

    return prepare


def _task(name: str, features: int) -> Task:
    sides = {
        OURS: _ours(features, "gibbs"),
        "probam, cavi": _ours(features, "cavi"),
        "scikit-learn": _scikit_learn(features),
        "pyrichlet": _pyrichlet(features),
    }
    note = f"to {CLUSTERS} clusters and an adjusted Rand index above .95; ours by gibbs, and cavi beside the peers"
    return Task(name, f"N={ROWS} D={features} truncation {TRUNCATION} float64", "s", sides, note)


def plane() -> Task:
    """Ten clusters on a plane."""
    return _task("dp-discovery", 2)


def eight_features() -> Task:
    """Ten clusters in eight features."""
    return _task("dp-discovery-8d", 8)
