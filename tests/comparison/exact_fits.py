"""Fits of one memory whose posterior is known exactly, in data units that differ from the model's."""

import numpy as np
from scipy import stats

from probam.fits.fitted import Fit
from probam.models.mixture import mixture
from probam.models.weights import weight_prior
from probam.reports.tree import build_tree
from tests.models.known_precision import KnownPrecision

SCALE, CENTER = 2.0, 1.0
RNG = np.random.default_rng(0)
X = RNG.normal(1.5, 2.0, 30)
HELD = RNG.normal(1.5, 2.0, 40)


def one_memory(
    variance: float, base: float, *, seed: int = 0, engine: str = "nuts", stored: float | None = None
) -> Fit:
    """A fit of one memory of known variance whose draws are exact; data in other units than the model."""
    z = (X - CENTER) / SCALE
    precision = 1 / base + len(z) / variance
    mean = z.sum() / variance / precision
    shape = (2, 500) if engine == "nuts" else (1, 1)
    loc = np.random.default_rng(seed).normal(mean, precision**-0.5, shape) if engine == "nuts" else np.full(shape, mean)
    model = mixture(
        z[:, None],
        family=KnownPrecision(variance, base),
        weights=weight_prior("uniform"),
        num_components=1,
    )
    log_lik = np.asarray(stats.norm.logpdf(z, loc[..., None], variance**0.5))
    lp = stats.norm.logpdf(loc, 0, base**0.5) + log_lik.sum(axis=-1)
    tree = build_tree(
        attributes={
            "probam_version": "0",
            "engine": engine,
            "engine_options": {"estimate": "ml"} if engine == "em" else {},
            "weights": "uniform",
            "seconds": 2.0,
            "dtype": "float64",
            "model": "one memory",
        },
        data=X[:, None],
        columns=["x"],
        center=np.array([CENTER]),
        scale=np.array([SCALE]),
        posterior={
            "loc": (loc[..., None, None], ("chain", "draw", "memory", "feature")),
            "weights": (np.ones((*shape, 1)), ("chain", "draw", "memory")),
        },
        sample_stats={"lp": (lp, ("chain", "draw"))},
        invariant={
            "num_occupied": (np.ones(shape), ("chain", "draw")),
            "log_lik": (log_lik.sum(-1), ("chain", "draw")),
        },
        log_likelihood={"x": (log_lik - np.log(SCALE), ("chain", "draw", "datum"))},
        memory={"permutation": (np.zeros((loc.size, 1), np.int32), ("sample", "memory"))},
        partition={"label": (np.zeros(len(X), int), ("datum",)), "confidence": (np.ones(len(X)), ("datum",))},
        group_attributes={"memory": {"reference": 0}},
    )
    if stored is not None:
        tree["evidence/log_evidence"] = ("run", np.full(2, stored))
        tree["evidence"].attrs.update(log_evidence=stored, se=0.1, method="stored")
    return Fit(tree, model)


def predictive(variance: float, base: float, data: np.ndarray) -> np.ndarray:
    """Exact log predictive density, data units."""
    z = (X - CENTER) / SCALE
    precision = 1 / base + len(z) / variance
    spread = np.sqrt(1 / precision + variance)
    return np.asarray(
        stats.norm.logpdf((data - CENTER) / SCALE, z.sum() / variance / precision, spread) - np.log(SCALE)
    )
