"""Closed-form EM: seconds an iteration, from fits of two lengths that differ in nothing else."""

import math
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.contest import OURS, Prepare, Task
from benchmarks.floor import FLOOR, matrix_products

SHORT = 2
LONG = {"em-isotropic": 12, "em-diagonal": 12, "em-full": 52, "em-full-large": 4, "em-vmf": 52, "pycave": 5}
"""Iterations of the two fits; the longer one is long enough that starting it does not show."""

DEVICES = {OURS: {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}}


def _per_iteration(fit: Callable[[int], Any], task: str) -> Callable[[], float]:
    """Seconds of one iteration; the first call compiles and warms up."""
    long = LONG[task]

    def seconds(steps: int) -> float:
        start = time.perf_counter()
        fit(steps)
        return time.perf_counter() - start

    for steps in (SHORT, long):
        fit(steps)
    return lambda: (seconds(long) - seconds(SHORT)) / (long - SHORT)


def _our_fit(model: Any, x: np.ndarray, params: dict[str, np.ndarray]) -> Callable[[int], None]:
    """Maximum likelihood from given parameters, for exactly so many iterations."""
    import jax
    import jax.numpy as jnp

    from probam.inference.em.engine import fit_params

    data = jnp.asarray(x)

    def fit(steps: int) -> None:
        state, _ = fit_params(
            jax.random.key(0), model, data, max_iterations=steps, tolerance=-math.inf, start=params, estimate="ml"
        ).ends
        jax.block_until_ready(state)

    return fit


def _bank(rows: int, features: int, memories: int, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Data around well-mixed centres, and other points of the same cloud to start from."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(memories, features)) * 1.5
    x = centres[random.integers(0, memories, rows)] + random.normal(size=(rows, features))
    return x.astype(dtype), x[random.choice(rows, memories, replace=False)].astype(dtype)


def _gaussian(name: str, covariance: str, rows: int, features: int, memories: int, dtype: str) -> Task:
    def ours() -> Callable[[], float]:
        import jax

        jax.config.update("jax_enable_x64", dtype == "float64")

        from probam.models.gaussian import Gaussian
        from probam.models.mixture import mixture
        from probam.models.weights import Dirichlet

        x, start = _bank(rows, features, memories, dtype)
        model = mixture(x, family=Gaussian(covariance), weights=Dirichlet(), num_components=memories)
        params = {"loc": start, "proportions": np.full(memories, 1 / memories, dtype)} | _precision(covariance, start)
        return _per_iteration(_our_fit(model, x, params), name)

    def theirs() -> Callable[[], float]:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture

        warnings.simplefilter("ignore", ConvergenceWarning)
        x, start = _bank(rows, features, memories, dtype)
        kind = {"isotropic": "spherical", "diagonal": "diag", "full": "full"}[covariance]
        shape = {"isotropic": (memories,), "diagonal": (memories, features), "full": (memories, features, features)}
        precision = np.ones(shape[covariance], dtype)
        if covariance == "full":
            precision = np.broadcast_to(np.eye(features, dtype=dtype), shape["full"]).copy()

        def fit(steps: int) -> None:
            GaussianMixture(
                memories,
                covariance_type=kind,
                tol=0.0,
                max_iter=steps,
                init_params="random_from_data",
                weights_init=np.full(memories, 1 / memories, dtype),
                means_init=start,
                precisions_init=precision,
                random_state=0,
            ).fit(x)

        return _per_iteration(fit, name)

    statistics = {"isotropic": features, "diagonal": 2 * features, "full": features * (features + 3) // 2}[covariance]
    floor = _two_products(rows, statistics, memories, dtype)
    size = f"N={rows} D={features} K={memories} {dtype}"
    sides = {OURS: ours, "scikit-learn": theirs, FLOOR: floor}
    return Task(name, size, "s", sides, "one iteration", DEVICES)


def _two_products(rows: int, statistics: int, memories: int, dtype: str) -> Prepare:
    """An iteration at the least: log densities, and sums of the statistics by responsibility."""
    return matrix_products(2 * 2.0 * rows * statistics * memories, dtype)


def _precision(covariance: str, start: np.ndarray) -> dict[str, np.ndarray]:
    memories, features = start.shape
    if covariance == "isotropic":
        return {"beta": np.asarray(0.5, start.dtype)}
    if covariance == "diagonal":
        return {"precision": np.ones((memories, features), start.dtype)}
    return {"precision_cholesky": np.broadcast_to(np.eye(features, dtype=start.dtype), (memories, features, features))}


def isotropic() -> Task:
    """One variance a memory on their side, one for all on ours: the same products and sums."""
    return _gaussian("em-isotropic", "isotropic", 200_000, 32, 64, "float32")


def diagonal() -> Task:
    """A variance for each memory and feature."""
    return _gaussian("em-diagonal", "diagonal", 200_000, 32, 64, "float32")


def full() -> Task:
    """Full covariance in double precision."""
    return _gaussian("em-full", "full", 20_000, 8, 10, "float64")


def large_full() -> Task:
    """Full covariance in double precision, of data that fill no cache."""
    return _gaussian("em-full-large", "full", 200_000, 32, 64, "float64")


def pycave() -> Task:
    """The largest row of PyCave's own table, which has 100 iterations of it in 196 s on four cores."""
    return _gaussian("pycave", "diagonal", 1_000_000, 64, 64, "float32")


def von_mises_fisher() -> Task:
    """Directions; the peer is a plain vectorised NumPy program (no maintained package exists)."""
    rows, features, memories = 50_000, 128, 32

    def data() -> tuple[np.ndarray, np.ndarray]:
        x, start = _bank(rows, features, memories, "float32")
        return tuple(a / np.linalg.norm(a, axis=1, keepdims=True) for a in (x, start))  # type: ignore[return-value]

    def ours() -> Callable[[], float]:
        from probam.models.mixture import mixture
        from probam.models.von_mises_fisher import VonMisesFisherMemory
        from probam.models.weights import Dirichlet

        x, start = data()
        model = mixture(x, family=VonMisesFisherMemory(), weights=Dirichlet(), num_components=memories)
        params = {
            "direction": start,
            "concentration": np.full(memories, 50.0, "float32"),
            "proportions": np.full(memories, 1 / memories, "float32"),
        }
        return _per_iteration(_our_fit(model, x, params), "em-vmf")

    def theirs() -> Callable[[], float]:
        from scipy.special import ive, logsumexp

        x, start = data()
        order = features / 2 - 1

        def fit(steps: int) -> None:
            mean, kappa = start, np.full(memories, 50.0, "float32")
            log_weights = np.full(memories, -np.log(memories), "float32")
            for _ in range(steps):
                log_bessel = np.log(ive(order, kappa)) + kappa
                constant = order * np.log(kappa) - features / 2 * np.log(2 * np.pi) - log_bessel
                logits = (x @ (mean * kappa[:, None]).T + (constant + log_weights).astype("float32")).astype("float32")
                shares = np.exp(logits - logsumexp(logits, axis=1, keepdims=True))
                counts, sums = shares.sum(axis=0), shares.T @ x
                length = np.linalg.norm(sums, axis=1)
                mean, resultant = sums / length[:, None], length / counts
                kappa = resultant * (features - resultant**2) / (1 - resultant**2)  # Banerjee et al. (2005)
                log_weights = np.log(counts / rows)

        return _per_iteration(fit, "em-vmf")

    size = f"N={rows} D={features} K={memories} float32"
    floor = _two_products(rows, features, memories, "float32")
    return Task("em-vmf", size, "s", {OURS: ours, "numpy": theirs, FLOOR: floor}, "one iteration", DEVICES)
