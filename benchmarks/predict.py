"""Labels and log densities of many rows under a fit: seconds of one question."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.contest import OURS, Task
from benchmarks.em import DEVICES
from benchmarks.floor import FLOOR, matrix_products
from benchmarks.recall import timed

ROWS, FITTED, FEATURES, MEMORIES = 200_000, 20_000, 32, 64


def _data() -> np.ndarray:
    """Data around well-mixed centres."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(MEMORIES, FEATURES)) * 1.5
    x = centres[random.integers(0, MEMORIES, ROWS)] + random.normal(size=(ROWS, FEATURES))
    return x.astype("float32")


def labels_and_density() -> Task:
    """A saved EM fit is opened and asked for all rows; the peer's one E-step gives both answers at once."""

    def ours() -> Callable[[], float]:
        import probam

        x = _data()
        fit = probam.fit(
            x[:FITTED], family="gaussian", covariance="diagonal", weights="dirichlet", components=MEMORIES, engine="em",
            restarts=1, max_iterations=20,
        )  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            fit.save(Path(folder) / "fit.nc")
            opened = probam.load(Path(folder) / "fit.nc")
        return timed(lambda: opened.predict(x, probabilities=False))

    def theirs() -> Callable[[], float]:
        import warnings

        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture

        warnings.simplefilter("ignore", ConvergenceWarning)
        x = _data()
        fitted = GaussianMixture(MEMORIES, covariance_type="diag", max_iter=20, random_state=0).fit(x[:FITTED])

        def answer() -> tuple[np.ndarray, np.ndarray]:
            log_density, log_shares = fitted._estimate_log_prob_resp(x)
            return log_density, np.exp(log_shares).argmax(axis=1)

        return timed(answer)

    size = f"N={ROWS} D={FEATURES} K={MEMORIES} diagonal float32"
    floor = matrix_products(2.0 * ROWS * 2 * FEATURES * MEMORIES, "float32")
    return Task("predict", size, "s", {OURS: ours, "scikit-learn": theirs, FLOOR: floor}, "a question", DEVICES)
