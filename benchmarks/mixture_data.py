"""Data of the mixture tasks: two Gaussians on a line (posteriordb's where it is at hand), four on a plane."""

import json
import zipfile
from pathlib import Path

import numpy as np

__all__ = ["four_clusters", "two_gaussians"]

_ARCHIVE = (
    Path(__file__).resolve().parents[2] / "shared" / "data" / "pdb_low_dim_gauss_mix" / "low_dim_gauss_mix.json.zip"
)


def two_gaussians() -> tuple[np.ndarray, str]:
    """(1000, 1) data of posteriordb's ``low_dim_gauss_mix``, and their origin.

    Without the archive: a draw from the model at the means of posteriordb's reference draws.
    """
    if _ARCHIVE.exists():
        with zipfile.ZipFile(_ARCHIVE) as archive:
            y = np.asarray(json.loads(archive.read("low_dim_gauss_mix.json"))["y"])
        return y[:, None], "posteriordb low_dim_gauss_mix"
    random = np.random.default_rng(0)
    first = random.random(1000) < 0.6215
    y = np.where(first, random.normal(-2.7335, 1.0281, 1000), random.normal(2.8698, 1.0238, 1000))
    return y[:, None], "simulated at the reference means of posteriordb low_dim_gauss_mix"


def four_clusters() -> np.ndarray:
    """(2000, 2) data around four centres, with different scales and sizes."""
    random = np.random.default_rng(1)
    centres = np.array([[-3.0, -2.0], [-1.0, 3.0], [3.0, 1.0], [2.0, -3.0]])
    scales = np.array([[0.8, 1.2], [1.0, 0.7], [0.6, 0.9], [1.1, 1.0]])
    label = random.choice(4, 2000, p=[0.15, 0.25, 0.35, 0.25])
    return random.normal(centres[label], scales[label])
