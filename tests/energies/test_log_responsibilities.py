"""Logs of responsibilities: finite where the responsibilities underflow, for every energy that has them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.special import logsumexp

from probam.energies import (
    clam,
    composition,
    continuous_hopfield,
    counts,
    generalized_normal,
    hypercube,
    laplace,
    quadratic,
    spherical,
    student_t,
)

RNG = np.random.default_rng(0)
WIDE = 300.0 * RNG.normal(size=(4, 3))
UNIT = WIDE / np.linalg.norm(WIDE, axis=-1, keepdims=True)
WEIGHTS = np.array([0.1, 0.4, 0.3, 0.2])
SPREAD = RNG.uniform(0.5, 2, (4, 3))
MATRICES = np.einsum("ki,kj->kij", SPREAD, SPREAD) + np.eye(3)

CASES: dict[str, tuple[Callable[..., Any], Callable[..., Any], np.ndarray, tuple[Any, ...]]] = {
    "clam": (clam.responsibilities, clam.log_responsibilities, WIDE, (WIDE, 1.3, WEIGHTS)),
    "one stiffness each": (
        quadratic.responsibilities,
        quadratic.log_responsibilities,
        WIDE,
        (WIDE, SPREAD[:, 0], WEIGHTS),
    ),
    "diagonal": (quadratic.responsibilities, quadratic.log_responsibilities, WIDE, (WIDE, SPREAD, WEIGHTS)),
    "full": (quadratic.responsibilities, quadratic.log_responsibilities, WIDE, (WIDE, MATRICES, WEIGHTS)),
    "laplace": (laplace.responsibilities, laplace.log_responsibilities, 10 * WIDE, (WIDE, 5 * SPREAD, WEIGHTS)),
    "power": (
        generalized_normal.responsibilities,
        generalized_normal.log_responsibilities,
        WIDE,
        (WIDE, SPREAD, 1.5, WEIGHTS),
    ),
    "radial": (
        generalized_normal.radial_responsibilities,
        generalized_normal.radial_log_responsibilities,
        WIDE,
        (WIDE, 20.0, 1.0, WEIGHTS),
    ),
    "student_t": (
        student_t.responsibilities,
        student_t.log_responsibilities,
        WIDE,
        (WIDE, SPREAD, np.full(4, 300.0), WEIGHTS),
    ),
    "spherical": (
        spherical.responsibilities,
        spherical.log_responsibilities,
        UNIT,
        (UNIT, np.array([1e4, 2e4, 3e4, 1.0]), WEIGHTS),
    ),
    "hopfield": (continuous_hopfield.responsibilities, continuous_hopfield.log_responsibilities, WIDE, (WIDE, 0.3)),
    "cosine": (
        continuous_hopfield.cosine_responsibilities,
        continuous_hopfield.cosine_log_responsibilities,
        WIDE,
        (WIDE, 5e3),
    ),
    "bits": (hypercube.responsibilities, hypercube.log_responsibilities, UNIT, (10 * WIDE, WEIGHTS)),
    "counts": (counts.responsibilities, counts.log_responsibilities, np.abs(WIDE), (9 * SPREAD, WEIGHTS)),
    "composition": (
        composition.responsibilities,
        composition.log_responsibilities,
        UNIT**2,
        (1e4 * SPREAD, WEIGHTS),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_logs_of_responsibilities_sum_to_one_and_are_finite_where_these_underflow(name: str) -> None:
    responsibilities, log_responsibilities, queries, arguments = CASES[name]
    logs = np.asarray(log_responsibilities(queries, *arguments))
    assert np.isfinite(logs).all()
    assert logs.min() < -800  # below the log of the smallest number
    np.testing.assert_allclose(logsumexp(logs, axis=-1), 0, atol=1e-14)
    np.testing.assert_allclose(np.exp(logs), responsibilities(queries, *arguments), rtol=1e-9, atol=1e-300)
