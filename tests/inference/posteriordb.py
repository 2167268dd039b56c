"""posteriordb's low_dim_gauss_mix: the model in our words, and its reference draws.

Stan's model: mu ~ N(0, 2) ordered, sigma ~ half-N(0, 2), theta ~ Beta(5, 5), 1000 data. The ordering only names the
memories; theta's Beta(5, 5) is a Dirichlet of concentration 5.
"""

import json
import zipfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from arviz_stats import ess, rhat  # type: ignore[attr-defined]

from probam.models.gaussian import Gaussian
from probam.models.mixture import Mixture, mixture
from probam.models.weights import weight_prior

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


def gauss_mix() -> tuple[Mixture, np.ndarray]:
    """The model, and the data (N, 1)."""
    archive = zipfile.ZipFile(SHARED / "pdb_low_dim_gauss_mix" / "low_dim_gauss_mix.json.zip")
    y = np.asarray(json.loads(archive.read("low_dim_gauss_mix.json"))["y"])[:, None]
    model = mixture(
        y,
        family=Gaussian("lkj"),
        weights=weight_prior("dirichlet", alpha=5.0),
        num_components=2,
        prior={
            "loc": dist.Normal(jnp.zeros(1), 2.0).to_event(1),
            "scale": dist.HalfNormal(2.0 * jnp.ones(1)).to_event(1),
        },
    )
    return model, y


def agree(loc: np.ndarray, scale: np.ndarray, theta: np.ndarray) -> None:
    """Means and standard deviations of the reference draws, within Monte Carlo error; draws (C, S, 2) and (C, S)."""
    reference = {
        "mu1": (loc[..., 0], -2.73351, 0.04204),
        "mu2": (loc[..., 1], 2.86983, 0.0546),
        "sigma1": (scale[..., 0], 1.02807, 0.03144),
        "sigma2": (scale[..., 1], 1.02382, 0.04048),
        "theta": (theta, 0.621549, 0.01548),
    }
    for name, (draws, mean, sd) in reference.items():
        assert rhat(draws) < 1.01, name
        size = float(ess(draws))
        assert abs(draws.mean() - mean) < 5 * sd * (1 / size + 1 / 10_000) ** 0.5, name
        assert abs(draws.std() / sd - 1) < 5 / np.sqrt(size), name  # sd of a sample sd: sd / sqrt(2 ess)
