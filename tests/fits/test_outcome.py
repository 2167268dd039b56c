"""A fit says how its run ended, and what to do where that is not at rest."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import probam
from probam.cli.main import main

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


def test_the_command_says_it_for_machines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "x.npy", X)
    words = "--engine em --covariance diagonal --components 2 --option max_iterations=2 --json"
    assert main(["fit", str(tmp_path / "x.npy"), "-o", str(tmp_path / "fit.nc"), *words.split()]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["outcome"] == "max_steps"
    assert "max_iterations" in said["remedy"]


def test_where_nothing_finite_is_left_there_is_no_fit(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "engine": "svi",
        "weights": "dirichlet",
        "components": 2,
        "restarts": 1,
        "start": "random",
    }
    with pytest.raises(probam.NumericalError, match="svi: the evidence bound is not finite in any restart; lower the"):
        probam.fit(X, **options, covariance="isotropic", num_steps=50, learning_rate=1e200, output=tmp_path / "fit.nc")
    assert list(tmp_path.iterdir()) == []
