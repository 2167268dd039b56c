"""Lesson 4: a family of your own, in one file.

The largest flood of a year has a Gumbel distribution: a steep left side and a long right tail. probam has no such
family, so we write one: the density of the memories and a prior of their parameters. That is enough for gradient EM,
SVI, NUTS, all weights, recall, verification and reports.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import jax

jax.config.update("jax_enable_x64", True)  # double precision; set it before the first array

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from numpyro.distributions import Distribution

import probam
from probam.family import Family


@dataclass(frozen=True)
class Gumbel(Family):
    """Independent Gumbel features, the distribution of the largest of many."""

    name: ClassVar[str] = "gumbel"

    def prior(self, x: np.ndarray) -> dict[str, Distribution]:
        """The prior of one memory: within the range of the data, about a quarter of their spread wide."""
        spread = jnp.asarray(x.std(axis=0))
        return {
            "loc": dist.Normal(jnp.asarray(x.mean(axis=0)), 2 * spread).to_event(1),
            "scale": dist.LogNormal(jnp.log(spread / 4), 0.5).to_event(1),
        }

    def bank(self, params: Mapping[str, jax.Array]) -> Distribution:
        """The K memories: the first axis of each parameter is K, the last one the features."""
        return dist.Gumbel(params["loc"], params["scale"]).to_event(1)


# Floods at two gauges of a river, in dry and in wet years.
rng = np.random.default_rng(0)
loc, scale = np.array([[3.0, 4.0], [9.0, 12.0]]), np.array([[0.6, 0.8], [1.2, 1.5]])
is_wet = (rng.random(500) < 0.4).astype(int)
floods = rng.gumbel(loc[is_wet], scale[is_wet])
seen, unseen = floods[:350], floods[350:]

options = {"weights": "dirichlet", "components": 2, "seed": 0}
fitted = probam.fit(seen, family=Gumbel(), engine="gradient_em", **options)
print(fitted.summary_text(), "\n")
locations = fitted.memories().sort_values("x0")[["x0", "x1"]].values
print("locations:", locations.round(2).tolist(), "true:", loc.tolist())
np.testing.assert_allclose(locations, loc, atol=0.35)

# Does the right family help? Compare it with Gaussian memories on data that neither has seen (nats per datum).
gaussian = probam.fit(seen, covariance="diagonal", engine="em", **options)
gain = fitted.log_prob(unseen) - gaussian.log_prob(unseen)
print(f"gain over Gaussian memories: {gain.mean():.3f} +- {gain.std() / len(gain) ** 0.5:.3f} nats a year")
assert gain.mean() > 2 * gain.std() / len(gain) ** 0.5

# Recall works, too: it descends on the negative log density of the mixture, to a mode.
recalled = fitted.recall([[2.5, 5.0], [10.0, 10.0]])
print("recalled:", recalled["state"].values.round(2).tolist())
np.testing.assert_allclose(recalled["state"], locations, atol=0.01)  # a Gumbel density peaks at its location

# So does verification: the fast density against NumPyro's, and the gradient against finite differences.
assert all(check.passed for check in fitted.verify())

# Next steps: with the decorator `probam.family.register`, `--family floods.py:Gumbel` works on the command line. Two
# more methods, `statistics` and `maximize`, give closed-form EM; see tests/models/known_precision.py.
