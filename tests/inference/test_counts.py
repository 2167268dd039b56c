"""Counts of restarts, iterations, chains and draws: each engine refuses a number that would leave nothing to do."""

from typing import Any

import numpy as np
import pytest

import probam.fits.fit as api
from probam.errors import InputError

X = np.random.default_rng(0).normal(size=(12, 2))


@pytest.mark.parametrize(
    ("engine", "option"),
    [
        *[("em", option) for option in ("restarts", "max_iterations")],
        *[("gradient_em", option) for option in ("restarts", "max_iterations", "inner_steps")],
        *[("clam", option) for option in ("restarts", "num_steps", "num_epochs", "batch_size")],
        *[("svi", option) for option in ("restarts", "num_steps", "num_draws", "batch_size")],
        *[("cavi", option) for option in ("restarts", "max_iterations", "num_draws", "batch_size")],
        *[("nuts", option) for option in ("num_chains", "num_draws", "num_warmup")],
        *[("gibbs", option) for option in ("num_chains", "num_draws")],
        *[("smc", option) for option in ("num_chains", "num_particles")],
    ],
)
def test_a_count_of_zero_is_refused_by_name(engine: str, option: str) -> None:
    options: dict[str, Any] = {"covariance": "isotropic", "weights": "uniform", "components": 2, option: 0}
    with pytest.raises(InputError, match=rf"^{option}: expected .*; got 0"):
        api.fit(X, engine=engine, **options)
