"""A fit says how its run ended, and what to do where that is not at rest."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import probam

X = np.random.default_rng(3).normal(size=(60, 2)) + np.repeat([[-4.0], [4.0]], 30, axis=0)
TWICE = np.concatenate([X, np.repeat([[9.0, 9.0]], 6, axis=0)])
ML: dict[str, Any] = {"engine": "em", "estimate": "ml", "weights": "dirichlet", "restarts": 4}


def stop(step: probam.Progress) -> None:
    if step.done:
        raise probam.Stop


@pytest.mark.parametrize(
    ("x", "options", "outcome"),
    [
        (X, {"engine": "em", "covariance": "diagonal", "components": 2}, "converged"),
        (X, {"engine": "em", "covariance": "diagonal", "components": 2, "max_iterations": 2}, "max_steps"),
        (X, {"engine": "em", "covariance": "diagonal", "components": 2, "progress": stop}, "stopped"),
        *(
            (TWICE, ML | {"covariance": kind, "components": 3}, "degenerate")
            for kind in ("full", "diagonal", "spherical")
        ),
        *((X, ML | {"covariance": kind, "components": 2}, "converged") for kind in ("full", "tied", "isotropic")),
    ],
)
def test_the_file_and_the_summary_say_it(x: np.ndarray, options: dict[str, Any], outcome: str, tmp_path: Path) -> None:
    fitted = probam.fit(x, **options)
    assert fitted.tree.attrs["outcome"] == outcome
    assert (fitted.tree.attrs["remedy"] == "") is (outcome == "converged")
    assert f", {outcome.replace('_', ' ')}\n" in fitted.summary_text()
    fitted.save(tmp_path / "fit.nc")
    assert probam.load(tmp_path / "fit.nc").tree.attrs["outcome"] == outcome
