"""Gibbs sampling of a Dirichlet-process mixture of full Gaussians: seconds a sweep of one chain.

pyrichlet has one sampler (slices, all labels at once, full covariance, Normal-inverse-Wishart base); both of our
kernels are timed against it. Every draw is kept on both sides, as users do: pyrichlet adds each to its N x N matrix of
pairs that share a cluster, which takes most of its time. So its sweeps alone ("nothing kept") have a separate row. The
figures come from two runs that differ only in length: start and compilation cancel.
"""

import time
from collections.abc import Callable
from functools import partial

import numpy as np

from benchmarks.contest import OURS, Task

ROWS, FEATURES, CLUSTERS = 10_000, 8, 10
TRUNCATION = 20


def _data() -> np.ndarray:
    """Ten clusters with covariances of their own, well apart."""
    random = np.random.default_rng(0)
    parts = []
    for centre in random.normal(0, 4, (CLUSTERS, FEATURES)):
        mix = np.eye(FEATURES) + 0.3 * random.normal(size=(FEATURES, FEATURES))
        parts.append(centre + random.normal(size=(ROWS // CLUSTERS, FEATURES)) @ mix)
    return random.permutation(np.concatenate(parts))


def _per_sweep(fit: Callable[[int], object], short: int, long: int) -> Callable[[], float]:
    def seconds(sweeps: int) -> float:
        start = time.perf_counter()
        fit(sweeps)
        return time.perf_counter() - start

    for sweeps in (short, long):
        fit(sweeps)
    return lambda: (seconds(long) - seconds(short)) / (long - short)


def _task(name: str, note: str, long: int, **options: str) -> Task:
    def ours() -> Callable[[], float]:
        import jax

        jax.config.update("jax_enable_x64", True)
        import jax.numpy as jnp

        from probam.inference.gibbs import engine as gibbs
        from probam.models.gaussian import Gaussian
        from probam.models.mixture import mixture
        from probam.models.weights import StickBreaking

        x = _data()
        model = mixture(x, family=Gaussian("full"), weights=StickBreaking(1.0), num_components=TRUNCATION)
        rows = jnp.asarray(x)

        def fit(sweeps: int) -> None:
            gibbs.run(jax.random.key(0), model, rows, num_chains=1, num_warmup=0, num_draws=sweeps, **options)  # type: ignore[arg-type]

        return _per_sweep(fit, 20, long)  # 20 sweeps are one compiled chunk

    def theirs(*, kept: bool) -> Callable[[], float]:
        from pyrichlet.mixture_models import DirichletProcessMixture  # type: ignore[import-not-found]

        x = _data()
        chain = DirichletProcessMixture(alpha=1.0, total_iter=100, burn_in=99, rng=0)  # to where clusters are found
        chain.fit_gibbs(x, init_groups=TRUNCATION)

        def fit(sweeps: int) -> None:  # goes on where it was
            chain.burn_in, chain.total_iter = (1, 1 + sweeps) if kept else (sweeps, sweeps + 1)
            chain.fit_gibbs(x, warm_start=True)

        return _per_sweep(fit, 2, 8) if kept else _per_sweep(fit, 5, 45)

    size = f"N={ROWS} D={FEATURES} truncation {TRUNCATION} float64"
    peers = {"pyrichlet": partial(theirs, kept=True), "pyrichlet, nothing kept": partial(theirs, kept=False)}
    return Task(name, size, "s", {OURS: ours, **peers}, note)


def blocked() -> Task:
    """All labels at once: blocked sweeps against slice sweeps."""
    return _task("gibbs-blocked", "one sweep; theirs is a slice sampler", 100, kernel="blocked")


def collapsed() -> Task:
    """One label at a time, everything integrated out (Normal-Wishart), no truncation."""
    return _task(
        "gibbs-collapsed",
        "one sweep; theirs draws all labels at once",
        60,
        kernel="collapsed",
        base="conjugate",
        partition="exchangeable",
    )
